//! The pace of `--rate`: messages against a fixed beat, without drift and without a burst after a stall.

use std::time::Duration;

/// How far behind its beat a run may catch up at once; it must exceed the timer's coarseness.
const SLACK: Duration = Duration::from_millis(20);

/// A beat of messages. A moment is a duration since any fixed origin.
#[derive(Debug)]
pub struct Pace {
    interval: Duration,
    next: Duration,
}

impl Pace {
    /// A pace of so many messages a second, more than 0.
    #[must_use]
    pub fn new(rate: f64) -> Self {
        Self { interval: Duration::from_secs_f64(1.0 / rate), next: Duration::ZERO }
    }

    /// Whether a message may leave now; it then counts as having left.
    pub fn may_send(&mut self, now: Duration) -> bool {
        if self.next > now {
            return false;
        }
        self.next = self.next.max(now.saturating_sub(SLACK)) + self.interval;
        true
    }

    /// When the next message may leave.
    #[must_use]
    pub fn next(&self) -> Duration {
        self.next
    }
}

/// Parses `N/s`, `N/m` or a bare `N` a second.
pub fn rate(text: &str) -> Result<f64, String> {
    let (number, per) = match text.split_once('/') {
        None | Some((_, "s")) => (text.trim_end_matches("/s"), 1.0),
        Some((number, "m" | "min")) => (number, 60.0),
        Some(_) => (text, 1.0),
    };
    match number.parse::<f64>() {
        Ok(number) if number.is_finite() && number > 0.0 && number <= 1e9 => Ok(number / per),
        _ => Err("a rate is written 50/s, 0.5/s or 30/m".to_owned()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_beat_does_not_drift() {
        let mut pace = Pace::new(100.0);
        let mut sent = 0;
        // A clock that is always late by a little.
        for millisecond in (3..10_000).step_by(7) {
            while pace.may_send(Duration::from_millis(millisecond)) {
                sent += 1;
            }
        }
        assert!((998..=1002).contains(&sent), "{sent} in ten seconds");
    }

    #[test]
    fn a_stall_is_not_followed_by_a_burst() {
        let mut pace = Pace::new(100.0);
        assert!(pace.may_send(Duration::ZERO));
        let mut sent = 0;
        while pace.may_send(Duration::from_mins(1)) {
            sent += 1;
        }
        assert!(sent <= 4, "{sent} at once");
    }

    #[test]
    fn rates_are_a_second_or_a_minute() {
        assert_eq!(rate("50/s"), Ok(50.0));
        assert_eq!(rate("50"), Ok(50.0));
        assert_eq!(rate("30/m"), Ok(0.5));
        for bad in ["0/s", "-1", "fast", "1/h", "nan", ""] {
            assert!(rate(bad).is_err(), "{bad}");
        }
    }
}
