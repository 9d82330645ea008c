//! `status --every` and `--offline-on-exit`: reports devices at an interval, and reports them offline at the end.

use std::{sync::Arc, time::Duration};

use tokio::time::{Interval, MissedTickBehavior};

use super::{
    batch::BatchOptions,
    connection_settings::ConnectionSettings,
    event_loop::{self, ConnectionOptions, GatewayConnection, Policy},
    grace::Grace,
    requests::{RequestConnection, Requests},
    results::{ProgressMode, ResultContexts, ResultOptions, Results},
    time_unit::TimeUnit,
};
use crate::{
    error::{Exit, Failure, FailureKind},
    gateway::{GatewayEvent, Payload},
    io::{console::Console, input::InputSource, request_ids::request_id},
    mqtt::codec::Will,
    net::client::ClientEvent,
    request::{ParsedInput, Request, RequestKind, RequestParser, status_request},
    tuya::{Channel, DeviceStatus, Envelope, Uplink},
};

/// How long the end may take: requests in flight, the last report, and DISCONNECT.
const GRACE: Duration = Duration::from_millis(1500);
/// MQTT gives a will's length two bytes (MQTT 3.1.1, section 3.1.3.3).
const LONGEST_WILL: usize = 65_535;

/// A device of the input.
struct HeartbeatDevice {
    status: DeviceStatus,
    /// The time stamp that the input gives.
    t: Option<i64>,
    line: Option<u64>,
    input: Arc<str>,
}

/// Events of a heartbeat beside those of its connection.
enum HeartbeatInput {
    /// The first signal (false); a second one, or the end of the grace (true).
    Grace(bool),
    /// A round is due.
    Round,
    /// More results are written.
    Written,
}

/// Reports every device in rounds, until a signal.
struct Heartbeat {
    requests: Requests,
    devices: Vec<HeartbeatDevice>,
    rounds: Interval,
    offline_on_exit: bool,
    grace: Grace,
    is_over: bool,
    /// Whether the last round is not acknowledged, although the next one is due.
    is_behind: bool,
    console: Console,
}

/// Reads the input to its end, because the rounds and the will need all of it, and reports until a signal.
///
/// # Errors
/// An input that is invalid, or too long for a will.
pub async fn run(
    mut settings: ConnectionSettings,
    parser: RequestParser,
    source: InputSource,
    options: &BatchOptions,
    interval: Option<Duration>,
    offline_on_exit: bool,
    console: Console,
) -> Result<Exit, Failure> {
    let devices = read(parser, source).await?;
    if offline_on_exit {
        settings.client.connect.will = Some(will(&settings, &devices, options.unit)?);
    }
    options.apply(&mut settings.client);
    settings.client.gives_up = false;
    let connection_options =
        ConnectionOptions { waits_for_answers: true, endures_outages: true, ..ConnectionOptions::default() };
    let mut connection = GatewayConnection::new(settings, connection_options, options.unit);
    let results = Results::new(ProgressMode::Never, ResultOptions::default(), false, console);
    // Without an interval there is one round, and the connection stays open until a signal.
    let mut rounds = tokio::time::interval(interval.unwrap_or(Duration::from_hours(24 * 365)));
    rounds.set_missed_tick_behavior(MissedTickBehavior::Delay);
    let mut heartbeat = Heartbeat {
        requests: Requests::new(results, &connection, console),
        devices,
        rounds,
        offline_on_exit,
        grace: Grace::new(GRACE)?,
        is_over: false,
        is_behind: false,
        console,
    };
    let end = event_loop::run(&mut connection, &mut heartbeat).await;
    Ok(heartbeat.finish(connection, end).await)
}

async fn read(parser: RequestParser, source: InputSource) -> Result<Vec<HeartbeatDevice>, Failure> {
    let mut devices = Vec::new();
    let mut input = source.start(move |input, parsed| parser.parse(RequestKind::Status, input, parsed))?;
    while let Some(batch) = input.next().await? {
        for ParsedInput { line, text, request, .. } in batch {
            let request = request.map_err(|invalid| {
                let line = line.map(|line| format!("line {line}: ")).unwrap_or_default();
                Failure::invalid(format!("{line}{}", invalid.message))
            })?;
            let (t, part) = (request.t, request.part.clone());
            for status in statuses(request) {
                let input = part.as_ref().map(|part| part.input_of(&text, &status.cid, Some(status.status)));
                let input = input.map_or_else(|| Arc::clone(&text), Arc::from);
                devices.push(HeartbeatDevice { status, t, line, input });
            }
        }
    }
    if devices.is_empty() { Err(Failure::invalid("the input names no device")) } else { Ok(devices) }
}

impl Heartbeat {
    /// Reports every device; at the end those that were online, as offline.
    fn report(&mut self, connection: &mut RequestConnection, is_end: bool) -> Result<(), Failure> {
        for device in &self.devices {
            if is_end && !device.status.status {
                continue;
            }
            let cid = device.status.cid.clone();
            let request = status_request(vec![DeviceStatus { cid, status: device.status.status && !is_end }]);
            let request = Request { t: device.t.filter(|_| !is_end), ..request };
            let input = Arc::clone(&device.input);
            let position = self.requests.results.next_position(RequestKind::Status, device.line, input, 1);
            self.requests.send(connection, connection.moment(), request, Some(position))?;
        }
        self.requests.send_statuses(connection)
    }

    /// Reports open requests as failed, closes the connection, and returns the exit code.
    async fn finish(mut self, mut connection: RequestConnection, end: Result<Exit, Failure>) -> Exit {
        let exit = match end {
            Ok(exit) => {
                let message = "ended by a signal before the acknowledgement came";
                self.requests.fail_all(&mut connection, FailureKind::Connection, message);
                exit
            }
            Err(failure) => {
                self.requests.results.set_failure(&failure);
                self.requests.fail_all(&mut connection, failure.kind, &failure.message);
                failure.kind.exit()
            }
        };
        self.grace.renew();
        connection.close().await;
        self.requests.finish_warnings();
        let mut grace = self.grace;
        let cut = async { while !grace.is_over().await {} };
        let written = self.requests.results.finish(cut).await;
        grace.signal().unwrap_or(exit.or(written))
    }
}

impl Policy for Heartbeat {
    type Context = ResultContexts;
    type Input = HeartbeatInput;
    type End = Exit;

    fn advance(&mut self, connection: &mut RequestConnection) -> Result<Option<Exit>, Failure> {
        let in_flight = connection.gateway().len();
        self.requests.results.flush(in_flight);
        let is_done = in_flight == 0 || self.is_over;
        Ok(self.grace.signal().filter(|_| is_done))
    }

    async fn next_input(&mut self) -> Result<HeartbeatInput, Failure> {
        let Self { grace, rounds, requests, .. } = self;
        let is_ending = grace.signal().is_some();
        tokio::select! {
            is_over = grace.is_over() => Ok(HeartbeatInput::Grace(is_over)),
            _ = rounds.tick(), if !is_ending => Ok(HeartbeatInput::Round),
            written = requests.results.committed_changed() => written.map(|()| HeartbeatInput::Written),
        }
    }

    fn handle_input(
        &mut self,
        connection: &mut RequestConnection,
        input: HeartbeatInput,
    ) -> Result<(), Failure> {
        match input {
            HeartbeatInput::Grace(true) => self.is_over = true,
            HeartbeatInput::Grace(false) if self.offline_on_exit => self.report(connection, true)?,
            HeartbeatInput::Round if connection.gateway().is_empty() => {
                self.is_behind = false;
                self.report(connection, false)?;
            }
            HeartbeatInput::Round if !self.is_behind => {
                self.is_behind = true;
                self.console.warn("the last round is not acknowledged yet: skipping this one");
            }
            HeartbeatInput::Grace(false) | HeartbeatInput::Round | HeartbeatInput::Written => {}
        }
        Ok(())
    }

    fn handle_client_event(
        &mut self,
        connection: &mut RequestConnection,
        event: ClientEvent,
    ) -> Result<(), Failure> {
        self.requests.handle_client_event(connection, event);
        Ok(())
    }

    fn handle_gateway_event(&mut self, event: GatewayEvent<ResultContexts>) {
        self.requests.handle_event(event);
    }
}

fn statuses(request: Request) -> Vec<DeviceStatus> {
    match request.payload {
        Payload::Uplink(uplink) => match uplink {
            Uplink::Status(statuses) => statuses,
            Uplink::Sync(_) | Uplink::Report(_) | Uplink::CommandResponse(_) | Uplink::AsGiven { .. } => {
                Vec::new()
            }
        },
        Payload::Command(_) => Vec::new(),
    }
}

/// Returns the will, which the broker publishes when the connection is cut: every online device is offline.
fn will(settings: &ConnectionSettings, devices: &[HeartbeatDevice], unit: TimeUnit) -> Result<Will, Failure> {
    let gateway = settings.gateway_id.as_ref().ok_or_else(|| Failure::invalid("no gateway id is given"))?;
    let offline = |device: &HeartbeatDevice| DeviceStatus { cid: device.status.cid.clone(), status: false };
    let statuses: Vec<_> = devices.iter().filter(|device| device.status.status).map(offline).collect();
    let request_id = request_id().to_string();
    let payload = Envelope { t: unit.now(), request_id, body: Uplink::Status(statuses) }.encode();
    if payload.len() > LONGEST_WILL {
        return Err(Failure::invalid(format!(
            "--offline-on-exit: the will of these devices takes {} bytes, more than the {LONGEST_WILL} that MQTT allows",
            payload.len()
        ))
        .hint("Split the devices over several gateways, or leave out --offline-on-exit"));
    }
    Ok(Will {
        topic: settings.topics.topic(Channel::Status, gateway),
        payload: payload.into(),
        qos: settings.qos,
        retain: false,
    })
}
