//! `agent`: holds a gateway's one connection, and serves other programs of the machine on a Unix socket.

use std::{ffi::OsString, path::PathBuf, time::Duration};

use super::{
    agent_control::ControlArgs,
    connection::{GatewayArgs, NetworkArgs},
    exec_options::take_back,
    model_args::ModelArgs,
    spool_args::SpoolArgs,
    values::{duration, fixed_answer},
};
use crate::{
    error::{Exit, Failure},
    io::{
        agent_socket::AgentSocket,
        batch_writer::Rotation,
        console::Console,
        service_manager::{ServiceManager, activated_socket},
    },
    run::{
        agent::{self, AgentOptions, DeviceOptions},
        command_executor::CommandPolicy,
        connection_settings::ConnectionSettings,
        known_devices::read_devices,
        listen::ListenOptions,
        record_filter::RecordFilter,
        time_unit::TimeUnit,
    },
};

const EXAMPLES: &str = "EXAMPLES
  Hold the connection, which sync, report, status and listen then use:
    tuyagw agent --answer success --out traffic.jsonl --rotate 100MB
  Keep what is given while the edge is away, and send it later:
    tuyagw agent --spool /var/lib/tuyagw/spool
    tuyagw report --queue --cid m1 water_flow=12.345m3
  Say every minute who is online:
    tuyagw agent --status-every 60s --devices devices.jsonl
  What it does, and its end:
    tuyagw agent status
    tuyagw agent stop";

/// Arguments of `agent`.
#[derive(Debug, clap::Args)]
#[command(after_help = EXAMPLES, args_conflicts_with_subcommands = true)]
pub struct Args {
    #[command(subcommand)]
    control: Option<Control>,

    /// Answer every command: success, or a result code with an optional message
    #[arg(long, value_name = "success|CODE[:MSG]", conflicts_with = "exec", value_parser = fixed_answer)]
    answer: Option<(i64, String)>,

    /// Run PROGRAM for each command and answer by its exit status, as listen does
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

    /// Append the records to this file instead of printing them; each is on the disk before it is acknowledged
    #[arg(long, value_name = "FILE")]
    out: Option<PathBuf>,

    /// Put the file aside and begin a new one beyond this size (100MB) or after this time (1h)
    #[arg(long, value_name = "SIZE|D", requires = "out", value_parser = Rotation::parse)]
    rotate: Option<Rotation>,

    /// Subscribe to all topics of the gateway, uplinks included
    #[arg(long, conflicts_with = "topic")]
    all: bool,

    /// Subscribe to this topic filter instead; may be given several times
    #[arg(long, value_name = "FILTER")]
    topic: Vec<String>,

    /// Say at this interval that the devices are online
    #[arg(long, value_name = "D", value_parser = duration)]
    status_every: Option<Duration>,

    /// Say it of devices that are synchronised through the agent, too
    #[arg(long, requires = "status_every")]
    status_all: bool,

    /// Say that the devices are offline at the end; the will says it if the connection is cut
    #[arg(long)]
    offline_on_exit: bool,

    /// The socket [default: one named after broker and gateway, in the first of $XDG_RUNTIME_DIR/tuyagw,
    /// /run/user/UID/tuyagw, /run/tuyagw and /tmp/tuyagw-UID]
    #[arg(long, value_name = "PATH")]
    socket: Option<PathBuf>,

    /// Let programs of this group use the socket, too
    #[arg(long, value_name = "GROUP")]
    socket_group: Option<String>,

    /// End after this time without a program and without messages
    #[arg(long, value_name = "D", value_parser = duration)]
    idle_exit: Option<Duration>,

    /// The unit of the time stamp t in messages
    #[arg(long, value_name = "UNIT", default_value = "s", hide_short_help = true)]
    t_unit: TimeUnit,

    #[command(flatten)]
    spool: SpoolArgs,
    #[command(flatten)]
    model: ModelArgs,
    #[command(flatten)]
    gateway: GatewayArgs,
    #[command(flatten)]
    network: NetworkArgs,
}

/// What to do with an agent that runs.
#[derive(Debug, clap::Subcommand)]
enum Control {
    /// Say what the agent does; exit 0 if it is connected, 3 if not, 2 without an agent
    Status(ControlArgs),
    /// End the agent; exit 2 without one
    Stop(ControlArgs),
    /// Read the devices again
    Reload(ControlArgs),
}

/// Runs `agent`.
pub fn run(mut args: Args, console: Console) -> anyhow::Result<Exit> {
    match args.control {
        Some(Control::Status(control)) => return control.status(),
        Some(Control::Stop(control)) => return control.stop(),
        Some(Control::Reload(control)) => return control.reload(),
        None => {}
    }
    let exec = std::mem::take(&mut args.exec);
    let (args, exec) = take_back("tuyagw agent", args, exec)?;
    let settings = ConnectionSettings::gateway(&args.network, &args.gateway)?;
    let parser = args.model.parser()?;
    let policy = match (args.answer, exec) {
        (Some((code, msg)), _) => Some(CommandPolicy::Fixed(code, msg)),
        (None, exec) if exec.is_empty() => None,
        (None, command) => Some(CommandPolicy::Program { command, limit: args.exec_timeout }),
    };
    if args.status_every.is_some_and(|every| every.is_zero()) {
        return Err(Failure::invalid("--status-every must be longer than 0s").into());
    }
    let listen = ListenOptions {
        hears_all: args.all,
        filter: RecordFilter::new(&args.topic, &[], &[])?,
        topics: args.topic,
        out: args.out,
        rotation: args.rotate,
        count: None,
        period: None,
        policy,
        devices: args.devices.as_deref().map(read_devices).transpose()?,
        reports_back: !args.no_report_back,
        reads_stdin: false,
        reloads: true,
        claims_commands: false,
        unit: args.t_unit,
    };
    let group = args.socket_group.as_deref().map(group_id).transpose()?;
    let options = AgentOptions {
        listen,
        broker: settings.broker_url(),
        devices: DeviceOptions {
            file: args.devices,
            every: args.status_every,
            joins_synchronised: args.status_all,
            offline_on_exit: args.offline_on_exit,
        },
        spool: args.spool.settings()?,
        idle_exit: args.idle_exit,
        admits_group: group.is_some(),
    };
    let name = settings.agent_name()?;
    let socket = match (activated_socket()?, args.socket) {
        (Some(listener), None) => AgentSocket::activated(listener, &name)?,
        (Some(_), Some(_)) => {
            return Err(Failure::invalid("--socket: the service manager has passed a socket already")
                .hint("Leave out --socket, or disable the .socket unit")
                .into());
        }
        (None, path) => AgentSocket::bind(path.as_deref(), &name, group)?,
    };
    let manager = ServiceManager::from_env()?;
    agent::run(settings, parser, options, socket, manager, console)
}

/// The number of a group, from its name in /etc/group or from its digits.
fn group_id(name: &str) -> Result<u32, Failure> {
    if let Ok(number) = name.parse() {
        return Ok(number);
    }
    let groups = std::fs::read_to_string("/etc/group")
        .map_err(|why| Failure::io(format!("--socket-group: cannot read /etc/group: {why}")))?;
    let number = groups.lines().find_map(|line| {
        let mut fields = line.split(':');
        (fields.next() == Some(name)).then(|| fields.nth(1)?.parse().ok()).flatten()
    });
    number.ok_or_else(|| {
        Failure::invalid(format!("--socket-group: there is no group {name:?}"))
            .hint("A group that is not in /etc/group is given by its number")
    })
}
