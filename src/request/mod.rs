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
mod parsed_input;
mod parser;
mod part;
#[cfg(test)]
mod tests;

pub use self::{
    error::InputError,
    fields::request_id_of,
    kind::RequestKind,
    parsed_input::{ParsedInput, Request, ResultKey, status_request},
    parser::{RequestParser, input_from_text},
    part::InputPart,
};
