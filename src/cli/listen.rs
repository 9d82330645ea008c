//! `listen`: prints what arrives as records, answers commands, and sends uplinks from stdin: one connection does
//! all, since a second client with the same id would push the first one off.

use std::{
    collections::{HashMap, HashSet, VecDeque},
    ffi::OsString,
    path::{Path, PathBuf},
    time::{Duration, Instant, SystemTime, UNIX_EPOCH},
};

use serde::Deserialize;

use crate::{
    error::{Exit, Failure, Kind},
    gateway::{CommandKey, Commands, Order},
    io::{
        batch_writer::{Purpose, Rotation, Sink, SinkError, Ticket},
        console::Console,
        fifo,
        input::{Stream, text_of},
    },
    mqtt::{
        codec::{Message, QoS},
        session::Receipt,
    },
    net::client::Event,
    recording::{Record, Stamp},
    request::{
        identifier,
        parser::{Asked, Body, Item, ModelArgs, Operation},
    },
    run::{
        batch::TimeUnit,
        command_executor::{Executed, Executions, Job, Policy},
        exchange::Exchange,
        record_filter::Filter,
        results::{Manner, Progress, Results},
        signals::Signals,
    },
    text::is_blank,
    tuya::{Channel, Command, CommandAnswer, Envelope, GatewayId, Property, ResultCode, Uplink, matches},
};

use super::connection::{Connection, GatewayArgs, NetworkArgs, duration};

/// How many uplinks of stdin may be in flight.
const WINDOW: usize = 20;
/// Nothing more is read while more than this waits to be written.
const BACKLOG: u64 = 8 << 20;
/// How long a signal, or the end of `--for`, leaves for what is in hand. What is not done then is not acknowledged, and comes again.
const GRACE: Duration = Duration::from_millis(1500);

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

    /// Give a lost connection up at once
    #[arg(long)]
    no_reconnect: bool,

    /// Answer every command: success, or a result code with an optional message
    #[arg(long, value_name = "success|CODE[:MSG]", conflicts_with = "exec", value_parser = crate::run::command_executor::fixed)]
    answer: Option<(i64, String)>,

    /// Run PROGRAM for each command and answer by its exit status; what follows are its arguments
    ///
    /// The command's JSON is on its stdin. Exit status 0 is success, any other and a time-out are code 500. An
    /// object {"code":…,"msg":…} on its stdout says it otherwise. No shell is involved. Long options of listen
    /// that follow count as such; after -- all are PROGRAM's.
    #[arg(long, value_names = ["PROGRAM", "ARGS"], num_args = 1.., allow_hyphen_values = true)]
    pub(crate) exec: Vec<OsString>,

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
    let args = crate::run::command_executor::own_options(args)?;
    crate::run::runtime::block_on(async {
        let mut listen = Listen::new(&args, console)?;
        let end = listen.drive().await;
        Ok(listen.finish(end).await)
    })
}

/// How listening came to its end.
enum End {
    /// As many records as were wanted, or the time is over.
    Done(Exit),
    /// The reader of stdout has gone: it wanted no more.
    ReaderGone,
    Failure(Failure),
}

impl From<Failure> for End {
    fn from(failure: Failure) -> Self {
        Self::Failure(failure)
    }
}

/// A message that was recorded and is not acknowledged yet.
struct Arrived {
    receipt: Option<Receipt>,
    /// Its record is written once the output has come so far.
    recorded: Option<Ticket>,
    /// Its command is still to be answered.
    awaits_answer: bool,
}

struct Listen {
    exchange: Exchange,
    /// Where records go, if not to stdout among the results.
    out: Option<Sink>,
    gateway_id: GatewayId,
    filter: Filter,
    /// How commands are answered; `None` where nothing is answered.
    commands: Option<Commands>,
    executions: Executions,
    report_back: bool,
    /// What arrived and is not acknowledged, in the order of arrival; the first one's number.
    arrived: VecDeque<Arrived>,
    first: u64,
    /// Which deliveries wait for the answer to a command.
    deliveries: HashMap<CommandKey, Vec<u64>>,
    records: u64,
    /// When the messages of now were read, by the client's clock and by the wall's.
    heard: (Duration, i64),
    stamp: Stamp,
    count: Option<u64>,
    ends: Option<Instant>,
    stdin: Option<Stream<Asked>>,
    waiting: VecDeque<Asked>,
    console: Console,
}

impl Listen {
    fn new(args: &Args, console: Console) -> Result<Self, Failure> {
        let mut connection = Connection::gateway(&args.network, &args.gateway)?;
        connection.settings.reconnect = !args.no_reconnect;
        connection.settings.gives_up = false;
        let gateway_id =
            connection.gateway_id.clone().ok_or_else(|| Failure::invalid("no gateway id is given"))?;
        let operations = args.model.operations()?;
        let policy = match (&args.answer, args.exec.as_slice()) {
            (Some((code, msg)), _) => Some(Policy::Fixed(*code, msg.clone())),
            (None, []) => None,
            (None, exec) => Some(Policy::Program { command: exec.to_vec(), limit: args.exec_timeout }),
        };
        if let Some(program) = args.exec.first() {
            crate::run::command_executor::check_program(program)?;
        }
        let answering = policy.is_some();
        let report_back = answering && !args.no_report_back;
        let devices = args.devices.as_deref().map(read_devices).transpose()?;
        let filter = Filter::new(&args.topic, &args.kind, &args.cid)?;
        let out = args
            .out
            .as_ref()
            .map(|path| Sink::append_rotating(path, Purpose::ListenRecords, args.rotate))
            .transpose()?;
        if let Some(repaired) = out.as_ref().and_then(Sink::repaired) {
            console.warn(repaired);
        }
        let subscriptions = subscriptions(args, &connection, &gateway_id, report_back || args.stdin);
        let results = Results::new(Progress::Never, Manner::default(), false, console);
        let exchange =
            Exchange::new(connection, subscriptions, args.t_unit, true, results, console).patient();
        let commands =
            answering.then(|| Commands::new(operations.product.clone(), operations.check, devices));
        let stdin = if args.stdin {
            Some(fifo::stdin(console)?.start(move |input, asked| operations.take_uplink(input, asked))?)
        } else {
            None
        };
        Ok(Self {
            exchange,
            out,
            gateway_id,
            filter,
            commands,
            executions: Executions::new(policy),
            report_back,
            arrived: VecDeque::new(),
            first: 0,
            deliveries: HashMap::new(),
            records: 0,
            heard: (Duration::MAX, 0),
            stamp: Stamp::default(),
            count: args.count,
            ends: args.period.map(|period| Instant::now() + period),
            stdin,
            waiting: VecDeque::new(),
            console,
        })
    }

    async fn drive(&mut self) -> Result<(), End> {
        let mut signals = Signals::new()?;
        let mut ending: Option<Exit> = None;
        let mut grace = None;
        loop {
            if ending.is_none() {
                self.feed()?;
            }
            self.release();
            self.exchange.results.flush(0);
            if let Some(out) = &mut self.out {
                out.flush();
            }
            if self.exchange.results.is_gone() {
                return Err(End::ReaderGone);
            }
            if ending.is_none() && self.count.is_some_and(|count| self.records >= count) {
                ending = Some(Exit::SUCCESS);
            }
            if let Some(exit) = ending
                && self.arrived.is_empty()
                && self.executions.is_empty()
                && self.exchange.in_flight() == 0
                && self.exchange.results.is_written()
            {
                return Err(End::Done(exit));
            }
            let is_behind = self.is_behind();
            self.exchange.client.hold(is_behind);
            let hungry = ending.is_none() && self.waiting.is_empty() && self.exchange.in_flight() < WINDOW;
            let deadline = self.exchange.deadline();
            tokio::select! {
                signal = signals.next() => match ending {
                    Some(exit) if exit != Exit::SUCCESS => return Err(End::Done(signal)),
                    _ => {
                        ending = Some(signal);
                        grace = Some(Instant::now() + GRACE);
                    }
                },
                event = self.exchange.client.next() => {
                    self.happened(event?, ending.is_some())?;
                    while let Some(event) = self.exchange.client.ready()? {
                        self.happened(event, ending.is_some())?;
                    }
                    while let Some(executed) = self.executions.ready() {
                        self.executed(executed)?;
                    }
                }
                executed = self.executions.next() => self.executed(executed)?,
                batch = next_batch(&mut self.stdin), if hungry => match batch? {
                    None => self.stdin = None,
                    Some(batch) => self.waiting.extend(batch),
                },
                written = self.exchange.results.progress() => written?,
                recorded = progress(&mut self.out) => recorded?,
                () = crate::run::runtime::sleep_until(deadline) => {}
                () = crate::run::runtime::sleep_until(grace) => return Err(End::Done(ending.unwrap_or(Exit::SUCCESS))),
                () = crate::run::runtime::sleep_until(self.ends), if grace.is_none() => {
                    let enough = self.count.is_none_or(|count| self.records >= count);
                    ending = ending.or(Some(if enough { Exit::SUCCESS } else { Exit::TIMEOUT }));
                    grace = Some(Instant::now() + GRACE);
                }
            }
            self.exchange.expire("")?;
        }
    }

    /// Takes an event; once the end is near, new messages are left to the broker, unacknowledged.
    fn happened(&mut self, event: Event, ending: bool) -> Result<(), Failure> {
        match event {
            Event::Message(message, receipt) => {
                // What a broker sends after every SUBSCRIBE, or again, is none.
                if !message.retain && !message.dup {
                    self.exchange.client.progress();
                }
                let wanted = self.filter.wants(&message, self.exchange.topics());
                let full = ending || self.count.is_some_and(|count| self.records >= count);
                // What will not be recorded is not acknowledged either, though it may be an answer to us.
                if !(full && wanted) {
                    let recorded = wanted.then(|| self.record(&message));
                    let number = self.first + self.arrived.len() as u64;
                    self.arrived.push_back(Arrived { receipt, recorded, awaits_answer: false });
                    if wanted {
                        self.command(&message, number)?;
                    }
                }
                if self.exchange.has_open_requests() && self.may_be_answer(&message) {
                    self.exchange.hear(message);
                }
                Ok(())
            }
            Event::Subscribed => {
                self.console.note("listening");
                self.exchange.happened(Event::Subscribed)
            }
            event => self.exchange.happened(event),
        }
    }

    /// Whether a message came where our requests are answered, and is no command, which may come there too.
    fn may_be_answer(&self, message: &Message) -> bool {
        let answers = [Channel::SyncResponse, Channel::ReportResponse];
        let mut channels = self.exchange.topics().channels(&message.topic);
        channels.any(|(channel, _)| answers.contains(&channel)) && !self.exchange.is_command(message)
    }

    fn record(&mut self, message: &Message) -> Ticket {
        let heard = self.exchange.client.heard_at();
        if self.heard.0 != heard {
            self.heard = (heard, unix_us());
        }
        let mono_us = u64::try_from(heard.as_micros()).unwrap_or(u64::MAX);
        let record = Record::of(message, self.heard.1, mono_us).classified(self.exchange.topics());
        self.records += 1;
        match &mut self.out {
            Some(out) => out.write_with(|line| record.write_stamped(line, &mut self.stamp)),
            None => self.exchange.results.write_with(|line| record.write_stamped(line, &mut self.stamp)),
        }
    }

    /// How far the records have been written, and to a file synced.
    fn done(&self) -> Ticket {
        self.out.as_ref().map_or_else(|| self.exchange.results.done(), Sink::done)
    }

    /// Whether the records are so far behind that no more should be read.
    fn is_behind(&mut self) -> bool {
        let file_is_behind = self.out.as_mut().is_some_and(|out| out.is_behind(BACKLOG));
        file_is_behind || self.exchange.results.is_behind()
    }

    /// Answers a message that is a command, now or once it has been executed.
    fn command(&mut self, message: &Message, number: u64) -> Result<(), Failure> {
        let Some(commands) = &mut self.commands else { return Ok(()) };
        let topics = self.exchange.topics();
        if !topics
            .channels(&message.topic)
            .any(|(channel, id)| channel == Channel::Command && id == self.gateway_id.as_str())
        {
            return Ok(());
        }
        if message.retain {
            self.exchange.warn(&format!("a retained command on {} is stale and not executed", message.topic));
            return Ok(());
        }
        match commands.hear(&message.payload) {
            Order::Execute(key, envelope) if self.executions.is_full() => {
                commands.forget(key);
                self.is_busy(&envelope)
            }
            Order::Execute(key, envelope) => {
                self.awaits(key, number);
                self.executions.push(Job { key, envelope, payload: message.payload.clone() });
                Ok(())
            }
            Order::Repeated(key) => {
                self.awaits(key, number);
                Ok(())
            }
            Order::Answer(request_id, answer) => {
                self.exchange.respond(&self.gateway_id, request_id.into(), answer)
            }
            Order::Ignore(why) => {
                self.exchange.warn(&format!("on {}: {why}; nothing is answered", message.topic));
                Ok(())
            }
        }
    }

    /// Refuses a command where so many wait that its platform would have given up before its turn.
    fn is_busy(&mut self, envelope: &Envelope<Command>) -> Result<(), Failure> {
        let Command { cid, .. } = &envelope.body;
        let msg = "busy: too many commands wait to be executed".to_owned();
        let code = ResultCode::SYSTEM_ERROR;
        self.exchange.warn(&format!("command of {cid}: {msg}; answered {code}"));
        let answer = CommandAnswer { cid: cid.clone(), code, msg };
        self.exchange.respond(&self.gateway_id, envelope.request_id.as_str().into(), answer)
    }

    fn awaits(&mut self, key: CommandKey, number: u64) {
        self.deliveries.entry(key).or_default().push(number);
        if let Some(arrived) = usize::try_from(number - self.first).ok().and_then(|n| self.arrived.get_mut(n))
        {
            arrived.awaits_answer = true;
        }
    }

    /// Answers each delivery of an executed command, and reports the new values after a success.
    fn executed(&mut self, Executed { job, answer, problem }: Executed) -> Result<(), Failure> {
        if let Some(problem) = problem {
            self.exchange.warn(&format!("command of {}: {problem}; answered {}", answer.cid, answer.code));
        }
        let request_id = &job.envelope.request_id;
        if let Some(commands) = &mut self.commands {
            commands.executed(job.key, &answer);
        }
        for number in self.deliveries.remove(&job.key).unwrap_or_default() {
            self.exchange.respond(&self.gateway_id, request_id.as_str().into(), answer.clone())?;
            let place = number.checked_sub(self.first).and_then(|n| usize::try_from(n).ok());
            if let Some(arrived) = place.and_then(|n| self.arrived.get_mut(n)) {
                arrived.awaits_answer = false;
            }
        }
        if !answer.code.is_success() || !self.report_back {
            return Ok(());
        }
        let Command { cid, points } = &job.envelope.body;
        for (id, value) in points {
            let property = Property { cid: cid.into(), id: id.into(), value: value.clone() };
            let item = Item::new(Operation::Report, Body::Uplink(Uplink::Report(property)));
            self.exchange.send(item, None)?;
        }
        Ok(())
    }

    /// Acknowledges, in the order of arrival, what is recorded and answered.
    fn release(&mut self) {
        let done = self.done();
        while let Some(arrived) = self.arrived.front() {
            if arrived.awaits_answer || arrived.recorded.is_some_and(|recorded| recorded > done) {
                return;
            }
            let receipt = self.arrived.pop_front().and_then(|arrived| arrived.receipt);
            self.first += 1;
            if let Some(receipt) = receipt {
                self.exchange.client.acknowledge(receipt);
            }
        }
    }

    /// Sends uplinks of stdin.
    fn feed(&mut self) -> Result<(), Failure> {
        while self.exchange.in_flight() < WINDOW
            && let Some(asked) = self.waiting.pop_front()
        {
            match self.exchange.results.take(asked) {
                (origin, Ok(item)) => self.exchange.send(item, Some(origin))?,
                (origin, Err(invalid)) => self.exchange.results.invalid(origin, &invalid),
            }
        }
        self.exchange.send_statuses()
    }

    /// Says farewell and gives the exit code.
    async fn finish(mut self, end: Result<(), End>) -> Exit {
        let is_over = matches!(end, Err(End::Done(_)));
        let exit = match end {
            Ok(()) | Err(End::ReaderGone) => Exit::SUCCESS,
            Err(End::Done(exit)) => exit,
            Err(End::Failure(failure)) => {
                self.exchange.results.fail(&failure);
                self.exchange.fail_all(failure.kind, &failure.message);
                failure.kind.exit()
            }
        };
        self.exchange.fail_all(Kind::Connection, "listening ended before the answer came");
        if is_over && exit == Exit::TIMEOUT {
            let wanted = self.count.unwrap_or_default();
            self.console.error(&format!("{} of {wanted} records came in time", self.records));
            self.console.hint("--for waits longer; see whether --topic, --kind and --cid let the rest in");
        }
        self.exchange.close().await;
        let recorded = match self.out {
            Some(out) => out.close().await,
            None => Ok(()),
        };
        // A file that cannot be written has ended the listening, and has been told by it.
        let recorded = recorded.map_or_else(|_| Exit::USAGE, |()| Exit::SUCCESS);
        let results = self.exchange.results.finish_quietly();
        let results = tokio::time::timeout(GRACE, results).await.unwrap_or(Exit::SUCCESS);
        exit.or(recorded).or(results)
    }
}

/// Waits until more records are safe; for ever without a file. Cancel-safe.
async fn progress(out: &mut Option<Sink>) -> Result<(), Failure> {
    match out {
        Some(out) => match out.progress().await {
            Ok(_) => Ok(()),
            Err(SinkError::Failed(failure)) => Err(failure),
            Err(SinkError::ReaderGone) => Err(Failure::io("nobody reads the records")),
        },
        None => std::future::pending().await,
    }
}

/// The next inputs of stdin; none for ever without one.
async fn next_batch(stdin: &mut Option<Stream<Asked>>) -> Result<Option<Vec<Asked>>, Failure> {
    match stdin {
        Some(source) => source.next().await,
        None => std::future::pending().await,
    }
}

fn subscriptions(
    args: &Args,
    connection: &Connection,
    gateway: &GatewayId,
    asks: bool,
) -> Vec<(String, QoS)> {
    let topic = |channel| connection.topics.topic(channel, gateway);
    let downlinks = [Channel::SyncResponse, Channel::Command, Channel::ReportResponse];
    let mut filters = if args.all {
        // A profile may have put some of its topics elsewhere.
        let all = format!("gateway_id/{gateway}/#");
        let elsewhere = Channel::ALL.map(topic).into_iter().filter(|topic| !matches(&all, topic));
        [all.clone()].into_iter().chain(elsewhere).collect()
    } else if args.topic.is_empty() {
        downlinks.map(topic).to_vec()
    } else {
        args.topic.clone()
    };
    if asks {
        // Answers to our own requests are needed, whatever is printed.
        for answers in [Channel::SyncResponse, Channel::ReportResponse].map(topic) {
            // Where filters overlap, a broker may send a message once for each.
            if !filters.iter().any(|filter| matches(filter, &answers)) {
                filters.push(answers);
            }
        }
    }
    let mut seen = HashSet::new();
    filters.retain(|filter| seen.insert(filter.clone()));
    filters.into_iter().map(|filter| (filter, connection.qos)).collect()
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

fn unix_us() -> i64 {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    i64::try_from(since.as_micros()).unwrap_or(i64::MAX)
}
