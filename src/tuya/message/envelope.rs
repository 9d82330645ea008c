//! What surrounds the body of every message.

use crate::json::decimal;

/// The fields of every message around its body (page, each "Uplink parameters" and "Downlink parameters").
#[derive(Clone, Debug)]
pub struct Envelope<B> {
    /// The message's time stamp, a Unix time in seconds, or in milliseconds for edges that expect those.
    pub t: i64,
    /// The id that an answer repeats, which matches it with its request.
    pub request_id: String,
    /// The message itself.
    pub body: B,
}

/// A message that was encoded here, with another time stamp.
#[must_use]
pub fn with_t(encoded: &[u8], t: i64) -> Vec<u8> {
    const BEFORE: &[u8] = b"{\"t\":";
    let mut bytes = Vec::with_capacity(encoded.len() + 4);
    let after = encoded.strip_prefix(BEFORE).and_then(|rest| {
        let digits = rest.iter().take_while(|byte| byte.is_ascii_digit() || **byte == b'-').count();
        rest.get(digits..)
    });
    match after {
        Some(after) => {
            bytes.extend_from_slice(BEFORE);
            bytes.extend_from_slice(decimal(t).as_bytes());
            bytes.extend_from_slice(after);
        }
        None => bytes.extend_from_slice(encoded),
    }
    bytes
}
