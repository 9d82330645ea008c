//! `edge`: the embedded Edge Gateway emulator, by itself or around a program.

use std::{
    cell::RefCell,
    collections::VecDeque,
    ffi::OsString,
    io::{self, IsTerminal as _},
    mem,
    net::{SocketAddr, ToSocketAddrs as _},
    path::{Path, PathBuf},
    pin::Pin,
    rc::Rc,
    sync::Arc,
    time::{Duration, Instant},
};

use rustix::event::{PollFd, PollFlags, poll};
use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
use serde::Serialize;

use crate::{
    cli::{connection::duration, model},
    edge::{Access, CommandRequest, Edge, Fault, Faults, Registry, Settings},
    error::{Exit, Failure},
    gateway::Payload,
    io::{
        batch_writer::{BatchWriter, CommitWatch, Purpose, WriterError},
        console::Console,
        fifo,
        input::InputStream,
        registry_file::{LoadedRegistry, RegistryFile},
    },
    json::json_line,
    net::server::{self, Broker, ServerLimits},
    request::{
        input::InputValue,
        parser::{ParsedInput, Request, RequestKind, RequestParser},
    },
    run::{
        edge_handler::{self, EdgeHandler},
        edge_output::{EdgeOutput, Noted, Shared},
        program::{Environment, NotRun, Program},
        runtime::run_local,
        signals::Signals,
    },
    tuya::product::{Product, ValueEncoding},
};

/// The username that a program under `edge -- PROGRAM` finds.
const USERNAME: &str = "acme";

/// How long the end may take if stdout is not being read.
const FAREWELL: Duration = Duration::from_millis(1500);

/// How long clients that are left when PROGRAM has ended are waited for.
const DRAIN: Duration = Duration::from_millis(200);

/// How often clients that wait for the reader of stdout are looked after.
const LOOK: Duration = Duration::from_millis(500);

/// Arguments of `edge`.
#[derive(Debug, clap::Args)]
#[command(after_help = "\
The first line on stdout is {\"event\":\"listening\",\"broker\":\"mqtt://ADDRESS\"}; then follow records of all \
traffic (they have a topic) and results of commands (they have an op). stdin, unless it is a terminal, takes \
commands as `tuyagw command` does: {\"cid\":\"m1\",\"code\":\"switch_state\",\"value\":false}, with \"gateway_id\" where \
it is not clear. It ends by SIGINT or SIGTERM, or with PROGRAM.

A gateway's client id is its gateway id, its password the MD5 of client id and username. A fault's RATE is a \
probability from 0 to 1 or a percentage; its kinds are connack=CODE, suback, drop-response, delay=DURATION, duplicate, \
wrong-id, code=CODE, disconnect, silent and garbage.

PROGRAM finds the edge in TUYAGW_BROKER, TUYAGW_GATEWAY_ID (gw001), TUYAGW_USERNAME (acme), \
TUYAGW_PLATFORM_USERNAME and, with TLS, TUYAGW_CA_FILE; other TUYAGW_* are removed, and PATH begins with this \
binary's folder. It ends with the edge, also if the edge fails or is killed: SIGTERM, and SIGKILL after 5 s.

The file of --devices is the edge's alone: if another program changes it, the edge says so and writes all devices to \
it anew. What --out has not written yet when the edge is killed is lost, though it may have been answered.

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

    /// Username of gateways, repeatable; without it any whose password is right
    #[arg(long, value_name = "NAME")]
    username: Vec<String>,

    /// Username of platform users, who may use every topic; repeatable
    #[arg(long, value_name = "NAME", default_value = "platform")]
    platform_username: Vec<String>,

    /// Product model of the devices instead of the smart water meter
    #[arg(long, value_name = "FILE")]
    model: Option<PathBuf>,

    /// Remember synchronised devices in this file, on the disk before a sync is answered
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

    /// Refuse messages whose time stamp is further off, with 1001
    #[arg(long, value_name = "DURATION", value_parser = duration)]
    max_skew: Option<Duration>,

    /// Take a device for offline after this long without a sync or status
    #[arg(long, value_name = "DURATION", value_parser = duration)]
    offline_after: Option<Duration>,

    /// How long a gateway may take to answer a command from stdin, once it is sent: 20 are on their way to a gateway
    #[arg(long, value_name = "DURATION", value_parser = duration, default_value = "5s")]
    command_timeout: Duration,

    /// Misbehave, repeatable: see below
    #[arg(long, value_name = "KIND[=ARG][@RATE]")]
    fault: Vec<Fault>,

    /// Seed of the faults' dice; without it a random one, which is printed
    #[arg(long, value_name = "N")]
    seed: Option<u64>,

    /// Run this program against the edge, on a free port, and end with it
    #[arg(last = true, value_name = "PROGRAM")]
    program: Vec<OsString>,

    // Last: the heading of what is flattened goes on over what follows.
    #[command(flatten)]
    limits: LimitArgs,
}

#[derive(Debug, clap::Args)]
#[command(next_help_heading = "Limits")]
struct LimitArgs {
    /// Connections at once; more are closed
    #[arg(long, value_name = "N", default_value_t = ServerLimits::default().max_connections)]
    max_connections: usize,

    /// Largest packet taken from a client, in bytes
    #[arg(long, value_name = "BYTES", default_value_t = ServerLimits::default().max_packet)]
    max_packet: usize,

    /// Unacknowledged messages on their way to one client
    #[arg(long, value_name = "N", default_value_t = ServerLimits::default().in_flight, value_parser = clap::value_parser!(u16).range(1..))]
    max_in_flight: u16,

    /// Bytes that may wait for one client; it is disconnected when more do, and gets no QoS 0 beyond 1 MiB
    #[arg(long, value_name = "BYTES", default_value_t = ServerLimits::default().max_queue)]
    max_queue: usize,

    /// Bytes kept for all clients together: messages that wait, are unread or unacknowledged, subscriptions, names and
    /// wills; the clients with most are disconnected when there are more
    #[arg(long, value_name = "BYTES", default_value_t = ServerLimits::default().max_queues)]
    max_queues: usize,

    /// Bytes of retained messages; there is no room for another when there are more
    #[arg(long, value_name = "BYTES", default_value_t = ServerLimits::default().max_retained)]
    max_retained: usize,

    /// Subscriptions of one client; more are refused
    #[arg(long, value_name = "N", default_value_t = ServerLimits::default().max_filters)]
    max_subscriptions: usize,

    /// How long the session of a client that wants one kept waits for its return
    #[arg(long, value_name = "DURATION", value_parser = duration, default_value = "2h")]
    session_expiry: Duration,

    /// How long a client may take until its CONNECT has come, TLS handshake included
    #[arg(long, value_name = "DURATION", value_parser = duration, default_value = "5s")]
    connect_timeout: Duration,
}

impl From<&LimitArgs> for ServerLimits {
    fn from(args: &LimitArgs) -> Self {
        Self {
            max_connections: args.max_connections,
            max_packet: args.max_packet,
            in_flight: args.max_in_flight,
            max_queue: args.max_queue,
            max_queues: args.max_queues,
            max_retained: args.max_retained,
            max_filters: args.max_subscriptions,
            session_expiry: args.session_expiry,
            connect_timeout: args.connect_timeout,
            ..Self::default()
        }
    }
}

/// Runs `edge`.
pub fn run(args: Args, console: Console) -> anyhow::Result<Exit> {
    run_local(serve(args, console))
}

async fn serve(args: Args, console: Console) -> Result<Exit, Failure> {
    let start = Instant::now();
    let has_program = !args.program.is_empty();
    check(&args)?;
    let product = model::load(args.model.as_deref())?;
    let known = args.devices.as_deref().map(|path| open_registry(path, console)).transpose()?;
    let (journal, registry) = known.map_or_else(Default::default, |(file, registry)| (Some(file), registry));
    let stdout = (!has_program).then(BatchWriter::stdout);
    let out = args.out.as_ref().map(|path| BatchWriter::append(path, Purpose::EdgeRecords)).transpose()?;
    if let Some(repaired) = out.as_ref().and_then(BatchWriter::repaired) {
        console.warn(repaired);
    }
    // Only now: a named pipe for a file waits in its opening, and a signal must end that.
    let mut signals = Signals::new()?;
    let mut progress = [stdout.as_ref().map(BatchWriter::watch), out.as_ref().map(BatchWriter::watch)];
    let tls = match (&args.tls_cert, &args.tls_key) {
        (Some(certificates), Some(key)) => Some(server::acceptor(certificates, key)?),
        _ => None,
    };
    let edge = Edge::new(settings(&args, product.clone(), console), registry);
    let output = Rc::new(RefCell::new(EdgeOutput::new(console, has_program, stdout, out)));
    if !has_program {
        allow_files(args.limits.max_connections);
    }
    let limits = ServerLimits::from(&args.limits);
    let observer = Box::new(Shared(Rc::clone(&output)));
    let handler = EdgeHandler::new(edge, journal, observer, limits.max_queues / 4);
    let broker = Broker::bind(address(&args, has_program)?, handler, limits, tls, start)?;
    if broker.is_public() {
        console.warn(&format!("{} can be reached from other machines", broker.url()));
        console
            .hint("The page's passwords protect little; listen on 127.0.0.1 unless gateways are elsewhere.");
    }
    announce(&broker, &output);

    let mut commands = Commands::new(product, has_program, console)?;
    let mut program = None;
    if has_program {
        let environment = Environment {
            broker: &broker.url_here(),
            username: args.username.first().map_or(USERNAME, String::as_str),
            platform_username: args.platform_username.first().map_or("platform", String::as_str),
            ca_file: args.tls_cert.as_deref(),
        };
        match Program::start(&args.program, &environment) {
            Ok(started) => program = Some(started),
            Err(NotRun { failure, exit }) => {
                console.error(&failure.message);
                return Ok(exit);
            }
        }
    }
    let mut look = tokio::time::interval(LOOK);
    let mut serving = Some(Box::pin(edge_handler::serve(&broker)));
    let mut reader_gone = std::pin::pin!(reader_gone());
    let [stdout_progress, out_progress] = &mut progress;
    let settled = output.borrow().settled();
    let exit = loop {
        let has_room = output.borrow().has_room_for_commands();
        tokio::select! {
            exit = signals.next() => match &mut program {
                None => break Ok(exit),
                Some(program) => program.signal(exit),
            },
            exit = ended(&mut program) => {
                program = None;
                break exit;
            }
            why = failure(&mut serving) => break failed(why),
            outcome = advance(stdout_progress) => match outcome {
                Ok(()) => { output.borrow_mut().progress(); broker.resume(); }
                Err(why) => break failed(why),
            },
            outcome = advance(out_progress) => match outcome {
                Ok(()) => broker.resume(),
                Err(why) => break failed(why),
            },
            asked = commands.next(), if has_room => commands.send(asked?, &broker, &output),
            () = settled.notified(), if !has_room => {}
            _ = look.tick() => broker.resume(),
            () = &mut reader_gone, if !has_program => break Ok(Exit::SUCCESS),
        }
    };
    if let Some(program) = program {
        console.warn("the edge cannot go on and ends PROGRAM");
        // What PROGRAM says at its end is still heard.
        alongside(&mut serving, end(program)).await;
    } else if has_program {
        // What its clients sent last, their farewells among it, is still to be read.
        let emptied = tokio::time::timeout(DRAIN, emptied(&broker));
        alongside(&mut serving, async { drop(emptied.await) }).await;
    }
    let closed = close(&output, console).await;
    exit.and_then(|exit| closed.map(|()| exit))
}

async fn end(mut program: Program) {
    program.end().await;
}

/// Does something while the broker serves on, if it can.
async fn alongside<F: Future<Output = WriterError>>(
    serving: &mut Option<Pin<Box<F>>>,
    work: impl Future<Output = ()>,
) {
    let mut work = std::pin::pin!(work);
    tokio::select! {
        () = &mut work => return,
        _ = failure(serving) => {}
    }
    work.await;
}

/// Writes the queued output to its end.
async fn close(output: &RefCell<EdgeOutput>, console: Console) -> Result<(), Failure> {
    let sinks = output.borrow_mut().close();
    let mut closed = Ok(());
    for sink in sinks.into_iter().flatten() {
        match tokio::time::timeout(FAREWELL, sink.close()).await {
            Ok(Err(WriterError::Failed(why))) => closed = closed.and(Err(why)),
            Ok(_) => {}
            Err(_) => console.warn("stdout is not being read: what was left to print is lost"),
        }
    }
    closed
}

/// Waits until no client is connected.
async fn emptied(broker: &Broker<EdgeHandler>) {
    while broker.connections() > 0 {
        tokio::time::sleep(Duration::from_millis(1)).await;
    }
}

/// Refuses arguments that contradict each other.
fn check(args: &Args) -> Result<(), Failure> {
    // An unquoted empty variable: the edge would run without the program that is to end it.
    if args.program.is_empty() && std::env::args_os().next_back().is_some_and(|last| last == "--") {
        return Err(Failure::invalid("no PROGRAM follows --")
            .hint("Name a program, or leave -- away for an edge by itself; is a shell variable empty?"));
    }
    match args.username.iter().find(|name| args.platform_username.contains(name)) {
        Some(name) => Err(Failure::invalid(format!(
            "--username {name}: platform users have this name, and the edge answers no gateway that does"
        ))
        .hint("Name another one, or another --platform-username.")),
        None => Ok(()),
    }
}

fn settings(args: &Args, product: Product, console: Console) -> Settings {
    let seed = args.seed.unwrap_or_else(|| fastrand::u64(..));
    if args.seed.is_none() && !args.fault.is_empty() {
        console.note(&format!("--seed {seed} gives the same faults again"));
    }
    Settings {
        access: Access {
            usernames: args.username.clone(),
            platform_usernames: args.platform_username.clone(),
        },
        product,
        accepts_all: false,
        max_skew: args.max_skew,
        offline_after: args.offline_after,
        command_timeout: args.command_timeout,
        faults: Faults::new(args.fault.clone(), seed),
    }
}

fn address(args: &Args, has_program: bool) -> Result<SocketAddr, Failure> {
    let default = if has_program { "127.0.0.1:0" } else { "127.0.0.1:21883" };
    let listen = args.listen.as_deref().unwrap_or(default);
    let unusable = |why: String| {
        Failure::invalid(format!("--listen {listen}: {why}"))
            .hint("Write HOST:PORT, such as 127.0.0.1:21883.")
    };
    let mut found = listen.to_socket_addrs().map_err(|why| unusable(why.to_string()))?;
    found.next().ok_or_else(|| unusable("the host has no address".into()))
}

fn announce(broker: &Broker<EdgeHandler>, output: &RefCell<EdgeOutput>) {
    #[derive(Serialize)]
    struct Listening<'a> {
        event: &'static str,
        broker: &'a str,
    }
    let mut output = output.borrow_mut();
    output.event(&json_line(&Listening { event: "listening", broker: &broker.url() }));
    output.flush_now();
}

/// Opens the registry's file and prints its warnings.
fn open_registry(path: &Path, console: Console) -> Result<(RegistryFile, Registry), Failure> {
    // Opening repairs the file's end, which would cut a file of another kind.
    if path.is_file() {
        crate::io::input::see_that_it_is_text(path)?;
    }
    let (file, LoadedRegistry { registry, warnings }) = RegistryFile::open(path)?;
    for warning in warnings {
        console.warn(&warning);
    }
    if !registry.is_empty() {
        let devices = match registry.len() {
            1 => "1 device is".to_owned(),
            more => format!("{more} devices are"),
        };
        console.note(&format!("{devices} known from {}", path.display()));
    }
    Ok((file, registry))
}

/// Waits until the reader of stdout has gone, which an idle edge would not notice by writing.
async fn reader_gone() {
    let (sender, gone) = tokio::sync::oneshot::channel();
    let watch = move || {
        let stdout = io::stdout();
        let mut fds = [PollFd::new(&stdout, PollFlags::empty())];
        while poll(&mut fds, None) == Err(rustix::io::Errno::INTR) {}
        if fds[0].revents().intersects(PollFlags::ERR | PollFlags::HUP) {
            // Nobody waits for it any more where the edge has ended meanwhile.
            let _ = sender.send(());
        }
    };
    let watching = std::thread::Builder::new().name("stdout".into()).spawn(watch);
    if watching.is_err() || gone.await.is_err() {
        std::future::pending::<()>().await;
    }
}

/// Raises the limit of open files as far as the connections need and the system lets us.
fn allow_files(connections: usize) {
    let limit = getrlimit(Resource::Nofile);
    let wanted = u64::try_from(connections).unwrap_or(u64::MAX).saturating_add(64);
    let wanted = limit.maximum.map_or(wanted, |most| wanted.min(most));
    if limit.current.is_some_and(|current| current < wanted) {
        // Without it fewer clients are served, and each that is not is said.
        let _ = setrlimit(Resource::Nofile, Rlimit { current: Some(wanted), ..limit });
    }
}

/// Serves until the broker fails; once it has failed, never returns.
async fn failure<F: Future<Output = WriterError>>(serving: &mut Option<Pin<Box<F>>>) -> WriterError {
    match serving {
        None => std::future::pending().await,
        Some(future) => {
            let why = future.as_mut().await;
            *serving = None;
            why
        }
    }
}

async fn ended(program: &mut Option<Program>) -> Result<Exit, Failure> {
    match program {
        Some(program) => program.wait().await,
        None => std::future::pending().await,
    }
}

async fn advance(progress: &mut Option<CommitWatch>) -> Result<(), WriterError> {
    match progress {
        Some(progress) => progress.progress().await.map(drop),
        None => std::future::pending().await,
    }
}

/// A reader of stdout that went away wanted no more; everything else is a failure.
fn failed(why: WriterError) -> Result<Exit, Failure> {
    match why {
        WriterError::ReaderGone => Ok(Exit::SUCCESS),
        WriterError::Failed(failure) => Err(failure),
    }
}

/// Commands from stdin.
struct Commands {
    input: Option<InputStream<ParsedInput>>,
    /// Commands that were read and are not sent yet.
    read: VecDeque<ParsedInput>,
    index: u64,
}

impl Commands {
    fn new(product: Product, has_program: bool, console: Console) -> Result<Self, Failure> {
        let mut commands = Self { input: None, read: VecDeque::new(), index: 0 };
        if !has_program && !io::stdin().is_terminal() {
            let parser = RequestParser { product, check: true, encoding: ValueEncoding::Native };
            let take = move |input: InputValue<'_>, asked: &mut Vec<ParsedInput>| {
                parser.parse(RequestKind::Command, input, asked);
            };
            commands.input = Some(fifo::stdin(console)?.start(take)?);
        }
        Ok(commands)
    }

    /// Returns the next commands; never returns after the end of stdin. Cancel-safe.
    async fn next(&mut self) -> Result<VecDeque<ParsedInput>, Failure> {
        while self.read.is_empty() {
            let Some(input) = &mut self.input else { return std::future::pending().await };
            match input.next().await? {
                Some(batch) => self.read = batch.into(),
                None => self.input = None,
            }
        }
        Ok(mem::take(&mut self.read))
    }

    /// Sends commands, and keeps those for which there is no room.
    fn send(
        &mut self,
        mut asked: VecDeque<ParsedInput>,
        broker: &Broker<EdgeHandler>,
        output: &RefCell<EdgeOutput>,
    ) {
        while output.borrow().has_room_for_commands()
            && let Some(next) = asked.pop_front()
        {
            self.send_one(next, broker, output);
        }
        self.read = asked;
        output.borrow_mut().flush_now();
    }

    fn send_one(&mut self, asked: ParsedInput, broker: &Broker<EdgeHandler>, output: &RefCell<EdgeOutput>) {
        let ParsedInput { line, text, item, .. } = asked;
        let index = self.index;
        self.index += 1;
        match item {
            Err(invalid) => {
                let command = Noted {
                    line,
                    cid: invalid.cid.clone(),
                    id: invalid.id.clone(),
                    part: invalid.part.clone(),
                    request_id: "".into(),
                    input: text,
                };
                output.borrow_mut().invalid(index, &command, invalid.field.as_deref(), &invalid.message);
            }
            Ok(Request { gateway_id, t, request_id, part, body: Payload::Command(command), .. }) => {
                let request_id = request_id.unwrap_or_else(crate::io::request_ids::request_id);
                let noted = Noted {
                    line,
                    cid: Some(command.cid.clone()),
                    id: command.points.first().map(|(id, _)| id.clone()),
                    part,
                    request_id: Arc::clone(&request_id),
                    input: text,
                };
                output.borrow_mut().expect(index, noted);
                let request_id = request_id.as_ref().to_owned();
                let request = CommandRequest { token: index, gateway_id, t, request_id, command };
                broker.turn(|handler, now| handler.command(now, request));
            }
            Ok(Request { body: Payload::Uplink(_), .. }) => {}
        }
    }
}
