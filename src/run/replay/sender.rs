//! One gateway's connection: sends what it is given, once each, and keeps account of the acknowledgements.

use std::{
    collections::VecDeque,
    pin::pin,
    time::{Duration, Instant, SystemTime, UNIX_EPOCH},
};

use tokio::sync::mpsc::UnboundedReceiver;

use super::{
    replay_stats::{Arrival, Shared},
    verify::Request,
};
use crate::{
    collections::Counted,
    error::{Failure, Kind},
    mqtt::codec::{Publish, QoS},
    net::client::{Client, Event, Settings},
    recording::{Fresh, Splice},
    tuya::{Channel, Direction, GatewayId, Topics},
};

/// A message to send.
pub struct Order {
    pub publish: Publish,
    /// Its place among the messages sent, from 0.
    pub index: u64,
    /// Its line in the recording.
    pub line: u64,
    pub channel: Option<Channel>,
    /// When it is due; `None` where it is never late.
    pub due: Option<Instant>,
    /// Whether its time stamp stays as recorded.
    pub keeps_t: bool,
}

impl Order {
    /// The message as a result line names it.
    pub fn request(&self, gateway: &GatewayId) -> Request {
        Request::of(self.index, self.line, self.channel, gateway.as_str(), &self.publish.payload)
    }
}

/// The connection.
pub struct Peer {
    gateway: GatewayId,
    topics: Topics,
    timeout: Duration,
    client: Client,
    orders: UnboundedReceiver<Order>,
    ledger: Shared,
    open: OpenOrders,
    /// The tokens of what is to be sent, in order.
    queue: VecDeque<u64>,
    /// When the rate lets the next one leave, where it holds one back.
    turn: Option<Instant>,
    next_token: u64,
    /// Whether the broker has taken the subscriptions once, for which the first message waits.
    was_ready: bool,
}

/// A message without its acknowledgement.
struct Open {
    order: Order,
    /// When it was first written.
    written: Option<Duration>,
    /// Whether the MQTT session holds it, to send it again by itself.
    is_held: bool,
    /// Whether it could not leave when it was given, so that its time stamp is old.
    is_delayed: bool,
}

/// The messages without their acknowledgements, by token and in their order.
#[derive(Default)]
struct OpenOrders {
    by_token: Counted<u64, Open>,
    /// Tokens, among them some of messages that are open no more.
    order: VecDeque<u64>,
}

impl OpenOrders {
    fn insert(&mut self, token: u64, open: Open) {
        // One that stays open for long would keep the tokens of all that follow it.
        if self.order.len() > 2 * self.by_token.len() + 1024 {
            self.order.retain(|token| self.by_token.contains_key(token));
        }
        self.by_token.insert(token, open);
        self.order.push_back(token);
    }

    fn remove(&mut self, token: u64) -> Option<Open> {
        let open = self.by_token.remove(&token);
        while self.order.front().is_some_and(|token| !self.by_token.contains_key(token)) {
            self.order.pop_front();
        }
        open
    }

    fn oldest(&self) -> Option<(u64, &Open)> {
        let token = self.order.front()?;
        Some((*token, self.by_token.get(token)?))
    }

    fn is_empty(&self) -> bool {
        self.by_token.is_empty()
    }

    /// All that are open, in their order.
    fn take(&mut self) -> impl Iterator<Item = Open> {
        let Self { mut by_token, order } = std::mem::take(self);
        order.into_iter().filter_map(move |token| by_token.remove(&token))
    }
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
            open: OpenOrders::default(),
            queue: VecDeque::new(),
            turn: None,
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
            for order in self.open.take().map(|open| open.order).chain(waiting) {
                ledger.fail(&order.request(&self.gateway), failure.kind, &failure.message);
                ledger.done();
            }
            ledger.failure.get_or_insert(failure);
            ledger.changed();
        }
        self.client.close().await;
    }

    async fn drive(&mut self) -> Result<(), Failure> {
        let mut is_over = false;
        // It stays set when its message is acknowledged, and the next one's deadline comes later: to set it for each of
        // them, and to wake the event loop for that, takes longer than to send a message.
        let mut reminder = pin!(tokio::time::sleep(Duration::ZERO));
        let mut set = None;
        while !(is_over && self.open.is_empty()) {
            if let Some(due) = self.deadline()
                && set.is_none_or(|set| due < set)
            {
                reminder.as_mut().reset(self.client.instant(due).into());
                set = Some(due);
            }
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
                () = &mut reminder, if set.is_some() => {
                    set = None;
                    if self.deadline().is_some_and(|due| due <= self.client.now()) {
                        self.expire()?;
                    }
                }
            }
        }
        Ok(())
    }

    fn take(&mut self, order: Order) -> Result<(), Failure> {
        let token = self.next_token;
        self.next_token += 1;
        self.open.insert(token, Open { order, written: None, is_held: false, is_delayed: false });
        self.queue.push_back(token);
        self.publish()?;
        // Only the last one can be in the queue for the first time.
        if self.queue.back() == Some(&token)
            && let Some(open) = self.open.by_token.get_mut(&token)
        {
            open.is_delayed = true;
        }
        Ok(())
    }

    /// Publishes what may leave now. What could not leave before takes the time stamp of now.
    fn publish(&mut self) -> Result<(), Failure> {
        self.turn = None;
        while self.client.down_since().is_none()
            && let Some(&token) = self.queue.front()
        {
            if let Some(open) = self.open.by_token.get_mut(&token) {
                if let Err(turn) = self.ledger.borrow_mut().take_turn() {
                    self.turn = Some(turn);
                    return Ok(());
                }
                if open.written.is_none() {
                    open.written = Some(self.client.now());
                    self.ledger.borrow_mut().leaves(open.order.due);
                    if open.is_delayed && !open.order.keeps_t {
                        stamp(&mut open.order.publish);
                    }
                }
                open.is_held = true;
                self.client
                    .publish(open.order.publish.clone(), token)
                    .map_err(|why| Failure::invalid(why.to_string()))?;
            }
            self.queue.pop_front();
        }
        Ok(())
    }

    fn happened(&mut self, event: Event) -> Result<(), Failure> {
        match event {
            Event::Ready { resumed } => {
                // What the broker's session still holds is sent again by the session itself.
                self.queue.clear();
                for token in &self.open.order {
                    if let Some(open) = self.open.by_token.get_mut(token) {
                        open.is_held &= resumed;
                        if !open.is_held {
                            self.queue.push_back(*token);
                        }
                    }
                }
                self.publish()?;
            }
            Event::Subscribed => {
                self.was_ready = true;
                let mut ledger = self.ledger.borrow_mut();
                ledger.ready.insert(self.gateway.as_str().to_owned());
                ledger.changed();
            }
            Event::Delivered { token } => {
                if let Some(open) = self.open.remove(token) {
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
                let channel = self.topics.classify(&message.topic, &message.payload);
                let downlink = channel.and_then(|(channel, _)| channel);
                let downlink = downlink.filter(|channel| channel.direction() == Direction::Down);
                if let Some(channel) = downlink.filter(|_| !message.retain) {
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

    /// When the first acknowledgement, or the connection's return, is overdue, or the rate lets something leave.
    fn deadline(&self) -> Option<Duration> {
        let oldest = self.open.oldest().map(|(_, open)| open);
        let turn = self.turn.filter(|_| self.client.down_since().is_none());
        let turn = turn.map(|turn| self.client.now() + turn.saturating_duration_since(Instant::now()));
        let overdue = match (oldest, self.client.down_since()) {
            (_, Some(lost)) if self.client.was_up() => {
                (oldest.is_some() || !self.was_ready).then_some(lost + self.timeout)
            }
            (Some(oldest), None) => oldest.written.map(|written| written + self.timeout),
            _ => None,
        };
        overdue.into_iter().chain(turn).min()
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
        self.publish()?;
        let mut ledger = self.ledger.borrow_mut();
        while let Some((token, oldest)) = self.open.oldest()
            && oldest.written.is_some_and(|written| written + self.timeout <= now)
        {
            let Some(Open { order, .. }) = self.open.remove(token) else { break };
            let message = format!("no acknowledgement in {:?}", self.timeout);
            ledger.fail(&order.request(&self.gateway), Kind::Timeout, &message);
            ledger.done();
        }
        Ok(())
    }
}

/// Gives a message the time stamp of now.
fn stamp(publish: &mut Publish) {
    let Some(splice) = Splice::of(&publish.payload) else { return };
    let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    let fresh = Fresh { t: Some(now), request_id: None, cid: &|_| None };
    let mut payload = Vec::new();
    splice.apply(&publish.payload, &fresh, &mut payload);
    publish.payload = payload.into();
}

#[cfg(test)]
mod tests {
    use super::*;

    fn open(index: u64) -> Open {
        let publish = Publish::default();
        let order = Order { publish, index, line: index + 1, channel: None, due: None, keeps_t: false };
        Open { order, written: None, is_held: false, is_delayed: false }
    }

    #[test]
    fn a_message_that_was_delayed_takes_the_time_of_now_and_keeps_all_else() {
        let payload = |t: &str| format!("{{\"request_id\":\"r\", \"t\":{t},\"param\":{{\"cid\":\"m1\"}}}}");
        let mut publish = Publish { payload: payload("1700000000").into(), ..Publish::default() };
        stamp(&mut publish);
        let text = str::from_utf8(&publish.payload).unwrap();
        let t = text.split("\"t\":").nth(1).and_then(|rest| rest.split(',').next()).unwrap();
        assert!(t.parse::<u64>().unwrap() > 1_700_000_000, "{text}");
        assert_eq!(text, payload(t));
        publish.payload = "no JSON".into();
        stamp(&mut publish);
        assert_eq!(publish.payload, "no JSON");
    }

    #[test]
    fn one_that_stays_open_does_not_keep_those_after_it() {
        let mut orders = OpenOrders::default();
        orders.insert(0, open(0));
        for token in 1..10_000 {
            orders.insert(token, open(token));
            assert_eq!(orders.oldest().map(|(token, _)| token), Some(0));
            assert!(orders.remove(token).is_some());
            assert!(orders.remove(token).is_none());
            assert!(orders.order.len() < 1100, "{}", orders.order.len());
        }
        for token in [10_000, 10_001, 10_002] {
            orders.insert(token, open(token));
        }
        assert!(orders.remove(0).is_some() && orders.remove(10_001).is_some());
        assert_eq!(orders.oldest().map(|(token, _)| token), Some(10_000));
        assert_eq!(orders.take().map(|open| open.order.index).collect::<Vec<_>>(), [10_000, 10_002]);
        assert!(orders.is_empty() && orders.oldest().is_none());
    }
}
