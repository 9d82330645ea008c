//! The failures of a run whose result lines go to a file or a pipe: the first ones are printed on stderr as well, where
//! people and cron look.

use std::io::{self, IsTerminal as _};

use crate::io::console::Console;

/// How many failures are printed in full.
const PRINTED: u64 = 10;

/// Prints the first failures, and counts the rest.
#[derive(Debug)]
pub struct Failures {
    console: Console,
    /// Whether the result lines are not on a terminal.
    is_wanted: bool,
    count: u64,
}

impl Failures {
    /// No failures yet. If result lines are on a terminal, no failure is printed besides.
    #[must_use]
    pub fn new(console: Console) -> Self {
        Self { console, is_wanted: !io::stdout().is_terminal(), count: 0 }
    }

    /// Prints a failure, unless there were enough; `print` surrounds the printing.
    pub fn print_with(&mut self, message: impl FnOnce() -> String, print: impl FnOnce(&dyn Fn())) {
        self.count += 1;
        if self.is_wanted && self.count <= PRINTED {
            let message = message();
            print(&|| self.console.error(&message));
        }
    }

    /// Prints a failure, unless there were enough.
    pub fn print(&mut self, message: impl FnOnce() -> String) {
        self.print_with(message, |print| print());
    }

    /// Prints how many failures were not printed.
    pub fn finish(&self) {
        match self.count.saturating_sub(PRINTED) {
            _ if !self.is_wanted => {}
            0 => {}
            1 => self.console.error("1 more failure; its line in the output says why"),
            more => self.console.error(&format!("{more} more failures; their lines in the output say why")),
        }
    }
}

/// Puts the line of the input in front of a message, if it is known.
#[must_use]
pub fn at_line(line: Option<u64>, message: &str) -> String {
    line.map_or_else(|| message.to_owned(), |line| format!("line {line}: {message}"))
}
