//! One client's place at the broker: its MQTT session, its subscriptions, and what waits for it.

use std::{collections::VecDeque, mem, rc::Rc, task::Waker, time::Duration};

use super::{
    handler::{ClientInfo, SessionId},
    limits::ServerLimits,
    retained::Retained,
    subscriptions::cost,
};
use crate::{
    collections::SeededMap,
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

/// A client for which less than this waits gets another message however much is kept for all others.
const FAIR_SHARE: usize = 8 * 1024;

/// How many copies of its client id a session keeps: its own, its role's, and the edge's of the gateways present.
const COPIES_OF_ID: usize = 3;

/// What a message that is queued, or is not acknowledged or released, costs beside its bytes.
const OVERHEAD: usize = 96;

/// A client's place; it outlives the connection where the client asked for a persistent session.
#[derive(Debug)]
pub(super) struct ClientState<C> {
    pub(super) session: Session,
    pub(super) client_id: Rc<str>,
    pub(super) username: Option<Box<str>>,
    /// What the handler knows of the client.
    pub(super) data: Rc<C>,
    pub(super) is_clean: bool,
    /// A bridge gets none of its own messages back, and sees which ones are retained.
    pub(super) is_bridge: bool,
    will: Option<Will>,
    /// What its names and will occupy.
    identity_bytes: usize,
    /// What its connection has taken of the output and not yet sent.
    pub(super) unsent: usize,
    /// Its filters, each with the number of the last search for its retained messages.
    filters: SeededMap<Rc<str>, u64>,
    /// What its filters cost (see [`super::subscriptions::cost`]).
    filter_bytes: usize,
    /// The searches for retained messages that its new subscriptions still ask for, and former ones that are void.
    searches: VecDeque<Search>,
    search_count: u64,
    /// Which connection of the client this is; an older one's task finds out by it.
    pub(super) generation: u64,
    /// The connection with which the session began.
    pub(super) origin: u64,
    pub(super) is_connected: bool,
    /// Why the connection shall be closed.
    pub(super) leaving: Option<&'static str>,
    /// Nothing is sent any more (the fault `silent`).
    pub(super) is_silent: bool,
    /// When a session without a connection ends.
    pub(super) expires: Duration,
    pub(super) waker: Option<Waker>,
    waiting: VecDeque<Publish>,
    waiting_bytes: usize,
    /// Its weight as the router has counted it.
    pub(super) weighed: usize,
    dropped: u64,
}

/// A search for the retained messages that a subscription gets, as far as it has come.
#[derive(Debug)]
struct Search {
    filter: Rc<str>,
    qos: QoS,
    number: u64,
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
    /// There is no room, for this reason, and this client's connection is to be closed.
    TooSlow(&'static str),
}

impl<C> ClientState<C> {
    pub(super) fn new(session: Session, client_id: Rc<str>, data: Rc<C>, generation: u64) -> Self {
        Self {
            session,
            client_id,
            username: None,
            data,
            is_clean: true,
            is_bridge: false,
            will: None,
            identity_bytes: 0,
            unsent: 0,
            filters: SeededMap::default(),
            filter_bytes: 0,
            searches: VecDeque::new(),
            search_count: 0,
            generation,
            origin: generation,
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

    /// The client, as the handler is told of it; `id` is its session.
    pub(super) fn info(&self, id: SessionId) -> ClientInfo<'_, C> {
        let username = self.username.as_deref();
        ClientInfo { session: id, client_id: &self.client_id, username, data: &self.data }
    }

    /// Takes over what waits for the same client's former connection.
    pub(super) fn inherit(&mut self, former: Self) {
        self.session.adopt(former.session);
        self.filters = former.filters;
        self.filter_bytes = former.filter_bytes;
        self.searches = former.searches;
        self.search_count = former.search_count;
        self.waiting = former.waiting;
        self.waiting_bytes = former.waiting_bytes;
        self.weighed = former.weighed;
        self.origin = former.origin;
    }

    pub(super) fn set_will(&mut self, will: Option<Will>) {
        self.will = will;
        let will = self.will.as_ref().map_or(0, |will| will.topic.len() + will.payload.len());
        let username = self.username.as_ref().map_or(0, |name| name.len());
        self.identity_bytes = COPIES_OF_ID * self.client_id.len() + username + will;
    }

    pub(super) fn take_will(&mut self) -> Option<Will> {
        let will = self.will.take();
        self.set_will(None);
        will
    }

    /// The bytes that are kept for the client: what waits, is unwritten, unsent, unacknowledged or unreleased, its
    /// subscriptions, its names and its will.
    pub(super) fn weight(&mut self) -> usize {
        let messages = self.session.in_flight() + self.session.unreleased();
        let session = self.session.in_flight_bytes() + self.session.outbox().len() + OVERHEAD * messages;
        self.waiting_bytes + self.filter_bytes + self.identity_bytes + self.unsent + session
    }

    /// Notes a subscription, which may be an old one.
    pub(super) fn subscribe(&mut self, filter: &str, limits: &ServerLimits) -> Result<Rc<str>, &'static str> {
        if let Some((known, _)) = self.filters.get_key_value(filter) {
            return Ok(Rc::clone(known));
        }
        let bytes = self.filter_bytes + cost(filter);
        if self.filters.len() >= limits.max_filters || bytes > limits.max_filter_bytes {
            return Err("it has too many subscriptions");
        }
        let filter: Rc<str> = filter.into();
        self.filters.insert(Rc::clone(&filter), 0);
        self.filter_bytes = bytes;
        Ok(filter)
    }

    /// Forgets a subscription; says whether there was one.
    pub(super) fn unsubscribe(&mut self, filter: &str) -> bool {
        let was_there = self.filters.remove(filter).is_some();
        if was_there {
            self.filter_bytes -= cost(filter);
        }
        was_there
    }

    /// Gives up all subscriptions.
    pub(super) fn take_filters(&mut self) -> impl Iterator<Item = Rc<str>> + use<C> {
        self.filter_bytes = 0;
        mem::take(&mut self.filters).into_keys()
    }

    /// Takes a message for the client; `total` is the weight of all clients.
    pub(super) fn offer(&mut self, publish: Publish, limits: &ServerLimits, total: usize) -> Offered {
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
        let bytes = self.waiting_bytes + size;
        let no_room = if bytes > limits.max_queue {
            Some("it reads too slowly; more waits for it than --max-queue allows")
        } else if bytes > FAIR_SHARE && is_crowded {
            Some("it reads too slowly while all clients together have no room left by --max-queues")
        } else {
            None
        };
        if let Some(why) = no_room {
            return if self.is_connected { Offered::TooSlow(why) } else { self.drop_one() };
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
    pub(super) fn refill(&mut self, limits: &ServerLimits, total: usize) {
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
        self.search_count += 1;
        let number = self.search_count;
        let Some(last) = self.filters.get_mut(&filter) else { return };
        *last = number;
        // Each search that becomes void makes room for another one: this is done once for as many as there are.
        if self.searches.len() > 2 * self.filters.len() {
            let filters = &self.filters;
            self.searches.retain(|search| is_current(search, filters));
        }
        self.searches.push_back(Search { filter, qos, number, last: None });
    }

    #[cfg(test)]
    pub(super) fn searches(&self) -> usize {
        self.searches.len()
    }

    /// Whether retained messages are to be searched for, and may be sent.
    pub(super) fn is_searching(&mut self, limits: &ServerLimits, total: usize) -> bool {
        !self.searches.is_empty() && self.waiting.is_empty() && self.has_room(limits, total)
    }

    /// Searches on through the retained messages, a bounded step at a time, and no faster than the client reads
    /// and acknowledges: neither a slow reader nor all the others must suffer for what was retained.
    pub(super) fn search_on(&mut self, retained: &Retained, limits: &ServerLimits, total: usize) {
        let mut steps = STEPS;
        while steps > 0 && self.is_searching(limits, total) {
            let Some(mut search) = self.searches.pop_front() else { break };
            if !is_current(&search, &self.filters) {
                steps -= 1;
                continue;
            }
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

    fn has_room(&mut self, limits: &ServerLimits, total: usize) -> bool {
        self.session.in_flight() < usize::from(limits.in_flight)
            && self.session.in_flight_bytes() < MOST_IN_FLIGHT
            && !self.is_full(limits, total)
    }

    /// Whether so much is unwritten that the client must read before it may say more; `total` is the weight of all
    /// clients.
    pub(super) fn is_full(&mut self, limits: &ServerLimits, total: usize) -> bool {
        let most = if limits.is_crowded(total) { FULL_IN_A_CROWD } else { FULL };
        self.session.outbox().len() + self.unsent > most
    }

    pub(super) fn wake(&self) {
        if let Some(waker) = &self.waker {
            waker.wake_by_ref();
        }
    }
}

/// Whether the subscription that asked for a search is still there and has not asked anew.
fn is_current(search: &Search, filters: &SeededMap<Rc<str>, u64>) -> bool {
    filters.get(&search.filter) == Some(&search.number)
}
