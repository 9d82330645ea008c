//! Fresh request ids: random UUIDs, as the page recommends, lower-case with hyphens.

use std::sync::Arc;

use uuid::{Builder, Uuid};

/// How many ids' randomness is drawn at once; the system call costs more than the rest of an id.
const DRAWN: usize = 256;
const LENGTH: usize = 16;

/// A source of request ids.
#[derive(Debug)]
pub struct RequestIds {
    random: Vec<u8>,
    used: usize,
}

impl RequestIds {
    /// A source that has drawn nothing yet.
    #[must_use]
    pub fn new() -> Self {
        Self { random: Vec::new(), used: 0 }
    }

    /// A request id that nobody else has.
    pub fn fresh(&mut self) -> Arc<str> {
        let Some(bytes) =
            self.random.get(self.used..self.used + LENGTH).and_then(|bytes| bytes.try_into().ok())
        else {
            // The first id is often the only one.
            let drawn = if self.random.is_empty() { 1 } else { DRAWN };
            self.random.resize(drawn * LENGTH, 0);
            self.used = self.random.len();
            if getrandom::fill(&mut self.random).is_err() {
                return text(Uuid::new_v4());
            }
            self.used = 0;
            return self.fresh();
        };
        self.used += LENGTH;
        text(Builder::from_random_bytes(bytes).into_uuid())
    }
}

fn text(id: Uuid) -> Arc<str> {
    (&*id.hyphenated().encode_lower(&mut Uuid::encode_buffer())).into()
}

#[cfg(test)]
mod tests {
    use std::collections::HashSet;

    use super::*;

    #[test]
    fn ids_are_random_uuids_and_differ() {
        let mut ids = RequestIds::new();
        let found: HashSet<_> = (0..3 * DRAWN).map(|_| ids.fresh()).collect();
        assert_eq!(found.len(), 3 * DRAWN);
        for id in found {
            assert_eq!(Uuid::parse_str(&id).unwrap().get_version_num(), 4);
            assert_eq!(*id, *id.to_lowercase());
        }
    }
}
