//! Counts what became of the requests: the progress bar, the summary line, and the exit code.

use std::{
    collections::BTreeMap,
    io::{self, IsTerminal as _, Write as _},
    path::PathBuf,
    time::{Duration, Instant},
};

use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle};
use serde::Serialize;

use super::{
    line::{ResultLine, meaning},
    round_trips::RoundTrips,
};
use crate::{
    commands::{Console, json_line},
    failure::{Exit, Kind},
    protocol::ResultCode,
};

/// How often progress is told.
const INTERVAL: Duration = Duration::from_secs(1);

/// When progress is shown.
#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
pub enum Progress {
    /// A bar if stderr is a terminal and there is more than one request
    Auto,
    /// A bar
    Always,
    /// Nothing
    Never,
    /// JSON lines
    Json,
}

/// The counts of one run.
pub struct Tally {
    console: Console,
    single: bool,
    started: Instant,
    counts: Counts,
    codes: BTreeMap<i64, u64>,
    round_trips: RoundTrips,
    /// Where the summary goes, beside stderr.
    summary: Option<PathBuf>,
    exit: Exit,
    /// The only failure of a single request, to be told in words.
    told: Option<(String, &'static str)>,
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

enum View {
    Nothing,
    Bar(ProgressBar),
    Json(Instant),
}

impl Tally {
    /// Nothing counted yet; `single` says that the request came from flags.
    pub fn new(progress: Progress, summary: Option<PathBuf>, single: bool, console: Console) -> Self {
        let crowded = io::stdout().is_terminal();
        let view = match progress {
            Progress::Json => View::Json(Instant::now()),
            Progress::Always => View::bar(),
            Progress::Auto if !single && !crowded && !console.is_quiet() && io::stderr().is_terminal() => {
                View::bar()
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
            summary,
            exit: Exit::SUCCESS,
            told: None,
            view,
        }
    }

    /// Counts one result.
    pub fn count(&mut self, result: &ResultLine<'_>) {
        if let Some(code) = result.code {
            *self.codes.entry(code).or_default() += 1;
        }
        if let Some(milliseconds) = result.rtt_ms {
            self.round_trips.add(Duration::from_secs_f64(milliseconds / 1e3));
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
                    Kind::Timeout => self.counts.timed_out += 1,
                    Kind::Invalid => self.counts.invalid += 1,
                    Kind::Io | Kind::Connection | Kind::Refused | Kind::Protocol => self.counts.failed += 1,
                }
                kind.exit()
            }
        };
        self.exit = self.exit.or(exit);
        self.told = Some(in_words(result));
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

    /// Shows how far the run is.
    pub fn show(&mut self, in_flight: usize) {
        match &mut self.view {
            View::Nothing => {}
            View::Bar(bar) => {
                let counts = self.counts;
                bar.set_position(counts.done());
                let bad = counts.done() - counts.accepted;
                bar.set_message(format!("{} accepted, {bad} not, {in_flight} in flight", counts.accepted));
            }
            View::Json(told) => {
                if told.elapsed() >= INTERVAL {
                    *told = Instant::now();
                    self.tell_json("progress", in_flight);
                }
            }
        }
    }

    /// When progress is to be told though nothing happens; `None` where nobody watches.
    pub fn next_show(&self) -> Option<Instant> {
        match self.view {
            View::Nothing => None,
            View::Bar(_) => Some(Instant::now() + INTERVAL),
            View::Json(told) => Some(told + INTERVAL),
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
            // The failure of a run is told by whoever ends the run.
            if let Some((message, hint)) = self.told.take().filter(|_| failed == 0) {
                self.console.error(&message);
                if !hint.is_empty() {
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
        self.exit
    }

    fn write_summary(&mut self) {
        let Some(path) = self.summary.take() else { return };
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
        if let Err(why) = std::fs::write(&path, json_line(&summary)) {
            self.console.error(&format!("--summary: cannot write {}: {why}", path.display()));
            self.exit = self.exit.or(Exit::USAGE);
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
        // Where stderr is gone nobody is left to tell.
        let _ = io::stderr().lock().write_all(&json_line(&line));
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
    fn bar() -> Self {
        let bar = ProgressBar::with_draw_target(None, ProgressDrawTarget::stderr());
        let style = ProgressStyle::with_template("{spinner} {pos} done ({per_sec}), {msg} [{elapsed}]");
        Self::Bar(bar.with_style(style.unwrap_or_else(|_| ProgressStyle::default_spinner())))
    }
}

/// A failed result as a sentence and the next step.
fn in_words(result: &ResultLine<'_>) -> (String, &'static str) {
    let subject = match (result.cid, result.id) {
        (Some(cid), Some(id)) => format!("{} of {cid}, data point {id}", result.op),
        (Some(cid), None) => format!("{} of {cid}", result.op),
        _ => result.op.to_owned(),
    };
    match result.code {
        None => {
            let message = result.message.unwrap_or_default();
            // What is wrong with a data point names it by itself.
            let subject = match result.cid.filter(|_| result.kind == Some(Kind::Invalid)) {
                Some(cid) => format!("{} of {cid}", result.op),
                None => subject,
            };
            (format!("{subject}: {message}"), "")
        }
        Some(code) => {
            let code = ResultCode(code);
            let (_, hint) = meaning(code);
            (format!("{subject} was refused: {code} {}", result.msg.unwrap_or(code.name())), hint)
        }
    }
}
