//! Finds, for each recorded answer to a command, the arriving command that it answers. Pure.

use std::collections::{BTreeMap, BTreeSet, HashMap};

use md5::{Digest as _, Md5};

use crate::{
    collections::Recent,
    tuya::{Channel, Downlink, Envelope},
};

/// Most unanswered commands that are kept, most recorded commands that have not arrived, and most answers whose commands have
/// not arrived.
pub const REMEMBERED: usize = 10_000;

/// Recorded commands, commands that arrived, and answers that wait for theirs; `A` is an answer.
#[derive(Debug)]
pub struct CommandMatcher<A> {
    /// The content of each recorded command, by gateway and request id.
    recorded: Recent<MatchKey, MatchKey>,
    /// The request ids of unanswered commands.
    unanswered: KeyedQueue<String>,
    held: KeyedQueue<A>,
    answered: u64,
    total: u64,
}

/// A digest by which commands and answers are found: of a gateway with a request id, with a cid, or with a whole command.
#[derive(Clone, Copy, Debug, Eq, Hash)]
#[allow(clippy::derived_hash_with_manual_eq, reason = "it compares what the hash is made of")]
struct MatchKey([u8; 16]);

// Not derived, because tests count the comparisons.
impl PartialEq for MatchKey {
    fn eq(&self, other: &Self) -> bool {
        #[cfg(test)]
        tests::COMPARED.with(|compared| compared.set(compared.get() + 1));
        self.0 == other.0
    }
}

/// A queue whose entries are found by any of their keys, the oldest first.
#[derive(Debug)]
struct KeyedQueue<T> {
    entries: BTreeMap<u64, (Vec<MatchKey>, T)>,
    by_key: HashMap<MatchKey, BTreeSet<u64>>,
    next: u64,
}

impl<T> KeyedQueue<T> {
    fn new() -> Self {
        Self { entries: BTreeMap::new(), by_key: HashMap::new(), next: 0 }
    }

    /// Adds an entry; returns the oldest one if there are too many.
    fn push(&mut self, keys: Vec<MatchKey>, value: T) -> Option<T> {
        for key in &keys {
            self.by_key.entry(*key).or_default().insert(self.next);
        }
        self.entries.insert(self.next, (keys, value));
        self.next += 1;
        let oldest = *self.entries.first_key_value().filter(|_| self.entries.len() > REMEMBERED)?.0;
        self.remove(oldest)
    }

    fn oldest(&self, key: &MatchKey) -> Option<u64> {
        self.by_key.get(key)?.first().copied()
    }

    fn remove(&mut self, number: u64) -> Option<T> {
        let (keys, value) = self.entries.remove(&number)?;
        for key in keys {
            if let Some(numbers) = self.by_key.get_mut(&key) {
                numbers.remove(&number);
                if numbers.is_empty() {
                    self.by_key.remove(&key);
                }
            }
        }
        Some(value)
    }
}

impl<A> Default for CommandMatcher<A> {
    fn default() -> Self {
        Self {
            recorded: Recent::new(REMEMBERED),
            unanswered: KeyedQueue::new(),
            held: KeyedQueue::new(),
            answered: 0,
            total: 0,
        }
    }
}

impl<A> CommandMatcher<A> {
    /// Handles a recorded command. `gateway` is the one that receives it now, and `map_cid` gives new cids.
    pub fn handle_recorded_command(
        &mut self,
        gateway: &str,
        payload: &[u8],
        map_cid: impl Fn(&str) -> Option<String>,
    ) {
        let Some(command) = ParsedCommand::read(payload) else { return };
        let cid = map_cid(&command.cid).unwrap_or_else(|| command.cid.clone());
        let by_id = by_id(gateway, &command.request_id);
        self.recorded.insert(by_id, command.by_content(gateway, &cid));
    }

    /// Handles an arriving command. Returns the oldest held answer to it, and the command's request id.
    pub fn handle_command(&mut self, gateway: &str, payload: &[u8]) -> Option<(A, String)> {
        let command = ParsedCommand::read(payload)?;
        self.total += 1;
        let keys = vec![
            by_id(gateway, &command.request_id),
            command.by_content(gateway, &command.cid),
            by_cid(gateway, &command.cid),
        ];
        if let Some(number) = keys.iter().filter_map(|key| self.held.oldest(key)).min() {
            self.answered += 1;
            return self.held.remove(number).map(|answer| (answer, command.request_id));
        }
        self.unanswered.push(keys, command.request_id);
        None
    }

    /// Returns the request id of the command that a recorded answer is for; `None` until it arrives.
    ///
    /// That is the command with the recorded id, or else the oldest unanswered one with the same content. If the recording
    /// does not hold the command, it is the oldest one to the same device.
    pub fn match_answer(&mut self, gateway: &str, recorded_id: &str, cid: &str) -> Option<String> {
        let number =
            self.keys_of(gateway, recorded_id, cid).iter().find_map(|key| self.unanswered.oldest(key))?;
        self.answered += 1;
        self.unanswered.remove(number)
    }

    /// Holds an answer until its command arrives; returns the oldest one if there are too many.
    pub fn hold_answer(&mut self, gateway: &str, recorded_id: &str, cid: &str, answer: A) -> Option<A> {
        let keys = self.keys_of(gateway, recorded_id, cid);
        self.held.push(keys.to_vec(), answer)
    }

    fn keys_of(&self, gateway: &str, recorded_id: &str, cid: &str) -> [MatchKey; 2] {
        let by_id = by_id(gateway, recorded_id);
        [by_id, self.recorded.get(&by_id).copied().unwrap_or_else(|| by_cid(gateway, cid))]
    }

    /// Returns whether answers wait for their commands.
    #[must_use]
    pub fn has_held(&self) -> bool {
        !self.held.entries.is_empty()
    }

    /// Removes and returns the held answers, in their order.
    pub fn take_held(&mut self) -> impl Iterator<Item = A> + use<A> {
        std::mem::replace(&mut self.held, KeyedQueue::new()).entries.into_values().map(|(_, answer)| answer)
    }

    /// Returns how many commands arrived for which the recording has no answer.
    #[must_use]
    pub fn unanswered(&self) -> u64 {
        self.total - self.answered
    }
}

/// A command: its request id, the device, and its data points.
struct ParsedCommand {
    request_id: String,
    cid: String,
    points: Vec<(String, String)>,
}

impl ParsedCommand {
    fn read(payload: &[u8]) -> Option<Self> {
        let message = Envelope::<Downlink>::decode(Channel::Command, payload).ok()?;
        let Downlink::Command(command) = message.body else { return None };
        let points = command.points.into_iter().map(|(id, value)| (id, value.get().to_owned())).collect();
        Some(Self { request_id: message.request_id, cid: command.cid, points })
    }

    fn by_content(&self, gateway: &str, cid: &str) -> MatchKey {
        let points = self.points.iter().flat_map(|(id, value)| [id.as_str(), value.as_str()]);
        key(["content", gateway, cid].into_iter().chain(points))
    }
}

fn by_id(gateway: &str, request_id: &str) -> MatchKey {
    key(["id", gateway, request_id].into_iter())
}

fn by_cid(gateway: &str, cid: &str) -> MatchKey {
    key(["cid", gateway, cid].into_iter())
}

fn key<'t>(texts: impl Iterator<Item = &'t str>) -> MatchKey {
    let mut digest = Md5::new();
    for text in texts {
        digest.update((text.len() as u64).to_be_bytes());
        digest.update(text);
    }
    MatchKey(digest.finalize().into())
}

#[cfg(test)]
mod tests {
    use std::cell::Cell;

    use super::*;

    thread_local! {
        /// How often this thread has compared keys.
        pub(crate) static COMPARED: Cell<usize> = const { Cell::new(0) };
    }

    fn command(id: &str, cid: &str, value: u8) -> Vec<u8> {
        format!(r#"{{"t":1,"cid":"{cid}","request_id":"{id}","param":{{"id":"4","value":{value}}}}}"#)
            .into_bytes()
    }

    #[test]
    fn an_answer_finds_its_command() {
        let mut commands = CommandMatcher::<()>::default();
        let map = |cid: &str| (cid == "old").then(|| "new".to_owned());
        commands.handle_recorded_command("gw1", &command("r1", "old", 1), map);
        commands.handle_recorded_command("gw1", &command("r2", "old", 0), map);
        assert_eq!(commands.match_answer("gw1", "r1", "new"), None);
        commands.handle_command("gw2", &command("x0", "new", 1));
        commands.handle_command("gw1", &command("x1", "new", 0));
        assert_eq!(commands.match_answer("gw1", "r1", "new"), None);
        commands.handle_command("gw1", &command("x2", "new", 1));
        assert_eq!(commands.match_answer("gw1", "r1", "new").as_deref(), Some("x2"));
        assert_eq!(commands.match_answer("gw1", "r1", "new"), None);
        assert_eq!(commands.match_answer("gw1", "unrecorded", "new").as_deref(), Some("x1"));
        commands.handle_command("gw1", &command("r2", "other", 1));
        assert_eq!(commands.match_answer("gw1", "r2", "new").as_deref(), Some("r2"));
        assert_eq!(commands.unanswered(), 1);
    }

    #[test]
    fn a_command_finds_the_oldest_answer_that_waits_for_it() {
        let mut commands = CommandMatcher::default();
        commands.handle_recorded_command("gw1", &command("r1", "m1", 1), |_| None);
        assert_eq!(commands.hold_answer("gw1", "unrecorded", "m1", "any of m1"), None);
        assert_eq!(commands.hold_answer("gw1", "r1", "m1", "the recorded one"), None);
        assert_eq!(commands.hold_answer("gw1", "x9", "m2", "by its id"), None);
        assert_eq!(commands.handle_command("gw2", &command("x0", "m1", 1)), None);
        assert_eq!(commands.handle_command("gw1", &command("x1", "m3", 1)), None);
        assert_eq!(
            commands.handle_command("gw1", &command("x2", "m1", 1)),
            Some(("any of m1", "x2".to_owned()))
        );
        assert_eq!(commands.handle_command("gw1", &command("x3", "m1", 0)), None);
        assert_eq!(
            commands.handle_command("gw1", &command("x4", "m1", 1)),
            Some(("the recorded one", "x4".to_owned()))
        );
        assert_eq!(
            commands.handle_command("gw1", &command("x9", "m3", 0)),
            Some(("by its id", "x9".to_owned()))
        );
        assert!(!commands.has_held());
        assert_eq!(commands.unanswered(), 3);
    }

    #[test]
    fn ten_thousand_that_wait_are_not_looked_through_for_each_other() {
        let mut commands = CommandMatcher::default();
        for n in 0..REMEMBERED {
            assert_eq!(commands.hold_answer("gw1", &format!("r{n}"), "m1", n), None);
        }
        assert_eq!(commands.hold_answer("gw1", "one more", "m1", REMEMBERED), Some(0));
        COMPARED.set(0);
        for n in 0..REMEMBERED {
            assert_eq!(commands.handle_command("gw1", &command(&format!("x{n}"), "m2", 1)), None);
            assert_eq!(commands.match_answer("gw1", &format!("y{n}"), "m3"), None);
        }
        assert!(COMPARED.get() < 20 * REMEMBERED, "{}", COMPARED.get());
        assert_eq!(commands.match_answer("gw1", "y", "m2").as_deref(), Some("x0"));
        assert_eq!(commands.take_held().collect::<Vec<_>>(), (1..=REMEMBERED).collect::<Vec<_>>());
        // Each of three keys of each that came, but for the first.
        assert_eq!(commands.unanswered.by_key.len(), 2 + REMEMBERED - 1);
    }
}
