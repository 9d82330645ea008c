//! Reading recordings: files and pipes, compressed or not, of every form that is understood.

use std::{
    collections::BTreeMap,
    fs::File,
    io::{self, BufRead as _, BufReader, IsTerminal as _, Read},
    path::{Path, PathBuf},
};

use super::Console;
use crate::{
    failure::{Exit, Failure},
    json::first,
    protocol::Topics,
    record::{Capture, Flaw, Form, Found, Harm, Lines, Table, Tell},
};

/// How much is read at once.
const READ: usize = 64 * 1024;
/// The longest line that is taken: MQTT's largest payload in base64, and more.
const LONGEST: u64 = 512 << 20;
/// How many flaws of a kind are printed in full.
const TOLD: u64 = 10;

/// Which recording, and what it does not say itself.
#[derive(Clone, Debug, clap::Args)]
#[command(next_help_heading = "Recording")]
pub struct RecordingArgs {
    /// The recording: a file, or - for stdin; .gz and .zst are decompressed
    #[arg(value_name = "FILE", help_heading = None::<&'static str>)]
    pub file: PathBuf,

    /// Payloads of a CSV recording are base64 (mqtt_recorder's --encode_b64)
    #[arg(long)]
    pub payload_base64: bool,

    /// Another port of MQTT in a capture, beside 21883 and 1883; repeatable
    #[arg(long = "mqtt-port", value_name = "PORT")]
    pub ports: Vec<u16>,
}

/// A recording that is open.
pub struct Recording {
    name: String,
    form: Form,
    reader: Box<dyn Read + Send>,
    payload_base64: bool,
    ports: Vec<u16>,
}

impl Recording {
    /// Opens a recording and finds out what it is.
    ///
    /// # Errors
    /// A file that cannot be opened or read; stdin that is a terminal.
    pub fn open(args: &RecordingArgs) -> Result<Self, Failure> {
        let (name, reader) = open(&args.file)?;
        let cannot = |why: io::Error| Failure::io(format!("cannot read {name}: {why}"));
        let (beginning, mut reader) = peek(reader, Form::LOOK).map_err(cannot)?;
        let mut form = Form::of(&beginning);
        if let Form::Capture { header } = form {
            reader = peek(reader, header).map_err(cannot)?.1;
        } else {
            let mut line = Vec::new();
            let mut text = BufReader::with_capacity(READ, reader);
            text.by_ref().take(READ as u64).read_until(b'\n', &mut line).map_err(cannot)?;
            form = Form::of(&line);
            reader = Box::new(io::Cursor::new(line).chain(text));
        }
        Ok(Self { name, form, reader, payload_base64: args.payload_base64, ports: args.ports.clone() })
    }

    /// What its parts are called: lines or packets.
    #[must_use]
    pub fn unit(&self) -> &'static str {
        self.form.unit()
    }

    /// Reads all of it, in constant memory.
    ///
    /// # Errors
    /// A read that failed. What cannot be understood is told as a flaw.
    pub fn read(self, topics: &Topics, tell: &mut Tell<'_>) -> Result<(), Failure> {
        let Self { name, form, reader, payload_base64, ports } = self;
        let mut last = 0;
        let outcome = {
            let mut counted = |number, found: Found<'_>| {
                last = number;
                tell(number, found)
            };
            match form {
                Form::Lines => lines(reader, topics, &mut counted),
                Form::Table => Table::new(topics, payload_base64).read(BufReader::new(reader), &mut counted),
                Form::Capture { .. } => Capture::new(topics, &ports).read(reader, &mut counted),
            }
        };
        match outcome {
            Ok(()) => Ok(()),
            Err(why) if why.kind() == io::ErrorKind::UnexpectedEof => {
                let message = "is the last one: the compressed file ends in the middle".to_owned();
                let _ends_anyway = tell(last, Found::Flaw(Flaw { harm: Harm::Torn, message }));
                Ok(())
            }
            Err(why) => Err(Failure::io(format!("cannot read {name}: {why}"))),
        }
    }
}

/// Opens a file, or stdin for `-`, decompressed where it is compressed, and gives it with its name.
///
/// # Errors
/// A file that cannot be opened or read; stdin that is a terminal.
fn open(path: &Path) -> Result<(String, Box<dyn Read + Send>), Failure> {
    let (name, reader): (_, Box<dyn Read + Send>) = if path == Path::new("-") {
        if io::stdin().is_terminal() {
            return Err(Failure::invalid("the recording would be read from the terminal")
                .hint("give a FILE, or a pipe"));
        }
        ("stdin".to_owned(), Box::new(io::stdin()))
    } else {
        let name = path.display().to_string();
        let file = File::open(path).map_err(|why| Failure::io(format!("cannot open {name}: {why}")))?;
        (name, Box::new(file))
    };
    let cannot = |why: io::Error| Failure::io(format!("cannot read {name}: {why}"));
    let (beginning, reader) = peek(reader, 4).map_err(cannot)?;
    let reader: Box<dyn Read + Send> = match beginning.as_slice() {
        [0x1f, 0x8b, ..] => Box::new(flate2::read::MultiGzDecoder::new(reader)),
        [0x28, 0xb5, 0x2f, 0xfd] => Box::new(zstd::Decoder::new(reader).map_err(cannot)?),
        _ => reader,
    };
    Ok((name, reader))
}

/// The first bytes, fewer only at the end, and a reader that gives them again, in one read.
fn peek(mut reader: Box<dyn Read + Send>, length: usize) -> io::Result<(Vec<u8>, Box<dyn Read + Send>)> {
    let mut beginning = Vec::with_capacity(length);
    reader.by_ref().take(length as u64).read_to_end(&mut beginning)?;
    let again = io::Cursor::new(beginning.clone()).chain(reader);
    Ok((beginning, Box::new(again)))
}

fn lines(reader: impl Read, topics: &Topics, tell: &mut Tell<'_>) -> io::Result<()> {
    let mut reader = BufReader::with_capacity(READ, reader);
    let mut lines = Lines::new(topics);
    // A line whose end is not there yet; the others are read where they lie.
    let mut begun = Vec::new();
    loop {
        let buffer = match reader.fill_buf() {
            Err(why) if why.kind() == io::ErrorKind::Interrupted => continue,
            read => read?,
        };
        let (mut rest, length) = (buffer, buffer.len());
        while let Some(end) = first(b'\n', rest) {
            let line;
            (line, rest) = rest.split_at(end + 1);
            let flow = if begun.is_empty() {
                lines.read(line, true, tell)
            } else {
                begun.extend_from_slice(line);
                let flow = lines.read(&begun, true, tell);
                begun.clear();
                flow
            };
            if flow.is_break() {
                return Ok(());
            }
        }
        begun.extend_from_slice(rest);
        reader.consume(length);
        if begun.len() as u64 >= LONGEST {
            return Err(io::Error::other("a line is longer than 512 MiB"));
        }
        if length == 0 {
            if !begun.is_empty() {
                let _ends_anyway = lines.read(&begun, false, tell);
            }
            return Ok(());
        }
        if tell(lines.number(), Found::Idle).is_break() {
            return Ok(());
        }
    }
}

/// Tells of flaws on stderr, a flood of them by number.
#[derive(Debug)]
pub struct Flaws {
    console: Console,
    name: String,
    unit: &'static str,
    counts: BTreeMap<Harm, u64>,
}

impl Flaws {
    /// No flaw yet of a recording.
    #[must_use]
    pub fn of(recording: &Recording, console: Console) -> Self {
        Self { console, name: recording.name.clone(), unit: recording.unit(), counts: BTreeMap::new() }
    }

    /// Tells of one.
    pub fn tell(&mut self, number: u64, flaw: &Flaw) {
        let count = self.counts.entry(flaw.harm).or_default();
        *count += 1;
        if *count <= TOLD {
            let Self { name, unit, .. } = self;
            self.console.warn(&format!("{name}: {unit} {number} {}", flaw.message));
        }
    }

    /// Tells how many were not printed, and gives the exit code: what could not be read is wrong input.
    pub fn finish(&self) -> Exit {
        for (harm, count) in &self.counts {
            if *count > TOLD {
                let what = match harm {
                    Harm::Unreadable => "cannot be read",
                    Harm::Torn => "are torn",
                    Harm::Lossy => "have lost something",
                };
                let more = count - TOLD;
                self.console.warn(&format!("{}: {more} more {}s {what}", self.name, self.unit));
            }
        }
        if self.counts.contains_key(&Harm::Unreadable) { Exit::USAGE } else { Exit::SUCCESS }
    }
}

#[cfg(test)]
mod tests {
    use std::ops::ControlFlow;

    use super::*;

    /// Gives so many bytes at a time, at most.
    struct Trickle<'a>(&'a [u8], usize);

    impl Read for Trickle<'_> {
        fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
            let length = self.1.min(buffer.len());
            self.0.read(&mut buffer[..length])
        }
    }

    #[test]
    fn lines_are_the_same_however_their_bytes_come() {
        let line =
            |n: usize, payload: &str| format!("{{\"tst\":{n},\"topic\":\"a\",\"payload\":{payload}}}\r\n");
        let long = format!("\"{}\"", "x".repeat(3 * READ));
        let text =
            [&line(1, "1"), "\n", &line(3, &long), "nonsense\n", &line(5, "{}"), "{\"tst\":6,\"to"].concat();
        let read = |step: usize| {
            let mut found = Vec::new();
            let mut tell = |number, what: Found<'_>| {
                match what {
                    Found::Message(record) => found.push((number, record.payload.len(), record.unix_us)),
                    Found::Flaw(flaw) => found.push((number, 0, i64::from(flaw.harm == Harm::Torn))),
                    _ => {}
                }
                ControlFlow::Continue(())
            };
            lines(Trickle(text.as_bytes(), step), &Topics::default(), &mut tell).unwrap();
            found
        };
        let second = 1_000_000;
        let expected =
            [(1, 1, second), (3, long.len(), 3 * second), (4, 0, 0), (5, 2, 5 * second), (6, 0, 1)];
        for step in [1, 2, 7, 1000, READ, usize::MAX] {
            assert_eq!(read(step), expected, "{step}");
        }
    }

    #[test]
    fn what_is_there_is_told_before_more_is_waited_for() {
        let text = b"{\"tst\":1,\"topic\":\"a\",\"payload\":1}\n{\"tst\":2,\"topic\":\"a\",\"payload\":2}\n{\"tst\":3";
        let mut told = Vec::new();
        let mut tell = |number, what: Found<'_>| {
            told.push(if let Found::Idle = what { 0 } else { number });
            // The third line would have to come first.
            if let Found::Idle = what { ControlFlow::Break(()) } else { ControlFlow::Continue(()) }
        };
        lines(&text[..], &Topics::default(), &mut tell).unwrap();
        assert_eq!(told, [1, 2, 0]);
    }
}
