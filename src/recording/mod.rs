//! Recordings: one line of JSON for each message of the traffic, as `listen`, `tap` and `edge` write it, and readers of every
//! other format that `replay`, `inspect` and `convert` take.
//!
//! Pure: bytes in, bytes out; the wall clock and the monotonic clock of a record are fields that the caller fills.
#![deny(clippy::disallowed_methods, clippy::disallowed_types)]

mod capture;
mod decimal;
mod entry;
mod format;
mod jsonl;
mod payload_base64;
mod record;
mod recorder_csv;
mod rewrite;
mod schedule;
mod time;
mod timeline;

pub use self::{
    capture::CaptureReader,
    entry::{EntryVisitor, Issue, IssueKind, RecordingEntry},
    format::{FormatDetector, RecordingFormat},
    jsonl::JsonLinesReader,
    payload_base64::base64,
    record::{ConnectionRecord, LEFT_OUT, Record, RecordError, RecordPrefix, VERSION},
    recorder_csv::RecorderCsvReader,
    rewrite::{FreshValues, RewritableFields},
    schedule::{ReplaySchedule, ReplaySpeed},
    time::rfc3339,
    timeline::{RecordedTime, Timeline},
};
