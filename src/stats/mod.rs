//! What is in a recording: counts, round trips, refusals, gaps, and the values of data points over time.
//!
//! Pure, and a stream: records go in one by one, and the memory grows with the number of devices and of what can be
//! drawn, not with the number of records. `tap` keeps one too, for its summary.
#![deny(clippy::disallowed_methods, clippy::disallowed_types)]

mod correlator;
mod counters;
mod page;
mod series;
mod spread;
mod summary;
mod table;
#[cfg(test)]
mod tests;
mod timeline;

pub use self::{
    page::page,
    summary::{
        CodeDevice, CodeSummary, ConnectionSummary, DeviceSummary, DuplicateSummary, GatewaySummary,
        KindSummary, OmittedSummary, RecordingGap, RecordingSummary, RoundTripSummary, UnansweredRequest,
    },
    table::table,
};

use std::borrow::Cow;

use serde::Deserialize;

use self::{
    correlator::{Correlation, Correlator, SeenRequest},
    counters::{Counters, DeviceId},
    series::Charts,
    timeline::TrafficOverTime,
};
use crate::{
    mqtt::{ConnectCode, Direction},
    recording::{LEFT_OUT, Record, Timeline},
    tuya::{Channel, Downlink, Envelope, ResultCode, Uplink, product::Product},
};

/// A recording that is being looked at.
#[derive(Debug)]
pub struct Inspection {
    clock: Timeline,
    counters: Counters,
    correlator: Correlator,
    timeline: TrafficOverTime,
    /// Values over time; `None` where nobody will draw them.
    charts: Option<Charts>,
    /// The line of the first bad one, what is wrong with it, and how many there are.
    bad: Option<(u64, String)>,
    bad_lines: u64,
}

/// What a line without a message says: a client that came or went, or records that were left out.
#[derive(Debug, Deserialize)]
struct EventLine<'a> {
    #[serde(borrow)]
    kind: Option<Cow<'a, str>>,
    #[serde(borrow)]
    event: Option<Cow<'a, str>>,
    code: Option<u8>,
    #[serde(default)]
    records: u64,
}

impl Inspection {
    /// An empty recording; with a product its data points' values are kept for charts.
    #[must_use]
    pub fn new(charts: Option<Product>) -> Self {
        Self {
            clock: Timeline::default(),
            counters: Counters::default(),
            correlator: Correlator::default(),
            timeline: TrafficOverTime::default(),
            charts: charts.map(Charts::new),
            bad: None,
            bad_lines: 0,
        }
    }

    /// Takes the next message.
    pub fn message(&mut self, record: &Record<'_>) {
        let at = self.clock.tick(record.unix_us, record.mono_us).unix_us;
        let gateway = self.counters.gateway(record.gateway_id.as_deref().unwrap_or_default());
        self.counters.message(gateway, record, at);
        if is_copy(record) {
            return;
        }
        self.timeline.message(at, record.channel);
        let Some(channel) = record.channel else { return };
        match channel.direction() {
            Direction::Up => self.uplink(gateway, channel, record, at),
            Direction::Down => self.downlink(gateway, channel, record, at),
        }
    }

    /// Takes a line without a message, if it says something that counts.
    pub fn aside(&mut self, line: &[u8]) {
        let Ok(aside) = serde_json::from_slice::<EventLine<'_>>(line) else { return };
        match (aside.kind.as_deref(), aside.event.as_deref()) {
            (Some("connect"), _) => self.connected(aside.code.map(ConnectCode)),
            (Some("disconnect"), _) => self.disconnected(),
            (None, Some(LEFT_OUT)) => self.left_out(aside.records),
            _ => {}
        }
    }

    /// Counts a client that came, with the broker's answer.
    pub fn connected(&mut self, code: Option<ConnectCode>) {
        self.counters.connected(code);
    }

    /// Counts a client that went.
    pub fn disconnected(&mut self) {
        self.counters.connections.disconnects += 1;
    }

    /// Counts messages that the recorder itself could not write.
    pub fn left_out(&mut self, records: u64) {
        self.counters.left_out += records;
    }

    /// Notes a line, or a packet of a capture, that is no record.
    pub fn bad_line(&mut self, line: u64, why: &str) {
        self.bad_lines += 1;
        if self.bad.is_none() {
            self.bad = Some((line, why.to_owned()));
        }
    }

    /// What there was.
    #[must_use]
    pub fn summary(&self) -> RecordingSummary {
        summary::summary(self)
    }

    fn uplink(&mut self, gateway: u32, channel: Channel, record: &Record<'_>, at: i64) {
        let (request_id, cid, answer) = match Envelope::<Uplink>::decode(channel, &record.payload) {
            Ok(Envelope { request_id, body, .. }) => match body {
                Uplink::Sync(device) => (request_id, device.cid, None),
                Uplink::Report(property) => {
                    let device = self.counters.device(gateway, &property.cid);
                    if let Some(charts) = &mut self.charts {
                        charts.value(device, &property.id, &property.value, at);
                    }
                    (request_id, property.cid.into(), None)
                }
                Uplink::CommandResponse(answer) => (request_id, answer.cid, Some(answer.code)),
                Uplink::Status(statuses) => {
                    for status in statuses {
                        let device = self.counters.device(gateway, &status.cid);
                        self.counters.seen(device, channel, at).online = Some(status.status);
                    }
                    return;
                }
                Uplink::AsGiven { .. } => return,
            },
            Err(refused) => match self.unreadable(channel, refused) {
                Some((request_id, cid)) => (request_id, cid, None),
                None => return,
            },
        };
        let device = self.counters.device(gateway, &cid);
        self.counters.seen(device, channel, at);
        self.meet(gateway, channel, &request_id, device, answer, at);
    }

    fn downlink(&mut self, gateway: u32, channel: Channel, record: &Record<'_>, at: i64) {
        let (request_id, cid, answer) = match Envelope::<Downlink>::decode(channel, &record.payload) {
            Ok(Envelope { request_id, body, .. }) => match body {
                Downlink::SyncResponse(answer) | Downlink::ReportResponse(answer) => {
                    (request_id, answer.cid.unwrap_or_default().into(), Some(answer.code))
                }
                Downlink::Command(command) => (request_id, command.cid, None),
            },
            Err(refused) => match self.unreadable(channel, refused) {
                Some((request_id, cid)) => (request_id, cid, None),
                None => return,
            },
        };
        let device = self.counters.device(gateway, &cid);
        if channel == Channel::Command {
            self.counters.seen(device, channel, at);
        }
        self.meet(gateway, channel, &request_id, device, answer, at);
    }

    /// A request that breaks the protocol still wants an answer; an answer that does is none.
    fn unreadable(&mut self, channel: Channel, refused: crate::tuya::Refused) -> Option<(String, String)> {
        self.counters.kind(Some(channel)).malformed += 1;
        channel.response()?;
        Some((refused.request_id?, refused.cid.unwrap_or_default()))
    }

    fn meet(
        &mut self,
        gateway: u32,
        channel: Channel,
        request_id: &str,
        device: DeviceId,
        answer: Option<ResultCode>,
        at: i64,
    ) {
        let Some(code) = answer else {
            if channel.response().is_some() {
                let lost = self.correlator.ask(channel, gateway, request_id, SeenRequest { device, at });
                if let Some(lost) = lost {
                    self.counters.unanswered(lost.device);
                }
            }
            return;
        };
        let met = self.correlator.answer(channel, gateway, request_id, at);
        let device = match &met {
            // The request says whose it was, where the answer does not.
            Correlation::Answered { device, round_trip_us }
            | Correlation::Again { device, round_trip_us } => {
                if let Some(request) = requested_by(channel)
                    && matches!(met, Correlation::Answered { .. })
                {
                    self.timeline.round_trip(at - round_trip_us, request, *round_trip_us);
                }
                *device
            }
            Correlation::Unasked => device,
        };
        if !matches!(met, Correlation::Again { .. }) {
            self.counters.code(channel, code, device);
            if !code.is_success() {
                self.timeline.refusal(at);
            }
        }
    }
}

/// Whether a message goes against its channel's direction, and so is a copy: a command on its way from the platform's
/// client to the edge, or what a client hears of its own gateway's uplinks.
fn is_copy(record: &Record<'_>) -> bool {
    record.channel.zip(record.dir).is_some_and(|(channel, dir)| dir != channel.direction())
}

/// The channel whose messages are answered on this one.
fn requested_by(response: Channel) -> Option<Channel> {
    Channel::ALL.into_iter().find(|channel| channel.response() == Some(response))
}
