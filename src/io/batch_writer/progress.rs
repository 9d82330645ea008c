//! How far a writer has come, and why it has stopped.

use std::{
    fmt,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
};

use tokio::sync::watch;

use crate::error::Failure;

/// A position in the stream of bytes: the end of one write.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Offset(pub(super) u64);

impl Offset {
    /// Greater than every other one.
    pub const LAST: Self = Self(u64::MAX);
}

/// Why a writer has stopped.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum WriterError {
    /// The reader of stdout closed it.
    ReaderGone,
    /// A write failed; the failure names the file.
    Failed(Failure),
}

impl fmt::Display for WriterError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::ReaderGone => f.write_str("the reader of stdout went away"),
            Self::Failed(failure) => failure.fmt(f),
        }
    }
}

impl std::error::Error for WriterError {}

/// Watches the commits of a [`BatchWriter`](super::BatchWriter) without owning it.
#[derive(Clone, Debug)]
pub struct CommitWatch(pub(super) watch::Receiver<WriterState>);

impl CommitWatch {
    /// Waits until the committed offset has advanced since the last call, and returns it. Cancel-safe.
    ///
    /// # Errors
    /// The failure that stopped the writer; [`WriterError::ReaderGone`] if the writer itself was dropped.
    pub async fn changed(&mut self) -> Result<Offset, WriterError> {
        let ended = self.0.changed().await.is_err();
        let state = self.0.borrow_and_update();
        match &state.failed {
            Some(failed) => Err(failed.clone()),
            None if ended => Err(WriterError::ReaderGone),
            None => Ok(state.committed),
        }
    }
}

/// The offset up to which bytes have been written, committed or not.
#[derive(Clone, Debug, Default)]
pub struct Written(Arc<AtomicU64>);

impl Written {
    /// Everything before this offset has been written.
    #[must_use]
    pub fn offset(&self) -> Offset {
        Offset(self.0.load(Ordering::Relaxed))
    }

    pub(super) fn advance(&self, bytes: usize) {
        self.0.fetch_add(bytes as u64, Ordering::Relaxed);
    }
}

/// The state of the writer thread, which ends at the first failure.
#[derive(Debug, Default)]
pub(super) struct WriterState {
    pub committed: Offset,
    pub failed: Option<WriterError>,
}

/// The failure for a thread that ended without one.
pub(super) fn ended_early() -> WriterError {
    WriterError::Failed(Failure::io("the thread that writes ended too early"))
}
