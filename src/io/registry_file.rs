//! The edge's registry on the disk: a file of lines that belongs to one edge, written by a thread of its own.
//!
//! All lines that queue up while the thread writes go out in its next write, followed by one sync. A position is done
//! only once its line is on the disk in the file that has the name: another program may replace, remove, cut or edit
//! that file meanwhile, while this one still holds the former file open. Then the thread does nothing more until it is
//! given the whole registry, which it puts under the name atomically.

use std::{
    fmt::Display,
    fs::{self, File, OpenOptions, TryLockError},
    hash::{DefaultHasher, Hasher as _},
    io::{self, Read as _},
    mem,
    os::unix::fs::{MetadataExt as _, OpenOptionsExt as _},
    path::{Path, PathBuf},
    sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError},
    thread,
    time::Duration,
};

use tokio::sync::watch;

use crate::{
    edge::Registry,
    error::Failure,
    io::{
        batch_writer::{Purpose, claim, in_use, push},
        files::{followed, replace_beside, sync_folder},
    },
};

/// A file shorter than this is not worth being written anew for its size.
const SMALL: usize = 4096;

/// How many programs may replace the file between its opening and its locking.
const RACES: usize = 10;

/// A place in the stream of lines; a greater one is a later one.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub struct Position(u64);

/// The registry's file.
#[derive(Debug)]
pub struct RegistryFile {
    batch: Vec<u8>,
    given: Position,
    handed: Position,
    shared: Arc<SharedLineQueue>,
    state: watch::Receiver<WriteState>,
}

/// What the thread has come to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum RegistryFileEvent {
    /// Everything up to here is safe.
    Done(Position),
    /// The file is not the one that was written, for this reason; nothing is done before [`RegistryFile::rewrite`].
    Lost(String),
}

/// A view of the thread's steps.
#[derive(Clone, Debug)]
pub struct RegistryFileEvents(watch::Receiver<WriteState>);

impl RegistryFileEvents {
    /// The next step. Safe to drop at any point.
    ///
    /// # Errors
    /// The failure that ended the writing.
    pub async fn next(&mut self) -> Result<RegistryFileEvent, Failure> {
        let ended = self.0.changed().await.is_err();
        let state = self.0.borrow_and_update();
        match (&state.failed, &state.lost) {
            (Some(failed), _) => Err(failed.clone()),
            (None, Some(why)) => Ok(RegistryFileEvent::Lost(why.clone())),
            (None, None) if ended => Err(Failure::io("the thread that writes the registry ended too early")),
            (None, None) => Ok(RegistryFileEvent::Done(state.done)),
        }
    }
}

#[derive(Debug, Default)]
struct WriteState {
    done: Position,
    lost: Option<String>,
    failed: Option<Failure>,
}

/// What goes to the thread.
#[derive(Debug, Default)]
struct SharedLineQueue {
    queue: Mutex<LineQueue>,
    changed: Condvar,
}

#[derive(Debug, Default)]
struct LineQueue {
    bytes: Vec<u8>,
    /// Where `bytes` end.
    end: Position,
    /// Whether `bytes` are all lines of the registry.
    is_whole: bool,
    is_closed: bool,
}

/// What was found in a file.
#[derive(Debug)]
pub struct LoadedRegistry {
    /// Its devices.
    pub registry: Registry,
    /// What is to be said about it.
    pub warnings: Vec<String>,
}

impl RegistryFile {
    /// Opens a registry's file, which is created for its owner only where it is missing, and reads it. A file that is
    /// at least twice as long as its devices need is written anew.
    ///
    /// # Errors
    /// A file that cannot be used, that another program has locked, or that holds something else.
    pub fn open(path: &Path) -> Result<(Self, LoadedRegistry), Failure> {
        let (mut disk, repaired) = LockedFile::open(path)?;
        let content = fs::read(path).map_err(|why| disk.failure("read", &why))?;
        let (registry, bad) = Registry::read(&content, Duration::ZERO).map_err(|why| {
            Failure::invalid(format!("{}: {why}", path.display())).hint(
                "--devices takes the file that an edge has written, one JSON object with gateway_id, cid and product_id a line.",
            )
        })?;
        disk.mark(&content).map_err(|why| disk.failure("read", &why))?;
        let mut warnings: Vec<_> = repaired.into_iter().collect();
        for (line, why) in &bad {
            warnings.push(format!("{}:{line}: passed over: {why}", path.display()));
        }
        // Lines that are no devices may be somebody's, and stay.
        if bad.is_empty() && content.len() >= SMALL {
            let lines = registry.lines();
            if lines.len() <= content.len() / 2
                && let Err(why) = disk.replace(&lines)
            {
                warnings.push(format!("{} could not be made shorter: {}", path.display(), why.message));
            }
        }
        let (sender, state) = watch::channel(WriteState::default());
        let shared = Arc::<SharedLineQueue>::default();
        let queue = Arc::clone(&shared);
        thread::Builder::new()
            .name("registry".into())
            .spawn(move || keep(disk, &queue, &sender))
            .map_err(|why| Failure::io(format!("cannot start a thread to write with: {why}")))?;
        let file = Self {
            batch: Vec::new(),
            given: Position::default(),
            handed: Position::default(),
            shared,
            state,
        };
        Ok((file, LoadedRegistry { registry, warnings }))
    }

    /// Adds a line to the current batch, or nothing, for which the file is only looked at.
    pub fn write(&mut self, line: &[u8]) -> Position {
        self.batch.extend_from_slice(line);
        self.given.0 += 1;
        self.given
    }

    /// Hands the batch to the thread and does not wait.
    pub fn flush(&mut self) {
        if self.handed == self.given {
            return;
        }
        let mut queue = self.shared.lock();
        queue.bytes.append(&mut self.batch);
        queue.end = self.given;
        self.handed = self.given;
        drop(queue);
        self.shared.changed.notify_one();
    }

    /// Hands over the whole registry, which holds all lines so far, to be the file's content.
    pub fn rewrite(&mut self, lines: Vec<u8>) {
        self.batch.clear();
        let mut queue = self.shared.lock();
        queue.bytes = lines;
        queue.end = self.given;
        queue.is_whole = true;
        self.handed = self.given;
        drop(queue);
        self.shared.changed.notify_one();
    }

    /// Everything up to here is safe.
    #[must_use]
    pub fn done(&self) -> Position {
        self.state.borrow().done
    }

    /// A view of the thread's steps, for as long as the file is there.
    #[must_use]
    pub fn watch(&self) -> RegistryFileEvents {
        RegistryFileEvents(self.state.clone())
    }
}

impl Drop for RegistryFile {
    /// Lets the thread end once it has written what it was given.
    fn drop(&mut self) {
        self.shared.lock().is_closed = true;
        self.shared.changed.notify_one();
    }
}

impl SharedLineQueue {
    fn lock(&self) -> MutexGuard<'_, LineQueue> {
        self.queue.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Takes what is queued after a position, waiting for it; `None` once the queue is closed and empty.
    fn take(&self, after: Position) -> Option<LineQueue> {
        let mut queue = self
            .changed
            .wait_while(self.lock(), |queue| queue.end == after && !queue.is_whole && !queue.is_closed)
            .unwrap_or_else(PoisonError::into_inner);
        if queue.end == after && !queue.is_whole {
            return None;
        }
        let rest = LineQueue { end: queue.end, is_closed: queue.is_closed, ..LineQueue::default() };
        Some(mem::replace(&mut *queue, rest))
    }
}

/// The thread.
fn keep(mut disk: LockedFile, shared: &SharedLineQueue, state: &watch::Sender<WriteState>) {
    let mut taken = Position::default();
    let mut is_lost = false;
    while let Some(LineQueue { bytes, end, is_whole, .. }) = shared.take(taken) {
        taken = end;
        let outcome = if is_whole {
            disk.replace(&bytes).map_err(WriteFailure::Failed)
        } else if is_lost {
            // The whole registry, which is to come, holds these lines.
            continue;
        } else {
            disk.append(&bytes)
        };
        is_lost = matches!(outcome, Err(WriteFailure::Lost(_)));
        let has_failed = matches!(outcome, Err(WriteFailure::Failed(_)));
        state.send_modify(|state| match outcome {
            Ok(()) => (state.done, state.lost) = (end, None),
            Err(WriteFailure::Lost(why)) => state.lost = Some(why),
            Err(WriteFailure::Failed(why)) => state.failed = Some(why),
        });
        if has_failed {
            return;
        }
    }
}

/// Why lines were not written.
enum WriteFailure {
    Lost(String),
    Failed(Failure),
}

/// The file, and what it must look like if no other program has touched it.
struct LockedFile {
    path: PathBuf,
    file: File,
    mark: FileState,
    /// The hash of its content.
    content: DefaultHasher,
}

/// What tells a file from another and from its own former state.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
struct FileState {
    inode: (u64, u64),
    length: u64,
    modified: (i64, i64),
}

impl FileState {
    fn of(found: &fs::Metadata) -> Self {
        Self {
            inode: (found.dev(), found.ino()),
            length: found.len(),
            modified: (found.mtime(), found.mtime_nsec()),
        }
    }
}

impl LockedFile {
    /// Opens the file and locks it; gives also what was repaired.
    fn open(path: &Path) -> Result<(Self, Option<String>), Failure> {
        let unusable = |why: &dyn Display| Failure::io(format!("cannot open {}: {why}", path.display()));
        for _ in 0..RACES {
            let found = fs::metadata(path);
            // Before it is opened: a pipe would wait for its reader.
            if found.as_ref().is_ok_and(|found| !found.is_file()) {
                let why = format!("cannot use {}: it is not a regular file", path.display());
                return Err(Failure::io(why));
            }
            let mut options = OpenOptions::new();
            options.append(true).read(true).create(true).mode(0o600);
            let file = options.open(path).map_err(|why| unusable(&why))?;
            if found.is_err() {
                sync_folder(path);
            }
            // Two edges would not know each other's devices.
            Purpose::Registry.check(&file, path)?;
            let repaired = claim(&file, path, Purpose::Registry)?;
            let (opened, named) = (file.metadata(), fs::metadata(path));
            if let (Ok(opened), Ok(named)) = (&opened, &named)
                && FileState::of(opened).inode == FileState::of(named).inode
            {
                let disk = Self {
                    path: path.to_owned(),
                    file,
                    mark: FileState::default(),
                    content: DefaultHasher::new(),
                };
                return Ok((disk, repaired));
            }
        }
        Err(unusable(&"other programs keep replacing it"))
    }

    fn failure(&self, what: &str, why: &io::Error) -> Failure {
        Failure::io(format!("cannot {what} {}: {why}", self.path.display())).hint(Purpose::Registry.hint())
    }

    /// Notes what the file looks like with this content.
    fn mark(&mut self, content: &[u8]) -> io::Result<()> {
        self.content = DefaultHasher::new();
        self.content.write(content);
        self.mark = FileState::of(&self.file.metadata()?);
        Ok(())
    }

    /// Appends lines and syncs them; with none only looks at the file.
    fn append(&mut self, lines: &[u8]) -> Result<(), WriteFailure> {
        self.check()?;
        if lines.is_empty() {
            return Ok(());
        }
        if let Err(why) = push(&mut self.file, &mut &*lines).and_then(|()| self.file.sync_data()) {
            // Whole lines are left, or as many as the file had before.
            let _ = self.file.set_len(self.mark.length);
            return Err(WriteFailure::Failed(self.failure("write", &why)));
        }
        self.content.write(lines);
        let expected = FileState { length: self.mark.length + lines.len() as u64, ..self.mark };
        self.mark = FileState::of(&self.file.metadata().map_err(|why| self.failed("look at", &why))?);
        if self.mark.length != expected.length {
            return Err(self.lost("was changed"));
        }
        // Replaced during the write, in which case the lines are in a file without a name.
        self.check()
    }

    /// Sees whether the name still leads to the file, and the file to what was written.
    fn check(&mut self) -> Result<(), WriteFailure> {
        let named = match fs::metadata(&self.path) {
            Ok(named) => FileState::of(&named),
            Err(why) if why.kind() == io::ErrorKind::NotFound => return Err(self.lost("was removed")),
            Err(why) => return Err(self.failed("look at", &why)),
        };
        if named == self.mark {
            return Ok(());
        }
        if named.inode != self.mark.inode {
            return Err(self.lost("was replaced"));
        }
        // File systems of networks change the time by themselves.
        let is_intact = named.length == self.mark.length
            && self.content_on_disk().map_err(|why| self.failed("read", &why))? == self.content.finish();
        if !is_intact {
            return Err(self.lost("was changed"));
        }
        self.mark = named;
        Ok(())
    }

    fn content_on_disk(&self) -> io::Result<u64> {
        let mut content = Vec::new();
        File::open(&self.path)?.read_to_end(&mut content)?;
        let mut hasher = DefaultHasher::new();
        hasher.write(&content);
        Ok(hasher.finish())
    }

    fn lost(&self, what: &str) -> WriteFailure {
        WriteFailure::Lost(format!("{} {what} by another program", self.path.display()))
    }

    fn failed(&self, what: &str, why: &io::Error) -> WriteFailure {
        WriteFailure::Failed(self.failure(what, why))
    }

    /// Puts a file with these lines under the name, atomically.
    fn replace(&mut self, lines: &[u8]) -> Result<(), Failure> {
        let target = followed(&self.path);
        if let Ok(other) = File::open(&target)
            && other.metadata().is_ok_and(|found| FileState::of(&found).inode != self.mark.inode)
            && matches!(other.try_lock(), Err(TryLockError::WouldBlock))
        {
            // An edge that was started meanwhile has that one.
            return Err(in_use(&self.path));
        }
        let permissions = self.file.metadata().ok().map(|found| found.permissions());
        self.file = replace_beside(&target, lines, permissions).map_err(|why| self.failure("write", &why))?;
        self.mark(lines).map_err(|why| self.failure("look at", &why))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::tuya::{Device, GatewayId};

    /// A registry's file, and the registry itself.
    struct Site {
        _folder: tempfile::TempDir,
        path: PathBuf,
        file: RegistryFile,
        steps: RegistryFileEvents,
        registry: Registry,
    }

    fn line(cid: &str) -> Vec<u8> {
        format!("{{\"gateway_id\":\"gw1\",\"cid\":\"{cid}\",\"product_id\":\"p\"}}\n").into_bytes()
    }

    impl Site {
        fn new() -> Self {
            let folder = tempfile::tempdir().unwrap();
            let path = folder.path().join("fleet.jsonl");
            let (file, LoadedRegistry { registry, warnings }) = RegistryFile::open(&path).unwrap();
            assert_eq!((registry.len(), warnings), (0, vec![]));
            Self { _folder: folder, path, steps: file.watch(), file, registry }
        }

        /// Synchronises a device, waits until it is safe, and gives the reasons for which the file was written anew.
        fn sync(&mut self, cid: &str) -> Vec<String> {
            let device = Device { cid: cid.into(), product_id: "p".into(), ..Device::default() };
            let gateway = GatewayId::new("gw1").unwrap();
            let line = self.registry.sync(&gateway, &device, Duration::ZERO).unwrap();
            let position = self.file.write(&line);
            self.file.flush();
            let mut reasons = Vec::new();
            let runtime = tokio::runtime::Builder::new_current_thread().enable_time().build().unwrap();
            runtime.block_on(async {
                loop {
                    let step = tokio::time::timeout(Duration::from_secs(20), self.steps.next());
                    match step.await.expect("a hang").unwrap() {
                        RegistryFileEvent::Done(done) if done >= position => return,
                        RegistryFileEvent::Done(_) => {}
                        RegistryFileEvent::Lost(why) => {
                            reasons.push(why);
                            self.file.rewrite(self.registry.lines());
                        }
                    }
                }
            });
            reasons
        }

        fn content(&self) -> Vec<u8> {
            fs::read(&self.path).unwrap()
        }
    }

    #[test]
    fn a_file_that_another_program_touches_is_written_anew_before_anything_is_done() {
        type Touch = fn(&Path);
        let touches: [(&str, Touch); 7] = [
            ("was removed", |path| fs::remove_file(path).unwrap()),
            ("was removed", |path| fs::rename(path, path.with_extension("old")).unwrap()),
            ("was replaced", |path| {
                let beside = path.with_extension("new");
                fs::copy(path, &beside).unwrap();
                fs::rename(beside, path).unwrap();
            }),
            ("was changed", |path| File::create(path).map(drop).unwrap()),
            ("was changed", |path| {
                let edited = String::from_utf8(fs::read(path).unwrap()).unwrap().replace("\"p\"", "\"q\"");
                fs::write(path, edited).unwrap();
                // Later than the last write, whatever the file system's clock ticks by.
                let later = std::time::SystemTime::now() + Duration::from_secs(5);
                File::options().append(true).open(path).unwrap().set_modified(later).unwrap();
            }),
            ("was changed", |path| {
                push(&mut OpenOptions::new().append(true).open(path).unwrap(), &mut &b"{}\n"[..]).unwrap();
            }),
            ("was replaced", |path| {
                fs::remove_file(path).unwrap();
                fs::write(path, "no JSON, and no newline").unwrap();
            }),
        ];
        for (reason, touch) in touches {
            for unchanged in [false, true] {
                let mut site = Site::new();
                assert_eq!(site.sync("m1"), [""; 0]);
                touch(&site.path);
                let reasons = site.sync(if unchanged { "m1" } else { "m2" });
                assert!(matches!(&reasons[..], [why] if why.contains(reason)), "{reason}: {reasons:?}");
                assert_eq!(site.content(), site.registry.lines(), "{reason}");
                assert_eq!(site.sync("m3"), [""; 0], "{reason}: once");
                assert_eq!(site.content(), site.registry.lines(), "{reason}");
                assert!(RegistryFile::open(&site.path).is_err(), "the new file is locked, too");
                let left = fs::read_dir(site.path.parent().unwrap()).unwrap().count();
                assert!(left <= 2, "nothing is left beside it");
            }
        }
    }

    #[test]
    fn a_file_that_only_looks_touched_stays() {
        let mut site = Site::new();
        site.sync("m1");
        let before = fs::metadata(&site.path).unwrap().ino();
        let later = std::time::SystemTime::now() + Duration::from_secs(5);
        File::options().append(true).open(&site.path).unwrap().set_modified(later).unwrap();
        assert_eq!(site.sync("m2"), [""; 0]);
        assert_eq!(fs::metadata(&site.path).unwrap().ino(), before);
        assert_eq!(site.content(), [line("m1"), line("m2")].concat());
    }

    #[test]
    fn a_symbolic_link_stays_one() {
        let folder = tempfile::tempdir().unwrap();
        let (link, path) = (folder.path().join("link.jsonl"), folder.path().join("fleet.jsonl"));
        std::os::unix::fs::symlink("fleet.jsonl", &link).unwrap();
        let (mut file, _) = RegistryFile::open(&link).unwrap();
        let mut steps = file.watch();
        fs::remove_file(&path).unwrap();
        file.write(b"");
        file.flush();
        let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
        assert!(matches!(runtime.block_on(steps.next()), Ok(RegistryFileEvent::Lost(_))));
        file.rewrite(line("m1"));
        assert!(matches!(runtime.block_on(steps.next()), Ok(RegistryFileEvent::Done(_))));
        assert_eq!((fs::read(&path).unwrap(), fs::read(&link).unwrap()), (line("m1"), line("m1")));
        assert!(fs::symlink_metadata(&link).unwrap().is_symlink());
    }

    #[test]
    fn a_file_that_is_mostly_superseded_is_made_shorter_at_the_start() {
        let size = |content: &[u8]| {
            let folder = tempfile::tempdir().unwrap();
            let path = folder.path().join("fleet.jsonl");
            fs::write(&path, content).unwrap();
            let (_, found) = RegistryFile::open(&path).unwrap();
            (fs::read(&path).unwrap().len(), found.registry.len(), found.warnings.len())
        };
        let one = line("m1").len();
        assert_eq!(size(&line("m1").repeat(1000)), (one, 1, 0));
        assert_eq!(size(&line("m1").repeat(10)), (one * 10, 1, 0), "too small to be worth it");
        let many: Vec<u8> = (100..200).flat_map(|n| line(&format!("m{n}"))).collect();
        assert_eq!(size(&many), (many.len(), 100, 0), "nothing is superseded");
        let foreign = [&line("m1").repeat(1000)[..], b"# mine\n"].concat();
        assert_eq!(size(&foreign), (foreign.len(), 1, 1), "a line that is no device stays");
    }

    #[test]
    fn a_file_is_for_one_edge_and_for_its_owner() {
        let site = Site::new();
        assert_eq!(fs::metadata(&site.path).unwrap().mode() & 0o777, 0o600);
        let refused = RegistryFile::open(&site.path).unwrap_err();
        assert!(refused.message.contains("in use by another program"), "{refused}");
    }

    #[test]
    fn a_byte_order_mark_and_a_missing_newline_are_read() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("fleet.jsonl");
        fs::write(&path, [b"\xef\xbb\xbf", line("m1").trim_ascii()].concat()).unwrap();
        let (_, found) = RegistryFile::open(&path).unwrap();
        assert_eq!((found.registry.len(), found.warnings), (1, vec![]));
        assert_eq!(fs::read(&path).unwrap(), [b"\xef\xbb\xbf", &line("m1")[..]].concat());
    }
}
