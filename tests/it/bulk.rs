//! Requests in bulk against the real edge: every form of input, every bulk option, and a world that breaks down.
#![allow(clippy::unwrap_used, reason = "a test that fails here has found something")]

mod breakdowns;
mod input;
mod journal;
mod options;
mod pipes;
