//! Finds segments that were captured a second time, before or after an address translation.

use std::hash::BuildHasher as _;

use super::frame::{Endpoints, Segment};
use crate::collections::{Keyed, Recent};

/// How far apart the two may be captured.
const WINDOW_US: u64 = 1_000_000;
const CAPACITY: usize = 65_536;

/// The segments of the last second. A copy has other addresses, and the same ports, numbers and bytes.
#[derive(Debug)]
pub(super) struct RecentSegments {
    keyed: Keyed,
    /// Addresses and time, by a hash of everything else.
    seen: Recent<u64, (Endpoints, i64)>,
}

impl Default for RecentSegments {
    fn default() -> Self {
        Self { keyed: Keyed::default(), seen: Recent::new(CAPACITY) }
    }
}

impl RecentSegments {
    /// Adds a segment. Returns whether it is a copy of one with other addresses.
    pub fn insert(&mut self, segment: &Segment<'_>, unix_us: i64) -> bool {
        let Segment { source, target, sequence, acknowledged, payload, .. } = segment;
        let (endpoints, ports) = ((*source, *target), (source.port(), target.port()));
        let hash = self.keyed.hash_one((ports, sequence, acknowledged, payload));
        while self.seen.oldest().is_some_and(|(_, (_, at))| unix_us.abs_diff(*at) > WINDOW_US) {
            self.seen.pop_oldest();
        }
        if let Some((known, _)) = self.seen.get(&hash) {
            return *known != endpoints;
        }
        self.seen.insert(hash, (endpoints, unix_us));
        false
    }
}
