//! What the subcommands run: the engines behind the arguments.

pub mod batch;
pub mod command_executor;
pub mod connection_settings;
pub mod edge_handler;
pub mod edge_output;
pub mod event_loop;
pub mod failures;
pub mod grace;
pub mod heartbeat;
pub mod journal;
pub mod listen;
pub mod program;
pub mod record_filter;
pub mod replay;
pub mod requests;
pub mod results;
pub mod runtime;
pub mod signals;
pub mod tap_recorder;
pub mod time_unit;
pub mod warnings;
