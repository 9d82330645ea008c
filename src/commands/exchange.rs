//! The open requests of one connection: asked, sent again after a reconnect, answered, timed out; each ends as
//! its result lines.

use std::{
    collections::{BTreeMap, VecDeque},
    sync::Arc,
    time::Duration,
};

use bytes::Bytes;
use uuid::Uuid;

use super::{
    Console,
    connection::Connection,
    operations::{Body, Invalid, Item, Operation, status_item},
    requests::TimeUnit,
    results::{Outcome, Results, Source},
};
use crate::{
    failure::{Failure, Kind},
    gateway::{Heard, Requests},
    mqtt::{
        client::{Client, Event},
        packet::{Message, Publish, QoS},
    },
    protocol::{Channel, CommandAnswer, DeviceStatus, Downlink, Envelope, GatewayId, Topics, Uplink},
};

/// A status report is at most this long, so that every broker takes it.
const LONGEST_STATUS: usize = 64 * 1024;
/// What an envelope, a topic and the packet's header add to a status array, at most.
const AROUND_STATUS: usize = 512;
/// How many warnings of one run are printed in full.
const WARNINGS: usize = 10;

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
    open: BTreeMap<u64, Open>,
    next_token: u64,
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
    warnings: usize,
}

/// A message that waits for its answer, or for its acknowledgement.
#[derive(Debug)]
struct Open {
    topic: Arc<str>,
    payload: Bytes,
    request_id: String,
    /// The result lines that it ends as; none for a message of our own, whose failure is a warning.
    sources: Vec<Source>,
    /// Whether somebody answers it.
    answered: bool,
    /// When it was first written.
    written: Option<Duration>,
    /// Whether the broker has acknowledged it.
    delivered: bool,
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
            open: BTreeMap::new(),
            next_token: 0,
            statuses: Vec::new(),
            statuses_length: 0,
            addressed: None,
            patient: false,
            subscribed: false,
            early: Vec::new(),
            warnings: 0,
        }
    }

    /// The same exchange, which an outage does not end.
    #[must_use]
    pub fn patient(mut self) -> Self {
        self.patient = true;
        self
    }

    /// How many messages wait for their answers or acknowledgements.
    #[must_use]
    pub fn in_flight(&self) -> usize {
        self.open.len()
    }

    /// Sends one item, or packs it where several fit into one message (see [`Exchange::send_statuses`]).
    ///
    /// # Errors
    /// What ends the run.
    pub fn send(&mut self, item: Item, mut sources: Vec<Source>) -> Result<(), Failure> {
        if let Body::Uplink(uplink) = &item.body
            && let Uplink::Status(statuses) = uplink.as_ref()
            && item.request_id.is_none()
            && let ([status], Some(source)) = (statuses.as_slice(), sources.pop())
        {
            let length = serde_json::to_vec(status).map_or(0, |json| json.len() + 1);
            if self.statuses_length + length > LONGEST_STATUS.min(self.max_packet) - AROUND_STATUS {
                self.send_statuses()?;
            }
            self.statuses_length += length;
            self.statuses.push((status.clone(), source));
            return Ok(());
        }
        self.ask(item, sources)
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
        self.ask(status_item(statuses), sources)
    }

    /// Opens a request and publishes it, now or once the connection is there.
    fn ask(&mut self, item: Item, sources: Vec<Source>) -> Result<(), Failure> {
        let Some(gateway) = item.gateway_id.as_ref().or(self.gateway_id.as_ref()).cloned() else {
            let message = "gateway_id is missing, and no --gateway-id is given".to_owned();
            self.refuse(
                &sources,
                &Invalid { field: Some("gateway_id".into()), message, ..Invalid::default() },
            );
            return Ok(());
        };
        let (topic, response_topic) = self.address(item.operation, &gateway);
        let request_id = item.request_id.unwrap_or_else(|| Uuid::new_v4().hyphenated().to_string());
        let t = item.t.unwrap_or_else(|| self.t_unit.now());
        let answered = self.waits && item.operation.channel().response().is_some();
        let payload = match item.body {
            Body::Uplink(body) => Envelope { t, request_id: request_id.clone(), body: *body }.encode(),
            Body::Command(command) => {
                Envelope { t, request_id: request_id.clone(), body: Downlink::Command(command) }.encode()
            }
        };
        let size = payload.len() + topic.len() + 9;
        let problem = if size > self.max_packet {
            Some(format!("the message of {size} bytes does not fit into --max-packet {}", self.max_packet))
        } else if answered && !self.requests.ask(&request_id, &response_topic, self.next_token) {
            Some(format!("request_id {request_id:?} is in flight already"))
        } else {
            None
        };
        if let Some(message) = problem {
            self.refuse(&sources, &Invalid { message, ..Invalid::default() });
            return Ok(());
        }
        let payload = payload.into();
        self.open(Open { topic, payload, request_id, sources, answered, written: None, delivered: false })
    }

    /// Answers a command; sent again until the broker has acknowledged it.
    ///
    /// # Errors
    /// What ends the run.
    pub fn respond(
        &mut self,
        gateway: &GatewayId,
        request_id: String,
        answer: CommandAnswer,
    ) -> Result<(), Failure> {
        let topic = self.topics.topic(Channel::CommandResponse, gateway).into();
        let envelope = Envelope { t: self.t_unit.now(), request_id, body: Uplink::CommandResponse(answer) };
        let payload = envelope.encode().into();
        let request_id = envelope.request_id;
        let sources = Vec::new();
        self.open(Open {
            topic,
            payload,
            request_id,
            sources,
            answered: false,
            written: None,
            delivered: false,
        })
    }

    fn open(&mut self, open: Open) -> Result<(), Failure> {
        let token = self.next_token;
        self.next_token += 1;
        self.open.insert(token, open);
        if self.client.down_since().is_none() { self.publish(token) } else { Ok(()) }
    }

    fn refuse(&mut self, sources: &[Source], invalid: &Invalid) {
        for source in sources {
            self.results.invalid(source, invalid);
        }
    }

    fn address(&mut self, operation: Operation, gateway: &GatewayId) -> (Arc<str>, Arc<str>) {
        if let Some((of, known, topic, response)) = &self.addressed
            && (*of, known) == (operation, gateway)
        {
            return (Arc::clone(topic), Arc::clone(response));
        }
        let channel = operation.channel();
        let topic: Arc<str> = self.topics.topic(channel, gateway).into();
        let response: Arc<str> =
            channel.response().map(|channel| self.topics.topic(channel, gateway)).unwrap_or_default().into();
        self.addressed = Some((operation, gateway.clone(), Arc::clone(&topic), Arc::clone(&response)));
        (topic, response)
    }

    fn publish(&mut self, token: u64) -> Result<(), Failure> {
        let now = self.client.now();
        let Some(open) = self.open.get_mut(&token) else { return Ok(()) };
        open.delivered = false;
        if open.answered {
            self.requests.written(&open.request_id, now);
        } else if open.written.is_none() {
            self.acknowledgements.push_back((now + self.timeout, token));
        }
        open.written.get_or_insert(now);
        let publish = Publish {
            topic: open.topic.as_ref().to_owned(),
            payload: open.payload.clone(),
            qos: self.qos,
            retain: false,
        };
        self.client.publish(publish, token).map_err(|why| Failure::invalid(why.to_string()))
    }

    /// Takes an event of the connection; gives the message back that is no answer to a request.
    ///
    /// # Errors
    /// What ends the run.
    pub fn happened(&mut self, event: Event) -> Result<(), Failure> {
        match event {
            Event::Ready { resumed } => {
                // What the broker's session still holds is sent again by the session itself.
                let again = |open: &Open| !resumed || open.delivered || open.written.is_none();
                let tokens: Vec<_> =
                    self.open.iter().filter(|(_, open)| again(open)).map(|(token, _)| *token).collect();
                self.results.resent(self.open.values().filter(|open| open.written.is_some()).count());
                for token in tokens {
                    self.publish(token)?;
                }
            }
            Event::Subscribed => {
                self.subscribed = true;
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
        } else {
            self.early.push(message);
        }
    }

    fn pair(&mut self, message: &Message) {
        let now = self.client.now();
        match self.requests.hear(&message.topic, &message.payload, message.retain, now) {
            Heard::Answer { token, answer, round_trip } => {
                self.client.progress();
                let Some(open) = self.open.remove(&token) else { return };
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
            Heard::Ignored(why) => self.warn(&why),
        }
    }

    fn delivered(&mut self, token: u64) {
        let Some(open) = self.open.get_mut(&token) else { return };
        open.delivered = true;
        if open.answered {
            return;
        }
        let Some(open) = self.open.remove(&token) else { return };
        let round_trip = open.written.map(|written| self.client.now().saturating_sub(written));
        self.tell(&open, Outcome::Delivered { acknowledged: self.qos != QoS::AtMostOnce, round_trip });
    }

    /// When something falls due: an answer, or the end of patience with an outage.
    pub fn deadline(&mut self) -> Option<std::time::Instant> {
        let acknowledgement = self.acknowledgement_due();
        let due =
            [self.requests.deadline(), acknowledgement, self.outage_ends()].into_iter().flatten().min()?;
        Some(self.client.instant(due))
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
        let lost = self
            .client
            .down_since()
            .filter(|_| !self.patient && self.client.was_up() && !self.open.is_empty())?;
        Some(lost + self.timeout)
    }

    /// Ends the requests whose answers are overdue; `advice` is added to what is said of them.
    ///
    /// # Errors
    /// A connection that has been away for longer than an answer may take.
    pub fn expire(&mut self, advice: &str) -> Result<(), Failure> {
        let now = self.client.now();
        if self.outage_ends().is_some_and(|end| end <= now) {
            let message = format!("the connection was lost and did not come back in {:?}", self.timeout);
            return Err(Failure::new(Kind::Connection, message).hint("--timeout waits longer"));
        }
        while let Some(overdue) = self.requests.overdue(now) {
            let Some(open) = self.open.get(&overdue.token) else { continue };
            let mut message = match (open.answered, open.delivered) {
                (true, true) => {
                    format!("no answer in {:?}, though the broker acknowledged the request", self.timeout)
                }
                (true, false) => format!("no answer in {:?}", self.timeout),
                (false, _) => format!("no acknowledgement in {:?}", self.timeout),
            };
            message.push_str(advice);
            self.fail(overdue.token, Kind::Timeout, &message, None);
        }
        Ok(())
    }

    /// Ends every open request as failed.
    pub fn fail_all(&mut self, kind: Kind, message: &str) {
        let open: Vec<_> = self.open.iter().map(|(token, open)| (*token, open.written.is_some())).collect();
        for (token, written) in open {
            self.fail(token, kind, message, Some(written));
        }
        for (_, source) in std::mem::take(&mut self.statuses) {
            self.results.tell(&source, None, Outcome::Failed { kind, message, sent: Some(false) });
        }
    }

    fn fail(&mut self, token: u64, kind: Kind, message: &str, sent: Option<bool>) {
        let Some(open) = self.open.remove(&token) else { return };
        if open.answered {
            self.requests.close(&open.request_id);
        }
        self.tell(&open, Outcome::Failed { kind, message, sent });
    }

    fn tell(&mut self, open: &Open, outcome: Outcome<'_>) {
        if open.sources.is_empty() {
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
        for source in &open.sources {
            self.results.tell(source, Some(&open.request_id), outcome);
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
