//! Durations as users write them: `250ms`, `10s`, `5m`, `1h30m`.
#![deny(clippy::disallowed_methods, clippy::disallowed_types)]

use std::time::Duration;

/// The longest accepted duration: a year, so that no deadline overflows.
const LONGEST: Duration = Duration::from_hours(24 * 365);

/// Parses a duration of at most a year.
///
/// # Errors
/// A text of another form.
pub fn parse(text: &str) -> Result<Duration, String> {
    let duration = parse_long(text)?;
    if duration > LONGEST { Err("expected at most 8760h".to_owned()) } else { Ok(duration) }
}

/// Parses a duration of any length; no deadline is computed from it.
///
/// # Errors
/// A text of another form.
pub fn parse_long(text: &str) -> Result<Duration, String> {
    let parsed: Option<jiff::SignedDuration> = text.parse().ok();
    let parsed = parsed.and_then(|parsed| Duration::try_from(parsed).ok());
    parsed.ok_or_else(|| "expected a duration such as 250ms, 10s, 5m or 1h".to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn durations_have_units() {
        assert_eq!(parse("250ms"), Ok(Duration::from_millis(250)));
        assert_eq!(parse("5m"), Ok(Duration::from_mins(5)));
        assert_eq!(parse("1m30s"), Ok(Duration::from_secs(90)));
        assert_eq!(parse("0s"), Ok(Duration::ZERO));
        for bad in ["10", "", "-1s", "soon", "999999999999h", "8761h"] {
            assert!(parse(bad).is_err(), "{bad}");
        }
    }
}
