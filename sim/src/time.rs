//! True time, which only the simulator knows, and each host's clock, which is a little wrong.

use turnip_core::Instant;

/// Nanoseconds of true time since the beginning of the run.
pub type True = u64;

/// Nanoseconds in a microsecond.
pub const US: u64 = 1_000;
/// Nanoseconds in a millisecond.
pub const MS: u64 = 1_000_000;
/// Nanoseconds in a second.
pub const S: u64 = 1_000_000_000;

const PPM: i128 = 1_000_000;

/// A host's clock: it begins anywhere and its rate is nearly that of true time.
#[derive(Clone, Debug)]
pub struct HostClock {
    since: True,
    reading: u64,
    rate_ppm: i64,
    stopped: bool,
}

impl HostClock {
    /// A clock that reads `offset` at time 0 and gains `rate_ppm` on true time.
    pub fn new(offset: u64, rate_ppm: i64) -> Self {
        HostClock { since: 0, reading: offset, rate_ppm, stopped: false }
    }

    /// What it reads at `now`.
    pub fn read(&self, now: True) -> Instant {
        if self.stopped {
            return Instant::from_nanos(self.reading);
        }
        let elapsed = i128::from(now - self.since) * (PPM + i128::from(self.rate_ppm)) / PPM;
        Instant::from_nanos(self.reading + elapsed as u64)
    }

    /// When it first reads `reading` or more, were its rate to stay; never when it is stopped.
    pub fn when(&self, reading: Instant) -> Option<True> {
        let left = u128::from(reading.as_nanos().saturating_sub(self.reading));
        if left == 0 {
            return Some(self.since);
        }
        if self.stopped {
            return None;
        }
        let rate = (PPM + i128::from(self.rate_ppm)) as u128;
        Some(self.since + (left * PPM as u128).div_ceil(rate) as u64)
    }

    /// What it gains on true time, in parts per million.
    pub fn rate_ppm(&self) -> i64 {
        self.rate_ppm
    }

    /// Goes on with another rate from `now`.
    pub fn set_rate(&mut self, now: True, rate_ppm: i64) {
        self.rebase(now);
        self.rate_ppm = rate_ppm;
    }

    /// Stops, as the clock of a paused virtual machine, or goes on.
    pub fn set_stopped(&mut self, now: True, stopped: bool) {
        self.rebase(now);
        self.stopped = stopped;
    }

    fn rebase(&mut self, now: True) {
        self.reading = self.read(now).as_nanos();
        self.since = now;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_clock_reaches_a_reading_when_it_says_so_and_not_before() {
        for rate in [-100_000, -10_000, -3, 0, 7, 10_000, 100_000] {
            let clock = HostClock::new(12_345, rate);
            for reading in [12_346, 1_000_003, 5_000_000_007] {
                let reading = Instant::from_nanos(reading);
                let when = clock.when(reading).unwrap();
                assert!(clock.read(when) >= reading);
                assert!(when == 0 || clock.read(when - 1) < reading);
            }
        }
    }

    #[test]
    fn a_stopped_clock_goes_on_where_it_stopped() {
        let mut clock = HostClock::new(0, 0);
        clock.set_stopped(10 * S, true);
        assert_eq!(clock.read(20 * S), Instant::from_nanos(10 * S));
        assert_eq!(clock.when(Instant::from_nanos(11 * S)), None);
        clock.set_stopped(20 * S, false);
        assert_eq!(clock.read(21 * S), Instant::from_nanos(11 * S));
    }
}
