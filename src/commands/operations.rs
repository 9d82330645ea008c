//! From an input value to the messages it asks for: the input table of `sync`, `report`, `status` and `command`.

use std::{
    borrow::Cow,
    path::{Path, PathBuf},
    sync::Arc,
};

use serde::Deserialize;
use serde_json::value::RawValue;
use smol_str::SmolStr;

use super::{
    Console,
    input::{Content, Format, Input, Source},
    model,
};
use crate::{
    failure::Failure,
    json::{Json, decimal, each_member, text_of},
    product::{Misfit, Product, ValueEncoding},
    protocol::{Channel, Command, DataPointValue, Device, DeviceStatus, GatewayId, Property, Uplink},
};

/// The options that say what values mean.
#[derive(Clone, Debug, clap::Args)]
#[command(next_help_heading = "Product model")]
pub struct ModelArgs {
    /// The product model to check values against [default: the smart water meter]
    #[arg(long, value_name = "FILE")]
    model: Option<PathBuf>,

    /// Check no values: neither type nor range, enumeration or access
    #[arg(long)]
    no_check: bool,

    /// Send values as native JSON, or all of them as strings
    #[arg(long, value_name = "HOW", default_value = "native")]
    value_encoding: Encoding,
}

/// How values are written.
#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
enum Encoding {
    /// true, 12345, "opened"
    Native,
    /// "true", "12345", "opened"
    String,
}

impl ModelArgs {
    /// Loads the model.
    ///
    /// # Errors
    /// A model file that cannot be read.
    pub fn operations(&self) -> Result<Operations, Failure> {
        let encoding = match self.value_encoding {
            Encoding::Native => ValueEncoding::Native,
            Encoding::String => ValueEncoding::String,
        };
        Ok(Operations { product: model::load(self.model.as_deref())?, check: !self.no_check, encoding })
    }
}

/// What an input line asks for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Operation {
    /// Synchronise a device.
    Sync,
    /// Report data points.
    Report,
    /// Say whether a device is online.
    Status,
    /// Command a device, from the platform's side.
    Command,
}

impl Operation {
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
pub struct Asked {
    /// What it asks to be done.
    pub operation: Operation,
    /// The line on which the value begins, from 1; `None` for a request from flags.
    pub line: Option<u64>,
    /// The value's JSON text.
    pub text: Arc<str>,
    /// How many bytes the value takes in its file, nearly; of several messages the first tells it.
    pub size: u64,
    /// The message, or what is wrong.
    pub item: Result<Item, Invalid>,
}

/// One message that an input asks for.
#[derive(Debug)]
pub struct Item {
    /// What it does.
    pub operation: Operation,
    /// The gateway, where the input names one.
    pub gateway_id: Option<GatewayId>,
    /// The time stamp that a whole message brought along.
    pub t: Option<i64>,
    /// The request id that a whole message brought along.
    pub request_id: Option<Arc<str>>,
    /// Which of the `properties` of its input it is, for reports and commands.
    pub entry: Option<usize>,
    /// The message.
    pub body: Body,
}

impl Item {
    /// A message about which nothing else is known.
    #[must_use]
    pub fn new(operation: Operation, body: Body) -> Self {
        Self { operation, gateway_id: None, t: None, request_id: None, entry: None, body }
    }

    /// How many result lines it ends as.
    #[must_use]
    pub fn lines(&self) -> u64 {
        match &self.body {
            Body::Uplink(uplink) => match uplink {
                Uplink::Status(statuses) => statuses.len() as u64,
                Uplink::Sync(_) | Uplink::Report(_) | Uplink::CommandResponse(_) | Uplink::AsGiven { .. } => {
                    1
                }
            },
            Body::Command(_) => 1,
        }
    }

    /// What its result line speaks of, of several the first.
    #[must_use]
    pub fn into_subject(self) -> Subject {
        let (cid, id) = match self.body {
            Body::Uplink(uplink) => match uplink {
                Uplink::Sync(device) => (device.cid.into(), None),
                Uplink::Report(Property { cid, id, .. }) => (cid, Some(id)),
                Uplink::Status(statuses) => {
                    return statuses.into_iter().next().map(Subject::from).unwrap_or_default();
                }
                Uplink::CommandResponse(answer) => (answer.cid.into(), None),
                Uplink::AsGiven { cid, .. } => (cid.into(), None),
            },
            Body::Command(Command { cid, points }) => {
                (cid.into(), points.into_iter().next().map(|(id, _)| id.into()))
            }
        };
        Subject { cid, id, status: None, entry: self.entry }
    }
}

/// What one result line speaks of.
#[derive(Clone, Debug, Default)]
pub struct Subject {
    /// The device.
    pub cid: SmolStr,
    /// The data point's id, for reports and commands.
    pub id: Option<SmolStr>,
    /// The status, for status reports.
    pub status: Option<bool>,
    /// Which of the `properties` of its input it is, for reports and commands.
    pub entry: Option<usize>,
}

impl From<DeviceStatus> for Subject {
    fn from(DeviceStatus { cid, status }: DeviceStatus) -> Self {
        Self { cid: cid.into(), status: Some(status), ..Self::default() }
    }
}

/// The message of an item.
#[derive(Debug)]
pub enum Body {
    /// A gateway's message.
    Uplink(Uplink),
    /// A platform's command.
    Command(Command),
}

/// Why an input, or one data point of it, is not sent.
#[derive(Debug, Default)]
pub struct Invalid {
    /// The field at fault.
    pub field: Option<String>,
    /// What is wrong.
    pub message: String,
    /// The device, where the input names one.
    pub cid: Option<String>,
    /// The data point, where the input names one.
    pub id: Option<String>,
    /// Which of the `properties` of its input is at fault.
    pub entry: Option<usize>,
}

impl Invalid {
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
pub struct Operations {
    /// The product whose data points are reported and commanded.
    pub product: Product,
    /// Whether values are checked against the product before they are sent.
    pub check: bool,
    /// How values are written.
    pub encoding: ValueEncoding,
}

impl Operations {
    /// Adds to `asked` what one value of the input asks for.
    pub fn take(&self, operation: Operation, input: Input<'_>, asked: &mut Vec<Asked>) {
        self.take_for(Ok(operation), input, asked);
    }

    /// As [`Operations::take`], for uplinks: the operation is what the value itself names as its `op`.
    pub fn take_uplink(&self, input: Input<'_>, asked: &mut Vec<Asked>) {
        let operation = match &input.content {
            Content::Json(text) => operation_of(text),
            Content::Fields(_) | Content::Broken(..) => Ok(Operation::Report),
        };
        self.take_for(operation, input, asked);
    }

    fn take_for(&self, operation: Result<Operation, Invalid>, input: Input<'_>, asked: &mut Vec<Asked>) {
        let mut size = input.size();
        let line = input.line;
        let named = operation.as_ref().ok().copied();
        let (text, items) = match (input.content, operation) {
            (Content::Json(text), Ok(operation)) => {
                let items = self.read(operation, &text);
                (text.into(), items)
            }
            (Content::Json(text), Err(invalid)) => (text.into(), Items::One(Err(invalid))),
            (Content::Broken(text, invalid), _) => (Arc::from(text), Items::One(Err(invalid))),
            (Content::Fields(fields), operation) => {
                let (text, invalid) = self.json_of_fields(named, fields);
                let items = match (invalid, operation) {
                    (Some(invalid), _) | (None, Err(invalid)) => Items::One(Err(invalid)),
                    (None, Ok(operation)) => self.read(operation, &text),
                };
                (text.into(), items)
            }
        };
        let operation = named.unwrap_or(Operation::Report);
        let mut add = |item| {
            let size = std::mem::take(&mut size);
            asked.push(Asked { operation, line, text: Arc::clone(&text), size, item });
        };
        match items {
            Items::One(item) => add(item),
            Items::Several(items) => items.into_iter().for_each(add),
        }
    }

    /// The messages that one input value asks for, in its order.
    fn read(&self, operation: Operation, json: &str) -> Items {
        let read = |json| {
            let object = Object::parse(json)?;
            if object.get("ok").is_none() {
                return Ok(self.read_object(operation, &object, json));
            }
            let Some(former) = object.get("input") else {
                return Err(Invalid::new(
                    "input",
                    "a result line that was accepted has no input to send again",
                ));
            };
            let object = Object::parse(former)?;
            if object.get("ok").is_some() {
                return Err(Invalid::new("input", "the input of a result line must not be another one"));
            }
            Ok(self.read_object(operation, &object, former))
        };
        read(json).unwrap_or_else(|invalid| Items::One(Err(invalid)))
    }

    fn read_object(&self, operation: Operation, object: &Object<'_>, json: &str) -> Items {
        if let Some(op) = object.get("op")
            && text_of(op).as_deref() != Some(operation.name())
        {
            return Items::One(Err(Invalid::new("op", format!("op must be {:?} here", operation.name()))));
        }
        if object.get("param").is_some() {
            return Items::One(self.message(operation, object));
        }
        match operation {
            Operation::Sync => Items::One(self.sync(object, json)),
            Operation::Status => Items::One(status(object)),
            Operation::Report | Operation::Command => self.values(operation, object),
        }
    }

    /// A whole message of the protocol: its `t` and `request_id` are kept.
    fn message(&self, operation: Operation, object: &Object<'_>) -> Result<Item, Invalid> {
        object.only(match operation {
            Operation::Command => &["t", "request_id", "cid", "gateway_id", "param", "op"],
            Operation::Sync | Operation::Report | Operation::Status => &["t", "request_id", "param", "op"],
        })?;
        let param = object.get("param").unwrap_or("null");
        let within = || match Object::parse(param) {
            Err(Invalid { field: None, message, .. }) => Err(Invalid::new("param", message)),
            parsed => parsed,
        };
        let t = match object.get("t") {
            None => None,
            Some(raw) => {
                Some(raw.parse().map_err(|_| Invalid::new("t", "t must be an integer, a Unix time"))?)
            }
        };
        // An answer repeats it, and without one could not be told from others.
        let request_id = object.get("request_id").map(|_| object.required_text("request_id")).transpose()?;
        let mut item = match operation {
            Operation::Sync => self.sync(&within()?, param)?,
            Operation::Status if param.starts_with('[') => statuses(param)?,
            Operation::Status => status(&within()?)?,
            Operation::Report => {
                let inner = within()?;
                let cid = inner.required_text("cid")?;
                self.value(operation, &cid, None, &inner, &["cid", "id", "code", "value"])?
            }
            Operation::Command => {
                let cid = object.required_text("cid")?;
                self.value(operation, &cid, gateway_of(object)?, &within()?, &["id", "code", "value"])?
            }
        };
        item.t = t;
        item.request_id = request_id.map(Arc::from);
        Ok(item)
    }

    fn sync(&self, object: &Object<'_>, json: &str) -> Result<Item, Invalid> {
        let cid = object.required_text("cid")?;
        let item = |uplink| Item::new(Operation::Sync, Body::Uplink(uplink));
        if !self.check {
            let param = serde_json::from_str(json)
                .map_err(|why| Invalid { message: why.to_string(), ..Invalid::default() })?;
            return Ok(item(Uplink::AsGiven { channel: Channel::Sync, cid: cid.into_owned(), param }));
        }
        let known: Vec<_> = Device::FIELDS.into_iter().chain(["op"]).collect();
        object.only(&known).map_err(|invalid| invalid.of(&cid, None))?;
        let mut device = Device::decode(json).map_err(|error| {
            let field = error.field.trim_start_matches("param.").to_owned();
            let message = error.to_string().replace("param.", "");
            Invalid { field: Some(field), message, cid: Some(cid.to_string()), ..Invalid::default() }
        })?;
        // The edge activates no device without a name; its own guide says to take the cid then.
        device.device_name.get_or_insert_with(|| device.cid.clone());
        device.comm_type.get_or_insert_with(|| "mqtt".to_owned());
        Ok(item(Uplink::Sync(Box::new(device))))
    }

    /// The inputs of `report` and `command`: one data point, or several as `properties`.
    fn values(&self, operation: Operation, object: &Object<'_>) -> Items {
        // A gateway reports for itself; the platform commands any.
        let names_gateway = operation == Operation::Command;
        let head = || {
            let cid = object.required_text("cid")?;
            let gateway = if names_gateway { gateway_of(object)? } else { None };
            Ok((cid, gateway))
        };
        let (cid, gateway) = match head() {
            Ok(head) => head,
            Err(invalid) => return Items::One(Err(invalid)),
        };
        let known: &[&str] =
            &["gateway_id", "cid", "id", "code", "value", "op"][usize::from(!names_gateway)..];
        let Some(properties) = object.get("properties") else {
            return Items::One(self.value(operation, &cid, gateway, object, known));
        };
        let known: &[&str] = &["gateway_id", "cid", "properties", "op"][usize::from(!names_gateway)..];
        let entries = match object.only(known).and_then(|()| Object::parse(properties)) {
            Ok(entries) if !entries.0.is_empty() => entries,
            Ok(_) => {
                return Items::One(Err(Invalid::new("properties", "properties is empty").of(&cid, None)));
            }
            Err(invalid) => {
                let field = Some("properties".into());
                return Items::One(Err(Invalid { field, ..invalid }.of(&cid, None)));
            }
        };
        let items = entries.0.iter().enumerate().map(|(n, (name, value))| {
            match self.point(operation, &cid, gateway.clone(), name, value) {
                Ok(item) => Ok(Item { entry: Some(n), ..item }),
                Err(invalid) => {
                    Err(Invalid { field: Some(format!("properties.{name}")), entry: Some(n), ..invalid })
                }
            }
        });
        Items::Several(items.collect())
    }

    fn value(
        &self,
        operation: Operation,
        cid: &str,
        gateway: Option<GatewayId>,
        object: &Object<'_>,
        known: &[&str],
    ) -> Result<Item, Invalid> {
        let invalid = |invalid: Invalid| invalid.of(cid, None);
        object.only(known).map_err(invalid)?;
        let name = match (object.get("id"), object.get("code")) {
            (Some(id), None) => match id.parse::<u32>() {
                Ok(number) => number.to_string().into(),
                Err(_) => object.required_text("id").map_err(invalid)?,
            },
            (None, Some(_)) => object.required_text("code").map_err(invalid)?,
            (None, None) => {
                return Err(invalid(Invalid::new("id", "id or code of the data point is missing")));
            }
            (Some(_), Some(_)) => return Err(invalid(Invalid::new("code", "give id or code, not both"))),
        };
        let Some(value) = object.get("value") else {
            return Err(Invalid::new("value", "value is missing").of(cid, Some(&name)));
        };
        self.point(operation, cid, gateway, &name, value)
    }

    /// One data point's message, checked unless that is switched off.
    pub fn point(
        &self,
        operation: Operation,
        cid: &str,
        gateway: Option<GatewayId>,
        name: &str,
        value: &str,
    ) -> Result<Item, Invalid> {
        let id = self.product.find(name).map_or_else(|| name.into(), |point| decimal(point.id.into()));
        let value = if self.check {
            let point = match operation {
                Operation::Command => self.product.commanded(name),
                Operation::Sync | Operation::Report | Operation::Status => self.product.reported(name),
            };
            let at =
                |field: &str, misfit: &Misfit| Invalid::new(field, misfit.message.clone()).of(cid, Some(&id));
            let field = if name.bytes().all(|byte| byte.is_ascii_digit()) { "id" } else { "code" };
            let point = point.map_err(|misfit| at(field, &misfit))?;
            point.check(value, self.encoding).map_err(|misfit| at("value", &misfit))?
        } else {
            let is_wrapped = self.encoding == ValueEncoding::String && !value.starts_with('"');
            let json = if is_wrapped { quoted(value) } else { value.to_owned() };
            Json::parse(&json).map_err(|why| Invalid::new("value", why.to_string()).of(cid, Some(&id)))?
        };
        Ok(Self::item(operation, cid, gateway, id, value))
    }

    /// Where the inputs of `report` and `command` come from: `CODE=VALUE` arguments, or a file, or stdin. Of arguments
    /// that fit, though they are probably not meant, the console is told.
    ///
    /// # Errors
    /// Values without a device, a device without values, both values and a file, or a file that cannot be read.
    pub fn source(
        &self,
        cid: Option<&str>,
        args: &[String],
        format: Option<Format>,
        console: Console,
    ) -> Result<Source, Failure> {
        let (values, files): (Vec<_>, Vec<_>) = args.iter().partition(|arg| arg.contains('='));
        match (cid, values.is_empty(), files.as_slice()) {
            (Some(cid), false, []) => {
                values.iter().filter_map(|value| self.caution(value)).for_each(|why| console.warn(&why));
                let inputs = values.into_iter().map(|value| input_from_text(cid, value));
                Ok(Source::Flags(inputs.collect()))
            }
            (None, true, []) => Source::open(None, format),
            (None, true, [file]) => Source::open(Some(Path::new(file)), format),
            (None, true, _) => Err(Failure::invalid("give one FILE; `cat` joins several")),
            (None, false, _) => Err(Failure::invalid("CODE=VALUE needs the device: --cid CID")),
            (Some(_), true, []) => Err(Failure::invalid("--cid needs what to send: CODE=VALUE")),
            (Some(_), _, _) => Err(Failure::invalid("give --cid with CODE=VALUE, or a FILE, not both")
                .hint("An argument with = in it is CODE=VALUE; give a file of such a name on stdin")),
        }
    }

    /// What a `CODE=VALUE` argument probably does not mean.
    fn caution(&self, arg: &str) -> Option<String> {
        let (name, text) = arg.split_once('=')?;
        let point = self.product.find(name).filter(|_| self.check)?;
        point.caution(&point.from_text(text).ok()?)
    }

    /// Fields given as text, as the JSON that a line would have; and why not, where a value has no meaning.
    fn json_of_fields(
        &self,
        operation: Option<Operation>,
        fields: Vec<(String, String)>,
    ) -> (String, Option<Invalid>) {
        let field =
            |name: &str| fields.iter().find(|(known, _)| known == name).map(|(_, text)| text.as_str());
        let name = field("id").or_else(|| field("code"));
        let mut invalid = None;
        let mut value_of = |text: &str| {
            let point = name.and_then(|name| self.product.find(name));
            match point.filter(|_| self.check).map(|point| (point, point.from_text(text))) {
                Some((_, Ok(value))) => value.get().to_owned(),
                Some((point, Err(misfit))) => {
                    let cid = field("cid").unwrap_or_default();
                    invalid =
                        Some(Invalid::new("value", misfit.message).of(cid, Some(&point.id.to_string())));
                    quoted(text)
                }
                // Without a check the text is JSON where it can be, and a string otherwise.
                None => json_or_quoted(text),
            }
        };
        let json = fields.iter().map(|(key, text)| {
            let value = match key.as_str() {
                "value" => value_of(text),
                "status" if operation == Some(Operation::Status) => json_or_quoted(text),
                _ => quoted(text),
            };
            (key.clone(), value)
        });
        let json = json_of(json);
        (json, invalid)
    }

    fn item(
        operation: Operation,
        cid: &str,
        gateway_id: Option<GatewayId>,
        id: SmolStr,
        value: DataPointValue,
    ) -> Item {
        let body = if operation == Operation::Command {
            Body::Command(Command { cid: cid.to_owned(), points: vec![(id.into(), value)] })
        } else {
            Body::Uplink(Uplink::Report(Property { cid: cid.into(), id, value }))
        };
        Item { gateway_id, ..Item::new(operation, body) }
    }
}

/// The operation that an input names in its own `op`: a sync, a report or a status.
fn operation_of(json: &str) -> Result<Operation, Invalid> {
    let object = Object::parse(json)?;
    let Some(op) = object.get("op").and_then(text_of) else {
        return Err(Invalid::new("op", "op is missing: sync, report or status"));
    };
    let uplinks = [Operation::Sync, Operation::Report, Operation::Status];
    let known = uplinks.into_iter().find(|operation| operation.name() == op);
    known.ok_or_else(|| Invalid::new("op", "op must be sync, report or status"))
}

/// A status report of devices, as one message.
#[must_use]
pub fn status_item(statuses: Vec<DeviceStatus>) -> Item {
    Item::new(Operation::Status, Body::Uplink(Uplink::Status(statuses)))
}

/// What a failed result line gives back of its input, so that feeding it in sends nothing else again: of several
/// `properties` the one in question, of a former run's result line its own input; `None` where that is all of it.
#[must_use]
pub fn echo(input: &str, entry: Option<usize>) -> Option<String> {
    let mut object = Object::parse(input).ok()?;
    let former = object.get("input").filter(|_| object.get("ok").is_some());
    if let Some(former) = former {
        match Object::parse(former) {
            Ok(inner) if entry.is_some() => object = inner,
            Ok(_) | Err(_) => return Some(former.to_owned()),
        }
    }
    let entries = Object::parse(object.get("properties")?).ok()?;
    let (name, value) = entries.0.get(entry?)?;
    let key = if name.bytes().all(|byte| byte.is_ascii_digit()) { "id" } else { "code" };
    let head = ["op", "gateway_id", "cid"];
    let head = head.into_iter().filter_map(|name| Some((name, object.get(name)?.to_owned())));
    let point = [(key, quoted(name)), ("value", (*value).to_owned())];
    Some(json_of(head.chain(point).map(|(key, value)| (key.to_owned(), value))))
}

/// The request id that an input gives itself, so that the line of one that is not sent carries it as well.
#[must_use]
pub fn request_id_of(input: &str) -> Option<String> {
    let object = Object::parse(input).ok()?;
    let former = object.get("input").filter(|_| object.get("ok").is_some());
    let own = match former {
        Some(former) => Object::parse(former).ok()?.get("request_id")?.to_owned(),
        None => object.get("request_id")?.to_owned(),
    };
    serde_json::from_str(&own).ok().filter(|id: &String| !id.is_empty())
}

fn status(object: &Object<'_>) -> Result<Item, Invalid> {
    Ok(status_item(vec![device_status(object)?]))
}

fn statuses(param: &str) -> Result<Item, Invalid> {
    let elements: Vec<&RawValue> = serde_json::from_str(param)
        .map_err(|_| Invalid::new("param", "param must be an array of objects"))?;
    if elements.is_empty() {
        return Err(Invalid::new("param", "param is empty"));
    }
    elements
        .into_iter()
        .map(|element| device_status(&Object::parse(element.get())?))
        .collect::<Result<_, _>>()
        .map(status_item)
}

fn device_status(object: &Object<'_>) -> Result<DeviceStatus, Invalid> {
    let cid = object.required_text("cid")?;
    object.only(&["cid", "status", "op"]).map_err(|invalid| invalid.of(&cid, None))?;
    match object.get("status") {
        Some("true") => Ok(DeviceStatus { cid: cid.into_owned(), status: true }),
        Some("false") => Ok(DeviceStatus { cid: cid.into_owned(), status: false }),
        Some(_) => Err(Invalid::new("status", "status must be true or false").of(&cid, None)),
        None => Err(Invalid::new("status", "status is missing").of(&cid, None)),
    }
}

fn gateway_of(object: &Object<'_>) -> Result<Option<GatewayId>, Invalid> {
    object
        .optional_text("gateway_id")?
        .map(|id| GatewayId::new(id).map_err(|why| Invalid::new("gateway_id", why.to_string())))
        .transpose()
}

/// A `CODE=VALUE` argument as an input: what a row of CSV would say.
fn input_from_text(cid: &str, arg: &str) -> Input<'static> {
    let (name, text) = arg.split_once('=').unwrap_or((arg, ""));
    let key = if name.bytes().all(|byte| byte.is_ascii_digit()) { "id" } else { "code" };
    let fields = [("cid", cid), (key, name), ("value", text)];
    let fields = fields.map(|(key, text)| (key.to_owned(), text.to_owned()));
    Input { line: None, content: Content::Fields(fields.into()) }
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
    serde_json::Value::from(text).to_string()
}

/// A JSON object of these entries, in their order; the values are JSON text.
fn json_of(entries: impl Iterator<Item = (String, String)>) -> String {
    let mut json = String::from("{");
    for (key, value) in entries {
        if json.len() > 1 {
            json.push(',');
        }
        json.push_str(&quoted(&key));
        json.push(':');
        json.push_str(&value);
    }
    json.push('}');
    json
}

/// The messages that one value asks for; nearly always one.
enum Items {
    One(Result<Item, Invalid>),
    Several(Vec<Result<Item, Invalid>>),
}

/// A JSON object's entries, borrowed and in order.
struct Object<'a>(Vec<(Cow<'a, str>, &'a str)>);

impl<'a> Object<'a> {
    fn parse(json: &'a str) -> Result<Self, Invalid> {
        if !json.starts_with('{') {
            return Err(Invalid { message: "the value must be a JSON object".into(), ..Invalid::default() });
        }
        let mut members = Vec::with_capacity(4);
        let object = match each_member(json, |name, value| members.push((Cow::Borrowed(name), value))) {
            Some(()) => Self(members),
            None => serde_json::from_str(json)
                .map_err(|why| Invalid { message: why.to_string(), ..Invalid::default() })?,
        };
        for (n, (name, _)) in object.0.iter().enumerate() {
            if object.0[..n].iter().any(|(other, _)| other == name) {
                return Err(Invalid::new(name, format!("{name} stands twice")));
            }
        }
        Ok(object)
    }

    fn get(&self, name: &str) -> Option<&'a str> {
        self.0.iter().find(|(key, _)| key == name).map(|(_, value)| *value)
    }

    fn required_text(&self, name: &str) -> Result<Cow<'a, str>, Invalid> {
        match self.optional_text(name)? {
            Some(text) if text.is_empty() => Err(Invalid::new(name, format!("{name} is empty"))),
            Some(text) => Ok(text),
            None => Err(Invalid::new(name, format!("{name} is missing"))),
        }
    }

    fn optional_text(&self, name: &str) -> Result<Option<Cow<'a, str>>, Invalid> {
        let Some(raw) = self.get(name) else { return Ok(None) };
        match text_of(raw) {
            Some(text) => Ok(Some(text)),
            None => Err(Invalid::new(name, format!("{name} must be a string"))),
        }
    }

    /// Refuses a field that nobody would read, so that a slip of the pen is not lost silently.
    fn only(&self, known: &[&str]) -> Result<(), Invalid> {
        match self.0.iter().find(|(name, _)| !known.contains(&name.as_ref())) {
            None => Ok(()),
            Some((name, _)) => {
                let listed: Vec<_> = known.iter().filter(|name| **name != "op").copied().collect();
                Err(Invalid::new(
                    name,
                    format!("{name} is no field of this input; its fields are {}", listed.join(", ")),
                ))
            }
        }
    }
}

impl<'de: 'a, 'a> Deserialize<'de> for Object<'a> {
    fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Entries;
        impl<'de> serde::de::Visitor<'de> for Entries {
            type Value = Object<'de>;
            fn expecting(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
                f.write_str("an object")
            }
            fn visit_map<A: serde::de::MapAccess<'de>>(self, mut map: A) -> Result<Object<'de>, A::Error> {
                let mut entries = Vec::new();
                while let Some(Name(name)) = map.next_key()? {
                    entries.push((name, map.next_value::<&RawValue>()?.get()));
                }
                Ok(Object(entries))
            }
        }
        deserializer.deserialize_map(Entries)
    }
}

/// A key that is borrowed where it has no escapes.
#[derive(Deserialize)]
struct Name<'a>(#[serde(borrow)] Cow<'a, str>);
