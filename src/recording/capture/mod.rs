//! Reads captures of packets, pcap and pcapng, and passes on the MQTT messages in them.
//!
//! `frame.rs` finds the TCP segment in a packet, `tracker.rs` its connection, `reassembly.rs` puts segments into order,
//! `half.rs` decodes MQTT packets, and `connection.rs` makes records of them.

mod clock;
mod connection;
mod duplicates;
mod frame;
mod half;
mod reassembly;
#[cfg(test)]
mod tests;
mod tracker;

use std::{
    collections::BTreeSet,
    io::{self, Read},
    ops::ControlFlow,
};

use pcap_parser::{
    Block, InterfaceDescriptionBlock, Linktype, OptionCode, PcapBlockOwned, PcapError, create_reader,
};

use self::{clock::InterfaceClock, tracker::ConnectionTracker};
use super::entry::{EntryVisitor, IssueKind, RecordingEntry};
use crate::tuya::Topics;

/// The default ports of MQTT: the edge's, and the registered ones without and with TLS.
const PORTS: [u16; 3] = [21_883, 1883, 8883];

/// Initial size of the buffer.
const BUFFER: usize = 256 * 1024;
/// Largest block.
const LARGEST: usize = 64 << 20;

/// Reads one capture.
#[derive(Debug)]
pub struct CaptureReader<'t> {
    tracker: ConnectionTracker<'t>,
    packets: u64,
    /// The link types that are not supported, and were reported.
    unknown_links: BTreeSet<i32>,
    /// Whether the section's numbers have the high byte first.
    is_big_endian: bool,
    /// Why the times of an interface cannot be used.
    unusable_clock: Option<String>,
}

/// The link layer and the clock of one interface of a capture.
#[derive(Clone, Copy, Debug)]
struct Interface {
    link: Linktype,
    /// `None` if its times cannot be used.
    clock: Option<InterfaceClock>,
}

impl<'t> CaptureReader<'t> {
    /// Returns a reader; `ports` are those of MQTT in addition to 21883, 1883 and 8883. On other ports a connection is found
    /// if its CONNECT was captured.
    #[must_use]
    pub fn new(topics: &'t Topics, ports: &[u16]) -> Self {
        let ports = PORTS.into_iter().chain(ports.iter().copied()).collect();
        Self {
            tracker: ConnectionTracker::new(topics, ports),
            packets: 0,
            unknown_links: BTreeSet::new(),
            is_big_endian: false,
            unusable_clock: None,
        }
    }

    /// Reads all packets. The first read must return the capture's whole header.
    ///
    /// # Errors
    /// The reader's errors, a file that is not a capture, or an interface whose times cannot be used.
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
                // Grow only if there is more to read: a damaged block may claim any size.
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
        let _ends_anyway = self.tracker.finish(self.packets, visit);
        self.unusable_clock.take().map_or(Ok(()), |why| Err(io::Error::other(why)))
    }

    fn block(
        &mut self,
        block: &PcapBlockOwned<'_>,
        interfaces: &mut Vec<Interface>,
        visit: &mut EntryVisitor<'_>,
    ) -> ControlFlow<()> {
        match block {
            PcapBlockOwned::LegacyHeader(header) => {
                let clock = Some(InterfaceClock::pcap(header.is_nanosecond_precision()));
                interfaces.push(Interface { link: header.network, clock });
                ControlFlow::Continue(())
            }
            PcapBlockOwned::Legacy(packet) => {
                let interface = interfaces.first().copied();
                let ticks = interface
                    .and_then(|interface| interface.clock)
                    .and_then(|clock| clock.ticks(packet.ts_sec, packet.ts_usec));
                self.packet(interface, ticks, packet.data, packet.caplen, packet.origlen, visit)
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

    /// Handles a Packet Block, which pcapng had before the Enhanced Packet Block.
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

    /// Returns the clock of an interface. One that cannot be used makes the capture fail at its end.
    fn clock(&mut self, about: &InterfaceDescriptionBlock<'_>, number: usize) -> Option<InterfaceClock> {
        let option =
            |code| about.options.iter().find(|option| option.code == code).map(|option| &option.value[..]);
        let resolution = option(OptionCode::IfTsresol).map_or(Some(6), |value| value.first().copied());
        // The crate reads it with the low byte first, whatever the section's byte order.
        let offset_s = option(OptionCode::IfTsoffset).map_or(Some(0), |value| {
            let bytes = value.get(..8)?.try_into().ok()?;
            Some(if self.is_big_endian { i64::from_be_bytes(bytes) } else { i64::from_le_bytes(bytes) })
        });
        let clock = resolution
            .zip(offset_s)
            .and_then(|(resolution, offset_s)| InterfaceClock::pcapng(resolution, offset_s));
        if clock.is_none() {
            let resolution =
                resolution.map_or("no value".to_owned(), |resolution| format!("{resolution:#04x}"));
            self.unusable_clock.get_or_insert(format!(
                "interface {number} counts time in a unit that cannot be used (if_tsresol {resolution}; 0 to 19 and 0x80 \
                 to 0xbf can be); its packets were passed over"
            ));
        }
        clock
    }

    /// Handles a packet; `ticks` is its time by the interface's clock, if it has one.
    fn packet(
        &mut self,
        interface: Option<Interface>,
        ticks: Option<u64>,
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
        // The reason is reported at the end.
        let Some(clock) = interface.clock else { return ControlFlow::Continue(()) };
        let Some(unix_us) = ticks.and_then(|ticks| clock.unix_us(ticks)) else {
            return visit(self.packets, IssueKind::Unreadable.entry("has no time stamp that is a time"));
        };
        let data = &data[..data.len().min(captured as usize)];
        match frame::segment(interface.link, data) {
            Ok(Some(segment)) => {
                let segment = frame::Segment { is_cut: original > captured, ..segment };
                self.tracker.handle_segment(self.packets, unix_us, &segment, visit)
            }
            Err(frame::UnknownLink) if self.unknown_links.insert(interface.link.0) => {
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
