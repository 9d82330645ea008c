//! One run of requests: `sync`, `report`, `status` and `command` share it.
//!
//! Inputs become messages, a window of them is in flight, answers are paired in any order, and every input ends
//! as exactly one result line: accepted, refused, timed out or failed.

use std::{
    collections::VecDeque,
    sync::Arc,
    time::{Duration, SystemTime, UNIX_EPOCH},
};

use super::{
    Console,
    connection::Connection,
    exchange::Exchange,
    input::{self, Input},
    operations::{Invalid, Item, Operation, Operations},
    results::{Outcome, Progress, Results, Source},
    signals::Signals,
};
use crate::{
    failure::{Exit, Failure, Kind},
    mqtt::client::{Event, Settings},
};

/// How long a silent pipe is waited for when the rest of the input can only be reported.
const PATIENCE: Duration = Duration::from_millis(200);

/// The options of a run of requests.
#[derive(Clone, Debug, clap::Args)]
#[command(next_help_heading = "Requests")]
pub struct RequestArgs {
    /// How many requests may be in flight
    #[arg(long, value_name = "N", default_value_t = 20, value_parser = clap::value_parser!(u16).range(1..=65000))]
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

    /// Show progress on stderr
    #[arg(long, value_name = "WHEN", default_value = "auto")]
    progress: Progress,
}

impl RequestArgs {
    /// Sets what these options say of the connection.
    pub fn apply(&self, settings: &mut Settings) {
        settings.in_flight = self.window;
        settings.reconnect = !self.no_reconnect;
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
    source: input::Source,
    connection: Connection,
    args: &RequestArgs,
    console: Console,
) -> anyhow::Result<Exit> {
    super::block_on(async {
        let mut run = Run::new(operations, operation, source, connection, args, console);
        let end = run.drive().await;
        Ok(run.finish(end).await)
    })
}

/// How a run came to its end before its input did.
enum End {
    /// A signal; what was in flight has been finished, unless a second one came.
    Signal(Exit),
    /// A failure that ends all.
    Failure(Failure),
}

impl From<Failure> for End {
    fn from(failure: Failure) -> Self {
        Self::Failure(failure)
    }
}

struct Run {
    operations: Operations,
    operation: Operation,
    source: input::Source,
    /// Inputs that were taken and have no place in the window yet.
    waiting: VecDeque<Input>,
    exchange: Exchange,
    window: usize,
    /// A queued command came: nothing more is acknowledged, so that all comes again.
    withholds: bool,
    console: Console,
}

impl Run {
    fn new(
        operations: Operations,
        operation: Operation,
        source: input::Source,
        mut connection: Connection,
        args: &RequestArgs,
        console: Console,
    ) -> Self {
        args.apply(&mut connection.settings);
        let single = matches!(source, input::Source::Flags(_));
        let response = operation.channel().response().filter(|_| !args.no_wait);
        let filter = response.map(|response| match &connection.gateway_id {
            Some(gateway) if single || operation != Operation::Command => {
                connection.topics.topic(response, gateway)
            }
            // The input may name any gateway.
            _ => connection.topics.filter(response),
        });
        let subscriptions = filter.into_iter().map(|filter| (filter, connection.qos)).collect();
        let results = Results::new(args.progress, single, console);
        let exchange = Exchange::new(connection, subscriptions, args.t_unit, !args.no_wait, results, console);
        let window = usize::from(args.window);
        Self {
            operations,
            operation,
            source,
            waiting: VecDeque::new(),
            exchange,
            window,
            withholds: false,
            console,
        }
    }

    async fn drive(&mut self) -> Result<(), End> {
        let mut signals = Signals::new()?;
        let mut signalled = None;
        let mut ended = false;
        // Nothing is dialled before there is something to send.
        let mut started = false;
        loop {
            if signalled.is_none() {
                self.feed()?;
            }
            let in_flight = self.exchange.in_flight();
            started |= in_flight > 0;
            self.exchange.results.flush(in_flight);
            if in_flight == 0 {
                match signalled {
                    Some(exit) => return Err(End::Signal(exit)),
                    None if ended && self.waiting.is_empty() => return Ok(()),
                    None => {}
                }
            }
            let room = in_flight < self.window && !self.exchange.results.is_behind();
            let hungry = !ended && signalled.is_none() && self.waiting.is_empty() && room;
            let deadline = self.exchange.deadline();
            tokio::select! {
                signal = signals.next() => {
                    if signalled.is_some() {
                        return Err(End::Signal(signal));
                    }
                    self.console.note("finishing what is in flight; the same signal again ends at once");
                    signalled = Some(signal);
                }
                event = self.exchange.client.next(), if started => {
                    self.happened(event?)?;
                    while let Some(event) = self.exchange.client.ready()? {
                        self.happened(event)?;
                    }
                }
                batch = self.source.next(), if hungry => match batch? {
                    None => ended = true,
                    Some(batch) => self.waiting.extend(batch),
                },
                written = self.exchange.results.progress() => written?,
                () = super::sleep_until(deadline) => {}
            }
            let advice =
                "; run `tuyagw listen --persistent` first, which answers the commands that are queued";
            self.exchange.expire(if self.withholds { advice } else { "" })?;
        }
    }

    /// Takes inputs into the window.
    fn feed(&mut self) -> Result<(), Failure> {
        while self.exchange.in_flight() < self.window
            && !self.exchange.results.is_behind()
            && let Some(input) = self.waiting.pop_front()
        {
            for (item, sources) in self.read(input) {
                match item {
                    Ok(item) => self.exchange.send(item, sources)?,
                    Err(invalid) => self.exchange.results.invalid(&sources[0], &invalid),
                }
            }
        }
        self.exchange.send_statuses()
    }

    /// What one input asks for, with what its result lines need.
    fn read(&mut self, input: Input) -> Vec<(Result<Item, Invalid>, Vec<Source>)> {
        let items = match input.broken {
            Some(invalid) => vec![Err(invalid)],
            None => self.operations.read(self.operation, &input.text),
        };
        let text = Arc::from(input.text);
        let results = &mut self.exchange.results;
        let with_sources = |item| {
            let sources = results.sources(self.operation, input.line, &text, &item);
            (item, sources)
        };
        items.into_iter().map(with_sources).collect()
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

    /// Accounts for what is left, says farewell, and gives the exit code.
    async fn finish(mut self, end: Result<(), End>) -> Exit {
        let exit = match end {
            Ok(()) => Exit::SUCCESS,
            Err(End::Signal(signal)) => {
                self.exchange.fail_all(Kind::Connection, "ended by a signal before the answer came");
                signal
            }
            Err(End::Failure(failure)) => {
                self.exchange.fail_all(failure.kind, &failure.message);
                if failure.kind != Kind::Io {
                    self.fail_rest(&failure).await;
                }
                self.exchange.results.fail(&failure);
                failure.kind.exit()
            }
        };
        self.exchange.close().await;
        exit.or(self.exchange.results.finish().await)
    }

    /// Reports the inputs that were never sent: all of a file, and of a pipe what is there to be read.
    async fn fail_rest(&mut self, failure: &Failure) {
        let outcome = Outcome::Failed { kind: failure.kind, message: &failure.message, sent: Some(false) };
        loop {
            while let Some(input) = self.waiting.pop_front() {
                for (item, sources) in self.read(input) {
                    for source in &sources {
                        match &item {
                            Ok(_) => self.exchange.results.tell(source, None, outcome),
                            Err(invalid) => self.exchange.results.invalid(source, invalid),
                        }
                    }
                }
            }
            self.exchange.results.flush(0);
            while self.exchange.results.is_behind() {
                if self.exchange.results.progress().await.is_err() {
                    return;
                }
            }
            match tokio::time::timeout(PATIENCE, self.source.next()).await {
                Ok(Ok(Some(batch))) => self.waiting.extend(batch),
                _ => return,
            }
        }
    }
}
