//! Replays a recording: sends each message when it is due, and passes incoming messages to the verifier.

pub(crate) mod command_matcher;
pub(crate) mod dry_run;
pub(crate) mod embedded_edge;
mod incoming;
pub(crate) mod reader;
pub(crate) mod replay_stats;
pub(crate) mod sender;
mod shutdown;
pub(crate) mod timer;
pub(crate) mod verify;

use std::{
    collections::{HashMap, HashSet, VecDeque},
    rc::Rc,
    sync::Arc,
    time::{Duration, Instant, SystemTime, UNIX_EPOCH},
};

use bytes::{Bytes, BytesMut};
use tokio::{
    sync::{Notify, mpsc},
    task::{JoinHandle, spawn_local},
};
use uuid::Uuid;

use self::{
    command_matcher::{CommandMatcher, REMEMBERED},
    reader::{Address, Entry, RecordingReader, ReplayMessage},
    replay_stats::{ReplayStats, Shared, watch_output},
    sender::{GatewaySender, Outgoing},
    timer::PreciseTimer,
    verify::{Difference, Key, RequestSummary, Verify},
};
use crate::{
    collections::FastMap,
    error::{Exit, Failure, FailureKind},
    io::{console::Console, recording_file::IssueReporter, request_ids::ReplayIds},
    mqtt::codec::{Publish, QoS},
    net::server::Broker,
    recording::{FreshValues, ReplaySchedule, ReplaySpeed},
    run::{connection_settings::Fleet, edge_handler::EdgeHandler, signals::Signals},
    tuya::{Channel, GatewayId, Topics},
};

/// How many messages may be handed over and not yet done with.
const WINDOW: u16 = 1024;
/// How many lines are kept at hand, so that connections are open before they are needed.
const AHEAD: usize = 256;
/// How many bytes of payloads lie in one piece of memory, which is freed with the last of them: a message that is
/// never acknowledged may keep one.
const PAYLOADS: usize = 16 << 10;

/// How a recording is sent.
pub struct ReplayOptions {
    /// The other end.
    pub peer: Peer,
    /// The gateway of messages whose topic names none.
    pub default_gateway: Option<GatewayId>,
    /// The gateways that take the place of recorded ones.
    pub gateways: HashMap<String, String>,
    /// The devices that take the place of recorded ones.
    pub cids: HashMap<String, String>,
    /// The quality of service, if it is not the recorded one.
    pub qos: Option<QoS>,
    /// How fast messages follow each other.
    pub pace: ReplaySpeed,
    /// The topics in force.
    pub topics: Topics,
    /// How long an acknowledgement, or an answer that is compared, may take.
    pub timeout: Duration,
    /// Whether answers are compared with the recorded ones.
    pub verifies: bool,
    /// Whether time stamps stay as recorded.
    pub keeps_t: bool,
    /// Whether request ids stay as recorded.
    pub keeps_ids: bool,
}

/// The other end of a replay.
pub enum Peer {
    /// An edge, to which each gateway has a connection of its own.
    Edge(Box<Fleet>),
    /// The gateways that connect to this address.
    Gateways(String),
}

/// Replays a recording to its end, or to a signal.
///
/// # Errors
/// A failure before the first message.
pub async fn run(
    options: ReplayOptions,
    reader: RecordingReader,
    schedule: ReplaySchedule,
    issues: IssueReporter,
    console: Console,
) -> Result<Exit, Failure> {
    let changed = Rc::new(Notify::new());
    let stats = ReplayStats::new(console, Rc::clone(&changed));
    if let ReplaySpeed::Rate(rate) = options.pace {
        stats.borrow_mut().limit(rate);
    }
    spawn_local(watch_output(Rc::clone(&stats)));
    let target = match options.peer {
        Peer::Edge(fleet) => Target::Up { fleet, senders: FastMap::default(), tasks: Vec::new() },
        Peer::Gateways(address) => Target::Down(embedded_edge::listen(&address, &stats)?),
    };
    let mut replay = Replay {
        reader,
        failure: None,
        lines: VecDeque::new(),
        schedule,
        is_timed: options.pace != ReplaySpeed::Max,
        start: None,
        target,
        stats,
        changed,
        verify: options.verifies.then(|| Verify::new(options.timeout)),
        commands: CommandMatcher::default(),
        given_up: 0,
        issues,
        topics: options.topics,
        timeout: options.timeout,
        gateways: GatewayMap {
            default: options.default_gateway.map(Rc::new),
            renamed: options.gateways,
            known: FastMap::default(),
        },
        cids: options.cids,
        qos: options.qos,
        keep_t: options.keeps_t,
        ids: (!options.keeps_ids).then(ReplayIds::default),
        past: Duration::ZERO,
        offset: Duration::ZERO,
        index: 0,
        timer: PreciseTimer::new()?,
        signals: Signals::new()?,
        spliced: Vec::new(),
        payloads: BytesMut::with_capacity(PAYLOADS),
        console,
    };
    let began = Instant::now();
    let mut end = replay.run().await;
    if let Ok(None) = end {
        end = replay.drain().await;
    }
    replay.close(end, began).await
}

/// Where messages go.
enum Target {
    /// To an edge, each gateway over a connection of its own.
    Up {
        fleet: Box<Fleet>,
        senders: FastMap<String, mpsc::UnboundedSender<Outgoing>>,
        tasks: Vec<JoinHandle<()>>,
    },
    /// To the gateways that connect to us.
    Down(Rc<Broker<EdgeHandler>>),
}

struct Replay {
    reader: RecordingReader,
    /// Why the recording cannot be read further; what was read before is played.
    failure: Option<Failure>,
    lines: VecDeque<Entry>,
    schedule: ReplaySchedule,
    is_timed: bool,
    /// The moment that all is scheduled against.
    start: Option<Instant>,
    target: Target,
    stats: Shared,
    changed: Rc<Notify>,
    verify: Option<Verify>,
    /// Commands, and the answers to those that have not come.
    commands: CommandMatcher<(ReplayMessage, RequestSummary)>,
    /// How many of these answers were given up.
    given_up: u64,
    issues: IssueReporter,
    topics: Topics,
    timeout: Duration,
    gateways: GatewayMap,
    cids: HashMap<String, String>,
    qos: Option<QoS>,
    keep_t: bool,
    /// The ids to replay with; `None` with `--keep-ids`.
    ids: Option<ReplayIds>,
    /// The recorded time of the times before.
    past: Duration,
    /// The recorded time that has been reached, over all times.
    offset: Duration,
    index: u64,
    timer: PreciseTimer,
    signals: Signals,
    /// The last payload that was made, and the end of the memory that payloads lie in one behind the other.
    spliced: Vec<u8>,
    payloads: BytesMut,
    console: Console,
}

/// Which gateway plays a recorded one.
struct GatewayMap {
    /// Who plays messages whose topic names none.
    default: Option<Rc<GatewayId>>,
    renamed: HashMap<String, String>,
    known: FastMap<String, Rc<GatewayId>>,
}

impl GatewayMap {
    /// The gateway that a message is played for.
    fn resolve(&mut self, address: &Address) -> Result<Rc<GatewayId>, Failure> {
        let Some(recorded) = &address.gateway_id else {
            return self
                .default
                .clone()
                .ok_or_else(|| Failure::invalid("the topic names no gateway, and no --gateway-id is given"));
        };
        if let Some(known) = self.known.get(recorded) {
            return Ok(Rc::clone(known));
        }
        let id = self.renamed.get(recorded).unwrap_or(recorded);
        let id = GatewayId::new(id.as_str()).map_err(|why| Failure::invalid(why.to_string()))?;
        let id = Rc::new(id);
        self.known.insert(recorded.clone(), Rc::clone(&id));
        Ok(id)
    }
}

impl Replay {
    /// Plays to the reader's end, or to a signal, whose exit code it gives.
    async fn run(&mut self) -> Result<Option<Exit>, Failure> {
        loop {
            if self.lines.len() < AHEAD && self.failure.is_none() {
                match self.reader.ready() {
                    Ok(Some(lines)) => self.prepare(lines)?,
                    Ok(None) => {}
                    Err(failure) => self.failure = Some(failure),
                }
            }
            let Some(line) = self.lines.pop_front() else {
                if let Some(failure) = self.failure.take() {
                    return Err(failure);
                }
                tokio::select! {
                    biased;
                    signal = self.signals.next() => return Ok(Some(signal)),
                    lines = self.reader.next() => match lines {
                        Ok(Some(lines)) => self.prepare(lines)?,
                        Ok(None) => return Ok(None),
                        Err(failure) => self.failure = Some(failure),
                    },
                    () = self.changed.notified() => self.handle_arrived()?,
                }
                continue;
            };
            match line {
                Entry::Issue(number, issue) => self.issues.report(number, &issue),
                Entry::Again => {
                    self.schedule.again();
                    if let Some(ids) = &mut self.ids {
                        ids.next_round();
                    }
                    self.past = self.offset;
                }
                Entry::ReplayMessage(step) => {
                    self.offset = self.offset.max(self.past.saturating_add(step.offset));
                    if !step.should_send {
                        self.handle_recorded(&step);
                    } else if let Some(signal) = self.wait_until_due(step).await? {
                        return Ok(Some(signal));
                    }
                    self.settle();
                }
            }
        }
    }

    /// Takes lines to hand, and opens the connections that they need.
    fn prepare(&mut self, lines: Vec<Entry>) -> Result<(), Failure> {
        if let Target::Up { .. } = self.target {
            let mut last = None;
            for line in &lines {
                if let Entry::ReplayMessage(step) = line
                    && step.should_send
                    && !last.is_some_and(|last| Arc::ptr_eq(last, &step.address))
                {
                    if let Ok(gateway) = self.gateways.resolve(&step.address) {
                        self.open(&gateway)?;
                    }
                    last = Some(&step.address);
                }
            }
        }
        self.lines.extend(lines);
        Ok(())
    }

    fn open(&mut self, gateway: &GatewayId) -> Result<(), Failure> {
        let Target::Up { fleet, senders, tasks } = &mut self.target else { return Ok(()) };
        if senders.contains_key(gateway.as_str()) {
            return Ok(());
        }
        let (sender, messages) = mpsc::unbounded_channel();
        let (mut settings, topics, qos) = (fleet.settings(gateway)?, self.topics.clone(), fleet.one.qos);
        if !self.is_timed {
            // As fast as it goes, all that may be under way at once is.
            settings.in_flight = WINDOW;
        }
        let stats = Rc::clone(&self.stats);
        let (gateway_sender, connection) =
            GatewaySender::new(gateway.clone(), settings, topics, qos, messages, stats);
        tasks.push(spawn_local(gateway_sender.run(connection)));
        senders.insert(gateway.as_str().to_owned(), sender);
        Ok(())
    }

    /// Waits for a message's time and sends it; gives the exit code of a signal that came first.
    async fn wait_until_due(&mut self, step: ReplayMessage) -> Result<Option<Exit>, Failure> {
        if self.start.is_none() {
            let mut told = None;
            while !self.is_ready(&step) {
                self.tell_wait(&step, &mut told);
                tokio::select! {
                    signal = self.signals.next() => return Ok(Some(signal)),
                    () = self.changed.notified() => self.handle_arrived()?,
                }
            }
        }
        let start = *self.start.get_or_insert_with(Instant::now);
        if let Some(pause) = self.schedule.long_pause(step.offset) {
            self.issues.long_pause(step.number, pause);
        }
        let due = self.schedule.due(step.offset);
        let due = if self.is_timed {
            let Some(due) = start.checked_add(due) else {
                return Err(
                    Failure::invalid("a message is due beyond all time").hint("use --max-gap or --speed")
                );
            };
            while due > Instant::now() {
                tokio::select! {
                    biased;
                    () = self.timer.until(due) => {}
                    signal = self.signals.next() => return Ok(Some(signal)),
                    () = self.changed.notified() => self.handle_arrived()?,
                }
            }
            Some(due)
        } else {
            None
        };
        while self.stats.borrow().in_flight >= usize::from(WINDOW) {
            self.stats.borrow_mut().tells_at = Some(usize::from(WINDOW) - 1);
            tokio::select! {
                signal = self.signals.next() => return Ok(Some(signal)),
                () = self.changed.notified() => self.handle_arrived()?,
            }
        }
        while self.stats.borrow_mut().is_behind() {
            tokio::select! {
                signal = self.signals.next() => return Ok(Some(signal)),
                () = self.changed.notified() => self.handle_arrived()?,
            }
        }
        self.send(&step, due)?;
        Ok(None)
    }

    /// Whether the first message can leave: all connections that are known to be needed are open.
    fn is_ready(&mut self, first: &ReplayMessage) -> bool {
        match &self.target {
            Target::Up { senders, .. } => {
                let stats = self.stats.borrow();
                senders.keys().all(|gateway| stats.ready.contains(gateway))
            }
            Target::Down(broker) => match self.gateways.resolve(&first.address) {
                Ok(gateway) => broker.has_subscriber(&topic(&self.topics, &first.address, &gateway)),
                Err(_) => true,
            },
        }
    }

    /// Says once for which gateway the first command waits, and for each other one that comes how it could be it.
    fn tell_wait(&mut self, first: &ReplayMessage, told: &mut Option<HashSet<String>>) {
        let (Target::Down(_), Ok(gateway)) = (&self.target, self.gateways.resolve(&first.address)) else {
            return;
        };
        let told = told.get_or_insert_with(|| {
            let topic = topic(&self.topics, &first.address, &gateway);
            self.console.note(&format!("waiting for gateway {gateway} to subscribe to {topic}"));
            HashSet::from([gateway.as_str().to_owned()])
        });
        for other in &self.stats.borrow().ready {
            if told.insert(other.clone()) {
                let recorded = first.address.gateway_id.as_deref().unwrap_or_default();
                self.console
                    .warn(&format!("gateway {other} has connected, and the recording is of {gateway}"));
                self.console.hint(&format!("--map-gateway {recorded}={other} plays it to that one"));
            }
        }
    }

    /// Returns the id to replay a recorded one with; `None` if ids are kept.
    fn fresh_id(&mut self, gateway: &str, recorded: &str) -> Option<Uuid> {
        Some(self.ids.as_mut()?.of(gateway, recorded))
    }

    fn send(&mut self, step: &ReplayMessage, due: Option<Instant>) -> Result<(), Failure> {
        let index = self.index;
        self.index += 1;
        let address = &step.address;
        let gateway = self.gateways.resolve(address).and_then(|gateway| match &address.flaw {
            None => Ok(gateway),
            Some(flaw) => Err(Failure::invalid(flaw.to_string())),
        });
        let gateway = match gateway {
            Ok(gateway) => gateway,
            Err(why) => {
                let request = self.request(step, index, address.gateway_id.as_deref().unwrap_or_default());
                self.stats.borrow_mut().fail(&request, why.kind, &why.message);
                return Ok(());
            }
        };
        let Some(recorded) = step.splice.request_id(&step.payload) else {
            return self.dispatch(step, index, None, &gateway, due);
        };
        if address.channel != Some(Channel::CommandResponse) {
            let id = self.fresh_id(gateway.as_str(), &recorded);
            let mut text = Uuid::encode_buffer();
            let id = id.map(|id| &*id.hyphenated().encode_lower(&mut text));
            return self.dispatch(step, index, id, &gateway, due);
        }
        let request = self.request(step, index, gateway.as_str());
        let cid = request.cid.as_deref().unwrap_or_default();
        if let Some(id) = self.commands.answer(gateway.as_str(), &recorded, cid) {
            // An id that stays keeps its bytes, too: there are several ways to write it in JSON.
            return self.dispatch(step, index, Some(&*id).filter(|id| *id != recorded), &gateway, due);
        }
        // It may be held for long, and shall not hold its neighbours' memory.
        let payload = Bytes::copy_from_slice(&step.payload);
        let (address, splice) = (Arc::clone(&step.address), step.splice.clone());
        let held = (ReplayMessage { address, payload, splice, ..*step }, request.clone());
        if let Some((_, oldest)) = self.commands.hold(gateway.as_str(), &recorded, cid, held) {
            self.give_up(oldest, &format!("while {REMEMBERED} others waited"));
        }
        Ok(())
    }

    /// A recorded message as a result line names it before it is sent.
    fn request(&self, step: &ReplayMessage, index: u64, gateway_id: &str) -> RequestSummary {
        let mut request =
            RequestSummary::of(index, step.number, step.address.channel, gateway_id, &step.payload);
        if let Some(cid) = request.cid.as_mut()
            && let Some(new) = self.cids.get(cid)
        {
            new.clone_into(cid);
        }
        request
    }

    /// Sends a message whose request id is settled: a new one, or its own.
    fn dispatch(
        &mut self,
        step: &ReplayMessage,
        index: u64,
        request_id: Option<&str>,
        gateway: &GatewayId,
        due: Option<Instant>,
    ) -> Result<(), Failure> {
        let fresh = FreshValues {
            t: (!self.keep_t).then(|| SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default()),
            request_id,
            cid: &|cid| self.cids.get(cid).map(String::as_str),
        };
        self.spliced.clear();
        step.splice.apply(&step.payload, &fresh, &mut self.spliced);
        self.payloads.extend_from_slice(&self.spliced);
        let payload = self.payloads.split().freeze();
        let (line, channel) = (step.number, step.address.channel);
        let qos = self.qos.or(QoS::from_number(step.qos)).unwrap_or_default();
        let topic = topic(&self.topics, &step.address, gateway);
        let asks = match self.target {
            Target::Up { .. } => matches!(channel, Some(Channel::Sync | Channel::Report)),
            Target::Down(_) => channel == Some(Channel::Command),
        };
        if let (true, Some(verify)) = (asks, &mut self.verify) {
            let request = RequestSummary::of(index, line, channel, gateway.as_str(), &payload);
            if let Some(id) = request.id.clone() {
                let now = self.start.map_or(Duration::ZERO, |start| start.elapsed());
                verify.ask((gateway.as_str().to_owned(), id), request, self.offset, now);
            }
        }
        self.open(gateway)?;
        match &self.target {
            Target::Up { senders, .. } => {
                let publish = Publish { topic, payload, qos, retain: step.retain };
                let mut stats = self.stats.borrow_mut();
                let Some(sender) = senders.get(gateway.as_str()) else { return Ok(()) };
                stats.in_flight += 1;
                if let Err(mpsc::error::SendError(message)) =
                    sender.send(Outgoing { publish, index, line, channel, due, keeps_t: self.keep_t })
                {
                    // Its failure ends the run as soon as it is looked at.
                    stats.fail(
                        &message.request(gateway),
                        FailureKind::Connection,
                        "the connection is closed",
                    );
                    stats.done();
                }
            }
            Target::Down(broker) => {
                if broker.has_subscriber(&topic) {
                    self.stats.borrow_mut().leaves(due);
                    broker.publish(topic.as_ref().into(), payload, qos);
                } else {
                    let message = format!("no gateway subscribes to {topic}: is it connected?");
                    let request = RequestSummary::of(index, line, channel, gateway.as_str(), &payload);
                    self.stats.borrow_mut().fail(&request, FailureKind::Timeout, &message);
                }
            }
        }
        Ok(())
    }
}

/// The topic on which a gateway plays a recorded message.
fn topic(topics: &Topics, address: &Address, gateway: &GatewayId) -> Arc<str> {
    match address.channel {
        Some(channel) if address.gateway_id.as_deref() != Some(gateway.as_str()) => {
            topics.topic(channel, gateway).into()
        }
        _ => Arc::clone(&address.topic),
    }
}
