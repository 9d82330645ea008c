//! The files of one run: refuses pairs that must not be the same file, and replaces files as a whole.

use std::{
    ffi::OsString,
    fs::{self, File, Metadata, OpenOptions, Permissions},
    io::{self, Write as _},
    os::{
        fd::AsFd as _,
        unix::fs::{FileTypeExt as _, MetadataExt as _, OpenOptionsExt as _, PermissionsExt as _},
    },
    path::{Path, PathBuf},
};

use rustix::fs::{OFlags, fcntl_getfl, fcntl_setfl};

use crate::error::Failure;

/// The largest number of symbolic links followed to a name that does not exist: the kernel's limit.
const LINKS: usize = 40;

/// What a run does with a file.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum FileUse {
    /// It is only read.
    Read,
    /// Lines are appended to it.
    Append,
    /// It is replaced as a whole.
    Replace,
    /// It is a standard stream, which the parent process has opened.
    Stream,
}

/// One file of a run.
#[derive(Debug)]
struct RunFile {
    /// The option, argument or stream that names it.
    name: String,
    place: FileIdentity,
    usage: FileUse,
}

/// The identity of a file, independent of its name.
#[derive(Debug, PartialEq, Eq)]
enum FileIdentity {
    /// A file, by device and inode.
    Inode(u64, u64),
    /// A file that does not exist yet: its name, and its folder by device and inode.
    Name(u64, u64, OsString),
}

/// The regular files that one run reads and writes.
#[derive(Debug, Default)]
pub struct RunFiles(Vec<RunFile>);

impl RunFiles {
    /// Adds a file by the option or argument that names it. Ignores devices, FIFOs and other files that are not regular:
    /// writing to them destroys nothing.
    pub fn add(&mut self, name: &str, path: &Path, usage: FileUse) {
        if path == Path::new("-") || StandardStream::named_by(path).is_some() {
            return;
        }
        if let Some(place) = FileIdentity::of(path) {
            self.0.push(RunFile { name: name.to_owned(), place, usage });
        }
    }

    /// Adds the standard streams that are regular files.
    pub fn add_standard_streams(&mut self) {
        let (stdin, stdout, stderr) = (io::stdin(), io::stdout(), io::stderr());
        let streams = [
            ("stdin", stdin.as_fd(), FileUse::Read),
            ("stdout", stdout.as_fd(), FileUse::Stream),
            ("stderr", stderr.as_fd(), FileUse::Stream),
        ];
        for (name, fd, usage) in streams {
            let found = fd.try_clone_to_owned().map(File::from).and_then(|file| file.metadata());
            if let Some(place) = found.ok().as_ref().and_then(FileIdentity::existing) {
                self.0.push(RunFile { name: name.to_owned(), place, usage });
            }
        }
    }

    /// Returns whether the run writes to a file of the command line.
    #[must_use]
    pub fn writes(&self) -> bool {
        self.0.iter().any(|file| matches!(file.usage, FileUse::Append | FileUse::Replace))
    }

    /// Refuses a run in which one part would overwrite a file that another part reads or writes.
    ///
    /// # Errors
    /// Two parts of the run name the same file, and at least one of them writes to it.
    pub fn check(&self) -> Result<(), Failure> {
        for (n, first) in self.0.iter().enumerate() {
            for second in &self.0[n + 1..] {
                if first.place == second.place && !first.goes_with(second) {
                    return Err(conflict(first, second));
                }
            }
        }
        Ok(())
    }
}

impl RunFile {
    fn goes_with(&self, other: &Self) -> bool {
        let is_standard = |file: &Self| matches!(&*file.name, "stdin" | "stdout" | "stderr");
        // The parent process decides which standard streams share a file.
        (self.usage == FileUse::Read && other.usage == FileUse::Read)
            || (is_standard(self) && is_standard(other))
    }
}

fn conflict(first: &RunFile, second: &RunFile) -> Failure {
    let consequence = match [first, second].into_iter().find(|file| file.usage == FileUse::Replace) {
        Some(file) => format!("{} would replace it", file.name),
        None => "what is written to it would mix with the rest".to_owned(),
    };
    Failure::invalid(format!("{} and {} are the same file: {consequence}", first.name, second.name))
        .hint("Name another file for one of them.")
}

impl FileIdentity {
    fn of(path: &Path) -> Option<Self> {
        match fs::metadata(path) {
            Ok(found) => Self::existing(&found),
            Err(why) if why.kind() == io::ErrorKind::NotFound => {
                let path = followed(path);
                let folder = fs::metadata(folder_of(&path)).ok()?;
                Some(Self::Name(folder.dev(), folder.ino(), path.file_name()?.to_owned()))
            }
            // Opening it gives a better error.
            Err(_) => None,
        }
    }

    fn existing(found: &Metadata) -> Option<Self> {
        found.is_file().then(|| Self::Inode(found.dev(), found.ino()))
    }
}

/// The folder of a path's last component.
#[must_use]
pub fn folder_of(path: &Path) -> &Path {
    path.parent().filter(|parent| !parent.as_os_str().is_empty()).unwrap_or(Path::new("."))
}

/// Follows symbolic links, whether or not the file exists.
pub(crate) fn followed(path: &Path) -> PathBuf {
    let mut path = path.to_owned();
    for _ in 0..LINKS {
        match fs::read_link(&path) {
            Ok(link) => path = folder_of(&path).join(link),
            Err(_) => break,
        }
    }
    path
}

/// Stdout or stderr, which also have names in the file system.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum StandardStream {
    Stdout,
    Stderr,
}

impl StandardStream {
    fn named_by(path: &Path) -> Option<Self> {
        match path.to_str()? {
            "/dev/stdout" | "/dev/fd/1" | "/proc/self/fd/1" => Some(Self::Stdout),
            "/dev/stderr" | "/dev/fd/2" | "/proc/self/fd/2" => Some(Self::Stderr),
            _ => None,
        }
    }
}

/// A file that is replaced as a whole at the end of a run. A reader finds the former content or the new one, never a part of
/// either.
#[derive(Debug)]
pub struct Replacement {
    /// The option that names the file.
    option: &'static str,
    path: PathBuf,
    target: ReplaceMethod,
}

/// How the file is replaced.
#[derive(Clone, Debug, PartialEq, Eq)]
enum ReplaceMethod {
    /// Writes a temporary file beside it, and renames that.
    Beside(PathBuf),
    /// Writes the file itself, because its folder refuses new files.
    Inside,
    /// Writes to a device or FIFO.
    Device,
    /// Writes to a stream that is already open.
    Stream(StandardStream),
}

impl Replacement {
    /// Checks before the run that the file can be replaced; changes nothing.
    ///
    /// # Errors
    /// A file that cannot be written.
    pub fn prepare(option: &'static str, path: &Path) -> Result<Self, Failure> {
        let target = find_target(path).map_err(|why| unwritable(option, path, &why))?;
        Ok(Self { option, path: path.to_owned(), target })
    }

    /// Replaces the file, durably.
    ///
    /// # Errors
    /// A file that cannot be written; its former content is kept, unless its folder refuses new files.
    pub fn replace(self, content: &[u8]) -> Result<(), Failure> {
        let written = match &self.target {
            ReplaceMethod::Beside(path) => replace_beside(path, content, None).map(drop),
            ReplaceMethod::Inside => fs::write(&self.path, content),
            ReplaceMethod::Device => write_device(&self.path, content),
            ReplaceMethod::Stream(StandardStream::Stdout) => {
                let mut stdout = io::stdout().lock();
                stdout.write_all(content).and_then(|()| stdout.flush())
            }
            ReplaceMethod::Stream(StandardStream::Stderr) => io::stderr().lock().write_all(content),
        };
        written.map_err(|why| unwritable(self.option, &self.path, &why))
    }
}

fn unwritable(option: &str, path: &Path, why: &io::Error) -> Failure {
    Failure::io(format!("{option}: cannot write {}: {why}", path.display()))
}

fn find_target(path: &Path) -> io::Result<ReplaceMethod> {
    if let Some(stream) = StandardStream::named_by(path) {
        return Ok(ReplaceMethod::Stream(stream));
    }
    let exists = match fs::metadata(path) {
        Ok(found) if found.is_dir() => return Err(io::ErrorKind::IsADirectory.into()),
        // Opening a FIFO would wait for its reader.
        Ok(found) if found.file_type().is_fifo() => return Ok(ReplaceMethod::Device),
        Ok(found) if !found.is_file() => {
            return OpenOptions::new().write(true).open(path).map(|_| ReplaceMethod::Device);
        }
        Ok(_) => true,
        Err(why) if why.kind() == io::ErrorKind::NotFound => false,
        Err(why) => return Err(why),
    };
    if exists {
        OpenOptions::new().write(true).open(path)?;
    }
    let target = followed(path);
    match temporary(&target) {
        Ok(_) => Ok(ReplaceMethod::Beside(target)),
        Err(_) if exists => Ok(ReplaceMethod::Inside),
        Err(why) => Err(why),
    }
}

/// A temporary file beside another one; it is removed unless it is renamed to that one.
fn temporary(beside: &Path) -> io::Result<tempfile::NamedTempFile> {
    let mut prefix = OsString::from(".");
    prefix.push(beside.file_name().unwrap_or_default());
    prefix.push(".");
    tempfile::Builder::new()
        .append(true)
        .prefix(&prefix)
        .permissions(Permissions::from_mode(0o666))
        .tempfile_in(folder_of(beside))
}

/// Replaces or creates a file by renaming a new one to it; returns the new one, locked and open for appending. Without
/// `permissions` it gets those of the former file.
///
/// # Errors
/// A folder that refuses new files, or a write that failed; the former file is kept.
pub(crate) fn replace_beside(
    path: &Path,
    content: &[u8],
    permissions: Option<Permissions>,
) -> io::Result<File> {
    let mut file = temporary(path)?;
    // Locked before the rename, so that no process finds it unlocked. A file system without locks needs none.
    let _ = file.as_file().try_lock();
    file.write_all(content)?;
    let former = fs::metadata(path).ok();
    if let Some(permissions) = permissions.or_else(|| Some(former.as_ref()?.permissions())) {
        file.as_file().set_permissions(permissions)?;
    }
    if let Some(former) = former {
        // Only root may change the owner; otherwise the file belongs to its writer, like any new file.
        let _ = std::os::unix::fs::fchown(file.as_file(), Some(former.uid()), Some(former.gid()));
    }
    file.as_file().sync_all()?;
    let file = file.persist(path).map_err(|failed| failed.error)?;
    sync_folder(path);
    Ok(file)
}

/// Makes a name as durable as the file's bytes. Ignores errors, because some file systems cannot sync a folder.
pub fn sync_folder(path: &Path) {
    let _ = File::open(folder_of(path)).and_then(|folder| folder.sync_all());
}

/// Writes to a device or FIFO. Does not wait for a FIFO's reader, because the run could not end.
fn write_device(path: &Path, content: &[u8]) -> io::Result<()> {
    let nonblocking = i32::try_from(OFlags::NONBLOCK.bits()).unwrap_or_default();
    let mut file = OpenOptions::new().write(true).custom_flags(nonblocking).open(path)?;
    let flags = fcntl_getfl(&file)?;
    fcntl_setfl(&file, flags.difference(OFlags::NONBLOCK))?;
    file.write_all(content)
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::symlink;

    use super::*;

    fn check(files: &[(&str, &Path, FileUse)]) -> Result<(), String> {
        let mut run = RunFiles::default();
        for (name, path, usage) in files {
            run.add(name, path, *usage);
        }
        run.check().map_err(|failure| failure.message)
    }

    #[test]
    fn the_same_file_by_another_name_is_refused_if_one_part_writes_it() {
        let folder = tempfile::tempdir().unwrap();
        let at = |name: &str| folder.path().join(name);
        fs::write(at("a"), "").unwrap();
        fs::hard_link(at("a"), at("hard")).unwrap();
        symlink("a", at("soft")).unwrap();
        symlink("new", at("dangling")).unwrap();
        let (read, append, replace) = (FileUse::Read, FileUse::Append, FileUse::Replace);
        for (first, second) in [("a", "a"), ("a", "hard"), ("a", "soft"), ("new", "new"), ("new", "dangling")]
        {
            let pair = |uses: [FileUse; 2]| {
                check(&[("FILE", &at(first), uses[0]), ("--summary", &at(second), uses[1])])
            };
            let message = pair([read, replace]).unwrap_err();
            assert!(message.contains("FILE and --summary") && message.contains("would replace"), "{message}");
            assert!(pair([append, append]).unwrap_err().contains("mix"), "{first} {second}");
            assert!(pair([read, append]).is_err() && pair([replace, replace]).is_err());
            assert_eq!(pair([read, read]), Ok(()));
        }
        assert_eq!(check(&[("FILE", &at("a"), read), ("--summary", &at("b"), replace)]), Ok(()));
        let null = Path::new("/dev/null");
        assert_eq!(check(&[("FILE", null, read), ("--summary", null, replace)]), Ok(()));
        let stdout = Path::new("/dev/stdout");
        assert_eq!(check(&[("--out", stdout, append), ("--summary", stdout, replace)]), Ok(()));
    }

    fn names(folder: &Path) -> Vec<OsString> {
        let mut names: Vec<_> =
            fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().file_name()).collect();
        names.sort();
        names
    }

    #[test]
    fn a_file_is_replaced_in_one_step_and_keeps_its_permissions() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("summary");
        fs::write(&path, "before").unwrap();
        fs::set_permissions(&path, Permissions::from_mode(0o640)).unwrap();
        let mut reader = File::open(&path).unwrap();
        let replacement = Replacement::prepare("--summary", &path).unwrap();
        assert_eq!(fs::read_to_string(&path).unwrap(), "before", "nothing is changed beforehand");
        replacement.replace(b"after").unwrap();
        assert_eq!(fs::read_to_string(&path).unwrap(), "after");
        assert_eq!(io::read_to_string(&mut reader).unwrap(), "before", "a reader keeps what it has opened");
        assert_eq!(fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o640);
        assert_eq!(names(folder.path()), ["summary"]);
    }

    #[test]
    fn a_link_stays_and_its_file_is_replaced_or_created() {
        let folder = tempfile::tempdir().unwrap();
        let (other, link) = (folder.path().join("other"), folder.path().join("link"));
        fs::create_dir(&other).unwrap();
        symlink("other/file", &link).unwrap();
        for content in ["created", "replaced"] {
            Replacement::prepare("--html", &link).unwrap().replace(content.as_bytes()).unwrap();
            assert_eq!(fs::read_to_string(other.join("file")).unwrap(), content);
            assert!(fs::symlink_metadata(&link).unwrap().is_symlink());
        }
        let mode = fs::metadata(other.join("file")).unwrap().permissions().mode();
        assert_eq!(mode & 0o600, 0o600);
    }

    #[test]
    fn devices_and_pipes_are_written_to_and_never_waited_for() {
        let prepare = |path: &Path| Replacement::prepare("--summary", path).unwrap();
        prepare(Path::new("/dev/null")).replace(b"x").unwrap();
        let full = prepare(Path::new("/dev/full")).replace(b"x").unwrap_err();
        assert!(full.message.contains("--summary: cannot write /dev/full"), "{full}");
        let folder = tempfile::tempdir().unwrap();
        let fifo = folder.path().join("fifo");
        rustix::fs::mknodat(
            rustix::fs::CWD,
            &fifo,
            rustix::fs::FileType::Fifo,
            rustix::fs::Mode::from_raw_mode(0o600),
            0,
        )
        .unwrap();
        assert!(prepare(&fifo).replace(b"x").is_err(), "nobody reads it");
        // Open for both, it is its own reader and never blocks.
        let mut both = OpenOptions::new().read(true).write(true).open(&fifo).unwrap();
        prepare(&fifo).replace(b"abc").unwrap();
        let mut read = [0; 3];
        io::Read::read_exact(&mut both, &mut read).unwrap();
        assert_eq!(&read, b"abc");
    }

    #[test]
    fn what_cannot_be_replaced_is_told_before_the_run() {
        let folder = tempfile::tempdir().unwrap();
        for wrong in [folder.path().to_owned(), folder.path().join("no/such")] {
            let failure = Replacement::prepare("--html", &wrong).unwrap_err();
            assert!(failure.message.contains(&*wrong.to_string_lossy()), "{failure}");
        }
    }
}
