//! `tap`: a proxy between gateways and an edge, which forwards every byte and records both directions.

use std::{path::PathBuf, time::Duration};

use super::{connection::BrokerArgs, values::duration};
use crate::{
    error::Exit,
    io::console::Console,
    net::client::Tls,
    run::tap::{self, TapOptions},
};

/// Arguments of `tap`.
#[derive(Debug, clap::Args)]
#[command(after_help = "\
Configure the gateway with ADDRESS instead of the edge. Every byte is forwarded unchanged and at once, logins included. \
A copy is decoded and recorded: messages of both directions (up is from the client), connect with the broker's answer, \
and disconnect. Passwords are never recorded.

The first line on stdout is {\"event\":\"listening\",\"broker\":\"mqtt://ADDRESS\"}. Records follow on stdout, or go \
to --out FILE, synced to the disk. Recording ends on SIGINT or SIGTERM, or after --for; a summary then says how \
many requests were answered, how fast, and with which codes.

Traffic that is not MQTT 3.1.1 is forwarded, with a warning on stderr. If recording fails or is too slow, forwarding goes \
on; missing records are counted on stderr, marked in the recording by a line with \"event\":\"left-out\", and give exit \
code 2. --connect-timeout does not include CONNACK here; packets larger than --max-packet are forwarded undecoded.

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

    /// Append the records to this file, synced to the disk, instead of printing them
    #[arg(long, value_name = "FILE")]
    out: Option<PathBuf>,

    /// Write the summary to this file as JSON, as `inspect --json` prints it
    #[arg(long, value_name = "FILE")]
    summary: Option<PathBuf>,

    /// End after this time
    #[arg(long = "for", value_name = "D", value_parser = duration)]
    period: Option<Duration>,

    #[command(flatten)]
    broker: BrokerArgs,
}

/// Runs `tap`.
pub fn run(args: Args, console: Console) -> anyhow::Result<Exit> {
    let profile = args.broker.profile.load()?;
    let broker = args.broker.settings(&profile)?;
    if broker.tls.as_ref().is_some_and(Tls::is_insecure) {
        console.warn("--tls-insecure: the broker's certificate is not verified");
    }
    let options = TapOptions {
        listen: args.listen,
        tls: args.tls_cert.zip(args.tls_key),
        broker,
        topics: profile.topics()?,
        out: args.out,
        summary: args.summary,
        period: args.period,
    };
    tap::run(options, console)
}
