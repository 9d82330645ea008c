//! The options of the subcommands that send requests.

use std::path::PathBuf;

use crate::{
    rate::Rate,
    request::input::InputFormat,
    run::{batch::BatchOptions, results::ProgressMode, time_unit::TimeUnit},
};

/// The options of a run of requests.
#[derive(Clone, Debug, clap::Args)]
#[command(next_help_heading = "Requests")]
pub struct RequestArgs {
    /// Limit of requests in flight
    #[arg(long, value_name = "N", default_value_t = 20, value_parser = clap::value_parser!(u16).range(1..=65000))]
    window: u16,

    /// Limit of messages per second or minute: 50/s, 30/m; retries and resends count, too
    #[arg(long, value_name = "N/s")]
    rate: Option<Rate>,

    /// Retry a request up to N times after a system error (500) or a time-out, with the same request id
    #[arg(long, value_name = "N", default_value_t = 0)]
    retries: u32,

    /// Print results in input order
    #[arg(long)]
    ordered: bool,

    /// Record accepted requests in this file; the same command run again sends only the rest
    #[arg(long, value_name = "FILE")]
    journal: Option<PathBuf>,

    /// Accept a journal of another broker: requests that it accepted are not sent to this one
    #[arg(long, requires = "journal", hide_short_help = true)]
    journal_any_broker: bool,

    /// Write counts, round-trip percentiles, duration and rate to this file as JSON
    #[arg(long, value_name = "FILE")]
    summary: Option<PathBuf>,

    /// Format of the input [default: by the file's name, else json]
    #[arg(long)]
    format: Option<FormatArg>,

    /// End a request with the broker's acknowledgement, without waiting for the answer
    #[arg(long)]
    no_wait: bool,

    /// Unit of the time stamp t in messages
    #[arg(long, value_name = "UNIT", default_value = "s", hide_short_help = true)]
    t_unit: TimeUnit,

    /// Exit on the first lost connection
    #[arg(long)]
    no_reconnect: bool,

    /// Show progress on stderr
    #[arg(long, value_name = "WHEN", default_value = "auto")]
    progress: ProgressMode,
}

/// Formats of input.
#[derive(Clone, Copy, Debug, clap::ValueEnum)]
enum FormatArg {
    /// JSON Lines, a stream of JSON values, or JSON arrays
    Json,
    /// CSV with a header of the protocol's field names
    Csv,
}

impl From<FormatArg> for InputFormat {
    fn from(format: FormatArg) -> Self {
        match format {
            FormatArg::Json => Self::Json,
            FormatArg::Csv => Self::Csv,
        }
    }
}

impl RequestArgs {
    /// Returns the options of the run.
    #[must_use]
    pub fn options(self) -> BatchOptions {
        BatchOptions {
            window: usize::from(self.window),
            rate: self.rate,
            retries: self.retries,
            is_ordered: self.ordered,
            journal: self.journal,
            takes_any_broker: self.journal_any_broker,
            summary: self.summary,
            waits_for_answers: !self.no_wait,
            unit: self.t_unit,
            reconnects: !self.no_reconnect,
            progress: self.progress,
        }
    }

    /// Returns the format of the input, if an option gives it.
    #[must_use]
    pub fn format(&self) -> Option<InputFormat> {
        self.format.map(InputFormat::from)
    }
}
