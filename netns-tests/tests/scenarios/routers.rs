//! VIPs of routers: on several interfaces, with routes and rules, with a hardware address of their own.

use std::time::Duration;

use anyhow::{Result, ensure};
use turnip_netns_tests::cluster::{Cluster, OWN_LINK, Outcome, companions};
use turnip_netns_tests::daemon::{Policy, Vip};
use turnip_netns_tests::namespace::LinkState;
use turnip_netns_tests::plan::{LINK, Plan, vip};

use crate::a_lease_passes;

const INSIDE: &str = "inside0";
/// The other end of it, which gives it a carrier.
const INSIDE_PEER: &str = "inside1";

/// What a router has besides its addresses.
const ROUTES_AND_RULES: &str = r#"
[[vip.route]]
to = "10.200.0.0/16"
via = "10.77.0.254"
src = "10.77.0.100"
table = 100
[[vip.route]]
to = "10.201.0.0/16"
dev = "inside0"
metric = 50
[[vip.route]]
to = "10.202.0.0/16"
blackhole = true
[[vip.route]]
to = "fd98::/48"
via = "fd99::2"
dev = "inside0"
[[vip.rule]]
from = "10.99.0.0/24"
table = 100
priority = 1000
[[vip.rule]]
fwmark = "0x7/0xff"
table = 100
priority = 1001
"#;

/// The same as the kernel lists them.
const LISTED: [&str; 7] = [
    "10.200.0.0/16 via 10.77.0.254 dev eth0 table 100 src 10.77.0.100",
    "10.201.0.0/16 dev inside0 scope link metric 50",
    "blackhole 10.202.0.0/16",
    "1000: from 10.99.0.0/24 lookup 100 proto 116",
    "1001: from all fwmark 0x7/0xff lookup 100 proto 116",
    "fd98::/48 via fd99::2 dev inside0 metric 1024 pref medium",
    "1001: from all fwmark 0x7/0xff lookup 100 proto 116",
];
/// What makes the inside's subnet on-link is turnip's, too.
const ON_LINK: &str = "fd99::/64 dev inside0";

fn router(lines: &str) -> Vip {
    let inside = ["10.99.0.1/24", "fd99::1/64"];
    let inside = inside.map(|net| (net.parse().expect("an address"), INSIDE.to_owned()));
    Vip {
        elsewhere: inside.into(),
        lines: vec![lines.to_owned()],
        ..vip("api", &["10.77.0.100/24"])
    }
}

/// Hosts with an inside; the first is the preferred one.
fn routers(hosts: usize) -> Result<Cluster> {
    let plan = Plan { hosts, vips: vec![router(ROUTES_AND_RULES)], ..Plan::default() };
    let mut cluster = Cluster::lay_out(plan.with_policy(Policy::Priority { preempt: true }))?;
    for host in 0..hosts {
        let namespace = cluster.host(host).namespace();
        let pair = ["link", "add", INSIDE, "type", "veth", "peer", "name", INSIDE_PEER];
        namespace.output("ip", &pair)?;
        namespace.sysctl(&format!("ipv6/conf/{INSIDE}/accept_dad"), "0")?;
        namespace.set_link(INSIDE_PEER, LinkState::Up)?;
        namespace.set_link(INSIDE, LinkState::Up)?;
    }
    for host in 0..hosts {
        cluster.start_daemon(host)?;
    }
    Ok(cluster)
}

/// Waits until the host has all of it, or nothing.
fn wait_until_has(cluster: &Cluster, host: usize, has: bool) -> Result<()> {
    let what = format!("h{} has {} of the router", host + 1, if has { "all" } else { "nothing" });
    cluster.wait(&what, || {
        let namespace = cluster.host(host).namespace();
        let present = namespace.addresses()?;
        let vips = cluster.plan().vips[0].all_addresses();
        let there = vips.filter(|net| present.contains(&net.addr())).count();
        let mut listed = companions(namespace)?;
        listed.retain(|line| !line.starts_with(ON_LINK));
        let mut expected: Vec<String> = LISTED.map(str::to_owned).into();
        listed.sort();
        expected.sort();
        Ok(if has { there == 3 && listed == expected } else { there == 0 && listed.is_empty() })
    })
}

#[test]
fn a_routers_outside_and_inside_move_as_one_with_its_routes_and_rules() -> Result<()> {
    let mut cluster = routers(2)?;
    cluster.wait_for_owner_among(|host| host == 0)?;
    wait_until_has(&cluster, 0, true)?;
    let from = cluster.note("the inside of h1 goes down");
    cluster.host(0).namespace().set_link(INSIDE, LinkState::Down)?;
    cluster.wait_for_owner_among(|host| host == 1)?;
    wait_until_has(&cluster, 1, true)?;
    wait_until_has(&cluster, 0, false)?;
    let (_, said) = cluster.turnip_on(0, &["why", "api"])?;
    ensure!(said.contains("interface inside0 is down"), "{said}");
    cluster.note("it is up again");
    cluster.host(0).namespace().set_link(INSIDE, LinkState::Up)?;
    cluster.wait_for_owner_among(|host| host == 0)?;
    wait_until_has(&cluster, 0, true)?;
    wait_until_has(&cluster, 1, false)?;
    cluster.conclude(from, Outcome::moved())
}

#[test]
fn routes_and_rules_that_somebody_takes_away_are_put_back_and_others_stay_as_they_are() -> Result<()>
{
    let mut cluster = routers(1)?;
    cluster.wait_for_owner()?;
    wait_until_has(&cluster, 0, true)?;
    let from = cluster.note("somebody takes them away, one by one");
    let ip = |cluster: &Cluster, line: &str| {
        let words: Vec<&str> = line.split(' ').collect();
        cluster.host(0).namespace().output("ip", &words).map(drop)
    };
    ip(&cluster, "route add 10.210.0.0/16 dev inside0 proto static")?;
    ip(&cluster, "rule add from 10.98.0.0/24 lookup 100 priority 1002")?;
    for line in [
        "route del 10.200.0.0/16 table 100",
        "route del blackhole 10.202.0.0/16",
        "-6 route del fd98::/48",
        "rule del priority 1000",
        "route flush table main proto 116",
    ] {
        ip(&cluster, line)?;
        wait_until_has(&cluster, 0, true)?;
    }
    // IPv4 routes go with their interface's last address, and nobody says so.
    cluster.note("the inside loses its address");
    ip(&cluster, "address del 10.99.0.1/24 dev inside0")?;
    wait_until_has(&cluster, 0, true)?;
    cluster.note("the daemon stops");
    cluster.stop_daemon(0)?;
    wait_until_has(&cluster, 0, false)?;
    let rules = cluster.host(0).namespace().output("ip", &["rule", "show"])?;
    ensure!(rules.contains("10.98.0.0/24"), "{rules}");
    cluster.start_daemon(0)?;
    cluster.wait_for_owner()?;
    cluster.conclude(from, Outcome::failed_over())
}

#[test]
fn what_a_killed_turnip_left_goes_on_with_its_vip_or_goes_when_it_is_not_wanted_any_more()
-> Result<()> {
    let mut cluster = routers(1)?;
    cluster.wait_for_owner()?;
    wait_until_has(&cluster, 0, true)?;
    let from = cluster.note("the daemon is killed, and started again");
    cluster.kill_daemon(0)?;
    wait_until_has(&cluster, 0, true)?;
    cluster.start_daemon(0)?;
    cluster.wait_for_owner()?;
    wait_until_has(&cluster, 0, true)?;
    cluster.note("it is killed, and started with a file without routes and rules");
    cluster.kill_daemon(0)?;
    let namespace = cluster.host(0).namespace();
    namespace.output("ip", &["rule", "add", "from", "10.98.0.0/24", "lookup", "100"])?;
    cluster.configure(0, vec![router("")]);
    cluster.start_daemon(0)?;
    cluster.wait("what is not wanted is gone", || {
        let listed = companions(cluster.host(0).namespace())?;
        Ok(listed.iter().all(|line| line.starts_with(ON_LINK)))
    })?;
    let rules = cluster.host(0).namespace().output("ip", &["rule", "show"])?;
    ensure!(rules.contains("10.98.0.0/24"), "{rules}");
    cluster.conclude(from, Outcome::failed_over())
}

/// The links of turnip's own on a host.
fn own_links(cluster: &Cluster, host: usize) -> Result<Vec<String>> {
    let names = cluster.host(host).namespace().link_names()?;
    Ok(names.into_iter().filter(|name| name.starts_with(OWN_LINK)).collect())
}

#[test]
fn an_address_with_a_virtual_mac_has_the_same_one_on_every_host_and_leaves_no_link_behind()
-> Result<()> {
    let lines = vec!["virtual_mac = true".to_owned()];
    let vips = vec![Vip { lines, ..vip("api", &["10.77.0.100/24"]) }];
    let mut cluster = Cluster::start(Plan { vips, ..Plan::default() })?;
    let owner = cluster.wait_until_settled()?;
    let address = cluster.address();
    let client = cluster.client();
    cluster.wait("the client knows it", || Ok(client.neighbour(address)?.is_some()))?;
    let mac = cluster.client().neighbour(address)?;
    ensure!(mac.is_some_and(|mac| mac[0] == 2), "{mac:?}");
    ensure!(mac != Some(cluster.host(owner).namespace().mac(LINK)?), "its own: {mac:?}");
    let from = cluster.note("pins");
    for host in [0, 1, 2] {
        cluster.pin("api", host)?;
        cluster.wait_for_owner_among(|owner| owner == host)?;
        ensure!(own_links(&cluster, host)?.len() == 1, "none on h{}", host + 1);
        for other in (0..3).filter(|&other| other != host) {
            ensure!(own_links(&cluster, other)?.is_empty(), "left on h{}", other + 1);
        }
        cluster.wait("the client hears it", || {
            Ok(cluster.last_to_answer(address).as_deref() == Some(&*cluster.host(host).name))
        })?;
        let known = cluster.client().neighbour(address)?;
        ensure!(known == mac, "{known:?} instead of {mac:?}: {}", cluster.logs());
    }
    cluster.check(from, Outcome::moved())?;
    let from = cluster.note("the holder is killed");
    cluster.kill_daemon(2)?;
    cluster.wait_for_owner_among(|host| host != 2)?;
    ensure!(cluster.client().neighbour(address)? == mac, "{}", cluster.logs());
    cluster.turnip(&["unpin", "api"])?;
    cluster.start_daemon(2)?;
    a_lease_passes();
    let last = cluster.wait_until_settled()?;
    for host in 0..3 {
        ensure!(own_links(&cluster, host)?.len() == usize::from(host == last), "on h{}", host + 1);
    }
    let outcome = Outcome::gap_at_most(Duration::from_secs(10));
    cluster.conclude(from, outcome.beside_a_silent_holder(2))?;
    for setting in ["arp_ignore", "arp_announce"] {
        let path = format!("/proc/sys/net/ipv4/conf/{LINK}/{setting}");
        let value = cluster.host(last).namespace().output("cat", &[&path])?;
        ensure!(value.trim() == "0", "{setting} stays {value}");
    }
    Ok(())
}

#[test]
fn a_frozen_holder_of_an_address_with_a_virtual_mac_is_silent_on_its_link_before_another_answers()
-> Result<()> {
    let lines = vec!["virtual_mac = true".to_owned()];
    let vips = vec![Vip { lines, ..vip("api", &["10.77.0.100/24"]) }];
    let mut cluster = Cluster::start(Plan { vips, ..Plan::default() })?;
    let owner = cluster.wait_until_settled()?;
    let address = cluster.address();
    let client = cluster.client();
    cluster.wait("the client knows it", || Ok(client.neighbour(address)?.is_some()))?;
    let mac = cluster.client().neighbour(address)?;
    let from = cluster.note(format!("the turnip of h{} is frozen", owner + 1));
    cluster.freeze_daemon(owner)?;
    let next = cluster.wait_for_owner_among(|host| host != owner)?;
    a_lease_passes();
    // Two hosts have a link with this hardware address now, and one of them answers.
    ensure!(own_links(&cluster, owner)?.len() == 1 && own_links(&cluster, next)?.len() == 1);
    ensure!(cluster.client().neighbour(address)? == mac, "{}", cluster.logs());
    cluster.check(from, Outcome::failed_over().beside_a_silent_holder(owner))?;
    let thawed = cluster.note("it is thawed");
    cluster.thaw_daemon(owner)?;
    cluster.wait("it has a session again", || Ok(cluster.listed_by(owner)?.is_some()))?;
    cluster.wait("its link is gone", || Ok(own_links(&cluster, owner)?.is_empty()))?;
    cluster.conclude(thawed, Outcome::moved().beside_a_silent_holder(owner))
}

#[test]
fn every_address_of_a_pattern_is_a_vip_by_itself_on_some_host() -> Result<()> {
    let pattern = Vip { lines: vec!["each = true".into()], ..vip("pool", &["10.88.0.0/27"]) };
    let vips = vec![vip("api", &["10.77.0.100/24"])];
    let mut cluster = Cluster::lay_out(Plan { vips: vips.clone(), ..Plan::default() })?;
    for host in 0..3 {
        cluster.configure(host, [&vips[..], std::slice::from_ref(&pattern)].concat());
        cluster.start_daemon(host)?;
    }
    let all: Vec<std::net::IpAddr> =
        (0..32).map(|n| std::net::Ipv4Addr::new(10, 88, 0, n).into()).collect();
    let held = |host: usize| -> Result<usize> {
        let present = cluster.host(host).namespace().addresses()?;
        Ok(all.iter().filter(|address| present.contains(address)).count())
    };
    cluster.wait("each is on one host, and every host has some", || {
        let counts = [held(0)?, held(1)?, held(2)?];
        Ok(counts.iter().sum::<usize>() == 32 && counts.iter().all(|count| *count > 0))
    })?;
    let (code, said) = cluster.turnip_on(0, &["status"])?;
    ensure!(code == Some(0) && said.contains("pool-10.88.0.31"), "{said}");
    Ok(())
}
