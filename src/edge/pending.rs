//! Commands on their way: what the platform asked a gateway to do and waits to hear about.

use std::{
    collections::{BTreeMap, HashMap, VecDeque},
    time::Duration,
};

use crate::tuya::{Command, GatewayId, ResultCode};

/// How many commands a connected gateway may have without their answers; the others wait for their turn, and their time
/// begins only then.
pub(super) const WINDOW: usize = 20;

/// A command that somebody wants sent, its data points checked already.
#[derive(Clone, Debug)]
pub struct CommandRequest {
    /// The asker's own number for it, which the outcome carries.
    pub token: u64,
    /// The gateway; `None` where the device or the only connected gateway tells.
    pub gateway_id: Option<GatewayId>,
    /// The message's time stamp, where the asker has one of its own.
    pub t: Option<i64>,
    /// The request id, which no command on its way to the same gateway may have.
    pub request_id: String,
    /// What to do.
    pub command: Command,
}

/// How a command ended.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct EndedCommand {
    /// The asker's number.
    pub token: u64,
    /// The gateway, once it is known.
    pub gateway_id: Option<GatewayId>,
    /// The end itself.
    pub verdict: CommandOutcome,
    /// From sending to answer; `None` for what was never sent.
    pub round_trip: Option<Duration>,
}

/// The end of a command.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum CommandOutcome {
    /// The gateway answered, or the edge itself did (2001, 2003).
    Answered {
        /// 0 is success.
        code: ResultCode,
        /// The answer's message.
        msg: String,
    },
    /// No answer came in this time.
    TimedOut(Duration),
    /// The command was not sent.
    Unsent {
        /// The field of the command that is at fault.
        field: &'static str,
        /// What is wrong with it.
        why: String,
    },
    /// The gateway's answer names the command but is no answer.
    Malformed(String),
}

/// A command without its answer.
#[derive(Debug)]
pub(super) struct SentCommand {
    pub(super) token: u64,
    pub(super) sent: Duration,
    limit: (Duration, u64),
}

type PendingKey = (GatewayId, String);

/// The commands without answers, by gateway and request id, and by the end of their time; and those that wait for them.
#[derive(Debug, Default)]
pub(super) struct PendingCommands {
    waiting: HashMap<PendingKey, SentCommand>,
    limits: BTreeMap<(Duration, u64), PendingKey>,
    gateways: HashMap<GatewayId, GatewayCommands>,
}

/// One gateway's commands.
#[derive(Debug, Default)]
struct GatewayCommands {
    in_flight: usize,
    queued: VecDeque<CommandRequest>,
}

impl PendingCommands {
    /// Puts a command behind those that wait for the gateway; gives it back if it may be sent at once.
    pub(super) fn queue(&mut self, gateway: &GatewayId, ask: CommandRequest) -> Option<CommandRequest> {
        match self.gateways.get_mut(gateway) {
            Some(traffic) if traffic.in_flight >= WINDOW || !traffic.queued.is_empty() => {
                traffic.queued.push_back(ask);
                None
            }
            _ => Some(ask),
        }
    }

    /// Takes the next command for a gateway; all of them, one by one, if it is not `connected`, since nobody answers.
    pub(super) fn next_queued(&mut self, gateway: &GatewayId, connected: bool) -> Option<CommandRequest> {
        let traffic = self.gateways.get_mut(gateway)?;
        if connected && traffic.in_flight >= WINDOW {
            return None;
        }
        let next = traffic.queued.pop_front();
        if next.is_none() && traffic.in_flight == 0 {
            self.gateways.remove(gateway);
        }
        next
    }

    fn ended(&mut self, gateway: &GatewayId) {
        if let Some(traffic) = self.gateways.get_mut(gateway) {
            traffic.in_flight -= 1;
        }
    }

    pub(super) fn insert(&mut self, key: PendingKey, token: u64, sent: Duration, time_out: Duration) {
        let limit = (sent + time_out, token);
        self.gateways.entry(key.0.clone()).or_default().in_flight += 1;
        self.limits.insert(limit, key.clone());
        self.waiting.insert(key, SentCommand { token, sent, limit });
    }

    pub(super) fn contains(&self, gateway: &GatewayId, request_id: &str) -> bool {
        !self.waiting.is_empty() && self.waiting.contains_key(&(gateway.clone(), request_id.to_owned()))
    }

    pub(super) fn take(&mut self, gateway: &GatewayId, request_id: &str) -> Option<SentCommand> {
        if self.waiting.is_empty() {
            return None;
        }
        let found = self.waiting.remove(&(gateway.clone(), request_id.to_owned()))?;
        self.limits.remove(&found.limit);
        self.ended(gateway);
        Some(found)
    }

    pub(super) fn next_limit(&self) -> Option<Duration> {
        self.limits.keys().next().map(|(limit, _)| *limit)
    }

    /// Takes one command whose time is over, with its gateway.
    pub(super) fn take_overdue(&mut self, now: Duration) -> Option<(GatewayId, SentCommand)> {
        let entry = self.limits.first_entry().filter(|entry| entry.key().0 <= now)?;
        let key = entry.remove();
        let waiting = self.waiting.remove(&key)?;
        self.ended(&key.0);
        Some((key.0, waiting))
    }
}
