//! A mosquitto of a test's own, and an edge behind it.

use std::{
    fmt::Write as _,
    fs,
    io::{Read as _, Write as _},
    net::{TcpListener, TcpStream},
    path::Path,
    process::{Child, Command, Stdio},
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
        mpsc,
    },
    thread::{self, JoinHandle},
    time::Duration,
};

use serde_json::json;
use tempfile::TempDir;

use crate::fake_broker::{frame, packet, parse_publish, publish};

/// A running mosquitto; it ends with the value.
pub struct Mosquitto {
    child: Child,
    program: &'static str,
    pub port: u16,
    pub folder: TempDir,
}

impl Mosquitto {
    /// One that anybody may use.
    pub fn open() -> Option<Self> {
        Self::start("allow_anonymous true\n", |_| {})
    }

    /// One that only this client may use, who may write and not read.
    pub fn with_login(client_id: &str, username: &str) -> Option<Self> {
        let password = tuyagw::protocol::derive_password(client_id, username);
        Self::start("allow_anonymous false\npassword_file FOLDER/users\nacl_file FOLDER/access\n", |folder| {
            let users = folder.join("users");
            fs::write(&users, format!("{username}:{}\n", password.expose())).expect("a file");
            let hashed = Command::new("mosquitto_passwd").arg("-U").arg(&users).status();
            assert!(hashed.expect("mosquitto_passwd runs").success());
            fs::write(folder.join("access"), format!("user {username}\ntopic write #\n")).expect("a file");
        })
    }

    /// One with these lines of configuration, in which FOLDER is the folder that `prepare` fills.
    pub fn start(lines: &str, prepare: impl FnOnce(&Path)) -> Option<Self> {
        let program = installed()?;
        let folder = tempfile::tempdir().expect("a folder");
        prepare(folder.path());
        let port = TcpListener::bind("127.0.0.1:0")
            .and_then(|listener| listener.local_addr())
            .expect("a port")
            .port();
        let mut config =
            format!("user root\npersistence false\nset_tcp_nodelay true\nlistener {port} 127.0.0.1\n");
        let lines = lines.replace("FOLDER", folder.path().to_str().expect("UTF-8"));
        writeln!(config, "{lines}").expect("a string");
        fs::write(folder.path().join("mosquitto.conf"), config).expect("a file");
        let child = spawn(program, folder.path(), port);
        Some(Self { child, program, port, folder })
    }

    pub fn url(&self) -> String {
        format!("127.0.0.1:{}", self.port)
    }

    /// Kills it and starts it again on the same port.
    pub fn restart(&mut self) {
        self.child.kill().expect("it runs");
        self.child.wait().expect("it ends");
        self.child = spawn(self.program, self.folder.path(), self.port);
    }
}

impl Drop for Mosquitto {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

fn installed() -> Option<&'static str> {
    let found = ["mosquitto", "/usr/sbin/mosquitto"].into_iter().find(|program| {
        Command::new(program).arg("-h").stdout(Stdio::null()).stderr(Stdio::null()).status().is_ok()
    });
    if found.is_none() {
        assert!(std::env::var_os("CI").is_none(), "mosquitto is not installed");
        #[allow(clippy::print_stderr, reason = "a test that was skipped should say so")]
        {
            eprintln!("skipped: mosquitto is not installed");
        }
    }
    found
}

fn spawn(program: &str, folder: &Path, port: u16) -> Child {
    let mut child = Command::new(program)
        .arg("-c")
        .arg(folder.join("mosquitto.conf"))
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .spawn()
        .expect("mosquitto starts");
    while TcpStream::connect(("127.0.0.1", port)).is_err() {
        assert!(child.try_wait().expect("a state").is_none(), "mosquitto ended");
        thread::sleep(Duration::from_millis(5));
    }
    child
}

/// Answers every request that comes through a broker with 0, and every command in the gateway's place.
pub struct Edge {
    stopping: Arc<AtomicBool>,
    thread: Option<JoinHandle<()>>,
}

impl Edge {
    /// Is there once it returns, and again whenever the broker comes back.
    pub fn behind(mosquitto: &Mosquitto) -> Self {
        let stopping = Arc::new(AtomicBool::new(false));
        let (ready, is_ready) = mpsc::channel();
        let (stop, port) = (Arc::clone(&stopping), mosquitto.port);
        let thread = thread::spawn(move || {
            while !stop.load(Ordering::SeqCst) {
                if let Ok(stream) = TcpStream::connect(("127.0.0.1", port)) {
                    answer_all(stream, &stop, &ready);
                } else {
                    thread::sleep(Duration::from_millis(5));
                }
            }
        });
        is_ready.recv().expect("the edge is subscribed");
        Self { stopping, thread: Some(thread) }
    }
}

impl Drop for Edge {
    fn drop(&mut self) {
        self.stopping.store(true, Ordering::SeqCst);
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}

fn answer_all(mut stream: TcpStream, stop: &AtomicBool, ready: &mpsc::Sender<()>) {
    stream.set_nodelay(true).expect("nodelay");
    stream.set_read_timeout(Some(Duration::from_millis(100))).expect("a time-out");
    let mut hello = packet(0x10, b"\0\x04MQTT\x04\x02\0\0\0\x04edge");
    let filters = ["devices/sync", "properties/report", "commands"];
    let filters: Vec<_> = filters.iter().map(|end| format!("gateway_id/+/{end}")).collect();
    let entries = filters.iter().flat_map(|filter| {
        let length = u16::try_from(filter.len()).expect("short").to_be_bytes();
        [&length[..], filter.as_bytes(), &[0]].concat()
    });
    hello.extend(packet(0x82, &[0, 1].into_iter().chain(entries).collect::<Vec<_>>()));
    if stream.write_all(&hello).is_err() {
        return;
    }
    let (mut buffer, mut chunk) = (Vec::new(), vec![0; 1 << 16]);
    loop {
        match stream.read(&mut chunk) {
            Ok(0) => return,
            Ok(n) => buffer.extend_from_slice(&chunk[..n]),
            Err(why)
                if matches!(why.kind(), std::io::ErrorKind::WouldBlock | std::io::ErrorKind::TimedOut) =>
            {
                if stop.load(Ordering::SeqCst) {
                    return;
                }
            }
            Err(_) => return,
        }
        let mut answers = Vec::new();
        let mut at = 0;
        while let Some((first, body, length)) = frame(&buffer[at..]) {
            match first {
                0x90 => drop(ready.send(())),
                0x30 => {
                    let request = parse_publish(first, body);
                    let message = request.json();
                    let answer = json!({
                        "t": 1,
                        "request_id": message["request_id"],
                        "cid": message["cid"],
                        "param": {"cid": message["param"]["cid"], "code": 0, "msg": "success"},
                    });
                    let topic = format!("{}/response", request.topic);
                    answers.extend(publish(0, &topic, answer.to_string().as_bytes()));
                }
                _ => {}
            }
            at += length;
        }
        buffer.drain(..at);
        if stream.write_all(&answers).is_err() {
            return;
        }
    }
}
