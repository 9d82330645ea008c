//! One of the requests that an input with several asks for.

use std::{ops::Range, sync::Arc};

use smol_str::SmolStr;

use super::json_text::{push_member, quoted};

/// A part of an input with several requests: a data point of its `properties`, or an element of a status message.
#[derive(Clone, Debug)]
pub struct InputPart {
    /// The fields that all parts share, as the beginning of an object.
    pub(super) head: Arc<str>,
    /// A data point's name, and the place of its value in the input.
    pub(super) point: Option<(SmolStr, Range<usize>)>,
}

impl InputPart {
    /// The part of its input as an input of its own, which sends nothing else again. An element of a
    /// status message is made of its device and status.
    #[must_use]
    pub fn input_of(&self, input: &str, cid: &str, status: Option<bool>) -> String {
        let mut json = self.head.to_string();
        if let Some((name, value)) = &self.point {
            let key = if name.bytes().all(|byte| byte.is_ascii_digit()) { "id" } else { "code" };
            push_member(&mut json, key, &quoted(name));
            push_member(&mut json, "value", input.get(value.clone()).unwrap_or("null"));
        } else {
            push_member(&mut json, "cid", &quoted(cid));
            push_member(&mut json, "status", if status == Some(true) { "true" } else { "false" });
        }
        json.push('}');
        json
    }
}
