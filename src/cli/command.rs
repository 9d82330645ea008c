//! `command`: the platform's side. Sends commands to devices through an edge or any broker, and waits for the
//! gateway's answer to each.

use super::{connection::PlatformArgs, value_args::ValueArgs};
use crate::{
    error::Exit, io::console::Console, request::RequestKind, run::connection_settings::ConnectionSettings,
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
    #[command(flatten)]
    values: ValueArgs,
    #[command(flatten)]
    platform: PlatformArgs,
}

/// Runs `command`.
pub fn run(args: Args, console: Console) -> anyhow::Result<Exit> {
    let random_id = format!("tuyagw-{}", uuid::Uuid::new_v4().simple());
    let connection = ConnectionSettings::platform(&args.values.network, &args.platform, random_id)?;
    args.values.run(RequestKind::Command, connection, console)
}
