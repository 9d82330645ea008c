//! Reports and answers as nearly all of them are, read in one pass without a copy: plain objects with no field but the
//! page's, each once, texts and integers where the page has them. What is not of this shape is for the careful reading
//! to understand, or to say what is wrong with it.

use super::{Answer, Envelope, Property, ResultCode, Uplink};
use crate::json::{Json, each_member};

/// A report that lies in its payload.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct BorrowedReport<'a> {
    /// The message's time stamp.
    pub t: i64,
    /// What the answer repeats.
    pub request_id: &'a str,
    /// The device.
    pub cid: &'a str,
    /// The data point's id.
    pub id: &'a str,
    /// The data point's value, as JSON text.
    pub value: &'a str,
}

impl<'a> BorrowedReport<'a> {
    /// Reads a report of the usual shape, whose payload then is one JSON value that is not nested deeply.
    ///
    /// `None` does not mean that the payload is no report: what it is, [`Envelope::decode`] finds out.
    #[must_use]
    pub fn read(payload: &'a [u8]) -> Option<Self> {
        let message = Message::read(payload)?;
        let param = Param::read(message.param?)?;
        Some(Self {
            t: message.t?,
            request_id: not_empty(message.request_id)?,
            cid: not_empty(param.cid)?,
            id: not_empty(param.id)?,
            value: param.value.filter(|value| *value != "null")?,
        })
    }

    pub(super) fn to_owned(self) -> Option<Envelope<Uplink>> {
        let value = Json::parse(self.value).ok()?;
        let property = Property { cid: self.cid.into(), id: self.id.into(), value };
        Some(Envelope { t: self.t, request_id: self.request_id.into(), body: Uplink::Report(property) })
    }
}

/// Reads an answer of the usual shape.
pub(super) fn answer(payload: &[u8]) -> Option<Envelope<Answer>> {
    let message = Message::read(payload)?;
    let param = Param::read(message.param?)?;
    let body = Answer {
        code: ResultCode(param.code?),
        cid: param.cid.or(message.cid).map(Into::into),
        msg: param.msg.unwrap_or_default().into(),
    };
    let request_id = not_empty(message.request_id)?.into();
    Some(Envelope { t: message.t.unwrap_or_default(), request_id, body })
}

#[derive(Default)]
struct Message<'a> {
    t: Option<i64>,
    cid: Option<&'a str>,
    request_id: Option<&'a str>,
    param: Option<&'a str>,
}

#[derive(Default)]
struct Param<'a> {
    cid: Option<&'a str>,
    id: Option<&'a str>,
    value: Option<&'a str>,
    code: Option<i64>,
    msg: Option<&'a str>,
}

impl<'a> Message<'a> {
    fn read(payload: &'a [u8]) -> Option<Self> {
        let mut found = Self::default();
        let mut is_usual = true;
        each_member(str::from_utf8(payload).ok()?, |key, value| {
            is_usual &= match key {
                "t" => once(&mut found.t, integer(value)),
                "cid" => once(&mut found.cid, text(value)),
                "request_id" => once(&mut found.request_id, text(value)),
                "param" => once(&mut found.param, Some(value)),
                _ => false,
            };
        })?;
        is_usual.then_some(found)
    }
}

impl<'a> Param<'a> {
    fn read(param: &'a str) -> Option<Self> {
        let mut found = Self::default();
        let mut is_usual = true;
        each_member(param, |key, value| {
            is_usual &= match key {
                "cid" => once(&mut found.cid, text(value)),
                "id" => once(&mut found.id, text(value)),
                "value" => once(&mut found.value, Some(value)),
                "code" => once(&mut found.code, integer(value)),
                "msg" => once(&mut found.msg, text(value)),
                _ => false,
            };
        })?;
        is_usual.then_some(found)
    }
}

/// Sets a field; `false` where it is set already, or has not the type that it should have.
fn once<T>(field: &mut Option<T>, value: Option<T>) -> bool {
    let is_first = field.is_none();
    *field = value;
    is_first && field.is_some()
}

/// What a text of a plain object holds: it has no escapes.
fn text(json: &str) -> Option<&str> {
    json.strip_prefix('"')?.strip_suffix('"')
}

fn integer(json: &str) -> Option<i64> {
    json.parse().ok()
}

fn not_empty(text: Option<&str>) -> Option<&str> {
    text.filter(|text| !text.is_empty())
}
