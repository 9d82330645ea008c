//! The documentation's table of data points, copied into CSV or TSV (page, "Standard property values of a smart
//! water meter"): a header, and a line for each data point with its limits in words.

use csv::{ReaderBuilder, StringRecord, Trim};

use super::{Access, Draft, Found, Limits, ModelError, access};

/// What a column may be called.
const COLUMNS: [(Column, &[&str]); 6] = [
    (Column::Id, &["dp id", "dpid", "id"]),
    (Column::Name, &["dp name", "name", "function name", "function point"]),
    (Column::Code, &["identifier", "code", "dp code"]),
    (Column::Access, &["data transfer type", "transfer type", "access", "access mode", "mode"]),
    (Column::Type, &["data type", "type"]),
    (
        Column::Property,
        &["dp property", "dp properties", "property", "properties", "function point properties"],
    ),
];

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Column {
    Id,
    Name,
    Code,
    Access,
    Type,
    Property,
}

pub(super) fn read(text: &str) -> Result<Found, ModelError> {
    let header = text.trim_start().lines().next().unwrap_or_default();
    let delimiter =
        [b'\t', b';', b','].into_iter().find(|byte| header.as_bytes().contains(byte)).unwrap_or(b',');
    let mut reader =
        ReaderBuilder::new().delimiter(delimiter).flexible(true).trim(Trim::All).from_reader(text.as_bytes());
    let headers = reader.headers().map_err(|why| ModelError::new("line 1", why.to_string()))?;
    let named = |header: &str| {
        let header = header.to_ascii_lowercase().replace('_', " ");
        COLUMNS.iter().find(|(_, names)| names.contains(&header.as_str())).map(|(column, _)| *column)
    };
    let table = Table { columns: headers.iter().map(named).collect() };
    if table.place_of(Column::Code).is_none() || table.place_of(Column::Type).is_none() {
        return Err(ModelError::new("line 1", "this is neither JSON nor a table of data points").hint(
            "A table begins with the columns DP ID, DP name, Identifier, Data transfer type, Data type, \
             DP property; identifier and data type are required.",
        ));
    }
    let mut found = Found::default();
    let (mut counted, mut line) = (0, 1);
    for record in reader.records() {
        // The text is UTF-8 and rows may be ragged, so that nothing is left to go wrong.
        let record = record.map_err(|why| ModelError::new("", why.to_string()))?;
        // The reader counts the blank lines that it skips to the record after them.
        let start = record.position().map_or(0, csv::Position::byte);
        let start = usize::try_from(start).unwrap_or(text.len());
        let start = text.len() - text.get(start..).unwrap_or_default().trim_start_matches(['\r', '\n']).len();
        line += text.get(counted..start).unwrap_or_default().matches('\n').count();
        counted = start;
        if record.iter().any(|cell| !cell.is_empty()) {
            found.drafts.push(table.draft(&record, line)?);
        }
    }
    Ok(found)
}

struct Table {
    columns: Vec<Option<Column>>,
}

impl Table {
    fn place_of(&self, column: Column) -> Option<usize> {
        self.columns.iter().position(|known| *known == Some(column))
    }

    fn draft(&self, record: &StringRecord, line: usize) -> Result<Draft, ModelError> {
        let cell =
            |column| self.place_of(column).and_then(|at| record.get(at)).filter(|cell| !cell.is_empty());
        let wrong = |column, message: String| {
            let at = self.place_of(column).map_or(0, |at| at + 1);
            ModelError::new(format!("line {line}, column {at}"), message)
        };
        let id = cell(Column::Id).map(|text| match text.parse() {
            Ok(id) if id > 0 => Ok(id),
            _ => Err(wrong(Column::Id, format!("`{text}` is no DP id, which is a whole number from 1"))),
        });
        let code =
            cell(Column::Code).ok_or_else(|| wrong(Column::Code, "the identifier is missing".to_owned()))?;
        let access = match cell(Column::Access) {
            Some(text) => access(text).ok_or_else(|| {
                let known = "Report only (read-only), Send and report (read-write), Send only (write-only)";
                wrong(Column::Access, format!("`{text}` is no data transfer type; known are {known}"))
            })?,
            None => Access::ReadWrite,
        };
        let type_name =
            cell(Column::Type).ok_or_else(|| wrong(Column::Type, "the data type is missing".to_owned()))?;
        let mut property = Property::default();
        if let Some(text) = cell(Column::Property) {
            property = Property::read(text, type_name).map_err(|message| wrong(Column::Property, message))?;
        }
        Ok(Draft {
            place: format!("line {line}"),
            id: id.transpose()?,
            code: Some(code.to_owned()),
            name: cell(Column::Name).map(str::to_owned),
            unit: property.unit,
            access,
            kind: property.limits.kind(type_name).map_err(|message| wrong(Column::Type, message))?,
        })
    }
}

/// What the property column says, such as `Value range: 0 to 999999999. Pitch: 1. Scale: 4. Unit: W.`
#[derive(Debug, Default)]
struct Property {
    limits: Limits,
    unit: Option<String>,
}

#[derive(Clone, Copy)]
enum Label {
    Range,
    Unit,
    Step,
    Scale,
    Values,
    Faults,
    Length,
}

/// The words before a colon, the longer ones before those that they contain.
const LABELS: [(&str, Label); 16] = [
    ("enumeration values", Label::Values),
    ("enumeration value", Label::Values),
    ("enum values", Label::Values),
    ("enum value", Label::Values),
    ("fault values", Label::Faults),
    ("fault value", Label::Faults),
    ("labels", Label::Faults),
    ("label", Label::Faults),
    ("value range", Label::Range),
    ("range", Label::Range),
    ("pitch", Label::Step),
    ("step", Label::Step),
    ("scale", Label::Scale),
    ("unit", Label::Unit),
    ("maximum length", Label::Length),
    ("maxlen", Label::Length),
];

impl Property {
    fn read(text: &str, type_name: &str) -> Result<Self, String> {
        let mut property = Self::default();
        let sections = sections(text);
        if sections.is_empty() && type_name.eq_ignore_ascii_case("enum") && text != "/" {
            // A label that is not known is still no value.
            let list = text.split_once([':', '：']).map_or(text, |(_, list)| list);
            property.limits.range = words(list);
        }
        for (label, text) in sections {
            let limits = &mut property.limits;
            match label {
                Label::Range if type_name.eq_ignore_ascii_case("enum") => limits.range = words(text),
                Label::Range => {
                    let (min, max) =
                        span(text).ok_or_else(|| format!("`{text}` is no range such as 0 to 100"))?;
                    (limits.min, limits.max) = (Some(min), Some(max));
                }
                Label::Unit => property.unit = (!matches!(text, "" | "/" | "-")).then(|| text.to_owned()),
                Label::Step => limits.step = Some(whole(text)?),
                Label::Scale => limits.scale = Some(whole(text)?),
                Label::Length => limits.maxlen = Some(whole(text)?),
                Label::Values => limits.range = words(text),
                Label::Faults => limits.labels = words(text),
            }
        }
        Ok(property)
    }
}

/// The labelled parts of a text, in its order.
fn sections(text: &str) -> Vec<(Label, &str)> {
    let lower = text.to_ascii_lowercase();
    // Begin and end of "label:", for every label that begins a word and is not part of a longer one.
    let mut found: Vec<(usize, usize, Label)> = Vec::new();
    for (name, label) in LABELS {
        for (start, _) in lower.match_indices(name) {
            let end = start + name.len();
            let begins_word = !lower[..start].ends_with(|c: char| c.is_alphanumeric() || c == '_');
            let rest = lower[end..].trim_start();
            let colon = rest.chars().next().filter(|c| matches!(c, ':' | '：'));
            if let Some(colon) = colon
                && begins_word
                && !found.iter().any(|(from, to, _)| (*from..*to).contains(&start))
            {
                found.push((start, lower.len() - rest.len() + colon.len_utf8(), label));
            }
        }
    }
    found.sort_by_key(|(start, ..)| *start);
    let ends = found.iter().skip(1).map(|(start, ..)| *start).chain([text.len()]);
    let separators = |c: char| c.is_whitespace() || matches!(c, '.' | ',' | ';' | '，' | '。' | '；');
    found
        .iter()
        .zip(ends)
        .map(|((_, start, label), end)| (*label, text[*start..end].trim_matches(separators)))
        .collect()
}

/// The members of a list in words: `a, b, and c`.
fn words(text: &str) -> Vec<String> {
    let parts = text.split([',', ';', '、', '，', '\n']).flat_map(|part| part.split(" and "));
    let parts = parts.map(|part| part.trim().strip_prefix("and ").unwrap_or(part.trim()));
    let parts =
        parts.map(|part| part.trim_matches(|c: char| c.is_whitespace() || matches!(c, '.' | '`' | '"')));
    parts.filter(|part| !part.is_empty() && *part != "…").map(str::to_owned).collect()
}

/// The two ends of `0 to 100`, `-100-100` or `0~100`.
fn span(text: &str) -> Option<(i64, i64)> {
    let digits_end = |text: &str| {
        let sign = usize::from(text.starts_with('-'));
        text[sign..].find(|c: char| !c.is_ascii_digit()).map_or(text.len(), |at| at + sign)
    };
    let (min, rest) = text.split_at(digits_end(text));
    let rest = rest.trim_start();
    let max =
        ["to", "~", "～", "–", "—", "..", "-", ","].into_iter().find_map(|word| rest.strip_prefix(word))?;
    Some((min.parse().ok()?, max.trim().parse().ok()?))
}

fn whole(text: &str) -> Result<i64, String> {
    text.parse().map_err(|_| format!("`{text}` is no whole number"))
}
