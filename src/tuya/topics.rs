//! Every topic of the page (section "Topic definition"): printed from a template, parsed back, matched by filters.
//!
//! A topic is never put together by hand elsewhere. The templates can be overridden, because the page's own
//! sample programs use `gateway/in/{clientId}` and `gateway/out/{clientId}` instead of the preset topics.

use std::fmt;

use super::{
    channel::Channel,
    message::{Downlink, Envelope, Uplink},
};
use crate::mqtt::{Direction, InvalidTopic, check_topic_name};

/// The placeholder that a topic template carries for the gateway id.
const PLACEHOLDER: &str = "{gateway_id}";

/// A gateway id that is safe as one level of a topic: not empty, without `/`, `+`, `#` and control characters.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct GatewayId(String);

impl GatewayId {
    /// Checks an id.
    ///
    /// # Errors
    /// An id that is empty, longer than 65,535 bytes or holds `/`, `+`, `#` or a control character is refused,
    /// because it would reach into other gateways' topics.
    pub fn new(id: impl Into<String>) -> Result<Self, InvalidTopic> {
        let id = id.into();
        if id.is_empty() {
            return Err(InvalidTopic::new("a gateway id must not be empty"));
        }
        if id.len() > usize::from(u16::MAX) {
            return Err(InvalidTopic::new("a gateway id must not be longer than 65,535 bytes"));
        }
        match id.chars().find(|c| matches!(c, '/' | '+' | '#') || c.is_control()) {
            None => Ok(Self(id)),
            Some(bad) => Err(InvalidTopic::new(format!(
                "a gateway id is one level of a topic and must not contain {bad:?}: {id:?}"
            ))),
        }
    }

    /// The id's text.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for GatewayId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// The topic templates in force: the page's presets, or a profile's overrides.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Topics {
    /// What stands before and after the gateway id.
    templates: [(String, String); 7],
}

impl Default for Topics {
    fn default() -> Self {
        Self { templates: Channel::ALL.map(|channel| around_the_id(channel.preset())) }
    }
}

impl Topics {
    /// Overrides the template of one topic.
    ///
    /// # Errors
    /// A template must be a valid topic name with `{gateway_id}` as exactly one of its levels.
    pub fn set(&mut self, channel: Channel, template: &str) -> Result<(), InvalidTopic> {
        check_topic_name(template)?;
        if template.split('/').filter(|level| *level == PLACEHOLDER).count() != 1
            || template.matches(PLACEHOLDER).count() != 1
        {
            return Err(InvalidTopic::new(format!(
                "topic {} must have {PLACEHOLDER} as one of its levels: {template:?}",
                channel.key()
            )));
        }
        self.templates[channel as usize] = around_the_id(template);
        Ok(())
    }

    /// The topic of one channel for one gateway.
    #[must_use]
    pub fn topic(&self, channel: Channel, gateway: &GatewayId) -> String {
        self.filled(channel, gateway.as_str())
    }

    /// The filter that matches one channel of every gateway.
    #[must_use]
    pub fn filter(&self, channel: Channel) -> String {
        self.filled(channel, "+")
    }

    /// The channel and the gateway id of a message; `None` for a topic outside the templates.
    ///
    /// Several channels may share a topic, as on the page's own `gateway/in/{clientId}`: the first that the payload
    /// decodes as is taken, and a payload that is none of theirs has no channel.
    #[must_use]
    pub fn classify<'t>(&self, topic: &'t str, payload: &[u8]) -> Option<(Option<Channel>, &'t str)> {
        let mut channels = self.channels(topic);
        let (first, id) = channels.next()?;
        let Some(second) = channels.next() else { return Some((Some(first), id)) };
        let mut all = [(first, id), second].into_iter().chain(channels);
        let found = all.find(|(channel, _)| match channel.direction() {
            Direction::Up => Envelope::<Uplink>::decode(*channel, payload).is_ok(),
            Direction::Down => Envelope::<Downlink>::decode(*channel, payload).is_ok(),
        });
        Some(found.map_or((None, id), |(channel, id)| (Some(channel), id)))
    }

    /// Every channel that a topic can stand for, with the gateway id in it.
    pub fn channels<'t>(&self, topic: &'t str) -> impl Iterator<Item = (Channel, &'t str)> {
        Channel::ALL.into_iter().filter_map(move |channel| Some((channel, self.id_in(channel, topic)?)))
    }

    /// The gateway id in a topic of this channel; `None` for any other topic.
    #[must_use]
    pub fn id_in<'t>(&self, channel: Channel, topic: &'t str) -> Option<&'t str> {
        let (before, after) = &self.templates[channel as usize];
        // Most channels are told apart by it, sooner than by comparing texts.
        if after.as_bytes().last().is_some_and(|last| topic.as_bytes().last() != Some(last)) {
            return None;
        }
        let id = topic.strip_suffix(after.as_str())?.strip_prefix(before.as_str())?;
        (!id.is_empty() && !id.contains('/')).then_some(id)
    }

    fn filled(&self, channel: Channel, level: &str) -> String {
        let (before, after) = &self.templates[channel as usize];
        [before, level, after].concat()
    }
}

fn around_the_id(template: &str) -> (String, String) {
    let (before, after) = template.split_once(PLACEHOLDER).unwrap_or((template, ""));
    (before.to_owned(), after.to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::mqtt::check_filter;

    #[test]
    fn what_a_packet_has_room_for_is_long_enough() {
        let (fits, too_long) = ("x".repeat(65_535), "x".repeat(65_536));
        assert!(
            check_topic_name(&fits).is_ok() && check_filter(&fits).is_ok() && GatewayId::new(&fits).is_ok()
        );
        assert!(check_topic_name(&too_long).is_err() && check_filter(&too_long).is_err());
        assert!(GatewayId::new(&too_long).is_err());
    }

    #[test]
    fn the_presets_parse_back() {
        let topics = Topics::default();
        let gateway = GatewayId::new("gw1").unwrap();
        for channel in Channel::ALL {
            let topic = topics.topic(channel, &gateway);
            assert_eq!(topics.classify(&topic, b"any"), Some((Some(channel), "gw1")));
        }
        for topic in ["gateway_id/gw1/devices", "gateway_id//commands", "gateway_id/a/b/commands"] {
            assert_eq!(topics.classify(topic, b"any"), None);
        }
    }

    #[test]
    fn sample_topics_can_stand_for_several_channels() {
        let mut topics = Topics::default();
        for channel in [Channel::SyncResponse, Channel::Command, Channel::ReportResponse] {
            topics.set(channel, "gateway/in/{gateway_id}").unwrap();
        }
        let found: Vec<_> = topics.channels("gateway/in/gw1").map(|(channel, _)| channel).collect();
        assert_eq!(found, [Channel::SyncResponse, Channel::Command, Channel::ReportResponse]);
        for (payload, channel) in [
            (
                r#"{"t":1,"cid":"m1","request_id":"c","param":{"id":"4","value":true}}"#,
                Some(Channel::Command),
            ),
            (r#"{"t":1,"request_id":"r","param":{"msg":"","code":0}}"#, Some(Channel::SyncResponse)),
            ("[]", None),
        ] {
            let found = topics.classify("gateway/in/gw1", payload.as_bytes());
            assert_eq!(found, Some((channel, "gw1")), "{payload}");
        }
        assert!(topics.set(Channel::Sync, "gateway/out").is_err());
        assert!(topics.set(Channel::Sync, "gateway/+/{gateway_id}").is_err());
        assert!(topics.set(Channel::Sync, "gateway/x{gateway_id}").is_err());
    }

    #[test]
    fn a_gateway_id_cannot_reach_into_other_topics() {
        for bad in ["", "+", "#", "a/b", "a\0", "gw\u{1b}[2J"] {
            assert!(GatewayId::new(bad).is_err(), "{bad:?}");
        }
        assert!(GatewayId::new("网关-1").is_ok());
    }
}
