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
    time::Duration,
};

use super::{
    dissector::Dissector,
    observer::{CaptureTime, Observer},
};
use crate::mqtt::Direction;

/// The longest wait of forwarded bytes before they are decoded, if few pass.
const LINGER: Duration = Duration::from_millis(10);

/// Bytes that wake the decoder at once.
const BATCH: usize = 64 * 1024;

/// Bytes above which the forwarding thread waits for the decoder.
const FULL: usize = 1024 * 1024;

/// Buffers that grew beyond this are freed.
const KEPT: usize = 256 * 1024;

/// An event of a tapped connection.
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
    batch: Mutex<CapturedBatch>,
    filled: Condvar,
    taken: Condvar,
}

#[derive(Debug, Default)]
struct CapturedBatch {
    bytes: Vec<u8>,
    chunks: Vec<QueuedChunk>,
    is_over: bool,
}

#[derive(Debug)]
struct QueuedChunk {
    connection: u64,
    at: CaptureTime,
    kind: ChunkKind,
}

/// A [`Chunk`]; its bytes are the next ones of the batch, this many.
#[derive(Debug)]
enum ChunkKind {
    Opened(SocketAddr),
    Passed(Direction, usize),
    Ended(Direction),
    Closed,
    Warning(String),
}

impl CapturedBatch {
    fn size(&self) -> usize {
        self.bytes.len() + self.chunks.len() * size_of::<QueuedChunk>()
    }

    fn clear(&mut self) {
        self.bytes.clear();
        self.chunks.clear();
        if self.bytes.capacity() > KEPT {
            self.bytes = Vec::new();
        }
        if self.chunks.capacity() * size_of::<QueuedChunk>() > KEPT {
            self.chunks = Vec::new();
        }
    }
}

impl CaptureQueue {
    /// Adds an event with the present time; does nothing after [`CaptureQueue::end`].
    pub(super) fn record(&self, connection: u64, chunk: Chunk<'_>) {
        let at = CaptureTime::now();
        let mut batch = self.lock();
        if batch.is_over {
            return;
        }
        let before = batch.size();
        let kind = match chunk {
            Chunk::Opened(peer) => ChunkKind::Opened(peer),
            Chunk::Passed(dir, bytes) => {
                batch.bytes.extend_from_slice(bytes);
                ChunkKind::Passed(dir, bytes.len())
            }
            Chunk::Ended(dir) => ChunkKind::Ended(dir),
            Chunk::Closed => ChunkKind::Closed,
            Chunk::Warning(message) => ChunkKind::Warning(message),
        };
        batch.chunks.push(QueuedChunk { connection, at, kind });
        let size = batch.size();
        if before == 0 || (before < BATCH && size >= BATCH) {
            self.filled.notify_one();
        }
        if size >= FULL {
            let wait = self.taken.wait_while(batch, |batch| batch.size() >= FULL && !batch.is_over);
            drop(wait.unwrap_or_else(PoisonError::into_inner));
        }
    }

    /// Ends the queue: its rest is still decoded, and nothing more is added.
    pub(super) fn end(&self) {
        self.lock().is_over = true;
        self.filled.notify_one();
        self.taken.notify_one();
    }

    /// Decodes until the queue ends, and passes observations to the observer.
    pub(super) fn decode(&self, max_packet: usize, observer: &Mutex<dyn Observer + Send>) {
        // A decoder that panics must not hold up the traffic.
        let _end = EndOnDrop(self);
        let mut dissectors: HashMap<u64, (SocketAddr, Dissector)> = HashMap::new();
        let mut batch = CapturedBatch::default();
        while self.take(&mut batch) {
            let mut observer = observer.lock().unwrap_or_else(PoisonError::into_inner);
            let mut bytes = &batch.bytes[..];
            for QueuedChunk { connection, at, kind } in batch.chunks.drain(..) {
                if let ChunkKind::Opened(peer) = kind {
                    dissectors.insert(connection, (peer, Dissector::new(max_packet)));
                    continue;
                }
                if let ChunkKind::Warning(message) = kind {
                    observer.warn(&message);
                    continue;
                }
                let Some((peer, dissector)) = dissectors.get_mut(&connection) else { continue };
                match kind {
                    ChunkKind::Opened(_) | ChunkKind::Warning(_) => {}
                    ChunkKind::Passed(dir, length) => {
                        let (passed, rest) = bytes.split_at(length);
                        bytes = rest;
                        dissector.handle_bytes(dir, passed, &mut |observation| {
                            observer.handle_observation(observation, *peer, at);
                        });
                    }
                    ChunkKind::Ended(dir) => dissector.handle_end(dir),
                    ChunkKind::Closed => {
                        dissector.handle_close(&mut |observation| {
                            observer.handle_observation(observation, *peer, at);
                        });
                        dissectors.remove(&connection);
                    }
                }
            }
            observer.flush();
            drop(observer);
            batch.clear();
        }
    }

    /// Waits for chunks and takes all of them; `false` if there will be no more.
    fn take(&self, batch: &mut CapturedBatch) -> bool {
        let shared = self.filled.wait_while(self.lock(), |batch| batch.chunks.is_empty() && !batch.is_over);
        let shared = shared.unwrap_or_else(PoisonError::into_inner);
        let more =
            self.filled.wait_timeout_while(shared, LINGER, |batch| batch.size() < BATCH && !batch.is_over);
        let (mut shared, _) = more.unwrap_or_else(PoisonError::into_inner);
        mem::swap(&mut shared.bytes, &mut batch.bytes);
        mem::swap(&mut shared.chunks, &mut batch.chunks);
        drop(shared);
        self.taken.notify_one();
        !batch.chunks.is_empty()
    }

    fn lock(&self) -> MutexGuard<'_, CapturedBatch> {
        self.batch.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Ends a queue when it is dropped.
struct EndOnDrop<'a>(&'a CaptureQueue);

impl Drop for EndOnDrop<'_> {
    fn drop(&mut self) {
        self.0.end();
    }
}

#[cfg(test)]
mod tests {
    use std::{sync::mpsc, thread, time::Instant};

    use bytes::BytesMut;

    use super::*;
    use crate::{
        mqtt::{
            Direction::{Down, Up},
            codec::{Message, Packet, QoS},
        },
        net::proxy::Observation,
    };

    /// Collects messages with their sender's port, and counts flushes.
    #[derive(Default)]
    struct Notes {
        heard: Vec<(u16, String)>,
        last: Option<Instant>,
        warnings: usize,
        pauses: usize,
        is_fragile: bool,
    }

    impl Observer for Notes {
        fn handle_observation(&mut self, observation: Observation<'_>, peer: SocketAddr, at: CaptureTime) {
            assert!(!self.is_fragile, "an observation for a fragile observer");
            assert!(self.last.is_none_or(|last| last <= at.monotonic));
            self.last = Some(at.monotonic);
            if let Observation::Message { message, .. } = observation {
                self.heard.push((peer.port(), message.topic.to_string()));
            }
        }
        fn warn(&mut self, _: &str) {
            self.warnings += 1;
        }
        fn flush(&mut self) {
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
            // The observer is locked until the queue is full.
            let busy = notes.lock().unwrap();
            scope.spawn(|| queue.decode(1 << 20, &notes));
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
            // One full queue was taken, a second one was not: the forwarding thread waits.
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
            let listener = scope.spawn(|| queue.decode(1 << 20, &notes));
            queue.record(1, Chunk::Opened(peer(1)));
            for n in 0..3 * FULL / 1000 {
                queue.record(1, Chunk::Passed(Down, &message(n.to_string(), 1000)));
            }
            assert!(listener.join().is_err());
        });
    }
}
