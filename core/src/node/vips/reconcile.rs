//! What is to be done about each VIP, given all that is known: hold it, pass it on, claim it, or
//! leave it (rules 2, 4, 5 and 7).

use super::state::State;
use super::vip::{Ineligible, MustGo};
use super::{Context, Leaving, Vips};
use crate::mutant::Mutant;
use crate::name::NodeName;
use crate::node::freeing::Freeing;
use crate::node::outbox::Outbox;
use crate::node::own::VipIndex;
use crate::node::reload::Retiring;
use crate::time::Instant;
use crate::transition::Departure;

/// What is to be done now, for many VIPs at once.
#[derive(Default)]
struct Tasks {
    withdraw: Vec<VipIndex>,
    hand_over: Vec<(VipIndex, Option<NodeName>)>,
    claim: Vec<VipIndex>,
    assume: Vec<VipIndex>,
    end_connections: Vec<VipIndex>,
}

impl Vips {
    /// Brings every VIP about which something has changed one step further.
    pub(in crate::node) fn reconcile(&mut self, context: &Context<'_>, out: &mut Outbox) {
        let mut tasks = Tasks::default();
        for index in self.agenda.take_dirty() {
            match self.vips[index].state {
                State::Adding(_) | State::Held => {
                    self.reconcile_present(context, index, &mut tasks, out);
                }
                State::Absent => self.reconcile_absent(context, index, &mut tasks, out),
                // An answer is waited for.
                State::Unlisted
                | State::Removing(_)
                | State::Claiming(_)
                | State::HandingOver(_) => {}
            }
            // What nothing waits for comes after what was decided now.
            self.run_next(context.situation.own, index, out, context.situation.now);
        }
        self.look_at_crowded_out_hooks(context.situation.now);
        // Removals first: nothing waits for them but safety.
        self.withdraw(context, &tasks.withdraw, out);
        self.hand_over(context, &tasks.hand_over, out);
        self.claim(context, &tasks.claim, out);
        self.assume(context, &tasks.assume, out);
        // What has left answers nothing any more: that has time.
        self.end_connections(context.situation.own, &tasks.end_connections, out);
        out.flush_last();
    }

    fn reconcile_present(
        &mut self,
        context: &Context<'_>,
        index: VipIndex,
        tasks: &mut Tasks,
        out: &mut Outbox,
    ) {
        self.adopt(context, index, out);
        self.prefer(context, index);
        let Err(must_go) = self.may_hold(context, index) else {
            self.tell_kept(&context.situation, index, out);
            return self.wait_for_better(context, index);
        };
        if let Some(at) = self.vips[index].remove_again_at
            && at > context.situation.now
        {
            return self.agenda.wake(index, at);
        }
        if self.is_planned(&context.situation, index, &must_go)
            && !self.is_released(context, index, must_go.departure, out)
        {
            return;
        }
        self.leaves(context, index, must_go.departure, out);
        self.given_up(&context.situation, index);
        Self::report_withdrawing(context.situation.own, index, &must_go, out);
        if context.situation.own.mutated(Mutant::HandOverBeforeRemoval)
            && context.situation.owned(index).is_some()
        {
            tasks.hand_over.push((index, self.successor(context, index)));
        }
        tasks.withdraw.push(index);
    }

    /// What is here as a last resort goes when somebody who is better is heard again.
    fn wait_for_better(&mut self, context: &Context<'_>, index: VipIndex) {
        let Context { situation, candidates, .. } = context;
        if !candidates.well(index).is_empty() && self.is_last_resort(situation, index) {
            self.agenda.wake(index, situation.now + situation.lease().renew());
        }
    }

    /// The kernel has acknowledged that the VIP is not here.
    fn reconcile_absent(
        &mut self,
        context: &Context<'_>,
        index: VipIndex,
        tasks: &mut Tasks,
        out: &mut Outbox,
    ) {
        let situation = &context.situation;
        if situation.own.retiring(index) == Some(Retiring::InPlace) {
            // It is about to be put here anew, otherwise.
            return;
        }
        self.end_tenure(context, index, out);
        if self.ends_connections(context, index) {
            tasks.end_connections.push(index);
        }
        if situation.session.id().is_none() {
            return;
        }
        let Some(modified) = situation.owned(index) else {
            self.vips[index].leaving = None;
            self.vips[index].given_up_at = None;
            self.stop_settling(index);
            return self.claim_if_free(context, index, tasks);
        };
        self.vips[index].free_since = None;
        if self.waits(index, situation.now) || !situation.in_time() || situation.is_quiet() {
            // After another store was noticed it is all looked at again when the quiet is over (A2).
            return;
        }
        if self.vips[index].needs_reinstall() {
            self.vips[index].leaving = None;
        }
        if let Some(why) = self.ineligible(situation, context.candidates, index) {
            if matches!(why, Ineligible::NotNamed(_)) && self.may_be_the_last(situation, index) {
                return;
            }
            let departure = MustGo::from(why).departure;
            // A successor must know why this node is none, before it could hand back.
            if context.publication.is_reason_published(situation, index)
                && !situation.own.mutated(Mutant::SitsOnVip)
                && self.is_released(context, index, departure, out)
            {
                self.give_away(context, index, departure, out);
                tasks.hand_over.push((index, self.successor(context, index)));
            }
        } else if let Some(to) = self.left_for(context, index) {
            if self.is_released(context, index, Departure::Preferred, out) {
                self.give_away(context, index, Departure::Preferred, out);
                tasks.hand_over.push((index, Some(to)));
            }
        } else if self.is_leaving_for_good(situation.own, index, modified) {
            // A hand-over of it may still land: only a new write makes it ours again (rule 5).
            tasks.claim.push(index);
        } else if context.publication.may_assume(situation.own, index)
            && self.is_prepared(context, index, modified, out)
        {
            self.vips[index].leaving = None;
            tasks.assume.push(index);
        }
    }

    /// The most wanted other node, or nobody. While the address belongs to another VIP nobody can
    /// take it.
    pub(super) fn successor(&self, context: &Context<'_>, index: VipIndex) -> Option<NodeName> {
        let Context { situation, candidates, .. } = context;
        if candidates.conflict(index).is_some() {
            return None;
        }
        let others = || candidates.rank(index).iter().filter(|n| *n != situation.own.name());
        let (lease, now) = (situation.lease(), situation.now);
        let is_alive = |node: &&NodeName| situation.peers.heard_lately(node, lease, now);
        others().find(is_alive).or(others().next()).cloned()
    }

    /// Whom the VIP was taken away for, if that one is still preferred. Who is preferred now
    /// matters, not who was when it was decided.
    fn left_for(&mut self, context: &Context<'_>, index: VipIndex) -> Option<NodeName> {
        let vip = &mut self.vips[index];
        if let Some(Leaving::Preferred(_)) = vip.leaving {
            match context.candidates.rank(index).first() {
                Some(first) if first != context.situation.own.name() => return Some(first.clone()),
                _ => vip.leaving = None,
            }
        }
        None
    }

    /// Claims a free VIP: at once where this node is the most wanted, after a short delay a rank
    /// where it is not, so that a VIP is never stuck behind a host that does not take it (rule 4.4).
    fn claim_if_free(&mut self, context: &Context<'_>, index: VipIndex, tasks: &mut Tasks) {
        let situation = &context.situation;
        if !situation.is_free(index) {
            self.vips[index].free_since = None;
            return;
        }
        let since = *self.vips[index].free_since.get_or_insert(situation.now);
        if !self.may_claim(context, index) || !situation.in_time() {
            return;
        }
        let name = situation.own.name();
        let rank = context.candidates.rank(index).iter().position(|node| node == name);
        let Some(rank) = rank else { return };
        let delay = situation.lease().claim_delay() * u32::try_from(rank).unwrap_or(u32::MAX);
        if since + delay > situation.now {
            self.agenda.wake(index, since + delay);
        } else if !self.waits(index, situation.now) {
            tasks.claim.push(index);
        }
    }

    /// Whether this node may claim the VIP where it is free.
    pub(super) fn may_claim(&self, context: &Context<'_>, index: VipIndex) -> bool {
        let Context { situation, publication, candidates } = context;
        publication.is_active()
            && !publication.is_yielded(index)
            && !situation.is_quiet()
            && self.ineligible(situation, candidates, index).is_none()
    }

    /// Notices that placement prefers another node, and after the settling delay moves the VIP.
    ///
    /// Such a move can wait, and a store that does not answer would turn it into a gap: so it
    /// begins only right after an own renewal was answered, and after an outage it settles anew.
    fn prefer(&mut self, context: &Context<'_>, index: VipIndex) {
        let Context { situation, candidates, .. } = context;
        let (own, now, lease) = (situation.own, situation.now, situation.lease());
        if situation.owned(index).is_none() {
            return;
        }
        let preferred = candidates.rank(index).first().filter(|first| *first != own.name());
        let Some(preferred) = preferred.cloned() else {
            return self.stop_settling(index);
        };
        let since = match &self.vips[index].preferring {
            Some((node, since)) if *node == preferred => *since,
            _ => now,
        };
        // What an operator asks for is not a matter of settling.
        let pin = situation.view.pinned(&own.vip(index).name);
        let at_once = pin.is_some_and(|pin| pin.node == preferred);
        let settled = if at_once { since } else { since + lease.settling_delay() };
        let paused = situation.peers.is_paused();
        let store_answers = !paused && situation.session.was_just_answered(now);
        let steady = if at_once { !paused } else { store_answers };
        let doubtful = !steady || !situation.peers.heard_lately(&preferred, lease, now);
        self.settling.insert(index);
        self.vips[index].preferring = Some((preferred.clone(), since));
        if settled > now {
            self.agenda.wake(index, settled);
        } else if doubtful {
            // Looked at again when the next renewal is answered, and for an operator's wish sooner.
            if at_once {
                self.agenda.wake(index, now + lease.urgent_retry_delay());
            }
        } else {
            self.vips[index].leaving = Some(Leaving::Preferred(preferred));
            self.stop_settling(index);
        }
    }

    /// Whether a VIP is about to move to another node that is preferred, and waits for a good time.
    pub(in crate::node) fn is_settling(&self) -> bool {
        !self.settling.is_empty()
    }

    fn stop_settling(&mut self, index: VipIndex) {
        self.settling.remove(&index);
        self.vips[index].preferring = None;
    }

    /// Whether something failed so recently that it is not tried again yet.
    fn waits(&mut self, index: VipIndex, now: Instant) -> bool {
        match self.vips[index].retry_at {
            Some(at) if at > now => {
                self.agenda.wake(index, at);
                true
            }
            _ => {
                self.vips[index].retry_at = None;
                false
            }
        }
    }

    /// Whether something is there that is not this node's to hold. Its address may have another name in
    /// today's configuration, even that of a VIP which this node owns: so nothing is given free
    /// meanwhile (interleaving 20).
    pub(in crate::node) fn has_leftovers(&self, context: &Context<'_>) -> bool {
        let only_unowned = context.situation.own.mutated(Mutant::LeftoversOwned);
        self.there().any(|index| {
            if only_unowned {
                return context.situation.owned(index).is_none();
            }
            matches!(self.vips[index].state, State::Removing(_))
                || context.situation.owned(index).is_none()
                || self.may_hold(context, index).is_err()
        })
    }

    /// Whether a VIP still names the own session, or a transaction about one is under way.
    pub(in crate::node) fn owns_something(
        &self,
        context: &Context<'_>,
        freeing: &Freeing,
        out: &Outbox,
    ) -> bool {
        let situation = &context.situation;
        let session = situation.session.owner_id();
        session.is_some_and(|id| situation.vips_of(situation.own.name(), id).next().is_some())
            || out.txns_about_vips() > 0
            || freeing.is_under_way()
    }
}
