//! One gateway's connection: sends what it is given, once each, and keeps account of the acknowledgements.

use std::{
    collections::BTreeMap,
    time::{Duration, Instant},
};

use tokio::sync::mpsc::UnboundedReceiver;

use super::{
    ledger::{Arrival, Shared},
    verify::Request,
};
use crate::{
    commands::sleep_until,
    failure::{Failure, Kind},
    mqtt::{
        client::{Client, Event, Settings},
        packet::{Publish, QoS},
    },
    protocol::{Channel, Direction, GatewayId, Topics},
};

/// A message to send.
pub struct Order {
    pub publish: Publish,
    pub request: Request,
    /// When it is due; `None` where it is never late.
    pub due: Option<Instant>,
}

/// The connection.
pub struct Peer {
    gateway: GatewayId,
    topics: Topics,
    timeout: Duration,
    client: Client,
    orders: UnboundedReceiver<Order>,
    ledger: Shared,
    open: BTreeMap<u64, Open>,
    next_token: u64,
    /// Whether the broker has taken the subscriptions once, for which the first message waits.
    was_ready: bool,
}

/// A message without its acknowledgement.
struct Open {
    order: Order,
    /// When it was first written.
    written: Option<Duration>,
}

impl Peer {
    /// A connection that is opened by [`Peer::run`].
    pub fn new(
        gateway: GatewayId,
        settings: Settings,
        topics: Topics,
        qos: QoS,
        orders: UnboundedReceiver<Order>,
        ledger: Shared,
    ) -> Self {
        let subscriptions = [Channel::Command, Channel::SyncResponse, Channel::ReportResponse]
            .map(|channel| (topics.topic(channel, &gateway), qos))
            .to_vec();
        Self {
            timeout: settings.timeout,
            client: Client::new(settings, subscriptions),
            gateway,
            topics,
            orders,
            ledger,
            open: BTreeMap::new(),
            next_token: 0,
            was_ready: false,
        }
    }

    /// Serves the connection until there are no more orders and all is acknowledged.
    pub async fn run(mut self) {
        let outcome = self.drive().await;
        if let Err(failure) = outcome {
            let mut ledger = self.ledger.borrow_mut();
            self.orders.close();
            let waiting = std::iter::from_fn(|| self.orders.try_recv().ok());
            for order in std::mem::take(&mut self.open).into_values().map(|open| open.order).chain(waiting) {
                ledger.fail(&order.request, failure.kind, &failure.message);
                ledger.done();
            }
            ledger.failure.get_or_insert(failure);
            ledger.changed();
        }
        self.client.close().await;
    }

    async fn drive(&mut self) -> Result<(), Failure> {
        let mut is_over = false;
        while !(is_over && self.open.is_empty()) {
            let due = self.deadline().map(|due| self.client.instant(due));
            tokio::select! {
                biased;
                order = self.orders.recv(), if !is_over => match order {
                    None => is_over = true,
                    Some(order) => {
                        self.take(order)?;
                        while let Ok(order) = self.orders.try_recv() {
                            self.take(order)?;
                        }
                    }
                },
                event = self.client.next() => {
                    self.happened(event?)?;
                    while let Some(event) = self.client.ready()? {
                        self.happened(event)?;
                    }
                }
                () = sleep_until(due) => self.expire()?,
            }
        }
        Ok(())
    }

    fn take(&mut self, order: Order) -> Result<(), Failure> {
        let token = self.next_token;
        self.next_token += 1;
        self.open.insert(token, Open { order, written: None });
        if self.client.down_since().is_none() { self.publish(token) } else { Ok(()) }
    }

    fn publish(&mut self, token: u64) -> Result<(), Failure> {
        let now = self.client.now();
        let Some(open) = self.open.get_mut(&token) else { return Ok(()) };
        if open.written.is_none() {
            open.written = Some(now);
            self.ledger.borrow_mut().leaves(open.order.due);
        }
        self.client
            .publish(open.order.publish.clone(), token)
            .map_err(|why| Failure::invalid(why.to_string()))
    }

    fn happened(&mut self, event: Event) -> Result<(), Failure> {
        match event {
            Event::Ready { resumed } => {
                // What the broker's session still holds is sent again by the session itself.
                let again = |open: &Open| !resumed || open.written.is_none();
                let tokens: Vec<_> =
                    self.open.iter().filter(|(_, open)| again(open)).map(|(token, _)| *token).collect();
                for token in tokens {
                    self.publish(token)?;
                }
            }
            Event::Subscribed => {
                self.was_ready = true;
                let mut ledger = self.ledger.borrow_mut();
                ledger.ready.insert(self.gateway.as_str().to_owned());
                ledger.changed();
            }
            Event::Delivered { token } => {
                if let Some(open) = self.open.remove(&token) {
                    let is_acknowledged = open.order.publish.qos != QoS::AtMostOnce;
                    if is_acknowledged {
                        self.client.progress();
                    }
                    self.ledger.borrow_mut().delivered(is_acknowledged);
                }
            }
            Event::Message(message, receipt) => {
                if let Some(receipt) = receipt {
                    self.client.acknowledge(receipt);
                }
                let downlink =
                    self.topics.channels(&message.topic).find(|(c, _)| c.direction() == Direction::Down);
                if let Some((channel, _)) = downlink.filter(|_| !message.retain) {
                    self.client.progress();
                    let gateway_id = self.gateway.as_str().to_owned();
                    let mut ledger = self.ledger.borrow_mut();
                    ledger.arrived.push_back(Arrival { gateway_id, channel, payload: message.payload });
                    ledger.changed();
                }
            }
            Event::Lost { reason, retry_in } => {
                let retry_in = retry_in.as_secs_f64();
                let what = format!("{}: {reason}; reconnecting in {retry_in:.1} s", self.gateway);
                self.ledger.borrow_mut().warn(&what);
            }
            Event::Warning(what) => self.ledger.borrow_mut().warn(&format!("{}: {what}", self.gateway)),
        }
        Ok(())
    }

    /// When the first acknowledgement, or the connection's return, is overdue.
    fn deadline(&self) -> Option<Duration> {
        let oldest = self.open.values().next();
        match (oldest, self.client.down_since()) {
            (_, Some(lost)) if self.client.was_up() => {
                (oldest.is_some() || !self.was_ready).then_some(lost + self.timeout)
            }
            (Some(oldest), None) => oldest.written.map(|written| written + self.timeout),
            _ => None,
        }
    }

    fn expire(&mut self) -> Result<(), Failure> {
        let now = self.client.now();
        if self.client.down_since().is_some() {
            let message = format!(
                "{}: the connection was lost and did not come back in {:?}",
                self.gateway, self.timeout
            );
            return Err(Failure::new(Kind::Connection, message).hint("--timeout waits longer"));
        }
        let mut ledger = self.ledger.borrow_mut();
        while let Some(oldest) = self.open.first_entry()
            && oldest.get().written.is_some_and(|written| written + self.timeout <= now)
        {
            let Open { order, .. } = oldest.remove();
            let message = format!("no acknowledgement in {:?}", self.timeout);
            ledger.fail(&order.request, Kind::Timeout, &message);
            ledger.done();
        }
        Ok(())
    }
}
