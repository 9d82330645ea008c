//! JSON values in model files: text in text, paths, syntax errors.

use serde_json::Value;

use super::error::ModelError;

/// Parses JSON text inside a JSON string, also twice encoded; returns any other value unchanged.
pub(super) fn open(mut value: Value, path: &str) -> Result<Value, ModelError> {
    for _ in 0..2 {
        match &value {
            Value::String(text) if text.trim_start().starts_with(['{', '[', '"']) => {
                value = serde_json::from_str(text).map_err(|why| syntax_error(path, text, &why))?;
            }
            _ => break,
        }
    }
    Ok(value)
}

pub(super) fn join(path: &str, key: &str) -> String {
    if path.is_empty() { key.to_owned() } else { format!("{path}.{key}") }
}

/// The type of a value, for messages.
pub(super) fn kind_of(value: &Value) -> &'static str {
    match value {
        Value::Null => "null",
        Value::Bool(_) => "a bool",
        Value::Number(_) => "a number",
        Value::String(_) => "a string",
        Value::Array(_) => "an array",
        Value::Object(_) => "an object",
    }
}

pub(super) fn syntax_error(path: &str, text: &str, why: &serde_json::Error) -> ModelError {
    let (line, column) = (why.line(), why.column());
    let place = if path.is_empty() {
        format!("line {line}, column {column}")
    } else {
        format!("{path}: line {line}, column {column} of the JSON text in it")
    };
    let reason = why.to_string();
    let reason = reason.split(" at line ").next().unwrap_or_default();
    let error = ModelError::new(place, format!("this is no JSON: {reason}"));
    let compact: String = text.chars().filter(|c| !c.is_whitespace()).collect();
    if [r#":"{""#, r#":"[""#, r#":"[{""#].iter().any(|pattern| compact.contains(pattern)) {
        return error.hint(
            "The quotes of the JSON text inside the string are not escaped, as happens in pasted issues: keep the \
             inner object alone, from its { to its }.",
        );
    }
    error
}
