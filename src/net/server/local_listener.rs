//! A Unix socket that listens, for programs of this machine.

use std::io;

use rustix::process::geteuid;
use tokio::net::{UnixListener, UnixStream};

use crate::error::Failure;

/// A bound Unix socket.
pub(super) struct LocalListener {
    socket: UnixListener,
    /// Whether the socket's mode lets a group in.
    admits_group: bool,
}

impl LocalListener {
    pub(super) fn new(socket: std::os::unix::net::UnixListener, admits_group: bool) -> Result<Self, Failure> {
        let unusable = |why: io::Error| Failure::io(format!("the agent's socket cannot be used: {why}"));
        socket.set_nonblocking(true).map_err(unusable)?;
        Ok(Self { socket: UnixListener::from_std(socket).map_err(unusable)?, admits_group })
    }

    /// Accepts the next connection of a program that may connect; an error says who may not. Cancel-safe.
    pub(super) async fn accept(&self) -> io::Result<Result<UnixStream, String>> {
        let (stream, _) = self.socket.accept().await?;
        if self.admits_group {
            // The mode of the socket's file has let it in.
            return Ok(Ok(stream));
        }
        let (peer, own) = (stream.peer_cred()?.uid(), geteuid().as_raw());
        if peer == own || peer == 0 {
            Ok(Ok(stream))
        } else {
            Ok(Err(format!("a program of user {peer} was refused: only user {own} and root may connect")))
        }
    }
}
