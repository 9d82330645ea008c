//! Reports and answers as nearly all of them are, read in one pass without a copy: plain objects with no field but the
//! page's, each once, texts and integers where the page has them. What is not of this shape is for the careful reading
//! to understand, or to say what is wrong with it.

use super::{Answer, Envelope, Property, ResultCode, Uplink};
use crate::json::{Json, Scanner};

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
        let param = message.param?;
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
    let param = message.param?;
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
    param: Option<Param<'a>>,
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
        let mut message = Self::default();
        Scanner::read(str::from_utf8(payload).ok()?, |key, value| match key {
            "t" => once(&mut message.t, value.integer()?),
            "cid" => once(&mut message.cid, value.text()?),
            "request_id" => once(&mut message.request_id, value.text()?),
            "param" => once(&mut message.param, Param::read(value)?),
            _ => None,
        })?;
        Some(message)
    }
}

impl<'a> Param<'a> {
    fn read(value: &mut Scanner<'a>) -> Option<Self> {
        let mut param = Self::default();
        value.object(|key, value| match key {
            "cid" => once(&mut param.cid, value.text()?),
            "id" => once(&mut param.id, value.text()?),
            "value" => once(&mut param.value, value.json()?),
            "code" => once(&mut param.code, value.integer()?),
            "msg" => once(&mut param.msg, value.text()?),
            _ => None,
        })?;
        Some(param)
    }
}

/// Sets a field, unless it is set already.
fn once<T>(field: &mut Option<T>, value: T) -> Option<()> {
    field.replace(value).is_none().then_some(())
}

fn not_empty(text: Option<&str>) -> Option<&str> {
    text.filter(|text| !text.is_empty())
}
