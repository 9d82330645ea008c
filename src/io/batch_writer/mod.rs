//! Writes lines to stdout or a file on a thread of its own, so that an event loop never waits for a slow reader or a slow
//! disk, and an acknowledgement can wait until its line is safe.
//!
//! All batches that are queued while the thread writes go out in its next write, followed by one sync if the file is durable
//! (group commit). So the rate does not depend on the cost of a sync. A writer that failed writes nothing more.

mod appended_file;
mod lines;
mod progress;
mod purpose;
mod queue;
mod recovery;
mod rotation;
mod stdout;
mod target;
#[cfg(test)]
mod tests;
mod thread;

use std::{
    fs, io,
    os::unix::fs::FileTypeExt as _,
    path::{Path, PathBuf},
    sync::Arc,
    thread::JoinHandle,
    time::Duration,
};

use jiff::Timestamp;
use rustix::event::{PollFd, PollFlags, Timespec, poll};
use tokio::sync::watch;

use self::{
    appended_file::AppendedFile,
    lines::PIPE_PIECE,
    progress::{WriterState, ended_early},
    queue::BatchQueue,
    stdout::{is_torn_before, redirected_stdout},
    target::WriteTarget,
    thread::{run_writer, shrink},
};
pub(crate) use self::{
    lines::push,
    recovery::{claim, in_use},
    stdout::end_torn_line,
};
pub use self::{
    progress::{CommitWatch, Offset, WriterError, Written},
    purpose::Purpose,
    rotation::{Rotation, byte_size},
};
use crate::error::Failure;

/// Longest wait for the reader of a FIFO when the writer is closed.
const FIFO_TIMEOUT: Duration = Duration::from_millis(1500);

/// Writes batches of whole lines to stdout or a file.
#[derive(Debug)]
pub struct BatchWriter {
    batch: Vec<u8>,
    /// The end of the batch.
    end: Offset,
    /// The end of the bytes that were handed to the thread.
    handed: Offset,
    /// The committed offset when it was last read, by [`BatchWriter::is_behind`].
    seen: Offset,
    queue: Arc<BatchQueue>,
    state: watch::Receiver<WriterState>,
    written: Written,
    /// What the thread takes over when it starts.
    idle: Option<(WriteTarget, watch::Sender<WriterState>)>,
    thread: Option<JoinHandle<()>>,
    recovery_note: Option<String>,
    is_stdout: bool,
    /// The path, if this is a FIFO, which may have no reader.
    fifo: Option<PathBuf>,
    /// Bytes that are written before the first line, and only together with it.
    preface: Vec<u8>,
}

impl BatchWriter {
    /// Returns a writer to stdout.
    #[must_use]
    pub fn stdout() -> Self {
        let file = redirected_stdout();
        let is_torn = is_torn_before(file.as_ref());
        let mut writer = Self::over(WriteTarget::Stream { stream: Box::new(io::stdout()), file }, None);
        writer.is_stdout = true;
        if is_torn {
            // The torn line is another program's, so it is ended rather than cut off.
            writer.preface = b"\n".to_vec();
        }
        writer
    }

    /// Returns a writer that appends to a file, and creates it if it is missing.
    ///
    /// Cuts off a torn last line, as a crash leaves it; [`BatchWriter::recovery_note`] tells so.
    ///
    /// # Errors
    /// A file that cannot be opened or that holds something else, whose torn last line was never one of ours, that another
    /// program has locked though the purpose forbids it, or whose name promises compression.
    pub fn append(path: impl Into<PathBuf>, purpose: Purpose) -> Result<Self, Failure> {
        Self::append_rotating(path, purpose, None)
    }

    /// Returns a writer as [`BatchWriter::append`] does, which rotates the file between two batches as `rotation` says.
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
            // The thread opens it, because that waits for a reader, and signals must be handled meanwhile.
            let mut writer = Self::over(WriteTarget::Fifo { path: path.clone(), file: None }, None);
            writer.fifo = Some(path);
            writer.start();
            return Ok(writer);
        }
        let (file, recovery_note) = AppendedFile::open(path, purpose, rotation)?;
        let is_begun = file.is_begun();
        let mut writer = Self::over(WriteTarget::File(file), recovery_note);
        if is_begun && purpose.is_recording() {
            writer.preface = begin_line();
        }
        Ok(writer)
    }

    fn over(target: WriteTarget, recovery_note: Option<String>) -> Self {
        let (sender, state) = watch::channel(WriterState::default());
        Self {
            batch: Vec::new(),
            end: Offset::default(),
            handed: Offset::default(),
            seen: Offset::default(),
            queue: Arc::default(),
            state,
            written: Written::default(),
            idle: Some((target, sender)),
            thread: None,
            recovery_note,
            is_stdout: false,
            fifo: None,
            preface: Vec::new(),
        }
    }

    /// What was repaired when the file was opened, as a warning to print.
    #[must_use]
    pub fn recovery_note(&self) -> Option<&str> {
        self.recovery_note.as_deref()
    }

    /// Adds whole lines to the current batch. They are safe once [`BatchWriter::committed`] reaches the returned offset.
    pub fn write(&mut self, bytes: &[u8]) -> Offset {
        self.write_with(|batch| batch.extend_from_slice(bytes))
    }

    /// Adds the whole lines that `write` appends to the batch; see [`BatchWriter::write`].
    pub fn write_with(&mut self, write: impl FnOnce(&mut Vec<u8>)) -> Offset {
        let before = self.batch.len();
        self.batch.append(&mut self.preface);
        write(&mut self.batch);
        self.end.0 += (self.batch.len() - before) as u64;
        self.end
    }

    /// How many bytes the current batch has.
    #[must_use]
    pub fn batched(&self) -> usize {
        self.batch.len()
    }

    /// Hands the batch to the thread without waiting. An event loop calls this once a turn.
    pub fn flush(&mut self) {
        if self.batch.is_empty() {
            return;
        }
        if self.idle.is_some() {
            self.start();
        }
        self.handed = self.end;
        if self.state.borrow().failed.is_some() {
            self.batch.clear();
            return;
        }
        self.queue.push(&mut self.batch);
        shrink(&mut self.batch);
    }

    /// Everything before this offset is written, and synced if the file is durable.
    #[must_use]
    pub fn committed(&self) -> Offset {
        self.state.borrow().committed
    }

    /// Waits until [`BatchWriter::committed`] has advanced since the last call, and returns it. Cancel-safe.
    ///
    /// # Errors
    /// The failure that stopped the writer, at every call.
    pub async fn committed_changed(&mut self) -> Result<Offset, WriterError> {
        let has_ended = self.state.changed().await.is_err();
        let state = self.state.borrow_and_update();
        match &state.failed {
            Some(failed) => Err(failed.clone()),
            None if has_ended => Err(ended_early()),
            None => Ok(state.committed),
        }
    }

    /// Returns a watch on the commits, which lives no longer than the writer.
    #[must_use]
    pub fn watch(&self) -> CommitWatch {
        CommitWatch(self.state.clone())
    }

    /// Returns the offset of what has been written, committed or not, those lines of a failed batch included that were
    /// written whole. The value is updated by the thread.
    #[must_use]
    pub fn written(&self) -> Written {
        self.written.clone()
    }

    /// How many bytes were handed over and are not committed: a measure for back-pressure.
    #[must_use]
    pub fn backlog(&self) -> usize {
        usize::try_from(self.handed.0 - self.committed().0).unwrap_or(usize::MAX)
    }

    /// Whether more than `limit` bytes were handed over and are not committed. Reads the thread's state only if they may be.
    /// A writer that failed is never behind, because waiting for it would not end.
    pub fn is_behind(&mut self, limit: u64) -> bool {
        if self.handed.0 - self.seen.0 > limit {
            let state = self.state.borrow();
            if state.failed.is_some() {
                return false;
            }
            self.seen = state.committed;
        }
        self.handed.0 - self.seen.0 > limit
    }

    /// Writes the rest, and waits for it.
    ///
    /// # Errors
    /// The failure that stopped the writer.
    pub async fn close(mut self) -> Result<(), WriterError> {
        if let Some(written) = self.write_without_thread() {
            return written;
        }
        self.finish();
        if let Some(path) = self.fifo.clone() {
            if self.backlog() == 0 {
                return self.outcome();
            }
            let ended = async { while self.state.changed().await.is_ok() {} };
            if tokio::time::timeout(FIFO_TIMEOUT, ended).await.is_err() {
                let why = format!("{} is not being read: the rest of the output is lost", path.display());
                return Err(WriterError::Failed(Failure::io(why)));
            }
        } else if self.thread.is_some() {
            while self.state.changed().await.is_ok() {}
        }
        self.outcome()
    }

    /// Writes the rest, and blocks until it is written.
    ///
    /// # Errors
    /// The failure that stopped the writer.
    pub fn close_blocking(mut self) -> Result<(), WriterError> {
        self.finish();
        if let Some(thread) = self.thread.take() {
            // The thread's state tells more than its panic.
            let _ = thread.join();
        }
        self.outcome()
    }

    /// Writes the only, short batch of stdout without a thread, if that cannot block: starting a thread costs as much as the
    /// rest of a single request.
    fn write_without_thread(&mut self) -> Option<Result<(), WriterError>> {
        let (target, _) = self.idle.as_mut().filter(|_| self.is_stdout)?;
        let stdout = io::stdout();
        let mut fds = [PollFd::new(&stdout, PollFlags::OUT)];
        let is_ready = self.batch.len() <= PIPE_PIECE
            && poll(&mut fds, Some(&Timespec::default())).is_ok_and(|ready| ready > 0)
            && fds[0].revents() == PollFlags::OUT;
        is_ready.then(|| target.write(&self.batch, &self.written))
    }

    fn start(&mut self) {
        let Some((target, sender)) = self.idle.take() else { return };
        let (queue, written) = (Arc::clone(&self.queue), self.written.clone());
        let spawned = std::thread::Builder::new()
            .name("writer".into())
            .spawn(move || run_writer(target, &queue, &sender, &written));
        match spawned {
            Ok(thread) => self.thread = Some(thread),
            Err(why) => {
                let failed = Failure::io(format!("cannot start a thread to write with: {why}"));
                let failed = Some(WriterError::Failed(failed));
                self.state = watch::channel(WriterState { failed, ..WriterState::default() }).1;
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
            None if state.committed < self.handed => Err(ended_early()),
            None => Ok(()),
        }
    }
}

impl Drop for BatchWriter {
    /// Lets the thread end once it has written what was handed to it.
    fn drop(&mut self) {
        self.queue.close();
    }
}

/// Refuses a name that promises compression, because other programs could not read the file.
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

/// Returns the line that marks where a run goes on with a recording, because the monotonic clock begins anew there. Its time
/// is that of the opening, so that no record of the run is older.
fn begin_line() -> Vec<u8> {
    let time = Timestamp::now().strftime("%Y-%m-%dT%H:%M:%S%.6fZ");
    format!("{{\"v\":1,\"event\":\"begin\",\"tst\":\"{time}\"}}\n").into_bytes()
}
