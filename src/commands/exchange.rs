//! The open requests of one connection: asked, sent again after a reconnect, answered, timed out; each ends as
//! its result lines.

use std::{
    collections::{BTreeMap, BTreeSet, VecDeque},
    sync::Arc,
    time::Duration,
};

use bytes::Bytes;

use super::{
    Console,
    connection::Connection,
    ids::request_id,
    operations::{Body, Invalid, Item, Operation, status_item},
    requests::TimeUnit,
    results::{Origin, Outcome, Results, Source, Sources},
};
use crate::{
    failure::{Failure, Kind},
    gateway::{Heard, Requests},
    hash::Counted,
    mqtt::{
        client::{Client, Event},
        packet::{Message, Publish, QoS},
    },
    protocol::{
        Channel, CommandAnswer, DeviceStatus, Downlink, Envelope, GatewayId, ResultCode, Topics, Uplink,
    },
};

/// A status report is at most this long, so that every broker takes it.
const LONGEST_STATUS: usize = 64 * 1024;
/// What an envelope, a topic and the packet's header add to a status array, at most.
const AROUND_STATUS: usize = 512;
/// How many bytes of messages are kept for the SUBACK that makes answers of them.
const MOST_EARLY: usize = 16 << 20;
/// How many warnings of one run are printed in full.
const WARNINGS: usize = 10;
/// How long a request rests before it is tried again, at first and at most; the waits in between double.
const FIRST_REST: Duration = Duration::from_millis(500);
const LONGEST_REST: Duration = Duration::from_secs(30);

/// One connection with its open requests.
pub struct Exchange {
    /// The connection.
    pub client: Client,
    /// Where results go.
    pub results: Results,
    console: Console,
    gateway_id: Option<GatewayId>,
    topics: Topics,
    qos: QoS,
    t_unit: TimeUnit,
    timeout: Duration,
    max_packet: usize,
    /// Whether answers are waited for, rather than the broker's acknowledgement alone.
    waits: bool,
    requests: Requests,
    /// Until when a message that nobody answers must be acknowledged, in the order of first writing.
    acknowledgements: VecDeque<(Duration, u64)>,
    open: Counted<u64, Open>,
    /// How often a request is tried again.
    retries: u32,
    /// What rests before it is tried again, by its time.
    resting: BTreeSet<(Duration, u64)>,
    next_token: u64,
    /// What waits for an open request with the same id, and how many that are: their answers could not be told
    /// apart.
    behind: BTreeMap<Arc<str>, VecDeque<(Item, Option<Origin>)>>,
    waiting: usize,
    /// The ids for which something waits and that nobody uses any more.
    freed: Vec<Arc<str>>,
    /// Status lines that one array can carry, and its length so far.
    statuses: Vec<(DeviceStatus, Source)>,
    statuses_length: usize,
    /// The topics spoken on last: of requests and of their answers.
    addressed: Option<(Operation, GatewayId, Arc<str>, Arc<str>)>,
    /// Whether an outage is endured, however long it takes.
    patient: bool,
    subscribed: bool,
    /// What came before the SUBACK; it counts once the subscription is granted.
    early: Vec<Message>,
    early_length: usize,
    warnings: usize,
}

/// A moment on both clocks: the client's, and the wall's in the unit of `t`.
#[derive(Clone, Copy, Debug)]
pub struct Moment {
    /// The time since the client was made.
    pub since: Duration,
    /// The time stamp of messages.
    pub t: i64,
}

/// A message that waits for its answer, or for its acknowledgement.
#[derive(Debug)]
struct Open {
    topic: Arc<str>,
    payload: Bytes,
    request_id: Arc<str>,
    /// The result lines that it ends as.
    sources: Sources,
    /// Where it is answered; `None` where nobody answers, so that its acknowledgement is the end of it.
    response_topic: Option<Arc<str>>,
    /// When it was first written.
    written: Option<Duration>,
    /// Whether the broker has acknowledged it on this connection, and whether it ever has.
    delivered: bool,
    was_delivered: bool,
    /// How often it was sent, reconnects not counted.
    attempts: u32,
    /// Until when it rests before it is tried again.
    rests: Option<Duration>,
}

impl Open {
    fn new(
        topic: Arc<str>,
        payload: Bytes,
        request_id: Arc<str>,
        sources: Sources,
        response_topic: Option<Arc<str>>,
    ) -> Self {
        Self {
            topic,
            payload,
            request_id,
            sources,
            response_topic,
            written: None,
            delivered: false,
            was_delivered: false,
            attempts: 1,
            rests: None,
        }
    }
}

impl Exchange {
    /// An exchange over a client; `waits` says whether answers are waited for.
    #[must_use]
    pub fn new(
        connection: Connection,
        subscriptions: Vec<(String, QoS)>,
        t_unit: TimeUnit,
        waits: bool,
        results: Results,
        console: Console,
    ) -> Self {
        let Connection { settings, gateway_id, topics, qos } = connection;
        Self {
            results,
            console,
            gateway_id,
            topics,
            qos,
            t_unit,
            timeout: settings.timeout,
            max_packet: settings.max_packet,
            waits,
            requests: Requests::new(settings.timeout),
            client: Client::new(settings, subscriptions),
            acknowledgements: VecDeque::new(),
            open: Counted::default(),
            retries: 0,
            resting: BTreeSet::new(),
            next_token: 0,
            behind: BTreeMap::new(),
            waiting: 0,
            freed: Vec::new(),
            statuses: Vec::new(),
            statuses_length: 0,
            addressed: None,
            patient: false,
            subscribed: false,
            early: Vec::new(),
            early_length: 0,
            warnings: 0,
        }
    }

    /// The same exchange, which an outage does not end.
    #[must_use]
    pub fn patient(mut self) -> Self {
        self.patient = true;
        self
    }

    /// The same exchange, which tries a request again so many times after a system error or a time-out.
    #[must_use]
    pub fn retrying(mut self, retries: u32) -> Self {
        self.retries = retries;
        self
    }

    /// How many messages wait for their answers or acknowledgements, or for another one's.
    #[must_use]
    pub fn in_flight(&self) -> usize {
        self.open.len() + self.waiting
    }

    /// This moment.
    #[must_use]
    pub fn moment(&self) -> Moment {
        Moment { since: self.client.now(), t: self.t_unit.now() }
    }

    /// As [`Exchange::send_at`], at this moment.
    ///
    /// # Errors
    /// What ends the run.
    pub fn send(&mut self, item: Item, origin: Option<Origin>) -> Result<(), Failure> {
        self.send_at(self.moment(), item, origin)
    }

    /// Sends one item, or packs it where several fit into one message (see [`Exchange::send_statuses`]); one without an
    /// origin is a message of our own, which ends as no result line.
    ///
    /// # Errors
    /// What ends the run.
    pub fn send_at(&mut self, now: Moment, item: Item, origin: Option<Origin>) -> Result<(), Failure> {
        if let Item { body: Body::Uplink(Uplink::Status(statuses)), request_id: None, t: None, .. } = &item
            && let [status] = statuses.as_slice()
            && let Some(origin) = origin
        {
            let mut json = Vec::new();
            status.write(&mut json);
            let length = json.len() + 1;
            if self.statuses_length + length > LONGEST_STATUS.min(self.max_packet) - AROUND_STATUS {
                self.send_statuses()?;
            }
            self.statuses_length += length;
            self.statuses.push((status.clone(), origin.source_of(status.clone())));
            return Ok(());
        }
        self.ask(now, item, origin)
    }

    /// Sends the status lines that have gathered, as one array.
    ///
    /// # Errors
    /// What ends the run.
    pub fn send_statuses(&mut self) -> Result<(), Failure> {
        if self.statuses.is_empty() {
            return Ok(());
        }
        self.statuses_length = 0;
        let (statuses, sources) = std::mem::take(&mut self.statuses).into_iter().unzip();
        self.message(self.moment(), status_item(statuses), |_| Sources::Several(sources))
    }

    /// Opens a request, or has it wait for another one with the same id.
    fn ask(&mut self, now: Moment, item: Item, origin: Option<Origin>) -> Result<(), Failure> {
        if self.waits
            && item.operation.channel().response().is_some()
            && let Some(id) = item.request_id.as_ref().filter(|id| self.is_in_use(id))
        {
            self.waiting += 1;
            self.behind.entry(Arc::clone(id)).or_default().push_back((item, origin));
            return Ok(());
        }
        self.message(now, item, |item| match origin {
            Some(origin) => origin.sources(item),
            None => Sources::Several(Vec::new()),
        })
    }

    /// Opens a request and publishes it, now or once the connection is there.
    fn message(
        &mut self,
        now: Moment,
        mut item: Item,
        sources: impl FnOnce(Item) -> Sources,
    ) -> Result<(), Failure> {
        let operation = item.operation;
        let Some((topic, response_topic)) = self.address(operation, item.gateway_id.as_ref()) else {
            let message = "gateway_id is missing, and no --gateway-id is given".to_owned();
            let invalid = Invalid { field: Some("gateway_id".into()), message, ..Invalid::default() };
            self.refuse(sources(item).as_slice(), &invalid);
            return Ok(());
        };
        let answered = self.waits && operation.channel().response().is_some();
        let request_id = item.request_id.take().unwrap_or_else(request_id);
        let t = item.t.unwrap_or(now.t);
        let payload = match &item.body {
            Body::Uplink(uplink) => uplink.encode(t, &request_id),
            Body::Command(command) => command.encode(t, &request_id),
        };
        let sources = sources(item);
        let size = payload.len() + topic.len() + 9;
        let problem = if operation == Operation::Status && payload.len() > LONGEST_STATUS {
            Some(format!(
                "the message of {} bytes is longer than {LONGEST_STATUS}, the most of a status report",
                payload.len()
            ))
        } else if size > self.max_packet {
            Some(format!("the message of {size} bytes does not fit into --max-packet {}", self.max_packet))
        } else {
            None
        };
        if let Some(message) = problem {
            self.refuse(sources.as_slice(), &Invalid { message, ..Invalid::default() });
            return Ok(());
        }
        if answered {
            self.requests.ask(&request_id, &response_topic, self.next_token);
        }
        let response_topic = answered.then_some(response_topic);
        self.open(now.since, Open::new(topic, payload.into(), request_id, sources, response_topic))
    }

    /// Answers a command; sent again until the broker has acknowledged it.
    ///
    /// # Errors
    /// What ends the run.
    pub fn respond(
        &mut self,
        gateway: &GatewayId,
        request_id: Arc<str>,
        answer: CommandAnswer,
    ) -> Result<(), Failure> {
        let topic = self.topics.topic(Channel::CommandResponse, gateway).into();
        let now = self.moment();
        let payload = Uplink::CommandResponse(answer).encode(now.t, &request_id).into();
        self.open(now.since, Open::new(topic, payload, request_id, Sources::Several(Vec::new()), None))
    }

    fn open(&mut self, now: Duration, open: Open) -> Result<(), Failure> {
        let token = self.next_token;
        self.next_token += 1;
        self.open.insert(token, open);
        if self.client.down_since().is_none() { self.publish(now, token) } else { Ok(()) }
    }

    /// Whether a request id is an open request's, or that of one which rests before it is tried again.
    fn is_in_use(&self, request_id: &str) -> bool {
        let rests = |(_, token): &(Duration, u64)| {
            self.open.get(token).is_some_and(|open| *open.request_id == *request_id)
        };
        self.requests.is_open(request_id)
            || self.behind.contains_key(request_id)
            || self.resting.iter().any(rests)
    }

    /// Notes that a request id is in use no more.
    fn free(&mut self, request_id: &Arc<str>) {
        if self.behind.contains_key(request_id) {
            self.freed.push(Arc::clone(request_id));
        }
    }

    /// Sends the next one of what waited for a request with the same id.
    fn send_freed(&mut self) -> Result<(), Failure> {
        while let Some(request_id) = self.freed.pop() {
            let Some(queue) = self.behind.get_mut(&request_id) else { continue };
            let next = queue.pop_front();
            // It leaves the queue before it is asked, or it would wait for itself.
            let rest = self.behind.remove(&request_id).filter(|rest| !rest.is_empty());
            if let Some((item, origin)) = next {
                self.waiting -= 1;
                self.ask(self.moment(), item, origin)?;
            }
            if let Some(rest) = rest {
                self.behind.insert(Arc::clone(&request_id), rest);
                if !self.requests.is_open(&request_id) {
                    self.freed.push(request_id);
                }
            }
        }
        Ok(())
    }

    fn refuse(&mut self, sources: &[Source], invalid: &Invalid) {
        for source in sources {
            self.results.refuse(source, invalid);
        }
    }

    /// The topics of a request and of its answer; `None` where no gateway is named.
    fn address(&mut self, operation: Operation, gateway: Option<&GatewayId>) -> Option<(Arc<str>, Arc<str>)> {
        let gateway = gateway.or(self.gateway_id.as_ref())?;
        if let Some((of, known, topic, response)) = &self.addressed
            && (*of, known) == (operation, gateway)
        {
            return Some((Arc::clone(topic), Arc::clone(response)));
        }
        let channel = operation.channel();
        let topic: Arc<str> = self.topics.topic(channel, gateway).into();
        let response: Arc<str> =
            channel.response().map(|channel| self.topics.topic(channel, gateway)).unwrap_or_default().into();
        self.addressed = Some((operation, gateway.clone(), Arc::clone(&topic), Arc::clone(&response)));
        Some((topic, response))
    }

    fn publish(&mut self, now: Duration, token: u64) -> Result<(), Failure> {
        let Some(open) = self.open.get_mut(&token) else { return Ok(()) };
        open.delivered = false;
        if open.response_topic.is_some() {
            self.requests.written(&open.request_id, now);
        } else if open.written.is_none() {
            self.acknowledgements.push_back((now + self.timeout, token));
        }
        open.written.get_or_insert(now);
        let publish = Publish {
            topic: Arc::clone(&open.topic),
            payload: open.payload.clone(),
            qos: self.qos,
            retain: false,
        };
        self.client.publish(publish, token).map_err(|why| Failure::invalid(why.to_string()))
    }

    /// Takes an event of the connection.
    ///
    /// # Errors
    /// What ends the run.
    pub fn happened(&mut self, event: Event) -> Result<(), Failure> {
        match event {
            Event::Ready { resumed } => {
                // What the broker's session still holds is sent again by the session itself.
                let unheld = !resumed || self.qos == QoS::AtMostOnce;
                let again = |open: &Open| {
                    open.rests.is_none() && (unheld || open.delivered || open.written.is_none())
                };
                let mut tokens: Vec<_> =
                    self.open.iter().filter(|(_, open)| again(open)).map(|(token, _)| *token).collect();
                tokens.sort_unstable();
                self.results.resent(self.open.values().filter(|open| open.written.is_some()).count());
                let now = self.client.now();
                for token in tokens {
                    self.publish(now, token)?;
                }
            }
            Event::Subscribed => {
                self.subscribed = true;
                self.early_length = 0;
                for message in std::mem::take(&mut self.early) {
                    self.pair(&message);
                }
            }
            Event::Message(message, receipt) => {
                if let Some(receipt) = receipt {
                    self.client.acknowledge(receipt);
                }
                self.hear(message);
            }
            Event::Delivered { token } => self.delivered(token),
            Event::Lost { reason, retry_in } => {
                self.subscribed = false;
                self.early.clear();
                self.early_length = 0;
                let retry_in = retry_in.as_secs_f64();
                self.console.warn(&format!("{reason}; reconnecting in {retry_in:.1} s"));
            }
            Event::Warning(what) => self.warn(&what),
        }
        Ok(())
    }

    /// Takes a message that may be an answer; it counts once its subscription is granted.
    pub fn hear(&mut self, message: Message) {
        if self.subscribed {
            self.pair(&message);
        } else if self.early_length < MOST_EARLY {
            // The payload of a short message weighs less than what is around it.
            self.early_length += message.payload.len() + message.topic.len() + 128;
            self.early.push(message);
        } else {
            self.warn("too much came before the SUBACK: what comes until then is ignored");
        }
    }

    fn pair(&mut self, message: &Message) {
        let now = self.client.heard_at();
        match self.requests.hear(&message.topic, &message.payload, message.retain, now) {
            Heard::Answer { token, answer, round_trip } => {
                self.client.progress();
                if answer.code == ResultCode::SYSTEM_ERROR && self.rest(token) {
                    return;
                }
                let Some(open) = self.open.remove(&token) else { return };
                self.free(&open.request_id);
                if let (Some(cid), [source]) = (&answer.cid, open.sources.as_slice())
                    && *cid != source.cid()
                {
                    self.warn(&format!("the answer for {:?} names the cid {cid:?}", source.cid()));
                }
                self.tell(&open, Outcome::Answered(&answer, round_trip));
            }
            Heard::Malformed { token, error } => {
                let message = format!("the answer breaks the protocol: {error}");
                self.fail(token, Kind::Protocol, &message, None);
            }
            // Every platform that commands the gateway hears the answers to all of them.
            Heard::Stranger(_) if self.is_shared(&message.topic) => {}
            Heard::Stranger(why) | Heard::Ignored(why) => self.warn(&why),
        }
    }

    fn is_shared(&self, topic: &str) -> bool {
        self.topics.id_in(Channel::CommandResponse, topic).is_some()
    }

    fn delivered(&mut self, token: u64) {
        let Some(open) = self.open.get_mut(&token) else { return };
        open.delivered = true;
        // A message that is sent and acknowledged over and over gets nowhere.
        if !std::mem::replace(&mut open.was_delivered, true) && self.qos != QoS::AtMostOnce {
            self.client.progress();
        }
        if open.response_topic.is_some() {
            return;
        }
        let Some(open) = self.open.remove(&token) else { return };
        let heard_at = self.client.heard_at();
        let round_trip = open.written.map(|written| heard_at.saturating_sub(written));
        self.tell(&open, Outcome::Delivered { acknowledged: self.qos != QoS::AtMostOnce, round_trip });
    }

    /// When something falls due: an answer, or the end of patience with an outage.
    pub fn deadline(&mut self) -> Option<std::time::Instant> {
        let rested = self.resting.first().map(|(due, _)| *due);
        let due = [self.requests.deadline(), self.acknowledgement_due(), self.outage_ends(), rested];
        due.into_iter().flatten().min().map(|due| self.client.instant(due))
    }

    fn acknowledgement_due(&mut self) -> Option<Duration> {
        while let Some((due, token)) = self.acknowledgements.front() {
            if self.open.contains_key(token) {
                return Some(*due);
            }
            self.acknowledgements.pop_front();
        }
        None
    }

    fn outage_ends(&self) -> Option<Duration> {
        let lost = self.client.down_since().filter(|_| self.client.was_up());
        let since = lost.or_else(|| self.client.stuck_since());
        let since = since.filter(|_| !self.patient && !self.open.is_empty())?;
        Some(since + self.timeout)
    }

    /// Ends the requests whose answers are overdue, and sends what waited for their ids; `advice` is added to what
    /// is said of them.
    ///
    /// # Errors
    /// A connection that has been away for longer than an answer may take.
    pub fn expire(&mut self, advice: &str) -> Result<(), Failure> {
        let now = self.client.now();
        // A socket gets stuck a moment after the request that it did not take whole, whose answer is due now.
        let late = self.requests.deadline().is_some_and(|due| due <= now);
        let soon = if late { now + self.timeout / 10 } else { now };
        if self.outage_ends().is_some_and(|end| end <= soon) {
            let what = match self.client.down_since() {
                Some(_) => "the connection was lost and did not come back",
                None => "the broker has stopped reading: nothing could be written",
            };
            let message = format!("{what} in {:?}", self.timeout);
            return Err(Failure::new(Kind::Connection, message).hint("--timeout waits longer"));
        }
        while let Some((due, token)) = self.resting.first().copied().filter(|(due, _)| *due <= now) {
            self.resting.remove(&(due, token));
            self.again(token)?;
        }
        while let Some(overdue) = self.requests.overdue(now) {
            let delivered = self.open.get(&overdue.token).is_some_and(|open| open.delivered);
            let though = if delivered { ", though the broker acknowledged the request" } else { "" };
            self.late(overdue.token, &format!("no answer in {:?}{though}{advice}", self.timeout));
        }
        while self.acknowledgement_due().is_some_and(|due| due <= now) {
            if let Some((_, token)) = self.acknowledgements.pop_front() {
                self.late(token, &format!("no acknowledgement in {:?}{advice}", self.timeout));
            }
        }
        self.send_freed()
    }

    /// Whether a message has left whose end is not known yet.
    #[must_use]
    pub fn has_written(&self) -> bool {
        self.open.values().any(|open| open.written.is_some())
    }

    fn late(&mut self, token: u64, message: &str) {
        if !self.rest(token) {
            self.fail(token, Kind::Timeout, message, None);
        }
    }

    /// Lets a request rest before it is tried again; false where it has been tried often enough.
    fn rest(&mut self, token: u64) -> bool {
        let now = self.client.now();
        let Some(open) = self.open.get_mut(&token).filter(|open| open.attempts <= self.retries) else {
            return false;
        };
        let longest = FIRST_REST.saturating_mul(1 << (open.attempts - 1).min(16)).min(LONGEST_REST);
        let due = now + longest.mul_f64(0.5 + fastrand::f64() / 2.0);
        open.attempts += 1;
        open.rests = Some(due);
        open.written = None;
        self.resting.insert((due, token));
        self.results.retried();
        true
    }

    /// Tries a rested request again, with its request id.
    fn again(&mut self, token: u64) -> Result<(), Failure> {
        let Some(open) = self.open.get_mut(&token) else { return Ok(()) };
        open.rests = None;
        if let Some(response_topic) = &open.response_topic {
            self.requests.ask(&open.request_id, response_topic, token);
        }
        if self.client.down_since().is_none() { self.publish(self.client.now(), token) } else { Ok(()) }
    }

    /// Ends every open request as failed.
    pub fn fail_all(&mut self, kind: Kind, message: &str) {
        let mut open: Vec<_> =
            self.open.iter().map(|(token, open)| (*token, open.written.is_some())).collect();
        open.sort_unstable();
        for (token, written) in open {
            self.fail(token, kind, message, Some(written));
        }
        self.waiting = 0;
        let behind = std::mem::take(&mut self.behind).into_values().flatten();
        let behind = behind.filter_map(|(item, origin)| Some(origin?.sources(item)));
        let (_, statuses): (Vec<_>, _) = std::mem::take(&mut self.statuses).into_iter().unzip();
        for sources in behind.chain([Sources::Several(statuses)]) {
            for source in sources.as_slice() {
                self.results.tell(source, None, 1, Outcome::Failed { kind, message, sent: Some(false) });
            }
        }
    }

    fn fail(&mut self, token: u64, kind: Kind, message: &str, sent: Option<bool>) {
        let Some(open) = self.open.remove(&token) else { return };
        if open.response_topic.is_some() {
            self.requests.close(&open.request_id);
            self.free(&open.request_id);
        }
        self.tell(&open, Outcome::Failed { kind, message, sent });
    }

    fn tell(&mut self, open: &Open, outcome: Outcome<'_>) {
        if open.sources.as_slice().is_empty() {
            let problem = match outcome {
                Outcome::Answered(answer, _) if !answer.code.is_success() => {
                    format!("{} {}", answer.code, answer.msg)
                }
                Outcome::Failed { message, .. } => message.to_owned(),
                Outcome::Answered(..) | Outcome::Delivered { .. } => return,
            };
            self.warn(&format!(
                "the message on {} with request_id {:?}: {problem}",
                open.topic, open.request_id
            ));
        }
        for source in open.sources.as_slice() {
            self.results.tell(source, Some(&open.request_id), open.attempts, outcome);
        }
    }

    /// Whether a request waits for its answer.
    #[must_use]
    pub fn has_open_requests(&self) -> bool {
        !self.requests.is_empty()
    }

    /// The topics in force.
    #[must_use]
    pub fn topics(&self) -> &Topics {
        &self.topics
    }

    /// Whether a message is a command to a gateway.
    #[must_use]
    pub fn is_command(&self, message: &Message) -> bool {
        self.topics.channels(&message.topic).any(|(channel, _)| channel == Channel::Command)
            && Envelope::<Downlink>::decode(Channel::Command, &message.payload).is_ok()
    }

    /// Warns of what a broker did; a flood of it is counted, not printed.
    pub fn warn(&mut self, what: &str) {
        self.warnings += 1;
        if self.warnings <= WARNINGS {
            self.console.warn(what);
        }
    }

    /// Says farewell to the broker, and how many warnings were not printed.
    pub async fn close(&mut self) {
        self.client.close().await;
        if self.warnings > WARNINGS {
            self.console.warn(&format!("{} more warnings of this kind", self.warnings - WARNINGS));
        }
    }
}
