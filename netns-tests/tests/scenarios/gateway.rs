//! The second use-case: the default gateway of guests on an overlay, on one of three hypervisors.

use std::time::{Duration, Instant};

use anyhow::{Result, ensure};
use ipnet::IpNet;
use turnip_netns_tests::cluster::{Cluster, Outcome};
use turnip_netns_tests::measure::{self, Span};
use turnip_netns_tests::network::{BRIDGE, probe_outside};
use turnip_netns_tests::plan::Plan;
use turnip_netns_tests::probe::Prober;

use crate::{VERY_LONG_LEASE, a_lease_passes};

/// Waits until both families have been answered by the outside after `moment`.
fn wait_for_outside(cluster: &Cluster, prober: &Prober, moment: Instant) -> Result<()> {
    cluster.wait("guests reach the outside in both families", || {
        Ok(prober.records().iter().all(|(_, probes)| {
            probes
                .iter()
                .rev()
                .take_while(|probe| probe.sent > moment)
                .any(|probe| probe.answered())
        }))
    })
}

/// The guests of the hosts have used the gateway, and from now on they know of it what it
/// announces and nothing else: they cannot ask, and what it asks or answers does not reach them.
pub fn limit_guests_to_announcements(cluster: &Cluster) -> Result<()> {
    for host in 0..cluster.size() {
        let guest = cluster.network().guest(host)?;
        wait_for_outside(cluster, &probe_outside(guest)?, Instant::now())?;
        guest.nft(
            "table arp announcements {\n \
              chain out { type filter hook output priority 0; arp operation request drop; }\n \
              chain in { type filter hook input priority 0;\n  \
               arp saddr ip 10.90.0.1 arp daddr ip != 10.90.0.1 drop; }\n}\n\
             table ip6 announcements {\n \
              chain out { type filter hook output priority 0;\n  \
               icmpv6 type nd-neighbor-solicit drop; }\n \
              chain in { type filter hook input priority 0;\n  \
               ip6 saddr fd90::1 icmpv6 type nd-neighbor-solicit drop;\n  \
               ip6 daddr != ff02::1 icmpv6 type nd-neighbor-advert drop; }\n}\n",
        )?;
    }
    Ok(())
}

/// Ends that, and waits until all guests that have a link reach the outside.
pub fn wait_until_guests_reach_the_outside(cluster: &Cluster) -> Result<()> {
    let with_power = (0..cluster.size()).filter(|&host| cluster.host(host).has_power());
    for guest in with_power.map(|host| cluster.network().guest(host)) {
        let guest = guest?;
        for family in ["arp", "ip6"] {
            guest.nft(&format!(
                "add table {family} announcements\ndelete table {family} announcements\n"
            ))?;
        }
        wait_for_outside(cluster, &probe_outside(guest)?, Instant::now())?;
    }
    Ok(())
}

/// Waits until all guests that have a link know that the gateway is on `host`, in both families.
pub fn wait_until_guests_know(cluster: &Cluster, host: usize) -> Result<()> {
    let mac = cluster.host(host).namespace().mac(BRIDGE)?;
    let gateway: Vec<_> = cluster.plan().vips[0].addresses.iter().map(IpNet::addr).collect();
    let with_power = (0..cluster.size()).filter(|&host| cluster.host(host).has_power());
    for guest in with_power {
        let guest = cluster.network().guest(guest)?;
        cluster.wait(
            &format!("{} knows that the gateway is on h{}", guest.name(), host + 1),
            || {
                let known = gateway.iter().map(|address| guest.neighbour(*address));
                Ok(known.collect::<Result<Vec<_>>>()?.iter().all(|known| *known == Some(mac)))
            },
        )?;
    }
    Ok(())
}

/// As long as an address may be without a host, guests may be without the outside.
const GUESTS_GAP_MAX: Duration = Duration::from_secs(10);

/// Fails when one who looks outside was without an answer for longer, in either family, since
/// `from`.
fn assert_guests_gap_is_short(cluster: &Cluster, probers: &[Prober], from: Instant) -> Result<()> {
    let span = Span { from, to: Instant::now() };
    for (target, probes) in probers.iter().flat_map(Prober::records) {
        let gap = measure::gap(&probes, span).length();
        let enough = gap <= GUESTS_GAP_MAX;
        ensure!(enough, "without {} for {gap:?}\n{}", target.address, cluster.logs());
    }
    Ok(())
}

/// The client and the guests of all hosts but this one look outside from now on, and are answered.
fn probe_outside_from_elsewhere(cluster: &Cluster, aside: usize) -> Result<Vec<Prober>> {
    let mut probers = vec![probe_outside(cluster.network().client())?];
    for host in (0..cluster.size()).filter(|&host| host != aside) {
        probers.push(probe_outside(cluster.network().guest(host)?)?);
    }
    for lookout in &probers {
        wait_for_outside(cluster, lookout, Instant::now())?;
    }
    Ok(probers)
}

#[test]
fn guests_reach_the_outside_again_when_the_gateways_hypervisor_loses_its_power() -> Result<()> {
    let mut cluster = Cluster::start(Plan::gateway())?;
    let owner = cluster.wait_for_owner()?;
    let probers = probe_outside_from_elsewhere(&cluster, owner)?;
    limit_guests_to_announcements(&cluster)?;
    let from = cluster.note(format!("h{} loses its power", owner + 1));
    cluster.power_off(owner)?;
    let next = cluster.wait_for_owner_among(|host| host != owner)?;
    wait_until_guests_know(&cluster, next)?;
    // Answers for guests wait at the gateway, which must not ask them yet where they are.
    wait_until_guests_reach_the_outside(&cluster)?;
    for lookout in &probers {
        wait_for_outside(&cluster, lookout, Instant::now())?;
    }
    cluster.note("it is back");
    cluster.power_on(owner)?;
    a_lease_passes();
    let last = cluster.wait_until_settled()?;
    wait_until_guests_reach_the_outside(&cluster)?;
    wait_until_guests_know(&cluster, last)?;
    assert_guests_gap_is_short(&cluster, &probers, from)?;
    cluster.conclude(from, Outcome::failed_over())
}

#[test]
fn guests_reach_the_outside_when_the_gateways_daemon_is_killed() -> Result<()> {
    let mut cluster = Cluster::start(Plan::gateway())?;
    let owner = cluster.wait_for_owner()?;
    limit_guests_to_announcements(&cluster)?;
    let from = cluster.note(format!("the turnip of h{} is killed", owner + 1));
    cluster.kill_daemon(owner)?;
    let next = cluster.wait_for_owner_among(|host| host != owner)?;
    wait_until_guests_know(&cluster, next)?;
    wait_until_guests_reach_the_outside(&cluster)?;
    a_lease_passes();
    cluster.release(owner)?;
    cluster.conclude(from, Outcome::failed_over().beside_a_silent_holder(owner))
}

#[test]
fn guests_learn_of_a_new_gateway_that_takes_over_in_an_orderly_way() -> Result<()> {
    let mut cluster = Cluster::start(Plan::gateway().with_lease(VERY_LONG_LEASE))?;
    let prober = probe_outside(cluster.network().client())?;
    limit_guests_to_announcements(&cluster)?;
    let from = cluster.note("pins");
    for host in [0, 1, 2] {
        cluster.pin("gateway", host)?;
        cluster.wait_for_owner_among(|owner| owner == host)?;
        wait_until_guests_know(&cluster, host)?;
        wait_for_outside(&cluster, &prober, Instant::now())?;
    }
    cluster.conclude(from, Outcome::moved())
}

#[test]
fn guests_reach_the_outside_while_the_gateways_hypervisor_is_cut_off() -> Result<()> {
    let mut cluster = Cluster::start(Plan::gateway())?;
    let owner = cluster.wait_for_owner()?;
    let probers = probe_outside_from_elsewhere(&cluster, owner)?;
    let from = cluster.note(format!("h{} is cut off", owner + 1));
    cluster.isolate(owner)?;
    cluster.wait_for_owner_among(|host| host != owner)?;
    for lookout in &probers {
        wait_for_outside(&cluster, lookout, Instant::now())?;
    }
    cluster.note("heal");
    cluster.heal()?;
    let last = cluster.wait_until_settled()?;
    wait_until_guests_reach_the_outside(&cluster)?;
    wait_until_guests_know(&cluster, last)?;
    assert_guests_gap_is_short(&cluster, &probers, from)?;
    cluster.conclude(from, Outcome::failed_over())
}
