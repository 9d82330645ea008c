//! Which clients may connect, and which topics they may use: the page's login rule and its table of topics.

use crate::{
    mqtt::ConnectCode,
    tuya::{Channel, GatewayId, Topics, derive_password},
};

/// The channels on which gateways publish, the most frequent first.
const UPLINKS: [Channel; 4] = [Channel::Report, Channel::Status, Channel::CommandResponse, Channel::Sync];

/// The topics of the page's sample programs, which publish and subscribe to both.
const SAMPLES: [&str; 2] = ["gateway/in/", "gateway/out/"];

/// The longest client id and username, in bytes: longer than any gateway's, and short enough to be kept for thousands of
/// clients.
const LONGEST_NAME: usize = 256;

/// The fields of a CONNECT that decide the login.
#[derive(Clone, Copy, Debug)]
pub struct LoginAttempt<'a> {
    /// The client id, which is the gateway id of a gateway.
    pub client_id: &'a str,
    /// The username, which names the manufacturer.
    pub username: Option<&'a str>,
    /// The password's bytes.
    pub password: Option<&'a [u8]>,
    /// Whether the client asked for a clean session.
    pub clean_session: bool,
}

/// The role of a client.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Role {
    /// A gateway, with its own topics only.
    Gateway(GatewayId),
    /// A platform user, with all topics.
    Platform,
}

/// Why a client may not connect.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum LoginError {
    /// Answer with this return code, then close.
    Refused {
        /// The return code.
        code: ConnectCode,
        /// The reason, for the operator.
        why: &'static str,
    },
    /// Close without an answer.
    Dropped,
}

/// The login rule.
#[derive(Clone, Debug, Default)]
pub struct LoginRule {
    /// Usernames of gateways; if empty, any is accepted.
    pub usernames: Vec<String>,
    /// Usernames of platform users.
    pub platform_usernames: Vec<String>,
}

impl LoginRule {
    /// Decides the role of a client.
    ///
    /// # Errors
    /// 2 for a client id that cannot be a gateway's or is longer than 256 bytes, 5 for a username that is not on the list, 4
    /// for a missing username, one that is longer than 256 bytes, and a missing or wrong password; a client
    /// id with control characters is not answered.
    pub fn login(&self, login: &LoginAttempt<'_>) -> Result<Role, LoginError> {
        if login.client_id.chars().any(char::is_control) {
            return Err(LoginError::Dropped);
        }
        let away = |code, why| Err(LoginError::Refused { code, why });
        if login.client_id.len() > LONGEST_NAME {
            return away(ConnectCode::IDENTIFIER_REJECTED, "the client id is longer than 256 bytes");
        }
        if login.username.is_some_and(|name| name.len() > LONGEST_NAME) {
            return away(ConnectCode::BAD_LOGIN, "the username is longer than 256 bytes");
        }
        let platform = login
            .username
            .is_some_and(|name| self.platform_usernames.iter().any(|platform| platform == name));
        let role = if platform && (login.clean_session || !login.client_id.is_empty()) {
            Role::Platform
        } else {
            let Ok(id) = GatewayId::new(login.client_id) else {
                let why = "a gateway's client id is its gateway id: not empty, and without / + and #";
                return away(ConnectCode::IDENTIFIER_REJECTED, why);
            };
            Role::Gateway(id)
        };
        let Some(username) = login.username else {
            return away(ConnectCode::BAD_LOGIN, "it gave no username");
        };
        let listed =
            platform || self.usernames.is_empty() || self.usernames.iter().any(|known| known == username);
        if !listed {
            return away(ConnectCode::NOT_AUTHORIZED, "--username does not name its username");
        }
        let password = derive_password(login.client_id, username);
        if login.password == Some(password.expose().as_bytes()) {
            Ok(role)
        } else {
            let why =
                "the password is not the MD5 of client id and username, as `tuyagw password` derives it";
            away(ConnectCode::BAD_LOGIN, why)
        }
    }
}

impl Role {
    /// Whether a client may publish to a topic.
    #[must_use]
    pub fn may_publish(&self, topics: &Topics, topic: &str) -> bool {
        match self {
            Self::Platform => true,
            Self::Gateway(id) => uplink(topics, id, topic).is_some() || is_sample(id, topic),
        }
    }

    /// Whether a client may subscribe to a filter.
    #[must_use]
    pub fn may_subscribe(&self, filter: &str) -> bool {
        match self {
            Self::Platform => true,
            Self::Gateway(id) => {
                filter
                    .strip_prefix("gateway_id/")
                    .and_then(|rest| rest.strip_prefix(id.as_str()))
                    .is_some_and(|rest| rest.starts_with('/'))
                    || is_sample(id, filter)
            }
        }
    }
}

/// The uplink channel of a gateway's own topic.
pub(super) fn uplink(topics: &Topics, id: &GatewayId, topic: &str) -> Option<Channel> {
    let is_it = |channel: &Channel| topics.id_in(*channel, topic) == Some(id.as_str());
    UPLINKS.into_iter().find(is_it)
}

fn is_sample(id: &GatewayId, topic: &str) -> bool {
    SAMPLES.iter().any(|prefix| topic.strip_prefix(prefix) == Some(id.as_str()))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn access(usernames: &[&str]) -> LoginRule {
        LoginRule {
            usernames: usernames.iter().map(ToString::to_string).collect(),
            platform_usernames: vec!["platform".into()],
        }
    }

    fn login(
        access: &LoginRule,
        client_id: &str,
        username: Option<&str>,
    ) -> Result<Role, Option<ConnectCode>> {
        let password = derive_password(client_id, username.unwrap_or_default());
        let password = Some(password.expose().as_bytes());
        code(access.login(&LoginAttempt { client_id, username, password, clean_session: true }))
    }

    /// The return code of a refusal; `None` for a connection that is closed without an answer.
    fn code(login: Result<Role, LoginError>) -> Result<Role, Option<ConnectCode>> {
        login.map_err(|turned| match turned {
            LoginError::Refused { code, .. } => Some(code),
            LoginError::Dropped => None,
        })
    }

    fn gateway(id: &str) -> Role {
        Role::Gateway(GatewayId::new(id).unwrap())
    }

    #[test]
    fn each_refusal_has_its_code() {
        let any = access(&[]);
        let listed = access(&["acme"]);
        assert_eq!(login(&any, "gw1", Some("whoever")), Ok(gateway("gw1")));
        assert_eq!(login(&listed, "gw1", Some("acme")), Ok(gateway("gw1")));
        assert_eq!(login(&listed, "gw1", Some("other")), Err(Some(ConnectCode::NOT_AUTHORIZED)));
        assert_eq!(login(&any, "gw1", None), Err(Some(ConnectCode::BAD_LOGIN)));
        for id in ["", "a/b", "+", "#", "gw+"] {
            let refused = Err(Some(ConnectCode::IDENTIFIER_REJECTED));
            assert_eq!(login(&any, id, Some("acme")), refused, "{id:?}");
        }
        for id in ["gw\0", "gw\u{1b}[2J", "gw\u{9b}", "gw\u{7f}"] {
            assert_eq!(login(&any, id, Some("acme")), Err(None), "{id:?}");
        }
        let wrong = derive_password("gw2", "acme");
        for password in [None, Some(&b""[..]), Some(wrong.expose().as_bytes())] {
            let login =
                LoginAttempt { client_id: "gw1", username: Some("acme"), password, clean_session: true };
            assert_eq!(code(any.login(&login)), Err(Some(ConnectCode::BAD_LOGIN)));
        }
    }

    #[test]
    fn names_longer_than_256_bytes_are_refused_to_everybody() {
        let any = access(&[]);
        let (fits, long) = ("x".repeat(256), "x".repeat(257));
        assert_eq!(login(&any, &fits, Some(&fits)), Ok(gateway(&fits)));
        let refused = Err(Some(ConnectCode::IDENTIFIER_REJECTED));
        assert_eq!(login(&any, &long, Some("acme")), refused);
        assert_eq!(login(&any, "gw1", Some(&long)), Err(Some(ConnectCode::BAD_LOGIN)));
        assert_eq!(login(&any, &long, Some("platform")), refused);
    }

    #[test]
    fn a_platform_user_needs_the_password_too_but_no_particular_client_id() {
        let listed = access(&["acme"]);
        for id in ["", "console/1", "gw1"] {
            assert_eq!(login(&listed, id, Some("platform")), Ok(Role::Platform), "{id:?}");
        }
        let mut login = LoginAttempt {
            client_id: "x",
            username: Some("platform"),
            password: Some(b"platform"),
            clean_session: true,
        };
        assert_eq!(code(listed.login(&login)), Err(Some(ConnectCode::BAD_LOGIN)));
        // Without a client id, a persistent session could not be found again.
        login.client_id = "";
        login.clean_session = false;
        assert_eq!(code(listed.login(&login)), Err(Some(ConnectCode::IDENTIFIER_REJECTED)));
    }

    #[test]
    fn a_gateway_publishes_its_uplinks_and_the_sample_topics_only() {
        let topics = Topics::default();
        let gw1 = gateway("gw1");
        for good in [
            "gateway_id/gw1/devices/sync",
            "gateway_id/gw1/commands/response",
            "gateway_id/gw1/properties/report",
            "gateway_id/gw1/devices/status",
            "gateway/in/gw1",
            "gateway/out/gw1",
        ] {
            assert!(gw1.may_publish(&topics, good), "{good}");
            assert!(!gateway("gw2").may_publish(&topics, good), "{good}");
            assert!(Role::Platform.may_publish(&topics, good), "{good}");
        }
        for bad in [
            "gateway_id/gw1/commands",
            "gateway_id/gw1/devices/sync/response",
            "gateway_id/gw1/properties/report/response",
            "gateway_id/gw1",
            "gateway_id/gw1/other",
            "gateway_id/gw11/devices/sync",
            "gateway/in/gw11",
            "gateway/in/gw1/x",
            "other",
        ] {
            assert!(!gw1.may_publish(&topics, bad), "{bad}");
        }
    }

    #[test]
    fn a_gateway_subscribes_below_its_own_id_only() {
        let gw1 = gateway("gw1");
        for good in ["gateway_id/gw1/#", "gateway_id/gw1/+", "gateway_id/gw1/commands", "gateway/in/gw1"] {
            assert!(gw1.may_subscribe(good), "{good}");
        }
        for bad in [
            "#",
            "+/gw1/#",
            "gateway_id/#",
            "gateway_id/+/commands",
            "gateway_id/gw1",
            "gateway_id/gw12/commands",
            "gateway/+/gw1",
            "gateway/in/+",
            "gateway/in/gw1/#",
            "$SYS/#",
        ] {
            assert!(!gw1.may_subscribe(bad), "{bad}");
            assert!(Role::Platform.may_subscribe(bad), "{bad}");
        }
    }
}
