//! The journal of a run: a durable record of accepted requests, so that the same command run again sends only the rest.
//!
//! A file of JSON Lines. A head describes the run of the entries below it; each entry is an accepted request,
//! `{"k":…,"h":…}`: hashes of whom it concerns and of what it says. A file may have several heads, so that `cat` joins
//! journals. Entries are synced to the disk in groups.

mod history;

use std::{
    fs::File,
    io::{BufRead as _, BufReader, Read as _},
    path::{Path, PathBuf},
};

use md5::{Digest as _, Md5};
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};

pub use self::history::LineDigest;
use self::history::{Hash, History, JournalEntry};
use crate::{
    error::Failure,
    gateway::Payload,
    io::{
        batch_writer::{BatchWriter, Purpose, WriterError},
        console::Console,
    },
    json::json_line,
    request::{Request, RequestKind},
    tuya::{Command, DeviceStatus, GatewayId, Property, Uplink},
    wrapping::refuse_wrapped,
};

/// The version of the format.
const VERSION: u64 = 2;

/// A head longer than this is no journal's.
const LONGEST_HEAD: u64 = 64 * 1024;

/// The length of an entry's line, newline included; one with `at` is longer.
const ENTRY: usize = 80;

/// The head: the run that the entries below it belong to.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct JournalHead {
    journal: u64,
    op: String,
    broker: String,
    gateway_id: Option<String>,
    /// The options that change the bytes of messages, by name.
    options: Map<String, Value>,
}

impl JournalHead {
    /// The head of a run's journal.
    pub fn new(
        kind: RequestKind,
        broker: String,
        gateway_id: Option<&str>,
        options: Map<String, Value>,
    ) -> Self {
        Self {
            journal: VERSION,
            op: kind.name().to_owned(),
            broker,
            gateway_id: gateway_id.map(str::to_owned),
            options,
        }
    }

    /// Describes how another head differs from that of this run, with a hint; `None` if the two agree.
    fn difference(&self, other: &Self, any_broker: bool) -> Option<(String, &'static str)> {
        const OTHER: &str = "Give the options of the first run, or begin another journal";
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
                "Another edge may not have what this one accepted. Begin another journal, or use this one for every \
                 broker with --journal-any-broker",
            )
        })
    }
}

/// An entry's line.
#[derive(Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct EntryLine<'a> {
    #[serde(borrow)]
    k: &'a str,
    #[serde(borrow)]
    h: &'a str,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    at: Option<u32>,
}

impl EntryLine<'_> {
    fn entry(&self) -> Option<JournalEntry> {
        let hash = |text: &str| {
            let mut hash = Hash::default();
            hex::decode_to_slice(text, &mut hash).ok()?;
            Some(hash)
        };
        let digest = LineDigest { key: hash(self.k)?, content: hash(self.h)? };
        Some(JournalEntry { digest, at: self.at })
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
    /// A file that cannot be used, that is no journal, or that is the journal of a different run.
    pub fn open(
        path: &Path,
        head: &JournalHead,
        any_broker: bool,
        console: Console,
    ) -> Result<Self, Failure> {
        // Before opening, which repairs the file's end: a file that is no journal is not changed.
        check_first_line(path, head, any_broker)?;
        // Opening repairs a line that a crash tore, so that reading finds whole lines only.
        let mut out = BatchWriter::append(path, Purpose::Journal)?;
        if let Some(repaired) = out.recovery_note() {
            console.warn(repaired);
        }
        let mut reading = JournalReader::of(path)?;
        reading.read(head, any_broker)?;
        let JournalReader { mut history, last, .. } = reading;
        history.sort();
        // Entries for another broker stand below a head of their own.
        if last.as_ref() != Some(head) {
            out.write(&json_line(head));
            out.flush();
        }
        Ok(Self { out, gateway_id: head.gateway_id.clone(), history, skipped: 0 })
    }

    /// Returns whether a former run accepted a request, which is then passed over; `first` is the index of its first result
    /// line.
    pub fn pass_over(&mut self, first: u64, request: &Request) -> bool {
        let is_passed_over = self.history.pass_over(first, &digests(request, self.gateway_id.as_deref()));
        if is_passed_over {
            self.skipped += request.lines();
        }
        is_passed_over
    }

    /// Records the result of the line with this index.
    pub fn handle_result(&mut self, index: u64, accepted: bool) {
        let out = &mut self.out;
        self.history.handle_result(index, accepted, |entry| {
            let JournalEntry { digest: LineDigest { key, content }, at } = entry;
            let line = EntryLine { k: &hex::encode(key), h: &hex::encode(content), at };
            out.write(&json_line(&line));
        });
    }

    /// Passes the entries to the writer thread, which syncs them in groups.
    pub fn flush(&mut self) {
        self.out.flush();
    }

    /// Returns how many inputs were passed over.
    #[must_use]
    pub fn skipped(&self) -> u64 {
        self.skipped
    }

    /// Waits until more entries are synced; never returns if there are none. Cancel-safe.
    ///
    /// # Errors
    /// The journal cannot be written.
    pub async fn committed_changed(&mut self) -> Result<(), Failure> {
        if self.out.backlog() == 0 {
            return std::future::pending().await;
        }
        self.out.committed_changed().await.map(drop).map_err(failed)
    }

    /// Waits until all entries are synced.
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
        WriterError::ReaderGone => Failure::io("the journal has no reader any more"),
    }
}

fn wrong(place: &str, what: &str) -> Failure {
    Failure::invalid(format!("{place}: {what}"))
        .hint("--journal takes a file that an earlier run of the same kind began, or a new one")
}

/// Refuses a file that does not begin with a head of this run; a crash may have torn that line.
fn check_first_line(path: &Path, expected: &JournalHead, any_broker: bool) -> Result<(), Failure> {
    let Ok(file) = File::open(path) else { return Ok(()) };
    let mut first = Vec::new();
    // Opening for writing reports a directory, or a file that cannot be read.
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
fn check_head(
    line: &[u8],
    place: &str,
    expected: &JournalHead,
    any_broker: bool,
) -> Result<JournalHead, Failure> {
    #[derive(Deserialize)]
    struct HeadVersion {
        journal: u64,
    }
    let HeadVersion { journal } =
        serde_json::from_slice(line).map_err(|_| wrong(place, "this is not a journal"))?;
    if journal < VERSION {
        let what = format!("this is a journal of version {journal}, whose entries are places in the input");
        return Err(wrong(place, &what).hint(
            "Begin another journal: this version records what was sent to each device, and all is sent once more",
        ));
    }
    if journal > VERSION {
        let what = format!("this is a journal of version {journal}, newer than this program knows");
        return Err(wrong(place, &what));
    }
    let head: JournalHead = serde_json::from_slice(line)
        .map_err(|why| wrong(place, &format!("this is not the head of a journal: {why}")))?;
    match expected.difference(&head, any_broker) {
        None => Ok(head),
        Some((what, hint)) => Err(wrong(place, &what).hint(hint)),
    }
}

/// Reads a journal.
struct JournalReader {
    path: PathBuf,
    file: BufReader<File>,
    history: History,
    /// The last head.
    last: Option<JournalHead>,
}

impl JournalReader {
    fn of(path: &Path) -> Result<Self, Failure> {
        let unreadable = |why| Failure::io(format!("cannot read {}: {why}", path.display()));
        let file = File::open(path).map_err(unreadable)?;
        let length = usize::try_from(file.metadata().map_err(unreadable)?.len()).unwrap_or(usize::MAX);
        // No line is shorter than an entry, so this is memory for all of them, and hardly more.
        let history = History::with_capacity(length / ENTRY);
        Ok(Self { path: path.to_owned(), file: BufReader::new(file), history, last: None })
    }

    fn read(&mut self, head: &JournalHead, any_broker: bool) -> Result<(), Failure> {
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
            let entry = serde_json::from_slice::<EntryLine<'_>>(&line).ok().and_then(|line| line.entry());
            let entry = entry.ok_or_else(|| wrong(&place(), "this is no entry of a journal"))?;
            if !self.history.add(entry) {
                return Err(wrong(&place(), "a journal has at most 4,294,967,296 entries"));
            }
        }
        Ok(())
    }
}

/// Returns the hashes of each result line of a request: whom it concerns, and what it says. Both are MD5, of bytes that no
/// platform and no version of this program changes (docs/bulk.md).
fn digests(request: &Request, gateway_id: Option<&str>) -> Vec<LineDigest> {
    let gateway = request.gateway_id.as_ref().map(GatewayId::as_str).or(gateway_id).unwrap_or_default();
    // If the input gives none, they are new for each message, and must not count.
    let (t, request_id) = (request.t.unwrap_or_default(), request.request_id.as_deref().unwrap_or_default());
    let digest = |cid: &str, ids: &[&str], message: &[u8]| {
        let mut key = vec![gateway, cid];
        key.extend_from_slice(ids);
        LineDigest { key: hash(&json_line(&key)), content: hash(message) }
    };
    match &request.payload {
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
        let request = Request::new(RequestKind::Report, Payload::Uplink(Uplink::Report(property)));
        let [digest] = digests(&request, Some("gw1"))[..] else { panic!("one line") };
        assert_eq!(hex::encode(digest.key), hex::encode(Md5::digest("[\"gw1\",\"m1\",\"1\"]\n")));
        let message = "{\"t\":0,\"request_id\":\"\",\"param\":{\"cid\":\"m1\",\"id\":\"1\",\"value\":12345}}";
        assert_eq!(hex::encode(digest.content), hex::encode(Md5::digest(message)));
        let entry = EntryLine { k: &hex::encode(digest.key), h: &hex::encode(digest.content), at: None };
        assert_eq!(json_line(&entry).len(), ENTRY);
    }

    #[test]
    fn a_given_time_stamp_or_request_id_belongs_to_the_content() {
        let request = || {
            let status = DeviceStatus { cid: "m1".into(), status: true };
            Request::new(RequestKind::Status, Payload::Uplink(Uplink::Status(vec![status])))
        };
        let contents = [
            request(),
            Request { t: Some(1), ..request() },
            Request { request_id: Some("r".into()), ..request() },
        ]
        .map(|request| digests(&request, None)[0].content);
        for (n, content) in contents.iter().enumerate() {
            assert!(!contents[..n].contains(content), "{n}");
        }
    }
}
