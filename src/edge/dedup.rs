//! De-duplication: remembers accepted requests, so that a repeated one gets the same answer, however late it comes.

use std::hash::{BuildHasher as _, BuildHasherDefault, Hash};

use crate::collections::{Keyed, OwnHasher, Recent};

/// The number of accepted requests that are remembered.
const CAPACITY: usize = 10_000;

/// The fingerprints of the last accepted requests.
///
/// A fingerprint covers the whole request without its time stamp, because scripts reuse one request id for different
/// requests. Refused requests are not remembered: they change nothing, and may be accepted later, for instance after the
/// missing sync.
#[derive(Debug)]
pub(super) struct RecentRequests {
    known: Recent<u64, (), BuildHasherDefault<OwnHasher>>,
    prints: Keyed,
}

impl Default for RecentRequests {
    fn default() -> Self {
        Self { known: Recent::new(CAPACITY), prints: Keyed::default() }
    }
}

impl RecentRequests {
    /// The fingerprint of a request's parts, for this memory only.
    pub(super) fn fingerprint(&self, parts: impl Hash) -> u64 {
        self.prints.hash_one(parts)
    }

    /// Whether this request was accepted before.
    pub(super) fn holds(&self, fingerprint: u64) -> bool {
        self.known.get(&fingerprint).is_some()
    }

    /// Remembers an accepted request, and forgets the oldest one if there are too many.
    pub(super) fn keep(&mut self, fingerprint: u64) {
        self.known.insert(fingerprint, ());
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_last_ones_are_remembered_and_no_more() {
        let mut memory = RecentRequests::default();
        let last = CAPACITY as u64 + 5;
        for n in 0..last {
            memory.keep(n);
            if n % 2 == 0 {
                memory.keep(n);
            }
        }
        assert!(!memory.holds(4));
        assert!(memory.holds(5) && memory.holds(last - 1));
        assert_eq!(memory.known.len(), CAPACITY);
    }
}
