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
        // It reads its own output, and changes nothing.
        let (again, _) = output(&["-"], &stdout, 0);
        assert_eq!(again, stdout);
    }
}

#[test]
fn payloads_rewritten_by_mosquitto_are_reported() {
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

fn gzip(bytes: &[u8]) -> Vec<u8> {
    let mut encoder = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::default());
    encoder.write_all(bytes).unwrap();
    encoder.finish().unwrap()
}

#[test]
fn compressed_recordings_are_read_and_a_torn_end_is_reported() {
    let folder = tempfile::tempdir().unwrap();
    for sample_name in ["mqtt-recorder-rs.jsonl", "mqtt_recorder.csv", "gateway.pcap", "gateway.pcapng"] {
        let plain = fs::read(sample(sample_name)).unwrap();
        let (expected, _) = output(&["-"], &plain, 0);
        for (name, form, bytes) in
            [("a.gz", "gzip", gzip(&plain)), ("a.zst", "zstd", zstd::encode_all(&plain[..], 3).unwrap())]
        {
            let file = folder.path().join(name);
            let file = file.to_str().unwrap();
            // Whole, in two members, padded with zeros, and compressed twice over.
            let (first, second) = plain.split_at(plain.len() / 2);
            let pack =
                |bytes: &[u8]| if name == "a.gz" { gzip(bytes) } else { zstd::encode_all(bytes, 3).unwrap() };
            for packed in [
                bytes.clone(),
                [pack(first), vec![0; 700], pack(second), vec![0; 512]].concat(),
                pack(&bytes),
            ] {
                fs::write(file, packed).unwrap();
                assert_eq!(output(&[file], b"", 0).0, expected, "{sample_name} {name}");
            }
            assert_eq!(output(&["-"], &bytes, 0).0, expected);
            // The second member is cut off: the first one's messages are given, and one error says it.
            fs::write(file, [&bytes[..], &bytes[..bytes.len() / 2]].concat()).unwrap();
            let (found, stderr) = output(&[file], b"", 2);
            // A capture in a capture is no packet, and its last warnings come behind the first one's messages.
            let common = if sample_name.starts_with("gateway") { expected.len() / 2 } else { expected.len() };
            assert!(found.starts_with(&expected[..common]), "{sample_name} {name}");
            let errors: Vec<_> = stderr.lines().filter(|line| line.starts_with("error:")).collect();
            let [error] = errors[..] else { panic!("{stderr}") };
            assert!(error.contains(file) && error.contains(form) && error.contains("is cut off"), "{stderr}");
            assert!(!stderr.contains("as a crash leaves it"), "{stderr}");
            assert!(stderr.contains(&format!("{form} -t")), "{stderr}");
        }
    }
    let plain = fs::read(sample("mqtt-recorder-rs.jsonl")).unwrap();
    let cut = gzip(&plain);
    for end in [2, 9, 20, cut.len() - 1] {
        let (_, stderr) = output(&["-"], &cut[..end], 2);
        assert!(stderr.contains("stdin is cut off: its gzip data"), "{end}: {stderr}");
    }
    let (found, stderr) = output(&["-"], &plain[..plain.len() - 9], 0);
    assert_eq!(found.iter().filter(|byte| **byte == b'\n').count(), 2);
    assert!(stderr.contains("stdin: line 3 ends in the middle"), "{stderr}");
}

/// The recording as its records' own lines, without their payloads' place.
fn records(stdout: &[u8]) -> Vec<Value> {
    str::from_utf8(stdout).unwrap().lines().map(|line| serde_json::from_str(line).unwrap()).collect()
}

#[test]
fn mosquitto_1_5_s_decimal_escapes_are_read() {
    let (stdout, stderr) = output(&[&sample("mosquitto-1.5-j.jsonl")], b"", 0);
    assert_eq!(stderr, "");
    let found = payloads(&stdout);
    assert_eq!(found[0], (SYNC.replace("1700000000", "1").into_bytes(), 0));
    assert_eq!(found[1], (b"{\"t\":1,\n\t\"request_id\":\"a\\\\b\"}".to_vec(), 1000));
    // The first line of this file is a payload that either version could have written so.
    let input = ["{\"tst\":1554139867,\"topic\":\"a\",\"payloadlen\":1,\"payload\":\"\\u0010\"}\n"].concat();
    let rest = fs::read_to_string(sample("mosquitto-1.5-j.jsonl")).unwrap();
    let (stdout, stderr) = output(&["-"], (input + &rest).as_bytes(), 0);
    assert_eq!((payloads(&stdout)[0].0.as_slice(), stderr.as_str()), (&b"\n"[..], ""));
}

#[test]
fn times_in_scientific_notation_are_exact_and_bad_times_are_refused() {
    let lines = "{\"tst\":1.714550400123E9,\"topic\":\"a\",\"payload\":1}\n\
                 {\"time\":1.7145504005e+09,\"topic\":\"a\",\"msg\":\"x\"}\n\
                 {\"tst\":\"1714550401.25\",\"topic\":\"a\",\"payload\":1}\n";
    let rows = "a,x,0,False,1.714550400123E9,0\na,x,0,False,1.7E9,1e0\n";
    let times = |input: &str, code| {
        let (stdout, stderr) = output(&["-"], input.as_bytes(), code);
        let time = |record: &Value| {
            (record["tst"].as_str().unwrap()[11..].to_owned(), record["mono_us"].as_u64().unwrap())
        };
        (records(&stdout).iter().map(time).collect::<Vec<_>>(), stderr)
    };
    let expected = [("08:00:00.123000Z", 0), ("08:00:00.500000Z", 377_000), ("08:00:01.250000Z", 1_127_000)];
    assert_eq!(times(lines, 0).0, expected.map(|(time, us)| (time.to_owned(), us)));
    let expected = [("08:00:00.123000Z", 0), ("22:13:20.000000Z", 1_000_000)];
    assert_eq!(times(rows, 0).0, expected.map(|(time, us)| (time.to_owned(), us)));
    for number in ["1714550400123", "1E13", "-1e11", "\"1.7.0\"", "\"0x10\""] {
        let (found, stderr) = times(&lines.replacen("1.714550400123E9", number, 1), 2);
        assert_eq!(found.len(), 2, "{number}");
        assert!(stderr.contains("line 1 cannot be read: tst must be a time"), "{stderr}");
        if !number.starts_with('"') {
            let (found, stderr) = times(&rows.replacen("1.7E9", number, 1), 2);
            assert_eq!(found.len(), 1, "{number}");
            assert!(stderr.contains("line 2 cannot be read: time must be"), "{stderr}");
        }
    }
    for delta in ["inf", "nan", "1e400", "1e20"] {
        let (_, stderr) = times(&rows.replacen("1e0", delta, 1), 2);
        assert!(stderr.contains("line 2 cannot be read: delta"), "{stderr}");
    }
}

#[test]
fn indented_objects_are_recordings_too() {
    let (stdout, stderr) = output(&["-"], &fs::read(sample("mosquitto-2.0-j-pretty.json")).unwrap(), 0);
    assert_eq!((payloads(&stdout), stderr.as_str()), (vec![(SYNC.into(), 0), (REPORT.into(), 1000)], ""));
    // Our own records, indented by another tool: the payload's original bytes are lost, and that is reported.
    let mut indented = String::new();
    for record in records(&stdout) {
        indented += &serde_json::to_string_pretty(&record).unwrap();
        indented.push('\n');
    }
    let (again, stderr) = output(&["-"], indented.as_bytes(), 0);
    assert_eq!(records(&again).len(), 2);
    assert_eq!(stderr.matches("was indented anew").count(), 2, "{stderr}");
}

#[test]
fn a_file_that_is_no_recording_is_one_error_in_every_subcommand() {
    let folder = tempfile::tempdir().unwrap();
    let line = "gateway_id/gw1/properties/report {\"t\":1,\"request_id\":\"a\"}\n";
    let tar = [&[b'x'; 257][..], b"ustar\x0000", &[0; 300]].concat();
    let utf16: Vec<u8> = "{\"tst\":1}\r\n".encode_utf16().flat_map(u16::to_le_bytes).collect();
    for (bytes, what) in [
        (line.as_bytes().to_vec(), "is not a recording"),
        (line.trim_end().as_bytes().to_vec(), "is not a recording"),
        (format!("2024-05-01T10:00:00+0200 {line}{line}").into_bytes(), "is not a recording"),
        (b"\xfd7zXZ\0more".to_vec(), "compressed with xz"),
        (b"PK\x03\x04\x14\0\0\0".to_vec(), "ZIP archive"),
        (b"BZh91AY&SY\0\0".to_vec(), "compressed with bzip2"),
        (b"7z\xbc\xaf\x27\x1c\0\0".to_vec(), "7z archive"),
        (b"\x04\x22\x4d\x18\0\0".to_vec(), "compressed with lz4"),
        (tar.clone(), "tar archive"),
        (gzip(&tar), "tar archive"),
        ([&b"\xff\xfe"[..], &utf16].concat(), "text in UTF-16"),
        (utf16, "text in UTF-16"),
    ] {
        let file = folder.path().join("file");
        fs::write(&file, &bytes).unwrap();
        let file = file.to_str().unwrap();
        for args in [&["convert"][..], &["inspect"], &["replay", "--dry-run"]] {
            let from_file = run(tuyagw().args(args).arg(file));
            let from_pipe = run_with(tuyagw().args(args).arg("-"), &bytes);
            for (ended, name) in [(from_file, file), (from_pipe, "stdin")] {
                assert_eq!((ended.code, ended.lines.len()), (Some(2), 0), "{ended:?}");
                let lines: Vec<_> = ended.stderr.lines().collect();
                let [error, hint] = lines[..] else { panic!("{ended:?}") };
                assert!(error.starts_with(&format!("error: {name} is")) && error.contains(what), "{ended:?}");
                assert!(hint.starts_with("hint: "), "{ended:?}");
            }
        }
    }
}

#[test]
fn an_empty_recording_is_reported() {
    for (input, what) in [
        (&b""[..], "holds no message"),
        (b"\n\n", "holds no message"),
        (b"{\"event\":\"listening\"}\n", "holds no message"),
        (&fs::read(sample("gateway.pcap")).unwrap()[..24], "holds no message"),
    ] {
        for args in [&["convert", "-"][..], &["inspect", "-"], &["replay", "--dry-run", "-"]] {
            let ended = run_with(tuyagw().args(args), input);
            assert_eq!(ended.code, Some(0), "{ended:?}");
            assert!(ended.stderr.contains(&format!("warning: stdin {what}")), "{ended:?}");
        }
    }
    let logs = run_with(&mut convert(&["-"]), b"{\"log\":\"hello\"}\n{\"log\":\"bye\"}\n");
    assert_eq!(logs.code, Some(2));
    assert!(
        logs.stderr.contains("holds no message that can be read") && logs.stderr.contains("-F %j"),
        "{logs:?}"
    );
}

#[test]
fn the_tail_of_a_recording_is_read_from_its_first_whole_record() {
    for (name, records) in [
        ("mosquitto-2.0.11-j.jsonl", 4),
        ("mqtt-recorder-rs.jsonl", 3),
        ("mqtt_recorder.csv", 2),
        ("mosquitto-2.0-j-pretty.json", 2),
    ] {
        let whole = fs::read(sample(name)).unwrap();
        let whole = [&whole[..], &whole].concat();
        let (stdout, stderr) = output(&["-"], &whole[70..], 0);
        assert_eq!(payloads(&stdout).len(), 2 * records - 1, "{name}: {stderr}");
        assert_eq!(
            stderr.matches("begins in the middle, as tail -c leaves it").count(),
            1,
            "{name}: {stderr}"
        );
        // A stray line in front is no part of it, with a comma or without.
        for stray in ["warning: lost, reconnecting\n", "no comma\n"] {
            let (stdout, stderr) = output(&["-"], &[stray.as_bytes(), &whole].concat(), 2);
            assert_eq!(payloads(&stdout).len(), 2 * records, "{name}: {stderr}");
            assert!(stderr.contains("stdin: line 1 stands in front of the recording"), "{name}: {stderr}");
        }
    }
}

#[test]
fn foreign_text_is_escaped_for_terminals_and_spreadsheets() {
    let aside = "{\"v\":1,\"event\":\"left-out\",\"records\":3,\"x\":\"\u{9b}31m\u{202e}\"}\n";
    let (stdout, _) = output(&["-"], aside.as_bytes(), 0);
    assert_eq!(
        str::from_utf8(&stdout).unwrap(),
        aside.replace('\u{9b}', "\\u009b").replace('\u{202e}', "\\u202e")
    );
    let record = r#"{"tst":1,"topic":"=x/y","payload":{"t":1,"request_id":"=HYPERLINK(\"http://a\")","param":{"cid":"@SUM(1)","id":"1","value":-5,"msg":"+1"}}}"#;
    let (stdout, _) = output(&["--to", "csv", "-"], format!("{record}\n").as_bytes(), 0);
    let mut table = csv::Reader::from_reader(&stdout[..]);
    let row = table.records().next().unwrap().unwrap();
    for cell in ["'=x/y", "'=HYPERLINK(\"http://a\")", "'@SUM(1)", "'+1", "-5"] {
        assert!(row.iter().any(|found| found == cell), "{cell}: {row:?}");
    }
    // The payload's own bytes are never changed.
    let (stdout, _) = output(&["--to", "csv", "-"], b"{\"time\":1,\"topic\":\"a\",\"msg\":\"=1+1\"}\n", 0);
    let row = csv::Reader::from_reader(&stdout[..]).records().next().unwrap().unwrap();
    assert_eq!((&row[16], &row[17]), ("", "PTErMQ=="));
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
fn a_full_disk_is_an_error_and_a_closed_stdout_is_not() {
    let full = fs::OpenOptions::new().write(true).open("/dev/full").unwrap();
    let output = convert(&[&sample("gateway.pcap")]).stdout(full).output().unwrap();
    assert_eq!(output.status.code(), Some(2), "{output:?}");
    assert!(String::from_utf8(output.stderr).unwrap().contains("cannot write to stdout"));
    let (reader, writer) = std::io::pipe().unwrap();
    drop(reader);
    let output = convert(&[&sample("gateway.pcap")]).stdout(writer).output().unwrap();
    assert_eq!(output.status.code(), Some(0), "{output:?}");
}
