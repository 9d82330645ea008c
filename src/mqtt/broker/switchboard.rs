//! Where all connections meet: sessions, subscriptions, retained messages, and the platform behind them.

use std::{
    cell::RefCell,
    collections::{BTreeMap, BTreeSet, HashMap, VecDeque},
    fmt,
    rc::Rc,
    task::Waker,
    time::{Duration, Instant, SystemTime, UNIX_EPOCH},
};

use bytes::{Bytes, BytesMut};

use super::{
    Limits, SessionId, Witness,
    connection::Ending,
    retained::Retained,
    seat::{Offered, Seat},
    subscriptions::Subscriptions,
};
use crate::{
    edge::{Act, Ask, Edge, Fate, Login, Moment, Role, Turned},
    mqtt::{Connect, Event, Message, Publish, QoS, Receipt, Session, SubscribeCode, Will},
    protocol::{Channel, ConnectCode, Direction},
    record::{Connection as ConnectionRecord, Record},
    sink::{Sink, Ticket},
};

/// How many spare buffers are kept, and how large one may be.
const SPARE: usize = 16;
const SPARE_SIZE: usize = 512 * 1024;

/// A connection's hold on a seat.
#[derive(Clone, Copy, Debug)]
pub(super) struct Place {
    pub(super) id: SessionId,
    pub(super) epoch: u64,
}

pub(super) struct Switchboard {
    edge: Edge,
    limits: Limits,
    witness: Box<dyn Witness>,
    /// The registry's file.
    journal: Option<Sink>,
    seats: Vec<Option<Box<Seat>>>,
    vacant: Vec<SessionId>,
    by_client: HashMap<Rc<str>, SessionId>,
    /// Sessions without a connection, by the time of their end.
    absent: BTreeSet<(Duration, SessionId)>,
    subscriptions: Subscriptions,
    retained: Retained,
    /// Bytes that wait for all clients together.
    waiting_bytes: usize,
    /// What waits for the journal, in its order.
    unkept: VecDeque<(Ticket, Unkept)>,
    last_line: Ticket,
    delayed: BTreeMap<(Duration, u64), Saying>,
    count: u64,
    start: Instant,
    now: Moment,
    /// Whose turn it is: it writes by itself.
    current: Option<SessionId>,
    acts: Vec<Act>,
    found: Vec<(SessionId, QoS)>,
    spare: Vec<BytesMut>,
    stalled: Vec<Waker>,
    flusher: Option<Waker>,
    is_flush_due: bool,
    alarm: Option<Waker>,
    alarm_at: Option<Duration>,
}

impl fmt::Debug for Switchboard {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Switchboard").field("seats", &self.seats.len()).finish_non_exhaustive()
    }
}

/// Something that may happen only once the journal has its line on the disk.
#[derive(Debug)]
enum Unkept {
    Acknowledgement { id: SessionId, client_id: Rc<str>, receipt: Receipt },
    Saying(Saying),
}

/// A message of the platform's.
#[derive(Debug)]
struct Saying {
    topic: String,
    payload: Vec<u8>,
    once_kept: bool,
}

impl Switchboard {
    pub(super) fn new(
        edge: Edge,
        limits: Limits,
        witness: Box<dyn Witness>,
        journal: Option<Sink>,
        start: Instant,
    ) -> Rc<RefCell<Self>> {
        Rc::new(RefCell::new(Self {
            retained: Retained::new(limits.max_retained),
            edge,
            limits,
            witness,
            journal,
            seats: Vec::new(),
            vacant: Vec::new(),
            by_client: HashMap::new(),
            absent: BTreeSet::new(),
            subscriptions: Subscriptions::default(),
            waiting_bytes: 0,
            unkept: VecDeque::new(),
            last_line: Ticket::default(),
            delayed: BTreeMap::new(),
            count: 0,
            start,
            now: Moment { mono: Duration::ZERO, unix: Duration::ZERO },
            current: None,
            acts: Vec::new(),
            found: Vec::new(),
            spare: Vec::new(),
            stalled: Vec::new(),
            flusher: None,
            is_flush_due: false,
            alarm: None,
            alarm_at: None,
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

    /// The next moment at which [`Switchboard::run_due`] has something to do.
    fn next_due(&self) -> Option<Duration> {
        let delayed = self.delayed.keys().next().map(|(due, _)| *due);
        let absent = self.absent.first().map(|(due, _)| *due);
        [delayed, absent, self.edge.deadline()].into_iter().flatten().min()
    }

    /// Does what is due, and says when to come again; an earlier due date wakes `waker`.
    pub(super) fn run_due(&mut self, waker: &Waker) -> Option<Duration> {
        let now = self.now.mono;
        while let Some(entry) = self.delayed.first_entry().filter(|entry| entry.key().0 <= now) {
            let saying = entry.remove();
            self.say(saying);
        }
        while let Some((_, id)) = self.absent.first().copied().filter(|(due, _)| *due <= now) {
            self.remove(id);
        }
        let mut acts = std::mem::take(&mut self.acts);
        self.edge.tick(now, &mut acts);
        self.acts = acts;
        self.act();
        self.alarm = Some(waker.clone());
        self.alarm_at = self.next_due();
        self.alarm_at
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

    /// Whether the records' reader is so far behind that nothing more is read from clients.
    pub(super) fn is_congested(&self) -> bool {
        self.witness.is_congested()
    }

    pub(super) fn wait_for_room(&mut self, waker: &Waker) {
        self.stalled.push(waker.clone());
    }

    pub(super) fn wake_stalled(&mut self) {
        for waker in self.stalled.drain(..) {
            waker.wake();
        }
    }

    pub(super) fn witness(&mut self) -> &mut dyn Witness {
        &mut *self.witness
    }

    pub(super) fn warn(&mut self, message: &str) {
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
        let record = ConnectionRecord {
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

    /// The seat of a connection; `None` once another connection of the same client has it.
    pub(super) fn seat(&mut self, place: Place) -> Option<&mut Seat> {
        let seat = self.seats.get_mut(place.id.0 as usize)?.as_deref_mut()?;
        (seat.epoch == place.epoch).then_some(seat)
    }

    fn seat_by_id(&mut self, id: SessionId) -> Option<&mut Seat> {
        self.seats.get_mut(id.0 as usize)?.as_deref_mut()
    }

    /// Lets a client in, whose CONNECT `session` has just read; it is left empty then, and answers otherwise.
    pub(super) fn admit(&mut self, mut connect: Connect, session: &mut Session) -> Result<Place, Ending> {
        let login = Login {
            client_id: &connect.client_id,
            username: connect.username.as_deref(),
            password: connect.password.as_ref().map(|password| password.expose()),
            clean_session: connect.clean_session,
        };
        let role = match self.edge.login(&login) {
            Ok(role) => Rc::new(role),
            Err(refusal) => return Err(self.turn_away(refusal, &connect, session)),
        };
        self.count += 1;
        let epoch = self.count;
        if connect.client_id.is_empty() {
            connect.client_id = format!("platform-{epoch}");
        }
        let client_id: Rc<str> = connect.client_id.as_str().into();
        self.say_goodbye(&client_id);

        let fresh = std::mem::replace(session, Session::new(crate::mqtt::End::Server, self.limits.session()));
        let mut seat = Box::new(Seat::new(fresh, Rc::clone(&client_id), Rc::clone(&role), epoch));
        seat.username = connect.username.as_deref().map(Into::into);
        seat.is_clean = connect.clean_session;
        let former = self.by_client.get(&client_id).copied();
        let resumed = former.filter(|id| {
            !connect.clean_session
                && self.seat_by_id(*id).is_some_and(|seat| !seat.is_clean && seat.role == role)
        });
        let id = match (resumed, former) {
            (Some(id), _) => {
                if let Some(former) = self.seats[id.0 as usize].take() {
                    self.absent.remove(&(former.expires, id));
                    seat.inherit(*former);
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
        seat.will = connect.will;
        seat.session.connack(resumed.is_some(), ConnectCode::ACCEPTED);
        seat.session.resume();
        self.seats[id.0 as usize] = Some(seat);
        self.by_client.insert(client_id, id);
        if let Role::Gateway(gateway) = &*role {
            self.edge.arrive(gateway);
        }
        Ok(Place { id, epoch })
    }

    fn turn_away(&mut self, refusal: Turned, connect: &Connect, session: &mut Session) -> Ending {
        let client_id = &connect.client_id;
        match refusal {
            Turned::Off => Ending::Closed("its client id holds control characters".into()),
            Turned::Away(code) => {
                session.connack(false, code);
                let who = Who { role: None, client_id, username: connect.username.as_deref() };
                self.record_connection(Direction::Up, Some(code), who);
                let username = connect.username.as_deref().unwrap_or_default();
                let hint = code.explained().map_or("", |explained| explained.hint);
                self.warn(&format!(
                    "client {client_id:?}, username {username:?}, was refused with CONNACK {code} ({}). {hint}",
                    code.name()
                ));
                Ending::Refused
            }
        }
    }

    /// Ends the connection that a client still has while it connects anew (MQTT-3.1.4-2).
    fn say_goodbye(&mut self, client_id: &Rc<str>) {
        let Some(id) = self.by_client.get(client_id).copied() else { return };
        let Some(seat) = self.seat_by_id(id).filter(|seat| seat.is_connected) else { return };
        let epoch = seat.epoch;
        self.warn(&format!(
            "client {client_id:?} connected anew while it was connected: the former connection is closed; \
             does another client use this id?"
        ));
        self.depart(Place { id, epoch }, &Ending::TakenOver);
    }

    fn vacant_id(&mut self) -> SessionId {
        if let Some(id) = self.vacant.pop() {
            return id;
        }
        let next = u32::try_from(self.seats.len()).unwrap_or(u32::MAX);
        self.seats.push(None);
        SessionId(next)
    }

    /// A connection has ended: publishes the will, and ends the session unless it is persistent.
    pub(super) fn depart(&mut self, place: Place, why: &Ending) {
        let now = self.now.mono;
        let expires = now + self.limits.session_expiry;
        let Some(seat) = self.seat(place).filter(|seat| seat.is_connected) else { return };
        seat.is_connected = false;
        if let Some(former) = seat.waker.take() {
            former.wake();
        }
        let will = seat.will.take().filter(|_| !matches!(why, Ending::Left));
        let (role, client_id) = (Rc::clone(&seat.role), Rc::clone(&seat.client_id));
        let (username, is_clean) = (seat.username.clone(), seat.is_clean);
        // The task of a connection that was taken over must find nothing of its own here.
        seat.epoch = 0;
        seat.session.open(now);
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
            if let Some(seat) = self.seat_by_id(place.id) {
                seat.expires = expires;
                seat.session.shrink();
                self.absent.insert((expires, place.id));
            }
        }
        if let Some(will) = will {
            self.publish_will(will, &role);
        }
    }

    fn publish_will(&mut self, will: Will, role: &Role) {
        let Will { topic, payload, qos, retain } = will;
        let message = Message { topic, payload, qos, retain, dup: false, id: None };
        let mut acts = std::mem::take(&mut self.acts);
        let fate = self.edge.hear(self.now, role, &message.topic, &message.payload, &mut acts);
        self.acts = acts;
        match fate {
            Fate::Route | Fate::RouteKept => {
                self.record(&message, role);
                self.act();
                self.pass_on(message);
            }
            Fate::Drop | Fate::Forbid | Fate::Cut | Fate::Silence => self.act(),
        }
    }

    /// Forgets a session and all that belongs to it.
    fn remove(&mut self, id: SessionId) {
        let Some(seat) = self.seats.get_mut(id.0 as usize).and_then(Option::take) else { return };
        self.absent.remove(&(seat.expires, id));
        self.waiting_bytes -= seat.waiting_bytes();
        for (filter, _) in &seat.filters {
            self.subscriptions.remove(filter, id);
        }
        self.by_client.remove(&seat.client_id);
        if let Role::Gateway(gateway) = &*seat.role {
            self.edge.leave(gateway);
        }
        self.vacant.push(id);
    }

    // Packets.

    /// Acts on what a client said.
    pub(super) fn handle(&mut self, place: Place, event: Event) -> Result<(), Ending> {
        self.current = Some(place.id);
        match event {
            Event::Publish(message, receipt) => self.publish(place, message, receipt),
            Event::Subscribe { id, filters } => {
                self.subscribe(place, id, filters);
                Ok(())
            }
            Event::Unsubscribe { id, filters } => {
                for filter in &filters {
                    self.subscriptions.remove(filter, place.id);
                }
                if let Some(seat) = self.seat(place) {
                    seat.filters.retain(|(known, _)| !filters.iter().any(|filter| **filter == **known));
                    seat.session.unsuback(id);
                }
                Ok(())
            }
            Event::Disconnect => Err(Ending::Left),
            Event::Delivered { .. } => Ok(()),
            Event::Ignored(warning) => {
                let who = self.seat(place).map(|seat| Rc::clone(&seat.client_id)).unwrap_or_default();
                self.warn(&format!("client {who:?}: {warning}"));
                Ok(())
            }
            Event::Connect(_)
            | Event::OtherVersion { .. }
            | Event::ConnAck { .. }
            | Event::SubAck { .. }
            | Event::UnsubAck { .. } => Err(Ending::Closed("a packet that no client may send now".into())),
        }
    }

    fn publish(&mut self, place: Place, message: Message, receipt: Option<Receipt>) -> Result<(), Ending> {
        let Some(seat) = self.seat(place) else { return Err(Ending::TakenOver) };
        let role = Rc::clone(&seat.role);
        let mut acts = std::mem::take(&mut self.acts);
        let fate = self.edge.hear(self.now, &role, &message.topic, &message.payload, &mut acts);
        self.acts = acts;
        match fate {
            Fate::Route | Fate::RouteKept => {
                self.record(&message, &role);
                self.act();
                if fate == Fate::RouteKept {
                    self.acknowledge_once_kept(place, receipt);
                } else {
                    self.acknowledge(place, receipt);
                }
                self.pass_on(message);
            }
            Fate::Drop => {
                self.record(&message, &role);
                self.acknowledge(place, receipt);
                self.act();
            }
            Fate::Forbid => {
                self.acknowledge(place, receipt);
                self.act();
            }
            Fate::Cut => {
                self.record(&message, &role);
                return Err(Ending::Closed("a fault, as --fault disconnect asked for".into()));
            }
            Fate::Silence => {
                self.record(&message, &role);
                if let Some(seat) = self.seat(place) {
                    seat.is_silent = true;
                }
            }
        }
        Ok(())
    }

    fn record(&mut self, message: &Message, role: &Role) {
        let parsed = self.edge.topics().parse(&message.topic);
        let (gateway_id, sent) = match role {
            Role::Gateway(id) => (Some(id.as_str()), Direction::Up),
            Role::Platform => (parsed.map(|(_, id)| id), Direction::Down),
        };
        let channel = parsed.map(|(channel, _)| channel);
        let record = Record {
            unix_us: self.unix_us(),
            topic: message.topic.as_str().into(),
            qos: message.qos as u8,
            retain: message.retain,
            dup: message.dup,
            mid: message.id,
            dir: Some(channel.map_or(sent, Channel::direction)),
            channel,
            gateway_id: gateway_id.map(Into::into),
            mono_us: Some(Self::micros(self.now.mono)),
            payload: (&message.payload[..]).into(),
            unknown: Vec::new(),
        };
        self.witness.message(&record);
    }

    fn acknowledge(&mut self, place: Place, receipt: Option<Receipt>) {
        if let Some(receipt) = receipt
            && let Some(seat) = self.seat(place)
        {
            seat.session.acknowledge(receipt);
        }
    }

    fn acknowledge_once_kept(&mut self, place: Place, receipt: Option<Receipt>) {
        if self.is_kept() {
            return self.acknowledge(place, receipt);
        }
        let last_line = self.last_line;
        if let Some(receipt) = receipt
            && let Some(seat) = self.seat(place)
        {
            let client_id = Rc::clone(&seat.client_id);
            let waits = Unkept::Acknowledgement { id: place.id, client_id, receipt };
            self.unkept.push_back((last_line, waits));
        }
    }

    /// Whether every line of the journal so far is on the disk.
    fn is_kept(&self) -> bool {
        self.journal.as_ref().is_none_or(|journal| journal.done() >= self.last_line)
    }

    /// The journal has come this far.
    pub(super) fn kept(&mut self, done: Ticket) {
        while let Some((_, waits)) = self.unkept.pop_front_if(|(ticket, _)| *ticket <= done) {
            match waits {
                Unkept::Saying(saying) => self.say(saying),
                Unkept::Acknowledgement { id, client_id, receipt } => {
                    if let Some(seat) = self.seat_by_id(id).filter(|seat| seat.client_id == client_id) {
                        seat.session.acknowledge(receipt);
                        seat.wake();
                    }
                }
            }
        }
    }

    fn subscribe(&mut self, place: Place, packet: u16, filters: Vec<(String, QoS)>) {
        let Some(seat) = self.seat(place) else { return };
        let role = Rc::clone(&seat.role);
        let client_id = Rc::clone(&seat.client_id);
        let mut codes = Vec::with_capacity(filters.len());
        let mut granted: Vec<(Rc<str>, QoS)> = Vec::new();
        for (filter, qos) in filters {
            let count = self.seat(place).map_or(0, |seat| seat.filters.len()) + granted.len();
            if count >= self.limits.max_filters || !self.edge.grants(&role, &filter) {
                self.warn(&format!("client {client_id:?} may not subscribe to {filter:?}: SUBACK 0x80"));
                codes.push(SubscribeCode::Refused);
                continue;
            }
            self.subscriptions.insert(&filter, place.id, qos);
            codes.push(SubscribeCode::Granted(qos));
            granted.push((filter.into(), qos));
        }
        let Some(seat) = self.seat(place) else { return };
        seat.session.suback(packet, codes);
        for (filter, qos) in &granted {
            match seat.filters.iter_mut().find(|(known, _)| known == filter) {
                Some(known) => known.1 = *qos,
                None => {
                    seat.filters.reserve_exact(1);
                    seat.filters.push((Rc::clone(filter), *qos));
                }
            }
        }
        for (filter, qos) in granted {
            let messages: Vec<Publish> = self
                .retained
                .matching(&filter)
                .map(|(topic, kept)| Publish {
                    topic: topic.to_owned(),
                    payload: kept.payload.clone(),
                    qos: kept.qos.min(qos),
                    retain: true,
                })
                .collect();
            for message in messages {
                self.deliver(place.id, message);
            }
        }
    }

    // Messages.

    /// Retains a client's message where it asks for that, and passes it on to whoever subscribes.
    fn pass_on(&mut self, message: Message) {
        let Message { topic, payload, qos, retain, .. } = message;
        if retain && !self.retained.set(&topic, &payload, qos) {
            self.warn(&format!("there is no room to retain another message: {topic:?} is not retained"));
        }
        self.route(topic, payload, qos);
    }

    pub(super) fn has_subscriber(&mut self, topic: &str) -> bool {
        let mut found = std::mem::take(&mut self.found);
        self.subscriptions.find(topic, &mut found);
        let is_found = !found.is_empty();
        self.found = found;
        is_found
    }

    pub(super) fn unacknowledged(&self) -> usize {
        self.seats.iter().flatten().map(|seat| seat.session.in_flight() + seat.session.queued()).sum()
    }

    pub(super) fn route(&mut self, topic: String, payload: Bytes, qos: QoS) {
        let mut found = std::mem::take(&mut self.found);
        self.subscriptions.find(&topic, &mut found);
        if let Some(((last, granted), others)) = found.split_last() {
            for (id, granted) in others {
                let (topic, payload) = (topic.clone(), payload.clone());
                self.deliver(*id, Publish { topic, payload, qos: qos.min(*granted), retain: false });
            }
            self.deliver(*last, Publish { topic, payload, qos: qos.min(*granted), retain: false });
        }
        self.found = found;
    }

    fn deliver(&mut self, id: SessionId, publish: Publish) {
        let is_current = self.current == Some(id);
        let Some(seat) = self.seats.get_mut(id.0 as usize).and_then(Option::as_deref_mut) else { return };
        if seat.is_silent {
            return;
        }
        if seat.is_connected && !is_current {
            if seat.session.outbox().capacity() == 0 {
                *seat.session.outbox() = self.spare.pop().unwrap_or_default();
            }
            seat.wake();
        }
        let outcome = seat.offer(publish, &self.limits, &mut self.waiting_bytes);
        let client_id = match outcome {
            Offered::Taken | Offered::Dropped { first: false } => return,
            Offered::Dropped { first: true } | Offered::TooSlow => Rc::clone(&seat.client_id),
        };
        if outcome == Offered::TooSlow {
            seat.leaving = Some("it reads too slowly; more waits for it than --max-queue allows".into());
        } else {
            self.warn(&format!(
                "client {client_id:?} cannot be reached or reads slowly: messages are dropped"
            ));
        }
    }

    pub(super) fn refill(&mut self, place: Place) {
        let Some(seat) = self.seats.get_mut(place.id.0 as usize).and_then(Option::as_deref_mut) else {
            return;
        };
        if seat.epoch == place.epoch {
            seat.refill(&self.limits, &mut self.waiting_bytes);
            if seat.is_silent {
                seat.session.outbox().clear();
            }
        }
    }

    /// Why a connection is to be closed, if it is.
    pub(super) fn leaving(&mut self, place: Place) -> Option<String> {
        self.seat(place)?.leaving.take()
    }

    // The platform.

    pub(super) fn command(&mut self, ask: Ask) {
        let mut acts = std::mem::take(&mut self.acts);
        self.edge.command(self.now, ask, &mut acts);
        self.acts = acts;
        self.act();
    }

    /// Does what the edge asked for.
    fn act(&mut self) {
        if self.acts.is_empty() {
            return;
        }
        let mut acts = std::mem::take(&mut self.acts);
        for act in acts.drain(..) {
            match act {
                Act::Say { topic, payload, after, once_kept } => {
                    let saying = Saying { topic, payload, once_kept };
                    if after.is_zero() {
                        self.say(saying);
                    } else {
                        self.count += 1;
                        self.delayed.insert((self.now.mono + after, self.count), saying);
                    }
                }
                Act::Keep(line) => {
                    if let Some(journal) = &mut self.journal {
                        self.last_line = journal.write(&line);
                    }
                }
                Act::Warn(message) => self.witness.warn(&message),
                Act::Settle(outcome) => self.witness.settled(outcome),
            }
        }
        self.acts = acts;
    }

    fn say(&mut self, saying: Saying) {
        if saying.once_kept && !self.is_kept() {
            self.unkept.push_back((self.last_line, Unkept::Saying(saying)));
            return;
        }
        let Saying { topic, payload, .. } = saying;
        let payload = Bytes::from(payload);
        let parsed = self.edge.topics().parse(&topic);
        let record = Record {
            unix_us: self.unix_us(),
            topic: topic.as_str().into(),
            qos: QoS::AtLeastOnce as u8,
            retain: false,
            dup: false,
            mid: None,
            dir: Some(parsed.map_or(Direction::Down, |(channel, _)| channel.direction())),
            channel: parsed.map(|(channel, _)| channel),
            gateway_id: parsed.map(|(_, id)| id.into()),
            mono_us: Some(Self::micros(self.now.mono)),
            payload: (&payload[..]).into(),
            unknown: Vec::new(),
        };
        self.witness.message(&record);
        self.route(topic, payload, QoS::AtLeastOnce);
    }
}

/// Whom a record of a connection names.
#[derive(Clone, Copy)]
struct Who<'a> {
    role: Option<&'a Role>,
    client_id: &'a str,
    username: Option<&'a str>,
}
