//! Packets that no broker may send, and odd ones that it may.

use super::Case;
use crate::fake_broker::{Peer, response};
use crate::wire::{
    ACCEPTED, Connect, DISCONNECT, PINGREQ, packet, puback, publish, publish_with_id, suback, subscribe, text,
};

const TOPIC: &str = "gateway_id/gw1/properties/report/response";

/// Sends bytes in place of the answer, then the answer.
fn sent(peer: &mut Peer, bytes: &[u8]) {
    peer.set_out();
    let request = peer.request();
    peer.send(bytes);
    peer.answer(&request, 0);
    peer.hold();
}

fn raw_topic(topic: &[u8]) -> Vec<u8> {
    packet(0x30, &[&text(topic), b"{}"])
}

pub fn broken_packets() -> Vec<Case> {
    vec![
        Case::new("DISCONNECT", 6, "protocol", |_, peer| sent(peer, &DISCONNECT)).says("DISCONNECT"),
        Case::new("CONNECT", 6, "protocol", |_, peer| {
            sent(peer, &Connect::new("a", "b").bytes());
        }),
        Case::new("SUBSCRIBE", 6, "protocol", |_, peer| sent(peer, &subscribe(1, &[("a", 0)]))),
        Case::new("PINGREQ", 6, "protocol", |_, peer| sent(peer, &PINGREQ)),
        Case::new("a packet of type 0", 6, "protocol", |_, peer| sent(peer, &[0, 0])),
        Case::new("a packet of type 15", 6, "protocol", |_, peer| sent(peer, &[0xf0, 0])),
        Case::new("a remaining length of five bytes", 6, "protocol", |_, peer| {
            sent(peer, &[0x30, 0x80, 0x80, 0x80, 0x80, 1]);
        }),
        Case::new("a remaining length that is longer than needed", 6, "protocol", |_, peer| {
            sent(peer, &[0xd0, 0x80, 0]);
        }),
        Case::new("a message of 20 MB", 6, "protocol", |_, peer| {
            sent(peer, &publish(0, TOPIC, &vec![b'x'; 20 << 20]));
        })
        .says("at most 1048576"),
        Case::new("a message with QoS 3", 6, "protocol", |_, peer| {
            sent(peer, &publish_with_id(6, TOPIC, 1, b"{}"));
        }),
        Case::new("a message with packet id 0", 6, "protocol", |_, peer| {
            sent(peer, &publish_with_id(2, TOPIC, 0, b"{}"));
        }),
        Case::new("a message with DUP and QoS 0", 6, "protocol", |_, peer| {
            sent(peer, &publish(8, TOPIC, b"{}"));
        }),
        Case::new("a topic that is not UTF-8", 6, "protocol", |_, peer| sent(peer, &raw_topic(b"a\xff"))),
        Case::new("a topic with a surrogate", 6, "protocol", |_, peer| {
            sent(peer, &raw_topic(b"a\xed\xa0\x80"));
        }),
        Case::new("a topic with NUL", 6, "protocol", |_, peer| sent(peer, &raw_topic(b"a\0b"))),
        Case::new("a topic with a wildcard", 6, "protocol", |_, peer| sent(peer, &raw_topic(b"a/#"))),
        Case::new("an empty topic", 6, "protocol", |_, peer| sent(peer, &raw_topic(b""))),
        Case::new("3,000 bytes at random", 6, "protocol", |_, peer| {
            let mut state = 0x5eed_u32;
            let mut random = || {
                state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
                state.to_be_bytes()[0]
            };
            sent(peer, &(0..3000).map(|_| random()).collect::<Vec<_>>());
        }),
        Case::new("a second CONNACK", 6, "protocol", |_, peer| sent(peer, &ACCEPTED)),
        Case::new("a PUBLISH shorter than its topic", 6, "protocol", |_, peer| {
            sent(peer, &packet(0x30, &[b"\0\x09a"]));
        }),
    ]
}

pub fn odd_packets() -> Vec<Case> {
    vec![
        Case::new("a message of 300 KB", 0, "ok", |_, peer| {
            sent(peer, &publish(0, TOPIC, &vec![b'x'; 300_000]));
        }),
        Case::new("a message on a foreign topic", 0, "ok", |_, peer| sent(peer, &publish(0, "a/b", b"{}")))
            .says("warning"),
        Case::new("a topic of 65,535 bytes", 0, "ok", |_, peer| sent(peer, &raw_topic(&[b't'; 65_535])))
            .says("63575 bytes more"),
        Case::new("a topic with escape sequences and bidi controls", 0, "ok", |_, peer| {
            sent(peer, &publish(0, "\x1b[2J\u{202e}", b"{}"));
        }),
        Case::new("a command", 0, "ok", |_, peer| {
            let command = br#"{"t":1,"request_id":"c","cid":"m1","param":{"id":"1","value":1}}"#;
            sent(peer, &publish(0, "gateway_id/gw1/commands", command));
        })
        .says("listen"),
        Case::new("10,000 messages that nobody asked for", 0, "ok", |_, peer| {
            sent(peer, &publish(0, "a/b", b"{}").repeat(10_000));
        })
        .says("more warnings"),
        Case::new("a message of QoS 2 that is never released", 0, "ok", |_, peer| {
            sent(peer, &publish_with_id(4, TOPIC, 9, b"{}"));
        }),
        Case::new("its packets byte by byte", 0, "ok", |_, peer| {
            peer.log_in();
            let id = peer.expect_subscribe();
            let request = peer.request();
            let all = [suback(id, &[1]), puback(request.id).into(), response(&request, 0)].concat();
            all.chunks(1).for_each(|byte| peer.send(byte));
            peer.hold();
        }),
        Case::new("50 MB before the SUBACK", 0, "ok", |_, peer| {
            peer.log_in();
            let id = peer.expect_subscribe();
            let request = peer.request();
            peer.answer(&request, 0);
            let large = publish(0, "a/b", &[b'x'; 100_000]);
            for _ in 0..500 {
                peer.send(&large);
            }
            peer.send(&suback(id, &[1]));
            peer.hold();
        })
        .args(&["--timeout", "20s"]),
    ]
}
