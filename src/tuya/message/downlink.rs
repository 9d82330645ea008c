//! The messages from the edge to the gateway.

use smol_str::SmolStr;

use super::{
    DataPointValue,
    envelope::Envelope,
    error::{FieldError, Problem, Refused},
    fast_path::BorrowedAnswer,
    wire::{Field, WireMessage, WireParam, encode, push_answer, push_array, write},
};
use crate::{
    json::{ObjectMembers, ObjectWriter, key},
    tuya::{Channel, ResultCode},
};

/// A message from the edge to the gateway.
#[derive(Clone, Debug)]
pub enum Downlink {
    /// Answers a sync.
    SyncResponse(Answer),
    /// Answers a report.
    ReportResponse(Answer),
    /// Commands a device (page, "Send a command from the platform").
    Command(Command),
}

/// What the edge answers to a sync or a report.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Answer {
    /// The device; an answer that names none is still an answer.
    pub cid: Option<SmolStr>,
    /// The result: 0 is success.
    pub code: ResultCode,
    /// The edge's message, which may say more than the code.
    pub msg: SmolStr,
}

/// A command to one device. The page sends one data point; several are understood too.
#[derive(Clone, Debug)]
pub struct Command {
    /// The device.
    pub cid: String,
    /// The data points to set, by id, in the message's order; never empty.
    pub points: Vec<(String, DataPointValue)>,
}

impl Envelope<Downlink> {
    /// Decodes what arrived on a downlink topic.
    ///
    /// An answer needs its `request_id` and an integer `param.code`; a command its `request_id`, `cid` and
    /// at least one data point with a value.
    ///
    /// # Errors
    /// A required field that is missing, empty, null or of another type is named.
    pub fn decode(channel: Channel, payload: &[u8]) -> Result<Self, Refused> {
        WireMessage::decode(payload, |wire| match channel {
            Channel::SyncResponse => answer(&wire.param()?).map(Downlink::SyncResponse),
            Channel::ReportResponse => answer(&wire.param()?).map(Downlink::ReportResponse),
            Channel::Command => {
                let points = points(wire.param)?;
                Ok(Downlink::Command(Command { cid: wire.cid.text_not_empty("cid")?, points }))
            }
            Channel::Sync | Channel::CommandResponse | Channel::Report | Channel::Status => {
                Err(FieldError::new("", Problem::Type("a downlink")))
            }
        })
    }

    /// The topic on which this message travels.
    #[must_use]
    pub fn channel(&self) -> Channel {
        match &self.body {
            Downlink::SyncResponse(_) => Channel::SyncResponse,
            Downlink::ReportResponse(_) => Channel::ReportResponse,
            Downlink::Command(_) => Channel::Command,
        }
    }

    /// The message as JSON, keys in the page's order.
    #[must_use]
    pub fn encode(&self) -> Vec<u8> {
        self.body.encode(self.t, &self.request_id)
    }
}

impl Downlink {
    /// The whole message as JSON, keys in the page's order.
    #[must_use]
    pub fn encode(&self, t: i64, request_id: &str) -> Vec<u8> {
        match self {
            Downlink::SyncResponse(Answer { cid, code, msg })
            | Downlink::ReportResponse(Answer { cid, code, msg }) => {
                let mut out = Vec::with_capacity(192);
                write_answer(&mut out, t, request_id, cid.as_deref(), *code, msg);
                out
            }
            Downlink::Command(command) => command.encode(t, request_id),
        }
    }
}

impl Command {
    /// The whole message as JSON, keys in the page's order.
    #[must_use]
    pub fn encode(&self, t: i64, request_id: &str) -> Vec<u8> {
        let push_point = |out: &mut Vec<u8>, (id, value): &(String, DataPointValue)| {
            let mut point = ObjectWriter::new(out);
            point.text(key!(id), id);
            point.json(key!(value), value.get());
            point.end();
        };
        encode(t, request_id, Some(&self.cid), |out| match self.points.as_slice() {
            [point] => push_point(out, point),
            points => push_array(out, points, push_point),
        })
    }
}

impl From<BorrowedAnswer<'_>> for Envelope<Answer> {
    fn from(answer: BorrowedAnswer<'_>) -> Self {
        let BorrowedAnswer { t, request_id, cid, code, msg } = answer;
        let body = Answer { cid: cid.map(Into::into), code: ResultCode(code), msg: msg.into() };
        Self { t, request_id: request_id.into(), body }
    }
}

impl Envelope<Answer> {
    /// Decodes an answer of any kind: to a sync, to a report, or to a command, with its `cid` outside `param`.
    ///
    /// # Errors
    /// A missing `request_id` or a `param.code` that is no integer is named.
    pub fn decode(payload: &[u8]) -> Result<Self, Refused> {
        if let Some(answer) = BorrowedAnswer::read(payload).map(Envelope::from) {
            return Ok(answer);
        }
        WireMessage::decode(payload, |wire| {
            let mut answer = answer(&wire.param()?)?;
            if answer.cid.is_none() {
                answer.cid = wire.cid.text("cid").ok().map(SmolStr::from);
            }
            Ok(answer)
        })
    }
}

/// Appends an answer to a sync or a report: the whole message, from its parts.
pub fn write_answer(
    out: &mut Vec<u8>,
    t: i64,
    request_id: &str,
    cid: Option<&str>,
    code: ResultCode,
    msg: &str,
) {
    write(out, t, request_id, None, |out| push_answer(out, cid, msg, code));
}

pub(super) fn answer(param: &WireParam<'_>) -> Result<Answer, FieldError> {
    Ok(Answer {
        code: ResultCode(param.code.integer("param.code")?),
        cid: param.cid.text("param.cid").ok().map(SmolStr::from),
        msg: param.msg.text("param.msg").unwrap_or_default().into(),
    })
}

/// The page's one `id` and `value`; an array of them and `{"dps":{"1":…}}`, as the platform's own link has it,
/// are understood too.
fn points(param: Field<'_>) -> Result<Vec<(String, DataPointValue)>, FieldError> {
    let one = |place: &str, wire: &WireParam<'_>| -> Result<(String, DataPointValue), FieldError> {
        let id = wire.id.id(&format!("{place}.id"))?;
        Ok((id, wire.value.present(&format!("{place}.value"))?.into()))
    };
    let found: Vec<(String, DataPointValue)> = if param.present("param")?.get().starts_with('[') {
        let elements: Vec<Field<'_>> = param.parse("param", "an array of objects")?;
        let place = |n| format!("param[{n}]");
        let point = |(n, element): (usize, &Field<'_>)| one(&place(n), &element.object(&place(n))?);
        elements.iter().enumerate().map(point).collect::<Result<_, _>>()?
    } else {
        let wire: WireParam<'_> = param.object("param")?;
        if wire.dps.0.is_none() {
            vec![one("param", &wire)?]
        } else {
            let ObjectMembers(points) = wire.dps.parse("param.dps", "an object of values by id")?;
            points.into_iter().map(|(id, value)| (id.into_owned(), value.into())).collect()
        }
    };
    if found.is_empty() {
        return Err(FieldError::new("param", Problem::Empty));
    }
    Ok(found)
}
