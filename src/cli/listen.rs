//! `listen`: prints arriving messages as records, answers commands, and sends uplinks from stdin. One connection does all,
//! because a second client with the same id would disconnect the first.

use std::{ffi::OsString, path::PathBuf, time::Duration};

use super::{
    connection::{AgentArgs, GatewayArgs, NetworkArgs},
    exec_options::take_back,
    model_args::ModelArgs,
    values::{duration, fixed_answer},
};
use crate::{
    error::Exit,
    io::{batch_writer::Rotation, console::Console},
    run::{
        command_executor::CommandPolicy,
        connection_settings::ConnectionSettings,
        known_devices::read_devices,
        listen::{self, ListenOptions},
        record_filter::RecordFilter,
        time_unit::TimeUnit,
    },
};

const EXAMPLES: &str = "EXAMPLES
  See what the platform sends, one record a line:
    tuyagw listen
  Accept every command that fits the model, and report the new value:
    tuyagw listen --answer success
  Let a program decide, by its exit status; it gets the command's JSON on stdin:
    tuyagw listen --exec ./valve.sh
  Answer and report over one connection:
    meter-readings | tuyagw listen --answer success --stdin
  Record every message before it is acknowledged:
    tuyagw listen --all --out traffic.jsonl --rotate 100MB
  Wait for one command, a minute at most:
    tuyagw listen --kind command --count 1 --for 1m";

/// Arguments of `listen`.
#[derive(Debug, clap::Args)]
#[command(after_help = EXAMPLES)]
pub struct Args {
    /// Listen to all topics of the gateway, uplinks included [default: the three downlink topics]
    #[arg(long, conflicts_with = "topic")]
    all: bool,

    /// Listen to this topic filter instead; repeatable
    #[arg(long, value_name = "FILTER")]
    topic: Vec<String>,

    /// Print and answer only messages of this kind, such as command; repeatable
    #[arg(long, value_name = "KIND")]
    kind: Vec<String>,

    /// Print and answer only messages of this device; repeatable
    #[arg(long)]
    cid: Vec<String>,

    /// Append the records to this file instead of printing them, synced to the disk before the acknowledgement
    #[arg(long, value_name = "FILE")]
    out: Option<PathBuf>,

    /// Rename the file and begin a new one at this size (100MB) or after this time (1h)
    #[arg(long, value_name = "SIZE|D", requires = "out", value_parser = Rotation::parse)]
    rotate: Option<Rotation>,

    /// End after N records
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u64).range(1..))]
    count: Option<u64>,

    /// End after this time; with --count, fewer than N records are a time-out
    ///
    /// Commands and requests that are open then have 1.5 s to end.
    #[arg(long = "for", value_name = "D", value_parser = duration)]
    period: Option<Duration>,

    /// Exit on the first lost connection
    #[arg(long)]
    no_reconnect: bool,

    /// Answer every command: success, or a result code with an optional message
    #[arg(long, value_name = "success|CODE[:MSG]", conflicts_with = "exec", value_parser = fixed_answer)]
    answer: Option<(i64, String)>,

    /// Run PROGRAM with ARGS for each command, and answer by its exit status
    ///
    /// PROGRAM gets the command's JSON on stdin. Exit status 0 is success; any other, and a time-out, is code 500. An object
    /// {"code":…,"msg":…} on its stdout overrides this. No shell is involved. Long options of listen among ARGS are options of
    /// listen; arguments after -- are always PROGRAM's.
    #[arg(long, value_names = ["PROGRAM", "ARGS"], num_args = 1.., allow_hyphen_values = true)]
    exec: Vec<OsString>,

    /// Time limit for PROGRAM
    #[arg(long, value_name = "D", default_value = "10s", value_parser = duration)]
    exec_timeout: Duration,

    /// File of known devices, JSON Lines with a cid each; commands to others are answered 2003
    #[arg(long, value_name = "FILE")]
    devices: Option<PathBuf>,

    /// Do not report the new value after a successful command
    #[arg(long)]
    no_report_back: bool,

    /// Send uplinks from stdin: input lines of sync, report and status, each with its "op"
    ///
    /// Listening goes on after the end of stdin. A named pipe is reopened when its writer closes it.
    #[arg(long)]
    stdin: bool,

    /// Unit of the time stamp t in messages
    #[arg(long, value_name = "UNIT", default_value = "s", hide_short_help = true)]
    t_unit: TimeUnit,

    #[command(flatten)]
    model: ModelArgs,
    #[command(flatten)]
    gateway: GatewayArgs,
    #[command(flatten)]
    agent: AgentArgs,
    #[command(flatten)]
    network: NetworkArgs,
}

/// Runs `listen`.
pub fn run(mut args: Args, console: Console) -> anyhow::Result<Exit> {
    let exec = std::mem::take(&mut args.exec);
    let (args, exec) = take_back("tuyagw listen", args, exec)?;
    let mut settings = ConnectionSettings::gateway_or_agent(&args.network, &args.gateway, &args.agent)?;
    settings.client.reconnect = !args.no_reconnect;
    let parser = args.model.parser()?;
    let policy = match (args.answer, exec) {
        (Some((code, msg)), _) => Some(CommandPolicy::Fixed(code, msg)),
        (None, exec) if exec.is_empty() => None,
        (None, command) => Some(CommandPolicy::Program { command, limit: args.exec_timeout }),
    };
    let options = ListenOptions {
        hears_all: args.all,
        filter: RecordFilter::new(&args.topic, &args.kind, &args.cid)?,
        topics: args.topic,
        out: args.out,
        rotation: args.rotate,
        count: args.count,
        period: args.period,
        policy,
        devices: args.devices.as_deref().map(read_devices).transpose()?,
        reports_back: !args.no_report_back,
        reads_stdin: args.stdin,
        reloads: false,
        claims_commands: true,
        unit: args.t_unit,
    };
    listen::run(settings, parser, options, console)
}
