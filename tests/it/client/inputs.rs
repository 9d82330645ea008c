//! From files and stdin to messages, and back to result lines.

use std::collections::BTreeSet;

use serde_json::{Value, json};

use super::{accounted, all_accepted, reports};
use crate::{
    fake_broker::FakeBroker,
    process::{gateway, run, run_with},
};

fn params(broker: &FakeBroker) -> Vec<Value> {
    broker.publishes().iter().map(|(_, publish)| publish.json()["param"].clone()).collect()
}

#[test]
fn bad_lines_are_named_and_the_others_sent() {
    let broker = FakeBroker::kind();
    let input = concat!(
        "{\"cid\":\"m1\",\"code\":\"water_flow\",\"value\":1}\n",
        "\n",
        "{\"cid\":\"m1\",\"code\":\"water_flow\",\"value\":-1}\n",
        "{\"cid\":\"m1\",\"code\":\"water_flow\",\"value\":\n",
        "{\"cid\":\"m1\",\"code\":\"no_such\",\"value\":1}\n",
        "{\"cid\":\"\",\"code\":\"water_flow\",\"value\":1}\n",
        "{\"cid\":\"m1\",\"code\":\"water_flow\",\"value\":2,\"extra\":1}\n",
        "{\"cid\":\"m1\",\"id\":\"1\",\"value\":3}",
    );
    let ended = run_with(&mut gateway("report", &broker.url(), &["-"]), input.as_bytes());
    accounted(&ended, 7);
    assert_eq!(ended.code, Some(2), "{ended:#?}");
    let mut lines = ended.lines.clone();
    lines.sort_by_key(|line| line["index"].as_u64());
    let seen: Vec<_> = lines
        .iter()
        .map(|line| (line["line"].as_u64().unwrap(), line["error"].as_str(), line["field"].as_str()))
        .collect();
    let invalid = Some("invalid");
    assert_eq!(
        seen,
        [
            (1, None, None),
            (3, invalid, Some("value")),
            (4, invalid, None),
            (5, invalid, Some("code")),
            (6, invalid, Some("cid")),
            (7, invalid, Some("extra")),
            (8, None, None),
        ]
    );
    assert_eq!(lines[1]["input"], json!({"cid": "m1", "code": "water_flow", "value": -1}));
    assert_eq!(broker.publishes().len(), 2);
}

#[test]
fn input_of_bad_lines_only_opens_no_connection() {
    let broker = FakeBroker::kind();
    let ended = run_with(&mut gateway("report", &broker.url(), &["-"]), b"{}\nnonsense\n");
    assert_eq!((ended.code, ended.lines.len()), (Some(2), 2), "{ended:#?}");
    assert!(broker.received().is_empty());
    let nothing = run_with(&mut gateway("report", &broker.url(), &["-"]), b"");
    assert_eq!((nothing.code, nothing.lines.len()), (Some(0), 0), "{nothing:#?}");
}

#[test]
fn failed_lines_are_the_input_of_the_next_run() {
    let broker = FakeBroker::start(|number, peer| {
        peer.log_in();
        peer.serve(move |request| {
            let odd = request.json()["param"]["value"].as_u64().unwrap() % 2 == 1;
            if number == 0 && odd { 500 } else { 0 }
        });
    });
    let first = run_with(&mut gateway("report", &broker.url(), &["-"]), reports(10).as_bytes());
    assert_eq!(first.code, Some(1));
    let failed = first.lines.iter().filter(|line| line["ok"] == false);
    let again = failed.map(|line| format!("{line}\n")).collect::<Vec<_>>().concat();
    let second = run_with(&mut gateway("report", &broker.url(), &["-"]), again.as_bytes());
    all_accepted(&second, 5);
    let cids = |lines: &[Value], ok: bool| -> BTreeSet<String> {
        lines.iter().filter(|line| line["ok"] == ok).map(|line| line["cid"].to_string()).collect()
    };
    assert_eq!(cids(&first.lines, false), cids(&second.lines, true));
}

#[test]
fn whole_messages_keep_their_time_and_request_id() {
    let broker = FakeBroker::kind();
    let sync = br#"{"t":1234567890,"request_id":"mine","param":{"cid":"m1","product_id":"p1"}}"#;
    assert_eq!(run_with(&mut gateway("sync", &broker.url(), &["-"]), sync).code, Some(0));
    let report = br#"{"t":7,"request_id":"r1","param":{"cid":"m1","id":"1","value":5}}"#;
    let ended = run_with(&mut gateway("report", &broker.url(), &["-"]), report);
    assert_eq!(ended.line()["request_id"], "r1");
    let sent: Vec<_> = broker.publishes().iter().map(|(_, publish)| publish.json()).collect();
    assert_eq!((&sent[0]["t"], &sent[0]["request_id"]), (&json!(1_234_567_890), &json!("mine")));
    assert_eq!((&sent[1]["t"], &sent[1]["request_id"]), (&json!(7), &json!("r1")));
}

#[test]
fn whole_status_messages_lose_no_device() {
    let broker = FakeBroker::kind();
    let input = concat!(
        r#"{"t":9,"request_id":"s1","param":[{"cid":"a","status":true},{"cid":"b","status":false}]}"#,
        "\n",
        r#"{"t":9,"param":[{"cid":"c","status":true},{"cid":"d","status":false}]}"#,
        "\n",
        r#"{"t":9,"param":[{"cid":"e","status":true}]}"#,
    );
    let ended = run_with(&mut gateway("status", &broker.url(), &["-"]), input.as_bytes());
    all_accepted(&ended, 5);
    let sent: Vec<_> = broker.publishes().iter().map(|(_, publish)| publish.json()).collect();
    assert!(sent.iter().all(|message| message["t"] == 9), "{sent:?}");
    assert_eq!(sent[0]["request_id"], "s1");
    assert_eq!(sent[1]["param"].as_array().unwrap().len(), 2);
}

#[test]
fn statuses_travel_in_few_arrays_with_a_line_a_device() {
    let broker = FakeBroker::kind();
    let line = |n| format!("{{\"cid\":\"meter-{n}\",\"status\":true}}\n");
    let input = (0..5000).map(line).collect::<Vec<_>>().concat();
    let ended = run_with(&mut gateway("status", &broker.url(), &["-"]), input.as_bytes());
    all_accepted(&ended, 5000);
    assert!(ended.lines.iter().all(|line| line["confirmed"] == false && line["status"] == true));
    let arrays = broker.publishes();
    assert!(arrays.len() <= 10, "{}", arrays.len());
    assert!(arrays.iter().all(|(_, publish)| publish.payload.len() <= 64 * 1024));
    let devices: usize = params(&broker).iter().map(|array| array.as_array().unwrap().len()).sum();
    assert_eq!(devices, 5000);
}

#[test]
fn status_from_flags_is_one_message() {
    let broker = FakeBroker::kind();
    let ended = run(&mut gateway("status", &broker.url(), &["--online", "m1,m2", "--offline", "m3"]));
    all_accepted(&ended, 3);
    let expected = json!([
        {"cid": "m1", "status": true}, {"cid": "m2", "status": true}, {"cid": "m3", "status": false}
    ]);
    assert_eq!(params(&broker), [expected]);
}

#[test]
fn values_are_sent_in_the_requested_encoding_and_unit() {
    let broker = FakeBroker::kind();
    let url = broker.url();
    let report = |args: &[&str]| {
        let args = [&["--cid", "m1"], args].concat();
        let ended = run(&mut gateway("report", &url, &args));
        assert_eq!(ended.code, Some(0), "{args:?}: {ended:#?}");
        broker.publishes().pop().unwrap().1.json()
    };
    assert_eq!(report(&["water_flow=12.345m3"])["param"]["value"], json!(12345));
    assert_eq!(report(&["water_flow=7", "--value-encoding", "string"])["param"]["value"], json!("7"));
    assert_eq!(
        report(&["nonsense=7", "--no-check"])["param"],
        json!({"cid": "m1", "id": "nonsense", "value": 7})
    );
    let args = ["nonsense=[7]", "--no-check", "--value-encoding", "string"];
    assert_eq!(report(&args)["param"]["value"], json!("[7]"));
    let seconds = report(&["water_flow=7"])["t"].as_i64().unwrap();
    let milliseconds = report(&["water_flow=7", "--t-unit", "ms"])["t"].as_i64().unwrap();
    assert!((0..60).contains(&(milliseconds / 1000 - seconds)), "{seconds} {milliseconds}");
}

#[test]
fn properties_are_one_message_each_and_a_bad_one_stops_no_other() {
    let broker = FakeBroker::kind();
    let input = br#"{"cid":"m1","properties":{"water_flow":1,"no_such":2,"valve_state":"opened"}}"#;
    let ended = run_with(&mut gateway("report", &broker.url(), &["-"]), input);
    accounted(&ended, 3);
    assert_eq!(ended.code, Some(2), "{ended:#?}");
    assert_eq!(broker.publishes().len(), 2);
}

#[test]
fn a_message_beyond_the_packet_limit_is_refused_before_it_is_sent() {
    let broker = FakeBroker::kind();
    let name = "n".repeat(2000);
    let args = ["--cid", "m1", "--product-id", "p", "--device-name", &name, "--max-packet", "1024"];
    let ended = run(&mut gateway("sync", &broker.url(), &args));
    assert_eq!((ended.code, ended.line()["error"].as_str()), (Some(2), Some("invalid")), "{ended:#?}");
    assert!(broker.publishes().is_empty());
}

#[test]
fn an_unreadable_input_exits_2_and_is_named() {
    let broker = FakeBroker::kind();
    for (file, code) in [("no/such/file", 2), (".", 2)] {
        let ended = run(&mut gateway("report", &broker.url(), &[file]));
        assert_eq!(ended.code, Some(code), "{ended:#?}");
        assert!(ended.stderr.contains(file), "{}", ended.stderr);
    }
}

/// The second waits for the first one's answer: while both were open, their answers could not be told apart.
#[test]
fn requests_with_one_request_id_are_sent_in_turn() {
    let broker = FakeBroker::start(|_, peer| {
        peer.set_out();
        for code in [0, 2003] {
            let request = peer.request();
            peer.answer(&request, code);
        }
        peer.hold();
    });
    let one = r#"{"t":7,"request_id":"r1","param":{"cid":"m1","id":"1","value":5}}"#;
    let ended = run_with(&mut gateway("report", &broker.url(), &["-"]), format!("{one}\n{one}\n").as_bytes());
    accounted(&ended, 2);
    let codes: Vec<_> = ended.lines.iter().map(|line| line["code"].as_i64()).collect();
    assert_eq!((ended.code, codes), (Some(1), vec![Some(0), Some(2003)]), "{ended:#?}");
}

#[test]
fn commands_go_to_the_gateway_that_the_input_names() {
    let broker = FakeBroker::kind();
    let input = concat!(
        r#"{"gateway_id":"gw7","cid":"m1","code":"valve_open_degree","value":50}"#,
        "\n",
        r#"{"cid":"m2","code":"valve_open_degree","value":60}"#,
        "\n",
    );
    let mut command = crate::process::tuyagw();
    command.args(["command", "-b", &broker.url(), "--timeout", "2s", "-"]);
    let ended = run_with(&mut command, input.as_bytes());
    accounted(&ended, 2);
    assert_eq!(ended.code, Some(2), "{ended:#?}");
    let ok = ended.lines.iter().find(|line| line["ok"] == true).unwrap();
    assert_eq!((ok["gateway_id"].as_str(), ok["cid"].as_str()), (Some("gw7"), Some("m1")));
    assert_eq!(broker.publishes()[0].1.topic, "gateway_id/gw7/commands");
}
