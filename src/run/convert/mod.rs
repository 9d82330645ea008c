//! Converts a recording: records, or one row of CSV a message.

mod csv_row;

use std::{
    io::{self, BufWriter, Write},
    ops::ControlFlow,
};

use self::csv_row::{COLUMNS, csv_row};
use crate::{
    error::{Exit, Failure},
    io::{
        batch_writer::end_torn_line,
        console::Console,
        recording_file::{IssueReporter, Recording, RecordingArgs},
    },
    recording::{ConnectionRecord, Record, RecordingEntry},
    tuya::Topics,
};

/// What `convert` writes.
#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
pub enum ConvertForm {
    /// One record a line
    Records,
    /// CSV with a header, one row a message
    Csv,
}

/// Reads a recording and writes it to stdout in another form.
///
/// # Errors
/// A recording that cannot be read, or a stdout that cannot be written.
pub fn run(
    recording: &RecordingArgs,
    form: ConvertForm,
    topics: &Topics,
    console: Console,
) -> anyhow::Result<Exit> {
    let recording = Recording::open(recording)?;
    let mut issues = IssueReporter::of(&recording, console);
    let mut output = match form {
        ConvertForm::Records => {
            Output::Records { out: BufWriter::new(Box::new(io::stdout().lock())), line: Vec::new() }
        }
        ConvertForm::Csv => Output::csv(Box::new(io::stdout().lock())),
    };
    let mut written = end_torn_line(&mut io::stdout().lock()).and_then(|()| output.begin());
    let mut read = Ok(());
    if written.is_ok() {
        read = recording.read(topics, &mut |number, found| {
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
            // Even if reading fails in the middle, the records before that have been written.
            read?;
            Ok(exit)
        }
        // The reader of stdout wanted no more.
        Err(gone) if gone.kind() == io::ErrorKind::BrokenPipe => Ok(Exit::SUCCESS),
        Err(why) => Err(Failure::io(format!("cannot write to stdout: {why}")).into()),
    }
}

enum Output<'o> {
    Records { out: BufWriter<Box<dyn Write + 'o>>, line: Vec<u8> },
    Csv(Box<csv::Writer<Box<dyn Write + 'o>>>),
}

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
            Self::Csv(table) => table.write_record(csv_row(record)).map_err(into_io),
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
