//! The deadlines of attempts.

use std::{collections::VecDeque, time::Duration};

use super::request::{PendingRequest, RequestState};
use crate::collections::IdMap;

/// The deadline of each attempt, in the order of first writing. An entry of an earlier attempt, or of a request that has
/// ended, is invalid and skipped.
#[derive(Debug, Default)]
pub(super) struct Deadlines(VecDeque<Deadline>);

#[derive(Debug)]
struct Deadline {
    due: Duration,
    token: u64,
    attempt: u32,
}

impl Deadlines {
    /// Adds the deadline of an attempt, which is not before those added before.
    pub(super) fn push<C>(
        &mut self,
        due: Duration,
        token: u64,
        attempt: u32,
        open: &IdMap<u64, PendingRequest<C>>,
    ) {
        self.0.push_back(Deadline { due, token, attempt });
        // One request without an answer must not retain all entries after it.
        if self.0.len() > 2 * open.len() + 64 {
            self.0.retain(|deadline| deadline.is_valid(open));
        }
    }

    /// The earliest deadline.
    pub(super) fn first<C>(&mut self, open: &IdMap<u64, PendingRequest<C>>) -> Option<Duration> {
        while let Some(deadline) = self.0.front() {
            if deadline.is_valid(open) {
                return Some(deadline.due);
            }
            self.0.pop_front();
        }
        None
    }

    /// Removes the earliest deadline if it is due, and returns the token of its request.
    pub(super) fn pop_due<C>(&mut self, now: Duration, open: &IdMap<u64, PendingRequest<C>>) -> Option<u64> {
        self.first(open).filter(|due| *due <= now)?;
        self.0.pop_front().map(|deadline| deadline.token)
    }

    /// Removes all.
    pub(super) fn clear(&mut self) {
        self.0.clear();
    }

    /// The number of entries, invalid ones included.
    #[cfg(test)]
    pub(super) fn len(&self) -> usize {
        self.0.len()
    }
}

impl Deadline {
    fn is_valid<C>(&self, open: &IdMap<u64, PendingRequest<C>>) -> bool {
        open.get(&self.token)
            .is_some_and(|request| request.state == RequestState::Waiting && request.attempts == self.attempt)
    }
}
