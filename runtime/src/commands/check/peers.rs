//! What `turnip check` finds out about the hosts' ways to each other past etcd (rule 10).

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::time::Duration;

use turnip::config::{Config, Listen};
use turnip::etcd::Etcd;
use turnip::peers::{Identity, probe};
use turnip_core::records::decode;
use turnip_core::{HeartbeatKeys, Keys, NodeName, Snapshot};

use super::Findings;
use crate::commands::local::{self, Local};
use crate::commands::overview::{Overview, WhatIf};
use crate::commands::run::runtime_directory;

const ANSWER_WITHIN: Duration = Duration::from_secs(3);
/// All probes of one host together.
const REPLY_WITHIN: Duration = Duration::from_millis(900);
const SUBJECT: &str = "heartbeats";

/// Probes every other host that says where it receives heartbeats, and says whether this cluster could
/// hold its addresses while etcd is away.
pub async fn check(config: &Config, findings: &mut Findings) {
    if config.peers.listen == Listen::Off {
        let what = "off here, by peers.listen = \"off\": while this host is in the cluster, no host's addresses outlive an etcd that does not answer";
        return findings.warning(SUBJECT, what);
    }
    let keys = Keys::new(&config.reach.cluster);
    let Ok(etcd) = Etcd::new(&config.reach.etcd) else { return };
    let read = tokio::time::timeout(ANSWER_WITHIN, etcd.snapshot(keys.prefix())).await;
    // That etcd does not answer is said elsewhere.
    let Ok(Ok(snapshot)) = read else { return };
    let overview =
        Overview::new(&keys, snapshot.header.revision, &snapshot.kvs, &WhatIf::default());
    let local = local::ask(&runtime_directory(), &config.reach.cluster);
    // Before the configuration changed, perhaps.
    let own_before = local.as_ref().map(|local| &local.node);
    let others = overview.nodes.iter().filter(|(_, node)| node.session.is_some());
    let others: BTreeMap<&NodeName, Option<SocketAddr>> = others
        .filter(|(name, _)| **name != config.node && Some(*name) != own_before)
        .map(|(name, node)| (name, node.heartbeats))
        .collect();
    if others.is_empty() {
        return findings.ok(SUBJECT, "no other host runs turnip at the moment");
    }
    let deaf: Vec<&str> =
        others.iter().filter(|(_, at)| at.is_none()).map(|(name, _)| name.as_str()).collect();
    if !deaf.is_empty() {
        let what = format!(
            "{} does not take part, by its version, by peers.listen = \"off\" there, or as its log says: meanwhile no host's addresses outlive an etcd that does not answer",
            deaf.join(", ")
        );
        findings.warning(SUBJECT, what);
    }
    let others = others.into_iter().filter_map(|(name, at)| Some((name.clone(), at?))).collect();
    let all_reply = probe_all(config, &snapshot, &keys, &others, findings);
    let all_are_heard = local
        .as_ref()
        .is_none_or(|local| are_heard(local, config.peers.listen.port(), &others, findings));
    if deaf.is_empty() && all_reply && all_are_heard {
        let what = "all hosts take part; as far as it is seen from here, addresses outlive an etcd that does not answer, while all hosts run";
        findings.ok(SUBJECT, what);
    }
}

/// Whether all reply.
fn probe_all(
    config: &Config,
    snapshot: &Snapshot,
    keys: &Keys,
    others: &BTreeMap<NodeName, SocketAddr>,
    findings: &mut Findings,
) -> bool {
    let key = snapshot.kvs.iter().find(|kv| kv.key == keys.heartbeat_keys());
    let secret: HeartbeatKeys = match key.map(|kv| decode(&kv.value)) {
        Some(Ok(secret)) => secret,
        Some(Err(error)) => {
            let what =
                format!("{}: {error}; `turnip rotate-key` makes another", keys.heartbeat_keys());
            findings.error(SUBJECT, what);
            return false;
        }
        None => {
            findings.warning(SUBJECT, "no host has made a key yet");
            return false;
        }
    };
    let identity = Identity { cluster: config.reach.cluster.clone(), node: config.node.clone() };
    let number = getrandom::u64().unwrap_or_default();
    let replies = match probe(&identity, &secret, others, number, REPLY_WITHIN) {
        Ok(replies) => replies,
        Err(error) => {
            findings.error(SUBJECT, format!("the others cannot be probed: {error}"));
            return false;
        }
    };
    for (name, address) in others {
        let subject = format!("{SUBJECT} {name}");
        match replies.get(name) {
            Some(after) => {
                let ms = after.as_secs_f64() * 1e3;
                findings.ok(subject, format!("replies at {address} after {ms:.1} ms"));
            }
            None => findings.warning(
                subject,
                format!(
                    "does not reply at {address}: if turnip runs there (`turnip status`), open UDP port {} between the hosts, both ways, and look at peers.address there; meanwhile addresses do not outlive an etcd that does not answer",
                    address.port()
                ),
            ),
        }
    }
    replies.len() == others.len()
}

/// Whether the daemon on this host hears all. A reply passes a firewall that lets no heartbeat in.
fn are_heard(
    local: &Local,
    port: u16,
    others: &BTreeMap<NodeName, SocketAddr>,
    findings: &mut Findings,
) -> bool {
    let Some(heartbeats) = &local.heartbeats else {
        let what = "the daemon that runs here does not take part; its log says why";
        findings.warning(SUBJECT, what);
        return false;
    };
    let is_heard = |name: &&NodeName| {
        heartbeats.from.get(*name).is_some_and(|way| way.heard_ago_ms.is_some() && !way.lost)
    };
    let unheard: Vec<&str> =
        others.keys().filter(|name| !is_heard(name)).map(NodeName::as_str).collect();
    if !unheard.is_empty() {
        let what = format!(
            "the daemon that runs here receives none from {}: open UDP port {port} of this host for them",
            unheard.join(", ")
        );
        findings.warning(SUBJECT, what);
    }
    unheard.is_empty()
}
