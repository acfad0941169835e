//! VIPs beside addresses and routes that are the host's own.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, UdpSocket};
use std::time::Duration;

use anyhow::{Context, Error, Result, ensure};
use ipnet::IpNet;
use turnip_netns_tests::cluster::{Cluster, Outcome};
use turnip_netns_tests::daemon::Policy;
use turnip_netns_tests::plan::{LINK, Plan, vip};
use turnip_netns_tests::poll::Poll;
use turnip_netns_tests::process::Process;
use turnip_netns_tests::responder::PORT;

use crate::{a_lease_passes, of_both_families, with_policy};

/// Putting an address behind others takes it away for some ms. A busy machine may stop in
/// between.
const GAP_MAX: Duration = Duration::from_millis(200);
const POLL: Poll = Poll::every(Duration::from_millis(20));

/// The host's own address, as the network gave it.
fn own(cluster: &Cluster, host: usize) -> IpNet {
    IpNet::new(cluster.network().address(host), 24).expect("a prefix length")
}

/// The same of IPv6.
fn own_v6(host: usize) -> IpNet {
    let number = u16::try_from(11 + host).expect("few hosts");
    let address = Ipv6Addr::new(0xfd77, 0, 0, 0, 0, 0, 0, number);
    IpNet::new(address.into(), 64).expect("a prefix length")
}

/// The address from which a host would speak to another one.
fn source(cluster: &Cluster, host: usize, destination: IpAddr) -> Result<IpAddr> {
    let any: IpAddr = match destination {
        IpAddr::V4(_) => Ipv4Addr::UNSPECIFIED.into(),
        IpAddr::V6(_) => Ipv6Addr::UNSPECIFIED.into(),
    };
    cluster.host(host).namespace().run(|| {
        let socket = UdpSocket::bind((any, 0))?;
        socket.connect((destination, PORT))?;
        Ok(socket.local_addr()?.ip())
    })
}

/// Waits until a host speaks to the client from this address.
fn wait_for_source(cluster: &Cluster, host: usize, wanted: IpNet) -> Result<()> {
    let clients = cluster.network().client_addresses()?;
    let client = clients.into_iter().find(|client| client.is_ipv4() == wanted.addr().is_ipv4());
    let client = client.context("a client of that family")?;
    cluster.wait(&format!("{wanted} is the source again"), || {
        Ok(source(cluster, host, client)? == wanted.addr())
    })
}

/// Takes addresses from a host, and gives them back at once, in this order.
fn flap(cluster: &Cluster, host: usize, addresses: &[IpNet]) -> Result<()> {
    let namespace = cluster.host(host).namespace();
    addresses.iter().try_for_each(|net| namespace.remove_address(net.addr()))?;
    addresses.iter().try_for_each(|net| namespace.add_address(LINK, *net))
}

/// All VIPs are on the first host.
fn on_the_first(addresses: &[&[&str]]) -> Plan {
    let names = ["api", "db", "web"];
    let vips = names.iter().zip(addresses).map(|(name, addresses)| vip(name, addresses)).collect();
    Plan { vips, ..with_policy(Policy::Priority { preempt: true }) }
}

#[test]
fn the_hosts_own_address_is_the_source_again_when_it_has_come_back_and_the_vip_goes_on()
-> Result<()> {
    let mut cluster = Cluster::start(Plan::default())?;
    let owner = cluster.wait_until_settled()?;
    let own = own(&cluster, owner);
    wait_for_source(&cluster, owner, own)?;
    let from = cluster.note(format!("{own} goes and comes back, again and again"));
    for _ in 0..5 {
        flap(&cluster, owner, &[own])?;
        wait_for_source(&cluster, owner, own)?;
    }
    let seen = cluster.check(from, Outcome::gap_at_most(Duration::from_secs(1)))?;
    assert!(seen.absence <= GAP_MAX, "{seen:?}: {}", cluster.logs());
    assert_eq!(cluster.holders()?, [owner], "{}", cluster.logs());
    a_lease_passes();
    wait_for_source(&cluster, owner, own)?;
    assert_eq!(cluster.status()?["nodes"][format!("h{}", owner + 1)]["repairs"], 0);
    cluster.conclude(from, Outcome::gap_at_most(Duration::from_secs(3)))
}

#[test]
fn several_vips_are_behind_three_own_addresses_whatever_the_order() -> Result<()> {
    let plan = on_the_first(&[&["10.77.0.100/24"], &["10.77.0.101/24"], &["10.77.0.102/32"]]);
    let mut cluster = Cluster::start(plan)?;
    cluster.wait_until_settled()?;
    let first = own(&cluster, 0);
    let others: [IpNet; 2] = ["10.77.0.61/24".parse()?, "10.77.0.62/24".parse()?];
    for net in others {
        cluster.host(0).namespace().add_address(LINK, net)?;
    }
    let from = cluster.note("all of the host's own addresses go and come back");
    for order in [[first, others[0], others[1]], [others[1], first, others[0]]] {
        flap(&cluster, 0, &order)?;
        wait_for_source(&cluster, 0, order[0])?;
        cluster.wait("all VIPs are there", || {
            let present = cluster.host(0).namespace().addresses()?;
            let vips = cluster.plan().vips.iter().flat_map(|vip| &vip.addresses);
            Ok(vips.into_iter().all(|net| present.contains(&net.addr())))
        })?;
    }
    let seen = cluster.check(from, Outcome::gap_at_most(Duration::from_secs(1)))?;
    assert!(seen.absence <= GAP_MAX, "{seen:?}: {}", cluster.logs());
    cluster.conclude(from, Outcome::gap_at_most(Duration::from_secs(3)))
}

#[test]
fn an_ipv6_vip_is_the_hosts_source_only_while_it_has_no_address_of_its_own_there() -> Result<()> {
    let mut cluster = Cluster::start(of_both_families())?;
    let owner = cluster.wait_until_settled()?;
    let vip: IpNet = "fd77::100/64".parse()?;
    let own = own_v6(owner);
    wait_for_source(&cluster, owner, own)?;
    let from = cluster.note(format!("{own} goes"));
    cluster.host(owner).namespace().remove_address(own.addr())?;
    wait_for_source(&cluster, owner, vip)?;
    cluster.note("it comes back");
    cluster.host(owner).namespace().add_address(LINK, own)?;
    wait_for_source(&cluster, owner, own)?;
    a_lease_passes();
    wait_for_source(&cluster, owner, own)?;
    cluster.conclude(from, Outcome::stayed_on(owner))
}

/// The routes of a host to the subnet that a router advertises.
fn routes(cluster: &Cluster, host: usize) -> Result<Vec<String>> {
    let arguments = ["-6", "route", "show", ADVERTISED, "dev", LINK];
    let lines = cluster.host(host).namespace().output("ip", &arguments)?;
    Ok(lines.lines().map(str::to_owned).collect())
}

const ADVERTISED: &str = "fd99:1::/64";

/// A router that says on the hosts' link for how long the subnet is there.
fn advertise(cluster: &Cluster) -> Result<Process> {
    let router = cluster.lab().namespace("router")?;
    cluster.network().attach("router", 8, &router)?;
    router.add_address(LINK, "fd99:1::1/64".parse()?)?;
    let directory = cluster.lab().directory_of("router")?;
    let file = directory.join("bird.conf");
    let configuration = format!(
        "log stderr all;\nrouter id 10.77.0.209;\nprotocol device {{}}\nprotocol radv {{\n  \
         interface \"{LINK}\" {{\n    min ra interval 3;\n    max ra interval 4;\n    default lifetime 0;\n    \
         prefix {ADVERTISED} {{ valid lifetime 3600; preferred lifetime 1800; }};\n    \
         prefix ::/0 {{ skip; }};\n  }};\n}}\n"
    );
    std::fs::write(&file, configuration)?;
    let mut command = router.command("bird");
    command.arg("-f").arg("-c").arg(file).arg("-s").arg(directory.join("bird.ctl"));
    Process::start(command, "the router", directory.join("bird.log"))
}

/// Whether a route says that it lasts for most of what the router advertises.
fn lasts(route: &str) -> bool {
    let mut words = route.split_whitespace().skip_while(|word| *word != "expires");
    let secs = words.nth(1).and_then(|secs| secs.strip_suffix("sec")?.parse::<u32>().ok());
    secs.is_some_and(|secs| secs > 3_000)
}

#[test]
fn a_subnet_that_a_router_advertises_stays_on_link_when_a_vip_of_it_has_moved() -> Result<()> {
    let plan = on_the_first(&[&["10.77.0.100/24"], &["fd99:1::50/64"]]);
    let mut cluster = Cluster::start(plan)?;
    cluster.wait_until_settled()?;
    let from = cluster.note("nothing but the VIP makes its subnet on-link");
    cluster.wait("its route goes with it", || Ok(routes(&cluster, 0)?.len() == 1))?;
    let route = routes(&cluster, 0)?.concat();
    assert!(route.contains("metric 257") && route.contains("expires") && !lasts(&route), "{route}");
    assert!(routes(&cluster, 1)?.is_empty());

    cluster.note("the VIP moves");
    cluster.pin("db", 1)?;
    cluster.wait("the route is where the VIP is", || {
        Ok(routes(&cluster, 0)?.is_empty() && routes(&cluster, 1)?.len() == 1)
    })?;
    cluster.turnip(&["unpin", "db"])?;
    cluster.wait("both are back", || {
        Ok(routes(&cluster, 0)?.len() == 1 && routes(&cluster, 1)?.is_empty())
    })?;

    cluster.note("a router advertises it");
    let _router = advertise(&cluster)?;
    cluster.wait("the router's word is the only one", || {
        let routes = routes(&cluster, 0)?;
        Ok(routes.len() == 1 && lasts(&routes[0]))
    })?;
    cluster.note("the VIP moves again");
    cluster.pin("db", 1)?;
    cluster.wait("it is on the second host", || {
        Ok(cluster.holders_of("fd99:1::50".parse()?)? == [1])
    })?;
    a_lease_passes();
    for host in [0, 1] {
        let routes = routes(&cluster, host)?;
        assert!(routes.len() == 1 && lasts(&routes[0]), "h{}: {routes:?}", host + 1);
    }
    cluster.turnip(&["unpin", "db"])?;
    cluster.wait("it is back", || Ok(cluster.holders_of("fd99:1::50".parse()?)? == [0]))?;
    cluster.conclude(from, Outcome::moved())
}

/// How often the daemon of a host has said something.
fn said(cluster: &mut Cluster, host: usize, what: &str) -> Result<usize> {
    let log = cluster.daemon(host)?.log_text();
    Ok(log.lines().filter(|line| line.contains(what)).count())
}

fn wait_until_said(cluster: &mut Cluster, host: usize, what: &str) -> Result<()> {
    let is_said = POLL.is_so(|| Ok::<_, Error>(said(cluster, host, what)? > 0))?;
    ensure!(is_said, "h{} does not say {what}: {}", host + 1, cluster.logs());
    Ok(())
}

#[test]
fn a_route_that_goes_with_the_vip_is_named_in_one_warning() -> Result<()> {
    let mut cluster = Cluster::start(Plan::default())?;
    let owner = cluster.wait_until_settled()?;
    let route = ["10.99.0.0/16", "via", "10.77.0.200", "src", "10.77.0.100"];
    let add = |cluster: &Cluster| {
        cluster.host(owner).namespace().output("ip", &[&["route", "add"], &route[..]].concat())
    };
    let named = format!("10.99.0.0/16 via 10.77.0.200 dev {LINK} src 10.77.0.100");
    let is_there = |cluster: &Cluster| -> Result<bool> {
        let routes = cluster.host(owner).namespace().output("ip", &["route", "show"])?;
        Ok(routes.contains(route[0]))
    };
    let from = cluster.note("somebody makes a route with the VIP as its source");
    add(&cluster)?;
    wait_until_said(&mut cluster, owner, &named)?;
    cluster.note("somebody takes the VIP away, and it is repaired");
    cluster.host(owner).namespace().remove_address(cluster.address())?;
    cluster.wait("it is back", || Ok(cluster.holders()? == [owner]))?;
    cluster.wait_for_owner()?;
    assert!(!is_there(&cluster)?);
    add(&cluster)?;
    cluster.note("it moves there and back");
    cluster.pin("api", (owner + 1) % 3)?;
    cluster.wait_for_owner_among(|host| host != owner)?;
    assert!(!is_there(&cluster)?);
    cluster.turnip(&["unpin", "api"])?;
    cluster.wait_for_owner_among(|host| host == owner)?;
    add(&cluster)?;
    a_lease_passes();
    assert_eq!(said(&mut cluster, owner, &named)?, 1, "{}", cluster.logs());
    cluster.conclude(from, Outcome::moved())
}

/// Whether the link of a host keeps the other addresses of a subnet when the first of them goes.
pub fn promotes(cluster: &Cluster, host: usize) -> Result<bool> {
    cluster.host(host).namespace().run(|| {
        let file = format!("/proc/sys/net/ipv4/conf/{LINK}/promote_secondaries");
        Ok(std::fs::read_to_string(file)?.trim() == "1")
    })
}

/// It does not, as the kernel has it by itself.
pub fn dont_promote(cluster: &Cluster, host: usize) -> Result<()> {
    let name = format!("ipv4/conf/{LINK}/promote_secondaries");
    cluster.host(host).namespace().sysctl(&name, "0")
}

#[test]
fn promote_secondaries_is_as_it_was_after_a_stop_or_a_release_of_a_daemon_that_was_killed_before()
-> Result<()> {
    let mut cluster = Cluster::lay_out(Plan::default())?;
    (0..cluster.size()).try_for_each(|host| dont_promote(&cluster, host))?;
    for host in cluster.plan().in_order_of_start() {
        cluster.start_daemon(host)?;
    }
    let owner = cluster.wait_until_settled()?;
    let from = cluster.note("the owner's daemon is killed, and another one stopped in order");
    assert!(promotes(&cluster, owner)?);
    cluster.kill_daemon(owner)?;
    cluster.start_daemon(owner)?;
    wait_until_said(&mut cluster, owner, "resumed session")?;
    cluster.wait_for_owner_among(|host| host == owner)?;
    assert!(promotes(&cluster, owner)?);
    cluster.stop_daemon(owner)?;
    assert!(!promotes(&cluster, owner)?, "{}", cluster.logs());

    cluster.note("the next one is killed, and its host is released");
    let next = cluster.wait_for_owner_among(|host| host != owner)?;
    assert!(promotes(&cluster, next)?);
    cluster.kill_daemon(next)?;
    cluster.release(next)?;
    assert!(!promotes(&cluster, next)?, "{}", cluster.logs());
    for host in [owner, next] {
        cluster.start_daemon(host)?;
    }
    cluster.conclude(from, Outcome::failed_over())?;
    for host in 0..cluster.size() {
        assert!(!promotes(&cluster, host)?, "{}", cluster.logs());
    }
    Ok(())
}

#[test]
fn turnip_check_says_which_vips_are_in_a_subnet_of_the_hosts_own_and_what_would_be_better()
-> Result<()> {
    let mut cluster = Cluster::start(of_both_families())?;
    let owner = cluster.wait_for_owner()?;
    let from = cluster.note("somebody checks");
    for host in [owner, (owner + 1) % 3] {
        let (_, said) = cluster.turnip_on(host, &["check"])?;
        let families = [
            (own(&cluster, host), "10.77.0.100/24", "10.77.0.100/32"),
            (own_v6(host), "fd77::100/64", "fd77::100/128"),
        ];
        for (own, address, better) in families {
            let subnet = format!("{LINK} has {own} of its own in the subnet of {address}");
            let line = said.lines().find(|line| line.contains(&subnet));
            let line = line.with_context(|| said.clone())?;
            assert!(line.starts_with("warning") && line.contains(better), "{line}");
        }
    }
    cluster.conclude(from, Outcome::moved())
}
