//! The edge behind a broker: passes what clients do to [`Edge`], and does what it asks for. Records all traffic, delays
//! answers, and holds acknowledgements and answers back until the registry's file has their devices.

use std::{
    collections::{BTreeMap, VecDeque},
    fmt,
    sync::Arc,
    time::Duration,
};

use bytes::Bytes;

use crate::{
    edge::{
        Action, CommandRequest, Disposition, Edge, EdgeTime, EndedCommand, LoginAttempt, LoginError,
        PublishOutcome, Role,
    },
    io::{
        batch_writer::WriterError,
        registry_file::{Position, RegistryFile, RegistryFileEvent, RegistryFileEvents},
    },
    mqtt::{Connect, ConnectCode, Direction, Message, Password, QoS},
    net::server::{
        Ack, Broker, ClientInfo, ConnectRefusal, Handler, Incoming, Now, PublishAck, PublishDecision,
        Recipients, ServerAction,
    },
    recording::{ConnectionRecord, Record},
    tuya::Channel,
};

/// How many delayed answers, and how many acknowledgements that the registry's file has made possible, are dealt with
/// before clients have their turn.
const BATCH: usize = 256;

/// How many acknowledgements and answers may wait for the registry's file before the broker stops reading from clients: far
/// more than syncs come during one write of a disk.
const MOST_UNSYNCED: usize = 20_000;

/// The bytes of a delayed message beside its payload.
const OVERHEAD: usize = 192;

/// Consumes what happens at the edge.
pub trait EdgeObserver {
    /// A message came from a client, or the edge published one.
    fn handle_message(&mut self, record: &Record<'_>);
    /// A client connected, was refused, or is gone.
    fn handle_connection(&mut self, record: &ConnectionRecord<'_>);
    /// A command from [`EdgeHandler::command`] has ended.
    fn handle_command_end(&mut self, ended: EndedCommand);
    /// Warns the operator of a problem.
    fn warn(&mut self, message: &str);
    /// Warns of a danger to the operator's own files, even if other warnings are not printed.
    fn alert(&mut self, message: &str) {
        self.warn(message);
    }
    /// Hands records to the writer thread; called after all turns that were due at the same time.
    fn flush(&mut self);
    /// Whether so many records are unwritten that the broker should stop reading from clients.
    fn is_congested(&self) -> bool;
}

/// An edge, its registry's file, and its observer.
pub struct EdgeHandler {
    edge: Edge,
    journal: Option<RegistryFile>,
    observer: Box<dyn EdgeObserver>,
    /// Work to do after the edge's actions, in order.
    queue: VecDeque<Work>,
    /// Work that waits for a line of the journal, in the order of the lines.
    unsynced: VecDeque<(Position, Work)>,
    /// The last line given to the journal.
    last_line: Position,
    delayed: Delayed,
}

/// A step of work.
#[derive(Debug)]
enum Work {
    Publish(QueuedPublish),
    /// Acknowledge a client's message once the journal has every line so far.
    Acknowledge(PublishAck),
    /// Acknowledge a client's message of which the journal has the line.
    AcknowledgeNow(PublishAck),
}

/// A message of the platform's.
#[derive(Debug)]
struct QueuedPublish {
    topic: Arc<str>,
    channel: Channel,
    payload: Bytes,
    /// The line of the journal that must be on the disk before it leaves.
    after_line: Position,
}

impl fmt::Debug for EdgeHandler {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("EdgeHandler").field("edge", &self.edge).finish_non_exhaustive()
    }
}

impl EdgeHandler {
    /// Puts an edge behind a broker. `journal` is the registry's file; messages that a fault delays may occupy
    /// `max_delayed` bytes.
    #[must_use]
    pub fn new(
        edge: Edge,
        journal: Option<RegistryFile>,
        observer: Box<dyn EdgeObserver>,
        max_delayed: usize,
    ) -> Self {
        Self {
            edge,
            journal,
            observer,
            queue: VecDeque::new(),
            unsynced: VecDeque::new(),
            last_line: Position::default(),
            delayed: Delayed::new(max_delayed),
        }
    }

    /// Sends a command of the platform's own; its end goes to [`EdgeObserver::handle_command_end`].
    pub fn command(&mut self, now: Now, request: CommandRequest) {
        self.edge.send_command(moment(now), request);
    }

    /// The steps of the journal's thread, which [`serve`] passes on.
    fn journal_steps(&self) -> Option<RegistryFileEvents> {
        self.journal.as_ref().map(RegistryFile::watch)
    }

    /// Releases a part of what the journal, which has come this far, has made possible; returns whether that was all.
    fn handle_journal_written(&mut self, done: Position) -> bool {
        for _ in 0..BATCH {
            let Some((_, work)) = self.unsynced.pop_front_if(|(position, _)| *position <= done) else {
                break;
            };
            self.queue.push_back(work);
        }
        self.unsynced.front().is_none_or(|(position, _)| *position > done)
    }

    /// Rewrites the journal with all devices, because another program has changed it. Waiting work waits for the rewriting.
    fn handle_journal_lost(&mut self, why: &str) {
        self.observer.alert(&format!("{why} while the edge uses it; all devices are written to it anew"));
        let lines = self.edge.registry().lines();
        if let Some(journal) = &mut self.journal {
            journal.rewrite(lines);
        }
    }

    fn record(&mut self, now: Now, message: &Message, role: &Role, outcome: PublishOutcome) {
        let channel = outcome.channel;
        let (gateway_id, sent) = match role {
            Role::Gateway(id) => (Some(id.as_str()), Direction::Up),
            Role::Platform => (
                channel.and_then(|channel| self.edge.topics().id_in(channel, &message.topic)),
                Direction::Down,
            ),
        };
        let record = Record {
            dir: Some(channel.map_or(sent, Channel::direction)),
            channel,
            gateway_id: gateway_id.map(Into::into),
            is_json: outcome.is_json,
            ..Record::of(message, unix_us(now), micros(now.mono))
        };
        self.observer.handle_message(&record);
    }

    /// Whether the journal has this line on the disk.
    fn is_synced(&self, line: Position) -> bool {
        self.journal.as_ref().is_none_or(|journal| journal.done() >= line)
    }

    /// Performs an action of the edge's, and returns the broker's part of it.
    fn act(&mut self, now: Now, action: Action) -> Option<ServerAction> {
        match action {
            Action::Publish { topic, channel, payload, after, once_kept } => {
                let after_line = if once_kept { self.last_line } else { Position::default() };
                let publish = QueuedPublish { topic, channel, payload, after_line };
                if after.is_zero() {
                    return self.publish(now, publish);
                }
                self.delayed.insert(now.mono + after, publish);
                return self.delayed.is_too_much().then(|| ServerAction::Warn(TOO_MUCH_DELAYED.into()));
            }
            Action::Persist(line) => {
                if let Some(journal) = &mut self.journal {
                    self.last_line = journal.write(&line);
                }
            }
            Action::Warn(message) => return Some(ServerAction::Warn(message)),
            Action::CommandDone(ended) => self.observer.handle_command_end(ended),
        }
        None
    }

    /// Does a step of work, and returns the broker's part of it.
    fn perform(&mut self, now: Now, work: Work) -> Option<ServerAction> {
        match work {
            Work::Publish(publish) => return self.publish(now, publish),
            Work::Acknowledge(ack) if self.is_synced(self.last_line) => {
                return Some(ServerAction::Acknowledge(ack));
            }
            Work::Acknowledge(ack) => self.unsynced.push_back((self.last_line, Work::AcknowledgeNow(ack))),
            Work::AcknowledgeNow(ack) => return Some(ServerAction::Acknowledge(ack)),
        }
        None
    }

    /// Records and publishes a message, or puts it off until the journal has the line that it waits for.
    fn publish(&mut self, now: Now, publish: QueuedPublish) -> Option<ServerAction> {
        if !self.is_synced(publish.after_line) {
            self.unsynced.push_back((publish.after_line, Work::Publish(publish)));
            return None;
        }
        let QueuedPublish { topic, channel, payload, .. } = publish;
        let record = Record {
            unix_us: unix_us(now),
            topic: (&*topic).into(),
            qos: QoS::AtLeastOnce as u8,
            retain: false,
            dup: false,
            mid: None,
            dir: Some(channel.direction()),
            channel: Some(channel),
            gateway_id: self.edge.topics().id_in(channel, &topic).map(Into::into),
            mono_us: Some(micros(now.mono)),
            payload: (&payload[..]).into(),
            // As [`Action::Publish`] says.
            is_json: true,
            unknown: Vec::new(),
        };
        self.observer.handle_message(&record);
        Some(ServerAction::Publish { topic, payload, qos: QoS::AtLeastOnce, to: Recipients::Subscribers })
    }

    fn record_connection(
        &mut self,
        now: Now,
        client_id: &str,
        username: Option<&str>,
        event: ConnectionEvent<'_>,
    ) {
        let ConnectionEvent { dir, code, role } = event;
        let gateway_id = match role {
            Some(Role::Gateway(id)) => Some(id.as_str()),
            Some(Role::Platform) | None => None,
        };
        let record = ConnectionRecord {
            unix_us: unix_us(now),
            dir,
            connected: code.is_some(),
            gateway_id,
            mono_us: micros(now.mono),
            client_id,
            username,
            code,
        };
        self.observer.handle_connection(&record);
    }
}

/// The fields of a connection's record beside the client's names.
struct ConnectionEvent<'a> {
    dir: Direction,
    /// The answer to CONNECT; `None` for the end of the connection.
    code: Option<ConnectCode>,
    role: Option<&'a Role>,
}

const TOO_MUCH_DELAYED: &str = "more answers wait for their delay than a quarter of --max-queues allows: the first ones are sent before their time";

impl Handler for EdgeHandler {
    type ClientData = Role;

    /// Gateways have a client id, so this is a platform user.
    const ASSIGNED_ID_PREFIX: &'static str = "platform-";

    fn is_congested(&self) -> bool {
        self.observer.is_congested() || self.unsynced.len() >= MOST_UNSYNCED
    }

    fn handle_connect(&mut self, _: Now, connect: &Connect) -> Result<Role, ConnectRefusal> {
        let login = LoginAttempt {
            client_id: &connect.client_id,
            username: connect.username.as_deref(),
            password: connect.password.as_ref().map(Password::expose),
            clean_session: connect.clean_session,
        };
        self.edge.login(&login).map_err(|refused| match refused {
            LoginError::Dropped => ConnectRefusal::Close("its client id holds control characters".into()),
            LoginError::Refused { code, why } => ConnectRefusal::Refuse(code, why.into()),
        })
    }

    fn handle_refused(&mut self, now: Now, client_id: &str, username: Option<&str>, code: ConnectCode) {
        let event = ConnectionEvent { dir: Direction::Up, code: Some(code), role: None };
        self.record_connection(now, client_id, username, event);
    }

    fn handle_connected(&mut self, now: Now, client: ClientInfo<'_, Role>) {
        let code = Some(ConnectCode::ACCEPTED);
        let event = ConnectionEvent { dir: Direction::Up, code, role: Some(client.data) };
        self.record_connection(now, client.client_id, client.username, event);
        if let Role::Gateway(gateway) = client.data {
            self.edge.handle_connected(gateway);
        }
    }

    fn may_subscribe(&mut self, client: ClientInfo<'_, Role>, filter: &str) -> Result<(), &'static str> {
        let is_granted = self.edge.may_subscribe(client.data, filter);
        if is_granted { Ok(()) } else { Err("a gateway subscribes below its own gateway_id") }
    }

    fn handle_publish(&mut self, now: Now, publish: Incoming<'_, Role>) -> PublishDecision {
        let Incoming { client, message, ack } = publish;
        let outcome = self.edge.handle_publish(moment(now), client.data, &message.topic, &message.payload);
        if outcome.disposition != Disposition::Forbid {
            self.record(now, message, client.data, outcome);
        }
        match outcome.disposition {
            Disposition::Route => PublishDecision::Forward(Ack::Now),
            Disposition::RouteKept => {
                self.queue.extend(ack.map(Work::Acknowledge));
                PublishDecision::Forward(Ack::Later)
            }
            Disposition::Drop | Disposition::Forbid => PublishDecision::Consume(Ack::Now),
            Disposition::Cut => {
                PublishDecision::Disconnect("a fault, as --fault disconnect asked for".into())
            }
            Disposition::Silence => PublishDecision::Silence,
        }
    }

    fn handle_disconnected(&mut self, now: Now, client: ClientInfo<'_, Role>, by: Direction) {
        let event = ConnectionEvent { dir: by, code: None, role: Some(client.data) };
        self.record_connection(now, client.client_id, client.username, event);
    }

    fn handle_session_ended(&mut self, client: ClientInfo<'_, Role>) {
        if let Role::Gateway(gateway) = client.data {
            self.edge.handle_session_ended(gateway);
        }
    }

    fn handle_will(&mut self, now: Now, client: ClientInfo<'_, Role>, will: &Message) -> bool {
        let outcome = self.edge.handle_publish(moment(now), client.data, &will.topic, &will.payload);
        let is_forwarded = matches!(outcome.disposition, Disposition::Route | Disposition::RouteKept);
        if is_forwarded {
            self.record(now, will, client.data, outcome);
        }
        is_forwarded
    }

    fn handle_timeout(&mut self, now: Now) {
        for _ in 0..BATCH {
            let Some(publish) = self.delayed.pop(now.mono) else { break };
            self.queue.push_back(Work::Publish(publish));
        }
        self.edge.handle_timeout(moment(now));
    }

    fn handle_warning(&mut self, message: &str) {
        self.observer.warn(message);
    }

    fn flush(&mut self) {
        if let Some(journal) = &mut self.journal {
            journal.flush();
        }
        self.observer.flush();
    }

    fn poll_action(&mut self, now: Now) -> Option<ServerAction> {
        loop {
            // If too much waits for its time, the messages that are due first leave at once instead of being lost.
            let action = if let Some(publish) = self.delayed.pop_early() {
                self.publish(now, publish)
            } else if let Some(action) = self.edge.poll_action() {
                self.act(now, action)
            } else {
                let work = self.queue.pop_front()?;
                self.perform(now, work)
            };
            if action.is_some() {
                return action;
            }
        }
    }

    fn poll_timeout(&self) -> Option<Duration> {
        [self.delayed.next_due(), self.edge.poll_timeout()].into_iter().flatten().min()
    }
}

/// Serves clients until the registry's file cannot be written, and returns why. To be run as [`Broker::serve`].
pub async fn serve(broker: &Broker<EdgeHandler>) -> WriterError {
    let steps = broker.turn(|handler, _| handler.journal_steps());
    tokio::select! {
        never = broker.serve() => match never {},
        why = follow_journal(broker, steps) => why,
    }
}

/// Passes the steps of the journal's thread to the handler.
async fn follow_journal(broker: &Broker<EdgeHandler>, steps: Option<RegistryFileEvents>) -> WriterError {
    let Some(mut steps) = steps else { return std::future::pending().await };
    loop {
        match steps.next().await {
            Ok(RegistryFileEvent::Done(done)) => {
                while !broker.turn(|handler, _| handler.handle_journal_written(done)) {
                    tokio::task::yield_now().await;
                }
            }
            Ok(RegistryFileEvent::Lost(why)) => broker.turn(|handler, _| handler.handle_journal_lost(&why)),
            Err(why) => return WriterError::Failed(why),
        }
    }
}

/// Messages of the platform's that a fault delays, in a bounded number of bytes.
#[derive(Debug)]
struct Delayed {
    by_time: BTreeMap<(Duration, u64), QueuedPublish>,
    count: u64,
    bytes: usize,
    limit: usize,
}

impl Delayed {
    fn new(limit: usize) -> Self {
        Self { by_time: BTreeMap::new(), count: 0, bytes: 0, limit }
    }

    fn insert(&mut self, due: Duration, publish: QueuedPublish) {
        self.count += 1;
        self.bytes += publish.payload.len() + OVERHEAD;
        self.by_time.insert((due, self.count), publish);
    }

    /// Takes the first one if it is due.
    fn pop(&mut self, now: Duration) -> Option<QueuedPublish> {
        let first = self.by_time.first_entry().filter(|first| first.key().0 <= now)?;
        let publish = first.remove();
        self.bytes -= publish.payload.len() + OVERHEAD;
        Some(publish)
    }

    /// Takes the first one, due or not, if all together occupy too much.
    fn pop_early(&mut self) -> Option<QueuedPublish> {
        if self.is_too_much() { self.pop(Duration::MAX) } else { None }
    }

    fn is_too_much(&self) -> bool {
        self.bytes > self.limit
    }

    fn next_due(&self) -> Option<Duration> {
        self.by_time.keys().next().map(|(due, _)| *due)
    }
}

fn moment(now: Now) -> EdgeTime {
    EdgeTime { mono: now.mono, unix: now.unix }
}

fn micros(duration: Duration) -> u64 {
    u64::try_from(duration.as_micros()).unwrap_or(u64::MAX)
}

fn unix_us(now: Now) -> i64 {
    i64::try_from(now.unix.as_micros()).unwrap_or(i64::MAX)
}

#[cfg(test)]
mod tests {
    use std::{cell::RefCell, rc::Rc};

    use super::*;
    use crate::{
        edge::{EdgeSettings, Faults, LoginRule, Registry},
        mqtt::{AckToken, Packet, Session, SessionEvent, SessionLimits, Side},
        net::server::SessionId,
        tuya::{derive_password, product::Product},
    };

    /// The records that were written, and the warnings.
    #[derive(Clone, Default)]
    struct Observed(Rc<RefCell<Vec<String>>>);

    impl Observed {
        fn count(&self, what: &str) -> usize {
            self.0.borrow().iter().filter(|line| line.contains(what)).count()
        }
    }

    impl EdgeObserver for Observed {
        fn handle_message(&mut self, record: &Record<'_>) {
            let mut line = Vec::new();
            record.write(&mut line);
            self.0.borrow_mut().push(String::from_utf8(line).unwrap());
        }
        fn handle_connection(&mut self, record: &ConnectionRecord<'_>) {
            let mut line = Vec::new();
            record.write(&mut line);
            self.0.borrow_mut().push(String::from_utf8(line).unwrap());
        }
        fn handle_command_end(&mut self, _: EndedCommand) {}
        fn warn(&mut self, message: &str) {
            self.0.borrow_mut().push(message.to_owned());
        }
        fn flush(&mut self) {}
        fn is_congested(&self) -> bool {
            false
        }
    }

    fn handler(
        faults: &[&str],
        journal: Option<RegistryFile>,
        max_delayed: usize,
    ) -> (EdgeHandler, Observed) {
        let settings = EdgeSettings {
            access: LoginRule { usernames: Vec::new(), platform_usernames: vec!["platform".into()] },
            product: Product::smart_water_meter(),
            accepts_all: true,
            max_skew: None,
            offline_after: None,
            command_timeout: Duration::from_secs(5),
            faults: Faults::new(faults.iter().map(|fault| fault.parse().unwrap()).collect(), 1),
        };
        let observed = Observed::default();
        let edge = Edge::new(settings, Registry::default());
        (EdgeHandler::new(edge, journal, Box::new(observed.clone()), max_delayed), observed)
    }

    fn at(seconds: u64) -> Now {
        Now { mono: Duration::from_secs(seconds), unix: Duration::from_secs(seconds) }
    }

    fn connect(client_id: &str) -> Connect {
        Connect {
            client_id: client_id.into(),
            username: Some("acme".into()),
            password: Some(Password::from(&derive_password(client_id, "acme"))),
            ..Connect::default()
        }
    }

    fn message(channel: &str, request_id: &str, param: &str) -> Message {
        Message {
            topic: format!("gateway_id/gw1/{channel}").into(),
            payload: format!(r#"{{"t":1,"request_id":"{request_id}","param":{param}}}"#).into(),
            qos: QoS::AtMostOnce,
            retain: false,
            dup: false,
            id: None,
        }
    }

    fn actions(handler: &mut EdgeHandler, now: Now) -> Vec<ServerAction> {
        std::iter::from_fn(|| handler.poll_action(now)).collect()
    }

    /// gw1 publishes a message. With a receipt it is of QoS 1.
    fn publish(
        handler: &mut EdgeHandler,
        now: Now,
        message: &Message,
        receipt: Option<AckToken>,
    ) -> PublishDecision {
        let role = handler.handle_connect(now, &connect("gw1")).unwrap();
        let client =
            ClientInfo { session: SessionId::FIRST, client_id: "gw1", username: Some("acme"), data: &role };
        handler.handle_publish(now, Incoming { client, message, ack: receipt.map(PublishAck::of) })
    }

    fn publishes(actions: &[ServerAction]) -> usize {
        actions.iter().filter(|action| matches!(action, ServerAction::Publish { .. })).count()
    }

    #[test]
    fn delayed_answers_leave_early_rather_than_fill_the_memory() {
        let (mut handler, observed) = handler(&["delay=1h"], None, 100_000);
        let (mut early, mut warnings) = (0, 0);
        for n in 0..600 {
            let report = message("properties/report", &format!("r{n}"), r#"{"cid":"m1","id":"1","value":1}"#);
            assert_eq!(publish(&mut handler, at(1), &report, None), PublishDecision::Forward(Ack::Now));
            let actions = actions(&mut handler, at(1));
            early += publishes(&actions);
            warnings += actions.len() - publishes(&actions);
            assert!(handler.delayed.bytes <= 100_000, "{n}");
        }
        assert!((100..500).contains(&early), "{early} of 600 answers before their time");
        assert!(warnings > 0);
        assert_eq!(observed.count("properties/report/response"), early, "recorded when they leave");
        assert_eq!(handler.poll_timeout(), Some(Duration::from_secs(3601)));
        let mut rest = 0;
        for _ in 0..=600 / BATCH {
            handler.handle_timeout(at(3601));
            rest += publishes(&actions(&mut handler, at(3601)));
        }
        assert_eq!((early + rest, handler.poll_timeout()), (600, None));
    }

    /// The receipts of messages of QoS 1.
    fn receipts(count: u16) -> Vec<AckToken> {
        let mut session = Session::new(Side::Server, SessionLimits { max_packet: 1000, in_flight: 10 });
        session.open(Duration::ZERO);
        Packet::Connect(Box::new(connect("gw1"))).encode(session.inbox()).unwrap();
        for id in 1..=count {
            let message = Message { qos: QoS::AtLeastOnce, id: Some(id), ..message("x", "r", "{}") };
            Packet::Publish(message).encode(session.inbox()).unwrap();
        }
        assert!(matches!(session.poll_event(Duration::ZERO), Ok(Some(SessionEvent::Connect(_)))));
        session.connack(false, ConnectCode::ACCEPTED);
        let next = || match session.poll_event(Duration::ZERO) {
            Ok(Some(SessionEvent::Publish(_, Some(receipt)))) => receipt,
            other => panic!("{other:?}"),
        };
        std::iter::repeat_with(next).take(count.into()).collect()
    }

    /// Passes on what the journal's thread has done.
    async fn follow(handler: &mut EdgeHandler, steps: &mut RegistryFileEvents) {
        handler.flush();
        match tokio::time::timeout(Duration::from_secs(20), steps.next()).await.expect("the journal's thread")
        {
            Ok(RegistryFileEvent::Done(done)) => assert!(handler.handle_journal_written(done)),
            other => panic!("{other:?}"),
        }
    }

    #[test]
    fn a_sync_is_answered_and_acknowledged_once_its_line_is_on_the_disk() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("fleet.jsonl");
        let (journal, _) = RegistryFile::open(&path).unwrap();
        let (mut handler, observed) = handler(&[], Some(journal), 100_000);
        let mut steps = handler.journal_steps().unwrap();
        let receipt = receipts(1)[0];
        let sync = message("devices/sync", "r1", r#"{"cid":"m1","product_id":"p"}"#);
        let decision = publish(&mut handler, at(1), &sync, Some(receipt));
        assert_eq!(decision, PublishDecision::Forward(Ack::Later));
        assert_eq!(actions(&mut handler, at(1)), []);
        assert_eq!((observed.count("devices/sync\""), observed.count("sync/response")), (1, 0));
        run(follow(&mut handler, &mut steps));
        assert!(std::fs::read_to_string(&path).unwrap().contains("m1"));
        let released = actions(&mut handler, at(2));
        assert!(
            matches!(
                &released[..],
                [ServerAction::Publish { topic, .. }, ServerAction::Acknowledge(ack)]
                    if topic.ends_with("sync/response") && *ack == PublishAck::of(receipt)
            ),
            "{released:?}"
        );
        assert_eq!(observed.count("sync/response"), 1);
    }

    #[test]
    fn a_later_sync_does_not_hold_up_the_answer_to_an_earlier_one() {
        let folder = tempfile::tempdir().unwrap();
        let (journal, _) = RegistryFile::open(&folder.path().join("fleet.jsonl")).unwrap();
        let (mut handler, observed) = handler(&[], Some(journal), 100_000);
        let mut steps = handler.journal_steps().unwrap();
        let sync = |cid: &str| {
            message("devices/sync", &format!("r-{cid}"), &format!(r#"{{"cid":"{cid}","product_id":"p"}}"#))
        };
        publish(&mut handler, at(1), &sync("m1"), None);
        assert_eq!(actions(&mut handler, at(1)), []);
        run(follow(&mut handler, &mut steps));
        // Before the answer has left, another line waits for the disk.
        publish(&mut handler, at(1), &sync("m2"), None);
        assert_eq!(publishes(&actions(&mut handler, at(1))), 1);
        assert_eq!((observed.count("r-m1"), observed.count("r-m2")), (2, 1), "requests and answers");
    }

    fn run(test: impl Future<Output = ()>) {
        tokio::runtime::Builder::new_current_thread().enable_time().build().unwrap().block_on(test);
    }
}
