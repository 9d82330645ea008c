//! Replays a recording: sends each message when it is due, and passes incoming messages to the verifier.

pub(crate) mod command_matcher;
mod dispatch;
pub(crate) mod dry_run;
pub(crate) mod embedded_edge;
mod gateway_map;
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
    time::{Duration, Instant},
};

use bytes::BytesMut;
use tokio::{
    sync::{Notify, mpsc},
    task::{JoinHandle, spawn_local},
};

use self::{
    command_matcher::CommandMatcher,
    gateway_map::{GatewayMap, topic_for},
    reader::{RecordingReader, ReplayEntry, ReplayMessage},
    replay_stats::{ReplayStats, SharedReplayStats, watch_output},
    sender::OutgoingMessage,
    timer::PreciseTimer,
    verify::{AnswerKey, Difference, RequestSummary, Verify},
};
use crate::{
    collections::FastMap,
    error::{Exit, Failure},
    io::{console::Console, recording_file::IssueReporter, request_ids::ReplayIds},
    mqtt::codec::QoS,
    net::server::Broker,
    recording::{ReplaySchedule, ReplaySpeed},
    run::{connection_settings::Fleet, edge_handler::EdgeHandler, signals::Signals},
    tuya::{GatewayId, Topics},
};

/// Most messages in flight.
const WINDOW: u16 = 1024;
/// Number of entries to read ahead, so that connections are open before they are needed.
const AHEAD: usize = 256;
/// Size of a buffer that payloads share. It is freed with the last of them, so an unacknowledged message may keep one.
const PAYLOADS: usize = 16 << 10;

/// How a recording is sent.
pub struct ReplayOptions {
    /// The other end.
    pub peer: ReplayPeer,
    /// The gateway of messages whose topic names none.
    pub default_gateway: Option<GatewayId>,
    /// New ids of recorded gateways.
    pub gateways: HashMap<String, String>,
    /// New ids of recorded devices.
    pub cids: HashMap<String, String>,
    /// The quality of service, if it is not the recorded one.
    pub qos: Option<QoS>,
    /// How fast messages follow each other.
    pub pace: ReplaySpeed,
    /// The topics in force.
    pub topics: Topics,
    /// How long an acknowledgement, or a compared answer, may take.
    pub timeout: Duration,
    /// Whether answers are compared with the recorded ones.
    pub verifies: bool,
    /// Whether time stamps stay as recorded.
    pub keeps_t: bool,
    /// Whether request ids stay as recorded.
    pub keeps_ids: bool,
}

/// The other end of a replay.
pub enum ReplayPeer {
    /// An edge, to which each gateway has a connection of its own.
    Edge(Box<Fleet>),
    /// Gateways that connect to this address.
    Gateways(String),
}

/// Replays a recording to its end, or until a signal.
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
        ReplayPeer::Edge(fleet) => ReplayTarget::Up { fleet, senders: FastMap::default(), tasks: Vec::new() },
        ReplayPeer::Gateways(address) => ReplayTarget::Down(embedded_edge::listen(&address, &stats)?),
    };
    let mut replay = Replay {
        reader,
        failure: None,
        entries: VecDeque::new(),
        schedule,
        is_timed: options.pace != ReplaySpeed::Max,
        start: None,
        target,
        stats,
        changed,
        verify: options.verifies.then(|| Verify::new(options.timeout)),
        commands: CommandMatcher::default(),
        unmatched: 0,
        issues,
        topics: options.topics,
        timeout: options.timeout,
        gateways: GatewayMap::new(options.default_gateway, options.gateways),
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
enum ReplayTarget {
    /// To an edge, each gateway over a connection of its own.
    Up {
        fleet: Box<Fleet>,
        senders: FastMap<String, mpsc::UnboundedSender<OutgoingMessage>>,
        tasks: Vec<JoinHandle<()>>,
    },
    /// To the gateways that connect to us.
    Down(Rc<Broker<EdgeHandler>>),
}

struct Replay {
    reader: RecordingReader,
    /// Why reading failed; the entries before that are replayed.
    failure: Option<Failure>,
    entries: VecDeque<ReplayEntry>,
    schedule: ReplaySchedule,
    is_timed: bool,
    /// The time that all due times are relative to.
    start: Option<Instant>,
    target: ReplayTarget,
    stats: SharedReplayStats,
    changed: Rc<Notify>,
    verify: Option<Verify>,
    /// Commands that arrived, and recorded answers that wait for theirs.
    commands: CommandMatcher<(ReplayMessage, RequestSummary)>,
    /// How many answers had no command in time.
    unmatched: u64,
    issues: IssueReporter,
    topics: Topics,
    timeout: Duration,
    gateways: GatewayMap,
    cids: HashMap<String, String>,
    qos: Option<QoS>,
    keep_t: bool,
    /// The ids to replay with; `None` with `--keep-ids`.
    ids: Option<ReplayIds>,
    /// The recorded time of former rounds (`--loop`).
    past: Duration,
    /// The recorded time reached so far, over all rounds.
    offset: Duration,
    index: u64,
    timer: PreciseTimer,
    signals: Signals,
    /// The last rewritten payload, and the rest of the buffer that payloads share.
    spliced: Vec<u8>,
    payloads: BytesMut,
    console: Console,
}

impl Replay {
    /// Replays all entries; returns the exit code of a signal that ended this.
    async fn run(&mut self) -> Result<Option<Exit>, Failure> {
        loop {
            if self.entries.len() < AHEAD && self.failure.is_none() {
                match self.reader.try_next() {
                    Ok(Some(entries)) => self.prepare(entries)?,
                    Ok(None) => {}
                    Err(failure) => self.failure = Some(failure),
                }
            }
            let Some(entry) = self.entries.pop_front() else {
                if let Some(failure) = self.failure.take() {
                    return Err(failure);
                }
                tokio::select! {
                    biased;
                    signal = self.signals.next() => return Ok(Some(signal)),
                    entries = self.reader.next() => match entries {
                        Ok(Some(entries)) => self.prepare(entries)?,
                        Ok(None) => return Ok(None),
                        Err(failure) => self.failure = Some(failure),
                    },
                    () = self.changed.notified() => self.handle_arrived()?,
                }
                continue;
            };
            match entry {
                ReplayEntry::Issue(number, issue) => self.issues.report(number, &issue),
                ReplayEntry::Again => {
                    self.schedule.restart();
                    if let Some(ids) = &mut self.ids {
                        ids.next_round();
                    }
                    self.past = self.offset;
                }
                ReplayEntry::Message(message) => {
                    self.offset = self.offset.max(self.past.saturating_add(message.offset));
                    if !message.should_send {
                        self.handle_recorded(&message);
                    } else if let Some(signal) = self.wait_until_due(message).await? {
                        return Ok(Some(signal));
                    }
                    self.report_differences();
                }
            }
        }
    }

    /// Queues entries, and opens the connections that they need.
    fn prepare(&mut self, entries: Vec<ReplayEntry>) -> Result<(), Failure> {
        if let ReplayTarget::Up { .. } = self.target {
            let mut last = None;
            for entry in &entries {
                if let ReplayEntry::Message(message) = entry
                    && message.should_send
                    && !last.is_some_and(|last| Arc::ptr_eq(last, &message.recorded_topic))
                {
                    if let Ok(gateway) = self.gateways.resolve(&message.recorded_topic) {
                        self.open(&gateway)?;
                    }
                    last = Some(&message.recorded_topic);
                }
            }
        }
        self.entries.extend(entries);
        Ok(())
    }

    /// Sends a message when it is due; returns the exit code of a signal that came first.
    async fn wait_until_due(&mut self, message: ReplayMessage) -> Result<Option<Exit>, Failure> {
        if self.start.is_none() {
            let mut printed = None;
            while !self.is_ready(&message) {
                self.print_waiting(&message, &mut printed);
                tokio::select! {
                    signal = self.signals.next() => return Ok(Some(signal)),
                    () = self.changed.notified() => self.handle_arrived()?,
                }
            }
        }
        let start = *self.start.get_or_insert_with(Instant::now);
        if let Some(pause) = self.schedule.long_pause(message.offset) {
            self.issues.long_pause(message.number, pause);
        }
        let due = self.schedule.due(message.offset);
        let due = if self.is_timed {
            let Some(due) = start.checked_add(due) else {
                return Err(Failure::invalid("a message is due later than the clock can represent")
                    .hint("Use --max-gap or --speed"));
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
            self.stats.borrow_mut().notifies_at = Some(usize::from(WINDOW) - 1);
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
        self.send(&message, due)?;
        Ok(None)
    }

    /// Returns whether the first message can leave: all connections known to be needed are open.
    fn is_ready(&mut self, first: &ReplayMessage) -> bool {
        match &self.target {
            ReplayTarget::Up { senders, .. } => {
                let stats = self.stats.borrow();
                senders.keys().all(|gateway| stats.ready.contains(gateway))
            }
            ReplayTarget::Down(broker) => match self.gateways.resolve(&first.recorded_topic) {
                Ok(gateway) => {
                    broker.has_subscriber(&topic_for(&self.topics, &first.recorded_topic, &gateway))
                }
                Err(_) => true,
            },
        }
    }

    /// Prints once for which gateway the first command waits, and hints at `--map-gateway` for each other one that connects.
    fn print_waiting(&mut self, first: &ReplayMessage, printed: &mut Option<HashSet<String>>) {
        let (ReplayTarget::Down(_), Ok(gateway)) =
            (&self.target, self.gateways.resolve(&first.recorded_topic))
        else {
            return;
        };
        let printed = printed.get_or_insert_with(|| {
            let topic = topic_for(&self.topics, &first.recorded_topic, &gateway);
            self.console.note(&format!("waiting for gateway {gateway} to subscribe to {topic}"));
            HashSet::from([gateway.as_str().to_owned()])
        });
        for other in &self.stats.borrow().ready {
            if printed.insert(other.clone()) {
                let recorded = first.recorded_topic.gateway_id.as_deref().unwrap_or_default();
                self.console
                    .warn(&format!("gateway {other} has connected, and the recording is of {gateway}"));
                self.console.hint(&format!("--map-gateway {recorded}={other} plays it to that one"));
            }
        }
    }
}
