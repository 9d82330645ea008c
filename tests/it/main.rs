//! The one test binary.
#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

mod architecture;
mod brokers;
mod bulk;
mod chaos;
mod client;
mod clock;
mod codec_oracle;
mod command;
mod convert;
mod corpus;
mod edge;
mod fake_broker;
mod files;
mod fuzz_corpora;
mod generated;
mod imports;
mod inspect;
mod listen;
mod model;
mod namespaces;
mod peers;
mod process;
mod protocol_docs;
mod recipes;
mod regression;
mod replay;
mod rooms;
mod service;
mod site;
mod tap;
mod tidy;
mod transcripts;
mod wire;
