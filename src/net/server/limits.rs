//! What keeps a broker's memory bounded, whatever its clients do.

use std::time::Duration;

use crate::mqtt::SessionLimits;

/// What keeps a broker's memory bounded whatever its clients do.
#[derive(Clone, Debug)]
pub struct ServerLimits {
    /// Connections at once; more are closed at once.
    pub max_connections: usize,
    /// The largest packet that is received, in bytes.
    pub max_packet: usize,
    /// How long a client may take until its CONNECT has come, TLS included.
    pub connect_timeout: Duration,
    /// Messages of QoS 1 and 2 on their way to one client without its acknowledgement.
    pub in_flight: u16,
    /// Bytes that wait for one client beyond what is on its way.
    pub max_queue: usize,
    /// Bytes that are kept for all clients together: what waits, is unwritten, unsent, unacknowledged or unreleased, their
    /// subscriptions, names and wills. Those with most are given up when there is more.
    pub max_queues: usize,
    /// Bytes that have come of unfinished packets, of all clients together; a quarter once half of `max_queues` is taken.
    /// What they have taken beyond that quarter is missing in `max_queues`, of which half stays.
    pub max_unfinished: usize,
    /// Bytes of retained messages.
    pub max_retained: usize,
    /// Subscriptions of one client.
    pub max_filters: usize,
    /// Bytes that the subscriptions of one client may occupy.
    pub max_filter_bytes: usize,
    /// How long a persistent session waits for its client.
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

    /// Whether so much is kept for all clients together that each of them gets less room.
    pub(super) fn is_crowded(&self, total: usize) -> bool {
        total > self.max_queues / 2
    }
}
