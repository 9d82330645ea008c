//! Reports and answers as nearly all are: objects with the page's fields only, each once, of the page's types, without an
//! escape in a text. serde reads them in one pass without a copy. Everything else is for [`wire`](super::wire), which also says
//! what is wrong.
//!
//! With `wire` alone, an edge spends 42 % more processor time on each report, and `report --window 1000` 14 % more (100,000
//! reports on loopback, 16 rounds in turns). The rows "decode a report" and "decode an answer" of `benches/core.rs` measure it.

use serde::Deserialize;
use serde_json::value::RawValue;

use crate::json::{ObjectOnly, too_deep};

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
    /// Reads a report of the usual form, whose payload then is one JSON value of at most 100 levels.
    ///
    /// `None` does not mean that the payload is no report: [`Envelope::decode`](super::Envelope::decode) decides.
    #[must_use]
    pub fn read(payload: &'a [u8]) -> Option<Self> {
        let Report { t, request_id, param: ObjectOnly(ReportParam { cid, id, value }) } = read(payload)?;
        let value = value.get();
        let is_complete = !request_id.is_empty() && !cid.is_empty() && !id.is_empty() && value != "null";
        is_complete.then_some(Self { t, request_id, cid, id, value })
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
        let AnswerMessage { t, cid: outer_cid, request_id, param: ObjectOnly(param) } = read(payload)?;
        let AnswerParam { cid, code, msg } = param;
        let msg = msg.unwrap_or_default();
        (!request_id.is_empty()).then_some(Self { t, request_id, cid: cid.or(outer_cid), code, msg })
    }
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Report<'a> {
    t: i64,
    request_id: &'a str,
    #[serde(borrow)]
    param: ObjectOnly<ReportParam<'a>>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct ReportParam<'a> {
    cid: &'a str,
    id: &'a str,
    #[serde(borrow)]
    value: &'a RawValue,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct AnswerMessage<'a> {
    #[serde(default)]
    t: i64,
    cid: Option<&'a str>,
    request_id: &'a str,
    #[serde(borrow)]
    param: ObjectOnly<AnswerParam<'a>>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct AnswerParam<'a> {
    cid: Option<&'a str>,
    code: i64,
    msg: Option<&'a str>,
}

fn read<'a, T: Deserialize<'a>>(payload: &'a [u8]) -> Option<T> {
    if too_deep(payload).is_some() {
        return None;
    }
    let ObjectOnly(message) = serde_json::from_str(str::from_utf8(payload).ok()?).ok()?;
    Some(message)
}
