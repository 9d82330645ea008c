//! Payloads that recorders tend to break: replayed, recorded by `listen`, compressed, replayed through a tap, recorded on
//! both sides, and replayed once more. The test compares bytes, with other code than ours.

use std::{
    fs,
    io::{BufRead as _, BufReader, Write as _},
    path::{Path, PathBuf},
    process::{Child, Stdio},
    thread,
};

use base64::{Engine as _, prelude::BASE64_STANDARD};
use flate2::{Compression, write::GzEncoder};
use serde_json::Value;

use super::process::{Service, ended, run, tuyagw};

type Message = (String, Vec<u8>);

/// The corpus: topics and payloads.
fn corpus() -> Vec<Message> {
    let mut payloads: Vec<Vec<u8>> = [
        r#"{"value":1.10}"#,
        r#"{"value":12345678901234567890,"e":1e400,"z":-0.0,"n":1.0E+2}"#,
        r#"{"a":"\u0000\u001f\u2028\/\ud83d\ude00"}"#,
        "{\n  \"t\" : 1,\r\n\t\"request_id\" : \"r\"\n}\n",
        r#"{"a":1,"a":2,"":null}"#,
        r#"{"t":1,"request_id":"a\/\u0062","request_id":"c"}"#,
        r#"  {"spaces":"around"}  "#,
        r#""text""#,
        "12345678901234567890.10",
        "null",
        "[]",
        "no JSON at all",
        "{\"torn\":",
        "caf\u{e9} \u{202e}\u{85}\u{7f}\u{1b}[2J",
        "\u{feff}{\"bom\":1}",
        "",
        "\n",
        "{}{}",
    ]
    .iter()
    .map(|text| text.as_bytes().to_vec())
    .collect();
    payloads.push((0..=255).collect());
    payloads.push(vec![0; 3]);
    payloads.push(b"\xff\xfe\xc0\x80\xed\xa0\x80".to_vec());
    payloads.push(b"\"caf\xe9\"".to_vec());
    for depth in [99, 100, 101, 5000] {
        payloads.push(["[".repeat(depth), "]".repeat(depth)].concat().into_bytes());
    }
    // As large as the edge takes packets, in both forms.
    payloads.push(format!("{{\"long\":\"{}\"}}", "x".repeat(1_000_000)).into_bytes());
    payloads.push((0..1_000_000_u32).map(|n| n.to_le_bytes()[(n % 3) as usize]).collect());
    let topics =
        ["corpus/1", "gateway_id/gw1/elsewhere", "網關/水表", "шлюз/счётчик", "بوابة/عداد", "🌊/💧", "é"];
    payloads
        .into_iter()
        .zip(topics.into_iter().cycle())
        .map(|(payload, topic)| (topic.to_owned(), payload))
        .collect()
}

/// Topics and payloads of a file of records. Takes a payload's text from the line, without a parser.
fn messages(file: &Path) -> Vec<Message> {
    let text = fs::read_to_string(file).unwrap();
    text.lines()
        .filter_map(|line| {
            let head = line.split_once(r#","payload"#)?.0;
            let record: Value = serde_json::from_str(&format!("{head}}}")).unwrap();
            let payload = match line.split_once(r#","payload_b64":""#) {
                Some((_, base64)) => BASE64_STANDARD.decode(base64.strip_suffix("\"}").unwrap()).unwrap(),
                None => line.split_once(r#","payload":"#).unwrap().1.strip_suffix('}').unwrap().into(),
            };
            Some((record["topic"].as_str().unwrap().to_owned(), payload))
        })
        .collect()
}

fn check(file: &Path) {
    let (found, expected) = (messages(file), corpus());
    assert_eq!(found.len(), expected.len(), "{}", file.display());
    for (n, (found, expected)) in found.iter().zip(&expected).enumerate() {
        assert_eq!(found.0, expected.0, "{}: {n}", file.display());
        let shown = |bytes: &[u8]| bytes[..bytes.len().min(300)].escape_ascii().to_string();
        assert!(
            found.1 == expected.1,
            "{}: {n}: {} in place of {}",
            file.display(),
            shown(&found.1),
            shown(&expected.1)
        );
    }
}

/// A listener that is listening, and ends once it has the whole corpus.
fn listen(broker: &str, out: &Path) -> Child {
    let count = corpus().len().to_string();
    let mut child = tuyagw()
        .args(["listen", "-b", broker, "-g", "gw1", "-u", "platform", "--client-id", "ear", "--topic", "#"])
        .args(["--count", &count, "--out", out.to_str().unwrap()])
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    let mut stderr = BufReader::new(child.stderr.take().unwrap());
    let mut line = String::new();
    while !line.contains("listening") {
        line.clear();
        assert!(stderr.read_line(&mut line).unwrap() > 0, "it ended too early");
    }
    // Drain the rest, or the listener would find its stderr full.
    thread::spawn(move || std::io::copy(&mut stderr, &mut std::io::sink()));
    child
}

/// Replays a file unchanged, and waits for the listener.
fn play(broker: &str, file: &Path, listener: Child) {
    let played = run(tuyagw()
        .args(["replay", "-b", broker, "-g", "gw1", "-u", "platform", "--client-id", "mouth"])
        .args(["--keep-t", "--keep-ids", "--speed", "max"])
        .arg(file));
    assert_eq!((played.code, played.lines.len()), (Some(0), 0), "{played:?}");
    let heard = ended(listener);
    assert_eq!(heard.code, Some(0), "{heard:?}");
}

#[test]
fn awkward_payloads_survive_replay_tap_and_recording_byte_by_byte() {
    let folder = tempfile::tempdir().unwrap();
    let at = |name: &str| -> PathBuf { folder.path().join(name) };
    let mut written = String::new();
    for (n, (topic, payload)) in corpus().iter().enumerate() {
        let payload = BASE64_STANDARD.encode(payload);
        written += &format!(
            "{{\"v\":1,\"tst\":\"2026-11-22T07:22:00Z\",\"topic\":\"{topic}\",\"qos\":{},\"retain\":0,\"mono_us\":{n},\
             \"payload_b64\":\"{payload}\"}}\n",
            1 + n % 2
        );
    }
    fs::write(at("source"), written).unwrap();
    let edge = Service::edge(&["--out", "/dev/null"]);

    let first = at("first.jsonl");
    play(&edge.url, &at("source"), listen(&edge.url, &first));
    check(&first);

    let packed = at("first.jsonl.gz");
    let mut gzip = GzEncoder::new(Vec::new(), Compression::fast());
    gzip.write_all(&fs::read(&first).unwrap()).unwrap();
    fs::write(&packed, gzip.finish().unwrap()).unwrap();
    let (tapped, second) = (at("tapped.jsonl"), at("second.jsonl"));
    let tap = Service::tap(&edge.url, &["--out", tapped.to_str().unwrap()]);
    play(&tap.url, &packed, listen(&edge.url, &second));
    let tap = tap.end("TERM");
    assert_eq!(tap.code, Some(143), "{tap:?}");
    check(&second);
    check(&tapped);

    let packed = at("tapped.jsonl.zst");
    fs::write(&packed, zstd::encode_all(&fs::read(&tapped).unwrap()[..], 1).unwrap()).unwrap();
    let third = at("third.jsonl");
    play(&edge.url, &packed, listen(&edge.url, &third));
    check(&third);
}
