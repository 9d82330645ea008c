//! One tapped connection: bytes go both ways as they come, one write for one read, and a copy of them is told
//! afterwards.
//!
//! A side that does not take its bytes is not read for: that is the back-pressure it would have without the tap.

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

/// How much is read at once.
const READ: usize = 64 * 1024;

/// How long one side may stay silent after the other has ended.
const LINGER: Duration = Duration::from_mins(5);

/// Buffers that all connections of a thread share: one that waits owns none.
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

/// Something that happened on the way.
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
    /// What was read and could not be written yet, from `at` on.
    rest: Vec<u8>,
    at: usize,
    stage: Stage,
    /// Whether the reading side broke, which leaves nobody to write the other direction to.
    is_cut: bool,
    is_end_told: bool,
}

#[derive(Clone, Copy, Default, PartialEq, Eq)]
enum Stage {
    #[default]
    Open,
    /// The reading side has ended; the writing side is being told.
    Ending,
    Over,
}

impl Relay {
    pub(super) fn new(client: Box<dyn Socket>, broker: Box<dyn Socket>) -> Self {
        Self { client, broker, up: Flow::default(), down: Flow::default(), linger: None }
    }

    /// Forwards until both directions are over. `with` lends the buffers, for no longer than a turn.
    pub(super) async fn run(
        &mut self,
        mut with: impl FnMut(&mut dyn FnMut(&mut Scratch)),
        tell: &mut dyn FnMut(Passed<'_>),
    ) {
        poll_fn(|cx| {
            let mut poll = Poll::Pending;
            with(&mut |scratch| poll = self.turn(cx, scratch, tell));
            poll
        })
        .await;
    }

    fn turn(
        &mut self,
        cx: &mut Context<'_>,
        scratch: &mut Scratch,
        tell: &mut dyn FnMut(Passed<'_>),
    ) -> Poll<()> {
        loop {
            let up = self.up.step(cx, &mut *self.client, &mut *self.broker, &mut scratch.up);
            let down = self.down.step(cx, &mut *self.broker, &mut *self.client, &mut scratch.down);
            // Observe only after both directions were forwarded, to keep it off the latency path.
            if up > 0 {
                tell(Passed::Bytes(Direction::Up, &scratch.up[..up]));
            }
            if down > 0 {
                tell(Passed::Bytes(Direction::Down, &scratch.down[..down]));
            }
            for (flow, dir) in [(&mut self.up, Direction::Up), (&mut self.down, Direction::Down)] {
                if flow.stage != Stage::Open && !flow.is_end_told {
                    flow.is_end_told = true;
                    tell(Passed::End(dir));
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
    /// Reads once and writes once, or goes on with what is left over; gives how much was read.
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
        // Registers for the moment when the rest can be written, and has TLS send what it holds back.
        let _ = self.drain(cx, to);
    }

    /// Writes what is left over, and all that TLS holds back.
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
