//! Messages that count as an answer, and those that do not.

use serde_json::json;

use super::{Case, accounted, all_accepted, reports};
use crate::{
    fake_broker::{FakeBroker, Peer, response, response_with},
    process::{gateway, run, run_with},
    wire::{Publish, publish, publish_with_id},
};

/// Sends what `bytes` makes of the request, and nothing else.
fn answered(peer: &mut Peer, bytes: impl Fn(&Publish) -> Vec<u8>) {
    peer.set_out();
    let request = peer.request();
    peer.send(&bytes(&request));
    peer.hold();
}

/// A payload on the response topic, and then the proper answer.
fn preceded(peer: &mut Peer, payload: impl Fn(&str) -> Vec<u8>) {
    answered(peer, |request| {
        let first = publish(0, &format!("{}/response", request.topic), &payload(&request.request_id()));
        [first, response(request, 0)].concat()
    });
}

fn alone(peer: &mut Peer, payload: impl Fn(&str) -> String) {
    answered(peer, |request| {
        let topic = format!("{}/response", request.topic);
        publish(0, &topic, payload(&request.request_id()).as_bytes())
    });
}

pub fn no_answers() -> Vec<Case> {
    vec![
        Case::new("an empty payload", 0, "ok", |_, peer| preceded(peer, |_| Vec::new())).says("warning"),
        Case::new("text that is not JSON", 0, "ok", |_, peer| preceded(peer, |_| b"hello".to_vec())),
        Case::new("JSON that breaks off", 0, "ok", |_, peer| {
            preceded(peer, |id| format!("{{\"request_id\":\"{id}\",\"param\":{{").into_bytes());
        }),
        Case::new("bytes that are not UTF-8", 0, "ok", |_, peer| {
            preceded(peer, |_| b"{\"request_id\":\"\xff\"}".to_vec());
        }),
        Case::new("bytes 00", 0, "ok", |_, peer| preceded(peer, |_| b"\0\0\0".to_vec())),
        Case::new("JSON behind a byte order mark", 0, "ok", |_, peer| {
            preceded(peer, |id| format!("\u{feff}{{\"request_id\":\"{id}\"}}").into_bytes());
        }),
        Case::new("an array", 0, "ok", |_, peer| preceded(peer, |_| b"[1,2]".to_vec())),
        Case::new("`null`", 0, "ok", |_, peer| preceded(peer, |_| b"null".to_vec())),
        Case::new("brackets 20,000 deep", 0, "ok", |_, peer| preceded(peer, |_| vec![b'['; 20_000])),
        Case::new("two documents", 0, "ok", |_, peer| {
            preceded(peer, |id| format!("{{\"request_id\":\"{id}\"}}{{}}").into_bytes());
        }),
        Case::new("a key twice", 0, "ok", |_, peer| {
            preceded(peer, |id| {
                let param = r#"{"code":0,"msg":"m"}"#;
                format!(r#"{{"request_id":"{id}","request_id":"{id}","param":{param}}}"#).into_bytes()
            });
        }),
        Case::new("an unknown `request_id`", 0, "ok", |_, peer| {
            preceded(peer, |_| br#"{"t":1,"request_id":"nobody","param":{"code":0,"msg":"m"}}"#.to_vec());
        })
        .says("warning"),
        Case::new("no `request_id`", 0, "ok", |_, peer| {
            preceded(peer, |_| br#"{"t":1,"param":{"code":0,"msg":"m"}}"#.to_vec());
        }),
        Case::new("escape sequences in `request_id`", 0, "ok", |_, peer| {
            preceded(peer, |_| {
                json!({"request_id": "\x1b[2J\u{9b}1m", "param": {"code": 0}}).to_string().into_bytes()
            });
        }),
    ]
}

pub fn malformed_answers() -> Vec<Case> {
    macro_rules! shapes {
        ($($shown:literal $param:literal),+) => {
            vec![$(Case::new($shown, 6, "protocol", |_, peer| {
                alone(peer, |id| format!(r#"{{"t":1,"request_id":"{id}"{}}}"#, $param));
            })),+]
        };
    }
    shapes![
        "`\"code\":\"0\"`" r#","param":{"cid":"m1","code":"0","msg":"m"}"#,
        "`\"code\":0.5`" r#","param":{"cid":"m1","code":0.5,"msg":"m"}"#,
        "`\"code\":1e999`" r#","param":{"cid":"m1","code":1e999,"msg":"m"}"#,
        "`\"code\":null`" r#","param":{"cid":"m1","code":null,"msg":"m"}"#,
        "`\"code\":true`" r#","param":{"cid":"m1","code":true,"msg":"m"}"#,
        "no code" r#","param":{"cid":"m1","msg":"m"}"#,
        "`\"param\":[]`" r#","param":[]"#,
        "`\"param\":null`" r#","param":null"#,
        "no param" ""
    ]
}

pub fn odd_answers() -> Vec<Case> {
    vec![
        Case::new("retained", 5, "timeout", |_, peer| {
            answered(peer, |request| {
                let mut bytes = response(request, 0);
                bytes[0] |= 1;
                bytes
            });
        })
        .says("retained"),
        Case::new("on the topic of another kind of answer", 5, "timeout", |_, peer| {
            answered(peer, |request| {
                let sync = Publish { topic: "gateway_id/gw1/devices/sync".into(), ..request.clone() };
                response(&sync, 0)
            });
        })
        .says("warning"),
        Case::new("on another gateway's topic", 5, "timeout", |_, peer| {
            answered(peer, |request| {
                let other = request.topic.replace("gw1", "gw2");
                response(&Publish { topic: other, ..request.clone() }, 0)
            });
        }),
        Case::new("with DUP", 0, "ok", |_, peer| {
            answered(peer, |request| {
                let payload = json!({"t": 1, "request_id": request.request_id(), "param": {"cid": "m1", "code": 0, "msg": ""}});
                let topic = format!("{}/response", request.topic);
                publish_with_id(0b1010, &topic, 9, payload.to_string().as_bytes())
            });
        }),
        Case::new("twice", 0, "ok", |_, peer| answered(peer, |request| response(request, 0).repeat(2))),
        Case::new("with another cid", 0, "ok", |_, peer| {
            answered(peer, |request| response_with(request, &json!({"cid": "m7", "code": 0, "msg": ""})));
        })
        .says("m7"),
        Case::new("without a cid", 0, "ok", |_, peer| {
            answered(peer, |request| response_with(request, &json!({"code": 0, "msg": ""})));
        }),
        Case::new("with code 2003", 1, "code 2003", |_, peer| {
            answered(peer, |request| response(request, 2003));
        })
        .says("sync"),
        Case::new("with a code that nobody knows", 1, "code 2147", |_, peer| {
            answered(peer, |request| response(request, 2147));
        }),
        Case::new("with code -1", 1, "code -1", |_, peer| answered(peer, |request| response(request, -1))),
        Case::new("with escape sequences, bidi controls and NUL in `msg`", 1, "code 500", |_, peer| {
            let msg = "\x1b[31mred\x1b]0;title\x07\u{9b}2J\u{202e}evil\r\n\0";
            answered(peer, move |request| response_with(request, &json!({"code": 500, "msg": msg})));
        })
        .says("\\u{1b}"),
        Case::new("as JSON over several lines", 0, "ok", |_, peer| {
            alone(peer, |id| format!("{{\n\t\"request_id\": \"{id}\",\n\"param\": {{\"code\": 0}}\r\n}}\n"));
        }),
        Case::new("in reverse order", 0, "ok", |_, peer| {
            peer.set_out();
            let requests: Vec<_> = (0..10).map(|_| peer.request()).collect();
            requests.iter().rev().for_each(|request| peer.answer(request, 0));
            peer.hold();
        })
        .input(10),
        Case::new("late, when the next request is open", 5, "timeout, ok", |_, peer| {
            peer.set_out();
            let first = peer.request();
            let second = peer.request();
            peer.send(&response(&first, 0));
            peer.answer(&second, 0);
            peer.hold();
        })
        .input(2)
        .args(&["--window", "1", "--timeout", "3s"])
        .says("warning"),
    ]
}

#[test]
fn a_window_may_be_answered_in_any_order() {
    let broker = FakeBroker::start(|_, peer| {
        peer.set_out();
        let requests: Vec<_> = (0..10).map(|_| peer.request()).collect();
        for request in requests.iter().rev() {
            let cid = request.json()["param"]["cid"].clone();
            let code = if cid == "m4" { 2003 } else { 0 };
            peer.send(&response_with(request, &json!({"cid": cid, "code": code, "msg": ""})));
        }
        peer.hold();
    });
    let ended = run_with(&mut gateway("report", &broker.url(), &["-"]), reports(10).as_bytes());
    accounted(&ended, 10);
    assert_eq!(ended.code, Some(1), "{ended:#?}");
    for line in &ended.lines {
        let index = line["index"].as_u64().unwrap();
        assert_eq!(line["cid"], format!("m{}", index + 1));
        assert_eq!(line["line"], index + 1);
        assert_eq!(line["ok"], index != 3);
    }
    assert!(!ended.stderr.contains("warning"), "{}", ended.stderr);
}

#[test]
fn a_late_answer_is_not_paired_with_the_next_request() {
    let broker = FakeBroker::start(|_, peer| {
        peer.set_out();
        let first = peer.request();
        let second = peer.request();
        peer.send(&response(&first, 0));
        peer.answer(&second, 0);
        peer.hold();
    });
    let ended =
        run_with(&mut gateway("report", &broker.url(), &["-", "--window", "1"]), reports(2).as_bytes());
    accounted(&ended, 2);
    assert_eq!(ended.code, Some(5), "{ended:#?}");
    assert_eq!(ended.lines[0]["error"], "timeout");
    assert_eq!(ended.lines[1]["ok"], true);
    assert_ne!(ended.lines[0]["request_id"], ended.lines[1]["request_id"]);
}

#[test]
fn answers_without_acknowledgements_free_the_window() {
    let broker = FakeBroker::start(|_, peer| {
        peer.set_out();
        for _ in 0..100 {
            let request = peer.request();
            peer.send(&response_with(&request, &json!({"code": 0})));
        }
        peer.hold();
    });
    let ended =
        run_with(&mut gateway("report", &broker.url(), &["-", "--window", "5"]), reports(100).as_bytes());
    all_accepted(&ended, 100);
}

#[test]
fn the_result_line_has_the_contract_s_keys() {
    let broker = FakeBroker::start(|_, peer| {
        peer.log_in();
        peer.serve(|request| if request.json()["param"]["cid"] == "m1" { 0 } else { 2003 });
    });
    let ok = run(&mut gateway("report", &broker.url(), &["--cid", "m1", "1=1"]));
    let keys = |ended: &crate::process::Ended| {
        ended.line().as_object().unwrap().keys().cloned().collect::<Vec<_>>().join(" ")
    };
    assert_eq!(keys(&ok), "index op cid id request_id ok code msg rtt_ms");
    let no = run(&mut gateway("report", &broker.url(), &["--cid", "m2", "1=1"]));
    assert_eq!(keys(&no), "index op cid id request_id ok code msg meaning hint rtt_ms input");
    assert_eq!(no.code, Some(1));
}
