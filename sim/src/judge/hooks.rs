//! What hooks explain of a gap (rule 12).
//!
//! An address waits for the `before_` hooks of who takes it, as long as each runs; and where one hangs or fails,
//! another host is to have it, a hand-over later. So of each host one failure counts, and no more.

use std::collections::BTreeSet;

use turnip_core::Hook;

use crate::check::Span;
use crate::plan::AddressId;
use crate::record::HookRan;
use crate::time::{MS, S};

/// A host whose hook has failed is not asked for the longest back-off.
const BACK_OFF_MAX: u64 = 61 * S;
/// What waits for a hook's end begins within this.
const AT_ONCE: u64 = MS;

/// What the hooks of a gap explain.
#[derive(Clone, Copy, PartialEq, Eq, Default, Debug)]
pub struct Waits {
    /// For how long somebody waited for them, in ns.
    pub time: u64,
    /// On how many hosts one failed, and the address went on to another.
    pub failed: u64,
}

/// What they explain of a gap.
pub fn waits(ran: &[HookRan], gap: &Span) -> Waits {
    let within = |one: &&HookRan| one.of(gap.address) && one.from < gap.to && one.to > gap.from;
    let mut all: Vec<&HookRan> = ran.iter().filter(within).collect();
    all.sort_by_key(|one| one.from);
    let mut failed = BTreeSet::new();
    let mut waited = Vec::new();
    for (at, one) in all.iter().enumerate() {
        if !one.hook.is_awaited() || (one.fails_to_take() && !failed.insert(one.host)) {
            continue;
        }
        waited.push(*one);
        // It may have waited for others before.
        let mut from = one.from;
        for before in all[..at].iter().rev().filter(|before| before.host == one.host) {
            if before.to <= from && from - before.to <= AT_ONCE && !before.hook.is_awaited() {
                from = before.from;
                waited.push(*before);
            }
        }
    }
    let mut spans: Vec<(u64, u64)> =
        waited.iter().map(|one| (one.from.max(gap.from), one.to.min(gap.to))).collect();
    spans.sort_unstable();
    let (mut time, mut until) = (0, 0);
    for (from, to) in spans {
        time += to.saturating_sub(from.max(until));
        until = until.max(to);
    }
    Waits { time, failed: failed.len() as u64 }
}

/// Whether a host is not to be asked for an address in a gap, for its hook failed.
pub fn failed_lately(ran: &[HookRan], host: usize, gap: &Span) -> bool {
    let lately = gap.from.saturating_sub(BACK_OFF_MAX)..=gap.to;
    let fails = |one: &HookRan| one.host == host && one.of(gap.address) && one.fails_to_take();
    ran.iter().any(|one| fails(one) && lately.contains(&one.to))
}

impl HookRan {
    fn of(&self, address: AddressId) -> bool {
        self.addresses.contains(&address)
    }

    fn fails_to_take(&self) -> bool {
        self.hook == Hook::BeforeAssume && !self.well
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const GAP: Span = Span { address: 0, hosts: 0, from: 10 * S, to: 20 * S };

    fn ran(host: usize, hook: Hook, (from, to): (u64, u64), well: bool) -> HookRan {
        HookRan { host, addresses: vec![0], hook, from: from * S, to: to * S, well }
    }

    #[test]
    fn a_gap_waits_for_each_host_once_and_for_what_ran_there_before() {
        let all = [
            ran(0, Hook::AfterRelease, (10, 19), true),
            ran(1, Hook::AfterAssume, (8, 11), true),
            ran(1, Hook::BeforeAssume, (11, 13), false),
            ran(1, Hook::BeforeAssume, (14, 15), false),
            ran(2, Hook::BeforeAssume, (15, 16), true),
        ];
        assert_eq!(waits(&all, &GAP), Waits { time: 4 * S, failed: 1 });
        let another = Span { address: 1, ..GAP };
        assert_eq!(waits(&all, &another), Waits::default());
    }

    #[test]
    fn a_host_whose_hook_failed_before_is_not_asked_for_a_minute() {
        let all = [ran(1, Hook::BeforeAssume, (11, 13), false)];
        assert!(failed_lately(&all, 1, &GAP));
        assert!(!failed_lately(&all, 0, &GAP));
        assert!(!failed_lately(&all, 1, &Span { from: 80 * S, to: 81 * S, ..GAP }));
        let well = [ran(1, Hook::BeforeAssume, (11, 13), true)];
        assert!(!failed_lately(&well, 1, &GAP));
    }
}
