//! The MQTT connections of a capture, as a gateway's end would record them.

use std::{
    collections::{BTreeSet, HashMap},
    net::SocketAddr,
    ops::ControlFlow,
};

use bytes::BytesMut;

use super::{
    super::{Connection, Found, Harm, Record, Tell, lines::Clock},
    frame::Segment,
    stream::{Piece, Stream},
};
use crate::{
    mqtt::packet::{End, Message, Packet},
    protocol::{ConnectCode, Direction, Topics},
};

/// The largest packet that MQTT can say.
const LARGEST: usize = 268_435_460;
/// After a gap, what seems to begin a packet larger than this is the middle of another.
const PLAUSIBLE: usize = 1 << 20;

/// All connections.
#[derive(Debug)]
pub(super) struct Traffic<'t> {
    topics: &'t Topics,
    ports: BTreeSet<u16>,
    links: HashMap<(SocketAddr, SocketAddr), Link>,
    clock: Clock,
    /// Copies that a platform's user sent or received.
    copies: u64,
}

/// One connection.
#[derive(Debug, Default)]
struct Link {
    up: Half,
    down: Half,
    /// Who the client says it is, and as whom.
    client: Option<(String, Option<String>)>,
    is_connected: bool,
    /// Why it is not read: it speaks TLS or another version.
    is_foreign: bool,
}

/// One direction of a connection.
#[derive(Debug, Default)]
struct Half {
    stream: Stream,
    inbox: BytesMut,
    /// The inbox begins where a packet begins; otherwise one is looked for at each segment's beginning.
    is_in_step: bool,
    /// It has been told that something is missing here.
    is_told: bool,
    has_ended: bool,
}

/// Where and when something was captured.
#[derive(Clone, Copy)]
struct Place {
    packet: u64,
    unix_us: i64,
    mono_us: u64,
}

impl<'t> Traffic<'t> {
    pub fn new(topics: &'t Topics, ports: BTreeSet<u16>) -> Self {
        Self { topics, ports, links: HashMap::new(), clock: Clock::default(), copies: 0 }
    }

    /// Takes the next segment.
    pub fn hear(
        &mut self,
        packet: u64,
        unix_us: i64,
        segment: &Segment<'_>,
        tell: &mut Tell<'_>,
    ) -> ControlFlow<()> {
        let Some((key, is_up)) = self.place(segment) else { return ControlFlow::Continue(()) };
        let place = Place { packet, unix_us, mono_us: self.clock.mono_us(unix_us) };
        let mut link = self.links.remove(&key).unwrap_or_default();
        let flow = self.hear_link(&mut link, key, is_up, place, segment, tell);
        if !(segment.rst || link.up.has_ended && link.down.has_ended) {
            self.links.insert(key, link);
        }
        flow
    }

    /// The connection, as client and server, that a segment belongs to, and whether it goes up.
    fn place(&mut self, segment: &Segment<'_>) -> Option<((SocketAddr, SocketAddr), bool)> {
        let (up, down) = ((segment.source, segment.target), (segment.target, segment.source));
        let opens = segment.syn && segment.acknowledged.is_none();
        if self.links.contains_key(&up) {
            if opens {
                // The port is used again, and the end of the former connection was not captured.
                self.links.remove(&up);
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
        link: &mut Link,
        (client, server): (SocketAddr, SocketAddr),
        is_up: bool,
        place: Place,
        segment: &Segment<'_>,
        tell: &mut Tell<'_>,
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
                self.take(link, &name, is_up, place, piece, tell)?;
            }
        }
        if segment.fin || segment.rst {
            ended(link, if is_up { Direction::Up } else { Direction::Down }, place, tell)?;
        }
        link.end(is_up, segment);
        ControlFlow::Continue(())
    }

    fn take(
        &mut self,
        link: &mut Link,
        name: &str,
        is_up: bool,
        place: Place,
        piece: Piece,
        tell: &mut Tell<'_>,
    ) -> ControlFlow<()> {
        let half = if is_up { &mut link.up } else { &mut link.down };
        let bytes = match piece {
            Piece::Bytes(bytes) => bytes,
            Piece::Gap(length) => {
                half.inbox.clear();
                (half.is_in_step, half.is_told) = (false, true);
                let way = if is_up { "to" } else { "from" };
                let what = format!("{name}: {length} bytes {way} the server were not captured");
                return tell(place.packet, Harm::Lossy.because(what));
            }
        };
        let may_be_tls = half.inbox.is_empty() && link.client.is_none() && (is_up || !half.is_in_step);
        if may_be_tls && is_tls(&bytes) {
            link.is_foreign = true;
            let what =
                format!("{name}: speaks TLS, which cannot be read; capture behind it, or use `tuyagw tap`");
            return tell(place.packet, Harm::Unreadable.because(what));
        }
        half.inbox.extend_from_slice(&bytes);
        if !half.is_in_step && announced(&half.inbox).is_none_or(|length| length > PLAUSIBLE) {
            return half.pass_over(name, is_up, place, tell);
        }
        let to = if is_up { End::Server } else { End::Client };
        loop {
            let half = if is_up { &mut link.up } else { &mut link.down };
            let packet = match Packet::decode(&mut half.inbox, to, LARGEST) {
                Ok(Some(packet)) => packet,
                Ok(None) => return ControlFlow::Continue(()),
                Err(_) if !half.is_in_step => return half.pass_over(name, is_up, place, tell),
                Err(malformed) => {
                    half.inbox.clear();
                    (half.is_in_step, half.is_told) = (false, true);
                    let what = format!("{name}: is not MQTT 3.1.1: {malformed}");
                    return tell(place.packet, Harm::Unreadable.because(what));
                }
            };
            half.is_in_step = true;
            self.say(link, name, is_up, place, packet, tell)?;
            if link.is_foreign {
                return ControlFlow::Continue(());
            }
        }
    }

    /// Tells what a packet means.
    fn say(
        &mut self,
        link: &mut Link,
        name: &str,
        is_up: bool,
        place: Place,
        packet: Packet,
        tell: &mut Tell<'_>,
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
                tell(place.packet, Harm::Unreadable.because(what))
            }
            Packet::ConnAck { code, .. } => {
                link.is_connected = code == ConnectCode::ACCEPTED;
                client(link, Direction::Up, true, Some(code), place, tell)
            }
            Packet::Publish(message) => self.message(dir, place, &message, tell),
            Packet::Disconnect => ended(link, dir, place, tell),
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
        place: Place,
        message: &Message,
        tell: &mut Tell<'_>,
    ) -> ControlFlow<()> {
        let record = Record::of(message, place.unix_us, place.mono_us).classified(self.topics);
        if record.dir.is_some_and(|own| own != dir) {
            self.copies += 1;
            return ControlFlow::Continue(());
        }
        tell(place.packet, Found::Message(Record { dir: Some(dir), ..record }))
    }

    /// Tells what is left when the capture ends after its `packet`th packet.
    pub fn finish(&mut self, packet: u64, tell: &mut Tell<'_>) -> ControlFlow<()> {
        let mut links: Vec<_> = self.links.drain().collect();
        links.sort_unstable_by_key(|(key, _)| *key);
        for ((client, server), link) in links {
            let missing =
                [&link.up, &link.down].into_iter().any(|half| !half.inbox.is_empty() && half.is_in_step)
                    || [link.up, link.down].into_iter().any(|mut half| !half.stream.finish().is_empty());
            if missing {
                let what =
                    format!("is the last one, and {client} > {server} ends in the middle of a message");
                tell(packet, Harm::Lossy.because(what))?;
            }
        }
        if self.copies > 0 {
            let what = format!(
                "is the last one; {} messages between platform users and the broker were left out: they are copies \
                 of what the gateways sent or received",
                self.copies
            );
            tell(packet, Harm::Lossy.because(what))?;
        }
        ControlFlow::Continue(())
    }
}

impl Half {
    /// Drops what is the middle of a message whose beginning is not known, and says so once.
    fn pass_over(&mut self, name: &str, is_up: bool, place: Place, tell: &mut Tell<'_>) -> ControlFlow<()> {
        self.inbox.clear();
        if std::mem::replace(&mut self.is_told, true) {
            return ControlFlow::Continue(());
        }
        let way = if is_up { "to" } else { "from" };
        let what = format!(
            "{name}: the capture begins in the middle of what went {way} the server; it is read from the next packet \
             that begins a segment"
        );
        tell(place.packet, Harm::Lossy.because(what))
    }
}

impl Link {
    fn end(&mut self, is_up: bool, segment: &Segment<'_>) {
        let half = if is_up { &mut self.up } else { &mut self.down };
        half.has_ended |= segment.fin;
    }
}

/// Tells that the client has gone, once.
fn ended(link: &mut Link, dir: Direction, place: Place, tell: &mut Tell<'_>) -> ControlFlow<()> {
    if !std::mem::take(&mut link.is_connected) {
        return ControlFlow::Continue(());
    }
    client(link, dir, false, None, place, tell)
}

fn client(
    link: &Link,
    dir: Direction,
    connected: bool,
    code: Option<ConnectCode>,
    place: Place,
    tell: &mut Tell<'_>,
) -> ControlFlow<()> {
    let Some((client_id, username)) = &link.client else { return ControlFlow::Continue(()) };
    let connection = Connection {
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
    tell(place.packet, Found::Connection(connection))
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
