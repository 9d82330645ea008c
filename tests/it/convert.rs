//! `convert` as a process: recordings that other tools wrote, in `tests/recordings`, as records and as CSV.

use std::{
    fs,
    io::Write as _,
    process::{Command, Stdio},
};

use base64::{Engine as _, prelude::BASE64_STANDARD};
use serde_json::Value;

use super::process::{Ended, run, run_with, tuyagw};

const SYNC: &str = r#"{"t":1700000000,"request_id":"s1","param":{"cid":"m1","product_id":"p1"}}"#;
const REPORT: &str = r#"{"t":1700000000,"request_id":"r1","param":{"cid":"m1","id":"1","value":1.10}}"#;

fn sample(name: &str) -> String {
    format!("{}/tests/recordings/{name}", env!("CARGO_MANIFEST_DIR"))
}

fn convert(args: &[&str]) -> Command {
    let mut command = tuyagw();
    command.arg("convert").args(args);
    command
}

/// stdout as it is, after the run ended with this code.
fn output(args: &[&str], stdin: &[u8], code: i32) -> (Vec<u8>, String) {
    let mut child =
        convert(args).stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
    let (mut pipe, stdin) = (child.stdin.take().unwrap(), stdin.to_vec());
    let writer = std::thread::spawn(move || pipe.write_all(&stdin));
    let output = child.wait_with_output().unwrap();
    writer.join().unwrap().unwrap();
    let stderr = String::from_utf8(output.stderr).unwrap();
    assert_eq!(output.status.code(), Some(code), "{stderr}");
    (output.stdout, stderr)
}

/// The payloads of records, and their times since the first in milliseconds.
fn payloads(stdout: &[u8]) -> Vec<(Vec<u8>, u64)> {
    let text = str::from_utf8(stdout).unwrap();
    text.lines()
        .map(|line| {
            let record: Value = serde_json::from_str(line).unwrap();
            let payload = match record.get("payload_b64") {
                Some(base64) => BASE64_STANDARD.decode(base64.as_str().unwrap()).unwrap(),
                // The text itself, not what a parser makes of it.
                None => line.split_once(r#","payload":"#).unwrap().1.strip_suffix('}').unwrap().into(),
            };
            (payload, record["mono_us"].as_u64().unwrap() / 1000)
        })
        .collect()
}

#[test]
fn recordings_of_every_tool_give_the_same_records() {
    for (args, others) in [
        (&["mosquitto-1.6-j.jsonl"][..], &[][..]),
        (&["mosquitto-2.0.11-j.jsonl"], &[(&b"caf\xe9"[..], 2000), (b"", 3000)]),
        (&["mqtt-recorder-rs.jsonl"], &[(b"\xfb\xff\xfe", 2500)]),
        (&["mqtt_recorder.csv"], &[]),
        (&["mqtt_recorder-base64.csv", "--payload-base64"], &[]),
    ] {
        let file = sample(args[0]);
        let (stdout, stderr) = output(&[&[file.as_str()], &args[1..]].concat(), b"", 0);
        let found = payloads(&stdout);
        let mut expected = vec![(SYNC.as_bytes().to_vec(), 0), (REPORT.as_bytes().to_vec(), 1000)];
        expected.extend(others.iter().map(|(payload, ms)| (payload.to_vec(), *ms)));
        assert_eq!(found, expected, "{args:?}");
        let lossy = args[0].starts_with("mosquitto-2.0");
        assert_eq!(stderr.contains("line 4 holds 0 of a payload's 3 bytes"), lossy, "{stderr}");
        // What it wrote it reads, and nothing changes any more.
        let (again, _) = output(&["-"], &stdout, 0);
        assert_eq!(again, stdout);
    }
}

#[test]
fn what_mosquitto_wrote_anew_is_told() {
    let (stdout, stderr) = output(&[&sample("mosquitto-2.1-J.jsonl")], b"", 0);
    let found = payloads(&stdout);
    assert_eq!(found[1].0, REPORT.replace("1.10", "1.1").as_bytes());
    assert_eq!((found.len(), found[2].clone()), (3, (Vec::new(), 3000)));
    assert!(stderr.contains("line 2 holds 76 of a payload's 77 bytes"), "{stderr}");
    assert!(stderr.contains("line 3 is empty"), "{stderr}");
}

#[test]
fn captures_are_recordings() {
    let of = |name: &str| {
        let Ended { code, lines, stderr } = run(&mut convert(&[&sample(name)]));
        assert_eq!(code, Some(0), "{stderr}");
        assert!(stderr.contains("2 messages between platform users"), "{stderr}");
        lines
    };
    let lines = of("gateway.pcap");
    let kinds: Vec<_> = lines.iter().map(|line| line["kind"].as_str().unwrap()).collect();
    let count = |kind: &str| kinds.iter().filter(|known| **known == kind).count();
    assert_eq!(
        [count("connect"), count("disconnect"), count("sync"), count("sync.response")],
        [5, 5, 1, 1],
        "{kinds:?}"
    );
    assert_eq!(
        [count("report"), count("report.response"), count("command"), count("command.response")],
        [4, 4, 1, 1]
    );
    for line in lines.iter().filter(|line| line.get("payload").is_some()) {
        let up = matches!(line["kind"].as_str().unwrap(), "sync" | "report" | "command.response");
        assert_eq!(line["dir"], if up { "up" } else { "down" });
    }
    assert_eq!(lines, of("gateway.pcapng"));
    // The cooked capture was made at the same time; its packets' times are its own.
    let without_times = |mut lines: Vec<Value>| {
        for line in &mut lines {
            let line = line.as_object_mut().unwrap();
            line.remove("tst");
            line.remove("mono_us");
        }
        lines
    };
    assert_eq!(without_times(lines), without_times(of("cooked.pcap")));
}

#[test]
fn compressed_recordings_are_read_and_a_torn_end_is_told() {
    let folder = tempfile::tempdir().unwrap();
    let plain = fs::read(sample("mqtt-recorder-rs.jsonl")).unwrap();
    let (expected, _) = output(&["-"], &plain, 0);
    for (name, bytes) in [
        ("a.gz", {
            let mut encoder = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::default());
            encoder.write_all(&plain).unwrap();
            encoder.finish().unwrap()
        }),
        ("a.zst", zstd::encode_all(&plain[..], 3).unwrap()),
    ] {
        let file = folder.path().join(name);
        fs::write(&file, &bytes).unwrap();
        let file = file.to_str().unwrap();
        assert_eq!(output(&[file], b"", 0).0, expected);
        // Two members in one file, and the second is torn.
        fs::write(file, [&bytes[..], &bytes[..bytes.len() / 2]].concat()).unwrap();
        let (found, stderr) = output(&[file], b"", 0);
        assert!(found.starts_with(&expected), "{name}");
        assert!(stderr.contains("the compressed file ends in the middle"), "{stderr}");
    }
    let (found, stderr) = output(&["-"], &plain[..plain.len() - 9], 0);
    assert_eq!(found.iter().filter(|byte| **byte == b'\n').count(), 2);
    assert!(stderr.contains("stdin: line 3 ends in the middle"), "{stderr}");
}

#[test]
fn bad_lines_are_named_and_the_others_converted() {
    let good = fs::read_to_string(sample("mqtt-recorder-rs.jsonl")).unwrap();
    let input = format!("{good}nonsense\n{{\"topic\":\"x\"}}\n{{\"event\":\"listening\"}}\n\n{good}");
    let ended = run_with(&mut convert(&["-"]), input.as_bytes());
    assert_eq!((ended.code, ended.lines.len()), (Some(2), 6), "{ended:?}");
    assert!(ended.stderr.contains("stdin: line 4 ") && ended.stderr.contains("stdin: line 5 "), "{ended:?}");
    let missing = run(&mut convert(&["no/such.jsonl"]));
    assert_eq!(missing.code, Some(2));
    assert!(missing.stderr.contains("no/such.jsonl"), "{missing:?}");
    let empty = run(&mut convert(&["-"]));
    assert_eq!((empty.code, empty.lines.len()), (Some(0), 0), "{empty:?}");
    let mut flood = "x\n".repeat(500);
    flood.push_str(&good);
    let flood = run_with(&mut convert(&["-"]), flood.as_bytes());
    assert_eq!(flood.code, Some(2));
    assert!(flood.stderr.lines().count() < 20 && flood.stderr.contains("490 more lines"), "{flood:?}");
}

#[test]
fn csv_has_a_header_and_a_row_for_each_message() {
    let (stdout, _) = output(&["--to", "csv", &sample("mosquitto-2.0.11-j.jsonl")], b"", 0);
    let mut table = csv::Reader::from_reader(&stdout[..]);
    let header = table.headers().unwrap().clone();
    let rows: Vec<_> = table.records().map(Result::unwrap).collect();
    let cell = |row: usize, name: &str| {
        let column = header.iter().position(|known| known == name).expect(name);
        rows[row][column].to_owned()
    };
    assert_eq!(rows.len(), 4);
    assert_eq!(cell(0, "kind"), "sync");
    for (name, expected) in [
        ("tst", "2023-11-14T22:13:21.000000Z"),
        ("mono_us", "1000000"),
        ("dir", "up"),
        ("gateway_id", "gw1"),
        ("request_id", "r1"),
        ("cid", "m1"),
        ("id", "1"),
        ("value", "1.10"),
        ("payload", REPORT),
        ("payload_b64", ""),
    ] {
        assert_eq!(cell(1, name), expected, "{name}");
    }
    assert_eq!((cell(2, "payload"), cell(2, "payload_b64")), (String::new(), "Y2Fm6Q==".to_owned()));
}

#[test]
fn a_full_disk_is_said_and_a_reader_that_has_gone_is_no_error() {
    let full = fs::OpenOptions::new().write(true).open("/dev/full").unwrap();
    let output = convert(&[&sample("gateway.pcap")]).stdout(full).output().unwrap();
    assert_eq!(output.status.code(), Some(2), "{output:?}");
    assert!(String::from_utf8(output.stderr).unwrap().contains("cannot write to stdout"));
    let (reader, writer) = std::io::pipe().unwrap();
    drop(reader);
    let output = convert(&[&sample("gateway.pcap")]).stdout(writer).output().unwrap();
    assert_eq!(output.status.code(), Some(0), "{output:?}");
}
