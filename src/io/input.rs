//! Requests from files and pipes: JSON Lines, any stream of JSON values, JSON arrays, or CSV. A thread reads them, so that a
//! slow writer never stalls the connection, and passes them on in batches, so that memory stays constant.

use std::{
    fs::{File, Metadata},
    io::{self, IsTerminal as _, Read},
    os::fd::AsFd as _,
    path::Path,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
};

use tokio::sync::mpsc;

use crate::{
    error::Failure,
    request::{
        csv,
        framer::Framer,
        input::{InputFormat, InputValue},
    },
    wrapping::{Look, look},
};

use super::{console::Console, stdin::stdin};

/// The size of one read, in bytes: a batch that fits into a core's cache.
const READ: usize = 32 * 1024;
/// How many batches may wait for the consumer.
const BATCHES: usize = 4;

/// The source of inputs.
pub enum InputSource {
    /// Values made from flags.
    Flags(Vec<InputValue<'static>>),
    /// An open file, or stdin.
    Reader(Reader),
}

/// An open file, or stdin, of which nothing has been read.
pub struct Reader {
    bytes: Box<dyn Read + Send>,
    name: String,
    size: Option<u64>,
    is_stdin: bool,
    format: InputFormat,
}

/// Whether stdin was redirected from a file.
fn stdin_is_file() -> bool {
    let stdin = io::stdin().as_fd().try_clone_to_owned();
    stdin.and_then(|stdin| File::from(stdin).metadata()).is_ok_and(|stdin| stdin.is_file())
}

impl InputSource {
    /// Opens a file, or stdin if `path` is `-` or absent. Without a format the file's name determines it.
    ///
    /// # Errors
    /// A file that cannot be opened, or is not text; stdin that is a terminal, unless `path` is `-`.
    pub fn open(path: Option<&Path>, format: Option<InputFormat>) -> Result<Self, Failure> {
        let (reader, name, size): (Box<dyn Read + Send>, _, _) = match path {
            Some(path) if path != Path::new("-") => {
                let file = File::open(path)
                    .map_err(|why| Failure::io(format!("cannot read {}: {why}", path.display())))?;
                let size = file.metadata().ok().filter(Metadata::is_file).map(|file| file.len());
                let name = path.display().to_string();
                // The first bytes of a pipe may take long to arrive.
                if size.is_some() {
                    (unwrapped(file, &name)?, name, size)
                } else {
                    (Box::new(file), name, size)
                }
            }
            asked => {
                if asked.is_none() && io::stdin().is_terminal() {
                    return Err(Failure::invalid("nothing to do: neither flags nor input").hint(
                        "Give the request by flags, a FILE, or JSON Lines on stdin (- reads a terminal); see --help",
                    ));
                }
                (Box::new(stdin()), "stdin".to_owned(), None)
            }
        };
        let named_csv = path.and_then(Path::extension).is_some_and(|extension| {
            ["csv", "tsv"].iter().any(|known| extension.eq_ignore_ascii_case(known))
        });
        let format = format.unwrap_or(if named_csv { InputFormat::Csv } else { InputFormat::Json });
        let is_stdin = path.is_none_or(|path| path == Path::new("-"));
        Ok(Self::Reader(Reader { bytes: reader, name, size, is_stdin, format }))
    }

    /// The input of a reader; `name` is its name in messages.
    #[must_use]
    pub fn reader(bytes: Box<dyn Read + Send>, name: &str, format: InputFormat) -> Self {
        Self::Reader(Reader { bytes, name: name.to_owned(), size: None, is_stdin: false, format })
    }

    /// The number of bytes, if that is known.
    #[must_use]
    pub fn size(&self) -> Option<u64> {
        match self {
            Self::Flags(_) => None,
            Self::Reader(reader) => reader.size,
        }
    }

    /// Whether all of it can be read at once: true for a file, false for a pipe.
    #[must_use]
    pub fn is_file(&self) -> bool {
        match self {
            Self::Flags(_) => true,
            Self::Reader(reader) => reader.size.is_some() || (reader.is_stdin && stdin_is_file()),
        }
    }

    /// Starts reading. `take` converts a value and appends the results to a batch. For a file and stdin it runs on a thread of
    /// its own, so that neither a slow writer nor parsing delays the connection.
    ///
    /// # Errors
    /// A thread that cannot be started.
    pub fn start<T: Send + 'static>(
        self,
        mut take: impl FnMut(InputValue<'_>, &mut Vec<T>) + Send + 'static,
    ) -> Result<InputStream<T>, Failure> {
        let Reader { bytes, name, format, .. } = match self {
            Self::Flags(inputs) => {
                let mut batch = Vec::with_capacity(inputs.len());
                for input in inputs {
                    take(input, &mut batch);
                }
                return Ok(InputStream::Ready(Some(batch)));
            }
            Self::Reader(reader) => reader,
        };
        let (sender, receiver) = mpsc::channel(BATCHES);
        let is_silent = Arc::new(AtomicBool::new(false));
        let bytes = Watched { bytes, is_silent: Arc::clone(&is_silent) };
        let source = name.clone();
        let read = move || {
            let bytes = match unwrapped(bytes, &source) {
                Ok(bytes) => bytes,
                Err(failure) => return drop(sender.blocking_send(Err(io::Error::other(failure)))),
            };
            match format {
                InputFormat::Json => read_json(bytes, &sender, take),
                InputFormat::Csv => {
                    let warn = |message: &str| Console::new(true).warn(&format!("{source}: {message}"));
                    let emit =
                        |batch| sender.blocking_send(Ok(batch)).map_err(|_| io::ErrorKind::BrokenPipe.into());
                    if let Err(why) = csv::read(bytes, &emit, take, &warn) {
                        // If the consumer has gone, the error has no reader either.
                        drop(sender.blocking_send(Err(why)));
                    }
                }
            }
        };
        std::thread::Builder::new()
            .name("input".into())
            .spawn(read)
            .map_err(|why| Failure::io(format!("cannot start a thread to read {name}: {why}")))?;
        Ok(InputStream::Thread(receiver, name, is_silent))
    }
}

/// The converted values of a source, in batches, so that memory stays constant.
pub enum InputStream<T> {
    /// All of it.
    Ready(Option<Vec<T>>),
    /// A thread's batches, the name of its source, and whether it waits for bytes.
    Thread(mpsc::Receiver<io::Result<Vec<T>>>, String, Arc<AtomicBool>),
}

type Sender<T> = mpsc::Sender<io::Result<Vec<T>>>;

/// A reader that records when it waits for bytes.
struct Watched {
    bytes: Box<dyn Read + Send>,
    is_silent: Arc<AtomicBool>,
}

impl Read for Watched {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        self.is_silent.store(true, Ordering::Relaxed);
        let read = self.bytes.read(buffer);
        self.is_silent.store(false, Ordering::Relaxed);
        read
    }
}

impl<T> InputStream<T> {
    /// Whether the thread waits for bytes.
    #[must_use]
    pub fn is_silent(&self) -> bool {
        match self {
            Self::Ready(_) => false,
            Self::Thread(_, _, is_silent) => is_silent.load(Ordering::Relaxed),
        }
    }

    /// The next batch; `None` at the end. Cancel-safe.
    ///
    /// # Errors
    /// A read that failed, or bytes that are not text.
    pub async fn next(&mut self) -> Result<Option<Vec<T>>, Failure> {
        match self {
            Self::Ready(batch) => Ok(batch.take()),
            Self::Thread(receiver, name, _) => match receiver.recv().await {
                None => Ok(None),
                Some(Ok(batch)) => Ok(Some(batch)),
                Some(Err(why)) => Err(why
                    .downcast::<Failure>()
                    .unwrap_or_else(|why| Failure::io(format!("cannot read {name}: {why}")))),
            },
        }
    }
}

/// Reads a small file as text; messages begin with `whose`.
///
/// # Errors
/// A file that cannot be read, or is not text in UTF-8.
pub fn text_of(path: &Path, whose: &str) -> Result<String, Failure> {
    let name = format!("{whose}{}", path.display());
    let file = File::open(path)
        .map_err(|why| Failure::io(format!("{whose}cannot read {}: {why}", path.display())))?;
    let mut text = String::new();
    unwrapped(file, &name)?
        .read_to_string(&mut text)
        .map_err(|why| Failure::io(format!("{whose}cannot read {}: {why}", path.display())))?;
    Ok(text)
}

/// Refuses a file that is not text, by its first bytes.
///
/// # Errors
/// A file that cannot be read, or is in another wrapping.
pub fn see_that_it_is_text(path: &Path) -> Result<(), Failure> {
    let name = path.display().to_string();
    let file = File::open(path).map_err(|why| Failure::io(format!("cannot read {name}: {why}")))?;
    unwrapped(file, &name).map(drop)
}

/// Returns the same bytes if they are text; the failure says what else they are.
///
/// # Errors
/// A read that failed, or another wrapping.
pub fn unwrapped(
    mut reader: impl Read + Send + 'static,
    name: &str,
) -> Result<Box<dyn Read + Send>, Failure> {
    let mut beginning = Vec::new();
    let mut chunk = vec![0; READ];
    let mut ended = false;
    loop {
        match look(&beginning, ended) {
            Look::Wrapped(wrapping) => return Err(wrapping.refusal(name)),
            Look::Plain => return Ok(Box::new(io::Cursor::new(beginning).chain(reader))),
            Look::NeedsMore => {}
        }
        match reader.read(&mut chunk) {
            Err(why) if why.kind() == io::ErrorKind::Interrupted => {}
            Err(why) => return Err(Failure::io(format!("cannot read {name}: {why}"))),
            Ok(length) => {
                ended = length == 0;
                beginning.extend_from_slice(&chunk[..length]);
            }
        }
    }
}

fn read_json<T>(
    mut reader: impl Read,
    sender: &Sender<T>,
    mut take: impl FnMut(InputValue<'_>, &mut Vec<T>),
) {
    let mut framer = Framer::default();
    let mut chunk = vec![0; READ];
    loop {
        let read = match reader.read(&mut chunk) {
            Err(why) if why.kind() == io::ErrorKind::Interrupted => continue,
            Err(why) => {
                let _ = sender.blocking_send(Err(why));
                return;
            }
            Ok(read) => read,
        };
        framer.push(&chunk[..read], read == 0);
        let mut batch = Vec::new();
        while let Some(input) = framer.next_input() {
            take(input, &mut batch);
        }
        // The consumer has gone.
        if (!batch.is_empty() && sender.blocking_send(Ok(batch)).is_err()) || read == 0 {
            return;
        }
    }
}
