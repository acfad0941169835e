//! What of the way to etcd is behind a VIP: whoever needs etcd to hold an address must not need that address
//! to reach etcd. After a power failure each would wait for the other.

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;
use std::path::Path;

use turnip::config::Config;
use turnip::etcd::Etcd;
use turnip::kernel::check::gateway_towards;
use turnip_core::VipName;

/// Where the resolver is told of servers: the second one has those of systemd's own, which is on loopback.
const RESOLVERS: [&str; 2] = ["/etc/resolv.conf", "/run/systemd/resolve/resolv.conf"];
const HOSTS: &str = "/etc/hosts";

/// Which addresses are VIPs.
pub type Vips = BTreeMap<IpAddr, VipName>;

/// An endpoint of etcd, and the way to it.
#[derive(Debug)]
struct Endpoint {
    url: String,
    ways: Vec<Way>,
    /// Whether its addresses come from a server of names.
    needs_resolver: bool,
}

/// An address, and the gateway to it if there is one.
#[derive(Clone, Debug)]
struct Way {
    address: IpAddr,
    gateway: Option<IpAddr>,
}

/// Something that is behind a VIP.
#[derive(PartialEq, Eq, Debug)]
pub struct Danger {
    /// Nothing else leads to etcd.
    pub is_certain: bool,
    /// What, and what would be right.
    pub what: String,
}

/// The VIPs of the configuration.
pub fn vips_of(config: &Config) -> Vips {
    let of = |vip: &turnip::config::Vip| {
        let name = vip.config.name.clone();
        let addresses: Vec<IpAddr> = vip.config.ips().collect();
        addresses.into_iter().map(move |address| (address, name.clone()))
    };
    config.vips.iter().flat_map(of).collect()
}

/// Asks the resolver for the endpoints' addresses, and says what is behind a VIP.
pub async fn look(config: &Config, etcd: &Etcd, vips: &Vips) -> Vec<Danger> {
    let mut addresses = BTreeMap::new();
    for url in endpoints(config) {
        addresses.insert(url, etcd.addresses(url).await.unwrap_or_default());
    }
    judge_ways(config, addresses, vips)
}

/// The same with what is known already.
pub fn look_at_known(config: &Config, etcd: &Etcd) -> Vec<Danger> {
    let known = endpoints(config).map(|url| (url, etcd.known_addresses(url)));
    judge_ways(config, known.collect(), &vips_of(config))
}

fn endpoints(config: &Config) -> impl Iterator<Item = &str> {
    config.reach.etcd.endpoints.iter().map(String::as_str)
}

fn judge_ways(config: &Config, addresses: BTreeMap<&str, Vec<IpAddr>>, vips: &Vips) -> Vec<Danger> {
    let way = |address: IpAddr| Way { address, gateway: gateway_towards(address).ok().flatten() };
    let hosts = std::fs::read_to_string(HOSTS).unwrap_or_default();
    let endpoints: Vec<Endpoint> = endpoints(config)
        .map(|url| {
            let name = host_of(url);
            let is_address = name.parse::<IpAddr>().is_ok();
            Endpoint {
                url: url.to_owned(),
                ways: addresses.get(url).into_iter().flatten().copied().map(way).collect(),
                needs_resolver: !is_address && !is_in_hosts(&hosts, name),
            }
        })
        .collect();
    let servers: BTreeSet<IpAddr> = RESOLVERS
        .iter()
        .filter_map(|file| std::fs::read_to_string(Path::new(file)).ok())
        .flat_map(|text| name_servers(&text))
        .filter(|server| !server.is_loopback())
        .collect();
    let servers: Vec<Way> = servers.into_iter().map(way).collect();
    judge(&endpoints, &servers, vips)
}

fn judge(endpoints: &[Endpoint], servers: &[Way], vips: &Vips) -> Vec<Danger> {
    let behind: Vec<Option<String>> =
        endpoints.iter().map(|endpoint| all_behind(&endpoint.ways, vips)).collect();
    let is_certain = behind.iter().all(Option::is_some);
    let mut dangers: Vec<Danger> = endpoints
        .iter()
        .zip(&behind)
        .filter_map(|(endpoint, why)| Some((endpoint, why.as_ref()?)))
        .map(|(endpoint, why)| Danger {
            is_certain,
            what: format!(
                "{} {why}: {}; write the members' own addresses, reached by a way without a VIP",
                endpoint.url,
                match is_certain {
                    true =>
                        "after a power failure nobody holds it, and nobody reaches etcd to hold it",
                    false => "it is of no use when nobody holds that",
                }
            ),
        })
        .collect();
    let named: Vec<&str> = endpoints
        .iter()
        .filter(|endpoint| endpoint.needs_resolver)
        .map(|endpoint| endpoint.url.as_str())
        .collect();
    if let (false, Some(why)) = (named.is_empty(), all_behind(servers, vips)) {
        dangers.push(Danger {
            is_certain: false,
            what: format!(
                "the name in {} is known to the resolver alone, which {why}: a host that has never reached etcd waits for it after a power failure; write the address, or the name into {HOSTS}",
                named.join(", ")
            ),
        });
    }
    dangers
}

/// By which VIP all of these are reached, if all are reached by one.
fn all_behind(ways: &[Way], vips: &Vips) -> Option<String> {
    let whys: Option<Vec<String>> = ways.iter().map(|way| behind(way, vips)).collect();
    whys?.into_iter().next()
}

fn behind(way: &Way, vips: &Vips) -> Option<String> {
    if let Some(vip) = vips.get(&way.address) {
        return Some(format!("is at {}, the VIP {vip}", way.address));
    }
    let gateway = way.gateway?;
    let vip = vips.get(&gateway)?;
    Some(format!("is reached through the gateway {gateway}, the VIP {vip}"))
}

fn host_of(url: &str) -> &str {
    let authority = url.split_once("://").map_or(url, |(_, authority)| authority);
    match authority.strip_prefix('[') {
        Some(rest) => rest.split(']').next().unwrap_or(rest),
        None => authority.split(':').next().unwrap_or(authority),
    }
}

fn name_servers(text: &str) -> Vec<IpAddr> {
    let lines = text.lines().filter_map(|line| line.trim().strip_prefix("nameserver"));
    // A link-local one has its interface behind a %.
    lines.filter_map(|rest| rest.trim().split('%').next()?.parse().ok()).collect()
}

fn is_in_hosts(text: &str, name: &str) -> bool {
    let lines = text.lines().map(|line| line.split('#').next().unwrap_or(""));
    lines
        .flat_map(|line| line.split_whitespace().skip(1))
        .any(|known| known.eq_ignore_ascii_case(name))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ip(text: &str) -> IpAddr {
        text.parse().unwrap()
    }

    fn vips() -> Vips {
        [(ip("10.0.0.50"), "api".parse().unwrap()), (ip("10.0.0.1"), "gateway".parse().unwrap())]
            .into()
    }

    fn endpoint(url: &str, ways: &[(&str, Option<&str>)], needs_resolver: bool) -> Endpoint {
        let ways = ways
            .iter()
            .map(|(address, gateway)| Way { address: ip(address), gateway: gateway.map(ip) });
        Endpoint { url: url.into(), ways: ways.collect(), needs_resolver }
    }

    #[test]
    fn a_name_that_leads_to_nothing_but_a_vip_is_an_error_when_no_endpoint_is_left_and_a_warning_else()
     {
        let name = || endpoint("http://etcd:2379", &[("10.0.0.50", None)], false);
        let dangers = judge(&[name()], &[], &vips());
        assert!(
            dangers[0].is_certain
                && dangers[0].what.contains("http://etcd:2379 is at 10.0.0.50, the VIP api"),
            "{dangers:?}"
        );
        let own = endpoint("http://10.0.0.9:2379", &[("10.0.0.9", None)], false);
        let dangers = judge(&[name(), own], &[], &vips());
        assert!(dangers.len() == 1 && !dangers[0].is_certain, "{dangers:?}");
    }

    #[test]
    fn a_way_through_a_gateway_that_is_a_vip_is_behind_it() {
        let far = endpoint("http://192.0.2.1:2379", &[("192.0.2.1", Some("10.0.0.1"))], false);
        let dangers = judge(&[far], &[], &vips());
        assert!(
            dangers[0].what.contains("through the gateway 10.0.0.1, the VIP gateway"),
            "{dangers:?}"
        );
    }

    #[test]
    fn a_name_with_another_address_as_well_is_not_behind_a_vip_nor_is_one_without_any() {
        let both = endpoint("http://etcd:2379", &[("10.0.0.50", None), ("10.0.0.9", None)], false);
        let none = endpoint("http://gone:2379", &[], false);
        // Of one without an address nothing is known, least of all that it needs a VIP.
        assert_eq!(judge(&[both, none], &[], &vips()), []);
    }

    #[test]
    fn a_resolver_behind_a_vip_is_warned_of_where_a_name_needs_it() {
        let servers = [Way { address: ip("10.0.0.50"), gateway: None }];
        let name = |needs| endpoint("http://etcd:2379", &[("10.0.0.9", None)], needs);
        let dangers = judge(&[name(true)], &servers, &vips());
        assert!(
            dangers[0].what.contains("the resolver alone, which is at 10.0.0.50"),
            "{dangers:?}"
        );
        assert!(!dangers[0].is_certain);
        assert_eq!(judge(&[name(false)], &servers, &vips()), []);
        let another = [servers[0].clone(), Way { address: ip("10.0.0.3"), gateway: None }];
        assert_eq!(judge(&[name(true)], &another, &vips()), []);
    }

    #[test]
    fn servers_and_hosts_are_read_as_the_resolver_does() {
        let text =
            "# nameserver 10.0.0.8\nsearch lab\nnameserver 10.0.0.50\n nameserver\tfe80::1%eth0\n";
        assert_eq!(name_servers(text), [ip("10.0.0.50"), ip("fe80::1")]);
        let hosts = "127.0.0.1 localhost\n10.0.0.9 etcd-1.lab Etcd-1 # etcd-2\n";
        assert!(is_in_hosts(hosts, "etcd-1") && !is_in_hosts(hosts, "etcd-2"));
        assert!(!is_in_hosts(hosts, "10.0.0.9"));
        assert_eq!(host_of("https://[fd00::1]:2379"), "fd00::1");
        assert_eq!(host_of("http://etcd-1.lab:2379"), "etcd-1.lab");
    }
}
