//! The list of subcommands.
//!
//! A subcommand is one file: its arguments, whose doc comments are its help, and its `run`. A new one is its file, its `mod`
//! line, and its entry in the list of `subcommands!`.

use clap::{Args as _, Subcommand};

use super::{
    command, completions, convert, edge, explain, inspect, listen, model, password, replay, report, status,
    sync, tap,
};
use crate::{error::Exit, io::console::Console};

/// Makes the subcommands out of one list: each one's help line, its variant and its module.
macro_rules! subcommands {
    ($($(#[doc = $about:literal])+ $variant:ident in $module:ident,)+) => {
        /// The subcommands.
        #[derive(Debug, Subcommand)]
        #[allow(clippy::large_enum_variant, reason = "there is one of it in a run")]
        pub enum Command {
            $($(#[doc = $about])+ $variant($module::Args),)+
        }

        impl Command {
            /// Runs the subcommand.
            pub fn run(self, console: Console) -> anyhow::Result<Exit> {
                match self {
                    $(Self::$variant(args) => $module::run(args, console),)+
                }
            }

            /// The arguments of one subcommand alone, without its place in the tree and its help line.
            #[must_use]
            pub fn alone(name: &str) -> Option<clap::Command> {
                match name {
                    $(stringify!($module) => {
                        Some($module::Args::augment_args(clap::Command::new(stringify!($module))))
                    })+
                    _ => None,
                }
            }
        }
    };
}

subcommands! {
    /// Derive the MQTT password from client id and username
    Password in password,
    /// Synchronise (add or update) devices and wait for each answer
    Sync in sync,
    /// Report data points, one message each, and wait for each answer
    Report in report,
    /// Report devices online or offline
    Status in status,
    /// Print what arrives as records; answer commands; send uplinks from stdin
    Listen in listen,
    /// Send commands to devices, from the platform's side, and wait for each result
    Command in command,
    /// Send a recording again, and compare the answers
    Replay in replay,
    /// Turn recordings of other tools and packet captures into records, and records into CSV
    Convert in convert,
    /// Record the traffic between gateways and an edge, standing between them
    Tap in tap,
    /// Show what is in a recording: a table, JSON, or a page with charts
    Inspect in inspect,
    /// Run the embedded Edge Gateway emulator, by itself or around a program
    Edge in edge,
    /// Show or check a product model
    Model in model,
    /// Say what a code means and what to do about it
    Explain in explain,
    /// Print a shell completion script
    Completions in completions,
}

impl Command {
    /// Whether it has connections, which must not wait for the reader of stderr.
    #[must_use]
    pub fn has_connections(&self) -> bool {
        match self {
            Self::Sync(_)
            | Self::Report(_)
            | Self::Status(_)
            | Self::Listen(_)
            | Self::Command(_)
            | Self::Replay(_)
            | Self::Tap(_)
            | Self::Edge(_) => true,
            Self::Password(_)
            | Self::Convert(_)
            | Self::Inspect(_)
            | Self::Model(_)
            | Self::Explain(_)
            | Self::Completions(_) => false,
        }
    }
}
