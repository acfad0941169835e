//! Addresses of a VIP that a host has already, and that turnip did not put there.

use std::collections::BTreeSet;
use std::net::{IpAddr, Ipv4Addr, SocketAddr, UdpSocket};
use std::thread::sleep;
use std::time::{Duration, Instant};

use anyhow::{Result, ensure};
use ipnet::IpNet;
use turnip_netns_tests::cluster::{Cluster, Outcome};
use turnip_netns_tests::daemon::{Policy, RUNTIME_DIRECTORY, runtime_directory, turnip_command};
use turnip_netns_tests::namespace::Namespace;
use turnip_netns_tests::plan::{LINK, Plan, vip};
use turnip_netns_tests::responder::service;

use crate::own_addresses::{dont_promote, promotes};
use crate::{a_lease_passes, with_policy};

/// As keepalived leaves it, or whoever balances load by this address.
const DOUBLE: &str = "10.77.0.120/32";

/// The second VIP is `web`, of which a host may have the IP in another way; the first host is preferred.
fn with_a_second_vip() -> Plan {
    let vips = vec![vip("api", &["10.77.0.100/24"]), vip("web", &["10.77.0.120/24"])];
    Plan { vips, ..with_policy(Policy::Priority { preempt: true }) }
}

fn double() -> IpNet {
    DOUBLE.parse().expect("an address")
}

fn has_fence(namespace: &Namespace) -> Result<bool> {
    Ok(namespace.output("nft", &["list", "tables"])?.contains("turnip"))
}

/// The hosts that answer the client at the address of `web`, which it resolves anew each time.
fn answering(cluster: &Cluster) -> Result<BTreeSet<String>> {
    const TIMES: usize = 30;
    let mut names = BTreeSet::new();
    for _ in 0..TIMES {
        cluster.client().output("ip", &["neighbour", "flush", "dev", LINK])?;
        let name = cluster.client().run(|| {
            let socket = UdpSocket::bind((Ipv4Addr::UNSPECIFIED, 0))?;
            socket.set_read_timeout(Some(Duration::from_secs(3)))?;
            socket.send_to(&[0; 8], service(double().addr()))?;
            let mut buffer = [0; 64];
            let (length, _): (usize, SocketAddr) = socket.recv_from(&mut buffer)?;
            Ok(String::from_utf8_lossy(&buffer[8..length]).into_owned())
        })?;
        names.insert(name);
    }
    Ok(names)
}

fn only(name: &str) -> BTreeSet<String> {
    BTreeSet::from([name.to_owned()])
}

/// Whether the node says this of `web`, under `blocked` or `notices`.
fn says(cluster: &Cluster, node: &str, how: &str) -> Result<bool> {
    let said = cluster.status()?["nodes"][node][how]["web"].clone();
    Ok(said.as_str().is_some_and(|said| said.contains(&format!("{DOUBLE} on lo"))))
}

fn owner_of_web(cluster: &Cluster) -> Result<Option<String>> {
    Ok(cluster.status()?["vips"]["web"]["owner"].as_str().map(str::to_owned))
}

/// What `turnip release` says on a host.
fn release(cluster: &Cluster, host: usize) -> Result<String> {
    let host = cluster.host(host);
    let mut command = turnip_command(host.namespace())?;
    let output = command
        .arg("release")
        .env(RUNTIME_DIRECTORY, runtime_directory(&host.directory))
        .output()?;
    Ok(String::from_utf8_lossy(&output.stdout).into_owned())
}

#[test]
fn a_host_whose_own_address_a_vip_has_refuses_to_run_and_stays_on_the_network() -> Result<()> {
    let mut cluster = Cluster::lay_out(Plan::default())?;
    let address: IpNet = "10.77.0.100/24".parse()?;
    cluster.host(0).namespace().add_address(LINK, address)?;
    let is_there = |cluster: &Cluster| {
        Ok(cluster.last_to_answer(address.addr()).is_some_and(|who| &*who == "h1"))
    };
    cluster.wait("h1 answers at its own address", || is_there(&cluster))?;
    cluster.note("turnip is to have it float");
    let started = Instant::now();
    cluster.start_daemon(0)?;
    let refuses =
        "not starting, for it would take this host off the network: 10.77.0.100/24 is on eth0";
    cluster.wait("it refuses", || Ok(cluster.logs().contains(refuses)))?;
    for _ in 0..250 {
        if !cluster.daemon(0)?.runs() {
            break;
        }
        sleep(Duration::from_millis(20));
    }
    ensure!(!cluster.daemon(0)?.runs(), "it goes on: {}", cluster.logs());
    let (status, checked) = cluster.turnip_on(0, &["check"])?;
    ensure!(status == Some(1) && checked.contains("10.77.0.100/24 is on eth0"), "{checked}");
    ensure!(checked.contains("ip address del 10.77.0.100/24 dev eth0"), "{checked}");
    sleep(Duration::from_millis(500));
    let namespace = cluster.host(0).namespace();
    ensure!(!has_fence(namespace)?, "it made a fence");
    ensure!(namespace.addresses()?.contains(&address.addr()), "it took the address away");
    let probes = cluster.host(0).answers(address.addr());
    let asked: Vec<_> = probes.iter().filter(|probe| probe.sent > started).collect();
    let unanswered = asked.iter().filter(|probe| probe.answer.is_none()).count();
    // The machine may be busy; a fence would have been there for half a second.
    ensure!(asked.len() > 50 && unanswered * 20 < asked.len(), "{unanswered} of {}", asked.len());
    cluster.host(0).namespace().remove_address(address.addr())?;
    let from = cluster.note("it is the host's own no longer");
    for host in [2, 1, 0] {
        cluster.start_daemon(host)?;
    }
    cluster.wait_until_settled()?;
    cluster.conclude(from, Outcome::gap_at_most(Duration::from_secs(20)))
}

#[test]
fn a_host_that_has_the_ip_of_a_vip_in_another_way_does_not_take_it_and_keeps_its_fence_at_a_stop()
-> Result<()> {
    let mut cluster = Cluster::lay_out(with_a_second_vip())?;
    cluster.host(0).namespace().add_address("lo", double())?;
    dont_promote(&cluster, 0)?;
    for host in 0..3 {
        cluster.start_daemon(host)?;
    }
    cluster
        .wait("another host takes the VIP", || Ok(owner_of_web(&cluster)? == Some("h2".into())))?;
    cluster.wait("h1 says why it does not", || says(&cluster, "h1", "blocked"))?;
    let (_, checked) = cluster.turnip_on(0, &["check"])?;
    ensure!(checked.contains(&format!("{DOUBLE} is on lo")), "{checked}");
    ensure!(cluster.logs().contains(&format!("cannot hold web here: {DOUBLE} on lo")));
    ensure!(answering(&cluster)? == only("h2"), "{}", cluster.logs());
    cluster.wait("h1 has the other VIP, with its subnet", || promotes(&cluster, 0))?;
    cluster.note("turnip stops on h1");
    cluster.stop_daemon(0)?;
    ensure!(cluster.logs().contains("leaving the fence in place"), "{}", cluster.logs());
    ensure!(!promotes(&cluster, 0)?, "that was set by turnip: {}", cluster.logs());
    let namespace = cluster.host(0).namespace();
    ensure!(namespace.addresses()?.contains(&double().addr()), "it is not turnip's");
    ensure!(has_fence(namespace)? && answering(&cluster)? == only("h2"), "{}", cluster.logs());
    let said = release(&cluster, 0)?;
    ensure!(said.contains(&format!("left the fence: {DOUBLE} on lo")), "{said}");
    ensure!(has_fence(cluster.host(0).namespace())? && answering(&cluster)? == only("h2"));
    cluster.host(0).namespace().remove_address(double().addr())?;
    let said = release(&cluster, 0)?;
    ensure!(
        said.contains("removed the fence") && !has_fence(cluster.host(0).namespace())?,
        "{said}"
    );
    let from = cluster.note("nothing is left of it: h1 takes what it should");
    cluster.start_daemon(0)?;
    cluster.wait_until_settled()?;
    ensure!(owner_of_web(&cluster)? == Some("h1".into()), "{}", cluster.logs());
    cluster.conclude(from, Outcome::failed_over())
}

#[test]
fn a_holder_beside_whose_vip_the_same_ip_appears_keeps_it_until_it_moves_and_is_silent_then()
-> Result<()> {
    let mut cluster = Cluster::start(with_a_second_vip())?;
    cluster.note("somebody gives h1, which has the VIP, its IP once more");
    cluster.host(0).namespace().add_address("lo", double())?;
    cluster.wait("h1 says so", || says(&cluster, "h1", "notices"))?;
    let (_, checked) = cluster.turnip_on(0, &["check"])?;
    ensure!(checked.contains(&format!("{DOUBLE} is on lo")), "{checked}");
    a_lease_passes();
    ensure!(owner_of_web(&cluster)? == Some("h1".into()), "{}", cluster.logs());
    ensure!(answering(&cluster)? == only("h1"), "{}", cluster.logs());
    cluster.note("the VIP moves");
    cluster.turnip(&["drain", "h1"])?;
    cluster.wait("it is on h2", || Ok(owner_of_web(&cluster)? == Some("h2".into())))?;
    cluster.wait("h1 says why it does not take it", || says(&cluster, "h1", "blocked"))?;
    ensure!(answering(&cluster)? == only("h2"), "{}", cluster.logs());
    cluster.turnip(&["undrain", "h1"])?;
    a_lease_passes();
    ensure!(owner_of_web(&cluster)? == Some("h2".into()), "{}", cluster.logs());
    let addresses: Vec<IpAddr> = cluster.host(0).namespace().addresses()?;
    ensure!(addresses.contains(&double().addr()), "it is not turnip's: {addresses:?}");
    cluster.host(0).namespace().remove_address(double().addr())?;
    let from = cluster.note("it is gone");
    cluster.wait("the VIP comes back", || Ok(owner_of_web(&cluster)? == Some("h1".into())))?;
    cluster.conclude(from, Outcome::failed_over())
}
