//! The state of one client: its MQTT session, its subscriptions, and the messages queued for it.

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

/// Unwritten output, in bytes, above which the broker encodes nothing more and reads nothing from the client.
///
/// Unacknowledged messages do not count: if the broker stopped reading for them, it would never read the acknowledgements.
const FULL: usize = 256 * 1024;

/// The same if all clients together are crowded (see [`ServerLimits::is_crowded`]).
const FULL_IN_A_CROWD: usize = 16 * 1024;

/// Unacknowledged bytes above which nothing more is sent to a client.
const MOST_IN_FLIGHT: usize = 256 * 1024;

/// How many retained messages a turn looks at, so that the other connections get theirs.
const STEPS: usize = 1000;

/// Queued bytes above which a client gets no more messages of QoS 0.
const NO_ROOM_FOR_QOS_0: usize = 1024 * 1024;

/// A client with fewer queued bytes gets another message, whatever the total of all clients is.
const FAIR_SHARE: usize = 8 * 1024;

/// How many copies of the client id there are: the session's, the one in the handler's data, and one in a table of the
/// handler's.
const COPIES_OF_ID: usize = 3;

/// The bytes that a queued, unacknowledged or unreleased message occupies beside its topic and payload.
const OVERHEAD: usize = 96;

/// A client. It outlives the connection if the client asked for a persistent session.
#[derive(Debug)]
pub(super) struct ClientState<C> {
    pub(super) session: Session,
    pub(super) client_id: Rc<str>,
    pub(super) username: Option<Box<str>>,
    /// What the handler knows of the client.
    pub(super) data: Rc<C>,
    pub(super) is_clean: bool,
    /// A bridge gets none of its own messages back, and sees the retain flag.
    pub(super) is_bridge: bool,
    will: Option<Will>,
    /// Bytes of its names and its will.
    identity_bytes: usize,
    /// Bytes that the TLS stream has taken from the output and not yet sent.
    pub(super) unsent: usize,
    /// Its filters, each with the number of the last search for its retained messages.
    filters: SeededMap<Rc<str>, u64>,
    /// Bytes of its filters (see [`super::subscriptions::cost`]).
    filter_bytes: usize,
    /// Unfinished searches for the retained messages of its new subscriptions, and void ones.
    searches: VecDeque<Search>,
    search_count: u64,
    /// The number of its connection, by which the task of an earlier connection notices that it was replaced.
    pub(super) generation: u64,
    /// The number of the connection with which the session began.
    pub(super) origin: u64,
    pub(super) is_connected: bool,
    /// Why the connection is to be closed, if it is.
    pub(super) leaving: Option<&'static str>,
    /// Nothing more is sent ([`PublishDecision::Silence`](super::PublishDecision::Silence)).
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

/// The progress of a search for the retained messages of a subscription.
#[derive(Debug)]
struct Search {
    filter: Rc<str>,
    qos: QoS,
    number: u64,
    last: Option<Box<str>>,
}

/// The result of offering a message to a client.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Offered {
    Taken,
    /// Dropped; `first` if it is the first one since the client kept up.
    Dropped {
        first: bool,
    },
    /// There is no room, for this reason. The client's connection is to be closed.
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

    /// Takes over the session of the same client's former connection.
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

    /// The bytes kept for the client: queued, unwritten, unsent, unacknowledged and unreleased messages, its subscriptions,
    /// its names and its will.
    pub(super) fn weight(&mut self) -> usize {
        let messages = self.session.in_flight() + self.session.unreleased();
        let session = self.session.in_flight_bytes() + self.session.outbox().len() + OVERHEAD * messages;
        self.waiting_bytes + self.filter_bytes + self.identity_bytes + self.unsent + session
    }

    /// Adds a subscription, or finds it.
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

    /// Removes a subscription; returns whether there was one.
    pub(super) fn unsubscribe(&mut self, filter: &str) -> bool {
        let was_there = self.filters.remove(filter).is_some();
        if was_there {
            self.filter_bytes -= cost(filter);
        }
        was_there
    }

    /// Removes all subscriptions.
    pub(super) fn take_filters(&mut self) -> impl Iterator<Item = Rc<str>> + use<C> {
        self.filter_bytes = 0;
        mem::take(&mut self.filters).into_keys()
    }

    /// Sends, queues or drops a message; `total` is the weight of all clients.
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

    /// Moves queued messages into the session as far as there is room.
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

    /// Begins the search for the retained messages of a subscription, and again if the client has subscribed before.
    pub(super) fn search(&mut self, filter: Rc<str>, qos: QoS) {
        self.search_count += 1;
        let number = self.search_count;
        let Some(last) = self.filters.get_mut(&filter) else { return };
        *last = number;
        // Drops void searches once there are as many of them as filters, which costs constant time for each search.
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

    /// Whether a search is unfinished and its messages may be sent.
    pub(super) fn is_searching(&mut self, limits: &ServerLimits, total: usize) -> bool {
        !self.searches.is_empty() && self.waiting.is_empty() && self.has_room(limits, total)
    }

    /// Continues the searches by a bounded number of steps, and no faster than the client reads and acknowledges: retained
    /// messages must neither fill the memory for a slow reader nor hold up the other clients.
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

    /// Whether so much output is unwritten that the broker stops reading from the client; `total` is the weight of all
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

/// Whether the subscription of a search still exists and has begun no later search.
fn is_current(search: &Search, filters: &SeededMap<Rc<str>, u64>) -> bool {
    filters.get(&search.filter) == Some(&search.number)
}
