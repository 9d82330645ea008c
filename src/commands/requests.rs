//! One run of requests: `sync`, `report`, `status` and `command` share it.
//!
//! Inputs become messages, a window of them is in flight, answers are paired in any order, and every input ends
//! as exactly one result line: accepted, refused, timed out or failed.

mod result_line;
mod signals;
mod tally;

use std::{
    collections::{BTreeMap, VecDeque},
    sync::Arc,
    time::{Duration, SystemTime, UNIX_EPOCH},
};

use bytes::Bytes;
use serde_json::value::RawValue;
use uuid::Uuid;

pub use result_line::ResultLine;
pub use signals::Signals;
use tally::Tally;

use super::{
    Console,
    connection::Connection,
    input::{Input, Source},
    json_line,
    operations::{Body, Invalid, Item, Operation, Operations, Subject, status_item},
};
use crate::{
    failure::{Exit, Failure, Kind},
    gateway::{Heard, Requests},
    mqtt::{
        client::{Client, Event},
        packet::{Message, Publish, QoS},
        session::Receipt,
    },
    protocol::{Answer, Channel, DeviceStatus, Downlink, Envelope, GatewayId, Topics, Uplink},
    sink::{Sink, SinkError},
};

/// A status report is at most this long, so that every broker takes it.
const LONGEST_STATUS: usize = 64 * 1024;
/// No more input is taken while more than this waits for the reader of stdout.
const BACKLOG: usize = 1 << 20;
/// How many warnings of one run are printed in full.
const WARNINGS: usize = 10;
/// How long a silent pipe is waited for when the rest of the input can only be reported.
const PATIENCE: Duration = Duration::from_millis(200);

/// The options of a run of requests.
#[derive(Clone, Debug, clap::Args)]
#[command(next_help_heading = "Requests")]
pub struct RequestArgs {
    /// How many requests may be in flight
    #[arg(long, value_name = "N", default_value_t = 20, value_parser = clap::value_parser!(u16).range(1..=65535))]
    window: u16,

    /// Be done at the broker's acknowledgement, without waiting for the answer
    #[arg(long)]
    no_wait: bool,

    /// The unit of the time stamp t in messages
    #[arg(long, value_name = "UNIT", default_value = "s")]
    t_unit: TimeUnit,

    /// Give a lost connection up at once
    #[arg(long)]
    no_reconnect: bool,

    /// Show progress: a bar on a terminal, or JSON lines on stderr
    #[arg(long, value_name = "WHEN", default_value = "auto")]
    progress: Progress,
}

/// The unit of `t`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
pub enum TimeUnit {
    /// Seconds, as the page's samples have it
    S,
    /// Milliseconds
    Ms,
}

impl TimeUnit {
    /// The wall clock's Unix time in this unit.
    #[must_use]
    pub fn now(self) -> i64 {
        let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
        let time = match self {
            Self::S => u128::from(since.as_secs()),
            Self::Ms => since.as_millis(),
        };
        i64::try_from(time).unwrap_or(i64::MAX)
    }
}

/// When progress is shown.
#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
pub enum Progress {
    /// A bar if stderr is a terminal and there is more than one request
    Auto,
    /// A bar
    Always,
    /// Nothing
    Never,
    /// JSON lines
    Json,
}

/// Runs requests until the input ends and each of them is done.
pub fn run(
    operations: Operations,
    operation: Operation,
    source: Source,
    connection: Connection,
    args: &RequestArgs,
    console: Console,
) -> anyhow::Result<Exit> {
    super::block_on(async {
        let mut run = Run::new(operations, operation, &source, connection, args, console)?;
        let mut source = source;
        let end = run.drive(&mut source).await;
        Ok(run.finish(end, source).await)
    })
}

/// A message that waits for its answer, or for its acknowledgement.
#[derive(Debug)]
struct Pending {
    topic: Arc<str>,
    payload: Bytes,
    request_id: String,
    lines: Vec<Line>,
    /// When it was first written.
    written: Option<Duration>,
    /// Whether the broker has acknowledged it.
    delivered: bool,
}

/// What one result line needs of its input.
#[derive(Debug)]
struct Line {
    index: u64,
    line: Option<u64>,
    gateway_id: Option<GatewayId>,
    subject: Subject,
    input: Arc<RawValue>,
}

/// How a run came to its end before its input did.
enum End {
    /// A signal; what was in flight has been finished.
    Signal(Exit),
    /// A failure that ends all.
    Failure(Failure),
}

struct Run {
    operations: Operations,
    operation: Operation,
    gateway_id: Option<GatewayId>,
    topics: Topics,
    qos: QoS,
    timeout: Duration,
    max_packet: usize,
    window: usize,
    /// Whether an answer is waited for, rather than the broker's acknowledgement alone.
    answered: bool,
    t_unit: TimeUnit,
    console: Console,
    client: Client,
    /// Whether there was anything to send yet; before that nothing is dialled.
    started: bool,
    requests: Requests,
    pending: BTreeMap<u64, Pending>,
    next_token: u64,
    next_index: u64,
    /// Inputs that were taken and have no place in the window yet.
    waiting: VecDeque<Input>,
    /// Status lines that one array can carry, and its length so far.
    statuses: Vec<(DeviceStatus, Line)>,
    statuses_length: usize,
    /// The topics of the gateway spoken of last: of the requests and of their answers.
    addressed: Option<(GatewayId, Arc<str>, Arc<str>)>,
    subscribed: bool,
    /// What came before the SUBACK; it counts once the subscription is granted.
    early: Vec<Message>,
    /// A queued command came: nothing more is acknowledged, so that all comes again.
    withholds: bool,
    out: Sink,
    muted: bool,
    tally: Tally,
    warnings: usize,
}

impl Run {
    fn new(
        operations: Operations,
        operation: Operation,
        source: &Source,
        connection: Connection,
        args: &RequestArgs,
        console: Console,
    ) -> Result<Self, Failure> {
        let channel = operation.channel();
        let answered = channel.response().is_some() && !args.no_wait;
        let mut settings = connection.settings;
        settings.in_flight = args.window;
        settings.reconnect = !args.no_reconnect;
        let single = matches!(source, Source::Flags(_));
        let filter = channel.response().filter(|_| answered).map(|response| match &connection.gateway_id {
            Some(gateway) if single || operation != Operation::Command => connection.topics.topic(response, gateway),
            _ => connection.topics.filter(response),
        });
        let subscriptions = filter.into_iter().map(|filter| (filter, connection.qos)).collect();
        Ok(Self {
            operations,
            operation,
            gateway_id: connection.gateway_id,
            topics: connection.topics,
            qos: connection.qos,
            timeout: settings.timeout,
            max_packet: settings.max_packet,
            window: usize::from(args.window),
            answered,
            t_unit: args.t_unit,
            console,
            requests: Requests::new(settings.timeout),
            client: Client::new(settings, subscriptions),
            started: false,
            pending: BTreeMap::new(),
            next_token: 0,
            next_index: 0,
            waiting: VecDeque::new(),
            statuses: Vec::new(),
            statuses_length: 0,
            addressed: None,
            subscribed: false,
            early: Vec::new(),
            withholds: false,
            out: Sink::stdout(),
            muted: false,
            tally: Tally::new(args.progress, single, console),
            warnings: 0,
        })
    }

    async fn drive(&mut self, source: &mut Source) -> Result<(), End> {
        let mut signals = Signals::new()?;
        let mut signalled = None;
        let mut ended = false;
        loop {
            if signalled.is_none() {
                self.feed()?;
            }
            self.out.flush();
            self.tally.show(self.pending.len());
            if self.pending.is_empty() {
                match signalled {
                    Some(exit) => return Err(End::Signal(exit)),
                    None if ended && self.waiting.is_empty() => return Ok(()),
                    None => {}
                }
            }
            let room = self.pending.len() < self.window && self.out.backlog() < BACKLOG;
            let hungry = !ended && signalled.is_none() && self.waiting.is_empty() && room;
            let deadline = self.deadline();
            tokio::select! {
                signal = signals.next() => match signalled {
                    None => {
                        self.console.note("finishing what is in flight; the same signal again ends at once");
                        signalled = Some(signal);
                    }
                    Some(_) => return Err(End::Signal(signal)),
                },
                event = self.client.next(), if self.started => {
                    self.happened(event?)?;
                    while let Some(event) = self.client.ready()? {
                        self.happened(event)?;
                    }
                }
                batch = source.next(), if hungry => match batch? {
                    None => ended = true,
                    Some(batch) => self.waiting.extend(batch),
                },
                written = self.out.progress(), if self.out.backlog() > 0 && !self.muted => match written {
                    Ok(_) => {}
                    Err(SinkError::ReaderGone) => self.muted = true,
                    Err(SinkError::Failed(failure)) => return Err(End::Failure(failure)),
                },
                () = super::sleep_until(deadline) => {}
            }
            self.expire()?;
        }
    }

    /// Takes inputs into the window.
    fn feed(&mut self) -> Result<(), Failure> {
        while self.pending.len() < self.window {
            let Some(input) = self.waiting.pop_front() else { break };
            for (item, line) in self.read(input) {
                match item {
                    Ok(item) => self.send(item, line)?,
                    Err(invalid) => self.invalid(&line, invalid),
                }
            }
        }
        self.send_statuses()
    }

    /// What one input asks for, each with what its result lines need.
    fn read(&mut self, input: Input) -> Vec<(Result<Item, Invalid>, Line)> {
        let items = match input.broken {
            Some(invalid) => vec![Err(invalid)],
            None => self.operations.read(self.operation, &input.text),
        };
        let text = Arc::from(input.text);
        let mut read = Vec::with_capacity(items.len());
        for item in items {
            let (subject, lines) = match &item {
                Ok(item) => (item.subjects[0].clone(), item.subjects.len() as u64),
                Err(invalid) => (Subject { cid: invalid.cid.clone().unwrap_or_default(), id: invalid.id.clone(), status: None }, 1),
            };
            let gateway_id = item.as_ref().ok().and_then(|item| item.gateway_id.clone());
            let line = Line { index: self.next_index, line: input.line, gateway_id, subject, input: Arc::clone(&text) };
            self.next_index += lines;
            read.push((item, line));
        }
        read
    }

    /// Sends one item, or packs it where several fit into one message.
    fn send(&mut self, item: Item, line: Line) -> Result<(), Failure> {
        if let Body::Uplink(Uplink::Status(statuses)) = &item.body
            && item.request_id.is_none()
            && statuses.len() == 1
        {
            let length = serde_json::to_vec(&statuses[0]).map_or(0, |json| json.len() + 1);
            if self.statuses_length + length > LONGEST_STATUS.min(self.max_packet) - 256 {
                self.send_statuses()?;
            }
            self.statuses_length += length;
            self.statuses.push((statuses[0].clone(), line));
            return Ok(());
        }
        let mut lines = Vec::with_capacity(item.subjects.len());
        for (index, subject) in (line.index..).zip(&item.subjects) {
            let (gateway_id, input) = (line.gateway_id.clone(), Arc::clone(&line.input));
            lines.push(Line { index, line: line.line, gateway_id, subject: subject.clone(), input });
        }
        self.ask(item, lines)
    }

    /// Sends the status lines that have gathered, as one array.
    fn send_statuses(&mut self) -> Result<(), Failure> {
        if self.statuses.is_empty() {
            return Ok(());
        }
        self.statuses_length = 0;
        let (statuses, lines) = std::mem::take(&mut self.statuses).into_iter().unzip();
        self.ask(status_item(statuses), lines)
    }

    /// Opens a request and publishes it, now or once the connection is there.
    fn ask(&mut self, item: Item, lines: Vec<Line>) -> Result<(), Failure> {
        let gateway = match item.gateway_id.as_ref().or(self.gateway_id.as_ref()) {
            Some(gateway) => gateway.clone(),
            None => {
                let message = "gateway_id is missing, and no --gateway-id is given";
                let invalid = || Invalid { field: Some("gateway_id".into()), message: message.into(), ..Invalid::default() };
                lines.iter().for_each(|line| self.invalid(line, invalid()));
                return Ok(());
            }
        };
        let (topic, response_topic) = self.address(&gateway);
        let request_id = item.request_id.unwrap_or_else(|| Uuid::new_v4().hyphenated().to_string());
        let t = item.t.unwrap_or_else(|| self.t_unit.now());
        let payload = match item.body {
            Body::Uplink(body) => Envelope { t, request_id: request_id.clone(), body }.encode(),
            Body::Command(command) => {
                Envelope { t, request_id: request_id.clone(), body: Downlink::Command(command) }.encode()
            }
        };
        let refusal = if payload.len() + topic.len() + 9 > self.max_packet {
            Some(format!("the message of {} bytes does not fit into --max-packet {}", payload.len(), self.max_packet))
        } else if !self.requests.ask(&request_id, &response_topic, self.next_token) {
            Some(format!("request_id {request_id:?} is in flight already"))
        } else {
            None
        };
        if let Some(message) = refusal {
            for line in &lines {
                self.invalid(line, Invalid { message: message.clone(), ..Invalid::default() });
            }
            return Ok(());
        }
        let token = self.next_token;
        self.next_token += 1;
        self.started = true;
        let pending = Pending { topic, payload: payload.into(), request_id, lines, written: None, delivered: false };
        self.pending.insert(token, pending);
        if self.client.down_since().is_none() {
            self.publish(token)?;
        }
        Ok(())
    }

    fn address(&mut self, gateway: &GatewayId) -> (Arc<str>, Arc<str>) {
        match &self.addressed {
            Some((known, topic, response)) if known == gateway => (Arc::clone(topic), Arc::clone(response)),
            _ => {
                let channel = self.operation.channel();
                let topic: Arc<str> = self.topics.topic(channel, gateway).into();
                let response = channel.response().map(|channel| self.topics.topic(channel, gateway));
                let response: Arc<str> = response.unwrap_or_default().into();
                self.addressed = Some((gateway.clone(), Arc::clone(&topic), Arc::clone(&response)));
                (topic, response)
            }
        }
    }

    fn publish(&mut self, token: u64) -> Result<(), Failure> {
        let now = self.client.now();
        let Some(pending) = self.pending.get_mut(&token) else { return Ok(()) };
        pending.delivered = false;
        pending.written.get_or_insert(now);
        self.requests.written(&pending.request_id, now);
        let publish = Publish {
            topic: pending.topic.as_ref().to_owned(),
            payload: pending.payload.clone(),
            qos: self.qos,
            retain: false,
        };
        self.client.publish(publish, token).map_err(|why| Failure::invalid(why.to_string()))
    }

    /// Takes an event of the connection.
    fn happened(&mut self, event: Event) -> Result<(), Failure> {
        match event {
            Event::Ready { resumed } => {
                // What the broker's session still holds is sent again by the session itself.
                let again = |pending: &Pending| !resumed || pending.delivered || pending.written.is_none();
                let tokens: Vec<_> =
                    self.pending.iter().filter(|(_, pending)| again(pending)).map(|(token, _)| *token).collect();
                self.tally.resent(self.pending.values().filter(|pending| pending.written.is_some()).count());
                tokens.into_iter().try_for_each(|token| self.publish(token))?;
            }
            Event::Subscribed => {
                self.subscribed = true;
                std::mem::take(&mut self.early).iter().for_each(|message| self.hear(message));
            }
            Event::Message(message, receipt) => self.arrived(message, receipt),
            Event::Delivered { token } => self.delivered(token),
            Event::Lost { reason, retry_in } => {
                self.subscribed = false;
                self.early.clear();
                self.console.warn(&format!("{reason}; reconnecting in {:.1} s", retry_in.as_secs_f64()));
            }
            Event::Warning(what) => self.warn(&what),
        }
        Ok(())
    }

    fn arrived(&mut self, message: Message, receipt: Option<Receipt>) {
        let commanded = self.operation != Operation::Command
            && self.topics.channels(&message.topic).any(|(channel, _)| channel == Channel::Command)
            && Envelope::<Downlink>::decode(Channel::Command, &message.payload).is_ok();
        if commanded && !self.withholds {
            self.withholds = true;
            self.console.warn(
                "a queued command arrived, which this subcommand does not answer: nothing more is acknowledged, so \
                 that all of it comes again; run `tuyagw listen --persistent` to answer it",
            );
        }
        if let Some(receipt) = receipt.filter(|_| !self.withholds) {
            self.client.acknowledge(receipt);
        }
        if commanded {
            return;
        }
        if self.subscribed {
            self.hear(&message);
        } else {
            self.early.push(message);
        }
    }

    fn hear(&mut self, message: &Message) {
        let now = self.client.now();
        match self.requests.hear(&message.topic, &message.payload, message.retain, now) {
            Heard::Answer { token, answer, round_trip } => {
                self.client.progress();
                let Some(pending) = self.pending.remove(&token) else { return };
                if let (Some(cid), [line]) = (&answer.cid, pending.lines.as_slice())
                    && *cid != line.subject.cid
                {
                    self.warn(&format!("the answer for {:?} names the cid {cid:?}", line.subject.cid));
                }
                for line in &pending.lines {
                    self.emit(line, &pending, Outcome::Answered { answer: &answer, round_trip });
                }
            }
            Heard::Malformed { token, error } => {
                let message = format!("the answer breaks the protocol: {error}");
                self.fail(token, Kind::Protocol, &message);
            }
            Heard::Ignored(why) => self.warn(&why),
        }
    }

    fn delivered(&mut self, token: u64) {
        let Some(pending) = self.pending.get_mut(&token) else { return };
        pending.delivered = true;
        if self.answered {
            return;
        }
        let Some(pending) = self.pending.remove(&token) else { return };
        self.requests.close(&pending.request_id);
        let round_trip = pending.written.map(|written| self.client.now().saturating_sub(written));
        let acknowledged = self.qos != QoS::AtMostOnce;
        for line in &pending.lines {
            self.emit(line, &pending, Outcome::Delivered { acknowledged, round_trip });
        }
    }

    /// When something falls due: an answer, or the end of patience with an outage.
    fn deadline(&mut self) -> Option<std::time::Instant> {
        let outage = self.outage_ends();
        let due = self.requests.deadline().into_iter().chain(outage).min()?;
        Some(self.client.instant(due))
    }

    fn outage_ends(&self) -> Option<Duration> {
        let lost = self.client.down_since().filter(|_| self.client.was_up() && !self.pending.is_empty())?;
        Some(lost + self.timeout)
    }

    fn expire(&mut self) -> Result<(), Failure> {
        let now = self.client.now();
        if self.outage_ends().is_some_and(|end| end <= now) {
            return Err(Failure::new(
                Kind::Connection,
                format!("the connection was lost and did not come back in {:?}", self.timeout),
            )
            .hint("--timeout waits longer"));
        }
        while let Some(overdue) = self.requests.overdue(now) {
            let delivered = self.pending.get(&overdue.token).is_some_and(|pending| pending.delivered);
            let mut message = match (self.answered, delivered) {
                (true, true) => format!("no answer in {:?}, though the broker acknowledged the request", self.timeout),
                (true, false) => format!("no answer in {:?}", self.timeout),
                (false, _) => format!("no acknowledgement in {:?}", self.timeout),
            };
            if self.withholds {
                message.push_str("; run `tuyagw listen --persistent` first, to answer the commands that are queued");
            }
            self.fail(overdue.token, Kind::Timeout, &message);
        }
        Ok(())
    }

    fn fail(&mut self, token: u64, kind: Kind, message: &str) {
        let Some(pending) = self.pending.remove(&token) else { return };
        self.requests.close(&pending.request_id);
        for line in &pending.lines {
            self.emit(line, &pending, Outcome::Failed { kind, message });
        }
    }

    fn invalid(&mut self, line: &Line, invalid: Invalid) {
        let cid = invalid.cid.as_deref().unwrap_or(&line.subject.cid);
        let id = invalid.id.as_deref().or(line.subject.id.as_deref());
        let mut result = ResultLine::failed(Kind::Invalid, &invalid.message);
        result.field = invalid.field.as_deref();
        result.cid = Some(cid).filter(|cid| !cid.is_empty());
        result.id = id;
        self.print(line, result);
    }

    /// Writes the result line of one input.
    fn emit(&mut self, line: &Line, pending: &Pending, outcome: Outcome<'_>) {
        let mut result = match outcome {
            Outcome::Answered { answer, round_trip } => ResultLine::answered(answer, round_trip),
            Outcome::Delivered { acknowledged, round_trip } => ResultLine::delivered(acknowledged, round_trip),
            Outcome::Failed { kind, message } => {
                let mut result = ResultLine::failed(kind, message);
                result.sent = (kind != Kind::Timeout).then_some(pending.written.is_some());
                result
            }
        };
        result.cid = Some(&line.subject.cid);
        result.id = line.subject.id.as_deref();
        result.status = line.subject.status;
        result.request_id = Some(&pending.request_id);
        self.print(line, result);
    }

    fn print(&mut self, line: &Line, mut result: ResultLine<'_>) {
        result.index = line.index;
        result.line = line.line;
        result.op = self.operation.name();
        result.gateway_id = line.gateway_id.as_ref().map(GatewayId::as_str);
        result.input = (!result.ok).then_some(&line.input);
        self.tally.count(&result);
        if !self.muted {
            self.out.write(&json_line(&result));
        }
    }

    /// Warns of what a broker did; a flood of it is counted, not printed.
    fn warn(&mut self, what: &str) {
        self.warnings += 1;
        if self.warnings <= WARNINGS {
            self.console.warn(what);
        }
    }

    /// Accounts for what is left, says farewell, and gives the exit code.
    async fn finish(mut self, end: Result<(), End>, mut source: Source) -> Exit {
        let mut exit = Exit::SUCCESS;
        match end {
            Ok(()) => {}
            Err(End::Signal(signal)) => {
                exit = signal;
                let message = "ended by a signal before the answer came";
                self.fail_all(Kind::Connection, message);
            }
            Err(End::Failure(failure)) => {
                exit = failure.kind.exit();
                self.fail_all(failure.kind, &failure.message);
                if failure.kind != Kind::Io {
                    self.fail_rest(&mut source, &failure).await;
                }
                self.tally.hide();
                self.console.error(&failure.message);
                if let Some(hint) = &failure.hint {
                    self.console.hint(hint);
                }
            }
        }
        self.client.close().await;
        if self.warnings > WARNINGS {
            self.console.warn(&format!("{} more warnings of this kind", self.warnings - WARNINGS));
        }
        self.out.flush();
        let written = if self.muted { Ok(()) } else { self.out.close().await };
        if let Err(SinkError::Failed(failure)) = written {
            self.console.error(&failure.message);
            exit = exit.or(failure.kind.exit());
        }
        exit.or(self.tally.finish())
    }

    fn fail_all(&mut self, kind: Kind, message: &str) {
        let open: Vec<_> = self.pending.keys().copied().collect();
        open.into_iter().for_each(|token| self.fail(token, kind, message));
        for (_, line) in std::mem::take(&mut self.statuses) {
            self.unsent(&line, kind, message);
        }
    }

    /// Reports the inputs that were never sent: all of a file, and of a pipe what is there to be read.
    async fn fail_rest(&mut self, source: &mut Source, failure: &Failure) {
        loop {
            while let Some(input) = self.waiting.pop_front() {
                for (item, line) in self.read(input) {
                    match item {
                        Err(invalid) => self.invalid(&line, invalid),
                        Ok(item) => {
                            for (index, subject) in (line.index..).zip(item.subjects) {
                                let (gateway_id, input) = (line.gateway_id.clone(), Arc::clone(&line.input));
                                let line = Line { index, line: line.line, gateway_id, subject, input };
                                self.unsent(&line, failure.kind, &failure.message);
                            }
                        }
                    }
                }
            }
            self.out.flush();
            while self.out.backlog() > BACKLOG && !self.muted {
                self.muted = self.out.progress().await.is_err();
            }
            match tokio::time::timeout(PATIENCE, source.next()).await {
                Ok(Ok(Some(batch))) => self.waiting.extend(batch),
                _ => return,
            }
        }
    }

    fn unsent(&mut self, line: &Line, kind: Kind, message: &str) {
        let mut result = ResultLine::failed(kind, message);
        result.sent = Some(false);
        result.cid = Some(&line.subject.cid);
        result.id = line.subject.id.as_deref();
        result.status = line.subject.status;
        self.print(line, result);
    }
}

/// What became of a request.
enum Outcome<'a> {
    Answered { answer: &'a Answer, round_trip: Option<Duration> },
    Delivered { acknowledged: bool, round_trip: Option<Duration> },
    Failed { kind: Kind, message: &'a str },
}

impl From<Failure> for End {
    fn from(failure: Failure) -> Self {
        Self::Failure(failure)
    }
}
