//! Whole sessions of either end, with the bytes cut into pieces: no panic, and nothing is read after a violation.

use std::time::Duration;

use tuyagw::{
    mqtt::{Connect, ConnectCode, Side, SessionEvent, SessionLimits, Publish, QoS, Session},
};

/// Panics where the promise above is broken.
pub fn check(data: &[u8]) {
    let Some((&control, data)) = data.split_first() else { return };
    let end = if control & 1 == 0 { Side::Server } else { Side::Client };
    let mut session = Session::new(end, SessionLimits { max_packet: 64 * 1024, in_flight: 3 });
    let mut now = Duration::ZERO;
    session.open(now);
    if end == Side::Client {
        session.connect(&Connect::default(), now).expect("an empty CONNECT has room");
        for qos in [QoS::AtMostOnce, QoS::AtLeastOnce, QoS::ExactlyOnce] {
            let publish = Publish { topic: "a".into(), qos, ..Publish::default() };
            session.publish(publish, qos as u64).expect("a small message has room");
        }
    }
    for piece in data.chunks(usize::from(control >> 1).max(1)) {
        now += Duration::from_secs(1);
        session.inbox().extend_from_slice(piece);
        loop {
            match session.poll_event(now) {
                Ok(Some(SessionEvent::Connect(_))) => session.connack(false, ConnectCode::ACCEPTED),
                Ok(Some(SessionEvent::Publish(_, Some(receipt)))) => session.acknowledge(receipt),
                Ok(Some(_)) => {}
                Ok(None) => break,
                Err(_) => {
                    assert_eq!(session.poll_event(now), Ok(None));
                    return;
                }
            }
        }
        if session.handle_timeout(now).is_err() {
            return;
        }
        session.outbox().clear();
    }
}
