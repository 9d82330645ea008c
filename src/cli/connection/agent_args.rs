//! Whether a gateway's connection goes through the agent that holds it.

use std::{convert::Infallible, path::PathBuf, str::FromStr};

use crate::{
    agent::{NamedBroker, socket_name},
    error::{Failure, FailureKind},
    io::agent_socket::{self, AgentPresence},
    net::client::BrokerAddress,
    run::connection_settings::ConnectionSettings,
    tuya::GatewayId,
};

/// Whether to use an agent.
#[derive(Clone, Debug, clap::Args)]
#[command(next_help_heading = "Connection")]
pub struct AgentArgs {
    /// Connect through the gateway's agent: auto (if one runs), never, require, or the PATH of its socket
    #[arg(long, env = "TUYAGW_AGENT", value_name = "WHEN|PATH", default_value = "auto")]
    agent: AgentChoice,
}

/// Whether messages go into the agent's spool.
#[derive(Clone, Debug, clap::Args)]
#[command(next_help_heading = "Requests")]
pub struct QueueArgs {
    /// Put the messages into the agent's spool, which sends them once the edge is there; do not wait for answers
    #[arg(long, conflicts_with_all = ["no_wait", "retries", "journal"])]
    queue: bool,
}

impl QueueArgs {
    /// Lets the connection's messages go into the spool.
    ///
    /// # Errors
    /// A connection that does not go through an agent.
    pub fn apply(&self, settings: &mut ConnectionSettings) -> Result<(), Failure> {
        if !self.queue {
            return Ok(());
        }
        let agent = settings.agent.as_mut().ok_or_else(|| {
            Failure::invalid("--queue: no agent runs for this gateway")
                .hint("Start one with tuyagw agent --spool DIR")
        })?;
        agent.queues = true;
        Ok(())
    }
}

/// Which agent to use.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum AgentChoice {
    /// The gateway's, if it runs.
    Auto,
    /// None.
    Never,
    /// The gateway's, which must run.
    Require,
    /// The one at this socket.
    Path(PathBuf),
}

impl FromStr for AgentChoice {
    type Err = Infallible;

    fn from_str(text: &str) -> Result<Self, Infallible> {
        Ok(match text {
            "auto" => Self::Auto,
            "never" => Self::Never,
            "require" => Self::Require,
            path => Self::Path(path.into()),
        })
    }
}

impl AgentArgs {
    /// The agent at a socket, or the gateway's.
    #[must_use]
    pub fn of_socket(socket: Option<PathBuf>) -> Self {
        Self { agent: socket.map_or(AgentChoice::Auto, AgentChoice::Path) }
    }

    /// Returns the socket to connect to; `None` if the connection is to be opened directly.
    ///
    /// # Errors
    /// An agent that must be used and cannot be.
    pub fn find(
        &self,
        broker: &BrokerAddress,
        is_tls: bool,
        gateway: &GatewayId,
    ) -> Result<Option<PathBuf>, Failure> {
        let named = NamedBroker { is_tls, host: &broker.host, port: broker.port };
        let presence = match &self.agent {
            AgentChoice::Never => return Ok(None),
            AgentChoice::Path(path) => agent_socket::presence(path)?,
            AgentChoice::Auto | AgentChoice::Require => {
                agent_socket::find(&agent_socket::folders(), &socket_name(&[named], gateway))?
            }
        };
        match (presence, &self.agent) {
            (AgentPresence::Present(path), _) => Ok(Some(path)),
            (AgentPresence::Absent, AgentChoice::Auto | AgentChoice::Never) => Ok(None),
            (AgentPresence::Absent, AgentChoice::Require) => {
                let message = format!("no agent runs for gateway {gateway} of this broker");
                Err(Failure::new(FailureKind::Connection, message)
                    .hint("Start one with tuyagw agent, or use --agent auto"))
            }
            (AgentPresence::Absent, AgentChoice::Path(path)) => {
                let message = format!("no agent listens on {}", path.display());
                Err(Failure::new(FailureKind::Connection, message)
                    .hint("Start one with tuyagw agent --socket PATH, or use --agent auto"))
            }
        }
    }
}
