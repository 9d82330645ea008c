//! What a gateway returns to its owner.

use std::{sync::Arc, time::Duration};

use super::pending::Finished;
use crate::{
    mqtt::codec::Publish,
    tuya::{Answer, FieldError},
};

/// The data of a pending request; `C` is the caller's context.
#[derive(Debug)]
pub(super) struct RequestData<C> {
    pub(super) publish: Publish,
    /// The time stamp in the payload; `None` if it stays as it was given.
    pub(super) t: Option<i64>,
    pub(super) context: C,
}

/// A message that is to be published now.
#[derive(Debug)]
pub struct ToPublish<'a, C> {
    /// The token, which [`Gateway::handle_acknowledgement`](super::Gateway::handle_acknowledgement) takes.
    pub token: u64,
    /// Whether this begins an attempt, rather than repeats one after a loss.
    pub is_first: bool,
    /// The message.
    pub publish: &'a mut Publish,
    /// What the caller keeps with it.
    pub context: &'a C,
}

/// The outcome of a request.
#[derive(Debug)]
pub enum RequestOutcome {
    /// The other end answered.
    Answered {
        /// The answer.
        answer: Answer,
        /// The time since the latest attempt was first written; `None` if it is not known.
        round_trip: Option<Duration>,
    },
    /// It has no response topic, and the broker has acknowledged it; with QoS 0 it was written.
    Delivered {
        /// Whether the broker acknowledged it.
        is_acknowledged: bool,
        /// The time since the latest attempt was first written; `None` if it is not known.
        round_trip: Option<Duration>,
    },
    /// The answer breaks the protocol.
    Malformed(FieldError),
    /// There was no answer, or no acknowledgement, in time.
    TimedOut {
        /// Whether an answer is missing, rather than an acknowledgement.
        is_answer_missing: bool,
        /// Whether the broker had acknowledged the request.
        is_acknowledged: bool,
    },
    /// Several connections in turn were lost while this message of so many bytes was under way: it may be longer than the
    /// broker takes.
    EndsConnections(usize),
}

/// A request that is no longer open.
#[derive(Debug)]
pub struct Ended<C> {
    /// What the caller kept with it.
    pub context: C,
    /// Its topic.
    pub topic: Arc<str>,
    /// Its request id.
    pub request_id: Arc<str>,
    /// How often it was sent, repetitions after a loss not counted.
    pub attempts: u32,
}

impl<C> From<Finished<RequestData<C>>> for Ended<C> {
    fn from(Finished { context, request_id, attempts }: Finished<RequestData<C>>) -> Self {
        Self { context: context.context, topic: context.publish.topic, request_id, attempts }
    }
}

/// An event for the caller.
#[derive(Debug)]
pub enum GatewayEvent<C> {
    /// A request has ended.
    Ended(Ended<C>, RequestOutcome),
    /// Progress on the connection: a request's first acknowledgement, or an answer, came.
    Progress,
    /// An attempt after the first one leaves.
    Retried,
    /// So many requests are sent again after a loss.
    Resent(usize),
    /// The other end did something odd that ends no request; in words.
    Warning(String),
}

/// Why the requests in flight are given up.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Outage {
    /// The connection was lost and did not come back in time.
    Lost,
    /// The broker has stopped reading.
    Stalled,
}
