//! Stderr for programs that serve connections: an event loop must not stop if its stderr is not read.
//!
//! A thread writes the lines in order. If the buffer is full, lines are dropped, and the next one that fits says how many.

use std::{
    io::{self, IsTerminal as _, Write},
    mem,
    sync::{Arc, Condvar, LazyLock, Mutex, MutexGuard, PoisonError},
    thread,
    time::Duration,
};

use rustix::event::{PollFd, PollFlags, Timespec, poll};

use crate::io::batch_writer::push;

/// The size of the buffer, in bytes.
const ROOM: usize = 1024 * 1024;

/// Lines that are written without the thread while the reader keeps up, because starting a thread costs as much as a request.
///
/// Limited, because another program that shares the pipe can fill it between the check and the write.
const AT_ONCE: u32 = 64;

/// Bytes in one write. A pipe takes that many at once, so that lines of several programs are not mixed.
const PIECE: usize = 4096;

/// How long the end of the program waits for a reader that does not read.
const PATIENCE: Duration = Duration::from_secs(1);

static STDERR: LazyLock<StderrWriter> =
    LazyLock::new(|| StderrWriter::new(if io::stderr().is_terminal() { 0 } else { AT_ONCE }));

/// Writes whole lines; never waits.
pub(crate) fn write(lines: &[u8]) {
    STDERR.write(lines, io::stderr, is_ready);
}

/// Waits until everything is written, or the reader has not read for a while.
pub(crate) fn finish() {
    STDERR.finish(PATIENCE);
}

/// Whether a short write to stderr returns at once.
fn is_ready() -> bool {
    let stderr = io::stderr();
    let mut fds = [PollFd::new(&stderr, PollFlags::OUT)];
    poll(&mut fds, Some(&Timespec::default())).is_ok_and(|ready| ready > 0)
        && fds[0].revents() == PollFlags::OUT
}

/// Lines on their way to a stream.
struct StderrWriter(Arc<SharedStderrQueue>);

#[derive(Default)]
struct SharedStderrQueue {
    queue: Mutex<StderrQueue>,
    changed: Condvar,
}

#[derive(Default)]
struct StderrQueue {
    bytes: Vec<u8>,
    /// Dropped lines that are not yet reported.
    dropped: u64,
    /// How many lines may still be written without the thread.
    at_once: u32,
    thread: Thread,
    /// How many writes the thread has finished.
    taken: u64,
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
enum Thread {
    #[default]
    None,
    Idle,
    Writing,
    /// The stream failed: all further lines are dropped silently.
    Failed,
}

impl SharedStderrQueue {
    fn lock(&self) -> MutexGuard<'_, StderrQueue> {
        self.queue.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl StderrQueue {
    /// Adds lines, or drops them if the buffer would exceed `room`.
    fn push(&mut self, lines: &[u8], room: usize) {
        if self.thread == Thread::Failed {
            return;
        }
        // After a loss lines are accepted only once there is room for many, so that one loss gets one report.
        let room = if self.dropped > 0 { room / 2 } else { room };
        if self.bytes.len() + lines.len() > room {
            self.dropped += lines.iter().filter(|byte| **byte == b'\n').count() as u64;
            return;
        }
        self.tell_dropped();
        self.bytes.extend_from_slice(lines);
    }

    /// Whether the thread has nothing to write.
    fn is_written(&self) -> bool {
        match self.thread {
            Thread::None | Thread::Failed => true,
            Thread::Idle => self.bytes.is_empty(),
            Thread::Writing => false,
        }
    }

    fn tell_dropped(&mut self) {
        let number = mem::take(&mut self.dropped);
        if number > 0 {
            let notice = format!("warning: {number} lines were dropped here, because stderr was not read\n");
            self.bytes.extend_from_slice(notice.as_bytes());
        }
    }
}

impl StderrWriter {
    fn new(at_once: u32) -> Self {
        Self(Arc::new(SharedStderrQueue {
            queue: Mutex::new(StderrQueue { at_once, ..StderrQueue::default() }),
            ..SharedStderrQueue::default()
        }))
    }

    /// Writes lines to the stream that `open` returns: at once if `is_ready` says that it accepts them.
    fn write<W: Write>(
        &self,
        lines: &[u8],
        open: impl FnOnce() -> W + Send + 'static,
        is_ready: impl FnOnce() -> bool,
    ) {
        let mut queue = self.0.lock();
        if queue.thread == Thread::None {
            if queue.at_once > 0 && lines.len() <= PIECE && is_ready() {
                queue.at_once -= 1;
                // If stderr is gone, no reader is left to tell.
                let _ = push(&mut open(), &mut &*lines);
                return;
            }
            let shared = Arc::clone(&self.0);
            let started =
                thread::Builder::new().name("stderr".into()).spawn(move || write_all(open(), &shared));
            queue.thread = if started.is_ok() { Thread::Idle } else { Thread::Failed };
        }
        queue.push(lines, ROOM);
        self.0.changed.notify_all();
    }

    /// Waits until everything is written; gives up if no write succeeds within `patience`.
    fn finish(&self, patience: Duration) {
        let mut queue = self.0.lock();
        queue.tell_dropped();
        self.0.changed.notify_all();
        while !queue.is_written() {
            let before = queue.taken;
            let waits = |queue: &mut StderrQueue| queue.taken == before && !queue.is_written();
            let (now, waited) = self
                .0
                .changed
                .wait_timeout_while(queue, patience, waits)
                .unwrap_or_else(PoisonError::into_inner);
            queue = now;
            if waited.timed_out() {
                return;
            }
        }
    }
}

/// The thread.
fn write_all(mut stream: impl Write, shared: &SharedStderrQueue) {
    let mut bytes = Vec::new();
    loop {
        let mut queue = shared.lock();
        queue.thread = Thread::Idle;
        shared.changed.notify_all();
        let mut queue = shared
            .changed
            .wait_while(queue, |queue| queue.bytes.is_empty())
            .unwrap_or_else(PoisonError::into_inner);
        queue.thread = Thread::Writing;
        bytes.clear();
        mem::swap(&mut queue.bytes, &mut bytes);
        drop(queue);
        let mut rest = &bytes[..];
        while !rest.is_empty() {
            let (mut piece, others) = rest.split_at(piece(rest));
            rest = others;
            let written = push(&mut stream, &mut piece);
            let mut queue = shared.lock();
            queue.taken += 1;
            if written.is_err() {
                queue.thread = Thread::Failed;
                queue.bytes = Vec::new();
            }
            shared.changed.notify_all();
            if written.is_err() {
                return;
            }
        }
    }
}

/// The number of bytes of the next write: whole lines, if one fits.
fn piece(rest: &[u8]) -> usize {
    let most = &rest[..rest.len().min(PIECE)];
    most.iter().rposition(|byte| *byte == b'\n').map_or(most.len(), |end| end + 1)
}

#[cfg(test)]
mod tests {
    use std::sync::mpsc;

    use super::*;

    /// A stream that reports each write and then waits for permission to go on.
    struct Gate {
        written: mpsc::Sender<String>,
        go: mpsc::Receiver<()>,
    }

    impl Write for Gate {
        fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
            self.written.send(String::from_utf8(bytes.to_vec()).unwrap()).unwrap();
            self.go.recv().map_err(|_| io::ErrorKind::BrokenPipe)?;
            Ok(bytes.len())
        }
        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }

    /// Lines of which the thread is writing the first; returns the writes, and the sender that lets them go on.
    fn stuck() -> (StderrWriter, mpsc::Receiver<String>, mpsc::Sender<()>) {
        let (written, writes) = mpsc::channel();
        let (go, gate) = mpsc::channel();
        let lines = StderrWriter::new(AT_ONCE);
        lines.write(b"first\n", move || Gate { written, go: gate }, || false);
        assert_eq!(writes.recv().unwrap(), "first\n");
        (lines, writes, go)
    }

    fn add(lines: &StderrWriter, line: &str) {
        lines.write(
            line.as_bytes(),
            || -> Gate { panic!("a second thread") },
            || panic!("the thread has lines"),
        );
    }

    #[test]
    fn lines_beyond_the_room_are_dropped_and_counted_and_the_rest_keeps_its_order() {
        let (lines, writes, go) = stuck();
        let kilobyte = "x".repeat(1023) + "\n";
        for _ in 0..ROOM / 1024 + 7 {
            add(&lines, &kilobyte);
        }
        assert_eq!(lines.0.lock().dropped, 7);
        // The end of the writes; the thread is in the first of them.
        for _ in 0..=ROOM / PIECE {
            go.send(()).unwrap();
        }
        for _ in 0..ROOM / PIECE {
            assert_eq!(writes.recv().unwrap(), kilobyte.repeat(PIECE / 1024));
        }
        add(&lines, "last\n");
        let notice = "warning: 7 lines were dropped here, because stderr was not read\nlast\n";
        assert_eq!(writes.recv().unwrap(), notice);
        go.send(()).unwrap();
        lines.finish(Duration::from_secs(20));
        assert!(lines.0.lock().is_written());
    }

    #[test]
    fn the_end_waits_for_a_slow_reader_and_gives_up_an_absent_one() {
        let (lines, writes, go) = stuck();
        add(&lines, "second\n");
        lines.finish(Duration::from_millis(1));
        assert!(!lines.0.lock().is_written(), "nothing was read");
        thread::scope(|scope| {
            scope.spawn(|| lines.finish(Duration::from_secs(20)));
            go.send(()).unwrap();
            assert_eq!(writes.recv().unwrap(), "second\n");
            go.send(()).unwrap();
        });
        assert!(lines.0.lock().is_written());
        drop(go);
        add(&lines, "third\n");
        lines.finish(Duration::from_secs(20));
        assert_eq!(lines.0.lock().thread, Thread::Failed, "the reader is gone");
    }

    #[test]
    fn few_lines_need_no_thread_if_the_reader_keeps_up() {
        let lines = StderrWriter::new(2);
        let (sender, receiver) = mpsc::channel();
        let open = move || {
            let (written, go) = (sender.clone(), mpsc::channel());
            go.0.send(()).unwrap();
            Gate { written, go: go.1 }
        };
        for line in ["1\n", "2\n"] {
            lines.write(line.as_bytes(), open.clone(), || true);
            assert_eq!((receiver.try_recv().as_deref(), lines.0.lock().thread), (Ok(line), Thread::None));
        }
        lines.write(b"3\n", open, || true);
        assert_eq!(receiver.recv().unwrap(), "3\n");
        assert_ne!(lines.0.lock().thread, Thread::None);
    }

    #[test]
    fn pieces_end_with_a_line_if_one_fits() {
        assert_eq!(piece(b"1\n22\n3"), 5);
        assert_eq!(piece(&[b'x'; PIECE + 1]), PIECE);
        let long = [&[b'x'; PIECE - 1][..], b"\nmore\n"].concat();
        assert_eq!(piece(&long), PIECE);
    }
}
