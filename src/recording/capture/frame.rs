//! The TCP segment in a captured packet.

use std::net::SocketAddr;

use etherparse::{EtherType, LaxNetSlice, LaxSlicedPacket, TransportSlice};
use pcap_parser::Linktype;

/// The two ends of a connection, or the source and the target of a segment.
pub(super) type Endpoints = (SocketAddr, SocketAddr);

/// One TCP segment.
#[derive(Clone, Copy, Debug)]
pub(super) struct Segment<'a> {
    pub source: SocketAddr,
    pub target: SocketAddr,
    /// The sequence number of the first byte, or of SYN.
    pub sequence: u32,
    /// The acknowledgement number: the sender has received everything before it.
    pub acknowledged: Option<u32>,
    pub syn: bool,
    pub fin: bool,
    pub rst: bool,
    /// The part that was captured.
    pub payload: &'a [u8],
    /// Whether the capture's limit on the packet length cut something off.
    pub is_cut: bool,
}

/// A link layer that is not supported.
#[derive(Debug)]
pub(super) struct UnknownLink;

/// Returns the segment in a packet; `None` if it is not TCP, or too short.
pub(super) fn segment(link: Linktype, data: &[u8]) -> Result<Option<Segment<'_>>, UnknownLink> {
    // Two more numbers stand for raw packets on some systems.
    const RAW: [i32; 5] = [12, 14, Linktype::RAW.0, Linktype::IPV4.0, Linktype::IPV6.0];
    // 108 is OpenBSD's loopback. Both begin with an address family, which the IP version makes superfluous.
    const LOOPBACK: [i32; 2] = [Linktype::NULL.0, Linktype::LOOP.0];
    let ethertype = |at: usize| Some(EtherType(u16::from_be_bytes(data.get(at..at + 2)?.try_into().ok()?)));
    let cooked = |at: usize, header: usize| {
        Some(LaxSlicedPacket::from_ether_type(ethertype(at)?, data.get(header..)?))
    };
    let packet = match link {
        Linktype::ETHERNET => LaxSlicedPacket::from_ethernet(data).ok(),
        Linktype::LINUX_SLL => cooked(14, 16),
        Linktype::LINUX_SLL2 => cooked(0, 20),
        Linktype(raw) if RAW.contains(&raw) => LaxSlicedPacket::from_ip(data).ok(),
        Linktype(loopback) if LOOPBACK.contains(&loopback) => {
            data.get(4..).and_then(|data| LaxSlicedPacket::from_ip(data).ok())
        }
        _ => return Err(UnknownLink),
    };
    Ok(packet.as_ref().and_then(tcp))
}

fn tcp<'a>(packet: &LaxSlicedPacket<'a>) -> Option<Segment<'a>> {
    let Some(TransportSlice::Tcp(tcp)) = &packet.transport else { return None };
    let (source, target): (std::net::IpAddr, std::net::IpAddr) = match packet.net.as_ref()? {
        LaxNetSlice::Ipv4(ip) => (ip.header().source_addr().into(), ip.header().destination_addr().into()),
        LaxNetSlice::Ipv6(ip) => (ip.header().source_addr().into(), ip.header().destination_addr().into()),
        LaxNetSlice::Arp(_) => return None,
    };
    Some(Segment {
        source: (source, tcp.source_port()).into(),
        target: (target, tcp.destination_port()).into(),
        sequence: tcp.sequence_number(),
        acknowledged: tcp.ack().then(|| tcp.acknowledgment_number()),
        syn: tcp.syn(),
        fin: tcp.fin(),
        rst: tcp.rst(),
        payload: tcp.payload(),
        is_cut: false,
    })
}
