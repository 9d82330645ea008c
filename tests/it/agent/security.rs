//! Who may use the socket, and what passes over it.

use std::{
    fs::{self, Permissions},
    io::{Read as _, Write as _},
    os::unix::{
        fs::{MetadataExt as _, PermissionsExt as _, symlink},
        net::{UnixListener, UnixStream},
    },
    path::{Path, PathBuf},
    process::{Command, Stdio},
    sync::{Arc, Mutex},
    thread,
};

use base64::Engine as _;

use super::AgentSite;
use crate::{
    process::{is_present, reports, run},
    site::{all_accepted, syncs},
    wire,
};

fn mode(path: &Path) -> u32 {
    fs::symlink_metadata(path).unwrap().mode() & 0o7777
}

fn set_mode(path: &Path, mode: u32) {
    fs::set_permissions(path, Permissions::from_mode(mode)).unwrap();
}

/// Whether the tests run as root, who alone can become another user.
fn is_root() -> bool {
    fs::metadata("/proc/self").unwrap().uid() == 0
}

/// A command that runs another one as a user without rights.
fn as_nobody() -> Command {
    let mut command = Command::new("setpriv");
    command.args(["--reuid=65534", "--regid=65534", "--clear-groups", "--"]);
    command
}

/// Whether tests can become a user without rights.
fn can_be_nobody() -> bool {
    is_root() && is_present("setpriv", as_nobody().arg("perl").args(["-e", "1"]))
}

#[test]
fn folder_socket_and_lock_are_the_users_alone() {
    let site = AgentSite::start(&[]);
    assert_eq!(mode(&site.path("tuyagw")), 0o700);
    assert_eq!(mode(&site.socket()), 0o600);
    assert_eq!(mode(&site.lock()), 0o600);
}

#[test]
fn a_wide_umask_changes_no_mode() {
    let mut site = AgentSite::without_agent(&[], &[]);
    let command = site.agent_command();
    let mut shell = site.isolated(Command::new("sh"));
    shell.args(["-c", "umask 0; exec \"$@\"", "sh"]).arg(command.get_program()).args(command.get_args());
    shell.env("TUYAGW_CONFIG", "/dev/null").stdin(Stdio::null());
    site.agent = Some(shell.stdout(Stdio::null()).stderr(Stdio::null()).spawn().unwrap());
    site.wait_connected();
    assert_eq!([mode(&site.path("tuyagw")), mode(&site.socket()), mode(&site.lock())], [0o700, 0o600, 0o600]);
}

#[test]
fn a_group_is_let_in_by_modes() {
    let site = AgentSite::start(&["--socket-group", &own_group().to_string()]);
    assert_eq!([mode(&site.path("tuyagw")), mode(&site.socket()), mode(&site.lock())], [0o750, 0o660, 0o640]);
    assert_eq!(fs::metadata(site.socket()).unwrap().gid(), own_group());
    all_accepted(&site.run_with("sync", &["-"], syncs(1)), 1);
}

fn own_group() -> u32 {
    fs::metadata("/proc/self").unwrap().gid()
}

#[test]
fn an_unknown_group_is_exit_2() {
    let site = AgentSite::without_agent(&[], &["--socket-group", "no-such-group"]);
    let ended = run(&mut site.agent_command());
    assert_eq!(ended.code, Some(2), "{}", ended.stderr);
    assert!(ended.stderr.contains("no-such-group"), "{}", ended.stderr);
}

#[test]
fn a_folder_that_others_may_write_to_is_used_by_nobody() {
    let site = AgentSite::start(&[]);
    let folder = site.path("tuyagw");
    for loose in [0o777, 0o770, 0o722] {
        set_mode(&folder, loose);
        let ended = site.run("report", &["--cid", "m1", "water_flow=1"]);
        assert_eq!(ended.code, Some(3), "{loose:o}: {}", ended.stderr);
        assert!(ended.stderr.contains(&format!("{loose:o}")), "{}", ended.stderr);
    }
    set_mode(&folder, 0o700);
    assert_eq!(site.status().line()["reconnects"], 0, "no program pushed the agent off");
}

#[test]
fn a_link_in_the_place_of_the_folder_is_not_followed() {
    let site = AgentSite::start(&[]);
    let folder = site.path("tuyagw");
    let moved = site.path("moved");
    fs::rename(&folder, &moved).unwrap();
    symlink(&moved, &folder).unwrap();
    let ended = site.run("report", &["--cid", "m1", "water_flow=1"]);
    assert_eq!(ended.code, Some(3), "{}", ended.stderr);
}

#[test]
fn a_link_in_the_place_of_the_lock_is_not_followed() {
    let mut site = AgentSite::start(&[]);
    let lock = site.lock();
    let victim = site.path("victim");
    assert_eq!(site.end("TERM").code(), Some(0));
    fs::remove_file(&lock).unwrap();
    fs::write(&victim, "precious").unwrap();
    set_mode(&victim, 0o644);
    symlink(&victim, &lock).unwrap();
    let ended = run(&mut site.agent_command());
    assert_eq!(ended.code, Some(2), "{}", ended.stderr);
    assert_eq!((fs::read_to_string(&victim).unwrap().as_str(), mode(&victim)), ("precious", 0o644));
}

#[test]
fn a_file_in_the_place_of_the_socket_is_not_removed() {
    let mut site = AgentSite::start(&[]);
    let socket = site.socket();
    assert_eq!(site.end("TERM").code(), Some(0));
    fs::write(&socket, "precious").unwrap();
    let ended = run(&mut site.agent_command());
    assert_eq!(ended.code, Some(2), "{}", ended.stderr);
    assert_eq!(fs::read_to_string(&socket).unwrap(), "precious");
}

#[test]
fn another_user_is_refused_even_where_the_modes_let_him_in() {
    if !can_be_nobody() {
        return;
    }
    let site = AgentSite::start(&[]);
    let socket = site.socket();
    let dial = || {
        let script = format!(
            "use IO::Socket::UNIX; my $s = IO::Socket::UNIX->new(Peer => '{}') or die \"$!\\n\"; alarm 30; \
             $SIG{{PIPE}} = 'IGNORE'; syswrite($s, pack('H*', '{}')); exit(sysread($s, my $b, 4) ? 7 : 0)",
            socket.display(),
            hex::encode(
                wire::Connect { username: None, password: None, ..wire::Connect::new("x", "") }.bytes()
            ),
        );
        let output = as_nobody().args(["perl", "-e", &script]).output().unwrap();
        (output.status.code(), String::from_utf8_lossy(&output.stderr).into_owned())
    };
    let (code, said) = dial();
    assert!(code != Some(0) && said.contains("Permission denied"), "{code:?} {said}");
    set_mode(&site.path(""), 0o755);
    set_mode(&site.path("tuyagw"), 0o755);
    set_mode(&socket, 0o666);
    // The connection is closed, or reset, without a CONNACK.
    assert_eq!(dial(), (Some(0), String::new()));
    crate::process::until("it is logged", || site.stderr().contains("user 65534"));
}

#[test]
fn a_folder_of_another_user_is_used_by_nobody() {
    if !can_be_nobody() {
        return;
    }
    let site = AgentSite::start(&[]);
    std::os::unix::fs::chown(site.path("tuyagw"), Some(65534), None).unwrap();
    let ended = site.run("report", &["--cid", "m1", "water_flow=1"]);
    assert_eq!(ended.code, Some(3), "{}", ended.stderr);
    assert!(ended.stderr.contains("65534"), "{}", ended.stderr);
}

/// A proxy in front of a socket, which keeps what passes in either direction.
fn tap(socket: PathBuf, front: &Path) -> Arc<Mutex<Vec<u8>>> {
    let listener = UnixListener::bind(front).unwrap();
    let seen = Arc::new(Mutex::new(Vec::new()));
    let log = Arc::clone(&seen);
    thread::spawn(move || {
        for stream in listener.incoming() {
            let Ok(near) = stream else { return };
            let Ok(far) = UnixStream::connect(&socket) else { return };
            for (mut from, mut to) in [(near.try_clone().unwrap(), far.try_clone().unwrap()), (far, near)] {
                let log = Arc::clone(&log);
                thread::spawn(move || {
                    let mut chunk = [0; 4096];
                    while let Ok(read @ 1..) = from.read(&mut chunk) {
                        log.lock().unwrap().extend_from_slice(&chunk[..read]);
                        if to.write_all(&chunk[..read]).is_err() {
                            break;
                        }
                    }
                    let _ = to.shutdown(std::net::Shutdown::Write);
                });
            }
        }
    });
    seen
}

#[test]
fn no_secret_passes_over_the_socket() {
    let mut site = AgentSite::start(&["--answer", "success"]);
    let front = site.path("front.sock");
    let seen = tap(site.socket(), &front);
    let front = front.to_str().unwrap().to_owned();
    let password = wire::password("gw1", "acme");
    let file = site.site.write("password", &password);
    let agent = ["--agent", &front, "--password-file", &file];
    all_accepted(&site.run_with("sync", &[&["-"][..], &agent].concat(), syncs(3)), 3);
    all_accepted(&site.run_with("report", &[&["-"][..], &agent].concat(), reports(3)), 3);
    assert_eq!(site.run("status", &[&["--online", "m1"][..], &agent].concat()).code, Some(0));
    assert_eq!(site.run("listen", &[&["--for", "100ms"][..], &agent].concat()).code, Some(0));
    let status = site.control("status", &["--json", "--socket", &front]);
    assert_eq!(status.code, Some(0));
    assert_eq!(site.end("TERM").code(), Some(0));
    let mut seen = seen.lock().unwrap().clone();
    assert!(seen.windows(4).filter(|bytes| bytes == b"MQTT").count() >= 5, "the tap saw the programs");
    assert!(seen.windows(13).any(|bytes| bytes == b"$agent/status"), "and the agent");
    seen.extend_from_slice(site.stderr().as_bytes());
    seen.extend(fs::read(site.path("agent.jsonl")).unwrap());
    let raw = hex::decode(&password).unwrap();
    let base64 = |bytes: &[u8]| {
        base64::engine::general_purpose::STANDARD.encode(bytes).trim_end_matches('=').as_bytes().to_vec()
    };
    let secrets = [
        password.as_bytes().to_vec(),
        password.to_uppercase().into_bytes(),
        hex::encode(&password).into_bytes(),
        raw.clone(),
        base64(&raw),
        base64(password.as_bytes()),
    ];
    for secret in secrets {
        let found = seen.windows(secret.len()).any(|bytes| bytes == secret);
        assert!(!found, "{:?} was seen", String::from_utf8_lossy(&secret));
    }
}
