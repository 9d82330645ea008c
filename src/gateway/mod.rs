//! The gateway's half of the protocol on one connection: its requests in flight, and its answers to commands.
//!
//! Sans-IO: the caller passes MQTT events and the time in, and takes messages to publish, events and the next deadline
//! out. Ids and random numbers are arguments, too. The methods of [`Gateway`] are of four kinds:
//!
//! - inputs, `handle_*`: events of the connection and the clock;
//! - commands: [`Gateway::prepare`] and [`Gateway::insert`] for a request, [`Gateway::respond`] for the answer to a command,
//!   [`Gateway::drain`] for the end;
//! - outputs, `poll_*`: after each input or command, [`Gateway::poll_publish`] until it returns `None` while there is a
//!   connection, then [`Gateway::poll_event`] until it returns `None`; [`Gateway::next_timeout`] says when
//!   [`Gateway::handle_timeout`] is due;
//! - getters.
//!
//! Every request ends exactly once: in [`GatewayEvent::Ended`], or in what [`Gateway::drain`] returns. One request:
//!
//! ```text
//!            insert                    same request id ended
//!   (new) ───────────► Queued ◄──────────────────────────────── Behind ◄── insert, while another
//!                        │  ▲                                              request has its id
//!           poll_publish │  │ the rest is over
//!                        ▼  │
//!     ┌─────────────► Waiting ───────────────► Resting
//!     │ lost before     │  │  no answer in time, or answer 500,
//!     │ its end: sent   │  │  and a retry is left
//!     └──── again ──────┘  │
//!                          ▼
//!     answered · acknowledged, without a response topic · timed out · suspected of ending connections
//! ```
//!
//! A request keeps its request id through losses and retries. A retry takes the current time stamp; a message sent again
//! after a loss keeps its bytes. Requests live as long as the [`Gateway`]: a restart of the program forgets them, so that
//! their inputs have to be given again (`--journal` knows which were accepted).
#![deny(clippy::disallowed_methods, clippy::disallowed_types)]

mod commands;
mod early;
mod event;
mod excerpt;
mod pending;
mod prepare;
#[cfg(test)]
mod schedules;
mod settings;
mod status_batch;
#[cfg(test)]
mod tests;

use std::{collections::VecDeque, sync::Arc, time::Duration};

use bytes::Bytes;

pub use self::{
    commands::{CommandAction, CommandKey, ReceivedCommands},
    event::{Ended, GatewayEvent, Outage, RequestOutcome, ToPublish},
    excerpt::excerpt,
    pending::{Acknowledged, Finished, Match, PendingRequests, Sending, TimedOut},
    prepare::{LONGEST_STATUS, Payload, PreparedRequest, Unsendable},
    settings::{GatewaySettings, GatewayTime},
    status_batch::StatusBatch,
};
use self::{
    early::EarlyMessages,
    event::RequestData,
    prepare::{PUBLISH_HEADER, Route},
};
use crate::{
    mqtt::codec::{Message, Publish, QoS},
    tuya::{Channel, CommandAnswer, Downlink, Envelope, GatewayId, Topics, Uplink, with_t},
};

/// The gateway's half of one connection; `C` is what the caller keeps with each request.
#[derive(Debug)]
pub struct Gateway<C> {
    settings: GatewaySettings,
    pending: PendingRequests<RequestData<C>>,
    route: Option<Route>,
    /// Since when there is no connection, once there was one; `None` while there is one.
    lost_at: Option<Duration>,
    is_connected: bool,
    is_subscribed: bool,
    /// Messages before the SUBACK; they count once the subscription is granted.
    early: EarlyMessages,
    events: VecDeque<GatewayEvent<C>>,
}

impl<C> Gateway<C> {
    /// A gateway without requests and without a connection.
    #[must_use]
    pub fn new(settings: GatewaySettings) -> Self {
        let mut pending = PendingRequests::new(settings.timeout);
        pending.set_retries(settings.retries);
        if let Some(rate) = settings.rate {
            pending.set_rate(rate);
        }
        Self {
            settings,
            pending,
            route: None,
            lost_at: None,
            is_connected: false,
            is_subscribed: false,
            early: EarlyMessages::default(),
            events: VecDeque::new(),
        }
    }

    /// The number of requests that have not ended.
    #[must_use]
    pub fn len(&self) -> usize {
        self.pending.len()
    }

    /// Whether every request has ended.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.pending.is_empty()
    }

    /// Whether a request has an answer to come.
    #[must_use]
    pub fn awaits_answers(&self) -> bool {
        self.pending.has_answers_to_come()
    }

    /// Whether a sent request is unfinished.
    #[must_use]
    pub fn has_written(&self) -> bool {
        self.pending.has_written()
    }

    /// Whether a request is to be sent, now or when the rate allows it.
    pub fn has_queued(&mut self) -> bool {
        self.pending.has_queued()
    }

    /// Whether the rate lets one more message leave now, after those that are queued.
    pub fn has_turn(&mut self, now: Duration) -> bool {
        self.pending.has_turn(now)
    }

    /// Whether there is a connection.
    #[must_use]
    pub fn is_connected(&self) -> bool {
        self.is_connected
    }

    /// Whether [`Gateway::poll_publish`] has a message now.
    pub fn can_publish(&mut self, now: Duration) -> bool {
        self.is_connected && self.pending.can_send(now)
    }

    /// When [`Gateway::has_turn`] may say so next; `None` if the rate does not decide that.
    pub fn next_turn(&mut self) -> Option<Duration> {
        self.pending.next_turn()
    }

    /// The topics in force.
    #[must_use]
    pub fn topics(&self) -> &Topics {
        &self.settings.topics
    }

    /// The time that an answer may take.
    #[must_use]
    pub fn timeout(&self) -> Duration {
        self.settings.timeout
    }

    /// The longest payload of a status report on this connection, in bytes.
    #[must_use]
    pub fn longest_status(&self) -> usize {
        LONGEST_STATUS.min(self.settings.max_packet)
    }

    /// Whether a message is a command to a gateway.
    #[must_use]
    pub fn is_command(&self, message: &Message) -> bool {
        self.topics().channels(&message.topic).any(|(channel, _)| channel == Channel::Command)
            && Envelope::<Downlink>::decode(Channel::Command, &message.payload).is_ok()
    }

    /// Encodes a request for a gateway, or for the one of the settings. A `t` that is given stays; otherwise each attempt
    /// takes the time of its moment.
    ///
    /// # Errors
    /// A request that cannot be sent.
    pub fn prepare(
        &mut self,
        now: GatewayTime,
        channel: Channel,
        gateway: Option<&GatewayId>,
        request_id: Arc<str>,
        t: Option<i64>,
        payload: &Payload,
    ) -> Result<PreparedRequest, Unsendable> {
        let (topic, response_topic) = self.route(channel, gateway).ok_or(Unsendable::NoGateway)?;
        let bytes = payload.encode(t.unwrap_or(now.t), &request_id);
        let size = bytes.len() + topic.len() + PUBLISH_HEADER;
        if channel == Channel::Status && bytes.len() > LONGEST_STATUS {
            return Err(Unsendable::StatusTooLong(bytes.len()));
        }
        if size > self.settings.max_packet {
            return Err(Unsendable::TooLarge(size, self.settings.max_packet));
        }
        let is_answered = self.settings.waits_for_answers && channel.response().is_some();
        let publish = Publish { topic, payload: bytes.into(), qos: self.settings.qos, retain: false };
        let t = if t.is_none() { Some(now.t) } else { None };
        Ok(PreparedRequest {
            request_id,
            response_topic: is_answered.then_some(response_topic),
            publish,
            t,
            has_deadline: true,
        })
    }

    /// Opens a request. It leaves once it is its turn, and once no other request with its id is open.
    pub fn insert(&mut self, draft: PreparedRequest, context: C) {
        let PreparedRequest { request_id, response_topic, publish, t, has_deadline } = draft;
        let data = RequestData { publish, t, context };
        self.pending.insert_with(request_id, response_topic, has_deadline, data);
    }

    /// Answers a command; the answer ends with the broker's acknowledgement.
    pub fn respond(
        &mut self,
        now: GatewayTime,
        gateway: &GatewayId,
        request_id: Arc<str>,
        answer: CommandAnswer,
        context: C,
    ) {
        let topic = self.settings.topics.topic(Channel::CommandResponse, gateway).into();
        let payload = Uplink::CommandResponse(answer).encode(now.t, &request_id).into();
        let publish = Publish { topic, payload, qos: self.settings.qos, retain: false };
        let prepared = PreparedRequest { request_id, t: Some(now.t), ..PreparedRequest::as_given(publish) };
        self.insert(prepared, context);
    }

    /// Removes the requests that `is_withdrawn` picks, without an event.
    pub fn withdraw(&mut self, is_withdrawn: impl Fn(&C) -> bool) {
        self.pending.withdraw(|data| is_withdrawn(&data.context));
    }

    /// Ends every request, in the order of insertion.
    pub fn drain(&mut self) -> impl Iterator<Item = Ended<C>> + use<C> {
        self.pending.drain().map(Ended::from)
    }

    /// Takes a new connection. `resumed` says that the broker kept the session, so that the MQTT session sends again by
    /// itself what it holds.
    pub fn handle_connected(&mut self, resumed: bool) {
        self.is_connected = true;
        self.lost_at = None;
        let sent =
            self.pending.handle_connected(|outgoing| resumed && outgoing.publish.qos != QoS::AtMostOnce);
        if sent > 0 {
            self.events.push_back(GatewayEvent::Resent(sent));
        }
    }

    /// Takes the broker's grant of the subscriptions: messages that came before it count from now on.
    pub fn handle_subscribed(&mut self, now: Duration, mut jitter: impl FnMut() -> f64) {
        self.is_subscribed = true;
        for message in self.early.take() {
            self.handle_answer(&message, now, &mut jitter);
        }
    }

    /// Takes the loss of the connection.
    pub fn handle_disconnected(&mut self, now: Duration) {
        self.is_subscribed = false;
        self.early = EarlyMessages::default();
        self.lost_at.get_or_insert(now);
        // An attempt to connect that fails says nothing about the messages.
        if !std::mem::replace(&mut self.is_connected, false) {
            return;
        }
        let is_long = |outgoing: &RequestData<C>| outgoing.publish.payload.len() > LONGEST_STATUS;
        if let Some(request) = self.pending.handle_disconnected(is_long) {
            let length = request.context.publish.payload.len();
            self.end(request, RequestOutcome::EndsConnections(length));
        }
    }

    /// Takes a message that may be an answer; it counts once its subscription is granted. `jitter`, from 0 to 1, spreads
    /// retries.
    pub fn handle_message(&mut self, message: Message, now: Duration, jitter: impl FnMut() -> f64) {
        if self.is_subscribed {
            self.handle_answer(&message, now, jitter);
        } else if self.early.push(message).is_err() {
            let what = "too much came before the SUBACK: what comes until then is ignored";
            self.events.push_back(GatewayEvent::Warning(what.into()));
        }
    }

    /// Takes the broker's acknowledgement of a message.
    pub fn handle_acknowledgement(&mut self, token: u64, now: Duration) {
        let is_written = |outgoing: &RequestData<C>| outgoing.publish.qos == QoS::AtMostOnce;
        let is_acknowledged = !self.pending.context(token).is_some_and(is_written);
        let Some(acknowledged) = self.pending.handle_acknowledgement(token, now) else { return };
        // A message that is sent and acknowledged over and over gets nowhere.
        if acknowledged.is_first && is_acknowledged {
            self.events.push_back(GatewayEvent::Progress);
        }
        if let Some((request, round_trip)) = acknowledged.finished {
            self.end(request, RequestOutcome::Delivered { is_acknowledged, round_trip });
        }
    }

    /// Ends overdue requests, and queues rested ones. `stalled_since` is the time since which an open connection has taken no
    /// bytes.
    ///
    /// # Errors
    /// An outage that has taken longer than an answer may.
    pub fn handle_timeout(
        &mut self,
        now: Duration,
        stalled_since: Option<Duration>,
        mut jitter: impl FnMut() -> f64,
    ) -> Result<(), Outage> {
        // A socket stalls a moment after the write of a request, and that request's answer is due now.
        let is_late = self.pending.next_deadline().is_some_and(|due| due <= now);
        let soon = if is_late { now + self.settings.timeout / 10 } else { now };
        if self.outage_ends(stalled_since).is_some_and(|end| end <= soon) {
            return Err(if self.is_connected { Outage::Stalled } else { Outage::Lost });
        }
        while let Some(overdue) = self.pending.handle_timeout(now, &mut jitter) {
            let TimedOut { request, is_answer_missing, is_acknowledged } = overdue;
            self.end(request, RequestOutcome::TimedOut { is_answer_missing, is_acknowledged });
        }
        Ok(())
    }

    /// When [`Gateway::handle_timeout`], or [`Gateway::poll_publish`] because of the rate, is due, though nothing arrives.
    pub fn next_timeout(&mut self, stalled_since: Option<Duration>) -> Option<Duration> {
        let due = self.pending.next_timeout(self.is_connected);
        due.into_iter().chain(self.outage_ends(stalled_since)).min()
    }

    /// The message that is to be published now, which counts as written with that; `None` without a connection.
    pub fn poll_publish(&mut self, now: GatewayTime) -> Option<ToPublish<'_, C>> {
        if !self.is_connected {
            return None;
        }
        let Sending { token, attempt, is_first, context } = self.pending.next_to_send(now.since)?;
        let RequestData { publish, t, context } = context;
        if is_first {
            if attempt > 1 {
                self.events.push_back(GatewayEvent::Retried);
            }
            if let Some(t) = t
                && *t != now.t
            {
                *t = now.t;
                publish.payload = Bytes::from(with_t(&publish.payload, now.t));
            }
        }
        Some(ToPublish { token, is_first, publish, context })
    }

    /// The next event.
    pub fn poll_event(&mut self) -> Option<GatewayEvent<C>> {
        self.events.pop_front()
    }

    fn end(&mut self, request: Finished<RequestData<C>>, outcome: RequestOutcome) {
        self.events.push_back(GatewayEvent::Ended(request.into(), outcome));
    }

    fn handle_answer(&mut self, message: &Message, now: Duration, jitter: impl FnMut() -> f64) {
        let Message { topic, payload, retain, .. } = message;
        match self.pending.handle_message(topic, payload, *retain, now, jitter) {
            Match::Answered { request, answer, round_trip } => {
                self.events.push_back(GatewayEvent::Progress);
                self.end(request, RequestOutcome::Answered { answer, round_trip });
            }
            Match::TriedAgain => self.events.push_back(GatewayEvent::Progress),
            Match::Malformed { request, error } => self.end(request, RequestOutcome::Malformed(error)),
            // Every platform that commands the gateway hears the answers to all of them.
            Match::Unmatched(_) if self.topics().id_in(Channel::CommandResponse, topic).is_some() => {}
            Match::Unmatched(why) | Match::Ignored(why) => {
                self.events.push_back(GatewayEvent::Warning(why));
            }
        }
    }

    fn outage_ends(&self, stalled_since: Option<Duration>) -> Option<Duration> {
        let since = self.lost_at.or(stalled_since);
        let since = since.filter(|_| !self.settings.endures_outages && !self.pending.is_empty())?;
        Some(since + self.settings.timeout)
    }

    /// The topics of a request and of its answer; `None` if no gateway is named.
    fn route(&mut self, channel: Channel, gateway: Option<&GatewayId>) -> Option<(Arc<str>, Arc<str>)> {
        let gateway = gateway.or(self.settings.gateway_id.as_ref())?;
        if let Some(route) = &self.route
            && (route.channel, &route.gateway) == (channel, gateway)
        {
            return Some((Arc::clone(&route.topic), Arc::clone(&route.response_topic)));
        }
        let topics = &self.settings.topics;
        let topic: Arc<str> = [self.settings.topic_prefix, &topics.topic(channel, gateway)].concat().into();
        let response_topic: Arc<str> =
            channel.response().map(|channel| topics.topic(channel, gateway)).unwrap_or_default().into();
        let gateway = gateway.clone();
        self.route = Some(Route {
            channel,
            gateway,
            topic: Arc::clone(&topic),
            response_topic: Arc::clone(&response_topic),
        });
        Some((topic, response_topic))
    }
}
