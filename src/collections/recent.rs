//! A map that holds a bounded number of entries, and forgets the oldest.

use std::{
    borrow::Borrow,
    collections::{HashMap, VecDeque},
    hash::{BuildHasher, Hash, RandomState},
};

/// The most recent entries by key. `order` has the key of each entry once, the oldest first.
#[derive(Clone, Debug)]
pub struct Recent<K, V, S = RandomState> {
    entries: HashMap<K, V, S>,
    order: VecDeque<K>,
    capacity: usize,
}

impl<K: Clone + Eq + Hash, V, S: BuildHasher + Default> Recent<K, V, S> {
    /// Returns a map for at most `capacity` entries; it allocates only what it holds.
    #[must_use]
    pub fn new(capacity: usize) -> Self {
        Self { entries: HashMap::default(), order: VecDeque::new(), capacity }
    }

    /// Adds an entry, and returns the oldest one if there are too many. A known key keeps its age, and gets the new value.
    pub fn insert(&mut self, key: K, value: V) -> Option<(K, V)> {
        if self.entries.insert(key.clone(), value).is_none() {
            self.order.push_back(key);
        }
        if self.order.len() > self.capacity { self.pop_oldest() } else { None }
    }

    /// Removes the oldest entry.
    pub fn pop_oldest(&mut self) -> Option<(K, V)> {
        let oldest = self.order.pop_front()?;
        self.entries.remove_entry(&oldest)
    }

    /// The oldest entry.
    #[must_use]
    pub fn oldest(&self) -> Option<(&K, &V)> {
        self.entries.get_key_value(self.order.front()?)
    }

    /// The value of a key.
    pub fn get<Q: Eq + Hash + ?Sized>(&self, key: &Q) -> Option<&V>
    where
        K: Borrow<Q>,
    {
        self.entries.get(key)
    }

    /// The value of a key, to be changed.
    pub fn get_mut<Q: Eq + Hash + ?Sized>(&mut self, key: &Q) -> Option<&mut V>
    where
        K: Borrow<Q>,
    {
        self.entries.get_mut(key)
    }

    /// The entries, the oldest first.
    pub fn iter(&self) -> impl Iterator<Item = (&K, &V)> {
        self.order.iter().filter_map(|key| self.entries.get_key_value(key))
    }

    /// How many entries there are.
    #[must_use]
    pub fn len(&self) -> usize {
        self.order.len()
    }

    /// Whether there are no entries.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.order.is_empty()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_oldest_entry_is_forgotten_and_a_known_key_keeps_its_age() {
        let mut recent = Recent::<_, _>::new(3);
        for key in ["a", "b", "c"] {
            assert_eq!(recent.insert(key, 1), None);
        }
        assert_eq!(recent.insert("a", 2), None);
        assert_eq!(recent.insert("d", 1), Some(("a", 2)));
        assert_eq!((recent.get("a"), recent.get("d")), (None, Some(&1)));
        assert_eq!(recent.oldest(), Some((&"b", &1)));
        *recent.get_mut("c").unwrap() = 3;
        assert_eq!(recent.pop_oldest(), Some(("b", 1)));
        assert_eq!(recent.iter().collect::<Vec<_>>(), [(&"c", &3), (&"d", &1)]);
        assert_eq!((recent.len(), recent.is_empty()), (2, false));
    }
}
