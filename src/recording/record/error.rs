//! Why a line is not a record.

use std::fmt;

/// Why a line is not a record.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RecordError {
    /// The field at fault; empty for the whole line.
    pub field: &'static str,
    /// What is wrong with it, as the rest of a sentence that begins with the field.
    pub message: String,
}

impl RecordError {
    pub(in crate::recording) fn new(field: &'static str, message: impl Into<String>) -> Self {
        Self { field, message: message.into() }
    }
}

impl fmt::Display for RecordError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let field = if self.field.is_empty() { "the line" } else { self.field };
        write!(f, "{field} {}", self.message)
    }
}

impl std::error::Error for RecordError {}
