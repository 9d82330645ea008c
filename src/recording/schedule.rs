//! When the messages of a recording are due: relative to a fixed start, because delays would add up otherwise.

use std::time::Duration;

use crate::rate::Rate;

/// A longer pause is reported, because its likeliest reason is a clock that was set forward.
const LONG_PAUSE: Duration = Duration::from_hours(24);

/// How fast a recording is replayed.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum ReplaySpeed {
    /// With its own timing, by this factor, which is greater than 0.
    Factor(f64),
    /// Evenly, at this rate.
    Rate(Rate),
    /// As fast as possible.
    Max,
}

/// Computes when each message is due.
#[derive(Clone, Debug)]
pub struct ReplaySchedule {
    speed: ReplaySpeed,
    max_gap: Duration,
    /// The offset of the last message in the recording.
    last: Option<Duration>,
    /// The recorded time replayed so far, with long pauses cut.
    played: Duration,
    count: u64,
}

impl ReplaySchedule {
    /// Returns a schedule that cuts pauses of the recording to `max_gap`, before `speed` applies.
    #[must_use]
    pub fn new(speed: ReplaySpeed, max_gap: Option<Duration>) -> Self {
        Self {
            speed,
            max_gap: max_gap.unwrap_or(Duration::MAX),
            last: None,
            played: Duration::ZERO,
            count: 0,
        }
    }

    /// Returns when the next message, recorded at this offset, is due, as the time since the start of the replay. The first
    /// one is due at once.
    pub fn due(&mut self, offset: Duration) -> Duration {
        let gap = self.last.map_or(Duration::ZERO, |last| offset.saturating_sub(last)).min(self.max_gap);
        self.last = Some(offset);
        self.played = self.played.saturating_add(gap);
        let number = self.count;
        self.count += 1;
        match self.speed {
            ReplaySpeed::Max => Duration::ZERO,
            ReplaySpeed::Factor(factor) => seconds(self.played.as_secs_f64() / factor),
            ReplaySpeed::Rate(rate) => rate.time_of(number),
        }
    }

    /// Returns the recording's pause before the next message, if it is longer than a day and takes longer than a minute.
    #[must_use]
    pub fn long_pause(&self, offset: Duration) -> Option<Duration> {
        let pause = offset.saturating_sub(self.last?).min(self.max_gap);
        let ReplaySpeed::Factor(factor) = self.speed else { return None };
        let is_noticeable = pause.as_secs_f64() / factor > 60.0;
        (pause > LONG_PAUSE && is_noticeable).then_some(pause)
    }

    /// Begins the recording again. Its first message is due together with the last one, or after the rate's pause.
    pub fn restart(&mut self) {
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
    fn a_pause_of_more_than_a_day_that_will_be_waited_for_is_told() {
        let days = |days: u64| Duration::from_secs(days * 86_400);
        let long = |pace, max_gap| {
            let mut schedule = ReplaySchedule::new(pace, max_gap);
            schedule.due(ms(0));
            schedule.long_pause(days(3))
        };
        assert_eq!(long(ReplaySpeed::Factor(1.0), None), Some(days(3)));
        assert_eq!(long(ReplaySpeed::Factor(1.0), Some(days(2))), Some(days(2)));
        for (pace, max_gap) in [
            (ReplaySpeed::Factor(1.0), Some(days(1))),
            (ReplaySpeed::Factor(1e6), None),
            (ReplaySpeed::Max, None),
            (ReplaySpeed::Rate("1/s".parse().unwrap()), None),
        ] {
            assert_eq!(long(pace, max_gap), None, "{pace:?}");
        }
        assert_eq!(ReplaySchedule::new(ReplaySpeed::Factor(1.0), None).long_pause(days(3)), None);
    }

    #[test]
    fn messages_are_due_by_their_pace() {
        let offsets = [ms(500), ms(600), ms(600), ms(10_600)];
        let dues = |mut schedule: ReplaySchedule| {
            let mut dues: Vec<_> = offsets.iter().map(|offset| schedule.due(*offset)).collect();
            schedule.restart();
            dues.extend(offsets[..2].iter().map(|offset| schedule.due(*offset)));
            dues
        };
        assert_eq!(
            dues(ReplaySchedule::new(ReplaySpeed::Factor(1.0), None)),
            [ms(0), ms(100), ms(100), ms(10_100), ms(10_100), ms(10_200)]
        );
        assert_eq!(
            dues(ReplaySchedule::new(ReplaySpeed::Factor(10.0), Some(ms(1000)))),
            [ms(0), ms(10), ms(10), ms(110), ms(110), ms(120)]
        );
        assert_eq!(
            dues(ReplaySchedule::new(ReplaySpeed::Rate("100/s".parse().unwrap()), None)),
            [ms(0), ms(10), ms(20), ms(30), ms(40), ms(50)]
        );
        assert_eq!(dues(ReplaySchedule::new(ReplaySpeed::Max, None)), [ms(0); 6]);
        let mut slow = ReplaySchedule::new(ReplaySpeed::Factor(1e-300), None);
        assert_eq!((slow.due(ms(0)), slow.due(ms(1))), (ms(0), Duration::MAX));
    }
}
