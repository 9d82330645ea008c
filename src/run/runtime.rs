//! The event loop's runtime, and its timer.

use std::time::{Duration, Instant};

use crate::error::Failure;

/// Runs a subcommand's event loop on this thread.
pub fn block_on<T>(future: impl Future<Output = anyhow::Result<T>>) -> anyhow::Result<T> {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .map_err(|why| Failure::io(format!("the event loop cannot be set up: {why}")))?;
    let result = runtime.block_on(future);
    // A name server that does not answer must not hold the exit up.
    runtime.shutdown_timeout(Duration::ZERO);
    result
}

/// Sleeps until `deadline`; never returns for `None`.
pub async fn sleep_until(deadline: Option<Instant>) {
    match deadline {
        Some(deadline) => tokio::time::sleep_until(deadline.into()).await,
        None => std::future::pending().await,
    }
}
