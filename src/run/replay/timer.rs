//! A timer with a precision of a fraction of a millisecond; the event loop's own timer counts milliseconds.

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

    /// A timer of the system, which wakes the event loop like a socket.
    pub struct PreciseTimer {
        timer: AsyncFd<OwnedFd>,
        /// The time that it is set to; `None` once it has expired.
        set: Option<Instant>,
    }

    impl PreciseTimer {
        /// A timer; call this within the event loop.
        ///
        /// # Errors
        /// The system has no timer left.
        #[allow(deprecated, reason = "its successor is unsafe for types that are not I/O-safe; OwnedFd is")]
        pub fn new() -> Result<Self, Failure> {
            let flags = TimerfdFlags::NONBLOCK | TimerfdFlags::CLOEXEC;
            timerfd_create(TimerfdClockId::Monotonic, flags)
                .map_err(io::Error::from)
                .and_then(|timer| AsyncFd::with_interest(timer, Interest::READABLE))
                .map(|timer| Self { timer, set: None })
                .map_err(|why| Failure::io(format!("cannot set a timer up: {why}")))
        }

        /// Sleeps until `moment`. Cancel-safe.
        pub async fn until(&mut self, moment: Instant) {
            loop {
                let left = moment.saturating_duration_since(Instant::now());
                if left.is_zero() {
                    return;
                }
                // It is still set if this was cancelled and is called again.
                if self.set != Some(moment) && !self.set(left) {
                    // The system does not refuse these arguments; if it does, use the event loop's timer.
                    return tokio::time::sleep_until(moment.into()).await;
                }
                self.set = Some(moment);
                // Its bytes need not be read: each expiration wakes anew, and they say nothing else.
                if let Ok(mut expired) = self.timer.readable().await {
                    expired.clear_ready();
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

        /// Sleeps until `moment`. Cancel-safe.
        pub async fn until(&mut self, moment: Instant) {
            tokio::time::sleep_until(moment.into()).await;
        }
    }
}
