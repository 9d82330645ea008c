//! `edge -- PROGRAM`: a program that finds the edge in its environment and whose end is the edge's.

use std::{env, ffi::OsString, io, os::unix::process::ExitStatusExt as _, path::Path, process::ExitStatus};

use rustix::process::{Pid, Signal, kill_process, kill_process_group};
use tokio::process::{Child, Command};

use crate::failure::{Exit, Failure};

/// A program that runs against the edge.
#[derive(Debug)]
pub(super) struct Program {
    child: Child,
    has_group: bool,
}

/// What the program finds in its environment.
#[derive(Debug)]
pub(super) struct Environment<'a> {
    pub(super) broker: &'a str,
    pub(super) username: &'a str,
    pub(super) platform_username: &'a str,
    pub(super) ca_file: Option<&'a Path>,
}

/// Why a program does not run.
#[derive(Debug)]
pub(super) struct NotRun {
    pub(super) failure: Failure,
    /// 127 where there is no such program, as a shell has it, and 126 where it cannot be run.
    pub(super) exit: Exit,
}

impl Program {
    /// Starts a program; it owns stdin, stdout and stderr.
    pub(super) fn start(
        words: &[OsString],
        environment: &Environment<'_>,
        is_interactive: bool,
    ) -> Result<Self, NotRun> {
        let (program, arguments) = words.split_first().ok_or_else(|| NotRun {
            failure: Failure::invalid("no program is named after --"),
            exit: Exit::USAGE,
        })?;
        let mut command = Command::new(program);
        command.args(arguments);
        for (name, _) in env::vars_os() {
            if name.to_string_lossy().starts_with("TUYAGW_") {
                command.env_remove(name);
            }
        }
        command
            .env("TUYAGW_BROKER", environment.broker)
            .env("TUYAGW_GATEWAY_ID", "gw001")
            .env("TUYAGW_USERNAME", environment.username)
            .env("TUYAGW_PLATFORM_USERNAME", environment.platform_username)
            .env("TUYAGW_CONFIG", "/dev/null");
        if let Some(file) = environment.ca_file {
            command.env("TUYAGW_CA_FILE", std::path::absolute(file).unwrap_or_else(|_| file.to_owned()));
        }
        let path = path_with_this_binary();
        if let Some(path) = &path {
            command.env("PATH", path);
        }
        // On a terminal the program must stay in the foreground group, which also gets the keyboard's signals.
        if !is_interactive {
            command.process_group(0);
        }
        let child = command.spawn().map_err(|why| NotRun {
            failure: Failure::io(format!("cannot run {}: {why}", program.display())),
            exit: Exit(if why.kind() == io::ErrorKind::NotFound { 127 } else { 126 }),
        })?;
        Ok(Self { child, has_group: !is_interactive })
    }

    /// Waits for the program's end. Safe to drop at any point.
    pub(super) async fn wait(&mut self) -> Result<Exit, Failure> {
        let status = self.child.wait().await;
        status.map(exit_of).map_err(|why| Failure::io(format!("cannot wait for the program: {why}")))
    }

    /// Passes a signal on: to all of the program's group where it has its own.
    pub(super) fn signal(&self, exit: Exit) {
        let signal = if exit == Exit::INTERRUPTED { Signal::INT } else { Signal::TERM };
        // On a terminal the keyboard's SIGINT has reached the program already.
        if signal == Signal::INT && !self.has_group {
            return;
        }
        let id = self.child.id().and_then(|id| i32::try_from(id).ok()).and_then(Pid::from_raw);
        if let Some(id) = id {
            // It may have ended in this very moment.
            let _ = if self.has_group { kill_process_group(id, signal) } else { kill_process(id, signal) };
        }
    }
}

fn exit_of(status: ExitStatus) -> Exit {
    let code = status.code().or_else(|| status.signal().map(|signal| 128 + signal));
    Exit(code.and_then(|code| u8::try_from(code).ok()).unwrap_or(u8::MAX))
}

/// PATH with this binary's folder in front, so that the program's `tuyagw` is this one.
fn path_with_this_binary() -> Option<OsString> {
    let folder = env::current_exe().ok()?.parent()?.to_owned();
    let others = env::var_os("PATH").unwrap_or_default();
    env::join_paths(std::iter::once(folder).chain(env::split_paths(&others))).ok()
}
