//! Bytes that are no MQTT 3.1.1, and texts that MQTT has no room for.

use std::fmt;

/// Bytes that are no MQTT 3.1.1: the packet, and the fault in words.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Malformed(pub(crate) String);

impl fmt::Display for Malformed {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl std::error::Error for Malformed {}

macro_rules! malformed {
    ($($words:tt)*) => { $crate::mqtt::codec::Malformed(format!($($words)*)) };
}

/// A packet that is too large for MQTT; nothing of it was sent.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TooLarge(pub(crate) String);

impl fmt::Display for TooLarge {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl std::error::Error for TooLarge {}

pub(super) use malformed;
