//! Writes whole lines.

use std::{
    fs::File,
    io::{self, Seek as _, Write},
    thread,
    time::Duration,
};

use super::progress::Written;

/// A pipe that is ready takes at least this many bytes without blocking (POSIX, PIPE_BUF is 512 or more; Linux has 4,096).
pub(super) const PIPE_PIECE: usize = 4096;

/// Writes whole lines in pieces that a pipe takes as a whole or not at all. So it is known how many lines its reader gets, and
/// none is torn if the process ends meanwhile. A longer line is a piece of its own.
pub(super) fn push_lines(
    stream: &mut impl Write,
    mut rest: &[u8],
    written: &Written,
    mut file: Option<&mut File>,
) -> io::Result<()> {
    while !rest.is_empty() {
        let end_of_line = |byte: &u8| *byte == b'\n';
        let length = if rest.len() <= PIPE_PIECE {
            rest.len()
        } else if let Some(last) = rest[..PIPE_PIECE].iter().rposition(end_of_line) {
            last + 1
        } else {
            rest.iter().position(end_of_line).map_or(rest.len(), |first| first + 1)
        };
        let (piece, others) = rest.split_at(length);
        let mut left = piece;
        if let Err(why) = push(stream, &mut left) {
            let kept = piece.len() - left.len();
            if let Some(file) = &mut file {
                let torn = cut_torn_line(file, &piece[..kept]);
                written.advance(kept - torn);
            }
            return Err(why);
        }
        stream.flush()?;
        written.advance(length);
        rest = others;
    }
    Ok(())
}

/// Writes all bytes; after an error `rest` has the unwritten ones. Waits if another program has made the descriptor
/// non-blocking.
pub(crate) fn push(stream: &mut impl Write, rest: &mut &[u8]) -> io::Result<()> {
    while !rest.is_empty() {
        match stream.write(rest) {
            Ok(0) => return Err(io::ErrorKind::WriteZero.into()),
            Ok(written) => *rest = &rest[written..],
            Err(why) if why.kind() == io::ErrorKind::Interrupted => {}
            Err(why) if why.kind() == io::ErrorKind::WouldBlock => thread::sleep(Duration::from_millis(1)),
            Err(why) => return Err(why),
        }
    }
    Ok(())
}

/// Cuts the file after a failed write, so that it ends with a whole line. Returns the length of the torn one.
pub(super) fn cut_torn_line(file: &mut File, written: &[u8]) -> usize {
    let torn = written.iter().rev().take_while(|byte| **byte != b'\n').count();
    let Ok(end) = file.stream_position() else { return torn };
    // If another program appended meanwhile, cutting would take its line. A file that cannot be cut is repaired by the next
    // run, and the failed write is reported.
    if torn > 0 && file.metadata().is_ok_and(|now| now.is_file() && now.len() == end) {
        let _ = file.set_len(end - torn as u64);
    }
    torn
}
