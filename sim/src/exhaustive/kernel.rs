//! The kernel of one host of the small world: addresses with lifetimes, and the fence's sets.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use ipnet::IpNet;
use turnip_core::adapter::{
    Call, Change, FenceContents, Fenced, GateFound, Reply, Structure, Transaction, TransactionError,
};
use turnip_core::{Instant, Link, Listing, PresentAddress};

use super::files::INTERFACE;

/// What is in the kernel. Times are of the host's clock.
#[derive(Clone, PartialEq, Eq, Hash, Default)]
pub(super) struct Kernel {
    /// Each address that turnip put there, and when its lifetime ends.
    present: BTreeMap<IpNet, Instant>,
    fence: Option<Fence>,
}

/// The fence's tables.
#[derive(Clone, PartialEq, Eq, Hash, Default)]
struct Fence {
    /// The process that made them still runs.
    as_made: bool,
    vips: BTreeSet<Fenced>,
    held: BTreeSet<Fenced>,
    gate: Option<Instant>,
    ticket: Option<Instant>,
}

impl Kernel {
    /// The addresses that are there; with a time, those only that the fence lets answer then.
    pub(super) fn answering(
        &self,
        now: Option<Instant>,
    ) -> impl Iterator<Item = IpNet> + Clone + '_ {
        let passes = move |address: &IpNet| match (&self.fence, now) {
            (Some(fence), Some(now)) => {
                let address = Fenced::new(&INTERFACE.into(), address.addr());
                let open = is_live(fence.gate, now) && fence.held.contains(&address);
                open || !fence.vips.contains(&address)
            }
            _ => true,
        };
        let lives = move |ends: &Instant| now.is_none_or(|now| now < *ends);
        let there = self.present.iter().filter(move |(_, ends)| lives(ends));
        there.map(|(address, _)| *address).filter(passes)
    }

    /// The process that made the fence is no more.
    pub(super) fn abandon(&mut self) {
        if let Some(fence) = &mut self.fence {
            fence.as_made = false;
        }
    }

    /// Does what a call asks for, and answers.
    pub(super) fn act(&mut self, call: &Call, now: Instant) -> Reply {
        self.present.retain(|_, ends| now < *ends);
        match call {
            Call::List => Reply::Listed { listing: self.listing(), fence_changed: false },
            Call::Put { addresses, lifetime_secs } => {
                let ends = now + Duration::from_secs((*lifetime_secs).into());
                self.present.extend(addresses.iter().map(|one| (one.address, ends)));
                Reply::Each(vec![Ok(()); addresses.len()])
            }
            Call::Delete { addresses } => {
                for one in addresses {
                    self.present.remove(&one.address);
                }
                Reply::Each(vec![Ok(()); addresses.len()])
            }
            Call::Change(transaction) => Reply::Changed(self.change(transaction, now)),
            Call::ReadFence => Reply::Fence(self.read_fence(now)),
            Call::RemoveFence => {
                self.fence = None;
                Reply::Removed
            }
        }
    }

    fn listing(&self) -> Listing {
        let present = |&address: &IpNet| PresentAddress {
            interface: INTERFACE.into(),
            address,
            marked: true,
            misplaced: false,
        };
        Listing {
            addresses: self.present.keys().map(present).collect(),
            links: vec![Link { name: INTERFACE.into(), up: true, carrier: true }],
        }
    }

    fn read_fence(&self, now: Instant) -> FenceContents {
        let Some(fence) = &self.fence else { return FenceContents::default() };
        FenceContents {
            structure: if fence.as_made { Structure::AsMade } else { Structure::Other },
            vips: fence.vips.clone(),
            held: fence.held.clone(),
            gate: if is_live(fence.gate, now) { GateFound::Open } else { GateFound::Closed },
        }
    }

    /// All of it or nothing. Nobody else changes anything in this world.
    fn change(&mut self, transaction: &Transaction, now: Instant) -> Result<(), TransactionError> {
        let mut fence = self.fence.clone();
        let changes = transaction.changes.iter().enumerate();
        let absent: BTreeSet<usize> = changes
            .filter(|(_, change)| !Fence::make(&mut fence, change, now))
            .map(|(number, _)| number)
            .collect();
        if !absent.is_empty() {
            return Err(TransactionError::Absent(absent));
        }
        self.fence = fence;
        Ok(())
    }
}

impl Fence {
    /// Makes one change; whether everything that it names was there.
    fn make(fence: &mut Option<Fence>, change: &Change, now: Instant) -> bool {
        match change {
            Change::Layout { vips } | Change::LayoutAnew { vips } => {
                if matches!(change, Change::LayoutAnew { .. }) {
                    *fence = None;
                }
                let fence = fence.get_or_insert_default();
                (fence.as_made, fence.vips) = (true, vips.iter().cloned().collect());
                true
            }
            _ => fence.as_mut().is_some_and(|fence| fence.change(change, now)),
        }
    }

    fn change(&mut self, change: &Change, now: Instant) -> bool {
        match change {
            Change::Layout { .. } | Change::LayoutAnew { .. } => unreachable!("made by make"),
            Change::DeleteVips(gone) => gone.iter().all(|one| self.vips.remove(one)),
            Change::DeleteHeld(gone) => gone.iter().all(|one| self.held.remove(one)),
            Change::DeleteGate => is_live(self.gate.take(), now),
            Change::DeleteTicket => is_live(self.ticket.take(), now),
            Change::AddHeld(more) => {
                self.held.extend(more.iter().cloned());
                true
            }
            Change::FlushHeld => {
                self.held.clear();
                true
            }
            Change::FlushGate => {
                (self.gate, self.ticket) = (None, None);
                true
            }
            Change::AddGate(timeout) => {
                add(&mut self.gate, *timeout, now);
                true
            }
            Change::AddTicket(timeout) => {
                add(&mut self.ticket, *timeout, now);
                true
            }
        }
    }
}

fn is_live(ends: Option<Instant>, now: Instant) -> bool {
    ends.is_some_and(|ends| now < ends)
}

/// An element that is there, and alive, stays as it is.
fn add(element: &mut Option<Instant>, timeout: Duration, now: Instant) {
    if !is_live(*element, now) {
        *element = Some(now + timeout);
    }
}
