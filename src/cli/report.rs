//! `report`: reports data points, one message each, and waits for each answer.

use super::{
    connection::{AgentArgs, GatewayArgs, QueueArgs},
    value_args::ValueArgs,
};
use crate::{
    error::Exit, io::console::Console, request::RequestKind, run::connection_settings::ConnectionSettings,
};

const EXAMPLES: &str = "EXAMPLES
  One meter, two data points; a number with a unit is scaled as the model says:
    tuyagw report --cid m1 water_flow=12.345m3 valve_state=opened
  By data point id:
    tuyagw report --cid m1 1=12345
  Many, from a file or a pipe:
    tuyagw report readings.jsonl > results.jsonl";

/// Arguments of `report`.
#[derive(Debug, clap::Args)]
#[command(after_help = EXAMPLES)]
pub struct Args {
    #[command(flatten)]
    values: ValueArgs,
    #[command(flatten)]
    gateway: GatewayArgs,
    #[command(flatten)]
    agent: AgentArgs,
    #[command(flatten)]
    queue: QueueArgs,
}

/// Runs `report`.
pub fn run(args: Args, console: Console) -> anyhow::Result<Exit> {
    let mut connection =
        ConnectionSettings::gateway_or_agent(&args.values.network, &args.gateway, &args.agent)?;
    args.queue.apply(&mut connection)?;
    args.values.run(RequestKind::Report, connection, console)
}
