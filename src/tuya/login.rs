//! The login rule (page, "Password generation rules") and the type that keeps secrets out of every output.

use std::fmt;

use md5::{Digest as _, Md5};

use crate::{mqtt::codec::Password, text::is_blank};

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

impl From<&Secret> for Password {
    fn from(secret: &Secret) -> Self {
        Self::new(secret.expose().as_bytes().to_vec())
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

/// Checks a client id or a username for what cannot be seen and is no part of it, such as the carriage return that a
/// file with the line ends of Windows leaves: brokers refuse it without a reason, and the derived password is another.
///
/// # Errors
/// A control character, or a space or an invisible character at either end; says which, in words.
pub fn check_login_name(text: &str) -> Result<(), String> {
    if let Some(control) = text.chars().find(|c| c.is_control()) {
        return Err(format!("{text:?} must not contain the control character {control:?}"));
    }
    let ends = [text.chars().next(), text.chars().next_back()];
    match ends.into_iter().flatten().find(|c| is_blank(*c)) {
        Some(blank) => Err(format!("{text:?} must not begin or end with {blank:?}")),
        None => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_cannot_be_seen_is_no_part_of_a_login_name() {
        for good in ["acme", "", "a b", "gw/1", "Zähler 7", "a\u{200b}b"] {
            assert_eq!(check_login_name(good), Ok(()), "{good}");
        }
        for (bad, shown) in [
            ("acme\r", r"'\r'"),
            ("acme\r\n", r"'\r'"),
            ("a\tb", r"'\t'"),
            ("a\0", r"'\0'"),
            ("\u{9b}a", r"'\u{9b}'"),
            (" acme", "' '"),
            ("acme ", "' '"),
            ("acme\u{a0}", r"'\u{a0}'"),
            ("\u{feff}acme", r"'\u{feff}'"),
            ("acme\u{200b}", r"'\u{200b}'"),
        ] {
            assert!(check_login_name(bad).is_err_and(|why| why.ends_with(shown)), "{bad:?}");
        }
    }

    #[test]
    fn derives_the_known_password() {
        assert_eq!(derive_password("gw001", "acme").expose(), "53c9ff16b29370c9741eefcf052955cb");
    }

    #[test]
    fn debug_shows_nothing_of_a_secret() {
        assert!(!format!("{:?}", Secret::new("hunter2")).contains("hunter2"));
    }
}
