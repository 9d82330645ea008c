//! The unit of the time stamp `t`.

use std::time::{Duration, SystemTime, UNIX_EPOCH};

/// The unit of `t`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
pub enum TimeUnit {
    /// Seconds, as the protocol's samples have it
    S,
    /// Milliseconds
    Ms,
}

impl TimeUnit {
    /// Returns the unit's name, as the option has it.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::S => "s",
            Self::Ms => "ms",
        }
    }

    /// Returns the wall clock's Unix time in this unit.
    #[must_use]
    pub fn now(self) -> i64 {
        let since = unix_time();
        let time = match self {
            Self::S => u128::from(since.as_secs()),
            Self::Ms => since.as_millis(),
        };
        i64::try_from(time).unwrap_or(i64::MAX)
    }
}

/// Returns the wall clock's time since the Unix epoch; zero if the clock is before it.
#[must_use]
pub fn unix_time() -> Duration {
    SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default()
}
