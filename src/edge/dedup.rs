//! The requests that were accepted lately, so that a repeated one is answered alike, however late it is.

use std::hash::{BuildHasher as _, BuildHasherDefault, Hash};

use crate::collections::{Keyed, OwnHasher, Recent};

/// How many accepted requests are remembered.
const CAPACITY: usize = 10_000;

/// The fingerprints of the last accepted requests.
///
/// A fingerprint covers the whole request but its time stamp, so that scripts which reuse one request id for
/// different requests are served. Refused requests are not remembered: they change nothing, and asking again
/// may rightly end better, for instance after the missing sync.
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
    /// The fingerprint of a request's parts, in this memory and no other.
    pub(super) fn fingerprint(&self, parts: impl Hash) -> u64 {
        self.prints.hash_one(parts)
    }

    /// Whether this request was accepted before.
    pub(super) fn holds(&self, fingerprint: u64) -> bool {
        self.known.get(&fingerprint).is_some()
    }

    /// Remembers an accepted request; the oldest is forgotten.
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
