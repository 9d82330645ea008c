//! Sends one recorded message: with its new ids, to its gateway or to the edge.

use std::{
    rc::Rc,
    sync::Arc,
    time::{Duration, Instant},
};

use bytes::Bytes;
use tokio::{sync::mpsc, task::spawn_local};
use uuid::Uuid;

use super::{
    Replay, ReplayTarget, WINDOW,
    command_matcher::REMEMBERED,
    gateway_map::topic_for,
    reader::ReplayMessage,
    sender::{GatewaySender, OutgoingMessage},
    verify::RequestSummary,
};
use crate::{
    error::{Failure, FailureKind},
    mqtt::codec::{Publish, QoS},
    recording::FreshValues,
    run::time_unit::unix_time,
    tuya::{Channel, GatewayId},
};

impl Replay {
    /// Opens the connection of a gateway, if it is not open yet.
    pub(super) fn open(&mut self, gateway: &GatewayId) -> Result<(), Failure> {
        let ReplayTarget::Up { fleet, senders, tasks } = &mut self.target else { return Ok(()) };
        if senders.contains_key(gateway.as_str()) {
            return Ok(());
        }
        let (sender, messages) = mpsc::unbounded_channel();
        let (mut settings, topics, qos) = (fleet.settings(gateway)?, self.topics.clone(), fleet.base.qos);
        if !self.is_timed {
            // At full speed, only the window limits messages in flight.
            settings.in_flight = WINDOW;
        }
        let stats = Rc::clone(&self.stats);
        let (gateway_sender, connection) =
            GatewaySender::new(gateway.clone(), settings, topics, qos, messages, stats);
        tasks.push(spawn_local(gateway_sender.run(connection)));
        senders.insert(gateway.as_str().to_owned(), sender);
        Ok(())
    }

    /// Returns the id that takes the place of a recorded one; `None` if ids are kept.
    pub(super) fn fresh_id(&mut self, gateway: &str, recorded: &str) -> Option<Uuid> {
        Some(self.ids.as_mut()?.of(gateway, recorded))
    }

    /// Sends a recorded message. An answer to a command is held until its command arrives.
    pub(super) fn send(&mut self, message: &ReplayMessage, due: Option<Instant>) -> Result<(), Failure> {
        let index = self.index;
        self.index += 1;
        let recorded_topic = &message.recorded_topic;
        let gateway = self.gateways.resolve(recorded_topic).and_then(|gateway| match &recorded_topic.flaw {
            None => Ok(gateway),
            Some(flaw) => Err(Failure::invalid(flaw.to_string())),
        });
        let gateway = match gateway {
            Ok(gateway) => gateway,
            Err(why) => {
                let request =
                    self.summary(message, index, recorded_topic.gateway_id.as_deref().unwrap_or_default());
                self.stats.borrow_mut().report_failure(&request, why.kind, &why.message);
                return Ok(());
            }
        };
        let Some(recorded) = message.splice.request_id(&message.payload) else {
            return self.dispatch(message, index, None, &gateway, due);
        };
        if recorded_topic.channel != Some(Channel::CommandResponse) {
            let id = self.fresh_id(gateway.as_str(), &recorded);
            let mut text = Uuid::encode_buffer();
            let id = id.map(|id| &*id.hyphenated().encode_lower(&mut text));
            return self.dispatch(message, index, id, &gateway, due);
        }
        let request = self.summary(message, index, gateway.as_str());
        let cid = request.cid.as_deref().unwrap_or_default();
        if let Some(id) = self.commands.match_answer(gateway.as_str(), &recorded, cid) {
            // If the id stays, its bytes stay, too: JSON has several ways to write it.
            return self.dispatch(message, index, Some(&*id).filter(|id| *id != recorded), &gateway, due);
        }
        // It may be held for long, and must not keep the shared buffer.
        let payload = Bytes::copy_from_slice(&message.payload);
        let (recorded_topic, splice) = (Arc::clone(&message.recorded_topic), message.splice.clone());
        let held = (ReplayMessage { recorded_topic, payload, splice, ..*message }, request.clone());
        if let Some((_, oldest)) = self.commands.hold_answer(gateway.as_str(), &recorded, cid, held) {
            self.report_unmatched(oldest, &format!("while {REMEMBERED} others waited"));
        }
        Ok(())
    }

    /// Describes a recorded message for a result line before it is sent.
    fn summary(&self, message: &ReplayMessage, index: u64, gateway_id: &str) -> RequestSummary {
        let mut request = RequestSummary::of(
            index,
            message.number,
            message.recorded_topic.channel,
            gateway_id,
            &message.payload,
        );
        if let Some(cid) = request.cid.as_mut()
            && let Some(new) = self.cids.get(cid)
        {
            new.clone_into(cid);
        }
        request
    }

    /// Sends a message with a new request id, or with its own.
    pub(super) fn dispatch(
        &mut self,
        message: &ReplayMessage,
        index: u64,
        request_id: Option<&str>,
        gateway: &GatewayId,
        due: Option<Instant>,
    ) -> Result<(), Failure> {
        let fresh = FreshValues {
            t: (!self.keep_t).then(unix_time),
            request_id,
            cid: &|cid| self.cids.get(cid).map(String::as_str),
        };
        self.spliced.clear();
        message.splice.rewrite(&message.payload, &fresh, &mut self.spliced);
        self.payloads.extend_from_slice(&self.spliced);
        let payload = self.payloads.split().freeze();
        let (line, channel) = (message.number, message.recorded_topic.channel);
        let qos = self.qos.or(QoS::from_number(message.qos)).unwrap_or_default();
        let topic = topic_for(&self.topics, &message.recorded_topic, gateway);
        let asks = match self.target {
            ReplayTarget::Up { .. } => matches!(channel, Some(Channel::Sync | Channel::Report)),
            ReplayTarget::Down(_) => channel == Some(Channel::Command),
        };
        if let (true, Some(verify)) = (asks, &mut self.verify) {
            let request = RequestSummary::of(index, line, channel, gateway.as_str(), &payload);
            if let Some(id) = request.id.clone() {
                let now = self.start.map_or(Duration::ZERO, |start| start.elapsed());
                verify.insert((gateway.as_str().to_owned(), id), request, self.offset, now);
            }
        }
        self.open(gateway)?;
        match &self.target {
            ReplayTarget::Up { senders, .. } => {
                let publish = Publish { topic, payload, qos, retain: message.retain };
                let mut stats = self.stats.borrow_mut();
                let Some(sender) = senders.get(gateway.as_str()) else { return Ok(()) };
                stats.in_flight += 1;
                if let Err(mpsc::error::SendError(message)) =
                    sender.send(OutgoingMessage { publish, index, line, channel, due, keeps_t: self.keep_t })
                {
                    // The failure of the connection ends the run in the next turn.
                    stats.report_failure(
                        &message.summary(gateway),
                        FailureKind::Connection,
                        "the connection is closed",
                    );
                    stats.finish_one();
                }
            }
            ReplayTarget::Down(broker) => {
                if broker.has_subscriber(&topic) {
                    self.stats.borrow_mut().count_sent(due);
                    broker.publish(topic.as_ref().into(), payload, qos);
                } else {
                    let message = format!("no gateway subscribes to {topic}: is it connected?");
                    let request = RequestSummary::of(index, line, channel, gateway.as_str(), &payload);
                    self.stats.borrow_mut().report_failure(&request, FailureKind::Timeout, &message);
                }
            }
        }
        Ok(())
    }
}
