//! `edge`: the embedded Edge Gateway emulator, by itself or around a program.

use std::{ffi::OsString, path::PathBuf, time::Duration};

use super::{edge_limits::LimitArgs, values::duration};
use crate::{
    edge::Fault,
    error::{Exit, Failure},
    io::console::Console,
    net::server::ServerLimits,
    run::{
        edge::{self, EdgeOptions},
        product_model,
    },
};

/// Arguments of `edge`.
#[derive(Debug, clap::Args)]
#[command(after_help = "\
The first line on stdout is {\"event\":\"listening\",\"broker\":\"mqtt://ADDRESS\"}; then follow records of all \
traffic (they have a topic) and results of commands (they have an op). stdin, unless it is a terminal, takes \
commands as `tuyagw command` does: {\"cid\":\"m1\",\"code\":\"switch_state\",\"value\":false}, with \"gateway_id\" if \
several gateways have the cid. The edge ends on SIGINT or SIGTERM, or with PROGRAM.

A gateway's client id is its gateway id, and its password is the MD5 of client id and username. A fault's RATE is a \
probability from 0 to 1 or a percentage; its kinds are connack=CODE, suback, drop-response, delay=DURATION, duplicate, \
wrong-id, code=CODE, disconnect, silent and garbage.

PROGRAM finds the edge in TUYAGW_BROKER, TUYAGW_GATEWAY_ID (gw001), TUYAGW_USERNAME (acme), \
TUYAGW_PLATFORM_USERNAME and, with TLS, TUYAGW_CA_FILE; other TUYAGW_* are removed, and PATH begins with this \
binary's folder. If the edge ends first, even if it fails or is killed, PROGRAM gets SIGTERM, and SIGKILL after 5 s.

Only the edge may change the file of --devices: if another program does, the edge prints a warning and rewrites the file. \
If the edge is killed, records that --out has not written are lost, although their messages may have been answered.

EXAMPLES
  tuyagw edge                         on 127.0.0.1:21883
  tuyagw edge --listen 127.0.0.1:0 --devices fleet.jsonl --out traffic.jsonl
  tuyagw edge --fault drop-response@10% --fault delay=2s@0.5 --seed 7
  echo '{\"cid\":\"m1\",\"id\":\"4\",\"value\":true}' | tuyagw edge --devices fleet.jsonl
  tuyagw edge -- sh provision.sh      any script, against a fresh edge")]
pub struct Args {
    /// Address to listen on; port 0 picks a free one [default: 127.0.0.1:21883, with PROGRAM 127.0.0.1:0]
    #[arg(long, value_name = "HOST:PORT")]
    listen: Option<String>,

    /// Username of gateways; repeatable [default: any, if the password is right]
    #[arg(long, value_name = "NAME")]
    username: Vec<String>,

    /// Username of platform users, who may use every topic; repeatable
    #[arg(long, value_name = "NAME", default_value = "platform")]
    platform_username: Vec<String>,

    /// Product model of the devices [default: the smart water meter]
    #[arg(long, value_name = "FILE")]
    model: Option<PathBuf>,

    /// Keep synchronised devices in this file, synced to the disk before a sync is answered
    #[arg(long, value_name = "FILE")]
    devices: Option<PathBuf>,

    /// Append the records to this file instead of printing them
    #[arg(long, value_name = "FILE")]
    out: Option<PathBuf>,

    /// Speak TLS with this certificate chain (PEM)
    #[arg(long, value_name = "PEM", requires = "tls_key")]
    tls_cert: Option<PathBuf>,

    /// Private key of the certificate (PEM)
    #[arg(long, value_name = "PEM", requires = "tls_cert")]
    tls_key: Option<PathBuf>,

    /// Refuse messages whose time stamp differs more from the clock, with 1001
    #[arg(long, value_name = "DURATION", value_parser = duration)]
    max_skew: Option<Duration>,

    /// Consider a device offline after this long without a sync or status
    #[arg(long, value_name = "DURATION", value_parser = duration)]
    offline_after: Option<Duration>,

    /// Time for a gateway to answer a command from stdin; at most 20 are in flight to one gateway
    #[arg(long, value_name = "DURATION", value_parser = duration, default_value = "5s")]
    command_timeout: Duration,

    /// Misbehave as described below; repeatable
    #[arg(long, value_name = "KIND[=ARG][@RATE]")]
    fault: Vec<Fault>,

    /// Seed of the faults' random numbers [default: a random one, which is printed]
    #[arg(long, value_name = "N")]
    seed: Option<u64>,

    /// Run this program against the edge, on a free port, and end when it ends
    #[arg(last = true, value_name = "PROGRAM")]
    program: Vec<OsString>,

    // Last, because the heading of flattened options also holds for the options after them.
    #[command(flatten)]
    limits: LimitArgs,
}

/// Runs `edge`.
pub fn run(args: Args, console: Console) -> anyhow::Result<Exit> {
    check(&args)?;
    let options = EdgeOptions {
        listen: args.listen,
        usernames: args.username,
        platform_usernames: args.platform_username,
        product: product_model::load(args.model.as_deref())?,
        devices: args.devices,
        out: args.out,
        tls: args.tls_cert.zip(args.tls_key),
        max_skew: args.max_skew,
        offline_after: args.offline_after,
        command_timeout: args.command_timeout,
        faults: args.fault,
        seed: args.seed,
        program: args.program,
        limits: ServerLimits::from(&args.limits),
    };
    edge::run(options, console)
}

/// Refuses arguments that contradict each other.
fn check(args: &Args) -> Result<(), Failure> {
    // `edge -- $PROGRAM` with an empty variable would run an edge that nothing ends.
    if args.program.is_empty() && std::env::args_os().next_back().is_some_and(|last| last == "--") {
        return Err(Failure::invalid("no PROGRAM follows --")
            .hint("Name a program, or leave -- out to run the edge alone; a shell variable may be empty"));
    }
    match args.username.iter().find(|name| args.platform_username.contains(name)) {
        Some(name) => Err(Failure::invalid(format!(
            "--username {name}: platform users have this name, and the edge answers no gateway with it"
        ))
        .hint("Give another --username, or another --platform-username")),
        None => Ok(()),
    }
}
