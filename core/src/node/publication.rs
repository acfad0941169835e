//! What this node tells the others in `nodes/<node>`, and what it has told them (rules 4.6 to
//! 4.10, rule 6.4).

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use super::candidates::Candidates;
use super::outbox::{Outbox, Purpose};
use super::own::{Own, VipIndex};
use super::reload::{Retiring, Step};
use super::situation::Situation;
use super::vips::Vips;
use crate::config::VipConfig;
use crate::mutant::Mutant;
use crate::name::Revision;
use crate::records::{MemberRecord, NodeRecord, VipOffer, encode};
use crate::report::Report;
use crate::store::{Compare, Op, Txn};
use crate::timer::Timer;
use crate::view::View;

/// So much is published of why VIPs cannot be held, in bytes: whatever befalls all of a host's
/// VIPs at once, the record must stay below what etcd takes, or nobody learns to take them over.
const REASONS_BYTES_MAX: usize = 128 << 10;
/// What is published of the reasons beyond that.
const REASON_BEYOND: &str = "see its log";

/// The own record: as it is in the store, and what is to become of it.
#[derive(Clone, PartialEq, Eq, Hash, Debug, Default)]
pub(super) struct Publication {
    /// The record in the session that the store has for this node, and its mod_revision.
    published: Option<(Arc<NodeRecord>, Revision)>,
    /// When that session began.
    session_began: Revision,
    /// This process resumed a session whose record was then at this revision. What the process before
    /// sent on top of that may land at any time, until the record has been written once more.
    inherited_at: Option<Revision>,
    /// Since when all of today's definitions have been published in it.
    complete_at: Option<Revision>,
    /// Addresses may be assumed: this node's definitions are published in its session, and
    /// everything that others had published before is known. Once so, it stays so.
    active: bool,
    /// VIPs that may not be assumed all the same.
    yielded: BTreeMap<VipIndex, Yielded>,
    /// What should be published may have changed.
    stale: bool,
    /// A publication is under way.
    pending: bool,
    member: Option<MemberRecord>,
    repairs: u64,
}

/// How far this node has come with a VIP whose place as the first it gave up.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
enum Yielded {
    /// The publication that says so compares this revision of the record, and may land at any time.
    Until(Revision),
    /// It is published anew as of this revision; what others had published before is not known yet.
    Renewed(Revision),
}

impl Publication {
    pub(super) fn mark_stale(&mut self) {
        self.stale = true;
    }

    pub(super) fn is_active(&self) -> bool {
        self.active
    }

    pub(super) fn member(&self) -> Option<&MemberRecord> {
        self.member.as_ref()
    }

    /// Counts and tells something that was set right because somebody else had changed it.
    pub(super) fn repaired(&mut self, own: &Own, index: VipIndex, what: &str, out: &mut Outbox) {
        self.repairs += 1;
        self.stale = true;
        let vip = own.vip(index);
        let addresses: Vec<String> = vip.assignments().map(|one| one.to_string()).collect();
        let what = format!("{} {what}", addresses.join(", "));
        out.report(Report::Repairing { vip: vip.name.clone(), what, count: self.repairs });
    }

    // ---- what is published

    fn offer<'s>(&'s self, own: &Own, index: VipIndex) -> Option<(&'s VipOffer, Revision)> {
        let (record, modified) = self.published.as_ref()?;
        Some((record.vips.get(&own.vip(index).name)?, *modified))
    }

    /// Since which revision the VIP's addresses have been published as its in this session.
    pub(super) fn defined_at(&self, own: &Own, index: VipIndex) -> Option<Revision> {
        let (offer, modified) = self.offer(own, index)?;
        let vip = own.vip(index);
        let covered = vip.addresses.iter().all(|one| offer.addresses.contains(&one.net))
            && offer.has_links_of(vip, true);
        (covered && !offer.yields).then(|| offer.defined_since(self.session_began, modified))
    }

    /// At which revision the last attempt to hold the VIP failed, as published in this session.
    pub(super) fn failed_at(&self, own: &Own, index: VipIndex) -> Option<Revision> {
        // Of an interface that comes and goes a new process knows nothing.
        let (offer, _) = self.offer(own, index)?;
        offer.failed_at.filter(|_| !offer.unsteady)
    }

    /// Whether this node has published definitions, and others than today's of this VIP: from
    /// today's publication on, whoever was the second with its addresses is the first.
    pub(super) fn is_defined_otherwise(&self, own: &Own, index: VipIndex) -> bool {
        !self.active && self.published.is_some() && self.defined_at(own, index).is_none()
    }

    /// Whether the VIP may be put here, and claimed.
    pub(super) fn may_assume(&self, own: &Own, index: VipIndex) -> bool {
        self.active && !self.is_yielded(index) && self.defined_at(own, index).is_some()
    }

    /// Whether its place as the first was given up, and is not taken anew yet.
    pub(super) fn is_yielded(&self, index: VipIndex) -> bool {
        self.yielded.contains_key(&index)
    }

    /// Whether the others can see why this node does not hold the VIP.
    pub(super) fn is_reason_published(&self, situation: &Situation<'_>, index: VipIndex) -> bool {
        if situation.shutdown.has_begun() || situation.is_drained() {
            // They see the session go, or the operator's intent.
            return true;
        }
        self.offer(situation.own, index).is_some_and(|(offer, _)| offer.blocked.is_some())
    }

    /// The own record, or the own session, has changed: says which VIPs that concerns.
    pub(super) fn changed(&mut self, own: &Own, view: &View) -> BTreeSet<VipIndex> {
        let now = view.node(own.name());
        let now = now.and_then(|known| Some((Arc::clone(known.readable()?), known.modified)));
        let before = std::mem::replace(&mut self.published, now);
        self.session_began = view.session_id(own.name()).map(|id| id.0).unwrap_or_default();
        self.stale = true;
        self.complete_at = self.all_defined_at(own);
        let mut changed = BTreeSet::new();
        for index in 0..own.vip_count() {
            let offer = self.offer(own, index);
            let name = &own.vip(index).name;
            let was = before.as_ref().and_then(|(record, _)| record.vips.get(name));
            if offer.map(|(offer, _)| offer) != was {
                changed.insert(index);
            }
            let Some((offer, modified)) = offer else { continue };
            match self.yielded.get(&index) {
                Some(Yielded::Until(compared))
                    if modified > *compared && self.defined_at(own, index).is_some() =>
                {
                    self.yielded.insert(index, Yielded::Renewed(modified));
                }
                None if offer.yields => {
                    // By the process before.
                    self.yielded.insert(index, Yielded::Until(modified));
                }
                _ => {}
            }
        }
        changed
    }

    /// Since when all of today's definitions have been published in this session, or yielded.
    fn all_defined_at(&self, own: &Own) -> Option<Revision> {
        let (record, modified) = self.published.as_ref()?;
        let same = record.vips.len() == own.vip_count()
            && (0..own.vip_count()).all(|index| {
                let vip = own.vip(index);
                record.vips.get(&vip.name).is_some_and(|offer| {
                    offer.digest == own.digest(index)
                        && offer.has_links_of(vip, false)
                        && offer.addresses == VipOffer::of(vip, String::new()).addresses
                })
            });
        let since = |offer: &VipOffer| offer.defined_since(self.session_began, *modified);
        let last = record.vips.values().map(since).max();
        same.then(|| last.unwrap_or(*modified))
    }

    /// A session is resumed, with the record as the process before left it.
    pub(super) fn resumed(&mut self, own: &Own, view: &View) {
        if !own.mutated(Mutant::InheritedRecordTrusted) {
            self.inherited_at = Some(view.node_modified(own.name()));
        }
    }

    /// Whether nothing that an earlier process sent can land on the record any more.
    fn is_certain(&self) -> bool {
        let modified = self.published.as_ref().map(|(_, modified)| *modified);
        self.inherited_at.is_none_or(|inherited| modified > Some(inherited))
    }

    /// More is known of what others have published. Says which VIPs may be assumed from now on:
    /// all (none is named) when the node becomes active, or those whose place was taken anew.
    pub(super) fn view_complete_to(&mut self, situation: &Situation<'_>) -> (bool, Vec<VipIndex>) {
        let known = situation.view.complete_to;
        let own_session = situation.session.id().is_some();
        let is_known = self.complete_at.is_some_and(|at| at <= known);
        let activated = !self.active && own_session && is_known && self.is_certain();
        self.active |= activated;
        let is_over = |_: &VipIndex, yielded: &mut Yielded| matches!(yielded, Yielded::Renewed(at) if *at <= known);
        if self.yielded.is_empty() {
            return (activated, Vec::new());
        }
        let renewed = self.yielded.extract_if(.., is_over).map(|(index, _)| index).collect();
        (activated, renewed)
    }

    /// Another configuration is today's. What is new in it is assumed when it was published, and all that
    /// others had published before is known (rule 14.3): a request with another definition of it may be
    /// under way, so that counts from a later write than the one that is known now.
    pub(super) fn reconfigured(&mut self, step: &Step, view: &View) {
        let (before, own) = (&step.before, &step.after);
        let known = view.node_modified(own.name());
        let mut yielded = BTreeMap::new();
        for index in 0..own.vip_count() {
            let old = before.index_of(&own.vip(index).name);
            let covered = old.is_some_and(|old| covers(before.vip(old), own.vip(index)));
            if let Some(so_far) = old.and_then(|old| self.yielded.get(&old)) {
                yielded.insert(index, *so_far);
            }
            if !covered && !own.mutated(Mutant::AddedAtOnce) {
                yielded.insert(index, Yielded::Until(known));
            }
        }
        self.yielded = yielded;
        self.complete_at = self.all_defined_at(own);
        self.stale = true;
    }

    /// The session is over: what was published belonged to it.
    pub(super) fn session_lost(&mut self, own: &Own) {
        if !own.mutated(Mutant::ActiveOutlivesSession) {
            self.active = false;
        }
        self.yielded.clear();
        self.inherited_at = None;
        self.stale = true;
    }

    /// The store is another one (A2).
    pub(super) fn forget_request(&mut self) {
        self.pending = false;
    }

    // ---- what should be

    /// What `nodes/<node>` should hold, with the VIPs that it yields.
    fn wanted(
        &self,
        situation: &Situation<'_>,
        vips: &Vips,
        candidates: &Candidates,
    ) -> (NodeRecord, Vec<VipIndex>) {
        let own = situation.own;
        let (mut reasons_bytes, mut yielded) = (0, Vec::new());
        let offers = (0..own.vip_count()).map(|index| {
            let vip = own.vip(index);
            let mut reason = |why: &str| {
                reasons_bytes += why.len();
                let fits = reasons_bytes <= REASONS_BYTES_MAX;
                if fits { why.to_owned() } else { REASON_BEYOND.to_owned() }
            };
            let is_passed_on = own.retiring(index) == Some(Retiring::PassedOn);
            let retiring = is_passed_on.then_some(Retiring::WHY);
            let not_named = vips.not_named(situation, index).map(|it| it.why);
            let unwell = vips.unwell(situation, index).map(|unwell| unwell.why);
            let blocked = vips.blocked(index).or(candidates.conflict(index)).or(retiring);
            let blocked = blocked.or(not_named.as_deref()).or(unwell.as_deref()).map(&mut reason);
            let is_last_resort = candidates.conflict(index).is_none()
                && !is_passed_on
                && vips.is_last_resort(situation, index);
            let notice = vips.double_beside(index).map(reason);
            let yields = vips.yields(situation, index);
            if yields {
                yielded.push(index);
            }
            let defined_at = situation.session.id().and_then(|_| self.defined_at(own, index));
            let offer = VipOffer {
                defined_at: defined_at.filter(|_| !yields),
                blocked,
                notice,
                yields,
                failed_at: vips.failed_at(index),
                unsteady: vips.is_unsteady(index),
                last_resort: is_last_resort,
                ..situation.health.offer(own, index)
            };
            (vip.name.clone(), offer)
        });
        let record = NodeRecord {
            vips: offers.collect(),
            checks: situation.health.records(own),
            weighs_vips: true,
            weight: situation.health.weigh_node(own),
            // Who stops is nobody's successor, or what it hands over would come right back.
            drained: situation.is_drained() || situation.shutdown.has_begun(),
            member: self.member.clone(),
            repairs: self.repairs,
            heartbeats: own.config.heartbeats.as_ref().map(|config| config.address),
            version: own.config.version.clone(),
        };
        (record, yielded)
    }

    /// The same for a session that is being opened, as it goes into the store.
    pub(super) fn first(
        &self,
        situation: &Situation<'_>,
        vips: &Vips,
        candidates: &Candidates,
    ) -> Vec<u8> {
        encode(&self.wanted(situation, vips, candidates).0)
    }

    /// Writes `nodes/<node>` when it is not what it should be.
    pub(super) fn publish(
        &mut self,
        situation: &Situation<'_>,
        vips: &Vips,
        candidates: &Candidates,
        out: &mut Outbox,
    ) {
        let (own, now) = (situation.own, situation.now);
        let Some(session) = situation.session.id() else { return };
        let waits = out.timers.get(Timer::Publish).is_some_and(|at| at > now);
        if self.pending || !self.stale || waits {
            return;
        }
        let hinders = |index: VipIndex| self.is_defined_otherwise(own, index);
        if vips.there().any(hinders) && !own.mutated(Mutant::PublishBeforeRemoval) {
            // It is being taken away (rule 4.9).
            return;
        }
        self.stale = false;
        let (record, yielded) = self.wanted(situation, vips, candidates);
        // Where a publication that yields a VIP may still land, only a later write ends that.
        let may_still_land = |(index, yielding): (&VipIndex, &Yielded)| {
            matches!(yielding, Yielded::Until(_)) && !yielded.contains(index)
        };
        let same = |published: &NodeRecord| says_the_same(published, &record);
        let published = self.published.as_ref();
        if published.is_some_and(|(published, _)| same(published))
            && !self.yielded.iter().any(may_still_land)
            && self.is_certain()
        {
            return;
        }
        let (key, own_key) = (own.keys.node(own.name()), own.keys.session(own.name()));
        // What is published follows from what was: an earlier request that lands late, or on a
        // record that is not known yet, would make the definitions younger than they are.
        let is = situation.view.node_modified(own.name());
        let txn = Txn {
            compares: vec![
                Compare::CreateRevision { key: own_key.clone(), is: session.0 },
                Compare::ModRevision { key: key.clone(), is },
            ],
            success: vec![Op::Put { key: key.clone(), value: encode(&record) }],
            failure: vec![Op::Get { key: own_key }, Op::Get { key }],
        };
        // From here on another node may take its addresses under another name.
        self.yielded.extend(yielded.into_iter().map(|index| (index, Yielded::Until(is))));
        self.pending = true;
        out.commit(Purpose::Publish, txn, situation.knowing(), situation.timeout());
    }

    pub(super) fn answered(&mut self, unknown: bool, situation: &Situation<'_>, out: &mut Outbox) {
        self.pending = false;
        self.stale = true;
        if unknown {
            out.timers.set(Timer::Publish, situation.retry_at());
        }
    }

    /// What the etcd member on this host says of itself; no answer is a no. Whether that is news.
    pub(super) fn member_answered(
        &mut self,
        member: Option<MemberRecord>,
        out: &mut Outbox,
    ) -> bool {
        if self.member == member {
            return false;
        }
        let leads = |member: &Option<MemberRecord>| member.as_ref().is_some_and(|m| m.leader);
        if leads(&self.member) != leads(&member) {
            out.report(Report::RaftLeader(leads(&member)));
        }
        self.member = member;
        self.stale = true;
        true
    }
}

/// Whether all that the new definition has was published with the old one.
fn covers(old: &VipConfig, new: &VipConfig) -> bool {
    let nets = |vip: &VipConfig| vip.addresses.iter().map(|one| one.net).collect::<BTreeSet<_>>();
    nets(new).is_subset(&nets(old)) && new.link_local() == old.link_local()
}

/// Whether they say the same, but for the revision that a first publication does not know: its own.
fn says_the_same(published: &NodeRecord, wanted: &NodeRecord) -> bool {
    let undated = |record: &NodeRecord| {
        let mut record = record.clone();
        record.vips.values_mut().for_each(|offer| offer.defined_at = None);
        record
    };
    published == wanted || undated(published) == undated(wanted)
}
