//! Counts the kinds, gateways, devices, codes and gaps of a recording.

use std::collections::{BTreeMap, HashMap};

use super::direction::is_copy;
use crate::{
    mqtt::ConnectCode,
    recording::Record,
    tuya::{Channel, ResultCode},
};

/// Largest gaps that are listed.
const GAPS: usize = 5;

/// The shortest gap, in microseconds.
const SILENCE: i64 = 1_000_000;

/// A device of a gateway.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(super) struct DeviceId(pub(super) u32);

/// The counts of one kind of message.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct KindCount {
    pub(super) records: u64,
    pub(super) bytes: u64,
    pub(super) dup: u64,
    pub(super) malformed: u64,
}

/// The counts of one gateway.
#[derive(Clone, Debug, Default)]
pub(super) struct GatewayCount {
    pub(super) id: String,
    pub(super) records: u64,
    pub(super) bytes: u64,
    pub(super) devices: u64,
    by_cid: HashMap<Box<str>, DeviceId>,
}

/// The counts of one device.
#[derive(Clone, Debug)]
pub(super) struct DeviceCount {
    pub(super) gateway: u32,
    pub(super) cid: Box<str>,
    pub(super) syncs: u64,
    pub(super) reports: u64,
    pub(super) commands: u64,
    pub(super) statuses: u64,
    pub(super) refused: u64,
    pub(super) unanswered: u64,
    pub(super) online: Option<bool>,
    /// The time of the last message from or to it.
    pub(super) last: i64,
}

/// Connects and disconnects.
#[derive(Clone, Debug, Default)]
pub(super) struct ConnectionCount {
    pub(super) connects: u64,
    pub(super) refused: BTreeMap<u8, u64>,
    pub(super) disconnects: u64,
}

/// The counts of a recording.
#[derive(Debug, Default)]
pub(super) struct Counters {
    /// By channel, `other` last.
    kinds: [KindCount; 8],
    /// Messages against their channel's direction, by channel.
    copies: [KindCount; 7],
    pub(super) gateways: Vec<GatewayCount>,
    gateway_ids: HashMap<Box<str>, u32>,
    pub(super) devices: Vec<DeviceCount>,
    pub(super) codes: BTreeMap<(usize, ResultCode), BTreeMap<DeviceId, u64>>,
    pub(super) connections: ConnectionCount,
    pub(super) left_out: u64,
    /// The largest first.
    pub(super) gaps: Vec<(i64, i64)>,
    pub(super) first: Option<i64>,
    pub(super) last: i64,
}

impl Counters {
    /// Counts a message.
    pub(super) fn add_message(&mut self, gateway: u32, record: &Record<'_>, at: i64) {
        let bytes = record.payload.len() as u64;
        let kind = match record.channel {
            Some(channel) if is_copy(record) => &mut self.copies[channel as usize],
            channel => self.kind(channel),
        };
        kind.records += 1;
        kind.bytes += bytes;
        kind.dup += u64::from(record.dup);
        let gateway = &mut self.gateways[gateway as usize];
        gateway.records += 1;
        gateway.bytes += bytes;
        if self.first.is_none() {
            self.first = Some(at);
        } else if at - self.last >= SILENCE {
            self.add_gap(self.last, at);
        }
        self.last = at;
    }

    fn add_gap(&mut self, from: i64, to: i64) {
        let place = self.gaps.partition_point(|(start, end)| end - start >= to - from);
        if place < GAPS {
            self.gaps.insert(place, (from, to));
            self.gaps.truncate(GAPS);
        }
    }

    pub(super) fn kind(&mut self, channel: Option<Channel>) -> &mut KindCount {
        &mut self.kinds[channel.map_or(Channel::ALL.len(), |channel| channel as usize)]
    }

    /// The counts of copies, by channel.
    pub(super) fn copies(&self) -> impl Iterator<Item = (Channel, KindCount)> {
        Channel::ALL.into_iter().zip(self.copies).filter(|(_, count)| count.records > 0)
    }

    /// The counts by kind, without copies.
    pub(super) fn kinds(&self) -> impl Iterator<Item = (Option<Channel>, KindCount)> {
        let channels = Channel::ALL.into_iter().map(Some).chain([None]);
        channels.zip(self.kinds).filter(|(_, count)| count.records > 0)
    }

    /// Returns the index of a gateway; the empty id is for messages that name none.
    pub(super) fn gateway(&mut self, id: &str) -> u32 {
        if let Some(index) = self.gateway_ids.get(id) {
            return *index;
        }
        let index = u32::try_from(self.gateways.len()).unwrap_or(u32::MAX);
        self.gateways.push(GatewayCount { id: id.to_owned(), ..GatewayCount::default() });
        self.gateway_ids.insert(id.into(), index);
        index
    }

    /// Returns a device of a gateway; the empty cid is for answers that name none.
    pub(super) fn device(&mut self, gateway: u32, cid: &str) -> DeviceId {
        let owner = &mut self.gateways[gateway as usize];
        if let Some(known) = owner.by_cid.get(cid) {
            return *known;
        }
        let device = DeviceId(u32::try_from(self.devices.len()).unwrap_or(u32::MAX));
        owner.by_cid.insert(cid.into(), device);
        owner.devices += u64::from(!cid.is_empty());
        self.devices.push(DeviceCount {
            gateway,
            cid: cid.into(),
            syncs: 0,
            reports: 0,
            commands: 0,
            statuses: 0,
            refused: 0,
            unanswered: 0,
            online: None,
            last: 0,
        });
        device
    }

    /// Counts a message of or to a device.
    pub(super) fn add_device_message(
        &mut self,
        device: DeviceId,
        channel: Channel,
        at: i64,
    ) -> &mut DeviceCount {
        let count = &mut self.devices[device.0 as usize];
        count.last = at;
        match channel {
            Channel::Sync => count.syncs += 1,
            Channel::Report => count.reports += 1,
            Channel::Command => count.commands += 1,
            Channel::Status => count.statuses += 1,
            Channel::SyncResponse | Channel::CommandResponse | Channel::ReportResponse => {}
        }
        count
    }

    /// Counts an answer's code.
    pub(super) fn add_code(&mut self, response: Channel, code: ResultCode, device: DeviceId) {
        let devices = self.codes.entry((response as usize, code)).or_default();
        if code.is_success() {
            // Successes are counted in total only; counts by device are for refusals.
            *devices.entry(DeviceId(u32::MAX)).or_default() += 1;
        } else {
            *devices.entry(device).or_default() += 1;
            self.devices[device.0 as usize].refused += 1;
        }
    }

    /// Counts an unanswered request.
    pub(super) fn add_unanswered(&mut self, device: DeviceId) {
        self.devices[device.0 as usize].unanswered += 1;
    }

    /// Counts a connect, with the CONNACK's code.
    pub(super) fn add_connect(&mut self, code: Option<ConnectCode>) {
        self.connections.connects += 1;
        if let Some(code) = code.filter(|code| *code != ConnectCode::ACCEPTED) {
            *self.connections.refused.entry(code.0).or_default() += 1;
        }
    }
}
