//! The limits of the embedded edge, as options.

use std::time::Duration;

use super::values::duration;
use crate::net::server::ServerLimits;

/// What one client, and all of them, may take.
#[derive(Debug, clap::Args)]
#[command(next_help_heading = "ServerLimits")]
pub struct LimitArgs {
    /// Connections at once; more are closed
    #[arg(long, hide_short_help = true, value_name = "N", default_value_t = ServerLimits::default().max_connections)]
    max_connections: usize,

    /// Largest packet taken from a client, in bytes
    #[arg(long, hide_short_help = true, value_name = "BYTES", default_value_t = ServerLimits::default().max_packet)]
    max_packet: usize,

    /// Unacknowledged messages on their way to one client
    #[arg(long, hide_short_help = true, value_name = "N", default_value_t = ServerLimits::default().in_flight, value_parser = clap::value_parser!(u16).range(1..))]
    max_in_flight: u16,

    /// Bytes that may wait for one client; it is disconnected when more do, and gets no QoS 0 beyond 1 MiB
    #[arg(long, hide_short_help = true, value_name = "BYTES", default_value_t = ServerLimits::default().max_queue)]
    max_queue: usize,

    /// Bytes kept for all clients together: messages that wait, are unread or unacknowledged, subscriptions, names and
    /// wills; the clients with most are disconnected when there are more
    #[arg(long, hide_short_help = true, value_name = "BYTES", default_value_t = ServerLimits::default().max_queues)]
    max_queues: usize,

    /// Bytes of retained messages; there is no room for another when there are more
    #[arg(long, hide_short_help = true, value_name = "BYTES", default_value_t = ServerLimits::default().max_retained)]
    max_retained: usize,

    /// Subscriptions of one client; more are refused
    #[arg(long, hide_short_help = true, value_name = "N", default_value_t = ServerLimits::default().max_filters)]
    max_subscriptions: usize,

    /// How long the session of a client that wants one kept waits for its return
    #[arg(long, hide_short_help = true, value_name = "DURATION", value_parser = duration, default_value = "2h")]
    session_expiry: Duration,

    /// How long a client may take until its CONNECT has come, TLS handshake included
    #[arg(long, hide_short_help = true, value_name = "DURATION", value_parser = duration, default_value = "5s")]
    connect_timeout: Duration,
}

impl From<&LimitArgs> for ServerLimits {
    fn from(args: &LimitArgs) -> Self {
        Self {
            max_connections: args.max_connections,
            max_packet: args.max_packet,
            in_flight: args.max_in_flight,
            max_queue: args.max_queue,
            max_queues: args.max_queues,
            max_retained: args.max_retained,
            max_filters: args.max_subscriptions,
            session_expiry: args.session_expiry,
            connect_timeout: args.connect_timeout,
            ..Self::default()
        }
    }
}
