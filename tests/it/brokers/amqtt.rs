//! An amqtt of a test's own: a broker in Python, from PyPI.

use std::{
    fs,
    net::TcpListener,
    process::{Child, Command, Stdio},
};

use tempfile::TempDir;

/// A running amqtt that anybody may use; it ends with the value.
pub struct Amqtt {
    child: Child,
    pub port: u16,
    _folder: TempDir,
}

impl Amqtt {
    pub fn open() -> Option<Self> {
        let program = super::installed("amqtt", &["amqtt"], "--help")?;
        let folder = tempfile::tempdir().expect("a folder");
        let port = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
        let config = folder.path().join("amqtt.yaml");
        let lines = format!(
            "listeners:\n  default:\n    type: tcp\n    bind: 127.0.0.1:{port}\nplugins:\n  \
             amqtt.plugins.authentication.AnonymousAuthPlugin:\n    allow_anonymous: true\n"
        );
        fs::write(&config, lines).expect("a file");
        let mut child = Command::new(program)
            .arg("-c")
            .arg(&config)
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
            .expect("amqtt starts");
        super::await_port(&mut child, port);
        Some(Self { child, port, _folder: folder })
    }

    pub fn url(&self) -> String {
        format!("127.0.0.1:{}", self.port)
    }
}

impl Drop for Amqtt {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}
