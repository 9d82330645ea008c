//! Wall-clock times of recordings: microseconds since the Unix epoch, and RFC 3339 in UTC.
//!
//! Records have one form of time, whose digits are at fixed positions; jiff has the calendar, and reads all other forms. With
//! jiff's printer and parser for records, too, `convert` takes 1.16 times the instructions, `inspect` 1.06 times, and
//! `replay --dry-run` 1.04 times (callgrind, 20,000 records).

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

/// Returns a time as records show it: RFC 3339, UTC, microseconds. A time outside the years 0 to 9999 becomes the first or
/// last of them.
#[must_use]
pub fn rfc3339(unix_us: i64) -> String {
    write_record_time(unix_us).iter().copied().map(char::from).collect()
}

/// Writes a time as [`rfc3339`] returns it: `YYYY-MM-DDThh:mm:ss.ffffffZ`, in which each digit has a fixed position.
pub(super) fn write_record_time(unix_us: i64) -> [u8; 27] {
    // A clock beyond these years is broken; its records stay readable.
    let unix_us = unix_us.clamp(*CALENDAR.start(), *CALENDAR.end());
    let time = EPOCH.saturating_add(SignedDuration::from_micros(unix_us));
    let mut text = *b"0000-00-00T00:00:00.000000Z";
    put_digits(&mut text[..4], time.year().into());
    put_digits(&mut text[5..7], time.month().into());
    put_digits(&mut text[8..10], time.day().into());
    put_digits(&mut text[11..13], time.hour().into());
    put_digits(&mut text[14..16], time.minute().into());
    put_digits(&mut text[17..19], time.second().into());
    put_digits(&mut text[20..26], time.subsec_nanosecond() / 1000);
    text
}

/// Writes a number with leading zeros.
fn put_digits(text: &mut [u8], number: i32) {
    let mut number = number.unsigned_abs();
    for digit in text.iter_mut().rev() {
        *digit = b'0' + u8::try_from(number % 10).unwrap_or_default();
        number /= 10;
    }
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
    if let Some(us) = read_record_time(text) {
        return Some(us);
    }
    if let Ok(time) = text.parse::<Timestamp>() {
        return Some(time.as_microsecond());
    }
    let last_days: DateTime =
        text.strip_suffix('Z').filter(|text| text.starts_with("9999-12-3"))?.parse().ok()?;
    i64::try_from(last_days.duration_since(EPOCH).as_micros()).ok()
}

/// Reads a time as [`write_record_time`] writes it; `None` for any other form.
pub(super) fn read_record_time(text: &str) -> Option<i64> {
    let text: &[u8; 27] = text.as_bytes().try_into().ok()?;
    let marks = [(4, b'-'), (7, b'-'), (10, b'T'), (13, b':'), (16, b':'), (19, b'.'), (26, b'Z')];
    if marks.iter().any(|(at, mark)| text[*at] != *mark) {
        return None;
    }
    let number = |start: usize, end: usize| {
        text[start..end]
            .iter()
            .try_fold(0, |number, byte| byte.is_ascii_digit().then(|| number * 10 + i32::from(byte - b'0')))
    };
    let two = |start: usize| number(start, start + 2).and_then(|number| i8::try_from(number).ok());
    let year = number(0, 4).and_then(|year| i16::try_from(year).ok())?;
    let time =
        DateTime::new(year, two(5)?, two(8)?, two(11)?, two(14)?, two(17)?, number(20, 26)? * 1000).ok()?;
    i64::try_from(time.duration_since(EPOCH).as_micros()).ok()
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
    fn record_times_are_written_and_read_as_jiff_does() {
        let day = 86_400_000_000_i64;
        // Some days of all years, and each day of the year 2000, which is a leap year.
        for n in (-719_528..2_932_896_i64).step_by(53).chain(10_957..11_323) {
            let unix_us = n * day + n.rem_euclid(day / 1_000_003) * 1_000_003;
            let expected = format!("{:.6}", Timestamp::from_microsecond(unix_us).unwrap());
            assert_eq!(rfc3339(unix_us), expected);
            assert_eq!(read_record_time(&expected), Some(unix_us), "{expected}");
        }
        let mut random = fastrand::Rng::with_seed(3);
        let mut times = 0;
        for _ in 0..100_000 {
            let (year, month, day) = (random.u16(1890..2110), random.u8(0..14), random.u8(0..33));
            let (hour, minute, second) = (random.u8(0..26), random.u8(0..62), random.u8(0..62));
            let mut text = format!("{year:04}-{month:02}-{day:02}T{hour:02}:{minute:02}:{second:02}.000001Z");
            if random.u8(..4) == 0 {
                let at = random.usize(..text.len());
                text.replace_range(at..=at, ["-", ":", "Z", "+", " ", "9"][random.usize(..6)]);
            }
            if let Some(found) = read_record_time(&text) {
                times += 1;
                assert_eq!(text.parse().map(Timestamp::as_microsecond).ok(), Some(found), "{text}");
            }
        }
        assert!(times > 50_000, "{times}");
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
