//! `status --every` and `--offline-on-exit`: keeps saying which devices are online, and says offline at the end.

use std::{
    sync::Arc,
    time::{Duration, Instant},
};

use tokio::time::MissedTickBehavior;

use crate::{
    cli::connection::Connection,
    error::{Exit, Failure, Kind},
    io::{console::Console, input::Source, request_ids::request_id},
    mqtt::codec::Will,
    request::parser::{Asked, Body, Item, Operation, Operations, status_item},
    run::{
        batch::RequestArgs,
        exchange::Exchange,
        grace::Grace,
        results::{Manner, Progress, Results},
    },
    tuya::{Channel, DeviceStatus, Envelope, Uplink},
};

/// How long the end may take: what is in flight, and the farewell.
const GRACE: Duration = Duration::from_millis(1500);
/// MQTT gives a will's length two bytes (MQTT 3.1.1, section 3.1.3.3).
const LONGEST_WILL: usize = 65_535;

/// A device of the input.
struct Device {
    status: DeviceStatus,
    /// The time stamp that the input gives.
    t: Option<i64>,
    line: Option<u64>,
    input: Arc<str>,
}

/// Keeps on reporting until a signal.
pub struct Every {
    exchange: Exchange,
    devices: Vec<Device>,
    interval: Option<Duration>,
    offline_on_exit: bool,
    console: Console,
}

impl Every {
    /// Reads the input to its end, which a later round and the will need.
    ///
    /// # Errors
    /// An input that is invalid, or too long for a will.
    pub async fn new(
        mut connection: Connection,
        operations: Operations,
        source: Source,
        args: &RequestArgs,
        interval: Option<Duration>,
        offline_on_exit: bool,
        console: Console,
    ) -> Result<Self, Failure> {
        let mut devices = Vec::new();
        let mut input = source.start(move |input, asked| operations.take(Operation::Status, input, asked))?;
        while let Some(batch) = input.next().await? {
            for Asked { line, text, item, .. } in batch {
                let item = item.map_err(|invalid| {
                    let line = line.map(|line| format!("line {line}: ")).unwrap_or_default();
                    Failure::invalid(format!("{line}{}", invalid.message))
                })?;
                let (t, part) = (item.t, item.part.clone());
                for status in statuses(item) {
                    let input =
                        part.as_ref().map(|part| part.input_of(&text, &status.cid, Some(status.status)));
                    let input = input.map_or_else(|| Arc::clone(&text), Arc::from);
                    devices.push(Device { status, t, line, input });
                }
            }
        }
        if devices.is_empty() {
            return Err(Failure::invalid("the input names no device"));
        }
        if offline_on_exit {
            connection.settings.connect.will = Some(will(&connection, &devices, args)?);
        }
        let results = Results::new(Progress::Never, Manner::default(), false, console);
        args.apply(&mut connection.settings);
        connection.settings.gives_up = false;
        let exchange = Exchange::new(connection, Vec::new(), args.t_unit(), true, results, console).patient();
        Ok(Self { exchange, devices, interval, offline_on_exit, console })
    }

    /// Runs until a signal, and gives the exit code.
    ///
    /// # Errors
    /// Where the system does not let us hear signals.
    pub async fn run(mut self) -> Result<Exit, Failure> {
        let mut grace = Grace::new(GRACE)?;
        let exit = match self.drive(&mut grace).await {
            Ok(exit) => exit,
            Err(failure) => {
                self.exchange.results.fail(&failure);
                self.exchange.fail_all(failure.kind, &failure.message);
                failure.kind.exit()
            }
        };
        grace.renew();
        self.exchange.close().await;
        let cut = async { while !grace.is_over().await {} };
        let written = self.exchange.results.finish(cut).await;
        Ok(grace.signal().unwrap_or(exit.or(written)))
    }

    async fn drive(&mut self, grace: &mut Grace) -> Result<Exit, Failure> {
        // Without an interval there is one round, and the connection is held for its end.
        let mut rounds = tokio::time::interval(self.interval.unwrap_or(Duration::from_hours(24 * 365)));
        rounds.set_missed_tick_behavior(MissedTickBehavior::Delay);
        let mut behind: Option<Instant> = None;
        loop {
            self.exchange.results.flush(self.exchange.in_flight());
            if let Some(exit) = grace.signal()
                && self.exchange.in_flight() == 0
            {
                return Ok(exit);
            }
            let is_ending = grace.signal().is_some();
            let deadline = self.exchange.deadline();
            tokio::select! {
                is_over = grace.is_over() => {
                    if is_over {
                        return Ok(self.cut_short(grace.signal().unwrap_or(Exit::TERMINATED)));
                    }
                    if self.offline_on_exit {
                        self.report(true)?;
                    }
                }
                _ = rounds.tick(), if !is_ending => {
                    if self.exchange.in_flight() == 0 {
                        behind = None;
                        self.report(false)?;
                    } else if behind.is_none() {
                        behind = Some(Instant::now());
                        self.console.warn("the last round is not acknowledged yet: this one is left out");
                    }
                }
                event = self.exchange.client.next() => {
                    self.exchange.happened(event?)?;
                    while let Some(event) = self.exchange.client.ready()? {
                        self.exchange.happened(event)?;
                    }
                }
                written = self.exchange.results.progress() => written?,
                () = crate::run::runtime::sleep_until(deadline) => {}
            }
            self.exchange.expire("")?;
        }
    }

    /// Gives up on what is in flight.
    fn cut_short(&mut self, signal: Exit) -> Exit {
        self.exchange.fail_all(Kind::Connection, "ended by a signal before the acknowledgement came");
        signal
    }

    /// Reports every device; at the end those that were online, as offline.
    fn report(&mut self, end: bool) -> Result<(), Failure> {
        for device in &self.devices {
            if end && !device.status.status {
                continue;
            }
            let cid = device.status.cid.clone();
            let item = status_item(vec![DeviceStatus { cid, status: device.status.status && !end }]);
            let item = Item { t: device.t.filter(|_| !end), ..item };
            let origin =
                self.exchange.results.origin(Operation::Status, device.line, Arc::clone(&device.input), 1);
            self.exchange.send(item, Some(origin))?;
        }
        self.exchange.send_statuses()
    }
}

fn statuses(item: Item) -> Vec<DeviceStatus> {
    match item.body {
        Body::Uplink(uplink) => match uplink {
            Uplink::Status(statuses) => statuses,
            Uplink::Sync(_) | Uplink::Report(_) | Uplink::CommandResponse(_) | Uplink::AsGiven { .. } => {
                Vec::new()
            }
        },
        Body::Command(_) => Vec::new(),
    }
}

/// What the broker says for us when the connection is cut: every device offline.
fn will(connection: &Connection, devices: &[Device], args: &RequestArgs) -> Result<Will, Failure> {
    let gateway = connection.gateway_id.as_ref().ok_or_else(|| Failure::invalid("no gateway id is given"))?;
    let offline = |device: &Device| DeviceStatus { cid: device.status.cid.clone(), status: false };
    let statuses: Vec<_> = devices.iter().filter(|device| device.status.status).map(offline).collect();
    let request_id = request_id().to_string();
    let payload = Envelope { t: args.t_unit().now(), request_id, body: Uplink::Status(statuses) }.encode();
    if payload.len() > LONGEST_WILL {
        return Err(Failure::invalid(format!(
            "--offline-on-exit: the will of these devices takes {} bytes, more than the {LONGEST_WILL} that MQTT allows",
            payload.len()
        ))
        .hint("Split the devices over several gateways, or leave --offline-on-exit out"));
    }
    Ok(Will {
        topic: connection.topics.topic(Channel::Status, gateway),
        payload: payload.into(),
        qos: connection.qos,
        retain: false,
    })
}
