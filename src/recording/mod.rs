//! One line of traffic: what `listen`, `tap` and `edge` write and `replay` reads, a superset of what
//! `mosquitto_sub -F %J` prints. A payload's bytes come back exactly as they went in.
//!
//! Pure: bytes in, bytes out; the wall clock and the recording's own clock are fields that the caller fills.
#![deny(clippy::disallowed_methods, clippy::disallowed_types)]

mod capture;
mod entry;
mod fast_path;
mod jsonl;
mod number;
mod recorder_csv;
mod rewrite;
mod timing;

pub use capture::CaptureReader;
pub use entry::{EntryVisitor, FormatDetector, Issue, IssueKind, RecordingEntry, RecordingFormat};
pub use jsonl::JsonLinesReader;
pub use recorder_csv::RecorderCsvReader;
pub use rewrite::{FreshValues, RewritableFields};
pub use timing::{RecordedTime, ReplaySchedule, ReplaySpeed, Timeline};

use std::{borrow::Cow, fmt, sync::LazyLock};

use base64::{
    Engine as _,
    alphabet::STANDARD,
    engine::{DecodePaddingMode, GeneralPurpose, GeneralPurposeConfig},
};
use jiff::Timestamp;
use serde::{Deserialize, Deserializer, de};
use serde_json::value::RawValue;

use crate::{
    json::{any_byte, is_plain, push_json, push_number, push_text, too_deep},
    mqtt::{ConnectCode, Direction, Message},
    text::is_unsafe,
    tuya::{Channel, Topics},
};

/// The version of the format that [`Record::write`] writes and the highest that [`Record::read`] reads.
pub const VERSION: u64 = 1;

/// The `event` of a line that says how many `records` are missing at its place.
pub const LEFT_OUT: &str = "left-out";

/// One message that travelled between a gateway and an edge.
#[derive(Clone, Debug)]
pub struct Record<'a> {
    /// When it was seen by the wall clock, in microseconds since 1970, UTC.
    pub unix_us: i64,
    /// The topic.
    pub topic: Cow<'a, str>,
    /// The quality of service: 0, 1 or 2.
    pub qos: u8,
    /// Whether it was a retained message.
    pub retain: bool,
    /// Whether it was sent again.
    pub dup: bool,
    /// The packet id; QoS 0 has none.
    pub mid: Option<u16>,
    /// Which way it travelled; unknown for a foreign line on a topic outside the templates.
    pub dir: Option<Direction>,
    /// The topic's channel, written as `kind`; `None` is `other`.
    pub channel: Option<Channel>,
    /// The gateway that the topic names.
    pub gateway_id: Option<Cow<'a, str>>,
    /// Microseconds since the recording began, by a clock that does not jump; foreign lines have none.
    pub mono_us: Option<u64>,
    /// The payload, exactly as it travelled.
    pub payload: Cow<'a, [u8]>,
    /// Whether the payload is known to be one JSON value that is not nested deeply, or no text at all; otherwise writing
    /// finds it out.
    pub is_json: bool,
    /// Fields that this version does not know, in their order, as JSON text.
    pub unknown: Vec<(Cow<'a, str>, &'a RawValue)>,
}

impl<'a> Record<'a> {
    /// The record of an MQTT message, of which nothing but the message is known yet.
    #[must_use]
    pub fn of(message: &'a Message, unix_us: i64, mono_us: u64) -> Self {
        Self {
            unix_us,
            topic: (&*message.topic).into(),
            qos: message.qos as u8,
            retain: message.retain,
            dup: message.dup,
            mid: message.id,
            dir: None,
            channel: None,
            gateway_id: None,
            mono_us: Some(mono_us),
            payload: message.payload.as_ref().into(),
            is_json: false,
            unknown: Vec::new(),
        }
    }

    /// Fills in what the topic says and the record does not: channel, gateway id and direction.
    ///
    /// Where one topic serves several channels, the first that the payload decodes as is taken.
    #[must_use]
    pub fn classified(mut self, topics: &Topics) -> Self {
        if self.channel.is_some() && self.gateway_id.is_some() && self.dir.is_some() {
            return self;
        }
        let Some((channel, id)) = topics.classify(&self.topic, &self.payload) else { return self };
        if self.gateway_id.is_none() {
            // The id lies at the same place in a borrowed topic, which outlives this function.
            self.gateway_id = Some(match &self.topic {
                Cow::Borrowed(topic) => match topic.find(id) {
                    Some(at) => Cow::Borrowed(&topic[at..at + id.len()]),
                    None => Cow::Owned(id.to_owned()),
                },
                Cow::Owned(_) => Cow::Owned(id.to_owned()),
            });
        }
        self.channel = self.channel.or(channel);
        self.dir = self.dir.or(self.channel.map(Channel::direction));
        self
    }

    /// Appends the record as one line, ended by a newline and free of control characters.
    pub fn write(&self, line: &mut Vec<u8>) {
        self.write_stamped(line, &mut Stamp::default());
    }

    /// As [`Record::write`], for one record after another; `stamp` goes from each to the next.
    pub fn write_stamped(&self, line: &mut Vec<u8>, stamp: &mut Stamp) {
        line.reserve(self.payload.len() + self.topic.len() + 256);
        line.extend_from_slice(stamp.at(self.unix_us));
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
        match self.channel {
            Some(channel) if self.dir == Some(channel.direction()) => {
                line.extend_from_slice(&MARKS[channel as usize]);
            }
            channel => push_marks(line, channel, self.dir),
        }
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
        if stands_as_json(&self.payload, self.is_json) {
            line.extend_from_slice(b",\"payload\":");
            line.extend_from_slice(&self.payload);
            line.extend_from_slice(b"}\n");
        } else {
            line.extend_from_slice(b",\"payload_b64\":\"");
            push_base64(line, &self.payload);
            line.extend_from_slice(b"\"}\n");
        }
    }

    /// Reads one line, with or without its newline; `None` is a line that is no message and no mistake: a blank
    /// one, an event, a result, a connect or disconnect.
    ///
    /// Lines of `mosquitto_sub -F %J` are understood in all its versions; what they do not say is taken from
    /// the topic. The payload is the JSON text of the line, byte by byte.
    ///
    /// # Errors
    /// The field at fault is named; a line that is no JSON object has none.
    pub fn read(line: &'a [u8], topics: &Topics) -> Result<Option<Self>, RecordError> {
        let line = line.trim_ascii();
        if line.is_empty() {
            return Ok(None);
        }
        if let Some(record) = Self::usual(line) {
            return Ok(Some(record.classified(topics)));
        }
        Ok(Self::careful(line)?.map(|record| record.classified(topics)))
    }

    /// Reads a line that is not blank, however it is written.
    fn careful(line: &'a [u8]) -> Result<Option<Self>, RecordError> {
        if line[0] != b'{' {
            return Err(RecordError::new("", "is not a JSON object"));
        }
        let fields: RecordFields<'_> = serde_json::from_slice(line).map_err(|why| {
            RecordError::new("", if why.is_eof() { "ends in the middle".to_owned() } else { why.to_string() })
        })?;
        let Some(topic) = fields.text(FieldName::Topic)? else {
            let is_other_line = fields.unknown.iter().any(|(name, _)| matches!(&**name, "event" | "op"))
                || fields
                    .text(FieldName::Kind)?
                    .is_some_and(|kind| matches!(&*kind, "connect" | "disconnect"));
            return if is_other_line { Ok(None) } else { Err(RecordError::new("topic", "is missing")) };
        };
        if fields.number::<u64>(FieldName::V)?.is_some_and(|version| version > VERSION) {
            return Err(RecordError::new("v", "is of a later version of tuyagw"));
        }
        let channel = fields
            .text(FieldName::Kind)?
            .and_then(|kind| Channel::ALL.into_iter().find(|c| c.kind() == kind));
        let dir = match fields.text(FieldName::Dir)?.as_deref() {
            None => None,
            Some("up") => Some(Direction::Up),
            Some("down") => Some(Direction::Down),
            Some(_) => return Err(RecordError::new("dir", "must be up or down")),
        };
        // Every number of the line is checked, those that nothing is read from too: a wrong one is a damaged line.
        fields.number::<u64>(FieldName::Payloadlen)?;
        let mono_us = fields.number(FieldName::MonoUs)?;
        if mono_us.is_some_and(|mono_us| mono_us > number::LONGEST_US) {
            return Err(RecordError::new("mono_us", "is longer than all time: 10,000 years at most"));
        }
        Ok(Some(Self {
            unix_us: fields.moment()?,
            topic,
            qos: match fields.number(FieldName::Qos)?.unwrap_or_default() {
                qos @ 0..=2 => qos,
                _ => return Err(RecordError::new("qos", "must be 0, 1 or 2")),
            },
            retain: fields.flag(FieldName::Retain)?,
            dup: fields.flag(FieldName::Dup)?,
            mid: fields.number(FieldName::Mid)?,
            dir,
            channel,
            gateway_id: fields.text(FieldName::GatewayId)?,
            mono_us,
            payload: fields.payload()?,
            is_json: false,
            unknown: fields.unknown,
        }))
    }
}

/// How a record begins: with the version and its time, which most often is that of the record before.
#[derive(Clone, Copy, Debug)]
pub struct Stamp {
    unix_us: i64,
    text: [u8; 42],
}

impl Default for Stamp {
    fn default() -> Self {
        Self { unix_us: 0, text: *b"{\"v\":1,\"tst\":\"1970-01-01T00:00:00.000000Z\"" }
    }
}

impl Stamp {
    fn at(&mut self, unix_us: i64) -> &[u8; 42] {
        if self.unix_us != unix_us {
            self.unix_us = unix_us;
            self.text[14..41].copy_from_slice(&moment_text(unix_us));
        }
        &self.text
    }
}

/// A client that came or went, as `tap` and `edge` record it; readers of messages pass over these lines.
#[derive(Clone, Debug)]
pub struct ConnectionRecord<'a> {
    /// When it was seen by the wall clock, in microseconds since 1970, UTC.
    pub unix_us: i64,
    /// From whom it came: `Up` from the client.
    pub dir: Direction,
    /// Whether the client came; otherwise it went.
    pub connected: bool,
    /// The gateway, where the client is one.
    pub gateway_id: Option<&'a str>,
    /// Microseconds since the recording began.
    pub mono_us: u64,
    /// The client id.
    pub client_id: &'a str,
    /// The username, where one was given; a password is never recorded.
    pub username: Option<&'a str>,
    /// What the broker answered.
    pub code: Option<ConnectCode>,
}

impl ConnectionRecord<'_> {
    /// Appends the record as one line, ended by a newline and free of control characters.
    pub fn write(&self, line: &mut Vec<u8>) {
        line.extend_from_slice(Stamp::default().at(self.unix_us));
        push_field(line, b",\"dir\":", self.dir.name());
        push_field(line, b",\"kind\":", if self.connected { "connect" } else { "disconnect" });
        if let Some(id) = self.gateway_id {
            push_field(line, b",\"gateway_id\":", id);
        }
        line.extend_from_slice(b",\"mono_us\":");
        push_number(line, self.mono_us);
        push_field(line, b",\"client_id\":", self.client_id);
        if let Some(name) = self.username {
            push_field(line, b",\"username\":", name);
        }
        if let Some(code) = self.code {
            line.extend_from_slice(b",\"code\":");
            push_number(line, code.0.into());
        }
        line.extend_from_slice(b"}\n");
    }
}

/// Why a line is not a record.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RecordError {
    /// The field at fault; empty for the whole line.
    pub field: &'static str,
    /// What is wrong with it, as the rest of a sentence that begins with the field.
    pub message: String,
}

impl RecordError {
    fn new(field: &'static str, message: impl Into<String>) -> Self {
        Self { field, message: message.into() }
    }
}

impl fmt::Display for RecordError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let field = if self.field.is_empty() { "the line" } else { self.field };
        write!(f, "{field} {}", self.message)
    }
}

impl std::error::Error for RecordError {}

/// Writes the usual padding and reads with or without it.
const BASE64: GeneralPurpose = GeneralPurpose::new(
    &STANDARD,
    GeneralPurposeConfig::new().with_decode_padding_mode(DecodePaddingMode::Indifferent),
);

/// Whether a payload can stand in the line as it is: one JSON value with nothing around it, not too deep, and
/// without characters that a terminal would obey.
fn stands_as_json(payload: &[u8], is_json: bool) -> bool {
    let is_visible_ascii = !any_byte(payload, |byte| !(b' '..=b'~').contains(&byte));
    let is_visible = is_visible_ascii || str::from_utf8(payload).is_ok_and(|text| !text.contains(is_unsafe));
    // Spaces around the value would be lost on every reader of JSON.
    is_visible
        && !matches!(payload, [b' ', ..] | [.., b' '])
        && (is_json
            || is_plain(payload)
            || too_deep(payload).is_none() && serde_json::from_slice::<de::IgnoredAny>(payload).is_ok())
}

/// The microseconds since 1970 of a time as JSON text: epoch seconds, or RFC 3339 in a string. mosquitto 1.6 prints
/// bare epoch seconds, 2.0.0 to 2.0.12 local time with a `Z` too many before the offset, later versions an offset
/// without a colon. A time beyond the years 0 to 9999 is refused.
fn unix_us(raw: &str) -> Option<i64> {
    if !raw.starts_with('"') {
        return number::epoch_us(raw);
    }
    let Text(text) = serde_json::from_str(raw).ok()?;
    let moment: Result<Timestamp, _> = match text.find("Z+").or_else(|| text.find("Z-")) {
        Some(z) => format!("{}{}", &text[..z], &text[z + 1..]).parse(),
        None => text.parse(),
    };
    match moment {
        Ok(moment) => Some(moment.as_microsecond()).filter(|us| number::CALENDAR.contains(us)),
        // Templates of `mosquitto_sub -F` put epoch seconds between quotes.
        Err(_) => number::epoch_us(&text),
    }
}

/// A time as records show it: RFC 3339, UTC, microseconds.
#[must_use]
pub fn moment(unix_us: i64) -> String {
    String::from_utf8_lossy(&moment_text(unix_us)).into_owned()
}

/// Appends a payload in base64, without a copy beside the line: a payload may be large.
fn push_base64(line: &mut Vec<u8>, payload: &[u8]) {
    let start = line.len();
    line.resize(start + payload.len().div_ceil(3) * 4, 0);
    let written = BASE64.encode_slice(payload, &mut line[start..]).unwrap_or_default();
    line.truncate(start + written);
}

/// A payload as `payload_b64` shows it.
#[must_use]
pub fn base64(payload: &[u8]) -> String {
    BASE64.encode(payload)
}

/// The fields of nearly all records that say which way a message travelled and what it is, by channel.
static MARKS: LazyLock<[Vec<u8>; 7]> = LazyLock::new(|| {
    Channel::ALL.map(|channel| {
        let mut marks = Vec::new();
        push_marks(&mut marks, Some(channel), Some(channel.direction()));
        marks
    })
});

fn push_marks(line: &mut Vec<u8>, channel: Option<Channel>, dir: Option<Direction>) {
    if let Some(dir) = dir {
        push_field(line, b",\"dir\":", dir.name());
    }
    push_field(line, b",\"kind\":", channel.map_or("other", Channel::kind));
}

/// RFC 3339, UTC, microseconds. By hand, because a general formatter takes longer than the rest of the line.
fn moment_text(unix_us: i64) -> [u8; 27] {
    const DAY: i64 = 86_400_000_000;
    // A clock beyond the years 0 to 9999 is a broken clock; the line stays readable.
    let unix_us = unix_us.clamp(*number::CALENDAR.start(), *number::CALENDAR.end());
    let (days, us) = (unix_us.div_euclid(DAY), unix_us.rem_euclid(DAY));
    // The proleptic Gregorian calendar, in years that begin in March, so that the leap day comes last.
    let since_march_0000 = days + 719_468;
    let (era, day) = (since_march_0000.div_euclid(146_097), since_march_0000.rem_euclid(146_097));
    let year = (day - day / 1_460 + day / 36_524 - day / 146_096) / 365;
    let day = day - (365 * year + year / 4 - year / 100);
    let month = (5 * day + 2) / 153;
    let day = day - (153 * month + 2) / 5 + 1;
    let (year, month) = (era * 400 + year + month / 10, (month + 2) % 12 + 1);
    let mut text = *b"0000-00-00T00:00:00.000000Z";
    let seconds = us / 1_000_000;
    put_digits(&mut text[..4], year);
    put_digits(&mut text[5..7], month);
    put_digits(&mut text[8..10], day);
    put_digits(&mut text[11..13], seconds / 3_600);
    put_digits(&mut text[14..16], seconds / 60 % 60);
    put_digits(&mut text[17..19], seconds % 60);
    put_digits(&mut text[20..26], us % 1_000_000);
    text
}

/// Writes a number with leading zeros, two digits at a time.
fn put_digits(text: &mut [u8], number: i64) {
    let mut number = u32::try_from(number).unwrap_or_default();
    for pair in text.as_rchunks_mut::<2>().1.iter_mut().rev() {
        let low = u8::try_from(number % 100).unwrap_or_default();
        number /= 100;
        *pair = [b'0' + low / 10, b'0' + low % 10];
    }
}

fn push_field(line: &mut Vec<u8>, name: &[u8], text: &str) {
    line.extend_from_slice(name);
    push_text(line, text);
}

/// The fields of the format; the order is [`NAMES`]'s.
#[derive(Clone, Copy)]
enum FieldName {
    V,
    Tst,
    Topic,
    Qos,
    Retain,
    Dup,
    Payloadlen,
    Mid,
    Dir,
    Kind,
    GatewayId,
    MonoUs,
    Payload,
    PayloadB64,
}

const NAMES: [&str; 14] = [
    "v",
    "tst",
    "topic",
    "qos",
    "retain",
    "dup",
    "payloadlen",
    "mid",
    "dir",
    "kind",
    "gateway_id",
    "mono_us",
    "payload",
    "payload_b64",
];

/// A line's fields: those of the format by name, the others in their order.
#[derive(Default)]
struct RecordFields<'a> {
    known: [Option<&'a RawValue>; NAMES.len()],
    unknown: Vec<(Cow<'a, str>, &'a RawValue)>,
}

/// What a flag's JSON text says.
fn flag(raw: &str) -> Option<bool> {
    match raw {
        "false" => Some(false),
        "true" => Some(true),
        _ => number::whole(raw).filter(|number| *number <= 1).map(|number| number == 1),
    }
}

#[derive(Deserialize)]
struct Text<'a>(#[serde(borrow)] Cow<'a, str>);

impl<'a> RecordFields<'a> {
    /// The field's JSON text; null is as good as absent, except in a payload.
    fn raw(&self, name: FieldName) -> Option<&'a str> {
        self.known[name as usize].map(RawValue::get).filter(|raw| *raw != "null")
    }

    fn text(&self, name: FieldName) -> Result<Option<Cow<'a, str>>, RecordError> {
        let Some(raw) = self.raw(name) else { return Ok(None) };
        if let Some(plain) = raw.strip_prefix('"').and_then(|raw| raw.strip_suffix('"'))
            && !plain.contains('\\')
        {
            return Ok(Some(Cow::Borrowed(plain)));
        }
        match serde_json::from_str::<Text<'a>>(raw) {
            Ok(Text(text)) => Ok(Some(text)),
            Err(_) => Err(RecordError::new(NAMES[name as usize], "must be a string")),
        }
    }

    fn number<T: TryFrom<u64>>(&self, name: FieldName) -> Result<Option<T>, RecordError> {
        let Some(raw) = self.raw(name) else { return Ok(None) };
        let number = number::whole(raw).and_then(|number| T::try_from(number).ok());
        number
            .map(Some)
            .ok_or_else(|| RecordError::new(NAMES[name as usize], "must be a whole number within its range"))
    }

    fn flag(&self, name: FieldName) -> Result<bool, RecordError> {
        let Some(raw) = self.raw(name) else { return Ok(false) };
        flag(raw).ok_or_else(|| RecordError::new(NAMES[name as usize], "must be 0 or 1"))
    }

    fn moment(&self) -> Result<i64, RecordError> {
        let raw = self.raw(FieldName::Tst).ok_or_else(|| RecordError::new("tst", "is missing"))?;
        unix_us(raw)
            .ok_or_else(|| RecordError::new("tst", "must be a time such as 2026-11-22T07:22:00.123456Z"))
    }

    fn payload(&self) -> Result<Cow<'a, [u8]>, RecordError> {
        let given = self.known[FieldName::Payload as usize].map(RawValue::get);
        match (given, self.text(FieldName::PayloadB64)?) {
            (Some(_), Some(_)) => Err(RecordError::new("payload_b64", "stands beside a payload")),
            (None, None) => Err(RecordError::new("payload", "is missing")),
            // mosquitto_sub prints null for both an empty payload and the JSON value null.
            (Some("null"), None) if self.number(FieldName::Payloadlen)? == Some(0_u64) => {
                Ok(Cow::Borrowed(b""))
            }
            (Some(json), None) => Ok(Cow::Borrowed(json.as_bytes())),
            (None, Some(text)) => BASE64
                .decode(text.as_bytes())
                .map(Cow::Owned)
                .map_err(|why| RecordError::new("payload_b64", format!("is not base64: {why}"))),
        }
    }
}

impl<'de: 'a, 'a> Deserialize<'de> for RecordFields<'a> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Line;
        impl<'de> de::Visitor<'de> for Line {
            type Value = RecordFields<'de>;
            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a JSON object")
            }
            fn visit_map<A: de::MapAccess<'de>>(self, mut map: A) -> Result<RecordFields<'de>, A::Error> {
                let mut fields = RecordFields::default();
                while let Some((Text(name), value)) = map.next_entry::<Text<'de>, &'de RawValue>()? {
                    match NAMES.iter().position(|known| *known == name) {
                        None => fields.unknown.push((name, value)),
                        Some(known) if fields.known[known].is_none() => fields.known[known] = Some(value),
                        Some(_) => return Err(de::Error::custom(format!("has {name} twice"))),
                    }
                }
                Ok(fields)
            }
        }
        deserializer.deserialize_map(Line)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn record<'a>(topic: &'a str, payload: &'a [u8]) -> Record<'a> {
        Record {
            unix_us: 1_795_332_120_123_456,
            topic: topic.into(),
            qos: 1,
            retain: false,
            dup: false,
            mid: Some(7),
            dir: Some(Direction::Down),
            channel: None,
            gateway_id: None,
            mono_us: Some(123_456),
            payload: payload.into(),
            is_json: false,
            unknown: Vec::new(),
        }
        .classified(&Topics::default())
    }

    fn written(record: &Record<'_>) -> String {
        let mut line = Vec::new();
        record.write(&mut line);
        String::from_utf8(line).unwrap()
    }

    fn read(line: &str) -> Record<'_> {
        Record::read(line.as_bytes(), &Topics::default()).expect(line).expect(line)
    }

    #[test]
    fn the_line_is_the_contract_s() {
        let topic = "gateway_id/gw1/commands";
        assert_eq!(
            written(&record(topic, br#"{"t":1}"#)),
            "{\"v\":1,\"tst\":\"2026-11-22T07:22:00.123456Z\",\"topic\":\"gateway_id/gw1/commands\",\"qos\":1,\
             \"retain\":0,\"payloadlen\":7,\"mid\":7,\"dir\":\"down\",\"kind\":\"command\",\"gateway_id\":\"gw1\",\
             \"mono_us\":123456,\"payload\":{\"t\":1}}\n"
        );
        for channel in Channel::ALL {
            for dir in [Direction::Up, Direction::Down] {
                let marked =
                    Record { channel: Some(channel), dir: Some(dir), ..record("gateway_id/gw1/x", b"") };
                let marks = format!(",\"dir\":\"{}\",\"kind\":\"{}\",", dir.name(), channel.kind());
                assert!(written(&marked).contains(&marks), "{channel:?} {dir:?}");
            }
        }
        let (mut line, mut stamp) = (Vec::new(), Stamp::default());
        for unix_us in [0, 1_795_332_120_123_456, 1_795_332_120_123_456, 0] {
            let stamped = Record { unix_us, ..record("a/b", b"") };
            line.clear();
            stamped.write_stamped(&mut line, &mut stamp);
            assert_eq!(str::from_utf8(&line).unwrap(), written(&stamped));
        }
        let plain = Record { qos: 0, mid: None, dup: true, retain: true, unix_us: 0, ..record("a/b", b"") };
        assert_eq!(
            written(&plain),
            "{\"v\":1,\"tst\":\"1970-01-01T00:00:00.000000Z\",\"topic\":\"a/b\",\"qos\":0,\"retain\":1,\"dup\":1,\
             \"payloadlen\":0,\"dir\":\"down\",\"kind\":\"other\",\"mono_us\":123456,\"payload_b64\":\"\"}\n"
        );
    }

    #[test]
    fn the_calendar_agrees_with_jiff_s() {
        let day = 86_400_000_000_i64;
        // Every 97th day and an odd time of it, over all years that the format can show.
        for n in (-719_528..2_932_896_i64).step_by(97) {
            let unix_us = n * day + n.rem_euclid(day / 1_000_003) * 1_000_003;
            let expected = format!("{:.6}", Timestamp::from_microsecond(unix_us).unwrap());
            assert_eq!(moment(unix_us), expected, "{unix_us}");
        }
        for (unix_us, expected) in
            [(i64::MAX, "9999-12-31T23:59:59.999999Z"), (i64::MIN, "0000-01-01T00:00:00.000000Z")]
        {
            assert_eq!(moment(unix_us), expected);
        }
        for number in [0, 9, 10, 65_535, u64::MAX] {
            let mut text = Vec::new();
            push_number(&mut text, number);
            assert_eq!(str::from_utf8(&text).unwrap(), number.to_string());
        }
    }

    #[test]
    fn every_payload_comes_back_byte_by_byte() {
        let nested = |depth: usize| "[".repeat(depth) + &"]".repeat(depth);
        let (deep, too_deep, brackets) = (nested(100), nested(101), format!("[{}1]", "[],".repeat(300)));
        // As deep, with brackets beside.
        let (as_deep, deeper) = (format!("[[],{}]", nested(99)), format!("[[],{}]", nested(100)));
        let in_string = format!("[\"{}\\\"\"]", "[".repeat(300));
        let every_byte: Vec<u8> = (0..=255).collect();
        let corpus: &[(&[u8], bool)] = &[
            (b"1.10", true),
            (b"12345678901234567890", true),
            (b"1e999", true),
            (b"-0", true),
            (b"null", true),
            (b"\"null\"", true),
            (br#"{"a":"\u0000 \ud800 \/"}"#, true),
            (b"{ \"a\" : [ 1 , 2 ] }", true),
            (br#"{"a":1,"a":2}"#, true),
            (b"{\n  \"a\": 1\n}", false),
            (b"{\t\"a\":1}", false),
            (b" 1", false),
            (b"1 ", false),
            (b" ", false),
            (b"", false),
            (b"Hello World", false),
            (b"1 2", false),
            (b"{\"a\":1", false),
            (b"\xff\x00\xff", false),
            (b"\"caf\xe9\"", false),
            (&every_byte, false),
            (b"\x1b[2J", false),
            (b"\"\x1b\"", false),
            (b"\"\x7f\"", false),
            ("\"\u{9b}31m\"".as_bytes(), false),
            ("\"\u{80}\"".as_bytes(), false),
            ("\"\u{a0}网关\u{1f4a7}\"".as_bytes(), true),
            ("\"\u{202e}\"".as_bytes(), false),
            ("\"\u{2066}\"".as_bytes(), false),
            ("\"\u{61c}\"".as_bytes(), false),
            ("\"\u{200f}\"".as_bytes(), false),
            ("\"\u{2028}\u{2029}\u{feff}\"".as_bytes(), true),
            ("\u{feff}1".as_bytes(), false),
            (deep.as_bytes(), true),
            (too_deep.as_bytes(), false),
            (as_deep.as_bytes(), true),
            (deeper.as_bytes(), false),
            (brackets.as_bytes(), true),
            (in_string.as_bytes(), true),
        ];
        for (payload, as_json) in corpus {
            let line = written(&record("gateway_id/gw1/commands", payload));
            let shown = String::from_utf8_lossy(payload);
            let body = line.strip_suffix('\n').unwrap();
            assert!(!body.contains(is_unsafe), "{shown:?}: {line:?}");
            assert_eq!(line.contains("\"payload\":"), *as_json, "{shown:?}: {line}");
            let back = read(&line);
            assert_eq!(back.payload, *payload, "{shown:?}");
            assert_eq!(written(&back), line);
        }
    }

    #[test]
    fn topics_and_unknown_fields_are_written_without_control_characters() {
        let line = written(&record("a\"\\\u{1b}\u{202e}/é", b"1"));
        assert!(!line.trim_end().contains(is_unsafe), "{line:?}");
        assert_eq!(read(&line).topic, "a\"\\\u{1b}\u{202e}/é");
        let line = "{\"tst\":0,\"topic\":\"x\",\"a\u{202e}\":{\t\"b\":\"\u{9b}\"},\"payload\":1}";
        assert!(written(&read(line)).contains(r#","a\u202e":{ "b":"\u009b"},"payload":1}"#));
    }

    #[test]
    fn mosquitto_s_lines_are_read() {
        for (tst, unix_us) in [
            ("\"2026-11-22T07:22:00.123456Z+0000\"", 1_795_332_120_123_456),
            ("\"2026-11-22T08:22:00.123456+0100\"", 1_795_332_120_123_456),
            ("\"2026-11-22T02:22:00.123456Z-0500\"", 1_795_332_120_123_456),
            ("\"2026-11-22T07:22:00Z\"", 1_795_332_120_000_000),
            ("1795332120", 1_795_332_120_000_000),
            ("1795332120.25", 1_795_332_120_250_000),
        ] {
            let line = format!(
                "{{\"tst\":{tst},\"topic\":\"gateway_id/gw1/properties/report\",\"qos\":1,\"retain\":true,\
                 \"payloadlen\":23,\"mid\":1,\"properties\":{{\"a\":1}},\"payload\":{{\"a\":1.1}}}}"
            );
            let found = read(&line);
            assert_eq!((found.unix_us, found.retain, found.mid), (unix_us, true, Some(1)), "{tst}");
            assert_eq!((found.dir, found.channel), (Some(Direction::Up), Some(Channel::Report)));
            assert_eq!((found.gateway_id.as_deref(), found.mono_us), (Some("gw1"), None));
            assert_eq!(&*found.payload, br#"{"a":1.1}"#);
            assert_eq!((&*found.unknown[0].0, found.unknown[0].1.get()), ("properties", "{\"a\":1}"));
        }
        for (length, payload) in [(0, &b""[..]), (4, b"null")] {
            let line = format!("{{\"tst\":1,\"topic\":\"x\",\"payloadlen\":{length},\"payload\":null}}\r\n");
            assert_eq!(&*read(&line).payload, payload);
        }
    }

    #[test]
    fn other_lines_are_passed_over_and_broken_ones_named() {
        let mut connect = Vec::new();
        let client = ConnectionRecord {
            unix_us: 0,
            dir: Direction::Up,
            connected: true,
            gateway_id: Some("gw1"),
            mono_us: 5,
            client_id: "gw1",
            username: Some("ac\"me"),
            code: Some(ConnectCode::ACCEPTED),
        };
        client.write(&mut connect);
        assert_eq!(
            str::from_utf8(&connect).unwrap(),
            "{\"v\":1,\"tst\":\"1970-01-01T00:00:00.000000Z\",\"dir\":\"up\",\"kind\":\"connect\",\
             \"gateway_id\":\"gw1\",\"mono_us\":5,\"client_id\":\"gw1\",\"username\":\"ac\\\"me\",\"code\":0}\n"
        );
        let topics = Topics::default();
        for line in
            ["", "\n", r#"{"event":"listening"}"#, r#"{"op":"report"}"#, str::from_utf8(&connect).unwrap()]
        {
            assert!(Record::read(line.as_bytes(), &topics).unwrap().is_none(), "{line}");
        }
        for (line, field) in [
            ("[1]", ""),
            ("{\"tst\":1,\"topic\":\"x\",\"payl", ""),
            ("{\"tst\":1,\"topic\":\"x\",\"topic\":\"y\",\"payload\":1}", ""),
            ("{}", "topic"),
            (r#"{"topic":1}"#, "topic"),
            (r#"{"topic":"x","payload":1}"#, "tst"),
            (r#"{"tst":"now","topic":"x","payload":1}"#, "tst"),
            (r#"{"tst":1e300,"topic":"x","payload":1}"#, "tst"),
            (r#"{"tst":99999999999999999,"topic":"x","payload":1}"#, "tst"),
            (r#"{"tst":1,"topic":"x"}"#, "payload"),
            (r#"{"tst":1,"topic":"x","payload":1,"payload_b64":""}"#, "payload_b64"),
            (r#"{"tst":1,"topic":"x","payload_b64":"*"}"#, "payload_b64"),
            (r#"{"tst":1,"topic":"x","qos":3,"payload":1}"#, "qos"),
            (r#"{"tst":1,"topic":"x","mid":65536,"payload":1}"#, "mid"),
            (r#"{"tst":1,"topic":"x","dir":"left","payload":1}"#, "dir"),
            (r#"{"tst":1,"topic":"x","mono_us":-1,"payload":1}"#, "mono_us"),
            (r#"{"v":2,"tst":1,"topic":"x","payload":1}"#, "v"),
        ] {
            assert_eq!(Record::read(line.as_bytes(), &topics).expect_err(line).field, field, "{line}");
        }
    }

    #[test]
    fn a_shared_topic_is_told_apart_by_the_payload() {
        let mut topics = Topics::default();
        for channel in [Channel::SyncResponse, Channel::Command, Channel::ReportResponse] {
            topics.set(channel, "gateway/in/{gateway_id}").unwrap();
        }
        for (payload, kind) in [
            (r#"{"t":1,"cid":"m1","request_id":"r","param":{"id":"4","value":true}}"#, "command"),
            (r#"{"t":1,"request_id":"r","param":{"cid":"m1","msg":"success","code":0}}"#, "sync.response"),
            ("Hello World", "other"),
        ] {
            let found =
                Record { channel: None, gateway_id: None, ..record("gateway/in/gw1", payload.as_bytes()) }
                    .classified(&topics);
            assert_eq!(found.channel.map_or("other", Channel::kind), kind);
            assert_eq!(found.gateway_id.as_deref(), Some("gw1"));
        }
    }
}
