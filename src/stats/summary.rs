//! The figures of a recording, as `inspect --json` prints them.

use std::collections::BTreeMap;

use serde::Serialize;

use super::{
    correlator::RequestCounts,
    counters::{Counters, GatewayCount, KindCount},
    inspection::Inspection,
};
use crate::{mqtt::Direction, recording::rfc3339, tuya::Channel};

/// What there was in a recording. Times are RFC 3339, UTC; round trips are in milliseconds.
#[derive(Clone, Debug, Serialize)]
#[allow(missing_docs, reason = "docs/inspect.md describes the fields")]
pub struct RecordingSummary {
    pub records: u64,
    pub payload_bytes: u64,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub first: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub last: Option<String>,
    pub span_s: f64,
    /// A new part begins where the recorder was started again.
    pub parts: u64,
    pub kinds: Vec<KindSummary>,
    pub round_trips: Vec<RoundTripSummary>,
    pub codes: Vec<CodeSummary>,
    /// How many requests have no answer; `unanswered` names the first hundred.
    pub unanswered_count: u64,
    pub unanswered: Vec<UnansweredRequest>,
    pub duplicates: DuplicateSummary,
    pub gaps: Vec<RecordingGap>,
    pub connections: ConnectionSummary,
    #[serde(skip_serializing_if = "OmittedSummary::is_none")]
    pub left_out: OmittedSummary,
    pub gateways: Vec<GatewaySummary>,
    pub devices: Vec<DeviceSummary>,
}

/// One kind of message.
#[derive(Clone, Debug, Serialize)]
#[allow(missing_docs, reason = "docs/inspect.md describes the fields")]
pub struct KindSummary {
    pub kind: &'static str,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub dir: Option<&'static str>,
    pub records: u64,
    pub payload_bytes: u64,
    /// Messages whose payload is not what the protocol wants on their topic.
    pub malformed: u64,
}

/// One kind of request and its answers.
#[derive(Clone, Debug, Serialize)]
#[allow(missing_docs, reason = "docs/inspect.md describes the fields")]
pub struct RoundTripSummary {
    pub kind: &'static str,
    pub requests: u64,
    pub answered: u64,
    pub unanswered: u64,
    /// Answers to requests that are not in the recording.
    pub unasked: u64,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub p50_ms: Option<f64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub p90_ms: Option<f64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub p99_ms: Option<f64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub max_ms: Option<f64>,
}

/// How often a code was answered, and with a failure to whom.
#[derive(Clone, Debug, Serialize)]
#[allow(missing_docs, reason = "docs/inspect.md describes the fields")]
pub struct CodeSummary {
    pub kind: &'static str,
    pub code: i64,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub name: Option<&'static str>,
    pub count: u64,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub hint: Option<&'static str>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub devices: Vec<CodeDevice>,
}

/// A device that was answered with a code.
#[derive(Clone, Debug, Serialize)]
#[allow(missing_docs, reason = "docs/inspect.md describes the fields")]
pub struct CodeDevice {
    pub gateway_id: String,
    pub cid: String,
    pub count: u64,
}

/// A request without an answer.
#[derive(Clone, Debug, Serialize)]
#[allow(missing_docs, reason = "docs/inspect.md describes the fields")]
pub struct UnansweredRequest {
    pub kind: &'static str,
    pub gateway_id: String,
    pub cid: String,
    pub request_id: String,
    pub tst: String,
}

/// What was there more than once.
#[derive(Clone, Debug, Serialize)]
#[allow(missing_docs, reason = "docs/inspect.md describes the fields")]
pub struct DuplicateSummary {
    pub dup_flag: u64,
    pub requests: u64,
    pub answers: u64,
}

/// A silence between two records.
#[derive(Clone, Debug, Serialize)]
#[allow(missing_docs, reason = "docs/inspect.md describes the fields")]
pub struct RecordingGap {
    pub from: String,
    pub to: String,
    pub seconds: f64,
}

/// Clients that came and went, where a tap or an edge recorded them.
#[derive(Clone, Debug, Serialize)]
#[allow(missing_docs, reason = "docs/inspect.md describes the fields")]
pub struct ConnectionSummary {
    pub connects: u64,
    pub refused: BTreeMap<String, u64>,
    pub disconnects: u64,
}

/// What is not in the figures.
#[derive(Clone, Debug, Default, Serialize)]
#[allow(missing_docs, reason = "docs/inspect.md describes the fields")]
pub struct OmittedSummary {
    /// Records that the recorder itself had to leave out.
    pub records: u64,
    pub bad_lines: u64,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub first_bad_line: Option<u64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub why: Option<String>,
}

impl OmittedSummary {
    fn is_none(&self) -> bool {
        self.records == 0 && self.bad_lines == 0
    }
}

/// One gateway.
#[derive(Clone, Debug, Serialize)]
#[allow(missing_docs, reason = "docs/inspect.md describes the fields")]
pub struct GatewaySummary {
    pub gateway_id: String,
    pub records: u64,
    pub payload_bytes: u64,
    pub devices: u64,
}

/// One device.
#[derive(Clone, Debug, Serialize)]
#[allow(missing_docs, reason = "docs/inspect.md describes the fields")]
pub struct DeviceSummary {
    pub gateway_id: String,
    pub cid: String,
    pub syncs: u64,
    pub reports: u64,
    pub commands: u64,
    pub statuses: u64,
    pub refused: u64,
    pub unanswered: u64,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub online: Option<bool>,
    pub last: String,
}

impl Inspection {
    /// Returns the figures so far.
    #[must_use]
    pub fn summary(&self) -> RecordingSummary {
        summary(self)
    }
}

fn summary(inspection: &Inspection) -> RecordingSummary {
    let Inspection { clock, counters, correlator, .. } = inspection;
    let (unanswered, unanswered_count) = unanswered(inspection);
    let counts = || requests().map(|channel| correlator.counts(channel));
    let kinds = || {
        let own =
            counters.kinds().map(|(channel, count)| kind(channel, channel.map(Channel::direction), count));
        own.chain(
            counters.copies().map(|(channel, count)| kind(Some(channel), Some(against(channel)), count)),
        )
    };
    let refused = counters.connections.refused.iter().map(|(code, count)| (code.to_string(), *count));
    RecordingSummary {
        records: kinds().map(|kind| kind.records).sum(),
        payload_bytes: kinds().map(|kind| kind.payload_bytes).sum(),
        first: counters.first.map(rfc3339),
        last: counters.first.map(|_| rfc3339(counters.last)),
        span_s: seconds(counters.first.map_or(0, |first| counters.last - first)),
        parts: clock.parts(),
        kinds: kinds().collect(),
        round_trips: requests()
            .filter_map(|channel| round_trips(channel, correlator.counts(channel)))
            .collect(),
        codes: codes(counters),
        unanswered_count,
        unanswered,
        duplicates: DuplicateSummary {
            dup_flag: counters.kinds().map(|(_, count)| count.dup).sum(),
            requests: counts().map(|counts| counts.repeated).sum(),
            answers: counts().map(|counts| counts.answered_again).sum(),
        },
        gaps: counters
            .gaps
            .iter()
            .map(|(from, to)| RecordingGap {
                from: rfc3339(*from),
                to: rfc3339(*to),
                seconds: seconds(to - from),
            })
            .collect(),
        connections: ConnectionSummary {
            connects: counters.connections.connects,
            refused: refused.collect(),
            disconnects: counters.connections.disconnects,
        },
        left_out: OmittedSummary {
            records: counters.left_out,
            bad_lines: inspection.bad_lines,
            first_bad_line: inspection.bad.as_ref().map(|(line, _)| *line),
            why: inspection.bad.as_ref().map(|(_, why)| why.clone()),
        },
        gateways: counters.gateways.iter().filter(|gateway| gateway.records > 0).map(gateway).collect(),
        devices: devices(inspection),
    }
}

fn requests() -> impl Iterator<Item = Channel> {
    Channel::ALL.into_iter().filter(|channel| channel.response().is_some())
}

fn kind(channel: Option<Channel>, dir: Option<Direction>, count: KindCount) -> KindSummary {
    KindSummary {
        kind: channel.map_or("other", Channel::kind),
        dir: dir.map(Direction::name),
        records: count.records,
        payload_bytes: count.bytes,
        malformed: count.malformed,
    }
}

/// The direction in which copies of a channel's messages travel.
fn against(channel: Channel) -> Direction {
    match channel.direction() {
        Direction::Up => Direction::Down,
        Direction::Down => Direction::Up,
    }
}

fn round_trips(channel: Channel, counts: &RequestCounts) -> Option<RoundTripSummary> {
    let percentile = |percent| counts.round_trips.percentile(percent).map(milliseconds);
    (counts.requests + counts.unmatched > 0).then(|| RoundTripSummary {
        kind: channel.kind(),
        requests: counts.requests,
        answered: counts.answered,
        unanswered: counts.requests - counts.answered,
        unasked: counts.unmatched,
        p50_ms: percentile(50),
        p90_ms: percentile(90),
        p99_ms: percentile(99),
        max_ms: counts.round_trips.max().map(milliseconds),
    })
}

fn codes(counters: &Counters) -> Vec<CodeSummary> {
    let codes = counters.codes.iter().map(|((channel, code), devices)| {
        let explained = code.explained();
        let named = devices.iter().filter_map(|(device, count)| {
            let device = counters.devices.get(device.0 as usize)?;
            let gateway_id = counters.gateways[device.gateway as usize].id.clone();
            Some(CodeDevice { gateway_id, cid: device.cid.to_string(), count: *count })
        });
        let mut named: Vec<_> = named.collect();
        named.sort_by(|one, other| {
            (other.count, &one.gateway_id, &one.cid).cmp(&(one.count, &other.gateway_id, &other.cid))
        });
        CodeSummary {
            kind: Channel::ALL[*channel].kind(),
            code: code.0,
            name: explained.map(|known| known.name),
            count: devices.values().sum(),
            hint: explained.map(|known| known.hint).filter(|_| !code.is_success()),
            devices: named,
        }
    });
    codes.collect()
}

/// The first requests without an answer by name, and how many there are.
fn unanswered(inspection: &Inspection) -> (Vec<UnansweredRequest>, u64) {
    let Inspection { counters, correlator, .. } = inspection;
    let (open, count) = correlator.unanswered();
    let named = open.into_iter().map(|open| UnansweredRequest {
        kind: open.channel.kind(),
        gateway_id: counters.gateways[open.gateway as usize].id.clone(),
        cid: counters.devices[open.request.device.0 as usize].cid.to_string(),
        request_id: open.request_id.to_string(),
        tst: rfc3339(open.request.at),
    });
    (named.collect(), count)
}

fn gateway(gateway: &GatewayCount) -> GatewaySummary {
    GatewaySummary {
        gateway_id: gateway.id.clone(),
        records: gateway.records,
        payload_bytes: gateway.bytes,
        devices: gateway.devices,
    }
}

/// All devices that have a name, in the order in which they were first seen.
fn devices(inspection: &Inspection) -> Vec<DeviceSummary> {
    let Inspection { counters, correlator, .. } = inspection;
    let mut open = vec![0_u64; counters.devices.len()];
    for request in correlator.open() {
        open[request.request.device.0 as usize] += 1;
    }
    let named = counters.devices.iter().zip(open).filter(|(device, _)| !device.cid.is_empty());
    let devices = named.map(|(device, open)| DeviceSummary {
        gateway_id: counters.gateways[device.gateway as usize].id.clone(),
        cid: device.cid.to_string(),
        syncs: device.syncs,
        reports: device.reports,
        commands: device.commands,
        statuses: device.statuses,
        refused: device.refused,
        unanswered: device.unanswered + open,
        online: device.online,
        last: rfc3339(device.last),
    });
    devices.collect()
}

#[allow(clippy::cast_precision_loss, reason = "to the microsecond for 285 years")]
fn seconds(us: i64) -> f64 {
    us as f64 / 1e6
}

#[allow(clippy::cast_precision_loss, reason = "to the microsecond for 285 years")]
fn milliseconds(us: u64) -> f64 {
    us as f64 / 1e3
}
