//! The event loop's runtime, and its timer.

use std::time::{Duration, Instant};

use tokio::{runtime::Runtime, task::LocalSet};

use crate::{
    error::Failure,
    io::batch_writer::{CommitWatch, WriterError},
};

fn runtime() -> Result<Runtime, Failure> {
    let built = tokio::runtime::Builder::new_current_thread().enable_all().build();
    built.map_err(|why| Failure::io(format!("the event loop cannot be set up: {why}")))
}

/// Runs a subcommand's event loop on this thread.
///
/// # Errors
/// The failure of the run, or of the system.
pub fn block_on<T>(future: impl Future<Output = anyhow::Result<T>>) -> anyhow::Result<T> {
    let runtime = runtime()?;
    let result = runtime.block_on(future);
    // A name server that does not answer must not delay the exit.
    runtime.shutdown_timeout(Duration::ZERO);
    result
}

/// Runs an event loop that spawns tasks. At the end it does not wait for threads, one of which may be blocked on a pipe.
pub fn run_local<T>(future: impl Future<Output = Result<T, Failure>>) -> anyhow::Result<T> {
    let runtime = runtime()?;
    let result = LocalSet::new().block_on(&runtime, future);
    runtime.shutdown_background();
    Ok(result?)
}

/// Sleeps until `deadline`; never returns for `None`.
pub async fn sleep_until(deadline: Option<Instant>) {
    match deadline {
        Some(deadline) => tokio::time::sleep_until(deadline.into()).await,
        None => std::future::pending().await,
    }
}

/// Waits until more of a writer's output is committed; never returns for `None`. Cancel-safe.
///
/// # Errors
/// The writer has failed, or the reader of stdout has gone.
pub async fn committed_changed(progress: &mut Option<CommitWatch>) -> Result<(), WriterError> {
    match progress {
        Some(progress) => progress.changed().await.map(drop),
        None => std::future::pending().await,
    }
}
