//! One VIP as this node stands to it.

use std::collections::BTreeSet;
use std::time::Duration;

use crate::action::{OpId, TxnId};
use crate::config::VipConfig;
use crate::name::{NodeName, Revision};
use crate::time::Instant;

/// Whether the VIP's addresses are on their interface, as far as the kernel has acknowledged.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub(crate) enum Presence {
    /// The kernel has not been asked yet.
    Unknown,
    Absent,
    Adding(OpId),
    Present,
    Removing(OpId),
}

/// Why an owner gives a VIP up although its session stands.
#[derive(Clone, PartialEq, Eq, Hash, Debug)]
pub(crate) enum Leaving {
    /// Placement prefers another node.
    Preferred(NodeName),
    /// The kernel did not refresh it; it is taken away and put back.
    Spoiled,
}

/// Why a VIP cannot be held here for now.
#[derive(Clone, PartialEq, Eq, Hash, Debug)]
pub(crate) struct Blocked {
    pub(crate) why: String,
    /// When it is tried again; none for an interface, whose return is told.
    pub(crate) until: Option<Instant>,
}

#[derive(Clone, PartialEq, Eq, Hash, Debug)]
pub(crate) struct Vip {
    pub(crate) config: VipConfig,
    pub(crate) digest: String,
    pub(crate) presence: Presence,
    /// The last kernel operation that touched it: a listing asked for earlier says nothing of it.
    pub(crate) touched: OpId,
    /// Without a fence: when the kernel removes its addresses by itself.
    pub(crate) until: Option<Instant>,
    /// The highest mod_revision that a hand-over of it compared. That hand-over may still land,
    /// so the VIP is ours only at a greater one (rule 5).
    pub(crate) barrier: Revision,
    /// The transaction about it that is under way.
    pub(crate) pending: Option<TxnId>,
    pub(crate) leaving: Option<Leaving>,
    /// Whom placement prefers to us, and since when.
    pub(crate) preferring: Option<(NodeName, Instant)>,
    /// Since when it is free.
    pub(crate) free_since: Option<Instant>,
    pub(crate) blocked: Option<Blocked>,
    /// Another VIP has one of its addresses.
    pub(crate) conflict: Option<String>,
    /// No transaction about it is sent before: the last one's outcome is unknown.
    pub(crate) retry_at: Option<Instant>,
    /// The kernel refused to take it away; it is asked again then.
    pub(crate) remove_again_at: Option<Instant>,
    /// The kernel's refusals in a row.
    pub(crate) refusals: u32,
    /// Assumptions in a row that came too late although renewals were answered.
    pub(crate) too_late: u32,
    /// Who should own it, most wanted first.
    pub(crate) rank: Vec<NodeName>,
}

impl Vip {
    pub(crate) fn new(config: VipConfig) -> Self {
        Vip {
            digest: config.digest(),
            config,
            presence: Presence::Unknown,
            touched: OpId(0),
            until: None,
            barrier: Revision(0),
            pending: None,
            leaving: None,
            preferring: None,
            free_since: None,
            blocked: None,
            conflict: None,
            retry_at: None,
            remove_again_at: None,
            refusals: 0,
            too_late: 0,
            rank: Vec::new(),
        }
    }

    /// Whether one of its addresses may be on its interface.
    pub(crate) fn may_be_present(&self) -> bool {
        self.presence != Presence::Absent
    }

    /// How long to wait after the kernel refused once more: 1 s, doubling up to a minute.
    pub(crate) fn back_off(&mut self) -> Duration {
        let wait = Duration::from_secs(1 << self.refusals.min(6)).min(Duration::from_secs(60));
        self.refusals += 1;
        wait
    }
}

/// The VIPs about which something may have to be done, and when others come due.
#[derive(Clone, PartialEq, Eq, Hash, Debug, Default)]
pub(crate) struct Agenda {
    pub(crate) dirty: BTreeSet<usize>,
    /// Those whose transaction waits until others are answered.
    pub(crate) crowded_out: BTreeSet<usize>,
    due: BTreeSet<(Instant, usize)>,
    pub(crate) announcements: BTreeSet<(Instant, usize)>,
}

impl Agenda {
    /// Looks at VIP `index` again at `at`. Looking once too often does no harm.
    pub(crate) fn wake(&mut self, index: usize, at: Instant) {
        self.due.insert((at, index));
    }

    /// Another transaction may be sent.
    pub(crate) fn look_at_crowded_out(&mut self) {
        self.dirty.append(&mut self.crowded_out);
    }

    pub(crate) fn next(&self) -> Option<Instant> {
        let first = |set: &BTreeSet<(Instant, usize)>| set.first().map(|(at, _)| *at);
        first(&self.due).into_iter().chain(first(&self.announcements)).min()
    }

    pub(crate) fn wake_due(&mut self, now: Instant) {
        self.dirty.extend(take_due(&mut self.due, now));
    }

    pub(crate) fn take_announcements(&mut self, now: Instant) -> BTreeSet<usize> {
        take_due(&mut self.announcements, now).collect()
    }
}

fn take_due(
    set: &mut BTreeSet<(Instant, usize)>,
    now: Instant,
) -> impl Iterator<Item = usize> + use<> {
    let later = set.split_off(&(now + Duration::from_nanos(1), 0));
    std::mem::replace(set, later).into_iter().map(|(_, index)| index)
}
