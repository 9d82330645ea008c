//! The agent as a service: signals, reloads, statuses, and its end.

use std::{fs, process::Stdio};

use serde_json::{Value, json};

use super::AgentSite;
use crate::{
    process::{Ended, run, signal, until},
    site::{all_accepted, json_lines, syncs},
};

fn devices(count: usize) -> String {
    (1..=count).fold(String::new(), |lines, n| format!("{lines}{{\"cid\":\"m{n}\"}}\n"))
}

fn command(site: &AgentSite, cid: &str) -> Ended {
    run(&mut site.site.command(&["--cid", cid, "valve_open_degree=5"]))
}

/// The records at the edge so far.
fn at_edge(site: &AgentSite, kind: &str) -> Vec<Value> {
    let text = site.site.read("traffic.jsonl");
    let whole = &text[..text.rfind('\n').map_or(0, |end| end + 1)];
    json_lines(whole).into_iter().filter(|record| record["kind"] == kind).collect()
}

/// The cids of a status record that are said to be online, or offline.
fn cids(record: &Value, online: bool) -> Vec<String> {
    let devices = record["payload"]["param"].as_array().unwrap();
    let wanted = devices.iter().filter(|device| device["status"] == online);
    wanted.map(|device| device["cid"].as_str().unwrap().to_owned()).collect()
}

#[test]
fn signals_and_stop_end_it_in_good_order() {
    for (name, code) in [("TERM", 0), ("INT", 130)] {
        let mut site = AgentSite::start(&[]);
        let socket = site.socket();
        assert_eq!(site.end(name).code(), Some(code), "{name}: {}", site.stderr());
        assert!(!socket.exists(), "{name}");
        assert_eq!(site.site.records_of("disconnect").len(), 1, "{name}");
    }
    let mut site = AgentSite::start(&[]);
    assert_eq!(site.control("stop", &[]).code, Some(0));
    assert_eq!(site.ended().code(), Some(0));
    assert_eq!(site.control("stop", &[]).code, Some(2));
    assert_eq!(site.control("reload", &[]).code, Some(2));
}

#[test]
fn it_ends_in_good_order_without_an_edge_too() {
    for (name, code) in [("TERM", 0), ("INT", 130)] {
        let mut site = AgentSite::start(&[]);
        site.site.kill();
        site.wait_status("the loss is known", |status| status["connected"] == false);
        assert_eq!(site.end(name).code(), Some(code), "{name}: {}", site.stderr());
    }
}

#[test]
fn it_serves_before_the_edge_is_there() {
    let mut site = AgentSite::without_agent(&[], &[]);
    site.site.kill();
    site.launch();
    site.wait_status("the reason is known", |status| status["reason"] != "");
    site.site.restart();
    site.wait_connected();
    all_accepted(&site.run_with("sync", &["-"], syncs(2)), 2);
    assert_eq!(site.end("TERM").code(), Some(0));
}

#[test]
fn a_reload_reads_the_devices_again() {
    for by_signal in [true, false] {
        let mut site = AgentSite::without_agent(&[], &[]);
        let file = site.site.write("devices.jsonl", devices(1));
        site.args = ["--answer", "success", "--devices", &file].map(str::to_owned).to_vec();
        site.launch();
        site.wait_connected();
        all_accepted(&site.run_with("sync", &["-"], syncs(2)), 2);
        assert_eq!(command(&site, "m1").line()["code"], 0);
        assert_eq!(command(&site, "m2").line()["code"], 2003);
        let reload = || {
            let times = site.stderr().matches("read again").count();
            if by_signal {
                signal(site.id(), "HUP");
            } else {
                assert_eq!(site.control("reload", &[]).code, Some(0));
            }
            until("it has read", || site.stderr().matches("read again").count() > times);
        };
        site.site.write("devices.jsonl", devices(2));
        reload();
        assert_eq!(command(&site, "m2").line()["code"], 0);
        site.site.write("devices.jsonl", "no devices at all\n");
        reload();
        assert_eq!(command(&site, "m2").line()["code"], 0, "a bad file changes nothing");
        site.site.write("devices.jsonl", devices(1));
        reload();
        assert_eq!(command(&site, "m2").line()["code"], 2003);
        assert_eq!(site.status().line()["reconnects"], 0);
        assert_eq!(site.end("TERM").code(), Some(0));
    }
}

#[test]
fn a_reload_opens_the_recording_anew() {
    let mut site = AgentSite::without_agent(&[], &[]);
    let (out, aside) = (site.name("out.jsonl"), site.name("out.jsonl.1"));
    site.args = vec!["--out".into(), out.clone()];
    site.launch();
    site.wait_connected();
    all_accepted(&site.run_with("sync", &["-"], syncs(2)), 2);
    until("they are recorded", || fs::read_to_string(&out).unwrap().lines().count() == 2);
    // As logrotate does.
    fs::rename(&out, &aside).unwrap();
    signal(site.id(), "HUP");
    all_accepted(&site.run_with("sync", &["-"], syncs(3)), 3);
    assert_eq!(site.end("TERM").code(), Some(0));
    let count = |path: &str| json_lines(&fs::read_to_string(path).unwrap()).len();
    assert_eq!((count(&aside), count(&out)), (2, 3));
}

#[test]
fn it_says_who_is_online() {
    let mut site = AgentSite::without_agent(&[], &[]);
    let file = site.site.write("devices.jsonl", devices(2));
    site.args = ["--status-every", "100ms", "--devices", &file].map(str::to_owned).to_vec();
    site.launch();
    site.wait_connected();
    until("two rounds", || at_edge(&site, "status").len() >= 2);
    assert_eq!(cids(&at_edge(&site, "status")[0], true), ["m1", "m2"]);
    // One that is synchronised through it does not join without --status-all.
    all_accepted(&site.run_with("sync", &["--cid", "m9", "--product-id", "p"], ""), 1);
    site.site.write("devices.jsonl", devices(3));
    signal(site.id(), "HUP");
    let last = |site: &AgentSite| cids(at_edge(site, "status").last().unwrap(), true);
    until("the third is said", || last(&site) == ["m1", "m2", "m3"]);
    assert_eq!(site.end("TERM").code(), Some(0));
    let statuses = site.site.records_of("status");
    assert!(statuses.iter().all(|status| cids(status, false).is_empty()), "no one is said to be offline");
}

#[test]
fn devices_that_are_synchronised_through_it_join() {
    let mut site = AgentSite::start(&["--status-every", "100ms", "--status-all"]);
    all_accepted(&site.run_with("sync", &["-"], syncs(3)), 3);
    until("all are said", || at_edge(&site, "status").last().is_some_and(|it| cids(it, true).len() == 3));
    assert_eq!(site.end("TERM").code(), Some(0));
}

#[test]
fn devices_are_offline_at_the_end_and_by_the_will() {
    let start = || {
        let mut site = AgentSite::without_agent(&[], &[]);
        let file = site.site.write("devices.jsonl", devices(2));
        let args = ["--status-every", "100ms", "--status-all", "--offline-on-exit", "--devices", &file];
        site.args = args.map(str::to_owned).to_vec();
        site.launch();
        site.wait_connected();
        all_accepted(&site.run_with("sync", &["--cid", "m9", "--product-id", "p"], ""), 1);
        until("all are said", || at_edge(&site, "status").last().is_some_and(|it| cids(it, true).len() == 3));
        site
    };
    for name in ["TERM", "INT", "stop"] {
        let mut site = start();
        if name == "stop" {
            assert_eq!(site.control("stop", &[]).code, Some(0));
            site.ended();
        } else {
            site.end(name);
        }
        let statuses = site.site.records_of("status");
        let offline: Vec<_> = statuses.iter().map(|it| cids(it, false)).filter(|it| !it.is_empty()).collect();
        assert_eq!(offline, [["m1", "m2", "m9"]], "{name}");
    }
    let mut site = start();
    site.kill();
    until("the will is said", || !cids(at_edge(&site, "status").last().unwrap(), false).is_empty());
    assert_eq!(cids(site.site.records_of("status").last().unwrap(), false), ["m1", "m2"]);
}

#[test]
fn it_ends_once_it_is_idle() {
    let mut site = AgentSite::start(&["--idle-exit", "1s"]);
    let mut command = site.program("listen", &["--agent", "require"]);
    let mut listener = command.stdout(Stdio::null()).stderr(Stdio::null()).spawn().unwrap();
    site.wait_status("the listener is there", |status| status["clients"] == 2);
    // It stays as long as a program is connected: several times its limit here.
    for _ in 0..3 {
        assert_eq!(site.run("listen", &["--agent", "require", "--for", "500ms"]).code, Some(0));
    }
    assert_eq!(site.status().code, Some(0));
    listener.kill().unwrap();
    listener.wait().unwrap();
    assert_eq!(site.ended().code(), Some(0), "{}", site.stderr());
    assert_eq!(site.site.records_of("disconnect").len(), 1);
}

#[test]
fn its_status_counts() {
    let site = AgentSite::start(&["--answer", "success"]);
    all_accepted(&site.run_with("sync", &["-"], syncs(3)), 3);
    assert_eq!(site.run("report", &["--cid", "x", "water_flow=1"]).code, Some(1));
    let status = site.status();
    let line = status.line();
    assert_eq!((&line["codes"]["0"], &line["codes"]["2003"]), (&json!(3), &json!(1)));
    assert_eq!((&line["gateway_id"], &line["username"]), (&json!("gw1"), &json!("acme")));
    assert_eq!(
        (&line["answering"], &line["clients"], &line["queue"]),
        (&json!("agent"), &json!(1), &json!(0))
    );
    assert_eq!(line["broker"], format!("mqtt://{}", site.site.broker()));
    assert_eq!(line["pid"], site.id());
    for time in ["since", "last_answer"] {
        assert!(line[time].as_str().unwrap().parse::<jiff::Timestamp>().is_ok(), "{time}: {line}");
    }
    let mut command = crate::process::tuyagw();
    command.args(["agent", "status", "-b", &site.site.broker(), "-g", "gw1"]);
    let text = site.isolated(command).output().unwrap();
    let text = String::from_utf8(text.stdout).unwrap();
    assert!(text.contains("connected since") && text.contains("2003: 1"), "{text}");
}
