//! Reads whole numbers and ranges in prose.

/// Reads the two ends of `0 to 100`, `-100-100`, `0~1,000` or `0 and 5`; returns them and the length of that text.
pub(super) fn span(text: &str) -> Option<(i64, i64, usize)> {
    // A comma is between thousands, unless that makes no range.
    span_with(text, true).or_else(|| span_with(text, false))
}

fn span_with(text: &str, grouped: bool) -> Option<(i64, i64, usize)> {
    const UNITS: [&str; 5] = ["%", "℃", "°c", "℉", "°f"];
    const TO: [&str; 14] =
        ["to ", "through ", "and ", "~", "～", "–", "—", "…", "...", "..", "-", "−", "至", ","];
    let (min, end) = digits(text, grouped)?;
    let mut rest = text[end..].trim_start();
    let unit =
        UNITS.iter().find(|unit| rest.get(..unit.len()).is_some_and(|head| head.eq_ignore_ascii_case(unit)));
    rest = unit.map_or(rest, |unit| rest[unit.len()..].trim_start());
    let rest = TO.iter().find_map(|word| rest.strip_prefix(word))?.trim_start();
    let (max, length) = digits(rest, grouped)?;
    Some((min, max, text.len() - rest.len() + length))
}

/// Reads the whole number at the beginning of a text; returns it and its length.
pub(super) fn number(text: &str) -> Option<(i64, usize)> {
    digits(text, true)
}

fn digits(text: &str, grouped: bool) -> Option<(i64, usize)> {
    let signed = ["-", "−", "+"].into_iter().find(|sign| text.starts_with(sign)).unwrap_or_default();
    let rest = &text[signed.len()..];
    let run = |text: &str| text.bytes().take_while(u8::is_ascii_digit).count();
    let mut length = run(rest);
    // 1,000 is one number; no group of thousands begins with 0.
    if grouped && (1..=3).contains(&length) && !rest.starts_with('0') {
        while rest[length..].starts_with(',') && run(&rest[length + 1..]) == 3 {
            length += 4;
        }
    }
    let behind = &rest[length..];
    // A fraction is not a whole number.
    if behind.starts_with('.') && behind[1..].starts_with(|c: char| c.is_ascii_digit()) {
        return None;
    }
    let sign = if matches!(signed, "-" | "−") { "-" } else { "" };
    let number = format!("{sign}{}", rest[..length].replace(',', "")).parse().ok()?;
    Some((number, signed.len() + length))
}
