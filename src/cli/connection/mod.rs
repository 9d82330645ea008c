//! The connection options that every connecting subcommand shares: flag, then environment, then profile, then
//! default.

mod origin;
mod tls_args;
mod url;

pub use crate::duration::parse as duration;
pub use origin::Origin;
pub use tls_args::TlsArgs;
pub use url::parse_url;

use std::{path::PathBuf, time::Duration};

use self::origin::pick;
use super::config::Profile;
use crate::{
    error::Failure,
    mqtt::codec::{Connect, Password, QoS},
    net::client::ClientSettings,
    run::connection_settings::{ConnectionSettings, Fleet, Login},
    tuya::{GatewayId, Secret, Topics},
    wrapping::refuse_wrapped,
};

/// The sizes of a packet that may be asked for, up to MQTT's own limit.
pub const MAX_PACKET: std::ops::RangeInclusive<i64> = 1024..=268_435_455;

/// Where the broker is and how to talk to it.
#[derive(Clone, Debug, clap::Args)]
#[command(next_help_heading = "Connection")]
pub struct NetworkArgs {
    /// The broker: mqtt://HOST[:21883], mqtts://HOST[:21883], or a bare HOST[:PORT]
    #[allow(rustdoc::broken_intra_doc_links, reason = "the help shows it as it stands")]
    #[arg(short, long, env = "TUYAGW_BROKER", value_name = "URL")]
    broker: Option<String>,

    #[command(flatten)]
    tls: TlsArgs,

    /// MQTT quality of service of what is published and subscribed [default: 1]
    #[arg(long, value_name = "0|1|2", value_parser = clap::value_parser!(u8).range(0..=2))]
    qos: Option<u8>,

    /// Keep-alive interval, whole seconds from 0s to 65535s [default: 60s]
    #[arg(long, value_name = "D", value_parser = keep_alive)]
    keep_alive: Option<Duration>,

    /// Time for name, TCP, TLS and CONNACK together [default: 5s]
    #[arg(long, value_name = "D", value_parser = duration)]
    connect_timeout: Option<Duration>,

    /// Time for each answer, not for the run [default: 10s]
    #[arg(long, env = "TUYAGW_TIMEOUT", value_name = "D", value_parser = duration)]
    timeout: Option<Duration>,

    /// Largest MQTT packet to accept or send, in bytes [default: 1048576]
    #[arg(long, value_name = "BYTES", value_parser = clap::value_parser!(u32).range(MAX_PACKET))]
    max_packet: Option<u32>,

    /// Keep the session at the broker (clean session off), so that what was queued while away arrives
    #[arg(long)]
    persistent: bool,

    /// Send CONNECT, SUBSCRIBE and PUBLISH in one flight, without waiting for CONNACK
    #[arg(long)]
    early: bool,

    /// The profile of the configuration file to use [default: the file's default-profile]
    #[arg(long, env = "TUYAGW_PROFILE", value_name = "NAME")]
    profile: Option<String>,

    /// The configuration file [default: $XDG_CONFIG_HOME/tuyagw/config.toml]
    #[arg(long, env = "TUYAGW_CONFIG", value_name = "FILE")]
    config: Option<PathBuf>,
}

/// Who the gateway is.
#[derive(Clone, Debug, clap::Args)]
#[command(next_help_heading = "Gateway")]
pub struct GatewayArgs {
    /// The gateway's id, which fills {gateway_id} in every topic
    #[arg(short, long, env = "TUYAGW_GATEWAY_ID", value_name = "ID")]
    pub gateway_id: Option<String>,

    /// The MQTT client id [default: the gateway id]
    #[arg(long, env = "TUYAGW_CLIENT_ID", value_name = "ID")]
    pub client_id: Option<String>,

    /// The username, which Tuya gives to each manufacturer
    #[arg(short, long, env = "TUYAGW_USERNAME", value_name = "NAME")]
    pub username: Option<String>,

    /// A file with the password [default: TUYAGW_PASSWORD, else derived as md5(client id + username)]
    #[arg(long, env = "TUYAGW_PASSWORD_FILE", value_name = "FILE")]
    pub password_file: Option<PathBuf>,
}

/// Who the platform user is; a gateway's login is not used, so that the gateway is never pushed off.
#[derive(Clone, Debug, clap::Args)]
#[command(next_help_heading = "Platform user")]
pub struct PlatformArgs {
    /// The platform user's name [default: platform]
    #[arg(long, env = "TUYAGW_PLATFORM_USERNAME", value_name = "NAME")]
    platform_username: Option<String>,

    /// A file with the platform user's password [default: TUYAGW_PLATFORM_PASSWORD, else derived]
    #[arg(long, value_name = "FILE")]
    platform_password_file: Option<PathBuf>,

    /// The MQTT client id [default: a random one]
    #[arg(long, value_name = "ID")]
    client_id: Option<String>,

    /// The gateway to command, where the input does not name one
    #[arg(short, long, env = "TUYAGW_GATEWAY_ID", value_name = "ID")]
    gateway_id: Option<String>,
}

impl NetworkArgs {
    /// The topics in force, for what needs no connection.
    ///
    /// # Errors
    /// A profile that cannot be read.
    pub fn topics(&self) -> Result<Topics, Failure> {
        Profile::load(self.config.as_deref(), self.profile.as_deref())?.topics()
    }

    /// The quality of service that was asked for.
    #[must_use]
    pub fn asked_qos(&self) -> Option<QoS> {
        self.qos.and_then(QoS::from_number)
    }

    /// How long an answer may take, for what needs no connection.
    ///
    /// # Errors
    /// A profile that cannot be read.
    pub fn timeout(&self) -> Result<Duration, Failure> {
        let profile = Profile::load(self.config.as_deref(), self.profile.as_deref())?;
        Ok(self.timeout.or(profile.timeout).unwrap_or(Duration::from_secs(10)))
    }
}

impl ConnectionSettings {
    /// A gateway's connection.
    pub fn gateway(network: &NetworkArgs, login: &GatewayArgs) -> Result<Self, Failure> {
        let profile = Profile::load(network.config.as_deref(), network.profile.as_deref())?;
        let gateway_id = gateway_id(login.gateway_id.as_ref(), &profile)?.ok_or_else(|| {
            Failure::invalid("no gateway id is given")
                .hint("Use --gateway-id ID, TUYAGW_GATEWAY_ID or a profile")
        })?;
        let client_id = login.client_id(&profile)?.unwrap_or_else(|| gateway_id.as_str().to_owned());
        let username = login.username(&profile)?;
        let password = password(&Sources {
            file: login.password_file.clone(),
            variable: "TUYAGW_PASSWORD",
            profile_file: profile.password_file.clone(),
            option: "--password-file",
        })?;
        let login = Login::new(&client_id, username, password)?;
        Self::resolve(network, &profile, client_id, login, Some(gateway_id))
    }

    /// The connections of gateways that are known later; the login's gateway id may be missing.
    pub fn fleet(network: &NetworkArgs, login: &GatewayArgs) -> Result<Fleet, Failure> {
        let profile = Profile::load(network.config.as_deref(), network.profile.as_deref())?;
        let gateway_id = gateway_id(login.gateway_id.as_ref(), &profile)?;
        let password = password(&Sources {
            file: login.password_file.clone(),
            variable: "TUYAGW_PASSWORD",
            profile_file: profile.password_file.clone(),
            option: "--password-file",
        })?;
        let nobody = Login { username: None, password: None };
        Ok(Fleet {
            one: Self::resolve(network, &profile, String::new(), nobody, gateway_id)?,
            client_id: login.client_id(&profile)?,
            username: login.username(&profile)?,
            password,
        })
    }

    /// A platform user's connection; `random_id` is the client id where the flag gives none.
    pub fn platform(
        network: &NetworkArgs,
        platform: &PlatformArgs,
        random_id: String,
    ) -> Result<Self, Failure> {
        let profile = Profile::load(network.config.as_deref(), network.profile.as_deref())?;
        let gateway_id = gateway_id(platform.gateway_id.as_ref(), &profile)?;
        let flag = platform.client_id.clone().map(|id| (id, Origin::Flag("--client-id")));
        let client_id = checked(flag)?.unwrap_or(random_id);
        let username = checked(pick(
            "--platform-username",
            "TUYAGW_PLATFORM_USERNAME",
            platform.platform_username.as_ref(),
            profile.platform_username.as_ref(),
            &profile,
        ))?
        .unwrap_or_else(|| "platform".to_owned());
        let password = password(&Sources {
            file: platform.platform_password_file.clone(),
            variable: "TUYAGW_PLATFORM_PASSWORD",
            profile_file: profile.platform_password_file.clone(),
            option: "--platform-password-file",
        })?;
        let login = Login::new(&client_id, Some(username), password)?;
        Self::resolve(network, &profile, client_id, login, gateway_id)
    }

    fn resolve(
        network: &NetworkArgs,
        profile: &Profile,
        client_id: String,
        login: Login,
        gateway_id: Option<GatewayId>,
    ) -> Result<Self, Failure> {
        let url = network.broker.as_ref().or(profile.broker.as_ref()).ok_or_else(|| {
            Failure::invalid("no broker is given")
                .hint("Use --broker URL, TUYAGW_BROKER or a profile; `tuyagw edge` is one")
        })?;
        let (address, tls) = parse_url(url)?;
        let tls = network.tls.tls(profile, &address, tls)?;
        let setting = |given: Option<Duration>, profile: Option<Duration>, default| {
            given.or(profile).unwrap_or(Duration::from_secs(default))
        };
        let keep_alive = setting(network.keep_alive, profile.keep_alive, 60);
        let qos = match network.qos.or(profile.qos).unwrap_or(1) {
            0 => QoS::AtMostOnce,
            1 => QoS::AtLeastOnce,
            2 => QoS::ExactlyOnce,
            other => return Err(Failure::invalid(format!("qos must be 0, 1 or 2, not {other}"))),
        };
        let persistent = network.persistent || profile.persistent.unwrap_or(false);
        let max_packet = network.max_packet.or(profile.max_packet).unwrap_or(1 << 20) as usize;
        Ok(Self {
            client: ClientSettings {
                address,
                tls,
                connect: Connect {
                    client_id,
                    clean_session: !persistent,
                    keep_alive: u16::try_from(keep_alive.as_secs()).unwrap_or(u16::MAX),
                    username: login.username,
                    password: login.password.map(|password| Password::new(password.expose().to_owned())),
                    ..Connect::default()
                },
                connect_timeout: setting(network.connect_timeout, profile.connect_timeout, 5),
                timeout: setting(network.timeout, profile.timeout, 10),
                max_packet,
                in_flight: 100,
                reconnect: true,
                gives_up: true,
                early: (network.early || profile.early.unwrap_or(false)) && !persistent,
            },
            gateway_id,
            topics: profile.topics()?,
            qos,
        })
    }
}

impl GatewayArgs {
    fn client_id(&self, profile: &Profile) -> Result<Option<String>, Failure> {
        let in_profile = profile.client_id.as_ref();
        checked(pick("--client-id", "TUYAGW_CLIENT_ID", self.client_id.as_ref(), in_profile, profile))
    }

    fn username(&self, profile: &Profile) -> Result<Option<String>, Failure> {
        let in_profile = profile.username.as_ref();
        checked(pick("--username", "TUYAGW_USERNAME", self.username.as_ref(), in_profile, profile))
    }
}

fn gateway_id(given: Option<&String>, profile: &Profile) -> Result<Option<GatewayId>, Failure> {
    let id = pick("--gateway-id", "TUYAGW_GATEWAY_ID", given, profile.gateway_id.as_ref(), profile);
    let Some((id, origin)) = id else { return Ok(None) };
    let gateway_id =
        GatewayId::new(id.clone()).map_err(|why| Failure::invalid(format!("{origin}: {why}")))?;
    checked(Some((id, origin)))?;
    Ok(Some(gateway_id))
}

/// A name of the login, if there is nothing in it that cannot be seen.
fn checked(name: Option<(String, Origin)>) -> Result<Option<String>, Failure> {
    let Some((text, origin)) = name else { return Ok(None) };
    origin.check_name(&text)?;
    Ok(Some(text))
}

/// Where a password may come from, first to last.
struct Sources<'a> {
    file: Option<PathBuf>,
    variable: &'a str,
    profile_file: Option<PathBuf>,
    option: &'a str,
}

fn password(sources: &Sources<'_>) -> Result<Option<Secret>, Failure> {
    let from_file = |path: &PathBuf, option: &str| {
        let place = path.display();
        let unreadable = |why: String| Failure::io(format!("{option}: cannot read {place}: {why}"));
        let bytes = std::fs::read(path).map_err(|why| unreadable(why.to_string()))?;
        refuse_wrapped(&bytes, &format!("{option}: {place}"))?;
        let text = String::from_utf8(bytes).map_err(|_| unreadable("it is not text in UTF-8".into()))?;
        // What editors of Windows put before and after it is no part of the password.
        let text = text.trim_start_matches('\u{feff}').trim_end_matches(['\r', '\n']);
        if text.is_empty() {
            return Err(Failure::invalid(format!("{option}: {place} holds no password")));
        }
        secret(text, &format!("{option}: {place}")).map(Some)
    };
    if let Some(path) = &sources.file {
        return from_file(path, sources.option);
    }
    match std::env::var(sources.variable) {
        Ok(password) if !password.is_empty() => return secret(&password, sources.variable).map(Some),
        Err(std::env::VarError::NotUnicode(_)) => {
            return Err(Failure::invalid(format!("{} is not valid UTF-8", sources.variable)));
        }
        _ => {}
    }
    sources.profile_file.as_ref().map_or(Ok(None), |path| from_file(path, "profile, password-file"))
}

/// A password, if no control character is in it; of a wrong one nothing else is told.
fn secret(text: &str, place: &str) -> Result<Secret, Failure> {
    match text.chars().find(|c| c.is_control()) {
        None => Ok(Secret::new(text)),
        Some(control) => Err(Failure::invalid(format!(
            "{place}: the password must not contain the control character {control:?}"
        ))
        .hint("Write the password alone, on one line")),
    }
}

/// Parses a keep-alive interval, which MQTT counts in whole seconds of 16 bits.
pub fn keep_alive(text: &str) -> Result<Duration, String> {
    let interval = duration(text)?;
    if interval.subsec_nanos() != 0 || interval.as_secs() > 65_535 {
        return Err("a keep-alive interval is whole seconds, from 0s to 65535s".to_owned());
    }
    Ok(interval)
}
