//! What becomes of the entries that are appended.

use std::fmt;

use crate::{error::Failure, spool::EntryId};

/// Why an entry was not taken.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum AppendError {
    /// The spool has as many bytes as it may; there is room again once the entries of its first segment are finished.
    Full {
        /// The limit, in bytes.
        max_bytes: u64,
    },
    /// The entry is longer than any that can be stored.
    TooLong {
        /// The entry's length, in bytes.
        bytes: usize,
        /// The limit, in bytes.
        max_bytes: usize,
    },
    /// The disk did not take it, because it is full or failed.
    Disk(Failure),
}

impl fmt::Display for AppendError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Full { max_bytes } => write!(f, "the spool is full: it may have {max_bytes} bytes"),
            Self::TooLong { bytes, max_bytes } => {
                write!(f, "expected a message of at most {max_bytes} bytes for the spool; got {bytes}")
            }
            Self::Disk(failure) => failure.fmt(f),
        }
    }
}

impl std::error::Error for AppendError {}

/// What became of the entries of one or several appends.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Commit {
    /// The first entry that this is about.
    pub first: EntryId,
    /// The last entry that this is about.
    pub last: EntryId,
    /// `Ok` once they are written and synced. After an error none of them is stored.
    pub outcome: Result<(), AppendError>,
}

impl Commit {
    /// The number of entries that this is about.
    #[must_use]
    pub fn count(&self) -> u64 {
        self.last.0 - self.first.0 + 1
    }
}
