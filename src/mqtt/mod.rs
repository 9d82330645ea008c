//! MQTT 3.1.1, for either end of a connection, and nothing else: packets, session, topics, return codes.
//!
//! Pure: bytes in, bytes out, the time as an argument. One session serves both ends, so that a schedule of losses and
//! reconnects can be played through both in memory.
#![deny(clippy::disallowed_methods, clippy::disallowed_types)]

pub(crate) mod backoff;
pub mod codec;
mod codes;
pub mod session;
pub(crate) mod topic;

pub use codec::{
    Connect, Malformed, Message, Packet, Password, ProtocolVersion, Publish, QoS, Side, SubscribeCode,
    TooLarge, Will,
};
pub use codes::{ConnectCode, Explained, SUBSCRIPTION_REFUSED};
pub use session::{AckToken, Session, SessionEvent, SessionLimits, Silence, Violation};
pub use topic::{Direction, InvalidTopic, check_filter, check_topic_name, matches};
