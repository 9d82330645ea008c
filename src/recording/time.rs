//! Wall-clock times of recordings: microseconds since the Unix epoch, and RFC 3339 in UTC.

use std::ops::RangeInclusive;

use jiff::Timestamp;

use super::decimal::scaled;
use crate::json::text_of;

/// The years 0 to 9999, which RFC 3339 can write, in microseconds since the Unix epoch.
pub(super) const CALENDAR: RangeInclusive<i64> = -62_167_219_200_000_000..=253_402_300_799_999_999;

/// The longest time within [`CALENDAR`], in microseconds.
pub(super) const LONGEST_US: u64 = 315_569_519_999_999_999;

/// Returns a time as records show it: RFC 3339, UTC, microseconds. A time beyond [`CALENDAR`] becomes its first or last.
#[must_use]
pub fn rfc3339(unix_us: i64) -> String {
    String::from_utf8_lossy(&rfc3339_bytes(unix_us)).into_owned()
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
    let time: Result<Timestamp, _> = match text.find("Z+").or_else(|| text.find("Z-")) {
        Some(z) => format!("{}{}", &text[..z], &text[z + 1..]).parse(),
        None => text.parse(),
    };
    match time {
        Ok(time) => Some(time.as_microsecond()).filter(|us| CALENDAR.contains(us)),
        // Templates of `mosquitto_sub -F` put epoch seconds between quotes.
        Err(_) => epoch_us(&text),
    }
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

pub(super) fn rfc3339_bytes(unix_us: i64) -> [u8; 27] {
    const DAY: i64 = 86_400_000_000;
    // A clock beyond the years 0 to 9999 is a broken clock; the line stays readable.
    let unix_us = unix_us.clamp(*CALENDAR.start(), *CALENDAR.end());
    let (days, us) = (unix_us.div_euclid(DAY), unix_us.rem_euclid(DAY));
    // The proleptic Gregorian calendar, in years that begin in March, so that the leap day comes last.
    let since_march_0000 = days + 719_468;
    let (era, day) = (since_march_0000.div_euclid(146_097), since_march_0000.rem_euclid(146_097));
    let year = (day - day / 1_460 + day / 36_524 - day / 146_096) / 365;
    let day = day - (365 * year + year / 4 - year / 100);
    let month = (5 * day + 2) / 153;
    let day = day - (153 * month + 2) / 5 + 1;
    let (year, month) = (era * 400 + year + month / 10, (month + 2) % 12 + 1);
    let mut text = *b"0000-00-00T00:00:00.000000Z";
    let seconds = us / 1_000_000;
    put_digits(&mut text[..4], year);
    put_digits(&mut text[5..7], month);
    put_digits(&mut text[8..10], day);
    put_digits(&mut text[11..13], seconds / 3_600);
    put_digits(&mut text[14..16], seconds / 60 % 60);
    put_digits(&mut text[17..19], seconds % 60);
    put_digits(&mut text[20..26], us % 1_000_000);
    text
}

/// Writes a number with leading zeros, two digits at a time.
fn put_digits(text: &mut [u8], number: i64) {
    let mut number = u32::try_from(number).unwrap_or_default();
    for pair in text.as_rchunks_mut::<2>().1.iter_mut().rev() {
        let low = u8::try_from(number % 100).unwrap_or_default();
        number /= 100;
        *pair = [b'0' + low / 10, b'0' + low % 10];
    }
}

/// The microseconds since 1970 of a time in UTC with microseconds, such as `2026-11-22T07:22:00.123456Z`.
pub(super) fn unix_us(text: &str) -> Option<i64> {
    let text: &[u8; 27] = text.as_bytes().try_into().ok()?;
    let marks = [(4, b'-'), (7, b'-'), (10, b'T'), (13, b':'), (16, b':'), (19, b'.'), (26, b'Z')];
    if marks.iter().any(|(at, mark)| text[*at] != *mark) {
        return None;
    }
    let number = |start: usize, end: usize| {
        text[start..end]
            .iter()
            .try_fold(0, |number, byte| byte.is_ascii_digit().then(|| number * 10 + i64::from(byte - b'0')))
    };
    let (year, month, day) = (number(0, 4)?, number(5, 7)?, number(8, 10)?);
    let (hour, minute, second, us) = (number(11, 13)?, number(14, 16)?, number(17, 19)?, number(20, 26)?);
    let is_leap = year % 4 == 0 && (year % 100 != 0 || year % 400 == 0);
    let length = match month {
        2 => 28 + i64::from(is_leap),
        4 | 6 | 9 | 11 => 30,
        1..=12 => 31,
        _ => return None,
    };
    // A leap second is left to those who know what to make of it.
    if !(1..=length).contains(&day) || hour > 23 || minute > 59 || second > 59 {
        return None;
    }
    // The proleptic Gregorian calendar, in years that begin in March, so that the leap day comes last.
    let (year, month) = if month > 2 { (year, month - 3) } else { (year - 1, month + 9) };
    let days = year * 365 + year.div_euclid(4) - year.div_euclid(100) + year.div_euclid(400);
    let days = days + (153 * month + 2) / 5 + day - 1 - 719_468;
    Some((((days * 24 + hour) * 60 + minute) * 60 + second) * 1_000_000 + us)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_are_read_as_jiff_reads_them() {
        let day = 86_400_000_000_i64;
        // Some days of all years, and every one of the year 2000, which is a leap year after all.
        for n in (-719_528..2_932_896_i64).step_by(53).chain(10_957..11_323) {
            let expected = n * day + n.rem_euclid(day / 1_000_003) * 1_000_003;
            let text = format!("{:.6}", Timestamp::from_microsecond(expected).unwrap());
            assert_eq!(unix_us(&text), Some(expected), "{text}");
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
            if let Some(found) = unix_us(&text) {
                times += 1;
                assert_eq!(text.parse().map(Timestamp::as_microsecond).ok(), Some(found), "{text}");
            }
        }
        assert!(times > 50_000, "{times}");
    }

    #[test]
    fn times_are_written_as_jiff_writes_them() {
        let day = 86_400_000_000_i64;
        // Every 97th day and an odd time of it, over all years that the format can show.
        for n in (-719_528..2_932_896_i64).step_by(97) {
            let unix_us = n * day + n.rem_euclid(day / 1_000_003) * 1_000_003;
            let expected = format!("{:.6}", Timestamp::from_microsecond(unix_us).unwrap());
            assert_eq!(rfc3339(unix_us), expected, "{unix_us}");
        }
        for (unix_us, expected) in
            [(i64::MAX, "9999-12-31T23:59:59.999999Z"), (i64::MIN, "0000-01-01T00:00:00.000000Z")]
        {
            assert_eq!(rfc3339(unix_us), expected);
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
