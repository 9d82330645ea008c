//! The command line: one file a subcommand, and the arguments that several share.
//!
//! A subcommand is one file: its arguments, whose doc comments are its help, and its `run`. To add one, write the file, and add
//! it to the two lists below: its `mod` line, and its entry in `subcommands!`.

// The subcommands.
pub(crate) mod agent;
pub(crate) mod command;
pub(crate) mod completions;
pub(crate) mod convert;
pub(crate) mod edge;
pub(crate) mod explain;
pub(crate) mod inspect;
pub(crate) mod listen;
pub(crate) mod model;
pub(crate) mod password;
pub(crate) mod replay;
pub(crate) mod report;
pub(crate) mod status;
pub(crate) mod sync;
pub(crate) mod tap;

// What they share.
pub(crate) mod agent_control;
pub mod config;
pub(crate) mod connection;
pub(crate) mod edge_limits;
pub(crate) mod exec_options;
pub mod files;
pub(crate) mod model_args;
mod parse;
pub(crate) mod profile_args;
pub(crate) mod request_args;
pub(crate) mod selection_args;
pub(crate) mod spool_args;
pub(crate) mod value_args;
pub(crate) mod values;

pub use parse::{Cli, exit_codes, main};

use clap::Args as _;

use crate::{error::Exit, io::console::Console};

/// Makes the subcommands from one list: the help line, the variant and the module of each, and whether it connects. A
/// subcommand that `connects` must not wait for the reader of stderr.
macro_rules! subcommands {
    ($($(#[doc = $about:literal])+ $variant:ident in $module:ident $($connects:ident)?,)+) => {
        /// The subcommands.
        #[derive(Debug, clap::Subcommand)]
        #[allow(clippy::large_enum_variant, reason = "a run has one value of it")]
        pub enum Subcommand {
            $($(#[doc = $about])+ $variant($module::Args),)+
        }

        impl Subcommand {
            /// Runs the subcommand.
            pub fn run(self, console: Console) -> anyhow::Result<Exit> {
                match self {
                    $(Self::$variant(args) => $module::run(args, console),)+
                }
            }

            /// Returns whether the subcommand has connections.
            #[must_use]
            pub fn has_connections(&self) -> bool {
                match self {
                    $(Self::$variant(_) => !stringify!($($connects)?).is_empty(),)+
                }
            }

            /// Returns the arguments of one subcommand, without its place in the tree and its help line.
            #[must_use]
            pub fn single(name: &str) -> Option<clap::Command> {
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
    Sync in sync connects,
    /// Report data points, one message each, and wait for each answer
    Report in report connects,
    /// Report devices online or offline
    Status in status connects,
    /// Print arriving messages as records; answer commands; send uplinks from stdin
    Listen in listen connects,
    /// Hold the gateway's connection, and share it among the programs of this machine
    Agent in agent connects,
    /// Send commands to devices, from the platform's side, and wait for each result
    Command in command connects,
    /// Send a recording again, and compare the answers
    Replay in replay connects,
    /// Turn recordings of other tools and packet captures into records, and records into CSV
    Convert in convert,
    /// Record the traffic between gateways and an edge, as a proxy
    Tap in tap connects,
    /// Show the contents of a recording: a table, JSON, or a page with charts
    Inspect in inspect,
    /// Run the embedded Edge Gateway emulator, alone or around a program
    Edge in edge connects,
    /// Show or check a product model
    Model in model,
    /// Explain a code, and what to do about it
    Explain in explain,
    /// Print a shell completion script
    Completions in completions,
}
