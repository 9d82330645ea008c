//! Settings of a connection, resolved from flag, environment, profile and default.

use super::agent_link::AgentExpectation;
use crate::{
    agent::{NamedBroker, socket_name},
    error::Failure,
    mqtt::codec::{Password, QoS},
    net::client::{BrokerAddress, ClientSettings},
    tuya::{GatewayId, Secret, Topics, derive_password},
};

/// The settings of one connection.
#[derive(Clone, Debug)]
pub struct ConnectionSettings {
    /// How to reach the broker and log in.
    pub client: ClientSettings,
    /// The gateway of the topics; optional for `command`.
    pub gateway_id: Option<GatewayId>,
    /// The topics in force.
    pub topics: Topics,
    /// The quality of service for publishing and subscribing.
    pub qos: QoS,
    /// What is expected of the agent that the connection goes through; `None` without one.
    pub agent: Option<AgentExpectation>,
}

impl ConnectionSettings {
    /// Returns the broker's URL.
    #[must_use]
    pub fn broker_url(&self) -> String {
        let scheme = if self.client.tls.is_some() { "mqtts" } else { "mqtt" };
        format!("{scheme}://{}", self.client.address)
    }

    /// Returns the name of the socket of the agent that has this connection.
    ///
    /// # Errors
    /// No gateway.
    pub fn agent_name(&self) -> Result<String, Failure> {
        let gateway = self.gateway_id.as_ref().ok_or_else(|| Failure::invalid("no gateway id is given"))?;
        let BrokerAddress { host, port } = &self.client.address;
        let broker = NamedBroker { is_tls: self.client.tls.is_some(), host, port: *port };
        Ok(socket_name(&[broker], gateway))
    }
}

/// Settings of several gateways' connections, which differ in their logins.
#[derive(Clone, Debug)]
pub struct Fleet {
    /// The settings without the login; its gateway is that of `--gateway-id`.
    pub base: ConnectionSettings,
    /// The client id of that gateway, if it differs from the gateway id.
    pub client_id: Option<String>,
    /// The username of all.
    pub username: Option<String>,
    /// The given password; without one each gateway's own is derived.
    pub password: Option<Secret>,
}

impl Fleet {
    /// Returns the settings of a gateway's connection.
    ///
    /// # Errors
    /// A password without a username.
    pub fn settings(&self, gateway: &GatewayId) -> Result<ClientSettings, Failure> {
        let client_id = match &self.client_id {
            Some(client_id) if self.base.gateway_id.as_ref() == Some(gateway) => client_id,
            _ => gateway.as_str(),
        };
        let login = Credentials::new(client_id, self.username.clone(), self.password.clone())?;
        let mut settings = self.base.client.clone();
        client_id.clone_into(&mut settings.connect.client_id);
        settings.connect.username = login.username;
        settings.connect.password =
            login.password.map(|password| Password::new(password.expose().to_owned()));
        Ok(settings)
    }
}

/// Username and password of a login.
pub struct Credentials {
    /// The username.
    pub username: Option<String>,
    /// The password.
    pub password: Option<Secret>,
}

impl Credentials {
    /// Credentials with the given password, or with the derived one.
    ///
    /// # Errors
    /// A password without a username.
    pub fn new(client_id: &str, username: Option<String>, password: Option<Secret>) -> Result<Self, Failure> {
        if username.is_none() && password.is_some() {
            return Err(Failure::invalid("a password is given, but no username")
                .hint("Use --username NAME, TUYAGW_USERNAME or a profile"));
        }
        let derived = username.as_ref().map(|username| derive_password(client_id, username));
        Ok(Self { username, password: password.or(derived) })
    }
}
