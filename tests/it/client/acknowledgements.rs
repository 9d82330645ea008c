//! PUBACK and its kin.

use super::Case;
use crate::fake_broker::{Peer, response};
use crate::wire::{PINGRESP, Packet, acknowledgement, puback, suback};

/// Sends what `bytes` makes of the report's packet id, then answers it.
fn acknowledged<B: AsRef<[u8]>>(peer: &mut Peer, bytes: impl Fn(u16) -> B) {
    peer.set_out();
    let request = peer.request();
    peer.send(bytes(request.id).as_ref());
    peer.send(&response(&request, 0));
    peer.hold();
}

pub fn pubacks() -> Vec<Case> {
    vec![
        Case::new("the answer, but no PUBACK", 0, "ok", |_, peer| acknowledged(peer, |_| [])),
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
            acknowledged(peer, |id| puback(id).repeat(2));
        })
        .says("warning"),
        Case::new("PUBACK of an unused packet id", 0, "ok", |_, peer| acknowledged(peer, |_| puback(999)))
            .says("warning"),
        Case::new("PUBACK of packet id 0", 6, "protocol", |_, peer| acknowledged(peer, |_| puback(0))),
        Case::new("PUBREC for QoS 1", 6, "protocol", |_, peer| {
            acknowledged(peer, |id| acknowledgement(0x50, id));
        }),
        Case::new("PUBCOMP for QoS 1", 6, "protocol", |_, peer| {
            acknowledged(peer, |id| acknowledgement(0x70, id));
        }),
        Case::new("SUBACK for a PUBLISH", 6, "protocol", |_, peer| {
            acknowledged(peer, |id| suback(id, &[1]));
        }),
        Case::new("PUBACK for QoS 2", 6, "protocol", |_, peer| acknowledged(peer, puback))
            .args(&["--qos", "2"]),
        Case::new("an unasked UNSUBACK", 0, "ok", |_, peer| {
            acknowledged(peer, |_| acknowledgement(0xb0, 77));
        })
        .says("warning"),
        Case::new("an unasked PINGRESP", 0, "ok", |_, peer| acknowledged(peer, |_| PINGRESP)).says("warning"),
        Case::new("PUBREL of an unknown packet id", 0, "ok", |_, peer| {
            peer.set_out();
            let request = peer.request();
            peer.send(&acknowledgement(0x62, 55));
            assert_eq!(peer.receive(), Some(Packet::Acknowledgement(0x70, 55)));
            peer.answer(&request, 0);
            peer.hold();
        })
        .says("warning"),
        Case::new("the answer to QoS 2, but no PUBCOMP", 0, "ok", |_, peer| {
            acknowledged(peer, |id| acknowledgement(0x50, id));
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
