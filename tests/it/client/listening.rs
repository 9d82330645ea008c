//! What `listen` makes of what it hears; the connection is the same as the other subcommands'.

use super::Case;
use crate::fake_broker::{Peer, publish, publish_with_id, suback};

const TOPIC: &str = "gateway_id/gw1/commands";
const GOOD: &str = r#"{"t":1,"cid":"m1","request_id":"c1","param":{"id":"4","value":true}}"#;

/// Sends bytes once the subscriptions are granted.
fn heard(peer: &mut Peer, bytes: &[u8]) {
    peer.log_in();
    let id = peer.expect_subscribe();
    peer.send(&suback(id, &[1, 1, 1]));
    peer.send(bytes);
    peer.serve(|_| 0);
}

fn command(peer: &mut Peer, payload: &str) {
    heard(peer, &publish_with_id(2, TOPIC, Some(9), payload.as_bytes()));
}

const ONE: &[&str] = &["--answer", "success", "--count", "1", "--for", "20s"];

pub fn refused() -> Vec<Case> {
    vec![
        Case::listen("never sends SUBACK", 5, "0 records", |_, peer| {
            peer.log_in();
            peer.hold();
        })
        .says("no SUBACK in 1s"),
        Case::listen("sends SUBACK 0x80 for one of the topics", 4, "0 records", |_, peer| {
            peer.log_in();
            let id = peer.expect_subscribe();
            peer.send(&suback(id, &[1, 0x80, 1]));
            peer.hold();
        })
        .says("(SUBACK 0x80)"),
        Case::listen("sends DISCONNECT", 6, "0 records", |_, peer| heard(peer, &[0xe0, 0]))
            .says("DISCONNECT"),
        Case::listen("sends a topic that is not UTF-8", 6, "0 records", |_, peer| {
            heard(peer, b"\x30\x04\0\x02a\xff");
        }),
        Case::listen("closes after every SUBACK", 3, "0 records", |_, peer| {
            peer.log_in();
            let id = peer.expect_subscribe();
            peer.send(&suback(id, &[1, 1, 1]));
        })
        .says("another client"),
        Case::listen("sends nothing while `--for` lasts", 5, "0 records", |_, peer| heard(peer, &[]))
            .args(&["--count", "1", "--for", "500ms"]),
    ]
}

pub fn commands() -> Vec<Case> {
    vec![
        Case::listen("a command without cid", 0, "1 record", |_, peer| {
            command(peer, r#"{"t":1,"request_id":"c1","param":{"id":"4","value":true}}"#);
        })
        .args(ONE),
        Case::listen("a command without `request_id`", 0, "1 record", |_, peer| {
            command(peer, r#"{"t":1,"cid":"m1","param":{"id":"4","value":true}}"#);
        })
        .args(ONE)
        .says("request_id is missing"),
        Case::listen("a command without `param`", 0, "1 record", |_, peer| {
            command(peer, r#"{"t":1,"cid":"m1","request_id":"c1"}"#);
        })
        .args(ONE),
        Case::listen("a command that is not JSON, with escape sequences", 0, "1 record", |_, peer| {
            command(peer, "\x1b[2J\u{202e}");
        })
        .args(ONE)
        .says("nothing is answered"),
        Case::listen("brackets 20,000 deep", 0, "1 record", |_, peer| command(peer, &"[".repeat(20_000)))
            .args(ONE),
        Case::listen("an empty, retained message", 0, "1 record", |_, peer| {
            heard(peer, &publish(1, TOPIC, b""));
        })
        .args(ONE),
        Case::listen("a command twice", 0, "2 records", |_, peer| {
            let twice = [9, 10].map(|id| publish_with_id(2, TOPIC, Some(id), GOOD.as_bytes()));
            heard(peer, &twice.concat());
        })
        .args(&["--answer", "success", "--count", "2", "--for", "20s"]),
        Case::listen("1,000 commands at once", 0, "1000 records", |_, peer| {
            let flood = (1..=1000).map(|id: u16| {
                let payload = GOOD.replace("c1", &format!("c{id}"));
                publish_with_id(2, TOPIC, Some(id), payload.as_bytes())
            });
            heard(peer, &flood.collect::<Vec<_>>().concat());
        })
        .args(&["--answer", "success", "--count", "1000", "--for", "20s"]),
    ]
}
