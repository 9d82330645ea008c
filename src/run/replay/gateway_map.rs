//! Which gateway each recorded message is sent as, and on which topic. Pure.

use std::{collections::HashMap, rc::Rc, sync::Arc};

use super::reader::RecordedTopic;
use crate::{
    collections::FastMap,
    error::Failure,
    tuya::{GatewayId, Topics},
};

/// Which gateway takes the place of a recorded one.
#[derive(Debug)]
pub struct GatewayMap {
    /// The gateway of messages whose topic names none.
    default: Option<Rc<GatewayId>>,
    renamed: HashMap<String, String>,
    known: FastMap<String, Rc<GatewayId>>,
}

impl GatewayMap {
    /// A map that renames gateways; `default` is the gateway of messages whose topic names none.
    #[must_use]
    pub fn new(default: Option<GatewayId>, renamed: HashMap<String, String>) -> Self {
        Self { default: default.map(Rc::new), renamed, known: FastMap::default() }
    }

    /// Returns the gateway that a message is sent as.
    ///
    /// # Errors
    /// A topic without a gateway, if there is no default; or an id that is not valid.
    pub fn resolve(&mut self, recorded: &RecordedTopic) -> Result<Rc<GatewayId>, Failure> {
        let Some(id) = &recorded.gateway_id else {
            return self
                .default
                .clone()
                .ok_or_else(|| Failure::invalid("the topic names no gateway, and no --gateway-id is given"));
        };
        if let Some(known) = self.known.get(id) {
            return Ok(Rc::clone(known));
        }
        let new = self.renamed.get(id).unwrap_or(id);
        let new = GatewayId::new(new.as_str()).map_err(|why| Failure::invalid(why.to_string()))?;
        let new = Rc::new(new);
        self.known.insert(id.clone(), Rc::clone(&new));
        Ok(new)
    }
}

/// Returns the topic of a recorded message for the gateway that it is sent as.
#[must_use]
pub fn topic_for(topics: &Topics, recorded: &RecordedTopic, gateway: &GatewayId) -> Arc<str> {
    match recorded.channel {
        Some(channel) if recorded.gateway_id.as_deref() != Some(gateway.as_str()) => {
            topics.topic(channel, gateway).into()
        }
        _ => Arc::clone(&recorded.topic),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::tuya::Channel;

    fn recorded(topic: &str, channel: Option<Channel>, gateway_id: Option<&str>) -> RecordedTopic {
        RecordedTopic { topic: topic.into(), flaw: None, channel, gateway_id: gateway_id.map(str::to_owned) }
    }

    fn resolved(map: &mut GatewayMap, gateway_id: Option<&str>) -> Option<String> {
        let topic = recorded("any", None, gateway_id);
        map.resolve(&topic).ok().map(|gateway| gateway.as_str().to_owned())
    }

    #[test]
    fn a_gateway_is_renamed_and_others_stay() {
        let renamed = HashMap::from([("gw1".to_owned(), "new1".to_owned()), ("gw2".into(), "a/b".into())]);
        let mut map = GatewayMap::new(None, renamed);
        for _ in 0..2 {
            assert_eq!(resolved(&mut map, Some("gw1")).as_deref(), Some("new1"));
            assert_eq!(resolved(&mut map, Some("gw3")).as_deref(), Some("gw3"));
            assert_eq!(resolved(&mut map, Some("gw2")), None, "an id with a slash");
        }
    }

    #[test]
    fn a_topic_without_a_gateway_needs_a_default() {
        let mut map = GatewayMap::new(None, HashMap::new());
        let failure = map.resolve(&recorded("any", None, None)).unwrap_err();
        assert!(failure.message.contains("--gateway-id"), "{failure}");
        let mut map = GatewayMap::new(GatewayId::new("gw9".to_owned()).ok(), HashMap::new());
        assert_eq!(resolved(&mut map, None).as_deref(), Some("gw9"));
        assert_eq!(resolved(&mut map, Some("gw1")).as_deref(), Some("gw1"));
    }

    #[test]
    fn a_renamed_gateway_has_its_own_topic_and_another_topic_stays_as_recorded() {
        let topics = Topics::default();
        let gateway = |id: &str| GatewayId::new(id.to_owned()).unwrap();
        let report = recorded("as/recorded", Some(Channel::Report), Some("gw1"));
        assert_eq!(&*topic_for(&topics, &report, &gateway("gw1")), "as/recorded");
        let expected = topics.topic(Channel::Report, &gateway("new1"));
        assert_eq!(&*topic_for(&topics, &report, &gateway("new1")), expected);
        let other = recorded("as/recorded", None, Some("gw1"));
        assert_eq!(&*topic_for(&topics, &other, &gateway("new1")), "as/recorded");
    }
}
