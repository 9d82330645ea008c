//! `command`: the platform's side. Sends commands to devices through an edge or any broker, and waits for the
//! gateway's answer to each.

use std::ffi::OsString;

use super::connection::{NetworkArgs, PlatformArgs};
use super::inputs::source;
use super::model_args::ModelArgs;
use super::request_args::RequestArgs;
use crate::{
    error::Exit,
    io::console::Console,
    request::RequestKind,
    run::{batch, connection_settings::ConnectionSettings},
};

const EXAMPLES: &str = r#"EXAMPLES
  Close the valve of one meter and wait for the gateway's answer:
    tuyagw command --gateway-id gw001 --cid m1 switch_state=false
  Many, from a pipe:
    echo '{"gateway_id":"gw1","cid":"m1","id":"18","value":50}' | tuyagw command"#;

/// Arguments of `command`.
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
    platform: PlatformArgs,
    #[command(flatten)]
    network: NetworkArgs,
}

/// Runs `command`.
pub fn run(args: Args, console: Console) -> anyhow::Result<Exit> {
    let parser = args.model.parser()?;
    let random_id = format!("tuyagw-{}", uuid::Uuid::new_v4().simple());
    let connection = ConnectionSettings::platform(&args.network, &args.platform, random_id)?;
    let source = source(&parser, args.cid.as_deref(), &args.values, args.requests.format(), console)?;
    batch::run(parser, RequestKind::Command, source, connection, args.requests.options(), console)
}
