//! Why a connection ends.

/// Why a connection is over.
#[derive(Debug)]
pub(super) enum CloseReason {
    /// The client sent DISCONNECT.
    Left,
    /// The client closed the connection without DISCONNECT.
    Gone,
    /// The connection broke.
    Failed,
    /// The broker closes it, for this reason.
    Closed(String),
    /// CONNECT was answered with a refusal.
    Refused,
    /// The client has connected again.
    TakenOver,
}
