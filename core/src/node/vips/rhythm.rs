//! When a VIP that stays is announced again: each at its own time (rule 8.16).

use std::time::Duration;

use xxhash_rust::xxh3::xxh3_64;

use crate::name::VipName;
use crate::time::Instant;

/// The interval has so many parts, and a VIP its place in one of them: a thousand VIPs that were taken at
/// once are no burst then, and ten thousand wake the node no more often than this in an interval.
const PARTS: u64 = 60;

/// When the VIP is announced next, later than `now`. It depends on nothing else, so to ask twice gives no
/// second announcement, and one host's VIPs are spread alike after every take-over.
pub(super) fn next(every: Duration, vip: &VipName, now: Instant) -> Instant {
    let every = u64::try_from(every.as_nanos()).unwrap_or(u64::MAX).max(PARTS);
    let offset = xxh3_64(vip.as_str().as_bytes()) % PARTS * (every / PARTS);
    let passed = now.as_nanos().checked_sub(offset).map_or(0, |since| since / every + 1);
    Instant::from_nanos(offset.saturating_add(passed.saturating_mul(every)))
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use super::*;

    const MINUTE: Duration = Duration::from_secs(60);

    fn vip(number: u32) -> VipName {
        format!("v{number}").parse().unwrap()
    }

    #[test]
    fn the_next_time_is_later_by_an_interval_at_most_and_then_again_by_a_whole_one() {
        for now in [0, 1, 59_999_999_999, 60_000_000_000, 1_234_567_890_123] {
            let now = Instant::from_nanos(now);
            for number in 0..100 {
                let first = next(MINUTE, &vip(number), now);
                assert!(first > now && first <= now + MINUTE, "{first:?} after {now:?}");
                assert_eq!(next(MINUTE, &vip(number), first), first + MINUTE);
                assert_eq!(next(MINUTE, &vip(number), first - Duration::from_nanos(1)), first);
            }
        }
    }

    #[test]
    fn a_thousand_vips_are_spread_over_the_interval() {
        let now = Instant::from_nanos(77);
        let mut at_once: BTreeMap<Instant, u32> = BTreeMap::new();
        for number in 0..1_000 {
            *at_once.entry(next(MINUTE, &vip(number), now)).or_default() += 1;
        }
        assert_eq!(at_once.len(), 60, "each second has some");
        let most = at_once.values().max().unwrap();
        assert!(*most <= 40, "{most} of them at once, where 17 would be even");
    }
}
