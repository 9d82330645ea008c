//! The terminal of a progress bar. Drawings are written like lines: in order, and without waiting for the reader.

use std::{
    io,
    sync::{Mutex, PoisonError},
};

use indicatif::TermLike;
use rustix::termios::tcgetwinsize;

use super::{Console, WIDTH};

/// A terminal on stderr; drawings are written when it is flushed.
#[derive(Debug)]
pub struct Terminal {
    console: Console,
    drawn: Mutex<String>,
}

impl Terminal {
    /// The terminal behind a console.
    pub fn new(console: Console) -> Self {
        Self { console, drawn: Mutex::default() }
    }

    fn draw(&self, text: &str) {
        self.drawn.lock().unwrap_or_else(PoisonError::into_inner).push_str(text);
    }

    /// Moves the cursor with an ANSI control sequence.
    fn move_cursor(&self, n: usize, direction: char) {
        if n > 0 {
            self.draw(&format!("\x1b[{n}{direction}"));
        }
    }
}

impl TermLike for Terminal {
    fn width(&self) -> u16 {
        let size = tcgetwinsize(io::stderr()).ok().filter(|size| size.ws_col > 0);
        size.map_or(u16::try_from(WIDTH).unwrap_or(u16::MAX), |size| size.ws_col)
    }

    fn move_cursor_up(&self, n: usize) -> io::Result<()> {
        self.move_cursor(n, 'A');
        Ok(())
    }

    fn move_cursor_down(&self, n: usize) -> io::Result<()> {
        self.move_cursor(n, 'B');
        Ok(())
    }

    fn move_cursor_right(&self, n: usize) -> io::Result<()> {
        self.move_cursor(n, 'C');
        Ok(())
    }

    fn move_cursor_left(&self, n: usize) -> io::Result<()> {
        self.move_cursor(n, 'D');
        Ok(())
    }

    fn write_line(&self, text: &str) -> io::Result<()> {
        self.draw(text);
        self.draw("\n");
        Ok(())
    }

    fn write_str(&self, text: &str) -> io::Result<()> {
        self.draw(text);
        Ok(())
    }

    fn clear_line(&self) -> io::Result<()> {
        self.draw("\r\x1b[2K");
        Ok(())
    }

    fn flush(&self) -> io::Result<()> {
        let drawn = std::mem::take(&mut *self.drawn.lock().unwrap_or_else(PoisonError::into_inner));
        self.console.write(drawn.as_bytes());
        Ok(())
    }
}
