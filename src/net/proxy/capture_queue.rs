//! A queue of forwarded bytes, from the thread that forwards them to the thread that decodes them.
//!
//! The forwarding thread only copies bytes. The decoder is woken once for all bytes of a moment, because a wake-up costs as much
//! as decoding many messages. If the decoder falls so far behind that memory is at stake, the forwarding thread waits for it; the
//! decoder itself waits for no other thread.

use std::{
    collections::HashMap,
    mem,
    net::SocketAddr,
    sync::{Condvar, Mutex, MutexGuard, PoisonError},
    time::{Duration, Instant, SystemTime},
};

use super::{Dissector, Observer};
use crate::mqtt::Direction;

/// How long what passed may wait to be listened to, where little passes.
const LINGER: Duration = Duration::from_millis(10);

/// With so much, the listener is woken before its time.
const BATCH: usize = 64 * 1024;

/// With so much, forwarding waits for the listener.
const FULL: usize = 1024 * 1024;

/// Buffers that grew beyond this are given back.
const KEPT: usize = 256 * 1024;

/// When something passed.
#[derive(Clone, Copy, Debug)]
pub struct Moment {
    /// By the clock that never jumps.
    pub monotonic: Instant,
    /// By the clock on the wall.
    pub wall: SystemTime,
}

impl Moment {
    /// The present.
    #[must_use]
    pub fn now() -> Self {
        Self { monotonic: Instant::now(), wall: SystemTime::now() }
    }
}

/// What happens on a connection, or to it.
#[derive(Debug)]
pub(super) enum Chunk<'a> {
    Opened(SocketAddr),
    Passed(Direction, &'a [u8]),
    Ended(Direction),
    Closed,
    Warning(String),
}

/// The queue between the two threads.
#[derive(Debug, Default)]
pub(super) struct CaptureQueue {
    reel: Mutex<Reel>,
    filled: Condvar,
    taken: Condvar,
}

#[derive(Debug, Default)]
struct Reel {
    bytes: Vec<u8>,
    scenes: Vec<Scene>,
    is_over: bool,
}

#[derive(Debug)]
struct Scene {
    connection: u64,
    at: Moment,
    what: What,
}

/// A [`Chunk`], whose bytes are so many of the reel's.
#[derive(Debug)]
enum What {
    Opened(SocketAddr),
    Passed(Direction, usize),
    Ended(Direction),
    Closed,
    Warning(String),
}

impl Reel {
    fn size(&self) -> usize {
        self.bytes.len() + self.scenes.len() * size_of::<Scene>()
    }

    fn clear(&mut self) {
        self.bytes.clear();
        self.scenes.clear();
        if self.bytes.capacity() > KEPT {
            self.bytes = Vec::new();
        }
        if self.scenes.capacity() * size_of::<Scene>() > KEPT {
            self.scenes = Vec::new();
        }
    }
}

impl CaptureQueue {
    /// Adds what happened just now; once the queue is over, nothing is added.
    pub(super) fn record(&self, connection: u64, take: Chunk<'_>) {
        let at = Moment::now();
        let mut reel = self.lock();
        if reel.is_over {
            return;
        }
        let before = reel.size();
        let what = match take {
            Chunk::Opened(peer) => What::Opened(peer),
            Chunk::Passed(dir, bytes) => {
                reel.bytes.extend_from_slice(bytes);
                What::Passed(dir, bytes.len())
            }
            Chunk::Ended(dir) => What::Ended(dir),
            Chunk::Closed => What::Closed,
            Chunk::Warning(message) => What::Warning(message),
        };
        reel.scenes.push(Scene { connection, at, what });
        let size = reel.size();
        if before == 0 || (before < BATCH && size >= BATCH) {
            self.filled.notify_one();
        }
        if size >= FULL {
            let wait = self.taken.wait_while(reel, |reel| reel.size() >= FULL && !reel.is_over);
            drop(wait.unwrap_or_else(PoisonError::into_inner));
        }
    }

    /// Ends the queue: what is on it is still listened to, and nothing more is added.
    pub(super) fn end(&self) {
        self.lock().is_over = true;
        self.filled.notify_one();
        self.taken.notify_one();
    }

    /// Listens until the queue ends, and tells a witness what is said.
    pub(super) fn listen(&self, max_packet: usize, witness: &Mutex<dyn Observer + Send>) {
        // A listener that fails must not hold the traffic up.
        let _end = End(self);
        let mut transcripts: HashMap<u64, (SocketAddr, Dissector)> = HashMap::new();
        let mut reel = Reel::default();
        while self.take(&mut reel) {
            let mut witness = witness.lock().unwrap_or_else(PoisonError::into_inner);
            let mut bytes = &reel.bytes[..];
            for Scene { connection, at, what } in reel.scenes.drain(..) {
                if let What::Opened(peer) = what {
                    transcripts.insert(connection, (peer, Dissector::new(max_packet)));
                    continue;
                }
                if let What::Warning(message) = what {
                    witness.warn(&message);
                    continue;
                }
                let Some((peer, dissector)) = transcripts.get_mut(&connection) else { continue };
                match what {
                    What::Opened(_) | What::Warning(_) => {}
                    What::Passed(dir, length) => {
                        let (passed, rest) = bytes.split_at(length);
                        bytes = rest;
                        dissector.hear(dir, passed, &mut |heard| witness.heard(heard, *peer, at));
                    }
                    What::Ended(dir) => dissector.ended(dir),
                    What::Closed => {
                        dissector.close(&mut |heard| witness.heard(heard, *peer, at));
                        transcripts.remove(&connection);
                    }
                }
            }
            witness.paused();
            drop(witness);
            reel.clear();
        }
    }

    /// Waits for something and takes all of it; false when there will be nothing more.
    fn take(&self, reel: &mut Reel) -> bool {
        let shared = self.filled.wait_while(self.lock(), |reel| reel.scenes.is_empty() && !reel.is_over);
        let shared = shared.unwrap_or_else(PoisonError::into_inner);
        let more =
            self.filled.wait_timeout_while(shared, LINGER, |reel| reel.size() < BATCH && !reel.is_over);
        let (mut shared, _) = more.unwrap_or_else(PoisonError::into_inner);
        mem::swap(&mut shared.bytes, &mut reel.bytes);
        mem::swap(&mut shared.scenes, &mut reel.scenes);
        drop(shared);
        self.taken.notify_one();
        !reel.scenes.is_empty()
    }

    fn lock(&self) -> MutexGuard<'_, Reel> {
        self.reel.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Ends a queue when it is dropped.
struct End<'a>(&'a CaptureQueue);

impl Drop for End<'_> {
    fn drop(&mut self) {
        self.0.end();
    }
}

#[cfg(test)]
mod tests {
    use std::{sync::mpsc, thread};

    use bytes::BytesMut;

    use super::*;
    use crate::{
        mqtt::{
            Direction::{Down, Up},
            codec::{Message, Packet, QoS},
        },
        net::proxy::Heard,
    };

    /// Writes down whose messages it heard, in its order, and its pauses.
    #[derive(Default)]
    struct Notes {
        heard: Vec<(u16, String)>,
        last: Option<Instant>,
        warnings: usize,
        pauses: usize,
        is_fragile: bool,
    }

    impl Observer for Notes {
        fn heard(&mut self, heard: Heard<'_>, peer: SocketAddr, at: Moment) {
            assert!(!self.is_fragile, "told to a fragile witness");
            assert!(self.last.is_none_or(|last| last <= at.monotonic));
            self.last = Some(at.monotonic);
            if let Heard::Message { message, .. } = heard {
                self.heard.push((peer.port(), message.topic.to_string()));
            }
        }
        fn warn(&mut self, _: &str) {
            self.warnings += 1;
        }
        fn paused(&mut self) {
            self.pauses += 1;
        }
    }

    fn peer(port: u16) -> SocketAddr {
        SocketAddr::from(([127, 0, 0, 1], port))
    }

    fn message(topic: String, length: usize) -> BytesMut {
        let mut bytes = BytesMut::new();
        let payload = vec![b'x'; length].into();
        let message = Message {
            topic: topic.into(),
            payload,
            qos: QoS::AtMostOnce,
            retain: false,
            dup: false,
            id: None,
        };
        Packet::Publish(message).encode(&mut bytes).unwrap();
        bytes
    }

    #[test]
    fn all_that_passed_is_told_in_order_however_far_behind_the_listener_is() {
        let (queue, notes) = (CaptureQueue::default(), Mutex::new(Notes::default()));
        let (connections, count) = (5, 3000);
        thread::scope(|scope| {
            // The witness is busy until the queue is full.
            let busy = notes.lock().unwrap();
            scope.spawn(|| queue.listen(1 << 20, &notes));
            let (full, is_full) = mpsc::channel();
            let forwarding = scope.spawn(|| {
                let full = full;
                for n in 0..connections {
                    queue.record(n, Chunk::Opened(peer(u16::try_from(n).unwrap())));
                }
                for n in 0..count {
                    queue.record(n % connections, Chunk::Passed(Up, &message(n.to_string(), 1000)));
                    if n == 2 * FULL as u64 / 1000 {
                        full.send(()).unwrap();
                    }
                }
                queue.record(0, Chunk::Warning("something".into()));
                for n in 0..connections {
                    queue.record(n, Chunk::Closed);
                }
            });
            // One full queue is taken, a second one is not: whoever forwards waits.
            while queue.lock().size() < FULL {
                thread::yield_now();
            }
            assert!(is_full.try_recv().is_err() && queue.lock().size() < FULL + 2000);
            drop(busy);
            forwarding.join().unwrap();
            queue.end();
        });
        let notes = notes.into_inner().unwrap();
        let expected: Vec<_> =
            (0..count).map(|n| (u16::try_from(n % connections).unwrap(), n.to_string())).collect();
        assert!(notes.heard == expected, "{} messages were heard", notes.heard.len());
        assert_eq!(notes.warnings, 1);
        assert!(notes.pauses > 1, "{} pauses", notes.pauses);
    }

    #[test]
    fn a_listener_that_fails_holds_nobody_up() {
        let (queue, notes) =
            (CaptureQueue::default(), Mutex::new(Notes { is_fragile: true, ..Notes::default() }));
        thread::scope(|scope| {
            let listener = scope.spawn(|| queue.listen(1 << 20, &notes));
            queue.record(1, Chunk::Opened(peer(1)));
            for n in 0..3 * FULL / 1000 {
                queue.record(1, Chunk::Passed(Down, &message(n.to_string(), 1000)));
            }
            assert!(listener.join().is_err());
        });
    }
}
