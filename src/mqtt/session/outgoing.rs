//! Publishes that the peer has not acknowledged (MQTT 3.1.1, sections 2.3.1, 4.3 and 4.4).

use std::collections::VecDeque;

use bytes::BytesMut;

use super::event::{SessionEvent, Violation, ignored, violation};
use crate::{
    collections::IdMap,
    mqtt::codec::{Packet, Publish, QoS, SubscribeCode, TooLarge},
};

/// Publishes leave this many packet ids to SUBSCRIBE and UNSUBSCRIBE.
const MOST_IN_FLIGHT: u16 = 65_000;

/// A map by packet id.
pub(super) type ById<V> = IdMap<u16, V>;

/// The reply that a packet id in use waits for.
#[derive(Debug)]
enum AwaitedReply {
    /// PUBACK or PUBREC, by the quality of service.
    Publish { publish: Publish, token: u64, order: u64 },
    /// PUBCOMP; the message itself has arrived.
    Release { token: u64, order: u64 },
    /// SUBACK with this many codes.
    Subscribe { filters: usize },
    /// UNSUBACK.
    Unsubscribe,
}

impl AwaitedReply {
    fn awaits(&self) -> &'static str {
        match self {
            Self::Publish { publish, .. } if publish.qos == QoS::ExactlyOnce => "PUBREC",
            Self::Publish { .. } => "PUBACK",
            Self::Release { .. } => "PUBCOMP",
            Self::Subscribe { .. } => "SUBACK",
            Self::Unsubscribe => "UNSUBACK",
        }
    }

    /// Messages that have arrived come first, in the order of their PUBRECs (MQTT-4.6.0-4), then the others in
    /// the order in which they were first sent (MQTT-4.6.0-1).
    fn place(&self) -> Option<(bool, u64, u64)> {
        match self {
            Self::Release { token, order } => Some((false, *order, *token)),
            Self::Publish { token, order, .. } => Some((true, *order, *token)),
            Self::Subscribe { .. } | Self::Unsubscribe => None,
        }
    }
}

#[derive(Debug)]
pub(super) struct Delivery {
    waiting: ById<AwaitedReply>,
    /// Publishes that wait for room in the window, or for the transport.
    queue: VecDeque<(u64, Publish)>,
    /// Tokens of QoS 0 publishes that were encoded and not yet reported.
    written: VecDeque<u64>,
    next_order: u64,
    /// Topics and payloads of the publishes in `waiting`.
    bytes: usize,
    last_id: u16,
    in_flight: u16,
    limit: u16,
}

impl Delivery {
    pub fn new(limit: u16) -> Self {
        Self {
            waiting: ById::default(),
            queue: VecDeque::new(),
            written: VecDeque::new(),
            next_order: 0,
            bytes: 0,
            last_id: 0,
            in_flight: 0,
            limit: limit.clamp(1, MOST_IN_FLIGHT),
        }
    }

    /// Takes over the undelivered publishes of a former session with the same peer, and keeps its own limit.
    pub fn adopt(&mut self, former: Self) {
        let limit = self.limit;
        *self = Self { limit, ..former };
    }

    /// Forgets the transport's part: unanswered subscriptions.
    pub fn open(&mut self) {
        if self.waiting.len() > usize::from(self.in_flight) {
            self.waiting.retain(|_, waiting| waiting.place().is_some());
        }
        self.restart_ids();
    }

    /// Forgets all publishes. Subscriptions belong to the transport, which may have begun already.
    pub fn forget(&mut self) {
        self.waiting.retain(|_, waiting| waiting.place().is_none());
        self.in_flight = 0;
        self.bytes = 0;
        self.queue.clear();
        self.restart_ids();
    }

    /// Restarts packet ids at 1 if none is in use.
    fn restart_ids(&mut self) {
        if self.waiting.is_empty() {
            self.last_id = 0;
        }
    }

    pub fn shrink(&mut self) {
        self.waiting.shrink_to_fit();
        self.queue.shrink_to_fit();
        self.written.shrink_to_fit();
    }

    pub fn in_flight(&self) -> usize {
        self.in_flight.into()
    }

    pub fn in_flight_bytes(&self) -> usize {
        self.bytes
    }

    pub fn queued(&self) -> usize {
        self.queue.len()
    }

    pub fn next_written(&mut self) -> Option<u64> {
        self.written.pop_front()
    }

    pub fn unacknowledged(&self) -> impl Iterator<Item = u64> {
        let waiting = self.in_order().into_iter().map(|(_, _, token)| token);
        waiting.chain(self.queue.iter().map(|(token, _)| *token))
    }

    fn in_order(&self) -> Vec<(u16, (bool, u64), u64)> {
        let mut places: Vec<_> = self
            .waiting
            .iter()
            .filter_map(|(id, waiting)| {
                let (unsure, order, token) = waiting.place()?;
                Some((*id, (unsure, order), token))
            })
            .collect();
        places.sort_unstable_by_key(|(_, place, _)| *place);
        places
    }

    /// Sends a publish now if `flowing` and the window allow it; otherwise queues it.
    pub fn publish(&mut self, publish: Publish, token: u64, flowing: bool, out: &mut BytesMut) {
        if flowing && self.queue.is_empty() {
            if let Err(publish) = self.send(publish, token, out) {
                self.queue.push_back((token, publish));
            }
        } else {
            self.queue.push_back((token, publish));
        }
    }

    /// Sends queued publishes, as far as the window allows.
    pub fn drain(&mut self, out: &mut BytesMut) {
        while let Some((token, publish)) = self.queue.pop_front() {
            if let Err(publish) = self.send(publish, token, out) {
                self.queue.push_front((token, publish));
                break;
            }
        }
    }

    /// Returns the publish if the window is full.
    fn send(&mut self, publish: Publish, token: u64, out: &mut BytesMut) -> Result<(), Publish> {
        if publish.qos == QoS::AtMostOnce {
            publish.encode(0, false, out);
            self.written.push_back(token);
            return Ok(());
        }
        if self.in_flight >= self.limit {
            return Err(publish);
        }
        let Some(id) = self.free_id() else { return Err(publish) };
        publish.encode(id, false, out);
        self.in_flight += 1;
        self.bytes += size(&publish);
        let order = self.order();
        self.waiting.insert(id, AwaitedReply::Publish { publish, token, order });
        Ok(())
    }

    /// Sends every publish again with DUP, and every PUBREL (section 4.4).
    pub fn resend(&mut self, out: &mut BytesMut) {
        for (id, ..) in self.in_order() {
            match &self.waiting[&id] {
                AwaitedReply::Publish { publish, .. } => publish.encode(id, true, out),
                AwaitedReply::Release { .. } => encode(&Packet::PubRel(id), out),
                AwaitedReply::Subscribe { .. } | AwaitedReply::Unsubscribe => {}
            }
        }
    }

    /// Sends SUBSCRIBE or UNSUBSCRIBE.
    pub fn request(&mut self, packet: impl Fn(u16) -> Packet, out: &mut BytesMut) -> Result<u16, TooLarge> {
        let Some(id) = self.free_id() else {
            return Err(TooLarge("one more packet; all 65,535 packet ids are in use".into()));
        };
        let packet = packet(id);
        packet.encode(out)?;
        let waiting = match packet {
            Packet::Subscribe { filters, .. } => AwaitedReply::Subscribe { filters: filters.len() },
            _ => AwaitedReply::Unsubscribe,
        };
        self.waiting.insert(id, waiting);
        Ok(id)
    }

    /// The next packet id after the last: 1 after 65,535, and none that is in use.
    fn free_id(&mut self) -> Option<u16> {
        if self.waiting.len() >= usize::from(u16::MAX) {
            return None;
        }
        loop {
            self.last_id = self.last_id.checked_add(1).unwrap_or(1);
            if !self.waiting.contains_key(&self.last_id) {
                return Some(self.last_id);
            }
        }
    }

    fn order(&mut self) -> u64 {
        self.next_order += 1;
        self.next_order
    }

    pub fn handle_puback(&mut self, id: u16) -> Result<SessionEvent, Violation> {
        match self.waiting.get(&id) {
            Some(AwaitedReply::Publish { publish, token, .. }) if publish.qos == QoS::AtLeastOnce => {
                let token = *token;
                self.bytes -= size(publish);
                Ok(self.delivered(id, token))
            }
            other => unexpected("PUBACK", id, other),
        }
    }

    pub fn handle_pubrec(&mut self, id: u16, out: &mut BytesMut) -> Result<Option<SessionEvent>, Violation> {
        match self.waiting.get(&id) {
            Some(AwaitedReply::Publish { publish, token, .. }) if publish.qos == QoS::ExactlyOnce => {
                let token = *token;
                self.bytes -= size(publish);
                let order = self.order();
                self.waiting.insert(id, AwaitedReply::Release { token, order });
                encode(&Packet::PubRel(id), out);
                Ok(None)
            }
            Some(AwaitedReply::Release { .. }) => {
                encode(&Packet::PubRel(id), out);
                Ok(Some(ignored!("PUBREC for packet id {id} came again")))
            }
            other => {
                let event = unexpected("PUBREC", id, other)?;
                // Only a PUBREL makes the peer forget the id, which we may want to use again.
                encode(&Packet::PubRel(id), out);
                Ok(Some(event))
            }
        }
    }

    pub fn handle_pubcomp(&mut self, id: u16) -> Result<SessionEvent, Violation> {
        match self.waiting.get(&id) {
            Some(AwaitedReply::Release { token, .. }) => {
                let token = *token;
                Ok(self.delivered(id, token))
            }
            other => unexpected("PUBCOMP", id, other),
        }
    }

    pub fn handle_suback(&mut self, id: u16, codes: Vec<SubscribeCode>) -> Result<SessionEvent, Violation> {
        match self.waiting.get(&id) {
            Some(AwaitedReply::Subscribe { filters }) if *filters == codes.len() => {
                self.waiting.remove(&id);
                Ok(SessionEvent::SubAck { id, codes })
            }
            Some(AwaitedReply::Subscribe { filters }) => Err(violation!(
                "SUBACK for packet id {id} with {} return codes for {filters} filters (MQTT-3.8.4-5)",
                codes.len()
            )),
            other => unexpected("SUBACK", id, other),
        }
    }

    pub fn handle_unsuback(&mut self, id: u16) -> Result<SessionEvent, Violation> {
        match self.waiting.get(&id) {
            Some(AwaitedReply::Unsubscribe) => {
                self.waiting.remove(&id);
                Ok(SessionEvent::UnsubAck { id })
            }
            other => unexpected("UNSUBACK", id, other),
        }
    }

    fn delivered(&mut self, id: u16, token: u64) -> SessionEvent {
        self.waiting.remove(&id);
        self.in_flight -= 1;
        SessionEvent::Delivered { token }
    }
}

fn size(publish: &Publish) -> usize {
    publish.topic.len() + publish.payload.len()
}

/// Ignores an acknowledgement of an unused packet id; one of the wrong type shows that the peer has lost its state.
fn unexpected(name: &str, id: u16, waiting: Option<&AwaitedReply>) -> Result<SessionEvent, Violation> {
    match waiting {
        None => Ok(ignored!("{name} for packet id {id}, which is not in use")),
        Some(waiting) => Err(violation!("{name} for packet id {id}, which awaits {}", waiting.awaits())),
    }
}

/// Appends a packet that always has room.
pub(super) fn encode(packet: &Packet, out: &mut BytesMut) {
    let written = packet.encode(out);
    debug_assert!(written.is_ok(), "{packet:?}");
}
