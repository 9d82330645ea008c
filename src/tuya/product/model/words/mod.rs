//! Limits in words, as the documentation's tables have them: `Value range: 0 to 100. Pitch: 1. Unit: %`, or
//! `The value ranges from 0 to 1,000, with a pitch of 1 and a scale of 0`.
//!
//! A text without a recognised part is an error, because a data point without limits accepts every value.

mod labels;
mod lists;
mod numbers;
#[cfg(test)]
mod tests;

use std::ops::Range;

use self::{
    labels::{Label, LabelMatch, labels},
    lists::{after_include, list, sentence, symbol, unit_length, words},
    numbers::{number, span},
};
use super::limits::{ValueLimits, plain_type};

/// The limits that a property's text describes.
#[derive(Debug, Default)]
pub(super) struct DescribedLimits {
    pub limits: ValueLimits,
    pub unit: Option<String>,
}

/// Words that mean that there is no limit.
const NOTHING: [&str; 8] = ["", "/", "-", "–", "—", "--", "none", "n/a"];

impl DescribedLimits {
    /// Reads the text for a data point of this type.
    ///
    /// # Errors
    /// An invalid value behind a label, or a text without a recognised part for a type with limits.
    pub(super) fn read(text: &str, type_name: &str) -> Result<Self, String> {
        let text = text.trim();
        let kind = plain_type(type_name);
        let mut property = Self::default();
        if Self::is_no_limit(text) || kind == "bool" {
            return Ok(property);
        }
        // The recognised places.
        let mut taken: Vec<Range<usize>> = Vec::new();
        let labels = labels(text);
        for (at, found) in labels.iter().enumerate() {
            // A label's value ends at the next label, unless that is a word of prose.
            let next =
                labels[at + 1..].iter().find(|next| next.is_strict).map_or(text.len(), |next| next.start);
            let said = &text[found.begin.min(next)..next];
            if let Some(length) = property.take(found, said, kind)? {
                taken.push(found.start..found.begin + length);
            }
        }
        property.read_unlabelled(text, kind, &mut taken);
        property.check(text, kind, &taken)?;
        Ok(property)
    }

    /// Returns whether a text means that there is no limit.
    pub(super) fn is_no_limit(text: &str) -> bool {
        NOTHING.contains(&text.trim().to_ascii_lowercase().as_str())
    }

    /// Joins the limits of two columns.
    pub(super) fn add(&mut self, other: Self) -> Result<(), String> {
        let ValueLimits { min, max, scale, step, range, labels, maxlen } = other.limits;
        let own = &mut self.limits;
        for (target, number, what) in [
            (&mut own.min, min, "minima"),
            (&mut own.max, max, "maxima"),
            (&mut own.scale, scale, "scales"),
            (&mut own.step, step, "steps"),
            (&mut own.maxlen, maxlen, "lengths"),
        ] {
            number.map_or(Ok(()), |number| set(target, number, what))?;
        }
        own.range.extend(range);
        own.labels.extend(labels);
        self.unit = self.unit.take().or(other.unit);
        Ok(())
    }

    /// Reads the value of a label; returns the length of the recognised part.
    fn take(&mut self, found: &LabelMatch, said: &str, kind: &str) -> Result<Option<usize>, String> {
        let LabelMatch { label, is_strict, .. } = *found;
        let shown = sentence(said);
        let limits = &mut self.limits;
        let is_list = matches!(kind, "enum" | "bitmap");
        match label {
            Label::Range | Label::Values | Label::Faults if is_list => {
                let list = list(said);
                let values = words(list);
                // A prose sentence may have the word `values` in it.
                let is_told = is_strict || after_include(list).is_some();
                if values.is_empty() || !is_told {
                    return if is_strict { Err(format!("`{shown}` is no list of values")) } else { Ok(None) };
                }
                let target = if kind == "enum" { &mut limits.range } else { &mut limits.labels };
                if target.is_empty() {
                    *target = values;
                }
                Ok(Some(list.len()))
            }
            Label::Range | Label::Values => match span(said) {
                Some((min, max, length)) if kind == "value" => {
                    set(&mut limits.min, min, "minima")?;
                    set(&mut limits.max, max, "maxima")?;
                    self.read_unit_after(&said[length..]);
                    Ok(Some(length))
                }
                None if is_strict && kind == "value" => {
                    Err(format!("`{shown}` is no range such as 0 to 100"))
                }
                Some(_) | None => Ok(None),
            },
            Label::Length => {
                let length = span(said).map(|(_, max, length)| (max, length)).or_else(|| number(said));
                match length {
                    Some((length, end)) => {
                        set(&mut limits.maxlen, length, "lengths")?;
                        Ok(Some(end))
                    }
                    None if is_strict => Err(format!("`{shown}` is no length such as 64")),
                    None => Ok(None),
                }
            }
            Label::Min | Label::Max | Label::Step | Label::Scale if kind == "value" => {
                let (target, what) = match label {
                    Label::Min => (&mut limits.min, "minima"),
                    Label::Max => (&mut limits.max, "maxima"),
                    Label::Step => (&mut limits.step, "steps"),
                    _ => (&mut limits.scale, "scales"),
                };
                match number(said) {
                    Some((number, length)) => {
                        set(target, number, what)?;
                        Ok(Some(length))
                    }
                    None if is_strict && !NOTHING.contains(&shown) => {
                        Err(format!("`{shown}` is no whole number"))
                    }
                    None => Ok(None),
                }
            }
            Label::Unit if is_strict => {
                let length = unit_length(said);
                let unit = symbol(said[..length].trim());
                if self.unit.is_none() && !NOTHING.contains(&unit.to_ascii_lowercase().as_str()) {
                    self.unit = Some(unit.to_owned());
                }
                Ok(Some(length))
            }
            _ => Ok(None),
        }
    }

    /// Reads a text without labels, which may still be a range or a list.
    fn read_unlabelled(&mut self, text: &str, kind: &str, taken: &mut Vec<Range<usize>>) {
        let is_untaken = taken.is_empty();
        match kind {
            "value" if self.limits.min.is_none() && self.limits.max.is_none() => {
                let Some((min, max, length)) = span(text) else { return };
                (self.limits.min, self.limits.max) = (Some(min), Some(max));
                self.read_unit_after(&text[length..]);
                taken.push(0..length);
            }
            "enum" | "bitmap" if is_untaken => {
                // An unknown label is not a value either.
                let list = text.split_once([':', '：']).map_or(text, |(_, list)| list);
                let values = words(list);
                // Words with spaces between them are prose.
                if values.iter().any(|value| value.contains(char::is_whitespace)) {
                    return;
                }
                let target = if kind == "enum" { &mut self.limits.range } else { &mut self.limits.labels };
                *target = values;
                taken.push(0..text.len());
            }
            "string" | "raw" if self.limits.maxlen.is_none() => {
                let lower = text.to_ascii_lowercase();
                let Some(end) = ["byte", "char"].iter().find_map(|word| lower.find(word)) else { return };
                let before = lower[..end].trim_end();
                let digits = before.bytes().rev().take_while(u8::is_ascii_digit).count();
                if let Ok(length) = before[before.len() - digits..].parse() {
                    self.limits.maxlen = Some(length);
                    taken.push(before.len() - digits..end);
                }
            }
            _ => {}
        }
    }

    /// `0 to 100 %`: a unit directly behind a range, if no other is named.
    fn read_unit_after(&mut self, rest: &str) {
        let rest = rest.trim_start();
        let length = unit_length(rest);
        let unit = rest[..length].trim();
        let is_unit =
            |c: char| !c.is_whitespace() && !c.is_ascii_digit() && !matches!(c, '(' | ')' | '-' | '~');
        if self.unit.is_none() && (1..=6).contains(&unit.chars().count()) && unit.chars().all(is_unit) {
            self.unit = Some(unit.to_owned());
        }
    }

    /// Checks that no limit of the text was missed.
    fn check(&self, text: &str, kind: &str, taken: &[Range<usize>]) -> Result<(), String> {
        let Self { limits, .. } = self;
        let is_taken = |at: usize| taken.iter().any(|place| place.contains(&at));
        let begins_number = |at: usize| {
            text.as_bytes()[at].is_ascii_digit()
                && !is_taken(at)
                && !text[..at].ends_with(|c: char| c.is_alphanumeric() || matches!(c, '.' | ','))
        };
        let has_numbers = (0..text.len()).any(begins_number);
        let is_lost = match kind {
            "value" => taken.is_empty() || (limits.min.is_none() && limits.max.is_none() && has_numbers),
            "enum" => limits.range.is_empty(),
            "bitmap" => limits.labels.is_empty() && limits.maxlen.is_none(),
            // Most remarks on a text are no limits; those with a number and one of these words are.
            "string" | "raw" => {
                let lower = text.to_ascii_lowercase();
                let is_limit =
                    ["length", "byte", "char", "max", "limit"].iter().any(|word| lower.contains(word));
                limits.maxlen.is_none() && is_limit && has_numbers
            }
            _ => false,
        };
        if is_lost {
            let wanted = match kind {
                "value" => "Value range: 0 to 100. Pitch: 1. Scale: 0. Unit: %",
                "enum" => "Enum values: low, high",
                "bitmap" => "Fault values: low, high",
                _ => "Maximum length: 64",
            };
            return Err(format!(
                "no limits are understood in `{text}`; write them as `{wanted}`, or - for none"
            ));
        }
        Ok(())
    }
}

fn set(target: &mut Option<i64>, number: i64, what: &str) -> Result<(), String> {
    match *target {
        Some(other) if other != number => Err(format!("there are two {what}, {other} and {number}")),
        _ => {
            *target = Some(number);
            Ok(())
        }
    }
}
