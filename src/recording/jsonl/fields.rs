//! The fields that tell the lines of other tools apart.

use std::borrow::Cow;

use serde::Deserialize;
use serde_json::value::RawValue;

use crate::recording::{decimal::whole, record::RecordError};

/// The fields that tell the lines of other tools apart.
#[derive(Deserialize)]
pub(super) struct ForeignFields<'a> {
    #[serde(borrow)]
    pub v: Option<&'a RawValue>,
    #[serde(borrow)]
    pub topic: Option<Cow<'a, str>>,
    #[serde(borrow)]
    pub tst: Option<&'a RawValue>,
    #[serde(borrow)]
    pub time: Option<&'a RawValue>,
    #[serde(borrow)]
    pub qos: Option<&'a RawValue>,
    #[serde(borrow)]
    pub retain: Option<&'a RawValue>,
    #[serde(borrow)]
    pub payloadlen: Option<&'a RawValue>,
    #[serde(borrow)]
    pub payload: Option<&'a RawValue>,
    #[serde(borrow)]
    pub msg_b64: Option<Cow<'a, str>>,
    #[serde(borrow)]
    pub msg: Option<Cow<'a, str>>,
    #[serde(borrow)]
    pub kind: Option<Cow<'a, str>>,
    #[serde(borrow)]
    pub event: Option<Cow<'a, str>>,
}

impl ForeignFields<'_> {
    /// The length of the payload as it travelled, in bytes.
    pub fn payload_length(&self) -> Result<Option<usize>, RecordError> {
        let Some(raw) = self.payloadlen.map(RawValue::get).filter(|raw| *raw != "null") else {
            return Ok(None);
        };
        let length = whole(raw).and_then(|length| usize::try_from(length).ok());
        length
            .map(Some)
            .ok_or_else(|| RecordError::new("payloadlen", "must be a whole number within its range"))
    }
}
