//! From the address to CONNACK.

use std::net::TcpListener;

use super::Case;
use crate::{
    fake_broker::{FakeBroker, Peer},
    process::{gateway, run},
    wire::ACCEPTED,
};

macro_rules! greets {
    ($name:expr, $code:expr, $result:expr, $bytes:expr) => {
        Case::new($name, $code, $result, |_, peer| {
            peer.expect_connect();
            peer.send(&$bytes);
            peer.hold();
        })
    };
}

#[test]
fn a_missing_broker_exits_3() {
    let free = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().to_string();
    let args = ["--cid", "m1", "water_flow=1"];
    let refused = run(&mut gateway("report", &free, &args));
    assert_eq!((refused.code, refused.line()["error"].as_str()), (Some(3), Some("connection")));
    assert_eq!(refused.line()["sent"], false);
    assert!(refused.stderr.contains("refused the connection"), "{}", refused.stderr);

    let unknown = run(&mut gateway("report", "no-such-host.invalid", &args));
    assert_eq!((unknown.code, unknown.line()["error"].as_str()), (Some(3), Some("connection")));
    assert!(unknown.stderr.contains("no-such-host.invalid"), "{}", unknown.stderr);
}

pub fn without_connack() -> Vec<Case> {
    vec![
        Case::new("never sends CONNACK", 3, "connection", |_, peer| peer.hold()).says("no CONNACK in 2s"),
        Case::new("never sends CONNACK, with all sent", 3, "connection", |_, peer| peer.hold())
            .args(&["--early", "--timeout", "5s"])
            .says("no CONNACK"),
        Case::new("closes when it accepts", 3, "connection", |_, _| {}),
        Case::new("closes after CONNECT", 3, "connection", |_, peer| peer.expect_connect())
            .says("before it sent a CONNACK"),
        Case::new("resets after CONNECT", 3, "connection", |_, peer| {
            peer.expect_connect();
            peer.reset();
        }),
        Case::new("sends a CONNACK so slowly that it is not whole in time", 3, "connection", |_, peer| {
            peer.expect_connect();
            peer.send(&ACCEPTED[..3]);
            peer.hold();
        })
        .says("no CONNACK in 2s"),
        Case::new("sends half a CONNACK, then closes", 3, "connection", |_, peer| {
            peer.expect_connect();
            peer.send(&ACCEPTED[..3]);
        }),
    ]
}

pub fn refusals() -> Vec<Case> {
    vec![
        greets!("1", 4, "refused", [0x20, 2, 0, 1]).says("protocol version"),
        greets!("2", 4, "refused", [0x20, 2, 0, 2]).says("identifier rejected"),
        greets!("3", 4, "refused", [0x20, 2, 0, 3]).says("server unavailable"),
        greets!("4", 4, "refused", [0x20, 2, 0, 4]).says("md5"),
        greets!("5", 4, "refused", [0x20, 2, 0, 5]).says("CONNACK 5"),
        greets!("128", 4, "refused", [0x20, 2, 0, 128]).says("CONNACK 128"),
        greets!("135", 4, "refused", [0x20, 2, 0, 135]).says("not authorized"),
        greets!("255", 4, "refused", [0x20, 2, 0, 255]).says("CONNACK 255"),
        greets!("6", 6, "protocol", [0x20, 2, 0, 6]),
        greets!("127", 6, "protocol", [0x20, 2, 0, 127]),
        Case::new("4, and closes with the rest unread", 4, "refused", |_, peer| {
            peer.expect_connect();
            peer.send(&[0x20, 2, 0, 4]);
        })
        .args(&["--early"]),
    ]
}

pub fn no_connack() -> Vec<Case> {
    vec![
        greets!("a CONNACK of one byte", 6, "protocol", [0x20, 1, 0]),
        greets!("a CONNACK of three bytes", 6, "protocol", [0x20, 3, 0, 0, 0]),
        greets!("a CONNACK with flags in its first byte", 6, "protocol", [0x21, 2, 0, 0]),
        greets!("a CONNACK with reserved flags", 6, "protocol", [0x20, 2, 2, 0]),
        greets!("40 bytes FF", 6, "protocol", [0xff; 40]),
        greets!("40 bytes 00", 6, "protocol", [0; 40]),
        greets!("PINGRESP", 6, "protocol", [0xd0, 0]),
        greets!("PUBLISH", 6, "protocol", [0x30, 4, 0, 1, b'a', b'b']),
        greets!("an answer in HTTP", 6, "protocol", *b"HTTP/1.1 400 Bad Request\r\n\r\n")
            .says("an HTTP server answers"),
        greets!("an SSH server's version", 6, "protocol", *b"SSH-2.0-OpenSSH_9.6\r\n")
            .says("an SSH server answers there"),
        greets!("a mail server's greeting", 6, "protocol", *b"220 mail.example ESMTP\r\n")
            .says("it says \"220 mail.example ESMTP\""),
        greets!("a TLS alert", 6, "protocol", [0x15, 3, 1, 0, 2, 2, 22]).says("mqtts://"),
        greets!("session present, though a clean one was asked for", 6, "protocol", [0x20, 2, 1, 0]),
        greets!("two CONNACKs", 6, "protocol", [0x20, 2, 0, 0, 0x20, 2, 0, 0]),
        greets!("a remaining length of five bytes", 6, "protocol", [0x20, 0x82, 0x80, 0x80, 0x80, 0]),
    ]
}

pub fn connack_byte_by_byte() -> Vec<Case> {
    vec![Case::new("a CONNACK byte by byte", 0, "ok", |_, peer| {
        peer.expect_connect();
        for byte in ACCEPTED {
            peer.send(&[byte]);
        }
        peer.serve(|_| 0);
    })]
}

/// Nothing is sent on trust: CONNACK comes only once all three packets have arrived.
#[test]
fn early_sends_all_in_one_flight() {
    let broker = FakeBroker::start(|_, peer: &mut Peer| {
        peer.expect_connect();
        let id = peer.expect_subscribe();
        let request = peer.request();
        peer.send(&ACCEPTED);
        peer.send(&crate::wire::suback(id, &[1]));
        peer.answer(&request, 0);
        peer.serve(|_| 0);
    });
    let ended = run(&mut gateway("report", &broker.url(), &["--cid", "m1", "water_flow=1", "--early"]));
    assert_eq!((ended.code, ended.line()["ok"].as_bool()), (Some(0), Some(true)), "{ended:?}");
}
