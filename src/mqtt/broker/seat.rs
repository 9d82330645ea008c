//! One client's place at the broker: its MQTT session, its subscriptions, and what waits for it.

use std::{collections::VecDeque, rc::Rc, task::Waker, time::Duration};

use super::{Limits, retained::Retained};
use crate::{
    edge::Role,
    mqtt::{Publish, QoS, Session, Will},
};

/// With this much unwritten output nothing more is encoded, and nothing is read from the client until it reads.
///
/// What waits for the client's acknowledgements must not stop the reading: they would never be heard.
const FULL: usize = 256 * 1024;

/// The same once much is kept for all clients together.
const FULL_IN_A_CROWD: usize = 16 * 1024;

/// With this much on its way to a client without its acknowledgement nothing more is sent.
const MOST_IN_FLIGHT: usize = 256 * 1024;

/// How many retained messages are looked at before the other connections have their turn.
const STEPS: usize = 1000;

/// With this much waiting a client gets no more QoS 0.
const NO_ROOM_FOR_QOS_0: usize = 1024 * 1024;

/// A client for which less than this is kept does not suffer for what is kept for all others.
const FAIR_SHARE: usize = 8 * 1024;

/// What a message that is queued, or is not acknowledged or released, costs beside its bytes.
const OVERHEAD: usize = 96;

/// A client's place; it outlives the connection where the client asked for a persistent session.
#[derive(Debug)]
pub(super) struct Seat {
    pub(super) session: Session,
    pub(super) client_id: Rc<str>,
    pub(super) username: Option<Box<str>>,
    pub(super) role: Rc<Role>,
    pub(super) is_clean: bool,
    pub(super) will: Option<Will>,
    pub(super) filters: Vec<(Rc<str>, QoS)>,
    /// What its filters cost (see [`super::subscriptions::cost`]).
    pub(super) filter_bytes: usize,
    /// The searches for retained messages that its new subscriptions still ask for.
    searches: VecDeque<Search>,
    /// Which connection of the client this is; an older one's task finds out by it.
    pub(super) epoch: u64,
    /// The connection with which the session began.
    pub(super) origin: u64,
    pub(super) is_connected: bool,
    /// Why the connection shall be closed.
    pub(super) leaving: Option<String>,
    /// Nothing is sent any more (the fault `silent`).
    pub(super) is_silent: bool,
    /// When a session without a connection ends.
    pub(super) expires: Duration,
    pub(super) waker: Option<Waker>,
    waiting: VecDeque<Publish>,
    waiting_bytes: usize,
    /// Its weight as the switchboard has counted it.
    pub(super) weighed: usize,
    dropped: u64,
}

/// A search for the retained messages that a subscription gets, as far as it has come.
#[derive(Debug)]
struct Search {
    filter: Rc<str>,
    qos: QoS,
    last: Option<Box<str>>,
}

/// What became of a message for a client.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Offered {
    Taken,
    /// Thrown away; `first` when it is the first since the client kept up.
    Dropped {
        first: bool,
    },
    /// There is no room, and this client's connection is to be closed.
    TooSlow,
}

impl Seat {
    pub(super) fn new(session: Session, client_id: Rc<str>, role: Rc<Role>, epoch: u64) -> Self {
        Self {
            session,
            client_id,
            username: None,
            role,
            is_clean: true,
            will: None,
            filters: Vec::new(),
            filter_bytes: 0,
            searches: VecDeque::new(),
            epoch,
            origin: epoch,
            is_connected: true,
            leaving: None,
            is_silent: false,
            expires: Duration::ZERO,
            waker: None,
            waiting: VecDeque::new(),
            waiting_bytes: 0,
            weighed: 0,
            dropped: 0,
        }
    }

    /// Takes over what waits for the same client's former connection.
    pub(super) fn inherit(&mut self, former: Self) {
        self.session.adopt(former.session);
        self.filters = former.filters;
        self.filter_bytes = former.filter_bytes;
        self.searches = former.searches;
        self.waiting = former.waiting;
        self.waiting_bytes = former.waiting_bytes;
        self.weighed = former.weighed;
        self.origin = former.origin;
    }

    /// The bytes that are kept for the client beyond its fair share: what waits, is unwritten, unacknowledged or
    /// unreleased, and its subscriptions.
    pub(super) fn weight(&mut self) -> usize {
        let messages = self.session.in_flight() + self.session.unreleased();
        let session = self.session.in_flight_bytes() + self.session.outbox().len() + OVERHEAD * messages;
        (self.waiting_bytes + self.filter_bytes + session).saturating_sub(FAIR_SHARE)
    }

    /// Takes a message for the client; `total` is the weight of all clients.
    pub(super) fn offer(&mut self, publish: Publish, limits: &Limits, total: usize) -> Offered {
        let size = publish.size() + OVERHEAD;
        let is_crowded = total + size > limits.max_queues;
        if self.is_connected && !is_crowded && self.waiting.is_empty() && self.has_room(limits, total) {
            // A message that fitted into one packet on its way in fits on its way out.
            let _ = self.session.publish(publish, 0);
            return Offered::Taken;
        }
        if publish.qos == QoS::AtMostOnce && (!self.is_connected || self.waiting_bytes > NO_ROOM_FOR_QOS_0) {
            return self.drop_one();
        }
        let is_too_much = self.waiting_bytes + size > limits.max_queue
            || self.waiting_bytes + size > FAIR_SHARE && is_crowded;
        if is_too_much {
            return if self.is_connected { Offered::TooSlow } else { self.drop_one() };
        }
        self.waiting_bytes += size;
        self.waiting.push_back(publish);
        Offered::Taken
    }

    fn drop_one(&mut self) -> Offered {
        self.dropped += 1;
        Offered::Dropped { first: self.dropped == 1 }
    }

    /// Moves waiting messages into the session as far as there is room.
    pub(super) fn refill(&mut self, limits: &Limits, total: usize) {
        while !self.waiting.is_empty() && self.has_room(limits, total) {
            let Some(publish) = self.waiting.pop_front() else { break };
            let size = publish.size() + OVERHEAD;
            self.waiting_bytes -= size;
            let _ = self.session.publish(publish, 0);
        }
        if self.waiting.is_empty() {
            self.dropped = 0;
            if self.waiting.capacity() > 0 {
                self.waiting = VecDeque::new();
            }
        }
    }

    /// Begins the search for the retained messages of a subscription, anew where the filter is the same.
    pub(super) fn search(&mut self, filter: Rc<str>, qos: QoS) {
        self.stop_search(&filter);
        self.searches.push_back(Search { filter, qos, last: None });
    }

    pub(super) fn stop_search(&mut self, filter: &str) {
        self.searches.retain(|search| *search.filter != *filter);
    }

    /// Whether retained messages are to be searched for, and may be sent.
    pub(super) fn is_searching(&mut self, limits: &Limits, total: usize) -> bool {
        !self.searches.is_empty() && self.waiting.is_empty() && self.has_room(limits, total)
    }

    /// Searches on through the retained messages, a bounded step at a time, and no faster than the client reads
    /// and acknowledges: neither a slow reader nor all the others must suffer for what was retained.
    pub(super) fn search_on(&mut self, retained: &Retained, limits: &Limits, total: usize) {
        let mut steps = STEPS;
        while steps > 0 && self.is_searching(limits, total) {
            let Some(mut search) = self.searches.pop_front() else { break };
            let last = search.last.take();
            let mut reached = None;
            for (topic, kept) in retained.search(&search.filter, last.as_deref()) {
                if steps == 0 || !self.has_room(limits, total) {
                    search.last = reached.or(last.as_deref()).map(Into::into);
                    break;
                }
                steps -= 1;
                reached = Some(topic);
                if let Some(kept) = kept {
                    let publish = Publish {
                        topic: topic.into(),
                        payload: kept.payload.clone(),
                        qos: kept.qos.min(search.qos),
                        retain: true,
                    };
                    // A message that fitted into one packet on its way in fits on its way out.
                    let _ = self.session.publish(publish, 0);
                }
            }
            if search.last.is_some() {
                self.searches.push_front(search);
            }
        }
        if self.searches.is_empty() && self.searches.capacity() > 0 {
            self.searches = VecDeque::new();
        }
    }

    fn has_room(&mut self, limits: &Limits, total: usize) -> bool {
        self.session.in_flight() < usize::from(limits.in_flight)
            && self.session.in_flight_bytes() < MOST_IN_FLIGHT
            && !self.is_full(limits, total)
    }

    /// Whether so much is unwritten that the client must read before it may say more; `total` is the weight of all
    /// clients.
    pub(super) fn is_full(&mut self, limits: &Limits, total: usize) -> bool {
        let most = if limits.is_crowded(total) { FULL_IN_A_CROWD } else { FULL };
        self.session.outbox().len() > most
    }

    pub(super) fn wake(&self) {
        if let Some(waker) = &self.waker {
            waker.wake_by_ref();
        }
    }
}
