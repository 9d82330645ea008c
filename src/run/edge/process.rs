//! What the emulator needs from the system: the state of stdout, and the limit of open files.

use std::io;

use rustix::{
    event::{PollFd, PollFlags, poll},
    process::{Resource, Rlimit, getrlimit, setrlimit},
};

/// Waits until the reader of stdout has gone: an idle edge writes nothing, and would not notice.
pub async fn reader_gone() {
    let (sender, gone) = tokio::sync::oneshot::channel();
    let watch = move || {
        let stdout = io::stdout();
        let mut fds = [PollFd::new(&stdout, PollFlags::empty())];
        while poll(&mut fds, None) == Err(rustix::io::Errno::INTR) {}
        if fds[0].revents().intersects(PollFlags::ERR | PollFlags::HUP) {
            // The receiver is gone if the edge has ended meanwhile.
            let _ = sender.send(());
        }
    };
    let watching = std::thread::Builder::new().name("stdout".into()).spawn(watch);
    if watching.is_err() || gone.await.is_err() {
        std::future::pending::<()>().await;
    }
}

/// Raises the limit of open files to what the connections need, or as far as the system permits.
pub fn allow_files(connections: usize) {
    let limit = getrlimit(Resource::Nofile);
    let wanted = u64::try_from(connections).unwrap_or(u64::MAX).saturating_add(64);
    let wanted = limit.maximum.map_or(wanted, |most| wanted.min(most));
    if limit.current.is_some_and(|current| current < wanted) {
        // If this fails, fewer clients are served, and each refused one is reported.
        let _ = setrlimit(Resource::Nofile, Rlimit { current: Some(wanted), ..limit });
    }
}
