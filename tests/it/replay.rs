//! `replay` as a process, against the embedded edge: what it sends, byte by byte, and how it ends.

use std::{
    collections::{BTreeMap, BTreeSet},
    fs,
    io::{BufRead as _, BufReader, Read as _, Write as _},
    net::TcpListener,
    process::{Child, Command, Stdio},
};

use serde_json::Value;

use super::{
    fake_broker::FakeBroker,
    process::{Ended, ended, run, run_with, signal, tuyagw},
    site::{Site, until},
    wire::{ACCEPTED, Publish, puback, suback},
};

/// Everything that gateways said, as topic and the end of the line, from the payload's key on.
fn uplinks(edge: &Site) -> Vec<(String, String)> {
    let uplink = |line: &str| {
        let record: Value = serde_json::from_str(line).ok()?;
        let topic = record["topic"].as_str().filter(|_| record["dir"] == "up")?;
        let at = [r#","payload":"#, r#","payload_b64":"#].iter().find_map(|key| line.find(key))?;
        Some((topic.to_owned(), line[at + 1..].to_owned()))
    };
    edge.read("traffic.jsonl").lines().filter_map(uplink).collect()
}

/// Waits until gateways have said so much.
fn heard(edge: &Site, count: usize) -> Vec<(String, String)> {
    let mut found = Vec::new();
    until("the uplinks", || {
        found = uplinks(edge);
        found.len() >= count
    });
    found
}

/// The address that a process says on its first line.
fn listening(child: &mut Child) -> String {
    let mut stdout = BufReader::new(child.stdout.take().unwrap());
    let mut line = String::new();
    stdout.read_line(&mut line).unwrap();
    let event: Value = serde_json::from_str(&line).expect(&line);
    // What follows is read by whoever waits for the process.
    child.stdout = Some(stdout.into_inner());
    event["broker"].as_str().unwrap().to_owned()
}

fn replay(broker: &str, args: &[&str]) -> Command {
    let mut command = tuyagw();
    command.args(["replay", "-b", broker]).args(args);
    for (option, long, value) in [("-u", "--username", "acme"), ("--timeout", "--timeout", "2s")] {
        if !args.contains(&option) && !args.contains(&long) {
            command.args([option, value]);
        }
    }
    command
}

fn record(ms: u64, gateway: &str, name: &str, dir: &str, payload: &str) -> String {
    format!(
        "{{\"v\":1,\"tst\":\"2026-11-22T07:22:{:02}.{:03}000Z\",\"topic\":\"gateway_id/{gateway}/{name}\",\"qos\":1,\
         \"retain\":0,\"dir\":\"{dir}\",\"mono_us\":{},{payload}}}\n",
        ms / 1000,
        ms % 1000,
        ms * 1000
    )
}

fn message(ms: u64, gateway: &str, name: &str, dir: &str, payload: &str) -> String {
    record(ms, gateway, name, dir, &format!("\"payload\":{payload}"))
}

/// A sync and reports with their answers, 10 ms apart; the codes are those of an edge that knows the device.
fn conversation(gateway: &str, reports: u64) -> String {
    let sync = r#"{"t":1,"request_id":"s","param":{"cid":"m1","product_id":"p"}}"#;
    let answer = |id: &str| {
        format!(r#"{{"t":1,"request_id":"{id}","param":{{"cid":"m1","msg":"success","code":0}}}}"#)
    };
    let mut lines = message(0, gateway, "devices/sync", "up", sync);
    lines += &message(1, gateway, "devices/sync/response", "down", &answer("s"));
    for n in 0..reports {
        let (ms, id) = (10 * (n + 1), format!("r{n}"));
        let report = format!(r#"{{"t":1,"request_id":"{id}","param":{{"cid":"m1","id":"1","value":{n}}}}}"#);
        lines += &message(ms, gateway, "properties/report", "up", &report);
        lines += &message(ms + 1, gateway, "properties/report/response", "down", &answer(&id));
    }
    lines
}

#[test]
fn payloads_travel_byte_by_byte() {
    let payloads = [
        r#""payload":{"t":1,"request_id":"r","param":{"cid":"m1","id":"1","value":1.10}}"#,
        r#""payload":{ "t" : 12345678901234567890 , "x" : "\u0000\ud83d\ude00\/" }"#,
        r#""payload":{"a":1,"a":2,"request_id":7}"#,
        r#""payload":"text""#,
        r#""payload":null"#,
        r#""payload":[1,[2.50]]"#,
        r#""payload_b64":"""#,
        r#""payload_b64":"Y2Fm6Q==""#,
        r#""payload_b64":"AP8A""#,
        r#""payload_b64":"ewogICJ0IjogMQp9Cg==""#,
    ];
    let recording: String =
        payloads.iter().map(|payload| record(0, "gw1", "properties/report", "up", payload)).collect();
    let edge = Site::start(&[]);
    let ended = run_with(&mut replay(&edge.broker(), &["--keep-t", "--keep-ids", "-"]), recording.as_bytes());
    assert_eq!((ended.code, ended.lines.len()), (Some(0), 0), "{ended:?}");
    let found = heard(&edge, payloads.len());
    for ((topic, found), sent) in found.iter().zip(payloads) {
        assert_eq!(topic, "gateway_id/gw1/properties/report");
        assert_eq!(*found, format!("{sent}}}"));
    }
    // What was heard can be played again, and is heard the same.
    let out = edge.path("traffic.jsonl");
    let second = Site::start(&[]);
    let again = run(&mut replay(&second.broker(), &["--keep-t", "--keep-ids", out.to_str().unwrap()]));
    assert_eq!(again.code, Some(0), "{again:?}");
    assert_eq!(heard(&second, payloads.len()), found);
}

#[test]
fn ids_and_times_are_fresh_and_all_else_is_kept() {
    let spaced = r#"{"x":1.10, "request_id":"r0" ,"t":1700000000123,"param":{"cid":"m1","t":5}}"#;
    let recording = [
        message(0, "gw1", "properties/report", "up", spaced),
        message(1, "gw1", "properties/report", "up", spaced),
        message(2, "gw2", "properties/report", "up", spaced),
    ]
    .concat();
    let edge = Site::start(&[]);
    let args = ["--map-gateway", "gw1=test1", "--map-cid", "m1=n1", "-"];
    let ended = run_with(&mut replay(&edge.broker(), &args), recording.as_bytes());
    assert_eq!(ended.code, Some(0), "{ended:?}");
    let mut found = heard(&edge, 3);
    found.sort();
    let topics: Vec<_> = found.iter().map(|(topic, _)| topic.split('/').nth(1).unwrap()).collect();
    assert_eq!(topics, ["gw2", "test1", "test1"]);
    let ids: Vec<_> = found
        .iter()
        .map(|(_, payload)| {
            let payload = payload.strip_prefix(r#""payload":"#).unwrap().strip_suffix('}').unwrap();
            let (before, rest) = payload.split_once(r#""request_id":""#).unwrap();
            let (id, rest) = rest.split_once(r#"" ,"t":"#).unwrap();
            let (t, after) = rest.split_once(',').unwrap();
            assert_eq!((before, after), (r#"{"x":1.10, "#, r#""param":{"cid":"n1","t":5}}"#));
            assert!(t.len() == 13 && t > "1700000000123", "{t}");
            assert_eq!(id.len(), 36);
            id
        })
        .collect();
    // The same message twice is a repetition; another gateway's is not.
    assert!(ids[1] == ids[2] && ids[0] != ids[1], "{ids:?}");
}

#[test]
fn answers_are_verified() {
    let edge = Site::start(&[]);
    let good = conversation("gw1", 20);
    let same = run_with(&mut replay(&edge.broker(), &["--verify", "--speed", "max", "-"]), good.as_bytes());
    assert_eq!((same.code, same.lines.len()), (Some(0), 0), "{same:?}");
    assert!(same.stderr.contains("21 answers as recorded, 0 differences"), "{same:?}");

    let other = good
        .replace(
            r#""r3","param":{"cid":"m1","msg":"success","code":0"#,
            r#""r3","param":{"cid":"m1","msg":"m","code":2003"#,
        )
        .lines()
        .filter(|line| !(line.contains("report/response") && line.contains("\"r5\"")))
        .fold(String::new(), |all, line| all + line + "\n");
    let other = run_with(&mut replay(&edge.broker(), &["--verify", "--speed", "max", "-"]), other.as_bytes());
    assert_eq!(other.code, Some(1), "{other:?}");
    let told: Vec<_> = other
        .lines
        .iter()
        .map(|line| {
            (
                line["index"].as_u64(),
                line["difference"].as_str(),
                line["expected"].as_i64(),
                line["code"].as_i64(),
            )
        })
        .collect();
    assert_eq!(
        told,
        [(Some(4), Some("code"), Some(2003), Some(0)), (Some(6), Some("extra"), None, Some(0))],
        "{other:?}"
    );

    let silent = Site::start(&["--fault", "drop-response"]);
    let args = ["--verify", "--speed", "max", "--timeout", "500ms", "-"];
    let silent = run_with(&mut replay(&silent.broker(), &args), conversation("gw1", 2).as_bytes());
    assert_eq!((silent.code, silent.lines.len()), (Some(1), 3), "{silent:?}");
    for line in &silent.lines {
        assert_eq!((&line["difference"], &line["expected"]), (&"missing".into(), &0.into()));
        assert!(line.get("code").is_none() && line["ok"] == false && line["kind"] != "command");
    }
}

#[test]
fn a_lost_connection_loses_no_message() {
    const COUNT: u64 = 300;
    let broker = FakeBroker::start(|number, peer| {
        peer.log_in();
        if number > 0 {
            return peer.serve(|_| 0);
        }
        let id = peer.expect_subscribe();
        peer.send(&suback(id, &[1; 3]));
        for n in 0..40 {
            let report = peer.request();
            if n % 2 == 0 {
                peer.send(&puback(report.id));
            }
        }
    });
    let report = |n| {
        let payload = format!(r#"{{"t":1,"request_id":"r{n}","param":{{"cid":"m1","id":"1","value":{n}}}}}"#);
        message(n, "gw1", "properties/report", "up", &payload)
    };
    let recording: String = (0..COUNT).map(report).collect();
    let ended = run_with(&mut replay(&broker.url(), &["--speed", "max", "-"]), recording.as_bytes());
    assert_eq!((ended.code, ended.lines.len()), (Some(0), 0), "{ended:?}");
    assert!(ended.stderr.contains(&format!("{COUNT} sent, {COUNT} acknowledged")), "{ended:?}");
    let of_connection = |number| -> Vec<(u64, String)> {
        let publishes = broker.publishes().into_iter().filter(|(connection, _)| *connection == number);
        let named =
            |publish: &Publish| (publish.json()["param"]["value"].as_u64().unwrap(), publish.request_id());
        publishes.map(|(_, publish)| named(&publish)).collect()
    };
    let (first, second) = (of_connection(0), of_connection(1));
    assert!(second.is_sorted_by_key(|(value, _)| *value), "{second:?}");
    // A message keeps its id when it is sent again.
    let all: BTreeMap<_, _> = first.iter().chain(&second).cloned().collect();
    assert!(all.keys().copied().eq(0..COUNT), "{all:?}");
    let ids: BTreeSet<_> = first.iter().chain(&second).map(|(_, id)| id).collect();
    assert_eq!(ids.len() as u64, COUNT);
    // What was not acknowledged came again.
    assert!(
        (0..40).filter(|n| n % 2 == 1).all(|n| second.iter().any(|(value, _)| *value == n)),
        "{second:?}"
    );
}

#[test]
fn a_capture_is_replayed_and_verified() {
    let edge = Site::start(&[]);
    let capture = format!("{}/tests/recordings/gateway.pcapng", env!("CARGO_MANIFEST_DIR"));
    let args = ["--verify", "--speed", "max", "--kind", "sync,report", &capture];
    let ended = run(&mut replay(&edge.broker(), &args));
    assert_eq!(ended.code, Some(0), "{ended:?}");
    assert!(ended.stderr.contains("5 sent, 5 acknowledged"), "{ended:?}");
    assert!(ended.stderr.contains("5 answers as recorded, 0 differences"), "{ended:?}");
}

#[test]
fn both_sides_of_a_recording_replay_together() {
    let command = |ms, id: &str, value: u8| {
        let payload =
            format!(r#"{{"t":1,"cid":"m1","request_id":"{id}","param":{{"id":"4","value":{value}}}}}"#);
        message(ms, "gw1", "commands", "down", &payload)
    };
    let answer = |ms, id: &str, code: u16| {
        let payload =
            format!(r#"{{"t":1,"cid":"m1","request_id":"{id}","param":{{"msg":"m","code":{code}}}}}"#);
        message(ms, "gw1", "commands/response", "up", &payload)
    };
    let recording =
        [command(0, "c1", 1), command(10, "c2", 0), answer(20, "c2", 0), answer(30, "c1", 1101)].concat();
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("commands.jsonl");
    fs::write(&file, &recording).unwrap();
    let file = file.to_str().unwrap();

    let mut down = tuyagw();
    down.args([
        "replay",
        "--direction",
        "down",
        "--listen",
        "127.0.0.1:0",
        "--verify",
        "--timeout",
        "20s",
        file,
    ]);
    let mut down = down.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
    let broker = listening(&mut down);
    // The answers' own times would be over long before the commands come.
    let up = run(&mut replay(&broker, &["--verify", "--speed", "max", "--timeout", "20s", file]));
    if up.code != Some(0) {
        // It would wait for a gateway for ever.
        signal(down.id(), "TERM");
    }
    let down = ended(down);
    assert_eq!((up.code, up.lines.len()), (Some(0), 0), "{up:?}");
    assert_eq!((down.code, down.lines.len()), (Some(0), 0), "{down:?}");
    assert!(down.stderr.contains("2 answers as recorded, 0 differences"), "{down:?}");
}

#[test]
fn an_answer_without_its_command_is_not_sent() {
    let answer = r#"{"t":1,"cid":"m1","request_id":"c1","param":{"msg":"m","code":0}}"#;
    let recording = message(0, "gw1", "commands/response", "up", answer) + &conversation("gw1", 1);
    let edge = Site::start(&[]);
    let ended = run_with(&mut replay(&edge.broker(), &["--timeout", "300ms", "-"]), recording.as_bytes());
    assert_eq!(ended.code, Some(5), "{ended:?}");
    assert_eq!(
        (&ended.line()["kind"], &ended.line()["error"]),
        (&"command.response".into(), &"timeout".into())
    );
    assert!(ended.stderr.contains("2 sent, 2 acknowledged, 1 failed"), "{ended:?}");
    assert_eq!(heard(&edge, 2).len(), 2);
    let edge = Site::start(&[]);
    let args = ["--timeout", "300ms", "--verify", "-"];
    let ended = run_with(&mut replay(&edge.broker(), &args), recording.as_bytes());
    assert_eq!((ended.code, &ended.line()["difference"]), (Some(1), &"missing".into()), "{ended:?}");
}

#[test]
fn answers_waiting_for_their_commands_are_bounded() {
    let answer = |n| format!(r#"{{"t":1,"cid":"m1","request_id":"c{n}","param":{{"msg":"m","code":0}}}}"#);
    let recording: String =
        (0..10_003).map(|n| message(0, "gw1", "commands/response", "up", &answer(n))).collect();
    let edge = Site::start(&[]);
    let args = ["--timeout", "100ms", "--speed", "max", "-"];
    let ended = run_with(&mut replay(&edge.broker(), &args), recording.as_bytes());
    assert_eq!((ended.code, ended.lines.len()), (Some(5), 10_003), "{}", ended.stderr);
    let early = |line: &&Value| line["message"].as_str().unwrap().contains("while 10000 others waited");
    assert!(ended.lines.iter().take_while(early).count() == 3 && !early(&&ended.lines[3]));
    assert!(ended.stderr.contains("10003 answers of the recording waited"), "{}", ended.stderr);
}

#[test]
fn filters_loops_and_dry_runs_agree() {
    let recording = conversation("gw1", 9) + &conversation("gw2", 9);
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("two.jsonl");
    fs::write(&file, &recording).unwrap();
    let file = file.to_str().unwrap();
    for (args, messages) in [
        (&[][..], 20),
        (&["--kind", "sync"], 2),
        (&["--kind", "sync,report", "--topic", "gateway_id/gw2/#"], 10),
        (&["--cid", "m2"], 0),
        (&["--from", "50ms", "--to", "71ms"], 3),
        (&["--from", "2026-11-22T07:22:00.080Z"], 4),
        (&["--loop", "3", "--kind", "report"], 54),
    ] {
        let args = [args, &["--speed", "max", file]].concat();
        let plan = run(tuyagw().arg("replay").args(&args).arg("--dry-run"));
        assert_eq!((plan.code, plan.line()["messages"].as_u64()), (Some(0), Some(messages)), "{plan:?}");
        let edge = Site::start(&[]);
        let ended = run(&mut replay(&edge.broker(), &args));
        assert_eq!((ended.code, ended.lines.len()), (Some(0), 0), "{ended:?}");
        assert!(ended.stderr.contains(&format!("{messages} sent, {messages} acknowledged")), "{ended:?}");
        assert_eq!(heard(&edge, usize::try_from(messages).unwrap()).len() as u64, messages);
    }
    for (args, ms) in [
        (&["--kind", "report", "--topic", "gateway_id/gw1/#"][..], 80.0),
        (&["--kind", "report", "--topic", "gateway_id/gw1/#", "--speed", "10"], 8.0),
        (&["--kind", "report", "--topic", "gateway_id/gw1/#", "--rate", "4/s"], 2000.0),
        (&["--kind", "report", "--topic", "gateway_id/gw1/#", "--max-gap", "5ms"], 40.0),
    ] {
        let plan = run(tuyagw().arg("replay").args(args).args(["--dry-run", file]));
        assert_eq!(plan.line()["duration_ms"].as_f64(), Some(ms), "{plan:?}");
    }
}

#[test]
fn a_pipe_is_replayed_live_until_a_signal() {
    let edge = Site::start(&[]);
    let mut child = replay(&edge.broker(), &["-"])
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    let mut pipe = child.stdin.take().unwrap();
    pipe.write_all(conversation("gw1", 3).as_bytes()).unwrap();
    heard(&edge, 4);
    pipe.write_all(conversation("gw3", 3).as_bytes()).unwrap();
    heard(&edge, 8);
    signal(child.id(), "INT");
    let Ended { code, lines, stderr } = ended(child);
    assert_eq!((code, lines.len()), (Some(130), 0), "{stderr}");
    assert!(stderr.contains("8 sent, 8 acknowledged"), "{stderr}");
}

#[test]
fn an_unread_stdout_delays_no_message() {
    let edge = Site::start(&["--fault", "code=500"]);
    let folder = tempfile::tempdir().unwrap();
    let recording = folder.path().join("site.jsonl");
    fs::write(&recording, conversation("gw1", 2000)).unwrap();
    let recording = recording.to_str().unwrap();
    let args = ["--verify", "--kind", "report,report.response", "--speed", "max", recording];
    let child = replay(&edge.broker(), &args).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
    // More lines are due than a pipe holds, and all of the messages leave.
    heard(&edge, 2000);
    let Ended { code, lines, stderr } = ended(child);
    assert_eq!((code, lines.len()), (Some(1), 2000), "{stderr}");
}

#[test]
fn bad_arguments_and_recordings_are_refused() {
    let edge = Site::start(&["--username", "acme"]);
    let good = conversation("gw1", 1);
    for (broker, args, input, code, said) in [
        ("127.0.0.1:1", &["-"][..], good.as_str(), 3, "127.0.0.1:1"),
        (&edge.broker(), &["-", "-u", "stranger"], &good, 4, "CONNACK 5"),
        (&edge.broker(), &["-", "--speed", "fast"], "", 2, "--speed"),
        (&edge.broker(), &["-", "--rate", "0/s"], "", 2, "--rate"),
        (&edge.broker(), &["-", "--kind", "reports"], "", 2, "--kind"),
        (&edge.broker(), &["-", "--topic", "a/#/b"], "", 2, "--topic"),
        (&edge.broker(), &["-", "--loop", "2"], "", 2, "--loop"),
        (&edge.broker(), &["-", "--direction", "down"], "", 2, "--listen"),
        (&edge.broker(), &["-", "--listen", "127.0.0.1:0"], "", 2, "--direction"),
        (&edge.broker(), &["no/such.jsonl"], "", 2, "no/such.jsonl"),
        (&edge.broker(), &["-"], "what\n", 2, "stdin is not a recording"),
    ] {
        let ended = run_with(&mut replay(broker, args), input.as_bytes());
        assert_eq!(ended.code, Some(code), "{args:?}: {ended:?}");
        assert!(ended.stderr.contains(said), "{args:?}: {ended:?}");
    }
    let empty = run_with(&mut replay(&edge.broker(), &["--verify", "-"]), b"");
    assert!(empty.code == Some(0) && empty.stderr.contains("nothing to send"), "{empty:?}");
    let nameless = "{\"tst\":1,\"topic\":\"a/b\",\"qos\":1,\"payloadlen\":1,\"payload\":\"1\"}\n";
    let ended = run_with(&mut replay(&edge.broker(), &["-"]), nameless.as_bytes());
    assert_eq!(
        (ended.code, &ended.line()["error"], &ended.line()["line"]),
        (Some(2), &"invalid".into(), &1.into())
    );
    let ended = run_with(&mut replay(&edge.broker(), &["-g", "gw1", "-"]), nameless.as_bytes());
    assert_eq!((ended.code, ended.lines.len()), (Some(0), 0), "{ended:?}");
}

#[test]
fn each_unacknowledged_message_is_reported() {
    let edge = Site::start(&["--fault", "silent"]);
    let args = ["--timeout", "300ms", "--speed", "max", "-"];
    let ended = run_with(&mut replay(&edge.broker(), &args), conversation("gw1", 4).as_bytes());
    assert_eq!((ended.code, ended.lines.len()), (Some(5), 5), "{ended:?}");
    for (index, line) in (0..).zip(&ended.lines) {
        assert_eq!((line["index"].as_u64(), &line["error"]), (Some(index), &"timeout".into()), "{line}");
    }
}

#[test]
fn no_reconnect_exits_on_the_first_loss() {
    for (args, code, connections) in
        [(&["--speed", "max", "-"][..], 0, 2), (&["--speed", "max", "--no-reconnect", "-"], 3, 1)]
    {
        let broker = FakeBroker::start(|number, peer| {
            peer.log_in();
            if number > 0 {
                return peer.serve(|_| 0);
            }
            let id = peer.expect_subscribe();
            peer.send(&suback(id, &[1, 1, 1]));
            peer.request();
        });
        let ended = run_with(&mut replay(&broker.url(), args), conversation("gw1", 4).as_bytes());
        assert_eq!(ended.code, Some(code), "{ended:?}");
        let last = broker.received().last().map(|(number, _)| number + 1);
        assert_eq!(last, Some(connections), "{ended:?}");
    }
}

#[test]
fn a_broker_lost_before_the_first_message_exits_3() {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let broker = listener.local_addr().unwrap().to_string();
    let accepted = std::thread::spawn(move || {
        let (mut stream, _) = listener.accept().unwrap();
        let mut head = [0; 2];
        stream.read_exact(&mut head).unwrap();
        stream.read_exact(&mut vec![0; head[1].into()]).unwrap();
        stream.write_all(&ACCEPTED).unwrap();
        // SUBSCRIBE begins, so CONNACK has come; nobody listens there from now on.
        stream.read_exact(&mut [0]).unwrap();
    });
    let args = ["--speed", "max", "--timeout", "300ms", "-"];
    let ended = run_with(&mut replay(&broker, &args), conversation("gw1", 4).as_bytes());
    accepted.join().unwrap();
    assert_eq!(ended.code, Some(3), "{ended:?}");
    assert!(
        ended.stderr.contains("gw1: the connection was lost and did not come back in 300ms"),
        "{ended:?}"
    );
}

#[test]
fn a_long_pause_is_announced() {
    let line = |tst: &str, n: u32| {
        format!(
            "{{\"tst\":{tst},\"topic\":\"gateway_id/gw1/properties/report\",\"payload\":{{\"t\":1,\"request_id\":\"{n}\"}}}}\n"
        )
    };
    let forward = [line("1", 1), line("2", 2), line("1714557604", 3), line("1714557605", 4)].concat();
    let dry = |args: &[&str], input: &str| {
        run_with(tuyagw().args(["replay", "--dry-run"]).args(args).arg("-"), input.as_bytes())
    };
    let ended = dry(&[], &forward);
    assert_eq!(ended.code, Some(0), "{ended:?}");
    let warnings: Vec<_> = ended.stderr.lines().filter(|line| line.starts_with("warning:")).collect();
    let [warning] = warnings[..] else { panic!("{ended:?}") };
    assert!(
        warning.contains("line 3 ") && warning.contains("19844 d 10 h") && warning.contains("--max-gap"),
        "{warning}"
    );
    for args in [&["--max-gap", "10s"][..], &["--speed", "max"], &["--rate", "5/s"]] {
        assert!(!dry(args, &forward).stderr.contains("warning:"), "{args:?}");
    }
    // Played, it is told while the message in front is all that was sent.
    let edge = Site::start(&[]);
    let mut child =
        replay(&edge.broker(), &["-"]).stdin(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
    child.stdin.take().unwrap().write_all([line("1", 1), line("1714557604", 2)].concat().as_bytes()).unwrap();
    let mut stderr = BufReader::new(child.stderr.take().unwrap());
    let mut told = String::new();
    while !told.contains("--max-gap") {
        assert!(stderr.read_line(&mut told).unwrap() > 0, "{told}");
    }
    assert_eq!(heard(&edge, 1).len(), 1);
    signal(child.id(), "INT");
    assert_eq!(child.wait().unwrap().code(), Some(130));
}

#[test]
fn a_clock_set_back_keeps_the_later_pauses() {
    let line = |tst: u32| format!("{{\"tst\":{tst},\"topic\":\"a\",\"payload\":1}}\n");
    let back: String = [100, 101, 50, 51, 53].map(line).concat();
    let converted = tuyagw_output(&["convert", "-"], back.as_bytes());
    for input in [back.as_bytes(), &converted] {
        let ended = run_with(tuyagw().args(["replay", "--dry-run", "-"]), input);
        assert_eq!(ended.line()["duration_ms"], 4000.0, "{ended:?}");
        let inspected = run_with(tuyagw().args(["inspect", "-"]), input);
        assert_eq!(inspected.line()["span_s"], 4.0, "{inspected:?}");
    }
}

fn tuyagw_output(args: &[&str], stdin: &[u8]) -> Vec<u8> {
    let mut child = tuyagw().args(args).stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().unwrap();
    child.stdin.take().unwrap().write_all(stdin).unwrap();
    child.wait_with_output().unwrap().stdout
}

#[test]
fn a_truncated_recording_is_replayed_up_to_its_end() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("cut.gz");
    let line = |n: u32| {
        // Numbers that do not compress, so that the first messages are whole in what is left.
        let word = |k: u32| format!("{:x}", n.wrapping_mul(2_654_435_761).rotate_left(k) >> 7);
        let noise = (0..64).map(word).collect::<Vec<_>>().concat();
        format!("{{\"tst\":1,\"topic\":\"gateway_id/gw1/devices/status\",\"payload\":\"{noise}\"}}\n")
    };
    let mut encoder = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
    for n in 1..1000 {
        encoder.write_all(line(n).as_bytes()).unwrap();
    }
    let bytes = encoder.finish().unwrap();
    fs::write(&file, &bytes[..bytes.len() / 2]).unwrap();
    let file = file.to_str().unwrap();
    let rehearsed = run(tuyagw().args(["replay", "--dry-run", file]));
    let messages = rehearsed.line()["messages"].as_u64().unwrap();
    assert!((1..1000).contains(&messages), "{rehearsed:?}");
    let edge = Site::start(&[]);
    let played = run(&mut replay(&edge.broker(), &["--speed", "max", file]));
    for ended in [&rehearsed, &played] {
        assert_eq!(ended.code, Some(2), "{}", ended.stderr);
        assert_eq!(ended.stderr.matches("is cut off: its gzip data").count(), 1, "{}", ended.stderr);
    }
    assert!(played.stderr.contains(&format!("{messages} sent")), "{}", played.stderr);
}

#[test]
fn messages_on_shared_topics_are_told_apart_by_payload() {
    let folder = tempfile::tempdir().unwrap();
    let at = |name: &str| folder.path().join(name);
    let topic = |way: &str, keys: &[&str]| -> String {
        let line = |key: &&str| format!("{key} = \"gateway/{way}/{{gateway_id}}\"\n");
        keys.iter().map(line).collect::<Vec<_>>().concat()
    };
    let topics = topic("out", &["sync", "report", "status", "command-response"])
        + &topic("in", &["sync-response", "report-response", "command"]);
    fs::write(at("config.toml"), format!("[topics]\n{topics}")).unwrap();
    fs::write(
        at("recording"),
        r#"{"tst":1,"topic":"gateway/out/gw1","qos":1,"payload":{"marker":1}}
{"tst":1,"topic":"gateway/out/gw1","qos":1,"payload":{"t":1,"cid":"m1","request_id":"c1","param":{"cid":"m1","msg":"success","code":0}}}
"#,
    )
    .unwrap();
    let edge = Site::start(&[]);
    let with_topics = |command: &mut Command| {
        command.env("TUYAGW_CONFIG", at("config.toml"));
    };
    let command = || {
        let mut command = tuyagw();
        command.args(["command", "-b", &edge.broker(), "-g", "gw1", "--cid", "m1", "valve_open_degree=50"]);
        with_topics(&mut command);
        run(&mut command)
    };
    let mut listen = tuyagw();
    listen.args([
        "listen",
        "-b",
        &edge.broker(),
        "-g",
        "gw1",
        "-u",
        "acme",
        "--kind",
        "command",
        "--count",
        "1",
    ]);
    listen.args(["--answer", "success", "--no-report-back"]).stdout(Stdio::piped()).stderr(Stdio::piped());
    with_topics(&mut listen);
    let mut listener = listen.spawn().unwrap();
    let mut stderr = BufReader::new(listener.stderr.take().unwrap());
    let mut told = String::new();
    while !told.contains("listening") {
        assert!(stderr.read_line(&mut told).unwrap() > 0, "{told}");
    }
    let result = command();
    assert_eq!((result.code, &result.line()["ok"]), (Some(0), &true.into()), "{result:?}");
    let mut heard = String::new();
    listener.stdout.take().unwrap().read_to_string(&mut heard).unwrap();
    assert_eq!(listener.wait().unwrap().code(), Some(0));
    assert!(heard.contains("\"kind\":\"command\""), "{heard}");

    // The recorded answer is sent once a command for it has come.
    let mut replaying =
        replay(&edge.broker(), &[at("recording").to_str().unwrap(), "-g", "gw1", "--timeout", "30s"]);
    with_topics(&mut replaying);
    let replaying = replaying.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
    // Its first message leaves once it has subscribed.
    until("the first message", || uplinks(&edge).iter().any(|(_, payload)| payload.contains("marker")));
    let result = command();
    assert_eq!((result.code, &result.line()["ok"]), (Some(0), &true.into()), "{result:?}");
    let replayed = ended(replaying);
    assert_eq!(replayed.code, Some(0), "{replayed:?}");
}
