//! Waiting to a fraction of a millisecond, which the event loop's own timer, whose unit is the millisecond, cannot.

use std::time::Instant;

#[cfg(target_os = "linux")]
pub use precise::PreciseTimer;

#[cfg(not(target_os = "linux"))]
pub use coarse::PreciseTimer;

#[cfg(target_os = "linux")]
mod precise {
    use std::{io, os::fd::OwnedFd, time::Duration};

    use rustix::time::{
        Itimerspec, TimerfdClockId, TimerfdFlags, TimerfdTimerFlags, Timespec, timerfd_create,
        timerfd_settime,
    };
    use tokio::io::{Interest, unix::AsyncFd};

    use super::Instant;
    use crate::error::Failure;

    /// A timer of the system's, which wakes the event loop as a socket does.
    pub struct PreciseTimer {
        timer: AsyncFd<OwnedFd>,
        /// For when it is set, as far as it has not gone off.
        set: Option<Instant>,
    }

    impl PreciseTimer {
        /// A timer; to be made within the event loop.
        ///
        /// # Errors
        /// Where the system has none left.
        #[allow(deprecated, reason = "its successor is unsafe for types that are not I/O-safe; OwnedFd is")]
        pub fn new() -> Result<Self, Failure> {
            let flags = TimerfdFlags::NONBLOCK | TimerfdFlags::CLOEXEC;
            timerfd_create(TimerfdClockId::Monotonic, flags)
                .map_err(io::Error::from)
                .and_then(|timer| AsyncFd::with_interest(timer, Interest::READABLE))
                .map(|timer| Self { timer, set: None })
                .map_err(|why| Failure::io(format!("cannot set a timer up: {why}")))
        }

        /// Waits until a moment. Cancel-safe.
        pub async fn until(&mut self, moment: Instant) {
            loop {
                let left = moment.saturating_duration_since(Instant::now());
                if left.is_zero() {
                    return;
                }
                // It stays set where this was cancelled and is called again.
                if self.set != Some(moment) && !self.set(left) {
                    // It cannot be refused for these arguments; the event loop's timer serves all the same.
                    return tokio::time::sleep_until(moment.into()).await;
                }
                self.set = Some(moment);
                // Each time that it goes off is a wake-up of its own, whether or not its bytes are read; and that it
                // went off is all that they say.
                if let Ok(mut gone_off) = self.timer.readable().await {
                    gone_off.clear_ready();
                }
                self.set = None;
            }
        }

        fn set(&self, left: Duration) -> bool {
            let it_value = Timespec {
                tv_sec: i64::try_from(left.as_secs()).unwrap_or(i64::MAX),
                tv_nsec: left.subsec_nanos().into(),
            };
            let it_interval = Timespec { tv_sec: 0, tv_nsec: 0 };
            let once = Itimerspec { it_interval, it_value };
            timerfd_settime(&self.timer, TimerfdTimerFlags::empty(), &once).is_ok()
        }
    }
}

#[cfg(not(target_os = "linux"))]
mod coarse {
    use super::Instant;
    use crate::error::Failure;

    /// The event loop's own timer.
    pub struct PreciseTimer;

    impl PreciseTimer {
        /// A timer.
        ///
        /// # Errors
        /// None here.
        pub fn new() -> Result<Self, Failure> {
            Ok(Self)
        }

        /// Waits until a moment. Cancel-safe.
        pub async fn until(&mut self, moment: Instant) {
            tokio::time::sleep_until(moment.into()).await;
        }
    }
}
