//! Where all connections meet: sessions, subscriptions, retained messages, and the platform behind them.

mod packets;
mod platform;

use std::{
    cell::RefCell,
    collections::{BTreeSet, HashMap, VecDeque},
    fmt,
    rc::Rc,
    task::Waker,
    time::{Duration, Instant, SystemTime, UNIX_EPOCH},
};

use bytes::BytesMut;

use self::platform::{Delayed, PendingSync};
use super::{
    Handler, Limits, SessionId, client_state::ClientState, connection::Ending, retained::Retained,
    subscriptions::Subscriptions,
};
use crate::{
    edge::{Action, Disposition, Edge, Login, LoginError, Moment, Role},
    io::registry_file::{Position, RegistryFile},
    mqtt::{Connect, ConnectCode, Direction, Message, Password, QoS, Session, Side, Will},
    recording::Connection,
};

/// How many spare buffers are kept, and how large one may be. A client that says little gets one as well as any other, so
/// a large one would be lent for a few bytes.
const SPARE: usize = 16;
const SPARE_SIZE: usize = 128 * 1024;

/// What a warning costs of a turn, as [`super::connection`] counts.
const WARNING_COST: usize = 2 * 1024;

/// How much may wait for the registry's file before nothing more is read from clients: far more than is synchronised
/// while a disk writes once.
const MOST_UNKEPT: usize = 20_000;

/// A connection's hold on a client.
#[derive(Clone, Copy, Debug)]
pub(super) struct ClientHandle {
    pub(super) id: SessionId,
    pub(super) generation: u64,
}

pub(super) struct Router {
    edge: Edge,
    limits: Limits,
    witness: Box<dyn Handler>,
    /// The registry's file.
    journal: Option<RegistryFile>,
    clients: Vec<Option<Box<ClientState>>>,
    vacant: Vec<SessionId>,
    by_client: HashMap<Rc<str>, SessionId>,
    /// Sessions without a connection, by the time of their end.
    absent: BTreeSet<(Duration, SessionId)>,
    subscriptions: Subscriptions,
    retained: Retained,
    /// The weight of all clients together (see [`ClientState::weight`]).
    kept_bytes: usize,
    /// Bytes that have come of packets that are not whole, on all connections.
    pub(super) unfinished_bytes: usize,
    /// What waits for the journal, in its order.
    unkept: VecDeque<(Position, PendingSync)>,
    last_line: Position,
    delayed: Delayed,
    /// What the present turn has cost beside the bytes that were heard.
    effort: usize,
    count: u64,
    start: Instant,
    now: Moment,
    /// Whose turn it is: it writes by itself.
    current: Option<SessionId>,
    actions: Vec<Action>,
    found: Vec<(SessionId, QoS)>,
    spare: Vec<BytesMut>,
    stalled: Vec<Waker>,
    flusher: Option<Waker>,
    is_flush_due: bool,
    alarm: Option<Waker>,
    alarm_at: Option<Duration>,
}

impl fmt::Debug for Router {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Router").field("clients", &self.clients.len()).finish_non_exhaustive()
    }
}

impl Router {
    pub(super) fn new(
        edge: Edge,
        limits: Limits,
        witness: Box<dyn Handler>,
        journal: Option<RegistryFile>,
        start: Instant,
    ) -> Rc<RefCell<Self>> {
        Rc::new(RefCell::new(Self {
            retained: Retained::new(limits.max_retained),
            edge,
            witness,
            journal,
            clients: Vec::new(),
            vacant: Vec::new(),
            by_client: HashMap::new(),
            absent: BTreeSet::new(),
            subscriptions: Subscriptions::default(),
            kept_bytes: 0,
            unfinished_bytes: 0,
            unkept: VecDeque::new(),
            last_line: Position::default(),
            delayed: Delayed::new(limits.max_queues / 4),
            effort: 0,
            count: 0,
            start,
            now: Moment { mono: Duration::ZERO, unix: Duration::ZERO },
            current: None,
            actions: Vec::new(),
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

    pub(super) fn begin_turn(&mut self) -> Moment {
        let unix = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
        self.now = Moment { mono: self.start.elapsed(), unix };
        self.current = None;
        self.now
    }

    /// Sees to it that what the turn wrote leaves soon, together with what other turns write.
    pub(super) fn end_turn(&mut self) {
        self.current = None;
        self.relieve();
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

    pub(super) fn now(&self) -> Moment {
        self.now
    }

    pub(super) fn limits(&self) -> &Limits {
        &self.limits
    }

    pub(super) fn instant(&self, moment: Duration) -> tokio::time::Instant {
        tokio::time::Instant::from_std(self.start + moment)
    }

    /// Hands lines to their threads.
    pub(super) fn flush(&mut self, waker: &Waker) {
        self.is_flush_due = false;
        if self.flusher.as_ref().is_none_or(|known| !known.will_wake(waker)) {
            self.flusher = Some(waker.clone());
        }
        if let Some(journal) = &mut self.journal {
            journal.flush();
        }
        self.witness.flush();
    }

    /// Whether so much is kept for all clients together that each of them gets less room.
    pub(super) fn is_crowded(&self) -> bool {
        self.limits.is_crowded(self.kept_bytes)
    }

    /// How much unfinished packets may take: less once much is kept for all clients, so that both together have an end.
    pub(super) fn room_for_unfinished(&self) -> usize {
        let most = self.limits.max_unfinished;
        if self.is_crowded() { most / 4 } else { most }
    }

    /// How much may be kept for all clients together: what unfinished packets have taken beyond what they get in a crowd
    /// is missing.
    fn room_for_clients(&self) -> usize {
        let Limits { max_queues, max_unfinished, .. } = self.limits;
        let taken = self.unfinished_bytes.saturating_sub(max_unfinished / 4);
        max_queues.saturating_sub(taken).max(max_queues / 2)
    }

    /// What is kept for all clients together (see [`ClientState::weight`]).
    #[cfg(test)]
    pub(super) fn kept_bytes(&self) -> usize {
        self.kept_bytes
    }

    #[cfg(test)]
    pub(super) fn delayed_bytes(&self) -> usize {
        self.delayed.bytes()
    }

    #[cfg(test)]
    pub(super) fn seat_of(&mut self, client_id: &str) -> Option<&mut ClientState> {
        let id = *self.by_client.get(client_id)?;
        self.seat_by_id(id)
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

    // Records.

    /// Whether the records' reader or the registry's file is so far behind that nothing more is read from clients.
    pub(super) fn is_congested(&self) -> bool {
        self.witness.is_congested() || self.unkept.len() >= MOST_UNKEPT
    }

    /// What was done since the last call beside hearing bytes, in about as many bytes as could have been heard instead.
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
        self.witness.warn(message);
    }

    fn micros(duration: Duration) -> u64 {
        u64::try_from(duration.as_micros()).unwrap_or(u64::MAX)
    }

    fn unix_us(&self) -> i64 {
        i64::try_from(self.now.unix.as_micros()).unwrap_or(i64::MAX)
    }

    fn record_connection(&mut self, dir: Direction, code: Option<ConnectCode>, who: Who<'_>) {
        let gateway_id = match who.role {
            Some(Role::Gateway(id)) => Some(id.as_str()),
            Some(Role::Platform) | None => None,
        };
        let record = Connection {
            unix_us: self.unix_us(),
            dir,
            connected: code.is_some(),
            gateway_id,
            mono_us: Self::micros(self.now.mono),
            client_id: who.client_id,
            username: who.username,
            code,
        };
        self.witness.connection(&record);
    }

    // Sessions.

    /// The client of a connection; `None` once another connection of the same client has it.
    pub(super) fn client(&mut self, place: ClientHandle) -> Option<&mut ClientState> {
        let client = self.clients.get_mut(place.id.0 as usize)?.as_deref_mut()?;
        (client.generation == place.generation).then_some(client)
    }

    fn seat_by_id(&mut self, id: SessionId) -> Option<&mut ClientState> {
        self.clients.get_mut(id.0 as usize)?.as_deref_mut()
    }

    /// Lets a client in, whose CONNECT `session` has just read; it is left empty then, and answers otherwise.
    pub(super) fn admit(
        &mut self,
        mut connect: Connect,
        session: &mut Session,
    ) -> Result<ClientHandle, Ending> {
        let login = Login {
            client_id: &connect.client_id,
            username: connect.username.as_deref(),
            password: connect.password.as_ref().map(Password::expose),
            clean_session: connect.clean_session,
        };
        let role = match self.edge.login(&login) {
            Ok(role) => Rc::new(role),
            Err(LoginError::Dropped) => {
                return Err(Ending::Closed("its client id holds control characters".into()));
            }
            Err(LoginError::Refused { code, why }) => {
                return Err(self.refuse(session, code, why, &connect.client_id, connect.username.as_deref()));
            }
        };
        self.count += 1;
        let generation = self.count;
        if connect.client_id.is_empty() {
            let mut names = (generation..).map(|number| format!("platform-{number}"));
            connect.client_id = names.find(|name| !self.by_client.contains_key(&**name)).unwrap_or_default();
        }
        let client_id: Rc<str> = connect.client_id.as_str().into();
        self.take_over(&client_id);

        let fresh = std::mem::replace(session, Session::new(Side::Server, self.limits.session()));
        let mut client =
            Box::new(ClientState::new(fresh, Rc::clone(&client_id), Rc::clone(&role), generation));
        client.username = connect.username.as_deref().map(Into::into);
        client.is_clean = connect.clean_session;
        client.is_bridge = connect.is_bridge;
        let former = self.by_client.get(&client_id).copied();
        let mut resumed = former.filter(|id| {
            !connect.clean_session
                && self.seat_by_id(*id).is_some_and(|client| !client.is_clean && client.role == role)
        });
        // What waits for one manufacturer's gateway is no business of another's.
        if let Some(id) = resumed
            && let Some(other) = self.seat_by_id(id).filter(|former| former.username != client.username)
        {
            let other = other.username.as_deref().unwrap_or_default().to_owned();
            self.warn(&format!(
                "client {client_id:?} left a session as username {other:?} and connected as {:?}: the session was \
                 ended, with all that waited in it",
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
        self.record_connection(
            Direction::Up,
            Some(ConnectCode::ACCEPTED),
            Who { role: Some(&role), client_id: &client_id, username: connect.username.as_deref() },
        );
        client.set_will(connect.will);
        client.session.connack(resumed.is_some(), ConnectCode::ACCEPTED);
        client.session.resume();
        self.clients[id.0 as usize] = Some(client);
        self.by_client.insert(client_id, id);
        self.weigh(id);
        if let Role::Gateway(gateway) = &*role {
            self.edge.arrive(gateway);
        }
        Ok(ClientHandle { id, generation })
    }

    /// Answers a CONNECT that is refused, and says so.
    pub(super) fn refuse(
        &mut self,
        session: &mut Session,
        code: ConnectCode,
        why: &str,
        client_id: &str,
        username: Option<&str>,
    ) -> Ending {
        session.connack(false, code);
        self.record_connection(Direction::Up, Some(code), Who { role: None, client_id, username });
        let username = username.unwrap_or_default();
        self.warn(&format!(
            "client {client_id:?}, username {username:?}, was refused with CONNACK {code} ({}): {why}",
            code.name()
        ));
        Ending::Refused
    }

    /// Ends the connection that a client still has while it connects anew (MQTT-3.1.4-2).
    fn take_over(&mut self, client_id: &Rc<str>) {
        let Some(id) = self.by_client.get(client_id).copied() else { return };
        let Some(client) = self.seat_by_id(id).filter(|client| client.is_connected) else { return };
        let generation = client.generation;
        self.warn(&format!(
            "client {client_id:?} connected anew while it was connected: the former connection is closed; \
             does another client use this id?"
        ));
        self.depart(ClientHandle { id, generation }, &Ending::TakenOver);
    }

    fn vacant_id(&mut self) -> SessionId {
        if let Some(id) = self.vacant.pop() {
            return id;
        }
        let next = u32::try_from(self.clients.len()).unwrap_or(u32::MAX);
        self.clients.push(None);
        SessionId(next)
    }

    /// A connection has ended: publishes the will, and ends the session unless it is persistent.
    pub(super) fn depart(&mut self, place: ClientHandle, why: &Ending) {
        let now = self.now.mono;
        let expires = now + self.limits.session_expiry;
        let Some(client) = self.client(place).filter(|client| client.is_connected) else { return };
        client.is_connected = false;
        if let Some(former) = client.waker.take() {
            former.wake();
        }
        let will = client.take_will().filter(|_| !matches!(why, Ending::Left));
        client.unsent = 0;
        let (role, client_id) = (Rc::clone(&client.role), Rc::clone(&client.client_id));
        let (username, is_clean) = (client.username.clone(), client.is_clean);
        // The task of a connection that was taken over must find nothing of its own here.
        client.generation = 0;
        client.session.open(now);
        let dir = match why {
            Ending::Left | Ending::Gone | Ending::Failed(_) => Direction::Up,
            Ending::Closed(_) | Ending::Refused | Ending::TakenOver => Direction::Down,
        };
        let who = Who { role: Some(&role), client_id: &client_id, username: username.as_deref() };
        self.record_connection(dir, None, who);
        if let Ending::Closed(why) = why {
            self.warn(&format!("client {client_id:?} was disconnected: {why}"));
        }
        if is_clean {
            self.remove(place.id);
        } else {
            while self.absent.len() >= self.limits.max_connections
                && let Some((_, oldest)) = self.absent.first().copied()
            {
                self.remove(oldest);
            }
            if let Some(client) = self.seat_by_id(place.id) {
                client.expires = expires;
                client.session.shrink();
                self.absent.insert((expires, place.id));
            }
            self.weigh(place.id);
        }
        if let Some(will) = will {
            self.publish_will(will, &role);
        }
    }

    fn publish_will(&mut self, will: Will, role: &Role) {
        let Will { topic, payload, qos, retain } = will;
        let message = Message { topic: topic.into(), payload, qos, retain, dup: false, id: None };
        let mut actions = std::mem::take(&mut self.actions);
        let heard = self.edge.hear(self.now, role, &message.topic, &message.payload, &mut actions);
        self.actions = actions;
        match heard.fate {
            Disposition::Route | Disposition::RouteKept => {
                self.record(&message, role, heard);
                self.perform_actions();
                self.pass_on(message, None);
            }
            Disposition::Drop | Disposition::Forbid | Disposition::Cut | Disposition::Silence => {
                self.perform_actions();
            }
        }
    }

    /// Forgets a session and all that belongs to it.
    fn remove(&mut self, id: SessionId) {
        let Some(mut client) = self.clients.get_mut(id.0 as usize).and_then(Option::take) else { return };
        self.absent.remove(&(client.expires, id));
        self.kept_bytes -= client.weighed;
        for filter in client.take_filters() {
            self.subscriptions.remove(&filter, id);
        }
        self.by_client.remove(&client.client_id);
        if let Role::Gateway(gateway) = &*client.role {
            self.edge.leave(gateway);
        }
        self.vacant.push(id);
    }

    /// Counts anew what is kept for a client.
    pub(super) fn weigh(&mut self, id: SessionId) {
        if let Some(client) = self.clients.get_mut(id.0 as usize).and_then(Option::as_deref_mut) {
            let weight = client.weight();
            self.kept_bytes = self.kept_bytes - client.weighed + weight;
            client.weighed = weight;
        }
    }

    /// Gives up the heaviest clients where more is kept for all of them than the limit allows, and a quarter more,
    /// so that it is not done for each message.
    fn relieve(&mut self) {
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
            self.give_up(id);
        }
    }

    /// Ends a client's connection and session for the sake of all others.
    fn give_up(&mut self, id: SessionId) {
        let why = "more is kept for all clients than --max-queues allows, and most for this one";
        let Some(client) = self.seat_by_id(id) else { return };
        let (generation, client_id) = (client.generation, Rc::clone(&client.client_id));
        if client.is_connected {
            self.depart(ClientHandle { id, generation }, &Ending::Closed(why.into()));
        } else {
            self.warn(&format!("the session of client {client_id:?}, which is away, was ended: {why}"));
        }
        self.remove(id);
    }
}

/// Whom a record of a connection names.
#[derive(Clone, Copy)]
struct Who<'a> {
    role: Option<&'a Role>,
    client_id: &'a str,
    username: Option<&'a str>,
}
