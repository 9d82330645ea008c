//! `convert`: recordings of other tools and packet captures as records, and records as CSV.

use std::{
    borrow::Cow,
    io::{self, BufWriter, Write},
    ops::ControlFlow,
};

use serde::Deserialize;
use serde_json::value::RawValue;

use super::config::TopicsArgs;
use crate::{
    error::{Exit, Failure},
    io::{
        batch_writer::end_torn_line,
        console::Console,
        recording_file::{IssueReporter, Recording, RecordingArgs},
    },
    mqtt::Direction,
    recording::{ConnectionRecord, Record, RecordingEntry},
    text::is_unsafe,
};

const EXAMPLES: &str = "It reads records, mosquitto_sub -F %j and %J, mqtt-recorder-rs, mqtt_recorder's CSV, pcap and \
pcapng, and finds out by itself which. What a format has lost is told on stderr; what cannot be read is too, and ends in \
exit code 2.

EXAMPLES
  tuyagw convert site.pcapng > site.jsonl         what tcpdump captured
  tcpdump -i any -U -w - port 21883 | tuyagw convert - > site.jsonl
  tuyagw convert --to csv site.jsonl > site.csv   for a spreadsheet
  tuyagw convert --payload-base64 mqtt_recorder.csv > old.jsonl";

/// Arguments of `convert`.
#[derive(Debug, clap::Args)]
#[command(after_help = EXAMPLES)]
pub struct Args {
    /// What to write to stdout
    #[arg(long, value_name = "FORM", default_value = "records")]
    to: Target,

    #[command(flatten)]
    topics: TopicsArgs,

    #[command(flatten)]
    recording: RecordingArgs,
}

/// What can be written.
#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
enum Target {
    /// One record a line
    Records,
    /// CSV with a header, one row a message
    Csv,
}

/// Runs `convert`.
pub fn run(args: Args, console: Console) -> anyhow::Result<Exit> {
    let topics = args.topics.load()?;
    let recording = Recording::open(&args.recording)?;
    let mut issues = IssueReporter::of(&recording, console);
    let mut output = match args.to {
        Target::Records => {
            Output::Records { out: BufWriter::new(Box::new(io::stdout().lock())), line: Vec::new() }
        }
        Target::Csv => Output::csv(Box::new(io::stdout().lock())),
    };
    let mut written = end_torn_line(&mut io::stdout().lock()).and_then(|()| output.begin());
    let mut read = Ok(());
    if written.is_ok() {
        read = recording.read(&topics, &mut |number, found| {
            let outcome = match found {
                RecordingEntry::Message(record) => output.message(&record),
                RecordingEntry::Connection(connection) => output.connection(&connection),
                RecordingEntry::EventLine(line) => output.aside(line),
                RecordingEntry::Issue(issue) => {
                    issues.report(number, &issue);
                    Ok(())
                }
                RecordingEntry::Idle => output.flush(),
            };
            match outcome {
                Ok(()) => ControlFlow::Continue(()),
                Err(why) => {
                    written = Err(why);
                    ControlFlow::Break(())
                }
            }
        });
    }
    match written.and_then(|()| output.flush()) {
        Ok(()) => {
            let exit = issues.finish();
            // Of a recording that is cut off, what could be read has been written.
            read?;
            Ok(exit)
        }
        // Whoever read it wanted no more.
        Err(gone) if gone.kind() == io::ErrorKind::BrokenPipe => Ok(Exit::SUCCESS),
        Err(why) => Err(Failure::io(format!("cannot write to stdout: {why}")).into()),
    }
}

enum Output<'o> {
    Records { out: BufWriter<Box<dyn Write + 'o>>, line: Vec<u8> },
    Csv(Box<csv::Writer<Box<dyn Write + 'o>>>),
}

/// The columns of the CSV.
const COLUMNS: [&str; 18] = [
    "tst",
    "mono_us",
    "dir",
    "kind",
    "gateway_id",
    "topic",
    "qos",
    "retain",
    "dup",
    "t",
    "request_id",
    "cid",
    "id",
    "value",
    "code",
    "msg",
    "payload",
    "payload_b64",
];

impl<'o> Output<'o> {
    fn csv(out: Box<dyn Write + 'o>) -> Self {
        Self::Csv(Box::new(csv::Writer::from_writer(out)))
    }

    fn begin(&mut self) -> io::Result<()> {
        match self {
            Self::Records { .. } => Ok(()),
            Self::Csv(table) => table.write_record(COLUMNS).map_err(into_io),
        }
    }

    fn message(&mut self, record: &Record<'_>) -> io::Result<()> {
        match self {
            Self::Records { out, line } => {
                line.clear();
                record.write(line);
                out.write_all(line)
            }
            Self::Csv(table) => table.write_record(row(record)).map_err(into_io),
        }
    }

    fn connection(&mut self, connection: &ConnectionRecord<'_>) -> io::Result<()> {
        match self {
            Self::Records { out, line } => {
                line.clear();
                connection.write(line);
                out.write_all(line)
            }
            Self::Csv(_) => Ok(()),
        }
    }

    fn aside(&mut self, line: &[u8]) -> io::Result<()> {
        match self {
            Self::Records { out, .. } => out.write_all(line).and_then(|()| out.write_all(b"\n")),
            Self::Csv(_) => Ok(()),
        }
    }

    fn flush(&mut self) -> io::Result<()> {
        match self {
            Self::Records { out, .. } => out.flush(),
            Self::Csv(table) => table.flush(),
        }
    }
}

fn into_io(why: csv::Error) -> io::Error {
    match why.into_kind() {
        csv::ErrorKind::Io(why) => why,
        other => io::Error::other(format!("{other:?}")),
    }
}

/// The fields of a message that have columns of their own, read as leniently as can be.
#[derive(Default, Deserialize)]
struct Message<'a> {
    #[serde(borrow)]
    t: Option<&'a RawValue>,
    #[serde(borrow)]
    request_id: Option<&'a RawValue>,
    #[serde(borrow)]
    cid: Option<&'a RawValue>,
    #[serde(borrow)]
    param: Option<&'a RawValue>,
}

#[derive(Default, Deserialize)]
struct Param<'a> {
    #[serde(borrow)]
    cid: Option<&'a RawValue>,
    #[serde(borrow)]
    id: Option<&'a RawValue>,
    #[serde(borrow)]
    value: Option<&'a RawValue>,
    #[serde(borrow)]
    status: Option<&'a RawValue>,
    #[serde(borrow)]
    code: Option<&'a RawValue>,
    #[serde(borrow)]
    msg: Option<&'a RawValue>,
}

fn row(record: &Record<'_>) -> [String; COLUMNS.len()] {
    let payload = &record.payload;
    let message: Message<'_> = serde_json::from_slice(payload).unwrap_or_default();
    let param: Param<'_> = message.param.and_then(|param| one(param.get())).unwrap_or_default();
    let (text, base64) = match str::from_utf8(payload) {
        Ok(text) if !text.contains(is_unsafe) => (text.to_owned(), String::new()),
        _ => (String::new(), crate::recording::base64(payload)),
    };
    // The payload's own cells hold its exact bytes, so that a formula is moved, not changed.
    let (text, base64) =
        if is_formula(&text) { (String::new(), crate::recording::base64(payload)) } else { (text, base64) };
    [
        crate::recording::moment(record.unix_us),
        record.mono_us.map(|us| us.to_string()).unwrap_or_default(),
        record.dir.map(Direction::name).unwrap_or_default().to_owned(),
        record.channel.map_or("other", crate::tuya::Channel::kind).to_owned(),
        inert(crate::text::visible(record.gateway_id.as_deref().unwrap_or_default()).into_owned()),
        inert(crate::text::visible(&record.topic).into_owned()),
        record.qos.to_string(),
        u8::from(record.retain).to_string(),
        u8::from(record.dup).to_string(),
        plain(message.t),
        plain(message.request_id),
        plain(message.cid.or(param.cid)),
        plain(param.id),
        plain(param.value.or(param.status)),
        plain(param.code),
        plain(param.msg),
        text,
        base64,
    ]
}

/// Returns whether a spreadsheet would compute a cell: it begins like a formula (OWASP, "CSV Injection") and is not a number.
fn is_formula(cell: &str) -> bool {
    cell.starts_with(['=', '+', '-', '@', '\t', '\r', '\u{ff1d}', '\u{ff0b}', '\u{ff0d}', '\u{ff20}'])
        // Of JSON that begins so, there are but numbers.
        && serde_json::from_str::<&RawValue>(cell).is_err()
}

/// A cell that no spreadsheet computes.
fn inert(cell: String) -> String {
    if is_formula(&cell) { format!("'{cell}") } else { cell }
}

/// The object, or the only one of an array; several have no place in one row.
fn one(param: &str) -> Option<Param<'_>> {
    if let Ok(object) = serde_json::from_str(param) {
        return Some(object);
    }
    let mut several: Vec<Param<'_>> = serde_json::from_str(param).ok()?;
    several.pop().filter(|_| several.is_empty())
}

/// A string's text, or the JSON of anything else.
fn plain(value: Option<&RawValue>) -> String {
    let Some(value) = value else { return String::new() };
    let text = match serde_json::from_str::<Cow<'_, str>>(value.get()) {
        Ok(text) => text,
        Err(_) => value.get().into(),
    };
    inert(crate::text::visible(&text).into_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn cells_that_begin_as_formulas_are_inert_and_numbers_stay_numbers() {
        for cell in ["=1+1", "+1+cmd|' /C calc'!A0", "-2+3", "@SUM(1)", "\t=1", "\u{ff1d}1", "-", "+1"] {
            assert_eq!(inert(cell.into()), format!("'{cell}"));
        }
        for cell in ["", "-5", "-1.10", "-1e400", "m1", "1=1", "{\"t\":-1}"] {
            assert_eq!(inert(cell.into()), cell);
        }
    }
}
