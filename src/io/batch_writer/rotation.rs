//! When a file is long or old enough to be put aside, and under which name.

use std::{
    fs::{self, File},
    io,
    path::{Path, PathBuf},
    time::{Duration, Instant, SystemTime},
};

use jiff::Timestamp;
use rustix::{
    fs::{CWD, RenameFlags, renameat_with},
    io::Errno,
};

use super::purpose::first_line;
use crate::duration;

/// How many names are tried for a file that is put aside.
const ATTEMPTS: usize = 10;

/// When a file is put aside: beyond a size in bytes, or after a time.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Rotation {
    /// Once it holds so many bytes or more.
    Size(u64),
    /// Once it is so old or older.
    Age(Duration),
}

impl Rotation {
    /// Parses a size such as `500KB`, `100MB` or `2GiB`, or a duration such as `1h`.
    ///
    /// # Errors
    /// What is neither.
    pub fn parse(text: &str) -> Result<Self, String> {
        if let Some(size) = byte_size(text) {
            return Ok(Self::Size(size));
        }
        let age = duration::parse_long(text).ok().filter(|age| !age.is_zero());
        age.map(Self::Age)
            .ok_or_else(|| "a size is written 500KB, 100MB or 1GiB; a time 10m or 1h".to_owned())
    }

    fn is_due(self, length: u64, age: Duration) -> bool {
        match self {
            Self::Size(size) => length >= size,
            Self::Age(limit) => length > 0 && age >= limit,
        }
    }
}

/// Parses a size above 0 such as `500KB`, `100MB` or `2GiB`.
#[must_use]
pub fn byte_size(text: &str) -> Option<u64> {
    let units = [
        ("KiB", 1 << 10),
        ("MiB", 1 << 20),
        ("GiB", 1 << 30),
        ("KB", 1_000),
        ("MB", 1_000_000),
        ("GB", 1_000_000_000),
    ];
    let (number, bytes) =
        units.into_iter().find_map(|(unit, bytes)| Some((text.strip_suffix(unit)?, bytes)))?;
    number.trim().parse::<u64>().ok()?.checked_mul(bytes).filter(|size| *size > 0)
}

/// A file that is put aside when it is long or old enough.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Rotating {
    when: Rotation,
    length: u64,
    /// How old the file was when it was opened: however often the process is started anew, a file has its age.
    age: Duration,
    opened: Instant,
}

impl Rotating {
    /// For an open file.
    pub(crate) fn new(when: Rotation, file: &File) -> Self {
        let length = file.metadata().map_or(0, |found| found.len());
        let age = if length > 0 { age(file) } else { Duration::ZERO };
        Self { when, length, age, opened: Instant::now() }
    }

    /// For the file that follows.
    pub(crate) fn anew(self, file: &File) -> Self {
        Self::new(self.when, file)
    }

    pub(crate) fn is_due(&self) -> bool {
        self.when.is_due(self.length, self.age + self.opened.elapsed())
    }

    /// Notes that so many bytes were written.
    pub(crate) fn grow(&mut self, bytes: u64) {
        if self.length == 0 {
            // An empty file has no age.
            (self.age, self.opened) = (Duration::ZERO, Instant::now());
        }
        self.length += bytes;
    }
}

/// How old a file is: by the time of its first record, or else by that of its creation.
fn age(file: &File) -> Duration {
    let birth = first_time(file).or_else(|| file.metadata().ok()?.created().ok());
    birth.and_then(|birth| SystemTime::now().duration_since(birth).ok()).unwrap_or_default()
}

/// The `tst` of a file's first line.
fn first_time(file: &File) -> Option<SystemTime> {
    const KEY: &[u8] = b"\"tst\":\"";
    let line = first_line(file).ok()?;
    let begin = line.windows(KEY.len()).position(|window| window == KEY)? + KEY.len();
    let length = line[begin..].iter().position(|byte| *byte == b'"')?;
    let time: Timestamp = std::str::from_utf8(&line[begin..begin + length]).ok()?.parse().ok()?;
    Some(time.into())
}

/// Puts a file aside under its name with the present time in it, which no other file has.
pub(crate) fn put_aside(path: &Path) -> io::Result<()> {
    let stem = path.file_stem().unwrap_or_default().to_string_lossy();
    let extension =
        path.extension().map(|extension| format!(".{}", extension.to_string_lossy())).unwrap_or_default();
    for _ in 0..ATTEMPTS {
        let time = Timestamp::now().strftime("%Y%m%dT%H%M%S%.6fZ");
        let aside: PathBuf = path.with_file_name(format!("{stem}-{time}{extension}"));
        // One step, which overwrites nothing, and after which no end of this process leaves the file under both names.
        let renamed = match renameat_with(CWD, path, CWD, &aside, RenameFlags::NOREPLACE) {
            // Not every file system can do so.
            Err(Errno::INVAL | Errno::NOSYS | Errno::OPNOTSUPP) if fs::symlink_metadata(&aside).is_err() => {
                fs::rename(path, &aside)
            }
            Err(Errno::EXIST | Errno::INVAL | Errno::NOSYS | Errno::OPNOTSUPP) => continue,
            renamed => renamed.map_err(io::Error::from),
        };
        return match renamed {
            // What another program has moved meanwhile is aside.
            Err(why) if why.kind() == io::ErrorKind::NotFound => Ok(()),
            renamed => renamed,
        };
    }
    Err(io::ErrorKind::AlreadyExists.into())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_rotation_is_a_size_or_a_time() {
        assert_eq!(Rotation::parse("500KB"), Ok(Rotation::Size(500_000)));
        assert_eq!(Rotation::parse("2MiB"), Ok(Rotation::Size(2 << 20)));
        assert_eq!(Rotation::parse("1h"), Ok(Rotation::Age(Duration::from_hours(1))));
        assert_eq!(Rotation::parse("10m"), Ok(Rotation::Age(Duration::from_mins(10))));
        for bad in ["", "0MB", "0s", "100", "-1h", "big"] {
            assert!(Rotation::parse(bad).is_err(), "{bad}");
        }
    }
}
