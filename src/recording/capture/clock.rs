//! How the interfaces of a capture count time.

use crate::recording::time::CALENDAR;

/// A clock of time stamps: so many ticks since an offset from the Unix epoch.
#[derive(Clone, Copy, Debug)]
pub(super) struct InterfaceClock {
    unit: TickUnit,
    offset_s: i64,
}

/// The length of a tick, as a power of a second.
#[derive(Clone, Copy, Debug)]
enum TickUnit {
    /// 10 to the power of minus this, at most 19, because 64 bits must be able to count a second.
    Decimal(u32),
    /// 2 to the power of minus this, at most 63.
    Binary(u32),
}

impl InterfaceClock {
    /// The clock of a pcap file, in microseconds or nanoseconds.
    pub fn pcap(is_nanoseconds: bool) -> Self {
        Self { unit: TickUnit::Decimal(if is_nanoseconds { 9 } else { 6 }), offset_s: 0 }
    }

    /// The clock of a pcapng interface (`if_tsresol` and `if_tsoffset`); `None` if 64 bits cannot count a second in its
    /// ticks.
    pub fn pcapng(resolution: u8, offset_s: i64) -> Option<Self> {
        let unit = match resolution {
            0..=19 => TickUnit::Decimal(resolution.into()),
            0x80..=0xbf => TickUnit::Binary((resolution & 0x7f).into()),
            _ => return None,
        };
        Some(Self { unit, offset_s })
    }

    /// Returns the ticks of a time that pcap gives in seconds and a fraction; `None` if the fraction is a second or more.
    pub fn ticks(self, seconds: u32, fraction: u32) -> Option<u64> {
        let TickUnit::Decimal(power) = self.unit else { return None };
        let second = 10_u64.pow(power);
        (u64::from(fraction) < second).then_some(u64::from(seconds) * second + u64::from(fraction))
    }

    /// Returns the microseconds since the Unix epoch, rounded down; `None` beyond the years 0 to 9999.
    pub fn unix_us(self, ticks: u64) -> Option<i64> {
        let us = i128::from(ticks) * 1_000_000;
        let us = match self.unit {
            TickUnit::Decimal(power) => us / 10_i128.pow(power),
            TickUnit::Binary(power) => us >> power,
        };
        let us = us + i128::from(self.offset_s) * 1_000_000;
        i64::try_from(us).ok().filter(|us| CALENDAR.contains(us))
    }
}
