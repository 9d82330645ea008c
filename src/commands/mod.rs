//! One file a subcommand: its arguments, whose doc comments are its help, and its `run`.
//!
//! A new subcommand is its file and three lines here, which the compiler checks against each other.

mod command;
mod completions;
mod config;
mod connection;
mod console;
mod edge;
mod exchange;
mod explain;
mod input;
mod inspect;
mod journal;
mod listen;
mod model;
mod operations;
mod pace;
mod password;
mod report;
mod requests;
mod results;
mod signals;
mod status;
mod sync;
mod tap;

pub use console::{Console, json_line, print, visible};

use std::time::{Duration, Instant};

use clap::Subcommand;

use crate::failure::{Exit, Failure};

/// The subcommands.
#[derive(Debug, Subcommand)]
#[allow(clippy::large_enum_variant, reason = "there is one of it in a run")]
pub enum Command {
    /// Derive the MQTT password from client id and username
    Password(password::Args),
    /// Synchronise (add or update) devices and wait for each answer
    Sync(sync::Args),
    /// Report data points, one message each, and wait for each answer
    Report(report::Args),
    /// Report devices online or offline
    Status(status::Args),
    /// Print what arrives as records; answer commands; send uplinks from stdin
    Listen(listen::Args),
    /// Send commands to devices, from the platform's side, and wait for each result
    Command(command::Args),
    /// Record the traffic between gateways and an edge, standing between them
    Tap(tap::Args),
    /// Show what is in a recording: a table, JSON, or a page with charts
    Inspect(inspect::Args),
    /// Run the embedded Edge Gateway emulator, by itself or around a program
    Edge(edge::Args),
    /// Show or check a product model
    Model(model::Args),
    /// Say what a code means and what to do about it
    Explain(explain::Args),
    /// Print a shell completion script
    Completions(completions::Args),
}

impl Command {
    /// Runs the subcommand.
    pub fn run(self, console: Console) -> anyhow::Result<Exit> {
        match self {
            Self::Password(args) => password::run(args, console),
            Self::Sync(args) => sync::run(args, console),
            Self::Report(args) => report::run(args, console),
            Self::Status(args) => status::run(args, console),
            Self::Listen(args) => listen::run(args, console),
            Self::Command(args) => command::run(args, console),
            Self::Tap(args) => tap::run(args, console),
            Self::Inspect(args) => inspect::run(args, console),
            Self::Edge(args) => edge::run(args, console),
            Self::Model(args) => model::run(args, console),
            Self::Explain(args) => explain::run(args, console),
            Self::Completions(args) => completions::run(args, console),
        }
    }
}

/// Runs a subcommand's event loop on this thread.
fn block_on<T>(future: impl Future<Output = anyhow::Result<T>>) -> anyhow::Result<T> {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .map_err(|why| Failure::io(format!("the event loop cannot be set up: {why}")))?;
    let result = runtime.block_on(future);
    // A name server that does not answer must not hold the exit up.
    runtime.shutdown_timeout(Duration::ZERO);
    result
}

/// Waits until a moment, or for ever.
async fn sleep_until(moment: Option<Instant>) {
    match moment {
        Some(moment) => tokio::time::sleep_until(moment.into()).await,
        None => std::future::pending().await,
    }
}
