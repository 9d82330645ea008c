//! Topic names and filters (MQTT 3.1.1, section 4.7), and the two directions of a connection.

use std::fmt;

/// The fault of a topic, a filter, a template or a gateway id.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct InvalidTopic(String);

impl InvalidTopic {
    /// Takes the fault in words.
    pub fn new(why: impl Into<String>) -> Self {
        Self(why.into())
    }
}

impl fmt::Display for InvalidTopic {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl std::error::Error for InvalidTopic {}

/// The direction of a message.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Direction {
    /// From the client to the server: from a gateway to its edge.
    Up,
    /// From the server to the client: from an edge to its gateway.
    Down,
}

impl Direction {
    /// The word that records use: `up` or `down`.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Up => "up",
            Self::Down => "down",
        }
    }
}

/// Checks a topic name, as a PUBLISH carries it (MQTT 3.1.1, sections 3.3.2.1 and 4.7).
///
/// # Errors
/// A name that is empty, too long, or holds a wildcard or a control character is refused.
pub fn check_topic_name(name: &str) -> Result<(), InvalidTopic> {
    check_text(name, "topic")?;
    if name.contains(['+', '#']) {
        return Err(InvalidTopic(format!("a topic name must not contain the wildcards + and #: {name:?}")));
    }
    Ok(())
}

/// Checks a topic filter, as a SUBSCRIBE carries it (MQTT 3.1.1, section 4.7.1).
///
/// # Errors
/// `+` must fill its level, `#` must fill the last one; an empty or too long filter or one with a control
/// character is refused.
pub fn check_filter(filter: &str) -> Result<(), InvalidTopic> {
    check_text(filter, "filter")?;
    let mut levels = filter.split('/').peekable();
    while let Some(level) = levels.next() {
        let misplaced = match level {
            "+" => false,
            "#" => levels.peek().is_some(),
            _ => level.contains(['+', '#']),
        };
        if misplaced {
            return Err(InvalidTopic(format!(
                "in a filter, + must fill its level and # the last one: {filter:?}"
            )));
        }
    }
    Ok(())
}

fn check_text(text: &str, what: &str) -> Result<(), InvalidTopic> {
    if text.is_empty() {
        return Err(InvalidTopic(format!("a {what} must not be empty")));
    }
    if text.len() > usize::from(u16::MAX) {
        return Err(InvalidTopic(format!("a {what} must not be longer than 65,535 bytes")));
    }
    if text.chars().any(char::is_control) {
        return Err(InvalidTopic(format!("a {what} must not contain control characters: {text:?}")));
    }
    Ok(())
}

/// Whether a filter matches a topic name (MQTT 3.1.1, section 4.7).
///
/// Wildcards in the first level do not match topics that begin with `$` (section 4.7.2).
#[must_use]
pub fn matches(filter: &str, topic: &str) -> bool {
    if topic.starts_with('$') && filter.starts_with(['+', '#']) {
        return false;
    }
    let mut names = topic.split('/');
    for level in filter.split('/') {
        match (level, names.next()) {
            ("#", _) => return true,
            ("+", Some(_)) => {}
            (level, Some(name)) if level == name => {}
            _ => return false,
        }
    }
    names.next().is_none()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn filters_match_as_section_4_7_says() {
        for (filter, topic, expected) in [
            ("sport/tennis/player1/#", "sport/tennis/player1", true),
            ("sport/tennis/player1/#", "sport/tennis/player1/score/wimbledon", true),
            ("sport/#", "sport", true),
            ("#", "sport", true),
            ("#", "/", true),
            ("#", "$SYS/x", false),
            ("+/x", "$SYS/x", false),
            ("$SYS/#", "$SYS/x", true),
            ("sport/tennis/+", "sport/tennis/player1", true),
            ("sport/tennis/+", "sport/tennis/player1/ranking", false),
            ("sport/+", "sport", false),
            ("sport/+", "sport/", true),
            ("+/+", "/finance", true),
            ("/+", "/finance", true),
            ("+", "/finance", false),
            ("#", "é/x", true),
            ("网关/+", "网关/x", true),
            ("a/b", "a/b/c", false),
            ("a/b/c", "a/b", false),
        ] {
            assert_eq!(matches(filter, topic), expected, "{filter} against {topic}");
        }
    }

    #[test]
    fn wildcards_must_fill_their_level() {
        for good in ["#", "+", "a/+/b", "a/#", "/", "+/+"] {
            assert!(check_filter(good).is_ok(), "{good}");
        }
        for bad in ["", "a#", "#/a", "a/b+", "a+/b", "a\0b"] {
            assert!(check_filter(bad).is_err(), "{bad:?}");
        }
        for bad in ["", "a/#", "+/a", "a\0b", "a\u{1b}[2J"] {
            assert!(check_topic_name(bad).is_err(), "{bad:?}");
        }
    }
}
