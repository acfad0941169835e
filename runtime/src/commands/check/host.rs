//! What `turnip check` finds out about this host.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use ipnet::IpNet;
use turnip::config::{Config, Vip};
use turnip::kernel::{check as host, fence};
use turnip::lock::{InstanceLock, LockError};
use turnip_core::Link;

use super::{Findings, companions};
use crate::commands::needs::{self, Silencing, Unprivileged};

/// Checks privileges, and what the configuration needs of the host.
pub async fn check(config: Option<&Config>, findings: &mut Findings) {
    match needs::privileges() {
        Ok(()) => findings.ok("privileges", "CAP_NET_ADMIN and CAP_NET_RAW are there"),
        Err(missing @ Unprivileged::Missing(_)) => {
            findings.error("privileges", missing.to_string());
        }
        Err(unknown) => findings.warning("privileges", unknown.to_string()),
    }
    match InstanceLock::take("turnip check") {
        Ok(_) => findings.ok("daemon", "none runs on this host"),
        Err(LockError::Taken { pid, node }) => daemon(config, pid, node.as_deref(), findings),
        Err(error) => findings.warning("daemon", error.to_string()),
    }
    let Some(config) = config else { return };
    check_silencing(config, findings);
    match host::links() {
        Ok(links) => interfaces(config, &links, findings),
        Err(error) => findings.error("interfaces", format!("cannot be listed: {error}")),
    }
    secondaries(config, findings);
    companions::virtual_links(config, findings);
    ipv6(&with_own_names(config), findings);
    match host::own_addresses() {
        Ok(own) => {
            own_addresses(&with_own_names(config), &own, findings);
            companions::check(config, &own, findings);
        }
        Err(error) => findings.warning("addresses", format!("cannot be listed: {error}")),
    }
}

/// One that runs here is this host's own; by another name it is of before the configuration changed.
fn daemon(config: Option<&Config>, pid: Option<i32>, node: Option<&str>, findings: &mut Findings) {
    let process = pid.map(|pid| format!(", as process {pid}")).unwrap_or_default();
    match (node, config) {
        (Some(node), Some(config)) if node != config.node.as_str() => findings.warning(
            "daemon",
            format!("turnip runs here as the node {node}{process}, and this configuration is that of {}: it takes effect when turnip is started again", config.node),
        ),
        (Some(node), _) => findings.ok("daemon", format!("turnip runs here as the node {node}{process}")),
        (None, _) => findings.ok("daemon", format!("turnip runs here{process}")),
    }
}

/// The configuration with each interface by its own name, as addresses and neighbours are told of.
pub fn with_own_names(config: &Config) -> Config {
    let mut known = BTreeMap::<Arc<str>, Arc<str>>::new();
    let mut translate = |name: &mut Arc<str>| {
        let own = known.entry(Arc::clone(name)).or_insert_with_key(|name| {
            // One that does not exist is reported elsewhere.
            host::own_name(name).ok().flatten().unwrap_or_else(|| Arc::clone(name))
        });
        *name = Arc::clone(own);
    };
    let mut config = config.clone();
    for vip in &mut config.vips {
        let translated = std::mem::take(&mut vip.config.addresses).into_iter().map(|mut one| {
            translate(&mut one.interface);
            one.parent.iter_mut().for_each(&mut translate);
            one
        });
        vip.config.addresses = translated.collect();
        vip.announce_on.iter_mut().flatten().for_each(&mut translate);
    }
    config
}

fn check_silencing(config: &Config, findings: &mut Findings) {
    let chosen = Silencing::choose(config.fence, &config.lease, fence::probe());
    match chosen {
        Ok(well @ (Silencing::Fence | Silencing::Lifetimes { needlessly: false })) => {
            findings.ok("fence", well.to_string());
        }
        Ok(worse) => findings.warning("fence", worse.to_string()),
        Err(none) => findings.error("fence", none.to_string()),
    }
}

fn interfaces(config: &Config, links: &[Link], findings: &mut Findings) {
    let existing: Vec<String> = links.iter().map(|link| link.name.to_string()).collect();
    if let Err(problems) = config.check_interfaces(&existing) {
        for problem in problems.iter() {
            findings.error("interfaces", problem.to_string());
        }
    }
    let wanted: BTreeSet<Wanted<'_>> = config.vips.iter().flat_map(Wanted::of).collect();
    for Wanted { name, waited_for, carrier } in wanted {
        // One that is named by another name than its own is shown with that.
        let shown = match host::own_name(name) {
            Ok(Some(own)) if *own != *name => format!("{name} (now {own})"),
            _ => name.to_owned(),
        };
        match links.iter().find(|link| &*link.name == name) {
            Some(link) if !link.up => findings.warning(
                "interfaces",
                format!("{shown} is down: this host takes no VIP of it until it is up (`ip link set {name} up`)"),
            ),
            Some(link) if !link.carrier && carrier => findings.warning(
                "interfaces",
                format!("{shown} is up and has no carrier: this host takes no VIP of it until it has one; where it never has one, as a bridge without ports, write require_carrier = false in the [[vip]]"),
            ),
            Some(link) if !link.carrier => findings.ok(
                "interfaces",
                format!("{shown} is up, and needs no carrier (require_carrier = false)"),
            ),
            Some(_) => findings.ok("interfaces", format!("{shown} is up")),
            None if waited_for => findings
                .warning("interfaces", format!("{name} is not there yet; turnip waits for it")),
            None => {}
        }
    }
}

/// What VIPs want of an interface.
#[derive(PartialEq, Eq, PartialOrd, Ord)]
struct Wanted<'a> {
    name: &'a str,
    waited_for: bool,
    carrier: bool,
}

impl<'a> Wanted<'a> {
    fn of(vip: &'a Vip) -> impl Iterator<Item = Self> {
        let (waited_for, carrier) = (vip.wait_for_interface, vip.config.require_carrier);
        vip.config.links().into_iter().map(move |name| Wanted { name, waited_for, carrier })
    }
}

/// Without it, the kernel takes away every other address of a subnet together with the first one.
fn secondaries(config: &Config, findings: &mut Findings) {
    let all = config.vips.iter().flat_map(|vip| &vip.config.addresses);
    let in_subnets = all.filter(|one| one.ip().is_ipv4() && one.net.prefix_len() < 32);
    let interfaces: BTreeSet<&str> = in_subnets.map(|one| &*one.interface).collect();
    for name in interfaces {
        match host::promotes_secondaries(name) {
            Ok(true) => findings.ok("secondaries", format!("{name} promotes them")),
            Ok(false) => findings.ok(
                "secondaries",
                format!("turnip will set promote_secondaries on {name}, so that other addresses of a VIP's subnet stay when it goes, and put it back when it stops"),
            ),
            // An interface that does not exist is reported elsewhere.
            Err(_) => {}
        }
    }
}

/// IPv6 that is switched off is noticed by nobody before an address is put there.
fn ipv6(config: &Config, findings: &mut Findings) {
    let mut by_interface = BTreeMap::<&str, BTreeSet<&str>>::new();
    for vip in &config.vips {
        for one in vip.config.addresses.iter().filter(|one| one.ip().is_ipv6()) {
            by_interface.entry(one.link()).or_default().insert(vip.config.name.as_str());
        }
    }
    for (name, vips) in by_interface {
        let setting = format!("/proc/sys/net/ipv6/conf/{name}/disable_ipv6");
        let is_off = match std::fs::read_to_string(setting) {
            Ok(value) => value.trim() != "0",
            // The interface may not be there yet; the kernel may have no IPv6 at all.
            Err(_) => !std::path::Path::new("/proc/sys/net/ipv6").exists(),
        };
        if is_off {
            let what = format!(
                "IPv6 is disabled on {name}, so this host can hold no IPv6 address, and so none of {}: set net.ipv6.conf.{name}.disable_ipv6 and net.ipv6.conf.all.disable_ipv6 to 0, and boot without ipv6.disable=1",
                vips.into_iter().collect::<Vec<_>>().join(", ")
            );
            findings.error("IPv6", what);
        }
    }
}

/// A VIP with a subnet in which the host has an address of its own: either may be the source of the
/// host's own connections, and turnip has to see to it that it is not the VIP.
fn own_addresses(config: &Config, own: &[(Arc<str>, IpNet)], findings: &mut Findings) {
    let all = || config.vips.iter().flat_map(|vip| &vip.config.addresses);
    let is_vip = |own: &IpNet| all().any(|one| one.net == *own);
    for one in all() {
        let address = one.net;
        if address.prefix_len() == address.max_prefix_len() {
            continue;
        }
        let beside = own.iter().find(|(interface, own)| {
            interface == one.link()
                && address.contains(&own.addr())
                && own.addr() != address.addr()
                && !is_vip(own)
        });
        if let Some((interface, own)) = beside {
            let alone = IpNet::from(address.addr());
            let why = match address {
                IpNet::V4(_) => {
                    "turnip puts the VIP behind it each time that it comes back, which takes some ms"
                }
                IpNet::V6(_) => "turnip sees to it that the VIP is no source while it is there",
            };
            findings.warning(
                    "addresses",
                    format!("{interface} has {own} of its own in the subnet of {address}: {why}; {alone} is better"),
                );
        }
    }
}
