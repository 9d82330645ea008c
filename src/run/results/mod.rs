//! Result lines on stdout, one for each input, and the statistics of the run.

mod context;
mod line;
mod result_queue;
mod run_stats;

use std::{sync::Arc, time::Instant};

pub use context::{InputPosition, ResultContext, ResultContexts, ResultStatus};
pub use line::ResultLine;
use result_queue::{PendingLine, ResultQueue};
pub use run_stats::ProgressMode;
use run_stats::RunStats;
use smol_str::SmolStr;

use super::journal::Journal;
use crate::{
    error::{Exit, Failure, FailureKind},
    io::{
        batch_writer::{BatchWriter, Offset, WriterError, Written},
        console::Console,
        files::Replacement,
    },
    request::{InputError, ParsedInput, Request, RequestKind, ResultKey, request_id_of},
    tuya::GatewayId,
};

/// With `--ordered`, no more input is taken while this many lines wait for an earlier one.
const OUT_OF_ORDER: usize = 16 * 1024;
/// No more input is taken while more than this waits for the reader of stdout.
const BACKLOG: u64 = 1 << 20;

/// The result lines of a run, its statistics and its journal.
pub struct Results {
    queues: bool,
    out: BatchWriter,
    lines: ResultQueue<Offset>,
    /// How far stdout has been written.
    written: Written,
    /// The reader of stdout has gone: the run goes on without printing.
    muted: bool,
    /// Stdout, or the journal, cannot be written.
    out_failed: bool,
    journal_failed: bool,
    stats: RunStats,
    next_index: u64,
    journal: Option<Journal>,
    failure: Option<Failure>,
    console: Console,
}

/// How results are written.
#[derive(Default)]
pub struct ResultOptions {
    /// Whether lines are written in input order.
    pub ordered: bool,
    /// The file that records accepted requests.
    pub journal: Option<Journal>,
    /// The file of the summary, beside stderr.
    pub summary: Option<Replacement>,
    /// Whether messages end in an agent's spool.
    pub queues: bool,
}

impl Results {
    /// Results on stdout; `single` says that one request came from flags.
    #[must_use]
    pub fn new(progress: ProgressMode, options: ResultOptions, single: bool, console: Console) -> Self {
        let ResultOptions { ordered, journal, summary, queues } = options;
        let out = BatchWriter::stdout();
        Self {
            queues,
            written: out.written(),
            out,
            lines: ResultQueue::new(ordered),
            muted: false,
            out_failed: false,
            journal_failed: false,
            stats: RunStats::new(progress, summary, single, console),
            next_index: 0,
            journal,
            failure: None,
            console,
        }
    }

    /// Gives an input the next indexes, one for each result line, and returns it with them.
    pub fn assign_position(&mut self, input: ParsedInput) -> (InputPosition, Result<Request, InputError>) {
        let ParsedInput { kind, line, text, size, request } = input;
        self.stats.add_input_bytes(size);
        let lines = request.as_ref().map_or(1, Request::lines);
        (self.next_position(kind, line, text, lines), request)
    }

    /// Returns the position of a request that ends as this many result lines, which are the next ones.
    pub fn next_position(
        &mut self,
        kind: RequestKind,
        line: Option<u64>,
        input: Arc<str>,
        lines: u64,
    ) -> InputPosition {
        let index = self.next_index;
        self.next_index += lines;
        InputPosition { index, line, kind, input }
    }

    /// Returns whether a former run accepted all lines of a request. If so, it is passed over.
    pub fn pass_over(&mut self, position: &InputPosition, request: &Request) -> bool {
        let Some(journal) = &mut self.journal else { return false };
        if !journal.pass_over(position.index, request) {
            return false;
        }
        for index in position.index..position.index + request.lines() {
            self.lines.insert(index, PendingLine::default());
        }
        self.write_pending();
        true
    }

    /// Writes one result line; `attempts` is how often the request was sent.
    pub fn report(
        &mut self,
        context: &ResultContext,
        request_id: Option<&str>,
        attempts: u32,
        status: ResultStatus<'_>,
    ) {
        let mut result = match status {
            ResultStatus::Answered(answer, round_trip) => ResultLine::answered(answer, round_trip),
            ResultStatus::Delivered { acknowledged, round_trip } => {
                let queued = self.queues.then_some(true);
                ResultLine { queued, ..ResultLine::delivered(acknowledged, round_trip) }
            }
            ResultStatus::Failed { kind, message, sent } => {
                ResultLine { sent, ..ResultLine::failed(kind, message) }
            }
        };
        result.request_id = request_id;
        result.attempts = (attempts > 1).then_some(attempts);
        self.print(context, result);
    }

    /// Writes that an input, or a part of one, was not sent because it is invalid.
    pub fn report_invalid(&mut self, position: InputPosition, error: &InputError) {
        let key = ResultKey {
            cid: error.cid.as_deref().unwrap_or_default().into(),
            id: error.id.as_deref().map(SmolStr::from),
            status: None,
            part: error.part.clone(),
        };
        self.report_unsendable(&position.context(key), error);
    }

    /// Writes that a request was not sent because it is invalid as a whole.
    pub fn report_unsendable(&mut self, context: &ResultContext, error: &InputError) {
        let mut result = ResultLine::failed(FailureKind::Invalid, &error.message);
        result.field = error.field.as_deref();
        // A part shares its input with many others, and has no id in it; reading the whole for each would be quadratic.
        let request_id = context.key.part.is_none().then(|| request_id_of(&context.input)).flatten();
        result.request_id = request_id.as_deref();
        self.print(context, result);
    }

    fn print(&mut self, context: &ResultContext, result: ResultLine<'_>) {
        // Bound again, because it borrows from `context` from here on.
        let mut result = result;
        result.index = context.index;
        result.line = context.line;
        result.op = context.kind.name();
        result.gateway_id = context.gateway_id.as_ref().map(GatewayId::as_str);
        result.cid = Some(context.key.cid.as_str()).filter(|cid| !cid.is_empty());
        result.id = context.key.id.as_deref();
        result.status = context.key.status;
        let part = if result.ok { None } else { context.key.input_of(&context.input) };
        result.input = (!result.ok).then(|| part.as_deref().unwrap_or(&context.input));
        self.stats.count(&result);
        // The journal records an accepted request once its line is written; at once if stdout has no reader.
        if let Some(journal) = self.journal.as_mut().filter(|_| !result.ok || self.muted) {
            journal.handle_result(context.index, result.ok);
        }
        if self.muted {
            return;
        }
        if self.lines.is_ordered() {
            let mut text = Vec::with_capacity(256);
            result.write(&mut text);
            self.lines.insert(context.index, PendingLine { text, is_accepted: result.ok });
            self.write_pending();
        } else {
            let end = self.out.write_with(|line| result.write(line));
            self.lines.push_queued(end, result.ok.then_some(context.index));
        }
    }

    /// Writes the lines that are next in input order.
    fn write_pending(&mut self) {
        while let Some((index, line)) = self.lines.next_pending() {
            self.write_line(index, &line);
        }
    }

    fn write_line(&mut self, index: u64, line: &PendingLine) {
        if !line.text.is_empty() {
            let end = self.out.write(&line.text);
            self.lines.push_queued(end, line.is_accepted.then_some(index));
        }
    }

    /// Writes a line of another kind among the results; it is written once [`Results::committed`] has reached the offset.
    pub fn write_with(&mut self, write: impl FnOnce(&mut Vec<u8>)) -> Offset {
        if self.muted { self.out.committed() } else { self.out.write_with(write) }
    }

    /// Returns the offset up to which all is written.
    #[must_use]
    pub fn committed(&self) -> Offset {
        self.out.committed()
    }

    /// Returns whether all lines are written.
    #[must_use]
    pub fn is_written(&self) -> bool {
        self.muted || self.out.backlog() == 0
    }

    /// Returns whether the reader of stdout has gone.
    #[must_use]
    pub fn is_reader_gone(&self) -> bool {
        self.muted
    }

    /// Returns whether the output is so far behind that no more input should be taken.
    #[must_use]
    pub fn is_behind(&mut self) -> bool {
        !self.muted && (self.lines.pending() >= OUT_OF_ORDER || self.out.is_behind(BACKLOG))
    }

    /// Returns whether results can be printed: stdout has not failed.
    #[must_use]
    pub fn can_print(&self) -> bool {
        !self.out_failed
    }

    /// Passes the queued lines to the writer thread, and updates the progress display.
    pub fn flush(&mut self, in_flight: usize) {
        self.out.flush();
        match &mut self.journal {
            Some(journal) => {
                for index in self.lines.take_written(self.written.offset()) {
                    journal.handle_result(index, true);
                }
                journal.flush();
            }
            None => self.lines.forget_written(self.written.offset()),
        }
        self.stats.update_progress(in_flight);
    }

    /// Returns when to call [`Results::flush`] to keep the progress display current.
    #[must_use]
    pub fn next_update(&self) -> Option<Instant> {
        self.stats.next_update()
    }

    /// Waits until more is written to stdout or to the journal; never returns if both are up to date. Cancel-safe.
    ///
    /// # Errors
    /// Stdout or the journal cannot be written. A reader that has gone is no error: it wanted no more.
    pub async fn committed_changed(&mut self) -> Result<(), Failure> {
        let Self { out, journal, muted, out_failed, journal_failed, .. } = self;
        let journalled = async {
            match journal {
                Some(journal) if !*journal_failed => journal.committed_changed().await,
                _ => std::future::pending().await,
            }
        };
        // Poll the writer even if nothing is queued: the caller may have seen a backlog just before, and needs the wake-up.
        let written =
            async { if *muted { std::future::pending().await } else { out.committed_changed().await } };
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

    /// Prints nothing more, because the reader of stdout has gone. The journal records accepted requests without their lines.
    fn mute(&mut self) {
        self.muted = true;
        let Some(journal) = &mut self.journal else { return };
        for index in self.lines.take_all() {
            journal.handle_result(index, true);
        }
    }

    /// Sets the size of the input in bytes.
    pub fn set_input_size(&mut self, size: u64) {
        self.stats.set_input_size(size);
    }

    /// Counts a retry.
    pub fn count_retry(&mut self) {
        self.stats.count_retry();
    }

    /// Counts requests that were sent again after a reconnect.
    pub fn count_resent(&mut self, requests: usize) {
        self.stats.count_resent(requests);
    }

    /// Sets the failure that ended the run. It is printed after the results, and not again for each request that it leaves
    /// undone; call this before those are reported.
    pub fn set_failure(&mut self, failure: &Failure) {
        self.stats.set_cause(&failure.message);
        self.failure = Some(failure.clone());
    }

    /// Writes the remaining lines and the summary, and returns the exit code of the results. When `cut` ends, lines that the
    /// reader of stdout has not taken are dropped, and a warning counts them.
    pub async fn finish(self, cut: impl Future<Output = ()>) -> Exit {
        let (written, mut stats) = self.close(cut).await;
        written.or(stats.finish())
    }

    /// Writes the remaining lines without a summary, and returns the exit code of the writing alone.
    pub async fn finish_quietly(self) -> Exit {
        self.close(std::future::pending()).await.0
    }

    /// Writes the remaining lines, then prints the failure that ended the run: a message stands below the lines it is about.
    async fn close(mut self, cut: impl Future<Output = ()>) -> (Exit, RunStats) {
        self.stats.hide();
        for (index, line) in self.lines.drain_pending() {
            self.write_line(index, &line);
        }
        let mut cut = std::pin::pin!(cut);
        let mut is_cut = false;
        if self.journal.is_some() {
            self.flush(0);
            while self.out.backlog() > 0 && !self.muted && !is_cut {
                tokio::select! {
                    biased;
                    () = &mut cut => is_cut = true,
                    // Closing the writer reports the failure.
                    progress = self.committed_changed() => if progress.is_err() { break },
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
        let untaken = self.lines.unwritten(self.written.offset());
        if is_cut && untaken > 0 {
            let lines = if untaken == 1 { "result line" } else { "result lines" };
            self.console.warn(&format!("the reader of stdout has not taken the last {untaken} {lines}"));
        }
        let journalled = match self.journal.take() {
            Some(mut journal) => {
                // A request is not sent again only because the reader did not want its line.
                let is_gone = written == Err(WriterError::ReaderGone);
                let written = if is_gone { Offset::LAST } else { self.written.offset() };
                for index in self.lines.take_written(written) {
                    journal.handle_result(index, true);
                }
                self.stats.set_skipped(journal.skipped());
                journal.close().await
            }
            None => Ok(()),
        };
        self.stats.print_omitted_failures();
        let print = |failure: &Failure| {
            // Do not print the failure that ended the run twice.
            if self.failure.as_ref() != Some(failure) {
                self.console.failure(failure);
            }
            failure.kind.exit()
        };
        if let Some(failure) = &self.failure {
            self.console.failure(failure);
            self.stats.clear_failure();
        }
        let journalled = journalled.map_or_else(|failure| print(&failure), |()| Exit::SUCCESS);
        let written = match written {
            Err(WriterError::Failed(failure)) => print(&failure),
            Ok(()) | Err(WriterError::ReaderGone) => Exit::SUCCESS,
        };
        (journalled.or(written), self.stats)
    }
}
