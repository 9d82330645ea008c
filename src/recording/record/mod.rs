//! One message of a recording, and the line of JSON that holds it: a superset of what `mosquitto_sub -F %J` prints.
//! A payload's bytes are read exactly as they were written.

mod connection;
mod error;
mod fast_path;
mod read;
#[cfg(test)]
mod tests;
mod write;

use std::borrow::Cow;

use serde_json::value::RawValue;

pub use self::{connection::ConnectionRecord, error::RecordError, write::RecordPrefix};
use crate::{
    mqtt::{Direction, Message},
    tuya::{Channel, Topics},
};

pub(super) use self::read::flag;

/// The version of the format that [`Record::write`] writes and the highest that [`Record::read`] reads.
pub const VERSION: u64 = 1;

/// The `event` of a line that says how many `records` are missing at its place.
pub const LEFT_OUT: &str = "left-out";

/// One message that travelled between a gateway and an edge.
#[derive(Clone, Debug)]
pub struct Record<'a> {
    /// When it was seen by the wall clock, in microseconds since the Unix epoch.
    pub unix_us: i64,
    /// The topic.
    pub topic: Cow<'a, str>,
    /// The quality of service: 0, 1 or 2.
    pub qos: u8,
    /// Whether the message was retained (MQTT-3.3.1.3).
    pub retain: bool,
    /// Whether the message was a retransmission (MQTT-3.3.1.1).
    pub dup: bool,
    /// The packet id; QoS 0 has none.
    pub mid: Option<u16>,
    /// The direction; unknown for a line of another tool on a topic outside the templates.
    pub dir: Option<Direction>,
    /// The topic's channel, written as `kind`; `None` is `other`.
    pub channel: Option<Channel>,
    /// The gateway that the topic names.
    pub gateway_id: Option<Cow<'a, str>>,
    /// Microseconds since the recording began, by a monotonic clock; lines of other tools have none.
    pub mono_us: Option<u64>,
    /// The payload, exactly as it travelled.
    pub payload: Cow<'a, [u8]>,
    /// Whether the caller has checked that the payload, if it is text, is one JSON value nested less deep than
    /// [`DEEPEST`](crate::json::DEEPEST); if not, writing checks it.
    pub is_json: bool,
    /// Fields that this version does not know, in their order, as JSON text.
    pub unknown: Vec<(Cow<'a, str>, &'a RawValue)>,
}

impl<'a> Record<'a> {
    /// Returns the record of an MQTT message, without the fields that its topic tells.
    #[must_use]
    pub fn of(message: &'a Message, unix_us: i64, mono_us: u64) -> Self {
        Self {
            qos: message.qos as u8,
            retain: message.retain,
            dup: message.dup,
            mid: message.id,
            ..Self::new(unix_us, mono_us, (&*message.topic).into(), message.payload.as_ref().into())
        }
    }

    /// Returns the record of a message with QoS 0, without the fields that its topic tells.
    pub(super) fn new(unix_us: i64, mono_us: u64, topic: Cow<'a, str>, payload: Cow<'a, [u8]>) -> Self {
        Self {
            unix_us,
            topic,
            qos: 0,
            retain: false,
            dup: false,
            mid: None,
            dir: None,
            channel: None,
            gateway_id: None,
            mono_us: Some(mono_us),
            payload,
            is_json: false,
            unknown: Vec::new(),
        }
    }

    /// Fills in the channel, the gateway id and the direction from the topic, if the record does not have them.
    ///
    /// If one topic serves several channels, the first that the payload decodes as is taken.
    #[must_use]
    pub fn classified(mut self, topics: &Topics) -> Self {
        if self.channel.is_some() && self.gateway_id.is_some() && self.dir.is_some() {
            return self;
        }
        let Some((channel, id)) = topics.classify(&self.topic, &self.payload) else { return self };
        if self.gateway_id.is_none() {
            // A borrowed topic outlives this function, unlike the id, which borrows from `self`.
            self.gateway_id = Some(match &self.topic {
                Cow::Borrowed(topic) => match topic.find(id) {
                    Some(at) => Cow::Borrowed(&topic[at..at + id.len()]),
                    None => Cow::Owned(id.to_owned()),
                },
                Cow::Owned(_) => Cow::Owned(id.to_owned()),
            });
        }
        self.channel = self.channel.or(channel);
        self.dir = self.dir.or(self.channel.map(Channel::direction));
        self
    }
}
