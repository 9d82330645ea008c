//! One file a subcommand: its arguments, whose doc comments are its help, and its `run`.
//!
//! A new subcommand is its file and three lines here, which the compiler checks against each other.

mod completions;
mod console;
pub mod model;
mod explain;
mod password;

pub use console::{Console, json_line, print, visible};

use clap::Subcommand;

use crate::failure::Exit;

/// The subcommands.
#[derive(Debug, Subcommand)]
pub enum Command {
    /// Show or check a product model
    Model(model::Args),
    /// Derive the MQTT password from client id and username
    Password(password::Args),
    /// Say what a code means and what to do about it
    Explain(explain::Args),
    /// Print a shell completion script
    Completions(completions::Args),
}

impl Command {
    /// Runs the subcommand.
    pub fn run(self, console: Console) -> anyhow::Result<Exit> {
        match self {
            Self::Model(args) => model::run(args, console),
            Self::Password(args) => password::run(args, console),
            Self::Explain(args) => explain::run(args, console),
            Self::Completions(args) => completions::run(args, console),
        }
    }
}
