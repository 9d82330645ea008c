//! The TLS options, with environment and profile.

use std::path::PathBuf;

use super::origin::Origin;
use crate::{
    cli::config::Profile,
    error::Failure,
    net::client::{BrokerAddress, Tls},
};

/// How a broker's certificate is verified.
#[derive(Clone, Debug, clap::Args)]
#[command(next_help_heading = "Connection")]
pub struct TlsArgs {
    /// Trust the certificate authorities in this PEM file [default: the system's roots]
    #[arg(long, env = "TUYAGW_CA_FILE", value_name = "PEM")]
    ca_file: Option<PathBuf>,

    /// Name that the broker's certificate must have [default: the host of the URL]
    #[arg(long, hide_short_help = true, env = "TUYAGW_TLS_SERVER_NAME", value_name = "NAME")]
    tls_server_name: Option<String>,

    /// Do not verify the broker's certificate; reaches RSA-1024 boxes, too
    #[arg(long, hide_short_help = true)]
    tls_insecure: bool,
}

impl TlsArgs {
    /// Returns the TLS settings of a broker, if its URL asks for TLS.
    ///
    /// # Errors
    /// A CA file that cannot be used, or a server name that is not valid. Also any TLS option without TLS in the URL: a user who
    /// gives one expects encryption.
    pub fn tls(
        &self,
        profile: &Profile,
        address: &BrokerAddress,
        is_asked: bool,
    ) -> Result<Option<Tls>, Failure> {
        if is_asked {
            let ca_file = self.ca_file.as_deref().or(profile.ca_file.as_deref());
            let server_name = self.tls_server_name.as_ref().or(profile.tls_server_name.as_ref());
            let insecure = self.tls_insecure || profile.tls_insecure.unwrap_or(false);
            return Tls::new(server_name.unwrap_or(&address.host), ca_file, insecure).map(Some);
        }
        match self.origin(profile) {
            None => Ok(None),
            Some(origin) => Err(Failure::invalid(format!(
                "{origin} is for TLS, and the connection to mqtt://{address} has none"
            ))
            .hint(format!("Write mqtts://{address} in --broker, or {}", origin.removal()))),
        }
    }

    /// Returns where the first TLS option was given; `None` if there is none.
    fn origin(&self, profile: &Profile) -> Option<Origin> {
        let given = [
            self.ca_file.as_ref().map(|file| Origin::of("--ca-file", "TUYAGW_CA_FILE", file.as_os_str())),
            self.tls_server_name
                .as_ref()
                .map(|name| Origin::of("--tls-server-name", "TUYAGW_TLS_SERVER_NAME", name.as_ref())),
            self.tls_insecure.then_some(Origin::Flag("--tls-insecure")),
        ];
        let in_profile = [
            ("--ca-file", profile.ca_file.is_some()),
            ("--tls-server-name", profile.tls_server_name.is_some()),
            ("--tls-insecure", profile.tls_insecure == Some(true)),
        ]
        .map(|(option, is_given)| is_given.then(|| Origin::Profile(option, profile.file())));
        given.into_iter().chain(in_profile).flatten().next()
    }
}
