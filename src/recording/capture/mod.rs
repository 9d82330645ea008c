//! Captures of packets, pcap and pcapng: the MQTT connections in them as records.
//!
//! Pure but for the reader that it is given. Packets are cut into TCP segments (`frame.rs`), segments put into
//! order (`stream.rs`), and the streams read as MQTT (`traffic.rs`).

mod frame;
mod stream;
#[cfg(test)]
mod tests;
mod traffic;

use std::{
    collections::BTreeSet,
    io::{self, Read},
    ops::ControlFlow,
};

use pcap_parser::{
    Block, InterfaceDescriptionBlock, Linktype, OptionCode, PcapBlockOwned, PcapError, create_reader,
};

use self::traffic::ConnectionTracker;
use super::{EntryVisitor, IssueKind, RecordingEntry, number::CALENDAR};
use crate::tuya::Topics;

/// The ports of MQTT that are known without being told: the edge's and the registered ones, over TLS too.
const PORTS: [u16; 3] = [21_883, 1883, 8883];

/// How much of a capture is held at once, to begin with.
const BUFFER: usize = 256 * 1024;
/// A block larger than this is no packet.
const LARGEST: usize = 64 << 20;

/// A reader of captures.
#[derive(Debug)]
pub struct CaptureReader<'t> {
    traffic: ConnectionTracker<'t>,
    packets: u64,
    /// The numbers of link layers that are not understood.
    foreign_links: BTreeSet<i32>,
    /// What interfaces are described in: numbers with the high byte first.
    is_big_endian: bool,
    /// Why an interface's packets have no time.
    unusable: Option<String>,
}

/// How one interface of a capture counts time, and what its packets begin with.
#[derive(Clone, Copy, Debug)]
struct Interface {
    link: Linktype,
    /// `None` where its times cannot be used.
    clock: Option<InterfaceClock>,
}

/// A packet's time: so many units since an offset from 1970.
#[derive(Clone, Copy, Debug)]
struct InterfaceClock {
    unit: TickUnit,
    offset_s: i64,
}

/// The unit of time stamps, as a power of a second.
#[derive(Clone, Copy, Debug)]
enum TickUnit {
    /// 10 to the power of minus this, at most 19, so that 64 bits can count a second.
    Decimal(u32),
    /// 2 to the power of minus this, at most 63.
    Binary(u32),
}

impl TickUnit {
    /// The unit of a pcapng interface (`if_tsresol`); `None` where 64 bits cannot count a second in it.
    fn of(resolution: u8) -> Option<Self> {
        match resolution {
            0..=19 => Some(Self::Decimal(resolution.into())),
            0x80..=0xbf => Some(Self::Binary((resolution & 0x7f).into())),
            _ => None,
        }
    }

    /// The microseconds of so many units, rounded down.
    fn us(self, units: u64) -> i128 {
        let us = i128::from(units) * 1_000_000;
        match self {
            Self::Decimal(power) => us / 10_i128.pow(power),
            Self::Binary(power) => us >> power,
        }
    }
}

impl InterfaceClock {
    /// Microseconds since 1970; `None` beyond the calendar.
    fn unix_us(self, units: u64) -> Option<i64> {
        let us = self.unit.us(units) + i128::from(self.offset_s) * 1_000_000;
        i64::try_from(us).ok().filter(|us| CALENDAR.contains(us))
    }
}

impl<'t> CaptureReader<'t> {
    /// A reader; `ports` are those of MQTT beside 21883, 1883 and 8883. On other ports a connection is found where its
    /// CONNECT was captured.
    #[must_use]
    pub fn new(topics: &'t Topics, ports: &[u16]) -> Self {
        let ports = PORTS.into_iter().chain(ports.iter().copied()).collect();
        Self {
            traffic: ConnectionTracker::new(topics, ports),
            packets: 0,
            foreign_links: BTreeSet::new(),
            is_big_endian: false,
            unusable: None,
        }
    }

    /// Reads all packets. The first read must give the capture's whole header.
    ///
    /// # Errors
    /// What the reader fails with, or a file that is no capture.
    pub fn read(&mut self, reader: impl Read + Send, visit: &mut EntryVisitor<'_>) -> io::Result<()> {
        let mut capacity = BUFFER;
        let mut blocks = create_reader(capacity, reader).map_err(|why| unreadable(&why))?;
        let mut interfaces: Vec<Interface> = Vec::new();
        loop {
            let stop = match blocks.next() {
                Ok((length, block)) => {
                    let flow = self.block(&block, &mut interfaces, visit);
                    blocks.consume(length);
                    if flow.is_break() {
                        return Ok(());
                    }
                    continue;
                }
                Err(PcapError::Eof) => break,
                Err(PcapError::Incomplete(_) | PcapError::UnexpectedEof) => Stop::Incomplete,
                Err(PcapError::BufferTooSmall) => Stop::TooSmall,
                Err(why) => return Err(unreadable(&why)),
            };
            match stop {
                // A block that claims to be large needs room only where there is more to read.
                Stop::TooSmall if !blocks.reader_exhausted() && blocks.data().len() >= capacity => {
                    if capacity >= LARGEST {
                        return Err(unreadable(&PcapError::<()>::BufferTooSmall));
                    }
                    capacity *= 2;
                    blocks.grow(capacity);
                }
                Stop::Incomplete | Stop::TooSmall if !blocks.reader_exhausted() => {
                    if visit(self.packets, RecordingEntry::Idle).is_break() {
                        return Ok(());
                    }
                    blocks.refill().map_err(|why| unreadable(&why))?;
                }
                Stop::Incomplete | Stop::TooSmall => {
                    let torn = IssueKind::Torn.entry("is cut off: the capture ends in the middle of it");
                    if visit(self.packets + 1, torn).is_break() {
                        return Ok(());
                    }
                    break;
                }
            }
        }
        let _ends_anyway = self.traffic.finish(self.packets, visit);
        self.unusable.take().map_or(Ok(()), |why| Err(io::Error::other(why)))
    }

    fn block(
        &mut self,
        block: &PcapBlockOwned<'_>,
        interfaces: &mut Vec<Interface>,
        visit: &mut EntryVisitor<'_>,
    ) -> ControlFlow<()> {
        match block {
            PcapBlockOwned::LegacyHeader(header) => {
                let unit = TickUnit::Decimal(if header.is_nanosecond_precision() { 9 } else { 6 });
                let clock = Some(InterfaceClock { unit, offset_s: 0 });
                interfaces.push(Interface { link: header.network, clock });
                ControlFlow::Continue(())
            }
            PcapBlockOwned::Legacy(packet) => {
                let interface = interfaces.first().copied();
                let time = interface.and_then(|interface| interface.clock).and_then(|clock| {
                    let TickUnit::Decimal(power) = clock.unit else { return None };
                    let (second, fraction) = (10_u64.pow(power), u64::from(packet.ts_usec));
                    (fraction < second).then_some(u64::from(packet.ts_sec) * second + fraction)
                });
                self.packet(interface, time, packet.data, packet.caplen, packet.origlen, visit)
            }
            PcapBlockOwned::NG(Block::SectionHeader(section)) => {
                interfaces.clear();
                self.is_big_endian = section.big_endian();
                ControlFlow::Continue(())
            }
            PcapBlockOwned::NG(Block::InterfaceDescription(about)) => {
                let clock = self.clock(about, interfaces.len());
                interfaces.push(Interface { link: about.linktype, clock });
                ControlFlow::Continue(())
            }
            PcapBlockOwned::NG(Block::EnhancedPacket(packet)) => {
                let time = u64::from(packet.ts_high) << 32 | u64::from(packet.ts_low);
                let interface = interfaces.get(packet.if_id as usize).copied();
                self.packet(interface, Some(time), packet.data, packet.caplen, packet.origlen, visit)
            }
            PcapBlockOwned::NG(Block::SimplePacket(packet)) => {
                let length = u32::try_from(packet.data.len()).unwrap_or(u32::MAX);
                self.packet(interfaces.first().copied(), None, packet.data, length, packet.origlen, visit)
            }
            PcapBlockOwned::NG(Block::Unknown(block)) if matches!(block.block_type, 2 | 0x0200_0000) => {
                self.obsolete_packet(block.data, interfaces, visit)
            }
            PcapBlockOwned::NG(_) => ControlFlow::Continue(()),
        }
    }

    /// A Packet Block, which pcapng had before the Enhanced Packet Block.
    fn obsolete_packet(
        &mut self,
        block: &[u8],
        interfaces: &[Interface],
        visit: &mut EntryVisitor<'_>,
    ) -> ControlFlow<()> {
        let (Some((head, data)), is_big) = (block.split_first_chunk::<20>(), self.is_big_endian) else {
            return self.packet(None, None, block, 0, 0, visit);
        };
        let half = |at: usize| {
            let bytes = [head[at], head[at + 1]];
            if is_big { u16::from_be_bytes(bytes) } else { u16::from_le_bytes(bytes) }
        };
        let word = |at: usize| {
            let (first, second) = (u32::from(half(at)), u32::from(half(at + 2)));
            if is_big { first << 16 | second } else { second << 16 | first }
        };
        let time = u64::from(word(4)) << 32 | u64::from(word(8));
        let interface = interfaces.get(usize::from(half(0))).copied();
        self.packet(interface, Some(time), data, word(12), word(16), visit)
    }

    /// The clock of an interface. One that cannot be used is noted, and makes the capture fail at its end.
    fn clock(&mut self, about: &InterfaceDescriptionBlock<'_>, number: usize) -> Option<InterfaceClock> {
        let option =
            |code| about.options.iter().find(|option| option.code == code).map(|option| &option.value[..]);
        let resolution = option(OptionCode::IfTsresol).map_or(Some(6), |value| value.first().copied());
        // The crate reads it with the low byte first, whatever the section's order is.
        let offset_s = option(OptionCode::IfTsoffset).map_or(Some(0), |value| {
            let bytes = value.get(..8)?.try_into().ok()?;
            Some(if self.is_big_endian { i64::from_be_bytes(bytes) } else { i64::from_le_bytes(bytes) })
        });
        let clock = resolution
            .and_then(TickUnit::of)
            .zip(offset_s)
            .map(|(unit, offset_s)| InterfaceClock { unit, offset_s });
        if clock.is_none() {
            let resolution =
                resolution.map_or("no value".to_owned(), |resolution| format!("{resolution:#04x}"));
            self.unusable.get_or_insert(format!(
                "interface {number} counts time in a unit that cannot be used (if_tsresol {resolution}; 0 to 19 and 0x80 \
                 to 0xbf can be); its packets were passed over"
            ));
        }
        clock
    }

    /// A packet, and its time in the interface's units, where it has one.
    fn packet(
        &mut self,
        interface: Option<Interface>,
        time: Option<u64>,
        data: &[u8],
        captured: u32,
        original: u32,
        visit: &mut EntryVisitor<'_>,
    ) -> ControlFlow<()> {
        self.packets += 1;
        let Some(interface) = interface else {
            return visit(
                self.packets,
                IssueKind::Unreadable.entry("belongs to no interface that is described"),
            );
        };
        // It has been noted why.
        let Some(clock) = interface.clock else { return ControlFlow::Continue(()) };
        let Some(unix_us) = time.and_then(|time| clock.unix_us(time)) else {
            return visit(self.packets, IssueKind::Unreadable.entry("has no time stamp that is a time"));
        };
        let data = &data[..data.len().min(captured as usize)];
        match frame::segment(interface.link, data) {
            Ok(Some(segment)) => {
                let segment = frame::Segment { is_cut: original > captured, ..segment };
                self.traffic.hear(self.packets, unix_us, &segment, visit)
            }
            Err(frame::UnknownLink) if self.foreign_links.insert(interface.link.0) => {
                let what =
                    format!("has the link type {}, which is not read; capture with -i any", interface.link.0);
                visit(self.packets, IssueKind::Unreadable.entry(what))
            }
            Ok(None) | Err(frame::UnknownLink) => ControlFlow::Continue(()),
        }
    }
}

/// Why there is no next block.
enum Stop {
    Incomplete,
    TooSmall,
}

fn unreadable<I>(why: &PcapError<I>) -> io::Error {
    let what = match why {
        PcapError::ReadError => "reading failed",
        PcapError::BufferTooSmall => "a block in it is larger than 64 MiB",
        _ => "it is not a valid pcap or pcapng file",
    };
    io::Error::other(what)
}
