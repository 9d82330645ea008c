//! Which devices a message of any kind names.

use super::{uplink::statuses, wire::WireMessage};

/// Whether a message of any kind speaks of one of these devices.
#[must_use]
pub fn speaks_of(payload: &[u8], cids: &[String]) -> bool {
    let Ok(wire) = WireMessage::read(payload) else { return false };
    wire.named_cid().is_some_and(|named| cids.contains(&named))
        || statuses(wire.param).is_ok_and(|statuses| statuses.iter().any(|status| cids.contains(&status.cid)))
}
