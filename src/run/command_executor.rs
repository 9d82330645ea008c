//! Executes commands: with a fixed answer, or with a program for each. Commands of one device run in order, those of different
//! devices concurrently.

use std::{
    collections::{HashMap, VecDeque},
    ffi::{OsStr, OsString},
    fs::File,
    io::Read as _,
    path::{Path, PathBuf},
    process::Stdio,
    time::Duration,
};

use bytes::Bytes;
use rustix::process::{Pid, Signal, kill_process_group};
use serde::Deserialize;
use serde_json::Value;
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    task::JoinSet,
};

use crate::{
    error::Failure,
    gateway::CommandKey,
    io::service_manager,
    tuya::{Command, CommandAnswer, Envelope, ResultCode},
};

/// Longest reply on a program's stdout; the rest is read and dropped.
const LONGEST_REPLY: u64 = 64 * 1024;
/// How long to read the stdout of a program after its end.
const LAST_WORDS: Duration = Duration::from_millis(250);
/// Most programs that run at once.
const CONCURRENT: usize = 32;
/// Most commands that wait for their turn, and most bytes of their messages.
const MOST_WAITING: usize = 1000;
const MOST_WAITING_BYTES: usize = 16 << 20;
/// Secrets that a program does not need.
const SECRETS: [&str; 2] = ["TUYAGW_PASSWORD", "TUYAGW_PLATFORM_PASSWORD"];

/// How commands are answered.
#[derive(Clone, Debug)]
pub enum CommandPolicy {
    /// The same code and message for all.
    Fixed(i64, String),
    /// A program, within a time limit.
    Program {
        /// The program, then its arguments.
        command: Vec<OsString>,
        /// How long it may take.
        limit: Duration,
    },
}

/// A command to execute.
#[derive(Clone, Debug)]
pub struct CommandJob {
    /// Its request id and device, as a key.
    pub key: CommandKey,
    /// The command.
    pub envelope: Envelope<Command>,
    /// The payload as it arrived.
    pub payload: Bytes,
}

/// An executed command.
#[derive(Clone, Debug)]
pub struct ExecutedCommand {
    /// The command.
    pub job: CommandJob,
    /// Its answer.
    pub answer: CommandAnswer,
    /// Why the program failed, if it gave no answer itself.
    pub problem: Option<String>,
}

/// Commands that run or wait for their turn.
pub struct CommandExecutor {
    policy: Option<CommandPolicy>,
    running: JoinSet<ExecutedCommand>,
    /// Commands behind an earlier one of the same device. A device is here from its first command until it has none.
    behind: HashMap<String, VecDeque<CommandJob>>,
    /// The next command of each device without a running one, in order. A device whose command has ended goes to the end, so
    /// that no device starves another.
    line: VecDeque<CommandJob>,
    /// The number of waiting commands, and the bytes of their messages.
    waiting: usize,
    waiting_bytes: usize,
    finished: VecDeque<ExecutedCommand>,
}

impl CommandExecutor {
    /// No commands yet.
    #[must_use]
    pub fn new(policy: Option<CommandPolicy>) -> Self {
        Self {
            policy,
            running: JoinSet::new(),
            behind: HashMap::new(),
            line: VecDeque::new(),
            waiting: 0,
            waiting_bytes: 0,
            finished: VecDeque::new(),
        }
    }

    /// Returns whether no command runs or waits.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.running.is_empty() && self.finished.is_empty() && self.line.is_empty()
    }

    /// Returns whether so many commands wait that the platform of a further one would give up before its turn.
    #[must_use]
    pub fn is_full(&self) -> bool {
        self.waiting >= MOST_WAITING || self.waiting_bytes >= MOST_WAITING_BYTES
    }

    /// Executes a command, when its device has no other and fewer than the limit of programs run.
    pub fn push(&mut self, job: CommandJob) {
        self.waiting += 1;
        self.waiting_bytes += job.payload.len();
        if let Some(queue) = self.behind.get_mut(&job.envelope.body.cid) {
            queue.push_back(job);
        } else {
            self.behind.insert(job.envelope.body.cid.clone(), VecDeque::new());
            self.line.push_back(job);
            self.fill();
        }
    }

    /// Starts the first commands in the line, up to the limit of programs.
    fn fill(&mut self) {
        while self.running.len() < CONCURRENT
            && let Some(job) = self.line.pop_front()
        {
            self.waiting -= 1;
            self.waiting_bytes -= job.payload.len();
            self.start(job);
        }
    }

    fn start(&mut self, job: CommandJob) {
        match &self.policy {
            None => {}
            Some(CommandPolicy::Fixed(code, msg)) => {
                let cid = job.envelope.body.cid.clone();
                let answer = CommandAnswer { cid, code: ResultCode(*code), msg: msg.clone() };
                self.finished.push_back(ExecutedCommand { job, answer, problem: None });
            }
            Some(CommandPolicy::Program { command, limit }) => {
                let (command, limit) = (command.clone(), *limit);
                self.running.spawn(async move {
                    let reply = match tokio::time::timeout(limit, run_program(&command, &job.payload)).await {
                        Ok(reply) => reply,
                        Err(_) => Err(format!("the program did not end in {limit:?}")),
                    };
                    let problem = reply.as_ref().err().cloned();
                    let (code, msg) = reply.unwrap_or_else(|why| (ResultCode::SYSTEM_ERROR.0, why));
                    let cid = job.envelope.body.cid.clone();
                    ExecutedCommand {
                        job,
                        answer: CommandAnswer { cid, code: ResultCode(code), msg },
                        problem,
                    }
                });
            }
        }
    }

    /// Returns an executed command, if there is one.
    pub fn try_next(&mut self) -> Option<ExecutedCommand> {
        let ended = || self.running.try_join_next()?.ok();
        let done = self.finished.pop_front().or_else(ended)?;
        self.handle_end(&done);
        Some(done)
    }

    /// Waits for the next executed command. Cancel-safe.
    pub async fn next(&mut self) -> ExecutedCommand {
        let done = match self.finished.pop_front() {
            Some(done) => done,
            None => match self.running.join_next().await {
                Some(Ok(done)) => done,
                // Nothing runs: tasks do not panic, and are not aborted before the end.
                Some(Err(_)) | None => std::future::pending().await,
            },
        };
        self.handle_end(&done);
        done
    }

    /// Puts the device's next command into the line.
    fn handle_end(&mut self, done: &ExecutedCommand) {
        let cid = &done.job.envelope.body.cid;
        match self.behind.get_mut(cid).and_then(VecDeque::pop_front) {
            Some(next) => self.line.push_back(next),
            None => {
                self.behind.remove(cid);
            }
        }
        self.fill();
    }
}

/// Checks that a program can be run. Called before listening, because otherwise each command would fail.
///
/// # Errors
/// A program that does not exist, is no file, is not executable, or whose `#!` line names an interpreter that does not exist.
pub fn check_program(name: &OsStr) -> Result<(), Failure> {
    let shown = Path::new(name).display();
    let invalid = |why: String, hint: &str| Err(Failure::invalid(format!("--exec: {why}")).hint(hint));
    let is_path = name.as_encoded_bytes().contains(&b'/');
    let path = if is_path {
        PathBuf::from(name)
    } else {
        let folders = std::env::var_os("PATH").unwrap_or_default();
        let found =
            std::env::split_paths(&folders).map(|folder| folder.join(name)).find(|path| path.is_file());
        match found {
            Some(path) => path,
            None => {
                return invalid(
                    format!("there is no program {shown} on the PATH"),
                    "Give the path of a program, such as ./valve.sh",
                );
            }
        }
    };
    match path.metadata() {
        Err(why) => {
            return invalid(
                format!("cannot run {shown}: {why}"),
                "Give the path of a program, such as ./valve.sh",
            );
        }
        Ok(file) if file.is_dir() => {
            return invalid(format!("{shown} is a folder"), "Give the path of a program in it");
        }
        Ok(_) => {}
    }
    if rustix::fs::access(&path, rustix::fs::Access::EXEC_OK).is_err() {
        return invalid(
            format!("{shown} may not be executed"),
            "Make it executable: chmod +x, or name its interpreter before it",
        );
    }
    match interpreter(&path) {
        Some(interpreter) if !Path::new(&interpreter).exists() => invalid(
            format!("{shown} names an interpreter that does not exist: {interpreter:?}"),
            if interpreter.ends_with('\r') {
                "Its lines end with CR LF: sed -i 's/\\r$//' removes the CR"
            } else {
                "Correct its first line"
            },
        ),
        _ => Ok(()),
    }
}

/// Returns the interpreter in the first line of a script; `None` if the file is no script.
fn interpreter(path: &Path) -> Option<String> {
    let mut beginning = [0; 256];
    let length = File::open(path).and_then(|mut file| file.read(&mut beginning)).ok()?;
    let line = beginning[..length].strip_prefix(b"#!")?.split(|byte| *byte == b'\n').next()?;
    let line = str::from_utf8(line).ok()?.trim_start_matches([' ', '\t']);
    Some(line.split([' ', '\t']).next()?.to_owned()).filter(|interpreter| !interpreter.is_empty())
}

/// Runs a program for one command; returns the code and the message of the answer, or why it failed.
async fn run_program(command: &[OsString], payload: &[u8]) -> Result<(i64, String), String> {
    let Some((name, args)) = command.split_first() else { return Err("no program is given".into()) };
    let shown = name.to_string_lossy();
    let mut process = tokio::process::Command::new(name);
    process.args(args).stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::inherit()).process_group(0);
    for name in SECRETS.into_iter().chain(service_manager::VARIABLES) {
        process.env_remove(name);
    }
    let mut child = match process.spawn() {
        Ok(child) => child,
        Err(why) => return Err(format!("cannot run {shown}: {why}")),
    };
    let running = RunningProgram(child.id());
    let (stdin, stdout) = (child.stdin.take(), child.stdout.take());
    let give = async {
        if let Some(mut stdin) = stdin {
            // A program need not read its stdin.
            let _ = stdin.write_all(payload).await;
        }
    };
    let mut reply = Vec::new();
    let take = async {
        if let Some(mut stdout) = stdout {
            let _ = (&mut stdout).take(LONGEST_REPLY).read_to_end(&mut reply).await;
            // Drain the rest, or a program that prints more than the limit dies of SIGPIPE.
            let _ = tokio::io::copy(&mut stdout, &mut tokio::io::sink()).await;
        }
    };
    let talk = async { tokio::join!(give, take) };
    let end = async {
        let status = child.wait().await;
        running.has_ended();
        status
    };
    let status = {
        let (mut talk, mut end) = (std::pin::pin!(talk), std::pin::pin!(end));
        tokio::select! {
            _ = &mut talk => end.await,
            status = &mut end => {
                // A process that it started may hold its stdout open; its own output is there already.
                let _ = tokio::time::timeout(LAST_WORDS, talk).await;
                status
            }
        }
    };
    let by_status = match status {
        Ok(status) if status.success() => Ok((0, "success".into())),
        Ok(status) => Err(format!("{shown} ended with {status}")),
        Err(why) => return Err(format!("cannot wait for {shown}: {why}")),
    };
    let Some(ProgramReply { code, msg }) = read_reply(&reply) else { return by_status };
    let msg = msg.as_ref().and_then(Value::as_str).map(str::to_owned);
    match (code, msg) {
        (None, None) => by_status,
        (None, Some(msg)) => Ok((by_status.map_or(ResultCode::SYSTEM_ERROR.0, |(code, _)| code), msg)),
        (Some(code), msg) => match code.as_i64() {
            Some(code) => Ok((code, msg.unwrap_or_else(|| ResultCode(code).name().to_owned()))),
            None => Err(format!("{shown} gave the code {code}, which is no integer")),
        },
    }
}

/// A running program and the processes that it started; dropping this kills them.
struct RunningProgram(Option<u32>);

impl RunningProgram {
    /// Kills nothing any more, because the program has ended: processes that it leaves behind may run on.
    fn has_ended(mut self) {
        self.0 = None;
    }
}

impl Drop for RunningProgram {
    fn drop(&mut self) {
        let id = self.0.and_then(|id| i32::try_from(id).ok()).and_then(Pid::from_raw);
        if let Some(id) = id {
            // The group may have ended already.
            let _ = kill_process_group(id, Signal::KILL);
        }
    }
}

/// The reply of a program: an object with code, msg, or both.
#[derive(Debug, Deserialize, PartialEq)]
struct ProgramReply {
    code: Option<Value>,
    msg: Option<Value>,
}

/// Reads the reply from a program's output; `None` if it is not an object.
fn read_reply(printed: &[u8]) -> Option<ProgramReply> {
    serde_json::from_slice(printed).ok().filter(|_| printed.trim_ascii_start().starts_with(b"{"))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn job(cid: &str, number: u64) -> CommandJob {
        let command = Command { cid: cid.into(), points: Vec::new() };
        let envelope = Envelope { t: 1, request_id: number.to_string(), body: command };
        let key = CommandKey::of(&envelope.request_id, &envelope.body);
        CommandJob { key, envelope, payload: Bytes::from_static(&[b' '; 1024]) }
    }

    fn program_executor() -> CommandExecutor {
        let command = vec!["true".into()];
        CommandExecutor::new(Some(CommandPolicy::Program { command, limit: Duration::from_mins(1) }))
    }

    /// Ten commands of each of 32 devices, and only then one of another device: it is the next in the line.
    #[tokio::test(flavor = "current_thread")]
    async fn a_device_whose_command_has_ended_goes_behind_those_that_wait() {
        let mut executor = program_executor();
        let busy: Vec<_> = (0..CONCURRENT).map(|device| format!("m{device}")).collect();
        for number in 0..10 {
            for cid in &busy {
                executor.push(job(cid, number));
            }
        }
        executor.push(job("late", 0));
        let mut order = Vec::new();
        while !executor.is_empty() {
            order.push(executor.next().await.job);
        }
        assert_eq!((order.len(), executor.waiting, executor.waiting_bytes), (10 * CONCURRENT + 1, 0, 0));
        let late = order.iter().position(|job| job.envelope.body.cid == "late").unwrap();
        // It starts with the first free place, and what was started with it may end first.
        assert!(late <= 2 * CONCURRENT, "{late}");
        for cid in &busy {
            let numbers: Vec<_> = order
                .iter()
                .filter(|job| job.envelope.body.cid == *cid)
                .map(|job| job.envelope.request_id.parse::<u64>().unwrap())
                .collect();
            assert_eq!(numbers, (0..10).collect::<Vec<_>>());
        }
    }

    #[tokio::test(flavor = "current_thread")]
    async fn what_waits_is_bounded_by_number_and_bytes() {
        let mut executor = program_executor();
        let mut number = 0;
        while !executor.is_full() {
            executor.push(job("m1", number));
            number += 1;
        }
        // The first one runs.
        assert_eq!(number, 1 + MOST_WAITING as u64);
        executor.waiting_bytes += MOST_WAITING_BYTES;
        executor.waiting = 0;
        assert!(executor.is_full());
    }

    #[test]
    fn a_program_that_cannot_run_is_refused_with_its_reason() {
        let folder = tempfile::tempdir().unwrap();
        let script = |name: &str, text: &str, mode: u32| {
            let path = folder.path().join(name);
            std::fs::write(&path, text).unwrap();
            std::fs::set_permissions(&path, std::os::unix::fs::PermissionsExt::from_mode(mode)).unwrap();
            path
        };
        let said = |path: &Path| check_program(path.as_os_str()).map_err(|why| why.message);
        for good in ["sh", "/bin/sh"] {
            assert_eq!(check_program(OsStr::new(good)), Ok(()));
        }
        assert_eq!(said(&script("good.sh", "#! /bin/sh -e\n", 0o755)), Ok(()));
        for (path, says) in [
            (folder.path().join("nofile"), "No such file"),
            (folder.path().to_owned(), "is a folder"),
            (script("closed.sh", "#!/bin/sh\n", 0o644), "may not be executed"),
            (script("windows.sh", "#!/bin/sh\r\n", 0o755), r#"does not exist: "/bin/sh\r""#),
            (PathBuf::from("no-such-program-anywhere"), "on the PATH"),
        ] {
            assert!(said(&path).is_err_and(|why| why.contains(says)), "{path:?}: {:?}", said(&path));
        }
    }

    #[test]
    fn a_program_may_say_its_result_in_json() {
        let reply = |code, msg| Some(ProgramReply { code, msg });
        assert_eq!(read_reply(br#"{"code":2001}"#), reply(Some(2001.into()), None));
        assert_eq!(read_reply(b" {\"msg\":\"done\"}\n"), reply(None, Some("done".into())));
        assert_eq!(read_reply(br#"{"valve":"open"}"#), reply(None, None));
        for printed in [&b"done\n"[..], b"[1,2]", b"5", b"", b"{\"code\":"] {
            assert_eq!(read_reply(printed), None);
        }
    }
}
