//! The unit of the time stamp `t`.

use std::time::{SystemTime, UNIX_EPOCH};

/// The unit of `t`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
pub enum TimeUnit {
    /// Seconds, as the protocol's samples have it
    S,
    /// Milliseconds
    Ms,
}

impl TimeUnit {
    /// The unit's name, as the option has it.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::S => "s",
            Self::Ms => "ms",
        }
    }

    /// The wall clock's Unix time in this unit.
    #[must_use]
    pub fn now(self) -> i64 {
        let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
        let time = match self {
            Self::S => u128::from(since.as_secs()),
            Self::Ms => since.as_millis(),
        };
        i64::try_from(time).unwrap_or(i64::MAX)
    }
}
