//! The topics of local programs: those of the gateway, as an edge allows them, and the agent's own below `$agent/`.

use crate::tuya::{Channel, GatewayId, Topics};

/// Where the agent's state is retained, as the JSON of [`super::AgentStatus`].
pub const STATUS_TOPIC: &str = "$agent/status";
/// The subscription that makes a program answer the commands instead of the agent; one program at a time.
pub const ANSWER_TOPIC: &str = "$agent/answer";
/// What stands before the topic of a message that is to be kept in the spool until the edge has it.
pub const QUEUE_PREFIX: &str = "$agent/queue/";
/// A message there ends the agent.
pub const STOP_TOPIC: &str = "$agent/stop";
/// A message there makes the agent read its devices and its profile again.
pub const RELOAD_TOPIC: &str = "$agent/reload";

/// What everything of the agent's own begins with.
const AGENT_PREFIX: &str = "$agent/";
/// The topics of the page's sample programs, which publish and subscribe to either.
const SAMPLES: [&str; 2] = ["gateway/in/", "gateway/out/"];

/// What a local program's message is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum LocalPublish {
    /// It is forwarded. The channel is that of the first template that the topic fits; the page's sample topics have none.
    Forward(Option<Channel>),
    /// It is kept in the spool and sent to the topic behind [`QUEUE_PREFIX`].
    Queue(Channel),
    /// The agent is to end.
    Stop,
    /// The agent is to read its files again.
    Reload,
}

/// Which topics local programs may use.
#[derive(Clone, Debug)]
pub struct LocalTopics {
    topics: Topics,
    gateway: GatewayId,
}

impl LocalTopics {
    /// The topics of one gateway.
    #[must_use]
    pub fn new(topics: Topics, gateway: GatewayId) -> Self {
        Self { topics, gateway }
    }

    /// The templates in force.
    #[must_use]
    pub fn topics(&self) -> &Topics {
        &self.topics
    }

    /// The gateway.
    #[must_use]
    pub fn gateway(&self) -> &GatewayId {
        &self.gateway
    }

    /// Says what a message on a topic is for; `None` if a local program may not publish there.
    #[must_use]
    pub fn publish(&self, topic: &str) -> Option<LocalPublish> {
        match topic {
            STOP_TOPIC => return Some(LocalPublish::Stop),
            RELOAD_TOPIC => return Some(LocalPublish::Reload),
            _ => {}
        }
        if let Some(queued) = topic.strip_prefix(QUEUE_PREFIX) {
            // A command is answered now or never, and devices are synchronised by who waits for the answer.
            let channel = self.uplink(queued)?;
            return matches!(channel, Channel::Report | Channel::Status)
                .then_some(LocalPublish::Queue(channel));
        }
        let uplink = self.uplink(topic);
        (uplink.is_some() || self.is_sample(topic)).then_some(LocalPublish::Forward(uplink))
    }

    /// Whether a local program may subscribe to a filter: below its gateway's id, to the gateway's topics wherever a profile
    /// has put them, and to the agent's state.
    #[must_use]
    pub fn may_subscribe(&self, filter: &str) -> bool {
        if filter.starts_with(AGENT_PREFIX) {
            return filter == STATUS_TOPIC || filter == ANSWER_TOPIC;
        }
        let below =
            filter.strip_prefix("gateway_id/").and_then(|rest| rest.strip_prefix(self.gateway.as_str()));
        below.is_some_and(|rest| rest.starts_with('/'))
            || self.is_sample(filter)
            || Channel::ALL.iter().any(|channel| self.is_channel(*channel, filter))
    }

    /// The channel of a message from the edge.
    #[must_use]
    pub fn downlink(&self, topic: &str, payload: &[u8]) -> Option<Channel> {
        let (channel, id) = self.topics.classify(topic, payload)?;
        channel.filter(|_| id == self.gateway.as_str())
    }

    fn uplink(&self, topic: &str) -> Option<Channel> {
        let uplinks = [Channel::Report, Channel::Status, Channel::CommandResponse, Channel::Sync];
        uplinks.into_iter().find(|channel| self.is_channel(*channel, topic))
    }

    fn is_channel(&self, channel: Channel, topic: &str) -> bool {
        self.topics.id_in(channel, topic) == Some(self.gateway.as_str())
    }

    fn is_sample(&self, topic: &str) -> bool {
        let id = |prefix: &&str| topic.strip_prefix(*prefix) == Some(self.gateway.as_str());
        SAMPLES.iter().any(id)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn local() -> LocalTopics {
        LocalTopics::new(Topics::default(), GatewayId::new("gw1").unwrap())
    }

    #[test]
    fn a_program_publishes_to_its_gateways_uplink_topics_only() {
        let local = local();
        let report = "gateway_id/gw1/properties/report";
        assert_eq!(local.publish(report), Some(LocalPublish::Forward(Some(Channel::Report))));
        assert_eq!(local.publish("gateway/in/gw1"), Some(LocalPublish::Forward(None)));
        for other in [
            "gateway_id/gw2/properties/report",
            "gateway_id/gw1/commands",
            "gateway_id/gw1/properties/report/response",
            "gateway/in/gw2",
            "$agent/status",
            "$agent/answer",
            "$SYS/uptime",
            "x",
        ] {
            assert_eq!(local.publish(other), None, "{other}");
        }
    }

    #[test]
    fn reports_and_statuses_may_be_queued() {
        let local = local();
        let queue = |topic: &str| local.publish(&format!("{QUEUE_PREFIX}gateway_id/gw1/{topic}"));
        assert_eq!(queue("properties/report"), Some(LocalPublish::Queue(Channel::Report)));
        assert_eq!(queue("devices/status"), Some(LocalPublish::Queue(Channel::Status)));
        assert_eq!(queue("devices/sync"), None);
        assert_eq!(queue("commands/response"), None);
        assert_eq!(local.publish("$agent/queue/gateway_id/gw2/properties/report"), None);
        assert_eq!(local.publish("$agent/queue/"), None);
    }

    #[test]
    fn a_program_subscribes_below_its_gateway_and_to_the_agents_state() {
        let local = local();
        for filter in [
            "gateway_id/gw1/#",
            "gateway_id/gw1/commands",
            "gateway_id/gw1/+/response",
            "gateway/out/gw1",
            STATUS_TOPIC,
            ANSWER_TOPIC,
        ] {
            assert!(local.may_subscribe(filter), "{filter}");
        }
        for filter in
            ["#", "+/gw1/#", "gateway_id/+/commands", "gateway_id/gw10/#", "$agent/#", "$agent/queue/x"]
        {
            assert!(!local.may_subscribe(filter), "{filter}");
        }
    }

    #[test]
    fn topics_of_a_profile_are_the_gateways_too() {
        let mut topics = Topics::default();
        topics.set(Channel::ReportResponse, "acme/{gateway_id}/answers").unwrap();
        let local = LocalTopics::new(topics, GatewayId::new("gw1").unwrap());
        assert!(local.may_subscribe("acme/gw1/answers"));
        assert!(!local.may_subscribe("acme/gw2/answers"));
        assert!(!local.may_subscribe("acme/#"));
    }
}
