//! From a record to its line.
//!
//! Two shortcuts: without [`RecordPrefix`] `listen` takes 1.15 times the CPU time; without [`is_plain`], which spares serde a
//! look at most payloads, `convert` takes 1.11 times (docs/performance.md, "Second ways").

use serde::de::IgnoredAny;

use super::Record;
use crate::{
    json::{any_byte, is_plain, push_json, push_number, push_text, too_deep},
    recording::{payload_base64::push_base64, time::write_record_time},
    text::is_unsafe,
    tuya::Channel,
};

/// The beginning of a record's line: the version and the time. Records that are written at once often share it.
#[derive(Clone, Copy, Debug)]
pub struct RecordPrefix {
    unix_us: i64,
    text: [u8; 42],
}

impl Default for RecordPrefix {
    fn default() -> Self {
        Self { unix_us: 0, text: *b"{\"v\":1,\"tst\":\"1970-01-01T00:00:00.000000Z\"" }
    }
}

impl RecordPrefix {
    pub(super) fn at(&mut self, unix_us: i64) -> &[u8; 42] {
        if self.unix_us != unix_us {
            self.unix_us = unix_us;
            self.text[14..41].copy_from_slice(&write_record_time(unix_us));
        }
        &self.text
    }
}

impl Record<'_> {
    /// Appends the record as one line, ended by a newline and free of control characters.
    pub fn write(&self, line: &mut Vec<u8>) {
        self.write_after(line, &mut RecordPrefix::default());
    }

    /// Appends the record as [`Record::write`] does. `prefix` is that of the record before; passing it on saves
    /// formatting the same time again.
    pub fn write_after(&self, line: &mut Vec<u8>, prefix: &mut RecordPrefix) {
        line.reserve(self.payload.len() + self.topic.len() + 256);
        line.extend_from_slice(prefix.at(self.unix_us));
        line.extend_from_slice(b",\"topic\":");
        push_text(line, &self.topic);
        let mut flags = *b",\"qos\":0,\"retain\":0";
        flags[7] += self.qos;
        flags[18] += u8::from(self.retain);
        line.extend_from_slice(&flags);
        if self.dup {
            line.extend_from_slice(b",\"dup\":1");
        }
        line.extend_from_slice(b",\"payloadlen\":");
        push_number(line, self.payload.len() as u64);
        if let Some(mid) = self.mid {
            line.extend_from_slice(b",\"mid\":");
            push_number(line, mid.into());
        }
        if let Some(dir) = self.dir {
            push_word(line, b",\"dir\":", dir.name());
        }
        push_word(line, b",\"kind\":", self.channel.map_or("other", Channel::kind));
        if let Some(id) = &self.gateway_id {
            push_field(line, b",\"gateway_id\":", id);
        }
        if let Some(mono_us) = self.mono_us {
            line.extend_from_slice(b",\"mono_us\":");
            push_number(line, mono_us);
        }
        for (name, value) in &self.unknown {
            line.push(b',');
            push_text(line, name);
            line.push(b':');
            push_json(line, value.get());
        }
        if can_be_embedded(&self.payload, self.is_json) {
            line.extend_from_slice(b",\"payload\":");
            line.extend_from_slice(&self.payload);
            line.extend_from_slice(b"}\n");
        } else {
            line.extend_from_slice(b",\"payload_b64\":\"");
            push_base64(line, &self.payload);
            line.extend_from_slice(b"\"}\n");
        }
    }
}

/// Whether a payload can be part of the line as it is: one JSON value with nothing around it, nested less deep than
/// [`DEEPEST`](crate::json::DEEPEST), and without characters that a terminal would obey.
fn can_be_embedded(payload: &[u8], is_json: bool) -> bool {
    let is_visible_ascii = !any_byte(payload, |byte| !(b' '..=b'~').contains(&byte));
    let is_visible = is_visible_ascii || str::from_utf8(payload).is_ok_and(|text| !text.contains(is_unsafe));
    // Readers of JSON would drop spaces around the value.
    is_visible
        && !matches!(payload, [b' ', ..] | [.., b' '])
        && (is_json
            || is_plain(payload)
            || too_deep(payload).is_none() && serde_json::from_slice::<IgnoredAny>(payload).is_ok())
}

/// Appends a field whose text is a word of the format, which needs no escapes.
fn push_word(line: &mut Vec<u8>, name: &[u8], word: &'static str) {
    line.extend_from_slice(name);
    line.push(b'"');
    line.extend_from_slice(word.as_bytes());
    line.push(b'"');
}

pub(super) fn push_field(line: &mut Vec<u8>, name: &[u8], text: &str) {
    line.extend_from_slice(name);
    push_text(line, text);
}
