//! A folder in memory that records what is done to it, fails when it is told to, and can lose its power at any time.

use std::{
    cell::{RefCell, RefMut},
    collections::BTreeMap,
    io,
    rc::Rc,
};

use fastrand::Rng;

use super::folder::{SpoolFile, SpoolFolder};

/// What is torn at the end of a power: a disk writes sectors.
const SECTOR: usize = 512;

/// Something that was done to the folder or to one of its files.
#[derive(Clone, Debug)]
pub enum Operation {
    Create(String, usize),
    Rename(String, String),
    Remove(String),
    SyncFolder,
    Write(usize, u64, Vec<u8>),
    SetLength(usize, u64),
    SyncFile(usize),
    /// A sync that failed: what was written before may be lost, and no later sync tells.
    FailedSync(usize),
}

/// The content of a folder.
#[derive(Clone, Debug, Default)]
pub struct FolderContent {
    pub files: Vec<Vec<u8>>,
    pub names: BTreeMap<String, usize>,
}

#[derive(Debug, Default)]
struct Disk {
    before: FolderContent,
    now: FolderContent,
    operations: Vec<Operation>,
    /// How many bytes the files may have together.
    room: Option<usize>,
    /// How many operations succeed before one fails.
    fails_in: Option<usize>,
}

#[derive(Clone, Debug, Default)]
pub struct RecordedFolder(Rc<RefCell<Disk>>);

#[derive(Debug)]
pub struct RecordedFile(RecordedFolder, usize);

impl FolderContent {
    fn apply(&mut self, operation: &Operation) {
        match operation {
            Operation::Create(name, file) => {
                self.names.insert(name.clone(), *file);
            }
            Operation::Rename(from, to) => {
                if let Some(file) = self.names.remove(from) {
                    self.names.insert(to.clone(), file);
                }
            }
            Operation::Remove(name) => {
                self.names.remove(name);
            }
            Operation::Write(file, offset, bytes) => {
                let file = self.file(*file);
                let offset = usize::try_from(*offset).unwrap();
                file.resize(file.len().max(offset + bytes.len()), 0);
                file[offset..offset + bytes.len()].copy_from_slice(bytes);
            }
            Operation::SetLength(file, length) => {
                self.file(*file).resize(usize::try_from(*length).unwrap(), 0);
            }
            Operation::SyncFolder | Operation::SyncFile(_) | Operation::FailedSync(_) => {}
        }
    }

    fn file(&mut self, file: usize) -> &mut Vec<u8> {
        self.files.resize_with(self.files.len().max(file + 1), Vec::new);
        &mut self.files[file]
    }

    fn bytes(&self) -> usize {
        self.names.values().filter_map(|file| self.files.get(*file)).map(Vec::len).sum()
    }
}

impl RecordedFolder {
    pub fn with(content: FolderContent) -> Self {
        Self(Rc::new(RefCell::new(Disk { before: content.clone(), now: content, ..Disk::default() })))
    }

    /// How many operations there were.
    pub fn time(&self) -> usize {
        self.0.borrow().operations.len()
    }

    /// What the folder holds, synced or not.
    pub fn content(&self) -> FolderContent {
        self.0.borrow().now.clone()
    }

    pub fn set_room(&self, room: Option<usize>) {
        self.0.borrow_mut().room = room;
    }

    pub fn fail_in(&self, operations: usize) {
        self.0.borrow_mut().fails_in = Some(operations);
    }

    /// Changes a file's bytes, as a failing disk does.
    pub fn damage(&self, name: &str, change: impl FnOnce(&mut Vec<u8>)) {
        let mut disk = self.0.borrow_mut();
        let file = disk.now.names[name];
        change(disk.now.file(file));
    }

    /// What a power loss after the first `time` operations leaves: all that was synced, and any part of the rest.
    pub fn cut(&self, time: usize, random: &mut Rng) -> FolderContent {
        let disk = self.0.borrow();
        let (mut content, mut unsynced) = (disk.before.clone(), Vec::<&Operation>::new());
        for operation in &disk.operations[..time] {
            let is_durable = |waiting: &&Operation| match (operation, waiting) {
                (Operation::SyncFile(synced), Operation::Write(file, ..) | Operation::SetLength(file, _)) => {
                    synced == file
                }
                (
                    Operation::SyncFolder,
                    Operation::Create(..) | Operation::Rename(..) | Operation::Remove(_),
                ) => true,
                _ => false,
            };
            for durable in unsynced.extract_if(.., |waiting| is_durable(waiting)) {
                content.apply(durable);
            }
            if let Operation::FailedSync(failed) = operation {
                unsynced.retain(|waiting| !matches!(waiting, Operation::Write(file, ..) if file == failed));
            }
            unsynced.push(operation);
        }
        // All, none, most or few of the unsynced operations; in the folder any, or the first ones.
        let share = [0, 1, 4, 7, 8][random.usize(..5)];
        let (in_order, mut is_over) = (random.bool(), false);
        for operation in unsynced {
            let is_kept = random.u8(..8) < share;
            match operation {
                Operation::Write(file, offset, bytes) if !is_kept && random.bool() => {
                    for torn in torn(*offset, bytes, random) {
                        content.apply(&Operation::Write(*file, torn.0, torn.1));
                    }
                }
                Operation::Write(..) | Operation::SetLength(..) => {
                    if is_kept {
                        content.apply(operation);
                    }
                }
                _ => {
                    is_over |= !is_kept;
                    if is_kept && !(in_order && is_over) {
                        content.apply(operation);
                    }
                }
            }
        }
        content
    }

    fn operate(&self, operation: Operation) -> io::Result<()> {
        let mut disk = self.0.borrow_mut();
        if let Err(why) = fail(&mut disk) {
            if let Operation::SyncFile(file) = operation {
                disk.operations.push(Operation::FailedSync(file));
            }
            return Err(why);
        }
        if let (Operation::Write(file, offset, bytes), Some(room)) = (&operation, disk.room) {
            let used = disk.now.bytes();
            let length = disk.now.file(*file).len();
            let over = (usize::try_from(*offset).unwrap() + bytes.len()).saturating_sub(length);
            if used + over > room {
                let kept = bytes.len().saturating_sub(used + over - room);
                let part = Operation::Write(*file, *offset, bytes[..kept].to_vec());
                disk.now.apply(&part);
                disk.operations.push(part);
                return Err(io::ErrorKind::StorageFull.into());
            }
        }
        disk.now.apply(&operation);
        disk.operations.push(operation);
        Ok(())
    }
}

fn fail(disk: &mut RefMut<'_, Disk>) -> io::Result<()> {
    match &mut disk.fails_in {
        Some(0) => {
            disk.fails_in = None;
            Err(io::Error::other("injected"))
        }
        Some(left) => {
            *left -= 1;
            Ok(())
        }
        None => Ok(()),
    }
}

/// Parts of a write: a beginning of any length, or any sectors.
fn torn(offset: u64, bytes: &[u8], random: &mut Rng) -> Vec<(u64, Vec<u8>)> {
    if random.bool() {
        return vec![(offset, bytes[..random.usize(..=bytes.len())].to_vec())];
    }
    let mut parts = Vec::new();
    let (mut at, end) = (offset, offset + bytes.len() as u64);
    while at < end {
        let next = ((at / SECTOR as u64 + 1) * SECTOR as u64).min(end);
        if random.bool() {
            let range = usize::try_from(at - offset).unwrap()..usize::try_from(next - offset).unwrap();
            parts.push((at, bytes[range].to_vec()));
        }
        at = next;
    }
    parts
}

impl SpoolFolder for RecordedFolder {
    type File = RecordedFile;

    fn names(&self) -> io::Result<Vec<String>> {
        Ok(self.0.borrow().now.names.keys().cloned().collect())
    }

    fn open(&self, name: &str) -> io::Result<RecordedFile> {
        let file = self.0.borrow().now.names.get(name).copied();
        file.map(|file| RecordedFile(self.clone(), file)).ok_or_else(|| io::ErrorKind::NotFound.into())
    }

    fn create(&self, name: &str) -> io::Result<RecordedFile> {
        if self.0.borrow().now.names.contains_key(name) {
            return Err(io::ErrorKind::AlreadyExists.into());
        }
        let file = self.0.borrow().now.files.len();
        self.operate(Operation::Create(name.to_owned(), file))?;
        self.0.borrow_mut().now.file(file);
        Ok(RecordedFile(self.clone(), file))
    }

    fn rename(&self, from: &str, to: &str) -> io::Result<()> {
        self.operate(Operation::Rename(from.to_owned(), to.to_owned()))
    }

    fn remove(&self, name: &str) -> io::Result<()> {
        if !self.0.borrow().now.names.contains_key(name) {
            return Err(io::ErrorKind::NotFound.into());
        }
        self.operate(Operation::Remove(name.to_owned()))
    }

    fn sync(&self) -> io::Result<()> {
        self.operate(Operation::SyncFolder)
    }

    fn describe(&self, name: &str) -> String {
        name.to_owned()
    }
}

impl SpoolFile for RecordedFile {
    fn read_at(&self, bytes: &mut [u8], offset: u64) -> io::Result<usize> {
        let disk = self.0.0.borrow();
        let file = disk.now.files.get(self.1).map_or(&[][..], |file| file);
        let rest = file.get(usize::try_from(offset).unwrap()..).unwrap_or_default();
        let read = rest.len().min(bytes.len());
        bytes[..read].copy_from_slice(&rest[..read]);
        Ok(read)
    }

    fn write_at(&self, bytes: &[u8], offset: u64) -> io::Result<()> {
        self.0.operate(Operation::Write(self.1, offset, bytes.to_vec()))
    }

    fn set_length(&self, length: u64) -> io::Result<()> {
        self.0.operate(Operation::SetLength(self.1, length))
    }

    fn length(&self) -> io::Result<u64> {
        Ok(self.0.0.borrow().now.files.get(self.1).map_or(0, Vec::len) as u64)
    }

    fn sync(&self) -> io::Result<()> {
        self.0.operate(Operation::SyncFile(self.1))
    }
}
