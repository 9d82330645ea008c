//! Requests that are encoded and have their topics.

use std::{fmt, sync::Arc};

use crate::{
    mqtt::codec::Publish,
    tuya::{Channel, Command, GatewayId, Uplink},
};

/// The longest payload of a status report, in bytes. Brokers with a limit of their own take so much at least, and a longer
/// message may be why a broker closes the connection.
pub const LONGEST_STATUS: usize = 64 * 1024;

/// The bytes of a PUBLISH beside topic and payload, at most (MQTT 3.1.1, section 3.3).
pub(super) const PUBLISH_HEADER: usize = 9;

/// The message of a request.
#[derive(Debug)]
pub enum Payload {
    /// A gateway's message.
    Uplink(Uplink),
    /// A platform's command.
    Command(Command),
}

impl Payload {
    pub(super) fn encode(&self, t: i64, request_id: &str) -> Vec<u8> {
        match self {
            Self::Uplink(uplink) => uplink.encode(t, request_id),
            Self::Command(command) => command.encode(t, request_id),
        }
    }
}

/// A request that is encoded and has its topics, to be inserted.
#[derive(Debug)]
pub struct PreparedRequest {
    pub(super) request_id: Arc<str>,
    pub(super) response_topic: Option<Arc<str>>,
    pub(super) publish: Publish,
    /// The time stamp in the payload; `None` if it stays as it was given.
    pub(super) t: Option<i64>,
    /// Whether an attempt falls due.
    pub(super) has_deadline: bool,
}

impl PreparedRequest {
    /// A message with given bytes, which ends with its acknowledgement.
    #[must_use]
    pub fn as_given(publish: Publish) -> Self {
        Self { request_id: Arc::default(), response_topic: None, publish, t: None, has_deadline: true }
    }

    /// A message of the spool with given bytes, which ends with its answer, or without a response topic with its
    /// acknowledgement.
    #[must_use]
    pub fn spooled(request_id: Arc<str>, response_topic: Option<Arc<str>>, publish: Publish) -> Self {
        Self { request_id, response_topic, ..Self::as_given(publish) }
    }

    /// A message of another program with given bytes, which waits for its acknowledgement as long as it takes.
    #[must_use]
    pub fn forwarded(publish: Publish) -> Self {
        Self { has_deadline: false, ..Self::as_given(publish) }
    }
}

/// Why a request cannot be sent.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Unsendable {
    /// Neither the request nor the settings name a gateway.
    NoGateway,
    /// The payload of a status report is longer than [`LONGEST_STATUS`]; its bytes.
    StatusTooLong(usize),
    /// The message does not fit into the largest packet; its bytes and that limit.
    TooLarge(usize, usize),
}

impl fmt::Display for Unsendable {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::NoGateway => f.write_str("gateway_id is missing, and no --gateway-id is given"),
            Self::StatusTooLong(length) => write!(
                f,
                "the message of {length} bytes is longer than {LONGEST_STATUS}, the most of a status report"
            ),
            Self::TooLarge(size, limit) => {
                write!(f, "the message of {size} bytes does not fit into --max-packet {limit}")
            }
        }
    }
}

/// The topics of a request. The gateway caches those of the last one, because most requests in a row share them.
#[derive(Debug)]
pub(super) struct Route {
    pub(super) channel: Channel,
    pub(super) gateway: GatewayId,
    pub(super) topic: Arc<str>,
    pub(super) response_topic: Arc<str>,
}
