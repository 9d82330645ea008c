//! The one test binary.

mod client;
mod convert;
mod edge;
mod fake_broker;
mod generated;
mod inspect;
mod model;
mod mosquitto;
mod peers;
mod process;
mod protocol_docs;
mod replay;
mod tap;
mod tidy;
mod transcripts;
