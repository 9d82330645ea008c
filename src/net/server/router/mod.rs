//! The state shared by all connections: sessions, subscriptions, retained messages, and the handler.

mod packets;

use std::{
    cell::RefCell,
    collections::{BTreeSet, HashMap},
    fmt,
    rc::Rc,
    task::Waker,
    time::{Duration, Instant, SystemTime, UNIX_EPOCH},
};

use bytes::BytesMut;

use super::{
    client_state::ClientState,
    close_reason::CloseReason,
    handler::{ClientInfo, ConnectRefusal, Handler, Now, Recipients, ServerAction, SessionId},
    limits::ServerLimits,
    retained::Retained,
    subscriptions::Subscriptions,
};
use crate::mqtt::{Connect, ConnectCode, Direction, Message, Publish, QoS, Session, Side, Will};

/// How many spare buffers are kept, and their largest size: a client that sends little gets any of them, and must not hold a
/// large one for a few bytes.
const SPARE: usize = 16;
const SPARE_SIZE: usize = 128 * 1024;

/// The cost of a warning, as [`super::connection`] counts.
const WARNING_COST: usize = 2 * 1024;

/// How many expired sessions are removed at once.
const BATCH: usize = 256;

/// A connection's reference to its client; void once the client has another connection.
#[derive(Clone, Copy, Debug)]
pub(super) struct ClientHandle {
    pub(super) id: SessionId,
    pub(super) generation: u64,
}

pub(super) struct Router<H: Handler> {
    handler: H,
    limits: ServerLimits,
    clients: Vec<Option<Box<ClientState<H::ClientData>>>>,
    vacant: Vec<SessionId>,
    by_client: HashMap<Rc<str>, SessionId>,
    /// Sessions without a connection, by the time of their end.
    absent: BTreeSet<(Duration, SessionId)>,
    subscriptions: Subscriptions,
    retained: Retained,
    /// The weight of all clients together (see [`ClientState::weight`]).
    kept_bytes: usize,
    /// Bytes of unfinished packets on all connections.
    pub(super) unfinished_bytes: usize,
    /// The cost of the current turn beside the bytes read.
    effort: usize,
    count: u64,
    start: Instant,
    now: Now,
    /// The session whose connection has its turn: it writes without being woken.
    current: Option<SessionId>,
    found: Vec<(SessionId, QoS)>,
    spare: Vec<BytesMut>,
    stalled: Vec<Waker>,
    flusher: Option<Waker>,
    is_flush_due: bool,
    alarm: Option<Waker>,
    alarm_at: Option<Duration>,
}

impl<H: Handler> fmt::Debug for Router<H> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Router").field("clients", &self.clients.len()).finish_non_exhaustive()
    }
}

impl<H: Handler> Router<H> {
    pub(super) fn new(handler: H, limits: ServerLimits, start: Instant) -> Rc<RefCell<Self>> {
        Rc::new(RefCell::new(Self {
            retained: Retained::new(limits.max_retained),
            handler,
            clients: Vec::new(),
            vacant: Vec::new(),
            by_client: HashMap::new(),
            absent: BTreeSet::new(),
            subscriptions: Subscriptions::default(),
            kept_bytes: 0,
            unfinished_bytes: 0,
            effort: 0,
            count: 0,
            start,
            now: Now { mono: Duration::ZERO, unix: Duration::ZERO },
            current: None,
            found: Vec::new(),
            spare: Vec::new(),
            stalled: Vec::new(),
            flusher: None,
            is_flush_due: false,
            alarm: None,
            alarm_at: None,
            limits,
        }))
    }

    // Turns and time.

    pub(super) fn begin_turn(&mut self) -> Now {
        let unix = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
        self.now = Now { mono: self.start.elapsed(), unix };
        self.current = None;
        self.now
    }

    /// Wakes the tasks that flush the output of this and other turns, and that keep the time.
    pub(super) fn end_turn(&mut self) {
        self.current = None;
        self.evict_heaviest();
        if !self.is_flush_due
            && let Some(flusher) = &self.flusher
        {
            self.is_flush_due = true;
            flusher.wake_by_ref();
        }
        let due = self.next_due();
        if due.is_some_and(|due| self.alarm_at.is_none_or(|armed| due < armed))
            && let Some(alarm) = self.alarm.take()
        {
            alarm.wake();
        }
    }

    /// When [`Router::run_due`] has something to do next.
    fn next_due(&self) -> Option<Duration> {
        let absent = self.absent.first().map(|(due, _)| *due);
        [absent, self.handler.poll_timeout()].into_iter().flatten().min()
    }

    /// Does a part of the work that is due; returns when to call again, which may be at once. An earlier deadline wakes
    /// `waker`.
    pub(super) fn run_due(&mut self, waker: &Waker) -> Option<Duration> {
        for _ in 0..BATCH {
            let due = self.absent.first().copied().filter(|(due, _)| *due <= self.now.mono);
            let Some((_, id)) = due else { break };
            self.remove(id);
        }
        self.handler.handle_timeout(self.now);
        self.perform_actions();
        self.alarm = Some(waker.clone());
        self.alarm_at = self.next_due();
        self.alarm_at
    }

    pub(super) fn now(&self) -> Now {
        self.now
    }

    pub(super) fn limits(&self) -> &ServerLimits {
        &self.limits
    }

    pub(super) fn instant(&self, moment: Duration) -> tokio::time::Instant {
        tokio::time::Instant::from_std(self.start + moment)
    }

    /// Lets the handler hand over its output; `waker` is woken when that is due again.
    pub(super) fn flush(&mut self, waker: &Waker) {
        self.is_flush_due = false;
        if self.flusher.as_ref().is_none_or(|known| !known.will_wake(waker)) {
            self.flusher = Some(waker.clone());
        }
        self.handler.flush();
    }

    /// Whether so many bytes are kept for all clients together that each of them gets less room.
    pub(super) fn is_crowded(&self) -> bool {
        self.limits.is_crowded(self.kept_bytes)
    }

    /// The bytes that unfinished packets may occupy: less if the clients are crowded, so that the sum is bounded.
    pub(super) fn room_for_unfinished(&self) -> usize {
        let most = self.limits.max_unfinished;
        if self.is_crowded() { most / 4 } else { most }
    }

    /// The bytes that may be kept for all clients together: reduced by the bytes of unfinished packets beyond their share in a
    /// crowd.
    fn room_for_clients(&self) -> usize {
        let ServerLimits { max_queues, max_unfinished, .. } = self.limits;
        let taken = self.unfinished_bytes.saturating_sub(max_unfinished / 4);
        max_queues.saturating_sub(taken).max(max_queues / 2)
    }

    /// The weight of all clients together (see [`ClientState::weight`]).
    #[cfg(test)]
    pub(super) fn kept_bytes(&self) -> usize {
        self.kept_bytes
    }

    #[cfg(test)]
    pub(super) fn client_by_name(&mut self, client_id: &str) -> Option<&mut ClientState<H::ClientData>> {
        let id = *self.by_client.get(client_id)?;
        self.client_by_session(id)
    }

    // Buffers.

    pub(super) fn take_buffer(&mut self) -> BytesMut {
        self.spare.pop().unwrap_or_default()
    }

    pub(super) fn give_buffer(&mut self, mut buffer: BytesMut) {
        if buffer.capacity() > 0 && buffer.capacity() <= SPARE_SIZE && self.spare.len() < SPARE {
            buffer.clear();
            self.spare.push(buffer);
        }
    }

    // The handler.

    /// Gives access to the handler, and does what it then asks for.
    pub(super) fn turn<R>(&mut self, act: impl FnOnce(&mut H, Now) -> R) -> R {
        self.begin_turn();
        let was_congested = self.handler.is_congested();
        let result = act(&mut self.handler, self.now);
        self.perform_actions();
        if was_congested && !self.handler.is_congested() {
            self.wake_stalled();
        }
        self.end_turn();
        result
    }

    /// Whether the handler is so far behind that nothing more is read from clients.
    pub(super) fn is_congested(&self) -> bool {
        self.handler.is_congested()
    }

    /// Does what the handler asks for.
    fn perform_actions(&mut self) {
        while let Some(action) = self.handler.poll_action(self.now) {
            match action {
                ServerAction::Publish { topic, payload, qos, to: Recipients::Subscribers } => {
                    self.route(topic, payload, qos);
                }
                ServerAction::Publish { topic, payload, qos, to: Recipients::Session(id) } => {
                    self.route_to(id, Publish { topic, payload, qos, retain: false });
                }
                ServerAction::Retained { topic, payload, to } => {
                    let qos = QoS::AtLeastOnce;
                    self.route_to(to, Publish { topic, payload, qos, retain: true });
                }
                ServerAction::Disconnect(id, why) => {
                    let is_current = self.current == Some(id);
                    if let Some(client) = self.client_by_session(id) {
                        client.leaving = Some(why);
                        if !is_current {
                            client.wake();
                        }
                    }
                }
                ServerAction::Acknowledge(ack) => {
                    let is_current = self.current == Some(ack.session);
                    if let Some(client) =
                        self.client_by_session(ack.session).filter(|client| client.origin == ack.origin)
                    {
                        client.session.acknowledge(ack.receipt);
                        if !is_current {
                            client.wake();
                        }
                    }
                }
                ServerAction::Warn(message) => self.warn(&message),
            }
        }
    }

    /// Returns the cost of the work since the last call, in bytes that could have been read instead.
    pub(super) fn take_effort(&mut self) -> usize {
        std::mem::take(&mut self.effort)
    }

    pub(super) fn wait_for_room(&mut self, waker: &Waker) {
        self.stalled.push(waker.clone());
    }

    pub(super) fn wake_stalled(&mut self) {
        for waker in self.stalled.drain(..) {
            waker.wake();
        }
    }

    pub(super) fn warn(&mut self, message: &str) {
        self.effort += WARNING_COST;
        self.handler.handle_warning(message);
    }

    // Sessions.

    /// The client of a connection; `None` once another connection of the same client has it.
    pub(super) fn client(&mut self, handle: ClientHandle) -> Option<&mut ClientState<H::ClientData>> {
        let client = self.clients.get_mut(handle.id.0 as usize)?.as_deref_mut()?;
        (client.generation == handle.generation).then_some(client)
    }

    fn client_by_session(&mut self, id: SessionId) -> Option<&mut ClientState<H::ClientData>> {
        self.clients.get_mut(id.0 as usize)?.as_deref_mut()
    }

    /// Accepts or refuses a client, whose CONNECT `session` has just read. The session moves to the client if it is accepted, and
    /// answers otherwise.
    pub(super) fn accept_client(
        &mut self,
        mut connect: Connect,
        session: &mut Session,
    ) -> Result<ClientHandle, CloseReason> {
        let data = match self.handler.handle_connect(self.now, &connect) {
            Ok(data) => Rc::new(data),
            Err(ConnectRefusal::Close(why)) => return Err(CloseReason::Closed(why.into_owned())),
            Err(ConnectRefusal::Refuse(code, why)) => {
                return Err(self.refuse(
                    session,
                    code,
                    &why,
                    &connect.client_id,
                    connect.username.as_deref(),
                ));
            }
        };
        self.count += 1;
        let generation = self.count;
        if connect.client_id.is_empty() {
            let mut names = (generation..).map(|number| format!("{}{number}", H::ASSIGNED_ID_PREFIX));
            connect.client_id = names.find(|name| !self.by_client.contains_key(&**name)).unwrap_or_default();
        }
        let client_id: Rc<str> = connect.client_id.as_str().into();
        self.take_over(&client_id);

        let fresh = std::mem::replace(session, Session::new(Side::Server, self.limits.session()));
        let mut client =
            Box::new(ClientState::new(fresh, Rc::clone(&client_id), Rc::clone(&data), generation));
        client.username = connect.username.as_deref().map(Into::into);
        client.is_clean = connect.clean_session;
        client.is_bridge = connect.is_bridge;
        let former = self.by_client.get(&client_id).copied();
        let mut resumed = former.filter(|id| {
            !connect.clean_session
                && self.client_by_session(*id).is_some_and(|client| !client.is_clean && client.data == data)
        });
        // Messages queued for one manufacturer's gateway must not reach another's.
        if let Some(id) = resumed
            && let Some(other) =
                self.client_by_session(id).filter(|former| former.username != client.username)
        {
            let other = other.username.as_deref().unwrap_or_default().to_owned();
            self.warn(&format!(
                "client {client_id:?} left a session as username {other:?} and connected as {:?}: the session was \
                 ended, and its queued messages were dropped",
                connect.username.as_deref().unwrap_or_default()
            ));
            resumed = None;
        }
        let id = match (resumed, former) {
            (Some(id), _) => {
                if let Some(former) = self.clients[id.0 as usize].take() {
                    self.absent.remove(&(former.expires, id));
                    client.inherit(*former);
                }
                id
            }
            (None, former) => {
                if let Some(former) = former {
                    self.remove(former);
                }
                self.vacant_id()
            }
        };
        let username = connect.username.as_deref();
        let info = ClientInfo { session: id, client_id: &client_id, username, data: &*data };
        self.handler.handle_connected(self.now, info);
        client.set_will(connect.will);
        client.session.connack(resumed.is_some(), ConnectCode::ACCEPTED);
        client.session.resume();
        self.clients[id.0 as usize] = Some(client);
        self.by_client.insert(client_id, id);
        self.weigh(id);
        Ok(ClientHandle { id, generation })
    }

    /// Refuses a CONNECT.
    pub(super) fn refuse(
        &mut self,
        session: &mut Session,
        code: ConnectCode,
        why: &str,
        client_id: &str,
        username: Option<&str>,
    ) -> CloseReason {
        session.connack(false, code);
        self.handler.handle_refused(self.now, client_id, username, code);
        let username = username.unwrap_or_default();
        self.warn(&format!(
            "client {client_id:?}, username {username:?}, was refused with CONNACK {code} ({}): {why}",
            code.name()
        ));
        CloseReason::Refused
    }

    /// Closes the former connection of a client that connects again (MQTT-3.1.4-2).
    fn take_over(&mut self, client_id: &Rc<str>) {
        let Some(id) = self.by_client.get(client_id).copied() else { return };
        let Some(client) = self.client_by_session(id).filter(|client| client.is_connected) else { return };
        let generation = client.generation;
        self.warn(&format!(
            "client {client_id:?} connected while it was connected: the former connection is closed; does \
             another client use this id?"
        ));
        self.disconnect(ClientHandle { id, generation }, &CloseReason::TakenOver);
    }

    fn vacant_id(&mut self) -> SessionId {
        if let Some(id) = self.vacant.pop() {
            return id;
        }
        let next = u32::try_from(self.clients.len()).unwrap_or(u32::MAX);
        self.clients.push(None);
        SessionId(next)
    }

    /// Takes note of a connection's end: publishes the will, and ends the session unless it is persistent.
    pub(super) fn disconnect(&mut self, handle: ClientHandle, why: &CloseReason) {
        let now = self.now.mono;
        let expires = now + self.limits.session_expiry;
        let Some(client) = self.client(handle).filter(|client| client.is_connected) else { return };
        client.is_connected = false;
        if let Some(former) = client.waker.take() {
            former.wake();
        }
        let will = client.take_will().filter(|_| !matches!(why, CloseReason::Left));
        client.unsent = 0;
        let (data, client_id) = (Rc::clone(&client.data), Rc::clone(&client.client_id));
        let (username, is_clean) = (client.username.clone(), client.is_clean);
        // The task of a connection that was taken over must no longer find the client.
        client.generation = 0;
        client.session.open(now);
        let by = match why {
            CloseReason::Left | CloseReason::Gone | CloseReason::Failed => Direction::Up,
            CloseReason::Closed(_) | CloseReason::Refused | CloseReason::TakenOver => Direction::Down,
        };
        let username = username.as_deref();
        let info = ClientInfo { session: handle.id, client_id: &client_id, username, data: &*data };
        self.handler.handle_disconnected(self.now, info, by);
        if let CloseReason::Closed(why) = why {
            self.warn(&format!("client {client_id:?} was disconnected: {why}"));
        }
        if is_clean {
            self.remove(handle.id);
        } else {
            while self.absent.len() >= self.limits.max_connections
                && let Some((_, oldest)) = self.absent.first().copied()
            {
                self.remove(oldest);
            }
            if let Some(client) = self.client_by_session(handle.id) {
                client.expires = expires;
                client.session.shrink();
                self.absent.insert((expires, handle.id));
            }
            self.weigh(handle.id);
        }
        if let Some(will) = will {
            self.publish_will(will, info);
        }
    }

    fn publish_will(&mut self, will: Will, client: ClientInfo<'_, H::ClientData>) {
        let Will { topic, payload, qos, retain } = will;
        let message = Message { topic: topic.into(), payload, qos, retain, dup: false, id: None };
        let is_forwarded = self.handler.handle_will(self.now, client, &message);
        self.perform_actions();
        if is_forwarded {
            self.pass_on(message, None);
        }
    }

    /// Removes a session and its subscriptions.
    fn remove(&mut self, id: SessionId) {
        let Some(mut client) = self.clients.get_mut(id.0 as usize).and_then(Option::take) else { return };
        self.absent.remove(&(client.expires, id));
        self.kept_bytes -= client.weighed;
        for filter in client.take_filters() {
            self.subscriptions.remove(&filter, id);
        }
        self.by_client.remove(&client.client_id);
        self.handler.handle_session_ended(client.info(id));
        self.vacant.push(id);
    }

    /// Updates the weight of a client.
    pub(super) fn weigh(&mut self, id: SessionId) {
        if let Some(client) = self.clients.get_mut(id.0 as usize).and_then(Option::as_deref_mut) {
            let weight = client.weight();
            self.kept_bytes = self.kept_bytes - client.weighed + weight;
            client.weighed = weight;
        }
    }

    /// Disconnects the heaviest clients if all together exceed the limit, and a quarter more, so that this is not done for each
    /// message.
    fn evict_heaviest(&mut self) {
        let room = self.room_for_clients();
        if self.kept_bytes <= room {
            return;
        }
        let enough = room / 4 * 3;
        let clients = (0..).map(SessionId).zip(&self.clients);
        let mut heaviest: Vec<(usize, SessionId)> =
            clients.filter_map(|(id, client)| Some((client.as_ref()?.weighed, id))).collect();
        heaviest.sort_unstable_by_key(|(weight, _)| std::cmp::Reverse(*weight));
        for (_, id) in heaviest {
            if self.kept_bytes <= enough {
                return;
            }
            self.evict(id);
        }
    }

    /// Ends a client's connection and session to make room for the others.
    fn evict(&mut self, id: SessionId) {
        let why = "more is kept for all clients than --max-queues allows, and most for this one";
        let Some(client) = self.client_by_session(id) else { return };
        let (generation, client_id) = (client.generation, Rc::clone(&client.client_id));
        if client.is_connected {
            self.disconnect(ClientHandle { id, generation }, &CloseReason::Closed(why.into()));
        } else {
            self.warn(&format!("the session of client {client_id:?}, which is away, was ended: {why}"));
        }
        self.remove(id);
    }
}
