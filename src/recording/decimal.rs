//! Reads decimal numbers of other tools' recordings exactly, with a fraction and an exponent; `f64` would round packet lengths
//! and times, and accept numbers that do not fit.
//!
//! This is the only reader of such numbers, not a fast path beside another one.

/// Most digits of a number; no time and no length has as many.
const MAX_DIGITS: usize = 30;

/// Reads a whole number from 0; `1.0` and `6.9E1` are whole numbers.
pub(super) fn whole(text: &str) -> Option<u64> {
    let (number, is_exact) = scaled(text, 0)?;
    u64::try_from(number).ok().filter(|_| is_exact)
}

/// Returns a decimal number times ten to the power of `places`, rounded down, and whether that is exact.
pub(super) fn scaled(text: &str, places: i64) -> Option<(i128, bool)> {
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
    // The number of digits before the point after it has been moved.
    let kept = i64::try_from(count).ok()? - i64::try_from(fraction.len()).ok()? + exponent + places;
    let kept = if count == 0 { 0 } else { usize::try_from(kept.max(0)).ok()? };
    if kept > MAX_DIGITS {
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
    // With a larger exponent every number but 0 is too large, or is rounded to 0.
    let power: i64 = digits.parse().map_or(1 << 32, |power: i64| power.min(1 << 32));
    Some(if text.starts_with('-') { -power } else { power })
}

#[cfg(test)]
mod tests {
    use super::*;

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
    }
}
