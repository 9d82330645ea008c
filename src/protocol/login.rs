//! The login rule (page, "Password generation rules") and the type that keeps secrets out of every output.

use std::fmt;

use md5::{Digest as _, Md5};

/// A secret text, such as a password; its `Debug` prints no part of it and it has no `Display`.
#[derive(Clone, PartialEq, Eq)]
pub struct Secret(String);

impl Secret {
    /// Wraps a secret text.
    pub fn new(text: impl Into<String>) -> Self {
        Self(text.into())
    }

    /// The text itself, for the CONNECT packet and for `tuyagw password`, its only two readers.
    #[must_use]
    pub fn expose(&self) -> &str {
        &self.0
    }
}

impl fmt::Debug for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Secret(…)")
    }
}

/// Derives the MQTT password: the MD5 of client id and username joined, as 32 lower-case hexadecimal digits.
///
/// Page, "Password generation rules".
#[must_use]
pub fn derive_password(client_id: &str, username: &str) -> Secret {
    let mut digest = Md5::new();
    digest.update(client_id);
    digest.update(username);
    Secret(hex::encode(digest.finalize()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn derives_the_known_password() {
        assert_eq!(derive_password("gw001", "acme").expose(), "53c9ff16b29370c9741eefcf052955cb");
    }

    #[test]
    fn debug_shows_nothing_of_a_secret() {
        assert!(!format!("{:?}", Secret::new("hunter2")).contains("hunter2"));
    }
}
