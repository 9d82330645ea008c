//! How to reach a broker, and who to be there.

use std::{path::PathBuf, time::Duration};

use super::{address::BrokerAddress, tls::Tls};
use crate::mqtt::codec::Connect;

/// How to reach a broker, who to be, and what to insist on.
#[derive(Clone, Debug)]
pub struct ClientSettings {
    /// Where the broker listens.
    pub address: BrokerAddress,
    /// The Unix socket that is dialled instead of the address, without TLS.
    pub local_socket: Option<PathBuf>,
    /// TLS, or plain TCP.
    pub tls: Option<Tls>,
    /// The CONNECT packet.
    pub connect: Connect,
    /// Time for name, TCP, TLS and CONNACK together.
    pub connect_timeout: Duration,
    /// Time for the SUBACK.
    pub timeout: Duration,
    /// The largest packet to accept, in bytes.
    pub max_packet: usize,
    /// How many publishes may wait for their acknowledgement at once.
    pub in_flight: u16,
    /// Whether a lost connection is opened again.
    pub reconnect: bool,
    /// Whether five connections in a row that are lost without progress are the end of it.
    pub gives_up: bool,
    /// Whether the first connection and the login are tried again and again, too, at long intervals.
    pub is_patient: bool,
    /// Whether SUBSCRIBE and PUBLISH may leave with CONNECT (MQTT 3.1.1, section 3.1.4).
    pub early: bool,
}
