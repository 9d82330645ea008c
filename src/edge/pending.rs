//! Commands on their way: what the platform asked a gateway to do and waits to hear about.

use std::{
    collections::{BTreeMap, HashMap},
    time::Duration,
};

use serde_json::value::RawValue;

use crate::protocol::{GatewayId, ResultCode};

/// A command that somebody wants sent: the input of `edge` and of `command`.
#[derive(Clone, Debug)]
pub struct Ask {
    /// The asker's own number for it, which the result carries.
    pub token: u64,
    /// The gateway; `None` where the device or the only connected gateway tells.
    pub gateway_id: Option<String>,
    /// The device.
    pub cid: String,
    /// The data point's id or code.
    pub point: String,
    /// The value.
    pub value: Box<RawValue>,
    /// The message's time stamp, where the asker has one of its own.
    pub t: Option<i64>,
}

/// How a command ended.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Outcome {
    /// The asker's number.
    pub token: u64,
    /// The gateway, once it is known.
    pub gateway_id: Option<String>,
    /// The data point's id, once it is known.
    pub id: Option<String>,
    /// The request id, once it has one.
    pub request_id: Option<String>,
    /// The end itself.
    pub verdict: Verdict,
    /// From sending to answer; zero for what was never sent.
    pub round_trip: Duration,
}

/// The end of a command.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Verdict {
    /// The gateway answered, or the edge itself did (2001, 2003).
    Answered {
        /// 0 is success.
        code: ResultCode,
        /// The answer's message.
        msg: String,
    },
    /// No answer came in this time.
    TimedOut(Duration),
    /// The command is wrong and was not sent.
    Invalid {
        /// The input's field at fault.
        field: &'static str,
        /// What is wrong with it.
        message: String,
    },
    /// The gateway's answer names the command but is no answer.
    Malformed(String),
}

/// A command without its answer.
#[derive(Debug)]
pub(super) struct Waiting {
    pub(super) token: u64,
    pub(super) id: String,
    pub(super) sent: Duration,
    limit: (Duration, u64),
}

/// The commands without answers, by gateway and request id, and by the end of their time.
#[derive(Debug, Default)]
pub(super) struct Pending {
    waiting: HashMap<(String, String), Waiting>,
    limits: BTreeMap<(Duration, u64), (String, String)>,
}

impl Pending {
    pub(super) fn insert(
        &mut self,
        gateway: &GatewayId,
        request_id: &str,
        token: u64,
        id: String,
        sent: Duration,
        time_out: Duration,
    ) {
        let key = (gateway.as_str().to_owned(), request_id.to_owned());
        let limit = (sent + time_out, token);
        self.limits.insert(limit, key.clone());
        if let Some(replaced) = self.waiting.insert(key, Waiting { token, id, sent, limit }) {
            self.limits.remove(&replaced.limit);
        }
    }

    pub(super) fn contains(&self, gateway: &GatewayId, request_id: &str) -> bool {
        !self.waiting.is_empty()
            && self.waiting.contains_key(&(gateway.as_str().to_owned(), request_id.to_owned()))
    }

    pub(super) fn take(&mut self, gateway: &GatewayId, request_id: &str) -> Option<Waiting> {
        if self.waiting.is_empty() {
            return None;
        }
        let found = self.waiting.remove(&(gateway.as_str().to_owned(), request_id.to_owned()))?;
        self.limits.remove(&found.limit);
        Some(found)
    }

    pub(super) fn next_limit(&self) -> Option<Duration> {
        self.limits.keys().next().map(|(limit, _)| *limit)
    }

    /// Takes one command whose time is over: its gateway, its request id, itself.
    pub(super) fn take_overdue(&mut self, now: Duration) -> Option<(String, String, Waiting)> {
        let entry = self.limits.first_entry().filter(|entry| entry.key().0 <= now)?;
        let key = entry.remove();
        let waiting = self.waiting.remove(&key)?;
        Some((key.0, key.1, waiting))
    }
}
