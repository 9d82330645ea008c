//! Correlates answers with requests: by request id, gateway and topic, over both directions.

use std::sync::Arc;

use super::{counters::DeviceId, direction::requested_by};
use crate::{
    collections::{Histogram, Recent},
    tuya::Channel,
};

/// Requests that are remembered, answered or not. One without an answer after so many others counts as unanswered.
const CAPACITY: usize = 65_536;

/// Unanswered requests that are listed by name.
const NAMED: usize = 100;

/// A request as it was first seen.
#[derive(Clone, Copy, Debug)]
pub(super) struct SeenRequest {
    pub(super) device: DeviceId,
    /// When, in microseconds since the Unix epoch.
    pub(super) at: i64,
}

/// How an answer relates to the requests.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Correlation {
    /// It answers a request.
    Answered { device: DeviceId, round_trip_us: i64 },
    /// It answers a request that was answered before.
    Repeated { device: DeviceId, round_trip_us: i64 },
    /// It answers no request that is remembered.
    Unmatched,
}

/// A request without an answer.
#[derive(Clone, Debug)]
pub(super) struct OpenRequest {
    pub(super) channel: Channel,
    pub(super) gateway: u32,
    pub(super) request_id: Arc<str>,
    pub(super) request: SeenRequest,
}

/// The counts of one kind of request.
#[derive(Clone, Debug, Default)]
pub(super) struct RequestCounts {
    pub(super) requests: u64,
    pub(super) answered: u64,
    /// Answers to no request that is remembered.
    pub(super) unmatched: u64,
    /// Requests that were sent again with the same id.
    pub(super) repeated: u64,
    /// Answers that were sent again.
    pub(super) answered_again: u64,
    /// Round trips in microseconds.
    pub(super) round_trips: Histogram,
}

type RequestKey = (u8, u32, Arc<str>);

/// Finds the request of each answer.
#[derive(Debug)]
pub(super) struct Correlator {
    /// Requests, with the time of their first answer.
    requests: Recent<RequestKey, (SeenRequest, Option<i64>)>,
    counts: [RequestCounts; 7],
    /// The first unanswered requests that are no longer remembered, and how many there are.
    forgotten: Vec<OpenRequest>,
    forgotten_count: u64,
}

impl Default for Correlator {
    fn default() -> Self {
        Self {
            requests: Recent::new(CAPACITY),
            counts: Default::default(),
            forgotten: Vec::new(),
            forgotten_count: 0,
        }
    }
}

impl Correlator {
    /// Handles a request. Returns the unanswered one that is forgotten for it.
    pub(super) fn handle_request(
        &mut self,
        channel: Channel,
        gateway: u32,
        request_id: &str,
        request: SeenRequest,
    ) -> Option<SeenRequest> {
        let counts = &mut self.counts[channel as usize];
        let key = (channel as u8, gateway, Arc::from(request_id));
        if self.requests.get(&key).is_some() {
            counts.repeated += 1;
            return None;
        }
        counts.requests += 1;
        let (key, (request, None)) = self.requests.insert(key, (request, None))? else { return None };
        self.forgotten_count += 1;
        if self.forgotten.len() < NAMED {
            self.forgotten.push(open(key, request));
        }
        Some(request)
    }

    /// Handles an answer on a response channel.
    pub(super) fn handle_answer(
        &mut self,
        response: Channel,
        gateway: u32,
        request_id: &str,
        at: i64,
    ) -> Correlation {
        let Some(channel) = requested_by(response) else { return Correlation::Unmatched };
        let counts = &mut self.counts[channel as usize];
        let Some((request, answered)) =
            self.requests.get_mut(&(channel as u8, gateway, Arc::from(request_id)))
        else {
            counts.unmatched += 1;
            return Correlation::Unmatched;
        };
        let (device, round_trip_us) = (request.device, at - request.at);
        if answered.replace(at).is_some() {
            counts.answered_again += 1;
            return Correlation::Repeated { device, round_trip_us };
        }
        counts.answered += 1;
        counts.round_trips.add(round_trip_us.unsigned_abs());
        Correlation::Answered { device, round_trip_us }
    }

    /// The counts of one kind of request.
    pub(super) fn counts(&self, channel: Channel) -> &RequestCounts {
        &self.counts[channel as usize]
    }

    /// The unanswered requests that are still remembered, in their order.
    pub(super) fn open(&self) -> impl Iterator<Item = OpenRequest> {
        self.requests.iter().filter_map(|(key, (request, answered))| match answered {
            None => Some(open(key.clone(), *request)),
            Some(_) => None,
        })
    }

    /// The first unanswered requests, and how many there are.
    pub(super) fn unanswered(&self) -> (Vec<OpenRequest>, u64) {
        let mut named = self.forgotten.clone();
        let mut count = self.forgotten_count;
        for open in self.open() {
            count += 1;
            if named.len() < NAMED {
                named.push(open);
            }
        }
        (named, count)
    }
}

fn open((channel, gateway, request_id): RequestKey, request: SeenRequest) -> OpenRequest {
    OpenRequest { channel: Channel::ALL[usize::from(channel)], gateway, request_id, request }
}
