//! Handles the packets of clients, and forwards messages to subscribers.

use std::{rc::Rc, sync::Arc};

use bytes::Bytes;

use super::{ClientHandle, Router};
use crate::{
    mqtt::{AckToken, Message, Publish, QoS, SessionEvent, SubscribeCode},
    net::server::{
        client_state::Offered,
        close_reason::CloseReason,
        handler::{Ack, Handler, Incoming, PublishAck, PublishDecision, SessionId},
        subscriptions::{MAX_LEVELS, levels},
    },
};

/// The cost of a filter, as `connection.rs` counts.
const FILTER_COST: usize = 128;

/// The origin of a message that is forwarded.
#[derive(Clone, Copy, Debug, Default)]
struct Publisher {
    /// The client; `None` for messages of the handler's and for wills.
    client: Option<SessionId>,
    /// Whether the client asked for it to be retained.
    retain: bool,
}

impl<H: Handler> Router<H> {
    /// Acts on a packet of a client.
    pub(in crate::net::server) fn handle_event(
        &mut self,
        handle: ClientHandle,
        event: SessionEvent,
    ) -> Result<(), CloseReason> {
        self.current = Some(handle.id);
        match event {
            SessionEvent::Publish(message, receipt) => self.publish(handle, message, receipt),
            SessionEvent::Subscribe { id, filters } => {
                self.subscribe(handle, id, filters);
                Ok(())
            }
            SessionEvent::Unsubscribe { id, filters } => {
                self.unsubscribe(handle, id, &filters);
                Ok(())
            }
            SessionEvent::Disconnect => Err(CloseReason::Left),
            SessionEvent::Delivered { .. } => Ok(()),
            SessionEvent::Ignored(warning) => {
                let who = self.client(handle).map(|client| Rc::clone(&client.client_id)).unwrap_or_default();
                self.warn(&format!("client {who:?}: {warning}"));
                Ok(())
            }
            SessionEvent::Connect(_)
            | SessionEvent::OtherVersion { .. }
            | SessionEvent::ConnAck { .. }
            | SessionEvent::SubAck { .. }
            | SessionEvent::UnsubAck { .. } => {
                Err(CloseReason::Closed("a packet that no client may send now".into()))
            }
        }
    }

    fn publish(
        &mut self,
        handle: ClientHandle,
        message: Message,
        receipt: Option<AckToken>,
    ) -> Result<(), CloseReason> {
        let client = self.clients.get(handle.id.0 as usize).and_then(Option::as_deref);
        let client =
            client.filter(|client| client.generation == handle.generation).ok_or(CloseReason::TakenOver)?;
        let ack = receipt.map(|receipt| PublishAck { session: handle.id, origin: client.origin, receipt });
        let publish = Incoming { client: client.info(handle.id), message: &message, ack };
        match self.handler.handle_publish(self.now, publish) {
            PublishDecision::Forward(ack) => {
                // A subscriber to both gets the request before its answer, as from any broker.
                self.pass_on(message, Some(handle.id));
                self.perform_actions();
                if ack == Ack::Now {
                    self.acknowledge(handle, receipt);
                }
            }
            PublishDecision::Consume(ack) => {
                if ack == Ack::Now {
                    self.acknowledge(handle, receipt);
                }
                self.perform_actions();
            }
            PublishDecision::Disconnect(why) => return Err(CloseReason::Closed(why.into_owned())),
            PublishDecision::Silence => {
                if let Some(client) = self.client(handle) {
                    client.is_silent = true;
                }
            }
        }
        Ok(())
    }

    fn acknowledge(&mut self, handle: ClientHandle, receipt: Option<AckToken>) {
        if let Some(receipt) = receipt
            && let Some(client) = self.client(handle)
        {
            client.session.acknowledge(receipt);
        }
    }

    fn subscribe(&mut self, handle: ClientHandle, packet: u16, filters: Vec<(String, QoS)>) {
        let Some(client) = self.client(handle) else { return };
        let client_id = Rc::clone(&client.client_id);
        self.effort += FILTER_COST * filters.len();
        let mut codes = Vec::with_capacity(filters.len());
        let mut granted = Vec::with_capacity(filters.len());
        let mut refused: Option<(String, &str)> = None;
        for (filter, qos) in filters {
            if let Err(why) = self.subscribe_one(handle, &filter, qos) {
                codes.push(SubscribeCode::Refused);
                refused.get_or_insert((filter, why));
            } else {
                codes.push(SubscribeCode::Granted(qos));
                granted.push(filter);
            }
        }
        if let Some((filter, why)) = refused {
            let others = codes.iter().filter(|code| **code == SubscribeCode::Refused).count() - 1;
            let others = if others > 0 { format!(" and {others} others") } else { String::new() };
            self.warn(&format!(
                "client {client_id:?} may not subscribe to {filter:?}{others}: SUBACK 0x80; {why}"
            ));
        }
        if let Some(client) = self.client(handle) {
            client.session.suback(packet, codes);
        }
        for filter in &granted {
            if let Some(client) = self.clients.get(handle.id.0 as usize).and_then(Option::as_deref) {
                self.handler.handle_subscribed(client.info(handle.id), filter);
            }
        }
        self.perform_actions();
    }

    /// Subscribes to one filter, or returns why not.
    fn subscribe_one(&mut self, handle: ClientHandle, filter: &str, qos: QoS) -> Result<(), &'static str> {
        let Some(client) = self.clients.get_mut(handle.id.0 as usize).and_then(Option::as_deref_mut) else {
            return Ok(());
        };
        self.handler.may_subscribe(client.info(handle.id), filter)?;
        if levels(filter) > MAX_LEVELS {
            return Err("a filter with wildcards may have 100 levels");
        }
        let name = client.subscribe(filter, &self.limits)?;
        self.subscriptions.insert(filter, handle.id, qos);
        if !self.retained.is_empty()
            && let Some(client) = self.client(handle)
        {
            client.search(name, qos);
        }
        Ok(())
    }

    fn unsubscribe(&mut self, handle: ClientHandle, packet: u16, filters: &[String]) {
        let Some(client) = self.clients.get_mut(handle.id.0 as usize).and_then(Option::as_deref_mut) else {
            return;
        };
        self.effort += FILTER_COST * filters.len();
        for filter in filters {
            if client.unsubscribe(filter) {
                self.subscriptions.remove(filter, handle.id);
                self.handler.handle_unsubscribed(client.info(handle.id), filter);
            }
        }
        client.session.unsuback(packet);
    }

    /// Sends a client more of the retained messages of its new subscriptions.
    pub(in crate::net::server) fn search_on(&mut self, handle: ClientHandle) {
        if let Some(client) = self.clients.get_mut(handle.id.0 as usize).and_then(Option::as_deref_mut)
            && client.generation == handle.generation
            && client.is_searching(&self.limits, self.kept_bytes)
        {
            client.search_on(&self.retained, &self.limits, self.kept_bytes);
        }
    }

    /// Whether more of them could be sent to a client at once.
    pub(in crate::net::server) fn is_searching(&mut self, handle: ClientHandle) -> bool {
        let Some(client) = self.clients.get_mut(handle.id.0 as usize).and_then(Option::as_deref_mut) else {
            return false;
        };
        client.generation == handle.generation && client.is_searching(&self.limits, self.kept_bytes)
    }

    // Messages.

    /// Forwards a client's message to its subscribers, and retains it if its retain flag is set.
    pub(super) fn pass_on(&mut self, message: Message, client: Option<SessionId>) {
        let Message { topic, payload, qos, retain, .. } = message;
        if retain && !self.retained.set(&topic, &payload, qos) {
            self.warn(&format!("there is no room to retain another message: {topic:?} is not retained"));
        }
        self.forward(topic, payload, qos, Publisher { client, retain });
    }

    /// Whether a topic has a subscriber.
    pub(in crate::net::server) fn has_subscriber(&mut self, topic: &str) -> bool {
        let mut found = std::mem::take(&mut self.found);
        self.subscriptions.find(topic, &mut found);
        let is_found = !found.is_empty();
        self.found = found;
        is_found
    }

    /// The number of queued and unacknowledged messages of all clients.
    pub(in crate::net::server) fn unacknowledged(&self) -> usize {
        self.clients.iter().flatten().map(|client| client.session.in_flight() + client.session.queued()).sum()
    }

    /// Forwards a message of the handler's to its subscribers.
    pub(in crate::net::server) fn route(&mut self, topic: Arc<str>, payload: Bytes, qos: QoS) {
        self.forward(topic, payload, qos, Publisher::default());
    }

    /// Forwards a message of the handler's to one client if it subscribes.
    pub(super) fn route_to(&mut self, id: SessionId, mut publish: Publish) {
        let mut found = std::mem::take(&mut self.found);
        self.subscriptions.find_again(&publish.topic, &mut found);
        if let Some((_, granted)) = found.iter().find(|(subscriber, _)| *subscriber == id) {
            publish.qos = publish.qos.min(*granted);
            self.deliver(id, publish, Publisher::default());
        }
        self.found = found;
    }

    fn forward(&mut self, topic: Arc<str>, payload: Bytes, qos: QoS, source: Publisher) {
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

    fn deliver(&mut self, id: SessionId, mut publish: Publish, source: Publisher) {
        let is_current = self.current == Some(id);
        let Some(client) = self.clients.get_mut(id.0 as usize).and_then(Option::as_deref_mut) else { return };
        if client.is_silent {
            return;
        }
        if client.is_bridge {
            // Its own messages would circle between the two brokers for ever.
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

    pub(in crate::net::server) fn refill(&mut self, handle: ClientHandle) {
        let Some(client) = self.clients.get_mut(handle.id.0 as usize).and_then(Option::as_deref_mut) else {
            return;
        };
        if client.generation == handle.generation {
            client.refill(&self.limits, self.kept_bytes);
            if client.is_silent {
                client.session.outbox().clear();
            }
        }
    }

    /// Whether a client must read before the broker reads from it.
    pub(in crate::net::server) fn is_full(&mut self, handle: ClientHandle) -> Result<bool, CloseReason> {
        let total = self.kept_bytes;
        let client = self.clients.get_mut(handle.id.0 as usize).and_then(Option::as_deref_mut);
        let client =
            client.filter(|client| client.generation == handle.generation).ok_or(CloseReason::TakenOver)?;
        Ok(client.is_full(&self.limits, total))
    }

    /// Why a connection is to be closed, if it is.
    pub(in crate::net::server) fn leaving(&mut self, handle: ClientHandle) -> Option<&'static str> {
        self.client(handle)?.leaving.take()
    }
}
