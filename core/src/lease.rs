//! The arithmetic of the lease: how long a holder may hold, how long others must wait.
//!
//! Every comparison of two hosts' times is here. A holder counts `L(1 - rho)` from before it sent
//! the renewal; another counts `L(1 + rho)` from after it heard of it. With clocks whose rates
//! are within `rho` of true time, the first always ends before the second.

use std::fmt;
use std::time::Duration;

use crate::time::Instant;

const PPM: u64 = 1_000_000;

/// The durations of a session. Cannot hold a combination that is unsafe.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub struct Lease {
    duration: Duration,
    renew: Duration,
    guard: Duration,
    drift_ppm: u32,
}

/// Why four durations make no safe lease.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum LeaseError {
    /// Shorter than any etcd answers reliably.
    DurationTooShort(Duration),
    /// Longer than anybody waits.
    DurationTooLong(Duration),
    /// Too short to carry an answer.
    RenewTooShort(Duration),
    /// A single lost renewal would cost the lease.
    RenewTooLong {
        /// The interval given.
        renew: Duration,
        /// The longest that would do.
        at_most: Duration,
    },
    /// Too short to take an address away.
    GuardTooShort(Duration),
    /// Leaves too little of the lease.
    GuardTooLong {
        /// The guard given.
        guard: Duration,
        /// The longest that would do.
        at_most: Duration,
    },
    /// Smaller than what clocks really do, or larger than a lease bears.
    DriftOutOfRange(u32),
    /// Lifetimes alone need a longer lease: the kernel counts in seconds.
    TooShortForLifetimes(Duration),
}

impl fmt::Display for LeaseError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            LeaseError::DurationTooShort(got) => write!(
                f,
                "a lease of {got:?} is too short: at least {:?}, so that it outlives a slow commit",
                Lease::DURATION_MIN
            ),
            LeaseError::DurationTooLong(got) => write!(
                f,
                "a lease of {got:?} is too long: at most {:?}, because a dead host's addresses wait that long",
                Lease::DURATION_MAX
            ),
            LeaseError::RenewTooShort(got) => write!(
                f,
                "a renew interval of {got:?} is too short: at least {:?}, because each request must be answered within one",
                Lease::RENEW_MIN
            ),
            LeaseError::RenewTooLong { renew, at_most } => write!(
                f,
                "a renew interval of {renew:?} is too long: at most {at_most:?} with this lease and guard, so that one lost renewal does not cost the lease"
            ),
            LeaseError::GuardTooShort(got) => write!(
                f,
                "a guard of {got:?} is too short: at least {:?}, the time to take addresses away before the deadline",
                Lease::GUARD_MIN
            ),
            LeaseError::GuardTooLong { guard, at_most } => write!(
                f,
                "a guard of {guard:?} is too long: at most {at_most:?}, half of the lease"
            ),
            LeaseError::DriftOutOfRange(got) => write!(
                f,
                "a drift margin of {} % is out of range: 0.05 % to 10 %, because the rates of real clocks differ by up to 0.02 % and both sides give the margin away",
                f64::from(*got) / 10_000.0
            ),
            LeaseError::TooShortForLifetimes(got) => write!(
                f,
                "a lease of {got:?} is too short without the nftables fence: at least {:?}, because the kernel ends an address's lifetime up to a second late",
                Lease::DURATION_MIN_BY_LIFETIME
            ),
        }
    }
}

impl std::error::Error for LeaseError {}

/// What silences an address when the daemon cannot (A3).
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub enum Backstop {
    /// The nftables fence, exact to some milliseconds.
    Fence,
    /// The kernel's own expiry of the address, counted in seconds and up to one late.
    Lifetime,
}

impl Lease {
    /// The shortest lease.
    pub const DURATION_MIN: Duration = Duration::from_millis(200);
    /// The longest lease.
    pub const DURATION_MAX: Duration = Duration::from_secs(600);
    /// The shortest lease where the kernel's expiry of addresses is the backstop (2.8).
    pub const DURATION_MIN_BY_LIFETIME: Duration = Duration::from_secs(4);
    /// The shortest renew interval.
    pub const RENEW_MIN: Duration = Duration::from_millis(20);
    /// The shortest guard.
    pub const GUARD_MIN: Duration = Duration::from_millis(5);
    /// 1 %.
    pub const DRIFT_PPM_DEFAULT: u32 = 10_000;

    /// A lease of `duration` with the proportions of the design: renewed every sixth of it, a
    /// fifteenth kept as guard, 1 % for drift.
    ///
    /// # Errors
    /// When `duration` is out of range.
    pub fn new(duration: Duration) -> Result<Self, LeaseError> {
        Self::with(duration, None, None, None)
    }

    /// A lease with some of its proportions given; the others are the design's.
    ///
    /// # Errors
    /// When the combination cannot be safe, or could not survive one lost renewal.
    pub fn with(
        duration: Duration,
        renew: Option<Duration>,
        guard: Option<Duration>,
        drift_ppm: Option<u32>,
    ) -> Result<Self, LeaseError> {
        let lease = Lease {
            duration,
            renew: renew.unwrap_or(duration / 6),
            guard: guard.unwrap_or(duration / 15),
            drift_ppm: drift_ppm.unwrap_or(Self::DRIFT_PPM_DEFAULT),
        };
        lease.check()?;
        Ok(lease)
    }

    fn check(&self) -> Result<(), LeaseError> {
        if self.duration < Self::DURATION_MIN {
            return Err(LeaseError::DurationTooShort(self.duration));
        }
        if self.duration > Self::DURATION_MAX {
            return Err(LeaseError::DurationTooLong(self.duration));
        }
        if !(500..=100_000).contains(&self.drift_ppm) {
            return Err(LeaseError::DriftOutOfRange(self.drift_ppm));
        }
        if self.guard < Self::GUARD_MIN {
            return Err(LeaseError::GuardTooShort(self.guard));
        }
        let guard_max = self.duration / 2;
        if self.guard > guard_max {
            return Err(LeaseError::GuardTooLong { guard: self.guard, at_most: guard_max });
        }
        if self.renew < Self::RENEW_MIN {
            return Err(LeaseError::RenewTooShort(self.renew));
        }
        // Renewals are sent every `renew` and may take up to `renew`: after one that is lost, the
        // next must be answered before the addresses are taken away.
        let renew_max = (self.holding() - self.guard) / 3;
        if self.renew > renew_max {
            return Err(LeaseError::RenewTooLong { renew: self.renew, at_most: renew_max });
        }
        Ok(())
    }

    /// Whether the lease is long enough for the backstop.
    ///
    /// # Errors
    /// When lifetimes are the backstop and the lease is shorter than they need.
    pub fn check_backstop(&self, backstop: Backstop) -> Result<(), LeaseError> {
        match backstop {
            Backstop::Lifetime if self.duration < Self::DURATION_MIN_BY_LIFETIME => {
                Err(LeaseError::TooShortForLifetimes(self.duration))
            }
            _ => Ok(()),
        }
    }

    /// `L`.
    pub fn duration(&self) -> Duration {
        self.duration
    }

    /// `r`: how often the session is renewed, and the longest that one request takes.
    pub fn renew(&self) -> Duration {
        self.renew
    }

    /// `g`: how long before the deadline the addresses are taken away.
    pub fn guard(&self) -> Duration {
        self.guard
    }

    /// `rho`, in parts per million.
    pub fn drift_ppm(&self) -> u32 {
        self.drift_ppm
    }

    /// The same proportions for a session that declared another duration: a resumed session keeps
    /// the one it has, a changed setting takes effect with the next.
    ///
    /// # Errors
    /// When the declared duration is out of range.
    pub fn for_session_of(&self, duration: Duration) -> Result<Self, LeaseError> {
        if duration == self.duration {
            return Ok(*self);
        }
        Self::with(duration, None, None, Some(self.drift_ppm))
    }

    /// `L(1 - rho)`: how long a renewal lets its sender hold, from before it was sent (rule 1).
    pub fn holding(&self) -> Duration {
        self.duration - self.margin(self.duration)
    }

    /// `L(1 + rho)` of another's session that declared `duration`: how long its silence lasts
    /// until it may be expired, from when its last write was heard of (rule 3).
    pub fn patience(&self, duration: Duration) -> Duration {
        duration + self.margin(duration)
    }

    fn margin(&self, duration: Duration) -> Duration {
        let nanos = u128::from(self.drift_ppm) * duration.as_nanos();
        let rounded_up = nanos.div_ceil(u128::from(PPM));
        Duration::from_nanos(u64::try_from(rounded_up).unwrap_or(u64::MAX))
    }
}

/// The lifetime, in seconds, with which an address goes to the kernel at `now` when it must be
/// silent at `deadline`; none when it must not go there at all (2.8).
///
/// Beside the fence the lifetime only cleans up: what is left, rounded up. As the proof itself it
/// must end before the deadline although the kernel is up to a second late.
pub fn lifetime_secs(backstop: Backstop, deadline: Instant, now: Instant) -> Option<u32> {
    let left = deadline.since(now);
    let secs = match backstop {
        Backstop::Fence => left.as_nanos().div_ceil(1_000_000_000),
        Backstop::Lifetime => u128::from(left.saturating_sub(Duration::from_secs(1)).as_secs()),
    };
    u32::try_from(secs).ok().filter(|&secs| secs > 0)
}

#[cfg(test)]
mod tests {
    use super::*;

    const SECOND: Duration = Duration::from_secs(1);

    #[test]
    fn the_default_proportions_are_those_of_the_design() {
        let lease = Lease::new(3 * SECOND).unwrap();
        assert_eq!(lease.renew(), Duration::from_millis(500));
        assert_eq!(lease.guard(), Duration::from_millis(200));
        assert_eq!(lease.holding(), Duration::from_millis(2970));
        assert_eq!(lease.patience(3 * SECOND), Duration::from_millis(3030));
    }

    #[test]
    fn the_slowest_holder_ends_before_the_fastest_waiter() {
        for drift_ppm in [500, 10_000, 100_000] {
            for millis in [200, 601, 3_000, 599_999] {
                let duration = Duration::from_millis(millis);
                let Ok(lease) = Lease::with(duration, None, None, Some(drift_ppm)) else {
                    panic!("{millis} ms at {drift_ppm} ppm")
                };
                let (ppm, drift) = (u128::from(PPM), u128::from(drift_ppm));
                let held_for = lease.holding().as_nanos() * ppm * (ppm + drift);
                let waited_for = lease.patience(duration).as_nanos() * ppm * (ppm - drift);
                assert!(held_for <= waited_for);
            }
        }
    }

    #[test]
    fn a_lease_that_one_lost_renewal_would_cost_is_refused() {
        let renew = Some(Duration::from_millis(950));
        assert!(matches!(
            Lease::with(3 * SECOND, renew, None, None),
            Err(LeaseError::RenewTooLong { .. })
        ));
    }

    #[test]
    fn a_drift_margin_below_what_clocks_do_is_refused() {
        let refused = Lease::with(3 * SECOND, None, None, Some(0));
        assert_eq!(refused, Err(LeaseError::DriftOutOfRange(0)));
    }

    #[test]
    fn a_guard_of_more_than_half_the_lease_is_refused() {
        let guard = Some(2 * SECOND);
        assert!(matches!(
            Lease::with(3 * SECOND, None, guard, None),
            Err(LeaseError::GuardTooLong { .. })
        ));
    }

    #[test]
    fn lifetimes_alone_need_four_seconds() {
        let refused = Lease::new(3 * SECOND).unwrap().check_backstop(Backstop::Lifetime);
        assert!(matches!(refused, Err(LeaseError::TooShortForLifetimes(_))));
        assert_eq!(Lease::new(4 * SECOND).unwrap().check_backstop(Backstop::Lifetime), Ok(()));
    }

    #[test]
    fn a_lifetime_rounds_up_beside_the_fence_and_ends_early_as_the_proof() {
        let now = Instant::from_nanos(1_000);
        let deadline = now + Duration::from_millis(2_970);
        assert_eq!(lifetime_secs(Backstop::Fence, deadline, now), Some(3));
        assert_eq!(lifetime_secs(Backstop::Lifetime, deadline, now), Some(1));
    }

    #[test]
    fn nothing_is_added_with_less_than_a_second_of_proof_or_after_the_deadline() {
        let now = Instant::from_nanos(1_000);
        let deadline = now + Duration::from_millis(1_999);
        assert_eq!(lifetime_secs(Backstop::Lifetime, deadline, now), None);
        assert_eq!(lifetime_secs(Backstop::Fence, now, now), None);
    }
}
