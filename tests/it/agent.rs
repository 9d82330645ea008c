//! The agent, and the programs that go through it, each at an edge of its own and with a folder of its own for the socket.

mod commands;
mod failures;
mod sameness;
mod security;
mod service;
mod spool;

use std::{
    fs::{self, File, Permissions},
    os::unix::fs::PermissionsExt as _,
    path::{Path, PathBuf},
    process::{Child, Command, ExitStatus},
};

use serde_json::Value;
use tempfile::TempDir;

use crate::{
    process::{Ended, gateway, json_lines, run, run_with, signal, until},
    site::Site,
};

/// An agent of gateway gw1 at an edge. Both are killed when dropped.
pub struct AgentSite {
    pub site: Site,
    /// The folder in which programs look for the socket, and where the agent's streams go.
    runtime: TempDir,
    agent: Option<Child>,
    args: Vec<String>,
}

impl AgentSite {
    /// Starts an edge and an agent, and waits for the connection between them.
    pub fn start(args: &[&str]) -> Self {
        Self::with_edge(&[], args)
    }

    /// As [`AgentSite::start`], with options of the edge.
    pub fn with_edge(edge_args: &[&str], args: &[&str]) -> Self {
        let mut site = Self::without_agent(edge_args, args);
        site.launch();
        site.wait_connected();
        site
    }

    /// Starts an edge; the agent is to have these options.
    pub fn without_agent(edge_args: &[&str], args: &[&str]) -> Self {
        let runtime = tempfile::tempdir().unwrap();
        fs::set_permissions(runtime.path(), Permissions::from_mode(0o700)).unwrap();
        let args = args.iter().map(|arg| (*arg).to_owned()).collect();
        Self { site: Site::start(edge_args), runtime, agent: None, args }
    }

    /// A file in the folder of the socket.
    pub fn path(&self, name: &str) -> PathBuf {
        self.runtime.path().join(name)
    }

    /// As [`AgentSite::path`], as text.
    pub fn name(&self, name: &str) -> String {
        self.path(name).to_str().unwrap().to_owned()
    }

    /// The agent as a command.
    pub fn agent_command(&self) -> Command {
        let args: Vec<_> = self.args.iter().map(String::as_str).collect();
        self.isolated(gateway(
            "agent",
            &self.site.broker(),
            &[&["--connect-timeout", "20s"][..], &args].concat(),
        ))
    }

    /// Starts the agent without waiting for anything.
    pub fn launch(&mut self) {
        assert!(self.agent.is_none(), "an agent runs");
        let append = |name: &str| File::options().create(true).append(true).open(self.path(name)).unwrap();
        let mut command = self.agent_command();
        command.stdout(append("agent.jsonl")).stderr(append("agent.err"));
        self.agent = Some(command.spawn().unwrap());
    }

    /// Waits until the agent is connected to the edge.
    pub fn wait_connected(&self) {
        self.wait_status("the agent is connected", |status| status["connected"] == true);
    }

    /// Waits until the agent says something of itself.
    pub fn wait_status(&self, what: &str, is_wanted: impl Fn(&Value) -> bool) {
        until(&format!("{what}; its stderr:\n{}", self.stderr()), || {
            let ended = self.status();
            ended.lines.first().is_some_and(&is_wanted)
        });
    }

    /// Runs `agent status --json`.
    pub fn status(&self) -> Ended {
        self.control("status", &["--json"])
    }

    /// Runs `agent status`, `agent stop` or `agent reload`.
    pub fn control(&self, verb: &str, args: &[&str]) -> Ended {
        let mut command = crate::process::tuyagw();
        command.args(["agent", verb, "-b", &self.site.broker(), "-g", "gw1", "-u", "acme"]).args(args);
        command.args(["--connect-timeout", "20s"]);
        run(&mut self.isolated(command))
    }

    /// Gives a command this site's folder for the socket.
    pub fn isolated(&self, mut command: Command) -> Command {
        command.env("XDG_RUNTIME_DIR", self.runtime.path());
        command
    }

    /// A subcommand of gateway gw1 which looks for the agent.
    pub fn program(&self, subcommand: &str, args: &[&str]) -> Command {
        self.isolated(self.site.gateway(subcommand, args))
    }

    /// Runs a subcommand of gateway gw1 to its end.
    pub fn run(&self, subcommand: &str, args: &[&str]) -> Ended {
        run(&mut self.program(subcommand, args))
    }

    /// As [`AgentSite::run`], with this on stdin.
    pub fn run_with(&self, subcommand: &str, args: &[&str], stdin: impl AsRef<[u8]>) -> Ended {
        run_with(&mut self.program(subcommand, args), stdin.as_ref())
    }

    /// The socket; the agent must have made it.
    pub fn socket(&self) -> PathBuf {
        let is_socket = |path: &PathBuf| path.extension().is_some_and(|it| it == "sock");
        let entries = fs::read_dir(self.path("tuyagw")).unwrap();
        entries.map(|entry| entry.unwrap().path()).find(is_socket).expect("a socket")
    }

    /// The lock beside the socket.
    pub fn lock(&self) -> PathBuf {
        self.socket().with_extension("lock")
    }

    /// What all agents of this site have said on stderr.
    pub fn stderr(&self) -> String {
        let text = read(&self.path("agent.err"));
        assert!(!text.contains("panicked"), "{text}");
        text
    }

    /// The records of all agents of this site on stdout.
    pub fn records(&self) -> Vec<Value> {
        json_lines(&read(&self.path("agent.jsonl")))
    }

    pub fn id(&self) -> u32 {
        self.agent.as_ref().unwrap().id()
    }

    /// Kills the agent.
    pub fn kill(&mut self) {
        let mut agent = self.agent.take().unwrap();
        agent.kill().unwrap();
        agent.wait().unwrap();
    }

    /// Ends the agent with a signal.
    pub fn end(&mut self, name: &str) -> ExitStatus {
        signal(self.id(), name);
        self.ended()
    }

    /// Waits until the agent has ended by itself.
    pub fn ended(&mut self) -> ExitStatus {
        let mut agent = self.agent.take().unwrap();
        let mut status = None;
        until("the agent ends", || {
            status = agent.try_wait().unwrap();
            status.is_some()
        });
        self.stderr();
        status.unwrap()
    }
}

impl Drop for AgentSite {
    fn drop(&mut self) {
        if self.agent.is_some() {
            self.kill();
        }
    }
}

fn read(path: &Path) -> String {
    String::from_utf8_lossy(&fs::read(path).unwrap_or_default()).into_owned()
}

/// Result lines in the order of the input, without what differs from run to run.
pub fn comparable(ended: &Ended) -> Vec<Value> {
    let mut lines = ended.lines.clone();
    lines.sort_by_key(|line| line["index"].as_u64());
    for line in &mut lines {
        let line = line.as_object_mut().unwrap();
        line.remove("request_id");
        line.remove("rtt_ms");
    }
    lines
}
