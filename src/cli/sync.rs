//! `sync`: adds or updates devices at the edge, and waits for each answer.

use std::path::PathBuf;

use serde_json::{Map, Value};

use super::connection::{AgentArgs, GatewayArgs, NetworkArgs};
use super::request_args::RequestArgs;
use crate::{
    error::Exit,
    io::{console::Console, input::InputSource},
    request::{RequestKind, RequestParser, input::InputValue},
    run::{batch, connection_settings::ConnectionSettings},
    tuya::product::{Product, ValueEncoding},
};

const EXAMPLES: &str = r#"EXAMPLES
  One device:
    tuyagw sync --cid m1 --product-id p1 --install-location "Hall 3"
  Many, as JSON Lines; then the failed ones again:
    tuyagw sync devices.jsonl > results.jsonl
    jq -c 'select(.ok|not)' results.jsonl | tuyagw sync -"#;

/// Arguments of `sync`.
#[derive(Debug, clap::Args)]
#[command(after_help = EXAMPLES)]
pub struct Args {
    /// Devices as JSON Lines, a stream of JSON, a JSON array or CSV; - is stdin
    #[arg(value_name = "FILE", conflicts_with_all = ["cid", "product_id"])]
    file: Option<PathBuf>,

    /// The device's id, unique within the gateway, such as its serial number
    #[arg(long, requires = "product_id")]
    cid: Option<String>,

    /// The product's id on the platform
    #[arg(long, requires = "cid", value_name = "ID")]
    product_id: Option<String>,

    /// The manufacturer's code
    #[arg(long, requires = "cid", value_name = "CODE")]
    vendor_code: Option<String>,

    /// How the device talks to the gateway [default: mqtt]
    #[arg(long, requires = "cid", value_name = "TYPE")]
    comm_type: Option<String>,

    /// The device's IP address
    #[arg(long, requires = "cid", value_name = "IP")]
    device_ip: Option<String>,

    /// The device's MAC address
    #[arg(long, requires = "cid", value_name = "MAC")]
    mac_address: Option<String>,

    /// The device's name [default: the cid]
    #[arg(long, requires = "cid", value_name = "NAME")]
    device_name: Option<String>,

    /// A description
    #[arg(long, requires = "cid", value_name = "TEXT")]
    device_desc: Option<String>,

    /// The place of installation
    #[arg(long, requires = "cid", value_name = "TEXT")]
    install_location: Option<String>,

    /// The device server's id
    #[arg(long, requires = "cid", value_name = "ID")]
    device_server_id: Option<String>,

    /// The product's sub-type
    #[arg(long, requires = "cid", value_name = "TYPE")]
    product_sub_type: Option<String>,

    /// Send each device's fields as given, without checks
    #[arg(long)]
    no_check: bool,

    #[command(flatten)]
    requests: RequestArgs,
    #[command(flatten)]
    gateway: GatewayArgs,
    #[command(flatten)]
    agent: AgentArgs,
    #[command(flatten)]
    network: NetworkArgs,
}

/// Runs `sync`.
pub fn run(args: Args, console: Console) -> anyhow::Result<Exit> {
    let connection = ConnectionSettings::gateway_or_agent(&args.network, &args.gateway, &args.agent)?;
    let source = match args.device() {
        Some(input) => InputSource::Flags(vec![input]),
        None => InputSource::open(args.file.as_deref(), args.requests.format())?,
    };
    let parser =
        RequestParser { product: Product::default(), check: !args.no_check, encoding: ValueEncoding::Native };
    batch::run(parser, RequestKind::Sync, source, connection, args.requests.options(), console)
}

impl Args {
    fn device(&self) -> Option<InputValue<'static>> {
        self.cid.as_ref()?;
        let fields = [
            ("cid", &self.cid),
            ("product_id", &self.product_id),
            ("vendor_code", &self.vendor_code),
            ("comm_type", &self.comm_type),
            ("device_ip", &self.device_ip),
            ("mac_address", &self.mac_address),
            ("device_name", &self.device_name),
            ("device_desc", &self.device_desc),
            ("install_location", &self.install_location),
            ("device_server_id", &self.device_server_id),
            ("product_sub_type", &self.product_sub_type),
        ];
        let given = fields
            .into_iter()
            .filter_map(|(name, value)| Some((name.to_owned(), Value::from(value.as_deref()?))));
        Some(InputValue::from_flags(given.collect::<Map<_, _>>()))
    }
}
