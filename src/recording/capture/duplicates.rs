//! Finds segments that were captured a second time, before or after an address translation.

use std::{
    collections::{HashMap, VecDeque},
    hash::BuildHasher as _,
};

use super::frame::{Endpoints, Segment};
use crate::collections::Keyed;

/// The segments of the last second. A copy has other addresses, and the same ports, numbers and bytes.
#[derive(Debug, Default)]
pub(super) struct RecentSegments {
    keyed: Keyed,
    /// Addresses and time, by a hash of everything else.
    seen: HashMap<u64, (Endpoints, i64)>,
    /// The hashes and times, the oldest first.
    order: VecDeque<(u64, i64)>,
}

impl RecentSegments {
    /// How far apart the two may be captured.
    const WINDOW_US: u64 = 1_000_000;
    const CAPACITY: usize = 65_536;

    /// Adds a segment. Returns whether it is a copy of one with other addresses.
    pub fn insert(&mut self, segment: &Segment<'_>, unix_us: i64) -> bool {
        let Segment { source, target, sequence, acknowledged, payload, .. } = segment;
        let ports = (source.port(), target.port());
        let hash = self.keyed.hash_one((ports, sequence, acknowledged, payload));
        while let Some((oldest, at)) = self.order.front().copied()
            && (self.order.len() >= Self::CAPACITY || unix_us.abs_diff(at) > Self::WINDOW_US)
        {
            self.order.pop_front();
            if self.seen.get(&oldest).is_some_and(|(_, seen)| *seen == at) {
                self.seen.remove(&oldest);
            }
        }
        let known = self.seen.get(&hash).copied();
        if known.is_none() {
            self.seen.insert(hash, ((*source, *target), unix_us));
            self.order.push_back((hash, unix_us));
        }
        known.is_some_and(|(endpoints, _)| endpoints != (*source, *target))
    }
}
