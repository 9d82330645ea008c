//! What a result line repeats of its input, and what became of its request.

use std::{sync::Arc, time::Duration};

use crate::{
    error::FailureKind,
    gateway::Payload,
    request::{Request, RequestKind, ResultKey},
    tuya::{Answer, DeviceStatus, GatewayId, Uplink},
};

/// An input, and the index of its first result line.
#[derive(Clone, Debug)]
pub struct InputPosition {
    pub(super) index: u64,
    pub(super) line: Option<u64>,
    pub(super) kind: RequestKind,
    pub(super) input: Arc<str>,
}

impl InputPosition {
    /// Returns what the result lines of a request need.
    #[must_use]
    pub fn result_contexts(self, mut request: Request) -> ResultContexts {
        if let Payload::Uplink(Uplink::Status(statuses)) = &mut request.payload
            && statuses.len() > 1
        {
            let statuses = std::mem::take(statuses).into_iter().zip(self.index..);
            let part = request.part;
            let context = |(status, index)| {
                let key = ResultKey { part: part.clone(), ..DeviceStatus::into(status) };
                Self { index, ..self.clone() }.context(key)
            };
            return ResultContexts::Several(statuses.map(context).collect());
        }
        let gateway_id = request.gateway_id.take();
        ResultContexts::One(ResultContext { gateway_id, ..self.context(request.into_result_key()) })
    }

    /// Returns what the result line of one status needs.
    #[must_use]
    pub fn status_context(self, status: DeviceStatus) -> ResultContext {
        self.context(status.into())
    }

    pub(super) fn context(self, key: ResultKey) -> ResultContext {
        let Self { index, line, kind, input } = self;
        ResultContext { index, line, kind, gateway_id: None, key, input }
    }
}

/// What one result line needs.
#[derive(Debug)]
pub struct ResultContext {
    pub(super) index: u64,
    pub(super) line: Option<u64>,
    pub(super) kind: RequestKind,
    pub(super) gateway_id: Option<GatewayId>,
    pub(super) key: ResultKey,
    pub(super) input: Arc<str>,
}

impl ResultContext {
    /// Returns the device of the line.
    #[must_use]
    pub fn cid(&self) -> &str {
        &self.key.cid
    }
}

/// What the result lines of one request need; nearly always there is one line.
#[derive(Debug)]
pub enum ResultContexts {
    /// One line.
    One(ResultContext),
    /// Any number of lines. None for a message of the program's own, whose failure is a warning.
    Several(Vec<ResultContext>),
    /// No line: a message of another program, by its number.
    Forwarded(u64),
    /// No line: a message of the spool, by its number.
    Spooled(u64),
}

impl ResultContexts {
    /// Returns all of them, in their order.
    #[must_use]
    pub fn as_slice(&self) -> &[ResultContext] {
        match self {
            Self::One(context) => std::slice::from_ref(context),
            Self::Several(contexts) => contexts,
            Self::Forwarded(_) | Self::Spooled(_) => &[],
        }
    }
}

/// How a request ended.
#[derive(Clone, Copy, Debug)]
pub enum ResultStatus<'a> {
    /// The other end answered.
    Answered(&'a Answer, Option<Duration>),
    /// The broker acknowledged it, or with QoS 0 it was written; there is no answer on the wire.
    Delivered {
        /// Whether the broker acknowledged it.
        acknowledged: bool,
        /// How long that took.
        round_trip: Option<Duration>,
    },
    /// It failed.
    Failed {
        /// What kind of failure it was.
        kind: FailureKind,
        /// What happened.
        message: &'a str,
        /// Whether it had left, if the line says so.
        sent: Option<bool>,
    },
}

#[cfg(test)]
mod tests {
    use super::*;

    fn position(index: u64) -> InputPosition {
        InputPosition { index, line: Some(7), kind: RequestKind::Status, input: "{}".into() }
    }

    fn statuses(cids: &[&str]) -> Request {
        let status = |cid: &&str| DeviceStatus { cid: (*cid).into(), status: true };
        let statuses = cids.iter().map(status).collect();
        Request::new(RequestKind::Status, Payload::Uplink(Uplink::Status(statuses)))
    }

    #[test]
    fn a_request_with_several_statuses_has_a_line_for_each_in_order() {
        let contexts = position(3).result_contexts(statuses(&["m1", "m2", "m3"]));
        let lines: Vec<_> = contexts.as_slice().iter().map(|line| (line.index, line.cid())).collect();
        assert_eq!(lines, [(3, "m1"), (4, "m2"), (5, "m3")]);
        assert!(contexts.as_slice().iter().all(|line| line.line == Some(7)));
    }

    #[test]
    fn a_request_with_one_status_has_one_line_of_its_gateway() {
        let gateway_id = GatewayId::new("gw1".to_owned()).ok();
        let contexts = position(0).result_contexts(Request { gateway_id, ..statuses(&["m1"]) });
        let [line] = contexts.as_slice() else { panic!("{contexts:?}") };
        assert_eq!((line.cid(), line.gateway_id.as_ref().map(GatewayId::as_str)), ("m1", Some("gw1")));
    }
}
