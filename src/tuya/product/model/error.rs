//! Why a model cannot be read.

use std::fmt;

/// Why a model cannot be read: the place, the fault, and the next step.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ModelError {
    /// The place in the file: a JSON path, or line and column; empty for the whole file.
    pub place: String,
    /// The fault.
    pub message: String,
    /// The next step, if there is one.
    pub hint: Option<String>,
}

impl ModelError {
    pub(super) fn new(place: impl Into<String>, message: impl Into<String>) -> Self {
        Self { place: place.into(), message: message.into(), hint: None }
    }

    pub(super) fn hint(mut self, hint: impl Into<String>) -> Self {
        self.hint = Some(hint.into());
        self
    }
}

impl fmt::Display for ModelError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if !self.place.is_empty() {
            write!(f, "{}: ", self.place)?;
        }
        f.write_str(&self.message)
    }
}

impl std::error::Error for ModelError {}
