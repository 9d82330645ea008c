//! The one test binary.

mod generated;
mod model;
mod protocol_docs;
mod tidy;
mod transcripts;
