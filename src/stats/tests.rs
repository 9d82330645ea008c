//! Recordings made by hand, and what is found in them.

use super::*;
use crate::{
    recording::Record,
    tuya::{Topics, product::Product},
};

/// Takes lines as `inspect` does.
fn inspected(lines: &[String]) -> Inspection {
    let topics = Topics::default();
    let mut inspection = Inspection::new(Some(Product::smart_water_meter()));
    for (line, n) in lines.iter().zip(1..) {
        match Record::read(line.as_bytes(), &topics) {
            Ok(Some(record)) => inspection.handle_message(&record),
            Ok(None) => inspection.handle_event_line(line.as_bytes()),
            Err(why) => inspection.handle_bad_line(n, &why.to_string()),
        }
    }
    inspection
}

fn line(ms: u64, topic: &str, payload: &str) -> String {
    let tst = crate::recording::rfc3339(1_800_000_000_000_000 + i64::try_from(ms).unwrap() * 1000);
    format!(
        r#"{{"v":1,"tst":"{tst}","topic":"gateway_id/gw1/{topic}","qos":1,"retain":0,"payloadlen":1,"mono_us":{},"payload":{payload}}}"#,
        ms * 1000
    )
}

fn report(ms: u64, id: &str, cid: &str, value: &str) -> String {
    let payload =
        format!(r#"{{"t":1,"request_id":"{id}","param":{{"cid":"{cid}","id":"1","value":{value}}}}}"#);
    line(ms, "properties/report", &payload)
}

fn answer(ms: u64, id: &str, code: i64) -> String {
    let payload = format!(r#"{{"t":1,"request_id":"{id}","param":{{"msg":"","code":{code}}}}}"#);
    line(ms, "properties/report/response", &payload)
}

#[test]
fn answers_meet_their_requests() {
    let found = inspected(&[
        report(0, "a", "m1", "1"),
        report(5, "b", "m2", "2"),
        report(6, "c", "m3", "2"),
        answer(10, "b", 2003),
        answer(12, "a", 0),
        answer(13, "a", 0),
        report(14, "c", "m3", "2"),
        answer(15, "stranger", 0),
    ])
    .summary();
    let [trips] = &found.round_trips[..] else { panic!("{found:?}") };
    assert_eq!((trips.requests, trips.answered, trips.unanswered, trips.unasked), (3, 2, 1, 1));
    assert_eq!((trips.p50_ms, trips.max_ms), (Some(5.0), Some(12.0)));
    assert_eq!((found.duplicates.requests, found.duplicates.answers), (1, 1));
    assert_eq!((found.unanswered_count, found.unanswered[0].cid.as_str()), (1, "m3"));
    let refused: Vec<_> = found.codes.iter().filter(|code| code.code != 0).collect();
    assert_eq!((refused.len(), refused[0].code, refused[0].count), (1, 2003, 1));
    // The answer names no device; the request does.
    assert_eq!(refused[0].devices[0].cid, "m2");
    let device = |cid: &str| found.devices.iter().find(|device| device.cid == cid).unwrap();
    assert_eq!((device("m1").reports, device("m2").refused, device("m3").unanswered), (1, 1, 1));
}

#[test]
fn a_command_s_answer_comes_from_the_gateway_and_a_platform_s_copy_is_no_request() {
    let command = r#"{"t":1,"cid":"m1","request_id":"c","param":{"id":"9","value":"opened"}}"#;
    let answer = r#"{"t":1,"cid":"m1","request_id":"c","param":{"msg":"","code":2001}}"#;
    let copy = line(0, "commands", command).replace("\"mono_us\"", "\"dir\":\"up\",\"mono_us\"");
    let found =
        inspected(&[copy, line(1, "commands", command), line(31, "commands/response", answer)]).summary();
    let [trips] = &found.round_trips[..] else { panic!("{found:?}") };
    assert_eq!((trips.kind, trips.requests, trips.p50_ms), ("command", 1, Some(30.0)));
    assert_eq!(found.duplicates.requests, 0);
    assert_eq!((found.devices[0].commands, found.devices[0].refused), (1, 1));
}

#[test]
fn copies_that_go_against_their_direction_are_counted_apart() {
    let heard = report(1, "a", "m1", "1").replace("\"mono_us\"", "\"dir\":\"down\",\"mono_us\"");
    let found = inspected(&[report(0, "a", "m1", "1"), heard, answer(2, "a", 0)]).summary();
    let kinds: Vec<_> = found.kinds.iter().map(|kind| (kind.kind, kind.dir, kind.records)).collect();
    let expected =
        [("report", Some("up"), 1), ("report.response", Some("down"), 1), ("report", Some("down"), 1)];
    assert_eq!((kinds.as_slice(), found.records), (&expected[..], 3));
    assert_eq!((found.round_trips[0].requests, found.duplicates.requests), (1, 0));
}

#[test]
fn appended_runs_keep_the_time_between_them() {
    let second = report(1500, "b", "m1", "2").replace("08:00:01.500000Z", "08:00:07.000000Z");
    let found = inspected(&[report(200, "a", "m1", "1"), second]).summary();
    assert_eq!((found.parts, found.span_s), (2, 6.8));
    assert_eq!(found.last.as_deref(), Some("2027-01-15T08:00:07.000000Z"));
}

#[test]
fn a_span_reads_as_on_the_page() {
    let text = |seconds: f64| {
        let mut summary = inspected(&[report(0, "a", "m1", "1")]).summary();
        summary.span_s = seconds;
        table(&summary)
            .lines()
            .next()
            .unwrap()
            .split(" in ")
            .nth(1)
            .unwrap()
            .split(" (")
            .next()
            .unwrap()
            .to_owned()
    };
    for (seconds, expected) in [
        (3596.6, "59 min 57 s"),
        (3599.6, "1 h 0 min"),
        (59.94, "59.9 s"),
        (0.25, "250 ms"),
        (86_399.9, "1 d 0 h"),
    ] {
        assert_eq!(text(seconds), expected);
    }
}

#[test]
fn gaps_parts_asides_and_bad_lines_are_counted() {
    let found = inspected(&[
        report(0, "a", "m1", "1"),
        report(90_000, "b", "m1", "1"),
        r#"{"v":1,"tst":"2026-11-22T07:22:00Z","dir":"up","kind":"connect","mono_us":1,"client_id":"x","code":4}"#
            .into(),
        r#"{"v":1,"event":"left-out","tst":"2026-11-22T07:22:00Z","records":7}"#.into(),
        r#"{"op":"report","ok":true}"#.into(),
        "{\"topic\":".into(),
        // The recorder was started again: its clock begins anew, an hour later.
        report(0, "c", "m1", "1").replace("2027-01-15T08:00", "2027-01-15T09:00"),
    ])
    .summary();
    assert_eq!((found.records, found.parts, found.left_out.records, found.left_out.bad_lines), (3, 2, 7, 1));
    assert_eq!(found.left_out.first_bad_line, Some(6));
    let gaps: Vec<_> = found.gaps.iter().map(|gap| gap.seconds).collect();
    assert_eq!(gaps, [3510.0, 90.0]);
    assert!((found.span_s - 3600.0).abs() < 1e-6);
    assert_eq!(found.connections.refused["4"], 1);
}

#[test]
fn what_is_malformed_is_counted_and_its_request_still_wants_an_answer() {
    let found = inspected(&[
        line(0, "properties/report", r#"{"t":1,"request_id":"a","param":{"cid":"m1"}}"#),
        line(1, "properties/report", "[1,2]"),
        line(2, "properties/report/response", r#"{"request_id":"a","param":{"code":"0"}}"#),
        answer(3, "a", 1100),
        line(4, "elsewhere", "{}"),
    ])
    .summary();
    let kind = |name: &str| found.kinds.iter().find(|kind| kind.kind == name).unwrap();
    assert_eq!((kind("report").malformed, kind("report.response").malformed), (2, 1));
    assert_eq!(kind("other").records, 1);
    assert_eq!((found.round_trips[0].requests, found.round_trips[0].answered), (1, 1));
}

#[test]
#[ignore = "slow: makes a million requests"]
fn requests_that_are_long_forgotten_count_as_unanswered() {
    let mut inspection = Inspection::new(None);
    let topics = Topics::default();
    let all = 70_000;
    for n in 0..all {
        let line = report(n, &format!("r{n}"), &format!("m{}", n % 3), "1");
        inspection.handle_message(&Record::read(line.as_bytes(), &topics).unwrap().unwrap());
    }
    let found = inspection.summary();
    assert_eq!((found.unanswered_count, found.unanswered.len()), (all, 100));
    assert_eq!(found.unanswered[0].request_id, "r0");
    assert_eq!(found.devices.iter().map(|device| device.unanswered).sum::<u64>(), all);
}

#[test]
fn the_table_keeps_to_80_columns() {
    let mut lines = Vec::new();
    for n in 0..200 {
        let cid = format!("a-device-with-quite-a-long-name-{n:06}");
        lines.push(report(n * 1_000_000, &format!("request-{n}-{}", "x".repeat(60)), &cid, "1"));
        if n % 2 == 0 {
            let id = format!("request-{n}-{}", "x".repeat(60));
            lines.push(answer(n * 1_000_000 + 17, &id, if n % 4 == 0 { 0 } else { 2003 }));
        }
    }
    let text = table(&inspected(&lines).summary());
    for line in text.lines() {
        assert!(line.chars().count() <= 80, "{line}");
    }
    for expected in
        ["300 records", "REFUSED", "device not exist", "WITHOUT AN ANSWER (100)", "LONGEST SILENCE"]
    {
        assert!(text.contains(expected), "{expected}:\n{text}");
    }
    assert_eq!(table(&inspected(&[]).summary()), "no records\n");
}

#[test]
fn nothing_of_a_recording_becomes_markup() {
    let evil = "</script><script>alert(1)</script><!--";
    let page = page(&inspected(&[report(0, evil, evil, "1"), answer(1, evil, 2003)]), evil, "n0nce");
    assert_eq!(page.matches("<script>alert").count(), 0);
    assert_eq!(page.matches("<script").count(), 3, "the data, the library and our own");
    assert_eq!(page.matches("<script nonce=\"n0nce\">").count(), 2);
    assert_eq!(page.matches("</script>").count(), 3);
    assert!(page.contains("<title>&lt;/script&gt;"));
    for outside in ["src=\"http", "href=\"http", "url(http", "@import", "fetch("] {
        assert!(!page.contains(outside), "{outside}");
    }
}

#[test]
fn the_page_holds_scaled_values_and_their_unit() {
    let page = page(&inspected(&[report(0, "a", "m1", "12345"), report(1, "b", "m1", "12346")]), "x", "n");
    for expected in [r#""v":[12.345,12.346]"#, r#""unit":"m"#, r#""code":"water_flow""#] {
        assert!(page.contains(expected), "{expected}");
    }
}
