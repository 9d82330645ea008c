//! What a signal leaves for what is in hand: the first one begins a grace, a second one and the end of the grace end all.

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
    /// Takes the signals over; the first one will leave this much time.
    ///
    /// # Errors
    /// Where the system does not let us.
    pub fn new(length: Duration) -> Result<Self, Failure> {
        Ok(Self { signals: Signals::new()?, length, signal: None, until: None, is_over: false })
    }

    /// The exit code of the first signal, once it has come.
    #[must_use]
    pub fn signal(&self) -> Option<Exit> {
        self.signal
    }

    /// Gives the next step the whole time again, where a signal has come.
    pub fn renew(&mut self) {
        self.until = self.signal.map(|_| Instant::now() + self.length);
        self.is_over = false;
    }

    /// Waits for the first signal, which gives `false`, then for the second one or the end of the grace, which give
    /// `true`. Cancel-safe.
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
