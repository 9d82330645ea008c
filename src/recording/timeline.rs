//! The time that passes in a recording.

use std::time::Duration;

/// Recorders that may write to one file and are told apart.
const MAX_RUNS: usize = 8;
/// A wall clock that falls by less was not set back: the recorder wrote its messages slightly out of order.
const DISORDER_US: i64 = 100_000;

/// Merges the two clocks of records into one time that never goes back, for `convert`, `inspect` and `replay`.
///
/// Within a part, which is one run of one recorder, the monotonic clock (`mono_us`) counts. A new part begins when that clock
/// falls, or when the wall clock advances by more than a second and a hundredth beyond it; the pause before the part is the
/// wall clock's. Several recorders in one file are told apart by the distance between their clocks. Records without a
/// monotonic clock go by the wall clock; if that was set back, the step is no pause, and later pauses count.
#[derive(Clone, Debug, Default)]
pub struct Timeline {
    /// The most recent first.
    runs: Vec<RecorderRun>,
    /// How many runs have begun.
    started: u64,
    last: Option<RecordedTime>,
    /// The wall clock's latest time since it was set back, in microseconds since the Unix epoch.
    wall: i64,
}

/// When a record was seen.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct RecordedTime {
    /// The time since the recording's first record.
    pub offset: Duration,
    /// Microseconds since the Unix epoch.
    pub unix_us: i64,
}

/// One run of a recorder, at its last record.
#[derive(Clone, Copy, Debug)]
struct RecorderRun {
    unix_us: i64,
    mono_us: u64,
    time: RecordedTime,
}

impl RecorderRun {
    /// Compares how far the wall clock and the run's own clock advanced; `None` if the own clock falls, or the two differ so
    /// much that the record cannot belong to the run.
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
    /// The two clocks advanced alike.
    Agrees,
    /// The wall clock was set back, or the record is another recorder's.
    SetBack,
}

impl Timeline {
    /// Returns the time of the next record.
    pub fn advance(&mut self, unix_us: i64, mono_us: Option<u64>) -> RecordedTime {
        let pause = self.pause(unix_us);
        let last = self.last.unwrap_or(RecordedTime { offset: Duration::ZERO, unix_us });
        let time = match mono_us {
            None => last.later(pause),
            Some(mono_us) => {
                let time = if let Some(index) = self.find_run(unix_us, mono_us) {
                    let run = self.runs.remove(index);
                    run.time.later(mono_us - run.mono_us)
                } else {
                    self.started += 1;
                    self.runs.truncate(MAX_RUNS - 1);
                    RecordedTime { unix_us: unix_us.max(last.unix_us), ..last.later(pause) }
                };
                self.runs.insert(0, RecorderRun { unix_us, mono_us, time });
                time.max(last)
            }
        };
        self.last = Some(time);
        time
    }

    /// How many parts there are; records without a monotonic clock make one.
    #[must_use]
    pub fn parts(&self) -> u64 {
        self.started.max(u64::from(self.last.is_some()))
    }

    /// Returns the index of the run that a record belongs to.
    fn find_run(&self, unix_us: i64, mono_us: u64) -> Option<usize> {
        let leads = || self.runs.iter().map(|run| run.lead(unix_us, mono_us));
        leads()
            .position(|lead| lead == Some(ClockLead::Agrees))
            // Only for the most recent run: for others a clock that was set back looks like another recorder.
            .or_else(|| leads().next().flatten().map(|_set_back| 0))
    }

    /// Returns the microseconds since the record before, by the wall clock.
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

#[cfg(test)]
mod tests {
    use super::*;

    /// The offsets of records, in milliseconds, and how many parts they make.
    fn offsets(records: &[(i64, Option<u64>)]) -> (Vec<u128>, u64) {
        let mut timeline = Timeline::default();
        let offsets = records
            .iter()
            .map(|(unix_ms, mono_ms)| {
                let time = timeline.advance(unix_ms * 1000, mono_ms.map(|ms| ms * 1000));
                time.offset.as_millis()
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
}
