//! Which answer belongs to which request: by request id, gateway and topic, over both directions.

use std::{
    collections::{HashMap, VecDeque, hash_map::Entry},
    sync::Arc,
};

use super::{counters::DeviceId, requested_by, spread::Spread};
use crate::tuya::Channel;

/// How many requests are remembered, answered or not. One without an answer after so many others is unanswered.
const REMEMBERED: usize = 65_536;

/// How many of the unanswered are kept by name.
const NAMED: usize = 100;

/// A request as it was first seen.
#[derive(Clone, Copy, Debug)]
pub(super) struct SeenRequest {
    pub(super) device: DeviceId,
    /// When, in microseconds.
    pub(super) at: i64,
}

/// What came of an answer.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Correlation {
    /// It answers a request.
    Answered { device: DeviceId, round_trip_us: i64 },
    /// The request was answered before.
    Again { device: DeviceId, round_trip_us: i64 },
    /// No request with its id was seen, or one long ago.
    Unasked,
}

/// A request for which no answer was seen.
#[derive(Clone, Debug)]
pub(super) struct OpenRequest {
    pub(super) channel: Channel,
    pub(super) gateway: u32,
    pub(super) request_id: Arc<str>,
    pub(super) request: SeenRequest,
}

/// What is counted of one kind of request.
#[derive(Clone, Debug, Default)]
pub(super) struct RequestCounts {
    pub(super) requests: u64,
    pub(super) answered: u64,
    /// Answers to no request that is remembered.
    pub(super) unasked: u64,
    /// Requests that were sent again with the same id.
    pub(super) repeated: u64,
    /// Answers that were sent again.
    pub(super) answered_again: u64,
    pub(super) spread: Spread,
}

type RequestKey = (u8, u32, Arc<str>);

/// The requests that are remembered.
#[derive(Debug, Default)]
pub(super) struct Correlator {
    known: HashMap<RequestKey, (SeenRequest, Option<i64>)>,
    order: VecDeque<RequestKey>,
    counts: [RequestCounts; 7],
    /// Unanswered ones that are no longer remembered: the first by name, and how many there are.
    lost: Vec<OpenRequest>,
    lost_count: u64,
}

impl Correlator {
    /// Notes a request; gives one that is given up for it.
    pub(super) fn ask(
        &mut self,
        channel: Channel,
        gateway: u32,
        request_id: &str,
        request: SeenRequest,
    ) -> Option<SeenRequest> {
        let counts = &mut self.counts[channel as usize];
        let key = (channel as u8, gateway, Arc::from(request_id));
        match self.known.entry(key) {
            Entry::Occupied(_) => {
                counts.repeated += 1;
                return None;
            }
            Entry::Vacant(place) => {
                counts.requests += 1;
                self.order.push_back(place.key().clone());
                place.insert((request, None));
            }
        }
        if self.order.len() <= REMEMBERED {
            return None;
        }
        let oldest = self.order.pop_front()?;
        let (request, None) = self.known.remove(&oldest)? else { return None };
        self.lost_count += 1;
        if self.lost.len() < NAMED {
            self.lost.push(open(oldest, request));
        }
        Some(request)
    }

    /// Notes an answer on a response channel.
    pub(super) fn answer(
        &mut self,
        response: Channel,
        gateway: u32,
        request_id: &str,
        at: i64,
    ) -> Correlation {
        let Some(channel) = requested_by(response) else { return Correlation::Unasked };
        let counts = &mut self.counts[channel as usize];
        match self.known.get_mut(&(channel as u8, gateway, Arc::from(request_id))) {
            None => {
                counts.unasked += 1;
                Correlation::Unasked
            }
            Some((request, answered)) => {
                let (device, round_trip_us) = (request.device, at - request.at);
                if answered.replace(at).is_some() {
                    counts.answered_again += 1;
                    return Correlation::Again { device, round_trip_us };
                }
                counts.answered += 1;
                counts.spread.add(round_trip_us.unsigned_abs());
                Correlation::Answered { device, round_trip_us }
            }
        }
    }

    /// What was counted of one kind of request.
    pub(super) fn counts(&self, channel: Channel) -> &RequestCounts {
        &self.counts[channel as usize]
    }

    /// Requests without an answer that are still remembered, in their order.
    pub(super) fn open(&self) -> impl Iterator<Item = OpenRequest> {
        self.order.iter().filter_map(|key| match self.known.get(key)? {
            (request, None) => Some(open(key.clone(), *request)),
            (_, Some(_)) => None,
        })
    }

    /// The first requests without an answer, and how many there are.
    pub(super) fn unanswered(&self) -> (Vec<OpenRequest>, u64) {
        let mut named = self.lost.clone();
        let mut count = self.lost_count;
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
