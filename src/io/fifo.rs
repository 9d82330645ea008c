//! Stdin of long-running subcommands: a named pipe continues when a writer ends.

use std::{
    fs::{self, File, OpenOptions},
    io::{self, Read},
    os::{
        fd::{AsFd as _, AsRawFd as _},
        unix::fs::FileTypeExt as _,
    },
    path::{Path, PathBuf},
};

use super::{console::Console, input::InputSource};
use crate::{error::Failure, request::input::InputFormat};

/// Opens stdin as JSON for a long-running subcommand. Reading a named pipe continues after each of its writers.
///
/// # Errors
/// The state of stdin cannot be read.
pub fn stdin(console: Console) -> Result<InputSource, Failure> {
    match Fifo::of_stdin() {
        Ok(Some(fifo)) => Ok(InputSource::reader(Box::new(fifo), "stdin", InputFormat::Json)),
        Ok(None) => InputSource::open(Some(Path::new("-")), None),
        Err(why) => {
            console.warn(&format!(
                "stdin is a named pipe that cannot be opened for writing: {why}; it is read to the end of its first \
                 writer, and what others write is lost"
            ));
            InputSource::open(Some(Path::new("-")), None)
        }
    }
}

/// A named pipe; reading continues after each of its writers.
struct Fifo {
    file: File,
    /// The name under which the same pipe can be opened again.
    path: PathBuf,
    /// A writer of our own while there is no other: reads then wait for the next one instead of returning the end.
    keeper: Option<File>,
    is_line_ended: bool,
}

impl Fifo {
    /// Returns stdin as a named pipe; `None` if it is something else.
    fn of_stdin() -> io::Result<Option<Self>> {
        let file = File::from(io::stdin().as_fd().try_clone_to_owned()?);
        if !file.metadata()?.file_type().is_fifo() {
            return Ok(None);
        }
        let path = PathBuf::from(format!("/proc/self/fd/{}", file.as_raw_fd()));
        // The pipe between two programs of a shell has no name, and no second writer can open it.
        let is_named =
            fs::read_link(&path).is_ok_and(|name| !name.as_os_str().as_encoded_bytes().starts_with(b"pipe:"));
        if is_named { Self::new(file, path).map(Some) } else { Ok(None) }
    }

    fn new(file: File, path: PathBuf) -> io::Result<Self> {
        let mut fifo = Self { file, path, keeper: None, is_line_ended: true };
        // Tried once at the start, so that an error is reported before any input is read.
        fifo.keep()?;
        fifo.keeper = None;
        Ok(fifo)
    }

    fn keep(&mut self) -> io::Result<()> {
        self.keeper = Some(OpenOptions::new().read(true).write(true).open(&self.path)?);
        Ok(())
    }
}

impl Read for Fifo {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        loop {
            let read = self.file.read(buffer)?;
            if let Some(last) = buffer[..read].last() {
                self.is_line_ended = *last == b'\n';
                // A writer has opened the pipe: its end must be seen.
                self.keeper = None;
                return Ok(read);
            }
            if buffer.is_empty() {
                return Ok(0);
            }
            self.keep()?;
            // The unfinished value of one writer must not be joined with the input of the next.
            if !std::mem::replace(&mut self.is_line_ended, true) {
                buffer[0] = b'\n';
                return Ok(1);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use std::{io::Write as _, process::Command, thread};

    use super::*;

    #[test]
    fn every_writer_is_read_and_a_line_that_it_left_open_is_ended() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("fifo");
        assert!(Command::new("mkfifo").arg(&path).status().unwrap().success());
        let writer = |text: &'static str| {
            let path = path.clone();
            thread::spawn(move || {
                OpenOptions::new().write(true).open(path).unwrap().write_all(text.as_bytes()).unwrap();
            })
        };
        let first = writer("one\n");
        let mut fifo = Fifo::new(File::open(&path).unwrap(), path.clone()).unwrap();
        let mut heard = String::new();
        let mut next = |until: &str| {
            let mut buffer = [0; 64];
            while !heard.ends_with(until) {
                let read = fifo.read(&mut buffer).unwrap();
                assert!(read > 0);
                heard.push_str(str::from_utf8(&buffer[..read]).unwrap());
            }
        };
        next("one\n");
        first.join().unwrap();
        for text in ["two", "three", "four\n"] {
            let writer = writer(text);
            next(&format!("{}\n", text.trim_end()));
            writer.join().unwrap();
        }
        assert_eq!(heard, "one\ntwo\nthree\nfour\n");
    }
}
