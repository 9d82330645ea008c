//! The traffic over time, in buckets that widen with the recording, so that an hour and a year need the same memory.

use crate::tuya::Channel;

/// The widths of a bucket in microseconds. Each is a multiple of the one before.
const WIDTHS: [i64; 22] = {
    const MS: i64 = 1_000;
    const S: i64 = 1_000 * MS;
    const MIN: i64 = 60 * S;
    const H: i64 = 60 * MIN;
    [
        MS,
        2 * MS,
        10 * MS,
        20 * MS,
        100 * MS,
        200 * MS,
        S,
        2 * S,
        10 * S,
        20 * S,
        MIN,
        2 * MIN,
        10 * MIN,
        20 * MIN,
        H,
        2 * H,
        6 * H,
        12 * H,
        24 * H,
        48 * H,
        480 * H,
        9_600 * H,
    ]
};

/// The largest number of buckets; the next width halves their number, or more.
const BUCKETS: usize = 800;

/// The number of kinds: the channels and `other`.
pub(super) const KINDS: usize = 8;

/// The counts of one bucket.
#[derive(Clone, Debug, Default)]
pub(super) struct TrafficBucket {
    /// Messages by channel, `other` last.
    pub(super) kinds: [u32; KINDS],
    /// Answers with a code other than 0.
    pub(super) refusals: u32,
    /// Round trips by the channel of the request.
    pub(super) round_trips: [RoundTripTimes; KINDS],
}

/// The round trips of one bucket, in microseconds.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct RoundTripTimes {
    pub(super) count: u32,
    pub(super) min: i64,
    pub(super) max: i64,
    pub(super) sum: i64,
}

/// The traffic.
#[derive(Debug, Default)]
pub(super) struct TrafficOverTime {
    width: usize,
    /// The first bucket's start, as a number of widths since 1970.
    start: i64,
    buckets: Vec<TrafficBucket>,
}

impl TrafficOverTime {
    /// Counts a message.
    pub(super) fn message(&mut self, at: i64, channel: Option<Channel>) {
        let kind = channel.map_or(KINDS - 1, |channel| channel as usize);
        let bucket = self.bucket(at);
        bucket.kinds[kind] = bucket.kinds[kind].saturating_add(1);
    }

    /// Counts an answer with a code other than 0.
    pub(super) fn refusal(&mut self, at: i64) {
        self.bucket(at).refusals += 1;
    }

    /// Counts a round trip at the time of its request.
    pub(super) fn round_trip(&mut self, at: i64, request: Channel, time: i64) {
        self.bucket(at).round_trips[request as usize].add(RoundTripTimes {
            count: 1,
            min: time,
            max: time,
            sum: time,
        });
    }

    /// A bucket's width in microseconds.
    pub(super) fn width(&self) -> i64 {
        WIDTHS[self.width]
    }

    /// The buckets, each with its start in microseconds since 1970.
    pub(super) fn buckets(&self) -> impl Iterator<Item = (i64, &TrafficBucket)> {
        self.buckets.iter().zip(self.start..).map(|(bucket, n)| (n * self.width(), bucket))
    }

    fn bucket(&mut self, at: i64) -> &mut TrafficBucket {
        if self.buckets.is_empty() {
            self.start = at.div_euclid(self.width());
        }
        loop {
            // Only requests of a clock that jumped can be older than the first bucket; they are counted there.
            let place = usize::try_from(at.div_euclid(self.width()) - self.start).unwrap_or(0);
            if place < BUCKETS || self.width + 1 == WIDTHS.len() {
                let place = place.min(BUCKETS - 1);
                if self.buckets.len() <= place {
                    self.buckets.resize_with(place + 1, TrafficBucket::default);
                }
                return &mut self.buckets[place];
            }
            self.widen();
        }
    }

    fn widen(&mut self) {
        let ratio = WIDTHS[self.width + 1] / WIDTHS[self.width];
        let start = self.start.div_euclid(ratio);
        let mut wider: Vec<TrafficBucket> = Vec::new();
        for (bucket, n) in self.buckets.drain(..).zip(self.start..) {
            let place = usize::try_from(n.div_euclid(ratio) - start).unwrap_or(0);
            if wider.len() <= place {
                wider.resize_with(place + 1, TrafficBucket::default);
            }
            wider[place].add(&bucket);
        }
        (self.width, self.start, self.buckets) = (self.width + 1, start, wider);
    }
}

impl TrafficBucket {
    fn add(&mut self, other: &Self) {
        for (sum, more) in self.kinds.iter_mut().zip(other.kinds) {
            *sum = sum.saturating_add(more);
        }
        self.refusals = self.refusals.saturating_add(other.refusals);
        for (sum, more) in self.round_trips.iter_mut().zip(other.round_trips) {
            sum.add(more);
        }
    }
}

impl RoundTripTimes {
    fn add(&mut self, other: Self) {
        if other.count == 0 {
            return;
        }
        *self = Self {
            count: self.count.saturating_add(other.count),
            min: if self.count == 0 { other.min } else { self.min.min(other.min) },
            max: self.max.max(other.max),
            sum: self.sum.saturating_add(other.sum),
        };
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_width_is_a_multiple_of_the_one_before() {
        for pair in WIDTHS.windows(2) {
            assert_eq!(pair[1] % pair[0], 0, "{pair:?}");
        }
    }

    #[test]
    fn nothing_is_lost_when_buckets_grow() {
        let mut timeline = TrafficOverTime::default();
        let start = 1_700_000_000_123_456;
        for n in 0..10_000 {
            timeline.message(start + n * 7_777_777, Some(Channel::Report));
            timeline.round_trip(start + n * 7_777_777, Channel::Report, n + 1);
        }
        let sum = |of: &dyn Fn(&TrafficBucket) -> u64| {
            timeline.buckets().map(|(_, bucket)| of(bucket)).sum::<u64>()
        };
        assert_eq!(sum(&|bucket| bucket.kinds[Channel::Report as usize].into()), 10_000);
        assert_eq!(sum(&|bucket| bucket.round_trips[Channel::Report as usize].count.into()), 10_000);
        assert!(timeline.buckets().count() <= BUCKETS);
        let (first, _) = timeline.buckets().next().unwrap();
        assert!(first <= start && start < first + timeline.width());
        let max = timeline.buckets().map(|(_, b)| b.round_trips[Channel::Report as usize].max).max();
        assert_eq!(max, Some(10_000));
    }
}
