//! Result lines between their request's end and stdout: the order of `--ordered`, and which lines are written.
//!
//! Pure: the caller writes the text and passes the writer's offsets in.

use std::collections::{BTreeMap, VecDeque};

/// Written lines are forgotten once there are this many, if no journal asks for them.
const MANY_LINES: usize = 4096;

/// Result lines that may not be written yet; `O` is an offset of the writer.
#[derive(Debug)]
pub struct ResultQueue<O> {
    /// Lines that the writer has, in its order.
    queued: VecDeque<QueuedLine<O>>,
    /// With `--ordered`, the next index, and the lines that wait for an earlier one.
    ordered: Option<(u64, BTreeMap<u64, PendingLine>)>,
}

#[derive(Debug)]
struct QueuedLine<O> {
    /// The offset behind the line.
    end: O,
    /// Its index, if its request was accepted: the journal records it once the line is written.
    accepted: Option<u64>,
}

/// A line that is to be written; without text if a former run has written it.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct PendingLine {
    /// The line, newline included.
    pub text: Vec<u8>,
    /// Whether its request was accepted.
    pub is_accepted: bool,
}

impl<O: Copy + PartialOrd> ResultQueue<O> {
    /// No lines yet.
    #[must_use]
    pub fn new(is_ordered: bool) -> Self {
        Self { queued: VecDeque::new(), ordered: is_ordered.then(|| (0, BTreeMap::new())) }
    }

    /// Returns whether lines are written in input order.
    #[must_use]
    pub fn is_ordered(&self) -> bool {
        self.ordered.is_some()
    }

    /// Returns how many lines wait for an earlier one.
    #[must_use]
    pub fn pending(&self) -> usize {
        self.ordered.as_ref().map_or(0, |(_, pending)| pending.len())
    }

    /// Holds a line until [`ResultQueue::next_pending`] returns it.
    pub fn insert(&mut self, index: u64, line: PendingLine) {
        if let Some((_, pending)) = &mut self.ordered {
            pending.insert(index, line);
        }
    }

    /// Returns the next line in input order, once all earlier ones were returned.
    pub fn next_pending(&mut self) -> Option<(u64, PendingLine)> {
        let (next, pending) = self.ordered.as_mut()?;
        let line = pending.remove(next)?;
        *next += 1;
        Some((*next - 1, line))
    }

    /// Returns the lines that wait for one that will never come, in input order.
    pub fn drain_pending(&mut self) -> impl Iterator<Item = (u64, PendingLine)> + use<O> {
        let pending = self.ordered.as_mut().map(|(_, pending)| std::mem::take(pending));
        pending.unwrap_or_default().into_iter()
    }

    /// Adds a line that the writer has.
    pub fn push_queued(&mut self, end: O, accepted: Option<u64>) {
        self.queued.push_back(QueuedLine { end, accepted });
    }

    /// Removes the lines up to an offset; returns the indexes of accepted requests among them.
    pub fn take_written(&mut self, written: O) -> impl Iterator<Item = u64> {
        let count = self.queued.partition_point(|line| line.end <= written);
        self.queued.drain(..count).filter_map(|line| line.accepted)
    }

    /// Forgets written lines if there are many.
    pub fn forget_written(&mut self, written: O) {
        if self.queued.len() > MANY_LINES {
            drop(self.take_written(written));
        }
    }

    /// Returns how many lines are behind an offset.
    #[must_use]
    pub fn unwritten(&self, written: O) -> usize {
        self.queued.iter().filter(|line| line.end > written).count()
    }

    /// Removes all lines; returns the indexes of accepted requests among them.
    pub fn take_all(&mut self) -> Vec<u64> {
        let queued: Vec<_> = self.queued.drain(..).filter_map(|line| line.accepted).collect();
        let pending = self.drain_pending().filter(|(_, line)| line.is_accepted).map(|(index, _)| index);
        queued.into_iter().chain(pending).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn line(text: &str) -> PendingLine {
        PendingLine { text: text.into(), is_accepted: true }
    }

    fn ready(queue: &mut ResultQueue<u64>) -> Vec<u64> {
        std::iter::from_fn(|| queue.next_pending()).map(|(index, _)| index).collect()
    }

    #[test]
    fn lines_leave_in_input_order_once_the_earlier_ones_have_come() {
        let mut queue = ResultQueue::new(true);
        queue.insert(2, line("c"));
        queue.insert(1, line("b"));
        assert_eq!((ready(&mut queue), queue.pending()), (vec![], 2));
        queue.insert(0, PendingLine::default());
        assert_eq!((ready(&mut queue), queue.pending()), (vec![0, 1, 2], 0));
        queue.insert(4, line("e"));
        assert_eq!(queue.drain_pending().collect::<Vec<_>>(), [(4, line("e"))]);
    }

    #[test]
    fn accepted_lines_are_returned_once_when_they_are_written() {
        let mut queue = ResultQueue::new(false);
        for (end, accepted) in [(10, Some(0)), (20, None), (30, Some(2)), (40, Some(3))] {
            queue.push_queued(end, accepted);
        }
        assert_eq!(queue.take_written(9).next(), None);
        assert_eq!(queue.take_written(30).collect::<Vec<_>>(), [0, 2]);
        assert_eq!((queue.unwritten(30), queue.unwritten(40)), (1, 0));
        assert_eq!(queue.take_all(), [3]);
    }

    #[test]
    fn all_accepted_lines_are_taken_when_the_reader_has_gone() {
        let mut queue = ResultQueue::new(true);
        queue.push_queued(10, Some(0));
        queue.insert(2, line("c"));
        queue.insert(3, PendingLine { is_accepted: false, ..line("d") });
        assert_eq!(queue.take_all(), [0, 2]);
        assert_eq!(queue.pending(), 0);
    }
}
