//! What was read of a cluster, and what was heard of it since.

use std::collections::{BTreeMap, BTreeSet};
use std::io::IsTerminal;
use std::time::{Duration, Instant};

use turnip_core::records::{NodeRecord, SessionRecord, decode};
use turnip_core::{Event, Events, KeyKind, KeyValue, Keys, NodeName, Revision, Snapshot};

use super::beyond;
use crate::commands::overview::{Overview, WhatIf};

/// What was read and seen.
pub struct ClusterState {
    revision: Revision,
    kvs: BTreeMap<String, KeyValue>,
    /// When each node's session was last seen written, while observing.
    renewals: BTreeMap<NodeName, Instant>,
    /// Nodes that are known to be alive otherwise.
    vouched: BTreeSet<NodeName>,
    /// Those that have been silent beyond their lease, since when, and as of which write.
    silent: BTreeMap<NodeName, (Revision, Instant)>,
    /// Since when it has been observed.
    began: Instant,
    /// Until then all that was written is known: while nobody answers, that a node is silent says nothing.
    known_until: Instant,
}

impl ClusterState {
    /// What a snapshot has.
    pub fn new(snapshot: Snapshot, now: Instant) -> Self {
        ClusterState {
            revision: snapshot.header.revision,
            kvs: snapshot.kvs.into_iter().map(|kv| (kv.key.clone(), kv)).collect(),
            renewals: BTreeMap::new(),
            vouched: BTreeSet::new(),
            silent: BTreeMap::new(),
            began: now,
            known_until: now,
        }
    }

    /// Another snapshot, after a time of which no events came.
    pub fn take_snapshot(&mut self, keys: &Keys, snapshot: Snapshot, now: Instant) {
        let before = std::mem::take(&mut self.kvs);
        self.revision = snapshot.header.revision;
        self.kvs = snapshot.kvs.into_iter().map(|kv| (kv.key.clone(), kv)).collect();
        let is_new = |kv: &KeyValue| {
            before.get(&kv.key).is_none_or(|known| known.mod_revision != kv.mod_revision)
        };
        let written: Vec<NodeName> =
            self.sessions(keys).filter(|(_, kv)| is_new(kv)).map(|(node, _)| node).collect();
        self.renewals.extend(written.into_iter().map(|node| (node, now)));
    }

    /// The sessions, as they were when they were asked for at `asked`: what is known is known until then.
    /// That one has come or gone is told with the events.
    pub fn take_sessions(&mut self, keys: &Keys, sessions: Snapshot, asked: Instant) {
        for kv in sessions.kvs {
            let KeyKind::Session(node) = keys.kind(&kv.key) else { continue };
            let Some(known) = self.kvs.get_mut(&kv.key) else { continue };
            if known.create_revision == kv.create_revision && known.mod_revision < kv.mod_revision {
                *known = kv;
                self.renewals.insert(node, asked);
            }
        }
        self.is_known_until(keys, asked);
    }

    /// What is known is known until then.
    pub fn is_known_until(&mut self, keys: &Keys, until: Instant) {
        self.known_until = self.known_until.max(until);
        let silent: Vec<(NodeName, Revision, Instant)> = self.newly_silent(keys).collect();
        for (node, written, since) in silent {
            self.silent.insert(node, (written, since));
        }
    }

    /// Until when everything is known.
    pub fn known_until(&self) -> Instant {
        self.known_until
    }

    /// There was a time of which nothing is known: hosts may have held on without writing, by each other's
    /// consent. Whoever was silent beyond its lease before that held nothing, and has nothing until it writes.
    pub fn listen_anew(&mut self, now: Instant) {
        self.renewals.clear();
        (self.began, self.known_until) = (now, now);
    }

    /// The longest lease that a session declares.
    pub fn lease_longest(&self, keys: &Keys) -> Duration {
        let records =
            self.sessions(keys).filter_map(|(_, kv)| decode::<SessionRecord>(&kv.value).ok());
        records.map(|record| record.lease()).max().unwrap_or_default()
    }

    /// What came after that.
    pub fn take(&mut self, keys: &Keys, batch: Events, now: Instant) {
        self.revision = batch.header.revision;
        batch.events.into_iter().for_each(|event| self.apply(keys, event, now));
    }

    fn apply(&mut self, keys: &Keys, event: Event, now: Instant) {
        match event {
            Event::Put(kv) => {
                if let KeyKind::Session(node) = keys.kind(&kv.key) {
                    self.renewals.insert(node, now);
                }
                self.kvs.insert(kv.key.clone(), kv);
            }
            Event::Delete { key, .. } => {
                self.kvs.remove(&key);
            }
        }
    }

    /// The sessions, as they are in etcd.
    pub fn sessions<'a>(
        &'a self,
        keys: &'a Keys,
    ) -> impl Iterator<Item = (NodeName, &'a KeyValue)> {
        self.kvs.values().filter_map(|kv| match keys.kind(&kv.key) {
            KeyKind::Session(node) => Some((node, kv)),
            _ => None,
        })
    }

    /// The leases of those of which nothing was heard.
    pub fn unheard<'a>(&'a self, keys: &'a Keys) -> impl Iterator<Item = (NodeName, Duration)> {
        let is_unheard = |(node, _): &(NodeName, &KeyValue)| {
            !self.renewals.contains_key(node) && !self.vouched.contains(node)
        };
        let lease = |(node, kv): (NodeName, &KeyValue)| {
            Some((node, decode::<SessionRecord>(&kv.value).ok()?.lease()))
        };
        self.sessions(keys).filter(is_unheard).filter_map(lease)
    }

    /// Those that have been silent beyond their lease, also since they were heard.
    fn silent<'a>(&'a self, keys: &'a Keys) -> impl Iterator<Item = (NodeName, Instant)> + 'a {
        let before = self.sessions(keys).filter_map(|(node, kv)| {
            let (written, since) = self.silent.get(&node)?;
            (*written == kv.mod_revision).then_some((node, *since))
        });
        let all = before.chain(self.newly_silent(keys).map(|(node, _, since)| (node, since)));
        all.filter(|(node, _)| !self.vouched.contains(node))
    }

    /// Those that are by what is known now, each with its last write and since when.
    fn newly_silent<'a>(
        &'a self,
        keys: &'a Keys,
    ) -> impl Iterator<Item = (NodeName, Revision, Instant)> + 'a {
        self.sessions(keys).filter_map(|(node, kv)| {
            let is_told = self.silent.get(&node).is_some_and(|(at, _)| *at == kv.mod_revision);
            let lease = decode::<SessionRecord>(&kv.value).ok()?.lease();
            let since = self.renewals.get(&node).copied().unwrap_or(self.began);
            let silence = self.known_until.saturating_duration_since(since);
            let is_silent = silence >= beyond(lease) && !self.vouched.contains(&node);
            (is_silent && !is_told).then_some((node, kv.mod_revision, since))
        })
    }

    /// For how long, since it began, there is something to listen for.
    pub fn left(&self, keys: &Keys, patience: impl Fn(Duration) -> Duration) -> Option<Duration> {
        let waits = self.unheard(keys).map(|(_, lease)| patience(lease));
        waits.max().filter(|longest| !longest.is_zero())
    }

    /// Tells somebody at a terminal what is waited for.
    pub fn tell(&self, keys: &Keys, wait: Duration) {
        if std::io::stderr().is_terminal() {
            let nodes: Vec<String> = self.unheard(keys).map(|(node, _)| node.to_string()).collect();
            let (nodes, secs) = (nodes.join(", "), wait.as_secs_f64());
            eprintln!("nothing was heard yet of {nodes}: listening for up to {secs:.0} s more");
        }
    }

    /// What the nodes have published, as far as it can be read.
    pub fn nodes<'a>(
        &'a self,
        keys: &'a Keys,
    ) -> impl Iterator<Item = (NodeName, NodeRecord)> + 'a {
        self.kvs.values().filter_map(|kv| match keys.kind(&kv.key) {
            KeyKind::Node(node) => Some((node, decode(&kv.value).ok()?)),
            _ => None,
        })
    }

    /// Whether the node's session was written while observing.
    pub fn heard(&self, node: &NodeName) -> bool {
        self.renewals.contains_key(node)
    }

    /// These nodes are known to be alive, and to hold what is theirs.
    pub fn vouch_for(&mut self, nodes: impl IntoIterator<Item = NodeName>) {
        self.vouched.extend(nodes);
    }

    /// These, and no others.
    pub fn vouch_for_only(&mut self, nodes: impl IntoIterator<Item = NodeName>) {
        self.vouched = nodes.into_iter().collect();
    }

    /// Puts together what was read and seen.
    pub fn overview(&self, keys: &Keys, what_if: &WhatIf) -> Overview {
        let what_if = WhatIf {
            silent: self.silent(keys).map(|(node, _)| node).collect(),
            drained: what_if.drained.clone(),
            down: what_if.down.clone(),
            pinned: what_if.pinned.clone(),
        };
        let mut overview = Overview::new(keys, self.revision, self.kvs.values(), &what_if);
        let ago = |at: Instant| self.known_until.saturating_duration_since(at);
        let renewals = self.renewals.iter().map(|(node, at)| (node.clone(), ago(*at))).collect();
        overview.set_renewals(&renewals, ago(self.began));
        for (node, since) in self.silent(keys).filter(|(node, _)| !renewals.contains_key(node)) {
            overview.set_silence(&node, ago(since));
        }
        overview
    }

    /// Everything that was read.
    pub fn kvs(&self) -> impl Iterator<Item = &KeyValue> {
        self.kvs.values()
    }

    /// Whether there is such a key.
    pub fn has(&self, key: &str) -> bool {
        self.kvs.contains_key(key)
    }

    /// When a key was written last.
    pub fn modified(&self, key: &str) -> Option<Revision> {
        self.kvs.get(key).map(|kv| kv.mod_revision)
    }

    /// The value of a key.
    pub fn value(&self, key: &str) -> Option<&[u8]> {
        self.kvs.get(key).map(|kv| kv.value.as_slice())
    }
}
