//! `edge` as a process: the broker, the platform behind it, and how it ends.

mod commands;
mod delivery;
mod fuzz;
mod hostile;
mod login;
mod output;
mod program;
mod registry;
mod stderr;
mod topics;

use std::{
    process::{Command, Output},
    time::{Duration, Instant},
};

use serde_json::{Value, json};

use crate::{
    process::{Service, is_installed, tuyagw},
    wire::{Client, PINGREQ, password},
};

/// Runs the program to its end, whose stdout may be another program's.
fn run_quietly(args: &[&str]) -> Output {
    tuyagw().args(args).output().unwrap()
}

fn topic(gateway: &str, name: &str) -> String {
    format!("gateway_id/{gateway}/{name}")
}

fn sync(cid: &str) -> String {
    json!({"t":1,"request_id":format!("s-{cid}"),"param":{"cid":cid,"product_id":"p"}}).to_string()
}

fn report(cid: &str, id: &str, value: &Value) -> String {
    json!({"t":1,"request_id":"r","param":{"cid":cid,"id":id,"value":value}}).to_string()
}

/// A gateway with its subscriptions and one device.
fn gateway_with_device(edge: &Service, id: &str) -> Client {
    let mut gateway = edge.gateway(id);
    assert_eq!(gateway.subscribe(&[(&topic(id, "#"), 1)]), [1]);
    // It hears its own uplinks too, since it asked for all of its topics.
    gateway.publish(&topic(id, "devices/sync"), &sync("m1"), 0, false);
    let mut codes = Vec::new();
    for _ in 0..2 {
        let message = gateway.message();
        if message.topic.ends_with("response") {
            codes.push(message.json()["param"]["code"].clone());
        }
    }
    assert_eq!(codes, [0]);
    gateway
}

#[test]
fn reports_are_answered_with_their_codes() {
    let edge = Service::edge(&[]);
    let mut gateway = edge.gateway("gw1");
    gateway.subscribe(&[
        ("gateway_id/gw1/devices/sync/response", 1),
        ("gateway_id/gw1/properties/report/response", 1),
    ]);
    gateway.publish(&topic("gw1", "devices/sync"), &sync("m1"), 1, false);
    assert_eq!(gateway.json()["param"]["code"], 0);
    for (cid, id, value, code) in [
        ("m1", "1", json!(12345), 0),
        ("m1", "1", json!(-1), 1101),
        ("m1", "1", json!({}), 1103),
        ("m1", "1", Value::Null, 1102),
        ("", "1", json!(1), 1100),
        ("m1", "99", json!(1), 2002),
        ("m2", "1", json!(1), 2003),
    ] {
        gateway.publish(&topic("gw1", "properties/report"), &report(cid, id, &value), 1, false);
        let message = gateway.message();
        assert_eq!((message.qos, &*message.topic), (1, "gateway_id/gw1/properties/report/response"));
        let answer = message.json();
        assert_eq!((&answer["param"]["code"], &answer["request_id"]), (&json!(code), &json!("r")));
    }
}

#[test]
fn connection_faults_have_their_documented_effect() {
    let edge = Service::edge(&["--fault", "connack=3"]);
    assert_eq!(edge.client().login("gw1", "acme", true), 3);
    let edge = Service::edge(&["--fault", "suback"]);
    assert_eq!(edge.gateway("gw1").subscribe(&[("gateway_id/gw1/commands", 1)]), [0x80]);
    let edge = Service::edge(&["--fault", "disconnect"]);
    let mut gateway = edge.gateway("gw1");
    gateway.publish(&topic("gw1", "devices/sync"), &sync("m1"), 1, false);
    assert!(gateway.is_closed());
    let edge = Service::edge(&["--fault", "silent"]);
    let mut gateway = edge.gateway("gw1");
    gateway.publish(&topic("gw1", "devices/sync"), &sync("m1"), 1, false);
    gateway.send(&PINGREQ);
    // A second connection is answered meanwhile; the first one stays open and mute.
    edge.gateway("gw2").ping();
    gateway.stream.set_read_timeout(Some(Duration::from_millis(300))).unwrap();
    let nothing = std::io::Read::read(&mut gateway.stream, &mut [0]);
    assert!(nothing.is_err_and(|why| matches!(
        why.kind(),
        std::io::ErrorKind::WouldBlock | std::io::ErrorKind::TimedOut
    )));
    let edge = Service::edge(&["--fault", "delay=300ms"]);
    let mut gateway = edge.gateway("gw1");
    gateway.subscribe(&[("gateway_id/gw1/devices/sync/response", 1)]);
    let begin = Instant::now();
    gateway.publish(&topic("gw1", "devices/sync"), &sync("m1"), 0, false);
    gateway.message();
    assert!(begin.elapsed() >= Duration::from_millis(300));
    let output = run_quietly(&["edge", "--fault", "explode"]);
    assert_eq!(output.status.code(), Some(2));
    assert!(String::from_utf8_lossy(&output.stderr).contains("drop-response"));
}

#[test]
fn mosquitto_s_clients_work_with_the_edge() {
    if !is_installed("mosquitto_pub") || !is_installed("mosquitto_rr") {
        return;
    }
    let edge = Service::edge(&[]);
    let port = edge.port();
    let password = password("gw1", "acme");
    let login = ["-h", "127.0.0.1", "-p", port, "-i", "gw1", "-u", "acme", "-P", &password];
    let run = |program: &str, args: &[&str]| {
        let output = Command::new(program).args(login).args(args).output().unwrap();
        (output.status.code(), String::from_utf8(output.stdout).unwrap())
    };
    let request = topic("gw1", "devices/sync");
    let response = topic("gw1", "devices/sync/response");
    let (code, answer) = run(
        "mosquitto_rr",
        &["-V", "mqttv311", "-q", "1", "-t", &request, "-e", &response, "-m", &sync("m1"), "-W", "10"],
    );
    assert_eq!(code, Some(0));
    assert_eq!(serde_json::from_str::<Value>(&answer).unwrap()["param"]["code"], 0);
    for qos in ["0", "1", "2"] {
        let (code, _) = run("mosquitto_pub", &["-q", qos, "-t", "gateway/out/gw1", "-m", "x"]);
        assert_eq!(code, Some(0), "QoS {qos}");
    }
    // Its MQTT 3.1 refuses client ids of more than 23 bytes by itself.
    assert_eq!(
        run("mosquitto_pub", &["-V", "mqttv31", "-q", "1", "-t", "gateway/out/gw1", "-m", "x"]).0,
        Some(0)
    );
    // The page's sample program: the very topic that it subscribes to.
    let (code, message) = run(
        "mosquitto_rr",
        &[
            "-V",
            "mqttv311",
            "-q",
            "1",
            "-t",
            "gateway/in/gw1",
            "-e",
            "gateway/in/gw1",
            "-m",
            "me",
            "-W",
            "10",
        ],
    );
    assert_eq!((code, message.trim()), (Some(0), "me"));
}
