//! From an input value to the messages it asks for: the input table of `sync`, `report`, `status` and `command`.

use std::{borrow::Cow, collections::HashSet, hash::Hash, ops::Range, sync::Arc};

use md5::{Digest as _, Md5};
use serde::Deserialize;
use serde_json::{Map, Value, value::RawValue};
use smol_str::SmolStr;

use super::identifier;
use crate::{
    gateway::Payload,
    json::{Json, decimal, members, text_of},
    request::input::{InputContent, InputValue},
    tuya::{
        Channel, Command, DataPointValue, Device, DeviceStatus, GatewayId, Property, Uplink,
        product::{Product, ValueEncoding, ValueError},
    },
};

/// What an input line asks for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum RequestKind {
    /// Synchronise a device.
    Sync,
    /// Report data points.
    Report,
    /// Say whether a device is online.
    Status,
    /// Command a device, from the platform's side.
    Command,
}

impl RequestKind {
    /// The word that input and result lines carry as `op`.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Sync => "sync",
            Self::Report => "report",
            Self::Status => "status",
            Self::Command => "command",
        }
    }

    /// The topic on which the messages go.
    #[must_use]
    pub fn channel(self) -> Channel {
        match self {
            Self::Sync => Channel::Sync,
            Self::Report => Channel::Report,
            Self::Status => Channel::Status,
            Self::Command => Channel::Command,
        }
    }
}

/// What one value of the input asks for: a message, or why there is none; one with `properties` asks several times.
#[derive(Debug)]
pub struct ParsedInput {
    /// What it asks to be done.
    pub operation: RequestKind,
    /// The line on which the value begins, from 1; `None` for a request from flags.
    pub line: Option<u64>,
    /// The value's JSON text; of a former run's result line its `input`.
    pub text: Arc<str>,
    /// How many bytes the value takes in its file, nearly; of several messages the first tells it.
    pub size: u64,
    /// The message, or what is wrong.
    pub item: Result<Request, InputError>,
}

/// One message that an input asks for.
#[derive(Debug)]
pub struct Request {
    /// What it does.
    pub operation: RequestKind,
    /// The gateway, where the input names one.
    pub gateway_id: Option<GatewayId>,
    /// The time stamp that the input gives.
    pub t: Option<i64>,
    /// The request id that a whole message brought along.
    pub request_id: Option<Arc<str>>,
    /// Which part of its input it is, where that asks several times.
    pub part: Option<Arc<InputPart>>,
    /// The message.
    pub body: Payload,
}

impl Request {
    /// A message about which nothing else is known.
    #[must_use]
    pub fn new(operation: RequestKind, body: Payload) -> Self {
        Self { operation, gateway_id: None, t: None, request_id: None, part: None, body }
    }

    /// How many result lines it ends as.
    #[must_use]
    pub fn lines(&self) -> u64 {
        match &self.body {
            Payload::Uplink(uplink) => match uplink {
                Uplink::Status(statuses) => statuses.len() as u64,
                Uplink::Sync(_) | Uplink::Report(_) | Uplink::CommandResponse(_) | Uplink::AsGiven { .. } => {
                    1
                }
            },
            Payload::Command(_) => 1,
        }
    }

    /// What its result line speaks of, of several the first.
    #[must_use]
    pub fn into_subject(self) -> ResultKey {
        let (cid, id) = match self.body {
            Payload::Uplink(uplink) => match uplink {
                Uplink::Sync(device) => (device.cid.into(), None),
                Uplink::Report(Property { cid, id, .. }) => (cid, Some(id)),
                Uplink::Status(statuses) => {
                    return statuses.into_iter().next().map(ResultKey::from).unwrap_or_default();
                }
                Uplink::CommandResponse(answer) => (answer.cid.into(), None),
                Uplink::AsGiven { cid, .. } => (cid.into(), None),
            },
            Payload::Command(Command { cid, points }) => {
                (cid.into(), points.into_iter().next().map(|(id, _)| id.into()))
            }
        };
        ResultKey { cid, id, status: None, part: self.part }
    }
}

/// What one result line speaks of.
#[derive(Clone, Debug, Default)]
pub struct ResultKey {
    /// The device.
    pub cid: SmolStr,
    /// The data point's id, for reports and commands.
    pub id: Option<SmolStr>,
    /// The status, for status reports.
    pub status: Option<bool>,
    /// Which part of its input it is, where that asks several times.
    pub part: Option<Arc<InputPart>>,
}

impl ResultKey {
    /// The part of its input that asks for it, as an input of its own; `None` where that is all of it.
    #[must_use]
    pub fn input_of(&self, input: &str) -> Option<String> {
        Some(self.part.as_ref()?.input_of(input, &self.cid, self.status))
    }
}

/// A part of an input that asks several times: a data point of its `properties`, or an element of a status message.
#[derive(Clone, Debug)]
pub struct InputPart {
    /// The fields that all parts share, as the beginning of an object.
    head: Arc<str>,
    /// A data point's name, and where its value stands in the input.
    point: Option<(SmolStr, Range<usize>)>,
}

impl InputPart {
    /// The part of its input as an input of its own, so that feeding it in sends nothing else again. An element of a
    /// status message is made of its device and status.
    #[must_use]
    pub fn input_of(&self, input: &str, cid: &str, status: Option<bool>) -> String {
        let mut json = self.head.to_string();
        if let Some((name, value)) = &self.point {
            let key = if name.bytes().all(|byte| byte.is_ascii_digit()) { "id" } else { "code" };
            push_member(&mut json, key, &quoted(name));
            push_member(&mut json, "value", input.get(value.clone()).unwrap_or("null"));
        } else {
            push_member(&mut json, "cid", &quoted(cid));
            push_member(&mut json, "status", if status == Some(true) { "true" } else { "false" });
        }
        json.push('}');
        json
    }
}

impl From<DeviceStatus> for ResultKey {
    fn from(DeviceStatus { cid, status }: DeviceStatus) -> Self {
        Self { cid: cid.into(), status: Some(status), ..Self::default() }
    }
}

/// Why an input, or one data point of it, is not sent.
#[derive(Debug, Default)]
pub struct InputError {
    /// The field at fault.
    pub field: Option<String>,
    /// What is wrong.
    pub message: String,
    /// The device, where the input names one.
    pub cid: Option<String>,
    /// The data point, where the input names one.
    pub id: Option<String>,
    /// Which part of its input is at fault, where that asks several times.
    pub part: Option<Arc<InputPart>>,
}

impl InputError {
    fn new(field: &str, message: impl Into<String>) -> Self {
        Self { field: Some(field.to_owned()), message: message.into(), ..Self::default() }
    }

    fn of(mut self, cid: &str, id: Option<&str>) -> Self {
        self.cid = Some(cid.to_owned());
        self.id = id.map(str::to_owned);
        self
    }
}

/// Reads inputs against a product.
#[derive(Debug)]
pub struct RequestParser {
    /// The product whose data points are reported and commanded.
    pub product: Product,
    /// Whether values are checked against the product before they are sent.
    pub check: bool,
    /// How values are written.
    pub encoding: ValueEncoding,
}

impl RequestParser {
    /// What changes the bytes of an operation's messages, by the names of the options.
    #[must_use]
    pub fn options(&self, operation: RequestKind) -> Map<String, Value> {
        let mut options = Map::from_iter([("no-check".to_owned(), Value::from(!self.check))]);
        if matches!(operation, RequestKind::Report | RequestKind::Command) {
            let encoding = match self.encoding {
                ValueEncoding::Native => "native",
                ValueEncoding::String => "string",
            };
            // However the model's file is written, `model --json` prints it alike.
            let model = hex::encode(Md5::digest(crate::json::json_line(&self.product)));
            options.extend([
                ("value-encoding".to_owned(), Value::from(encoding)),
                ("model".to_owned(), Value::from(model)),
            ]);
        }
        options
    }

    /// Adds to `asked` what one value of the input asks for.
    pub fn parse(&self, operation: RequestKind, input: InputValue<'_>, asked: &mut Vec<ParsedInput>) {
        self.parse_as(Ok(operation), input, asked);
    }

    /// As [`RequestParser::parse`], for uplinks: the operation is what the value itself names as its `op`.
    pub fn parse_uplink(&self, input: InputValue<'_>, asked: &mut Vec<ParsedInput>) {
        let operation = match &input.content {
            InputContent::Json(text) => operation_of(text),
            InputContent::Fields(_) | InputContent::Broken(..) => Ok(RequestKind::Report),
        };
        self.parse_as(operation, input, asked);
    }

    fn parse_as(
        &self,
        operation: Result<RequestKind, InputError>,
        input: InputValue<'_>,
        asked: &mut Vec<ParsedInput>,
    ) {
        let mut size = input.size();
        let line = input.line;
        let named = operation.as_ref().ok().copied();
        let (text, items) = match (input.content, operation) {
            (InputContent::Json(text), Ok(operation)) => match self.read(operation, &text) {
                (items, None) => (text.into(), items),
                (items, Some(former)) => (former.into(), items),
            },
            (InputContent::Json(text), Err(invalid)) => (text.into(), Items::One(Err(invalid))),
            (InputContent::Broken(text, invalid), _) => (Arc::from(text), Items::One(Err(invalid))),
            (InputContent::Fields(fields), operation) => {
                let (text, invalid) = self.json_of_fields(named, fields);
                let items = match (invalid, operation) {
                    (Some(invalid), _) | (None, Err(invalid)) => Items::One(Err(invalid)),
                    (None, Ok(operation)) => self.read(operation, &text).0,
                };
                (text.into(), items)
            }
        };
        let operation = named.unwrap_or(RequestKind::Report);
        let mut add = |item| {
            let size = std::mem::take(&mut size);
            asked.push(ParsedInput { operation, line, text: Arc::clone(&text), size, item });
        };
        match items {
            Items::One(item) => add(item),
            Items::Several(items) => items.into_iter().for_each(add),
        }
    }

    /// The messages that one input value asks for, in its order; and the input in it, where it is a result line.
    fn read<'a>(&self, operation: RequestKind, json: &'a str) -> (Items, Option<&'a str>) {
        let invalid = |invalid| Items::One(Err(invalid));
        let object = match InputObject::parse(json) {
            Ok(object) => object,
            Err(why) => return (invalid(why), None),
        };
        if object.get("ok").is_none() {
            return (self.read_object(operation, &object, json), None);
        }
        let Some(former) = object.get("input") else {
            let message = "a result line that was accepted has no input to send again";
            return (invalid(InputError::new("input", message)), None);
        };
        let items = match InputObject::parse(former) {
            Ok(object) if object.get("ok").is_some() => {
                invalid(InputError::new("input", "the input of a result line must not be another one"))
            }
            Ok(object) => self.read_object(operation, &object, former),
            Err(why) => invalid(why),
        };
        (items, Some(former))
    }

    fn read_object(&self, operation: RequestKind, object: &InputObject<'_>, json: &str) -> Items {
        if let Some(op) = object.get("op")
            && text_of(op).as_deref() != Some(operation.name())
        {
            return Items::One(Err(InputError::new("op", format!("op must be {:?} here", operation.name()))));
        }
        if object.get("param").is_some() {
            return Items::One(self.message(operation, object));
        }
        match operation {
            RequestKind::Sync => Items::One(t_of(object).and_then(|t| {
                let item = self.sync(object, json, &["op", "t"])?;
                Ok(Request { t, ..item })
            })),
            RequestKind::Status => Items::One(t_of(object).and_then(|t| {
                let statuses = vec![device_status(object, &["cid", "status", "t", "op"])?];
                Ok(Request { t, ..status_item(statuses) })
            })),
            RequestKind::Report | RequestKind::Command => self.values(operation, object, json),
        }
    }

    /// A whole message of the protocol: its `t` and `request_id` are kept.
    fn message(&self, operation: RequestKind, object: &InputObject<'_>) -> Result<Request, InputError> {
        object.only(match operation {
            RequestKind::Command => &["t", "request_id", "cid", "gateway_id", "param", "op"],
            RequestKind::Sync | RequestKind::Report | RequestKind::Status => {
                &["t", "request_id", "param", "op"]
            }
        })?;
        let param = object.get("param").unwrap_or("null");
        let within = || match InputObject::parse(param) {
            Err(InputError { field: None, message, .. }) => Err(InputError::new("param", message)),
            parsed => parsed,
        };
        let t = t_of(object)?;
        // An answer repeats it, and without one could not be told from others.
        let request_id = object.get("request_id").map(|_| object.required_text("request_id")).transpose()?;
        let mut item = match operation {
            RequestKind::Sync => self.sync(&within()?, param, &[])?,
            RequestKind::Status if param.starts_with('[') => {
                let part = InputPart { head: head_of(object, &["op", "t"]).into(), point: None };
                Request { part: Some(Arc::new(part)), ..statuses(param)? }
            }
            RequestKind::Status => status_item(vec![device_status(&within()?, STATUS_FIELDS)?]),
            RequestKind::Report => {
                let inner = within()?;
                let cid = self.identifier(&inner, "cid")?;
                self.value(operation, &cid, None, &inner, &["cid", "id", "code", "value"])?
            }
            RequestKind::Command => {
                let cid = self.identifier(object, "cid")?;
                self.value(operation, &cid, gateway_of(object)?, &within()?, &["id", "code", "value"])?
            }
        };
        item.t = t;
        item.request_id = request_id.map(Arc::from);
        Ok(item)
    }

    /// A device's message; `aside` names the fields that are meant for this program, not for the edge.
    fn sync(&self, object: &InputObject<'_>, json: &str, aside: &[&str]) -> Result<Request, InputError> {
        let cid = object.required_text("cid")?;
        let item = |uplink| Request::new(RequestKind::Sync, Payload::Uplink(uplink));
        if !self.check {
            let fields = object.0.iter().filter(|(name, _)| !aside.contains(&&**name));
            let param = if fields.clone().count() == object.0.len() {
                serde_json::from_str(json)
            } else {
                serde_json::from_str(&json_of(fields.map(|(name, value)| (name.to_string(), *value))))
            };
            let param =
                param.map_err(|why| InputError { message: why.to_string(), ..InputError::default() })?;
            return Ok(item(Uplink::AsGiven { channel: Channel::Sync, cid: cid.into_owned(), param }));
        }
        let known: Vec<_> = Device::FIELDS.into_iter().chain(["op"]).chain(aside.iter().copied()).collect();
        object.only(&known).map_err(|invalid| invalid.of(&cid, None))?;
        let mut device = Device::decode(json).map_err(|error| {
            let field = error.field.trim_start_matches("param.").to_owned();
            let message = error.to_string().replace("param.", "");
            InputError { field: Some(field), message, cid: Some(cid.to_string()), ..InputError::default() }
        })?;
        for (name, text) in device.fields() {
            // The other three are words for people.
            let is_id = !matches!(name, "device_name" | "device_desc" | "install_location");
            let checked =
                if is_id { identifier::check(name, text) } else { identifier::check_cell(name, text) };
            checked.map_err(|message| InputError::new(name, message).of(&cid, None))?;
        }
        // The edge activates no device without a name; its own guide says to take the cid then.
        device.device_name.get_or_insert_with(|| device.cid.clone());
        device.comm_type.get_or_insert_with(|| "mqtt".to_owned());
        Ok(item(Uplink::Sync(Box::new(device))))
    }

    /// An id that is required, and whole unless nothing is to be checked.
    fn identifier<'a>(&self, object: &InputObject<'a>, name: &str) -> Result<Cow<'a, str>, InputError> {
        let text = object.required_text(name)?;
        if self.check {
            identifier::check(name, &text)
                .map_err(|message| InputError::new(name, message).of(&text, None))?;
        }
        Ok(text)
    }

    /// The inputs of `report` and `command`: one data point, or several as `properties`.
    fn values(&self, operation: RequestKind, object: &InputObject<'_>, json: &str) -> Items {
        // A gateway reports for itself; the platform commands any.
        let names_gateway = operation == RequestKind::Command;
        let head = || {
            let cid = self.identifier(object, "cid")?;
            let gateway = if names_gateway { gateway_of(object)? } else { None };
            Ok((cid, gateway, t_of(object)?))
        };
        let (cid, gateway, t) = match head() {
            Ok(head) => head,
            Err(invalid) => return Items::One(Err(invalid)),
        };
        let known: &[&str] =
            &["gateway_id", "cid", "id", "code", "value", "t", "op"][usize::from(!names_gateway)..];
        let Some(properties) = object.get("properties") else {
            let item = self.value(operation, &cid, gateway, object, known);
            return Items::One(item.map(|item| Request { t, ..item }));
        };
        let known: &[&str] = &["gateway_id", "cid", "properties", "t", "op"][usize::from(!names_gateway)..];
        let entries = match object.only(known).and_then(|()| InputObject::parse(properties)) {
            Ok(entries) if !entries.0.is_empty() => entries,
            Ok(_) => {
                return Items::One(Err(InputError::new("properties", "properties is empty").of(&cid, None)));
            }
            Err(invalid) => {
                let field = Some("properties".into());
                return Items::One(Err(InputError { field, ..invalid }.of(&cid, None)));
            }
        };
        let head: Arc<str> = head_of(object, &["op", "gateway_id", "cid", "t"]).into();
        let items = entries.0.iter().map(|(name, value)| {
            let point = Some((SmolStr::from(&**name), place(json, value)));
            let part = Some(Arc::new(InputPart { head: Arc::clone(&head), point }));
            match self.point(operation, &cid, gateway.clone(), name, value) {
                Ok(item) => Ok(Request { t, part, ..item }),
                Err(invalid) => {
                    Err(InputError { field: Some(format!("properties.{name}")), part, ..invalid })
                }
            }
        });
        Items::Several(items.collect())
    }

    fn value(
        &self,
        operation: RequestKind,
        cid: &str,
        gateway: Option<GatewayId>,
        object: &InputObject<'_>,
        known: &[&str],
    ) -> Result<Request, InputError> {
        let invalid = |invalid: InputError| invalid.of(cid, None);
        object.only(known).map_err(invalid)?;
        let name = match (object.get("id"), object.get("code")) {
            (Some(id), None) => match id.parse::<u32>() {
                Ok(number) => number.to_string().into(),
                Err(_) => object.required_text("id").map_err(invalid)?,
            },
            (None, Some(_)) => object.required_text("code").map_err(invalid)?,
            (None, None) => {
                return Err(invalid(InputError::new("id", "id or code of the data point is missing")));
            }
            (Some(_), Some(_)) => return Err(invalid(InputError::new("code", "give id or code, not both"))),
        };
        let Some(value) = object.get("value") else {
            return Err(InputError::new("value", "value is missing").of(cid, Some(&name)));
        };
        self.point(operation, cid, gateway, &name, value)
    }

    /// One data point's message, checked unless that is switched off.
    pub fn point(
        &self,
        operation: RequestKind,
        cid: &str,
        gateway: Option<GatewayId>,
        name: &str,
        value: &str,
    ) -> Result<Request, InputError> {
        let id = self.product.find(name).map_or_else(|| name.into(), |point| decimal(point.id.into()));
        let value = if self.check {
            let point = match operation {
                RequestKind::Command => self.product.commanded(name),
                RequestKind::Sync | RequestKind::Report | RequestKind::Status => self.product.reported(name),
            };
            let at = |field: &str, error: &ValueError| {
                InputError::new(field, error.message.clone()).of(cid, Some(&id))
            };
            let field = if name.bytes().all(|byte| byte.is_ascii_digit()) { "id" } else { "code" };
            let point = point.map_err(|error| at(field, &error))?;
            point.check(value, self.encoding).map_err(|error| at("value", &error))?
        } else {
            let is_wrapped = self.encoding == ValueEncoding::String && !value.starts_with('"');
            let json = if is_wrapped { quoted(value) } else { value.to_owned() };
            Json::parse(&json).map_err(|why| InputError::new("value", why.to_string()).of(cid, Some(&id)))?
        };
        Ok(Self::item(operation, cid, gateway, id, value))
    }

    /// What a `CODE=VALUE` argument probably does not mean.
    #[must_use]
    pub fn suspicious(&self, arg: &str) -> Option<String> {
        let (name, text) = arg.split_once('=')?;
        let point = self.product.find(name).filter(|_| self.check)?;
        point.suspicious(&point.from_text(text).ok()?)
    }

    /// Fields given as text, as the JSON that a line would have; and why not, where a value has no meaning.
    fn json_of_fields(
        &self,
        operation: Option<RequestKind>,
        fields: Vec<(String, String)>,
    ) -> (String, Option<InputError>) {
        let field =
            |name: &str| fields.iter().find(|(known, _)| known == name).map(|(_, text)| text.as_str());
        let name = field("id").or_else(|| field("code"));
        let mut invalid = None;
        let mut value_of = |text: &str| {
            let point = name.and_then(|name| self.product.find(name));
            match point.filter(|_| self.check).map(|point| (point, point.from_text(text))) {
                Some((_, Ok(value))) => value.get().to_owned(),
                Some((point, Err(error))) => {
                    let cid = field("cid").unwrap_or_default();
                    invalid =
                        Some(InputError::new("value", error.message).of(cid, Some(&point.id.to_string())));
                    quoted(text)
                }
                // Without a check the text is JSON where it can be, and a string otherwise.
                None => json_or_quoted(text),
            }
        };
        let json = fields.iter().map(|(key, text)| {
            let value = match key.as_str() {
                "value" => value_of(text),
                "status" if operation == Some(RequestKind::Status) => json_or_quoted(text),
                "t" => json_or_quoted(text),
                _ => quoted(text),
            };
            (key.clone(), value)
        });
        let json = json_of(json);
        (json, invalid)
    }

    fn item(
        operation: RequestKind,
        cid: &str,
        gateway_id: Option<GatewayId>,
        id: SmolStr,
        value: DataPointValue,
    ) -> Request {
        let body = if operation == RequestKind::Command {
            Payload::Command(Command { cid: cid.to_owned(), points: vec![(id.into(), value)] })
        } else {
            Payload::Uplink(Uplink::Report(Property { cid: cid.into(), id, value }))
        };
        Request { gateway_id, ..Request::new(operation, body) }
    }
}

/// The operation that an input names in its own `op`: a sync, a report or a status.
fn operation_of(json: &str) -> Result<RequestKind, InputError> {
    let object = InputObject::parse(json)?;
    let Some(op) = object.get("op").and_then(text_of) else {
        return Err(InputError::new("op", "op is missing: sync, report or status"));
    };
    let uplinks = [RequestKind::Sync, RequestKind::Report, RequestKind::Status];
    let known = uplinks.into_iter().find(|operation| operation.name() == op);
    known.ok_or_else(|| InputError::new("op", "op must be sync, report or status"))
}

/// A status report of devices, as one message.
#[must_use]
pub fn status_item(statuses: Vec<DeviceStatus>) -> Request {
    Request::new(RequestKind::Status, Payload::Uplink(Uplink::Status(statuses)))
}

/// The fields of one device in a status message.
const STATUS_FIELDS: &[&str] = &["cid", "status", "op"];

/// The time stamp that an input gives.
fn t_of(object: &InputObject<'_>) -> Result<Option<i64>, InputError> {
    let t = object.get("t").map(|raw| raw.parse().map_err(|_| "t must be an integer, a Unix time"));
    t.transpose().map_err(|message| InputError::new("t", message))
}

/// The fields of an object with these names, as the beginning of another one.
fn head_of(object: &InputObject<'_>, names: &[&str]) -> String {
    let mut json = String::from("{");
    for name in names {
        if let Some(value) = object.get(name) {
            push_member(&mut json, name, value);
        }
    }
    json
}

/// Where a part of a text stands in it.
fn place(text: &str, part: &str) -> Range<usize> {
    let start = (part.as_ptr() as usize).saturating_sub(text.as_ptr() as usize);
    start..start + part.len()
}

/// The request id that an input gives itself, so that the line of one that is not sent carries it as well.
#[must_use]
pub fn request_id_of(input: &str) -> Option<String> {
    let object = InputObject::parse(input).ok()?;
    let former = object.get("input").filter(|_| object.get("ok").is_some());
    let own = match former {
        Some(former) => InputObject::parse(former).ok()?.get("request_id")?.to_owned(),
        None => object.get("request_id")?.to_owned(),
    };
    serde_json::from_str(&own).ok().filter(|id: &String| !id.is_empty())
}

fn statuses(param: &str) -> Result<Request, InputError> {
    let elements: Vec<&RawValue> = serde_json::from_str(param)
        .map_err(|_| InputError::new("param", "param must be an array of objects"))?;
    if elements.is_empty() {
        return Err(InputError::new("param", "param is empty"));
    }
    elements
        .into_iter()
        .map(|element| device_status(&InputObject::parse(element.get())?, STATUS_FIELDS))
        .collect::<Result<_, _>>()
        .map(status_item)
}

fn device_status(object: &InputObject<'_>, known: &[&str]) -> Result<DeviceStatus, InputError> {
    let cid = object.required_text("cid")?;
    identifier::check("cid", &cid).map_err(|message| InputError::new("cid", message).of(&cid, None))?;
    object.only(known).map_err(|invalid| invalid.of(&cid, None))?;
    match object.get("status") {
        Some("true") => Ok(DeviceStatus { cid: cid.into_owned(), status: true }),
        Some("false") => Ok(DeviceStatus { cid: cid.into_owned(), status: false }),
        Some(_) => Err(InputError::new("status", "status must be true or false").of(&cid, None)),
        None => Err(InputError::new("status", "status is missing").of(&cid, None)),
    }
}

fn gateway_of(object: &InputObject<'_>) -> Result<Option<GatewayId>, InputError> {
    object
        .optional_text("gateway_id")?
        .map(|id| {
            identifier::check("gateway_id", &id).map_err(|message| InputError::new("gateway_id", message))?;
            GatewayId::new(id).map_err(|why| InputError::new("gateway_id", why.to_string()))
        })
        .transpose()
}

/// A `CODE=VALUE` argument as an input: what a row of CSV would say.
#[must_use]
pub fn input_from_text(cid: &str, arg: &str) -> InputValue<'static> {
    let (name, text) = arg.split_once('=').unwrap_or((arg, ""));
    let key = if name.bytes().all(|byte| byte.is_ascii_digit()) { "id" } else { "code" };
    let fields = [("cid", cid), (key, name), ("value", text)];
    let fields = fields.map(|(key, text)| (key.to_owned(), text.to_owned()));
    InputValue { line: None, content: InputContent::Fields(fields.into()) }
}

/// A text that is JSON as it is, any other as a JSON string.
fn json_or_quoted(text: &str) -> String {
    match serde_json::from_str::<&RawValue>(text) {
        Ok(json) => json.get().to_owned(),
        Err(_) => quoted(text),
    }
}

/// A text as a JSON string.
fn quoted(text: &str) -> String {
    Value::from(text).to_string()
}

/// A JSON object of these entries, in their order; the values are JSON text.
fn json_of(entries: impl Iterator<Item = (String, impl AsRef<str>)>) -> String {
    let mut json = String::from("{");
    for (key, value) in entries {
        push_member(&mut json, &key, value.as_ref());
    }
    json.push('}');
    json
}

/// Appends an entry to the beginning of an object; the value is JSON text.
fn push_member(object: &mut String, key: &str, value: &str) {
    if object.len() > 1 {
        object.push(',');
    }
    object.push_str(&quoted(key));
    object.push(':');
    object.push_str(value);
}

/// The messages that one value asks for; nearly always one.
enum Items {
    One(Result<Request, InputError>),
    Several(Vec<Result<Request, InputError>>),
}

/// A JSON object's entries, borrowed and in order.
struct InputObject<'a>(Vec<(Cow<'a, str>, &'a str)>);

impl<'a> InputObject<'a> {
    fn parse(json: &'a str) -> Result<Self, InputError> {
        if !json.starts_with('{') {
            return Err(InputError {
                message: "the value must be a JSON object".into(),
                ..InputError::default()
            });
        }
        let mut found = Vec::with_capacity(4);
        let object = match members(json, |name, value| found.push((Cow::Borrowed(name), value))) {
            Some(()) => Self(found),
            None => serde_json::from_str(json)
                .map_err(|why| InputError { message: why.to_string(), ..InputError::default() })?,
        };
        #[cfg(test)]
        tests::WORK.with(|work| work.set(work.get() + json.len()));
        match first_repeated(object.0.iter().map(|(name, _)| &**name)) {
            Some(name) => Err(InputError::new(name, format!("duplicate field {name:?}"))),
            None => Ok(object),
        }
    }

    fn get(&self, name: &str) -> Option<&'a str> {
        self.0.iter().find(|(key, _)| key == name).map(|(_, value)| *value)
    }

    fn required_text(&self, name: &str) -> Result<Cow<'a, str>, InputError> {
        match self.optional_text(name)? {
            Some(text) if text.is_empty() => Err(InputError::new(name, format!("{name} is empty"))),
            Some(text) => Ok(text),
            None => Err(InputError::new(name, format!("{name} is missing"))),
        }
    }

    fn optional_text(&self, name: &str) -> Result<Option<Cow<'a, str>>, InputError> {
        let Some(raw) = self.get(name) else { return Ok(None) };
        match text_of(raw) {
            Some(text) => Ok(Some(text)),
            None => Err(InputError::new(name, format!("{name} must be a string"))),
        }
    }

    /// Refuses a field that nobody would read, so that a slip of the pen is not lost silently.
    fn only(&self, known: &[&str]) -> Result<(), InputError> {
        match self.0.iter().find(|(name, _)| !known.contains(&name.as_ref())) {
            None => Ok(()),
            Some((name, _)) => {
                let listed: Vec<_> = known.iter().filter(|name| **name != "op").copied().collect();
                Err(InputError::new(
                    name,
                    format!("{name} is no field of this input; its fields are {}", listed.join(", ")),
                ))
            }
        }
    }
}

impl<'de: 'a, 'a> Deserialize<'de> for InputObject<'a> {
    fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Entries;
        impl<'de> serde::de::Visitor<'de> for Entries {
            type Value = InputObject<'de>;
            fn expecting(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
                f.write_str("an object")
            }
            fn visit_map<A: serde::de::MapAccess<'de>>(
                self,
                mut map: A,
            ) -> Result<InputObject<'de>, A::Error> {
                let mut entries = Vec::new();
                while let Some(Name(name)) = map.next_key()? {
                    entries.push((name, map.next_value::<&RawValue>()?.get()));
                }
                Ok(InputObject(entries))
            }
        }
        deserializer.deserialize_map(Entries)
    }
}

/// The first name that there was before. Of a few names each is compared with those before it, of many none.
fn first_repeated<N: Eq + Hash + Copy>(names: impl ExactSizeIterator<Item = N> + Clone) -> Option<N> {
    const FEW: usize = 16;
    let mut before = names.clone();
    if names.len() <= FEW {
        return names
            .enumerate()
            .find(|(n, name)| before.clone().take(*n).any(|other| other == *name))
            .map(|(_, name)| name);
    }
    let mut seen = HashSet::with_capacity(names.len());
    before.find(|name| !seen.insert(*name))
}

/// A key that is borrowed where it has no escapes.
#[derive(Deserialize)]
struct Name<'a>(#[serde(borrow)] Cow<'a, str>);

#[cfg(test)]
mod tests {
    use std::{cell::Cell, hash::Hasher};

    use super::*;

    thread_local! {
        /// How many bytes this thread has read as objects.
        pub(crate) static WORK: Cell<usize> = const { Cell::new(0) };
        /// How often names were compared or hashed.
        static LOOKS: Cell<usize> = const { Cell::new(0) };
    }

    /// A name that counts how often it is looked at.
    #[derive(Clone, Copy, Debug)]
    struct Counting<'a>(&'a str);

    impl PartialEq for Counting<'_> {
        fn eq(&self, other: &Self) -> bool {
            LOOKS.with(|looks| looks.set(looks.get() + 1));
            self.0 == other.0
        }
    }

    impl Eq for Counting<'_> {}

    impl Hash for Counting<'_> {
        fn hash<H: Hasher>(&self, state: &mut H) {
            LOOKS.with(|looks| looks.set(looks.get() + 1));
            self.0.hash(state);
        }
    }

    /// How often the names of an object with so many keys are looked at.
    fn looks(keys: usize) -> usize {
        let names: Vec<_> = (0..keys).map(|n| format!("k{n:06}")).collect();
        LOOKS.set(0);
        assert!(first_repeated(names.iter().map(|name| Counting(name))).is_none());
        LOOKS.get()
    }

    fn operations(check: bool) -> RequestParser {
        RequestParser { product: Product::smart_water_meter(), check, encoding: ValueEncoding::Native }
    }

    fn asked(operations: &RequestParser, operation: RequestKind, json: &str) -> Vec<ParsedInput> {
        let mut asked = Vec::new();
        operations.parse(operation, InputValue::json(1, json), &mut asked);
        asked
    }

    /// What a result line of each message gives back of the input, where it fails.
    fn inputs(asked: Vec<ParsedInput>) -> Vec<String> {
        let input = |asked: ParsedInput| {
            let subject = match asked.item {
                Ok(item) => item.into_subject(),
                Err(invalid) => ResultKey { part: invalid.part, ..ResultKey::default() },
            };
            subject.input_of(&asked.text).unwrap_or_else(|| asked.text.to_string())
        };
        asked.into_iter().map(input).collect()
    }

    /// The bytes that are read for one input with so many bad properties, until all its results are told.
    fn work(properties: usize) -> (usize, usize) {
        let names: Vec<_> = (0..properties).map(|n| format!(r#""bad_{n:06}":1"#)).collect();
        let json = format!(r#"{{"cid":"m1","properties":{{{}}}}}"#, names.join(","));
        WORK.set(0);
        let inputs = inputs(asked(&operations(true), RequestKind::Report, &json));
        assert_eq!(inputs.len(), properties);
        let last = properties - 1;
        assert_eq!(inputs[last], format!(r#"{{"cid":"m1","code":"bad_{last:06}","value":1}}"#));
        (WORK.get(), json.len())
    }

    #[test]
    fn ten_times_the_keys_are_ten_times_the_work() {
        for keys in [3, 16, 17, 1000] {
            let (few, many) = (looks(keys), looks(10 * keys));
            assert!(many <= 11 * few.max(17 * 8), "{keys} keys: {few}, ten times as many: {many}");
        }
        for properties in [10, 400] {
            let (read, length) = work(properties);
            assert!(read <= 2 * length, "{read} bytes are read of {length}");
            let (again, length) = work(10 * properties);
            assert!(again <= 2 * length, "{again} bytes are read of {length}");
        }
    }

    #[test]
    fn a_field_that_stands_twice_is_found_among_few_and_many() {
        for keys in [2, 15, 16, 17, 1000] {
            let names: Vec<_> = (0..keys).map(|n| format!("k{n}")).collect();
            let mut twice: Vec<_> = names.iter().map(String::as_str).collect();
            assert_eq!(first_repeated(twice.iter().copied()), None);
            twice.push("k1");
            assert_eq!(first_repeated(twice.into_iter()), Some("k1"), "{keys}");
        }
    }

    #[test]
    fn a_failed_part_gives_back_itself_and_what_all_parts_share() {
        let operations = operations(true);
        let whole = r#"{"op":"command","cid":"m\u00e9","gateway_id":"gw1","t":5,"properties":{"4":true,"valve\u005fopen":[1, 2]}}"#;
        let parts = [
            r#"{"op":"command","gateway_id":"gw1","cid":"m\u00e9","t":5,"id":"4","value":true}"#,
            r#"{"op":"command","gateway_id":"gw1","cid":"m\u00e9","t":5,"code":"valve_open","value":[1, 2]}"#,
        ];
        assert_eq!(inputs(asked(&operations, RequestKind::Command, whole)), parts);
        let former = format!(r#"{{"index":0,"ok":false,"input": {whole} }}"#);
        assert_eq!(inputs(asked(&operations, RequestKind::Command, &former)), parts);
        // One that asks once is its own input; a result line's is the one in it.
        let once = r#"{"cid":"m1","id":"1","value":"x"}"#;
        let former = format!(r#"{{"ok":false,"input":{once}}}"#);
        assert_eq!(inputs(asked(&operations, RequestKind::Report, &former)), [once]);
        assert_eq!(inputs(asked(&operations, RequestKind::Report, r#"{"ok":true}"#)), [r#"{"ok":true}"#]);
        let nested = format!(r#"{{"ok":false,"input":{former}}}"#);
        assert_eq!(inputs(asked(&operations, RequestKind::Report, &nested)), [former]);
    }

    #[test]
    fn every_input_may_give_its_t() {
        let operations = operations(true);
        let inputs = [
            (RequestKind::Sync, r#"{"cid":"m1","product_id":"p1","t":T}"#),
            (RequestKind::Report, r#"{"cid":"m1","id":"1","value":1,"t":T}"#),
            (RequestKind::Report, r#"{"cid":"m1","properties":{"1":1,"4":true},"t":T}"#),
            (RequestKind::Status, r#"{"t":T,"cid":"m1","status":true}"#),
            (
                RequestKind::Status,
                r#"{"t":T,"param":[{"cid":"m1","status":true},{"cid":"m2","status":false}]}"#,
            ),
            (RequestKind::Command, r#"{"cid":"m1","code":"valve_open_degree","value":10,"t":T}"#),
        ];
        for (operation, input) in inputs {
            for ParsedInput { item, .. } in asked(&operations, operation, &input.replace('T', "-7")) {
                assert_eq!(item.unwrap().t, Some(-7), "{input}");
            }
            for bad in ["\"7\"", "7.5", "null"] {
                for ParsedInput { item, .. } in asked(&operations, operation, &input.replace('T', bad)) {
                    assert_eq!(item.unwrap_err().field.as_deref(), Some("t"), "{input}");
                }
            }
        }
        let fields = [("cid", "m1"), ("id", "1"), ("value", "1"), ("t", "8")];
        let fields = fields.map(|(name, text)| (name.to_owned(), text.to_owned()));
        let mut row = Vec::new();
        operations.parse(
            RequestKind::Report,
            InputValue { line: Some(2), content: InputContent::Fields(fields.into()) },
            &mut row,
        );
        assert_eq!(row.pop().unwrap().item.unwrap().t, Some(8));
    }

    #[test]
    fn an_unchecked_device_keeps_its_bytes_but_for_what_is_meant_for_this_program() {
        let operations = operations(false);
        let param = |json: &str| {
            let item = asked(&operations, RequestKind::Sync, json).pop().unwrap().item.unwrap();
            let Payload::Uplink(Uplink::AsGiven { param, .. }) = item.body else { panic!() };
            (item.t, param.get().to_owned())
        };
        let own = r#"{"cid":"m1", "extra":[1.10]}"#;
        assert_eq!(param(own), (None, own.to_owned()));
        let expected = r#"{"cid":"m1","extra":[1.10]}"#.to_owned();
        assert_eq!(param(r#"{"op":"sync","cid":"m1","extra":[1.10],"t":3}"#), (Some(3), expected.clone()));
        let former = r#"{"ok":false,"op":"sync","input":{"op":"sync","cid":"m1","extra":[1.10]}}"#;
        assert_eq!(param(former), (None, expected));
        // A whole message's own param is the user's business.
        assert_eq!(
            param(r#"{"t":4,"param":{"op":"x","cid":"m1"}}"#),
            (Some(4), r#"{"op":"x","cid":"m1"}"#.into())
        );
    }

    #[test]
    fn a_device_of_a_status_message_gives_back_itself() {
        let json =
            r#"{"t":5,"request_id":"r","param":[{"cid":"m1","status":true},{"cid":"m2","status":false}]}"#;
        let ParsedInput { item, text, .. } =
            asked(&operations(true), RequestKind::Status, json).pop().unwrap();
        let item = item.unwrap();
        let part = item.part.clone();
        let Payload::Uplink(Uplink::Status(statuses)) = item.body else { panic!() };
        let given: Vec<_> = statuses
            .into_iter()
            .map(|status| ResultKey { part: part.clone(), ..status.into() }.input_of(&text).unwrap())
            .collect();
        assert_eq!(given, [r#"{"t":5,"cid":"m1","status":true}"#, r#"{"t":5,"cid":"m2","status":false}"#]);
    }
}
