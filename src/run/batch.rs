//! One run of requests: `sync`, `report`, `status` and `command` share it.
//!
//! Inputs become messages, a window of them is in flight, answers are paired in any order, and every input ends
//! as exactly one result line: accepted, refused, timed out or failed.

use std::{
    path::PathBuf,
    time::{Duration, Instant, SystemTime, UNIX_EPOCH},
};

use super::{
    exchange::Exchange,
    grace::Grace,
    journal::{Head, Journal},
    results::{Manner, Origin, Outcome, Progress, Results},
};
use crate::{
    cli::connection::Connection,
    error::{Exit, Failure, Kind},
    io::{
        console::Console,
        files::Replacement,
        input::{Format, Source, Stream},
    },
    net::client::{Event, Settings},
    rate::Rate,
    request::parser::{Asked, Item, Operation, Operations},
    tuya::GatewayId,
};

/// How long a silent pipe is waited for when the rest of the input can only be reported: at once, and all in all.
const SILENCE: Duration = Duration::from_millis(500);
const PATIENCE: Duration = Duration::from_secs(2);
/// How many inputs of a pipe are only reported: a writer that never ends would fill the disk.
const MOST_REPORTED: u64 = 100_000;
/// How many messages take their time from one look at the clocks, which costs as much as a tenth of a message.
const CLOCK: u32 = 32;
/// How long what is in flight may take after a signal, and then the writing of results.
const GRACE: Duration = Duration::from_secs(1);

/// The options of a run of requests.
#[derive(Clone, Debug, clap::Args)]
#[command(next_help_heading = "Requests")]
pub struct RequestArgs {
    /// How many requests may be in flight
    #[arg(long, value_name = "N", default_value_t = 20, value_parser = clap::value_parser!(u16).range(1..=65000))]
    window: u16,

    /// Send at most so many messages a second: 50/s, or 30/m; retries and what is sent again count too
    #[arg(long, value_name = "N/s")]
    rate: Option<Rate>,

    /// Try a request again so many times after a system error (500) or a time-out, with its request id
    #[arg(long, value_name = "N", default_value_t = 0)]
    retries: u32,

    /// Give the results in input order
    #[arg(long)]
    ordered: bool,

    /// Note what was accepted in this file, so that the same command run again sends only the rest
    #[arg(long, value_name = "FILE")]
    journal: Option<PathBuf>,

    /// Take a journal that was begun at another broker: what that one accepted is not sent to this one
    #[arg(long, requires = "journal")]
    journal_any_broker: bool,

    /// Write counts, round-trip percentiles, duration and rate to this file as JSON
    #[arg(long, value_name = "FILE")]
    summary: Option<PathBuf>,

    /// How the input is written [default: by the file's name, else json]
    #[arg(long)]
    format: Option<Format>,

    /// Be done at the broker's acknowledgement, without waiting for the answer
    #[arg(long)]
    no_wait: bool,

    /// The unit of the time stamp t in messages
    #[arg(long, value_name = "UNIT", default_value = "s")]
    t_unit: TimeUnit,

    /// Give a lost connection up at once
    #[arg(long)]
    no_reconnect: bool,

    /// Show progress on stderr
    #[arg(long, value_name = "WHEN", default_value = "auto")]
    progress: Progress,
}

impl RequestArgs {
    /// Sets what these options say of the connection.
    pub fn apply(&self, settings: &mut Settings) {
        // The window counts requests without an answer; a broker that acknowledges none of them is no reason to
        // hold others back.
        settings.in_flight = u16::MAX;
        settings.reconnect = !self.no_reconnect;
    }

    /// How the input is written, where that was said.
    #[must_use]
    pub fn format(&self) -> Option<Format> {
        self.format
    }

    /// The unit of `t`.
    #[must_use]
    pub fn t_unit(&self) -> TimeUnit {
        self.t_unit
    }
}

/// The unit of `t`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
pub enum TimeUnit {
    /// Seconds, as the protocol's samples have it
    S,
    /// Milliseconds
    Ms,
}

impl TimeUnit {
    /// The unit's name, as the option has it.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::S => "s",
            Self::Ms => "ms",
        }
    }

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

/// Runs requests until the input ends and each of them is done.
pub fn run(
    operations: Operations,
    operation: Operation,
    source: Source,
    connection: Connection,
    args: &RequestArgs,
    console: Console,
) -> anyhow::Result<Exit> {
    super::runtime::block_on(async {
        let mut grace = Grace::new(GRACE)?;
        let mut run = Run::new(operations, operation, source, connection, args, console)?;
        let end = run.drive(&mut grace).await;
        let exit = run.finish(end, &mut grace).await;
        Ok(grace.signal().unwrap_or(exit))
    })
}

/// What the entries of this run's journal are about.
fn journal_head(
    operations: &Operations,
    operation: Operation,
    connection: &Connection,
    args: &RequestArgs,
) -> Head {
    let Connection { settings, gateway_id, topics, .. } = connection;
    let scheme = if settings.tls.is_some() { "mqtts" } else { "mqtt" };
    let broker = format!("{scheme}://{}", settings.address).to_ascii_lowercase();
    let mut options = operations.options(operation);
    options.insert("topics".into(), topics.filter(operation.channel()).into());
    options.insert("t-unit".into(), args.t_unit.name().into());
    Head::new(operation, broker, gateway_id.as_ref().map(GatewayId::as_str), options)
}

/// How a run came to its end before its input did.
enum End {
    /// A signal; what was in flight has been finished, unless it took too long or a second one came.
    Signal,
    /// A failure that ends all.
    Failure(Failure),
}

impl From<Failure> for End {
    fn from(failure: Failure) -> Self {
        Self::Failure(failure)
    }
}

struct Run {
    operation: Operation,
    input: Stream<Asked>,
    /// What was asked for and has no place in the window yet.
    waiting: std::vec::IntoIter<Asked>,
    /// What comes before that: its place among the results is taken, no former run has done it, and its turn has not come.
    next: Option<(Origin, Item)>,
    exchange: Exchange,
    window: usize,
    /// A queued command came: nothing more is acknowledged, so that all comes again.
    withholds: bool,
    /// Whether all of the input is there to be read, however much it is.
    is_file: bool,
    console: Console,
}

impl Run {
    fn new(
        operations: Operations,
        operation: Operation,
        source: Source,
        mut connection: Connection,
        args: &RequestArgs,
        console: Console,
    ) -> Result<Self, Failure> {
        args.apply(&mut connection.settings);
        let single = matches!(source, Source::Flags(_));
        let is_file = source.is_file();
        let response = operation.channel().response().filter(|_| !args.no_wait);
        let filter = response.map(|response| match &connection.gateway_id {
            Some(gateway) if single || operation != Operation::Command => {
                connection.topics.topic(response, gateway)
            }
            // The input may name any gateway.
            _ => connection.topics.filter(response),
        });
        let subscriptions = filter.into_iter().map(|filter| (filter, connection.qos)).collect();
        let journal = args.journal.as_deref().map(|path| {
            let head = journal_head(&operations, operation, &connection, args);
            Journal::open(path, &head, args.journal_any_broker, console)
        });
        let journal = journal.transpose()?;
        let summary = args.summary.as_deref().map(|path| Replacement::prepare("--summary", path));
        let summary = summary.transpose()?;
        let manner = Manner { ordered: args.ordered, journal, summary };
        let mut results = Results::new(args.progress, manner, single, console);
        if let Some(size) = source.size() {
            results.expect(size);
        }
        let exchange = Exchange::new(connection, subscriptions, args.t_unit, !args.no_wait, results, console);
        let input = source.start(move |input, asked| operations.take(operation, input, asked))?;
        Ok(Self {
            operation,
            input,
            waiting: Vec::new().into_iter(),
            next: None,
            exchange: exchange.paced(args.retries, args.rate),
            window: usize::from(args.window),
            withholds: false,
            is_file,
            console,
        })
    }

    async fn drive(&mut self, grace: &mut Grace) -> Result<(), End> {
        // Whether the input has ended, and how.
        let mut ended = None;
        // Nothing is dialled before there is something to send.
        let mut started = false;
        loop {
            let is_ending = grace.signal().is_some();
            if !is_ending {
                self.feed()?;
            }
            let in_flight = self.exchange.in_flight();
            started |= in_flight > 0;
            if is_ending && !self.exchange.has_written() {
                return Err(End::Signal);
            }
            if in_flight == 0
                && self.is_fed()
                && let Some(end) = ended.take()
            {
                return end;
            }
            self.exchange.results.flush(in_flight);
            let room = in_flight < self.window && !self.exchange.results.is_behind();
            let hungry = ended.is_none() && !is_ending && self.is_fed() && room;
            let paced = room && !self.is_fed() && !is_ending;
            let turn = if paced { self.exchange.next_turn() } else { None };
            let deadline = self.exchange.deadline().into_iter().chain(turn).min();
            let show = self.exchange.results.next_show();
            tokio::select! {
                is_over = grace.is_over() => {
                    if is_over {
                        return Err(End::Signal);
                    }
                    self.console.note("finishing what is in flight; the same signal again ends at once");
                }
                event = self.exchange.client.next(), if started => {
                    self.happened(event?)?;
                    while let Some(event) = self.exchange.client.ready()? {
                        self.happened(event)?;
                    }
                }
                batch = self.input.next(), if hungry => match batch {
                    Ok(Some(batch)) => self.waiting = batch.into_iter(),
                    Ok(None) => ended = Some(Ok(())),
                    // What was sent is waited for all the same.
                    Err(failure) => ended = Some(Err(failure.into())),
                },
                written = self.exchange.results.progress() => written?,
                () = super::runtime::sleep_until(deadline) => {}
                () = super::runtime::sleep_until(show) => {}
            }
            if started && deadline.is_some_and(|due| due <= Instant::now()) {
                // What came before the deadline is in time, though this process may have been stopped meanwhile.
                if let Ok(event) = tokio::time::timeout(Duration::ZERO, self.exchange.client.next()).await {
                    self.happened(event?)?;
                    while let Some(event) = self.exchange.client.ready()? {
                        self.happened(event)?;
                    }
                }
            }
            let advice =
                "; run `tuyagw listen --persistent` first, which answers the commands that are queued";
            self.exchange.expire(if self.withholds { advice } else { "" })?;
        }
    }

    /// Takes inputs into the window, at the rate that was asked for; what is not sent is not held up by it.
    fn feed(&mut self) -> Result<(), Failure> {
        let mut now = self.exchange.moment();
        let mut sent = 0;
        while self.exchange.in_flight() < self.window
            && !self.exchange.results.is_behind()
            && let Some((origin, item)) = self.next_item()
        {
            if !self.exchange.has_turn(now) {
                self.next = Some((origin, item));
                break;
            }
            self.exchange.send_at(now, item, Some(origin))?;
            sent += 1;
            if sent % CLOCK == 0 {
                now = self.exchange.moment();
            }
        }
        self.exchange.send_statuses()
    }

    /// Whether nothing that was read waits for its place in the window.
    fn is_fed(&self) -> bool {
        self.waiting.as_slice().is_empty() && self.next.is_none()
    }

    /// The next message that no former run has done; what is wrong on the way to it is told.
    fn next_item(&mut self) -> Option<(Origin, Item)> {
        if let Some(next) = self.next.take() {
            return Some(next);
        }
        let results = &mut self.exchange.results;
        loop {
            match results.take(self.waiting.next()?) {
                (origin, Ok(item)) if results.are_done(&origin, &item) => {}
                (origin, Ok(item)) => return Some((origin, item)),
                (origin, Err(invalid)) => results.invalid(origin, &invalid),
            }
        }
    }

    fn happened(&mut self, event: Event) -> Result<(), Failure> {
        if let Event::Message(message, _) = &event
            && self.operation != Operation::Command
            && self.exchange.is_command(message)
        {
            if !self.withholds {
                self.withholds = true;
                self.console.warn(
                    "a queued command arrived, which this subcommand does not answer: nothing more is \
                     acknowledged, so that all of it comes again",
                );
                self.console.hint("Run `tuyagw listen --persistent` to answer queued commands");
            }
            return Ok(());
        }
        match event {
            Event::Message(message, _) if self.withholds => {
                self.exchange.hear(message);
                Ok(())
            }
            event => self.exchange.happened(event),
        }
    }

    /// Accounts for what is left, says farewell, and gives the exit code. A signal, or a second one, cuts it short.
    async fn finish(mut self, end: Result<(), End>, grace: &mut Grace) -> Exit {
        grace.renew();
        let exit = match end {
            Ok(()) => Exit::SUCCESS,
            Err(End::Signal) => {
                self.exchange.fail_all(Kind::Connection, "ended by a signal before the answer came");
                Exit::SUCCESS
            }
            Err(End::Failure(failure)) => {
                self.exchange.results.fail(&failure);
                self.exchange.fail_all(failure.kind, &failure.message);
                if self.exchange.results.can_print() && grace.signal().is_none() {
                    tokio::select! {
                        () = self.fail_rest(&failure) => {}
                        // What is not read yet is of no interest any more.
                        _ = grace.is_over() => {}
                    }
                }
                failure.kind.exit()
            }
        };
        self.exchange.close().await;
        let console = self.console;
        let cut = async {
            while !grace.is_over().await {
                console.note("writing what is in hand; the same signal again ends at once");
            }
        };
        exit.or(self.exchange.results.finish(cut).await)
    }

    /// Tells of a message that is not sent why not.
    fn fail(&mut self, origin: Origin, item: Item, failure: &Failure) {
        let outcome = Outcome::Failed { kind: failure.kind, message: &failure.message, sent: Some(false) };
        for source in origin.sources(item).as_slice() {
            self.exchange.results.tell(source, None, 1, outcome);
        }
    }

    /// Reports the inputs that were never sent: all of a file, and of a pipe what is there to be read, but not for ever.
    async fn fail_rest(&mut self, failure: &Failure) {
        let mut patience = PATIENCE;
        let mut told = 0;
        loop {
            while let Some((origin, item)) = self.next_item() {
                self.fail(origin, item, failure);
                told += 1;
            }
            self.exchange.results.flush(0);
            while self.exchange.results.is_behind() {
                if self.exchange.results.progress().await.is_err() {
                    return;
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
            match tokio::time::timeout(patience.min(SILENCE), self.input.next()).await {
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
