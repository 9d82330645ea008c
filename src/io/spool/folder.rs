//! The few operations on files that a spool consists of: those of the disk, and in tests those of a recorded one.

use std::{
    fs::{self, File, OpenOptions},
    io,
    os::unix::fs::{FileExt as _, OpenOptionsExt as _},
    path::PathBuf,
};

/// A folder of files without folders in it.
pub trait SpoolFolder {
    /// An open file.
    type File: SpoolFile;

    /// Returns the names of its files.
    fn names(&self) -> io::Result<Vec<String>>;

    /// Opens a file to read and to write.
    fn open(&self, name: &str) -> io::Result<Self::File>;

    /// Creates a file that does not exist.
    fn create(&self, name: &str) -> io::Result<Self::File>;

    /// Gives a file another name, from a file that had it.
    fn rename(&self, from: &str, to: &str) -> io::Result<()>;

    /// Removes a file.
    fn remove(&self, name: &str) -> io::Result<()>;

    /// Makes durable which files there are.
    fn sync(&self) -> io::Result<()>;

    /// Returns what a message calls a file.
    fn describe(&self, name: &str) -> String;
}

/// An open file.
pub trait SpoolFile {
    /// Reads at an offset until `bytes` are full or the file ends, and returns how many were read.
    fn read_at(&self, bytes: &mut [u8], offset: u64) -> io::Result<usize>;

    /// Writes all `bytes` at an offset. After an error some of them may be written.
    fn write_at(&self, bytes: &[u8], offset: u64) -> io::Result<()>;

    /// Cuts the file off.
    fn set_length(&self, length: u64) -> io::Result<()>;

    /// Returns how long the file is.
    fn length(&self) -> io::Result<u64>;

    /// Makes the file's bytes and length durable.
    fn sync(&self) -> io::Result<()>;
}

/// A folder on disk.
#[derive(Clone, Debug)]
pub struct DiskFolder(pub PathBuf);

impl SpoolFolder for DiskFolder {
    type File = File;

    fn names(&self) -> io::Result<Vec<String>> {
        let names = fs::read_dir(&self.0)?.map(|found| Ok(found?.file_name().into_string().ok()));
        names.filter_map(Result::transpose).collect()
    }

    fn open(&self, name: &str) -> io::Result<File> {
        OpenOptions::new().read(true).write(true).open(self.0.join(name))
    }

    fn create(&self, name: &str) -> io::Result<File> {
        OpenOptions::new().read(true).write(true).create_new(true).mode(0o600).open(self.0.join(name))
    }

    fn rename(&self, from: &str, to: &str) -> io::Result<()> {
        fs::rename(self.0.join(from), self.0.join(to))
    }

    fn remove(&self, name: &str) -> io::Result<()> {
        fs::remove_file(self.0.join(name))
    }

    fn sync(&self) -> io::Result<()> {
        match File::open(&self.0)?.sync_all() {
            // The file system has no such thing.
            Err(why) if matches!(why.kind(), io::ErrorKind::InvalidInput | io::ErrorKind::Unsupported) => {
                Ok(())
            }
            synced => synced,
        }
    }

    fn describe(&self, name: &str) -> String {
        self.0.join(name).display().to_string()
    }
}

impl SpoolFile for File {
    fn read_at(&self, mut bytes: &mut [u8], offset: u64) -> io::Result<usize> {
        let mut at = offset;
        while !bytes.is_empty() {
            match std::os::unix::fs::FileExt::read_at(self, bytes, at) {
                Ok(0) => break,
                Ok(read) => {
                    at += read as u64;
                    bytes = &mut bytes[read..];
                }
                Err(why) if why.kind() == io::ErrorKind::Interrupted => {}
                Err(why) => return Err(why),
            }
        }
        Ok(usize::try_from(at - offset).unwrap_or(usize::MAX))
    }

    fn write_at(&self, bytes: &[u8], offset: u64) -> io::Result<()> {
        self.write_all_at(bytes, offset)
    }

    fn set_length(&self, length: u64) -> io::Result<()> {
        self.set_len(length)
    }

    fn length(&self) -> io::Result<u64> {
        self.metadata().map(|found| found.len())
    }

    fn sync(&self) -> io::Result<()> {
        self.sync_data()
    }
}
