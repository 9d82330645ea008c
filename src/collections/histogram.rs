//! How round-trip times are spread, to within a hundredth, in a few kilobytes.

use std::collections::BTreeMap;

/// Values below twice this are kept exactly; above, each doubling has this many steps.
const STEPS: u64 = 64;

/// A histogram whose steps grow with the values.
#[derive(Clone, Debug, Default)]
pub(super) struct Spread {
    /// How many values there are in each step, and their sum.
    steps: BTreeMap<u64, (u64, u128)>,
    count: u64,
    max: u64,
}

impl Spread {
    /// Counts a value.
    pub(super) fn add(&mut self, value: u64) {
        let (count, sum) = self.steps.entry(step(value)).or_default();
        *count += 1;
        *sum += u128::from(value);
        self.count += 1;
        self.max = self.max.max(value);
    }

    /// The value that `percent` of all do not exceed; `None` where there are none.
    pub(super) fn percentile(&self, percent: f64) -> Option<u64> {
        #[allow(
            clippy::cast_precision_loss,
            clippy::cast_possible_truncation,
            clippy::cast_sign_loss,
            reason = "a rank among fewer than 2^52 values"
        )]
        let rank = ((self.count as f64 * percent / 100.0).ceil() as u64).max(1);
        let mut below = 0;
        for (count, sum) in self.steps.values() {
            below += count;
            if below >= rank {
                // The mean of its step, which is exact where there is one value in it.
                return u64::try_from(sum / u128::from(*count)).ok();
            }
        }
        None
    }

    /// The greatest value.
    pub(super) fn max(&self) -> Option<u64> {
        (self.count > 0).then_some(self.max)
    }
}

fn step(value: u64) -> u64 {
    if value < 2 * STEPS {
        return value;
    }
    let doublings = u64::from(value.ilog2() - STEPS.ilog2());
    doublings * STEPS + (value >> doublings)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn percentiles_are_within_a_hundredth() {
        for scale in [1, 1_000, 1_000_000, 1_000_000_000_000] {
            let mut spread = Spread::default();
            for value in 1..=1000 {
                spread.add(value * scale);
            }
            for (percent, expected) in [(50.0, 500), (90.0, 900), (99.0, 990), (100.0, 1000)] {
                let found = spread.percentile(percent).unwrap();
                assert!(found.abs_diff(expected * scale) <= expected * scale / 100, "{percent}: {found}");
            }
            assert_eq!(spread.max(), Some(1000 * scale));
        }
        assert_eq!(Spread::default().percentile(50.0), None);
        let mut spread = Spread::default();
        spread.add(u64::MAX);
        assert_eq!(spread.percentile(1.0), Some(u64::MAX));
    }
}
