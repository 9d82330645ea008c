//! The consumer of tapped traffic.

use std::{
    net::SocketAddr,
    time::{Instant, SystemTime},
};

use super::dissector::Observation;

/// Consumes what was decoded on the tapped connections. Called on the decoding thread.
pub trait Observer {
    /// Something was decoded on the connection of the client `peer`; the bytes passed at the time `at`.
    fn handle_observation(&mut self, observation: Observation<'_>, peer: SocketAddr, at: CaptureTime);
    /// Warns of a problem; the traffic goes on.
    fn warn(&mut self, message: &str);
    /// There is nothing more to observe at present.
    fn flush(&mut self);
}

/// When bytes passed.
#[derive(Clone, Copy, Debug)]
pub struct CaptureTime {
    /// On the monotonic clock.
    pub monotonic: Instant,
    /// On the wall clock.
    pub wall: SystemTime,
}

impl CaptureTime {
    /// The present.
    #[must_use]
    pub fn now() -> Self {
        Self { monotonic: Instant::now(), wall: SystemTime::now() }
    }
}
