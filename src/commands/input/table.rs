//! CSV (RFC 4180) with a header of the protocol's field names; an empty cell is an absent field.

use std::{
    cell::RefCell,
    collections::VecDeque,
    io::{self, Read},
    rc::Rc,
};

use csv::{ByteRecord, ReaderBuilder};

use super::{Content, Input, Sender};
use crate::commands::operations::Invalid;

/// How many rows make a batch, where that many are there to be read.
const BATCH: usize = 256;

/// Reads rows and sends them in batches: when one is full, and before every read that may wait.
pub fn read<T>(reader: impl Read, sender: &Sender<T>, mut take: impl FnMut(Input<'_>, &mut Vec<T>)) {
    let batch = Rc::new(RefCell::new(Vec::new()));
    let lines = Rc::new(RefCell::new(Lines::default()));
    let eager = Eager { reader, batch: Rc::clone(&batch), lines: Rc::clone(&lines), sender };
    // The byte order mark is taken away by the csv reader itself.
    let mut rows = ReaderBuilder::new().flexible(true).trim(csv::Trim::Headers).from_reader(eager);
    let result = rows.byte_headers().cloned().and_then(|header| {
        let mut row = ByteRecord::new();
        while rows.read_byte_record(&mut row)? {
            let last = lines.borrow_mut().line_of(rows.position().byte().saturating_sub(1));
            let within = row.as_slice().iter().filter(|byte| **byte == b'\n').count();
            let line = last - within as u64;
            take(input(line, &header, &row), &mut batch.borrow_mut());
            if batch.borrow().len() >= BATCH && flush(&batch, sender).is_err() {
                break;
            }
        }
        Ok(())
    });
    let _ = flush(&batch, sender);
    if let Err(why) = result {
        // A consumer that has gone wants to hear no error either.
        let _ = sender.blocking_send(Err(io::Error::other(why)));
    }
}

fn flush<T>(batch: &RefCell<Vec<T>>, sender: &Sender<T>) -> io::Result<()> {
    let full = batch.take();
    if full.is_empty() {
        return Ok(());
    }
    sender.blocking_send(Ok(full)).map_err(|_| io::ErrorKind::BrokenPipe.into())
}

/// A reader that hands the rows over which it has, before it asks for more bytes.
struct Eager<'s, R, T> {
    reader: R,
    batch: Rc<RefCell<Vec<T>>>,
    lines: Rc<RefCell<Lines>>,
    sender: &'s Sender<T>,
}

/// Where lines end. The csv reader counts them too, but lags behind where they end in CR LF.
#[derive(Default)]
struct Lines {
    /// How many bytes have come.
    length: u64,
    /// The places of the newlines from here on.
    ends: VecDeque<u64>,
    /// How many newlines came before.
    passed: u64,
}

impl Lines {
    fn add(&mut self, bytes: &[u8]) {
        let ends = bytes.iter().enumerate().filter(|(_, byte)| **byte == b'\n');
        self.ends.extend(ends.map(|(n, _)| self.length + n as u64));
        self.length += bytes.len() as u64;
    }

    /// The line, from 1, of the byte at a place that is not before the last one asked for.
    fn line_of(&mut self, place: u64) -> u64 {
        while self.ends.front().is_some_and(|end| *end < place) {
            self.ends.pop_front();
            self.passed += 1;
        }
        self.passed + 1
    }
}

impl<R: Read, T> Read for Eager<'_, R, T> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        flush(&self.batch, self.sender)?;
        let length = self.reader.read(buffer)?;
        self.lines.borrow_mut().add(&buffer[..length]);
        Ok(length)
    }
}

fn input(line: u64, header: &ByteRecord, row: &ByteRecord) -> Input<'static> {
    let broken = |field: Option<&[u8]>, message: String| {
        let field = field.map(|field| String::from_utf8_lossy(field).into_owned());
        let text = row.iter().collect::<Vec<_>>().join(&b","[..]);
        Input::broken(line, &text, Invalid { field, message, ..Invalid::default() })
    };
    if row.len() > header.len() {
        return broken(None, format!("{} cells under a header of {}", row.len(), header.len()));
    }
    let mut fields = Vec::with_capacity(row.len());
    for (name, cell) in header.iter().zip(row).filter(|(_, cell)| !cell.is_empty()) {
        let (Ok(field), Ok(text)) = (std::str::from_utf8(name), std::str::from_utf8(cell)) else {
            return broken(Some(name), "the cell is not valid UTF-8".into());
        };
        fields.push((field.to_owned(), text.to_owned()));
    }
    Input { line: Some(line), content: Content::Fields(fields) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rows_become_fields_with_their_lines() {
        let text = "\u{feff}cid,value,note\r\nm1,\"1,5\",\r\n\r\nm2,\"a\nb\",x,y\r\nm3\n";
        let (sender, mut receiver) = tokio::sync::mpsc::channel(8);
        read(text.as_bytes(), &sender, |input, batch| {
            let text = match input.content {
                Content::Fields(fields) => format!("{fields:?}"),
                Content::Broken(_, why) => why.message,
                Content::Json(_) => unreachable!("CSV has no JSON values"),
            };
            batch.push((input.line.unwrap(), text));
        });
        drop(sender);
        let mut found = Vec::new();
        while let Some(batch) = receiver.blocking_recv() {
            found.extend(batch.unwrap());
        }
        let expected = [
            (2, r#"[("cid", "m1"), ("value", "1,5")]"#),
            (4, "4 cells under a header of 3"),
            (6, r#"[("cid", "m3")]"#),
        ];
        assert_eq!(found, expected.map(|(line, text)| (line, text.to_owned())));
    }
}
