//! One pending request and its state.

use std::{sync::Arc, time::Duration};

#[derive(Debug)]
pub(super) struct PendingRequest<C> {
    pub(super) context: C,
    pub(super) request_id: Arc<str>,
    /// The topic of its answer; `None` if it ends with its acknowledgement.
    pub(super) response_topic: Option<Arc<str>>,
    pub(super) state: RequestState,
    /// How often it was sent, repetitions after a loss not counted.
    pub(super) attempts: u32,
    /// When the latest attempt was first written.
    pub(super) written: Option<Duration>,
    /// Whether it has an entry in the queue.
    pub(super) is_queued: bool,
    /// Whether the MQTT session holds it, to send it again by itself.
    pub(super) is_held: bool,
    /// Whether the broker has acknowledged it since it was last sent, and whether it ever has.
    pub(super) is_acknowledged: bool,
    pub(super) was_acknowledged: bool,
    /// How many connections were lost after it was sent and before it was acknowledged.
    pub(super) losses: u32,
    /// Whether its attempts have deadlines.
    pub(super) has_deadline: bool,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum RequestState {
    /// Another request with its id is open.
    Behind,
    /// To be sent, for the first time or again.
    Queued,
    /// Sent; its deadline runs.
    Waiting,
    /// To be tried again at this moment.
    Resting(Duration),
}

/// A request that has come to its end.
#[derive(Debug)]
pub struct Finished<C> {
    /// What the caller kept with it.
    pub context: C,
    /// Its request id.
    pub request_id: Arc<str>,
    /// How often it was sent, repetitions after a loss not counted.
    pub attempts: u32,
}

impl<C> From<PendingRequest<C>> for Finished<C> {
    fn from(PendingRequest { context, request_id, attempts, .. }: PendingRequest<C>) -> Self {
        Self { context, request_id, attempts }
    }
}
