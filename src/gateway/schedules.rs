//! A gateway and an edge joined in memory: thousands of seeded schedules of delay, loss, repetition, reordering and
//! restarts of either side, and the promises that hold at the end of each.
//!
//! Messages travel one by one. A cut loses what is under way in both directions; a restart of the gateway forgets its
//! requests, whose inputs are then given again; a restart of the edge keeps its registry.

use std::{
    collections::{BTreeMap, BTreeSet, HashMap, HashSet},
    ops::Range,
};

use fastrand::Rng;

use super::*;
use crate::{
    edge::{
        self, Action, CommandOutcome, CommandRequest, Disposition, Edge, Faults, LoginRule, Registry, Role,
    },
    tuya::{Command, DataPointValue, Device, DeviceStatus, Property, ResultCode, product::Product},
};

const TIMEOUT: Duration = Duration::from_secs(5);
/// The wall clock's time at the beginning, in seconds since the Unix epoch.
const EPOCH: u64 = 1_700_000_000;

/// What happens at a moment.
enum Happening {
    /// A message of the gateway arrives at the edge.
    Up {
        connection: u64,
        token: u64,
        publish: Publish,
    },
    /// The edge's acknowledgement arrives at the gateway.
    Acknowledgement {
        connection: u64,
        token: u64,
    },
    /// A message of the edge arrives at the gateway.
    Down {
        connection: u64,
        topic: Arc<str>,
        payload: Bytes,
    },
    /// A command has been executed.
    Executed {
        life: u64,
        key: CommandKey,
        command: Envelope<Command>,
    },
    /// The connection is opened.
    Connect,
    /// The connection is lost.
    Cut,
    GatewayRestart,
    EdgeRestart,
    /// An input is given.
    Input(u64),
    /// The platform asks for a command.
    Command(u64),
}

/// What an input asks for, and what has become of it.
struct Input {
    channel: Channel,
    cid: String,
    payload: fn(&str, u64) -> Payload,
    /// The lives in which it was given, and how often it ended in each.
    ends: BTreeMap<u64, u32>,
}

struct World {
    random: Rng,
    /// Whether only a cut loses messages, outages are short, and the edge answers each request: then none times out.
    is_lossless: bool,
    now: Duration,
    /// What will happen, by time and order of planning.
    plan: BTreeMap<(Duration, u64), Happening>,
    planned: u64,
    gateway: Gateway<u64>,
    commands: ReceivedCommands,
    /// How often the gateway was started.
    life: u64,
    /// How often a connection was opened.
    connection: u64,
    is_connected: bool,
    edge: Edge,
    /// The registry's file.
    file: Vec<u8>,
    inputs: Vec<Input>,
    /// How many requests had no answer in time.
    timed_out: u32,
    /// The devices whose sync was accepted.
    accepted: BTreeSet<String>,
    /// Each command that was executed, by life, request id and device.
    executed: HashSet<(u64, String, String)>,
    /// What each command was answered with, by life, request id and device.
    answers: HashMap<(u64, String, String), (ResultCode, String)>,
    /// The commands that have not ended at the edge.
    asked: BTreeSet<u64>,
}

fn gateway_id() -> GatewayId {
    GatewayId::new("gw1").unwrap()
}

fn new_gateway(random: &mut Rng) -> Gateway<u64> {
    Gateway::new(GatewaySettings {
        gateway_id: Some(gateway_id()),
        topics: Topics::default(),
        qos: QoS::AtLeastOnce,
        timeout: TIMEOUT,
        max_packet: 1 << 20,
        waits_for_answers: true,
        retries: random.u32(0..4),
        rate: random.bool().then(|| "20/s".parse().unwrap()),
        endures_outages: true,
        topic_prefix: "",
    })
}

fn new_edge(file: &[u8], now: Duration, is_lossless: bool) -> Edge {
    let faults: &[&str] = if is_lossless { &[] } else { &["code=500@0.1", "drop-response@0.05"] };
    let settings = edge::EdgeSettings {
        access: LoginRule { usernames: Vec::new(), platform_usernames: Vec::new() },
        product: Product::smart_water_meter(),
        accepts_all: false,
        max_skew: None,
        offline_after: None,
        command_timeout: TIMEOUT,
        faults: Faults::new(faults.iter().map(|fault| fault.parse().unwrap()).collect(), 1),
    };
    let registry = if file.is_empty() { Registry::default() } else { Registry::read(file, now).unwrap().0 };
    Edge::new(settings, registry)
}

fn sync(cid: &str, _: u64) -> Payload {
    let device = Device { cid: cid.into(), product_id: "p".into(), ..Device::default() };
    Payload::Uplink(Uplink::Sync(Box::new(device)))
}

fn report(cid: &str, n: u64) -> Payload {
    let value = DataPointValue::parse(&n.to_string()).unwrap();
    Payload::Uplink(Uplink::Report(Property { cid: cid.into(), id: "1".into(), value }))
}

fn status(cid: &str, _: u64) -> Payload {
    Payload::Uplink(Uplink::Status(vec![DeviceStatus { cid: cid.into(), status: true }]))
}

impl World {
    fn new(seed: u64) -> Self {
        let mut random = Rng::with_seed(seed);
        let gateway = new_gateway(&mut random);
        let is_lossless = random.bool();
        let mut world = Self {
            gateway,
            commands: ReceivedCommands::new(Product::smart_water_meter(), true, None),
            edge: new_edge(&[], Duration::ZERO, is_lossless),
            random,
            is_lossless,
            now: Duration::ZERO,
            plan: BTreeMap::new(),
            planned: 0,
            life: 0,
            connection: 0,
            is_connected: false,
            file: Vec::new(),
            inputs: Vec::new(),
            timed_out: 0,
            accepted: BTreeSet::new(),
            executed: HashSet::new(),
            answers: HashMap::new(),
            asked: BTreeSet::new(),
        };
        for n in 0..world.random.u64(1..20) {
            let cid = format!("m{}", world.random.u8(0..4));
            let kinds = [
                (Channel::Sync, sync as fn(&str, u64) -> Payload),
                (Channel::Report, report),
                (Channel::Status, status),
            ];
            let (channel, payload) = kinds[world.random.usize(..3)];
            world.inputs.push(Input { channel, cid, payload, ends: BTreeMap::new() });
            world.plan_within(10_000, Happening::Input(n));
        }
        for token in 0..world.random.u64(0..6) {
            world.plan_within(12_000, Happening::Command(token));
        }
        for _ in 0..world.random.u8(0..4) {
            world.plan_within(12_000, Happening::Cut);
        }
        if world.random.u8(0..3) == 0 {
            world.plan_within(12_000, Happening::GatewayRestart);
        }
        if world.random.u8(0..3) == 0 {
            world.plan_within(12_000, Happening::EdgeRestart);
        }
        world.plan_within(100, Happening::Connect);
        world
    }

    fn moment(&self) -> GatewayTime {
        GatewayTime { since: self.now, t: i64::try_from(EPOCH + self.now.as_secs()).unwrap() }
    }

    fn edge_moment(&self) -> edge::EdgeTime {
        edge::EdgeTime { mono: self.now, unix: Duration::from_secs(EPOCH) + self.now }
    }

    /// Plans something at a random time within so many milliseconds.
    fn plan_within(&mut self, milliseconds: u64, happening: Happening) {
        self.planned += 1;
        let at = self.now + Duration::from_millis(self.random.u64(..milliseconds));
        self.plan.insert((at, self.planned), happening);
    }

    /// Lets a message travel: it may be late, be lost, or arrive twice.
    fn travel(&mut self, message: impl Fn() -> Happening) {
        let copies = match self.random.u8(0..10) {
            0 if !self.is_lossless => 0,
            9 => 2,
            _ => 1,
        };
        for _ in 0..copies {
            let is_late = !self.is_lossless && self.random.u8(0..20) == 0;
            self.plan_within(if is_late { 8_000 } else { 300 }, message());
        }
    }

    /// Runs to the end of all that was planned.
    fn run(&mut self) {
        for _ in 0..20_000 {
            self.poll();
            let gateway_due = self.gateway.next_timeout(None);
            let edge_due = self.edge.poll_timeout();
            let due = gateway_due.into_iter().chain(edge_due).min();
            let next = self.plan.first_key_value().map(|((at, _), _)| *at);
            match (due, next) {
                (Some(due), next) if next.is_none_or(|next| due <= next) => {
                    self.now = self.now.max(due);
                    let jitter = self.random.f64();
                    self.gateway.handle_timeout(self.now, None, || jitter).unwrap();
                    self.edge.handle_timeout(self.edge_moment());
                    self.act();
                }
                (_, Some(_)) => {
                    let ((at, _), happening) = self.plan.pop_first().unwrap();
                    self.now = self.now.max(at);
                    self.happen(happening);
                }
                (_, None) => return,
            }
        }
        panic!("there is no end");
    }

    /// Takes what the gateway gives.
    fn poll(&mut self) {
        let now = self.moment();
        while let Some(ToPublish { token, publish, .. }) = self.gateway.poll_publish(now) {
            let publish = publish.clone();
            let connection = self.connection;
            self.travel(|| Happening::Up { connection, token, publish: publish.clone() });
        }
        while let Some(event) = self.gateway.poll_event() {
            if let GatewayEvent::Ended(ended, outcome) = event {
                self.end(&ended, &outcome);
            }
        }
    }

    fn end(&mut self, ended: &Ended<u64>, outcome: &RequestOutcome) {
        let Some(input) = usize::try_from(ended.context).ok().and_then(|n| self.inputs.get_mut(n)) else {
            return;
        };
        *input.ends.entry(self.life).or_default() += 1;
        self.timed_out += u32::from(matches!(outcome, RequestOutcome::TimedOut { .. }));
        if let RequestOutcome::Answered { answer, .. } = outcome {
            assert_eq!(answer.cid.as_deref(), Some(&*input.cid), "the answer is another request's");
            if input.channel == Channel::Sync && answer.code.is_success() {
                self.accepted.insert(input.cid.clone());
            }
        }
    }

    fn happen(&mut self, happening: Happening) {
        match happening {
            Happening::Up { connection, token, publish }
                if connection == self.connection && self.is_connected =>
            {
                let (now, role) = (self.edge_moment(), Role::Gateway(gateway_id()));
                let outcome = self.edge.handle_publish(now, &role, &publish.topic, &publish.payload);
                self.act();
                let is_routed = matches!(outcome.disposition, Disposition::Route | Disposition::RouteKept);
                assert!(is_routed, "{outcome:?}");
                self.note_answer(&publish);
                self.travel(|| Happening::Acknowledgement { connection, token });
            }
            Happening::Acknowledgement { connection, token } if connection == self.connection => {
                self.gateway.handle_acknowledgement(token, self.now);
            }
            Happening::Down { connection, topic, payload }
                if connection == self.connection && self.is_connected =>
            {
                self.hear(topic, payload);
            }
            Happening::Executed { life, key, command } if life == self.life => {
                let Envelope { request_id, body: Command { cid, .. }, .. } = command;
                let is_first = self.executed.insert((life, request_id.clone(), cid.clone()));
                assert!(is_first, "{request_id} was executed twice");
                let answer =
                    CommandAnswer { cid, code: ResultCode(self.random.i64(..2)), msg: "done".into() };
                self.commands.finish(key, &answer);
                self.gateway.respond(self.moment(), &gateway_id(), request_id.into(), answer, u64::MAX);
            }
            Happening::Up { .. }
            | Happening::Acknowledgement { .. }
            | Happening::Down { .. }
            | Happening::Executed { .. } => {}
            Happening::Connect => {
                self.connection += 1;
                self.is_connected = true;
                self.edge.handle_connected(&gateway_id());
                self.gateway.handle_connected(false);
                let jitter = self.random.f64();
                self.gateway.handle_subscribed(self.now, || jitter);
            }
            Happening::Cut => self.cut(),
            Happening::GatewayRestart => {
                self.cut();
                let drained: Vec<_> = self.gateway.drain().map(|ended| ended.context).collect();
                for context in drained {
                    let Some(input) = usize::try_from(context).ok().and_then(|n| self.inputs.get_mut(n))
                    else {
                        continue;
                    };
                    *input.ends.entry(self.life).or_default() += 1;
                    // The user gives the inputs again that had no result.
                    self.plan_within(2_000, Happening::Input(context));
                }
                self.check_life();
                self.life += 1;
                self.gateway = new_gateway(&mut self.random);
                self.commands = ReceivedCommands::new(Product::smart_water_meter(), true, None);
            }
            Happening::EdgeRestart => {
                self.cut();
                self.edge = new_edge(&self.file, self.now, self.is_lossless);
                self.asked.clear();
            }
            Happening::Input(n) => {
                let input = &self.inputs[usize::try_from(n).unwrap()];
                let payload = (input.payload)(&input.cid, n);
                // An id that repeats makes the requests of a device wait for each other.
                let repeats = self.random.u8(0..8) == 0;
                let id = if repeats {
                    format!("{}-{}", self.life, input.cid)
                } else {
                    format!("{}-{n}", self.life)
                };
                let draft =
                    self.gateway.prepare(self.moment(), input.channel, None, id.into(), None, &payload);
                self.gateway.insert(draft.unwrap(), n);
            }
            Happening::Command(token) => {
                self.asked.insert(token);
                let points = vec![("18".to_owned(), DataPointValue::parse("50").unwrap())];
                let command = Command { cid: format!("m{}", token % 4), points };
                let ask = CommandRequest {
                    token,
                    gateway_id: Some(gateway_id()),
                    t: None,
                    request_id: format!("c{token}"),
                    command,
                };
                self.edge.send_command(self.edge_moment(), ask);
                self.act();
            }
        }
    }

    fn cut(&mut self) {
        if std::mem::replace(&mut self.is_connected, false) {
            self.edge.handle_session_ended(&gateway_id());
            self.gateway.handle_disconnected(self.now);
            self.plan_within(if self.is_lossless { 300 } else { 6_000 }, Happening::Connect);
        }
    }

    /// The gateway hears a message.
    fn hear(&mut self, topic: Arc<str>, payload: Bytes) {
        if self.gateway.topics().id_in(Channel::Command, &topic).is_none() {
            let message =
                Message { topic, payload, qos: QoS::AtLeastOnce, retain: false, dup: false, id: Some(1) };
            let jitter = self.random.f64();
            return self.gateway.handle_message(message, self.now, || jitter);
        }
        match self.commands.handle_delivery(&payload) {
            CommandAction::Execute(key, command) => {
                let life = self.life;
                self.plan_within(1_000, Happening::Executed { life, key, command });
            }
            CommandAction::Answer(request_id, answer) => {
                self.gateway.respond(self.moment(), &gateway_id(), request_id.into(), answer, u64::MAX);
            }
            CommandAction::Repeated(_) => {}
            CommandAction::Ignore(why) => panic!("{why}"),
        }
    }

    /// Takes note of the answer to a command that the edge has heard: it is the same each time.
    fn note_answer(&mut self, publish: &Publish) {
        if self.gateway.topics().id_in(Channel::CommandResponse, &publish.topic).is_none() {
            return;
        }
        let heard = Envelope::<Uplink>::decode(Channel::CommandResponse, &publish.payload).unwrap();
        let Uplink::CommandResponse(answer) = heard.body else { panic!("no answer") };
        let key = (self.life, heard.request_id, answer.cid);
        let said = (answer.code, answer.msg);
        let first = self.answers.entry(key.clone()).or_insert_with(|| said.clone());
        assert_eq!(*first, said, "{key:?} is answered in two ways");
    }

    /// Does what the edge asks for.
    fn act(&mut self) {
        while let Some(action) = self.edge.poll_action() {
            match action {
                Action::Persist(line) => self.file.extend(line),
                Action::Publish { topic, payload, .. } => {
                    let connection = self.connection;
                    self.travel(|| Happening::Down {
                        connection,
                        topic: Arc::clone(&topic),
                        payload: payload.clone(),
                    });
                }
                Action::CommandDone(outcome) => {
                    assert!(self.asked.remove(&outcome.token), "a command ended twice");
                    if let CommandOutcome::Answered { code, .. } = outcome.verdict
                        && code.is_success()
                        && outcome.round_trip.is_some()
                    {
                        let id = format!("c{}", outcome.token);
                        assert!(
                            self.executed.iter().any(|(_, executed, _)| *executed == id),
                            "{id} was not executed"
                        );
                    }
                }
                Action::Warn(_) => {}
            }
        }
    }

    /// What holds at the end of a life of the gateway: each request that it was given has ended exactly once.
    fn check_life(&self) {
        for input in &self.inputs {
            assert!(input.ends.get(&self.life).is_none_or(|ends| *ends == 1), "{:?}", input.ends);
        }
    }

    fn check(&self) {
        self.check_life();
        assert!(self.gateway.is_empty() && !self.gateway.awaits_answers(), "requests are left");
        for (n, input) in self.inputs.iter().enumerate() {
            assert!(input.ends.values().sum::<u32>() >= 1, "input {n} has no result");
        }
        assert!(!self.is_lossless || self.timed_out == 0, "{} requests timed out", self.timed_out);
        assert!(self.asked.is_empty(), "commands are left: {:?}", self.asked);
        for cid in &self.accepted {
            assert!(self.edge.registry().knows(&gateway_id(), cid), "{cid} was accepted and is forgotten");
        }
    }
}

fn run_schedules(seeds: Range<u64>) {
    let count = seeds.end - seeds.start;
    let (mut inputs, mut timed_out, mut lives, mut executed) = (0, 0, 0, 0);
    for seed in seeds {
        let run = std::panic::catch_unwind(|| {
            let mut world = World::new(seed);
            world.run();
            world.check();
            world
        });
        let Ok(world) = run else {
            panic!("SCHEDULE={seed} cargo test --lib schedules runs this schedule alone")
        };
        inputs += world.inputs.len() as u64;
        timed_out += u64::from(world.timed_out);
        lives += world.life + 1;
        executed += world.executed.len() as u64;
    }
    let counts =
        format!("{inputs} inputs, {timed_out} timed out, {lives} lives, {executed} commands executed");
    if count > 1 {
        // The schedules are not empty.
        assert!(inputs > 5 * count && lives > count && executed > count / 4, "{counts}");
    }
}

/// Set SCHEDULE to a seed to run that schedule alone.
#[test]
#[allow(clippy::disallowed_methods, reason = "whoever looks into a failure chooses the schedule")]
fn a_gateway_and_an_edge_keep_their_promises_in_a_thousand_schedules() {
    match std::env::var("SCHEDULE") {
        Ok(seed) => {
            let seed = seed.parse().unwrap();
            run_schedules(seed..seed + 1);
        }
        Err(_) => run_schedules(0..1_000),
    }
}

#[test]
#[ignore = "slow: nine thousand schedules more"]
fn a_gateway_and_an_edge_keep_their_promises_in_ten_thousand_schedules() {
    run_schedules(1_000..10_000);
}
