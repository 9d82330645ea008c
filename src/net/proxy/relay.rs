//! One tapped connection: forwards bytes both ways, one write for each read, and then passes a copy on.
//!
//! If a side takes no bytes, the other side is not read: the same back-pressure as without the tap.

use std::{
    future::poll_fn,
    io,
    pin::Pin,
    task::{Context, Poll},
    time::Duration,
};

use tokio::{
    io::ReadBuf,
    time::{Instant, Sleep},
};

use crate::{mqtt::Direction, net::client::stream::Socket};

/// Bytes read at once.
const READ: usize = 64 * 1024;

/// How long one side may stay silent after the other has closed.
const LINGER: Duration = Duration::from_mins(5);

/// Buffers that all connections of a thread share: an idle connection owns none.
#[derive(Debug)]
pub(super) struct Scratch {
    up: Box<[u8]>,
    down: Box<[u8]>,
}

impl Default for Scratch {
    fn default() -> Self {
        Self { up: vec![0; READ].into(), down: vec![0; READ].into() }
    }
}

/// An event of a relayed connection.
pub(super) enum Passed<'a> {
    /// Bytes were read and, as far as the other side takes them, written.
    Bytes(Direction, &'a [u8]),
    /// A side has ended.
    End(Direction),
}

/// A connection between two sides.
pub(super) struct Relay {
    client: Box<dyn Socket>,
    broker: Box<dyn Socket>,
    up: Flow,
    down: Flow,
    linger: Option<Pin<Box<Sleep>>>,
}

/// One direction.
#[derive(Default)]
struct Flow {
    /// Bytes read and not yet written, from `at` on.
    rest: Vec<u8>,
    at: usize,
    stage: Stage,
    /// Whether the reading side broke, so that the other direction cannot be written either.
    is_cut: bool,
    is_end_told: bool,
}

#[derive(Clone, Copy, Default, PartialEq, Eq)]
enum Stage {
    #[default]
    Open,
    /// The reading side has closed; the writing side is being shut down.
    Ending,
    Over,
}

impl Relay {
    pub(super) fn new(client: Box<dyn Socket>, broker: Box<dyn Socket>) -> Self {
        Self { client, broker, up: Flow::default(), down: Flow::default(), linger: None }
    }

    /// Forwards until both directions have ended. `with` lends the buffers for one turn.
    pub(super) async fn run(
        &mut self,
        mut with: impl FnMut(&mut dyn FnMut(&mut Scratch)),
        emit: &mut dyn FnMut(Passed<'_>),
    ) {
        poll_fn(|cx| {
            let mut poll = Poll::Pending;
            with(&mut |scratch| poll = self.turn(cx, scratch, emit));
            poll
        })
        .await;
    }

    fn turn(
        &mut self,
        cx: &mut Context<'_>,
        scratch: &mut Scratch,
        emit: &mut dyn FnMut(Passed<'_>),
    ) -> Poll<()> {
        loop {
            let up = self.up.step(cx, &mut *self.client, &mut *self.broker, &mut scratch.up);
            let down = self.down.step(cx, &mut *self.broker, &mut *self.client, &mut scratch.down);
            // Observe only after both directions were forwarded, to keep it off the latency path.
            if up > 0 {
                emit(Passed::Bytes(Direction::Up, &scratch.up[..up]));
            }
            if down > 0 {
                emit(Passed::Bytes(Direction::Down, &scratch.down[..down]));
            }
            for (flow, dir) in [(&mut self.up, Direction::Up), (&mut self.down, Direction::Down)] {
                if flow.stage != Stage::Open && !flow.is_end_told {
                    flow.is_end_told = true;
                    emit(Passed::End(dir));
                }
            }
            let over = [&self.up, &self.down].map(|flow| flow.stage == Stage::Over);
            let is_cut = (over[0] && self.up.is_cut) || (over[1] && self.down.is_cut);
            if over == [true, true] || is_cut {
                return Poll::Ready(());
            }
            if up + down == 0 {
                return self.wait(cx, over != [false, false]);
            }
            if let Some(linger) = &mut self.linger {
                linger.as_mut().reset(Instant::now() + LINGER);
            }
        }
    }

    fn wait(&mut self, cx: &mut Context<'_>, is_half: bool) -> Poll<()> {
        if !is_half {
            return Poll::Pending;
        }
        self.linger.get_or_insert_with(|| Box::pin(tokio::time::sleep(LINGER))).as_mut().poll(cx)
    }
}

impl Flow {
    /// Reads once and writes once, or continues with unwritten bytes; returns how many bytes were read.
    fn step(
        &mut self,
        cx: &mut Context<'_>,
        from: &mut dyn Socket,
        to: &mut dyn Socket,
        scratch: &mut [u8],
    ) -> usize {
        if self.stage == Stage::Over || self.drain(cx, to).is_pending() {
            return 0;
        }
        let mut read = 0;
        if self.stage == Stage::Open {
            let mut buffer = ReadBuf::new(scratch);
            match Pin::new(from).poll_read(cx, &mut buffer) {
                Poll::Pending => {}
                Poll::Ready(Ok(())) if !buffer.filled().is_empty() => {
                    read = buffer.filled().len();
                    self.forward(cx, to, &scratch[..read]);
                }
                Poll::Ready(outcome) => {
                    // TLS without its close_notify is a plain end.
                    self.is_cut = outcome.is_err_and(|why| why.kind() != io::ErrorKind::UnexpectedEof);
                    self.stage = Stage::Ending;
                }
            }
        }
        if self.stage == Stage::Ending
            && self.drain(cx, to).is_ready()
            && Pin::new(to).poll_shutdown(cx).is_ready()
        {
            self.stage = Stage::Over;
        }
        read
    }

    fn forward(&mut self, cx: &mut Context<'_>, to: &mut dyn Socket, bytes: &[u8]) {
        let written = match Pin::new(&mut *to).poll_write(cx, bytes) {
            Poll::Ready(Ok(written)) => written,
            Poll::Ready(Err(_)) => return self.stage = Stage::Over,
            Poll::Pending => 0,
        };
        if written < bytes.len() {
            self.rest.extend_from_slice(&bytes[written..]);
        }
        // Registers for the rest to be written, and flushes TLS.
        let _ = self.drain(cx, to);
    }

    /// Writes unwritten bytes, and flushes TLS.
    fn drain(&mut self, cx: &mut Context<'_>, to: &mut dyn Socket) -> Poll<()> {
        while self.at < self.rest.len() {
            match Pin::new(&mut *to).poll_write(cx, &self.rest[self.at..]) {
                Poll::Ready(Ok(written)) if written > 0 => self.at += written,
                Poll::Ready(_) => {
                    self.stage = Stage::Over;
                    return Poll::Ready(());
                }
                Poll::Pending => return Poll::Pending,
            }
        }
        if self.at > 0 {
            (self.rest, self.at) = (Vec::new(), 0);
        }
        match Pin::new(to).poll_flush(cx) {
            Poll::Ready(Err(_)) => {
                self.stage = Stage::Over;
                Poll::Ready(())
            }
            Poll::Ready(Ok(())) => Poll::Ready(()),
            Poll::Pending => Poll::Pending,
        }
    }
}
