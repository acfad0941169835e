//! What `turnip check` finds out about what comes with VIPs: routes, rules, hardware addresses.

use std::collections::BTreeSet;
use std::net::IpAddr;
use std::sync::Arc;

use ipnet::IpNet;
use turnip::config::Config;
use turnip::kernel::{Companion, VipRoute};
use turnip_core::VipAddress;

use super::Findings;

const ROUTES: &str = "routes";
const HARDWARE: &str = "virtual MAC";
/// ARPHRD_ETHER, as sysfs shows it.
const ETHERNET: &str = "1";

/// Says what cannot be made of the routes. `own` are the host's own addresses.
pub fn check(config: &Config, own: &[(Arc<str>, IpNet)], findings: &mut Findings) {
    for vip in &config.vips {
        let (mut well, mut rules) = (Vec::new(), Vec::new());
        for (what, _) in &vip.companions {
            match what {
                Companion::Rule(rule) => rules.push(rule.to_string()),
                Companion::Route(route) => match unreachable(&vip.config.addresses, route, own) {
                    None => well.push(route.to_string()),
                    Some(why) => {
                        findings.error(ROUTES, format!("{}: {route}: {why}", vip.config.name))
                    }
                },
            }
        }
        let name = &vip.config.name;
        if !well.is_empty() {
            findings.ok(ROUTES, format!("made while {name} is here: {}", well.join("; ")));
        }
        if !rules.is_empty() {
            findings.ok("rules", format!("made while {name} is here: {}", rules.join("; ")));
        }
    }
}

/// Why the kernel would refuse the route by its gateway, if it would.
fn unreachable(
    vip: &BTreeSet<VipAddress>,
    route: &VipRoute,
    own: &[(Arc<str>, IpNet)],
) -> Option<String> {
    let via = route.via?;
    if matches!(via, IpAddr::V6(ip) if ip.is_unicast_link_local()) {
        return None;
    }
    let vips = vip.iter().map(|one| (&one.interface, &one.net));
    let own = own.iter().map(|(interface, net)| (interface, net));
    let is_on_link = |(interface, net): (&Arc<str>, &IpNet)| {
        let by_it = route.dev.as_ref().is_none_or(|dev| dev == interface);
        by_it && net.prefix_len() < net.max_prefix_len() && net.contains(&via) && net.addr() != via
    };
    if vips.chain(own).any(is_on_link) {
        return None;
    }
    let on = route.dev.as_ref().map(|dev| format!(" on {dev}")).unwrap_or_default();
    Some(format!(
        "{via} is in no subnet of the VIP or of this host{on}, so the kernel refuses the route: give the VIP the prefix length of its subnet, as in /29, or name a gateway that is on link"
    ))
}

/// Says which hardware addresses VIPs have on which interfaces, and where they cannot.
pub fn virtual_links(config: &Config, findings: &mut Findings) {
    let links = config.virtual_links();
    for link in &links {
        let parent = &link.parent;
        match std::fs::read_to_string(format!("/sys/class/net/{parent}/type")) {
            Ok(kind) if kind.trim() == ETHERNET => findings.ok(
                HARDWARE,
                format!("{} on {parent}, by an interface of turnip's own, {}, while its VIP is here", link.mac, link.name),
            ),
            Ok(_) => findings.error(
                HARDWARE,
                format!("{parent} has no hardware address of Ethernet, so this host cannot hold a VIP with virtual_mac = true there: name another interface, or leave virtual_mac out"),
            ),
            // An interface that does not exist is reported elsewhere.
            Err(_) => {}
        }
    }
    let with_ipv6 =
        config.vips.iter().any(|vip| vip.virtual_mac && vip.config.ips().any(|ip| ip.is_ipv6()));
    if with_ipv6 && follows_advertisements() {
        findings.warning(
            HARDWARE,
            "interfaces that come to be on this host follow router advertisements, and where /proc/sys is read-only, as by the shipped unit, so do those of VIPs with a virtual MAC: set net.ipv6.conf.default.accept_ra = 0, or add ReadWritePaths=/proc/sys/net/ipv6/conf to the unit",
        );
    }
}

/// Whether an interface that comes to be follows router advertisements.
fn follows_advertisements() -> bool {
    let read = |name: &str| {
        let path = format!("/proc/sys/net/ipv6/conf/default/{name}");
        std::fs::read_to_string(path).ok().and_then(|text| text.trim().parse::<u32>().ok())
    };
    match (read("accept_ra"), read("forwarding")) {
        (Some(0) | None, _) => false,
        // 2: also on a router.
        (Some(accepts), forwards) => accepts > 1 || forwards == Some(0),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn why(via: &str, dev: Option<&str>) -> Option<String> {
        let to = if via.contains(':') { "::/0" } else { "0.0.0.0/0" };
        let route = VipRoute {
            to: to.parse().unwrap(),
            via: Some(via.parse().unwrap()),
            dev: dev.map(Into::into),
            table: 254,
            metric: 0,
            src: None,
            blackhole: false,
        };
        let vip = ["203.0.113.2/29", "10.0.0.50/32"].map(|net| net.parse().unwrap());
        let own = [("eth0".into(), "192.0.2.11/24".parse().unwrap())];
        unreachable(&VipAddress::all_on("wan0", vip), &route, &own)
    }

    #[test]
    fn a_gateway_is_in_a_subnet_of_the_vip_or_of_the_host_and_by_the_interface_that_is_named() {
        assert_eq!(why("203.0.113.1", None), None);
        assert_eq!(why("203.0.113.1", Some("wan0")), None);
        assert_eq!(why("192.0.2.1", None), None);
        assert_eq!(why("fe80::1", Some("wan0")), None, "each link has one");
        for (via, dev) in [
            ("203.0.113.9", None),
            ("203.0.113.2", None),
            ("10.0.0.1", None),
            ("192.0.2.1", Some("wan0")),
        ] {
            let why = why(via, dev).unwrap_or_else(|| panic!("{via} is no gateway"));
            assert!(why.contains(via) && why.contains("the kernel refuses the route"), "{why}");
        }
    }
}
