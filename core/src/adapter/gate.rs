//! Moving the gate, so that it never outlives its deadline however long anybody stalls.
//!
//! The kernel counts a timeout from when it reads the message. A process that stalls between
//! reading the clock and sending would set a gate that is open for too long by that; and if it is
//! frozen after that, nobody sets it right. So a *ticket* goes first, an element that ends after
//! some tens of ms. When the kernel has acknowledged it the clock is read, and the message that
//! sets the gate deletes the ticket too. Deleting what has reached its timeout fails, and with it
//! the whole transaction. So the kernel read the message before `acknowledged + lasts`, and the
//! gate's timeout counts from no later than that.
//!
//! In the same way a gate that has reached its timeout cannot be moved: it is deleted and added
//! anew in one transaction. So it is the kernel that decides whether a renewal came in time.

use std::time::Duration;

use super::Adapter;
use super::call::{Change, TimerRate};
use super::fence::{Fence, Gate};
use super::fenced::Fenced;
use crate::time::Instant;

/// A timeout below a tick of the kernel's would be none at all; the slowest kernels tick every
/// 10 ms, and round down.
pub(super) const TIMEOUT_MIN: Duration = Duration::from_millis(20);
/// How long a ticket lasts at first. The gate closes so much before its deadline, which is why it
/// is not longer: the shortest lease is 200 ms. Between two calls to the kernel lie some
/// 20 µs where nothing stalls.
pub(super) const PATIENCE_MIN: Duration = TIMEOUT_MIN;
/// A host that is slower between two calls cannot renew in time.
pub(super) const PATIENCE_MAX: Duration = Duration::from_millis(640);

/// A ticket that the kernel has acknowledged.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub(super) struct Ticket {
    pub(super) acknowledged: Instant,
    pub(super) lasts: Duration,
}

/// How the gate is to be set.
#[derive(Clone, PartialEq, Eq, Hash, Debug)]
pub(super) struct Move {
    pub(super) deadline: Instant,
    /// What is let through from then on, besides what is held already.
    pub(super) new: Vec<Fenced>,
    pub(super) from: From,
    prepared: bool,
}

/// What the gate is before it is set.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub(super) enum From {
    /// Closed: it opens for exactly the new ones.
    Closed,
    /// Open, as far as is known: the kernel refuses when it is not.
    Open,
    /// Made anew, and open before that.
    Lost,
}

impl Move {
    /// How the gate gets to `deadline` with `addresses` let through too; none where it is closed
    /// and may not be opened.
    pub(super) fn of(
        fence: &Fence,
        addresses: &[Fenced],
        deadline: Instant,
        opens: bool,
    ) -> Option<Self> {
        let prepared = false;
        let new = || fence.not_held(addresses);
        Some(match fence.gate {
            Gate::Closed if !opens => return None,
            Gate::Closed => {
                Move { deadline, new: addresses.to_vec(), from: From::Closed, prepared }
            }
            Gate::Inherited => Move { deadline, new: new(), from: From::Open, prepared },
            Gate::Open(until) => {
                Move { deadline: until.max(deadline), new: new(), from: From::Open, prepared }
            }
            Gate::Lost(until) => {
                Move { deadline: until.max(deadline), new: new(), from: From::Lost, prepared }
            }
        })
    }

    /// The changes, when there is time for them.
    pub(super) fn changes(
        &self,
        ticket: Ticket,
        rate: TimerRate,
        style: &MoveStyle,
    ) -> Option<Vec<Change>> {
        let timeout = self.deadline.since(ticket.acknowledged + ticket.lasts);
        if timeout < TIMEOUT_MIN {
            return None;
        }
        let mut changes = Vec::new();
        if style.ticket {
            changes.push(Change::DeleteTicket);
        }
        match self.from {
            From::Closed => changes.push(Change::FlushGate),
            From::Open if style.refuses_expired => changes.push(Change::DeleteGate),
            From::Open => changes.push(Change::FlushGate),
            From::Lost => {}
        }
        // Nothing comes between the ticket and this: what the kernel does takes time too.
        changes.push(Change::AddGate(rate.count(timeout)));
        changes.extend(self.letting_in(style));
        Some(changes)
    }

    /// Too many to be let in with the gate: they go before it, and before the ticket.
    pub(super) fn is_large(&self) -> bool {
        self.new.len() > Adapter::CHUNK
    }

    /// The changes that let in what is new; and nothing else, where the gate is closed.
    pub(super) fn letting_in(&self, style: &MoveStyle) -> Vec<Change> {
        let mut changes = Vec::new();
        if self.is_alone() && style.silences_others {
            changes.push(Change::FlushHeld);
        }
        if !self.new.is_empty() {
            changes.push(Change::AddHeld(self.new.clone()));
        }
        changes
    }

    /// Whether what is new is all that is to be held.
    pub(super) fn is_alone(&self) -> bool {
        self.from == From::Closed && !self.prepared
    }

    /// What is new is let in already.
    pub(super) fn prepare(&mut self) {
        self.new.clear();
        self.prepared = true;
    }
}

/// All of it is true but for mutants.
#[derive(Clone, Copy)]
pub(super) struct MoveStyle {
    pub(super) ticket: bool,
    pub(super) refuses_expired: bool,
    pub(super) silences_others: bool,
}
