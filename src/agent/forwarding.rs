//! The messages of local programs on their way to the edge, and who waits for which answer.
//!
//! One message:
//!
//! ```text
//!  accept ──► Behind ──► Queued ──────────► Sent ─────────────► Acknowledged ──► (end)
//!            release      ▲   poll_forward   │ handle_acknowledged   │   handle_answer, client gone
//!                         │                  │                       │
//!                         └──────────────────┴───────────────────────┘
//!                                 handle_connected: sent again
//! ```
//!
//! A message without an answer (a status, the answer to a command) ends with the edge's acknowledgement. A request stays until
//! its answer comes or its client goes, and is sent again after each loss of the edge's connection.

use std::{
    borrow::Cow,
    collections::{BTreeMap, BTreeSet, HashMap, HashSet, VecDeque},
    sync::Arc,
};

use bytes::Bytes;
use serde::Deserialize;
use smol_str::SmolStr;

use crate::{
    collections::{Keyed, SeededMap},
    tuya::Channel,
};

/// The messages of one client that may be open, and their bytes. Programs of ours have at most a window of a thousand.
const MOST_OPEN: usize = 10_000;
const MOST_OPEN_BYTES: usize = 16 << 20;
/// What a message occupies beside its payload, about.
const OVERHEAD: usize = 256;
/// How many requests of clients that have gone are remembered, to recognise their late answers.
const MOST_ABANDONED: usize = 4096;

/// A connection of a local program.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct LocalClient(pub u64);

/// A message of a local program. Ids count up in the order of arrival.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ForwardId(pub u64);

/// A message that is to be published to the edge now.
#[derive(Clone, Debug)]
pub struct ToForward {
    /// Its id, which [`Forwarding::handle_acknowledged`] takes.
    pub id: ForwardId,
    /// Its topic.
    pub topic: Arc<str>,
    /// Its payload, as the program has sent it.
    pub payload: Bytes,
}

/// What became of a message that a local program gave.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Accepted {
    /// It will be forwarded.
    Yes,
    /// The client has more open messages than it may have, and is to be disconnected.
    TooMany,
}

/// Who an answer is for.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct AnsweredClients {
    /// The clients that wait for it, each once.
    pub clients: Vec<LocalClient>,
    /// The request id, if the client that asked has gone and no other waits.
    pub abandoned: Option<String>,
}

/// What an answer is matched by: the channel of the request, and its id.
type ForwardKey = (Channel, SmolStr);

#[derive(Debug)]
struct Forward<R> {
    client: LocalClient,
    /// What the client's acknowledgement needs; `None` once it is given, and with QoS 0.
    receipt: Option<R>,
    topic: Arc<str>,
    payload: Bytes,
    /// The request that awaits its answer; `None` if nothing answers it.
    key: Option<ForwardKey>,
    state: ForwardState,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum ForwardState {
    /// Spooled messages of its device go first.
    Behind,
    Queued,
    Sent,
    Acknowledged,
}

#[derive(Debug, Default)]
struct OpenForwards {
    /// Whether it has published a request: then it gets the answers to its own alone.
    is_requester: bool,
    open: BTreeSet<ForwardId>,
    bytes: usize,
}

/// The messages of all local programs; `R` is what the acknowledgement of a local message needs.
#[derive(Debug)]
pub struct Forwarding<R> {
    forwards: BTreeMap<ForwardId, Forward<R>>,
    clients: HashMap<LocalClient, OpenForwards>,
    /// The ids of requests are chosen by local programs.
    by_request: SeededMap<ForwardKey, Vec<ForwardId>>,
    /// What is to be sent, in the order of arrival.
    queue: BTreeSet<ForwardId>,
    /// The messages behind spooled ones, by device.
    behind: SeededMap<SmolStr, VecDeque<ForwardId>>,
    abandoned: HashSet<ForwardKey, Keyed>,
    abandoned_order: VecDeque<ForwardKey>,
    next: u64,
}

impl<R> Default for Forwarding<R> {
    fn default() -> Self {
        Self {
            forwards: BTreeMap::new(),
            clients: HashMap::new(),
            by_request: SeededMap::default(),
            queue: BTreeSet::new(),
            behind: SeededMap::default(),
            abandoned: HashSet::default(),
            abandoned_order: VecDeque::new(),
            next: 0,
        }
    }
}

impl<R> Forwarding<R> {
    /// How many messages have not ended.
    #[must_use]
    pub fn len(&self) -> usize {
        self.forwards.len()
    }

    /// Whether every message has ended.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.forwards.is_empty()
    }

    /// How many local programs are connected.
    #[must_use]
    pub fn clients(&self) -> usize {
        self.clients.len()
    }

    /// Whether a client hears what is for others as well: it has published no request.
    #[must_use]
    pub fn is_observer(&self, client: LocalClient) -> bool {
        self.clients.get(&client).is_some_and(|client| !client.is_requester)
    }

    /// Takes a new local connection.
    pub fn handle_client(&mut self, client: LocalClient) {
        self.clients.insert(client, OpenForwards::default());
    }

    /// Takes the end of a local connection: what it waits for is no longer sent again.
    pub fn handle_client_gone(&mut self, client: LocalClient) {
        let Some(OpenForwards { open, .. }) = self.clients.remove(&client) else { return };
        for id in open {
            if let Some(Forward { key: Some(key), state, .. }) = self.remove(id)
                && matches!(state, ForwardState::Sent | ForwardState::Acknowledged)
                && self.abandoned.insert(key.clone())
            {
                self.abandoned_order.push_back(key);
            }
        }
        while self.abandoned_order.len() > MOST_ABANDONED
            && let Some(oldest) = self.abandoned_order.pop_front()
        {
            self.abandoned.remove(&oldest);
        }
    }

    /// Takes a client's message, to be forwarded in the order of arrival; behind the spooled messages of a device, if one is
    /// named. Its local acknowledgement follows the edge's.
    pub fn accept(
        &mut self,
        client: LocalClient,
        (topic, payload): (Arc<str>, Bytes),
        channel: Option<Channel>,
        receipt: Option<R>,
        behind: Option<&str>,
    ) -> Accepted {
        let key = channel
            .filter(|channel| channel.response().is_some())
            .and_then(|channel| Some((channel, request_id(&payload)?)));
        let Some(state) = self.clients.get_mut(&client) else { return Accepted::Yes };
        let size = topic.len() + payload.len() + OVERHEAD;
        if state.open.len() >= MOST_OPEN || state.bytes + size > MOST_OPEN_BYTES {
            return Accepted::TooMany;
        }
        let id = ForwardId(self.next);
        self.next += 1;
        state.bytes += size;
        state.open.insert(id);
        state.is_requester |= key.is_some();
        if let Some(key) = &key {
            self.supersede(client, key);
            self.abandoned.remove(key);
            self.by_request.entry(key.clone()).or_default().push(id);
        }
        let state = if let Some(device) = behind {
            self.behind.entry(device.into()).or_default().push_back(id);
            ForwardState::Behind
        } else {
            self.queue.insert(id);
            ForwardState::Queued
        };
        self.forwards.insert(id, Forward { client, receipt, topic, payload, key, state });
        Accepted::Yes
    }

    /// Lets the messages go that are behind those devices' spooled messages for which `has_ended` says so.
    pub fn release_if(&mut self, has_ended: impl Fn(&str) -> bool) {
        let ended: Vec<_> = self.behind.keys().filter(|device| has_ended(device)).cloned().collect();
        for device in ended {
            self.release(&device);
        }
    }

    /// Lets the messages go that are behind a device's spooled messages, once those have ended.
    pub fn release(&mut self, device: &str) {
        for id in self.behind.remove(device).unwrap_or_default() {
            if let Some(forward) = self.forwards.get_mut(&id) {
                forward.state = ForwardState::Queued;
                self.queue.insert(id);
            }
        }
    }

    /// The next message for the edge, which counts as sent with that; to be called while the connection is open.
    pub fn poll_forward(&mut self) -> Option<ToForward> {
        let id = self.queue.pop_first()?;
        let forward = self.forwards.get_mut(&id)?;
        forward.state = ForwardState::Sent;
        Some(ToForward { id, topic: Arc::clone(&forward.topic), payload: forward.payload.clone() })
    }

    /// Whether [`Forwarding::poll_forward`] has a message.
    #[must_use]
    pub fn has_queued(&self) -> bool {
        !self.queue.is_empty()
    }

    /// Takes the edge's acknowledgement of a message. Returns what acknowledges it to its client.
    pub fn handle_acknowledged(&mut self, id: ForwardId) -> Option<(LocalClient, R)> {
        let forward = self.forwards.get_mut(&id)?;
        let receipt = forward.receipt.take();
        let client = forward.client;
        forward.state = ForwardState::Acknowledged;
        if forward.key.is_none() {
            self.remove(id);
        }
        receipt.map(|receipt| (client, receipt))
    }

    /// Takes a message on a channel of answers, and returns who waits for it. Their requests end with it.
    pub fn handle_answer(&mut self, channel: Channel, payload: &[u8]) -> AnsweredClients {
        let mut recipients = AnsweredClients::default();
        let request = [Channel::Sync, Channel::Report].into_iter().find(|it| it.response() == Some(channel));
        let Some(key) = request.zip(request_id(payload)) else { return recipients };
        for id in self.by_request.remove(&key).unwrap_or_default() {
            let Some(forward) = self.forwards.get_mut(&id) else { continue };
            forward.key = None;
            if !recipients.clients.contains(&forward.client) {
                recipients.clients.push(forward.client);
            }
            // One without its acknowledgement stays for that.
            if forward.state == ForwardState::Acknowledged {
                self.remove(id);
            }
        }
        if recipients.clients.is_empty() && self.abandoned.remove(&key) {
            recipients.abandoned = Some(key.1.to_string());
        }
        recipients
    }

    /// Takes a new connection to the edge: what had left and has not ended is sent again, in the order of arrival. `is_held`
    /// says that the MQTT session sends unacknowledged messages again by itself. Returns how many are sent again.
    pub fn handle_connected(&mut self, is_held: bool) -> usize {
        let mut again = 0;
        for (id, forward) in &mut self.forwards {
            let is_lost = match forward.state {
                ForwardState::Sent => !is_held,
                ForwardState::Acknowledged => true,
                ForwardState::Behind | ForwardState::Queued => false,
            };
            if is_lost {
                forward.state = ForwardState::Queued;
                self.queue.insert(*id);
                again += 1;
            }
        }
        again
    }

    /// Makes an earlier request of a client with the same id wait for its acknowledgement alone: the client has tried it again,
    /// and the answer to either ends both.
    fn supersede(&mut self, client: LocalClient, key: &ForwardKey) {
        let Some(ids) = self.by_request.get_mut(key) else { return };
        let forwards = &self.forwards;
        let is_same = |id: &ForwardId| forwards.get(id).is_some_and(|forward| forward.client == client);
        let former: Vec<_> = ids.extract_if(.., |id| is_same(id)).collect();
        for id in former {
            if let Some(forward) = self.forwards.get_mut(&id) {
                forward.key = None;
                if forward.state == ForwardState::Acknowledged {
                    self.remove(id);
                }
            }
        }
    }

    fn remove(&mut self, id: ForwardId) -> Option<Forward<R>> {
        let forward = self.forwards.remove(&id)?;
        self.queue.remove(&id);
        if let Some(client) = self.clients.get_mut(&forward.client) {
            client.open.remove(&id);
            client.bytes -= forward.topic.len() + forward.payload.len() + OVERHEAD;
        }
        if let Some(key) = &forward.key
            && let Some(ids) = self.by_request.get_mut(key)
        {
            ids.retain(|other| *other != id);
            if ids.is_empty() {
                self.by_request.remove(key);
            }
        }
        Some(forward)
    }
}

/// The `request_id` of a message; `None` if it is not JSON, or has none.
fn request_id(payload: &[u8]) -> Option<SmolStr> {
    #[derive(Deserialize)]
    struct Ids<'a> {
        #[serde(borrow)]
        request_id: Cow<'a, str>,
    }
    let ids: Ids<'_> = serde_json::from_slice(payload).ok()?;
    Some(SmolStr::new(&ids.request_id))
}

#[cfg(test)]
mod tests {
    use super::*;

    const ONE: LocalClient = LocalClient(1);
    const TWO: LocalClient = LocalClient(2);

    fn forwarding() -> Forwarding<u32> {
        let mut forwarding = Forwarding::default();
        forwarding.handle_client(ONE);
        forwarding.handle_client(TWO);
        forwarding
    }

    fn message(request_id: &str) -> (Arc<str>, Bytes) {
        ("up".into(), format!(r#"{{"t":1,"request_id":"{request_id}","param":{{"cid":"c"}}}}"#).into())
    }

    fn report(
        forwarding: &mut Forwarding<u32>,
        client: LocalClient,
        request_id: &str,
        receipt: u32,
    ) -> Accepted {
        forwarding.accept(client, message(request_id), Some(Channel::Report), Some(receipt), None)
    }

    fn answer(forwarding: &mut Forwarding<u32>, request_id: &str) -> AnsweredClients {
        let payload = format!(r#"{{"t":1,"request_id":"{request_id}","param":{{"code":0}}}}"#);
        forwarding.handle_answer(Channel::ReportResponse, payload.as_bytes())
    }

    fn sent(forwarding: &mut Forwarding<u32>) -> Vec<u64> {
        std::iter::from_fn(|| forwarding.poll_forward()).map(|forward| forward.id.0).collect()
    }

    #[test]
    fn an_answer_goes_to_the_client_that_asked() {
        let mut forwarding = forwarding();
        report(&mut forwarding, ONE, "a", 10);
        report(&mut forwarding, TWO, "b", 20);
        assert_eq!(sent(&mut forwarding), [0, 1]);
        assert_eq!(forwarding.handle_acknowledged(ForwardId(0)), Some((ONE, 10)));
        assert_eq!(answer(&mut forwarding, "a").clients, [ONE]);
        assert_eq!(answer(&mut forwarding, "b").clients, [TWO]);
        assert_eq!(answer(&mut forwarding, "b"), AnsweredClients::default(), "an answer ends its request");
        assert_eq!(forwarding.len(), 1, "the second one waits for its acknowledgement");
        assert_eq!(forwarding.handle_acknowledged(ForwardId(1)), Some((TWO, 20)));
        assert!(forwarding.is_empty() && forwarding.by_request.is_empty());
    }

    #[test]
    fn an_answer_goes_to_all_clients_with_its_request_id() {
        let mut forwarding = forwarding();
        report(&mut forwarding, ONE, "a", 1);
        report(&mut forwarding, TWO, "a", 2);
        assert_eq!(answer(&mut forwarding, "a").clients, [ONE, TWO]);
    }

    #[test]
    fn the_same_id_on_another_channel_is_another_request() {
        let mut forwarding = forwarding();
        forwarding.accept(ONE, message("a"), Some(Channel::Sync), None, None);
        assert_eq!(answer(&mut forwarding, "a"), AnsweredClients::default());
        let answer = forwarding.handle_answer(Channel::SyncResponse, br#"{"request_id":"a"}"#);
        assert_eq!(answer.clients, [ONE]);
    }

    #[test]
    fn a_client_without_requests_is_an_observer() {
        let mut forwarding = forwarding();
        forwarding.accept(ONE, message("s"), Some(Channel::Status), None, None);
        assert!(forwarding.is_observer(ONE), "a status is no request");
        report(&mut forwarding, ONE, "a", 1);
        assert!(!forwarding.is_observer(ONE));
        assert!(forwarding.is_observer(TWO));
        forwarding.handle_client_gone(TWO);
        assert!(!forwarding.is_observer(TWO));
    }

    #[test]
    fn unanswered_requests_are_sent_again_in_order_until_their_client_goes() {
        let mut forwarding = forwarding();
        for (client, id) in [(ONE, "a"), (TWO, "b"), (ONE, "c")] {
            report(&mut forwarding, client, id, 0);
        }
        assert_eq!(sent(&mut forwarding), [0, 1, 2]);
        forwarding.handle_acknowledged(ForwardId(0));
        assert_eq!(forwarding.handle_connected(false), 3);
        assert_eq!(sent(&mut forwarding), [0, 1, 2]);
        assert_eq!(forwarding.handle_acknowledged(ForwardId(0)), None, "its client has the acknowledgement");
        forwarding.handle_client_gone(TWO);
        assert_eq!(forwarding.handle_connected(false), 2);
        assert_eq!(sent(&mut forwarding), [0, 2]);
        forwarding.handle_acknowledged(ForwardId(0));
        assert_eq!(forwarding.handle_connected(true), 1, "the session sends the unacknowledged one again");
    }

    #[test]
    fn a_message_without_an_answer_ends_with_its_acknowledgement() {
        let mut forwarding = forwarding();
        forwarding.accept(ONE, message("s"), Some(Channel::Status), Some(7), None);
        forwarding.accept(
            ONE,
            ("up".into(), Bytes::from_static(b"not json")),
            Some(Channel::Report),
            Some(8),
            None,
        );
        assert_eq!(sent(&mut forwarding), [0, 1]);
        assert_eq!(forwarding.handle_acknowledged(ForwardId(0)), Some((ONE, 7)));
        assert_eq!(forwarding.handle_acknowledged(ForwardId(1)), Some((ONE, 8)));
        assert!(forwarding.is_empty());
    }

    #[test]
    fn a_retry_replaces_the_attempt_before() {
        let mut forwarding = forwarding();
        report(&mut forwarding, ONE, "a", 1);
        sent(&mut forwarding);
        forwarding.handle_acknowledged(ForwardId(0));
        report(&mut forwarding, ONE, "a", 2);
        assert_eq!(forwarding.len(), 1);
        assert_eq!(sent(&mut forwarding), [1]);
        report(&mut forwarding, ONE, "a", 3);
        assert_eq!(forwarding.len(), 2, "one waits for its acknowledgement");
        assert_eq!(answer(&mut forwarding, "a").clients, [ONE]);
        assert_eq!(forwarding.handle_acknowledged(ForwardId(1)), Some((ONE, 2)));
        assert_eq!(sent(&mut forwarding), [2]);
        assert_eq!(forwarding.handle_acknowledged(ForwardId(2)), Some((ONE, 3)));
        assert!(forwarding.is_empty());
    }

    #[test]
    fn the_answer_to_a_client_that_has_gone_is_recognised() {
        let mut forwarding = forwarding();
        report(&mut forwarding, ONE, "a", 1);
        report(&mut forwarding, ONE, "b", 1);
        forwarding.poll_forward();
        forwarding.handle_client_gone(ONE);
        assert_eq!(answer(&mut forwarding, "a").abandoned.as_deref(), Some("a"));
        assert_eq!(answer(&mut forwarding, "a").abandoned, None, "once");
        assert_eq!(answer(&mut forwarding, "b").abandoned, None, "it was never sent");
        assert!(forwarding.is_empty() && forwarding.queue.is_empty());
        assert_eq!(forwarding.handle_acknowledged(ForwardId(0)), None);
    }

    #[test]
    fn a_message_behind_spooled_ones_waits_for_their_end() {
        let mut forwarding = forwarding();
        forwarding.accept(ONE, message("a"), Some(Channel::Report), Some(1), Some("c1"));
        report(&mut forwarding, ONE, "b", 2);
        assert_eq!(sent(&mut forwarding), [1]);
        forwarding.handle_connected(false);
        assert_eq!(sent(&mut forwarding), [1], "a new connection does not let it go");
        forwarding.release("c2");
        assert!(!forwarding.has_queued());
        forwarding.release("c1");
        assert_eq!(sent(&mut forwarding), [0]);
    }

    #[test]
    fn a_client_with_too_many_open_messages_is_refused() {
        let mut forwarding = forwarding();
        let long = Bytes::from(vec![b' '; MOST_OPEN_BYTES / 2 - 2 * OVERHEAD]);
        for expected in [Accepted::Yes, Accepted::Yes, Accepted::TooMany] {
            let message = ("up".into(), long.clone());
            assert_eq!(forwarding.accept(ONE, message, Some(Channel::Report), None, None), expected);
        }
        assert_eq!(report(&mut forwarding, TWO, "a", 1), Accepted::Yes);
        sent(&mut forwarding);
        forwarding.handle_acknowledged(ForwardId(0));
        forwarding.handle_acknowledged(ForwardId(1));
        let message = ("up".into(), long);
        assert_eq!(
            forwarding.accept(ONE, message, None, None, None),
            Accepted::Yes,
            "the room is given back"
        );
    }

    #[test]
    fn abandoned_requests_are_bounded() {
        let mut forwarding = forwarding();
        for number in 0..MOST_ABANDONED as u64 + 10 {
            let client = LocalClient(number + 10);
            forwarding.handle_client(client);
            report(&mut forwarding, client, &number.to_string(), 0);
            forwarding.poll_forward();
            forwarding.handle_client_gone(client);
        }
        assert_eq!(forwarding.abandoned.len(), MOST_ABANDONED);
        assert_eq!(answer(&mut forwarding, "3").abandoned, None);
        assert!(answer(&mut forwarding, "10").abandoned.is_some());
    }
}
