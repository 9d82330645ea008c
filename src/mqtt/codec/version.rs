//! The versions of MQTT that clients speak.

/// The version of MQTT that a client speaks.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum ProtocolVersion {
    /// MQTT 3.1: `MQIsdp`, level 3. The packets of MQTT 3.1.1, with fewer rules.
    V3_1,
    /// MQTT 3.1.1: `MQTT`, level 4.
    #[default]
    V3_1_1,
}

impl ProtocolVersion {
    pub(super) fn of(protocol: &str, level: u8) -> Option<Self> {
        match (protocol, level) {
            ("MQIsdp", 3) => Some(Self::V3_1),
            ("MQTT", 4) => Some(Self::V3_1_1),
            _ => None,
        }
    }

    /// Protocol name and level, as a CONNECT begins with them.
    pub(super) fn greeting(self) -> (&'static str, u8) {
        match self {
            Self::V3_1 => ("MQIsdp", 3),
            Self::V3_1_1 => ("MQTT", 4),
        }
    }
}
