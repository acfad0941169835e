//! Who should own each VIP, as this node sees it: what the others publish, ranks, conflicts.
//!
//! Only what a change touches is looked at again.

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;
use std::sync::Arc;

use ipnet::IpNet;

use super::outbox::Outbox;
use super::own::{Own, VipIndex};
use super::publication::Publication;
use super::reload::Step;
use super::situation::Situation;
use super::vips::Vips;
use crate::config::Policy;
use crate::mutant::Mutant;
use crate::name::{NodeName, Revision, SessionId, VipName};
use crate::placement::{self, Candidate, Pin, Unfit, Weight};
use crate::records::{MemberRecord, NodeRecord, VipOffer};
use crate::report::Report;
use crate::view::View;

/// What a live node has published in its session.
#[derive(Clone, PartialEq, Eq, Hash, Debug)]
struct Published {
    record: Arc<NodeRecord>,
    modified: Revision,
    /// When that session began.
    session: Revision,
    /// An operator wants it to hold nothing.
    drained: bool,
}

impl Published {
    /// Since when one of its VIPs has been defined so.
    fn defined_at(&self, own: &Own, offer: &VipOffer) -> Revision {
        match offer.defined_at {
            Some(at) if own.mutated(Mutant::FirstBeforeSession) => at,
            _ => offer.defined_since(self.session, self.modified),
        }
    }
}

/// Another node's VIP of another name that has an address of one of ours.
type Rival = (IpAddr, NodeName, VipName);

/// The candidates for each VIP, and what stands against them.
#[derive(Clone, PartialEq, Eq, Hash, Debug)]
pub(super) struct Candidates {
    /// By the other nodes that are live.
    published: BTreeMap<NodeName, Published>,
    /// With the revision since which they have been published.
    rivals: BTreeMap<VipIndex, BTreeMap<Rival, Revision>>,
    /// Why a VIP stays inactive here: one of its addresses is another VIP's.
    conflicts: BTreeMap<VipIndex, String>,
    /// Who should own each VIP, most wanted first.
    ranks: Vec<Vec<NodeName>>,
    /// How many of these are well: their checks pass, and their last attempt did not fail.
    well: Vec<usize>,
    /// VIPs to be ranked again.
    stale: BTreeSet<VipIndex>,
    /// VIPs whose conflicts are to be looked at again.
    unsure: BTreeSet<VipIndex>,
    pins_reported: BTreeSet<(VipName, NodeName)>,
}

/// What looking again has brought.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub(super) struct Updated {
    /// VIPs that were ranked again.
    pub(super) ranked: BTreeSet<VipIndex>,
    /// Conflicts came or went.
    pub(super) conflicts_changed: bool,
}

impl Candidates {
    pub(super) fn new(own: &Own) -> Self {
        Candidates {
            published: BTreeMap::new(),
            rivals: BTreeMap::new(),
            conflicts: BTreeMap::new(),
            ranks: vec![Vec::new(); own.vip_count()],
            well: vec![0; own.vip_count()],
            stale: (0..own.vip_count()).collect(),
            unsure: BTreeSet::new(),
            pins_reported: BTreeSet::new(),
        }
    }

    // ---- looking

    /// Who should own the VIP, most wanted first.
    pub(super) fn rank(&self, index: VipIndex) -> &[NodeName] {
        &self.ranks[index]
    }

    /// Those of them whose checks pass, and whose last attempt did not fail.
    pub(super) fn well(&self, index: VipIndex) -> &[NodeName] {
        &self.ranks[index][..self.well[index]]
    }

    /// Why it stays inactive here, where another VIP has one of its addresses.
    pub(super) fn conflict(&self, index: VipIndex) -> Option<&str> {
        self.conflicts.get(&index).map(String::as_str)
    }

    // ---- what has changed

    /// Ranks the VIP again: something that it alone depends on has changed.
    pub(super) fn mark_stale(&mut self, index: VipIndex) {
        self.stale.insert(index);
    }

    /// A session is gone: what it owned is free.
    pub(super) fn session_gone(&mut self, own: &Own, view: &View, session: SessionId) {
        self.stale.extend(view.vips_of(session).filter_map(|vip| own.index_of(vip)));
    }

    /// Ranks all VIPs again: this node itself has changed.
    pub(super) fn mark_all_stale(&mut self, own: &Own) {
        self.stale.extend(0..own.vip_count());
        self.unsure.extend(0..own.vip_count());
    }

    /// Ranks again all VIPs that follow etcd's leader.
    pub(super) fn leadership_changed(&mut self, own: &Own) {
        let follows = |index: &VipIndex| own.vip(*index).policy == Policy::Leader;
        self.stale.extend((0..own.vip_count()).filter(follows));
    }

    /// Another configuration is today's: all is looked at again, by what the others have published.
    pub(super) fn reconfigured(&mut self, step: &Step) {
        let own = &step.after;
        self.conflicts = step.moved.map(std::mem::take(&mut self.conflicts));
        self.ranks = vec![Vec::new(); own.vip_count()];
        self.well = vec![0; own.vip_count()];
        self.rivals.clear();
        for (node, published) in &self.published.clone() {
            for (name, offer) in &published.record.vips {
                let at = published.defined_at(own, offer);
                self.rival(own, (node, name), Some(offer), Some(at));
            }
        }
        (self.stale, self.unsure) = (BTreeSet::new(), BTreeSet::new());
        self.mark_all_stale(own);
    }

    /// Since when this node itself has published the VIP has changed, or what is known of others.
    pub(super) fn mark_unsure(&mut self, vips: impl IntoIterator<Item = VipIndex>) {
        self.unsure.extend(vips);
    }

    /// Another node's session, record or drain has changed: only what differs matters.
    pub(super) fn node_changed(&mut self, own: &Own, view: &View, node: &NodeName) {
        if node == own.name() {
            return;
        }
        let now = view.node(node).and_then(|known| {
            let record = Arc::clone(known.readable()?);
            let session = view.session_id(node)?.0;
            let drained = view.drained(node);
            Some(Published { record, modified: known.modified, session, drained })
        });
        let before = match now.clone() {
            Some(now) => self.published.insert(node.clone(), now),
            None => self.published.remove(node),
        };
        let differs_for_all = node_differs(before.as_ref(), now.as_ref());
        let leads = |p: &Option<Published>| {
            p.as_ref().and_then(|p| p.record.member.as_ref().and_then(MemberRecord::leads_term))
        };
        let leads_otherwise = leads(&before) != leads(&now);
        let offers = |p: &Option<Published>| p.as_ref().map(|p| Arc::clone(&p.record));
        let (offers_before, offers_now) = (offers(&before), offers(&now));
        let none = BTreeMap::new();
        let vips_before = offers_before.as_ref().map_or(&none, |record| &record.vips);
        let vips_now = offers_now.as_ref().map_or(&none, |record| &record.vips);
        let at = |p: &Option<Published>, offer: Option<&VipOffer>| {
            offer.zip(p.as_ref()).map(|(offer, p)| p.defined_at(own, offer))
        };
        let names: BTreeSet<&VipName> = vips_before.keys().chain(vips_now.keys()).collect();
        for name in names {
            let (was, is) = (vips_before.get(name), vips_now.get(name));
            let same = was == is;
            if let Some(index) = own.index_of(name)
                && (!same
                    || differs_for_all
                    || (leads_otherwise && own.vip(index).policy == Policy::Leader))
            {
                self.stale.insert(index);
            }
            let (was_at, is_at) = (at(&before, was), at(&now, is));
            if !same || was_at != is_at {
                self.rival(own, (node, name), was, None);
                self.rival(own, (node, name), is, is_at);
            }
        }
    }

    /// Takes note that another node's VIP has these addresses since `at`, or no longer. One that is
    /// yielded takes nothing from anybody (rule 4.10).
    fn rival(
        &mut self,
        own: &Own,
        (node, name): (&NodeName, &VipName),
        offer: Option<&VipOffer>,
        at: Option<Revision>,
    ) {
        let at = at.filter(|_| offer.is_some_and(|offer| !offer.yields));
        let Some(offer) = offer else { return };
        for address in offer.addresses.iter().map(IpNet::addr) {
            for &index in own.vips_with(address) {
                if own.vip(index).name == *name || own.is_elsewhere(index, address, (name, offer)) {
                    continue;
                }
                let rival = (address, node.clone(), name.clone());
                let rivals = self.rivals.entry(index).or_default();
                match at {
                    Some(at) => rivals.insert(rival, at),
                    None => rivals.remove(&rival),
                };
                if rivals.is_empty() {
                    self.rivals.remove(&index);
                }
                self.unsure.insert(index);
            }
        }
    }

    // ---- what follows

    /// Looks again at what has changed: at conflicts first, for they decide who is a candidate.
    pub(super) fn update(
        &mut self,
        situation: &Situation<'_>,
        publication: &Publication,
        vips: &Vips,
        out: &mut Outbox,
    ) -> Updated {
        let mut updated = Updated::default();
        for index in std::mem::take(&mut self.unsure) {
            updated.conflicts_changed |= self.find_conflict(situation, publication, index, out);
        }
        updated.ranked = std::mem::take(&mut self.stale);
        for &index in &updated.ranked {
            self.rank_vip(situation, publication, vips, index, out);
        }
        updated
    }

    /// An address belongs to one VIP. Where a live node published one of ours under another name
    /// earlier, that VIP stays inactive here: of two nodes, the later one always sees the earlier
    /// (rule 4.7).
    fn find_conflict(
        &mut self,
        situation: &Situation<'_>,
        publication: &Publication,
        index: VipIndex,
        out: &mut Outbox,
    ) -> bool {
        let own = situation.own;
        let own_at = situation.session.id().and_then(|_| publication.defined_at(own, index));
        if own_at.is_none() && !publication.is_yielded(index) {
            // It is not published yet; until then nothing of it is assumed.
            return false;
        }
        let name = &own.vip(index).name;
        let is_earlier = |at: Revision| own_at.is_some_and(|own_at| at < own_at);
        let rivals = self.rivals.get(&index).into_iter().flatten();
        let mut earlier = rivals.filter(|(_, at)| is_earlier(**at)).map(|(rival, _)| rival);
        let conflict = earlier.next().filter(|_| !own.mutated(Mutant::ConflictIgnored)).map(
            |(address, node, other)| {
                format!(
                    "its address {address} is already that of VIP {other} on {node}; {name} and {other} cannot both have it"
                )
            },
        );
        if self.conflicts.get(&index) == conflict.as_ref() {
            return false;
        }
        let vip = name.clone();
        self.stale.insert(index);
        match conflict {
            Some(why) => {
                self.conflicts.insert(index, why.clone());
                out.report(Report::Blocked { vip, why });
            }
            None => {
                self.conflicts.remove(&index);
                out.report(Report::Unblocked { vip });
            }
        }
        true
    }

    fn rank_vip(
        &mut self,
        situation: &Situation<'_>,
        publication: &Publication,
        vips: &Vips,
        index: VipIndex,
        out: &mut Outbox,
    ) {
        let (own, view) = (situation.own, situation.view);
        let candidate = |node: &NodeName| self.candidate(situation, publication, vips, index, node);
        let all = self.published.keys().chain([own.name()]);
        let candidates: Vec<Candidate> = all.filter_map(|node| candidate(node).ok()).collect();
        let vip = own.vip(index);
        let pin = view.pinned(&vip.name);
        let owner = situation.owner(index);
        let rank =
            placement::rank((&vip.policy).into(), &vip.name, &candidates, owner, pin.as_ref());
        let unfit = pin.as_ref().map(|pin| match candidate(&pin.node) {
            Err(unfit) => Some(unfit),
            Ok(candidate) => candidate.behind(Some(pin)),
        });
        self.well[index] = candidates.iter().filter(|one| one.is_well(pin.as_ref())).count();
        self.ranks[index] = rank;
        if let (Some(pin), Some(unfit)) = (pin, unfit) {
            self.report_pin(&vip.name, pin, unfit, out);
        }
    }

    /// A pin that is of no effect is told once, until it is of effect again.
    fn report_pin(&mut self, vip: &VipName, pin: Pin, unfit: Option<Unfit>, out: &mut Outbox) {
        let entry = (vip.clone(), pin.node);
        let Some(unfit) = unfit else {
            self.pins_reported.remove(&entry);
            return;
        };
        if self.pins_reported.insert(entry.clone()) {
            let (vip, node) = entry;
            out.report(Report::PinIgnored { vip, node, why: unfit.to_string() });
        }
    }

    /// The node as one that could take the VIP, or why it cannot.
    fn candidate(
        &self,
        situation: &Situation<'_>,
        publication: &Publication,
        vips: &Vips,
        index: VipIndex,
        node: &NodeName,
    ) -> Result<Candidate, Unfit> {
        let (own, vip) = (situation.own, situation.own.vip(index));
        if node != own.name() {
            let published = self.published.get(node);
            let drained = situation.view.drained(node);
            let record = published.map(|published| &*published.record);
            return placement::candidate(node, record, drained, &vip.name, own.digest(index));
        }
        // Of itself a node knows more than it has published.
        situation.session.id().ok_or(Unfit::NotLive)?;
        if let Some(why) = vips.unable(situation, self, index) {
            return Err(Unfit::Blocked(why.to_string()));
        }
        let unwell = vips.unwell(situation, index);
        let priority = match vip.policy {
            Policy::Priority { priority, .. } => priority,
            _ => 0,
        };
        Ok(Candidate {
            name: node.clone(),
            weight: Weight {
                of_node: situation.health.weigh_node(own),
                of_vip: Some(situation.health.weigh(own, index, own.config.weight)),
            },
            priority: situation.health.weigh(own, index, priority),
            unwell: unwell.map(|unwell| unwell.why),
            leads_term: publication.member().and_then(MemberRecord::leads_term),
            failed_at: vips.failed_at(index),
        })
    }

    /// The store is another one (A2): nobody has published anything.
    pub(super) fn forget_all(&mut self, own: &Own) {
        self.published.clear();
        self.rivals.clear();
        self.mark_all_stale(own);
    }
}

/// Whether something differs that all of a node's VIPs depend on.
fn node_differs(before: Option<&Published>, now: Option<&Published>) -> bool {
    let of = |published: &Published| {
        let record = &published.record;
        (published.drained, record.drained, record.weight, record.weighs_vips)
    };
    before.map(of) != now.map(of)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::VipAddress;
    use crate::keys::Keys;
    use crate::node::testing;
    use crate::records::encode;
    use crate::store::KeyValue;

    /// Another node's record, as the view learns it at `at`.
    fn publish(view: &mut View, keys: &Keys, record: &NodeRecord, at: i64) {
        let b: NodeName = "b".parse().unwrap();
        for (key, value, created) in [
            (keys.session(&b), encode(&testing::session_record()), 1),
            (keys.node(&b), encode(record), 2),
        ] {
            let kv = KeyValue {
                key: key.clone(),
                value,
                create_revision: Revision(created),
                mod_revision: Revision(at),
            };
            view.learn(keys, &key, Some(&kv), Revision(at));
        }
        assert_eq!(view.session_id(&b), Some(SessionId(Revision(1))));
    }

    fn record(own: &Own) -> NodeRecord {
        let offers = (0..own.vip_count()).map(|index| {
            let vip = own.vip(index);
            (vip.name.clone(), VipOffer::of(vip, own.digest(index).to_owned()))
        });
        NodeRecord {
            vips: offers.collect(),
            checks: BTreeMap::new(),
            weighs_vips: true,
            weight: 100,
            drained: false,
            member: None,
            repairs: 0,
            heartbeats: None,
            version: String::new(),
        }
    }

    #[test]
    fn only_what_a_change_touches_is_ranked_again() {
        let own = testing::own_with_vips(5);
        let (mut view, b) = (View::default(), "b".parse().unwrap());
        let mut candidates = Candidates::new(&own);
        candidates.stale.clear();
        let mut record = record(&own);
        publish(&mut view, &own.keys, &record, 5);
        candidates.node_changed(&own, &view, &b);
        assert_eq!(std::mem::take(&mut candidates.stale).len(), 5, "a node that came");
        publish(&mut view, &own.keys, &record, 6);
        candidates.node_changed(&own, &view, &b);
        assert!(candidates.stale.is_empty(), "the same once more");
        record.repairs += 1;
        record.vips.get_mut(&own.vip(3).name).unwrap().blocked = Some("down".into());
        publish(&mut view, &own.keys, &record, 7);
        candidates.node_changed(&own, &view, &b);
        assert_eq!(std::mem::take(&mut candidates.stale), BTreeSet::from([3]));
        record.drained = true;
        publish(&mut view, &own.keys, &record, 8);
        candidates.node_changed(&own, &view, &b);
        assert_eq!(candidates.stale.len(), 5);
    }

    #[test]
    fn a_rival_is_known_by_our_addresses_until_it_yields_or_goes() {
        let own = testing::own_with_vips(2);
        let (mut view, b) = (View::default(), "b".parse().unwrap());
        let mut candidates = Candidates::new(&own);
        let mut record = record(&own);
        let mut taken = record.vips.remove(&own.vip(1).name).unwrap();
        record.vips.insert("other".parse().unwrap(), taken.clone());
        publish(&mut view, &own.keys, &record, 5);
        candidates.node_changed(&own, &view, &b);
        assert_eq!(candidates.rivals.keys().collect::<Vec<_>>(), [&1]);
        taken.yields = true;
        record.vips.insert("other".parse().unwrap(), taken.clone());
        publish(&mut view, &own.keys, &record, 6);
        candidates.node_changed(&own, &view, &b);
        assert!(candidates.rivals.is_empty());
        taken.yields = false;
        record.vips.insert("other".parse().unwrap(), taken);
        publish(&mut view, &own.keys, &record, 7);
        candidates.node_changed(&own, &view, &b);
        view.learn(&own.keys, &own.keys.session(&b), None, Revision(8));
        candidates.node_changed(&own, &view, &b);
        assert!(candidates.rivals.is_empty() && candidates.published.is_empty());
    }

    /// Rule 4.7.
    #[test]
    fn a_link_local_address_is_contested_on_its_own_link_alone() {
        let mut config = testing::own_with_vips(2).config;
        for (vip, interface) in config.vips.iter_mut().zip(["br100", "br200"]) {
            vip.addresses = VipAddress::all_on(interface, ["fe80::1/64".parse().unwrap()]);
        }
        let own = Own::new(config);
        let (mut view, b) = (View::default(), "b".parse().unwrap());
        let mut candidates = Candidates::new(&own);
        let mut record = record(&own);
        publish(&mut view, &own.keys, &record, 5);
        candidates.node_changed(&own, &view, &b);
        assert!(candidates.rivals.is_empty(), "the same two VIPs");
        let offer = record.vips.get(&own.vip(0).name).cloned().unwrap();
        let of_another = [
            ("other", Some("br100"), vec![0]),
            ("other", Some("br300"), vec![]),
            // An older turnip, which has one VIP with the address at most.
            ("other", None, vec![0, 1]),
            (own.vip(0).name.as_str(), None, vec![]),
            // The names are exchanged.
            (own.vip(1).name.as_str(), Some("br100"), vec![0]),
        ];
        for (number, (name, interface, contested)) in of_another.into_iter().enumerate() {
            let offer = VipOffer { interface: interface.map(Into::into), ..offer.clone() };
            record.vips = [(name.parse().unwrap(), offer)].into();
            publish(&mut view, &own.keys, &record, 6 + number as i64);
            candidates.node_changed(&own, &view, &b);
            let rivals: Vec<_> = candidates.rivals.keys().copied().collect();
            assert_eq!(rivals, contested, "{name} on {interface:?}");
        }
    }
}
