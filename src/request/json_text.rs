//! JSON text made of parts that are JSON text already.

use serde_json::{Value, value::RawValue};

/// A text that is JSON as it is, any other as a JSON string.
pub(super) fn json_or_quoted(text: &str) -> String {
    match serde_json::from_str::<&RawValue>(text) {
        Ok(json) => json.get().to_owned(),
        Err(_) => quoted(text),
    }
}

/// A text as a JSON string.
pub(super) fn quoted(text: &str) -> String {
    Value::from(text).to_string()
}

/// A JSON object of these entries, in their order; the values are JSON text.
pub(super) fn json_of(entries: impl Iterator<Item = (String, impl AsRef<str>)>) -> String {
    let mut json = String::from("{");
    for (key, value) in entries {
        push_member(&mut json, &key, value.as_ref());
    }
    json.push('}');
    json
}

/// Appends an entry to the beginning of an object; the value is JSON text.
pub(super) fn push_member(object: &mut String, key: &str, value: &str) {
    if object.len() > 1 {
        object.push(',');
    }
    object.push_str(&quoted(key));
    object.push(':');
    object.push_str(value);
}
