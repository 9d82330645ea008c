//! One JSON value as text.

use std::fmt;

use serde_json::value::RawValue;
use smol_str::{SmolStr, ToSmolStr as _};

use super::decimal;

/// The text of one JSON value, exactly as received or to be sent, without spaces around it. A short one allocates nothing,
/// and nearly all values of data points are short.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Json(SmolStr);

impl Json {
    /// Parses one JSON value.
    ///
    /// # Errors
    /// A text that is not one JSON value.
    pub fn parse(text: &str) -> Result<Self, serde_json::Error> {
        serde_json::from_str::<&RawValue>(text).map(Self::from)
    }

    /// `true` or `false`.
    #[must_use]
    pub fn flag(on: bool) -> Self {
        Self(SmolStr::new_static(if on { "true" } else { "false" }))
    }

    /// An integer.
    #[must_use]
    pub fn integer(number: i64) -> Self {
        Self(decimal(number))
    }

    /// A string that holds this text.
    #[must_use]
    pub fn string(text: &str) -> Self {
        Self(serde_json::Value::from(text).to_smolstr())
    }

    /// Its text.
    #[must_use]
    pub fn get(&self) -> &str {
        &self.0
    }
}

impl From<&RawValue> for Json {
    fn from(value: &RawValue) -> Self {
        Self(value.get().into())
    }
}

impl fmt::Display for Json {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}
