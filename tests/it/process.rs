//! The program as a process, cut off from the settings of whoever runs the tests, and killed when it hangs.

use std::{
    io::{BufRead as _, BufReader, Read as _, Write as _},
    net::TcpStream,
    process::{Child, ChildStdout, Command, Output, Stdio},
    sync::mpsc,
    thread,
    time::Duration,
};

use assert_cmd::cargo::cargo_bin;
use serde_json::Value;

/// No run may take longer; nothing is concluded from how long one takes.
const HANGS: Duration = Duration::from_mins(1);

/// No socket of a test waits for longer.
pub const LIMIT: Duration = Duration::from_secs(20);

/// The program. Where the tests are run with SIGINT ignored, as in the background of a script, it is not.
fn program() -> Command {
    let status = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
    let mask = status.lines().find_map(|line| line.strip_prefix("SigIgn:")).unwrap_or_default();
    let ignored = u64::from_str_radix(mask.trim(), 16).unwrap_or_default();
    if ignored >> 1 & 1 == 0 {
        return Command::new(cargo_bin!("tuyagw"));
    }
    let mut command = Command::new("env");
    command.arg("--default-signal=INT").arg(cargo_bin!("tuyagw"));
    command
}

/// A command without any setting from outside.
pub fn tuyagw() -> Command {
    let mut command = program();
    for (name, _) in std::env::vars_os() {
        if name.to_string_lossy().starts_with("TUYAGW_") {
            command.env_remove(name);
        }
    }
    command.env("TUYAGW_CONFIG", "/dev/null").stdin(Stdio::null());
    command
}

/// A subcommand of gateway gw1 at a broker, with time-outs that tests can wait for.
pub fn gateway(subcommand: &str, broker: &str, args: &[&str]) -> Command {
    let mut command = tuyagw();
    command.args([subcommand, "-b", broker, "-g", "gw1", "-u", "acme"]).args(args);
    for (option, value) in [("--timeout", "1s"), ("--connect-timeout", "2s")] {
        if !args.contains(&option) {
            command.args([option, value]);
        }
    }
    command
}

/// How a run ended.
#[derive(Debug)]
pub struct Ended {
    pub code: Option<i32>,
    pub lines: Vec<Value>,
    pub stderr: String,
}

impl Ended {
    /// Judges what every run must keep to: JSON Lines on stdout, no control character on either stream, no panic.
    pub fn of(output: &Output) -> Self {
        let stderr = String::from_utf8(output.stderr.clone()).expect("stderr is UTF-8");
        let stdout = String::from_utf8(output.stdout.clone()).expect("stdout is UTF-8");
        assert!(!stderr.contains("panicked"), "{stderr}");
        for text in [&stdout, &stderr] {
            assert!(!text.contains(|c| c != '\n' && tuyagw::text::is_unsafe(c)), "{text:?}");
        }
        let line = |line: &str| serde_json::from_str(line).unwrap_or_else(|why| panic!("{why}: {line}"));
        Self { code: output.status.code(), lines: stdout.lines().map(line).collect(), stderr }
    }

    /// The only line.
    pub fn line(&self) -> &Value {
        assert_eq!(self.lines.len(), 1, "{self:?}");
        &self.lines[0]
    }
}

/// Runs a command to its end.
pub fn run(command: &mut Command) -> Ended {
    run_with(command, b"")
}

/// Runs a command with this on stdin.
pub fn run_with(command: &mut Command, stdin: &[u8]) -> Ended {
    let mut child = command
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .expect("the binary runs");
    let mut pipe = child.stdin.take().expect("a pipe");
    let stdin = stdin.to_vec();
    thread::spawn(move || {
        // A program that reads no further is no failure of the test.
        let _ = pipe.write_all(&stdin);
    });
    ended(child)
}

/// Waits for a process that a test started, and kills it where it hangs.
pub fn ended(child: Child) -> Ended {
    let id = child.id();
    let (sender, receiver) = mpsc::channel();
    thread::spawn(move || sender.send(child.wait_with_output()));
    if let Ok(output) = receiver.recv_timeout(HANGS) {
        return Ended::of(&output.expect("output"));
    }
    signal(id, "KILL");
    panic!("hangs: {:?}", receiver.recv());
}

/// An edge or a tap, which says first where it listens.
pub struct Service {
    pub child: Option<Child>,
    pub stdout: Option<BufReader<ChildStdout>>,
    pub url: String,
}

impl Service {
    /// Starts it, and waits for its first line.
    pub fn start(command: &mut Command) -> Self {
        let mut child = command.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
        let mut stdout = BufReader::new(child.stdout.take().unwrap());
        let mut line = String::new();
        stdout.read_line(&mut line).unwrap();
        let event: Value = serde_json::from_str(&line).unwrap_or_else(|why| panic!("{why}: {line:?}"));
        assert_eq!(event["event"], "listening");
        let url = event["broker"].as_str().unwrap().to_owned();
        Self { child: Some(child), stdout: Some(stdout), url }
    }

    /// An edge on a free port.
    pub fn edge(args: &[&str]) -> Self {
        Self::start(tuyagw().args(["edge", "--listen", "127.0.0.1:0"]).args(args))
    }

    /// A tap on a free port.
    pub fn tap(broker: &str, args: &[&str]) -> Self {
        Self::start(tuyagw().args(["tap", "--listen", "127.0.0.1:0", "--broker", broker]).args(args))
    }

    /// A connection to it.
    pub fn dial(&self) -> TcpStream {
        let stream = TcpStream::connect(self.url.split_once("://").unwrap().1).unwrap();
        stream.set_read_timeout(Some(LIMIT)).unwrap();
        stream
    }

    /// Ends it by a signal; gives what it printed since the first line.
    pub fn end(mut self, name: &str) -> Ended {
        let child = self.child.take().unwrap();
        signal(child.id(), name);
        let mut printed = String::new();
        if let Some(mut stdout) = self.stdout.take() {
            stdout.read_to_string(&mut printed).unwrap();
        }
        let mut ended = ended(child);
        ended.lines = printed.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
        ended
    }
}

impl Drop for Service {
    fn drop(&mut self) {
        if let Some(child) = &mut self.child {
            let _ = child.kill();
            let _ = child.wait();
        }
    }
}

/// Reports as input lines: meter m1 to mN.
pub fn reports(count: usize) -> String {
    let line = |n| format!("{{\"cid\":\"m{n}\",\"code\":\"water_flow\",\"value\":{n}}}\n");
    (1..=count).map(line).collect::<Vec<_>>().concat()
}

/// Sends a signal to a process that a test started.
pub fn signal(id: u32, name: &str) {
    let status = Command::new("kill").args(["-s", name, &id.to_string()]).status().expect("kill runs");
    assert!(status.success());
}
