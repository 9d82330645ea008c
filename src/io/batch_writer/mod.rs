//! Where lines go: stdout or a file, written by a thread of its own, so that an event loop never waits for a slow
//! reader or a slow disk, and so that an acknowledgement can wait until its line is safe.
//!
//! All that queued up while the thread was writing goes out in its next write, followed by one sync where the
//! file is durable: the rate does not depend on what a sync costs. A sink that failed writes nothing more.

mod purpose;
mod rotation;

use std::{
    fmt,
    fs::{self, File, Metadata, OpenOptions, TryLockError},
    io::{self, BufReader, Read as _, Seek as _, SeekFrom, Write},
    mem,
    os::{
        fd::AsFd as _,
        unix::fs::{FileExt as _, FileTypeExt as _, MetadataExt as _},
    },
    path::{Path, PathBuf},
    sync::{
        Arc, Condvar, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicU64, Ordering},
    },
    thread::{self, JoinHandle},
    time::{Duration, Instant},
};

use jiff::Timestamp;
use purpose::first_line;
use rustix::{
    event::{PollFd, PollFlags, Timespec, poll},
    fs::{OFlags, fcntl_getfl},
};
use tokio::sync::watch;

use crate::{error::Failure, io::files::sync_folder};

/// How long another program's repair of the file is waited for.
const REPAIR: Duration = Duration::from_secs(1);

/// Buffers that grew beyond this in a stall are given back once they are written.
const KEPT: usize = 256 * 1024;

pub use purpose::Purpose;
use rotation::Rotating;
pub use rotation::Rotation;

/// How editors on Windows mark a file as UTF-8.
const BYTE_ORDER_MARK: [u8; 3] = *b"\xef\xbb\xbf";

/// A pipe that says it can be written takes at least this much without blocking (POSIX, PIPE_BUF is 512 or more;
/// Linux has 4,096).
const AT_ONCE: usize = 4096;

/// How long the end waits for the reader of a FIFO.
const FAREWELL: Duration = Duration::from_millis(1500);

/// A place in the stream of bytes: that of the end of one write. A greater ticket is a later one.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Offset(u64);

impl Offset {
    /// Later than every other one.
    pub const LAST: Self = Self(u64::MAX);
}

/// Why a sink writes no more.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum WriterError {
    /// The reader of stdout went away; it wanted no more.
    ReaderGone,
    /// Writing failed; the failure names the file.
    Failed(Failure),
}

impl fmt::Display for WriterError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::ReaderGone => f.write_str("the reader of stdout went away"),
            Self::Failed(failure) => failure.fmt(f),
        }
    }
}

impl std::error::Error for WriterError {}

/// A stream of whole lines to stdout or a file.
#[derive(Debug)]
pub struct BatchWriter {
    batch: Vec<u8>,
    given: Offset,
    handed: Offset,
    /// How far the thread had come when it was last looked at.
    seen: Offset,
    queue: Arc<BatchQueue>,
    state: watch::Receiver<WriterState>,
    written: Written,
    /// What the thread will own once it runs.
    idle: Option<(WriteTarget, watch::Sender<WriterState>)>,
    thread: Option<JoinHandle<()>>,
    repaired: Option<String>,
    is_stdout: bool,
    /// The FIFO that this writes to, which may have no reader.
    fifo: Option<PathBuf>,
    /// What goes before the first line, and is written with it alone.
    preface: Vec<u8>,
}

/// The mark that a recording goes on with a file: its monotonic clock does not go on from the one before. Its time is
/// that of the opening, so that no record of it is older.
fn begin() -> Vec<u8> {
    let time = Timestamp::now().strftime("%Y-%m-%dT%H:%M:%S%.6fZ");
    format!("{{\"v\":1,\"event\":\"begin\",\"tst\":\"{time}\"}}\n").into_bytes()
}

/// A view of a sink's progress that does not hold the sink.
#[derive(Clone, Debug)]
pub struct CommitWatch(watch::Receiver<WriterState>);

impl CommitWatch {
    /// As [`BatchWriter::progress`].
    ///
    /// # Errors
    /// The failure that ended the writing; [`WriterError::ReaderGone`] where the sink itself is gone.
    pub async fn progress(&mut self) -> Result<Offset, WriterError> {
        let ended = self.0.changed().await.is_err();
        let state = self.0.borrow_and_update();
        match &state.failed {
            Some(failed) => Err(failed.clone()),
            None if ended => Err(WriterError::ReaderGone),
            None => Ok(state.done),
        }
    }
}

/// How far a stream's bytes have been written, parts of a batch included.
#[derive(Clone, Debug, Default)]
pub struct Written(Arc<AtomicU64>);

impl Written {
    /// Up to here all has been written.
    #[must_use]
    pub fn ticket(&self) -> Offset {
        Offset(self.0.load(Ordering::Relaxed))
    }
}

/// How far the thread has come; it ends at the first failure.
#[derive(Debug, Default)]
struct WriterState {
    done: Offset,
    failed: Option<WriterError>,
}

impl BatchWriter {
    /// A sink that writes to stdout.
    #[must_use]
    pub fn stdout() -> Self {
        let file = redirected_stdout();
        let is_torn = is_torn_before(file.as_ref());
        let mut sink = Self::over(WriteTarget::Stream { stream: Box::new(io::stdout()), file }, None);
        sink.is_stdout = true;
        if is_torn {
            // The end of another program's line, which is not ours to cut off.
            sink.preface = b"\n".to_vec();
        }
        sink
    }

    /// A sink that appends to a file, which is created if it is missing.
    ///
    /// A last line that is not whole, as a crash leaves it, is cut off, which [`BatchWriter::repaired`] tells.
    ///
    /// # Errors
    /// A file that cannot be opened or that holds something else, whose last line is torn and was never one of
    /// ours, that another program writes to though it must not, or whose name promises compression.
    pub fn append(path: impl Into<PathBuf>, purpose: Purpose) -> Result<Self, Failure> {
        Self::append_rotating(path, purpose, None)
    }

    /// As [`BatchWriter::append`]; the file is put aside and begun anew, between two batches, when `rotation` says so.
    ///
    /// # Errors
    /// As [`BatchWriter::append`].
    pub fn append_rotating(
        path: impl Into<PathBuf>,
        purpose: Purpose,
        rotation: Option<Rotation>,
    ) -> Result<Self, Failure> {
        let path = path.into();
        refuse_compression(&path)?;
        if fs::metadata(&path).is_ok_and(|found| found.file_type().is_fifo()) {
            // Opening it waits for a reader, which the thread does, so that signals are heard meanwhile.
            let mut sink = Self::over(WriteTarget::Fifo { path: path.clone(), file: None }, None);
            sink.fifo = Some(path);
            sink.start();
            return Ok(sink);
        }
        let (file, is_regular) = open(&path, purpose)
            .map_err(|why| Failure::io(format!("cannot open {} for appending: {why}", path.display())))?;
        let mut repaired = None;
        if is_regular {
            purpose.check(&file, &path)?;
            repaired = claim(&file, &path, purpose)?;
        }
        let rotation = rotation.filter(|_| is_regular).map(|when| Rotating::new(when, &file));
        let is_begun = is_regular && file.metadata().is_ok_and(|found| found.len() > 0);
        let mut sink =
            Self::over(WriteTarget::File(Appended { file, path, purpose, is_regular, rotation }), repaired);
        if is_begun && purpose.is_recording() {
            sink.preface = begin();
        }
        Ok(sink)
    }

    fn over(target: WriteTarget, repaired: Option<String>) -> Self {
        let (sender, state) = watch::channel(WriterState::default());
        Self {
            batch: Vec::new(),
            given: Offset::default(),
            handed: Offset::default(),
            seen: Offset::default(),
            queue: Arc::default(),
            state,
            written: Written::default(),
            idle: Some((target, sender)),
            thread: None,
            repaired,
            is_stdout: false,
            fifo: None,
            preface: Vec::new(),
        }
    }

    /// What was repaired when the file was opened, as a warning to print.
    #[must_use]
    pub fn repaired(&self) -> Option<&str> {
        self.repaired.as_deref()
    }

    /// Adds bytes, whole lines, to the current batch; they are safe once [`BatchWriter::done`] reaches the ticket.
    pub fn write(&mut self, bytes: &[u8]) -> Offset {
        self.write_with(|batch| batch.extend_from_slice(bytes))
    }

    /// As [`BatchWriter::write`], for what `write` appends to the batch it is given.
    pub fn write_with(&mut self, write: impl FnOnce(&mut Vec<u8>)) -> Offset {
        let before = self.batch.len();
        self.batch.append(&mut self.preface);
        write(&mut self.batch);
        self.given.0 += (self.batch.len() - before) as u64;
        self.given
    }

    /// How many bytes the current batch has.
    #[must_use]
    pub fn batched(&self) -> usize {
        self.batch.len()
    }

    /// Hands the batch to the thread and does not wait. Once per turn of an event loop is the right measure.
    pub fn flush(&mut self) {
        if self.batch.is_empty() {
            return;
        }
        if self.idle.is_some() {
            self.start();
        }
        self.handed = self.given;
        if self.state.borrow().failed.is_some() {
            self.batch.clear();
            return;
        }
        let mut queued = self.queue.lock();
        let is_first = queued.bytes.is_empty();
        if is_first {
            mem::swap(&mut queued.bytes, &mut self.batch);
        } else {
            queued.bytes.extend_from_slice(&self.batch);
            self.batch.clear();
        }
        drop(queued);
        if is_first {
            // Otherwise the thread is awake, or was woken by the first.
            self.queue.changed.notify_one();
        }
        give_back(&mut self.batch);
    }

    /// Everything up to here is written, and synced where the sink is durable.
    #[must_use]
    pub fn done(&self) -> Offset {
        self.state.borrow().done
    }

    /// Waits until [`BatchWriter::done`] has advanced since the last call, and gives it. Safe to drop at any point.
    ///
    /// # Errors
    /// The failure that ended the writing, every time it is asked.
    pub async fn progress(&mut self) -> Result<Offset, WriterError> {
        let thread_ended = self.state.changed().await.is_err();
        let state = self.state.borrow_and_update();
        match &state.failed {
            Some(failed) => Err(failed.clone()),
            None if thread_ended => Err(ended_early()),
            None => Ok(state.done),
        }
    }

    /// A view of the progress from elsewhere, for as long as the sink is there.
    #[must_use]
    pub fn watch(&self) -> CommitWatch {
        CommitWatch(self.state.clone())
    }

    /// How many whole lines' bytes have been written, synced or not, those of a batch that failed included; from
    /// elsewhere.
    #[must_use]
    pub fn written_so_far(&self) -> Written {
        self.written.clone()
    }

    /// How many bytes were handed over and are not yet written: a measure for slowing down whoever sends them.
    #[must_use]
    pub fn backlog(&self) -> usize {
        usize::try_from(self.handed.0 - self.done().0).unwrap_or(usize::MAX)
    }

    /// Whether more than this many bytes were handed over and are not yet written; looks at the thread only if they may
    /// be. A sink that failed is never behind, because waiting for it has no end.
    pub fn is_behind(&mut self, limit: u64) -> bool {
        if self.handed.0 - self.seen.0 > limit {
            let state = self.state.borrow();
            if state.failed.is_some() {
                return false;
            }
            self.seen = state.done;
        }
        self.handed.0 - self.seen.0 > limit
    }

    /// Writes what is left, and waits for it.
    ///
    /// # Errors
    /// The failure that ended the writing.
    pub async fn close(mut self) -> Result<(), WriterError> {
        if let Some(written) = self.write_at_once() {
            return written;
        }
        self.finish();
        if let Some(path) = self.fifo.clone() {
            if self.backlog() == 0 {
                return self.outcome();
            }
            let ended = async { while self.state.changed().await.is_ok() {} };
            if tokio::time::timeout(FAREWELL, ended).await.is_err() {
                let why = format!("nobody reads {}: what was left to write to it is lost", path.display());
                return Err(WriterError::Failed(Failure::io(why)));
            }
        } else if self.thread.is_some() {
            while self.state.changed().await.is_ok() {}
        }
        self.outcome()
    }

    /// Writes what is left, and blocks until it is done.
    ///
    /// # Errors
    /// The failure that ended the writing.
    pub fn close_blocking(mut self) -> Result<(), WriterError> {
        self.finish();
        if let Some(thread) = self.thread.take() {
            // The thread's state says more than its panic could.
            let _ = thread.join();
        }
        self.outcome()
    }

    /// Writes the only, short batch of a stream without a thread, where that cannot block: a thread costs as much as
    /// the rest of a single request.
    fn write_at_once(&mut self) -> Option<Result<(), WriterError>> {
        let (target, _) = self.idle.as_mut().filter(|_| self.is_stdout)?;
        let stdout = io::stdout();
        let mut fds = [PollFd::new(&stdout, PollFlags::OUT)];
        let ready = self.batch.len() <= AT_ONCE
            && poll(&mut fds, Some(&Timespec::default())).is_ok_and(|ready| ready > 0)
            && fds[0].revents() == PollFlags::OUT;
        ready.then(|| target.write(&self.batch, &self.written))
    }

    fn start(&mut self) {
        let Some((target, sender)) = self.idle.take() else { return };
        let (queue, written) = (Arc::clone(&self.queue), self.written.clone());
        let spawned = thread::Builder::new()
            .name("sink".into())
            .spawn(move || write_all(target, &queue, &sender, &written));
        match spawned {
            Ok(thread) => self.thread = Some(thread),
            Err(why) => {
                let failed = Failure::io(format!("cannot start a thread to write with: {why}"));
                let state =
                    WriterState { done: Offset::default(), failed: Some(WriterError::Failed(failed)) };
                self.state = watch::channel(state).1;
            }
        }
    }

    fn finish(&mut self) {
        self.flush();
        self.queue.close();
    }

    fn outcome(&self) -> Result<(), WriterError> {
        let state = self.state.borrow();
        match &state.failed {
            Some(failed) => Err(failed.clone()),
            None if state.done < self.handed => Err(ended_early()),
            None => Ok(()),
        }
    }
}

impl Drop for BatchWriter {
    /// Lets the thread end once it has written what it was given.
    fn drop(&mut self) {
        self.queue.close();
    }
}

/// A name that promises compression: other programs would not be able to read what is written under it.
fn refuse_compression(path: &Path) -> Result<(), Failure> {
    match path.extension().and_then(|extension| extension.to_str()) {
        Some("gz" | "zst") => {
            let message =
                format!("cannot write {}: records are not compressed while they come", path.display());
            Err(Failure::invalid(message)
                .hint("Name it .jsonl, and compress it afterwards: recordings are read as .gz and .zst too."))
        }
        _ => Ok(()),
    }
}

fn ended_early() -> WriterError {
    WriterError::Failed(Failure::io("the thread that writes ended too early"))
}

/// What goes from the sink to its thread.
#[derive(Debug, Default)]
struct BatchQueue {
    queued: Mutex<Queued>,
    changed: Condvar,
}

#[derive(Debug, Default)]
struct Queued {
    bytes: Vec<u8>,
    closed: bool,
}

impl BatchQueue {
    fn lock(&self) -> MutexGuard<'_, Queued> {
        self.queued.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn close(&self) {
        self.lock().closed = true;
        self.changed.notify_one();
    }

    /// Swaps what is queued into `bytes`, waiting for it; false once the queue is closed and empty.
    fn take(&self, bytes: &mut Vec<u8>) -> bool {
        let mut queued = self
            .changed
            .wait_while(self.lock(), |queued| queued.bytes.is_empty() && !queued.closed)
            .unwrap_or_else(PoisonError::into_inner);
        mem::swap(&mut queued.bytes, bytes);
        !bytes.is_empty()
    }
}

/// The thread.
fn write_all(
    mut target: WriteTarget,
    queue: &BatchQueue,
    state: &watch::Sender<WriterState>,
    written: &Written,
) {
    if let Err(why) = target.prepare() {
        return state.send_modify(|state| state.failed = Some(why));
    }
    let mut bytes = Vec::new();
    while queue.take(&mut bytes) {
        let outcome = target.write(&bytes, written);
        let failed = outcome.is_err();
        state.send_modify(|state| match outcome {
            Ok(()) => state.done.0 += bytes.len() as u64,
            Err(why) => state.failed = Some(why),
        });
        if failed {
            return;
        }
        bytes.clear();
        give_back(&mut bytes);
    }
}

fn give_back(empty: &mut Vec<u8>) {
    if empty.capacity() > KEPT {
        *empty = Vec::new();
    }
}

enum WriteTarget {
    /// Stdout; with the file behind it, if it is one.
    Stream {
        stream: Box<dyn Write + Send>,
        file: Option<File>,
    },
    /// A FIFO, open once it has a reader.
    Fifo {
        path: PathBuf,
        file: Option<File>,
    },
    File(Appended),
}

impl fmt::Debug for WriteTarget {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Stream { .. } => f.write_str("Stream"),
            Self::Fifo { path, .. } => write!(f, "Fifo({})", path.display()),
            Self::File(Appended { path, purpose, .. }) => write!(f, "File({}, {purpose:?})", path.display()),
        }
    }
}

impl WriteTarget {
    /// Does what may take long before the first write.
    fn prepare(&mut self) -> Result<(), WriterError> {
        if let Self::Fifo { path, file } = self {
            let opened = OpenOptions::new().write(true).open(&*path);
            *file = Some(opened.map_err(|why| cannot_write(path, &why))?);
        }
        Ok(())
    }

    fn write(&mut self, bytes: &[u8], written: &Written) -> Result<(), WriterError> {
        match self {
            Self::Stream { stream, file } => {
                push_lines(stream, bytes, written, file.as_mut()).map_err(|why| {
                    if why.kind() == io::ErrorKind::BrokenPipe {
                        WriterError::ReaderGone
                    } else {
                        WriterError::Failed(Failure::io(format!("cannot write to stdout: {why}")))
                    }
                })
            }
            Self::Fifo { path, file } => match file {
                Some(file) => push_lines(file, bytes, written, None).map_err(|why| cannot_write(path, &why)),
                None => Err(ended_early()),
            },
            Self::File(appended) => appended.write(bytes, written),
        }
    }
}

fn cannot_write(path: &Path, why: &io::Error) -> WriterError {
    WriterError::Failed(Failure::io(format!("cannot write {}: {why}", path.display())))
}

/// A file that lines are appended to.
struct Appended {
    file: File,
    path: PathBuf,
    purpose: Purpose,
    is_regular: bool,
    rotation: Option<Rotating>,
}

impl Appended {
    fn write(&mut self, bytes: &[u8], written: &Written) -> Result<(), WriterError> {
        // If no new file can be begun, the lines go to the present one all the same, and the failure is told. Lines in a
        // removed file would be lost without a word.
        let rotated = self.rotate();
        if rotated.is_err() && self.is_removed() {
            return rotated;
        }
        let mut rest = bytes;
        let pushed = push(&mut self.file, &mut rest);
        let mut kept = bytes.len() - rest.len();
        if pushed.is_err() {
            kept -= cut_torn_line(&mut self.file, &bytes[..kept]);
        }
        if let Some(rotation) = &mut self.rotation {
            rotation.grow(kept as u64);
        }
        written.0.fetch_add(kept as u64, Ordering::Relaxed);
        let is_synced = self.is_regular && self.purpose.is_durable();
        let synced = pushed.and_then(|()| if is_synced { self.file.sync_data() } else { Ok(()) });
        let told = synced.map_err(|why| {
            let why = format!("cannot write {}: {why}", self.path.display());
            WriterError::Failed(Failure::io(why).hint(self.purpose.hint()))
        });
        told.and(rotated)
    }

    /// Begins a new file under the name if the present one is to be put aside, or no longer has the name because another
    /// program, such as logrotate, moved or removed it. The present file holds whole lines only.
    fn rotate(&mut self) -> Result<(), WriterError> {
        let is_due = self.rotation.as_ref().is_some_and(Rotating::is_due);
        let is_watched = self.is_regular && self.purpose.is_recording();
        if !(is_due || is_watched) {
            return Ok(());
        }
        let is_named = has_name(&self.file, &self.path);
        if is_named && !is_due {
            return Ok(());
        }
        let hint = if self.is_removed() {
            self.purpose.hint()
        } else {
            "Everything is written; see whether its folder can be written to."
        };
        let failed = |what: &str, why: io::Error| {
            WriterError::Failed(Failure::io(format!("cannot {what}: {why}")).hint(hint))
        };
        let path = self.path.display();
        if is_named {
            rotation::put_aside(&self.path).map_err(|why| failed(&format!("put {path} aside"), why))?;
        }
        let opened = open(&self.path, self.purpose);
        let (file, is_regular) = opened.map_err(|why| failed(&format!("begin {path} anew"), why))?;
        if is_regular {
            self.purpose.check(&file, &self.path).map_err(WriterError::Failed)?;
            claim(&file, &self.path, self.purpose).map_err(WriterError::Failed)?;
        }
        self.rotation = self.rotation.filter(|_| is_regular).map(|rotation| rotation.anew(&file));
        (self.file, self.is_regular) = (file, is_regular);
        Ok(())
    }

    /// Whether the file has no name left, so that its content ends with this process.
    fn is_removed(&self) -> bool {
        self.is_regular && self.file.metadata().is_ok_and(|found| found.nlink() == 0)
    }
}

/// Whether an open file still has its name.
fn has_name(file: &File, path: &Path) -> bool {
    match (file.metadata(), fs::metadata(path)) {
        (Ok(open), Ok(named)) => (open.dev(), open.ino()) == (named.dev(), named.ino()),
        (_, Err(why)) => why.kind() != io::ErrorKind::NotFound,
        (Err(_), Ok(_)) => true,
    }
}

/// The file that stdout goes to, if it is one and is written to at its end.
fn redirected_stdout() -> Option<File> {
    let mut file = File::from(io::stdout().as_fd().try_clone_to_owned().ok()?);
    let length = file.metadata().ok().filter(Metadata::is_file)?.len();
    let appends = fcntl_getfl(&file).is_ok_and(|flags| flags.contains(OFlags::APPEND));
    (appends || file.stream_position().is_ok_and(|at| at == length)).then_some(file)
}

/// Ends the line that another run, which was killed, left torn in the file that stdout is appended to.
pub(crate) fn end_torn_line(stdout: &mut impl Write) -> io::Result<()> {
    if is_torn_before(redirected_stdout().as_ref()) { stdout.write_all(b"\n") } else { Ok(()) }
}

fn is_torn_before(file: Option<&File>) -> bool {
    file.is_some_and(|file| !ends_whole(file))
}

/// Whether a file that stdout goes to ends with a whole line, as far as can be told.
fn ends_whole(file: &File) -> bool {
    let length = file.metadata().map_or(0, |found| found.len());
    let mut last = [b'\n'];
    // The stream itself can only be written to.
    if length > 0
        && let Ok(file) = File::open("/dev/fd/1")
    {
        // What cannot be read is taken for whole.
        let _ = file.read_exact_at(&mut last, length - 1);
    }
    last == [b'\n']
}

/// Writes whole lines in pieces that a pipe takes as a whole or not at all, so that it is known how many its reader gets,
/// and that none is torn where the process ends meanwhile. A longer line is a piece of its own.
fn push_lines(
    stream: &mut impl Write,
    mut rest: &[u8],
    written: &Written,
    mut file: Option<&mut File>,
) -> io::Result<()> {
    while !rest.is_empty() {
        let end_of_line = |byte: &u8| *byte == b'\n';
        let length = if rest.len() <= AT_ONCE {
            rest.len()
        } else if let Some(last) = rest[..AT_ONCE].iter().rposition(end_of_line) {
            last + 1
        } else {
            rest.iter().position(end_of_line).map_or(rest.len(), |first| first + 1)
        };
        let (piece, others) = rest.split_at(length);
        let mut left = piece;
        if let Err(why) = push(stream, &mut left) {
            let kept = piece.len() - left.len();
            if let Some(file) = &mut file {
                let torn = cut_torn_line(file, &piece[..kept]);
                written.0.fetch_add((kept - torn) as u64, Ordering::Relaxed);
            }
            return Err(why);
        }
        stream.flush()?;
        written.0.fetch_add(length as u64, Ordering::Relaxed);
        rest = others;
    }
    Ok(())
}

/// As `write_all`, but leaves what was not written, and is patient with a descriptor that somebody else made
/// non-blocking.
pub(crate) fn push(stream: &mut impl Write, rest: &mut &[u8]) -> io::Result<()> {
    while !rest.is_empty() {
        match stream.write(rest) {
            Ok(0) => return Err(io::ErrorKind::WriteZero.into()),
            Ok(written) => *rest = &rest[written..],
            Err(why) if why.kind() == io::ErrorKind::Interrupted => {}
            Err(why) if why.kind() == io::ErrorKind::WouldBlock => thread::sleep(Duration::from_millis(1)),
            Err(why) => return Err(why),
        }
    }
    Ok(())
}

/// After a failed write: takes back the part of a line that reached the file, so that it ends with a whole one. Gives
/// the length of that part.
fn cut_torn_line(file: &mut File, written: &[u8]) -> usize {
    let torn = written.iter().rev().take_while(|byte| **byte != b'\n').count();
    let Ok(end) = file.stream_position() else { return torn };
    // Where another program appended meanwhile, cutting would take its line. A file that cannot be cut is
    // repaired by the next run; the failure to write is what is reported.
    if torn > 0 && file.metadata().is_ok_and(|now| now.is_file() && now.len() == end) {
        let _ = file.set_len(end - torn as u64);
    }
    torn
}

/// Opens a file for appending; true where it is a regular one, which can be synced and repaired.
fn open(path: &Path, purpose: Purpose) -> io::Result<(File, bool)> {
    let mut options = OpenOptions::new();
    options.append(true);
    let found = fs::metadata(path);
    if found.as_ref().is_ok_and(|found| !found.is_file()) {
        return Ok((options.open(path)?, false));
    }
    options.read(true).create(true);
    #[cfg(unix)]
    std::os::unix::fs::OpenOptionsExt::mode(&mut options, 0o644);
    let file = options.open(path)?;
    if purpose.is_durable() && found.is_err() {
        sync_folder(path);
    }
    Ok((file, true))
}

/// Repairs the file unless another program is writing to it, whose last line is not torn but on its way. The lock that
/// stays on the file tells others so; an exclusive one keeps them off.
pub(crate) fn claim(file: &File, path: &Path, purpose: Purpose) -> Result<Option<String>, Failure> {
    let alone = purpose.is_exclusive();
    if cfg!(windows) {
        // Locks forbid writing there.
        return repair(file, path, purpose);
    }
    // Where files cannot be locked, nobody can be asked.
    let is_shared = matches!(file.try_lock(), Err(TryLockError::WouldBlock));
    if is_shared && alone {
        return Err(in_use(path));
    }
    let repaired = if is_shared { None } else { repair(file, path, purpose)? };
    if alone {
        return Ok(repaired);
    }
    // Another program's repair takes a moment; who keeps a lock for longer does not repair.
    let patience = Instant::now() + REPAIR;
    while matches!(file.try_lock_shared(), Err(TryLockError::WouldBlock)) && Instant::now() < patience {
        thread::sleep(Duration::from_millis(1));
    }
    Ok(repaired)
}

/// The failure for a file that another program has locked.
pub(crate) fn in_use(path: &Path) -> Failure {
    Failure::io(format!("{} is in use by another program", path.display()))
        .hint("Two programs would not know what the other one writes: end that one, or name another file.")
}

/// Cuts off a last line that is not whole and says so; only adds the newline if nothing else is missing.
///
/// A crash leaves the beginning of a line, or the zeros of a block that was never written. Any other end was written by
/// another program, and is not touched.
fn repair(mut file: &File, path: &Path, purpose: Purpose) -> Result<Option<String>, Failure> {
    let wrong =
        |why: io::Error| Failure::io(format!("cannot repair the last line of {}: {why}", path.display()));
    let end = file.seek(SeekFrom::End(0)).map_err(wrong)?;
    let whole = end_of_last_line(file, end).map_err(wrong)?;
    if whole == end {
        return Ok(None);
    }
    // An editor on Windows marks the beginning of a file.
    let mut first = [0; BYTE_ORDER_MARK.len()];
    let is_marked = whole == 0 && file.read_exact_at(&mut first, 0).is_ok() && first == BYTE_ORDER_MARK;
    let start = if is_marked { first.len() as u64 } else { whole };
    file.seek(SeekFrom::Start(start)).map_err(wrong)?;
    let is_json = serde_json::from_reader::<_, AnyObject>(BufReader::new(file)).is_ok();
    if !is_json && !is_torn(file, whole, end, purpose).map_err(wrong)? {
        let message = format!(
            "the last line of {} has no end and is none of this program's, so nothing is appended to it",
            path.display()
        );
        return Err(Failure::invalid(message).hint(
            "Name another file; if this one is right, end its last line with a newline, or remove that line.",
        ));
    }
    let repaired = if is_json { file.write_all(b"\n") } else { file.set_len(whole) };
    let sync = || if purpose.is_durable() { file.sync_data() } else { Ok(()) };
    repaired.and_then(|()| sync()).map_err(wrong)?;
    Ok((!is_json).then(|| {
        let length = end - whole;
        format!("the last line of {} was not whole; its {length} bytes were cut off", path.display())
    }))
}

/// Any JSON object, of which nothing is kept.
#[derive(serde::Deserialize)]
struct AnyObject {}

/// Whether the last line of a file, which is not whole, is what a crash leaves of ours.
fn is_torn(file: &File, whole: u64, end: u64, purpose: Purpose) -> io::Result<bool> {
    let mut beginning = vec![0; usize::try_from(end - whole).unwrap_or(usize::MAX).min(64)];
    file.read_exact_at(&mut beginning, whole)?;
    // Zeros tell nothing by themselves.
    if beginning.iter().all(|byte| *byte == 0) {
        return Ok(whole == 0 || purpose.may_begin(&first_line(file)?));
    }
    Ok(purpose.may_begin(&beginning))
}

/// The position after the last newline, or 0.
fn end_of_last_line(mut file: &File, end: u64) -> io::Result<u64> {
    let mut block = [0; 8192];
    let mut to = end;
    while to > 0 {
        let from = to.saturating_sub(block.len() as u64);
        file.seek(SeekFrom::Start(from))?;
        let block = &mut block[..usize::try_from(to - from).unwrap_or(0)];
        file.read_exact(block)?;
        if let Some(at) = block.iter().rposition(|byte| *byte == b'\n') {
            return Ok(from + at as u64 + 1);
        }
        to = from;
    }
    Ok(0)
}

#[cfg(test)]
mod tests {
    use std::sync::mpsc;

    use super::*;

    fn file(content: &[u8]) -> (tempfile::TempDir, PathBuf) {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("out.jsonl");
        fs::write(&path, content).unwrap();
        (folder, path)
    }

    /// What a file holds, but for the marks of runs that go on with it.
    fn lines(path: &Path) -> String {
        let text = fs::read_to_string(path).unwrap();
        text.split_inclusive('\n').filter(|line| !line.contains("\"event\":\"begin\"")).collect()
    }

    fn block_on<T>(future: impl Future<Output = T>) -> T {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_time().build().unwrap();
        runtime
            .block_on(async { tokio::time::timeout(Duration::from_secs(20), future).await.expect("a hang") })
    }

    /// A stream that tells each write and waits until it is let go.
    struct Gate {
        written: mpsc::Sender<Vec<u8>>,
        go: mpsc::Receiver<()>,
    }

    impl Write for Gate {
        fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
            self.written.send(bytes.to_vec()).unwrap();
            self.go.recv().map_err(|_| io::Error::other("no gate"))?;
            Ok(bytes.len())
        }
        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }

    fn gated() -> (BatchWriter, mpsc::Receiver<Vec<u8>>, mpsc::Sender<()>) {
        let (written, writes) = mpsc::channel();
        let (go, gate) = mpsc::channel();
        (
            BatchWriter::over(
                WriteTarget::Stream { stream: Box::new(Gate { written, go: gate }), file: None },
                None,
            ),
            writes,
            go,
        )
    }

    #[test]
    fn lines_keep_their_order_and_follow_what_was_there() {
        let (_folder, path) = file(b"before\n");
        block_on(async {
            let mut sink = BatchWriter::append(&path, Purpose::ListenRecords).unwrap();
            let mut expected = String::from("before\n");
            let mut last = Offset::default();
            for n in 0..1000 {
                let line = format!("{n}\n");
                let ticket = sink.write(line.as_bytes());
                assert!(ticket > last);
                last = ticket;
                expected += &line;
                if n % 7 == 0 {
                    sink.flush();
                }
            }
            sink.flush();
            while sink.progress().await.unwrap() < last {}
            assert_eq!((sink.done(), sink.backlog()), (last, 0));
            assert_eq!(lines(&path), expected);
            sink.write(b"unflushed\n");
            sink.close().await.unwrap();
            assert_eq!(lines(&path), expected + "unflushed\n");
        });
    }

    #[test]
    fn what_queues_up_during_a_write_goes_out_in_the_next() {
        block_on(async {
            let (mut sink, writes, go) = gated();
            let first = sink.write(b"1\n");
            sink.flush();
            assert_eq!(writes.recv().unwrap(), b"1\n");
            for line in [b"2\n", b"3\n", b"4\n"] {
                sink.write(line);
                sink.flush();
            }
            assert_eq!((sink.done(), sink.backlog()), (Offset::default(), 8));
            assert!(sink.is_behind(7) && !sink.is_behind(8));
            go.send(()).unwrap();
            assert_eq!(sink.progress().await, Ok(first));
            assert_eq!(writes.recv().unwrap(), b"2\n3\n4\n");
            assert_eq!(sink.backlog(), 6);
            assert!(sink.is_behind(5) && !sink.is_behind(6));
            go.send(()).unwrap();
            assert!(sink.progress().await.unwrap() > first);
            assert_eq!(sink.backlog(), 0);
            sink.close().await.unwrap();
        });
    }

    #[test]
    fn progress_may_be_dropped_and_asked_again() {
        block_on(async {
            let (mut sink, _writes, go) = gated();
            let ticket = sink.write(b"1\n");
            sink.flush();
            for _ in 0..3 {
                assert!(tokio::time::timeout(Duration::ZERO, sink.progress()).await.is_err());
            }
            go.send(()).unwrap();
            assert_eq!(sink.progress().await, Ok(ticket));
        });
    }

    #[test]
    fn a_reader_that_went_away_ends_the_writing() {
        block_on(async {
            let (reader, writer) = io::pipe().unwrap();
            let mut sink =
                BatchWriter::over(WriteTarget::Stream { stream: Box::new(writer), file: None }, None);
            drop(reader);
            sink.write(b"1\n");
            sink.flush();
            assert_eq!(sink.progress().await, Err(WriterError::ReaderGone));
            sink.write(b"2\n");
            sink.flush();
            assert_eq!(sink.progress().await, Err(WriterError::ReaderGone));
            assert!(!sink.is_behind(0), "a run that waits for room would wait for ever");
            assert_eq!(sink.close().await, Err(WriterError::ReaderGone));
        });
    }

    #[test]
    #[cfg(target_os = "linux")]
    fn a_full_disk_is_named() {
        let mut sink = BatchWriter::append("/dev/full", Purpose::ListenRecords).unwrap();
        sink.write(b"1\n");
        let Err(WriterError::Failed(failure)) = sink.close_blocking() else { panic!("no failure") };
        assert!(failure.message.contains("/dev/full"), "{failure}");
        assert_eq!(failure.kind, crate::error::FailureKind::Io);
    }

    /// Nothing goes on into the removed file: what is not written is not acknowledged.
    #[test]
    fn a_recording_whose_folder_is_removed_ends_with_the_hint_of_its_purpose() {
        for purpose in [Purpose::ListenRecords, Purpose::TapRecords, Purpose::EdgeRecords] {
            let folder = tempfile::tempdir().unwrap();
            let inner = folder.path().join("inner");
            fs::create_dir(&inner).unwrap();
            let mut sink = BatchWriter::append(inner.join("out.jsonl"), purpose).unwrap();
            fs::remove_dir_all(&inner).unwrap();
            let written = sink.written_so_far();
            sink.write(b"{\"v\":1}\n");
            let Err(WriterError::Failed(failure)) = sink.close_blocking() else { panic!("no failure") };
            assert!(failure.message.contains("out.jsonl"), "{failure}");
            assert_eq!(
                (failure.hint.as_deref(), written.ticket()),
                (Some(purpose.hint()), Offset::default())
            );
        }
    }

    #[test]
    fn a_recording_that_is_moved_or_removed_is_begun_anew_under_its_name() {
        for purpose in [Purpose::ListenRecords, Purpose::TapRecords, Purpose::EdgeRecords] {
            let (folder, path) = file(b"");
            let moved = folder.path().join("moved.jsonl");
            let mut sink = BatchWriter::append(&path, purpose).unwrap();
            let mut write = |line: &str| {
                let ticket = sink.write(line.as_bytes());
                sink.flush();
                block_on(async { while sink.progress().await.unwrap() < ticket {} });
            };
            write("{\"v\":1}\n");
            fs::rename(&path, &moved).unwrap();
            write("{\"v\":2}\n");
            assert_eq!((lines(&moved), lines(&path)), ("{\"v\":1}\n".to_owned(), "{\"v\":2}\n".to_owned()));
            fs::remove_file(&path).unwrap();
            write("{\"v\":3}\n");
            assert_eq!(lines(&path), "{\"v\":3}\n");
            // logrotate's `create` makes the new file.
            fs::rename(&path, &moved).unwrap();
            File::create(&path).unwrap();
            write("{\"v\":4}\n");
            assert_eq!(lines(&path), "{\"v\":4}\n");
        }
    }

    #[test]
    fn a_line_that_a_failed_write_tore_is_taken_back() {
        let (_folder, path) = file(b"1\n");
        let (mut file, _) = open(&path, Purpose::EdgeRecords).unwrap();
        file.write_all(b"2\n3\n4").unwrap();
        cut_torn_line(&mut file, b"2\n3\n4");
        assert_eq!(fs::read(&path).unwrap(), b"1\n2\n3\n");
        // Somebody else's line, appended meanwhile, stays.
        file.write_all(b"5").unwrap();
        OpenOptions::new().append(true).open(&path).unwrap().write_all(b"6\n").unwrap();
        cut_torn_line(&mut file, b"5");
        assert_eq!(fs::read(&path).unwrap(), b"1\n2\n3\n56\n");
    }

    fn numbered(lines: usize) -> String {
        (0..lines).fold(String::new(), |text, n| text + &format!("{{\"line\":{n}}}\n"))
    }

    /// The test runs itself again under a limit on file sizes, which is as good as a full disk.
    #[test]
    #[cfg(unix)]
    fn a_batch_that_does_not_fit_leaves_whole_lines() {
        if let Some(path) = std::env::var_os("TEST_LIMITED_FILE") {
            let mut sink = BatchWriter::append(path, Purpose::ListenRecords).unwrap();
            sink.write(numbered(10_000).as_bytes());
            let Err(WriterError::Failed(failure)) = sink.close_blocking() else { panic!("no failure") };
            assert!(failure.message.contains("out.jsonl"), "{failure}");
            return;
        }
        let (_folder, path) = file(b"{}\n");
        let run = std::process::Command::new("sh")
            .args(["-c", "trap '' XFSZ; ulimit -f 8; exec \"$0\" --exact \"$1\""])
            .arg(std::env::current_exe().unwrap())
            .arg("io::batch_writer::tests::a_batch_that_does_not_fit_leaves_whole_lines")
            .env("TEST_LIMITED_FILE", &path)
            .output()
            .unwrap();
        let output = String::from_utf8_lossy(&run.stdout);
        assert!(run.status.success() && output.contains("1 passed"), "{output}");
        let left = lines(&path);
        assert_eq!(left, format!("{{}}\n{}", numbered(left.lines().count() - 1)));
        assert!(left.len() > 3000, "{} bytes are left", left.len());
    }

    #[test]
    fn a_thread_that_dies_is_an_error_and_no_endless_progress() {
        block_on(async {
            let (mut sink, writes, go) = gated();
            drop((writes, go));
            let ticket = sink.write(b"1\n");
            sink.flush();
            assert!(matches!(sink.progress().await, Err(WriterError::Failed(_))));
            assert!(matches!(sink.progress().await, Err(WriterError::Failed(_))));
            assert!(sink.done() < ticket);
            assert!(matches!(sink.close().await, Err(WriterError::Failed(_))));
        });
    }

    #[test]
    fn a_torn_tail_is_cut_off_and_told() {
        let long = "{\"v\":1}\n{\"v\":1,\"b\":\"".to_owned() + &"x".repeat(20_000);
        for (content, whole, told) in [
            ("{\"v\":1}\n{\"v\":1,\"b\":", "{\"v\":1}\n", Some("11 bytes")),
            ("{\"v\":1,\"b\":", "", Some("11 bytes")),
            (&long, "{\"v\":1}\n", Some("20012 bytes")),
            ("{\"v\":1,\"a\":1}\n\0\0\0", "{\"v\":1,\"a\":1}\n", Some("3 bytes")),
            ("{\"v\":1}\n{\"b\":2}", "{\"v\":1}\n{\"b\":2}\n", None),
            ("{\"v\":1}\n", "{\"v\":1}\n", None),
            ("", "", None),
        ] {
            let (_folder, path) = file(content.as_bytes());
            let mut sink = BatchWriter::append(&path, Purpose::ListenRecords).unwrap();
            let repaired = sink.repaired().map(str::to_owned);
            assert_eq!(repaired.is_some(), told.is_some(), "{content}");
            assert!(
                repaired.as_deref().unwrap_or_default().contains(told.unwrap_or_default()),
                "{repaired:?}"
            );
            sink.write(b"next\n");
            sink.close_blocking().unwrap();
            assert_eq!(lines(&path), whole.to_owned() + "next\n");
        }
        for foreign in [&b"\x89PNG"[..], b"{draft", b"{\"v\":1}\n{\"b\":", b"a\n\0\0"] {
            let (_folder, path) = file(foreign);
            let failure = BatchWriter::append(&path, Purpose::ListenRecords).unwrap_err();
            assert!(failure.message.contains("out.jsonl") && failure.hint.is_some(), "{failure}");
            assert_eq!(fs::read(&path).unwrap(), foreign);
        }
    }

    #[test]
    #[cfg(unix)]
    fn a_last_line_that_another_program_writes_is_not_torn() {
        let (_folder, path) = file(b"");
        let mut other = BatchWriter::append(&path, Purpose::ListenRecords).unwrap();
        let half = "{\"v\":1,\"b\":";
        let add_half =
            || OpenOptions::new().append(true).open(&path).unwrap().write_all(half.as_bytes()).unwrap();
        add_half();
        let mut sink = BatchWriter::append(&path, Purpose::ListenRecords).unwrap();
        assert_eq!((sink.repaired(), lines(&path)), (None, half.to_owned()));
        other.write(b"2}\n");
        other.close_blocking().unwrap();
        sink.write(b"{\"c\":3}\n");
        sink.close_blocking().unwrap();
        assert_eq!(lines(&path), half.to_owned() + "2}\n{\"c\":3}\n");
        // A lock that another program holds for its own reasons holds up nothing; later the line can be repaired.
        let foreign = File::open(&path).unwrap();
        foreign.lock().unwrap();
        add_half();
        assert_eq!(BatchWriter::append(&path, Purpose::ListenRecords).unwrap().repaired(), None);
        drop(foreign);
        assert!(BatchWriter::append(&path, Purpose::ListenRecords).unwrap().repaired().is_some());
    }

    #[test]
    fn a_file_is_created_for_its_owner_to_write_and_a_missing_folder_is_named() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("new.jsonl");
        BatchWriter::append(&path, Purpose::ListenRecords).unwrap().close_blocking().unwrap();
        assert_eq!(fs::read(&path).unwrap(), b"");
        let missing = folder.path().join("no/such.jsonl");
        assert!(
            BatchWriter::append(missing, Purpose::EdgeRecords).unwrap_err().message.contains("such.jsonl")
        );
    }
}
