use super::*;
use crate::mqtt::codec::{Message, Password};

const LIMITS: SessionLimits = SessionLimits { max_packet: 1 << 20, in_flight: 20 };

fn at(seconds: u64) -> Duration {
    Duration::from_secs(seconds)
}

fn message(qos: QoS, payload: &'static str) -> Publish {
    Publish { topic: "t".into(), payload: payload.into(), qos, retain: false }
}

/// A client after CONNECT and an accepting CONNACK, its outbox empty.
fn client(limits: SessionLimits, clean: bool, keep_alive: u16) -> Session {
    let mut session = Session::new(Side::Client, limits);
    open(&mut session, clean, keep_alive, false);
    session
}

fn open(session: &mut Session, clean: bool, keep_alive: u16, session_present: bool) {
    session.open(at(0));
    session.connect(&Connect { clean_session: clean, keep_alive, ..Connect::default() }, at(0)).unwrap();
    hear(session, &Packet::ConnAck { session_present, code: ConnectCode::ACCEPTED });
    let expected = SessionEvent::ConnAck { session_present, code: ConnectCode::ACCEPTED };
    assert_eq!(session.poll_event(at(0)), Ok(Some(expected)));
    session.outbox().clear();
}

fn server(keep_alive: u16) -> Session {
    let mut session = Session::new(Side::Server, LIMITS);
    session.open(at(0));
    hear(&mut session, &Packet::Connect(Box::new(Connect { keep_alive, ..Connect::default() })));
    assert!(matches!(session.poll_event(at(0)), Ok(Some(SessionEvent::Connect(_)))));
    session.connack(false, ConnectCode::ACCEPTED);
    session.outbox().clear();
    session
}

fn hear(session: &mut Session, packet: &Packet) {
    packet.encode(session.inbox()).unwrap();
}

fn heard(session: &mut Session, packet: &Packet) -> Result<Option<SessionEvent>, Violation> {
    hear(session, packet);
    session.poll_event(at(0))
}

fn incoming(qos: QoS, id: u16, dup: bool) -> Packet {
    let id = (qos != QoS::AtMostOnce).then_some(id);
    Packet::Publish(Message { topic: "t".into(), payload: "x".into(), qos, retain: false, dup, id })
}

/// What the session has said since the last time, as the peer reads it.
fn said(session: &mut Session) -> Vec<Packet> {
    let to = session.end.peer();
    let mut bytes = session.outbox().split();
    let mut packets = Vec::new();
    while let Some(packet) = Packet::decode(&mut bytes, to, usize::MAX).unwrap() {
        packets.push(packet);
    }
    assert!(bytes.is_empty());
    packets
}

/// The ids and DUP flags of the publishes said.
fn publishes(session: &mut Session) -> Vec<(u16, bool)> {
    let ids = said(session).into_iter().map(|packet| match packet {
        Packet::Publish(message) => (message.id.unwrap_or_default(), message.dup),
        other => panic!("{other:?}"),
    });
    ids.collect()
}

fn receipt(event: Result<Option<SessionEvent>, Violation>) -> AckToken {
    match event {
        Ok(Some(SessionEvent::Publish(_, Some(receipt)))) => receipt,
        other => panic!("{other:?}"),
    }
}

fn violates(event: Result<Option<SessionEvent>, Violation>, why: &str) {
    match event {
        Err(violation) => assert!(violation.0.contains(why), "{violation} instead of {why:?}"),
        other => panic!("{other:?} instead of a violation: {why:?}"),
    }
}

fn ignores(event: Result<Option<SessionEvent>, Violation>, why: &str) {
    match event {
        Ok(Some(SessionEvent::Ignored(warning))) => assert!(warning.contains(why), "{warning}"),
        other => panic!("{other:?} instead of a warning: {why:?}"),
    }
}

#[test]
fn section_2_3_1_ids_begin_at_1_skip_those_in_use_and_wrap_at_65_535() {
    let mut session = client(LIMITS, true, 0);
    session.publish(message(QoS::AtLeastOnce, "stuck"), 0).unwrap();
    assert_eq!(publishes(&mut session), [(1, false)]);
    assert_eq!(session.subscribe(&[("a", QoS::AtLeastOnce)]), Ok(2));
    said(&mut session);
    let mut expected = 2;
    for token in 1..70_000 {
        session.publish(message(QoS::AtLeastOnce, ""), token).unwrap();
        expected = if expected == 65_535 { 3 } else { expected + 1 };
        assert_eq!(publishes(&mut session), [(expected, false)]);
        assert_eq!(
            heard(&mut session, &Packet::PubAck(expected)),
            Ok(Some(SessionEvent::Delivered { token }))
        );
    }
    let codes = vec![SubscribeCode::Refused];
    assert!(matches!(
        heard(&mut session, &Packet::SubAck { id: 2, codes }),
        Ok(Some(SessionEvent::SubAck { .. }))
    ));
    session.forget();
    session.publish(message(QoS::AtLeastOnce, ""), 0).unwrap();
    assert_eq!(publishes(&mut session), [(1, false)]);
}

#[test]
fn the_window_holds_publishes_back_and_acknowledgements_let_them_out_in_order() {
    let mut session = client(SessionLimits { in_flight: 2, ..LIMITS }, true, 0);
    for token in 0..5 {
        let qos = if token == 4 { QoS::AtMostOnce } else { QoS::AtLeastOnce };
        session.publish(message(qos, ""), token).unwrap();
    }
    assert_eq!((session.in_flight(), session.queued()), (2, 3));
    assert_eq!(session.unacknowledged().collect::<Vec<_>>(), [0, 1, 2, 3, 4]);
    assert_eq!(publishes(&mut session), [(1, false), (2, false)]);
    assert_eq!(heard(&mut session, &Packet::PubAck(2)), Ok(Some(SessionEvent::Delivered { token: 1 })));
    assert_eq!(publishes(&mut session), [(3, false)]);
    assert_eq!(heard(&mut session, &Packet::PubAck(1)), Ok(Some(SessionEvent::Delivered { token: 0 })));
    assert_eq!(publishes(&mut session), [(4, false), (0, false)]);
    assert_eq!(session.poll_event(at(0)), Ok(Some(SessionEvent::Delivered { token: 4 })));
    assert_eq!(session.unacknowledged().collect::<Vec<_>>(), [2, 3]);
}

#[test]
fn section_4_4_what_was_not_acknowledged_is_sent_again_with_dup_before_anything_new() {
    let mut session = client(LIMITS, false, 0);
    for (token, qos) in
        [QoS::AtLeastOnce, QoS::ExactlyOnce, QoS::ExactlyOnce, QoS::AtLeastOnce].into_iter().enumerate()
    {
        session.publish(message(qos, ""), token as u64).unwrap();
    }
    assert_eq!(heard(&mut session, &Packet::PubRec(3)), Ok(None));
    assert_eq!(session.subscribe(&["a"].map(|filter| (filter, QoS::AtMostOnce))), Ok(5));
    open(&mut session, false, 0, true);
    assert!(session.is_held());
    session.publish(message(QoS::AtMostOnce, ""), 9).unwrap();
    assert_eq!(said(&mut session), []);
    session.resume();
    let resent = said(&mut session);
    assert_eq!(resent[0], Packet::PubRel(3));
    let publishes: Vec<_> = resent[1..]
        .iter()
        .map(|packet| match packet {
            Packet::Publish(message) => (message.id, message.dup),
            other => panic!("{other:?}"),
        })
        .collect();
    assert_eq!(publishes, [(Some(1), true), (Some(2), true), (Some(4), true), (None, false)]);
    session.resume();
    assert_eq!(said(&mut session), [], "a second resume has nothing to say");
    assert_eq!(session.poll_event(at(0)), Ok(Some(SessionEvent::Delivered { token: 9 })));
    ignores(
        heard(&mut session, &Packet::SubAck { id: 5, codes: vec![SubscribeCode::Refused] }),
        "not in use",
    );
    assert_eq!(heard(&mut session, &Packet::PubComp(3)), Ok(Some(SessionEvent::Delivered { token: 2 })));
}

#[test]
fn section_4_6_pubrels_are_repeated_in_the_order_of_their_pubrecs() {
    let mut session = client(LIMITS, false, 0);
    for token in 0..9 {
        session.publish(message(QoS::ExactlyOnce, ""), token).unwrap();
    }
    let order = [4, 9, 1, 3, 7];
    for id in order {
        assert_eq!(heard(&mut session, &Packet::PubRec(id)), Ok(None));
    }
    assert_eq!(said(&mut session)[9..], order.map(Packet::PubRel));
    open(&mut session, false, 0, true);
    session.resume();
    let said = said(&mut session);
    assert_eq!(said[..5], order.map(Packet::PubRel));
    assert!(matches!(
        said[5..],
        [Packet::Publish(_), Packet::Publish(_), Packet::Publish(_), Packet::Publish(_)]
    ));
    assert_eq!(session.unacknowledged().collect::<Vec<_>>(), [3, 8, 0, 2, 6, 1, 4, 5, 7]);
}

#[test]
fn section_3_3_1_1_a_message_of_qos_2_is_repeated_with_dup_or_not_more_than_once() {
    let mut session = server(0);
    let first = receipt(heard(&mut session, &incoming(QoS::ExactlyOnce, 5, false)));
    session.acknowledge(first);
    for _ in 0..3 {
        assert_eq!(heard(&mut session, &incoming(QoS::ExactlyOnce, 5, true)), Ok(None));
    }
    assert_eq!(heard(&mut session, &incoming(QoS::ExactlyOnce, 5, false)), Ok(None));
    assert_eq!(said(&mut session), [5; 5].map(Packet::PubRec));
    violates(heard(&mut session, &incoming(QoS::ExactlyOnce, 5, false)), "without DUP");

    // There are clients that forget DUP when they reconnect.
    let mut session = client(LIMITS, false, 0);
    let first = receipt(heard(&mut session, &incoming(QoS::ExactlyOnce, 5, false)));
    session.acknowledge(first);
    for _ in 0..3 {
        open(&mut session, false, 0, true);
        assert_eq!(heard(&mut session, &incoming(QoS::ExactlyOnce, 5, false)), Ok(None));
        assert_eq!(said(&mut session), [Packet::PubRec(5)]);
    }
}

#[test]
fn early_publishes_follow_connect_and_are_not_held_by_connack() {
    let mut session = Session::new(Side::Client, LIMITS);
    session.open(at(0));
    session.publish(message(QoS::AtLeastOnce, "before CONNECT"), 0).unwrap();
    assert!(session.outbox().is_empty());
    session.open(at(0));
    session.forget();
    session.connect(&Connect { clean_session: true, ..Connect::default() }, at(0)).unwrap();
    session.subscribe(&[("a", QoS::AtLeastOnce)]).unwrap();
    session.publish(message(QoS::AtLeastOnce, ""), 1).unwrap();
    let early = said(&mut session);
    assert!(matches!(early[..], [Packet::Connect(_), Packet::Subscribe { id: 1, .. }, Packet::Publish(_)]));
    heard(&mut session, &Packet::ConnAck { session_present: false, code: ConnectCode::ACCEPTED }).unwrap();
    assert!(!session.is_held());
    assert_eq!(heard(&mut session, &Packet::PubAck(2)), Ok(Some(SessionEvent::Delivered { token: 1 })));
}

#[test]
fn forget_drops_what_was_held_and_keeps_an_early_subscribe() {
    let mut session = client(LIMITS, false, 0);
    for token in 0..3 {
        session.publish(message(QoS::ExactlyOnce, ""), token).unwrap();
    }
    session.open(at(0));
    session.connect(&Connect::default(), at(0)).unwrap();
    assert_eq!(session.subscribe(&[("a", QoS::AtLeastOnce)]), Ok(4));
    session.publish(message(QoS::AtLeastOnce, ""), 3).unwrap();
    heard(&mut session, &Packet::ConnAck { session_present: false, code: ConnectCode::ACCEPTED }).unwrap();
    assert_eq!(session.unacknowledged().collect::<Vec<_>>(), [0, 1, 2, 3]);
    session.forget();
    assert_eq!((session.in_flight(), session.queued(), session.is_held()), (0, 0, false));
    said(&mut session);
    session.publish(message(QoS::AtLeastOnce, ""), 4).unwrap();
    assert_eq!(publishes(&mut session), [(5, false)]);
    let codes = vec![SubscribeCode::Granted(QoS::AtLeastOnce)];
    let answer = Packet::SubAck { id: 4, codes: codes.clone() };
    assert_eq!(heard(&mut session, &answer), Ok(Some(SessionEvent::SubAck { id: 4, codes })));
}

#[test]
fn without_a_transport_publishes_wait() {
    let mut session = client(LIMITS, false, 10);
    session.close();
    session.publish(message(QoS::AtMostOnce, ""), 0).unwrap();
    session.publish(message(QoS::AtLeastOnce, ""), 1).unwrap();
    assert_eq!((session.outbox().len(), session.next_timeout(), session.queued()), (0, None, 2));
    assert_eq!(session.poll_event(at(0)), Ok(None));
    open(&mut session, false, 10, true);
    assert_eq!(said(&mut session), []);
    session.resume();
    assert_eq!(publishes(&mut session), [(0, false), (1, false)], "never sent before, hence without DUP");
}

#[test]
fn acknowledgements_of_unused_ids_are_ignored() {
    let mut session = client(LIMITS, true, 0);
    ignores(heard(&mut session, &Packet::PubAck(1)), "PUBACK for packet id 1");
    ignores(heard(&mut session, &Packet::PubComp(3)), "not in use");
    ignores(heard(&mut session, &Packet::UnsubAck(4)), "not in use");
    ignores(
        heard(&mut session, &Packet::SubAck { id: 5, codes: vec![SubscribeCode::Refused] }),
        "not in use",
    );
    ignores(heard(&mut session, &Packet::PingResp), "without a PINGREQ");
    assert_eq!(said(&mut session), []);
    ignores(heard(&mut session, &Packet::PubRec(2)), "not in use");
    assert_eq!(said(&mut session), [Packet::PubRel(2)], "the peer may forget the id");
    ignores(heard(&mut session, &Packet::PubRel(6)), "not in use");
    assert_eq!(said(&mut session), [Packet::PubComp(6)]);
    session.publish(message(QoS::AtLeastOnce, ""), 7).unwrap();
    assert_eq!(heard(&mut session, &Packet::PubAck(1)), Ok(Some(SessionEvent::Delivered { token: 7 })));
    ignores(heard(&mut session, &Packet::PubAck(1)), "not in use");
}

#[test]
fn acknowledgements_of_the_wrong_type_are_violations() {
    let acks: [fn(u16) -> Packet; 5] =
        [Packet::PubAck, Packet::PubRec, Packet::PubComp, Packet::UnsubAck, |id| Packet::SubAck {
            id,
            codes: vec![SubscribeCode::Refused],
        }];
    for (right, name) in ["PUBACK", "PUBREC", "PUBCOMP", "UNSUBACK", "SUBACK"].into_iter().enumerate() {
        for (wrong, ack) in acks.iter().enumerate() {
            let mut session = client(LIMITS, true, 0);
            match right {
                0 => session.publish(message(QoS::AtLeastOnce, ""), 0).unwrap(),
                1 => session.publish(message(QoS::ExactlyOnce, ""), 0).unwrap(),
                2 => {
                    session.publish(message(QoS::ExactlyOnce, ""), 0).unwrap();
                    assert_eq!(heard(&mut session, &Packet::PubRec(1)), Ok(None));
                }
                3 => assert_eq!(session.unsubscribe(&["a"]), Ok(1)),
                _ => assert_eq!(session.subscribe(&[("a", QoS::AtMostOnce)]), Ok(1)),
            }
            let event = heard(&mut session, &ack(1));
            if right == wrong {
                assert!(event.is_ok(), "{event:?}");
                if right != 1 {
                    ignores(heard(&mut session, &ack(1)), "not in use");
                }
            } else if (right, wrong) == (2, 1) {
                ignores(event, "came again");
                let releases = said(&mut session).into_iter().filter(|said| *said == Packet::PubRel(1));
                assert_eq!(releases.count(), 2);
            } else {
                violates(event, &format!("which awaits {name}"));
                assert_eq!(session.poll_event(at(0)), Ok(None), "nothing is read after a violation");
            }
        }
    }
}

#[test]
fn what_waits_for_its_acknowledgement_is_weighed() {
    let mut session = client(LIMITS, true, 0);
    let qualities = [QoS::AtLeastOnce, QoS::ExactlyOnce, QoS::AtLeastOnce];
    for (token, qos) in (0..).zip(qualities) {
        session.publish(message(qos, "abc"), token).unwrap();
    }
    assert_eq!(session.in_flight_bytes(), 3 * "tabc".len());
    heard(&mut session, &Packet::PubAck(1)).unwrap();
    assert_eq!(session.in_flight_bytes(), 2 * "tabc".len());
    heard(&mut session, &Packet::PubRec(2)).unwrap();
    assert_eq!(session.in_flight_bytes(), "tabc".len(), "it will not be sent again");
    session.forget();
    assert_eq!(session.in_flight_bytes(), 0);
}

#[test]
fn without_a_free_packet_id_requests_are_refused_and_publishes_wait() {
    let mut session = client(LIMITS, true, 0);
    for id in 1..=u16::MAX {
        assert_eq!(session.unsubscribe(&["a"]), Ok(id));
        session.outbox().clear();
    }
    assert!(session.subscribe(&[("a", QoS::AtMostOnce)]).is_err());
    session.publish(message(QoS::AtLeastOnce, ""), 7).unwrap();
    assert_eq!(said(&mut session), []);
    assert_eq!((session.in_flight(), session.queued()), (0, 1));
}

#[test]
fn section_3_8_4_suback_needs_a_code_for_each_filter() {
    for codes in [1, 3] {
        let mut session = client(LIMITS, true, 0);
        session.subscribe(&[("a", QoS::AtLeastOnce), ("b", QoS::AtLeastOnce)]).unwrap();
        let codes = vec![SubscribeCode::Refused; codes];
        violates(heard(&mut session, &Packet::SubAck { id: 1, codes }), "for 2 filters");
    }
}

#[test]
fn section_3_2_connack_comes_first_and_once() {
    let fresh = || {
        let mut session = Session::new(Side::Client, LIMITS);
        session.open(at(0));
        session.connect(&Connect { clean_session: true, ..Connect::default() }, at(0)).unwrap();
        session
    };
    for (bytes, why) in [
        (&b"\x30\xff\xff\x7f"[..], "PUBLISH where CONNACK must come first"),
        (b"\xd0\0", "PINGRESP where CONNACK"),
        (b"HTTP/1.1 400 Bad Request", "speaks HTTP"),
        (b"\x15\x03\x01\0\x02\x02\x50", "speaks TLS"),
        (b"\x20\x02\x01\0", "clean one was asked for"),
        (b"\x20\x03\0\0\0", "remaining length 3"),
    ] {
        let mut session = fresh();
        session.inbox().extend_from_slice(bytes);
        violates(session.poll_event(at(0)), why);
        assert!(session.inbox().is_empty());
    }
    let mut session = fresh();
    let connack = Packet::ConnAck { session_present: false, code: ConnectCode::ACCEPTED };
    assert!(heard(&mut session, &connack).is_ok());
    violates(heard(&mut session, &connack), "a second CONNACK");
    for code in [1, 5, 6, 127, 135, 255] {
        let mut session = fresh();
        let code = ConnectCode(code);
        hear(&mut session, &Packet::ConnAck { session_present: false, code });
        hear(&mut session, &Packet::PubAck(1));
        assert_eq!(
            session.poll_event(at(0)),
            Ok(Some(SessionEvent::ConnAck { session_present: false, code }))
        );
        assert_eq!(session.poll_event(at(0)), Ok(None), "nothing is read after a refusal");
    }
}

#[test]
fn section_3_1_connect_comes_first_and_once() {
    for (bytes, why) in [
        (&b"\x30"[..], "PUBLISH where CONNECT must come first"),
        (b"\xc0\0", "PINGREQ where CONNECT"),
        (b"GET / HTTP/1.1", "speaks HTTP"),
        (b"\x16\x03\x01", "speaks TLS"),
    ] {
        let mut session = Session::new(Side::Server, LIMITS);
        session.open(at(0));
        session.inbox().extend_from_slice(bytes);
        violates(session.poll_event(at(0)), why);
    }
    violates(heard(&mut server(0), &Packet::Connect(Box::default())), "a second CONNECT");
    let mut session = Session::new(Side::Server, LIMITS);
    session.open(at(0));
    session.inbox().extend_from_slice(b"\x10\x0f\0\x04MQTT\x05\x02\0\x3c\0\0\x02gw\xc0\0");
    let (protocol, client_id) = ("MQTT".into(), "gw".into());
    let other = SessionEvent::OtherVersion { protocol, level: 5, client_id, username: None };
    assert_eq!(session.poll_event(at(0)), Ok(Some(other)));
    session.connack(true, ConnectCode::PROTOCOL_VERSION);
    assert_eq!(session.outbox()[..], [0x20, 2, 0, 1]);
    assert_eq!(session.poll_event(at(0)), Ok(None));
}

#[test]
fn a_server_says_nothing_before_connack() {
    let mut session = Session::new(Side::Server, LIMITS);
    session.open(at(0));
    session.publish(message(QoS::AtMostOnce, ""), 0).unwrap();
    assert!(session.outbox().is_empty());
    assert!(matches!(
        heard(&mut session, &Packet::Connect(Box::default())),
        Ok(Some(SessionEvent::Connect(_)))
    ));
    session.connack(false, ConnectCode::ACCEPTED);
    assert!(matches!(said(&mut session)[..], [Packet::ConnAck { .. }, Packet::Publish(_)]));
}

#[test]
fn section_3_14_nothing_follows_disconnect() {
    let mut session = client(LIMITS, true, 10);
    let owed = receipt(heard(&mut session, &incoming(QoS::AtLeastOnce, 1, false)));
    session.disconnect();
    session.publish(message(QoS::AtMostOnce, ""), 0).unwrap();
    session.acknowledge(owed);
    session.handle_timeout(at(10)).unwrap();
    assert_eq!(said(&mut session), [Packet::Disconnect]);

    let mut session = server(0);
    hear(&mut session, &Packet::Disconnect);
    hear(&mut session, &incoming(QoS::AtMostOnce, 0, false));
    assert_eq!(session.poll_event(at(0)), Ok(Some(SessionEvent::Disconnect)));
    assert_eq!(session.poll_event(at(0)), Ok(None));
}

#[test]
fn section_4_6_acknowledgements_leave_in_the_order_of_arrival() {
    let mut session = client(LIMITS, true, 0);
    let first = receipt(heard(&mut session, &incoming(QoS::AtLeastOnce, 10, false)));
    let second = receipt(heard(&mut session, &incoming(QoS::ExactlyOnce, 11, false)));
    let third = receipt(heard(&mut session, &incoming(QoS::AtLeastOnce, 12, false)));
    let plain = heard(&mut session, &incoming(QoS::AtMostOnce, 0, false));
    assert!(matches!(plain, Ok(Some(SessionEvent::Publish(_, None)))));
    session.acknowledge(second);
    session.acknowledge(third);
    assert_eq!((said(&mut session), session.pending_acks()), (vec![], 3));
    session.acknowledge(first);
    assert_eq!(said(&mut session), [Packet::PubAck(10), Packet::PubRec(11), Packet::PubAck(12)]);
    session.acknowledge(first);
    session.acknowledge(second);
    assert_eq!(said(&mut session), [], "a receipt counts once");
    assert_eq!(session.pending_acks(), 0);
}

#[test]
fn section_4_3_3_a_repeated_message_of_qos_2_is_answered_but_not_delivered_again() {
    let mut session = client(LIMITS, false, 0);
    let again = incoming(QoS::ExactlyOnce, 5, true);
    let first = receipt(heard(&mut session, &incoming(QoS::ExactlyOnce, 5, false)));
    assert_eq!(heard(&mut session, &again), Ok(None));
    assert_eq!(said(&mut session), []);
    session.acknowledge(first);
    assert_eq!(said(&mut session), [Packet::PubRec(5)]);
    assert_eq!(heard(&mut session, &again), Ok(None));
    assert_eq!(said(&mut session), [Packet::PubRec(5)]);
    assert_eq!(heard(&mut session, &Packet::PubRel(5)), Ok(None));
    assert_eq!(said(&mut session), [Packet::PubComp(5)]);

    let old = receipt(heard(&mut session, &incoming(QoS::ExactlyOnce, 5, false)));
    open(&mut session, false, 0, true);
    session.acknowledge(first);
    assert_eq!(heard(&mut session, &again), Ok(None));
    assert_eq!(said(&mut session), []);
    session.acknowledge(old);
    assert_eq!(said(&mut session), [Packet::PubRec(5)], "an old receipt still says that the message is safe");

    // Without a session present the same id is another message.
    open(&mut session, false, 0, false);
    let new = receipt(heard(&mut session, &again));
    session.acknowledge(old);
    assert_eq!(said(&mut session), []);
    violates(heard(&mut session, &Packet::PubRel(5)), "before its PUBREC");
    let _ = new;
}

#[test]
fn receipts_of_qos_1_die_with_their_transport() {
    let mut session = client(LIMITS, false, 0);
    let old = receipt(heard(&mut session, &incoming(QoS::AtLeastOnce, 5, false)));
    open(&mut session, false, 0, true);
    let new = receipt(heard(&mut session, &incoming(QoS::AtLeastOnce, 5, true)));
    session.acknowledge(old);
    assert_eq!(said(&mut session), []);
    session.acknowledge(new);
    assert_eq!(said(&mut session), [Packet::PubAck(5)]);
}

#[test]
fn a_server_adopts_what_the_client_s_former_session_left() {
    let mut former = server(0);
    former.publish(message(QoS::AtLeastOnce, ""), 1).unwrap();
    let old = receipt(heard(&mut former, &incoming(QoS::ExactlyOnce, 3, false)));
    let mut session = Session::new(Side::Server, LIMITS);
    session.open(at(0));
    heard(&mut session, &Packet::Connect(Box::default())).unwrap();
    session.adopt(former);
    session.connack(true, ConnectCode::ACCEPTED);
    session.resume();
    assert!(matches!(
        said(&mut session)[..],
        [
            Packet::ConnAck { session_present: true, .. },
            Packet::Publish(Message { dup: true, id: Some(1), .. })
        ]
    ));
    assert_eq!(heard(&mut session, &incoming(QoS::ExactlyOnce, 3, true)), Ok(None));
    session.acknowledge(old);
    assert_eq!(said(&mut session), [Packet::PubRec(3)]);
}

#[test]
fn section_3_1_2_10_a_client_pings_when_idle_and_finds_silence() {
    let mut session = client(LIMITS, true, 10);
    assert_eq!(session.next_timeout(), Some(at(10)));
    session.handle_timeout(at(9)).unwrap();
    session.publish(message(QoS::AtMostOnce, ""), 0).unwrap();
    assert!(session.poll_event(at(9)).is_ok());
    hear(&mut session, &incoming(QoS::AtMostOnce, 0, false));
    assert!(session.poll_event(at(9)).is_ok());
    said(&mut session);
    assert_eq!(session.next_timeout(), Some(at(19)));
    session.handle_timeout(at(18)).unwrap();
    assert_eq!(said(&mut session), []);
    session.handle_timeout(at(19)).unwrap();
    assert_eq!(said(&mut session), [Packet::PingReq]);
    assert_eq!(session.next_timeout(), Some(at(24)));
    session.handle_timeout(at(23)).unwrap();
    assert_eq!(session.handle_timeout(at(24)), Err(Silence { quiet: at(15) }));
    assert_eq!(Silence { quiet: at(15) }.to_string(), "nothing was received for 15.0 s");

    hear(&mut session, &Packet::PingResp);
    assert_eq!(session.poll_event(at(24)), Ok(None));
    session.handle_timeout(at(24)).unwrap();
    ignores(heard(&mut session, &Packet::PingResp), "without a PINGREQ");

    session.ping();
    open(&mut session, true, 10, false);
    ignores(heard(&mut session, &Packet::PingResp), "without a PINGREQ");
}

#[test]
fn who_only_sends_pings_for_a_sign_of_life_and_who_is_not_reading_hears_no_silence() {
    let mut session = client(LIMITS, true, 10);
    for second in 1..=10 {
        session.handle_timeout(at(second)).unwrap();
        session.publish(message(QoS::AtMostOnce, ""), second).unwrap();
    }
    assert_eq!(said(&mut session).iter().filter(|packet| **packet == Packet::PingReq).count(), 1);
    for second in 11..=60 {
        session.not_reading(at(second));
        session.handle_timeout(at(second)).unwrap();
    }
    assert_eq!(said(&mut session).iter().filter(|packet| **packet == Packet::PingReq).count(), 5);
    while session.poll_event(at(60)).unwrap().is_some() {}
    // A packet that is long in coming is a sign of life.
    for second in 61..=90 {
        let byte: &[u8] = if second == 61 { &[0x30, 0xff, 0x7f, 0, 90] } else { b"a" };
        session.inbox().extend_from_slice(byte);
        assert_eq!(session.poll_event(at(second)), Ok(None));
        session.handle_timeout(at(second)).unwrap();
    }
    assert!(session.handle_timeout(at(105)).is_err());
}

#[test]
fn a_server_waits_one_and_a_half_times_the_keep_alive() {
    let mut session = server(10);
    assert_eq!(session.next_timeout(), Some(at(15)));
    hear(&mut session, &Packet::PingReq);
    assert_eq!(session.poll_event(at(14)), Ok(None));
    assert_eq!(said(&mut session), [Packet::PingResp]);
    session.inbox().extend_from_slice(&[0x30]);
    assert_eq!(session.poll_event(at(20)), Ok(None));
    assert_eq!(session.next_timeout(), Some(at(29)), "half a packet is none");
    session.handle_timeout(at(28)).unwrap();
    assert!(session.handle_timeout(at(29)).is_err());
    let mut off = server(0);
    assert_eq!(off.next_timeout(), None);
    off.handle_timeout(at(1 << 40)).unwrap();
    assert_eq!(client(LIMITS, true, 0).next_timeout(), None);
}

#[test]
fn an_idle_session_is_small() {
    assert!(size_of::<Session>() <= 400, "{} bytes", size_of::<Session>());
    let mut session = server(60);
    session.publish(message(QoS::AtLeastOnce, ""), 1).unwrap();
    assert!(heard(&mut session, &Packet::PubAck(1)).is_ok());
    session.outbox().clear();
    assert!(session.outbox().capacity() > 0);
    session.shrink();
    assert_eq!((session.inbox().capacity(), session.outbox().capacity()), (0, 0));
    session.publish(message(QoS::AtLeastOnce, ""), 1).unwrap();
    session.shrink();
    assert!(!session.outbox().is_empty(), "what is not written is kept");
}

#[test]
fn nothing_secret_is_shown() {
    let connect = Connect { password: Some(Password::new("hunter2")), ..Connect::default() };
    assert!(!format!("{:?}", SessionEvent::Connect(Box::new(connect))).contains("hunter2"));
}
