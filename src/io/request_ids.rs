//! Fresh request ids: random UUIDs (RFC 9562, version 4), as the page recommends, lower-case with hyphens.

use std::sync::Arc;

use md5::{Digest as _, Md5};
use uuid::{Builder, Uuid};

use crate::collections::FastMap;

/// Returns a random request id.
///
/// The generator is seeded by the operating system and asks it again only once in a while, so an id costs no system
/// call; `cargo bench -- core` has a row "request id".
#[must_use]
pub fn request_id() -> Arc<str> {
    (&*Uuid::new_v4().hyphenated().encode_lower(&mut Uuid::encode_buffer())).into()
}

/// The request ids of a replay: name-based UUIDs (RFC 9562, version 3) in a namespace that is
/// random and new for each value of this type.
///
/// The same recorded id of the same gateway gets the same id, so repetitions stay such and answers find their requests
/// without a table of ids; another round of `--loop` and another run get others.
#[derive(Debug)]
pub struct ReplayIds {
    round: Uuid,
    /// The namespace of each gateway in this round: with it one block of MD5 is enough for an id.
    gateways: FastMap<String, Uuid>,
}

impl Default for ReplayIds {
    fn default() -> Self {
        Self { round: Uuid::new_v4(), gateways: FastMap::default() }
    }
}

impl ReplayIds {
    /// Begins another round, whose ids differ from those of all others.
    pub fn next_round(&mut self) {
        *self = Self::default();
    }

    /// Returns the id that replaces `recorded`.
    pub fn of(&mut self, gateway: &str, recorded: &str) -> Uuid {
        let namespace = match self.gateways.get(gateway) {
            Some(namespace) => *namespace,
            None => *self.gateways.entry(gateway.to_owned()).or_insert(name_based(&self.round, gateway)),
        };
        name_based(&namespace, recorded)
    }
}

/// RFC 9562, section 5.3. `uuid` would bring a second major version of the same MD5 for it.
fn name_based(namespace: &Uuid, name: &str) -> Uuid {
    let hash = Md5::new().chain_update(namespace.as_bytes()).chain_update(name).finalize();
    Builder::from_md5_bytes(hash.into()).into_uuid()
}

#[cfg(test)]
mod tests {
    use std::collections::HashSet;

    use super::*;

    /// Each bit of 2,000 ids is a fair coin; 200 more or fewer than half of them are nine standard deviations, which a
    /// true generator does not reach once in 10^18 runs. Successive ids agree in as many bits as they differ in.
    #[test]
    fn request_ids_are_random_uuids_without_bias_or_serial_correlation() {
        let ids: Vec<_> = (0..2000).map(|_| request_id()).collect();
        assert_eq!(ids.iter().collect::<HashSet<_>>().len(), ids.len());
        let numbers: Vec<_> = ids
            .iter()
            .map(|id| {
                let uuid = Uuid::parse_str(id).unwrap();
                assert_eq!((uuid.get_version_num(), uuid.get_variant()), (4, uuid::Variant::RFC4122));
                assert_eq!(**id, *id.to_lowercase());
                uuid.as_u128()
            })
            .collect();
        let fair_bits = |numbers: &mut dyn Iterator<Item = u128>| {
            let mut ones = [0; 128];
            for number in numbers {
                for (bit, ones) in ones.iter_mut().enumerate() {
                    *ones += usize::from(number >> bit & 1 == 1);
                }
            }
            ones.iter().filter(|ones| (800..1200).contains(*ones)).count()
        };
        // The other six bits hold the version and the variant.
        assert_eq!(fair_bits(&mut numbers.iter().copied()), 122);
        assert_eq!(fair_bits(&mut numbers.windows(2).map(|pair| pair[0] ^ pair[1])), 122);
    }

    /// The example of RFC 9562, appendix A.2.
    #[test]
    fn name_based_ids_are_those_of_the_standard() {
        assert_eq!(
            name_based(&Uuid::from_u128(0x6ba7_b810_9dad_11d1_80b4_00c0_4fd4_30c8), "www.example.com"),
            Uuid::from_u128(0x5df4_1881_3aed_3515_88a7_2f4a_814c_f09e)
        );
    }

    #[test]
    fn replayed_ids_are_the_same_only_for_one_recorded_id_of_one_gateway_in_one_round() {
        let mut ids = ReplayIds::default();
        let first = ids.of("gw1", "a");
        assert_eq!(ids.of("gw1", "a"), first);
        let mut others = vec![ids.of("gw1", "b"), ids.of("gw2", "a"), ids.of("gw", "1a")];
        ids.next_round();
        others.extend([ids.of("gw1", "a"), ReplayIds::default().of("gw1", "a")]);
        assert!(!others.contains(&first));
        assert_eq!(others.iter().collect::<HashSet<_>>().len(), others.len());
    }
}
