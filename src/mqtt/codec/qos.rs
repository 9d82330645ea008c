//! The quality of service, and how a server grants it.

/// How often a message arrives (MQTT 3.1.1, section 4.3).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum QoS {
    /// 0: once or not at all.
    #[default]
    AtMostOnce = 0,
    /// 1: once or several times.
    AtLeastOnce = 1,
    /// 2: once.
    ExactlyOnce = 2,
}

impl QoS {
    /// The level of a number; `None` above 2.
    #[must_use]
    pub fn from_number(number: u8) -> Option<Self> {
        match number {
            0 => Some(Self::AtMostOnce),
            1 => Some(Self::AtLeastOnce),
            2 => Some(Self::ExactlyOnce),
            _ => None,
        }
    }
}

/// One return code of a SUBACK (section 3.9.3).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum SubscribeCode {
    /// 0, 1 or 2: subscribed, with this quality of service at most.
    Granted(QoS),
    /// 0x80: not subscribed.
    Refused,
}
