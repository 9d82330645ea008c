//! Limits that keep a broker's memory bounded, whatever its clients do.

use std::time::Duration;

use crate::mqtt::SessionLimits;

/// Limits that keep a broker's memory bounded, whatever its clients do.
#[derive(Clone, Debug)]
pub struct ServerLimits {
    /// Simultaneous connections; more are closed when they are accepted.
    pub max_connections: usize,
    /// The largest packet accepted, in bytes.
    pub max_packet: usize,
    /// The time from accepting a connection to its CONNECT, the TLS handshake included.
    pub connect_timeout: Duration,
    /// Unacknowledged messages of QoS 1 and 2 to one client.
    pub in_flight: u16,
    /// Bytes queued for one client beside the unacknowledged ones.
    pub max_queue: usize,
    /// Bytes kept for all clients together: queued, unwritten, unsent, unacknowledged and unreleased messages, subscriptions,
    /// names and wills. If there are more, the clients with most are disconnected.
    pub max_queues: usize,
    /// Bytes of unfinished packets of all clients together; a quarter of it once half of `max_queues` is used. Bytes beyond
    /// that quarter reduce `max_queues`, at most to its half.
    pub max_unfinished: usize,
    /// Bytes of retained messages.
    pub max_retained: usize,
    /// Subscriptions of one client.
    pub max_filters: usize,
    /// Bytes that the subscriptions of one client may occupy.
    pub max_filter_bytes: usize,
    /// How long a persistent session outlives its connection.
    pub session_expiry: Duration,
}

impl Default for ServerLimits {
    fn default() -> Self {
        Self {
            max_connections: 20_000,
            max_packet: 1024 * 1024,
            connect_timeout: Duration::from_secs(5),
            in_flight: 1000,
            max_queue: 16 * 1024 * 1024,
            max_queues: 48 * 1024 * 1024,
            max_unfinished: 32 * 1024 * 1024,
            max_retained: 8 * 1024 * 1024,
            max_filters: 1000,
            max_filter_bytes: 1024 * 1024,
            session_expiry: Duration::from_hours(2),
        }
    }
}

impl ServerLimits {
    pub(super) fn session(&self) -> SessionLimits {
        SessionLimits { max_packet: self.max_packet, in_flight: self.in_flight }
    }

    /// Whether so many bytes are kept for all clients together that each of them gets less room.
    pub(super) fn is_crowded(&self, total: usize) -> bool {
        total > self.max_queues / 2
    }
}
