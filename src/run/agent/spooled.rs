//! The spool's messages on their way to the edge.

use std::{
    cell::RefCell,
    collections::{BTreeMap, BTreeSet, HashMap, VecDeque},
    path::PathBuf,
    rc::Rc,
    time::{Duration, Instant},
};

use serde_json::json;
use smol_str::SmolStr;

use super::{
    handler::{AgentHandler, Queued},
    subjects::subjects,
};
use crate::{
    agent::{LocalClient, SpoolStatus},
    error::Failure,
    gateway::{PreparedRequest, RequestOutcome},
    io::{
        batch_writer::{BatchWriter, Offset, Purpose},
        console::Console,
        spool::{Commit, Spool, SpoolOptions, SpoolWatch},
    },
    mqtt::codec::{Publish, QoS},
    net::server::{Broker, PublishAck},
    rate::{Rate, RateLimiter},
    run::{
        requests::RequestConnection, results::ResultContexts, time_unit::unix_time, warnings::WarningLimiter,
    },
    spool::{EntryId, SpoolEntry, SpoolKind, SpooledEntry},
    tuya::Channel,
};

/// Limit of spooled messages in flight: those of other programs go first.
const WINDOW: usize = 100;
/// How long an entry without an answer rests before it is sent again.
const REST: Duration = Duration::from_secs(5);

/// Where the spool is, and how it is emptied.
#[derive(Clone, Debug)]
pub struct SpoolSettings {
    /// The folder.
    pub folder: PathBuf,
    /// The most bytes that it may have.
    pub max_bytes: u64,
    /// The rate at which its messages are sent.
    pub rate: Option<Rate>,
    /// The file of the results.
    pub results: Option<PathBuf>,
}

/// A spool, and what of it is in flight.
pub(super) struct Spooled {
    store: Rc<RefCell<Spool>>,
    watch: SpoolWatch,
    max_bytes: u64,
    limiter: Option<RateLimiter>,
    results: Option<BatchWriter>,
    /// The messages whose programs wait for the disk.
    uncommitted: BTreeMap<EntryId, Option<(PublishAck, LocalClient)>>,
    /// The programs that have given a message which is not kept, and why; they are told once their earlier messages are on
    /// the disk.
    refusals: BTreeMap<LocalClient, String>,
    in_flight: HashMap<u64, SpooledEntry>,
    /// Entries that have ended and whose results are not on the disk: an agent that is killed now sends them again.
    unrecorded: VecDeque<(Offset, EntryId)>,
    /// Whether the file of the results cannot be written.
    has_results_failed: bool,
    /// Entries that are sent again at that time.
    resting: BTreeSet<(Instant, EntryId)>,
    delivered: u64,
    refused: u64,
    start: Instant,
    warnings: WarningLimiter,
    console: Console,
}

impl Spooled {
    pub(super) fn open(settings: SpoolSettings, console: Console) -> Result<Self, Failure> {
        let SpoolSettings { folder, max_bytes, rate, results } = settings;
        let (store, warnings) = Spool::open(&folder, SpoolOptions { max_bytes })?;
        for warning in warnings {
            console.warn(&warning);
        }
        let results = results.map(|path| BatchWriter::append(path, Purpose::SpoolResults)).transpose()?;
        Ok(Self {
            watch: store.watch(),
            store: Rc::new(RefCell::new(store)),
            max_bytes,
            limiter: rate.map(RateLimiter::new),
            results,
            uncommitted: BTreeMap::new(),
            refusals: BTreeMap::new(),
            in_flight: HashMap::new(),
            unrecorded: VecDeque::new(),
            has_results_failed: false,
            warnings: WarningLimiter::new(Some(console)),
            resting: BTreeSet::new(),
            delivered: 0,
            refused: 0,
            start: Instant::now(),
            console,
        })
    }

    pub(super) fn store(&self) -> Rc<RefCell<Spool>> {
        Rc::clone(&self.store)
    }

    pub(super) fn is_empty(&self) -> bool {
        self.store.borrow().is_empty()
    }

    pub(super) fn status(&self) -> SpoolStatus {
        let store = self.store.borrow();
        let oldest = store.oldest().and_then(|us| jiff::Timestamp::from_microsecond(us).ok());
        SpoolStatus {
            messages: store.len(),
            bytes: store.bytes(),
            max_bytes: self.max_bytes,
            oldest: oldest.map(|oldest| oldest.to_string()).unwrap_or_default(),
            delivered: self.delivered,
            refused: self.refused,
            error: String::new(),
        }
    }

    /// When there is something to do although nothing happens.
    pub(super) fn next_wake(&self) -> Option<Instant> {
        let rested = self.resting.first().map(|(at, _)| *at);
        let turn = self.limiter.as_ref().filter(|_| !self.is_empty() && self.in_flight.len() < WINDOW);
        let turn = turn.map(|limiter| self.start + limiter.next()).filter(|at| *at > Instant::now());
        rested.into_iter().chain(turn).min()
    }

    /// Stores what programs have given, acknowledges what is on the disk, and sends what may leave.
    pub(super) fn advance(
        &mut self,
        connection: &mut RequestConnection,
        broker: &Broker<AgentHandler>,
    ) -> Result<(), Failure> {
        let queued: Vec<_> = broker.turn(|handler, _| std::iter::from_fn(|| handler.poll_queued()).collect());
        for queued in queued {
            self.append(queued);
        }
        let mut commits = Vec::new();
        while let Some(commit) = self.store.borrow_mut().poll_commit() {
            commits.push(commit);
        }
        for commit in commits {
            self.handle_commit(&commit, broker);
        }
        self.refuse(broker);
        while let Some(warning) = self.store.borrow_mut().poll_warning() {
            self.console.warn(&warning);
        }
        let now = Instant::now();
        while let Some(&(at, id)) = self.resting.first()
            && at <= now
        {
            self.resting.pop_first();
            self.store.borrow_mut().give_back(id);
        }
        self.send(connection)?;
        if let Some(results) = &mut self.results {
            results.flush();
            let committed = results.committed();
            let is_recorded = |(end, _): &mut (Offset, EntryId)| self.has_results_failed || *end <= committed;
            while let Some((_, id)) = self.unrecorded.pop_front_if(is_recorded) {
                self.store.borrow_mut().finish(id);
            }
        }
        if self.has_results_failed && self.results.take().is_some() {
            self.console
                .warn("--spool-results cannot be written: the results of spooled messages are not kept");
        }
        let status = self.status();
        broker.turn(|handler, _| {
            handler.note_status(|known| known.spool = Some(status));
            handler.release_devices();
        });
        Ok(())
    }

    fn append(&mut self, queued: Queued) {
        let Queued { ack, client, channel, topic, payload } = queued;
        // What follows a message that is not kept is not kept either: the program is disconnected.
        if self.refusals.contains_key(&client) {
            return;
        }
        let (devices, request_id) = subjects(&payload);
        let kind = if channel == Channel::Status { SpoolKind::Status } else { SpoolKind::Report };
        let given = i64::try_from(unix_time().as_micros()).unwrap_or(i64::MAX);
        let entry = SpoolEntry { kind, topic: (&*topic).into(), payload, devices, request_id, given };
        let appended = self.store.borrow_mut().append(entry);
        match appended {
            Ok(id) => {
                self.uncommitted.insert(id, ack.map(|ack| (ack, client)));
            }
            Err(why) => {
                self.refusals.insert(client, why.to_string());
            }
        }
    }

    /// Disconnects the programs with a refused message and without a message on its way to the disk.
    fn refuse(&mut self, broker: &Broker<AgentHandler>) {
        if self.refusals.is_empty() {
            return;
        }
        let waiting: BTreeSet<_> = self.uncommitted.values().flatten().map(|(_, client)| *client).collect();
        let (kept, due) =
            std::mem::take(&mut self.refusals).into_iter().partition(|(client, _)| waiting.contains(client));
        self.refusals = kept;
        let due: BTreeMap<_, _> = due;
        broker
            .turn(|handler, _| due.into_iter().for_each(|(client, why)| handler.refuse_queued(client, why)));
    }

    fn handle_commit(&mut self, commit: &Commit, broker: &Broker<AgentHandler>) {
        let mut rest = self.uncommitted.split_off(&commit.first);
        let mut later = rest.split_off(&EntryId(commit.last.0 + 1));
        for waiting in rest.into_values().flatten() {
            let (ack, client) = waiting;
            match &commit.outcome {
                Ok(()) => broker.turn(|handler, _| handler.acknowledge(ack)),
                Err(why) => {
                    self.refusals.entry(client).or_insert_with(|| why.to_string());
                }
            }
        }
        self.uncommitted.append(&mut later);
    }

    fn send(&mut self, connection: &mut RequestConnection) -> Result<(), Failure> {
        while connection.gateway().is_connected() && self.in_flight.len() < WINDOW {
            if let Some(limiter) = &mut self.limiter
                && !limiter.allows(self.start.elapsed())
            {
                break;
            }
            let Some(spooled) = self.store.borrow_mut().poll_next() else { break };
            if let Some(limiter) = &mut self.limiter {
                limiter.take(self.start.elapsed());
            }
            let entry = &spooled.entry;
            let publish = Publish {
                topic: entry.topic.as_str().into(),
                payload: entry.payload.clone(),
                qos: QoS::AtLeastOnce,
                retain: false,
            };
            let topics = connection.gateway().topics();
            let is_report = entry.kind == SpoolKind::Report && !entry.request_id.is_empty();
            let gateway = topics.id_in(Channel::Report, &entry.topic).filter(|_| is_report);
            let gateway = gateway.and_then(|id| crate::tuya::GatewayId::new(id).ok());
            let response = gateway.map(|gateway| topics.topic(Channel::ReportResponse, &gateway).into());
            let prepared = PreparedRequest::spooled(entry.request_id.as_str().into(), response, publish);
            let id = spooled.id;
            self.in_flight.insert(id.0, spooled);
            connection.insert(connection.moment(), prepared, ResultContexts::Spooled(id.0))?;
        }
        Ok(())
    }

    /// Takes the end of a message that was sent.
    pub(super) fn handle_end(&mut self, id: u64, outcome: &RequestOutcome, broker: &Broker<AgentHandler>) {
        let Some(SpooledEntry { id, entry }) = self.in_flight.remove(&id) else { return };
        let (is_ok, code, msg) = match outcome {
            RequestOutcome::Answered { answer, .. } => {
                (answer.code.is_success(), Some(answer.code.0), answer.msg.to_string())
            }
            RequestOutcome::Delivered { .. } => (true, None, "acknowledged".to_owned()),
            RequestOutcome::Malformed(why) => (false, None, format!("the answer breaks the protocol: {why}")),
            RequestOutcome::EndsConnections(length) => {
                (false, None, format!("the message of {length} bytes ended several connections"))
            }
            RequestOutcome::TimedOut { .. } => {
                self.resting.insert((Instant::now() + REST, id));
                return;
            }
        };
        if is_ok {
            self.delivered += 1;
        } else {
            self.refused += 1;
            self.warnings.warn(&format!(
                "the edge refused a spooled message of {}: {} {msg}",
                entry.devices.first().map_or("no device", SmolStr::as_str),
                code.map(|code| code.to_string()).unwrap_or_default()
            ));
        }
        if let Some(results) = &mut self.results {
            let given = jiff::Timestamp::from_microsecond(entry.given).map(|given| given.to_string());
            let line = json!({
                "ok": is_ok,
                "op": if entry.kind == SpoolKind::Report { "report" } else { "status" },
                "cid": entry.devices.first().map(SmolStr::as_str),
                "request_id": entry.request_id.as_str(),
                "code": code,
                "msg": msg,
                "given": given.unwrap_or_default(),
            });
            let end = results.write(format!("{line}\n").as_bytes());
            self.unrecorded.push_back((end, id));
            return;
        }
        self.store.borrow_mut().finish(id);
        broker.turn(|handler, _| handler.release_devices());
    }

    /// Stores what was given, and closes the files. The handler must have given the spool back.
    pub(super) async fn close(self) {
        if let Some(results) = self.results {
            // A failure was told when it was met.
            let _ = results.close().await;
        }
        if let Ok(store) = Rc::try_unwrap(self.store) {
            store.into_inner().close().await;
        }
    }
}

/// Waits until the spool has something new; for ever without one.
pub(super) async fn changed(spool: &mut Option<Spooled>) {
    match spool {
        Some(Spooled { watch, results: None, .. }) => watch.changed().await,
        Some(Spooled { watch, results: Some(results), has_results_failed, .. }) => tokio::select! {
            () = watch.changed() => {}
            committed = results.committed_changed() => *has_results_failed = committed.is_err(),
        },
        None => std::future::pending().await,
    }
}
