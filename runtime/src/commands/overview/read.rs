//! The keys under the prefix, read.

use std::collections::{BTreeMap, BTreeSet};

use turnip_core::placement::{Candidate, Pin, Unfit, candidate};
use turnip_core::records::{DrainRecord, NodeRecord, PinRecord, SessionRecord, VipRecord, decode};
use turnip_core::text::shown;
use turnip_core::{HeartbeatKeys, KeyKind, KeyValue, Keys, NodeName, Revision, VipName};

/// The keys, read.
#[derive(Default)]
pub(super) struct Read {
    pub(super) sessions: BTreeMap<NodeName, (Revision, SessionRecord)>,
    pub(super) nodes: BTreeMap<NodeName, NodeRecord>,
    pub(super) vips: BTreeMap<VipName, (Revision, VipRecord)>,
    pub(super) drained: BTreeSet<NodeName>,
    pub(super) pins: BTreeMap<VipName, Pin>,
    pub(super) silent: BTreeSet<NodeName>,
    pub(super) sessions_unreadable: BTreeSet<NodeName>,
    pub(super) unreadable: BTreeMap<String, String>,
}

impl Read {
    pub(super) fn of<'a>(keys: &Keys, kvs: impl IntoIterator<Item = &'a KeyValue>) -> Self {
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

    /// Whether it has a session that may hold something.
    pub(super) fn is_alive(&self, node: &NodeName) -> bool {
        self.sessions.contains_key(node) && !self.silent.contains(node)
    }

    /// The node as one that could take the VIP, or why it cannot.
    pub(super) fn candidate(
        &self,
        node: &NodeName,
        vip: &VipName,
        digest: &str,
    ) -> Result<Candidate, Unfit> {
        let published = self.nodes.get(node).filter(|_| self.is_alive(node));
        candidate(node, published, self.drained.contains(node), vip, digest)
    }
}
