//! The event loop around a [`Gateway`] and its [`Client`]: every subcommand with a gateway's connection runs it.
//!
//! The loop owns what is the same for all: it passes the client's events and the time to the gateway, publishes what the
//! gateway gives, and waits. What differs is a [`Policy`]: what is sent, what is done with messages, and when the run ends.

use std::{
    future::Future,
    pin::pin,
    time::{Duration, Instant},
};

use super::{connection_settings::ConnectionSettings, time_unit::TimeUnit};
use crate::{
    error::{Failure, FailureKind},
    gateway::{Gateway, GatewayEvent, GatewaySettings, GatewayTime, Outage, PreparedRequest, ToPublish},
    mqtt::codec::{Message, QoS},
    net::client::{Client, Event},
    rate::Rate,
};

/// What a subcommand asks of its connection beside [`ConnectionSettings`].
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
    /// Whether an outage is endured, however long it takes.
    pub endures_outages: bool,
}

/// A client and the gateway that speaks through it; `C` is what the caller keeps with each request.
pub struct GatewayConnection<C> {
    client: Client,
    gateway: Gateway<C>,
    unit: TimeUnit,
}

impl<C> GatewayConnection<C> {
    /// A connection that is opened by [`run`].
    #[must_use]
    pub fn new(settings: ConnectionSettings, options: ConnectionOptions, unit: TimeUnit) -> Self {
        let ConnectionSettings { client, gateway_id, topics, qos } = settings;
        let ConnectionOptions { subscriptions, waits_for_answers, retries, rate, endures_outages } = options;
        let gateway = Gateway::new(GatewaySettings {
            gateway_id,
            topics,
            qos,
            timeout: client.timeout,
            max_packet: client.max_packet,
            waits_for_answers,
            retries,
            rate,
            endures_outages,
        });
        Self { client: Client::new(client, subscriptions), gateway, unit }
    }

    /// The connection's end on the wire.
    pub fn client(&mut self) -> &mut Client {
        &mut self.client
    }

    /// The gateway.
    #[must_use]
    pub fn gateway(&self) -> &Gateway<C> {
        &self.gateway
    }

    /// The gateway, to be given a command; what it then wants to publish leaves in the next turn of the loop.
    pub fn gateway_mut(&mut self) -> &mut Gateway<C> {
        &mut self.gateway
    }

    /// When the bytes behind the events of now were read, by the client's clock.
    #[must_use]
    pub fn heard_at(&self) -> Duration {
        self.client.heard_at()
    }

    /// This moment.
    #[must_use]
    pub fn moment(&self) -> GatewayTime {
        GatewayTime { since: self.client.now(), t: self.unit.now() }
    }

    /// When the rate lets one more message leave; `None` if the rate does not decide that.
    pub fn next_turn(&mut self) -> Option<Instant> {
        self.gateway.next_turn().map(|next| self.client.instant(next))
    }

    /// Whether a message could leave now.
    pub fn can_publish(&mut self) -> bool {
        self.gateway.is_connected() && self.gateway.has_turn(self.client.now())
    }

    /// Opens a request and publishes what may leave.
    ///
    /// # Errors
    /// A message that does not fit into a packet.
    pub fn insert(&mut self, now: GatewayTime, draft: PreparedRequest, context: C) -> Result<(), Failure> {
        self.gateway.insert(draft, context);
        self.publish(now)
    }

    /// Publishes what may leave now.
    ///
    /// # Errors
    /// A message that does not fit into a packet.
    pub fn publish(&mut self, now: GatewayTime) -> Result<(), Failure> {
        while let Some(ToPublish { token, publish, .. }) = self.gateway.poll_publish(now) {
            self.client.publish(publish.clone(), token).map_err(|why| Failure::invalid(why.to_string()))?;
        }
        Ok(())
    }

    /// Passes a message that may be an answer to the gateway, and acknowledges nothing.
    pub fn handle_message(&mut self, message: Message) {
        let heard_at = self.client.heard_at();
        self.gateway.handle_message(message, heard_at, fastrand::f64);
    }

    /// Passes an event of the client to the gateway. A message is acknowledged. Returns what is to be told of a loss, or of
    /// something odd.
    pub fn handle_event(&mut self, event: Event) -> Option<String> {
        match event {
            Event::Ready { resumed } => self.gateway.handle_connected(resumed),
            Event::Subscribed => self.gateway.handle_subscribed(self.client.heard_at(), fastrand::f64),
            Event::Message(message, receipt) => {
                if let Some(receipt) = receipt {
                    self.client.acknowledge(receipt);
                }
                self.handle_message(message);
            }
            Event::Delivered { token } => self.gateway.handle_acknowledgement(token, self.client.heard_at()),
            Event::Lost { reason, retry_in } => {
                self.gateway.handle_disconnected(self.client.now());
                return Some(format!("{reason}; reconnecting in {:.1} s", retry_in.as_secs_f64()));
            }
            Event::Warning(what) => return Some(what),
        }
        None
    }

    /// Says farewell to the broker.
    pub async fn close(&mut self) {
        self.client.close().await;
    }

    fn next_timeout(&mut self) -> Option<Instant> {
        let due = self.gateway.next_timeout(self.client.stuck_since());
        due.map(|due| self.client.instant(due))
    }

    fn handle_timeout(&mut self) -> Result<(), Failure> {
        let (now, stalled) = (self.client.now(), self.client.stuck_since());
        self.gateway.handle_timeout(now, stalled, fastrand::f64).map_err(|outage| {
            let what = match outage {
                Outage::Lost => "the connection was lost and did not come back",
                Outage::Stalled => "the broker has stopped reading: nothing could be written",
            };
            let message = format!("{what} in {:?}", self.gateway.timeout());
            Failure::new(FailureKind::Connection, message).hint("--timeout waits longer")
        })
    }
}

/// What a subcommand makes of its connection.
pub trait Policy {
    /// What is kept with each request.
    type Context;
    /// What the policy waits for beside the connection.
    type Input;
    /// How the run ends.
    type End;

    /// Does what can be done now, before the loop waits: inserts requests, flushes results. Returns the end of the run once
    /// it has come.
    ///
    /// # Errors
    /// A failure that ends the run.
    fn advance(
        &mut self,
        connection: &mut GatewayConnection<Self::Context>,
    ) -> Result<Option<Self::End>, Failure>;

    /// Whether the connection is needed yet; it is dialled once it is.
    fn is_started(&self) -> bool {
        true
    }

    /// When [`Policy::advance`] has something to do, though nothing happens.
    fn next_wake(&self) -> Option<Instant> {
        None
    }

    /// Waits for what concerns the policy alone: signals, input, the writing of output. Cancel-safe.
    fn next_input(&mut self) -> impl Future<Output = Result<Self::Input, Failure>>;

    /// Takes what [`Policy::next_input`] has returned.
    ///
    /// # Errors
    /// A failure that ends the run.
    fn handle_input(
        &mut self,
        connection: &mut GatewayConnection<Self::Context>,
        input: Self::Input,
    ) -> Result<(), Failure>;

    /// Takes an event of the client, most of which are [`GatewayConnection::handle_event`]'s.
    ///
    /// # Errors
    /// A failure that ends the run.
    fn handle_client_event(
        &mut self,
        connection: &mut GatewayConnection<Self::Context>,
        event: Event,
    ) -> Result<(), Failure>;

    /// Asks whether one more message may leave now, which counts it; else when. For a rate that several connections share.
    ///
    /// # Errors
    /// The moment at which a message may leave.
    fn take_turn(&mut self) -> Result<(), Instant> {
        Ok(())
    }

    /// Takes note of a message that leaves, and may change it.
    fn handle_publish(&mut self, _message: ToPublish<'_, Self::Context>) {}

    /// Takes an event of the gateway: the end of a request, for instance.
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
    // The timer stays set if its deadline moves to a later time, as it does with every answer: to set it each time takes
    // longer than to send a message.
    let mut timer = pin!(tokio::time::sleep(Duration::ZERO));
    let mut timer_at: Option<Instant> = None;
    loop {
        let end = policy.advance(connection)?;
        let turn = settle(connection, policy)?;
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
                let mut next = Some(event?);
                while let Some(event) = next {
                    policy.handle_client_event(connection, event)?;
                    next = connection.client.ready()?;
                }
            }
            () = &mut timer, if timer_at.is_some() => timer_at = None,
        }
        if due.is_some_and(|due| due <= Instant::now()) {
            if is_started {
                // What came before the deadline is in time, though this process may have been stopped meanwhile.
                let late = tokio::time::timeout(Duration::ZERO, connection.client.next()).await;
                let mut next = late.ok().transpose()?;
                while let Some(event) = next {
                    policy.handle_client_event(connection, event)?;
                    next = connection.client.ready()?;
                }
            }
            connection.handle_timeout()?;
        }
        settle(connection, policy)?;
    }
}

/// Publishes what may leave, and passes on the gateway's events. Returns when the policy lets the next message leave, if it
/// holds one back.
fn settle<P: Policy>(
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
            connection.client.progress();
        }
        policy.handle_gateway_event(event);
    }
    Ok(turn)
}
