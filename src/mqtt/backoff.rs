//! The reconnect policy: exponential, with jitter, and slow while reconnecting achieves nothing. Pure.

use std::{fmt, time::Duration};

const FIRST: Duration = Duration::from_millis(100);
const LONGEST: Duration = Duration::from_secs(30);
/// A connection that lasts this long counts as progress, even without a message.
const LASTING: Duration = Duration::from_secs(30);
/// After this many connections in a row that were lost without progress, dialling quickly achieves nothing.
const FRUITLESS: u32 = 5;

/// When to dial again.
#[derive(Debug, Default)]
pub struct Backoff {
    attempts: u32,
    /// How many accepted connections in a row were lost without progress, and since when the first one was up.
    fruitless: u32,
    fruitless_since: Duration,
    up_since: Option<Duration>,
    progressed: bool,
    was_up: bool,
}

/// The consequence of a loss.
#[derive(Debug, PartialEq, Eq)]
pub struct Pause {
    /// The time to wait before the next attempt.
    pub wait: Duration,
    /// The losses so far, if at least five accepted connections in a row were lost without progress.
    pub fruitless: Option<Fruitless>,
}

/// Connections that were accepted and lost in a row without progress.
#[derive(Debug, PartialEq, Eq)]
pub struct Fruitless {
    /// How many there were.
    pub losses: u32,
    /// The time from the first one's CONNACK to the last one's loss.
    pub within: Duration,
}

impl fmt::Display for Fruitless {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { losses, within } = self;
        write!(f, "{losses} times in a row without progress, within ")?;
        match within.as_secs() {
            0..10 => write!(f, "{:.1} s", within.as_secs_f64()),
            seconds @ 10..60 => write!(f, "{seconds} s"),
            seconds @ 60..3600 => write!(f, "{} min {} s", seconds / 60, seconds % 60),
            seconds => write!(f, "{} h {} min", seconds / 3600, seconds / 60 % 60),
        }
    }
}

impl Backoff {
    /// Whether a connection has ever been accepted.
    pub fn was_up(&self) -> bool {
        self.was_up
    }

    /// Records an accepted connection.
    pub fn handle_connected(&mut self, now: Duration) {
        self.up_since = Some(now);
        self.progressed = false;
        self.was_up = true;
    }

    /// Records progress: an acknowledged message, an answered request, or the arrival of a message that was subscribed to.
    pub fn handle_progress(&mut self) {
        self.progressed = true;
    }

    /// Records the loss of a connection, or a failed attempt.
    ///
    /// `random` is uniform in 0..1 and spreads the clients of a broker that comes back.
    pub fn handle_lost(&mut self, now: Duration, random: f64) -> Pause {
        let mut fruitless = None;
        if let Some(since) = self.up_since.take() {
            if self.progressed || now.saturating_sub(since) >= LASTING {
                self.attempts = 0;
                self.fruitless = 0;
            } else {
                if self.fruitless == 0 {
                    self.fruitless_since = since;
                }
                self.fruitless = self.fruitless.saturating_add(1);
                let within = now.saturating_sub(self.fruitless_since);
                fruitless =
                    Some(Fruitless { losses: self.fruitless, within }).filter(|_| self.is_fruitless());
            }
        }
        let longest = FIRST.saturating_mul(1 << self.attempts.min(10)).min(LONGEST);
        self.attempts = self.attempts.saturating_add(1);
        let wait = if self.is_fruitless() { LONGEST } else { longest.mul_f64(0.5 + random / 2.0).max(FIRST) };
        Pause { wait, fruitless }
    }

    fn is_fruitless(&self) -> bool {
        self.fruitless >= FRUITLESS
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn at_most_fifteen_attempts_in_the_first_minute_of_an_outage() {
        for random in [0.0, 0.5, 1.0] {
            let mut backoff = Backoff::default();
            backoff.handle_connected(Duration::ZERO);
            backoff.handle_progress();
            let mut now = Duration::from_secs(1);
            let end = now + Duration::from_mins(1);
            let mut attempts = 0;
            while now < end {
                let wait = backoff.handle_lost(now, random).wait;
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
            let _ = backoff.handle_lost(Duration::from_secs(n), 1.0);
        }
        backoff.handle_connected(Duration::from_secs(9));
        backoff.handle_progress();
        assert_eq!(backoff.handle_lost(Duration::from_secs(10), 1.0), Pause { wait: FIRST, fruitless: None });
    }

    #[test]
    fn from_the_fifth_fruitless_connection_on_losses_and_their_true_time_are_told_and_the_pause_is_the_longest()
     {
        let mut backoff = Backoff::default();
        for n in 1..=20_u32 {
            // Each is up for 2 s, and 12 s after the one before it.
            let up = Duration::from_secs(12) * n;
            backoff.handle_connected(up);
            let pause = backoff.handle_lost(up + Duration::from_secs(2), 0.0);
            let within = Duration::from_secs(2) + Duration::from_secs(12) * (n - 1);
            let told = (n >= FRUITLESS).then_some(Fruitless { losses: n, within });
            assert_eq!(pause.fruitless, told);
            assert_eq!(pause.wait == LONGEST, n >= FRUITLESS, "{n}");
        }
        // An attempt that fails tells nothing new, and is no reason to hurry.
        let pause = backoff.handle_lost(Duration::from_mins(10), 0.0);
        assert_eq!(pause, Pause { wait: LONGEST, fruitless: None });
        backoff.handle_connected(Duration::from_mins(11));
        backoff.handle_progress();
        assert_eq!(backoff.handle_lost(Duration::from_mins(11), 0.0), Pause { wait: FIRST, fruitless: None });
    }

    #[test]
    fn the_time_of_fruitless_losses_is_told_in_the_unit_that_fits() {
        let told = |ms| Fruitless { losses: 5, within: Duration::from_millis(ms) }.to_string();
        let at = "5 times in a row without progress, within ";
        for (ms, time) in
            [(1_530, "1.5 s"), (48_900, "48 s"), (150_000, "2 min 30 s"), (7_500_000, "2 h 5 min")]
        {
            assert_eq!(told(ms).strip_prefix(at), Some(time));
        }
    }

    #[test]
    fn progress_counts_for_its_own_connection_and_all_before() {
        let mut backoff = Backoff::default();
        assert!(!backoff.was_up());
        for n in 0..12_u64 {
            backoff.handle_connected(Duration::from_secs(n));
            assert!(backoff.was_up());
            if n == 3 || n == 7 {
                backoff.handle_progress();
            }
            assert_eq!(backoff.handle_lost(Duration::from_secs(n), 0.5).fruitless, None, "{n}");
        }
        backoff.handle_connected(Duration::from_secs(12));
        let fruitless = Fruitless { losses: 5, within: Duration::from_secs(4) };
        assert_eq!(backoff.handle_lost(Duration::from_secs(12), 0.5).fruitless, Some(fruitless));
    }

    #[test]
    fn a_connection_that_lasted_was_of_use() {
        let mut backoff = Backoff::default();
        for n in 0..10 {
            backoff.handle_connected(Duration::from_secs(n * 100));
            assert_eq!(backoff.handle_lost(Duration::from_secs(n * 100 + 30), 0.5).fruitless, None);
        }
    }
}
