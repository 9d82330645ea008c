//! PUBLISH (MQTT 3.1.1, section 3.3), read and written by hand: nearly all of the traffic is PUBLISH, and
//! rumqttc's reader accepts topics that the standard refuses.

use std::sync::Arc;

use bytes::{Buf as _, BufMut as _, Bytes, BytesMut};

use super::{
    error::{Malformed, TooLarge, malformed},
    header::{FieldReader, Header, MAX_REMAINING, length_prefix, remaining_length},
    message::{Message, Publish},
    qos::QoS,
    side::Side,
};

/// The longest topic that a connection caches. It caches one, and real topics are shorter.
const SHORT: usize = 256;

impl Publish {
    /// The size of the whole packet in bytes.
    #[must_use]
    pub fn size(&self) -> usize {
        let remaining = self.remaining();
        let length_bytes = match remaining {
            0..0x80 => 1,
            0x80..0x4000 => 2,
            0x4000..0x20_0000 => 3,
            _ => 4,
        };
        1 + length_bytes + remaining
    }

    fn remaining(&self) -> usize {
        2 + self.topic.len() + self.payload.len() + if self.qos == QoS::AtMostOnce { 0 } else { 2 }
    }

    /// Whether MQTT has room for the message.
    pub(crate) fn fits(&self) -> Result<(), TooLarge> {
        if self.topic.len() > usize::from(u16::MAX) {
            return Err(TooLarge(format!(
                "a topic of {} bytes; at most 65,535 are possible",
                self.topic.len()
            )));
        }
        if self.remaining() > MAX_REMAINING {
            return Err(TooLarge(format!("a message of {} bytes; MQTT has no room for it", self.size())));
        }
        Ok(())
    }

    /// Appends the packet. The caller has checked its size; `id` is used for QoS 1 and 2 only.
    pub(crate) fn encode(&self, id: u16, dup: bool, out: &mut BytesMut) {
        let mut header = [0; 7];
        header[0] = 0x30 | u8::from(dup) << 3 | (self.qos as u8) << 1 | u8::from(self.retain);
        let remaining = self.remaining();
        let at = remaining_length(&mut header, 1, remaining);
        header[at..at + 2].copy_from_slice(&length_prefix(self.topic.len()));

        out.reserve(at + remaining);
        out.put_slice(&header[..at + 2]);
        out.put_slice(self.topic.as_bytes());
        if self.qos != QoS::AtMostOnce {
            out.put_u16(id);
        }
        out.put_slice(&self.payload);
    }
}

/// Takes a whole PUBLISH, received by `to`, off the inbox. `known` caches the topic of the one before, because most have the same.
pub(super) fn decode(
    inbox: &mut BytesMut,
    header: Header,
    to: Side,
    known: &mut Option<Arc<str>>,
) -> Result<Message, Malformed> {
    let mut fields = FieldReader { kind: header.kind, rest: &inbox[header.start..header.end] };
    let name = fields.binary("topic")?;
    let topic = match known {
        Some(known) if known.as_bytes() == name => Arc::clone(known),
        _ => {
            let topic = fields.checked(name, "topic")?;
            check_name(topic, to)?;
            let topic: Arc<str> = topic.into();
            if topic.len() <= SHORT {
                *known = Some(Arc::clone(&topic));
            }
            topic
        }
    };
    let qos = match header.flags & 0b0110 {
        0 => QoS::AtMostOnce,
        0b0010 => QoS::AtLeastOnce,
        _ => QoS::ExactlyOnce,
    };
    let id = if qos == QoS::AtMostOnce { None } else { Some(fields.packet_id()?) };
    // A payload that shared the inbox's memory would keep all of it alive, however little of it is the payload's, and
    // would make the inbox allocate anew.
    let payload = Bytes::copy_from_slice(fields.rest);
    inbox.advance(header.end);
    Ok(Message {
        topic,
        payload,
        qos,
        retain: header.flags & 0b0001 != 0,
        dup: header.flags & 0b1000 != 0,
        id,
    })
}

/// Checks a topic name: not empty, without wildcards (sections 3.3.2.1 and 4.7); a server refuses control
/// characters too, which a client must be able to receive and show.
pub(super) fn check_name(topic: &str, to: Side) -> Result<(), Malformed> {
    if topic.is_empty() {
        return Err(malformed!("PUBLISH with an empty topic"));
    }
    let mut suspect = false;
    for byte in topic.bytes() {
        // 0xc2 introduces U+0080 to U+009F, among others.
        suspect |= matches!(byte, b'+' | b'#' | 0..=0x1f | 0x7f | 0xc2);
    }
    if suspect {
        if topic.contains(['+', '#']) {
            return Err(malformed!("PUBLISH to a topic with a wildcard: {topic:?}"));
        }
        if to == Side::Server && topic.contains(char::is_control) {
            return Err(malformed!("PUBLISH to a topic with a control character: {topic:?}"));
        }
    }
    Ok(())
}
