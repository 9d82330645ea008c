//! `replay`: sends a recording again, with its own timing, and compares the answers.

use std::time::Duration;

use super::{
    connection::{GatewayArgs, NetworkArgs},
    selection_args::SelectionArgs,
    values::{direction, duration, mapping, speed},
};
use crate::{
    error::{Exit, Failure},
    io::{
        console::Console,
        recording_file::{IssueReporter, Recording, RecordingArgs},
    },
    mqtt::Direction,
    rate::Rate,
    recording::{ReplaySchedule, ReplaySpeed},
    run::{
        connection_settings::ConnectionSettings,
        replay::{self, ReplayOptions, ReplayPeer, dry_run, reader::RecordingReader},
        runtime::run_local,
    },
    tuya::GatewayId,
};

const EXAMPLES: &str = "FILE is a recording of listen, tap or edge, or any file that `convert` reads; - is stdin. Each gateway has its own \
connection, with its own id and password. t and request_id are new; every other byte is as recorded.

EXAMPLES
  tuyagw replay site.jsonl                          with its own timing
  tuyagw replay --speed 10 --max-gap 5s site.jsonl.zst
  tuyagw replay --rate 500/s --map-gateway gw1=test1 site.pcapng
  tuyagw replay --verify site.jsonl                 exit 1 where a code differs
  tuyagw replay --dry-run --kind report --from 10m --to 20m site.jsonl
  tuyagw replay --direction down --listen 0.0.0.0:21883 --verify site.jsonl
                                                    the edge's side";

/// Arguments of `replay`.
#[derive(Debug, clap::Args)]
#[command(after_help = EXAMPLES)]
pub struct Args {
    /// Speed as a multiple of the recorded one, or max
    #[arg(long, value_name = "FACTOR|max", value_parser = speed, conflicts_with = "rate")]
    speed: Option<ReplaySpeed>,

    /// Send at this rate instead: 500/s, or 30/m
    #[arg(long, value_name = "N/s")]
    rate: Option<Rate>,

    /// Replay the recording N times
    #[arg(long = "loop", value_name = "N", default_value_t = 1, value_parser = clap::value_parser!(u64).range(1..))]
    times: u64,

    /// Shorten longer pauses of the recording to this
    #[arg(long, value_name = "D", value_parser = duration)]
    max_gap: Option<Duration>,

    #[command(flatten)]
    selection: SelectionArgs,

    /// Replace a gateway's id; repeatable
    #[arg(long, value_name = "OLD=NEW", value_parser = mapping)]
    map_gateway: Vec<(String, String)>,

    /// Replace a device's cid; repeatable
    #[arg(long, value_name = "OLD=NEW", value_parser = mapping)]
    map_cid: Vec<(String, String)>,

    /// Keep the recorded time stamps
    #[arg(long)]
    keep_t: bool,

    /// Keep the recorded request ids
    #[arg(long)]
    keep_ids: bool,

    /// Take the part of the gateways (up) or, with --listen, of the edge (down)
    #[arg(long, value_name = "up|down", default_value = "up", value_parser = direction)]
    direction: Direction,

    /// Address to listen on, with --direction down; port 0 picks a free one
    #[arg(long, value_name = "HOST:PORT")]
    listen: Option<String>,

    /// Compare each answer's code with the recorded one
    #[arg(long)]
    verify: bool,

    /// Exit on the first lost connection
    #[arg(long, conflicts_with = "listen")]
    no_reconnect: bool,

    /// Print what would be sent, and how long that takes, as JSON
    #[arg(long)]
    dry_run: bool,

    #[command(flatten)]
    recording: RecordingArgs,

    #[command(flatten)]
    login: GatewayArgs,

    #[command(flatten)]
    network: NetworkArgs,
}

/// Runs `replay`.
pub fn run(args: Args, console: Console) -> anyhow::Result<Exit> {
    match (args.direction, &args.listen) {
        (Direction::Down, None) if !args.dry_run => {
            return Err(Failure::invalid("--direction down needs --listen, the address for gateways").into());
        }
        (Direction::Up, Some(_)) => {
            return Err(Failure::invalid("--listen goes with --direction down").into());
        }
        _ => {}
    }
    if args.times > 1 && args.recording.file.as_os_str() == "-" {
        return Err(Failure::invalid("--loop cannot read stdin again").hint("Give a FILE").into());
    }
    let topics = args.network.topics()?;
    let timeout = args.network.timeout()?;
    let aftermath = if args.verify { timeout } else { Duration::ZERO };
    let selection = args.selection.selection(args.direction, aftermath)?;
    let recording = Recording::open(&args.recording)?;
    let issues = IssueReporter::of(&recording, console);
    let pace = args.rate.map(ReplaySpeed::Rate).or(args.speed).unwrap_or(ReplaySpeed::Factor(1.0));
    let schedule = ReplaySchedule::new(pace, args.max_gap);
    let script =
        RecordingReader::open(recording, args.recording.clone(), args.times, selection, topics.clone())?;
    let qos = args.network.asked_qos();
    if args.dry_run {
        return run_local(dry_run::run(script, schedule, issues, qos, console));
    }
    let (peer, default_gateway) = match args.listen {
        None => {
            let mut fleet = ConnectionSettings::fleet(&args.network, &args.login)?;
            fleet.base.client.reconnect = !args.no_reconnect;
            let gateway = fleet.base.gateway_id.clone();
            (ReplayPeer::Edge(Box::new(fleet)), gateway)
        }
        Some(address) => {
            (ReplayPeer::Gateways(address), args.login.gateway_id.and_then(|id| GatewayId::new(id).ok()))
        }
    };
    let options = ReplayOptions {
        peer,
        default_gateway,
        gateways: args.map_gateway.into_iter().collect(),
        cids: args.map_cid.into_iter().collect(),
        qos,
        pace,
        topics,
        timeout,
        verifies: args.verify,
        keeps_t: args.keep_t,
        keeps_ids: args.keep_ids,
    };
    run_local(replay::run(options, script, schedule, issues, console))
}
