//! `--verify`, `--direction`, and the order of commands and their answers.

use std::{
    fs,
    io::{BufRead as _, BufReader, Read as _},
    process::{Command, Stdio},
};

use serde_json::Value;

use super::{conversation, heard, listening, message, replay, uplinks};
use crate::{
    process::{ended, run, run_with, signal, tuyagw, until},
    site::Site,
};

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
    assert!(ended.stderr.contains("10003 answers of the recording had no command"), "{}", ended.stderr);
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
