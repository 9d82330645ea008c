//! The reconnect policy: exponential, with jitter, and an end where reconnecting does no good. Pure.
#![deny(clippy::disallowed_methods, clippy::disallowed_types)]

use std::time::Duration;

const FIRST: Duration = Duration::from_millis(100);
const LONGEST: Duration = Duration::from_secs(30);
/// A connection that lasts this long was of use even if nothing was said.
const LASTING: Duration = Duration::from_secs(30);
/// After this many connections in a row that were lost without progress, reconnecting does no good.
const FRUITLESS: u32 = 5;

/// When to dial again.
#[derive(Debug, Default)]
pub struct Backoff {
    attempts: u32,
    fruitless: u32,
    up_since: Option<Duration>,
    progressed: bool,
    was_up: bool,
}

impl Backoff {
    /// Whether a connection has ever been accepted.
    pub fn was_up(&self) -> bool {
        self.was_up
    }

    /// A connection was accepted.
    pub fn up(&mut self, now: Duration) {
        self.up_since = Some(now);
        self.progressed = false;
        self.was_up = true;
    }

    /// The connection was of use: a message was acknowledged or a request answered.
    pub fn progress(&mut self) {
        self.progressed = true;
    }

    /// A connection, or an attempt at one, was lost; gives the time to wait before the next attempt, or `None`
    /// where five accepted connections in a row were lost without progress.
    ///
    /// `random` is uniform in 0..1 and spreads the clients of a broker that comes back.
    pub fn lost(&mut self, now: Duration, random: f64) -> Option<Duration> {
        if let Some(since) = self.up_since.take() {
            if self.progressed || now.saturating_sub(since) >= LASTING {
                self.attempts = 0;
                self.fruitless = 0;
            } else {
                self.fruitless += 1;
                if self.fruitless >= FRUITLESS {
                    return None;
                }
            }
        }
        let longest = FIRST.saturating_mul(1 << self.attempts.min(10)).min(LONGEST);
        self.attempts += 1;
        Some(longest.mul_f64(0.5 + random / 2.0).max(FIRST))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn at_most_fifteen_attempts_in_the_first_minute_of_an_outage() {
        for random in [0.0, 0.5, 1.0] {
            let mut backoff = Backoff::default();
            backoff.up(Duration::ZERO);
            backoff.progress();
            let mut now = Duration::from_secs(1);
            let end = now + Duration::from_mins(1);
            let mut attempts = 0;
            while now < end {
                let wait = backoff.lost(now, random).unwrap();
                assert!(wait >= FIRST && wait <= LONGEST);
                now += wait;
                attempts += 1;
            }
            assert!(attempts <= 15, "{attempts} attempts with {random}");
        }
    }

    #[test]
    fn progress_makes_the_backoff_start_anew() {
        let mut backoff = Backoff::default();
        for n in 0..8 {
            let _ = backoff.lost(Duration::from_secs(n), 1.0);
        }
        backoff.up(Duration::from_secs(9));
        backoff.progress();
        assert_eq!(backoff.lost(Duration::from_secs(10), 1.0), Some(FIRST));
    }

    #[test]
    fn five_fruitless_connections_are_enough() {
        let mut backoff = Backoff::default();
        for n in 0..5_u64 {
            backoff.up(Duration::from_secs(n));
            assert_eq!(backoff.lost(Duration::from_secs(n), 0.5).is_none(), n == 4);
        }
    }

    #[test]
    fn progress_counts_for_its_own_connection_and_all_before() {
        let mut backoff = Backoff::default();
        assert!(!backoff.was_up());
        for n in 0..12_u64 {
            backoff.up(Duration::from_secs(n));
            assert!(backoff.was_up());
            if n == 3 || n == 7 {
                backoff.progress();
            }
            assert!(backoff.lost(Duration::from_secs(n), 0.5).is_some(), "{n}");
        }
        backoff.up(Duration::from_secs(12));
        assert_eq!(backoff.lost(Duration::from_secs(12), 0.5), None);
    }

    #[test]
    fn a_connection_that_lasted_was_of_use() {
        let mut backoff = Backoff::default();
        for n in 0..10 {
            backoff.up(Duration::from_secs(n * 100));
            assert!(backoff.lost(Duration::from_secs(n * 100 + 30), 0.5).is_some());
        }
    }
}
