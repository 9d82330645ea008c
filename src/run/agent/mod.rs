//! The agent: holds a gateway's one connection, and serves local programs on a Unix socket.
//!
//! The upstream side is [`Listen`](super::listen): records, commands, and their answers. The local side is a broker with an
//! `AgentHandler`. Between them the agent forwards messages and answers, and says statuses by itself.

mod devices;
mod handler;
mod spooled;
mod subjects;

use std::{
    rc::Rc,
    time::{Duration, Instant},
};

use tokio::{
    signal::unix::{Signal, SignalKind, signal},
    sync::Notify,
    task::spawn_local,
    time::{Interval, MissedTickBehavior},
};

pub use self::devices::DeviceOptions;
use self::{
    devices::AgentDevices,
    handler::{AgentHandler, AgentRequest, in_seconds},
    spooled::Spooled,
};
use super::{
    connection_settings::ConnectionSettings,
    event_loop::{self, Policy},
    listen::{Listen, ListenEnd, ListenInput, ListenOptions},
    requests::RequestConnection,
    results::ResultContexts,
    runtime::run_local,
    warnings::WarningLimiter,
};
use crate::{
    agent::{AgentStatus, ForwardId, LocalTopics},
    error::{Exit, Failure},
    gateway::{GatewayEvent, PreparedRequest, RequestOutcome},
    io::{agent_socket::AgentSocket, console::Console, service_manager::ServiceManager},
    mqtt::codec::{Message, Publish},
    net::{
        client::ClientEvent,
        server::{Broker, ServerLimits},
    },
    request::RequestParser,
    run::agent_link::topics_by_key,
    tuya::{Answer, Channel, Envelope},
};
pub use spooled::SpoolSettings;

/// Limit of forwarded messages that the broker has not acknowledged.
const WINDOW: usize = 1000;

/// What an agent is to do.
pub struct AgentOptions {
    /// What it records, and how it answers commands.
    pub listen: ListenOptions,
    /// The broker's URL, for the status.
    pub broker: String,
    /// Whose status it says.
    pub devices: DeviceOptions,
    /// The spool, if it has one.
    pub spool: Option<SpoolSettings>,
    /// How long it lives without a program and without messages.
    pub idle_exit: Option<Duration>,
    /// Whether the mode of the socket lets a group in.
    pub admits_group: bool,
}

/// Runs an agent on its socket until a signal, or until a program asks it to end.
///
/// # Errors
/// Files that cannot be used.
pub fn run(
    mut settings: ConnectionSettings,
    parser: RequestParser,
    options: AgentOptions,
    socket: AgentSocket,
    manager: ServiceManager,
    console: Console,
) -> anyhow::Result<Exit> {
    settings.client.gives_up = false;
    settings.client.is_patient = true;
    run_local(Box::pin(serve(settings, parser, options, socket, manager, console)))
}

async fn serve(
    mut settings: ConnectionSettings,
    parser: RequestParser,
    options: AgentOptions,
    mut socket: AgentSocket,
    manager: ServiceManager,
    console: Console,
) -> Result<Exit, Failure> {
    let AgentOptions { listen, broker, devices, spool, idle_exit, admits_group } = options;
    let gateway = settings.gateway_id.clone().ok_or_else(|| Failure::invalid("no gateway id is given"))?;
    let topics = LocalTopics::new(settings.topics.clone(), gateway.clone());
    let status = AgentStatus {
        version: env!("CARGO_PKG_VERSION").to_owned(),
        pid: std::process::id(),
        since: now_text(),
        broker,
        gateway_id: gateway.to_string(),
        username: settings.client.connect.username.clone().unwrap_or_default(),
        topics: topics_by_key(&settings.topics, &gateway),
        ..AgentStatus::default()
    };
    let devices = AgentDevices::load(devices)?;
    settings.client.connect.will = devices.will(&settings, listen.unit)?;
    let spool = spool.map(|spool| Spooled::open(spool, console)).transpose()?;
    let work = Rc::new(Notify::new());
    let answers = listen.policy.is_some();
    let mut handler = AgentHandler::new(topics, answers, status, Rc::clone(&work));
    if let Some(spool) = &spool {
        handler.set_spool(spool.store());
        handler.set_status(|status| status.spool = Some(spool.status()));
    }
    let (listen, mut connection) = Listen::new(settings, parser, listen, console)?;
    let listener = socket.take_listener().ok_or_else(|| Failure::io("the socket does not listen"))?;
    let limits = ServerLimits { session_expiry: Duration::ZERO, ..ServerLimits::default() };
    let broker = Rc::new(Broker::local(listener, admits_group, handler, limits, Instant::now())?);
    let serving = Rc::clone(&broker);
    spawn_local(async move { serving.serve().await });
    let mut rounds = devices.interval().map(tokio::time::interval);
    if let Some(rounds) = &mut rounds {
        rounds.set_missed_tick_behavior(MissedTickBehavior::Delay);
    }
    let hangup = signal(SignalKind::hangup());
    let hangup = hangup.map_err(|why| Failure::io(format!("cannot listen for signals: {why}")))?;
    let mut watchdog = manager.watchdog().map(tokio::time::interval);
    if let Some(watchdog) = &mut watchdog {
        watchdog.set_missed_tick_behavior(MissedTickBehavior::Delay);
    }
    let mut agent = Agent {
        manager,
        watchdog,
        listen,
        broker,
        work,
        devices,
        spool,
        rounds,
        hangup,
        idle_exit,
        idle_since: Instant::now(),
        acknowledged: Vec::new(),
        was_connected: false,
        warnings: WarningLimiter::new(Some(console)),
        console,
    };
    console.note(&format!("the agent of {gateway} serves {}", socket.path().display()));
    agent.tell_manager(ServiceManager::ready);
    let end = event_loop::run(&mut connection, &mut agent).await;
    agent.tell_manager(ServiceManager::stopping);
    Ok(Box::pin(agent.finish(connection, end)).await)
}

struct Agent {
    manager: ServiceManager,
    watchdog: Option<Interval>,
    listen: Listen,
    broker: Rc<Broker<AgentHandler>>,
    work: Rc<Notify>,
    devices: AgentDevices,
    spool: Option<Spooled>,
    rounds: Option<Interval>,
    hangup: Signal,
    idle_exit: Option<Duration>,
    idle_since: Instant,
    /// Forwarded messages that the edge has acknowledged, and whose programs have not been told.
    acknowledged: Vec<ForwardId>,
    was_connected: bool,
    /// Warnings of programs, of which there may be many.
    warnings: WarningLimiter,
    console: Console,
}

/// Events of the agent beside those of its connection.
enum AgentInput {
    Listen(Box<ListenInput>),
    /// Local programs or the spool have something.
    Work,
    /// The files are to be read again.
    Hangup,
    /// It is time to say the statuses.
    Round,
    /// It is time to tell the service manager that the loop runs.
    Watchdog,
}

impl Agent {
    /// Does what local programs ask for.
    fn serve_programs(&mut self, connection: &mut RequestConnection) -> Result<(), Failure> {
        let acknowledged = std::mem::take(&mut self.acknowledged);
        let is_connected = connection.gateway().is_connected();
        let room = WINDOW.saturating_sub(connection.gateway().len());
        let (forwards, requests, warnings) = self.broker.turn(|handler, _| {
            for id in acknowledged {
                handler.handle_acknowledged(id);
            }
            let mut forwards = Vec::new();
            while is_connected && forwards.len() < room {
                let Some(forward) = handler.poll_forward() else { break };
                forwards.push(forward);
            }
            let requests: Vec<_> = std::iter::from_fn(|| handler.poll_request()).collect();
            let warnings: Vec<_> = std::iter::from_fn(|| handler.poll_warning()).collect();
            (forwards, requests, warnings)
        });
        if !forwards.is_empty() {
            let now = connection.moment();
            let qos = self.listen.qos;
            for forward in forwards {
                let publish = Publish { topic: forward.topic, payload: forward.payload, qos, retain: false };
                let context = ResultContexts::Forwarded(forward.id.0);
                connection.insert(now, PreparedRequest::forwarded(publish), context)?;
            }
        }
        for warning in warnings {
            self.warnings.warn(&warning);
        }
        for request in requests {
            match request {
                AgentRequest::Stop => {
                    if self.devices.says_offline() {
                        self.say_statuses(connection, false)?;
                    }
                    self.listen.end(Exit::SUCCESS);
                }
                AgentRequest::Reload => self.reload(),
            }
        }
        Ok(())
    }

    /// Reads the files again; what cannot be read leaves all as it was.
    fn reload(&mut self) {
        self.tell_manager(ServiceManager::reloading);
        match self.devices.reload() {
            Ok(devices) => {
                if let Some(known) = devices {
                    self.listen.set_known_devices(known);
                }
                self.console.note("the files were read again");
            }
            Err(failure) => self.console.warn(&format!("nothing was read again: {}", failure.message)),
        }
        self.tell_manager(ServiceManager::ready);
    }

    /// Tells the service manager something. The service goes on if that fails.
    fn tell_manager(&self, tell: impl FnOnce(&ServiceManager) -> Result<(), Failure>) {
        if let Err(failure) = tell(&self.manager) {
            self.console.warn(&failure.message);
        }
    }

    /// Takes a message of the edge before it is recorded. Returns whether it is for local programs alone.
    fn handle_downlink(&mut self, connection: &RequestConnection, message: &Message) -> bool {
        let topics = connection.gateway().topics();
        let channel = topics.classify(&message.topic, &message.payload).and_then(|(channel, _)| channel);
        let mut synced = None;
        let is_answer = matches!(channel, Some(Channel::SyncResponse | Channel::ReportResponse));
        let answer = if is_answer && !message.retain {
            Envelope::<Answer>::decode(&message.payload).ok().map(|answer| answer.body)
        } else {
            None
        };
        if let Some(answer) = &answer
            && channel == Some(Channel::SyncResponse)
            && answer.code.is_success()
        {
            synced.clone_from(&answer.cid);
        }
        let is_theirs = self.broker.turn(|handler, _| {
            if let Some(answer) = &answer {
                handler.note_answer(answer.code);
            }
            handler.handle_downlink(message, channel)
        });
        if let Some(cid) = synced {
            self.devices.handle_synchronised(&cid);
        }
        is_theirs
    }

    fn handle_connection(&mut self, event: &ClientEvent) {
        match event {
            ClientEvent::Subscribed => {
                self.tell_manager(|manager| manager.status("connected to the edge"));
                let is_again = std::mem::replace(&mut self.was_connected, true);
                self.broker.turn(|handler, _| {
                    handler.set_status(|status| {
                        status.connected = true;
                        status.since = now_text();
                        status.reconnects += u64::from(is_again);
                    });
                });
            }
            ClientEvent::Lost { reason, .. } => {
                self.tell_manager(|manager| manager.status(&format!("not connected to the edge: {reason}")));
                self.broker.turn(|handler, _| {
                    handler.set_status(|status| {
                        if std::mem::take(&mut status.connected) {
                            status.since = now_text();
                        }
                        status.reason.clone_from(reason);
                    });
                });
            }
            _ => {}
        }
    }

    /// Says the status of every device.
    fn say_statuses(&mut self, connection: &mut RequestConnection, online: bool) -> Result<(), Failure> {
        for request in self.devices.statuses(online) {
            let now = connection.moment();
            self.listen.requests.send(connection, now, request, None)?;
        }
        Ok(())
    }

    fn is_idle(&self) -> bool {
        let is_used =
            self.broker.turn(|handler, _| handler.clients() > 0 || !handler.forwarding().is_empty());
        !is_used && self.spool.as_ref().is_none_or(Spooled::is_empty)
    }

    async fn finish(self, connection: RequestConnection, end: Result<ListenEnd, Failure>) -> Exit {
        let Self { listen, spool, broker, .. } = self;
        let exit = Box::pin(listen.finish(connection, end)).await;
        broker.turn(|handler, _| handler.take_spool());
        if let Some(spool) = spool {
            spool.close().await;
        }
        // A service manager ends a service in good order by SIGTERM.
        if exit == Exit::TERMINATED { Exit::SUCCESS } else { exit }
    }
}

impl Policy for Agent {
    type Context = ResultContexts;
    type Input = AgentInput;
    type End = ListenEnd;

    fn advance(&mut self, connection: &mut RequestConnection) -> Result<Option<ListenEnd>, Failure> {
        self.serve_programs(connection)?;
        if let Some(spool) = &mut self.spool {
            spool.advance(connection, &self.broker)?;
        }
        if let Some(limit) = self.idle_exit {
            if !self.is_idle() {
                self.idle_since = Instant::now();
            } else if self.idle_since.elapsed() >= limit {
                self.listen.end(Exit::SUCCESS);
            }
        }
        self.listen.advance(connection)
    }

    fn next_wake(&self) -> Option<Instant> {
        let idle = self.idle_exit.map(|limit| self.idle_since + limit).filter(|_| !self.listen.is_ending());
        let spool = self.spool.as_ref().and_then(Spooled::next_wake);
        self.listen.next_wake().into_iter().chain(idle).chain(spool).min()
    }

    async fn next_input(&mut self) -> Result<AgentInput, Failure> {
        let Self { listen, work, hangup, rounds, spool, watchdog, .. } = self;
        tokio::select! {
            input = listen.next_input() => input.map(|input| AgentInput::Listen(Box::new(input))),
            () = work.notified() => Ok(AgentInput::Work),
            () = spooled::changed(spool) => Ok(AgentInput::Work),
            _ = hangup.recv() => Ok(AgentInput::Hangup),
            () = tick(rounds) => Ok(AgentInput::Round),
            () = tick(watchdog) => Ok(AgentInput::Watchdog),
        }
    }

    fn handle_input(&mut self, connection: &mut RequestConnection, input: AgentInput) -> Result<(), Failure> {
        match input {
            AgentInput::Listen(input) => {
                if matches!(*input, ListenInput::Signal(_)) && self.devices.says_offline() {
                    self.say_statuses(connection, false)?;
                }
                self.listen.handle_input(connection, *input)
            }
            AgentInput::Work => Ok(()),
            AgentInput::Hangup => {
                self.reload();
                Ok(())
            }
            AgentInput::Round => self.say_statuses(connection, true),
            AgentInput::Watchdog => {
                self.tell_manager(ServiceManager::feed_watchdog);
                Ok(())
            }
        }
    }

    fn handle_client_event(
        &mut self,
        connection: &mut RequestConnection,
        event: ClientEvent,
    ) -> Result<(), Failure> {
        self.handle_connection(&event);
        match event {
            ClientEvent::Message(message, receipt) => {
                let is_theirs = self.handle_downlink(connection, &message);
                self.listen.handle_arrival(connection, &message, receipt)?;
                if !is_theirs && connection.gateway().awaits_answers() {
                    Listen::handle_answer(connection, message);
                }
                Ok(())
            }
            ClientEvent::Ready { resumed } => {
                if !resumed {
                    let is_forwarded =
                        |context: &ResultContexts| matches!(context, ResultContexts::Forwarded(_));
                    connection.gateway_mut().withdraw(is_forwarded);
                }
                self.broker.turn(|handler, _| handler.forwarding().handle_connected(resumed));
                self.listen.handle_client_event(connection, ClientEvent::Ready { resumed })
            }
            event => self.listen.handle_client_event(connection, event),
        }
    }

    fn handle_gateway_event(&mut self, event: GatewayEvent<ResultContexts>) {
        match event {
            GatewayEvent::Ended(ended, outcome) => match ended.context {
                ResultContexts::Forwarded(id) => {
                    if let RequestOutcome::EndsConnections(length) = outcome {
                        self.listen.requests.warn(&format!(
                            "a program's message of {length} bytes on {} ended several connections, and is given up",
                            ended.topic
                        ));
                    } else {
                        self.acknowledged.push(ForwardId(id));
                        self.work.notify_one();
                    }
                }
                ResultContexts::Spooled(id) => {
                    if let Some(spool) = &mut self.spool {
                        spool.handle_end(id, &outcome, &self.broker);
                    }
                }
                _ => self.listen.handle_gateway_event(GatewayEvent::Ended(ended, outcome)),
            },
            event => self.listen.handle_gateway_event(event),
        }
    }
}

async fn tick(rounds: &mut Option<Interval>) {
    match rounds {
        Some(rounds) => {
            rounds.tick().await;
        }
        None => std::future::pending().await,
    }
}

/// The present as an RFC 3339 time, in seconds.
fn now_text() -> String {
    in_seconds(jiff::Timestamp::now())
}
