//! tuyagw: the gateway end of Tuya IoT Edge Gateway's MQTT protocol, and an emulator of its other end.
//!
//! The library exists for the binary, the tests, the benchmarks and the fuzz targets. It is not a stable API.

pub mod agent;
pub mod cli;
pub mod collections;
pub mod duration;
pub mod edge;
pub mod error;
pub mod gateway;
pub mod io;
pub mod json;
pub mod mqtt;
pub mod net;
pub mod rate;
pub mod recording;
pub mod request;
pub mod run;
pub mod spool;
pub mod stats;
pub mod text;
pub mod tuya;
pub mod wrapping;
