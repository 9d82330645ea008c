//! Fresh request ids: random UUIDs, as the page recommends, lower-case with hyphens.

use std::{hash::BuildHasher as _, sync::Arc};

use uuid::{Builder, Uuid};

use crate::hash::Keyed;

/// A source of request ids.
///
/// They come of a keyed hash, whose keys the system draws once: a system call for each id would cost as much as the rest
/// of it, and where a program finds no randomness, in a jail without devices, the standard library still does.
#[derive(Debug)]
pub struct RequestIds {
    keys: Keyed,
    counted: u64,
}

impl RequestIds {
    /// A source of its own.
    #[must_use]
    pub fn new() -> Self {
        Self { keys: Keyed::default(), counted: 0 }
    }

    /// A request id that nobody else has.
    pub fn fresh(&mut self) -> Arc<str> {
        (&*self.next().hyphenated().encode_lower(&mut Uuid::encode_buffer())).into()
    }

    fn next(&mut self) -> Uuid {
        self.counted += 1;
        let half = |which: u8| u128::from(self.keys.hash_one((which, self.counted)));
        let bits = half(0) << 64 | half(1);
        Builder::from_random_bytes(bits.to_be_bytes()).into_uuid()
    }
}

/// A random UUID.
#[must_use]
pub fn random() -> Uuid {
    RequestIds::new().next()
}

#[cfg(test)]
mod tests {
    use std::collections::HashSet;

    use super::*;

    #[test]
    fn ids_are_random_uuids_and_differ() {
        let (mut ids, mut others) = (RequestIds::new(), RequestIds::new());
        let found: HashSet<_> = (0..1000).flat_map(|_| [ids.fresh(), others.fresh()]).collect();
        assert_eq!(found.len(), 2000);
        let mut ones = [0; 128];
        for id in &found {
            let uuid = Uuid::parse_str(id).unwrap();
            assert_eq!((uuid.get_version_num(), uuid.get_variant()), (4, uuid::Variant::RFC4122));
            assert_eq!(**id, *id.to_lowercase());
            for (bit, ones) in ones.iter_mut().enumerate() {
                *ones += usize::from(uuid.as_u128() >> bit & 1 == 1);
            }
        }
        // Six bits are the version's and the variant's; of the others each is set in about half of the ids.
        let even = ones.iter().filter(|ones| (800..1200).contains(*ones)).count();
        assert_eq!(even, 122);
    }
}
