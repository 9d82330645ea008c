//! Numbers of foreign recordings, read exactly: a fraction and an exponent change nothing, and a number that does not
//! fit is refused.

use std::ops::RangeInclusive;

/// The microseconds since 1970 of the years 0 to 9999, which RFC 3339 can write.
pub(super) const CALENDAR: RangeInclusive<i64> = -62_167_219_200_000_000..=253_402_300_799_999_999;

/// The longest time within [`CALENDAR`], in microseconds.
pub(super) const LONGEST_US: u64 = 315_569_519_999_999_999;

/// More digits than any of the numbers here has.
const DIGITS: usize = 30;

/// The microseconds since 1970 of epoch seconds, to the microsecond below; `None` for a text that is not a number,
/// or not a time of the calendar.
pub(super) fn epoch_us(text: &str) -> Option<i64> {
    let (us, _) = scaled(text, 6)?;
    i64::try_from(us).ok().filter(|us| CALENDAR.contains(us))
}

/// A whole number from 0; `1.0` and `6.9E1` are whole numbers.
pub(super) fn whole(text: &str) -> Option<u64> {
    let (number, is_exact) = scaled(text, 0)?;
    u64::try_from(number).ok().filter(|_| is_exact)
}

/// Seconds as the nearest microseconds, either side of 0.
pub(super) fn span_us(text: &str) -> Option<i64> {
    let (tenths, _) = scaled(text, 7)?;
    i64::try_from((tenths + 5).div_euclid(10)).ok().filter(|us| us.unsigned_abs() <= LONGEST_US)
}

/// A decimal number times ten to the power of `places`, rounded down, and whether nothing was rounded.
fn scaled(text: &str, places: i64) -> Option<(i128, bool)> {
    let (is_negative, text) = text.strip_prefix('-').map_or((false, text), |text| (true, text));
    let (mantissa, exponent) = match text.split_once(['e', 'E']) {
        None => (text, 0),
        Some((mantissa, exponent)) => (mantissa, power(exponent)?),
    };
    let (whole, fraction) = match mantissa.split_once('.') {
        None => (mantissa, ""),
        Some((_, "")) => return None,
        Some(parts) => parts,
    };
    let is_number = |digits: &str| digits.bytes().all(|byte| byte.is_ascii_digit());
    if whole.is_empty() || !is_number(whole) || !is_number(fraction) {
        return None;
    }
    let digits =
        || whole.bytes().chain(fraction.bytes()).map(|byte| byte - b'0').skip_while(|digit| *digit == 0);
    let count = digits().count();
    // How many of the digits stand in front of the point once it is moved.
    let kept = i64::try_from(count).ok()? - i64::try_from(fraction.len()).ok()? + exponent + places;
    let kept = if count == 0 { 0 } else { usize::try_from(kept.max(0)).ok()? };
    if kept > DIGITS {
        return None;
    }
    let number = digits()
        .chain(std::iter::repeat(0))
        .take(kept)
        .fold(0, |number, digit| number * 10 + i128::from(digit));
    let is_exact = digits().skip(kept).all(|digit| digit == 0);
    Some((if is_negative { -number - i128::from(!is_exact) } else { number }, is_exact))
}

fn power(text: &str) -> Option<i64> {
    let digits = text.strip_prefix(['+', '-']).unwrap_or(text);
    if digits.is_empty() || !digits.bytes().all(|byte| byte.is_ascii_digit()) {
        return None;
    }
    // Beyond that every number but 0 is too large, or rounded to nothing.
    let power: i64 = digits.parse().map_or(1 << 32, |power: i64| power.min(1 << 32));
    Some(if text.starts_with('-') { -power } else { power })
}

#[cfg(test)]
mod tests {
    use super::*;

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
    fn whole_numbers_may_have_a_point_and_an_exponent() {
        for (text, expected) in [
            ("0", Some(0)),
            ("-0", Some(0)),
            ("1.0", Some(1)),
            ("6.9E1", Some(69)),
            ("70e-1", Some(7)),
            ("18446744073709551615", Some(u64::MAX)),
            ("18446744073709551616", None),
            ("1.5", None),
            ("15e-1", None),
            ("-1", None),
            ("1e40", None),
        ] {
            assert_eq!(whole(text), expected, "{text}");
        }
        assert_eq!(span_us("0.9999997615814209"), Some(1_000_000));
        assert_eq!((span_us("-2.5"), span_us("1e13"), span_us("nan")), (Some(-2_500_000), None, None));
    }
}
