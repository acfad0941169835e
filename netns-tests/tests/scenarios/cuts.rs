//! Partitions.

use std::ops::RangeInclusive;
use std::thread::sleep;
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use turnip_netns_tests::cluster::{Cluster, Outcome};
use turnip_netns_tests::etcd::{self, EtcdSettings};
use turnip_netns_tests::link_probe::LinkProbe;
use turnip_netns_tests::plan::{EtcdPlan, Plan};
use turnip_netns_tests::probe::{Probe, Transport};

use crate::{a_lease_passes, of_both_families};

pub const ALL: RangeInclusive<u32> = 95..=100;
const NONE: RangeInclusive<u32> = 0..=0;
/// Of a third that is lost, or of a link that is cut for half of the time.
const SOME: RangeInclusive<u32> = 40..=90;

/// Fails unless these percentages of what the client and a host have sent each other since the link
/// probe began arrived: a fault must hit what its name says, and nothing else.
pub fn assert_arrived(
    link: &LinkProbe,
    to_host: RangeInclusive<u32>,
    from_host: RangeInclusive<u32>,
) -> Result<()> {
    let arrived = link.arrived()?;
    let as_named = to_host.contains(&arrived.forward) && from_host.contains(&arrived.reverse);
    ensure!(as_named, "{arrived:?} percent, not {to_host:?} and {from_host:?}");
    Ok(())
}

/// Where etcd's leader is when the holder is hit.
#[derive(Clone, Copy)]
enum Leader {
    BesideTheHolder,
    Elsewhere,
}

/// The holder is hit by `fault`, in which the client reaches it and is reached by it as said:
/// another host assumes the address, and nobody ever shares it, not even when all is well again.
fn passes_on(
    leader: Leader,
    fault: impl Fn(&Cluster, usize) -> Result<()>,
    to_host: RangeInclusive<u32>,
    from_host: RangeInclusive<u32>,
) -> Result<()> {
    passes_on_with(of_both_families(), leader, fault, to_host, from_host)
}

fn passes_on_with(
    plan: Plan,
    leader: Leader,
    fault: impl Fn(&Cluster, usize) -> Result<()>,
    to_host: RangeInclusive<u32>,
    from_host: RangeInclusive<u32>,
) -> Result<()> {
    let mut cluster = Cluster::start(plan)?;
    let owner = cluster.wait_for_owner()?;
    cluster.lead_from(match leader {
        Leader::BesideTheHolder => owner,
        Leader::Elsewhere => (owner + 1) % 3,
    })?;
    let from = cluster.note(format!("fault at h{}", owner + 1));
    fault(&cluster, owner)?;
    let link = cluster.probe_link(owner)?;
    cluster.wait_for_owner_among(|host| host != owner)?;
    assert_arrived(&link, to_host, from_host)?;
    cluster.note("heal");
    cluster.heal()?;
    a_lease_passes();
    cluster.conclude(from, Outcome::failed_over())
}

#[test]
fn a_holder_cut_off_from_all_withdraws_before_another_assumes() -> Result<()> {
    passes_on(Leader::Elsewhere, Cluster::isolate, NONE, NONE)
}

#[test]
fn a_holder_cut_off_from_all_together_with_etcds_leader_withdraws_before_another_assumes()
-> Result<()> {
    passes_on(Leader::BesideTheHolder, Cluster::isolate, NONE, NONE)
}

#[test]
fn a_holder_cut_off_from_etcd_alone_withdraws_although_clients_still_reach_it() -> Result<()> {
    let plan = of_both_families().without_heartbeats();
    passes_on_with(plan, Leader::Elsewhere, Cluster::cut_from_store, ALL, ALL)
}

#[test]
fn a_holder_that_can_only_receive_withdraws_before_another_assumes() -> Result<()> {
    passes_on(Leader::Elsewhere, Cluster::cut_outgoing, ALL, NONE)
}

#[test]
fn a_holder_that_can_only_receive_and_leads_etcd_withdraws_before_another_assumes() -> Result<()> {
    passes_on(Leader::BesideTheHolder, Cluster::cut_outgoing, ALL, NONE)
}

#[test]
fn a_holder_that_can_only_send_withdraws_before_another_assumes() -> Result<()> {
    passes_on(Leader::Elsewhere, Cluster::cut_incoming, NONE, ALL)
}

#[test]
fn a_holder_that_can_only_send_and_leads_etcd_withdraws_before_another_assumes() -> Result<()> {
    // Its heartbeats still reach the others, who would never elect another if it did not resign.
    passes_on(Leader::BesideTheHolder, Cluster::cut_incoming, NONE, ALL)
}

#[test]
fn a_host_that_was_cut_off_gets_its_address_back_by_a_planned_move() -> Result<()> {
    let mut cluster = Cluster::start(Plan::default())?;
    // Where it has settled is where hashing puts it.
    let preferred = cluster.wait_for_owner()?;
    let from = cluster.note(format!("h{} is cut off", preferred + 1));
    cluster.isolate(preferred)?;
    cluster.wait_for_owner_among(|host| host != preferred)?;
    let healed = cluster.note("heal");
    cluster.heal()?;
    cluster.wait_for_owner_among(|host| host == preferred)?;
    cluster.check(healed, Outcome::moved())?;
    cluster.conclude(from, Outcome::failed_over())
}

#[test]
fn a_cut_between_the_holder_and_one_other_host_is_survived_by_way_of_the_third() -> Result<()> {
    let mut cluster = Cluster::start(Plan::default())?;
    let owner = cluster.wait_for_owner()?;
    // The leader is the host that both reach; and the holder asks the other one's member first.
    let (other, third) = ((owner + 1) % 3, (owner + 2) % 3);
    assert_eq!(other, 0, "daemons ask the first host's member first");
    cluster.lead_from(third)?;
    let from = cluster.note("cut between two");
    cluster.cut(owner, other)?;
    let side = |host| (cluster.host(host).namespace(), cluster.network().address(host));
    let between = LinkProbe::between(side(owner), side(other))?;
    let link = cluster.probe_link(owner)?;
    a_lease_passes();
    assert_arrived(&link, ALL, ALL)?;
    assert_arrived(&between, NONE, NONE)?;
    drop(between);
    cluster.check(from, Outcome::stayed_on(owner))?;
    cluster.wait_for_owner()?;
    cluster.heal()?;
    a_lease_passes();
    cluster.conclude(from, Outcome::failed_over())
}

#[test]
fn a_host_without_the_address_that_is_cut_off_and_healed_disturbs_nobody() -> Result<()> {
    // Else a member of etcd 3.4 that comes back deposes the leader: another scenario, as is the
    // loss of the leader itself.
    let etcd = EtcdSettings { arguments: vec!["--pre-vote".into()], ..EtcdSettings::default() };
    let mut cluster = Cluster::start(Plan { etcd: EtcdPlan::OnHosts(etcd), ..Plan::default() })?;
    let owner = cluster.wait_for_owner()?;
    let leader = etcd::wait_for_leader(&cluster.members)?;
    let other = (0..3).find(|&host| host != owner && host != leader).unwrap_or((owner + 1) % 3);
    let from = cluster.note("a bystander is cut off");
    cluster.isolate(other)?;
    a_lease_passes();
    cluster.heal()?;
    a_lease_passes();
    cluster.conclude(from, Outcome::stayed_on(owner))
}

fn a_lossy_link_is_safe(duration: Duration) -> Result<()> {
    let mut cluster = Cluster::start(Plan::default())?;
    let owner = cluster.wait_for_owner()?;
    let from = cluster.note("every third frame is lost");
    cluster.lose(owner, 33)?;
    let link = cluster.probe_link(owner)?;
    sleep(duration);
    assert_arrived(&link, SOME, SOME)?;
    cluster.heal()?;
    a_lease_passes();
    cluster.conclude(from, Outcome::failed_over())
}

#[test]
fn a_lossy_link_of_the_holder_never_makes_two_holders() -> Result<()> {
    a_lossy_link_is_safe(Duration::from_secs(8))
}

#[test]
#[ignore = "slow: ci/test --all"]
fn a_link_of_the_holder_that_is_lossy_for_long_never_makes_two_holders() -> Result<()> {
    a_lossy_link_is_safe(Duration::from_secs(40))
}

fn a_flapping_link_is_safe(flaps: usize) -> Result<()> {
    let mut cluster = Cluster::start(Plan::default())?;
    let owner = cluster.wait_for_owner()?;
    let from = cluster.note("flapping");
    let link = cluster.probe_link(owner)?;
    for _ in 0..flaps {
        cluster.isolate(owner)?;
        sleep(Duration::from_secs(1));
        cluster.heal()?;
        sleep(Duration::from_secs(1));
    }
    assert_arrived(&link, SOME, SOME)?;
    a_lease_passes();
    cluster.conclude(from, Outcome::failed_over())
}

#[test]
fn a_cut_that_comes_and_goes_every_second_never_makes_two_holders() -> Result<()> {
    a_flapping_link_is_safe(4)
}

#[test]
#[ignore = "slow: ci/test --all"]
fn a_cut_that_comes_and_goes_for_long_never_makes_two_holders() -> Result<()> {
    a_flapping_link_is_safe(15)
}

#[test]
fn a_holder_with_a_slow_link_keeps_the_address_and_a_very_slow_one_never_makes_two_holders()
-> Result<()> {
    let mut cluster = Cluster::start(Plan::default())?;
    let owner = cluster.wait_for_owner()?;
    // A client that connects gives up after 100 ms, and its answer takes two round trips.
    let delay = Duration::from_millis(15);
    let from = cluster.note(format!("{delay:?} each way"));
    cluster.slow(owner, delay)?;
    a_lease_passes();
    assert_eq!(cluster.wait_for_owner()?, owner, "{}", cluster.logs());
    let last = cluster.client_probes(Transport::Udp).into_iter().rev().find(Probe::answered);
    let (probe, answer) =
        last.and_then(|probe| Some((probe.sent, probe.answer?.0))).context("none")?;
    assert!(answer.duration_since(probe) >= delay * 2, "the link is not slow");
    cluster.check(from, Outcome::stayed_on(owner))?;
    cluster.note("700 ms each way");
    cluster.slow(owner, Duration::from_millis(700))?;
    a_lease_passes();
    a_lease_passes();
    // Until now the client had given up before an answer could come.
    let healed = cluster.note("heal");
    cluster.heal()?;
    a_lease_passes();
    cluster.conclude(from, Outcome::failed_over().since(healed))
}
