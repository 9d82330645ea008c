//! The token that acknowledges a received message.

/// The right to acknowledge one received message of QoS 1 or 2, to be handed back once the message is safe.
///
/// A token outlives its transport harmlessly. One of QoS 2 should be handed back even then: it says that
/// the message, which the peer will send again and the session will not deliver again, can be answered.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[must_use = "a message whose token is not given back is never acknowledged"]
pub struct AckToken {
    /// Counts the received messages of a session, over all its transports.
    pub(super) delivery: u64,
    pub(super) id: u16,
    pub(super) exactly_once: bool,
}
