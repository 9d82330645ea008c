//! A connection through an agent: what the program expects of it, and what it says of itself.

use std::{collections::BTreeMap, time::Duration};

use crate::{
    agent::AgentStatus,
    error::{Failure, FailureKind},
    tuya::{Channel, GatewayId, Topics},
};

/// What a program that connects through an agent expects.
#[derive(Clone, Debug)]
pub struct AgentExpectation {
    /// The username; any without one.
    pub username: Option<String>,
    /// The gateway's topics by their keys.
    pub topics: BTreeMap<String, String>,
    /// Whether messages are put into the spool: then the agent needs one, and no connection.
    pub queues: bool,
    /// Whether the agent's own connection is encrypted.
    pub is_tls: bool,
}

/// Returns a gateway's topics by their keys, such as `sync-response`.
#[must_use]
pub fn topics_by_key(topics: &Topics, gateway: &GatewayId) -> BTreeMap<String, String> {
    Channel::ALL.iter().map(|channel| (channel.key().to_owned(), topics.topic(*channel, gateway))).collect()
}

/// The agent at the other end.
#[derive(Debug)]
pub struct AgentLink {
    expectation: AgentExpectation,
    /// Whether the agent was accepted once.
    is_checked: bool,
    /// Since when it has no connection to the edge, and why.
    lost: Option<(Duration, String)>,
    /// Whether the session of a new connection was resumed, until the agent has said its state on it.
    ready: Option<bool>,
}

impl AgentLink {
    /// A link of which nothing is known yet.
    #[must_use]
    pub fn new(expectation: AgentExpectation) -> Self {
        Self { expectation, is_checked: false, lost: None, ready: None }
    }

    /// Keeps a new connection until the agent has said its state on it.
    pub fn hold_ready(&mut self, resumed: bool) {
        self.ready = Some(resumed);
    }

    /// Gives the new connection back, once.
    pub fn take_ready(&mut self) -> Option<bool> {
        self.ready.take()
    }

    /// Since when the agent has no connection to the edge; `None` while it has one.
    #[must_use]
    pub fn lost_at(&self) -> Option<Duration> {
        self.lost.as_ref().map(|(at, _)| *at)
    }

    /// Why the agent has no connection; `None` while it has one.
    #[must_use]
    pub fn reason(&self) -> Option<&str> {
        self.lost.as_ref().map(|(_, reason)| reason.as_str())
    }

    /// Takes what the agent says of itself. Returns a warning if it has lost its connection.
    ///
    /// # Errors
    /// An agent that must not be used: of another username or other topics, or, at the beginning, without a connection.
    pub fn handle_status(&mut self, payload: &[u8], now: Duration) -> Result<Option<String>, Failure> {
        let status = AgentStatus::decode(payload).map_err(|why| {
            let message = format!("the agent's state is not understood: {why}");
            Failure::new(FailureKind::Protocol, message)
                .hint("agent and program may differ too much in version")
        })?;
        let AgentExpectation { username, topics, queues, .. } = &self.expectation;
        if let Some(why) = status.mismatch(username.as_deref(), topics) {
            return Err(Failure::invalid(why)
                .hint("Use the agent's settings, or --agent never, which pushes the agent off"));
        }
        if *queues {
            let Some(spool) = status.spool else {
                return Err(Failure::invalid("--queue: the agent has no spool")
                    .hint("Start it with --spool DIR, or leave out --queue"));
            };
            if !spool.error.is_empty() {
                return Err(Failure::io(format!("a message was not queued: {}", spool.error))
                    .hint("Nothing of it is kept; give it again once the spool has room"));
            }
            return Ok(None);
        }
        if status.connected {
            self.is_checked = true;
            self.lost = None;
            return Ok(None);
        }
        let reason = if status.reason.is_empty() { "it is connecting" } else { &status.reason };
        if !self.is_checked {
            let message = format!("the agent has no connection to the edge: {reason}");
            return Err(Failure::new(FailureKind::Connection, message)
                .hint("tuyagw agent status says more; the agent goes on trying"));
        }
        let warning = format!("the agent has no connection to the edge: {reason}");
        let is_new = self.lost.is_none();
        reason.clone_into(&mut self.lost.get_or_insert((now, String::new())).1);
        Ok(is_new.then_some(warning))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn link(queues: bool) -> AgentLink {
        AgentLink::new(AgentExpectation {
            username: Some("acme".into()),
            topics: BTreeMap::new(),
            queues,
            is_tls: false,
        })
    }

    fn handle(link: &mut AgentLink, status: &str, at: u64) -> Result<Option<String>, (FailureKind, String)> {
        let result = link.handle_status(status.as_bytes(), Duration::from_secs(at));
        result.map_err(|failure| (failure.kind, failure.message))
    }

    #[test]
    fn an_agent_without_a_connection_is_refused_at_the_beginning_and_endured_later() {
        let down = r#"{"username":"acme","connected":false,"reason":"port closed"}"#;
        let (kind, message) = handle(&mut link(false), down, 0).unwrap_err();
        assert_eq!(kind, FailureKind::Connection);
        assert!(message.ends_with("port closed"), "{message}");

        let mut link = link(false);
        assert_eq!(handle(&mut link, r#"{"username":"acme","connected":true}"#, 1), Ok(None));
        assert!(handle(&mut link, down, 2).unwrap().is_some());
        assert_eq!(handle(&mut link, down, 3), Ok(None), "told once");
        assert_eq!((link.lost_at(), link.reason()), (Some(Duration::from_secs(2)), Some("port closed")));
        assert_eq!(handle(&mut link, r#"{"username":"acme","connected":true}"#, 4), Ok(None));
        assert_eq!(link.lost_at(), None);
    }

    #[test]
    fn an_agent_of_another_username_is_refused() {
        let (kind, _) = handle(&mut link(false), r#"{"username":"other","connected":true}"#, 0).unwrap_err();
        assert_eq!(kind.exit(), crate::error::Exit::USAGE);
    }

    #[test]
    fn a_queue_needs_a_spool_and_no_connection() {
        let (kind, message) =
            handle(&mut link(true), r#"{"username":"acme","connected":true}"#, 0).unwrap_err();
        assert_eq!(
            (kind.exit(), message.as_str()),
            (crate::error::Exit::USAGE, "--queue: the agent has no spool")
        );
        let spooling = r#"{"username":"acme","connected":false,"spool":{"messages":1}}"#;
        assert_eq!(handle(&mut link(true), spooling, 0), Ok(None));
    }
}
