//! The pending requests of one connection, from insertion to end: sending, sending again, answers, retries and time-outs.
//!
//! A request is queued until the rate lets it leave, then waits for its answer, and may rest before it is tried again.
//! Its answer counts in each of these states. Deadlines belong to an attempt, so that no attempt inherits the one of the
//! attempt before.

mod deadlines;
mod outcome;
mod request;
#[cfg(test)]
mod tests;

use std::{
    collections::{BTreeSet, HashMap, VecDeque, hash_map::Entry},
    sync::Arc,
    time::Duration,
};

use self::{
    deadlines::Deadlines,
    request::{PendingRequest, RequestState},
};
pub use self::{
    outcome::{Acknowledged, Match, Sending, TimedOut},
    request::Finished,
};
use super::excerpt::excerpt;
use crate::{
    collections::{FastMap, IdMap},
    rate::{Rate, RateLimiter},
    tuya::{Answer, Envelope, ResultCode},
};

/// How long a request rests before it is tried again, at first and at most; the rests in between double.
const FIRST_REST: Duration = Duration::from_millis(500);

const LONGEST_REST: Duration = Duration::from_secs(30);

/// The number of lost connections after which a message is given up.
const MOST_LOSSES: u32 = 3;

/// The open requests; `C` is what the caller keeps with each. A moment is a duration since any fixed origin of a
/// monotonic clock.
#[derive(Debug)]
pub struct PendingRequests<C> {
    timeout: Duration,
    retries: u32,
    limiter: Option<RateLimiter>,
    open: IdMap<u64, PendingRequest<C>>,
    /// The requests that an answer can belong to.
    by_id: FastMap<Arc<str>, u64>,
    /// The requests that wait for another one with the same id: their answers could not be told apart.
    behind: HashMap<Arc<str>, VecDeque<u64>>,
    /// Requests to send, in order; entries of requests that are no longer to be sent are skipped.
    queue: VecDeque<u64>,
    deadlines: Deadlines,
    /// Requests that rest before a retry.
    resting: BTreeSet<(Duration, u64)>,
    next_token: u64,
}

impl<C> PendingRequests<C> {
    /// No open request; an answer, or an acknowledgement if there is no answer, may take `timeout`.
    #[must_use]
    pub fn new(timeout: Duration) -> Self {
        Self {
            timeout,
            retries: 0,
            limiter: None,
            open: IdMap::default(),
            by_id: FastMap::default(),
            behind: HashMap::new(),
            queue: VecDeque::new(),
            deadlines: Deadlines::default(),
            resting: BTreeSet::new(),
            next_token: 0,
        }
    }

    /// Tries a request again so many times after a system error or a time-out.
    pub fn set_retries(&mut self, retries: u32) {
        self.retries = retries;
    }

    /// Lets messages leave at this rate: first ones, retries, and those sent again after a loss.
    pub fn set_rate(&mut self, rate: Rate) {
        self.limiter = Some(RateLimiter::new(rate));
    }

    /// How many requests are open.
    #[must_use]
    pub fn len(&self) -> usize {
        self.open.len()
    }

    /// Whether no request is open.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.open.is_empty()
    }

    /// What the caller keeps with an open request.
    #[must_use]
    pub fn context(&self, token: u64) -> Option<&C> {
        self.open.get(&token).map(|pending| &pending.context)
    }

    /// Whether an open request has an answer to come.
    #[must_use]
    pub fn has_answers_to_come(&self) -> bool {
        !self.by_id.is_empty()
    }

    /// Whether a sent request is unfinished, resting ones not counted.
    #[must_use]
    pub fn has_written(&self) -> bool {
        self.open.values().any(|pending| pending.state == RequestState::Waiting)
    }

    /// Adds a request, to be sent once it is its turn, and once no other request with its id is open. Without a
    /// response topic its acknowledgement is the end of it.
    pub fn insert(&mut self, request_id: Arc<str>, response_topic: Option<Arc<str>>, context: C) {
        self.insert_with(request_id, response_topic, true, context);
    }

    /// As [`Self::insert`]; without a deadline the request waits as long as it takes.
    pub fn insert_with(
        &mut self,
        request_id: Arc<str>,
        response_topic: Option<Arc<str>>,
        has_deadline: bool,
        context: C,
    ) {
        let token = self.next_token;
        self.next_token += 1;
        let mut state = RequestState::Queued;
        if response_topic.is_some() {
            match self.by_id.entry(Arc::clone(&request_id)) {
                Entry::Vacant(place) => {
                    place.insert(token);
                }
                Entry::Occupied(_) => {
                    state = RequestState::Behind;
                    self.behind.entry(Arc::clone(&request_id)).or_default().push_back(token);
                }
            }
        }
        let is_queued = state == RequestState::Queued;
        let pending = PendingRequest {
            context,
            request_id,
            response_topic,
            state,
            attempts: 0,
            written: None,
            is_queued,
            is_held: false,
            is_acknowledged: false,
            was_acknowledged: false,
            losses: 0,
            has_deadline,
        };
        self.open.insert(token, pending);
        if is_queued {
            self.queue.push_back(token);
        }
    }

    /// Whether something is to be sent, now or once the rate lets it.
    pub fn has_queued(&mut self) -> bool {
        self.front().is_some()
    }

    /// Whether [`PendingRequests::next_to_send`] has a message now.
    pub fn can_send(&mut self, now: Duration) -> bool {
        self.front().is_some() && self.limiter.as_ref().is_none_or(|limiter| limiter.allows(now))
    }

    /// Whether the rate lets one more message leave now, with nothing queued before it.
    pub fn has_turn(&mut self, now: Duration) -> bool {
        let Some(limiter) = &self.limiter else { return true };
        let allows = limiter.allows(now);
        self.front().is_none() && allows
    }

    /// When [`PendingRequests::has_turn`] may return true next; `None` if the rate does not decide that.
    pub fn next_turn(&mut self) -> Option<Duration> {
        let next = self.limiter.as_ref()?.next();
        self.front().is_none().then_some(next)
    }

    /// The message that is to be sent now, which counts as written with that.
    pub fn next_to_send(&mut self, now: Duration) -> Option<Sending<'_, C>> {
        let token = self.front()?;
        if self.limiter.as_mut().is_some_and(|limiter| !limiter.take(now)) {
            return None;
        }
        self.queue.pop_front();
        let pending = self.open.get_mut(&token)?;
        let is_first = pending.state == RequestState::Queued;
        pending.is_queued = false;
        pending.is_held = true;
        pending.is_acknowledged = false;
        if is_first {
            pending.state = RequestState::Waiting;
            pending.attempts += 1;
            pending.written = Some(now);
            let attempt = pending.attempts;
            if pending.has_deadline {
                self.deadlines.push(now + self.timeout, token, attempt, &self.open);
            }
        }
        let pending = self.open.get_mut(&token)?;
        Some(Sending { token, attempt: pending.attempts, is_first, context: &mut pending.context })
    }

    /// Removes the requests that `is_withdrawn` picks, without an outcome.
    pub fn withdraw(&mut self, is_withdrawn: impl Fn(&C) -> bool) {
        let picked = self.open.iter().filter(|(_, pending)| is_withdrawn(&pending.context));
        let tokens: Vec<_> = picked.map(|(token, _)| *token).collect();
        for token in tokens {
            self.finish(token);
        }
    }

    /// The first queued token of a request that is to be sent.
    fn front(&mut self) -> Option<u64> {
        while let Some(&token) = self.queue.front() {
            match self.open.get_mut(&token) {
                Some(PendingRequest { state: RequestState::Queued | RequestState::Waiting, .. }) => {
                    return Some(token);
                }
                Some(pending) => pending.is_queued = false,
                None => {}
            }
            self.queue.pop_front();
        }
        None
    }

    /// Handles a lost connection. Ends the first request that may be why the broker closes connections: `is_suspect` returns
    /// true for it, and several connections in turn were lost with it in flight.
    pub fn handle_disconnected(&mut self, is_suspect: impl Fn(&C) -> bool) -> Option<Finished<C>> {
        let mut first: Option<u64> = None;
        for (token, pending) in &mut self.open {
            if pending.state == RequestState::Waiting && pending.is_held {
                pending.losses += 1;
                if pending.losses >= MOST_LOSSES
                    && first.is_none_or(|first| first > *token)
                    && is_suspect(&pending.context)
                {
                    first = Some(*token);
                }
            }
        }
        self.finish(first?)
    }

    /// Queues again, after a reconnect, what the MQTT session does not send again by itself: each request without its
    /// answer. `is_kept` says whether the session still holds a message that it held. Returns how many had been sent.
    pub fn handle_connected(&mut self, is_kept: impl Fn(&C) -> bool) -> usize {
        let mut sent = 0;
        self.queue.clear();
        for (token, pending) in &mut self.open {
            pending.is_held &= is_kept(&pending.context);
            sent += usize::from(pending.state == RequestState::Waiting);
            pending.is_queued = match pending.state {
                RequestState::Queued => true,
                RequestState::Waiting => !pending.is_held,
                RequestState::Behind | RequestState::Resting(_) => false,
            };
            if pending.is_queued {
                self.queue.push_back(*token);
            }
        }
        self.queue.make_contiguous().sort_unstable();
        sent
    }

    /// Matches an arrived message with the open requests; `jitter`, from 0 to 1, spreads retries.
    ///
    /// An answer counts only on the request's own response topic, not retained, with an integer code.
    pub fn handle_message(
        &mut self,
        topic: &str,
        payload: &[u8],
        retained: bool,
        now: Duration,
        jitter: impl FnOnce() -> f64,
    ) -> Match<C> {
        let decoded = Envelope::<Answer>::decode(payload);
        let request_id = match &decoded {
            Ok(answer) => answer.request_id.as_str(),
            Err(refused) => match &refused.request_id {
                Some(id) => id,
                None => return Match::Ignored(format!("not an answer on {topic}: {refused}")),
            },
        };
        let pending = self.by_id.get(request_id).and_then(|token| Some((*token, self.open.get(token)?)));
        let Some((token, pending)) = pending else {
            let request_id = excerpt(request_id);
            return Match::Unmatched(format!("on {topic}, no pending request has request_id {request_id}"));
        };
        let response_topic = pending.response_topic.as_deref().unwrap_or_default();
        if response_topic != topic {
            let request_id = excerpt(request_id);
            return Match::Ignored(format!(
                "request_id {request_id} came on {topic}, not on {response_topic}"
            ));
        }
        if retained {
            return Match::Ignored(format!("a retained message on {topic} is no answer"));
        }
        let written = pending.written;
        if decoded.as_ref().is_ok_and(|answer| answer.body.code == ResultCode::SYSTEM_ERROR)
            && self.try_again(token, now, jitter)
        {
            return Match::TriedAgain;
        }
        let Some(request) = self.finish(token) else { return Match::TriedAgain };
        match decoded {
            Ok(answer) => {
                let round_trip = written.map(|written| now.saturating_sub(written));
                Match::Answered { request, answer: answer.body, round_trip }
            }
            Err(refused) => Match::Malformed { request, error: refused.error },
        }
    }

    /// Handles the broker's acknowledgement; `None` if the request has ended before.
    pub fn handle_acknowledgement(&mut self, token: u64, now: Duration) -> Option<Acknowledged<C>> {
        let pending = self.open.get_mut(&token)?;
        pending.is_held = false;
        pending.is_acknowledged = true;
        let is_first = !std::mem::replace(&mut pending.was_acknowledged, true);
        let round_trip = pending.written.map(|written| now.saturating_sub(written));
        let is_end = pending.response_topic.is_none();
        let finished = if is_end { self.finish(token).zip(Some(round_trip)) } else { None };
        Some(Acknowledged { is_first, finished })
    }

    /// When an attempt falls due next.
    pub fn next_deadline(&mut self) -> Option<Duration> {
        self.deadlines.first(&self.open)
    }

    /// When there is something to do next, though nothing arrives: an attempt falls due, a rest ends, or, with an open
    /// connection, the rate lets something leave.
    pub fn next_timeout(&mut self, is_connected: bool) -> Option<Duration> {
        let rested = self.resting.first().map(|(due, _)| *due);
        let may_leave = match &self.limiter {
            Some(limiter) if is_connected => Some(limiter.next()),
            _ => None,
        };
        let may_leave = may_leave.filter(|_| self.front().is_some());
        [self.next_deadline(), rested, may_leave].into_iter().flatten().min()
    }

    /// Queues rested requests, lets overdue ones with a retry left rest, and returns one that has timed out. To be called
    /// until it returns `None`. `jitter`, from 0 to 1, spreads retries.
    pub fn handle_timeout(&mut self, now: Duration, mut jitter: impl FnMut() -> f64) -> Option<TimedOut<C>> {
        while let Some(&(due, token)) = self.resting.first()
            && due <= now
        {
            self.resting.pop_first();
            self.enqueue(token);
        }
        while let Some(token) = self.deadlines.pop_due(now, &self.open) {
            if self.try_again(token, now, &mut jitter) {
                continue;
            }
            let Some(pending) = self.open.get(&token) else { continue };
            let is_answer_missing = pending.response_topic.is_some();
            let is_acknowledged = pending.is_acknowledged;
            if let Some(request) = self.finish(token) {
                return Some(TimedOut { request, is_answer_missing, is_acknowledged });
            }
        }
        None
    }

    /// Ends every open request, in the order of their making.
    pub fn drain(&mut self) -> impl Iterator<Item = Finished<C>> + use<C> {
        self.by_id.clear();
        self.behind.clear();
        self.queue.clear();
        self.deadlines.clear();
        self.resting.clear();
        let mut open: Vec<_> = self.open.drain().collect();
        open.sort_unstable_by_key(|(token, _)| *token);
        open.into_iter().map(|(_, pending)| pending.into())
    }

    /// Whether a request is to be tried again; it rests until then. One that rests or is queued already stays so.
    fn try_again(&mut self, token: u64, now: Duration, jitter: impl FnOnce() -> f64) -> bool {
        let Some(pending) = self.open.get_mut(&token) else { return false };
        if pending.state != RequestState::Waiting {
            // It was sent before, and this answer is to that; it is tried again in any case.
            return pending.attempts > 0;
        }
        if pending.attempts > self.retries {
            return false;
        }
        let longest = FIRST_REST.saturating_mul(1 << (pending.attempts - 1).min(16)).min(LONGEST_REST);
        let due = now + longest.mul_f64(0.5 + jitter() / 2.0);
        pending.state = RequestState::Resting(due);
        self.resting.insert((due, token));
        true
    }

    fn enqueue(&mut self, token: u64) {
        let Some(pending) = self.open.get_mut(&token) else { return };
        pending.state = RequestState::Queued;
        if !std::mem::replace(&mut pending.is_queued, true) {
            self.queue.push_back(token);
        }
    }

    /// Ends a request, and queues the next one with its id.
    fn finish(&mut self, token: u64) -> Option<Finished<C>> {
        let pending = self.open.remove(&token)?;
        if let RequestState::Resting(due) = pending.state {
            self.resting.remove(&(due, token));
        }
        if pending.response_topic.is_some() {
            self.by_id.remove(&pending.request_id);
            if !self.behind.is_empty()
                && let Entry::Occupied(mut queue) = self.behind.entry(Arc::clone(&pending.request_id))
            {
                let next = queue.get_mut().pop_front();
                if queue.get().is_empty() {
                    queue.remove();
                }
                if let Some(next) = next {
                    self.by_id.insert(Arc::clone(&pending.request_id), next);
                    self.enqueue(next);
                }
            }
        }
        Some(pending.into())
    }
}
