//! One direction of a captured connection, as a stream of MQTT packets.

use bytes::BytesMut;

use super::reassembly::StreamReassembler;
use crate::mqtt::codec::{Packet, Side};

/// The largest MQTT packet: a remaining length of 268,435,455 (MQTT-2.2.3) and its header.
const LARGEST: usize = 268_435_460;
/// After a gap, bytes that announce a packet larger than this are the middle of another packet.
const PLAUSIBLE: usize = 1 << 20;

/// One direction of a connection.
#[derive(Debug, Default)]
pub(super) struct HalfConnection {
    pub stream: StreamReassembler,
    inbox: BytesMut,
    /// Whether the inbox begins with a packet. If not, each segment may begin with one.
    is_in_step: bool,
    /// Whether it was reported that bytes are missing here.
    is_reported: bool,
    pub has_ended: bool,
}

/// The next packet of a direction.
pub(super) enum NextPacket {
    Packet(Packet),
    /// More bytes are needed.
    Incomplete,
    /// The bytes are the middle of a packet, which were dropped; `is_new` if this was not reported yet.
    OutOfStep {
        is_new: bool,
    },
    /// The bytes break the protocol and were dropped.
    Malformed(String),
}

impl HalfConnection {
    /// Handles the SYN with this sequence number.
    pub fn begin(&mut self, sequence: u32) {
        self.stream.begin(sequence.wrapping_add(1));
        self.is_in_step = true;
    }

    /// Drops the bytes before a gap.
    pub fn handle_gap(&mut self) {
        self.lose_step();
        self.is_reported = true;
    }

    /// Whether the next bytes may begin a TLS record: they are the first ones, or an unknown number is missing before them.
    pub fn may_begin_tls(&self, is_up: bool) -> bool {
        self.inbox.is_empty() && (is_up || !self.is_in_step)
    }

    /// Adds the bytes of a segment. Returns `None`, or what [`HalfConnection::next_packet`] would, if they cannot be the
    /// beginning of a packet.
    pub fn push(&mut self, bytes: &[u8]) -> Option<NextPacket> {
        self.inbox.extend_from_slice(bytes);
        let is_misfit =
            !self.is_in_step && announced_length(&self.inbox).is_none_or(|length| length > PLAUSIBLE);
        is_misfit.then(|| self.skip_middle())
    }

    /// Takes the next packet off the inbox.
    pub fn next_packet(&mut self, to: Side) -> NextPacket {
        match Packet::decode(&mut self.inbox, to, LARGEST) {
            Ok(Some(packet)) => {
                self.is_in_step = true;
                NextPacket::Packet(packet)
            }
            Ok(None) => NextPacket::Incomplete,
            Err(_) if !self.is_in_step => self.skip_middle(),
            Err(malformed) => {
                self.handle_gap();
                NextPacket::Malformed(malformed.to_string())
            }
        }
    }

    /// How many bytes wait for more.
    pub fn weight(&self) -> usize {
        self.stream.weight() + self.inbox.len()
    }

    /// Whether the capture ends in the middle of a packet.
    pub fn ends_within_packet(&self) -> bool {
        !self.inbox.is_empty() && self.is_in_step
    }

    /// Drops the middle of a packet whose beginning is not known.
    fn skip_middle(&mut self) -> NextPacket {
        self.inbox.clear();
        NextPacket::OutOfStep { is_new: !std::mem::replace(&mut self.is_reported, true) }
    }

    fn lose_step(&mut self) {
        self.inbox.clear();
        self.is_in_step = false;
    }
}

/// Whether a TCP payload begins a TLS record. No MQTT packet begins so, because a CONNECT has no flags.
pub(super) fn is_tls(payload: &[u8]) -> bool {
    matches!(payload, [0x14..=0x17, 3, 0..=4, ..])
}

/// Whether a TCP payload begins an MQTT connection.
pub(super) fn begins_with_connect(payload: &[u8]) -> bool {
    let [0x10, rest @ ..] = payload else { return false };
    let length = rest.iter().take(4).take_while(|byte| **byte & 0x80 != 0).count() + 1;
    rest.get(length..)
        .is_some_and(|rest| rest.starts_with(b"\0\x04MQTT") || rest.starts_with(b"\0\x06MQIsdp"))
}

/// Returns the remaining length that a packet's first bytes announce, as far as they go; `None` if no packet begins so.
fn announced_length(bytes: &[u8]) -> Option<usize> {
    let (first, rest) = bytes.split_first()?;
    if !(1..=14).contains(&(first >> 4)) {
        return None;
    }
    let mut length = 0;
    for (n, byte) in rest.iter().take(4).enumerate() {
        length |= usize::from(byte & 0x7f) << (7 * n);
        if byte & 0x80 == 0 {
            return Some(length);
        }
    }
    (rest.len() < 4).then_some(length)
}
