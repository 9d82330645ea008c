//! Values of data points: checks them before they are sent, reads received ones, and parses those of a command line.
//!
//! Everything works on JSON text: a report's value is never parsed into a tree.

#[cfg(test)]
mod tests;

use std::{borrow::Cow, fmt};

use super::{DataPoint, DataType};
use crate::{
    json::{Json, text_of},
    tuya::ResultCode,
};

/// How values are written on the wire.
///
/// The page's field table says "Refer to the DP type", its samples show a string for an integer; vendor code
/// sends native JSON types.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub enum ValueEncoding {
    /// A bool as `true`, a value or bitmap as an integer, everything else as a string.
    #[default]
    Native,
    /// Every value as a JSON string: `"true"`, `"12345"`.
    String,
}

/// The reason why a value is invalid for a data point.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ValueError {
    /// The code that an answer carries: 1103 type, 1101 range, 1102 null, 2002 no such enumeration value.
    pub code: ResultCode,
    /// The reason, naming the data point and the value.
    pub message: String,
}

impl fmt::Display for ValueError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.message)
    }
}

impl std::error::Error for ValueError {}

/// A valid value.
enum Fit {
    Bool(bool),
    Integer(i64),
    Text,
}

impl DataPoint {
    /// Checks a value given as JSON, and returns it in the encoding of the wire.
    ///
    /// An integer is digits with or without a minus sign: `1.0` and `1e3` are of the wrong type (1103), because the edge
    /// stores an int64. A bitmap may also be an array of its labels. With [`ValueEncoding::String`] the value may already be
    /// a string.
    pub fn check(&self, json: &str, encoding: ValueEncoding) -> Result<Json, ValueError> {
        let fit = self.fit(json, encoding == ValueEncoding::String)?;
        Ok(match (encoding, fit) {
            (_, Fit::Text) => Json::parse(json).map_err(|_| self.type_error(json))?,
            (ValueEncoding::Native, Fit::Integer(number)) => Json::integer(number),
            (ValueEncoding::Native, Fit::Bool(on)) => Json::flag(on),
            (ValueEncoding::String, Fit::Bool(on)) => Json::string(if on { "true" } else { "false" }),
            (ValueEncoding::String, Fit::Integer(number)) => Json::string(&number.to_string()),
        })
    }

    /// Reads a received value in any encoding that edges are known to use, and returns its native form.
    ///
    /// A bool may also be `1`, `0`, `"1"`, `"0"`, `"true"` or `"false"`, an integer also `"10"`.
    pub fn accept(&self, value: &Json) -> Result<Json, ValueError> {
        Ok(match self.fit(value.get(), true)? {
            Fit::Bool(on) => Json::flag(on),
            Fit::Integer(number) => Json::integer(number),
            Fit::Text => value.clone(),
        })
    }

    /// Checks that [`DataPoint::accept`] can read a value, given as JSON text.
    pub fn validate(&self, json: &str) -> Result<(), ValueError> {
        self.fit(json, true).map(drop)
    }

    /// Parses a value of a command line. Returns JSON, which [`DataPoint::check`] must check.
    ///
    /// For a string, enum or raw data point the text is the value. For other types it is JSON; an integer may also be a number
    /// with its unit, such as `12.345m3`, which is multiplied by the scale to 12345. A remainder is refused, and so is a unit
    /// other than the data point's.
    pub fn from_text(&self, text: &str) -> Result<Json, ValueError> {
        if matches!(self.kind, DataType::String { .. } | DataType::Enum { .. } | DataType::Raw { .. }) {
            return Ok(Json::string(text));
        }
        let text = text.trim();
        if let Ok(json) = Json::parse(text) {
            return Ok(json);
        }
        if let DataType::Value { scale, .. } = self.kind {
            return self.scaled(text, scale).map(Json::integer);
        }
        Err(self.type_error(text))
    }

    /// Returns a warning about a valid value that is probably wrong: a percentage outside 0 to 100.
    #[must_use]
    pub fn suspicious(&self, value: &Json) -> Option<String> {
        let DataType::Value { scale, .. } = self.kind else { return None };
        if self.unit.as_deref() != Some("%") {
            return None;
        }
        let Ok(Fit::Integer(number)) = self.fit(value.get(), true) else { return None };
        let whole = 10_i64.checked_pow(scale).and_then(|one| one.checked_mul(100))?;
        (number < 0 || number > whole).then(|| {
            format!("{} is a percentage, and {} lies outside 0 to 100 %", self.label(), self.shown(number))
        })
    }

    /// The data point's name in messages.
    #[must_use]
    pub fn label(&self) -> String {
        format!("DP {} {}", self.id, self.code)
    }

    /// Formats an integer for display: scaled, and with its unit.
    #[must_use]
    pub fn shown(&self, number: i64) -> String {
        let DataType::Value { scale, .. } = self.kind else { return number.to_string() };
        let mut text = decimal(number, scale);
        if let Some(unit) = &self.unit {
            text.push(' ');
            text.push_str(unit);
        }
        text
    }

    /// An integer within the limits, for examples.
    #[must_use]
    pub fn sample(&self) -> i64 {
        let DataType::Value { min, max, scale, .. } = self.kind else { return 12345 };
        let whole = if self.unit.as_deref() == Some("%") { 10_i64.checked_pow(scale) } else { None };
        let hundred = whole.and_then(|one| one.checked_mul(100)).unwrap_or(i64::MAX);
        let max = max.unwrap_or(i64::MAX).min(hundred);
        let allowed = min.unwrap_or(i64::MIN)..=max;
        [12345, 1234, 125, 50, 12, 1].into_iter().find(|number| allowed.contains(number)).unwrap_or(max)
    }

    fn fit(&self, json: &str, tolerant: bool) -> Result<Fit, ValueError> {
        if json == "null" {
            return Err(self.error(ResultCode::PARAM_NULL, "the value is null"));
        }
        match &self.kind {
            DataType::Bool => match json {
                "true" => Ok(Fit::Bool(true)),
                "false" => Ok(Fit::Bool(false)),
                "1" | "\"1\"" | "\"true\"" if tolerant => Ok(Fit::Bool(true)),
                "0" | "\"0\"" | "\"false\"" if tolerant => Ok(Fit::Bool(false)),
                _ => Err(self.type_error(json)),
            },
            &DataType::Value { min, max, .. } => {
                let number = self.integer(json, tolerant)?;
                if min.is_some_and(|min| number < min) || max.is_some_and(|max| number > max) {
                    return Err(self.range_error(json));
                }
                Ok(Fit::Integer(number))
            }
            DataType::Bitmap { labels, maxlen } => {
                let number = if json.starts_with('[') {
                    self.faults(json, labels)?
                } else {
                    self.integer(json, tolerant)?
                };
                if number < 0 || number > greatest_set(labels, *maxlen) {
                    return Err(self.range_error(json));
                }
                Ok(Fit::Integer(number))
            }
            DataType::Enum { range } => {
                let text = text_of(json).ok_or_else(|| self.type_error(json))?;
                if !range.is_empty() && !range.iter().any(|known| *known == text) {
                    let known = range.join(", ");
                    let reason = format!("expected one of {known}; got {}", excerpt(json));
                    return Err(self.error(ResultCode::NOT_SUPPORTED, &reason));
                }
                Ok(Fit::Text)
            }
            &DataType::String { maxlen } => {
                let text = text_of(json).ok_or_else(|| self.type_error(json))?;
                self.fit_length(text.len(), maxlen)
            }
            &DataType::Raw { maxlen } => {
                let text = text_of(json).ok_or_else(|| self.type_error(json))?;
                self.fit_length(base64_length(&text).unwrap_or(text.len()), maxlen)
            }
        }
    }

    /// Parses JSON text as an integer.
    fn integer(&self, json: &str, tolerant: bool) -> Result<i64, ValueError> {
        let quoted =
            if tolerant { json.strip_prefix('"').and_then(|rest| rest.strip_suffix('"')) } else { None };
        let text = quoted.unwrap_or(json);
        let digits = text.strip_prefix('-').unwrap_or(text);
        if digits.is_empty() || !digits.bytes().all(|byte| byte.is_ascii_digit()) {
            return Err(self.type_error(json));
        }
        // Digits that do not fit an i64 are out of range.
        text.parse().map_err(|_| self.range_error(json))
    }

    /// Returns the bits of an array of fault labels.
    fn faults(&self, json: &str, labels: &[String]) -> Result<i64, ValueError> {
        let named: Vec<String> = serde_json::from_str(json).map_err(|_| self.type_error(json))?;
        named.iter().try_fold(0, |bits, name| {
            let bit = labels.iter().take(63).position(|label| label == name).ok_or_else(|| {
                let known = if labels.is_empty() { "unknown".to_owned() } else { labels.join(", ") };
                let reason = format!("there is no fault {name:?}; the labels are {known}");
                self.error(ResultCode::NOT_SUPPORTED, &reason)
            })?;
            Ok(bits | 1 << bit)
        })
    }

    fn fit_length(&self, length: usize, maxlen: Option<u32>) -> Result<Fit, ValueError> {
        match maxlen {
            Some(maxlen) if length > maxlen as usize => {
                let reason = format!("{length} bytes are more than {maxlen}");
                Err(self.error(ResultCode::PARAM_RANGE, &reason))
            }
            _ => Ok(Fit::Text),
        }
    }

    /// Converts a decimal number with a unit to the scaled integer.
    fn scaled(&self, text: &str, scale: u32) -> Result<i64, ValueError> {
        let end = text.find(|c: char| !matches!(c, '0'..='9' | '.' | '-')).unwrap_or(text.len());
        let (number, unit) = (&text[..end], text[end..].trim());
        let (negative, digits) = number.strip_prefix('-').map_or((false, number), |rest| (true, rest));
        let (whole, fraction) = digits.split_once('.').unwrap_or((digits, "0"));
        let all_digits = |part: &str| !part.is_empty() && part.bytes().all(|byte| byte.is_ascii_digit());
        if unit.strip_prefix(',').is_some_and(|rest| rest.starts_with(|c: char| c.is_ascii_digit())) {
            let is_decimal = !text.contains('.') && text.matches(',').count() == 1;
            let instead = if is_decimal { format!(", {}", text.replace(',', ".")) } else { String::new() };
            let reason = format!(
                "{} has a comma; the decimal sign is a point{instead}, and nothing stands between thousands",
                excerpt(text)
            );
            return Err(self.error(ResultCode::PARAM_TYPE, &reason));
        }
        if !all_digits(whole) || !all_digits(fraction) || unit.is_empty() {
            return Err(self.type_error(text));
        }
        let own = self.unit.as_deref().unwrap_or_default();
        if plain_unit(unit) != plain_unit(own) {
            let wanted = if own.is_empty() {
                "an integer without a unit".to_owned()
            } else {
                format!("a number in {own}, such as {}", self.shown(self.sample()))
            };
            return Err(self.error(ResultCode::PARAM_TYPE, &format!("{} is not {wanted}", excerpt(text))));
        }
        let fraction = fraction.trim_end_matches('0');
        let missing = (scale as usize).checked_sub(fraction.len()).ok_or_else(|| {
            let reason = format!("{} has more than the {scale} decimal places of its scale", excerpt(text));
            self.error(ResultCode::PARAM_RANGE, &reason)
        })?;
        let sign = if negative { "-" } else { "" };
        format!("{sign}{whole}{fraction}{}", "0".repeat(missing)).parse().map_err(|_| self.range_error(text))
    }

    fn error(&self, code: ResultCode, reason: &str) -> ValueError {
        ValueError { code, message: format!("{}: {reason}", self.label()) }
    }

    fn type_error(&self, json: &str) -> ValueError {
        let wanted = match &self.kind {
            DataType::Bool => "a bool, true or false".to_owned(),
            DataType::Value { scale: 0, .. } => "a whole number without fraction or exponent".to_owned(),
            DataType::Value { scale, .. } => {
                let number = self.sample();
                let sample = self.shown(number);
                format!(
                    "a whole number without fraction or exponent, and its scale is {scale}: {sample} is {number}"
                )
            }
            DataType::Enum { .. } => "a string of the enumeration".to_owned(),
            DataType::String { .. } => "a string".to_owned(),
            DataType::Raw { .. } => "a string, mostly base64".to_owned(),
            DataType::Bitmap { .. } => {
                "an integer with one bit for each fault, or an array of labels".to_owned()
            }
        };
        self.error(ResultCode::PARAM_TYPE, &format!("{} is not {wanted}", excerpt(json)))
    }

    fn range_error(&self, json: &str) -> ValueError {
        let (min, max) = match &self.kind {
            DataType::Value { min, max, .. } => (min.unwrap_or(i64::MIN), max.unwrap_or(i64::MAX)),
            DataType::Bitmap { labels, maxlen } => (0, greatest_set(labels, *maxlen)),
            DataType::Bool | DataType::Enum { .. } | DataType::String { .. } | DataType::Raw { .. } => {
                (i64::MIN, i64::MAX)
            }
        };
        self.error(ResultCode::PARAM_RANGE, &format!("{} lies outside {min} to {max}", excerpt(json)))
    }
}

/// Returns the integer with all defined bits set; with 30 bits if the model defines none, as in the vendor's driver SDK.
fn greatest_set(labels: &[String], maxlen: Option<u32>) -> i64 {
    let bits = match (labels.len(), maxlen) {
        (0, None) => 30,
        (0, Some(maxlen)) => maxlen,
        (known, _) => u32::try_from(known).unwrap_or(u32::MAX),
    };
    1_i64.checked_shl(bits).filter(|_| bits < 63).map_or(i64::MAX, |above| above - 1)
}

/// Returns the number of bytes that a base64 text encodes; `None` if it is not base64.
fn base64_length(text: &str) -> Option<usize> {
    let digits = text.trim_end_matches('=');
    let padding = text.len() - digits.len();
    let is_digit = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'+' | b'/');
    (text.len().is_multiple_of(4) && padding <= 2 && digits.bytes().all(is_digit))
        .then(|| text.len() / 4 * 3 - padding)
}

/// Rewrites a unit in characters of a keyboard.
fn plain_unit(unit: &str) -> String {
    let mut plain = String::with_capacity(unit.len());
    for c in unit.chars() {
        match c {
            '㎥' => plain.push_str("m3"),
            '㎡' => plain.push_str("m2"),
            '³' => plain.push('3'),
            '²' => plain.push('2'),
            '℃' => plain.push('C'),
            '℉' => plain.push('F'),
            '％' => plain.push('%'),
            'µ' | 'μ' => plain.push('u'),
            '\u{2126}' | '\u{3a9}' => plain.push_str("ohm"),
            '°' | '·' | '^' | ' ' => {}
            other => plain.push(other),
        }
    }
    plain
}

/// Formats a scaled integer as a decimal number.
fn decimal(number: i64, scale: u32) -> String {
    if scale == 0 {
        return number.to_string();
    }
    let places = scale as usize;
    let digits = format!("{:0>width$}", number.unsigned_abs(), width = places + 1);
    let (whole, fraction) = digits.split_at(digits.len() - places);
    format!("{}{whole}.{fraction}", if number < 0 { "-" } else { "" })
}

/// The beginning of a value for a message; empty text becomes `""`.
pub(super) fn excerpt(json: &str) -> Cow<'_, str> {
    match json.char_indices().nth(60) {
        Some((end, _)) => Cow::Owned(format!("{}…", &json[..end])),
        None if json.is_empty() => Cow::Borrowed("\"\""),
        None => Cow::Borrowed(json),
    }
}
