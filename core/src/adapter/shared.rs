//! What all jobs of the adapter work on.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use super::call::TimerRate;
use super::fence::{Fence, Gate};
use super::fence_job::Goal;
use super::fenced::Fenced;
use super::lifetimes::{self, Lifetimes, Place, place};
use super::queue::Queue;
use crate::kernel::Assignment;
use crate::lease::{self, Backstop};
use crate::mutant::Mutant;
use crate::name::VipName;
use crate::time::Instant;

/// Everything but the jobs themselves.
#[derive(Clone, PartialEq, Eq, Hash, Debug)]
pub(super) struct Shared {
    /// Every address that this node may ever be asked to put there, and whose it is.
    pub(super) configured: BTreeMap<Place, VipName>,
    pub(super) queue: Queue,
    /// None where lifetimes are the proof.
    pub(super) fence: Option<Fence>,
    /// What goes on with each `Refresh`.
    pub(super) kept: Lifetimes,
    /// What a closing of the gate left out since the last `Refresh`: it is silent.
    pub(super) left_out: BTreeSet<Assignment>,
    /// What an earlier process left has been taken over.
    pub(super) adopted: bool,
    pub(super) mutant: Option<Mutant>,
}

impl Shared {
    pub(super) fn backstop(&self) -> Backstop {
        if self.fence.is_some() { Backstop::Fence } else { Backstop::Lifetime }
    }

    pub(super) fn mutated(&self, mutant: Mutant) -> bool {
        self.mutant == Some(mutant)
    }

    /// How many of its seconds the kernel may count until `deadline`; none when it must not.
    pub(super) fn lifetime_secs(
        &self,
        deadline: Instant,
        now: Instant,
        rate: TimerRate,
    ) -> Option<u32> {
        let rounded_up = self.mutated(Mutant::LifetimeRoundedUp);
        let backstop = if rounded_up { Backstop::Fence } else { self.backstop() };
        let rate = if self.mutated(Mutant::TimerRateIgnored) { TimerRate::TRUE } else { rate };
        lease::lifetime_secs(backstop, now + rate.count(deadline.since(now)), now)
    }

    /// How much longer than the deadline lifetimes are with `more` addresses.
    pub(super) fn slack(&self, more: usize) -> Duration {
        match self.fence {
            Some(_) => lifetimes::slack(self.kept.count() + more),
            None => Duration::ZERO,
        }
    }

    /// A renewal that waits behind many addresses moves the gate already.
    pub(super) fn extension(&self) -> Option<Goal> {
        let Gate::Open(until) = self.fence.as_ref()?.gate else { return None };
        let deadline = self.queue.renewed()?;
        (deadline > until).then_some(Goal::Extend { deadline })
    }

    /// Whether the fence lets nothing pass any more.
    pub(super) fn is_shut(&self) -> bool {
        self.fence.as_ref().is_some_and(|fence| !matches!(fence.gate, Gate::Open(_)))
    }

    /// Whether nothing goes on. What an earlier process held is known to the fence before it is
    /// listed.
    pub(super) fn keeps_nothing(&self) -> bool {
        let held = self.fence.as_ref().is_some_and(|fence| !fence.holds_nothing());
        self.kept.count() == 0 && !held
    }

    /// The address is there, and goes on with each `Refresh`.
    pub(super) fn keep(&mut self, one: &Assignment, ends: Instant) {
        self.kept.set(one, ends);
        if !self.left_out.is_empty() {
            let place = place(one);
            self.left_out.retain(|other| self::place(other) != place);
        }
    }

    /// The addresses are not to go on.
    pub(super) fn forget(&mut self, addresses: &[Assignment]) {
        let places: BTreeSet<Place> = addresses.iter().map(place).collect();
        for place in &places {
            self.kept.forget(place);
        }
        if !self.left_out.is_empty() {
            self.left_out.retain(|one| !places.contains(&place(one)));
        }
    }

    /// The gate was opened for exactly `addresses`: everything else is silent.
    pub(super) fn leave_out_all_but(&mut self, addresses: &[Assignment]) {
        let let_in: BTreeSet<Fenced> = fenced(addresses).into_iter().collect();
        for one in self.kept.all() {
            if !let_in.contains(&Fenced::from(&one)) {
                self.kept.forget(&place(&one));
                self.left_out.insert(one);
            }
        }
    }

    /// Whether the fence lets the address pass, as far as it is turnip's to say.
    pub(super) fn lets_pass(&self, place: &Place) -> bool {
        let Some(fence) = &self.fence else { return true };
        !self.configured.contains_key(place) || fence.holds(&Fenced::new(&place.0, place.1.addr()))
    }
}

pub(super) fn fenced(assignments: &[Assignment]) -> Vec<Fenced> {
    assignments.iter().map(Fenced::from).collect()
}
