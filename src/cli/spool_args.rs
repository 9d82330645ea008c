//! The options of the agent's spool.

use std::path::PathBuf;

use super::values::size;
use crate::{error::Failure, rate::Rate, run::agent::SpoolSettings};

/// The least that a spool may have: below it most is taken by its own tables.
const LEAST: u64 = 1_000_000;

/// The agent's spool.
#[derive(Clone, Debug, clap::Args)]
#[command(next_help_heading = "Spool")]
pub struct SpoolArgs {
    /// Keep queued messages in this folder until the edge has them
    #[arg(long, value_name = "DIR")]
    spool: Option<PathBuf>,

    /// The most that the folder may hold: 500MB, 2GB
    #[arg(long, value_name = "SIZE", default_value = "1GB", value_parser = size, requires = "spool")]
    spool_max: u64,

    /// The rate at which queued messages are sent: 10/s
    #[arg(long, value_name = "N/s", requires = "spool")]
    spool_rate: Option<Rate>,

    /// Append the result of each queued message to this file
    #[arg(long, value_name = "FILE", requires = "spool")]
    spool_results: Option<PathBuf>,
}

impl SpoolArgs {
    /// Returns the settings; `None` without a spool.
    ///
    /// # Errors
    /// A size below one megabyte.
    pub fn settings(self) -> Result<Option<SpoolSettings>, Failure> {
        let Some(folder) = self.spool else { return Ok(None) };
        if self.spool_max < LEAST {
            return Err(Failure::invalid(format!(
                "--spool-max: expected 1MB or more; got {}",
                self.spool_max
            )));
        }
        Ok(Some(SpoolSettings {
            folder,
            max_bytes: self.spool_max,
            rate: self.spool_rate,
            results: self.spool_results,
        }))
    }
}
