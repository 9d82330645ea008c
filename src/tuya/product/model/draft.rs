//! The contents of a model file, before ids and codes are complete.

use crate::tuya::product::data_point::{AccessMode, DataType};

/// A product as its file describes it.
#[derive(Debug, Default)]
pub(in crate::tuya::product) struct ParsedModel {
    pub id: Option<String>,
    pub name: Option<String>,
    pub drafts: Vec<DraftPoint>,
}

/// A data point as its file describes it: id or code may be missing.
#[derive(Debug)]
pub(in crate::tuya::product) struct DraftPoint {
    pub(super) place: String,
    pub(super) id: Option<u32>,
    pub(super) code: Option<String>,
    pub(super) name: Option<String>,
    pub(super) unit: Option<String>,
    pub(super) access: AccessMode,
    pub(super) kind: DataType,
}
