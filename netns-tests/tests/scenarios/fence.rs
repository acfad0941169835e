//! The fence beside what a host does of its own accord: rewriting, forwarding, loading saved rules,
//! and addresses that several of its interfaces have.

use std::net::{IpAddr, Ipv6Addr, SocketAddr, SocketAddrV6, TcpStream, UdpSocket};
use std::sync::Arc;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use turnip_netns_tests::cluster::{Cluster, Outcome};
use turnip_netns_tests::daemon::Vip;
use turnip_netns_tests::links::Via;
use turnip_netns_tests::namespace::Namespace;
use turnip_netns_tests::plan::{LINK, Plan, vip};
use turnip_netns_tests::probe::{Prober, Target, Transport};
use turnip_netns_tests::responder::PORT;

use crate::{a_lease_passes, of_both_families};

/// What hosts rewrite to an address of their own: what is for any address that they have, as container
/// engines do it, or what is for the VIP, wherever that is.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Published {
    OnLocalAddresses,
    OnTheVip,
}

/// Has every host answer so for the service that clients ask.
fn publish(cluster: &Cluster, published: Published) -> Result<()> {
    let [v4, v6] = match published {
        Published::OnLocalAddresses => {
            ["ipv4", "ipv6"].map(|family| format!("meta nfproto {family} fib daddr type local"))
        }
        Published::OnTheVip => ["ip daddr 10.77.0.100", "ip6 daddr fd77::100"].map(str::to_owned),
    };
    for host in 0..cluster.size() {
        let own = cluster.network().address(host);
        let own_v6 = Ipv6Addr::new(0xfd77, 0, 0, 0, 0, 0, 0, 11 + u16::try_from(host)?);
        cluster.host(host).namespace().nft(&format!(
            "table inet published {{\n chain prerouting {{\n  \
               type nat hook prerouting priority dstnat;\n  \
               meta l4proto {{ tcp, udp }} th dport {PORT} {v4} counter dnat ip to {own}\n  \
               meta l4proto {{ tcp, udp }} th dport {PORT} {v6} counter dnat ip6 to {own_v6}\n }}\n}}\n"
        ))?;
    }
    Ok(())
}

/// The packets that each rule of a table has counted.
fn counted(namespace: &Namespace, table: &str) -> Result<Vec<u64>> {
    let told = namespace.output("nft", &["list", "table", "inet", table])?;
    let after = told.split("counter packets ").skip(1);
    after.map(|rest| Ok(rest.split_whitespace().next().context("a number")?.parse()?)).collect()
}

fn is_silent_once_its_daemon_is_stopped(published: Published) -> Result<()> {
    let mut cluster = Cluster::start(of_both_families())?;
    let owner = cluster.wait_for_owner()?;
    publish(&cluster, published)?;
    cluster.wait("what is for the address is rewritten", || {
        Ok(counted(cluster.host(owner).namespace(), "published")?.iter().all(|count| *count > 0))
    })?;
    cluster.wait_for_owner()?;
    let from = cluster.note("the holder's daemon is stopped");
    cluster.freeze_daemon(owner)?;
    cluster.wait_for_owner_among(|host| host != owner)?;
    // And by the end of it the kernel has taken the address away.
    a_lease_passes();
    cluster.thaw_daemon(owner)?;
    cluster.wait_for_owner()?;
    // A daemon that is stopped for good leaves no fence, and everything is sent to each host.
    for host in 0..cluster.size() {
        cluster.host(host).namespace().nft("delete table inet published")?;
    }
    cluster.conclude(from, Outcome::failed_over().beside_a_silent_holder(owner))
}

#[test]
fn a_published_port_is_silent_from_the_deadline_of_a_stopped_daemon_on() -> Result<()> {
    is_silent_once_its_daemon_is_stopped(Published::OnLocalAddresses)
}

#[test]
fn hosts_that_rewrite_what_is_for_the_address_answer_only_while_they_hold_it() -> Result<()> {
    is_silent_once_its_daemon_is_stopped(Published::OnTheVip)
}

/// A machine behind a host, which forwards for it: 10.99.0.2 and fd99::2.
fn behind(cluster: &Cluster, router: usize) -> Result<Arc<Namespace>> {
    let machine = cluster.lab().namespace("behind")?;
    let namespace = cluster.host(router).namespace();
    namespace.cable("inside", &machine, LINK)?;
    for (ours, theirs) in [("10.99.0.1/24", "10.99.0.2/24"), ("fd99::1/64", "fd99::2/64")] {
        namespace.add_address("inside", ours.parse()?)?;
        machine.add_address(LINK, theirs.parse()?)?;
    }
    namespace.sysctl("ipv4/ip_forward", "1")?;
    namespace.sysctl("ipv6/conf/all/forwarding", "1")?;
    for (net, gateway) in [("10.77.0.0/24", "10.99.0.1"), ("fd77::/64", "fd99::1")] {
        machine.add_route(net.parse()?, Via::Gateway(gateway.parse()?))?;
    }
    let router_v6 = Ipv6Addr::new(0xfd77, 0, 0, 0, 0, 0, 0, 11 + u16::try_from(router)?);
    for host in (0..cluster.size()).filter(|host| *host != router) {
        let namespace = cluster.host(host).namespace();
        let v4 = cluster.network().address(router);
        namespace.add_route("10.99.0.0/24".parse()?, Via::Gateway(v4))?;
        namespace.add_route("fd99::/64".parse()?, Via::Gateway(router_v6.into()))?;
    }
    Ok(machine)
}

/// As a host that forwards nothing: one that does has anycast addresses for each of its networks.
fn do_not_forward(cluster: &Cluster, router: usize) -> Result<()> {
    cluster.host(router).namespace().sysctl("ipv6/conf/all/forwarding", "0")
}

/// Waits until all of the address's families and transports have answered the machine after now.
fn wait_until_answered(cluster: &Cluster, machine: &Arc<Namespace>) -> Result<()> {
    let targets = cluster.probed().flat_map(|address| {
        [Transport::Udp, Transport::Tcp].map(|transport| Target { address, transport })
    });
    let (prober, from) = (Prober::start(machine, targets.collect())?, Instant::now());
    cluster.wait("the machine behind the router is answered", || {
        let mut last = prober.targets().map(|target| prober.last_answer(target));
        Ok(last.all(|answer| answer.is_some_and(|(at, _)| at > from)))
    })
}

#[test]
fn a_host_that_does_not_hold_the_address_forwards_to_it_and_back_as_any_router() -> Result<()> {
    let mut cluster = Cluster::start(of_both_families())?;
    let owner = cluster.wait_for_owner()?;
    let router = (owner + 1) % 3;
    let machine = behind(&cluster, router)?;
    let from = cluster.note("a machine behind another host asks");
    wait_until_answered(&cluster, &machine)?;
    cluster.note("the router has a firewall that knows connections, and hides who asks");
    cluster.host(router).namespace().nft(
        "table inet router {\n chain forward {\n  type filter hook forward priority filter; policy drop;\n  \
           ct state established,related accept\n  iifname \"inside\" ct state new accept\n }\n \
         chain postrouting {\n  type nat hook postrouting priority srcnat;\n  \
           iifname \"inside\" meta mark 0 masquerade\n }\n}\n",
    )?;
    wait_until_answered(&cluster, &machine)?;
    cluster.note("its daemon is stopped");
    cluster.freeze_daemon(router)?;
    a_lease_passes();
    wait_until_answered(&cluster, &machine)?;
    cluster.thaw_daemon(router)?;
    do_not_forward(&cluster, router)?;
    cluster.conclude(from, Outcome::stayed_on(owner))
}

#[test]
fn a_router_that_holds_another_address_forwards_to_this_one_as_well() -> Result<()> {
    let vips = [of_both_families().vips, vec![vip("web", &["10.77.0.101/24", "fd77::101/64"])]];
    let mut cluster = Cluster::start(Plan { vips: vips.concat(), ..Plan::default() })?;
    let owner = cluster.wait_for_owner()?;
    let router = (owner + 1) % 3;
    let from = cluster.note("the other address is moved to the router");
    cluster.pin("web", router)?;
    cluster.wait("it is there", || Ok(cluster.holders_of("10.77.0.101".parse()?)? == [router]))?;
    let machine = behind(&cluster, router)?;
    wait_until_answered(&cluster, &machine)?;
    do_not_forward(&cluster, router)?;
    cluster.conclude(from, Outcome::moved())
}

fn send(from: &Namespace, to: IpAddr, port: u16) -> Result<()> {
    from.run(|| {
        UdpSocket::bind(("0.0.0.0", 0))?.send_to(b"?", (to, port))?;
        Ok(())
    })
}

#[test]
fn a_router_whose_daemon_is_stopped_sends_nothing_more_in_the_name_of_the_address() -> Result<()> {
    let mut cluster = Cluster::start(Plan::default())?;
    let owner = cluster.wait_for_owner()?;
    let machine = behind(&cluster, owner)?;
    let visitor = cluster.lab().namespace("visitor")?;
    let to = cluster.network().attach("visitor", 9, &visitor)?;
    cluster.host(owner).namespace().nft(
        "table inet hidden {\n chain postrouting {\n  type nat hook postrouting priority srcnat;\n  \
           ip saddr 10.99.0.2 udp dport 9 snat ip to 10.77.0.100\n }\n}\n",
    )?;
    visitor.nft(
        "table inet seen {\n chain input {\n  type filter hook input priority filter;\n  \
           udp dport 9 ip saddr 10.77.0.100 counter\n  udp dport 10 ip saddr 10.99.0.2 counter\n }\n}\n",
    )?;
    let seen = || -> Result<[u64; 2]> {
        let counted = counted(&visitor, "seen")?;
        counted.try_into().ok().context("two counters")
    };
    let send_both = || send(&machine, to, 9).and_then(|()| send(&machine, to, 10));
    cluster.wait("both arrive", || {
        send_both()?;
        Ok(seen()?.iter().all(|count| *count > 5))
    })?;
    let from = cluster.note("the daemon is stopped");
    cluster.freeze_daemon(owner)?;
    cluster.wait_for_owner_among(|host| host != owner)?;
    let before = seen()?;
    cluster.wait("what is not rewritten goes on", || {
        send_both()?;
        Ok(seen()?[1] > before[1] + 20)
    })?;
    let after = seen()?;
    ensure!(after[0] == before[0], "{before:?} {after:?}: it was sent in the address's name");
    a_lease_passes();
    cluster.thaw_daemon(owner)?;
    do_not_forward(&cluster, owner)?;
    cluster.conclude(from, Outcome::failed_over().beside_a_silent_holder(owner))
}

/// Loads what `nft` lists on the host, as who restores a saved firewall does.
fn save_and_load(cluster: &Cluster, host: usize) -> Result<()> {
    let namespace = cluster.host(host).namespace();
    let saved = namespace.output("nft", &["list", "ruleset"])?;
    namespace.nft(&format!("flush ruleset\n{saved}"))?;
    let tables = namespace.output("nft", &["list", "tables"])?;
    for table in ["inet own", "inet turnip", "arp turnip"] {
        ensure!(tables.contains(&format!("table {table}\n")), "{table} is lost: {tables}");
    }
    Ok(())
}

/// A table of the host's own.
fn guard(cluster: &Cluster, host: usize) -> Result<()> {
    cluster.host(host).namespace().nft(
        "table inet own {\n chain input {\n  type filter hook input priority filter; policy accept;\n  \
           tcp dport 23 drop\n }\n}\n",
    )
}

#[test]
fn saved_rules_that_are_loaded_again_cost_neither_the_host_its_firewall_nor_anybody_the_address()
-> Result<()> {
    let mut cluster = Cluster::start(of_both_families())?;
    let owner = cluster.wait_for_owner()?;
    let from = cluster.note("rules are saved and loaded");
    for host in 0..cluster.size() {
        guard(&cluster, host)?;
        save_and_load(&cluster, host)?;
    }
    a_lease_passes();
    save_and_load(&cluster, owner)?;
    a_lease_passes();
    cluster.conclude(from, Outcome::stayed_on(owner))
}

#[test]
fn saved_rules_that_are_loaded_while_the_daemon_is_stopped_keep_the_address_silent() -> Result<()> {
    let mut cluster = Cluster::start(of_both_families())?;
    let owner = cluster.wait_for_owner()?;
    guard(&cluster, owner)?;
    let from = cluster.note("the daemon is stopped");
    cluster.freeze_daemon(owner)?;
    cluster.wait_for_owner_among(|host| host != owner)?;
    save_and_load(&cluster, owner)?;
    a_lease_passes();
    save_and_load(&cluster, owner)?;
    cluster.thaw_daemon(owner)?;
    cluster.conclude(from, Outcome::failed_over().beside_a_silent_holder(owner))
}

const BRIDGES: [&str; 3] = ["br100", "br200", "br300"];
const GATEWAY: Ipv6Addr = Ipv6Addr::new(0xfe80, 0, 0, 0, 0, 0, 0, 1);

/// Guests of a host: one on each of its bridges.
struct Guests(Vec<Arc<Namespace>>);

impl Guests {
    fn of(cluster: &Cluster, host: usize) -> Result<Self> {
        let namespace = cluster.host(host).namespace();
        let mut guests = Vec::new();
        for bridge in BRIDGES {
            namespace.bridge(bridge, None)?;
            let guest = cluster.lab().namespace(&format!("h{}-{bridge}", host + 1))?;
            let port = format!("p-{bridge}");
            namespace.cable(&port, &guest, LINK)?;
            namespace.plug(&port, bridge)?;
            guests.push(guest);
        }
        Ok(Guests(guests))
    }

    /// Which of them reach the gateway.
    fn reach_the_gateway(&self) -> Result<Vec<bool>> {
        let reaches = |guest: &Arc<Namespace>| {
            guest.run(|| {
                let link = nix::net::if_::if_nametoindex(LINK)?;
                let gateway = SocketAddr::V6(SocketAddrV6::new(GATEWAY, PORT, 0, link));
                Ok(TcpStream::connect_timeout(&gateway, Duration::from_millis(200)).is_ok())
            })
        };
        self.0.iter().map(reaches).collect()
    }
}

#[test]
fn one_link_local_address_is_a_gateway_on_two_bridges_and_the_hosts_own_on_a_third() -> Result<()> {
    let mut cluster = Cluster::lay_out(Plan::default())?;
    let on = |bridge: &str| Vip { interface: bridge.into(), ..vip(bridge, &["fe80::1/64"]) };
    let mut guests = Vec::new();
    for host in 0..cluster.size() {
        guests.push(Guests::of(&cluster, host)?);
        cluster.host(host).namespace().add_address("br300", "fe80::1/64".parse()?)?;
        let all = [cluster.plan().vips.clone(), vec![on("br100"), on("br200")]].concat();
        cluster.configure(host, all);
    }
    for host in cluster.plan().in_order_of_start() {
        cluster.start_daemon(host)?;
    }
    cluster.wait_for_owner()?;
    for pins in [[0, 1], [1, 0], [2, 2]] {
        let from =
            cluster.note(format!("br100's goes to h{}, br200's to h{}", pins[0] + 1, pins[1] + 1));
        for (bridge, host) in BRIDGES.iter().zip(pins) {
            let pinned = || Ok(cluster.pin(bridge, host).is_ok());
            cluster.wait("the host is there, to pin it to", pinned)?;
        }
        let wanted = |host: usize| vec![pins[0] == host, pins[1] == host, true];
        cluster.wait("guests reach the gateway where it is, and nowhere else", || {
            let reached = guests.iter().map(Guests::reach_the_gateway);
            Ok(reached.collect::<Result<Vec<_>>>()? == [wanted(0), wanted(1), wanted(2)])
        })?;
        cluster.check(from, Outcome::moved())?;
    }
    cluster.note("the daemon of their holder is stopped");
    cluster.freeze_daemon(2)?;
    cluster.wait("it is silent on both bridges, and the host's own is not", || {
        Ok(guests[2].reach_the_gateway()? == [false, false, true])
    })?;
    cluster.thaw_daemon(2)?;
    for (host, guests) in guests.iter().enumerate() {
        cluster.stop_daemon(host)?;
        ensure!(guests.reach_the_gateway()? == [false, false, true], "{}", cluster.logs());
    }
    Ok(())
}
