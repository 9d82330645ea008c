//! Recordings of one JSON object a line: our own, `mosquitto_sub -F %j` and `%J` of every version, and
//! mqtt-recorder-rs. What a format has lost is told, not hidden.
#![deny(clippy::disallowed_methods, clippy::disallowed_types)]

use std::{borrow::Cow, ops::ControlFlow};

use base64::Engine as _;
use serde::Deserialize;
use serde_json::value::RawValue;

use super::{BASE64, Found, Harm, LEFT_OUT, Record, RecordError, Tell, unix_us};
use crate::protocol::Topics;

/// A reader of lines, which it is given one at a time.
#[derive(Debug)]
pub struct Lines<'t> {
    topics: &'t Topics,
    number: u64,
    /// What `mosquitto_sub` was told to print, as far as earlier lines show.
    mosquitto: Option<Style>,
    clock: Clock,
}

/// How `mosquitto_sub` prints a payload.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Style {
    /// `%j`: as a string.
    Text,
    /// `%J`: as the JSON that it is.
    Json,
}

/// Gives foreign lines, which know the wall clock only, their time since the recording began.
#[derive(Debug, Default)]
pub(super) struct Clock {
    first: Option<i64>,
    last: u64,
}

impl Clock {
    /// The recording's own time, which never goes back, of a moment of the wall clock.
    pub fn mono_us(&mut self, unix_us: i64) -> u64 {
        let first = *self.first.get_or_insert(unix_us);
        self.last = self.last.max(u64::try_from(unix_us.saturating_sub(first)).unwrap_or(0));
        self.last
    }
}

/// The fields that tell foreign lines apart.
#[derive(Deserialize)]
struct Head<'a> {
    #[serde(borrow)]
    v: Option<&'a RawValue>,
    #[serde(borrow)]
    topic: Option<Cow<'a, str>>,
    #[serde(borrow)]
    tst: Option<&'a RawValue>,
    #[serde(borrow)]
    time: Option<&'a RawValue>,
    qos: Option<u8>,
    #[serde(borrow)]
    retain: Option<&'a RawValue>,
    payloadlen: Option<usize>,
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

impl<'t> Lines<'t> {
    /// A reader at the beginning of a recording; the topics say what a foreign line is about.
    #[must_use]
    pub fn new(topics: &'t Topics) -> Self {
        Self { topics, number: 0, mosquitto: None, clock: Clock::default() }
    }

    /// The number of the last line, from 1.
    #[must_use]
    pub fn number(&self) -> u64 {
        self.number
    }

    /// Reads the next line; `is_whole` says that it ended with a newline.
    pub fn read(&mut self, line: &[u8], is_whole: bool, tell: &mut Tell<'_>) -> ControlFlow<()> {
        self.number += 1;
        let number = self.number;
        let line = line.strip_prefix("\u{feff}".as_bytes()).unwrap_or(line).trim_ascii();
        if line.is_empty() {
            return match self.mosquitto {
                Some(Style::Json) => tell(
                    number,
                    Harm::Lossy.because(
                        "is empty: mosquitto_sub -F %J prints such a line for a message that is not JSON",
                    ),
                ),
                _ => ControlFlow::Continue(()),
            };
        }
        let told =
            if line.starts_with(b"{\"v\":") { self.ours(line, tell) } else { self.foreign(line, tell) };
        match told {
            Ok(flow) => flow,
            Err(_) if !is_whole => tell(
                number,
                Harm::Torn.because("ends in the middle, as a crash leaves it; it was passed over"),
            ),
            Err(why) => tell(number, Harm::Unreadable.because(format!("cannot be read: {why}"))),
        }
    }

    fn ours(&self, line: &[u8], tell: &mut Tell<'_>) -> Result<ControlFlow<()>, RecordError> {
        if let Some(record) = Record::read(line, self.topics)? {
            return Ok(tell(self.number, Found::Message(record)));
        }
        let head: Option<Head<'_>> = serde_json::from_slice(line).ok();
        Ok(match head.map(|head| (head.kind, head.event)) {
            Some((Some(kind), _)) if matches!(&*kind, "connect" | "disconnect") => {
                tell(self.number, Found::Aside(line))
            }
            Some((_, Some(event))) if event == LEFT_OUT => tell(self.number, Found::Aside(line)),
            _ => ControlFlow::Continue(()),
        })
    }

    fn foreign(&mut self, line: &[u8], tell: &mut Tell<'_>) -> Result<ControlFlow<()>, RecordError> {
        let Ok(text) = str::from_utf8(line) else { return self.not_utf8(line, tell) };
        let Ok(head) = serde_json::from_str::<Head<'_>>(text) else { return self.ours(line, tell) };
        if head.v.is_some() || head.topic.is_none() {
            return self.ours(line, tell);
        }
        if head.payload.is_none() && (head.msg_b64.is_some() || head.msg.is_some()) {
            let record = self.recorder(head)?;
            return Ok(tell(self.number, Found::Message(record)));
        }
        let Some(mut record) = Record::read(line, self.topics)? else { return Ok(ControlFlow::Continue(())) };
        if record.mono_us.is_none() {
            record.mono_us = Some(self.clock.mono_us(record.unix_us));
        }
        let mut loss = None;
        if let (Some(raw), Some(length)) = (head.payload, head.payloadlen) {
            let text = raw.get().strip_prefix('"').and_then(|_| unescape(raw.get().as_bytes()));
            let as_text = match (&text, self.mosquitto) {
                (Some(text), _) if text.len() == length => true,
                (Some(_), Some(Style::Json)) | (None, _) => false,
                (Some(_), _) => raw.get().len() != length,
            };
            match text {
                Some(text) if as_text => {
                    self.mosquitto.get_or_insert(Style::Text);
                    record.payload = Cow::Owned(text);
                }
                _ if raw.get() != "null" => self.mosquitto = Some(Style::Json),
                _ => {}
            }
            loss = altered(record.payload.len(), length, self.mosquitto);
        }
        Ok(match loss {
            Some(loss) => {
                let flow = tell(self.number, Harm::Lossy.because(loss));
                if flow.is_break() { flow } else { tell(self.number, Found::Message(record)) }
            }
            None => tell(self.number, Found::Message(record)),
        })
    }

    /// `mosquitto_sub -F %j` writes a payload's bytes as they are, so that such a line is not UTF-8; the bytes
    /// are all there.
    fn not_utf8(&mut self, line: &[u8], tell: &mut Tell<'_>) -> Result<ControlFlow<()>, RecordError> {
        const PAYLOAD: &[u8] = b"\"payload\":";
        let broken = || RecordError::new("", "is not valid UTF-8");
        let at = line.windows(PAYLOAD.len()).position(|part| part == PAYLOAD).ok_or_else(broken)?;
        let (before, raw) = line.split_at(at + PAYLOAD.len());
        let raw = raw.trim_ascii_end().strip_suffix(b"}").ok_or_else(broken)?.trim_ascii();
        let payload = unescape(raw).ok_or_else(broken)?;
        let before = [before, b"1}"].concat();
        let head: Head<'_> = serde_json::from_slice(&before).map_err(|_| broken())?;
        let mut record = Record::read(&before, self.topics)?.ok_or_else(broken)?;
        record.payload = Cow::Owned(payload);
        record.mono_us = Some(self.clock.mono_us(record.unix_us));
        self.mosquitto.get_or_insert(Style::Text);
        if let Some(loss) =
            head.payloadlen.and_then(|length| altered(record.payload.len(), length, self.mosquitto))
            && tell(self.number, Harm::Lossy.because(loss)).is_break()
        {
            return Ok(ControlFlow::Break(()));
        }
        Ok(tell(self.number, Found::Message(record)))
    }

    /// A line of mqtt-recorder-rs and its kin: `time` or `tst`, and `msg_b64` in either alphabet, or `msg`.
    fn recorder<'a>(&mut self, head: Head<'a>) -> Result<Record<'a>, RecordError> {
        let time = head.time.or(head.tst).ok_or_else(|| RecordError::new("time", "is missing"))?;
        let unix_us = unix_us(time.get()).ok_or_else(|| RecordError::new("time", "must be epoch seconds"))?;
        let payload = match (head.msg_b64, head.msg) {
            (Some(text), _) => {
                from_either_alphabet(&text).ok_or_else(|| RecordError::new("msg_b64", "is not base64"))?
            }
            (None, text) => text.unwrap_or_default().into_owned().into_bytes(),
        };
        let retain = match head.retain.map(RawValue::get) {
            None | Some("null" | "false" | "0") => false,
            Some("true" | "1") => true,
            Some(_) => return Err(RecordError::new("retain", "must be true or false")),
        };
        let record = Record {
            unix_us,
            topic: head.topic.unwrap_or_default(),
            qos: head.qos.unwrap_or(0),
            retain,
            dup: false,
            mid: None,
            dir: None,
            channel: None,
            gateway_id: None,
            mono_us: Some(self.clock.mono_us(unix_us)),
            payload: Cow::Owned(payload),
            is_json: false,
            unknown: Vec::new(),
        };
        if record.qos > 2 {
            return Err(RecordError::new("qos", "must be 0, 1 or 2"));
        }
        Ok(record.classified(self.topics))
    }
}

/// Base64 of the standard or the URL alphabet, padded or not.
pub(super) fn from_either_alphabet(text: &str) -> Option<Vec<u8>> {
    BASE64.decode(text.replace('-', "+").replace('_', "/")).ok()
}

/// What a payload of another length than the one that travelled means.
fn altered(here: usize, travelled: usize, style: Option<Style>) -> Option<String> {
    if here == travelled {
        return None;
    }
    let why = match style {
        Some(Style::Json) => "-F %J writes JSON anew; record with -F %j or with tuyagw listen",
        _ => "-F %j drops what C strings cannot hold; record with tuyagw listen",
    };
    Some(format!("holds {here} of a payload's {travelled} bytes: mosquitto_sub {why}"))
}

/// The bytes of a JSON string, quotes included, whose text need not be UTF-8.
fn unescape(quoted: &[u8]) -> Option<Vec<u8>> {
    let inner = quoted.strip_prefix(b"\"")?.strip_suffix(b"\"")?;
    let mut bytes = Vec::with_capacity(inner.len());
    let mut rest = inner.iter();
    let unit = |rest: &mut std::slice::Iter<'_, u8>| {
        let digits = str::from_utf8(rest.as_slice().get(..4)?).ok()?;
        let unit = u32::from_str_radix(digits, 16).ok()?;
        rest.nth(3);
        Some(unit)
    };
    while let Some(byte) = rest.next() {
        match byte {
            b'"' => return None,
            b'\\' => match rest.next()? {
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
        let mut reader = Lines::new(&topics);
        let mut found = Vec::new();
        for line in lines {
            let flow = reader.read(line, line.ends_with(b"\n"), &mut |number, what| {
                found.push((
                    number,
                    match what {
                        Found::Message(record) => record.payload.escape_ascii().to_string(),
                        Found::Flaw(flaw) => format!("!{:?}: {}", flaw.harm, flaw.message),
                        Found::Aside(line) => format!("~{}", line.escape_ascii()),
                        other => format!("{other:?}"),
                    },
                ));
                ControlFlow::Continue(())
            });
            assert!(flow.is_continue());
        }
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
}
