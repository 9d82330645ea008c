//! Fields that several operations share.

use std::ops::Range;

use serde_json::value::RawValue;

use super::{
    error::InputError,
    identifier,
    json_text::push_member,
    kind::RequestKind,
    object::InputObject,
    parsed_input::{Request, status_request},
};
use crate::{
    json::text_of,
    tuya::{DeviceStatus, GatewayId},
};

/// The operation that an input names in its own `op`: a sync, a report or a status.
pub(super) fn operation_of(json: &str) -> Result<RequestKind, InputError> {
    let object = InputObject::parse(json)?;
    let Some(op) = object.get("op").and_then(text_of) else {
        return Err(InputError::new("op", "op is missing: sync, report or status"));
    };
    let uplinks = [RequestKind::Sync, RequestKind::Report, RequestKind::Status];
    let known = uplinks.into_iter().find(|kind| kind.name() == op);
    known.ok_or_else(|| InputError::new("op", "op must be sync, report or status"))
}

/// The fields of one device in a status message.
pub(super) const STATUS_FIELDS: &[&str] = &["cid", "status", "op"];

/// The time stamp that an input gives.
pub(super) fn t_of(object: &InputObject<'_>) -> Result<Option<i64>, InputError> {
    let t = object.get("t").map(|raw| raw.parse().map_err(|_| "t must be an integer, a Unix time"));
    t.transpose().map_err(|message| InputError::new("t", message))
}

/// The fields of an object with these names, as the beginning of another one.
pub(super) fn head_of(object: &InputObject<'_>, names: &[&str]) -> String {
    let mut json = String::from("{");
    for name in names {
        if let Some(value) = object.get(name) {
            push_member(&mut json, name, value);
        }
    }
    json
}

/// Where a part of a text stands in it.
pub(super) fn place(text: &str, part: &str) -> Range<usize> {
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

pub(super) fn statuses(param: &str) -> Result<Request, InputError> {
    let elements: Vec<&RawValue> = serde_json::from_str(param)
        .map_err(|_| InputError::new("param", "param must be an array of objects"))?;
    if elements.is_empty() {
        return Err(InputError::new("param", "param is empty"));
    }
    elements
        .into_iter()
        .map(|element| device_status(&InputObject::parse(element.get())?, STATUS_FIELDS))
        .collect::<Result<_, _>>()
        .map(status_request)
}

pub(super) fn device_status(object: &InputObject<'_>, known: &[&str]) -> Result<DeviceStatus, InputError> {
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

pub(super) fn gateway_of(object: &InputObject<'_>) -> Result<Option<GatewayId>, InputError> {
    object
        .optional_text("gateway_id")?
        .map(|id| {
            identifier::check("gateway_id", &id).map_err(|message| InputError::new("gateway_id", message))?;
            GatewayId::new(id).map_err(|why| InputError::new("gateway_id", why.to_string()))
        })
        .transpose()
}
