//! What the peer has sent and this end still has to acknowledge (MQTT 3.1.1, sections 4.3 and 4.6).

use std::collections::VecDeque;

use bytes::BytesMut;

use super::{
    SessionEvent, Violation, ignored,
    outgoing::{ById, encode},
    violation,
};
use crate::mqtt::codec::{Message, Packet, QoS};

/// The right to acknowledge one received message of QoS 1 or 2, to be handed back once the message is safe.
///
/// A receipt outlives its transport harmlessly. One of QoS 2 should be handed back even then: it says that
/// the message, which the peer will send again and the session will not deliver again, can be answered.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[must_use = "a message whose receipt is not given back is never acknowledged"]
pub struct AckToken {
    /// Counts the received messages of a session, over all its transports.
    delivery: u64,
    id: u16,
    exactly_once: bool,
}

/// An acknowledgement that is owed on this transport, in the order of arrival.
#[derive(Debug)]
struct PendingAck {
    id: u16,
    exactly_once: bool,
    due: bool,
}

/// A message of QoS 2 that was delivered and not yet released.
#[derive(Debug)]
struct Unreleased {
    delivery: u64,
    /// The arrival on this transport whose PUBREC is still owed.
    arrival: u64,
    accepted: bool,
    /// The size of topic and payload, by which a repetition is told from another message under the same id.
    size: usize,
    /// How often the same message came again on this transport without DUP.
    repeated: u8,
}

#[derive(Debug, Default)]
pub(super) struct Reception {
    owed: VecDeque<PendingAck>,
    /// The number of the arrival at the front of `owed`; deliveries and arrivals are counted together.
    first: u64,
    held: ById<Unreleased>,
}

impl Reception {
    fn next(&self) -> u64 {
        self.first + self.owed.len() as u64
    }

    /// Forgets what belongs to a transport: the order in which acknowledgements are owed.
    pub fn open(&mut self) {
        self.first = self.next();
        self.owed.clear();
        for held in self.held.values_mut() {
            held.repeated = 0;
        }
    }

    /// Forgets the messages of QoS 2 that were not released.
    pub fn forget(&mut self) {
        self.open();
        self.held.clear();
    }

    pub fn shrink(&mut self) {
        self.owed.shrink_to_fit();
        self.held.shrink_to_fit();
    }

    pub fn owed(&self) -> usize {
        self.owed.len()
    }

    pub fn unreleased(&self) -> usize {
        self.held.len()
    }

    pub fn publish(&mut self, message: Message, out: &mut BytesMut) -> Result<Option<SessionEvent>, Violation> {
        let Some(id) = message.id else { return Ok(Some(SessionEvent::Publish(message, None))) };
        let arrival = self.next();
        let exactly_once = message.qos == QoS::ExactlyOnce;
        if exactly_once {
            let size = message.topic.len() + message.payload.len();
            if let Some(held) = self.held.get_mut(&id) {
                // Whoever sends a message again on one transport must set DUP (MQTT-3.3.1-1); one slip is
                // overlooked, a sender that goes on has lost its state.
                held.repeated = if message.dup || held.size != size { 0 } else { held.repeated + 1 };
                held.size = size;
                if held.repeated > 1 {
                    return Err(violation!(
                        "PUBLISH with packet id {id} again and again, before PUBREL and without DUP"
                    ));
                }
                // Until it is released, the id stands for the message that was delivered already (4.3.3).
                if held.accepted || held.arrival < self.first {
                    held.arrival = arrival;
                    let due = held.accepted;
                    self.owed.push_back(PendingAck { id, exactly_once, due });
                    self.flush(out);
                }
                return Ok(None);
            }
            self.held.insert(id, Unreleased { delivery: arrival, arrival, accepted: false, size, repeated: 0 });
        }
        self.owed.push_back(PendingAck { id, exactly_once, due: false });
        Ok(Some(SessionEvent::Publish(message, Some(AckToken { delivery: arrival, id, exactly_once }))))
    }

    pub fn acknowledge(&mut self, receipt: AckToken, out: &mut BytesMut) {
        let arrival = if receipt.exactly_once {
            match self.held.get_mut(&receipt.id) {
                Some(held) if held.delivery == receipt.delivery => {
                    held.accepted = true;
                    held.arrival
                }
                _ => return,
            }
        } else {
            receipt.delivery
        };
        let Some(index) = arrival.checked_sub(self.first) else { return };
        if let Some(owed) = usize::try_from(index).ok().and_then(|index| self.owed.get_mut(index)) {
            owed.due = true;
            self.flush(out);
        }
    }

    /// Sends the acknowledgements at the front that are due (MQTT-4.6.0-2 and -3).
    fn flush(&mut self, out: &mut BytesMut) {
        while let Some(owed) = self.owed.pop_front_if(|owed| owed.due) {
            self.first += 1;
            let packet = if owed.exactly_once { Packet::PubRec(owed.id) } else { Packet::PubAck(owed.id) };
            encode(&packet, out);
        }
    }

    pub fn pubrel(&mut self, id: u16, out: &mut BytesMut) -> Result<Option<SessionEvent>, Violation> {
        let known = match self.held.get(&id) {
            Some(held) if !held.accepted => {
                return Err(violation!("PUBREL for packet id {id} before its PUBREC (MQTT-4.3.3-1)"));
            }
            Some(_) => self.held.remove(&id).is_some(),
            None => false,
        };
        encode(&Packet::PubComp(id), out);
        Ok((!known).then(|| ignored!("PUBREL for packet id {id}, which is not in use")))
    }
}
