//! What becomes of the VIPs when the configuration changes (rule 14).

use std::collections::BTreeSet;

use super::state::State;
use super::vip::{Leaving, Vip};
use super::{Context, Vips};
use crate::action::{Action, OpId};
use crate::config::VipAddress;
use crate::mutant::Mutant;
use crate::name::Revision;
use crate::node::outbox::Outbox;
use crate::node::own::{Own, VipIndex};
use crate::node::reload::{Retiring, Step};
use crate::time::Instant;
use crate::view::View;

impl Vips {
    /// Whether the VIP, as it is today, can give way: nothing of it is here or on its way here, and
    /// nobody is left who could go on with it as it is (rule 14.2).
    pub(in crate::node) fn is_clear(&self, context: &Context<'_>, index: VipIndex) -> bool {
        let own = context.situation.own;
        if own.mutated(Mutant::RedefinedWhileHeld) {
            return true;
        }
        self.vips[index].state == State::Absent
            && (own.retiring(index) == Some(Retiring::InPlace)
                || (self.vips[index].hooks.is_through()
                    && (context.situation.owned(index).is_none()
                        || self.successor(context, index).is_none())))
    }

    /// Whether the VIP is taken away to be put here anew: nobody is told that, and no hook is run.
    pub(super) fn is_put_anew(&self, own: &Own, index: VipIndex) -> bool {
        own.retiring(index) == Some(Retiring::InPlace)
    }

    /// Those that have gone, and are to be passed on, run what is due for that before they give way.
    pub(in crate::node) fn end_tenures_of_retiring(
        &mut self,
        context: &Context<'_>,
        out: &mut Outbox,
    ) {
        let own = context.situation.own;
        for index in 0..own.vip_count() {
            if own.retiring(index) == Some(Retiring::PassedOn)
                && self.vips[index].state == State::Absent
            {
                self.end_tenure(context, index, out);
            }
        }
    }

    /// Whether the VIP, which is to be passed on, stays where it is until all others know why: then the
    /// gap is that of any hand-over. Where nobody can take it over that would not shorten anything.
    pub(super) fn stays_until_told(&self, context: &Context<'_>, index: VipIndex) -> bool {
        let Context { situation, publication, .. } = context;
        situation.own.retiring(index) == Some(Retiring::PassedOn)
            && publication.is_active()
            && !publication.is_reason_published(situation, index)
            && self.successor(context, index).is_some()
    }

    /// Another configuration is today's, as of that kernel operation. What stays in it goes on; what is
    /// new is looked for first, as at a start.
    pub(in crate::node) fn reconfigured(
        &mut self,
        step: &Step,
        view: &View,
        configured: Option<OpId>,
        out: &mut Outbox,
        now: Instant,
    ) {
        self.end_connections_of_gone(step, out);
        let own = &step.after;
        let before = std::mem::take(&mut self.vips);
        for index in 0..own.vip_count() {
            let vip = match step.from.get(&index) {
                Some(&old) => {
                    let mut vip = before[old].clone();
                    if own.mutated(Mutant::UnchangedTouched) {
                        vip.reinstall();
                    }
                    vip
                }
                None => {
                    let old = step.before.index_of(&own.vip(index).name).map(|old| &before[old]);
                    let named = view.vip(&own.vip(index).name).map(|known| known.modified);
                    let named = named.filter(|_| !own.mutated(Mutant::ReaddedTrusted));
                    new_vip(old, named.unwrap_or_default(), configured)
                }
            };
            self.vips.push(vip);
        }
        self.there = (0..self.vips.len()).filter(|i| self.vips[*i].state.may_be_there()).collect();
        self.settling = step.moved.all(std::mem::take(&mut self.settling));
        self.doubles = step.moved.map(std::mem::take(&mut self.doubles));
        self.hooks_moved(step);
        self.agenda.moved(&step.moved);
        self.conflicts.moved(&step.moved);
        self.configured = self.configured.max(configured.unwrap_or(OpId(0)));
        if step.before.config.announce_every != own.config.announce_every {
            self.repeat_all_anew(own, now);
        }
        self.mark_all_dirty();
    }

    /// Whether that listing was asked for when other addresses were today's.
    pub(in crate::node) fn is_before_configuration(&self, listing: OpId) -> bool {
        listing < self.configured
    }

    fn repeat_all_anew(&mut self, own: &Own, now: Instant) {
        self.agenda.take_all_repetitions();
        let there: BTreeSet<VipIndex> = self.there.clone();
        for index in there {
            self.repeat_announcing(own, index, now);
        }
    }

    /// Ends the connections through what is no VIP's any more.
    fn end_connections_of_gone(&mut self, step: &Step, out: &mut Outbox) {
        let gone = |index: &VipIndex| {
            step.moved.to(*index).is_none() && self.vips[*index].may_have_connections
        };
        let ends = (0..step.before.vip_count()).filter(gone).map(|index| step.before.vip(index));
        let ips = ends.filter(|vip| !vip.keep_connections).flat_map(|vip| &vip.addresses);
        let gone = ips.map(VipAddress::ip).filter(|ip| step.after.vips_with(*ip).is_empty());
        let addresses: Vec<_> = gone.collect();
        if !addresses.is_empty() {
            out.push(Action::EndConnections { addresses });
        }
    }
}

/// A VIP that is new, or is defined otherwise than `old`. A request of this process may be under way that
/// gives it free, or passes it on: so if its key names this session, as of the revision `named`, it is put
/// anew first (rule 14.4). A listing that was asked for before says nothing of it.
fn new_vip(old: Option<&Vip>, named: Revision, configured: Option<OpId>) -> Vip {
    let mut vip = Vip::new();
    vip.touched = configured.unwrap_or(vip.touched);
    match old {
        // Its key was not touched but by hand-overs, which the barrier knows.
        Some(old) => {
            vip.barrier = old.barrier;
            vip.retry_at = old.retry_at;
            // It goes on as soon as it is here again.
            vip.leaving = Some(Leaving::NeedsReinstall);
            vip.may_have_connections = old.may_have_connections;
            vip.hooks = old.hooks.clone();
        }
        None => vip.barrier = named,
    }
    vip
}
