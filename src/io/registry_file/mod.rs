//! Writes the edge's registry to a file of lines that belongs to one edge, on a thread of its own.
//!
//! All lines that are queued while the thread writes go out in its next write, followed by one sync. A position is done only
//! once its line is on the disk in the file that has the name: another program may replace, remove, cut or edit that file
//! while this one holds the former file open. Then the thread waits for the whole registry, and puts it under the name
//! atomically.

mod locked_file;
#[cfg(test)]
mod tests;

use std::{
    fs, mem,
    path::Path,
    sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError},
    thread,
    time::Duration,
};

use tokio::sync::watch;

use self::locked_file::{LockedFile, WriteFailure};
use crate::{edge::Registry, error::Failure};

/// A shorter file is not rewritten to save space.
const MIN_COMPACTED: usize = 4096;

/// A position in the stream of lines.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub struct Position(u64);

/// The registry's file.
#[derive(Debug)]
pub struct RegistryFile {
    batch: Vec<u8>,
    /// The end of the batch.
    end: Position,
    /// The end of the lines that were handed to the thread.
    handed: Position,
    shared: Arc<SharedLineQueue>,
    state: watch::Receiver<WriteState>,
}

/// What has become of the lines.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum RegistryFileEvent {
    /// Everything up to here is safe.
    Done(Position),
    /// The file is not the one that was written, for this reason; the thread waits for [`RegistryFile::rewrite`].
    Lost(String),
}

/// The thread's events.
#[derive(Clone, Debug)]
pub struct RegistryFileEvents(watch::Receiver<WriteState>);

impl RegistryFileEvents {
    /// Waits for the next event. Cancel-safe.
    ///
    /// # Errors
    /// The failure that stopped the thread.
    pub async fn next(&mut self) -> Result<RegistryFileEvent, Failure> {
        let ended = self.0.changed().await.is_err();
        let state = self.0.borrow_and_update();
        match (&state.failed, &state.lost) {
            (Some(failed), _) => Err(failed.clone()),
            (None, Some(why)) => Ok(RegistryFileEvent::Lost(why.clone())),
            (None, None) if ended => Err(Failure::io("the thread that writes the registry ended too early")),
            (None, None) => Ok(RegistryFileEvent::Done(state.done)),
        }
    }
}

#[derive(Debug, Default)]
struct WriteState {
    done: Position,
    lost: Option<String>,
    failed: Option<Failure>,
}

/// The queue between the file and its thread.
#[derive(Debug, Default)]
struct SharedLineQueue {
    queue: Mutex<LineQueue>,
    changed: Condvar,
}

#[derive(Debug, Default)]
struct LineQueue {
    bytes: Vec<u8>,
    /// The position at the end of `bytes`.
    end: Position,
    /// Whether `bytes` are the whole registry.
    is_whole: bool,
    is_closed: bool,
}

/// What a file held when it was opened.
#[derive(Debug)]
pub struct LoadedRegistry {
    /// Its devices.
    pub registry: Registry,
    /// Warnings to print.
    pub warnings: Vec<String>,
}

impl RegistryFile {
    /// Opens and reads a registry's file; creates it, for its owner only, if it is missing. Rewrites a file that is at least
    /// twice as long as its devices need.
    ///
    /// # Errors
    /// A file that cannot be used, that another program has locked, or that holds something else.
    pub fn open(path: &Path) -> Result<(Self, LoadedRegistry), Failure> {
        let (mut disk, repaired) = LockedFile::open(path)?;
        let content = fs::read(path).map_err(|why| disk.failure("read", &why))?;
        let (registry, bad) = Registry::read(&content, Duration::ZERO).map_err(|why| {
            Failure::invalid(format!("{}: {why}", path.display())).hint(
                "--devices takes the file that an edge has written, one JSON object with gateway_id, cid and product_id a line.",
            )
        })?;
        disk.remember(&content).map_err(|why| disk.failure("read", &why))?;
        let mut warnings: Vec<_> = repaired.into_iter().collect();
        for (line, why) in &bad {
            warnings.push(format!("{}:{line}: passed over: {why}", path.display()));
        }
        // Lines that are not devices may be of use to the user, and stay.
        if bad.is_empty() && content.len() >= MIN_COMPACTED {
            let lines = registry.lines();
            if lines.len() <= content.len() / 2
                && let Err(why) = disk.replace(&lines)
            {
                warnings.push(format!("{} could not be made shorter: {}", path.display(), why.message));
            }
        }
        let (sender, state) = watch::channel(WriteState::default());
        let shared = Arc::<SharedLineQueue>::default();
        let queue = Arc::clone(&shared);
        thread::Builder::new()
            .name("registry".into())
            .spawn(move || run_writer(disk, &queue, &sender))
            .map_err(|why| Failure::io(format!("cannot start a thread to write with: {why}")))?;
        let file =
            Self { batch: Vec::new(), end: Position::default(), handed: Position::default(), shared, state };
        Ok((file, LoadedRegistry { registry, warnings }))
    }

    /// Adds a line to the current batch; an empty one only has the file checked.
    pub fn write(&mut self, line: &[u8]) -> Position {
        self.batch.extend_from_slice(line);
        self.end.0 += 1;
        self.end
    }

    /// Hands the batch to the thread without waiting.
    pub fn flush(&mut self) {
        if self.handed == self.end {
            return;
        }
        let mut queue = self.shared.lock();
        queue.bytes.append(&mut self.batch);
        queue.end = self.end;
        self.handed = self.end;
        drop(queue);
        self.shared.changed.notify_one();
    }

    /// Hands over the whole registry, all lines so far included, to replace the file's content.
    pub fn rewrite(&mut self, lines: Vec<u8>) {
        self.batch.clear();
        let mut queue = self.shared.lock();
        queue.bytes = lines;
        queue.end = self.end;
        queue.is_whole = true;
        self.handed = self.end;
        drop(queue);
        self.shared.changed.notify_one();
    }

    /// Everything up to this position is on the disk.
    #[must_use]
    pub fn done(&self) -> Position {
        self.state.borrow().done
    }

    /// Returns the thread's events, which end with the file.
    #[must_use]
    pub fn watch(&self) -> RegistryFileEvents {
        RegistryFileEvents(self.state.clone())
    }
}

impl Drop for RegistryFile {
    /// Lets the thread end once it has written what was handed to it.
    fn drop(&mut self) {
        self.shared.lock().is_closed = true;
        self.shared.changed.notify_one();
    }
}

impl SharedLineQueue {
    fn lock(&self) -> MutexGuard<'_, LineQueue> {
        self.queue.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Waits for lines after a position, and takes them; `None` once the queue is closed and empty.
    fn take(&self, after: Position) -> Option<LineQueue> {
        let mut queue = self
            .changed
            .wait_while(self.lock(), |queue| queue.end == after && !queue.is_whole && !queue.is_closed)
            .unwrap_or_else(PoisonError::into_inner);
        if queue.end == after && !queue.is_whole {
            return None;
        }
        let rest = LineQueue { end: queue.end, is_closed: queue.is_closed, ..LineQueue::default() };
        Some(mem::replace(&mut *queue, rest))
    }
}

/// Runs the thread: writes what is queued until the queue is closed, or a write fails.
fn run_writer(mut disk: LockedFile, shared: &SharedLineQueue, state: &watch::Sender<WriteState>) {
    let mut taken = Position::default();
    let mut is_lost = false;
    while let Some(LineQueue { bytes, end, is_whole, .. }) = shared.take(taken) {
        taken = end;
        let outcome = if is_whole {
            disk.replace(&bytes).map_err(WriteFailure::Failed)
        } else if is_lost {
            // The whole registry, which the owner hands over next, holds these lines.
            continue;
        } else {
            disk.append(&bytes)
        };
        is_lost = matches!(outcome, Err(WriteFailure::Lost(_)));
        let has_failed = matches!(outcome, Err(WriteFailure::Failed(_)));
        state.send_modify(|state| match outcome {
            Ok(()) => (state.done, state.lost) = (end, None),
            Err(WriteFailure::Lost(why)) => state.lost = Some(why),
            Err(WriteFailure::Failed(why)) => state.failed = Some(why),
        });
        if has_failed {
            return;
        }
    }
}
