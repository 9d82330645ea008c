//! Brokers that others wrote in other languages, each on a port of a test's own.

use std::{
    fs,
    net::TcpListener,
    path::Path,
    process::{Child, Command, Stdio},
};

use tempfile::TempDir;

use crate::process::is_present;

/// A running broker that anybody may use; it ends with the value.
pub struct Other {
    child: Child,
    pub port: u16,
    _folder: TempDir,
}

impl Other {
    /// amqtt, in Python, from PyPI.
    pub fn amqtt() -> Option<Self> {
        if !is_present("amqtt", Command::new("amqtt").arg("--help")) {
            return None;
        }
        Some(Self::start(|port, folder| {
            let config = folder.join("amqtt.yaml");
            let lines = format!(
                "listeners:\n  default:\n    type: tcp\n    bind: 127.0.0.1:{port}\nplugins:\n  \
                 amqtt.plugins.authentication.AnonymousAuthPlugin:\n    allow_anonymous: true\n"
            );
            fs::write(&config, lines).expect("a file");
            let mut command = Command::new("amqtt");
            command.arg("-c").arg(config);
            command
        }))
    }

    /// aedes, in JavaScript, from npm, where `NODE_PATH` leads to it.
    pub fn aedes() -> Option<Self> {
        if !is_present("aedes", Command::new("node").args(["-e", "require('aedes')"])) {
            return None;
        }
        Some(Self::start(|port, _| {
            let mut command = Command::new("node");
            let program =
                format!("require('net').createServer(require('aedes')().handle).listen({port}, '127.0.0.1')");
            command.args(["-e", &program]);
            command
        }))
    }

    fn start(command: impl FnOnce(u16, &Path) -> Command) -> Self {
        let folder = tempfile::tempdir().expect("a folder");
        let port = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
        let mut child = command(port, folder.path())
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
            .expect("the broker starts");
        super::await_port(&mut child, port);
        Self { child, port, _folder: folder }
    }

    pub fn url(&self) -> String {
        format!("127.0.0.1:{}", self.port)
    }
}

impl Drop for Other {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}
