//! The thread of a writer.

use tokio::sync::watch;

use super::{
    progress::{WriterState, Written},
    queue::BatchQueue,
    target::WriteTarget,
};

/// A larger buffer is freed once its bytes are written.
const MAX_KEPT_BUFFER: usize = 256 * 1024;

/// Runs the writer thread: writes what is queued until the queue is closed, or a write fails.
pub(super) fn run_writer(
    mut target: WriteTarget,
    queue: &BatchQueue,
    state: &watch::Sender<WriterState>,
    written: &Written,
) {
    if let Err(why) = target.prepare() {
        return state.send_modify(|state| state.failed = Some(why));
    }
    let mut bytes = Vec::new();
    while queue.take(&mut bytes) {
        let outcome = target.write(&bytes, written);
        let has_failed = outcome.is_err();
        state.send_modify(|state| match outcome {
            Ok(()) => state.committed.0 += bytes.len() as u64,
            Err(why) => state.failed = Some(why),
        });
        if has_failed {
            return;
        }
        bytes.clear();
        shrink(&mut bytes);
    }
}

/// Frees an empty buffer that grew during a stall.
pub(super) fn shrink(empty: &mut Vec<u8>) {
    if empty.capacity() > MAX_KEPT_BUFFER {
        *empty = Vec::new();
    }
}
