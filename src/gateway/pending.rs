//! The requests of one connection from their making to their end: when each is sent, sent again, answered, tried again
//! or overdue.
//!
//! A request is queued until the rate lets it leave, then waits for its answer, and may rest before it is tried again.
//! Its answer counts in each of these states. Deadlines belong to an attempt, so that no attempt inherits the one of the
//! attempt before.

use std::{
    collections::{BTreeSet, HashMap, VecDeque, hash_map::Entry},
    sync::Arc,
    time::Duration,
};

use crate::{
    collections::{FastMap, IdMap},
    rate::{Rate, RateLimiter},
    tuya::{Answer, Envelope, FieldError, ResultCode},
};

/// How long a request rests before it is tried again, at first and at most; the rests in between double.
const FIRST_REST: Duration = Duration::from_millis(500);
const LONGEST_REST: Duration = Duration::from_secs(30);
/// How many connections a message may cost before it is given up.
const MOST_LOSSES: u32 = 3;
/// How much of a text that a peer chose a warning repeats.
const LONGEST_EXCERPT: usize = 100;

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
    /// What is to be sent, in order; an entry whose request needs no sending any more is passed over.
    queue: VecDeque<u64>,
    /// When each attempt falls due, in the order of first writing; an entry of an earlier attempt is passed over.
    deadlines: VecDeque<Deadline>,
    /// What rests before it is tried again.
    resting: BTreeSet<(Duration, u64)>,
    next_token: u64,
}

#[derive(Debug)]
struct Deadline {
    due: Duration,
    token: u64,
    attempt: u32,
}

#[derive(Debug)]
struct PendingRequest<C> {
    context: C,
    request_id: Arc<str>,
    /// Where it is answered; `None` where its acknowledgement is the end of it.
    response_topic: Option<Arc<str>>,
    state: RequestState,
    /// How often it was sent, repetitions after a loss not counted.
    attempts: u32,
    /// When the latest attempt was first written.
    written: Option<Duration>,
    /// Whether it has an entry in the queue.
    is_queued: bool,
    /// Whether the MQTT session holds it, to send it again by itself.
    is_held: bool,
    /// Whether the broker has acknowledged it since it was last sent, and whether it ever has.
    is_acknowledged: bool,
    was_acknowledged: bool,
    /// How many connections were lost after it was sent and before it was acknowledged.
    losses: u32,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum RequestState {
    /// Another request with its id is open.
    Behind,
    /// To be sent, for the first time or again.
    Queued,
    /// Sent; its deadline runs.
    Waiting,
    /// To be tried again at this moment.
    Resting(Duration),
}

/// A message that is to be sent now.
#[derive(Debug)]
pub struct Sending<'a, C> {
    /// The request's token.
    pub token: u64,
    /// How often it was tried, this time included.
    pub attempt: u32,
    /// Whether this begins an attempt, rather than repeats one after a loss.
    pub is_first: bool,
    /// What the caller keeps with it.
    pub context: &'a mut C,
}

/// A request that has come to its end.
#[derive(Debug)]
pub struct Finished<C> {
    /// What the caller kept with it.
    pub context: C,
    /// Its request id.
    pub request_id: Arc<str>,
    /// How often it was sent, repetitions after a loss not counted.
    pub attempts: u32,
}

/// What an arrived message is to the open requests.
#[derive(Debug)]
pub enum Match<C> {
    /// The answer to a request, which ends with it.
    Answered {
        /// The request.
        request: Finished<C>,
        /// What was answered.
        answer: Answer,
        /// The time since the latest attempt was first written; `None` if none was, as far as is known.
        round_trip: Option<Duration>,
    },
    /// A system error as answer to a request that is tried again.
    TriedAgain,
    /// A message that names a request and is no answer; the request ends with it.
    Malformed {
        /// The request.
        request: Finished<C>,
        /// What is wrong with the message.
        error: FieldError,
    },
    /// An answer to none of the open requests: it comes late, again, or is another client's; in words.
    Unmatched(String),
    /// Not an answer that counts; why, in words.
    Ignored(String),
}

/// What the broker's acknowledgement is to an open request.
#[derive(Debug)]
pub struct Acknowledged<C> {
    /// Whether this is the first one of this request.
    pub is_first: bool,
    /// The request, where this is the end of it, and the time since its latest attempt was first written.
    pub finished: Option<(Finished<C>, Option<Duration>)>,
}

/// A request without an answer, or an acknowledgement, in time, which ends with it.
#[derive(Debug)]
pub struct TimedOut<C> {
    /// The request.
    pub request: Finished<C>,
    /// Whether it waited for an answer, rather than for an acknowledgement alone.
    pub is_answer_missing: bool,
    /// Whether the broker had acknowledged it.
    pub is_acknowledged: bool,
}

impl<C> PendingRequests<C> {
    /// No open request; an answer, or an acknowledgement where there is no answer, may take `timeout`.
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
            deadlines: VecDeque::new(),
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

    /// Whether something has left whose end is not known, requests that rest not counted.
    #[must_use]
    pub fn has_written(&self) -> bool {
        self.open.values().any(|pending| pending.state == RequestState::Waiting)
    }

    /// Adds a request, to be sent once it is its turn, and once no other request with its id is open. Without a
    /// response topic its acknowledgement is the end of it.
    pub fn insert(&mut self, request_id: Arc<str>, response_topic: Option<Arc<str>>, context: C) {
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

    /// When [`PendingRequests::has_turn`] may say so next; `None` where that is not for the rate to say.
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
            self.deadlines.push_back(Deadline { due: now + self.timeout, token, attempt });
            // One request without an answer must not make all entries after it stay.
            if self.deadlines.len() > 2 * self.open.len() + 64 {
                let open = &self.open;
                self.deadlines.retain(|deadline| deadline.is_valid(open));
            }
        }
        let pending = self.open.get_mut(&token)?;
        Some(Sending { token, attempt: pending.attempts, is_first, context: &mut pending.context })
    }

    /// The first token of the queue whose request is to be sent.
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

    /// Takes note of a lost connection. Ends the first request of those that look as if the broker closed the connection
    /// because of them: `is_suspect` says so of each, and several connections in turn have not survived it.
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

    /// Takes an arrived message and says what it is to the open requests; `jitter`, from 0 to 1, spreads retries.
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

    /// Takes the broker's acknowledgement; `None` where the request has come to its end before.
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
        while let Some(deadline) = self.deadlines.front() {
            if deadline.is_valid(&self.open) {
                return Some(deadline.due);
            }
            self.deadlines.pop_front();
        }
        None
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

    /// Queues what has rested, lets rest what is overdue and is tried again, and gives one request that has ended
    /// overdue; to be called until there is none. `jitter`, from 0 to 1, spreads retries.
    pub fn handle_timeout(&mut self, now: Duration, mut jitter: impl FnMut() -> f64) -> Option<TimedOut<C>> {
        while let Some(&(due, token)) = self.resting.first()
            && due <= now
        {
            self.resting.pop_first();
            self.enqueue(token);
        }
        while self.next_deadline().is_some_and(|due| due <= now) {
            let Some(Deadline { token, .. }) = self.deadlines.pop_front() else { break };
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

impl<C> From<PendingRequest<C>> for Finished<C> {
    fn from(PendingRequest { context, request_id, attempts, .. }: PendingRequest<C>) -> Self {
        Self { context, request_id, attempts }
    }
}

impl Deadline {
    fn is_valid<C>(&self, open: &IdMap<u64, PendingRequest<C>>) -> bool {
        open.get(&self.token)
            .is_some_and(|pending| pending.state == RequestState::Waiting && pending.attempts == self.attempt)
    }
}

/// The beginning of a text that a peer chose, quoted, for a warning.
#[must_use]
pub fn excerpt(text: &str) -> String {
    match text.char_indices().nth(LONGEST_EXCERPT) {
        None => format!("{text:?}"),
        Some((end, _)) => format!("{:?} and {} bytes more", &text[..end], text.len() - end),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const TOPIC: &str = "gateway_id/gw1/properties/report/response";

    fn ms(ms: u64) -> Duration {
        Duration::from_millis(ms)
    }

    /// Requests with these ids, which are their contexts too; each has two seconds.
    fn requests(ids: &[&'static str], retries: u32) -> PendingRequests<&'static str> {
        let mut requests = PendingRequests::new(ms(2000));
        requests.set_retries(retries);
        for id in ids {
            requests.insert((*id).into(), Some(TOPIC.into()), *id);
        }
        requests
    }

    /// Sends all that may leave; gives it, each with its attempt.
    fn send(requests: &mut PendingRequests<&'static str>, now: u64) -> Vec<(&'static str, u32)> {
        std::iter::from_fn(|| requests.next_to_send(ms(now)).map(|sent| (*sent.context, sent.attempt)))
            .collect()
    }

    fn payload(id: &str, code: &str) -> Vec<u8> {
        format!(r#"{{"t":1,"request_id":"{id}","param":{{"cid":"m1","msg":"m","code":{code}}}}}"#)
            .into_bytes()
    }

    /// Hears an answer; retries come after the shortest rest.
    fn hear(
        requests: &mut PendingRequests<&'static str>,
        id: &str,
        code: &str,
        now: u64,
    ) -> Match<&'static str> {
        requests.handle_message(TOPIC, &payload(id, code), false, ms(now), || 0.0)
    }

    /// Who is overdue; retries come after the shortest rest.
    fn overdue(requests: &mut PendingRequests<&'static str>, now: u64) -> Vec<(&'static str, u32)> {
        std::iter::from_fn(|| requests.handle_timeout(ms(now), || 0.0))
            .map(|overdue| (overdue.request.context, overdue.request.attempts))
            .collect()
    }

    #[test]
    fn answers_find_their_requests_in_any_order_and_count_once() {
        let mut requests = requests(&["a", "b"], 0);
        assert_eq!(send(&mut requests, 1000), [("a", 1), ("b", 1)]);
        let found = hear(&mut requests, "b", "2003", 1300);
        let Match::Answered { request, answer, round_trip } = found else { panic!("{found:?}") };
        assert_eq!((request.context, answer.code), ("b", ResultCode::DEVICE_UNKNOWN));
        assert_eq!((request.attempts, round_trip), (1, Some(ms(300))));
        assert!(matches!(hear(&mut requests, "b", "0", 1300), Match::Unmatched(_)));
        assert!(matches!(hear(&mut requests, "a", "0", 1300), Match::Answered { .. }));
        assert!(requests.is_empty() && !requests.has_answers_to_come());
    }

    #[test]
    fn what_does_not_count_leaves_the_request_open() {
        let mut requests = requests(&["a"], 0);
        let ignored = |heard| matches!(heard, Match::Ignored(_) | Match::Unmatched(_));
        let mut hear = |topic, payload: &[u8], retained| {
            ignored(requests.handle_message(topic, payload, retained, ms(1), || 0.0))
        };
        assert!(hear("gateway_id/gw1/devices/sync/response", &payload("a", "0"), false));
        assert!(hear(TOPIC, &payload("a", "0"), true));
        assert!(hear(TOPIC, &payload("x", "0"), false));
        assert!(hear(TOPIC, b"not json", false));
        assert_eq!(requests.len(), 1);
    }

    #[test]
    fn another_shape_that_names_our_request_is_malformed() {
        let mut requests = requests(&["a", "b"], 9);
        let found = hear(&mut requests, "a", "\"0\"", 1);
        let Match::Malformed { request, error } = found else { panic!("{found:?}") };
        assert_eq!((request.context, error.field.as_str()), ("a", "param.code"));
        assert_eq!(requests.len(), 1);
    }

    /// The request "old" is never answered, so that entries of the other one's first attempt stay behind its own.
    #[test]
    fn a_retry_has_a_deadline_of_its_own() {
        let mut requests = requests(&["old", "tried"], 1);
        assert_eq!(send(&mut requests, 0), [("old", 1), ("tried", 1)]);
        assert!(matches!(hear(&mut requests, "tried", "500", 1200), Match::TriedAgain));
        assert_eq!(overdue(&mut requests, 1450), []);
        assert_eq!(send(&mut requests, 1450), [("tried", 2)]);
        // The first attempt of both is overdue now, and only "old" waits for its first one.
        assert_eq!(overdue(&mut requests, 2000), []);
        assert_eq!(requests.next_deadline(), Some(ms(3450)));
        let found = hear(&mut requests, "tried", "0", 3000);
        let Match::Answered { request, round_trip, .. } = found else { panic!("{found:?}") };
        assert_eq!((request.context, request.attempts, round_trip), ("tried", 2, Some(ms(1550))));
        assert_eq!(overdue(&mut requests, 2250), []);
        assert_eq!(send(&mut requests, 2250), [("old", 2)]);
        assert_eq!(overdue(&mut requests, 4250), [("old", 2)]);
        assert_eq!(requests.next_timeout(true), None);
    }

    #[test]
    fn an_answer_counts_while_its_request_rests_or_is_queued_again() {
        let mut requests = requests(&["a", "b", "c"], 3);
        assert_eq!(send(&mut requests, 0).len(), 3);
        assert_eq!(overdue(&mut requests, 2000), []);
        assert!(!requests.has_written(), "all of them rest");
        // It rests.
        let found = hear(&mut requests, "a", "0", 2100);
        let Match::Answered { request, round_trip, .. } = found else { panic!("{found:?}") };
        assert_eq!((request.attempts, round_trip), (1, Some(ms(2100))));
        // A late system error changes nothing: it is tried again in any case.
        assert!(matches!(hear(&mut requests, "b", "500", 2100), Match::TriedAgain));
        // Its rest is over, and it waits for the connection.
        assert_eq!(overdue(&mut requests, 2250), []);
        assert!(matches!(hear(&mut requests, "c", "0", 2300), Match::Answered { .. }));
        assert_eq!(send(&mut requests, 2300), [("b", 2)]);
        assert_eq!((requests.len(), requests.next_timeout(true)), (1, Some(ms(4300))));
    }

    #[test]
    fn retries_end_and_rest_longer_each_time() {
        let mut requests = requests(&["a"], 2);
        assert_eq!(send(&mut requests, 0), [("a", 1)]);
        assert_eq!(overdue(&mut requests, 2000), []);
        assert_eq!(requests.next_timeout(true), Some(ms(2250)));
        assert_eq!(overdue(&mut requests, 2250), []);
        assert_eq!(send(&mut requests, 2250), [("a", 2)]);
        assert!(matches!(hear(&mut requests, "a", "500", 2250), Match::TriedAgain));
        assert_eq!(requests.next_timeout(true), Some(ms(2750)));
        assert_eq!(overdue(&mut requests, 2750), []);
        assert_eq!(send(&mut requests, 2750), [("a", 3)]);
        let found = hear(&mut requests, "a", "500", 2800);
        assert!(matches!(found, Match::Answered { ref request, .. } if request.attempts == 3), "{found:?}");
    }

    #[test]
    fn the_clock_of_an_attempt_starts_once() {
        let mut requests = requests(&["a", "b"], 0);
        assert_eq!(send(&mut requests, 0).len(), 2);
        assert_eq!(requests.handle_connected(|_| false), 2);
        let again = requests.next_to_send(ms(1500)).map(|sent| (*sent.context, sent.is_first));
        assert_eq!(again, Some(("a", false)));
        assert_eq!(requests.next_deadline(), Some(ms(2000)));
        assert_eq!(overdue(&mut requests, 1999), []);
        assert_eq!(overdue(&mut requests, 2000), [("a", 1), ("b", 1)]);
        assert_eq!(send(&mut requests, 2000), [], "what has ended is not sent again");
    }

    #[test]
    fn a_kept_session_sends_again_by_itself_what_is_unacknowledged() {
        let mut requests = requests(&["a", "b", "c"], 0);
        assert_eq!(send(&mut requests, 0).len(), 3);
        let acknowledged = requests.handle_acknowledgement(1, ms(1)).unwrap();
        assert!(acknowledged.is_first && acknowledged.finished.is_none());
        // "b" was acknowledged, and has no answer.
        assert_eq!(requests.handle_connected(|_| true), 3);
        assert_eq!(send(&mut requests, 10), [("b", 1)]);
        assert!(!requests.handle_acknowledgement(1, ms(11)).unwrap().is_first);
        assert_eq!(requests.handle_connected(|_| false), 3);
        assert_eq!(send(&mut requests, 20), [("a", 1), ("b", 1), ("c", 1)]);
    }

    #[test]
    fn what_costs_connection_after_connection_is_given_up_alone() {
        let mut requests = requests(&["small", "first", "second"], 0);
        assert_eq!(send(&mut requests, 0).len(), 3);
        for _ in 0..2 {
            assert!(requests.handle_disconnected(|id| *id != "small").is_none());
            assert_eq!(requests.handle_connected(|_| false), 3);
            assert_eq!(send(&mut requests, 1).len(), 3);
        }
        let given_up = requests.handle_disconnected(|id| *id != "small").map(|request| request.context);
        assert_eq!(given_up, Some("first"));
        assert_eq!(requests.handle_connected(|_| false), 2);
        assert_eq!(send(&mut requests, 2).len(), 2);
        // What the broker has taken has no part in a loss.
        assert!(requests.handle_acknowledgement(2, ms(3)).is_some());
        assert!(requests.handle_disconnected(|id| *id != "small").is_none());
    }

    #[test]
    fn the_rate_holds_for_first_messages_retries_and_repetitions() {
        let mut requests = requests(&["a", "b", "c", "d"], 5);
        requests.set_rate("10/s".parse().unwrap());
        let mut sent = Vec::new();
        for now in 0..10_000 {
            overdue(&mut requests, now);
            for (id, _) in send(&mut requests, now) {
                sent.push(now);
                // One is never answered, one is cut off, and the others fail.
                match id {
                    "a" => {}
                    "b" => drop(requests.handle_connected(|_| false)),
                    _ => assert!(!matches!(hear(&mut requests, id, "500", now), Match::Unmatched(_))),
                }
            }
        }
        assert!(sent.len() > 30, "{}", sent.len());
        for second in sent.windows(11) {
            assert!(second[10] - second[0] >= 970, "{second:?}");
        }
    }

    #[test]
    fn a_queue_keeps_what_is_new_from_its_turn() {
        let mut requests = requests(&["a"], 0);
        requests.set_rate("10/s".parse().unwrap());
        assert!(!requests.has_turn(ms(0)));
        assert_eq!(requests.next_turn(), None);
        assert_eq!(requests.next_timeout(false), None);
        assert_eq!(requests.next_timeout(true), Some(ms(0)));
        assert_eq!(send(&mut requests, 0), [("a", 1)]);
        assert!(!requests.has_turn(ms(99)) && requests.has_turn(ms(100)));
        assert_eq!(requests.next_turn(), Some(ms(100)));
    }

    #[test]
    fn requests_with_one_id_follow_each_other() {
        let mut requests = requests(&["same", "same", "other", "same"], 1);
        assert_eq!(send(&mut requests, 0), [("same", 1), ("other", 1)]);
        assert!(matches!(hear(&mut requests, "same", "500", 1), Match::TriedAgain));
        assert_eq!(send(&mut requests, 2), [], "the first one rests, and is still the one with this id");
        assert_eq!(overdue(&mut requests, 251), []);
        assert_eq!(send(&mut requests, 251), [("same", 2)]);
        assert!(matches!(hear(&mut requests, "same", "0", 252), Match::Answered { .. }));
        assert_eq!(send(&mut requests, 253), [("same", 1)]);
        assert!(matches!(hear(&mut requests, "same", "0", 254), Match::Answered { .. }));
        assert_eq!(send(&mut requests, 255), [("same", 1)]);
        assert_eq!(requests.drain().map(|ended| ended.context).collect::<Vec<_>>(), ["other", "same"]);
        assert!(requests.is_empty() && requests.next_timeout(true).is_none());
    }

    #[test]
    fn what_nobody_answers_ends_with_its_acknowledgement() {
        let mut requests = PendingRequests::new(ms(2000));
        requests.set_retries(1);
        for context in ["a", "b", "c"] {
            requests.insert("id".into(), None, context);
        }
        assert_eq!(send(&mut requests, 0).len(), 3);
        let acknowledged = requests.handle_acknowledgement(0, ms(7)).unwrap();
        let (finished, round_trip) = acknowledged.finished.unwrap();
        assert_eq!((finished.context, round_trip), ("a", Some(ms(7))));
        assert!(requests.handle_acknowledgement(0, ms(8)).is_none());
        assert_eq!(overdue(&mut requests, 2000), []);
        // An acknowledgement counts while its message rests.
        assert!(requests.handle_acknowledgement(1, ms(2100)).unwrap().finished.is_some());
        assert_eq!(overdue(&mut requests, 2250), []);
        assert_eq!(send(&mut requests, 2250), [("c", 2)]);
        let late = requests.handle_timeout(ms(4250), || 0.0).unwrap();
        assert!(!late.is_answer_missing && !late.is_acknowledged);
    }

    #[test]
    fn one_request_that_waits_makes_no_entries_of_others_stay() {
        let mut requests = requests(&["waits"], 0);
        send(&mut requests, 0);
        for n in 1..1000 {
            requests.insert(format!("r{n}").into(), Some(TOPIC.into()), "other");
            assert_eq!(send(&mut requests, 1).len(), 1);
            assert!(matches!(hear(&mut requests, &format!("r{n}"), "0", 1), Match::Answered { .. }));
        }
        assert!(requests.deadlines.len() < 100, "{}", requests.deadlines.len());
        assert!(requests.queue.is_empty() && requests.by_id.len() == 1);
        assert_eq!(overdue(&mut requests, 2000), [("waits", 1)]);
    }

    #[test]
    fn a_warning_repeats_the_beginning_of_a_long_id_only() {
        let mut requests = requests(&["a"], 0);
        let Match::Unmatched(warning) = hear(&mut requests, &"é".repeat(500_000), "0", 0) else { panic!() };
        assert!(warning.len() < 400, "{}", warning.len());
        assert!(warning.contains("999800 bytes more"), "{warning}");
    }
}
