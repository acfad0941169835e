//! What `turnip check` finds out about the neighbours: where addresses will be announced, and whether somebody
//! has them who is no host of this cluster.

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;
use std::sync::Arc;
use std::time::Duration;

use turnip::config::Config;
use turnip::etcd::Etcd;
use turnip::kernel::neighbours::{self, Claimants, Surroundings};
use turnip_core::{Assignment, Keys, VipName};

use super::{Findings, Grade};
use crate::commands::local;
use crate::commands::overview::{Overview, WhatIf};
use crate::commands::run::runtime_directory;

const ANNOUNCED: &str = "announcements";
const CLAIMED: &str = "neighbours";
const ETCD_ANSWERS_WITHIN: Duration = Duration::from_secs(3);
/// A machine that answers takes some ms; one that sleeps is asked twice.
const NEIGHBOURS_ANSWER_WITHIN: Duration = Duration::from_secs(1);
/// So many addresses are named of those that are alike.
const SHOWN: usize = 5;

/// Says where each VIP will be announced, and asks the neighbours for those that nobody holds.
pub async fn check(config: &Config, findings: &mut Findings) {
    let addresses: BTreeSet<IpAddr> = config.vips.iter().flat_map(|vip| vip.config.ips()).collect();
    let surroundings = match Surroundings::look(&addresses) {
        Ok(surroundings) => surroundings,
        Err(error) => {
            return findings.error(ANNOUNCED, format!("the interfaces cannot be listed: {error}"));
        }
    };
    announcements(config, &surroundings, findings);
    claims(config, &surroundings, findings).await;
}

// ---- where addresses will be announced

/// What becomes of an address's announcements.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Debug)]
enum Prospect {
    /// Neighbours find it on its own interface.
    AtHome { interface: Arc<str> },
    /// They find it on others.
    Elsewhere { interface: Arc<str>, places: Vec<Arc<str>> },
    /// It is announced there, and Linux does not answer ARP for it there.
    Unanswered { interface: Arc<str>, place: Arc<str> },
    /// The same with neighbour discovery.
    NotProxied { interface: Arc<str>, place: Arc<str> },
    /// It is announced nowhere, and a router has to know the way.
    Routed { interface: Arc<str> },
    /// It is announced nowhere, although it is one of a subnet's.
    Nowhere { interface: Arc<str> },
    /// The configuration names interfaces of which none will do.
    NoneOf { chosen: Vec<Arc<str>> },
}

/// What Linux does of itself on an interface.
struct Kernel<'a> {
    answers_arp_for_others: &'a dyn Fn(&str) -> bool,
    proxies_neighbours: &'a dyn Fn(&str) -> bool,
}

fn announcements(config: &Config, surroundings: &Surroundings, findings: &mut Findings) {
    let kernel = Kernel {
        // An interface that is gone meanwhile is no reason to warn.
        answers_arp_for_others: &|name| neighbours::answers_arp_for_others(name).unwrap_or(true),
        proxies_neighbours: &|name| neighbours::proxies_neighbours(name).unwrap_or(true),
    };
    let mut alike: BTreeMap<Prospect, Vec<String>> = BTreeMap::new();
    for vip in &config.vips {
        for assignment in vip.config.assignments().filter(|one| surroundings.has(&one.interface)) {
            let chosen = vip.announce_on.as_deref();
            let places = surroundings.places(&assignment, chosen);
            for prospect in prospects(&assignment, chosen, places, &kernel) {
                alike.entry(prospect).or_default().push(assignment.address.to_string());
            }
        }
    }
    for (prospect, addresses) in alike {
        let (grade, what) = prospect.in_words(&some_of(&addresses), &addresses[0]);
        findings.add(grade, ANNOUNCED, what);
    }
}

fn prospects(
    assignment: &Assignment,
    chosen: Option<&[Arc<str>]>,
    places: Vec<Arc<str>>,
    kernel: &Kernel<'_>,
) -> Vec<Prospect> {
    let interface = Arc::clone(&assignment.interface);
    if places.is_empty() {
        let is_alone = assignment.address.prefix_len() == assignment.address.max_prefix_len();
        return vec![match chosen {
            Some(chosen) => Prospect::NoneOf { chosen: chosen.to_vec() },
            None if is_alone => Prospect::Routed { interface },
            None => Prospect::Nowhere { interface },
        }];
    }
    if *places == [Arc::clone(&interface)] {
        return vec![Prospect::AtHome { interface }];
    }
    let others = places.iter().filter(|place| **place != interface);
    let mut found: Vec<Prospect> = others
        .filter_map(|place| {
            let (interface, place) = (Arc::clone(&interface), Arc::clone(place));
            if assignment.address.addr().is_ipv6() {
                let will_do = (kernel.proxies_neighbours)(&place);
                return (!will_do).then_some(Prospect::NotProxied { interface, place });
            }
            let will_do = (kernel.answers_arp_for_others)(&place);
            (!will_do).then_some(Prospect::Unanswered { interface, place })
        })
        .collect();
    if found.is_empty() {
        found.push(Prospect::Elsewhere { interface, places });
    }
    found
}

impl Prospect {
    /// With the addresses that it is about, and the first of them.
    fn in_words(&self, addresses: &str, first: &str) -> (Grade, String) {
        let alone = first.split('/').next().unwrap_or(first);
        match self {
            Prospect::AtHome { interface } => {
                (Grade::Ok, format!("{addresses}: announced on {interface}"))
            }
            Prospect::Elsewhere { interface, places } => {
                let places = places.join(", ");
                (Grade::Ok, format!("{addresses}: on {interface}, announced on {places}"))
            }
            Prospect::Unanswered { interface, place } => (
                Grade::Warning,
                format!(
                    "{addresses}: on {interface}, announced on {place}, where Linux answers no ARP request for it: set net.ipv4.conf.{place}.arp_ignore and net.ipv4.conf.all.arp_ignore to 0, or put it on {place}"
                ),
            ),
            Prospect::NotProxied { interface, place } => (
                Grade::Warning,
                format!(
                    "{addresses}: on {interface}, announced on {place}, where Linux answers neighbour solicitations for its own addresses only: put it on {place}; or, on all hosts, set net.ipv6.conf.{place}.proxy_ndp and net.ipv6.conf.all.forwarding to 1 and run `ip -6 neighbour add proxy {alone} dev {place}`"
                ),
            ),
            Prospect::Routed { interface } => (
                Grade::Ok,
                format!(
                    "{addresses}: announced nowhere, for nobody resolves addresses on {interface} and no other interface is in its subnet: a router has to know the way, as by BGP"
                ),
            ),
            Prospect::Nowhere { interface } => (
                Grade::Warning,
                format!(
                    "{addresses}: announced nowhere, for nobody resolves addresses on {interface} and no other interface is in its subnet: after a move its neighbours look for it at the old host, until they ask again; name the interface on which they are, as in announce_on = [\"eth0\"], or write it as {} where a router leads to it",
                    if first.contains(':') { "/128" } else { "/32" }
                ),
            ),
            Prospect::NoneOf { chosen } => (
                Grade::Warning,
                format!(
                    "{addresses}: announced nowhere: none of announce_on = {chosen:?} is there and an interface on which addresses are resolved; name one as Ethernet is"
                ),
            ),
        }
    }
}

/// The addresses, or the first of many with how many more there are.
fn some_of(addresses: &[String]) -> String {
    let shown = addresses[..addresses.len().min(SHOWN)].join(", ");
    match addresses.len().saturating_sub(SHOWN) {
        0 => shown,
        more => format!("{shown} and {more} more"),
    }
}

// ---- who has them already

/// Asks for the addresses of VIPs that no host of this cluster holds: of the others an answer is right.
async fn claims(config: &Config, surroundings: &Surroundings, findings: &mut Findings) {
    // That etcd does not answer is said elsewhere.
    let Some(held) = held(config).await else { return };
    let free = config.vips.iter().filter(|vip| !held.contains(&vip.config.name));
    let mut asked: Vec<(IpAddr, Arc<str>)> = Vec::new();
    for vip in free {
        for assignment in vip.config.assignments() {
            let places = surroundings.places(&assignment, vip.announce_on.as_deref()).into_iter();
            asked.extend(places.map(|place| (assignment.address.addr(), place)));
        }
    }
    if asked.is_empty() {
        return;
    }
    let found = match surroundings.who_has(&asked, NEIGHBOURS_ANSWER_WITHIN) {
        Ok(found) => found,
        Err(error) => {
            let what = format!("cannot be asked whether they have a VIP: {error}");
            return findings.warning(CLAIMED, what);
        }
    };
    if found.is_empty() {
        let addresses: BTreeSet<String> =
            asked.iter().map(|(address, _)| address.to_string()).collect();
        let addresses = some_of(&addresses.into_iter().collect::<Vec<_>>());
        return findings.ok(CLAIMED, format!("nobody answers for {addresses}"));
    }
    // One may have been taken meanwhile, and then that host answered.
    let held = self::held(config).await.unwrap_or(held);
    for vip in config.vips.iter().filter(|vip| !held.contains(&vip.config.name)) {
        for address in vip.config.ips() {
            if let Some(claimants) = found.get(&address) {
                findings.warning(CLAIMED, claimed(address, claimants));
            }
        }
    }
}

/// The VIPs that a host of this cluster holds, as etcd says and the daemon on this host.
async fn held(config: &Config) -> Option<BTreeSet<VipName>> {
    let keys = Keys::new(&config.reach.cluster);
    let etcd = Etcd::new(&config.reach.etcd).ok()?;
    let read = tokio::time::timeout(ETCD_ANSWERS_WITHIN, etcd.snapshot(keys.prefix())).await;
    let snapshot = read.ok()?.ok()?;
    let overview =
        Overview::new(&keys, snapshot.header.revision, &snapshot.kvs, &WhatIf::default());
    let owned = overview.vips.into_iter().filter(|(_, vip)| vip.owner.is_some());
    let mut held: BTreeSet<VipName> = owned.map(|(name, _)| name).collect();
    if let Some(local) = local::ask(&runtime_directory(), &config.reach.cluster) {
        held.extend(local.holds);
    }
    Some(held)
}

fn claimed(address: IpAddr, claimants: &Claimants) -> String {
    let machines: Vec<String> =
        claimants.iter().map(|(mac, heard_on)| format!("{mac} on {heard_on}")).collect();
    format!(
        "{address} is answered for by the machine {}, and no host of this cluster holds it: take it away there (a keepalived that was forgotten, another cluster of turnip?), for clients would reach either",
        machines.join(" and by ")
    )
}

#[cfg(test)]
mod tests {
    use turnip_core::Mac;

    use super::*;

    fn told(
        address: &str,
        chosen: Option<&[Arc<str>]>,
        places: &[&str],
        answers: bool,
    ) -> Vec<(bool, String)> {
        let (arp, proxy) = (|_: &str| answers, |_: &str| answers);
        let kernel = Kernel { answers_arp_for_others: &arp, proxies_neighbours: &proxy };
        let (vip, interface) = ("v".parse().unwrap(), "lo".into());
        let assignment = Assignment { vip, interface, address: address.parse().unwrap() };
        let places = places.iter().map(|place| (*place).into()).collect();
        let found = prospects(&assignment, chosen, places, &kernel).into_iter();
        let words = found.map(|prospect| prospect.in_words(address, address));
        words.map(|(grade, what)| (grade == Grade::Warning, what)).collect()
    }

    /// A VIP on `lo` that would be announced at these places.
    #[track_caller]
    fn says(address: &str, places: &[&str], answers: bool, warns: bool, words: &str) {
        let told = told(address, None, places, answers);
        assert_eq!(told.len(), 1, "{told:?}");
        assert_eq!(told[0].0, warns, "{told:?}");
        assert!(told[0].1.contains(words), "{told:?}\nlacks {words:?}");
    }

    #[test]
    fn it_is_said_what_will_be_announced_where_and_what_would_be_better() {
        says("10.0.0.50/32", &["lo"], true, false, "announced on lo");
        says("10.0.0.50/32", &[], true, false, "a router has to know the way");
        says("10.0.0.50/32", &["eth0", "eth1"], true, false, "on lo, announced on eth0, eth1");
        says("10.0.0.50/32", &["eth0"], false, true, "net.ipv4.conf.eth0.arp_ignore");
        says("10.0.0.50/24", &[], true, true, "announce_on = [\"eth0\"], or write it as /32");
        says("fd00::50/64", &[], true, true, "/128");
        let proxy = "`ip -6 neighbour add proxy fd00::50 dev eth0`";
        says("fd00::50/128", &["eth0"], false, true, proxy);
        says("fd00::50/128", &["eth0"], true, false, "announced on eth0");
        let none = told("10.0.0.50/32", Some(&["eth7".into()]), &[], true);
        assert!(none[0].0 && none[0].1.contains("[\"eth7\"]"), "{none:?}");
    }

    #[test]
    fn many_that_are_alike_are_one_line() {
        let addresses: Vec<String> = (1..=9).map(|n| format!("10.0.0.{n}/32")).collect();
        let shown = some_of(&addresses);
        assert!(shown.starts_with("10.0.0.1/32, ") && shown.ends_with(" and 4 more"), "{shown}");
    }

    #[test]
    fn who_answers_for_a_vip_that_nobody_holds_is_named() {
        let claimants = [(Mac([2, 0, 0, 0, 0, 9]), Arc::from("eth0"))].into();
        let text = claimed("10.0.0.50".parse().unwrap(), &claimants);
        assert!(text.contains("10.0.0.50") && text.contains("02:00:00:00:00:09 on eth0"), "{text}");
    }
}
