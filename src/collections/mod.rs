//! [`Histogram`], [`Recent`], and hash maps for three kinds of key: [`FastMap`] for keys that this program or its user creates (unseeded), [`IdMap`] for dense
//! counters such as packet ids (identity hash), and [`SeededMap`] for keys that a peer chooses (seeded against collisions).
//!
//! The standard library's SipHash takes longer than reading the key's message. Pure, but for the seeds.
#![deny(clippy::disallowed_methods, clippy::disallowed_types)]

mod histogram;
mod recent;

pub use self::{histogram::Histogram, recent::Recent};

use std::{
    collections::{HashMap, HashSet},
    hash::{BuildHasher, BuildHasherDefault, Hasher, RandomState},
    sync::OnceLock,
};

use foldhash::{SharedSeed, fast::FoldHasher};

/// A map by keys that no peer can add; without entries it owns no memory.
pub type FastMap<K, V> = HashMap<K, V, BuildHasherDefault<OwnHasher>>;

/// A map by numbers that were counted up, such as packet ids: entries of neighbours lie side by side.
pub type IdMap<K, V> = HashMap<K, V, BuildHasherDefault<CountHasher>>;

/// A set of such numbers.
pub type IdSet<K> = HashSet<K, BuildHasherDefault<CountHasher>>;

/// An odd number without a pattern: the golden ratio's fraction.
const MIX: u64 = 0x9e37_79b9_7f4a_7c15;

/// A map by keys that peers choose.
///
/// foldhash is neither a generator nor a keyed function in the cryptographic sense: a peer that knows its seeds, or sees hashes,
/// finds colliding keys. The seeds are the operating system's random numbers, new in each process and for each map, and no hash
/// and no map's order may leave the process.
pub type SeededMap<K, V> = HashMap<K, V, Keyed>;

/// Makes the hashers of a [`SeededMap`].
#[derive(Clone, Copy, Debug)]
pub struct Keyed(u64);

impl Default for Keyed {
    fn default() -> Self {
        Self(random(1))
    }
}

impl BuildHasher for Keyed {
    type Hasher = FoldHasher<'static>;

    fn build_hasher(&self) -> Self::Hasher {
        static SHARED: OnceLock<SharedSeed> = OnceLock::new();
        FoldHasher::with_seed(self.0, SHARED.get_or_init(|| SharedSeed::from_u64(random(2))))
    }
}

/// A random number, from the keys that the standard library gets from the operating system.
#[allow(
    clippy::disallowed_methods,
    reason = "a secret that shows nowhere; the standard library's maps have theirs alike"
)]
fn random(which: u64) -> u64 {
    RandomState::new().hash_one(which)
}

/// The hasher of [`FastMap`].
#[derive(Clone, Copy, Debug, Default)]
pub struct OwnHasher(u64);

impl Hasher for OwnHasher {
    fn finish(&self) -> u64 {
        // The product's upper bits are the mixed ones, and a map looks at the lower ones first.
        self.0.rotate_left(26)
    }

    fn write(&mut self, bytes: &[u8]) {
        let (words, rest) = bytes.as_chunks::<8>();
        for word in words {
            self.write_u64(u64::from_le_bytes(*word));
        }
        for byte in rest {
            self.write_u8(*byte);
        }
    }

    fn write_u8(&mut self, number: u8) {
        self.write_u64(number.into());
    }

    fn write_u16(&mut self, number: u16) {
        self.write_u64(number.into());
    }

    fn write_u64(&mut self, number: u64) {
        self.0 = (self.0.rotate_left(5) ^ number).wrapping_mul(MIX);
    }
}

/// The hasher of [`IdMap`], for one number below 2^57.
#[derive(Clone, Copy, Debug, Default)]
pub struct CountHasher(u64);

impl Hasher for CountHasher {
    fn finish(&self) -> u64 {
        // A map finds the place by the lower bits, and tells those of one place apart by the seven upper ones.
        self.0 ^ (self.0.wrapping_mul(MIX) & !(u64::MAX >> 7))
    }

    fn write(&mut self, bytes: &[u8]) {
        let mut whole = OwnHasher(self.0);
        whole.write(bytes);
        self.0 = whole.finish();
    }

    fn write_u16(&mut self, number: u16) {
        self.write_u64(number.into());
    }

    fn write_u64(&mut self, number: u64) {
        self.0 = number;
    }
}

#[cfg(test)]
mod tests {
    use std::hash::{BuildHasher as _, Hash as _};

    use super::*;

    #[test]
    fn each_map_has_its_own_secret() {
        let (one, another) = (Keyed::default(), Keyed::default());
        assert_eq!(one.hash_one("gw1"), one.hash_one("gw1"));
        assert_ne!(one.hash_one("gw1"), another.hash_one("gw1"));
    }

    #[test]
    fn counted_and_similar_keys_spread() {
        let hash = |key: &str| {
            let mut hasher = OwnHasher::default();
            key.hash(&mut hasher);
            hasher.finish()
        };
        let hashes: HashSet<_> =
            (0..10_000).map(|n| hash(&format!("{n:08x}-0000-4000-8000-{n:012x}"))).collect();
        assert_eq!(hashes.len(), 10_000);
        let places: HashSet<_> = hashes.iter().map(|hash| hash % 16_384).collect();
        assert!(places.len() > 6_000, "{}", places.len());
    }

    #[test]
    fn counted_numbers_keep_their_places_and_are_told_apart() {
        let hasher = BuildHasherDefault::<CountHasher>::default();
        let spread: Vec<_> = (1000_u64..1128).map(|n| hasher.hash_one(n)).collect();
        for (n, hash) in (1000..).zip(&spread) {
            assert_eq!(hash % (1 << 50), n);
        }
        let marks: HashSet<_> = spread.iter().map(|hash| hash >> 57).collect();
        assert!(marks.len() > 64, "{}", marks.len());
        assert_eq!(hasher.hash_one(7_u16), hasher.hash_one(7_u64));
    }
}
