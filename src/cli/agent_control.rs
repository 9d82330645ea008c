//! `agent status`, `agent stop` and `agent reload`: speak to an agent that runs.

use std::path::PathBuf;

use super::connection::{AgentArgs, GatewayArgs, NetworkArgs};
use crate::{
    error::{Exit, Failure},
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
        let settings = self.settings()?;
        agent_control::status(settings, self.json)
    }

    /// Ends the agent.
    pub fn stop(self) -> anyhow::Result<Exit> {
        let settings = self.settings()?;
        agent_control::stop(settings)
    }

    /// Makes the agent read its files again.
    pub fn reload(self) -> anyhow::Result<Exit> {
        let settings = self.settings()?;
        agent_control::reload(settings)
    }

    fn settings(&self) -> Result<ConnectionSettings, Failure> {
        let agent = AgentArgs::of_socket(self.socket.clone());
        let found = ConnectionSettings::of_agent(&self.network, &self.gateway, &agent)?;
        found.ok_or_else(|| {
            Failure::invalid("no agent runs for this gateway and broker")
                .hint("Start one with tuyagw agent; --broker and --gateway-id must be the agent's")
        })
    }
}
