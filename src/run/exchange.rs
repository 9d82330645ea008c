//! The open requests of one connection: asked, sent again after a reconnect, answered, timed out; each ends as
//! its result lines.

use std::{sync::Arc, time::Duration};

use bytes::Bytes;

use super::{
    batch::TimeUnit,
    results::{Origin, Outcome, Results, Source, Sources},
};
use crate::{
    cli::connection::Connection,
    error::{Failure, Kind},
    gateway::{Finished, Match, PendingRequests, Sending, excerpt},
    io::{console::Console, request_ids::request_id},
    mqtt::codec::{Message, Publish, QoS},
    net::client::{Client, Event},
    rate::Rate,
    request::parser::{Body, Invalid, Item, Operation, status_item},
    tuya::{Channel, CommandAnswer, DeviceStatus, Downlink, Envelope, GatewayId, Topics, Uplink, with_t},
};

/// A status report is at most this long, so that every broker takes it. What is longer may be why a connection is lost.
const LONGEST_STATUS: usize = 64 * 1024;
/// What an envelope, a topic and the packet's header add to a status array, at most.
const AROUND_STATUS: usize = 512;
/// How many bytes of messages are kept for the SUBACK that makes answers of them.
const MOST_EARLY: usize = 16 << 20;
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
    pending: PendingRequests<Asking>,
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
struct Asking {
    topic: Arc<str>,
    payload: Bytes,
    /// The time stamp that the payload carries; `None` where the input gave it, so that it stays.
    t: Option<i64>,
    /// The result lines that it ends as.
    sources: Sources,
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
            pending: PendingRequests::new(settings.timeout),
            client: Client::new(settings, subscriptions),
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

    /// The same exchange, which tries a request again so many times after a system error or a time-out, and lets no
    /// more messages leave than the rate.
    #[must_use]
    pub fn paced(mut self, retries: u32, rate: Option<Rate>) -> Self {
        self.pending.set_retries(retries);
        if let Some(rate) = rate {
            self.pending.set_rate(rate);
        }
        self
    }

    /// How many messages are open: to be sent, or without their answers or acknowledgements.
    #[must_use]
    pub fn in_flight(&self) -> usize {
        self.pending.len()
    }

    /// Whether the rate lets one more message leave now, after those that are open.
    pub fn has_turn(&mut self, now: Moment) -> bool {
        self.pending.has_turn(now.since)
    }

    /// When [`Exchange::has_turn`] may say so next; `None` where that is not for the rate to say.
    pub fn next_turn(&mut self) -> Option<std::time::Instant> {
        self.pending.next_turn().map(|next| self.client.instant(next))
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
        self.message(now, item, |item| match origin {
            Some(origin) => origin.sources(item),
            None => Sources::Several(Vec::new()),
        })
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
        let (t, is_given) = item.t.map_or((now.t, false), |t| (t, true));
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
        let t = (!is_given).then_some(t);
        let asking = Asking { topic, payload: payload.into(), t, sources };
        self.pending.insert(request_id, answered.then_some(response_topic), asking);
        self.publish(now)
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
        let asking = Asking { topic, payload, t: Some(now.t), sources: Sources::Several(Vec::new()) };
        self.pending.insert(request_id, None, asking);
        self.publish(now)
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

    /// Publishes what may leave now. What begins an attempt takes the time stamp of now, unless the input gave one.
    fn publish(&mut self, now: Moment) -> Result<(), Failure> {
        while self.client.down_since().is_none()
            && let Some(Sending { token, attempt, is_first, context: asking }) =
                self.pending.next_to_send(now.since)
        {
            if is_first {
                if attempt > 1 {
                    self.results.retried();
                }
                if let Some(t) = &mut asking.t
                    && *t != now.t
                {
                    *t = now.t;
                    asking.payload = with_t(&asking.payload, now.t).into();
                }
            }
            let publish = Publish {
                topic: Arc::clone(&asking.topic),
                payload: asking.payload.clone(),
                qos: self.qos,
                retain: false,
            };
            self.client.publish(publish, token).map_err(|why| Failure::invalid(why.to_string()))?;
        }
        Ok(())
    }

    /// Takes an event of the connection.
    ///
    /// # Errors
    /// What ends the run.
    pub fn happened(&mut self, event: Event) -> Result<(), Failure> {
        match event {
            Event::Ready { resumed } => {
                let resent = self.pending.reconnected(resumed && self.qos != QoS::AtMostOnce);
                self.results.resent(resent);
                self.publish(self.moment())?;
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
                let is_long = |asking: &Asking| asking.payload.len() > LONGEST_STATUS;
                if let Some(request) = self.pending.lost(is_long) {
                    let message = format!(
                        "the broker closed the connection each time that it got this message of {} bytes: it may be \
                         longer than the broker takes",
                        request.context.payload.len()
                    );
                    let outcome =
                        Outcome::Failed { kind: Kind::Connection, message: &message, sent: Some(true) };
                    self.tell(&request, outcome);
                }
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
        match self.pending.handle_message(
            &message.topic,
            &message.payload,
            message.retain,
            now,
            fastrand::f64,
        ) {
            Match::Answered { request, answer, round_trip } => {
                self.client.progress();
                if let (Some(cid), [source]) = (&answer.cid, request.context.sources.as_slice())
                    && *cid != source.cid()
                {
                    let (expected, named) = (excerpt(source.cid()), excerpt(cid));
                    self.warn(&format!("the answer for {expected} names the cid {named}"));
                }
                self.tell(&request, Outcome::Answered(&answer, round_trip));
            }
            Match::TriedAgain => self.client.progress(),
            Match::Malformed { request, error } => {
                let message = format!("the answer breaks the protocol: {error}");
                self.tell(&request, Outcome::Failed { kind: Kind::Protocol, message: &message, sent: None });
            }
            // Every platform that commands the gateway hears the answers to all of them.
            Match::Unmatched(_) if self.is_shared(&message.topic) => {}
            Match::Unmatched(why) | Match::Ignored(why) => self.warn(&why),
        }
    }

    fn is_shared(&self, topic: &str) -> bool {
        self.topics.id_in(Channel::CommandResponse, topic).is_some()
    }

    fn delivered(&mut self, token: u64) {
        let Some(acknowledged) = self.pending.handle_acknowledgement(token, self.client.heard_at()) else {
            return;
        };
        // A message that is sent and acknowledged over and over gets nowhere.
        if acknowledged.is_first && self.qos != QoS::AtMostOnce {
            self.client.progress();
        }
        if let Some((request, round_trip)) = acknowledged.finished {
            let acknowledged = self.qos != QoS::AtMostOnce;
            self.tell(&request, Outcome::Delivered { acknowledged, round_trip });
        }
    }

    /// When something falls due: an answer, a retry, a message's turn, or the end of patience with an outage.
    pub fn deadline(&mut self) -> Option<std::time::Instant> {
        let due = self.pending.next_timeout(self.client.down_since().is_none());
        due.into_iter().chain(self.outage_ends()).min().map(|due| self.client.instant(due))
    }

    fn outage_ends(&self) -> Option<Duration> {
        let lost = self.client.down_since().filter(|_| self.client.was_up());
        let since = lost.or_else(|| self.client.stuck_since());
        let since = since.filter(|_| !self.patient && !self.pending.is_empty())?;
        Some(since + self.timeout)
    }

    /// Ends the requests that are overdue, and publishes what may leave now; `advice` is added to what is said of the
    /// overdue ones.
    ///
    /// # Errors
    /// A connection that has been away for longer than an answer may take.
    pub fn expire(&mut self, advice: &str) -> Result<(), Failure> {
        let now = self.client.now();
        // A socket gets stuck a moment after the request that it did not take whole, whose answer is due now.
        let late = self.pending.next_deadline().is_some_and(|due| due <= now);
        let soon = if late { now + self.timeout / 10 } else { now };
        if self.outage_ends().is_some_and(|end| end <= soon) {
            let what = match self.client.down_since() {
                Some(_) => "the connection was lost and did not come back",
                None => "the broker has stopped reading: nothing could be written",
            };
            let message = format!("{what} in {:?}", self.timeout);
            return Err(Failure::new(Kind::Connection, message).hint("--timeout waits longer"));
        }
        while let Some(overdue) = self.pending.handle_timeout(now, fastrand::f64) {
            let (missing, though) = match (overdue.is_answer_missing, overdue.is_acknowledged) {
                (true, true) => ("answer", ", though the broker acknowledged the request"),
                (true, false) => ("answer", ""),
                (false, _) => ("acknowledgement", ""),
            };
            let message = format!("no {missing} in {:?}{though}{advice}", self.timeout);
            let outcome = Outcome::Failed { kind: Kind::Timeout, message: &message, sent: None };
            self.tell(&overdue.request, outcome);
        }
        if self.pending.has_queued() { self.publish(self.moment()) } else { Ok(()) }
    }

    /// Whether a message has left whose end is not known yet.
    #[must_use]
    pub fn has_written(&self) -> bool {
        self.pending.has_written()
    }

    /// Ends every open request as failed.
    pub fn fail_all(&mut self, kind: Kind, message: &str) {
        for request in self.pending.drain() {
            let sent = Some(request.attempts > 0);
            self.tell(&request, Outcome::Failed { kind, message, sent });
        }
        for (_, source) in std::mem::take(&mut self.statuses) {
            self.results.tell(&source, None, 1, Outcome::Failed { kind, message, sent: Some(false) });
        }
    }

    fn tell(&mut self, request: &Finished<Asking>, outcome: Outcome<'_>) {
        let Finished { context: Asking { topic, sources, .. }, request_id, attempts } = request;
        if sources.as_slice().is_empty() {
            let problem = match outcome {
                Outcome::Answered(answer, _) if !answer.code.is_success() => {
                    format!("{} {}", answer.code, answer.msg)
                }
                Outcome::Failed { message, .. } => message.to_owned(),
                Outcome::Answered(..) | Outcome::Delivered { .. } => return,
            };
            let request_id = excerpt(request_id);
            self.warn(&format!("the message on {topic} with request_id {request_id}: {problem}"));
        }
        for source in sources.as_slice() {
            self.results.tell(source, Some(request_id), *attempts, outcome);
        }
    }

    /// Whether a request waits for its answer.
    #[must_use]
    pub fn has_open_requests(&self) -> bool {
        self.pending.has_answers_to_come()
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
