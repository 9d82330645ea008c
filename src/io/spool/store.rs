//! A spool's files, and every operation on them, one after another. The thread of `Spool` calls it.

use std::{collections::BTreeMap, io, mem, ops::Range, sync::Arc};

use fastrand::Rng;

use super::{
    folder::{SpoolFile, SpoolFolder},
    outcome::{AppendError, Commit},
    tables::{LastEntries, SegmentTable, TablePlace},
};
use crate::{
    error::Failure,
    spool::{
        EntryId, FinishedSet, FormatError, MARK, MAX_BODY, Marks, RECORD_HEADER, SEGMENT_HEADER, Scanned,
        SegmentHeader, SpoolEntry, TABLE_ENTRY, TRAILER, TableShape, Trailer, VERSION, decode, device_hash,
        encode, encode_mark, marks_header, read_marks, scan, stored_length,
    },
};

const MARKS: &str = "finished";
const NEXT_MARKS: &str = "finished.new";

/// How much is read or written at once.
const CHUNK: usize = 128 * 1024;

/// A segment with so many devices is complete: they are kept in memory until it is.
const MAX_DEVICES: usize = 32 * 1024;

/// The sizes from which files are replaced.
#[derive(Clone, Copy, Debug)]
pub struct StoreLimits {
    /// A segment of so many bytes is complete.
    pub segment: u64,
    /// Marks of so many bytes are written anew.
    pub marks: u64,
}

/// A spool's files.
#[derive(Debug)]
pub struct Store<F: SpoolFolder> {
    folder: F,
    limits: StoreLimits,
    salts: Rng,
    /// The segments by their first numbers.
    segments: BTreeMap<u64, StoredSegment>,
    /// The one that takes entries, which is the last of them.
    active: Option<ActiveSegment<F::File>>,
    /// The finished entries of these segments.
    finished: FinishedSet,
    marks: MarksFile<F::File>,
    reader: SegmentReader<F::File>,
    /// Greater than the number of every entry that was stored or refused.
    next: u64,
    warnings: Vec<String>,
    /// The list of complete segments, until it changes.
    tables: Option<Arc<[SegmentTable]>>,
}

/// A segment of which an entry may be unfinished.
#[derive(Debug)]
struct StoredSegment {
    name: Arc<str>,
    header: SegmentHeader,
    /// The file's length, and that of the table and trailer to come.
    length: u64,
    /// Where the synced records end.
    records_end: u64,
    last: u64,
    count: u64,
    unfinished: u64,
    /// `None` while it takes entries.
    place: Option<TablePlace>,
    /// Whether all of its entries were read.
    is_read: bool,
}

#[derive(Debug)]
struct ActiveSegment<File> {
    first: u64,
    file: File,
    devices: LastEntries,
}

#[derive(Debug)]
struct MarksFile<File> {
    /// `None` if the file has to be written anew.
    file: Option<File>,
    length: u64,
    is_synced: bool,
}

/// Where reading has come to.
#[derive(Debug)]
struct SegmentReader<File> {
    /// The segment, if it has begun with one.
    segment: Option<(u64, File)>,
    offset: u64,
    /// The bytes from the offset on.
    buffer: Vec<u8>,
    /// How many of the buffer's bytes were used.
    used: usize,
    /// The least number that the next entry can have.
    least: u64,
    /// How many of the segment's entries were whole.
    seen: u64,
    /// Bytes of the segment that are no whole record.
    damaged: Option<Range<u64>>,
}

/// What a segment without a trailer holds.
#[derive(Debug, Default)]
struct RecoveredSegment {
    records_end: u64,
    last: u64,
    count: u64,
    devices: LastEntries,
}

impl<F: SpoolFolder> Store<F> {
    /// Opens the spool in a folder and repairs it.
    ///
    /// # Errors
    /// Files of another version, of which none is changed; a folder that cannot be read or written.
    pub fn open(folder: F, limits: StoreLimits, salts: Rng) -> Result<Self, Failure> {
        let failed = |what: &str, why: io::Error| Failure::io(format!("cannot {what}: {why}"));
        let place = folder.describe("");
        let names = folder.names().map_err(|why| failed(&format!("read the spool {place}"), why))?;
        // Nothing is changed before all files are known to be of this version.
        let (marks, mut is_marked) = read_finished(&folder, &names)?;
        let mut found = Vec::new();
        for name in &names {
            let Some(first) = first_of(name) else { continue };
            let cannot_read = |why| failed(&format!("read {}", folder.describe(name)), why);
            let file = folder.open(name).map_err(cannot_read)?;
            let length = file.length().map_err(cannot_read)?;
            let mut bytes = [0; SEGMENT_HEADER];
            file.read_at(&mut bytes, 0).map_err(cannot_read)?;
            let header = match SegmentHeader::decode(&bytes) {
                Err(FormatError::Version(version)) => return Err(newer(&folder.describe(name), version)),
                Err(FormatError::Damaged) => None,
                Ok(header) => Some(header).filter(|header| header.first == first),
            };
            found.push((first, name, file, length, header));
        }
        let mut store = Self {
            folder,
            limits,
            salts,
            segments: BTreeMap::new(),
            active: None,
            next: marks.finished.end().max(1),
            finished: marks.finished,
            marks: MarksFile { file: None, length: 0, is_synced: false },
            reader: SegmentReader::new(),
            warnings: Vec::new(),
            tables: None,
        };
        if let Some(at) = marks.damaged_at.filter(|_| is_marked || !found.is_empty()) {
            let marks = store.folder.describe(MARKS);
            let what = if is_marked { format!("is damaged at byte {at}") } else { "is missing".to_owned() };
            store.warnings.push(format!("{marks} {what}: entries that were finished may be sent again"));
            is_marked = false;
        }
        for (first, name, file, length, header) in found {
            store.next = store.next.max(first + 1);
            let added = match header {
                Some(header) => store.add_segment(name, file, length, header),
                None => store.set_aside(name, length),
            };
            added.map_err(|why| failed(&format!("repair {}", store.folder.describe(name)), why))?;
        }
        if names.iter().any(|name| name == NEXT_MARKS) {
            // It is written again when it is needed.
            let _ = store.folder.remove(NEXT_MARKS);
        }
        if is_marked {
            let opened = store.folder.open(MARKS).and_then(|file| Ok((file.length()?, file)));
            let cannot_open = |why| failed(&format!("open {}", store.folder.describe(MARKS)), why);
            let (length, file) = opened.map_err(cannot_open)?;
            store.marks = MarksFile { file: Some(file), length, is_synced: false };
        }
        store.finished.forget_below(store.segments.keys().next().copied().unwrap_or(store.next));
        store.remove_finished(|_| true);
        if store.marks.file.is_none() {
            let written = store.write_marks_anew();
            // A full disk must not keep a spool from being emptied.
            if let Err(why) = written
                && !is_full(&why)
            {
                return Err(failed(&format!("write {}", store.folder.describe(MARKS)), why));
            }
        }
        Ok(store)
    }

    /// Takes a segment up, completing it if it is not complete.
    fn add_segment(
        &mut self,
        name: &str,
        file: F::File,
        length: u64,
        header: SegmentHeader,
    ) -> io::Result<()> {
        let mut bytes = [0; TRAILER];
        let at = length.checked_sub(TRAILER as u64).filter(|at| *at >= SEGMENT_HEADER as u64);
        let trailer = match at {
            Some(at) if file.read_at(&mut bytes, at)? == TRAILER => Trailer::decode(header, length, &bytes),
            _ => None,
        };
        let mut segment = StoredSegment {
            name: name.into(),
            header,
            length,
            records_end: SEGMENT_HEADER as u64,
            last: header.first,
            count: 0,
            unfinished: 0,
            place: None,
            is_read: false,
        };
        let devices = if let Some(trailer) = trailer {
            segment.records_end = trailer.records_end;
            (segment.last, segment.count) = (trailer.last, trailer.count);
            segment.place = Some(TablePlace::File(trailer.records_end, trailer.table));
            None
        } else {
            let found = recover(&file, length, header)?;
            if found.count == 0 {
                // No entry in it was ever acknowledged, or none can be read.
                if length > SEGMENT_HEADER as u64 {
                    return self.set_aside(name, length);
                }
                return self.folder.remove(name);
            }
            if found.records_end < length {
                let cut = length - found.records_end;
                let (place, at) = (self.folder.describe(name), found.records_end);
                self.warnings.push(format!(
                    "{place} is not complete: {cut} bytes after its last whole entry, at byte {at}, are cut off"
                ));
            }
            segment.records_end = found.records_end;
            (segment.last, segment.count) = (found.last, found.count);
            Some(found.devices)
        };
        segment.unfinished =
            segment.count.saturating_sub(self.finished.count_in(header.first..segment.last + 1));
        self.next = self.next.max(segment.last + 1);
        match devices {
            Some(devices) if segment.unfinished > 0 => complete(&mut segment, &file, &devices),
            // It is about to be removed.
            Some(_) => segment.place = Some(TablePlace::Memory(Arc::default())),
            None => {}
        }
        self.segments.insert(header.first, segment);
        Ok(())
    }

    /// Takes a file out of the spool that is no segment: an empty one is removed, any other one gets a name of its own.
    fn set_aside(&mut self, name: &str, length: u64) -> io::Result<()> {
        if length <= SEGMENT_HEADER as u64 {
            // The program ended while it created the segment.
            return self.folder.remove(name);
        }
        let aside = format!("{name}.damaged");
        let (place, aside_place) = (self.folder.describe(name), self.folder.describe(&aside));
        self.warnings.push(format!(
            "{place} is damaged at byte 0: no entry in it can be read; the file is kept as {aside_place}"
        ));
        self.folder.rename(name, &aside)
    }

    /// Appends entries, whose numbers are greater than all before, and returns what became of them, in order.
    pub fn append(&mut self, batch: &[(u64, SpoolEntry)]) -> Vec<Commit> {
        let mut commits = Vec::new();
        let mut rest = batch;
        while let [(first, _), ..] = rest {
            let (taken, outcome) = match self.append_to_segment(rest) {
                Ok(taken) => (taken, Ok(())),
                // The others would fail alike, and would come before those that are given again.
                Err(why) => {
                    let failure = Failure::io(format!("cannot write to the spool: {why}"));
                    let hint = "Make room on the disk, or choose another folder with --spool.";
                    (rest.len(), Err(AppendError::Disk(failure.hint(hint))))
                }
            };
            let (these, after) = rest.split_at(taken);
            let last = these.last().map_or(*first, |(last, _)| *last);
            self.next = last + 1;
            commits.push(Commit { first: EntryId(*first), last: EntryId(last), outcome });
            rest = after;
        }
        commits
    }

    /// Appends as many entries as the segment takes, one at least, and syncs them. After an error none is stored.
    fn append_to_segment(&mut self, batch: &[(u64, SpoolEntry)]) -> io::Result<usize> {
        let Some((first, _)) = batch.first() else { return Ok(0) };
        let is_complete = |segment: &StoredSegment, active: &ActiveSegment<F::File>| {
            segment.records_end >= self.limits.segment
                || active.devices.len() >= MAX_DEVICES
                || first - active.first >= u64::from(u32::MAX)
        };
        if let Some(active) = &self.active
            && self.segments.get(&active.first).is_none_or(|segment| is_complete(segment, active))
        {
            self.complete_active();
        }
        if self.active.is_none() {
            self.create_segment(*first)?;
        }
        let Some(active) = self.active.as_mut() else { return Err(io::ErrorKind::NotFound.into()) };
        let Some(segment) = self.segments.get_mut(&active.first) else {
            return Err(io::ErrorKind::NotFound.into());
        };
        let mut written = segment.records_end;
        let stored = write_batch(active, segment.header.salt, &self.limits, &mut written, batch);
        let synced = stored.and_then(|taken| active.file.sync().map(|()| taken).map_err(|why| (why, true)));
        match synced {
            Ok(taken) => {
                segment.records_end = written;
                segment.count += taken as u64;
                segment.unfinished += taken as u64;
                segment.last = batch[taken - 1].0;
                segment.length = written + table_length(active.devices.len());
                Ok(taken)
            }
            Err((why, is_unknown)) => {
                let cut = active.file.set_length(segment.records_end);
                // After a sync that failed, it is unknown which of the last bytes are on disk: no more is added to the file.
                if is_unknown || cut.is_err() {
                    self.complete_active();
                }
                Err(why)
            }
        }
    }

    fn create_segment(&mut self, first: u64) -> io::Result<()> {
        let name: Arc<str> = name_of(first).into();
        let header = SegmentHeader { first, salt: self.salts.u32(..) };
        let file = self.folder.create(&name)?;
        // The header is durable before any record: a file without one holds nothing.
        let created =
            file.write_at(&header.encode(), 0).and_then(|()| file.sync()).and_then(|()| self.folder.sync());
        if let Err(why) = created {
            let _ = self.folder.remove(&name);
            return Err(why);
        }
        let segment = StoredSegment {
            name,
            header,
            length: SEGMENT_HEADER as u64 + table_length(0),
            records_end: SEGMENT_HEADER as u64,
            last: first,
            count: 0,
            unfinished: 0,
            place: None,
            is_read: false,
        };
        self.segments.insert(first, segment);
        self.active = Some(ActiveSegment { first, file, devices: LastEntries::default() });
        Ok(())
    }

    /// Ends the segment that takes entries.
    fn complete_active(&mut self) {
        let Some(active) = self.active.take() else { return };
        self.tables = None;
        if let Some(segment) = self.segments.get_mut(&active.first) {
            complete(segment, &active.file, &active.devices);
        }
        // If all of its entries are finished, nothing else would remove it.
        self.remove_finished(|segment| segment.is_read);
    }

    /// Reads on, in order, until `bytes` of entries were read or there are no more for now.
    ///
    /// # Errors
    /// A file that cannot be read; the next call tries it again.
    pub fn read(&mut self, bytes: usize) -> io::Result<Vec<(u64, SpoolEntry)>> {
        let (mut entries, mut read) = (Vec::new(), 0);
        while read < bytes {
            let Some(first) = self.reading()? else { break };
            let Some(segment) = self.segments.get(&first) else { break };
            let reader = &mut self.reader;
            let rest = segment.records_end.saturating_sub(reader.offset);
            let buffered = reader.buffer.len() - reader.used;
            let is_end = buffered as u64 >= rest;
            let unread = &reader.buffer[reader.used..];
            let scanned = match unread {
                [] => Scanned::NeedsMore { length: RECORD_HEADER },
                bytes => scan(segment.header.salt, reader.least, bytes, is_end),
            };
            match scanned {
                Scanned::Record { sequence, body, length } => {
                    if let Some(damaged) = reader.damaged.take() {
                        self.warnings.push(describe_damage(&self.folder.describe(&segment.name), &damaged));
                    }
                    let entry = match self.finished.end_of(sequence) {
                        Some(_) => None,
                        None => Some(decode(&unread[body])),
                    };
                    match entry {
                        Some(None) => reader.add_damage(length),
                        Some(Some(entry)) => {
                            reader.seen += 1;
                            read += length;
                            entries.push((sequence, entry));
                        }
                        None => reader.seen += 1,
                    }
                    reader.advance(length);
                    reader.least = sequence + 1;
                }
                Scanned::Damaged { length } => {
                    reader.add_damage(length);
                    reader.advance(length);
                }
                Scanned::NeedsMore { length } => {
                    let length = (length.max(CHUNK) as u64).min(rest);
                    let Some((_, file)) = &reader.segment else { break };
                    let mut buffer = mem::take(&mut reader.buffer);
                    buffer.resize(usize::try_from(length).unwrap_or(usize::MAX), 0);
                    let outcome = file.read_at(&mut buffer, reader.offset);
                    // Bytes that the file has lost fail their checksums.
                    let found = outcome.as_ref().map_or(0, |found| *found);
                    buffer[found..].fill(0);
                    if outcome.is_err() {
                        buffer.clear();
                    }
                    buffer.shrink_to(2 * CHUNK);
                    (reader.buffer, reader.used) = (buffer, 0);
                    outcome.map_err(|why| {
                        let place = self.folder.describe(&segment.name);
                        io::Error::new(
                            why.kind(),
                            format!("cannot read {place} at byte {}: {why}", reader.offset),
                        )
                    })?;
                }
            }
        }
        Ok(entries)
    }

    /// Returns the segment of the next entry, passing to the next segment at the end of one.
    fn reading(&mut self) -> io::Result<Option<u64>> {
        loop {
            let at = match &self.reader.segment {
                None => self.segments.range(self.reader.least..).next(),
                Some((first, _)) => {
                    let Some(segment) = self.segments.get(first) else { return Ok(None) };
                    if self.reader.offset < segment.records_end {
                        return Ok(Some(*first));
                    }
                    if segment.place.is_none() {
                        return Ok(None);
                    }
                    let first = *first;
                    self.end_segment(first);
                    continue;
                }
            };
            let Some((first, segment)) = at else { return Ok(None) };
            let first = *first;
            let file = self.folder.open(&segment.name).map_err(|why| {
                let place = self.folder.describe(&segment.name);
                io::Error::new(why.kind(), format!("cannot open {place}: {why}"))
            })?;
            self.reader.segment = Some((first, file));
            (self.reader.offset, self.reader.used) = (SEGMENT_HEADER as u64, 0);
            self.reader.buffer.clear();
            self.reader.seen = 0;
            self.reader.least = first;
        }
    }

    /// Ends the reading of a complete segment.
    fn end_segment(&mut self, first: u64) {
        self.reader.segment = None;
        if let Some(segment) = self.segments.get_mut(&first) {
            let lost = segment.count.saturating_sub(self.reader.seen);
            segment.is_read = true;
            segment.unfinished = segment.unfinished.saturating_sub(lost);
            // Entries that were damaged are finished: there is nothing to send.
            segment.count -= lost;
            self.reader.least = segment.last + 1;
        }
        if let Some(damaged) = self.reader.damaged.take() {
            self.warnings.push(describe_damage(&self.folder.describe(&name_of(first)), &damaged));
        }
        self.remove_finished(|segment| segment.is_read);
    }

    /// Notes that entries are finished, which were read. They are written, and synced by [`Store::sync_marks`].
    pub fn finish(&mut self, sequences: &mut Vec<u64>) {
        sequences.sort_unstable();
        let mut marks = Vec::new();
        for chunk in sequences.chunk_by(|before, after| before + 1 == *after) {
            let range = chunk[0]..chunk[chunk.len() - 1] + 1;
            encode_mark(&range, &mut marks);
            self.finished.insert(range);
        }
        for sequence in sequences.drain(..) {
            if let Some((_, segment)) = self.segments.range_mut(..=sequence).next_back() {
                segment.unfinished = segment.unfinished.saturating_sub(1);
            }
        }
        self.write_marks(&marks);
        self.remove_finished(|segment| segment.is_read);
        self.remove_active(self.limits.segment / 4);
    }

    /// Removes the segment that takes entries if it has so many bytes, and all of its entries are finished.
    fn remove_active(&mut self, bytes: u64) {
        let Some(active) = &self.active else { return };
        let is_finished = self.segments.get(&active.first).is_some_and(|segment| {
            let is_read = matches!(&self.reader.segment, Some((first, _)) if *first == active.first)
                && self.reader.offset == segment.records_end;
            segment.unfinished == 0 && segment.records_end >= bytes && (is_read || segment.count == 0)
        });
        if is_finished {
            let first = active.first;
            self.active = None;
            if let Some(segment) = self.segments.get_mut(&first) {
                segment.place = Some(TablePlace::Memory(Arc::default()));
            }
            self.end_segment(first);
        }
    }

    fn write_marks(&mut self, marks: &[u8]) {
        if marks.is_empty() {
            return;
        }
        if self.marks.length < self.limits.marks
            && let Some(file) = &self.marks.file
            && file.write_at(marks, self.marks.length).is_ok()
        {
            self.marks.length += marks.len() as u64;
            self.marks.is_synced = false;
        } else {
            // Part of the marks may be in the file. What cannot be written now is tried again with the next ones: after a
            // restart these entries would be sent again.
            self.marks.file = None;
            let _ = self.write_marks_anew();
        }
    }

    /// Writes the marks of the segments that there are, and of all entries before them.
    fn write_marks_anew(&mut self) -> io::Result<()> {
        let mut bytes = marks_header().to_vec();
        let floor = self.segments.keys().next().copied().unwrap_or(self.next);
        self.finished.forget_below(floor);
        if floor > 0 {
            encode_mark(&(0..floor), &mut bytes);
        }
        for range in self.finished.ranges() {
            encode_mark(&range, &mut bytes);
        }
        // One may be left of an attempt that failed.
        let _ = self.folder.remove(NEXT_MARKS);
        let file = self.folder.create(NEXT_MARKS)?;
        let written = file
            .write_at(&bytes, 0)
            .and_then(|()| file.sync())
            .and_then(|()| self.folder.rename(NEXT_MARKS, MARKS))
            .and_then(|()| self.folder.sync());
        if let Err(why) = written {
            let _ = self.folder.remove(NEXT_MARKS);
            return Err(why);
        }
        self.marks = MarksFile { file: Some(file), length: bytes.len() as u64, is_synced: true };
        Ok(())
    }

    /// Makes the marks durable.
    pub fn sync_marks(&mut self) {
        if let Some(file) = self.marks.file.as_ref().filter(|_| !self.marks.is_synced) {
            if file.sync().is_ok() {
                self.marks.is_synced = true;
            } else {
                self.marks.file = None;
                let _ = self.write_marks_anew();
            }
        }
    }

    /// Whether marks were written that are not yet durable.
    pub fn has_unsynced_marks(&self) -> bool {
        self.marks.file.is_some() && !self.marks.is_synced
    }

    fn remove_finished(&mut self, may_go: impl Fn(&StoredSegment) -> bool) {
        let is_over =
            |segment: &StoredSegment| segment.unfinished == 0 && segment.place.is_some() && may_go(segment);
        let over: Vec<_> =
            self.segments.iter().filter(|(_, segment)| is_over(segment)).map(|(first, _)| *first).collect();
        if over.is_empty() {
            return;
        }
        self.tables = None;
        for first in over {
            if let Some(segment) = self.segments.remove(&first)
                && let Err(why) = self.folder.remove(&segment.name)
                && why.kind() != io::ErrorKind::NotFound
            {
                // It is empty for the next start, because its entries are marked as finished.
                self.warnings.push(format!("cannot remove {}: {why}", self.folder.describe(&segment.name)));
            }
        }
        if let Some(floor) = self.segments.keys().next() {
            self.finished.forget_below(*floor);
        }
        // A file that comes back after a power loss has only finished entries.
        let _ = self.folder.sync();
    }

    /// Completes what is open, so that the next start need not read it.
    pub fn close(&mut self) {
        self.remove_active(0);
        self.complete_active();
        self.sync_marks();
    }

    /// Returns the segments that take no more entries, in order.
    pub fn tables(&mut self) -> Arc<[SegmentTable]> {
        let list = || {
            let complete = self.segments.values().filter_map(|segment| {
                let (name, place) = (Arc::clone(&segment.name), segment.place.clone()?);
                Some(SegmentTable { name, header: segment.header, last: segment.last, place })
            });
            complete.collect()
        };
        let tables = self.tables.take().unwrap_or_else(list);
        Arc::clone(self.tables.insert(tables))
    }

    /// Returns the least number that an entry can have that was not read.
    pub fn read_position(&self) -> u64 {
        let is_all_read = match &self.reader.segment {
            Some((first, _)) => {
                let end = self.segments.get(first).map_or(0, |segment| segment.records_end);
                self.reader.offset >= end && self.segments.range(first + 1..).next().is_none()
            }
            None => self.segments.range(self.reader.least..).next().is_none(),
        };
        if is_all_read { self.next } else { self.reader.least }
    }

    /// Whether there are entries that were not read.
    pub fn has_unread(&self) -> bool {
        self.read_position() < self.next
    }

    /// Returns the number of unfinished entries.
    pub fn unfinished(&self) -> u64 {
        self.segments.values().map(|segment| segment.unfinished).sum()
    }

    /// Returns the bytes of the files, and of those that will complete the last segment.
    pub fn bytes(&self) -> u64 {
        self.segments.values().map(|segment| segment.length).sum::<u64>() + self.marks.length
    }

    /// Returns a number that is greater than that of every entry.
    pub fn next_sequence(&self) -> u64 {
        self.next
    }

    /// Gives the warnings since the last call.
    pub fn take_warnings(&mut self) -> Vec<String> {
        mem::take(&mut self.warnings)
    }
}

impl<File> SegmentReader<File> {
    fn new() -> Self {
        Self { segment: None, offset: 0, buffer: Vec::new(), used: 0, least: 0, seen: 0, damaged: None }
    }

    fn advance(&mut self, length: usize) {
        self.used += length;
        self.offset += length as u64;
    }

    /// Notes that the next bytes hold no entry.
    fn add_damage(&mut self, length: usize) {
        let (start, end) = (self.offset, self.offset + length as u64);
        self.damaged = Some(self.damaged.take().map_or(start, |damaged| damaged.start)..end);
    }
}

/// Writes entries to the end of a segment until it is complete, and returns how many. An error says whether it is unknown what
/// the file holds.
fn write_batch<File: SpoolFile>(
    active: &mut ActiveSegment<File>,
    salt: u32,
    limits: &StoreLimits,
    written: &mut u64,
    batch: &[(u64, SpoolEntry)],
) -> Result<usize, (io::Error, bool)> {
    let (mut bytes, mut taken) = (Vec::new(), 0);
    for (sequence, entry) in batch {
        encode(salt, *sequence, entry, &mut bytes);
        for device in &entry.devices {
            active.devices.insert(device_hash(device), *sequence);
        }
        taken += 1;
        let is_complete = *written + bytes.len() as u64 >= limits.segment
            || active.devices.len() >= MAX_DEVICES
            || sequence - active.first >= u64::from(u32::MAX);
        if bytes.len() >= CHUNK || is_complete || taken == batch.len() {
            active.file.write_at(&bytes, *written).map_err(|why| (why, false))?;
            *written += bytes.len() as u64;
            bytes.clear();
        }
        if is_complete {
            break;
        }
    }
    Ok(taken)
}

/// Writes the table and the trailer of a segment. If that fails, the table stays in memory, and the next start makes it again.
fn complete<File: SpoolFile>(segment: &mut StoredSegment, file: &File, devices: &LastEntries) {
    let mut hashes: Vec<_> = devices.iter().map(|(hash, last)| (*hash, *last)).collect();
    let (shape, mut bytes) = TableShape::encode(segment.header, &mut hashes);
    let (first, last, count) = (segment.header.first, segment.last, segment.count);
    let trailer = Trailer { first, last, count, records_end: segment.records_end, table: shape };
    bytes.extend_from_slice(&trailer.encode(segment.header.salt));
    let end = segment.records_end + bytes.len() as u64;
    let written = file
        .set_length(segment.records_end)
        .and_then(|()| file.write_at(&bytes, segment.records_end))
        .and_then(|()| file.sync());
    if written.is_ok() {
        segment.length = end;
        segment.place = Some(TablePlace::File(segment.records_end, shape));
    } else {
        let _ = file.set_length(segment.records_end);
        segment.length = segment.records_end;
        segment.place = Some(TablePlace::Memory(Arc::new(devices.clone())));
    }
}

/// Reads a segment that has no trailer.
fn recover<File: SpoolFile>(file: &File, length: u64, header: SegmentHeader) -> io::Result<RecoveredSegment> {
    let start = SEGMENT_HEADER as u64;
    let mut found =
        RecoveredSegment { records_end: start, last: header.first, ..RecoveredSegment::default() };
    let (mut offset, mut least) = (start, header.first);
    let (mut buffer, mut used) = (Vec::new(), 0);
    while offset < length {
        let is_end = offset + (buffer.len() - used) as u64 >= length;
        let scanned = match &buffer[used..] {
            [] => Scanned::NeedsMore { length: RECORD_HEADER },
            bytes => scan(header.salt, least, bytes, is_end),
        };
        match scanned {
            Scanned::Record { sequence, body, length } => {
                if let Some(entry) = decode(&buffer[used..][body]) {
                    for device in &entry.devices {
                        found.devices.insert(device_hash(device), sequence);
                    }
                    found.count += 1;
                    found.last = sequence;
                }
                least = sequence + 1;
                (offset, used) = (offset + length as u64, used + length);
                found.records_end = offset;
            }
            Scanned::Damaged { length } => (offset, used) = (offset + length as u64, used + length),
            Scanned::NeedsMore { length: needed } => {
                let rest = usize::try_from(length - offset).unwrap_or(usize::MAX);
                buffer.resize(needed.max(CHUNK).min(rest), 0);
                let read = file.read_at(&mut buffer, offset)?;
                buffer[read..].fill(0);
                used = 0;
            }
        }
    }
    Ok(found)
}

/// Reads the marks, and says whether there is a file of them.
fn read_finished<F: SpoolFolder>(folder: &F, names: &[String]) -> Result<(Marks, bool), Failure> {
    let is_there = names.iter().any(|name| name == MARKS);
    let mut bytes = Vec::new();
    if is_there {
        let read = folder.open(MARKS).and_then(|file| {
            bytes.resize(usize::try_from(file.length()?).unwrap_or(usize::MAX), 0);
            let read = file.read_at(&mut bytes, 0)?;
            bytes.truncate(read);
            Ok(())
        });
        read.map_err(|why| Failure::io(format!("cannot read {}: {why}", folder.describe(MARKS))))?;
    }
    match read_marks(&bytes) {
        Ok(marks) => Ok((marks, is_there)),
        Err(FormatError::Version(version)) => Err(newer(&folder.describe(MARKS), version)),
        Err(FormatError::Damaged) => Err(Failure::io(format!("cannot read {}", folder.describe(MARKS)))),
    }
}

fn describe_damage(place: &str, damaged: &Range<u64>) -> String {
    let length = damaged.end - damaged.start;
    format!("{place} is damaged at byte {}: what {length} bytes held is lost", damaged.start)
}

fn newer(place: &str, version: u8) -> Failure {
    let expected = VERSION;
    Failure::invalid(format!("{place}: expected a spool of format {expected}; got format {version}"))
        .hint("Use the version of tuyagw that wrote it, until the spool is empty.")
}

fn is_full(why: &io::Error) -> bool {
    matches!(why.kind(), io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded)
}

fn name_of(first: u64) -> String {
    format!("{first:016x}.segment")
}

fn first_of(name: &str) -> Option<u64> {
    let digits = name.strip_suffix(".segment").filter(|digits| digits.len() == 16)?;
    u64::from_str_radix(digits, 16).ok().filter(|first| name_of(*first) == name)
}

/// The most bytes that a table of so many devices and the trailer have.
fn table_length(devices: usize) -> u64 {
    let buckets = devices / 64 + 2;
    (TRAILER + TABLE_ENTRY * devices + 8 * buckets) as u64
}

/// Returns the most bytes that an entry adds to a spool.
///
/// # Errors
/// An entry that is too long.
pub fn footprint(entry: &SpoolEntry) -> Result<u64, AppendError> {
    let stored = stored_length(entry).map_err(|bytes| AppendError::TooLong { bytes, max_bytes: MAX_BODY })?;
    Ok((stored + (TABLE_ENTRY + 8) * entry.devices.len() + MARK) as u64)
}
