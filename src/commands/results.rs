//! Result lines on stdout: one for each thing that was asked for, and their tally.

mod line;
mod round_trips;
mod tally;

use std::{
    collections::BTreeMap,
    sync::Arc,
    time::{Duration, Instant},
};

pub use line::ResultLine;
use smol_str::SmolStr;
use tally::Tally;
pub use tally::{Progress, SummaryFile};

use super::{
    Console,
    journal::Journal,
    operations::{Asked, Body, Invalid, Item, Operation, Subject, echo, request_id_of},
};
use crate::{
    failure::{Exit, Failure, Kind},
    protocol::{Answer, DeviceStatus, GatewayId, Uplink},
    sink::{Sink, SinkError, Ticket},
};

/// With `--ordered`, no more input is taken while this many lines wait for an earlier one.
const OUT_OF_ORDER: usize = 16 * 1024;
/// No more input is taken while more than this waits for the reader of stdout.
const BACKLOG: u64 = 1 << 20;

/// Where a message comes from: its input, and the place of its first result line among all.
#[derive(Clone, Debug)]
pub struct Origin {
    index: u64,
    line: Option<u64>,
    operation: Operation,
    input: Arc<str>,
}

impl Origin {
    /// What the result lines of a message need.
    #[must_use]
    pub fn sources(self, mut item: Item) -> Sources {
        if let Body::Uplink(Uplink::Status(statuses)) = &mut item.body
            && statuses.len() > 1
        {
            let statuses = std::mem::take(statuses).into_iter().zip(self.index..);
            let source = |(status, index)| Self { index, ..self.clone() }.source_of(status);
            return Sources::Several(statuses.map(source).collect());
        }
        let gateway_id = item.gateway_id.take();
        Sources::One(Source { gateway_id, ..self.source(item.into_subject()) })
    }

    /// What the result line of one status needs.
    #[must_use]
    pub fn source_of(self, status: DeviceStatus) -> Source {
        self.source(status.into())
    }

    fn source(self, subject: Subject) -> Source {
        let Self { index, line, operation, input } = self;
        Source { index, line, operation, gateway_id: None, subject, input }
    }
}

/// What one result line needs.
#[derive(Debug)]
pub struct Source {
    index: u64,
    line: Option<u64>,
    operation: Operation,
    gateway_id: Option<GatewayId>,
    subject: Subject,
    input: Arc<str>,
}

/// What the result lines of one message need: nearly always one.
#[derive(Debug)]
pub enum Sources {
    /// One line.
    One(Source),
    /// Any number of lines; none for a message of our own, whose failure is a warning.
    Several(Vec<Source>),
}

impl Sources {
    /// All of them, in their order.
    #[must_use]
    pub fn as_slice(&self) -> &[Source] {
        match self {
            Self::One(source) => std::slice::from_ref(source),
            Self::Several(sources) => sources,
        }
    }
}

impl Source {
    /// The device that the line speaks of.
    #[must_use]
    pub fn cid(&self) -> &str {
        &self.subject.cid
    }
}

/// What became of a request.
#[derive(Clone, Copy, Debug)]
pub enum Outcome<'a> {
    /// The other end answered.
    Answered(&'a Answer, Option<Duration>),
    /// The broker acknowledged it, or with QoS 0 it was written; nobody answers it.
    Delivered {
        /// Whether the broker acknowledged it.
        acknowledged: bool,
        /// How long that took.
        round_trip: Option<Duration>,
    },
    /// It was not done.
    Failed {
        /// What kind of failure it was.
        kind: Kind,
        /// What happened.
        message: &'a str,
        /// Whether it had left, where that is worth telling.
        sent: Option<bool>,
    },
}

/// Where results go.
pub struct Results {
    out: Sink,
    /// The reader of stdout has gone: the run goes on without printing.
    muted: bool,
    tally: Tally,
    next_index: u64,
    /// With `--ordered`: the lines that wait for an earlier one, and the index that is next.
    ordered: Option<(u64, BTreeMap<u64, Vec<u8>>)>,
    journal: Option<Journal>,
    failure: Option<Failure>,
    console: Console,
}

/// How results are given.
#[derive(Default)]
pub struct Manner {
    /// In input order.
    pub ordered: bool,
    /// What was accepted goes here too.
    pub journal: Option<Journal>,
    /// The summary goes here too.
    pub summary: Option<SummaryFile>,
}

impl Results {
    /// Results on stdout; `single` says that one request came from flags.
    #[must_use]
    pub fn new(progress: Progress, manner: Manner, single: bool, console: Console) -> Self {
        let Manner { ordered, journal, summary } = manner;
        let tally = Tally::new(progress, summary, single, console);
        let ordered = ordered.then(|| (0, BTreeMap::new()));
        Self {
            out: Sink::stdout(),
            muted: false,
            tally,
            next_index: 0,
            ordered,
            journal,
            failure: None,
            console,
        }
    }

    /// Takes a message, or what is wrong with it, for the result lines: gives them their places.
    pub fn take(&mut self, asked: Asked) -> (Origin, Result<Item, Invalid>) {
        let Asked { operation, line, text, size, item } = asked;
        self.tally.took(size);
        (self.origin(operation, line, text, item.as_ref().map_or(1, Item::lines)), item)
    }

    /// The origin of a message that ends as so many result lines, which are the next ones.
    pub fn origin(&mut self, operation: Operation, line: Option<u64>, input: Arc<str>, lines: u64) -> Origin {
        let index = self.next_index;
        self.next_index += lines;
        Origin { index, line, operation, input }
    }

    /// Whether all lines of a message were accepted by a former run, so that nothing is to be done for it.
    ///
    /// # Errors
    /// The input has changed since the journal was written.
    pub fn are_done(&mut self, origin: &Origin, item: &Item) -> Result<bool, Failure> {
        let Some(journal) = &mut self.journal else { return Ok(false) };
        let indexes = origin.index..origin.index + item.lines();
        for index in indexes.clone() {
            if !journal.has(index, &origin.input)? {
                return Ok(false);
            }
        }
        if let Some((next, waiting)) = &mut self.ordered {
            waiting.extend(indexes.map(|index| (index, Vec::new())));
            release(&mut self.out, next, waiting);
        }
        Ok(true)
    }

    /// Writes the result of one line of a message; `attempts` is how often it was sent.
    pub fn tell(&mut self, source: &Source, request_id: Option<&str>, attempts: u32, outcome: Outcome<'_>) {
        let mut result = match outcome {
            Outcome::Answered(answer, round_trip) => ResultLine::answered(answer, round_trip),
            Outcome::Delivered { acknowledged, round_trip } => {
                ResultLine::delivered(acknowledged, round_trip)
            }
            Outcome::Failed { kind, message, sent } => {
                ResultLine { sent, ..ResultLine::failed(kind, message) }
            }
        };
        result.request_id = request_id;
        result.attempts = (attempts > 1).then_some(attempts);
        self.print(source, result);
    }

    /// Writes that an input, or a part of one, was not sent because it is wrong.
    pub fn invalid(&mut self, origin: Origin, invalid: &Invalid) {
        let subject = Subject {
            cid: invalid.cid.as_deref().unwrap_or_default().into(),
            id: invalid.id.as_deref().map(SmolStr::from),
            status: None,
            entry: invalid.entry,
        };
        self.refuse(&origin.source(subject), invalid);
    }

    /// Writes that a message was not sent because of what is wrong with it as a whole.
    pub fn refuse(&mut self, source: &Source, invalid: &Invalid) {
        let mut result = ResultLine::failed(Kind::Invalid, &invalid.message);
        result.field = invalid.field.as_deref();
        let request_id = request_id_of(&source.input);
        result.request_id = request_id.as_deref();
        self.print(source, result);
    }

    fn print(&mut self, source: &Source, result: ResultLine<'_>) {
        let mut result = result;
        result.index = source.index;
        result.line = source.line;
        result.op = source.operation.name();
        result.gateway_id = source.gateway_id.as_ref().map(GatewayId::as_str);
        result.cid = Some(source.subject.cid.as_str()).filter(|cid| !cid.is_empty());
        result.id = source.subject.id.as_deref();
        result.status = source.subject.status;
        let part = if result.ok { None } else { echo(&source.input, source.subject.entry) };
        result.input = (!result.ok).then(|| part.as_deref().unwrap_or(&source.input));
        self.tally.count(&result);
        if result.ok
            && let Some(journal) = &mut self.journal
        {
            journal.accept(source.index, &source.input);
        }
        if self.muted {
            return;
        }
        match &mut self.ordered {
            None => {
                self.out.write_with(|line| result.write(line));
            }
            Some((next, waiting)) => {
                let mut line = Vec::with_capacity(256);
                result.write(&mut line);
                waiting.insert(source.index, line);
                release(&mut self.out, next, waiting);
            }
        }
    }

    /// Writes a line of another kind among the results; it has been written once [`Results::done`] says so.
    pub fn write_with(&mut self, write: impl FnOnce(&mut Vec<u8>)) -> Ticket {
        if self.muted { self.out.done() } else { self.out.write_with(write) }
    }

    /// Up to here all has been written.
    #[must_use]
    pub fn done(&self) -> Ticket {
        self.out.done()
    }

    /// Whether all that was handed over has been written.
    #[must_use]
    pub fn is_written(&self) -> bool {
        self.muted || self.out.backlog() == 0
    }

    /// Whether the reader of stdout has gone.
    #[must_use]
    pub fn is_gone(&self) -> bool {
        self.muted
    }

    /// Whether the output is so far behind that no more should be asked.
    #[must_use]
    pub fn is_behind(&mut self) -> bool {
        let crowded = self.ordered.as_ref().is_some_and(|(_, waiting)| waiting.len() >= OUT_OF_ORDER);
        !self.muted && (crowded || self.out.is_behind(BACKLOG))
    }

    /// Hands what was written to the writing thread, and shows how far the run is.
    pub fn flush(&mut self, in_flight: usize) {
        self.out.flush();
        if let Some(journal) = &mut self.journal {
            journal.flush();
        }
        self.tally.show(in_flight);
    }

    /// When [`Results::flush`] should be called though nothing happens, for whoever watches the progress.
    #[must_use]
    pub fn next_show(&self) -> Option<Instant> {
        self.tally.next_show()
    }

    /// Waits until something more has been written; for ever where nothing is to be. Cancel-safe.
    ///
    /// # Errors
    /// Stdout or the journal cannot be written. A reader that has gone is no error: it wanted no more.
    pub async fn progress(&mut self) -> Result<(), Failure> {
        let Self { out, journal, muted, .. } = self;
        let journalled = async {
            match journal {
                Some(journal) => journal.progress().await,
                None => std::future::pending().await,
            }
        };
        // Asked of the sink even where nothing is left: whoever looked a moment ago may have seen the rest unwritten.
        let written = async { if *muted { std::future::pending().await } else { out.progress().await } };
        tokio::select! {
            safe = journalled => safe,
            written = written => match written {
                Ok(_) => Ok(()),
                Err(SinkError::ReaderGone) => {
                    self.muted = true;
                    Ok(())
                }
                Err(SinkError::Failed(failure)) => Err(failure),
            },
        }
    }

    /// Says how many bytes the input has.
    pub fn expect(&mut self, size: u64) {
        self.tally.expect(size);
    }

    /// Counts a request that is tried again.
    pub fn retried(&mut self) {
        self.tally.retried();
    }

    /// Counts requests that were sent again after a reconnect.
    pub fn resent(&mut self, requests: usize) {
        self.tally.resent(requests);
    }

    /// Remembers the failure that ended the run, to be told after the results.
    pub fn fail(&mut self, failure: &Failure) {
        self.failure = Some(failure.clone());
    }

    /// Writes what is left, tells the summary, and gives the exit code of the results.
    pub async fn finish(self) -> Exit {
        let (written, mut tally) = self.end().await;
        written.or(tally.finish())
    }

    /// Writes what is left and tells no summary; gives the exit code of the writing alone.
    pub async fn finish_quietly(self) -> Exit {
        self.end().await.0
    }

    /// Writes what is left, then tells the failure that ended the run: words stand below the lines they speak of.
    async fn end(mut self) -> (Exit, Tally) {
        self.tally.hide();
        if let Some((_, waiting)) = self.ordered.take() {
            // What still waits does so for a line that will never come.
            for line in waiting.into_values() {
                self.out.write(&line);
            }
        }
        let journalled = match self.journal.take() {
            Some(journal) => {
                self.out.flush();
                self.tally.skipped(journal.skipped());
                journal.close().await
            }
            None => Ok(()),
        };
        let written = if self.muted { Ok(()) } else { self.out.close().await };
        let tell = |failure: &Failure| {
            self.console.failure(failure);
            failure.kind.exit()
        };
        if let Some(failure) = &self.failure {
            tell(failure);
            self.tally.hush();
        }
        let journalled = journalled.map_or_else(|failure| tell(&failure), |()| Exit::SUCCESS);
        let written = match written {
            // It may be the failure that ended the run.
            Err(SinkError::Failed(failure)) if self.failure.as_ref() == Some(&failure) => failure.kind.exit(),
            Err(SinkError::Failed(failure)) => tell(&failure),
            Ok(()) | Err(SinkError::ReaderGone) => Exit::SUCCESS,
        };
        (journalled.or(written), self.tally)
    }
}

/// Writes the lines whose turn it is.
fn release(out: &mut Sink, next: &mut u64, waiting: &mut BTreeMap<u64, Vec<u8>>) {
    while let Some(entry) = waiting.first_entry()
        && *entry.key() == *next
    {
        out.write(&entry.remove());
        *next += 1;
    }
}
