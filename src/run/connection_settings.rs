//! What the connection options mean, once flag, environment, profile and default are settled.

use crate::{
    error::Failure,
    mqtt::codec::{Password, QoS},
    net::client::ClientSettings,
    tuya::{GatewayId, Secret, Topics, derive_password},
};

/// Everything that a subcommand with a connection needs to know.
#[derive(Clone, Debug)]
pub struct ConnectionSettings {
    /// How to reach the broker and log in.
    pub client: ClientSettings,
    /// The gateway that the topics speak of; `command` may do without.
    pub gateway_id: Option<GatewayId>,
    /// The topics in force.
    pub topics: Topics,
    /// Quality of service of what is published and subscribed.
    pub qos: QoS,
}

/// The connections of several gateways, which differ in their logins.
#[derive(Clone, Debug)]
pub struct Fleet {
    /// The connection of the gateway that was asked for, or of none.
    pub one: ConnectionSettings,
    /// The client id of that gateway, if it is not the gateway id.
    pub client_id: Option<String>,
    /// The username of all.
    pub username: Option<String>,
    /// The password that was given; otherwise each gateway's own is derived.
    pub password: Option<Secret>,
}

impl Fleet {
    /// How a gateway connects.
    ///
    /// # Errors
    /// A password without a username.
    pub fn settings(&self, gateway: &GatewayId) -> Result<ClientSettings, Failure> {
        let client_id = match &self.client_id {
            Some(client_id) if self.one.gateway_id.as_ref() == Some(gateway) => client_id,
            _ => gateway.as_str(),
        };
        let login = Login::new(client_id, self.username.clone(), self.password.clone())?;
        let mut settings = self.one.client.clone();
        client_id.clone_into(&mut settings.connect.client_id);
        settings.connect.username = login.username;
        settings.connect.password =
            login.password.map(|password| Password::new(password.expose().to_owned()));
        Ok(settings)
    }
}

/// What a client says of itself when it logs in.
pub struct Login {
    /// The username.
    pub username: Option<String>,
    /// The password.
    pub password: Option<Secret>,
}

impl Login {
    /// A login with the password that was given, or else the derived one.
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
