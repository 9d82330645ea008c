//! Limits in words, as the documentation's tables have them: `Value range: 0 to 100. Pitch: 1. Unit: %`, or
//! `The value ranges from 0 to 1,000, with a pitch of 1 and a scale of 0`.
//!
//! A text of which no part is understood is an error: a data point without limits takes every value.

use std::ops::Range;

use super::ValueLimits;

/// What a property's text says.
#[derive(Debug, Default)]
pub(super) struct DescribedLimits {
    pub limits: ValueLimits,
    pub unit: Option<String>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Label {
    Range,
    Min,
    Max,
    Step,
    Scale,
    Unit,
    Values,
    Faults,
    Length,
}

/// What limits are called. At one place the longest name counts.
const LABELS: [(Label, &[&str]); 9] = [
    (
        Label::Range,
        &[
            "value range",
            "value ranges",
            "range of values",
            "valid range",
            "data range",
            "numeric range",
            "range",
            "ranges",
            "数值范围",
            "取值范围",
        ],
    ),
    (Label::Min, &["minimum value", "minimum", "min value", "min", "最小值"]),
    (Label::Max, &["maximum value", "maximum", "max value", "max", "最大值"]),
    (Label::Step, &["step size", "step", "pitch", "spacing", "interval", "increment", "步长", "间距"]),
    (Label::Scale, &["scale", "multiple", "multiples", "decimal places", "倍数"]),
    (Label::Unit, &["unit", "units", "单位"]),
    (
        Label::Values,
        &[
            "enumeration values",
            "enumeration value",
            "enumerated values",
            "enumerated value",
            "enum values",
            "enum value",
            "enumeration",
            "enumerations",
            "enum",
            "valid values",
            "possible values",
            "allowed values",
            "optional values",
            "options",
            "values",
            "枚举值",
        ],
    ),
    (
        Label::Faults,
        &["fault values", "fault value", "fault labels", "faults", "fault", "labels", "label", "故障值"],
    ),
    (
        Label::Length,
        &["maximum length", "max length", "max. length", "maxlen", "max len", "length", "最大长度"],
    ),
];

/// Words that stand for no limit at all.
const NOTHING: [&str; 8] = ["", "/", "-", "–", "—", "--", "none", "n/a"];

/// A label at its place, and where what it says begins.
struct LabelMatch {
    label: Label,
    start: usize,
    begin: usize,
    /// A colon follows, so that a value has to.
    is_strict: bool,
}

impl DescribedLimits {
    /// Reads the text for a data point of this type.
    ///
    /// # Errors
    /// A labelled value that is none, or a text of which no part is understood though the type has limits.
    pub(super) fn read(text: &str, type_name: &str) -> Result<Self, String> {
        let text = text.trim();
        let kind = super::plain_type(type_name);
        let mut property = Self::default();
        if Self::is_no_limit(text) || kind == "bool" {
            return Ok(property);
        }
        // The places that are understood.
        let mut taken: Vec<Range<usize>> = Vec::new();
        let labels = labels(text);
        for (at, found) in labels.iter().enumerate() {
            // What a label says ends at the next one, unless that is a word of prose.
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

    /// Whether a text stands for nothing.
    pub(super) fn is_no_limit(text: &str) -> bool {
        NOTHING.contains(&text.trim().to_ascii_lowercase().as_str())
    }

    /// Joins what two columns say.
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

    /// Takes what a label says, and gives the length of the part that is understood.
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

    /// A text without labels may be a range or a list all the same.
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
                // A label that is not known is still no value.
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

    /// Sees that no limit of the text was passed over.
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

/// The labels in a text, in its order, each with what links it to its value.
fn labels(text: &str) -> Vec<LabelMatch> {
    // Bytes stay where they are.
    let lower = text.to_ascii_lowercase();
    let mut places: Vec<(usize, usize, Label)> = Vec::new();
    for (label, names) in LABELS {
        for name in names {
            for (start, _) in lower.match_indices(name) {
                let end = start + name.len();
                let in_word = |c: char| c.is_alphanumeric() || c == '_';
                if !lower[..start].ends_with(in_word) && !lower[end..].starts_with(in_word) {
                    places.push((start, end, label));
                }
            }
        }
    }
    places.sort_by_key(|(start, end, _)| (*start, usize::MAX - end));
    let mut found: Vec<LabelMatch> = Vec::new();
    let mut passed = 0;
    for (start, end, label) in places {
        if start < passed {
            continue;
        }
        passed = end;
        let (begin, is_strict) = link(&lower, end);
        // `Multiple of 10` is no scale, and `interval of 5` is of anything.
        let is_prose = ["multiple", "multiples", "interval", "spacing", "increment", "decimal places"]
            .contains(&&lower[start..end]);
        if is_strict || !is_prose {
            found.push(LabelMatch { label, start, begin, is_strict });
        }
    }
    found
}

/// Where the value of a label begins that ends here, and whether a colon says that there is one.
fn link(lower: &str, end: usize) -> (usize, bool) {
    let skipped = |at: usize| lower.len() - lower[at..].trim_start().len();
    let mut at = skipped(end);
    let mut is_strict = false;
    for mark in [":", "：", "=", "- "] {
        if lower[at..].starts_with(mark) {
            at += mark.len();
            is_strict = true;
            break;
        }
    }
    at = skipped(at);
    // Words such as `is from` link as well.
    'words: loop {
        for word in ["is", "are", "of", "from", "between"] {
            let rest = lower[at..].strip_prefix(word);
            if rest.is_some_and(|rest| rest.starts_with(char::is_whitespace)) {
                at = skipped(at + word.len());
                continue 'words;
            }
        }
        return (at, is_strict);
    }
}

/// The text up to the end of its sentence.
fn sentence(text: &str) -> &str {
    let is_end = |(at, c): &(usize, char)| match c {
        '。' => true,
        '.' => text[at + 1..].chars().next().is_none_or(char::is_whitespace),
        _ => false,
    };
    let end = text.char_indices().find(is_end).map_or(text.len(), |(at, _)| at);
    text[..end].trim_end_matches(|c: char| c.is_whitespace() || matches!(c, ',' | ';' | '，' | '；'))
}

/// The text up to the end of a list: of its sentence, or of the last of several lines with bullets.
fn list(text: &str) -> &str {
    let mut end = 0;
    loop {
        end += sentence(&text[end..]).len();
        let behind = text[end..].trim_start_matches(['.', '。', ' ', '\r']);
        if !behind.starts_with('\n') || !behind.trim_start().starts_with(['-', '•', '*']) {
            return &text[..end];
        }
        end = text.len() - behind.len() + 1;
    }
}

/// How much of a text is a unit: up to a comma, a semicolon, a line's or a sentence's end.
fn unit_length(text: &str) -> usize {
    let text = sentence(text);
    text.find([',', ';', '，', '；', '\n']).unwrap_or(text.len())
}

/// The symbol of `second (s)`.
fn symbol(unit: &str) -> &str {
    let Some((name, rest)) = unit.split_once('(') else { return unit };
    let (name, inner) = (name.trim(), rest.trim_end_matches(')').trim());
    if inner.is_empty() || (!name.is_empty() && name.len() <= inner.len()) { name } else { inner }
}

/// What follows `include` or `are`, which begin a list without a colon.
fn after_include(list: &str) -> Option<&str> {
    let lower = list.to_ascii_lowercase();
    let word = ["include", "includes", "including"].into_iter().rfind(|word| lower.starts_with(word))?;
    let rest = &list[word.len()..];
    rest.starts_with(|c: char| c.is_whitespace() || c == ':').then(|| rest.trim_start_matches([' ', ':']))
}

/// The members of a list in words: `a, b, and c`, `include a and b`, `a/b/c`, or one a line with its meaning.
fn words(list: &str) -> Vec<String> {
    let list = after_include(list).unwrap_or(list);
    let parts = list.split([',', ';', '、', '，', '；', '\n']);
    let parts = parts.flat_map(|part| part.split(" and ")).flat_map(|part| part.split(" or "));
    let mut words: Vec<String> = parts.map(word).filter(|word| !word.is_empty()).collect();
    if let [only] = &words[..]
        && only.contains(['/', '|'])
    {
        words = only.split(['/', '|']).map(word).filter(|word| !word.is_empty()).collect();
    }
    words
}

fn word(part: &str) -> String {
    let mut part = part.trim();
    for begins in ["and ", "or ", "- ", "• ", "* "] {
        part = part.strip_prefix(begins).unwrap_or(part).trim_start();
    }
    // What a value means may stand behind it.
    part = part.split_once([':', '：', '(']).map_or(part, |(value, _)| value);
    let quotes = |c: char| {
        c.is_whitespace() || matches!(c, '.' | '`' | '"' | '\'' | '“' | '”' | '‘' | '’' | '。' | '…')
    };
    part.trim_matches(quotes).to_owned()
}

/// The two ends of `0 to 100`, `-100-100`, `0~1,000` or `0 and 5`, and how long the text is that says so.
fn span(text: &str) -> Option<(i64, i64, usize)> {
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

/// The whole number at the beginning of a text, and its length.
fn number(text: &str) -> Option<(i64, usize)> {
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
    // A fraction is none of a whole number.
    if behind.starts_with('.') && behind[1..].starts_with(|c: char| c.is_ascii_digit()) {
        return None;
    }
    let sign = if matches!(signed, "-" | "−") { "-" } else { "" };
    let number = format!("{sign}{}", rest[..length].replace(',', "")).parse().ok()?;
    Some((number, signed.len() + length))
}

#[cfg(test)]
mod tests {
    use super::*;

    /// What a text says: min, max, step, scale, unit; or why it says nothing.
    fn value(text: &str) -> Result<String, String> {
        let DescribedLimits { limits, unit } = DescribedLimits::read(text, "Integer")?;
        let shown = |number: Option<i64>| number.map_or("·".to_owned(), |number| number.to_string());
        let numbers = [limits.min, limits.max, limits.step, limits.scale].map(shown).join(" ");
        Ok(format!("{numbers} {}", unit.unwrap_or("·".into())))
    }

    #[test]
    fn ranges_are_understood_in_many_words() {
        for (text, expected) in [
            ("Value range: 0 to 999999999. Unit: ㎥.", "0 999999999 · · ㎥"),
            ("Value range: 0-100, Pitch: 1, Scale: 0, Unit: %", "0 100 1 0 %"),
            ("Unit: s. Range: 0 to 86400", "0 86400 · · s"),
            (
                "The value ranges from -100 to 600, with a pitch of 1 and a scale of 1. Unit: °C. The last digit is a tenth.",
                "-100 600 1 1 °C",
            ),
            (
                "The value ranges from 0 to 86,400, with a pitch of 1 and a scale of 0. Unit:s.",
                "0 86400 1 0 s",
            ),
            ("Value range- 0 to 86,400\n- Pitch: 1\n- Scale: 0\n- Unit: second (s)", "0 86400 1 0 s"),
            ("- The value ranges from 10 to 1,000.\n- Pitch: 1\n- Scale: 0", "10 1000 1 0 ·"),
            ("Value range: 10-1000, spacing: 1, multiples: 0", "10 1000 1 0 ·"),
            ("Value range: 0-86400, interval: 1, multiple: 0, unit: s", "0 86400 1 0 s"),
            ("数值范围：-20～50，间距：1，倍数：0，单位：℃", "-20 50 1 0 ℃"),
            ("Range between 5 and 35; step 5", "5 35 5 · ·"),
            ("Min: 0; Max: 100; Unit = %", "0 100 · · %"),
            ("Minimum value: -5, maximum value: 5", "-5 5 · · ·"),
            ("The valid range is from 0% to 100%.", "0 100 · · %"),
            ("0-100", "0 100 · · ·"),
            ("0 ~ 1,000 W", "0 1000 · · W"),
            ("Value range: 0,100", "0 100 · · ·"),
            ("Value range: 10,100", "10 100 · · ·"),
            ("Value range: 1,000,2,000", "1000 2000 · · ·"),
            ("Value range: -1,000–-5", "-1000 -5 · · ·"),
            ("Unit: kWh. Step: 2. Scale: 1. Value range: 0~8", "0 8 2 1 kWh"),
            ("Unit: m³/h", "· · · · m³/h"),
            ("Value range: 0 to 1000. Unit: %. 0 to 19 is low, 20 to 100 is normal.", "0 1000 · · %"),
            ("Value range: 0-9; Unit: /", "0 9 · · ·"),
            ("-", "· · · · ·"),
            ("/", "· · · · ·"),
        ] {
            assert_eq!(value(text), Ok(expected.to_owned()), "{text}");
        }
    }

    #[test]
    fn limits_that_are_not_understood_are_an_error() {
        for (text, part) in [
            ("Value range: few to many.", "`few to many` is no range"),
            ("Value range: 0.5 to 1.5", "no range"),
            ("Pitch: 0.1", "no whole number"),
            ("Scale: one", "`one` is no whole number"),
            ("Zero up to a hundred", "no limits are understood in `Zero up to a hundred`"),
            ("See the remark.", "no limits are understood"),
            ("Unit: °C. From -100 up to 600.", "no limits are understood"),
            ("Pitch: 1. Everything below 100", "no limits are understood"),
            ("Value range: 0 to 100. Value range: 32 to 212", "two minima, 0 and 32"),
        ] {
            let why = value(text).unwrap_err();
            assert!(why.contains(part), "{text}: {why}");
        }
        for (kind, text) in [
            ("enum", "See the app."),
            ("enum", "one of several modes"),
            ("Enumeration type", "Enum values:"),
            ("fault", "as the manual says"),
            ("string", "at most sixty-4 long, 64 at the limit"),
            ("string", "Maximum length: long"),
        ] {
            let why = DescribedLimits::read(text, kind).unwrap_err();
            assert!(why.contains("no limits are understood") || why.contains("` is no l"), "{text}: {why}");
        }
    }

    #[test]
    fn lists_are_understood_in_many_words() {
        for (text, expected) in [
            ("The enum values include manual, auto, and holiday.", "manual auto holiday"),
            ("The enum values include white and color", "white color"),
            ("Enumeration values: opened, closed, opening, and closing.", "opened closed opening closing"),
            ("Enumerated values: a, b, c", "a b c"),
            ("Enumeration value: white, colour, scene", "white colour scene"),
            ("Enum values:\n- white: white light.\n- color: colored light.", "white color"),
            ("Value range: low, high. The default is low.", "low high"),
            ("枚举值：cancel、1h、2h", "cancel 1h 2h"),
            ("normal, alarm", "normal alarm"),
            ("low/middle/high", "low middle high"),
            ("Options: \"a\" or 'b'", "a b"),
            ("Enum values: range, step, unit", "range step unit"),
            ("Modes: cold, hot", "cold hot"),
            ("1.5h, 2h", "1.5h 2h"),
        ] {
            let found = DescribedLimits::read(text, "Enum").unwrap();
            assert_eq!(found.limits.range.join(" "), expected, "{text}");
        }
        let found =
            DescribedLimits::read("Fault values: short_circuit, surge, and overload.", "fault").unwrap();
        assert_eq!(found.limits.labels, ["short_circuit", "surge", "overload"]);
    }

    #[test]
    fn remarks_on_texts_are_no_limits_and_lengths_are() {
        for (text, expected) in [
            ("The Unix timestamp.", None),
            ("Maximum length: 64.", Some(64)),
            ("The maximum length is 255 bytes", Some(255)),
            ("up to 128 bytes", Some(128)),
            ("Length: 0-32", Some(32)),
            ("Base64, version 2", None),
        ] {
            assert_eq!(DescribedLimits::read(text, "string").unwrap().limits.maxlen, expected, "{text}");
        }
        assert!(DescribedLimits::read("0,1 or whatever 5", "bool").is_ok());
    }
}
