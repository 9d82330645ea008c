//! The one test binary.

mod edge;
mod generated;
mod model;
mod protocol_docs;
