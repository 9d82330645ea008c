//! The platform's own commands: in flight to a gateway, or queued for it.

use std::{
    collections::{BTreeMap, HashMap, VecDeque},
    time::Duration,
};

use crate::tuya::{Command, GatewayId, ResultCode};

/// Commands in flight to a connected gateway. The others are queued, and their deadline counts from their sending.
pub(super) const WINDOW: usize = 20;

/// A command to send. Its data points were checked.
#[derive(Clone, Debug)]
pub struct CommandRequest {
    /// The caller's number for it, which [`EndedCommand`] repeats.
    pub token: u64,
    /// The gateway; `None` for the only one that knows the device, or the only connected one.
    pub gateway_id: Option<GatewayId>,
    /// The message's time stamp; `None` for the present time.
    pub t: Option<i64>,
    /// The request id; must be unique among the commands in flight to the gateway.
    pub request_id: String,
    /// The command.
    pub command: Command,
}

/// A command that has ended.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct EndedCommand {
    /// The caller's number.
    pub token: u64,
    /// The gateway, once it is known.
    pub gateway_id: Option<GatewayId>,
    /// Its outcome.
    pub verdict: CommandOutcome,
    /// The time from sending to its end; `None` if it was not sent.
    pub round_trip: Option<Duration>,
}

/// The outcome of a command.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum CommandOutcome {
    /// The gateway answered, or the edge itself did (2001, 2003).
    Answered {
        /// The result code; 0 is success.
        code: ResultCode,
        /// The answer's message.
        msg: String,
    },
    /// No answer came within this time.
    TimedOut(Duration),
    /// The command was not sent.
    Unsent {
        /// The field of the command that is at fault.
        field: &'static str,
        /// The problem with it.
        why: String,
    },
    /// The gateway's answer has the command's request id and cannot be decoded.
    Malformed(String),
}

/// A command in flight.
#[derive(Debug)]
pub(super) struct SentCommand {
    pub(super) token: u64,
    pub(super) sent: Duration,
    limit: (Duration, u64),
}

type PendingKey = (GatewayId, String);

/// The commands in flight, by gateway and request id, and by deadline; and the queued ones, by gateway.
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
    /// Queues a command for a gateway; returns it if it may be sent at once.
    pub(super) fn queue(&mut self, gateway: &GatewayId, ask: CommandRequest) -> Option<CommandRequest> {
        match self.gateways.get_mut(gateway) {
            Some(traffic) if traffic.in_flight >= WINDOW || !traffic.queued.is_empty() => {
                traffic.queued.push_back(ask);
                None
            }
            _ => Some(ask),
        }
    }

    /// Takes the next queued command of a gateway. If the gateway is not `connected`, its window does not count, because no
    /// answer will come.
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

    /// Takes one command at its deadline, with its gateway.
    pub(super) fn take_overdue(&mut self, now: Duration) -> Option<(GatewayId, SentCommand)> {
        let entry = self.limits.first_entry().filter(|entry| entry.key().0 <= now)?;
        let key = entry.remove();
        let waiting = self.waiting.remove(&key)?;
        self.ended(&key.0);
        Some((key.0, waiting))
    }
}
