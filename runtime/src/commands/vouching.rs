//! Which nodes are alive although etcd does not show it at once: hosts that hear each other write once in a
//! lease, and answer probes at once.

use std::collections::{BTreeMap, BTreeSet};
use std::net::SocketAddr;
use std::time::Duration;

use turnip::peers::{Identity, probe};
use turnip_core::records::{NodeRecord, SessionRecord, decode};
use turnip_core::{ClusterName, HeartbeatKeys, KeyKind, KeyValue, Keys, NodeName};

/// How long they are given.
const REPLY_WITHIN: Duration = Duration::from_millis(600);

/// Whom to ask, and who has to reply.
#[derive(Default)]
pub struct Asked {
    secret: Option<HeartbeatKeys>,
    addresses: BTreeMap<NodeName, SocketAddr>,
    witnesses: BTreeMap<NodeName, BTreeSet<NodeName>>,
}

impl Asked {
    /// As the keys have it.
    pub fn of<'a>(keys: &Keys, kvs: impl Iterator<Item = &'a KeyValue>) -> Self {
        let mut asked = Asked::default();
        kvs.for_each(|kv| asked.learn(keys, kv));
        asked
    }

    /// The nodes with a session of which every witness replies, and they themselves: by heartbeats they hold
    /// what is theirs, however long ago their last write was. A single one that is missing makes all others
    /// write more often.
    pub async fn alive_now(self, cluster: ClusterName) -> BTreeSet<NodeName> {
        let Some(secret) = self.secret.clone() else { return BTreeSet::new() };
        let Ok(number) = getrandom::u64() else { return BTreeSet::new() };
        let identity = Identity { cluster, node: "operator".parse().expect("it is a name") };
        let addresses = self.addresses.clone();
        let replies = tokio::task::spawn_blocking(move || {
            probe(&identity, &secret, &addresses, number, REPLY_WITHIN)
        });
        match replies.await {
            Ok(Ok(replies)) => self.alive(&replies.into_keys().collect()),
            _ => BTreeSet::new(),
        }
    }

    fn learn(&mut self, keys: &Keys, kv: &KeyValue) {
        match keys.kind(&kv.key) {
            KeyKind::HeartbeatKeys => self.secret = decode(&kv.value).ok(),
            KeyKind::Node(node) => {
                let record: Option<NodeRecord> = decode(&kv.value).ok();
                let address = record.and_then(|record| record.heartbeats);
                self.addresses.extend(address.map(|address| (node, address)));
            }
            KeyKind::Session(node) => {
                if let Ok(record) = decode::<SessionRecord>(&kv.value) {
                    self.witnesses.insert(node, record.witnesses);
                }
            }
            _ => {}
        }
    }

    fn alive(&self, replied: &BTreeSet<NodeName>) -> BTreeSet<NodeName> {
        let is_alive = |(node, witnesses): &(&NodeName, &BTreeSet<NodeName>)| {
            !witnesses.is_empty() && replied.contains(*node) && witnesses.is_subset(replied)
        };
        self.witnesses.iter().filter(is_alive).map(|(node, _)| node.clone()).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_node_is_alive_when_it_and_all_its_witnesses_reply() {
        let name = |name: &str| name.parse::<NodeName>().unwrap();
        let set = |names: &[&str]| names.iter().map(|one| name(one)).collect::<BTreeSet<_>>();
        let witnesses = [("a", set(&["b", "c"])), ("b", set(&["a"])), ("c", set(&[]))];
        let witnesses = witnesses.into_iter().map(|(node, all)| (name(node), all)).collect();
        let asked = Asked { witnesses, ..Asked::default() };
        assert_eq!(asked.alive(&set(&["a", "b", "c"])), set(&["a", "b"]), "c has no witnesses");
        assert_eq!(asked.alive(&set(&["a", "b"])), set(&["b"]), "a needs c");
        assert_eq!(asked.alive(&set(&["b", "c"])), set(&[]), "a is silent");
    }
}
