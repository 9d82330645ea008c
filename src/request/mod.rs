//! From one value of the input to a request.
#![deny(clippy::disallowed_methods, clippy::disallowed_types)]

pub mod csv;
pub mod framer;
pub mod identifier;
pub mod input;
pub mod parser;
