//! An unread stderr: no subcommand with connections waits for its reader.

use std::{
    io::{self, BufRead as _, BufReader, PipeReader, Read as _, Write as _},
    process::{Command, Stdio},
};

use serde_json::json;

use crate::{
    process::{Service, gateway, signal, tuyagw},
    wire::{Client, Kind},
};

/// A full pipe: a writer blocks until its reader reads.
fn full_pipe() -> (PipeReader, Stdio) {
    let (reader, mut writer) = io::pipe().unwrap();
    // As many bytes as a pipe holds.
    writer.write_all(&vec![b'\n'; 65_536]).unwrap();
    (reader, writer.into())
}

/// Starts a subcommand with a full stderr; gives its first line on stdout.
fn start(command: &mut Command) -> (std::process::Child, BufReader<std::process::ChildStdout>, PipeReader) {
    let (reader, stderr) = full_pipe();
    let mut child = command.stdout(Stdio::piped()).stderr(stderr).spawn().unwrap();
    // The command holds the pipe's other end.
    command.stderr(Stdio::null());
    let stdout = BufReader::new(child.stdout.take().unwrap());
    (child, stdout, reader)
}

fn first_line(stdout: &mut impl io::BufRead) -> serde_json::Value {
    let mut line = String::new();
    stdout.read_line(&mut line).unwrap();
    serde_json::from_str(&line).unwrap_or_else(|why| panic!("{why}: {line:?}"))
}

#[test]
fn an_edge_serves_and_ends_with_an_unread_stderr() {
    let mut command = tuyagw();
    let (mut edge, mut stdout, stderr) =
        start(command.args(["edge", "--listen", "127.0.0.1:0", "--out", "/dev/null"]));
    let event = first_line(&mut stdout);
    let mut client = Client::open(event["broker"].as_str().unwrap().split_once("://").unwrap().1);
    assert_eq!(client.login("gw1", "acme", true), 0);
    client.subscribe(&[("gateway_id/gw1/properties/report/response", 1)]);
    for n in 0..60 {
        let report = json!({"t":1,"request_id":n.to_string(),"param":{"cid":"m9","id":"1","value":1}});
        client.publish("gateway_id/gw1/properties/report", &report.to_string(), 0, false);
        assert_eq!(client.json()["param"]["code"], 2003);
    }
    signal(edge.id(), "TERM");
    assert_eq!(edge.wait().unwrap().code(), Some(143));
    drop(stderr);
}

#[test]
fn a_late_reader_of_stderr_gets_every_line_in_order() {
    let mut command = tuyagw();
    let (mut edge, mut stdout, stderr) =
        start(command.args(["edge", "--listen", "127.0.0.1:0", "--out", "/dev/null"]));
    let event = first_line(&mut stdout);
    let mut client = Client::open(event["broker"].as_str().unwrap().split_once("://").unwrap().1);
    assert_eq!(client.login("gw1", "acme", true), 0);
    for n in 0..40 {
        client.publish(&format!("nowhere/{n:02}"), "x", 1, false);
        client.expect(Kind::PubAck);
    }
    signal(edge.id(), "TERM");
    let mut said = String::new();
    { stderr }.read_to_string(&mut said).unwrap();
    assert_eq!(edge.wait().unwrap().code(), Some(143));
    let topics: Vec<_> = said.lines().filter_map(|line| line.split("nowhere/").nth(1)?.get(..2)).collect();
    let expected: Vec<_> = (0..40).map(|n| format!("{n:02}")).collect();
    assert_eq!(topics, expected, "{said}");
}

#[test]
fn every_subcommand_with_connections_goes_on_with_an_unread_stderr() {
    let edge = Service::edge(&["--out", "/dev/null"]);
    // Each says something on stderr before it does its work.
    let mut sync = gateway("sync", &edge.url, &["--cid", "m1", "--product-id", "p"]);
    let (mut child, mut stdout, _unread) = start(&mut sync);
    assert_eq!(first_line(&mut stdout)["ok"], true);
    assert_eq!(child.wait().unwrap().code(), Some(0));

    let mut report = gateway("report", &edge.url, &["--progress", "json"]);
    report.stdin(Stdio::piped());
    let (mut child, stdout, _unread) = start(&mut report);
    let lines = "{\"cid\":\"m1\",\"id\":\"99\",\"value\":1}\n{\"cid\":\"m1\",\"id\":\"1\",\"value\":1}\n";
    child.stdin.take().unwrap().write_all(lines.as_bytes()).unwrap();
    assert_eq!(stdout.lines().count(), 2);
    assert_eq!(child.wait().unwrap().code(), Some(2));

    let mut tap = tuyagw();
    tap.args(["tap", "--listen", "127.0.0.1:0", "--broker", &edge.url]);
    let (mut child, mut stdout, _unread) = start(&mut tap);
    assert_eq!(first_line(&mut stdout)["event"], "listening");
    signal(child.id(), "TERM");
    assert_eq!(child.wait().unwrap().code(), Some(143));

    let mut listen = gateway("listen", &edge.url, &["--all"]);
    let (mut child, mut stdout, _unread) = start(&mut listen);
    let mut platform = edge.client();
    assert_eq!(platform.login("console", "platform", true), 0);
    platform.publish("gateway_id/gw1/x", "1", 1, true);
    platform.expect(Kind::PubAck);
    assert_eq!(first_line(&mut stdout)["topic"], "gateway_id/gw1/x");
    signal(child.id(), "TERM");
    assert_eq!(child.wait().unwrap().code(), Some(143));
}
