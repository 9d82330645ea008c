//! Finds the names of limits in prose.

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Label {
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

/// The names of limits. If several begin at one position, the longest applies.
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

/// A label's position, and the start of its value.
pub(super) struct LabelMatch {
    pub(super) label: Label,
    pub(super) start: usize,
    pub(super) begin: usize,
    /// Followed by a colon, so a value is required.
    pub(super) is_strict: bool,
}

/// Finds the labels of a text in order, each with its link to the value.
pub(super) fn labels(text: &str) -> Vec<LabelMatch> {
    // ASCII case only, so that positions stay valid.
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
        // `Multiple of 10` is not a scale, and `interval of 5` may be of anything.
        let is_prose = ["multiple", "multiples", "interval", "spacing", "increment", "decimal places"]
            .contains(&&lower[start..end]);
        if is_strict || !is_prose {
            found.push(LabelMatch { label, start, begin, is_strict });
        }
    }
    found
}

/// Returns the start of the value of a label that ends here, and whether a colon precedes it.
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
    // Words such as `is from` are links, too.
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
