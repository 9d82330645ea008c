//! When the messages of a recording are due again: against a fixed start, so that no delay adds up.
#![deny(clippy::disallowed_methods, clippy::disallowed_types)]

use std::time::Duration;

use crate::rate::Rate;

/// The time that has passed in a recording, over the parts that it is made of.
#[derive(Clone, Copy, Debug, Default)]
pub struct Timeline {
    last: Option<(i64, Option<u64>)>,
    offset: Duration,
}

impl Timeline {
    /// The time from the recording's first message to one with these times.
    ///
    /// The recording's own clock counts; where it is missing or falls, which begins a new part, the wall clock
    /// does. Neither ever takes time back.
    pub fn offset(&mut self, unix_us: i64, mono_us: Option<u64>) -> Duration {
        let gap = match (self.last, mono_us) {
            (None, _) => 0,
            (Some((_, Some(before))), Some(now)) if now >= before => now - before,
            (Some((before, _)), _) => u64::try_from(unix_us.saturating_sub(before)).unwrap_or(0),
        };
        self.last = Some((unix_us, mono_us));
        self.offset = self.offset.saturating_add(Duration::from_micros(gap));
        self.offset
    }
}

/// How fast a recording is played.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Pace {
    /// With its own timing, so many times as fast; greater than 0.
    Speed(f64),
    /// Evenly, at this rate.
    Rate(Rate),
    /// As fast as it goes.
    Max,
}

/// When each message is due.
#[derive(Clone, Debug)]
pub struct Schedule {
    pace: Pace,
    max_gap: Duration,
    /// The recorded time of the last message.
    last: Option<Duration>,
    /// The recorded time played so far, long pauses cut.
    played: Duration,
    count: u64,
}

impl Schedule {
    /// A schedule; a pause of the recording longer than `max_gap` counts as that long, before any speed.
    #[must_use]
    pub fn new(pace: Pace, max_gap: Option<Duration>) -> Self {
        Self { pace, max_gap: max_gap.unwrap_or(Duration::MAX), last: None, played: Duration::ZERO, count: 0 }
    }

    /// The time from the start at which the next message, recorded at this offset, is due; the first one is due
    /// at once.
    pub fn due(&mut self, offset: Duration) -> Duration {
        let gap = self.last.map_or(Duration::ZERO, |last| offset.saturating_sub(last)).min(self.max_gap);
        self.last = Some(offset);
        self.played = self.played.saturating_add(gap);
        let number = self.count;
        self.count += 1;
        match self.pace {
            Pace::Max => Duration::ZERO,
            Pace::Speed(speed) => seconds(self.played.as_secs_f64() / speed),
            Pace::Rate(rate) => rate.time_of(number),
        }
    }

    /// Begins the recording again; its first message follows on the last one at once, or after the rate's pause.
    pub fn again(&mut self) {
        self.last = None;
    }
}

fn seconds(seconds: f64) -> Duration {
    Duration::try_from_secs_f64(seconds).unwrap_or(Duration::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ms(ms: u64) -> Duration {
        Duration::from_millis(ms)
    }

    #[test]
    fn parts_follow_each_other_by_the_wall_clock() {
        let mut timeline = Timeline::default();
        let offsets = [
            (5_000_000, Some(100), 0),
            (5_000_000, Some(1_100), 1),
            // The wall clock was set back; the recording's own did not notice.
            (1_000_000, Some(2_100), 2),
            // A new part, 3 s later.
            (4_000_000, Some(0), 3_002),
            (4_000_000, Some(5_000), 3_007),
            // Foreign lines.
            (4_001_000, None, 3_008),
            (4_000_000, None, 3_008),
            (4_003_000, Some(9), 3_011),
        ]
        .map(|(unix_us, mono_us, expected)| (timeline.offset(unix_us, mono_us), ms(expected)));
        for (found, expected) in offsets {
            assert_eq!(found, expected);
        }
    }

    #[test]
    fn messages_are_due_by_their_pace() {
        let offsets = [ms(500), ms(600), ms(600), ms(10_600)];
        let dues = |mut schedule: Schedule| {
            let mut dues: Vec<_> = offsets.iter().map(|offset| schedule.due(*offset)).collect();
            schedule.again();
            dues.extend(offsets[..2].iter().map(|offset| schedule.due(*offset)));
            dues
        };
        assert_eq!(
            dues(Schedule::new(Pace::Speed(1.0), None)),
            [ms(0), ms(100), ms(100), ms(10_100), ms(10_100), ms(10_200)]
        );
        assert_eq!(
            dues(Schedule::new(Pace::Speed(10.0), Some(ms(1000)))),
            [ms(0), ms(10), ms(10), ms(110), ms(110), ms(120)]
        );
        assert_eq!(
            dues(Schedule::new(Pace::Rate("100/s".parse().unwrap()), None)),
            [ms(0), ms(10), ms(20), ms(30), ms(40), ms(50)]
        );
        assert_eq!(dues(Schedule::new(Pace::Max, None)), [ms(0); 6]);
        let mut slow = Schedule::new(Pace::Speed(1e-300), None);
        assert_eq!((slow.due(ms(0)), slow.due(ms(1))), (ms(0), Duration::MAX));
    }
}
