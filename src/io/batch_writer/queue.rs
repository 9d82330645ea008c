//! The queue between a writer and its thread.

use std::{
    mem,
    sync::{Condvar, Mutex, MutexGuard, PoisonError},
};

/// The bytes between a writer and its thread.
#[derive(Debug, Default)]
pub(super) struct BatchQueue {
    queued: Mutex<QueuedBytes>,
    changed: Condvar,
}

#[derive(Debug, Default)]
struct QueuedBytes {
    bytes: Vec<u8>,
    is_closed: bool,
}

impl BatchQueue {
    /// Moves a batch to the end of the queue, and leaves it empty.
    pub fn push(&self, batch: &mut Vec<u8>) {
        let mut queued = self.lock();
        let is_first = queued.bytes.is_empty();
        if is_first {
            mem::swap(&mut queued.bytes, batch);
        } else {
            queued.bytes.extend_from_slice(batch);
            batch.clear();
        }
        drop(queued);
        if is_first {
            // Otherwise the thread is awake, or was woken by the first batch.
            self.changed.notify_one();
        }
    }

    fn lock(&self) -> MutexGuard<'_, QueuedBytes> {
        self.queued.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Lets the thread end once it has written everything.
    pub fn close(&self) {
        self.lock().is_closed = true;
        self.changed.notify_one();
    }

    /// Waits for bytes, and swaps them into `bytes`, which is empty. Returns false once the queue is closed and empty.
    pub fn take(&self, bytes: &mut Vec<u8>) -> bool {
        let mut queued = self
            .changed
            .wait_while(self.lock(), |queued| queued.bytes.is_empty() && !queued.is_closed)
            .unwrap_or_else(PoisonError::into_inner);
        mem::swap(&mut queued.bytes, bytes);
        !bytes.is_empty()
    }
}
