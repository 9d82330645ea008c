//! The spool: messages that wait on disk for the edge. What is here is the form of its files and the order in which entries
//! are given; `io::spool` has the files.
#![deny(clippy::disallowed_methods, clippy::disallowed_types)]

use bytes::Bytes;
use smol_str::SmolStr;

/// The number of an entry: each entry has a greater one than all entries that were appended before it, restarts included.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct EntryId(pub(crate) u64);

/// What kind of message an entry is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum SpoolKind {
    /// A report, which the edge answers.
    Report,
    /// A status, which the broker only acknowledges.
    Status,
}

/// A message that is given to the spool.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SpoolEntry {
    /// What kind of message it is.
    pub kind: SpoolKind,
    /// The topic to publish to.
    pub topic: SmolStr,
    /// The bytes to publish.
    pub payload: Bytes,
    /// The cids of the devices that the message is about: one for a report, any number for a status. The order of entries is
    /// kept for each of them; an entry without devices is bound to no order.
    pub devices: Vec<SmolStr>,
    /// The message's `request_id`; empty if it has none.
    pub request_id: SmolStr,
    /// The time at which the message was given, in microseconds since 1970.
    pub given: i64,
}

/// An entry that the spool gives to be sent.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SpooledEntry {
    /// Its number, for [`finish`](crate::io::spool::Spool::finish).
    pub id: EntryId,
    /// The entry, with the bytes of its appending.
    pub entry: SpoolEntry,
}
