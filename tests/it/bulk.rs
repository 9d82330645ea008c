//! Requests in bulk against the real edge: every form of input, every bulk option, and a world that breaks down.

mod breakdowns;
mod input;
mod journal;
mod options;
mod pipes;
mod spreadsheets;
