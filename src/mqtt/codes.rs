//! The return codes of CONNACK and SUBACK (MQTT 3.1.1, sections 3.2.2.3 and 3.9.3; page, "Return code of native MQTT
//! protocol"), with what each means and what to do about it.
//!
//! Newtypes, so that an unknown value survives a round trip.

use std::fmt;

/// The explanation of one code: its name, its meaning, and the next step for the user.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Explained {
    /// The code as a number.
    pub code: i64,
    /// The vendor's or the standard's own words for the code.
    pub name: &'static str,
    /// What the code says happened, in one sentence.
    pub meaning: &'static str,
    /// What to do next, in one or two sentences; empty for success.
    pub hint: &'static str,
}

/// A CONNACK return code; values above 5 are not MQTT 3.1.1's, but brokers of this family send them.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ConnectCode(pub u8);

impl ConnectCode {
    /// 0: connection accepted.
    pub const ACCEPTED: Self = Self(0);
    /// 1: unacceptable protocol version.
    pub const PROTOCOL_VERSION: Self = Self(1);
    /// 2: identifier rejected.
    pub const IDENTIFIER_REJECTED: Self = Self(2);
    /// 3: server unavailable.
    pub const SERVER_UNAVAILABLE: Self = Self(3);
    /// 4: bad user name or password.
    pub const BAD_LOGIN: Self = Self(4);
    /// 5: not authorized.
    pub const NOT_AUTHORIZED: Self = Self(5);

    /// The page's six codes, then the MQTT 5 codes that brokers send to MQTT 3.1.1 clients.
    pub const TABLE: &'static [Explained] = &[
        Explained {
            code: 0,
            name: "connection accepted",
            meaning: "The broker accepted the connection.",
            hint: "",
        },
        Explained {
            code: 1,
            name: "unacceptable protocol version",
            meaning: "The broker does not speak MQTT 3.1.1.",
            hint: "Check that the address is an Edge Gateway's MQTT port (21883).",
        },
        Explained {
            code: 2,
            name: "identifier rejected",
            meaning: "The broker refused the client id, or the keep-alive interval.",
            hint: "The client id is the gateway id: without / + # in it. Then try another --keep-alive, such as 20s.",
        },
        Explained {
            code: 3,
            name: "server unavailable",
            meaning: "The broker is there, but its service is not available.",
            hint: "Wait and try again; on the edge, see whether the driver for this username is running.",
        },
        Explained {
            code: 4,
            name: "bad user name or password",
            meaning: "The username or the password is wrong.",
            hint: "The password is md5(client id + username): see `tuyagw password`; the username comes from Tuya.",
        },
        Explained {
            code: 5,
            name: "not authorized",
            meaning: "This client may not connect.",
            hint: "Check username and gateway id with the operator of the edge; the gateway may not be registered.",
        },
        Explained {
            code: 0x80,
            name: "unspecified error",
            meaning: "The broker refused without saying why.",
            hint: "See the broker's log.",
        },
        Explained {
            code: 0x85,
            name: "client identifier not valid",
            meaning: "The broker refused the client id.",
            hint: "The client id is the gateway id: without / + # in it.",
        },
        Explained {
            code: 0x86,
            name: "bad user name or password",
            meaning: "The username or the password is wrong.",
            hint: "The password is md5(client id + username): see `tuyagw password`; the username comes from Tuya.",
        },
        Explained {
            code: 0x87,
            name: "not authorized",
            meaning: "The broker refused the login: wrong username, wrong password, or an unknown gateway.",
            hint: "The password is md5(client id + username): see `tuyagw password`; the username comes from Tuya.",
        },
        Explained {
            code: 0x88,
            name: "server unavailable",
            meaning: "The broker is there, but its service is not available.",
            hint: "Wait and try again.",
        },
        Explained {
            code: 0x89,
            name: "server busy",
            meaning: "The broker is too busy to accept the connection.",
            hint: "Wait and try again.",
        },
        Explained {
            code: 0x8A,
            name: "banned",
            meaning: "The broker has banned this client.",
            hint: "Ask the operator of the edge.",
        },
    ];

    /// The explanation of this code, if it is known.
    #[must_use]
    pub fn explained(self) -> Option<&'static Explained> {
        Self::TABLE.iter().find(|known| known.code == i64::from(self.0))
    }

    /// The code's name in the page's words; an unknown one is "unknown return code".
    #[must_use]
    pub fn name(self) -> &'static str {
        self.explained().map_or("unknown return code", |known| known.name)
    }

    /// Whether the code is a refusal that a broker may send: 1 to 5, and the MQTT 5 range from 128.
    ///
    /// Everything from 6 to 127 breaks the protocol.
    #[must_use]
    pub fn is_refusal(self) -> bool {
        matches!(self.0, 1..=5 | 0x80..)
    }
}

/// The one refusal that a SUBACK has.
pub const SUBSCRIPTION_REFUSED: Explained = Explained {
    code: 0x80,
    name: "failure",
    meaning: "The broker refused a subscription.",
    hint: "A gateway may subscribe to its own topics only, a platform user to all: check --gateway-id, the topics of the \
           profile, and for `command` --platform-username.",
};

impl fmt::Display for ConnectCode {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_unknown_code_survives_and_only_some_are_refusals() {
        assert_eq!(ConnectCode(77).to_string(), "77");
        assert!(!ConnectCode(77).is_refusal());
        assert!(ConnectCode(0x87).is_refusal());
    }
}
