//! Model files: which of the known shapes the bytes have, and the data points in them.
//!
//! Every shape ends as a list of [`Draft`]s; [`settle`] gives them ids and codes, and refuses duplicates.

mod entry;
mod shape;
mod table;

use std::fmt;

use super::{Access, DataPoint, Kind};

/// Why a model cannot be read: where, what, and what to do.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ModelError {
    /// The place in the file: a JSON path, or line and column; empty where it is the whole file.
    pub place: String,
    /// What is wrong there.
    pub message: String,
    /// The next step, where there is one.
    pub hint: Option<String>,
}

impl ModelError {
    fn new(place: impl Into<String>, message: impl Into<String>) -> Self {
        Self { place: place.into(), message: message.into(), hint: None }
    }

    fn hint(mut self, hint: impl Into<String>) -> Self {
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

/// What a file says of a product.
#[derive(Debug, Default)]
pub(super) struct Found {
    pub id: Option<String>,
    pub name: Option<String>,
    pub drafts: Vec<Draft>,
}

/// A data point as a file has it: id or code may be missing.
#[derive(Debug)]
pub(super) struct Draft {
    place: String,
    id: Option<u32>,
    code: Option<String>,
    name: Option<String>,
    unit: Option<String>,
    access: Access,
    kind: Kind,
}

/// Reads a model of any known shape.
pub(super) fn read(bytes: &[u8]) -> Result<Found, ModelError> {
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
    if start.starts_with(['{', '[']) || is_json_text { shape::read(text) } else { table::read(text) }
}

/// Gives every data point its id and code, and sorts by id.
pub(super) fn settle(mut drafts: Vec<Draft>, ids: &[(String, u32)]) -> Result<Vec<DataPoint>, ModelError> {
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
    for Draft { place, id, code, name, unit, access, kind } in drafts {
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

/// The limits that a model gives for the values of a data point, whatever they are called there.
#[derive(Debug, Default)]
struct Limits {
    min: Option<i64>,
    max: Option<i64>,
    scale: Option<i64>,
    step: Option<i64>,
    range: Vec<String>,
    labels: Vec<String>,
    maxlen: Option<i64>,
}

impl Limits {
    /// The kind of values that a type's name and these limits describe; an error says what does not go together.
    fn kind(self, type_name: &str) -> Result<Kind, String> {
        let maxlen = match self.maxlen {
            // A length of 0 is the platform's way to say nothing.
            None | Some(0) => None,
            Some(length) => {
                Some(u32::try_from(length).map_err(|_| format!("the length {length} is impossible"))?)
            }
        };
        Ok(match type_name.trim().to_ascii_lowercase().as_str() {
            "bool" | "boolean" => Kind::Bool,
            "value" | "integer" | "int" => {
                if let (Some(min), Some(max)) = (self.min, self.max)
                    && min > max
                {
                    return Err(format!("the minimum {min} is above the maximum {max}"));
                }
                let scale = self.scale.unwrap_or(0);
                let scale = u32::try_from(scale).ok().filter(|scale| *scale <= 18);
                // Official samples have a step of 0.
                let step = u64::try_from(self.step.unwrap_or(1)).ok().map(|step| step.max(1));
                Kind::Value {
                    min: self.min,
                    max: self.max,
                    scale: scale.ok_or("the scale is not within 0 to 18")?,
                    step: step.ok_or("the step is negative")?,
                }
            }
            "enum" => Kind::Enum { range: self.range },
            "string" | "str" | "text" | "json" => Kind::String { maxlen },
            "raw" => Kind::Raw { maxlen },
            "bitmap" | "fault" => Kind::Bitmap { labels: self.labels, maxlen },
            other => {
                return Err(format!(
                    "`{other}` is no DP type; an Edge Gateway in DP mode has value, bool, enum, string, raw and \
                     fault (bitmap)"
                ));
            }
        })
    }
}

/// The access that a model's words mean.
fn access(text: &str) -> Option<Access> {
    let words = text.to_ascii_lowercase();
    let means =
        |known: &[&str]| known.iter().any(|known| words == *known || words.contains(&format!("({known})")));
    if means(&["rw", "read-write", "read and write", "send and report", "readwrite"]) {
        Some(Access::ReadWrite)
    } else if means(&["ro", "r", "read-only", "read only", "report only", "readonly"]) {
        Some(Access::ReadOnly)
    // The platform's word for send only is wr, that of the vendor's driver SDK wo.
    } else if means(&["wo", "wr", "w", "write-only", "write only", "send only", "writeonly"]) {
        Some(Access::WriteOnly)
    } else {
        None
    }
}

#[cfg(test)]
mod tests;
