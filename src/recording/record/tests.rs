//! Lines that are written and read.

use super::*;
use crate::{mqtt::ConnectCode, text::is_unsafe};

fn record<'a>(topic: &'a str, payload: &'a [u8]) -> Record<'a> {
    Record {
        unix_us: 1_795_332_120_123_456,
        topic: topic.into(),
        qos: 1,
        retain: false,
        dup: false,
        mid: Some(7),
        dir: Some(Direction::Down),
        channel: None,
        gateway_id: None,
        mono_us: Some(123_456),
        payload: payload.into(),
        is_json: false,
        unknown: Vec::new(),
    }
    .classified(&Topics::default())
}

fn written(record: &Record<'_>) -> String {
    let mut line = Vec::new();
    record.write(&mut line);
    String::from_utf8(line).unwrap()
}

fn read(line: &str) -> Record<'_> {
    Record::read(line.as_bytes(), &Topics::default()).expect(line).expect(line)
}

#[test]
fn a_line_is_as_the_contract_says() {
    let topic = "gateway_id/gw1/commands";
    assert_eq!(
        written(&record(topic, br#"{"t":1}"#)),
        "{\"v\":1,\"tst\":\"2026-11-22T07:22:00.123456Z\",\"topic\":\"gateway_id/gw1/commands\",\"qos\":1,\
         \"retain\":0,\"payloadlen\":7,\"mid\":7,\"dir\":\"down\",\"kind\":\"command\",\"gateway_id\":\"gw1\",\
         \"mono_us\":123456,\"payload\":{\"t\":1}}\n"
    );
    for channel in Channel::ALL {
        for dir in [Direction::Up, Direction::Down] {
            let marked = Record { channel: Some(channel), dir: Some(dir), ..record("gateway_id/gw1/x", b"") };
            let marks = format!(",\"dir\":\"{}\",\"kind\":\"{}\",", dir.name(), channel.kind());
            assert!(written(&marked).contains(&marks), "{channel:?} {dir:?}");
        }
    }
    let (mut line, mut prefix) = (Vec::new(), RecordPrefix::default());
    for unix_us in [0, 1_795_332_120_123_456, 1_795_332_120_123_456, 0] {
        let stamped = Record { unix_us, ..record("a/b", b"") };
        line.clear();
        stamped.write_after(&mut line, &mut prefix);
        assert_eq!(str::from_utf8(&line).unwrap(), written(&stamped));
    }
    let plain = Record { qos: 0, mid: None, dup: true, retain: true, unix_us: 0, ..record("a/b", b"") };
    assert_eq!(
        written(&plain),
        "{\"v\":1,\"tst\":\"1970-01-01T00:00:00.000000Z\",\"topic\":\"a/b\",\"qos\":0,\"retain\":1,\"dup\":1,\
         \"payloadlen\":0,\"dir\":\"down\",\"kind\":\"other\",\"mono_us\":123456,\"payload_b64\":\"\"}\n"
    );
}

#[test]
fn every_payload_comes_back_byte_by_byte() {
    let nested = |depth: usize| "[".repeat(depth) + &"]".repeat(depth);
    let (deep, too_deep, brackets) = (nested(100), nested(101), format!("[{}1]", "[],".repeat(300)));
    // As deep, with brackets beside.
    let (as_deep, deeper) = (format!("[[],{}]", nested(99)), format!("[[],{}]", nested(100)));
    let in_string = format!("[\"{}\\\"\"]", "[".repeat(300));
    let every_byte: Vec<u8> = (0..=255).collect();
    let corpus: &[(&[u8], bool)] = &[
        (b"1.10", true),
        (b"12345678901234567890", true),
        (b"1e999", true),
        (b"-0", true),
        (b"null", true),
        (b"\"null\"", true),
        (br#"{"a":"\u0000 \ud800 \/"}"#, true),
        (b"{ \"a\" : [ 1 , 2 ] }", true),
        (br#"{"a":1,"a":2}"#, true),
        (b"{\n  \"a\": 1\n}", false),
        (b"{\t\"a\":1}", false),
        (b" 1", false),
        (b"1 ", false),
        (b" ", false),
        (b"", false),
        (b"Hello World", false),
        (b"1 2", false),
        (b"{\"a\":1", false),
        (b"\xff\x00\xff", false),
        (b"\"caf\xe9\"", false),
        (&every_byte, false),
        (b"\x1b[2J", false),
        (b"\"\x1b\"", false),
        (b"\"\x7f\"", false),
        ("\"\u{9b}31m\"".as_bytes(), false),
        ("\"\u{80}\"".as_bytes(), false),
        ("\"\u{a0}网关\u{1f4a7}\"".as_bytes(), true),
        ("\"\u{202e}\"".as_bytes(), false),
        ("\"\u{2066}\"".as_bytes(), false),
        ("\"\u{61c}\"".as_bytes(), false),
        ("\"\u{200f}\"".as_bytes(), false),
        ("\"\u{2028}\u{2029}\u{feff}\"".as_bytes(), true),
        ("\u{feff}1".as_bytes(), false),
        (deep.as_bytes(), true),
        (too_deep.as_bytes(), false),
        (as_deep.as_bytes(), true),
        (deeper.as_bytes(), false),
        (brackets.as_bytes(), true),
        (in_string.as_bytes(), true),
    ];
    for (payload, as_json) in corpus {
        let line = written(&record("gateway_id/gw1/commands", payload));
        let shown = String::from_utf8_lossy(payload);
        let body = line.strip_suffix('\n').unwrap();
        assert!(!body.contains(is_unsafe), "{shown:?}: {line:?}");
        assert_eq!(line.contains("\"payload\":"), *as_json, "{shown:?}: {line}");
        let back = read(&line);
        assert_eq!(back.payload, *payload, "{shown:?}");
        assert_eq!(written(&back), line);
    }
}

#[test]
fn topics_and_unknown_fields_are_written_without_control_characters() {
    let line = written(&record("a\"\\\u{1b}\u{202e}/é", b"1"));
    assert!(!line.trim_end().contains(is_unsafe), "{line:?}");
    assert_eq!(read(&line).topic, "a\"\\\u{1b}\u{202e}/é");
    let line = "{\"tst\":0,\"topic\":\"x\",\"a\u{202e}\":{\t\"b\":\"\u{9b}\"},\"payload\":1}";
    assert!(written(&read(line)).contains(r#","a\u202e":{ "b":"\u009b"},"payload":1}"#));
}

#[test]
fn mosquitto_s_lines_are_read() {
    for (tst, unix_us) in [
        ("\"2026-11-22T07:22:00.123456Z+0000\"", 1_795_332_120_123_456),
        ("\"2026-11-22T08:22:00.123456+0100\"", 1_795_332_120_123_456),
        ("\"2026-11-22T02:22:00.123456Z-0500\"", 1_795_332_120_123_456),
        ("\"2026-11-22T07:22:00Z\"", 1_795_332_120_000_000),
        ("1795332120", 1_795_332_120_000_000),
        ("1795332120.25", 1_795_332_120_250_000),
    ] {
        let line = format!(
            "{{\"tst\":{tst},\"topic\":\"gateway_id/gw1/properties/report\",\"qos\":1,\"retain\":true,\
             \"payloadlen\":23,\"mid\":1,\"properties\":{{\"a\":1}},\"payload\":{{\"a\":1.1}}}}"
        );
        let found = read(&line);
        assert_eq!((found.unix_us, found.retain, found.mid), (unix_us, true, Some(1)), "{tst}");
        assert_eq!((found.dir, found.channel), (Some(Direction::Up), Some(Channel::Report)));
        assert_eq!((found.gateway_id.as_deref(), found.mono_us), (Some("gw1"), None));
        assert_eq!(&*found.payload, br#"{"a":1.1}"#);
        assert_eq!((&*found.unknown[0].0, found.unknown[0].1.get()), ("properties", "{\"a\":1}"));
    }
    for (length, payload) in [(0, &b""[..]), (4, b"null")] {
        let line = format!("{{\"tst\":1,\"topic\":\"x\",\"payloadlen\":{length},\"payload\":null}}\r\n");
        assert_eq!(&*read(&line).payload, payload);
    }
}

#[test]
fn other_lines_are_passed_over_and_broken_ones_named() {
    let mut connect = Vec::new();
    let client = ConnectionRecord {
        unix_us: 0,
        dir: Direction::Up,
        connected: true,
        gateway_id: Some("gw1"),
        mono_us: 5,
        client_id: "gw1",
        username: Some("ac\"me"),
        code: Some(ConnectCode::ACCEPTED),
    };
    client.write(&mut connect);
    assert_eq!(
        str::from_utf8(&connect).unwrap(),
        "{\"v\":1,\"tst\":\"1970-01-01T00:00:00.000000Z\",\"dir\":\"up\",\"kind\":\"connect\",\
         \"gateway_id\":\"gw1\",\"mono_us\":5,\"client_id\":\"gw1\",\"username\":\"ac\\\"me\",\"code\":0}\n"
    );
    let topics = Topics::default();
    for line in
        ["", "\n", r#"{"event":"listening"}"#, r#"{"op":"report"}"#, str::from_utf8(&connect).unwrap()]
    {
        assert!(Record::read(line.as_bytes(), &topics).unwrap().is_none(), "{line}");
    }
    for (line, field) in [
        ("[1]", ""),
        ("{\"tst\":1,\"topic\":\"x\",\"payl", ""),
        ("{\"tst\":1,\"topic\":\"x\",\"topic\":\"y\",\"payload\":1}", ""),
        ("{}", "topic"),
        (r#"{"topic":1}"#, "topic"),
        (r#"{"topic":"x","payload":1}"#, "tst"),
        (r#"{"tst":"now","topic":"x","payload":1}"#, "tst"),
        (r#"{"tst":1e300,"topic":"x","payload":1}"#, "tst"),
        (r#"{"tst":99999999999999999,"topic":"x","payload":1}"#, "tst"),
        (r#"{"tst":1,"topic":"x"}"#, "payload"),
        (r#"{"tst":1,"topic":"x","payload":1,"payload_b64":""}"#, "payload_b64"),
        (r#"{"tst":1,"topic":"x","payload_b64":"*"}"#, "payload_b64"),
        (r#"{"tst":1,"topic":"x","qos":3,"payload":1}"#, "qos"),
        (r#"{"tst":1,"topic":"x","mid":65536,"payload":1}"#, "mid"),
        (r#"{"tst":1,"topic":"x","dir":"left","payload":1}"#, "dir"),
        (r#"{"tst":1,"topic":"x","mono_us":-1,"payload":1}"#, "mono_us"),
        (r#"{"v":2,"tst":1,"topic":"x","payload":1}"#, "v"),
    ] {
        assert_eq!(Record::read(line.as_bytes(), &topics).expect_err(line).field, field, "{line}");
    }
}

#[test]
fn a_shared_topic_is_told_apart_by_the_payload() {
    let mut topics = Topics::default();
    for channel in [Channel::SyncResponse, Channel::Command, Channel::ReportResponse] {
        topics.set(channel, "gateway/in/{gateway_id}").unwrap();
    }
    for (payload, kind) in [
        (r#"{"t":1,"cid":"m1","request_id":"r","param":{"id":"4","value":true}}"#, "command"),
        (r#"{"t":1,"request_id":"r","param":{"cid":"m1","msg":"success","code":0}}"#, "sync.response"),
        ("Hello World", "other"),
    ] {
        let found =
            Record { channel: None, gateway_id: None, ..record("gateway/in/gw1", payload.as_bytes()) }
                .classified(&topics);
        assert_eq!(found.channel.map_or("other", Channel::kind), kind);
        assert_eq!(found.gateway_id.as_deref(), Some("gw1"));
    }
}
