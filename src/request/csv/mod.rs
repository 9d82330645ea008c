//! CSV (RFC 4180) with a header of the protocol's field names, also as spreadsheets save it: columns separated by commas,
//! semicolons or tabs, a first line `sep=;`, blanks around cells, rows of empty cells, a second header.
//!
//! An empty cell is an absent field.

mod scanner;
#[cfg(test)]
mod tests;

use std::{
    cell::RefCell,
    io::{self, Read},
    rc::Rc,
};

use csv::{ByteRecord, ReaderBuilder};

use self::scanner::{CsvScanner, LONGEST, invalid_data};
use crate::{
    request::{
        error::InputError,
        input::{InputContent, InputValue},
    },
    text::is_blank,
    tuya::Device,
};

/// The largest number of rows in a batch.
const BATCH: usize = 256;
/// The delimiters, in the order in which they are tried.
const DELIMITERS: [u8; 3] = [b',', b';', b'\t'];
/// Fields of an input that a device does not have.
const OTHER_FIELDS: [&str; 8] = ["id", "code", "value", "status", "gateway_id", "t", "request_id", "op"];
/// How many repeated headers get a warning of their own.
const TOLD: u64 = 10;

/// Reads rows, converts each with `take`, and emits the results in batches: when one is full, and before every read that may
/// wait. Calls `warn` for skipped rows.
///
/// # Errors
/// The error of a read, or of `emit`; all earlier rows are emitted.
pub fn read<T>(
    mut reader: impl Read,
    emit: &dyn Fn(Vec<T>) -> io::Result<()>,
    mut take: impl FnMut(InputValue<'_>, &mut Vec<T>),
    warn: &dyn Fn(&str),
) -> io::Result<()> {
    let batch = Rc::new(RefCell::new(Vec::new()));
    let result = Preamble::read(&mut reader).and_then(|beginning| {
        let Preamble { delimiter, lines, bytes } = beginning;
        let scanner = Rc::new(RefCell::new(CsvScanner::new(delimiter, lines)));
        let reader = Eager {
            reader: io::Cursor::new(bytes).chain(reader),
            batch: Rc::clone(&batch),
            scanner: Rc::clone(&scanner),
            emit,
            chunk: vec![0; CHUNK],
            scanned: Vec::new(),
            given: 0,
        };
        let mut rows =
            ReaderBuilder::new().flexible(true).has_headers(false).delimiter(delimiter).from_reader(reader);
        let mut table = CsvTable { delimiter, header: None, headers: 0 };
        let mut row = ByteRecord::new();
        while rows.read_byte_record(&mut row)? {
            let end = rows.position().byte();
            let fault = scanner.borrow_mut().fault_before(end);
            // Called for each row, because it also drops the positions of earlier lines.
            let last = scanner.borrow_mut().line_of(end.saturating_sub(1));
            let within = row.as_slice().iter().filter(|byte| **byte == b'\n').count() as u64;
            let Some(input) = table.row(last - within, &row, fault, warn)? else { continue };
            take(input, &mut batch.borrow_mut());
            if batch.borrow().len() >= BATCH {
                flush(&batch, emit)?;
            }
        }
        if table.headers > TOLD {
            warn(&format!("{} more lines repeat the header and were passed over", table.headers - TOLD));
        }
        Ok(())
    });
    flush(&batch, emit)?;
    result
}

fn flush<T>(batch: &RefCell<Vec<T>>, emit: &dyn Fn(Vec<T>) -> io::Result<()>) -> io::Result<()> {
    let full = batch.take();
    if full.is_empty() { Ok(()) } else { emit(full) }
}

/// The size of one read, in bytes.
const CHUNK: usize = 32 * 1024;

/// A reader that emits complete rows before it reads more bytes.
struct Eager<'e, R, T> {
    reader: R,
    batch: Rc<RefCell<Vec<T>>>,
    scanner: Rc<RefCell<CsvScanner>>,
    emit: &'e dyn Fn(Vec<T>) -> io::Result<()>,
    chunk: Vec<u8>,
    /// The scanner's output, and how many bytes of it the csv reader has taken.
    scanned: Vec<u8>,
    given: usize,
}

impl<R: Read, T> Read for Eager<'_, R, T> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        if self.given == self.scanned.len() {
            self.scanned.clear();
            self.given = 0;
            flush(&self.batch, self.emit)?;
        }
        while self.scanned.is_empty() {
            let length = match self.reader.read(&mut self.chunk) {
                Err(why) if why.kind() == io::ErrorKind::Interrupted => continue,
                read => read?,
            };
            self.scanner.borrow_mut().add(&self.chunk[..length], &mut self.scanned)?;
            if length == 0 {
                break;
            }
        }
        let rest = &self.scanned[self.given..];
        let length = rest.len().min(buffer.len());
        buffer[..length].copy_from_slice(&rest[..length]);
        self.given += length;
        Ok(length)
    }
}

/// The beginning of a table, and the format that it determines.
struct Preamble {
    /// The delimiter.
    delimiter: u8,
    /// How many lines of the file precede the bytes.
    lines: u64,
    /// Bytes that were read and are not yet scanned.
    bytes: Vec<u8>,
}

impl Preamble {
    /// Reads until the delimiter is known: from a line `sep=;`, or from the header.
    fn read(reader: &mut impl Read) -> io::Result<Self> {
        let mut bytes = Vec::new();
        let mut chunk = vec![0; CHUNK];
        loop {
            let length = match reader.read(&mut chunk) {
                Err(why) if why.kind() == io::ErrorKind::Interrupted => continue,
                read => read?,
            };
            bytes.extend_from_slice(&chunk[..length]);
            let decided = Self::of(&bytes, length == 0 || bytes.len() as u64 > LONGEST);
            if let Some((delimiter, lines, start)) = decided {
                bytes.drain(..start);
                return Ok(Self { delimiter, lines, bytes });
            }
        }
    }

    /// The delimiter, and how many lines and bytes come before the header; `None` if its line has no end yet.
    fn of(bytes: &[u8], ended: bool) -> Option<(u8, u64, usize)> {
        let (mut lines, mut start) = (0, 0);
        let mut named = None;
        loop {
            let rest = &bytes[start..];
            let length = rest.iter().position(|byte| matches!(byte, b'\n' | b'\r'));
            let length = length.or(ended.then_some(rest.len()))?;
            // The next byte, which may be a newline, is not read yet.
            if rest[length..] == *b"\r" && !ended {
                return None;
            }
            let line = String::from_utf8_lossy(&rest[..length]);
            if named.is_none()
                && let Some(separator) = separator(&line)
            {
                named = Some(separator);
            } else if length == rest.len() || !line.trim_matches(is_blank).is_empty() {
                let delimiter = match named {
                    Some(Named::Delimiter(delimiter)) => delimiter,
                    Some(Named::Nothing) | None => delimiter_of(&line),
                };
                return Some((delimiter, lines, start));
            }
            let end = if rest[length..].starts_with(b"\r\n") { 2 } else { 1 };
            lines += u64::from(rest[length..].starts_with(b"\n") || end == 2);
            start = (start + length + end).min(bytes.len());
        }
    }
}

/// The delimiter of a line `sep=;`.
#[derive(Clone, Copy)]
enum Named {
    Delimiter(u8),
    /// None: an editor may have removed a tab at the line's end.
    Nothing,
}

/// Returns the delimiter of a line `sep=;`; `None` for other lines. Spreadsheets may quote it, or append empty columns.
fn separator(line: &str) -> Option<Named> {
    let text = line.trim_matches(|c| c != '\t' && is_blank(c));
    let text = text.strip_prefix('"').unwrap_or(text);
    let (word, rest) = text.split_at_checked(4)?;
    if !word.eq_ignore_ascii_case("sep=") {
        return None;
    }
    let rest = rest.strip_prefix("\\t").map_or_else(|| rest.to_owned(), |rest| format!("\t{rest}"));
    let mut rest = rest.bytes();
    let Some(delimiter) = rest.next().filter(|byte| *byte != b'"') else { return Some(Named::Nothing) };
    let may_separate = delimiter == b'\t' || delimiter.is_ascii_punctuation();
    let is_alone = rest.all(|byte| byte == b'"' || byte == delimiter || DELIMITERS.contains(&byte));
    (may_separate && is_alone).then_some(Named::Delimiter(delimiter))
}

/// Detects the delimiter of a header: the one that gives a column `cid`, otherwise the most frequent one.
fn delimiter_of(header: &str) -> u8 {
    let split = |delimiter: u8| -> Vec<&str> {
        let mut quoted = false;
        let at = |c: char| {
            quoted ^= c == '"';
            c == char::from(delimiter) && !quoted
        };
        header.split(at).map(|name| name.trim_matches(|c| c == '"' || is_blank(c))).collect()
    };
    let splits = DELIMITERS.map(|delimiter| (delimiter, split(delimiter)));
    let named = splits.iter().find(|(_, names)| names.iter().any(|name| name.eq_ignore_ascii_case("cid")));
    let most = splits.iter().rev().max_by_key(|(_, names)| names.len());
    named.or(most).map_or(b',', |(delimiter, _)| *delimiter)
}

/// The state of a table that is being read.
struct CsvTable {
    delimiter: u8,
    header: Option<Vec<String>>,
    /// The number of repeated headers.
    headers: u64,
}

impl CsvTable {
    /// Returns the input of a row; `None` for a header, a repeated header, or a row of empty cells.
    fn row(
        &mut self,
        line: u64,
        row: &ByteRecord,
        fault: Option<(u64, String)>,
        warn: &dyn Fn(&str),
    ) -> io::Result<Option<InputValue<'static>>> {
        let Some(header) = &self.header else {
            if let Some((_, message)) = fault {
                return Err(invalid_data(format!("the header: {message}")));
            }
            self.header = Some(self.first_header(line, row)?);
            return Ok(None);
        };
        if let Some((line, message)) = fault {
            return Ok(Some(broken(line, row, None, message)));
        }
        if row.iter().all(|cell| trimmed(cell).is_empty()) || self.repeats_separator(row) {
            return Ok(None);
        }
        if let Some(repeated) = repeated_header(header, row) {
            self.headers += 1;
            if self.headers <= TOLD {
                let changed = if repeated == *header { "" } else { "; the rows below it have its columns" };
                warn(&format!("line {line} repeats the header and was passed over{changed}"));
            }
            self.header = Some(repeated);
            return Ok(None);
        }
        Ok(Some(input(line, header, row)))
    }

    /// Checks the header: it must have the column of the device.
    fn first_header(&self, line: u64, row: &ByteRecord) -> io::Result<Vec<String>> {
        let names: Vec<_> =
            row.iter().map(|name| String::from_utf8_lossy(trimmed(name)).into_owned()).collect();
        if names.iter().any(|name| name == "cid") {
            return Ok(names);
        }
        let separator = match self.delimiter {
            b',' => "commas".to_owned(),
            b';' => "semicolons".to_owned(),
            b'\t' => "tabs".to_owned(),
            other => format!("{:?}", char::from(other)),
        };
        Err(invalid_data(format!(
            "line {line}, the header, has no column cid; its columns, separated by {separator}, are {names:?}"
        )))
    }

    /// Returns whether a row is the line `sep=;` of a second table.
    fn repeats_separator(&self, row: &ByteRecord) -> bool {
        let cells = row.iter().map(trimmed).filter(|cell| !cell.is_empty()).collect::<Vec<_>>();
        let [cell] = cells[..] else { return false };
        // An unquoted delimiter ends the cell.
        let named = cell.get(..4).filter(|word| word.eq_ignore_ascii_case(b"sep=")).map(|_| &cell[4..]);
        named.is_some_and(|rest| rest.is_empty() || rest == [self.delimiter])
    }
}

/// Returns the columns of a row that is another header: all its cells are field names, and one of them is the device's. The
/// columns may differ from those of the first header.
fn repeated_header(header: &[String], row: &ByteRecord) -> Option<Vec<String>> {
    // Hardly any row has such a cell.
    if !row.iter().any(|cell| trimmed(cell).eq_ignore_ascii_case(b"cid")) {
        return None;
    }
    let mut names: Vec<String> = Vec::with_capacity(row.len());
    for cell in row {
        let cell = str::from_utf8(trimmed(cell)).ok()?;
        let mut known = header.iter().map(String::as_str).chain(Device::FIELDS).chain(OTHER_FIELDS);
        let name = if cell.is_empty() { "" } else { known.find(|name| name.eq_ignore_ascii_case(cell))? };
        if !name.is_empty() && names.iter().any(|other| other == name) {
            return None;
        }
        names.push(name.to_owned());
    }
    // Headers of joined files may differ in trailing empty cells.
    while names.len() > header.len() && names.last().is_some_and(String::is_empty) {
        names.pop();
    }
    Some(names)
}

/// Trims blanks from a cell, also within its quotes.
fn trimmed(cell: &[u8]) -> &[u8] {
    let edge = |byte: Option<&u8>| byte.is_some_and(|byte| !byte.is_ascii_graphic());
    if !edge(cell.first()) && !edge(cell.last()) {
        return cell;
    }
    str::from_utf8(cell).map_or(cell, |text| text.trim_matches(is_blank).as_bytes())
}

fn broken(line: u64, row: &ByteRecord, field: Option<&str>, message: String) -> InputValue<'static> {
    let text = row.iter().collect::<Vec<_>>().join(&b","[..]);
    InputValue::broken(
        line,
        &text,
        InputError { field: field.map(str::to_owned), message, ..InputError::default() },
    )
}

fn input(line: u64, header: &[String], row: &ByteRecord) -> InputValue<'static> {
    // Rows of a spreadsheet may have more trailing empty cells than its header.
    let length = row.iter().rposition(|cell| !trimmed(cell).is_empty()).map_or(0, |last| last + 1);
    if length > header.len() {
        let message = format!("{length} cells under a header of {}", header.len());
        return broken(line, row, None, message);
    }
    let mut fields = Vec::with_capacity(row.len());
    for (name, cell) in header.iter().zip(row) {
        // A text that is a data point's value may have spaces within its quotes.
        let cell = if name == "value" { cell } else { trimmed(cell) };
        if cell.is_empty() {
            continue;
        }
        let Ok(text) = str::from_utf8(cell) else {
            return broken(line, row, Some(name), "the cell is not valid UTF-8".into());
        };
        fields.push((name.clone(), text.to_owned()));
    }
    InputValue { line: Some(line), content: InputContent::Fields(fields) }
}
