//! Opens files for appending, and repairs the torn last line that a crash leaves.

use std::{
    fs::{self, File, OpenOptions, TryLockError},
    io::{self, BufReader, Read as _, Seek as _, SeekFrom, Write as _},
    os::unix::fs::{FileExt as _, OpenOptionsExt as _},
    path::Path,
    thread,
    time::{Duration, Instant},
};

use super::purpose::{Purpose, first_line};
use crate::{error::Failure, io::files::sync_folder};

/// Longest wait for another program's repair of the file.
const REPAIR_TIMEOUT: Duration = Duration::from_secs(1);

/// How editors on Windows mark a file as UTF-8.
const BYTE_ORDER_MARK: [u8; 3] = *b"\xef\xbb\xbf";

/// Opens a file for appending. Returns also whether it is a regular one, which can be synced and repaired.
pub(super) fn open(path: &Path, purpose: Purpose) -> io::Result<(File, bool)> {
    let mut options = OpenOptions::new();
    options.append(true);
    let found = fs::metadata(path);
    if found.as_ref().is_ok_and(|found| !found.is_file()) {
        return Ok((options.open(path)?, false));
    }
    options.read(true).create(true);
    options.mode(0o644);
    let file = options.open(path)?;
    if purpose.is_durable() && found.is_err() {
        sync_folder(path);
    }
    Ok((file, true))
}

/// Locks a file, and repairs its last line unless another program is writing to the file, so that the line is not torn but
/// incomplete. Returns a note on the repair. A shared lock stays and tells other programs that the file is written to; an
/// exclusive one keeps them off.
pub(crate) fn claim(file: &File, path: &Path, purpose: Purpose) -> Result<Option<String>, Failure> {
    let alone = purpose.is_exclusive();
    // A file system without locks cannot tell; the file counts as unused.
    let is_shared = matches!(file.try_lock(), Err(TryLockError::WouldBlock));
    if is_shared && alone {
        return Err(in_use(path));
    }
    let repaired = if is_shared { None } else { repair(file, path, purpose)? };
    if alone {
        return Ok(repaired);
    }
    // Another program's repair is short; a lock that is held for longer is for another purpose.
    let patience = Instant::now() + REPAIR_TIMEOUT;
    while matches!(file.try_lock_shared(), Err(TryLockError::WouldBlock)) && Instant::now() < patience {
        thread::sleep(Duration::from_millis(1));
    }
    Ok(repaired)
}

/// Returns the failure for a file that another program has locked.
pub(crate) fn in_use(path: &Path) -> Failure {
    Failure::io(format!("{} is in use by another program", path.display()))
        .hint("Two programs would not know what the other one writes: end that one, or name another file.")
}

/// Cuts off a torn last line and returns a note on it, or adds the newline if nothing else is missing.
///
/// A crash leaves the beginning of a line, or the zeros of a block that was never written. Any other end was written by
/// another program, and stays.
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

/// Any JSON object; its members are ignored.
#[derive(serde::Deserialize)]
struct AnyObject {}

/// Whether an incomplete last line is what a crash leaves of a line of ours.
fn is_torn(file: &File, whole: u64, end: u64, purpose: Purpose) -> io::Result<bool> {
    let mut beginning = vec![0; usize::try_from(end - whole).unwrap_or(usize::MAX).min(64)];
    file.read_exact_at(&mut beginning, whole)?;
    // Zeros alone do not tell whose they are; the first line does.
    if beginning.iter().all(|byte| *byte == 0) {
        return Ok(whole == 0 || purpose.may_begin(&first_line(file)?));
    }
    Ok(purpose.may_begin(&beginning))
}

/// Returns the position after the last newline, or 0.
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
