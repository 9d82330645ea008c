//! The files of `contrib`, as far as they can be run without a service manager, cron or a container: systemd's own tools check the
//! units, and the commands of all files are run as they stand there, with paths of a temporary folder.
#![allow(clippy::print_stdout, reason = "a test says what it does not run")]

use std::{
    collections::BTreeMap,
    fs,
    os::unix::{fs::PermissionsExt as _, net::UnixDatagram},
    path::{Path, PathBuf},
    process::{Child, Command, Output, Stdio},
};

use serde_json::Value;
use tempfile::TempDir;

use crate::{
    command::{LIMIT, PROGRAM, tuyagw},
    generated::root,
    process::{missing, signal},
    site::{Site, json_lines, until},
};

const SERVICE: &str = "contrib/systemd/tuyagw-agent@.service";

/// Whether this machine has a program.
fn has(program: &str) -> bool {
    let is_there = Command::new(program).arg("--version").output().is_ok();
    if !is_there {
        missing(program);
    }
    is_there
}

/// Whether the program has the subcommand `agent`.
fn has_agent() -> bool {
    let is_there = tuyagw().args(["agent", "--help"]).output().unwrap().status.success();
    if !is_there {
        println!("skipped: the program has no subcommand agent");
    }
    is_there
}

fn text(path: &str) -> String {
    fs::read_to_string(root().join(path)).unwrap()
}

fn said(output: &Output) -> String {
    String::from_utf8_lossy(&output.stdout).into_owned() + &String::from_utf8_lossy(&output.stderr)
}

/// The units in a folder of their own, with this program in place of the installed one.
fn units() -> TempDir {
    let folder = tempfile::tempdir().unwrap();
    for name in ["tuyagw-agent@.service", "tuyagw-agent@.socket"] {
        let mut unit = text(&format!("contrib/systemd/{name}")).replace("/usr/bin/tuyagw", PROGRAM);
        if !Path::new("/bin/kill").exists() {
            unit = unit.replace("/bin/kill", "/bin/sh");
        }
        fs::write(folder.path().join(name), unit).unwrap();
    }
    folder
}

fn verify(units: &TempDir) -> Output {
    let at = |name: &str| units.path().join(name);
    let mut command = Command::new("systemd-analyze");
    command.args(["verify", "--man=no"]).args([at("tuyagw-agent@.service"), at("tuyagw-agent@.socket")]);
    command.output().unwrap()
}

#[test]
fn systemd_takes_the_units_as_they_are() {
    if !has("systemd-analyze") {
        return;
    }
    let units = units();
    let verified = verify(&units);
    assert!(verified.status.success() && said(&verified).is_empty(), "{}", said(&verified));
    let drop_in = units.path().join("tuyagw-agent@.service.d");
    fs::create_dir(&drop_in).unwrap();
    let password = drop_in.join("password.conf");
    fs::write(&password, text("contrib/systemd/tuyagw-agent@.service.d/password.conf")).unwrap();
    let verified = verify(&units);
    assert!(verified.status.success() && said(&verified).is_empty(), "{}", said(&verified));
    // A mistake is found, in the drop-in too.
    fs::write(&password, "[Service]\nLoadCredentials=password:/x\n").unwrap();
    assert!(said(&verify(&units)).contains("LoadCredentials"), "{}", said(&verify(&units)));
}

#[test]
fn the_service_s_exposure_is_below_two_of_ten() {
    if !has("systemd-analyze") {
        return;
    }
    let units = units();
    let rate = |threshold: &str| {
        let mut command = Command::new("systemd-analyze");
        command.args(["security", "--offline=true", "--no-pager", threshold]);
        command.arg(units.path().join("tuyagw-agent@.service")).output().unwrap()
    };
    let rated = rate("--threshold=19");
    assert!(rated.status.success(), "{}", said(&rated));
    assert!(!rate("--threshold=0").status.success());
}

/// The tools write below another root, and look users up there.
#[test]
fn the_user_and_the_folder_of_the_sockets_are_made() {
    if !has("systemd-sysusers") || !has("systemd-tmpfiles") {
        return;
    }
    if !rustix::process::geteuid().is_root() {
        println!("skipped: only root makes users and folders of others");
        return;
    }
    let folder = tempfile::tempdir().unwrap();
    fs::create_dir(folder.path().join("etc")).unwrap();
    let run_below = |tool: &str, args: &[&str], file: &str| {
        let mut command = Command::new(tool);
        command.arg(format!("--root={}", folder.path().display())).args(args);
        let output = command.arg(root().join("contrib/systemd").join(file)).output().unwrap();
        assert!(output.status.success(), "{tool}: {}", said(&output));
    };
    run_below("systemd-sysusers", &[], "tuyagw.sysusers");
    let users = fs::read_to_string(folder.path().join("etc/passwd")).unwrap();
    let user: Vec<_> = users.lines().find(|line| line.starts_with("tuyagw:")).unwrap().split(':').collect();
    assert!(user[5] == "/var/lib/tuyagw" && user[6].ends_with("nologin"), "{user:?}");
    run_below("systemd-tmpfiles", &["--create"], "tuyagw.tmpfiles");
    let made = fs::metadata(folder.path().join("run/tuyagw")).unwrap();
    assert_eq!(made.permissions().mode() & 0o777, 0o750);
    assert_eq!(std::os::unix::fs::MetadataExt::uid(&made).to_string(), user[2]);
}

#[test]
fn the_page_names_every_file() {
    let page = text("docs/service.md");
    let mut folders = vec![root().join("contrib")];
    while let Some(folder) = folders.pop() {
        for entry in fs::read_dir(folder).unwrap() {
            let path = entry.unwrap().path();
            if path.is_dir() {
                folders.push(path);
            } else {
                let name = path.strip_prefix(root()).unwrap().display().to_string();
                assert!(page.contains(&name), "docs/service.md does not name {name}");
            }
        }
    }
}

/// A machine with a profile `plant` in its system-wide file, and an edge that knows meter m1.
struct Machine {
    site: Site,
    agent: Option<Child>,
}

impl Machine {
    fn start() -> Self {
        let site = Site::start(&[]);
        site.sync(1);
        let profile = format!(
            "[profile.plant]\nbroker = \"{}\"\ngateway-id = \"gw1\"\nusername = \"acme\"\n",
            site.broker()
        );
        site.write("config.toml", profile);
        for folder in ["run", "home", "state/plant"] {
            fs::create_dir_all(site.path(folder)).unwrap();
        }
        fs::set_permissions(site.path("run"), fs::Permissions::from_mode(0o700)).unwrap();
        Self { site, agent: None }
    }

    /// The text of a file of `contrib` with this machine's paths.
    fn localized(&self, text: &str) -> String {
        let state = self.site.name("state");
        text.replace("/var/lib/tuyagw", &state).replace("%S/tuyagw", &state).replace("%i", "plant")
    }

    /// A program in the environment of a service or a cron job: nothing but what is given. This `tuyagw` is the first on PATH.
    fn command(&self, program: impl AsRef<std::ffi::OsStr>, variables: &BTreeMap<String, String>) -> Command {
        let folder = Path::new(PROGRAM).parent().unwrap().display();
        let path = variables.get("PATH").map_or("/usr/bin:/bin", String::as_str);
        let mut command = Command::new(program);
        command
            .env_clear()
            .envs(variables)
            .env("PATH", format!("{folder}:{path}"))
            .env("HOME", self.site.path("home"))
            .env("XDG_RUNTIME_DIR", self.site.path("run"))
            .env("TUYAGW_SYSTEM_CONFIG", self.site.path("config.toml"))
            .current_dir(self.site.path("home"))
            .stdin(Stdio::null());
        command
    }

    /// Starts the agent with the words of a command line, and waits until it has a connection.
    fn start_agent(&mut self, words: &[String], variables: &BTreeMap<String, String>) {
        let stderr = fs::File::create(self.site.path("agent.err")).unwrap();
        let agent =
            self.command(PROGRAM, variables).args(&words[1..]).stdout(Stdio::null()).stderr(stderr).spawn();
        self.agent = Some(agent.unwrap());
        let is_connected = || self.status(variables) == Some(0);
        until("connected", is_connected);
    }

    /// The exit code of `tuyagw agent status`.
    fn status(&self, variables: &BTreeMap<String, String>) -> Option<i32> {
        let mut command = self.command(PROGRAM, variables);
        command.args(["agent", "status", "--profile", "plant"]).output().unwrap().status.code()
    }

    fn signal_agent(&self, name: &str) {
        signal(self.agent.as_ref().unwrap().id(), name);
    }

    /// Ends the agent as a service manager does; returns its exit code.
    fn stop_agent(&mut self) -> Option<i32> {
        self.signal_agent("TERM");
        self.agent.take().unwrap().wait().unwrap().code()
    }

    /// The words of `ExecStart=`, with what this machine has in place of the installed program, the group and the folders.
    fn exec_start(&self) -> Vec<String> {
        let unit = text(SERVICE);
        let line = unit.lines().find_map(|line| line.strip_prefix("ExecStart=")).unwrap();
        let id = Command::new("id").arg("-gn").output().unwrap();
        let group = String::from_utf8(id.stdout).unwrap();
        let line = self
            .localized(line)
            .replace("--socket-group tuyagw", &format!("--socket-group {}", group.trim()));
        line.split(' ').filter(|word| *word != "$AGENT_OPTIONS").map(str::to_owned).collect()
    }
}

impl Drop for Machine {
    fn drop(&mut self) {
        if let Some(agent) = &mut self.agent {
            let _ = agent.kill();
            let _ = agent.wait();
        }
    }
}

fn variables(pairs: &[(&str, &str)]) -> BTreeMap<String, String> {
    pairs.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect()
}

#[test]
fn the_cron_job_reports() {
    let mut machine = Machine::start();
    let file = machine.localized(&text("contrib/cron/tuyagw"));
    let mut variables = BTreeMap::new();
    let mut jobs = Vec::new();
    for line in file.lines().filter(|line| !line.is_empty() && !line.starts_with('#')) {
        match line.split_once('=') {
            Some((name, value)) if !name.contains(' ') => {
                variables.insert(name.to_owned(), value.to_owned());
            }
            _ => jobs.push(line),
        }
    }
    assert_eq!(jobs.len(), 1, "{jobs:?}");
    let fields: Vec<_> = jobs[0].splitn(7, ' ').collect();
    let (times, user, command) = (fields[..5].join(" "), fields[5], fields[6]);
    assert_eq!(user, "tuyagw");
    assert!(!command.contains('%'), "cron takes a % for a line break: {command}");
    // A user's own table has no column for the user.
    if has("crontab") {
        let table = machine.site.write("table", format!("{times} {command}\n"));
        let checked = Command::new("crontab").args(["-n", &table]).output().unwrap();
        assert!(checked.status.success(), "{}", said(&checked));
    }
    let reader = machine
        .site
        .write("state/plant/read-meters", "#!/bin/sh\necho '{\"cid\":\"m1\",\"id\":\"1\",\"value\":7}'\n");
    fs::set_permissions(&reader, fs::Permissions::from_mode(0o700)).unwrap();
    if has_agent() {
        let words = machine.exec_start();
        machine.start_agent(&words, &BTreeMap::new());
    }
    let output = machine.command("/bin/sh", &variables).args(["-c", command]).output().unwrap();
    assert!(output.status.success() && said(&output).is_empty(), "{}", said(&output));
    let results = json_lines(&machine.site.read("state/plant/reports.jsonl"));
    assert!(results.len() == 1 && results[0]["ok"] == true, "{results:?}");
}

#[test]
fn logrotate_renames_the_recording_and_the_agent_opens_it_anew() {
    if !has("logrotate") {
        return;
    }
    let mut machine = Machine::start();
    let recording = "state/plant/records.jsonl";
    let has_agent = has_agent();
    if has_agent {
        let words = machine.exec_start();
        machine.start_agent(&words, &BTreeMap::new());
    }
    let command = |machine: &Machine, value: &str| {
        let args = ["--cid", "m1", &format!("switch_state={value}")];
        machine.site.command(&args).output().unwrap();
    };
    if has_agent {
        command(&machine, "true");
        until("the command is recorded", || machine.site.read(recording).contains("\"command\""));
    } else {
        machine.site.write(recording, "{}\n");
    }
    // The user of the service does not exist here; the files are this user's.
    let file = machine.localized(&text("contrib/logrotate/tuyagw")).replace("    su tuyagw tuyagw\n", "");
    let file = machine.site.write("logrotate.conf", file);
    fs::set_permissions(&file, fs::Permissions::from_mode(0o600)).unwrap();
    let state = machine.site.name("logrotate.state");
    let mut rotate = machine.command("logrotate", &variables(&[("PATH", "/usr/sbin:/usr/bin:/bin")]));
    let rotated = rotate.args(["--force", "--state", &state, &file]).output().unwrap();
    let complaints = said(&rotated);
    assert!(rotated.status.success(), "{complaints}");
    let renamed = || -> Vec<PathBuf> {
        let entries = fs::read_dir(machine.site.path("state/plant")).unwrap();
        let paths = entries.map(|entry| entry.unwrap().path());
        paths.filter(|path| path.display().to_string().contains("records.jsonl-")).collect()
    };
    assert_eq!(renamed().len(), 1, "{complaints}");
    if has_agent {
        assert!(complaints.is_empty(), "{complaints}");
        command(&machine, "false");
        until("the command is recorded", || machine.site.read(recording).contains("\"command\""));
    }
}

/// The words of an instruction of the Dockerfile that is a JSON array.
fn instruction(dockerfile: &str, name: &str) -> Vec<String> {
    let line = dockerfile.lines().find(|line| line.starts_with(name)).unwrap();
    let words: Value = serde_json::from_str(&line[line.find('[').unwrap()..]).unwrap();
    words.as_array().unwrap().iter().map(|word| word.as_str().unwrap().to_owned()).collect()
}

#[test]
fn the_container_s_health_check_sees_the_connection() {
    let mut machine = Machine::start();
    let run = machine.site.name("run");
    let dockerfile = machine.localized(&text("contrib/container/Dockerfile")).replace("/run/tuyagw", &run);
    let entry = [instruction(&dockerfile, "ENTRYPOINT"), instruction(&dockerfile, "CMD")].concat();
    let check = instruction(&dockerfile, "HEALTHCHECK");
    assert_eq!((entry[0].as_str(), check[0].as_str()), ("/usr/bin/tuyagw", "/usr/bin/tuyagw"));
    let line = dockerfile.lines().find_map(|line| line.strip_prefix("ENV ")).unwrap();
    let variables: BTreeMap<_, _> = line
        .split(' ')
        .map(|pair| pair.split_once('=').unwrap())
        .map(|(name, value)| (name.to_owned(), value.to_owned()))
        .collect();
    if !has_agent() {
        return;
    }
    let health = |machine: &Machine| {
        machine.command(PROGRAM, &variables).args(&check[1..]).output().unwrap().status.code()
    };
    assert_eq!(health(&machine), Some(2));
    machine.start_agent(&entry, &variables);
    assert_eq!(health(&machine), Some(0));
    machine.site.kill();
    until("the loss is seen", || health(&machine) == Some(3));
    assert_eq!(machine.stop_agent(), Some(0));
    assert_eq!(health(&machine), Some(2));
}

/// A fake service manager: what the agent says, in order, without the status lines and the watchdog's.
struct Manager {
    socket: UnixDatagram,
    watchdog: usize,
}

impl Manager {
    fn next(&mut self) -> String {
        loop {
            let mut message = [0; 4096];
            let length = self.socket.recv(&mut message).expect("a message");
            let message = String::from_utf8(message[..length].to_vec()).unwrap();
            match message.split_once('=').unwrap() {
                ("STATUS", _) => {}
                ("WATCHDOG", _) => self.watchdog += 1,
                _ => return message,
            }
        }
    }
}

#[test]
fn the_agent_tells_the_service_manager_its_state() {
    if !has_agent() {
        return;
    }
    let mut machine = Machine::start();
    let socket = UnixDatagram::bind(machine.site.path("notify")).unwrap();
    socket.set_read_timeout(Some(LIMIT)).unwrap();
    let mut manager = Manager { socket, watchdog: 0 };
    let words = machine.exec_start();
    let address = machine.site.name("notify");
    machine.start_agent(&words, &variables(&[("NOTIFY_SOCKET", &address), ("WATCHDOG_USEC", "20000")]));
    assert_eq!(manager.next(), "READY=1");
    machine.signal_agent("HUP");
    let reloading = manager.next();
    assert!(reloading.starts_with("RELOADING=1\nMONOTONIC_USEC="), "{reloading}");
    assert_eq!(manager.next(), "READY=1");
    assert_eq!(machine.stop_agent(), Some(0));
    assert_eq!(manager.next(), "STOPPING=1");
    assert!(manager.watchdog > 0);
}
