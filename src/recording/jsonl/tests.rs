//! Lines of every tool, and what they are read as.

use super::*;

/// What lines are read as: payloads, and flaws behind a `!`.
fn read(lines: &[&[u8]]) -> Vec<(u64, String)> {
    let topics = Topics::default();
    let mut reader = JsonLinesReader::new(&topics, 0);
    let mut found = Vec::new();
    let mut visit = |number, what: RecordingEntry<'_>| {
        found.push((
            number,
            match what {
                RecordingEntry::Message(record) => record.payload.escape_ascii().to_string(),
                RecordingEntry::Issue(issue) => format!("!{:?}: {}", issue.kind, issue.message),
                RecordingEntry::EventLine(line) => format!("~{}", line.escape_ascii()),
                other => format!("{other:?}"),
            },
        ));
        ControlFlow::Continue(())
    };
    for line in lines {
        assert!(reader.read(line, line.ends_with(b"\n"), &mut visit).is_continue());
    }
    assert!(reader.finish(&mut visit).is_continue());
    found
}

fn one(line: &[u8]) -> String {
    let found = read(&[line]);
    assert_eq!(found.len(), 1, "{found:?}");
    found[0].1.clone()
}

#[test]
fn mosquitto_s_text_payloads_come_back() {
    let line = |length: usize, payload: &str| {
        format!(
            "{{\"tst\":1.5,\"topic\":\"a\",\"qos\":1,\"retain\":0,\"payloadlen\":{length},\"payload\":{payload}}}\n"
        )
    };
    for (length, payload, expected) in [
        (7, r#""{\"t\":1}""#, r#"{\"t\":1}"#),
        (0, "null", ""),
        (0, r#""""#, ""),
        (4, r#""null""#, "null"),
        (3, r#""\u0001\n\u007f""#, r"\x01\n\x7f"),
        (4, r#""\ud83d\ude00""#, r"\xf0\x9f\x98\x80"),
        (2, r#""\u0001\u0002""#, r"\x01\x02"),
        (4, r#""ab""#, r#"\"ab\""#),
        (3, "1.1", "1.1"),
    ] {
        assert_eq!(one(line(length, payload).as_bytes()), expected, "{payload}");
    }
    // The byte E9 stands in the line as it is.
    let mut raw = line(4, "\"caf*\"").into_bytes();
    let at = raw.iter().position(|byte| *byte == b'*').unwrap();
    raw[at] = 0xe9;
    assert_eq!(one(&raw), r"caf\xe9");
}

#[test]
fn what_mosquitto_lost_is_told() {
    let lost = read(&[b"{\"tst\":1,\"topic\":\"a\",\"payloadlen\":3,\"payload\":\"\"}\n"]);
    assert!(lost[0].1.starts_with("!Lossy: holds 0 of a payload's 3 bytes"), "{lost:?}");
    assert_eq!(lost[1], (1, String::new()));
    let anew = read(&[
        b"{\"tst\":1,\"topic\":\"a\",\"payloadlen\":7,\"payload\":{\"a\":1}}\n",
        b"\n",
        b"{\"tst\":1,\"topic\":\"a\",\"payloadlen\":4,\"payload\":1.1}\n",
        b"{\"tst\":1,\"topic\":\"a\",\"payloadlen\":9,\"payload\":\"caf\"}\n",
    ]);
    let told: Vec<_> = anew.iter().map(|(line, what)| (*line, what.split(':').next().unwrap())).collect();
    assert_eq!(
        told,
        [(1, "{\\\"a\\\""), (2, "!Lossy"), (3, "!Lossy"), (3, "1.1"), (4, "!Lossy"), (4, "\\\"caf\\\"")]
    );
}

#[test]
fn recorder_lines_are_read_in_both_alphabets() {
    for (line, expected) in [
        (r#"{"time":1700000000.25,"qos":1,"retain":false,"topic":"a","msg_b64":"+/8="}"#, r"\xfb\xff"),
        (r#"{"time":1700000000.25,"qos":1,"retain":false,"topic":"a","msg_b64":"-_8"}"#, r"\xfb\xff"),
        (r#"{"time":1700000000,"qos":2,"retain":true,"topic":"a","msg":"x\ny"}"#, r"x\ny"),
        (r#"{"tst":"2026-11-22T07:22:00Z","qos":0,"retain":1,"topic":"a","msg_b64":""}"#, ""),
    ] {
        assert_eq!(one(format!("{line}\n").as_bytes()), expected, "{line}");
    }
    for line in [
        r#"{"time":1,"qos":1,"topic":"a","msg_b64":"*"}"#,
        r#"{"qos":1,"topic":"a","msg_b64":""}"#,
        r#"{"time":1,"qos":3,"topic":"a","msg":""}"#,
    ] {
        assert!(one(format!("{line}\n").as_bytes()).starts_with("!Unreadable"), "{line}");
    }
}

#[test]
fn our_own_lines_pass_and_broken_ones_are_named() {
    let connect =
        br#"{"v":1,"tst":"2026-11-22T07:22:00Z","dir":"up","kind":"connect","mono_us":0,"client_id":"g"}"#;
    let found = read(&[
        connect,
        b"{\"event\":\"listening\"}\n",
        b"{\"op\":\"report\"}\n",
        b"\n",
        b"{\"v\":1,\"tst\":0,\"topic\":\"x\",\"payloadlen\":99,\"payload\":\"a\"}\n",
        b"{\"v\":1,\"tst\":0,\"topic\":\"x\"}\n",
        b"nonsense\n",
        b"{\"v\":1,\"tst\":0,\"to",
    ]);
    let told: Vec<_> = found.iter().map(|(line, what)| (*line, &what[..what.len().min(6)])).collect();
    assert_eq!(
        told,
        [(1, "~{\\\"v\\"), (5, "\\\"a\\\""), (6, "!Unrea"), (7, "!Unrea"), (8, "!Torn:")],
        "{found:?}"
    );
}

/// A line of mosquitto_sub 1.5, or of 1.6.
fn old(length: usize, payload: &str) -> Vec<u8> {
    format!("{{\"tst\":1,\"topic\":\"a\",\"qos\":1,\"retain\":0,\"payloadlen\":{length},\"payload\":\"{payload}\"}}\n")
        .into_bytes()
}

#[test]
fn decimal_escapes_of_mosquitto_1_5_are_read_in_the_whole_recording() {
    // A newline in 1.5, and a control character since; the third line shows which.
    let lines = [
        old(3, r"a\u0010b"),
        old(2, "ok"),
        old(13, r"{\u0034t\u0034:\u00341\u0034}"),
        old(4, r"\u0092\u0009\u0031~"),
    ];
    let lines: Vec<_> = lines.iter().map(Vec::as_slice).collect();
    let payloads = |found: &[(u64, String)]| found.iter().map(|(_, what)| what.clone()).collect::<Vec<_>>();
    let mut expected = vec![r"a\nb", "ok", r#"{\"t\":\"1\"}"#, r"\\\t\x1f~"];
    let found = read(&lines);
    assert_eq!(found.iter().map(|(line, _)| *line).filter(|line| *line != 3).collect::<Vec<_>>(), [1, 2, 4]);
    let found = payloads(&found);
    // Its length is wrong on purpose: that is told as ever.
    assert!(found[2].starts_with("!Lossy"), "{found:?}");
    expected.insert(2, &found[2]);
    assert_eq!(found, expected);
    // Nothing shows it: since 1.6, unless the length says otherwise.
    assert_eq!(payloads(&read(&lines[..2])), [r"a\x10b", "ok"]);
    assert_eq!(payloads(&read(&[&old(3, r"a\u0092b")])), [r"a\\b"]);
    assert_eq!(payloads(&read(&[&old(4, r"a\u0092b")])), [r"a\xc2\x92b"]);
    let later = [&old(3, r"a\u0010b")[..], &old(3, r#"\"x\""#), &old(1, r"\u0034")];
    assert_eq!(payloads(&read(&later)), [r"a\x10b", r#"\"x\""#, "4"]);
    let raw = [&b"{\"tst\":1,\"topic\":\"a\",\"payloadlen\":3,\"payload\":\"\\u0034\xe9\\u0010\"}\n"[..]];
    assert_eq!(payloads(&read(&raw)), [r#"\"\xe9\n"#]);
}

#[test]
fn an_indented_object_is_read_as_one_line() {
    let object = |payload: &str| {
        format!(
            "{{\n\t\"tst\":\t1,\n\t\"topic\":\t\"a\",\n\t\"payloadlen\":\t7,\n\t\"payload\":\t{payload}\n}}\n"
        )
    };
    let lines = |text: &str| {
        let lines: Vec<_> = text.split_inclusive('\n').map(str::as_bytes).collect();
        read(&lines)
    };
    let text = object(r#""{\"t\":1}""#);
    let found = lines(&[text.as_str(), &text].concat());
    assert_eq!(found, [(1, r#"{\"t\":1}"#.to_owned()), (7, r#"{\"t\":1}"#.to_owned())]);
    let found = lines(&object("{\n\t\t\"t\":\t1\n\t}"));
    assert!(found[0].1.starts_with("!Lossy: holds a payload that was indented anew"), "{found:?}");
    assert_eq!(found[1], (1, r#"{\"t\":1}"#.to_owned()));
    let found = lines(&text[..40]);
    assert!(found.len() == 1 && found[0].1.starts_with("!Torn: begins an object"), "{found:?}");
    let found = lines(&["{\n  \"tst\": 1,\n", &text].concat());
    assert!(
        found[0].1.starts_with("!Unreadable: begins an object that does not end before line 3"),
        "{found:?}"
    );
    assert_eq!((found.len(), found[1].0), (2, 3));
    assert_eq!(compact(br#"{ "a \" b" : [ 1 , "\\" ] }"#), br#"{"a \" b":[1,"\\"]}"#);
}

#[test]
fn a_number_that_does_not_fit_is_refused() {
    let fields =
        |fields: &str| one(format!("{{\"topic\":\"a\",\"payload\":\"{{}}\",{fields}}}\n").as_bytes());
    assert_eq!(fields(r#""tst":1.0E9,"qos":1.0,"retain":0.0,"mid":7.0,"payloadlen":2.0E0"#), "{}");
    for (numbers, field) in [
        (r#""tst":1e12"#, "tst"),
        (r#""tst":"1e12""#, "tst"),
        (r#""tst":1714550400123"#, "tst"),
        (r#""tst":"-000001-01-01T00:00:00Z""#, "tst"),
        (r#""tst":1,"qos":1.5"#, "qos"),
        (r#""tst":1,"mid":65536"#, "mid"),
        (r#""tst":1,"payloadlen":1.5"#, "payloadlen"),
        (r#""tst":1,"payloadlen":"x""#, "payloadlen"),
        (r#""tst":1,"mono_us":18446744073709551615"#, "mono_us"),
    ] {
        assert!(fields(numbers).starts_with(&format!("!Unreadable: cannot be read: {field} ")), "{numbers}");
    }
}

#[test]
fn only_a_last_line_without_its_newline_is_torn() {
    let good = b"{\"tst\":1,\"topic\":\"a\",\"payload\":1}\n";
    let kind = |lines: &[&[u8]]| {
        read(lines).last().map(|(_, what)| what.split(':').next().unwrap().to_owned()).unwrap()
    };
    assert_eq!(kind(&[good, b"{\"tst\":1,\"to"]), "!Torn");
    assert_eq!(kind(&[good, b"\0\0\0"]), "!Torn");
    assert_eq!(kind(&[b"{\"tst\":1,\"to"]), "!Torn");
    assert_eq!(kind(&[good, b"{\"tst\":1,\"to\n"]), "!Unreadable");
    assert_eq!(kind(&[b"a log line"]), "!Unreadable");
    assert_eq!(kind(&[good, b"{\"tst\":1,\"topic\":\"a\",\"qos\":7,\"payload\":1}"]), "!Unreadable");
}

#[test]
fn an_aside_is_copied_without_what_steers_a_terminal() {
    let line = "{\"v\":1,\"event\":\"left-out\",\"records\":3,\"x\":\"\u{9b}31m\u{202e}\"}\n";
    assert_eq!(
        one(line.as_bytes()),
        r#"~{\"v\":1,\"event\":\"left-out\",\"records\":3,\"x\":\"\\u009b31m\\u202e\"}"#
    );
    assert!(one(b"{\"v\":1,\"event\":\"left-out\",\"x\":\"\xff\"}\n").starts_with("!Unreadable"));
}
