//! A mosquitto of a test's own.

use std::{
    fmt::Write as _,
    fs,
    net::TcpListener,
    path::Path,
    process::{Child, Command, Stdio},
};

use tempfile::TempDir;

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
        let password = tuyagw::tuya::derive_password(client_id, username);
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
        // The listener that is waited for comes last.
        let mut config = String::from("user root\npersistence false\nset_tcp_nodelay true\n");
        let lines = lines.replace("FOLDER", folder.path().to_str().expect("UTF-8"));
        writeln!(config, "{lines}\nlistener {port} 127.0.0.1").expect("a string");
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
    let starts = |program: &&str| {
        let mut command = Command::new(program);
        // It ends with 3 for its help.
        command.arg("-h").stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null()).status().is_ok()
    };
    let found = ["mosquitto", "/usr/sbin/mosquitto"].into_iter().find(starts);
    if found.is_none() {
        crate::process::missing("mosquitto");
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
    super::await_port(&mut child, port);
    child
}
