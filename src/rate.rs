//! Rates such as `50/s` and `30/m`, and a limiter of messages.
#![deny(clippy::disallowed_methods, clippy::disallowed_types)]

use std::{str::FromStr, time::Duration};

/// How far a late sender may catch up at once; it must exceed the precision of a timer.
const SLACK: Duration = Duration::from_millis(20);
/// Longest interval; a longer one is a mistake, because no duration of the command line is longer.
const LONGEST_INTERVAL: f64 = 366.0 * 24.0 * 3600.0;

/// A number of messages per time; at least one a year.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Rate {
    per_second: f64,
}

impl Rate {
    /// Returns how long after the first message this many others may have left.
    #[must_use]
    pub fn time_of(self, messages: u64) -> Duration {
        #[allow(clippy::cast_precision_loss, reason = "it is exact beyond any number of messages to come")]
        let seconds = messages as f64 / self.per_second;
        Duration::try_from_secs_f64(seconds).unwrap_or(Duration::MAX)
    }
}

impl FromStr for Rate {
    type Err = String;

    /// Reads `N/s`, `N/m`, or a bare `N` a second.
    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let (number, seconds) = match text.split_once('/') {
            None => (text, 1.0),
            Some((number, "s")) => (number, 1.0),
            Some((number, "m" | "min")) => (number, 60.0),
            Some(_) => ("", 1.0),
        };
        let per_second = number.parse::<f64>().ok().map(|number| number / seconds);
        match per_second.filter(|rate| *rate > 0.0 && *rate <= 1e9) {
            Some(per_second) if per_second.recip() <= LONGEST_INTERVAL => Ok(Self { per_second }),
            Some(_) => Err("expected at least one message a year, such as 50/s, 0.5/s or 30/m".into()),
            None => Err("expected a rate such as 50/s, 0.5/s or 30/m".into()),
        }
    }
}

/// Limits messages to a rate, without drift, and without a burst after a stall. A moment is a duration since any fixed
/// origin.
#[derive(Debug)]
pub struct RateLimiter {
    interval: Duration,
    next: Duration,
}

impl RateLimiter {
    /// A limiter whose first message may leave at once.
    #[must_use]
    pub fn new(rate: Rate) -> Self {
        Self { interval: rate.time_of(1), next: Duration::ZERO }
    }

    /// Returns whether a message may leave now.
    #[must_use]
    pub fn allows(&self, now: Duration) -> bool {
        self.next <= now
    }

    /// Returns whether a message may leave now; if so, it counts as sent.
    pub fn take(&mut self, now: Duration) -> bool {
        if !self.allows(now) {
            return false;
        }
        self.next = self.next.max(now.saturating_sub(SLACK)).saturating_add(self.interval);
        true
    }

    /// Returns when the next message may leave.
    #[must_use]
    pub fn next(&self) -> Duration {
        self.next
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn limiter(rate: &str) -> RateLimiter {
        RateLimiter::new(rate.parse().unwrap())
    }

    #[test]
    fn the_beat_does_not_drift() {
        let mut limiter = limiter("100/s");
        let mut sent = 0;
        // A clock that is always late by a little.
        for millisecond in (3..10_000).step_by(7) {
            while limiter.take(Duration::from_millis(millisecond)) {
                sent += 1;
            }
        }
        assert!((998..=1002).contains(&sent), "{sent} in ten seconds");
    }

    #[test]
    fn a_stall_is_not_followed_by_a_burst() {
        let mut limiter = limiter("100/s");
        assert!(limiter.take(Duration::ZERO));
        let mut sent = 0;
        while limiter.take(Duration::from_mins(1)) {
            sent += 1;
        }
        assert!(sent <= 4, "{sent} at once");
    }

    #[test]
    fn rates_are_a_second_or_a_minute() {
        let per_second = |text: &str| text.parse::<Rate>().map(|rate| rate.per_second);
        assert_eq!(per_second("50/s"), Ok(50.0));
        assert_eq!(per_second("50"), Ok(50.0));
        assert_eq!(per_second("30/m"), Ok(0.5));
        assert_eq!(per_second("30/min"), Ok(0.5));
        for bad in ["0/s", "-1", "fast", "1/h", "nan", "inf", "", "/s", "2e9", "1e-20", "1e-320", "5/s/s"] {
            assert!(per_second(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn no_rate_and_no_moment_overflows_the_clock() {
        for rate in ["1e9", "1/m", "2e-6/m", "3.2e-8"] {
            let rate: Rate = rate.parse().unwrap();
            assert!(rate.time_of(u64::MAX) >= rate.time_of(1));
            let mut limiter = RateLimiter::new(rate);
            assert!(limiter.take(Duration::MAX));
            assert!(limiter.next() >= Duration::MAX.saturating_sub(SLACK));
        }
    }
}
