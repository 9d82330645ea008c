//! MQTT as bytes, as cheap as it can be read and written: what drives a process must not be what limits it.

use std::io::{self, Read};

use bytes::BytesMut;
use tuyagw::{
    mqtt::{
        QoS,
        codec::{Connect, Message, Packet, Password},
    },
    tuya::{Channel, GatewayId, Topics, derive_password},
};

/// The username of every gateway here.
pub const USERNAME: &str = "acme";

/// The size of the payload that messages have in the targets, in bytes.
pub const PAYLOAD: usize = 219;

/// What a request id looks like before its number is filled in.
const REQUEST_ID: &str = "00000000-0000-4000-8000-000000000000";

/// One channel's topic for one gateway.
pub fn topic(channel: Channel, gateway: &str) -> String {
    Topics::default().topic(channel, &GatewayId::new(gateway).unwrap())
}

/// A report of a reading; `size` bytes or a few more where a longer cid can make it so.
pub fn report(cid: &str, size: usize) -> String {
    let of = |cid: &str| {
        format!(
            "{{\"t\":1785000000,\"request_id\":\"{REQUEST_ID}\",\"param\":{{\"cid\":\"{cid}\",\"id\":\"1\",\"value\":12345}}}}"
        )
    };
    let short = of(cid).len();
    of(&format!("{cid}{}", "0".repeat(size.saturating_sub(short))))
}

pub fn encode(packet: &Packet) -> Vec<u8> {
    let mut out = BytesMut::new();
    packet.encode(&mut out).unwrap();
    out.to_vec()
}

/// CONNECT of a gateway or platform user with the derived password.
pub fn connect(client_id: &str, username: &str) -> Vec<u8> {
    let password = derive_password(client_id, username);
    encode(&Packet::Connect(Box::new(Connect {
        client_id: client_id.to_owned(),
        clean_session: true,
        keep_alive: 0,
        username: Some(username.to_owned()),
        password: Some(Password::new(password.expose().as_bytes().to_vec())),
        ..Connect::default()
    })))
}

/// SUBSCRIBE to several filters with QoS 1.
pub fn subscribe(filters: &[String]) -> Vec<u8> {
    let filters = filters.iter().map(|filter| (filter.clone(), QoS::AtLeastOnce)).collect();
    encode(&Packet::Subscribe { id: 1, filters })
}

/// A PUBLISH with QoS 1, of which only ids change from one to the next.
#[derive(Clone, Debug)]
pub struct Template {
    bytes: Vec<u8>,
    packet_id: usize,
    /// Where the last twelve digits of the request id stand.
    request_id: Option<usize>,
}

impl Template {
    pub fn new(topic: &str, payload: &str) -> Self {
        let message = Message {
            topic: topic.into(),
            payload: payload.to_owned().into(),
            qos: QoS::AtLeastOnce,
            retain: false,
            dup: false,
            id: Some(1),
        };
        let bytes = encode(&Packet::Publish(message));
        let packet_id = bytes.len() - payload.len() - 2;
        let request_id = payload.find(REQUEST_ID).map(|at| packet_id + 2 + at + REQUEST_ID.len() - 12);
        Self { bytes, packet_id, request_id }
    }

    /// Appends the packet with these ids.
    pub fn write(&mut self, out: &mut Vec<u8>, packet_id: u16, request: u64) {
        self.bytes[self.packet_id..self.packet_id + 2].copy_from_slice(&packet_id.to_be_bytes());
        if let Some(at) = self.request_id {
            let mut rest = request;
            for digit in self.bytes[at..at + 12].iter_mut().rev() {
                *digit = b'0' + (rest % 10) as u8;
                rest /= 10;
            }
        }
        out.extend_from_slice(&self.bytes);
    }
}

/// Bytes as they come, and the packets in them.
#[derive(Debug)]
pub struct Inbox {
    bytes: Vec<u8>,
    start: usize,
    end: usize,
}

impl Inbox {
    pub fn new(capacity: usize) -> Self {
        Self { bytes: vec![0; capacity], start: 0, end: 0 }
    }

    /// Reads once; 0 is the end.
    pub fn fill(&mut self, from: &mut impl Read) -> io::Result<usize> {
        self.bytes.copy_within(self.start..self.end, 0);
        self.end -= self.start;
        self.start = 0;
        let read = from.read(&mut self.bytes[self.end..])?;
        self.end += read;
        Ok(read)
    }

    /// The next whole packet: its first byte and what stands after its length.
    pub fn next(&mut self) -> Option<(u8, &[u8])> {
        let bytes = &self.bytes[self.start..self.end];
        let (mut length, mut at) = (0, 1);
        loop {
            let byte = *bytes.get(at)?;
            length |= usize::from(byte & 0x7f) << (7 * (at - 1));
            at += 1;
            if byte & 0x80 == 0 {
                break;
            }
        }
        let body = bytes.get(at..at + length)?;
        self.start += at + length;
        Some((bytes[0], body))
    }
}

/// Topic, packet id and payload of a PUBLISH with QoS 1.
pub fn published(body: &[u8]) -> (&[u8], [u8; 2], &[u8]) {
    let topic = 2 + usize::from(u16::from_be_bytes([body[0], body[1]]));
    (&body[2..topic], [body[topic], body[topic + 1]], &body[topic + 2..])
}

/// How many filters a SUBSCRIBE has.
pub fn filters(body: &[u8]) -> usize {
    let (mut at, mut count) = (2, 0);
    while at < body.len() {
        at += 3 + usize::from(u16::from_be_bytes([body[at], body[at + 1]]));
        count += 1;
    }
    count
}
