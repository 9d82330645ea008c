//! Runs the recording proxy: binds, forwards, records to the end, and prints a summary.

use std::{
    path::PathBuf,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use super::{
    listen_address::{listening_event, resolve},
    runtime::{committed_changed, run_local},
    signals::Signals,
    tap_recorder::Recorder,
};
use crate::{
    error::{Exit, Failure},
    io::{
        batch_writer::{BatchWriter, Purpose, WriterError},
        console::{Console, print},
        files::Replacement,
    },
    json::json_line,
    net::{client::ClientSettings, proxy::Tap, server},
    stats::RecordingSummary,
    tuya::Topics,
};

/// How long writing the last records may take if the reader of stdout takes none.
const FAREWELL: Duration = Duration::from_millis(1500);

/// Where to listen, where to forward to, and what to record.
pub struct TapOptions {
    /// The `HOST:PORT` to listen on.
    pub listen: String,
    /// The certificate chain and its key, to speak TLS to clients.
    pub tls: Option<(PathBuf, PathBuf)>,
    /// How the edge is reached.
    pub broker: ClientSettings,
    /// The topics in force.
    pub topics: Topics,
    /// The file of the records; stdout without one.
    pub out: Option<PathBuf>,
    /// The file of the summary.
    pub summary: Option<PathBuf>,
    /// How long to record; until a signal if not given.
    pub period: Option<Duration>,
}

/// Forwards and records until a signal or the end of the period.
///
/// # Errors
/// An address that cannot be bound, or a file that cannot be written.
pub fn run(options: TapOptions, console: Console) -> anyhow::Result<Exit> {
    run_local(async {
        // As a task of its own it is not polled each time that one of the connections has something to do.
        let served = tokio::task::spawn_local(serve(options, console)).await;
        served.map_err(|why| Failure::io(format!("tap ended too early: {why}")))?
    })
}

async fn serve(options: TapOptions, console: Console) -> Result<Exit, Failure> {
    let mut signals = Signals::new()?;
    let address = resolve(&options.listen)?;
    let tls = options.tls.as_ref().map(|(chain, key)| server::acceptor(chain, key)).transpose()?;
    let writer = match &options.out {
        Some(path) => BatchWriter::append(path, Purpose::TapRecords)?,
        None => BatchWriter::stdout(),
    };
    if let Some(repaired) = writer.recovery_note() {
        console.warn(repaired);
    }
    // Check now that the file can be written, and not after a day.
    let summary =
        options.summary.as_deref().map(|path| Replacement::prepare("--summary", path)).transpose()?;
    let mut progress = Some(writer.watch());
    let recorder = Arc::new(Mutex::new(Recorder::new(console, options.topics, writer)));
    let tap = Tap::bind(address, tls, options.broker, Arc::clone(&recorder) as _)?;
    if tap.is_public() {
        console.warn(&format!("{} can be reached from other machines", tap.url()));
        console.hint("Every client that connects reaches the edge; listen on 127.0.0.1 unless gateways are on other machines");
    }
    announce(&tap, &recorder, options.out.is_some())?;

    let end = async {
        let over = tokio::time::sleep(options.period.unwrap_or(Duration::MAX));
        let mut over = std::pin::pin!(over);
        loop {
            tokio::select! {
                exit = signals.next() => break exit,
                () = &mut over, if options.period.is_some() => break Exit::SUCCESS,
                Err(why) = committed_changed(&mut progress) => {
                    progress = None;
                    lock(&recorder).fail(why);
                }
            }
        }
    };
    let exit = tap.serve(end).await;
    finish(options.out.is_some(), summary, &recorder, console).await?;
    let is_whole = lock(&recorder).is_whole();
    // The exit codes of signals promise that everything received was written.
    Ok(if is_whole { exit } else { Exit::USAGE })
}

/// Writes the queued records and the summary.
async fn finish(
    has_file: bool,
    file: Option<Replacement>,
    recorder: &Mutex<Recorder>,
    console: Console,
) -> Result<(), Failure> {
    let writer = lock(recorder).close();
    if let Some(writer) = writer {
        // A disk may be slow; a reader of stdout that takes nothing for this long takes nothing more.
        let limit = if has_file { Duration::from_mins(1) } else { FAREWELL };
        let closed = tokio::time::timeout(limit, writer.close()).await;
        let late = || Err(WriterError::Failed(Failure::io("the last records could not be written in time")));
        if let Err(why) = closed.unwrap_or_else(|_| late()) {
            lock(recorder).fail(why);
        }
    }
    let recorder = lock(recorder);
    let summary = recorder.summary();
    print_summary(&summary, console);
    match recorder.missing_in_all() {
        0 => {}
        1 => console.warn("1 record is missing in the recording"),
        records => console.warn(&format!("{records} records are missing in the recording")),
    }
    match file {
        Some(file) => file.replace(&json_line(&summary)),
        None => Ok(()),
    }
}

/// Most unanswered requests that the summary names.
const NAMED: usize = 5;

fn print_summary(summary: &RecordingSummary, console: Console) {
    let RecordingSummary { records, connections, .. } = summary;
    console.note(&format!("{records} messages on {} connections", connections.connects));
    for kind in &summary.round_trips {
        let ms = |time: Option<f64>| time.map_or("-".to_owned(), |time| format!("{time:.3}"));
        console.note(&format!(
            "{}: {} sent, {} answered, {} open; ms: p50 {}, p90 {}, p99 {}, max {}",
            kind.kind,
            kind.requests,
            kind.answered,
            kind.unanswered,
            ms(kind.p50_ms),
            ms(kind.p90_ms),
            ms(kind.p99_ms),
            ms(kind.max_ms)
        ));
    }
    for code in summary.codes.iter().filter(|code| code.code != 0) {
        let meaning = code.name.map(|name| format!(", {name}")).unwrap_or_default();
        console.note(&format!("{}: code {}{meaning}: {} times", code.kind, code.code, code.count));
    }
    for request in summary.unanswered.iter().take(NAMED) {
        console.note(&format!("no answer: {} {} of {}", request.kind, request.request_id, request.cid));
    }
    if let Some(more @ 1..) = summary.unanswered_count.checked_sub(NAMED as u64) {
        console.note(&format!("no answer: {more} more"));
    }
}

fn announce(tap: &Tap, recorder: &Mutex<Recorder>, has_file: bool) -> Result<(), Failure> {
    let line = listening_event(&tap.url());
    if has_file {
        return print(&line).map_err(|why| Failure::io(format!("cannot write to stdout: {why}")));
    }
    lock(recorder).event(&line);
    Ok(())
}

fn lock(recorder: &Mutex<Recorder>) -> MutexGuard<'_, Recorder> {
    recorder.lock().unwrap_or_else(PoisonError::into_inner)
}
