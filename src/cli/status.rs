//! `status`: reports devices online or offline, in arrays. There is no answer on the wire: a report is done when the broker has
//! acknowledged it.

use std::{path::PathBuf, time::Duration};

use serde_json::{Map, Value};

use super::{
    connection::{AgentArgs, GatewayArgs, NetworkArgs, QueueArgs},
    request_args::RequestArgs,
    values::duration,
};
use crate::{
    error::{Exit, Failure},
    io::{console::Console, input::InputSource},
    request::{RequestKind, RequestParser, input::InputValue},
    run::{batch, connection_settings::ConnectionSettings, heartbeat, runtime::block_on},
    text::is_blank,
    tuya::product::{Product, ValueEncoding},
};

const EXAMPLES: &str = "EXAMPLES
  Two meters online, one offline, in one message:
    tuyagw status --online m1,m2 --offline m3
  From a file, every minute, and offline at the end:
    tuyagw status status.jsonl --every 60s --offline-on-exit";

/// Arguments of `status`.
#[derive(Debug, clap::Args)]
#[command(after_help = EXAMPLES)]
pub struct Args {
    /// Status as JSON Lines, a stream of JSON, a JSON array or CSV; - is stdin
    #[arg(value_name = "FILE", conflicts_with_all = ["online", "offline"])]
    file: Option<PathBuf>,

    /// Online devices
    #[arg(long, value_name = "CID,…", value_delimiter = ',')]
    online: Vec<String>,

    /// Offline devices
    #[arg(long, value_name = "CID,…", value_delimiter = ',')]
    offline: Vec<String>,

    /// Stay connected and repeat the report at this interval, until a signal
    #[arg(long, value_name = "D", value_parser = duration, conflicts_with_all = ["journal", "rate", "retries", "summary"])]
    every: Option<Duration>,

    /// Stay connected until a signal, then report the online devices offline
    ///
    /// If the connection is cut, the broker publishes the same as the connection's will, with the time stamp t of the connect: an
    /// edge that checks t may refuse it. A second client with the same client id, such as a one-shot report, takes the
    /// connection over; the will is published then, too, although the devices are online.
    #[arg(long, conflicts_with_all = ["journal", "rate", "retries", "summary"])]
    offline_on_exit: bool,

    #[command(flatten)]
    requests: RequestArgs,
    #[command(flatten)]
    gateway: GatewayArgs,
    #[command(flatten)]
    agent: AgentArgs,
    #[command(flatten)]
    queue: QueueArgs,
    #[command(flatten)]
    network: NetworkArgs,
}

/// Runs `status`.
pub fn run(args: Args, console: Console) -> anyhow::Result<Exit> {
    let mut connection = ConnectionSettings::gateway_or_agent(&args.network, &args.gateway, &args.agent)?;
    args.queue.apply(&mut connection)?;
    let given = args.given();
    let source = if given.is_empty() {
        InputSource::open(args.file.as_deref(), args.requests.format())?
    } else {
        InputSource::Flags(given)
    };
    let parser = RequestParser { product: Product::default(), check: true, encoding: ValueEncoding::Native };
    if args.every.is_some() || args.offline_on_exit {
        if args.every.is_some_and(|every| every.is_zero()) {
            return Err(Failure::invalid("--every must be longer than 0s").into());
        }
        let Args { every, offline_on_exit, requests, .. } = args;
        let options = requests.options();
        return block_on(async {
            let run = heartbeat::run(connection, parser, source, &options, every, offline_on_exit, console);
            Ok(Box::pin(run).await?)
        });
    }
    batch::run(parser, RequestKind::Status, source, connection, args.requests.options(), console)
}

impl Args {
    fn given(&self) -> Vec<InputValue<'static>> {
        let online = self.online.iter().map(|cid| (cid, true));
        let offline = self.offline.iter().map(|cid| (cid, false));
        let input = |(cid, status): (&String, bool)| {
            // A space may follow the comma, as in CSV.
            let cid = cid.trim_matches(is_blank);
            let fields = [("cid".to_owned(), Value::from(cid)), ("status".to_owned(), Value::from(status))];
            InputValue::from_flags(Map::from_iter(fields))
        };
        online.chain(offline).map(input).collect()
    }
}
