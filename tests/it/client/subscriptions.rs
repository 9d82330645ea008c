//! SUBSCRIBE and its answer.

use super::Case;
use crate::fake_broker::{Peer, response};
use crate::wire::suback;

/// Answers the report, and the SUBSCRIBE with what `codes` makes of its id.
fn subscribed(peer: &mut Peer, answer: fn(u16) -> Vec<u8>) {
    peer.log_in();
    let id = peer.expect_subscribe();
    let request = peer.request();
    peer.send(&answer(id));
    peer.answer(&request, 0);
    peer.hold();
}

pub fn subacks() -> Vec<Case> {
    vec![
        Case::new("a SUBACK with a lower QoS", 0, "ok", |_, peer| subscribed(peer, |id| suback(id, &[0]))),
        Case::new("nothing", 5, "timeout", |_, peer| subscribed(peer, |_| Vec::new())).says("SUBACK"),
        Case::new("SUBACK 0x80", 4, "refused", |_, peer| subscribed(peer, |id| suback(id, &[0x80])))
            .says("properties/report/response"),
        Case::new("a SUBACK of another packet id", 5, "timeout", |_, peer| {
            subscribed(peer, |id| suback(id + 7, &[1]));
        })
        .says("warning"),
        Case::new("a SUBACK of packet id 0", 6, "protocol", |_, peer| subscribed(peer, |_| suback(0, &[1]))),
        Case::new("a SUBACK without codes", 6, "protocol", |_, peer| subscribed(peer, |id| suback(id, &[]))),
        Case::new("a SUBACK with too many codes", 6, "protocol", |_, peer| {
            subscribed(peer, |id| suback(id, &[1, 1]));
        }),
        Case::new("a SUBACK with a reserved code", 6, "protocol", |_, peer| {
            subscribed(peer, |id| suback(id, &[3]));
        }),
        Case::new("the answer, and SUBACK after it", 0, "ok", |_, peer| {
            peer.log_in();
            let id = peer.expect_subscribe();
            let request = peer.request();
            peer.answer(&request, 0);
            peer.send(&suback(id, &[1]));
            peer.hold();
        }),
        Case::new("SUBACK twice", 0, "ok", |_, peer| {
            peer.log_in();
            let id = peer.expect_subscribe();
            let request = peer.request();
            peer.send(&[suback(id, &[1]), suback(id, &[1]), response(&request, 0)].concat());
            peer.hold();
        }),
        Case::new("SUBACK 0x80, then closes with the rest unread", 4, "refused", |_, peer| {
            peer.log_in();
            let id = peer.expect_subscribe();
            peer.request();
            peer.send(&suback(id, &[0x80]));
        }),
    ]
}

#[test]
fn a_refused_subscription_says_whether_the_request_was_sent() {
    let broker = crate::fake_broker::FakeBroker::start(|_, peer| subscribed(peer, |id| suback(id, &[0x80])));
    let args = ["--window", "1", "-"];
    let ended = crate::process::run_with(
        &mut crate::process::gateway("report", &broker.url(), &args),
        super::reports(3).as_bytes(),
    );
    super::accounted(&ended, 3);
    let sent: Vec<_> = ended.lines.iter().map(|line| line["sent"].as_bool()).collect();
    assert_eq!(sent, [Some(true), Some(false), Some(false)], "{ended:#?}");
}
