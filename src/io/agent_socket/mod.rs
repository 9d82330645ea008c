//! The Unix socket of an agent: where it lies, who holds it, and its lock.
//!
//! A socket `NAME.sock` has a lock file `NAME.lock` beside it. The agent holds the lock as long as it lives; the file outlives
//! both, so that two agents never hold locks on different files. The folder must belong to this user or to root, and only its
//! owner may write to it: then nobody else can put a socket there.

mod bind;
#[cfg(test)]
mod tests;

use std::{
    env,
    fs::{self, File, TryLockError},
    io,
    os::unix::fs::{FileTypeExt as _, MetadataExt as _},
    path::{Path, PathBuf},
};

pub use bind::AgentSocket;
use rustix::process::geteuid;

use crate::error::{Failure, FailureKind};

/// What was found of an agent.
#[derive(Debug, PartialEq, Eq)]
pub enum AgentPresence {
    /// There is none: no lock is held, and no socket answers.
    Absent,
    /// An agent holds the lock, or a service manager holds the socket; to be dialled at this path. If nothing answers, the
    /// agent is starting or ending.
    Present(PathBuf),
}

/// The folders in which agents put their sockets, in the order of search.
#[must_use]
pub fn folders() -> Vec<PathBuf> {
    let user = geteuid().as_raw();
    let own = env::var_os("XDG_RUNTIME_DIR").filter(|folder| !folder.is_empty());
    let own = own.map(PathBuf::from).filter(|folder| folder.is_absolute());
    let mut folders: Vec<_> = own
        .into_iter()
        .chain([PathBuf::from(format!("/run/user/{user}"))])
        .map(|folder| folder.join("tuyagw"))
        .chain([PathBuf::from("/run/tuyagw"), PathBuf::from(format!("/tmp/tuyagw-{user}"))])
        .collect();
    folders.dedup();
    folders
}

/// Looks for the agent with this name in the folders, and returns the first one.
///
/// # Errors
/// A socket that must not be used, or cannot be: to connect past it might push its agent off.
pub fn find(folders: &[PathBuf], name: &str) -> Result<AgentPresence, Failure> {
    for folder in folders {
        let path = folder.join(format!("{name}.sock"));
        let exists = path.symlink_metadata().is_ok();
        if !exists && !lock_path(&path).exists() {
            continue;
        }
        if let Err(why) = check_folder(folder) {
            // Everybody may make a folder in /tmp, and must not keep others from their edge by one.
            if folder.starts_with("/tmp") {
                continue;
            }
            return Err(forbidden(&path, &why));
        }
        let presence = presence(&path)?;
        if presence != AgentPresence::Absent {
            return Ok(presence);
        }
    }
    Ok(AgentPresence::Absent)
}

/// Looks for the agent at the path that was asked for.
///
/// # Errors
/// A socket that cannot be opened.
pub fn presence(path: &Path) -> Result<AgentPresence, Failure> {
    let is_held = is_locked(&lock_path(path)).map_err(|why| forbidden(path, &why.to_string()))?;
    if is_held {
        return Ok(AgentPresence::Present(path.to_owned()));
    }
    // Without a holder of the lock it is a service manager's, which starts an agent now, or one that a killed agent left.
    match std::os::unix::net::UnixStream::connect(path) {
        Ok(_) => Ok(AgentPresence::Present(path.to_owned())),
        Err(why) => match why.kind() {
            io::ErrorKind::NotFound | io::ErrorKind::ConnectionRefused => Ok(AgentPresence::Absent),
            _ => Err(forbidden(path, &why.to_string())),
        },
    }
}

fn forbidden(path: &Path, why: &str) -> Failure {
    Failure::new(
        FailureKind::Connection,
        format!("the agent's socket {} cannot be used: {why}", path.display()),
    )
    .hint("An agent holds the gateway's connection; --agent never connects past it, which pushes it off")
}

/// The lock file beside a socket.
fn lock_path(socket: &Path) -> PathBuf {
    socket.with_extension("lock")
}

/// Whether another process holds a lock file's lock; a file that does not exist is not locked.
fn is_locked(path: &Path) -> io::Result<bool> {
    let file = match File::open(path) {
        Ok(file) => file,
        Err(why) if why.kind() == io::ErrorKind::NotFound => return Ok(false),
        Err(why) => return Err(why),
    };
    match file.try_lock_shared() {
        Ok(()) => Ok(false),
        Err(TryLockError::WouldBlock) => Ok(true),
        Err(TryLockError::Error(why)) => Err(why),
    }
}

/// Checks that only this user or root can put something into a folder.
fn check_folder(folder: &Path) -> Result<(), String> {
    let place = folder.display();
    let found = fs::symlink_metadata(folder).map_err(|why| format!("{place}: {why}"))?;
    if !found.is_dir() {
        return Err(format!("{place} is not a folder"));
    }
    let user = geteuid().as_raw();
    if found.uid() != user && found.uid() != 0 {
        return Err(format!("{place} belongs to user {}, expected user {user} or root", found.uid()));
    }
    if found.mode() & 0o022 != 0 {
        return Err(format!(
            "others may write to {place}: its mode is {:o}, expected 700 or 750",
            found.mode() & 0o7777
        ));
    }
    Ok(())
}

/// Whether there is a socket at a path.
fn is_socket(path: &Path) -> bool {
    path.symlink_metadata().is_ok_and(|found| found.file_type().is_socket())
}
