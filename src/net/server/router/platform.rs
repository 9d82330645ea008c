//! What the platform does: answers, at once, later, or once the registry's file has its line; and its own commands.

use std::{collections::BTreeMap, sync::Arc, task::Waker, time::Duration};

use bytes::Bytes;

use super::{ClientHandle, Router};
use crate::{
    edge::{Action, CommandRequest},
    io::registry_file::Position,
    mqtt::{AckToken, QoS},
    net::server::SessionId,
    recording::Record,
    tuya::Channel,
};

/// How much is done at once of what became due at the same time.
const BATCH: usize = 256;

/// What a delayed message occupies beside its payload.
const OVERHEAD: usize = 192;

/// Something that may happen only once the journal has its line on the disk.
#[derive(Debug)]
pub(super) enum PendingSync {
    Acknowledgement { id: SessionId, origin: u64, receipt: AckToken },
    QueuedPublish(QueuedPublish),
}

/// A message of the platform's.
#[derive(Debug)]
pub(super) struct QueuedPublish {
    topic: Arc<str>,
    channel: Channel,
    payload: Bytes,
    once_kept: bool,
}

/// Messages of the platform's that a fault delays, in a bounded number of bytes.
#[derive(Debug)]
pub(super) struct Delayed {
    by_time: BTreeMap<(Duration, u64), QueuedPublish>,
    count: u64,
    bytes: usize,
    limit: usize,
}

impl Delayed {
    pub(super) fn new(limit: usize) -> Self {
        Self { by_time: BTreeMap::new(), count: 0, bytes: 0, limit }
    }

    fn insert(&mut self, due: Duration, saying: QueuedPublish) {
        self.count += 1;
        self.bytes += saying.payload.len() + OVERHEAD;
        self.by_time.insert((due, self.count), saying);
    }

    /// Takes the first one where it is due, or where all together occupy too much.
    fn pop(&mut self, now: Duration) -> Option<QueuedPublish> {
        let is_too_much = self.is_too_much();
        let first = self.by_time.first_entry().filter(|first| is_too_much || first.key().0 <= now)?;
        let saying = first.remove();
        self.bytes -= saying.payload.len() + OVERHEAD;
        Some(saying)
    }

    #[cfg(test)]
    pub(super) fn bytes(&self) -> usize {
        self.bytes
    }

    fn is_too_much(&self) -> bool {
        self.bytes > self.limit
    }

    fn next_due(&self) -> Option<Duration> {
        self.by_time.keys().next().map(|(due, _)| *due)
    }
}

impl Router {
    /// The next moment at which [`Router::run_due`] has something to do.
    pub(super) fn next_due(&self) -> Option<Duration> {
        let absent = self.absent.first().map(|(due, _)| *due);
        [self.delayed.next_due(), absent, self.edge.deadline()].into_iter().flatten().min()
    }

    /// Does a part of what is due, and says when to come again, which may be at once; an earlier due date wakes `waker`.
    pub(in crate::net::server) fn run_due(&mut self, waker: &Waker) -> Option<Duration> {
        let now = self.now.mono;
        for _ in 0..BATCH {
            let Some(saying) = self.delayed.pop(now) else { break };
            self.say(saying);
        }
        for _ in 0..BATCH {
            let Some((_, id)) = self.absent.first().copied().filter(|(due, _)| *due <= now) else { break };
            self.remove(id);
        }
        let mut actions = std::mem::take(&mut self.actions);
        self.edge.tick(self.now, &mut actions);
        self.actions = actions;
        self.perform_actions();
        self.alarm = Some(waker.clone());
        self.alarm_at = self.next_due();
        self.alarm_at
    }

    /// Whether every line of the journal so far is on the disk.
    fn is_kept(&self) -> bool {
        self.journal.as_ref().is_none_or(|journal| journal.done() >= self.last_line)
    }

    /// Acknowledges a message once the journal has its line.
    pub(super) fn acknowledge_once_kept(&mut self, place: ClientHandle, receipt: Option<AckToken>) {
        if self.is_kept() {
            return self.acknowledge(place, receipt);
        }
        let last_line = self.last_line;
        if let Some(receipt) = receipt
            && let Some(client) = self.client(place)
        {
            let waits = PendingSync::Acknowledgement { id: place.id, origin: client.origin, receipt };
            self.unkept.push_back((last_line, waits));
        }
    }

    /// Does a part of what the journal, which has come this far, has made possible; `false` where more is left.
    pub(in crate::net::server) fn kept(&mut self, done: Position) -> bool {
        let was_congested = self.is_congested();
        for _ in 0..BATCH {
            let Some((_, waits)) = self.unkept.pop_front_if(|(position, _)| *position <= done) else { break };
            match waits {
                PendingSync::QueuedPublish(saying) => self.say(saying),
                PendingSync::Acknowledgement { id, origin, receipt } => {
                    // A session that began later counts anew, so the receipt would stand for another message.
                    if let Some(client) = self.seat_by_id(id).filter(|client| client.origin == origin) {
                        client.session.acknowledge(receipt);
                        client.wake();
                    }
                }
            }
        }
        if was_congested && !self.is_congested() {
            self.wake_stalled();
        }
        self.unkept.front().is_none_or(|(position, _)| *position > done)
    }

    /// Another program has touched the journal: gives it all devices anew. What waits for it waits on.
    pub(in crate::net::server) fn rewrite_journal(&mut self, why: &str) {
        self.witness.alert(&format!("{why} while the edge uses it; all devices are written to it anew"));
        let lines = self.edge.registry().lines();
        if let Some(journal) = &mut self.journal {
            journal.rewrite(lines);
        }
    }

    pub(in crate::net::server) fn command(&mut self, ask: CommandRequest) {
        let mut actions = std::mem::take(&mut self.actions);
        self.edge.command(self.now, ask, &mut actions);
        self.actions = actions;
        self.perform_actions();
    }

    /// Does what the edge asked for.
    pub(super) fn perform_actions(&mut self) {
        if self.actions.is_empty() {
            return;
        }
        let mut actions = std::mem::take(&mut self.actions);
        for action in actions.drain(..) {
            match action {
                Action::Publish { topic, channel, payload, after, once_kept } => {
                    let saying = QueuedPublish { topic, channel, payload, once_kept };
                    if after.is_zero() {
                        self.say(saying);
                    } else {
                        self.delay(after, saying);
                    }
                }
                Action::Persist(line) => {
                    if let Some(journal) = &mut self.journal {
                        self.last_line = journal.write(&line);
                    }
                }
                Action::Warn(message) => self.warn(&message),
                Action::CommandDone(outcome) => self.witness.settled(outcome),
            }
        }
        self.actions = actions;
    }

    /// Says something later; where too much waits for its time, what is due first is said now instead of being lost.
    fn delay(&mut self, after: Duration, saying: QueuedPublish) {
        self.delayed.insert(self.now.mono + after, saying);
        if self.delayed.is_too_much() {
            self.warn(
                "more answers wait for their delay than a quarter of --max-queues allows: the first ones are sent \
                 before their time",
            );
            while self.delayed.is_too_much()
                && let Some(early) = self.delayed.pop(self.now.mono)
            {
                self.say(early);
            }
        }
    }

    fn say(&mut self, saying: QueuedPublish) {
        if saying.once_kept && !self.is_kept() {
            self.unkept.push_back((self.last_line, PendingSync::QueuedPublish(saying)));
            return;
        }
        let QueuedPublish { topic, channel, payload, .. } = saying;
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
            // As [`Action::Publish`] says.
            is_json: true,
            unknown: Vec::new(),
        };
        self.witness.message(&record);
        self.route(topic, payload, QoS::AtLeastOnce);
    }
}
