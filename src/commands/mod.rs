//! One file a subcommand: its arguments, whose doc comments are its help, and its `run`.
//!
//! A new subcommand is its file and three lines here, which the compiler checks against each other.

mod console;
mod password;

pub use console::{Console, json_line, print, visible};

use clap::Subcommand;

use crate::failure::Exit;

/// The subcommands.
#[derive(Debug, Subcommand)]
pub enum Command {
    /// Derive the MQTT password from client id and username
    Password(password::Args),
}

impl Command {
    /// Runs the subcommand.
    pub fn run(self, console: Console) -> anyhow::Result<Exit> {
        match self {
            Self::Password(args) => password::run(args, console),
        }
    }
}
