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
/// The longest row that is taken; what is longer cannot be a message of this protocol.
const LONGEST: u64 = 4 << 20;

/// Reads rows and sends them in batches: when one is full, and before every read that may wait.
pub fn read<T>(reader: impl Read, sender: &Sender<T>, mut take: impl FnMut(Input<'_>, &mut Vec<T>)) {
    let batch = Rc::new(RefCell::new(Vec::new()));
    let quotes = Rc::new(RefCell::new(Scanner::default()));
    let reader = match without_mark(reader) {
        Ok(reader) => reader,
        Err(why) => {
            let _ = sender.blocking_send(Err(why));
            return;
        }
    };
    let eager = Eager { reader, batch: Rc::clone(&batch), scanner: Rc::clone(&quotes), sender };
    let mut rows = ReaderBuilder::new().flexible(true).trim(csv::Trim::Headers).from_reader(eager);
    let result = rows.byte_headers().cloned().map_err(io::Error::from).and_then(|header| {
        quotes.borrow_mut().header(&header, rows.position().byte())?;
        let mut row = ByteRecord::new();
        while rows.read_byte_record(&mut row)? {
            let end = rows.position().byte();
            let fault = quotes.borrow_mut().fault_before(end);
            // Asked in any case, so that the places of lines that have passed are forgotten.
            let last = quotes.borrow_mut().line_of(end.saturating_sub(1));
            let input = if let Some((line, message)) = fault {
                broken(line, &row, None, message)
            } else {
                let within = row.as_slice().iter().filter(|byte| **byte == b'\n').count();
                input(last - within as u64, &header, &row)
            };
            take(input, &mut batch.borrow_mut());
            if batch.borrow().len() >= BATCH && flush(&batch, sender).is_err() {
                break;
            }
        }
        Ok(())
    });
    let _ = flush(&batch, sender);
    if let Err(why) = result {
        // A consumer that has gone wants to hear no error either.
        let _ = sender.blocking_send(Err(why));
    }
}

/// The input without a byte order mark, after which the csv reader takes a pause for the end.
fn without_mark(mut reader: impl Read) -> io::Result<impl Read> {
    let mut head = Vec::with_capacity(3);
    reader.by_ref().take(3).read_to_end(&mut head)?;
    if head == b"\xef\xbb\xbf" {
        head.clear();
    }
    Ok(io::Cursor::new(head).chain(reader))
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
    scanner: Rc<RefCell<Scanner>>,
    sender: &'s Sender<T>,
}

impl<R: Read, T> Read for Eager<'_, R, T> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        flush(&self.batch, self.sender)?;
        let length = self.reader.read(buffer)?;
        self.scanner.borrow_mut().add(&buffer[..length])?;
        Ok(length)
    }
}

/// What the csv reader does not tell: where lines end, behind which it lags where they end in CR LF, and which quotes
/// stand wrongly. It reads on over those, so that one quote too many would make a single cell of all the rows below.
#[derive(Default)]
struct Scanner {
    /// How many bytes have come.
    length: u64,
    /// No more will come.
    ended: bool,
    /// The places of the newlines from here on.
    ends: VecDeque<u64>,
    /// How many newlines came before.
    passed: u64,
    /// Where the next byte stands.
    cell: Cell,
    /// The line of the quote that was opened last.
    opened: u64,
    /// Where the row began that the next byte belongs to.
    row: u64,
    /// What is wrong with quotes: the place, the line, and the words.
    faults: VecDeque<(u64, u64, String)>,
}

/// The part of a cell that a byte may belong to.
#[derive(Clone, Copy, Default, PartialEq, Eq)]
enum Cell {
    #[default]
    Start,
    Plain,
    Quoted,
    /// Behind a quote within quotes: the end of the cell, or the first half of a quote in it.
    Closed,
}

impl Scanner {
    /// Takes what was read; nothing at the end.
    fn add(&mut self, bytes: &[u8]) -> io::Result<()> {
        self.ended = bytes.is_empty();
        for (place, byte) in (self.length..).zip(bytes) {
            if *byte == b'\n' {
                self.ends.push_back(place);
            }
            self.cell = match (self.cell, byte) {
                (Cell::Start, b'"') => {
                    self.opened = self.line();
                    Cell::Quoted
                }
                (Cell::Quoted, b'"') => Cell::Closed,
                (Cell::Quoted, _) | (Cell::Closed, b'"') => Cell::Quoted,
                (_, b'\n' | b'\r') => {
                    self.row = place + 1;
                    Cell::Start
                }
                (_, b',') => Cell::Start,
                (Cell::Closed, _) => {
                    let line = self.line();
                    let why = format!(
                        "line {line} goes on after a closing quote: a quote in a cell is written twice"
                    );
                    self.faults.push_back((place, self.opened, why));
                    Cell::Plain
                }
                (Cell::Start | Cell::Plain, _) => Cell::Plain,
            };
        }
        self.length += bytes.len() as u64;
        if self.length - self.row > LONGEST {
            let why = match self.cell {
                Cell::Quoted => self.unclosed(),
                Cell::Start | Cell::Plain | Cell::Closed => format!("the row on line {}", self.line()),
            };
            return Err(invalid_data(format!("{why}, and is longer than {LONGEST} bytes")));
        }
        Ok(())
    }

    /// The line, from 1, of the byte that comes next.
    fn line(&self) -> u64 {
        self.passed + self.ends.len() as u64 + 1
    }

    fn unclosed(&self) -> String {
        format!("the quote that opens a cell on line {} has no end", self.opened)
    }

    /// Sees that the header is one: every row names its device.
    fn header(&mut self, header: &ByteRecord, end: u64) -> io::Result<()> {
        if let Some((_, message)) = self.fault_before(end) {
            return Err(invalid_data(format!("the header: {message}")));
        }
        if header.is_empty() || header.iter().any(|name| name == b"cid") {
            return Ok(());
        }
        let names: Vec<_> = header.iter().map(String::from_utf8_lossy).collect();
        Err(invalid_data(format!(
            "line 1, the header, has no column cid; CSV is separated by commas, and its columns are {names:?}"
        )))
    }

    /// What is wrong with the quotes of the row that ends here, and on which line.
    fn fault_before(&mut self, end: u64) -> Option<(u64, String)> {
        let mut found = None;
        while let Some((_, line, why)) = self.faults.pop_front_if(|(place, ..)| *place < end) {
            found.get_or_insert((line, why));
        }
        if self.ended && self.cell == Cell::Quoted && end == self.length {
            found.get_or_insert((self.opened, self.unclosed()));
        }
        found
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

fn invalid_data(message: String) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, message)
}

fn broken(line: u64, row: &ByteRecord, field: Option<&[u8]>, message: String) -> Input<'static> {
    let field = field.map(|field| String::from_utf8_lossy(field).into_owned());
    let text = row.iter().collect::<Vec<_>>().join(&b","[..]);
    Input::broken(line, &text, Invalid { field, message, ..Invalid::default() })
}

fn input(line: u64, header: &ByteRecord, row: &ByteRecord) -> Input<'static> {
    if row.len() > header.len() {
        let message = format!("{} cells under a header of {}", row.len(), header.len());
        return broken(line, row, None, message);
    }
    let mut fields = Vec::with_capacity(row.len());
    for (name, cell) in header.iter().zip(row).filter(|(_, cell)| !cell.is_empty()) {
        let (Ok(field), Ok(text)) = (std::str::from_utf8(name), std::str::from_utf8(cell)) else {
            return broken(line, row, Some(name), "the cell is not valid UTF-8".into());
        };
        fields.push((field.to_owned(), text.to_owned()));
    }
    Input { line: Some(line), content: Content::Fields(fields) }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// What each row is: its line, and its fields or why it is none; or why there is no more.
    fn rows(text: &[u8], chunk: usize) -> Vec<(u64, String)> {
        struct Pieces<'a>(&'a [u8], usize);
        impl Read for Pieces<'_> {
            fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
                let length = self.1.min(self.0.len()).min(buffer.len());
                let (piece, rest) = self.0.split_at(length);
                buffer[..length].copy_from_slice(piece);
                self.0 = rest;
                Ok(length)
            }
        }
        let (sender, mut receiver) = tokio::sync::mpsc::channel(1024);
        read(Pieces(text, chunk), &sender, |input, batch| {
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
            match batch {
                Ok(rows) => found.extend(rows),
                Err(why) => found.push((0, why.to_string())),
            }
        }
        found
    }

    fn each(text: &str, expected: &[(u64, &str)]) {
        let expected: Vec<_> = expected.iter().map(|(line, text)| (*line, (*text).to_owned())).collect();
        for chunk in [3, 4, 7, 4096] {
            assert_eq!(rows(text.as_bytes(), chunk), expected, "{text:?} in chunks of {chunk}");
        }
    }

    #[test]
    fn rows_become_fields_with_their_lines() {
        each(
            "\u{feff}cid,value,note\r\nm1,\"1,5\",\r\n\r\nm2,\"a\nb\",x,y\r\nm3\n",
            &[
                (2, r#"[("cid", "m1"), ("value", "1,5")]"#),
                (4, "4 cells under a header of 3"),
                (6, r#"[("cid", "m3")]"#),
            ],
        );
        each("\u{feff}\"cid\",x\nm1,5\" pipe\n", &[(2, r#"[("cid", "m1"), ("x", "5\" pipe")]"#)]);
        each("", &[]);
    }

    #[test]
    fn a_quote_that_stands_wrongly_takes_no_rows_along() {
        each(
            "cid,note\nm1,a\nm2,\"b\nm3,c\nm4,d\n",
            &[
                (2, r#"[("cid", "m1"), ("note", "a")]"#),
                (3, "the quote that opens a cell on line 3 has no end"),
            ],
        );
        each(
            "cid,note\nm1,\"a\nm2,b\nm3,\"c\"\nm4,\"d\"\"e\"\n",
            &[
                (2, "line 4 goes on after a closing quote: a quote in a cell is written twice"),
                (5, r#"[("cid", "m4"), ("note", "d\"e")]"#),
            ],
        );
        let mut long = b"cid,note\nm1,\"".to_vec();
        long.resize(6 << 20, b'x');
        let why = "the quote that opens a cell on line 2 has no end, and is longer than 4194304 bytes";
        assert_eq!(rows(&long, 4096), [(0, why.to_owned())]);
    }

    #[test]
    fn a_header_that_names_no_device_ends_the_reading() {
        let why = "line 1, the header, has no column cid; CSV is separated by commas, and its columns are [\"cid;id\"]";
        each("cid;id\nm1;1\n", &[(0, why)]);
        each("\"cid,id\nm1,1\n", &[(0, "the header: the quote that opens a cell on line 1 has no end")]);
    }
}
