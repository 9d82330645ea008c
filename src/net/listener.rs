//! A socket that listens, of a broker or a tap: its address, and whether it speaks TLS.

use std::{
    io,
    net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr},
};

use tokio::net::{TcpListener, TcpSocket, TcpStream};
use tokio_rustls::TlsAcceptor;

use crate::error::Failure;

/// How many connections may wait to be accepted: a whole fleet that comes back at once.
const BACKLOG: u32 = 4096;

/// A bound address.
pub(super) struct Listener {
    socket: TcpListener,
    address: SocketAddr,
    tls: Option<TlsAcceptor>,
}

impl Listener {
    /// Listens on an address, in TLS with an acceptor; port 0 picks a free port.
    ///
    /// # Errors
    /// An address that cannot be bound.
    pub(super) fn bind(address: SocketAddr, tls: Option<TlsAcceptor>) -> Result<Self, Failure> {
        let socket = listen(address).map_err(|why| cannot_bind(address, &why))?;
        let address = socket.local_addr().map_err(|why| cannot_bind(address, &why))?;
        Ok(Self { socket, address, tls })
    }

    /// The bound address.
    pub(super) fn address(&self) -> SocketAddr {
        self.address
    }

    /// The acceptor, if connections begin with a TLS handshake.
    pub(super) fn tls(&self) -> Option<TlsAcceptor> {
        self.tls.clone()
    }

    /// The bound address as a URL.
    pub(super) fn url(&self) -> String {
        self.url_at(self.address)
    }

    /// The URL for clients on this machine: an unspecified address is one to listen on, not one to connect to.
    pub(super) fn local_url(&self) -> String {
        let ip = match self.address.ip() {
            IpAddr::V4(ip) if ip.is_unspecified() => Ipv4Addr::LOCALHOST.into(),
            IpAddr::V6(ip) if ip.is_unspecified() => Ipv6Addr::LOCALHOST.into(),
            ip => ip,
        };
        self.url_at(SocketAddr::new(ip, self.address.port()))
    }

    fn url_at(&self, address: SocketAddr) -> String {
        let scheme = if self.tls.is_some() { "mqtts" } else { "mqtt" };
        format!("{scheme}://{address}")
    }

    /// Whether other machines can connect.
    pub(super) fn is_public(&self) -> bool {
        !self.address.ip().is_loopback()
    }

    /// Accepts the next connection. Cancel-safe.
    ///
    /// # Errors
    /// Most often too many open files; the next call may succeed once a connection has ended.
    pub(super) async fn accept(&self) -> io::Result<(TcpStream, SocketAddr)> {
        let (stream, peer) = self.socket.accept().await?;
        // Without it small packets wait for the peer's delayed acknowledgements. If it fails, they do.
        let _ = stream.set_nodelay(true);
        Ok((stream, peer))
    }
}

fn listen(address: SocketAddr) -> io::Result<TcpListener> {
    let socket = if address.is_ipv4() { TcpSocket::new_v4()? } else { TcpSocket::new_v6()? };
    // A restarted program must not wait for its predecessor's connections to be forgotten.
    #[cfg(not(windows))]
    socket.set_reuseaddr(true)?;
    socket.bind(address)?;
    socket.listen(BACKLOG)
}

fn cannot_bind(address: SocketAddr, why: &io::Error) -> Failure {
    let failure = Failure::io(format!("cannot listen on {address}: {why}"));
    match why.kind() {
        io::ErrorKind::AddrInUse => failure.hint(
            "Another program, perhaps another edge or tap, listens there; choose another port with --listen, or \
             port 0 for a free one.",
        ),
        io::ErrorKind::PermissionDenied => failure.hint("Ports below 1024 need privileges; choose another one."),
        io::ErrorKind::AddrNotAvailable => failure.hint("The address must be one of this machine's."),
        _ => failure,
    }
}
