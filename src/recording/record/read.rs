//! From a line to its record, however the line is written.

use std::borrow::Cow;

use serde_json::value::RawValue;

use super::{Record, RecordError, VERSION};
use crate::{
    json::{ObjectMembers, text_of},
    mqtt::Direction,
    recording::{
        decimal::whole,
        payload_base64,
        time::{LONGEST_US, time_of},
    },
    tuya::{Channel, Topics},
};

impl<'a> Record<'a> {
    /// Reads one line, with or without its newline. Returns `None` for a line that is neither a message nor a mistake: a
    /// blank one, an event, a result, a connect or disconnect.
    ///
    /// Reads lines of `mosquitto_sub -F %J` in all its versions; fields that they lack are taken from the topic. The
    /// payload is the JSON text of the line, byte by byte.
    ///
    /// # Errors
    /// The field at fault is named; a line that is no JSON object has none.
    pub fn read(line: &'a [u8], topics: &Topics) -> Result<Option<Self>, RecordError> {
        let line = line.trim_ascii();
        if line.is_empty() {
            return Ok(None);
        }
        if let Some(record) = Self::read_fast(line) {
            return Ok(Some(record.classified(topics)));
        }
        Ok(Self::read_any(line)?.map(|record| record.classified(topics)))
    }

    /// Reads a line that is not blank, and does not look at the topic.
    pub(super) fn read_any(line: &'a [u8]) -> Result<Option<Self>, RecordError> {
        if line[0] != b'{' {
            return Err(RecordError::new("", "is not a JSON object"));
        }
        let fields = RecordFields::read(line)?;
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
        // The length is not used, but a wrong number is a sign of a damaged line.
        fields.number::<u64>(FieldName::Payloadlen)?;
        let mono_us = fields.number(FieldName::MonoUs)?;
        if mono_us.is_some_and(|mono_us| mono_us > LONGEST_US) {
            return Err(RecordError::new("mono_us", "is longer than all time: 10,000 years at most"));
        }
        Ok(Some(Self {
            unix_us: fields.time()?,
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

/// The fields of the format, in the order of [`NAMES`].
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

impl<'a> RecordFields<'a> {
    fn read(line: &'a [u8]) -> Result<Self, RecordError> {
        let ObjectMembers(members) = serde_json::from_slice(line).map_err(|why| {
            RecordError::new("", if why.is_eof() { "ends in the middle".to_owned() } else { why.to_string() })
        })?;
        let mut fields = Self::default();
        for (name, value) in members {
            match NAMES.iter().position(|known| *known == name) {
                None => fields.unknown.push((name, value)),
                Some(known) if fields.known[known].is_none() => fields.known[known] = Some(value),
                Some(_) => return Err(RecordError::new("", format!("has {name} twice"))),
            }
        }
        Ok(fields)
    }

    /// The field's JSON text. Null counts as absent, except in a payload.
    fn raw(&self, name: FieldName) -> Option<&'a str> {
        self.known[name as usize].map(RawValue::get).filter(|raw| *raw != "null")
    }

    fn text(&self, name: FieldName) -> Result<Option<Cow<'a, str>>, RecordError> {
        let Some(raw) = self.raw(name) else { return Ok(None) };
        text_of(raw).map(Some).ok_or_else(|| RecordError::new(NAMES[name as usize], "must be a string"))
    }

    fn number<T: TryFrom<u64>>(&self, name: FieldName) -> Result<Option<T>, RecordError> {
        let Some(raw) = self.raw(name) else { return Ok(None) };
        let number = whole(raw).and_then(|number| T::try_from(number).ok());
        number
            .map(Some)
            .ok_or_else(|| RecordError::new(NAMES[name as usize], "must be a whole number within its range"))
    }

    fn flag(&self, name: FieldName) -> Result<bool, RecordError> {
        let Some(raw) = self.raw(name) else { return Ok(false) };
        flag(raw).ok_or_else(|| RecordError::new(NAMES[name as usize], "must be 0 or 1"))
    }

    fn time(&self) -> Result<i64, RecordError> {
        let raw = self.raw(FieldName::Tst).ok_or_else(|| RecordError::new("tst", "is missing"))?;
        time_of(raw)
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
            (None, Some(text)) => payload_base64::decode(&text)
                .map(Cow::Owned)
                .map_err(|why| RecordError::new("payload_b64", format!("is not base64: {why}"))),
        }
    }
}

/// Reads a flag's JSON text: `true` or `false`, 1 or 0.
pub(in crate::recording) fn flag(raw: &str) -> Option<bool> {
    match raw {
        "false" => Some(false),
        "true" => Some(true),
        _ => whole(raw).filter(|number| *number <= 1).map(|number| number == 1),
    }
}
