//! Listening: records what arrives, answers commands, and sends uplinks from stdin, over one connection.

use std::{
    collections::{HashMap, HashSet, VecDeque},
    path::PathBuf,
    time::{Duration, Instant, SystemTime, UNIX_EPOCH},
};

use super::{
    command_executor::{CommandExecutor, CommandJob, Executed, Policy as CommandPolicy, check_program},
    connection_settings::ConnectionSettings,
    event_loop::{self, ConnectionOptions, GatewayConnection, Policy},
    record_filter::Filter,
    requests::{RequestConnection, Requests},
    results::{Progress, ResultContexts, ResultOptions, Results},
    runtime::block_on,
    signals::Signals,
    time_unit::TimeUnit,
};
use crate::{
    error::{Exit, Failure, FailureKind},
    gateway::{CommandAction, CommandKey, GatewayEvent, Payload, ReceivedCommands},
    io::{
        batch_writer::{BatchWriter, Offset, Purpose, Rotation, WriterError},
        console::Console,
        fifo,
        input::InputStream,
    },
    mqtt::{
        codec::{Message, QoS},
        matches,
        session::AckToken,
    },
    net::client::Event,
    recording::{Record, Stamp},
    request::parser::{ParsedInput, Request, RequestKind, RequestParser},
    tuya::{Channel, Command, CommandAnswer, Envelope, GatewayId, Property, ResultCode, Uplink},
};

/// How many uplinks of stdin may be in flight.
const WINDOW: usize = 20;
/// Nothing more is read while more than this waits to be written.
const BACKLOG: u64 = 8 << 20;
/// How long a signal, or the end of the period, leaves for what is in hand. What is not done then is not acknowledged, and
/// comes again.
const GRACE: Duration = Duration::from_millis(1500);

/// What is listened to, and what is done with it.
pub struct ListenOptions {
    /// Whether all topics of the gateway are heard, its own messages included.
    pub hears_all: bool,
    /// Which messages are recorded and answered.
    pub filter: Filter,
    /// The topic filters to subscribe to; the downlink topics if there are none.
    pub topics: Vec<String>,
    /// The file of the records; stdout without one.
    pub out: Option<PathBuf>,
    /// When that file is put aside.
    pub rotation: Option<Rotation>,
    /// How many records are wanted.
    pub count: Option<u64>,
    /// How long to listen.
    pub period: Option<Duration>,
    /// How commands are answered; `None` if they are not.
    pub policy: Option<CommandPolicy>,
    /// The devices that exist; every device without a list.
    pub devices: Option<HashSet<String>>,
    /// Whether the new values are reported after a successful command.
    pub reports_back: bool,
    /// Whether uplinks are read from stdin.
    pub reads_stdin: bool,
    /// The unit of `t`.
    pub unit: TimeUnit,
}

/// Listens to the end.
pub fn run(
    mut settings: ConnectionSettings,
    parser: RequestParser,
    options: ListenOptions,
    console: Console,
) -> anyhow::Result<Exit> {
    settings.client.gives_up = false;
    block_on(async {
        let (mut listen, mut connection) = Listen::new(settings, parser, options, console)?;
        let end = event_loop::run(&mut connection, &mut listen).await;
        Ok(listen.finish(connection, end).await)
    })
}

/// How listening came to its end.
enum End {
    /// As many records as were wanted have come, the time is over, or a signal came.
    Done(Exit),
    /// The reader of stdout has gone: it wanted no more.
    ReaderGone,
}

/// What listening waits for beside its connection.
enum Input {
    Signal(Exit),
    Executed(Executed),
    /// Uplinks; `None` at the end of stdin.
    Uplinks(Option<Vec<ParsedInput>>),
    /// More records or results are written.
    Written,
}

/// A message that was recorded and is not acknowledged yet.
struct Arrived {
    receipt: Option<AckToken>,
    /// Its record is written once the output has come so far.
    recorded: Option<Offset>,
    /// Its command is still to be answered.
    awaits_answer: bool,
}

struct Listen {
    requests: Requests,
    /// Where records go, if not to stdout among the results.
    out: Option<BatchWriter>,
    gateway_id: GatewayId,
    filter: Filter,
    /// How commands are answered; `None` where nothing is answered.
    commands: Option<ReceivedCommands>,
    executions: CommandExecutor,
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
    /// When the period ends.
    ends: Option<Instant>,
    signals: Signals,
    /// The exit code, once the end is near.
    ending: Option<Exit>,
    /// When what is in hand is given up.
    grace_ends: Option<Instant>,
    stdin: Option<InputStream<ParsedInput>>,
    waiting: VecDeque<ParsedInput>,
    /// Whether more of stdin is to be read now.
    is_hungry: bool,
    console: Console,
}

impl Listen {
    fn new(
        settings: ConnectionSettings,
        parser: RequestParser,
        options: ListenOptions,
        console: Console,
    ) -> Result<(Self, RequestConnection), Failure> {
        let gateway_id =
            settings.gateway_id.clone().ok_or_else(|| Failure::invalid("no gateway id is given"))?;
        if let Some(CommandPolicy::Program { command, .. }) = &options.policy
            && let Some(program) = command.first()
        {
            check_program(program)?;
        }
        let is_answering = options.policy.is_some();
        let report_back = is_answering && options.reports_back;
        let out = options
            .out
            .as_ref()
            .map(|path| BatchWriter::append_rotating(path, Purpose::ListenRecords, options.rotation))
            .transpose()?;
        if let Some(repaired) = out.as_ref().and_then(BatchWriter::repaired) {
            console.warn(repaired);
        }
        let connection_options = ConnectionOptions {
            subscriptions: subscriptions(
                &options,
                &settings,
                &gateway_id,
                report_back || options.reads_stdin,
            ),
            waits_for_answers: true,
            endures_outages: true,
            ..ConnectionOptions::default()
        };
        let connection = GatewayConnection::new(settings, connection_options, options.unit);
        let results = Results::new(Progress::Never, ResultOptions::default(), false, console);
        let commands = is_answering
            .then(|| ReceivedCommands::new(parser.product.clone(), parser.check, options.devices));
        let stdin = if options.reads_stdin {
            Some(fifo::stdin(console)?.start(move |input, asked| parser.parse_uplink(input, asked))?)
        } else {
            None
        };
        let listen = Self {
            requests: Requests::new(results, &connection, console),
            out,
            gateway_id,
            filter: options.filter,
            commands,
            executions: CommandExecutor::new(options.policy),
            report_back,
            arrived: VecDeque::new(),
            first: 0,
            deliveries: HashMap::new(),
            records: 0,
            heard: (Duration::MAX, 0),
            stamp: Stamp::default(),
            count: options.count,
            ends: options.period.map(|period| Instant::now() + period),
            signals: Signals::new()?,
            ending: None,
            grace_ends: None,
            stdin,
            waiting: VecDeque::new(),
            is_hungry: false,
            console,
        };
        Ok((listen, connection))
    }

    fn has_enough(&self) -> bool {
        self.count.is_some_and(|count| self.records >= count)
    }

    /// Takes note of what ends the listening by now: the count, or the period. Returns whether the grace is over.
    fn check_end(&mut self) -> bool {
        if self.ending.is_none() && self.has_enough() {
            self.ending = Some(Exit::SUCCESS);
        }
        let now = Instant::now();
        if self.grace_ends.is_some_and(|ends| ends <= now) {
            return true;
        }
        if self.grace_ends.is_none() && self.ends.is_some_and(|ends| ends <= now) {
            let is_enough = self.count.is_none() || self.has_enough();
            self.ending = self.ending.or(Some(if is_enough { Exit::SUCCESS } else { Exit::TIMEOUT }));
            self.grace_ends = Some(now + GRACE);
        }
        false
    }

    /// Whether a message came where our requests are answered, and is no command, which may come there too.
    fn may_be_answer(connection: &RequestConnection, message: &Message) -> bool {
        let answers = [Channel::SyncResponse, Channel::ReportResponse];
        let mut channels = connection.gateway().topics().channels(&message.topic);
        channels.any(|(channel, _)| answers.contains(&channel)) && !connection.gateway().is_command(message)
    }

    fn record(&mut self, connection: &RequestConnection, message: &Message) -> Offset {
        let heard = connection.heard_at();
        if self.heard.0 != heard {
            self.heard = (heard, unix_us());
        }
        let mono_us = u64::try_from(heard.as_micros()).unwrap_or(u64::MAX);
        let record = Record::of(message, self.heard.1, mono_us).classified(connection.gateway().topics());
        self.records += 1;
        match &mut self.out {
            Some(out) => out.write_with(|line| record.write_stamped(line, &mut self.stamp)),
            None => self.requests.results.write_with(|line| record.write_stamped(line, &mut self.stamp)),
        }
    }

    /// How far the records have been written, and to a file synced.
    fn done(&self) -> Offset {
        self.out.as_ref().map_or_else(|| self.requests.results.done(), BatchWriter::done)
    }

    /// Whether the records are so far behind that no more should be read.
    fn is_behind(&mut self) -> bool {
        let file_is_behind = self.out.as_mut().is_some_and(|out| out.is_behind(BACKLOG));
        file_is_behind || self.requests.results.is_behind()
    }

    /// Answers a message that is a command, now or once it has been executed.
    fn command(
        &mut self,
        connection: &mut RequestConnection,
        message: &Message,
        number: u64,
    ) -> Result<(), Failure> {
        let Some(commands) = &mut self.commands else { return Ok(()) };
        let topics = connection.gateway().topics();
        if !topics
            .channels(&message.topic)
            .any(|(channel, id)| channel == Channel::Command && id == self.gateway_id.as_str())
        {
            return Ok(());
        }
        if message.retain {
            self.requests.warn(&format!("a retained command on {} is stale and not executed", message.topic));
            return Ok(());
        }
        match commands.handle_delivery(&message.payload) {
            CommandAction::Execute(key, envelope) if self.executions.is_full() => {
                commands.forget(key);
                self.refuse_busy(connection, &envelope)
            }
            CommandAction::Execute(key, envelope) => {
                self.awaits(key, number);
                self.executions.push(CommandJob { key, envelope, payload: message.payload.clone() });
                Ok(())
            }
            CommandAction::Repeated(key) => {
                self.awaits(key, number);
                Ok(())
            }
            CommandAction::Answer(request_id, answer) => {
                self.requests.respond(connection, &self.gateway_id, request_id.into(), answer)
            }
            CommandAction::Ignore(why) => {
                self.requests.warn(&format!("on {}: {why}; nothing is answered", message.topic));
                Ok(())
            }
        }
    }

    /// Refuses a command where so many wait that its platform would have given up before its turn.
    fn refuse_busy(
        &mut self,
        connection: &mut RequestConnection,
        envelope: &Envelope<Command>,
    ) -> Result<(), Failure> {
        let Command { cid, .. } = &envelope.body;
        let msg = "busy: too many commands wait to be executed".to_owned();
        let code = ResultCode::SYSTEM_ERROR;
        self.requests.warn(&format!("command of {cid}: {msg}; answered {code}"));
        let answer = CommandAnswer { cid: cid.clone(), code, msg };
        self.requests.respond(connection, &self.gateway_id, envelope.request_id.as_str().into(), answer)
    }

    fn awaits(&mut self, key: CommandKey, number: u64) {
        self.deliveries.entry(key).or_default().push(number);
        if let Some(arrived) = usize::try_from(number - self.first).ok().and_then(|n| self.arrived.get_mut(n))
        {
            arrived.awaits_answer = true;
        }
    }

    /// Answers each delivery of an executed command, and reports the new values after a success.
    fn executed(
        &mut self,
        connection: &mut RequestConnection,
        Executed { job, answer, problem }: Executed,
    ) -> Result<(), Failure> {
        if let Some(problem) = problem {
            self.requests.warn(&format!("command of {}: {problem}; answered {}", answer.cid, answer.code));
        }
        let request_id = &job.envelope.request_id;
        if let Some(commands) = &mut self.commands {
            commands.finish(job.key, &answer);
        }
        for number in self.deliveries.remove(&job.key).unwrap_or_default() {
            self.requests.respond(
                connection,
                &self.gateway_id,
                request_id.as_str().into(),
                answer.clone(),
            )?;
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
            let item = Request::new(RequestKind::Report, Payload::Uplink(Uplink::Report(property)));
            self.requests.send(connection, connection.moment(), item, None)?;
        }
        Ok(())
    }

    /// Acknowledges, in the order of arrival, what is recorded and answered.
    fn release(&mut self, connection: &mut RequestConnection) {
        let done = self.done();
        while let Some(arrived) = self.arrived.front() {
            if arrived.awaits_answer || arrived.recorded.is_some_and(|recorded| recorded > done) {
                return;
            }
            let receipt = self.arrived.pop_front().and_then(|arrived| arrived.receipt);
            self.first += 1;
            if let Some(receipt) = receipt {
                connection.client().acknowledge(receipt);
            }
        }
    }

    /// Sends uplinks of stdin.
    fn feed(&mut self, connection: &mut RequestConnection) -> Result<(), Failure> {
        while connection.gateway().len() < WINDOW
            && let Some(asked) = self.waiting.pop_front()
        {
            match self.requests.results.take(asked) {
                (origin, Ok(item)) => {
                    self.requests.send(connection, connection.moment(), item, Some(origin))?;
                }
                (origin, Err(invalid)) => self.requests.results.invalid(origin, &invalid),
            }
        }
        self.requests.send_statuses(connection)
    }

    /// Says farewell and gives the exit code.
    async fn finish(mut self, mut connection: RequestConnection, end: Result<End, Failure>) -> Exit {
        let is_over = matches!(end, Ok(End::Done(_)));
        let exit = match end {
            Ok(End::ReaderGone) => Exit::SUCCESS,
            Ok(End::Done(exit)) => exit,
            Err(failure) => {
                self.requests.results.fail(&failure);
                self.requests.fail_all(&mut connection, failure.kind, &failure.message);
                failure.kind.exit()
            }
        };
        let message = "listening ended before the answer came";
        self.requests.fail_all(&mut connection, FailureKind::Connection, message);
        if is_over && exit == Exit::TIMEOUT {
            let wanted = self.count.unwrap_or_default();
            self.console.error(&format!("{} of {wanted} records came in time", self.records));
            self.console.hint("--for waits longer; see whether --topic, --kind and --cid let the rest in");
        }
        connection.close().await;
        self.requests.finish_warnings();
        let recorded = match self.out {
            Some(out) => out.close().await,
            None => Ok(()),
        };
        // A file that cannot be written has ended the listening, and has been told by it.
        let recorded = recorded.map_or_else(|_| Exit::USAGE, |()| Exit::SUCCESS);
        let results = self.requests.results.finish_quietly();
        let results = tokio::time::timeout(GRACE, results).await.unwrap_or(Exit::SUCCESS);
        exit.or(recorded).or(results)
    }
}

impl Policy for Listen {
    type Context = ResultContexts;
    type Input = Input;
    type End = End;

    fn advance(&mut self, connection: &mut RequestConnection) -> Result<Option<End>, Failure> {
        if self.check_end() {
            return Ok(Some(End::Done(self.ending.unwrap_or(Exit::SUCCESS))));
        }
        if self.ending.is_none() {
            self.feed(connection)?;
        }
        self.release(connection);
        self.requests.results.flush(0);
        if let Some(out) = &mut self.out {
            out.flush();
        }
        if self.requests.results.is_gone() {
            return Ok(Some(End::ReaderGone));
        }
        if let Some(exit) = self.ending
            && self.arrived.is_empty()
            && self.executions.is_empty()
            && connection.gateway().is_empty()
            && self.requests.results.is_written()
        {
            return Ok(Some(End::Done(exit)));
        }
        let is_behind = self.is_behind();
        connection.client().hold(is_behind);
        self.is_hungry =
            self.ending.is_none() && self.waiting.is_empty() && connection.gateway().len() < WINDOW;
        Ok(None)
    }

    fn next_wake(&self) -> Option<Instant> {
        self.grace_ends.or(self.ends)
    }

    async fn next_input(&mut self) -> Result<Input, Failure> {
        let Self { signals, executions, stdin, requests, out, is_hungry, .. } = self;
        tokio::select! {
            signal = signals.next() => Ok(Input::Signal(signal)),
            executed = executions.next() => Ok(Input::Executed(executed)),
            batch = next_batch(stdin), if *is_hungry => batch.map(Input::Uplinks),
            written = requests.results.progress() => written.map(|()| Input::Written),
            recorded = progress(out) => recorded.map(|()| Input::Written),
        }
    }

    fn handle_input(&mut self, connection: &mut RequestConnection, input: Input) -> Result<(), Failure> {
        match input {
            Input::Signal(signal) => {
                let is_second = self.ending.is_some_and(|exit| exit != Exit::SUCCESS);
                self.ending = Some(signal);
                self.grace_ends = Some(if is_second { Instant::now() } else { Instant::now() + GRACE });
            }
            Input::Executed(executed) => {
                self.executed(connection, executed)?;
                while let Some(executed) = self.executions.ready() {
                    self.executed(connection, executed)?;
                }
            }
            Input::Uplinks(None) => self.stdin = None,
            Input::Uplinks(Some(batch)) => self.waiting.extend(batch),
            Input::Written => {}
        }
        Ok(())
    }

    /// Takes an event; once the end is near, new messages are left to the broker, unacknowledged.
    fn handle_client_event(
        &mut self,
        connection: &mut RequestConnection,
        event: Event,
    ) -> Result<(), Failure> {
        let (message, receipt) = match event {
            Event::Message(message, receipt) => (message, receipt),
            event => {
                if matches!(event, Event::Subscribed) {
                    self.console.note("listening");
                }
                self.requests.handle_client_event(connection, event);
                return Ok(());
            }
        };
        // What a broker sends after every SUBSCRIBE, or again, is no progress.
        if !message.retain && !message.dup {
            connection.client().progress();
        }
        let is_wanted = self.filter.wants(&message, connection.gateway().topics());
        let is_full = self.ending.is_some() || self.has_enough();
        // What will not be recorded is not acknowledged either, though it may be an answer to us.
        if !(is_full && is_wanted) {
            let recorded = is_wanted.then(|| self.record(connection, &message));
            let number = self.first + self.arrived.len() as u64;
            self.arrived.push_back(Arrived { receipt, recorded, awaits_answer: false });
            if is_wanted {
                self.command(connection, &message, number)?;
            }
        }
        if connection.gateway().awaits_answers() && Self::may_be_answer(connection, &message) {
            connection.handle_message(message);
        }
        Ok(())
    }

    fn handle_gateway_event(&mut self, event: GatewayEvent<ResultContexts>) {
        self.requests.handle_event(event);
    }
}

/// Waits until more records are safe; for ever without a file. Cancel-safe.
async fn progress(out: &mut Option<BatchWriter>) -> Result<(), Failure> {
    match out {
        Some(out) => match out.progress().await {
            Ok(_) => Ok(()),
            Err(WriterError::Failed(failure)) => Err(failure),
            Err(WriterError::ReaderGone) => Err(Failure::io("nobody reads the records")),
        },
        None => std::future::pending().await,
    }
}

/// The next inputs of stdin; none for ever without one.
async fn next_batch(
    stdin: &mut Option<InputStream<ParsedInput>>,
) -> Result<Option<Vec<ParsedInput>>, Failure> {
    match stdin {
        Some(source) => source.next().await,
        None => std::future::pending().await,
    }
}

fn subscriptions(
    options: &ListenOptions,
    settings: &ConnectionSettings,
    gateway: &GatewayId,
    asks: bool,
) -> Vec<(String, QoS)> {
    let topic = |channel| settings.topics.topic(channel, gateway);
    let downlinks = [Channel::SyncResponse, Channel::Command, Channel::ReportResponse];
    let mut filters = if options.hears_all {
        // A profile may have put some of its topics elsewhere.
        let all = format!("gateway_id/{gateway}/#");
        let elsewhere = Channel::ALL.map(topic).into_iter().filter(|topic| !matches(&all, topic));
        [all.clone()].into_iter().chain(elsewhere).collect()
    } else if options.topics.is_empty() {
        downlinks.map(topic).to_vec()
    } else {
        options.topics.clone()
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
    filters.into_iter().map(|filter| (filter, settings.qos)).collect()
}

fn unix_us() -> i64 {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    i64::try_from(since.as_micros()).unwrap_or(i64::MAX)
}
