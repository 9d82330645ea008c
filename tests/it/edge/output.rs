//! What an edge prints and records, and how it ends.

use std::fs;

use serde_json::json;

use super::run_quietly;
use crate::{process::Service, wire::Kind};

#[test]
fn a_signal_ends_an_edge_after_all_records_are_written() {
    for (signal, code) in [("INT", 130), ("TERM", 143)] {
        let edge = Service::edge(&[]);
        let mut gateway = edge.gateway("gw1");
        gateway.publish("gateway/in/gw1", "x", 1, false);
        gateway.expect(Kind::PubAck);
        let ended = edge.end(signal);
        assert_eq!(ended.code, Some(code));
        assert_eq!(ended.lines[0]["kind"], "connect");
        assert_eq!(ended.lines[1]["topic"], "gateway/in/gw1");
    }
}

#[test]
fn records_go_to_a_file_and_the_rest_to_stdout() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("traffic.jsonl");
    let mut edge = Service::edge(&["--out", file.to_str().unwrap()]);
    let mut gateway = edge.gateway("gw1");
    gateway.publish("gateway/in/gw1", "{\"a\": 1}", 0, false);
    gateway.ping();
    edge.type_in(&json!({"cid":"m1","code":"switch_state","value":1.5}));
    assert_eq!(edge.line(|_| true)["op"], "command");
    edge.end("TERM");
    let written = fs::read_to_string(&file).unwrap();
    assert!(written.contains("\"dir\":\"up\",\"kind\":\"other\",\"gateway_id\":\"gw1\""), "{written}");
    assert!(written.contains("\"payload\":{\"a\": 1}}\n"), "{written}");
    assert!(!written.contains("listening"));
}

#[test]
fn a_closed_stdout_ends_the_run() {
    let mut edge = Service::edge(&[]);
    edge.stdout = None;
    assert_eq!(edge.ended().code, Some(0));
}

#[test]
fn an_address_in_use_exits_2() {
    let edge = Service::edge(&[]);
    let output = run_quietly(&["edge", "--listen", edge.address()]);
    let stderr = String::from_utf8_lossy(&output.stderr);
    assert_eq!(output.status.code(), Some(2));
    assert!(stderr.contains(edge.address()) && stderr.contains("--listen"), "{stderr}");
    assert!(output.stdout.is_empty());
}
