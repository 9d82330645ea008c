//! Reports and answers as nearly all are: objects with the page's fields only, each once, of the page's types, without an
//! escape in a text. [`Scanner`] reads them in one pass without a copy. Everything else is for [`wire`](super::wire), which
//! also says what is wrong.
//!
//! A report with an escape in its value, which `wire` reads, takes an edge 2.2 times the instructions of one without. With a typed
//! serde struct in place of the scanner, an edge takes 1.05 times the instructions for a report, and `report --window 1000` 1.05
//! times for a line (callgrind, 20,000 reports on loopback). The rows "decode a report" and "decode an answer" of
//! `benches/core.rs` measure it.

use crate::json::Scanner;

/// A report that lies in its payload.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct BorrowedReport<'a> {
    /// The message's time stamp.
    pub t: i64,
    /// The id that the answer repeats.
    pub request_id: &'a str,
    /// The device.
    pub cid: &'a str,
    /// The data point's id.
    pub id: &'a str,
    /// The data point's value, as JSON text.
    pub value: &'a str,
}

impl<'a> BorrowedReport<'a> {
    /// Reads a report of the usual form, whose payload then is one plain JSON object.
    ///
    /// `None` does not mean that the payload is no report: [`Envelope::decode`](super::Envelope::decode) decides.
    #[must_use]
    pub fn read(payload: &'a [u8]) -> Option<Self> {
        let message = MessageFields::read(payload)?;
        let param = message.param?;
        Some(Self {
            t: message.t?,
            request_id: not_empty(message.request_id)?,
            cid: not_empty(param.cid)?,
            id: not_empty(param.id)?,
            value: param.value.filter(|value| *value != "null")?,
        })
    }
}

/// An answer that lies in its payload.
pub(super) struct BorrowedAnswer<'a> {
    pub t: i64,
    pub request_id: &'a str,
    pub cid: Option<&'a str>,
    pub code: i64,
    pub msg: &'a str,
}

impl<'a> BorrowedAnswer<'a> {
    /// Reads an answer of the usual form.
    pub fn read(payload: &'a [u8]) -> Option<Self> {
        let message = MessageFields::read(payload)?;
        let param = message.param?;
        Some(Self {
            t: message.t.unwrap_or_default(),
            request_id: not_empty(message.request_id)?,
            cid: param.cid.or(message.cid),
            code: param.code?,
            msg: param.msg.unwrap_or_default(),
        })
    }
}

#[derive(Default)]
struct MessageFields<'a> {
    t: Option<i64>,
    cid: Option<&'a str>,
    request_id: Option<&'a str>,
    param: Option<ParamFields<'a>>,
}

#[derive(Default)]
struct ParamFields<'a> {
    cid: Option<&'a str>,
    id: Option<&'a str>,
    value: Option<&'a str>,
    code: Option<i64>,
    msg: Option<&'a str>,
}

impl<'a> MessageFields<'a> {
    fn read(payload: &'a [u8]) -> Option<Self> {
        let mut message = Self::default();
        Scanner::read(str::from_utf8(payload).ok()?, |key, value| match key {
            "t" => set_once(&mut message.t, value.integer()?),
            "cid" => set_once(&mut message.cid, value.text()?),
            "request_id" => set_once(&mut message.request_id, value.text()?),
            "param" => set_once(&mut message.param, ParamFields::read(value)?),
            _ => None,
        })?;
        Some(message)
    }
}

impl<'a> ParamFields<'a> {
    fn read(value: &mut Scanner<'a>) -> Option<Self> {
        let mut param = Self::default();
        value.object(|key, value| match key {
            "cid" => set_once(&mut param.cid, value.text()?),
            "id" => set_once(&mut param.id, value.text()?),
            "value" => set_once(&mut param.value, value.json()?),
            "code" => set_once(&mut param.code, value.integer()?),
            "msg" => set_once(&mut param.msg, value.text()?),
            _ => None,
        })?;
        Some(param)
    }
}

/// Sets a field; `None` if it is set already.
fn set_once<T>(field: &mut Option<T>, value: T) -> Option<()> {
    field.replace(value).is_none().then_some(())
}

fn not_empty(text: Option<&str>) -> Option<&str> {
    text.filter(|text| !text.is_empty())
}
