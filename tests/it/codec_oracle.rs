//! rumqttc's codec as an oracle for ours: seeded packets, and the same with bytes changed.
//!
//! Wherever rumqttc reads a packet, ours reads the same one from as many bytes, or refuses it for one of the rules in
//! [`STRICTER`]. `SEED` repeats a run.
#![allow(clippy::print_stdout, reason = "a failed test shows its seed")]

use bytes::BytesMut;
use fastrand::Rng;
use rumqttc::mqttbytes::{self, v4};
use tuyagw::mqtt::{Connect, Packet, Side};

const LIMIT: usize = 1 << 20;
const PACKETS: usize = 20_000;

fn ours(bytes: &[u8], to: Side) -> Result<Option<(Packet, usize)>, String> {
    let mut inbox = BytesMut::from(bytes);
    let packet = Packet::decode(&mut inbox, to, LIMIT).map_err(|why| why.to_string())?;
    Ok(packet.map(|packet| (packet, bytes.len() - inbox.len())))
}

fn theirs(bytes: &[u8]) -> Result<(v4::Packet, usize), mqttbytes::Error> {
    let mut inbox = BytesMut::from(bytes);
    let packet = v4::Packet::read(&mut inbox, LIMIT)?;
    Ok((packet, bytes.len() - inbox.len()))
}

fn encoded(packet: &v4::Packet) -> BytesMut {
    let mut bytes = BytesMut::new();
    packet.write(&mut bytes, LIMIT).unwrap();
    bytes
}

/// The end that receives a packet with this first byte; either end for what both may send.
fn receiver(first: u8, dice: &mut Rng) -> Side {
    match first >> 4 {
        1 | 8 | 10 | 12 | 14 => Side::Server,
        2 | 9 | 11 | 13 => Side::Client,
        _ => [Side::Client, Side::Server][dice.usize(..2)],
    }
}

fn text(dice: &mut Rng) -> String {
    let words = ["gateway_id", "gw1", "水表", "é", "commands", "a", "$SYS", " "];
    let levels = dice.usize(1..5);
    let name: Vec<_> = (0..levels).map(|_| words[dice.usize(..words.len())]).collect();
    name.join("/")
}

fn payload(dice: &mut Rng) -> Vec<u8> {
    let length = [0, 1, 100, 127, 128, 300, 20_000][dice.usize(..7)];
    (0..length).map(|_| dice.u8(..)).collect()
}

fn qos(dice: &mut Rng) -> mqttbytes::QoS {
    mqttbytes::qos(dice.u8(..3)).unwrap()
}

fn packet(dice: &mut Rng) -> v4::Packet {
    let pkid = dice.u16(1..);
    match dice.u8(1..15) {
        1 => {
            let mut connect = v4::Connect::new(text(dice));
            connect.keep_alive = dice.u16(..);
            connect.clean_session = dice.bool();
            connect.login = dice.bool().then(|| v4::Login::new(text(dice), text(dice)));
            connect.last_will =
                dice.bool().then(|| v4::LastWill::new(text(dice), payload(dice), qos(dice), dice.bool()));
            v4::Packet::Connect(connect)
        }
        2 => {
            use v4::ConnectReturnCode::{
                BadClientId, BadUserNamePassword, NotAuthorized, RefusedProtocolVersion, ServiceUnavailable,
                Success,
            };
            let codes = [
                Success,
                RefusedProtocolVersion,
                BadClientId,
                ServiceUnavailable,
                BadUserNamePassword,
                NotAuthorized,
            ];
            let code = codes[dice.usize(..6)];
            v4::Packet::ConnAck(v4::ConnAck::new(code, code == Success && dice.bool()))
        }
        3 => {
            let mut publish = v4::Publish::new(text(dice), qos(dice), payload(dice));
            publish.retain = dice.bool();
            if publish.qos != mqttbytes::QoS::AtMostOnce {
                publish.dup = dice.bool();
                publish.pkid = pkid;
            }
            v4::Packet::Publish(publish)
        }
        4 => v4::Packet::PubAck(v4::PubAck::new(pkid)),
        5 => v4::Packet::PubRec(v4::PubRec::new(pkid)),
        6 => v4::Packet::PubRel(v4::PubRel::new(pkid)),
        7 => v4::Packet::PubComp(v4::PubComp::new(pkid)),
        8 => {
            let filter = |dice: &mut Rng| {
                let end = ["", "/+", "/#"][dice.usize(..3)];
                v4::SubscribeFilter::new(text(dice) + end, qos(dice))
            };
            let filters = (0..dice.usize(1..4)).map(|_| filter(dice)).collect();
            v4::Packet::Subscribe(v4::Subscribe { pkid, filters })
        }
        9 => {
            let code = |dice: &mut Rng| match dice.u8(..4) {
                0 => v4::SubscribeReasonCode::Failure,
                _ => v4::SubscribeReasonCode::Success(qos(dice)),
            };
            let codes = (0..dice.usize(1..4)).map(|_| code(dice)).collect();
            v4::Packet::SubAck(v4::SubAck::new(pkid, codes))
        }
        10 => {
            let topics = (0..dice.usize(1..4)).map(|_| text(dice)).collect();
            v4::Packet::Unsubscribe(v4::Unsubscribe { pkid, topics })
        }
        11 => v4::Packet::UnsubAck(v4::UnsubAck::new(pkid)),
        12 => v4::Packet::PingReq,
        13 => v4::Packet::PingResp,
        _ => v4::Packet::Disconnect,
    }
}

fn dice() -> Rng {
    let seed = std::env::var("SEED").map_or_else(|_| fastrand::u64(..), |seed| seed.parse().unwrap());
    println!("SEED={seed} repeats this run");
    Rng::with_seed(seed)
}

#[test]
fn a_packet_of_rumqttc_is_read_and_written_alike() {
    let mut dice = dice();
    for _ in 0..PACKETS {
        let packet = packet(&mut dice);
        let bytes = encoded(&packet);
        let to = receiver(bytes[0], &mut dice);
        let (read, length) = ours(&bytes, to).unwrap().unwrap();
        assert_eq!(length, bytes.len(), "{packet:?}");
        let mut again = BytesMut::new();
        read.encode(&mut again).unwrap();
        assert_eq!(again, bytes, "{packet:?} was read as {read:?}");
    }
}

/// Changes some bytes, most of them among the first.
fn mutate(bytes: &mut Vec<u8>, dice: &mut Rng) {
    for _ in 0..dice.usize(1..4) {
        let near = if dice.bool() { bytes.len().min(16) } else { bytes.len() };
        let at = dice.usize(..near);
        match dice.u8(..4) {
            0 => bytes[at] ^= 1 << dice.u8(..8),
            1 => bytes[at] = [0, 1, 0x7f, 0x80, 0xff, dice.u8(..)][dice.usize(..6)],
            2 if bytes.len() > 2 => drop(bytes.remove(at)),
            _ => bytes.insert(at, dice.u8(..)),
        }
    }
}

/// Where rumqttc accepts what the standard, or the vendor's page, forbids: what our refusal says, and the section.
const STRICTER: [(&str, &str); 15] = [
    ("with flags", "2.2.2"),
    ("longer than needed", "2.2.3"),
    ("with remaining length", "2.2.3"),
    ("with packet id 0", "2.3.1"),
    ("NUL", "1.5.3"),
    ("control character", "1.5.3"),
    ("reserved flag", "3.1.2.3 and 3.2.2.1"),
    ("without a", "3.1.2 and 3.10.3"),
    ("bytes after its end", "3.1.3"),
    ("empty", "4.7.3"),
    ("wildcard", "3.3.2.1"),
    ("must fill its level", "4.7.1"),
    ("a session is present", "3.2.2.2"),
    ("DUP", "3.3.1.1"),
    ("requested QoS", "3.8.3"),
];

fn has_empty_login(connect: &Connect) -> bool {
    let is_password_empty = connect.password.as_ref().is_some_and(|password| password.expose().is_empty());
    connect.username.as_ref().is_some_and(String::is_empty) || is_password_empty
}

#[test]
fn bytes_that_rumqttc_accepts_are_read_alike_or_refused_by_a_stricter_rule() {
    let mut dice = dice();
    let (mut alike, mut stricter) = (0, 0);
    for _ in 0..PACKETS * 2 {
        let mut bytes = encoded(&packet(&mut dice)).to_vec();
        mutate(&mut bytes, &mut dice);
        let Ok((theirs, their_length)) = theirs(&bytes) else { continue };
        match ours(&bytes, receiver(bytes[0], &mut dice)) {
            // rumqttc reads MQTT 5's CONNECT by the layout of 3.1.1.
            Ok(Some((Packet::OtherVersion { .. }, _))) => {}
            // rumqttc takes an empty username or password for a missing one.
            Ok(Some((Packet::Connect(connect), _))) if has_empty_login(&connect) => {}
            Ok(Some((ours, length))) => {
                let mut again = BytesMut::new();
                ours.encode(&mut again).unwrap();
                assert_eq!(again, encoded(&theirs), "{bytes:02x?}: {ours:?} and {theirs:?}");
                assert_eq!(length, their_length, "{bytes:02x?}");
                alike += 1;
            }
            Ok(None) => panic!("incomplete: {bytes:02x?}, {theirs:?}"),
            Err(why) => {
                let is_known = STRICTER.iter().any(|(rule, _)| why.contains(rule));
                assert!(is_known, "{why}: {bytes:02x?}, {theirs:?}");
                stricter += 1;
            }
        }
    }
    assert!(alike > 1000 && stricter > 1000, "{alike} alike, {stricter} stricter");
}
