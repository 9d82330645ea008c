//! Pairs answers with requests: by `request_id` and response topic, in any order, each once.

use std::{
    collections::{VecDeque, hash_map::Entry},
    sync::Arc,
    time::Duration,
};

use crate::{
    hash::OwnKeys,
    protocol::{Answer, Envelope, FieldError},
};

/// What an arrived message was to the open requests.
#[derive(Debug, PartialEq, Eq)]
pub enum Heard {
    /// The answer to an open request, which is closed by it.
    Answer {
        /// The request's token.
        token: u64,
        /// What was answered.
        answer: Answer,
        /// The time since the request was first written; `None` if it never was, as far as is known.
        round_trip: Option<Duration>,
    },
    /// A message that names an open request and is no answer; the request is closed by it.
    Malformed {
        /// The request's token.
        token: u64,
        /// What is wrong with the message.
        error: FieldError,
    },
    /// An answer to none of the open requests: it comes late, again, or is another client's; in words.
    Stranger(String),
    /// Not an answer that counts; why, in words.
    Ignored(String),
}

/// A request whose answer did not come in time.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Overdue {
    /// The request's token.
    pub token: u64,
}

/// The open requests. A moment is a duration since any fixed origin of a monotonic clock.
#[derive(Debug)]
pub struct Requests {
    timeout: Duration,
    open: OwnKeys<Arc<str>, Open>,
    /// When each open request falls due, in the order of first writing, which is the order of the deadlines.
    deadlines: VecDeque<(Duration, u64, Arc<str>)>,
}

#[derive(Debug)]
struct Open {
    token: u64,
    response_topic: Arc<str>,
    written: Option<Duration>,
}

impl Requests {
    /// No open request yet; each answer may take `timeout`.
    #[must_use]
    pub fn new(timeout: Duration) -> Self {
        Self { timeout, open: OwnKeys::default(), deadlines: VecDeque::new() }
    }

    /// How many requests wait for their answers.
    #[must_use]
    pub fn len(&self) -> usize {
        self.open.len()
    }

    /// Whether no request waits for an answer.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.open.is_empty()
    }

    /// Opens a request; its clock does not run yet.
    ///
    /// Gives `false`, and opens nothing, where a request with the same id is open already: their answers could
    /// not be told apart.
    pub fn ask(&mut self, request_id: &Arc<str>, response_topic: &Arc<str>, token: u64) -> bool {
        match self.open.entry(Arc::clone(request_id)) {
            Entry::Occupied(_) => false,
            Entry::Vacant(place) => {
                place.insert(Open { token, response_topic: Arc::clone(response_topic), written: None });
                true
            }
        }
    }

    /// Whether a request with this id is open.
    #[must_use]
    pub fn is_open(&self, request_id: &str) -> bool {
        self.open.contains_key(request_id)
    }

    /// Starts a request's clock, the first time that it is written; later times change nothing, so that an
    /// outage does not prolong the wait.
    pub fn written(&mut self, request_id: &Arc<str>, now: Duration) {
        if let Some(open) = self.open.get_mut(request_id)
            && open.written.is_none()
        {
            open.written = Some(now);
            self.deadlines.push_back((now + self.timeout, open.token, Arc::clone(request_id)));
            // One request without an answer must not make all those after it stay.
            if self.deadlines.len() > 2 * self.open.len() + 64 {
                let open = &self.open;
                self.deadlines.retain(|(_, token, id)| open.get(id).is_some_and(|open| open.token == *token));
            }
        }
    }

    /// Closes a request without an answer; gives whether it was open.
    pub fn close(&mut self, request_id: &str) -> bool {
        self.open.remove(request_id).is_some()
    }

    /// Takes an arrived message and says what it is to the open requests.
    ///
    /// An answer counts only on the request's own response topic, not retained, with an integer code.
    pub fn hear(&mut self, topic: &str, payload: &[u8], retained: bool, now: Duration) -> Heard {
        let decoded = Envelope::<Answer>::decode(payload);
        let request_id = match &decoded {
            Ok(answer) => answer.request_id.as_str(),
            Err(refused) => match &refused.request_id {
                Some(id) => id,
                None => return Heard::Ignored(format!("not an answer on {topic}: {refused}")),
            },
        };
        let Some(open) = self.open.get(request_id) else {
            return Heard::Stranger(format!("on {topic}, request_id {request_id:?} is of no open request"));
        };
        if *open.response_topic != *topic {
            return Heard::Ignored(format!(
                "request_id {request_id:?} came on {topic}, not on {}",
                open.response_topic
            ));
        }
        if retained {
            return Heard::Ignored(format!("a retained message on {topic} is no answer"));
        }
        let (token, written) = (open.token, open.written);
        self.open.remove(request_id);
        match decoded {
            Ok(answer) => {
                let round_trip = written.map(|written| now.saturating_sub(written));
                Heard::Answer { token, answer: answer.body, round_trip }
            }
            Err(refused) => Heard::Malformed { token, error: refused.error },
        }
    }

    /// When the next open request falls due.
    pub fn deadline(&mut self) -> Option<Duration> {
        while let Some((due, token, request_id)) = self.deadlines.front() {
            if self.open.get(request_id).is_some_and(|open| open.token == *token) {
                return Some(*due);
            }
            self.deadlines.pop_front();
        }
        None
    }

    /// Takes one request whose answer is overdue; it is closed.
    pub fn overdue(&mut self, now: Duration) -> Option<Overdue> {
        if self.deadline()? > now {
            return None;
        }
        let (_, token, request_id) = self.deadlines.pop_front()?;
        self.open.remove(&request_id);
        Some(Overdue { token })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::protocol::ResultCode;

    const TOPIC: &str = "gateway_id/gw1/properties/report/response";

    fn seconds(seconds: u64) -> Duration {
        Duration::from_secs(seconds)
    }

    fn asked(ids: &[&str]) -> Requests {
        let mut requests = Requests::new(seconds(10));
        for (token, id) in (0..).zip(ids) {
            let id = (*id).into();
            assert!(requests.ask(&id, &TOPIC.into(), token));
            requests.written(&id, seconds(token));
        }
        requests
    }

    fn answer(id: &str, code: &str) -> Vec<u8> {
        format!(r#"{{"t":1,"request_id":"{id}","param":{{"cid":"m1","msg":"m","code":{code}}}}}"#)
            .into_bytes()
    }

    #[test]
    fn answers_find_their_requests_in_any_order_and_count_once() {
        let mut requests = asked(&["a", "b"]);
        let heard = requests.hear(TOPIC, &answer("b", "2003"), false, seconds(3));
        let Heard::Answer { token: 1, answer: found, round_trip } = heard else { panic!("{heard:?}") };
        assert_eq!((found.code, round_trip), (ResultCode::DEVICE_UNKNOWN, Some(seconds(2))));
        assert!(matches!(requests.hear(TOPIC, &answer("b", "0"), false, seconds(3)), Heard::Stranger(_)));
        assert!(matches!(
            requests.hear(TOPIC, &answer("a", "0"), false, seconds(3)),
            Heard::Answer { token: 0, .. }
        ));
        assert!(requests.is_empty());
    }

    #[test]
    fn what_does_not_count_leaves_the_request_open() {
        let mut requests = asked(&["a"]);
        let ignored = |heard| matches!(heard, Heard::Ignored(_) | Heard::Stranger(_));
        assert!(ignored(requests.hear(
            "gateway_id/gw1/devices/sync/response",
            &answer("a", "0"),
            false,
            seconds(1)
        )));
        assert!(ignored(requests.hear(TOPIC, &answer("a", "0"), true, seconds(1))));
        assert!(ignored(requests.hear(TOPIC, &answer("x", "0"), false, seconds(1))));
        assert!(ignored(requests.hear(TOPIC, b"not json", false, seconds(1))));
        assert_eq!(requests.len(), 1);
    }

    #[test]
    fn another_shape_that_names_our_request_is_malformed() {
        let mut requests = asked(&["a"]);
        let heard = requests.hear(TOPIC, &answer("a", "\"0\""), false, seconds(1));
        let Heard::Malformed { token: 0, error } = heard else { panic!("{heard:?}") };
        assert_eq!(error.field, "param.code");
        assert!(requests.is_empty());
    }

    #[test]
    fn the_clock_of_an_answer_starts_once() {
        let mut requests = asked(&["a", "b"]);
        requests.written(&"a".into(), seconds(9));
        assert_eq!(requests.deadline(), Some(seconds(10)));
        assert_eq!(requests.overdue(seconds(9)), None);
        assert_eq!(requests.overdue(seconds(10)), Some(Overdue { token: 0 }));
        assert!(!requests.is_open("a"));
        assert_eq!(requests.overdue(seconds(10)), None);
        requests.close("b");
        assert_eq!(requests.deadline(), None);
    }

    #[test]
    fn one_request_that_waits_makes_no_others_stay() {
        let mut requests = asked(&["waits"]);
        for token in 1..1000 {
            let id = format!("r{token}").as_str().into();
            assert!(requests.ask(&id, &TOPIC.into(), token));
            requests.written(&id, seconds(1));
            assert!(matches!(
                requests.hear(TOPIC, &answer(&id, "0"), false, seconds(1)),
                Heard::Answer { .. }
            ));
        }
        assert!(requests.deadlines.len() < 100, "{}", requests.deadlines.len());
        assert_eq!(requests.overdue(seconds(10)), Some(Overdue { token: 0 }));
    }

    #[test]
    fn two_open_requests_cannot_share_an_id() {
        let mut requests = asked(&["a"]);
        assert!(!requests.ask(&"a".into(), &TOPIC.into(), 7));
    }
}
