//! What the agent says of itself: the JSON on [`super::STATUS_TOPIC`].

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

/// The state of an agent.
///
/// Fields that a newer agent adds are ignored, and fields that an older one lacks have their defaults, so that a program and
/// an agent of different versions understand each other.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct AgentStatus {
    /// The version of the agent's program.
    pub version: String,
    /// Its process id.
    pub pid: u32,
    /// Whether the connection to the edge is open and its subscriptions are granted.
    pub connected: bool,
    /// Since when it is connected, or is not, as an RFC 3339 time.
    pub since: String,
    /// Why the connection was lost or refused last; empty if it never was.
    pub reason: String,
    /// The broker's URL.
    pub broker: String,
    /// The gateway's id.
    pub gateway_id: String,
    /// The username of the login.
    pub username: String,
    /// The topics by their keys, such as `sync-response`.
    pub topics: BTreeMap<String, String>,
    /// How many local programs are connected, the one that reads this included.
    pub clients: u64,
    /// How many messages of local programs the edge has not acknowledged or answered.
    pub queue: u64,
    /// The spool; `None` without one.
    pub spool: Option<SpoolStatus>,
    /// Who answers commands: `agent`, `client`, or empty if no one does.
    pub answering: String,
    /// When the last answer came, as an RFC 3339 time; empty if none has come.
    pub last_answer: String,
    /// How often the connection was lost and opened again.
    pub reconnects: u64,
    /// How many answers came with each result code.
    pub codes: BTreeMap<String, u64>,
}

/// The state of the spool.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct SpoolStatus {
    /// How many messages are kept.
    pub messages: u64,
    /// The bytes that they occupy.
    pub bytes: u64,
    /// The most that they may occupy, in bytes.
    pub max_bytes: u64,
    /// When the oldest was given, as an RFC 3339 time; empty if there is none.
    pub oldest: String,
    /// How many have been delivered since the agent's start.
    pub delivered: u64,
    /// How many of them the edge refused.
    pub refused: u64,
    /// Why the message of the program that reads this was not kept; empty if it was.
    pub error: String,
}

impl AgentStatus {
    /// The JSON text.
    #[must_use]
    pub fn encode(&self) -> String {
        serde_json::to_string(self).unwrap_or_default()
    }

    /// Reads the JSON text.
    ///
    /// # Errors
    /// A text that is not the JSON of a status; says why, in words.
    pub fn decode(payload: &[u8]) -> Result<Self, String> {
        serde_json::from_slice(payload).map_err(|why| why.to_string())
    }

    /// Says, in words, why a program that expects this username and these topics must not use the agent; `None` if it may.
    #[must_use]
    pub fn mismatch(&self, username: Option<&str>, topics: &BTreeMap<String, String>) -> Option<String> {
        if let Some(username) = username
            && username != self.username
        {
            return Some(format!(
                "the agent logs in as username {:?}, and this program is set up with {username:?}",
                self.username
            ));
        }
        let differing = topics.iter().find(|(key, topic)| self.topics.get(*key) != Some(topic));
        differing.map(|(key, topic)| {
            let theirs = self.topics.get(key).map_or("none", String::as_str);
            format!("topic {key} is {theirs:?} at the agent, and {topic:?} in this program")
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn status() -> AgentStatus {
        AgentStatus {
            connected: true,
            username: "acme".into(),
            topics: [("report".to_owned(), "gateway_id/gw1/properties/report".to_owned())].into(),
            spool: Some(SpoolStatus { messages: 3, ..SpoolStatus::default() }),
            ..AgentStatus::default()
        }
    }

    #[test]
    fn what_is_encoded_is_decoded() {
        assert_eq!(AgentStatus::decode(status().encode().as_bytes()), Ok(status()));
    }

    #[test]
    fn agents_of_other_versions_are_understood() {
        let newer = r#"{"connected":true,"moon":"full","spool":null}"#;
        let read = AgentStatus::decode(newer.as_bytes()).unwrap();
        assert_eq!((read.connected, read.spool, read.clients), (true, None, 0));
        assert!(AgentStatus::decode(b"connected").is_err());
    }

    #[test]
    fn another_username_or_topic_is_a_mismatch() {
        let status = status();
        assert_eq!(status.mismatch(Some("acme"), &status.topics), None);
        assert_eq!(status.mismatch(None, &BTreeMap::new()), None);
        assert!(status.mismatch(Some("other"), &BTreeMap::new()).unwrap().contains("\"acme\""));
        let moved = [("report".to_owned(), "x/gw1".to_owned())].into();
        assert!(status.mismatch(None, &moved).unwrap().starts_with("topic report is"));
    }
}
