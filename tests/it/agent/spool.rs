//! What is queued while the edge is away, and what becomes of it.

use std::{collections::BTreeMap, fs, process::Stdio};

use serde_json::{Value, json};

use super::{AgentSite, read};
use crate::{
    process::{Ended, json_lines},
    site::{accounted, all_accepted, syncs},
};

/// A site whose agent has a spool; its edge keeps its devices, and meters m1 to m5 exist.
struct SpoolSite {
    site: AgentSite,
    _registry: tempfile::TempDir,
}

impl SpoolSite {
    fn start(args: &[&str]) -> Self {
        let registry = tempfile::tempdir().unwrap();
        let devices = registry.path().join("registry.jsonl");
        let mut site = AgentSite::without_agent(&["--devices", devices.to_str().unwrap()], &[]);
        let spool = ["--spool", &site.name("spool"), "--spool-results", &site.name("results.jsonl")];
        site.args = spool.iter().chain(args).map(|arg| (*arg).to_owned()).collect();
        site.launch();
        site.wait_connected();
        all_accepted(&site.run_with("sync", &["-"], syncs(5)), 5);
        Self { site, _registry: registry }
    }

    /// Takes the edge away, and waits until the agent knows.
    fn cut(&mut self) {
        self.site.site.kill();
        self.site.wait_status("the loss is known", |status| status["connected"] == false);
    }

    fn mend(&mut self) {
        self.site.site.restart();
        self.site.wait_connected();
    }

    /// Queues reports; each must be accepted.
    fn queue(&self, input: &str) {
        let ended = self.site.run_with("report", &["-", "--queue"], input);
        is_queued(&ended, input.lines().count());
    }

    fn wait_empty(&self) {
        self.site.wait_status("the spool is empty", |status| status["spool"]["messages"] == 0);
    }

    fn results(&self) -> Vec<Value> {
        json_lines(&read(&self.site.path("results.jsonl")))
    }

    /// The values of reports at the edge, by device; a repeat of the one before is what at least once allows.
    fn delivered(&mut self) -> BTreeMap<String, Vec<i64>> {
        let mut values = BTreeMap::<String, Vec<i64>>::new();
        for record in self.site.site.records_of("report") {
            let param = &record["payload"]["param"];
            values
                .entry(param["cid"].as_str().unwrap().to_owned())
                .or_default()
                .push(param["value"].as_i64().unwrap());
        }
        values
    }
}

fn is_queued(ended: &Ended, count: usize) {
    all_accepted(ended, count);
    for line in &ended.lines {
        assert_eq!((&line["confirmed"], &line["queued"]), (&json!(false), &json!(true)), "{line}");
        assert_eq!(line.get("code"), None, "{line}");
    }
}

/// Reports of meters m1 to m5 in turn, with the values from `first` on and a time stamp that tells them apart.
fn values(first: usize, count: usize) -> String {
    let line = |n| {
        let (meter, t) = (n % 5 + 1, 1_700_000_000 + n);
        format!("{{\"cid\":\"m{meter}\",\"code\":\"water_flow\",\"value\":{n},\"t\":{t}}}\n")
    };
    (first..first + count).map(line).collect::<Vec<_>>().concat()
}

fn in_order(delivered: &BTreeMap<String, Vec<i64>>, count: i64) {
    let mut all = Vec::<i64>::new();
    for (cid, values) in delivered {
        assert!(values.is_sorted(), "{cid}: {values:?}");
        all.extend(values);
    }
    all.sort_unstable();
    all.dedup();
    assert!(all.iter().copied().eq(0..count), "{} of {count}", all.len());
}

#[test]
fn what_is_queued_arrives_in_order_with_its_own_time() {
    let mut site = SpoolSite::start(&[]);
    site.cut();
    site.queue(&values(0, 100));
    let ended = site.site.run("status", &["--queue", "--online", "m1,m2"]);
    is_queued(&ended, 2);
    site.site.wait_status("all are kept", |status| status["spool"]["messages"] == 101);
    site.mend();
    site.wait_empty();
    let status = site.site.status();
    assert_eq!(status.line()["spool"]["delivered"], 101, "{status:?}");
    assert_eq!(site.site.end("TERM").code(), Some(0));
    let results = site.results();
    assert_eq!(results.len(), 101);
    assert!(results.iter().all(|line| line["ok"] == true), "{results:#?}");
    assert_eq!(site.site.site.records_of("status").len(), 1);
    for record in site.site.site.records_of("report") {
        let payload = &record["payload"];
        let n = payload["param"]["value"].as_i64().unwrap();
        assert_eq!(payload["t"], 1_700_000_000 + n);
    }
    in_order(&site.delivered(), 100);
}

#[test]
fn what_is_queued_while_the_edge_is_there_arrives_too() {
    let mut site = SpoolSite::start(&[]);
    site.queue(&values(0, 50));
    site.wait_empty();
    assert_eq!(site.site.end("TERM").code(), Some(0));
    in_order(&site.delivered(), 50);
    assert_eq!(site.results().len(), 50);
}

#[test]
fn the_spool_survives_kills_of_agent_and_edge() {
    let mut site = SpoolSite::start(&["--spool-rate", "100/s"]);
    site.cut();
    site.queue(&values(0, 100));
    site.site.kill();
    site.site.launch();
    site.site.wait_status("all are kept", |status| status["spool"]["messages"] == 100);
    site.queue(&values(100, 100));
    site.mend();
    site.site.wait_status("some are delivered", |status| status["spool"]["delivered"].as_u64() > Some(20));
    site.site.kill();
    site.site.launch();
    site.site.wait_status("some are delivered", |status| status["spool"]["delivered"].as_u64() > Some(20));
    site.wait_empty();
    assert_eq!(site.site.end("TERM").code(), Some(0));
    in_order(&site.delivered(), 200);
}

#[test]
fn a_program_that_is_killed_leaves_only_whole_messages() {
    let mut site = SpoolSite::start(&[]);
    site.cut();
    let input = site.site.site.write("input.jsonl", values(0, 5000));
    let mut command = site.site.program("report", &["--queue", &input]);
    let mut child = command.stdout(Stdio::null()).stderr(Stdio::null()).spawn().unwrap();
    site.site.wait_status("some are kept", |status| status["spool"]["messages"].as_u64() > Some(100));
    child.kill().unwrap();
    child.wait().unwrap();
    site.mend();
    site.wait_empty();
    let kept = site.site.status().line()["spool"]["delivered"].as_i64().unwrap();
    assert_eq!(site.site.end("TERM").code(), Some(0));
    in_order(&site.delivered(), kept);
    assert!(site.results().iter().all(|line| line["ok"] == true));
}

#[test]
fn the_rate_holds_for_spooled_messages() {
    let mut site = SpoolSite::start(&["--spool-rate", "1/s"]);
    site.cut();
    site.queue(&values(0, 50));
    site.mend();
    site.site.wait_status("one is delivered", |status| status["spool"]["delivered"].as_u64() >= Some(1));
    // Live ones of other devices are not held up by it.
    all_accepted(&site.site.run_with("sync", &["-"], "{\"cid\":\"m9\",\"product_id\":\"p\"}\n"), 1);
    let live = "{\"cid\":\"m9\",\"code\":\"water_flow\",\"value\":1}\n".repeat(100);
    all_accepted(&site.site.run_with("report", &["-"], live), 100);
    // A minute would be needed for all; what a busy machine does in seconds is less.
    let delivered = site.site.status().line()["spool"]["delivered"].as_u64().unwrap();
    assert!(delivered < 50, "{delivered} of 50 were sent at once");
}

#[test]
fn what_the_edge_refuses_is_in_the_results_and_blocks_nothing() {
    let mut site = SpoolSite::start(&[]);
    site.cut();
    site.queue("{\"cid\":\"stranger\",\"code\":\"water_flow\",\"value\":1}\n");
    site.queue(&values(0, 10));
    site.queue("{\"cid\":\"stranger\",\"code\":\"water_flow\",\"value\":2}\n");
    site.mend();
    site.wait_empty();
    let status = site.site.status();
    assert_eq!(status.line()["spool"]["refused"], 2, "{status:?}");
    assert_eq!(site.site.end("TERM").code(), Some(0));
    let results = site.results();
    let refused: Vec<_> = results.iter().filter(|line| line["ok"] == false).collect();
    assert_eq!((results.len(), refused.len()), (12, 2), "{results:#?}");
    for line in refused {
        assert_eq!(
            (&line["code"], &line["cid"], &line["op"]),
            (&json!(2003), &json!("stranger"), &json!("report"))
        );
    }
}

#[test]
fn a_full_spool_refuses_with_io_and_keeps_nothing_half() {
    let mut site = SpoolSite::start(&["--spool-max", "1MB"]);
    site.cut();
    let input = values(0, 20_000);
    let ended = site.site.run_with("report", &["-", "--queue", "--window", "200"], &input);
    assert_eq!(ended.code, Some(2), "{}", ended.stderr);
    accounted(&ended, 20_000);
    let kept = ended.lines.iter().filter(|line| line["ok"] == true).count();
    assert!((1000..20_000).contains(&kept), "{kept} were kept");
    for line in ended.lines.iter().filter(|line| line["ok"] != true) {
        assert_eq!(line["error"], "io", "{line}");
    }
    // There may be room for some: what is written takes less than what was set aside for it.
    let again = site.site.run_with("report", &["-", "--queue"], values(0, 5000));
    assert_eq!(again.code, Some(2), "{}", again.stderr);
    accounted(&again, 5000);
    let kept = kept + again.lines.iter().filter(|line| line["ok"] == true).count();
    let bytes: u64 =
        fs::read_dir(site.site.path("spool")).unwrap().map(|it| it.unwrap().metadata().unwrap().len()).sum();
    assert!(bytes <= 1_100_000, "the folder has {bytes} bytes");
    site.mend();
    site.wait_empty();
    // There is room again.
    site.queue("{\"cid\":\"m1\",\"code\":\"water_flow\",\"value\":999999}\n");
    site.wait_empty();
    assert_eq!(site.site.end("TERM").code(), Some(0));
    let results = site.results();
    assert_eq!(results.len(), kept + 1, "what was refused is not kept");
    assert!(results.iter().all(|line| line["ok"] == true));
}

#[test]
fn a_queue_needs_an_agent_with_a_spool() {
    let mut site = AgentSite::without_agent(&[], &[]);
    for (op, args) in [
        ("report", &["--queue", "--cid", "m1", "water_flow=1"][..]),
        ("status", &["--queue", "--online", "m1"]),
    ] {
        let ended = site.run(op, args);
        assert_eq!(ended.code, Some(2), "{op}: {}", ended.stderr);
    }
    site.launch();
    site.wait_connected();
    for (op, args) in [
        ("report", &["--queue", "--cid", "m1", "water_flow=1"][..]),
        ("status", &["--queue", "--online", "m1"]),
    ] {
        let ended = site.run(op, args);
        assert_eq!(ended.code, Some(2), "{op}: {}", ended.stderr);
        assert!(ended.stderr.contains("--spool"), "{op}: {}", ended.stderr);
    }
}

#[test]
fn a_live_report_goes_behind_the_spooled_ones_of_its_device_and_before_others() {
    let mut site = SpoolSite::start(&["--spool-rate", "10/s"]);
    site.cut();
    let line = |n: usize| format!("{{\"cid\":\"m1\",\"code\":\"water_flow\",\"value\":{n}}}\n");
    site.queue(&(0..60).map(line).collect::<Vec<_>>().concat());
    site.mend();
    // m2 has nothing in the spool.
    let other = site.site.run("report", &["--cid", "m2", "water_flow=1"]);
    all_accepted(&other, 1);
    let own = site.site.run("report", &["--cid", "m1", "water_flow=1000"]);
    all_accepted(&own, 1);
    assert_eq!(site.site.status().line()["spool"]["messages"], 0, "its turn came when the spool was empty");
    assert_eq!(site.site.end("TERM").code(), Some(0));
    let records = site.site.site.records_of("report");
    let cids: Vec<_> =
        records.iter().map(|record| record["payload"]["param"]["cid"].as_str().unwrap()).collect();
    let place = cids.iter().position(|cid| *cid == "m2").unwrap();
    assert!(place < 60, "m2 waited for the spool of m1");
    let last = &records.last().unwrap()["payload"]["param"];
    assert_eq!((&last["cid"], &last["value"]), (&json!("m1"), &json!(1000)));
}

#[test]
fn two_agents_never_share_a_spool() {
    let site = SpoolSite::start(&[]);
    let mut other = AgentSite::without_agent(&[], &[]);
    other.args = vec!["--spool".into(), site.site.name("spool")];
    other.launch();
    assert_eq!(other.ended().code(), Some(2), "{}", other.stderr());
    assert_eq!(site.site.status().code, Some(0));
    site.queue(&values(0, 1));
    site.wait_empty();
}
