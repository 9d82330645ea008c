//! A value as one line of JSON that controls no terminal.

use serde::Serialize;

use crate::text::is_unsafe;

/// A value as one line of JSON, ended by a newline, in which every unsafe character is a `\u` escape.
#[must_use]
pub fn json_line(value: &impl Serialize) -> Vec<u8> {
    let mut line = Vec::with_capacity(256);
    if let Err(why) = serde_json::to_writer(&mut line, value) {
        line = format!("{{\"error\":\"io\",\"message\":{why:?}}}").into_bytes();
    }
    // No early exit, because the compiler then tests many bytes at once. serde_json has escaped C0 already.
    let is_plain = !line.iter().fold(false, |found, byte| found | !matches!(byte, b' '..=b'~'));
    if !is_plain {
        line = escaped(&String::from_utf8_lossy(&line)).into_bytes();
    }
    line.push(b'\n');
    line
}

/// The same JSON value on one line, with every unsafe character as an escape. Raw line ends and tabs occur only between
/// its parts, as in echoed input; other unsafe characters occur only in strings.
fn escaped(json: &str) -> String {
    let mut safe = String::with_capacity(json.len() + 16);
    for c in json.chars() {
        match c {
            '\n' | '\r' | '\t' => safe.push(' '),
            c if is_unsafe(c) => safe.push_str(&format!("\\u{:04x}", u32::from(c))),
            c => safe.push(c),
        }
    }
    safe
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nothing_unsafe_reaches_a_terminal() {
        let line = json_line(&"\u{9b}31m\u{202e}\u{7f}\n");
        assert_eq!(String::from_utf8(line).unwrap(), "\"\\u009b31m\\u202e\\u007f\\n\"\n");
    }

    #[test]
    fn json_over_several_lines_becomes_one_line_of_the_same() {
        let given = "{\r\n\t\"a\": [1,\n\"b\\n\u{9b}\"]\n}";
        let raw = serde_json::value::RawValue::from_string(given.to_owned()).unwrap();
        let line = json_line(&raw);
        assert!(line.ends_with(b"}\n") && line.iter().filter(|byte| **byte == b'\n').count() == 1);
        let value: serde_json::Value = serde_json::from_slice(&line).unwrap();
        assert_eq!(value, serde_json::from_str::<serde_json::Value>(given).unwrap());
    }
}
