//! `tap`: stands between gateways and an edge, forwards every byte, and records both directions.

use std::{
    net::{SocketAddr, ToSocketAddrs as _},
    path::PathBuf,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use serde::Serialize;

use crate::{
    cli::{
        config::Profile,
        connection::{MAX_PACKET, TlsArgs, duration, parse_url},
    },
    error::{Exit, Failure},
    io::{
        batch_writer::{BatchWriter, CommitWatch, Purpose, WriterError},
        console::{Console, print},
        files::Replacement,
    },
    json::json_line,
    mqtt::codec::Connect,
    net::{
        client::{Settings, Tls},
        proxy::Tap,
        server,
    },
    run::{runtime::run_local, signals::Signals, tap_recorder::Recorder},
    stats::RecordingSummary,
    tuya::Topics,
};

/// How long the end may take where nobody takes the records.
const FAREWELL: Duration = Duration::from_millis(1500);

/// Arguments of `tap`.
#[derive(Debug, clap::Args)]
#[command(after_help = "\
Point the gateway at ADDRESS instead of the edge. Every byte goes on unchanged and at once, logins included; a copy \
is decoded and recorded: messages of both directions (dir up is from the client), connect with the broker's answer, \
and disconnect. The password of a login is never recorded.

The first line on stdout is {\"event\":\"listening\",\"broker\":\"mqtt://ADDRESS\"}. Records follow on stdout, or go \
to --out FILE, synced to the disk. It ends by SIGINT or SIGTERM, or after --for; then a summary says how many \
requests were answered, how fast and with which codes.

What is not MQTT 3.1.1 is forwarded and said on stderr. Where recording fails, or is too slow, the traffic goes on; \
what is missing is counted, said, marked in the recording by a line with \"event\":\"left-out\", and makes exit code 2.

EXAMPLES
  tuyagw tap --listen 127.0.0.1:1883 --broker 10.0.0.7:21883 --out site.jsonl
  tuyagw tap --listen 0.0.0.0:21883 --broker mqtts://edge \\
    --tls-cert my.pem --tls-key my.key
  tuyagw tap --listen 127.0.0.1:0 -b 10.0.0.7 | jq 'select(.kind == \"command\")'
  tuyagw tap --listen 127.0.0.1:1883 --broker 10.0.0.7 --for 1h --out hour.jsonl")]
pub struct Args {
    /// Address to listen on; port 0 picks a free one
    #[arg(long, value_name = "HOST:PORT")]
    listen: String,

    /// Speak TLS to clients with this certificate chain (PEM)
    #[arg(long, value_name = "PEM", requires = "tls_key")]
    tls_cert: Option<PathBuf>,

    /// Private key of the certificate (PEM)
    #[arg(long, value_name = "PEM", requires = "tls_cert")]
    tls_key: Option<PathBuf>,

    /// Append the records to this file, synced, instead of printing them
    #[arg(long, value_name = "FILE")]
    out: Option<PathBuf>,

    /// Write the summary to this file as JSON, as `inspect --json` prints it
    #[arg(long, value_name = "FILE")]
    summary: Option<PathBuf>,

    /// End after this long
    #[arg(long = "for", value_name = "D", value_parser = duration)]
    duration: Option<Duration>,

    #[command(flatten)]
    broker: BrokerArgs,
}

#[derive(Debug, clap::Args)]
#[command(next_help_heading = "Connection")]
struct BrokerArgs {
    /// The edge behind: mqtt://HOST[:21883], mqtts://HOST[:21883], or a bare HOST[:PORT]
    #[allow(rustdoc::broken_intra_doc_links, reason = "the help shows it as it stands")]
    #[arg(short, long, env = "TUYAGW_BROKER", value_name = "URL")]
    broker: Option<String>,

    #[command(flatten)]
    tls: TlsArgs,

    /// Time for name, TCP and TLS together, for each connection [default: 5s]
    #[arg(long, value_name = "D", value_parser = duration)]
    connect_timeout: Option<Duration>,

    /// Largest MQTT packet to decode, in bytes; larger ones are forwarded only [default: 1048576]
    #[arg(long, value_name = "BYTES", value_parser = clap::value_parser!(u32).range(MAX_PACKET))]
    max_packet: Option<u32>,

    /// The profile of the configuration file to use [default: the file's default-profile]
    #[arg(long, env = "TUYAGW_PROFILE", value_name = "NAME")]
    profile: Option<String>,

    /// The configuration file [default: $XDG_CONFIG_HOME/tuyagw/config.toml]
    #[arg(long, env = "TUYAGW_CONFIG", value_name = "FILE")]
    config: Option<PathBuf>,
}

/// Runs `tap`.
pub fn run(args: Args, console: Console) -> anyhow::Result<Exit> {
    run_local(async {
        // As a task of its own it is not polled each time that one of the connections has something to do.
        let served = tokio::task::spawn_local(serve(args, console)).await;
        served.map_err(|why| Failure::io(format!("tap ended too early: {why}")))?
    })
}

async fn serve(args: Args, console: Console) -> Result<Exit, Failure> {
    let mut signals = Signals::new()?;
    let (broker, topics) = reach(&args.broker, console)?;
    let address = address(&args.listen)?;
    let tls = match (&args.tls_cert, &args.tls_key) {
        (Some(certificates), Some(key)) => Some(server::acceptor(certificates, key)?),
        _ => None,
    };
    let sink = match &args.out {
        Some(path) => BatchWriter::append(path, Purpose::TapRecords)?,
        None => BatchWriter::stdout(),
    };
    if let Some(repaired) = sink.repaired() {
        console.warn(repaired);
    }
    // A name that cannot be written is found out now, not after a day.
    let summary = args.summary.as_deref().map(|path| Replacement::prepare("--summary", path)).transpose()?;
    let mut progress = Some(sink.watch());
    let recorder = Arc::new(Mutex::new(Recorder::new(console, topics, sink)));
    let tap = Tap::bind(address, tls, broker, Arc::clone(&recorder) as _)?;
    if tap.is_public() {
        console.warn(&format!("{} can be reached from other machines", tap.url()));
        console.hint("Whoever connects reaches the edge through it; listen on 127.0.0.1 unless gateways are elsewhere.");
    }
    announce(&tap, &recorder, args.out.is_some())?;

    let end = async {
        let over = tokio::time::sleep(args.duration.unwrap_or(Duration::MAX));
        let mut over = std::pin::pin!(over);
        loop {
            tokio::select! {
                exit = signals.next() => break exit,
                () = &mut over, if args.duration.is_some() => break Exit::SUCCESS,
                Err(why) = advance(&mut progress) => {
                    progress = None;
                    lock(&recorder).fail(why);
                }
            }
        }
    };
    let exit = tap.serve(end).await;
    finish(&args, summary, &recorder, console).await?;
    let is_whole = lock(&recorder).is_whole();
    // The signals' codes promise that what was in hand was written.
    Ok(if is_whole { exit } else { Exit::USAGE })
}

/// Writes what is left, and says what there was.
async fn finish(
    args: &Args,
    file: Option<Replacement>,
    recorder: &Mutex<Recorder>,
    console: Console,
) -> Result<(), Failure> {
    let sink = lock(recorder).close();
    if let Some(sink) = sink {
        // A disk may take its time; a reader that takes nothing for so long takes nothing more.
        let limit = if args.out.is_some() { Duration::from_mins(1) } else { FAREWELL };
        let closed = tokio::time::timeout(limit, sink.close()).await;
        let nobody =
            || Err(WriterError::Failed(Failure::io("what was left to record could not be written in time")));
        if let Err(why) = closed.unwrap_or_else(|_| nobody()) {
            lock(recorder).fail(why);
        }
    }
    let recorder = lock(recorder);
    let summary = recorder.summary();
    say(&summary, console);
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

/// How many requests without an answer are named at the end.
const NAMED: usize = 5;

fn say(summary: &RecordingSummary, console: Console) {
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

/// Where the edge is, and the topics in force.
fn reach(args: &BrokerArgs, console: Console) -> Result<(Settings, Topics), Failure> {
    let profile = Profile::load(args.config.as_deref(), args.profile.as_deref())?;
    let url = args.broker.as_ref().or(profile.broker.as_ref()).ok_or_else(|| {
        Failure::invalid("no broker is given").hint("Use --broker URL, TUYAGW_BROKER or a profile")
    })?;
    let (address, tls) = parse_url(url)?;
    let tls = args.tls.tls(&profile, &address, tls)?;
    if tls.as_ref().is_some_and(Tls::is_insecure) {
        console.warn("--tls-insecure: nothing of the broker's certificate is verified");
    }
    let settings = Settings {
        address,
        tls,
        connect: Connect::default(),
        connect_timeout: args.connect_timeout.or(profile.connect_timeout).unwrap_or(Duration::from_secs(5)),
        timeout: Duration::ZERO,
        max_packet: args.max_packet.or(profile.max_packet).unwrap_or(1 << 20) as usize,
        in_flight: 0,
        reconnect: false,
        gives_up: true,
        early: false,
    };
    Ok((settings, profile.topics()?))
}

fn address(listen: &str) -> Result<SocketAddr, Failure> {
    let unusable = |why: String| {
        Failure::invalid(format!("--listen {listen}: {why}")).hint("Write HOST:PORT, such as 127.0.0.1:1883.")
    };
    let mut found = listen.to_socket_addrs().map_err(|why| unusable(why.to_string()))?;
    found.next().ok_or_else(|| unusable("the host has no address".into()))
}

fn announce(tap: &Tap, recorder: &Mutex<Recorder>, has_file: bool) -> Result<(), Failure> {
    #[derive(Serialize)]
    struct Listening<'a> {
        event: &'static str,
        broker: &'a str,
    }
    let line = json_line(&Listening { event: "listening", broker: &tap.url() });
    if has_file {
        return print(&line).map_err(|why| Failure::io(format!("cannot write to stdout: {why}")));
    }
    lock(recorder).event(&line);
    Ok(())
}

fn lock(recorder: &Mutex<Recorder>) -> MutexGuard<'_, Recorder> {
    recorder.lock().unwrap_or_else(PoisonError::into_inner)
}

async fn advance(progress: &mut Option<CommitWatch>) -> Result<(), WriterError> {
    match progress {
        Some(progress) => progress.progress().await.map(drop),
        None => std::future::pending().await,
    }
}
