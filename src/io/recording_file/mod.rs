//! Reads recordings of every known format from files and pipes, compressed or not.

mod members;

use std::{
    collections::BTreeMap,
    fs::File,
    io::{self, BufRead as _, BufReader, IsTerminal as _, Read},
    ops::ControlFlow,
    path::{Path, PathBuf},
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

use memchr::memchr;

use super::console::Console;
use crate::{
    error::{Exit, Failure},
    recording::{
        CaptureReader, EntryVisitor, FormatDetector, Issue, IssueKind, JsonLinesReader, RecorderCsvReader,
        RecordingEntry, RecordingFormat,
    },
    tuya::Topics,
    wrapping::{Look, Wrapping, look},
};
use members::MemberReader;

/// The size of one read, in bytes.
const READ: usize = 64 * 1024;
/// The longest accepted line: more than MQTT's largest payload in base64.
const LONGEST: u64 = 512 << 20;
/// How many issues of a kind are printed in full.
const TOLD: u64 = 10;

/// Which recording, and what it does not say itself.
#[derive(Clone, Debug, clap::Args)]
#[command(next_help_heading = "Recording")]
pub struct RecordingArgs {
    /// The recording: a file, or - for stdin; gzip and zstd are decompressed
    #[arg(value_name = "FILE", help_heading = None::<&'static str>)]
    pub file: PathBuf,

    /// Payloads of a CSV recording are base64 (mqtt_recorder's --encode_b64)
    #[arg(long)]
    pub payload_base64: bool,

    /// Another port of MQTT in a capture, beside 21883, 1883 and 8883; repeatable
    #[arg(long = "mqtt-port", value_name = "PORT")]
    pub ports: Vec<u16>,
}

/// The hint for a file that is not a recording.
const FORMS: &str = "It reads records of tuyagw, mosquitto_sub -F %j and -F %J, mqtt-recorder-rs, mqtt_recorder's CSV, pcap \
                     and pcapng. Record with tuyagw listen, or with mosquitto_sub -F %j.";
/// How deep compressions may be nested.
const LAYERS: u8 = 4;

/// An open recording.
pub struct Recording {
    name: String,
    form: RecordingFormat,
    /// Detects the format, and collects foreign data before the recording.
    beginning: FormatDetector,
    reader: Box<dyn Read + Send>,
    trouble: Trouble,
    payload_base64: bool,
    ports: Vec<u16>,
}

impl Recording {
    /// Opens a recording and detects its format.
    ///
    /// # Errors
    /// A file that cannot be opened or read, or is not a recording; stdin that is a terminal.
    pub fn open(args: &RecordingArgs) -> Result<Self, Failure> {
        let trouble = Trouble::default();
        let (name, reader) = open(&args.file, &trouble)?;
        let (name, form, reader) = unwrapped(name, reader, &trouble)?;
        let mut beginning = FormatDetector::default();
        let (form, reader) = match form {
            Some(form) => (form, reader),
            None => text(&name, reader, &mut beginning, &trouble)?,
        };
        Ok(Self {
            name,
            form,
            beginning,
            reader,
            trouble,
            payload_base64: args.payload_base64,
            ports: args.ports.clone(),
        })
    }

    /// The name of its parts in messages: lines or packets.
    #[must_use]
    pub fn unit(&self) -> &'static str {
        self.form.unit()
    }

    /// Reads all of it in constant memory. Everything before a failed read is passed on.
    ///
    /// # Errors
    /// A read that failed. Entries that cannot be read are issues, not errors.
    pub fn read(self, topics: &Topics, visit: &mut EntryVisitor<'_>) -> Result<(), Failure> {
        let Self { name, form, beginning, reader, trouble, payload_base64, ports } = self;
        let (mut is_over, mut has_message, mut has_told, mut is_unreadable) = (false, false, false, false);
        let outcome = {
            let mut watched = |number, found: RecordingEntry<'_>| {
                match &found {
                    // The error of the read says more.
                    RecordingEntry::Issue(issue) if issue.kind == IssueKind::Torn && trouble.is_there() => {
                        return ControlFlow::Continue(());
                    }
                    RecordingEntry::Idle => {}
                    found => {
                        has_told = true;
                        has_message |= matches!(found, RecordingEntry::Message(_));
                        is_unreadable |= matches!(found, RecordingEntry::Issue(issue) if issue.kind == IssueKind::Unreadable);
                    }
                }
                let flow = visit(number, found);
                is_over |= flow.is_break();
                flow
            };
            let passed_over = beginning.passed_over();
            if stray(&beginning, &mut watched).is_break() {
                return Ok(());
            }
            // The lines that determined the format are read first.
            let reader = io::Cursor::new(beginning.into_lines()).chain(reader);
            match form {
                RecordingFormat::JsonLines => {
                    lines(reader, JsonLinesReader::new(topics, passed_over), &mut watched)
                }
                RecordingFormat::RecorderCsv => {
                    let reader = BufReader::new(reader);
                    RecorderCsvReader::new(topics, payload_base64, passed_over).read(reader, &mut watched)
                }
                RecordingFormat::Capture { .. } => {
                    CaptureReader::new(topics, &ports).read(reader, &mut watched)
                }
            }
        };
        if let Some(failure) = trouble.failure(&name) {
            return Err(failure);
        }
        outcome.map_err(|why| Failure::invalid(format!("cannot read {name}: {why}")))?;
        if !is_over && (!has_told || is_unreadable && !has_message) {
            let what = if has_told && form.unit() == "line" {
                format!("holds no message that can be read. {FORMS}")
            } else {
                "holds no message".to_owned()
            };
            if !has_told || form.unit() == "line" {
                let _ends_anyway =
                    visit(0, RecordingEntry::Issue(Issue { kind: IssueKind::Empty, message: what }));
            }
        }
        Ok(())
    }
}

/// Reports foreign data before a recording.
fn stray(beginning: &FormatDetector, visit: &mut EntryVisitor<'_>) -> ControlFlow<()> {
    let strays = beginning.strays();
    let (kind, message) = if beginning.is_cut() {
        (IssueKind::Torn, "begins in the middle, as tail -c leaves it; it was passed over")
    } else {
        (IssueKind::Unreadable, "stands in front of the recording and cannot be read")
    };
    let told = if beginning.is_cut() { 1 } else { strays.count };
    let numbers = strays.numbers.iter().copied().chain(std::iter::repeat(beginning.passed_over()));
    for (number, _) in numbers.zip(0..told) {
        visit(number, RecordingEntry::Issue(Issue { kind, message: message.to_owned() }))?;
    }
    ControlFlow::Continue(())
}

/// A failed read that the reader above saw as an end, so that it uses what was read before.
#[derive(Clone, Debug, Default)]
struct Trouble(Arc<Mutex<Option<FailedRead>>>);

/// The compression that could not be read, if it was one, and why.
type FailedRead = (Option<&'static str>, io::Error);

impl Trouble {
    fn note(&self, format: Option<&'static str>, why: io::Error) {
        // The innermost reader fails first; the others see an end.
        self.0.lock().unwrap_or_else(PoisonError::into_inner).get_or_insert((format, why));
    }

    fn is_there(&self) -> bool {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).is_some()
    }

    fn failure(&self, name: &str) -> Option<Failure> {
        let (format, why) = self.0.lock().unwrap_or_else(PoisonError::into_inner).take()?;
        Some(match (format, why.kind()) {
            (None, _) => Failure::io(format!("cannot read {name}: {why}")),
            (Some(format), io::ErrorKind::UnexpectedEof) => Failure::invalid(format!(
                "{name} is cut off: its {format} data ends in the middle; what could be read of it was used"
            ))
            .hint(format!("Copy or compress it again; {format} -t checks a file.")),
            (Some(format), _) => Failure::invalid(format!(
                "{name} is damaged: its {format} data cannot be read further ({why}); what could be read of it was used"
            ))
            .hint(format!("Copy or compress it again; {format} -t checks a file.")),
        })
    }
}

/// A reader that records its failure and then ends.
struct Watched<R> {
    reader: R,
    format: Option<&'static str>,
    trouble: Trouble,
}

impl<R: Read> Read for Watched<R> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        loop {
            match self.reader.read(buffer) {
                Err(why) if why.kind() == io::ErrorKind::Interrupted => {}
                Err(why) => {
                    self.trouble.note(self.format, why);
                    return Ok(0);
                }
                read => return read,
            }
        }
    }
}

/// Opens a file, or stdin for `-`; returns it with its name.
///
/// # Errors
/// A file that cannot be opened; stdin that is a terminal.
fn open(path: &Path, trouble: &Trouble) -> Result<(String, Box<dyn Read + Send>), Failure> {
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
    Ok((name, Box::new(Watched { reader, format: None, trouble: trouble.clone() })))
}

/// Decompresses it, and detects captures.
///
/// # Errors
/// A wrapping that is not supported.
#[allow(clippy::type_complexity, reason = "what the caller gives, and what was found out")]
fn unwrapped(
    name: String,
    mut reader: Box<dyn Read + Send>,
    trouble: &Trouble,
) -> Result<(String, Option<RecordingFormat>, Box<dyn Read + Send>), Failure> {
    for _layer in 0..LAYERS {
        let mut beginning = Vec::new();
        let mut has_ended = false;
        let wrapping = loop {
            if let Some(form) = RecordingFormat::of_capture(&beginning) {
                let RecordingFormat::Capture { header } = form else { break None };
                // Its reader needs the whole header at once.
                while beginning.len() < header && more(&mut reader, &mut beginning) {}
                return Ok((name, Some(form), Box::new(io::Cursor::new(beginning).chain(reader))));
            }
            match look(&beginning, has_ended) {
                Look::Wrapped(wrapping) => break Some(wrapping),
                Look::Plain if beginning.len() >= RecordingFormat::SIGNATURE || has_ended => break None,
                Look::Plain | Look::NeedsMore => has_ended = !more(&mut reader, &mut beginning),
            }
        };
        let whole = io::Cursor::new(beginning).chain(reader);
        let format = match wrapping {
            None => return Ok((name, None, Box::new(whole))),
            Some(Wrapping::Gzip) => members::Compression::Gzip,
            Some(Wrapping::Zstd) => members::Compression::Zstd,
            Some(other) => return Err(other.refusal_of_recording(&name)),
        };
        let members = MemberReader::new(format, Box::new(whole));
        reader = Box::new(Watched { reader: members, format: Some(format.name()), trouble: trouble.clone() });
    }
    Err(Failure::invalid(format!("{name} is compressed more than {LAYERS} times over"))
        .hint("Unpack it first."))
}

/// Reads once; `false` at the end.
fn more(reader: &mut dyn Read, beginning: &mut Vec<u8>) -> bool {
    let mut buffer = [0; 1024];
    // A reader below records failures, which look like an end here.
    let length = reader.read(&mut buffer).unwrap_or(0);
    beginning.extend_from_slice(&buffer[..length]);
    length > 0
}

/// Detects the format of a recording in text, and where it begins.
fn text(
    name: &str,
    reader: Box<dyn Read + Send>,
    beginning: &mut FormatDetector,
    trouble: &Trouble,
) -> Result<(RecordingFormat, Box<dyn Read + Send>), Failure> {
    let mut text = BufReader::with_capacity(READ, reader);
    let mut line = Vec::new();
    loop {
        line.clear();
        let length = text.by_ref().take(LONGEST).read_until(b'\n', &mut line);
        if length.unwrap_or(0) == 0 {
            break;
        }
        if line.len() as u64 >= LONGEST {
            return Err(Failure::invalid(format!("cannot read {name}: a line is longer than 512 MiB")));
        }
        if beginning.add_line(&line) {
            break;
        }
    }
    beginning.finish();
    let form = match beginning.format() {
        Some(form) => form,
        None if trouble.is_there() || beginning.strays().count == 0 => RecordingFormat::JsonLines,
        None => {
            let message = format!("{name} is not a recording: no line of it can be read as a message");
            return Err(Failure::invalid(message).hint(FORMS));
        }
    };
    Ok((form, Box::new(text)))
}

fn lines(reader: impl Read, mut lines: JsonLinesReader<'_>, visit: &mut EntryVisitor<'_>) -> io::Result<()> {
    let mut reader = BufReader::with_capacity(READ, reader);
    // An incomplete line is copied; complete ones are read in place.
    let mut begun = Vec::new();
    loop {
        let buffer = match reader.fill_buf() {
            Err(why) if why.kind() == io::ErrorKind::Interrupted => continue,
            read => read?,
        };
        let (mut rest, length) = (buffer, buffer.len());
        while let Some(end) = memchr(b'\n', rest) {
            let line;
            (line, rest) = rest.split_at(end + 1);
            let flow = if begun.is_empty() {
                lines.read(line, true, visit)
            } else {
                begun.extend_from_slice(line);
                let flow = lines.read(&begun, true, visit);
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
            if begun.is_empty() || lines.read(&begun, false, visit).is_continue() {
                let _ends_anyway = lines.finish(visit);
            }
            return Ok(());
        }
        if visit(lines.number(), RecordingEntry::Idle).is_break() {
            return Ok(());
        }
    }
}

/// Prints issues on stderr; of many, their number.
#[derive(Debug)]
pub struct IssueReporter {
    console: Console,
    name: String,
    unit: &'static str,
    counts: BTreeMap<IssueKind, u64>,
    pauses: u64,
}

impl IssueReporter {
    /// Returns a printer for the issues of a recording.
    #[must_use]
    pub fn of(recording: &Recording, console: Console) -> Self {
        Self {
            console,
            name: recording.name.clone(),
            unit: recording.unit(),
            counts: BTreeMap::new(),
            pauses: 0,
        }
    }

    /// Prints one.
    pub fn report(&mut self, number: u64, issue: &Issue) {
        let count = self.counts.entry(issue.kind).or_default();
        *count += 1;
        if *count <= TOLD {
            let Self { name, unit, .. } = self;
            match number {
                0 => self.console.warn(&format!("{name} {}", issue.message)),
                _ => self.console.warn(&format!("{name}: {unit} {number} {}", issue.message)),
            }
        }
    }

    /// Warns of a long pause in the recording, before it is waited for.
    pub fn long_pause(&mut self, number: u64, pause: Duration) {
        self.pauses += 1;
        if self.pauses <= TOLD {
            let Self { name, unit, .. } = self;
            let (days, hours) = (pause.as_secs() / 86_400, pause.as_secs() / 3_600 % 24);
            self.console.warn(&format!(
                "{name}: {unit} {number} follows a pause of {days} d {hours} h, which replay waits for: was a clock set \
                 forward? --max-gap 10s cuts such pauses"
            ));
        }
    }

    /// Prints how many were omitted, and returns the exit code: entries that cannot be read are invalid input.
    #[must_use]
    pub fn finish(&self) -> Exit {
        for (kind, count) in &self.counts {
            if *count > TOLD {
                let what = match kind {
                    IssueKind::Unreadable => "cannot be read",
                    IssueKind::Torn => "are torn",
                    IssueKind::Lossy | IssueKind::Empty => "have lost something",
                };
                let more = count - TOLD;
                self.console.warn(&format!("{}: {more} more {}s {what}", self.name, self.unit));
            }
        }
        if self.counts.contains_key(&IssueKind::Unreadable) { Exit::USAGE } else { Exit::SUCCESS }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Returns at most this many bytes at a time.
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
            let mut visit = |number, what: RecordingEntry<'_>| {
                match what {
                    RecordingEntry::Message(record) => {
                        found.push((number, record.payload.len(), record.unix_us));
                    }
                    RecordingEntry::Issue(issue) => {
                        found.push((number, 0, i64::from(issue.kind == IssueKind::Torn)));
                    }
                    _ => {}
                }
                ControlFlow::Continue(())
            };
            let topics = Topics::default();
            lines(Trickle(text.as_bytes(), step), JsonLinesReader::new(&topics, 0), &mut visit).unwrap();
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
        let mut visit = |number, what: RecordingEntry<'_>| {
            told.push(if let RecordingEntry::Idle = what { 0 } else { number });
            // The third line would have to come first.
            if let RecordingEntry::Idle = what { ControlFlow::Break(()) } else { ControlFlow::Continue(()) }
        };
        let topics = Topics::default();
        lines(&text[..], JsonLinesReader::new(&topics, 0), &mut visit).unwrap();
        assert_eq!(told, [1, 2, 0]);
    }
}
