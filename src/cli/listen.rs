//! `listen`: prints what arrives as records, answers commands, and sends uplinks from stdin: one connection does
//! all, since a second client with the same id would push the first one off.

use std::{
    collections::HashSet,
    ffi::OsString,
    path::{Path, PathBuf},
    time::Duration,
};

use clap::{Args as _, FromArgMatches as _};
use serde::Deserialize;

use super::{
    connection::{GatewayArgs, NetworkArgs, duration},
    model_args::ModelArgs,
};
use crate::{
    error::{Exit, Failure},
    io::{batch_writer::Rotation, console::Console, input::text_of},
    request::identifier,
    run::{
        command_executor::Policy,
        connection_settings::ConnectionSettings,
        listen::{self, ListenOptions},
        record_filter::Filter,
        time_unit::TimeUnit,
    },
    text::is_blank,
    tuya::ResultCode,
};

const EXAMPLES: &str = "EXAMPLES
  See what the platform sends, one record a line:
    tuyagw listen
  Accept every command that fits the model, and report the new value:
    tuyagw listen --answer success
  Let a program decide, by its exit status; the command's JSON is on its stdin:
    tuyagw listen --exec ./valve.sh
  Answer and report over one connection:
    meter-readings | tuyagw listen --answer success --stdin
  Record, so that nothing acknowledged is ever missing from the file:
    tuyagw listen --all --out traffic.jsonl --rotate 100MB
  Wait for one command, a minute at most:
    tuyagw listen --kind command --count 1 --for 1m";

/// Arguments of `listen`.
#[derive(Debug, clap::Args)]
#[command(after_help = EXAMPLES)]
pub struct Args {
    /// Listen to all topics of the gateway, uplinks included, not to the three downlink topics only
    #[arg(long, conflicts_with = "topic")]
    all: bool,

    /// Listen to this topic filter instead; may be given several times
    #[arg(long, value_name = "FILTER")]
    topic: Vec<String>,

    /// Print and answer only messages of this kind, such as command; may be given several times
    #[arg(long, value_name = "KIND")]
    kind: Vec<String>,

    /// Print and answer only messages of this device; may be given several times
    #[arg(long)]
    cid: Vec<String>,

    /// Append the records to this file instead of printing them; each is on the disk before it is acknowledged
    #[arg(long, value_name = "FILE")]
    out: Option<PathBuf>,

    /// Put the file aside and begin a new one beyond this size (100MB) or after this time (1h)
    #[arg(long, value_name = "SIZE|D", requires = "out", value_parser = Rotation::parse)]
    rotate: Option<Rotation>,

    /// End after N records
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u64).range(1..))]
    count: Option<u64>,

    /// End after this time; with --count, fewer than N records are a time-out
    ///
    /// What is in hand then has 1.5 s to end.
    #[arg(long = "for", value_name = "D", value_parser = duration)]
    period: Option<Duration>,

    /// Exit on the first lost connection
    #[arg(long)]
    no_reconnect: bool,

    /// Answer every command: success, or a result code with an optional message
    #[arg(long, value_name = "success|CODE[:MSG]", conflicts_with = "exec", value_parser = fixed)]
    answer: Option<(i64, String)>,

    /// Run PROGRAM for each command and answer by its exit status; what follows are its arguments
    ///
    /// The command's JSON is on its stdin. Exit status 0 is success, any other and a time-out are code 500. An
    /// object {"code":…,"msg":…} on its stdout says it otherwise. No shell is involved. Long options of listen
    /// that follow count as such; after -- all are PROGRAM's.
    #[arg(long, value_names = ["PROGRAM", "ARGS"], num_args = 1.., allow_hyphen_values = true)]
    exec: Vec<OsString>,

    /// Time for PROGRAM
    #[arg(long, value_name = "D", default_value = "10s", value_parser = duration)]
    exec_timeout: Duration,

    /// The devices that exist, JSON Lines with a cid each; commands to others are answered 2003
    #[arg(long, value_name = "FILE")]
    devices: Option<PathBuf>,

    /// Do not report the new value after a successful command
    #[arg(long)]
    no_report_back: bool,

    /// Send uplinks from stdin: lines as of sync, report and status, with their "op"
    ///
    /// The end of stdin ends nothing. A named pipe is read on after each of its writers.
    #[arg(long)]
    stdin: bool,

    /// The unit of the time stamp t in messages
    #[arg(long, value_name = "UNIT", default_value = "s")]
    t_unit: TimeUnit,

    #[command(flatten)]
    model: ModelArgs,
    #[command(flatten)]
    gateway: GatewayArgs,
    #[command(flatten)]
    network: NetworkArgs,
}

/// Runs `listen`.
pub fn run(args: Args, console: Console) -> anyhow::Result<Exit> {
    let args = own_options(args)?;
    let mut settings = ConnectionSettings::gateway(&args.network, &args.gateway)?;
    settings.client.reconnect = !args.no_reconnect;
    let parser = args.model.parser()?;
    let policy = match (args.answer, args.exec.as_slice()) {
        (Some((code, msg)), _) => Some(Policy::Fixed(code, msg)),
        (None, []) => None,
        (None, exec) => Some(Policy::Program { command: exec.to_vec(), limit: args.exec_timeout }),
    };
    let options = ListenOptions {
        hears_all: args.all,
        filter: Filter::new(&args.topic, &args.kind, &args.cid)?,
        topics: args.topic,
        out: args.out,
        rotation: args.rotate,
        count: args.count,
        period: args.period,
        policy,
        devices: args.devices.as_deref().map(read_devices).transpose()?,
        reports_back: !args.no_report_back,
        reads_stdin: args.stdin,
        unit: args.t_unit,
    };
    listen::run(settings, parser, options, console)
}

/// Parses `success` or `CODE[:MSG]`.
pub fn fixed(text: &str) -> Result<(i64, String), String> {
    if text == "success" {
        return Ok((0, text.to_owned()));
    }
    let (code, msg) = text.split_once(':').map_or((text, None), |(code, msg)| (code, Some(msg)));
    let code = code.parse().map_err(|_| "write success, a code such as 2001, or CODE:MESSAGE".to_owned())?;
    Ok((code, msg.unwrap_or(ResultCode(code).name()).to_owned()))
}

/// Takes those options of `listen` back that stand behind `--exec PROGRAM`, up to a `--`.
pub fn own_options(mut args: Args) -> Result<Args, clap::Error> {
    let command = Args::augment_args_for_update(clap::Command::new("tuyagw listen").no_binary_name(true));
    let is_own = |arg: &OsString| {
        let text = arg.to_string_lossy();
        let name = text.strip_prefix("--").map(|name| name.split_once('=').map_or(name, |(name, _)| name));
        name.is_some_and(|name| command.get_arguments().any(|known| known.get_long() == Some(name)))
    };
    let end = args.exec.iter().position(|arg| arg == "--");
    let own = args.exec.iter().take(end.unwrap_or(usize::MAX)).position(is_own);
    if let Some(own) = own {
        let rest = args.exec.split_off(own);
        let program = std::mem::take(&mut args.exec);
        args.update_from_arg_matches(&command.try_get_matches_from(rest)?)?;
        args.exec = program;
    } else if let Some(end) = end {
        args.exec.remove(end);
    }
    Ok(args)
}

/// The cids of a file of JSON Lines, such as the inputs of `sync` or the edge's registry.
fn read_devices(path: &Path) -> Result<HashSet<String>, Failure> {
    #[derive(Deserialize)]
    struct Line {
        cid: String,
    }
    let text = text_of(path, "--devices: ")?;
    let lines = text.lines().enumerate();
    let lines = lines.map(|(n, line)| (n, line.trim_matches(is_blank))).filter(|(_, line)| !line.is_empty());
    lines
        .map(|(n, line)| {
            let wrong = |why: String| {
                Failure::invalid(format!("--devices: {}, line {}: {why}", path.display(), n + 1))
                    .hint("Each line is a JSON object with a cid, as sync takes it")
            };
            let line: Line = serde_json::from_str(line).map_err(|why| wrong(why.to_string()))?;
            identifier::check("cid", &line.cid).map_err(wrong)?;
            Ok(line.cid)
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_fixed_answer_is_success_or_a_code() {
        assert_eq!(fixed("success"), Ok((0, "success".into())));
        assert_eq!(fixed("2001"), Ok((2001, "device is offline".into())));
        assert_eq!(fixed("400:tedge error: stuck"), Ok((400, "tedge error: stuck".into())));
        assert!(fixed("maybe").is_err());
    }
}
