//! One connection: reads what has come, lets the router action on it, and writes all that this caused at once.
//!
//! A connection that waits owns no buffer. A turn costs a bounded amount of work, and the others have theirs before the
//! next one, so that a flood on one connection leaves room for them.

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
    net::TcpStream,
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

/// How much is read at once.
const READ: usize = 64 * 1024;

/// What a turn may cost: each byte that is heard counts as one, and what else is done as so many as take as long. A single
/// packet may cost more, and is then the turn's last.
const BUDGET: usize = 64 * 1024;

/// What a packet costs beside its bytes.
const PACKET_COST: usize = 128;

/// The same once much is kept for all clients together.
const READ_IN_A_CROWD: usize = 8 * 1024;

/// How often a turn reads before the other connections have theirs.
const ROUNDS: usize = 4;

/// What a connection may hold of an unfinished packet whatever all the others hold: more than most packets have.
const FAIR_SHARE: usize = 4 * 1024;

/// How long a client that was turned away may take to read why.
const LINGER: Duration = Duration::from_secs(1);

/// What carries the bytes.
pub(super) trait Transport: AsyncRead + AsyncWrite + Unpin {
    /// Acknowledges what has come, on the layer of TCP, without waiting for something to send along.
    ///
    /// A client that does not set TCP_NODELAY holds its next packet back until then: 40 ms each time.
    fn acknowledge(&self);
}

impl Transport for TcpStream {
    fn acknowledge(&self) {
        // Where it fails it is only slower.
        #[cfg(any(target_os = "linux", target_os = "android"))]
        let _ = self.set_quickack(true);
    }
}

impl Transport for TlsStream<TcpStream> {
    fn acknowledge(&self) {
        self.get_ref().0.acknowledge();
    }
}

/// Serves one client, whose connection was accepted at this time, until it leaves.
pub(super) async fn serve<S: Transport, H: Handler>(
    stream: S,
    board: Rc<RefCell<Router<H>>>,
    accepted: Instant,
) {
    let stage = {
        let mut board = board.borrow_mut();
        let now = board.begin_turn().mono;
        let mut session = Session::new(Side::Server, board.limits().session());
        session.open(now);
        let until = (now + board.limits().connect_timeout).saturating_sub(accepted.elapsed());
        Stage::Greeting { session: Box::new(session), until }
    };
    let mut connection =
        Connection { stream, writer: SocketWriter::default(), board, stage, timer: None, unfinished: 0 };
    if poll_fn(|cx| connection.turn(cx)).await {
        connection.linger().await;
    }
}

struct Connection<S, H: Handler> {
    stream: S,
    writer: SocketWriter,
    board: Rc<RefCell<Router<H>>>,
    stage: Stage,
    timer: Option<Pin<Box<Sleep>>>,
    /// Bytes of an unfinished packet, as the router has counted them.
    unfinished: usize,
}

/// How far the packets that have come were acted on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Heard {
    /// All of them.
    All,
    /// Output must leave before the next.
    Full,
    /// The turn has cost enough.
    Enough,
}

#[derive(Debug)]
enum Stage {
    /// CONNECT has not come yet, or was refused.
    Greeting { session: Box<Session>, until: Duration },
    /// The client has its place.
    Connected(ClientHandle),
}

impl Stage {
    fn session<'a, H: Handler>(
        &'a mut self,
        board: &'a mut Router<H>,
    ) -> Result<&'a mut Session, CloseReason> {
        match self {
            Self::Greeting { session, .. } => Ok(session),
            Self::Connected(place) => match board.client(*place) {
                Some(client) => Ok(&mut client.session),
                None => Err(CloseReason::TakenOver),
            },
        }
    }
}

impl<S: Transport, H: Handler> Connection<S, H> {
    /// One turn; it is over with the answer to whether the peer may still be reading.
    fn turn(&mut self, cx: &mut Context<'_>) -> Poll<bool> {
        let board = Rc::clone(&self.board);
        let board = &mut *board.borrow_mut();
        board.begin_turn();
        let outcome = self.exchange(board, cx).and_then(|()| self.arm(board, cx));
        let Err(why) = outcome else {
            board.end_turn();
            return Poll::Pending;
        };
        board.unfinished_bytes -= self.unfinished;
        if let Ok(session) = self.stage.session(board) {
            let (inbox, outbox) = (std::mem::take(session.inbox()), std::mem::take(session.outbox()));
            board.give_buffer(inbox);
            board.give_buffer(outbox);
        }
        match self.stage {
            Stage::Connected(place) => board.depart(place, &why),
            Stage::Greeting { .. } => {
                if let CloseReason::Closed(why) = &why {
                    board.warn(&format!("a connection was closed before its CONNECT: {why}"));
                }
            }
        }
        board.end_turn();
        Poll::Ready(matches!(why, CloseReason::Closed(_) | CloseReason::Refused | CloseReason::TakenOver))
    }

    fn exchange(&mut self, board: &mut Router<H>, cx: &mut Context<'_>) -> Result<(), CloseReason> {
        let mut is_unacknowledged = false;
        let mut budget = BUDGET;
        for _ in 0..ROUNDS {
            let heard = self.hear(board, &mut budget);
            if let Stage::Connected(place) = self.stage {
                board.search_on(place);
            }
            let written = self.write(board, cx);
            let heard = heard?;
            is_unacknowledged &= !written?;
            let congested = board.is_congested();
            if congested || self.is_full(board)? {
                if congested {
                    board.wait_for_room(cx.waker());
                }
                let now = board.now().mono;
                self.stage.session(board)?.not_reading(now);
                return self.rest(board, cx);
            }
            match heard {
                Heard::All => {}
                Heard::Full => continue,
                Heard::Enough => break,
            }
            match self.read(board, cx)? {
                Poll::Ready(Ok(0)) => return Err(CloseReason::Gone),
                Poll::Ready(Ok(_)) => is_unacknowledged = true,
                Poll::Ready(Err(_)) => return Err(CloseReason::Failed),
                Poll::Pending => {
                    if is_unacknowledged {
                        self.stream.acknowledge();
                    }
                    self.shrink_inbox(board)?;
                    self.rest(board, cx)?;
                    if self.unfinished > FAIR_SHARE && board.unfinished_bytes > board.room_for_unfinished() {
                        let why =
                            "all clients together have begun too many large packets without ending them";
                        return Err(CloseReason::Closed(why.into()));
                    }
                    return Ok(());
                }
            }
        }
        come_again(cx);
        self.rest(board, cx)
    }

    /// Lets the router action on the whole packets that have come, as far as the budget reaches.
    fn hear(&mut self, board: &mut Router<H>, budget: &mut usize) -> Result<Heard, CloseReason> {
        let now = board.now().mono;
        loop {
            if self.is_full(board)? {
                return Ok(Heard::Full);
            }
            if *budget == 0 {
                return Ok(Heard::Enough);
            }
            let session = self.stage.session(board)?;
            let before = session.inbox().len();
            let event = match session.poll_event(now) {
                Ok(Some(event)) => event,
                Ok(None) => return Ok(Heard::All),
                Err(why) => return Err(CloseReason::Closed(why.to_string())),
            };
            *budget = budget.saturating_sub(before - session.inbox().len() + PACKET_COST);
            match &mut self.stage {
                Stage::Connected(place) => board.handle_event(*place, event)?,
                Stage::Greeting { session, .. } => match event {
                    SessionEvent::Connect(connect) => {
                        let place = board.admit(*connect, session)?;
                        self.stage = Stage::Connected(place);
                    }
                    SessionEvent::OtherVersion { protocol, level, client_id, username } => {
                        let why = format!(
                            "it speaks {protocol} level {level}, and this broker MQTT 3.1.1 (level 4) and 3.1"
                        );
                        let code = ConnectCode::PROTOCOL_VERSION;
                        return Err(board.refuse(session, code, &why, &client_id, username.as_deref()));
                    }
                    _ => return Err(CloseReason::Closed("a packet before CONNECT".into())),
                },
            }
            *budget = budget.saturating_sub(board.take_effort());
        }
    }

    fn is_full(&mut self, board: &mut Router<H>) -> Result<bool, CloseReason> {
        match &self.stage {
            Stage::Greeting { .. } => Ok(false),
            Stage::Connected(place) => board.is_full(*place),
        }
    }

    /// Writes as much as the peer takes; says whether that was anything.
    fn write(&mut self, board: &mut Router<H>, cx: &mut Context<'_>) -> Result<bool, CloseReason> {
        let mut wrote = false;
        loop {
            if let Stage::Connected(place) = self.stage {
                board.refill(place);
            }
            let outbox = self.stage.session(board)?.outbox();
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
        let Stage::Connected(place) = self.stage else { return Ok(wrote) };
        if let Some(client) = board.client(place) {
            client.unsent = self.writer.held();
        }
        board.leaving(place).map_or(Ok(wrote), |why| Err(CloseReason::Closed(why.into())))
    }

    fn read(
        &mut self,
        board: &mut Router<H>,
        cx: &mut Context<'_>,
    ) -> Result<Poll<io::Result<usize>>, CloseReason> {
        let mut buffer = std::mem::take(self.stage.session(board)?.inbox());
        if buffer.is_empty() {
            let spare = board.take_buffer();
            board.give_buffer(std::mem::replace(&mut buffer, spare));
        }
        let most = if board.is_crowded() { READ_IN_A_CROWD } else { READ };
        buffer.reserve(most);
        // A buffer that was used before has more room.
        let read = pin!(self.stream.read_buf(&mut (&mut buffer).limit(most))).poll(cx);
        let session = self.stage.session(board)?;
        *session.inbox() = buffer;
        if session.outbox().capacity() == 0 {
            let spare = board.take_buffer();
            *self.stage.session(board)?.outbox() = spare;
        }
        Ok(read)
    }

    /// Puts the first bytes of a packet, whose rest is waited for, into a buffer of their size: they must not keep one that
    /// is much larger. Of a packet that is larger than a read the buffer has grown with it.
    fn shrink_inbox(&mut self, board: &mut Router<H>) -> Result<(), CloseReason> {
        let inbox = self.stage.session(board)?.inbox();
        if inbox.len() <= READ {
            let former = replace_by_copy(inbox);
            board.give_buffer(former);
        }
        Ok(())
    }

    /// Gives back what an idle connection does not need.
    fn rest(&mut self, board: &mut Router<H>, cx: &mut Context<'_>) -> Result<(), CloseReason> {
        let is_crowded = board.is_crowded();
        let session = self.stage.session(board)?;
        let unfinished = session.inbox().len();
        let outbox = session.outbox();
        let empty = (is_crowded || outbox.len() <= READ).then(|| replace_by_copy(outbox));
        if session.in_flight() + session.queued() + session.pending_acks() == 0 {
            session.shrink();
        }
        if let Some(buffer) = empty {
            board.give_buffer(buffer);
        }
        board.unfinished_bytes = board.unfinished_bytes + unfinished - self.unfinished;
        self.unfinished = unfinished;
        let Stage::Connected(place) = self.stage else { return Ok(()) };
        board.weigh(place.id);
        if board.is_searching(place) {
            come_again(cx);
        }
        if let Some(client) = board.client(place)
            && client.waker.as_ref().is_none_or(|waker| !waker.will_wake(cx.waker()))
        {
            client.waker = Some(cx.waker().clone());
        }
        Ok(())
    }

    /// Sees whether the client has been silent for too long, and when to look again.
    fn arm(&mut self, board: &mut Router<H>, cx: &mut Context<'_>) -> Result<(), CloseReason> {
        let now = board.now().mono;
        let due = match &self.stage {
            Stage::Greeting { until, .. } if now >= *until => {
                let limit = board.limits().connect_timeout.as_secs_f64();
                return Err(CloseReason::Closed(format!("no CONNECT came within {limit} s")));
            }
            Stage::Greeting { until, .. } => Some(*until),
            Stage::Connected(_) => {
                let session = self.stage.session(board)?;
                session.handle_timeout(now).map_err(|silence| CloseReason::Closed(silence.to_string()))?;
                session.next_timeout()
            }
        };
        let Some(due) = due else {
            self.timer = None;
            return Ok(());
        };
        let due = board.instant(due);
        match &mut self.timer {
            // An earlier one only looks again: cheaper than moving it with every packet.
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

    /// Closes in a way that lets the peer read what was said last: unread input would reset the connection.
    async fn linger(&mut self) {
        let farewell = async {
            let mut rest = Vec::with_capacity(4096);
            self.stream.shutdown().await?;
            while self.stream.read_buf(&mut rest).await? > 0 {
                rest.clear();
            }
            io::Result::Ok(())
        };
        // Whether the peer listens is its own affair.
        let _ = tokio::time::timeout(LINGER, farewell).await;
    }
}

/// Wakes the task once the sockets have been looked at. A task that wakes itself at once is run again dozens of times
/// before that, and nobody else hears anything meanwhile.
pub(super) fn come_again(cx: &mut Context<'_>) {
    let _ = pin!(tokio::task::yield_now()).poll(cx);
}

/// Puts what a buffer holds into one of just that size, and gives the buffer back.
fn replace_by_copy(buffer: &mut BytesMut) -> BytesMut {
    let copy = BytesMut::from(&buffer[..]);
    std::mem::replace(buffer, copy)
}
