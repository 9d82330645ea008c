//! Result lines on stdout: one for each thing that was asked for, and their tally.

mod line;
mod round_trips;
mod run_stats;

use std::{
    collections::{BTreeMap, VecDeque, vec_deque::Drain},
    sync::Arc,
    time::{Duration, Instant},
};

pub use line::ResultLine;
pub use run_stats::Progress;
use run_stats::RunStats;
use smol_str::SmolStr;

use super::journal::Journal;
use crate::{
    error::{Exit, Failure, FailureKind},
    gateway::Payload,
    io::{
        batch_writer::{BatchWriter, Offset, WriterError, Written},
        console::Console,
        files::Replacement,
    },
    request::parser::{InputError, ParsedInput, Request, RequestKind, ResultKey, request_id_of},
    tuya::{Answer, DeviceStatus, GatewayId, Uplink},
};

/// With `--ordered`, no more input is taken while this many lines wait for an earlier one.
const OUT_OF_ORDER: usize = 16 * 1024;
/// No more input is taken while more than this waits for the reader of stdout.
const BACKLOG: u64 = 1 << 20;

/// Lines that have been written are forgotten once they are so many.
const MANY_LINES: usize = 4096;

/// Where a message comes from: its input, and the place of its first result line among all.
#[derive(Clone, Debug)]
pub struct InputPosition {
    index: u64,
    line: Option<u64>,
    operation: RequestKind,
    input: Arc<str>,
}

impl InputPosition {
    /// What the result lines of a message need.
    #[must_use]
    pub fn sources(self, mut item: Request) -> ResultContexts {
        if let Payload::Uplink(Uplink::Status(statuses)) = &mut item.body
            && statuses.len() > 1
        {
            let statuses = std::mem::take(statuses).into_iter().zip(self.index..);
            let part = item.part;
            let source = |(status, index)| {
                let subject = ResultKey { part: part.clone(), ..DeviceStatus::into(status) };
                Self { index, ..self.clone() }.source(subject)
            };
            return ResultContexts::Several(statuses.map(source).collect());
        }
        let gateway_id = item.gateway_id.take();
        ResultContexts::One(ResultContext { gateway_id, ..self.source(item.into_subject()) })
    }

    /// What the result line of one status needs.
    #[must_use]
    pub fn source_of(self, status: DeviceStatus) -> ResultContext {
        self.source(status.into())
    }

    fn source(self, subject: ResultKey) -> ResultContext {
        let Self { index, line, operation, input } = self;
        ResultContext { index, line, operation, gateway_id: None, subject, input }
    }
}

/// What one result line needs.
#[derive(Debug)]
pub struct ResultContext {
    index: u64,
    line: Option<u64>,
    operation: RequestKind,
    gateway_id: Option<GatewayId>,
    subject: ResultKey,
    input: Arc<str>,
}

/// What the result lines of one message need: nearly always one.
#[derive(Debug)]
pub enum ResultContexts {
    /// One line.
    One(ResultContext),
    /// Any number of lines; none for a message of our own, whose failure is a warning.
    Several(Vec<ResultContext>),
}

impl ResultContexts {
    /// All of them, in their order.
    #[must_use]
    pub fn as_slice(&self) -> &[ResultContext] {
        match self {
            Self::One(source) => std::slice::from_ref(source),
            Self::Several(sources) => sources,
        }
    }
}

impl ResultContext {
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
        kind: FailureKind,
        /// What happened.
        message: &'a str,
        /// Whether it had left, where that is worth telling.
        sent: Option<bool>,
    },
}

/// Where results go.
pub struct Results {
    out: BatchWriter,
    /// The lines that may not have been written yet.
    lines: VecDeque<Line>,
    /// How far stdout has been written.
    written: Written,
    /// The reader of stdout has gone: the run goes on without printing.
    muted: bool,
    /// Stdout, or the journal, cannot be written.
    out_failed: bool,
    journal_failed: bool,
    tally: RunStats,
    next_index: u64,
    /// With `--ordered`: the lines that wait for an earlier one, and the index that is next.
    ordered: Option<(u64, BTreeMap<u64, Waiting>)>,
    journal: Option<Journal>,
    failure: Option<Failure>,
    console: Console,
}

/// A result line that was handed over.
struct Line {
    /// Where it ends.
    end: Offset,
    /// Its index, if its request was accepted: the journal notes it once it is written.
    accepted: Option<u64>,
}

/// A line that waits for an earlier one; an empty one is done by a former run, which has told it.
#[derive(Default)]
struct Waiting {
    text: Vec<u8>,
    accepted: bool,
}

/// How results are given.
#[derive(Default)]
pub struct ResultOptions {
    /// In input order.
    pub ordered: bool,
    /// What was accepted goes here too.
    pub journal: Option<Journal>,
    /// The summary goes here too.
    pub summary: Option<Replacement>,
}

impl Results {
    /// Results on stdout; `single` says that one request came from flags.
    #[must_use]
    pub fn new(progress: Progress, manner: ResultOptions, single: bool, console: Console) -> Self {
        let ResultOptions { ordered, journal, summary } = manner;
        let tally = RunStats::new(progress, summary, single, console);
        let ordered = ordered.then(|| (0, BTreeMap::new()));
        let out = BatchWriter::stdout();
        Self {
            written: out.written_so_far(),
            out,
            lines: VecDeque::new(),
            muted: false,
            out_failed: false,
            journal_failed: false,
            tally,
            next_index: 0,
            ordered,
            journal,
            failure: None,
            console,
        }
    }

    /// Takes a message, or what is wrong with it, for the result lines: gives them their places.
    pub fn take(&mut self, asked: ParsedInput) -> (InputPosition, Result<Request, InputError>) {
        let ParsedInput { operation, line, text, size, item } = asked;
        self.tally.took(size);
        (self.origin(operation, line, text, item.as_ref().map_or(1, Request::lines)), item)
    }

    /// The origin of a message that ends as so many result lines, which are the next ones.
    pub fn origin(
        &mut self,
        operation: RequestKind,
        line: Option<u64>,
        input: Arc<str>,
        lines: u64,
    ) -> InputPosition {
        let index = self.next_index;
        self.next_index += lines;
        InputPosition { index, line, operation, input }
    }

    /// Whether all lines of a message were accepted by a former run, so that nothing is to be done for it.
    pub fn are_done(&mut self, origin: &InputPosition, item: &Request) -> bool {
        let Some(journal) = &mut self.journal else { return false };
        if !journal.passes(origin.index, item) {
            return false;
        }
        if let Some((next, waiting)) = &mut self.ordered {
            let indexes = origin.index..origin.index + item.lines();
            waiting.extend(indexes.map(|index| (index, Waiting::default())));
            release(&mut self.out, &mut self.lines, next, waiting);
        }
        true
    }

    /// Writes the result of one line of a message; `attempts` is how often it was sent.
    pub fn tell(
        &mut self,
        source: &ResultContext,
        request_id: Option<&str>,
        attempts: u32,
        outcome: Outcome<'_>,
    ) {
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
    pub fn invalid(&mut self, origin: InputPosition, invalid: &InputError) {
        let subject = ResultKey {
            cid: invalid.cid.as_deref().unwrap_or_default().into(),
            id: invalid.id.as_deref().map(SmolStr::from),
            status: None,
            part: invalid.part.clone(),
        };
        self.refuse(&origin.source(subject), invalid);
    }

    /// Writes that a message was not sent because of what is wrong with it as a whole.
    pub fn refuse(&mut self, source: &ResultContext, invalid: &InputError) {
        let mut result = ResultLine::failed(FailureKind::Invalid, &invalid.message);
        result.field = invalid.field.as_deref();
        // A part of an input shares the whole with many others, so the whole is not read for each; it gives no id either.
        let request_id = source.subject.part.is_none().then(|| request_id_of(&source.input)).flatten();
        result.request_id = request_id.as_deref();
        self.print(source, result);
    }

    fn print(&mut self, source: &ResultContext, result: ResultLine<'_>) {
        let mut result = result;
        result.index = source.index;
        result.line = source.line;
        result.op = source.operation.name();
        result.gateway_id = source.gateway_id.as_ref().map(GatewayId::as_str);
        result.cid = Some(source.subject.cid.as_str()).filter(|cid| !cid.is_empty());
        result.id = source.subject.id.as_deref();
        result.status = source.subject.status;
        let part = if result.ok { None } else { source.subject.input_of(&source.input) };
        result.input = (!result.ok).then(|| part.as_deref().unwrap_or(&source.input));
        self.tally.count(&result);
        // What is accepted is noted once its line is written; at once if nobody reads the lines.
        if let Some(journal) = self.journal.as_mut().filter(|_| !result.ok || self.muted) {
            journal.settle(source.index, result.ok);
        }
        if self.muted {
            return;
        }
        match &mut self.ordered {
            None => {
                let end = self.out.write_with(|line| result.write(line));
                self.lines.push_back(Line { end, accepted: result.ok.then_some(source.index) });
            }
            Some((next, waiting)) => {
                let mut text = Vec::with_capacity(256);
                result.write(&mut text);
                waiting.insert(source.index, Waiting { text, accepted: result.ok });
                release(&mut self.out, &mut self.lines, next, waiting);
            }
        }
    }

    /// Writes a line of another kind among the results; it has been written once [`Results::done`] says so.
    pub fn write_with(&mut self, write: impl FnOnce(&mut Vec<u8>)) -> Offset {
        if self.muted { self.out.done() } else { self.out.write_with(write) }
    }

    /// Up to here all has been written.
    #[must_use]
    pub fn done(&self) -> Offset {
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

    /// Whether results can be printed: stdout has not failed.
    #[must_use]
    pub fn can_print(&self) -> bool {
        !self.out_failed
    }

    /// Hands what was written to the writing thread, and shows how far the run is.
    pub fn flush(&mut self, in_flight: usize) {
        self.out.flush();
        match &mut self.journal {
            Some(journal) => {
                note_written(journal, &mut self.lines, self.written.ticket());
                journal.flush();
            }
            None if self.lines.len() > MANY_LINES => {
                drop(take_written(&mut self.lines, self.written.ticket()));
            }
            None => {}
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
        let Self { out, journal, muted, out_failed, journal_failed, .. } = self;
        let journalled = async {
            match journal {
                Some(journal) if !*journal_failed => journal.progress().await,
                _ => std::future::pending().await,
            }
        };
        // Poll the writer even if nothing is queued: the caller may have seen a backlog just before, and needs the wake-up.
        let written = async { if *muted { std::future::pending().await } else { out.progress().await } };
        tokio::select! {
            safe = journalled => {
                *journal_failed |= safe.is_err();
                safe
            }
            written = written => match written {
                Ok(_) => Ok(()),
                Err(WriterError::ReaderGone) => {
                    self.mute();
                    Ok(())
                }
                Err(WriterError::Failed(failure)) => {
                    *out_failed = true;
                    Err(failure)
                }
            },
        }
    }

    /// Prints nothing more: the reader of stdout has gone. What was accepted is noted though its line was not written.
    fn mute(&mut self) {
        self.muted = true;
        let Some(journal) = &mut self.journal else { return };
        for index in self.lines.drain(..).filter_map(|line| line.accepted) {
            journal.settle(index, true);
        }
        if let Some((_, waiting)) = &mut self.ordered {
            for (index, _) in std::mem::take(waiting).into_iter().filter(|(_, line)| line.accepted) {
                journal.settle(index, true);
            }
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

    /// Remembers the failure that ended the run, to be told after the results; before those of what it leaves undone.
    pub fn fail(&mut self, failure: &Failure) {
        self.tally.end_by(&failure.message);
        self.failure = Some(failure.clone());
    }

    /// Writes what is left, tells the summary, and gives the exit code of the results. Once `cut` ends, what the reader of
    /// stdout has not taken is given up, and counted in a warning.
    pub async fn finish(self, cut: impl Future<Output = ()>) -> Exit {
        let (written, mut tally) = self.end(cut).await;
        written.or(tally.finish())
    }

    /// Writes what is left and tells no summary; gives the exit code of the writing alone.
    pub async fn finish_quietly(self) -> Exit {
        self.end(std::future::pending()).await.0
    }

    /// Writes what is left, then tells the failure that ended the run: words stand below the lines they speak of.
    async fn end(mut self, cut: impl Future<Output = ()>) -> (Exit, RunStats) {
        self.tally.hide();
        if let Some((_, waiting)) = self.ordered.take() {
            // What still waits does so for a line that will never come.
            for (index, Waiting { text, accepted }) in waiting {
                if !text.is_empty() {
                    let end = self.out.write(&text);
                    self.lines.push_back(Line { end, accepted: accepted.then_some(index) });
                }
            }
        }
        let mut cut = std::pin::pin!(cut);
        let mut is_cut = false;
        if self.journal.is_some() {
            self.flush(0);
            while self.out.backlog() > 0 && !self.muted && !is_cut {
                tokio::select! {
                    biased;
                    () = &mut cut => is_cut = true,
                    // What failed is told when the sink is closed.
                    progress = self.progress() => if progress.is_err() { break },
                }
                self.flush(0);
            }
        }
        let (muted, out) = (self.muted, self.out);
        let all_written = async { if muted || is_cut { Ok(()) } else { out.close().await } };
        let written = tokio::select! {
            biased;
            written = all_written => written,
            () = &mut cut, if !is_cut => {
                is_cut = true;
                Ok(())
            }
        };
        let untaken = self.lines.iter().filter(|line| line.end > self.written.ticket()).count();
        if is_cut && untaken > 0 {
            let lines = if untaken == 1 { "result line" } else { "result lines" };
            self.console.warn(&format!("the reader of stdout has not taken the last {untaken} {lines}"));
        }
        let journalled = match self.journal.take() {
            Some(mut journal) => {
                // Lines that nobody wants are no reason to send anything again.
                let is_gone = written == Err(WriterError::ReaderGone);
                let written = if is_gone { Offset::LAST } else { self.written.ticket() };
                note_written(&mut journal, &mut self.lines, written);
                self.tally.skipped(journal.skipped());
                journal.close().await
            }
            None => Ok(()),
        };
        self.tally.tell_more_failures();
        let tell = |failure: &Failure| {
            // It may be the failure that ended the run.
            if self.failure.as_ref() != Some(failure) {
                self.console.failure(failure);
            }
            failure.kind.exit()
        };
        if let Some(failure) = &self.failure {
            self.console.failure(failure);
            self.tally.hush();
        }
        let journalled = journalled.map_or_else(|failure| tell(&failure), |()| Exit::SUCCESS);
        let written = match written {
            Err(WriterError::Failed(failure)) => tell(&failure),
            Ok(()) | Err(WriterError::ReaderGone) => Exit::SUCCESS,
        };
        (journalled.or(written), self.tally)
    }
}

/// Takes the lines that have been written up to here.
fn take_written(lines: &mut VecDeque<Line>, written: Offset) -> Drain<'_, Line> {
    let count = lines.partition_point(|line| line.end <= written);
    lines.drain(..count)
}

/// Notes the requests that were accepted and whose lines have been written up to here.
fn note_written(journal: &mut Journal, lines: &mut VecDeque<Line>, written: Offset) {
    for index in take_written(lines, written).filter_map(|line| line.accepted) {
        journal.settle(index, true);
    }
}

/// Writes the lines whose turn it is.
fn release(
    out: &mut BatchWriter,
    lines: &mut VecDeque<Line>,
    next: &mut u64,
    waiting: &mut BTreeMap<u64, Waiting>,
) {
    while let Some(entry) = waiting.first_entry()
        && *entry.key() == *next
    {
        let Waiting { text, accepted } = entry.remove();
        if !text.is_empty() {
            lines.push_back(Line { end: out.write(&text), accepted: accepted.then_some(*next) });
        }
        *next += 1;
    }
}
