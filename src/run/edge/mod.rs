//! Runs the embedded edge: files, broker, commands from stdin, and PROGRAM, to the end of the run.

mod process;
mod stdin_commands;

use std::{
    cell::RefCell,
    ffi::OsString,
    path::{Path, PathBuf},
    pin::Pin,
    rc::Rc,
    time::{Duration, Instant},
};

use self::{
    process::{allow_files, reader_gone},
    stdin_commands::StdinCommands,
};
use super::{
    edge_handler::{self, EdgeHandler},
    edge_output::{EdgeOutput, SharedEdgeOutput},
    listen_address::{listening_event, resolve},
    program::{Environment, NotRun, Program},
    runtime::{committed_changed, run_local},
    signals::Signals,
};
use crate::{
    edge::{Edge, EdgeSettings, Fault, Faults, LoginRule, Registry},
    error::{Exit, Failure},
    io::{
        batch_writer::{BatchWriter, Purpose, WriterError},
        console::Console,
        registry_file::{LoadedRegistry, RegistryFile},
    },
    net::server::{self, Broker, ServerLimits},
    tuya::product::Product,
};

/// The username that PROGRAM finds in its environment, unless another one is given.
const USERNAME: &str = "acme";

/// How long the last output may take if stdout is not being read.
const FAREWELL: Duration = Duration::from_millis(1500);

/// How long to wait, after the end of PROGRAM, for its clients to disconnect.
const DRAIN: Duration = Duration::from_millis(200);

/// How often to resume clients that were paused because stdout was not read.
const LOOK: Duration = Duration::from_millis(500);

/// How the edge is run.
pub struct EdgeOptions {
    /// The `HOST:PORT` to listen on, if not the default.
    pub listen: Option<String>,
    /// The usernames of gateways; any if there are none.
    pub usernames: Vec<String>,
    /// The usernames of platform users.
    pub platform_usernames: Vec<String>,
    /// The product of all devices.
    pub product: Product,
    /// The file that keeps the devices.
    pub devices: Option<PathBuf>,
    /// The file of the records; stdout without one.
    pub out: Option<PathBuf>,
    /// The certificate chain and its key, to speak TLS.
    pub tls: Option<(PathBuf, PathBuf)>,
    /// How far `t` may differ from the clock.
    pub max_skew: Option<Duration>,
    /// After how long without a message a device counts as offline.
    pub offline_after: Option<Duration>,
    /// How long a gateway may take to answer a command from stdin.
    pub command_timeout: Duration,
    /// The faults to play.
    pub faults: Vec<Fault>,
    /// The seed of their random numbers.
    pub seed: Option<u64>,
    /// The program to run against the edge, with its arguments; empty if none.
    pub program: Vec<OsString>,
    /// The limits of clients.
    pub limits: ServerLimits,
}

/// Runs the edge until a signal, or the end of PROGRAM.
///
/// # Errors
/// An address that cannot be bound, or a file that cannot be used.
pub fn run(options: EdgeOptions, console: Console) -> anyhow::Result<Exit> {
    run_local(serve(options, console))
}

async fn serve(options: EdgeOptions, console: Console) -> Result<Exit, Failure> {
    let start = Instant::now();
    let has_program = !options.program.is_empty();
    let known = options.devices.as_deref().map(|path| open_registry(path, console)).transpose()?;
    let (journal, registry) = known.map_or_else(Default::default, |(file, registry)| (Some(file), registry));
    let stdout = (!has_program).then(BatchWriter::stdout);
    let out = options.out.as_ref().map(|path| BatchWriter::append(path, Purpose::EdgeRecords)).transpose()?;
    if let Some(repaired) = out.as_ref().and_then(BatchWriter::recovery_note) {
        console.warn(repaired);
    }
    // After the files: opening a named pipe blocks, and a signal must end that.
    let mut signals = Signals::new()?;
    let mut progress = [stdout.as_ref().map(BatchWriter::watch), out.as_ref().map(BatchWriter::watch)];
    let tls = options.tls.as_ref().map(|(chain, key)| server::acceptor(chain, key)).transpose()?;
    let edge = Edge::new(settings(&options, console), registry);
    let output = Rc::new(RefCell::new(EdgeOutput::new(console, has_program, stdout, out)));
    if !has_program {
        allow_files(options.limits.max_connections);
    }
    let default_address = if has_program { "127.0.0.1:0" } else { "127.0.0.1:21883" };
    let observer = Box::new(SharedEdgeOutput(Rc::clone(&output)));
    let handler = EdgeHandler::new(edge, journal, observer, options.limits.max_queues / 4);
    let address = resolve(options.listen.as_deref().unwrap_or(default_address))?;
    let broker = Broker::bind(address, handler, options.limits.clone(), tls, start)?;
    if broker.is_public() {
        console.warn(&format!("{} can be reached from other machines", broker.url()));
        console.hint(
            "The page's passwords protect little; listen on 127.0.0.1 unless gateways are on other machines",
        );
    }
    announce(&broker, &output);

    let mut commands = StdinCommands::new(options.product.clone(), has_program, console)?;
    let mut program = None;
    if has_program {
        let environment = Environment {
            broker: &broker.local_url(),
            username: options.usernames.first().map_or(USERNAME, String::as_str),
            platform_username: options.platform_usernames.first().map_or("platform", String::as_str),
            ca_file: options.tls.as_ref().map(|(chain, _)| chain.as_path()),
        };
        match Program::start(&options.program, &environment) {
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
            outcome = committed_changed(stdout_progress) => match outcome {
                Ok(()) => { output.borrow_mut().progress(); broker.resume(); }
                Err(why) => break failed(why),
            },
            outcome = committed_changed(out_progress) => match outcome {
                Ok(()) => broker.resume(),
                Err(why) => break failed(why),
            },
            batch = commands.next(), if has_room => commands.send(batch?, &broker, &output),
            () = settled.notified(), if !has_room => {}
            _ = look.tick() => broker.resume(),
            () = &mut reader_gone, if !has_program => break Ok(Exit::SUCCESS),
        }
    };
    if let Some(program) = program {
        console.warn("the edge cannot go on and ends PROGRAM");
        // Serve on, because PROGRAM may still send messages while it ends.
        alongside(&mut serving, end(program)).await;
    } else if has_program {
        // Read the last packets of its clients, DISCONNECT among them.
        let drained = tokio::time::timeout(DRAIN, all_disconnected(&broker));
        alongside(&mut serving, async { drop(drained.await) }).await;
    }
    let closed = close(&output, console).await;
    exit.and_then(|exit| closed.map(|()| exit))
}

async fn end(mut program: Program) {
    program.end().await;
}

/// Does some work while the broker serves on, if it can.
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
    let writers = output.borrow_mut().close();
    let mut closed = Ok(());
    for writer in writers.into_iter().flatten() {
        match tokio::time::timeout(FAREWELL, writer.close()).await {
            Ok(Err(WriterError::Failed(why))) => closed = closed.and(Err(why)),
            Ok(_) => {}
            Err(_) => console.warn("stdout is not being read: the rest of the output is lost"),
        }
    }
    closed
}

/// Waits until no client is connected.
async fn all_disconnected(broker: &Broker<EdgeHandler>) {
    while broker.connections() > 0 {
        tokio::time::sleep(Duration::from_millis(1)).await;
    }
}

fn settings(options: &EdgeOptions, console: Console) -> EdgeSettings {
    let seed = options.seed.unwrap_or_else(|| fastrand::u64(..));
    if options.seed.is_none() && !options.faults.is_empty() {
        console.note(&format!("--seed {seed} gives the same faults again"));
    }
    EdgeSettings {
        access: LoginRule {
            usernames: options.usernames.clone(),
            platform_usernames: options.platform_usernames.clone(),
        },
        product: options.product.clone(),
        accepts_all: false,
        max_skew: options.max_skew,
        offline_after: options.offline_after,
        command_timeout: options.command_timeout,
        faults: Faults::new(options.faults.clone(), seed),
    }
}

fn announce(broker: &Broker<EdgeHandler>, output: &RefCell<EdgeOutput>) {
    let mut output = output.borrow_mut();
    output.event(&listening_event(&broker.url()));
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

/// Ends the run without a failure if the reader of stdout has gone, because it wanted no more.
fn failed(why: WriterError) -> Result<Exit, Failure> {
    match why {
        WriterError::ReaderGone => Ok(Exit::SUCCESS),
        WriterError::Failed(failure) => Err(failure),
    }
}
