//! A plain or encrypted TCP stream, and the dialling of one.

use std::{
    future::{Future as _, poll_fn},
    io,
    pin::{Pin, pin},
    task::{Context, Poll},
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
    Some,
    /// The peer closed its side.
    Closed,
}

/// What a stream must be able to do.
trait Socket: AsyncRead + AsyncWrite + Unpin {}
impl<T: AsyncRead + AsyncWrite + Unpin> Socket for T {}

impl Stream {
    fn socket(&mut self) -> &mut dyn Socket {
        match self {
            Self::Plain(stream) => stream,
            Self::Encrypted(stream) => stream.as_mut(),
        }
    }

    /// Writes all of the session's outbox that the socket takes, and reads into its inbox; resolves once
    /// something was read. With `held` nothing is read, so that it only ever resolves with an error.
    pub async fn exchange(&mut self, session: &mut Session, held: bool) -> io::Result<Activity> {
        poll_fn(|context| {
            write(self.socket(), context, session.outbox())?;
            if held {
                return Poll::Pending;
            }
            let inbox = session.inbox();
            inbox.reserve(READ);
            match pin!(self.socket().read_buf(inbox)).poll(context) {
                Poll::Ready(Ok(0)) => Poll::Ready(Ok(Activity::Closed)),
                Poll::Ready(Ok(_)) => Poll::Ready(Ok(Activity::Some)),
                Poll::Ready(Err(why)) => Poll::Ready(Err(why)),
                Poll::Pending => Poll::Pending,
            }
        })
        .await
    }

    /// Writes all of the outbox and ends this side of the connection.
    pub async fn finish(&mut self, outbox: &mut BytesMut) -> io::Result<()> {
        let socket = self.socket();
        socket.write_all(outbox).await?;
        socket.shutdown().await
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
    match tokio::time::timeout(limit, open(settings)).await {
        Ok(opened) => opened,
        Err(_) => Err(Failure::new(Kind::Connection, format!("{address} did not answer in {limit:?}"))
            .hint("Check the address, the network and firewalls in between; --connect-timeout waits longer")),
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
