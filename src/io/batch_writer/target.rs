//! Where a writer's bytes go: stdout, a FIFO or a file.

use std::{
    fmt,
    fs::{File, OpenOptions},
    io::{self, Write},
    path::{Path, PathBuf},
};

use super::{
    appended_file::AppendedFile,
    lines::push_lines,
    progress::{WriterError, Written, ended_early},
};
use crate::error::Failure;

/// Where a writer's bytes go.
pub(super) enum WriteTarget {
    /// Stdout, and the file behind it, if it is one.
    Stream {
        stream: Box<dyn Write + Send>,
        file: Option<File>,
    },
    /// A FIFO, open once it has a reader.
    Fifo {
        path: PathBuf,
        file: Option<File>,
    },
    File(AppendedFile),
}

impl fmt::Debug for WriteTarget {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Stream { .. } => f.write_str("Stream"),
            Self::Fifo { path, .. } => write!(f, "Fifo({})", path.display()),
            Self::File(file) => write!(f, "File({file:?})"),
        }
    }
}

impl WriteTarget {
    /// Opens a FIFO, which waits for a reader.
    pub fn prepare(&mut self) -> Result<(), WriterError> {
        if let Self::Fifo { path, file } = self {
            let opened = OpenOptions::new().write(true).open(&*path);
            *file = Some(opened.map_err(|why| cannot_write(path, &why))?);
        }
        Ok(())
    }

    /// Writes whole lines.
    pub fn write(&mut self, bytes: &[u8], written: &Written) -> Result<(), WriterError> {
        match self {
            Self::Stream { stream, file } => {
                push_lines(stream, bytes, written, file.as_mut()).map_err(|why| {
                    if why.kind() == io::ErrorKind::BrokenPipe {
                        WriterError::ReaderGone
                    } else {
                        WriterError::Failed(Failure::io(format!("cannot write to stdout: {why}")))
                    }
                })
            }
            Self::Fifo { path, file } => match file {
                Some(file) => push_lines(file, bytes, written, None).map_err(|why| cannot_write(path, &why)),
                None => Err(ended_early()),
            },
            Self::File(file) => file.write(bytes, written),
        }
    }
}

fn cannot_write(path: &Path, why: &io::Error) -> WriterError {
    WriterError::Failed(Failure::io(format!("cannot write {}: {why}", path.display())))
}
