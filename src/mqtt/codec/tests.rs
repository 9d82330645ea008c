use std::sync::Arc;

use bytes::{Bytes, BytesMut};
use rumqttc::mqttbytes::v4;

use super::{header::MAX_REMAINING, *};
use crate::mqtt::ConnectCode;

const LIMIT: usize = 1 << 20;

fn decode(bytes: &[u8], to: Side) -> Result<Option<Packet>, Malformed> {
    Packet::decode(&mut BytesMut::from(bytes), to, LIMIT)
}

/// Both ends' verdict on bytes that break a rule of MQTT 3.1.1, which `why` must name.
fn refuse(section: &str, to: Side, bytes: &[u8], why: &str) {
    match decode(bytes, to) {
        Err(malformed) => assert!(
            malformed.0.contains(why),
            "section {section}: {bytes:02x?} was refused with {malformed}, not with {why:?}"
        ),
        Ok(packet) => panic!("section {section}: {bytes:02x?} was taken for {packet:?}"),
    }
}

fn encoded(packet: &Packet) -> BytesMut {
    let mut out = BytesMut::new();
    packet.encode(&mut out).unwrap();
    out
}

/// A CONNECT with these flags and, after the client id "gw", this payload.
fn connect(flags: u8, payload: &[u8]) -> Vec<u8> {
    let mut body = b"\0\x04MQTT\x04".to_vec();
    body.extend([flags, 0, 60, 0, 2, b'g', b'w']);
    body.extend(payload);
    let mut packet = vec![0x10, u8::try_from(body.len()).unwrap()];
    packet.extend(body);
    packet
}

fn samples() -> Vec<(Side, Packet)> {
    let message = |qos: QoS, dup, id| Message {
        topic: "gateway_id/网关/commands".into(),
        payload: Bytes::from_static(b"{\"t\":1}\0\xff"),
        qos,
        retain: id == Some(7),
        dup,
        id,
    };
    vec![
        (Side::Server, Packet::Connect(Box::default())),
        (
            Side::Server,
            Packet::Connect(Box::new(Connect {
                version: ProtocolVersion::V3_1,
                is_bridge: true,
                client_id: "gw1".into(),
                clean_session: true,
                keep_alive: 65_535,
                username: Some(String::new()),
                password: Some(Password::new(&b"\xff\0"[..])),
                will: Some(Will {
                    topic: "a/b".into(),
                    payload: Bytes::new(),
                    qos: QoS::ExactlyOnce,
                    retain: true,
                }),
            })),
        ),
        (Side::Client, Packet::ConnAck { session_present: true, code: ConnectCode(0) }),
        (Side::Client, Packet::ConnAck { session_present: false, code: ConnectCode(255) }),
        (Side::Client, Packet::Publish(message(QoS::AtMostOnce, false, None))),
        (Side::Server, Packet::Publish(message(QoS::AtLeastOnce, true, Some(7)))),
        (Side::Client, Packet::Publish(message(QoS::ExactlyOnce, false, Some(65_535)))),
        (Side::Client, Packet::PubAck(1)),
        (Side::Server, Packet::PubRec(2)),
        (Side::Client, Packet::PubRel(3)),
        (Side::Server, Packet::PubComp(65_535)),
        (
            Side::Server,
            Packet::Subscribe {
                id: 1,
                filters: vec![("a/+/#".into(), QoS::ExactlyOnce), ("b".into(), QoS::AtMostOnce)],
            },
        ),
        (
            Side::Client,
            Packet::SubAck {
                id: 1,
                codes: vec![SubscribeCode::Granted(QoS::AtLeastOnce), SubscribeCode::Refused],
            },
        ),
        (Side::Server, Packet::Unsubscribe { id: 9, filters: vec!["a".into(), "#".into()] }),
        (Side::Client, Packet::UnsubAck(9)),
        (Side::Server, Packet::PingReq),
        (Side::Client, Packet::PingResp),
        (Side::Server, Packet::Disconnect),
    ]
}

#[test]
fn every_packet_survives_a_round_trip_byte_by_byte() {
    for (to, packet) in samples() {
        let bytes = encoded(&packet);
        let mut inbox = BytesMut::new();
        for (at, byte) in bytes.iter().enumerate() {
            inbox.extend_from_slice(&[*byte]);
            let decoded = Packet::decode(&mut inbox, to, LIMIT).unwrap();
            if at + 1 < bytes.len() {
                assert_eq!(decoded, None, "{packet:?} after {} of {} bytes", at + 1, bytes.len());
            } else {
                assert_eq!(decoded, Some(packet.clone()));
                assert!(inbox.is_empty());
            }
        }
    }
}

#[test]
fn rumqttc_reads_what_is_written_here() {
    for (_, packet) in samples() {
        let bytes = encoded(&packet);
        let theirs = v4::Packet::read(&mut bytes.clone(), LIMIT);
        match (&packet, theirs) {
            // What rumqttc cannot say: a code above 5, a password that is not UTF-8.
            (Packet::ConnAck { code: ConnectCode(255), .. }, Err(_)) => {}
            (Packet::Connect(connect), Err(_)) if connect.password.is_some() => {}
            (_, theirs) => {
                let mut again = BytesMut::new();
                theirs.unwrap().write(&mut again, LIMIT).unwrap();
                assert_eq!(again, bytes, "{packet:?}");
            }
        }
    }
}

#[test]
fn section_2_2_1_reserved_types_and_section_4_8_direction() {
    for to in [Side::Client, Side::Server] {
        refuse("2.2.1", to, &[0x00, 0], "type 0 is reserved");
        refuse("2.2.1", to, &[0xf0, 0], "type 15 is reserved");
        for (receiver, packet) in samples() {
            let both = matches!(
                packet,
                Packet::Publish(_)
                    | Packet::PubAck(_)
                    | Packet::PubRec(_)
                    | Packet::PubRel(_)
                    | Packet::PubComp(_)
            );
            if receiver != to && !both {
                refuse("2.2.1", to, &encoded(&packet)[..1], "must not send it");
            }
        }
    }
}

#[test]
fn section_2_2_2_flags_of_the_fixed_header() {
    for (to, packet) in samples() {
        let mut bytes = encoded(&packet);
        if matches!(packet, Packet::Publish(_)) {
            continue;
        }
        for flip in 1..16 {
            bytes[0] ^= flip;
            refuse("2.2.2", to, &bytes[..1], "with flags");
            bytes[0] ^= flip;
        }
    }
    refuse("3.3.1.2", Side::Client, &[0x36], "QoS 3");
    refuse("3.3.1.2", Side::Server, &[0x3f], "QoS 3");
    refuse("3.3.1.1", Side::Client, &[0x38], "DUP");
}

#[test]
fn section_2_2_3_remaining_length() {
    refuse("2.2.3", Side::Client, b"\x30\xff\xff\xff\xff\x01", "more than four bytes");
    refuse("2.2.3", Side::Client, b"\x30\xff\xff\xff\x80", "more than four bytes");
    refuse("2.2.3", Side::Client, b"\x30\x85\x00\0\x01ahi", "longer than needed");
    refuse("2.2.3", Side::Client, b"\x40\x82\x00\0\x01", "longer than needed");
    refuse("2.2.3", Side::Client, b"\x30\xff\xff\xff\x7f", "at most 1048576 are accepted");
    for (length, bytes) in [
        (0, &[0][..]),
        (127, &[0x7f]),
        (128, &[0x80, 1]),
        (16_383, &[0xff, 0x7f]),
        (16_384, &[0x80, 0x80, 1]),
        (2_097_151, &[0xff, 0xff, 0x7f]),
        (2_097_152, &[0x80, 0x80, 0x80, 1]),
        (MAX_REMAINING, &[0xff, 0xff, 0xff, 0x7f]),
    ] {
        let mut header = [0; 5];
        let end = header::remaining_length(&mut header, 1, length);
        assert_eq!(&header[1..end], bytes, "section 2.2.3: {length}");
        header[0] = 0x30;
        let read =
            header::header(&header, Side::Client, usize::MAX, ProtocolVersion::default()).unwrap().unwrap();
        assert_eq!((read.start, read.end), (end, end + length));
    }
}

#[test]
fn a_packet_above_the_limit_is_refused_by_its_header_and_one_at_the_limit_is_not() {
    let publish = Publish { topic: "a".into(), payload: vec![7; 300].into(), ..Publish::default() };
    let mut bytes = BytesMut::new();
    publish.encode(0, false, &mut bytes);
    assert_eq!(bytes.len(), publish.size());
    assert!(Packet::decode(&mut bytes.clone(), Side::Client, bytes.len()).unwrap().is_some());
    let limit = bytes.len() - 1;
    bytes.truncate(3);
    let why = Packet::decode(&mut bytes, Side::Client, limit).unwrap_err();
    assert_eq!(why.to_string(), "PUBLISH of 306 bytes; at most 305 are accepted (--max-packet)");
}

#[test]
fn a_payload_of_any_size_does_not_keep_the_inbox_alive() {
    for size in [10, 40_000, 1_000_000] {
        let mut inbox = BytesMut::with_capacity(2_000_000);
        let publish = Publish { topic: "a".into(), payload: vec![9; size].into(), ..Publish::default() };
        publish.encode(0, false, &mut inbox);
        let memory = inbox.as_ptr() as usize..inbox.as_ptr() as usize + inbox.capacity();
        let Ok(Some(Packet::Publish(message))) = Packet::decode(&mut inbox, Side::Server, 2_000_000) else {
            panic!("no PUBLISH of {size} bytes");
        };
        assert_eq!(message.payload, vec![9; size]);
        assert!(inbox.is_empty() && !memory.contains(&(message.payload.as_ptr() as usize)), "{size}");
    }
}

#[test]
fn the_lengths_of_fixed_packets_are_exact() {
    for first in [0x20, 0x40, 0x50, 0x62, 0x70, 0xb0] {
        for length in [0, 1, 3, 4] {
            refuse("2.2.3", Side::Client, &[first, length], "instead of 2");
        }
        if first != 0x20 {
            refuse("2.3.1", Side::Client, &[first, 2, 0, 0], "packet id 0");
        }
    }
    refuse("3.13", Side::Client, &[0xd0, 1, 0], "instead of 0");
    refuse("3.12", Side::Server, &[0xc0, 1, 0], "instead of 0");
    refuse("3.14", Side::Server, &[0xe0, 2, 0, 0], "instead of 0");
}

#[test]
fn section_3_1_connect() {
    assert!(decode(&connect(0x02, b""), Side::Server).unwrap().is_some());
    refuse("3.1.2.3", Side::Server, &connect(0x03, b""), "reserved flag");
    refuse("3.1.2.6", Side::Server, &connect(0x1e, b"\0\x01a\0\0"), "will QoS 3");
    refuse("3.1.2.6", Side::Server, &connect(0x0a, b""), "without a will");
    refuse("3.1.2.7", Side::Server, &connect(0x22, b""), "without a will");
    refuse("3.1.2.9", Side::Server, &connect(0x42, b"\0\x01p"), "without a username");
    refuse("3.1.3.2", Side::Server, &connect(0x06, b""), "ends within its will topic");
    refuse("3.1.3.2", Side::Server, &connect(0x06, b"\0\0\0\0"), "empty topic");
    refuse("3.1.3.2", Side::Server, &connect(0x06, b"\0\x01#\0\0"), "wildcard");
    refuse("3.1.3.3", Side::Server, &connect(0x06, b"\0\x01a\0\x05a"), "ends within its will payload");
    refuse("3.1.3.4", Side::Server, &connect(0x82, b""), "ends within its username");
    refuse("3.1.3.5", Side::Server, &connect(0xc2, b"\0\x01u\0\x09"), "ends within its password");
    refuse("3.1.3", Side::Server, &connect(0x02, b"x"), "1 bytes after its end");
    refuse("1.5.3", Side::Server, &connect(0x82, b"\0\x01\xff"), "not UTF-8");
    refuse("1.5.3", Side::Server, &connect(0x82, b"\0\x01\0"), "NUL");
    refuse("1.5.3", Side::Server, &connect(0x82, b"\0\x01\x1f"), "control character in its username");
    let bytes = connect(0xc2, b"\0\x01u\0\x01\0");
    assert!(decode(&bytes, Side::Server).unwrap().is_some(), "a password may hold any bytes");
    refuse("3.1.2.1", Side::Server, b"\x10\x0c\0\x04MQTX\x04\x02\0\x3c\0\0", "protocol name");
    refuse("3.1.2.1", Side::Server, b"\x10\x00", "ends within its protocol name");
    refuse("3.1.3.1", Side::Server, b"\x10\x0e\0\x04MQTT\x04\x02\0\x3c\0\x02a\x1b", "control character");
}

#[test]
fn section_3_1_2_2_other_versions_are_told_apart() {
    for (bytes, protocol, level) in [
        (&b"\x10\x0e\0\x06MQIsdp\x04\x02\0\x3c\0\0"[..], "MQIsdp", 4),
        (b"\x10\x0c\0\x04MQTT\x03\x02\0\x3c\0\0", "MQTT", 3),
        (b"\x10\x0d\0\x04MQTT\x05\x02\0\x3c\0\0\0", "MQTT", 5),
        (b"\x10\x0d\0\x04MQTT\x85\x02\0\x3c\0\0\0", "MQTT", 0x85),
        (b"\x10\x0c\0\x04MQTT\0\x02\0\x3c\0\0", "MQTT", 0),
    ] {
        let (client_id, username) = (String::new(), None);
        let expected = Packet::OtherVersion { protocol: protocol.into(), level, client_id, username };
        assert_eq!(decode(bytes, Side::Server), Ok(Some(expected)), "{protocol} {level}");
    }
}

#[test]
fn mqtt_5_connect_is_refused_by_the_names_in_it() {
    let names = |body: &[u8]| {
        let bytes = [&[0x10, u8::try_from(7 + body.len()).unwrap()], &b"\0\x04MQTT\x05"[..], body].concat();
        match decode(&bytes, Side::Server) {
            Ok(Some(Packet::OtherVersion { client_id, username, .. })) => (client_id, username),
            other => panic!("{other:?}"),
        }
    };
    let user = Some("acme".to_owned());
    // Properties: a session expiry of 60 s; a will with properties, topic and payload.
    assert_eq!(names(b"\x82\0\x3c\x05\x11\0\0\0\x3c\0\x03gw1\0\x04acme"), ("gw1".into(), user.clone()));
    assert_eq!(names(b"\x86\0\x3c\0\0\x03gw1\x02\x01\x01\0\x01t\0\x01p\0\x04acme"), ("gw1".into(), user));
    assert_eq!(names(b"\x02\0\x3c\0\0\x03gw1"), ("gw1".into(), None));
    // What cannot be read is left out, and the answer is the same.
    for broken in [
        &b""[..],
        b"\x02",
        b"\x02\0\x3c\xff\xff\xff\xff",
        b"\x02\0\x3c\0\0\x09gw1",
        b"\x02\0\x3c\0\0\x01\x1b",
    ] {
        assert_eq!(names(broken), (String::new(), None), "{broken:?}");
    }
}

#[test]
fn mqtt_3_1_and_bridges_are_read_like_mqtt_3_1_1() {
    let login = |bytes: &[u8]| match decode(bytes, Side::Server) {
        Ok(Some(Packet::Connect(connect))) => *connect,
        other => panic!("{other:?}"),
    };
    for (greeting, version, is_bridge) in [
        (&b"\x10\x17\0\x06MQIsdp\x03"[..], ProtocolVersion::V3_1, false),
        (b"\x10\x17\0\x06MQIsdp\x83", ProtocolVersion::V3_1, true),
        (b"\x10\x15\0\x04MQTT\x04", ProtocolVersion::V3_1_1, false),
        (b"\x10\x15\0\x04MQTT\x84", ProtocolVersion::V3_1_1, true),
    ] {
        let connect = login(&[greeting, b"\xc2\0\x3c\0\x03gw1\0\x01u\0\x01p"].concat());
        let password = Some(Password::new(&b"p"[..]));
        let expected = Connect {
            version,
            is_bridge,
            client_id: "gw1".into(),
            clean_session: true,
            keep_alive: 60,
            username: Some("u".into()),
            password,
            will: None,
        };
        assert_eq!(connect, expected, "{greeting:?}");
    }
    // The end of the packet takes precedence over the flags, and the lowest flag is not used.
    let lean = login(b"\x10\x11\0\x06MQIsdp\x03\xc3\0\x3c\0\x03gw1");
    assert_eq!((lean.username, lean.password), (None, None));
    let long = "x".repeat(40);
    let connect = Connect { version: ProtocolVersion::V3_1, client_id: long, ..Connect::default() };
    assert!(login(&encoded(&Packet::Connect(Box::new(connect)))).client_id.len() > 23);
}

#[test]
fn mqtt_3_1_sends_some_packets_again_with_dup() {
    for bytes in [&b"\x6a\x02\0\x07"[..], b"\x8a\x06\0\x07\0\x01a\x01", b"\xaa\x05\0\x07\0\x01a"] {
        let by = |version| {
            Packet::decode_sharing(&mut BytesMut::from(bytes), Side::Server, 1000, version, &mut None)
        };
        assert!(by(ProtocolVersion::V3_1).unwrap().is_some(), "{bytes:?}");
        assert!(by(ProtocolVersion::V3_1_1).is_err(), "{bytes:?}");
    }
    let ping = Packet::decode_sharing(
        &mut BytesMut::from(&b"\xc8\0"[..]),
        Side::Server,
        10,
        ProtocolVersion::V3_1,
        &mut None,
    );
    assert!(ping.is_err());
}

#[test]
fn a_missing_and_an_empty_login_differ_and_no_password_is_shown() {
    let mut login = Connect { client_id: "gw".into(), ..Connect::default() };
    assert_eq!(encoded(&Packet::Connect(Box::new(login.clone())))[9], 0x00);
    login.username = Some(String::new());
    assert_eq!(encoded(&Packet::Connect(Box::new(login.clone())))[9], 0x80);
    login.username = None;
    login.password = Some(Password::from(&crate::tuya::Secret::new("hunter2")));
    // MQTT-3.1.2-22: no password without a username.
    assert_eq!(encoded(&Packet::Connect(Box::new(login.clone())))[9], 0xc0);
    assert!(!format!("{login:?}").contains("hunter2"));
    login.client_id = "x".repeat(65_536);
    let mut out = BytesMut::new();
    assert!(login.encode(&mut out).unwrap_err().0.contains("client id of 65536 bytes"));
    assert!(out.is_empty());
}

#[test]
fn section_3_2_connack() {
    for code in 0..=255 {
        let expected = Packet::ConnAck { session_present: false, code: ConnectCode(code) };
        assert_eq!(decode(&[0x20, 2, 0, code], Side::Client), Ok(Some(expected.clone())));
        assert_eq!(encoded(&expected)[..], [0x20, 2, 0, code]);
    }
    refuse("3.2.2.1", Side::Client, &[0x20, 2, 2, 0], "reserved flags");
    refuse("3.2.2.1", Side::Client, &[0x20, 2, 0x81, 0], "reserved flags");
    refuse("3.2.2.2", Side::Client, &[0x20, 2, 1, 5], "session is present");
}

#[test]
fn section_3_3_publish() {
    for to in [Side::Client, Side::Server] {
        refuse("3.3.2.1", to, b"\x30\x02\0\0", "empty topic");
        refuse("3.3.2.1", to, b"\x30\x05\0\x03a/+", "wildcard");
        refuse("3.3.2.1", to, b"\x30\x03\0\x01#", "wildcard");
        refuse("1.5.3", to, b"\x30\x05\0\x03a\0b", "NUL");
        refuse("1.5.3", to, b"\x30\x04\0\x02\xc3\x28", "not UTF-8");
        refuse("1.5.3", to, b"\x30\x05\0\x03\xed\xa0\x80", "not UTF-8");
        refuse("1.5.3", to, b"\x30\x04\0\x02\xc0\x80", "not UTF-8");
        refuse("3.3.2", to, b"\x30\x00", "ends within its topic");
        refuse("3.3.2", to, b"\x30\x01\0", "ends within its topic");
        refuse("3.3.2", to, b"\x30\x04\0\x05ab", "ends within its topic");
        refuse("3.3.2.2", to, b"\x32\x04\0\x01a\0", "ends within its packet id");
        refuse("2.3.1", to, b"\x32\x05\0\x01a\0\0", "packet id 0");
        refuse("2.3.1", to, b"\x34\x05\0\x01a\0\0", "packet id 0");
    }
    for topic in ["a\u{1b}[2J", "a\u{7f}", "a\u{85}b"] {
        let packet = Packet::Publish(Message {
            topic: topic.into(),
            payload: Bytes::new(),
            qos: QoS::AtMostOnce,
            retain: false,
            dup: false,
            id: None,
        });
        refuse("1.5.3", Side::Server, &encoded(&packet), "control character");
        assert_eq!(decode(&encoded(&packet), Side::Client), Ok(Some(packet)));
    }
}

#[test]
fn sections_3_8_to_3_10_subscriptions() {
    refuse("3.8.3", Side::Server, b"\x82\x02\0\x01", "without a filter");
    refuse("3.8.3", Side::Server, b"\x82\x06\0\x01\0\x01a\x03", "requested QoS 3");
    refuse("3.8.3", Side::Server, b"\x82\x06\0\x01\0\x01a\x04", "requested QoS 4");
    refuse("3.8.3", Side::Server, b"\x82\x05\0\x01\0\x01a", "ends within its requested QoS");
    refuse("3.8.3", Side::Server, b"\x82\x05\0\x01\0\0\x01", "must not be empty");
    refuse("4.7.1", Side::Server, b"\x82\x07\0\x01\0\x02a#\x01", "must fill its level");
    refuse("1.5.3", Side::Server, b"\x82\x07\0\x01\0\x02a\0\x01", "control characters");
    refuse("1.5.3", Side::Server, b"\x82\x06\0\x01\0\x01\xff\x01", "not UTF-8");
    refuse("2.3.1", Side::Server, b"\x82\x06\0\0\0\x01a\x01", "packet id 0");
    refuse("3.8.2", Side::Server, b"\x82\x01\0", "ends within its packet id");
    refuse("3.9.3", Side::Client, b"\x90\x03\0\x01\x03", "return code 3");
    refuse("3.9.3", Side::Client, b"\x90\x03\0\x01\x81", "return code 129");
    refuse("3.9.3", Side::Client, b"\x90\x02\0\x01", "ends too early");
    refuse("3.9.3", Side::Client, b"\x90\x00", "ends too early");
    refuse("2.3.1", Side::Client, b"\x90\x03\0\0\x01", "packet id 0");
    refuse("3.10.3", Side::Server, b"\xa2\x02\0\x01", "without a filter");
    refuse("3.10.3", Side::Server, b"\xa2\x04\0\x01\0\0", "must not be empty");
    refuse("3.10.3", Side::Server, b"\xa2\x05\0\x01\0\x02a", "ends within a filter of 2 bytes");
    refuse("3.10.3", Side::Server, b"\xa2\x06\0\x01\0\x01ab", "ends too early");
    refuse("2.3.1", Side::Server, b"\xa2\x05\0\0\0\x01a", "packet id 0");
}

#[test]
fn what_is_too_large_is_refused_and_leaves_nothing_behind() {
    let long = "x".repeat(65_536);
    let mut out = BytesMut::new();
    let subscribe = Packet::Subscribe { id: 1, filters: vec![(long.clone(), QoS::AtMostOnce)] };
    assert!(subscribe.encode(&mut out).is_err());
    assert!(Packet::Unsubscribe { id: 1, filters: vec![long.clone()] }.encode(&mut out).is_err());
    assert!(Publish { topic: long.into(), ..Publish::default() }.fits().is_err());
    let huge =
        Publish { topic: "a".into(), payload: vec![0; MAX_REMAINING - 2].into(), ..Publish::default() };
    assert!(huge.fits().unwrap_err().0.contains("no room"));
    let largest = Publish { payload: vec![0; MAX_REMAINING - 3].into(), ..huge };
    assert!(largest.fits().is_ok());
    assert!(Publish { topic: "x".repeat(65_535).into(), ..Publish::default() }.fits().is_ok());
    assert!(out.is_empty());
}

#[test]
fn random_and_mutated_bytes_neither_panic_nor_grow() {
    for seed in 0..20_000 {
        let mut random = fastrand::Rng::with_seed(seed);
        let mut bytes = Vec::new();
        if random.u8(0..4) == 0 {
            bytes.extend(std::iter::repeat_with(|| random.u8(..)).take(40));
        } else {
            let samples = samples();
            for _ in 0..random.usize(1..4) {
                bytes.extend_from_slice(&encoded(&samples[random.usize(..samples.len())].1));
            }
            for _ in 0..random.usize(1..4) {
                if bytes.is_empty() {
                    break;
                }
                let at = random.usize(..bytes.len());
                match random.u8(0..3) {
                    0 => bytes[at] = random.u8(..),
                    1 => bytes.insert(at, random.u8(..)),
                    _ => drop(bytes.remove(at)),
                }
            }
        }
        for to in [Side::Client, Side::Server] {
            let mut inbox = BytesMut::from(&bytes[..]);
            let capacity = inbox.capacity();
            let mut left = inbox.len();
            while let Ok(Some(packet)) = Packet::decode(&mut inbox, to, 200) {
                assert!(inbox.len() < left, "seed {seed}: nothing was taken for {packet:?}");
                left = inbox.len();
                if !matches!(packet, Packet::OtherVersion { .. }) {
                    // What was read strictly is written as it came.
                    let again = encoded(&packet);
                    assert_eq!(decode(&again, to), Ok(Some(packet)), "seed {seed}");
                }
            }
            assert!(inbox.capacity() <= capacity, "seed {seed}");
        }
    }
}

#[test]
fn a_topic_is_shared_with_the_message_before_and_no_other() {
    let long = "l".repeat(300);
    let topics = ["gw/1", "gw/1", "gw/2", "gw/1", "gw/10", &long, &long, "gw/10"];
    let mut inbox = BytesMut::new();
    for topic in topics {
        Publish { topic: topic.into(), ..Publish::default() }.encode(0, false, &mut inbox);
    }
    let mut known = None;
    let mut shared = Vec::new();
    for topic in topics {
        let before: Option<Arc<str>> = known.clone();
        let packet =
            Packet::decode_sharing(&mut inbox, Side::Server, 1000, ProtocolVersion::default(), &mut known)
                .unwrap();
        let Some(Packet::Publish(message)) = packet else { panic!("{packet:?}") };
        assert_eq!(&*message.topic, topic);
        shared.push(before.is_some_and(|before| Arc::ptr_eq(&before, &message.topic)));
    }
    // A long one is not remembered, and does not push off what is.
    assert_eq!(shared, [false, true, false, false, false, false, false, true]);
}
