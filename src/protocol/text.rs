//! Which characters may reach a terminal or a recording as they are.

/// Whether a character must not reach a terminal as it is: C0, DEL, C1 and the bidirectional controls.
#[must_use]
pub fn is_unsafe(c: char) -> bool {
    c.is_control()
        || matches!(c, '\u{061c}' | '\u{200e}' | '\u{200f}' | '\u{202a}'..='\u{202e}' | '\u{2066}'..='\u{2069}')
}
