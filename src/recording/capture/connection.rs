//! One captured TCP connection, from its segments to records.

use std::ops::ControlFlow;

use super::{
    frame::{Endpoints, Segment},
    half::{HalfConnection, NextPacket, is_tls},
    reassembly::Piece,
};
use crate::{
    mqtt::{
        ConnectCode, Direction,
        codec::{Message, Packet, Side},
    },
    recording::{
        entry::{EntryVisitor, IssueKind, RecordingEntry},
        record::{ConnectionRecord, Record},
    },
    tuya::Topics,
};

/// A connection between a client and a server.
#[derive(Debug, Default)]
pub(super) struct CapturedConnection {
    up: HalfConnection,
    down: HalfConnection,
    /// The client id and the username.
    client: Option<(String, Option<String>)>,
    is_connected: bool,
    /// Whether the connection is ignored, because it uses TLS or another protocol.
    is_foreign: bool,
    /// Whether this is another connection before or after an address translation; unknown until a segment tells.
    pub is_copy: Option<bool>,
    /// The number of its last packet.
    pub last_packet: u64,
}

/// Number and time of a captured packet.
#[derive(Clone, Copy)]
pub(super) struct PacketPosition {
    pub packet: u64,
    pub unix_us: i64,
    pub mono_us: u64,
}

/// What was read from all connections.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct MqttCounts {
    /// MQTT packets.
    pub packets: u64,
    /// Copies of messages, which a platform's user sent or received.
    pub copies: u64,
}

/// A segment being read: where it belongs, and where its entries go.
pub(super) struct SegmentContext<'c, 't, 'v> {
    pub topics: &'t Topics,
    pub counts: &'c mut MqttCounts,
    pub endpoints: Endpoints,
    pub position: PacketPosition,
    pub visit: &'c mut EntryVisitor<'v>,
}

impl SegmentContext<'_, '_, '_> {
    fn report(&mut self, kind: IssueKind, message: String) -> ControlFlow<()> {
        (self.visit)(self.position.packet, kind.entry(message))
    }

    /// The connection, as messages name it.
    fn name(&self) -> String {
        let (client, server) = self.endpoints;
        format!("{client} > {server}")
    }
}

impl CapturedConnection {
    /// Handles the next segment, which travels up if `is_up`.
    pub fn handle_segment(
        &mut self,
        is_up: bool,
        segment: &Segment<'_>,
        context: &mut SegmentContext<'_, '_, '_>,
    ) -> ControlFlow<()> {
        if !self.is_foreign {
            let (this, other) =
                if is_up { (&mut self.up, &mut self.down) } else { (&mut self.down, &mut self.up) };
            let acknowledged = segment.acknowledged.map(|number| other.stream.handle_acknowledgement(number));
            let pieces = if segment.syn {
                this.begin(segment.sequence);
                Vec::new()
            } else {
                let mut pieces = this.stream.handle_segment(segment.sequence, segment.payload);
                if segment.fin || segment.rst {
                    pieces.extend(this.stream.finish());
                }
                pieces
            };
            for (pieces, is_up) in [(acknowledged.unwrap_or_default(), !is_up), (pieces, is_up)] {
                for piece in pieces {
                    self.handle_piece(is_up, piece, context)?;
                }
            }
            if segment.fin || segment.rst {
                self.disconnect(direction(is_up), context)?;
            }
        }
        self.half(is_up).has_ended |= segment.fin;
        ControlFlow::Continue(())
    }

    /// Whether both ends have closed the connection.
    pub fn has_ended(&self) -> bool {
        self.up.has_ended && self.down.has_ended
    }

    /// How many bytes wait for more.
    pub fn weight(&self) -> usize {
        self.up.weight() + self.down.weight()
    }

    /// Whether the capture ends in the middle of a message of this connection.
    pub fn ends_within_message(mut self) -> bool {
        self.up.ends_within_packet()
            || self.down.ends_within_packet()
            || !self.up.stream.finish().is_empty()
            || !self.down.stream.finish().is_empty()
    }

    fn half(&mut self, is_up: bool) -> &mut HalfConnection {
        if is_up { &mut self.up } else { &mut self.down }
    }

    fn handle_piece(
        &mut self,
        is_up: bool,
        piece: Piece,
        context: &mut SegmentContext<'_, '_, '_>,
    ) -> ControlFlow<()> {
        let bytes = match piece {
            Piece::Bytes(bytes) => bytes,
            Piece::Gap(length) => {
                self.half(is_up).handle_gap();
                let (name, way) = (context.name(), way(is_up));
                let what = format!("{name}: {length} bytes {way} the server were not captured");
                return context.report(IssueKind::Lossy, what);
            }
        };
        if self.client.is_none() && self.half(is_up).may_begin_tls(is_up) && is_tls(&bytes) {
            self.is_foreign = true;
            let name = context.name();
            let what =
                format!("{name}: speaks TLS, which cannot be read; capture behind it, or use `tuyagw tap`");
            return context.report(IssueKind::Unreadable, what);
        }
        let mut next = self.half(is_up).push(&bytes);
        loop {
            let to = if is_up { Side::Server } else { Side::Client };
            match next.take().unwrap_or_else(|| self.half(is_up).next_packet(to)) {
                NextPacket::Packet(packet) => {
                    context.counts.packets += 1;
                    self.handle_packet(is_up, packet, context)?;
                    if self.is_foreign {
                        return ControlFlow::Continue(());
                    }
                }
                NextPacket::Incomplete | NextPacket::OutOfStep { is_new: false } => {
                    return ControlFlow::Continue(());
                }
                NextPacket::OutOfStep { is_new: true } => {
                    let (name, way) = (context.name(), way(is_up));
                    let what = format!(
                        "{name}: the capture begins in the middle of what went {way} the server; it is read from the \
                         next packet that begins a segment"
                    );
                    return context.report(IssueKind::Lossy, what);
                }
                NextPacket::Malformed(why) => {
                    let what = format!("{}: is not MQTT 3.1.1: {why}", context.name());
                    return context.report(IssueKind::Unreadable, what);
                }
            }
        }
    }

    fn handle_packet(
        &mut self,
        is_up: bool,
        packet: Packet,
        context: &mut SegmentContext<'_, '_, '_>,
    ) -> ControlFlow<()> {
        match packet {
            Packet::Connect(connect) => {
                self.client = Some((connect.client_id.clone(), connect.username.clone()));
                ControlFlow::Continue(())
            }
            // The packets after a CONNECT of level 3 are those of level 4.
            Packet::OtherVersion { protocol, level, .. } if level & 0x7f != 3 => {
                self.is_foreign = true;
                let name = context.name();
                let what = format!(
                    "{name}: speaks {protocol} level {level}, which is not read: MQTT 3.1.1 is level 4"
                );
                context.report(IssueKind::Unreadable, what)
            }
            Packet::ConnAck { code, .. } => {
                self.is_connected = code == ConnectCode::ACCEPTED;
                self.visit_connection(Direction::Up, true, Some(code), context)
            }
            Packet::Publish(message) => visit_message(direction(is_up), &message, context),
            Packet::Disconnect => self.disconnect(direction(is_up), context),
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

    /// Passes on once that the client has disconnected.
    fn disconnect(&mut self, dir: Direction, context: &mut SegmentContext<'_, '_, '_>) -> ControlFlow<()> {
        if !std::mem::take(&mut self.is_connected) {
            return ControlFlow::Continue(());
        }
        self.visit_connection(dir, false, None, context)
    }

    fn visit_connection(
        &self,
        dir: Direction,
        connected: bool,
        code: Option<ConnectCode>,
        context: &mut SegmentContext<'_, '_, '_>,
    ) -> ControlFlow<()> {
        let Some((client_id, username)) = &self.client else { return ControlFlow::Continue(()) };
        let PacketPosition { packet, unix_us, mono_us } = context.position;
        let connection = ConnectionRecord {
            unix_us,
            dir,
            connected,
            // A CONNECT does not say whether the client is a gateway or a platform's user.
            gateway_id: None,
            mono_us,
            client_id,
            username: username.as_deref(),
            code,
        };
        (context.visit)(packet, RecordingEntry::Connection(connection))
    }
}

fn visit_message(
    dir: Direction,
    message: &Message,
    context: &mut SegmentContext<'_, '_, '_>,
) -> ControlFlow<()> {
    let PacketPosition { packet, unix_us, mono_us } = context.position;
    let record = Record::of(message, unix_us, mono_us).classified(context.topics);
    if record.dir.is_some_and(|own| own != dir) {
        context.counts.copies += 1;
        return ControlFlow::Continue(());
    }
    (context.visit)(packet, RecordingEntry::Message(Record { dir: Some(dir), ..record }))
}

fn direction(is_up: bool) -> Direction {
    if is_up { Direction::Up } else { Direction::Down }
}

/// The way that bytes travel, as messages say it before "the server".
fn way(is_up: bool) -> &'static str {
    if is_up { "to" } else { "from" }
}
