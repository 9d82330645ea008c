//! Texts of peers in warnings.

/// The characters of a peer's text that a warning repeats, at most.
const LONGEST_EXCERPT: usize = 100;

/// The beginning of a text that a peer chose, quoted, for a warning.
#[must_use]
pub fn excerpt(text: &str) -> String {
    match text.char_indices().nth(LONGEST_EXCERPT) {
        None => format!("{text:?}"),
        Some((end, _)) => format!("{:?} and {} bytes more", &text[..end], text.len() - end),
    }
}
