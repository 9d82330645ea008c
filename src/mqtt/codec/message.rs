//! The messages that PUBLISH carries.

use std::sync::Arc;

use bytes::Bytes;

use super::qos::QoS;

/// A message to send.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Publish {
    /// The topic name, which the caller has checked (`mqtt::check_topic_name`).
    pub topic: Arc<str>,
    /// The payload.
    pub payload: Bytes,
    /// The quality of service.
    pub qos: QoS,
    /// Whether the server shall retain it; from a server: whether it was retained.
    pub retain: bool,
}

/// A message as it was received.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Message {
    /// The topic name: not empty, without wildcards and NUL. At a client it may hold other control characters.
    pub topic: Arc<str>,
    /// The payload.
    pub payload: Bytes,
    /// The quality of service.
    pub qos: QoS,
    /// The RETAIN flag.
    pub retain: bool,
    /// The DUP flag: the sender declares it a repetition.
    pub dup: bool,
    /// The packet id; with QoS 0 there is none.
    pub id: Option<u16>,
}
