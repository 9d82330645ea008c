//! SIGINT, SIGTERM and SIGHUP, as exit codes. A SIGHUP that was ignored before, as under `nohup`, stays ignored, and so does a
//! SIGINT that the parent ignores on purpose (`trap '' INT`).
//!
//! A shell without job control starts a program in the background with SIGINT and SIGQUIT ignored (POSIX, 2.11). Scripts
//! end such a program with `kill -INT`, so SIGINT counts if SIGQUIT is ignored, too.

use std::{fs::File, io::Read as _};

use tokio::signal::unix::{Signal, SignalKind, signal};

use crate::error::{Exit, Failure};

/// The signals that end a run in good order.
pub struct Signals {
    interrupt: Option<Signal>,
    terminate: Signal,
    hangup: Option<Signal>,
    /// Taken over, so that a file beyond the system's limit is a failed write and not a sudden end.
    _too_large: Signal,
}

impl Signals {
    /// Takes over the signals from the system's defaults.
    ///
    /// # Errors
    /// The system refuses.
    pub fn new() -> Result<Self, Failure> {
        let listen =
            |kind| signal(kind).map_err(|why| Failure::io(format!("cannot listen for signals: {why}")));
        let ignored = ignored();
        // If the system does not say, SIGINT is taken over, which a person at a terminal needs, and SIGHUP is not.
        let ignores_interrupt = ignored.is_some_and(ignores_interrupt_on_purpose);
        let ignores_hangup = ignored.is_none_or(|mask| ignores(mask, SignalKind::hangup()));
        Ok(Self {
            interrupt: if ignores_interrupt { None } else { Some(listen(SignalKind::interrupt())?) },
            terminate: listen(SignalKind::terminate())?,
            hangup: if ignores_hangup { None } else { Some(listen(SignalKind::hangup())?) },
            _too_large: listen(SignalKind::from_raw(rustix::process::Signal::XFSZ.as_raw()))?,
        })
    }

    /// As [`Signals::new`], but for SIGHUP, which the caller takes over.
    ///
    /// # Errors
    /// The system refuses.
    pub fn without_hangup() -> Result<Self, Failure> {
        Ok(Self { hangup: None, ..Self::new()? })
    }

    /// Waits for the next signal, and returns its exit code. Cancel-safe.
    pub async fn next(&mut self) -> Exit {
        tokio::select! {
            () = received(&mut self.interrupt) => Exit::INTERRUPTED,
            _ = self.terminate.recv() => Exit::TERMINATED,
            () = received(&mut self.hangup) => Exit::TERMINATED,
        }
    }
}

/// Waits for a signal; never returns if it was not taken over. Cancel-safe.
async fn received(signal: &mut Option<Signal>) {
    match signal {
        Some(signal) => {
            signal.recv().await;
        }
        None => std::future::pending().await,
    }
}

/// Returns the signals that were ignored when this program was started, a bit each; `None` if the system does not say.
fn ignored() -> Option<u64> {
    // One read: the file has the size 0, so `read_to_string` would begin with small reads.
    let mut status = [0; 4096];
    let length = File::open("/proc/self/status").and_then(|mut file| file.read(&mut status)).unwrap_or(0);
    mask(&String::from_utf8_lossy(&status[..length]))
}

/// Reads the mask of ignored signals from the text of `/proc/PID/status`.
fn mask(status: &str) -> Option<u64> {
    let mask = status.lines().find_map(|line| line.strip_prefix("SigIgn:"))?;
    u64::from_str_radix(mask.trim(), 16).ok()
}

fn ignores(mask: u64, signal: SignalKind) -> bool {
    mask >> (signal.as_raw_value() - 1) & 1 == 1
}

/// Returns whether SIGINT is ignored, and not because a shell started the program in the background.
fn ignores_interrupt_on_purpose(mask: u64) -> bool {
    ignores(mask, SignalKind::interrupt()) && !ignores(mask, SignalKind::quit())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_system_says_what_is_ignored() {
        let ignored = |status: &str| {
            let mask = mask(status)?;
            Some((ignores(mask, SignalKind::hangup()), ignores_interrupt_on_purpose(mask)))
        };
        assert_eq!(ignored("SigBlk:\t0000000000000000\nSigIgn:\t0000000000001001\n"), Some((true, false)));
        assert_eq!(ignored("SigIgn:\t0000000000001002\n"), Some((false, true)));
        assert_eq!(ignored("SigIgn:\t0000000000001006\n"), Some((false, false)), "a shell's background");
        assert_eq!(ignored(""), None);
    }
}
