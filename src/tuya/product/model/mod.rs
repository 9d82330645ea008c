//! Reads model files: detects the shape, and reads its data points.
//!
//! The reader of each shape returns [`DraftPoint`]s; [`assign_ids`] completes their ids and codes, and refuses duplicates.

mod detect;
mod doc_table;
mod draft;
mod entry;
mod error;
mod json;
mod limits;
#[cfg(test)]
mod tests;
mod words;

use self::draft::DraftPoint;
pub(super) use self::draft::ParsedModel;
pub use self::error::ModelError;
use super::data_point::DataPoint;

/// Assigns ids and codes to data points, and sorts them by id.
pub(super) fn assign_ids(
    mut drafts: Vec<DraftPoint>,
    ids: &[(String, u32)],
) -> Result<Vec<DataPoint>, ModelError> {
    for (code, id) in ids {
        let draft = drafts.iter_mut().find(|draft| draft.code.as_ref() == Some(code)).ok_or_else(|| {
            ModelError::new("", format!("an id is given for `{code}`, which the model does not have"))
        })?;
        draft.id = Some(*id);
    }
    if drafts.is_empty() {
        return Err(ModelError::new("", "the model has no data points"));
    }
    let nameless = drafts.iter().filter(|draft| draft.id.is_none());
    let missing: Vec<_> = nameless.map(|draft| draft.code.as_deref().unwrap_or(&draft.place)).collect();
    if !missing.is_empty() {
        let map = missing.iter().map(|code| format!("{code}=ID")).collect::<Vec<_>>().join(",");
        return Err(ModelError::new("", format!("the model gives no DP id for {}", missing.join(", ")))
            .hint(format!(
                "Take the ids from the product's function list and pass --dp-map {map}; \
                 `tuyagw model --model FILE --dp-map … --json` writes a file that has them."
            )));
    }
    drafts.sort_by_key(|draft| draft.id);
    let mut points: Vec<DataPoint> = Vec::with_capacity(drafts.len());
    let mut places: Vec<String> = Vec::with_capacity(drafts.len());
    for DraftPoint { place, id, code, name, unit, access, kind } in drafts {
        let id = id.unwrap_or_default();
        let code = code.unwrap_or_else(|| format!("dp_{id}"));
        if let Some(twin) = points.iter().position(|point| point.id == id || point.code == code) {
            let same = if points[twin].id == id { format!("id {id}") } else { format!("code `{code}`") };
            return Err(ModelError::new(
                place,
                format!("the DP {same} is there already, at {}", places[twin]),
            ));
        }
        places.push(place);
        points.push(DataPoint { id, code, name, kind, access, unit });
    }
    Ok(points)
}

/// Reads a model of any known shape.
pub(super) fn read(bytes: &[u8]) -> Result<ParsedModel, ModelError> {
    let text = std::str::from_utf8(bytes).map_err(|why| {
        ModelError::new("", format!("the file is not UTF-8 text (byte {})", why.valid_up_to() + 1))
            .hint("Save it as UTF-8; a spreadsheet offers \"CSV UTF-8\".")
    })?;
    let text = text.strip_prefix('\u{feff}').unwrap_or(text);
    let start = text.trim_start();
    if start.is_empty() {
        return Err(ModelError::new("", "the file is empty"));
    }
    let is_json_text = start.strip_prefix('"').is_some_and(|rest| rest.trim_start().starts_with(['{', '[']));
    if start.starts_with(['{', '[']) || is_json_text { detect::read(text) } else { doc_table::read(text) }
}
