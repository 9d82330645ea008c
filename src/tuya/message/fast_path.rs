//! Reports and answers as nearly all of them are, read in one pass without a copy: plain objects with no field but the
//! page's, each once, texts and integers where the page has them. What is not of this shape is for the careful reading
//! to understand, or to say what is wrong with it.

use crate::json::Scanner;

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
        let message = FastMessage::read(payload)?;
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

/// Reads an answer of the usual shape.
pub(super) fn answer(payload: &[u8]) -> Option<BorrowedAnswer<'_>> {
    let message = FastMessage::read(payload)?;
    let param = message.param?;
    Some(BorrowedAnswer {
        t: message.t.unwrap_or_default(),
        request_id: not_empty(message.request_id)?,
        cid: param.cid.or(message.cid),
        code: param.code?,
        msg: param.msg.unwrap_or_default(),
    })
}

#[derive(Default)]
struct FastMessage<'a> {
    t: Option<i64>,
    cid: Option<&'a str>,
    request_id: Option<&'a str>,
    param: Option<FastParam<'a>>,
}

#[derive(Default)]
struct FastParam<'a> {
    cid: Option<&'a str>,
    id: Option<&'a str>,
    value: Option<&'a str>,
    code: Option<i64>,
    msg: Option<&'a str>,
}

impl<'a> FastMessage<'a> {
    fn read(payload: &'a [u8]) -> Option<Self> {
        let mut message = Self::default();
        Scanner::read(str::from_utf8(payload).ok()?, |key, value| match key {
            "t" => once(&mut message.t, value.integer()?),
            "cid" => once(&mut message.cid, value.text()?),
            "request_id" => once(&mut message.request_id, value.text()?),
            "param" => once(&mut message.param, FastParam::read(value)?),
            _ => None,
        })?;
        Some(message)
    }
}

impl<'a> FastParam<'a> {
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
