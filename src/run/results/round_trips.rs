//! Round-trip times in constant memory: a histogram whose buckets are at most a thirty-second wide.

use std::time::Duration;

/// Sub-buckets of each power of two.
const FINENESS: u64 = 32;

/// A histogram of round-trip times, to a precision of about 3 percent.
#[derive(Debug, Default)]
pub struct RoundTripHistogram {
    buckets: Vec<u64>,
    count: u64,
    longest: Duration,
}

impl RoundTripHistogram {
    /// Counts a time.
    pub fn add(&mut self, time: Duration) {
        let place = bucket(u64::try_from(time.as_micros()).unwrap_or(u64::MAX));
        if place >= self.buckets.len() {
            self.buckets.resize(place + 1, 0);
        }
        self.buckets[place] += 1;
        self.count += 1;
        self.longest = self.longest.max(time);
    }

    /// Returns the longest time; zero if none was counted.
    pub fn longest(&self) -> Duration {
        self.longest
    }

    /// Returns the time that this percentage did not exceed; `None` if none was counted.
    pub fn percentile(&self, percent: u64) -> Option<Duration> {
        let rank = (self.count * percent).div_ceil(100).max(1);
        let mut seen = 0;
        let place = self.buckets.iter().position(|count| {
            seen += count;
            seen >= rank
        })?;
        Some(Duration::from_micros(upper_end(place)).min(self.longest))
    }
}

fn bucket(microseconds: u64) -> usize {
    let place = if microseconds < FINENESS {
        microseconds
    } else {
        let shift = u64::from(microseconds.ilog2()) - u64::from(FINENESS.ilog2());
        (shift + 1) * FINENESS + ((microseconds >> shift) - FINENESS)
    };
    usize::try_from(place).unwrap_or(usize::MAX)
}

fn upper_end(place: usize) -> u64 {
    let place = place as u64;
    if place < FINENESS {
        return place;
    }
    let shift = place / FINENESS - 1;
    ((place % FINENESS + FINENESS + 1) << shift) - 1
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn percentiles_are_within_a_thirty_second() {
        let mut times = RoundTripHistogram::default();
        assert_eq!(times.percentile(50), None);
        for microseconds in 1..=100_000 {
            times.add(Duration::from_micros(microseconds));
        }
        for (percent, exact) in [(1, 1_000_u64), (50, 50_000), (99, 99_000), (100, 100_000)] {
            let found = u64::try_from(times.percentile(percent).unwrap().as_micros()).unwrap();
            assert!(found >= exact && found <= exact + exact / FINENESS + 1, "p{percent}: {found}");
        }
    }

    #[test]
    fn every_time_lies_in_its_bucket() {
        for microseconds in [0, 1, 31, 32, 33, 63, 64, 1_000, 65_535, 65_536, u64::from(u32::MAX)] {
            let place = bucket(microseconds);
            assert!(upper_end(place) >= microseconds);
            assert!(place == 0 || upper_end(place - 1) < microseconds, "{microseconds}");
        }
    }
}
