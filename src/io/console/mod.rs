//! The one place that prints: notes, hints and errors on stderr, JSON lines on stdout, nothing that a terminal
//! would take for a control sequence.

mod stderr;
mod terminal;

use std::{
    borrow::Cow,
    ffi::OsString,
    io::{self, IsTerminal as _, Write as _},
};

pub(crate) use self::terminal::Terminal;
use crate::{error::Failure, io::batch_writer::end_torn_line, text::visible};

/// The longest line in bytes, because a peer's text must not hide the rest.
const LONGEST_LINE: usize = 2000;

/// The width of text for a terminal: that of every terminal.
pub const WIDTH: usize = 80;

/// Messages on stderr, with `--quiet` and `NO_COLOR` respected.
#[derive(Clone, Copy, Debug)]
pub struct Console {
    quiet: bool,
    colour: bool,
    /// Whether lines are dropped rather than waited for if stderr is not read.
    is_impatient: bool,
}

impl Console {
    /// A console; `quiet` leaves only errors and warnings.
    #[must_use]
    pub fn new(quiet: bool) -> Self {
        let plain = is_plain(std::env::var_os("NO_COLOR"), std::env::var_os("TERM"));
        Self { quiet, colour: !plain && io::stderr().is_terminal(), is_impatient: false }
    }

    /// A console for a program that serves connections: it never waits for the reader of stderr, but drops lines and
    /// counts them. Needs [`Console::finish`] at the end.
    #[must_use]
    pub fn without_waiting(self) -> Self {
        Self { is_impatient: true, ..self }
    }

    /// Waits until everything is written, for as long as stderr is read.
    pub fn finish(self) {
        if self.is_impatient {
            stderr::finish();
        }
    }

    /// Writes bytes, whole lines, as they are.
    pub fn write(self, lines: &[u8]) {
        if self.is_impatient {
            stderr::write(lines);
        } else {
            // If stderr is gone, there is no other way to report it.
            let _ = io::stderr().lock().write_all(lines);
        }
    }

    /// Whether `--quiet` was given.
    #[must_use]
    pub fn is_quiet(self) -> bool {
        self.quiet
    }

    /// Prints why the run, or one input of it, failed.
    pub fn error(self, message: &str) {
        self.line("error", "31", message);
    }

    /// Prints why the run failed, and the next step.
    pub fn failure(self, failure: &Failure) {
        self.error(&failure.message);
        if let Some(step) = failure.next_step() {
            self.hint(step);
        }
    }

    /// Prints a warning; the run goes on.
    pub fn warn(self, message: &str) {
        self.line("warning", "33", message);
    }

    /// Prints the next step of an error or a warning, also with `--quiet`.
    pub fn hint(self, message: &str) {
        self.line("hint", "36", message);
    }

    /// Prints what happens; `--quiet` hides it.
    pub fn note(self, message: &str) {
        if !self.quiet {
            self.line("tuyagw", "2", message);
        }
    }

    fn line(self, label: &str, colour: &str, message: &str) {
        let message = shortened(message);
        let message = visible(&message);
        let line = if self.colour {
            format!("\x1b[{colour}m{label}:\x1b[0m {message}\n")
        } else {
            format!("{label}: {message}\n")
        };
        self.write(line.as_bytes());
    }
}

/// Cuts a text to the length of a line.
fn shortened(text: &str) -> Cow<'_, str> {
    if text.len() <= LONGEST_LINE {
        return Cow::Borrowed(text);
    }
    let end = text.floor_char_boundary(LONGEST_LINE);
    Cow::Owned(format!("{}… ({} bytes more)", &text[..end], text.len() - end))
}

/// Returns whether the environment forbids colours: `NO_COLOR` is not empty, or the terminal has none.
fn is_plain(no_color: Option<OsString>, term: Option<OsString>) -> bool {
    no_color.is_some_and(|value| !value.is_empty()) || term.is_some_and(|term| term == "dumb")
}

/// Writes whole lines to stdout and flushes them. A closed pipe is not an error: its reader wanted no more.
pub fn print(bytes: &[u8]) -> io::Result<()> {
    let mut stdout = io::stdout().lock();
    let ended = end_torn_line(&mut stdout);
    match ended.and_then(|()| stdout.write_all(bytes)).and_then(|()| stdout.flush()) {
        Err(gone) if gone.kind() == io::ErrorKind::BrokenPipe => Ok(()),
        other => other,
    }
}

/// Breaks a text at spaces into lines of at most `width` characters.
#[must_use]
pub fn wrapped(text: &str, width: usize) -> Vec<String> {
    let mut lines: Vec<String> = Vec::new();
    for word in text.split(' ').filter(|word| !word.is_empty()) {
        match lines.last_mut() {
            Some(line) if line.chars().count() + 1 + word.chars().count() <= width => {
                line.push(' ');
                line.push_str(word);
            }
            _ => lines.push(word.to_owned()),
        }
    }
    lines
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_line_has_an_end() {
        assert_eq!(shortened("short"), "short");
        let long = "é".repeat(LONGEST_LINE);
        let short = shortened(&long);
        assert!(short.starts_with('é') && short.ends_with("é… (2000 bytes more)"), "{short}");
    }

    #[test]
    fn colours_are_left_out_where_the_environment_says_so() {
        let plain = |no_color: &str, term: &str| is_plain(Some(no_color.into()), Some(term.into()));
        assert!(plain("1", "xterm") && plain("", "dumb"));
        assert!(!plain("", "xterm") && !is_plain(None, None));
    }
}
