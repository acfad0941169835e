//! nftables, as far as turnip uses it: sets of addresses, and elements that end by themselves.
//!
//! A packet to or from one of the VIPs passes only if the address is held and the gate is open.
//! A transaction takes place as a whole or not at all, and fails when an element that it deletes
//! is not there, or has reached its timeout.

use std::collections::BTreeSet;
use std::net::IpAddr;
use std::time::Duration;

use turnip_core::adapter::{
    Change, FenceContents, Fenced, GateFound, Structure, Transaction, TransactionError,
};

use super::Affected;

/// turnip's tables.
#[derive(Clone, Debug, Default)]
struct Tables {
    vips: BTreeSet<Fenced>,
    held: BTreeSet<Fenced>,
    /// The tick of the kernel's at which the gate closes; none when it is closed.
    gate: Option<u64>,
    /// Likewise the ticket.
    ticket: Option<u64>,
    /// They are as the process that speaks to the kernel now made them.
    as_made: bool,
}

/// The rules of nftables on one host.
pub struct Nft {
    /// Nanoseconds a tick.
    tick: u64,
    tables: Option<Tables>,
    /// Something happened that the process that speaks to the kernel now does not know of, or may
    /// not.
    changed: bool,
}

impl Nft {
    /// No rules.
    pub fn new(tick: u64) -> Self {
        Nft { tick: tick.max(1), tables: None, changed: true }
    }

    /// Whether packets to or from an address pass at `now`.
    pub fn passes(&self, address: &Fenced, now: u64) -> bool {
        self.tables.as_ref().is_none_or(|tables| {
            !tables.vips.contains(address)
                || tables.held.contains(address) && self.is_there_yet(tables.gate, now)
        })
    }

    /// Whether turnip's tables are there.
    pub fn is_there(&self) -> bool {
        self.tables.is_some()
    }

    /// Whether an address is held, whether the gate is open or not.
    pub fn is_held(&self, address: &Fenced) -> bool {
        self.tables.as_ref().is_some_and(|tables| tables.held.contains(address))
    }

    /// When the gate closes by itself, while it is open.
    pub fn gate_ends(&self, now: u64) -> Option<u64> {
        let gate = self.tables.as_ref()?.gate.filter(|_| self.gate_is_open(now))?;
        Some(gate.saturating_mul(self.tick))
    }

    /// Somebody else changes rules: his own, or all.
    pub fn foreign_change(&mut self, flush: bool) {
        self.changed = true;
        if flush {
            self.tables = None;
        }
    }

    /// A new process speaks to the kernel.
    pub fn new_process(&mut self) {
        self.changed = true;
        if let Some(tables) = &mut self.tables {
            tables.as_made = false;
        }
    }

    /// The process is not certain what became of its transaction.
    pub fn uncertain(&mut self) {
        self.changed = true;
    }

    /// Whether the process may not know something.
    pub fn is_changed(&self) -> bool {
        self.changed
    }

    /// What is there. Now the process knows.
    pub fn contents(&mut self, now: u64) -> FenceContents {
        self.changed = false;
        let Some(tables) = &self.tables else { return FenceContents::default() };
        FenceContents {
            structure: if tables.as_made { Structure::AsMade } else { Structure::Other },
            vips: tables.vips.clone(),
            held: tables.held.clone(),
            gate: if self.gate_is_open(now) { GateFound::Open } else { GateFound::Closed },
        }
    }

    /// The tables are gone.
    pub fn remove(&mut self) {
        self.tables = None;
    }

    /// Carries out a transaction at `now`, or nothing of it.
    pub fn transact(
        &mut self,
        transaction: &Transaction,
        now: u64,
    ) -> (Result<(), TransactionError>, Affected) {
        if transaction.guarded && self.changed {
            return (Err(TransactionError::Changed), Affected::Nothing);
        }
        let before = Before::of(self, &transaction.changes);
        let was_open = self.gate_is_open(now);
        let mut absent = BTreeSet::new();
        let mut affected = Vec::new();
        let mut all = false;
        for (place, change) in transaction.changes.iter().enumerate() {
            match self.change(change, now) {
                Done::Affects(addresses) => affected.extend(addresses.iter().map(ip)),
                Done::AffectsAll => all = true,
                Done::Absent => {
                    absent.insert(place);
                }
            }
        }
        if !absent.is_empty() {
            before.restore(self);
            return (Err(TransactionError::Absent(absent)), Affected::Nothing);
        }
        let affected = match affected {
            _ if all || was_open != self.gate_is_open(now) => Affected::All,
            none if none.is_empty() => Affected::Nothing,
            some => Affected::Some(some),
        };
        (Ok(()), affected)
    }

    fn change<'a>(&mut self, change: &'a Change, now: u64) -> Done<'a> {
        let this_tick = now / self.tick;
        let ends = |after: &Duration| this_tick + after.as_nanos() as u64 / self.tick;
        let is_over = |timeout: &mut Option<u64>| timeout.take().is_none_or(|at| at <= this_tick);
        if let Change::Layout { vips } | Change::LayoutAnew { vips } = change {
            let anew = matches!(change, Change::LayoutAnew { .. });
            let tables = self.tables.get_or_insert_default();
            if anew {
                *tables = Tables::default();
            }
            tables.vips = vips.iter().cloned().collect();
            tables.as_made = true;
            return Done::AffectsAll;
        }
        let Some(tables) = &mut self.tables else { return Done::Absent };
        match change {
            Change::Layout { .. } | Change::LayoutAnew { .. } => {}
            Change::DeleteVips(addresses) => {
                if !addresses.iter().all(|one| tables.vips.remove(one)) {
                    return Done::Absent;
                }
                return Done::Affects(addresses);
            }
            Change::AddHeld(addresses) => {
                tables.held.extend(addresses.iter().cloned());
                return Done::Affects(addresses);
            }
            Change::DeleteHeld(addresses) => {
                if !addresses.iter().all(|one| tables.held.remove(one)) {
                    return Done::Absent;
                }
                return Done::Affects(addresses);
            }
            Change::FlushHeld => {
                tables.held.clear();
                return Done::AffectsAll;
            }
            Change::AddGate(after) => {
                if tables.gate.is_none_or(|at| at <= this_tick) {
                    tables.gate = Some(ends(after));
                }
            }
            Change::DeleteGate if is_over(&mut tables.gate) => return Done::Absent,
            Change::AddTicket(after) => {
                if tables.ticket.is_none_or(|at| at <= this_tick) {
                    tables.ticket = Some(ends(after));
                }
            }
            Change::DeleteTicket if is_over(&mut tables.ticket) => return Done::Absent,
            Change::FlushGate => (tables.gate, tables.ticket) = (None, None),
            Change::DeleteGate | Change::DeleteTicket => {}
        }
        Done::Affects(&[])
    }

    fn gate_is_open(&self, now: u64) -> bool {
        self.tables.as_ref().is_some_and(|tables| self.is_there_yet(tables.gate, now))
    }

    fn is_there_yet(&self, timeout: Option<u64>, now: u64) -> bool {
        timeout.is_some_and(|at| now / self.tick < at)
    }
}

fn ip(fenced: &Fenced) -> IpAddr {
    match fenced {
        Fenced::Anywhere(address) => *address,
        Fenced::On(_, address) => (*address).into(),
    }
}

/// What a change did.
enum Done<'a> {
    Affects(&'a [Fenced]),
    AffectsAll,
    /// What it deletes is not there, or there are no tables: nothing of the transaction takes place.
    Absent,
}

/// What was there before a transaction: all, or what ends by itself, where nothing else changes.
enum Before {
    All(Option<Tables>),
    Timeouts(Option<u64>, Option<u64>),
}

impl Before {
    fn of(nft: &Nft, changes: &[Change]) -> Self {
        let timeouts_only = changes.iter().all(|change| {
            matches!(
                change,
                Change::AddGate(_)
                    | Change::DeleteGate
                    | Change::FlushGate
                    | Change::AddTicket(_)
                    | Change::DeleteTicket
            )
        });
        match &nft.tables {
            Some(tables) if timeouts_only => Before::Timeouts(tables.gate, tables.ticket),
            tables => Before::All(tables.clone()),
        }
    }

    fn restore(self, nft: &mut Nft) {
        match self {
            Before::All(tables) => nft.tables = tables,
            Before::Timeouts(gate, ticket) => {
                if let Some(tables) = &mut nft.tables {
                    (tables.gate, tables.ticket) = (gate, ticket);
                }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const MS: u64 = 1_000_000;

    fn nft() -> Nft {
        let mut nft = Nft::new(4 * MS);
        let vips = vec![address(1), address(2)];
        let changes = vec![Change::LayoutAnew { vips }, Change::AddHeld(vec![address(1)])];
        assert_eq!(transact(&mut nft, changes, 0), Ok(()));
        nft
    }

    fn address(host: u8) -> Fenced {
        Fenced::Anywhere([10, 0, 0, host].into())
    }

    fn transact(nft: &mut Nft, changes: Vec<Change>, now: u64) -> Result<(), TransactionError> {
        nft.transact(&Transaction { guarded: false, changes }, now).0
    }

    fn open(ms: u64) -> Vec<Change> {
        vec![Change::FlushGate, Change::AddGate(Duration::from_millis(ms))]
    }

    #[test]
    fn a_vip_passes_while_it_is_held_and_the_gate_is_open_and_another_address_always() {
        let mut nft = nft();
        assert!(!nft.passes(&address(1), 0));
        assert_eq!(transact(&mut nft, open(100), 0), Ok(()));
        assert!(nft.passes(&address(1), 99 * MS));
        assert!(!nft.passes(&address(1), 100 * MS));
        assert!(!nft.passes(&address(2), 0));
        assert!(nft.passes(&address(3), 0));
    }

    #[test]
    fn a_link_local_address_is_silent_on_its_interface_and_on_no_other() {
        let mut nft = Nft::new(4 * MS);
        let on = |interface: &str| Fenced::On(interface.into(), "fe80::1".parse().unwrap());
        assert_eq!(
            transact(&mut nft, vec![Change::LayoutAnew { vips: vec![on("br100")] }], 0),
            Ok(())
        );
        assert!(!nft.passes(&on("br100"), 0) && nft.passes(&on("br200"), 0));
    }

    #[test]
    fn a_timeout_is_whole_ticks_from_the_tick_in_which_it_was_read() {
        let mut nft = nft();
        assert_eq!(transact(&mut nft, open(11), 7 * MS), Ok(()));
        // Read in the tick that began at 4 ms, for two ticks.
        assert!(nft.passes(&address(1), 12 * MS - 1));
        assert!(!nft.passes(&address(1), 12 * MS));
    }

    #[test]
    fn a_gate_that_has_ended_is_not_moved_and_nothing_else_of_the_transaction_takes_place() {
        let mut nft = nft();
        assert_eq!(transact(&mut nft, open(100), 0), Ok(()));
        let moved = || {
            let held = Change::AddHeld(vec![address(2)]);
            vec![held, Change::DeleteGate, Change::AddGate(Duration::from_secs(1))]
        };
        assert_eq!(transact(&mut nft, moved(), 99 * MS), Ok(()));
        let late = transact(&mut nft, moved(), 2_000 * MS);
        assert_eq!(late, Err(TransactionError::Absent([1].into())));
        assert!(!nft.passes(&address(1), 2_000 * MS));
        // All that is absent is told.
        let changes = vec![Change::DeleteTicket, Change::DeleteHeld(vec![address(9)])];
        let absent = transact(&mut nft, changes, 2_000 * MS);
        assert_eq!(absent, Err(TransactionError::Absent([0, 1].into())));
    }

    #[test]
    fn a_guarded_transaction_is_refused_until_what_another_changed_was_read() {
        let mut nft = nft();
        let guarded = || Transaction { guarded: true, changes: open(100) };
        nft.contents(0);
        assert_eq!(nft.transact(&guarded(), 0).0, Ok(()));
        nft.foreign_change(false);
        assert_eq!(nft.transact(&guarded(), 0).0, Err(TransactionError::Changed));
        nft.contents(0);
        assert_eq!(nft.transact(&guarded(), 0).0, Ok(()));
    }
}
