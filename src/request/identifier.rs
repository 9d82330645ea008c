//! Ids that a spreadsheet or a copy has damaged. Each of them is a valid string, so the edge would take it for another
//! device.

use crate::text::{is_blank, is_invisible, visible};

/// Refuses a damaged id; `name` is its field.
///
/// # Errors
/// Spaces around it, invisible characters, a number in scientific notation, or a spreadsheet's error value.
pub fn check(name: &str, text: &str) -> Result<(), String> {
    if text.starts_with(is_blank) || text.ends_with(is_blank) {
        return Err(format!("{name} {} has a space, or an invisible character, at its end", shown(text)));
    }
    if !text.is_ascii() && text.contains(is_invisible) {
        return Err(format!("{name} {} has an invisible character in it", shown(text)));
    }
    if is_shortened(text) {
        return Err(format!(
            "{name} {text} is a long number that a spreadsheet has shortened: make its column text, and enter the \
             whole number again"
        ));
    }
    check_cell(name, text)
}

/// Refuses what a spreadsheet writes in place of a value.
///
/// # Errors
/// An error value such as `#N/A`, or the marks of a column that is too narrow.
pub fn check_cell(name: &str, text: &str) -> Result<(), String> {
    if is_error(text) {
        return Err(format!("{name} {text} is an error of the spreadsheet, not a value"));
    }
    Ok(())
}

/// Shows the ends of a text, and what cannot be seen in it.
fn shown(text: &str) -> String {
    let escape = |c: char| match c {
        ' ' => " ".to_owned(),
        c if is_blank(c) => c.escape_unicode().to_string(),
        c => visible(c.encode_utf8(&mut [0; 4])).into_owned(),
    };
    format!("\"{}\"", text.chars().map(escape).collect::<String>())
}

/// Whether a text is `8.66123E+14`: digits, maybe a fraction, an exponent with its plus sign.
fn is_shortened(text: &str) -> bool {
    let digits = |text: &str| !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit());
    let Some((number, exponent)) = text.split_once(['E', 'e']) else { return false };
    let number = number.strip_prefix('-').unwrap_or(number);
    // A comma is the decimal sign where semicolons separate columns.
    let (whole, fraction) = number.split_once(['.', ',']).unwrap_or((number, "0"));
    digits(whole) && digits(fraction) && exponent.strip_prefix('+').is_some_and(digits)
}

/// Whether a text is an error value of Excel, LibreOffice or Google Sheets, in any of their languages.
fn is_error(text: &str) -> bool {
    if let Some(number) = text.strip_prefix("Err:") {
        return !number.is_empty() && number.bytes().all(|byte| byte.is_ascii_digit());
    }
    let Some(word) = text.strip_prefix('#') else { return false };
    if word.len() > 1 && word.bytes().all(|byte| byte == b'#') {
        return true;
    }
    if matches!(word, "N/A" | "N/V" | "N/D" | "NV" | "ND" | "N/A N/A" | "GETTING_DATA") {
        return true;
    }
    let is_letter =
        |c: char| c.is_uppercase() || c.is_ascii_digit() || matches!(c, '/' | '_' | ' ' | '¡' | '¿');
    word.strip_suffix(['!', '?']).is_some_and(|name| name.chars().count() > 1 && name.chars().all(is_letter))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn damaged_ids_are_refused_and_the_reason_shows_the_damage() {
        for (text, part) in [
            (" m1", "\" m1\" has a space"),
            ("m1\t", "\\u{9}"),
            ("m1\r", "\\u{d}"),
            ("\u{a0}m1", "\\u{a0}"),
            ("m1\u{200b}", "\\u{200b}"),
            ("\u{feff}m1", "\\u{feff}"),
            ("\u{3000}m1", "\\u{3000}"),
            ("m\u{200b}1", "has an invisible character in it"),
            ("\u{202a}m1\u{202c}", "\\u{202a}"),
            (" ", "space"),
            ("8.66123E+14", "shortened"),
            ("8E+14", "shortened"),
            ("8,66123E+14", "shortened"),
            ("-1.5E+20", "shortened"),
            ("8.66123e+14", "shortened"),
            ("#N/A", "error of the spreadsheet"),
            ("#REF!", "error of the spreadsheet"),
            ("#NAME?", "error of the spreadsheet"),
            ("#DIV/0!", "error of the spreadsheet"),
            ("#ÜBERLAUF!", "error of the spreadsheet"),
            ("#NV", "error of the spreadsheet"),
            ("Err:508", "error of the spreadsheet"),
            ("########", "error of the spreadsheet"),
        ] {
            let why = check("cid", text).unwrap_err();
            assert!(why.starts_with("cid ") && why.contains(part), "{text:?}: {why}");
        }
    }

    #[test]
    fn ids_that_only_look_alike_are_taken() {
        for text in [
            "m1",
            "866123000000001",
            "1E10",
            "8.66E14",
            "12E34",
            "E+14",
            "8.66E+",
            "8.E+14",
            "1.2.3E+4",
            "x8E+14",
            "8E+14x",
            "12E3+4",
            "#1",
            "#",
            "#a!",
            "#!",
            "meter 1",
            "Err:",
            "Err:x",
            "水表",
            "a\u{200d}b",
        ] {
            assert_eq!(check("cid", text), Ok(()), "{text:?}");
        }
    }
}
