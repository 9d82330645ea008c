//! The platform's half of the protocol: what the Edge Gateway knows, checks and answers.
//!
//! Sans-IO: the caller passes clients' logins, publishes and the time in, and takes [`Action`]s and the next deadline out.
//! `run/edge_handler.rs` is the caller; it owns files, and stands behind a broker that owns sockets, sessions and subscriptions.
//! Faults are drawn from a seed.
#![deny(clippy::disallowed_methods, clippy::disallowed_types)]

mod dedup;
mod fault;
mod login;
mod pending;
mod registry;
#[cfg(test)]
mod tests;
mod validate;

use std::{
    borrow::Cow,
    collections::{HashSet, VecDeque},
    mem,
    sync::Arc,
    time::Duration,
};

use bytes::Bytes;

pub use fault::{Fault, Faults, InvalidFault, Misbehaviour};
pub use login::{LoginAttempt, LoginError, LoginRule, Role};
pub use pending::{CommandOutcome, CommandRequest, EndedCommand};
pub use registry::{NotARegistry, Registry};

use crate::{
    mqtt::Direction,
    tuya::{
        BorrowedReport, Channel, CommandAnswer, Device, DeviceStatus, Downlink, Envelope, GatewayId, Refused,
        ResultCode, Topics, Uplink, product::Product, write_answer,
    },
};
use dedup::RecentRequests;
use pending::PendingCommands;
use registry::NoRoom;
use validate::{Refusal, check_report, check_time, is_milliseconds};

/// A time on both clocks.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct EdgeTime {
    /// The monotonic clock, since an arbitrary origin.
    pub mono: Duration,
    /// The wall clock: since 1970-01-01 UTC.
    pub unix: Duration,
}

/// How an edge is set up.
#[derive(Debug)]
pub struct EdgeSettings {
    /// Which clients may connect.
    pub access: LoginRule,
    /// The product of every device.
    pub product: Product,
    /// Whether reports of unknown devices, and values that the product does not have, are accepted.
    pub accepts_all: bool,
    /// The largest deviation of a message's `t`; `None` accepts any.
    pub max_skew: Option<Duration>,
    /// The time without a sync or status after which a device is offline; `None` for never.
    pub offline_after: Option<Duration>,
    /// The deadline of a command's answer, from its sending.
    pub command_timeout: Duration,
    /// The faults in force.
    pub faults: Faults,
}

/// Something that the caller is to do for the edge.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Action {
    /// Publish a message of the platform's to its subscribers.
    Publish {
        /// The topic.
        topic: Arc<str>,
        /// The topic's channel.
        channel: Channel,
        /// The message: one JSON value on one line, or a fault's garbage, which is not text.
        payload: Bytes,
        /// The delay.
        after: Duration,
        /// Whether to wait until every earlier line of [`Action::Persist`] is on the disk.
        once_kept: bool,
    },
    /// Append this line, which ends with a newline, to the registry's file; if it is empty, only check that the file is
    /// intact.
    Persist(Vec<u8>),
    /// Warn the operator.
    Warn(String),
    /// A command has ended.
    CommandDone(EndedCommand),
}

/// What the caller does with a client's PUBLISH.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Disposition {
    /// Acknowledge it and forward it to its subscribers.
    Route,
    /// Forward it; acknowledge it once every line of [`Action::Persist`] so far is on the disk.
    RouteKept,
    /// Acknowledge it and do not forward it, because the edge has handled it.
    Drop,
    /// Acknowledge it and ignore it, because its sender may not publish there (MQTT-3.3.5-2).
    Forbid,
    /// Close the client's connection.
    Cut,
    /// Send nothing more to this client, and leave the connection open.
    Silence,
}

/// The result of a client's PUBLISH.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct PublishOutcome {
    /// What the caller does with it.
    pub disposition: Disposition,
    /// The topic's channel, if it has one.
    pub channel: Option<Channel>,
    /// Whether the payload was parsed, and is one JSON value of bounded depth.
    pub is_json: bool,
}

/// The platform.
///
/// Inputs are `handle_*` and [`Edge::login`], the command is [`Edge::send_command`]. After each of them the caller takes all
/// actions from [`Edge::poll_action`], and then the next deadline from [`Edge::poll_timeout`].
#[derive(Debug)]
pub struct Edge {
    settings: EdgeSettings,
    topics: Topics,
    /// The topic of the last answer, because most answers go to the same topic as the one before.
    answered: Arc<str>,
    actions: VecDeque<Action>,
    /// The buffer in which answers are encoded.
    scratch: Vec<u8>,
    registry: Registry,
    /// The gateways with a session, connected or not.
    present: HashSet<GatewayId>,
    memory: RecentRequests,
    pending: PendingCommands,
    /// Whether the operator was warned of a platform user that publishes like a gateway.
    has_warned: bool,
}

impl Edge {
    /// An edge with the devices that it already knows.
    #[must_use]
    pub fn new(settings: EdgeSettings, registry: Registry) -> Self {
        Self {
            settings,
            topics: Topics::default(),
            answered: Arc::default(),
            actions: VecDeque::new(),
            scratch: Vec::new(),
            registry,
            present: HashSet::new(),
            memory: RecentRequests::default(),
            pending: PendingCommands::default(),
            has_warned: false,
        }
    }

    /// The known devices.
    #[must_use]
    pub fn registry(&self) -> &Registry {
        &self.registry
    }

    /// The topics that the edge uses: the page's presets.
    #[must_use]
    pub fn topics(&self) -> &Topics {
        &self.topics
    }

    /// Decides the role of a client.
    ///
    /// # Errors
    /// Those of [`LoginRule::login`], or the return code of a fault.
    pub fn login(&mut self, login: &LoginAttempt<'_>) -> Result<Role, LoginError> {
        let thrown = self.settings.faults.draw(|fault| match fault {
            Misbehaviour::Connack(code) => Some(code),
            _ => None,
        });
        match thrown {
            Some(code) => Err(LoginError::Refused { code, why: "a fault, as --fault connack asked for" }),
            None => self.settings.access.login(login),
        }
    }

    /// Takes note that a gateway has connected.
    pub fn handle_connected(&mut self, gateway: &GatewayId) {
        self.present.insert(gateway.clone());
    }

    /// Takes note that a gateway's session has ended.
    pub fn handle_session_ended(&mut self, gateway: &GatewayId) {
        self.present.remove(gateway);
    }

    /// Whether a client gets a subscription.
    pub fn may_subscribe(&mut self, role: &Role, filter: &str) -> bool {
        role.may_subscribe(filter) && !self.settings.faults.happens(Misbehaviour::Suback)
    }

    /// Handles a client's PUBLISH.
    pub fn handle_publish(
        &mut self,
        now: EdgeTime,
        role: &Role,
        topic: &str,
        payload: &[u8],
    ) -> PublishOutcome {
        let heard = |disposition, channel| PublishOutcome { disposition, channel, is_json: false };
        match role {
            Role::Gateway(gateway) => match login::uplink(&self.topics, gateway, topic) {
                Some(channel) => self.handle_uplink(now, gateway, channel, payload),
                None if role.may_publish(&self.topics, topic) => heard(Disposition::Route, None),
                None => {
                    self.actions.push_back(Action::Warn(format!(
                        "{gateway} may not publish to {topic:?}: the message was dropped; a gateway publishes to \
                         its four uplink topics and to gateway/in/{gateway} and gateway/out/{gateway}"
                    )));
                    heard(Disposition::Forbid, None)
                }
            },
            Role::Platform => match self.topics.classify(topic, payload) {
                Some((Some(Channel::Command), id)) => {
                    heard(self.handle_platform_command(now, id, payload), Some(Channel::Command))
                }
                found => {
                    let channel = found.and_then(|(channel, _)| channel);
                    if channel.is_some_and(|channel| channel.direction() == Direction::Up)
                        && !mem::replace(&mut self.has_warned, true)
                    {
                        self.actions.push_back(Action::Warn(format!(
                            "a platform user published to {topic:?}: the edge passes such messages on and answers only \
                             gateways; a gateway needs a username that --platform-username does not name"
                        )));
                    }
                    heard(Disposition::Route, channel)
                }
            },
        }
    }

    fn handle_uplink(
        &mut self,
        now: EdgeTime,
        gateway: &GatewayId,
        channel: Channel,
        payload: &[u8],
    ) -> PublishOutcome {
        let answered = channel.response().is_some();
        let mut heard =
            PublishOutcome { disposition: Disposition::Route, channel: Some(channel), is_json: false };
        if answered && let Some(disposition) = self.draw_disposition() {
            heard.disposition = disposition;
        } else if channel == Channel::Report
            && let Some(report) = BorrowedReport::read(payload)
        {
            heard.is_json = true;
            self.handle_report(now, gateway, &report);
        } else {
            match Envelope::<Uplink>::decode(channel, payload) {
                Ok(message) => heard.disposition = self.handle_message(now, gateway, message),
                Err(refused) => self.refuse_shape(now, gateway, channel, refused),
            }
        }
        heard
    }

    fn handle_message(
        &mut self,
        now: EdgeTime,
        gateway: &GatewayId,
        message: Envelope<Uplink>,
    ) -> Disposition {
        let Envelope { t, request_id, body } = message;
        match body {
            Uplink::Report(property) => {
                let (cid, id, value) = (&property.cid, &property.id, property.value.get());
                let report = BorrowedReport { t, request_id: &request_id, cid, id, value };
                self.handle_report(now, gateway, &report);
            }
            Uplink::Sync(device) => {
                let on_time = self.check_time(t, now);
                let result = self.sync(now, gateway, &request_id, &device, on_time);
                let once_kept = result.is_ok();
                let t = answer_time(t, now);
                let respond = Respond { channel: Channel::SyncResponse, gateway, once_kept };
                self.answer(respond, t, &request_id, &device.cid, result);
                if once_kept {
                    return Disposition::RouteKept;
                }
            }
            Uplink::Status(statuses) => self.handle_status(now, gateway, t, &statuses),
            Uplink::CommandResponse(answer) => {
                let verdict = CommandOutcome::Answered { code: answer.code, msg: answer.msg };
                self.finish_command(now, gateway, &request_id, verdict);
            }
            Uplink::AsGiven { .. } => {}
        }
        Disposition::Route
    }

    fn handle_report(&mut self, now: EdgeTime, gateway: &GatewayId, report: &BorrowedReport<'_>) {
        let result = self.report(gateway, report, self.check_time(report.t, now));
        let t = answer_time(report.t, now);
        let respond = Respond { channel: Channel::ReportResponse, gateway, once_kept: false };
        self.answer(respond, t, report.request_id, report.cid, result);
    }

    fn handle_status(&mut self, now: EdgeTime, gateway: &GatewayId, t: i64, statuses: &[DeviceStatus]) {
        if let Err(refusal) = self.check_time(t, now) {
            self.actions.push_back(Action::Warn(format!("{gateway}: status ignored: {}", refusal.why)));
            return;
        }
        let mut set =
            |status: &DeviceStatus| self.registry.set_status(gateway, &status.cid, status.status, now.mono);
        let mut unknown = statuses.iter().filter(|status| !set(status));
        if let Some(first) = unknown.next()
            && let more = unknown.count()
            && !self.settings.accepts_all
        {
            let others = if more == 0 { String::new() } else { format!(" and {more} more") };
            self.actions.push_back(Action::Warn(format!(
                "{gateway}: status of {:?}{others} ignored: never synchronised",
                first.cid
            )));
        }
    }

    fn check_time(&self, t: i64, now: EdgeTime) -> Result<(), Refusal> {
        check_time(t, now.unix, self.settings.max_skew)
    }

    /// Draws the faults that act on the request itself.
    fn draw_disposition(&mut self) -> Option<Disposition> {
        self.settings.faults.draw(|fault| match fault {
            Misbehaviour::Disconnect => Some(Disposition::Cut),
            Misbehaviour::Silent => Some(Disposition::Silence),
            _ => None,
        })
    }

    fn draw_code(&mut self) -> Result<(), Refusal> {
        let thrown = self.settings.faults.draw(|fault| match fault {
            Misbehaviour::Code(code) => Some(code),
            _ => None,
        });
        thrown.map_or(Ok(()), |code| Err(Refusal::new(code, "a fault, as --fault asked for")))
    }

    fn report(
        &mut self,
        gateway: &GatewayId,
        report: &BorrowedReport<'_>,
        on_time: Result<(), Refusal>,
    ) -> Result<(), Refusal> {
        self.draw_code()?;
        let BorrowedReport { request_id, cid, id, value, .. } = *report;
        let print = self.memory.fingerprint((gateway, Channel::Report, request_id, cid, id, value));
        if self.memory.holds(print) {
            return Ok(());
        }
        on_time?;
        if !self.settings.accepts_all {
            if !self.registry.knows(gateway, cid) {
                let why = format!("device {cid:?} was never synchronised");
                return Err(Refusal::new(ResultCode::DEVICE_UNKNOWN, why));
            }
            check_report(&self.settings.product, id, value)?;
        }
        self.memory.keep(print);
        Ok(())
    }

    fn sync(
        &mut self,
        now: EdgeTime,
        gateway: &GatewayId,
        request_id: &str,
        device: &Device,
        on_time: Result<(), Refusal>,
    ) -> Result<(), Refusal> {
        self.draw_code()?;
        // An accepted sync that is repeated is applied again, because others may have come in between, and is never late.
        let print = self.memory.fingerprint((gateway, Channel::Sync, request_id, format!("{device:?}")));
        if !self.memory.holds(print) {
            on_time?;
        }
        let line = self.registry.sync(gateway, device, now.mono).map_err(|NoRoom| {
            Refusal::new(ResultCode::SYSTEM_ERROR, "there is no room for another device")
        })?;
        self.actions.push_back(Action::Persist(line));
        self.memory.keep(print);
        Ok(())
    }

    /// Answers a message that could not be decoded, with the ids that could be read, if its channel has answers.
    fn refuse_shape(&mut self, now: EdgeTime, gateway: &GatewayId, channel: Channel, refused: Refused) {
        let why = refused.to_string();
        let respond = match channel {
            Channel::Sync => Channel::SyncResponse,
            Channel::Report => Channel::ReportResponse,
            Channel::CommandResponse => {
                let named = refused.request_id.filter(|id| self.pending.contains(gateway, id));
                match named {
                    Some(request_id) => {
                        self.finish_command(now, gateway, &request_id, CommandOutcome::Malformed(why));
                    }
                    None => {
                        self.actions.push_back(Action::Warn(format!(
                            "{gateway}: answer to a command ignored: {why}"
                        )));
                    }
                }
                return;
            }
            Channel::Status | Channel::SyncResponse | Channel::Command | Channel::ReportResponse => {
                self.actions.push_back(Action::Warn(format!("{gateway}: {} ignored: {why}", channel.kind())));
                return;
            }
        };
        let result = self.draw_code().and(Err(Refusal::new(refused.error.problem.code(), why)));
        let t = answer_time(0, now);
        let respond = Respond { channel: respond, gateway, once_kept: false };
        let (request_id, cid) = (refused.request_id.unwrap_or_default(), refused.cid.unwrap_or_default());
        self.answer(respond, t, &request_id, &cid, result);
    }

    fn answer(
        &mut self,
        respond: Respond<'_>,
        t: i64,
        request_id: &str,
        cid: &str,
        result: Result<(), Refusal>,
    ) {
        let Respond { channel, gateway, once_kept } = respond;
        let code = match result {
            Ok(()) => ResultCode::SUCCESS,
            Err(Refusal { code, why }) => {
                self.actions.push_back(Action::Warn(format!("{gateway}: {code} {}: {why}", code.name())));
                code
            }
        };
        let faults = &mut self.settings.faults;
        if faults.happens(Misbehaviour::DropResponse) {
            return;
        }
        let request_id: Cow<'_, str> = if faults.happens(Misbehaviour::WrongId) {
            faults.foreign_id().into()
        } else {
            request_id.into()
        };
        let cid = (!cid.is_empty()).then_some(cid);
        let msg = if code == ResultCode::UPLINK_ERROR { "tedge error: fault" } else { code.name() };
        let payload = if faults.happens(Misbehaviour::Garbage) {
            Bytes::from_static(b"\x00\xff{garbage\x1b[31m")
        } else {
            self.scratch.clear();
            write_answer(&mut self.scratch, t, &request_id, cid, code, msg);
            Bytes::copy_from_slice(&self.scratch)
        };
        let after = faults.draw(|fault| match fault {
            Misbehaviour::Delay(delay) => Some(delay),
            _ => None,
        });
        let is_duplicate = faults.happens(Misbehaviour::Duplicate);
        if self.topics.id_in(channel, &self.answered) != Some(gateway.as_str()) {
            self.answered = self.topics.topic(channel, gateway).into();
        }
        let topic = Arc::clone(&self.answered);
        let action = Action::Publish { topic, channel, payload, after: after.unwrap_or_default(), once_kept };
        if is_duplicate {
            self.actions.push_back(action.clone());
        }
        self.actions.push_back(action);
    }

    /// Handles a platform user's command; answers it if the device cannot be reached.
    fn handle_platform_command(&mut self, now: EdgeTime, id: &str, payload: &[u8]) -> Disposition {
        let Ok(gateway) = GatewayId::new(id) else { return Disposition::Route };
        let message = match Envelope::<Downlink>::decode(Channel::Command, payload) {
            Ok(message) => message,
            Err(refused) => {
                // It is forwarded for users who test a gateway with malformed commands.
                self.actions.push_back(Action::Warn(format!(
                    "a malformed command goes to {gateway} as it is: {refused}"
                )));
                return Disposition::Route;
            }
        };
        let Downlink::Command(command) = message.body else { return Disposition::Route };
        let Err(code) = self.reach(now.mono, &gateway, &command.cid) else { return Disposition::Route };
        let answer = CommandAnswer { cid: command.cid, code, msg: code.name().into() };
        let body = Uplink::CommandResponse(answer);
        let message = Envelope { t: answer_time(message.t, now), request_id: message.request_id, body };
        self.actions.push_back(Action::Publish {
            topic: self.topics.topic(Channel::CommandResponse, &gateway).into(),
            channel: Channel::CommandResponse,
            payload: message.encode().into(),
            after: Duration::ZERO,
            once_kept: false,
        });
        Disposition::Drop
    }

    /// Checks that a command can be forwarded: 2003 if the device is unknown, 2001 if it is offline. If its gateway is not
    /// connected, the command times out, or waits in the gateway's persistent session.
    fn reach(&self, now: Duration, gateway: &GatewayId, cid: &str) -> Result<(), ResultCode> {
        if !self.registry.knows(gateway, cid) {
            return Err(ResultCode::DEVICE_UNKNOWN);
        }
        let online = self.registry.is_online(gateway, cid, now, self.settings.offline_after);
        if online { Ok(()) } else { Err(ResultCode::DEVICE_OFFLINE) }
    }

    /// Sends a command of the platform's own once its gateway has fewer than the window's, or ends it at once if it cannot be
    /// sent.
    pub fn send_command(&mut self, now: EdgeTime, ask: CommandRequest) {
        let gateway = match ask.gateway_id.clone().map_or_else(|| self.choose_gateway(&ask.command.cid), Ok) {
            Ok(gateway) => gateway,
            Err(why) => {
                let verdict = CommandOutcome::Unsent { field: "gateway_id", why };
                let outcome = EndedCommand { token: ask.token, gateway_id: None, verdict, round_trip: None };
                return self.actions.push_back(Action::CommandDone(outcome));
            }
        };
        let ask = if self.present.contains(&gateway) { self.pending.queue(&gateway, ask) } else { Some(ask) };
        if let Some(ask) = ask {
            self.dispatch_command(now, gateway, ask);
        }
    }

    /// Sends queued commands of a gateway as far as its window allows.
    fn send_queued(&mut self, now: EdgeTime, gateway: &GatewayId) {
        let is_present = self.present.contains(gateway);
        while let Some(ask) = self.pending.next_queued(gateway, is_present) {
            self.dispatch_command(now, gateway.clone(), ask);
        }
    }

    fn dispatch_command(&mut self, now: EdgeTime, gateway: GatewayId, ask: CommandRequest) {
        let CommandRequest { token, t, request_id, command, .. } = ask;
        let refusal = if let Err(code) = self.reach(now.mono, &gateway, &command.cid) {
            Some(CommandOutcome::Answered { code, msg: code.name().into() })
        } else if self.pending.contains(&gateway, &request_id) {
            let why = format!("another command with request_id {request_id:?} has no answer yet");
            Some(CommandOutcome::Unsent { field: "request_id", why })
        } else {
            None
        };
        if let Some(verdict) = refusal {
            let gateway_id = Some(gateway);
            let ended = EndedCommand { token, gateway_id, verdict, round_trip: None };
            return self.actions.push_back(Action::CommandDone(ended));
        }
        let t = t.unwrap_or_else(|| answer_time(0, now));
        let topic = self.topics.topic(Channel::Command, &gateway).into();
        let message = Envelope { t, request_id, body: Downlink::Command(command) };
        let payload = message.encode().into();
        let limit = self.settings.command_timeout;
        self.pending.insert((gateway, message.request_id), token, now.mono, limit);
        let channel = Channel::Command;
        self.actions.push_back(Action::Publish {
            topic,
            channel,
            payload,
            after: Duration::ZERO,
            once_kept: false,
        });
    }

    fn choose_gateway(&self, cid: &str) -> Result<GatewayId, String> {
        let mut knowing = self.registry.gateways_of(cid);
        let mut present = self.present.iter();
        let only = match (knowing.next(), knowing.next(), present.next(), present.next()) {
            (Some(only), None, ..) | (_, _, Some(only), None) => Some(only.clone()),
            _ => None,
        };
        only.ok_or_else(|| {
            format!(
                "gateway_id is missing: neither does exactly one gateway know {cid:?}, nor is exactly one connected"
            )
        })
    }

    fn finish_command(
        &mut self,
        now: EdgeTime,
        gateway: &GatewayId,
        request_id: &str,
        verdict: CommandOutcome,
    ) {
        if let Some(waiting) = self.pending.take(gateway, request_id) {
            self.actions.push_back(Action::CommandDone(EndedCommand {
                token: waiting.token,
                gateway_id: Some(gateway.clone()),
                verdict,
                round_trip: Some(now.mono.saturating_sub(waiting.sent)),
            }));
            self.send_queued(now, gateway);
        }
    }

    /// Returns the next action.
    pub fn poll_action(&mut self) -> Option<Action> {
        self.actions.pop_front()
    }

    /// Returns when [`Edge::handle_timeout`] is due next.
    #[must_use]
    pub fn poll_timeout(&self) -> Option<Duration> {
        self.pending.next_limit()
    }

    /// Ends commands without an answer at their deadline.
    pub fn handle_timeout(&mut self, now: EdgeTime) {
        while let Some((gateway, waiting)) = self.pending.take_overdue(now.mono) {
            self.actions.push_back(Action::CommandDone(EndedCommand {
                token: waiting.token,
                gateway_id: Some(gateway.clone()),
                verdict: CommandOutcome::TimedOut(self.settings.command_timeout),
                round_trip: Some(now.mono.saturating_sub(waiting.sent)),
            }));
            self.send_queued(now, &gateway);
        }
    }
}

/// The channel and time of an answer.
#[derive(Clone, Copy, Debug)]
struct Respond<'a> {
    channel: Channel,
    gateway: &'a GatewayId,
    /// Whether to wait until every earlier line of [`Action::Persist`] is on the disk.
    once_kept: bool,
}

/// The time stamp of an answer, in the unit of the request's.
fn answer_time(request: i64, now: EdgeTime) -> i64 {
    let t = if is_milliseconds(request) { now.unix.as_millis() } else { u128::from(now.unix.as_secs()) };
    i64::try_from(t).unwrap_or(i64::MAX)
}
