//! What this node tells the others, and what it makes of what they tell: candidates, conflicts,
//! ranks.

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;

use super::{Node, Purpose};
use crate::action::Action;
use crate::config::Policy;
use crate::name::{NodeName, Revision, VipName};
use crate::placement::{self, Candidate, Unfit};
use crate::records::{MemberRecord, NodeRecord, VipOffer, encode};
use crate::report::Report;
use crate::store::{Compare, Op, Txn};
use crate::time::Instant;
use crate::timer::Timer;
use crate::view::Known;

/// So much is published of why VIPs cannot be held, in bytes: whatever befalls all of a host's
/// VIPs at once, the record must stay below what etcd takes, or nobody learns to take them over.
const REASONS_BYTES_MAX: usize = 128 << 10;
/// What is published of the reasons beyond that.
const REASON_BEYOND: &str = "see its log";

/// How much more seldom the etcd member is asked when no VIP follows it.
const MEMBER_SELDOM: u32 = 10;

impl Node {
    // ---- telling

    /// What `nodes/<node>` should hold.
    pub(super) fn offer(&self) -> NodeRecord {
        let mut reasons_bytes = 0;
        let vips = self.vips.iter().enumerate().map(|(index, vip)| {
            let blocked =
                vip.blocked.as_ref().map(|blocked| &blocked.why).or(vip.conflict.as_ref());
            let blocked = blocked.map(|why| {
                reasons_bytes += why.len();
                if reasons_bytes > REASONS_BYTES_MAX {
                    REASON_BEYOND.to_owned()
                } else {
                    why.clone()
                }
            });
            let defined_at = self.defined_at(index);
            let offer = VipOffer::of(&vip.config, vip.digest.clone());
            let offer = VipOffer { defined_at, blocked, ..offer };
            (vip.config.name.clone(), offer)
        });
        NodeRecord {
            vips: vips.collect(),
            weight: self.config.weight,
            // Who stops is nobody's successor, or what it hands over would come right back.
            drained: self.drained || self.stopping.is_some(),
            member: self.member.clone(),
            repairs: self.repairs,
            version: self.config.version.clone(),
        }
    }

    fn own_record(&self) -> Option<&Known<NodeRecord>> {
        self.session()?;
        self.view.node(&self.config.name)
    }

    /// Since which revision the VIP's addresses have been published as its in this session.
    fn defined_at(&self, index: usize) -> Option<Revision> {
        self.session()?;
        self.published_at(index)
    }

    /// The same for the session in etcd, which a resuming process is about to inherit.
    fn published_at(&self, index: usize) -> Option<Revision> {
        let vip = &self.vips[index].config;
        let known = self.view.node(&self.config.name)?;
        let offer = known.readable()?.vips.get(&vip.name)?;
        let covered = vip.addresses.iter().all(|address| offer.addresses.contains(address));
        covered.then(|| offer.defined_at.unwrap_or(known.modified))
    }

    /// Whether this node has published definitions, and others than today's of this VIP: from
    /// today's publication on, whoever was the second with its addresses is the first.
    pub(super) fn published_otherwise(&self, index: usize) -> bool {
        if self.active {
            return false;
        }
        let published = self.view.node(&self.config.name).and_then(Known::readable);
        published.is_some() && self.published_at(index).is_none()
    }

    /// Whether the VIP may be put here: see `is_active` and `published_otherwise`.
    pub(super) fn may_assume(&self, index: usize) -> bool {
        self.active && self.defined_at(index).is_some()
    }

    /// Since which revision all of today's definitions have been published in this session.
    fn all_defined_at(&self) -> Option<Revision> {
        let known = self.own_record()?;
        let record = known.readable()?;
        let same = record.vips.len() == self.vips.len()
            && self.vips.iter().all(|vip| {
                record.vips.get(&vip.config.name).is_some_and(|offer| {
                    offer.digest == vip.digest
                        && offer.addresses.iter().copied().collect::<BTreeSet<_>>()
                            == vip.config.addresses
                })
            });
        let last = record.vips.values().map(|o| o.defined_at.unwrap_or(known.modified)).max();
        same.then(|| last.unwrap_or(known.modified))
    }

    /// Whether addresses may be assumed: this node's definitions are published in this session,
    /// and everything that others had published before is known. Once so, it stays so.
    pub(super) fn is_active(&self) -> bool {
        self.active
    }

    pub(super) fn find_active(&mut self) {
        if !self.active && self.all_defined_at().is_some_and(|at| at <= self.view.complete_to) {
            self.active = true;
            self.placement_stale = true;
        }
    }

    /// Whether the others can see why this node does not hold the VIP.
    pub(super) fn published_as_it_is(&self, index: usize) -> bool {
        if self.stopping.is_some() || self.drained {
            // They see the session go, or the operator's intent.
            return true;
        }
        let vip = &self.vips[index];
        self.own_record()
            .and_then(Known::readable)
            .and_then(|record| record.vips.get(&vip.config.name))
            .is_some_and(|offer| offer.blocked.is_some())
    }

    /// Writes `nodes/<node>` when it is not what it should be.
    pub(super) fn publish(&mut self, now: Instant) {
        let Some(session) = self.session() else { return };
        if self.publishing
            || !self.publication_stale
            || self.timers.get(Timer::Publish).is_some_and(|at| at > now)
        {
            return;
        }
        let hinders = |i: usize| self.vips[i].may_be_present() && self.published_otherwise(i);
        if (0..self.vips.len()).any(hinders) {
            // It is being taken away.
            return;
        }
        self.publication_stale = false;
        let offer = self.offer();
        let published = self.own_record().and_then(Known::readable);
        if published.is_some_and(|record| is_same_offer(record, &offer)) {
            return;
        }
        let key = self.keys.node(&self.config.name);
        let own = self.keys.session(&self.config.name);
        // What is published follows from what was: an earlier request that lands late, or on a
        // record that is not known yet, would make the definitions younger than they are.
        let is = self.view.node_modified(&self.config.name);
        let txn = Txn {
            compares: vec![
                Compare::CreateRevision { key: own.clone(), is: session.0 },
                Compare::ModRevision { key: key.clone(), is },
            ],
            success: vec![Op::Put { key: key.clone(), value: encode(&offer) }],
            failure: vec![Op::Get { key: own }, Op::Get { key }],
        };
        self.publishing = true;
        self.commit(Purpose::Publish, txn);
    }

    pub(super) fn publication_answered(&mut self, unknown: bool, now: Instant) {
        self.publishing = false;
        self.publication_stale = true;
        self.touch_all();
        if unknown {
            self.timers.set(Timer::Publish, now + self.retry_delay());
        }
    }

    // ---- the etcd member on this host

    pub(super) fn ask_member(&mut self, now: Instant) {
        let follows = self.vips.iter().any(|vip| vip.config.policy == Policy::Leader);
        let renew = self.lease.renew();
        let interval = if follows { renew } else { MEMBER_SELDOM * renew };
        self.timers.set(Timer::Member, now + interval);
        self.actions.push_back(Action::AskMember { timeout: renew });
    }

    /// No answer is a no.
    pub(super) fn member_answered(&mut self, member: Option<MemberRecord>) {
        if self.member == member {
            return;
        }
        let leads = |member: &Option<MemberRecord>| member.as_ref().is_some_and(|m| m.leader);
        if leads(&self.member) != leads(&member) {
            self.report(Report::RaftLeader(leads(&member)));
        }
        self.member = member;
        self.placement_stale = true;
    }

    // ---- listening

    /// Something that placement depends on has changed: every VIP is ranked again.
    pub(super) fn placement_changed(&mut self, now: Instant) {
        let drained = self.view.drained(&self.config.name);
        if drained != self.drained {
            self.drained = drained;
            self.report(Report::Drained(drained));
        }
        self.find_active();
        self.find_conflicts();
        for index in 0..self.vips.len() {
            self.rank_vip(index);
        }
        self.free_unconfigured(None, now);
        self.publication_stale = true;
        self.touch_all();
    }

    pub(super) fn rank_vip(&mut self, index: usize) {
        let others =
            self.view.live().map(|(node, _)| node).filter(|node| **node != self.config.name);
        let all = others.chain([&self.config.name]);
        let candidates: Vec<Candidate> =
            all.filter_map(|node| self.candidate(index, node).ok()).collect();
        let vip = &self.vips[index];
        let name = vip.config.name.clone();
        let owner = self
            .named_session(index)
            .filter(|(node, session)| self.view.session_id(node) == Some(*session))
            .map(|(node, _)| node);
        let pinned = self.view.pinned(&name).cloned();
        let rank =
            placement::rank(vip.config.policy, &name, &candidates, owner.as_ref(), pinned.as_ref());
        self.vips[index].rank = rank;
        if let Some(node) = pinned {
            self.report_pin(index, node);
        }
    }

    fn report_pin(&mut self, index: usize, node: NodeName) {
        let unfit = self.candidate(index, &node).err();
        let entry = (self.vips[index].config.name.clone(), node);
        let Some(unfit) = unfit else {
            self.pins_reported.remove(&entry);
            return;
        };
        if self.pins_reported.insert(entry.clone()) {
            let (vip, node) = entry;
            self.report(Report::PinIgnored { vip, node, why: unfit.to_string() });
        }
    }

    /// The node as one that could take the VIP, or why it cannot.
    fn candidate(&self, index: usize, node: &NodeName) -> Result<Candidate, Unfit> {
        let vip = &self.vips[index];
        if *node != self.config.name {
            let published = self.view.node(node).and_then(Known::readable);
            let drained = self.view.drained(node);
            return placement::candidate(node, published, drained, &vip.config.name, &vip.digest);
        }
        // Of itself a node knows more than it has published.
        self.session().ok_or(Unfit::NotLive)?;
        if let Some(why) = self.unwanted(index) {
            return Err(Unfit::Blocked(why));
        }
        let priority = match vip.config.policy {
            Policy::Priority { priority, .. } => priority,
            _ => 0,
        };
        Ok(Candidate {
            name: node.clone(),
            weight: self.config.weight,
            priority,
            leads_term: self.member.as_ref().and_then(MemberRecord::leads_term),
        })
    }

    /// An address belongs to one VIP. Where a live node published one of ours under another name
    /// earlier, that VIP stays inactive here: of two nodes, the later one always sees the earlier.
    fn find_conflicts(&mut self) {
        let taken = self.taken_addresses();
        for index in 0..self.vips.len() {
            let Some(own_at) = self.defined_at(index) else { continue };
            let vip = &mut self.vips[index];
            let name = &vip.config.name;
            let conflict = vip.config.addresses.iter().find_map(|address| {
                let mut taken = taken.get(&address.addr())?.iter();
                let earlier = |(_, other, at): &&(_, VipName, _)| other != name && *at < own_at;
                let (node, other, _) = taken.find(earlier)?;
                Some(format!(
                    "its address {} is already that of VIP {other} on {node}; {name} and {other} cannot both have it",
                    address.addr()
                ))
            });
            if vip.conflict != conflict {
                vip.conflict = conflict.clone();
                let vip = name.clone();
                self.actions.push_back(Action::Report(match conflict {
                    Some(why) => Report::Blocked { vip, why },
                    None => Report::Unblocked { vip },
                }));
            }
        }
    }

    /// Which addresses live nodes have published, under which name and since when.
    fn taken_addresses(&self) -> BTreeMap<IpAddr, Vec<(NodeName, VipName, Revision)>> {
        let mut taken: BTreeMap<IpAddr, Vec<_>> = BTreeMap::new();
        for (node, _) in self.view.live().filter(|(node, _)| **node != self.config.name) {
            let Some(known) = self.view.node(node) else { continue };
            let Some(record) = known.readable() else { continue };
            for (vip, offer) in &record.vips {
                let at = offer.defined_at.unwrap_or(known.modified);
                for address in &offer.addresses {
                    let entry = (node.clone(), vip.clone(), at);
                    taken.entry(address.addr()).or_default().push(entry);
                }
            }
        }
        taken
    }
}

/// Whether they say the same, but for the revision that a first publication does not know: its own.
fn is_same_offer(published: &NodeRecord, offer: &NodeRecord) -> bool {
    let undated = |record: &NodeRecord| {
        let mut record = record.clone();
        record.vips.values_mut().for_each(|offer| offer.defined_at = None);
        record
    };
    published == offer || undated(published) == undated(offer)
}
