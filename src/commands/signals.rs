//! SIGINT, SIGTERM and SIGHUP, as the exit codes that they stand for. A SIGHUP that is ignored, as under `nohup`,
//! stays so.

use std::{fs::File, io::Read as _};

use tokio::signal::unix::{Signal, SignalKind, signal};

use crate::failure::{Exit, Failure};

/// The signals that end a run in good order.
pub struct Signals {
    interrupt: Signal,
    terminate: Signal,
    hangup: Option<Signal>,
    /// Taken over, so that a file beyond the system's limit is a failed write and not a sudden end.
    _too_large: Signal,
}

impl Signals {
    /// Takes the signals over from the system's defaults.
    ///
    /// # Errors
    /// Where the system does not let us.
    pub fn new() -> Result<Self, Failure> {
        let listen =
            |kind| signal(kind).map_err(|why| Failure::io(format!("cannot listen for signals: {why}")));
        Ok(Self {
            interrupt: listen(SignalKind::interrupt())?,
            terminate: listen(SignalKind::terminate())?,
            hangup: if leaves_hangup_alone() { None } else { Some(listen(SignalKind::hangup())?) },
            _too_large: listen(SignalKind::from_raw(rustix::process::Signal::XFSZ.as_raw()))?,
        })
    }

    /// The exit code of the next signal. Cancel-safe.
    pub async fn next(&mut self) -> Exit {
        let hangup = async {
            match &mut self.hangup {
                Some(hangup) => hangup.recv().await,
                None => std::future::pending().await,
            }
        };
        tokio::select! {
            _ = self.interrupt.recv() => Exit::INTERRUPTED,
            _ = self.terminate.recv() => Exit::TERMINATED,
            _ = hangup => Exit::TERMINATED,
        }
    }
}

/// Whether SIGHUP was ignored when this program was started. Where that cannot be known it is not taken over.
fn leaves_hangup_alone() -> bool {
    // In one read: the file says that it is empty, so that `read_to_string` would begin with small ones.
    let mut status = [0; 4096];
    let length = File::open("/proc/self/status").and_then(|mut file| file.read(&mut status)).unwrap_or(0);
    ignores_hangup(&String::from_utf8_lossy(&status[..length])).unwrap_or(true)
}

/// Whether a process whose `/proc/PID/status` this is ignores signal 1; `None` where it does not say.
fn ignores_hangup(status: &str) -> Option<bool> {
    let mask = status.lines().find_map(|line| line.strip_prefix("SigIgn:"))?;
    Some(u64::from_str_radix(mask.trim(), 16).ok()? & 1 == 1)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_system_says_what_is_ignored() {
        assert_eq!(ignores_hangup("SigBlk:\t0000000000000000\nSigIgn:\t0000000000001001\n"), Some(true));
        assert_eq!(ignores_hangup("SigIgn:\t0000000000001000\n"), Some(false));
        assert_eq!(ignores_hangup(""), None);
    }
}
