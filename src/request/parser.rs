//! From an input value to its requests: the input table of `sync`, `report`, `status` and `command`.

use std::{borrow::Cow, sync::Arc};

use md5::{Digest as _, Md5};
use serde_json::{Map, Value};
use smol_str::SmolStr;

use super::{
    error::InputError,
    fields::{STATUS_FIELDS, device_status, gateway_of, head_of, operation_of, place, statuses, t_of},
    identifier,
    input::{InputContent, InputValue},
    json_text::{json_of, json_or_quoted, quoted},
    kind::RequestKind,
    object::InputObject,
    parsed_input::{ParsedInput, Request, status_request},
    part::InputPart,
};
use crate::{
    gateway::Payload,
    json::{Json, decimal, json_line, text_of},
    tuya::{
        Channel, Command, DataPointValue, Device, GatewayId, Property, Uplink,
        product::{Product, ValueEncoding, ValueError},
    },
};

/// Reads inputs against a product.
#[derive(Debug)]
pub struct RequestParser {
    /// The product of the devices.
    pub product: Product,
    /// Whether values are checked against the product before they are sent.
    pub check: bool,
    /// How values are written.
    pub encoding: ValueEncoding,
}

impl RequestParser {
    /// The options that change the bytes of an operation's messages, by name.
    #[must_use]
    pub fn options(&self, kind: RequestKind) -> Map<String, Value> {
        let mut options = Map::from_iter([("no-check".to_owned(), Value::from(!self.check))]);
        if matches!(kind, RequestKind::Report | RequestKind::Command) {
            let encoding = match self.encoding {
                ValueEncoding::Native => "native",
                ValueEncoding::String => "string",
            };
            // However the model's file is written, `model --json` prints it alike.
            let model = hex::encode(Md5::digest(json_line(&self.product)));
            options.extend([
                ("value-encoding".to_owned(), Value::from(encoding)),
                ("model".to_owned(), Value::from(model)),
            ]);
        }
        options
    }

    /// Appends the requests of one input value to `asked`.
    pub fn parse(&self, kind: RequestKind, input: InputValue<'_>, parsed: &mut Vec<ParsedInput>) {
        self.parse_as(Ok(kind), input, parsed);
    }

    /// As [`RequestParser::parse`], for uplinks: the operation is what the value itself names as its `op`.
    pub fn parse_uplink(&self, input: InputValue<'_>, parsed: &mut Vec<ParsedInput>) {
        let kind = match &input.content {
            InputContent::Json(text) => operation_of(text),
            InputContent::Fields(_) | InputContent::Broken(..) => Ok(RequestKind::Report),
        };
        self.parse_as(kind, input, parsed);
    }

    fn parse_as(
        &self,
        kind: Result<RequestKind, InputError>,
        input: InputValue<'_>,
        parsed: &mut Vec<ParsedInput>,
    ) {
        let mut size = input.size();
        let line = input.line;
        let named = kind.as_ref().ok().copied();
        let (text, requests) = match (input.content, kind) {
            (InputContent::Json(text), Ok(kind)) => match self.read(kind, &text) {
                (requests, None) => (text.into(), requests),
                (requests, Some(former)) => (former.into(), requests),
            },
            (InputContent::Json(text), Err(invalid)) => (text.into(), ParsedRequests::One(Err(invalid))),
            (InputContent::Broken(text, invalid), _) => (Arc::from(text), ParsedRequests::One(Err(invalid))),
            (InputContent::Fields(fields), kind) => {
                let (text, invalid) = self.json_of_fields(named, fields);
                let requests = match (invalid, kind) {
                    (Some(invalid), _) | (None, Err(invalid)) => ParsedRequests::One(Err(invalid)),
                    (None, Ok(kind)) => self.read(kind, &text).0,
                };
                (text.into(), requests)
            }
        };
        let kind = named.unwrap_or(RequestKind::Report);
        let mut add = |request| {
            let size = std::mem::take(&mut size);
            parsed.push(ParsedInput { kind, line, text: Arc::clone(&text), size, request });
        };
        match requests {
            ParsedRequests::One(request) => add(request),
            ParsedRequests::Several(requests) => requests.into_iter().for_each(add),
        }
    }

    /// The requests of one input value, in order; and the input in it, if it is a result line.
    fn read<'a>(&self, kind: RequestKind, json: &'a str) -> (ParsedRequests, Option<&'a str>) {
        let invalid = |invalid| ParsedRequests::One(Err(invalid));
        let object = match InputObject::parse(json) {
            Ok(object) => object,
            Err(why) => return (invalid(why), None),
        };
        if object.get("ok").is_none() {
            return (self.read_object(kind, &object, json), None);
        }
        let Some(former) = object.get("input") else {
            let message = "a result line that was accepted has no input to send again";
            return (invalid(InputError::new("input", message)), None);
        };
        let requests = match InputObject::parse(former) {
            Ok(object) if object.get("ok").is_some() => {
                invalid(InputError::new("input", "the input of a result line must not be another one"))
            }
            Ok(object) => self.read_object(kind, &object, former),
            Err(why) => invalid(why),
        };
        (requests, Some(former))
    }

    fn read_object(&self, kind: RequestKind, object: &InputObject<'_>, json: &str) -> ParsedRequests {
        if let Some(op) = object.get("op")
            && text_of(op).as_deref() != Some(kind.name())
        {
            return ParsedRequests::One(Err(InputError::new(
                "op",
                format!("op must be {:?} here", kind.name()),
            )));
        }
        if object.get("param").is_some() {
            return ParsedRequests::One(self.message(kind, object));
        }
        match kind {
            RequestKind::Sync => ParsedRequests::One(t_of(object).and_then(|t| {
                let request = self.sync(object, json, &["op", "t"])?;
                Ok(Request { t, ..request })
            })),
            RequestKind::Status => ParsedRequests::One(t_of(object).and_then(|t| {
                let statuses = vec![device_status(object, &["cid", "status", "t", "op"])?];
                Ok(Request { t, ..status_request(statuses) })
            })),
            RequestKind::Report | RequestKind::Command => self.values(kind, object, json),
        }
    }

    /// A whole message of the protocol: its `t` and `request_id` are kept.
    fn message(&self, kind: RequestKind, object: &InputObject<'_>) -> Result<Request, InputError> {
        object.only(match kind {
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
        let mut request = match kind {
            RequestKind::Sync => self.sync(&within()?, param, &[])?,
            RequestKind::Status if param.starts_with('[') => {
                let part = InputPart { head: head_of(object, &["op", "t"]).into(), point: None };
                Request { part: Some(Arc::new(part)), ..statuses(param)? }
            }
            RequestKind::Status => status_request(vec![device_status(&within()?, STATUS_FIELDS)?]),
            RequestKind::Report => {
                let inner = within()?;
                let cid = self.identifier(&inner, "cid")?;
                self.value(kind, &cid, None, &inner, &["cid", "id", "code", "value"])?
            }
            RequestKind::Command => {
                let cid = self.identifier(object, "cid")?;
                self.value(kind, &cid, gateway_of(object)?, &within()?, &["id", "code", "value"])?
            }
        };
        request.t = t;
        request.request_id = request_id.map(Arc::from);
        Ok(request)
    }

    /// A device's message; `aside` names the fields that are meant for this program, not for the edge.
    fn sync(&self, object: &InputObject<'_>, json: &str, aside: &[&str]) -> Result<Request, InputError> {
        let cid = object.required_text("cid")?;
        let request = |uplink| Request::new(RequestKind::Sync, Payload::Uplink(uplink));
        if !self.check {
            let fields = object.0.iter().filter(|(name, _)| !aside.contains(&&**name));
            let param = if fields.clone().count() == object.0.len() {
                serde_json::from_str(json)
            } else {
                serde_json::from_str(&json_of(fields.map(|(name, value)| (name.to_string(), value.get()))))
            };
            let param =
                param.map_err(|why| InputError { message: why.to_string(), ..InputError::default() })?;
            return Ok(request(Uplink::AsGiven { channel: Channel::Sync, cid: cid.into_owned(), param }));
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
        Ok(request(Uplink::Sync(Box::new(device))))
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
    fn values(&self, kind: RequestKind, object: &InputObject<'_>, json: &str) -> ParsedRequests {
        // A gateway reports for itself; the platform commands any.
        let names_gateway = kind == RequestKind::Command;
        let head = || {
            let cid = self.identifier(object, "cid")?;
            let gateway = if names_gateway { gateway_of(object)? } else { None };
            Ok((cid, gateway, t_of(object)?))
        };
        let (cid, gateway, t) = match head() {
            Ok(head) => head,
            Err(invalid) => return ParsedRequests::One(Err(invalid)),
        };
        let known: &[&str] =
            &["gateway_id", "cid", "id", "code", "value", "t", "op"][usize::from(!names_gateway)..];
        let Some(properties) = object.get("properties") else {
            let request = self.value(kind, &cid, gateway, object, known);
            return ParsedRequests::One(request.map(|request| Request { t, ..request }));
        };
        let known: &[&str] = &["gateway_id", "cid", "properties", "t", "op"][usize::from(!names_gateway)..];
        let entries = match object.only(known).and_then(|()| InputObject::parse(properties)) {
            Ok(entries) if !entries.0.is_empty() => entries,
            Ok(_) => {
                return ParsedRequests::One(Err(
                    InputError::new("properties", "properties is empty").of(&cid, None)
                ));
            }
            Err(invalid) => {
                let field = Some("properties".into());
                return ParsedRequests::One(Err(InputError { field, ..invalid }.of(&cid, None)));
            }
        };
        let head: Arc<str> = head_of(object, &["op", "gateway_id", "cid", "t"]).into();
        let requests = entries.0.iter().map(|(name, value)| {
            let point = Some((SmolStr::from(&**name), place(json, value.get())));
            let part = Some(Arc::new(InputPart { head: Arc::clone(&head), point }));
            match self.point(kind, &cid, gateway.clone(), name, value.get()) {
                Ok(request) => Ok(Request { t, part, ..request }),
                Err(invalid) => {
                    Err(InputError { field: Some(format!("properties.{name}")), part, ..invalid })
                }
            }
        });
        ParsedRequests::Several(requests.collect())
    }

    fn value(
        &self,
        kind: RequestKind,
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
        self.point(kind, cid, gateway, &name, value)
    }

    /// One data point's message, checked unless that is switched off.
    pub fn point(
        &self,
        kind: RequestKind,
        cid: &str,
        gateway: Option<GatewayId>,
        name: &str,
        value: &str,
    ) -> Result<Request, InputError> {
        let id = self.product.find(name).map_or_else(|| name.into(), |point| decimal(point.id.into()));
        let value = if self.check {
            let point = match kind {
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
        Ok(Self::request(kind, cid, gateway, id, value))
    }

    /// A warning about a `CODE=VALUE` argument that is allowed and probably wrong.
    #[must_use]
    pub fn suspicious(&self, arg: &str) -> Option<String> {
        let (name, text) = arg.split_once('=')?;
        let point = self.product.find(name).filter(|_| self.check)?;
        point.suspicious(&point.from_text(text).ok()?)
    }

    /// Fields given as text, as the JSON of a line; and the error, if a value is invalid.
    fn json_of_fields(
        &self,
        kind: Option<RequestKind>,
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
                // Without a check, the text is JSON if it can be, and a string otherwise.
                None => json_or_quoted(text),
            }
        };
        let json = fields.iter().map(|(key, text)| {
            let value = match key.as_str() {
                "value" => value_of(text),
                "status" if kind == Some(RequestKind::Status) => json_or_quoted(text),
                "t" => json_or_quoted(text),
                _ => quoted(text),
            };
            (key.clone(), value)
        });
        let json = json_of(json);
        (json, invalid)
    }

    fn request(
        kind: RequestKind,
        cid: &str,
        gateway_id: Option<GatewayId>,
        id: SmolStr,
        value: DataPointValue,
    ) -> Request {
        let payload = if kind == RequestKind::Command {
            Payload::Command(Command { cid: cid.to_owned(), points: vec![(id.into(), value)] })
        } else {
            Payload::Uplink(Uplink::Report(Property { cid: cid.into(), id, value }))
        };
        Request { gateway_id, ..Request::new(kind, payload) }
    }
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

/// The requests of one value; nearly always one.
enum ParsedRequests {
    One(Result<Request, InputError>),
    Several(Vec<Result<Request, InputError>>),
}
