//! The broker's socket shell: listens, drives a [`crate::mqtt::Session`] for each connection, and lets a [`Handler`]
//! decide.
//!
//! One thread, one task for each connection. Each turn reads packets and writes all resulting packets at once; an idle
//! connection owns no buffer.

mod client_state;
mod close_reason;
mod connection;
mod handler;
mod limits;
mod local_listener;
mod retained;
mod router;
mod subscriptions;
#[cfg(test)]
mod tests;
mod tls;

use std::{
    cell::RefCell,
    convert::Infallible,
    fmt,
    future::poll_fn,
    net::SocketAddr,
    pin::Pin,
    rc::Rc,
    sync::Arc,
    task::{Context, Poll},
    time::{Duration, Instant},
};

use bytes::Bytes;
use tokio::{
    net::{TcpStream, UnixStream},
    task::spawn_local,
    time::Sleep,
};
use tokio_rustls::TlsAcceptor;

pub use self::{
    handler::{
        Ack, ClientInfo, ConnectRefusal, Handler, Incoming, Now, PublishAck, PublishDecision, Recipients,
        ServerAction, SessionId,
    },
    limits::ServerLimits,
    tls::acceptor,
};
use self::{local_listener::LocalListener, router::Router};
use super::listener::Listener;
use crate::{error::Failure, mqtt::QoS};

/// Where a broker listens.
enum Endpoint {
    Network(Listener),
    Local(LocalListener),
}

/// A broker that listens.
pub struct Broker<H: Handler> {
    endpoint: Endpoint,
    max_connections: usize,
    connect_timeout: Duration,
    router: Rc<RefCell<Router<H>>>,
    /// One more holder for each connection.
    alive: Rc<()>,
}

impl<H: Handler> fmt::Debug for Broker<H> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let address = self.listener().map(Listener::address);
        f.debug_struct("Broker").field("address", &address).finish_non_exhaustive()
    }
}

impl<H: Handler> Broker<H> {
    /// Listens on an address; port 0 picks a free one. `start` is the origin of [`Now::mono`].
    ///
    /// # Errors
    /// An address that cannot be bound.
    pub fn bind(
        address: SocketAddr,
        handler: H,
        limits: ServerLimits,
        tls: Option<TlsAcceptor>,
        start: Instant,
    ) -> Result<Self, Failure> {
        Ok(Self::new(Endpoint::Network(Listener::bind(address, tls)?), handler, limits, start))
    }

    /// Serves programs of this machine on a Unix socket: those of this user and of root, and those of a group if
    /// `admits_group` says that the socket's mode lets one in. `start` is the origin of [`Now::mono`].
    ///
    /// # Errors
    /// A socket that the event loop cannot use.
    pub fn local(
        socket: std::os::unix::net::UnixListener,
        admits_group: bool,
        handler: H,
        limits: ServerLimits,
        start: Instant,
    ) -> Result<Self, Failure> {
        Ok(Self::new(Endpoint::Local(LocalListener::new(socket, admits_group)?), handler, limits, start))
    }

    fn new(endpoint: Endpoint, handler: H, limits: ServerLimits, start: Instant) -> Self {
        Self {
            endpoint,
            max_connections: limits.max_connections,
            connect_timeout: limits.connect_timeout,
            alive: Rc::new(()),
            router: Router::new(handler, limits, start),
        }
    }

    fn listener(&self) -> Option<&Listener> {
        match &self.endpoint {
            Endpoint::Network(listener) => Some(listener),
            Endpoint::Local(_) => None,
        }
    }

    /// The address that clients connect to, as a URL; empty for a Unix socket.
    #[must_use]
    pub fn url(&self) -> String {
        self.listener().map(Listener::url).unwrap_or_default()
    }

    /// The address that clients on this machine connect to, as a URL; empty for a Unix socket.
    #[must_use]
    pub fn local_url(&self) -> String {
        self.listener().map(Listener::local_url).unwrap_or_default()
    }

    /// Whether other machines can connect.
    #[must_use]
    pub fn is_public(&self) -> bool {
        self.listener().is_some_and(Listener::is_public)
    }

    /// The number of open connections.
    #[must_use]
    pub fn connections(&self) -> usize {
        Rc::strong_count(&self.alive) - 1
    }

    /// Gives access to the handler for something that happens outside the broker, and does what the handler then asks
    /// for. Must not be called by the handler.
    pub fn turn<R>(&self, act: impl FnOnce(&mut H, Now) -> R) -> R {
        self.router.borrow_mut().turn(act)
    }

    /// Publishes a message to its subscribers, past the handler.
    pub fn publish(&self, topic: Arc<str>, payload: Bytes, qos: QoS) {
        let mut router = self.router.borrow_mut();
        router.begin_turn();
        router.route(topic, payload, qos);
        router.end_turn();
    }

    /// Whether a topic has a subscriber.
    #[must_use]
    pub fn has_subscriber(&self, topic: &str) -> bool {
        self.router.borrow_mut().has_subscriber(topic)
    }

    /// The number of queued and unacknowledged messages of all clients.
    #[must_use]
    pub fn unacknowledged(&self) -> usize {
        self.router.borrow().unacknowledged()
    }

    /// Lets the broker read on after its handler was congested.
    pub fn resume(&self) {
        self.router.borrow_mut().wake_stalled();
    }

    /// Serves clients for ever. To be run on a [`tokio::task::LocalSet`]; dropping it closes every connection with the
    /// set.
    pub async fn serve(&self) -> Infallible {
        spawn_local(keep_time(Rc::clone(&self.router)));
        spawn_local(keep_flushed(Rc::clone(&self.router)));
        self.accept().await
    }

    async fn accept(&self) -> Infallible {
        loop {
            let accepted = match &self.endpoint {
                Endpoint::Network(listener) => listener
                    .accept()
                    .await
                    .map(|(stream, _)| Ok(AcceptedStream::Network(stream, listener.tls()))),
                Endpoint::Local(listener) => {
                    listener.accept().await.map(|stream| stream.map(AcceptedStream::Local))
                }
            };
            let accepted = match accepted {
                Ok(Ok(accepted)) => accepted,
                Ok(Err(refused)) => {
                    self.warn(&refused);
                    continue;
                }
                Err(why) => {
                    // Most often too many open files; a connection that ends makes room.
                    self.warn(&format!("cannot accept a connection: {why}"));
                    tokio::time::sleep(Duration::from_millis(100)).await;
                    continue;
                }
            };
            if self.connections() >= self.max_connections {
                self.warn(&format!(
                    "a connection was closed: there are {} already (--max-connections)",
                    self.max_connections
                ));
                continue;
            }
            match accepted {
                AcceptedStream::Network(stream, None) => {
                    self.spawn(|router| connection::serve(stream, router, Instant::now()));
                }
                AcceptedStream::Network(stream, Some(tls)) => {
                    let limit = self.connect_timeout;
                    self.spawn(|router| serve_tls(stream, tls, limit, router));
                }
                AcceptedStream::Local(stream) => {
                    self.spawn(|router| connection::serve(stream, router, Instant::now()));
                }
            }
        }
    }

    /// Starts the task of one connection, which counts until its end.
    fn spawn<F: Future<Output = ()> + 'static>(&self, serve: impl FnOnce(Rc<RefCell<Router<H>>>) -> F) {
        let alive = Rc::clone(&self.alive);
        let serving = serve(Rc::clone(&self.router));
        spawn_local(async move {
            serving.await;
            drop(alive);
        });
    }

    fn warn(&self, message: &str) {
        self.router.borrow_mut().warn(message);
    }
}

/// A connection that was accepted.
enum AcceptedStream {
    Network(TcpStream, Option<TlsAcceptor>),
    Local(UnixStream),
}

async fn serve_tls<H: Handler>(
    stream: TcpStream,
    tls: TlsAcceptor,
    limit: Duration,
    router: Rc<RefCell<Router<H>>>,
) {
    let accepted = Instant::now();
    let shaken = tokio::time::timeout(limit, tls.accept(stream)).await;
    let why = match shaken {
        Ok(Ok(stream)) => return Box::pin(connection::serve(stream, router, accepted)).await,
        Ok(Err(why)) => why.to_string(),
        Err(_) => format!("it took longer than {} s", limit.as_secs_f64()),
    };
    router.borrow_mut().warn(&format!(
        "a TLS handshake failed: {why}; does the client use mqtts:// and know the certificate?"
    ));
}

/// Runs what is due at its time: the handler's timeouts, and the end of sessions without a connection.
async fn keep_time<H: Handler>(router: Rc<RefCell<Router<H>>>) {
    let mut timer: Option<Pin<Box<Sleep>>> = None;
    poll_fn(|cx: &mut Context<'_>| {
        loop {
            let mut router = router.borrow_mut();
            router.begin_turn();
            let due = router.run_due(cx.waker());
            router.end_turn();
            let Some(due) = due else { return Poll::<()>::Pending };
            if due <= router.now().mono {
                connection::wake_after_io(cx);
                return Poll::Pending;
            }
            let due = router.instant(due);
            let timer = timer.get_or_insert_with(|| Box::pin(tokio::time::sleep_until(due)));
            timer.as_mut().reset(due);
            if timer.as_mut().poll(cx).is_pending() {
                return Poll::Pending;
            }
        }
    })
    .await;
}

/// Flushes the handler, once after all the turns that were due at the same time.
async fn keep_flushed<H: Handler>(router: Rc<RefCell<Router<H>>>) {
    poll_fn(|cx: &mut Context<'_>| {
        router.borrow_mut().flush(cx.waker());
        Poll::<()>::Pending
    })
    .await;
}
