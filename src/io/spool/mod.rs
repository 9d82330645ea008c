//! The spool's files, and the thread that writes, syncs and reads them.
//!
//! [`Spool`] never waits for the disk. What is appended while the thread syncs goes out in its next write, followed by one sync:
//! the rate does not depend on what a sync costs. The marks of finished entries are written at once, and synced within a second:
//! entries that end within it may be sent again after a power loss.
//!
//! Up to 1,024 entries or 4 MiB are read ahead. If they are all of few devices, entries of other devices behind them wait.

mod folder;
mod outcome;
#[cfg(test)]
mod recorded_folder;
mod store;
mod tables;
#[cfg(test)]
mod tests;

use std::{
    cell::RefCell,
    collections::VecDeque,
    fs::{DirBuilder, File, OpenOptions, TryLockError},
    io, mem,
    os::unix::fs::{DirBuilderExt as _, OpenOptionsExt as _},
    path::{Path, PathBuf},
    sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError},
    thread::{self, JoinHandle},
    time::{Duration, Instant},
};

use fastrand::Rng;
use tokio::sync::Notify;

use crate::{
    error::Failure,
    io::files::sync_folder,
    spool::{EntryId, ReadAhead, SpoolEntry, SpooledEntry, device_hash},
};
use folder::DiskFolder;
pub use outcome::{AppendError, Commit};
use store::{Store, StoreLimits, footprint};
use tables::{DeviceIndex, SegmentTable};

/// The entries that were read and are unfinished, and their bytes.
const WINDOW: (usize, usize) = (1024, 4 * 1024 * 1024);

/// How many bytes of entries the thread keeps ready.
const READY: usize = 128 * 1024;

/// So many entries that ended are written at once; fewer of them wait a little for others.
const MARKS_AT_ONCE: usize = 512;

/// How long entries that ended wait for others.
const LINGER: Duration = Duration::from_millis(20);

/// How long a mark may be written and not synced.
const SYNC_MARKS: Duration = Duration::from_secs(1);

/// How long the thread waits before it reads a file again that it could not read.
const READ_AGAIN: Duration = Duration::from_secs(10);

/// What a spool has beside entries and marks, at most: the beginning and the end of a segment.
const OVERHEAD: u64 = 4096;

/// Waits for changes of a spool.
#[derive(Clone, Debug)]
pub struct SpoolWatch(Arc<SpoolShared>);

impl SpoolWatch {
    /// As [`Spool::changed`].
    pub async fn changed(&self) {
        self.0.changed.notified().await;
    }
}

/// How large a spool may be.
#[derive(Clone, Copy, Debug)]
pub struct SpoolOptions {
    /// The most bytes that its files may have together.
    pub max_bytes: u64,
}

impl SpoolOptions {
    /// Segments of a sixteenth of the spool, so that a full one has room again before it is empty.
    fn limits(self) -> StoreLimits {
        StoreLimits {
            segment: (self.max_bytes / 16).clamp(64 * 1024, 16 * 1024 * 1024),
            marks: (self.max_bytes / 64).clamp(16 * 1024, 1024 * 1024),
        }
    }
}

/// The messages that wait on disk for the edge.
///
/// Appending and reading never wait for the disk: a thread does. [`Spool::changed`] tells when it is worth asking
/// [`Spool::poll_commit`], [`Spool::poll_next`] and [`Spool::poll_warning`] again.
#[derive(Debug)]
pub struct Spool {
    max_bytes: u64,
    /// The bytes that marks and the next segment may need.
    reserve: u64,
    next: u64,
    window: ReadAhead,
    index: RefCell<DeviceIndex<DiskFolder>>,
    shared: Arc<SpoolShared>,
    thread: Option<JoinHandle<()>>,
}

/// What the spool and its thread share.
#[derive(Debug, Default)]
struct SpoolShared {
    state: Mutex<SpoolState>,
    /// Wakes the thread.
    work: Condvar,
    /// Wakes the spool's user.
    changed: Notify,
}

#[derive(Debug, Default)]
struct SpoolState {
    // For the thread.
    appended: Vec<(u64, SpoolEntry)>,
    finished: Vec<u64>,
    is_closing: bool,

    // From the thread.
    commits: VecDeque<Commit>,
    read: VecDeque<(u64, SpoolEntry)>,
    /// The bytes of the entries read, as stored.
    read_bytes: u64,
    /// The least number that an entry can have that was not read.
    position: u64,
    has_unread: bool,
    tables: Option<Arc<[SegmentTable]>>,
    warnings: VecDeque<String>,
    is_ended: bool,

    /// The unfinished entries of the files, and the bytes of the files.
    stored: (u64, u64),
    /// The entries that were appended and are not in the files, and the most bytes that they will have there.
    waiting: (u64, u64),
    /// The entries that are finished and not yet taken from the number of stored ones.
    ended: u64,
}

impl SpoolState {
    fn wants_read(&self) -> bool {
        self.has_unread && self.read_bytes < READY as u64 / 2
    }

    fn has_work(&self) -> bool {
        !self.appended.is_empty() || !self.finished.is_empty() || self.is_closing || self.wants_read()
    }

    fn position(&self) -> u64 {
        self.read.front().map_or(self.position, |(sequence, _)| *sequence)
    }
}

impl SpoolShared {
    fn lock(&self) -> MutexGuard<'_, SpoolState> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Spool {
    /// Opens the spool in a folder, which is created (mode 0700) if it is missing, and locks it. Gives warnings about what was
    /// repaired, each with file and offset.
    ///
    /// # Errors
    /// A folder that cannot be written to or that another program uses as a spool; files of another format.
    pub fn open(folder: &Path, options: SpoolOptions) -> Result<(Self, Vec<String>), Failure> {
        let lock = prepare(folder)?;
        let disk = DiskFolder(folder.to_owned());
        let mut store = Store::open(disk.clone(), options.limits(), Rng::new())?;
        let warnings = store.take_warnings();
        let (tables, next) = (store.tables(), store.next_sequence());
        let shared = Arc::new(SpoolShared::default());
        publish(&mut shared.lock(), &mut store);
        let (theirs, place) = (Arc::clone(&shared), folder.display().to_string());
        let spawned = thread::Builder::new().name("spool".into()).spawn(move || {
            // Also if it panics: the user must not wait for it.
            let _ended = SpoolEnd { shared: &theirs, lock };
            serve(&mut store, &theirs);
        });
        let thread = spawned
            .map_err(|why| Failure::io(format!("cannot start a thread for the spool {place}: {why}")))?;
        let spool = Self {
            max_bytes: options.max_bytes,
            reserve: options.limits().marks + OVERHEAD,
            next,
            window: ReadAhead::default(),
            index: RefCell::new(DeviceIndex::new(disk, tables)),
            shared,
            thread: Some(thread),
        };
        Ok((spool, warnings))
    }

    /// Appends an entry. It is stored once [`Spool::poll_commit`] says so, and not before.
    ///
    /// # Errors
    /// An entry that is too long, and any entry while the spool is full; the spool is as it was.
    pub fn append(&mut self, entry: SpoolEntry) -> Result<EntryId, AppendError> {
        let bytes = footprint(&entry)?;
        let mut state = self.shared.lock();
        if state.is_ended {
            return Err(AppendError::Disk(Failure::io("the thread of the spool ended too early")));
        }
        if state.stored.1 + state.waiting.1 + bytes + self.reserve > self.max_bytes {
            return Err(AppendError::Full { max_bytes: self.max_bytes });
        }
        let sequence = self.next;
        self.next += 1;
        let index = self.index.get_mut();
        for device in &entry.devices {
            index.insert(device_hash(device), sequence, state.position());
        }
        state.waiting.0 += 1;
        state.waiting.1 += bytes;
        state.appended.push((sequence, entry));
        if state.appended.len() == 1 {
            self.shared.work.notify_one();
        }
        Ok(EntryId(sequence))
    }

    /// Says what became of entries that were appended, in the order of their numbers and without a gap.
    pub fn poll_commit(&mut self) -> Option<Commit> {
        self.shared.lock().commits.pop_front()
    }

    /// Gives the next stored entry to be sent: the first one none of whose devices has an earlier unfinished entry. It is given
    /// again only after [`Spool::give_back`] or a restart.
    pub fn poll_next(&mut self) -> Option<SpooledEntry> {
        let mut state = self.shared.lock();
        let (entries, bytes) = WINDOW;
        while self.window.is_empty() || (self.window.len() < entries && self.window.bytes() < bytes) {
            let Some((sequence, entry)) = state.read.pop_front() else { break };
            state.read_bytes = state.read_bytes.saturating_sub(footprint(&entry).unwrap_or_default());
            self.window.insert(EntryId(sequence), entry);
        }
        if state.wants_read() {
            self.shared.work.notify_one();
        }
        drop(state);
        self.window.poll_ready()
    }

    /// Ends an entry that was given: it was accepted or refused by the edge, and is not given again.
    pub fn finish(&mut self, id: EntryId) {
        if !self.window.finish(id) {
            return;
        }
        let mut state = self.shared.lock();
        state.ended += 1;
        state.finished.push(id.0);
        if matches!(state.finished.len(), 1 | MARKS_AT_ONCE) {
            self.shared.work.notify_one();
        }
    }

    /// Takes an entry back that was given and could not be sent; [`Spool::poll_next`] gives it again.
    pub fn give_back(&mut self, id: EntryId) {
        self.window.give_back(id);
    }

    /// Whether a device has unfinished entries, those not yet stored included.
    ///
    /// It never says no for a device that has one. It may say yes for a device without any: after a restart until the entries
    /// are read that were not finished then, for another cid with the same hash, and if a table is damaged, until its segment
    /// is read. The first question about a device may read from each segment; the answer is kept.
    #[must_use]
    pub fn holds(&self, device: &str) -> bool {
        if self.window.holds(device) {
            return true;
        }
        let mut state = self.shared.lock();
        if state.stored.0 + state.waiting.0 == 0 {
            return false;
        }
        let (position, tables) = (state.position(), state.tables.take());
        drop(state);
        let mut index = self.index.borrow_mut();
        if let Some(tables) = tables {
            index.set_segments(tables);
        }
        index.holds(device_hash(device), position)
    }

    /// Gives a warning about damage that was found while reading.
    pub fn poll_warning(&mut self) -> Option<String> {
        self.shared.lock().warnings.pop_front()
    }

    /// Waits until the thread has stored or refused entries, read entries, or has a warning. Safe to drop at any point.
    pub async fn changed(&self) {
        self.shared.changed.notified().await;
    }

    /// Returns what waits for changes without holding the spool.
    #[must_use]
    pub fn watch(&self) -> SpoolWatch {
        SpoolWatch(Arc::clone(&self.shared))
    }

    /// The number of unfinished entries, those not yet stored included.
    #[must_use]
    pub fn len(&self) -> u64 {
        let state = self.shared.lock();
        (state.stored.0 + state.waiting.0).saturating_sub(state.ended)
    }

    /// Whether there is no unfinished entry.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// The bytes of the spool's files, and of the entries that are not yet stored.
    #[must_use]
    pub fn bytes(&self) -> u64 {
        let state = self.shared.lock();
        state.stored.1 + state.waiting.1
    }

    /// The bytes of the entries that are not yet stored: a measure for slowing down the clients that give them.
    #[must_use]
    pub fn backlog(&self) -> u64 {
        self.shared.lock().waiting.1
    }

    /// The time at which the oldest unfinished entry was given, in microseconds since 1970; `None` while there is none, or until
    /// the thread has read it.
    #[must_use]
    pub fn oldest(&self) -> Option<i64> {
        let first = self.window.first().map(|entry| entry.given);
        first.or_else(|| self.shared.lock().read.front().map(|(_, entry)| entry.given))
    }

    /// Stores what was appended, notes what is finished, and gives the lock back. [`Spool::poll_commit`] still tells what became
    /// of the last entries; nothing else can be asked.
    pub async fn close(&mut self) {
        self.begin_closing();
        while !self.shared.lock().is_ended {
            self.shared.changed.notified().await;
        }
        self.join();
    }

    fn begin_closing(&self) {
        self.shared.lock().is_closing = true;
        self.shared.work.notify_one();
    }

    fn join(&mut self) {
        if let Some(thread) = self.thread.take() {
            // What it could not store is told by the commits.
            let _ = thread.join();
        }
    }
}

impl Drop for Spool {
    /// As [`Spool::close`], but blocks.
    fn drop(&mut self) {
        self.begin_closing();
        self.join();
    }
}

/// Tells the spool that its thread has ended, and gives the lock back before.
struct SpoolEnd<'s> {
    shared: &'s SpoolShared,
    lock: File,
}

impl Drop for SpoolEnd<'_> {
    fn drop(&mut self) {
        // Closing it is too late if the other side opens the spool again at once.
        let _ = self.lock.unlock();
        self.shared.lock().is_ended = true;
        self.shared.changed.notify_one();
    }
}

/// Creates the folder if it is missing, and locks it.
fn prepare(folder: &Path) -> Result<File, Failure> {
    let failed = |what: &str, why| Failure::io(format!("cannot {what} {}: {why}", folder.display()));
    if !folder.is_dir() {
        let missing: Vec<PathBuf> =
            folder.ancestors().take_while(|folder| !folder.exists()).map(Path::to_owned).collect();
        let created = DirBuilder::new().recursive(true).mode(0o700).create(folder);
        created.map_err(|why| failed("create the spool", why))?;
        missing.iter().filter(|folder| !folder.as_os_str().is_empty()).for_each(|folder| sync_folder(folder));
    }
    let lock =
        OpenOptions::new().write(true).create(true).truncate(false).mode(0o600).open(folder.join("lock"));
    let lock = lock.map_err(|why| failed("write to the spool", why))?;
    match lock.try_lock() {
        Ok(()) => Ok(lock),
        // A file system without locks.
        Err(TryLockError::Error(why)) if why.kind() == io::ErrorKind::Unsupported => Ok(lock),
        Err(TryLockError::WouldBlock) => {
            let message = format!("the spool {} is in use by another program", folder.display());
            Err(Failure::io(message).hint("Give each agent a folder of its own with --spool."))
        }
        Err(TryLockError::Error(why)) => Err(failed("lock the spool", why)),
    }
}

/// The thread.
fn serve(store: &mut Store<DiskFolder>, shared: &SpoolShared) {
    let (mut unsynced_since, mut read_again): (Option<Instant>, Option<Instant>) = (None, None);
    loop {
        let (batch, mut finished, is_closing, room) = {
            let mut state = wait(shared, unsynced_since, read_again);
            let room = (READY as u64).saturating_sub(state.read_bytes);
            (mem::take(&mut state.appended), mem::take(&mut state.finished), state.is_closing, room)
        };
        let commits = store.append(&batch);
        let stored: u64 = batch.iter().filter_map(|(_, entry)| footprint(entry).ok()).sum();
        let (appended, ended) = (batch.len() as u64, finished.len() as u64);
        drop(batch);
        if ended > 0 {
            store.finish(&mut finished);
        }
        let now = Instant::now();
        if store.has_unsynced_marks() {
            if now.duration_since(*unsynced_since.get_or_insert(now)) >= SYNC_MARKS {
                store.sync_marks();
                unsynced_since = None;
            }
        } else {
            unsynced_since = None;
        }
        let mut read = Vec::new();
        let mut warnings = Vec::new();
        if room > 0 && !is_closing && read_again.is_none_or(|time| time <= now) {
            read_again = None;
            match store.read(usize::try_from(room).unwrap_or(usize::MAX)) {
                Ok(entries) => read = entries,
                Err(why) => {
                    warnings.push(format!("{why}; it is tried again every {} s", READ_AGAIN.as_secs()));
                    read_again = Some(now + READ_AGAIN);
                }
            }
        }
        if is_closing {
            store.close();
        }
        warnings.extend(store.take_warnings());
        let mut state = shared.lock();
        let is_news = !commits.is_empty() || !read.is_empty() || !warnings.is_empty() || ended > 0;
        state.commits.extend(commits);
        state.waiting.0 -= appended;
        state.waiting.1 -= stored;
        state.ended -= ended;
        state.read_bytes += read.iter().filter_map(|(_, entry)| footprint(entry).ok()).sum::<u64>();
        state.read.extend(read);
        state.warnings.extend(warnings);
        publish(&mut state, store);
        if read_again.is_some() {
            state.has_unread = false;
        }
        drop(state);
        if is_news {
            shared.changed.notify_one();
        }
        if is_closing {
            return;
        }
    }
}

/// Waits for work: entries, time to sync marks or to read again.
fn wait(
    shared: &SpoolShared,
    unsynced_since: Option<Instant>,
    read_again: Option<Instant>,
) -> MutexGuard<'_, SpoolState> {
    let due = [unsynced_since.map(|since| since + SYNC_MARKS), read_again];
    let mut state = shared.lock();
    match due.into_iter().flatten().min() {
        None => {
            let woken = shared.work.wait_while(state, |state| !state.has_work());
            state = woken.unwrap_or_else(PoisonError::into_inner);
        }
        Some(due) => {
            let left = due.saturating_duration_since(Instant::now());
            let woken = shared.work.wait_timeout_while(state, left, |state| !state.has_work());
            state = woken.unwrap_or_else(PoisonError::into_inner).0;
        }
    }
    let may_linger = |state: &mut SpoolState| {
        (1..MARKS_AT_ONCE).contains(&state.finished.len())
            && state.appended.is_empty()
            && !state.is_closing
            && !state.wants_read()
    };
    let woken = shared.work.wait_timeout_while(state, LINGER, may_linger);
    woken.unwrap_or_else(PoisonError::into_inner).0
}

fn publish(state: &mut SpoolState, store: &mut Store<DiskFolder>) {
    state.stored = (store.unfinished(), store.bytes());
    state.position = store.read_position();
    state.has_unread = store.has_unread();
    state.tables = Some(store.tables());
}
