//! The grace period after a signal: the first signal begins it, and a second one or the end of the grace ends the run.

use std::time::{Duration, Instant};

use super::{runtime::sleep_until, signals::Signals};
use crate::error::{Exit, Failure};

/// The signals of a run, and the grace that the first one begins.
pub struct Grace {
    signals: Signals,
    length: Duration,
    signal: Option<Exit>,
    until: Option<Instant>,
    is_over: bool,
}

impl Grace {
    /// Takes over the signals; the first one begins a grace of this length.
    ///
    /// # Errors
    /// The system refuses.
    pub fn new(length: Duration) -> Result<Self, Failure> {
        Ok(Self { signals: Signals::new()?, length, signal: None, until: None, is_over: false })
    }

    /// Returns the exit code of the first signal, once it has come.
    #[must_use]
    pub fn signal(&self) -> Option<Exit> {
        self.signal
    }

    /// Begins the grace again for the next step, if a signal has come.
    pub fn renew(&mut self) {
        self.until = self.signal.map(|_| Instant::now() + self.length);
        self.is_over = false;
    }

    /// Waits for the first signal, and returns false; then for the second one or the end of the grace, and returns true.
    /// Cancel-safe.
    pub async fn is_over(&mut self) -> bool {
        if !self.is_over {
            tokio::select! {
                signal = self.signals.next() => match self.signal {
                    None => {
                        self.signal = Some(signal);
                        self.until = Some(Instant::now() + self.length);
                    }
                    Some(_) => self.is_over = true,
                },
                () = sleep_until(self.until) => self.is_over = true,
            }
        }
        self.is_over
    }
}
