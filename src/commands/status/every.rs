//! `status --every` and `--offline-on-exit`: keeps saying which devices are online, and says offline at the end.

use std::{
    sync::Arc,
    time::{Duration, Instant},
};

use tokio::time::MissedTickBehavior;

use crate::{
    commands::{
        Console,
        connection::Connection,
        exchange::Exchange,
        ids::request_id,
        input::Source,
        operations::{Asked, Body, Item, Operation, Operations, status_item},
        requests::RequestArgs,
        results::{Manner, Progress, Results},
        signals::Signals,
    },
    failure::{Exit, Failure, Kind},
    mqtt::packet::Will,
    protocol::{Channel, DeviceStatus, Envelope, Uplink},
};

/// How long the end may take: what is in flight, and the farewell.
const GRACE: Duration = Duration::from_millis(1500);
/// MQTT gives a will's length two bytes (MQTT 3.1.1, section 3.1.3.3).
const LONGEST_WILL: usize = 65_535;

/// A device of the input.
struct Device {
    status: DeviceStatus,
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
                let device = |status| Device { status, line, input: Arc::clone(&text) };
                devices.extend(statuses(item).into_iter().map(device));
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
        let exchange = Exchange::new(connection, Vec::new(), args.t_unit(), true, results, console).patient();
        Ok(Self { exchange, devices, interval, offline_on_exit, console })
    }

    /// Runs until a signal, and gives the exit code.
    pub async fn run(mut self) -> Exit {
        let exit = match self.drive().await {
            Ok(exit) => exit,
            Err(failure) => {
                self.exchange.fail_all(failure.kind, &failure.message);
                self.exchange.results.fail(&failure);
                failure.kind.exit()
            }
        };
        self.exchange.close().await;
        exit.or(self.exchange.results.finish().await)
    }

    async fn drive(&mut self) -> Result<Exit, Failure> {
        let mut signals = Signals::new()?;
        let mut ending = None;
        let mut grace = None;
        // Without an interval there is one round, and the connection is held for its end.
        let mut rounds = tokio::time::interval(self.interval.unwrap_or(Duration::from_hours(24 * 365)));
        rounds.set_missed_tick_behavior(MissedTickBehavior::Delay);
        let mut behind: Option<Instant> = None;
        loop {
            self.exchange.results.flush(self.exchange.in_flight());
            if let Some(exit) = ending
                && self.exchange.in_flight() == 0
            {
                return Ok(exit);
            }
            let deadline = self.exchange.deadline();
            tokio::select! {
                signal = signals.next() => {
                    if ending.is_some() {
                        return Ok(self.cut_short(signal));
                    }
                    ending = Some(signal);
                    grace = Some(Instant::now() + GRACE);
                    if self.offline_on_exit {
                        self.report(true)?;
                    }
                }
                _ = rounds.tick(), if ending.is_none() => {
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
                () = crate::commands::sleep_until(deadline) => {}
                () = crate::commands::sleep_until(grace) => {
                    return Ok(self.cut_short(ending.unwrap_or(Exit::TERMINATED)));
                }
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
