//! One run of requests: `sync`, `report`, `status` and `command` share it.
//!
//! Inputs become messages, a window of them is in flight, answers are paired in any order, and every input ends
//! as exactly one result line: accepted, refused, timed out or failed.

use std::{
    path::PathBuf,
    time::{Duration, Instant},
};

use super::{
    connection_settings::ConnectionSettings,
    event_loop::{self, ConnectionOptions, GatewayConnection, Policy},
    grace::Grace,
    journal::{Head, Journal},
    requests::{RequestConnection, Requests},
    results::{InputPosition, Outcome, Progress, ResultContexts, ResultOptions, Results},
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
    net::client::{Event, Settings},
    rate::Rate,
    request::parser::{ParsedInput, Request, RequestKind, RequestParser},
    tuya::GatewayId,
};

/// After a fatal error, how long to wait for more input: per read, and in total.
const SILENCE: Duration = Duration::from_millis(500);
const PATIENCE: Duration = Duration::from_secs(2);
/// How many inputs of a pipe are only reported: a writer that never ends would fill the disk.
const MOST_REPORTED: u64 = 100_000;
/// How many messages take their time from one look at the clocks, which costs as much as a tenth of a message.
const CLOCK: u32 = 32;
/// How long what is in flight may take after a signal, and then the writing of results.
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
    /// The file that notes what was accepted.
    pub journal: Option<PathBuf>,
    /// Whether a journal of another broker is taken.
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
    pub progress: Progress,
}

impl BatchOptions {
    /// Sets what these options say of the connection.
    pub fn apply(&self, client: &mut Settings) {
        // The window counts requests without an answer; a broker that acknowledges none of them is no reason to
        // hold others back.
        client.in_flight = u16::MAX;
        client.reconnect = self.reconnects;
    }
}

/// Runs requests until the input ends and each of them is done.
pub fn run(
    parser: RequestParser,
    operation: RequestKind,
    source: InputSource,
    settings: ConnectionSettings,
    options: BatchOptions,
    console: Console,
) -> anyhow::Result<Exit> {
    super::runtime::block_on(async {
        let (mut batch, mut connection) = Batch::new(parser, operation, source, settings, &options, console)?;
        let end = event_loop::run(&mut connection, &mut batch).await;
        Ok(batch.finish(connection, end).await)
    })
}

/// What the entries of this run's journal are about.
fn journal_head(
    parser: &RequestParser,
    operation: RequestKind,
    settings: &ConnectionSettings,
    unit: TimeUnit,
) -> Head {
    let ConnectionSettings { client, gateway_id, topics, .. } = settings;
    let scheme = if client.tls.is_some() { "mqtts" } else { "mqtt" };
    let broker = format!("{scheme}://{}", client.address).to_ascii_lowercase();
    let mut options = parser.options(operation);
    options.insert("topics".into(), topics.filter(operation.channel()).into());
    options.insert("t-unit".into(), unit.name().into());
    Head::new(operation, broker, gateway_id.as_ref().map(GatewayId::as_str), options)
}

/// How a batch ends, failures of the connection and of the output aside.
enum End {
    /// The input has ended, and each of its requests.
    Done,
    /// A signal came; the requests in flight have ended, unless they took too long or a second signal came.
    Signal,
    /// The input cannot be read further; the requests before that have ended.
    InputFailed(Failure),
}

/// What a batch waits for beside its connection.
enum Input {
    /// A first signal, or the end of all: a second one, or of the grace.
    Grace(bool),
    /// Inputs; `None` at their end.
    Inputs(Result<Option<Vec<ParsedInput>>, Failure>),
    /// More results are written, or are to be shown.
    Written,
}

struct Batch {
    operation: RequestKind,
    input: InputStream<ParsedInput>,
    /// How the input has ended.
    input_ended: Option<Result<(), Failure>>,
    /// Inputs that have no place in the window yet.
    waiting: std::vec::IntoIter<ParsedInput>,
    /// The input before them: it has its place among the results, no former run has done it, and its turn has not come.
    next: Option<(InputPosition, Request)>,
    requests: Requests,
    window: usize,
    grace: Grace,
    is_over: bool,
    /// Whether something was to be sent, so that the connection is needed.
    is_started: bool,
    /// Whether more input is to be read now.
    is_hungry: bool,
    /// When the rate lets one more message leave.
    next_turn: Option<Instant>,
    /// A queued command came: nothing more is acknowledged, so that all comes again.
    withholds: bool,
    /// Whether all of the input is there to be read, however much it is.
    is_file: bool,
    console: Console,
}

impl Batch {
    fn new(
        parser: RequestParser,
        operation: RequestKind,
        source: InputSource,
        mut settings: ConnectionSettings,
        options: &BatchOptions,
        console: Console,
    ) -> Result<(Self, RequestConnection), Failure> {
        let grace = Grace::new(GRACE)?;
        options.apply(&mut settings.client);
        let single = matches!(source, InputSource::Flags(_));
        let is_file = source.is_file();
        let response = operation.channel().response().filter(|_| options.waits_for_answers);
        let filter = response.map(|response| match &settings.gateway_id {
            Some(gateway) if single || operation != RequestKind::Command => {
                settings.topics.topic(response, gateway)
            }
            // The input may name any gateway.
            _ => settings.topics.filter(response),
        });
        let subscriptions = filter.into_iter().map(|filter| (filter, settings.qos)).collect();
        let journal = options.journal.as_deref().map(|path| {
            let head = journal_head(&parser, operation, &settings, options.unit);
            Journal::open(path, &head, options.takes_any_broker, console)
        });
        let journal = journal.transpose()?;
        let summary = options.summary.as_deref().map(|path| Replacement::prepare("--summary", path));
        let summary = summary.transpose()?;
        let manner = ResultOptions { ordered: options.is_ordered, journal, summary };
        let mut results = Results::new(options.progress, manner, single, console);
        if let Some(size) = source.size() {
            results.expect(size);
        }
        let connection_options = ConnectionOptions {
            subscriptions,
            waits_for_answers: options.waits_for_answers,
            retries: options.retries,
            rate: options.rate,
            endures_outages: false,
        };
        let connection = GatewayConnection::new(settings, connection_options, options.unit);
        let input = source.start(move |input, asked| parser.parse(operation, input, asked))?;
        let batch = Self {
            operation,
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
            withholds: false,
            is_file,
            console,
        };
        Ok((batch, connection))
    }

    /// Takes inputs into the window, at the rate that was asked for; what is not sent is not held up by it.
    fn feed(&mut self, connection: &mut RequestConnection) -> Result<(), Failure> {
        let mut now = connection.moment();
        let mut sent = 0;
        while connection.gateway().len() < self.window
            && !self.requests.results.is_behind()
            && let Some((origin, item)) = self.next_item()
        {
            if !connection.gateway_mut().has_turn(now.since) {
                self.next = Some((origin, item));
                break;
            }
            self.requests.send(connection, now, item, Some(origin))?;
            sent += 1;
            if sent % CLOCK == 0 {
                now = connection.moment();
            }
        }
        self.requests.send_statuses(connection)
    }

    /// Whether nothing that was read waits for its place in the window.
    fn is_fed(&self) -> bool {
        self.waiting.as_slice().is_empty() && self.next.is_none()
    }

    /// The next message that no former run has done; what is wrong on the way to it is told.
    fn next_item(&mut self) -> Option<(InputPosition, Request)> {
        if let Some(next) = self.next.take() {
            return Some(next);
        }
        let results = &mut self.requests.results;
        loop {
            match results.take(self.waiting.next()?) {
                (origin, Ok(item)) if results.are_done(&origin, &item) => {}
                (origin, Ok(item)) => return Some((origin, item)),
                (origin, Err(invalid)) => results.invalid(origin, &invalid),
            }
        }
    }

    /// Accounts for what is left, says farewell, and gives the exit code. A signal, or a second one, cuts it short.
    async fn finish(mut self, mut connection: RequestConnection, end: Result<End, Failure>) -> Exit {
        self.grace.renew();
        let failure = match end {
            Ok(End::Done) => None,
            Ok(End::Signal) => {
                let message = "ended by a signal before the answer came";
                self.requests.fail_all(&mut connection, FailureKind::Connection, message);
                None
            }
            Ok(End::InputFailed(failure)) | Err(failure) => Some(failure),
        };
        if let Some(failure) = &failure {
            self.requests.results.fail(failure);
            self.requests.fail_all(&mut connection, failure.kind, &failure.message);
            if self.requests.results.can_print() && self.grace.signal().is_none() {
                self.fail_rest(failure).await;
            }
        }
        connection.close().await;
        self.requests.finish_warnings();
        let (console, mut grace) = (self.console, self.grace);
        let cut = async {
            while !grace.is_over().await {
                console.note("writing what is in hand; the same signal again ends at once");
            }
        };
        let written = self.requests.results.finish(cut).await;
        let exit = failure.map_or(Exit::SUCCESS, |failure| failure.kind.exit());
        grace.signal().unwrap_or(exit.or(written))
    }

    /// Tells of a message that is not sent why not.
    fn fail(&mut self, origin: InputPosition, item: Request, failure: &Failure) {
        let outcome = Outcome::Failed { kind: failure.kind, message: &failure.message, sent: Some(false) };
        for source in origin.sources(item).as_slice() {
            self.requests.results.tell(source, None, 1, outcome);
        }
    }

    /// Reports the inputs that were never sent: all of a file, and of a pipe what is there to be read, but not for ever. A
    /// signal ends it.
    async fn fail_rest(&mut self, failure: &Failure) {
        let mut patience = PATIENCE;
        let mut told = 0;
        loop {
            while let Some((origin, item)) = self.next_item() {
                self.fail(origin, item, failure);
                told += 1;
            }
            self.requests.results.flush(0);
            while self.requests.results.is_behind() {
                tokio::select! {
                    written = self.requests.results.progress() => if written.is_err() { return },
                    // What is not read yet is of no interest any more.
                    _ = self.grace.is_over() => return,
                }
            }
            if !self.is_fed() {
                continue;
            }
            if told >= MOST_REPORTED && !self.is_file {
                self.console.warn(&format!(
                    "{told} inputs are reported as not sent; more keep coming, and the rest is not read"
                ));
                return;
            }
            let (asked, silent) = (Instant::now(), self.input.is_silent());
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
                patience = patience.saturating_sub(asked.elapsed());
            }
        }
    }
}

impl Policy for Batch {
    type Context = ResultContexts;
    type Input = Input;
    type End = End;

    fn advance(&mut self, connection: &mut RequestConnection) -> Result<Option<End>, Failure> {
        let is_ending = self.grace.signal().is_some();
        if !is_ending {
            self.feed(connection)?;
        }
        let in_flight = connection.gateway().len();
        // Nothing is dialled before there is something to send.
        self.is_started |= in_flight > 0;
        if self.is_over || (is_ending && !connection.gateway().has_written()) {
            return Ok(Some(End::Signal));
        }
        if in_flight == 0
            && self.is_fed()
            && let Some(ended) = self.input_ended.take()
        {
            return Ok(Some(ended.map_or_else(End::InputFailed, |()| End::Done)));
        }
        self.requests.results.flush(in_flight);
        let has_room = in_flight < self.window && !self.requests.results.is_behind() && !is_ending;
        self.is_hungry = has_room && self.is_fed() && self.input_ended.is_none();
        let is_paced = has_room && !self.is_fed();
        self.next_turn = if is_paced { connection.next_turn() } else { None };
        Ok(None)
    }

    fn is_started(&self) -> bool {
        self.is_started
    }

    fn next_wake(&self) -> Option<Instant> {
        self.next_turn.into_iter().chain(self.requests.results.next_show()).min()
    }

    async fn next_input(&mut self) -> Result<Input, Failure> {
        let Self { grace, input, requests, is_hungry, .. } = self;
        tokio::select! {
            is_over = grace.is_over() => Ok(Input::Grace(is_over)),
            batch = input.next(), if *is_hungry => Ok(Input::Inputs(batch)),
            written = requests.results.progress() => written.map(|()| Input::Written),
        }
    }

    fn handle_input(&mut self, _connection: &mut RequestConnection, input: Input) -> Result<(), Failure> {
        match input {
            Input::Grace(true) => self.is_over = true,
            Input::Grace(false) => {
                self.console.note("finishing what is in flight; the same signal again ends at once");
            }
            Input::Inputs(Ok(Some(batch))) => self.waiting = batch.into_iter(),
            Input::Inputs(Ok(None)) => self.input_ended = Some(Ok(())),
            // What was sent is waited for all the same.
            Input::Inputs(Err(failure)) => self.input_ended = Some(Err(failure)),
            Input::Written => {}
        }
        Ok(())
    }

    fn handle_client_event(
        &mut self,
        connection: &mut RequestConnection,
        event: Event,
    ) -> Result<(), Failure> {
        let event = match event {
            Event::Message(message, _)
                if self.operation != RequestKind::Command && connection.gateway().is_command(&message) =>
            {
                if !self.withholds {
                    self.withholds = true;
                    self.requests.advise(
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
            Event::Message(message, _) if self.withholds => {
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
