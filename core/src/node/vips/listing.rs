//! What the kernel says is there, held against what should be (rules 6 and 7).

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use super::state::{Event, State};
use super::vip::Blocked;
use super::{Context, Vips, doubles};
use crate::action::OpId;
use crate::kernel::{Listing, PresentAddress};
use crate::mutant::Mutant;
use crate::name::Revision;
use crate::node::interfaces::Interfaces;
use crate::node::outbox::Outbox;
use crate::node::own::{Own, VipIndex};
use crate::report::Report;
use crate::time::Instant;

/// What a listing has of one VIP.
#[derive(Clone, Copy, Default)]
struct Found {
    /// How many of its addresses are there.
    there: usize,
    /// How many of these carry turnip's mark.
    ours: usize,
    /// How many of them do not stand as they should beside the host's own addresses.
    misplaced: usize,
}

/// What has to be done about a listing.
#[derive(Default)]
pub(in crate::node) struct Compared {
    /// What carries turnip's mark and is no part of today's configuration.
    pub(in crate::node) strays: Vec<PresentAddress>,
    /// VIPs that somebody else has changed, and what is wrong with them.
    pub(in crate::node) repairs: Vec<(VipIndex, &'static str)>,
    /// VIPs of which an IP has appeared elsewhere on this host, or is gone from there.
    pub(in crate::node) doubles: Vec<VipIndex>,
    /// The listing is older than what was done since: one more is needed.
    pub(in crate::node) is_outdated: bool,
}

impl Vips {
    /// Compares what the kernel listed for operation `id` with what should be there.
    pub(in crate::node) fn compare_with(
        &mut self,
        context: &Context<'_>,
        id: OpId,
        listing: &Listing,
        out: &mut Outbox,
    ) -> Compared {
        let own = context.situation.own;
        let (mut compared, mut misplaced) = (Compared::default(), Vec::new());
        // What was taken away since, with an earlier configuration, may be in it still.
        compared.is_outdated = id < self.configured;
        let mut found: BTreeMap<VipIndex, Found> = BTreeMap::new();
        let mut doubles: BTreeMap<VipIndex, Vec<&PresentAddress>> = BTreeMap::new();
        let addresses: BTreeSet<&PresentAddress> = listing.addresses.iter().collect();
        for present in addresses {
            match own.index_by_assignment(&present.interface, present.address) {
                Some(index) => {
                    let found = found.entry(index).or_default();
                    found.there += 1;
                    found.ours += usize::from(present.marked);
                    found.misplaced += usize::from(present.misplaced);
                }
                None if present.marked && id < self.configured => {}
                None if present.marked => compared.strays.push(present.clone()),
                None => {
                    if let Some(index) = own.index_by_double(&present.interface, present.address) {
                        doubles.entry(index).or_default().push(present);
                    }
                }
            }
        }
        // Before anything is decided by it.
        let doubles_before = std::mem::replace(&mut self.doubles, doubles::in_words(doubles));
        let concerned: BTreeSet<VipIndex> =
            found.keys().copied().chain(self.there.iter().copied()).collect();
        for index in concerned {
            let found = found.get(&index).copied().unwrap_or_default();
            if self.vips[index].touched >= id {
                compared.is_outdated = true;
            } else if self.vips[index].state == State::Unlisted {
                self.find(own, index, found, context.situation.now);
            } else if let Some(wrong) = self.compare(context, index, found, out) {
                compared.repairs.push((index, wrong));
            } else if found.misplaced > 0 && self.may_be_put_anew(context, index) {
                misplaced.push(index);
            }
        }
        self.put_anew(context, &misplaced, out);
        compared.doubles = self.doubles_changed(own, &doubles_before, out);
        compared
    }

    /// Puts VIPs there once more that are here, whole, and stand otherwise than they should beside the
    /// host's own addresses. Nobody has changed anything of them, so it is no repair (rule 7.8).
    fn put_anew(&mut self, context: &Context<'_>, vips: &[VipIndex], out: &mut Outbox) {
        let own = context.situation.own;
        for &index in vips {
            let vip = own.vip(index);
            let addresses: Vec<String> = vip.assignments().map(|one| one.to_string()).collect();
            let addresses = addresses.join(", ");
            out.report(Report::Misplaced { vip: vip.name.clone(), addresses });
        }
        self.assume(context, vips, out);
    }

    fn may_be_put_anew(&self, context: &Context<'_>, index: VipIndex) -> bool {
        self.vips[index].state == State::Held
            && self.may_hold(context, index).is_ok()
            && may_be_assumed(context)
            && !context.situation.own.mutated(Mutant::MisplacedLeft)
    }

    /// What is there at the start. Part of a VIP, or what somebody else put there, is as good as
    /// nothing: it goes before it may come back.
    fn find(&mut self, own: &Own, index: VipIndex, found: Found, now: Instant) {
        if found.there == 0 {
            self.go(index, Event::FoundAbsent);
        } else {
            self.go(index, Event::FoundPresent);
            self.repeat_announcing(own, index, now);
            if found.ours < own.vip(index).addresses.len() {
                self.vips[index].reinstall();
            }
        }
        self.agenda.mark_dirty([index]);
    }

    /// Sets right what somebody else changed (rule 7.1); says what.
    fn compare(
        &mut self,
        context: &Context<'_>,
        index: VipIndex,
        found: Found,
        out: &mut Outbox,
    ) -> Option<&'static str> {
        let own = context.situation.own;
        if own.mutated(Mutant::NoRepair) {
            return None;
        }
        let may_hold = self.may_hold(context, index).is_ok();
        let state = self.vips[index].state;
        if state == State::Held && found.there < own.vip(index).addresses.len() && may_hold {
            if may_be_assumed(context) {
                // What is there of it stays.
                self.assume(context, &[index], out);
            } else {
                self.vips[index].reinstall();
                self.agenda.mark_dirty([index]);
            }
            return Some("is missing although it is held here");
        }
        if !state.may_be_there() && found.there > 0 && !may_hold {
            self.go(index, Event::FoundPresent);
            self.vips[index].reinstall();
            self.agenda.mark_dirty([index]);
            return Some("is here although it is not held here");
        }
        None
    }

    // ---- interfaces

    /// An interface has come, gone, or changed: what that means for its VIPs. Says which are
    /// blocked otherwise than before.
    pub(in crate::node) fn interface_changed(
        &mut self,
        own: &Own,
        interfaces: &Interfaces,
        (name, at): (&str, (Instant, Revision)),
        out: &mut Outbox,
    ) -> Vec<VipIndex> {
        let vips = own.vips_on(name);
        vips.iter()
            .copied()
            .filter(|&index| self.judge(own, interfaces, (index, at), out))
            .collect()
    }

    fn judge(
        &mut self,
        own: &Own,
        interfaces: &Interfaces,
        (index, at): (VipIndex, (Instant, Revision)),
        out: &mut Outbox,
    ) -> bool {
        let config = own.vip(index);
        let wrong = |interface: &Arc<str>| match interfaces.link(interface) {
            None => Some(format!("interface {interface} does not exist")),
            Some(link) if !link.up => Some(format!("interface {interface} is down")),
            Some(link) if !link.carrier && config.require_carrier => {
                Some(format!("interface {interface} has no carrier"))
            }
            Some(_) => None,
        };
        // Each of them is needed: a router's outside is of no use without its inside.
        let mut all: Vec<String> = config.links().into_iter().filter_map(wrong).collect();
        if own.mutated(Mutant::OneLinkSuffices) && all.len() < config.links().len() {
            all.clear();
        }
        let vip = &mut self.vips[index];
        let is_without = |blocked: &Blocked| blocked.until.is_none();
        let was_without = vip.blocked.as_ref().is_some_and(is_without);
        match (!all.is_empty()).then(|| all.join(", ")) {
            Some(why) => {
                if !was_without {
                    vip.interface.fell(at.0);
                }
                // Another interface, another attempt.
                vip.forget_failure();
                self.set_blocked(own, index, Some(Blocked { why, until: None }), out)
            }
            // A refusal of the kernel has its own end.
            None if was_without => {
                self.interface_is_back(own, index, at, out);
                self.set_blocked(own, index, None, out)
            }
            None => false,
        }
    }

    /// What comes and goes is not trusted at once: until it has stayed for a while, nobody gives a VIP up
    /// for it that works (rule 7.7).
    fn interface_is_back(
        &mut self,
        own: &Own,
        index: VipIndex,
        (now, newest): (Instant, Revision),
        out: &mut Outbox,
    ) {
        let vip = &mut self.vips[index];
        vip.interface.rose(now);
        let hold_down = vip.interface.hold_down();
        if hold_down.is_zero() || own.mutated(Mutant::FlapsForgotten) {
            return;
        }
        (vip.failed_at, vip.steady_at) = (Some(newest), Some(now + hold_down));
        self.agenda.wake(index, now + hold_down);
        let config = own.vip(index);
        let links: Vec<&str> = config.links().into_iter().map(|link| &**link).collect();
        let (vip, interface) = (config.name.clone(), links.join(" or ").into());
        out.report(Report::Unsteady { vip, interface, hold_down });
    }

    /// Interfaces have stayed for long enough; says for which VIPs.
    pub(in crate::node) fn steady_due(&mut self, now: Instant) -> Vec<VipIndex> {
        let is_due = |index: &VipIndex| self.vips[*index].steady_at.is_some_and(|at| at <= now);
        let due: Vec<VipIndex> = self.agenda.dirty().iter().copied().filter(is_due).collect();
        due.iter().for_each(|&index| self.vips[index].forget_failure());
        due
    }

    /// Neighbours may have lost what they knew of an interface.
    pub(in crate::node) fn announce_on(&mut self, own: &Own, name: &str, now: Instant) {
        for &index in own.vips_on(name) {
            if self.vips[index].state == State::Held {
                self.agenda.announce_from(index, now);
            }
        }
    }
}

/// Whether what is held may be put there once more, as it is: no hand-over of it was sent.
fn may_be_assumed(context: &Context<'_>) -> bool {
    context.situation.session.id().is_some() && context.publication.is_active()
}
