//! The recording's time: the monotonic clock within a part, the wall clock from one part to the next, and never
//! backwards.

/// Turns a record's two clocks into one.
#[derive(Debug, Default)]
pub(super) struct Clock {
    /// What is added to a part's `mono_us`.
    base: i64,
    last_mono: Option<u64>,
    /// The last moment that was given.
    last: Option<i64>,
    /// How often the monotonic clock began anew.
    pub(super) restarts: u64,
}

impl Clock {
    /// The moment of the next record, in microseconds since 1970.
    pub(super) fn tick(&mut self, unix_us: i64, mono_us: Option<u64>) -> i64 {
        let at = match mono_us {
            None => unix_us,
            Some(mono) => {
                let begins = self.last_mono.is_none_or(|last| mono < last);
                let offset = i64::try_from(mono).unwrap_or(i64::MAX);
                if begins {
                    self.restarts += u64::from(self.last_mono.is_some());
                    // A part that claims to begin before the last one ended begins at its end.
                    self.base = unix_us.max(self.last.unwrap_or(i64::MIN)).saturating_sub(offset);
                }
                self.last_mono = Some(mono);
                self.base.saturating_add(offset)
            }
        };
        let at = at.max(self.last.unwrap_or(i64::MIN));
        self.last = Some(at);
        at
    }
}
