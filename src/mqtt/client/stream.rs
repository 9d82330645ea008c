//! A plain or encrypted TCP stream, and the dialling of one.

use std::{
    future::{Future as _, poll_fn},
    io,
    pin::{Pin, pin},
    task::{Context, Poll},
    time::Instant,
};

use bytes::{Buf as _, BytesMut};
use tokio::{
    io::{AsyncRead, AsyncReadExt as _, AsyncWrite, AsyncWriteExt as _},
    net::TcpStream,
};
use tokio_rustls::client::TlsStream;

use super::{Settings, tls};
use crate::{
    failure::{Failure, Kind},
    mqtt::session::Session,
};

/// How much is read at once.
const READ: usize = 64 * 1024;

/// A connected socket.
pub enum Stream {
    Plain(TcpStream),
    Encrypted(Box<TlsStream<TcpStream>>),
}

/// What came of waiting for a socket.
#[derive(Debug, PartialEq, Eq)]
pub enum Activity {
    /// Nothing yet.
    None,
    /// Bytes were read.
    Read,
    /// The outbox is empty, and nothing is there to be read.
    Written,
    /// The peer closed its side.
    Closed,
}

/// What a stream must be able to do.
pub trait Socket: AsyncRead + AsyncWrite + Unpin {}
impl<T: AsyncRead + AsyncWrite + Unpin> Socket for T {}

impl Stream {
    /// The socket by itself, for whoever has no session.
    pub fn into_socket(self) -> Box<dyn Socket> {
        match self {
            Self::Plain(stream) => Box::new(stream),
            Self::Encrypted(stream) => stream,
        }
    }

    fn socket(&mut self) -> &mut dyn Socket {
        match self {
            Self::Plain(stream) => stream,
            Self::Encrypted(stream) => stream.as_mut(),
        }
    }

    /// Writes all of the session's outbox that the socket takes, and reads into its inbox; resolves once
    /// something was read or, with `until_written`, once the outbox is empty. With `held` nothing is read.
    /// `stuck` tells since when the socket has taken nothing of an outbox that is not empty.
    pub async fn exchange(
        &mut self,
        session: &mut Session,
        held: bool,
        until_written: bool,
        stuck: &mut Option<Instant>,
    ) -> io::Result<Activity> {
        poll_fn(|context| {
            let before = session.outbox().len();
            let written = write(self.socket(), context, session.outbox());
            match session.outbox().len() {
                0 => *stuck = None,
                left if left < before => *stuck = Some(Instant::now()),
                _ => *stuck = stuck.or_else(|| Some(Instant::now())),
            }
            let is_done = until_written && session.outbox().is_empty();
            let read = if held {
                Poll::Pending
            } else {
                let inbox = session.inbox();
                inbox.reserve(READ);
                pin!(self.socket().read_buf(inbox)).poll(context)
            };
            match (read, written) {
                // What a peer said before it went counts, though nothing more can be written to it.
                (Poll::Ready(Ok(n)), _) if n > 0 => Poll::Ready(Ok(Activity::Read)),
                (_, Err(why)) | (Poll::Ready(Err(why)), Ok(())) => Poll::Ready(Err(why)),
                (Poll::Ready(Ok(_)), Ok(())) => Poll::Ready(Ok(Activity::Closed)),
                (Poll::Pending, Ok(())) if is_done => Poll::Ready(Ok(Activity::Written)),
                (Poll::Pending, Ok(())) => Poll::Pending,
            }
        })
        .await
    }

    /// Writes all of the outbox and ends this side of the connection; `lingers` waits until the peer has ended its
    /// side too. A socket that is closed with bytes unread is reset, and the peer then loses what it has not read.
    pub async fn finish(&mut self, outbox: &mut BytesMut, lingers: bool) -> io::Result<()> {
        let socket = self.socket();
        socket.write_all(outbox).await?;
        socket.shutdown().await?;
        if lingers {
            let mut unread = vec![0; READ];
            while socket.read(&mut unread).await? > 0 {}
        }
        Ok(())
    }
}

/// Writes what the socket takes now. A socket that takes nothing more wakes the context when it does.
fn write(mut socket: &mut dyn Socket, context: &mut Context<'_>, outbox: &mut BytesMut) -> io::Result<()> {
    let mut wrote = false;
    while !outbox.is_empty() {
        match Pin::new(&mut socket).poll_write(context, outbox) {
            Poll::Ready(Ok(0)) => return Err(io::ErrorKind::WriteZero.into()),
            Poll::Ready(Ok(n)) => {
                outbox.advance(n);
                wrote = true;
            }
            Poll::Ready(Err(why)) => return Err(why),
            Poll::Pending => break,
        }
    }
    if wrote && let Poll::Ready(Err(why)) = Pin::new(&mut socket).poll_flush(context) {
        return Err(why);
    }
    Ok(())
}

/// Opens a stream within the connect time-out, and logs nothing in yet.
pub async fn dial(settings: Settings) -> Result<Stream, Failure> {
    let limit = settings.connect_timeout;
    let address = settings.address.clone();
    let encrypted = settings.tls.is_some();
    match tokio::time::timeout(limit, open(settings)).await {
        Ok(opened) => opened,
        Err(_) => Err(Failure::new(Kind::Connection, format!("{address} did not answer in {limit:?}"))
            .hint(if encrypted {
                "does the port speak plain MQTT? Then write mqtt:// in --broker; --connect-timeout waits longer"
            } else {
                "check the address, the network and firewalls in between; --connect-timeout waits longer"
            })),
    }
}

async fn open(settings: Settings) -> Result<Stream, Failure> {
    let address = &settings.address;
    let stream = TcpStream::connect((address.host.as_str(), address.port)).await.map_err(|why| {
        let failure = |message: String| Failure::new(Kind::Connection, message);
        match why.kind() {
            io::ErrorKind::ConnectionRefused => failure(format!("{address} refused the connection")).hint(
                "Is the edge running? Check the port (the edge's is 21883); `tuyagw edge` starts an emulator",
            ),
            _ if why.raw_os_error().is_none() => {
                failure(format!("cannot find the host {:?}: {why}", address.host))
                    .hint("Check the host's name in --broker")
            }
            _ => failure(format!("cannot connect to {address}: {why}")),
        }
    })?;
    // Without it each answer waits up to 40 ms for a delayed acknowledgement of TCP. Where it fails all still works.
    let _ = stream.set_nodelay(true);
    match &settings.tls {
        None => Ok(Stream::Plain(stream)),
        Some(tls) => {
            tls::encrypt(tls, address, stream).await.map(|stream| Stream::Encrypted(Box::new(stream)))
        }
    }
}
