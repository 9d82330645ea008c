//! Takes the entries of a recording, one by one, and collects its figures.

use std::borrow::Cow;

use serde::Deserialize;

use super::{
    correlator::{Correlation, Correlator, SeenRequest},
    counters::{Counters, DeviceId},
    direction::{is_copy, requested_by},
    series::Charts,
    timeline::TrafficOverTime,
};
use crate::{
    mqtt::{ConnectCode, Direction},
    recording::{LEFT_OUT, Record, Timeline},
    tuya::{Channel, Downlink, Envelope, ResultCode, Uplink, product::Product},
};

/// Collects the figures of a recording. Its memory grows with the number of devices and of points to draw, not with the number
/// of records.
#[derive(Debug)]
pub struct Inspection {
    pub(super) clock: Timeline,
    pub(super) counters: Counters,
    pub(super) correlator: Correlator,
    pub(super) timeline: TrafficOverTime,
    /// Values over time; `None` if they will not be drawn.
    pub(super) charts: Option<Charts>,
    /// The first line that cannot be read, and why.
    pub(super) bad: Option<(u64, String)>,
    pub(super) bad_lines: u64,
}

/// A line without a message: a connect, a disconnect, or a mark of records that were left out.
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
    /// Returns the figures of an empty recording. With a product, values of its data points are kept for charts.
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

    /// Handles the next message.
    pub fn handle_message(&mut self, record: &Record<'_>) {
        let at = self.clock.advance(record.unix_us, record.mono_us).unix_us;
        let gateway = self.counters.gateway(record.gateway_id.as_deref().unwrap_or_default());
        self.counters.add_message(gateway, record, at);
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

    /// Handles a line without a message; ignores it if it tells nothing of the traffic.
    pub fn handle_event_line(&mut self, line: &[u8]) {
        let Ok(aside) = serde_json::from_slice::<EventLine<'_>>(line) else { return };
        match (aside.kind.as_deref(), aside.event.as_deref()) {
            (Some("connect"), _) => self.handle_connect(aside.code.map(ConnectCode)),
            (Some("disconnect"), _) => self.handle_disconnect(),
            (None, Some(LEFT_OUT)) => self.handle_left_out(aside.records),
            _ => {}
        }
    }

    /// Handles a connect, with the CONNACK's code.
    pub fn handle_connect(&mut self, code: Option<ConnectCode>) {
        self.counters.add_connect(code);
    }

    /// Handles a disconnect.
    pub fn handle_disconnect(&mut self) {
        self.counters.connections.disconnects += 1;
    }

    /// Handles a mark of messages that the recorder could not write.
    pub fn handle_left_out(&mut self, records: u64) {
        self.counters.left_out += records;
    }

    /// Handles a line, or a packet of a capture, that cannot be read.
    pub fn handle_bad_line(&mut self, line: u64, why: &str) {
        self.bad_lines += 1;
        if self.bad.is_none() {
            self.bad = Some((line, why.to_owned()));
        }
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
                        self.counters.add_device_message(device, channel, at).online = Some(status.status);
                    }
                    return;
                }
                Uplink::AsGiven { .. } => return,
            },
            Err(refused) => match self.count_malformed(channel, refused) {
                Some((request_id, cid)) => (request_id, cid, None),
                None => return,
            },
        };
        let device = self.counters.device(gateway, &cid);
        self.counters.add_device_message(device, channel, at);
        self.correlate(gateway, channel, &request_id, device, answer, at);
    }

    fn downlink(&mut self, gateway: u32, channel: Channel, record: &Record<'_>, at: i64) {
        let (request_id, cid, answer) = match Envelope::<Downlink>::decode(channel, &record.payload) {
            Ok(Envelope { request_id, body, .. }) => match body {
                Downlink::SyncResponse(answer) | Downlink::ReportResponse(answer) => {
                    (request_id, answer.cid.unwrap_or_default().into(), Some(answer.code))
                }
                Downlink::Command(command) => (request_id, command.cid, None),
            },
            Err(refused) => match self.count_malformed(channel, refused) {
                Some((request_id, cid)) => (request_id, cid, None),
                None => return,
            },
        };
        let device = self.counters.device(gateway, &cid);
        if channel == Channel::Command {
            self.counters.add_device_message(device, channel, at);
        }
        self.correlate(gateway, channel, &request_id, device, answer, at);
    }

    /// Counts a malformed message. Returns the request id and the cid of a request, which is answered even so.
    fn count_malformed(
        &mut self,
        channel: Channel,
        refused: crate::tuya::Refused,
    ) -> Option<(String, String)> {
        self.counters.kind(Some(channel)).malformed += 1;
        channel.response()?;
        Some((refused.request_id?, refused.cid.unwrap_or_default()))
    }

    fn correlate(
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
                let forgotten =
                    self.correlator.handle_request(channel, gateway, request_id, SeenRequest { device, at });
                if let Some(forgotten) = forgotten {
                    self.counters.add_unanswered(forgotten.device);
                }
            }
            return;
        };
        let correlation = self.correlator.handle_answer(channel, gateway, request_id, at);
        let device = match &correlation {
            // The request names the device if the answer does not.
            Correlation::Answered { device, round_trip_us }
            | Correlation::Repeated { device, round_trip_us } => {
                if let Some(request) = requested_by(channel)
                    && matches!(correlation, Correlation::Answered { .. })
                {
                    self.timeline.round_trip(at - round_trip_us, request, *round_trip_us);
                }
                *device
            }
            Correlation::Unmatched => device,
        };
        if !matches!(correlation, Correlation::Repeated { .. }) {
            self.counters.add_code(channel, code, device);
            if !code.is_success() {
                self.timeline.refusal(at);
            }
        }
    }
}
