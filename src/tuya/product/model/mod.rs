//! Model files: which of the known shapes the bytes have, and the data points in them.
//!
//! Every shape ends as a list of [`DraftPoint`]s; [`assign_ids`] gives them ids and codes, and refuses duplicates.

mod detect;
mod doc_table;
mod entry;
#[cfg(test)]
mod tests;
mod words;

use std::fmt;

use super::{AccessMode, DataPoint, DataType};

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
pub(super) struct ParsedModel {
    pub id: Option<String>,
    pub name: Option<String>,
    pub drafts: Vec<DraftPoint>,
}

/// A data point as a file has it: id or code may be missing.
#[derive(Debug)]
pub(super) struct DraftPoint {
    place: String,
    id: Option<u32>,
    code: Option<String>,
    name: Option<String>,
    unit: Option<String>,
    access: AccessMode,
    kind: DataType,
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

/// Gives every data point its id and code, and sorts by id.
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

/// The limits that a model gives for the values of a data point, whatever they are called there.
#[derive(Debug, Default)]
struct ValueLimits {
    min: Option<i64>,
    max: Option<i64>,
    scale: Option<i64>,
    step: Option<i64>,
    range: Vec<String>,
    labels: Vec<String>,
    maxlen: Option<i64>,
}

impl ValueLimits {
    /// The kind of values that a type's name and these limits describe; an error says what does not go together.
    fn kind(self, type_name: &str) -> Result<DataType, String> {
        let maxlen = match self.maxlen {
            // A length of 0 is the platform's way to say nothing.
            None | Some(0) => None,
            Some(length) => {
                Some(u32::try_from(length).map_err(|_| format!("the length {length} is impossible"))?)
            }
        };
        let kind = plain_type(type_name);
        if matches!(kind, "enum") && self.range.is_empty() && (self.min.is_some() || self.max.is_some()) {
            return Err("an enum has a list of values, not a minimum and a maximum".to_owned());
        }
        Ok(match kind {
            "bool" => DataType::Bool,
            "value" => {
                let (min, max) = self.ends()?;
                if let (Some(min), Some(max)) = (min, max)
                    && min > max
                {
                    return Err(format!("the minimum {min} is above the maximum {max}"));
                }
                let scale = self.scale.unwrap_or(0);
                let scale = u32::try_from(scale).ok().filter(|scale| *scale <= 18);
                // Official samples have a step of 0.
                let step = u64::try_from(self.step.unwrap_or(1)).ok().map(|step| step.max(1));
                DataType::Value {
                    min,
                    max,
                    scale: scale.ok_or("the scale is not within 0 to 18")?,
                    step: step.ok_or("the step is negative")?,
                }
            }
            "enum" => DataType::Enum { range: self.range },
            "string" => DataType::String { maxlen },
            "raw" => DataType::Raw { maxlen },
            "bitmap" => DataType::Bitmap { labels: self.labels, maxlen },
            _ => {
                return Err(format!(
                    "`{type_name}` is no DP type; an Edge Gateway in DP mode has value, bool, enum, string, raw and \
                     fault (bitmap)"
                ));
            }
        })
    }

    /// The smallest and the greatest value; some models give both as a range of two numbers.
    fn ends(&self) -> Result<(Option<i64>, Option<i64>), String> {
        let numbers = self.range.iter().map(|end| end.trim().parse()).collect::<Result<Vec<i64>, _>>();
        match (numbers.as_deref(), self.min, self.max) {
            (Ok([]), min, max) => Ok((min, max)),
            (Ok(&[min, max]), None, None) => Ok((Some(min), Some(max))),
            _ => Err(format!("the range of a value is its minimum and its maximum, not {:?}", self.range)),
        }
    }
}

/// The type that a name means, as an Edge Gateway calls it; empty if it means none.
fn plain_type(name: &str) -> &'static str {
    let name = name.trim().to_ascii_lowercase();
    let name = name.strip_suffix("type").unwrap_or(&name).trim_end_matches([' ', '_', '-']);
    match name {
        "bool" | "boolean" => "bool",
        "value" | "integer" | "int" | "number" | "numeric" | "numerical" | "numeric value"
        | "numerical value" => "value",
        "enum" | "enumeration" | "enumerated" | "enum value" | "enumeration value" => "enum",
        "string" | "str" | "text" | "json" | "char" | "character" => "string",
        "raw" | "transparent" | "transparent transmission" | "passthrough" => "raw",
        "bitmap" | "fault" | "failure" => "bitmap",
        _ => "",
    }
}

/// The access that a model's words mean.
fn access(text: &str) -> Option<AccessMode> {
    let (mut reads, mut writes, mut only) = (false, false, false);
    // The platform's word for send only is wr, that of the vendor's driver SDK wo.
    if text.trim().eq_ignore_ascii_case("wr") {
        return Some(AccessMode::WriteOnly);
    }
    for word in text.to_ascii_lowercase().split(|c: char| !c.is_alphanumeric()) {
        match word {
            "report" | "reports" | "reported" | "reportable" | "reporting" | "read" | "r" | "upload"
            | "可上报" => {
                reads = true;
            }
            "send" | "sent" | "sending" | "issue" | "issued" | "issuable" | "deliver" | "delivered"
            | "distribute" | "distributed" | "distribution" | "distributable" | "release" | "released"
            | "write" | "w" | "可下发" => {
                writes = true;
            }
            "rw" | "readwrite" | "可下发可上报" => (reads, writes) = (true, true),
            "ro" | "readonly" | "只上报" | "仅上报" => (reads, only) = (true, true),
            "wo" | "wr" | "writeonly" | "只下发" | "仅下发" => (writes, only) = (true, true),
            "only" => only = true,
            "" | "and" | "or" | "can" | "be" | "data" | "both" => {}
            _ => return None,
        }
    }
    match (reads, writes) {
        (true, true) if !only => Some(AccessMode::ReadWrite),
        (true, false) => Some(AccessMode::ReadOnly),
        (false, true) => Some(AccessMode::WriteOnly),
        _ => None,
    }
}
