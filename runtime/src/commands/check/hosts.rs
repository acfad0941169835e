//! What `turnip check` finds out about this host among the others: whether its name is its own, and whether
//! the others wait as long as it does.

use std::collections::{BTreeMap, BTreeSet};

use turnip::config::Config;
use turnip::host::host_id;
use turnip_core::records::{SessionRecord, decode};
use turnip_core::{HostId, Keys, NodeName, VipName};

use super::Findings;
use crate::commands::cluster::{Cluster, ClusterState, beyond};
use crate::commands::local;
use crate::commands::run::runtime_directory;
use crate::commands::status::policy_in_words;

const NAME: &str = "name";
/// Names that images and installers give, and that say nothing.
const PLACEHOLDERS: [&str; 12] = [
    "localhost",
    "localhost.localdomain",
    "localhost6",
    "ip6-localhost",
    "none",
    "unknown",
    "debian",
    "ubuntu",
    "fedora",
    "raspberrypi",
    "archlinux",
    "host",
];

/// A name that many hosts have before somebody gives them one.
pub fn check_name(config: &Config, findings: &mut Findings) {
    let name = config.node.as_str();
    if PLACEHOLDERS.contains(&name.to_lowercase().as_str()) {
        let what = format!(
            "{name} is what a host is called to which nobody has given a name, and no two may have one: write node = \"…\" (TURNIP_NODE), or run `hostnamectl hostname`"
        );
        findings.error(NAME, what);
    }
}

/// Compares this host with those that have a session.
pub async fn check(config: &Config, findings: &mut Findings) {
    // That etcd does not answer is said elsewhere, and so is what cannot be read.
    let Ok(cluster) = Cluster::new(&config.reach) else { return };
    let Ok(state) = cluster.observe(|_| std::time::Duration::ZERO).await else { return };
    let daemon = local::ask(&runtime_directory(), &config.reach.cluster);
    let Some(own) = daemon.and_then(|daemon| daemon.host).or_else(|| host_id().ok()) else {
        return;
    };
    let sessions = sessions(&state, &cluster.keys);
    definitions(config, &state, &cluster.keys, findings);
    let Some(found) = sessions.get(&config.node) else {
        return others(config, &own, &sessions, findings);
    };
    if found.host != own {
        // Who has it may have been gone since before etcd was asked: that shows in a lease.
        let listened = cluster.observe(beyond).await;
        let renewed = listened.is_ok_and(|state| state.heard(&config.node));
        match taken(&config.node, &found.host, &own, renewed) {
            (true, what) => findings.error(NAME, what),
            (false, what) => findings.warning(NAME, what),
        }
    } else {
        findings.ok(NAME, format!("{} is this host's, as etcd knows it", config.node));
    }
    others(config, &own, &sessions, findings);
}

fn sessions(state: &ClusterState, keys: &Keys) -> BTreeMap<NodeName, SessionRecord> {
    let sessions = state.sessions(keys);
    sessions.filter_map(|(node, kv)| Some((node, decode(&kv.value).ok()?))).collect()
}

/// VIPs that others define otherwise are handed to nobody.
fn definitions(config: &Config, state: &ClusterState, keys: &Keys, findings: &mut Findings) {
    let published = state
        .nodes(keys)
        .filter(|(node, _)| *node != config.node && state.has(&keys.session(node)));
    let mut otherwise: BTreeMap<&VipName, Vec<String>> = BTreeMap::new();
    for (node, record) in published {
        for vip in &config.vips {
            let name = &vip.config.name;
            let offer = record.vips.get(name);
            if let Some(offer) = offer.filter(|offer| offer.digest != vip.config.digest()) {
                let addresses: Vec<String> =
                    offer.addresses.iter().map(ToString::to_string).collect();
                let policy = policy_in_words(offer.policy, offer.follows.as_deref());
                let there = format!("{} with the policy {policy} on {node}", addresses.join(" "));
                otherwise.entry(name).or_default().push(there);
            }
        }
    }
    for (vip, there) in otherwise {
        let what = format!(
            "{vip} is defined otherwise elsewhere: {}; hosts whose addresses, policy or preempt differ do not hand a VIP to each other",
            there.join(", ")
        );
        findings.warning("definitions", what);
    }
}

/// What is said of a name that another host has in etcd, and whether turnip would not run with it.
fn taken(name: &NodeName, other: &HostId, own: &HostId, renewed: bool) -> (bool, String) {
    if own.is_later_boot_of(other) {
        return match renewed {
            true => (
                true,
                format!(
                    "{name} is in use by another machine with this one's machine id, as clones of one image are: give each its own by removing /etc/machine-id and running `systemd-machine-id-setup`, and each its own node"
                ),
            ),
            false => (
                false,
                format!(
                    "{name} has a session of before this host was booted; turnip takes its place"
                ),
            ),
        };
    }
    let who = match own.machine() == other.machine() && own.machine().is_some() {
        true => "another network namespace of this machine".to_owned(),
        false => format!("another host ({other}; this one is {own})"),
    };
    match renewed {
        true => (
            true,
            format!(
                "{name} is taken: {who} has it, and renews its session; write another node = \"…\" (TURNIP_NODE) here or there"
            ),
        ),
        false => (
            false,
            format!(
                "{name} was that of {who}, which is silent; turnip waits until its session is over, and then takes the name"
            ),
        ),
    }
}

fn others(
    config: &Config,
    own: &HostId,
    sessions: &BTreeMap<NodeName, SessionRecord>,
    findings: &mut Findings,
) {
    let others = || sessions.iter().filter(|(node, _)| **node != config.node);
    let is_clone = |host: &HostId| own.is_later_boot_of(host);
    let clones: Vec<&str> = others()
        .filter(|(_, session)| is_clone(&session.host))
        .map(|(node, _)| node.as_str())
        .collect();
    if !clones.is_empty() {
        let what = format!(
            "the machine id of this host is that of {} too, as clones of one image have it: remove /etc/machine-id on all but one of them, run `systemd-machine-id-setup` there, and restart turnip",
            clones.join(", ")
        );
        findings.error("machine id", what);
    }
    let own_ms = config.lease.duration().as_millis();
    let mut by_lease: BTreeMap<u64, BTreeSet<&str>> = BTreeMap::new();
    for (node, session) in others().filter(|(_, session)| u128::from(session.lease_ms) != own_ms) {
        by_lease.entry(session.lease_ms).or_default().insert(node.as_str());
    }
    if by_lease.is_empty() {
        return;
    }
    let named = by_lease.iter().map(|(ms, nodes)| {
        let nodes: Vec<&str> = nodes.iter().copied().collect();
        format!("{} s on {}", *ms as f64 / 1e3, nodes.join(", "))
    });
    let what = format!(
        "{} s here, and {}: a host that is lost is missed for as long as its own lease; write the same one on all hosts, if that is not meant",
        own_ms as f64 / 1e3,
        named.collect::<Vec<_>>().join(", ")
    );
    findings.warning("lease", what);
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_that_another_host_has_is_an_error_while_that_host_is_there() {
        let judge = |other: &str, renewed| {
            let id = |text: &str| HostId(text.into());
            taken(&"a".parse().unwrap(), &id(other), &id("m/2/7"), renewed)
        };
        for (other, renewed, is_error, words) in [
            ("n/9/7", true, true, "a is taken: another host (n/9/7"),
            ("n/9/7", false, false, "which is silent"),
            ("m/1/7", false, false, "of before this host was booted"),
            ("m/1/7", true, true, "clones of one image"),
            ("m/2/8", true, true, "another network namespace of this machine"),
        ] {
            let (error, what) = judge(other, renewed);
            assert_eq!(error, is_error, "{what}");
            assert!(what.contains(words), "{what}");
        }
    }
}
