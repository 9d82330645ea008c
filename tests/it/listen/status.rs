//! `status` that stays: again and again, offline at the end, and by the will.

use std::{
    io::{BufRead as _, BufReader, Read as _},
    process::{Child, ChildStderr, ChildStdout, Stdio},
    time::{Duration, Instant},
};

use serde_json::{Value, json};

use crate::{
    process::{ended, signal},
    site::{Site, json_lines},
};

struct Stays {
    child: Child,
    stdout: BufReader<ChildStdout>,
    stderr: BufReader<ChildStderr>,
}

fn stays(site: &Site, args: &[&str]) -> Stays {
    let mut command = site.gateway("status", args);
    let command = command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
    let mut child = command.spawn().unwrap();
    let stdout = BufReader::new(child.stdout.take().unwrap());
    let stderr = BufReader::new(child.stderr.take().unwrap());
    Stays { child, stdout, stderr }
}

impl Stays {
    fn read(&mut self, lines: usize) -> Vec<Value> {
        let mut text = String::new();
        for _ in 0..lines {
            assert!(self.stdout.read_line(&mut text).unwrap() > 0, "{text}");
        }
        json_lines(&text)
    }

    fn end(mut self, name: &str) -> (Option<i32>, Vec<Value>, String) {
        signal(self.child.id(), name);
        let (mut rest, mut said) = (String::new(), String::new());
        self.stdout.read_to_string(&mut rest).unwrap();
        self.stderr.read_to_string(&mut said).unwrap();
        (ended(self.child).code, json_lines(&rest), said)
    }
}

/// The statuses that the edge has recorded: those of each message.
fn reported(site: &mut Site) -> Vec<Value> {
    site.records_of("status").iter().map(|record| record["payload"]["param"].clone()).collect()
}

#[test]
fn rounds_repeat_until_a_signal_that_reports_offline() {
    let mut site = Site::start(&[]);
    let args = ["--online", "m1,m2", "--offline", "m3", "--every", "100ms", "--offline-on-exit"];
    let mut status = stays(&site, &args);
    let lines = status.read(9);
    assert!(lines.iter().all(|line| line["ok"] == true && line["confirmed"] == false), "{lines:?}");
    let (code, rest, said) = status.end("TERM");
    assert_eq!(code, Some(143), "{said}");
    assert!(rest.iter().any(|line| line["status"] == false && line["cid"] == "m2"), "{rest:?}");
    let reported = reported(&mut site);
    let (last, rounds) = reported.split_last().unwrap();
    let status = |cid: &str, status: bool| json!({"cid": cid, "status": status});
    assert!(rounds.len() >= 3);
    assert!(
        rounds
            .iter()
            .all(|round| *round == json!([status("m1", true), status("m2", true), status("m3", false)]))
    );
    assert_eq!(*last, json!([status("m1", false), status("m2", false)]));
}

#[test]
fn a_kill_publishes_the_will() {
    let mut site = Site::start(&[]);
    let mut status = stays(&site, &["--online", "m1", "--offline", "m2", "--offline-on-exit"]);
    status.read(2);
    status.child.kill().unwrap();
    status.child.wait().unwrap();
    // The edge sees the end of one connection before the beginning of the next.
    assert_eq!(site.run("status", &["--online", "m9"]).code, Some(0));
    let reported = reported(&mut site);
    assert!(reported.contains(&json!([{"cid": "m1", "status": false}])), "{reported:?}");
}

#[test]
fn too_many_devices_for_a_will_are_refused_before_connecting() {
    let mut site = Site::start(&[]);
    let line = |n| format!("{{\"cid\":\"meter-with-a-long-name-{n}\",\"status\":true}}\n");
    let input = site.write("fleet.jsonl", (0..2000).map(line).collect::<String>());
    let ended = site.run("status", &[&input, "--offline-on-exit"]);
    assert_eq!((ended.code, ended.lines.len()), (Some(2), 0), "{ended:#?}");
    assert!(ended.stderr.contains("65535"), "{}", ended.stderr);
    assert_eq!(site.records_of("connect").len(), 0);
}

#[test]
fn bad_input_is_refused_before_connecting() {
    let mut site = Site::start(&[]);
    let input =
        site.write("fleet.jsonl", "{\"cid\":\"m1\",\"status\":true}\n{\"cid\":\"m1\",\"status\":1}\n");
    for args in [&[input.as_str(), "--every", "1s"][..], &["--online", "m1", "--every", "0s"]] {
        let ended = site.run("status", args);
        assert_eq!((ended.code, ended.lines.len()), (Some(2), 0), "{ended:#?}");
    }
    let journal = site.name("journal");
    let ended = site.run("status", &["--online", "m1", "--every", "1s", "--journal", &journal]);
    assert_eq!(ended.code, Some(2), "{ended:#?}");
    assert_eq!(site.records_of("connect").len(), 0);
}

#[test]
fn rounds_continue_after_an_outage() {
    let mut site = Site::start(&[]);
    let mut status = stays(&site, &["--online", "m1", "--every", "50ms"]);
    status.read(2);
    site.kill();
    let mut said = String::new();
    status.stderr.read_line(&mut said).unwrap();
    assert!(said.contains("reconnecting"), "{said}");
    site.restart();
    let lines = status.read(5);
    assert!(lines.iter().all(|line| line["cid"] == "m1"), "{lines:?}");
    let (code, _, said) = status.end("INT");
    assert_eq!(code, Some(130), "{said}");
}

#[test]
fn a_signal_ends_rounds_without_a_broker_in_time() {
    let mut site = Site::start(&[]);
    let mut status = stays(&site, &["--online", "m1", "--every", "50ms", "--offline-on-exit"]);
    status.read(2);
    site.kill();
    let mut said = String::new();
    status.stderr.read_line(&mut said).unwrap();
    let start = Instant::now();
    let (code, rest, said) = status.end("TERM");
    assert!(start.elapsed() < Duration::from_secs(10), "{:?}", start.elapsed());
    assert_eq!(code, Some(143), "{said}");
    assert!(rest.iter().any(|line| line["ok"] == false && line["error"] == "connection"), "{rest:?}");
}
