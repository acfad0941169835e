//! What differs between two configurations of one node, and what it takes to go by the second (rule 14).

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;

use ipnet::IpNet;
use turnip_core::{CheckName, Follow, Policy, VipConfig};

use super::vips::Vip;
use super::{Config, Fence};
use crate::checks::Check;
use crate::kernel::Companion;

/// What differs, in words.
#[derive(Clone, PartialEq, Eq, Default, Debug)]
pub struct Difference {
    /// What a running daemon takes: VIPs, and settings of the node.
    pub taken: Vec<String>,
    /// What takes a new process. `systemctl restart turnip` moves nothing.
    pub restart: Vec<String>,
    /// What takes a new session: all VIPs move to other hosts first.
    pub session: Vec<String>,
}

impl Difference {
    /// From `before` to `after`.
    pub fn between(before: &Config, after: &Config) -> Self {
        let mut difference = Difference {
            taken: of_vips(&before.vips, &after.vips),
            restart: Vec::new(),
            session: Vec::new(),
        };
        let change = |key: &str, was: &dyn fmt::Debug, is: &dyn fmt::Debug| {
            let (was, is) = (format!("{was:?}"), format!("{is:?}"));
            (was != is).then(|| format!("{key}: {was} -> {is}"))
        };
        let (reach, new) = (&before.reach, &after.reach);
        difference.taken.extend(of_checks(&before.checks, &after.checks));
        difference.taken.extend(change("weight", &before.weight, &after.weight));
        let (was, is) = (Shown(before.announce_every), Shown(after.announce_every));
        difference.taken.extend(change("announce_every", &was, &is));
        difference.session.extend(
            [
                change("cluster", &reach.cluster.as_str(), &new.cluster.as_str()),
                change("node", &before.node.as_str(), &after.node.as_str()),
                change("lease", &before.lease.duration(), &after.lease.duration()),
                change("renew", &before.lease.renew(), &after.lease.renew()),
                change("guard", &before.lease.guard(), &after.lease.guard()),
                change("drift, in ppm", &before.lease.drift_ppm(), &after.lease.drift_ppm()),
                change("fence", &fence(before.fence), &fence(after.fence)),
                change("etcd.endpoints", &reach.etcd.endpoints, &new.etcd.endpoints),
                change("TURNIP_ID", &before.member_ip, &after.member_ip),
            ]
            .into_iter()
            .flatten(),
        );
        // What is secret is compared, and not shown.
        let differs = |key: &str, differs: bool| differs.then(|| format!("{key} is another"));
        difference.restart.extend(
            [
                change("etcd.local", &reach.etcd.local, &new.etcd.local),
                change("etcd.ca, cert, key, server_name", &reach.etcd.tls, &new.etcd.tls),
                differs("etcd.user", reach.etcd.user != new.etcd.user),
                change("etcd.compact, quota", &before.growth, &after.growth),
                change("peers", &before.peers, &after.peers),
                change("metrics", &before.metrics, &after.metrics),
                change("log", &reach.log, &new.log),
            ]
            .into_iter()
            .flatten(),
        );
        difference
    }

    /// Whether there is none.
    pub fn is_empty(&self) -> bool {
        self.taken.is_empty() && self.restart.is_empty() && self.session.is_empty()
    }

    /// Why a running daemon cannot go by the new configuration, if it cannot.
    pub fn beyond_a_reload(&self) -> Option<String> {
        if !self.session.is_empty() {
            let all: Vec<&str> =
                self.session.iter().chain(&self.restart).map(String::as_str).collect();
            return Some(format!(
                "this takes a new session, and all VIPs of this host move away for it: turnip reload --new-session\n  {}",
                all.join("\n  ")
            ));
        }
        (!self.restart.is_empty()).then(|| {
            format!(
                "this takes a new process, which moves nothing: systemctl restart turnip\n  {}",
                self.restart.join("\n  ")
            )
        })
    }
}

impl fmt::Display for Difference {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.is_empty() {
            return f.write_str("nothing differs\n");
        }
        self.taken.iter().try_for_each(|line| writeln!(f, "{line}"))?;
        self.restart.iter().try_for_each(|line| writeln!(f, "{line} (with a restart)"))?;
        self.session.iter().try_for_each(|line| writeln!(f, "{line} (with a new session)"))
    }
}

/// A duration, or never.
struct Shown(Option<std::time::Duration>);

impl fmt::Debug for Shown {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.0 {
            Some(every) => write!(f, "{every:?}"),
            None => f.write_str("never"),
        }
    }
}

fn fence(fence: Fence) -> &'static str {
    match fence {
        Fence::Auto => "auto",
        Fence::Nftables => "nftables",
        Fence::Lifetime => "lifetime",
    }
}

fn of_vips(before: &[Vip], after: &[Vip]) -> Vec<String> {
    fn by_name(vips: &[Vip]) -> BTreeMap<&turnip_core::VipName, &Vip> {
        vips.iter().map(|vip| (&vip.config.name, vip)).collect()
    }
    let (old, new) = (by_name(before), by_name(after));
    let mut lines = Vec::new();
    for (name, vip) in &old {
        match new.get(name) {
            None => lines.push(format!("- vip {name}: {}", where_is(&vip.config))),
            Some(is) => lines.extend(of_vip(vip, is).map(|how| format!("~ vip {name}: {how}"))),
        }
    }
    let added = new.iter().filter(|(name, _)| !old.contains_key(**name));
    lines.extend(added.map(|(name, vip)| format!("+ vip {name}: {}", where_is(&vip.config))));
    lines
}

fn addresses(vip: &VipConfig) -> String {
    let nets: BTreeSet<IpNet> = vip.addresses.iter().map(|one| one.net).collect();
    list(nets)
}

fn list(all: impl IntoIterator<Item = impl fmt::Display>) -> String {
    let all: Vec<String> = all.into_iter().map(|one| one.to_string()).collect();
    if all.is_empty() { "none".to_owned() } else { all.join(", ") }
}

/// The host's interfaces: those of turnip's own are a matter of `virtual_mac`.
fn interfaces(vip: &VipConfig) -> String {
    let links = vip.links();
    if links.len() == 1 {
        return list(links);
    }
    list(vip.addresses.iter().map(|one| format!("{} of {}", one.link(), one.net)))
}

fn where_is(vip: &VipConfig) -> String {
    match vip.links().len() {
        1 => format!("{} on {}", addresses(vip), interfaces(vip)),
        _ => list(vip.addresses.iter().map(|one| format!("{} on {}", one.net, one.link()))),
    }
}

/// What differs of checks, by their names.
fn of_checks(before: &[Check], after: &[Check]) -> Vec<String> {
    fn by_name(checks: &[Check]) -> BTreeMap<&CheckName, &Check> {
        checks.iter().map(|check| (&check.config.name, check)).collect()
    }
    let (old, new) = (by_name(before), by_name(after));
    let mut lines = Vec::new();
    for (name, check) in &old {
        match new.get(name) {
            None => lines.push(format!("- check {name}: {}", check.kind.as_str())),
            Some(is) if check.config != is.config || !check.is_tried_like(is) => {
                lines.push(format!("~ check {name}"));
            }
            Some(_) => {}
        }
    }
    let added = new.iter().filter(|(name, _)| !old.contains_key(**name));
    lines.extend(added.map(|(name, check)| format!("+ check {name}: {}", check.kind.as_str())));
    lines
}

/// Its hooks, and what they run.
fn hooks(vip: &Vip) -> String {
    list(vip.config.hooks.iter().map(|(hook, config)| {
        let command = vip.commands.get(hook).map(|argv| argv.join(" ")).unwrap_or_default();
        let fails = if config.ignores_failure { ", whose failure is ignored" } else { "" };
        format!("{hook} ({command}, within {:?}{fails})", config.timeout)
    }))
}

/// Its routes, or its rules.
fn companions(vip: &Vip, of_routes: bool) -> String {
    let all = vip.companions.iter().map(|(what, _)| what);
    list(all.filter(|what| matches!(what, Companion::Route(_)) == of_routes).map(
        |what| match what {
            Companion::Route(route) => format!("\"{route}\""),
            Companion::Rule(rule) => format!("\"{rule}\""),
        },
    ))
}

fn policy(policy: &Policy) -> String {
    match policy {
        Policy::Priority { priority, preempt } => {
            format!("priority {priority}{}", if *preempt { "" } else { ", without preemption" })
        }
        Policy::Follow(Follow { key, value, pointer, absent, unchanged }) => {
            let at = pointer.as_ref().map(|pointer| format!(" at {pointer}")).unwrap_or_default();
            let age = unchanged.map(|after| format!(", unchanged {after:?}")).unwrap_or_default();
            format!("follow {key}{at}, here {value:?}, else {}{age}", absent.as_str())
        }
        Policy::Leader | Policy::Spread => policy.as_str().to_owned(),
    }
}

/// How the VIP differs; none where it does not.
fn of_vip(before: &Vip, after: &Vip) -> Option<String> {
    let (old, new) = (&before.config, &after.config);
    let change =
        |key: &str, was: String, is: String| (was != is).then(|| format!("{key} {was} -> {is}"));
    let known = [
        change("addresses", addresses(old), addresses(new)),
        change("interface", interfaces(old), interfaces(new)),
        change("virtual_mac", before.virtual_mac.to_string(), after.virtual_mac.to_string()),
        change("routes", companions(before, true), companions(after, true)),
        change("rules", companions(before, false), companions(after, false)),
        change("checks", list(&old.checks), list(&new.checks)),
        change("last_resort", old.last_resort.as_str().into(), new.last_resort.as_str().into()),
        change("hooks", hooks(before), hooks(after)),
        change("policy", policy(&old.policy), policy(&new.policy)),
        change("defend", old.defend.to_string(), new.defend.to_string()),
        change("require_carrier", old.require_carrier.to_string(), new.require_carrier.to_string()),
        change(
            "keep_connections",
            old.keep_connections.to_string(),
            new.keep_connections.to_string(),
        ),
        change(
            "announce_on",
            format!("{:?}", before.announce_on),
            format!("{:?}", after.announce_on),
        ),
    ];
    let known: Vec<String> = known.into_iter().flatten().collect();
    match known.is_empty() {
        false => Some(known.join("; ")),
        true => (old != new).then(|| "other settings".to_owned()),
    }
}
