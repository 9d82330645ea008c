use smol_str::SmolStr;

use super::{downlink::answer, error::Problem, fast_path, uplink::property, wire::WireMessage, *};
use crate::tuya::{Channel, ResultCode};

fn refused(channel: Channel, payload: &str) -> Refused {
    Envelope::<Uplink>::decode(channel, payload.as_bytes()).expect_err(payload)
}

#[test]
fn a_report_keeps_the_value_as_it_was_written() {
    let text = r#"{"t":1,"request_id":"r","param":{"cid":"m1","id":"1","value":1.10}}"#;
    let message = Envelope::<Uplink>::decode(Channel::Report, text.as_bytes()).unwrap();
    assert_eq!(String::from_utf8(message.encode()).unwrap(), text);
}

#[test]
fn a_refusal_names_the_field_and_keeps_what_an_answer_needs() {
    for (payload, field, code) in [
        (r#"{"request_id":"r","param":{"cid":"m1","id":"1","value":1}}"#, "t", 1100),
        (r#"{"t":1,"request_id":"r","param":{"cid":"m1","id":"1"}}"#, "param.value", 1100),
        (r#"{"t":1,"request_id":"r","param":{"cid":"m1","id":"1","value":null}}"#, "param.value", 1102),
        (r#"{"t":1,"request_id":"r","param":{"cid":"m1","id":true,"value":1}}"#, "param.id", 1103),
        (r#"{"t":"1","request_id":"r","param":{"cid":"m1","id":"1","value":1}}"#, "t", 1103),
        (r#"{"t":1,"request_id":"r","cid":"m1"}"#, "param", 1100),
    ] {
        let refused = refused(Channel::Report, payload);
        assert_eq!(
            (refused.error.field.as_str(), refused.error.problem.code().0),
            (field, code),
            "{payload}"
        );
        assert_eq!(refused.request_id.as_deref(), Some("r"));
        assert_eq!(refused.cid.as_deref(), Some("m1"));
    }
    assert_eq!(refused(Channel::Report, "[1,").request_id, None);
    let twice = r#"{"t":1,"t":1,"request_id":"r","param":{"cid":"m1","id":"1","value":1}}"#;
    assert!(refused(Channel::Report, twice).to_string().contains("without duplicate fields"));
    let empty = r#"{"t":1,"request_id":"r","cid":"m1","param":[]}"#;
    let command = Envelope::<Downlink>::decode(Channel::Command, empty.as_bytes()).unwrap_err();
    for refused in [refused(Channel::Status, empty), command] {
        assert_eq!((refused.error.field.as_str(), refused.error.problem.code().0), ("param", 1100));
    }
}

#[test]
fn what_is_written_is_read_back() {
    let status = |cid: &str, status| DeviceStatus { cid: cid.into(), status };
    for statuses in [vec![status("m1", true)], vec![status("m1", true), status("m\"2", false)]] {
        let body = Uplink::Status(statuses.clone());
        let bytes = Envelope { t: 5, request_id: "r".to_owned(), body }.encode();
        let back = Envelope::<Uplink>::decode(Channel::Status, &bytes).unwrap();
        let Uplink::Status(found) = back.body else { panic!("{back:?}") };
        assert_eq!((back.t, back.request_id.as_str(), found), (5, "r", statuses));
    }
    let point = |id: &str, value: &str| (id.to_owned(), DataPointValue::parse(value).unwrap());
    for points in [vec![point("1", "1.10")], vec![point("1", "1"), point("9", "\"opened\"")]] {
        let bytes = Command { cid: "m1".into(), points: points.clone() }.encode(5, "r");
        let back = Envelope::<Downlink>::decode(Channel::Command, &bytes).unwrap();
        let Downlink::Command(found) = back.body else { panic!("{back:?}") };
        assert_eq!((back.t, back.request_id.as_str(), found.cid.as_str()), (5, "r", "m1"));
        assert_eq!(found.points, points);
    }
    for cid in [Some("m1".into()), None] {
        let answer = Answer { cid, code: ResultCode(2003), msg: "device not exist".into() };
        let bytes = Downlink::ReportResponse(answer.clone()).encode(5, "r");
        let back = Envelope::<Answer>::decode(&bytes).unwrap();
        assert_eq!((back.t, back.request_id.as_str(), back.body), (5, "r", answer));
    }
}

/// In an answer to a command it stands beside `param`; what is unusual is read with care.
#[test]
fn the_device_of_an_answer_is_found_within_or_beside_param() {
    for (beside, within, expected) in [
        ("", "", None),
        (r#""cid":"m1","#, "", Some("m1")),
        ("", r#""cid":"m2","#, Some("m2")),
        (r#""cid":"m1","#, r#""cid":"m2","#, Some("m2")),
    ] {
        for more in ["", r#""more":{"a":[1e5]},"#] {
            let text = format!(r#"{{"t":1,{beside}{more}"request_id":"r","param":{{{within}"code":0}}}}"#);
            let answer = Envelope::<Answer>::decode(text.as_bytes()).unwrap();
            assert_eq!(answer.body.cid.as_deref(), expected, "{text}");
        }
    }
}

#[test]
fn the_fast_reading_equals_the_careful_one() {
    let careful_report = |payload: &[u8]| {
        WireMessage::decode(payload, |wire| {
            wire.required_t()?;
            property(&wire.param()?).map(Uplink::Report)
        })
    };
    let careful_answer = |payload: &[u8]| {
        WireMessage::decode(payload, |wire| {
            let answer = answer(&wire.param()?)?;
            Ok(Answer { cid: answer.cid.or_else(|| wire.cid.text("cid").ok().map(SmolStr::from)), ..answer })
        })
    };
    let values = [
        "1",
        "-0",
        "1.0",
        "1e3",
        "null",
        "true",
        "\"\"",
        "\"a\"",
        "\"\\u0061\\n\"",
        "[]",
        "[1]",
        "{}",
        "12345678901234567890",
    ];
    let (mut reports, mut answers) = (0, 0);
    let mut compare = |payload: &[u8]| {
        if let Some(report) = BorrowedReport::read(payload).and_then(uplink::to_owned) {
            reports += 1;
            assert_eq!(format!("{report:?}"), format!("{:?}", careful_report(payload).unwrap()));
        }
        if let Some(answer) = fast_path::BorrowedAnswer::read(payload).map(Envelope::<Answer>::from) {
            answers += 1;
            assert_eq!(format!("{answer:?}"), format!("{:?}", careful_answer(payload).unwrap()));
        }
    };
    for t in values {
        for text in values {
            for value in values {
                for payload in [
                    format!(
                        r#"{{"t":{t},"request_id":{text},"param":{{"cid":"m1","id":"1","value":{value}}}}}"#
                    ),
                    format!(
                        r#"{{"t":{t},"request_id":{text},"cid":{value},"param":{{"cid":{text},"code":{t},"msg":{value}}}}}"#
                    ),
                    format!(r#"{{"request_id":{text},"param":["m1",{t},{value}],"t":1}}"#),
                    format!(
                        r#"{{"t":1,"request_id":"r","param":{{"cid":{text},"id":{t},"value":{value}}}}}"#
                    ),
                    format!(r#"{{"t":1,"request_id":"r","x":{t},"param":{{"code":{text},"msg":{value}}}}}"#),
                    format!(
                        r#"{{"t":{t},"t":1,"request_id":"r","param":{{"id":"1","id":{value},"cid":"m1","value":1,"code":0}}}}"#
                    ),
                    format!(r#"[{t},"m1",{text},{{"code":{value}}}]"#),
                    format!(
                        r#"{{"t":1,"request_id":"r","param":{{"code":{t},"status":1,"status":{value}}}}}"#
                    ),
                ] {
                    compare(payload.as_bytes());
                }
            }
        }
    }
    let mut random = fastrand::Rng::with_seed(7);
    for n in 0..100_000 {
        let mut payload = if n % 2 == 0 {
            br#"{"t":1,"request_id":"r","param":{"cid":"m1","id":"1","value":12.5}}"#.to_vec()
        } else {
            br#"{"t":1,"cid":"m1","request_id":"r","param":{"cid":"m1","code":0,"msg":"ok"}}"#.to_vec()
        };
        for _ in 0..random.usize(..4) {
            let (at, other) = (random.usize(..payload.len()), random.usize(..payload.len()));
            match random.u8(..4) {
                0 => payload[at] = random.u8(..),
                1 => payload.swap(at, other),
                2 => drop(payload.drain(at.min(other)..at.max(other).min(at.min(other) + 12))),
                _ => payload.extend_from_within(at.min(other)..at.max(other)),
            }
        }
        compare(&payload);
    }
    let no_text = b"{\"t\":1,\"request_id\":\"r\",\"param\":{\"code\":0,\"x\":\"\xff\"}}";
    assert!(Envelope::<Answer>::decode(no_text).is_err() && careful_answer(no_text).is_err());
    assert!(reports > 10_000 && answers > 10_000, "{reports} reports and {answers} answers");
}

#[test]
fn status_is_an_array_and_may_be_an_object() {
    for payload in [
        r#"{"t":1,"request_id":"r","param":[{"cid":"m1","status":true}]}"#,
        r#"{"t":1,"request_id":"r","param":{"cid":"m1","status":true}}"#,
    ] {
        let message = Envelope::<Uplink>::decode(Channel::Status, payload.as_bytes()).unwrap();
        let Uplink::Status(found) = message.body else { panic!("not a status") };
        assert_eq!(found, [DeviceStatus { cid: "m1".into(), status: true }]);
    }
    assert_eq!(
        refused(Channel::Status, r#"{"t":1,"request_id":"r","param":[{"cid":"m1","status":1}]}"#).error.field,
        "param[0].status"
    );
}

#[test]
fn a_command_may_carry_several_points() {
    for param in
        [r#"[{"id":"4","value":true},{"id":9,"value":"opened"}]"#, r#"{"dps":{"4":true,"9":"opened"}}"#]
    {
        let text = format!(r#"{{"t":1,"cid":"m1","request_id":"r","param":{param}}}"#);
        let message = Envelope::<Downlink>::decode(Channel::Command, text.as_bytes()).unwrap();
        let Downlink::Command(command) = message.body else { panic!("not a command") };
        let ids: Vec<_> = command.points.iter().map(|(id, value)| (id.as_str(), value.get())).collect();
        assert_eq!(ids, [("4", "true"), ("9", "\"opened\"")]);
    }
}

#[test]
fn an_answer_needs_an_integer_code_only() {
    let decode = |param: &str| {
        let text = format!(r#"{{"request_id":"r","param":{param}}}"#);
        Envelope::<Downlink>::decode(Channel::SyncResponse, text.as_bytes())
    };
    assert!(decode(r#"{"code":0}"#).is_ok());
    assert!(decode(r#"{"code":"0"}"#).is_err());
    assert!(decode(r#"{"code":0.5}"#).is_err());
    assert!(decode(r#"{"msg":"success"}"#).is_err());
}

#[test]
fn depth_and_rubbish_do_not_hurt() {
    let deep = format!(r#"{{"t":1,"request_id":"r","param":{}1{}}}"#, "[".repeat(20_000), "]".repeat(20_000));
    assert_eq!(refused(Channel::Report, &deep).error.field, "param");
    // What stands before it tells which message it is, and what stands behind it is not read.
    let nested = format!("{}1{}", "{\"a\":".repeat(200), "}".repeat(200));
    for (message, field, request_id) in [
        (format!(r#"{{"t":1,"request_id":"r","param":{nested}}}"#), "param", Some("r")),
        (format!(r#"{{"request_id":"r","x":[[]],"y" : {nested},"param":{{}}}}"#), "y", Some("r")),
        (format!(r#"{{"param":{nested},"request_id":"r"}}"#), "param", None),
        (nested.clone(), "a", None),
        ("[".repeat(200), "", None),
    ] {
        let found = refused(Channel::Report, &message);
        assert_eq!((&*found.error.field, found.request_id.as_deref()), (field, request_id), "{message}");
        assert_eq!(found.error.problem, Problem::Type("JSON of at most 100 levels"));
    }
    assert!(matches!(
        refused(Channel::Report, "1e999").error.problem,
        Problem::NotJson(_) | Problem::Type(_)
    ));
    assert!(Envelope::<Uplink>::decode(Channel::Sync, b"\xff").is_err());
}
