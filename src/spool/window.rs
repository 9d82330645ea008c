//! The entries that were read and are not finished, and which of them may be given.

use std::collections::{BTreeMap, BTreeSet, VecDeque};

use smol_str::SmolStr;

use super::{EntryId, SpoolEntry, SpooledEntry};
use crate::collections::SeededMap;

/// The entries that were read ahead, in the order of appending.
///
/// An entry may be given if it is the first unfinished one of each of its devices. Each operation takes a time that grows with
/// the logarithm of the number of entries here, and with the number of the entry's devices.
#[derive(Debug, Default)]
pub struct ReadAhead {
    entries: BTreeMap<u64, HeldEntry>,
    /// The entries that may be given.
    ready: BTreeSet<u64>,
    /// The unfinished entries of each device, in order.
    devices: SeededMap<SmolStr, VecDeque<u64>>,
    bytes: usize,
}

#[derive(Debug)]
struct HeldEntry {
    entry: SpoolEntry,
    /// For how many of its devices an earlier entry is unfinished.
    blocked: usize,
    is_given: bool,
}

impl ReadAhead {
    /// Adds an entry; entries are added in the order of appending.
    pub fn insert(&mut self, id: EntryId, mut entry: SpoolEntry) {
        entry.devices.sort_unstable();
        entry.devices.dedup();
        let mut blocked = 0;
        for device in &entry.devices {
            let queue = self.devices.entry(device.clone()).or_default();
            blocked += usize::from(!queue.is_empty());
            queue.push_back(id.0);
        }
        if blocked == 0 {
            self.ready.insert(id.0);
        }
        self.bytes += cost(&entry);
        self.entries.insert(id.0, HeldEntry { entry, blocked, is_given: false });
    }

    /// Gives the first entry that may be given, and was not.
    pub fn poll_ready(&mut self) -> Option<SpooledEntry> {
        let id = self.ready.pop_first()?;
        let held = self.entries.get_mut(&id)?;
        held.is_given = true;
        Some(SpooledEntry { id: EntryId(id), entry: held.entry.clone() })
    }

    /// Ends an entry that was given; says whether it was one.
    pub fn finish(&mut self, id: EntryId) -> bool {
        if !self.entries.get(&id.0).is_some_and(|held| held.is_given) {
            return false;
        }
        let Some(held) = self.entries.remove(&id.0) else { return false };
        self.bytes -= cost(&held.entry);
        for device in &held.entry.devices {
            let Some(queue) = self.devices.get_mut(device) else { continue };
            // It is the first one, because no other one may be given.
            queue.pop_front();
            let Some(next) = queue.front() else {
                self.devices.remove(device);
                continue;
            };
            if let Some(held) = self.entries.get_mut(next) {
                held.blocked -= 1;
                if held.blocked == 0 {
                    self.ready.insert(*next);
                }
            }
        }
        true
    }

    /// Takes an entry back that was given, to give it again.
    pub fn give_back(&mut self, id: EntryId) {
        if let Some(held) = self.entries.get_mut(&id.0).filter(|held| held.is_given) {
            held.is_given = false;
            self.ready.insert(id.0);
        }
    }

    /// Whether a device has an entry here.
    #[must_use]
    pub fn holds(&self, device: &str) -> bool {
        self.devices.contains_key(device)
    }

    /// The number of entries.
    #[must_use]
    pub fn len(&self) -> usize {
        self.entries.len()
    }

    /// Whether there is none.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.entries.is_empty()
    }

    /// The bytes of the entries.
    #[must_use]
    pub fn bytes(&self) -> usize {
        self.bytes
    }

    /// The first entry.
    #[must_use]
    pub fn first(&self) -> Option<&SpoolEntry> {
        self.entries.first_key_value().map(|(_, held)| &held.entry)
    }
}

/// What an entry takes in memory, more or less.
fn cost(entry: &SpoolEntry) -> usize {
    let devices: usize = entry.devices.iter().map(|device| 32 + device.len()).sum();
    128 + entry.topic.len() + entry.request_id.len() + entry.payload.len() + devices
}

#[cfg(test)]
mod tests {
    use fastrand::Rng;

    use super::*;
    use crate::spool::tests::entry;

    fn of(devices: &[&str]) -> SpoolEntry {
        SpoolEntry { devices: devices.iter().map(SmolStr::new).collect(), ..entry(0) }
    }

    fn given(window: &mut ReadAhead) -> Vec<u64> {
        std::iter::from_fn(|| window.poll_ready()).map(|entry| entry.id.0).collect()
    }

    #[test]
    fn an_entry_waits_for_the_earlier_ones_of_each_of_its_devices() {
        let mut window = ReadAhead::default();
        let entries: [&[&str]; 7] = [&["a"], &["b"], &["a", "b"], &["c", "c"], &[], &["b"], &["a"]];
        for (id, devices) in (0..).zip(entries) {
            window.insert(EntryId(id), of(devices));
        }
        assert_eq!(given(&mut window), [0, 1, 3, 4]);
        assert!(!window.finish(EntryId(2)), "it was not given");
        assert!(window.finish(EntryId(1)));
        assert_eq!(given(&mut window), [0; 0]);
        assert!(window.finish(EntryId(0)) && !window.finish(EntryId(0)));
        assert_eq!(given(&mut window), [2]);
        window.give_back(EntryId(2));
        window.give_back(EntryId(6));
        assert_eq!(given(&mut window), [2], "it alone was given");
        assert!(window.finish(EntryId(2)) && window.finish(EntryId(3)));
        assert_eq!(given(&mut window), [5, 6]);
        assert!(window.holds("a") && window.holds("b") && !window.holds("c"));
        assert!([4, 5, 6].into_iter().all(|id| window.finish(EntryId(id))));
        assert!(window.is_empty() && !window.holds("a") && window.bytes() == 0);
    }

    #[test]
    fn every_device_gets_its_entries_in_order() {
        for seed in 0..300 {
            let mut random = Rng::with_seed(seed);
            let (mut window, mut next, mut out, mut order) =
                (ReadAhead::default(), 0, Vec::new(), Vec::new());
            let devices = ["a", "b", "c", "d"];
            while next < 60 || !window.is_empty() {
                match random.u8(..4) {
                    0 | 1 if next < 60 => {
                        let mine: Vec<_> = devices.into_iter().filter(|_| random.u8(..3) == 0).collect();
                        window.insert(EntryId(next), of(&mine));
                        next += 1;
                    }
                    2 => out.extend(window.poll_ready()),
                    _ if !out.is_empty() => {
                        let entry: SpooledEntry = out.swap_remove(random.usize(..out.len()));
                        if random.u8(..5) == 0 {
                            window.give_back(entry.id);
                        } else {
                            assert!(window.finish(entry.id));
                            order.push(entry);
                        }
                    }
                    _ => {}
                }
            }
            assert_eq!(order.len(), 60, "each is finished once");
            for device in devices {
                let of_it = |entry: &&SpooledEntry| entry.entry.devices.iter().any(|found| found == device);
                assert!(order.iter().filter(of_it).is_sorted_by_key(|entry| entry.id));
            }
        }
    }
}
