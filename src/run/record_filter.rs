//! Which messages are printed and answered.

use crate::{
    error::Failure,
    mqtt::{check_filter, codec::Message, matches},
    tuya::{Channel, Topics, speaks_of},
};

/// The kind of a message outside the protocol's topics.
const OTHER: &str = "other";

/// A message passes if it matches one of each list that is not empty.
pub struct RecordFilter {
    topics: Vec<String>,
    kinds: Vec<String>,
    cids: Vec<String>,
}

impl RecordFilter {
    /// Checks the options.
    ///
    /// # Errors
    /// A topic filter that is not valid, or a kind that does not exist.
    pub fn new(topics: &[String], kinds: &[String], cids: &[String]) -> Result<Self, Failure> {
        for topic in topics {
            check_filter(topic).map_err(|why| Failure::invalid(format!("--topic: {why}")))?;
        }
        let known: Vec<_> = Channel::ALL.into_iter().map(Channel::kind).chain([OTHER]).collect();
        if let Some(kind) = kinds.iter().find(|kind| !known.contains(&kind.as_str())) {
            return Err(Failure::invalid(format!("--kind: expected a kind of record; got {kind:?}"))
                .hint(format!("The kinds are: {}", known.join(", "))));
        }
        Ok(Self { topics: topics.to_vec(), kinds: kinds.to_vec(), cids: cids.to_vec() })
    }

    /// Returns whether a message passes.
    pub fn wants(&self, message: &Message, topics: &Topics) -> bool {
        let topic = &message.topic;
        let channel = || topics.classify(topic, &message.payload).and_then(|(channel, _)| channel);
        let kind = || channel().map_or(OTHER, Channel::kind);
        (self.topics.is_empty() || self.topics.iter().any(|filter| matches(filter, topic)))
            && (self.kinds.is_empty() || self.kinds.iter().any(|wanted| wanted == kind()))
            && (self.cids.is_empty() || speaks_of(&message.payload, &self.cids))
    }
}
