//! When the messages of a recording are due again: against a fixed start, so that no delay adds up.

use std::time::Duration;

use crate::rate::Rate;

/// How many parts of a recording are told apart at once: so many recorders may write to one file.
const PARTS: usize = 8;
/// A wall clock that falls by less was not set back: the recorder wrote its messages slightly out of order.
const DISORDER_US: i64 = 100_000;
/// A longer pause surprises: a clock that was set forward is the likeliest reason.
const LONG_PAUSE: Duration = Duration::from_hours(24);

/// The one rule for the time that passes in a recording, for `convert`, `inspect` and `replay`.
///
/// Within a part, which is one run of one recorder, the recording's own clock counts. A new part begins where that
/// clock falls, or where the wall clock advances by much more (a second and a hundredth); the pause before it is
/// the wall clock's. Records of several recorders in one file are told apart by the distance between their clocks.
/// Records without a clock of their own go by the wall clock; where it was set back, the step is no pause, and the
/// pauses behind it count. Time never goes back.
#[derive(Clone, Debug, Default)]
pub struct Timeline {
    /// The latest first.
    parts: Vec<RecorderRun>,
    started: u64,
    last: Option<RecordedTime>,
    /// The wall clock's latest time since it was set back.
    wall: i64,
}

/// When a record was seen.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct RecordedTime {
    /// The time since the recording's first record.
    pub offset: Duration,
    /// Microseconds since 1970.
    pub unix_us: i64,
}

/// One run of a recorder, at its last record.
#[derive(Clone, Copy, Debug)]
struct RecorderRun {
    unix_us: i64,
    mono_us: u64,
    moment: RecordedTime,
}

impl RecorderRun {
    /// By how much the wall clock advanced more than the part's own; `None` where that one falls, or the two differ so
    /// much that the record cannot belong to the part.
    fn lead(&self, unix_us: i64, mono_us: u64) -> Option<ClockLead> {
        let own = i64::try_from(mono_us.checked_sub(self.mono_us)?).unwrap_or(i64::MAX);
        let lead = unix_us.saturating_sub(self.unix_us).saturating_sub(own);
        let tolerance = 1_000_000 + own / 100;
        match lead {
            _ if lead > tolerance => None,
            _ if lead < -tolerance => Some(ClockLead::SetBack),
            _ => Some(ClockLead::Agrees),
        }
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum ClockLead {
    Agrees,
    /// The wall clock was set back, or the record is another recorder's.
    SetBack,
}

impl Timeline {
    /// The moment of the next record.
    pub fn tick(&mut self, unix_us: i64, mono_us: Option<u64>) -> RecordedTime {
        let pause = self.pause(unix_us);
        let last = self.last.unwrap_or(RecordedTime { offset: Duration::ZERO, unix_us });
        let moment = match mono_us {
            None => last.later(pause),
            Some(mono_us) => {
                let moment = if let Some(index) = self.part(unix_us, mono_us) {
                    let part = self.parts.remove(index);
                    part.moment.later(mono_us - part.mono_us)
                } else {
                    self.started += 1;
                    self.parts.truncate(PARTS - 1);
                    RecordedTime { unix_us: unix_us.max(last.unix_us), ..last.later(pause) }
                };
                self.parts.insert(0, RecorderRun { unix_us, mono_us, moment });
                moment.max(last)
            }
        };
        self.last = Some(moment);
        moment
    }

    /// How many parts there are; records without a clock of their own make one.
    #[must_use]
    pub fn parts(&self) -> u64 {
        self.started.max(u64::from(self.last.is_some()))
    }

    /// The part that a record belongs to.
    fn part(&self, unix_us: i64, mono_us: u64) -> Option<usize> {
        let leads = || self.parts.iter().map(|part| part.lead(unix_us, mono_us));
        leads()
            .position(|lead| lead == Some(ClockLead::Agrees))
            // Of a recorder that is not the last one a clock that was set back cannot be told from another recorder.
            .or_else(|| leads().next().flatten().map(|_set_back| 0))
    }

    /// The microseconds since the record before, by the wall clock.
    fn pause(&mut self, unix_us: i64) -> u64 {
        if self.last.is_none() {
            self.wall = unix_us;
            return 0;
        }
        let pause = unix_us.saturating_sub(self.wall);
        if pause >= 0 || pause <= -DISORDER_US {
            self.wall = unix_us;
        }
        u64::try_from(pause).unwrap_or(0)
    }
}

impl RecordedTime {
    fn later(self, us: u64) -> Self {
        Self {
            offset: self.offset.saturating_add(Duration::from_micros(us)),
            unix_us: self.unix_us.saturating_add_unsigned(us),
        }
    }

    fn max(self, other: Self) -> Self {
        Self { offset: self.offset.max(other.offset), unix_us: self.unix_us.max(other.unix_us) }
    }
}

/// How fast a recording is played.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum ReplaySpeed {
    /// With its own timing, so many times as fast; greater than 0.
    Speed(f64),
    /// Evenly, at this rate.
    Rate(Rate),
    /// As fast as it goes.
    Max,
}

/// When each message is due.
#[derive(Clone, Debug)]
pub struct ReplaySchedule {
    pace: ReplaySpeed,
    max_gap: Duration,
    /// The recorded time of the last message.
    last: Option<Duration>,
    /// The recorded time played so far, long pauses cut.
    played: Duration,
    count: u64,
}

impl ReplaySchedule {
    /// A schedule; a pause of the recording longer than `max_gap` counts as that long, before any speed.
    #[must_use]
    pub fn new(pace: ReplaySpeed, max_gap: Option<Duration>) -> Self {
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
            ReplaySpeed::Max => Duration::ZERO,
            ReplaySpeed::Speed(speed) => seconds(self.played.as_secs_f64() / speed),
            ReplaySpeed::Rate(rate) => rate.time_of(number),
        }
    }

    /// The recording's pause before the next message, if it is more than a day and will be waited for.
    #[must_use]
    pub fn long_pause(&self, offset: Duration) -> Option<Duration> {
        let pause = offset.saturating_sub(self.last?).min(self.max_gap);
        let ReplaySpeed::Speed(speed) = self.pace else { return None };
        let is_felt = pause.as_secs_f64() / speed > 60.0;
        (pause > LONG_PAUSE && is_felt).then_some(pause)
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

    /// The offsets of records, in milliseconds, and how many parts they make.
    fn offsets(records: &[(i64, Option<u64>)]) -> (Vec<u128>, u64) {
        let mut timeline = Timeline::default();
        let offsets = records
            .iter()
            .map(|(unix_ms, mono_ms)| {
                let moment = timeline.tick(unix_ms * 1000, mono_ms.map(|ms| ms * 1000));
                moment.offset.as_millis()
            })
            .collect();
        (offsets, timeline.parts())
    }

    #[test]
    fn parts_follow_each_other_by_the_wall_clock() {
        let found = offsets(&[
            (5_000, Some(100)),
            (5_000, Some(101)),
            // The wall clock was set back; the recording's own did not notice.
            (1_000, Some(102)),
            // A new part, 3 s later.
            (4_000, Some(0)),
            (4_000, Some(5)),
            // Foreign lines.
            (4_001, None),
            (4_000, None),
            (4_004, Some(9)),
        ]);
        assert_eq!(found, (vec![0, 1, 2, 3_002, 3_007, 3_008, 3_008, 3_011], 2));
    }

    #[test]
    fn a_run_that_was_appended_begins_a_part_though_its_clock_is_ahead() {
        // The first run ended 0.2 s after its start, and the first record of the second came 1.5 s after its own.
        let found = offsets(&[(1_000, Some(200)), (6_500, Some(1_500)), (6_600, Some(1_600))]);
        assert_eq!(found, (vec![0, 5_500, 5_600], 2));
        let day = 86_400_000;
        assert_eq!(offsets(&[(1_000, Some(200)), (day, Some(300))]).0, [0, 86_399_000]);
        // A machine that slept: its own clock stood still.
        assert_eq!(offsets(&[(0, Some(0)), (600_000, Some(1_000))]), (vec![0, 600_000], 2));
        // Clocks of one run may drift apart by a hundredth.
        assert_eq!(offsets(&[(0, Some(0)), (604_000, Some(600_000))]), (vec![0, 600_000], 1));
    }

    #[test]
    fn two_recorders_in_one_file_are_two_parts() {
        let found = offsets(&[
            (1_000, Some(900_000)),
            (1_100, Some(0)),
            (1_200, Some(900_200)),
            (1_300, Some(200)),
            // The second one's line was written first.
            (1_450, Some(350)),
            (1_400, Some(900_400)),
            (1_500, Some(400)),
        ]);
        assert_eq!(found, (vec![0, 100, 200, 300, 450, 450, 500], 2));
    }

    #[test]
    fn a_wall_clock_that_was_set_back_makes_no_pause_and_loses_none() {
        let foreign = |times: &[i64]| offsets(&times.iter().map(|ms| (*ms, None)).collect::<Vec<_>>()).0;
        assert_eq!(foreign(&[100_000, 101_000, 50_000, 51_000, 53_000]), [0, 1_000, 1_000, 2_000, 4_000]);
        // Messages that were written slightly out of order add nothing.
        assert_eq!(foreign(&[0, 10, 4, 9, 20, 19, 30]), [0, 10, 10, 10, 20, 20, 30]);
        // The same once such lines were converted.
        let converted =
            [(100_000, Some(0)), (101_000, Some(1_000)), (50_000, Some(1_000)), (51_000, Some(2_000))];
        assert_eq!(offsets(&converted), (vec![0, 1_000, 1_000, 2_000], 1));
    }

    #[test]
    fn a_pause_of_more_than_a_day_that_will_be_waited_for_is_told() {
        let days = |days: u64| Duration::from_secs(days * 86_400);
        let long = |pace, max_gap| {
            let mut schedule = ReplaySchedule::new(pace, max_gap);
            schedule.due(ms(0));
            schedule.long_pause(days(3))
        };
        assert_eq!(long(ReplaySpeed::Speed(1.0), None), Some(days(3)));
        assert_eq!(long(ReplaySpeed::Speed(1.0), Some(days(2))), Some(days(2)));
        for (pace, max_gap) in [
            (ReplaySpeed::Speed(1.0), Some(days(1))),
            (ReplaySpeed::Speed(1e6), None),
            (ReplaySpeed::Max, None),
            (ReplaySpeed::Rate("1/s".parse().unwrap()), None),
        ] {
            assert_eq!(long(pace, max_gap), None, "{pace:?}");
        }
        assert_eq!(ReplaySchedule::new(ReplaySpeed::Speed(1.0), None).long_pause(days(3)), None);
    }

    #[test]
    fn messages_are_due_by_their_pace() {
        let offsets = [ms(500), ms(600), ms(600), ms(10_600)];
        let dues = |mut schedule: ReplaySchedule| {
            let mut dues: Vec<_> = offsets.iter().map(|offset| schedule.due(*offset)).collect();
            schedule.again();
            dues.extend(offsets[..2].iter().map(|offset| schedule.due(*offset)));
            dues
        };
        assert_eq!(
            dues(ReplaySchedule::new(ReplaySpeed::Speed(1.0), None)),
            [ms(0), ms(100), ms(100), ms(10_100), ms(10_100), ms(10_200)]
        );
        assert_eq!(
            dues(ReplaySchedule::new(ReplaySpeed::Speed(10.0), Some(ms(1000)))),
            [ms(0), ms(10), ms(10), ms(110), ms(110), ms(120)]
        );
        assert_eq!(
            dues(ReplaySchedule::new(ReplaySpeed::Rate("100/s".parse().unwrap()), None)),
            [ms(0), ms(10), ms(20), ms(30), ms(40), ms(50)]
        );
        assert_eq!(dues(ReplaySchedule::new(ReplaySpeed::Max, None)), [ms(0); 6]);
        let mut slow = ReplaySchedule::new(ReplaySpeed::Speed(1e-300), None);
        assert_eq!((slow.due(ms(0)), slow.due(ms(1))), (ms(0), Duration::MAX));
    }
}
