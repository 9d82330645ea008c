//! From one value of the input to a request.
#![deny(clippy::disallowed_methods, clippy::disallowed_types)]

pub mod csv;
mod error;
mod fields;
pub mod framer;
pub mod identifier;
pub mod input;
mod json_text;
mod kind;
mod object;
mod parser;
mod part;
mod request;
#[cfg(test)]
mod tests;

pub use self::{
    error::InputError,
    fields::request_id_of,
    kind::RequestKind,
    parser::{RequestParser, input_from_text},
    part::InputPart,
    request::{ParsedInput, Request, ResultKey, status_item},
};
