//! The connections of a capture, and the issues that concern all of it.

use std::{
    collections::{BTreeMap, BTreeSet, HashMap},
    mem,
    ops::ControlFlow,
};

use super::{
    connection::{CapturedConnection, MqttCounts, PacketPosition, SegmentContext},
    duplicates::RecentSegments,
    frame::{Endpoints, Segment},
    half::begins_with_connect,
};
use crate::{
    recording::{
        entry::{EntryVisitor, IssueKind, RecordingEntry},
        timeline::Timeline,
    },
    tuya::Topics,
};

/// Most connections that are followed at once, and most of their bytes that may wait for more.
const MAX_CONNECTIONS: usize = 16_384;
const MAX_BYTES: usize = 256 << 20;
/// Ports without MQTT that are named.
const NAMED_PORTS: usize = 3;

/// How a packet is reported that is shorter than it was.
const CUT: &str =
    "was cut off when it was captured, and so may others be; capture whole packets with tcpdump -s 0";

/// Finds the MQTT connections among TCP segments, and follows them.
#[derive(Debug)]
pub(super) struct ConnectionTracker<'t> {
    topics: &'t Topics,
    ports: BTreeSet<u16>,
    connections: HashMap<Endpoints, CapturedConnection>,
    /// The connections by the number of their last packet, which is theirs alone.
    by_last_packet: BTreeMap<u64, Endpoints>,
    /// The bytes that wait in all connections.
    weight: usize,
    recent: RecentSegments,
    timeline: Timeline,
    counts: MqttCounts,
    /// The bytes on ports that are not known to be MQTT's.
    elsewhere: BTreeMap<u16, u64>,
    /// Copies of messages from before or after an address translation.
    translated: u64,
    /// Connections that were dropped because there were too many.
    dropped: u64,
    /// Whether it was reported that packets are cut off.
    is_cut_reported: bool,
    /// The first packet that is cut off on another port.
    cut_elsewhere: Option<u64>,
}

impl<'t> ConnectionTracker<'t> {
    pub fn new(topics: &'t Topics, ports: BTreeSet<u16>) -> Self {
        Self {
            topics,
            ports,
            connections: HashMap::new(),
            by_last_packet: BTreeMap::new(),
            weight: 0,
            recent: RecentSegments::default(),
            timeline: Timeline::default(),
            counts: MqttCounts::default(),
            elsewhere: BTreeMap::new(),
            translated: 0,
            dropped: 0,
            is_cut_reported: false,
            cut_elsewhere: None,
        }
    }

    /// How many connections are followed.
    #[cfg(test)]
    pub fn followed(&self) -> usize {
        self.connections.len()
    }

    /// Handles the next segment, which is in this packet.
    pub fn handle_segment(
        &mut self,
        packet: u64,
        unix_us: i64,
        segment: &Segment<'_>,
        visit: &mut EntryVisitor<'_>,
    ) -> ControlFlow<()> {
        let Some((endpoints, is_up)) = self.find_connection(segment) else {
            self.count_elsewhere(packet, segment);
            return ControlFlow::Continue(());
        };
        if segment.is_cut && !mem::replace(&mut self.is_cut_reported, true) {
            visit(packet, IssueKind::Lossy.entry(CUT))?;
        }
        let mono_us = self.timeline.advance(unix_us, None).offset.as_micros();
        let mono_us = u64::try_from(mono_us).unwrap_or(u64::MAX);
        let position = PacketPosition { packet, unix_us, mono_us };
        let mut connection = self.remove(endpoints).unwrap_or_default();
        if !segment.payload.is_empty() {
            let is_copy = self.recent.insert(segment, unix_us);
            connection.is_copy.get_or_insert(is_copy);
        }
        let topics = self.topics;
        let flow = if connection.is_copy == Some(true) {
            let (mut counts, mut messages) = (MqttCounts::default(), 0);
            let mut count = |_packet: u64, entry: RecordingEntry<'_>| {
                messages += u64::from(matches!(entry, RecordingEntry::Message(_)));
                ControlFlow::Continue(())
            };
            let mut context =
                SegmentContext { topics, counts: &mut counts, endpoints, position, visit: &mut count };
            let flow = connection.handle_segment(is_up, segment, &mut context);
            self.counts.packets += counts.packets;
            self.translated += messages + counts.copies;
            flow
        } else {
            let counts = &mut self.counts;
            let mut context = SegmentContext { topics, counts, endpoints, position, visit };
            connection.handle_segment(is_up, segment, &mut context)
        };
        if !(segment.rst || connection.has_ended()) {
            connection.last_packet = packet;
            self.insert(endpoints, connection);
        }
        flow
    }

    fn count_elsewhere(&mut self, packet: u64, segment: &Segment<'_>) {
        if !segment.payload.is_empty() {
            // Of the two ports the server's is the lower one.
            let port = segment.source.port().min(segment.target.port());
            *self.elsewhere.entry(port).or_default() += segment.payload.len() as u64;
        }
        if segment.is_cut {
            self.cut_elsewhere.get_or_insert(packet);
        }
    }

    fn remove(&mut self, endpoints: Endpoints) -> Option<CapturedConnection> {
        let connection = self.connections.remove(&endpoints)?;
        self.by_last_packet.remove(&connection.last_packet);
        self.weight -= connection.weight();
        Some(connection)
    }

    /// Adds a connection. If there are too many, drops those that were silent the longest.
    fn insert(&mut self, endpoints: Endpoints, connection: CapturedConnection) {
        self.weight += connection.weight();
        self.by_last_packet.insert(connection.last_packet, endpoints);
        self.connections.insert(endpoints, connection);
        while self.connections.len() > 1
            && (self.connections.len() > MAX_CONNECTIONS || self.weight > MAX_BYTES)
            && let Some((_, oldest)) = self.by_last_packet.pop_first()
        {
            self.dropped += 1;
            self.remove(oldest);
        }
    }

    /// Returns the connection of a segment, as client and server, and whether the segment travels up; `None` if it is not
    /// known to be MQTT's.
    fn find_connection(&mut self, segment: &Segment<'_>) -> Option<(Endpoints, bool)> {
        let (up, down) = ((segment.source, segment.target), (segment.target, segment.source));
        let opens = segment.syn && segment.acknowledged.is_none();
        if self.connections.contains_key(&up) {
            if opens {
                // The port is in use again; the end of the former connection was not captured.
                self.remove(up);
            }
            return Some((up, true));
        }
        if self.connections.contains_key(&down) {
            return Some((down, false));
        }
        if begins_with_connect(segment.payload) {
            return Some((up, true));
        }
        let (source, target) = (segment.source.port(), segment.target.port());
        match (self.ports.contains(&source), self.ports.contains(&target)) {
            (_, true) if !segment.syn || opens => Some((up, true)),
            (true, _) => Some((down, false)),
            _ => None,
        }
    }

    /// Reports what is missing at the end of the capture, after its `packet`th packet.
    pub fn finish(&mut self, packet: u64, visit: &mut EntryVisitor<'_>) -> ControlFlow<()> {
        self.by_last_packet.clear();
        let connections = self.connections.drain();
        let mut connections: Vec<_> =
            connections.filter(|(_, connection)| connection.is_copy != Some(true)).collect();
        connections.sort_unstable_by_key(|(endpoints, _)| *endpoints);
        for ((client, server), connection) in connections {
            if connection.ends_within_message() {
                let what =
                    format!("is the last one, and {client} > {server} ends in the middle of a message");
                visit(packet, IssueKind::Lossy.entry(what))?;
            }
        }
        self.report_dropped(visit)?;
        if self.counts.packets > 0 {
            return ControlFlow::Continue(());
        }
        self.report_no_mqtt(visit)
    }

    fn report_dropped(&self, visit: &mut EntryVisitor<'_>) -> ControlFlow<()> {
        let messages = |count: u64| format!("{count} message{}", if count == 1 { "" } else { "s" });
        if self.counts.copies > 0 {
            let what = format!(
                "holds {} between platform users and the broker that were left out: they are copies of what the \
                 gateways sent or received",
                messages(self.counts.copies)
            );
            visit(0, IssueKind::Lossy.entry(what))?;
        }
        if self.translated > 0 {
            let what = format!(
                "holds {} a second time, captured before and after an address translation: these copies were left out",
                messages(self.translated)
            );
            visit(0, IssueKind::Lossy.entry(what))?;
        }
        if self.dropped > 0 {
            let what = format!(
                "has more connections open at once, or more of their data waiting, than can be followed \
                 ({MAX_CONNECTIONS}, {} MiB): {} that were silent the longest were given up",
                MAX_BYTES >> 20,
                self.dropped
            );
            visit(0, IssueKind::Lossy.entry(what))?;
        }
        ControlFlow::Continue(())
    }

    fn report_no_mqtt(&self, visit: &mut EntryVisitor<'_>) -> ControlFlow<()> {
        if let Some(packet) = self.cut_elsewhere.filter(|_| !self.is_cut_reported) {
            visit(packet, IssueKind::Lossy.entry(CUT))?;
        }
        let mut ports: Vec<_> = self.elsewhere.iter().map(|(port, bytes)| (*bytes, *port)).collect();
        ports.sort_unstable_by(|one, other| other.cmp(one));
        let Some((_, busiest)) = ports.first() else { return ControlFlow::Continue(()) };
        let named: Vec<_> = ports.iter().take(NAMED_PORTS).map(|(_, port)| port.to_string()).collect();
        let what = format!(
            "holds no MQTT that was found; there is TCP data of port {}: --mqtt-port {busiest} reads a port whose \
             connections began before the capture",
            named.join(", ")
        );
        visit(0, IssueKind::Empty.entry(what))
    }
}
