//! One gateway's connection of a replay: sends each message once, and counts the acknowledgements.

use std::time::{Duration, Instant};

use bytes::Bytes;
use tokio::sync::mpsc::UnboundedReceiver;

use super::{
    replay_stats::{IncomingMessage, SharedReplayStats},
    verify::RequestSummary,
};
use crate::{
    error::{Failure, FailureKind},
    gateway::{GatewayEvent, PreparedRequest, RequestOutcome, ToPublish},
    mqtt::{
        Direction,
        codec::{Publish, QoS},
    },
    net::client::{ClientEvent, ClientSettings},
    recording::{FreshValues, RewritableFields},
    run::{
        connection_settings::ConnectionSettings,
        event_loop::{self, ConnectionOptions, GatewayConnection, Policy},
        time_unit::{TimeUnit, unix_time},
    },
    tuya::{Channel, GatewayId, Topics},
};

/// A message to send.
pub struct OutgoingMessage {
    pub publish: Publish,
    /// Its place among the messages sent, from 0.
    pub index: u64,
    /// Its line in the recording.
    pub line: u64,
    pub channel: Option<Channel>,
    /// When it is due; `None` if it is never late.
    pub due: Option<Instant>,
    /// Whether its time stamp stays as recorded.
    pub keeps_t: bool,
}

impl OutgoingMessage {
    /// Describes the message for a result line.
    pub fn summary(&self, gateway: &GatewayId) -> RequestSummary {
        RequestSummary::of(self.index, self.line, self.channel, gateway.as_str(), &self.publish.payload)
    }
}

/// What is kept with a message in flight.
pub struct SentMessage {
    payload: Bytes,
    index: u64,
    line: u64,
    channel: Option<Channel>,
    due: Option<Instant>,
    /// Whether it takes the time stamp of its departure, because it could not leave when it was due.
    is_delayed: bool,
}

/// The connection of one gateway.
pub struct GatewaySender {
    gateway: GatewayId,
    topics: Topics,
    timeout: Duration,
    messages: UnboundedReceiver<OutgoingMessage>,
    stats: SharedReplayStats,
    /// Whether no more messages will come.
    is_over: bool,
    /// Whether the broker has granted the subscriptions once; the first message waits for that.
    was_ready: bool,
    /// When an outage before that ends the run.
    outage_ends: Option<Instant>,
}

impl GatewaySender {
    /// A sender and its connection, which [`GatewaySender::run`] opens.
    pub fn new(
        gateway: GatewayId,
        settings: ClientSettings,
        topics: Topics,
        qos: QoS,
        messages: UnboundedReceiver<OutgoingMessage>,
        stats: SharedReplayStats,
    ) -> (Self, GatewayConnection<SentMessage>) {
        let timeout = settings.timeout;
        let subscriptions = [Channel::Command, Channel::SyncResponse, Channel::ReportResponse]
            .map(|channel| (topics.topic(channel, &gateway), qos))
            .to_vec();
        let settings = ConnectionSettings {
            client: settings,
            gateway_id: Some(gateway.clone()),
            topics: topics.clone(),
            qos,
            agent: None,
        };
        let options = ConnectionOptions { subscriptions, ..ConnectionOptions::default() };
        let connection = GatewayConnection::new(settings, options, TimeUnit::S);
        let sender = Self {
            gateway,
            topics,
            timeout,
            messages,
            stats,
            is_over: false,
            was_ready: false,
            outage_ends: None,
        };
        (sender, connection)
    }

    /// Serves the connection until there are no more messages and all are acknowledged.
    pub async fn run(mut self, mut connection: GatewayConnection<SentMessage>) {
        if let Err(mut failure) = event_loop::run(&mut connection, &mut self).await {
            // A replay may have several connections to one address.
            failure.message = format!("{}: {}", self.gateway, failure.message);
            let mut stats = self.stats.borrow_mut();
            self.messages.close();
            let sent = connection.gateway_mut().drain().map(|ended| self.summary(&ended.context));
            let mut requests: Vec<_> = sent.collect();
            while let Ok(message) = self.messages.try_recv() {
                requests.push(message.summary(&self.gateway));
            }
            for request in requests {
                stats.report_failure(&request, failure.kind, &failure.message);
                stats.finish_one();
            }
            stats.failure.get_or_insert(failure);
            stats.notify();
        }
        connection.close().await;
    }

    fn summary(&self, sent: &SentMessage) -> RequestSummary {
        RequestSummary::of(sent.index, sent.line, sent.channel, self.gateway.as_str(), &sent.payload)
    }

    fn insert(connection: &mut GatewayConnection<SentMessage>, message: OutgoingMessage) {
        let OutgoingMessage { publish, index, line, channel, due, keeps_t } = message;
        let is_delayed = !keeps_t && !connection.can_publish();
        let sent = SentMessage { payload: publish.payload.clone(), index, line, channel, due, is_delayed };
        connection.gateway_mut().insert(PreparedRequest::as_given(publish), sent);
    }
}

impl Policy for GatewaySender {
    type Context = SentMessage;
    type Input = Option<OutgoingMessage>;
    type End = ();

    fn advance(&mut self, connection: &mut GatewayConnection<SentMessage>) -> Result<Option<()>, Failure> {
        if self.outage_ends.is_some_and(|ends| ends <= Instant::now()) {
            let message = format!("the connection was lost and did not come back in {:?}", self.timeout);
            return Err(Failure::new(FailureKind::Connection, message).hint("--timeout waits longer"));
        }
        Ok((self.is_over && connection.gateway().is_empty()).then_some(()))
    }

    fn next_wake(&self) -> Option<Instant> {
        self.outage_ends
    }

    async fn next_input(&mut self) -> Result<Self::Input, Failure> {
        if self.is_over {
            return std::future::pending().await;
        }
        Ok(self.messages.recv().await)
    }

    fn handle_input(
        &mut self,
        connection: &mut GatewayConnection<SentMessage>,
        message: Self::Input,
    ) -> Result<(), Failure> {
        match message {
            None => self.is_over = true,
            Some(message) => {
                Self::insert(connection, message);
                while let Ok(message) = self.messages.try_recv() {
                    Self::insert(connection, message);
                }
            }
        }
        Ok(())
    }

    fn handle_client_event(
        &mut self,
        connection: &mut GatewayConnection<SentMessage>,
        event: ClientEvent,
    ) -> Result<(), Failure> {
        match &event {
            ClientEvent::Subscribed => {
                self.was_ready = true;
                let mut stats = self.stats.borrow_mut();
                stats.ready.insert(self.gateway.as_str().to_owned());
                stats.notify();
            }
            ClientEvent::Message(message, _) => {
                let channel = self.topics.classify(&message.topic, &message.payload);
                let downlink = channel.and_then(|(channel, _)| channel);
                let downlink = downlink.filter(|channel| channel.direction() == Direction::Down);
                if let Some(channel) = downlink.filter(|_| !message.retain) {
                    connection.client().reset_backoff();
                    let gateway_id = self.gateway.as_str().to_owned();
                    let payload = message.payload.clone();
                    let mut stats = self.stats.borrow_mut();
                    stats.arrived.push_back(IncomingMessage { gateway_id, channel, payload });
                    stats.notify();
                }
            }
            ClientEvent::Ready { .. } => self.outage_ends = None,
            ClientEvent::Lost { .. } if !self.was_ready => {
                self.outage_ends.get_or_insert_with(|| Instant::now() + self.timeout);
            }
            ClientEvent::Lost { .. } | ClientEvent::Delivered { .. } | ClientEvent::Warning(_) => {}
        }
        if let ClientEvent::Message(_, receipt) = event {
            if let Some(receipt) = receipt {
                connection.client().acknowledge(receipt);
            }
        } else if let Some(what) = connection.handle_event(event) {
            self.stats.borrow_mut().warn(&format!("{}: {what}", self.gateway));
        }
        Ok(())
    }

    /// Takes a turn of the rate, which all connections of a replay share.
    fn take_turn(&mut self) -> Result<(), Instant> {
        self.stats.borrow_mut().take_turn()
    }

    fn handle_publish(&mut self, message: ToPublish<'_, SentMessage>) {
        if message.is_first {
            self.stats.borrow_mut().count_sent(message.context.due);
            if message.context.is_delayed {
                stamp(message.publish);
            }
        }
    }

    fn handle_gateway_event(&mut self, event: GatewayEvent<SentMessage>) {
        let (ended, outcome) = match event {
            GatewayEvent::Ended(ended, outcome) => (ended, outcome),
            GatewayEvent::Warning(what) => {
                return self.stats.borrow_mut().warn(&format!("{}: {what}", self.gateway));
            }
            GatewayEvent::Progress | GatewayEvent::Retried | GatewayEvent::Resent(_) => return,
        };
        let (kind, message) = match outcome {
            RequestOutcome::Delivered { is_acknowledged, .. } => {
                return self.stats.borrow_mut().handle_delivered(is_acknowledged);
            }
            RequestOutcome::EndsConnections(length) => {
                let what = format!(
                    "the broker closed the connection each time that it got this message of {length} bytes"
                );
                (FailureKind::Connection, what)
            }
            RequestOutcome::TimedOut { .. }
            | RequestOutcome::Answered { .. }
            | RequestOutcome::Malformed(_) => {
                (FailureKind::Timeout, format!("no acknowledgement in {:?}", self.timeout))
            }
        };
        let request = self.summary(&ended.context);
        let mut stats = self.stats.borrow_mut();
        stats.report_failure(&request, kind, &message);
        stats.finish_one();
    }
}

/// Sets the time stamp of a message to the current time.
fn stamp(publish: &mut Publish) {
    let Some(splice) = RewritableFields::of(&publish.payload) else { return };
    let now = unix_time();
    let fresh = FreshValues { t: Some(now), request_id: None, cid: &|_| None };
    let mut payload = Vec::new();
    splice.rewrite(&publish.payload, &fresh, &mut payload);
    publish.payload = payload.into();
}

#[cfg(test)]
mod tests {
    use super::*;

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
}
