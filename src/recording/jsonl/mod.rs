//! Reads recordings of JSON objects, one a line or indented over several: our own, those of `mosquitto_sub -F %j` and `%J` in
//! every version, and of mqtt-recorder-rs. Reports what a format has lost.

mod fields;
mod mosquitto;
#[cfg(test)]
mod tests;

use std::{borrow::Cow, mem, ops::ControlFlow};

use serde::de::IgnoredAny;
use serde_json::value::RawValue;

use self::{
    fields::ForeignFields,
    mosquitto::{EscapeEvidence, EscapeStyle, MosquittoFormat},
};
use super::{
    decimal::whole,
    entry::{CUT_OFF, EntryVisitor, IssueKind, RecordingEntry},
    payload_base64::decode_either_alphabet,
    record::{LEFT_OUT, Record, RecordError, flag},
    time::time_of,
    timeline::Timeline,
};
use crate::{json::push_json, tuya::Topics};

/// Most bytes of lines that are held until one of them shows how payloads are escaped.
const MAX_HELD: usize = 1 << 20;

/// Reads a recording line by line, and passes its entries to a visitor.
#[derive(Debug)]
pub struct JsonLinesReader<'t> {
    topics: &'t Topics,
    number: u64,
    /// The format that `mosquitto_sub` was told to print, as far as earlier lines show.
    mosquitto: Option<MosquittoFormat>,
    /// How `mosquitto_sub -F %j` escaped payloads; unknown until a line shows it.
    escapes: Option<EscapeStyle>,
    held: HeldLines,
    /// An indented object that has not ended, with the number of its first line.
    open: Option<(u64, Vec<u8>)>,
    /// Whether any line could be read.
    has_read: bool,
    timeline: Timeline,
}

/// Lines, with their numbers, that wait for one that shows how payloads are escaped.
#[derive(Debug, Default)]
struct HeldLines {
    lines: Vec<(u64, Vec<u8>)>,
    bytes: usize,
}

/// One object of a recording.
#[derive(Clone, Copy)]
struct RecordingLine<'a> {
    /// The number of its first line.
    number: u64,
    bytes: &'a [u8],
    /// Whether it ended with a newline.
    is_whole: bool,
    /// Whether it was indented over several lines.
    is_indented: bool,
}

impl<'t> JsonLinesReader<'t> {
    /// Returns a reader that counts lines from behind the `skipped` first ones. `topics` tell what the messages of other
    /// tools are.
    #[must_use]
    pub fn new(topics: &'t Topics, skipped: u64) -> Self {
        Self {
            topics,
            number: skipped,
            mosquitto: None,
            escapes: None,
            held: HeldLines::default(),
            open: None,
            has_read: false,
            timeline: Timeline::default(),
        }
    }

    /// The number of the last line, from 1.
    #[must_use]
    pub fn number(&self) -> u64 {
        self.number
    }

    /// Reads the next line; `is_whole` says whether it ended with a newline.
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
                return self.handle_line(line, visit);
            }
            let what = format!("begins an object that does not end before line {}", self.number);
            visit(number, IssueKind::Unreadable.entry(what))?;
        }
        if bytes == b"{" && is_whole {
            self.open = Some((self.number, bytes.to_vec()));
            return ControlFlow::Continue(());
        }
        self.handle_line(RecordingLine { number: self.number, bytes, is_whole, is_indented: false }, visit)
    }

    /// Reads the lines that are still held, at the end of the recording.
    pub fn finish(&mut self, visit: &mut EntryVisitor<'_>) -> ControlFlow<()> {
        self.release(EscapeStyle::Json, visit)?;
        match self.open.take() {
            Some((number, _)) => {
                visit(number, IssueKind::Torn.entry(format!("begins an object that {CUT_OFF}")))
            }
            None => ControlFlow::Continue(()),
        }
    }

    /// Parses a line, or holds it if its payload may be escaped in either style.
    fn handle_line(&mut self, line: RecordingLine<'_>, visit: &mut EntryVisitor<'_>) -> ControlFlow<()> {
        if self.escapes.is_none() && !line.bytes.starts_with(b"{\"v\":") {
            match mosquitto::escapes_in_line(line.bytes) {
                Some(EscapeEvidence::Only(escapes)) => self.release(escapes, visit)?,
                None if self.held.lines.is_empty() => {}
                Some(EscapeEvidence::Either) | None => return self.hold(line, visit),
            }
        }
        self.parse(line, visit)
    }

    fn hold(&mut self, line: RecordingLine<'_>, visit: &mut EntryVisitor<'_>) -> ControlFlow<()> {
        let RecordingLine { number, bytes, is_whole, .. } = line;
        self.held.bytes += bytes.len() + 64;
        if !is_whole || self.held.bytes > MAX_HELD {
            self.release(EscapeStyle::Json, visit)?;
            return self.parse(line, visit);
        }
        self.held.lines.push((number, bytes.to_vec()));
        ControlFlow::Continue(())
    }

    /// Parses the held lines.
    fn release(&mut self, escapes: EscapeStyle, visit: &mut EntryVisitor<'_>) -> ControlFlow<()> {
        self.escapes = Some(escapes);
        for (number, bytes) in mem::take(&mut self.held.lines) {
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
        let parsed = if is_ours { self.parse_own(line, visit) } else { self.parse_foreign(line, visit) };
        match parsed {
            Ok(flow) => {
                self.has_read = true;
                flow
            }
            Err(_) if !is_whole && (self.has_read || bytes.starts_with(b"{")) && is_incomplete(bytes) => {
                visit(number, IssueKind::Torn.entry(format!("{CUT_OFF}; it was passed over")))
            }
            Err(why) => visit(number, IssueKind::Unreadable.entry(format!("cannot be read: {why}"))),
        }
    }

    /// Parses a line of this program, or one that no other tool is known to write.
    fn parse_own(
        &self,
        line: RecordingLine<'_>,
        visit: &mut EntryVisitor<'_>,
    ) -> Result<ControlFlow<()>, RecordError> {
        let RecordingLine { number, bytes, .. } = line;
        if let Some(record) = Record::read(bytes, self.topics)? {
            return Ok(visit_message(line, record, None, visit));
        }
        let text = str::from_utf8(bytes).map_err(|_| RecordError::new("", "is not valid UTF-8"))?;
        let fields: Option<ForeignFields<'_>> = serde_json::from_str(text).ok();
        let is_event = match fields.map(|fields| (fields.kind, fields.event)) {
            Some((Some(kind), _)) if matches!(&*kind, "connect" | "disconnect") => true,
            Some((_, Some(event))) => event == LEFT_OUT,
            _ => false,
        };
        if !is_event {
            return Ok(ControlFlow::Continue(()));
        }
        // The line is copied to the output, and need not come from this program.
        let mut safe = Vec::with_capacity(text.len());
        push_json(&mut safe, text);
        Ok(visit(number, RecordingEntry::EventLine(&safe)))
    }

    /// Parses a line of another tool.
    fn parse_foreign(
        &mut self,
        line: RecordingLine<'_>,
        visit: &mut EntryVisitor<'_>,
    ) -> Result<ControlFlow<()>, RecordError> {
        let Ok(text) = str::from_utf8(line.bytes) else { return self.parse_not_utf8(line, visit) };
        let Ok(fields) = serde_json::from_str::<ForeignFields<'_>>(text) else {
            return self.parse_own(line, visit);
        };
        if fields.v.is_some() || fields.topic.is_none() {
            return self.parse_own(line, visit);
        }
        if fields.payload.is_none() && (fields.msg_b64.is_some() || fields.msg.is_some()) {
            let record = self.recorder_rs(fields)?;
            return Ok(visit(line.number, RecordingEntry::Message(record)));
        }
        let Some(mut record) = Record::read(line.bytes, self.topics)? else {
            return Ok(ControlFlow::Continue(()));
        };
        if record.mono_us.is_none() {
            record.mono_us = Some(self.mono_us(record.unix_us));
        }
        let mut loss = None;
        if let (Some(raw), Some(length)) = (fields.payload, fields.payload_length()?) {
            let raw = raw.get();
            let text = raw.starts_with('"').then(|| self.unescape(raw.as_bytes(), Some(length))).flatten();
            let is_text = match (&text, self.mosquitto) {
                (Some(_), _) if self.escapes == Some(EscapeStyle::Decimal) => true,
                (Some(text), _) if text.len() == length => true,
                (Some(_), Some(MosquittoFormat::Json)) | (None, _) => false,
                (Some(_), _) => raw.len() != length,
            };
            match text {
                Some(text) if is_text => {
                    self.mosquitto.get_or_insert(MosquittoFormat::Text);
                    // The payload itself may tell the channel, which the JSON string around it did not.
                    record = Record { payload: Cow::Owned(text), ..record }.classified(self.topics);
                }
                _ if raw != "null" => self.mosquitto = Some(MosquittoFormat::Json),
                _ => {}
            }
            loss = mosquitto::loss(record.payload.len(), length, self.mosquitto);
        }
        Ok(visit_message(line, record, loss, visit))
    }

    /// Parses a line of `mosquitto_sub -F %j` with a payload that is not UTF-8, whose bytes mosquitto writes as they are.
    fn parse_not_utf8(
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
        let fields: ForeignFields<'_> = serde_json::from_slice(&before).map_err(|_| broken())?;
        let length = fields.payload_length()?;
        let payload = self.unescape(raw, length).ok_or_else(broken)?;
        let mut record = Record::read(&before, self.topics)?.ok_or_else(broken)?;
        record.payload = Cow::Owned(payload);
        record.mono_us = Some(self.mono_us(record.unix_us));
        self.mosquitto.get_or_insert(MosquittoFormat::Text);
        let loss = length.and_then(|length| mosquitto::loss(record.payload.len(), length, self.mosquitto));
        Ok(visit_message(RecordingLine { is_indented: false, ..line }, record, loss, visit))
    }

    /// Returns the record of a line of mqtt-recorder-rs or a tool like it: `time` or `tst`, and `msg_b64` in either
    /// alphabet, or `msg`.
    fn recorder_rs<'a>(&mut self, fields: ForeignFields<'a>) -> Result<Record<'a>, RecordError> {
        let time = fields.time.or(fields.tst).ok_or_else(|| RecordError::new("time", "is missing"))?;
        let unix_us = time_of(time.get()).ok_or_else(|| RecordError::new("time", "must be epoch seconds"))?;
        let payload = match (fields.msg_b64, fields.msg) {
            (Some(text), _) => {
                decode_either_alphabet(&text).ok_or_else(|| RecordError::new("msg_b64", "is not base64"))?
            }
            (None, text) => text.unwrap_or_default().into_owned().into_bytes(),
        };
        let given = |raw: Option<&'a RawValue>| raw.map(RawValue::get).filter(|raw| *raw != "null");
        let qos = given(fields.qos).map_or(Some(0), whole).and_then(|qos| u8::try_from(qos).ok());
        let qos = qos.filter(|qos| *qos <= 2).ok_or_else(|| RecordError::new("qos", "must be 0, 1 or 2"))?;
        let retain = given(fields.retain)
            .map_or(Some(false), flag)
            .ok_or_else(|| RecordError::new("retain", "must be true or false"))?;
        let topic = fields.topic.unwrap_or_default();
        let record = Record::new(unix_us, self.mono_us(unix_us), topic, Cow::Owned(payload));
        Ok(Record { qos, retain, ..record }.classified(self.topics))
    }

    /// The time since the recording began, of a line that has the wall clock's time only.
    fn mono_us(&mut self, unix_us: i64) -> u64 {
        u64::try_from(self.timeline.advance(unix_us, None).offset.as_micros()).unwrap_or(u64::MAX)
    }

    /// Unescapes a payload of `%j`. If no line has shown the style, the payload's length may.
    fn unescape(&self, raw: &[u8], length: Option<usize>) -> Option<Vec<u8>> {
        if self.escapes == Some(EscapeStyle::Decimal) {
            return EscapeStyle::Decimal.unescape(raw);
        }
        let text = EscapeStyle::Json.unescape(raw);
        if mosquitto::escapes_in_payload(raw) == Some(EscapeEvidence::Either)
            && length.is_some_and(|length| text.as_ref().is_none_or(|text| text.len() != length))
            && let Some(decimal) = EscapeStyle::Decimal.unescape(raw)
            && Some(decimal.len()) == length
        {
            return Some(decimal);
        }
        text
    }
}

/// Whether a text is not whole JSON, so that it may be the beginning of something longer.
fn is_incomplete(text: &[u8]) -> bool {
    serde_json::from_slice::<IgnoredAny>(text).is_err()
}

/// Passes on a message, and before it the loss that its line shows.
fn visit_message(
    line: RecordingLine<'_>,
    record: Record<'_>,
    loss: Option<String>,
    visit: &mut EntryVisitor<'_>,
) -> ControlFlow<()> {
    let is_payload_indented =
        line.is_indented && record.payload.contains(&b'\n') && !is_incomplete(&record.payload);
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

/// Returns JSON without the white space between its tokens.
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
