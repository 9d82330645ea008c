//! `agent status`, `agent stop` and `agent reload`: speak to an agent that runs.

use std::path::PathBuf;

use super::connection::{AgentArgs, GatewayArgs, NetworkArgs};
use crate::{
    error::{Exit, Failure},
    io::agent_socket::{self, AgentPresence},
    run::{agent_control, connection_settings::ConnectionSettings},
};

/// Which agent.
#[derive(Debug, clap::Args)]
pub struct ControlArgs {
    /// Print the state as JSON
    #[arg(long)]
    json: bool,

    /// The agent's socket [default: the one of broker and gateway]
    #[arg(long, value_name = "PATH")]
    socket: Option<PathBuf>,

    #[command(flatten)]
    gateway: GatewayArgs,
    #[command(flatten)]
    network: NetworkArgs,
}

impl ControlArgs {
    /// Prints what the agent does.
    pub fn status(self) -> anyhow::Result<Exit> {
        agent_control::status(self.settings()?, self.json)
    }

    /// Ends the agent.
    pub fn stop(self) -> anyhow::Result<Exit> {
        agent_control::stop(self.settings()?)
    }

    /// Makes the agent read its files again.
    pub fn reload(self) -> anyhow::Result<Exit> {
        agent_control::reload(self.settings()?)
    }

    /// Returns the connection to the agent.
    ///
    /// # Errors
    /// No agent, at a socket that was named as well: the exit code is that of the command line, not of the connection.
    fn settings(&self) -> Result<ConnectionSettings, Failure> {
        let agent = match &self.socket {
            Some(socket) if agent_socket::presence(socket)? == AgentPresence::Absent => None,
            _ => {
                let agent = AgentArgs::of_socket(self.socket.clone());
                ConnectionSettings::of_agent(&self.network, &self.gateway, &agent)?
            }
        };
        if let Some(agent) = agent {
            return Ok(agent);
        }
        // It says which setting is missing.
        let settings = ConnectionSettings::gateway(&self.network, &self.gateway)?;
        let gateway =
            settings.gateway_id.map(|gateway| format!(" for gateway {gateway}")).unwrap_or_default();
        Err(match &self.socket {
            Some(socket) => Failure::invalid(format!("no agent listens on {}", socket.display())),
            None => Failure::invalid(format!("no agent runs{gateway} of this broker")),
        }
        .hint("Start one with tuyagw agent"))
    }
}
