//! What goes on with each renewal of the session, and when the kernel will remove it by itself.
//!
//! Beside the fence a lifetime only cleans up: it is the fence that silences. But renewing one
//! costs a walk through the kernel's list of addresses, so with many of them it is given longer
//! and renewed seldom. Without the fence the lifetimes are the proof, and each renewal of the
//! session renews them all.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;

use ipnet::IpNet;

use crate::kernel::Assignment;
use crate::name::VipName;
use crate::time::Instant;

/// So many are renewed at most with one renewal of the session, unless they would end.
const AT_ONCE: usize = 512;
/// The slack of addresses is so many times what it takes to renew them. They are renewed when half
/// of it is spent, so that this costs at most 2.5 % of a core.
const SLACK_OF_COST: u32 = 80;

/// How much longer than the lease the kernel keeps each of `count` addresses at least.
///
/// What the fence has silenced is gone after that, up to a second more because lifetimes count
/// whole seconds, and up to another because the kernel looks once a second: within 2 s where
/// addresses are few, 2.3 s of 100, 5.2 s of 1,000, two minutes of 10,000. In return, with a lease
/// of 3 s, a few are renewed twice a second and 100 once.
pub(super) fn slack(count: usize) -> Duration {
    SLACK_OF_COST * cost(count)
}

/// How long renewing `count` addresses takes, once each: 30 µs, and a walk through those on the
/// interface.
fn cost(count: usize) -> Duration {
    let count = count as u64;
    Duration::from_nanos(count * (30_000 + 10 * count))
}

/// An interface's name and an address with prefix length: what the kernel knows an address by.
pub(super) type Place = (Arc<str>, IpNet);

/// Where an assignment is.
pub(super) fn place(assignment: &Assignment) -> Place {
    (Arc::clone(&assignment.interface), assignment.address)
}

/// The addresses that go on, in the order in which their lifetimes end.
#[derive(Clone, PartialEq, Eq, Hash, Debug, Default)]
pub(super) struct Lifetimes {
    kept: BTreeMap<Place, (VipName, Instant)>,
    order: BTreeSet<(Instant, Place)>,
}

impl Lifetimes {
    /// Takes note that the address is there until `ends` at the least, as far as is known.
    pub(super) fn set(&mut self, assignment: &Assignment, ends: Instant) {
        let place = place(assignment);
        let new = (assignment.vip.clone(), ends);
        if let Some((_, before)) = self.kept.insert(place.clone(), new) {
            self.order.remove(&(before, place.clone()));
        }
        self.order.insert((ends, place));
    }

    /// The address does not go on; whether it did.
    pub(super) fn forget(&mut self, place: &Place) -> bool {
        let Some((_, ends)) = self.kept.remove(place) else { return false };
        self.order.remove(&(ends, place.clone()))
    }

    /// How many go on.
    pub(super) fn count(&self) -> usize {
        self.kept.len()
    }

    /// Whether the address goes on.
    pub(super) fn contains(&self, place: &Place) -> bool {
        self.kept.contains_key(place)
    }

    /// Those that must be renewed now: all that would end before `deadline`; and, so that these
    /// never come all at once, some of those whose slack is half spent, the nearest end first.
    pub(super) fn due(&self, deadline: Instant, slack: Duration) -> Vec<Assignment> {
        let half_spent = deadline + slack / 2;
        let soon = self.order.iter().take_while(|(ends, _)| *ends < half_spent);
        let due = soon.enumerate().take_while(|(n, (ends, _))| *ends < deadline || *n < AT_ONCE);
        due.filter_map(|(_, (_, place))| self.assignment(place)).collect()
    }

    /// All that go on.
    pub(super) fn all(&self) -> Vec<Assignment> {
        self.kept.keys().filter_map(|place| self.assignment(place)).collect()
    }

    fn assignment(&self, place: &Place) -> Option<Assignment> {
        let (vip, _) = self.kept.get(place)?;
        let (interface, address) = place.clone();
        Some(Assignment { vip: vip.clone(), interface, address })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::lease::{self, Backstop, Lease};

    fn addresses(count: u32) -> Vec<Assignment> {
        let (vip, interface) = ("v".parse::<VipName>().unwrap(), Arc::from("lo"));
        let one = |host: u32| {
            let address: std::net::Ipv4Addr = host.into();
            let address = IpNet::new(address.into(), 32).unwrap();
            let (vip, interface) = (vip.clone(), Arc::clone(&interface));
            Assignment { vip, interface, address }
        };
        (0..count).map(one).collect()
    }

    /// What a while of renewals, each answered after some ms, makes of `count` addresses.
    struct Renewed {
        /// How often each address was renewed, a second.
        rate: f64,
        /// The share of a core that this takes.
        load: f64,
        /// How many were renewed at once at most.
        at_once_max: usize,
        /// How long after a deadline a lifetime that was given for it ended at most.
        outlived_max: Duration,
    }

    fn renew_for_a_while(count: u32) -> Renewed {
        let session = Lease::new(Duration::from_secs(3)).unwrap();
        let slack = slack(count as usize);
        let mut lifetimes = Lifetimes::default();
        for one in addresses(count) {
            lifetimes.set(&one, Instant::ZERO);
        }
        let renewals = 300;
        let (mut renewed, mut at_once_max, mut outlived_max) = (0, 0, Duration::ZERO);
        for turn in 0..renewals {
            let made = Instant::from_nanos(1) + session.renew() * turn;
            let (deadline, now) = (made + session.holding(), made + Duration::from_millis(4));
            let due = lifetimes.due(deadline, slack);
            if turn > 0 {
                renewed += due.len();
                at_once_max = at_once_max.max(due.len());
            }
            for one in due {
                let secs = lease::lifetime_secs(Backstop::Fence, deadline + slack, now).unwrap();
                let ends = now + Duration::from_secs(secs.into());
                lifetimes.set(&one, ends);
                outlived_max = outlived_max.max(ends.since(deadline));
            }
            assert!(
                lifetimes.kept.values().all(|(_, ends)| *ends >= deadline),
                "{count} in turn {turn}"
            );
        }
        let time = (session.renew() * renewals).as_secs_f64();
        let each = cost(count as usize).as_secs_f64() / f64::from(count);
        let rate = renewed as f64 / f64::from(count) / time;
        Renewed { rate, load: renewed as f64 * each / time, at_once_max, outlived_max }
    }

    #[test]
    fn a_few_addresses_end_within_a_second_after_the_deadline() {
        for count in [1, 5, 10] {
            let renewed = renew_for_a_while(count);
            assert!(renewed.outlived_max < Duration::from_secs(1), "{:?}", renewed.outlived_max);
            assert!(renewed.load < 0.001, "{}", renewed.load);
        }
    }

    #[test]
    fn a_hundred_are_renewed_once_a_second_and_end_hardly_later() {
        let renewed = renew_for_a_while(100);
        assert!(renewed.rate <= 1.01, "{}", renewed.rate);
        assert!(renewed.outlived_max < Duration::from_millis(1_250), "{:?}", renewed.outlived_max);
    }

    #[test]
    fn no_number_of_addresses_costs_more_than_some_percent_of_a_core() {
        for count in [100, 256, 512, 1_000, 2_000] {
            let load = renew_for_a_while(count).load;
            assert!(load <= 0.025, "{count}: {load}");
        }
    }

    #[test]
    fn a_thousand_end_within_some_seconds_after_the_deadline() {
        let outlived_max = renew_for_a_while(1_000).outlived_max;
        assert!(outlived_max < Duration::from_secs(5), "{outlived_max:?}");
    }

    #[test]
    fn thousands_of_addresses_are_renewed_some_at_a_time() {
        let renewed = renew_for_a_while(5_000);
        assert!(renewed.at_once_max == AT_ONCE && renewed.load <= 0.025, "{}", renewed.load);
    }

    #[test]
    fn what_would_end_before_the_deadline_is_renewed_however_much_it_is() {
        let slack = slack(10_000);
        let mut lifetimes = Lifetimes::default();
        let start = Instant::from_nanos(1);
        for one in addresses(10_000) {
            lifetimes.set(&one, start + Duration::from_secs(3));
        }
        let over = start + Duration::from_secs(4);
        assert_eq!(lifetimes.due(over, slack).len(), 10_000);
    }
}
