//! Compares arriving answers with recorded ones. Pure: times and ids are arguments.

use std::{
    borrow::Cow,
    collections::{HashMap, VecDeque},
    time::Duration,
};

use crate::{recording::RewritableFields, tuya::Channel};

/// How a request's answers differ from the recorded ones.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Difference {
    /// The request.
    pub request: RequestSummary,
    /// `code`, `missing` or `extra`.
    pub kind: &'static str,
    /// The recorded code.
    pub expected: Option<i64>,
    /// The code that came.
    pub code: Option<i64>,
}

/// A request, as its result line names it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RequestSummary {
    /// Its place among the messages sent, from 0.
    pub index: u64,
    /// Its line in the recording.
    pub line: u64,
    /// Its channel; `None` outside the protocol.
    pub channel: Option<Channel>,
    /// The gateway that sends or receives it.
    pub gateway_id: String,
    /// The device.
    pub cid: Option<String>,
    /// The id that it was sent with.
    pub id: Option<String>,
}

impl RequestSummary {
    /// Describes a message; the device and the id are read from it.
    #[must_use]
    pub fn of(index: u64, line: u64, channel: Option<Channel>, gateway_id: &str, payload: &[u8]) -> Self {
        let splice = RewritableFields::of(payload).unwrap_or_default();
        Self {
            index,
            line,
            channel,
            gateway_id: gateway_id.to_owned(),
            cid: splice.cid(payload).map(Cow::into_owned),
            id: splice.request_id(payload).map(Cow::into_owned),
        }
    }
}

/// The gateway and the request id of an answer, as they are sent now.
pub type AnswerKey = (String, String);

/// Requests whose answers are compared.
#[derive(Debug)]
pub struct Verify {
    timeout: Duration,
    open: HashMap<AnswerKey, AwaitedRequest>,
    order: VecDeque<AnswerKey>,
    unsatisfied: usize,
    last_sent: Duration,
    matched: u64,
}

#[derive(Debug)]
struct AwaitedRequest {
    request: RequestSummary,
    /// When it was recorded.
    offset: Duration,
    sent: Duration,
    expected: Vec<i64>,
    came: Vec<i64>,
}

impl AwaitedRequest {
    fn is_satisfied(&self) -> bool {
        self.came.len() >= self.expected.len()
    }
}

impl Verify {
    /// No requests yet. An answer may take this long, in the recording and now.
    #[must_use]
    pub fn new(timeout: Duration) -> Self {
        Self {
            timeout,
            open: HashMap::new(),
            order: VecDeque::new(),
            unsatisfied: 0,
            last_sent: Duration::ZERO,
            matched: 0,
        }
    }

    /// Adds a request that is sent, and was recorded at this offset.
    pub fn insert(&mut self, key: AnswerKey, request: RequestSummary, offset: Duration, now: Duration) {
        self.last_sent = self.last_sent.max(now);
        if let Some(again) = self.open.get_mut(&key) {
            again.sent = now;
            return;
        }
        self.order.push_back(key.clone());
        self.open.insert(
            key,
            AwaitedRequest { request, offset, sent: now, expected: Vec::new(), came: Vec::new() },
        );
    }

    /// Handles a recorded answer with this code. Ignores one to a request that was not sent.
    pub fn handle_recorded_answer(&mut self, key: &AnswerKey, code: i64) {
        self.change(key, |pair| pair.expected.push(code));
    }

    /// Handles an arriving answer. Returns whether it is one to a request that was sent.
    pub fn handle_answer(&mut self, key: &AnswerKey, code: i64) -> bool {
        self.change(key, |pair| pair.came.push(code))
    }

    fn change(&mut self, key: &AnswerKey, change: impl FnOnce(&mut AwaitedRequest)) -> bool {
        let Some(pair) = self.open.get_mut(key) else { return false };
        let before = pair.is_satisfied();
        change(pair);
        match (before, pair.is_satisfied()) {
            (true, false) => self.unsatisfied += 1,
            (false, true) => self.unsatisfied -= 1,
            _ => {}
        }
        true
    }

    /// Returns the differences of requests that are over: both in the recording, at this offset, and now.
    pub fn poll_differences(&mut self, offset: Duration, now: Duration) -> Vec<Difference> {
        let mut differences = Vec::new();
        while let Some(key) = self.order.front() {
            if let Some(pair) = self.open.get(key) {
                let is_recorded = offset > pair.offset.saturating_add(self.timeout);
                let is_over = pair.is_satisfied() || now > pair.sent + self.timeout;
                if !(is_recorded && is_over) {
                    break;
                }
            }
            if let Some(key) = self.order.pop_front() {
                self.close(&key, &mut differences);
            }
        }
        differences
    }

    /// Returns whether all recorded answers have come.
    #[must_use]
    pub fn is_satisfied(&self) -> bool {
        self.unsatisfied == 0
    }

    /// Returns until when to wait for answers, once everything is sent.
    #[must_use]
    pub fn deadline(&self) -> Duration {
        self.last_sent + self.timeout
    }

    /// Ends all requests, and returns their differences.
    pub fn finish(&mut self) -> Vec<Difference> {
        let mut differences = Vec::new();
        while let Some(key) = self.order.pop_front() {
            self.close(&key, &mut differences);
        }
        differences
    }

    /// Returns how many answers were as recorded.
    #[must_use]
    pub fn matched(&self) -> u64 {
        self.matched
    }

    fn close(&mut self, key: &AnswerKey, differences: &mut Vec<Difference>) {
        let Some(pair) = self.open.remove(key) else { return };
        if !pair.is_satisfied() {
            self.unsatisfied -= 1;
        }
        for n in 0..pair.expected.len().max(pair.came.len()) {
            let (expected, code) = (pair.expected.get(n).copied(), pair.came.get(n).copied());
            let kind = match (expected, code) {
                (Some(expected), Some(code)) if expected == code => {
                    self.matched += 1;
                    continue;
                }
                (Some(_), Some(_)) => "code",
                (Some(_), None) => "missing",
                (None, _) => "extra",
            };
            differences.push(Difference { request: pair.request.clone(), kind, expected, code });
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn seconds(seconds: u64) -> Duration {
        Duration::from_secs(seconds)
    }

    fn key(id: &str) -> AnswerKey {
        ("gw1".into(), id.into())
    }

    fn verify_with(ids: &[&str]) -> Verify {
        let mut verify = Verify::new(seconds(10));
        for (index, id) in (0..).zip(ids) {
            let request = RequestSummary {
                index,
                line: index + 1,
                channel: Some(Channel::Report),
                gateway_id: "gw1".into(),
                cid: None,
                id: Some((*id).to_owned()),
            };
            verify.insert(key(id), request, seconds(index), seconds(index));
        }
        verify
    }

    fn summaries(differences: Vec<Difference>) -> Vec<(u64, &'static str, Option<i64>, Option<i64>)> {
        differences.into_iter().map(|d| (d.request.index, d.kind, d.expected, d.code)).collect()
    }

    #[test]
    fn answers_are_compared_in_any_order_of_recording_and_coming() {
        let mut verify = verify_with(&["same", "other", "missing", "extra", "silent", "twice"]);
        assert!(verify.handle_answer(&key("same"), 0));
        verify.handle_recorded_answer(&key("same"), 0);
        verify.handle_recorded_answer(&key("other"), 0);
        verify.handle_recorded_answer(&key("missing"), 2003);
        verify.handle_recorded_answer(&key("twice"), 0);
        assert!(!verify.is_satisfied());
        for (id, code) in [("other", 1103), ("extra", 0), ("twice", 0), ("twice", 0)] {
            assert!(verify.handle_answer(&key(id), code));
        }
        assert!(!verify.handle_answer(&key("stranger"), 0));
        assert!(!verify.is_satisfied());
        assert_eq!(verify.deadline(), seconds(15));
        assert_eq!(
            summaries(verify.finish()),
            [
                (1, "code", Some(0), Some(1103)),
                (2, "missing", Some(2003), None),
                (3, "extra", None, Some(0)),
                (5, "extra", None, Some(0))
            ]
        );
        assert_eq!(verify.matched(), 2);
        assert!(verify.is_satisfied());
    }

    #[test]
    fn a_request_is_over_once_both_its_times_are_over() {
        let mut verify = verify_with(&["a", "b"]);
        verify.handle_recorded_answer(&key("a"), 0);
        assert_eq!(summaries(verify.poll_differences(seconds(10), seconds(30))), []);
        assert_eq!(summaries(verify.poll_differences(seconds(11), seconds(9))), []);
        assert_eq!(
            summaries(verify.poll_differences(seconds(11), seconds(11))),
            [(0, "missing", Some(0), None)]
        );
        assert!(verify.is_satisfied());
        verify.handle_answer(&key("b"), 7);
        assert_eq!(
            summaries(verify.poll_differences(seconds(12), seconds(2))),
            [(1, "extra", None, Some(7))]
        );
    }
}
