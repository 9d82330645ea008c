//! What a reader of recordings passes on, whatever the format.

use std::ops::ControlFlow;

use super::record::{ConnectionRecord, Record};

/// One entry of a recording.
#[derive(Debug)]
pub enum RecordingEntry<'a> {
    /// A message.
    Message(Record<'a>),
    /// A client that connected or disconnected, as a capture shows it.
    Connection(ConnectionRecord<'a>),
    /// A line of our own recordings, without its newline, that holds no message but tells of the traffic: a client that
    /// connected or disconnected, or records that were left out.
    EventLine(&'a [u8]),
    /// Something that cannot be read, or is not as it travelled.
    Issue(Issue),
    /// Reading on would block.
    Idle,
}

/// Something that is wrong with a recording.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Issue {
    /// What it means for the traffic.
    pub kind: IssueKind,
    /// What is wrong, as the rest of a sentence that begins with the place.
    pub message: String,
}

/// What an issue means for the traffic.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum IssueKind {
    /// A part of the recording cannot be read, and is passed over.
    Unreadable,
    /// The recording begins or ends in the middle of a record: a crash or `tail -c` cut it.
    Torn,
    /// The recording tool dropped or altered a message.
    Lossy,
    /// The recording holds nothing.
    Empty,
}

impl IssueKind {
    pub(super) fn entry(self, message: impl Into<String>) -> RecordingEntry<'static> {
        RecordingEntry::Issue(Issue { kind: self, message: message.into() })
    }
}

/// How a message says that the last line or row was cut off.
pub(super) const CUT_OFF: &str = "ends in the middle, as a crash leaves it";

/// Handles an entry, given the number of its line or packet, from 1, or 0 for the whole recording; breaks to end the
/// reading.
pub type EntryVisitor<'v> = dyn FnMut(u64, RecordingEntry<'_>) -> ControlFlow<()> + 'v;
