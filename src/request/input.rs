//! One value of the input.

use std::borrow::Cow;

use serde_json::{Map, Value};

use super::error::InputError;
use crate::json::push_text;

/// How input is written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum InputFormat {
    /// JSON Lines, a stream of JSON values, or JSON arrays
    Json,
    /// CSV with a header of the protocol's field names
    Csv,
}

/// One value of the input.
#[derive(Debug)]
pub struct InputValue<'a> {
    /// The line on which it begins, from 1; `None` for a request from flags.
    pub line: Option<u64>,
    /// Its contents.
    pub content: InputContent<'a>,
}

/// The contents of an input.
#[derive(Debug)]
pub enum InputContent<'a> {
    /// The text of a JSON value, without spaces around it.
    Json(Cow<'a, str>),
    /// Fields as text, from CSV or from flags; what the text of a value means depends on its data point.
    Fields(Vec<(String, String)>),
    /// Unreadable input, as a JSON string with invalid UTF-8 replaced; and the error.
    Broken(String, InputError),
}

impl<'a> InputValue<'a> {
    /// A JSON value.
    #[must_use]
    pub fn json(line: u64, text: &'a str) -> Self {
        Self { line: Some(line), content: InputContent::Json(text.into()) }
    }

    /// A piece of input that cannot be read.
    #[must_use]
    pub fn broken(line: u64, text: &[u8], why: InputError) -> Self {
        let mut quoted = Vec::new();
        push_text(&mut quoted, String::from_utf8_lossy(text).trim());
        let quoted = String::from_utf8(quoted).unwrap_or_default();
        Self { line: Some(line), content: InputContent::Broken(quoted, why) }
    }

    /// About how many bytes it takes in its file; the bytes between values are not counted.
    #[must_use]
    pub fn size(&self) -> u64 {
        let bytes = match &self.content {
            InputContent::Json(text) => text.len() + 1,
            InputContent::Broken(text, _) => text.len() + 1,
            InputContent::Fields(fields) => fields.iter().map(|(_, cell)| cell.len() + 1).sum(),
        };
        bytes as u64
    }

    /// A request made from flags.
    #[must_use]
    pub fn from_flags(fields: Map<String, Value>) -> Self {
        Self { line: None, content: InputContent::Json(Value::Object(fields).to_string().into()) }
    }
}
