//! A recording in figures, as `inspect --json` prints them.

use std::collections::BTreeMap;

use serde::Serialize;

use super::{
    Inspection,
    correlator::Tally,
    counters::{Census, GatewayCount, KindCount},
};
use crate::{mqtt::Direction, recording::moment, tuya::Channel};

/// What there was in a recording. Times are RFC 3339, UTC; round trips are in milliseconds.
#[derive(Clone, Debug, Serialize)]
#[allow(missing_docs, reason = "docs/inspect.md describes the fields")]
pub struct Summary {
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
    pub round_trips: Vec<RoundTrips>,
    pub codes: Vec<Codes>,
    /// How many requests have no answer; `unanswered` names the first hundred.
    pub unanswered_count: u64,
    pub unanswered: Vec<Unanswered>,
    pub duplicates: Duplicates,
    pub gaps: Vec<Gap>,
    pub connections: Connections,
    #[serde(skip_serializing_if = "LeftOut::is_none")]
    pub left_out: LeftOut,
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
pub struct RoundTrips {
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
pub struct Codes {
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
pub struct Unanswered {
    pub kind: &'static str,
    pub gateway_id: String,
    pub cid: String,
    pub request_id: String,
    pub tst: String,
}

/// What was there more than once.
#[derive(Clone, Debug, Serialize)]
#[allow(missing_docs, reason = "docs/inspect.md describes the fields")]
pub struct Duplicates {
    pub dup_flag: u64,
    pub requests: u64,
    pub answers: u64,
}

/// A silence between two records.
#[derive(Clone, Debug, Serialize)]
#[allow(missing_docs, reason = "docs/inspect.md describes the fields")]
pub struct Gap {
    pub from: String,
    pub to: String,
    pub seconds: f64,
}

/// Clients that came and went, where a tap or an edge recorded them.
#[derive(Clone, Debug, Serialize)]
#[allow(missing_docs, reason = "docs/inspect.md describes the fields")]
pub struct Connections {
    pub connects: u64,
    pub refused: BTreeMap<String, u64>,
    pub disconnects: u64,
}

/// What is not in the figures.
#[derive(Clone, Debug, Default, Serialize)]
#[allow(missing_docs, reason = "docs/inspect.md describes the fields")]
pub struct LeftOut {
    /// Records that the recorder itself had to leave out.
    pub records: u64,
    pub bad_lines: u64,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub first_bad_line: Option<u64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub why: Option<String>,
}

impl LeftOut {
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

pub(super) fn summary(inspection: &Inspection) -> Summary {
    let Inspection { clock, census, pairs, .. } = inspection;
    let (unanswered, unanswered_count) = unanswered(inspection);
    let tallies = || requests().map(|channel| pairs.tally(channel));
    let kinds = || {
        let own =
            census.kinds().map(|(channel, count)| kind(channel, channel.map(Channel::direction), count));
        own.chain(census.copies().map(|(channel, count)| kind(Some(channel), Some(against(channel)), count)))
    };
    let refused = census.connections.refused.iter().map(|(code, count)| (code.to_string(), *count));
    Summary {
        records: kinds().map(|kind| kind.records).sum(),
        payload_bytes: kinds().map(|kind| kind.payload_bytes).sum(),
        first: census.first.map(moment),
        last: census.first.map(|_| moment(census.last)),
        span_s: seconds(census.first.map_or(0, |first| census.last - first)),
        parts: clock.parts(),
        kinds: kinds().collect(),
        round_trips: requests().filter_map(|channel| round_trips(channel, pairs.tally(channel))).collect(),
        codes: codes(census),
        unanswered_count,
        unanswered,
        duplicates: Duplicates {
            dup_flag: census.kinds().map(|(_, count)| count.dup).sum(),
            requests: tallies().map(|tally| tally.repeated).sum(),
            answers: tallies().map(|tally| tally.answered_again).sum(),
        },
        gaps: census
            .gaps
            .iter()
            .map(|(from, to)| Gap { from: moment(*from), to: moment(*to), seconds: seconds(to - from) })
            .collect(),
        connections: Connections {
            connects: census.connections.connects,
            refused: refused.collect(),
            disconnects: census.connections.disconnects,
        },
        left_out: LeftOut {
            records: census.left_out,
            bad_lines: inspection.bad_lines,
            first_bad_line: inspection.bad.as_ref().map(|(line, _)| *line),
            why: inspection.bad.as_ref().map(|(_, why)| why.clone()),
        },
        gateways: census.gateways.iter().filter(|gateway| gateway.records > 0).map(gateway).collect(),
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

fn round_trips(channel: Channel, tally: &Tally) -> Option<RoundTrips> {
    let percentile = |percent| tally.spread.percentile(percent).map(milliseconds);
    (tally.requests + tally.unasked > 0).then(|| RoundTrips {
        kind: channel.kind(),
        requests: tally.requests,
        answered: tally.answered,
        unanswered: tally.requests - tally.answered,
        unasked: tally.unasked,
        p50_ms: percentile(50.0),
        p90_ms: percentile(90.0),
        p99_ms: percentile(99.0),
        max_ms: tally.spread.max().map(milliseconds),
    })
}

fn codes(census: &Census) -> Vec<Codes> {
    let codes = census.codes.iter().map(|((channel, code), devices)| {
        let explained = code.explained();
        let named = devices.iter().filter_map(|(device, count)| {
            let device = census.devices.get(device.0 as usize)?;
            let gateway_id = census.gateways[device.gateway as usize].id.clone();
            Some(CodeDevice { gateway_id, cid: device.cid.to_string(), count: *count })
        });
        let mut named: Vec<_> = named.collect();
        named.sort_by(|one, other| {
            (other.count, &one.gateway_id, &one.cid).cmp(&(one.count, &other.gateway_id, &other.cid))
        });
        Codes {
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
fn unanswered(inspection: &Inspection) -> (Vec<Unanswered>, u64) {
    let Inspection { census, pairs, .. } = inspection;
    let (open, count) = pairs.unanswered();
    let named = open.into_iter().map(|open| Unanswered {
        kind: open.channel.kind(),
        gateway_id: census.gateways[open.gateway as usize].id.clone(),
        cid: census.devices[open.request.device.0 as usize].cid.to_string(),
        request_id: open.request_id.to_string(),
        tst: moment(open.request.at),
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
    let Inspection { census, pairs, .. } = inspection;
    let mut open = vec![0_u64; census.devices.len()];
    for request in pairs.open() {
        open[request.request.device.0 as usize] += 1;
    }
    let named = census.devices.iter().zip(open).filter(|(device, _)| !device.cid.is_empty());
    let devices = named.map(|(device, open)| DeviceSummary {
        gateway_id: census.gateways[device.gateway as usize].id.clone(),
        cid: device.cid.to_string(),
        syncs: device.syncs,
        reports: device.reports,
        commands: device.commands,
        statuses: device.statuses,
        refused: device.refused,
        unanswered: device.unanswered + open,
        online: device.online,
        last: moment(device.last),
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
