//! The event loop around a [`Gateway`] and its [`Client`]: every subcommand with a gateway's connection runs it.
//!
//! The loop passes the client's events and the time to the gateway, publishes the gateway's messages, and waits. A [`Policy`]
//! decides what to send, what to do with messages, and when the run ends.

use std::{
    future::Future,
    pin::pin,
    time::{Duration, Instant},
};

use super::{agent_link::AgentLink, connection_settings::ConnectionSettings, time_unit::TimeUnit};
use crate::{
    agent::{ANSWER_TOPIC, QUEUE_PREFIX, STATUS_TOPIC},
    error::{Failure, FailureKind},
    gateway::{Gateway, GatewayEvent, GatewaySettings, GatewayTime, Outage, PreparedRequest, ToPublish},
    mqtt::codec::{Message, QoS},
    net::client::{Client, ClientEvent},
    rate::Rate,
};

/// Options of a connection beside [`ConnectionSettings`].
#[derive(Clone, Debug, Default)]
pub struct ConnectionOptions {
    /// The topic filters to subscribe to.
    pub subscriptions: Vec<(String, QoS)>,
    /// Whether requests end with their answers, rather than with the broker's acknowledgement.
    pub waits_for_answers: bool,
    /// How often a request is tried again after a system error or a time-out.
    pub retries: u32,
    /// The rate at which messages leave.
    pub rate: Option<Rate>,
    /// Whether an outage may last for any time.
    pub endures_outages: bool,
}

/// A client and its gateway; `C` is the caller's context of each request.
pub struct GatewayConnection<C> {
    client: Client,
    gateway: Gateway<C>,
    /// The agent, if the connection goes through one.
    agent: Option<AgentLink>,
    unit: TimeUnit,
}

impl<C> GatewayConnection<C> {
    /// A connection; [`run`] opens it.
    #[must_use]
    pub fn new(settings: ConnectionSettings, options: ConnectionOptions, unit: TimeUnit) -> Self {
        let ConnectionSettings { client, gateway_id, topics, qos, agent } = settings;
        let ConnectionOptions { mut subscriptions, waits_for_answers, retries, rate, endures_outages } =
            options;
        let queues = agent.as_ref().is_some_and(|agent| agent.queues);
        if queues {
            // The agent takes the answers to spooled messages.
            subscriptions.clear();
        }
        if agent.is_some() {
            subscriptions.insert(0, (STATUS_TOPIC.to_owned(), QoS::AtLeastOnce));
        }
        let gateway = Gateway::new(GatewaySettings {
            gateway_id,
            topics,
            qos,
            timeout: client.timeout,
            max_packet: client.max_packet,
            waits_for_answers: waits_for_answers && !queues,
            retries,
            rate,
            endures_outages,
            topic_prefix: if queues { QUEUE_PREFIX } else { "" },
            hears_others: agent.is_some(),
        });
        let agent = agent.map(AgentLink::new);
        Self { client: Client::new(client, subscriptions), gateway, agent, unit }
    }

    /// Returns the MQTT client.
    pub fn client(&mut self) -> &mut Client {
        &mut self.client
    }

    /// Returns the gateway.
    #[must_use]
    pub fn gateway(&self) -> &Gateway<C> {
        &self.gateway
    }

    /// Returns the gateway for commands; what they publish leaves in the next turn of the loop.
    pub fn gateway_mut(&mut self) -> &mut Gateway<C> {
        &mut self.gateway
    }

    /// Returns when the bytes behind the current events were read, by the client's clock.
    #[must_use]
    pub fn received_at(&self) -> Duration {
        self.client.received_at()
    }

    /// Returns the current time, by both clocks.
    #[must_use]
    pub fn moment(&self) -> GatewayTime {
        GatewayTime { since: self.client.now(), t: self.unit.now() }
    }

    /// Returns when the rate permits one more message; `None` if no rate holds it back.
    pub fn next_turn(&mut self) -> Option<Instant> {
        self.gateway.next_turn().map(|next| self.client.instant(next))
    }

    /// Returns whether a message could leave now.
    pub fn can_publish(&mut self) -> bool {
        self.gateway.is_connected() && self.gateway.has_turn(self.client.now())
    }

    /// Inserts a request, and publishes the messages that may leave.
    ///
    /// # Errors
    /// A message that does not fit into a packet.
    pub fn insert(&mut self, now: GatewayTime, draft: PreparedRequest, context: C) -> Result<(), Failure> {
        self.gateway.insert(draft, context);
        self.publish(now)
    }

    /// Publishes the messages that may leave now.
    ///
    /// # Errors
    /// A message that does not fit into a packet.
    pub fn publish(&mut self, now: GatewayTime) -> Result<(), Failure> {
        while let Some(ToPublish { token, publish, .. }) = self.gateway.poll_publish(now) {
            self.client.publish(publish.clone(), token).map_err(|why| Failure::invalid(why.to_string()))?;
        }
        Ok(())
    }

    /// Passes a message that may be an answer to the gateway, without acknowledging it.
    pub fn handle_message(&mut self, message: Message) {
        let received_at = self.client.received_at();
        self.gateway.handle_message(message, received_at, fastrand::f64);
    }

    /// Passes an event of the client to the gateway, and acknowledges a message. Returns a warning, or the reason of a lost
    /// connection.
    pub fn handle_event(&mut self, event: ClientEvent) -> Option<String> {
        match event {
            ClientEvent::Ready { resumed } => self.gateway.handle_connected(resumed),
            ClientEvent::Subscribed => {
                self.gateway.handle_subscribed(self.client.received_at(), fastrand::f64);
            }
            ClientEvent::Message(message, receipt) => {
                if let Some(receipt) = receipt {
                    self.client.acknowledge(receipt);
                }
                self.handle_message(message);
            }
            ClientEvent::Delivered { token } => {
                self.gateway.handle_acknowledgement(token, self.client.received_at());
            }
            ClientEvent::Lost { reason, retry_in } => {
                self.gateway.handle_disconnected(self.client.now());
                return Some(format!("{reason}; reconnecting in {:.1} s", retry_in.as_secs_f64()));
            }
            ClientEvent::Warning(what) => return Some(what),
        }
        None
    }

    /// Sends DISCONNECT and closes the connection.
    pub async fn close(&mut self) {
        self.client.close().await;
    }

    /// Takes what the agent says of itself; other events are given back.
    fn handle_agent(&mut self, event: ClientEvent) -> Result<Option<ClientEvent>, Failure> {
        let Some(agent) = &mut self.agent else { return Ok(Some(event)) };
        match event {
            ClientEvent::Message(message, receipt) if *message.topic == *STATUS_TOPIC => {
                if let Some(receipt) = receipt {
                    self.client.acknowledge(receipt);
                }
                let warning = agent.handle_status(&message.payload, self.client.now())?;
                // Nothing is published before the agent has said that it may be.
                let ready = agent.take_ready().map(|resumed| ClientEvent::Ready { resumed });
                Ok(ready.or(warning.map(ClientEvent::Warning)))
            }
            ClientEvent::Ready { resumed } => {
                agent.hold_ready(resumed);
                Ok(None)
            }
            event => Ok(Some(event)),
        }
    }

    /// Since when nothing can reach the broker although the connection is open.
    fn stalled_since(&self) -> Option<Duration> {
        let agent_lost_at = self.agent.as_ref().and_then(AgentLink::lost_at);
        self.client.write_stalled_since().into_iter().chain(agent_lost_at).min()
    }

    fn next_timeout(&mut self) -> Option<Instant> {
        let due = self.gateway.next_timeout(self.stalled_since());
        due.map(|due| self.client.instant(due))
    }

    fn handle_timeout(&mut self) -> Result<(), Failure> {
        let (now, stalled) = (self.client.now(), self.stalled_since());
        let ended = self.gateway.handle_timeout(now, stalled, fastrand::f64);
        ended.map_err(|outage| {
            let what = match outage {
                Outage::Lost => "the connection was lost and did not come back",
                Outage::Stalled => "the broker has stopped reading: nothing could be written",
            };
            if let Some(reason) = self.agent.as_ref().and_then(AgentLink::reason) {
                let message = format!(
                    "the agent lost its connection to the edge, which did not come back in {:?}: {reason}",
                    self.gateway.timeout()
                );
                return Failure::new(FailureKind::Connection, message).hint("--timeout waits longer");
            }
            let message = format!("{what} in {:?}", self.gateway.timeout());
            Failure::new(FailureKind::Connection, message).hint("--timeout waits longer")
        })
    }
}

/// What a subcommand does with its connection.
pub trait Policy {
    /// The context of each request.
    type Context;
    /// Events of the policy beside those of the connection.
    type Input;
    /// How the run ends.
    type End;

    /// Does the work that is possible now, before the loop waits: inserts requests, flushes results. Returns the end of the
    /// run when it has come.
    ///
    /// # Errors
    /// A failure that ends the run.
    fn advance(
        &mut self,
        connection: &mut GatewayConnection<Self::Context>,
    ) -> Result<Option<Self::End>, Failure>;

    /// Returns whether the connection is needed yet; it is opened then.
    fn is_started(&self) -> bool {
        true
    }

    /// Returns when [`Policy::advance`] has work, even without an event.
    fn next_wake(&self) -> Option<Instant> {
        None
    }

    /// Waits for an event of the policy: a signal, input, or written output. Cancel-safe.
    fn next_input(&mut self) -> impl Future<Output = Result<Self::Input, Failure>>;

    /// Handles an event that [`Policy::next_input`] returned.
    ///
    /// # Errors
    /// A failure that ends the run.
    fn handle_input(
        &mut self,
        connection: &mut GatewayConnection<Self::Context>,
        input: Self::Input,
    ) -> Result<(), Failure>;

    /// Handles an event of the client; most are passed to [`GatewayConnection::handle_event`].
    ///
    /// # Errors
    /// A failure that ends the run.
    fn handle_client_event(
        &mut self,
        connection: &mut GatewayConnection<Self::Context>,
        event: ClientEvent,
    ) -> Result<(), Failure>;

    /// Takes the turn of one more message. For a rate that several connections share.
    ///
    /// # Errors
    /// The moment at which a message may leave.
    fn take_turn(&mut self) -> Result<(), Instant> {
        Ok(())
    }

    /// Handles a message that leaves, and may change it.
    fn handle_publish(&mut self, _message: ToPublish<'_, Self::Context>) {}

    /// Handles an event of the gateway, such as the end of a request.
    fn handle_gateway_event(&mut self, event: GatewayEvent<Self::Context>);
}

/// Runs a policy over its connection, to its end.
///
/// # Errors
/// A failure that ends the run: of the connection, or of the policy.
pub async fn run<P: Policy>(
    connection: &mut GatewayConnection<P::Context>,
    policy: &mut P,
) -> Result<P::End, Failure> {
    let end = run_turns(connection, policy).await;
    if end.is_err() {
        // What came just before the failure has ended requests, which are no longer open.
        while let Some(event) = connection.gateway.poll_event() {
            policy.handle_gateway_event(event);
        }
    }
    end
}

async fn run_turns<P: Policy>(
    connection: &mut GatewayConnection<P::Context>,
    policy: &mut P,
) -> Result<P::End, Failure> {
    // The timer stays set if its deadline moves to a later time, as it does with every answer: setting it takes longer than
    // sending a message.
    let mut timer = pin!(tokio::time::sleep(Duration::ZERO));
    let mut timer_at: Option<Instant> = None;
    loop {
        let end = policy.advance(connection)?;
        let turn = exchange(connection, policy)?;
        if let Some(end) = end {
            return Ok(end);
        }
        let due = connection.next_timeout();
        if let Some(wake) = due.into_iter().chain(policy.next_wake()).chain(turn).min()
            && timer_at.is_none_or(|at| wake < at)
        {
            timer.as_mut().reset(wake.into());
            timer_at = Some(wake);
        }
        let is_started = policy.is_started();
        tokio::select! {
            input = policy.next_input() => policy.handle_input(connection, input?)?,
            event = connection.client.next(), if is_started => {
                let is_agent = connection.agent.is_some();
                let mut next = Some(event.map_err(|failure| explained(failure, is_agent))?);
                while let Some(event) = next {
                    if let Some(event) = connection.handle_agent(event)? {
                        policy.handle_client_event(connection, event)?;
                    }
                    let polled = connection.client.try_next();
                    next = polled.map_err(|failure| explained(failure, is_agent))?;
                }
            }
            () = &mut timer, if timer_at.is_some() => timer_at = None,
        }
        if due.is_some_and(|due| due <= Instant::now()) {
            if is_started {
                // Messages that came before the deadline are in time, even if this process was stopped meanwhile.
                let late = tokio::time::timeout(Duration::ZERO, connection.client.next()).await;
                let mut next = late.ok().transpose()?;
                while let Some(event) = next {
                    if let Some(event) = connection.handle_agent(event)? {
                        policy.handle_client_event(connection, event)?;
                    }
                    next = connection.client.try_next()?;
                }
            }
            connection.handle_timeout()?;
        }
        exchange(connection, policy)?;
    }
}

/// Says of a refusal by an agent what to do about it.
fn explained(failure: Failure, is_agent: bool) -> Failure {
    if is_agent && failure.kind == FailureKind::Refused && failure.message.contains(ANSWER_TOPIC) {
        let message = "the agent, or another program, answers the gateway's commands already";
        return Failure::new(failure.kind, message)
            .hint("Leave out --answer and --exec, or start the agent without them");
    }
    failure
}

/// Publishes the messages that may leave, and passes the gateway's events on. Returns when the policy permits the next
/// message, if it holds one back.
fn exchange<P: Policy>(
    connection: &mut GatewayConnection<P::Context>,
    policy: &mut P,
) -> Result<Option<Instant>, Failure> {
    let mut turn = None;
    if connection.gateway.has_queued() {
        let now = connection.moment();
        while connection.gateway.can_publish(now.since) {
            if let Err(at) = policy.take_turn() {
                turn = Some(at);
                break;
            }
            let Some(ToPublish { token, is_first, publish, context }) = connection.gateway.poll_publish(now)
            else {
                break;
            };
            policy.handle_publish(ToPublish { token, is_first, publish: &mut *publish, context });
            connection
                .client
                .publish(publish.clone(), token)
                .map_err(|why| Failure::invalid(why.to_string()))?;
        }
    }
    while let Some(event) = connection.gateway.poll_event() {
        if matches!(event, GatewayEvent::Progress) {
            connection.client.reset_backoff();
        }
        policy.handle_gateway_event(event);
    }
    Ok(turn)
}
