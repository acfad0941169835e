//! What the fence should be like, and whether it is.
//!
//! The fence knows all VIPs, those that are held, and the gate, an element that ends at the
//! deadline. A packet to or from a VIP passes only while the VIP is held *and* the gate is open. The
//! deadline is the session's and so common to all that is held: moving it costs the same for one
//! VIP and for ten thousand.

use std::collections::BTreeSet;
use std::time::Duration;

use super::call::{Change, FenceContents, GateFound, Structure};
use super::fenced::Fenced;
use super::gate::{PATIENCE_MAX, TIMEOUT_MIN};
use crate::time::Instant;

/// The gate, as far as the adapter knows.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub(super) enum Gate {
    Closed,
    /// Opened by this adapter, until then at the latest.
    Open(Instant),
    /// As an earlier process left it, open or not.
    Inherited,
    /// It was open until then, and went when the tables were made anew: its time is not over.
    Lost(Instant),
}

/// The record of what this adapter made of the fence.
#[derive(Clone, PartialEq, Eq, Hash, Debug)]
pub(super) struct Fence {
    vips: BTreeSet<Fenced>,
    /// What an earlier process fenced, is not configured any more, and may be on the host still:
    /// another host may hold it by now. Never held here.
    former: BTreeSet<Fenced>,
    held: BTreeSet<Fenced>,
    pub(super) gate: Gate,
    /// By an orderly stop: then it is not missing.
    pub(super) removed: bool,
    /// It is not known to silence all that it should: that comes before anything is let through.
    pub(super) lags: bool,
}

impl Fence {
    pub(super) fn new(vips: BTreeSet<Fenced>) -> Self {
        let (former, held) = (BTreeSet::new(), BTreeSet::new());
        Fence { vips, former, held, gate: Gate::Closed, removed: false, lags: false }
    }

    /// Takes over what an earlier process left, and gives what must be held no more. What it had
    /// as a VIP stays fenced, unless `forgets`.
    pub(super) fn inherit(&mut self, found: &FenceContents, forgets: bool) -> Vec<Fenced> {
        if found.structure == Structure::Absent {
            return Vec::new();
        }
        self.held = found.held.intersection(&self.vips).cloned().collect();
        self.gate = Gate::Inherited;
        let earlier = found.vips.union(&found.held);
        if !forgets {
            self.former = earlier.filter(|one| !self.vips.contains(one)).cloned().collect();
        }
        found.held.difference(&self.vips).cloned().collect()
    }

    /// These are the VIPs from now on. What was one stays fenced until it is gone (rule 14.3).
    pub(super) fn configure(&mut self, vips: BTreeSet<Fenced>) {
        let before = std::mem::replace(&mut self.vips, vips);
        self.former.extend(before);
        self.former.retain(|one| !self.vips.contains(one));
        self.lags = true;
    }

    /// Nothing is held and the gate is closed.
    pub(super) fn let_go(&mut self) {
        self.held.clear();
        self.gate = Gate::Closed;
    }

    pub(super) fn holds(&self, address: &Fenced) -> bool {
        self.held.contains(address)
    }

    pub(super) fn holds_nothing(&self) -> bool {
        self.held.is_empty()
    }

    /// Those of the addresses that are not held.
    pub(super) fn not_held(&self, addresses: &[Fenced]) -> Vec<Fenced> {
        addresses.iter().filter(|address| !self.held.contains(address)).cloned().collect()
    }

    /// Takes note that these are held as well; or that they alone are.
    pub(super) fn hold(&mut self, addresses: &[Fenced], alone: bool) {
        if alone {
            self.held.clear();
        }
        self.held.extend(addresses.iter().cloned());
    }

    /// Takes note that these are held no more; gives those that were.
    pub(super) fn release_held(&mut self, addresses: &[Fenced]) -> Vec<Fenced> {
        addresses.iter().filter(|address| self.held.remove(address)).cloned().collect()
    }

    /// What is fenced although it is not configured, and is not among those `present`.
    pub(super) fn former_gone(&self, present: &BTreeSet<Fenced>) -> Vec<Fenced> {
        self.former.difference(present).cloned().collect()
    }

    pub(super) fn has_former(&self) -> bool {
        !self.former.is_empty()
    }

    pub(super) fn forget_former(&mut self, gone: &[Fenced]) {
        self.former.retain(|address| !gone.contains(address));
    }

    /// The layout that keeps what is held and the gate.
    pub(super) fn layout(&self) -> Change {
        Change::Layout { vips: self.fenced() }
    }

    /// Everything but the gate, in place of whatever is there.
    pub(super) fn made_anew(&self) -> Vec<Change> {
        let mut changes = vec![Change::LayoutAnew { vips: self.fenced() }];
        if !self.held.is_empty() {
            changes.push(Change::AddHeld(self.held.iter().cloned().collect()));
        }
        changes
    }

    /// Takes note that the tables were made anew, and the gate is gone with the old ones.
    pub(super) fn lose_gate(&mut self) {
        self.removed = false;
        self.gate = match self.gate {
            Gate::Open(until) | Gate::Lost(until) if !self.held.is_empty() => Gate::Lost(until),
            _ => Gate::Closed,
        };
    }

    /// Whether what was found at `now` is as it should be.
    pub(super) fn is_as_it_should_be(&self, found: &FenceContents, now: Instant) -> bool {
        // Timeouts are set short of the deadline.
        const SURELY_OPEN: Duration = PATIENCE_MAX.saturating_add(TIMEOUT_MIN);
        let gate = match self.gate {
            Gate::Closed | Gate::Lost(_) => found.gate == GateFound::Closed,
            Gate::Open(until) if until.since(now) > SURELY_OPEN => found.gate == GateFound::Open,
            // Its time may be over, or not.
            Gate::Open(_) | Gate::Inherited => true,
        };
        let fenced =
            |address: &Fenced| self.vips.contains(address) || self.former.contains(address);
        gate && found.structure == Structure::AsMade
            && found.held == self.held
            && found.vips.len() == self.vips.len() + self.former.len()
            && found.vips.iter().all(fenced)
    }

    /// All that is silent unless it is held.
    fn fenced(&self) -> Vec<Fenced> {
        self.vips.union(&self.former).cloned().collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const NOW: Instant = Instant::from_nanos(1_000_000_000);

    fn ip(last: u8) -> Fenced {
        Fenced::Anywhere([10, 0, 0, last].into())
    }

    /// A fence with two VIPs, the first held, and one of an earlier process; and what it looks like.
    fn fence(gate: Gate, found: GateFound) -> (Fence, FenceContents) {
        let mut fence = Fence::new([ip(1), ip(2)].into());
        (fence.held, fence.former, fence.gate) = ([ip(1)].into(), [ip(9)].into(), gate);
        let vips = [ip(1), ip(2), ip(9)].into();
        let structure = Structure::AsMade;
        (fence, FenceContents { structure, vips, held: [ip(1)].into(), gate: found })
    }

    /// Rule 8.13.
    #[test]
    fn a_fence_is_as_it_should_be_with_exactly_what_is_fenced_and_held() {
        let (fence, found) = fence(Gate::Closed, GateFound::Closed);
        assert!(fence.is_as_it_should_be(&found, NOW));
        let differs = |change: fn(&mut FenceContents)| {
            let mut other = found.clone();
            change(&mut other);
            !fence.is_as_it_should_be(&other, NOW)
        };
        assert!(differs(|found| found.structure = Structure::Other));
        assert!(differs(|found| found.vips.retain(|vip| *vip != ip(9))), "a former VIP passes");
        assert!(differs(|found| found.vips.extend([ip(7)])));
        assert!(differs(|found| found.held.extend([ip(2)])));
        assert!(differs(|found| found.held.clear()));
        assert!(differs(|found| found.gate = GateFound::Open));
        assert!(differs(|found| found.gate = GateFound::Torn));
    }

    /// Rule 8.13: timeouts are set short of the deadline, so near to it the gate may be either.
    #[test]
    fn a_gate_must_be_open_long_before_its_end_and_may_be_either_shortly_before() {
        let is_right = |left_ms: u64, found: GateFound| {
            let (fence, found) = fence(Gate::Open(NOW + Duration::from_millis(left_ms)), found);
            fence.is_as_it_should_be(&found, NOW)
        };
        assert!(is_right(2_900, GateFound::Open));
        assert!(!is_right(2_900, GateFound::Closed));
        assert!(is_right(100, GateFound::Open) && is_right(100, GateFound::Closed));
        let surely_open = PATIENCE_MAX + TIMEOUT_MIN;
        let (fence, found) = fence(Gate::Open(NOW + surely_open), GateFound::Closed);
        assert!(fence.is_as_it_should_be(&found, NOW), "it may have ended by now");
    }
}
