//! The one test binary.

mod generated;
mod protocol_docs;
