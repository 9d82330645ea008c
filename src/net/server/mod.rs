//! The broker's socket shell: listens, drives a [`crate::mqtt::Session`] for each connection, and lets an [`Edge`]
//! decide what is answered.
//!
//! One thread, one task for each connection. Each turn reads what has come and writes, at once, all that it
//! caused; a connection that waits owns no buffer.

mod client_state;
mod connection;
mod retained;
mod router;
mod subscriptions;
#[cfg(test)]
mod tests;
mod tls;

use std::{
    cell::RefCell,
    fmt,
    future::poll_fn,
    io,
    net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr},
    pin::Pin,
    rc::Rc,
    task::{Context, Poll},
    time::{Duration, Instant},
};

use bytes::Bytes;
use tokio::{
    net::{TcpListener, TcpSocket, TcpStream},
    task::spawn_local,
    time::Sleep,
};
use tokio_rustls::TlsAcceptor;

pub use tls::acceptor;

use self::router::Router;
use crate::{
    edge::{CommandRequest, Edge, EndedCommand},
    error::Failure,
    io::{
        batch_writer::WriterError,
        registry_file::{Position, RegistryFile, Step, Steps},
    },
    mqtt::codec::QoS,
    recording::{Connection, Record},
};

/// How many connections may wait to be accepted: a whole fleet that comes back at once.
const BACKLOG: u32 = 4096;

/// What keeps a broker's memory bounded whatever its clients do.
#[derive(Clone, Debug)]
pub struct Limits {
    /// Connections at once; more are closed at once.
    pub max_connections: usize,
    /// The largest packet that is received, in bytes.
    pub max_packet: usize,
    /// How long a client may take until its CONNECT has come, TLS included.
    pub connect_timeout: Duration,
    /// Messages of QoS 1 and 2 on their way to one client without its acknowledgement.
    pub in_flight: u16,
    /// Bytes that wait for one client beyond what is on its way.
    pub max_queue: usize,
    /// Bytes that are kept for all clients together: what waits, is unwritten, unsent, unacknowledged or unreleased, their
    /// subscriptions, names and wills. Those with most are given up when there is more.
    pub max_queues: usize,
    /// Bytes that have come of unfinished packets, of all clients together; a quarter once half of `max_queues` is taken.
    /// What they have taken beyond that quarter is missing in `max_queues`, of which half stays.
    pub max_unfinished: usize,
    /// Bytes of retained messages.
    pub max_retained: usize,
    /// Subscriptions of one client.
    pub max_filters: usize,
    /// Bytes that the subscriptions of one client may occupy.
    pub max_filter_bytes: usize,
    /// How long a persistent session waits for its client.
    pub session_expiry: Duration,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            max_connections: 20_000,
            max_packet: 1024 * 1024,
            connect_timeout: Duration::from_secs(5),
            in_flight: 1000,
            max_queue: 16 * 1024 * 1024,
            max_queues: 48 * 1024 * 1024,
            max_unfinished: 32 * 1024 * 1024,
            max_retained: 8 * 1024 * 1024,
            max_filters: 1000,
            max_filter_bytes: 1024 * 1024,
            session_expiry: Duration::from_hours(2),
        }
    }
}

impl Limits {
    fn session(&self) -> crate::mqtt::SessionLimits {
        crate::mqtt::SessionLimits { max_packet: self.max_packet, in_flight: self.in_flight }
    }

    /// Whether so much is kept for all clients together that each of them gets less room.
    fn is_crowded(&self, total: usize) -> bool {
        total > self.max_queues / 2
    }
}

/// Who is told what happens at the broker.
pub trait Handler {
    /// A message came from a client, or the platform said one.
    fn message(&mut self, record: &Record<'_>);
    /// A client connected, was refused, or is gone.
    fn connection(&mut self, record: &Connection<'_>);
    /// A command of the platform's own has ended.
    fn settled(&mut self, outcome: EndedCommand);
    /// Something is off.
    fn warn(&mut self, message: &str);
    /// The operator's own files are at stake, which is said even where warnings are not.
    fn alert(&mut self, message: &str) {
        self.warn(message);
    }
    /// The broker has done what was to be done at present: a good moment to write.
    fn flush(&mut self);
    /// Whether so much is unwritten that the broker should stop reading until [`Broker::resume`].
    fn is_congested(&self) -> bool;
}

/// A client's session in the broker's tables.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
struct SessionId(u32);

/// A broker that listens.
pub struct Broker {
    listener: TcpListener,
    address: SocketAddr,
    tls: Option<TlsAcceptor>,
    max_connections: usize,
    connect_timeout: Duration,
    board: Rc<RefCell<Router>>,
    journal: Option<Steps>,
    /// One more holder for each connection.
    alive: Rc<()>,
}

impl fmt::Debug for Broker {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Broker").field("address", &self.address).finish_non_exhaustive()
    }
}

impl Broker {
    /// Listens on an address; port 0 picks a free one. `start` is the origin of the edge's monotonic clock, and
    /// `journal` the registry's file.
    ///
    /// # Errors
    /// An address that cannot be bound.
    pub fn bind(
        address: SocketAddr,
        edge: Edge,
        limits: Limits,
        tls: Option<TlsAcceptor>,
        journal: Option<RegistryFile>,
        witness: Box<dyn Handler>,
        start: Instant,
    ) -> Result<Self, Failure> {
        let listener = listen(address).map_err(|why| cannot_bind(address, &why))?;
        let address = listener.local_addr().map_err(|why| cannot_bind(address, &why))?;
        Ok(Self {
            listener,
            address,
            tls,
            max_connections: limits.max_connections,
            connect_timeout: limits.connect_timeout,
            journal: journal.as_ref().map(RegistryFile::watch),
            alive: Rc::new(()),
            board: Router::new(edge, limits, witness, journal, start),
        })
    }

    /// The address that clients connect to, as a URL.
    #[must_use]
    pub fn url(&self) -> String {
        self.url_at(self.address)
    }

    /// The address that clients on this machine connect to, as a URL: an address that stands for all of them is one to
    /// listen on, not one to connect to.
    #[must_use]
    pub fn url_here(&self) -> String {
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

    /// Whether other machines can reach the broker.
    #[must_use]
    pub fn is_public(&self) -> bool {
        !self.address.ip().is_loopback()
    }

    /// How many connections there are.
    #[must_use]
    pub fn connections(&self) -> usize {
        Rc::strong_count(&self.alive) - 1
    }

    /// Sends a command of the platform's own; the witness is told how it ends.
    pub fn command(&self, ask: CommandRequest) {
        let mut board = self.board.borrow_mut();
        board.begin_turn();
        board.command(ask);
        board.end_turn();
    }

    /// Publishes a message of the platform's exactly as it is, whatever the edge knows of devices.
    pub fn say(&self, topic: String, payload: Bytes, qos: QoS) {
        let mut board = self.board.borrow_mut();
        board.begin_turn();
        board.route(topic.into(), payload, qos);
        board.end_turn();
    }

    /// Whether anybody subscribes to a topic.
    #[must_use]
    pub fn has_subscriber(&self, topic: &str) -> bool {
        self.board.borrow_mut().has_subscriber(topic)
    }

    /// How many messages clients have not acknowledged.
    #[must_use]
    pub fn unacknowledged(&self) -> usize {
        self.board.borrow().unacknowledged()
    }

    /// Lets the broker read on after its witness was congested.
    pub fn resume(&self) {
        self.board.borrow_mut().wake_stalled();
    }

    /// Serves clients until the registry's file cannot be written, which it gives back. To be run on a
    /// [`tokio::task::LocalSet`]; dropping it closes every connection with the set.
    pub async fn serve(&self) -> WriterError {
        spawn_local(keep_time(Rc::clone(&self.board)));
        spawn_local(keep_flushed(Rc::clone(&self.board)));
        tokio::select! {
            never = self.accept() => match never {},
            why = self.keep_journal() => why,
        }
    }

    async fn accept(&self) -> std::convert::Infallible {
        loop {
            let stream = match self.listener.accept().await {
                Ok((stream, _)) => stream,
                Err(why) => {
                    // Most often too many open files; a connection that ends makes room.
                    self.warn(&format!("cannot accept a connection: {why}"));
                    tokio::time::sleep(Duration::from_millis(100)).await;
                    continue;
                }
            };
            if self.connections() >= self.max_connections {
                self.warn(&format!("a connection was closed: there are {} already", self.max_connections));
                continue;
            }
            // Without it every answer waits for the client's delayed acknowledgement; where it fails, it waits.
            let _ = stream.set_nodelay(true);
            let (board, alive) = (Rc::clone(&self.board), Rc::clone(&self.alive));
            match self.tls.clone() {
                None => {
                    spawn_local(async move {
                        connection::serve(stream, board, Instant::now()).await;
                        drop(alive);
                    });
                }
                Some(tls) => {
                    let limit = self.connect_timeout;
                    spawn_local(async move {
                        serve_tls(stream, &tls, limit, board).await;
                        drop(alive);
                    });
                }
            }
        }
    }

    async fn keep_journal(&self) -> WriterError {
        let Some(mut journal) = self.journal.clone() else { return std::future::pending().await };
        loop {
            match journal.next().await {
                Ok(Step::Done(done)) => {
                    while !self.keep(done) {
                        tokio::task::yield_now().await;
                    }
                }
                Ok(Step::Lost(why)) => {
                    let mut board = self.board.borrow_mut();
                    board.begin_turn();
                    board.rewrite_journal(&why);
                    board.end_turn();
                }
                Err(why) => return WriterError::Failed(why),
            }
        }
    }

    fn keep(&self, done: Position) -> bool {
        let mut board = self.board.borrow_mut();
        board.begin_turn();
        let is_done = board.kept(done);
        board.end_turn();
        is_done
    }

    fn warn(&self, message: &str) {
        self.board.borrow_mut().warn(message);
    }
}

async fn serve_tls(stream: TcpStream, tls: &TlsAcceptor, limit: Duration, board: Rc<RefCell<Router>>) {
    let accepted = Instant::now();
    let shaken = tokio::time::timeout(limit, tls.accept(stream)).await;
    let why = match shaken {
        Ok(Ok(stream)) => return Box::pin(connection::serve(stream, board, accepted)).await,
        Ok(Err(why)) => why.to_string(),
        Err(_) => format!("it took longer than {} s", limit.as_secs_f64()),
    };
    board.borrow_mut().warn(&format!(
        "a TLS handshake failed: {why}; does the client use mqtts:// and know the certificate?"
    ));
}

/// Does what is due at its time: delayed answers, commands without answers, sessions nobody came back for.
async fn keep_time(board: Rc<RefCell<Router>>) {
    let mut timer: Option<Pin<Box<Sleep>>> = None;
    poll_fn(|cx: &mut Context<'_>| {
        loop {
            let mut board = board.borrow_mut();
            board.begin_turn();
            let due = board.run_due(cx.waker());
            board.end_turn();
            let Some(due) = due else { return Poll::<()>::Pending };
            if due <= board.now().mono {
                connection::come_again(cx);
                return Poll::Pending;
            }
            let due = board.instant(due);
            let timer = timer.get_or_insert_with(|| Box::pin(tokio::time::sleep_until(due)));
            timer.as_mut().reset(due);
            if timer.as_mut().poll(cx).is_pending() {
                return Poll::Pending;
            }
        }
    })
    .await;
}

/// Hands over what was written, once after all the turns that were due at the same time.
async fn keep_flushed(board: Rc<RefCell<Router>>) {
    poll_fn(|cx: &mut Context<'_>| {
        board.borrow_mut().flush(cx.waker());
        Poll::<()>::Pending
    })
    .await;
}

fn listen(address: SocketAddr) -> io::Result<TcpListener> {
    let socket = if address.is_ipv4() { TcpSocket::new_v4()? } else { TcpSocket::new_v6()? };
    // A restarted edge must not wait for its predecessor's connections to be forgotten.
    #[cfg(not(windows))]
    socket.set_reuseaddr(true)?;
    socket.bind(address)?;
    socket.listen(BACKLOG)
}

fn cannot_bind(address: SocketAddr, why: &io::Error) -> Failure {
    let failure = Failure::io(format!("cannot listen on {address}: {why}"));
    match why.kind() {
        io::ErrorKind::AddrInUse => failure.hint(
            "Another program, perhaps another edge, listens there; choose another port with --listen, or port 0 \
             for a free one.",
        ),
        io::ErrorKind::PermissionDenied => failure.hint("Ports below 1024 need privileges; choose another one."),
        io::ErrorKind::AddrNotAvailable => failure.hint("The address must be one of this machine's."),
        _ => failure,
    }
}
