//! Who is told of tapped traffic, and when it passed.

use std::{
    net::SocketAddr,
    time::{Instant, SystemTime},
};

use super::dissector::Observation;

/// Who is told what is said on the tapped connections, a moment later.
pub trait Observer {
    /// A connection said something.
    fn heard(&mut self, heard: Observation<'_>, peer: SocketAddr, at: CaptureTime);
    /// Something is off; the traffic goes on.
    fn warn(&mut self, message: &str);
    /// Nothing more is to be told at present.
    fn paused(&mut self);
}

/// When something passed.
#[derive(Clone, Copy, Debug)]
pub struct CaptureTime {
    /// By the clock that never jumps.
    pub monotonic: Instant,
    /// By the clock on the wall.
    pub wall: SystemTime,
}

impl CaptureTime {
    /// The present.
    #[must_use]
    pub fn now() -> Self {
        Self { monotonic: Instant::now(), wall: SystemTime::now() }
    }
}
