//! The connection options that connecting subcommands share: flag, then environment, then profile, then default.

mod agent_args;
mod broker_args;
mod origin;
mod password;
mod tls_args;

pub use agent_args::{AgentArgs, QueueArgs};
pub use broker_args::BrokerArgs;
pub use origin::Origin;

use std::{path::PathBuf, time::Duration};

use self::{
    origin::pick,
    password::{PasswordSources, password},
};
use super::{
    config::Profile,
    values::{duration, keep_alive},
};
use crate::{
    error::Failure,
    io::request_ids::request_id,
    mqtt::codec::{Connect, Password, QoS},
    net::client::ClientSettings,
    run::{
        agent_link::{AgentExpectation, topics_by_key},
        connection_settings::{ConnectionSettings, Credentials, Fleet},
    },
    tuya::{GatewayId, Topics},
};

/// Where the broker is and how to talk to it.
#[derive(Clone, Debug, clap::Args)]
#[command(next_help_heading = "Connection")]
pub struct NetworkArgs {
    #[command(flatten)]
    broker: BrokerArgs,

    /// MQTT quality of service for publishing and subscribing [default: 1]
    #[arg(long, value_name = "0|1|2", value_parser = clap::value_parser!(u8).range(0..=2))]
    qos: Option<u8>,

    /// Keep-alive interval, whole seconds from 0s to 65535s [default: 60s]
    #[arg(long, value_name = "D", value_parser = keep_alive, hide_short_help = true)]
    keep_alive: Option<Duration>,

    /// Time for each answer, not for the run [default: 10s]
    #[arg(long, env = "TUYAGW_TIMEOUT", value_name = "D", value_parser = duration)]
    timeout: Option<Duration>,

    /// Keep the session at the broker (clean session off), so that messages queued during an absence arrive
    #[arg(long)]
    persistent: bool,

    /// Send CONNECT, SUBSCRIBE and PUBLISH together, without waiting for CONNACK
    #[arg(long, hide_short_help = true)]
    early: bool,
}

/// The gateway and its login.
#[derive(Clone, Debug, clap::Args)]
#[command(next_help_heading = "Gateway")]
pub struct GatewayArgs {
    /// The gateway's id, which takes the place of {gateway_id} in every topic
    #[arg(short, long, env = "TUYAGW_GATEWAY_ID", value_name = "ID")]
    pub gateway_id: Option<String>,

    /// The MQTT client id [default: the gateway id]
    #[arg(long, env = "TUYAGW_CLIENT_ID", value_name = "ID")]
    pub client_id: Option<String>,

    /// The username, which Tuya gives to each manufacturer
    #[arg(short, long, env = "TUYAGW_USERNAME", value_name = "NAME")]
    pub username: Option<String>,

    /// File with the password [default: TUYAGW_PASSWORD, else derived as md5(client id + username)]
    #[arg(long, env = "TUYAGW_PASSWORD_FILE", value_name = "FILE")]
    pub password_file: Option<PathBuf>,
}

/// The platform user and its login. A gateway's login is not used: a second client with its id would disconnect it.
#[derive(Clone, Debug, clap::Args)]
#[command(next_help_heading = "Platform user")]
pub struct PlatformArgs {
    /// The platform user's name [default: platform]
    #[arg(long, env = "TUYAGW_PLATFORM_USERNAME", value_name = "NAME")]
    platform_username: Option<String>,

    /// File with the platform user's password [default: TUYAGW_PLATFORM_PASSWORD, else derived]
    #[arg(long, value_name = "FILE")]
    platform_password_file: Option<PathBuf>,

    /// The MQTT client id [default: a random one]
    #[arg(long, value_name = "ID")]
    client_id: Option<String>,

    /// The gateway to command, if the input does not name one
    #[arg(short, long, env = "TUYAGW_GATEWAY_ID", value_name = "ID")]
    gateway_id: Option<String>,
}

impl NetworkArgs {
    /// Returns the topics in force, for a run that opens no connection.
    ///
    /// # Errors
    /// A profile that cannot be read.
    pub fn topics(&self) -> Result<Topics, Failure> {
        self.broker.profile.topics()
    }

    /// Returns the quality of service that the option gives.
    #[must_use]
    pub fn asked_qos(&self) -> Option<QoS> {
        self.qos.and_then(QoS::from_number)
    }

    /// Returns how long an answer may take, for a run that opens no connection.
    ///
    /// # Errors
    /// A profile that cannot be read.
    pub fn timeout(&self) -> Result<Duration, Failure> {
        Ok(self.timeout_or_default(&self.broker.profile.load()?))
    }

    fn timeout_or_default(&self, profile: &Profile) -> Duration {
        self.timeout.or(profile.timeout).unwrap_or(Duration::from_secs(10))
    }
}

impl ConnectionSettings {
    /// Returns the settings of a gateway's connection.
    ///
    /// # Errors
    /// A missing or invalid option, or a profile that cannot be read.
    pub fn gateway(network: &NetworkArgs, login: &GatewayArgs) -> Result<Self, Failure> {
        let profile = network.broker.profile.load()?;
        let gateway_id = gateway_id(login.gateway_id.as_ref(), &profile)?.ok_or_else(|| {
            Failure::invalid("no gateway id is given")
                .hint("Use --gateway-id ID, TUYAGW_GATEWAY_ID or a profile")
        })?;
        let client_id = login.client_id(&profile)?.unwrap_or_else(|| gateway_id.as_str().to_owned());
        let username = login.username(&profile)?;
        let password = password(&PasswordSources {
            file: login.password_file.clone(),
            variable: "TUYAGW_PASSWORD",
            profile_file: profile.password_file.clone(),
            option: "--password-file",
        })?;
        let login = Credentials::new(&client_id, username, password)?;
        Self::resolve(network, &profile, client_id, login, Some(gateway_id))
    }

    /// Returns the settings of several gateways' connections. The gateway id may be missing.
    ///
    /// # Errors
    /// A missing or invalid option, or a profile that cannot be read.
    pub fn fleet(network: &NetworkArgs, login: &GatewayArgs) -> Result<Fleet, Failure> {
        let profile = network.broker.profile.load()?;
        let gateway_id = gateway_id(login.gateway_id.as_ref(), &profile)?;
        let password = password(&PasswordSources {
            file: login.password_file.clone(),
            variable: "TUYAGW_PASSWORD",
            profile_file: profile.password_file.clone(),
            option: "--password-file",
        })?;
        let nobody = Credentials { username: None, password: None };
        Ok(Fleet {
            base: Self::resolve(network, &profile, String::new(), nobody, gateway_id)?,
            client_id: login.client_id(&profile)?,
            username: login.username(&profile)?,
            password,
        })
    }

    /// Returns the settings of a platform user's connection; `random_id` is the client id without `--client-id`.
    ///
    /// # Errors
    /// A missing or invalid option, or a profile that cannot be read.
    pub fn platform(
        network: &NetworkArgs,
        platform: &PlatformArgs,
        random_id: String,
    ) -> Result<Self, Failure> {
        let profile = network.broker.profile.load()?;
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
        let password = password(&PasswordSources {
            file: platform.platform_password_file.clone(),
            variable: "TUYAGW_PLATFORM_PASSWORD",
            profile_file: profile.platform_password_file.clone(),
            option: "--platform-password-file",
        })?;
        let login = Credentials::new(&client_id, Some(username), password)?;
        Self::resolve(network, &profile, client_id, login, gateway_id)
    }

    /// A gateway's connection, through its agent if there is one. What is the agent's business, such as the login and TLS, is
    /// not looked at then.
    ///
    /// # Errors
    /// Settings that are missing or wrong, and an agent that must be used and cannot be.
    pub fn gateway_or_agent(
        network: &NetworkArgs,
        login: &GatewayArgs,
        agent: &AgentArgs,
    ) -> Result<Self, Failure> {
        let through_agent = Self::of_agent(network, login, agent)?;
        through_agent.map_or_else(|| Self::gateway(network, login), Ok)
    }

    /// A connection through a gateway's agent; `None` without one.
    ///
    /// # Errors
    /// Settings that are wrong, and an agent that must be used and cannot be.
    pub fn of_agent(
        network: &NetworkArgs,
        login: &GatewayArgs,
        agent: &AgentArgs,
    ) -> Result<Option<Self>, Failure> {
        let profile = network.broker.profile.load()?;
        // What is missing is told by the direct way.
        let Some(gateway_id) = gateway_id(login.gateway_id.as_ref(), &profile)? else { return Ok(None) };
        let Ok((address, is_tls)) = network.broker.address(&profile) else { return Ok(None) };
        let Some(socket) = agent.find(&address, is_tls, &gateway_id)? else { return Ok(None) };
        let nobody = Credentials { username: None, password: None };
        let client = network.broker.settings_of(&profile, address, None);
        let client_id = format!("tuyagw-{}", request_id());
        let topics = topics_by_key(&profile.topics()?, &gateway_id);
        let expectation =
            AgentExpectation { username: login.username(&profile)?, topics, queues: false, is_tls };
        let mut settings =
            Self::resolve_with(network, &profile, client, client_id, nobody, Some(gateway_id))?;
        settings.client.local_socket = Some(socket);
        settings.client.connect.clean_session = true;
        settings.client.early = true;
        settings.agent = Some(expectation);
        Ok(Some(settings))
    }

    fn resolve(
        network: &NetworkArgs,
        profile: &Profile,
        client_id: String,
        login: Credentials,
        gateway_id: Option<GatewayId>,
    ) -> Result<Self, Failure> {
        let client = network.broker.settings(profile)?;
        Self::resolve_with(network, profile, client, client_id, login, gateway_id)
    }

    fn resolve_with(
        network: &NetworkArgs,
        profile: &Profile,
        client: ClientSettings,
        client_id: String,
        login: Credentials,
        gateway_id: Option<GatewayId>,
    ) -> Result<Self, Failure> {
        let keep_alive = network.keep_alive.or(profile.keep_alive).unwrap_or(Duration::from_mins(1));
        let qos = match network.qos.or(profile.qos).unwrap_or(1) {
            0 => QoS::AtMostOnce,
            1 => QoS::AtLeastOnce,
            2 => QoS::ExactlyOnce,
            other => return Err(Failure::invalid(format!("qos: expected 0, 1 or 2; got {other}"))),
        };
        let persistent = network.persistent || profile.persistent.unwrap_or(false);
        Ok(Self {
            client: ClientSettings {
                connect: Connect {
                    client_id,
                    clean_session: !persistent,
                    keep_alive: u16::try_from(keep_alive.as_secs()).unwrap_or(u16::MAX),
                    username: login.username,
                    password: login.password.map(|password| Password::new(password.expose().to_owned())),
                    ..Connect::default()
                },
                timeout: network.timeout_or_default(profile),
                in_flight: 100,
                reconnect: true,
                early: (network.early || profile.early.unwrap_or(false)) && !persistent,
                ..client
            },
            gateway_id,
            topics: profile.topics()?,
            qos,
            agent: None,
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

/// Refuses a client id or a username with invisible characters.
fn checked(name: Option<(String, Origin)>) -> Result<Option<String>, Failure> {
    let Some((text, origin)) = name else { return Ok(None) };
    origin.check_name(&text)?;
    Ok(Some(text))
}
