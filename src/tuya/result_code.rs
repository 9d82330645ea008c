//! The two families of codes: CONNACK return codes (page, "Return code of native MQTT protocol") and result
//! codes (page, "Global error codes"), with what each means and what to do about it.
//!
//! Both are newtypes, so that a value nobody has heard of survives a round trip.

use std::fmt;

/// What is known of one code: its name, its meaning, and the next step for whoever meets it.
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

/// A result code of an answer: 0 is success, every other value a failure.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ResultCode(pub i64);

impl ResultCode {
    /// 0: accepted.
    pub const SUCCESS: Self = Self(0);
    /// 400: the uplink's own error, explained by the message.
    pub const UPLINK_ERROR: Self = Self(400);
    /// 500: system error.
    pub const SYSTEM_ERROR: Self = Self(500);
    /// 1001: request time is invalid.
    pub const TIME_INVALID: Self = Self(1001);
    /// 1100: params is empty.
    pub const PARAM_EMPTY: Self = Self(1100);
    /// 1101: params range invalid.
    pub const PARAM_RANGE: Self = Self(1101);
    /// 1102: params is null.
    pub const PARAM_NULL: Self = Self(1102);
    /// 1103: params type is incorrect.
    pub const PARAM_TYPE: Self = Self(1103);
    /// 2001: device is offline.
    pub const DEVICE_OFFLINE: Self = Self(2001);
    /// 2002: command or value not support.
    pub const NOT_SUPPORTED: Self = Self(2002);
    /// 2003: device not exist.
    pub const DEVICE_UNKNOWN: Self = Self(2003);

    /// Every code of the page's table, and 0, in ascending order.
    pub const TABLE: &'static [Explained] = &[
        Explained { code: 0, name: "success", meaning: "The request was accepted.", hint: "" },
        Explained {
            code: 400,
            name: "tedge error: uplink specific error message",
            meaning: "The uplink service refused the request for a reason of its own, which the message gives.",
            hint: "Read the message; it comes from the service behind the edge, whose log says more.",
        },
        Explained {
            code: 500,
            name: "system error, please contact the admin",
            meaning: "The edge, or the gateway that was commanded, failed while processing the request.",
            hint: "Try again later; if it stays, see the log of the edge, or of the gateway.",
        },
        Explained {
            code: 1001,
            name: "request time is invalid",
            meaning: "The edge found the message's time stamp t too far from its own clock.",
            hint: "Check this machine's clock and time synchronisation; if the clock is right, try --t-unit ms.",
        },
        Explained {
            code: 1100,
            name: "params is empty",
            meaning: "A required parameter is missing or empty.",
            hint: "Compare the request with the page's field table; cid, product_id, id and value are required.",
        },
        Explained {
            code: 1101,
            name: "params range invalid",
            meaning: "A value lies outside its data point's range.",
            hint: "See the range in `tuyagw model`; a number is the real value times 10 to the power of its scale.",
        },
        Explained {
            code: 1102,
            name: "params is null",
            meaning: "A required parameter is null.",
            hint: "Send a value of the data point's type, or leave the message out.",
        },
        Explained {
            code: 1103,
            name: "params type is incorrect",
            meaning: "A parameter has the wrong JSON type.",
            hint: "See the type in `tuyagw model`: value is an integer, bool is true or false, the others are strings.",
        },
        Explained {
            code: 2001,
            name: "device is offline",
            meaning: "The device is known, but it or its gateway counts as offline.",
            hint: "Report it online with `tuyagw status --online CID`, at least once a minute, and keep its gateway connected.",
        },
        Explained {
            code: 2002,
            name: "command or value not support",
            meaning: "The data point does not exist in the product, cannot be written, or does not know the value.",
            hint: "See ids, access and enumeration values in `tuyagw model`; check that the edge has the same product.",
        },
        Explained {
            code: 2003,
            name: "device not exist",
            meaning: "The edge does not know this cid under this gateway.",
            hint: "Synchronise the device first: `tuyagw sync --cid CID --product-id PRODUCT`.",
        },
    ];

    /// Whether the code says that the request was accepted.
    #[must_use]
    pub fn is_success(self) -> bool {
        self == Self::SUCCESS
    }

    /// What the page says of this code, or `None` for a code it does not list.
    #[must_use]
    pub fn explained(self) -> Option<&'static Explained> {
        Self::TABLE.iter().find(|known| known.code == self.0)
    }

    /// The page's own message for the code; a code it does not list is "unknown code".
    #[must_use]
    pub fn name(self) -> &'static str {
        self.explained().map_or("unknown code", |known| known.name)
    }
}

impl fmt::Display for ResultCode {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
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
            hint: "Check username and gateway id with whoever runs the edge; the gateway may not be registered.",
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
            hint: "Ask whoever runs the edge.",
        },
    ];

    /// What is known of this code, or `None`.
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
    fn an_unknown_code_survives_and_is_named_so() {
        assert_eq!(ResultCode(2147).name(), "unknown code");
        assert_eq!(ConnectCode(77).to_string(), "77");
        assert!(!ConnectCode(77).is_refusal());
        assert!(ConnectCode(0x87).is_refusal());
    }
}
