//! The VIPs that this node is configured with: what may be held, what is there, what is tried
//! again when.
//!
//! `state.rs` has the table of a VIP's states, `reconcile.rs` what is to be done about each,
//! `transactions.rs` and `kernel.rs` how it is asked for and what the answers mean, `listing.rs` what
//! the kernel says is there, `connections.rs` when connections end, `doubles.rs` what is there of a
//! VIP's IPs that is not turnip's, `hooks.rs` when hooks are run and what waits for them, `tenure.rs` how far
//! this host has come with a VIP, `unwell.rs` what checks say against one, `reload.rs` what another configuration
//! changes.

mod agenda;
mod conflicts;
mod connections;
mod doubles;
mod hooks;
mod kernel;
mod listing;
mod reconcile;
mod reload;
mod rhythm;
pub(crate) mod state;
mod telling;
mod tenure;
mod transactions;
mod unwell;
mod vacancy;
mod vip;

use std::collections::{BTreeMap, BTreeSet};

use super::candidates::Candidates;
use super::cluster::Cluster;
use super::following::Following;
use super::health::Health;
use super::own::{Own, VipIndex};
use super::publication::Publication;
use super::situation::Situation;
use crate::action::{OpId, TxnId};
use crate::mutant::Mutant;
use crate::name::{NodeName, Revision, VipName};
use crate::time::Instant;
use crate::transition::Departure;
use crate::view::View;

use agenda::Agenda;
use conflicts::Conflicts;
use hooks::HookDesk;
use kernel::AbilityChanged;
use state::{Event, State};
use vip::{Leaving, MustGo, Vip};

pub(super) use telling::told;
pub(super) use transactions::{VIPS_PER_TXN_MAX, compare_session};
pub(super) use vip::Ineligible;

/// All VIPs.
#[derive(Clone, PartialEq, Eq, Hash, Debug)]
pub(super) struct Vips {
    vips: Vec<Vip>,
    agenda: Agenda,
    conflicts: Conflicts,
    /// Those of which something may be on an interface.
    there: BTreeSet<VipIndex>,
    /// Those that placement wants elsewhere, and that wait until that has settled.
    settling: BTreeSet<VipIndex>,
    /// Where lifetimes are the proof: until when the kernel keeps what was there when that operation,
    /// the last refresh, was asked for.
    kept_until: Option<(OpId, Instant)>,
    /// Those of which an IP is on this host in another way than turnip puts it there, and which that
    /// is, in words.
    doubles: BTreeMap<VipIndex, String>,
    /// As of that operation today's addresses are those that are looked for.
    configured: OpId,
    desk: HookDesk,
}

/// The other parts that decide what becomes of a VIP.
#[derive(Clone, Copy)]
pub(super) struct Context<'a> {
    pub(super) situation: Situation<'a>,
    pub(super) publication: &'a Publication,
    pub(super) candidates: &'a Candidates,
}

impl Vips {
    pub(super) fn new(own: &Own) -> Self {
        let all = 0..own.vip_count();
        Vips {
            vips: vec![Vip::new(); own.vip_count()],
            agenda: Agenda::default(),
            conflicts: Conflicts::default(),
            there: all.collect(),
            settling: BTreeSet::new(),
            kept_until: None,
            doubles: BTreeMap::new(),
            configured: OpId(0),
            desk: HookDesk::default(),
        }
    }

    // ---- looking

    /// Those of which something may be on an interface.
    pub(super) fn there(&self) -> impl Iterator<Item = VipIndex> + '_ {
        self.there.iter().copied()
    }

    /// Whether nothing is on any interface, as the kernel has acknowledged.
    pub(super) fn nothing_is_there(&self) -> bool {
        self.there.is_empty()
    }

    /// The oldest revision at which a VIP was named for the own session that is not on an interface.
    pub(super) fn named_and_not_there(&self, own: &Own, cluster: &Cluster) -> Option<Revision> {
        let view = &cluster.view;
        let session = cluster.session.id()?;
        // As a rule all are there, and there may be many.
        if view.vips_of(session).count() == self.there.len() {
            return None;
        }
        let is_there = |vip: &&VipName| own.index_of(vip).is_some_and(|i| self.there.contains(&i));
        let elsewhere = view.vips_of(session).filter(|vip| !is_there(vip));
        elsewhere.filter_map(|vip| view.vip(vip)).map(|known| known.modified).min()
    }

    /// When one of them comes due.
    pub(super) fn next_due(&self) -> Option<Instant> {
        self.agenda.next()
    }

    /// Whether it is on its interface, as the kernel has acknowledged.
    pub(super) fn is_held(&self, index: VipIndex) -> bool {
        self.vips[index].state == State::Held
    }

    /// Why the VIP cannot be held here for now.
    pub(super) fn blocked(&self, index: VipIndex) -> Option<&str> {
        let blocked = self.vips[index].blocked.as_ref().map(|blocked| blocked.why.as_str());
        blocked.or_else(|| self.hindering_double(index))
    }

    /// The kernel refused it when it was last tried, as of this revision.
    pub(super) fn failed_at(&self, index: VipIndex) -> Option<Revision> {
        self.vips[index].failed_at
    }

    /// Whether that is for an interface that comes and goes.
    pub(super) fn is_unsteady(&self, index: VipIndex) -> bool {
        self.vips[index].steady_at.is_some()
    }

    /// Why this node would not hold the VIP even if it owned it (rule 7.4).
    pub(super) fn ineligible(
        &self,
        situation: &Situation<'_>,
        candidates: &Candidates,
        index: VipIndex,
    ) -> Option<Ineligible> {
        let unable = self.unable(situation, candidates, index);
        if unable.is_some() || !self.is_last_resort(situation, index) {
            return unable;
        }
        let (own, lease, now) = (situation.own, situation.lease(), situation.now);
        let better = match own.mutated(Mutant::FailingLeftForFailing) {
            true => candidates.rank(index),
            false => candidates.well(index),
        };
        let is_alive = |node: &&NodeName| situation.peers.heard_lately(node, lease, now);
        let better = better.iter().filter(|node| *node != own.name()).find(is_alive);
        better.and_then(|_| self.unwell(situation, index)).map(|it| Ineligible::Unwell(it.why))
    }

    /// The same, whoever else could hold it.
    pub(super) fn unable(
        &self,
        situation: &Situation<'_>,
        candidates: &Candidates,
        index: VipIndex,
    ) -> Option<Ineligible> {
        if let Some(why) = situation.shutdown.why() {
            return Some(Ineligible::Ending(why));
        }
        if situation.is_drained() {
            return Some(Ineligible::Drained);
        }
        if let Some(why) = self.blocked(index) {
            return Some(Ineligible::Blocked(why.to_owned()));
        }
        if situation.own.retiring(index).is_some() {
            return Some(Ineligible::Retiring);
        }
        if let Some(unwell) = self.unwell(situation, index)
            && !self.is_last_resort(situation, index)
        {
            return Some(Ineligible::Unwell(unwell.why));
        }
        if let Some(not_named) = self.not_named(situation, index) {
            return Some(Ineligible::NotNamed(not_named.why));
        }
        candidates.conflict(index).map(|why| Ineligible::Conflict(why.to_owned()))
    }

    /// Whether one of `vips` may be yielded now, or all of them may be; see [`Self::yields`].
    pub(super) fn may_yield(
        &self,
        (own, health, following): (&Own, &Health, &Following),
        vips: &[VipIndex],
        all: bool,
    ) -> bool {
        let has_reason = |index: &VipIndex| {
            self.blocked(*index).is_some()
                || health.unwell(own, *index).is_some()
                || !following.names(*index)
        };
        vips.iter().any(has_reason) || (all && self.nothing_is_there())
    }

    /// Whether this node gives up its place as the first with the VIP's addresses: it cannot hold
    /// the VIP, owns it no more, and has nothing of it on its interface (rule 4.10).
    pub(super) fn yields(&self, situation: &Situation<'_>, index: VipIndex) -> bool {
        let own = situation.own;
        if situation.session.id().is_none()
            || situation.shutdown.has_begun()
            || own.mutated(Mutant::NeverYields)
        {
            return false;
        }
        let is_drained = situation.is_drained() && self.nothing_is_there();
        // What an attempt that is still to come may say is waited for.
        let is_unwell = self.unwell(situation, index).is_some_and(|unwell| !unwell.is_waiting)
            && !self.is_last_resort(situation, index);
        let is_named = self.not_named(situation, index).is_none_or(|it| it.is_waiting);
        let is_blocked = self.blocked(index).is_some() || is_unwell || !is_named;
        let is_gone = self.vips[index].state == State::Absent && situation.owned(index).is_none();
        if own.mutated(Mutant::YieldsWhileHeld) {
            return situation.is_drained() || is_blocked;
        }
        (is_drained || is_blocked) && is_gone
    }

    /// Whether what is on the interface may stay there; else why not, as an operator is told.
    pub(super) fn may_hold(&self, context: &Context<'_>, index: VipIndex) -> Result<(), MustGo> {
        let (situation, vip) = (&context.situation, &self.vips[index]);
        let must_go = |departure, why: &str| Err(MustGo::new(departure, why));
        if !situation.in_time() {
            return match situation.session.deadline() {
                Some(_) => must_go(Departure::NotRenewed, "its session was not renewed in time"),
                None => must_go(Departure::NoSession, "this node has no session for it"),
            };
        }
        if self.until(index).is_some_and(|until| until <= situation.now) {
            return must_go(
                Departure::KernelLate,
                "the kernel could not be told in time to keep it",
            );
        }
        let ineligible = self.ineligible(situation, context.candidates, index);
        if let Some(why) = ineligible
            && !(why == Ineligible::Retiring && self.stays_until_told(context, index))
        {
            return Err(why.into());
        }
        if situation.session.is_inheriting() {
            // What an earlier process left stays until it is known whose it is.
            return Ok(());
        }
        if context.publication.is_defined_otherwise(situation.own, index) {
            return must_go(
                Departure::Redefined,
                "this node has published another definition of it",
            );
        }
        if context.publication.is_yielded(index) {
            return must_go(
                Departure::Yielded,
                "this node has given up its place as the first with it",
            );
        }
        let Some(modified) = situation.owned(index) else {
            return Err(not_owned(situation, index));
        };
        if self.is_leaving_for_good(situation.own, index, modified) {
            return must_go(Departure::HandingOver, "it is being handed over");
        }
        match &vip.leaving {
            None if vip.hooks.is_leaving() => {
                must_go(Departure::HandingOver, "its before_release hook has been run")
            }
            None => Ok(()),
            Some(Leaving::Preferred(node)) => {
                must_go(Departure::Preferred, &format!("{node} is preferred"))
            }
            Some(Leaving::NeedsReinstall) => {
                must_go(Departure::Reinstall, "the kernel did not keep it")
            }
        }
    }

    /// Whether a hand-over of it may still land that compares this revision (rule 5).
    fn is_leaving_for_good(&self, own: &Own, index: VipIndex, modified: Revision) -> bool {
        modified <= self.vips[index].barrier && !own.mutated(Mutant::KeepAfterHandOver)
    }

    /// Without a fence: when the kernel removes its addresses by itself.
    fn until(&self, index: VipIndex) -> Option<Instant> {
        let vip = &self.vips[index];
        match self.kept_until {
            Some((refreshed, until)) if refreshed > vip.touched => Some(until),
            _ => vip.until,
        }
    }

    // ---- being told

    pub(super) fn mark_dirty(&mut self, vips: impl IntoIterator<Item = VipIndex>) {
        self.agenda.mark_dirty(vips);
    }

    pub(super) fn mark_all_dirty(&mut self) {
        self.agenda.mark_all_dirty(self.vips.len());
    }

    /// Those that may be held, or not any more, and those that were about to be.
    pub(super) fn mark_there_dirty(&mut self) {
        self.agenda.mark_dirty(self.there.iter().copied());
        let is_begun = |index: &VipIndex| self.vips[*index].hooks.tenure.is_some();
        self.agenda.mark_dirty((0..self.vips.len()).filter(is_begun));
    }

    /// Those that come due at `now` are looked at.
    pub(super) fn wake_due(&mut self, now: Instant) {
        self.agenda.wake_due(now);
    }

    /// A session is resumed. A hand-over of what is named as ours, and is missing, may be under way
    /// still: the process before may have removed the address for it. The same is true of what is
    /// there, but was last published in another way: that process may have put the address there
    /// under another name, and given this one free. Such a VIP must be put anew first (rules 6.3 and
    /// 6.4).
    pub(super) fn resumed(&mut self, own: &Own, view: &View, publication: &Publication) {
        for (index, vip) in self.vips.iter_mut().enumerate() {
            let is_unproven =
                publication.defined_at(own, index).is_none() && !own.mutated(Mutant::KeepRenamed);
            let may_be_leaving = !vip.state.may_be_there() || vip.needs_reinstall() || is_unproven;
            if may_be_leaving
                && let Some(known) = view.vip(&own.vip(index).name)
                && !own.mutated(Mutant::KeepAfterResume)
            {
                vip.barrier = vip.barrier.max(known.modified);
            }
            // A new process is no new attempt (rule 7.7).
            vip.failed_at = publication.failed_at(own, index);
        }
        self.mark_all_dirty();
    }

    /// An operator drained this node, and no longer does: whatever was wrong may be tried again.
    pub(super) fn forget_failures(&mut self) {
        self.vips.iter_mut().for_each(Vip::forget_failure);
    }

    /// A renewal was answered: what has settled may move.
    pub(super) fn renewal_answered(&mut self) {
        self.agenda.mark_dirty(self.settling.iter().copied());
    }

    /// Renewals fail: whatever was about to move stays where it is until they succeed for long.
    pub(super) fn settle_anew(&mut self, now: Instant) {
        for &index in &self.settling {
            if let Some((_, since)) = &mut self.vips[index].preferring {
                *since = now;
            }
        }
    }

    /// The store is another one: no answer counts (A2). What was sent may still land, on revisions that
    /// are there again: so whatever a session names that is resumed after this is put anew first.
    pub(super) fn store_changed(&mut self) {
        for index in 0..self.vips.len() {
            self.go(index, Event::StoreChanged);
            let vip = &mut self.vips[index];
            vip.barrier = Revision(0);
            if vip.state.may_be_there() {
                vip.leaving = Some(Leaving::NeedsReinstall);
            }
        }
    }

    /// A transaction about `vips` was answered; `unknown` when it may or may not have happened.
    pub(super) fn answered(
        &mut self,
        situation: &Situation<'_>,
        id: TxnId,
        vips: &[VipIndex],
        unknown: bool,
    ) {
        self.agenda.look_at_crowded_out();
        for &index in vips {
            self.go(index, Event::Answered(id));
            if unknown {
                let retry_at = situation.retry_at();
                self.vips[index].retry_at = Some(retry_at);
                self.agenda.wake(index, retry_at);
            }
        }
        self.agenda.mark_dirty(vips.iter().copied());
    }

    // ---- the state machine

    /// Moves a VIP along its table; whether the event means anything to it now.
    fn go(&mut self, index: VipIndex, event: Event) -> bool {
        let Some(state) = self.vips[index].state.after(event) else { return false };
        self.vips[index].state = state;
        if state.may_be_there() {
            self.there.insert(index);
            self.vips[index].may_have_connections = true;
        } else {
            self.there.remove(&index);
        }
        true
    }
}

/// Why a VIP that etcd does not name for the own session may not stay.
fn not_owned(situation: &Situation<'_>, index: VipIndex) -> MustGo {
    match (situation.named(index), situation.vip_key(index)) {
        (Some((node, _)), _) if node != situation.own.name() => {
            MustGo::new(Departure::OwnedElsewhere, format!("{node} owns it"))
        }
        (None, Some(_)) => {
            MustGo::new(Departure::Unreadable, "what etcd says of it cannot be read")
        }
        _ => MustGo::new(Departure::NotOwned, "nobody gave it to this session"),
    }
}
