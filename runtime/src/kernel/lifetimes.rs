//! When the kernel will remove each address by itself, beside the fence.
//!
//! The fence is what silences; the lifetime only cleans up. But renewing one costs a walk through
//! the kernel's list of addresses, so with many of them it is given longer and renewed seldom.

use std::collections::HashMap;
use std::time::Duration;

use turnip_core::{Assignment, Instant};

use super::address::Slot;

/// Up to so many are renewed with every renewal of the session: some 2 ms of the kernel's time.
const FEW: usize = 256;
/// So many are renewed at most with one renewal of the session, unless they would end.
const AT_ONCE: usize = 512;

/// How much longer than the lease the kernel keeps each of `count` addresses, in seconds: renewing
/// them all within half of that costs at most some 3 % of a core (10,000 of them take 1.3 s).
pub(super) fn slack_secs(count: usize) -> u32 {
    if count <= FEW {
        return 0;
    }
    u32::try_from(count * count / 1_200_000).unwrap_or(u32::MAX).max(10)
}

/// When each address ends.
#[derive(Default)]
pub(super) struct Lifetimes(HashMap<Slot, Instant>);

impl Lifetimes {
    /// Takes note that the address was given `secs` more seconds after `before`.
    pub fn set(&mut self, slot: Slot, before: Instant, secs: u32) {
        self.0.insert(slot, before + Duration::from_secs(secs.into()));
    }

    /// How many addresses there are.
    pub fn count(&self) -> usize {
        self.0.len()
    }

    /// Takes note that the address is gone.
    pub fn forget(&mut self, slot: Slot) {
        self.0.remove(&slot);
    }

    /// Those that must be renewed now: all that would end before `deadline`; and, so that these
    /// never come all at once, some of those whose slack is half spent, the nearest end first.
    pub fn due(
        &self,
        slots: Vec<(Assignment, Slot)>,
        deadline: Instant,
        slack_secs: u32,
    ) -> Vec<(Assignment, Slot)> {
        let half_spent = deadline + Duration::from_secs(slack_secs.into()) / 2;
        let mut due: Vec<_> = slots
            .into_iter()
            .map(|one| (self.0.get(&one.1).copied().unwrap_or(Instant::ZERO), one))
            .filter(|(ends, _)| *ends < half_spent)
            .collect();
        due.sort_by_key(|(ends, _)| *ends);
        let must = due.partition_point(|(ends, _)| *ends < deadline);
        due.truncate(must.max(AT_ONCE));
        due.into_iter().map(|(_, one)| one).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn slots(count: u32) -> Vec<(Assignment, Slot)> {
        let one = |host: u32| {
            let address: std::net::Ipv4Addr = host.into();
            let address = ipnet::IpNet::new(address.into(), 32).unwrap();
            let vip = "v".parse().unwrap();
            (Assignment { vip, interface: "lo".into(), address }, Slot { index: 1, address })
        };
        (0..count).map(one).collect()
    }

    #[test]
    fn few_addresses_end_within_a_second_after_the_deadline() {
        assert_eq!(slack_secs(FEW), 0);
        let mut lifetimes = Lifetimes::default();
        let start = Instant::from_nanos(1);
        for (_, slot) in slots(1) {
            lifetimes.set(slot, start, 3);
        }
        let later = start + Duration::from_millis(3_470);
        assert_eq!(lifetimes.due(slots(1), later, 0).len(), 1);
        assert_eq!(lifetimes.due(slots(1), start + Duration::from_secs(3), 0).len(), 0);
    }

    #[test]
    fn ten_thousand_addresses_are_renewed_some_at_a_time() {
        let slack = slack_secs(10_000);
        let mut lifetimes = Lifetimes::default();
        let start = Instant::from_nanos(1);
        for (_, slot) in slots(10_000) {
            lifetimes.set(slot, start, slack + 3);
        }
        let soon = start + Duration::from_secs(4);
        assert_eq!(lifetimes.due(slots(10_000), soon, slack).len(), 0);
        let half = start + Duration::from_secs((slack / 2 + 4).into());
        assert_eq!(lifetimes.due(slots(10_000), half, slack).len(), AT_ONCE);
        let over = start + Duration::from_secs((slack + 4).into());
        assert_eq!(lifetimes.due(slots(10_000), over, slack).len(), 10_000);
    }
}
