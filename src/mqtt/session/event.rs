//! The events of a session.

use std::fmt;

use super::ack_token::AckToken;
use crate::mqtt::{
    ConnectCode,
    codec::{Connect, Malformed, Message, QoS, SubscribeCode},
};

/// A packet of the peer, or the outcome of a publish.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum SessionEvent {
    /// A client connects; to be answered by [`Session::connack`](super::Session::connack).
    Connect(Box<Connect>),
    /// A client of another version connects; to be answered by CONNACK 1. Nothing more will be read.
    OtherVersion {
        /// `MQTT` or `MQIsdp`.
        protocol: String,
        /// The protocol level.
        level: u8,
        /// The client id, as far as it could be read; otherwise empty.
        client_id: String,
        /// The username, likewise.
        username: Option<String>,
    },
    /// The server answers CONNECT. After an acceptance, and while [`Session::is_held`](super::Session::is_held), the owner calls
    /// [`Session::resume`](super::Session::resume) or, without a session present, [`Session::forget`](super::Session::forget); what was published early on this
    /// transport is not held and needs neither. After a refusal nothing more will be read.
    ConnAck {
        /// Whether the server has kept the session.
        session_present: bool,
        /// The return code, any of 0 to 255.
        code: ConnectCode,
    },
    /// A message; one of QoS 1 or 2 is acknowledged by handing its token back.
    Publish(Message, Option<AckToken>),
    /// One of our publishes has arrived; with QoS 0, it was put into the outbox. Comes once for each token.
    Delivered {
        /// The token that the publish was given.
        token: u64,
    },
    /// The server answers a SUBSCRIBE, with as many codes as it had filters.
    SubAck {
        /// The packet id that [`Session::subscribe`](super::Session::subscribe) gave.
        id: u16,
        /// A code for each filter.
        codes: Vec<SubscribeCode>,
    },
    /// The server answers an UNSUBSCRIBE.
    UnsubAck {
        /// The packet id that [`Session::unsubscribe`](super::Session::unsubscribe) gave.
        id: u16,
    },
    /// A client subscribes; to be answered by [`Session::suback`](super::Session::suback).
    Subscribe {
        /// The packet id.
        id: u16,
        /// The filters with the quality of service asked for; at least one, all valid.
        filters: Vec<(String, QoS)>,
    },
    /// A client unsubscribes; to be answered by [`Session::unsuback`](super::Session::unsuback).
    Unsubscribe {
        /// The packet id.
        id: u16,
        /// The filters; at least one, all valid.
        filters: Vec<String>,
    },
    /// The client leaves, so that its will is void. Nothing more will be read.
    Disconnect,
    /// The peer sent something that asks for a warning, does no harm, and is no progress.
    Ignored(String),
}

/// The peer broke MQTT; the connection must be closed, and nothing more will be read from it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Violation(pub(super) String);

impl fmt::Display for Violation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl std::error::Error for Violation {}

impl From<Malformed> for Violation {
    fn from(malformed: Malformed) -> Self {
        Self(malformed.0)
    }
}

/// A violation, in words.
macro_rules! violation {
    ($($words:tt)*) => { $crate::mqtt::session::Violation(format!($($words)*)) };
}
/// An ignored packet, in words.
macro_rules! ignored {
    ($($words:tt)*) => { $crate::mqtt::session::SessionEvent::Ignored(format!($($words)*)) };
}
pub(super) use {ignored, violation};
