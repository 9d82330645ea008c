//! Appends lines to a file.

use std::{
    fmt,
    fs::{self, File},
    io,
    os::unix::fs::MetadataExt as _,
    path::{Path, PathBuf},
};

use super::{
    lines::{cut_torn_line, push},
    progress::{WriterError, Written},
    purpose::Purpose,
    recovery::{claim, open},
    rotation::{Rotating, Rotation, put_aside},
};
use crate::error::Failure;

/// A file that lines are appended to, and that may be rotated.
pub(super) struct AppendedFile {
    file: File,
    path: PathBuf,
    purpose: Purpose,
    is_regular: bool,
    rotation: Option<Rotating>,
}

impl fmt::Debug for AppendedFile {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} ({:?})", self.path.display(), self.purpose)
    }
}

impl AppendedFile {
    /// Opens a file and repairs it. Returns also a note on the repair.
    pub fn open(
        path: PathBuf,
        purpose: Purpose,
        rotation: Option<Rotation>,
    ) -> Result<(Self, Option<String>), Failure> {
        let (file, is_regular) = open(&path, purpose)
            .map_err(|why| Failure::io(format!("cannot open {} for appending: {why}", path.display())))?;
        let mut recovery_note = None;
        if is_regular {
            purpose.check(&file, &path)?;
            recovery_note = claim(&file, &path, purpose)?;
        }
        let rotation = rotation.filter(|_| is_regular).map(|when| Rotating::new(when, &file));
        Ok((Self { file, path, purpose, is_regular, rotation }, recovery_note))
    }

    /// Whether this is a regular file that holds something.
    pub fn is_begun(&self) -> bool {
        self.is_regular && self.file.metadata().is_ok_and(|found| found.len() > 0)
    }

    /// Appends whole lines, and syncs them if the purpose asks for it.
    pub fn write(&mut self, bytes: &[u8], written: &Written) -> Result<(), WriterError> {
        // If no new file can be created, the lines go to the present one and the failure is reported. In a removed file they
        // would be lost silently.
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
        written.advance(kept);
        let is_synced = self.is_regular && self.purpose.is_durable();
        let synced = pushed.and_then(|()| if is_synced { self.file.sync_data() } else { Ok(()) });
        let outcome = synced.map_err(|why| {
            let why = format!("cannot write {}: {why}", self.path.display());
            WriterError::Failed(Failure::io(why).hint(self.purpose.hint()))
        });
        outcome.and(rotated)
    }

    /// Begins a new file if the present one is due for rotation, or lost its name because another program, such as logrotate,
    /// moved or removed it. The present file holds whole lines only.
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
            put_aside(&self.path).map_err(|why| failed(&format!("put {path} aside"), why))?;
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

    /// Whether the file has no name left; its content is lost when this process ends.
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
