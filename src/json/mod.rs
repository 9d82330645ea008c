//! JSON text: written by hand for results, records and messages, and scanned for recordings. No text that it writes can
//! control a terminal or end a line.
//!
//! Pure: texts and numbers in, bytes out.
#![deny(clippy::disallowed_methods, clippy::disallowed_types)]

mod depth;
mod line;
mod members;
mod scan;
mod value;

use std::{borrow::Cow, io::Write as _};

pub use depth::{DEEPEST, TooDeep, too_deep};
pub use line::json_line;
pub use members::ObjectMembers;
pub use scan::{Scanner, is_plain, members};
pub use value::Json;

use smol_str::SmolStr;

use crate::text::is_unsafe;

/// A key of an object as it is written: `key!(cid)` is `"cid":`.
#[macro_export]
macro_rules! key {
    ($name:ident) => {
        concat!("\"", stringify!($name), "\":")
    };
}
pub use key;

/// One object, written field by field onto the end of a buffer. Keys are what [`key!`] makes.
#[derive(Debug)]
pub struct ObjectWriter<'o> {
    out: &'o mut Vec<u8>,
    /// The byte before the next key.
    separator: u8,
}

// Inlined, because the compiler then stores a key of known length in one or two instructions. With calls, a line takes
// twice as long.
#[allow(clippy::inline_always, reason = "see above")]
impl<'o> ObjectWriter<'o> {
    /// Begins an object.
    pub fn new(out: &'o mut Vec<u8>) -> Self {
        Self { out, separator: b'{' }
    }

    #[inline(always)]
    fn key(&mut self, key: &str) -> &mut Vec<u8> {
        self.out.push(self.separator);
        self.separator = b',';
        self.out.extend_from_slice(key.as_bytes());
        self.out
    }

    /// A field that is a text.
    #[inline(always)]
    pub fn text(&mut self, key: &str, text: &str) {
        push_text(self.key(key), text);
    }

    /// A field that is a text, if there is one.
    #[inline(always)]
    pub fn optional_text(&mut self, key: &str, text: Option<&str>) {
        if let Some(text) = text {
            self.text(key, text);
        }
    }

    /// A field that is true or false.
    #[inline(always)]
    pub fn flag(&mut self, key: &str, flag: bool) {
        let text: &[u8] = if flag { b"true" } else { b"false" };
        self.key(key).extend_from_slice(text);
    }

    /// A field that is a natural number.
    #[inline(always)]
    pub fn number(&mut self, key: &str, number: u64) {
        push_number(self.key(key), number);
    }

    /// A field that is an integer.
    #[inline(always)]
    pub fn integer(&mut self, key: &str, number: i64) {
        self.key(key).extend_from_slice(itoa::Buffer::new().format(number).as_bytes());
    }

    /// A field that is JSON text already, which is copied byte by byte.
    #[inline(always)]
    pub fn json(&mut self, key: &str, json: &str) {
        self.key(key).extend_from_slice(json.as_bytes());
    }

    /// A field that `write` writes.
    #[inline(always)]
    pub fn value(&mut self, key: &str, write: impl FnOnce(&mut Vec<u8>)) {
        write(self.key(key));
    }

    /// A field that is a text, with the name of its key.
    pub fn named_text(&mut self, name: &str, text: &str) {
        self.out.push(self.separator);
        self.separator = b',';
        push_text(self.out, name);
        self.out.push(b':');
        push_text(self.out, text);
    }

    /// Ends the object.
    pub fn end(self) {
        if self.separator == b'{' {
            self.out.push(b'{');
        }
        self.out.push(b'}');
    }
}

/// Appends a natural number.
pub fn push_number(out: &mut Vec<u8>, number: u64) {
    out.extend_from_slice(itoa::Buffer::new().format(number).as_bytes());
}

/// An integer as text.
#[must_use]
pub fn decimal(number: i64) -> SmolStr {
    itoa::Buffer::new().format(number).into()
}

/// Appends a text as a JSON string, in which every unsafe character is a `\u` escape.
pub fn push_text(out: &mut Vec<u8>, text: &str) {
    out.reserve(text.len() + 2);
    out.push(b'"');
    if any_byte(text.as_bytes(), |byte| !(b' '..=b'~').contains(&byte) || byte == b'"' || byte == b'\\') {
        for c in text.chars() {
            match c {
                '"' | '\\' => out.extend_from_slice(&[b'\\', c as u8]),
                c => push_char(out, c),
            }
        }
    } else {
        out.extend_from_slice(text.as_bytes());
    }
    out.push(b'"');
}

/// Appends JSON text on one line: unsafe characters can stand only inside strings, and become escapes there; white
/// space only outside.
pub fn push_json(out: &mut Vec<u8>, json: &str) {
    if !any_byte(json.as_bytes(), |byte| !(b' '..=b'~').contains(&byte)) {
        return out.extend_from_slice(json.as_bytes());
    }
    for c in json.chars() {
        match c {
            '\t' | '\r' | '\n' => out.push(b' '),
            c => push_char(out, c),
        }
    }
}

fn push_char(out: &mut Vec<u8>, c: char) {
    if is_unsafe(c) {
        write!(out, "\\u{:04x}", u32::from(c)).expect("a vector takes every byte");
    } else {
        out.extend_from_slice(c.encode_utf8(&mut [0; 4]).as_bytes());
    }
}

/// The contents of a JSON string, given its JSON text; `None` if that is no string.
#[must_use]
pub fn text_of(json: &str) -> Option<Cow<'_, str>> {
    let inner = json.strip_prefix('"')?.strip_suffix('"')?;
    if any_byte(inner.as_bytes(), |byte| byte == b'\\') {
        serde_json::from_str(json).ok().map(Cow::Owned)
    } else {
        Some(Cow::Borrowed(inner))
    }
}

/// Whether a byte satisfies `is_it`. Tests sixteen at once, which the compiler turns into a few wide instructions. The last
/// test overlaps the one before, because single bytes take longer.
#[allow(clippy::inline_always, reason = "a call for each test would take longer than the test")]
#[inline(always)]
pub fn any_byte(bytes: &[u8], is_it: impl Fn(u8) -> bool) -> bool {
    if let Some(last) = bytes.last_chunk::<16>() {
        bytes.as_chunks::<16>().0.iter().any(|chunk| any_of(chunk, &is_it)) || any_of(last, &is_it)
    } else if let (Some(first), Some(last)) = (bytes.first_chunk::<8>(), bytes.last_chunk::<8>()) {
        any_of(first, &is_it) | any_of(last, &is_it)
    } else {
        bytes.iter().any(|byte| is_it(*byte))
    }
}

#[allow(clippy::inline_always, reason = "as for any_byte")]
#[inline(always)]
fn any_of<const N: usize>(bytes: &[u8; N], is_it: &impl Fn(u8) -> bool) -> bool {
    bytes.iter().fold(false, |found, byte| found | is_it(*byte))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_written_reads_as_what_was_meant() {
        let mut out = Vec::new();
        let mut object = ObjectWriter::new(&mut out);
        object.text(key!(text), "\"a\\b\"\n\u{9b}\u{202e}é");
        object.optional_text(key!(absent), None);
        object.flag(key!(flag), true);
        object.number(key!(most), u64::MAX);
        object.integer(key!(least), i64::MIN);
        object.json(key!(json), "[1.10]");
        object.value(key!(inner), |out| ObjectWriter::new(out).end());
        object.end();
        let text = String::from_utf8(out).unwrap();
        assert_eq!(
            text,
            r#"{"text":"\"a\\b\"\u000a\u009b\u202eé","flag":true,"most":18446744073709551615,"least":-9223372036854775808,"json":[1.10],"inner":{}}"#
        );
        let value: serde_json::Value = serde_json::from_str(&text).unwrap();
        assert_eq!(value["text"], "\"a\\b\"\n\u{9b}\u{202e}é");
    }

    #[test]
    fn integers_are_written_in_full() {
        for number in [0, 7, -1, 10, 12_345, i64::MAX, i64::MIN] {
            assert_eq!(decimal(number), number.to_string());
        }
    }

    #[test]
    fn json_text_comes_on_one_line() {
        let mut out = Vec::new();
        push_json(&mut out, "{\n\t\"a\": \"\u{85}\"}");
        assert_eq!(out, b"{  \"a\": \"\\u0085\"}");
    }

    #[test]
    fn no_byte_is_overlooked() {
        for length in 0..70 {
            let mut bytes = vec![b'a'; length];
            assert!(!any_byte(&bytes, |byte| byte == b'b'), "{length}");
            for at in 0..length {
                bytes[at] = b'b';
                assert!(any_byte(&bytes, |byte| byte == b'b'), "{at} of {length}");
                bytes[at] = b'a';
            }
        }
    }
}
