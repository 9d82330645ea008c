//! Counts what became of the requests: the progress bar, the summary line, and the exit code.

use std::{
    cmp::Reverse,
    collections::BTreeMap,
    io::{self, IsTerminal as _},
    time::{Duration, Instant},
};

use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle};
use serde::Serialize;

use super::{
    line::{ResultLine, meaning},
    round_trips::RoundTrips,
};
use crate::{
    error::{Exit, FailureKind},
    io::{
        console::{Console, Terminal},
        files::Replacement,
    },
    json::json_line,
    run::failures::{Failures, at_line},
    tuya::ResultCode,
};

/// How often a bar is drawn in a second at most.
const REDRAWS: u8 = 20;
/// How often progress is told.
const INTERVAL: Duration = Duration::from_secs(1);
/// For how many codes the summary says what to do.
const ADVICE: usize = 3;

/// When progress is shown.
#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
pub enum Progress {
    /// A bar if stderr is a terminal and there is more than one request
    Auto,
    /// A bar; where stderr is no terminal, a line a second
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
    round_trips: RoundTrips,
    /// How many bytes the input has, where that is known, and how many of them have been taken, nearly.
    size: Option<u64>,
    taken: u64,
    /// Where the summary goes, beside stderr.
    summary: Option<Replacement>,
    exit: Exit,
    /// The only failure of a single request, to be told in words.
    told: Option<(String, Option<&'static str>)>,
    failures: Failures,
    /// What ended the run, of which each request that it left undone speaks again.
    ended_by: Option<String>,
    view: View,
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

/// How progress is shown; with the moment when it was told last.
enum View {
    Nothing,
    Bar(ProgressBar),
    Lines(Instant),
    Json(Instant),
}

impl RunStats {
    /// Nothing counted yet; `single` says that the request came from flags.
    pub fn new(progress: Progress, summary: Option<Replacement>, single: bool, console: Console) -> Self {
        let crowded = io::stdout().is_terminal();
        let view = match progress {
            Progress::Json => View::Json(Instant::now()),
            Progress::Always if !io::stderr().is_terminal() => View::Lines(Instant::now()),
            Progress::Always => View::bar(console),
            Progress::Auto if !single && !crowded && !console.is_quiet() && io::stderr().is_terminal() => {
                View::bar(console)
            }
            Progress::Auto | Progress::Never => View::Nothing,
        };
        Self {
            console,
            single,
            started: Instant::now(),
            counts: Counts::default(),
            codes: BTreeMap::new(),
            round_trips: RoundTrips::default(),
            size: None,
            taken: 0,
            summary,
            exit: Exit::SUCCESS,
            told: None,
            failures: Failures::new(console),
            ended_by: None,
            view,
        }
    }

    /// Counts one result.
    pub fn count(&mut self, result: &ResultLine<'_>) {
        if let Some(code) = result.code {
            *self.codes.entry(code).or_default() += 1;
        }
        if let Some(round_trip) = result.round_trip {
            self.round_trips.add(round_trip);
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
        let words = in_words(result);
        if !self.single {
            self.tell_failure(result, &words.0);
        }
        self.told = Some(words);
    }

    /// Says a failure on stderr if nobody sees its result line.
    fn tell_failure(&mut self, result: &ResultLine<'_>, words: &str) {
        let is_told_once = result.message.is_some() && result.message == self.ended_by.as_deref();
        let message = || at_line(result.line, words);
        match &self.view {
            // Scripts read that.
            View::Json(_) => {}
            _ if is_told_once => {}
            View::Bar(bar) => self.failures.tell_with(message, |print| bar.suspend(print)),
            View::Nothing | View::Lines(_) => self.failures.tell(message),
        }
    }

    /// Remembers what ended the run: it is told once, and not for each request that it left undone.
    pub fn end_by(&mut self, message: &str) {
        self.ended_by = Some(message.to_owned());
    }

    /// Says how many failures were not said.
    pub fn tell_more_failures(&self) {
        if !matches!(self.view, View::Json(_)) {
            self.failures.finish();
        }
    }

    /// Counts requests that were sent again after a reconnect.
    pub fn resent(&mut self, requests: usize) {
        self.counts.resent += requests as u64;
    }

    /// Counts requests that were sent again because of their answer, or for want of one.
    pub fn retried(&mut self) {
        self.counts.retried += 1;
    }

    /// Counts inputs that a former run has done.
    pub fn skipped(&mut self, inputs: u64) {
        self.counts.skipped = inputs;
    }

    /// Says how many bytes the input has.
    pub fn expect(&mut self, size: u64) {
        self.size = Some(size);
        if let View::Bar(bar) = &self.view {
            // The bar takes what the words leave of the line.
            bar.set_style(style("{wide_bar} {msg}"));
        }
    }

    /// Counts bytes of the input that are in work.
    pub fn took(&mut self, bytes: u64) {
        self.taken += bytes;
    }

    /// Shows how far the run is.
    pub fn show(&mut self, in_flight: usize) {
        if matches!(self.view, View::Nothing) {
            return;
        }
        let message = self.so_far(self.started.elapsed());
        match &mut self.view {
            View::Nothing => {}
            View::Bar(bar) => {
                if let Some(size) = self.size {
                    bar.set_length(size);
                    bar.set_position(self.taken.min(size));
                }
                bar.set_message(message);
            }
            View::Lines(told) => {
                if told.elapsed() >= INTERVAL {
                    *told = Instant::now();
                    self.console.note(&message);
                }
            }
            View::Json(told) => {
                if told.elapsed() >= INTERVAL {
                    *told = Instant::now();
                    self.tell_json("progress", in_flight);
                }
            }
        }
    }

    /// How far the run is, in words that leave room for a bar in 80 columns.
    fn so_far(&self, elapsed: Duration) -> String {
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

    /// Forgets the words for a single request's failure: the failure of the whole run has been told, and is the same.
    pub fn hush(&mut self) {
        self.told = None;
    }

    /// When progress is to be told though nothing happens; `None` where nobody watches.
    pub fn next_show(&self) -> Option<Instant> {
        match self.view {
            View::Nothing => None,
            View::Bar(_) => Some(Instant::now() + INTERVAL),
            View::Lines(told) | View::Json(told) => Some(told + INTERVAL),
        }
    }

    /// Takes the progress bar away, so that words can be printed.
    pub fn hide(&self) {
        if let View::Bar(bar) = &self.view {
            bar.finish_and_clear();
        }
    }

    /// Tells the summary and gives the exit code.
    pub fn finish(&mut self) -> Exit {
        self.hide();
        self.write_summary();
        if matches!(self.view, View::Json(_)) {
            self.tell_json("summary", 0);
            return self.exit;
        }
        let Counts { accepted, refused, timed_out, invalid, failed, resent, retried, skipped } = self.counts;
        if self.single && self.counts.done() == 1 {
            if let Some((message, hint)) = self.told.take() {
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
        if let Some(median) = self.round_trips.percentile(50) {
            let (median, longest) = (milliseconds(median), milliseconds(self.round_trips.longest()));
            summary.push_str(&format!(" (round trip {median} ms, at most {longest} ms)"));
        }
        self.console.note(&summary);
        self.advise();
        self.exit
    }

    /// Says what to do about the refusals that came most often; each result line says it, but those may go to a file.
    fn advise(&self) {
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
        let summary = Summary {
            done,
            counts: self.counts,
            codes: &self.codes,
            rtt_ms: self.round_trips.percentile(50).map(|_| Percentiles {
                p50: percentile(50),
                p90: percentile(90),
                p99: percentile(99),
                max: milliseconds(self.round_trips.longest()),
            }),
            duration_ms: milliseconds(duration),
            rate: per_second(done, duration),
        };
        if let Err(failure) = file.replace(&json_line(&summary)) {
            self.console.failure(&failure);
            self.exit = self.exit.or(failure.kind.exit());
        }
    }

    fn tell_json(&self, event: &str, in_flight: usize) {
        #[derive(Serialize)]
        struct Line<'a> {
            event: &'a str,
            done: u64,
            #[serde(flatten)]
            counts: Counts,
            in_flight: usize,
            elapsed_ms: u64,
        }
        let elapsed_ms = u64::try_from(self.started.elapsed().as_millis()).unwrap_or(u64::MAX);
        let line = Line { event, done: self.counts.done(), counts: self.counts, in_flight, elapsed_ms };
        self.console.write(&json_line(&line));
    }
}

/// What `--summary` writes.
#[derive(Serialize)]
struct Summary<'a> {
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

/// Whole results a second.
fn per_second(done: u64, duration: Duration) -> u64 {
    let microseconds = duration.as_micros().max(1);
    u64::try_from(u128::from(done) * 1_000_000 / microseconds).unwrap_or(u64::MAX)
}

fn milliseconds(duration: Duration) -> f64 {
    (duration.as_secs_f64() * 1e6).round() / 1e3
}

impl View {
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

/// Whole seconds until all of the input is taken, if it goes on as it did; nothing before the first second's end.
fn time_left(elapsed: Duration, taken: u64, size: u64) -> Option<u64> {
    let milliseconds = elapsed.as_millis();
    if milliseconds < 1000 || taken == 0 {
        return None;
    }
    let left = u128::from(size.saturating_sub(taken)) * milliseconds / u128::from(taken);
    u64::try_from(left.div_ceil(1000)).ok()
}

/// A failed result as a sentence and the next step.
fn in_words(result: &ResultLine<'_>) -> (String, Option<&'static str>) {
    let subject = match (result.cid, result.id) {
        (Some(cid), Some(id)) => format!("{} of {cid}, data point {id}", result.op),
        (Some(cid), None) => format!("{} of {cid}", result.op),
        _ => result.op.to_owned(),
    };
    match result.code {
        None => {
            let message = result.message.unwrap_or_default();
            // What is wrong with a data point names it by itself.
            let subject = match result.cid.filter(|_| result.kind == Some(FailureKind::Invalid)) {
                Some(cid) => format!("{} of {cid}", result.op),
                None => subject,
            };
            let hint = match (result.kind, result.op) {
                (Some(FailureKind::Timeout), "command") => {
                    Some("See whether the gateway is connected and answers commands; --timeout waits longer.")
                }
                // Without a failure of the whole run, it was a signal that cut the connection.
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
        // More than was expected: its size was an estimate.
        assert_eq!(left(10, 1100), Some(0));
        assert_eq!((left(0, 250), left(10, 0)), (None, None));
    }

    #[test]
    fn progress_tells_rate_results_and_what_is_left() {
        let mut tally = RunStats::new(Progress::Never, None, false, Console::new(true));
        tally.expect(1000);
        tally.took(500);
        tally.counts = Counts { accepted: 96, refused: 3, invalid: 1, ..Counts::default() };
        let text = tally.so_far(Duration::from_secs(10));
        assert_eq!(text, "10/s, 96 accepted, 3 refused, 1 failed, 10 s left");
    }
}
