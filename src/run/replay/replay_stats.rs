//! Statistics and results of a replay, shared by all connections: counts, failures, differences, and arriving messages.

use std::{
    cell::RefCell,
    collections::{HashSet, VecDeque},
    rc::Rc,
    time::{Duration, Instant},
};

use bytes::Bytes;
use serde::Serialize;
use tokio::sync::Notify;

use super::verify::{Difference, RequestSummary};
use crate::{
    error::{Exit, Failure, FailureKind},
    io::{
        batch_writer::{BatchWriter, CommitWatch, WriterError},
        console::Console,
    },
    json::json_line,
    rate::{Rate, RateLimiter},
    run::{
        failures::{Failures, at_line},
        warnings::Warnings,
    },
    tuya::Channel,
};

/// A message is late if it leaves more than this after it was due.
const LATE: Duration = Duration::from_millis(10);
/// Sending pauses while more bytes than this wait for the reader of stdout.
const BACKLOG: u64 = 8 << 20;

/// The statistics, shared by the replay and its connections.
pub type SharedReplayStats = Rc<RefCell<ReplayStats>>;

/// The statistics of a replay.
#[derive(Debug)]
pub struct ReplayStats {
    console: Console,
    /// The result lines; `None` once they are closed.
    out: Option<BatchWriter>,
    exit: Exit,
    /// Messages in flight.
    pub in_flight: usize,
    /// At how many of them to notify the replay; to do so at each would wake it too often.
    pub notifies_at: Option<usize>,
    /// Messages of the other end that are not handled yet.
    pub arrived: VecDeque<IncomingMessage>,
    /// The gateways whose connections were open.
    pub ready: HashSet<String>,
    /// The failure that ends the run.
    pub failure: Option<Failure>,
    /// The rate at which messages leave over all connections, and the origin of its clock.
    limiter: Option<(Instant, RateLimiter)>,
    sent: u64,
    acknowledged: u64,
    without_acknowledgement: u64,
    failed: u64,
    late: u64,
    latest: Duration,
    differences: u64,
    failures: Failures,
    warnings: Warnings,
    changed: Rc<Notify>,
}

/// A message of the other end.
#[derive(Debug)]
pub struct IncomingMessage {
    pub gateway_id: String,
    pub channel: Channel,
    pub payload: Bytes,
}

#[derive(Serialize)]
struct ReplayLine<'a> {
    index: u64,
    line: u64,
    kind: &'a str,
    #[serde(skip_serializing_if = "str::is_empty")]
    gateway_id: &'a str,
    #[serde(skip_serializing_if = "Option::is_none")]
    cid: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    request_id: Option<&'a str>,
    ok: bool,
    #[serde(skip_serializing_if = "Option::is_none")]
    difference: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    expected: Option<i64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    code: Option<i64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    error: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    message: Option<&'a str>,
}

impl<'a> ReplayLine<'a> {
    fn of(request: &'a RequestSummary) -> Self {
        Self {
            index: request.index,
            line: request.line,
            kind: request.channel.map_or("other", Channel::kind),
            gateway_id: &request.gateway_id,
            cid: request.cid.as_deref(),
            request_id: request.id.as_deref(),
            ok: false,
            difference: None,
            expected: None,
            code: None,
            error: None,
            message: None,
        }
    }
}

impl ReplayStats {
    /// Empty statistics, which notify of changes.
    #[must_use]
    pub fn new(console: Console, changed: Rc<Notify>) -> SharedReplayStats {
        Rc::new(RefCell::new(Self {
            console,
            out: Some(BatchWriter::stdout()),
            exit: Exit::SUCCESS,
            in_flight: 0,
            notifies_at: None,
            arrived: VecDeque::new(),
            ready: HashSet::new(),
            failure: None,
            limiter: None,
            sent: 0,
            acknowledged: 0,
            without_acknowledgement: 0,
            failed: 0,
            late: 0,
            latest: Duration::ZERO,
            differences: 0,
            failures: Failures::new(console),
            warnings: Warnings::new(console),
            changed,
        }))
    }

    /// Limits the rate of messages, those that are sent again after a loss included.
    pub fn limit(&mut self, rate: Rate) {
        self.limiter = Some((Instant::now(), RateLimiter::new(rate)));
    }

    /// Takes the turn of a message; an error says when the next turn is.
    pub fn take_turn(&mut self) -> Result<(), Instant> {
        let Some((origin, limiter)) = &mut self.limiter else { return Ok(()) };
        if limiter.take(origin.elapsed()) { Ok(()) } else { Err(*origin + limiter.next()) }
    }

    /// Wakes the replay, because something changed.
    pub fn notify(&self) {
        self.changed.notify_one();
    }

    /// Counts a message that leaves, and whether it is late.
    pub fn count_sent(&mut self, due: Option<Instant>) {
        self.sent += 1;
        let late = due.map_or(Duration::ZERO, |due| due.elapsed());
        if late > LATE {
            self.late += 1;
            self.latest = self.latest.max(late);
        }
    }

    /// Handles the acknowledgement of a message, or with QoS 0 its writing.
    pub fn handle_delivered(&mut self, is_acknowledged: bool) {
        if is_acknowledged {
            self.acknowledged += 1;
        } else {
            self.without_acknowledgement += 1;
        }
        self.finish_one();
    }

    /// Ends a message in flight.
    pub fn finish_one(&mut self) {
        self.in_flight -= 1;
        if self.notifies_at == Some(self.in_flight) {
            self.notify();
        }
    }

    /// Reports a message that was not sent, or not acknowledged.
    pub fn report_failure(&mut self, request: &RequestSummary, kind: FailureKind, message: &str) {
        self.failed += 1;
        self.exit = self.exit.or(kind.exit());
        self.failures.print(|| describe(request, message));
        let line = ReplayLine { error: Some(kind.name()), message: Some(message), ..ReplayLine::of(request) };
        self.print(&line);
    }

    /// Reports an answer that differs from the recorded one.
    pub fn report_difference(&mut self, difference: &Difference) {
        self.differences += 1;
        self.exit = self.exit.or(Exit::ANSWERED_NO);
        self.failures.print(|| {
            let named = |code: Option<i64>| code.map_or_else(|| "none".to_owned(), |code| code.to_string());
            let (expected, code) = (named(difference.expected), named(difference.code));
            let what = format!("{}: expected {expected}, got {code}", difference.kind);
            describe(&difference.request, &what)
        });
        let line = ReplayLine {
            difference: Some(difference.kind),
            expected: difference.expected,
            code: difference.code,
            ..ReplayLine::of(&difference.request)
        };
        self.print(&line);
    }

    /// Passes a line to the writer thread, so that the reader of stdout does not delay messages.
    fn print(&mut self, line: &ReplayLine<'_>) {
        if let Some(out) = &mut self.out {
            out.write(&json_line(line));
            out.flush();
        }
    }

    /// Returns whether the reader of stdout is so far behind that sending should pause.
    pub fn is_behind(&mut self) -> bool {
        self.out.as_mut().is_some_and(|out| out.is_behind(BACKLOG))
    }

    /// Returns a watch on the writing of result lines.
    pub fn output(&self) -> Option<CommitWatch> {
        self.out.as_ref().map(BatchWriter::watch)
    }

    /// Returns the result lines, so that they can be written to their end.
    pub fn take_output(&mut self) -> Option<BatchWriter> {
        self.out.take()
    }

    /// Prints a warning; a flood of warnings is counted.
    pub fn warn(&mut self, what: &str) {
        self.warnings.warn(what);
    }

    /// Returns how many messages have left.
    #[must_use]
    pub fn sent(&self) -> u64 {
        self.sent
    }

    /// Prints the summary, and returns the exit code.
    pub fn finish(&self, matched: Option<u64>, duration: Duration) -> Exit {
        self.warnings.finish();
        self.failures.finish();
        let mut summary = format!("{} sent, {} acknowledged", self.sent, self.acknowledged);
        for (count, name) in
            [(self.without_acknowledgement, "with QoS 0, without acknowledgement"), (self.failed, "failed")]
        {
            if count > 0 {
                summary.push_str(&format!(", {count} {name}"));
            }
        }
        summary.push_str(&format!(", {} late", self.late));
        if self.late > 0 {
            summary.push_str(&format!(" (at most {:.1} ms)", self.latest.as_secs_f64() * 1e3));
        }
        if let Some(matched) = matched {
            let (matched, different) = (counted(matched, "answer"), counted(self.differences, "difference"));
            summary.push_str(&format!(", {matched} as recorded, {different}"));
        }
        self.console.note(&format!("{summary}, in {:.2} s", duration.as_secs_f64()));
        self.exit
    }
}

/// Watches the writing of result lines: notifies the replay of progress, and sets its failure.
pub async fn watch_output(stats: SharedReplayStats) {
    let output = stats.borrow().output();
    let Some(mut output) = output else { return };
    loop {
        let written = output.changed().await;
        let mut stats = stats.borrow_mut();
        stats.notify();
        match written {
            Ok(_) => {}
            Err(WriterError::Failed(failure)) => {
                stats.failure.get_or_insert(failure);
                return;
            }
            // The reader wanted no more lines; the replay goes on.
            Err(WriterError::ReaderGone) => return,
        }
    }
}

/// Describes the result of a request.
fn describe(request: &RequestSummary, what: &str) -> String {
    let kind = request.channel.map_or("message", Channel::kind);
    let device = request.cid.as_deref().map(|cid| format!(" of {cid}")).unwrap_or_default();
    at_line(Some(request.line), &format!("{kind}{device}: {what}"))
}

/// Formats a number with its noun.
pub fn counted(number: u64, thing: &str) -> String {
    format!("{number} {thing}{}", if number == 1 { "" } else { "s" })
}
