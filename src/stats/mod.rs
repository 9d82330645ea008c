//! The figures of a recording: counts, round trips, refusals, gaps, and the values of data points over time; as JSON, text and
//! an HTML page. `inspect` prints them, `tap` the summary.
//!
//! Pure: records in, figures out.
#![deny(clippy::disallowed_methods, clippy::disallowed_types)]

mod correlator;
mod counters;
mod direction;
mod inspection;
mod page;
mod series;
mod summary;
mod table;
#[cfg(test)]
mod tests;
mod timeline;

pub use self::{
    inspection::Inspection,
    page::page,
    summary::{
        CodeDevice, CodeSummary, ConnectionSummary, DeviceSummary, DuplicateSummary, GatewaySummary,
        KindSummary, OmittedSummary, RecordingGap, RecordingSummary, RoundTripSummary, UnansweredRequest,
    },
    table::table,
};
