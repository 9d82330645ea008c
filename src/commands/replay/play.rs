//! Plays the script: each message at its time to its connection, and what comes back to whom it concerns.

mod ending;
mod hearing;

use std::{
    collections::{HashMap, HashSet, VecDeque},
    rc::Rc,
    time::{Duration, Instant, SystemTime, UNIX_EPOCH},
};

use md5::{Digest as _, Md5};
use tokio::{
    sync::{Notify, mpsc},
    task::{JoinHandle, spawn_local},
};

use super::{
    Args,
    alarm::Alarm,
    commands::Commands,
    edge,
    ledger::{Ledger, Shared},
    peer::{Order, Peer},
    script::{Line, Script, Step},
    verify::{Difference, Key, Request, Verify},
};
use crate::{
    commands::{
        Console,
        connection::{Connection, Fleet},
        recording::Flaws,
        signals::Signals,
    },
    failure::{Exit, Failure, Kind},
    mqtt::{
        broker::Broker,
        packet::{Publish, QoS},
    },
    protocol::{Channel, GatewayId, Topics, check_topic_name},
    record::{Fresh, Pace, Schedule},
};

/// How many messages may be handed over and not yet done with.
const WINDOW: usize = 1024;
/// How many lines are kept at hand, so that connections are open before they are needed.
const AHEAD: usize = 256;
/// So many answers wait for their commands at most, so that memory does not grow with the recording.
const HELD: usize = 10_000;

/// Plays a script to its end.
#[allow(clippy::too_many_arguments, reason = "they are the parts of one performance")]
pub async fn play(
    args: &Args,
    script: Script,
    schedule: Schedule,
    pace: Pace,
    flaws: Flaws,
    topics: Topics,
    timeout: Duration,
    console: Console,
) -> Result<Exit, Failure> {
    let changed = Rc::new(Notify::new());
    let ledger = Ledger::new(console, Rc::clone(&changed));
    let stage = match &args.listen {
        None => {
            let mut fleet = Connection::fleet(&args.network, &args.login)?;
            fleet.one.settings.reconnect = !args.no_reconnect;
            Stage::Up { fleet: Box::new(fleet), peers: HashMap::new(), tasks: Vec::new() }
        }
        Some(address) => Stage::Down(edge::listen(address, &ledger)?),
    };
    let default_gateway = match &stage {
        Stage::Up { fleet, .. } => fleet.one.gateway_id.clone(),
        Stage::Down(_) => args.login.gateway_id.clone().and_then(|id| GatewayId::new(id).ok()),
    };
    let mut play = Play {
        script,
        lines: VecDeque::new(),
        schedule,
        is_timed: pace != Pace::Max,
        start: None,
        stage,
        ledger,
        changed,
        verify: args.verify.then(|| Verify::new(timeout)),
        commands: Commands::default(),
        held: VecDeque::new(),
        given_up: 0,
        flaws,
        topics,
        timeout,
        default_gateway,
        gateways: args.map_gateway.iter().cloned().collect(),
        cids: args.map_cid.iter().cloned().collect(),
        qos: args.network.asked_qos(),
        keep_t: args.keep_t,
        keep_ids: args.keep_ids,
        seed: fastrand::u64(..),
        time: 0,
        past: Duration::ZERO,
        offset: Duration::ZERO,
        index: 0,
        alarm: Alarm::new()?,
        signals: Signals::new()?,
        console,
    };
    let began = Instant::now();
    let mut end = play.perform().await;
    if let Ok(None) = end {
        end = play.drain().await;
    }
    play.close(end, began).await
}

/// Where messages go.
enum Stage {
    /// To an edge, each gateway over a connection of its own.
    Up { fleet: Box<Fleet>, peers: HashMap<String, mpsc::UnboundedSender<Order>>, tasks: Vec<JoinHandle<()>> },
    /// To the gateways that connect to us.
    Down(Rc<Broker>),
}

struct Play {
    script: Script,
    lines: VecDeque<Line>,
    schedule: Schedule,
    is_timed: bool,
    /// The moment that all is scheduled against.
    start: Option<Instant>,
    stage: Stage,
    ledger: Shared,
    changed: Rc<Notify>,
    verify: Option<Verify>,
    commands: Commands,
    /// Answers to commands that have not come, and how many were given up.
    held: VecDeque<(Step, Request)>,
    given_up: u64,
    flaws: Flaws,
    topics: Topics,
    timeout: Duration,
    default_gateway: Option<GatewayId>,
    gateways: HashMap<String, String>,
    cids: HashMap<String, String>,
    qos: Option<QoS>,
    keep_t: bool,
    keep_ids: bool,
    seed: u64,
    /// Which time of `--loop` it is.
    time: u64,
    /// The recorded time of the times before.
    past: Duration,
    /// The recorded time that has been reached, over all times.
    offset: Duration,
    index: u64,
    alarm: Alarm,
    signals: Signals,
    console: Console,
}

impl Play {
    /// Plays to the script's end, or to a signal, whose exit code it gives.
    async fn perform(&mut self) -> Result<Option<Exit>, Failure> {
        loop {
            if self.lines.len() < AHEAD
                && let Some(lines) = self.script.ready()?
            {
                self.prepare(lines)?;
            }
            let Some(line) = self.lines.pop_front() else {
                tokio::select! {
                    biased;
                    signal = self.signals.next() => return Ok(Some(signal)),
                    lines = self.script.next() => match lines? {
                        Some(lines) => self.prepare(lines)?,
                        None => return Ok(None),
                    },
                    () = self.changed.notified() => self.look()?,
                }
                continue;
            };
            match line {
                Line::Flaw(number, flaw) => self.flaws.tell(number, &flaw),
                Line::Again => {
                    self.schedule.again();
                    self.time += 1;
                    self.past = self.offset;
                }
                Line::Step(step) => {
                    self.offset = self.offset.max(self.past.saturating_add(step.offset));
                    if !step.is_ours {
                        self.witness(&step);
                    } else if let Some(signal) = self.cue(*step).await? {
                        return Ok(Some(signal));
                    }
                }
            }
        }
    }

    /// Takes lines to hand, and opens the connections that they need.
    fn prepare(&mut self, lines: Vec<Line>) -> Result<(), Failure> {
        if let Stage::Up { .. } = self.stage {
            for line in &lines {
                if let Line::Step(step) = line
                    && step.is_ours
                    && let Ok(gateway) = self.gateway(step)
                {
                    self.open(&gateway)?;
                }
            }
        }
        self.lines.extend(lines);
        Ok(())
    }

    fn open(&mut self, gateway: &GatewayId) -> Result<(), Failure> {
        let Stage::Up { fleet, peers, tasks } = &mut self.stage else { return Ok(()) };
        if peers.contains_key(gateway.as_str()) {
            return Ok(());
        }
        let (sender, orders) = mpsc::unbounded_channel();
        let (settings, topics, qos) = (fleet.settings(gateway)?, self.topics.clone(), fleet.one.qos);
        let peer = Peer::new(gateway.clone(), settings, topics, qos, orders, Rc::clone(&self.ledger));
        tasks.push(spawn_local(peer.run()));
        peers.insert(gateway.as_str().to_owned(), sender);
        Ok(())
    }

    /// Waits for a message's time and sends it; gives the exit code of a signal that came first.
    async fn cue(&mut self, step: Step) -> Result<Option<Exit>, Failure> {
        if self.start.is_none() {
            let mut told = None;
            while !self.is_ready(&step) {
                self.tell_wait(&step, &mut told);
                tokio::select! {
                    signal = self.signals.next() => return Ok(Some(signal)),
                    () = self.changed.notified() => self.look()?,
                }
            }
        }
        let start = *self.start.get_or_insert_with(Instant::now);
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
                    () = self.alarm.until(due) => {}
                    signal = self.signals.next() => return Ok(Some(signal)),
                    () = self.changed.notified() => self.look()?,
                }
            }
            Some(due)
        } else {
            None
        };
        while self.ledger.borrow().in_flight >= WINDOW {
            tokio::select! {
                signal = self.signals.next() => return Ok(Some(signal)),
                () = self.changed.notified() => self.look()?,
            }
        }
        self.send(step, due)?;
        Ok(None)
    }

    /// Whether the first message can leave: all connections that are known to be needed are open.
    fn is_ready(&self, first: &Step) -> bool {
        match &self.stage {
            Stage::Up { peers, .. } => {
                let ledger = self.ledger.borrow();
                peers.keys().all(|gateway| ledger.ready.contains(gateway))
            }
            Stage::Down(broker) => match self.gateway(first) {
                Ok(gateway) => broker.has_subscriber(&self.topic(first, &gateway)),
                Err(_) => true,
            },
        }
    }

    /// Says once for which gateway the first command waits, and for each other one that comes how it could be it.
    fn tell_wait(&self, first: &Step, told: &mut Option<HashSet<String>>) {
        let (Stage::Down(_), Ok(gateway)) = (&self.stage, self.gateway(first)) else { return };
        let told = told.get_or_insert_with(|| {
            let topic = self.topic(first, &gateway);
            self.console.note(&format!("waiting for gateway {gateway} to subscribe to {topic}"));
            HashSet::from([gateway.as_str().to_owned()])
        });
        for other in &self.ledger.borrow().ready {
            if told.insert(other.clone()) {
                let recorded = first.gateway_id.as_deref().unwrap_or_default();
                self.console
                    .warn(&format!("gateway {other} has connected, and the recording is of {gateway}"));
                self.console.hint(&format!("--map-gateway {recorded}={other} plays it to that one"));
            }
        }
    }

    /// The gateway that a message is played for.
    fn gateway(&self, step: &Step) -> Result<GatewayId, Failure> {
        let Some(recorded) = &step.gateway_id else {
            return self
                .default_gateway
                .clone()
                .ok_or_else(|| Failure::invalid("the topic names no gateway, and no --gateway-id is given"));
        };
        let id = self.gateways.get(recorded).unwrap_or(recorded);
        GatewayId::new(id.as_str()).map_err(|why| Failure::invalid(why.to_string()))
    }

    fn topic(&self, step: &Step, gateway: &GatewayId) -> String {
        match step.channel {
            Some(channel) if step.gateway_id.as_deref() != Some(gateway.as_str()) => {
                self.topics.topic(channel, gateway)
            }
            _ => step.topic.clone(),
        }
    }

    /// The id that a recorded one is played with: always the same for the same, so that repetitions stay such and
    /// answers find their requests, and no table has to be kept.
    fn fresh_id(&self, gateway: &str, recorded: &str) -> String {
        if self.keep_ids {
            return recorded.to_owned();
        }
        let mut hash = Md5::new();
        hash.update(self.seed.to_le_bytes());
        hash.update(self.time.to_le_bytes());
        hash.update(gateway);
        hash.update([0]);
        hash.update(recorded);
        uuid::Builder::from_random_bytes(hash.finalize().into()).into_uuid().hyphenated().to_string()
    }

    fn send(&mut self, step: Step, due: Option<Instant>) -> Result<(), Failure> {
        let index = self.index;
        self.index += 1;
        let splice = &step.splice;
        let cid = splice.cid().map(|cid| self.cids.get(cid).map_or(cid, String::as_str).to_owned());
        let mut request = Request {
            index,
            line: step.number,
            channel: step.channel,
            gateway_id: step.gateway_id.clone().unwrap_or_default(),
            cid,
            id: splice.request_id().map(ToOwned::to_owned),
        };
        let gateway = self.gateway(&step).and_then(|gateway| {
            check_topic_name(&step.topic).map_err(|why| Failure::invalid(why.to_string()))?;
            Ok(gateway)
        });
        let gateway = match gateway {
            Ok(gateway) => gateway,
            Err(why) => {
                self.ledger.borrow_mut().fail(&request, why.kind, &why.message);
                return Ok(());
            }
        };
        gateway.as_str().clone_into(&mut request.gateway_id);
        let recorded_id = request.id.clone();
        if let Some(recorded_id) = &recorded_id {
            if step.channel == Some(Channel::CommandResponse) {
                let cid = request.cid.clone().unwrap_or_default();
                let Some(id) = self.commands.answer(gateway.as_str(), recorded_id, &cid) else {
                    self.held.push_back((step, request));
                    if self.held.len() > HELD
                        && let Some((_, oldest)) = self.held.pop_front()
                    {
                        self.give_up(oldest, &format!("while {HELD} others waited"));
                    }
                    return Ok(());
                };
                request.id = Some(id);
            } else {
                request.id = Some(self.fresh_id(gateway.as_str(), recorded_id));
            }
        }
        self.dispatch(step, request, &gateway, due)
    }

    /// Sends a message whose request id is settled.
    fn dispatch(
        &mut self,
        step: Step,
        request: Request,
        gateway: &GatewayId,
        due: Option<Instant>,
    ) -> Result<(), Failure> {
        let splice = &step.splice;
        let fresh = Fresh {
            t: (!self.keep_t).then(|| SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default()),
            // An id that stays keeps its bytes, too: there are several ways to write it in JSON.
            request_id: request.id.as_deref().filter(|id| splice.request_id() != Some(id)),
            cid: &|cid| self.cids.get(cid).map(String::as_str),
        };
        let payload = splice.apply(&step.payload, &fresh).into();
        let qos = self.qos.or(QoS::from_number(step.qos)).unwrap_or_default();
        let topic = self.topic(&step, gateway);
        let asks = match self.stage {
            Stage::Up { .. } => matches!(step.channel, Some(Channel::Sync | Channel::Report)),
            Stage::Down(_) => step.channel == Some(Channel::Command),
        };
        if let (true, Some(verify), Some(id)) = (asks, &mut self.verify, &request.id) {
            let now = self.start.map_or(Duration::ZERO, |start| start.elapsed());
            verify.ask((gateway.as_str().to_owned(), id.clone()), request.clone(), self.offset, now);
        }
        self.open(gateway)?;
        match &self.stage {
            Stage::Up { peers, .. } => {
                let publish = Publish { topic: topic.into(), payload, qos, retain: step.retain };
                let mut ledger = self.ledger.borrow_mut();
                let Some(peer) = peers.get(gateway.as_str()) else { return Ok(()) };
                ledger.in_flight += 1;
                if let Err(mpsc::error::SendError(order)) = peer.send(Order { publish, request, due }) {
                    // Its failure ends the run as soon as it is looked at.
                    ledger.fail(&order.request, Kind::Connection, "the connection is closed");
                    ledger.done();
                }
            }
            Stage::Down(broker) => {
                if broker.has_subscriber(&topic) {
                    self.ledger.borrow_mut().leaves(due);
                    broker.say(topic, payload, qos);
                } else {
                    let message = format!("no gateway subscribes to {topic}: is it connected?");
                    self.ledger.borrow_mut().fail(&request, Kind::Timeout, &message);
                }
            }
        }
        Ok(())
    }
}
