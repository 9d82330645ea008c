//! An edge with a folder of its own, which can be killed and restarted on its port, and its records read.

use std::{collections::BTreeMap, fs, path::PathBuf, process::Command, time::Duration};

use serde_json::Value;
use tempfile::TempDir;

pub use crate::process::{json_lines, until};
use crate::{
    process::{Ended, Service, gateway, run, run_with, tuyagw},
    wire::Client,
};

/// The edge, its folder and its records.
pub struct Site {
    folder: TempDir,
    /// `None` while it is down.
    edge: Option<Service>,
    address: String,
    args: Vec<String>,
}

impl Site {
    /// Starts an edge on a free port; its records go to a file in the folder.
    pub fn start(args: &[&str]) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let args: Vec<_> = args.iter().map(|arg| (*arg).to_owned()).collect();
        let edge = start(&folder, "127.0.0.1:0", &args);
        let address = edge.address().to_owned();
        Self { folder, edge: Some(edge), address, args }
    }

    /// The address of the edge, which stays the same when it restarts.
    pub fn broker(&self) -> String {
        self.address.clone()
    }

    /// A platform user that has logged in.
    pub fn platform(&self, client_id: &str) -> Client {
        self.edge.as_ref().unwrap().platform(client_id)
    }

    /// A file in the folder.
    pub fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    /// As [`Site::path`], as text.
    pub fn name(&self, name: &str) -> String {
        self.path(name).to_str().unwrap().to_owned()
    }

    /// Writes a file into the folder and gives its path.
    pub fn write(&self, name: &str, text: impl AsRef<[u8]>) -> String {
        fs::write(self.path(name), text).unwrap();
        self.name(name)
    }

    /// The text of a file in the folder; empty if the file is missing.
    pub fn read(&self, name: &str) -> String {
        String::from_utf8_lossy(&fs::read(self.path(name)).unwrap_or_default()).into_owned()
    }

    /// A subcommand of gateway gw1 at this edge, patient with a loaded machine.
    pub fn gateway(&self, subcommand: &str, args: &[&str]) -> Command {
        let mut args = args.to_vec();
        for (option, value) in [("--timeout", "30s"), ("--connect-timeout", "20s")] {
            // Arguments after --exec belong to the program.
            if !args.contains(&option) {
                args.splice(0..0, [option, value]);
            }
        }
        gateway(subcommand, &self.broker(), &args)
    }

    /// Runs a subcommand of gateway gw1 to its end.
    pub fn run(&self, subcommand: &str, args: &[&str]) -> Ended {
        run(&mut self.gateway(subcommand, args))
    }

    /// As [`Site::run`], with this on stdin.
    pub fn run_with(&self, subcommand: &str, args: &[&str], stdin: impl AsRef<[u8]>) -> Ended {
        run_with(&mut self.gateway(subcommand, args), stdin.as_ref())
    }

    /// A platform's command.
    pub fn command(&self, args: &[&str]) -> Command {
        let mut command = tuyagw();
        command.args(["command", "-b", &self.broker(), "-g", "gw1", "--timeout", "30s"]).args(args);
        command
    }

    /// Synchronises meters m1 to mN.
    pub fn sync(&self, count: usize) {
        let ended = self.run_with("sync", &["-", "--window", "200"], syncs(count));
        assert_eq!((ended.code, ended.lines.len()), (Some(0), count), "{}", ended.stderr);
    }

    /// Kills the edge.
    pub fn kill(&mut self) {
        self.edge = None;
    }

    /// Starts the edge again, on its port.
    pub fn restart(&mut self) {
        self.edge = Some(start(&self.folder, &self.address, &self.args));
    }

    /// Ends the edge in good order; returns what it has recorded.
    pub fn records(&mut self) -> Vec<Value> {
        if let Some(edge) = self.edge.take() {
            edge.end("TERM");
        }
        json_lines(&self.read("traffic.jsonl"))
    }

    /// As [`Site::records`], of one kind.
    pub fn records_of(&mut self, kind: &str) -> Vec<Value> {
        self.records().into_iter().filter(|record| record["kind"] == kind).collect()
    }
}

fn start(folder: &TempDir, address: &str, args: &[String]) -> Service {
    let mut command = tuyagw();
    command.args(["edge", "--listen", address, "--out", "traffic.jsonl"]).args(args);
    Service::start(command.current_dir(folder.path()))
}

/// Syncs as input lines: meter m1 to mN.
pub fn syncs(count: usize) -> String {
    let line = |n| format!("{{\"cid\":\"m{n}\",\"product_id\":\"p\"}}\n");
    (1..=count).map(line).collect::<Vec<_>>().concat()
}

/// Asserts that the indexes of the lines are 0 to `count` - 1, each once, in any order.
pub fn accounted(ended: &Ended, count: usize) {
    let mut indexes: Vec<_> = ended.lines.iter().filter_map(|line| line["index"].as_u64()).collect();
    indexes.sort_unstable();
    assert!(
        indexes.iter().copied().eq(0..count as u64),
        "{} lines of {count}: {}",
        indexes.len(),
        ended.stderr
    );
}

/// Asserts that each of `count` inputs has one result, which is `ok`.
pub fn all_accepted(ended: &Ended, count: usize) {
    accounted(ended, count);
    let bad = ended.lines.iter().find(|line| line["ok"] != true);
    assert_eq!((ended.code, bad), (Some(0), None), "{}", ended.stderr);
}

/// The request ids of uplinks by device; a resent or retried one keeps its id.
pub fn request_ids(records: &[Value]) -> BTreeMap<String, Vec<String>> {
    let mut ids = BTreeMap::<String, Vec<String>>::new();
    for record in records {
        let payload = &record["payload"];
        let text = |value: &Value| value.as_str().unwrap().to_owned();
        ids.entry(text(&payload["param"]["cid"])).or_default().push(text(&payload["request_id"]));
    }
    ids
}

/// Pseudo-random numbers. Prints its seed, which `SEED` sets, so that a failure can be repeated.
pub struct Dice(u64);

impl Dice {
    #[allow(clippy::print_stdout, reason = "a failed test shows it")]
    pub fn new() -> Self {
        let random = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).unwrap().as_micros();
        let given = std::env::var("SEED").ok().and_then(|seed| seed.parse().ok());
        let seed = given.unwrap_or(u64::try_from(random & 0xffff_ffff).unwrap());
        println!("SEED={seed}");
        Self(seed)
    }

    /// A number from `low` up to, not including, `high`.
    pub fn throw(&mut self, low: u64, high: u64) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        low + (z ^ (z >> 31)) % (high - low)
    }

    pub fn milliseconds(&mut self, low: u64, high: u64) -> Duration {
        Duration::from_millis(self.throw(low, high))
    }
}
