//! What the keys under the prefix say, put together for people and programs.

use std::collections::{BTreeMap, BTreeSet};
use std::net::SocketAddr;
use std::time::Duration;

use ipnet::IpNet;
use serde::Serialize;
use turnip::etcd::certificates::CertificateEnd;
use turnip_core::placement::{Candidate, Pin, Unfit, candidate, rank};
use turnip_core::records::{
    CheckRecord, DrainRecord, NodeRecord, PinRecord, SessionRecord, SharedPolicy, VipOffer,
    VipRecord, decode,
};
use turnip_core::text::shown;
use turnip_core::{CheckName, HeartbeatKeys, KeyKind, KeyValue, Keys, NodeName, Revision, VipName};

/// The state of a cluster at one revision.
#[derive(Serialize, Debug)]
pub struct Overview {
    /// Of the store.
    pub revision: Revision,
    /// Every VIP that a node offers or that has an owner.
    pub vips: BTreeMap<VipName, Vip>,
    /// Every node that has a session or has published what it can take.
    pub nodes: BTreeMap<NodeName, Node>,
    /// Values that this version cannot read, and why.
    pub unreadable: BTreeMap<String, String>,
    /// When the certificates end by which this was read.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub certificates: Vec<CertificateEnd>,
}

/// A VIP.
#[derive(Serialize, Default, Debug)]
pub struct Vip {
    /// Its addresses, as its owner defines them, else as most nodes do.
    pub addresses: Vec<IpNet>,
    /// Its policy, likewise.
    pub policy: Option<SharedPolicy>,
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

/// The keys, read.
#[derive(Default)]
struct Read {
    sessions: BTreeMap<NodeName, (Revision, SessionRecord)>,
    nodes: BTreeMap<NodeName, NodeRecord>,
    vips: BTreeMap<VipName, (Revision, VipRecord)>,
    drained: BTreeSet<NodeName>,
    pins: BTreeMap<VipName, Pin>,
    silent: BTreeSet<NodeName>,
    sessions_unreadable: BTreeSet<NodeName>,
    unreadable: BTreeMap<String, String>,
}

impl Overview {
    /// Puts `kvs`, everything under the prefix at `revision`, together. An intent in `drained`
    /// or `pins` counts as if it was there: to say what it will do.
    pub fn new<'a>(
        keys: &Keys,
        revision: Revision,
        kvs: impl IntoIterator<Item = &'a KeyValue>,
        what_if: &WhatIf,
    ) -> Self {
        let mut read = Read::of(keys, kvs);
        read.sessions.retain(|node, _| !what_if.down.contains(node));
        read.drained.extend(what_if.drained.clone());
        read.silent.clone_from(&what_if.silent);
        // What is written now is younger than everything.
        let since = Revision(i64::MAX);
        let pins = what_if
            .pinned
            .iter()
            .map(|(vip, node)| (vip.clone(), Pin { node: node.clone(), since }));
        read.pins.extend(pins);
        let names: BTreeSet<VipName> = read
            .nodes
            .values()
            .flat_map(|node| node.vips.keys())
            .chain(read.vips.keys())
            .cloned()
            .collect();
        let vips: BTreeMap<_, _> =
            names.into_iter().map(|name| (name.clone(), read.vip(&name))).collect();
        let names: BTreeSet<NodeName> = read
            .sessions
            .keys()
            .chain(read.nodes.keys())
            .chain(&read.sessions_unreadable)
            .cloned()
            .collect();
        let nodes = names.into_iter().map(|name| (name.clone(), read.node(&name, &vips))).collect();
        let certificates = Vec::new();
        Overview { revision, vips, nodes, unreadable: read.unreadable, certificates }
    }

    /// Adds what observing has shown: how long ago each node's last renewal was seen, having
    /// observed for `observed_for`.
    pub fn set_renewals(
        &mut self,
        renewed_ago: &BTreeMap<NodeName, Duration>,
        observed_for: Duration,
    ) {
        for (name, node) in self.nodes.iter_mut().filter(|(_, node)| node.session.is_some()) {
            match renewed_ago.get(name) {
                Some(ago) => node.renewed_ago_ms = Some(millis(*ago)),
                None => node.silent_for_ms = Some(millis(observed_for)),
            }
        }
    }

    /// What is left alone, one line each, or only how many where there are many.
    pub fn left_alone(&self) -> Vec<String> {
        const TOLD_MAX: usize = 20;
        let line = |(key, why): (&String, &String)| format!("{key} is left alone: {why}");
        let mut lines: Vec<String> = self.unreadable.iter().take(TOLD_MAX).map(line).collect();
        let more = self.unreadable.len() - lines.len();
        if more > 0 {
            lines.push(format!("{more} more keys are left alone"));
        }
        lines
    }

    /// Whether there are VIPs, and every one has an owner.
    pub fn all_held(&self) -> bool {
        !self.vips.is_empty() && self.vips.values().all(|vip| vip.owner.is_some())
    }
}

impl Node {
    /// Whether a silence of its session of so many ms says nothing: hosts that hear each other write
    /// once in a lease.
    pub fn is_at_ease_for(&self, silent_ms: u64) -> bool {
        !self.witnesses.is_empty() && self.lease_ms.is_some_and(|lease| silent_ms <= lease)
    }
}

/// What is not in etcd: intents that are not there yet, misfortunes that have not happened, and what observing has
/// shown.
#[derive(Default)]
pub struct WhatIf {
    /// Nodes whose sessions are silent beyond their lease.
    pub silent: BTreeSet<NodeName>,
    /// Nodes to be drained.
    pub drained: BTreeSet<NodeName>,
    /// Nodes without a session.
    pub down: BTreeSet<NodeName>,
    /// VIPs to be pinned.
    pub pinned: BTreeMap<VipName, NodeName>,
}

fn millis(duration: Duration) -> u64 {
    u64::try_from(duration.as_millis()).unwrap_or(u64::MAX)
}

impl Read {
    fn of<'a>(keys: &Keys, kvs: impl IntoIterator<Item = &'a KeyValue>) -> Self {
        let mut read = Read::default();
        let mut node_revisions = BTreeMap::new();
        for kv in kvs {
            let value = &kv.value;
            let error = match keys.kind(&kv.key) {
                KeyKind::Session(node) => match decode(value) {
                    Ok(record) => {
                        read.sessions.insert(node, (kv.create_revision, record));
                        None
                    }
                    Err(error) => {
                        read.sessions_unreadable.insert(node);
                        Some(error)
                    }
                },
                KeyKind::Node(node) => {
                    node_revisions.insert(node.clone(), kv.mod_revision);
                    decode(value).map(|record| read.nodes.insert(node, record)).err()
                }
                KeyKind::Vip(vip) => decode(value)
                    .map(|record| read.vips.insert(vip, (kv.mod_revision, record)))
                    .err(),
                KeyKind::Drain(node) => {
                    decode::<DrainRecord>(value).map(|_| read.drained.insert(node)).err()
                }
                KeyKind::Pin(vip) => {
                    let since = kv.mod_revision;
                    let pin = |record: PinRecord| Pin { node: record.node, since };
                    decode(value).map(|record| read.pins.insert(vip, pin(record))).err()
                }
                // Nobody is shown what heartbeats are authenticated with.
                KeyKind::HeartbeatKeys => decode::<HeartbeatKeys>(value).err(),
                // `turnip history` shows it.
                KeyKind::History(..) => None,
                KeyKind::Foreign => {
                    read.unreadable.insert(shown(&kv.key), "not a key of turnip".into());
                    None
                }
            };
            if let Some(error) = error {
                read.unreadable.insert(shown(&kv.key), error.to_string());
            }
        }
        // What a node published in an earlier session says nothing of this one.
        read.nodes.retain(|node, _| match read.sessions.get(node) {
            Some((created, _)) => node_revisions[node] >= *created,
            None => true,
        });
        read
    }

    fn vip(&self, name: &VipName) -> Vip {
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
            let ranked = rank(
                reference.policy.with_priority(reference.priority),
                name,
                &candidates,
                vip.owner.as_ref(),
                pin,
            );
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

    /// Whether it has a session that may hold something.
    fn is_alive(&self, node: &NodeName) -> bool {
        self.sessions.contains_key(node) && !self.silent.contains(node)
    }

    /// The node as one that could take the VIP, or why it cannot.
    fn candidate(&self, node: &NodeName, vip: &VipName, digest: &str) -> Result<Candidate, Unfit> {
        let published = self.nodes.get(node).filter(|_| self.is_alive(node));
        candidate(node, published, self.drained.contains(node), vip, digest)
    }

    fn node(&self, name: &NodeName, vips: &BTreeMap<VipName, Vip>) -> Node {
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

#[cfg(test)]
mod tests {
    use turnip_core::records::{DrainRecord, MemberRecord, Nonce, Record, encode};
    use turnip_core::{HostId, Policy, SessionId, VipConfig};

    use super::*;

    /// A cluster in etcd, revision after revision.
    struct Store {
        keys: Keys,
        kvs: Vec<KeyValue>,
        policy: Policy,
    }

    impl Store {
        fn new(policy: Policy) -> Self {
            Store { keys: Keys::new(&"main".parse().unwrap()), kvs: Vec::new(), policy }
        }

        fn put<T: Record>(&mut self, key: String, record: &T) -> Revision {
            let revision = Revision(self.kvs.len() as i64 + 2);
            let value = encode(record);
            self.kvs.push(KeyValue {
                key,
                value,
                create_revision: revision,
                mod_revision: revision,
            });
            revision
        }

        /// A node that has a session and offers the VIP `v`.
        fn node(&mut self, name: &str, leader: bool, blocked: Option<&str>) -> SessionId {
            let node: NodeName = name.parse().unwrap();
            let session = SessionRecord {
                lease_ms: 3_000,
                host: HostId(name.into()),
                nonce: Nonce { process: 1, count: 1 },
                witnesses: BTreeSet::new(),
            };
            let id = SessionId(self.put(self.keys.session(&node), &session));
            let vip = VipConfig {
                name: "v".parse().unwrap(),
                addresses: ["10.0.0.50/32".parse().unwrap()].into(),
                interface: "lo".into(),
                policy: self.policy,
                defend: false,
                require_carrier: true,
                keep_connections: false,
                checks: BTreeSet::new(),
                last_resort: turnip_core::LastResort::Keep,
                hooks: turnip_core::Hooks::new(),
            };
            let offer =
                VipOffer { blocked: blocked.map(Into::into), ..VipOffer::of(&vip, vip.digest()) };
            let record = NodeRecord {
                vips: [(vip.name.clone(), offer)].into(),
                checks: BTreeMap::new(),
                weighs_vips: true,
                weight: 100,
                drained: false,
                member: Some(MemberRecord { id: "1".into(), leader, term: 4 }),
                repairs: 0,
                heartbeats: None,
                version: "0".into(),
            };
            self.put(self.keys.node(&node), &record);
            id
        }

        fn owned_by(&mut self, name: &str, session: SessionId) -> Revision {
            let vip = "v".parse().unwrap();
            let record = VipRecord { node: name.parse().unwrap(), session, since_unix_ms: 1_000 };
            self.put(self.keys.vip(&vip), &record)
        }

        fn overview(&self) -> Overview {
            Overview::new(&self.keys, Revision(99), &self.kvs, &WhatIf::default())
        }
    }

    fn name(name: &str) -> Option<NodeName> {
        Some(name.parse().unwrap())
    }

    #[test]
    fn a_vip_is_shown_with_owner_token_and_preferred_owner() {
        let mut store = Store::new(Policy::Leader);
        let a = store.node("a", false, None);
        store.node("b", true, None);
        let token = store.owned_by("a", a);
        let overview = store.overview();
        let vip = &overview.vips["v"];
        assert_eq!((&vip.owner, vip.token), (&name("a"), Some(token)));
        assert_eq!(vip.preferred, name("b"));
        assert_eq!(overview.nodes["a"].owns, ["v".parse().unwrap()]);
        assert!(overview.all_held());
    }

    #[test]
    fn an_owner_whose_session_is_gone_owns_nothing() {
        let mut store = Store::new(Policy::Spread);
        store.node("b", false, None);
        store.owned_by("a", SessionId(Revision(1)));
        let overview = store.overview();
        assert_eq!(overview.vips["v"].owner, None);
        assert!(overview.vips["v"].notes[0].contains("session of a is gone"));
        assert!(!overview.all_held());
    }

    #[test]
    fn an_owner_that_came_back_with_another_session_owns_nothing_by_the_old_one() {
        let mut store = Store::new(Policy::Spread);
        store.node("a", false, None);
        store.owned_by("a", SessionId(Revision(1)));
        assert_eq!(store.overview().vips["v"].owner, None);
    }

    #[test]
    fn drained_and_blocked_nodes_are_not_preferred() {
        let mut store = Store::new(Policy::Leader);
        store.node("a", true, Some("the interface lo is down"));
        store.node("b", true, None);
        store.node("c", false, None);
        store.put(store.keys.drain(&name("b").unwrap()), &DrainRecord {});
        let overview = store.overview();
        assert_eq!(overview.vips["v"].preferred, name("c"));
        assert!(!overview.nodes["a"].healthy && overview.nodes["b"].drained);
    }

    #[test]
    fn a_node_that_stops_is_not_preferred_and_a_pin_to_it_says_why_it_is_ignored() {
        let mut store = Store::new(Policy::Leader);
        store.node("a", true, None);
        store.node("b", false, None);
        let key = store.keys.node(&name("a").unwrap());
        let published = store.kvs.iter().find(|kv| kv.key == key).unwrap();
        let mut stopping: NodeRecord = decode(&published.value).unwrap();
        stopping.drained = true;
        store.put(key, &stopping);
        store.put(store.keys.pin(&"v".parse().unwrap()), &PinRecord { node: name("a").unwrap() });
        let vip = &store.overview().vips["v"];
        assert_eq!(vip.preferred, name("b"));
        assert_eq!(vip.pin_ignored, Some(Unfit::Retiring));
        assert!(vip.notes[0].contains("it is stopping"), "{:?}", vip.notes);
    }

    #[test]
    fn a_pin_counts_before_it_is_in_etcd() {
        let mut store = Store::new(Policy::Leader);
        store.node("a", true, None);
        store.node("b", false, None);
        let what_if = WhatIf {
            pinned: [("v".parse().unwrap(), name("b").unwrap())].into(),
            ..WhatIf::default()
        };
        let overview = Overview::new(&store.keys, Revision(9), &store.kvs, &what_if);
        assert_eq!(overview.vips["v"].preferred, name("b"));
    }

    #[test]
    fn of_every_node_it_is_known_whether_it_would_take_the_vip_also_if_another_were_down() {
        let mut store = Store::new(Policy::Leader);
        let a = store.node("a", true, None);
        store.node("b", false, None);
        store.node("c", false, Some("the interface lo is down"));
        store.owned_by("a", a);
        let order =
            |vip: &Vip| vip.order.iter().map(|one| one.name.to_string()).collect::<Vec<_>>();
        let vip = &store.overview().vips["v"];
        assert_eq!(order(vip), ["a", "b"]);
        let blocked = Unfit::Blocked("the interface lo is down".into());
        assert_eq!(vip.unfit, BTreeMap::from([(name("c").unwrap(), blocked.clone())]));
        let what_if = WhatIf { down: [name("a").unwrap()].into(), ..WhatIf::default() };
        let without = Overview::new(&store.keys, Revision(9), &store.kvs, &what_if);
        let vip = &without.vips["v"];
        assert_eq!((order(vip), &vip.owner), (vec!["b".to_owned()], &None));
        let unfit = [(name("a").unwrap(), Unfit::NotLive), (name("c").unwrap(), blocked)];
        assert_eq!(vip.unfit, BTreeMap::from(unfit));
    }

    #[test]
    fn a_value_that_cannot_be_read_is_named_and_the_rest_shown() {
        let mut store = Store::new(Policy::Spread);
        let a = store.node("a", false, None);
        store.owned_by("a", a);
        let key = store.keys.vip(&"w".parse().unwrap());
        let at = Revision(50);
        store.kvs.push(KeyValue { key, value: b"?".into(), create_revision: at, mod_revision: at });
        store.put("/turnip/main/other".into(), &DrainRecord {});
        let overview = store.overview();
        assert_eq!(overview.unreadable.len(), 2);
        assert_eq!(overview.vips["v"].owner, name("a"));
    }

    #[test]
    fn what_others_wrote_is_told_on_lines_of_its_own_and_many_keys_are_counted() {
        let mut store = Store::new(Policy::Spread);
        store.node("a", false, Some("down\n\x1b[2J"));
        for number in 0..30 {
            let key = format!("/turnip/main/{number}\n\0{}", "x".repeat(1 << 16));
            store.put(key, &DrainRecord {});
        }
        let overview = store.overview();
        let lines = overview.left_alone();
        assert_eq!(lines.len(), 21, "{lines:?}");
        assert_eq!(lines.last().unwrap(), "10 more keys are left alone");
        let blocked = overview.nodes["a"].blocked.values();
        for line in lines.iter().chain(blocked) {
            assert!(line.len() < 400 && !line.contains(char::is_control), "{line}");
        }
    }

    #[test]
    fn a_drain_that_cannot_be_read_drains_nobody() {
        let mut store = Store::new(Policy::Spread);
        store.node("a", false, None);
        let key = store.keys.drain(&"a".parse().unwrap());
        let at = Revision(50);
        store.kvs.push(KeyValue { key, value: b"?".into(), create_revision: at, mod_revision: at });
        let overview = store.overview();
        assert!(!overview.nodes["a"].drained);
        assert_eq!(overview.left_alone().len(), 1);
    }

    #[test]
    fn an_owner_that_is_silent_beyond_its_lease_owns_nothing_and_is_wanted_for_nothing() {
        let mut store = Store::new(Policy::Leader);
        let a = store.node("a", true, None);
        store.node("b", false, None);
        store.owned_by("a", a);
        let what_if = WhatIf { silent: [name("a").unwrap()].into(), ..WhatIf::default() };
        let overview = Overview::new(&store.keys, Revision(9), &store.kvs, &what_if);
        let vip = &overview.vips["v"];
        assert_eq!((&vip.owner, &vip.named, &vip.preferred), (&None, &name("a"), &name("b")));
        assert!(vip.notes[0].contains("silent for longer than its lease (3 s)"), "{:?}", vip.notes);
        assert!(overview.nodes["a"].owns.is_empty() && !overview.nodes["a"].healthy);
        assert!(overview.nodes["a"].silent_beyond_lease && !overview.all_held());
    }

    #[test]
    fn a_session_that_cannot_be_read_is_not_called_gone() {
        let mut store = Store::new(Policy::Spread);
        let a = store.node("a", false, None);
        store.node("b", false, None);
        store.owned_by("a", a);
        let key = store.keys.session(&name("a").unwrap());
        store.kvs.iter_mut().find(|kv| kv.key == key).unwrap().value = b"?".into();
        let overview = store.overview();
        let vip = &overview.vips["v"];
        assert_eq!((&vip.owner, &vip.named), (&None, &name("a")));
        assert!(vip.notes[0].contains("session cannot be read"), "{:?}", vip.notes);
        assert!(overview.nodes["a"].session_unreadable && !overview.all_held());
    }

    #[test]
    fn an_empty_cluster_does_not_count_as_held() {
        assert!(!Store::new(Policy::Spread).overview().all_held());
    }

    #[test]
    fn a_node_that_was_not_heard_is_silent_for_as_long_as_was_listened() {
        let mut store = Store::new(Policy::Spread);
        store.node("a", false, None);
        store.node("b", false, None);
        let mut overview = store.overview();
        let renewals = [("a".parse().unwrap(), Duration::from_millis(120))].into();
        overview.set_renewals(&renewals, Duration::from_millis(800));
        assert_eq!(overview.nodes["a"].renewed_ago_ms, Some(120));
        assert_eq!(overview.nodes["b"].silent_for_ms, Some(800));
    }
}
