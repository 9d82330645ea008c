//! The one test binary.

mod bulk;
mod client;
mod edge;
mod fake_broker;
mod generated;
mod listen;
mod model;
mod mosquitto;
mod process;
mod protocol_docs;
mod site;
mod tidy;
mod transcripts;
