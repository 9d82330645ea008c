//! A request as an input asks for it, and what its result lines name.

use std::sync::Arc;

use smol_str::SmolStr;

use super::{error::InputError, kind::RequestKind, part::InputPart};
use crate::{
    gateway::Payload,
    tuya::{Command, DeviceStatus, GatewayId, Property, Uplink},
};

/// One request of an input value, or its error. A value with `properties` has several.
#[derive(Debug)]
pub struct ParsedInput {
    /// The operation.
    pub kind: RequestKind,
    /// The line on which the value begins, from 1; `None` for a request from flags.
    pub line: Option<u64>,
    /// The value's JSON text; of a former run's result line its `input`.
    pub text: Arc<str>,
    /// About how many bytes the value takes in its file; 0 for all but the first of several requests.
    pub size: u64,
    /// The request, or the error.
    pub request: Result<Request, InputError>,
}

/// One request of an input.
#[derive(Debug)]
pub struct Request {
    /// The operation.
    pub kind: RequestKind,
    /// The gateway, if the input names one.
    pub gateway_id: Option<GatewayId>,
    /// The time stamp that the input gives.
    pub t: Option<i64>,
    /// The request id that a whole message brought along.
    pub request_id: Option<Arc<str>>,
    /// The part of the input, if that has several requests.
    pub part: Option<Arc<InputPart>>,
    /// The message.
    pub payload: Payload,
}

impl Request {
    /// A request without further fields.
    #[must_use]
    pub fn new(kind: RequestKind, payload: Payload) -> Self {
        Self { kind, gateway_id: None, t: None, request_id: None, part: None, payload }
    }

    /// How many result lines it ends as.
    #[must_use]
    pub fn lines(&self) -> u64 {
        match &self.payload {
            Payload::Uplink(uplink) => match uplink {
                Uplink::Status(statuses) => statuses.len() as u64,
                Uplink::Sync(_) | Uplink::Report(_) | Uplink::CommandResponse(_) | Uplink::AsGiven { .. } => {
                    1
                }
            },
            Payload::Command(_) => 1,
        }
    }

    /// The key of its result line; of several, the first.
    #[must_use]
    pub fn into_result_key(self) -> ResultKey {
        let (cid, id) = match self.payload {
            Payload::Uplink(uplink) => match uplink {
                Uplink::Sync(device) => (device.cid.into(), None),
                Uplink::Report(Property { cid, id, .. }) => (cid, Some(id)),
                Uplink::Status(statuses) => {
                    return statuses.into_iter().next().map(ResultKey::from).unwrap_or_default();
                }
                Uplink::CommandResponse(answer) => (answer.cid.into(), None),
                Uplink::AsGiven { cid, .. } => (cid.into(), None),
            },
            Payload::Command(Command { cid, points }) => {
                (cid.into(), points.into_iter().next().map(|(id, _)| id.into()))
            }
        };
        ResultKey { cid, id, status: None, part: self.part }
    }
}

/// The subject of one result line.
#[derive(Clone, Debug, Default)]
pub struct ResultKey {
    /// The device.
    pub cid: SmolStr,
    /// The data point's id, for reports and commands.
    pub id: Option<SmolStr>,
    /// The status, for status reports.
    pub status: Option<bool>,
    /// The part of the input, if that has several requests.
    pub part: Option<Arc<InputPart>>,
}

impl ResultKey {
    /// The part of the input with this request, as an input of its own; `None` if that is all of it.
    #[must_use]
    pub fn input_of(&self, input: &str) -> Option<String> {
        Some(self.part.as_ref()?.input_of(input, &self.cid, self.status))
    }
}

impl From<DeviceStatus> for ResultKey {
    fn from(DeviceStatus { cid, status }: DeviceStatus) -> Self {
        Self { cid: cid.into(), status: Some(status), ..Self::default() }
    }
}

/// A status report of devices, as one message.
#[must_use]
pub fn status_request(statuses: Vec<DeviceStatus>) -> Request {
    Request::new(RequestKind::Status, Payload::Uplink(Uplink::Status(statuses)))
}
