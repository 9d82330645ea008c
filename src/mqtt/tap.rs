//! The tap's socket shell: stands between clients and a broker, forwards every byte unchanged and at once, and
//! tells a witness what the bytes say.
//!
//! One thread, one task for each connection. Nothing that goes wrong in decoding or recording touches the
//! traffic.

mod relay;
mod transcript;

use std::{cell::RefCell, fmt, io, net::SocketAddr, rc::Rc, time::Duration};

use tokio::{
    net::{TcpListener, TcpSocket, TcpStream},
    task::JoinSet,
};
use tokio_rustls::TlsAcceptor;

use self::relay::{Passed, Relay, Scratch};
pub use self::transcript::{Client, Heard, Transcript};
use super::client::{
    Settings,
    stream::{self, Socket},
};
use crate::failure::Failure;

/// How many connections may wait to be accepted: a whole fleet that comes back at once.
const BACKLOG: u32 = 4096;

/// Who is told what is said on the tapped connections.
pub trait Witness {
    /// A connection said something.
    fn heard(&mut self, heard: Heard<'_>, peer: SocketAddr);
    /// Something is off; the traffic goes on.
    fn warn(&mut self, message: &str);
}

/// A tap that listens.
pub struct Tap {
    listener: TcpListener,
    address: SocketAddr,
    tls: Option<TlsAcceptor>,
    shared: Rc<Shared>,
}

/// What all connections share.
struct Shared {
    broker: Settings,
    scratch: RefCell<Scratch>,
    witness: Rc<RefCell<dyn Witness>>,
}

impl fmt::Debug for Tap {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Tap").field("address", &self.address).finish_non_exhaustive()
    }
}

impl Tap {
    /// Listens on an address, in TLS with an acceptor; port 0 picks a free port. Of `broker`, the address, TLS, the
    /// connect time-out and the largest packet to decode are used.
    ///
    /// # Errors
    /// An address that cannot be bound.
    pub fn bind(
        address: SocketAddr,
        tls: Option<TlsAcceptor>,
        broker: Settings,
        witness: Rc<RefCell<dyn Witness>>,
    ) -> Result<Self, Failure> {
        let listener = listen(address).map_err(|why| cannot_bind(address, &why))?;
        let address = listener.local_addr().map_err(|why| cannot_bind(address, &why))?;
        let shared = Shared { broker, scratch: RefCell::default(), witness };
        Ok(Self { listener, address, tls, shared: Rc::new(shared) })
    }

    /// The address that clients connect to, as a URL.
    #[must_use]
    pub fn url(&self) -> String {
        let scheme = if self.tls.is_some() { "mqtts" } else { "mqtt" };
        format!("{scheme}://{}", self.address)
    }

    /// Whether other machines can reach the tap.
    #[must_use]
    pub fn is_public(&self) -> bool {
        !self.address.ip().is_loopback()
    }

    /// Serves clients until `end` resolves, then closes every connection; gives what `end` gave. To be run on a
    /// [`tokio::task::LocalSet`].
    pub async fn serve<T>(&self, end: impl Future<Output = T>) -> T {
        let mut connections = JoinSet::new();
        let mut end = std::pin::pin!(end);
        let ended = loop {
            tokio::select! {
                ended = &mut end => break ended,
                Some(_) = connections.join_next() => {}
                accepted = self.listener.accept() => match accepted {
                    Ok((stream, peer)) => {
                        let (shared, tls) = (Rc::clone(&self.shared), self.tls.clone());
                        connections.spawn_local(connection(stream, peer, tls, shared));
                    }
                    Err(why) => {
                        // Most often too many open files; a connection that ends makes room.
                        self.shared.warn(&format!("cannot accept a connection: {why}"));
                        tokio::time::sleep(Duration::from_millis(100)).await;
                    }
                },
            }
        };
        connections.shutdown().await;
        ended
    }
}

impl Shared {
    fn warn(&self, message: &str) {
        self.witness.borrow_mut().warn(message);
    }
}

async fn connection(client: TcpStream, peer: SocketAddr, tls: Option<TlsAcceptor>, shared: Rc<Shared>) {
    // Without it small packets wait for delayed acknowledgements; where it fails, they do.
    let _ = client.set_nodelay(true);
    let limit = shared.broker.connect_timeout;
    let client: Box<dyn Socket> = match tls {
        None => Box::new(client),
        Some(tls) => match tokio::time::timeout(limit, tls.accept(client)).await {
            Ok(Ok(client)) => Box::new(client),
            Ok(Err(why)) => {
                return shared.warn(&format!(
                    "{peer}: the TLS handshake failed: {why}; does the client use mqtts:// and know the certificate?"
                ));
            }
            Err(_) => {
                return shared.warn(&format!("{peer}: no TLS handshake in {} s", limit.as_secs_f64()));
            }
        },
    };
    let broker = match stream::dial(shared.broker.clone()).await {
        Ok(broker) => broker.into_socket(),
        Err(why) => {
            let hint = why.hint.map(|hint| format!(" ({hint})")).unwrap_or_default();
            return shared
                .warn(&format!("{peer}: closed, because the broker is out of reach: {}{hint}", why.message));
        }
    };
    let mut account =
        Account { transcript: Transcript::new(shared.broker.max_packet), peer, shared: &shared };
    let lend = |turn: &mut dyn FnMut(&mut Scratch)| turn(&mut shared.scratch.borrow_mut());
    Relay::new(client, broker).run(lend, &mut |passed| account.note(&passed)).await;
}

/// What is heard of one connection; its end is told however the connection ends.
struct Account<'s> {
    transcript: Transcript,
    peer: SocketAddr,
    shared: &'s Shared,
}

impl Account<'_> {
    fn note(&mut self, passed: &Passed<'_>) {
        match passed {
            Passed::End(dir) => self.transcript.ended(*dir),
            Passed::Bytes(dir, bytes) => {
                let mut witness = self.shared.witness.borrow_mut();
                self.transcript.hear(*dir, bytes, &mut |heard| witness.heard(heard, self.peer));
            }
        }
    }
}

impl Drop for Account<'_> {
    fn drop(&mut self) {
        let mut witness = self.shared.witness.borrow_mut();
        self.transcript.close(&mut |heard| witness.heard(heard, self.peer));
    }
}

fn listen(address: SocketAddr) -> io::Result<TcpListener> {
    let socket = if address.is_ipv4() { TcpSocket::new_v4()? } else { TcpSocket::new_v6()? };
    // A restarted tap must not wait for its predecessor's connections to be forgotten.
    #[cfg(not(windows))]
    socket.set_reuseaddr(true)?;
    socket.bind(address)?;
    socket.listen(BACKLOG)
}

fn cannot_bind(address: SocketAddr, why: &io::Error) -> Failure {
    let failure = Failure::io(format!("cannot listen on {address}: {why}"));
    match why.kind() {
        io::ErrorKind::AddrInUse => failure.hint(
            "Another program listens there; choose another port with --listen, or port 0 for a free one.",
        ),
        io::ErrorKind::PermissionDenied => {
            failure.hint("Ports below 1024 need privileges; choose another one.")
        }
        io::ErrorKind::AddrNotAvailable => failure.hint("The address must be one of this machine's."),
        _ => failure,
    }
}
