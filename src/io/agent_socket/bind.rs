//! The agent's side of its socket.

use std::{
    fs::{self, DirBuilder, File, OpenOptions, Permissions, TryLockError},
    io,
    os::unix::{
        fs::{DirBuilderExt as _, OpenOptionsExt as _, PermissionsExt as _, chown},
        net::UnixListener,
    },
    path::{Path, PathBuf},
    thread,
    time::Duration,
};

use rustix::{fs::Mode, process::umask};

use super::{check_folder, folders, is_socket, lock_path};
use crate::error::Failure;

/// A program that looks for an agent holds the lock for some microseconds.
const LOCK_ATTEMPTS: u32 = 20;
const LOCK_PAUSE: Duration = Duration::from_millis(10);
/// What a path may have in a socket's address, the NUL at its end left out (`sun_path`).
const LONGEST_PATH: usize = 107;

/// A socket that listens, with its lock. The socket's file goes with it; the lock's stays.
#[derive(Debug)]
pub struct AgentSocket {
    path: PathBuf,
    listener: Option<UnixListener>,
    /// Whether the file at the path is ours to remove.
    is_own: bool,
    _lock: File,
}

impl AgentSocket {
    /// Listens at the path, or at the agent's name in the first folder that can be used. `group` is who else may connect.
    ///
    /// # Errors
    /// A folder or a file that cannot be made or is not this user's, and an agent that is there already.
    pub fn bind(path: Option<&Path>, name: &str, group: Option<u32>) -> Result<Self, Failure> {
        let path = match path {
            Some(path) => path.to_owned(),
            None => own_folder(group)?.join(format!("{name}.sock")),
        };
        let lock = lock(&path, group)?;
        if path.as_os_str().len() > LONGEST_PATH {
            return Err(Failure::invalid(format!(
                "the socket's path {} has {} bytes, expected {LONGEST_PATH} at most",
                path.display(),
                path.as_os_str().len()
            ))
            .hint("--socket names a shorter one"));
        }
        let unusable = |why: io::Error| Failure::io(format!("cannot listen on {}: {why}", path.display()));
        // The lock is ours: what is there was left by an agent that was killed.
        if is_socket(&path) {
            fs::remove_file(&path).map_err(unusable)?;
        }
        let former = umask(Mode::from_raw_mode(0o177));
        let listener = UnixListener::bind(&path);
        umask(former);
        let listener = listener.map_err(unusable)?;
        if let Some(group) = group {
            chown(&path, None, Some(group)).map_err(unusable)?;
            fs::set_permissions(&path, Permissions::from_mode(0o660)).map_err(unusable)?;
        }
        Ok(Self { path, listener: Some(listener), is_own: true, _lock: lock })
    }

    /// Takes a socket that the service manager listens on, and links it by the agent's name in its folder, so that programs
    /// find it.
    ///
    /// # Errors
    /// A socket without a path, an agent that is there already, and a link that cannot be made.
    pub fn activated(listener: UnixListener, name: &str) -> Result<Self, Failure> {
        let address =
            listener.local_addr().map_err(|why| Failure::io(format!("the passed socket: {why}")))?;
        let activated = address.as_pathname().ok_or_else(|| {
            Failure::invalid("the socket that the service manager passed has no path")
                .hint("ListenStream= of the .socket unit must be a path")
        })?;
        let path = activated.with_file_name(format!("{name}.sock"));
        let lock = lock(&path, None)?;
        let is_own = path != activated;
        if is_own && let Some(target) = activated.file_name() {
            let unlinkable = |why: io::Error| Failure::io(format!("cannot link {}: {why}", path.display()));
            if path.symlink_metadata().is_ok() {
                fs::remove_file(&path).map_err(unlinkable)?;
            }
            std::os::unix::fs::symlink(target, &path).map_err(unlinkable)?;
        }
        Ok(Self { path, listener: Some(listener), is_own, _lock: lock })
    }

    /// Where programs find the socket.
    #[must_use]
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// The listening socket; `None` once it was taken.
    pub fn take_listener(&mut self) -> Option<UnixListener> {
        self.listener.take()
    }
}

impl Drop for AgentSocket {
    fn drop(&mut self) {
        if self.is_own {
            // One that stays is taken for what a killed agent leaves.
            let _ = fs::remove_file(&self.path);
        }
    }
}

/// The first folder of the search that this user may write to; it is made if its parent is this user's.
fn own_folder(group: Option<u32>) -> Result<PathBuf, Failure> {
    let mut problems = Vec::new();
    for folder in folders() {
        let Some(parent) = folder.parent().filter(|parent| parent.is_dir()) else { continue };
        // Only root makes folders in /run; without rights there the next place is tried.
        if let Err(why) = DirBuilder::new().mode(0o700).create(&folder)
            && why.kind() != io::ErrorKind::AlreadyExists
        {
            problems.push(format!("{}: {why}", parent.display()));
            continue;
        }
        if let Err(why) = check_folder(&folder) {
            problems.push(why);
            continue;
        }
        let usable = match group {
            Some(group) => chown(&folder, None, Some(group))
                .and_then(|()| fs::set_permissions(&folder, Permissions::from_mode(0o750))),
            None => Ok(()),
        };
        match usable.and_then(|()| tempfile::tempfile_in(&folder)) {
            Ok(_) => return Ok(folder),
            Err(why) => problems.push(format!("{}: {why}", folder.display())),
        }
    }
    Err(Failure::io(format!("no folder for the agent's socket can be used: {}", problems.join("; ")))
        .hint("--socket names another place"))
}

/// Takes the lock beside a socket.
fn lock(socket: &Path, group: Option<u32>) -> Result<File, Failure> {
    let path = lock_path(socket);
    let unusable = |why: io::Error| Failure::io(format!("cannot open {}: {why}", path.display()));
    // A link that another user has put there must not be followed.
    let flags = i32::try_from(rustix::fs::OFlags::NOFOLLOW.bits()).unwrap_or(0);
    let file = OpenOptions::new()
        .read(true)
        .write(true)
        .create(true)
        .truncate(false)
        .mode(0o600)
        .custom_flags(flags)
        .open(&path)
        .map_err(unusable)?;
    if let Some(group) = group {
        chown(&path, None, Some(group)).map_err(unusable)?;
        fs::set_permissions(&path, Permissions::from_mode(0o640)).map_err(unusable)?;
    }
    for _ in 0..LOCK_ATTEMPTS {
        match file.try_lock() {
            Ok(()) => return Ok(file),
            Err(TryLockError::WouldBlock) => thread::sleep(LOCK_PAUSE),
            Err(TryLockError::Error(why)) => return Err(unusable(why)),
        }
    }
    Err(Failure::invalid(format!("another agent runs for this gateway: {} is locked", path.display()))
        .hint("tuyagw agent status says what it does, and tuyagw agent stop ends it"))
}
