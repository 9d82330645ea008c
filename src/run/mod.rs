//! What the subcommands run: the engines behind the arguments.

pub mod batch;
pub mod command_executor;
pub mod edge_output;
pub mod exchange;
pub mod failures;
pub mod grace;
pub mod heartbeat;
pub mod journal;
pub mod program;
pub mod record_filter;
pub mod replay;
pub mod results;
pub mod runtime;
pub mod signals;
pub mod tap_recorder;
