//! A VIP: who owns it, who should, and why others do not.

use std::collections::{BTreeMap, BTreeSet};

use ipnet::IpNet;
use serde::Serialize;
use turnip_core::placement::{Candidate, Pin, Unfit, rank};
use turnip_core::records::{SessionRecord, SharedPolicy, VipOffer, VipRecord};
use turnip_core::{NodeName, Revision, VipName};

use super::read::Read;

/// A VIP.
#[derive(Serialize, Default, Debug)]
pub struct Vip {
    /// Its addresses, as its owner defines them, else as most nodes do.
    pub addresses: Vec<IpNet>,
    /// Its policy, likewise.
    pub policy: Option<SharedPolicy>,
    /// The key of another program that it follows: then the policy counts among the hosts that it names.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub follows: Option<String>,
    /// The node that owns it in a session that exists, and is not silent beyond its lease.
    pub owner: Option<NodeName>,
    /// The node that etcd names, where that is no owner for what is known of its session.
    pub named: Option<NodeName>,
    /// When the ownership began, by the owner's wall clock, in ms since 1970.
    pub since_unix_ms: Option<u64>,
    /// The ownership's fencing token.
    pub token: Option<Revision>,
    /// Who should own it.
    pub preferred: Option<NodeName>,
    /// Where an operator wants it.
    pub pinned: Option<NodeName>,
    /// Why that is of no effect; in words among the notes.
    #[serde(skip)]
    pub pin_ignored: Option<Unfit>,
    /// That wish as placement knows it.
    #[serde(skip)]
    pub pin: Option<Pin>,
    /// Who can take it, most wanted first.
    #[serde(skip)]
    pub order: Vec<Candidate>,
    /// Who cannot, and why.
    #[serde(skip)]
    pub unfit: BTreeMap<NodeName, Unfit>,
    /// What an operator should know of it.
    pub notes: Vec<String>,
}

impl Read {
    pub(super) fn vip(&self, name: &VipName) -> Vip {
        let record = self.vips.get(name);
        let owner = record.filter(|(_, record)| {
            self.is_alive(&record.node) && self.sessions[&record.node].0 == record.session.0
        });
        let named = record.filter(|_| owner.is_none()).map(|(_, record)| record);
        let offers: BTreeMap<&NodeName, &VipOffer> = self
            .nodes
            .iter()
            .filter(|(node, _)| self.sessions.contains_key(*node))
            .filter_map(|(node, record)| Some((node, record.vips.get(name)?)))
            .collect();
        let reference = reference(&offers, owner.map(|(_, record)| &record.node));
        // Without any definition nobody is a candidate, whatever the digest.
        let digest = reference.map_or("", |offer| &offer.digest);
        let pin = self.pins.get(name);
        let pin_ignored = pin.and_then(|pin| match self.candidate(&pin.node, name, digest) {
            Ok(candidate) => candidate.behind(Some(pin)),
            Err(unfit) => Some(unfit),
        });
        let mut vip = Vip {
            addresses: reference.map(|offer| offer.addresses.clone()).unwrap_or_default(),
            policy: reference.map(|offer| offer.policy),
            follows: reference.and_then(|offer| offer.follows.clone()),
            owner: owner.map(|(_, record)| record.node.clone()),
            named: named.map(|record| record.node.clone()),
            since_unix_ms: owner.map(|(_, record)| record.since_unix_ms),
            token: owner.map(|(token, _)| *token),
            preferred: None,
            notes: Vec::new(),
            pin_ignored,
            pin: pin.cloned(),
            order: Vec::new(),
            unfit: BTreeMap::new(),
            pinned: pin.map(|pin| pin.node.clone()),
        };
        if let (Some(node), Some(unfit)) = (&vip.pinned, &vip.pin_ignored) {
            vip.notes.push(format!("the pin to {node} is ignored: {unfit}"));
        }
        if let Some(reference) = reference {
            let mut candidates = Vec::new();
            for node in self.sessions.keys().chain(self.nodes.keys()).collect::<BTreeSet<_>>() {
                match self.candidate(node, name, digest) {
                    Ok(candidate) => candidates.push(candidate),
                    Err(unfit) => drop(vip.unfit.insert(node.clone(), unfit)),
                }
            }
            let ranked = rank(reference.policy, name, &candidates, vip.owner.as_ref(), pin);
            let named = |node: &NodeName| candidates.iter().find(|one| one.name == *node).cloned();
            vip.order = ranked.iter().filter_map(named).collect();
            vip.preferred = ranked.into_iter().next();
            let others: Vec<_> = offers
                .iter()
                .filter(|(_, offer)| offer.digest != reference.digest)
                .map(|(node, _)| node.as_str())
                .collect();
            if !others.is_empty() {
                vip.notes.push(format!("defined otherwise on {}", others.join(", ")));
            }
        }
        vip.notes.extend(named.map(|record| self.why_named_is_no_owner(record)));
        vip
    }

    fn why_named_is_no_owner(&self, record: &VipRecord) -> String {
        let node = &record.node;
        let is_of_that = |(id, _): &(Revision, SessionRecord)| *id == record.session.0;
        if self.sessions_unreadable.contains(node) {
            return format!(
                "named for {node}, whose session cannot be read: nobody knows whether it holds it, and nobody else takes it"
            );
        }
        match self.sessions.get(node) {
            Some(session) if is_of_that(session) => format!(
                "nobody holds it, as far as etcd shows: {node}, for which it is named, has been silent for longer than its lease ({} s). While etcd takes no writes hosts that all hear each other hold on past that: `turnip status` on {node} tells",
                session.1.lease().as_secs_f64()
            ),
            _ => format!("free: the session of {node} is gone"),
        }
    }
}

/// The definition that counts: the owner's, else the one that most nodes have.
fn reference<'a>(
    offers: &BTreeMap<&NodeName, &'a VipOffer>,
    owner: Option<&NodeName>,
) -> Option<&'a VipOffer> {
    if let Some(offer) = owner.and_then(|owner| offers.get(owner)) {
        return Some(offer);
    }
    let alike =
        |offer: &VipOffer| offers.values().filter(|other| other.digest == offer.digest).count();
    offers.values().copied().max_by_key(|offer| alike(offer))
}
