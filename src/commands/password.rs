//! `password`: derives the MQTT password, for one login or for many.

use crate::{commands::Console, failure::Exit};

/// Arguments of `password`.
#[derive(Debug, clap::Args)]
pub struct Args {}

/// Runs `password`.
pub fn run(_args: Args, _console: Console) -> anyhow::Result<Exit> {
    Ok(Exit::SUCCESS)
}
