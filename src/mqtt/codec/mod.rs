//! The codec of MQTT 3.1.1: bytes to packets and back.

mod connect;
mod error;
mod header;
mod message;
mod packet;
mod publish;
mod qos;
mod side;
#[cfg(test)]
mod tests;
mod version;

pub use self::{
    connect::{Connect, Password, Will},
    error::{Malformed, TooLarge},
    header::PacketType,
    message::{Message, Publish},
    packet::Packet,
    qos::{QoS, SubscribeCode},
    side::Side,
    version::ProtocolVersion,
};
