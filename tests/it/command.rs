//! The program as a command, independent of the environment in which the tests run. The benchmarks include this file.

use std::{
    process::{Command, Stdio},
    time::Duration,
};

/// The longest wait of a test, for a process, a socket or a condition. Nothing is concluded from how long one takes.
pub const LIMIT: Duration = Duration::from_mins(1);

/// The path of the program.
pub const PROGRAM: &str = env!("CARGO_BIN_EXE_tuyagw");

/// The program with SIGINT at its default action, even if the tests run in the background of a script, which ignores it.
fn program() -> Command {
    let status = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
    let mask = status.lines().find_map(|line| line.strip_prefix("SigIgn:")).unwrap_or_default();
    let ignored = u64::from_str_radix(mask.trim(), 16).unwrap_or_default();
    if ignored >> 1 & 1 == 0 {
        return Command::new(assert_cmd::cargo::cargo_bin!("tuyagw"));
    }
    let mut command = Command::new("env");
    command.arg("--default-signal=INT").arg(PROGRAM);
    command
}

/// The program, without the developer's settings.
pub fn tuyagw() -> Command {
    isolated(program())
}

/// Hides the developer's settings from a command, and gives it an empty stdin.
pub fn isolated(mut command: Command) -> Command {
    for (name, _) in std::env::vars_os() {
        if name.to_string_lossy().starts_with("TUYAGW_") {
            command.env_remove(name);
        }
    }
    command.env("TUYAGW_CONFIG", "/dev/null").stdin(Stdio::null());
    command
}
