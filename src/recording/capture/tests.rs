//! Captures made here, packet by packet, in every form that is read.

#![allow(clippy::cast_possible_truncation, reason = "the lengths are the tests' own")]

use std::ops::ControlFlow;

use bytes::BytesMut;
use etherparse::PacketBuilder;

use super::*;
use crate::{
    mqtt::{
        ConnectCode,
        codec::{Connect, Packet, Publish, QoS},
    },
    recording::RecordingEntry,
};

const CLIENT: [u8; 4] = [10, 0, 0, 7];
const SERVER: [u8; 4] = [10, 0, 0, 1];

/// A connection that is captured as it goes.
struct Wire {
    port: u16,
    up: u32,
    down: u32,
    /// IP packets with their times in microseconds.
    packets: Vec<(u64, Vec<u8>)>,
}

impl Wire {
    fn new(port: u16) -> Self {
        Self { port, up: u32::MAX - 5, down: 1000, packets: Vec::new() }
    }

    fn segment(&self, is_up: bool, sequence: u32, bytes: &[u8], flags: &str) -> Vec<u8> {
        let (from, to) = if is_up { (CLIENT, SERVER) } else { (SERVER, CLIENT) };
        let ports = if is_up { (40_000, self.port) } else { (self.port, 40_000) };
        let mut builder = PacketBuilder::ipv4(from, to, 64).tcp(ports.0, ports.1, sequence, 1000);
        if flags.contains('S') {
            builder = builder.syn();
        }
        if flags.contains('F') {
            builder = builder.fin();
        }
        if flags.contains('A') {
            builder = builder.ack(if is_up { self.down } else { self.up });
        }
        let mut packet = Vec::new();
        builder.write(&mut packet, bytes).unwrap();
        packet
    }

    fn send(&mut self, is_up: bool, bytes: &[u8], flags: &str) -> &mut Self {
        let sequence = if is_up { self.up } else { self.down };
        let packet = self.segment(is_up, sequence, bytes, flags);
        let length = bytes.len() as u32 + u32::from(flags.contains('S')) + u32::from(flags.contains('F'));
        let next = if is_up { &mut self.up } else { &mut self.down };
        *next = next.wrapping_add(length);
        let time = 1_000_000 * (self.packets.len() as u64 + 1);
        self.packets.push((time, packet));
        self
    }

    fn open(&mut self) -> &mut Self {
        self.send(true, b"", "S").send(false, b"", "SA").send(true, b"", "A")
    }
}

fn encoded(packet: &Packet) -> Vec<u8> {
    let mut bytes = BytesMut::new();
    packet.encode(&mut bytes).unwrap();
    bytes.to_vec()
}

fn connect() -> Vec<u8> {
    let connect = Connect {
        client_id: "gw1".into(),
        clean_session: true,
        keep_alive: 60,
        username: Some("acme".into()),
        ..Connect::default()
    };
    encoded(&Packet::Connect(Box::new(connect)))
}

fn accepted() -> Vec<u8> {
    encoded(&Packet::ConnAck { session_present: false, code: ConnectCode::ACCEPTED })
}

fn publish(topic: &str, payload: &str) -> Vec<u8> {
    let mut bytes = BytesMut::new();
    let publish = Publish {
        topic: topic.into(),
        payload: payload.to_owned().into(),
        qos: QoS::AtLeastOnce,
        retain: false,
    };
    publish.encode(7, false, &mut bytes);
    bytes.to_vec()
}

/// A capture in the oldest form, of one link type; `around` puts an IP packet into a frame.
fn pcap(link: u32, packets: &[(u64, Vec<u8>)], around: impl Fn(&[u8]) -> Vec<u8>) -> Vec<u8> {
    let mut file = Vec::new();
    for word in [0xa1b2_c3d4, 0x0004_0002, 0, 0, 65_535, link] {
        file.extend_from_slice(&u32::to_le_bytes(word));
    }
    for (time, packet) in packets {
        let frame = around(packet);
        let length = frame.len() as u32;
        for word in [(time / 1_000_000) as u32, (time % 1_000_000) as u32, length, length] {
            file.extend_from_slice(&word.to_le_bytes());
        }
        file.extend_from_slice(&frame);
    }
    file
}

fn raw(packets: &[(u64, Vec<u8>)]) -> Vec<u8> {
    pcap(101, packets, <[u8]>::to_vec)
}

fn read(file: &[u8], ports: &[u16]) -> Vec<String> {
    let topics = Topics::default();
    let mut found = Vec::new();
    CaptureReader::new(&topics, ports)
        .read(file, &mut |packet, what| {
            match what {
                RecordingEntry::Message(record) => found.push(format!(
                    "{packet} {} {} {} @{}",
                    record.dir.unwrap().name(),
                    record.topic,
                    record.payload.escape_ascii(),
                    record.mono_us.unwrap() / 1_000_000
                )),
                RecordingEntry::Connection(who) => found.push(format!(
                    "{packet} {} {} {:?} {:?}",
                    if who.connected { "connect" } else { "disconnect" },
                    who.client_id,
                    who.username,
                    who.code.map(|code| code.0)
                )),
                RecordingEntry::Issue(issue) => found.push(format!("{packet} !{}", issue.message)),
                RecordingEntry::EventLine(_) | RecordingEntry::Idle => {}
            }
            ControlFlow::Continue(())
        })
        .unwrap();
    found
}

const REPORT: &str = "gateway_id/gw1/properties/report";
const COMMANDS: &str = "gateway_id/gw1/commands";

fn whole_connection(port: u16) -> Wire {
    let mut wire = Wire::new(port);
    let (report, command) = (publish(REPORT, "up"), publish(COMMANDS, "down"));
    wire.open().send(true, &connect(), "A").send(false, &accepted(), "A");
    // A packet in two segments, two packets in one, and a farewell.
    wire.send(true, &report[..9], "A").send(true, &report[9..], "A");
    wire.send(false, &[command.clone(), command].concat(), "A");
    wire.send(true, &encoded(&Packet::Disconnect), "AF").send(false, b"", "AF");
    wire
}

const WHOLE: [&str; 5] = [
    "5 connect gw1 Some(\"acme\") Some(0)",
    "7 up gateway_id/gw1/properties/report up @3",
    "8 down gateway_id/gw1/commands down @4",
    "8 down gateway_id/gw1/commands down @4",
    "9 disconnect gw1 Some(\"acme\") None",
];

#[test]
fn both_directions_are_read_in_every_link_type() {
    let packets = whole_connection(21_883).packets;
    let with = |before: &'static [u8]| move |packet: &[u8]| [before, packet].concat();
    for (link, before) in [
        (101, &b""[..]),
        (12, b""),
        (228, b""),
        (0, b"\x02\0\0\0"),
        (108, b"\0\0\0\x02"),
        (1, b"\x01\x02\x03\x04\x05\x06\x07\x08\x09\x0a\x0b\x0c\x08\0"),
        (1, b"\x01\x02\x03\x04\x05\x06\x07\x08\x09\x0a\x0b\x0c\x81\0\0\x05\x08\0"),
        (113, b"\0\0\0\x01\0\x06\0\0\0\0\0\0\0\0\x08\0"),
        (276, b"\x08\0\0\0\0\0\0\x01\0\x01\0\x06\0\0\0\0\0\0\0\0"),
    ] {
        // The segments before the first MQTT packet set the clock's origin two seconds earlier.
        assert_eq!(read(&pcap(link, &packets, with(before)), &[]), shifted(&WHOLE, 3), "{link}");
    }
    let unknown = read(&pcap(105, &packets, <[u8]>::to_vec), &[]);
    assert_eq!(unknown.len(), 1, "{unknown:?}");
}

/// The expected lines with the seconds of messages counted from the first packet of the connection.
fn shifted(lines: &[&str], by: u64) -> Vec<String> {
    lines
        .iter()
        .map(|line| match line.rsplit_once('@') {
            Some((before, time)) => format!("{before}@{}", time.parse::<u64>().unwrap() + by),
            None => (*line).to_owned(),
        })
        .collect()
}

/// A capture in the newer form, of one link type, with `before` in front of each IP packet.
fn pcapng(link: u8, packets: &[(u64, Vec<u8>)], before: &[u8]) -> Vec<u8> {
    let mut file = Vec::new();
    let mut block = |kind: u32, body: &[u8]| {
        let padded = body.len().next_multiple_of(4);
        let length = (padded + 12) as u32;
        file.extend_from_slice(&kind.to_be_bytes());
        file.extend_from_slice(&length.to_be_bytes());
        file.extend_from_slice(body);
        file.resize(file.len() + padded - body.len(), 0);
        file.extend_from_slice(&length.to_be_bytes());
    };
    block(0x0a0d_0d0a, b"\x1a\x2b\x3c\x4d\0\x01\0\0\xff\xff\xff\xff\xff\xff\xff\xff");
    // Nanoseconds (if_tsresol 9).
    block(1, &[&[0, link], &b"\0\0\0\0\xff\xff\0\x09\0\x01\x09\0\0\0\0\0\0\0"[..]].concat());
    // Nothing that is known, and larger than what is held at once to begin with.
    block(0x7777_7777, &vec![7; 5 * BUFFER]);
    for (time, packet) in packets {
        let (time, length) = (time * 1000, ((before.len() + packet.len()) as u32).to_be_bytes());
        let body = [&[0; 4], &time.to_be_bytes()[..], &length, &length, before, packet].concat();
        block(6, &body);
    }
    file
}

#[test]
fn the_next_generation_is_read_too() {
    let packets = whole_connection(21_883).packets;
    assert_eq!(read(&pcapng(101, &packets, b""), &[]), shifted(&WHOLE, 3));
    // One capture behind another, with an interface of its own.
    let both = [pcapng(0, &[], b""), pcapng(101, &packets, b"")].concat();
    assert_eq!(read(&both, &[]), shifted(&WHOLE, 3));
    let both = [pcapng(101, &[], b""), pcapng(0, &packets, b"\0\0\0\x02")].concat();
    assert_eq!(read(&both, &[]), shifted(&WHOLE, 3));
}

#[test]
fn a_connection_on_another_port_is_known_by_its_connect() {
    let packets = whole_connection(9999).packets;
    // Without the port, its handshake says nothing, so that its time begins with the CONNECT.
    assert_eq!(read(&raw(&packets), &[]), WHOLE);
    assert_eq!(read(&raw(&packets), &[9999]), shifted(&WHOLE, 3));
    // Otherwise the port is named, however the connection goes on.
    for from in [3, 4, 6] {
        let found = read(&raw(&packets[from.max(4) + 1..]), &[]);
        assert!(found.len() == 1 && found[0].starts_with("0 !holds no MQTT"), "{found:?}");
        assert!(found[0].contains("of port 9999: --mqtt-port 9999 "), "{found:?}");
    }
    assert_eq!(read(&raw(&packets[..3]), &[]), Vec::<String>::new());
}

#[test]
fn segments_in_disorder_sent_again_or_missing_are_met() {
    let mut wire = Wire::new(1883);
    wire.open().send(true, &connect(), "A").send(false, &accepted(), "A");
    for n in 0..4 {
        wire.send(true, &publish(REPORT, &format!("{n}")), "A").send(false, &[0x40, 2, 0, 7], "A");
    }
    let ordered = read(&raw(&wire.packets), &[]);
    assert_eq!(ordered.len(), 5, "{ordered:?}");
    let payloads = |found: &[String]| -> String {
        found.iter().filter_map(|line| line.split_once("report ")).map(|(_, rest)| &rest[..1]).collect()
    };
    assert_eq!(payloads(&ordered), "0123");

    let mut mixed = wire.packets.clone();
    let again = mixed[5].clone();
    mixed.swap(5, 7);
    mixed.insert(9, again);
    // The acknowledgement of the second arrives while the first is still missing, unless it is moved too.
    mixed.swap(6, 8);
    let found = read(&raw(&mixed), &[]);
    assert!(payloads(&found).ends_with('3'), "{found:?}");

    let mut missing = wire.packets.clone();
    missing.remove(7);
    let found = read(&raw(&missing), &[]);
    assert_eq!(payloads(&found), "023");
    assert!(found.iter().any(|line| line.contains("were not captured")), "{found:?}");
}

#[test]
fn a_capture_may_begin_and_end_in_the_middle() {
    let mut wire = Wire::new(1883);
    let report = publish(REPORT, "a long enough payload");
    wire.send(true, &report[11..], "A").send(true, &report, "A").send(true, &report[..20], "A");
    let found = read(&raw(&wire.packets), &[]);
    assert_eq!(found.len(), 3, "{found:?}");
    assert!(found[0].starts_with("1 !") && found[0].contains("begins in the middle"), "{found:?}");
    assert!(found[1].starts_with("2 up"), "{found:?}");
    assert!(found[2].contains("ends in the middle of a message"), "{found:?}");
    let whole = raw(&wire.packets);
    let torn = read(&whole[..whole.len() - 5], &[]);
    assert!(torn.iter().any(|line| line.contains("!is cut off")), "{torn:?}");
}

#[test]
fn what_is_not_mqtt_is_said_once() {
    let mut wire = Wire::new(1883);
    wire.open().send(true, b"\x16\x03\x01\0\x05hello", "A").send(true, b"\x16\x03\x01\0\x05hello", "A");
    let found = read(&raw(&wire.packets), &[]);
    assert!(found.len() == 1 && found[0].contains("speaks TLS"), "{found:?}");
    let mut wire = Wire::new(8883);
    wire.open().send(true, b"\x16\x03\x01\0\x05hello", "A");
    let found = read(&raw(&wire.packets), &[]);
    assert!(found.len() == 1 && found[0].contains("speaks TLS"), "{found:?}");
    for is_up in [true, false] {
        let mut wire = Wire::new(21_883);
        wire.send(is_up, b"\x17\x03\x03\0\x05hello", "A").send(!is_up, b"\x17\x03\x03\0\x05hello", "A");
        let found = read(&raw(&wire.packets), &[]);
        assert!(found.len() == 1 && found[0].contains("speaks TLS"), "{found:?}");
    }
    let mut five = connect();
    five[8] = 5;
    let mut wire = Wire::new(1883);
    wire.open().send(true, &five, "A").send(true, &publish(REPORT, "x"), "A");
    let found = read(&raw(&wire.packets), &[]);
    assert!(found.len() == 1 && found[0].contains("level 5"), "{found:?}");
}

#[test]
fn a_platform_user_s_copies_are_left_out() {
    let mut wire = Wire::new(1883);
    wire.open().send(true, &publish(COMMANDS, "x"), "A").send(false, &publish(REPORT, "y"), "A");
    let found = read(&raw(&wire.packets), &[]);
    assert!(found.len() == 1 && found[0].contains("2 messages between platform users"), "{found:?}");
}

/// An interface of a pcapng capture with these options, in a section of one byte order, and packets in its units.
fn section(is_big: bool, options: &[(u16, &[u8])], packets: &[(u64, Vec<u8>)], kind: u32) -> Vec<u8> {
    let word = |number: u32| if is_big { number.to_be_bytes() } else { number.to_le_bytes() };
    let half = |number: u16| if is_big { number.to_be_bytes() } else { number.to_le_bytes() };
    let mut file = Vec::new();
    let mut block = |kind: u32, body: &[u8]| {
        let padded = body.len().next_multiple_of(4);
        file.extend_from_slice(&word(kind));
        file.extend_from_slice(&word(padded as u32 + 12));
        file.extend_from_slice(body);
        file.resize(file.len() + padded - body.len(), 0);
        file.extend_from_slice(&word(padded as u32 + 12));
    };
    let version = [half(1), half(0)].concat();
    block(0x0a0d_0d0a, &[&word(0x1a2b_3c4d)[..], &version, &[0xff; 8]].concat());
    let mut interface = [half(101), half(0)].concat();
    interface.extend_from_slice(&word(0));
    for (code, value) in options {
        interface.extend_from_slice(&half(*code));
        interface.extend_from_slice(&half(value.len() as u16));
        interface.extend_from_slice(value);
        interface.resize(interface.len().next_multiple_of(4), 0);
    }
    interface.extend_from_slice(&[0; 4]);
    block(1, &interface);
    for (time, packet) in packets {
        let (high, low, length) = (word((time >> 32) as u32), word(*time as u32), word(packet.len() as u32));
        block(kind, &[&[0; 4][..], &high, &low, &length, &length, packet].concat());
    }
    file
}

/// The times of the messages and connections of a capture, or why it fails.
fn times(file: &[u8]) -> Result<Vec<i64>, String> {
    let (topics, mut times) = (Topics::default(), Vec::new());
    let outcome = CaptureReader::new(&topics, &[]).read(file, &mut |_, found| {
        match found {
            RecordingEntry::Message(record) => times.push(record.unix_us),
            RecordingEntry::Issue(issue) => panic!("{issue:?}"),
            _ => {}
        }
        ControlFlow::Continue(())
    });
    outcome.map(|()| times).map_err(|why| why.to_string())
}

#[test]
fn every_resolution_that_can_count_a_second_is_read_and_others_fail() {
    let wire = whole_connection(21_883);
    // The connection begins two seconds after 1970 less the offset, so that the finest units hold it in 64 bits.
    let offset = 1_700_000_000_i64;
    for resolution in 0..=255_u8 {
        let per_second = match resolution {
            0..=19 => Some(10_u128.pow(resolution.into())),
            0x80..=0xbf => Some(1_u128 << (resolution & 0x7f)),
            _ => None,
        };
        for is_big in [false, true] {
            let offset_bytes = if is_big { offset.to_be_bytes() } else { offset.to_le_bytes() };
            let options = [(9, &[resolution][..]), (14, &offset_bytes[..])];
            let units = |us: u64| (u128::from(us) * per_second.unwrap_or(1) / 1_000_000) as u64;
            // Halves of a second; only the first two in 2^-63 s, and whole ones in units of a second.
            let packets: Vec<_> = (0..)
                .zip(&wire.packets)
                .map(|(n, (_, packet))| (units(n * 100_000), packet.clone()))
                .collect();
            let found = times(&section(is_big, &options, &packets, 6));
            let Some(per_second) = per_second else {
                let why = found.unwrap_err();
                assert!(why.contains(&format!("if_tsresol {resolution:#04x};")), "{why}");
                continue;
            };
            // To the microsecond below what the units can say.
            let expected = |n: u64| {
                let us = u128::from(units(n * 100_000)) * 1_000_000 / per_second;
                offset * 1_000_000 + us as i64
            };
            assert_eq!(found, Ok([6, 7, 7].map(expected).to_vec()), "{resolution:#x}");
        }
    }
    let no_value = times(&section(false, &[(9, &[])], &wire.packets, 6)).unwrap_err();
    assert!(no_value.contains("no value"), "{no_value}");
}

#[test]
fn sections_have_orders_and_resolutions_of_their_own() {
    let packets = whole_connection(21_883).packets;
    let in_units = |from: usize, to: usize, per_second: u64| -> Vec<_> {
        packets[from..to].iter().map(|(us, packet)| (us * per_second / 1_000_000, packet.clone())).collect()
    };
    let file = [
        section(true, &[(9, &[9])], &in_units(0, 4, 1_000_000_000), 6),
        section(false, &[(9, &[0x8a])], &in_units(4, 6, 1 << 10), 6),
        // Without the option: microseconds. The kind of block that came before the enhanced one.
        section(true, &[], &in_units(6, 9, 1_000_000), 2),
    ]
    .concat();
    assert_eq!(times(&file), Ok(vec![7_000_000, 8_000_000, 8_000_000]));
    let nanoseconds = |magic: u32, fraction: u32| {
        let mut file = raw(&packets);
        file[..4].copy_from_slice(&magic.to_le_bytes());
        file[28..32].copy_from_slice(&fraction.to_le_bytes());
        read(&file, &[])
    };
    assert_eq!(nanoseconds(0xa1b2_3c4d, 999_999_999).len(), WHOLE.len());
    let found = nanoseconds(0xa1b2_c3d4, 1_000_000);
    assert!(found[0].starts_with("1 !has no time stamp that is a time"), "{found:?}");
    // An interface that nothing describes.
    let mut orphan = section(false, &[], &packets, 6);
    let at = orphan.windows(4).position(|word| word == [6, 0, 0, 0]).unwrap();
    orphan[at + 8] = 7;
    assert!(read(&orphan, &[])[0].contains("belongs to no interface"), "{orphan:?}");
}

#[test]
fn a_connection_before_and_after_address_translation_is_told_once() {
    let wire = whole_connection(21_883);
    let translated = |packet: &[u8]| {
        let mut packet = packet.to_vec();
        // Addresses lie at 12 and 16; checksums are not looked at, since network cards fill them in later.
        for at in [12, 16] {
            if packet[at..at + 4] == CLIENT {
                packet[at..at + 4].copy_from_slice(&[172, 17, 0, 2]);
            }
        }
        packet
    };
    let twice = |delay: u64, is_changed: bool| {
        let mut packets = Vec::new();
        for (time, packet) in &wire.packets {
            packets.push((*time, packet.clone()));
            let mut copy = translated(packet);
            if is_changed && copy.len() > 60 {
                *copy.last_mut().unwrap() ^= 1;
            }
            packets.push((time + delay, copy));
        }
        packets.sort_by_key(|(time, _)| *time);
        read(&raw(&packets), &[])
    };
    let found = twice(20, false);
    assert_eq!(found.len(), 6, "{found:?}");
    assert!(found[5].starts_with("0 !holds 3 messages a second time"), "{found:?}");
    let without_packets = |lines: &[String]| -> Vec<_> {
        lines.iter().map(|line| line.split_once(' ').unwrap().1.to_owned()).collect()
    };
    assert_eq!(without_packets(&found[..5]), without_packets(&shifted(&WHOLE, 3)));
    // The same ports, numbers and bytes a good while later are another connection; it has begun before the first ended.
    assert_eq!(twice(30_000_000, false).len(), 10);
    // A capture that begins in the middle: known by the first segment with bytes.
    let packets: Vec<_> = wire.packets[5..8]
        .iter()
        .flat_map(|(time, packet)| [(*time, packet.clone()), (time + 5, translated(packet))])
        .collect();
    let found = read(&raw(&packets), &[]);
    assert_eq!(found.len(), 4, "{found:?}");
    assert!(found[3].starts_with("0 !holds 3 messages a second time"), "{found:?}");
    assert!(twice(20, true).len() > 6);
}

#[test]
fn packets_that_the_capture_cut_off_are_told_once() {
    let packets = whole_connection(21_883).packets;
    let mut file = raw(&packets[..0]);
    for (time, packet) in &packets {
        let kept = &packet[..packet.len().min(60)];
        for word in [(time / 1_000_000) as u32, 0, kept.len() as u32, packet.len() as u32] {
            file.extend_from_slice(&word.to_le_bytes());
        }
        file.extend_from_slice(kept);
    }
    let found = read(&file, &[]);
    assert_eq!(
        found.iter().filter(|line| line.contains("cut off when it was captured")).count(),
        1,
        "{found:?}"
    );
}

#[test]
fn connections_are_bounded_and_those_that_were_dropped_are_counted() {
    let topics = Topics::default();
    let mut tracker = ConnectionTracker::new(&topics, [1883].into());
    let mut told = Vec::new();
    let mut visit = |_, found: RecordingEntry<'_>| {
        told.push(format!("{found:?}"));
        ControlFlow::Continue(())
    };
    let report = publish(REPORT, "x");
    for n in 0..20_000_u32 {
        let address = std::net::Ipv4Addr::from(n).into();
        let segment = frame::Segment {
            source: std::net::SocketAddr::new(address, 40_000),
            target: std::net::SocketAddr::new([10, 0, 0, 1].into(), 1883),
            sequence: n,
            acknowledged: None,
            syn: true,
            fin: false,
            rst: false,
            payload: b"",
            is_cut: false,
        };
        let _ = tracker.handle_segment(u64::from(n) + 1, 0, &segment, &mut visit);
        assert!(tracker.followed() <= 16_384);
    }
    // The first one has been forgotten, and the last one has not.
    for n in [0, 19_999] {
        let segment = frame::Segment {
            source: std::net::SocketAddr::new(std::net::Ipv4Addr::from(n).into(), 40_000),
            target: std::net::SocketAddr::new([10, 0, 0, 1].into(), 1883),
            sequence: n + 1,
            acknowledged: Some(1),
            syn: false,
            fin: false,
            rst: false,
            payload: &report[2..],
            is_cut: false,
        };
        let _ = tracker.handle_segment(30_000 + u64::from(n), 0, &segment, &mut visit);
    }
    let _ = tracker.finish(60_000, &mut visit);
    assert!(told[0].contains("begins in the middle of what went to the server"), "{told:?}");
    assert!(told.iter().any(|line| line.contains(": 3617 that were silent")), "{told:?}");
}

#[test]
#[ignore = "slow: damages thousands of captures"]
fn damaged_captures_do_no_harm() {
    let whole = raw(&whole_connection(21_883).packets);
    let modern = include_bytes!("../../../tests/recordings/gateway.pcapng");
    let topics = Topics::default();
    for seed in 0..1000 {
        let mut random = fastrand::Rng::with_seed(seed);
        let mut file = if random.bool() { whole.clone() } else { modern.to_vec() };
        for _ in 0..random.usize(1..20) {
            let at = random.usize(..file.len());
            match random.u8(..4) {
                0 => file[at] = random.u8(..),
                1 => file[at] ^= 1 << random.u8(..8),
                2 => file.truncate(at.max(1)),
                _ => drop(file.drain(at..(at + random.usize(..40)).min(file.len()))),
            }
            if file.is_empty() {
                break;
            }
        }
        // Whatever it holds, it ends; where it does not, the seed is the one that was started last.
        let mut found = 0_u32;
        let _unreadable = CaptureReader::new(&topics, &[]).read(&file[..], &mut |_, _| {
            found += 1;
            assert!(found < 10_000, "seed {seed} does not end");
            ControlFlow::Continue(())
        });
    }
}
