//! When a file is long or old enough to be put aside, and under which name.

use std::{
    fs, io,
    path::{Path, PathBuf},
    time::{Duration, Instant},
};

use jiff::Timestamp;

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
        let units = [
            ("KiB", 1 << 10),
            ("MiB", 1 << 20),
            ("GiB", 1 << 30),
            ("KB", 1_000),
            ("MB", 1_000_000),
            ("GB", 1_000_000_000),
        ];
        for (unit, bytes) in units {
            if let Some(number) = text.strip_suffix(unit)
                && let Ok(number) = number.trim().parse::<u64>()
                && let Some(size) = number.checked_mul(bytes).filter(|size| *size > 0)
            {
                return Ok(Self::Size(size));
            }
        }
        let age: Option<jiff::SignedDuration> = text.parse().ok();
        let age = age.and_then(|age| Duration::try_from(age).ok()).filter(|age| !age.is_zero());
        age.map(Self::Age)
            .ok_or_else(|| "a size is written 500KB, 100MB or 1GiB; a time 10m or 1h".to_owned())
    }

    pub(super) fn is_due(self, length: u64, since: Instant) -> bool {
        match self {
            Self::Size(size) => length >= size,
            Self::Age(age) => length > 0 && since.elapsed() >= age,
        }
    }
}

/// Puts a file aside under its name with the present time in it, which no other file has.
pub(super) fn put_aside(path: &Path) -> io::Result<()> {
    let stem = path.file_stem().unwrap_or_default().to_string_lossy();
    let extension =
        path.extension().map(|extension| format!(".{}", extension.to_string_lossy())).unwrap_or_default();
    let time = Timestamp::now().strftime("%Y%m%dT%H%M%S%.6fZ");
    let aside: PathBuf = path.with_file_name(format!("{stem}-{time}{extension}"));
    // Nothing is ever overwritten. One step, so that no end of this process leaves the file under both names.
    if fs::symlink_metadata(&aside).is_ok() {
        return Err(io::ErrorKind::AlreadyExists.into());
    }
    fs::rename(path, &aside)
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
