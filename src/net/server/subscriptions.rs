//! The subscribers of each topic: exact filters by one look-up, filters with wildcards by a tree of levels.

use std::sync::Arc;

use super::handler::SessionId;
use crate::{collections::SeededMap, mqtt::QoS};

/// Every subscription of every session.
#[derive(Debug, Default)]
pub(super) struct Subscriptions {
    exact: SeededMap<Box<str>, Vec<(SessionId, QoS)>>,
    wild: Level,
    /// The subscribers of the last two topics, because a client's requests and their answers come many at a time.
    recent: [Option<RecentTopic>; 2],
}

/// A topic and its subscribers, valid until a subscription changes.
#[derive(Debug)]
struct RecentTopic {
    topic: Arc<str>,
    subscribers: Vec<(SessionId, QoS)>,
}

/// More subscribers are not remembered, because they take longer to serve than to find.
const FEW: usize = 16;

/// The most levels of a filter with wildcards, because the tree is walked by recursion; more than any real topic has.
pub(super) const MAX_LEVELS: usize = 100;

/// The levels that a filter needs in the tree: none without wildcards.
pub(super) fn levels(filter: &str) -> usize {
    if has_wildcard(filter) { filter.split('/').count() } else { 0 }
}

/// The approximate bytes that a subscription occupies here and in its session.
pub(super) fn cost(filter: &str) -> usize {
    160 + 2 * filter.len() + 600 * levels(filter)
}

/// One level of the tree of filters with wildcards.
#[derive(Debug, Default)]
struct Level {
    named: SeededMap<Box<str>, Level>,
    /// `+`
    any: Option<Box<Level>>,
    /// `#`
    rest: Vec<(SessionId, QoS)>,
    here: Vec<(SessionId, QoS)>,
}

impl Subscriptions {
    /// Subscribes, or replaces the subscription that has the same filter (MQTT 3.1.1, section 3.8.4).
    pub(super) fn insert(&mut self, filter: &str, session: SessionId, qos: QoS) {
        self.recent = [None, None];
        if has_wildcard(filter) {
            let mut level = &mut self.wild;
            for name in filter.split('/') {
                level = match name {
                    "#" => return put(&mut level.rest, session, qos),
                    "+" => level.any.get_or_insert_default(),
                    name => level.named.entry(name.into()).or_default(),
                };
            }
            put(&mut level.here, session, qos);
        } else if let Some(subscribers) = self.exact.get_mut(filter) {
            put(subscribers, session, qos);
        } else {
            self.exact.insert(filter.into(), vec![(session, qos)]);
        }
    }

    /// Takes a subscription away, if it is there.
    pub(super) fn remove(&mut self, filter: &str, session: SessionId) {
        self.recent = [None, None];
        if has_wildcard(filter) {
            self.wild.remove(filter.split('/'), session);
        } else if let Some(subscribers) = self.exact.get_mut(filter) {
            subscribers.retain(|(id, _)| *id != session);
            if subscribers.is_empty() {
                self.exact.remove(filter);
            }
        }
    }

    /// As [`Subscriptions::find`], for a topic that is the same one again and again.
    pub(super) fn find_again(&mut self, topic: &Arc<str>, found: &mut Vec<(SessionId, QoS)>) {
        let mut recent = self.recent.iter().flatten();
        if let Some(known) = recent.find(|known| Arc::ptr_eq(&known.topic, topic)) {
            found.clone_from(&known.subscribers);
            return;
        }
        self.find(topic, found);
        if found.len() <= FEW {
            self.recent.swap(0, 1);
            let former = self.recent[0].take();
            let mut subscribers = former.map(|known| known.subscribers).unwrap_or_default();
            subscribers.clone_from(found);
            self.recent[0] = Some(RecentTopic { topic: Arc::clone(topic), subscribers });
        }
    }

    /// Collects who gets a message on a topic: each session once, with the highest quality of service of its
    /// matching subscriptions (section 3.3.5).
    pub(super) fn find(&self, topic: &str, found: &mut Vec<(SessionId, QoS)>) {
        found.clear();
        if let Some(subscribers) = self.exact.get(topic) {
            found.extend_from_slice(subscribers);
        }
        if !self.wild.is_empty() {
            self.wild.find(topic, true, found);
        }
        if found.len() > 1 {
            found.sort_unstable_by_key(|(id, qos)| (*id, std::cmp::Reverse(*qos)));
            found.dedup_by_key(|(id, _)| *id);
        }
    }
}

fn has_wildcard(filter: &str) -> bool {
    filter.contains(['+', '#'])
}

fn put(subscribers: &mut Vec<(SessionId, QoS)>, session: SessionId, qos: QoS) {
    if let Some(known) = subscribers.iter_mut().find(|(id, _)| *id == session) {
        known.1 = qos;
    } else {
        // Most filters have one subscriber for ever.
        subscribers.reserve_exact(1);
        subscribers.push((session, qos));
    }
}

impl Level {
    fn is_empty(&self) -> bool {
        self.named.is_empty() && self.any.is_none() && self.rest.is_empty() && self.here.is_empty()
    }

    fn find(&self, topic: &str, first: bool, found: &mut Vec<(SessionId, QoS)>) {
        let (name, below) = match topic.split_once('/') {
            Some((name, below)) => (name, Some(below)),
            None => (topic, None),
        };
        // Wildcards at the beginning do not reach topics that begin with $ (section 4.7.2).
        let hidden = first && topic.starts_with('$');
        if !hidden {
            found.extend_from_slice(&self.rest);
        }
        let any = if hidden { None } else { self.any.as_deref() };
        for level in [self.named.get(name), any].into_iter().flatten() {
            if let Some(below) = below {
                level.find(below, false, found);
            } else {
                found.extend_from_slice(&level.here);
                // `a/#` matches `a` itself (section 4.7.1.2).
                found.extend_from_slice(&level.rest);
            }
        }
    }

    /// Removes below here, and the levels that this leaves empty.
    fn remove<'f>(&mut self, mut names: impl Iterator<Item = &'f str>, session: SessionId) {
        match names.next() {
            None => self.here.retain(|(id, _)| *id != session),
            Some("#") => self.rest.retain(|(id, _)| *id != session),
            Some("+") => {
                if let Some(any) = &mut self.any {
                    any.remove(names, session);
                    if any.is_empty() {
                        self.any = None;
                    }
                }
            }
            Some(name) => {
                if let Some(level) = self.named.get_mut(name) {
                    // A recursion through a generic iterator would not end for the compiler.
                    level.remove(&mut names as &mut dyn Iterator<Item = &'f str>, session);
                    if level.is_empty() {
                        self.named.remove(name);
                    }
                }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::mqtt::matches;

    fn find(subscriptions: &Subscriptions, topic: &str) -> Vec<(SessionId, QoS)> {
        let mut found = vec![(SessionId(99), QoS::ExactlyOnce)];
        subscriptions.find(topic, &mut found);
        found
    }

    #[test]
    fn overlapping_subscriptions_give_one_copy_with_the_highest_quality() {
        let mut all = Subscriptions::default();
        all.insert("a/b", SessionId(1), QoS::AtMostOnce);
        all.insert("a/+", SessionId(1), QoS::ExactlyOnce);
        all.insert("#", SessionId(1), QoS::AtLeastOnce);
        all.insert("a/b", SessionId(2), QoS::AtLeastOnce);
        assert_eq!(find(&all, "a/b"), [(SessionId(1), QoS::ExactlyOnce), (SessionId(2), QoS::AtLeastOnce)]);
        all.insert("a/b", SessionId(2), QoS::AtMostOnce);
        all.remove("a/+", SessionId(1));
        assert_eq!(find(&all, "a/b"), [(SessionId(1), QoS::AtLeastOnce), (SessionId(2), QoS::AtMostOnce)]);
    }

    #[test]
    fn the_tree_finds_what_matching_finds_and_ends_empty() {
        let seed = fastrand::u64(..);
        let mut dice = fastrand::Rng::with_seed(seed);
        let names = ["a", "b", "", "$s", "é"];
        let mut all = Subscriptions::default();
        let mut filters: Vec<(SessionId, String)> = Vec::new();
        for n in 0..200 {
            let mut levels: Vec<&str> = (0..dice.usize(1..4))
                .map(|_| if dice.u8(..4) == 0 { "+" } else { names[dice.usize(..5)] })
                .collect();
            if dice.u8(..4) == 0 {
                levels.push("#");
            }
            let filter = levels.join("/");
            if filter.is_empty() {
                continue;
            }
            all.insert(&filter, SessionId(n), QoS::AtLeastOnce);
            filters.push((SessionId(n), filter));
        }
        let mut again = Vec::new();
        let mut topics: Vec<Arc<str>> = Vec::new();
        for n in 0..1000 {
            let levels: Vec<&str> = (0..dice.usize(1..5)).map(|_| names[dice.usize(..5)]).collect();
            if topics.is_empty() || dice.u8(..4) == 0 {
                topics.push(levels.join("/").into());
            }
            let topic = &topics[topics.len() - 1 - dice.usize(..topics.len().min(3))];
            if n % 5 == 0 {
                let (id, filter) = filters.swap_remove(dice.usize(..filters.len()));
                all.remove(&filter, id);
            } else if n % 5 == 2 && !topic.is_empty() {
                all.insert(topic, SessionId(1000 + n), QoS::AtLeastOnce);
                filters.push((SessionId(1000 + n), topic.to_string()));
            }
            let found: Vec<SessionId> = find(&all, topic).into_iter().map(|(id, _)| id).collect();
            all.find_again(topic, &mut again);
            assert_eq!(again, find(&all, topic), "{topic:?}, seed {seed}");
            let mut expected: Vec<SessionId> =
                filters.iter().filter(|(_, filter)| matches(filter, topic)).map(|(id, _)| *id).collect();
            expected.sort_unstable();
            assert_eq!(found, expected, "{topic:?}, seed {seed}");
        }
        for (id, filter) in &filters {
            all.remove(filter, *id);
        }
        assert!(all.exact.is_empty() && all.wild.is_empty(), "seed {seed}");
    }
}
