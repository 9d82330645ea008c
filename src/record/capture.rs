//! Captures of packets, pcap and pcapng: the MQTT connections in them as records.
//!
//! Pure but for the reader that it is given. Packets are cut into TCP segments (`frame.rs`), segments put into
//! order (`stream.rs`), and the streams read as MQTT (`traffic.rs`).
#![deny(clippy::disallowed_methods, clippy::disallowed_types)]

mod frame;
mod stream;
mod traffic;

use std::{
    io::{self, Read},
    ops::ControlFlow,
};

use pcap_parser::{Block, Linktype, PcapBlockOwned, PcapError, create_reader};

use self::traffic::Traffic;
use super::{Found, Harm, Tell};
use crate::protocol::Topics;

/// The ports of MQTT that are known without being told: the edge's and the registered one.
const PORTS: [u16; 2] = [21_883, 1883];

/// How much of a capture is held at once, to begin with.
const BUFFER: usize = 256 * 1024;
/// A block larger than this is no packet.
const LARGEST: usize = 64 << 20;

/// A reader of captures.
#[derive(Debug)]
pub struct Capture<'t> {
    traffic: Traffic<'t>,
    packets: u64,
    /// Packets whose link layer is not understood, by its number.
    foreign_links: Option<Linktype>,
}

/// How one interface of a capture counts time, and what its packets begin with.
#[derive(Clone, Copy, Debug)]
struct Interface {
    link: Linktype,
    units_per_second: u64,
    offset: i64,
}

impl<'t> Capture<'t> {
    /// A reader; `ports` are those of MQTT beside 21883 and 1883. On other ports a connection is found where its
    /// CONNECT was captured.
    #[must_use]
    pub fn new(topics: &'t Topics, ports: &[u16]) -> Self {
        let ports = PORTS.into_iter().chain(ports.iter().copied()).collect();
        Self { traffic: Traffic::new(topics, ports), packets: 0, foreign_links: None }
    }

    /// Reads all packets. The first read must give the capture's whole header.
    ///
    /// # Errors
    /// What the reader fails with, or a file that is no capture.
    pub fn read(&mut self, reader: impl Read + Send, tell: &mut Tell<'_>) -> io::Result<()> {
        let mut capacity = BUFFER;
        let mut blocks = create_reader(capacity, reader).map_err(|why| unreadable(&why))?;
        let mut interfaces: Vec<Interface> = Vec::new();
        loop {
            let stop = match blocks.next() {
                Ok((length, block)) => {
                    let flow = self.block(&block, &mut interfaces, tell);
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
                    if tell(self.packets, Found::Idle).is_break() {
                        return Ok(());
                    }
                    blocks.refill().map_err(|why| unreadable(&why))?;
                }
                Stop::Incomplete | Stop::TooSmall => {
                    let torn = Harm::Torn.because("is cut off: the capture ends in the middle of it");
                    if tell(self.packets + 1, torn).is_break() {
                        return Ok(());
                    }
                    break;
                }
            }
        }
        let _ends_anyway = self.traffic.finish(self.packets, tell);
        Ok(())
    }

    fn block(
        &mut self,
        block: &PcapBlockOwned<'_>,
        interfaces: &mut Vec<Interface>,
        tell: &mut Tell<'_>,
    ) -> ControlFlow<()> {
        match block {
            PcapBlockOwned::LegacyHeader(header) => {
                let units_per_second =
                    if header.is_nanosecond_precision() { 1_000_000_000 } else { 1_000_000 };
                interfaces.push(Interface { link: header.network, units_per_second, offset: 0 });
                ControlFlow::Continue(())
            }
            PcapBlockOwned::Legacy(packet) => {
                let interface = interfaces.first().copied();
                let time = interface.map(|interface| {
                    let fraction = u64::from(packet.ts_usec);
                    u64::from(packet.ts_sec) * interface.units_per_second + fraction
                });
                let length = packet.data.len().min(packet.caplen as usize);
                self.packet(interface, time, &packet.data[..length], tell)
            }
            PcapBlockOwned::NG(Block::SectionHeader(_)) => {
                interfaces.clear();
                ControlFlow::Continue(())
            }
            PcapBlockOwned::NG(Block::InterfaceDescription(about)) => {
                interfaces.push(Interface {
                    link: about.linktype,
                    units_per_second: about.ts_resolution().unwrap_or(1_000_000),
                    offset: about.ts_offset(),
                });
                ControlFlow::Continue(())
            }
            PcapBlockOwned::NG(Block::EnhancedPacket(packet)) => {
                let time = u64::from(packet.ts_high) << 32 | u64::from(packet.ts_low);
                let interface = interfaces.get(packet.if_id as usize).copied();
                let length = packet.data.len().min(packet.caplen as usize);
                self.packet(interface, Some(time), &packet.data[..length], tell)
            }
            PcapBlockOwned::NG(Block::SimplePacket(packet)) => {
                self.packet(interfaces.first().copied(), None, packet.data, tell)
            }
            PcapBlockOwned::NG(_) => ControlFlow::Continue(()),
        }
    }

    /// A packet, and its time in the interface's units, where it has one.
    fn packet(
        &mut self,
        interface: Option<Interface>,
        time: Option<u64>,
        data: &[u8],
        tell: &mut Tell<'_>,
    ) -> ControlFlow<()> {
        self.packets += 1;
        let (Some(interface), Some(time)) = (interface, time) else {
            return tell(self.packets, Harm::Unreadable.because("has no time stamp or no interface"));
        };
        let unix_us = interface.unix_us(time);
        match frame::segment(interface.link, data) {
            Ok(Some(segment)) => self.traffic.hear(self.packets, unix_us, &segment, tell),
            Err(frame::UnknownLink) if self.foreign_links != Some(interface.link) => {
                self.foreign_links = Some(interface.link);
                let what =
                    format!("has the link type {}, which is not read; capture with -i any", interface.link.0);
                tell(self.packets, Harm::Unreadable.because(what))
            }
            Ok(None) | Err(frame::UnknownLink) => ControlFlow::Continue(()),
        }
    }
}

impl Interface {
    fn unix_us(self, time: u64) -> i64 {
        let us = u128::from(time) * 1_000_000 / u128::from(self.units_per_second.max(1));
        i64::try_from(us).unwrap_or(i64::MAX).saturating_add(self.offset.saturating_mul(1_000_000))
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

#[cfg(test)]
mod tests;
