//! `edge -- PROGRAM`: runs a program that finds the edge in its environment; the edge ends with it.

use std::{
    env,
    ffi::OsString,
    fs::File,
    io::{self, Write as _},
    os::unix::process::{CommandExt as _, ExitStatusExt as _},
    path::Path,
    process::{self, ExitStatus, Stdio},
    time::{Duration, Instant},
};

use rustix::process::{
    Pid, Signal, getpgrp, kill_process, kill_process_group, test_kill_process, test_kill_process_group,
};
use rustix::termios::tcgetpgrp;
use tokio::process::{Child, Command};

use crate::{
    error::{Exit, Failure},
    run::runtime::sleep_until,
};

/// How long a program may run after SIGTERM before it is killed.
const GRACE: Duration = Duration::from_secs(5);

/// How often to check whether processes of the group are left.
const LOOK: Duration = Duration::from_millis(10);

/// A program that runs against the edge.
#[derive(Debug)]
pub(crate) struct Program {
    child: Child,
    target: SignalTarget,
    /// The terminal that the program shares with the edge.
    terminal: Option<File>,
    /// When the program is killed, after SIGTERM was sent to it.
    kill_at: Option<Instant>,
    guard: Option<Guard>,
}

/// What the program finds in its environment.
#[derive(Debug)]
pub(crate) struct Environment<'a> {
    pub(crate) broker: &'a str,
    pub(crate) username: &'a str,
    pub(crate) platform_username: &'a str,
    pub(crate) ca_file: Option<&'a Path>,
}

/// Why a program does not run.
#[derive(Debug)]
pub(crate) struct NotRun {
    pub(crate) failure: Failure,
    /// 127 if there is no such program, and 126 if it cannot be run, as in a shell.
    pub(crate) exit: Exit,
}

impl Program {
    /// Starts a program; stdin, stdout and stderr are its own.
    pub(crate) fn start(words: &[OsString], environment: &Environment<'_>) -> Result<Self, NotRun> {
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
        // A process of a background group that reads its terminal is stopped. So the program stays in the edge's
        // group if there is a terminal; the keyboard's signals then reach both.
        let terminal = File::open("/dev/tty").ok();
        if terminal.is_none() {
            command.process_group(0);
        }
        // Before the program: a Ctrl-Z for the program, once that runs, must not stop a child of the edge before its exec,
        // for which the edge waits in a way that nothing interrupts.
        let mut guard = Guard::start(terminal.is_none());
        let child = command.kill_on_drop(true).spawn().map_err(|why| NotRun {
            failure: Failure::io(format!("cannot run {}: {why}", program.display())),
            exit: Exit(if why.kind() == io::ErrorKind::NotFound { 127 } else { 126 }),
        })?;
        let id = child.id().and_then(|id| i32::try_from(id).ok()).and_then(Pid::from_raw);
        let target = SignalTarget { id, is_group: terminal.is_none() };
        if let Some(guard) = &mut guard {
            guard.watch(target);
        }
        Ok(Self { child, target, terminal, kill_at: None, guard })
    }

    /// Waits for the program's end; kills it if it does not end in time after SIGTERM. Safe to drop at any point.
    pub(crate) async fn wait(&mut self) -> Result<Exit, Failure> {
        tokio::select! {
            status = self.child.wait() => return outcome(status),
            () = sleep_until(self.kill_at) => self.target.signal(Signal::KILL),
        }
        outcome(self.child.wait().await)
    }

    /// Passes a signal on; after SIGTERM the program has its grace.
    pub(crate) fn signal(&mut self, exit: Exit) {
        if exit == Exit::INTERRUPTED {
            if !self.is_reached_by_keyboard() {
                self.target.signal(Signal::INT);
            }
        } else {
            self.target.signal(Signal::TERM);
            self.kill_at.get_or_insert_with(|| Instant::now() + GRACE);
        }
    }

    /// Whether the program gets the keyboard's SIGINT, so that it must not get the edge's as well.
    fn is_reached_by_keyboard(&self) -> bool {
        let foreground = self.terminal.as_ref().and_then(|terminal| tcgetpgrp(terminal).ok());
        foreground == Some(getpgrp())
    }

    /// Ends the program and the processes that it started: with SIGTERM, and after the grace with SIGKILL.
    pub(crate) async fn end(&mut self) {
        self.signal(Exit::TERMINATED);
        // If waiting fails, nothing else can be done.
        let _ = self.wait().await;
        if !self.target.is_group {
            return;
        }
        while self.target.exists() && self.kill_at.is_none_or(|kill_at| Instant::now() < kill_at) {
            tokio::time::sleep(LOOK).await;
        }
        self.target.signal(Signal::KILL);
    }
}

impl Drop for Program {
    /// Dismisses the guard, because the edge has ended the program itself.
    fn drop(&mut self) {
        if let Some(guard) = self.guard.take() {
            guard.dismiss();
        }
    }
}

/// The receiver of signals: the program's group, or the program alone if it shares the edge's group.
#[derive(Clone, Copy, Debug)]
struct SignalTarget {
    id: Option<Pid>,
    is_group: bool,
}

impl SignalTarget {
    /// Sends a signal, and continues a stopped program so that it acts on it.
    fn signal(self, signal: Signal) {
        let Some(id) = self.id else { return };
        for signal in [signal, Signal::CONT] {
            // The program may have ended just now.
            let _ = if self.is_group { kill_process_group(id, signal) } else { kill_process(id, signal) };
        }
    }

    fn exists(self) -> bool {
        let test = if self.is_group { test_kill_process_group } else { test_kill_process };
        self.id.is_some_and(|id| test(id).is_ok())
    }
}

/// A shell that ends the program if the edge is killed.
///
/// The kernel can signal a child at its parent's death, but that is asked for between fork and exec, which takes
/// `unsafe` code, and would reach the program alone, not what it has started. The shell waits for the end of a pipe
/// whose other end only the edge holds.
#[derive(Debug)]
struct Guard(process::Child);

impl Guard {
    const SCRIPT: &str = r#"trap '' INT QUIT TSTP TTIN TTOU HUP
        read -r target && ! read -r dismissed || exit
        kill -s TERM -- "$target"; kill -s CONT -- "$target"
        left=50
        while kill -s 0 -- "$target" && [ $left -gt 0 ]; do sleep 0.1; left=$((left - 1)); done
        kill -s KILL -- "$target""#;

    /// Starts the guard; without a shell the program is not guarded.
    fn start(has_own_group: bool) -> Option<Self> {
        let mut command = process::Command::new("/bin/sh");
        command
            .args(["-c", Self::SCRIPT, "tuyagw-guard"])
            .env_clear()
            .env("PATH", "/usr/local/bin:/usr/bin:/bin")
            .stdin(Stdio::piped())
            .stdout(Stdio::null())
            .stderr(Stdio::null());
        // A signal to the edge's group must not reach the guard. On a terminal it ignores the keyboard's.
        if has_own_group {
            command.process_group(0);
        }
        command.spawn().ok().map(Self)
    }

    /// Sends the target to the guard.
    fn watch(&mut self, target: SignalTarget) {
        let id = target.id.map_or(0, |id| id.as_raw_nonzero().get());
        let whom = if target.is_group { -id } else { id };
        if id != 0
            && let Some(pipe) = &mut self.0.stdin
        {
            // Without a guard the program runs unguarded.
            let _ = writeln!(pipe, "{whom}");
        }
    }

    fn dismiss(mut self) {
        let is_told = self.0.stdin.take().is_some_and(|mut pipe| pipe.write_all(b"dismissed\n").is_ok());
        if !is_told {
            let _ = self.0.kill();
        }
        let _ = self.0.wait();
    }
}

fn outcome(status: io::Result<ExitStatus>) -> Result<Exit, Failure> {
    status.map(exit_of).map_err(|why| Failure::io(format!("cannot wait for the program: {why}")))
}

fn exit_of(status: ExitStatus) -> Exit {
    let code = status.code().or_else(|| status.signal().map(|signal| 128 + signal));
    Exit(code.and_then(|code| u8::try_from(code).ok()).unwrap_or(u8::MAX))
}

/// Returns PATH with this binary's folder in front, so that the program's `tuyagw` is this one.
fn path_with_this_binary() -> Option<OsString> {
    let folder = env::current_exe().ok()?.parent()?.to_owned();
    let others = env::var_os("PATH").unwrap_or_default();
    env::join_paths(std::iter::once(folder).chain(env::split_paths(&others))).ok()
}
