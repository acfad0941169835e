//! A node: its session, and what it publishes.

use std::collections::{BTreeMap, BTreeSet};
use std::net::SocketAddr;

use serde::Serialize;
use turnip_core::records::{CheckRecord, NodeRecord};
use turnip_core::text::shown;
use turnip_core::{CheckName, NodeName, Revision, VipName};

use super::millis;
use super::read::Read;
use super::vip::Vip;

/// A node.
#[derive(Serialize, Default, Debug)]
pub struct Node {
    /// Its session, if it has one.
    pub session: Option<Revision>,
    /// How long it may hold after a renewal, in ms.
    pub lease_ms: Option<u64>,
    /// How long ago its last renewal was seen, in ms; absent when none was.
    pub renewed_ago_ms: Option<u64>,
    /// How long it was observed without a renewal, in ms, when none was seen.
    pub silent_for_ms: Option<u64>,
    /// That was longer than its lease: it holds nothing.
    pub silent_beyond_lease: bool,
    /// It has a session that this version cannot read: nobody knows whether it holds anything.
    pub session_unreadable: bool,
    /// Whether it publishes that it can hold what it is configured with.
    pub healthy: bool,
    /// An operator wants it to hold nothing.
    pub drained: bool,
    /// The VIPs that it owns.
    pub owns: Vec<VipName>,
    /// The VIPs that it cannot take, and why.
    pub blocked: BTreeMap<VipName, String>,
    /// What an operator should see to on it, of VIPs that it can take all the same.
    pub notices: BTreeMap<VipName, String>,
    /// Its checks of what stands behind VIPs.
    pub checks: BTreeMap<CheckName, CheckRecord>,
    /// Its share under `spread`.
    pub weight: Option<u32>,
    /// The etcd member on its host.
    pub member: Option<String>,
    /// Whether that member says that it is the raft leader.
    pub raft_leader: Option<bool>,
    /// The raft term in which it says so.
    pub raft_term: Option<u64>,
    /// Addresses set right because somebody else had changed them.
    pub repairs: u64,
    /// Where it receives heartbeats.
    pub heartbeats: Option<SocketAddr>,
    /// Who alone may end its session when it falls silent; empty when everybody may.
    pub witnesses: BTreeSet<NodeName>,
    /// Its turnip's version.
    pub version: Option<String>,
}

impl Node {
    /// Whether a silence of its session of so many ms says nothing: hosts that hear each other write
    /// once in a lease.
    pub fn is_at_ease_for(&self, silent_ms: u64) -> bool {
        !self.witnesses.is_empty() && self.lease_ms.is_some_and(|lease| silent_ms <= lease)
    }
}

impl Read {
    pub(super) fn node(&self, name: &NodeName, vips: &BTreeMap<VipName, Vip>) -> Node {
        let session = self.sessions.get(name);
        let record = self.nodes.get(name);
        let member = record.and_then(|record| record.member.as_ref());
        let blocked: BTreeMap<_, _> = record
            .iter()
            .flat_map(|record| &record.vips)
            .filter_map(|(vip, offer)| Some((vip.clone(), shown(offer.blocked.as_ref()?))))
            .collect();
        let notices = record
            .iter()
            .flat_map(|record| &record.vips)
            .filter_map(|(vip, offer)| Some((vip.clone(), offer.notice.clone()?)))
            .collect();
        Node {
            session: session.map(|(id, _)| *id),
            lease_ms: session.map(|(_, record)| millis(record.lease())),
            renewed_ago_ms: None,
            silent_for_ms: None,
            silent_beyond_lease: self.silent.contains(name),
            session_unreadable: self.sessions_unreadable.contains(name),
            healthy: self.is_alive(name) && record.is_some() && blocked.is_empty(),
            drained: self.drained.contains(name),
            owns: vips
                .iter()
                .filter(|(_, vip)| vip.owner.as_ref() == Some(name))
                .map(|(vip, _)| vip.clone())
                .collect(),
            blocked,
            notices,
            checks: record.map(checks).unwrap_or_default(),
            weight: record.map(|record| record.weight),
            member: member.map(|member| shown(&member.id)),
            raft_leader: member.map(|member| member.leader),
            raft_term: member.map(|member| member.term),
            repairs: record.map_or(0, |record| record.repairs),
            heartbeats: record.and_then(|record| record.heartbeats),
            witnesses: session.map(|(_, record)| record.witnesses.clone()).unwrap_or_default(),
            version: record.map(|record| shown(&record.version)),
        }
    }
}

/// Its checks, as what others wrote may be shown.
fn checks(record: &NodeRecord) -> BTreeMap<CheckName, CheckRecord> {
    let check = |check: &CheckRecord| CheckRecord { reason: shown(&check.reason), ..check.clone() };
    record.checks.iter().map(|(name, one)| (name.clone(), check(one))).collect()
}
