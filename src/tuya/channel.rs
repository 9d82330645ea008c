//! The seven topics of the page (section "Topic definition"), and which message travels on each.

use serde::Deserialize;

use crate::mqtt::Direction;

/// One of the page's seven topics; deserialised, it is named by its [key](Channel::key).
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Channel {
    /// `devices/sync`: the gateway adds or updates a device.
    Sync,
    /// `devices/sync/response`: the edge answers a sync.
    SyncResponse,
    /// `commands`: the platform commands a device.
    Command,
    /// `commands/response`: the gateway answers a command.
    CommandResponse,
    /// `properties/report`: the gateway reports one data point.
    Report,
    /// `properties/report/response`: the edge answers a report.
    ReportResponse,
    /// `devices/status`: the gateway says which devices are online; there is no answer.
    Status,
}

impl Channel {
    /// All seven, in the page's order.
    pub const ALL: [Self; 7] = [
        Self::Sync,
        Self::SyncResponse,
        Self::Command,
        Self::CommandResponse,
        Self::Report,
        Self::ReportResponse,
        Self::Status,
    ];

    /// Which way the topic's messages travel.
    #[must_use]
    pub fn direction(self) -> Direction {
        match self {
            Self::Sync | Self::CommandResponse | Self::Report | Self::Status => Direction::Up,
            Self::SyncResponse | Self::Command | Self::ReportResponse => Direction::Down,
        }
    }

    /// The `kind` of a record on this topic, such as `sync.response`.
    #[must_use]
    pub fn kind(self) -> &'static str {
        match self {
            Self::Sync => "sync",
            Self::SyncResponse => "sync.response",
            Self::Command => "command",
            Self::CommandResponse => "command.response",
            Self::Report => "report",
            Self::ReportResponse => "report.response",
            Self::Status => "status",
        }
    }

    /// The key of this topic in a profile's `topics` table, such as `sync-response`.
    #[must_use]
    pub fn key(self) -> &'static str {
        match self {
            Self::SyncResponse => "sync-response",
            Self::CommandResponse => "command-response",
            Self::ReportResponse => "report-response",
            Self::Sync | Self::Command | Self::Report | Self::Status => self.kind(),
        }
    }

    /// The topic on which this one's messages are answered; status and the answers themselves have none.
    #[must_use]
    pub fn response(self) -> Option<Self> {
        match self {
            Self::Sync => Some(Self::SyncResponse),
            Self::Command => Some(Self::CommandResponse),
            Self::Report => Some(Self::ReportResponse),
            Self::SyncResponse | Self::CommandResponse | Self::ReportResponse | Self::Status => None,
        }
    }

    pub(super) fn preset(self) -> &'static str {
        match self {
            Self::Sync => "gateway_id/{gateway_id}/devices/sync",
            Self::SyncResponse => "gateway_id/{gateway_id}/devices/sync/response",
            Self::Command => "gateway_id/{gateway_id}/commands",
            Self::CommandResponse => "gateway_id/{gateway_id}/commands/response",
            Self::Report => "gateway_id/{gateway_id}/properties/report",
            Self::ReportResponse => "gateway_id/{gateway_id}/properties/report/response",
            Self::Status => "gateway_id/{gateway_id}/devices/status",
        }
    }
}
