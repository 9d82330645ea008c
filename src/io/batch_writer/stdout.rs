//! The file behind stdout.

use std::{
    fs::{File, Metadata},
    io::{self, Seek as _, Write},
    os::{fd::AsFd as _, unix::fs::FileExt as _},
};

use rustix::fs::{OFlags, fcntl_getfl};

/// Returns the file that stdout goes to, if it is one and is written to at its end.
pub(super) fn redirected_stdout() -> Option<File> {
    let mut file = File::from(io::stdout().as_fd().try_clone_to_owned().ok()?);
    let length = file.metadata().ok().filter(Metadata::is_file)?.len();
    let appends = fcntl_getfl(&file).is_ok_and(|flags| flags.contains(OFlags::APPEND));
    (appends || file.stream_position().is_ok_and(|at| at == length)).then_some(file)
}

/// Ends a torn line at the end of the file that stdout is appended to, as a killed run leaves it.
pub(crate) fn end_torn_line(stdout: &mut impl Write) -> io::Result<()> {
    if is_torn_before(redirected_stdout().as_ref()) { stdout.write_all(b"\n") } else { Ok(()) }
}

/// Whether the file that stdout goes to ends with a torn line.
pub(super) fn is_torn_before(file: Option<&File>) -> bool {
    file.is_some_and(|file| !ends_whole(file))
}

/// Whether a file that stdout goes to ends with a whole line, or cannot be read.
fn ends_whole(file: &File) -> bool {
    let length = file.metadata().map_or(0, |found| found.len());
    let mut last = [b'\n'];
    // The stream itself can only be written to.
    if length > 0
        && let Ok(file) = File::open("/dev/fd/1")
    {
        let _ = file.read_exact_at(&mut last, length - 1);
    }
    last == [b'\n']
}
