//! The topic filters that `listen` subscribes to.

use std::collections::HashSet;

use crate::{
    mqtt::matches,
    tuya::{Channel, GatewayId, Topics},
};

/// Returns the filters: those that were asked for, all topics of the gateway, or its downlink topics. The response topics are
/// added if own requests need their answers.
#[must_use]
pub fn topic_filters(
    chosen: &[String],
    hears_all: bool,
    needs_answers: bool,
    topics: &Topics,
    gateway: &GatewayId,
) -> Vec<String> {
    let topic = |channel| topics.topic(channel, gateway);
    let downlinks = [Channel::SyncResponse, Channel::Command, Channel::ReportResponse];
    let mut filters = if hears_all {
        // The topics of a profile may be elsewhere.
        let all = format!("gateway_id/{gateway}/#");
        let elsewhere = Channel::ALL.map(topic).into_iter().filter(|topic| !matches(&all, topic));
        [all.clone()].into_iter().chain(elsewhere).collect()
    } else if chosen.is_empty() {
        downlinks.map(topic).to_vec()
    } else {
        chosen.to_vec()
    };
    if needs_answers {
        for answers in [Channel::SyncResponse, Channel::ReportResponse].map(topic) {
            // If filters overlap, a broker may send a message once for each (MQTT 3.1.1, section 3.3.5).
            if !filters.iter().any(|filter| matches(filter, &answers)) {
                filters.push(answers);
            }
        }
    }
    let mut seen = HashSet::new();
    filters.retain(|filter| seen.insert(filter.clone()));
    filters
}

#[cfg(test)]
mod tests {
    use super::*;

    fn filters(chosen: &[&str], hears_all: bool, needs_answers: bool, topics: &Topics) -> Vec<String> {
        let gateway = GatewayId::new("gw1".to_owned()).unwrap();
        let chosen: Vec<_> = chosen.iter().map(|filter| (*filter).to_owned()).collect();
        topic_filters(&chosen, hears_all, needs_answers, topics, &gateway)
    }

    #[test]
    fn the_downlink_topics_are_heard_by_default() {
        let topics = Topics::default();
        let found = filters(&[], false, true, &topics);
        assert_eq!(found.len(), 3);
        assert!(found.iter().all(|filter| filter.starts_with("gateway_id/gw1/")), "{found:?}");
    }

    #[test]
    fn answers_to_own_requests_are_heard_whatever_was_asked_for() {
        let topics = Topics::default();
        assert_eq!(filters(&["a/#", "a/#"], false, false, &topics), ["a/#"]);
        assert_eq!(filters(&["a/#"], false, true, &topics).len(), 3);
        assert_eq!(filters(&["gateway_id/+/#"], false, true, &topics), ["gateway_id/+/#"]);
    }

    #[test]
    fn all_topics_include_those_that_a_profile_puts_elsewhere() {
        let mut topics = Topics::default();
        assert_eq!(filters(&[], true, true, &topics), ["gateway_id/gw1/#"]);
        topics.set(Channel::Command, "else/{gateway_id}/where").unwrap();
        assert_eq!(filters(&[], true, true, &topics), ["gateway_id/gw1/#", "else/gw1/where"]);
    }
}
