//! A histogram whose steps grow with the values: percentiles are exact to one per cent, in a few kilobytes.

/// Values below twice this are counted exactly; above, each doubling has this many steps.
const STEPS: u64 = 64;

/// Counts values, such as round-trip times in microseconds.
#[derive(Clone, Debug, Default)]
pub struct Histogram {
    steps: Vec<Step>,
    count: u64,
    max: u64,
}

#[derive(Clone, Copy, Debug, Default)]
struct Step {
    count: u64,
    sum: u64,
}

impl Histogram {
    /// Counts a value.
    pub fn add(&mut self, value: u64) {
        let index = step_of(value);
        if index >= self.steps.len() {
            self.steps.resize(index + 1, Step::default());
        }
        let step = &mut self.steps[index];
        step.count += 1;
        step.sum = step.sum.saturating_add(value);
        self.count += 1;
        self.max = self.max.max(value);
    }

    /// Returns the value that `percent` of all values do not exceed: the mean of its step, which is exact if that holds one
    /// value. `None` if there are no values.
    #[must_use]
    pub fn percentile(&self, percent: u64) -> Option<u64> {
        let rank = self.count.saturating_mul(percent).div_ceil(100).max(1);
        let mut seen = 0;
        let step = self.steps.iter().find(|step| {
            seen += step.count;
            seen >= rank
        })?;
        step.sum.checked_div(step.count)
    }

    /// The greatest value; `None` if there are no values.
    #[must_use]
    pub fn max(&self) -> Option<u64> {
        (self.count > 0).then_some(self.max)
    }
}

fn step_of(value: u64) -> usize {
    let step = if value < 2 * STEPS {
        value
    } else {
        let doublings = u64::from(value.ilog2() - STEPS.ilog2());
        doublings * STEPS + (value >> doublings)
    };
    usize::try_from(step).unwrap_or(usize::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn percentiles_are_exact_to_one_per_cent() {
        for scale in [1, 1_000, 1_000_000, 1_000_000_000_000] {
            let mut histogram = Histogram::default();
            for value in 1..=1000 {
                histogram.add(value * scale);
            }
            for (percent, expected) in [(1, 10), (50, 500), (90, 900), (99, 990), (100, 1000)] {
                let found = histogram.percentile(percent).unwrap();
                assert!(found.abs_diff(expected * scale) <= expected * scale / 100, "{percent}: {found}");
            }
            assert_eq!(histogram.max(), Some(1000 * scale));
        }
    }

    #[test]
    fn no_value_has_no_percentile_and_the_greatest_one_has() {
        let mut histogram = Histogram::default();
        assert_eq!((histogram.percentile(50), histogram.max()), (None, None));
        histogram.add(u64::MAX);
        assert_eq!((histogram.percentile(1), histogram.max()), (Some(u64::MAX), Some(u64::MAX)));
        histogram.add(0);
        assert_eq!(histogram.percentile(50), Some(0));
    }
}
