//! MQTT 3.1.1 by hand, for either end of a connection. It shares no code with the program: with one codec, both ends
//! could misread the same bytes alike. The benchmarks include this file.

use std::{
    io::{ErrorKind, Read as _, Write as _},
    net::TcpStream,
};

use md5::{Digest as _, Md5};
use serde_json::Value;

use crate::command::LIMIT;

/// CONNACK without a session, with return code 0.
pub const ACCEPTED: [u8; 4] = [0x20, 2, 0, 0];
pub const PINGREQ: [u8; 2] = [0xc0, 0];
pub const PINGRESP: [u8; 2] = [0xd0, 0];
pub const DISCONNECT: [u8; 2] = [0xe0, 0];

/// The packet type (section 2.2.1).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    Connect = 1,
    ConnAck,
    Publish,
    PubAck,
    PubRec,
    PubRel,
    PubComp,
    Subscribe,
    SubAck,
    Unsubscribe,
    UnsubAck,
    PingReq,
    PingResp,
    Disconnect,
}

impl Kind {
    const ALL: [Self; 14] = [
        Self::Connect,
        Self::ConnAck,
        Self::Publish,
        Self::PubAck,
        Self::PubRec,
        Self::PubRel,
        Self::PubComp,
        Self::Subscribe,
        Self::SubAck,
        Self::Unsubscribe,
        Self::UnsubAck,
        Self::PingReq,
        Self::PingResp,
        Self::Disconnect,
    ];

    fn of(first: u8) -> Self {
        let found = Self::ALL.into_iter().find(|kind| *kind as u8 == first >> 4);
        found.unwrap_or_else(|| panic!("{first:#04x} begins no packet"))
    }
}

/// Encodes a packet: its first byte, the remaining length (section 2.2.3), and the parts of its body.
pub fn packet(first: u8, parts: &[&[u8]]) -> Vec<u8> {
    let mut bytes = vec![first];
    let mut left: usize = parts.iter().map(|part| part.len()).sum();
    loop {
        let low = u8::try_from(left % 128).expect("below 128");
        left /= 128;
        bytes.push(if left > 0 { low | 0x80 } else { low });
        if left == 0 {
            break;
        }
    }
    for part in parts {
        bytes.extend_from_slice(part);
    }
    bytes
}

/// A text, or other bytes, behind their length (section 1.5.3).
pub fn text(text: impl AsRef<[u8]>) -> Vec<u8> {
    let text = text.as_ref();
    let length = u16::try_from(text.len()).expect("below 65,536").to_be_bytes();
    [&length[..], text].concat()
}

/// A packet that holds its packet id only, such as PUBACK.
pub fn acknowledgement(first: u8, id: u16) -> [u8; 4] {
    let [high, low] = id.to_be_bytes();
    [first, 2, high, low]
}

pub fn puback(id: u16) -> [u8; 4] {
    acknowledgement(0x40, id)
}

pub fn pubrec(id: u16) -> [u8; 4] {
    acknowledgement(0x50, id)
}

pub fn pubrel(id: u16) -> [u8; 4] {
    acknowledgement(0x62, id)
}

pub fn pubcomp(id: u16) -> [u8; 4] {
    acknowledgement(0x70, id)
}

pub fn suback(id: u16, codes: &[u8]) -> Vec<u8> {
    packet(0x90, &[&id.to_be_bytes(), codes])
}

/// SUBSCRIBE to filters with the QoS asked for.
pub fn subscribe(id: u16, filters: &[(impl AsRef<str>, u8)]) -> Vec<u8> {
    let entries = filters.iter().flat_map(|(filter, qos)| [text(filter.as_ref()), vec![*qos]].concat());
    packet(0x82, &[&id.to_be_bytes(), &entries.collect::<Vec<_>>()])
}

pub fn unsubscribe(id: u16, filters: &[impl AsRef<str>]) -> Vec<u8> {
    let entries = filters.iter().flat_map(|filter| text(filter.as_ref()));
    packet(0xa2, &[&id.to_be_bytes(), &entries.collect::<Vec<_>>()])
}

/// PUBLISH without a packet id; `flags` are the low four bits of the first byte.
pub fn publish(flags: u8, topic: &str, payload: &[u8]) -> Vec<u8> {
    packet(0x30 | flags, &[&text(topic), payload])
}

pub fn publish_with_id(flags: u8, topic: &str, id: u16, payload: &[u8]) -> Vec<u8> {
    packet(0x30 | flags, &[&text(topic), &id.to_be_bytes(), payload])
}

/// The password that the page's rule gives.
pub fn password(client_id: &str, username: &str) -> String {
    hex::encode(Md5::digest(format!("{client_id}{username}")))
}

/// CONNECT with everything that can vary.
#[derive(Clone, Debug)]
pub struct Connect<'a> {
    pub client_id: &'a str,
    pub username: Option<&'a str>,
    pub password: Option<String>,
    pub clean: bool,
    pub keep_alive: u16,
    /// Topic, payload and QoS.
    pub will: Option<(&'a str, &'a str, u8)>,
}

impl<'a> Connect<'a> {
    /// With the derived password, a clean session, and a keep-alive of a minute.
    pub fn new(client_id: &'a str, username: &'a str) -> Self {
        let password = Some(password(client_id, username));
        Self { client_id, username: Some(username), password, clean: true, keep_alive: 60, will: None }
    }

    pub fn bytes(&self) -> Vec<u8> {
        let mut flags = if self.clean { 2 } else { 0 };
        let mut payload = text(self.client_id);
        if let Some((topic, message, qos)) = self.will {
            flags |= 4 | qos << 3;
            payload.extend(text(topic));
            payload.extend(text(message));
        }
        if let Some(username) = self.username {
            flags |= 0x80;
            payload.extend(text(username));
        }
        if let Some(password) = &self.password {
            flags |= 0x40;
            payload.extend(text(password));
        }
        packet(0x10, &[b"\0\x04MQTT\x04", &[flags], &self.keep_alive.to_be_bytes(), &payload])
    }
}

/// The first byte of the packet at the front, its body, and its whole length; `None` while it is not whole.
pub fn frame(bytes: &[u8]) -> Option<(u8, &[u8], usize)> {
    let first = *bytes.first()?;
    let (mut length, mut at) = (0, 1);
    loop {
        let byte = *bytes.get(at)?;
        length |= usize::from(byte & 0x7f) << (7 * (at - 1));
        at += 1;
        if byte < 0x80 {
            break;
        }
    }
    Some((first, bytes.get(at..at + length)?, at + length))
}

/// Topic, packet id and payload of a PUBLISH; the id is 0 with QoS 0.
pub fn split_publish(first: u8, body: &[u8]) -> (&[u8], u16, &[u8]) {
    let (topic, rest) = body[2..].split_at(usize::from(number(body)));
    if first & 6 == 0 { (topic, 0, rest) } else { (topic, number(rest), &rest[2..]) }
}

/// The number in the first two bytes.
fn number(bytes: &[u8]) -> u16 {
    u16::from_be_bytes([bytes[0], bytes[1]])
}

/// A received packet, uninterpreted.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Frame {
    pub first: u8,
    pub body: Vec<u8>,
}

impl Frame {
    pub fn kind(&self) -> Kind {
        Kind::of(self.first)
    }

    /// The packet id of anything but a PUBLISH.
    pub fn id(&self) -> u16 {
        number(&self.body)
    }

    pub fn publish(&self) -> Publish {
        assert_eq!(self.kind(), Kind::Publish, "{self:?}");
        Publish::parse(self.first, &self.body)
    }
}

/// A received PUBLISH.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Publish {
    pub topic: String,
    pub payload: Vec<u8>,
    pub qos: u8,
    /// 0 with QoS 0.
    pub id: u16,
    pub dup: bool,
    pub retain: bool,
}

impl Publish {
    pub fn parse(first: u8, body: &[u8]) -> Self {
        let (topic, id, payload) = split_publish(first, body);
        let topic = String::from_utf8(topic.to_vec()).expect("a topic is UTF-8");
        let (dup, retain) = (first & 8 != 0, first & 1 != 0);
        Self { topic, payload: payload.to_vec(), qos: first >> 1 & 3, id, dup, retain }
    }

    pub fn json(&self) -> Value {
        serde_json::from_slice(&self.payload).expect("a payload is JSON")
    }

    pub fn request_id(&self) -> String {
        self.json()["request_id"].as_str().expect("request_id").to_owned()
    }
}

/// A packet that a client sent.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Packet {
    Connect {
        client_id: String,
        flags: u8,
        keep_alive: u16,
        username: Option<String>,
        password: Option<String>,
    },
    Publish(Publish),
    Subscribe {
        id: u16,
        filters: Vec<(String, u8)>,
    },
    /// PUBACK, PUBREC, PUBREL or PUBCOMP: the first byte, and the packet id.
    Acknowledgement(u8, u16),
    Ping,
    Disconnect,
}

impl Packet {
    /// Reads the packet at the front, and gives its length; `None` while it is not whole.
    pub fn parse(bytes: &[u8]) -> Option<(Self, usize)> {
        let (first, body, length) = frame(bytes)?;
        let mut body = Body(body);
        let packet = match first {
            0x10 => {
                assert_eq!((body.text().as_str(), body.byte()), ("MQTT", 4));
                let flags = body.byte();
                let keep_alive = body.number();
                let client_id = body.text();
                let username = (flags & 0x80 != 0).then(|| body.text());
                let password = (flags & 0x40 != 0).then(|| body.text());
                Self::Connect { client_id, flags, keep_alive, username, password }
            }
            0x30..=0x3f => Self::Publish(Publish::parse(first, std::mem::take(&mut body.0))),
            0x82 => {
                let id = body.number();
                let mut filters = Vec::new();
                while !body.0.is_empty() {
                    filters.push((body.text(), body.byte()));
                }
                Self::Subscribe { id, filters }
            }
            0x40 | 0x50 | 0x62 | 0x70 => Self::Acknowledgement(first, body.number()),
            0xc0 => Self::Ping,
            0xe0 => Self::Disconnect,
            other => panic!("the client sent a packet that begins with {other:#04x}"),
        };
        assert!(body.0.is_empty(), "{packet:?} and {:?}", body.0);
        Some((packet, length))
    }
}

/// The rest of a body.
struct Body<'a>(&'a [u8]);

impl Body<'_> {
    fn take(&mut self, length: usize) -> &[u8] {
        let (taken, rest) = self.0.split_at(length);
        self.0 = rest;
        taken
    }

    fn byte(&mut self) -> u8 {
        self.take(1)[0]
    }

    fn number(&mut self) -> u16 {
        number(self.take(2))
    }

    fn text(&mut self) -> String {
        let length = self.number().into();
        String::from_utf8(self.take(length).to_vec()).expect("UTF-8")
    }
}

/// A client on a blocking socket. It reads no byte beyond the packet that it returns.
#[derive(Debug)]
pub struct Client {
    pub stream: TcpStream,
    next_id: u16,
}

impl Client {
    pub fn open(address: &str) -> Self {
        let stream = TcpStream::connect(address).expect("a broker listens");
        stream.set_read_timeout(Some(LIMIT)).expect("an option");
        stream.set_nodelay(true).expect("an option");
        Self { stream, next_id: 0 }
    }

    pub fn send(&mut self, bytes: &[u8]) {
        self.stream.write_all(bytes).expect("the connection is open");
    }

    /// The next packet; `None` if the broker has closed the connection, even within a packet.
    pub fn read(&mut self) -> Option<Frame> {
        let mut first = [0];
        match self.stream.read_exact(&mut first) {
            Ok(()) => {}
            Err(why) if matches!(why.kind(), ErrorKind::UnexpectedEof | ErrorKind::ConnectionReset) => {
                return None;
            }
            Err(why) => panic!("nothing came: {why}"),
        }
        let (mut length, mut shift) = (0, 0);
        loop {
            let mut byte = [0];
            self.stream.read_exact(&mut byte).ok()?;
            length |= usize::from(byte[0] & 0x7f) << shift;
            shift += 7;
            if byte[0] & 0x80 == 0 {
                break;
            }
        }
        let mut body = vec![0; length];
        self.stream.read_exact(&mut body).ok()?;
        Some(Frame { first: first[0], body })
    }

    /// The next packet, which must be of this kind.
    pub fn expect(&mut self, kind: Kind) -> Frame {
        let packet = self.read().expect("the connection is open");
        assert_eq!(packet.kind(), kind, "{packet:?}");
        packet
    }

    /// Sends CONNECT; returns the return code of the CONNACK.
    pub fn connect(&mut self, connect: &Connect<'_>) -> u8 {
        self.send(&connect.bytes());
        self.expect(Kind::ConnAck).body[1]
    }

    /// Connects with the derived password; returns the return code of the CONNACK.
    pub fn login(&mut self, client_id: &str, username: &str, clean: bool) -> u8 {
        self.connect(&Connect { clean, ..Connect::new(client_id, username) })
    }

    pub fn next_id(&mut self) -> u16 {
        self.next_id += 1;
        self.next_id
    }

    /// Subscribes; returns the codes of the SUBACK.
    pub fn subscribe(&mut self, filters: &[(&str, u8)]) -> Vec<u8> {
        let id = self.next_id();
        self.send(&subscribe(id, filters));
        let suback = self.expect(Kind::SubAck);
        assert_eq!(suback.id(), id);
        suback.body[2..].to_vec()
    }

    /// Sends a PUBLISH; returns its packet id.
    pub fn publish(&mut self, topic: &str, payload: &str, qos: u8, retain: bool) -> u16 {
        let (flags, payload) = (qos << 1 | u8::from(retain), payload.as_bytes());
        if qos == 0 {
            self.send(&publish(flags, topic, payload));
            return 0;
        }
        let id = self.next_id();
        self.send(&publish_with_id(flags, topic, id, payload));
        id
    }

    /// Acknowledges a message of QoS 1.
    pub fn acknowledge(&mut self, message: &Publish) {
        self.send(&puback(message.id));
    }

    /// The next message, acknowledged if its QoS is 1. Skips acknowledgements before it.
    pub fn message(&mut self) -> Publish {
        loop {
            let packet = self.read().expect("the connection is open");
            if packet.kind() == Kind::Publish {
                let message = packet.publish();
                if message.qos == 1 {
                    self.acknowledge(&message);
                }
                return message;
            }
            let skipped = [Kind::PubAck, Kind::PubRec, Kind::PubComp, Kind::PingResp];
            assert!(skipped.contains(&packet.kind()), "{packet:?}");
        }
    }

    /// The next message's payload as JSON.
    pub fn json(&mut self) -> Value {
        self.message().json()
    }

    /// Pings and expects the answer next: the broker has handled all that was sent before, and sent nothing else.
    pub fn ping(&mut self) {
        self.send(&PINGREQ);
        self.expect(Kind::PingResp);
    }

    /// As [`Client::ping`]; passes the topics of messages before the answer to `see`.
    pub fn ping_skipping_messages(&mut self, see: impl Fn(&str)) {
        self.send(&PINGREQ);
        loop {
            let packet = self.read().expect("the connection is open");
            match packet.kind() {
                Kind::PingResp => return,
                Kind::Publish => see(&packet.publish().topic),
                _ => {}
            }
        }
    }

    /// Discards one read; `false` at the end of the connection, orderly or not.
    pub fn read_lenient(&mut self) -> bool {
        match self.stream.read(&mut [0; 8192]) {
            Ok(read) => read > 0,
            Err(why) => why.kind() == ErrorKind::Interrupted,
        }
    }

    /// Waits for the broker to close the connection; `false` if it sends a packet instead.
    pub fn is_closed(&mut self) -> bool {
        self.read().is_none()
    }
}
