//! The spool of an agent: what is queued while the edge is away.

use std::{
    collections::HashSet,
    fs,
    os::unix::fs::PermissionsExt as _,
    path::{Path, PathBuf},
    process::{Child, Command, Stdio},
};

use serde_json::Value;

use crate::process::{Ended, Service, ended, gateway, json_lines, run, run_with, signal, tuyagw, until};

/// A place for a socket, a spool, a registry and recordings, with the port of an edge that comes and goes.
struct Site {
    folder: tempfile::TempDir,
    broker: String,
}

impl Site {
    /// Synchronises these devices at an edge that then goes away.
    fn new(devices: &[&str]) -> Self {
        let folder = tempfile::tempdir().unwrap();
        fs::set_permissions(folder.path(), fs::Permissions::from_mode(0o700)).unwrap();
        let registry = folder.path().join("registry");
        let edge = Service::edge(&["--devices", registry.to_str().unwrap()]);
        for cid in devices {
            let sync = run(&mut gateway("sync", &edge.url, &["--cid", cid, "--product-id", "p"]));
            assert_eq!(sync.code, Some(0), "{sync:?}");
        }
        Self { broker: edge.url.clone(), folder }
    }

    fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    /// The edge, back at its port.
    fn edge(&self) -> Service {
        let mut command = tuyagw();
        command.args(["edge", "--listen", self.broker.strip_prefix("mqtt://").unwrap()]);
        Service::start(command.arg("--devices").arg(self.path("registry")).arg("--out").arg(self.path("out")))
    }

    /// An agent that has opened its spool.
    fn agent(&self, args: &[&str]) -> Agent {
        let mut command = gateway("agent", &self.broker, args);
        command.arg("--socket").arg(self.path("a.sock")).arg("--spool").arg(self.path("spool"));
        command.arg("--spool-results").arg(self.path("results"));
        let child = command.stdout(Stdio::null()).stderr(Stdio::piped()).spawn().unwrap();
        until("the agent answers", || self.status()["pid"] == child.id());
        Agent(Some(child))
    }

    fn status(&self) -> Value {
        let mut command = tuyagw();
        command.args(["agent", "status", "--json", "-b", &self.broker, "-g", "gw1", "--socket"]);
        serde_json::from_slice(&command.arg(self.path("a.sock")).output().unwrap().stdout).unwrap_or_default()
    }

    /// A subcommand through the agent.
    fn gateway(&self, subcommand: &str, args: &[&str]) -> Command {
        let mut command = gateway(subcommand, &self.broker, args);
        command.arg("--agent").arg(self.path("a.sock"));
        command
    }

    fn queue(&self, input: &str) -> Ended {
        run_with(&mut self.gateway("report", &["--queue", "-"]), input.as_bytes())
    }

    /// Waits until the spool is empty and has so many results, and returns them.
    fn results(&self, count: usize) -> Vec<Value> {
        let text = || fs::read_to_string(self.path("results")).unwrap_or_default();
        until("the spool is empty", || self.status()["spool"]["messages"] == 0);
        until("the results are written", || text().lines().count() >= count && text().ends_with('\n'));
        json_lines(&text())
    }
}

/// An agent, killed when dropped.
struct Agent(Option<Child>);

impl Agent {
    fn end(mut self) {
        let child = self.0.take().unwrap();
        signal(child.id(), "TERM");
        let ended = ended(child);
        assert_eq!(ended.code, Some(0), "{ended:?}");
    }
}

impl Drop for Agent {
    fn drop(&mut self) {
        if let Some(child) = &mut self.0 {
            child.kill().unwrap();
            child.wait().unwrap();
        }
    }
}

fn input(cids: &[&str], count: usize) -> String {
    let line = |n: usize| format!("{{\"cid\":\"{}\",\"id\":\"1\",\"value\":{n}}}\n", cids[n % cids.len()]);
    (0..count).map(line).collect()
}

/// The values that a recording has of a device, in their order, repetitions left out.
fn values_of(recording: &Path, cid: &str) -> Vec<u64> {
    let records = json_lines(&fs::read_to_string(recording).unwrap());
    let params = records.iter().filter(|it| it["kind"] == "report").map(|it| &it["payload"]["param"]);
    let mut values = Vec::new();
    for param in params.filter(|param| param["cid"] == cid) {
        let value = param["value"].as_u64().unwrap();
        if !values.contains(&value) {
            values.push(value);
        }
    }
    values
}

#[test]
fn what_was_queued_survives_a_killed_agent_and_arrives_in_order() {
    let site = Site::new(&["m1", "m2", "m3"]);
    let agent = site.agent(&[]);
    let queued = site.queue(&input(&["m1", "m2", "m3"], 300));
    assert_eq!((queued.code, queued.lines.len()), (Some(0), 300), "{}", queued.stderr);
    for line in &queued.lines {
        assert_eq!(
            (&line["ok"], &line["confirmed"], &line["queued"]),
            (&true.into(), &false.into(), &true.into())
        );
    }
    assert_eq!(site.status()["spool"]["messages"], 300);
    drop(agent);
    let agent = site.agent(&[]);
    assert_eq!(site.status()["spool"]["messages"], 300);
    let edge = site.edge();
    let results = site.results(300);
    assert!(results.iter().all(|result| result["ok"] == true && result["op"] == "report"), "{results:?}");
    let ids = |lines: &[Value]| {
        let mut ids: Vec<_> =
            lines.iter().map(|line| line["request_id"].as_str().unwrap().to_owned()).collect();
        ids.sort();
        ids
    };
    assert_eq!(ids(&results), ids(&queued.lines));
    agent.end();
    edge.end("TERM");
    for (n, cid) in ["m1", "m2", "m3"].into_iter().enumerate() {
        let expected: Vec<_> = (0..300).filter(|value| value % 3 == n as u64).collect();
        assert_eq!(values_of(&site.path("out"), cid), expected, "{cid}");
    }
}

#[test]
fn a_full_spool_refuses_messages_and_keeps_the_others() {
    let site = Site::new(&["m1"]);
    let agent = site.agent(&["--spool-max", "1MB"]);
    let queued = site.queue(&input(&["m1"], 20_000));
    assert_eq!((queued.code, queued.lines.len()), (Some(2), 20_000), "{}", queued.stderr);
    assert!(queued.stderr.contains("the spool is full"), "{}", queued.stderr);
    let (kept, refused): (Vec<_>, Vec<_>) = queued.lines.iter().partition(|line| line["ok"] == true);
    assert!(!kept.is_empty() && refused.iter().all(|line| line["error"] == "io"), "{:?}", refused[0]);
    let edge = site.edge();
    let results = site.results(kept.len());
    let ids: HashSet<_> = results.iter().map(|result| result["request_id"].as_str()).collect();
    assert!(kept.iter().all(|line| ids.contains(&line["request_id"].as_str())), "{} results", results.len());
    assert_eq!(kept.len(), results.len(), "what is refused is not kept");
    let again = site.queue(&input(&["m1"], 1));
    assert_eq!(again.code, Some(0), "{again:?}");
    agent.end();
    edge.end("TERM");
}

#[test]
fn a_refused_message_does_not_block_the_others() {
    let site = Site::new(&["m1"]);
    let agent = site.agent(&[]);
    let queued = site.queue(&input(&["m9", "m1"], 4));
    assert_eq!(queued.code, Some(0), "{queued:?}");
    let status = run(&mut site.gateway("status", &["--queue", "--online", "m1"]));
    assert_eq!((status.code, &status.line()["queued"]), (Some(0), &true.into()), "{status:?}");
    let edge = site.edge();
    let results = site.results(5);
    let mut said: Vec<_> = results
        .iter()
        .map(|result| {
            (result["cid"].as_str().unwrap(), result["op"].as_str().unwrap(), result["code"].as_i64())
        })
        .collect();
    said.sort_unstable();
    let expected = [
        ("m1", "report", Some(0)),
        ("m1", "report", Some(0)),
        ("m1", "status", None),
        ("m9", "report", Some(2003)),
        ("m9", "report", Some(2003)),
    ];
    assert_eq!(said, expected, "{results:?}");
    agent.end();
    edge.end("TERM");
}
