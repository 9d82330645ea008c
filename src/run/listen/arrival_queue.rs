//! Messages that arrived and are not acknowledged: in which order, and when, their acknowledgements leave.
//!
//! Pure: `K` is what tells commands apart, `R` a receipt, and `O` an offset of the writer of records.

use std::{
    collections::{HashMap, VecDeque},
    hash::Hash,
};

/// Unacknowledged messages in the order of arrival, in which MQTT wants their acknowledgements (MQTT-4.6.0-2).
#[derive(Debug)]
pub struct ArrivalQueue<K, R, O> {
    arrivals: VecDeque<Arrival<R, O>>,
    /// The number of the first one; numbers count messages from 0.
    first: u64,
    /// The messages that wait for the answer to a command.
    awaiting: HashMap<K, Vec<u64>>,
}

#[derive(Debug)]
struct Arrival<R, O> {
    receipt: Option<R>,
    /// The end of its record, if it is recorded.
    recorded: Option<O>,
    awaits_answer: bool,
}

impl<K: Eq + Hash, R, O: PartialOrd> Default for ArrivalQueue<K, R, O> {
    fn default() -> Self {
        Self { arrivals: VecDeque::new(), first: 0, awaiting: HashMap::new() }
    }
}

impl<K: Eq + Hash, R, O: PartialOrd> ArrivalQueue<K, R, O> {
    /// Returns whether every message is acknowledged.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.arrivals.is_empty()
    }

    /// Adds a message, and returns its number. A message of QoS 0 has no receipt.
    pub fn push(&mut self, receipt: Option<R>, recorded: Option<O>) -> u64 {
        let number = self.first + self.arrivals.len() as u64;
        self.arrivals.push_back(Arrival { receipt, recorded, awaits_answer: false });
        number
    }

    /// Holds the acknowledgement of a message back until its command is answered.
    pub fn await_answer(&mut self, key: K, number: u64) {
        self.awaiting.entry(key).or_default().push(number);
        if let Some(arrival) = self.get_mut(number) {
            arrival.awaits_answer = true;
        }
    }

    /// Handles the answer to a command, and returns how many deliveries of it wait for one.
    pub fn handle_answer(&mut self, key: &K) -> usize {
        let numbers = self.awaiting.remove(key).unwrap_or_default();
        for number in &numbers {
            if let Some(arrival) = self.get_mut(*number) {
                arrival.awaits_answer = false;
            }
        }
        numbers.len()
    }

    /// Removes the first message, if it is answered and its record is written; returns its receipt.
    #[allow(clippy::option_option, reason = "a message with QoS 0 has no receipt")]
    pub fn next_acknowledgement(&mut self, written: &O) -> Option<Option<R>> {
        let is_ready = |arrival: &Arrival<R, O>| {
            !arrival.awaits_answer && arrival.recorded.as_ref().is_none_or(|recorded| recorded <= written)
        };
        if !self.arrivals.front().is_some_and(is_ready) {
            return None;
        }
        self.first += 1;
        self.arrivals.pop_front().map(|arrival| arrival.receipt)
    }

    fn get_mut(&mut self, number: u64) -> Option<&mut Arrival<R, O>> {
        let place = usize::try_from(number.checked_sub(self.first)?).ok()?;
        self.arrivals.get_mut(place)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    type Queue = ArrivalQueue<&'static str, char, u64>;

    fn acknowledged(queue: &mut Queue, written: u64) -> Vec<Option<char>> {
        std::iter::from_fn(|| queue.next_acknowledgement(&written)).collect()
    }

    #[test]
    fn a_message_is_acknowledged_once_its_record_is_written() {
        let mut queue = Queue::default();
        queue.push(Some('a'), Some(10));
        queue.push(None, Some(20));
        queue.push(Some('c'), None);
        queue.push(Some('d'), Some(30));
        assert_eq!(acknowledged(&mut queue, 9), []);
        assert_eq!(acknowledged(&mut queue, 20), [Some('a'), None, Some('c')]);
        assert!(!queue.is_empty());
        assert_eq!(acknowledged(&mut queue, 30), [Some('d')]);
        assert!(queue.is_empty());
    }

    #[test]
    fn a_command_without_an_answer_holds_back_the_acknowledgements_behind_it() {
        let mut queue = Queue::default();
        let number = queue.push(Some('a'), None);
        queue.await_answer("open", number);
        queue.push(Some('b'), None);
        assert_eq!(acknowledged(&mut queue, 0), []);
        assert_eq!(queue.handle_answer(&"open"), 1);
        assert_eq!(acknowledged(&mut queue, 0), [Some('a'), Some('b')]);
    }

    #[test]
    fn each_delivery_of_a_repeated_command_is_answered_once() {
        let mut queue = Queue::default();
        assert_eq!(queue.push(Some('z'), None), 0);
        assert_eq!(acknowledged(&mut queue, 0), [Some('z')]);
        for receipt in ['a', 'b'] {
            let number = queue.push(Some(receipt), None);
            queue.await_answer("open", number);
        }
        assert_eq!((queue.handle_answer(&"open"), queue.handle_answer(&"open")), (2, 0));
        assert_eq!(acknowledged(&mut queue, 0), [Some('a'), Some('b')]);
    }
}
