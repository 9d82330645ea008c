//! `convert`: recordings of other tools and packet captures as records, and records as CSV.

use super::profile_args::ProfileArgs;
use crate::{
    error::Exit,
    io::{console::Console, recording_file::RecordingArgs},
    run::convert::{self, ConvertForm},
};

const EXAMPLES: &str = "Reads records, mosquitto_sub -F %j and %J, mqtt-recorder-rs, mqtt_recorder's CSV, pcap and \
pcapng, and detects the format. Warnings on stderr name data that the format does not have, and lines that cannot be read; \
the latter give exit code 2.

EXAMPLES
  tuyagw convert site.pcapng > site.jsonl         a capture of tcpdump
  tcpdump -i any -U -w - port 21883 | tuyagw convert - > site.jsonl
  tuyagw convert --to csv site.jsonl > site.csv   for a spreadsheet
  tuyagw convert --payload-base64 mqtt_recorder.csv > old.jsonl";

/// Arguments of `convert`.
#[derive(Debug, clap::Args)]
#[command(after_help = EXAMPLES)]
pub struct Args {
    /// Format of the output on stdout
    #[arg(long, value_name = "FORM", default_value = "records")]
    to: ConvertForm,

    #[command(flatten)]
    profile: ProfileArgs,

    #[command(flatten)]
    recording: RecordingArgs,
}

/// Runs `convert`.
pub fn run(args: Args, console: Console) -> anyhow::Result<Exit> {
    convert::run(&args.recording, args.to, &args.profile.topics()?, console)
}
