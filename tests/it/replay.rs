//! `replay` as a process, against the embedded edge: the bytes that it sends, and its exit codes.

mod losses;
mod timing;
mod verify;

use std::{
    fs,
    io::{BufRead as _, BufReader, Write as _},
    process::{Child, Command, Stdio},
};

use serde_json::Value;

use super::{
    process::{Ended, ended, run, run_with, tuyagw},
    site::{Site, until},
};

/// The recorded uplinks: topic, and the rest of the line from the payload's key on.
fn uplinks(edge: &Site) -> Vec<(String, String)> {
    let uplink = |line: &str| {
        let record: Value = serde_json::from_str(line).ok()?;
        let topic = record["topic"].as_str().filter(|_| record["dir"] == "up")?;
        let at = [r#","payload":"#, r#","payload_b64":"#].iter().find_map(|key| line.find(key))?;
        Some((topic.to_owned(), line[at + 1..].to_owned()))
    };
    edge.read("traffic.jsonl").lines().filter_map(uplink).collect()
}

/// Waits for `count` uplinks, and returns all.
fn heard(edge: &Site, count: usize) -> Vec<(String, String)> {
    let mut found = Vec::new();
    until("the uplinks", || {
        found = uplinks(edge);
        found.len() >= count
    });
    found
}

/// The address on the first line of a process.
fn listening(child: &mut Child) -> String {
    let mut stdout = BufReader::new(child.stdout.take().unwrap());
    let mut line = String::new();
    stdout.read_line(&mut line).unwrap();
    let event: Value = serde_json::from_str(&line).expect(&line);
    // `ended` reads the rest.
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
    // The recorded uplinks can be replayed, and arrive unchanged.
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
