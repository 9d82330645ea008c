//! `inspect` as a process: its output and exit codes.

use std::{
    fs,
    io::{Write as _, pipe},
    path::Path,
};

use flate2::{Compression, write::GzEncoder};
use serde_json::Value;

use super::process::{run, run_with, tuyagw};

const REPORT: &str = r#"{"v":1,"tst":"2026-11-22T07:22:00.000000Z","topic":"gateway_id/gw1/properties/report","qos":1,"retain":0,"payloadlen":0,"mono_us":0,"payload":{"t":1,"request_id":"a","param":{"cid":"m1","id":"1","value":12345}}}"#;
const ANSWER: &str = r#"{"v":1,"tst":"2026-11-22T07:22:00.025000Z","topic":"gateway_id/gw1/properties/report/response","qos":1,"retain":0,"payloadlen":0,"mono_us":25000,"payload":{"t":1,"request_id":"a","param":{"msg":"","code":2003}}}"#;

#[test]
fn a_pipe_gets_json_and_a_file_a_page() {
    let folder = tempfile::tempdir().unwrap();
    let [file, html] = ["site.jsonl", "site.html"].map(|name| folder.path().join(name));
    fs::write(&file, [REPORT, ANSWER, ""].join("\n")).unwrap();
    let ended = run(tuyagw().arg("inspect").arg(&file).arg("--html").arg(&html));
    assert_eq!(ended.code, Some(0), "{ended:?}");
    let summary = ended.line();
    assert_eq!((&summary["records"], &summary["round_trips"][0]["max_ms"]), (&2.into(), &25.0.into()));
    let refused = summary["codes"].as_array().unwrap().iter().find(|code| code["code"] == 2003).unwrap();
    assert_eq!((&refused["devices"][0]["cid"], &refused["name"]), (&"m1".into(), &"device not exist".into()));
    let page = fs::read_to_string(&html).unwrap();
    assert!(page.starts_with("<!doctype html>") && page.contains("uPlot") && page.contains("12.345"));
    let from_stdin = run_with(tuyagw().args(["inspect", "-"]), &fs::read(&file).unwrap());
    assert_eq!(from_stdin.line(), summary);
}

#[test]
fn a_torn_last_line_is_accepted_and_any_other_bad_line_is_not() {
    let lines = |lines: &[&str]| lines.join("\n").into_bytes();
    for (input, code, expected) in [
        (lines(&[REPORT, &ANSWER[..40]]), 0, "line 2 ends in the middle"),
        (lines(&[REPORT, "rubbish", ANSWER, ""]), 2, "line 2 cannot be read: the line is not a JSON object"),
        (lines(&["", "{\"event\":\"listening\"}", REPORT, ""]), 0, ""),
        (Vec::new(), 0, "stdin holds no message"),
        (
            lines(&[&REPORT.replace("\"mono_us\":0", "\"mono_us\":18446744073709551615"), ANSWER, ""]),
            2,
            "line 1 cannot be read: mono_us",
        ),
    ] {
        let ended = run_with(tuyagw().args(["inspect", "-"]), &input);
        assert!(ended.code == Some(code) && ended.stderr.contains(expected), "{expected}: {ended:?}");
        assert!(expected.is_empty() == ended.stderr.is_empty(), "{ended:?}");
        assert!(ended.line()["records"].as_u64().is_some());
    }
}

#[test]
fn bad_arguments_are_refused_with_the_reason() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("site.jsonl");
    fs::write(&file, [REPORT, ""].join("\n")).unwrap();
    let file = file.to_str().unwrap();
    for (args, expected) in [
        (vec!["no/such.jsonl"], "no/such.jsonl"),
        (vec![file, "--html", file], "would replace"),
        (vec![file, "--html", "/no/such.html"], "/no/such.html"),
        (vec![file, "--model", "no/such.json"], "no/such.json"),
    ] {
        let ended = run(tuyagw().arg("inspect").args(args));
        assert!(ended.code == Some(2) && ended.stderr.contains(expected), "{ended:?}");
    }
    assert_eq!(fs::read_to_string(file).unwrap(), [REPORT, ""].join("\n"));
}

#[test]
fn a_closed_stdout_is_no_error() {
    let (reader, writer) = pipe().unwrap();
    drop(reader);
    let output = tuyagw().args(["inspect", "/dev/null"]).stdout(writer).output().unwrap();
    assert_eq!(output.status.code(), Some(0), "{output:?}");
}

#[test]
fn hostile_names_reach_neither_the_terminal_nor_the_page_s_markup() {
    let folder = tempfile::tempdir().unwrap();
    let html = folder.path().join("site.html");
    let evil = r"</script><img src=x onerror=alert(1)>\u001b[2J\u202e";
    let input =
        [REPORT, ANSWER, ""].join("\n").replace("\"m1\"", &format!("\"{evil}\"")).replace("gw1", "<b>");
    let ended = run_with(tuyagw().args(["inspect", "-", "--html", html.to_str().unwrap()]), input.as_bytes());
    assert_eq!(ended.code, Some(0), "{ended:?}");
    assert_eq!(ended.line()["devices"][0]["gateway_id"], Value::from("<b>"));
    let page = fs::read_to_string(&html).unwrap();
    assert_eq!((page.matches("<img").count(), page.matches("<b>").count()), (0, 0));
    assert!(!page.contains('\u{1b}') && !page.contains('\u{202e}'));
}

#[test]
fn every_recording_format_gives_the_same_figures() {
    let capture = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/recordings/gateway.pcapng");
    let inspect = |file: &Path| run(tuyagw().arg("inspect").arg(file));
    let captured = inspect(&capture);
    assert_eq!(captured.code, Some(0), "{captured:?}");
    let figures = captured.line();
    assert!(figures["records"].as_u64() > Some(0) && figures["connections"]["connects"].as_u64() > Some(0));

    let folder = tempfile::tempdir().unwrap();
    let converted = tuyagw().arg("convert").arg(&capture).output().unwrap().stdout;
    let [plain, gzip, zstd] =
        ["site.jsonl", "site.jsonl.gz", "site.jsonl.zst"].map(|name| folder.path().join(name));
    fs::write(&plain, &converted).unwrap();
    let mut gz = GzEncoder::new(Vec::new(), Compression::fast());
    gz.write_all(&converted).unwrap();
    fs::write(&gzip, gz.finish().unwrap()).unwrap();
    fs::write(&zstd, zstd::encode_all(&converted[..], 1).unwrap()).unwrap();
    for file in [&plain, &gzip, &zstd] {
        assert_eq!(inspect(file).line(), figures, "{}", file.display());
    }
    let piped = run_with(tuyagw().args(["inspect", "-"]), &fs::read(&capture).unwrap());
    assert_eq!(piped.line(), figures);

    // Formats of other tools hold less; the losses are reported.
    for (name, records) in
        [("mosquitto-2.0.11-j.jsonl", 4), ("mqtt-recorder-rs.jsonl", 3), ("mqtt_recorder.csv", 2)]
    {
        let found = inspect(&capture.with_file_name(name));
        assert_eq!(found.line()["records"], records, "{name}: {found:?}");
    }
}
