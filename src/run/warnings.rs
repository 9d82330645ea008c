//! Warnings of one kind: the first few are printed, the others are counted.

use crate::io::console::Console;

/// How many warnings are printed in full.
const PRINTED: u64 = 10;

/// Prints the first warnings and counts the others.
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

    /// Says how many warnings were not printed.
    pub fn finish(self) {
        if self.count > PRINTED {
            self.console.warn(&format!("{} more warnings of this kind", self.count - PRINTED));
        }
    }
}
