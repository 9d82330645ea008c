//! The documentation's table of data points, copied into CSV or TSV (page, "Standard property values of a smart
//! water meter"): a header, and a line for each data point with its limits in words.

use csv::{ReaderBuilder, StringRecord, Trim};

use super::{
    draft::{DraftPoint, ParsedModel},
    error::ModelError,
    limits::access,
    words::DescribedLimits,
};
use crate::tuya::product::data_point::{AccessMode, DataType};

/// The names of columns.
const COLUMNS: [(Column, &[&str]); 8] = [
    (Column::Id, &["dp id", "dpid", "id"]),
    (
        Column::Name,
        &[
            "dp name",
            "dp",
            "data point",
            "data point name",
            "name",
            "function",
            "function name",
            "function point",
        ],
    ),
    (Column::Code, &["identifier", "code", "dp code", "dp identifier"]),
    (
        Column::Access,
        &[
            "data transfer type",
            "transfer type",
            "transmission type",
            "data transmission type",
            "transmission",
            "transfer",
            "access",
            "access mode",
            "mode",
        ],
    ),
    (Column::Type, &["data type", "type", "dp type", "datatype", "function point type"]),
    (
        Column::DescribedLimits,
        &[
            "dp property",
            "dp properties",
            "property",
            "properties",
            "function point properties",
            "function point property",
            "dp attribute",
            "dp attributes",
            "attribute",
            "attributes",
            "function point attributes",
        ],
    ),
    // Each is part of the property.
    (
        Column::Limit,
        &[
            "value range",
            "range",
            "min",
            "minimum",
            "minimum value",
            "max",
            "maximum",
            "maximum value",
            "pitch",
            "step",
            "scale",
            "multiple",
            "unit",
            "units",
            "enum values",
            "enum value",
            "enumeration values",
            "values",
            "fault values",
            "labels",
            "maximum length",
            "max length",
            "length",
        ],
    ),
    // Texts for people.
    (
        Column::Remark,
        &[
            "remarks",
            "remark",
            "note",
            "notes",
            "description",
            "comment",
            "comments",
            "example",
            "required",
            "mandatory",
            "category",
            "no",
            "number",
            "default",
            "default value",
        ],
    ),
];

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Column {
    Id,
    Name,
    Code,
    Access,
    Type,
    DescribedLimits,
    Limit,
    Remark,
}

pub(super) fn read(text: &str) -> Result<ParsedModel, ModelError> {
    let (first, rest) = text.split_once('\n').unwrap_or((text, ""));
    let (text, first_line, named) = match behind_sep(first) {
        Some(name) => (rest, 2, named_separator(name)),
        None => (text, 1, None),
    };
    let header = text.trim_start().lines().next().unwrap_or_default();
    let found = [b'\t', b';', b','].into_iter().find(|byte| header.as_bytes().contains(byte));
    let delimiter = named.or(found).unwrap_or(b',');
    let mut reader =
        ReaderBuilder::new().delimiter(delimiter).flexible(true).trim(Trim::All).from_reader(text.as_bytes());
    let headers =
        reader.headers().map_err(|why| ModelError::new(format!("line {first_line}"), why.to_string()))?;
    let named = |header: &str| {
        let header = header.to_ascii_lowercase().replace(['_', '-'], " ");
        COLUMNS.iter().find(|(_, names)| names.contains(&header.as_str())).map(|(column, _)| *column)
    };
    let table = DocTable {
        columns: headers.iter().map(named).collect(),
        names: headers.iter().map(str::to_owned).collect(),
    };
    if table.place_of(Column::Code).is_none() || table.place_of(Column::Type).is_none() {
        let place = format!("line {first_line}");
        return Err(ModelError::new(place, "this is neither JSON nor a table of data points").hint(
            "A table begins with the columns DP ID, DP name, Identifier, Data transfer type, Data type, \
             DP property; identifier and data type are required.",
        ));
    }
    let mut found = ParsedModel::default();
    let (mut counted, mut line) = (0, first_line);
    for record in reader.records() {
        // The text is UTF-8 and rows may differ in length, so that reading cannot fail.
        let record = record.map_err(|why| ModelError::new("", why.to_string()))?;
        // The reader assigns skipped blank lines to the next record.
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

/// Returns the text after `sep=` in a first line such as `sep=;`, which Excel reads; a spreadsheet may have quoted it.
fn behind_sep(line: &str) -> Option<&str> {
    let (word, rest) = line.strip_prefix('"').unwrap_or(line).split_at_checked(4)?;
    word.eq_ignore_ascii_case("sep=").then_some(rest)
}

/// Returns the delimiter; `None` if an editor has removed a tab at the line's end.
fn named_separator(rest: &str) -> Option<u8> {
    let first = if rest.starts_with("\\t") { Some(b'\t') } else { rest.bytes().next() };
    first.filter(|byte| *byte == b'\t' || byte.is_ascii_punctuation() && *byte != b'"')
}

struct DocTable {
    columns: Vec<Option<Column>>,
    /// The names of the columns in the file.
    names: Vec<String>,
}

impl DocTable {
    fn place_of(&self, column: Column) -> Option<usize> {
        self.columns.iter().position(|known| *known == Some(column))
    }

    fn draft(&self, record: &StringRecord, line: usize) -> Result<DraftPoint, ModelError> {
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
            None => AccessMode::ReadWrite,
        };
        let type_name =
            cell(Column::Type).ok_or_else(|| wrong(Column::Type, "the data type is missing".to_owned()))?;
        let property = self.property(record, line, type_name)?;
        let kind = property.limits.kind(type_name).map_err(|message| wrong(Column::Type, message))?;
        self.refuse_unknown_limits(record, line, &kind)?;
        Ok(DraftPoint {
            place: format!("line {line}"),
            id: id.transpose()?,
            code: Some(code.to_owned()),
            name: cell(Column::Name).map(str::to_owned),
            unit: property.unit,
            access,
            kind,
        })
    }

    /// The limits of the property column and of the columns for single limits.
    fn property(
        &self,
        record: &StringRecord,
        line: usize,
        type_name: &str,
    ) -> Result<DescribedLimits, ModelError> {
        let mut property = DescribedLimits::default();
        let cells = self.columns.iter().zip(&self.names).zip(record).enumerate();
        for (at, ((column, name), cell)) in cells {
            let text = match column {
                Some(Column::DescribedLimits) => cell.to_owned(),
                Some(Column::Limit) if !DescribedLimits::is_no_limit(cell) => format!("{name}: {cell}"),
                _ => continue,
            };
            let wrong = |message| ModelError::new(format!("line {line}, column {}", at + 1), message);
            let said = DescribedLimits::read(&text, type_name).map_err(wrong)?;
            property.add(said).map_err(wrong)?;
        }
        Ok(property)
    }

    /// Refuses a data point without limits if they may be in an unknown column.
    fn refuse_unknown_limits(
        &self,
        record: &StringRecord,
        line: usize,
        kind: &DataType,
    ) -> Result<(), ModelError> {
        let has_none = match kind {
            DataType::Value { min, max, .. } => min.is_none() && max.is_none(),
            DataType::Enum { range } => range.is_empty(),
            DataType::Bitmap { labels, maxlen } => labels.is_empty() && maxlen.is_none(),
            DataType::Bool | DataType::String { .. } | DataType::Raw { .. } => false,
        };
        let unknown = self
            .columns
            .iter()
            .zip(record)
            .position(|(column, cell)| column.is_none() && !DescribedLimits::is_no_limit(cell));
        let Some(at) = unknown.filter(|_| has_none) else { return Ok(()) };
        let name = self.names.get(at).map_or("", String::as_str);
        let place = format!("line {line}, column {}", at + 1);
        Err(ModelError::new(
            place,
            format!("the column `{name}` is not known, and no other has limits of this data point"),
        )
        .hint("Call it DP property if it has limits, or Remarks if not."))
    }
}
