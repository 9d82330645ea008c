//! The program as a process, killed if it hangs.
#![allow(clippy::print_stdout, reason = "a skipped test says so")]

use std::{
    io::{BufRead as _, BufReader, Read as _, Write as _},
    net::TcpStream,
    process::{Child, ChildStdin, ChildStdout, Command, Output, Stdio},
    sync::mpsc,
    thread::{self, JoinHandle},
    time::{Duration, Instant},
};

use serde_json::Value;

pub use crate::command::{LIMIT, PROGRAM, tuyagw};
use crate::wire::Client;

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
    /// Checks what holds for every run: stdout is JSON Lines, neither stream has a control character, nothing panicked.
    pub fn of(output: Output) -> Self {
        let stderr = String::from_utf8(output.stderr).expect("stderr is UTF-8");
        let stdout = String::from_utf8(output.stdout).expect("stdout is UTF-8");
        assert!(!stderr.contains("panicked"), "{stderr}");
        for text in [&stdout, &stderr] {
            assert!(!text.contains(|c| c != '\n' && tuyagw::text::is_unsafe(c)), "{text:?}");
        }
        Self { code: output.status.code(), lines: json_lines(&stdout), stderr }
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

/// Waits for a process that a test started, and kills it if it hangs.
pub fn ended(child: Child) -> Ended {
    Ended::of(output(child))
}

fn output(child: Child) -> Output {
    let id = child.id();
    let (sender, receiver) = mpsc::channel();
    thread::spawn(move || sender.send(child.wait_with_output()));
    if let Ok(output) = receiver.recv_timeout(LIMIT) {
        return output.expect("output");
    }
    signal(id, "KILL");
    panic!("hangs: {:?}", receiver.recv());
}

/// An edge or a tap on a port of its own; killed when dropped.
pub struct Service {
    child: Option<Child>,
    pub stdin: Option<ChildStdin>,
    /// What it prints after its first line.
    pub stdout: Option<BufReader<ChildStdout>>,
    stderr: Option<JoinHandle<Vec<u8>>>,
    pub url: String,
}

impl Service {
    /// Starts it, and waits for its first line, which holds its address.
    pub fn start(command: &mut Command) -> Self {
        let mut child = command.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
        let mut stdout = BufReader::new(child.stdout.take().unwrap());
        let mut line = String::new();
        stdout.read_line(&mut line).unwrap();
        let event: Value = serde_json::from_str(&line).unwrap_or_else(|why| panic!("{why}: {line:?}"));
        assert_eq!(event["event"], "listening");
        let url = event["broker"].as_str().unwrap().to_owned();
        let mut stderr = child.stderr.take().unwrap();
        let stderr = thread::spawn(move || {
            let mut said = Vec::new();
            let _ = stderr.read_to_end(&mut said);
            said
        });
        let stdin = child.stdin.take();
        Self { child: Some(child), stdin, stdout: Some(stdout), stderr: Some(stderr), url }
    }

    /// An edge on a free port.
    pub fn edge(args: &[&str]) -> Self {
        Self::start(tuyagw().args(["edge", "--listen", "127.0.0.1:0"]).args(args).stdin(Stdio::piped()))
    }

    /// A tap on a free port.
    pub fn tap(broker: &str, args: &[&str]) -> Self {
        Self::start(tuyagw().args(["tap", "--listen", "127.0.0.1:0", "--broker", broker]).args(args))
    }

    /// `HOST:PORT`.
    pub fn address(&self) -> &str {
        self.url.split_once("://").unwrap().1
    }

    pub fn port(&self) -> &str {
        self.url.rsplit_once(':').unwrap().1
    }

    pub fn id(&self) -> u32 {
        self.child.as_ref().unwrap().id()
    }

    /// A connection to it.
    pub fn dial(&self) -> TcpStream {
        let stream = TcpStream::connect(self.address()).unwrap();
        stream.set_read_timeout(Some(LIMIT)).unwrap();
        stream
    }

    /// A client that has not connected yet.
    pub fn client(&self) -> Client {
        Client::open(self.address())
    }

    /// A gateway that has logged in.
    pub fn gateway(&self, id: &str) -> Client {
        self.logged_in(id, "acme")
    }

    /// A platform user that has logged in.
    pub fn platform(&self, client_id: &str) -> Client {
        self.logged_in(client_id, "platform")
    }

    fn logged_in(&self, client_id: &str, username: &str) -> Client {
        let mut client = self.client();
        assert_eq!(client.login(client_id, username, true), 0);
        client
    }

    /// Writes a line to its stdin.
    pub fn type_in(&mut self, line: &Value) {
        writeln!(self.stdin.as_mut().unwrap(), "{line}").unwrap();
    }

    /// The next line on stdout for which `wanted` is true.
    pub fn line(&mut self, wanted: impl Fn(&Value) -> bool) -> Value {
        loop {
            let mut line = String::new();
            assert!(self.stdout.as_mut().unwrap().read_line(&mut line).unwrap() > 0, "stdout ended");
            let value: Value = serde_json::from_str(&line).unwrap_or_else(|why| panic!("{why}: {line:?}"));
            if wanted(&value) {
                return value;
            }
        }
    }

    /// Kills it.
    pub fn kill(&mut self) {
        let mut child = self.child.take().unwrap();
        child.kill().unwrap();
        child.wait().unwrap();
    }

    /// Ends it with a signal.
    pub fn end(self, name: &str) -> Ended {
        signal(self.id(), name);
        self.ended()
    }

    /// Waits until it has ended; returns the lines after the first one.
    pub fn ended(mut self) -> Ended {
        let child = self.child.take().unwrap();
        let mut stdout = Vec::new();
        if let Some(mut reader) = self.stdout.take() {
            reader.read_to_end(&mut stdout).unwrap();
        }
        let status = output(child).status;
        Ended::of(Output { status, stdout, stderr: self.stderr.take().unwrap().join().unwrap() })
    }
}

impl Drop for Service {
    fn drop(&mut self) {
        if self.child.is_some() {
            self.kill();
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

/// The values of JSON Lines.
pub fn json_lines(text: &str) -> Vec<Value> {
    let line = |line: &str| serde_json::from_str(line).unwrap_or_else(|why| panic!("{why}: {line:?}"));
    text.lines().map(line).collect()
}

/// Waits for a condition.
pub fn until(what: &str, mut is_true: impl FnMut() -> bool) {
    let start = Instant::now();
    while !is_true() {
        assert!(start.elapsed() < LIMIT, "{what}: not within {LIMIT:?}");
        thread::sleep(Duration::from_millis(2));
    }
}

/// Says that a test is skipped because a program is missing. With `CI` set, this fails.
pub fn missing(name: &str) {
    assert!(std::env::var_os("CI").is_none(), "CI is set, and {name} is not installed");
    println!("skipped: {name} is not installed");
}

/// Whether a program is installed; without it, the test is skipped.
pub fn is_installed(program: &str) -> bool {
    let path = std::env::var_os("PATH").unwrap_or_default();
    let found = std::env::split_paths(&path).any(|folder| folder.join(program).exists());
    if !found {
        missing(program);
    }
    found
}

/// As [`is_installed`], for what a command shows to be there.
pub fn is_present(name: &str, command: &mut Command) -> bool {
    let found = succeeds(command);
    if !found {
        missing(name);
    }
    found
}

/// Whether a command runs and succeeds.
pub fn succeeds(command: &mut Command) -> bool {
    command
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .status()
        .is_ok_and(|it| it.success())
}
