//! A plain or encrypted TCP stream, and the dialling of one.

use std::{
    future::{Future as _, poll_fn},
    io,
    pin::{Pin, pin},
    task::{Context, Poll},
    time::Instant,
};

use bytes::BytesMut;
use tokio::{
    io::{AsyncRead, AsyncReadExt as _, AsyncWrite, AsyncWriteExt as _, ReadBuf},
    net::{TcpStream, UnixStream},
    time::timeout_at,
};
use tokio_rustls::client::TlsStream;

use super::{connect, settings::ClientSettings, tls};
use crate::{
    error::{Failure, FailureKind},
    mqtt::session::Session,
    net::socket_writer::SocketWriter,
};

/// Bytes read at once.
const READ: usize = 64 * 1024;

/// A connected socket, plain or encrypted.
pub struct BrokerStream {
    transport: Transport,
    writer: SocketWriter,
}

enum Transport {
    Plain(Metered<TcpStream>),
    Encrypted(Box<TlsStream<Metered<TcpStream>>>),
    Local(Metered<UnixStream>),
}

impl Transport {
    fn socket(&mut self) -> &mut dyn Socket {
        match self {
            Self::Plain(stream) => stream,
            Self::Encrypted(stream) => stream.as_mut(),
            Self::Local(stream) => stream,
        }
    }

    /// The number of bytes that the system has taken.
    fn taken(&self) -> u64 {
        match self {
            Self::Plain(stream) => stream.taken,
            Self::Encrypted(stream) => stream.get_ref().0.taken,
            Self::Local(stream) => stream.taken,
        }
    }
}

/// The result of waiting for a socket.
#[derive(Debug, PartialEq, Eq)]
pub enum Activity {
    /// Nothing yet.
    None,
    /// Bytes were read.
    Read,
    /// The system has taken all of the outbox, and there is nothing to read.
    Written,
    /// The peer closed its side.
    Closed,
}

/// A byte stream, plain or encrypted.
pub trait Socket: AsyncRead + AsyncWrite + Unpin {}
impl<T: AsyncRead + AsyncWrite + Unpin> Socket for T {}

impl BrokerStream {
    fn new(transport: Transport) -> Self {
        Self { transport, writer: SocketWriter::default() }
    }

    /// The socket by itself, for a caller without a session.
    pub fn into_socket(self) -> Box<dyn Socket> {
        match self.transport {
            Transport::Plain(stream) => Box::new(stream),
            Transport::Encrypted(stream) => stream,
            Transport::Local(stream) => Box::new(stream),
        }
    }

    /// Writes all of the session's outbox that the socket takes, and reads into its inbox; resolves once
    /// something was read or, with `until_written`, once the system has taken all. With `held` nothing is read.
    /// `stuck` is set to the instant since which the system has taken no byte, and cleared when all is written.
    pub async fn exchange(
        &mut self,
        session: &mut Session,
        held: bool,
        until_written: bool,
        stuck: &mut Option<Instant>,
    ) -> io::Result<Activity> {
        poll_fn(|context| {
            let Self { transport, writer } = self;
            let before = transport.taken();
            let written = writer.write(transport.socket(), context, session.outbox());
            let is_written = session.outbox().is_empty() && writer.held() == 0;
            if is_written {
                *stuck = None;
            } else if transport.taken() > before {
                *stuck = Some(Instant::now());
            } else {
                *stuck = stuck.or_else(|| Some(Instant::now()));
            }
            let is_done = until_written && is_written;
            let read = if held {
                Poll::Pending
            } else {
                let inbox = session.inbox();
                inbox.reserve(READ);
                pin!(transport.socket().read_buf(inbox)).poll(context)
            };
            match (read, written) {
                // Bytes that the peer sent before it left count, though nothing more can be written to it.
                (Poll::Ready(Ok(n)), _) if n > 0 => Poll::Ready(Ok(Activity::Read)),
                (_, Err(why)) | (Poll::Ready(Err(why)), Ok(_)) => Poll::Ready(Err(why)),
                (Poll::Ready(Ok(_)), Ok(_)) => Poll::Ready(Ok(Activity::Closed)),
                (Poll::Pending, Ok(_)) if is_done => Poll::Ready(Ok(Activity::Written)),
                (Poll::Pending, Ok(_)) => Poll::Pending,
            }
        })
        .await
    }

    /// Writes all of the outbox and ends this side of the connection; `lingers` waits until the peer has ended its
    /// side too. A socket that is closed with bytes unread is reset, and the peer then loses what it has not read.
    pub async fn finish(&mut self, outbox: &mut BytesMut, lingers: bool) -> io::Result<()> {
        let socket = self.transport.socket();
        socket.write_all(outbox).await?;
        socket.shutdown().await?;
        if lingers {
            let mut unread = vec![0; READ];
            while socket.read(&mut unread).await? > 0 {}
        }
        Ok(())
    }
}

/// A socket that counts the bytes that the system takes: under TLS nothing else distinguishes a slow peer from one that
/// has stopped reading.
pub struct Metered<S> {
    socket: S,
    taken: u64,
}

impl<S> Metered<S> {
    fn new(socket: S) -> Self {
        Self { socket, taken: 0 }
    }

    fn count(&mut self, written: Poll<io::Result<usize>>) -> Poll<io::Result<usize>> {
        if let Poll::Ready(Ok(n)) = &written {
            self.taken += *n as u64;
        }
        written
    }
}

impl<S: AsyncRead + Unpin> AsyncRead for Metered<S> {
    fn poll_read(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        Pin::new(&mut self.socket).poll_read(context, buffer)
    }
}

impl<S: AsyncWrite + Unpin> AsyncWrite for Metered<S> {
    fn poll_write(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        let written = Pin::new(&mut self.socket).poll_write(context, bytes);
        self.count(written)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        bytes: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        let written = Pin::new(&mut self.socket).poll_write_vectored(context, bytes);
        self.count(written)
    }

    fn is_write_vectored(&self) -> bool {
        self.socket.is_write_vectored()
    }

    fn poll_flush(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.socket).poll_flush(context)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.socket).poll_shutdown(context)
    }
}

/// Opens a stream within the connect time-out. Sends no CONNECT yet.
pub async fn dial(settings: ClientSettings) -> Result<BrokerStream, Failure> {
    let limit = settings.connect_timeout;
    let deadline = Instant::now() + limit;
    if let Some(path) = &settings.local_socket {
        let dialled = timeout_at(deadline.into(), connect::to_local(path)).await;
        return match dialled {
            Ok(connected) => Ok(BrokerStream::new(Transport::Local(Metered::new(connected?)))),
            Err(_) => Err(Failure::new(
                FailureKind::Connection,
                format!("the agent did not answer on {} in {limit:?}", path.display()),
            )
            .hint("it starts, ends or hangs: tuyagw agent status; --connect-timeout waits longer")),
        };
    }
    let address = &settings.address;
    let mut attempts = Vec::new();
    let Ok(connected) = timeout_at(deadline.into(), connect::to(address, &mut attempts)).await else {
        let tried = connect::tried(address, &attempts);
        return Err(Failure::new(
            FailureKind::Connection,
            format!("{address} did not answer in {limit:?}{tried}"),
        )
        .hint("check the address, the network and firewalls in between; --connect-timeout waits longer"));
    };
    let socket = connected?;
    // Without it each answer waits up to 40 ms for a delayed acknowledgement of TCP. If it fails, all is only slower.
    let _ = socket.set_nodelay(true);
    let socket = Metered::new(socket);
    let Some(tls) = &settings.tls else { return Ok(BrokerStream::new(Transport::Plain(socket))) };
    match timeout_at(deadline.into(), tls::encrypt(tls, address, socket)).await {
        Ok(encrypted) => Ok(BrokerStream::new(Transport::Encrypted(Box::new(encrypted?)))),
        Err(_) => Err(Failure::new(
            FailureKind::Connection,
            format!("{address} did not answer in {limit:?}"),
        )
        .hint(
            "does the port speak plain MQTT? Then write mqtt:// in --broker; --connect-timeout waits longer",
        )),
    }
}

#[cfg(test)]
mod tests {
    use std::{net::Ipv4Addr, sync::Arc, time::Duration};

    use tokio::net::TcpSocket;
    use tokio_rustls::{
        TlsAcceptor,
        rustls::{ServerConfig, crypto::ring, pki_types::PrivateKeyDer},
    };

    use super::*;
    use crate::{
        mqtt::{codec::Side, session::SessionLimits},
        net::client::{BrokerAddress, Tls},
    };

    /// Two connected sockets whose buffers are as small as the system lets them be.
    async fn pair() -> (TcpStream, TcpStream) {
        let server = TcpSocket::new_v4().unwrap();
        server.set_recv_buffer_size(2048).unwrap();
        server.bind((Ipv4Addr::LOCALHOST, 0).into()).unwrap();
        let server = server.listen(1).unwrap();
        let client = TcpSocket::new_v4().unwrap();
        client.set_send_buffer_size(2048).unwrap();
        let (client, server) = tokio::join!(client.connect(server.local_addr().unwrap()), server.accept());
        (client.unwrap(), server.unwrap().0)
    }

    /// A stream and its peer, with TLS or without.
    async fn streams(is_encrypted: bool) -> (BrokerStream, Box<dyn Socket>) {
        let (client, server) = pair().await;
        let client = Metered::new(client);
        if !is_encrypted {
            return (BrokerStream::new(Transport::Plain(client)), Box::new(server));
        }
        let made = rcgen::generate_simple_self_signed(["localhost".to_owned()]).unwrap();
        let key = PrivateKeyDer::try_from(made.signing_key.serialize_der()).unwrap();
        let config = ServerConfig::builder_with_provider(Arc::new(ring::default_provider()))
            .with_safe_default_protocol_versions()
            .unwrap()
            .with_no_client_auth()
            .with_single_cert(vec![made.cert.der().clone()], key)
            .unwrap();
        let tls = Tls::new("localhost", None, true).unwrap();
        let address = BrokerAddress { host: "localhost".into(), port: 1 };
        let acceptor = TlsAcceptor::from(Arc::new(config));
        let (client, server) = tokio::join!(tls::encrypt(&tls, &address, client), acceptor.accept(server));
        (BrokerStream::new(Transport::Encrypted(Box::new(client.unwrap()))), Box::new(server.unwrap()))
    }

    /// Whether bytes wait in a buffer of TLS.
    fn holds_back(stream: &BrokerStream) -> bool {
        match &stream.transport {
            Transport::Plain(_) | Transport::Local(_) => false,
            Transport::Encrypted(stream) => stream.get_ref().1.wants_write(),
        }
    }

    /// Writes a little at a time to a peer that reads nothing, until nothing more is taken; then the peer reads.
    async fn slow_reader(is_encrypted: bool) {
        let (mut stream, mut peer) = streams(is_encrypted).await;
        let mut session = Session::new(Side::Client, SessionLimits { max_packet: 1024, in_flight: 1 });
        let mut stuck = None;
        let mut sent = 0;
        loop {
            session.outbox().extend_from_slice(&[7; 500]);
            sent += 500;
            let activity = {
                let mut exchange = pin!(stream.exchange(&mut session, false, true, &mut stuck));
                poll_fn(|context| Poll::Ready(exchange.as_mut().poll(context))).await
            };
            match activity {
                Poll::Ready(activity) => assert_eq!(activity.unwrap(), Activity::Written),
                Poll::Pending => break,
            }
            assert!(!holds_back(&stream) && stuck.is_none(), "{sent} bytes are called written");
        }
        assert!(stuck.is_some());
        let mut heard = vec![0; sent];
        let written = stream.exchange(&mut session, false, true, &mut stuck);
        let (written, read) = tokio::join!(written, peer.read_exact(&mut heard));
        assert_eq!((written.unwrap(), read.unwrap()), (Activity::Written, sent));
        assert!(!holds_back(&stream) && stuck.is_none() && heard.iter().all(|byte| *byte == 7));
    }

    #[test]
    fn a_slow_reader_gets_all_that_was_written_before_it_counts_as_written() {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        for is_encrypted in [false, true] {
            let limit = Duration::from_secs(20);
            let read =
                runtime.block_on(async { tokio::time::timeout(limit, slow_reader(is_encrypted)).await });
            read.expect("everything arrives");
        }
    }
}
