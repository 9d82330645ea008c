//! One message as a row of CSV, whose cells no spreadsheet computes.

use std::borrow::Cow;

use serde::Deserialize;
use serde_json::value::RawValue;

use crate::{
    mqtt::Direction,
    recording::{Record, base64, rfc3339},
    text::{is_unsafe, visible},
    tuya::Channel,
};

/// The columns of the CSV.
pub const COLUMNS: [&str; 18] = [
    "tst",
    "mono_us",
    "dir",
    "kind",
    "gateway_id",
    "topic",
    "qos",
    "retain",
    "dup",
    "t",
    "request_id",
    "cid",
    "id",
    "value",
    "code",
    "msg",
    "payload",
    "payload_b64",
];

/// The envelope's fields that have columns, of any JSON type.
#[derive(Default, Deserialize)]
struct EnvelopeCells<'a> {
    #[serde(borrow)]
    t: Option<&'a RawValue>,
    #[serde(borrow)]
    request_id: Option<&'a RawValue>,
    #[serde(borrow)]
    cid: Option<&'a RawValue>,
    #[serde(borrow)]
    param: Option<&'a RawValue>,
}

/// The fields of `param` that have columns, of any JSON type.
#[derive(Default, Deserialize)]
struct ParamCells<'a> {
    #[serde(borrow)]
    cid: Option<&'a RawValue>,
    #[serde(borrow)]
    id: Option<&'a RawValue>,
    #[serde(borrow)]
    value: Option<&'a RawValue>,
    #[serde(borrow)]
    status: Option<&'a RawValue>,
    #[serde(borrow)]
    code: Option<&'a RawValue>,
    #[serde(borrow)]
    msg: Option<&'a RawValue>,
}

/// Returns the cells of one message.
pub fn csv_row(record: &Record<'_>) -> [String; COLUMNS.len()] {
    let payload = &record.payload;
    let message: EnvelopeCells<'_> = serde_json::from_slice(payload).unwrap_or_default();
    let param: ParamCells<'_> = message.param.and_then(|param| single_param(param.get())).unwrap_or_default();
    let text = str::from_utf8(payload).ok().filter(|text| !text.contains(is_unsafe));
    // A payload that looks like a formula goes to the base64 column, because its cells hold its exact bytes.
    let (text, encoded) = match text.filter(|text| !is_formula(text)) {
        Some(text) => (text.to_owned(), String::new()),
        None => (String::new(), base64(payload)),
    };
    [
        rfc3339(record.unix_us),
        record.mono_us.map(|us| us.to_string()).unwrap_or_default(),
        record.dir.map(Direction::name).unwrap_or_default().to_owned(),
        record.channel.map_or("other", Channel::kind).to_owned(),
        quoted_formula(visible(record.gateway_id.as_deref().unwrap_or_default()).into_owned()),
        quoted_formula(visible(&record.topic).into_owned()),
        record.qos.to_string(),
        u8::from(record.retain).to_string(),
        u8::from(record.dup).to_string(),
        cell(message.t),
        cell(message.request_id),
        cell(message.cid.or(param.cid)),
        cell(param.id),
        cell(param.value.or(param.status)),
        cell(param.code),
        cell(param.msg),
        text,
        encoded,
    ]
}

/// Returns whether a spreadsheet would compute a cell: it begins like a formula (OWASP, "CSV Injection") and is not a number.
fn is_formula(cell: &str) -> bool {
    cell.starts_with(['=', '+', '-', '@', '\t', '\r', '\u{ff1d}', '\u{ff0b}', '\u{ff0d}', '\u{ff20}'])
        // JSON that begins with one of these characters is a number.
        && serde_json::from_str::<&RawValue>(cell).is_err()
}

/// Quotes a cell that a spreadsheet would compute.
fn quoted_formula(cell: String) -> String {
    if is_formula(&cell) { format!("'{cell}") } else { cell }
}

/// Reads an object, or an array of exactly one; several do not fit into one row.
fn single_param(param: &str) -> Option<ParamCells<'_>> {
    if let Ok(object) = serde_json::from_str(param) {
        return Some(object);
    }
    let mut several: Vec<ParamCells<'_>> = serde_json::from_str(param).ok()?;
    several.pop().filter(|_| several.is_empty())
}

/// Returns the text of a string, and the JSON text of any other value.
fn cell(value: Option<&RawValue>) -> String {
    let Some(value) = value else { return String::new() };
    let text = match serde_json::from_str::<Cow<'_, str>>(value.get()) {
        Ok(text) => text,
        Err(_) => value.get().into(),
    };
    quoted_formula(visible(&text).into_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn cells_that_begin_as_formulas_are_inert_and_numbers_stay_numbers() {
        for cell in ["=1+1", "+1+cmd|' /C calc'!A0", "-2+3", "@SUM(1)", "\t=1", "\u{ff1d}1", "-", "+1"] {
            assert_eq!(quoted_formula(cell.into()), format!("'{cell}"));
        }
        for cell in ["", "-5", "-1.10", "-1e400", "m1", "1=1", "{\"t\":-1}"] {
            assert_eq!(quoted_formula(cell.into()), cell);
        }
    }
}
