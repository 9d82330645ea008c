//! Why an input, or one request of it, cannot be sent.

use std::sync::Arc;

use super::part::InputPart;

/// Why an input, or one data point of it, is not sent.
#[derive(Debug, Default)]
pub struct InputError {
    /// The field at fault.
    pub field: Option<String>,
    /// The fault, in words.
    pub message: String,
    /// The device, if the input names one.
    pub cid: Option<String>,
    /// The data point, if the input names one.
    pub id: Option<String>,
    /// The part at fault, of an input with several requests.
    pub part: Option<Arc<InputPart>>,
}

impl InputError {
    pub(super) fn new(field: &str, message: impl Into<String>) -> Self {
        Self { field: Some(field.to_owned()), message: message.into(), ..Self::default() }
    }

    pub(super) fn of(mut self, cid: &str, id: Option<&str>) -> Self {
        self.cid = Some(cid.to_owned());
        self.id = id.map(str::to_owned);
        self
    }
}
