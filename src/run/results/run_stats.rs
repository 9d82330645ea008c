//! Statistics of a run: the progress display, the summary, and the exit code.

use std::{
    cmp::Reverse,
    collections::BTreeMap,
    io::{self, IsTerminal as _},
    time::{Duration, Instant},
};

use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle};
use serde::Serialize;

use super::line::{ResultLine, meaning};
use crate::{
    collections::Histogram,
    error::{Exit, FailureKind},
    io::{
        console::{Console, Terminal},
        files::Replacement,
    },
    json::json_line,
    run::failures::{Failures, at_line},
    tuya::ResultCode,
};

/// Upper limit of redraws of the bar per second.
const REDRAWS: u8 = 20;
/// How often progress is printed.
const INTERVAL: Duration = Duration::from_secs(1);
/// Number of result codes for which the summary gives advice.
const ADVICE: usize = 3;

/// When progress is shown.
#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
pub enum ProgressMode {
    /// A bar if stderr is a terminal and there is more than one request
    Auto,
    /// A bar; if stderr is no terminal, a line every second
    Always,
    /// Nothing
    Never,
    /// JSON lines
    Json,
}

/// The counts of one run.
pub struct RunStats {
    console: Console,
    single: bool,
    started: Instant,
    counts: Counts,
    codes: BTreeMap<i64, u64>,
    /// In microseconds.
    round_trips: Histogram,
    /// The size of the input in bytes, if it is known, and roughly how many of them were read.
    size: Option<u64>,
    taken: u64,
    /// The file of the summary, beside stderr.
    summary: Option<Replacement>,
    exit: Exit,
    /// The failure of a single request, as a message and a hint.
    single_failure: Option<(String, Option<&'static str>)>,
    failures: Failures,
    /// The message of the failure that ended the run; each request that it leaves undone repeats it.
    cause: Option<String>,
    view: ProgressView,
}

#[derive(Clone, Copy, Debug, Default, Serialize)]
struct Counts {
    accepted: u64,
    refused: u64,
    timed_out: u64,
    invalid: u64,
    failed: u64,
    resent: u64,
    retried: u64,
    skipped: u64,
}

impl Counts {
    fn done(self) -> u64 {
        self.accepted + self.refused + self.timed_out + self.invalid + self.failed
    }
}

/// How progress is shown, with the time of the last line.
enum ProgressView {
    Nothing,
    Bar(ProgressBar),
    Lines(Instant),
    Json(Instant),
}

impl RunStats {
    /// Nothing counted yet; `single` says that the request came from flags.
    pub fn new(progress: ProgressMode, summary: Option<Replacement>, single: bool, console: Console) -> Self {
        let crowded = io::stdout().is_terminal();
        let view = match progress {
            ProgressMode::Json => ProgressView::Json(Instant::now()),
            ProgressMode::Always if !io::stderr().is_terminal() => ProgressView::Lines(Instant::now()),
            ProgressMode::Always => ProgressView::bar(console),
            ProgressMode::Auto
                if !single && !crowded && !console.is_quiet() && io::stderr().is_terminal() =>
            {
                ProgressView::bar(console)
            }
            ProgressMode::Auto | ProgressMode::Never => ProgressView::Nothing,
        };
        Self {
            console,
            single,
            started: Instant::now(),
            counts: Counts::default(),
            codes: BTreeMap::new(),
            round_trips: Histogram::default(),
            size: None,
            taken: 0,
            summary,
            exit: Exit::SUCCESS,
            single_failure: None,
            failures: Failures::new(console),
            cause: None,
            view,
        }
    }

    /// Counts one result.
    pub fn count(&mut self, result: &ResultLine<'_>) {
        if let Some(code) = result.code {
            *self.codes.entry(code).or_default() += 1;
        }
        if let Some(round_trip) = result.round_trip {
            self.round_trips.add(microseconds(round_trip));
        }
        let exit = match result.kind {
            None if result.ok => {
                self.counts.accepted += 1;
                return;
            }
            None => {
                self.counts.refused += 1;
                Exit::ANSWERED_NO
            }
            Some(kind) => {
                match kind {
                    FailureKind::Timeout => self.counts.timed_out += 1,
                    FailureKind::Invalid => self.counts.invalid += 1,
                    FailureKind::Io
                    | FailureKind::Connection
                    | FailureKind::Refused
                    | FailureKind::Protocol => self.counts.failed += 1,
                }
                kind.exit()
            }
        };
        self.exit = self.exit.or(exit);
        let words = describe(result);
        if !self.single {
            self.print_failure(result, &words.0);
        }
        self.single_failure = Some(words);
    }

    /// Prints a failure on stderr, if its result line goes to a file or a pipe.
    fn print_failure(&mut self, result: &ResultLine<'_>, words: &str) {
        let is_cause = result.message.is_some() && result.message == self.cause.as_deref();
        let message = || at_line(result.line, words);
        match &self.view {
            // Scripts read the result lines.
            ProgressView::Json(_) => {}
            _ if is_cause => {}
            ProgressView::Bar(bar) => self.failures.print_with(message, |print| bar.suspend(print)),
            ProgressView::Nothing | ProgressView::Lines(_) => self.failures.print(message),
        }
    }

    /// Sets the message of the failure that ended the run; it is not printed again for each request.
    pub fn set_cause(&mut self, message: &str) {
        self.cause = Some(message.to_owned());
    }

    /// Prints how many failures were not printed.
    pub fn print_omitted_failures(&self) {
        if !matches!(self.view, ProgressView::Json(_)) {
            self.failures.finish();
        }
    }

    /// Counts requests that were sent again after a reconnect.
    pub fn count_resent(&mut self, requests: usize) {
        self.counts.resent += requests as u64;
    }

    /// Counts a request that is sent again because of its answer, or because it had none.
    pub fn count_retry(&mut self) {
        self.counts.retried += 1;
    }

    /// Sets the number of inputs that a former run has done.
    pub fn set_skipped(&mut self, inputs: u64) {
        self.counts.skipped = inputs;
    }

    /// Sets the size of the input in bytes.
    pub fn set_input_size(&mut self, size: u64) {
        self.size = Some(size);
        if let ProgressView::Bar(bar) = &self.view {
            // The bar takes the width that the message leaves.
            bar.set_style(style("{wide_bar} {msg}"));
        }
    }

    /// Counts bytes of the input that were read.
    pub fn add_input_bytes(&mut self, bytes: u64) {
        self.taken += bytes;
    }

    /// Updates the progress display.
    pub fn update_progress(&mut self, in_flight: usize) {
        if matches!(self.view, ProgressView::Nothing) {
            return;
        }
        let message = self.progress_message(self.started.elapsed());
        match &mut self.view {
            ProgressView::Nothing => {}
            ProgressView::Bar(bar) => {
                if let Some(size) = self.size {
                    bar.set_length(size);
                    bar.set_position(self.taken.min(size));
                }
                bar.set_message(message);
            }
            ProgressView::Lines(printed) => {
                if printed.elapsed() >= INTERVAL {
                    *printed = Instant::now();
                    self.console.note(&message);
                }
            }
            ProgressView::Json(printed) => {
                if printed.elapsed() >= INTERVAL {
                    *printed = Instant::now();
                    self.print_json("progress", in_flight);
                }
            }
        }
    }

    /// Returns the state of the run as a message that leaves room for a bar in 80 columns.
    fn progress_message(&self, elapsed: Duration) -> String {
        let Counts { accepted, refused, .. } = self.counts;
        let done = self.counts.done();
        let rate = per_second(done, elapsed);
        let mut text = format!("{rate}/s, {accepted} accepted, {refused} refused");
        if done > accepted + refused {
            text.push_str(&format!(", {} failed", done - accepted - refused));
        }
        if let Some(left) = self.size.and_then(|size| time_left(elapsed, self.taken, size)) {
            text.push_str(&format!(", {left} s left"));
        }
        text
    }

    /// Clears the failure of a single request, because the failure of the whole run was printed and is the same.
    pub fn clear_failure(&mut self) {
        self.single_failure = None;
    }

    /// Returns when the progress display needs an update; `None` if there is none.
    pub fn next_update(&self) -> Option<Instant> {
        match self.view {
            ProgressView::Nothing => None,
            ProgressView::Bar(_) => Some(Instant::now() + INTERVAL),
            ProgressView::Lines(printed) | ProgressView::Json(printed) => Some(printed + INTERVAL),
        }
    }

    /// Removes the progress bar, so that messages can be printed.
    pub fn hide(&self) {
        if let ProgressView::Bar(bar) = &self.view {
            bar.finish_and_clear();
        }
    }

    /// Prints the summary and returns the exit code.
    pub fn finish(&mut self) -> Exit {
        self.hide();
        self.write_summary();
        if matches!(self.view, ProgressView::Json(_)) {
            self.print_json("summary", 0);
            return self.exit;
        }
        let Counts { accepted, refused, timed_out, invalid, failed, resent, retried, skipped } = self.counts;
        if self.single && self.counts.done() == 1 {
            if let Some((message, hint)) = self.single_failure.take() {
                self.console.error(&message);
                if let Some(hint) = hint {
                    self.console.hint(hint);
                }
            }
            return self.exit;
        }
        let mut summary = format!("{accepted} accepted");
        for (count, name) in [
            (refused, "refused"),
            (timed_out, "not answered in time"),
            (invalid, "invalid"),
            (failed, "failed"),
            (resent, "sent again after a reconnect"),
            (retried, "tried again"),
            (skipped, "done by a former run"),
        ] {
            if count > 0 {
                summary.push_str(&format!(", {count} {name}"));
            }
        }
        let seconds = self.started.elapsed().as_secs_f64();
        summary.push_str(&format!(", in {seconds:.2} s"));
        if let Some((median, longest)) = self.round_trips.percentile(50).zip(self.round_trips.max()) {
            let (median, longest) = (milliseconds(median), milliseconds(longest));
            summary.push_str(&format!(" (round trip {median} ms, at most {longest} ms)"));
        }
        self.console.note(&summary);
        self.print_advice();
        self.exit
    }

    /// Prints hints for the most frequent refusals: result lines have them, too, but may go to a file.
    fn print_advice(&self) {
        let mut refusals: Vec<_> =
            self.codes.iter().map(|(code, count)| (ResultCode(*code), *count)).collect();
        refusals.retain(|(code, _)| !code.is_success());
        refusals.sort_by_key(|(_, count)| Reverse(*count));
        for (code, count) in refusals.into_iter().take(ADVICE) {
            let (_, hint) = meaning(code);
            self.console.note(&format!("{code} {} ({count}): {hint}", code.name()));
        }
    }

    fn write_summary(&mut self) {
        let Some(file) = self.summary.take() else { return };
        let duration = self.started.elapsed();
        let done = self.counts.done();
        let percentile = |percent| self.round_trips.percentile(percent).map(milliseconds);
        let summary = RunSummary {
            done,
            counts: self.counts,
            codes: &self.codes,
            rtt_ms: self.round_trips.max().map(|max| Percentiles {
                p50: percentile(50),
                p90: percentile(90),
                p99: percentile(99),
                max: milliseconds(max),
            }),
            duration_ms: milliseconds(microseconds(duration)),
            rate: per_second(done, duration),
        };
        if let Err(failure) = file.replace(&json_line(&summary)) {
            self.console.failure(&failure);
            self.exit = self.exit.or(failure.kind.exit());
        }
    }

    fn print_json(&self, event: &str, in_flight: usize) {
        #[derive(Serialize)]
        struct ProgressLine<'a> {
            event: &'a str,
            done: u64,
            #[serde(flatten)]
            counts: Counts,
            in_flight: usize,
            elapsed_ms: u64,
        }
        let elapsed_ms = u64::try_from(self.started.elapsed().as_millis()).unwrap_or(u64::MAX);
        let line =
            ProgressLine { event, done: self.counts.done(), counts: self.counts, in_flight, elapsed_ms };
        self.console.write(&json_line(&line));
    }
}

/// What `--summary` writes.
#[derive(Serialize)]
struct RunSummary<'a> {
    done: u64,
    #[serde(flatten)]
    counts: Counts,
    codes: &'a BTreeMap<i64, u64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    rtt_ms: Option<Percentiles>,
    duration_ms: f64,
    rate: u64,
}

#[derive(Serialize)]
struct Percentiles {
    p50: Option<f64>,
    p90: Option<f64>,
    p99: Option<f64>,
    max: f64,
}

/// Returns whole results per second.
fn per_second(done: u64, duration: Duration) -> u64 {
    let microseconds = duration.as_micros().max(1);
    u64::try_from(u128::from(done) * 1_000_000 / microseconds).unwrap_or(u64::MAX)
}

/// A duration to the nearest microsecond.
fn microseconds(duration: Duration) -> u64 {
    duration
        .as_secs()
        .saturating_mul(1_000_000)
        .saturating_add(u64::from(duration.subsec_nanos() + 500) / 1000)
}

#[allow(clippy::cast_precision_loss, reason = "to the microsecond for 285 years")]
fn milliseconds(microseconds: u64) -> f64 {
    microseconds as f64 / 1e3
}

impl ProgressView {
    fn bar(console: Console) -> Self {
        let terminal = Box::new(Terminal::new(console));
        let target = ProgressDrawTarget::term_like_with_hz(terminal, REDRAWS);
        let bar = ProgressBar::with_draw_target(None, target);
        Self::Bar(bar.with_style(style("{spinner} {wide_msg}")))
    }
}

fn style(template: &str) -> ProgressStyle {
    ProgressStyle::with_template(template).unwrap_or_else(|_| ProgressStyle::default_spinner())
}

/// Estimates the whole seconds until all input is read, at the speed so far; `None` in the first second.
fn time_left(elapsed: Duration, taken: u64, size: u64) -> Option<u64> {
    let milliseconds = elapsed.as_millis();
    if milliseconds < 1000 || taken == 0 {
        return None;
    }
    let left = u128::from(size.saturating_sub(taken)) * milliseconds / u128::from(taken);
    u64::try_from(left.div_ceil(1000)).ok()
}

/// Describes a failed result: a message and a hint.
fn describe(result: &ResultLine<'_>) -> (String, Option<&'static str>) {
    let subject = match (result.cid, result.id) {
        (Some(cid), Some(id)) => format!("{} of {cid}, data point {id}", result.op),
        (Some(cid), None) => format!("{} of {cid}", result.op),
        _ => result.op.to_owned(),
    };
    match result.code {
        None => {
            let message = result.message.unwrap_or_default();
            // The message of an invalid data point names it.
            let subject = match result.cid.filter(|_| result.kind == Some(FailureKind::Invalid)) {
                Some(cid) => format!("{} of {cid}", result.op),
                None => subject,
            };
            let hint = match (result.kind, result.op) {
                (Some(FailureKind::Timeout), "command") => {
                    Some("Check that the gateway is connected and answers commands; --timeout waits longer")
                }
                // A connection failure of a request alone is a signal that ended the run.
                (Some(FailureKind::Connection) | None, _) => None,
                (Some(kind), _) => kind.next_step(),
            };
            (format!("{subject}: {message}"), hint)
        }
        Some(code) => {
            let code = ResultCode(code);
            let (_, hint) = meaning(code);
            let msg = result.msg.filter(|msg| !msg.is_empty()).unwrap_or(code.name());
            (format!("{subject} was refused: {code} {msg}"), Some(hint))
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_time_left_is_what_the_rest_takes_at_the_same_speed() {
        let left = |seconds, taken| time_left(Duration::from_secs(seconds), taken, 1000);
        assert_eq!((left(10, 250), left(10, 999), left(10, 1000)), (Some(30), Some(1), Some(0)));
        // More than expected, because the size was an estimate.
        assert_eq!(left(10, 1100), Some(0));
        assert_eq!((left(0, 250), left(10, 0)), (None, None));
    }

    #[test]
    fn the_progress_message_has_rate_results_and_time_left() {
        let mut stats = RunStats::new(ProgressMode::Never, None, false, Console::new(true));
        stats.set_input_size(1000);
        stats.add_input_bytes(500);
        stats.counts = Counts { accepted: 96, refused: 3, invalid: 1, ..Counts::default() };
        let text = stats.progress_message(Duration::from_secs(10));
        assert_eq!(text, "10/s, 96 accepted, 3 refused, 1 failed, 10 s left");
    }

    fn stats() -> RunStats {
        RunStats::new(ProgressMode::Never, None, false, Console::new(true))
    }

    #[test]
    fn the_exit_code_is_that_of_the_worst_result() {
        let mut stats = stats();
        let accepted = ResultLine { ok: true, code: Some(0), ..ResultLine::default() };
        stats.count(&accepted);
        assert_eq!(stats.exit, Exit::SUCCESS);
        stats.count(&ResultLine { code: Some(2003), ..ResultLine::default() });
        assert_eq!(stats.exit, Exit::ANSWERED_NO);
        stats.count(&ResultLine::failed(FailureKind::Invalid, "no value"));
        assert_eq!(stats.exit, Exit::USAGE);
        stats.count(&ResultLine::failed(FailureKind::Timeout, "no answer"));
        assert_eq!(stats.exit, Exit::TIMEOUT);
        stats.count(&accepted);
        assert_eq!(stats.exit, Exit::TIMEOUT);
        let Counts { accepted, refused, timed_out, invalid, failed, .. } = stats.counts;
        assert_eq!((accepted, refused, timed_out, invalid, failed), (2, 1, 1, 1, 0));
        assert_eq!((stats.codes.get(&0), stats.codes.get(&2003)), (Some(&2), Some(&1)));
    }

    #[test]
    fn a_failure_is_described_by_device_data_point_and_next_step() {
        let refused = ResultLine {
            op: "report",
            cid: Some("m1"),
            id: Some("4"),
            code: Some(2003),
            msg: Some(""),
            ..ResultLine::default()
        };
        let (message, hint) = describe(&refused);
        assert_eq!(message, "report of m1, data point 4 was refused: 2003 device not exist");
        assert_eq!(hint, Some(meaning(ResultCode(2003)).1));
        let late =
            ResultLine { op: "command", cid: Some("m1"), ..ResultLine::failed(FailureKind::Timeout, "late") };
        let (message, hint) = describe(&late);
        assert_eq!(message, "command of m1: late");
        assert!(hint.is_some_and(|hint| hint.contains("gateway")));
        let invalid = ResultLine {
            op: "report",
            cid: Some("m1"),
            id: Some("4"),
            ..ResultLine::failed(FailureKind::Invalid, "why")
        };
        assert_eq!(describe(&invalid).0, "report of m1: why");
    }
}
