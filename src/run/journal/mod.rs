//! The journal of a run: what was accepted, durably, so that the same command run again sends only the rest.
//!
//! A file of JSON Lines. A head says what the entries below it are about; then comes one entry for each accepted
//! request, `{"k":…,"h":…}`: hashes of whom it concerns and of what it says. A file may have several heads, so that
//! `cat` joins journals. Entries are synced to the disk in groups.

mod history;

use std::{
    fs::File,
    io::{BufRead as _, BufReader, Read as _},
    path::{Path, PathBuf},
};

use md5::{Digest as _, Md5};
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};

pub use self::history::Digest;
use self::history::{Entry, Hash, History};
use crate::{
    error::Failure,
    gateway::Payload,
    io::{
        batch_writer::{BatchWriter, Purpose, WriterError},
        console::Console,
    },
    json::json_line,
    request::parser::{Request, RequestKind},
    tuya::{Command, DeviceStatus, GatewayId, Property, Uplink},
    wrapping::refuse_wrapped,
};

/// The version of the format.
const VERSION: u64 = 2;

/// A head longer than this is no journal's.
const LONGEST_HEAD: u64 = 64 * 1024;

/// The length of an entry's line, newline included; one with `at` is longer.
const ENTRY: usize = 80;

/// The head: what the entries below it are about.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Head {
    journal: u64,
    op: String,
    broker: String,
    gateway_id: Option<String>,
    /// What changes the bytes of the messages, by the names of the options.
    options: Map<String, Value>,
}

impl Head {
    /// The head of a run's journal.
    pub fn new(
        operation: RequestKind,
        broker: String,
        gateway_id: Option<&str>,
        options: Map<String, Value>,
    ) -> Self {
        Self {
            journal: VERSION,
            op: operation.name().to_owned(),
            broker,
            gateway_id: gateway_id.map(str::to_owned),
            options,
        }
    }

    /// What another head is about that this run is not, in words; nothing where the two agree.
    fn difference(&self, other: &Self, any_broker: bool) -> Option<(String, &'static str)> {
        const OTHER: &str = "Give the options of the first run, or begin another journal.";
        let named = |id: &Option<String>| id.clone().unwrap_or_else(|| "none".to_owned());
        if self.op != other.op {
            return Some((format!("this is the journal of `{}`, not of `{}`", other.op, self.op), OTHER));
        }
        if self.gateway_id != other.gateway_id {
            let (theirs, ours) = (named(&other.gateway_id), named(&self.gateway_id));
            return Some((format!("this is the journal of gateway {theirs}, not of {ours}"), OTHER));
        }
        let keys = self.options.keys().chain(other.options.keys());
        if let Some(name) = keys.into_iter().find(|name| self.options.get(*name) != other.options.get(*name))
        {
            let value = |options: &Map<String, Value>| options.get(name).unwrap_or(&Value::Null).to_string();
            let (theirs, ours) = (value(&other.options), value(&self.options));
            let what = format!("this is the journal of a run with {name} {theirs}, not {ours}");
            return Some((what, OTHER));
        }
        (self.broker != other.broker && !any_broker).then(|| {
            (
                format!("this is the journal of a run at {}, not at {}", other.broker, self.broker),
                "What one edge has accepted, another one may not know. Begin another journal, or take this one \
                 for every broker with --journal-any-broker.",
            )
        })
    }
}

/// An entry's line.
#[derive(Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Line<'a> {
    #[serde(borrow)]
    k: &'a str,
    #[serde(borrow)]
    h: &'a str,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    at: Option<u32>,
}

impl Line<'_> {
    fn entry(&self) -> Option<Entry> {
        let hash = |text: &str| {
            let mut hash = Hash::default();
            hex::decode_to_slice(text, &mut hash).ok()?;
            Some(hash)
        };
        let digest = Digest { key: hash(self.k)?, content: hash(self.h)? };
        Some(Entry { digest, at: self.at })
    }
}

/// The journal of a run.
pub struct Journal {
    out: BatchWriter,
    gateway_id: Option<String>,
    history: History,
    skipped: u64,
}

impl Journal {
    /// Opens a journal, or begins one.
    ///
    /// # Errors
    /// A file that cannot be used, that is no journal, or that is the journal of something else.
    pub fn open(path: &Path, head: &Head, any_broker: bool, console: Console) -> Result<Self, Failure> {
        // What is no journal is not touched.
        look_at(path, head, any_broker)?;
        // Opening repairs a last line that a crash tore, so that reading finds whole lines only.
        let mut out = BatchWriter::append(path, Purpose::Journal)?;
        if let Some(repaired) = out.recovery_note() {
            console.warn(repaired);
        }
        let mut reading = Reading::of(path)?;
        reading.read(head, any_broker)?;
        let Reading { mut history, last, .. } = reading;
        history.sort();
        // Entries of another broker than those above stand below a head of their own.
        if last.as_ref() != Some(head) {
            out.write(&json_line(head));
            out.flush();
        }
        Ok(Self { out, gateway_id: head.gateway_id.clone(), history, skipped: 0 })
    }

    /// Whether a former run has done a message, so that it is not sent; `first` is the index of its first result line.
    pub fn passes(&mut self, first: u64, item: &Request) -> bool {
        let passes = self.history.passes(first, &digests(item, self.gateway_id.as_deref()));
        if passes {
            self.skipped += item.lines();
        }
        passes
    }

    /// Notes what became of the request with this index.
    pub fn settle(&mut self, index: u64, accepted: bool) {
        let out = &mut self.out;
        self.history.settle(index, accepted, |entry| {
            let Entry { digest: Digest { key, content }, at } = entry;
            let line = Line { k: &hex::encode(key), h: &hex::encode(content), at };
            out.write(&json_line(&line));
        });
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
        self.out.committed_changed().await.map(drop).map_err(failed)
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

fn failed(why: WriterError) -> Failure {
    match why {
        WriterError::Failed(failure) => failure,
        WriterError::ReaderGone => Failure::io("nobody reads the journal"),
    }
}

fn wrong(place: &str, what: &str) -> Failure {
    Failure::invalid(format!("{place}: {what}"))
        .hint("--journal takes a file that an earlier run of the same kind began, or a new one")
}

/// Refuses a file that does not begin with a head of this run; a crash may have torn that line.
fn look_at(path: &Path, expected: &Head, any_broker: bool) -> Result<(), Failure> {
    let Ok(file) = File::open(path) else { return Ok(()) };
    let mut first = Vec::new();
    // A directory, or a file that cannot be read, is told when it is opened for writing.
    let _ = BufReader::new(file).take(LONGEST_HEAD).read_until(b'\n', &mut first);
    let place = path.display().to_string();
    refuse_wrapped(&first, &place)?;
    let beginning = b"{\"journal\":";
    if !first.ends_with(b"\n")
        && (beginning.starts_with(&first) || first.starts_with(beginning))
        && serde_json::from_slice::<Value>(&first).is_err()
    {
        return Ok(());
    }
    check_head(&first, &place, expected, any_broker).map(drop)
}

/// Reads a head, and refuses that of another run.
fn check_head(line: &[u8], place: &str, expected: &Head, any_broker: bool) -> Result<Head, Failure> {
    #[derive(Deserialize)]
    struct Version {
        journal: u64,
    }
    let Version { journal } =
        serde_json::from_slice(line).map_err(|_| wrong(place, "this is not a journal"))?;
    if journal < VERSION {
        let what = format!("this is a journal of version {journal}, whose entries are places in the input");
        return Err(wrong(place, &what).hint(
            "Begin another journal: this version notes what each device was sent, and everything is sent once more.",
        ));
    }
    if journal > VERSION {
        let what = format!("this is a journal of version {journal}, newer than this program knows");
        return Err(wrong(place, &what));
    }
    let head: Head = serde_json::from_slice(line)
        .map_err(|why| wrong(place, &format!("this is not the head of a journal: {why}")))?;
    match expected.difference(&head, any_broker) {
        None => Ok(head),
        Some((what, hint)) => Err(wrong(place, &what).hint(hint)),
    }
}

/// A journal that is read.
struct Reading {
    path: PathBuf,
    file: BufReader<File>,
    history: History,
    /// The last head.
    last: Option<Head>,
}

impl Reading {
    fn of(path: &Path) -> Result<Self, Failure> {
        let unreadable = |why| Failure::io(format!("cannot read {}: {why}", path.display()));
        let file = File::open(path).map_err(unreadable)?;
        let length = usize::try_from(file.metadata().map_err(unreadable)?.len()).unwrap_or(usize::MAX);
        // No line is shorter than an entry, so that this is room for all of them, and hardly more.
        let history = History::with_capacity(length / ENTRY);
        Ok(Self { path: path.to_owned(), file: BufReader::new(file), history, last: None })
    }

    fn read(&mut self, head: &Head, any_broker: bool) -> Result<(), Failure> {
        let mut line = Vec::new();
        for number in 1_u64.. {
            line.clear();
            let read = self.file.read_until(b'\n', &mut line);
            if read.map_err(|why| Failure::io(format!("cannot read {}: {why}", self.path.display())))? == 0 {
                break;
            }
            let place = || format!("{}, line {number}", self.path.display());
            if line.starts_with(b"{\"journal\"") {
                self.last = Some(check_head(&line, &place(), head, any_broker)?);
                continue;
            }
            let entry = serde_json::from_slice::<Line<'_>>(&line).ok().and_then(|line| line.entry());
            let entry = entry.ok_or_else(|| wrong(&place(), "this is no entry of a journal"))?;
            if !self.history.add(entry) {
                return Err(wrong(&place(), "a journal has at most 4,294,967,296 entries"));
            }
        }
        Ok(())
    }
}

/// Whom each result line of a message concerns, and what it says. Both hashes are MD5, of bytes that no platform
/// and no version of this program changes: docs/bulk.md says which.
fn digests(item: &Request, gateway_id: Option<&str>) -> Vec<Digest> {
    let gateway = item.gateway_id.as_ref().map(GatewayId::as_str).or(gateway_id).unwrap_or_default();
    // Without one in the input they are fresh for each message, and say nothing.
    let (t, request_id) = (item.t.unwrap_or_default(), item.request_id.as_deref().unwrap_or_default());
    let digest = |cid: &str, ids: &[&str], message: &[u8]| {
        let mut key = vec![gateway, cid];
        key.extend_from_slice(ids);
        Digest { key: hash(&json_line(&key)), content: hash(message) }
    };
    match &item.body {
        Payload::Uplink(Uplink::Status(statuses)) => {
            let of = |status: &DeviceStatus| {
                let message = Uplink::Status(vec![status.clone()]).encode(t, request_id);
                digest(&status.cid, &[], &message)
            };
            statuses.iter().map(of).collect()
        }
        Payload::Uplink(uplink) => {
            let message = uplink.encode(t, request_id);
            let digest = match uplink {
                Uplink::Sync(device) => digest(&device.cid, &[], &message),
                Uplink::Report(Property { cid, id, .. }) => digest(cid, &[id], &message),
                Uplink::CommandResponse(answer) => digest(&answer.cid, &[], &message),
                Uplink::AsGiven { cid, .. } => digest(cid, &[], &message),
                Uplink::Status(_) => return Vec::new(),
            };
            vec![digest]
        }
        Payload::Command(command @ Command { cid, points }) => {
            let ids: Vec<_> = points.iter().map(|(id, _)| id.as_str()).collect();
            vec![digest(cid, &ids, &command.encode(t, request_id))]
        }
    }
}

fn hash(bytes: &[u8]) -> Hash {
    Md5::digest(bytes).into()
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Journals outlive the program's versions: these bytes must never change.
    #[test]
    fn hashes_are_those_of_the_documentation() {
        let property = Property {
            cid: "m1".into(),
            id: "1".into(),
            value: serde_json::value::RawValue::from_string("12345".into()).unwrap().as_ref().into(),
        };
        let item = Request::new(RequestKind::Report, Payload::Uplink(Uplink::Report(property)));
        let [digest] = digests(&item, Some("gw1"))[..] else { panic!("one line") };
        assert_eq!(hex::encode(digest.key), hex::encode(Md5::digest("[\"gw1\",\"m1\",\"1\"]\n")));
        let message = "{\"t\":0,\"request_id\":\"\",\"param\":{\"cid\":\"m1\",\"id\":\"1\",\"value\":12345}}";
        assert_eq!(hex::encode(digest.content), hex::encode(Md5::digest(message)));
        let entry = Line { k: &hex::encode(digest.key), h: &hex::encode(digest.content), at: None };
        assert_eq!(json_line(&entry).len(), ENTRY);
    }

    #[test]
    fn a_given_time_stamp_or_request_id_belongs_to_the_content() {
        let item = || {
            let status = DeviceStatus { cid: "m1".into(), status: true };
            Request::new(RequestKind::Status, Payload::Uplink(Uplink::Status(vec![status])))
        };
        let contents =
            [item(), Request { t: Some(1), ..item() }, Request { request_id: Some("r".into()), ..item() }]
                .map(|item| digests(&item, None)[0].content);
        for (n, content) in contents.iter().enumerate() {
            assert!(!contents[..n].contains(content), "{n}");
        }
    }
}
