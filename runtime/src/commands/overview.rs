//! What the keys under the prefix say, put together for people and programs.

mod node;
mod read;
mod vip;

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use serde::Serialize;
use turnip::etcd::certificates::CertificateEnd;
use turnip_core::placement::Pin;
use turnip_core::{KeyValue, Keys, NodeName, Revision, VipName};

pub use node::Node;
use read::Read;
pub use vip::Vip;

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

    /// The node has been silent for so long, beyond its lease.
    pub fn set_silence(&mut self, name: &NodeName, silent_for: Duration) {
        if let Some(node) = self.nodes.get_mut(name) {
            node.silent_for_ms = Some(millis(silent_for));
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

#[cfg(test)]
mod tests;
