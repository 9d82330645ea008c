//! Commands on the edge's stdin: bounded, in order, and each with its whole time.

use std::{
    fs,
    io::{BufRead as _, BufReader, Write as _},
    process::{Command, Stdio},
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
    thread,
};

use serde_json::{Value, json};

use super::{gateway_with_device, topic};
use crate::process::{Service, tuyagw};

fn command(cid: &str) -> String {
    json!({"gateway_id":"gw1","cid":cid,"id":"4","value":true}).to_string() + "\n"
}

/// A registry with one device of gateway gw1.
fn registry() -> (tempfile::TempDir, String) {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("fleet.jsonl");
    fs::write(&file, "{\"gateway_id\":\"gw1\",\"cid\":\"m1\",\"product_id\":\"p\"}\n").unwrap();
    let file = file.to_str().unwrap().to_owned();
    (folder, file)
}

#[test]
fn unanswered_commands_pause_stdin() {
    let (_folder, file) = registry();
    let mut edge = Service::edge(&["--devices", &file, "--command-timeout", "1h", "--out", "/dev/null"]);
    let mut stdin = edge.stdin.take().unwrap();
    let written = Arc::new(AtomicUsize::new(0));
    let count = Arc::clone(&written);
    let writer = thread::spawn(move || {
        let hundred = command("m1").repeat(100);
        while stdin.write_all(hundred.as_bytes()).is_ok() {
            count.fetch_add(100, Ordering::Relaxed);
        }
    });
    // Until a second's worth of connections sees no more taken; the edge serves them meanwhile.
    let (mut before, mut quiet) = (0, 0);
    while quiet < 200 {
        edge.gateway("gw2").ping();
        let now = written.load(Ordering::Relaxed);
        quiet = if now == before && now > 0 { quiet + 1 } else { 0 };
        before = now;
        assert!(now < 50_000, "{now} commands were taken");
    }
    assert!(before >= 1000, "{before} commands were taken");
    drop(edge);
    writer.join().unwrap();
}

#[test]
fn a_busy_gateway_gets_every_command_in_order_and_none_times_out() {
    let (_folder, file) = registry();
    let mut edge = Service::edge(&["--devices", &file, "--command-timeout", "20s", "--out", "/dev/null"]);
    let mut gateway = edge.gateway("gw1");
    assert_eq!(gateway.subscribe(&[("gateway_id/gw1/commands", 1)]), [1]);
    let count = 2000;
    let mut stdin = edge.stdin.take().unwrap();
    let writer = thread::spawn(move || {
        let commands: String = (0..count)
            .map(|n| {
                json!({"t":1,"cid":"m1","request_id":n.to_string(),"param":{"id":"4","value":true}})
                    .to_string()
                    + "\n"
            })
            .collect();
        stdin.write_all(commands.as_bytes()).unwrap();
        stdin
    });
    // The window: nothing more comes while none is answered.
    let mut waiting = Vec::new();
    for _ in 0..20 {
        waiting.push(gateway.json());
    }
    gateway.ping();
    for n in 0..count {
        let command = if waiting.is_empty() { gateway.json() } else { waiting.remove(0) };
        assert_eq!(command["request_id"], n.to_string());
        let answer = json!({"t":1,"cid":"m1","request_id":n.to_string(),"param":{"msg":"success","code":0}});
        gateway.publish("gateway_id/gw1/commands/response", &answer.to_string(), 0, false);
    }
    for n in 0..count {
        let result = edge.line(|line| line["op"] == "command");
        assert_eq!((&result["index"], &result["ok"]), (&json!(n), &json!(true)), "{result}");
    }
    drop(writer.join().unwrap());
}

#[test]
fn an_unsent_command_has_a_result_with_its_error() {
    let (_folder, file) = registry();
    let mut edge = Service::edge(&["--devices", &file, "--command-timeout", "1h", "--out", "/dev/null"]);
    edge.type_in(&json!({"t":1,"cid":"m1","request_id":"a","param":{"id":"4","value":7}}));
    let result = edge.line(|line| line["op"] == "command");
    assert_eq!((&result["error"], &result["request_id"]), (&json!("invalid"), &json!("a")), "{result}");
    for _ in 0..2 {
        edge.type_in(&json!({"t":1,"cid":"m1","request_id":"b","param":{"id":"4","value":true}}));
    }
    let result: Value = edge.line(|line| line["op"] == "command");
    assert_eq!((&result["field"], &result["request_id"]), (&json!("request_id"), &json!("b")), "{result}");
}

/// `edge < FIFO`, as a service has it: each job writes the commands that it has.
#[test]
fn every_writer_of_a_named_pipe_is_read() {
    let (folder, file) = registry();
    let path = folder.path().join("commands");
    assert!(Command::new("mkfifo").arg(&path).status().unwrap().success());
    let write = |id: &str| {
        let (path, line) = (path.clone(), json!({"gateway_id":"gw1","cid":"m1","id":id,"value":true}));
        thread::spawn(move || {
            fs::OpenOptions::new()
                .write(true)
                .open(path)
                .unwrap()
                .write_all(line.to_string().as_bytes())
                .unwrap();
        })
    };
    let first = write("98");
    let mut edge = tuyagw();
    edge.args(["edge", "--listen", "127.0.0.1:0", "--devices", &file]).stdin(fs::File::open(&path).unwrap());
    let mut edge = edge.stdout(Stdio::piped()).stderr(Stdio::null()).spawn().unwrap();
    first.join().unwrap();
    let results = BufReader::new(edge.stdout.take().unwrap()).lines().map_while(Result::ok);
    let mut results = results
        .map(|line| serde_json::from_str::<Value>(&line).unwrap())
        .filter(|line| line["op"] == "command");
    // Neither data point exists, so that each command has its result at once.
    assert_eq!(results.next().unwrap()["id"], "98");
    write("99").join().unwrap();
    let second = results.next().unwrap();
    assert_eq!((&second["id"], &second["index"]), (&json!("99"), &json!(1)));
    edge.kill().unwrap();
    edge.wait().unwrap();
}

#[test]
fn commands_from_stdin_are_sent_and_their_results_printed() {
    let mut edge = Service::edge(&["--command-timeout", "300ms"]);
    edge.type_in(&json!({"cid":"m1","code":"switch_state","value":false}));
    let result = edge.line(|line| line["op"] == "command");
    assert_eq!((&result["error"], &result["field"]), (&json!("invalid"), &json!("gateway_id")), "{result}");

    let mut gateway = gateway_with_device(&edge, "gw1");
    edge.type_in(
        &json!({"cid":"m1","properties":{"switch_state":false,"water_flow":1,"valve_open_degree":50}}),
    );
    let refused = edge.line(|line| line["op"] == "command");
    assert_eq!(
        (&refused["index"], &refused["line"], &refused["error"]),
        (&json!(2), &json!(2), &json!("invalid"))
    );
    let command = gateway.json();
    assert_eq!((&command["cid"], &command["param"]), (&json!("m1"), &json!({"id":"4","value":false})));
    gateway.json();
    let answer =
        json!({"t":1,"cid":"m1","request_id":command["request_id"],"param":{"msg":"success","code":0}});
    gateway.publish(&topic("gw1", "commands/response"), &answer.to_string(), 1, false);
    let done = edge.line(|line| line["op"] == "command");
    assert_eq!((&done["index"], &done["ok"], &done["code"]), (&json!(1), &json!(true), &json!(0)));
    assert_eq!((&done["gateway_id"], &done["cid"], &done["id"]), (&json!("gw1"), &json!("m1"), &json!("4")));
    assert!(done["rtt_ms"].as_f64().unwrap() > 0.0 && done.get("input").is_none());
    let late = edge.line(|line| line["op"] == "command");
    assert_eq!((&late["index"], &late["error"]), (&json!(3), &json!("timeout")));
    assert_eq!(late["input"], json!({"cid":"m1","code":"valve_open_degree","value":50}));

    edge.type_in(&json!({"gateway_id":"gw1","cid":"m9","id":"4","value":true}));
    let unknown = edge.line(|line| line["op"] == "command");
    assert_eq!((&unknown["code"], &unknown["ok"]), (&json!(2003), &json!(false)));
    assert!(unknown["hint"].as_str().unwrap().contains("tuyagw sync"));
}

#[test]
fn a_platform_user_commands_a_device() {
    let edge = Service::edge(&[]);
    let mut gateway = gateway_with_device(&edge, "gw1");
    let mut platform = edge.platform("console");
    platform.subscribe(&[("gateway_id/+/commands/response", 1)]);
    let command = |cid: &str, id: &str| {
        json!({"t":1,"cid":cid,"request_id":id,"param":{"id":"4","value":true}}).to_string()
    };
    platform.publish(&topic("gw1", "commands"), &command("m1", "c1"), 1, false);
    assert_eq!(gateway.json()["request_id"], "c1");
    let answer = r#"{"t":1,"cid":"m1","request_id":"c1","param":{"msg":"success","code":0}}"#;
    gateway.publish(&topic("gw1", "commands/response"), answer, 1, false);
    assert_eq!(platform.message().payload, answer.as_bytes());
    for (cid, code) in [("m9", 2003), ("m1", 2001)] {
        if code == 2001 {
            let status = r#"{"t":1,"request_id":"s","param":[{"cid":"m1","status":false}]}"#;
            gateway.publish(&topic("gw1", "devices/status"), status, 1, false);
            while gateway.message().topic != topic("gw1", "devices/status") {}
        }
        platform.publish(&topic("gw1", "commands"), &command(cid, "c2"), 1, false);
        assert_eq!(platform.json()["param"]["code"], code);
    }
    // The gateway subscribed to everything, so it receives the edge's own answers. It must not receive the commands.
    gateway.ping_skipping_messages(|topic| assert!(!topic.ends_with("commands"), "{topic}"));
}
