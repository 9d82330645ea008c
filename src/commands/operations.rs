//! From an input value to the messages it asks for: the input table of `sync`, `report`, `status` and `command`.

use std::{
    borrow::Cow,
    path::{Path, PathBuf},
};

use serde::{Deserialize, Serialize};
use serde_json::value::RawValue;

use super::{
    input::{Content, Format, Input, Source},
    model,
};
use crate::{
    failure::Failure,
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

/// One message that an input asks for.
#[derive(Debug)]
pub struct Item {
    /// What it does.
    pub operation: Operation,
    /// The gateway, where the input names one.
    pub gateway_id: Option<GatewayId>,
    /// What the result lines speak of: one entry a line.
    pub subjects: Vec<Subject>,
    /// The time stamp that a whole message brought along.
    pub t: Option<i64>,
    /// The request id that a whole message brought along.
    pub request_id: Option<String>,
    /// The message.
    pub body: Body,
}

/// What one result line speaks of.
#[derive(Clone, Debug, Default)]
pub struct Subject {
    /// The device.
    pub cid: String,
    /// The data point's id, for reports and commands.
    pub id: Option<String>,
    /// The status, for status reports.
    pub status: Option<bool>,
    /// Which of the `properties` of its input it is, for reports and commands.
    pub entry: Option<usize>,
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
    /// The messages that one input value asks for, in its order.
    #[must_use]
    pub fn read(&self, operation: Operation, input: &RawValue) -> Vec<Result<Item, Invalid>> {
        match Object::parse(input) {
            Ok(object) => self.read_object(operation, &object, input),
            Err(invalid) => vec![Err(invalid)],
        }
    }

    /// The operation that an input names in its own `op`: a sync, a report or a status.
    pub fn operation_of(input: &RawValue) -> Result<Operation, Invalid> {
        let object = Object::parse(input)?;
        let Some(op) = object.get("op").and_then(text_of) else {
            return Err(Invalid::new("op", "op is missing: sync, report or status"));
        };
        let uplinks = [Operation::Sync, Operation::Report, Operation::Status];
        let known = uplinks.into_iter().find(|operation| operation.name() == op);
        known.ok_or_else(|| Invalid::new("op", "op must be sync, report or status"))
    }

    fn read_object(
        &self,
        operation: Operation,
        object: &Object<'_>,
        input: &RawValue,
    ) -> Vec<Result<Item, Invalid>> {
        if object.get("ok").is_some()
            && let Some(former) = object.get("input")
        {
            return self.read(operation, former);
        }
        if let Some(op) = object.get("op")
            && text_of(op).as_deref() != Some(operation.name())
        {
            return vec![Err(Invalid::new("op", format!("op must be {:?} here", operation.name())))];
        }
        if object.get("param").is_some() {
            return vec![self.message(operation, object)];
        }
        match operation {
            Operation::Sync => vec![self.sync(object, input)],
            Operation::Status => vec![status(object)],
            Operation::Report | Operation::Command => self.values(operation, object),
        }
    }

    /// A whole message of the protocol: its `t` and `request_id` are kept.
    fn message(&self, operation: Operation, object: &Object<'_>) -> Result<Item, Invalid> {
        object.only(&["t", "request_id", "cid", "gateway_id", "param", "op"])?;
        let param = object.get("param").unwrap_or(RawValue::NULL);
        let t = match object.get("t") {
            None => None,
            Some(raw) => {
                Some(raw.get().parse().map_err(|_| Invalid::new("t", "t must be an integer, a Unix time"))?)
            }
        };
        let request_id = object.optional_text("request_id")?;
        let mut item = match operation {
            Operation::Sync => self.sync(&Object::parse(param)?, param)?,
            Operation::Status if param.get().starts_with('[') => statuses(param)?,
            Operation::Status => status(&Object::parse(param)?)?,
            Operation::Report | Operation::Command => {
                let inner = Object::parse(param)?;
                let outer = if operation == Operation::Command { object } else { &inner };
                let cid = outer.required_text("cid")?;
                self.value(operation, &cid, gateway_of(object)?, &inner)?
            }
        };
        item.t = t;
        item.request_id = request_id;
        Ok(item)
    }

    fn sync(&self, object: &Object<'_>, input: &RawValue) -> Result<Item, Invalid> {
        let cid = object.required_text("cid")?;
        let item = |body| Item {
            operation: Operation::Sync,
            gateway_id: None,
            subjects: vec![Subject { cid: cid.clone(), ..Subject::default() }],
            t: None,
            request_id: None,
            body: Body::Uplink(body),
        };
        if !self.check {
            return Ok(item(Uplink::AsGiven { channel: Channel::Sync, param: input.to_owned() }));
        }
        let known: Vec<_> = Device::FIELDS.into_iter().chain(["op"]).collect();
        object.only(&known).map_err(|invalid| invalid.of(&cid, None))?;
        let mut device = Device::decode(input).map_err(|error| {
            let field = error.field.trim_start_matches("param.").to_owned();
            let message = error.to_string().replace("param.", "");
            Invalid { field: Some(field), message, cid: Some(cid.clone()), ..Invalid::default() }
        })?;
        // The edge activates no device without a name; its own guide says to take the cid then.
        device.device_name.get_or_insert_with(|| device.cid.clone());
        device.comm_type.get_or_insert_with(|| "mqtt".to_owned());
        Ok(item(Uplink::Sync(Box::new(device))))
    }

    /// The inputs of `report` and `command`: one data point, or several as `properties`.
    fn values(&self, operation: Operation, object: &Object<'_>) -> Vec<Result<Item, Invalid>> {
        let head = || {
            let cid = object.required_text("cid")?;
            let gateway = if operation == Operation::Command { gateway_of(object)? } else { None };
            Ok((cid, gateway))
        };
        let (cid, gateway) = match head() {
            Ok(head) => head,
            Err(invalid) => return vec![Err(invalid)],
        };
        let Some(properties) = object.get("properties") else {
            return vec![self.value(operation, &cid, gateway, object)];
        };
        let entries = match object
            .only(&["cid", "gateway_id", "properties", "op"])
            .and_then(|()| Object::parse(properties))
        {
            Ok(entries) if !entries.0.is_empty() => entries,
            Ok(_) => return vec![Err(Invalid::new("properties", "properties is empty").of(&cid, None))],
            Err(invalid) => {
                return vec![Err(Invalid { field: Some("properties".into()), ..invalid }.of(&cid, None))];
            }
        };
        entries
            .0
            .iter()
            .enumerate()
            .map(|(n, (name, value))| {
                let mut item =
                    self.point(operation, &cid, gateway.clone(), name, value).map_err(|invalid| Invalid {
                        field: Some(format!("properties.{name}")),
                        entry: Some(n),
                        ..invalid
                    })?;
                item.subjects.iter_mut().for_each(|subject| subject.entry = Some(n));
                Ok(item)
            })
            .collect()
    }

    fn value(
        &self,
        operation: Operation,
        cid: &str,
        gateway: Option<GatewayId>,
        object: &Object<'_>,
    ) -> Result<Item, Invalid> {
        let invalid = |invalid: Invalid| invalid.of(cid, None);
        object.only(&["cid", "gateway_id", "id", "code", "value", "op"]).map_err(invalid)?;
        let name = match (object.get("id"), object.get("code")) {
            (Some(id), None) => match id.get().parse::<u32>() {
                Ok(number) => number.to_string(),
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
        value: &RawValue,
    ) -> Result<Item, Invalid> {
        let id = self.product.find(name).map_or_else(|| name.to_owned(), |point| point.id.to_string());
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
            value.to_owned()
        };
        Ok(Self::item(operation, cid, gateway, id, value))
    }

    /// Where the inputs of `report` and `command` come from: `CODE=VALUE` arguments, or a file, or stdin.
    ///
    /// # Errors
    /// Values without a device, a device without values, both values and a file, or a file that cannot be read.
    pub fn source(cid: Option<&str>, args: &[String], format: Option<Format>) -> Result<Source, Failure> {
        let (values, files): (Vec<_>, Vec<_>) = args.iter().partition(|arg| arg.contains('='));
        match (cid, values.is_empty(), files.as_slice()) {
            (Some(cid), false, []) => {
                let inputs = values.into_iter().map(|value| input_from_text(cid, value));
                Ok(Source::Flags(Some(inputs.collect())))
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

    /// The messages that an input asks for, and its JSON text for the result lines.
    #[must_use]
    pub fn take(
        &self,
        operation: Operation,
        content: Content,
    ) -> (Vec<Result<Item, Invalid>>, Box<RawValue>) {
        match content {
            Content::Json(text) => (self.read(operation, &text), text),
            Content::Broken(text, invalid) => (vec![Err(invalid)], text),
            Content::Fields(fields) => {
                let (text, invalid) = self.json_of_fields(operation, fields);
                match invalid {
                    Some(invalid) => (vec![Err(invalid)], text),
                    None => (self.read(operation, &text), text),
                }
            }
        }
    }

    /// Fields given as text, as the JSON that a line would have; and why not, where a value has no meaning.
    fn json_of_fields(
        &self,
        operation: Operation,
        fields: Vec<(String, String)>,
    ) -> (Box<RawValue>, Option<Invalid>) {
        let field =
            |name: &str| fields.iter().find(|(known, _)| known == name).map(|(_, text)| text.as_str());
        let name = field("id").or_else(|| field("code"));
        let mut invalid = None;
        let mut value_of = |text: &str| {
            let point = name.and_then(|name| self.product.find(name));
            match point.filter(|_| self.check).map(|point| (point, point.from_text(text))) {
                Some((_, Ok(value))) => value,
                Some((point, Err(misfit))) => {
                    let cid = field("cid").unwrap_or_default();
                    invalid =
                        Some(Invalid::new("value", misfit.message).of(cid, Some(&point.id.to_string())));
                    quoted(text)
                }
                // Without a check the text is JSON where it can be, and a string otherwise.
                None => RawValue::from_string(text.to_owned()).unwrap_or_else(|_| quoted(text)),
            }
        };
        let json = fields.iter().map(|(key, text)| {
            let value = match key.as_str() {
                "value" => value_of(text),
                "status" if operation == Operation::Status => {
                    RawValue::from_string(text.clone()).unwrap_or_else(|_| quoted(text))
                }
                _ => quoted(text),
            };
            (key.clone(), value)
        });
        let json: Vec<(String, Box<RawValue>)> = json.collect();
        (
            serde_json::value::to_raw_value(&Fields(json)).unwrap_or_else(|_| RawValue::NULL.to_owned()),
            invalid,
        )
    }

    fn item(
        operation: Operation,
        cid: &str,
        gateway_id: Option<GatewayId>,
        id: String,
        value: DataPointValue,
    ) -> Item {
        let cid = cid.to_owned();
        let body = if operation == Operation::Command {
            Body::Command(Command { cid: cid.clone(), points: vec![(id.clone(), value)] })
        } else {
            Body::Uplink(Uplink::Report(Property { cid: cid.clone(), id: id.clone(), value }))
        };
        let subjects = vec![Subject { cid, id: Some(id), ..Subject::default() }];
        Item { operation, gateway_id, subjects, t: None, request_id: None, body }
    }
}

/// A status report of devices, as one message.
#[must_use]
pub fn status_item(statuses: Vec<DeviceStatus>) -> Item {
    let subject = |device: &DeviceStatus| Subject {
        cid: device.cid.clone(),
        status: Some(device.status),
        ..Subject::default()
    };
    Item {
        operation: Operation::Status,
        gateway_id: None,
        subjects: statuses.iter().map(subject).collect(),
        t: None,
        request_id: None,
        body: Body::Uplink(Uplink::Status(statuses)),
    }
}

/// What a failed result line gives back of its input, so that feeding it in sends nothing else again: of several
/// `properties` the one in question, of a former run's result line its own input; `None` where that is all of it.
#[must_use]
pub fn echo(input: &RawValue, entry: Option<usize>) -> Option<Box<RawValue>> {
    let object = Object::parse(input).ok()?;
    if object.get("ok").is_some()
        && let Some(former) = object.get("input")
    {
        return Some(echo(former, entry).unwrap_or_else(|| former.to_owned()));
    }
    let entries = Object::parse(object.get("properties")?).ok()?;
    let (name, value) = entries.0.get(entry?)?;
    let key = if name.bytes().all(|byte| byte.is_ascii_digit()) { "id" } else { "code" };
    let head = ["op", "gateway_id", "cid"];
    let head = head.into_iter().filter_map(|name| Some((name, object.get(name)?.to_owned())));
    let point = [(key, quoted(name)), ("value", (*value).to_owned())];
    let fields = head.chain(point).map(|(key, value)| (key.to_owned(), value)).collect();
    serde_json::value::to_raw_value(&Fields(fields)).ok()
}

fn status(object: &Object<'_>) -> Result<Item, Invalid> {
    Ok(status_item(vec![device_status(object)?]))
}

fn statuses(param: &RawValue) -> Result<Item, Invalid> {
    let elements: Vec<&RawValue> = serde_json::from_str(param.get())
        .map_err(|_| Invalid::new("param", "param must be an array of objects"))?;
    if elements.is_empty() {
        return Err(Invalid::new("param", "param is empty"));
    }
    elements
        .into_iter()
        .map(|element| device_status(&Object::parse(element)?))
        .collect::<Result<_, _>>()
        .map(status_item)
}

fn device_status(object: &Object<'_>) -> Result<DeviceStatus, Invalid> {
    let cid = object.required_text("cid")?;
    object.only(&["cid", "status", "op"]).map_err(|invalid| invalid.of(&cid, None))?;
    match object.get("status").map(RawValue::get) {
        Some("true") => Ok(DeviceStatus { cid, status: true }),
        Some("false") => Ok(DeviceStatus { cid, status: false }),
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

fn text_of(raw: &RawValue) -> Option<Cow<'_, str>> {
    serde_json::from_str(raw.get()).ok()
}

/// A `CODE=VALUE` argument as an input: what a row of CSV would say.
fn input_from_text(cid: &str, arg: &str) -> Input {
    let (name, text) = arg.split_once('=').unwrap_or((arg, ""));
    let key = if name.bytes().all(|byte| byte.is_ascii_digit()) { "id" } else { "code" };
    let fields = [("cid", cid), (key, name), ("value", text)];
    let fields = fields.map(|(key, text)| (key.to_owned(), text.to_owned()));
    Input { line: None, content: Content::Fields(fields.into()) }
}

fn quoted(text: &str) -> Box<RawValue> {
    serde_json::value::to_raw_value(text).unwrap_or_else(|_| RawValue::NULL.to_owned())
}

/// An object to be written, its entries in order.
struct Fields(Vec<(String, Box<RawValue>)>);

impl Serialize for Fields {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_map(self.0.iter().map(|(key, value)| (key, value)))
    }
}

/// A JSON object's entries, borrowed and in order.
struct Object<'a>(Vec<(Cow<'a, str>, &'a RawValue)>);

impl<'a> Object<'a> {
    fn parse(raw: &'a RawValue) -> Result<Self, Invalid> {
        if !raw.get().starts_with('{') {
            return Err(Invalid { message: "the value must be a JSON object".into(), ..Invalid::default() });
        }
        let object: Self = serde_json::from_str(raw.get())
            .map_err(|why| Invalid { message: why.to_string(), ..Invalid::default() })?;
        for (n, (name, _)) in object.0.iter().enumerate() {
            if object.0[..n].iter().any(|(other, _)| other == name) {
                return Err(Invalid::new(name, format!("{name} stands twice")));
            }
        }
        Ok(object)
    }

    fn get(&self, name: &str) -> Option<&'a RawValue> {
        self.0.iter().find(|(key, _)| key == name).map(|(_, value)| *value)
    }

    fn required_text(&self, name: &str) -> Result<String, Invalid> {
        match self.optional_text(name)? {
            Some(text) if text.is_empty() => Err(Invalid::new(name, format!("{name} is empty"))),
            Some(text) => Ok(text),
            None => Err(Invalid::new(name, format!("{name} is missing"))),
        }
    }

    fn optional_text(&self, name: &str) -> Result<Option<String>, Invalid> {
        let Some(raw) = self.get(name) else { return Ok(None) };
        match text_of(raw) {
            Some(text) => Ok(Some(text.into_owned())),
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
                    entries.push((name, map.next_value()?));
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
