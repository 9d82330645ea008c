//! Requests from files and pipes: JSON Lines, any stream of JSON values, JSON arrays, or CSV; read by a thread, so
//! that a slow writer never stalls the connection, and handed over in batches, so that memory stays constant.

mod framer;
mod table;

use std::{
    fs::{File, Metadata},
    io::{self, IsTerminal as _, Read},
    path::Path,
};

use serde_json::{Map, Value, value::RawValue};
use tokio::sync::mpsc;

use framer::Framer;

use super::operations::Invalid;
use crate::failure::Failure;

/// How much is read at once.
const READ: usize = 64 * 1024;
/// How many batches may wait for the consumer.
const BATCHES: usize = 4;

/// How input is written.
#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
pub enum Format {
    /// JSON Lines, a stream of JSON values, or JSON arrays
    Json,
    /// CSV with a header of the protocol's field names
    Csv,
}

/// One value of the input.
#[derive(Debug)]
pub struct Input {
    /// The line on which it begins, from 1; `None` for a request from flags.
    pub line: Option<u64>,
    /// What stands there.
    pub content: Content,
}

/// What an input holds.
#[derive(Debug)]
pub enum Content {
    /// A JSON value.
    Json(Box<RawValue>),
    /// Fields as text, from CSV or from flags; what the text of a value means depends on its data point.
    Fields(Vec<(String, String)>),
    /// What cannot be read, as a JSON string, invalid UTF-8 replaced; and why.
    Broken(Box<RawValue>, Invalid),
}

impl Input {
    /// A JSON value.
    #[must_use]
    pub fn json(line: u64, text: Box<RawValue>) -> Self {
        Self { line: Some(line), content: Content::Json(text) }
    }

    /// A piece of input that cannot be read.
    #[must_use]
    pub fn broken(line: u64, text: &[u8], why: Invalid) -> Self {
        let text = String::from_utf8_lossy(text);
        let text = serde_json::value::to_raw_value(text.trim()).unwrap_or_else(|_| RawValue::NULL.to_owned());
        Self { line: Some(line), content: Content::Broken(text, why) }
    }

    /// How many bytes it takes in its file, nearly: what stands between values is not known any more.
    #[must_use]
    pub fn size(&self) -> u64 {
        let bytes = match &self.content {
            Content::Json(text) | Content::Broken(text, _) => text.get().len() + 1,
            Content::Fields(fields) => fields.iter().map(|(_, cell)| cell.len() + 1).sum(),
        };
        bytes as u64
    }

    /// A request made from flags.
    ///
    /// # Errors
    /// None that could be met: a JSON object always has a text.
    pub fn from_flags(fields: &Map<String, Value>) -> Result<Self, Failure> {
        let text =
            serde_json::value::to_raw_value(fields).map_err(|why| Failure::invalid(why.to_string()))?;
        Ok(Self { line: None, content: Content::Json(text) })
    }
}

/// Where inputs come from.
pub enum Source {
    /// Values made from flags.
    Flags(Option<Vec<Input>>),
    /// A thread that reads a file or stdin; the name of that, and how many bytes it has, where that is known.
    Thread(Receiver, String, Option<u64>),
}

type Receiver = mpsc::Receiver<io::Result<Vec<Input>>>;
type Sender = mpsc::Sender<io::Result<Vec<Input>>>;

impl Source {
    /// A file, or stdin where `path` is `-` or absent. Without a format the file's name tells it.
    ///
    /// # Errors
    /// A file that cannot be opened; stdin that is a terminal, though nobody asked for it with `-`.
    pub fn open(path: Option<&Path>, format: Option<Format>) -> Result<Self, Failure> {
        let (reader, name, size): (Box<dyn Read + Send>, _, _) = match path {
            Some(path) if path != Path::new("-") => {
                let file = File::open(path)
                    .map_err(|why| Failure::io(format!("cannot read {}: {why}", path.display())))?;
                let size = file.metadata().ok().filter(Metadata::is_file).map(|file| file.len());
                (Box::new(file), path.display().to_string(), size)
            }
            asked => {
                if asked.is_none() && io::stdin().is_terminal() {
                    return Err(Failure::invalid("nothing to do: neither flags nor input").hint(
                        "Give the request by flags, a FILE, or JSON Lines on stdin (- reads a terminal); see --help",
                    ));
                }
                (Box::new(io::stdin()), "stdin".to_owned(), None)
            }
        };
        let named_csv =
            path.and_then(Path::extension).is_some_and(|extension| extension.eq_ignore_ascii_case("csv"));
        let format = format.unwrap_or(if named_csv { Format::Csv } else { Format::Json });
        let (sender, receiver) = mpsc::channel(BATCHES);
        std::thread::Builder::new()
            .name("input".into())
            .spawn(move || match format {
                Format::Json => read_json(reader, &sender),
                Format::Csv => table::read(reader, &sender),
            })
            .map_err(|why| Failure::io(format!("cannot start a thread to read {name}: {why}")))?;
        Ok(Self::Thread(receiver, name, size))
    }

    /// How many bytes there are to be read, where that is known.
    #[must_use]
    pub fn size(&self) -> Option<u64> {
        match self {
            Self::Flags(_) => None,
            Self::Thread(_, _, size) => *size,
        }
    }

    /// The next batch; `None` at the end. Cancel-safe.
    ///
    /// # Errors
    /// A read that failed.
    pub async fn next(&mut self) -> Result<Option<Vec<Input>>, Failure> {
        match self {
            Self::Flags(inputs) => Ok(inputs.take()),
            Self::Thread(receiver, name, _) => match receiver.recv().await {
                None => Ok(None),
                Some(Ok(batch)) => Ok(Some(batch)),
                Some(Err(why)) => Err(Failure::io(format!("cannot read {name}: {why}"))),
            },
        }
    }
}

fn read_json(mut reader: impl Read, sender: &Sender) {
    let mut framer = Framer::default();
    let mut chunk = vec![0; READ];
    loop {
        let read = match reader.read(&mut chunk) {
            Err(why) if why.kind() == io::ErrorKind::Interrupted => continue,
            Err(why) => {
                let _ = sender.blocking_send(Err(why));
                return;
            }
            Ok(read) => read,
        };
        framer.push(&chunk[..read], read == 0);
        let batch: Vec<_> = std::iter::from_fn(|| framer.next()).collect();
        // A consumer that has gone wants no more.
        if (!batch.is_empty() && sender.blocking_send(Ok(batch)).is_err()) || read == 0 {
            return;
        }
    }
}
