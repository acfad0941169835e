//! What a node knows of the store. It never goes back.
//!
//! Every key is known as of a revision; news of a lower one is ignored, of deletions too. It does
//! not matter whether news come as an event, in a snapshot or in an answer.

use std::collections::{BTreeMap, BTreeSet};
use std::net::SocketAddr;
use std::sync::Arc;

use crate::contradiction::{self, Contradiction, Fact, Told, Write, contradiction};
use crate::heartbeat::HeartbeatKeys;
use crate::keys::{KeyKind, Keys};
use std::time::Duration;

use crate::name::{NodeName, Revision, SessionId, VipName};
use crate::placement::Pin;
use crate::records::{
    DrainRecord, NodeRecord, PinRecord, Record, SessionRecord, UnreadableRecord, VipRecord, decode,
};
use crate::store::{KeyValue, Snapshot};

/// A key's value and place in history, as last heard.
#[derive(Clone, PartialEq, Eq, Hash, Debug)]
pub(crate) struct Known<T> {
    /// The value, or why it cannot be read.
    pub(crate) record: Result<T, UnreadableRecord>,
    /// 0 where it is not known: of what this node has put, but for its session.
    pub(crate) created: Revision,
    pub(crate) modified: Revision,
    /// Of the value as it was written.
    pub(crate) digest: u64,
}

impl<T> Known<T> {
    /// The value where it can be read.
    pub(crate) fn readable(&self) -> Option<&T> {
        self.record.as_ref().ok()
    }
}

/// A key's state, or absence, as of a revision.
#[derive(Clone, PartialEq, Eq, Hash, Debug)]
struct Slot<T> {
    as_of: Revision,
    known: Option<Known<T>>,
}

type Slots<K, T> = BTreeMap<K, Slot<T>>;

/// Everything known.
#[derive(Clone, PartialEq, Eq, Hash, Debug, Default)]
pub(crate) struct View {
    /// Everything that happened up to here is known.
    pub(crate) complete_to: Revision,
    /// The highest revision heard of.
    pub(crate) newest: Revision,
    /// The newest own transaction that is known to have landed.
    pub(crate) landed: Revision,
    sessions: Slots<NodeName, SessionRecord>,
    nodes: Slots<NodeName, Arc<NodeRecord>>,
    vips: Slots<VipName, VipRecord>,
    /// The VIPs whose keys name a session, by that session.
    named: BTreeMap<SessionId, BTreeSet<VipName>>,
    drains: Slots<NodeName, DrainRecord>,
    pins: Slots<VipName, PinRecord>,
    heartbeat_keys: Slots<(), HeartbeatKeys>,
    /// Which of its slots each node wrote last, and when; what is in them is for people.
    history: BTreeMap<NodeName, (Revision, u8)>,
    /// A rule that a test broke: see [`Mutant`](crate::mutant::Mutant).
    pub(crate) goes_back: bool,
}

/// What a piece of news changed.
#[derive(Clone, PartialEq, Eq, Hash, Debug)]
pub(crate) enum Change {
    /// A session was written again.
    Renewed(NodeName),
    /// A session came, went, or was replaced by another.
    Session {
        node: NodeName,
        /// The one that the node had before.
        before: Option<SessionId>,
    },
    Node(NodeName),
    Vip(VipName),
    /// An operator drains a node, or no longer does.
    Drain(NodeName),
    /// An operator pins a VIP, or no longer does.
    Pin(VipName),
    /// What heartbeats are authenticated with.
    HeartbeatKeys,
    /// Nothing that matters: the key is none that this version knows, or says what it said before.
    Nothing,
}

impl View {
    /// A view that knows nothing, but breaks the same rule.
    pub(crate) fn cleared(&self) -> View {
        View { goes_back: self.goes_back, ..View::default() }
    }

    /// Learns that `key` was `kv` (none: absent) at revision `as_of`; says what that changed.
    pub(crate) fn learn(
        &mut self,
        keys: &Keys,
        key: &str,
        kv: Option<&KeyValue>,
        as_of: Revision,
    ) -> Option<Change> {
        self.newest = self.newest.max(as_of);
        let back = self.goes_back;
        match keys.kind(key) {
            KeyKind::Session(node) => {
                let before = self.session_id(&node);
                learn(&mut self.sessions, &node, kv, as_of, back)?;
                let same = before.is_some() && before == self.session_id(&node);
                Some(if same { Change::Renewed(node) } else { Change::Session { node, before } })
            }
            KeyKind::Node(node) => {
                learn(&mut self.nodes, &node, kv, as_of, back).map(|()| Change::Node(node))
            }
            KeyKind::Vip(vip) => {
                let before = self.named_session(&vip);
                learn(&mut self.vips, &vip, kv, as_of, back)?;
                self.name_anew(&vip, before);
                Some(Change::Vip(vip))
            }
            KeyKind::Drain(node) => {
                let before = self.drained(&node);
                learn(&mut self.drains, &node, kv, as_of, back)?;
                let same = before == self.drained(&node);
                Some(if same { Change::Nothing } else { Change::Drain(node) })
            }
            KeyKind::Pin(vip) => {
                learn(&mut self.pins, &vip, kv, as_of, back).map(|()| Change::Pin(vip))
            }
            KeyKind::HeartbeatKeys => learn(&mut self.heartbeat_keys, &(), kv, as_of, back)
                .map(|()| Change::HeartbeatKeys),
            KeyKind::History(node, slot) => {
                if let Some(kv) = kv {
                    let newest = self.history.entry(node).or_default();
                    *newest = (*newest).max((kv.mod_revision, slot));
                }
                Some(Change::Nothing)
            }
            KeyKind::Foreign => Some(Change::Nothing),
        }
    }

    /// Learns everything at once: keys that the snapshot does not have are absent.
    pub(crate) fn learn_snapshot(&mut self, keys: &Keys, snapshot: &Snapshot) -> Vec<Change> {
        let as_of = snapshot.header.revision;
        let present: BTreeMap<&str, &KeyValue> =
            snapshot.kvs.iter().map(|kv| (kv.key.as_str(), kv)).collect();
        let gone = self.keys(keys).into_iter().filter(|key| !present.contains_key(key.as_str()));
        let gone: Vec<String> = gone.collect();
        let mut changes: Vec<Change> =
            gone.iter().filter_map(|key| self.learn(keys, key, None, as_of)).collect();
        changes
            .extend(present.iter().filter_map(|(key, kv)| self.learn(keys, key, Some(kv), as_of)));
        self.complete_to = self.complete_to.max(as_of);
        changes
    }

    /// Why what is told of a key cannot be of the same history as what is known of it (A2).
    pub(crate) fn contradiction(
        &self,
        keys: &Keys,
        key: &str,
        kv: Option<&KeyValue>,
        as_of: Revision,
        how: Told,
    ) -> Option<Contradiction> {
        fn known<K: Ord, T>(slots: &Slots<K, T>, key: &K) -> Option<(Fact, u64)> {
            let Slot { as_of, known } = slots.get(key)?;
            let write = known.as_ref().map(|known| {
                let Known { created, modified, .. } = *known;
                Write { created, modified }
            });
            let digest = known.as_ref().map(|known| known.digest).unwrap_or_default();
            Some((Fact { as_of: *as_of, write }, digest))
        }
        let (known, digest) = match keys.kind(key) {
            KeyKind::Session(node) => known(&self.sessions, &node),
            KeyKind::Node(node) => known(&self.nodes, &node),
            KeyKind::Vip(vip) => known(&self.vips, &vip),
            KeyKind::Drain(node) => known(&self.drains, &node),
            KeyKind::Pin(vip) => known(&self.pins, &vip),
            KeyKind::HeartbeatKeys => known(&self.heartbeat_keys, &()),
            KeyKind::History(..) | KeyKind::Foreign => None,
        }?;
        let write = kv.map(|kv| Write { created: kv.create_revision, modified: kv.mod_revision });
        let told = Fact { as_of, write };
        contradiction(known, told, how).or_else(|| {
            let at = known.write?.modified;
            let kv = kv.filter(|kv| kv.mod_revision == at)?;
            (contradiction::digest(kv) != digest).then_some(Contradiction::OtherContent { at })
        })
    }

    fn named_session(&self, vip: &VipName) -> Option<SessionId> {
        self.vip(vip).and_then(Known::readable).map(|record| record.session)
    }

    /// Keeps the VIPs by session in line with `vips/<vip>`, which named `before` until now.
    fn name_anew(&mut self, vip: &VipName, before: Option<SessionId>) {
        let after = self.named_session(vip);
        if let Some(session) = before.filter(|_| before != after)
            && let Some(vips) = self.named.get_mut(&session)
        {
            vips.remove(vip);
            if vips.is_empty() {
                self.named.remove(&session);
            }
        }
        if let Some(session) = after {
            self.named.entry(session).or_default().insert(vip.clone());
        }
    }

    /// All keys that are known to be there.
    pub(crate) fn keys(&self, keys: &Keys) -> Vec<String> {
        let present = |known: bool, key: String| known.then_some(key);
        let sessions =
            self.sessions.iter().map(|(n, s)| present(s.known.is_some(), keys.session(n)));
        let nodes = self.nodes.iter().map(|(n, s)| present(s.known.is_some(), keys.node(n)));
        let vips = self.vips.iter().map(|(v, s)| present(s.known.is_some(), keys.vip(v)));
        let drains = self.drains.iter().map(|(n, s)| present(s.known.is_some(), keys.drain(n)));
        let pins = self.pins.iter().map(|(v, s)| present(s.known.is_some(), keys.pin(v)));
        let heartbeats = self.heartbeat_keys.values();
        let heartbeats = heartbeats.map(|s| present(s.known.is_some(), keys.heartbeat_keys()));
        let all = sessions.chain(nodes).chain(vips).chain(drains).chain(pins).chain(heartbeats);
        all.flatten().collect()
    }

    pub(crate) fn session(&self, node: &NodeName) -> Option<&Known<SessionRecord>> {
        self.sessions.get(node)?.known.as_ref()
    }

    /// The session that `node` has.
    pub(crate) fn session_id(&self, node: &NodeName) -> Option<SessionId> {
        self.session(node).map(|known| SessionId(known.created))
    }

    /// What `node` published in the session that it has. The record belongs to that session when
    /// it was written in it or with it.
    pub(crate) fn node(&self, node: &NodeName) -> Option<&Known<Arc<NodeRecord>>> {
        let session = self.session(node)?;
        let known = self.nodes.get(node)?.known.as_ref()?;
        (known.modified >= session.created).then_some(known)
    }

    /// At which revision `nodes/<node>` was written, in whichever session; 0 when it is absent.
    pub(crate) fn node_modified(&self, node: &NodeName) -> Revision {
        let slot = self.nodes.get(node).and_then(|slot| slot.known.as_ref());
        slot.map(|known| known.modified).unwrap_or_default()
    }

    pub(crate) fn vip(&self, vip: &VipName) -> Option<&Known<VipRecord>> {
        self.vips.get(vip)?.known.as_ref()
    }

    /// The VIPs whose keys name `session`.
    pub(crate) fn vips_of(&self, session: SessionId) -> impl Iterator<Item = &VipName> {
        self.named.get(&session).into_iter().flatten()
    }

    /// The nodes that have a session.
    pub(crate) fn nodes_with_session(&self) -> impl Iterator<Item = &NodeName> {
        self.sessions.iter().filter(|(_, slot)| slot.known.is_some()).map(|(node, _)| node)
    }

    /// In which of its slots a node last wrote what it did.
    pub(crate) fn newest_history_of(&self, node: &NodeName) -> Option<u8> {
        self.history.get(node).map(|(_, slot)| *slot)
    }

    /// Where a node receives heartbeats; none for one that does not speak rule 10, or says nothing that
    /// can be read.
    pub(crate) fn heartbeats_to(&self, node: &NodeName) -> Option<SocketAddr> {
        self.session(node)?.readable()?;
        self.node(node)?.readable()?.heartbeats
    }

    /// What heartbeats are authenticated with.
    pub(crate) fn heartbeat_keys(&self) -> Option<&Known<HeartbeatKeys>> {
        self.heartbeat_keys.get(&())?.known.as_ref()
    }

    /// The longest lease that any session declares.
    pub(crate) fn longest_lease(&self) -> Option<Duration> {
        let sessions = self.sessions.values().filter_map(|slot| slot.known.as_ref());
        sessions.filter_map(Known::readable).map(SessionRecord::lease).max()
    }

    /// Whether a session lists others and not `node`: it may go on by them.
    pub(crate) fn leaves_out(&self, node: &NodeName) -> bool {
        let records = self.sessions.iter().filter(|(other, _)| *other != node);
        let mut records = records.filter_map(|(_, slot)| slot.known.as_ref()?.readable());
        records.any(|record| !record.witnesses.is_empty() && !record.witnesses.contains(node))
    }

    /// Whether an operator wants the node to hold nothing. What cannot be read says nothing (rule 9.6).
    pub(crate) fn drained(&self, node: &NodeName) -> bool {
        let known = self.drains.get(node).and_then(|slot| slot.known.as_ref());
        known.is_some_and(|known| known.record.is_ok())
    }

    /// Where an operator wants the VIP, and since which revision.
    pub(crate) fn pinned(&self, vip: &VipName) -> Option<Pin> {
        let known = self.pins.get(vip)?.known.as_ref()?;
        Some(Pin { node: known.readable()?.node.clone(), since: known.modified })
    }

    /// The value of `key` that cannot be read, if that is so.
    pub(crate) fn unreadable(&self, keys: &Keys, key: &str) -> Option<&UnreadableRecord> {
        fn error<'a, K: Ord, T>(slots: &'a Slots<K, T>, key: &K) -> Option<&'a UnreadableRecord> {
            slots.get(key)?.known.as_ref()?.record.as_ref().err()
        }
        match keys.kind(key) {
            KeyKind::Session(node) => error(&self.sessions, &node),
            KeyKind::Node(node) => error(&self.nodes, &node),
            KeyKind::Vip(vip) => error(&self.vips, &vip),
            KeyKind::Drain(node) => error(&self.drains, &node),
            KeyKind::Pin(vip) => error(&self.pins, &vip),
            KeyKind::HeartbeatKeys => error(&self.heartbeat_keys, &()),
            KeyKind::History(..) | KeyKind::Foreign => None,
        }
    }
}

fn learn<K: Ord + Clone, T: Record>(
    slots: &mut Slots<K, T>,
    key: &K,
    kv: Option<&KeyValue>,
    as_of: Revision,
    goes_back: bool,
) -> Option<()> {
    if let Some(slot) = slots.get_mut(key) {
        if as_of <= slot.as_of && !goes_back {
            return None;
        }
        slot.as_of = as_of;
        let before = slot.known.as_ref().map(|known| known.modified);
        if before == kv.map(|kv| kv.mod_revision) {
            if let Some((known, kv)) = slot.known.as_mut().zip(kv) {
                known.created = known.created.max(kv.create_revision);
            }
            return None;
        }
        slot.known = kv.map(known);
    } else {
        slots.insert(key.clone(), Slot { as_of, known: kv.map(known) });
        kv?;
    }
    Some(())
}

fn known<T: Record>(kv: &KeyValue) -> Known<T> {
    Known {
        record: decode(&kv.value),
        created: kv.create_revision,
        modified: kv.mod_revision,
        digest: contradiction::digest(kv),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::records::encode;
    use crate::store::Header;

    fn keys() -> Keys {
        Keys::new(&"main".parse().unwrap())
    }

    fn pin(node: &str, mod_revision: i64) -> KeyValue {
        KeyValue {
            key: keys().pin(&"v".parse().unwrap()),
            value: encode(&PinRecord { node: node.parse().unwrap() }),
            create_revision: Revision(1),
            mod_revision: Revision(mod_revision),
        }
    }

    fn pinned(view: &View) -> Option<String> {
        view.pinned(&"v".parse().unwrap()).map(|pin| pin.node.to_string())
    }

    fn learn_at(view: &mut View, kv: Option<KeyValue>, as_of: i64) -> Option<Change> {
        let key = keys().pin(&"v".parse().unwrap());
        view.learn(&keys(), &key, kv.as_ref(), Revision(as_of))
    }

    #[test]
    fn older_news_are_ignored() {
        let mut view = View::default();
        learn_at(&mut view, Some(pin("a", 5)), 5);
        assert_eq!(learn_at(&mut view, Some(pin("b", 4)), 4), None);
        assert_eq!(learn_at(&mut view, None, 3), None);
        assert_eq!(pinned(&view).as_deref(), Some("a"));
    }

    #[test]
    fn a_deletion_is_known_as_of_its_revision_too() {
        let mut view = View::default();
        learn_at(&mut view, Some(pin("a", 5)), 5);
        assert_eq!(learn_at(&mut view, None, 7), Some(Change::Pin("v".parse().unwrap())));
        assert_eq!(learn_at(&mut view, Some(pin("b", 6)), 6), None);
        assert_eq!(pinned(&view), None);
    }

    #[test]
    fn a_later_reading_of_the_same_write_is_no_change_but_outdates_what_lies_between() {
        let mut view = View::default();
        learn_at(&mut view, Some(pin("a", 5)), 5);
        assert_eq!(learn_at(&mut view, Some(pin("a", 5)), 9), None);
        assert_eq!(learn_at(&mut view, None, 8), None);
        assert_eq!(pinned(&view).as_deref(), Some("a"));
    }

    #[test]
    fn what_a_snapshot_does_not_have_is_absent() {
        let mut view = View::default();
        learn_at(&mut view, Some(pin("a", 5)), 5);
        let header = Header { cluster_id: 1, member_id: 1, raft_term: 1, revision: Revision(9) };
        let changes = view.learn_snapshot(&keys(), &Snapshot { header, kvs: vec![] });
        assert_eq!(changes, [Change::Pin("v".parse().unwrap())]);
        assert_eq!(pinned(&view), None);
        assert_eq!(learn_at(&mut view, Some(pin("b", 8)), 8), None);
    }

    #[test]
    fn the_vips_of_a_session_follow_what_their_keys_name() {
        let (keys, mut view) = (keys(), View::default());
        let vip: VipName = "v".parse().unwrap();
        let mut name = |session: Option<i64>, at: i64| {
            let record = |session| VipRecord {
                node: "a".parse().unwrap(),
                session: SessionId(Revision(session)),
                since_unix_ms: 0,
            };
            let kv = session.map(|session| KeyValue {
                key: keys.vip(&vip),
                value: encode(&record(session)),
                create_revision: Revision(1),
                mod_revision: Revision(at),
            });
            view.learn(&keys, &keys.vip(&vip), kv.as_ref(), Revision(at));
            [3, 4].map(|session| view.vips_of(SessionId(Revision(session))).count())
        };
        assert_eq!(name(Some(3), 5), [1, 0]);
        assert_eq!(name(Some(3), 6), [1, 0]);
        assert_eq!(name(Some(4), 7), [0, 1]);
        assert_eq!(name(None, 8), [0, 0]);
    }

    #[test]
    fn a_snapshot_that_is_older_than_an_answer_takes_nothing_back() {
        let mut view = View::default();
        learn_at(&mut view, Some(pin("a", 12)), 12);
        let header = Header { cluster_id: 1, member_id: 1, raft_term: 1, revision: Revision(9) };
        view.learn_snapshot(&keys(), &Snapshot { header, kvs: vec![] });
        assert_eq!(pinned(&view).as_deref(), Some("a"));
    }
}
