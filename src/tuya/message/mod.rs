//! Every message of the page, decoded and encoded, in types that keep the direction: a gateway cannot encode a
//! downlink. An error names the field at fault.
//!
//! Values of data points stay JSON text ([`Json`]), so that `1.10` and `12345678901234567890` travel
//! unchanged; what they mean is the product's business.

mod fast_path;

use std::{borrow::Cow, fmt};

use serde::{
    Deserialize, Deserializer,
    de::{MapAccess, Visitor},
};
use serde_json::value::RawValue;
use smol_str::SmolStr;

pub use self::fast_path::BorrowedReport;
use super::{Channel, ResultCode};
use crate::json::{Json, ObjectWriter, TooDeep, decimal, key, text_of, too_deep};

/// The JSON text of a data point's value, exactly as it travels.
pub type DataPointValue = Json;

/// What every message has around its body (page, each "Uplink parameters" and "Downlink parameters").
#[derive(Clone, Debug)]
pub struct Envelope<B> {
    /// The message's time stamp, a Unix time in seconds, or in milliseconds where the edge wants those.
    pub t: i64,
    /// What an answer repeats, so that it can be matched to its request.
    pub request_id: String,
    /// The message itself.
    pub body: B,
}

/// A message from the gateway to the edge.
#[derive(Clone, Debug)]
pub enum Uplink {
    /// Adds or updates one device (page, "Synchronize devices").
    Sync(Box<Device>),
    /// Reports one data point (page, "Report device properties").
    Report(Property),
    /// Says which devices are online (page, "Report device online and offline events").
    Status(Vec<DeviceStatus>),
    /// Answers a command (page, "Device commands").
    CommandResponse(CommandAnswer),
    /// A `param` sent as it was given, unchecked; never the result of decoding.
    AsGiven {
        /// Where it goes: one of the uplink topics.
        channel: Channel,
        /// The device that it speaks of.
        cid: String,
        /// The `param`, any JSON value.
        param: Box<RawValue>,
    },
}

/// A message from the edge to the gateway.
#[derive(Clone, Debug)]
pub enum Downlink {
    /// Answers a sync.
    SyncResponse(Answer),
    /// Answers a report.
    ReportResponse(Answer),
    /// Commands a device (page, "Send a command from the platform").
    Command(Command),
}

/// The `param` of a sync; every text may be any string, and only `cid` and `product_id` are required.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
#[allow(missing_docs, reason = "the fields are the page's own, by name")]
pub struct Device {
    pub cid: String,
    pub product_id: String,
    pub vendor_code: Option<String>,
    pub comm_type: Option<String>,
    pub device_ip: Option<String>,
    pub mac_address: Option<String>,
    pub device_name: Option<String>,
    pub device_desc: Option<String>,
    pub install_location: Option<String>,
    pub device_server_id: Option<String>,
    pub product_sub_type: Option<String>,
}

/// The `param` of a report: one data point of one device.
#[derive(Clone, Debug)]
pub struct Property {
    /// The device.
    pub cid: SmolStr,
    /// The data point's id, a decimal number as text.
    pub id: SmolStr,
    /// Its value, as JSON text.
    pub value: DataPointValue,
}

/// One element of a status report.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct DeviceStatus {
    /// The device.
    pub cid: String,
    /// Whether it is online.
    pub status: bool,
}

impl DeviceStatus {
    /// Appends it as a JSON object.
    pub fn write(&self, out: &mut Vec<u8>) {
        let mut object = ObjectWriter::new(out);
        object.text(key!(cid), &self.cid);
        object.flag(key!(status), self.status);
        object.end();
    }
}

/// What the edge answers to a sync or a report.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Answer {
    /// The device; an answer that names none is still an answer.
    pub cid: Option<SmolStr>,
    /// The result: 0 is success.
    pub code: ResultCode,
    /// The edge's message, which may say more than the code.
    pub msg: SmolStr,
}

/// A command to one device. The page sends one data point; several are understood too.
#[derive(Clone, Debug)]
pub struct Command {
    /// The device.
    pub cid: String,
    /// The data points to set, by id, in the message's order; never empty.
    pub points: Vec<(String, DataPointValue)>,
}

/// What the gateway answers to a command.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CommandAnswer {
    /// The device.
    pub cid: String,
    /// The result: 0 is success.
    pub code: ResultCode,
    /// `success`, or what went wrong.
    pub msg: String,
}

/// What is wrong with one field.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Problem {
    /// The bytes are not one JSON document; the parser's own words.
    NotJson(String),
    /// The field is not there.
    Missing,
    /// The field is there and empty.
    Empty,
    /// The field is null.
    Null,
    /// The field has another JSON type than this.
    Type(&'static str),
}

impl Problem {
    /// The page's result code for the problem ("Global error codes").
    #[must_use]
    pub fn code(&self) -> ResultCode {
        match self {
            Self::Missing | Self::Empty => ResultCode::PARAM_EMPTY,
            Self::Null => ResultCode::PARAM_NULL,
            Self::Type(_) | Self::NotJson(_) => ResultCode::PARAM_TYPE,
        }
    }
}

/// A field and what is wrong with it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct FieldError {
    /// The field's path, such as `param.cid`; empty for the whole message.
    pub field: String,
    /// What is wrong.
    pub problem: Problem,
}

impl FieldError {
    fn new(field: impl Into<String>, problem: Problem) -> Self {
        Self { field: field.into(), problem }
    }
}

impl fmt::Display for FieldError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let field = if self.field.is_empty() { "the message" } else { &self.field };
        match &self.problem {
            Problem::NotJson(why) => write!(f, "{field} is not JSON: {why}"),
            Problem::Missing => write!(f, "{field} is missing"),
            Problem::Empty => write!(f, "{field} is empty"),
            Problem::Null => write!(f, "{field} is null"),
            Problem::Type(expected) => write!(f, "{field} must be {expected}"),
        }
    }
}

impl std::error::Error for FieldError {}

/// A message that could not be decoded, with what could be read of it, so that it can still be answered.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Refused {
    /// The message's request id, if it has one.
    pub request_id: Option<String>,
    /// The device it speaks of, if it names one.
    pub cid: Option<String>,
    /// What is wrong.
    pub error: FieldError,
}

impl fmt::Display for Refused {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.error.fmt(f)
    }
}

impl std::error::Error for Refused {}

/// A field as found: absent, or JSON text that may be `null`.
#[derive(Clone, Copy, Default)]
struct Field<'a>(Option<&'a RawValue>);

impl<'de: 'a, 'a> Deserialize<'de> for Field<'a> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        <&RawValue>::deserialize(deserializer).map(|raw| Self(Some(raw)))
    }
}

impl<'a> Field<'a> {
    fn present(self, name: &str) -> Result<&'a RawValue, FieldError> {
        match self.0 {
            None => Err(FieldError::new(name, Problem::Missing)),
            Some(raw) if raw.get() == "null" => Err(FieldError::new(name, Problem::Null)),
            Some(raw) => Ok(raw),
        }
    }

    fn text(self, name: &str) -> Result<String, FieldError> {
        let raw = self.present(name)?;
        text_of(raw.get())
            .map(Cow::into_owned)
            .ok_or_else(|| FieldError::new(name, Problem::Type("a string")))
    }

    fn text_not_empty(self, name: &str) -> Result<String, FieldError> {
        let text = self.text(name)?;
        if text.is_empty() { Err(FieldError::new(name, Problem::Empty)) } else { Ok(text) }
    }

    /// An optional text: absent and null are the same.
    fn text_or_none(self, name: &str) -> Result<Option<String>, FieldError> {
        match self.0 {
            Some(raw) if raw.get() != "null" => self.text(name).map(Some),
            _ => Ok(None),
        }
    }

    fn integer(self, name: &str) -> Result<i64, FieldError> {
        let raw = self.present(name)?;
        raw.get().parse().map_err(|_| FieldError::new(name, Problem::Type("an integer")))
    }

    /// A data point's id: a string on the wire, and a number where a program was careless.
    fn id(self, name: &str) -> Result<String, FieldError> {
        let raw = self.present(name)?;
        match raw.get().parse::<u32>() {
            Ok(number) => Ok(number.to_string()),
            Err(_) => self.text_not_empty(name),
        }
    }

    /// An object's fields. serde would read a struct from an array too, by position; the protocol does not.
    fn object<T: Deserialize<'a>>(self, name: &str) -> Result<T, FieldError> {
        if self.present(name)?.get().starts_with('{') {
            self.parse(name, "an object")
        } else {
            Err(FieldError::new(name, Problem::Type("an object")))
        }
    }

    fn parse<T: Deserialize<'a>>(self, name: &str, expected: &'static str) -> Result<T, FieldError> {
        let raw = self.present(name)?;
        serde_json::from_str(raw.get()).map_err(|_| FieldError::new(name, Problem::Type(expected)))
    }
}

#[derive(Default, Deserialize)]
struct WireMessage<'a> {
    #[serde(borrow, default)]
    t: Field<'a>,
    #[serde(borrow, default)]
    cid: Field<'a>,
    #[serde(borrow, default)]
    request_id: Field<'a>,
    #[serde(borrow, default)]
    param: Field<'a>,
}

/// The fields that any `param` may have; which are required depends on the topic.
#[derive(Default, Deserialize)]
struct WireParam<'a> {
    #[serde(borrow, default)]
    cid: Field<'a>,
    #[serde(borrow, default)]
    id: Field<'a>,
    #[serde(borrow, default)]
    value: Field<'a>,
    #[serde(borrow, default)]
    status: Field<'a>,
    #[serde(borrow, default)]
    code: Field<'a>,
    #[serde(borrow, default)]
    msg: Field<'a>,
    #[serde(borrow, default)]
    dps: Field<'a>,
}

impl<'a> WireMessage<'a> {
    /// Reads the envelope, then lets `body` read the rest; an error carries what was readable.
    fn decode<B>(
        payload: &'a [u8],
        body: impl FnOnce(&Self) -> Result<B, FieldError>,
    ) -> Result<Envelope<B>, Refused> {
        if let Some(found) = too_deep(payload) {
            return Err(Self::refuse_depth(payload, found));
        }
        let wire: Self = Self::read(payload).map_err(|problem| Refused {
            request_id: None,
            cid: None,
            error: FieldError::new("", problem),
        })?;
        wire.envelope(body).map_err(|error| Refused {
            request_id: wire.request_id.text("request_id").ok(),
            cid: wire.named_cid(),
            error,
        })
    }

    /// Refuses a message that is nested too deep, without reading what is too deep or behind it: the members before it tell
    /// which message it is.
    fn refuse_depth(payload: &[u8], found: TooDeep) -> Refused {
        let before = [payload.get(..found.before).unwrap_or_default(), b"}"].concat();
        let wire: WireMessage<'_> = serde_json::from_slice(&before).unwrap_or_default();
        let member = payload.get(found.before + 1..).unwrap_or_default();
        let key = serde_json::Deserializer::from_slice(member).into_iter::<String>().next();
        let field = key.and_then(Result::ok).unwrap_or_default();
        let error = FieldError::new(field, Problem::Type("JSON of at most 100 levels"));
        Refused { request_id: wire.request_id.text("request_id").ok(), cid: wire.named_cid(), error }
    }

    fn read(payload: &'a [u8]) -> Result<Self, Problem> {
        if payload.trim_ascii_start().first() == Some(&b'{') {
            serde_json::from_slice(payload).map_err(|why| not_a_message(payload, &why))
        } else {
            Err(match serde_json::from_slice::<&RawValue>(payload) {
                Ok(_) => Problem::Type("an object"),
                Err(why) => Problem::NotJson(why.to_string()),
            })
        }
    }

    fn envelope<B>(
        &self,
        body: impl FnOnce(&Self) -> Result<B, FieldError>,
    ) -> Result<Envelope<B>, FieldError> {
        let request_id = self.request_id.text_not_empty("request_id")?;
        let t = match self.t.0 {
            None => 0,
            Some(_) => self.t.integer("t")?,
        };
        Ok(Envelope { t, request_id, body: body(self)? })
    }

    fn required_t(&self) -> Result<(), FieldError> {
        self.t.integer("t").map(drop)
    }

    fn param(&self) -> Result<WireParam<'a>, FieldError> {
        self.param.object("param")
    }

    fn named_cid(&self) -> Option<String> {
        self.cid.text("cid").ok().or_else(|| self.param().ok()?.cid.text("param.cid").ok())
    }
}

/// Whether a message of any kind speaks of one of these devices.
#[must_use]
pub fn speaks_of(payload: &[u8], cids: &[String]) -> bool {
    let Ok(wire) = WireMessage::read(payload) else { return false };
    wire.named_cid().is_some_and(|named| cids.contains(&named))
        || statuses(wire.param).is_ok_and(|statuses| statuses.iter().any(|status| cids.contains(&status.cid)))
}

fn not_a_message(payload: &[u8], why: &serde_json::Error) -> Problem {
    match serde_json::from_slice::<&RawValue>(payload) {
        Ok(_) if why.is_data() => Problem::Type("an object without duplicate fields"),
        _ => Problem::NotJson(why.to_string()),
    }
}

impl Envelope<Uplink> {
    /// Decodes what a gateway published on an uplink topic.
    ///
    /// # Errors
    /// A required field that is missing, empty, null or of another type is named.
    ///
    /// # Panics
    /// Never, given an uplink channel; downlink channels are the gateway's to decode.
    pub fn decode(channel: Channel, payload: &[u8]) -> Result<Self, Refused> {
        if channel == Channel::Report
            && let Some(report) = BorrowedReport::read(payload).and_then(BorrowedReport::to_owned)
        {
            return Ok(report);
        }
        WireMessage::decode(payload, |wire| {
            wire.required_t()?;
            match channel {
                Channel::Sync => {
                    Device::decode(wire.param.present("param")?.get()).map(Box::new).map(Uplink::Sync)
                }
                Channel::Report => property(&wire.param()?).map(Uplink::Report),
                Channel::Status => statuses(wire.param).map(Uplink::Status),
                Channel::CommandResponse => {
                    let param = wire.param()?;
                    Ok(Uplink::CommandResponse(CommandAnswer {
                        cid: wire.cid.text_not_empty("cid")?,
                        code: ResultCode(param.code.integer("param.code")?),
                        msg: param.msg.text_or_none("param.msg")?.unwrap_or_default(),
                    }))
                }
                Channel::SyncResponse | Channel::Command | Channel::ReportResponse => {
                    Err(FieldError::new("", Problem::Type("an uplink")))
                }
            }
        })
    }

    /// The topic on which this message travels.
    #[must_use]
    pub fn channel(&self) -> Channel {
        match &self.body {
            Uplink::Sync(_) => Channel::Sync,
            Uplink::Report(_) => Channel::Report,
            Uplink::Status(_) => Channel::Status,
            Uplink::CommandResponse(_) => Channel::CommandResponse,
            Uplink::AsGiven { channel, .. } => *channel,
        }
    }

    /// The message as JSON, keys in the page's order.
    #[must_use]
    pub fn encode(&self) -> Vec<u8> {
        self.body.encode(self.t, &self.request_id)
    }
}

impl Uplink {
    /// The whole message as JSON, keys in the page's order.
    #[must_use]
    pub fn encode(&self, t: i64, request_id: &str) -> Vec<u8> {
        match self {
            Uplink::Sync(device) => encode(t, request_id, None, |out| device.write(out)),
            Uplink::Report(Property { cid, id, value }) => encode(t, request_id, None, |out| {
                let mut param = ObjectWriter::new(out);
                param.text(key!(cid), cid);
                param.text(key!(id), id);
                param.json(key!(value), value.get());
                param.end();
            }),
            Uplink::Status(statuses) => encode(t, request_id, None, |out| {
                push_array(out, statuses, |out, status| status.write(out));
            }),
            Uplink::CommandResponse(CommandAnswer { cid, code, msg }) => {
                encode(t, request_id, Some(cid), |out| push_answer(out, None, msg, *code))
            }
            Uplink::AsGiven { param, .. } => {
                encode(t, request_id, None, |out| out.extend_from_slice(param.get().as_bytes()))
            }
        }
    }
}

impl Envelope<Downlink> {
    /// Decodes what arrived on a downlink topic.
    ///
    /// An answer needs its `request_id` and an integer `param.code`; a command its `request_id`, `cid` and
    /// at least one data point with a value.
    ///
    /// # Errors
    /// A required field that is missing, empty, null or of another type is named.
    pub fn decode(channel: Channel, payload: &[u8]) -> Result<Self, Refused> {
        WireMessage::decode(payload, |wire| match channel {
            Channel::SyncResponse => answer(&wire.param()?).map(Downlink::SyncResponse),
            Channel::ReportResponse => answer(&wire.param()?).map(Downlink::ReportResponse),
            Channel::Command => {
                let points = points(wire.param)?;
                Ok(Downlink::Command(Command { cid: wire.cid.text_not_empty("cid")?, points }))
            }
            Channel::Sync | Channel::CommandResponse | Channel::Report | Channel::Status => {
                Err(FieldError::new("", Problem::Type("a downlink")))
            }
        })
    }

    /// The topic on which this message travels.
    #[must_use]
    pub fn channel(&self) -> Channel {
        match &self.body {
            Downlink::SyncResponse(_) => Channel::SyncResponse,
            Downlink::ReportResponse(_) => Channel::ReportResponse,
            Downlink::Command(_) => Channel::Command,
        }
    }

    /// The message as JSON, keys in the page's order.
    #[must_use]
    pub fn encode(&self) -> Vec<u8> {
        self.body.encode(self.t, &self.request_id)
    }
}

impl Downlink {
    /// The whole message as JSON, keys in the page's order.
    #[must_use]
    pub fn encode(&self, t: i64, request_id: &str) -> Vec<u8> {
        match self {
            Downlink::SyncResponse(Answer { cid, code, msg })
            | Downlink::ReportResponse(Answer { cid, code, msg }) => {
                let mut out = Vec::with_capacity(192);
                write_answer(&mut out, t, request_id, cid.as_deref(), *code, msg);
                out
            }
            Downlink::Command(command) => command.encode(t, request_id),
        }
    }
}

impl Command {
    /// The whole message as JSON, keys in the page's order.
    #[must_use]
    pub fn encode(&self, t: i64, request_id: &str) -> Vec<u8> {
        let push_point = |out: &mut Vec<u8>, (id, value): &(String, DataPointValue)| {
            let mut point = ObjectWriter::new(out);
            point.text(key!(id), id);
            point.json(key!(value), value.get());
            point.end();
        };
        encode(t, request_id, Some(&self.cid), |out| match self.points.as_slice() {
            [point] => push_point(out, point),
            points => push_array(out, points, push_point),
        })
    }
}

impl Envelope<Answer> {
    /// Decodes an answer of any kind: to a sync, a report or a command, whose `cid` stands outside `param`.
    ///
    /// # Errors
    /// A missing `request_id` or a `param.code` that is no integer is named.
    pub fn decode(payload: &[u8]) -> Result<Self, Refused> {
        if let Some(answer) = fast_path::answer(payload) {
            return Ok(answer);
        }
        WireMessage::decode(payload, |wire| {
            let mut answer = answer(&wire.param()?)?;
            if answer.cid.is_none() {
                answer.cid = wire.cid.text("cid").ok().map(SmolStr::from);
            }
            Ok(answer)
        })
    }
}

/// A message that was encoded here, with another time stamp.
#[must_use]
pub fn with_t(encoded: &[u8], t: i64) -> Vec<u8> {
    const BEFORE: &[u8] = b"{\"t\":";
    let mut bytes = Vec::with_capacity(encoded.len() + 4);
    let after = encoded.strip_prefix(BEFORE).and_then(|rest| {
        let digits = rest.iter().take_while(|byte| byte.is_ascii_digit() || **byte == b'-').count();
        rest.get(digits..)
    });
    match after {
        Some(after) => {
            bytes.extend_from_slice(BEFORE);
            bytes.extend_from_slice(decimal(t).as_bytes());
            bytes.extend_from_slice(after);
        }
        None => bytes.extend_from_slice(encoded),
    }
    bytes
}

fn encode(t: i64, request_id: &str, cid: Option<&str>, push_param: impl FnOnce(&mut Vec<u8>)) -> Vec<u8> {
    let mut bytes = Vec::with_capacity(192);
    write(&mut bytes, t, request_id, cid, push_param);
    bytes
}

fn write(
    out: &mut Vec<u8>,
    t: i64,
    request_id: &str,
    cid: Option<&str>,
    push_param: impl FnOnce(&mut Vec<u8>),
) {
    let mut message = ObjectWriter::new(out);
    message.integer(key!(t), t);
    message.optional_text(key!(cid), cid);
    message.text(key!(request_id), request_id);
    message.value(key!(param), push_param);
    message.end();
}

/// Appends an answer to a sync or a report: the whole message, from its parts.
pub fn write_answer(
    out: &mut Vec<u8>,
    t: i64,
    request_id: &str,
    cid: Option<&str>,
    code: ResultCode,
    msg: &str,
) {
    write(out, t, request_id, None, |out| push_answer(out, cid, msg, code));
}

fn push_answer(out: &mut Vec<u8>, cid: Option<&str>, msg: &str, code: ResultCode) {
    let mut answer = ObjectWriter::new(out);
    answer.optional_text(key!(cid), cid);
    answer.text(key!(msg), msg);
    answer.integer(key!(code), code.0);
    answer.end();
}

fn push_array<T>(out: &mut Vec<u8>, elements: &[T], push: impl Fn(&mut Vec<u8>, &T)) {
    out.push(b'[');
    for (n, element) in elements.iter().enumerate() {
        if n > 0 {
            out.push(b',');
        }
        push(out, element);
    }
    out.push(b']');
}

impl Device {
    /// The names of all fields, in the page's order; the first two are required.
    pub const FIELDS: [&'static str; 11] = [
        "cid",
        "product_id",
        "vendor_code",
        "comm_type",
        "device_ip",
        "mac_address",
        "device_name",
        "device_desc",
        "install_location",
        "device_server_id",
        "product_sub_type",
    ];

    /// Its fields in the page's order, those that it has.
    pub fn fields(&self) -> impl Iterator<Item = (&'static str, &str)> {
        let required = [Some(self.cid.as_str()), Some(self.product_id.as_str())];
        let optional = [
            &self.vendor_code,
            &self.comm_type,
            &self.device_ip,
            &self.mac_address,
            &self.device_name,
            &self.device_desc,
            &self.install_location,
            &self.device_server_id,
            &self.product_sub_type,
        ];
        let values = required.into_iter().chain(optional.into_iter().map(Option::as_deref));
        Self::FIELDS.into_iter().zip(values).filter_map(|(name, value)| Some((name, value?)))
    }

    /// Appends it as a JSON object.
    pub fn write(&self, out: &mut Vec<u8>) {
        let mut object = ObjectWriter::new(out);
        for (name, value) in self.fields() {
            object.named_text(name, value);
        }
        object.end();
    }

    /// Decodes the `param` of a sync; unknown fields are passed over.
    ///
    /// # Errors
    /// A `cid` or `product_id` that is missing, empty or null, or a field that is not a string, is named.
    pub fn decode(param: &str) -> Result<Self, FieldError> {
        #[derive(Deserialize)]
        struct Wire<'a>(#[serde(borrow)] std::collections::HashMap<Cow<'a, str>, Field<'a>>);
        let not_an_object = || FieldError::new("param", Problem::Type("an object"));
        if !param.starts_with('{') {
            return Err(not_an_object());
        }
        let Wire(fields) = serde_json::from_str(param).map_err(|_| not_an_object())?;
        let field = |name: &str| fields.get(name).copied().unwrap_or_default();
        let optional = |name: &str| field(name).text_or_none(&format!("param.{name}"));
        Ok(Self {
            cid: field("cid").text_not_empty("param.cid")?,
            product_id: field("product_id").text_not_empty("param.product_id")?,
            vendor_code: optional("vendor_code")?,
            comm_type: optional("comm_type")?,
            device_ip: optional("device_ip")?,
            mac_address: optional("mac_address")?,
            device_name: optional("device_name")?,
            device_desc: optional("device_desc")?,
            install_location: optional("install_location")?,
            device_server_id: optional("device_server_id")?,
            product_sub_type: optional("product_sub_type")?,
        })
    }
}

fn property(param: &WireParam<'_>) -> Result<Property, FieldError> {
    Ok(Property {
        cid: param.cid.text_not_empty("param.cid")?.into(),
        id: param.id.id("param.id")?.into(),
        value: param.value.present("param.value")?.into(),
    })
}

/// The page types `param` as an object and shows an array; both are understood.
fn statuses(param: Field<'_>) -> Result<Vec<DeviceStatus>, FieldError> {
    let one = |place: &str, element: Field<'_>| -> Result<DeviceStatus, FieldError> {
        let wire: WireParam<'_> = element.object(place)?;
        let status = wire.status.parse(&format!("{place}.status"), "true or false")?;
        Ok(DeviceStatus { cid: wire.cid.text_not_empty(&format!("{place}.cid"))?, status })
    };
    if !param.present("param")?.get().starts_with('[') {
        return Ok(vec![one("param", param)?]);
    }
    let elements: Vec<Field<'_>> = param.parse("param", "an array of objects")?;
    if elements.is_empty() {
        return Err(FieldError::new("param", Problem::Empty));
    }
    elements.into_iter().enumerate().map(|(n, element)| one(&format!("param[{n}]"), element)).collect()
}

fn answer(param: &WireParam<'_>) -> Result<Answer, FieldError> {
    Ok(Answer {
        code: ResultCode(param.code.integer("param.code")?),
        cid: param.cid.text("param.cid").ok().map(SmolStr::from),
        msg: param.msg.text("param.msg").unwrap_or_default().into(),
    })
}

/// The page's one `id` and `value`; an array of them and `{"dps":{"1":…}}`, as the platform's own link has it,
/// are understood too.
fn points(param: Field<'_>) -> Result<Vec<(String, DataPointValue)>, FieldError> {
    let one = |place: &str, wire: &WireParam<'_>| -> Result<(String, DataPointValue), FieldError> {
        let id = wire.id.id(&format!("{place}.id"))?;
        Ok((id, wire.value.present(&format!("{place}.value"))?.into()))
    };
    let found: Vec<(String, DataPointValue)> = if param.present("param")?.get().starts_with('[') {
        let elements: Vec<Field<'_>> = param.parse("param", "an array of objects")?;
        let place = |n| format!("param[{n}]");
        let point = |(n, element): (usize, &Field<'_>)| one(&place(n), &element.object(&place(n))?);
        elements.iter().enumerate().map(point).collect::<Result<_, _>>()?
    } else {
        let wire: WireParam<'_> = param.object("param")?;
        match wire.dps.0 {
            None => vec![one("param", &wire)?],
            Some(_) => {
                wire.dps.parse::<Points>("param.dps", "an object of values by id")?.0.into_iter().collect()
            }
        }
    };
    if found.is_empty() {
        return Err(FieldError::new("param", Problem::Empty));
    }
    Ok(found)
}

/// A JSON object's entries in their own order.
struct Points(Vec<(String, DataPointValue)>);

impl<'de> Deserialize<'de> for Points {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Entries;
        impl<'de> Visitor<'de> for Entries {
            type Value = Points;
            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("an object")
            }
            fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Points, A::Error> {
                let mut entries = Vec::new();
                while let Some((id, value)) = map.next_entry::<String, &RawValue>()? {
                    entries.push((id, value.into()));
                }
                Ok(Points(entries))
            }
        }
        deserializer.deserialize_map(Entries)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn refused(channel: Channel, payload: &str) -> Refused {
        Envelope::<Uplink>::decode(channel, payload.as_bytes()).expect_err(payload)
    }

    #[test]
    fn a_report_keeps_the_value_as_it_was_written() {
        let text = r#"{"t":1,"request_id":"r","param":{"cid":"m1","id":"1","value":1.10}}"#;
        let message = Envelope::<Uplink>::decode(Channel::Report, text.as_bytes()).unwrap();
        assert_eq!(String::from_utf8(message.encode()).unwrap(), text);
    }

    #[test]
    fn a_refusal_names_the_field_and_keeps_what_an_answer_needs() {
        for (payload, field, code) in [
            (r#"{"request_id":"r","param":{"cid":"m1","id":"1","value":1}}"#, "t", 1100),
            (r#"{"t":1,"request_id":"r","param":{"cid":"m1","id":"1"}}"#, "param.value", 1100),
            (r#"{"t":1,"request_id":"r","param":{"cid":"m1","id":"1","value":null}}"#, "param.value", 1102),
            (r#"{"t":1,"request_id":"r","param":{"cid":"m1","id":true,"value":1}}"#, "param.id", 1103),
            (r#"{"t":"1","request_id":"r","param":{"cid":"m1","id":"1","value":1}}"#, "t", 1103),
            (r#"{"t":1,"request_id":"r","cid":"m1"}"#, "param", 1100),
        ] {
            let refused = refused(Channel::Report, payload);
            assert_eq!(
                (refused.error.field.as_str(), refused.error.problem.code().0),
                (field, code),
                "{payload}"
            );
            assert_eq!(refused.request_id.as_deref(), Some("r"));
            assert_eq!(refused.cid.as_deref(), Some("m1"));
        }
        assert_eq!(refused(Channel::Report, "[1,").request_id, None);
        let twice = r#"{"t":1,"t":1,"request_id":"r","param":{"cid":"m1","id":"1","value":1}}"#;
        assert!(refused(Channel::Report, twice).to_string().contains("without duplicate fields"));
        let empty = r#"{"t":1,"request_id":"r","cid":"m1","param":[]}"#;
        let command = Envelope::<Downlink>::decode(Channel::Command, empty.as_bytes()).unwrap_err();
        for refused in [refused(Channel::Status, empty), command] {
            assert_eq!((refused.error.field.as_str(), refused.error.problem.code().0), ("param", 1100));
        }
    }

    #[test]
    fn what_is_written_is_read_back() {
        let status = |cid: &str, status| DeviceStatus { cid: cid.into(), status };
        for statuses in [vec![status("m1", true)], vec![status("m1", true), status("m\"2", false)]] {
            let body = Uplink::Status(statuses.clone());
            let bytes = Envelope { t: 5, request_id: "r".to_owned(), body }.encode();
            let back = Envelope::<Uplink>::decode(Channel::Status, &bytes).unwrap();
            let Uplink::Status(found) = back.body else { panic!("{back:?}") };
            assert_eq!((back.t, back.request_id.as_str(), found), (5, "r", statuses));
        }
        let point = |id: &str, value: &str| (id.to_owned(), DataPointValue::parse(value).unwrap());
        for points in [vec![point("1", "1.10")], vec![point("1", "1"), point("9", "\"opened\"")]] {
            let bytes = Command { cid: "m1".into(), points: points.clone() }.encode(5, "r");
            let back = Envelope::<Downlink>::decode(Channel::Command, &bytes).unwrap();
            let Downlink::Command(found) = back.body else { panic!("{back:?}") };
            assert_eq!((back.t, back.request_id.as_str(), found.cid.as_str()), (5, "r", "m1"));
            assert_eq!(found.points, points);
        }
        for cid in [Some("m1".into()), None] {
            let answer = Answer { cid, code: ResultCode(2003), msg: "device not exist".into() };
            let bytes = Downlink::ReportResponse(answer.clone()).encode(5, "r");
            let back = Envelope::<Answer>::decode(&bytes).unwrap();
            assert_eq!((back.t, back.request_id.as_str(), back.body), (5, "r", answer));
        }
    }

    /// In an answer to a command it stands beside `param`; what is unusual is read with care.
    #[test]
    fn the_device_of_an_answer_is_found_within_or_beside_param() {
        for (beside, within, expected) in [
            ("", "", None),
            (r#""cid":"m1","#, "", Some("m1")),
            ("", r#""cid":"m2","#, Some("m2")),
            (r#""cid":"m1","#, r#""cid":"m2","#, Some("m2")),
        ] {
            for more in ["", r#""more":{"a":[1e5]},"#] {
                let text =
                    format!(r#"{{"t":1,{beside}{more}"request_id":"r","param":{{{within}"code":0}}}}"#);
                let answer = Envelope::<Answer>::decode(text.as_bytes()).unwrap();
                assert_eq!(answer.body.cid.as_deref(), expected, "{text}");
            }
        }
    }

    #[test]
    fn the_short_way_reads_what_the_careful_one_reads() {
        let careful_report = |payload: &[u8]| {
            WireMessage::decode(payload, |wire| {
                wire.required_t()?;
                property(&wire.param()?).map(Uplink::Report)
            })
        };
        let careful_answer = |payload: &[u8]| {
            WireMessage::decode(payload, |wire| {
                let answer = answer(&wire.param()?)?;
                Ok(Answer {
                    cid: answer.cid.or_else(|| wire.cid.text("cid").ok().map(SmolStr::from)),
                    ..answer
                })
            })
        };
        let values = [
            "1",
            "-0",
            "1.0",
            "1e3",
            "null",
            "true",
            "\"\"",
            "\"a\"",
            "\"\\u0061\\n\"",
            "[]",
            "[1]",
            "{}",
            "12345678901234567890",
        ];
        let (mut reports, mut answers) = (0, 0);
        let mut compare = |payload: &[u8]| {
            if let Some(report) = BorrowedReport::read(payload).and_then(BorrowedReport::to_owned) {
                reports += 1;
                assert_eq!(format!("{report:?}"), format!("{:?}", careful_report(payload).unwrap()));
            }
            if let Some(answer) = fast_path::answer(payload) {
                answers += 1;
                assert_eq!(format!("{answer:?}"), format!("{:?}", careful_answer(payload).unwrap()));
            }
        };
        for t in values {
            for text in values {
                for value in values {
                    for payload in [
                        format!(
                            r#"{{"t":{t},"request_id":{text},"param":{{"cid":"m1","id":"1","value":{value},"code":{t}}}}}"#
                        ),
                        format!(
                            r#"{{"t":1,"cid":{value},"request_id":"r","param":{{"cid":{text},"id":{t},"value":1,"code":0}}}}"#
                        ),
                        format!(
                            r#"{{"t":1,"request_id":"r","x":{t},"param":{{"code":{text},"msg":{value}}}}}"#
                        ),
                        format!(
                            r#"{{"t":{t},"t":1,"request_id":"r","param":{{"id":"1","id":{value},"cid":"m1","value":1,"code":0}}}}"#
                        ),
                        format!(r#"[{t},"m1",{text},{{"code":{value}}}]"#),
                        format!(
                            r#"{{"t":1,"request_id":"r","param":{{"code":{t},"status":1,"status":{value}}}}}"#
                        ),
                    ] {
                        compare(payload.as_bytes());
                    }
                }
            }
        }
        let mut random = fastrand::Rng::with_seed(7);
        for _ in 0..100_000 {
            let mut payload =
                br#"{"t":1,"cid":"m1","request_id":"r","param":{"cid":"m1","id":"1","value":12.5,"code":0,"msg":"ok"}}"#
                    .to_vec();
            for _ in 0..random.usize(..4) {
                let (at, other) = (random.usize(..payload.len()), random.usize(..payload.len()));
                match random.u8(..4) {
                    0 => payload[at] = random.u8(..),
                    1 => payload.swap(at, other),
                    2 => drop(payload.drain(at.min(other)..at.max(other).min(at.min(other) + 12))),
                    _ => payload.extend_from_within(at.min(other)..at.max(other)),
                }
            }
            compare(&payload);
        }
        let no_text = b"{\"t\":1,\"request_id\":\"r\",\"param\":{\"code\":0,\"x\":\"\xff\"}}";
        assert!(Envelope::<Answer>::decode(no_text).is_err() && careful_answer(no_text).is_err());
        assert!(reports > 10_000 && answers > 10_000, "{reports} reports and {answers} answers");
    }

    #[test]
    fn status_is_an_array_and_may_be_an_object() {
        for payload in [
            r#"{"t":1,"request_id":"r","param":[{"cid":"m1","status":true}]}"#,
            r#"{"t":1,"request_id":"r","param":{"cid":"m1","status":true}}"#,
        ] {
            let message = Envelope::<Uplink>::decode(Channel::Status, payload.as_bytes()).unwrap();
            let Uplink::Status(found) = message.body else { panic!("not a status") };
            assert_eq!(found, [DeviceStatus { cid: "m1".into(), status: true }]);
        }
        assert_eq!(
            refused(Channel::Status, r#"{"t":1,"request_id":"r","param":[{"cid":"m1","status":1}]}"#)
                .error
                .field,
            "param[0].status"
        );
    }

    #[test]
    fn a_command_may_carry_several_points() {
        for param in
            [r#"[{"id":"4","value":true},{"id":9,"value":"opened"}]"#, r#"{"dps":{"4":true,"9":"opened"}}"#]
        {
            let text = format!(r#"{{"t":1,"cid":"m1","request_id":"r","param":{param}}}"#);
            let message = Envelope::<Downlink>::decode(Channel::Command, text.as_bytes()).unwrap();
            let Downlink::Command(command) = message.body else { panic!("not a command") };
            let ids: Vec<_> = command.points.iter().map(|(id, value)| (id.as_str(), value.get())).collect();
            assert_eq!(ids, [("4", "true"), ("9", "\"opened\"")]);
        }
    }

    #[test]
    fn an_answer_needs_an_integer_code_only() {
        let decode = |param: &str| {
            let text = format!(r#"{{"request_id":"r","param":{param}}}"#);
            Envelope::<Downlink>::decode(Channel::SyncResponse, text.as_bytes())
        };
        assert!(decode(r#"{"code":0}"#).is_ok());
        assert!(decode(r#"{"code":"0"}"#).is_err());
        assert!(decode(r#"{"code":0.5}"#).is_err());
        assert!(decode(r#"{"msg":"success"}"#).is_err());
    }

    #[test]
    fn depth_and_rubbish_do_not_hurt() {
        let deep =
            format!(r#"{{"t":1,"request_id":"r","param":{}1{}}}"#, "[".repeat(20_000), "]".repeat(20_000));
        assert_eq!(refused(Channel::Report, &deep).error.field, "param");
        // What stands before it tells which message it is, and what stands behind it is not read.
        let nested = format!("{}1{}", "{\"a\":".repeat(200), "}".repeat(200));
        for (message, field, request_id) in [
            (format!(r#"{{"t":1,"request_id":"r","param":{nested}}}"#), "param", Some("r")),
            (format!(r#"{{"request_id":"r","x":[[]],"y" : {nested},"param":{{}}}}"#), "y", Some("r")),
            (format!(r#"{{"param":{nested},"request_id":"r"}}"#), "param", None),
            (nested.clone(), "a", None),
            ("[".repeat(200), "", None),
        ] {
            let found = refused(Channel::Report, &message);
            assert_eq!((&*found.error.field, found.request_id.as_deref()), (field, request_id), "{message}");
            assert_eq!(found.error.problem, Problem::Type("JSON of at most 100 levels"));
        }
        assert!(matches!(
            refused(Channel::Report, "1e999").error.problem,
            Problem::NotJson(_) | Problem::Type(_)
        ));
        assert!(Envelope::<Uplink>::decode(Channel::Sync, b"\xff").is_err());
    }
}
