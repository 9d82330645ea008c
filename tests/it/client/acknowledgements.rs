//! PUBACK and its kin.

use super::Case;
use crate::fake_broker::{Peer, response};
use crate::wire::{Packet, puback};

/// Sends what `bytes` makes of the report's packet id, then answers it.
fn acknowledged(peer: &mut Peer, bytes: fn(u16) -> Vec<u8>) {
    peer.set_out();
    let request = peer.request();
    peer.send(&bytes(request.id));
    peer.send(&response(&request, 0));
    peer.hold();
}

fn two(first: u8, id: u16) -> Vec<u8> {
    [&[first, 2], &id.to_be_bytes()[..]].concat()
}

pub fn pubacks() -> Vec<Case> {
    vec![
        Case::new("the answer, but no PUBACK", 0, "ok", |_, peer| acknowledged(peer, |_| Vec::new())),
        Case::new("nothing", 5, "timeout", |_, peer| {
            peer.set_out();
            peer.hold();
        }),
        Case::new("PUBACK, but no answer", 5, "timeout", |_, peer| {
            peer.set_out();
            let request = peer.request();
            peer.send(&puback(request.id));
            peer.hold();
        })
        .says("though the broker acknowledged"),
        Case::new("PUBACK twice", 0, "ok", |_, peer| {
            acknowledged(peer, |id| [puback(id), puback(id)].concat());
        })
        .says("warning"),
        Case::new("PUBACK of an unused packet id", 0, "ok", |_, peer| acknowledged(peer, |_| puback(999)))
            .says("warning"),
        Case::new("PUBACK of packet id 0", 6, "protocol", |_, peer| acknowledged(peer, |_| puback(0))),
        Case::new("PUBREC for QoS 1", 6, "protocol", |_, peer| acknowledged(peer, |id| two(0x50, id))),
        Case::new("PUBCOMP for QoS 1", 6, "protocol", |_, peer| acknowledged(peer, |id| two(0x70, id))),
        Case::new("SUBACK for a PUBLISH", 6, "protocol", |_, peer| {
            acknowledged(peer, |id| crate::wire::suback(id, &[1]));
        }),
        Case::new("PUBACK for QoS 2", 6, "protocol", |_, peer| acknowledged(peer, puback))
            .args(&["--qos", "2"]),
        Case::new("an unasked UNSUBACK", 0, "ok", |_, peer| acknowledged(peer, |_| two(0xb0, 77)))
            .says("warning"),
        Case::new("an unasked PINGRESP", 0, "ok", |_, peer| acknowledged(peer, |_| vec![0xd0, 0]))
            .says("warning"),
        Case::new("PUBREL of an unknown packet id", 0, "ok", |_, peer| {
            peer.set_out();
            let request = peer.request();
            peer.send(&two(0x62, 55));
            assert_eq!(peer.receive(), Some(Packet::Acknowledgement(0x70, 55)));
            peer.answer(&request, 0);
            peer.hold();
        })
        .says("warning"),
        Case::new("the answer to QoS 2, but no PUBCOMP", 0, "ok", |_, peer| {
            acknowledged(peer, |id| two(0x50, id));
        })
        .args(&["--qos", "2"]),
        Case::new("PUBACKs in reverse, all before the first answer", 0, "ok", |_, peer| {
            peer.set_out();
            let requests: Vec<_> = (0..10).map(|_| peer.request()).collect();
            requests.iter().rev().for_each(|request| peer.send(&puback(request.id)));
            let answers: Vec<_> = requests.iter().map(|request| response(request, 0)).collect();
            peer.send(&answers.concat());
            peer.hold();
        })
        .input(10),
        Case::new("PUBACK only after the next request", 0, "ok", |_, peer| {
            peer.set_out();
            let first = peer.request();
            peer.send(&response(&first, 0));
            let second = peer.request();
            peer.send(&puback(first.id));
            peer.answer(&second, 0);
            peer.hold();
        })
        .input(2)
        .args(&["--window", "1"]),
    ]
}
