//! Scans the bytes of a table before the csv reader: removes blanks around cells, and records what that reader does not
//! report: where lines end, and misplaced quotes.

use std::{collections::VecDeque, io};

use crate::text::is_blank;

/// The longest row in bytes; no message of this protocol is longer.
pub(super) const LONGEST: u64 = 4 << 20;

/// Finds what the csv reader does not report: the lines of its rows, and misplaced quotes. The csv reader reads on after
/// those, and one quote too many would make a single cell of all the rows below.
///
/// Positions count the bytes of the output.
pub(crate) struct CsvScanner {
    delimiter: u8,
    /// The number of bytes written so far.
    length: u64,
    /// Whether the input has ended.
    ended: bool,
    /// The positions of newlines from here on.
    ends: VecDeque<u64>,
    /// The number of earlier newlines.
    passed: u64,
    /// The part of the cell that the next byte belongs to.
    cell: Cell,
    /// Blanks that are part of the cell if more of it follows.
    blanks: Vec<u8>,
    /// The first bytes of a character whose other bytes are still missing.
    partial: Vec<u8>,
    /// The line of the last opening quote.
    opened: u64,
    /// The position of the current row.
    row: u64,
    /// Misplaced quotes: the position, the line, and the message.
    faults: VecDeque<(u64, u64, String)>,
}

/// The part of a cell that a byte may belong to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Cell {
    Start,
    Plain,
    Quoted,
    /// After a quote inside quotes: either the end of the cell, or the first half of an escaped quote.
    Closed,
}

/// The next piece outside quotes.
enum Next {
    Byte(u8),
    Blank(usize),
    /// An incomplete character.
    Partial,
}

impl CsvScanner {
    /// Returns a scanner for the input after this many lines.
    pub(crate) fn new(delimiter: u8, lines: u64) -> Self {
        Self {
            delimiter,
            length: 0,
            ended: false,
            ends: VecDeque::new(),
            passed: lines,
            cell: Cell::Start,
            blanks: Vec::new(),
            partial: Vec::new(),
            opened: 0,
            row: 0,
            faults: VecDeque::new(),
        }
    }

    /// Scans bytes, and appends the output for the csv reader. An empty slice is the end of input.
    pub(crate) fn add(&mut self, bytes: &[u8], out: &mut Vec<u8>) -> io::Result<()> {
        self.ended = bytes.is_empty();
        if self.partial.is_empty() {
            self.scan(bytes, out);
        } else {
            let mut joined = std::mem::take(&mut self.partial);
            joined.extend_from_slice(bytes);
            self.scan(&joined, out);
        }
        if self.length + self.blanks.len() as u64 - self.row > LONGEST {
            let why = match self.cell {
                Cell::Quoted => self.unclosed(),
                Cell::Start | Cell::Plain | Cell::Closed => format!("the row on line {}", self.line()),
            };
            return Err(invalid_data(format!("{why}, and is longer than {LONGEST} bytes")));
        }
        Ok(())
    }

    fn scan(&mut self, mut rest: &[u8], out: &mut Vec<u8>) {
        while !rest.is_empty() {
            // Most bytes are inside a cell.
            let inside = self.inside(rest);
            if inside > 0 {
                self.put(&rest[..inside], out);
                rest = &rest[inside..];
                continue;
            }
            if self.cell == Cell::Quoted {
                self.quoted(rest[0], out);
                rest = &rest[1..];
                continue;
            }
            match self.next(rest) {
                Next::Byte(byte) => {
                    self.byte(byte, out);
                    rest = &rest[1..];
                }
                Next::Blank(length) => {
                    // Blanks before a cell are dropped.
                    if self.cell != Cell::Start {
                        self.blanks.extend_from_slice(&rest[..length]);
                    }
                    rest = &rest[length..];
                }
                Next::Partial => {
                    self.partial.extend_from_slice(rest);
                    return;
                }
            }
        }
    }

    /// Returns how many of the next bytes change no state.
    fn inside(&self, rest: &[u8]) -> usize {
        let ordinary = |byte: &u8| match self.cell {
            Cell::Plain => *byte > b' ' && *byte < 0x80 && *byte != self.delimiter,
            Cell::Quoted => !matches!(*byte, b'"' | b'\n'),
            Cell::Start | Cell::Closed => false,
        };
        if self.cell == Cell::Plain && !self.blanks.is_empty() {
            return 0;
        }
        rest.iter().take_while(|byte| ordinary(byte)).count()
    }

    fn next(&self, rest: &[u8]) -> Next {
        let first = rest[0];
        let length = match first {
            _ if first == self.delimiter => return Next::Byte(first),
            b'\n' | b'\r' => return Next::Byte(first),
            0..0x80 if is_blank(char::from(first)) => return Next::Blank(1),
            // The first bytes of all blank characters.
            0xc2 | 0xd8 => 2,
            0xe1..=0xe3 | 0xef => 3,
            _ => return Next::Byte(first),
        };
        match rest.get(..length) {
            Some(character) => match str::from_utf8(character) {
                Ok(text) if text.starts_with(is_blank) => Next::Blank(length),
                _ => Next::Byte(first),
            },
            None if self.ended => Next::Byte(first),
            None => Next::Partial,
        }
    }

    fn quoted(&mut self, byte: u8, out: &mut Vec<u8>) {
        match byte {
            b'"' => self.cell = Cell::Closed,
            _ => self.ends.push_back(self.length),
        }
        self.put(&[byte], out);
    }

    /// Handles a byte outside quotes that is not blank.
    fn byte(&mut self, byte: u8, out: &mut Vec<u8>) {
        let blanks = std::mem::take(&mut self.blanks);
        self.cell = match (self.cell, byte) {
            (Cell::Start, b'"') => {
                self.opened = self.line();
                Cell::Quoted
            }
            (Cell::Closed, b'"') if blanks.is_empty() => Cell::Quoted,
            (_, b'\n' | b'\r') => {
                if byte == b'\n' {
                    self.ends.push_back(self.length);
                }
                self.row = self.length + 1;
                Cell::Start
            }
            (_, byte) if byte == self.delimiter => Cell::Start,
            (cell, _) => {
                // The blanks are inside the cell.
                self.put(&blanks, out);
                if cell == Cell::Closed {
                    let line = self.line();
                    let why = format!(
                        "line {line} goes on after a closing quote: a quote in a cell is written twice"
                    );
                    self.faults.push_back((self.length, self.opened, why));
                }
                Cell::Plain
            }
        };
        self.put(&[byte], out);
    }

    fn put(&mut self, bytes: &[u8], out: &mut Vec<u8>) {
        out.extend_from_slice(bytes);
        self.length += bytes.len() as u64;
    }

    /// Returns the line of the next byte, from 1.
    fn line(&self) -> u64 {
        self.passed + self.ends.len() as u64 + 1
    }

    fn unclosed(&self) -> String {
        format!("the quote that opens a cell on line {} has no end", self.opened)
    }

    /// Returns the misplaced quote of the row that ends here, with its line.
    pub(crate) fn fault_before(&mut self, end: u64) -> Option<(u64, String)> {
        let mut found = None;
        while let Some((_, line, why)) = self.faults.pop_front_if(|(place, ..)| *place < end) {
            found.get_or_insert((line, why));
        }
        if self.ended && self.cell == Cell::Quoted && end == self.length {
            found.get_or_insert((self.opened, self.unclosed()));
        }
        found
    }

    /// Returns the line, from 1, of the byte at a position. Positions must not decrease from call to call.
    pub(crate) fn line_of(&mut self, place: u64) -> u64 {
        while self.ends.front().is_some_and(|end| *end < place) {
            self.ends.pop_front();
            self.passed += 1;
        }
        self.passed + 1
    }
}

pub(super) fn invalid_data(message: String) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, message)
}
