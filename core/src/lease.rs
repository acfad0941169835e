//! The lease and every other duration of the protocol: how long a holder may hold, how long others
//! must wait, how often things are tried again.
//!
//! Every comparison of two hosts' times is here. A holder counts `L(1 - rho)` from before it sent
//! the renewal; another counts `L(1 + rho)` from after it heard of it. With clocks whose rates
//! are within `rho` of true time (A1), the first never ends after the second.
//!
//! Only the holding time and the patience are about safety. The other durations are about how soon
//! an address is back, and how steady it is; those that depend on each other are derived from each
//! other here, or a test below says how they are related.

use std::fmt;
use std::time::Duration;

use crate::time::Instant;

const PPM: u64 = 1_000_000;

/// When an address is announced again after the first time: neighbours miss one, and a switch may
/// just have come up.
pub(crate) const ANNOUNCE_AGAIN_AFTER: [Duration; 2] =
    [Duration::from_secs(1), Duration::from_secs(3)];
/// How often an address that stays is announced again, unless configured otherwise (rule 8.16): a router
/// may know a neighbour for twenty minutes, and a switch that starts again knows nobody.
pub const ANNOUNCE_EVERY: Duration = Duration::from_secs(60);
/// How long after an address was announced against another machine's claim it is not announced against the
/// next one (rule 8.18): RFC 5227 calls it DEFEND_INTERVAL. Else two that defend would flood the network.
pub const DEFEND_AGAIN_AFTER: Duration = Duration::from_secs(10);
/// How long a machine that claimed an address must have been silent until its next claim is reported again
/// (rule 8.18).
pub const CONFLICT_OVER_AFTER: Duration = Duration::from_secs(600);
/// How long a removal that the kernel refused waits for the next.
pub(crate) const REMOVE_AGAIN_AFTER: Duration = Duration::from_millis(100);
/// How long a listing that failed waits for the next.
pub(crate) const LIST_AGAIN_AFTER: Duration = Duration::from_secs(1);
/// How long a VIP is left alone at most after the kernel refused it.
const BACK_OFF_MAX: Duration = Duration::from_secs(60);
/// For how long what fell twice must be well until that is believed; twice that for each further time,
/// up to the longest (rules 7.7 and 11.3).
const HOLD_DOWN: Duration = Duration::from_secs(10);
const HOLD_DOWN_MAX: Duration = Duration::from_secs(600);
/// Being well for so long takes one such time back.
pub(crate) const FALL_FORGOTTEN_AFTER: Duration = Duration::from_secs(600);
/// How soon the others are told that a check fails for another reason than it did.
pub(crate) const REASON_AGAIN_AFTER: Duration = Duration::from_secs(60);
/// A snapshot may take this long at least, at the first attempt.
const SNAPSHOT_TIME_MIN: Duration = Duration::from_millis(100);
/// The time that a snapshot may take is doubled up to this, or up to [`SNAPSHOT_RENEWS`] where that is
/// longer: it can be large. No longer, for in an outage the attempt under way is in vain.
const SNAPSHOT_TIME_MAX: Duration = Duration::from_secs(2);
/// The longest time that a snapshot may take, in renew intervals.
const SNAPSHOT_RENEWS: u32 = 8;
/// For how long a session may go on without a write in the store, and how long a host that is not
/// listed waits before it expires one (rule 10.7).
pub const WITHOUT_STORE: Duration = Duration::from_secs(24 * 60 * 60);
/// How much more seldom the etcd member is asked when no VIP follows it.
const MEMBER_SELDOM: u32 = 10;
/// Among so many nodes heartbeats are made twice as often: among more their number would weigh on each.
pub(crate) const FEW_NODES: usize = 10;

/// How long a VIP is left alone after the kernel refused it `refusals` times in a row before: 1 s,
/// doubling up to a minute (rule 7.3).
pub(crate) fn back_off(refusals: u32) -> Duration {
    Duration::from_secs(1 << refusals.min(6)).min(BACK_OFF_MAX)
}

/// For how long what has fallen so many times lately must be well until that is believed: the first time
/// counts for nothing, the second for 10 s, and each further one for twice that, up to ten minutes (rules
/// 7.7 and 11.3).
pub fn hold_down(falls: u32) -> Duration {
    match falls.checked_sub(2) {
        None => Duration::ZERO,
        Some(more) => (HOLD_DOWN * (1 << more.min(6))).min(HOLD_DOWN_MAX),
    }
}

/// After an outage of the store another node gets so long to be heard before it may be expired (rule
/// 3), a twelfth of the `patience` with it: it sends a renewal within an eighteenth of its lease
/// ([`Lease::unanswered_delay`]), and that takes as long as the own one that was just answered.
pub(crate) fn grace(patience: Duration) -> Duration {
    patience / 12
}

/// How long a node may take, by what its heartbeats say, to hear that a VIP was named for its session of
/// that lease (rule 10.10). Twice, because the store is written once a lease while all is well, and
/// only then an outage is noticed.
pub(crate) fn hearing_time(lease: Duration) -> Duration {
    2 * lease
}

/// How long no heartbeat of another node need have come until it is told so, with the shorter of both leases
/// (rule 10.4): two heartbeats in a row may be late or lost, at the longest interval.
pub(crate) fn unheard_time(lease: Duration) -> Duration {
    lease * 2 / 5
}

/// How long ago a heartbeat may have been made that all have acknowledged, and nothing is amiss, where one
/// is made every `interval`: the acknowledgement comes with the other's next one, and one datagram may be
/// lost.
pub(crate) fn consent_time(interval: Duration) -> Duration {
    3 * interval + interval / 4
}

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
    /// The shortest lease where the kernel's expiry of addresses is the backstop (rule 8.8).
    pub const DURATION_MIN_BY_LIFETIME: Duration = Duration::from_secs(4);
    /// The shortest renew interval.
    pub const RENEW_MIN: Duration = Duration::from_millis(20);
    /// The shortest guard.
    pub const GUARD_MIN: Duration = Duration::from_millis(5);
    /// The smallest and the largest drift margin, in parts per million.
    pub const DRIFT_PPM_MIN: u32 = 500;
    /// See [`Lease::DRIFT_PPM_MIN`].
    pub const DRIFT_PPM_MAX: u32 = 100_000;
    /// 1 %.
    pub const DRIFT_PPM_DEFAULT: u32 = 10_000;

    /// A lease of `duration` with the default proportions: renewed every sixth of it, a fifteenth
    /// kept as guard, 1 % for drift.
    ///
    /// # Errors
    /// When `duration` is out of range.
    pub fn new(duration: Duration) -> Result<Self, LeaseError> {
        Self::with(duration, None, None, None)
    }

    /// A lease with some of its proportions given; the others are the default ones.
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
        if !(Self::DRIFT_PPM_MIN..=Self::DRIFT_PPM_MAX).contains(&self.drift_ppm) {
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

    /// The lease of a session that an earlier process declared with another duration: a changed
    /// setting takes effect with the next session (rule 1.6). The proportions that are configured
    /// stay; where they do not fit the declared duration, they are the default ones.
    ///
    /// # Errors
    /// When the declared duration is out of range.
    pub fn for_session_of(&self, duration: Duration) -> Result<Self, LeaseError> {
        if duration == self.duration {
            return Ok(*self);
        }
        let scaled = |part: Duration| {
            let nanos = part.as_nanos() * duration.as_nanos() / self.duration.as_nanos();
            Some(Duration::from_nanos(u64::try_from(nanos).unwrap_or(u64::MAX)))
        };
        let drift_ppm = Some(self.drift_ppm);
        Self::with(duration, scaled(self.renew), scaled(self.guard), drift_ppm)
            .or_else(|_| Self::with(duration, None, None, drift_ppm))
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

    /// `E(1 - rho)`: how long the newest write in the store lets its sender hold at most, whoever
    /// acknowledges its heartbeats (rule 10.7).
    pub(crate) fn holding_without_store(&self, longest: Duration) -> Duration {
        longest - self.margin(longest)
    }

    // ---- what follows from them, for liveness

    /// How often heartbeats are made (rule 10.3). Four and a quarter intervals after a heartbeat was made the
    /// store is written again at the latest, if not all have acknowledged a later one: that must be
    /// answered while addresses are still there. By lifetimes the last two seconds are of no use.
    ///
    /// Among few hosts twice as often, so that the newest consent is no older than a renewal would be.
    pub(crate) fn beat_interval(&self, backstop: Backstop, nodes: usize) -> Duration {
        let coarse = match backstop {
            Backstop::Fence => Duration::ZERO,
            Backstop::Lifetime => Duration::from_secs(2),
        };
        let of_use = self.holding().saturating_sub(self.guard + coarse);
        let interval = if nodes <= FEW_NODES { self.renew / 2 } else { self.renew };
        interval.min(of_use * 2 / 11).max(Self::RENEW_MIN)
    }

    /// How often the session is renewed while everybody acknowledges: a renewal only shows then that the
    /// store is there, and is made at once when an acknowledgement is missing.
    pub(crate) fn renew_at_ease(&self) -> Duration {
        self.duration
    }

    /// How long after a renewal without an answer the next one is sent: no longer than a third of
    /// the default interval, whatever the node's own is, for the others count on it when an outage
    /// ends (see [`grace`]).
    pub(crate) fn unanswered_delay(&self) -> Duration {
        self.renew.min(self.duration / 6) / 3
    }

    /// How long an own renewal may take to come back on the watch, and how long the watch may be in
    /// doubt before renewing stops (rules 9.2
    /// and 9.3).
    pub(crate) fn echo_time(&self) -> Duration {
        2 * self.renew
    }

    /// How long a snapshot may take after `tries` attempts in a row without one: at first half of the
    /// time in which renewing goes on without news, so that a member that does not answer, in an
    /// election for instance, leaves time for another one.
    pub(crate) fn snapshot_time(&self, tries: u32) -> Duration {
        let longest = SNAPSHOT_TIME_MAX.max(SNAPSHOT_RENEWS * self.renew);
        (self.renew.max(SNAPSHOT_TIME_MIN) * (1 << tries.min(8))).min(longest)
    }

    /// A delay for things that failed: long enough not to flood, short enough to matter in a lease.
    pub(crate) fn retry_delay(&self) -> Duration {
        self.renew / 3
    }

    /// The same for what an operator asked for.
    pub(crate) fn urgent_retry_delay(&self) -> Duration {
        self.retry_delay() / 8
    }

    /// Between one rank's claim of a free VIP and the next.
    pub(crate) fn claim_delay(&self) -> Duration {
        self.renew / 2
    }

    /// How long another node must be the preferred one before a VIP moves to it.
    ///
    /// As long as a lease, because what makes it the preferred one often shakes the store too: a
    /// member that returns from a cut may depose etcd's leader, and that election must be over.
    pub(crate) fn settling_delay(&self) -> Duration {
        self.duration
    }

    /// How recently a renewal must have been answered for a move that can wait.
    pub(crate) fn fresh_answer(&self) -> Duration {
        self.renew / 10
    }

    /// How long a node with `lease` may be silent and still look alive: a VIP that is handed to one
    /// that is about to run out would be dark until then. Its renew interval is taken to be ours.
    pub(crate) fn alive_within(&self, lease: Duration) -> Duration {
        (self.renew * 3 / 2).max(lease / 4)
    }

    /// How often the local etcd member is asked whether it leads.
    pub(crate) fn member_interval(&self, a_vip_follows_it: bool) -> Duration {
        if a_vip_follows_it { self.renew } else { MEMBER_SELDOM * self.renew }
    }

    fn margin(&self, duration: Duration) -> Duration {
        let nanos = u128::from(self.drift_ppm) * duration.as_nanos();
        let rounded_up = nanos.div_ceil(u128::from(PPM));
        Duration::from_nanos(u64::try_from(rounded_up).unwrap_or(u64::MAX))
    }
}

/// The lifetime, in seconds, with which an address goes to the kernel at `now` when it must be
/// silent at `deadline`; none when it must not go there at all (rules 8.7
/// and 8.8).
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

/// The durations of a session with `lease`, by the names that they have in `core/PROTOCOL.md`: a test
/// holds the table there against these.
#[doc(hidden)]
pub fn by_name(lease: &Lease) -> Vec<(&'static str, Vec<Duration>)> {
    let duration = lease.duration();
    vec![
        ("lease `L`", vec![duration]),
        ("renew interval `r`", vec![lease.renew()]),
        ("guard `g`", vec![lease.guard()]),
        ("holding", vec![lease.holding()]),
        ("patience", vec![lease.patience(duration)]),
        ("unanswered renewal", vec![lease.unanswered_delay()]),
        ("grace", vec![grace(lease.patience(duration))]),
        ("heard lately", vec![lease.alive_within(duration)]),
        ("settling delay", vec![lease.settling_delay()]),
        ("just answered", vec![lease.fresh_answer()]),
        ("heartbeat interval", vec![lease.beat_interval(Backstop::Fence, 3)]),
        ("age of consent", vec![consent_time(lease.beat_interval(Backstop::Fence, 3))]),
        ("unheard", vec![unheard_time(duration)]),
        ("hearing", vec![hearing_time(duration)]),
        ("renewal at ease", vec![lease.renew_at_ease()]),
        ("without the store", vec![WITHOUT_STORE]),
        ("claim delay", vec![lease.claim_delay()]),
        ("retry delay", vec![lease.retry_delay()]),
        ("operator's retry delay", vec![lease.urgent_retry_delay()]),
        ("echo, stale", vec![lease.echo_time()]),
        ("snapshot", vec![lease.snapshot_time(0), lease.snapshot_time(u32::MAX)]),
        ("member's interval", vec![lease.member_interval(true), lease.member_interval(false)]),
        ("refused removal", vec![REMOVE_AGAIN_AFTER]),
        ("failed listing", vec![LIST_AGAIN_AFTER]),
        ("back-off", vec![back_off(0), back_off(u32::MAX)]),
        ("hold-down", vec![hold_down(2), hold_down(u32::MAX)]),
        ("a fall forgotten", vec![FALL_FORGOTTEN_AFTER]),
        ("another reason", vec![REASON_AGAIN_AFTER]),
        ("announcements", [&ANNOUNCE_AGAIN_AFTER[..], &[ANNOUNCE_EVERY]].concat()),
        ("defence", vec![DEFEND_AGAIN_AFTER]),
        ("conflict over", vec![CONFLICT_OVER_AFTER]),
    ]
}

#[cfg(test)]
mod tests {
    use super::*;

    const SECOND: Duration = Duration::from_secs(1);

    #[test]
    fn the_default_proportions_are_a_sixth_and_a_fifteenth() {
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
    fn after_an_outage_there_is_time_for_the_next_renewal_of_everybody_and_for_its_answer() {
        for renew in [None, Some(Duration::from_millis(50)), Some(Duration::from_millis(920))] {
            let lease = Lease::with(3 * SECOND, renew, None, None).unwrap();
            let sent_within = lease.unanswered_delay();
            assert!(sent_within <= lease.duration() / 18);
            assert!(grace(lease.patience(lease.duration())) >= sent_within + lease.duration() / 36);
        }
    }

    #[test]
    fn a_member_that_does_not_answer_leaves_time_to_follow_another_and_a_large_snapshot_gets_its_own()
     {
        let lease = Lease::new(SECOND).unwrap();
        assert!(lease.snapshot_time(0) < lease.echo_time());
        assert_eq!(lease.snapshot_time(u32::MAX), 2 * SECOND);
        assert_eq!(Lease::new(3 * SECOND).unwrap().snapshot_time(9), 4 * SECOND);
    }

    #[test]
    fn who_renews_as_rarely_as_allowed_looks_alive_between_two_renewals() {
        let rarely = Lease::with(3 * SECOND, Some(Duration::from_millis(920)), None, None).unwrap();
        assert!(rarely.alive_within(3 * SECOND) > rarely.renew());
        assert!(rarely.alive_within(3 * SECOND) < rarely.holding());
    }

    /// Rule 10.11.
    #[test]
    fn when_an_acknowledgement_is_missing_there_is_time_to_write_the_store_instead() {
        let ms = Duration::from_millis;
        let second = Some(SECOND);
        for (duration, renew, guard) in
            [(3_000, None, None), (3_000, Some(ms(800)), None), (3_000, Some(ms(500)), second)]
        {
            let lease = Lease::with(ms(duration), renew, guard, None).unwrap();
            let interval = lease.beat_interval(Backstop::Fence, FEW_NODES + 1);
            // The heartbeat that shows it may come just before it shows.
            let written = consent_time(interval) + interval;
            assert!(written + interval <= lease.holding() - lease.guard());
            assert!(interval <= lease.renew());
        }
        let lease = Lease::new(ms(4_000)).unwrap();
        let interval = lease.beat_interval(Backstop::Lifetime, FEW_NODES + 1);
        let left = lease.holding() - consent_time(interval) - interval;
        assert!(left > lease.guard() + ms(2_000) + interval, "a lifetime is left");
    }

    #[test]
    fn a_session_that_is_resumed_with_another_duration_keeps_the_configured_proportions() {
        let ms = Duration::from_millis;
        let configured = Lease::with(ms(10_000), Some(ms(2_000)), Some(ms(1_000)), None).unwrap();
        let resumed = configured.for_session_of(ms(3_000)).unwrap();
        assert_eq!((resumed.renew(), resumed.guard()), (ms(600), ms(300)));
        assert_eq!(resumed.holding(), ms(2_970));
        let tiny = Lease::with(ms(10_000), Some(ms(30)), Some(ms(50)), None).unwrap();
        let resumed = tiny.for_session_of(ms(300)).unwrap();
        assert_eq!((resumed.renew(), resumed.guard()), (ms(50), ms(20)), "the default ones");
        assert!(configured.for_session_of(ms(1)).is_err());
    }

    #[test]
    fn the_wait_after_a_refusal_doubles_up_to_a_minute() {
        let waits: Vec<u64> = (0..8).map(|refusals| back_off(refusals).as_secs()).collect();
        assert_eq!(waits, [1, 2, 4, 8, 16, 32, 60, 60]);
    }

    #[test]
    fn a_machine_that_is_heard_at_every_announcement_is_one_conflict_and_not_many() {
        assert!(CONFLICT_OVER_AFTER > 3 * ANNOUNCE_EVERY, "two answers in a row may be lost");
        assert!(CONFLICT_OVER_AFTER > DEFEND_AGAIN_AFTER);
        let first = ANNOUNCE_AGAIN_AFTER.iter().max().unwrap();
        assert!(*first < DEFEND_AGAIN_AFTER && *first < ANNOUNCE_EVERY);
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
