//! Characters that must not reach a terminal as they are, and characters that cannot be seen in an id.
#![deny(clippy::disallowed_methods, clippy::disallowed_types)]

use std::borrow::Cow;

/// Whether a character must not reach a terminal as it is: C0, DEL, C1 and the bidirectional controls.
#[must_use]
pub fn is_unsafe(c: char) -> bool {
    c.is_control() || is_direction_mark(c)
}

/// Whether a character at either end of a cell or an id cannot be seen: spaces of every width, no-break and zero-width
/// ones, and the marks that word processors and file managers leave around copied text.
#[must_use]
pub fn is_blank(c: char) -> bool {
    c.is_whitespace() || is_invisible(c) || matches!(c, '\u{200c}' | '\u{200d}')
}

/// Whether a character has no width and joins nothing, so that two ids that differ by it look the same.
#[must_use]
pub fn is_invisible(c: char) -> bool {
    is_direction_mark(c) || matches!(c, '\u{ad}' | '\u{180e}' | '\u{200b}' | '\u{2060}' | '\u{feff}')
}

fn is_direction_mark(c: char) -> bool {
    matches!(c, '\u{061c}' | '\u{200e}' | '\u{200f}' | '\u{202a}'..='\u{202e}' | '\u{2066}'..='\u{2069}')
}

/// The text with every unsafe character written as an escape.
#[must_use]
pub fn visible(text: &str) -> Cow<'_, str> {
    if !text.contains(is_unsafe) {
        return Cow::Borrowed(text);
    }
    let mut safe = String::with_capacity(text.len() + 8);
    for c in text.chars() {
        if is_unsafe(c) {
            safe.extend(c.escape_unicode());
        } else {
            safe.push(c);
        }
    }
    Cow::Owned(safe)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn unsafe_characters_become_visible() {
        assert_eq!(visible("a\u{1b}[2Jb"), "a\\u{1b}[2Jb");
        assert_eq!(visible("plain 网关"), "plain 网关");
    }
}
