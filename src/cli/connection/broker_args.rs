//! The options that say where the broker is and how it is reached: every subcommand that connects has them.

use std::time::Duration;

use super::tls_args::TlsArgs;
use crate::{
    cli::{
        config::Profile,
        profile_args::ProfileArgs,
        values::{MAX_PACKET, duration, parse_url},
    },
    error::Failure,
    mqtt::codec::Connect,
    net::client::{BrokerAddress, ClientSettings, Tls},
};

/// Where the broker is.
#[derive(Clone, Debug, clap::Args)]
#[command(next_help_heading = "Connection")]
pub struct BrokerArgs {
    /// The broker: mqtt://HOST[:21883], mqtts://HOST[:21883], or a bare HOST[:PORT]
    #[allow(rustdoc::broken_intra_doc_links, reason = "the help shows it as it stands")]
    #[arg(short, long, env = "TUYAGW_BROKER", value_name = "URL")]
    broker: Option<String>,

    #[command(flatten)]
    tls: TlsArgs,

    /// Time for name, TCP, TLS and CONNACK together [default: 5s]
    #[arg(long, value_name = "D", value_parser = duration, hide_short_help = true)]
    connect_timeout: Option<Duration>,

    /// Largest MQTT packet to accept or send, in bytes [default: 1048576]
    #[arg(long, value_name = "BYTES", value_parser = clap::value_parser!(u32).range(MAX_PACKET), hide_short_help = true)]
    max_packet: Option<u32>,

    #[command(flatten)]
    pub profile: ProfileArgs,
}

impl BrokerArgs {
    /// Returns how the broker is reached, for one connection without a login.
    ///
    /// # Errors
    /// No broker, a URL that is not valid, or TLS options that do not fit the URL.
    pub fn settings(&self, profile: &Profile) -> Result<ClientSettings, Failure> {
        let (address, is_tls) = self.address(profile)?;
        let tls = self.tls.tls(profile, &address, is_tls)?;
        Ok(self.settings_of(profile, address, tls))
    }

    /// Returns the broker's address, and whether it speaks TLS.
    ///
    /// # Errors
    /// No broker, or a URL that is not valid.
    pub fn address(&self, profile: &Profile) -> Result<(BrokerAddress, bool), Failure> {
        let url = self.broker.as_ref().or(profile.broker.as_ref()).ok_or_else(|| {
            Failure::invalid("no broker is given")
                .hint("Use --broker URL, TUYAGW_BROKER or a profile; `tuyagw edge` starts one")
        })?;
        parse_url(url)
    }

    /// Returns how a broker is reached by this address, for one connection without a login.
    #[must_use]
    pub fn settings_of(&self, profile: &Profile, address: BrokerAddress, tls: Option<Tls>) -> ClientSettings {
        ClientSettings {
            tls,
            address,
            local_socket: None,
            connect: Connect::default(),
            connect_timeout: self
                .connect_timeout
                .or(profile.connect_timeout)
                .unwrap_or(Duration::from_secs(5)),
            timeout: Duration::ZERO,
            max_packet: self.max_packet.or(profile.max_packet).unwrap_or(1 << 20) as usize,
            in_flight: 0,
            reconnect: false,
            gives_up: true,
            is_patient: false,
            early: false,
        }
    }
}
