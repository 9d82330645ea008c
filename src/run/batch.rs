//! One run of requests: `sync`, `report`, `status` and `command` share it.
//!
//! Inputs become requests, a window of which is in flight. Answers come in any order. Every input ends as exactly one result
//! line: accepted, refused, timed out or failed.

use std::{
    path::PathBuf,
    time::{Duration, Instant},
};

use super::{
    connection_settings::ConnectionSettings,
    event_loop::{self, ConnectionOptions, GatewayConnection, Policy},
    grace::Grace,
    journal::{Journal, JournalHead},
    requests::{RequestConnection, Requests},
    results::{InputPosition, ProgressMode, ResultContexts, ResultOptions, ResultStatus, Results},
    time_unit::TimeUnit,
};
use crate::{
    error::{Exit, Failure, FailureKind},
    gateway::GatewayEvent,
    io::{
        console::Console,
        files::Replacement,
        input::{InputSource, InputStream},
    },
    net::client::{ClientEvent, ClientSettings},
    rate::Rate,
    request::{ParsedInput, Request, RequestKind, RequestParser},
    tuya::GatewayId,
};

/// After a fatal error, how long to wait for more input: per read, and in total.
const SILENCE: Duration = Duration::from_millis(500);
const PATIENCE: Duration = Duration::from_secs(2);
/// Most inputs of a pipe that are reported as not sent: a writer that never ends would fill the disk.
const MOST_REPORTED: u64 = 100_000;
/// Number of messages that share one reading of the clocks, which costs as much as a tenth of a message.
const CLOCK: u32 = 32;
/// How long requests in flight may take after a signal, and then the writing of results.
const GRACE: Duration = Duration::from_secs(1);

/// How a batch of requests is run.
#[derive(Clone, Debug)]
pub struct BatchOptions {
    /// How many requests may be in flight.
    pub window: usize,
    /// The rate at which messages leave.
    pub rate: Option<Rate>,
    /// How often a request is tried again after a system error or a time-out.
    pub retries: u32,
    /// Whether results are given in input order.
    pub is_ordered: bool,
    /// The file that records accepted requests.
    pub journal: Option<PathBuf>,
    /// Whether a journal of another broker is accepted.
    pub takes_any_broker: bool,
    /// The file for the summary.
    pub summary: Option<PathBuf>,
    /// Whether requests end with their answers, rather than with the broker's acknowledgement.
    pub waits_for_answers: bool,
    /// The unit of `t`.
    pub unit: TimeUnit,
    /// Whether a lost connection is opened again.
    pub reconnects: bool,
    /// When progress is shown.
    pub progress: ProgressMode,
}

impl BatchOptions {
    /// Sets the options that concern the connection.
    pub fn apply(&self, client: &mut ClientSettings) {
        // The window limits requests without an answer. Unacknowledged publishes must not limit them further.
        client.in_flight = u16::MAX;
        client.reconnect = self.reconnects;
    }
}

/// Runs requests until the input and each of them have ended.
///
/// # Errors
/// A file that cannot be used.
pub fn run(
    parser: RequestParser,
    kind: RequestKind,
    source: InputSource,
    settings: ConnectionSettings,
    options: BatchOptions,
    console: Console,
) -> anyhow::Result<Exit> {
    super::runtime::block_on(async {
        let (mut batch, mut connection) = Batch::new(parser, kind, source, settings, &options, console)?;
        let end = event_loop::run(&mut connection, &mut batch).await;
        Ok(batch.finish(connection, end).await)
    })
}

/// Returns the head of this run's journal.
fn journal_head(
    parser: &RequestParser,
    kind: RequestKind,
    settings: &ConnectionSettings,
    unit: TimeUnit,
) -> JournalHead {
    let ConnectionSettings { client, gateway_id, topics, agent, .. } = settings;
    let is_tls = client.tls.is_some() || agent.as_ref().is_some_and(|agent| agent.is_tls);
    let scheme = if is_tls { "mqtts" } else { "mqtt" };
    let broker = format!("{scheme}://{}", client.address).to_ascii_lowercase();
    let mut options = parser.options(kind);
    options.insert("topics".into(), topics.filter(kind.channel()).into());
    options.insert("t-unit".into(), unit.name().into());
    JournalHead::new(kind, broker, gateway_id.as_ref().map(GatewayId::as_str), options)
}

/// How a batch ends, apart from failures of the connection and of the output.
enum BatchEnd {
    /// The input has ended, and each of its requests.
    Done,
    /// A signal came; the requests in flight have ended, unless they took too long or a second signal came.
    Signal,
    /// The input cannot be read further; the requests before that have ended.
    InputFailed(Failure),
}

/// Events of a batch beside those of its connection.
enum BatchInput {
    /// The first signal (false); a second one, or the end of the grace (true).
    Grace(bool),
    /// Inputs; `None` at their end.
    Inputs(Result<Option<Vec<ParsedInput>>, Failure>),
    /// More results are written, or the progress display needs an update.
    Written,
}

struct Batch {
    kind: RequestKind,
    input: InputStream<ParsedInput>,
    /// How the input ended.
    input_ended: Option<Result<(), Failure>>,
    /// Inputs that wait for room in the window.
    waiting: std::vec::IntoIter<ParsedInput>,
    /// The request before them: it has its position, and waits for its turn by the rate.
    next: Option<(InputPosition, Request)>,
    requests: Requests,
    window: usize,
    grace: Grace,
    is_over: bool,
    /// Whether there was something to send; the connection is opened then.
    is_started: bool,
    /// Whether more input is to be read now.
    is_hungry: bool,
    /// When the rate lets one more message leave.
    next_turn: Option<Instant>,
    /// A queued command came: nothing more is acknowledged, so that the broker sends all of it again.
    withholds_acks: bool,
    /// Whether the input is a file, which ends.
    is_file: bool,
    console: Console,
}

impl Batch {
    fn new(
        parser: RequestParser,
        kind: RequestKind,
        source: InputSource,
        mut settings: ConnectionSettings,
        options: &BatchOptions,
        console: Console,
    ) -> Result<(Self, RequestConnection), Failure> {
        let grace = Grace::new(GRACE)?;
        options.apply(&mut settings.client);
        let single = matches!(source, InputSource::Flags(_));
        let is_file = source.is_file();
        let response = kind.channel().response().filter(|_| options.waits_for_answers);
        let filter = response.map(|response| match &settings.gateway_id {
            Some(gateway) if single || kind != RequestKind::Command => {
                settings.topics.topic(response, gateway)
            }
            // The input may name any gateway.
            _ => settings.topics.filter(response),
        });
        let subscriptions = filter.into_iter().map(|filter| (filter, settings.qos)).collect();
        let journal = options.journal.as_deref().map(|path| {
            let head = journal_head(&parser, kind, &settings, options.unit);
            Journal::open(path, &head, options.takes_any_broker, console)
        });
        let journal = journal.transpose()?;
        let summary = options.summary.as_deref().map(|path| Replacement::prepare("--summary", path));
        let summary = summary.transpose()?;
        let result_options = ResultOptions {
            ordered: options.is_ordered,
            journal,
            summary,
            queues: settings.agent.as_ref().is_some_and(|agent| agent.queues),
        };
        let mut results = Results::new(options.progress, result_options, single, console);
        if let Some(size) = source.size() {
            results.set_input_size(size);
        }
        let connection_options = ConnectionOptions {
            subscriptions,
            waits_for_answers: options.waits_for_answers,
            retries: options.retries,
            rate: options.rate,
            endures_outages: false,
        };
        let connection = GatewayConnection::new(settings, connection_options, options.unit);
        let input = source.start(move |input, parsed| parser.parse(kind, input, parsed))?;
        let batch = Self {
            kind,
            input,
            input_ended: None,
            waiting: Vec::new().into_iter(),
            next: None,
            requests: Requests::new(results, &connection, console),
            window: options.window,
            grace,
            is_over: false,
            is_started: false,
            is_hungry: false,
            next_turn: None,
            withholds_acks: false,
            is_file,
            console,
        };
        Ok((batch, connection))
    }

    /// Sends inputs while there is room in the window, at the rate of `--rate`. Invalid inputs need no turn.
    fn feed(&mut self, connection: &mut RequestConnection) -> Result<(), Failure> {
        let mut now = connection.moment();
        let mut sent = 0;
        while connection.gateway().len() < self.window
            && !self.requests.results.is_behind()
            && let Some((position, request)) = self.next_request()
        {
            if !connection.gateway_mut().has_turn(now.since) {
                self.next = Some((position, request));
                break;
            }
            self.requests.send(connection, now, request, Some(position))?;
            sent += 1;
            if sent % CLOCK == 0 {
                now = connection.moment();
            }
        }
        self.requests.send_statuses(connection)
    }

    /// Returns whether no input waits for room in the window.
    fn has_no_waiting(&self) -> bool {
        self.waiting.as_slice().is_empty() && self.next.is_none()
    }

    /// Returns the next request that no former run has done; reports invalid inputs before it.
    fn next_request(&mut self) -> Option<(InputPosition, Request)> {
        if let Some(next) = self.next.take() {
            return Some(next);
        }
        let results = &mut self.requests.results;
        loop {
            match results.assign_position(self.waiting.next()?) {
                (position, Ok(request)) if results.pass_over(&position, &request) => {}
                (position, Ok(request)) => return Some((position, request)),
                (position, Err(error)) => results.report_invalid(position, &error),
            }
        }
    }

    /// Reports open requests as failed, closes the connection, and returns the exit code. A signal, or a second one, cuts this
    /// short.
    async fn finish(mut self, mut connection: RequestConnection, end: Result<BatchEnd, Failure>) -> Exit {
        self.grace.renew();
        let failure = match end {
            Ok(BatchEnd::Done) => None,
            Ok(BatchEnd::Signal) => {
                let message = "ended by a signal before the answer came";
                self.requests.fail_all(&mut connection, FailureKind::Connection, message);
                None
            }
            Ok(BatchEnd::InputFailed(failure)) | Err(failure) => Some(failure),
        };
        if let Some(failure) = &failure {
            self.requests.results.set_failure(failure);
            self.requests.fail_all(&mut connection, failure.kind, &failure.message);
            if self.requests.results.can_print() && self.grace.signal().is_none() {
                self.report_rest(failure).await;
            }
        }
        connection.close().await;
        self.requests.finish_warnings();
        let (console, mut grace) = (self.console, self.grace);
        let cut = async {
            while !grace.is_over().await {
                console.note("writing the last results; the same signal again ends at once");
            }
        };
        let written = self.requests.results.finish(cut).await;
        let exit = failure.map_or(Exit::SUCCESS, |failure| failure.kind.exit());
        grace.signal().unwrap_or(exit.or(written))
    }

    /// Reports a request that is not sent because of a failure.
    fn report_unsent(&mut self, position: InputPosition, request: Request, failure: &Failure) {
        let status =
            ResultStatus::Failed { kind: failure.kind, message: &failure.message, sent: Some(false) };
        for context in position.result_contexts(request).as_slice() {
            self.requests.results.report(context, None, 1, status);
        }
    }

    /// Reports the inputs that were never sent: those of a file, and those that a pipe holds, within limits. A signal ends it.
    async fn report_rest(&mut self, failure: &Failure) {
        let mut patience = PATIENCE;
        let mut reported = 0;
        loop {
            while let Some((position, request)) = self.next_request() {
                self.report_unsent(position, request, failure);
                reported += 1;
            }
            self.requests.results.flush(0);
            while self.requests.results.is_behind() {
                tokio::select! {
                    written = self.requests.results.committed_changed() => if written.is_err() { return },
                    // The rest of the input needs no report.
                    _ = self.grace.is_over() => return,
                }
            }
            if !self.has_no_waiting() {
                continue;
            }
            if reported >= MOST_REPORTED && !self.is_file {
                self.console.warn(&format!(
                    "{reported} inputs are reported as not sent; more keep coming, and the rest is not read"
                ));
                return;
            }
            let (began, silent) = (Instant::now(), self.input.is_silent());
            let batch = tokio::select! {
                batch = tokio::time::timeout(patience.min(SILENCE), self.input.next()) => batch,
                _ = self.grace.is_over() => return,
            };
            match batch {
                Ok(Ok(Some(batch))) => self.waiting = batch.into_iter(),
                Err(_) if !self.input.is_silent() => continue,
                _ => return,
            }
            if silent {
                patience = patience.saturating_sub(began.elapsed());
            }
        }
    }
}

impl Policy for Batch {
    type Context = ResultContexts;
    type Input = BatchInput;
    type End = BatchEnd;

    fn advance(&mut self, connection: &mut RequestConnection) -> Result<Option<BatchEnd>, Failure> {
        let is_ending = self.grace.signal().is_some();
        if !is_ending {
            self.feed(connection)?;
        }
        let in_flight = connection.gateway().len();
        // Connect once there is something to send.
        self.is_started |= in_flight > 0;
        if self.is_over || (is_ending && !connection.gateway().has_written()) {
            return Ok(Some(BatchEnd::Signal));
        }
        if in_flight == 0
            && self.has_no_waiting()
            && let Some(ended) = self.input_ended.take()
        {
            return Ok(Some(ended.map_or_else(BatchEnd::InputFailed, |()| BatchEnd::Done)));
        }
        self.requests.results.flush(in_flight);
        let has_room = in_flight < self.window && !self.requests.results.is_behind() && !is_ending;
        self.is_hungry = has_room && self.has_no_waiting() && self.input_ended.is_none();
        let is_paced = has_room && !self.has_no_waiting();
        self.next_turn = if is_paced { connection.next_turn() } else { None };
        Ok(None)
    }

    fn is_started(&self) -> bool {
        self.is_started
    }

    fn next_wake(&self) -> Option<Instant> {
        self.next_turn.into_iter().chain(self.requests.results.next_update()).min()
    }

    async fn next_input(&mut self) -> Result<BatchInput, Failure> {
        let Self { grace, input, requests, is_hungry, .. } = self;
        tokio::select! {
            is_over = grace.is_over() => Ok(BatchInput::Grace(is_over)),
            batch = input.next(), if *is_hungry => Ok(BatchInput::Inputs(batch)),
            written = requests.results.committed_changed() => written.map(|()| BatchInput::Written),
        }
    }

    fn handle_input(
        &mut self,
        _connection: &mut RequestConnection,
        input: BatchInput,
    ) -> Result<(), Failure> {
        match input {
            BatchInput::Grace(true) => self.is_over = true,
            BatchInput::Grace(false) => {
                self.console.note("waiting for requests in flight; the same signal again ends at once");
            }
            BatchInput::Inputs(Ok(Some(batch))) => self.waiting = batch.into_iter(),
            BatchInput::Inputs(Ok(None)) => self.input_ended = Some(Ok(())),
            // Requests in flight are still waited for.
            BatchInput::Inputs(Err(failure)) => self.input_ended = Some(Err(failure)),
            BatchInput::Written => {}
        }
        Ok(())
    }

    fn handle_client_event(
        &mut self,
        connection: &mut RequestConnection,
        event: ClientEvent,
    ) -> Result<(), Failure> {
        let event = match event {
            ClientEvent::Message(message, _)
                if self.kind != RequestKind::Command && connection.gateway().is_command(&message) =>
            {
                if !self.withholds_acks {
                    self.withholds_acks = true;
                    self.requests.set_timeout_advice(
                        "; run `tuyagw listen --persistent` first, which answers the commands that are queued",
                    );
                    self.console.warn(
                        "a queued command arrived, which this subcommand does not answer: nothing more is \
                         acknowledged, so that all of it comes again",
                    );
                    self.console.hint("Run `tuyagw listen --persistent` to answer queued commands");
                }
                return Ok(());
            }
            ClientEvent::Message(message, _) if self.withholds_acks => {
                connection.handle_message(message);
                return Ok(());
            }
            event => event,
        };
        self.requests.handle_client_event(connection, event);
        Ok(())
    }

    fn handle_gateway_event(&mut self, event: GatewayEvent<ResultContexts>) {
        self.requests.handle_event(event);
    }
}
