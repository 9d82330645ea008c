//! The fixed header (MQTT 3.1.1, section 2.2): the checks that need no body, so that a packet is refused
//! before its body is received, let alone stored.

use bytes::{BufMut as _, BytesMut};

use super::{
    error::{Malformed, malformed},
    side::Side,
    version::ProtocolVersion,
};

/// The largest remaining length that four bytes can express (section 2.2.3).
pub(super) const MAX_REMAINING: usize = 268_435_455;

/// The fourteen packet types (section 2.2.1).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum PacketType {
    /// 1: the client asks for a connection.
    Connect = 1,
    /// 2: the server answers it.
    ConnAck,
    /// 3: a message.
    Publish,
    /// 4: answers a PUBLISH of QoS 1.
    PubAck,
    /// 5: answers a PUBLISH of QoS 2.
    PubRec,
    /// 6: answers a PUBREC.
    PubRel,
    /// 7: answers a PUBREL.
    PubComp,
    /// 8: the client asks for messages.
    Subscribe,
    /// 9: the server answers it.
    SubAck,
    /// 10: the client wants no more of them.
    Unsubscribe,
    /// 11: the server answers it.
    UnsubAck,
    /// 12: the client asks for a sign of life.
    PingReq,
    /// 13: the server gives it.
    PingResp,
    /// 14: the client leaves.
    Disconnect,
}

impl PacketType {
    /// The type in a packet's first byte; `None` for the reserved types 0 and 15.
    #[must_use]
    pub fn of(first: u8) -> Option<Self> {
        Some(match first >> 4 {
            1 => Self::Connect,
            2 => Self::ConnAck,
            3 => Self::Publish,
            4 => Self::PubAck,
            5 => Self::PubRec,
            6 => Self::PubRel,
            7 => Self::PubComp,
            8 => Self::Subscribe,
            9 => Self::SubAck,
            10 => Self::Unsubscribe,
            11 => Self::UnsubAck,
            12 => Self::PingReq,
            13 => Self::PingResp,
            14 => Self::Disconnect,
            _ => return None,
        })
    }

    /// The standard's name, such as `PUBACK`.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Connect => "CONNECT",
            Self::ConnAck => "CONNACK",
            Self::Publish => "PUBLISH",
            Self::PubAck => "PUBACK",
            Self::PubRec => "PUBREC",
            Self::PubRel => "PUBREL",
            Self::PubComp => "PUBCOMP",
            Self::Subscribe => "SUBSCRIBE",
            Self::SubAck => "SUBACK",
            Self::Unsubscribe => "UNSUBSCRIBE",
            Self::UnsubAck => "UNSUBACK",
            Self::PingReq => "PINGREQ",
            Self::PingResp => "PINGRESP",
            Self::Disconnect => "DISCONNECT",
        }
    }

    /// The only side that may receive this type; `None` if both may.
    fn receiver(self) -> Option<Side> {
        match self {
            Self::Connect | Self::Subscribe | Self::Unsubscribe | Self::PingReq | Self::Disconnect => {
                Some(Side::Server)
            }
            Self::ConnAck | Self::SubAck | Self::UnsubAck | Self::PingResp => Some(Side::Client),
            Self::Publish | Self::PubAck | Self::PubRec | Self::PubRel | Self::PubComp => None,
        }
    }

    /// The flags that the first byte must carry (table 2.2); a PUBLISH's are its own.
    fn flags(self) -> Option<u8> {
        match self {
            Self::Publish => None,
            Self::PubRel | Self::Subscribe | Self::Unsubscribe => Some(0b0010),
            _ => Some(0),
        }
    }

    /// Whether the first byte's low four bits are right for the type.
    fn takes(self, flags: u8, version: ProtocolVersion) -> bool {
        // MQTT 3.1 (section 2.1) knows DUP of these as well, and its clients set it when they send one again.
        let dup = if version == ProtocolVersion::V3_1 && self.flags() == Some(0b0010) { 0b1000 } else { 0 };
        self.flags().is_none_or(|required| flags & !dup == required)
    }

    /// The only remaining length that the type allows, if there is one.
    fn length(self) -> Option<usize> {
        match self {
            Self::ConnAck | Self::PubAck | Self::PubRec | Self::PubRel | Self::PubComp | Self::UnsubAck => {
                Some(2)
            }
            Self::PingReq | Self::PingResp | Self::Disconnect => Some(0),
            Self::Connect | Self::Publish | Self::Subscribe | Self::SubAck | Self::Unsubscribe => None,
        }
    }
}

/// A checked fixed header.
#[derive(Clone, Copy, Debug)]
pub(super) struct Header {
    pub kind: PacketType,
    /// The low four bits of the first byte.
    pub flags: u8,
    /// Where the body begins: 2 to 5.
    pub start: usize,
    /// Where the packet ends.
    pub end: usize,
}

/// Reads and checks the fixed header at the start of `bytes`, which `to` received from a client or for one that speaks
/// `version`; `None` while it is not whole.
pub(super) fn header(
    bytes: &[u8],
    to: Side,
    max_packet: usize,
    version: ProtocolVersion,
) -> Result<Option<Header>, Malformed> {
    let Some(&first) = bytes.first() else { return Ok(None) };
    let flags = first & 0x0f;
    let Some(kind) = PacketType::of(first) else {
        return Err(malformed!("packet type {} is reserved (first byte {first:#04x})", first >> 4));
    };
    if kind.receiver().is_some_and(|only| only != to) {
        let sender = if to == Side::Client { "server" } else { "client" };
        return Err(malformed!("{} from a {sender}, which must not send it", kind.name()));
    }
    match kind.flags() {
        Some(required) if !kind.takes(flags, version) => {
            return Err(malformed!("{} with flags {flags:04b} instead of {required:04b}", kind.name()));
        }
        None if flags & 0b0110 == 0b0110 => return Err(malformed!("PUBLISH with QoS 3")),
        None if flags & 0b1110 == 0b1000 => return Err(malformed!("PUBLISH with DUP though QoS is 0")),
        _ => {}
    }

    let mut remaining = 0;
    let mut start = 1;
    loop {
        let Some(&byte) = bytes.get(start) else { return Ok(None) };
        remaining |= usize::from(byte & 0x7f) << (7 * (start - 1));
        start += 1;
        if byte & 0x80 == 0 {
            if byte == 0 && start > 2 {
                return Err(malformed!("{} with a remaining length that is longer than needed", kind.name()));
            }
            break;
        }
        if start == 5 {
            return Err(malformed!("{} with a remaining length of more than four bytes", kind.name()));
        }
    }

    let end = start + remaining;
    match kind.length() {
        Some(required) if remaining != required => {
            Err(malformed!("{} with remaining length {remaining} instead of {required}", kind.name()))
        }
        _ if end > max_packet => Err(malformed!(
            "{} of {end} bytes; at most {max_packet} are accepted (--max-packet)",
            kind.name()
        )),
        _ => Ok(Some(Header { kind, flags, start, end })),
    }
}

/// Writes a remaining length, which must be at most [`MAX_REMAINING`], into `header` at `at`; returns its end.
pub(super) fn remaining_length(header: &mut [u8], mut at: usize, mut length: usize) -> usize {
    loop {
        let [.., low] = length.to_be_bytes();
        length >>= 7;
        if length == 0 {
            header[at] = low;
            return at + 1;
        }
        header[at] = low | 0x80;
        at += 1;
    }
}

/// The two bytes before a text or payload of at most 65,535 bytes.
pub(super) fn length_prefix(length: usize) -> [u8; 2] {
    let [.., high, low] = length.to_be_bytes();
    [high, low]
}

/// Appends a packet with a body of two bytes.
pub(super) fn short(kind: PacketType, body: [u8; 2], out: &mut BytesMut) {
    let first = (kind as u8) << 4 | kind.flags().unwrap_or_default();
    out.put_slice(&[first, 2, body[0], body[1]]);
}

/// Takes bytes and length-prefixed strings off a packet's body, saying which field did not fit.
pub(super) struct FieldReader<'b> {
    pub kind: PacketType,
    pub rest: &'b [u8],
}

impl<'b> FieldReader<'b> {
    pub fn take(&mut self, length: usize, field: &str) -> Result<&'b [u8], Malformed> {
        let Some((taken, rest)) = self.rest.split_at_checked(length) else {
            return Err(malformed!(
                "{} ends within its {field}: {length} bytes needed, {} left",
                self.kind.name(),
                self.rest.len()
            ));
        };
        self.rest = rest;
        Ok(taken)
    }

    pub fn byte(&mut self, field: &str) -> Result<u8, Malformed> {
        Ok(self.take(1, field)?[0])
    }

    pub fn number(&mut self, field: &str) -> Result<u16, Malformed> {
        let bytes = self.take(2, field)?;
        Ok(u16::from_be_bytes([bytes[0], bytes[1]]))
    }

    /// The packet id, which is never 0 (section 2.3.1).
    pub fn packet_id(&mut self) -> Result<u16, Malformed> {
        match self.number("packet id")? {
            0 => Err(malformed!("{} with packet id 0", self.kind.name())),
            id => Ok(id),
        }
    }

    pub fn binary(&mut self, field: &str) -> Result<&'b [u8], Malformed> {
        let length = self.number(field)?;
        self.take(usize::from(length), field)
    }

    /// A UTF-8 string without NUL (section 1.5.3); surrogates are not UTF-8.
    pub fn text(&mut self, field: &str) -> Result<&'b str, Malformed> {
        let bytes = self.binary(field)?;
        self.checked(bytes, field)
    }

    /// The bytes of a field as such a string.
    pub fn checked(&self, bytes: &'b [u8], field: &str) -> Result<&'b str, Malformed> {
        let Ok(text) = std::str::from_utf8(bytes) else {
            return Err(malformed!("{} with a {field} that is not UTF-8", self.kind.name()));
        };
        if bytes.contains(&0) {
            return Err(malformed!("{} with a {field} that contains NUL", self.kind.name()));
        }
        Ok(text)
    }

    pub fn nothing_left(&self) -> Result<(), Malformed> {
        match self.rest.len() {
            0 => Ok(()),
            extra => Err(malformed!("{} with {extra} bytes after its end", self.kind.name())),
        }
    }
}
