//! The operations that an input can ask for.

use crate::tuya::Channel;

/// What an input line asks for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum RequestKind {
    /// Synchronise a device.
    Sync,
    /// Report data points.
    Report,
    /// Say whether a device is online.
    Status,
    /// Command a device, from the platform's side.
    Command,
}

impl RequestKind {
    /// The word that input and result lines carry as `op`.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Sync => "sync",
            Self::Report => "report",
            Self::Status => "status",
            Self::Command => "command",
        }
    }

    /// The topic on which the messages go.
    #[must_use]
    pub fn channel(self) -> Channel {
        match self {
            Self::Sync => Channel::Sync,
            Self::Report => Channel::Report,
            Self::Status => Channel::Status,
            Self::Command => Channel::Command,
        }
    }
}
