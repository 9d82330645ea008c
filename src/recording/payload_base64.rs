//! Payloads in base64.

use base64::{
    Engine as _,
    alphabet::STANDARD,
    engine::{DecodePaddingMode, GeneralPurpose, GeneralPurposeConfig},
};

/// Writes padding, and reads with or without it.
const BASE64: GeneralPurpose = GeneralPurpose::new(
    &STANDARD,
    GeneralPurposeConfig::new().with_decode_padding_mode(DecodePaddingMode::Indifferent),
);

/// Returns a payload as `payload_b64` shows it.
#[must_use]
pub fn base64(payload: &[u8]) -> String {
    BASE64.encode(payload)
}

/// Appends a payload in base64 without a second copy, because a payload may be large.
pub(super) fn push_base64(line: &mut Vec<u8>, payload: &[u8]) {
    let start = line.len();
    line.resize(start + payload.len().div_ceil(3) * 4, 0);
    let written = BASE64.encode_slice(payload, &mut line[start..]).unwrap_or_default();
    line.truncate(start + written);
}

/// Decodes the standard alphabet.
pub(super) fn decode(text: &str) -> Result<Vec<u8>, base64::DecodeError> {
    BASE64.decode(text)
}

/// Decodes the standard or the URL alphabet; `None` for any other text.
pub(super) fn decode_either_alphabet(text: &str) -> Option<Vec<u8>> {
    BASE64.decode(text.replace('-', "+").replace('_', "/")).ok()
}
