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
