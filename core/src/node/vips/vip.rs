//! One VIP as this node stands to it.

use std::fmt;

use super::state::State;
use super::tenure::VipHooks;
use super::vacancy::Vacancy;
use crate::action::OpId;
use crate::check::Damping;
use crate::name::{NodeName, Revision};
use crate::node::reload::Retiring;
use crate::time::Instant;
use crate::transition::Departure;

/// Why an owner gives a VIP up although its session is there.
#[derive(Clone, PartialEq, Eq, Hash, Debug)]
pub(super) enum Leaving {
    /// Placement prefers another node.
    Preferred(NodeName),
    /// Not all of it may be there, or not as it was put there: it is taken away and put back.
    NeedsReinstall,
}

/// Why the kernel cannot hold a VIP here for now.
#[derive(Clone, PartialEq, Eq, Hash, Debug)]
pub(super) struct Blocked {
    pub(super) why: String,
    /// When it is tried again; none where it was told that the interface is missing or down: its return
    /// is told, too.
    pub(super) until: Option<Instant>,
}

/// Why what is on an interface may not stay there: for programs, and in words.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(in crate::node) struct MustGo {
    pub(in crate::node) departure: Departure,
    pub(in crate::node) why: String,
}

impl MustGo {
    pub(super) fn new(departure: Departure, why: impl Into<String>) -> Self {
        MustGo { departure, why: why.into() }
    }
}

impl From<Ineligible> for MustGo {
    fn from(why: Ineligible) -> Self {
        let departure = match &why {
            Ineligible::Ending(_) => Departure::Ending,
            Ineligible::Drained => Departure::Drained,
            Ineligible::Blocked(_) => Departure::Blocked,
            Ineligible::Retiring => Departure::Reconfigured,
            Ineligible::Unwell(_) => Departure::Unwell,
            Ineligible::NotNamed(_) => Departure::NotNamed,
            Ineligible::Conflict(_) => Departure::AddressConflict,
        };
        MustGo::new(departure, why.to_string())
    }
}

/// Why this node would not hold a VIP even if it owned it.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(in crate::node) enum Ineligible {
    /// The node is ending, for this reason.
    Ending(String),
    /// An operator drains it.
    Drained,
    /// The kernel cannot hold the VIP.
    Blocked(String),
    /// As it is here, it is not configured any more (rule 14.2).
    Retiring,
    /// A check of what stands behind the VIP fails, or was not tried yet.
    Unwell(String),
    /// The key that it follows does not name this host, or was not read yet (rule 13).
    NotNamed(String),
    /// Another VIP has one of its addresses.
    Conflict(String),
}

impl fmt::Display for Ineligible {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Ineligible::Drained => "an operator drains this node",
            Ineligible::Retiring => Retiring::WHY,
            Ineligible::Ending(why)
            | Ineligible::Blocked(why)
            | Ineligible::Unwell(why)
            | Ineligible::NotNamed(why)
            | Ineligible::Conflict(why) => why,
        })
    }
}

/// A VIP.
#[derive(Clone, PartialEq, Eq, Hash, Debug)]
pub(super) struct Vip {
    pub(super) state: State,
    /// The last kernel operation that touched it: a listing asked for earlier says nothing of it.
    pub(super) touched: OpId,
    /// Without a fence: when the kernel removes its addresses by itself, as of that operation.
    pub(super) until: Option<Instant>,
    /// The highest mod_revision that a hand-over of it compared. That hand-over may still land,
    /// so the VIP is ours only at a greater one (rule 5).
    pub(super) barrier: Revision,
    pub(super) leaving: Option<Leaving>,
    /// Whom placement prefers to us, and since when.
    pub(super) preferring: Option<(NodeName, Instant)>,
    /// Since when it is not held any more, and is about to go to another; for `history/`.
    pub(super) given_up_at: Option<Instant>,
    /// Since when it is free.
    pub(super) free_since: Option<Instant>,
    pub(super) blocked: Option<Blocked>,
    /// No transaction about it is sent before: the last one's outcome is unknown.
    pub(super) retry_at: Option<Instant>,
    /// The kernel refused to take it away; it is asked again then.
    pub(super) remove_again_at: Option<Instant>,
    /// The kernel's refusals in a row.
    pub(super) refusals: u32,
    /// Since the kernel refused it the last time it has not been held, as of this revision.
    pub(super) failed_at: Option<Revision>,
    /// When an interface that came and went has stayed for so long that this failure is forgotten.
    pub(super) steady_at: Option<Instant>,
    /// How often the interface went lately.
    pub(super) interface: Damping,
    /// Assumptions in a row that came too late although renewals were answered.
    pub(super) too_late: u32,
    /// Since when nobody has held it: for people.
    pub(super) vacancy: Vacancy,
    /// It is told that it is here.
    pub(super) is_told: bool,
    /// Since connections through its addresses were ended here the last time, some may have come.
    pub(super) may_have_connections: bool,
    pub(super) hooks: VipHooks,
}

impl Vip {
    pub(super) fn new() -> Self {
        Vip {
            state: State::Unlisted,
            touched: OpId(0),
            until: None,
            barrier: Revision(0),
            leaving: None,
            preferring: None,
            given_up_at: None,
            free_since: None,
            blocked: None,
            retry_at: None,
            remove_again_at: None,
            refusals: 0,
            failed_at: None,
            steady_at: None,
            interface: Damping::default(),
            too_late: 0,
            vacancy: Vacancy::default(),
            is_told: false,
            // The process before may have been killed with its VIPs here.
            may_have_connections: true,
            hooks: VipHooks::default(),
        }
    }

    /// It goes before it comes back.
    pub(super) fn reinstall(&mut self) {
        self.leaving.get_or_insert(Leaving::NeedsReinstall);
    }

    pub(super) fn needs_reinstall(&self) -> bool {
        self.leaving == Some(Leaving::NeedsReinstall)
    }

    /// It works here.
    pub(super) fn works(&mut self) {
        (self.refusals, self.too_late) = (0, 0);
        self.forget_failure();
    }

    /// It may be tried here again, as if it never had been.
    pub(super) fn forget_failure(&mut self) {
        (self.failed_at, self.steady_at) = (None, None);
    }
}
