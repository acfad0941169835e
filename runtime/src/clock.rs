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
use turnip_core::adapter::TimerRate;

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

/// Beyond this the readings between which the suspended time is taken were separated by the
/// scheduler, and are taken again.
const READINGS_APART_MAX: u64 = 20_000;

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

/// Microseconds a tick: what `tick` is when MONOTONIC is not bent. USER_HZ is 100 on all that
/// Linux runs on but Alpha and Itanium.
const TICK_NOMINAL: i64 = 10_000;
/// `freq` is in ppm with 16 bits of fraction.
const FREQ_ONE_PPM: i64 = 1 << 16;
/// An offset is amortised by `offset >> (SHIFT_PLL + constant)` a second.
const SHIFT_PLL: i64 = 2;
/// Slower than the kernel lets anybody make it.
const SLOW_PPM_MAX: i64 = 500_000;

/// How slow the kernel's own timers run against the clock, at this moment. Reading it takes no
/// privilege.
///
/// Timeouts of nftables and lifetimes of addresses count the kernel's ticks, which follow
/// MONOTONIC, and so bend as NTP slews it. chrony slews by up to 8.3 % under its defaults: a
/// timeout that is to end at a deadline would end by so much too late.
///
/// What remains is a rate that changes after the daemon was frozen: until the timeouts that it
/// set last have run out, at most for a lease; and what `adjtime` adds, which nothing tells and
/// is 0.05 % at most.
pub fn timer_rate() -> TimerRate {
    let mut state = std::mem::MaybeUninit::<nix::libc::timex>::zeroed();
    // SAFETY: adjtimex fills a timex, which is plain numbers, for which zero will do; with no
    // modes set it changes nothing.
    let state = unsafe {
        nix::libc::adjtimex(state.as_mut_ptr());
        state.assume_init()
    };
    // On failure, which is for bad pointers only, all is zero: the tick tells.
    if state.tick == 0 {
        return TimerRate::TRUE;
    }
    let nanos = state.status & nix::libc::STA_NANO != 0;
    let offset_ns = state.offset as i64 * if nanos { 1 } else { 1_000 };
    rate_of(state.tick as i64, state.freq as i64, offset_ns, state.constant as i64)
}

fn rate_of(tick: i64, freq: i64, offset_ns: i64, constant: i64) -> TimerRate {
    let by_tick = (tick - TICK_NOMINAL) * 1_000_000 / TICK_NOMINAL;
    let by_freq = freq.div_euclid(FREQ_ONE_PPM);
    // One that makes it faster ends by itself, perhaps before the time is over.
    let by_offset = (offset_ns.min(0) >> (SHIFT_PLL + constant.clamp(0, 10))).div_euclid(1_000);
    let slow = -(by_tick + by_freq + by_offset);
    TimerRate { slow_ppm: u32::try_from(slow.min(SLOW_PPM_MAX)).unwrap_or(0) }
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
        if after - before < READINGS_APART_MAX {
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
    fn a_kernel_that_is_slewed_slow_is_given_less_to_count_and_one_slewed_fast_no_more() {
        let second = Duration::from_secs(1);
        let counts = |tick, freq_ppm: i64, offset_ns, constant| {
            rate_of(tick, freq_ppm << 16, offset_ns, constant).count(second)
        };
        let ppm = |short: u64| second - Duration::from_micros(short);
        assert_eq!(counts(10_000, 0, 0, 7), second);
        assert_eq!(counts(9_000, 0, 0, 7), Duration::from_millis(900));
        // As chrony does at its limit: most by the tick, the rest by the frequency.
        assert_eq!(counts(9_167, -33, 0, 7), ppm(83_333));
        assert_eq!(counts(10_000, -500, 0, 7), ppm(500));
        assert_eq!(counts(11_000, 0, 0, 7), second);
        assert_eq!(counts(10_001, -100, 0, 7), ppm(0));
        assert_eq!(counts(9_999, -100, 0, 7), ppm(200));
        // As timesyncd does: 0.4 s, an eighth of what is left every second.
        assert_eq!(counts(10_000, 0, -400_000_000, 1), ppm(50_000));
        assert_eq!(counts(9_000, 0, 400_000_000, 1), Duration::from_millis(900));
    }

    #[test]
    fn a_fraction_of_a_millionth_is_given_away() {
        assert_eq!(rate_of(10_000, -1, 0, 0), TimerRate { slow_ppm: 1 });
        assert_eq!(rate_of(10_000, 0, -1, 10), TimerRate { slow_ppm: 1 });
    }

    #[test]
    fn the_rate_of_this_host_is_told_and_none_that_no_kernel_has() {
        assert!(timer_rate().slow_ppm <= 160_000, "{:?}", timer_rate());
    }

    #[test]
    fn a_long_sleep_looks_again_before_its_end_and_a_short_one_does_not() {
        assert_eq!(step(Duration::from_secs(8)), Duration::from_secs(7));
        assert_eq!(step(Duration::from_millis(8)), Duration::from_millis(8));
    }
}
