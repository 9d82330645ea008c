//! The only sockets of the program: the client, the server and the proxy, each around an MQTT session.

pub mod client;
mod listener;
mod pem;
pub mod proxy;
pub mod server;
mod socket_writer;
