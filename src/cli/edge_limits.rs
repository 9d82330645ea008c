//! The limits of the embedded edge, as options.

use std::time::Duration;

use super::values::duration;
use crate::net::server::ServerLimits;

/// What one client, and all of them, may take.
#[derive(Debug, clap::Args)]
#[command(next_help_heading = "ServerLimits")]
pub struct LimitArgs {
    /// Most connections; further ones are closed
    #[arg(long, hide_short_help = true, value_name = "N", default_value_t = ServerLimits::default().max_connections)]
    max_connections: usize,

    /// Largest packet that a client may send, in bytes
    #[arg(long, hide_short_help = true, value_name = "BYTES", default_value_t = ServerLimits::default().max_packet)]
    max_packet: usize,

    /// Most unacknowledged messages to one client
    #[arg(long, hide_short_help = true, value_name = "N", default_value_t = ServerLimits::default().in_flight, value_parser = clap::value_parser!(u16).range(1..))]
    max_in_flight: u16,

    /// Most bytes queued for one client, which is disconnected beyond; QoS 0 is dropped beyond 1 MiB
    #[arg(long, hide_short_help = true, value_name = "BYTES", default_value_t = ServerLimits::default().max_queue)]
    max_queue: usize,

    /// Most bytes kept for all clients together: queued, unread and unacknowledged messages, subscriptions, names and wills;
    /// beyond, the clients with most are disconnected
    #[arg(long, hide_short_help = true, value_name = "BYTES", default_value_t = ServerLimits::default().max_queues)]
    max_queues: usize,

    /// Most bytes of retained messages; beyond, no further one is kept
    #[arg(long, hide_short_help = true, value_name = "BYTES", default_value_t = ServerLimits::default().max_retained)]
    max_retained: usize,

    /// Most subscriptions of one client; further ones are refused
    #[arg(long, hide_short_help = true, value_name = "N", default_value_t = ServerLimits::default().max_filters)]
    max_subscriptions: usize,

    /// How long to keep the persistent session of a disconnected client
    #[arg(long, hide_short_help = true, value_name = "DURATION", value_parser = duration, default_value = "2h")]
    session_expiry: Duration,

    /// Time for a client to send CONNECT, TLS handshake included
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
