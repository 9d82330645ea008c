//! `report`: reports data points, one message each, and waits for each answer.

use std::ffi::OsString;

use super::connection::{GatewayArgs, NetworkArgs};
use super::inputs::source;
use super::model_args::ModelArgs;
use super::request_args::RequestArgs;
use crate::{
    error::Exit,
    io::console::Console,
    request::RequestKind,
    run::{batch, connection_settings::ConnectionSettings},
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
    /// CODE=VALUE or ID=VALUE of the device --cid; or a FILE of JSON Lines, - for stdin
    #[arg(value_name = "CODE=VALUE|FILE")]
    values: Vec<OsString>,

    /// The device
    #[arg(long)]
    cid: Option<String>,

    #[command(flatten)]
    model: ModelArgs,
    #[command(flatten)]
    requests: RequestArgs,
    #[command(flatten)]
    gateway: GatewayArgs,
    #[command(flatten)]
    network: NetworkArgs,
}

/// Runs `report`.
pub fn run(args: Args, console: Console) -> anyhow::Result<Exit> {
    let parser = args.model.parser()?;
    let connection = ConnectionSettings::gateway(&args.network, &args.gateway)?;
    let source = source(&parser, args.cid.as_deref(), &args.values, args.requests.format(), console)?;
    batch::run(parser, RequestKind::Report, source, connection, args.requests.options(), console)
}
