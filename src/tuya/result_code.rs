//! The result codes of answers (page, "Global error codes"), with what each means and what to do about it.
//!
//! A newtype, so that an unknown value survives a round trip.

use std::fmt;

use crate::mqtt::Explained;

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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_unknown_code_survives_and_is_named_so() {
        assert_eq!(ResultCode(2147).name(), "unknown code");
    }
}
