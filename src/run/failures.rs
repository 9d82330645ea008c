//! The failures of a run whose result lines go to a file or a pipe: the first ones are said on stderr as well, where
//! people and cron look.

use std::io::{self, IsTerminal as _};

use crate::io::console::Console;

/// How many failures are said in full.
const TOLD: u64 = 10;

/// Says the first failures, and how many more there were.
#[derive(Debug)]
pub struct Failures {
    console: Console,
    /// Whether nobody sees the result lines as they come.
    is_wanted: bool,
    count: u64,
}

impl Failures {
    /// No failures yet. On a terminal the result lines themselves are seen, and nothing is said.
    #[must_use]
    pub fn new(console: Console) -> Self {
        Self { console, is_wanted: !io::stdout().is_terminal(), count: 0 }
    }

    /// Says a failure, unless there were enough; `print` prints the message.
    pub fn tell_with(&mut self, message: impl FnOnce() -> String, print: impl FnOnce(&dyn Fn())) {
        self.count += 1;
        if self.is_wanted && self.count <= TOLD {
            let message = message();
            print(&|| self.console.error(&message));
        }
    }

    /// As [`Failures::tell_with`], with nothing on stderr that would be in the way.
    pub fn tell(&mut self, message: impl FnOnce() -> String) {
        self.tell_with(message, |print| print());
    }

    /// Says how many failures were not said.
    pub fn finish(&self) {
        match self.count.saturating_sub(TOLD) {
            _ if !self.is_wanted => {}
            0 => {}
            1 => self.console.error("1 more failure; its line in the output says why"),
            more => self.console.error(&format!("{more} more failures; their lines in the output say why")),
        }
    }
}

/// The line of the input in front of a message, if it is known.
#[must_use]
pub fn at_line(line: Option<u64>, message: &str) -> String {
    line.map_or_else(|| message.to_owned(), |line| format!("line {line}: {message}"))
}
