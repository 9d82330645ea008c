//! What clients say, and what is passed on to others for it.

use std::{rc::Rc, sync::Arc};

use bytes::Bytes;

use super::{ClientHandle, Router};
use crate::{
    edge::{Disposition, Heard, Role},
    mqtt::{AckToken, Direction, Message, Publish, QoS, SessionEvent, SubscribeCode},
    net::server::{
        SessionId,
        client_state::Offered,
        connection::Ending,
        subscriptions::{MAX_LEVELS, levels},
    },
    recording::Record,
    tuya::Channel,
};

/// What a filter costs of a turn, as `connection.rs` counts.
const FILTER_COST: usize = 128;

/// Where a message comes from that is passed on to whoever subscribes.
#[derive(Clone, Copy, Debug, Default)]
struct Source {
    /// The client; `None` for the platform itself and for wills.
    client: Option<SessionId>,
    /// Whether the client asked for it to be retained.
    retain: bool,
}

impl Router {
    /// Acts on what a client said.
    pub(in crate::net::server) fn handle(
        &mut self,
        place: ClientHandle,
        event: SessionEvent,
    ) -> Result<(), Ending> {
        self.current = Some(place.id);
        match event {
            SessionEvent::Publish(message, receipt) => self.publish(place, message, receipt),
            SessionEvent::Subscribe { id, filters } => {
                self.subscribe(place, id, filters);
                Ok(())
            }
            SessionEvent::Unsubscribe { id, filters } => {
                self.unsubscribe(place, id, &filters);
                Ok(())
            }
            SessionEvent::Disconnect => Err(Ending::Left),
            SessionEvent::Delivered { .. } => Ok(()),
            SessionEvent::Ignored(warning) => {
                let who = self.client(place).map(|client| Rc::clone(&client.client_id)).unwrap_or_default();
                self.warn(&format!("client {who:?}: {warning}"));
                Ok(())
            }
            SessionEvent::Connect(_)
            | SessionEvent::OtherVersion { .. }
            | SessionEvent::ConnAck { .. }
            | SessionEvent::SubAck { .. }
            | SessionEvent::UnsubAck { .. } => {
                Err(Ending::Closed("a packet that no client may send now".into()))
            }
        }
    }

    fn publish(
        &mut self,
        place: ClientHandle,
        message: Message,
        receipt: Option<AckToken>,
    ) -> Result<(), Ending> {
        let Some(client) = self.client(place) else { return Err(Ending::TakenOver) };
        let role = Rc::clone(&client.role);
        let mut actions = std::mem::take(&mut self.actions);
        let heard = self.edge.hear(self.now, &role, &message.topic, &message.payload, &mut actions);
        self.actions = actions;
        let fate = heard.fate;
        match fate {
            Disposition::Route | Disposition::RouteKept => {
                self.record(&message, &role, heard);
                // Whoever listens to both hears the request before its answer, as through any broker.
                self.pass_on(message, Some(place.id));
                self.perform_actions();
                if fate == Disposition::RouteKept {
                    self.acknowledge_once_kept(place, receipt);
                } else {
                    self.acknowledge(place, receipt);
                }
            }
            Disposition::Drop => {
                self.record(&message, &role, heard);
                self.acknowledge(place, receipt);
                self.perform_actions();
            }
            Disposition::Forbid => {
                self.acknowledge(place, receipt);
                self.perform_actions();
            }
            Disposition::Cut => {
                self.record(&message, &role, heard);
                return Err(Ending::Closed("a fault, as --fault disconnect asked for".into()));
            }
            Disposition::Silence => {
                self.record(&message, &role, heard);
                if let Some(client) = self.client(place) {
                    client.is_silent = true;
                }
            }
        }
        Ok(())
    }

    pub(super) fn record(&mut self, message: &Message, role: &Role, heard: Heard) {
        let channel = heard.channel;
        let (gateway_id, sent) = match role {
            Role::Gateway(id) => (Some(id.as_str()), Direction::Up),
            Role::Platform => (
                channel.and_then(|channel| self.edge.topics().id_in(channel, &message.topic)),
                Direction::Down,
            ),
        };
        let record = Record {
            dir: Some(channel.map_or(sent, Channel::direction)),
            channel,
            gateway_id: gateway_id.map(Into::into),
            is_json: heard.is_json,
            ..Record::of(message, self.unix_us(), Self::micros(self.now.mono))
        };
        self.witness.message(&record);
    }

    pub(super) fn acknowledge(&mut self, place: ClientHandle, receipt: Option<AckToken>) {
        if let Some(receipt) = receipt
            && let Some(client) = self.client(place)
        {
            client.session.acknowledge(receipt);
        }
    }

    fn subscribe(&mut self, place: ClientHandle, packet: u16, filters: Vec<(String, QoS)>) {
        let Some(client) = self.client(place) else { return };
        let (role, client_id) = (Rc::clone(&client.role), Rc::clone(&client.client_id));
        self.effort += FILTER_COST * filters.len();
        let mut codes = Vec::with_capacity(filters.len());
        let mut refused: Option<(String, &str)> = None;
        for (filter, qos) in filters {
            if let Err(why) = self.subscribe_one(place, &role, &filter, qos) {
                codes.push(SubscribeCode::Refused);
                refused.get_or_insert((filter, why));
            } else {
                codes.push(SubscribeCode::Granted(qos));
            }
        }
        if let Some((filter, why)) = refused {
            let others = codes.iter().filter(|code| **code == SubscribeCode::Refused).count() - 1;
            let others = if others > 0 { format!(" and {others} others") } else { String::new() };
            self.warn(&format!(
                "client {client_id:?} may not subscribe to {filter:?}{others}: SUBACK 0x80; {why}"
            ));
        }
        if let Some(client) = self.client(place) {
            client.session.suback(packet, codes);
        }
    }

    /// Subscribes to one filter, or says why not.
    fn subscribe_one(
        &mut self,
        place: ClientHandle,
        role: &Role,
        filter: &str,
        qos: QoS,
    ) -> Result<(), &'static str> {
        if !self.edge.grants(role, filter) {
            return Err("a gateway subscribes below its own gateway_id");
        }
        if levels(filter) > MAX_LEVELS {
            return Err("a filter with wildcards may have 100 levels");
        }
        let Some(client) = self.clients.get_mut(place.id.0 as usize).and_then(Option::as_deref_mut) else {
            return Ok(());
        };
        let name = client.subscribe(filter, &self.limits)?;
        self.subscriptions.insert(filter, place.id, qos);
        if !self.retained.is_empty()
            && let Some(client) = self.client(place)
        {
            client.search(name, qos);
        }
        Ok(())
    }

    fn unsubscribe(&mut self, place: ClientHandle, packet: u16, filters: &[String]) {
        let Some(client) = self.clients.get_mut(place.id.0 as usize).and_then(Option::as_deref_mut) else {
            return;
        };
        self.effort += FILTER_COST * filters.len();
        for filter in filters {
            if client.unsubscribe(filter) {
                self.subscriptions.remove(filter, place.id);
            }
        }
        client.session.unsuback(packet);
    }

    /// Sends a client more of the retained messages that its new subscriptions ask for.
    pub(in crate::net::server) fn search_on(&mut self, place: ClientHandle) {
        if let Some(client) = self.clients.get_mut(place.id.0 as usize).and_then(Option::as_deref_mut)
            && client.generation == place.generation
            && client.is_searching(&self.limits, self.kept_bytes)
        {
            client.search_on(&self.retained, &self.limits, self.kept_bytes);
        }
    }

    /// Whether a client could be sent more of them at once.
    pub(in crate::net::server) fn is_searching(&mut self, place: ClientHandle) -> bool {
        let Some(client) = self.clients.get_mut(place.id.0 as usize).and_then(Option::as_deref_mut) else {
            return false;
        };
        client.generation == place.generation && client.is_searching(&self.limits, self.kept_bytes)
    }

    // Messages.

    /// Retains a client's message where it asks for that, and passes it on to whoever subscribes.
    pub(super) fn pass_on(&mut self, message: Message, client: Option<SessionId>) {
        let Message { topic, payload, qos, retain, .. } = message;
        if retain && !self.retained.set(&topic, &payload, qos) {
            self.warn(&format!("there is no room to retain another message: {topic:?} is not retained"));
        }
        self.forward(topic, payload, qos, Source { client, retain });
    }

    /// Whether anybody subscribes to a topic.
    pub(in crate::net::server) fn has_subscriber(&mut self, topic: &str) -> bool {
        let mut found = std::mem::take(&mut self.found);
        self.subscriptions.find(topic, &mut found);
        let is_found = !found.is_empty();
        self.found = found;
        is_found
    }

    /// How many messages clients have not acknowledged.
    pub(in crate::net::server) fn unacknowledged(&self) -> usize {
        self.clients.iter().flatten().map(|client| client.session.in_flight() + client.session.queued()).sum()
    }

    /// Passes a message of the platform's on to whoever subscribes.
    pub(in crate::net::server) fn route(&mut self, topic: Arc<str>, payload: Bytes, qos: QoS) {
        self.forward(topic, payload, qos, Source::default());
    }

    fn forward(&mut self, topic: Arc<str>, payload: Bytes, qos: QoS, source: Source) {
        let mut found = std::mem::take(&mut self.found);
        self.subscriptions.find_again(&topic, &mut found);
        if let Some(((last, granted), others)) = found.split_last() {
            for (id, granted) in others {
                let (topic, payload) = (Arc::clone(&topic), payload.clone());
                let publish = Publish { topic, payload, qos: qos.min(*granted), retain: false };
                self.deliver(*id, publish, source);
            }
            let publish = Publish { topic, payload, qos: qos.min(*granted), retain: false };
            self.deliver(*last, publish, source);
        }
        self.found = found;
    }

    fn deliver(&mut self, id: SessionId, mut publish: Publish, source: Source) {
        let is_current = self.current == Some(id);
        let Some(client) = self.clients.get_mut(id.0 as usize).and_then(Option::as_deref_mut) else { return };
        if client.is_silent {
            return;
        }
        if client.is_bridge {
            // Its own messages would go round between two brokers for ever.
            if source.client == Some(id) {
                return;
            }
            publish.retain = source.retain;
        }
        if client.is_connected && !is_current {
            if client.session.outbox().capacity() == 0 {
                *client.session.outbox() = self.spare.pop().unwrap_or_default();
            }
            client.wake();
        }
        let outcome = client.offer(publish, &self.limits, self.kept_bytes);
        let client_id = match outcome {
            Offered::Taken => return self.weigh(id),
            Offered::Dropped { first: false } => return,
            Offered::Dropped { first: true } => Rc::clone(&client.client_id),
            Offered::TooSlow(why) => {
                client.leaving = Some(why);
                return;
            }
        };
        self.warn(&format!("client {client_id:?} cannot be reached or reads slowly: messages are dropped"));
    }

    pub(in crate::net::server) fn refill(&mut self, place: ClientHandle) {
        let Some(client) = self.clients.get_mut(place.id.0 as usize).and_then(Option::as_deref_mut) else {
            return;
        };
        if client.generation == place.generation {
            client.refill(&self.limits, self.kept_bytes);
            if client.is_silent {
                client.session.outbox().clear();
            }
        }
    }

    /// Whether a client must read before it may say more.
    pub(in crate::net::server) fn is_full(&mut self, place: ClientHandle) -> Result<bool, Ending> {
        let total = self.kept_bytes;
        let client = self.clients.get_mut(place.id.0 as usize).and_then(Option::as_deref_mut);
        let client =
            client.filter(|client| client.generation == place.generation).ok_or(Ending::TakenOver)?;
        Ok(client.is_full(&self.limits, total))
    }

    /// Why a connection is to be closed, if it is.
    pub(in crate::net::server) fn leaving(&mut self, place: ClientHandle) -> Option<&'static str> {
        self.client(place)?.leaving.take()
    }
}
