use turnip_core::placement::Unfit;
use turnip_core::records::{
    DrainRecord, MemberRecord, NodeRecord, Nonce, PinRecord, Record, SessionRecord, VipOffer,
    VipRecord, decode, encode,
};
use turnip_core::{HostId, Policy, SessionId, VipAddress, VipConfig};

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
        self.kvs.push(KeyValue { key, value, create_revision: revision, mod_revision: revision });
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
            addresses: VipAddress::all_on("lo", ["10.0.0.50/32".parse().unwrap()]),
            policy: self.policy.clone(),
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
    let what_if =
        WhatIf { pinned: [("v".parse().unwrap(), name("b").unwrap())].into(), ..WhatIf::default() };
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
    let order = |vip: &Vip| vip.order.iter().map(|one| one.name.to_string()).collect::<Vec<_>>();
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
