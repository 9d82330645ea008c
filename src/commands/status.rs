//! `status`: says which devices are online, in arrays. There is no answer on the wire: done is what the broker
//! has acknowledged.

use std::path::PathBuf;

use serde_json::{Map, Value};

use super::{
    Console,
    connection::{Connection, GatewayArgs, NetworkArgs},
    input::{Input, Source},
    operations::{Operation, Operations},
    requests::{self, RequestArgs},
};
use crate::{
    failure::{Exit, Failure},
    product::{Product, ValueEncoding},
};

const EXAMPLES: &str = "EXAMPLES
  Two meters online, one offline, in one message:
    tuyagw status --online m1,m2 --offline m3
  From a file:
    tuyagw status status.jsonl";

/// Arguments of `status`.
#[derive(Debug, clap::Args)]
#[command(after_help = EXAMPLES)]
pub struct Args {
    /// Status as JSON Lines, a stream of JSON or a JSON array; - is stdin
    #[arg(value_name = "FILE", conflicts_with_all = ["online", "offline"])]
    files: Vec<PathBuf>,

    /// Devices that are online
    #[arg(long, value_name = "CID,…", value_delimiter = ',')]
    online: Vec<String>,

    /// Devices that are offline
    #[arg(long, value_name = "CID,…", value_delimiter = ',')]
    offline: Vec<String>,

    #[command(flatten)]
    requests: RequestArgs,
    #[command(flatten)]
    gateway: GatewayArgs,
    #[command(flatten)]
    network: NetworkArgs,
}

/// Runs `status`.
pub fn run(args: Args, console: Console) -> anyhow::Result<Exit> {
    let connection = Connection::gateway(&args.network, &args.gateway)?;
    let given = args.given()?;
    let source = if given.is_empty() { Source::from_args(&args.files)? } else { Source::Flags(Some(given)) };
    let operations =
        Operations { product: Product::smart_water_meter(), check: true, encoding: ValueEncoding::Native };
    requests::run(operations, Operation::Status, source, connection, &args.requests, console)
}

impl Args {
    fn given(&self) -> Result<Vec<Input>, Failure> {
        let online = self.online.iter().map(|cid| (cid, true));
        let offline = self.offline.iter().map(|cid| (cid, false));
        online
            .chain(offline)
            .map(|(cid, status)| {
                let fields = [
                    ("cid".to_owned(), Value::from(cid.as_str())),
                    ("status".to_owned(), Value::from(status)),
                ];
                Input::from_flags(&Map::from_iter(fields))
            })
            .collect()
    }
}
