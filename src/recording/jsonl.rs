//! Recordings of JSON objects, one a line or indented over several: our own, `mosquitto_sub -F %j` and `%J` of every
//! version, and mqtt-recorder-rs. A warning tells what a format has lost.

use std::{borrow::Cow, ops::ControlFlow};

use base64::Engine as _;
use serde::{Deserialize, de::IgnoredAny};
use serde_json::value::RawValue;

use super::{
    BASE64, EntryVisitor, IssueKind, LEFT_OUT, Record, RecordError, RecordingEntry, Timeline, flag, number,
    unix_us,
};
use crate::{json::push_json, tuya::Topics};

/// How many bytes of lines wait at most until one of them tells how payloads are escaped.
const HELD: usize = 1 << 20;

/// A reader of lines, which it is given one at a time.
#[derive(Debug)]
pub struct JsonLinesReader<'t> {
    topics: &'t Topics,
    number: u64,
    /// What `mosquitto_sub` was told to print, as far as earlier lines show.
    mosquitto: Option<MosquittoFormat>,
    /// How `mosquitto_sub -F %j` escaped payloads; unknown until a line shows it.
    escapes: Option<EscapeStyle>,
    /// Lines, with their numbers, that wait for one that shows it.
    held: Vec<(u64, Vec<u8>)>,
    held_bytes: usize,
    /// An object over several lines that has not ended, with the number of its first line.
    open: Option<(u64, Vec<u8>)>,
    /// Whether anything could be read.
    has_read: bool,
    clock: Timeline,
}

/// How `mosquitto_sub` prints a payload.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum MosquittoFormat {
    /// `%j`: as a string.
    Text,
    /// `%J`: as the JSON that it is.
    Json,
}

/// How the characters of a `%j` payload are escaped.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum EscapeStyle {
    /// As JSON has it.
    Json,
    /// mosquitto_sub until 1.5.8: `\u` and four decimal digits for quotes, backslashes and control characters.
    Decimal,
}

/// A line, and how it stood in the recording.
#[derive(Clone, Copy)]
struct RecordingLine<'a> {
    number: u64,
    bytes: &'a [u8],
    /// It ended with a newline.
    is_whole: bool,
    /// It was indented over several lines.
    is_indented: bool,
}

/// The fields that tell foreign lines apart.
#[derive(Deserialize)]
struct ForeignFields<'a> {
    #[serde(borrow)]
    v: Option<&'a RawValue>,
    #[serde(borrow)]
    topic: Option<Cow<'a, str>>,
    #[serde(borrow)]
    tst: Option<&'a RawValue>,
    #[serde(borrow)]
    time: Option<&'a RawValue>,
    #[serde(borrow)]
    qos: Option<&'a RawValue>,
    #[serde(borrow)]
    retain: Option<&'a RawValue>,
    #[serde(borrow)]
    payloadlen: Option<&'a RawValue>,
    #[serde(borrow)]
    payload: Option<&'a RawValue>,
    #[serde(borrow)]
    msg_b64: Option<Cow<'a, str>>,
    #[serde(borrow)]
    msg: Option<Cow<'a, str>>,
    #[serde(borrow)]
    kind: Option<Cow<'a, str>>,
    #[serde(borrow)]
    event: Option<Cow<'a, str>>,
}

impl ForeignFields<'_> {
    fn payload_length(&self) -> Result<Option<usize>, RecordError> {
        let Some(raw) = self.payloadlen.map(RawValue::get).filter(|raw| *raw != "null") else {
            return Ok(None);
        };
        let length = number::whole(raw).and_then(|length| usize::try_from(length).ok());
        length
            .map(Some)
            .ok_or_else(|| RecordError::new("payloadlen", "must be a whole number within its range"))
    }
}

impl<'t> JsonLinesReader<'t> {
    /// A reader at the beginning of a recording, or behind lines that are not part of it; the topics say what a foreign
    /// line is about.
    #[must_use]
    pub fn new(topics: &'t Topics, passed_over: u64) -> Self {
        Self {
            topics,
            number: passed_over,
            mosquitto: None,
            escapes: None,
            held: Vec::new(),
            held_bytes: 0,
            open: None,
            has_read: false,
            clock: Timeline::default(),
        }
    }

    /// The number of the last line, from 1.
    #[must_use]
    pub fn number(&self) -> u64 {
        self.number
    }

    /// Reads the next line; `is_whole` says that it ended with a newline.
    pub fn read(&mut self, line: &[u8], is_whole: bool, visit: &mut EntryVisitor<'_>) -> ControlFlow<()> {
        self.number += 1;
        let bytes = line.strip_prefix("\u{feff}".as_bytes()).unwrap_or(line);
        let is_inside = matches!(bytes, [b' ' | b'\t', ..]);
        let bytes = bytes.trim_ascii();
        if let Some((number, mut object)) = self.open.take() {
            let is_end = !is_inside && matches!(bytes, b"}" | b"},");
            if is_inside || is_end || bytes.is_empty() {
                object.push(b'\n');
                object.extend_from_slice(bytes.strip_suffix(b",").filter(|_| is_end).unwrap_or(bytes));
                if !is_end {
                    self.open = Some((number, object));
                    return ControlFlow::Continue(());
                }
                let line = RecordingLine { number, bytes: &object, is_whole: true, is_indented: true };
                return self.take(line, visit);
            }
            let what = format!("begins an object that does not end before line {}", self.number);
            visit(number, IssueKind::Unreadable.entry(what))?;
        }
        if bytes == b"{" && is_whole {
            self.open = Some((self.number, bytes.to_vec()));
            return ControlFlow::Continue(());
        }
        self.take(RecordingLine { number: self.number, bytes, is_whole, is_indented: false }, visit)
    }

    /// Reads what still waits; there are no more lines.
    pub fn finish(&mut self, visit: &mut EntryVisitor<'_>) -> ControlFlow<()> {
        self.release(EscapeStyle::Json, visit)?;
        match self.open.take() {
            Some((number, _)) => {
                visit(number, IssueKind::Torn.entry(format!("begins an object that {TORN}")))
            }
            None => ControlFlow::Continue(()),
        }
    }

    /// Takes a line once it is known how it was escaped.
    fn take(&mut self, line: RecordingLine<'_>, visit: &mut EntryVisitor<'_>) -> ControlFlow<()> {
        if self.escapes.is_none() && !line.bytes.starts_with(b"{\"v\":") {
            match escapes_of(line.bytes) {
                Some(EscapeEvidence::Only(escapes)) => self.release(escapes, visit)?,
                None if self.held.is_empty() => {}
                Some(EscapeEvidence::Either) | None => return self.hold(line, visit),
            }
        }
        self.parse(line, visit)
    }

    fn hold(&mut self, line: RecordingLine<'_>, visit: &mut EntryVisitor<'_>) -> ControlFlow<()> {
        let RecordingLine { number, bytes, is_whole, .. } = line;
        self.held_bytes += bytes.len() + 64;
        if !is_whole || self.held_bytes > HELD {
            self.release(EscapeStyle::Json, visit)?;
            return self.parse(line, visit);
        }
        self.held.push((number, bytes.to_vec()));
        ControlFlow::Continue(())
    }

    /// Reads the lines that waited.
    fn release(&mut self, escapes: EscapeStyle, visit: &mut EntryVisitor<'_>) -> ControlFlow<()> {
        self.escapes = Some(escapes);
        for (number, bytes) in std::mem::take(&mut self.held) {
            self.parse(RecordingLine { number, bytes: &bytes, is_whole: true, is_indented: false }, visit)?;
        }
        ControlFlow::Continue(())
    }

    fn parse(&mut self, line: RecordingLine<'_>, visit: &mut EntryVisitor<'_>) -> ControlFlow<()> {
        let RecordingLine { number, bytes, is_whole, .. } = line;
        if bytes.is_empty() {
            return match self.mosquitto {
                Some(MosquittoFormat::Json) => visit(
                    number,
                    IssueKind::Lossy.entry(
                        "is empty: mosquitto_sub -F %J prints such a line for a message that is not JSON",
                    ),
                ),
                _ => ControlFlow::Continue(()),
            };
        }
        let is_ours = bytes.starts_with(b"{\"v\":") && !line.is_indented;
        let told = if is_ours { self.ours(line, visit) } else { self.foreign(line, visit) };
        match told {
            Ok(flow) => {
                self.has_read = true;
                flow
            }
            Err(_) if !is_whole && (self.has_read || bytes.starts_with(b"{")) && is_cut(bytes) => {
                visit(number, IssueKind::Torn.entry(format!("{TORN}; it was passed over")))
            }
            Err(why) => visit(number, IssueKind::Unreadable.entry(format!("cannot be read: {why}"))),
        }
    }

    fn ours(
        &self,
        line: RecordingLine<'_>,
        visit: &mut EntryVisitor<'_>,
    ) -> Result<ControlFlow<()>, RecordError> {
        let RecordingLine { number, bytes, .. } = line;
        if let Some(record) = Record::read(bytes, self.topics)? {
            return Ok(give(line, record, None, visit));
        }
        let text = str::from_utf8(bytes).map_err(|_| RecordError::new("", "is not valid UTF-8"))?;
        let head: Option<ForeignFields<'_>> = serde_json::from_str(text).ok();
        let is_aside = match head.map(|head| (head.kind, head.event)) {
            Some((Some(kind), _)) if matches!(&*kind, "connect" | "disconnect") => true,
            Some((_, Some(event))) => event == LEFT_OUT,
            _ => false,
        };
        if !is_aside {
            return Ok(ControlFlow::Continue(()));
        }
        // A stranger may have written it, and it is copied.
        let mut safe = Vec::with_capacity(text.len());
        push_json(&mut safe, text);
        Ok(visit(number, RecordingEntry::EventLine(&safe)))
    }

    fn foreign(
        &mut self,
        line: RecordingLine<'_>,
        visit: &mut EntryVisitor<'_>,
    ) -> Result<ControlFlow<()>, RecordError> {
        let Ok(text) = str::from_utf8(line.bytes) else { return self.not_utf8(line, visit) };
        let Ok(head) = serde_json::from_str::<ForeignFields<'_>>(text) else { return self.ours(line, visit) };
        if head.v.is_some() || head.topic.is_none() {
            return self.ours(line, visit);
        }
        if head.payload.is_none() && (head.msg_b64.is_some() || head.msg.is_some()) {
            let record = self.recorder(head)?;
            return Ok(visit(line.number, RecordingEntry::Message(record)));
        }
        let Some(mut record) = Record::read(line.bytes, self.topics)? else {
            return Ok(ControlFlow::Continue(()));
        };
        if record.mono_us.is_none() {
            record.mono_us = Some(self.mono_us(record.unix_us));
        }
        let mut loss = None;
        if let (Some(raw), Some(length)) = (head.payload, head.payload_length()?) {
            let raw = raw.get();
            let text = raw.starts_with('"').then(|| self.unescape(raw.as_bytes(), Some(length))).flatten();
            let as_text = match (&text, self.mosquitto) {
                (Some(_), _) if self.escapes == Some(EscapeStyle::Decimal) => true,
                (Some(text), _) if text.len() == length => true,
                (Some(_), Some(MosquittoFormat::Json)) | (None, _) => false,
                (Some(_), _) => raw.len() != length,
            };
            match text {
                Some(text) if as_text => {
                    self.mosquitto.get_or_insert(MosquittoFormat::Text);
                    // The payload may tell more than the JSON around it did.
                    record = Record { payload: Cow::Owned(text), ..record }.classified(self.topics);
                }
                _ if raw != "null" => self.mosquitto = Some(MosquittoFormat::Json),
                _ => {}
            }
            loss = altered(record.payload.len(), length, self.mosquitto);
        }
        Ok(give(line, record, loss, visit))
    }

    /// `mosquitto_sub -F %j` writes a payload's bytes as they are, so that such a line is not UTF-8; the bytes
    /// are all there.
    fn not_utf8(
        &mut self,
        line: RecordingLine<'_>,
        visit: &mut EntryVisitor<'_>,
    ) -> Result<ControlFlow<()>, RecordError> {
        const PAYLOAD: &[u8] = b"\"payload\":";
        let broken = || RecordError::new("", "is not valid UTF-8");
        let bytes = line.bytes;
        let at = bytes.windows(PAYLOAD.len()).position(|part| part == PAYLOAD).ok_or_else(broken)?;
        let (before, raw) = bytes.split_at(at + PAYLOAD.len());
        let raw = raw.trim_ascii_end().strip_suffix(b"}").ok_or_else(broken)?.trim_ascii();
        let before = [before, b"1}"].concat();
        let head: ForeignFields<'_> = serde_json::from_slice(&before).map_err(|_| broken())?;
        let length = head.payload_length()?;
        let payload = self.unescape(raw, length).ok_or_else(broken)?;
        let mut record = Record::read(&before, self.topics)?.ok_or_else(broken)?;
        record.payload = Cow::Owned(payload);
        record.mono_us = Some(self.mono_us(record.unix_us));
        self.mosquitto.get_or_insert(MosquittoFormat::Text);
        let loss = length.and_then(|length| altered(record.payload.len(), length, self.mosquitto));
        Ok(give(RecordingLine { is_indented: false, ..line }, record, loss, visit))
    }

    /// A line of mqtt-recorder-rs and its kin: `time` or `tst`, and `msg_b64` in either alphabet, or `msg`.
    fn recorder<'a>(&mut self, head: ForeignFields<'a>) -> Result<Record<'a>, RecordError> {
        let time = head.time.or(head.tst).ok_or_else(|| RecordError::new("time", "is missing"))?;
        let unix_us = unix_us(time.get()).ok_or_else(|| RecordError::new("time", "must be epoch seconds"))?;
        let payload = match (head.msg_b64, head.msg) {
            (Some(text), _) => {
                from_either_alphabet(&text).ok_or_else(|| RecordError::new("msg_b64", "is not base64"))?
            }
            (None, text) => text.unwrap_or_default().into_owned().into_bytes(),
        };
        let given = |raw: Option<&'a RawValue>| raw.map(RawValue::get).filter(|raw| *raw != "null");
        let qos = given(head.qos).map_or(Some(0), number::whole).and_then(|qos| u8::try_from(qos).ok());
        let record = Record {
            unix_us,
            topic: head.topic.unwrap_or_default(),
            qos: qos.filter(|qos| *qos <= 2).ok_or_else(|| RecordError::new("qos", "must be 0, 1 or 2"))?,
            retain: given(head.retain)
                .map_or(Some(false), flag)
                .ok_or_else(|| RecordError::new("retain", "must be true or false"))?,
            dup: false,
            mid: None,
            dir: None,
            channel: None,
            gateway_id: None,
            mono_us: Some(self.mono_us(unix_us)),
            payload: Cow::Owned(payload),
            is_json: false,
            unknown: Vec::new(),
        };
        Ok(record.classified(self.topics))
    }

    /// The time of a line that knows the wall clock only.
    fn mono_us(&mut self, unix_us: i64) -> u64 {
        u64::try_from(self.clock.tick(unix_us, None).offset.as_micros()).unwrap_or(u64::MAX)
    }

    /// The bytes of a `%j` payload. Where no line shows how the recording is escaped, the length may.
    fn unescape(&self, raw: &[u8], length: Option<usize>) -> Option<Vec<u8>> {
        if self.escapes == Some(EscapeStyle::Decimal) {
            return unescape(raw, EscapeStyle::Decimal);
        }
        let text = unescape(raw, EscapeStyle::Json);
        if escapes_of_payload(raw) == Some(EscapeEvidence::Either)
            && length.is_some_and(|length| text.as_ref().is_none_or(|text| text.len() != length))
            && let Some(decimal) = unescape(raw, EscapeStyle::Decimal)
            && Some(decimal.len()) == length
        {
            return Some(decimal);
        }
        text
    }
}

/// How a line that a crash cut off ends.
pub(super) const TORN: &str = "ends in the middle, as a crash leaves it";

/// Whether a text is not whole JSON, so that it may be the beginning of something longer.
fn is_cut(line: &[u8]) -> bool {
    serde_json::from_slice::<IgnoredAny>(line).is_err()
}

/// Tells of a message, and before it of what its line has lost.
fn give(
    line: RecordingLine<'_>,
    record: Record<'_>,
    loss: Option<String>,
    visit: &mut EntryVisitor<'_>,
) -> ControlFlow<()> {
    let is_payload_indented = line.is_indented && record.payload.contains(&b'\n') && !is_cut(&record.payload);
    let (record, loss) = if is_payload_indented {
        let why = "holds a payload that was indented anew: its bytes are not the ones that travelled; record with \
                   mosquitto_sub -F %j or with tuyagw listen";
        (Record { payload: Cow::Owned(compact(&record.payload)), ..record }, Some(why.to_owned()))
    } else {
        (record, loss)
    };
    if let Some(loss) = loss {
        visit(line.number, IssueKind::Lossy.entry(loss))?;
    }
    visit(line.number, RecordingEntry::Message(record))
}

/// JSON without the white space between its parts.
fn compact(json: &[u8]) -> Vec<u8> {
    let (mut in_string, mut is_escaped) = (false, false);
    let mut kept = json.to_vec();
    kept.retain(|byte| {
        if in_string {
            in_string = is_escaped || *byte != b'"';
            is_escaped = *byte == b'\\' && !is_escaped;
            return true;
        }
        in_string = *byte == b'"';
        !byte.is_ascii_whitespace()
    });
    kept
}

/// What a line, or a payload in it, shows about the escapes of its recording.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum EscapeEvidence {
    Only(EscapeStyle),
    /// It has escapes that mean something else in either way.
    Either,
}

/// What a line shows; `None` for one that cannot be mosquitto's `%j`, or has no telling escape.
fn escapes_of(line: &[u8]) -> Option<EscapeEvidence> {
    let rest = line.strip_prefix(b"{\"tst\":")?;
    if !rest.first()?.is_ascii_digit() {
        // Versions that write a string escape as JSON does.
        return Some(EscapeEvidence::Only(EscapeStyle::Json));
    }
    let at = rest.windows(11).position(|part| part == b"\"payload\":\"")?;
    escapes_of_payload(&rest[at + 10..])
}

/// What a payload's string shows: until 1.5.8 there is no escape but `\u` with the decimal codes of quotes (34),
/// backslashes (92) and control characters (0 to 31), and since then none that reads `\u0034`.
fn escapes_of_payload(payload: &[u8]) -> Option<EscapeEvidence> {
    let mut shown = None;
    let mut rest = payload;
    while let Some(at) = rest.iter().position(|byte| *byte == b'\\') {
        rest = &rest[at + 1..];
        let digits = rest
            .strip_prefix(b"u")
            .and_then(|rest| rest.get(..4))
            .and_then(|digits| str::from_utf8(digits).ok());
        let code = digits.filter(|digits| digits.bytes().all(|byte| byte.is_ascii_digit()));
        match code.and_then(|digits| digits.parse::<u8>().ok()) {
            Some(34) => shown = Some(EscapeEvidence::Only(EscapeStyle::Decimal)),
            Some(10..=31 | 92) => shown = shown.or(Some(EscapeEvidence::Either)),
            Some(0..=9) => {}
            _ => return Some(EscapeEvidence::Only(EscapeStyle::Json)),
        }
        rest = &rest[1..];
    }
    shown
}

/// Base64 of the standard or the URL alphabet, padded or not.
pub(super) fn from_either_alphabet(text: &str) -> Option<Vec<u8>> {
    BASE64.decode(text.replace('-', "+").replace('_', "/")).ok()
}

/// What a payload of another length than the one that travelled means.
fn altered(here: usize, travelled: usize, style: Option<MosquittoFormat>) -> Option<String> {
    if here == travelled {
        return None;
    }
    let why = match style {
        Some(MosquittoFormat::Json) => "-F %J writes JSON anew; record with -F %j or with tuyagw listen",
        _ => "-F %j drops what C strings cannot hold; record with tuyagw listen",
    };
    Some(format!("holds {here} of a payload's {travelled} bytes: mosquitto_sub {why}"))
}

/// The bytes of a JSON string, quotes included, whose text need not be UTF-8.
fn unescape(quoted: &[u8], escapes: EscapeStyle) -> Option<Vec<u8>> {
    let inner = quoted.strip_prefix(b"\"")?.strip_suffix(b"\"")?;
    let mut bytes = Vec::with_capacity(inner.len());
    let mut rest = inner.iter();
    let radix = if escapes == EscapeStyle::Decimal { 10 } else { 16 };
    let unit = |rest: &mut std::slice::Iter<'_, u8>| {
        let digits = str::from_utf8(rest.as_slice().get(..4)?).ok()?;
        let unit = u32::from_str_radix(digits, radix).ok()?;
        rest.nth(3);
        Some(unit)
    };
    while let Some(byte) = rest.next() {
        match byte {
            b'"' => return None,
            b'\\' => match rest.next()? {
                b'u' if escapes == EscapeStyle::Decimal => bytes.push(u8::try_from(unit(&mut rest)?).ok()?),
                b'n' => bytes.push(b'\n'),
                b't' => bytes.push(b'\t'),
                b'r' => bytes.push(b'\r'),
                b'b' => bytes.push(8),
                b'f' => bytes.push(12),
                plain @ (b'"' | b'\\' | b'/') => bytes.push(*plain),
                b'u' => {
                    let mut code = unit(&mut rest)?;
                    if (0xd800..0xdc00).contains(&code) && rest.as_slice().starts_with(b"\\u") {
                        rest.nth(1);
                        code = 0x1_0000 + ((code - 0xd800) << 10) + unit(&mut rest)?.checked_sub(0xdc00)?;
                    }
                    let c = char::from_u32(code)?;
                    bytes.extend_from_slice(c.encode_utf8(&mut [0; 4]).as_bytes());
                }
                _ => return None,
            },
            plain => bytes.push(*plain),
        }
    }
    Some(bytes)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// What lines are read as: payloads, and flaws behind a `!`.
    fn read(lines: &[&[u8]]) -> Vec<(u64, String)> {
        let topics = Topics::default();
        let mut reader = JsonLinesReader::new(&topics, 0);
        let mut found = Vec::new();
        let mut visit = |number, what: RecordingEntry<'_>| {
            found.push((
                number,
                match what {
                    RecordingEntry::Message(record) => record.payload.escape_ascii().to_string(),
                    RecordingEntry::Issue(issue) => format!("!{:?}: {}", issue.kind, issue.message),
                    RecordingEntry::EventLine(line) => format!("~{}", line.escape_ascii()),
                    other => format!("{other:?}"),
                },
            ));
            ControlFlow::Continue(())
        };
        for line in lines {
            assert!(reader.read(line, line.ends_with(b"\n"), &mut visit).is_continue());
        }
        assert!(reader.finish(&mut visit).is_continue());
        found
    }

    fn one(line: &[u8]) -> String {
        let found = read(&[line]);
        assert_eq!(found.len(), 1, "{found:?}");
        found[0].1.clone()
    }

    #[test]
    fn mosquitto_s_text_payloads_come_back() {
        let line = |length: usize, payload: &str| {
            format!(
                "{{\"tst\":1.5,\"topic\":\"a\",\"qos\":1,\"retain\":0,\"payloadlen\":{length},\"payload\":{payload}}}\n"
            )
        };
        for (length, payload, expected) in [
            (7, r#""{\"t\":1}""#, r#"{\"t\":1}"#),
            (0, "null", ""),
            (0, r#""""#, ""),
            (4, r#""null""#, "null"),
            (3, r#""\u0001\n\u007f""#, r"\x01\n\x7f"),
            (4, r#""\ud83d\ude00""#, r"\xf0\x9f\x98\x80"),
            (2, r#""\u0001\u0002""#, r"\x01\x02"),
            (4, r#""ab""#, r#"\"ab\""#),
            (3, "1.1", "1.1"),
        ] {
            assert_eq!(one(line(length, payload).as_bytes()), expected, "{payload}");
        }
        // The byte E9 stands in the line as it is.
        let mut raw = line(4, "\"caf*\"").into_bytes();
        let at = raw.iter().position(|byte| *byte == b'*').unwrap();
        raw[at] = 0xe9;
        assert_eq!(one(&raw), r"caf\xe9");
    }

    #[test]
    fn what_mosquitto_lost_is_told() {
        let lost = read(&[b"{\"tst\":1,\"topic\":\"a\",\"payloadlen\":3,\"payload\":\"\"}\n"]);
        assert!(lost[0].1.starts_with("!Lossy: holds 0 of a payload's 3 bytes"), "{lost:?}");
        assert_eq!(lost[1], (1, String::new()));
        let anew = read(&[
            b"{\"tst\":1,\"topic\":\"a\",\"payloadlen\":7,\"payload\":{\"a\":1}}\n",
            b"\n",
            b"{\"tst\":1,\"topic\":\"a\",\"payloadlen\":4,\"payload\":1.1}\n",
            b"{\"tst\":1,\"topic\":\"a\",\"payloadlen\":9,\"payload\":\"caf\"}\n",
        ]);
        let told: Vec<_> = anew.iter().map(|(line, what)| (*line, what.split(':').next().unwrap())).collect();
        assert_eq!(
            told,
            [(1, "{\\\"a\\\""), (2, "!Lossy"), (3, "!Lossy"), (3, "1.1"), (4, "!Lossy"), (4, "\\\"caf\\\"")]
        );
    }

    #[test]
    fn recorder_lines_are_read_in_both_alphabets() {
        for (line, expected) in [
            (r#"{"time":1700000000.25,"qos":1,"retain":false,"topic":"a","msg_b64":"+/8="}"#, r"\xfb\xff"),
            (r#"{"time":1700000000.25,"qos":1,"retain":false,"topic":"a","msg_b64":"-_8"}"#, r"\xfb\xff"),
            (r#"{"time":1700000000,"qos":2,"retain":true,"topic":"a","msg":"x\ny"}"#, r"x\ny"),
            (r#"{"tst":"2026-11-22T07:22:00Z","qos":0,"retain":1,"topic":"a","msg_b64":""}"#, ""),
        ] {
            assert_eq!(one(format!("{line}\n").as_bytes()), expected, "{line}");
        }
        for line in [
            r#"{"time":1,"qos":1,"topic":"a","msg_b64":"*"}"#,
            r#"{"qos":1,"topic":"a","msg_b64":""}"#,
            r#"{"time":1,"qos":3,"topic":"a","msg":""}"#,
        ] {
            assert!(one(format!("{line}\n").as_bytes()).starts_with("!Unreadable"), "{line}");
        }
    }

    #[test]
    fn our_own_lines_pass_and_broken_ones_are_named() {
        let connect = br#"{"v":1,"tst":"2026-11-22T07:22:00Z","dir":"up","kind":"connect","mono_us":0,"client_id":"g"}"#;
        let found = read(&[
            connect,
            b"{\"event\":\"listening\"}\n",
            b"{\"op\":\"report\"}\n",
            b"\n",
            b"{\"v\":1,\"tst\":0,\"topic\":\"x\",\"payloadlen\":99,\"payload\":\"a\"}\n",
            b"{\"v\":1,\"tst\":0,\"topic\":\"x\"}\n",
            b"nonsense\n",
            b"{\"v\":1,\"tst\":0,\"to",
        ]);
        let told: Vec<_> = found.iter().map(|(line, what)| (*line, &what[..what.len().min(6)])).collect();
        assert_eq!(
            told,
            [(1, "~{\\\"v\\"), (5, "\\\"a\\\""), (6, "!Unrea"), (7, "!Unrea"), (8, "!Torn:")],
            "{found:?}"
        );
    }

    /// A line of mosquitto_sub 1.5, or of 1.6.
    fn old(length: usize, payload: &str) -> Vec<u8> {
        format!("{{\"tst\":1,\"topic\":\"a\",\"qos\":1,\"retain\":0,\"payloadlen\":{length},\"payload\":\"{payload}\"}}\n")
            .into_bytes()
    }

    #[test]
    fn decimal_escapes_of_mosquitto_1_5_are_read_in_the_whole_recording() {
        // A newline in 1.5, and a control character since; the third line shows which.
        let lines = [
            old(3, r"a\u0010b"),
            old(2, "ok"),
            old(13, r"{\u0034t\u0034:\u00341\u0034}"),
            old(4, r"\u0092\u0009\u0031~"),
        ];
        let lines: Vec<_> = lines.iter().map(Vec::as_slice).collect();
        let payloads =
            |found: &[(u64, String)]| found.iter().map(|(_, what)| what.clone()).collect::<Vec<_>>();
        let mut expected = vec![r"a\nb", "ok", r#"{\"t\":\"1\"}"#, r"\\\t\x1f~"];
        let found = read(&lines);
        assert_eq!(
            found.iter().map(|(line, _)| *line).filter(|line| *line != 3).collect::<Vec<_>>(),
            [1, 2, 4]
        );
        let found = payloads(&found);
        // Its length is wrong on purpose: that is told as ever.
        assert!(found[2].starts_with("!Lossy"), "{found:?}");
        expected.insert(2, &found[2]);
        assert_eq!(found, expected);
        // Nothing shows it: since 1.6, unless the length says otherwise.
        assert_eq!(payloads(&read(&lines[..2])), [r"a\x10b", "ok"]);
        assert_eq!(payloads(&read(&[&old(3, r"a\u0092b")])), [r"a\\b"]);
        assert_eq!(payloads(&read(&[&old(4, r"a\u0092b")])), [r"a\xc2\x92b"]);
        let later = [&old(3, r"a\u0010b")[..], &old(3, r#"\"x\""#), &old(1, r"\u0034")];
        assert_eq!(payloads(&read(&later)), [r"a\x10b", r#"\"x\""#, "4"]);
        let raw = [&b"{\"tst\":1,\"topic\":\"a\",\"payloadlen\":3,\"payload\":\"\\u0034\xe9\\u0010\"}\n"[..]];
        assert_eq!(payloads(&read(&raw)), [r#"\"\xe9\n"#]);
    }

    #[test]
    fn an_indented_object_is_read_as_one_line() {
        let object = |payload: &str| {
            format!(
                "{{\n\t\"tst\":\t1,\n\t\"topic\":\t\"a\",\n\t\"payloadlen\":\t7,\n\t\"payload\":\t{payload}\n}}\n"
            )
        };
        let lines = |text: &str| {
            let lines: Vec<_> = text.split_inclusive('\n').map(str::as_bytes).collect();
            read(&lines)
        };
        let text = object(r#""{\"t\":1}""#);
        let found = lines(&[text.as_str(), &text].concat());
        assert_eq!(found, [(1, r#"{\"t\":1}"#.to_owned()), (7, r#"{\"t\":1}"#.to_owned())]);
        let found = lines(&object("{\n\t\t\"t\":\t1\n\t}"));
        assert!(found[0].1.starts_with("!Lossy: holds a payload that was indented anew"), "{found:?}");
        assert_eq!(found[1], (1, r#"{\"t\":1}"#.to_owned()));
        let found = lines(&text[..40]);
        assert!(found.len() == 1 && found[0].1.starts_with("!Torn: begins an object"), "{found:?}");
        let found = lines(&["{\n  \"tst\": 1,\n", &text].concat());
        assert!(
            found[0].1.starts_with("!Unreadable: begins an object that does not end before line 3"),
            "{found:?}"
        );
        assert_eq!((found.len(), found[1].0), (2, 3));
        assert_eq!(compact(br#"{ "a \" b" : [ 1 , "\\" ] }"#), br#"{"a \" b":[1,"\\"]}"#);
    }

    #[test]
    fn a_number_that_does_not_fit_is_refused() {
        let fields =
            |fields: &str| one(format!("{{\"topic\":\"a\",\"payload\":\"{{}}\",{fields}}}\n").as_bytes());
        assert_eq!(fields(r#""tst":1.0E9,"qos":1.0,"retain":0.0,"mid":7.0,"payloadlen":2.0E0"#), "{}");
        for (numbers, field) in [
            (r#""tst":1e12"#, "tst"),
            (r#""tst":"1e12""#, "tst"),
            (r#""tst":1714550400123"#, "tst"),
            (r#""tst":"-000001-01-01T00:00:00Z""#, "tst"),
            (r#""tst":1,"qos":1.5"#, "qos"),
            (r#""tst":1,"mid":65536"#, "mid"),
            (r#""tst":1,"payloadlen":1.5"#, "payloadlen"),
            (r#""tst":1,"payloadlen":"x""#, "payloadlen"),
            (r#""tst":1,"mono_us":18446744073709551615"#, "mono_us"),
        ] {
            assert!(
                fields(numbers).starts_with(&format!("!Unreadable: cannot be read: {field} ")),
                "{numbers}"
            );
        }
    }

    #[test]
    fn only_a_last_line_without_its_newline_is_torn() {
        let good = b"{\"tst\":1,\"topic\":\"a\",\"payload\":1}\n";
        let kind = |lines: &[&[u8]]| {
            read(lines).last().map(|(_, what)| what.split(':').next().unwrap().to_owned()).unwrap()
        };
        assert_eq!(kind(&[good, b"{\"tst\":1,\"to"]), "!Torn");
        assert_eq!(kind(&[good, b"\0\0\0"]), "!Torn");
        assert_eq!(kind(&[b"{\"tst\":1,\"to"]), "!Torn");
        assert_eq!(kind(&[good, b"{\"tst\":1,\"to\n"]), "!Unreadable");
        assert_eq!(kind(&[b"a log line"]), "!Unreadable");
        assert_eq!(kind(&[good, b"{\"tst\":1,\"topic\":\"a\",\"qos\":7,\"payload\":1}"]), "!Unreadable");
    }

    #[test]
    fn an_aside_is_copied_without_what_steers_a_terminal() {
        let line = "{\"v\":1,\"event\":\"left-out\",\"records\":3,\"x\":\"\u{9b}31m\u{202e}\"}\n";
        assert_eq!(
            one(line.as_bytes()),
            r#"~{\"v\":1,\"event\":\"left-out\",\"records\":3,\"x\":\"\\u009b31m\\u202e\"}"#
        );
        assert!(one(b"{\"v\":1,\"event\":\"left-out\",\"x\":\"\xff\"}\n").starts_with("!Unreadable"));
    }
}
