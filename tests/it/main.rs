//! The one test binary.

mod client;
mod convert;
mod corpus;
mod edge;
mod fake_broker;
mod generated;
mod inspect;
mod model;
mod mosquitto;
mod process;
mod protocol_docs;
mod recipes;
mod regression;
mod replay;
mod tap;
mod tidy;
mod transcripts;
