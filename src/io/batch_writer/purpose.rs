//! What a file that lines are appended to is for: how it is written, and what may be done with what it holds.

use std::{
    fs::File,
    io::{self, Read as _},
    os::unix::fs::FileExt as _,
    path::Path,
};

use crate::{error::Failure, wrapping::refuse_wrapped};

/// A first line longer than this is not looked at.
const LONGEST_FIRST_LINE: u64 = 64 * 1024;

/// What a file is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Purpose {
    /// The records of `listen`, each of which is acknowledged once it is synced.
    ListenRecords,
    /// The records of `tap`, whose traffic does not wait for them.
    TapRecords,
    /// The records of `edge`, whose answers do not wait for them.
    EdgeRecords,
    /// The edge's devices.
    Registry,
    /// What a run has accepted.
    Journal,
    /// The ends of an agent's spooled messages.
    SpoolResults,
}

/// Kinds of files that this program writes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum FileContent {
    Records,
    Registry,
    Journal,
    SpoolResults,
}

impl FileContent {
    fn name(self) -> &'static str {
        match self {
            Self::Records => "a recording",
            Self::Registry => "a registry of devices",
            Self::Journal => "a journal",
            Self::SpoolResults => "a file of spool results",
        }
    }

    /// What a file holds, as far as its first line tells.
    fn of(first_line: &[u8]) -> Option<Self> {
        let object: serde_json::Map<String, serde_json::Value> = serde_json::from_slice(first_line).ok()?;
        let has = |names: &[&str]| names.iter().all(|name| object.contains_key(*name));
        if has(&["journal", "op"]) || has(&["k", "h"]) {
            Some(Self::Journal)
        } else if has(&["topic"]) || has(&["v", "kind"]) || has(&["v", "event"]) {
            Some(Self::Records)
        } else if has(&["ok", "op", "given"]) {
            Some(Self::SpoolResults)
        } else if has(&["gateway_id", "cid", "product_id"]) {
            Some(Self::Registry)
        } else {
            None
        }
    }
}

impl Purpose {
    fn content(self) -> FileContent {
        match self {
            Self::ListenRecords | Self::TapRecords | Self::EdgeRecords => FileContent::Records,
            Self::Registry => FileContent::Registry,
            Self::Journal => FileContent::Journal,
            Self::SpoolResults => FileContent::SpoolResults,
        }
    }

    /// Whether the file holds records.
    pub(crate) fn is_recording(self) -> bool {
        self.content() == FileContent::Records
    }

    /// Whether every write is synced.
    pub(crate) fn is_durable(self) -> bool {
        self != Self::EdgeRecords
    }

    /// Whether no other program may write to the file meanwhile.
    pub(crate) fn is_exclusive(self) -> bool {
        matches!(self, Self::Registry | Self::Journal)
    }

    /// Whether a line that is not whole may be a line of ours: only those are cut off.
    pub(crate) fn may_begin(self, torn: &[u8]) -> bool {
        let beginnings: &[&[u8]] = match self.content() {
            FileContent::Records => &[b"{\"v\":1,\""],
            FileContent::Registry => &[b"{\"gateway_id\":\""],
            FileContent::Journal => &[b"{\"k\":\"", b"{\"journal\":"],
            FileContent::SpoolResults => &[b"{\"ok\":"],
        };
        beginnings.iter().any(|beginning| torn.starts_with(beginning) || beginning.starts_with(torn))
    }

    /// What to do when the file cannot be written, and what is not lost.
    pub(crate) fn hint(self) -> &'static str {
        match self {
            Self::ListenRecords => {
                "What was not written is not acknowledged; make room, then run the same again."
            }
            Self::TapRecords => {
                "The traffic goes on without its recording; make room, then start the tap again."
            }
            Self::EdgeRecords => {
                "Messages are answered before they are recorded, so that the last ones are missing in the recording; \
                 make room, then start the edge again."
            }
            Self::Registry => {
                "A sync whose device is not on the disk is not answered; make room, then start the edge again."
            }
            Self::SpoolResults => "Messages are sent on, and their results are missing; make room.",
            Self::Journal => {
                "What was accepted and is not in the journal is sent once more by the next run; make room, then run \
                 the same again."
            }
        }
    }

    /// Refuses a file that is not text, or that holds something else of this program.
    pub(crate) fn check(self, file: &File, path: &Path) -> Result<(), Failure> {
        let first =
            first_line(file).map_err(|why| Failure::io(format!("cannot read {}: {why}", path.display())))?;
        refuse_wrapped(&first, &path.display().to_string())?;
        match FileContent::of(&first) {
            Some(found) if found != self.content() => {
                let (found, wanted) = (found.name(), self.content().name());
                Err(Failure::invalid(format!("{} is {found}, not {wanted}", path.display()))
                    .hint("Name another file: lines of both kinds in one file would spoil it."))
            }
            _ => Ok(()),
        }
    }
}

/// The first line that is not blank, as far as it is looked at; does not move the file's position.
pub(crate) fn first_line(file: &File) -> io::Result<Vec<u8>> {
    let mut text = Vec::new();
    At { file, offset: 0 }.take(LONGEST_FIRST_LINE).read_to_end(&mut text)?;
    let mut lines = text.split(|byte| *byte == b'\n').filter(|line| !line.trim_ascii().is_empty());
    Ok(lines.next().unwrap_or_default().to_vec())
}

/// Reads a file from an offset of its own.
struct At<'a> {
    file: &'a File,
    offset: u64,
}

impl io::Read for At<'_> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let read = self.file.read_at(buffer, self.offset)?;
        self.offset += read as u64;
        Ok(read)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_first_line_tells_what_a_file_holds() {
        for (line, content) in [
            ("{\"v\":1,\"tst\":\"\",\"topic\":\"a\",\"payload\":{}}", Some(FileContent::Records)),
            ("{\"tst\":\"\",\"topic\":\"a\",\"payload\":null}", Some(FileContent::Records)),
            ("{\"v\":1,\"kind\":\"connect\",\"client_id\":\"gw1\"}", Some(FileContent::Records)),
            ("{\"v\":1,\"event\":\"begin\"}", Some(FileContent::Records)),
            ("{\"gateway_id\":\"gw1\",\"cid\":\"m1\",\"product_id\":\"p\"}", Some(FileContent::Registry)),
            ("{\"journal\":2,\"op\":\"sync\"}", Some(FileContent::Journal)),
            ("{\"k\":\"00\",\"h\":\"00\"}", Some(FileContent::Journal)),
            ("{\"cid\":\"m1\",\"product_id\":\"p\"}", None),
            ("notes", None),
            ("", None),
        ] {
            assert_eq!(FileContent::of(line.as_bytes()), content, "{line}");
        }
    }

    #[test]
    fn only_the_beginning_of_a_line_of_ours_may_be_torn() {
        for torn in ["{", "{\"v\":1", "{\"v\":1,\"tst\":\"2026"] {
            assert!(Purpose::ListenRecords.may_begin(torn.as_bytes()), "{torn}");
        }
        for foreign in ["{draft", "{\"v\":2,\"tst", "{ \"v\":1", "x", "{\"gateway_id\":\"gw1\",\"ci"] {
            assert!(!Purpose::ListenRecords.may_begin(foreign.as_bytes()), "{foreign}");
        }
        assert!(Purpose::Registry.may_begin(b"{\"gateway_id\":\"gw1\",\"ci"));
        assert!(Purpose::Journal.may_begin(b"{\"k\":\"00") && Purpose::Journal.may_begin(b"{\"journal\":2,"));
    }
}
