//! Cuts bytes into JSON values, however they arrive.

use std::ops::Range;

use serde_json::value::RawValue;

use super::{error::InputError, input::InputValue};

/// The longest value in bytes; no message of this protocol is longer.
const LONGEST: usize = 4 << 20;

/// Input whose first line is longer is a stream of values, whether or not its end has come yet.
const FIRST_LINE: usize = 64 * 1024;

/// Cuts bytes into JSON values.
///
/// If the first non-blank line is whole JSON, every line stands alone; otherwise the input is one stream of
/// values, and a syntax error skips to the next line that begins a value by itself.
#[derive(Debug)]
pub struct Framer {
    buffer: Vec<u8>,
    start: usize,
    line: u64,
    /// The number of spaces and tabs directly before `start`, in a stream.
    indent: usize,
    ended: bool,
    mode: Mode,
    /// The indent of a refused value that was too long, until its end has come.
    passes_over: Option<usize>,
    /// Elements of an array that stood on one line, and the one that was given last.
    elements: std::vec::IntoIter<Box<RawValue>>,
    element: Option<Box<RawValue>>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Mode {
    Undecided,
    Lines,
    /// A stream of values; and on which line the array began that it is in.
    Stream {
        array: Option<u64>,
    },
}

/// What one step of framing gave.
enum FramerStep {
    /// A value, or something broken, on this line: its place in the buffer, until bytes are pushed.
    Found(u64, Range<usize>, Option<InputError>),
    Again,
    NeedsMore,
}

impl Default for Framer {
    fn default() -> Self {
        Self {
            buffer: Vec::new(),
            start: 0,
            line: 1,
            indent: 0,
            ended: false,
            mode: Mode::Undecided,
            passes_over: None,
            elements: Vec::new().into_iter(),
            element: None,
        }
    }
}

impl Framer {
    /// Adds bytes; `ended` says that no more will come.
    pub fn push(&mut self, bytes: &[u8], ended: bool) {
        self.buffer.drain(..self.start);
        self.start = 0;
        self.buffer.extend_from_slice(bytes);
        self.ended |= ended;
    }

    /// The next value that is complete.
    pub fn next_input(&mut self) -> Option<InputValue<'_>> {
        loop {
            if let Some(element) = self.elements.next() {
                return Some(InputValue::json(self.line - 1, self.element.insert(element).get()));
            }
            let step = match self.mode {
                _ if self.passes_over.is_some() => self.pass_over(),
                Mode::Undecided => self.decide(),
                Mode::Lines => self.next_line(),
                Mode::Stream { array } => self.next_value(array),
            };
            match step {
                FramerStep::Found(line, place, None) => {
                    match std::str::from_utf8(&self.buffer[place.clone()]) {
                        Ok(text) => return Some(InputValue::json(line, text.trim_ascii())),
                        Err(why) => {
                            return Some(InputValue::broken(
                                line,
                                &self.buffer[place],
                                not_json(&why.to_string()),
                            ));
                        }
                    }
                }
                FramerStep::Found(line, place, Some(why)) => {
                    return Some(InputValue::broken(line, &self.buffer[place], why));
                }
                FramerStep::Again => {}
                FramerStep::NeedsMore => return None,
            }
        }
    }

    fn rest(&self) -> &[u8] {
        &self.buffer[self.start..]
    }

    fn consume(&mut self, length: usize) {
        let passed = &self.buffer[self.start..self.start + length];
        self.line += passed.iter().filter(|byte| **byte == b'\n').count() as u64;
        let spaces = passed.iter().rev().take_while(|byte| matches!(byte, b' ' | b'\t')).count();
        self.indent = if spaces == length { self.indent + spaces } else { spaces };
        self.start += length;
    }

    fn skip_blank(&mut self, more: &[u8]) {
        let blank = |byte: &u8| matches!(byte, b' ' | b'\t' | b'\r' | b'\n') || more.contains(byte);
        let length = self.rest().iter().take_while(|byte| blank(byte)).count();
        self.consume(length);
    }

    /// Skips a byte order mark, which is in front of each file where several were joined; says whether all of it has
    /// come.
    fn skip_mark(&mut self) -> bool {
        const MARK: &[u8] = b"\xef\xbb\xbf";
        let rest = self.rest();
        if rest.starts_with(MARK) {
            self.start += MARK.len();
            return true;
        }
        self.ended || rest.is_empty() || !MARK.starts_with(rest)
    }

    /// The length of the line at the front, without its end; `None` where its end has not come yet.
    fn line_length(&self) -> Option<usize> {
        let rest = self.rest();
        rest.iter().position(|byte| *byte == b'\n').or((self.ended && !rest.is_empty()).then_some(rest.len()))
    }

    fn decide(&mut self) -> FramerStep {
        self.skip_blank(&[]);
        if !self.skip_mark() {
            return FramerStep::NeedsMore;
        }
        self.mode = match self.line_length() {
            Some(length) if length > FIRST_LINE => Mode::Stream { array: None },
            Some(length) if serde_json::from_slice::<&RawValue>(&self.rest()[..length]).is_ok() => {
                Mode::Lines
            }
            Some(_) => Mode::Stream { array: None },
            None if self.rest().len() > FIRST_LINE => Mode::Stream { array: None },
            None => return FramerStep::NeedsMore,
        };
        FramerStep::Again
    }

    fn next_line(&mut self) -> FramerStep {
        let Some(length) = self.line_length() else {
            return if self.rest().len() > LONGEST {
                self.refuse_long("line", 0)
            } else {
                FramerStep::NeedsMore
            };
        };
        let (number, before) = (self.line, self.start);
        self.skip_mark();
        let length = length - (self.start - before);
        let place = self.start..self.start + length;
        let line = &self.buffer[place.clone()];
        let begins = line.trim_ascii_start().first();
        if begins == Some(&b'[')
            && let Ok(elements) = serde_json::from_slice::<Vec<Box<RawValue>>>(line)
        {
            self.elements = elements.into_iter();
            self.end_line(length);
            return FramerStep::Again;
        }
        let step = if begins.is_none() {
            FramerStep::Again
        } else {
            let checked = serde_json::from_slice::<&RawValue>(line);
            FramerStep::Found(number, place, checked.err().map(|why| syntax(&why, number, true)))
        };
        self.end_line(length);
        step
    }

    fn end_line(&mut self, length: usize) {
        let end = usize::from(self.rest().len() > length);
        self.start += length + end;
        // Also at the end without a newline, so that elements of an array know their line.
        self.line += 1;
    }

    /// Refuses a value that is too long, once, and skips the rest of it as it comes.
    fn refuse_long(&mut self, what: &str, indent: usize) -> FramerStep {
        let invalid = not_json(&format!("the {what} is longer than {LONGEST} bytes"));
        let (number, beginning) = (self.line, self.start..self.start + 80);
        self.consume(self.rest().len());
        self.passes_over = Some(indent);
        FramerStep::Found(number, beginning, Some(invalid))
    }

    /// Goes on to the next line; in a stream to the next that begins a value no deeper than the one that is passed over.
    fn pass_over(&mut self) -> FramerStep {
        while let Some(end) = self.rest().iter().position(|byte| *byte == b'\n') {
            let next = &self.rest()[end + 1..];
            let spaces = next.iter().take_while(|byte| matches!(byte, b' ' | b'\t')).count();
            let begins = match next.get(spaces) {
                _ if self.mode == Mode::Lines => true,
                // Whether it begins a value is not to be seen yet: the line's end waits for it.
                None if !self.ended => {
                    self.consume(end);
                    return FramerStep::NeedsMore;
                }
                first => matches!(first, Some(b'{' | b'[')) && self.passes_over >= Some(spaces),
            };
            self.consume(end + 1);
            if begins {
                self.passes_over = None;
                return FramerStep::Again;
            }
        }
        self.consume(self.rest().len());
        if self.ended && self.mode != Mode::Lines {
            // The end of the array is among the skipped bytes.
            self.mode = Mode::Stream { array: None };
        }
        FramerStep::NeedsMore
    }

    fn next_value(&mut self, array: Option<u64>) -> FramerStep {
        self.skip_blank(if array.is_some() { b"," } else { b"" });
        if !self.skip_mark() {
            return FramerStep::NeedsMore;
        }
        let number = self.line;
        match (self.rest().first(), array) {
            (None, Some(first)) if self.ended => {
                self.mode = Mode::Stream { array: None };
                let why = format!("the array that begins on line {first} has no end: is the input cut off?");
                return FramerStep::Found(number, self.start..self.start, Some(not_json(&why)));
            }
            (None, _) => return FramerStep::NeedsMore,
            (Some(b'['), None) => {
                self.consume(1);
                self.mode = Mode::Stream { array: Some(number) };
                return FramerStep::Again;
            }
            (Some(b']'), Some(_)) => {
                self.consume(1);
                self.mode = Mode::Stream { array: None };
                return FramerStep::Again;
            }
            (Some(_), _) => {}
        }
        let mut values = serde_json::Deserializer::from_slice(self.rest()).into_iter::<&RawValue>();
        match values.next() {
            Some(Ok(value)) => {
                let length = values.byte_offset();
                let may_go_on = !value.get().ends_with(['}', ']', '"']);
                if may_go_on && length == self.rest().len() && !self.ended {
                    return FramerStep::NeedsMore;
                }
                let place = self.start..self.start + length;
                self.consume(length);
                FramerStep::Found(number, place, None)
            }
            Some(Err(why)) if why.is_eof() && !self.ended && self.rest().len() <= LONGEST => {
                FramerStep::NeedsMore
            }
            Some(Err(why)) => self.resynchronise(number, &why),
            None => FramerStep::NeedsMore,
        }
    }

    /// After a syntax error, goes to the next line that begins a value no deeper than the broken one; until it
    /// has come, nothing is reported, because the report must not depend on how the bytes arrive.
    fn resynchronise(&mut self, number: u64, why: &serde_json::Error) -> FramerStep {
        let rest = self.rest();
        let indent = self.indent;
        let mut length = None;
        let mut offset = 0;
        let mut line = 1;
        while let Some(end) = rest[offset..].iter().position(|byte| *byte == b'\n') {
            offset += end + 1;
            line += 1;
            let text = &rest[offset..];
            let spaces = text.iter().take_while(|byte| matches!(byte, b' ' | b'\t')).count();
            let begins = matches!(text.get(spaces), Some(b'{' | b'['));
            if begins && spaces <= indent && line >= why.line() {
                length = Some(offset);
                break;
            }
        }
        if length.is_none() && !self.ended {
            return if rest.len() > LONGEST {
                self.refuse_long("value", indent)
            } else {
                FramerStep::NeedsMore
            };
        }
        if length.is_none() {
            // The end of the array is among the skipped bytes.
            self.mode = Mode::Stream { array: None };
        }
        let rest = self.rest();
        let length = length.unwrap_or(rest.len());
        let mut invalid = syntax(why, number, false);
        if is_header(rest) {
            invalid.message.push_str("; CSV is read with --format csv");
        }
        let place = self.start..self.start + length;
        self.consume(length);
        FramerStep::Found(number, place, Some(invalid))
    }
}

/// Whether a text begins like CSV: with a header that names the column `cid`.
fn is_header(text: &[u8]) -> bool {
    let line = text.split(|byte| *byte == b'\n').next().unwrap_or_default();
    line.split(|byte| *byte == b',').any(|name| name.trim_ascii() == b"cid")
}

/// A syntax error with its place in the input; `whole` says that the text's first line is there from its beginning, so
/// that its columns are the input's.
fn syntax(why: &serde_json::Error, first: u64, whole: bool) -> InputError {
    let (line, column) = (why.line(), why.column());
    let text = why.to_string();
    let reason = text.strip_suffix(&format!(" at line {line} column {column}")).unwrap_or(&text);
    let number = first + line.saturating_sub(1) as u64;
    let column = if whole || line > 1 { format!(", column {column}") } else { String::new() };
    not_json(&format!("{reason} at line {number}{column}"))
}

fn not_json(why: &str) -> InputError {
    InputError { message: format!("not JSON: {why}"), ..InputError::default() }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::request::input::InputContent;

    /// What each input is: its line, and its text or an exclamation mark.
    fn framed(bytes: &[u8], chunk: usize) -> Vec<(u64, String)> {
        let mut framer = Framer::default();
        let mut found = Vec::new();
        let mut take = |framer: &mut Framer| {
            while let Some(input) = framer.next_input() {
                let text = match input.content {
                    InputContent::Json(text) => text.into_owned(),
                    InputContent::Fields(_) | InputContent::Broken(..) => "!".to_owned(),
                };
                found.push((input.line.unwrap(), text));
            }
        };
        for piece in bytes.chunks(chunk) {
            framer.push(piece, false);
            take(&mut framer);
        }
        framer.push(&[], true);
        take(&mut framer);
        found
    }

    #[test]
    fn framing_does_not_depend_on_how_bytes_arrive() {
        let cases: [(&str, &[(u64, &str)]); 17] = [
            ("{\"a\":1}\n\n{\"a\":2}\r\n", &[(1, "{\"a\":1}"), (3, "{\"a\":2}")]),
            ("{\"a\":1}\n{\"a\":\n{\"a\":3}", &[(1, "{\"a\":1}"), (2, "!"), (3, "{\"a\":3}")]),
            ("[{\"a\":1},{\"a\":2}]\n", &[(1, "{\"a\":1}"), (1, "{\"a\":2}")]),
            ("[\n  {\"a\":1},\n  {\n  \"a\":2}\n]\n", &[(2, "{\"a\":1}"), (3, "{\n  \"a\":2}")]),
            ("{\n\"a\":1}{\"a\":2} {\"a\":3}", &[(1, "{\n\"a\":1}"), (2, "{\"a\":2}"), (2, "{\"a\":3}")]),
            ("{\"a\":1\n{\"a\":2}\n", &[(1, "!"), (2, "{\"a\":2}")]),
            ("{\n \"a\":}\n{\"a\":2}\n", &[(1, "!"), (3, "{\"a\":2}")]),
            ("{\"a\":x, \"b\":1}\n \n{\"a\":2}\n", &[(1, "!"), (3, "{\"a\":2}")]),
            ("\u{feff}{\"a\":1}", &[(1, "{\"a\":1}")]),
            ("\u{feff}{\"a\":1}\n\u{feff}{\"a\":2}\n", &[(1, "{\"a\":1}"), (2, "{\"a\":2}")]),
            ("\u{feff}{\n\"a\":1}\n\u{feff}{\"a\":2}", &[(1, "{\n\"a\":1}"), (3, "{\"a\":2}")]),
            ("{\"a\":1}\n\u{feff}", &[(1, "{\"a\":1}")]),
            ("[\n{\"a\":1},\n{\"a\":2}\n", &[(2, "{\"a\":1}"), (3, "{\"a\":2}"), (4, "!")]),
            ("[{\"a\":1},", &[(1, "{\"a\":1}"), (1, "!")]),
            ("[\n{\"a\":1},\n{\"a\":x}\n]\n", &[(2, "{\"a\":1}"), (3, "!")]),
            ("[\n  {\"a\":x},\n  {\"a\":2}\n]\n", &[(2, "!"), (3, "{\"a\":2}")]),
            ("", &[]),
        ];
        for (text, expected) in cases {
            let expected: Vec<_> = expected.iter().map(|(line, text)| (*line, (*text).to_owned())).collect();
            for chunk in [1, 3, 4, 7, 1000] {
                assert_eq!(framed(text.as_bytes(), chunk), expected, "{text:?} in chunks of {chunk}");
            }
        }
    }

    #[test]
    fn a_syntax_error_is_told_with_its_place_in_the_input() {
        let why = |text: &str| {
            let mut framer = Framer::default();
            framer.push(text.as_bytes(), true);
            while let Some(input) = framer.next_input() {
                if let InputContent::Broken(_, why) = input.content {
                    return Some(why.message);
                }
            }
            None
        };
        let lines = why("{\"a\":1}\n\n {\"a\":x}\n").unwrap();
        assert_eq!(lines, "not JSON: expected value at line 3, column 7");
        let stream = why("{\n\"a\":1}\n{\n\"a\":\nx}\n").unwrap();
        assert_eq!(stream, "not JSON: expected value at line 5, column 1");
        // Where the value began in its line is not known any more.
        assert_eq!(why("{\n\"a\":1} {x}\n").unwrap(), "not JSON: key must be a string at line 2");
        let csv = why("cid,product_id\nm1,p1\n").unwrap();
        assert_eq!(csv, "not JSON: expected value at line 1; CSV is read with --format csv");
        let cut = why("[\n{\"a\":1},\n").unwrap();
        assert_eq!(cut, "not JSON: the array that begins on line 1 has no end: is the input cut off?");
    }

    /// Of JSON Lines each line stands alone; in a stream a syntax error skips to the next line that begins a value.
    #[test]
    fn a_long_first_line_is_lines_or_a_stream_however_it_arrives() {
        for (length, is_lines) in [(FIRST_LINE - 1, true), (FIRST_LINE, true), (FIRST_LINE + 1, false)] {
            let first = format!("{{\"a\":\"{}\"}}", "x".repeat(length - 8));
            assert_eq!(first.len(), length);
            let text = format!("{first}\n{{\"a\":\n1}}\n{{\"a\":3}}\n");
            for chunk in [1000, FIRST_LINE, FIRST_LINE + 1, FIRST_LINE + 2, 1 << 20] {
                let found: Vec<_> = framed(text.as_bytes(), chunk).into_iter().skip(1).collect();
                let expected: &[(u64, &str)] = if is_lines {
                    &[(2, "!"), (3, "!"), (4, "{\"a\":3}")]
                } else {
                    &[(2, "{\"a\":\n1}"), (4, "{\"a\":3}")]
                };
                let expected: Vec<_> =
                    expected.iter().map(|(line, text)| (*line, (*text).to_owned())).collect();
                assert_eq!(found, expected, "{length} in chunks of {chunk}");
            }
        }
    }

    #[test]
    fn a_line_beyond_all_measure_is_refused_once() {
        let mut text = b"{\"a\":1}\n{\"a\":\"".to_vec();
        text.resize(3 * LONGEST, b'x');
        text.extend_from_slice(b"\"}\n{\"a\":3}\n");
        let found = framed(&text, FIRST_LINE);
        let expected = [(1, "{\"a\":1}"), (2, "!"), (3, "{\"a\":3}")];
        assert_eq!(found, expected.map(|(line, text)| (line, text.to_owned())));
    }

    #[test]
    fn a_first_line_and_a_value_beyond_all_measure_are_refused_once() {
        let long = "x".repeat(3 * LONGEST / 2);
        for (text, expected) in [
            (format!("{{\"a\":\"{long}\"}}\n{{\"a\":2}}\n"), &[(1, "!"), (2, "{\"a\":2}")][..]),
            (format!("{{\"a\":\"{long}\"}}\n \n\n"), &[(1, "!")]),
            (format!("{long}\n{{\"a\":2}}"), &[(1, "!"), (2, "{\"a\":2}")]),
            // Lines that are indented further belong to it.
            (
                format!("[\n {{\"a\":\"{long}\",\n  \"b\":\n  {{}}}},\n {{\"a\":2}}\n]{{\"a\":3}}"),
                &[(2, "!"), (5, "{\"a\":2}"), (6, "{\"a\":3}")],
            ),
            (format!("[\n{{\"a\":\"{long}\"}}\n]\n"), &[(2, "!")]),
        ] {
            let expected: Vec<_> = expected.iter().map(|(line, text)| (*line, (*text).to_owned())).collect();
            // Pieces that end near the end of the long line.
            let end = long.len() + text.find(&long).unwrap() + 2;
            for chunk in [end.div_ceil(5), (end + 1).div_ceil(5)] {
                assert_eq!(framed(text.as_bytes(), chunk), expected, "{} in {chunk}", &text[..20]);
            }
        }
    }

    #[test]
    fn invalid_utf8_is_refused_by_line() {
        assert_eq!(framed(b"{\"a\":1}\n{\"a\":\"\xff\"}\n{}", 100)[1], (2, "!".into()));
    }
}
