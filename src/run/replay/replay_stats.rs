//! What became of the messages: counts, failures, differences, and what came back; shared by all connections.

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
    run::failures::{Failures, at_line},
    tuya::Channel,
};

/// A message is late when it leaves more than this after its time.
const LATE: Duration = Duration::from_millis(10);
/// How many warnings are printed in full.
const WARNINGS: u64 = 10;
/// Nothing more is sent while more than this waits for the reader of stdout.
const BACKLOG: u64 = 8 << 20;

/// The stats as everybody holds it.
pub type Shared = Rc<RefCell<ReplayStats>>;

/// The stats.
#[derive(Debug)]
pub struct ReplayStats {
    console: Console,
    /// Result lines; `None` once it is closed.
    out: Option<BatchWriter>,
    exit: Exit,
    /// Messages that were handed over and are not done with.
    pub in_flight: usize,
    /// At how many of them a change is told; of each would wake the player for nothing.
    pub tells_at: Option<usize>,
    /// What came from the other end and has not been looked at.
    pub arrived: VecDeque<Arrival>,
    /// The gateways whose connections have been open.
    pub ready: HashSet<String>,
    /// What ends the run.
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
    warnings: u64,
    changed: Rc<Notify>,
}

/// A message from the other end.
#[derive(Debug)]
pub struct Arrival {
    pub gateway_id: String,
    pub channel: Channel,
    pub payload: Bytes,
}

#[derive(Serialize)]
struct ResultLine<'a> {
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

impl<'a> ResultLine<'a> {
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
    /// An empty stats, which tells of changes.
    #[must_use]
    pub fn new(console: Console, changed: Rc<Notify>) -> Shared {
        Rc::new(RefCell::new(Self {
            console,
            out: Some(BatchWriter::stdout()),
            exit: Exit::SUCCESS,
            in_flight: 0,
            tells_at: None,
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
            warnings: 0,
            changed,
        }))
    }

    /// Lets messages leave at this rate, those too that are sent again after a loss.
    pub fn limit(&mut self, rate: Rate) {
        self.limiter = Some((Instant::now(), RateLimiter::new(rate)));
    }

    /// Whether a message may leave now, which counts it; else when the next one may.
    pub fn take_turn(&mut self) -> Result<(), Instant> {
        let Some((origin, limiter)) = &mut self.limiter else { return Ok(()) };
        if limiter.take(origin.elapsed()) { Ok(()) } else { Err(*origin + limiter.next()) }
    }

    /// Something changed that somebody may wait for.
    pub fn changed(&self) {
        self.changed.notify_one();
    }

    /// A message leaves, which was due at a moment.
    pub fn leaves(&mut self, due: Option<Instant>) {
        self.sent += 1;
        let late = due.map_or(Duration::ZERO, |due| due.elapsed());
        if late > LATE {
            self.late += 1;
            self.latest = self.latest.max(late);
        }
    }

    /// A message has arrived, or with QoS 0 was written.
    pub fn delivered(&mut self, is_acknowledged: bool) {
        if is_acknowledged {
            self.acknowledged += 1;
        } else {
            self.without_acknowledgement += 1;
        }
        self.done();
    }

    /// A message that was handed over is done with.
    pub fn done(&mut self) {
        self.in_flight -= 1;
        if self.tells_at == Some(self.in_flight) {
            self.changed();
        }
    }

    /// A message was not sent, or not acknowledged.
    pub fn fail(&mut self, request: &RequestSummary, kind: FailureKind, message: &str) {
        self.failed += 1;
        self.exit = self.exit.or(kind.exit());
        self.failures.tell(|| in_words(request, message));
        let line = ResultLine { error: Some(kind.name()), message: Some(message), ..ResultLine::of(request) };
        self.print(&line);
    }

    /// An answer is not the recorded one.
    pub fn differ(&mut self, difference: &Difference) {
        self.differences += 1;
        self.exit = self.exit.or(Exit::ANSWERED_NO);
        self.failures.tell(|| {
            let named = |code: Option<i64>| code.map_or_else(|| "none".to_owned(), |code| code.to_string());
            let (expected, code) = (named(difference.expected), named(difference.code));
            let what = format!("{}: expected {expected}, got {code}", difference.kind);
            in_words(&difference.request, &what)
        });
        let line = ResultLine {
            difference: Some(difference.kind),
            expected: difference.expected,
            code: difference.code,
            ..ResultLine::of(&difference.request)
        };
        self.print(&line);
    }

    /// Hands a line to the thread that writes: the messages' times do not depend on the reader of stdout.
    fn print(&mut self, line: &ResultLine<'_>) {
        if let Some(out) = &mut self.out {
            out.write(&json_line(line));
            out.flush();
        }
    }

    /// Whether the reader of stdout is so far behind that nothing more should be sent.
    pub fn is_behind(&mut self) -> bool {
        self.out.as_mut().is_some_and(|out| out.is_behind(BACKLOG))
    }

    /// A view of how far the result lines are written.
    pub fn output(&self) -> Option<CommitWatch> {
        self.out.as_ref().map(BatchWriter::watch)
    }

    /// Gives the result lines away, so that they can be written to their end.
    pub fn take_output(&mut self) -> Option<BatchWriter> {
        self.out.take()
    }

    /// Warns of something; a flood is counted.
    pub fn warn(&mut self, what: &str) {
        self.warnings += 1;
        if self.warnings <= WARNINGS {
            self.console.warn(what);
        }
    }

    /// How many messages have left.
    #[must_use]
    pub fn sent(&self) -> u64 {
        self.sent
    }

    /// Tells the summary, and gives the exit code.
    pub fn finish(&self, matched: Option<u64>, duration: Duration) -> Exit {
        if self.warnings > WARNINGS {
            self.console.warn(&format!("{} more warnings of this kind", self.warnings - WARNINGS));
        }
        self.failures.finish();
        let mut summary = format!("{} sent, {} acknowledged", self.sent, self.acknowledged);
        for (count, name) in
            [(self.without_acknowledgement, "with QoS 0, which nobody acknowledges"), (self.failed, "failed")]
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

/// Takes note of the failure that ends the writing of result lines, and tells of progress, which a run may wait for.
pub async fn watch_output(stats: Shared) {
    let output = stats.borrow().output();
    let Some(mut output) = output else { return };
    loop {
        let written = output.progress().await;
        let mut stats = stats.borrow_mut();
        stats.changed();
        match written {
            Ok(_) => {}
            Err(WriterError::Failed(failure)) => {
                stats.failure.get_or_insert(failure);
                return;
            }
            // It wanted no more lines; the replay goes on.
            Err(WriterError::ReaderGone) => return,
        }
    }
}

/// What became of a request, in words.
fn in_words(request: &RequestSummary, what: &str) -> String {
    let kind = request.channel.map_or("message", Channel::kind);
    let device = request.cid.as_deref().map(|cid| format!(" of {cid}")).unwrap_or_default();
    at_line(Some(request.line), &format!("{kind}{device}: {what}"))
}

/// A number of things, in words.
pub fn counted(number: u64, thing: &str) -> String {
    format!("{number} {thing}{}", if number == 1 { "" } else { "s" })
}
