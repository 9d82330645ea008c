//! tuyagw: the gateway end of Tuya IoT Edge Gateway's MQTT protocol, and an emulator of its other end.

pub mod cli;
pub mod commands;
pub mod edge;
pub mod failure;
pub mod files;
pub mod gateway;
pub mod hash;
pub mod inspect;
pub mod json;
pub mod mqtt;
pub mod product;
pub mod protocol;
pub mod rate;
pub mod record;
pub mod registry_file;
pub mod sink;
pub mod wrapping;
