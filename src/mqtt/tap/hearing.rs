//! What was forwarded and not yet listened to. Listening takes longer than forwarding, so it waits for a moment and
//! then goes on in small portions, between which bytes that came meanwhile are forwarded.

use std::{
    cell::RefCell,
    collections::VecDeque,
    net::SocketAddr,
    rc::Rc,
    time::{Duration, Instant},
};

use bytes::Bytes;
use tokio::sync::Notify;

use super::{Transcript, Witness};
use crate::protocol::Direction;

/// How long what was forwarded may wait before somebody listens to it.
const PAUSE: Duration = Duration::from_millis(2);

/// How many bytes are listened to before forwarding has its turn: a few messages.
const PORTION: usize = 1024;

/// With more than this waiting, forwarding waits instead.
const FULL: usize = 1024 * 1024;

/// The queue.
pub(super) struct Hearing {
    witness: Rc<RefCell<dyn Witness>>,
    queue: RefCell<Queue>,
    filled: Notify,
}

#[derive(Default)]
struct Queue {
    said: VecDeque<Said>,
    bytes: usize,
}

/// Something of one connection, and when it was.
struct Said {
    speaker: Rc<Speaker>,
    at: Instant,
    what: What,
}

enum What {
    Bytes(Direction, Bytes),
    End(Direction),
    Close,
}

/// A connection that is listened to.
pub(super) struct Speaker {
    pub(super) peer: SocketAddr,
    pub(super) transcript: RefCell<Transcript>,
}

impl Hearing {
    pub(super) fn new(witness: Rc<RefCell<dyn Witness>>) -> Self {
        Self { witness, queue: RefCell::default(), filled: Notify::new() }
    }

    pub(super) fn warn(&self, message: &str) {
        self.witness.borrow_mut().warn(message);
    }

    pub(super) fn bytes(&self, speaker: &Rc<Speaker>, dir: Direction, bytes: &[u8]) {
        self.queue.borrow_mut().bytes += bytes.len();
        self.push(speaker, What::Bytes(dir, Bytes::copy_from_slice(bytes)));
        while self.queue.borrow().bytes > FULL {
            self.listen(usize::MAX);
        }
    }

    pub(super) fn end(&self, speaker: &Rc<Speaker>, dir: Direction) {
        self.push(speaker, What::End(dir));
    }

    pub(super) fn close(&self, speaker: &Rc<Speaker>) {
        self.push(speaker, What::Close);
    }

    fn push(&self, speaker: &Rc<Speaker>, what: What) {
        let said = &mut self.queue.borrow_mut().said;
        said.push_back(Said { speaker: Rc::clone(speaker), at: Instant::now(), what });
        if said.len() == 1 {
            self.filled.notify_one();
        }
    }

    /// Listens for ever.
    pub(super) async fn run(&self) -> std::convert::Infallible {
        loop {
            self.filled.notified().await;
            tokio::time::sleep(PAUSE).await;
            while self.listen(PORTION) {
                tokio::task::yield_now().await;
            }
        }
    }

    /// Listens to all that is there.
    pub(super) fn finish(&self) {
        while self.listen(usize::MAX) {}
    }

    /// Listens to some bytes, or to one event that is not bytes; false once there is nothing more.
    fn listen(&self, mut portion: usize) -> bool {
        loop {
            let Some(mut said) = self.queue.borrow_mut().take() else { return false };
            let mut witness = self.witness.borrow_mut();
            let Said { speaker, at, what } = &mut said;
            let mut transcript = speaker.transcript.borrow_mut();
            let mut tell = |heard: super::Heard<'_>| witness.heard(heard, speaker.peer, *at);
            match what {
                What::Bytes(dir, bytes) => {
                    let some = bytes.split_to(bytes.len().min(portion));
                    transcript.hear(*dir, &some, &mut tell);
                    portion -= some.len();
                    let mut queue = self.queue.borrow_mut();
                    queue.bytes -= some.len();
                    if !bytes.is_empty() {
                        drop(transcript);
                        queue.said.push_front(said);
                        return true;
                    }
                }
                What::End(dir) => transcript.ended(*dir),
                What::Close => transcript.close(&mut tell),
            }
            if portion == 0 {
                return true;
            }
        }
    }
}

impl Queue {
    fn take(&mut self) -> Option<Said> {
        let said = self.said.pop_front();
        if said.is_none() && self.said.capacity() > 1024 {
            self.said = VecDeque::new();
        }
        said
    }
}
