//! What the platform does: answers, at once, later, or once the registry's file has its line; and its own commands.

use std::{sync::Arc, task::Waker, time::Duration};

use bytes::Bytes;

use super::{Place, Switchboard};
use crate::{
    edge::{Act, Ask},
    mqtt::{QoS, Receipt, broker::SessionId},
    protocol::Channel,
    record::Record,
    registry_file::Position,
};

/// Something that may happen only once the journal has its line on the disk.
#[derive(Debug)]
pub(super) enum Unkept {
    Acknowledgement { id: SessionId, origin: u64, receipt: Receipt },
    Saying(Saying),
}

/// A message of the platform's.
#[derive(Debug)]
pub(super) struct Saying {
    topic: Arc<str>,
    channel: Channel,
    payload: Bytes,
    once_kept: bool,
}

impl Switchboard {
    /// The next moment at which [`Switchboard::run_due`] has something to do.
    pub(super) fn next_due(&self) -> Option<Duration> {
        let delayed = self.delayed.keys().next().map(|(due, _)| *due);
        let absent = self.absent.first().map(|(due, _)| *due);
        [delayed, absent, self.edge.deadline()].into_iter().flatten().min()
    }

    /// Does what is due, and says when to come again; an earlier due date wakes `waker`.
    pub(in crate::mqtt::broker) fn run_due(&mut self, waker: &Waker) -> Option<Duration> {
        let now = self.now.mono;
        while let Some(entry) = self.delayed.first_entry().filter(|entry| entry.key().0 <= now) {
            let saying = entry.remove();
            self.say(saying);
        }
        while let Some((_, id)) = self.absent.first().copied().filter(|(due, _)| *due <= now) {
            self.remove(id);
        }
        let mut acts = std::mem::take(&mut self.acts);
        self.edge.tick(self.now, &mut acts);
        self.acts = acts;
        self.act();
        self.alarm = Some(waker.clone());
        self.alarm_at = self.next_due();
        self.alarm_at
    }

    /// Whether every line of the journal so far is on the disk.
    fn is_kept(&self) -> bool {
        self.journal.as_ref().is_none_or(|journal| journal.done() >= self.last_line)
    }

    /// Acknowledges a message once the journal has its line.
    pub(super) fn acknowledge_once_kept(&mut self, place: Place, receipt: Option<Receipt>) {
        if self.is_kept() {
            return self.acknowledge(place, receipt);
        }
        let last_line = self.last_line;
        if let Some(receipt) = receipt
            && let Some(seat) = self.seat(place)
        {
            let waits = Unkept::Acknowledgement { id: place.id, origin: seat.origin, receipt };
            self.unkept.push_back((last_line, waits));
        }
    }

    /// The journal has come this far.
    pub(in crate::mqtt::broker) fn kept(&mut self, done: Position) {
        while let Some((_, waits)) = self.unkept.pop_front_if(|(position, _)| *position <= done) {
            match waits {
                Unkept::Saying(saying) => self.say(saying),
                Unkept::Acknowledgement { id, origin, receipt } => {
                    // A session that began later counts anew, so the receipt would stand for another message.
                    if let Some(seat) = self.seat_by_id(id).filter(|seat| seat.origin == origin) {
                        seat.session.acknowledge(receipt);
                        seat.wake();
                    }
                }
            }
        }
    }

    /// Another program has touched the journal: gives it all devices anew. What waits for it waits on.
    pub(in crate::mqtt::broker) fn rewrite_journal(&mut self, why: &str) {
        self.witness.alert(&format!("{why} while the edge uses it; all devices are written to it anew"));
        let lines = self.edge.registry().lines();
        if let Some(journal) = &mut self.journal {
            journal.rewrite(lines);
        }
    }

    pub(in crate::mqtt::broker) fn command(&mut self, ask: Ask) {
        let mut acts = std::mem::take(&mut self.acts);
        self.edge.command(self.now, ask, &mut acts);
        self.acts = acts;
        self.act();
    }

    /// Does what the edge asked for.
    pub(super) fn act(&mut self) {
        if self.acts.is_empty() {
            return;
        }
        let mut acts = std::mem::take(&mut self.acts);
        for act in acts.drain(..) {
            match act {
                Act::Say { topic, channel, payload, after, once_kept } => {
                    let saying = Saying { topic, channel, payload, once_kept };
                    if after.is_zero() {
                        self.say(saying);
                    } else {
                        self.count += 1;
                        self.delayed.insert((self.now.mono + after, self.count), saying);
                    }
                }
                Act::Keep(line) => {
                    if let Some(journal) = &mut self.journal {
                        self.last_line = journal.write(&line);
                    }
                }
                Act::Warn(message) => self.witness.warn(&message),
                Act::Settle(outcome) => self.witness.settled(outcome),
            }
        }
        self.acts = acts;
    }

    fn say(&mut self, saying: Saying) {
        if saying.once_kept && !self.is_kept() {
            self.unkept.push_back((self.last_line, Unkept::Saying(saying)));
            return;
        }
        let Saying { topic, channel, payload, .. } = saying;
        let record = Record {
            unix_us: self.unix_us(),
            topic: (&*topic).into(),
            qos: QoS::AtLeastOnce as u8,
            retain: false,
            dup: false,
            mid: None,
            dir: Some(channel.direction()),
            channel: Some(channel),
            gateway_id: self.edge.topics().id_in(channel, &topic).map(Into::into),
            mono_us: Some(Self::micros(self.now.mono)),
            payload: (&payload[..]).into(),
            // As [`Act::Say`] says.
            is_json: true,
            unknown: Vec::new(),
        };
        self.witness.message(&record);
        self.route(topic, payload, QoS::AtLeastOnce);
    }
}
