//! Bounds how many warnings are printed: in all, or for each second. The others are counted.

use std::time::{Duration, Instant};

use crate::io::console::Console;

/// How many warnings of a run are printed.
const PRINTED: u64 = 10;

/// How many warnings of a second are printed.
const PRINTED_PER_SECOND: u32 = 50;

/// Prints the first warnings of a run and counts the others.
#[derive(Clone, Copy, Debug)]
pub struct Warnings {
    console: Console,
    count: u64,
}

impl Warnings {
    /// No warning yet.
    #[must_use]
    pub fn new(console: Console) -> Self {
        Self { console, count: 0 }
    }

    /// Prints a warning, or counts it.
    pub fn warn(&mut self, what: &str) {
        self.count += 1;
        if self.count <= PRINTED {
            self.console.warn(what);
        }
    }

    /// Prints how many warnings were not printed.
    pub fn finish(self) {
        if self.count > PRINTED {
            self.console.warn(&format!("{} more warnings of this kind", self.count - PRINTED));
        }
    }
}

/// Prints the first warnings of each second and counts the others, for a program that runs for days.
#[derive(Clone, Copy, Debug)]
pub struct WarningLimiter {
    /// `None` prints nothing.
    console: Option<Console>,
    second: Instant,
    count: u32,
}

impl WarningLimiter {
    /// A limiter that prints to this console, or nowhere.
    #[must_use]
    pub fn new(console: Option<Console>) -> Self {
        Self { console, second: Instant::now(), count: 0 }
    }

    /// Prints a warning, or counts it if there are too many in this second.
    pub fn warn(&mut self, what: &str) {
        if self.second.elapsed() >= Duration::from_secs(1) {
            self.finish();
        }
        self.count += 1;
        if self.count <= PRINTED_PER_SECOND {
            self.always_warn(what);
        }
    }

    /// Prints a warning, however many there are.
    pub fn always_warn(&self, what: &str) {
        if let Some(console) = self.console {
            console.warn(what);
        }
    }

    /// Prints how many warnings of this second were not printed, and begins another one.
    pub fn finish(&mut self) {
        let more = self.count.saturating_sub(PRINTED_PER_SECOND);
        if more > 0 {
            self.always_warn(&format!("{more} more warnings were not printed"));
        }
        (self.second, self.count) = (Instant::now(), 0);
    }
}
