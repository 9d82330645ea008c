//! The tap's socket shell: stands between clients and a broker, forwards every byte unchanged and at once, and passes
//! decoded copies to an observer.
//!
//! One thread forwards, with one task for each connection. Another thread decodes copies of the bytes from a queue, so that
//! forwarding costs only the copying. A failure of decoding or recording does not affect the traffic.

mod capture_queue;
mod dissector;
mod observer;
mod relay;

use std::{
    cell::{Cell, RefCell},
    fmt,
    net::SocketAddr,
    rc::Rc,
    sync::{Arc, Mutex},
    thread::{self, JoinHandle},
    time::Duration,
};

use tokio::{net::TcpStream, task::JoinSet};
use tokio_rustls::TlsAcceptor;

use self::{
    capture_queue::{CaptureQueue, Chunk},
    relay::{Passed, Relay, Scratch},
};
pub use self::{
    dissector::{ClientIdentity, Dissector, Observation},
    observer::{CaptureTime, Observer},
};
use super::{
    client::{
        ClientSettings,
        stream::{self, Socket},
    },
    listener::Listener,
};
use crate::error::Failure;

/// A tap that listens.
pub struct Tap {
    listener: Listener,
    shared: Rc<TapState>,
    decoding: JoinHandle<()>,
}

/// The state that all connections share.
struct TapState {
    broker: ClientSettings,
    scratch: RefCell<Scratch>,
    queue: Arc<CaptureQueue>,
    /// How many connections there have been: their numbers on the queue.
    connections: Cell<u64>,
}

impl fmt::Debug for Tap {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Tap").field("address", &self.listener.address()).finish_non_exhaustive()
    }
}

impl Tap {
    /// Listens on an address, in TLS with an acceptor; port 0 picks a free port. Of `broker`, the address, TLS, the
    /// connect time-out and the largest packet to decode are used.
    ///
    /// # Errors
    /// An address that cannot be bound, a thread that cannot be started.
    pub fn bind(
        address: SocketAddr,
        tls: Option<TlsAcceptor>,
        broker: ClientSettings,
        observer: Arc<Mutex<dyn Observer + Send>>,
    ) -> Result<Self, Failure> {
        let listener = Listener::bind(address, tls)?;
        let queue = Arc::new(CaptureQueue::default());
        let (heard, max_packet) = (Arc::clone(&queue), broker.max_packet);
        let decoding = thread::Builder::new()
            .name("observer".into())
            .spawn(move || heard.decode(max_packet, &observer))
            .map_err(|why| Failure::io(format!("cannot start a thread to record with: {why}")))?;
        let shared = TapState { broker, scratch: RefCell::default(), queue, connections: Cell::new(0) };
        Ok(Self { listener, shared: Rc::new(shared), decoding })
    }

    /// The address that clients connect to, as a URL.
    #[must_use]
    pub fn url(&self) -> String {
        self.listener.url()
    }

    /// Whether other machines can reach the tap.
    #[must_use]
    pub fn is_public(&self) -> bool {
        self.listener.is_public()
    }

    /// Serves clients until `end` resolves, then closes every connection; returns the value of `end` once the observer has got
    /// every observation. To be run on a [`tokio::task::LocalSet`].
    pub async fn serve<T>(self, end: impl Future<Output = T>) -> T {
        let mut connections = JoinSet::new();
        let mut end = std::pin::pin!(end);
        let ended = loop {
            tokio::select! {
                ended = &mut end => break ended,
                Some(_) = connections.join_next() => {}
                accepted = self.listener.accept() => match accepted {
                    Ok((stream, peer)) => {
                        let (shared, tls) = (Rc::clone(&self.shared), self.listener.tls());
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
        self.shared.queue.end();
        // Decodes the rest. A panic of that thread was printed when it happened.
        let _ = self.decoding.join();
        ended
    }
}

impl TapState {
    fn warn(&self, message: &str) {
        self.queue.record(0, Chunk::Warning(message.to_owned()));
    }
}

async fn connection(client: TcpStream, peer: SocketAddr, tls: Option<TlsAcceptor>, shared: Rc<TapState>) {
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
    let capture = ConnectionCapture::open(&shared, peer);
    let lend = |turn: &mut dyn FnMut(&mut Scratch)| turn(&mut shared.scratch.borrow_mut());
    Relay::new(client, broker).run(lend, &mut |passed| capture.record(&passed)).await;
}

/// Captures one connection; captures its end when dropped, however the connection ends.
struct ConnectionCapture<'s> {
    number: u64,
    queue: &'s CaptureQueue,
}

impl<'s> ConnectionCapture<'s> {
    fn open(shared: &'s TapState, peer: SocketAddr) -> Self {
        let number = shared.connections.get() + 1;
        shared.connections.set(number);
        shared.queue.record(number, Chunk::Opened(peer));
        Self { number, queue: &shared.queue }
    }

    fn record(&self, passed: &Passed<'_>) {
        let take = match *passed {
            Passed::End(dir) => Chunk::Ended(dir),
            Passed::Bytes(dir, bytes) => Chunk::Passed(dir, bytes),
        };
        self.queue.record(self.number, take);
    }
}

impl Drop for ConnectionCapture<'_> {
    fn drop(&mut self) {
        self.queue.record(self.number, Chunk::Closed);
    }
}
