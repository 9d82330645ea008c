//! `edge` as a process: the broker, the platform behind it, and how it ends.

mod commands;
mod fuzz;
mod hostile;
mod program;
mod registry;
mod stderr;

use std::{
    fs,
    process::{Command, Output, Stdio},
    time::{Duration, Instant},
};

use serde_json::{Value, json};

use crate::{
    process::{PROGRAM, Service, is_installed, tuyagw},
    wire::{
        Client, Connect, DISCONNECT, Frame, Kind, PINGREQ, Publish, packet, password, pubcomp,
        publish_with_id, pubrec, pubrel, subscribe, text, unsubscribe,
    },
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
fn each_login_has_its_return_code() {
    let edge = Service::edge(&["--username", "acme"]);
    let code = |client_id: &str, username: Option<&str>, password: Option<&str>| {
        let mut client = edge.client();
        let password = password.map(str::to_owned);
        let connect = Connect { username, password, ..Connect::new(client_id, "acme") };
        let code = client.connect(&connect);
        assert_eq!(code != 0, code != 0 && client.is_closed(), "a refused client is disconnected");
        code
    };
    let good = password("gw1", "acme");
    assert_eq!(code("gw1", Some("acme"), Some(&good)), 0);
    assert_eq!(code("gw1", Some("acme"), Some(&good.to_uppercase())), 4);
    assert_eq!(code("gw1", Some("acme"), None), 4);
    assert_eq!(code("gw1", None, None), 4);
    assert_eq!(code("gw1", Some("other"), Some(&password("gw1", "other"))), 5);
    for id in ["a/b", "+", "#", ""] {
        assert_eq!(code(id, Some("acme"), Some(&password(id, "acme"))), 2, "{id:?}");
    }
    assert_eq!(code("", Some("platform"), Some(&password("", "platform"))), 0);
    assert_eq!(code("x/y", Some("platform"), Some(&password("x/y", "platform"))), 0);

    // MQTT 3.1 and bridges are judged by their login, as MQTT 3.1.1 is.
    for (greeting, level) in [(&b"\0\x06MQIsdp"[..], 3), (b"\0\x06MQIsdp", 0x83), (b"\0\x04MQTT", 0x84)] {
        for (username, password, code) in [("acme", &good[..], 0), ("acme", "wrong", 4), ("other", &good, 5)]
        {
            let mut old = edge.client();
            let names = [text("gw1"), text(username), text(password)].concat();
            old.send(&packet(0x10, &[greeting, &[level], b"\xc2\0\x3c", &names]));
            assert_eq!(old.expect(Kind::ConnAck).body, [0, code], "{level} {username} {password}");
        }
    }
    let mut five = edge.client();
    five.send(&packet(0x10, &[b"\0\x04MQTT\x05\x02\0\x3c\0", &text("gw1")]));
    assert_eq!((five.expect(Kind::ConnAck).body, five.is_closed()), (vec![0, 1], true));

    for id in ["gw\0", "gw\u{1b}[2J"] {
        let mut client = edge.client();
        client.send(&Connect::new(id, "acme").bytes());
        assert!(client.is_closed(), "{id:?} gets no answer");
    }
}

#[test]
fn connect_subscribe_and_publish_may_come_in_one_flight() {
    let edge = Service::edge(&[]);
    let mut client = edge.client();
    let flight = [
        Connect::new("gw1", "acme").bytes(),
        subscribe(1, &[(topic("gw1", "devices/sync/response"), 1)]),
        publish_with_id(2, &topic("gw1", "devices/sync"), 2, sync("m1").as_bytes()),
    ];
    client.send(&flight.concat());
    assert_eq!(client.expect(Kind::ConnAck).body, [0, 0]);
    assert_eq!(client.expect(Kind::SubAck).body, [0, 1, 1]);
    let rest = [client.read().unwrap(), client.read().unwrap()];
    let kinds = rest.each_ref().map(Frame::kind);
    let expected = [Kind::Publish, Kind::PubAck];
    assert!(expected.iter().all(|kind| kinds.contains(kind)), "{kinds:?}");
}

#[test]
fn a_gateway_stays_within_its_own_topics() {
    let mut edge = Service::edge(&[]);
    let mut watcher = edge.platform("watcher");
    assert_eq!(watcher.subscribe(&[("#", 0)]), [0]);
    let mut gateway = edge.gateway("gw1");
    let codes = gateway.subscribe(&[
        ("gateway_id/gw1/#", 2),
        ("gateway_id/gw2/commands", 1),
        ("gateway_id/+/commands", 1),
        ("#", 0),
        ("gateway/in/gw1", 1),
        ("gateway/in/+", 1),
    ]);
    assert_eq!(codes, [2, 0x80, 0x80, 0x80, 1, 0x80]);
    for topic in ["gateway_id/gw1/commands", "gateway_id/gw2/properties/report", "x"] {
        let id = gateway.publish(topic, "{}", 1, true);
        assert_eq!(gateway.expect(Kind::PubAck).id(), id, "acknowledged, though dropped");
    }
    gateway.publish("gateway/out/gw1", "mine", 1, false);
    let message = watcher.message();
    assert_eq!((message.qos, &*message.topic, &*message.payload), (0, "gateway/out/gw1", &b"mine"[..]));
    let record = edge.line(|line| line["topic"] != Value::Null);
    assert_eq!(record["topic"], "gateway/out/gw1", "what was dropped is no traffic");
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
fn qos_2_works_both_ways() {
    let edge = Service::edge(&[]);
    let mut gateway = edge.gateway("gw1");
    assert_eq!(gateway.subscribe(&[("gateway/in/gw1", 2)]), [2]);
    let id = gateway.publish("gateway/in/gw1", "once", 2, false);
    // Its own message comes back: the page's sample program expects that.
    let mut received = 0;
    let (mut completed, mut released) = (false, false);
    while !(completed && released) {
        let packet = gateway.read().unwrap();
        match packet.kind() {
            Kind::PubRec => gateway.send(&pubrel(id)),
            Kind::PubComp => completed = true,
            Kind::Publish => {
                let message = packet.publish();
                assert_eq!((message.qos, message.payload), (2, b"once".to_vec()));
                received += 1;
                gateway.send(&pubrec(message.id));
            }
            Kind::PubRel => {
                gateway.send(&pubcomp(packet.id()));
                released = true;
            }
            _ => panic!("{packet:?}"),
        }
    }
    // The same packet id again, without a new message in between: not delivered twice.
    assert_eq!(received, 1);
    gateway.ping();
}

#[test]
fn retained_messages_reach_new_subscribers_and_overlapping_filters_get_one_copy() {
    let edge = Service::edge(&[]);
    let mut first = edge.platform("first");
    first.publish("a/b", "kept", 1, true);
    first.expect(Kind::PubAck);
    first.publish("a/c", "gone", 1, true);
    first.expect(Kind::PubAck);
    first.publish("a/c", "", 1, true);
    first.expect(Kind::PubAck);
    let mut second = edge.platform("second");
    assert_eq!(second.subscribe(&[("a/+", 1), ("x", 0)]), [1, 0]);
    let message = second.message();
    assert_eq!((message.retain, message.payload), (true, b"kept".to_vec()));
    second.subscribe(&[("a/#", 0), ("#", 0)]);
    for _ in 0..2 {
        assert_eq!(second.message().payload, b"kept", "each new subscription gets it");
    }
    first.publish("a/b", "new", 1, false);
    let message = second.message();
    assert_eq!((message.retain, message.qos, message.payload), (false, 1, b"new".to_vec()));
    second.ping();
    let id = second.next_id();
    second.send(&unsubscribe(id, &["a/+", "a/#"]));
    assert_eq!(second.expect(Kind::UnsubAck).id(), id);
    first.publish("a/b", "newer", 1, false);
    let message = second.message();
    assert_eq!((message.qos, &*message.topic, message.payload), (0, "a/b", b"newer".to_vec()));
}

#[test]
fn a_will_is_published_only_for_a_cut_connection() {
    let edge = Service::edge(&[]);
    let mut watcher = edge.platform("watcher");
    watcher.subscribe(&[("#", 0)]);
    let leave = |id: &str, will_topic: &str, politely: bool| {
        let mut client = edge.client();
        let will = Some((will_topic, r#"{"will":1}"#, 1));
        assert_eq!(client.connect(&Connect { will, ..Connect::new(id, "acme") }), 0);
        if politely {
            client.send(&DISCONNECT);
            assert!(client.is_closed());
        }
    };
    leave("gw1", "gateway_id/gw1/devices/status", true);
    leave("gw1", "gateway_id/gw2/devices/status", false);
    leave("gw3", "gateway_id/gw3/devices/status", false);
    assert_eq!(
        watcher.message().topic,
        "gateway_id/gw3/devices/status",
        "neither the polite nor the foreign one"
    );
}

#[test]
fn a_second_client_with_the_same_id_takes_over() {
    let edge = Service::edge(&[]);
    let mut first = edge.gateway("gw1");
    first.subscribe(&[("gateway/in/gw1", 1)]);
    let mut second = edge.gateway("gw1");
    assert!(first.is_closed());
    second.publish("gateway/in/gw1", "x", 1, false);
    second.expect(Kind::PubAck);
    second.ping();
}

#[test]
fn a_persistent_session_keeps_unacknowledged_messages() {
    let edge = Service::edge(&[]);
    let mut platform = edge.platform("console");
    let mut client = edge.client();
    assert_eq!(client.login("gw1", "acme", false), 0);
    assert_eq!(client.subscribe(&[("gateway/in/gw1", 1)]), [1]);
    platform.publish("gateway/in/gw1", "1", 1, false);
    platform.expect(Kind::PubAck);
    let unacknowledged = client.expect(Kind::Publish);
    drop(client);
    for message in ["2", "3"] {
        platform.publish("gateway/in/gw1", message, 1, false);
        platform.expect(Kind::PubAck);
    }
    let mut client = edge.client();
    client.send(&Connect { clean: false, ..Connect::new("gw1", "acme") }.bytes());
    assert_eq!(client.expect(Kind::ConnAck).body, [1, 0], "the session is present");
    let again = client.expect(Kind::Publish);
    assert_eq!(again.publish(), Publish { dup: true, ..unacknowledged.publish() });
    client.acknowledge(&again.publish());
    assert_eq!((client.message().payload, client.message().payload), (b"2".to_vec(), b"3".to_vec()));
    client.ping();
    drop(client);
    let mut clean = edge.client();
    assert_eq!(clean.login("gw1", "acme", true), 0);
    platform.publish("gateway/in/gw1", "4", 1, false);
    platform.expect(Kind::PubAck);
    clean.ping();
}

#[test]
fn a_silent_client_is_disconnected() {
    let edge = Service::edge(&["--connect-timeout", "200ms"]);
    let mut mute = edge.client();
    assert!(mute.is_closed(), "no CONNECT");
    let mut slow = edge.client();
    slow.send(&[0x10, 50, 0]);
    assert!(slow.is_closed(), "half a CONNECT");
    let mut quiet = edge.client();
    let begin = Instant::now();
    let code = quiet.connect(&Connect { keep_alive: 1, ..Connect::new("gw1", "acme") });
    assert_eq!((code, quiet.is_closed()), (0, true));
    assert!(begin.elapsed() >= Duration::from_millis(1500), "{:?}", begin.elapsed());
}

#[test]
fn malformed_packets_close_only_their_connection() {
    let edge = Service::edge(&["--max-packet", "1000"]);
    let mut other = edge.gateway("other");
    for bytes in [
        &[0x00, 0][..],
        &[0xf0, 0],
        &[0x36, 5, 0, 1, b'a', 0, 1],
        &[0x32, 5, 0, 1, b'a', 0, 0],
        &[0x30, 2, 0, 0],
        &[0x30, 3, 0, 1, b'#'],
        &[0x80, 6, 0, 1, 0, 1, b'a', 0],
        &[0x82, 2, 0, 1],
        &[0xc0, 1, 0],
        &[0x30, 0xff, 0xff, 0xff, 0x7f],
        &[0x30, 0xff, 0xff, 0xff, 0xff, 0x01],
        &[0x10, 0],
        &[0x20, 2, 0, 0],
    ] {
        let mut client = edge.gateway("gw1");
        client.send(bytes);
        assert!(client.is_closed(), "{bytes:02x?}");
        other.ping();
    }
}

#[test]
fn a_client_that_does_not_read_is_disconnected_alone() {
    let edge = Service::edge(&["--max-queue", "1000000"]);
    let mut stuck = edge.platform("stuck");
    stuck.subscribe(&[("big", 1)]);
    let mut good = edge.platform("good");
    good.subscribe(&[("big", 0)]);
    let mut sender = edge.platform("sender");
    let payload = "x".repeat(100_000);
    // Far more than socket buffers and queue can hold.
    for _ in 0..400 {
        sender.publish("big", &payload, 1, false);
        sender.expect(Kind::PubAck);
        assert_eq!(good.message().payload.len(), payload.len());
    }
    // What was on its way is still there to read, then comes the end.
    while stuck.read_lenient() {}
}

#[test]
fn a_late_reader_of_answers_gets_all_of_them() {
    let edge = Service::edge(&[]);
    let mut gateway = edge.gateway("gw1");
    gateway.subscribe(&[("gateway_id/gw1/properties/report/response", 1)]);
    gateway.publish(&topic("gw1", "devices/sync"), &sync("m1"), 0, false);
    let count = 20_000;
    for n in 0..count {
        let report = json!({"t":1,"request_id":n.to_string(),"param":{"cid":"m1","id":"1","value":n}});
        gateway.publish(&topic("gw1", "properties/report"), &report.to_string(), 0, false);
    }
    for n in 0..count {
        assert_eq!(gateway.json()["request_id"], n.to_string(), "in order, none missing");
    }
}

#[test]
fn an_answered_device_survives_a_kill() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("fleet.jsonl");
    let path = file.to_str().unwrap();
    let mut edge = Service::edge(&["--devices", path]);
    let mut gateway = edge.gateway("gw1");
    gateway.subscribe(&[("gateway_id/gw1/devices/sync/response", 0)]);
    for n in 0..500 {
        gateway.publish(&topic("gw1", "devices/sync"), &sync(&format!("m{n}")), 1, false);
    }
    let mut answered = Vec::new();
    for _ in 0..200 {
        let answer = gateway.json();
        assert_eq!(answer["param"]["code"], 0);
        answered.push(answer["param"]["cid"].as_str().unwrap().to_owned());
    }
    edge.kill();
    let kept = fs::read_to_string(&file).unwrap();
    for cid in &answered {
        assert!(kept.contains(&format!("\"cid\":\"{cid}\"")), "{cid} was answered and is not kept");
    }
    // A torn last line, as a power cut leaves it.
    fs::write(&file, format!("{kept}{{\"gateway_id\":\"gw1\",\"ci")).unwrap();
    let edge = Service::edge(&["--devices", path]);
    let mut gateway = edge.gateway("gw1");
    gateway.subscribe(&[("gateway_id/gw1/properties/report/response", 0)]);
    gateway.publish(&topic("gw1", "properties/report"), &report(&answered[199], "1", &json!(1)), 0, false);
    assert_eq!(gateway.json()["param"]["code"], 0);
    assert!(fs::read_to_string(&file).unwrap().ends_with("}\n"), "the torn line is gone");
    assert_eq!(mode(&file), 0o600);
}

fn mode(file: &std::path::Path) -> u32 {
    use std::os::unix::fs::PermissionsExt as _;
    fs::metadata(file).unwrap().permissions().mode() & 0o777
}

#[test]
fn a_file_that_is_no_registry_is_refused() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("config.toml");
    fs::write(&file, "[profile.x]\nbroker = 1\n").unwrap();
    let output = run_quietly(&["edge", "--listen", "127.0.0.1:0", "--devices", file.to_str().unwrap()]);
    let stderr = String::from_utf8_lossy(&output.stderr);
    assert_eq!(output.status.code(), Some(2));
    assert!(stderr.contains("config.toml") && stderr.contains("line 1"), "{stderr}");
    assert_eq!(fs::read_to_string(&file).unwrap(), "[profile.x]\nbroker = 1\n");
}

#[test]
fn a_registry_belongs_to_one_edge() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("fleet.jsonl");
    let path = file.to_str().unwrap();
    let _first = Service::edge(&["--devices", path]);
    for (path, reason) in [(path, "another program"), ("/dev/null", "regular file")] {
        let output = run_quietly(&["edge", "--listen", "127.0.0.1:0", "--devices", path]);
        assert_eq!(output.status.code(), Some(2));
        let stderr = String::from_utf8_lossy(&output.stderr);
        assert!(stderr.contains(path) && stderr.contains(reason), "{stderr}");
    }
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
    // The edge's own answers are heard by the gateway, which asked for all; the commands are not.
    gateway.ping_skipping_messages(|topic| assert!(!topic.ends_with("commands"), "{topic}"));
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

#[test]
fn a_program_gets_the_edge_s_address_and_sets_the_status() {
    let run = |script: &str| {
        tuyagw()
            .args(["edge", "--", "sh", "-c", script])
            .env_remove("TUYAGW_CONFIG")
            .env("TUYAGW_PROFILE", "none")
            .env("TUYAGW_PASSWORD", "secret")
            .output()
            .unwrap()
    };
    let output = run("env | grep ^TUYAGW_ | sort; command -v tuyagw; exit 7");
    assert_eq!(output.status.code(), Some(7));
    let text = String::from_utf8(output.stdout).unwrap();
    let lines: Vec<&str> = text.lines().collect();
    assert!(lines[0].starts_with("TUYAGW_BROKER=mqtt://127.0.0.1:"), "{text}");
    assert_eq!(
        lines[1..5],
        [
            "TUYAGW_CONFIG=/dev/null",
            "TUYAGW_GATEWAY_ID=gw001",
            "TUYAGW_PLATFORM_USERNAME=platform",
            "TUYAGW_USERNAME=acme"
        ]
    );
    assert_eq!(lines[5], PROGRAM);
    assert_eq!(lines.len(), 6);
    assert_eq!(run("kill -9 $$").status.code(), Some(137));
    assert_eq!(run("cat >/dev/null && echo ok").stdout, b"ok\n");
    assert_eq!(run_quietly(&["edge", "--", "no-such-program"]).status.code(), Some(127));
    assert_eq!(run("tuyagw sync --cid m1 --product-id p1").status.code(), Some(0));
    assert_eq!(run("tuyagw report --cid m1 water_flow=1").status.code(), Some(1));
}

#[test]
fn a_signal_reaches_the_program() {
    let mut child = tuyagw()
        .args(["edge", "--", "sh", "-c", "trap 'exit 9' TERM; echo ready; while :; do sleep 0.05; done"])
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    let mut ready = [0; 6];
    std::io::Read::read_exact(child.stdout.as_mut().unwrap(), &mut ready).unwrap();
    let killed = Command::new("kill").args(["-TERM", &child.id().to_string()]).status().unwrap();
    assert!(killed.success());
    assert_eq!(child.wait().unwrap().code(), Some(9));
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

#[test]
fn a_certificate_enables_tls() {
    let folder = tempfile::tempdir().unwrap();
    let certified =
        rcgen::generate_simple_self_signed(vec!["localhost".to_owned(), "127.0.0.1".to_owned()]).unwrap();
    let (cert, key) = (folder.path().join("cert.pem"), folder.path().join("key.pem"));
    fs::write(&cert, certified.cert.pem()).unwrap();
    fs::write(&key, certified.signing_key.serialize_pem()).unwrap();
    let (cert, key) = (cert.to_str().unwrap(), key.to_str().unwrap());
    let output = tuyagw()
        .args(["edge", "--tls-cert", cert, "--tls-key", key, "--", "sh", "-c"])
        .arg("echo $TUYAGW_BROKER $TUYAGW_CA_FILE; tuyagw sync --cid m1 --product-id p1 --tls-insecure")
        .output()
        .unwrap();
    let text = String::from_utf8(output.stdout).unwrap();
    assert_eq!(output.status.code(), Some(0), "{}", String::from_utf8_lossy(&output.stderr));
    assert!(text.starts_with("mqtts://127.0.0.1:") && text.contains(cert), "{text}");
    assert!(text.contains("\"code\":0"), "{text}");
    let output = run_quietly(&["edge", "--tls-cert", key, "--tls-key", key]);
    assert_eq!(output.status.code(), Some(2));
    assert!(String::from_utf8_lossy(&output.stderr).contains("key.pem"));
}

#[test]
fn a_ca_certificate_of_openssl_is_explained() {
    let folder = tempfile::tempdir().unwrap();
    let mut params = rcgen::CertificateParams::new(vec!["127.0.0.1".to_owned()]).unwrap();
    params.is_ca = rcgen::IsCa::Ca(rcgen::BasicConstraints::Unconstrained);
    let pair = rcgen::KeyPair::generate().unwrap();
    let (cert, key) = (folder.path().join("cert.pem"), folder.path().join("key.pem"));
    fs::write(&cert, params.self_signed(&pair).unwrap().pem()).unwrap();
    fs::write(&key, pair.serialize_pem()).unwrap();
    let (cert, key) = (cert.to_str().unwrap(), key.to_str().unwrap());
    let output = run_quietly(&[
        "edge",
        "--tls-cert",
        cert,
        "--tls-key",
        key,
        "--",
        "tuyagw",
        "sync",
        "--cid",
        "m1",
        "--product-id",
        "p1",
    ]);
    assert_eq!(output.status.code(), Some(3));
    let told = String::from_utf8(output.stderr).unwrap();
    assert!(told.contains("CA:TRUE") && told.contains("basicConstraints=critical,CA:FALSE"), "{told}");
}
