//! One connection: reads packets, passes them to the router, and writes all resulting packets at once.
//!
//! An idle connection owns no buffer. A turn does a bounded amount of work, and the other connections have their turn before
//! the next one, so that a flood on one connection does not hold up the others.

use std::{
    cell::RefCell,
    future::poll_fn,
    io,
    pin::{Pin, pin},
    rc::Rc,
    task::{Context, Poll},
    time::{Duration, Instant},
};

use bytes::{BufMut as _, BytesMut};
use tokio::{
    io::{AsyncRead, AsyncReadExt as _, AsyncWrite, AsyncWriteExt as _},
    net::{TcpStream, UnixStream},
    time::Sleep,
};
use tokio_rustls::server::TlsStream;

use super::{
    close_reason::CloseReason,
    handler::Handler,
    router::{ClientHandle, Router},
};
use crate::{
    mqtt::{ConnectCode, Session, SessionEvent, Side},
    net::socket_writer::SocketWriter,
};

/// Bytes read at once.
const READ: usize = 64 * 1024;

/// What a turn may cost: each byte that is handled counts as one, and what else is done as so many as take as long. A single
/// packet may cost more, and is then the turn's last.
const BUDGET: usize = 64 * 1024;

/// The cost of a packet beside its bytes.
const PACKET_COST: usize = 128;

/// Bytes read at once if all clients together are crowded.
const READ_IN_A_CROWD: usize = 8 * 1024;

/// How often a turn reads from the socket.
const ROUNDS: usize = 4;

/// Bytes of an unfinished packet that a connection may hold, whatever the others hold: more than most packets have.
const FAIR_SHARE: usize = 4 * 1024;

/// How long a refused client may take to read the reason.
const LINGER: Duration = Duration::from_secs(1);

/// What carries the bytes.
pub(super) trait Transport: AsyncRead + AsyncWrite + Unpin {
    /// Sends the TCP acknowledgement of the bytes read at once, instead of with the next output.
    ///
    /// A client that does not set TCP_NODELAY holds its next packet back until then: 40 ms each time.
    fn acknowledge(&self);
}

impl Transport for TcpStream {
    fn acknowledge(&self) {
        // If it fails, the connection is only slower.
        #[cfg(any(target_os = "linux", target_os = "android"))]
        let _ = self.set_quickack(true);
    }
}

impl Transport for UnixStream {
    fn acknowledge(&self) {}
}

impl Transport for TlsStream<TcpStream> {
    fn acknowledge(&self) {
        self.get_ref().0.acknowledge();
    }
}

/// Serves one client until its connection ends. The connection was accepted at the instant `accepted`.
pub(super) async fn serve<S: Transport, H: Handler>(
    stream: S,
    router: Rc<RefCell<Router<H>>>,
    accepted: Instant,
) {
    let stage = {
        let mut router = router.borrow_mut();
        let now = router.begin_turn().mono;
        let mut session = Session::new(Side::Server, router.limits().session());
        session.open(now);
        let until = (now + router.limits().connect_timeout).saturating_sub(accepted.elapsed());
        Stage::Greeting { session: Box::new(session), until }
    };
    let mut connection = ClientConnection {
        stream,
        writer: SocketWriter::default(),
        router,
        stage,
        timer: None,
        unfinished: 0,
    };
    if poll_fn(|cx| connection.turn(cx)).await {
        connection.linger().await;
    }
}

struct ClientConnection<S, H: Handler> {
    stream: S,
    writer: SocketWriter,
    router: Rc<RefCell<Router<H>>>,
    stage: Stage,
    timer: Option<Pin<Box<Sleep>>>,
    /// Bytes of an unfinished packet, as counted by the router.
    unfinished: usize,
}

/// Why no more packets were handled.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Handled {
    /// All whole packets were handled.
    All,
    /// Output must be written before the next one.
    Full,
    /// The budget of the turn is used up.
    Enough,
}

#[derive(Debug)]
enum Stage {
    /// Before CONNECT, or after its refusal.
    Greeting { session: Box<Session>, until: Duration },
    /// After CONNECT.
    Connected(ClientHandle),
}

impl Stage {
    fn session<'a, H: Handler>(
        &'a mut self,
        router: &'a mut Router<H>,
    ) -> Result<&'a mut Session, CloseReason> {
        match self {
            Self::Greeting { session, .. } => Ok(session),
            Self::Connected(handle) => match router.client(*handle) {
                Some(client) => Ok(&mut client.session),
                None => Err(CloseReason::TakenOver),
            },
        }
    }
}

impl<S: Transport, H: Handler> ClientConnection<S, H> {
    /// One turn. Ready once the connection is over, with whether the peer may still be reading.
    fn turn(&mut self, cx: &mut Context<'_>) -> Poll<bool> {
        let router = Rc::clone(&self.router);
        let router = &mut *router.borrow_mut();
        router.begin_turn();
        let outcome = self.read_and_write(router, cx).and_then(|()| self.set_timer(router, cx));
        let Err(why) = outcome else {
            router.end_turn();
            return Poll::Pending;
        };
        router.unfinished_bytes -= self.unfinished;
        if let Ok(session) = self.stage.session(router) {
            let (inbox, outbox) = (std::mem::take(session.inbox()), std::mem::take(session.outbox()));
            router.give_buffer(inbox);
            router.give_buffer(outbox);
        }
        match self.stage {
            Stage::Connected(handle) => router.disconnect(handle, &why),
            Stage::Greeting { .. } => {
                if let CloseReason::Closed(why) = &why {
                    router.warn(&format!("a connection was closed before its CONNECT: {why}"));
                }
            }
        }
        router.end_turn();
        Poll::Ready(matches!(why, CloseReason::Closed(_) | CloseReason::Refused | CloseReason::TakenOver))
    }

    fn read_and_write(&mut self, router: &mut Router<H>, cx: &mut Context<'_>) -> Result<(), CloseReason> {
        let mut has_unacknowledged_input = false;
        let mut budget = BUDGET;
        for _ in 0..ROUNDS {
            let handled = self.handle_packets(router, &mut budget);
            if let Stage::Connected(handle) = self.stage {
                router.search_on(handle);
            }
            let written = self.write(router, cx);
            let handled = handled?;
            has_unacknowledged_input &= !written?;
            let congested = router.is_congested();
            if congested || self.is_full(router)? {
                if congested {
                    router.wait_for_room(cx.waker());
                }
                let now = router.now().mono;
                self.stage.session(router)?.not_reading(now);
                return self.release_buffers(router, cx);
            }
            match handled {
                Handled::All => {}
                Handled::Full => continue,
                Handled::Enough => break,
            }
            match self.read(router, cx)? {
                Poll::Ready(Ok(0)) => return Err(CloseReason::Gone),
                Poll::Ready(Ok(_)) => has_unacknowledged_input = true,
                Poll::Ready(Err(_)) => return Err(CloseReason::Failed),
                Poll::Pending => {
                    if has_unacknowledged_input {
                        self.stream.acknowledge();
                    }
                    self.shrink_inbox(router)?;
                    self.release_buffers(router, cx)?;
                    if self.unfinished > FAIR_SHARE && router.unfinished_bytes > router.room_for_unfinished()
                    {
                        let why =
                            "all clients together have begun too many large packets without ending them";
                        return Err(CloseReason::Closed(why.into()));
                    }
                    return Ok(());
                }
            }
        }
        wake_after_io(cx);
        self.release_buffers(router, cx)
    }

    /// Passes whole packets to the router, as far as the budget reaches.
    fn handle_packets(&mut self, router: &mut Router<H>, budget: &mut usize) -> Result<Handled, CloseReason> {
        let now = router.now().mono;
        loop {
            if self.is_full(router)? {
                return Ok(Handled::Full);
            }
            if *budget == 0 {
                return Ok(Handled::Enough);
            }
            let session = self.stage.session(router)?;
            let before = session.inbox().len();
            let event = match session.poll_event(now) {
                Ok(Some(event)) => event,
                Ok(None) => return Ok(Handled::All),
                Err(why) => return Err(CloseReason::Closed(why.to_string())),
            };
            *budget = budget.saturating_sub(before - session.inbox().len() + PACKET_COST);
            match &mut self.stage {
                Stage::Connected(handle) => router.handle_event(*handle, event)?,
                Stage::Greeting { session, .. } => match event {
                    SessionEvent::Connect(connect) => {
                        let handle = router.accept_client(*connect, session)?;
                        self.stage = Stage::Connected(handle);
                    }
                    SessionEvent::OtherVersion { protocol, level, client_id, username } => {
                        let why = format!(
                            "it speaks {protocol} level {level}; this broker speaks MQTT 3.1.1 (level 4) and 3.1"
                        );
                        let code = ConnectCode::PROTOCOL_VERSION;
                        return Err(router.refuse(session, code, &why, &client_id, username.as_deref()));
                    }
                    _ => return Err(CloseReason::Closed("a packet before CONNECT".into())),
                },
            }
            *budget = budget.saturating_sub(router.take_effort());
        }
    }

    fn is_full(&mut self, router: &mut Router<H>) -> Result<bool, CloseReason> {
        match &self.stage {
            Stage::Greeting { .. } => Ok(false),
            Stage::Connected(handle) => router.is_full(*handle),
        }
    }

    /// Writes as much as the peer takes; returns whether that was anything.
    fn write(&mut self, router: &mut Router<H>, cx: &mut Context<'_>) -> Result<bool, CloseReason> {
        let mut wrote = false;
        loop {
            if let Stage::Connected(handle) = self.stage {
                router.refill(handle);
            }
            let outbox = self.stage.session(router)?.outbox();
            let written = match self.writer.write(&mut self.stream, cx, outbox) {
                Ok(written) => written,
                Err(why) if why.kind() == io::ErrorKind::WriteZero => return Err(CloseReason::Gone),
                Err(_) => return Err(CloseReason::Failed),
            };
            wrote |= written > 0;
            if written == 0 || !outbox.is_empty() {
                break;
            }
        }
        let Stage::Connected(handle) = self.stage else { return Ok(wrote) };
        if let Some(client) = router.client(handle) {
            client.unsent = self.writer.held();
        }
        router.leaving(handle).map_or(Ok(wrote), |why| Err(CloseReason::Closed(why.into())))
    }

    fn read(
        &mut self,
        router: &mut Router<H>,
        cx: &mut Context<'_>,
    ) -> Result<Poll<io::Result<usize>>, CloseReason> {
        let mut buffer = std::mem::take(self.stage.session(router)?.inbox());
        if buffer.is_empty() {
            let spare = router.take_buffer();
            router.give_buffer(std::mem::replace(&mut buffer, spare));
        }
        let most = if router.is_crowded() { READ_IN_A_CROWD } else { READ };
        buffer.reserve(most);
        // A buffer from the spares may have more room.
        let read = pin!(self.stream.read_buf(&mut (&mut buffer).limit(most))).poll(cx);
        let session = self.stage.session(router)?;
        *session.inbox() = buffer;
        if session.outbox().capacity() == 0 {
            let spare = router.take_buffer();
            *self.stage.session(router)?.outbox() = spare;
        }
        Ok(read)
    }

    /// Moves the first bytes of an unfinished packet into a buffer of their size, because they must not keep a much larger
    /// one. If the packet is larger than a read, the buffer has grown with it and stays.
    fn shrink_inbox(&mut self, router: &mut Router<H>) -> Result<(), CloseReason> {
        let inbox = self.stage.session(router)?.inbox();
        if inbox.len() <= READ {
            let former = replace_by_copy(inbox);
            router.give_buffer(former);
        }
        Ok(())
    }

    /// Gives back the buffers that an idle connection does not need.
    fn release_buffers(&mut self, router: &mut Router<H>, cx: &mut Context<'_>) -> Result<(), CloseReason> {
        let is_crowded = router.is_crowded();
        let session = self.stage.session(router)?;
        let unfinished = session.inbox().len();
        let outbox = session.outbox();
        let empty = (is_crowded || outbox.len() <= READ).then(|| replace_by_copy(outbox));
        if session.in_flight() + session.queued() + session.pending_acks() == 0 {
            session.shrink();
        }
        if let Some(buffer) = empty {
            router.give_buffer(buffer);
        }
        router.unfinished_bytes = router.unfinished_bytes + unfinished - self.unfinished;
        self.unfinished = unfinished;
        let Stage::Connected(handle) = self.stage else { return Ok(()) };
        router.weigh(handle.id);
        if router.is_searching(handle) {
            wake_after_io(cx);
        }
        if let Some(client) = router.client(handle)
            && client.waker.as_ref().is_none_or(|waker| !waker.will_wake(cx.waker()))
        {
            client.waker = Some(cx.waker().clone());
        }
        Ok(())
    }

    /// Checks the deadlines of CONNECT and keep-alive, and sets the timer for the next one.
    fn set_timer(&mut self, router: &mut Router<H>, cx: &mut Context<'_>) -> Result<(), CloseReason> {
        let now = router.now().mono;
        let due = match &self.stage {
            Stage::Greeting { until, .. } if now >= *until => {
                let limit = router.limits().connect_timeout.as_secs_f64();
                return Err(CloseReason::Closed(format!("no CONNECT came within {limit} s")));
            }
            Stage::Greeting { until, .. } => Some(*until),
            Stage::Connected(_) => {
                let session = self.stage.session(router)?;
                session.handle_timeout(now).map_err(|silence| CloseReason::Closed(silence.to_string()))?;
                session.next_timeout()
            }
        };
        let Some(due) = due else {
            self.timer = None;
            return Ok(());
        };
        let due = router.instant(due);
        match &mut self.timer {
            // A timer that fires early only checks again, which is cheaper than moving it with every packet.
            Some(timer) if !timer.is_elapsed() && timer.deadline() <= due => {}
            Some(timer) => timer.as_mut().reset(due),
            None => self.timer = Some(Box::pin(tokio::time::sleep_until(due))),
        }
        if let Some(timer) = &mut self.timer
            && timer.as_mut().poll(cx).is_ready()
        {
            cx.waker().wake_by_ref();
        }
        Ok(())
    }

    /// Reads until the peer closes, because closing with unread input would reset the connection before the peer has read the
    /// last packets.
    async fn linger(&mut self) {
        let farewell = async {
            let mut rest = Vec::with_capacity(4096);
            self.stream.shutdown().await?;
            while self.stream.read_buf(&mut rest).await? > 0 {
                rest.clear();
            }
            io::Result::Ok(())
        };
        // It makes no difference whether the peer reads them.
        let _ = tokio::time::timeout(LINGER, farewell).await;
    }
}

/// Wakes the task after the runtime has polled the sockets. A task that wakes itself directly runs dozens of times before
/// that, and the other connections read nothing meanwhile.
pub(super) fn wake_after_io(cx: &mut Context<'_>) {
    let _ = pin!(tokio::task::yield_now()).poll(cx);
}

/// Replaces a buffer by a copy of exactly its size; returns the former buffer.
fn replace_by_copy(buffer: &mut BytesMut) -> BytesMut {
    let copy = BytesMut::from(&buffer[..]);
    std::mem::replace(buffer, copy)
}
