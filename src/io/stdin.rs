//! Stdin as a reader that waits, even if another process has made it non-blocking.

use std::{
    io::{self, Read},
    os::fd::AsFd,
};

use rustix::event::{PollFd, PollFlags, poll};

/// Reads stdin. `O_NONBLOCK` belongs to the open file, which a shell shares with all its programs, so any of them may
/// have set it. A read without input then fails, and this reader waits instead.
#[must_use]
pub fn stdin() -> Patient<io::Stdin> {
    Patient(io::stdin())
}

/// A reader that waits for bytes if there are none.
pub struct Patient<R>(R);

impl<R: Read + AsFd> Read for Patient<R> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        loop {
            match self.0.read(buffer) {
                Err(why) if why.kind() == io::ErrorKind::WouldBlock => {
                    // A signal only makes the read come sooner.
                    let _ = poll(&mut [PollFd::new(&self.0, PollFlags::IN)], None);
                }
                read => return read,
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use std::os::unix::net::UnixStream;

    use super::*;

    #[test]
    fn a_non_blocking_reader_is_waited_for() {
        let (ours, mut theirs) = UnixStream::pair().unwrap();
        ours.set_nonblocking(true).unwrap();
        let mut buffer = [0; 8];
        assert_eq!((&ours).read(&mut buffer).unwrap_err().kind(), io::ErrorKind::WouldBlock);
        let writer = std::thread::spawn(move || io::Write::write_all(&mut theirs, b"{}\n"));
        let mut text = String::new();
        Patient(ours).read_to_string(&mut text).unwrap();
        writer.join().unwrap().unwrap();
        assert_eq!(text, "{}\n");
    }
}
