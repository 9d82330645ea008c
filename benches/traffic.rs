//! The messages of the workloads, and buffers that write and read them cheaply, so that the benchmark is not the
//! bottleneck.

use std::{
    io::{self, Read},
    net::TcpStream,
};

use tuyagw::tuya::{Channel, GatewayId, Topics};

use crate::wire::{Client, Connect, frame, publish_with_id};

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

/// A report of a reading, padded to `size` bytes by a longer cid.
pub fn report(cid: &str, size: usize) -> String {
    let of = |cid: &str| {
        format!(
            "{{\"t\":1785000000,\"request_id\":\"{REQUEST_ID}\",\"param\":{{\"cid\":\"{cid}\",\"id\":\"1\",\"value\":12345}}}}"
        )
    };
    let short = of(cid).len();
    of(&format!("{cid}{}", "0".repeat(size.saturating_sub(short))))
}

/// CONNECT of a gateway or platform user, without a keep-alive.
pub fn connect<'a>(client_id: &'a str, username: &'a str) -> Connect<'a> {
    Connect { keep_alive: 0, ..Connect::new(client_id, username) }
}

/// Filters with QoS 1.
pub fn with_qos(filters: &[String]) -> Vec<(&str, u8)> {
    filters.iter().map(|filter| (filter.as_str(), 1)).collect()
}

/// A client that is connected and subscribed.
pub fn client(port: u16, id: &str, username: &str, filters: &[String]) -> TcpStream {
    let mut client = Client::open(&format!("127.0.0.1:{port}"));
    assert_eq!(client.connect(&connect(id, username)), 0);
    assert!(client.subscribe(&with_qos(filters)).iter().all(|code| *code == 1), "{id} is subscribed");
    client.stream.set_read_timeout(None).unwrap();
    client.stream
}

/// A PUBLISH with QoS 1, encoded once; each copy differs in its ids only.
#[derive(Clone, Debug)]
pub struct Template {
    bytes: Vec<u8>,
    packet_id: usize,
    /// Where the last twelve digits of the request id stand.
    request_id: Option<usize>,
}

impl Template {
    pub fn new(topic: &str, payload: &str) -> Self {
        let bytes = publish_with_id(2, topic, 1, payload.as_bytes());
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

/// A receive buffer, cut into packets.
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

    /// The next whole packet: its first byte and its body.
    pub fn next(&mut self) -> Option<(u8, &[u8])> {
        let (first, body, length) = frame(&self.bytes[self.start..self.end])?;
        self.start += length;
        Some((first, body))
    }
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
