//! The MQTT connections of a capture, as a gateway's end would record them.

use std::{
    collections::{BTreeMap, BTreeSet, HashMap, VecDeque},
    hash::BuildHasher as _,
    net::SocketAddr,
    ops::ControlFlow,
};

use bytes::BytesMut;

use super::{
    frame::Segment,
    stream::{Piece, StreamReassembler},
};
use crate::{
    collections::Keyed,
    mqtt::{
        ConnectCode, Direction,
        codec::{Message, Packet, Side},
    },
    recording::{ConnectionRecord, EntryVisitor, IssueKind, Record, RecordingEntry, Timeline},
    tuya::Topics,
};

/// The largest packet that MQTT can say.
const LARGEST: usize = 268_435_460;
/// After a gap, what seems to begin a packet larger than this is the middle of another.
const PLAUSIBLE: usize = 1 << 20;
/// How many connections are followed at once, and how much of their data may wait for more.
const MOST_LINKS: usize = 16_384;
const MOST_BYTES: usize = 256 << 20;
/// How many ports without MQTT are named.
const NAMED_PORTS: usize = 3;

/// All connections.
#[derive(Debug)]
pub(super) struct ConnectionTracker<'t> {
    topics: &'t Topics,
    ports: BTreeSet<u16>,
    links: HashMap<Endpoints, CapturedConnection>,
    /// The connections by the number of the last packet, which is theirs alone.
    idle: BTreeMap<u64, Endpoints>,
    /// What waits in all connections.
    weight: usize,
    recent: RecentSegments,
    clock: Timeline,
    /// How many MQTT packets were read.
    read: u64,
    /// The bytes that passed on ports that are not known to be MQTT's.
    elsewhere: BTreeMap<u16, u64>,
    /// Copies that a platform's user sent or received.
    copies: u64,
    /// Copies from before or after an address translation.
    translated: u64,
    /// Connections that were not followed any longer, because there were too many.
    dropped: u64,
    /// Whether it has been told that packets were cut off.
    is_cut_told: bool,
    /// The first packet that was cut off on another port.
    cut_elsewhere: Option<u64>,
}

/// A client and its server.
type Endpoints = (SocketAddr, SocketAddr);

/// The segments of the last moment, by which copies are known: captured before and after an address translation, a segment
/// has other addresses, and the same ports, numbers and bytes.
#[derive(Debug, Default)]
struct RecentSegments {
    keyed: Keyed,
    /// Addresses and time, by a hash of all else.
    seen: HashMap<u64, (Endpoints, i64)>,
    order: VecDeque<(u64, i64)>,
}

impl RecentSegments {
    /// How far apart the two may be captured.
    const MOMENT_US: u64 = 1_000_000;
    const MOST: usize = 65_536;

    /// Takes the next segment; `true` if it is a copy of one with other addresses.
    fn take(&mut self, segment: &Segment<'_>, unix_us: i64) -> bool {
        let Segment { source, target, sequence, acknowledged, payload, .. } = segment;
        let ports = (source.port(), target.port());
        let hash = self.keyed.hash_one((ports, sequence, acknowledged, payload));
        while let Some((oldest, at)) = self.order.front().copied()
            && (self.order.len() >= Self::MOST || unix_us.abs_diff(at) > Self::MOMENT_US)
        {
            self.order.pop_front();
            if self.seen.get(&oldest).is_some_and(|(_, seen)| *seen == at) {
                self.seen.remove(&oldest);
            }
        }
        let known = self.seen.get(&hash).copied();
        if known.is_none() {
            self.seen.insert(hash, ((*source, *target), unix_us));
            self.order.push_back((hash, unix_us));
        }
        known.is_some_and(|(ends, _)| ends != (*source, *target))
    }
}

/// One connection.
#[derive(Debug, Default)]
struct CapturedConnection {
    up: HalfConnection,
    down: HalfConnection,
    /// Who the client says it is, and as whom.
    client: Option<(String, Option<String>)>,
    is_connected: bool,
    /// Why it is not read: it speaks TLS or another version.
    is_foreign: bool,
    /// Whether it is another one before or after an address translation; unknown until a segment tells.
    is_copy: Option<bool>,
    /// The number of its last packet.
    heard: u64,
}

/// One direction of a connection.
#[derive(Debug, Default)]
struct HalfConnection {
    stream: StreamReassembler,
    inbox: BytesMut,
    /// The inbox begins where a packet begins; otherwise one is looked for at each segment's beginning.
    is_in_step: bool,
    /// It has been told that something is missing here.
    is_told: bool,
    has_ended: bool,
}

/// Where and when something was captured.
#[derive(Clone, Copy)]
struct PacketPosition {
    packet: u64,
    unix_us: i64,
    mono_us: u64,
}

impl<'t> ConnectionTracker<'t> {
    pub fn new(topics: &'t Topics, ports: BTreeSet<u16>) -> Self {
        Self {
            topics,
            ports,
            links: HashMap::new(),
            idle: BTreeMap::new(),
            weight: 0,
            recent: RecentSegments::default(),
            clock: Timeline::default(),
            read: 0,
            elsewhere: BTreeMap::new(),
            copies: 0,
            translated: 0,
            dropped: 0,
            is_cut_told: false,
            cut_elsewhere: None,
        }
    }

    /// How many connections are followed.
    #[cfg(test)]
    pub fn followed(&self) -> usize {
        self.links.len()
    }

    /// Takes the next segment.
    pub fn hear(
        &mut self,
        packet: u64,
        unix_us: i64,
        segment: &Segment<'_>,
        visit: &mut EntryVisitor<'_>,
    ) -> ControlFlow<()> {
        let Some((ends, is_up)) = self.place(segment) else {
            if !segment.payload.is_empty() {
                // Servers' ports are the lower ones.
                let port = segment.source.port().min(segment.target.port());
                *self.elsewhere.entry(port).or_default() += segment.payload.len() as u64;
            }
            if segment.is_cut {
                self.cut_elsewhere.get_or_insert(packet);
            }
            return ControlFlow::Continue(());
        };
        if segment.is_cut && !std::mem::replace(&mut self.is_cut_told, true) {
            visit(packet, IssueKind::Lossy.entry(CUT))?;
        }
        let mono_us = self.clock.tick(unix_us, None).offset.as_micros();
        let place = PacketPosition { packet, unix_us, mono_us: u64::try_from(mono_us).unwrap_or(u64::MAX) };
        let mut link = self.remove(ends).unwrap_or_default();
        if !segment.payload.is_empty() {
            let is_copy = self.recent.take(segment, unix_us);
            link.is_copy.get_or_insert(is_copy);
        }
        let flow = if link.is_copy == Some(true) {
            let (copies, mut messages) = (self.copies, 0);
            let mut count = |_packet: u64, found: RecordingEntry<'_>| {
                messages += u64::from(matches!(found, RecordingEntry::Message(_)));
                ControlFlow::Continue(())
            };
            let flow = self.hear_link(&mut link, ends, is_up, place, segment, &mut count);
            self.translated += messages + self.copies - copies;
            self.copies = copies;
            flow
        } else {
            self.hear_link(&mut link, ends, is_up, place, segment, visit)
        };
        if !(segment.rst || link.up.has_ended && link.down.has_ended) {
            link.heard = packet;
            self.insert(ends, link);
        }
        flow
    }

    fn remove(&mut self, ends: Endpoints) -> Option<CapturedConnection> {
        let link = self.links.remove(&ends)?;
        self.idle.remove(&link.heard);
        self.weight -= link.weight();
        Some(link)
    }

    /// Keeps a connection, and drops those that were silent the longest where there are too many.
    fn insert(&mut self, ends: Endpoints, link: CapturedConnection) {
        self.weight += link.weight();
        self.idle.insert(link.heard, ends);
        self.links.insert(ends, link);
        while self.links.len() > 1
            && (self.links.len() > MOST_LINKS || self.weight > MOST_BYTES)
            && let Some((_, oldest)) = self.idle.pop_first()
        {
            self.dropped += 1;
            self.remove(oldest);
        }
    }

    /// The connection, as client and server, that a segment belongs to, and whether it goes up.
    fn place(&mut self, segment: &Segment<'_>) -> Option<(Endpoints, bool)> {
        let (up, down) = ((segment.source, segment.target), (segment.target, segment.source));
        let opens = segment.syn && segment.acknowledged.is_none();
        if self.links.contains_key(&up) {
            if opens {
                // The port is used again, and the end of the former connection was not captured.
                self.remove(up);
            }
            return Some((up, true));
        }
        if self.links.contains_key(&down) {
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

    fn hear_link(
        &mut self,
        link: &mut CapturedConnection,
        (client, server): Endpoints,
        is_up: bool,
        place: PacketPosition,
        segment: &Segment<'_>,
        visit: &mut EntryVisitor<'_>,
    ) -> ControlFlow<()> {
        if link.is_foreign {
            link.end(is_up, segment);
            return ControlFlow::Continue(());
        }
        let (this, other) =
            if is_up { (&mut link.up, &mut link.down) } else { (&mut link.down, &mut link.up) };
        let acknowledged = segment.acknowledged.map(|number| other.stream.acknowledged(number));
        let pieces = if segment.syn {
            this.stream.begin(segment.sequence.wrapping_add(1));
            this.is_in_step = true;
            Vec::new()
        } else {
            let mut pieces = this.stream.take(segment.sequence, segment.payload);
            if segment.fin || segment.rst {
                pieces.extend(this.stream.finish());
            }
            pieces
        };
        let name = format!("{client} > {server}");
        for (pieces, is_up) in [(acknowledged.unwrap_or_default(), !is_up), (pieces, is_up)] {
            for piece in pieces {
                self.take(link, &name, is_up, place, piece, visit)?;
            }
        }
        if segment.fin || segment.rst {
            ended(link, if is_up { Direction::Up } else { Direction::Down }, place, visit)?;
        }
        link.end(is_up, segment);
        ControlFlow::Continue(())
    }

    fn take(
        &mut self,
        link: &mut CapturedConnection,
        name: &str,
        is_up: bool,
        place: PacketPosition,
        piece: Piece,
        visit: &mut EntryVisitor<'_>,
    ) -> ControlFlow<()> {
        let half = if is_up { &mut link.up } else { &mut link.down };
        let bytes = match piece {
            Piece::Bytes(bytes) => bytes,
            Piece::Gap(length) => {
                half.inbox.clear();
                (half.is_in_step, half.is_told) = (false, true);
                let way = if is_up { "to" } else { "from" };
                let what = format!("{name}: {length} bytes {way} the server were not captured");
                return visit(place.packet, IssueKind::Lossy.entry(what));
            }
        };
        let may_be_tls = half.inbox.is_empty() && link.client.is_none() && (is_up || !half.is_in_step);
        if may_be_tls && is_tls(&bytes) {
            link.is_foreign = true;
            let what =
                format!("{name}: speaks TLS, which cannot be read; capture behind it, or use `tuyagw tap`");
            return visit(place.packet, IssueKind::Unreadable.entry(what));
        }
        half.inbox.extend_from_slice(&bytes);
        if !half.is_in_step && announced(&half.inbox).is_none_or(|length| length > PLAUSIBLE) {
            return half.pass_over(name, is_up, place, visit);
        }
        let to = if is_up { Side::Server } else { Side::Client };
        loop {
            let half = if is_up { &mut link.up } else { &mut link.down };
            let packet = match Packet::decode(&mut half.inbox, to, LARGEST) {
                Ok(Some(packet)) => packet,
                Ok(None) => return ControlFlow::Continue(()),
                Err(_) if !half.is_in_step => return half.pass_over(name, is_up, place, visit),
                Err(malformed) => {
                    half.inbox.clear();
                    (half.is_in_step, half.is_told) = (false, true);
                    let what = format!("{name}: is not MQTT 3.1.1: {malformed}");
                    return visit(place.packet, IssueKind::Unreadable.entry(what));
                }
            };
            half.is_in_step = true;
            self.read += 1;
            self.say(link, name, is_up, place, packet, visit)?;
            if link.is_foreign {
                return ControlFlow::Continue(());
            }
        }
    }

    /// Tells what a packet means.
    fn say(
        &mut self,
        link: &mut CapturedConnection,
        name: &str,
        is_up: bool,
        place: PacketPosition,
        packet: Packet,
        visit: &mut EntryVisitor<'_>,
    ) -> ControlFlow<()> {
        let dir = if is_up { Direction::Up } else { Direction::Down };
        match packet {
            Packet::Connect(connect) => {
                link.client = Some((connect.client_id.clone(), connect.username.clone()));
                ControlFlow::Continue(())
            }
            // What follows the CONNECT of level 3 is alike.
            Packet::OtherVersion { protocol, level, .. } if level & 0x7f != 3 => {
                link.is_foreign = true;
                let what = format!(
                    "{name}: speaks {protocol} level {level}, which is not read: MQTT 3.1.1 is level 4"
                );
                visit(place.packet, IssueKind::Unreadable.entry(what))
            }
            Packet::ConnAck { code, .. } => {
                link.is_connected = code == ConnectCode::ACCEPTED;
                client(link, Direction::Up, true, Some(code), place, visit)
            }
            Packet::Publish(message) => self.message(dir, place, &message, visit),
            Packet::Disconnect => ended(link, dir, place, visit),
            Packet::OtherVersion { .. }
            | Packet::PubAck(_)
            | Packet::PubRec(_)
            | Packet::PubRel(_)
            | Packet::PubComp(_)
            | Packet::Subscribe { .. }
            | Packet::SubAck { .. }
            | Packet::Unsubscribe { .. }
            | Packet::UnsubAck(_)
            | Packet::PingReq
            | Packet::PingResp => ControlFlow::Continue(()),
        }
    }

    fn message(
        &mut self,
        dir: Direction,
        place: PacketPosition,
        message: &Message,
        visit: &mut EntryVisitor<'_>,
    ) -> ControlFlow<()> {
        let record = Record::of(message, place.unix_us, place.mono_us).classified(self.topics);
        if record.dir.is_some_and(|own| own != dir) {
            self.copies += 1;
            return ControlFlow::Continue(());
        }
        visit(place.packet, RecordingEntry::Message(Record { dir: Some(dir), ..record }))
    }

    /// Tells what is left when the capture ends after its `packet`th packet.
    pub fn finish(&mut self, packet: u64, visit: &mut EntryVisitor<'_>) -> ControlFlow<()> {
        self.idle.clear();
        let mut links: Vec<_> = self.links.drain().filter(|(_, link)| link.is_copy != Some(true)).collect();
        links.sort_unstable_by_key(|(ends, _)| *ends);
        for ((client, server), link) in links {
            let missing =
                [&link.up, &link.down].into_iter().any(|half| !half.inbox.is_empty() && half.is_in_step)
                    || [link.up, link.down].into_iter().any(|mut half| !half.stream.finish().is_empty());
            if missing {
                let what =
                    format!("is the last one, and {client} > {server} ends in the middle of a message");
                visit(packet, IssueKind::Lossy.entry(what))?;
            }
        }
        let messages = |count: u64| format!("{count} message{}", if count == 1 { "" } else { "s" });
        if self.copies > 0 {
            let what = format!(
                "holds {} between platform users and the broker that were left out: they are copies of what the \
                 gateways sent or received",
                messages(self.copies)
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
                "has more connections open at once, or more of their data waiting, than can be followed ({MOST_LINKS}, \
                 {} MiB): {} that were silent the longest were given up",
                MOST_BYTES >> 20,
                self.dropped
            );
            visit(0, IssueKind::Lossy.entry(what))?;
        }
        if self.read > 0 {
            return ControlFlow::Continue(());
        }
        if let Some(packet) = self.cut_elsewhere.filter(|_| !self.is_cut_told) {
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

/// What is wrong with packets that are shorter than they were.
const CUT: &str =
    "was cut off when it was captured, and so may others be; capture whole packets with tcpdump -s 0";

impl HalfConnection {
    /// Drops what is the middle of a message whose beginning is not known, and says so once.
    fn pass_over(
        &mut self,
        name: &str,
        is_up: bool,
        place: PacketPosition,
        visit: &mut EntryVisitor<'_>,
    ) -> ControlFlow<()> {
        self.inbox.clear();
        if std::mem::replace(&mut self.is_told, true) {
            return ControlFlow::Continue(());
        }
        let way = if is_up { "to" } else { "from" };
        let what = format!(
            "{name}: the capture begins in the middle of what went {way} the server; it is read from the next packet \
             that begins a segment"
        );
        visit(place.packet, IssueKind::Lossy.entry(what))
    }
}

impl CapturedConnection {
    /// How much waits for more.
    fn weight(&self) -> usize {
        [&self.up, &self.down].into_iter().map(|half| half.stream.weight() + half.inbox.len()).sum()
    }

    fn end(&mut self, is_up: bool, segment: &Segment<'_>) {
        let half = if is_up { &mut self.up } else { &mut self.down };
        half.has_ended |= segment.fin;
    }
}

/// Tells that the client has gone, once.
fn ended(
    link: &mut CapturedConnection,
    dir: Direction,
    place: PacketPosition,
    visit: &mut EntryVisitor<'_>,
) -> ControlFlow<()> {
    if !std::mem::take(&mut link.is_connected) {
        return ControlFlow::Continue(());
    }
    client(link, dir, false, None, place, visit)
}

fn client(
    link: &CapturedConnection,
    dir: Direction,
    connected: bool,
    code: Option<ConnectCode>,
    place: PacketPosition,
    visit: &mut EntryVisitor<'_>,
) -> ControlFlow<()> {
    let Some((client_id, username)) = &link.client else { return ControlFlow::Continue(()) };
    let connection = ConnectionRecord {
        unix_us: place.unix_us,
        dir,
        connected,
        // Whether the client is a gateway or a platform's user is not said when it connects.
        gateway_id: None,
        mono_us: place.mono_us,
        client_id,
        username: username.as_deref(),
        code,
    };
    visit(place.packet, RecordingEntry::Connection(connection))
}

/// Whether a TCP payload is the beginning of a TLS record; no MQTT packet begins so, a CONNECT having no flags.
fn is_tls(payload: &[u8]) -> bool {
    matches!(payload, [0x14..=0x17, 3, 0..=4, ..])
}

/// Whether a TCP payload is the beginning of an MQTT connection.
fn begins_with_connect(payload: &[u8]) -> bool {
    let [0x10, rest @ ..] = payload else { return false };
    let length = rest.iter().take(4).take_while(|byte| **byte & 0x80 != 0).count() + 1;
    rest.get(length..)
        .is_some_and(|rest| rest.starts_with(b"\0\x04MQTT") || rest.starts_with(b"\0\x06MQIsdp"))
}

/// The length that a packet's first bytes announce; `None` where they are no packet's.
fn announced(bytes: &[u8]) -> Option<usize> {
    let (first, rest) = bytes.split_first()?;
    if !(1..=14).contains(&(first >> 4)) {
        return None;
    }
    let mut length = 0;
    for (n, byte) in rest.iter().take(4).enumerate() {
        length |= usize::from(byte & 0x7f) << (7 * n);
        if byte & 0x80 == 0 {
            return Some(length);
        }
    }
    (rest.len() < 4).then_some(length)
}
