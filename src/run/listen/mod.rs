//! Listens: records arriving messages, answers commands, and sends uplinks from stdin, over one connection.

mod arrival_queue;
mod commands;
mod subscriptions;

use std::{
    collections::{HashSet, VecDeque},
    path::PathBuf,
    time::{Duration, Instant},
};

use self::{arrival_queue::ArrivalQueue, subscriptions::topic_filters};
use super::{
    command_executor::{CommandExecutor, CommandPolicy, ExecutedCommand, check_program},
    connection_settings::ConnectionSettings,
    event_loop::{self, ConnectionOptions, GatewayConnection, Policy},
    record_filter::RecordFilter,
    requests::{RequestConnection, Requests},
    results::{ProgressMode, ResultContexts, ResultOptions, Results},
    runtime::block_on,
    signals::Signals,
    time_unit::{TimeUnit, unix_time},
};
use crate::{
    agent::ANSWER_TOPIC,
    error::{Exit, Failure, FailureKind},
    gateway::{CommandKey, GatewayEvent, ReceivedCommands},
    io::{
        batch_writer::{BatchWriter, Offset, Purpose, Rotation, WriterError},
        console::Console,
        fifo,
        input::InputStream,
    },
    mqtt::{
        codec::{Message, QoS},
        session::AckToken,
    },
    net::client::ClientEvent,
    recording::{Record, RecordPrefix},
    request::{ParsedInput, RequestParser},
    tuya::{Channel, GatewayId},
};

/// Limit of uplinks from stdin in flight.
const WINDOW: usize = 20;
/// Reading stops while more bytes than this wait to be written.
const BACKLOG: u64 = 8 << 20;
/// How long commands, requests and records may take after a signal or the end of the period. Messages that are not handled
/// by then are not acknowledged, and the broker sends them again.
const GRACE: Duration = Duration::from_millis(1500);

/// What to listen to, and what to do with messages.
pub struct ListenOptions {
    /// Whether all topics of the gateway are heard, its own messages included.
    pub hears_all: bool,
    /// Which messages are recorded and answered.
    pub filter: RecordFilter,
    /// The topic filters to subscribe to; the downlink topics if there are none.
    pub topics: Vec<String>,
    /// The file of the records; stdout without one.
    pub out: Option<PathBuf>,
    /// When that file is renamed, and a new one begun.
    pub rotation: Option<Rotation>,
    /// The number of records after which to end.
    pub count: Option<u64>,
    /// How long to listen.
    pub period: Option<Duration>,
    /// How commands are answered; `None` if they are not.
    pub policy: Option<CommandPolicy>,
    /// The devices that exist; every device without a list.
    pub devices: Option<HashSet<String>>,
    /// Whether the new values are reported after a successful command.
    pub reports_back: bool,
    /// Whether uplinks are read from stdin.
    pub reads_stdin: bool,
    /// Whether SIGHUP is left to the caller.
    pub reloads: bool,
    /// Whether the subscription that makes an agent leave the commands to this program is added.
    pub claims_commands: bool,
    /// The unit of `t`.
    pub unit: TimeUnit,
}

/// Listens until a signal, the end of the period, or enough records.
///
/// # Errors
/// A program or a file that cannot be used.
pub fn run(
    mut settings: ConnectionSettings,
    parser: RequestParser,
    options: ListenOptions,
    console: Console,
) -> anyhow::Result<Exit> {
    settings.client.gives_up = false;
    block_on(async {
        let (mut listen, mut connection) = Listen::new(settings, parser, options, console)?;
        let end = event_loop::run(&mut connection, &mut listen).await;
        Ok(listen.finish(connection, end).await)
    })
}

/// How listening ended.
pub(super) enum ListenEnd {
    /// Enough records have come, the period is over, or a signal came.
    Done(Exit),
    /// The reader of stdout has gone: it wanted no more.
    ReaderGone,
}

/// Events of `listen` beside those of its connection.
pub(super) enum ListenInput {
    Signal(Exit),
    Executed(ExecutedCommand),
    /// Uplinks; `None` at the end of stdin.
    Uplinks(Option<Vec<ParsedInput>>),
    /// More records or results are written.
    Written,
}

pub(super) struct Listen {
    pub(super) requests: Requests,
    /// The file of the records; without one they go to stdout, among the results.
    out: Option<BatchWriter>,
    gateway_id: GatewayId,
    /// The quality of service of publishes.
    pub(super) qos: QoS,
    filter: RecordFilter,
    /// The commands that were answered; `None` if commands are not answered.
    commands: Option<ReceivedCommands>,
    executor: CommandExecutor,
    report_back: bool,
    /// Unacknowledged messages.
    arrivals: ArrivalQueue<CommandKey, AckToken, Offset>,
    records: u64,
    /// When the current messages were read, by the client's clock and, in microseconds since 1970, by the wall clock.
    received_at: (Duration, i64),
    stamp: RecordPrefix,
    count: Option<u64>,
    /// When the period ends.
    ends: Option<Instant>,
    signals: Signals,
    /// The exit code, once listening is ending.
    ending: Option<Exit>,
    /// When open work is dropped.
    grace_ends: Option<Instant>,
    stdin: Option<InputStream<ParsedInput>>,
    waiting: VecDeque<ParsedInput>,
    /// Whether more of stdin is to be read now.
    is_hungry: bool,
    console: Console,
}

impl Listen {
    pub(super) fn new(
        settings: ConnectionSettings,
        parser: RequestParser,
        options: ListenOptions,
        console: Console,
    ) -> Result<(Self, RequestConnection), Failure> {
        let gateway_id =
            settings.gateway_id.clone().ok_or_else(|| Failure::invalid("no gateway id is given"))?;
        if let Some(CommandPolicy::Program { command, .. }) = &options.policy
            && let Some(program) = command.first()
        {
            check_program(program)?;
        }
        let is_answering = options.policy.is_some();
        let report_back = is_answering && options.reports_back;
        let out = options
            .out
            .as_ref()
            .map(|path| BatchWriter::append_rotating(path, Purpose::ListenRecords, options.rotation))
            .transpose()?;
        if let Some(repaired) = out.as_ref().and_then(BatchWriter::recovery_note) {
            console.warn(repaired);
        }
        let claims = options.claims_commands && is_answering && settings.agent.is_some();
        let needs_answers = report_back || options.reads_stdin;
        let filters =
            topic_filters(&options.topics, options.hears_all, needs_answers, &settings.topics, &gateway_id);
        let connection_options = ConnectionOptions {
            subscriptions: filters
                .into_iter()
                .chain(claims.then(|| ANSWER_TOPIC.to_owned()))
                .map(|filter| (filter, settings.qos))
                .collect(),
            waits_for_answers: true,
            endures_outages: true,
            ..ConnectionOptions::default()
        };
        let qos = settings.qos;
        let connection = GatewayConnection::new(settings, connection_options, options.unit);
        let results = Results::new(ProgressMode::Never, ResultOptions::default(), false, console);
        let commands = is_answering
            .then(|| ReceivedCommands::new(parser.product.clone(), parser.check, options.devices));
        let stdin = if options.reads_stdin {
            Some(fifo::stdin(console)?.start(move |input, parsed| parser.parse_uplink(input, parsed))?)
        } else {
            None
        };
        let listen = Self {
            requests: Requests::new(results, &connection, console),
            out,
            gateway_id,
            qos,
            filter: options.filter,
            commands,
            executor: CommandExecutor::new(options.policy),
            report_back,
            arrivals: ArrivalQueue::default(),
            records: 0,
            received_at: (Duration::MAX, 0),
            stamp: RecordPrefix::default(),
            count: options.count,
            ends: options.period.map(|period| Instant::now() + period),
            signals: if options.reloads { Signals::without_hangup()? } else { Signals::new()? },
            ending: None,
            grace_ends: None,
            stdin,
            waiting: VecDeque::new(),
            is_hungry: false,
            console,
        };
        Ok((listen, connection))
    }

    fn has_enough(&self) -> bool {
        self.count.is_some_and(|count| self.records >= count)
    }

    /// Begins the end if enough records have come, or the period is over. Returns whether the grace is over.
    fn check_end(&mut self) -> bool {
        if self.ending.is_none() && self.has_enough() {
            self.ending = Some(Exit::SUCCESS);
        }
        let now = Instant::now();
        if self.grace_ends.is_some_and(|ends| ends <= now) {
            return true;
        }
        if self.grace_ends.is_none() && self.ends.is_some_and(|ends| ends <= now) {
            let is_enough = self.count.is_none() || self.has_enough();
            self.ending = self.ending.or(Some(if is_enough { Exit::SUCCESS } else { Exit::TIMEOUT }));
            self.grace_ends = Some(now + GRACE);
        }
        false
    }

    /// Returns whether a message is on a response topic, and is not a command, which a profile may put there, too.
    fn may_be_answer(connection: &RequestConnection, message: &Message) -> bool {
        let answers = [Channel::SyncResponse, Channel::ReportResponse];
        let mut channels = connection.gateway().topics().channels(&message.topic);
        channels.any(|(channel, _)| answers.contains(&channel)) && !connection.gateway().is_command(message)
    }

    fn record(&mut self, connection: &RequestConnection, message: &Message) -> Offset {
        let received_at = connection.received_at();
        if self.received_at.0 != received_at {
            self.received_at = (received_at, unix_us());
        }
        let mono_us = u64::try_from(received_at.as_micros()).unwrap_or(u64::MAX);
        let record =
            Record::of(message, self.received_at.1, mono_us).classified(connection.gateway().topics());
        self.records += 1;
        match &mut self.out {
            Some(out) => out.write_with(|line| record.write_after(line, &mut self.stamp)),
            None => self.requests.results.write_with(|line| record.write_after(line, &mut self.stamp)),
        }
    }

    /// Returns the offset up to which records are written, and to a file synced.
    fn committed(&self) -> Offset {
        self.out.as_ref().map_or_else(|| self.requests.results.committed(), BatchWriter::committed)
    }

    /// Returns whether records are so far behind that reading should stop.
    fn is_behind(&mut self) -> bool {
        let file_is_behind = self.out.as_mut().is_some_and(|out| out.is_behind(BACKLOG));
        file_is_behind || self.requests.results.is_behind()
    }

    /// Acknowledges messages that are recorded and answered.
    fn acknowledge(&mut self, connection: &mut RequestConnection) {
        let committed = self.committed();
        while let Some(receipt) = self.arrivals.next_acknowledgement(&committed) {
            if let Some(receipt) = receipt {
                connection.client().acknowledge(receipt);
            }
        }
    }

    /// Sends uplinks of stdin.
    fn feed(&mut self, connection: &mut RequestConnection) -> Result<(), Failure> {
        while connection.gateway().len() < WINDOW
            && let Some(input) = self.waiting.pop_front()
        {
            match self.requests.results.assign_position(input) {
                (position, Ok(request)) => {
                    self.requests.send(connection, connection.moment(), request, Some(position))?;
                }
                (position, Err(error)) => self.requests.results.report_invalid(position, &error),
            }
        }
        self.requests.send_statuses(connection)
    }

    /// Reports open requests as failed, closes the connection and the output, and returns the exit code.
    pub(super) async fn finish(
        mut self,
        mut connection: RequestConnection,
        end: Result<ListenEnd, Failure>,
    ) -> Exit {
        let is_over = matches!(end, Ok(ListenEnd::Done(_)));
        let exit = match end {
            Ok(ListenEnd::ReaderGone) => Exit::SUCCESS,
            Ok(ListenEnd::Done(exit)) => exit,
            Err(failure) => {
                self.requests.results.set_failure(&failure);
                self.requests.fail_all(&mut connection, failure.kind, &failure.message);
                failure.kind.exit()
            }
        };
        let message = "listening ended before the answer came";
        self.requests.fail_all(&mut connection, FailureKind::Connection, message);
        if is_over && exit == Exit::TIMEOUT {
            let wanted = self.count.unwrap_or_default();
            self.console.error(&format!("{} of {wanted} records came in time", self.records));
            self.console.hint("--for waits longer; check whether --topic, --kind and --cid select the rest");
        }
        connection.close().await;
        self.requests.finish_warnings();
        let recorded = match self.out {
            Some(out) => out.close().await,
            None => Ok(()),
        };
        // The failure of the file has ended the listening, and is printed already.
        let recorded = recorded.map_or_else(|_| Exit::USAGE, |()| Exit::SUCCESS);
        let results = self.requests.results.finish_quietly();
        let results = tokio::time::timeout(GRACE, results).await.unwrap_or(Exit::SUCCESS);
        exit.or(recorded).or(results)
    }
}

impl Policy for Listen {
    type Context = ResultContexts;
    type Input = ListenInput;
    type End = ListenEnd;

    fn advance(&mut self, connection: &mut RequestConnection) -> Result<Option<ListenEnd>, Failure> {
        if self.check_end() {
            return Ok(Some(ListenEnd::Done(self.ending.unwrap_or(Exit::SUCCESS))));
        }
        if self.ending.is_none() {
            self.feed(connection)?;
        }
        self.acknowledge(connection);
        self.requests.results.flush(0);
        if let Some(out) = &mut self.out {
            out.flush();
        }
        if self.requests.results.is_reader_gone() {
            return Ok(Some(ListenEnd::ReaderGone));
        }
        if let Some(exit) = self.ending
            && self.arrivals.is_empty()
            && self.executor.is_empty()
            && connection.gateway().is_empty()
            && self.requests.results.is_written()
        {
            return Ok(Some(ListenEnd::Done(exit)));
        }
        let is_behind = self.is_behind();
        connection.client().pause_reads(is_behind);
        self.is_hungry =
            self.ending.is_none() && self.waiting.is_empty() && connection.gateway().len() < WINDOW;
        Ok(None)
    }

    fn next_wake(&self) -> Option<Instant> {
        self.grace_ends.or(self.ends)
    }

    async fn next_input(&mut self) -> Result<ListenInput, Failure> {
        let Self { signals, executor, stdin, requests, out, is_hungry, .. } = self;
        tokio::select! {
            signal = signals.next() => Ok(ListenInput::Signal(signal)),
            executed = executor.next() => Ok(ListenInput::Executed(executed)),
            batch = next_batch(stdin), if *is_hungry => batch.map(ListenInput::Uplinks),
            written = requests.results.committed_changed() => written.map(|()| ListenInput::Written),
            recorded = committed_changed(out) => recorded.map(|()| ListenInput::Written),
        }
    }

    fn handle_input(
        &mut self,
        connection: &mut RequestConnection,
        input: ListenInput,
    ) -> Result<(), Failure> {
        match input {
            ListenInput::Signal(signal) => {
                let is_second = self.ending.is_some_and(|exit| exit != Exit::SUCCESS);
                self.ending = Some(signal);
                self.grace_ends = Some(if is_second { Instant::now() } else { Instant::now() + GRACE });
            }
            ListenInput::Executed(executed) => {
                self.handle_executed(connection, executed)?;
                while let Some(executed) = self.executor.try_next() {
                    self.handle_executed(connection, executed)?;
                }
            }
            ListenInput::Uplinks(None) => self.stdin = None,
            ListenInput::Uplinks(Some(batch)) => self.waiting.extend(batch),
            ListenInput::Written => {}
        }
        Ok(())
    }

    /// Handles an event. Once listening is ending, new messages are not acknowledged, so that the broker keeps them.
    fn handle_client_event(
        &mut self,
        connection: &mut RequestConnection,
        event: ClientEvent,
    ) -> Result<(), Failure> {
        let (message, receipt) = match event {
            ClientEvent::Message(message, receipt) => (message, receipt),
            event => {
                if matches!(event, ClientEvent::Subscribed) {
                    self.console.note("listening");
                }
                self.requests.handle_client_event(connection, event);
                return Ok(());
            }
        };
        self.handle_arrival(connection, &message, receipt)?;
        if connection.gateway().awaits_answers() && Self::may_be_answer(connection, &message) {
            connection.handle_message(message);
        }
        Ok(())
    }

    fn handle_gateway_event(&mut self, event: GatewayEvent<ResultContexts>) {
        self.requests.handle_event(event);
    }
}

impl Listen {
    /// Ends in good order.
    pub(super) fn end(&mut self, exit: Exit) {
        if self.ending.is_none() {
            self.ending = Some(exit);
            self.grace_ends = Some(Instant::now() + GRACE);
        }
    }

    /// Returns whether listening is ending.
    pub(super) fn is_ending(&self) -> bool {
        self.ending.is_some()
    }

    /// Replaces the devices that exist.
    pub(super) fn set_known_devices(&mut self, devices: HashSet<String>) {
        if let Some(commands) = &mut self.commands {
            commands.set_devices(devices);
        }
    }

    /// Passes a message to the gateway if it may be an answer to one of its own requests.
    pub(super) fn handle_answer(connection: &mut RequestConnection, message: Message) {
        if Self::may_be_answer(connection, &message) {
            connection.handle_message(message);
        }
    }

    /// Records a message, answers it if it is a command, and acknowledges it once both are done.
    pub(super) fn handle_arrival(
        &mut self,
        connection: &mut RequestConnection,
        message: &Message,
        receipt: Option<AckToken>,
    ) -> Result<(), Failure> {
        // Retained and repeated messages are no progress: a broker sends them after every SUBSCRIBE or reconnect.
        if !message.retain && !message.dup {
            connection.client().reset_backoff();
        }
        let is_wanted = self.filter.wants(message, connection.gateway().topics());
        let is_full = self.ending.is_some() || self.has_enough();
        // A message that will not be recorded is not acknowledged either, though it may be an answer.
        if !(is_full && is_wanted) {
            let recorded = is_wanted.then(|| self.record(connection, message));
            let number = self.arrivals.push(receipt, recorded);
            if is_wanted {
                self.handle_command(connection, message, number)?;
            }
        }
        Ok(())
    }
}

/// Waits until more records are synced; never returns without a file. Cancel-safe.
async fn committed_changed(out: &mut Option<BatchWriter>) -> Result<(), Failure> {
    match out {
        Some(out) => match out.committed_changed().await {
            Ok(_) => Ok(()),
            Err(WriterError::Failed(failure)) => Err(failure),
            Err(WriterError::ReaderGone) => Err(Failure::io("the records have no reader any more")),
        },
        None => std::future::pending().await,
    }
}

/// Returns the next inputs of stdin; never returns without `--stdin`.
async fn next_batch(
    stdin: &mut Option<InputStream<ParsedInput>>,
) -> Result<Option<Vec<ParsedInput>>, Failure> {
    match stdin {
        Some(source) => source.next().await,
        None => std::future::pending().await,
    }
}

fn unix_us() -> i64 {
    i64::try_from(unix_time().as_micros()).unwrap_or(i64::MAX)
}
