//! Wall-clock times of recordings: microseconds since the Unix epoch, and RFC 3339 in UTC.

use std::ops::RangeInclusive;

use jiff::{SignedDuration, Timestamp, civil::DateTime};

use super::decimal::scaled;
use crate::json::text_of;

/// The years 0 to 9999, which RFC 3339 can write, in microseconds since the Unix epoch.
pub(super) const CALENDAR: RangeInclusive<i64> = -62_167_219_200_000_000..=253_402_300_799_999_999;

/// The longest time within [`CALENDAR`], in microseconds.
pub(super) const LONGEST_US: u64 = 315_569_519_999_999_999;

/// The Unix epoch. Unlike a `Timestamp`, which must have a local time in every zone, a `DateTime` reaches the end of 9999.
const EPOCH: DateTime = DateTime::constant(1970, 1, 1, 0, 0, 0, 0);

/// Returns a time as records show it: RFC 3339, UTC, microseconds. A time beyond [`CALENDAR`] becomes its first or last.
#[must_use]
pub fn rfc3339(unix_us: i64) -> String {
    // A clock beyond these years is broken; its records stay readable.
    let unix_us = unix_us.clamp(*CALENDAR.start(), *CALENDAR.end());
    format!("{:.6}Z", EPOCH.saturating_add(SignedDuration::from_micros(unix_us)))
}

/// Reads a time from its JSON text: epoch seconds, or RFC 3339 in a string.
///
/// mosquitto 1.6 prints bare epoch seconds, 2.0.0 to 2.0.12 local time with a `Z` too many before the offset, later
/// versions an offset without a colon. `None` for any other text, or a time beyond [`CALENDAR`].
pub(super) fn time_of(raw: &str) -> Option<i64> {
    if !raw.starts_with('"') {
        return epoch_us(raw);
    }
    let text = text_of(raw)?;
    let time = match text.find("Z+").or_else(|| text.find("Z-")) {
        Some(z) => rfc3339_us(&format!("{}{}", &text[..z], &text[z + 1..])),
        None => rfc3339_us(&text),
    };
    match time {
        Some(us) => Some(us).filter(|us| CALENDAR.contains(us)),
        // Templates of `mosquitto_sub -F` put epoch seconds between quotes.
        None => epoch_us(&text),
    }
}

/// Reads RFC 3339 as microseconds since the Unix epoch.
pub(super) fn rfc3339_us(text: &str) -> Option<i64> {
    if let Ok(time) = text.parse::<Timestamp>() {
        return Some(time.as_microsecond());
    }
    let last_days: DateTime =
        text.strip_suffix('Z').filter(|text| text.starts_with("9999-12-3"))?.parse().ok()?;
    i64::try_from(last_days.duration_since(EPOCH).as_micros()).ok()
}

/// Reads epoch seconds, rounded down to microseconds; `None` for a text that is not a number, or a time beyond
/// [`CALENDAR`].
pub(super) fn epoch_us(text: &str) -> Option<i64> {
    let (us, _) = scaled(text, 6)?;
    i64::try_from(us).ok().filter(|us| CALENDAR.contains(us))
}

/// Reads seconds, on either side of 0, rounded to the nearest microsecond.
pub(super) fn span_us(text: &str) -> Option<i64> {
    let (tenths, _) = scaled(text, 7)?;
    i64::try_from((tenths + 5).div_euclid(10)).ok().filter(|us| us.unsigned_abs() <= LONGEST_US)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_have_microseconds_and_stay_within_the_calendar() {
        for (unix_us, expected) in [
            (0, "1970-01-01T00:00:00.000000Z"),
            (951_782_400_000_001, "2000-02-29T00:00:00.000001Z"),
            (-62_135_596_800_000_000, "0001-01-01T00:00:00.000000Z"),
            (1_795_332_120_123_456, "2026-11-22T07:22:00.123456Z"),
            (i64::MAX, "9999-12-31T23:59:59.999999Z"),
            (i64::MIN, "0000-01-01T00:00:00.000000Z"),
        ] {
            assert_eq!(rfc3339(unix_us), expected);
            let within = unix_us.clamp(*CALENDAR.start(), *CALENDAR.end());
            assert_eq!(time_of(&format!("\"{expected}\"")), Some(within));
        }
    }

    #[test]
    fn epoch_seconds_are_exact_in_every_notation() {
        for (text, expected) in [
            ("1714550400", 1_714_550_400_000_000),
            ("1714550400.123", 1_714_550_400_123_000),
            ("1.714550400123E9", 1_714_550_400_123_000),
            ("1.7145504005e+09", 1_714_550_400_500_000),
            ("1714550400123e-3", 1_714_550_400_123_000),
            ("1.7E9", 1_700_000_000_000_000),
            ("0.0000019", 1),
            ("-1.5", -1_500_000),
            ("-0.0000001", -1),
            ("-0.0", 0),
            ("0e99999999999999999999", 0),
            ("1e-99999999999999999999", 0),
            ("253402300799.9999999", 253_402_300_799_999_999),
        ] {
            assert_eq!(epoch_us(text), Some(expected), "{text}");
        }
        for text in [
            "",
            "-",
            ".5",
            "1.",
            "1e",
            "1e+",
            "e9",
            "+1",
            "1.5.5",
            "1 ",
            "0x10",
            "inf",
            "NaN",
            "1_000",
            "1714550400123",
            "253402300800",
            "1e12",
            "1e99999999999999999999",
            "-62167219201",
            "٣",
        ] {
            assert_eq!(epoch_us(text), None, "{text}");
        }
    }

    #[test]
    fn spans_are_rounded_to_the_nearest_microsecond() {
        assert_eq!(span_us("0.9999997615814209"), Some(1_000_000));
        assert_eq!((span_us("-2.5"), span_us("1e13"), span_us("nan")), (Some(-2_500_000), None, None));
    }
}
