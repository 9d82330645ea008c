//! Why a message cannot be decoded: the field, and its fault.

use std::fmt;

use crate::tuya::ResultCode;

/// The fault of one field.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Problem {
    /// The bytes are not one JSON document; the parser's own words.
    NotJson(String),
    /// The field is not there.
    Missing,
    /// The field is there and empty.
    Empty,
    /// The field is null.
    Null,
    /// The field has another JSON type than this.
    Type(&'static str),
}

impl Problem {
    /// The page's result code for the problem ("Global error codes").
    #[must_use]
    pub fn code(&self) -> ResultCode {
        match self {
            Self::Missing | Self::Empty => ResultCode::PARAM_EMPTY,
            Self::Null => ResultCode::PARAM_NULL,
            Self::Type(_) | Self::NotJson(_) => ResultCode::PARAM_TYPE,
        }
    }
}

/// A field and its fault.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct FieldError {
    /// The field's path, such as `param.cid`; empty for the whole message.
    pub field: String,
    /// The fault.
    pub problem: Problem,
}

impl FieldError {
    pub(super) fn new(field: impl Into<String>, problem: Problem) -> Self {
        Self { field: field.into(), problem }
    }
}

impl fmt::Display for FieldError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let field = if self.field.is_empty() { "the message" } else { &self.field };
        match &self.problem {
            Problem::NotJson(why) => write!(f, "{field} is not JSON: {why}"),
            Problem::Missing => write!(f, "{field} is missing"),
            Problem::Empty => write!(f, "{field} is empty"),
            Problem::Null => write!(f, "{field} is null"),
            Problem::Type(expected) => write!(f, "{field} must be {expected}"),
        }
    }
}

impl std::error::Error for FieldError {}

/// A message that could not be decoded, with its readable fields, so that it can still be answered.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Refused {
    /// The message's request id, if it has one.
    pub request_id: Option<String>,
    /// The device it speaks of, if it names one.
    pub cid: Option<String>,
    /// The fault.
    pub error: FieldError,
}

impl fmt::Display for Refused {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.error.fmt(f)
    }
}

impl std::error::Error for Refused {}
