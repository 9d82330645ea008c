//! Retained messages, a bounded number of them.

use std::{collections::BTreeMap, ops::Bound};

use bytes::Bytes;

use crate::mqtt::{QoS, matches};

/// A retained message.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Kept {
    pub(super) payload: Bytes,
    pub(super) qos: QoS,
}

/// The last message of each topic that was published with RETAIN.
#[derive(Debug)]
pub(super) struct Retained {
    messages: BTreeMap<Box<str>, Kept>,
    bytes: usize,
    limit: usize,
}

/// What a topic and its bookkeeping cost beside the payload.
const OVERHEAD: usize = 128;

impl Retained {
    /// Room for this many bytes, topics and bookkeeping included.
    pub(super) fn new(limit: usize) -> Self {
        Self { messages: BTreeMap::new(), bytes: 0, limit }
    }

    /// Retains a message, or removes the topic's if the payload is empty (MQTT 3.1.1, section 3.3.1.3).
    /// `false` when there is no room: the old message is forgotten then, for it is no longer the last.
    pub(super) fn set(&mut self, topic: &str, payload: &[u8], qos: QoS) -> bool {
        if let Some(old) = self.messages.remove(topic) {
            self.bytes -= cost(topic, &old.payload);
        }
        if payload.is_empty() {
            return true;
        }
        let cost = cost(topic, payload);
        if self.bytes + cost > self.limit {
            return false;
        }
        self.bytes += cost;
        // A copy of its own: the payload may share a whole read buffer.
        self.messages.insert(topic.into(), Kept { payload: Bytes::copy_from_slice(payload), qos });
        true
    }

    pub(super) fn is_empty(&self) -> bool {
        self.messages.is_empty()
    }

    /// The topics that a new subscription's filter has to be compared with, after `last` where a former search
    /// ended, each with its message where it matches. Whoever searches decides how many at a time.
    pub(super) fn search<'a>(
        &'a self,
        filter: &'a str,
        last: Option<&'a str>,
    ) -> impl Iterator<Item = (&'a str, Option<&'a Kept>)> {
        // Everything that a filter matches begins with what stands before its first wildcard, but for the
        // parent level of a `#`, which lacks the slash.
        let fixed = filter.find(['+', '#']).map_or(filter, |at| filter[..at].trim_end_matches('/'));
        let is_wild = fixed.len() < filter.len();
        self.messages
            .range::<str, _>((last.map_or(Bound::Included(fixed), Bound::Excluded), Bound::Unbounded))
            .take_while(move |(topic, _)| topic.starts_with(fixed) && (topic.len() == fixed.len() || is_wild))
            .map(move |(topic, kept)| (&**topic, matches(filter, topic).then_some(kept)))
    }
}

fn cost(topic: &str, payload: &[u8]) -> usize {
    topic.len() + payload.len() + OVERHEAD
}

#[cfg(test)]
mod tests {
    use super::*;

    fn topics(retained: &Retained, filter: &str) -> Vec<String> {
        let found = retained.search(filter, None).filter(|(_, kept)| kept.is_some());
        found.map(|(topic, _)| topic.to_owned()).collect()
    }

    #[test]
    fn the_last_message_is_kept_and_an_empty_one_forgets() {
        let mut retained = Retained::new(10_000);
        for topic in ["a", "a/b", "a/c/d", "a0", "b", "$s/x"] {
            assert!(retained.set(topic, b"1", QoS::AtLeastOnce));
        }
        assert!(retained.set("b", b"2", QoS::AtMostOnce));
        assert_eq!(topics(&retained, "a/#"), ["a", "a/b", "a/c/d"]);
        assert_eq!(topics(&retained, "a/+"), ["a/b"]);
        assert_eq!(topics(&retained, "+"), ["a", "a0", "b"]);
        assert_eq!(topics(&retained, "#"), ["a", "a/b", "a/c/d", "a0", "b"]);
        assert_eq!(topics(&retained, "$s/#"), ["$s/x"]);
        let (_, kept) = retained.search("b", None).next().unwrap();
        let kept = kept.unwrap();
        assert_eq!((&kept.payload[..], kept.qos), (&b"2"[..], QoS::AtMostOnce));
        assert_eq!(retained.search("a", None).count(), 1, "a name needs no search");
        let rest: Vec<_> = retained.search("a/+", Some("a/b")).collect();
        assert_eq!(rest, [("a/c/d", None), ("a0", None)], "a search goes on where it ended");
        assert!(retained.set("b", b"", QoS::AtMostOnce));
        assert_eq!(topics(&retained, "b"), [""; 0]);
    }

    #[test]
    fn room_is_bounded_and_comes_back() {
        let mut retained = Retained::new(2 * (OVERHEAD + 2));
        assert!(retained.set("a", b"1", QoS::AtMostOnce));
        assert!(retained.set("b", b"1", QoS::AtMostOnce));
        assert!(!retained.set("c", b"1", QoS::AtMostOnce));
        assert!(!retained.set("a", b"longer", QoS::AtMostOnce));
        assert_eq!(topics(&retained, "#"), ["b"]);
        assert!(retained.set("c", b"1", QoS::AtMostOnce));
    }
}
