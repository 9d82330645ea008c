//! The programs that tuyagw is compared with, if they are installed.

use std::{
    fs,
    path::{Path, PathBuf},
    process::{Command, Stdio},
};

use tempfile::TempDir;
use tuyagw::tuya::derive_password;

use crate::{process::Server, traffic::USERNAME};

/// The path of a program. Reports a missing one.
pub fn find(program: &str) -> Option<PathBuf> {
    // Debian keeps the broker where only root's PATH looks.
    let path = std::env::var_os("PATH").unwrap_or_default();
    let folders = std::env::split_paths(&path).chain([PathBuf::from("/usr/sbin")]);
    let found = folders.map(|folder| folder.join(program)).find(|file| file.exists());
    if found.is_none() {
        eprintln!("{program} is not installed: not measured");
    }
    found
}

/// One of mosquitto's clients as the gateway gw1.
pub fn client(program: &Path, port: u16) -> Command {
    let mut command = Command::new(program);
    command.args(["-h", "127.0.0.1", "-p", &port.to_string(), "-V", "mqttv311", "-q", "1", "--nodelay"]);
    // The benchmark's own login, which is no secret.
    command.args(["-i", "gw1", "-u", USERNAME, "-P", derive_password("gw1", USERNAME).expose()]);
    command.stdin(Stdio::null()).stdout(Stdio::null());
    command
}

/// mosquitto as a broker without limits that would lose messages; its configuration lies in the folder.
pub fn mosquitto(folder: &TempDir) -> Option<Server> {
    let program = find("mosquitto")?;
    Some(Server::start(|port| {
        let file = folder.path().join(format!("mosquitto-{port}.conf"));
        let text = format!(
            "listener {port} 127.0.0.1\nallow_anonymous true\nuser root\npersistence false\nset_tcp_nodelay true\n\
             max_queued_messages 0\nmax_inflight_messages 1000\nlog_dest none\n"
        );
        fs::write(&file, text).unwrap();
        let mut command = Command::new(&program);
        command.arg("-c").arg(file);
        command
    }))
}
