//! How commands are executed: a fixed answer, or a program for each. One device's commands run in order,
//! different devices' concurrently.

use std::{
    collections::{HashMap, VecDeque},
    ffi::OsString,
    process::Stdio,
    time::Duration,
};

use bytes::Bytes;
use clap::{Args as _, FromArgMatches as _};
use rustix::process::{Pid, Signal, kill_process_group};
use serde::Deserialize;
use serde_json::Value;
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    task::JoinSet,
};

use super::Args;
use crate::{
    gateway::CommandKey,
    protocol::{Command, CommandAnswer, Envelope, ResultCode},
};

/// How much of a program's stdout is a reply; what follows is read and forgotten.
const LONGEST_REPLY: u64 = 64 * 1024;
/// How long the stdout of a program that has ended is read on.
const LAST_WORDS: Duration = Duration::from_millis(250);
/// How many programs run at once.
const CONCURRENT: usize = 32;
/// Secrets that a program has no need of.
const SECRETS: [&str; 2] = ["TUYAGW_PASSWORD", "TUYAGW_PLATFORM_PASSWORD"];

/// What answers the commands.
#[derive(Clone, Debug)]
pub enum Policy {
    /// The same code and message for all.
    Fixed(i64, String),
    /// A program and its arguments, within a time.
    Program {
        /// The program, then its arguments.
        command: Vec<OsString>,
        /// How long it may take.
        limit: Duration,
    },
}

/// A command to execute.
#[derive(Clone, Debug)]
pub struct Job {
    /// What tells it apart from others.
    pub key: CommandKey,
    /// The command.
    pub envelope: Envelope<Command>,
    /// The message as it came.
    pub payload: Bytes,
}

/// A command that has been executed.
#[derive(Clone, Debug)]
pub struct Executed {
    /// The command.
    pub job: Job,
    /// Its answer.
    pub answer: CommandAnswer,
    /// Why the program failed, where it has not said itself what to answer.
    pub problem: Option<String>,
}

/// The commands that are being executed or wait for their turn.
pub struct Executions {
    policy: Option<Policy>,
    running: JoinSet<Executed>,
    /// What waits behind a running command of the same device; a device is here while one of its commands runs.
    behind: HashMap<String, VecDeque<Job>>,
    /// What waits because too much is running.
    crowded: VecDeque<Job>,
    finished: VecDeque<Executed>,
}

impl Executions {
    /// Nothing to execute yet.
    pub fn new(policy: Option<Policy>) -> Self {
        Self {
            policy,
            running: JoinSet::new(),
            behind: HashMap::new(),
            crowded: VecDeque::new(),
            finished: VecDeque::new(),
        }
    }

    /// Whether nothing is executed or waits.
    pub fn is_empty(&self) -> bool {
        self.running.is_empty() && self.finished.is_empty() && self.crowded.is_empty()
    }

    /// Executes a command, now or when its device is free.
    pub fn push(&mut self, job: Job) {
        if let Some(queue) = self.behind.get_mut(&job.envelope.body.cid) {
            queue.push_back(job);
        } else {
            self.behind.insert(job.envelope.body.cid.clone(), VecDeque::new());
            self.start(job);
        }
    }

    fn start(&mut self, job: Job) {
        match &self.policy {
            None => {}
            Some(Policy::Fixed(code, msg)) => {
                let cid = job.envelope.body.cid.clone();
                let answer = CommandAnswer { cid, code: ResultCode(*code), msg: msg.clone() };
                self.finished.push_back(Executed { job, answer, problem: None });
            }
            Some(Policy::Program { .. }) if self.running.len() >= CONCURRENT => self.crowded.push_back(job),
            Some(Policy::Program { command, limit }) => {
                let (command, limit) = (command.clone(), *limit);
                self.running.spawn(async move {
                    let reply = match tokio::time::timeout(limit, program(&command, &job.payload)).await {
                        Ok(reply) => reply,
                        Err(_) => Err(format!("the program did not end in {limit:?}")),
                    };
                    let problem = reply.as_ref().err().cloned();
                    let (code, msg) = reply.unwrap_or_else(|why| (ResultCode::SYSTEM_ERROR.0, why));
                    let cid = job.envelope.body.cid.clone();
                    Executed { job, answer: CommandAnswer { cid, code: ResultCode(code), msg }, problem }
                });
            }
        }
    }

    /// The next command that has been executed. Cancel-safe.
    pub async fn next(&mut self) -> Executed {
        let done = match self.finished.pop_front() {
            Some(done) => done,
            None => match self.running.join_next().await {
                Some(Ok(done)) => done,
                // Nothing runs; a task neither panics nor is it aborted before the end.
                Some(Err(_)) | None => std::future::pending().await,
            },
        };
        let cid = &done.job.envelope.body.cid;
        if let Some(next) = self.behind.get_mut(cid).and_then(VecDeque::pop_front) {
            self.start(next);
        } else {
            self.behind.remove(cid);
        }
        if let Some(job) = self.crowded.pop_front() {
            self.start(job);
        }
        done
    }
}

/// Runs a program for one command; gives the code and the message to answer, or why it failed.
async fn program(command: &[OsString], payload: &[u8]) -> Result<(i64, String), String> {
    let Some((name, args)) = command.split_first() else { return Err("no program is given".into()) };
    let shown = name.to_string_lossy();
    let mut process = tokio::process::Command::new(name);
    process.args(args).stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::inherit()).process_group(0);
    for secret in SECRETS {
        process.env_remove(secret);
    }
    let mut child = match process.spawn() {
        Ok(child) => child,
        Err(why) => return Err(format!("cannot run {shown}: {why}")),
    };
    let running = Running(child.id());
    let (stdin, stdout) = (child.stdin.take(), child.stdout.take());
    let give = async {
        if let Some(mut stdin) = stdin {
            // A program that does not read its stdin is free not to.
            let _ = stdin.write_all(payload).await;
        }
    };
    let mut reply = Vec::new();
    let take = async {
        if let Some(mut stdout) = stdout {
            let _ = (&mut stdout).take(LONGEST_REPLY).read_to_end(&mut reply).await;
            // Whoever says more is heard to the end, so that saying much is no failure.
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
                // What it started may hold its stdout for ever; what it said itself is there already.
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
    let Some(Reply { code, msg }) = said(&reply) else { return by_status };
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

/// A program that runs, with all that it started: they are killed where nobody waits for it any more.
struct Running(Option<u32>);

impl Running {
    /// What it leaves behind is its own affair.
    fn has_ended(mut self) {
        self.0 = None;
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        let id = self.0.and_then(|id| i32::try_from(id).ok()).and_then(Pid::from_raw);
        if let Some(id) = id {
            // It may be gone already.
            let _ = kill_process_group(id, Signal::KILL);
        }
    }
}

/// What a program says of its result: an object with code, msg, or both.
#[derive(Debug, Deserialize, PartialEq)]
struct Reply {
    code: Option<Value>,
    msg: Option<Value>,
}

/// The reply in what a program has printed; anything but an object is none.
fn said(printed: &[u8]) -> Option<Reply> {
    serde_json::from_slice(printed).ok().filter(|_| printed.trim_ascii_start().starts_with(b"{"))
}

/// Parses `success` or `CODE[:MSG]`.
pub fn fixed(text: &str) -> Result<(i64, String), String> {
    if text == "success" {
        return Ok((0, text.to_owned()));
    }
    let (code, msg) = text.split_once(':').map_or((text, None), |(code, msg)| (code, Some(msg)));
    let code = code.parse().map_err(|_| "write success, a code such as 2001, or CODE:MESSAGE".to_owned())?;
    Ok((code, msg.unwrap_or(ResultCode(code).name()).to_owned()))
}

/// Takes those options of `listen` back that stand behind `--exec PROGRAM`, up to a `--`.
pub fn own_options(mut args: Args) -> Result<Args, clap::Error> {
    let command = Args::augment_args_for_update(clap::Command::new("tuyagw listen").no_binary_name(true));
    let is_own = |arg: &OsString| {
        let text = arg.to_string_lossy();
        let name = text.strip_prefix("--").map(|name| name.split_once('=').map_or(name, |(name, _)| name));
        name.is_some_and(|name| command.get_arguments().any(|known| known.get_long() == Some(name)))
    };
    let end = args.exec.iter().position(|arg| arg == "--");
    let own = args.exec.iter().take(end.unwrap_or(usize::MAX)).position(is_own);
    if let Some(own) = own {
        let rest = args.exec.split_off(own);
        let program = std::mem::take(&mut args.exec);
        args.update_from_arg_matches(&command.try_get_matches_from(rest)?)?;
        args.exec = program;
    } else if let Some(end) = end {
        args.exec.remove(end);
    }
    Ok(args)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_fixed_answer_is_success_or_a_code() {
        assert_eq!(fixed("success"), Ok((0, "success".into())));
        assert_eq!(fixed("2001"), Ok((2001, "device is offline".into())));
        assert_eq!(fixed("400:tedge error: stuck"), Ok((400, "tedge error: stuck".into())));
        assert!(fixed("maybe").is_err());
    }

    #[test]
    fn a_program_may_say_its_result_in_json() {
        let reply = |code, msg| Some(Reply { code, msg });
        assert_eq!(said(br#"{"code":2001}"#), reply(Some(2001.into()), None));
        assert_eq!(said(b" {\"msg\":\"done\"}\n"), reply(None, Some("done".into())));
        assert_eq!(said(br#"{"valve":"open"}"#), reply(None, None));
        for printed in [&b"done\n"[..], b"[1,2]", b"5", b"", b"{\"code\":"] {
            assert_eq!(said(printed), None);
        }
    }
}
