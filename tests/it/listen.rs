//! `listen` against the real edge: what it records, answers and acknowledges, and what it never loses.

mod answers;
mod durable;
mod ends;
mod everyday;
mod status;

use std::{
    fs::File,
    io::{BufRead as _, BufReader},
    process::{Child, Stdio},
};

use serde_json::Value;

use crate::{
    process::{Ended, ended, signal},
    site::{Site, json_lines, until},
};

/// A listener whose stdout goes to a file.
struct Listener {
    child: Child,
    out: std::path::PathBuf,
    said: String,
    stderr: Option<BufReader<std::process::ChildStderr>>,
}

impl Listener {
    /// Starts `listen` and waits until it listens.
    fn start(site: &Site, args: &[&str]) -> Self {
        Self::start_with(site, &[], args, Stdio::null())
    }

    /// As [`Listener::start`], with variables of the environment and something on stdin.
    fn start_with(site: &Site, env: &[(&str, &str)], args: &[&str], stdin: Stdio) -> Self {
        let out = site.path("listener.out");
        let mut command = site.gateway("listen", args);
        command.envs(env.iter().copied()).current_dir(site.path(""));
        let stdout = File::create(&out).unwrap();
        let mut child = command.stdin(stdin).stdout(stdout).stderr(Stdio::piped()).spawn().unwrap();
        let mut stderr = BufReader::new(child.stderr.take().unwrap());
        let mut said = String::new();
        while !said.ends_with("listening\n") {
            // It may end before it listens, by what the broker kept for it.
            if stderr.read_line(&mut said).unwrap() == 0 {
                break;
            }
        }
        Self { child, out, said, stderr: Some(stderr) }
    }

    /// The whole lines printed so far.
    fn lines(&self) -> Vec<Value> {
        let text = std::fs::read_to_string(&self.out).unwrap();
        json_lines(&text[..text.rfind('\n').map_or(0, |end| end + 1)])
    }

    /// Waits for so many lines that are wanted.
    fn wait(&self, count: usize, wanted: impl Fn(&Value) -> bool) -> Vec<Value> {
        let mut found = Vec::new();
        until("a line", || {
            found = self.lines().into_iter().filter(&wanted).collect();
            found.len() >= count
        });
        found
    }

    /// Waits for the end.
    fn ended(mut self) -> Ended {
        let mut said = self.said;
        std::io::Read::read_to_string(&mut self.stderr.take().unwrap(), &mut said).unwrap();
        let mut ended = ended(self.child);
        ended.lines = json_lines(&std::fs::read_to_string(&self.out).unwrap());
        ended.stderr = said;
        ended
    }

    /// Ends it with a signal.
    fn end(self, name: &str) -> Ended {
        signal(self.child.id(), name);
        self.ended()
    }
}
