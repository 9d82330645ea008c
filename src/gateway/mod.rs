//! The gateway's half of the protocol: what it has asked and what it answers.
//!
//! Pure: no clock, no socket, no ids of its own. The shells in `commands` say when and where.
#![deny(clippy::disallowed_methods, clippy::disallowed_types)]

mod commands;
mod pending;

pub use commands::{CommandKey, Commands, Order};
pub use pending::{Acknowledged, Finished, Match, Overdue, PendingRequests, Sending, excerpt};
