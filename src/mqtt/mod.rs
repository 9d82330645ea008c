//! MQTT 3.1.1, for either end of a connection: the packets, the session, and the shells that own the sockets.
//!
//! `packet` and `session` are pure: bytes in, bytes out, the time as an argument. One session serves both
//! ends, so that a schedule of losses and reconnects can be played through both in memory.
#![deny(clippy::disallowed_methods, clippy::disallowed_types)]

pub(crate) mod backoff;
pub mod codec;
pub mod session;

pub use codec::{
    Connect, End, Malformed, Message, Packet, Password, Publish, QoS, SubscribeCode, TooLarge, Version, Will,
};
pub use session::{Event, Limits, Receipt, Session, Silence, Violation};
