//! The spool's files, and the thread that writes, syncs and reads them.

use std::path::Path;

use crate::{
    error::Failure,
    spool::{EntryId, SpoolEntry, SpooledEntry},
};

/// How large a spool may be.
#[derive(Clone, Copy, Debug)]
pub struct SpoolOptions {
    /// The most bytes that its files may have together.
    pub max_bytes: u64,
}

/// Why an entry was not taken.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum AppendError {
    /// The spool has as many bytes as it may; there is room again once its first segment is finished.
    Full {
        /// The limit, in bytes.
        max_bytes: u64,
    },
    /// The entry is longer than any that can be stored.
    TooLong {
        /// The entry's length as stored, in bytes.
        bytes: usize,
        /// The limit, in bytes.
        max_bytes: usize,
    },
    /// The disk did not take it: the disk is full, or failed.
    Disk(Failure),
}

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

/// The messages that wait on disk for the edge.
///
/// Appending and reading never wait for the disk: a thread does. [`Spool::changed`] tells when it is worth asking
/// [`Spool::poll_commit`], [`Spool::poll_next`] and [`Spool::poll_warning`] again.
#[derive(Debug)]
pub struct Spool {}

impl Spool {
    /// Opens the spool in a folder, which is created (mode 0700) if it is missing, and locks it. Gives warnings about what was
    /// repaired, each with file and offset.
    ///
    /// # Errors
    /// A folder that cannot be written to or that another program uses as a spool; files of a newer format.
    pub fn open(folder: &Path, options: SpoolOptions) -> Result<(Self, Vec<String>), Failure> {
        let _ = (folder, options);
        todo!()
    }

    /// Appends an entry. It is stored once [`Spool::poll_commit`] says so, and not before.
    ///
    /// # Errors
    /// An entry that is too long, and any entry while the spool is full; the spool is as it was.
    pub fn append(&mut self, entry: SpoolEntry) -> Result<EntryId, AppendError> {
        let _ = entry;
        todo!()
    }

    /// Says what became of entries that were appended, in the order of their numbers and without a gap.
    pub fn poll_commit(&mut self) -> Option<Commit> {
        todo!()
    }

    /// Gives the next stored entry to be sent: the first one none of whose devices has an earlier unfinished entry. It is given
    /// again only after [`Spool::give_back`] or a restart.
    pub fn poll_next(&mut self) -> Option<SpooledEntry> {
        todo!()
    }

    /// Ends an entry that was given: it was accepted or refused by the edge, and is not given again.
    pub fn finish(&mut self, id: EntryId) {
        let _ = id;
        todo!()
    }

    /// Takes an entry back that was given and could not be sent; [`Spool::poll_next`] gives it again.
    pub fn give_back(&mut self, id: EntryId) {
        let _ = id;
        todo!()
    }

    /// Whether a device has unfinished entries, those not yet stored included. It may say yes for a device without any for some
    /// time after a restart, or if the file that knows is damaged; it never says no for a device with one.
    #[must_use]
    pub fn holds(&self, device: &str) -> bool {
        let _ = device;
        todo!()
    }

    /// Gives a warning about damage that was found while reading.
    pub fn poll_warning(&mut self) -> Option<String> {
        todo!()
    }

    /// Waits until the thread has stored or refused entries, read entries, or has a warning. Safe to drop at any point.
    pub async fn changed(&self) {
        std::future::pending::<()>().await;
    }

    /// The number of unfinished entries, those not yet stored included.
    #[must_use]
    pub fn len(&self) -> u64 {
        todo!()
    }

    /// Whether there is no unfinished entry.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// The bytes of the spool's files, and of the entries that are not yet stored.
    #[must_use]
    pub fn bytes(&self) -> u64 {
        todo!()
    }

    /// The bytes of the entries that are not yet stored: a measure for slowing down the clients that give them.
    #[must_use]
    pub fn backlog(&self) -> usize {
        todo!()
    }

    /// The time at which the oldest unfinished entry was given, in microseconds since 1970; `None` while there is none, or until
    /// the thread has read it.
    #[must_use]
    pub fn oldest(&self) -> Option<i64> {
        todo!()
    }

    /// Stores what was appended, notes what is finished, and gives the lock back.
    ///
    /// # Errors
    /// A disk that did not take it; [`Spool::poll_commit`] would have named the entries.
    pub async fn close(self) -> Result<(), Failure> {
        std::future::ready(()).await;
        todo!()
    }
}
