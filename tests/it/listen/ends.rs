//! Which messages `listen` records, and how it ends.

use std::{
    io::{BufRead as _, BufReader, Write as _},
    process::Stdio,
    time::{Duration, Instant},
};

use serde_json::{Value, json};

use super::Listener;
use crate::{
    process::{ended, run},
    site::{Site, json_lines},
    wire::{Client, Kind},
};

fn sender(site: &Site) -> Client {
    site.platform("sender")
}

fn send(client: &mut Client, topic: &str, payload: &Value) {
    client.publish(topic, &payload.to_string(), 1, false);
    client.expect(Kind::PubAck);
}

#[test]
fn filters_select_records() {
    let site = Site::start(&[]);
    site.sync(2);
    let topics: [(&[&str], &[&str]); 6] = [
        (&[], &["command", "report.response", "sync.response"]),
        (&["--all"], &["command", "report.response", "sync.response", "other"]),
        (&["--kind", "command", "--kind", "other", "--all"], &["command", "other"]),
        (&["--cid", "m2"], &["report.response"]),
        (&["--topic", "gateway_id/gw1/+/report/response"], &["report.response"]),
        (&["--topic", "gateway/in/gw1"], &["other"]),
    ];
    for (args, expected) in topics {
        let count = expected.len().to_string();
        let listener = Listener::start(&site, &[args, &["--count", &count, "--for", "40s"]].concat());
        let mut sender = sender(&site);
        let answer =
            |cid: &str| json!({"t": 1, "request_id": "r", "param": {"cid": cid, "code": 0, "msg": ""}});
        let command = json!({"t": 1, "request_id": "c", "cid": "m1", "param": {"id": "18", "value": 1}});
        send(&mut sender, "gateway_id/gw1/commands", &command);
        send(&mut sender, "gateway_id/gw1/properties/report/response", &answer("m2"));
        send(&mut sender, "gateway_id/gw1/devices/sync/response", &answer("m1"));
        send(&mut sender, "gateway_id/gw1/else", &json!("m2 is no field here"));
        send(&mut sender, "gateway_id/gw2/commands", &command);
        send(&mut sender, "gateway/in/gw1", &json!({}));
        let ended = listener.ended();
        let kinds: Vec<_> = ended.lines.iter().map(|line| line["kind"].as_str().unwrap()).collect();
        assert_eq!((ended.code, kinds.as_slice()), (Some(0), expected), "{args:?}: {ended:#?}");
    }
}

#[test]
fn count_not_reached_in_time_exits_5() {
    let site = Site::start(&[]);
    let listener = Listener::start(&site, &["--topic", "gateway/in/gw1", "--count", "2", "--for", "700ms"]);
    send(&mut sender(&site), "gateway/in/gw1", &json!({}));
    let ended = listener.ended();
    assert_eq!((ended.code, ended.lines.len()), (Some(5), 1), "{ended:#?}");
    assert!(ended.stderr.contains("1 of 2"), "{}", ended.stderr);
}

/// Whatever is going on, a signal ends it in time, and with whole lines.
#[test]
#[ignore = "slow: waits for several graces"]
fn a_signal_ends_a_busy_listener_in_time() {
    let site = Site::start(&[]);
    site.sync(1);
    let script = site.write("hang.sh", "sleep 600");
    for (n, (name, code)) in [("TERM", 143), ("INT", 130)].repeat(3).into_iter().enumerate() {
        let args: &[&str] = match n {
            0 | 1 => &["--all"],
            2 | 3 => &["--kind", "command", "--exec-timeout", "1h", "--exec", "sh", &script],
            _ => &["--all", "--out", "records.jsonl", "--persistent"],
        };
        let listener = Listener::start(&site, args);
        let mut client = sender(&site);
        let command =
            json!({"t": 1, "request_id": format!("r{n}"), "cid": "m1", "param": {"id": "18", "value": 1}});
        send(&mut client, "gateway_id/gw1/commands", &command);
        // A flood that does not end with it.
        for _ in 0..2000 {
            client.publish("gateway_id/gw1/flood", "{}", 1, false);
        }
        let start = Instant::now();
        let ended = listener.end(name);
        assert!(start.elapsed() < Duration::from_secs(10), "{args:?} took {:?}", start.elapsed());
        assert_eq!(ended.code, Some(code), "{args:?}: {}", ended.stderr);
    }
    // Whole lines, although two of them were ended in a flood.
    json_lines(&site.read("records.jsonl"));
}

#[test]
fn a_closed_stdout_ends_the_run() {
    let site = Site::start(&[]);
    let mut listener = site.gateway("listen", &["--topic", "gateway/in/gw1"]);
    let mut listener = listener.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
    let mut stderr = BufReader::new(listener.stderr.take().unwrap());
    stderr.read_line(&mut String::new()).unwrap();
    drop(listener.stdout.take());
    send(&mut sender(&site), "gateway/in/gw1", &json!({}));
    assert_eq!(ended(listener).code, Some(0));
}

#[test]
fn no_reconnect_exits_on_a_lost_connection() {
    let mut site = Site::start(&[]);
    let listener = Listener::start(&site, &["--no-reconnect"]);
    site.kill();
    assert_eq!(listener.ended().code, Some(3));
}

/// Records are written and acknowledged in order, answers and report-backs are waited for, then it ends.
#[test]
fn a_count_waits_for_answers_and_report_backs() {
    let mut site = Site::start(&["--fault", "delay=300ms"]);
    site.sync(1);
    let listener = Listener::start(&site, &["--answer", "success", "--count", "1"]);
    let result = run(&mut site.command(&["--cid", "m1", "switch_state=true"]));
    assert_eq!(result.code, Some(0), "{result:#?}");
    let ended = listener.ended();
    assert_eq!((ended.code, ended.lines.len()), (Some(0), 1), "{ended:#?}");
    assert!(!ended.stderr.contains("warning"), "{}", ended.stderr);
    let answers = site.records_of("report.response");
    assert_eq!(answers[0]["payload"]["param"]["code"], 0);
}

/// Messages that arrive after the last record stay unacknowledged, for the next listener.
#[test]
fn an_unrecorded_message_is_not_acknowledged() {
    let site = Site::start(&[]);
    site.sync(1);
    let args = ["--persistent", "--count", "3"];
    let listener = Listener::start(&site, &args);
    let mut client = sender(&site);
    let topics = ["commands", "devices/sync/response", "properties/report/response"];
    for n in 0..9 {
        let answer =
            json!({"t": n, "request_id": format!("r{n}"), "param": {"cid": "m1", "code": 0, "msg": ""}});
        client.publish(&format!("gateway_id/gw1/{}", topics[n % 3]), &answer.to_string(), 1, false);
    }
    let mut seen = listener.ended().lines;
    for _ in 0..2 {
        let more = Listener::start(&site, &args).ended();
        assert_eq!(more.lines.len(), 3);
        seen.extend(more.lines);
    }
    let times: Vec<_> = seen.iter().map(|line| line["payload"]["t"].as_u64().unwrap()).collect();
    assert_eq!(times, (0..9).collect::<Vec<_>>());
}

/// The end of stdin does not end the listener. Its lines are sent among the records.
#[test]
fn reports_from_stdin_are_sent_while_listening() {
    let mut site = Site::start(&[]);
    let mut listener = Listener::start_with(&site, &[], &["--answer", "success", "--stdin"], Stdio::piped());
    let mut stdin = listener.child.stdin.take().unwrap();
    stdin
        .write_all(
            concat!(
                r#"{"op":"sync","cid":"m1","product_id":"p"}"#,
                "\n",
                "not JSON\n",
                r#"{"op":"command","cid":"m1","id":"18","value":1}"#,
                "\n",
                r#"{"cid":"m1"}"#,
                "\n",
            )
            .as_bytes(),
        )
        .unwrap();
    listener.wait(1, |line| line["op"] == "sync" && line["ok"] == true);
    let more = concat!(
        r#"{"op":"report","cid":"m1","properties":{"1":5,"9":"opened"}}"#,
        "\n",
        r#"{"op":"status","cid":"m1","status":true}"#,
        "\n",
        r#"{"op":"report","cid":"m9","code":"water_flow","value":5}"#,
        "\n",
    );
    stdin.write_all(more.as_bytes()).unwrap();
    drop(stdin);
    listener.wait(8, |line| line["op"].is_string());
    assert_eq!(run(&mut site.command(&["--cid", "m1", "switch_state=true"])).code, Some(0));
    listener.wait(5, |line| line["topic"].is_string());
    let ended = listener.end("TERM");
    assert!(!ended.stderr.contains("warning"), "{}", ended.stderr);
    let results: Vec<_> = ended.lines.iter().filter(|line| line["op"].is_string()).collect();
    let mut lines: Vec<_> =
        results.iter().map(|line| (line["line"].as_u64().unwrap(), line["ok"].as_bool().unwrap())).collect();
    lines.sort_unstable();
    let (yes, no) = (true, false);
    assert_eq!(lines, [(1, yes), (2, no), (3, no), (4, no), (5, yes), (5, yes), (6, yes), (7, no)]);
    let bad: Vec<_> =
        results.iter().filter(|line| line["field"] == "op").map(|line| line["line"].as_u64()).collect();
    assert_eq!(bad, [Some(3), Some(4)]);
    let kinds: Vec<_> =
        site.records().iter().filter_map(|record| record["kind"].as_str().map(str::to_owned)).collect();
    assert_eq!(
        kinds.iter().filter(|kind| *kind == "connect").count(),
        2,
        "one connection, and the platform's"
    );
}
