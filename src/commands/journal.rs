//! The journal of a run: what was accepted, durably, so that the same command run again sends only the rest.
//!
//! A file of JSON Lines: first what the run does, then one entry for each accepted result line, its index and a
//! hash of the input line. An entry is synced to the disk in groups.

use std::{
    fs::File,
    io::{BufRead as _, BufReader, Read as _},
    path::{Path, PathBuf},
};

use md5::{Digest as _, Md5};
use serde::{Deserialize, Serialize};

use super::{Console, json_line, operations::Operation};
use crate::{
    failure::Failure,
    sink::{Sink, SinkError},
};

/// The version of the format.
const VERSION: u64 = 1;

/// A first line longer than this is no journal's.
const LONGEST_HEADER: u64 = 4096;

/// The first line: what the entries are about.
#[derive(Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Header {
    journal: u64,
    op: String,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    gateway_id: Option<String>,
}

#[derive(Debug, Serialize, Deserialize)]
struct Entry {
    index: u64,
    hash: String,
}

/// The journal of a run.
pub struct Journal {
    path: PathBuf,
    out: Sink,
    /// The hash of each accepted input, by index; 0 where it was not accepted.
    accepted: Vec<u64>,
    skipped: u64,
}

impl Journal {
    /// Opens a journal, or begins one.
    ///
    /// # Errors
    /// A file that cannot be used, that is no journal, or that is the journal of something else.
    pub fn open(
        path: &Path,
        operation: Operation,
        gateway_id: Option<&str>,
        console: Console,
    ) -> Result<Self, Failure> {
        let header = Header {
            journal: VERSION,
            op: operation.name().to_owned(),
            gateway_id: gateway_id.map(str::to_owned),
        };
        // What is no journal is not touched.
        look_at(path, &header)?;
        // Opening repairs a last line that a crash tore, so that reading finds whole lines only.
        let mut out = Sink::append_alone(path)?;
        if let Some(repaired) = out.repaired() {
            console.warn(repaired);
        }
        let accepted = if let Some(accepted) = read(path)? {
            accepted
        } else {
            out.write(&json_line(&header));
            out.flush();
            Vec::new()
        };
        Ok(Self { path: path.to_owned(), out, accepted, skipped: 0 })
    }

    /// Whether an input was accepted by a former run.
    ///
    /// # Errors
    /// The input at this index is another one than the journal knows.
    pub fn has(&mut self, index: u64, input: &str) -> Result<bool, Failure> {
        let place = usize::try_from(index).unwrap_or(usize::MAX);
        match self.accepted.get(place) {
            None | Some(0) => Ok(false),
            Some(known) if *known == hash(input) => {
                self.skipped += 1;
                Ok(true)
            }
            Some(_) => Err(Failure::invalid(format!(
                "the input has changed since {} was written: value {index} (from 0) is another one",
                self.path.display()
            ))
            .hint("Give the input of the first run, or begin another journal")),
        }
    }

    /// Notes that an input was accepted.
    pub fn accept(&mut self, index: u64, input: &str) {
        let entry = Entry { index, hash: format!("{:016x}", hash(input)) };
        self.out.write(&json_line(&entry));
    }

    /// Hands the entries to the writing thread, which syncs as many at once as have gathered.
    pub fn flush(&mut self) {
        self.out.flush();
    }

    /// How many inputs a former run's entries have spared.
    #[must_use]
    pub fn skipped(&self) -> u64 {
        self.skipped
    }

    /// Waits until entries are safe; for ever where none are on their way. Cancel-safe.
    ///
    /// # Errors
    /// The journal cannot be written.
    pub async fn progress(&mut self) -> Result<(), Failure> {
        if self.out.backlog() == 0 {
            return std::future::pending().await;
        }
        self.out.progress().await.map(drop).map_err(failed)
    }

    /// Waits until all entries are safe.
    ///
    /// # Errors
    /// The journal cannot be written.
    pub async fn close(mut self) -> Result<(), Failure> {
        self.out.flush();
        self.out.close().await.map_err(failed)
    }
}

/// Refuses a file whose first line is not that of this run's journal; a crash may have torn that line.
fn look_at(path: &Path, expected: &Header) -> Result<(), Failure> {
    let Ok(file) = File::open(path) else { return Ok(()) };
    let mut first = Vec::new();
    // A directory, or a file that cannot be read, is told by whoever opens it for writing.
    let _ = BufReader::new(file).take(LONGEST_HEADER).read_until(b'\n', &mut first);
    if json_line(expected).starts_with(&first) {
        return Ok(());
    }
    let wrong = |what: &str| {
        Failure::invalid(format!("{}: {what}", path.display()))
            .hint("--journal takes a file that an earlier run of the same kind began, or a new one")
    };
    let header: Header = serde_json::from_slice(&first).map_err(|_| wrong("this is not a journal"))?;
    if header == *expected {
        return Ok(());
    }
    let gateway = header.gateway_id.map(|id| format!(" for gateway {id:?}")).unwrap_or_default();
    Err(wrong(&format!("this is the journal of `{}`{gateway}, not of this run", header.op)))
}

fn failed(why: SinkError) -> Failure {
    match why {
        SinkError::Failed(failure) => failure,
        SinkError::ReaderGone => Failure::io("nobody reads the journal"),
    }
}

/// The entries of a journal, as hashes by index, below its first line; `None` where the file is empty.
fn read(path: &Path) -> Result<Option<Vec<u64>>, Failure> {
    let place = path.display();
    let file = File::open(path).map_err(|why| Failure::io(format!("cannot read {place}: {why}")))?;
    let mut accepted = Vec::new();
    let mut begun = false;
    for (n, line) in BufReader::new(file).lines().enumerate() {
        let line = line.map_err(|why| Failure::io(format!("cannot read {place}: {why}")))?;
        let wrong = |what: &str| {
            Failure::invalid(format!("{place}, line {}: {what}", n + 1))
                .hint("--journal takes a file that an earlier run began, or a new one")
        };
        if !begun {
            begun = true;
            continue;
        }
        let entry: Entry = serde_json::from_str(&line).map_err(|_| wrong("this is no entry of a journal"))?;
        let hash = u64::from_str_radix(&entry.hash, 16).map_err(|_| wrong("this hash is none"))?;
        let index = usize::try_from(entry.index).map_err(|_| wrong("this index is too large"))?;
        // Entries come nearly in order, so that a place far beyond the last one is a damaged one.
        if index > accepted.len() + (1 << 24) {
            return Err(wrong("this index is far beyond the others"));
        }
        if index >= accepted.len() {
            accepted.resize(index + 1, 0);
        }
        accepted[index] = hash;
    }
    Ok(begun.then_some(accepted))
}

/// The first 64 bits of an input line's MD5, never 0: it tells a changed line, and hides nothing from anybody.
fn hash(input: &str) -> u64 {
    let digest = Md5::digest(input);
    let mut first = [0; 8];
    first.copy_from_slice(&digest[..8]);
    u64::from_be_bytes(first).max(1)
}
