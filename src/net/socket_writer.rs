//! Writes an outbox to a stream that may hold back what it took.
//!
//! TLS takes more than the socket does: it encrypts up to 64 KB and sends them only when it is flushed. An empty outbox
//! therefore does not mean that everything has left.

use std::{
    io,
    pin::Pin,
    task::{Context, Poll},
};

use bytes::{Buf as _, BytesMut};
use tokio::io::AsyncWrite;

/// Writes to one stream, and counts the bytes that the stream has taken and not yet sent.
#[derive(Debug, Default)]
pub(crate) struct SocketWriter {
    held: usize,
}

impl SocketWriter {
    /// The bytes that the stream has taken since it was last flushed: an upper bound of those not sent. Unless it is 0, the
    /// caller must call [`SocketWriter::write`] again, even with an empty outbox.
    pub(crate) fn held(&self) -> usize {
        self.held
    }

    /// Flushes the stream, writes as much of the outbox as the stream takes, and flushes again. Returns how many bytes of the
    /// outbox were taken. If something is left, wakes the context when writing can go on.
    ///
    /// # Errors
    /// The stream's error; [`io::ErrorKind::WriteZero`] if it takes no more bytes.
    pub(crate) fn write<S: AsyncWrite + Unpin + ?Sized>(
        &mut self,
        stream: &mut S,
        context: &mut Context<'_>,
        outbox: &mut BytesMut,
    ) -> io::Result<usize> {
        // More bytes would only fill the stream's memory.
        if self.held > 0 && self.flush(stream, context)?.is_pending() {
            return Ok(0);
        }
        let before = outbox.len();
        while !outbox.is_empty() {
            match Pin::new(&mut *stream).poll_write(context, outbox) {
                Poll::Ready(Ok(0)) => return Err(io::ErrorKind::WriteZero.into()),
                Poll::Ready(Ok(taken)) => {
                    outbox.advance(taken);
                    self.held += taken;
                }
                Poll::Ready(Err(why)) => return Err(why),
                Poll::Pending => break,
            }
        }
        let taken = before - outbox.len();
        if taken > 0 {
            let _ = self.flush(stream, context)?;
        }
        Ok(taken)
    }

    fn flush<S: AsyncWrite + Unpin + ?Sized>(
        &mut self,
        stream: &mut S,
        context: &mut Context<'_>,
    ) -> io::Result<Poll<()>> {
        let flushed = Pin::new(stream).poll_flush(context)?;
        if flushed.is_ready() {
            self.held = 0;
        }
        Ok(flushed)
    }
}

#[cfg(test)]
pub(crate) mod tests {
    use std::{future::poll_fn, sync::Arc, task::Waker};

    use tokio::io::{AsyncRead, AsyncReadExt as _, AsyncWriteExt as _, DuplexStream, duplex};
    use tokio_rustls::{
        TlsAcceptor, TlsConnector,
        rustls::{ClientConfig, RootCertStore, ServerConfig, crypto::ring},
    };

    use super::*;

    /// What the pipe between two ends of a test holds: far less than TLS does.
    pub(crate) const TINY: usize = 512;

    /// A TLS connection whose socket takes [`TINY`] bytes: the server's end and the client's.
    pub(crate) async fn tls_pair()
    -> (tokio_rustls::server::TlsStream<DuplexStream>, tokio_rustls::client::TlsStream<DuplexStream>) {
        let made = rcgen::generate_simple_self_signed(["localhost".to_owned()]).unwrap();
        let key = made.signing_key.serialize_der().try_into().unwrap();
        let provider = Arc::new(ring::default_provider());
        let server = ServerConfig::builder_with_provider(Arc::clone(&provider))
            .with_safe_default_protocol_versions()
            .unwrap()
            .with_no_client_auth()
            .with_single_cert(vec![made.cert.der().clone()], key)
            .unwrap();
        let mut roots = RootCertStore::empty();
        roots.add(made.cert.der().clone()).unwrap();
        let client = ClientConfig::builder_with_provider(provider)
            .with_safe_default_protocol_versions()
            .unwrap()
            .with_root_certificates(roots)
            .with_no_client_auth();
        let (near, far) = duplex(TINY);
        let accepted = TlsAcceptor::from(Arc::new(server)).accept(near);
        let connected = TlsConnector::from(Arc::new(client)).connect("localhost".try_into().unwrap(), far);
        let (accepted, connected) = tokio::join!(accepted, connected);
        (accepted.unwrap(), connected.unwrap())
    }

    fn run<F: Future>(test: F) -> F::Output {
        tokio::runtime::Builder::new_current_thread().build().unwrap().block_on(test)
    }

    /// Writes `size` bytes while nobody reads, lets the other end read all of them, and calls the writer only when it is
    /// woken. Gives what was held back while nobody read.
    async fn passes(
        mut near: impl AsyncWrite + Unpin,
        mut far: impl AsyncRead + Unpin,
        size: usize,
    ) -> usize {
        let mut writer = SocketWriter::default();
        let mut outbox = BytesMut::from(&vec![b'x'; size][..]);
        writer.write(&mut near, &mut Context::from_waker(Waker::noop()), &mut outbox).unwrap();
        let held = writer.held();
        let all_left = poll_fn(|context| {
            writer.write(&mut near, context, &mut outbox).unwrap();
            if outbox.is_empty() && writer.held() == 0 { Poll::Ready(()) } else { Poll::Pending }
        });
        let mut read = vec![0; size];
        let (read_all, ()) = tokio::join!(far.read_exact(&mut read), all_left);
        read_all.unwrap();
        held
    }

    #[test]
    fn what_tls_holds_back_is_counted_and_leaves_once_the_peer_reads() {
        run(async {
            for size in [TINY, 10_000, 60_000, 300_000] {
                let (near, far) = tls_pair().await;
                assert!(passes(near, far, size).await > 0, "{size}");
                let (near, far) = tls_pair().await;
                assert!(passes(far, near, size).await > 0, "{size}, from the client");
            }
        });
    }

    #[test]
    fn a_plain_stream_holds_nothing_back() {
        run(async {
            for size in [TINY, 10_000, 300_000] {
                let (near, far) = duplex(TINY);
                assert_eq!(passes(near, far, size).await, 0, "{size}");
            }
        });
    }

    #[test]
    fn while_something_is_held_back_nothing_more_is_taken() {
        run(async {
            let (mut near, _far) = tls_pair().await;
            let mut writer = SocketWriter::default();
            let context = &mut Context::from_waker(Waker::noop());
            let mut outbox = BytesMut::from(&vec![b'x'; 10_000][..]);
            assert_eq!(writer.write(&mut near, context, &mut outbox).unwrap(), 10_000);
            outbox.extend_from_slice(&[b'x'; 100]);
            assert_eq!(writer.write(&mut near, context, &mut outbox).unwrap(), 0);
            assert_eq!((outbox.len(), writer.held()), (100, 10_000));
        });
    }

    #[test]
    fn a_stream_that_has_ended_is_an_error() {
        run(async {
            let (mut near, far) = duplex(TINY);
            drop(far);
            let mut outbox = BytesMut::from(&b"x"[..]);
            let context = &mut Context::from_waker(Waker::noop());
            assert!(SocketWriter::default().write(&mut near, context, &mut outbox).is_err());
            near.shutdown().await.unwrap();
        });
    }
}
