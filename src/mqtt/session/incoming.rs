//! Received publishes that this side has not acknowledged (MQTT 3.1.1, sections 4.3 and 4.6).

use std::collections::VecDeque;

use bytes::BytesMut;

use super::{
    ack_token::AckToken,
    event::{SessionEvent, Violation, ignored, violation},
    outgoing::{ById, encode},
};
use crate::mqtt::codec::{Message, Packet, QoS};

/// A pending acknowledgement on this transport, in the order of arrival.
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
    /// The arrival on this transport with a pending PUBREC.
    arrival: u64,
    accepted: bool,
    /// The size of topic and payload, by which a repetition is told from another message under the same id.
    size: usize,
    /// How often the same message came again on this transport without DUP.
    repeated: u8,
}

#[derive(Debug, Default)]
pub(super) struct Reception {
    pending_acks: VecDeque<PendingAck>,
    /// The number of the arrival at the front of `pending_acks`; deliveries and arrivals are counted together.
    first: u64,
    unreleased: ById<Unreleased>,
}

impl Reception {
    fn next(&self) -> u64 {
        self.first + self.pending_acks.len() as u64
    }

    /// Forgets the transport's part: the order of pending acknowledgements.
    pub fn open(&mut self) {
        self.first = self.next();
        self.pending_acks.clear();
        for message in self.unreleased.values_mut() {
            message.repeated = 0;
        }
    }

    /// Forgets the messages of QoS 2 that were not released.
    pub fn forget(&mut self) {
        self.open();
        self.unreleased.clear();
    }

    pub fn shrink(&mut self) {
        self.pending_acks.shrink_to_fit();
        self.unreleased.shrink_to_fit();
    }

    pub fn pending_acks(&self) -> usize {
        self.pending_acks.len()
    }

    pub fn unreleased(&self) -> usize {
        self.unreleased.len()
    }

    pub fn handle_publish(
        &mut self,
        message: Message,
        out: &mut BytesMut,
    ) -> Result<Option<SessionEvent>, Violation> {
        let Some(id) = message.id else { return Ok(Some(SessionEvent::Publish(message, None))) };
        let arrival = self.next();
        let exactly_once = message.qos == QoS::ExactlyOnce;
        if exactly_once {
            let size = message.topic.len() + message.payload.len();
            if let Some(former) = self.unreleased.get_mut(&id) {
                // A sender that repeats a message on one transport must set DUP (MQTT-3.3.1-1). One omission is
                // ignored; a sender that goes on has lost its state.
                former.repeated = if message.dup || former.size != size { 0 } else { former.repeated + 1 };
                former.size = size;
                if former.repeated > 1 {
                    return Err(violation!(
                        "PUBLISH with packet id {id} again and again, before PUBREL and without DUP"
                    ));
                }
                // Until it is released, the id stands for the message that was delivered already (4.3.3).
                if former.accepted || former.arrival < self.first {
                    former.arrival = arrival;
                    let due = former.accepted;
                    self.pending_acks.push_back(PendingAck { id, exactly_once, due });
                    self.flush(out);
                }
                return Ok(None);
            }
            self.unreleased
                .insert(id, Unreleased { delivery: arrival, arrival, accepted: false, size, repeated: 0 });
        }
        self.pending_acks.push_back(PendingAck { id, exactly_once, due: false });
        Ok(Some(SessionEvent::Publish(message, Some(AckToken { delivery: arrival, id, exactly_once }))))
    }

    pub fn acknowledge(&mut self, token: AckToken, out: &mut BytesMut) {
        let arrival = if token.exactly_once {
            match self.unreleased.get_mut(&token.id) {
                Some(message) if message.delivery == token.delivery => {
                    message.accepted = true;
                    message.arrival
                }
                _ => return,
            }
        } else {
            token.delivery
        };
        let Some(index) = arrival.checked_sub(self.first) else { return };
        if let Some(ack) = usize::try_from(index).ok().and_then(|index| self.pending_acks.get_mut(index)) {
            ack.due = true;
            self.flush(out);
        }
    }

    /// Sends the acknowledgements at the front that are due (MQTT-4.6.0-2 and -3).
    fn flush(&mut self, out: &mut BytesMut) {
        while let Some(ack) = self.pending_acks.pop_front_if(|ack| ack.due) {
            self.first += 1;
            let packet = if ack.exactly_once { Packet::PubRec(ack.id) } else { Packet::PubAck(ack.id) };
            encode(&packet, out);
        }
    }

    pub fn handle_pubrel(&mut self, id: u16, out: &mut BytesMut) -> Result<Option<SessionEvent>, Violation> {
        let known = match self.unreleased.get(&id) {
            Some(message) if !message.accepted => {
                return Err(violation!("PUBREL for packet id {id} before its PUBREC (MQTT-4.3.3-1)"));
            }
            Some(_) => self.unreleased.remove(&id).is_some(),
            None => false,
        };
        encode(&Packet::PubComp(id), out);
        Ok((!known).then(|| ignored!("PUBREL for packet id {id}, which is not in use")))
    }
}
