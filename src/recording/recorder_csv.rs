//! Reads recordings in CSV without a header, as rpdswtk's mqtt_recorder writes them: topic, payload, qos, retain
//! (`True` or `False`), time in epoch seconds, seconds since the row before.

use std::{
    io::{self, Read},
    ops::ControlFlow,
};

use csv::ByteRecord;

use super::{
    entry::{CUT_OFF, EntryVisitor, IssueKind, RecordingEntry},
    payload_base64::decode_either_alphabet,
    record::{Record, RecordError},
    time::{LONGEST_US, epoch_us, span_us},
};
use crate::tuya::Topics;

/// Reads the rows of one file.
#[derive(Debug)]
pub struct RecorderCsvReader<'t> {
    topics: &'t Topics,
    /// Whether payloads are base64, which the file does not tell.
    is_base64: bool,
    mono_us: u64,
    /// How many lines precede the first row.
    skipped: u64,
}

/// Remembers whether the last byte that was read is a newline.
struct LastByte<R> {
    reader: R,
    is_newline: bool,
}

impl<R: Read> Read for LastByte<R> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let length = self.reader.read(buffer)?;
        if let Some(last) = buffer[..length].last() {
            self.is_newline = *last == b'\n';
        }
        Ok(length)
    }
}

impl<'t> RecorderCsvReader<'t> {
    /// Returns a reader; `is_base64` says whether the file was recorded with `--encode_b64`.
    #[must_use]
    pub fn new(topics: &'t Topics, is_base64: bool, skipped: u64) -> Self {
        Self { topics, is_base64, mono_us: 0, skipped }
    }

    /// Whether a text is a row, ended by a newline or by the end of the recording; `None` if its quotes do not end.
    pub(super) fn is_row(text: &[u8]) -> Option<bool> {
        let text = text.strip_suffix(b"\n").unwrap_or(text);
        let cells = match cells(text.strip_suffix(b"\r").unwrap_or(text)) {
            Ok(cells) => cells,
            Err(MalformedRow::OpenQuote) => return None,
            Err(MalformedRow::Quote) => return Some(false),
        };
        let [topic, _, others @ ..] = &cells[..] else { return Some(false) };
        let others: Option<Vec<_>> = others.iter().map(|cell| str::from_utf8(cell).ok()).collect();
        let is_rest = others.is_some_and(|others| {
            matches!(others[..], [qos, _, _, _] if matches!(qos, "0" | "1" | "2") && is_end(&others[1..]))
        });
        Some(is_rest && str::from_utf8(topic).is_ok())
    }

    /// Whether a line can be the end of a row without its beginning.
    pub(super) fn is_end_of_row(line: &[u8]) -> bool {
        let Ok(text) = str::from_utf8(line.trim_ascii()) else { return false };
        let cells: Vec<_> = text.rsplitn(4, ',').take(3).collect();
        cells.len() > 1 && is_end(&cells.into_iter().rev().collect::<Vec<_>>())
    }

    /// Reads all rows.
    ///
    /// # Errors
    /// The reader's errors.
    pub fn read(&mut self, reader: impl Read, visit: &mut EntryVisitor<'_>) -> io::Result<()> {
        let mut rows = csv::ReaderBuilder::new()
            .has_headers(false)
            .flexible(true)
            // The default terminator, \r\n, miscounts the lines.
            .terminator(csv::Terminator::Any(b'\n'))
            .from_reader(LastByte { reader, is_newline: true });
        let mut row = ByteRecord::new();
        let mut before: Option<(u64, RecordError)> = None;
        let mut is_short = false;
        loop {
            if !rows.read_byte_record(&mut row).map_err(io::Error::other)? {
                break;
            }
            let line = self.skipped + row.position().map_or(0, csv::Position::line);
            // Only the last row may be torn, so that an issue waits until the next row shows that this was not the last.
            if let Some((line, why)) = before.take()
                && visit(line, IssueKind::Unreadable.entry(format!("cannot be read: {why}"))).is_break()
            {
                return Ok(());
            }
            let flow = match self.row(&row) {
                Ok(record) => visit(line, RecordingEntry::Message(record)),
                Err(why) => {
                    before = Some((line, why));
                    is_short = row.len() < COLUMNS;
                    ControlFlow::Continue(())
                }
            };
            if flow.is_break() || visit(line, RecordingEntry::Idle).is_break() {
                return Ok(());
            }
        }
        if let Some((line, why)) = before {
            let found = if is_short && !rows.get_ref().is_newline {
                IssueKind::Torn.entry(format!("{CUT_OFF}; it was passed over"))
            } else {
                IssueKind::Unreadable.entry(format!("cannot be read: {why}"))
            };
            let _ends_anyway = visit(line, found);
        }
        Ok(())
    }

    fn row<'r>(&mut self, row: &'r ByteRecord) -> Result<Record<'r>, RecordError> {
        if row.len() != COLUMNS {
            return Err(RecordError::new("", format!("{SHORT}, not {}", row.len())));
        }
        let text = |column: usize, name: &'static str| {
            str::from_utf8(&row[column]).map_err(|_| RecordError::new(name, "is not valid UTF-8"))
        };
        let payload = if self.is_base64 {
            decode_either_alphabet(text(1, "payload")?)
                .ok_or_else(|| RecordError::new("payload", "is not base64"))?
                .into()
        } else {
            row[1].into()
        };
        let Ok(qos @ 0..=2) = text(2, "qos")?.parse() else {
            return Err(RecordError::new("qos", "must be 0, 1 or 2"));
        };
        let retain = match text(3, "retain")? {
            "True" | "true" | "1" => true,
            "False" | "false" | "0" => false,
            _ => return Err(RecordError::new("retain", "must be True or False")),
        };
        let unix_us = epoch_us(text(4, "time")?.trim_ascii())
            .ok_or_else(|| RecordError::new("time", "must be epoch seconds"))?;
        let delta = span_us(text(5, "delta")?.trim_ascii())
            .ok_or_else(|| RecordError::new("delta", "must be seconds"))?;
        // It is negative if the recorder's clock was set back.
        let mono_us = self.mono_us.saturating_add(u64::try_from(delta).unwrap_or(0));
        if mono_us > LONGEST_US {
            return Err(RecordError::new("delta", "leads beyond all time: 10,000 years at most"));
        }
        self.mono_us = mono_us;
        let record = Record::new(unix_us, mono_us, text(0, "topic")?.into(), payload);
        Ok(Record { qos, retain, ..record }.classified(self.topics))
    }
}

const COLUMNS: usize = 6;
const SHORT: &str = "must have the 6 columns topic, payload, qos, retain, time, delta";

/// What is wrong with a row's quotes.
enum MalformedRow {
    /// The last quoted cell does not end.
    OpenQuote,
    /// There is a quote within an unquoted cell, or text behind a closing quote.
    Quote,
}

/// Splits one row into cells, strictly, because the rest of a row that was cut off is likely to have unbalanced quotes.
fn cells(row: &[u8]) -> Result<Vec<Vec<u8>>, MalformedRow> {
    let mut cells = Vec::new();
    let mut rest = row;
    loop {
        let mut cell = Vec::new();
        if let Some(mut quoted) = rest.strip_prefix(b"\"") {
            loop {
                let end = quoted.iter().position(|byte| *byte == b'"').ok_or(MalformedRow::OpenQuote)?;
                cell.extend_from_slice(&quoted[..end]);
                quoted = &quoted[end + 1..];
                let Some(more) = quoted.strip_prefix(b"\"") else { break };
                cell.push(b'"');
                quoted = more;
            }
            rest = quoted;
        } else {
            let end = rest.iter().position(|byte| matches!(byte, b',' | b'"' | b'\n')).unwrap_or(rest.len());
            cell.extend_from_slice(&rest[..end]);
            rest = &rest[end..];
        }
        cells.push(cell);
        match rest {
            [] => return Ok(cells),
            [b',', more @ ..] => rest = more,
            _ => return Err(MalformedRow::Quote),
        }
    }
}

/// Whether these can be the last cells of a row: retain, time and delta, or fewer of them.
fn is_end(cells: &[&str]) -> bool {
    let [before @ .., time, delta] = cells else { return false };
    epoch_us(time).is_some()
        && span_us(delta).is_some()
        && before.iter().all(|retain| matches!(*retain, "True" | "False" | "true" | "false" | "0" | "1"))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(text: &[u8], is_base64: bool) -> Vec<String> {
        let topics = Topics::default();
        let mut found = Vec::new();
        let told = RecorderCsvReader::new(&topics, is_base64, 0).read(text, &mut |line, what| {
            match what {
                RecordingEntry::Message(record) => found.push(format!(
                    "{line} {} {} {} {:?}",
                    record.topic,
                    record.payload.escape_ascii(),
                    record.retain,
                    record.mono_us
                )),
                RecordingEntry::Issue(issue) => found.push(format!("{line} {:?}", issue.kind)),
                _ => {}
            }
            ControlFlow::Continue(())
        });
        told.unwrap();
        found
    }

    #[test]
    fn rows_are_read_with_their_own_pauses() {
        let text = b"a/b,\"{\"\"t\"\":1,\n\"\"x\"\":\xff}\",1,True,1700000000.5,0\r\nc,,0,False,1700000009.5,1.25\r\n";
        assert_eq!(
            read(text, false),
            [r#"1 a/b {\"t\":1,\n\"x\":\xff} true Some(0)"#, "3 c  false Some(1250000)"]
        );
        assert_eq!(read(b"a,+/8=,0,False,1.5,0\n", true), [r"1 a \xfb\xff false Some(0)"]);
    }

    #[test]
    fn bad_rows_are_named_and_a_torn_one_is_passed_over() {
        assert_eq!(
            read(b"a,b,3,True,1,0\na,b,0,maybe,1,0\na,b,0,True,1,0\na,b,0", false),
            ["1 Unreadable", "2 Unreadable", "3 a b true Some(0)", "4 Torn"]
        );
        assert_eq!(read(b"hello\n", false), ["1 Unreadable"]);
    }
}
