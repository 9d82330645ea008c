//! A locked file that notices when another program touches it.

use std::{
    fmt::Display,
    fs::{self, File, OpenOptions, TryLockError},
    hash::{DefaultHasher, Hasher as _},
    io::{self, Read as _},
    os::unix::fs::{MetadataExt as _, OpenOptionsExt as _},
    path::{Path, PathBuf},
};

use crate::{
    error::Failure,
    io::{
        batch_writer::{Purpose, claim, in_use, push},
        files::{followed, replace_beside, sync_folder},
    },
};

/// How often the file is opened again because another program replaced it before it was locked.
const MAX_ATTEMPTS: usize = 10;

/// Why lines were not written.
pub(super) enum WriteFailure {
    /// The file is not the one that was written, for this reason.
    Lost(String),
    Failed(Failure),
}

/// A locked file, and the state that it must be in if no other program has touched it.
pub(super) struct LockedFile {
    path: PathBuf,
    file: File,
    state: FileState,
    /// The hash of its content.
    content: DefaultHasher,
}

/// What tells a file from another one, and from its own former state.
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
    /// Opens the file and locks it. Returns also a note on its repair.
    pub fn open(path: &Path) -> Result<(Self, Option<String>), Failure> {
        let unusable = |why: &dyn Display| Failure::io(format!("cannot open {}: {why}", path.display()));
        for _ in 0..MAX_ATTEMPTS {
            let found = fs::metadata(path);
            // Checked before opening, because opening a pipe waits for its reader.
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
            // The lock is exclusive, because two edges would not know each other's devices.
            Purpose::Registry.check(&file, path)?;
            let repaired = claim(&file, path, Purpose::Registry)?;
            let (opened, named) = (file.metadata(), fs::metadata(path));
            if let (Ok(opened), Ok(named)) = (&opened, &named)
                && FileState::of(opened).inode == FileState::of(named).inode
            {
                let disk = Self {
                    path: path.to_owned(),
                    file,
                    state: FileState::default(),
                    content: DefaultHasher::new(),
                };
                return Ok((disk, repaired));
            }
        }
        Err(unusable(&"other programs keep replacing it"))
    }

    pub fn failure(&self, what: &str, why: &io::Error) -> Failure {
        Failure::io(format!("cannot {what} {}: {why}", self.path.display())).hint(Purpose::Registry.hint())
    }

    /// Remembers the state of the file with this content.
    pub fn remember(&mut self, content: &[u8]) -> io::Result<()> {
        self.content = DefaultHasher::new();
        self.content.write(content);
        self.state = FileState::of(&self.file.metadata()?);
        Ok(())
    }

    /// Appends lines and syncs them; without lines only checks the file.
    pub fn append(&mut self, lines: &[u8]) -> Result<(), WriteFailure> {
        self.check()?;
        if lines.is_empty() {
            return Ok(());
        }
        if let Err(why) = push(&mut self.file, &mut &*lines).and_then(|()| self.file.sync_data()) {
            // Cut to the former length, which ends with a whole line.
            let _ = self.file.set_len(self.state.length);
            return Err(WriteFailure::Failed(self.failure("write", &why)));
        }
        self.content.write(lines);
        let expected = FileState { length: self.state.length + lines.len() as u64, ..self.state };
        self.state = FileState::of(&self.file.metadata().map_err(|why| self.failed("look at", &why))?);
        if self.state.length != expected.length {
            return Err(self.lost("was changed"));
        }
        // If the file was replaced during the write, the lines are in a file without a name.
        self.check()
    }

    /// Checks that the name still belongs to the file, and that the file holds what was written.
    fn check(&mut self) -> Result<(), WriteFailure> {
        let named = match fs::metadata(&self.path) {
            Ok(named) => FileState::of(&named),
            Err(why) if why.kind() == io::ErrorKind::NotFound => return Err(self.lost("was removed")),
            Err(why) => return Err(self.failed("look at", &why)),
        };
        if named == self.state {
            return Ok(());
        }
        if named.inode != self.state.inode {
            return Err(self.lost("was replaced"));
        }
        // Network file systems change the time by themselves.
        let is_intact = named.length == self.state.length
            && self.content_on_disk().map_err(|why| self.failed("read", &why))? == self.content.finish();
        if !is_intact {
            return Err(self.lost("was changed"));
        }
        self.state = named;
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

    /// Replaces the file by one with these lines, atomically.
    pub fn replace(&mut self, lines: &[u8]) -> Result<(), Failure> {
        let target = followed(&self.path);
        if let Ok(other) = File::open(&target)
            && other.metadata().is_ok_and(|found| FileState::of(&found).inode != self.state.inode)
            && matches!(other.try_lock(), Err(TryLockError::WouldBlock))
        {
            // An edge that was started meanwhile has locked that file.
            return Err(in_use(&self.path));
        }
        let permissions = self.file.metadata().ok().map(|found| found.permissions());
        self.file = replace_beside(&target, lines, permissions).map_err(|why| self.failure("write", &why))?;
        self.remember(lines).map_err(|why| self.failure("look at", &why))
    }
}
