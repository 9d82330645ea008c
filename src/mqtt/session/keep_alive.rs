//! When to ping, and when to close the connection of a silent peer (MQTT 3.1.1, section 3.1.2.10).

use std::{fmt, time::Duration};

use crate::mqtt::codec::Side;

/// The peer has sent nothing for 1.5 times the keep-alive interval.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Silence {
    /// How long nothing has come.
    pub quiet: Duration,
}

impl fmt::Display for Silence {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let tenths = self.quiet.as_millis() / 100;
        write!(f, "nothing was received for {}.{} s", tenths / 10, tenths % 10)
    }
}

impl std::error::Error for Silence {}

/// The clock of one transport. A moment is a `Duration` since the caller's own origin.
#[derive(Debug, Default)]
pub(super) struct KeepAlive {
    seconds: u16,
    /// The latest time that the session was given.
    now: Duration,
    sent: Duration,
    heard: Duration,
    pinged: bool,
}

impl KeepAlive {
    /// Begins to count for a new transport, with keep-alive off.
    pub fn open(&mut self, now: Duration) {
        *self = Self { seconds: 0, now, sent: now, heard: now, pinged: false };
    }

    pub fn start(&mut self, seconds: u16) {
        self.seconds = seconds;
        self.heard = self.now;
    }

    pub fn set_now(&mut self, now: Duration) {
        self.now = self.now.max(now);
    }

    /// Records a write. The session learns the time only now and then, so the date may be too early, never too late; a
    /// ping then comes sooner than it must.
    pub fn handle_sent(&mut self) {
        self.sent = self.now;
    }

    pub fn handle_received(&mut self) {
        self.heard = self.now;
    }

    pub fn handle_ping(&mut self) {
        self.pinged = true;
    }

    /// Takes a PINGRESP; returns whether one was expected.
    pub fn handle_pingresp(&mut self) -> bool {
        std::mem::take(&mut self.pinged)
    }

    /// The next moment at which [`KeepAlive::handle_timeout`] acts.
    pub fn next_timeout(&self, end: Side) -> Option<Duration> {
        (self.seconds > 0).then(|| match end {
            Side::Client => self.silent_at().min(self.ping_at()),
            Side::Server => self.silent_at(),
        })
    }

    /// Whether a client must ping now.
    pub fn handle_timeout(&self, end: Side) -> Result<bool, Silence> {
        if self.seconds == 0 {
            return Ok(false);
        }
        if self.now >= self.silent_at() {
            return Err(Silence { quiet: self.now.saturating_sub(self.heard) });
        }
        Ok(end == Side::Client && self.now >= self.ping_at())
    }

    fn silent_at(&self) -> Duration {
        self.heard + Duration::from_millis(u64::from(self.seconds) * 1500)
    }

    /// A client pings when it sent nothing for the interval, as the standard says, and also when it received
    /// nothing for that long, because a client that only publishes with QoS 0 receives nothing else.
    fn ping_at(&self) -> Duration {
        let quiet_since = if self.pinged { self.sent } else { self.sent.min(self.heard) };
        quiet_since + Duration::from_secs(self.seconds.into())
    }
}
