//! Which messages are copies, and which channels answer each other.

use crate::{recording::Record, tuya::Channel};

/// Whether a message goes against its channel's direction, and so is a copy: a command on its way from the platform's
/// client to the edge, or what a client hears of its own gateway's uplinks.
pub(super) fn is_copy(record: &Record<'_>) -> bool {
    record.channel.zip(record.dir).is_some_and(|(channel, dir)| dir != channel.direction())
}

/// The channel whose messages are answered on this one.
pub(super) fn requested_by(response: Channel) -> Option<Channel> {
    Channel::ALL.into_iter().find(|channel| channel.response() == Some(response))
}
