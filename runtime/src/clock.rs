//! The host's clock: MONOTONIC_RAW plus the time suspended.
//!
//! MONOTONIC_RAW is what no NTP daemon bends, but it stands still while the host is suspended;
//! BOOTTIME - MONOTONIC is exactly the time suspended, because both are bent alike. Timers exist
//! on BOOTTIME only, which NTP may slew by 8 %: a sleep is therefore armed a little short and
//! the clock read again.

use std::os::fd::{AsFd, AsRawFd, RawFd};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use nix::sys::time::TimeSpec;
use nix::sys::timerfd::{
    ClockId as TimerClock, Expiration, TimerFd, TimerFlags, TimerSetTimeFlags,
};
use nix::time::{ClockId, clock_gettime};
use tokio::io::unix::AsyncFd;
use turnip_core::Instant;

use crate::seams::Clock;

/// The clock of this host. Clones are the same clock, and agree on every reading.
#[derive(Clone, Debug, Default)]
pub struct HostClock {
    state: Arc<Mutex<Readings>>,
}

/// What keeps readings consistent with each other.
#[derive(Debug, Default)]
struct Readings {
    /// Nanoseconds that the host was suspended, as last determined.
    suspended: u64,
    /// The latest reading given.
    latest: u64,
}

/// Beyond this the readings between which the suspended time is taken were torn apart by the
/// scheduler, and are taken again.
const TORN: u64 = 20_000;

impl HostClock {
    /// The clock of the host that this process runs on.
    pub fn new() -> Self {
        Self::default()
    }
}

impl Clock for HostClock {
    fn now(&self) -> Instant {
        let mut state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        state.suspended = suspended(state.suspended);
        let reading = nanos(ClockId::CLOCK_MONOTONIC_RAW) + state.suspended;
        state.latest = state.latest.max(reading);
        Instant::from_nanos(state.latest)
    }

    async fn sleep_until(&self, deadline: Instant) {
        if self.now() >= deadline {
            return;
        }
        // Without a timer there is still the executor's own, which a suspended host delays.
        let Some(timer) = Timer::new() else {
            while self.now() < deadline {
                tokio::time::sleep(step(deadline.since(self.now()))).await;
            }
            return;
        };
        loop {
            let left = deadline.since(self.now());
            if left.is_zero() {
                return;
            }
            timer.sleep(step(left)).await;
        }
    }

    fn unix_ms(&self) -> u64 {
        let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
        u64::try_from(since.as_millis()).unwrap_or(u64::MAX)
    }
}

/// How long to sleep when `left` is left: BOOTTIME may run up to 8 % slow or fast against the
/// clock, so an eighth is kept for a second look, until what is kept is too short to matter.
fn step(left: Duration) -> Duration {
    if left > Duration::from_millis(8) { left - left / 8 } else { left }
}

/// The time suspended, in nanoseconds, given what it `was` at the reading before.
///
/// BOOTTIME and MONOTONIC cannot be read at once, so it is only known to lie between two bounds;
/// while the earlier value does, the host was not suspended, and that value is exact.
fn suspended(was: u64) -> u64 {
    let (mut low, mut high) = (0, u64::MAX);
    for _ in 0..8 {
        let before = nanos(ClockId::CLOCK_MONOTONIC);
        let boot = nanos(ClockId::CLOCK_BOOTTIME);
        let after = nanos(ClockId::CLOCK_MONOTONIC);
        low = low.max(boot.saturating_sub(after));
        high = high.min(boot.saturating_sub(before));
        if after - before < TORN {
            break;
        }
    }
    if (low..=high).contains(&was) { was } else { high }
}

fn nanos(clock: ClockId) -> u64 {
    // clock_gettime fails for an unknown clock only, and these three are as old as Linux 2.6.39.
    let time = clock_gettime(clock).unwrap_or_else(|error| panic!("clock {clock:?}: {error}"));
    let secs = u64::try_from(time.tv_sec()).unwrap_or(0);
    secs * 1_000_000_000 + u64::try_from(time.tv_nsec()).unwrap_or(0)
}

/// A timer that counts the time suspended.
struct Timer(AsyncFd<BootTimer>);

struct BootTimer(TimerFd);

impl AsRawFd for BootTimer {
    fn as_raw_fd(&self) -> RawFd {
        self.0.as_fd().as_raw_fd()
    }
}

impl Timer {
    #[expect(deprecated, reason = "its successor is unsafe; the descriptor here is owned")]
    fn new() -> Option<Self> {
        let flags = TimerFlags::TFD_NONBLOCK | TimerFlags::TFD_CLOEXEC;
        let timer = TimerFd::new(TimerClock::CLOCK_BOOTTIME, flags).ok()?;
        AsyncFd::new(BootTimer(timer)).ok().map(Timer)
    }

    async fn sleep(&self, duration: Duration) {
        // A timer of zero is one that is never due.
        let duration = duration.max(Duration::from_micros(1));
        let expiration = Expiration::OneShot(TimeSpec::from_duration(duration));
        let timer = self.0.get_ref();
        if timer.0.set(expiration, TimerSetTimeFlags::empty()).is_err() {
            return tokio::time::sleep(duration).await;
        }
        loop {
            let Ok(mut ready) = self.0.readable().await else { return };
            if let Ok(_due) = ready.try_io(|timer| timer.get_ref().0.wait().map_err(Into::into)) {
                return;
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(flavor = "current_thread")]
    async fn a_sleep_never_ends_before_its_deadline() {
        let clock = HostClock::new();
        for millis in [0, 1, 7, 50] {
            let deadline = clock.now() + Duration::from_millis(millis);
            clock.sleep_until(deadline).await;
            assert!(clock.now() >= deadline);
        }
    }

    #[tokio::test(flavor = "current_thread")]
    async fn a_deadline_that_has_passed_is_over_at_once() {
        let clock = HostClock::new();
        clock.sleep_until(Instant::ZERO).await;
    }

    #[test]
    fn clones_never_go_back_against_each_other() {
        let (one, two) = (HostClock::new(), HostClock::new().clone());
        let other = one.clone();
        let mut latest = one.now();
        for turn in 0..10_000 {
            let now = if turn % 2 == 0 { other.now() } else { one.now() };
            assert!(now >= latest);
            latest = now;
        }
        assert!(two.now() > Instant::ZERO);
    }

    #[test]
    fn two_clocks_of_one_host_agree_to_a_hundred_microseconds() {
        let (one, two) = (HostClock::new(), HostClock::new());
        let closest = (0..1000)
            .map(|_| {
                let (a, b) = (one.now(), two.now());
                a.since(b).max(b.since(a))
            })
            .min();
        assert!(closest < Some(Duration::from_micros(100)));
    }

    #[test]
    fn a_long_sleep_looks_again_before_its_end_and_a_short_one_does_not() {
        assert_eq!(step(Duration::from_secs(8)), Duration::from_secs(7));
        assert_eq!(step(Duration::from_millis(8)), Duration::from_millis(8));
    }
}
