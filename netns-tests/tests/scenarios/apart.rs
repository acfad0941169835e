//! etcd on hosts of its own.

use std::time::Duration;

use anyhow::Result;
use turnip_netns_tests::cluster::{Cluster, Outcome};
use turnip_netns_tests::etcd::{self, EtcdSettings};
use turnip_netns_tests::plan::{EtcdPlan, Plan};

use crate::cuts::{ALL, assert_arrived};
use crate::store::{
    leader_status, quick_elections, survives_the_death_of_the_leader, wait_for_successor,
};
use crate::{
    a_lease_passes, a_long_lease_passes, of_both_families, with_a_long_lease, with_settings,
};

/// Three members apart, of which the first leads: that which all daemons ask first.
fn led_by_whom_all_ask(settings: EtcdSettings) -> Result<(Cluster, usize, usize)> {
    let etcd = EtcdPlan::Apart(3, settings);
    let vips = of_both_families().vips;
    let cluster = Cluster::start(Plan { etcd, vips, ..with_settings(with_a_long_lease()) })?;
    let owner = cluster.wait_for_owner()?;
    cluster.lead_from(0)?;
    Ok((cluster, owner, 0))
}

#[test]
fn etcd_on_hosts_of_its_own_serves_as_well() -> Result<()> {
    let etcd = EtcdPlan::Apart(3, EtcdSettings::default());
    let plan = Plan { etcd, ..Plan::default() }.without_heartbeats();
    let mut cluster = Cluster::start(plan)?;
    let owner = cluster.wait_for_owner()?;
    let from = cluster.note("the holder is cut off from etcd");
    cluster.cut_from_store(owner)?;
    cluster.wait_for_owner_among(|host| host != owner)?;
    cluster.heal()?;
    a_lease_passes();
    cluster.conclude(from, Outcome::failed_over())
}

#[test]
fn the_death_of_the_leader_of_an_etcd_on_hosts_of_its_own_moves_nothing() -> Result<()> {
    survives_the_death_of_the_leader(led_by_whom_all_ask(quick_elections())?)
}

/// etcd's leader is hit by `fault`, which the daemons do not share: another leads, the address stays,
/// and nobody ever shares it, not even when all is well again.
fn moves_nothing(
    fault: impl Fn(&mut Cluster, usize) -> Result<()>,
    end: impl Fn(&mut Cluster, usize) -> Result<()>,
) -> Result<()> {
    let (mut cluster, owner, leader) = led_by_whom_all_ask(quick_elections())?;
    let term = leader_status(&cluster)?.term;
    let from = cluster.note(format!("fault at etcd's leader e{}", leader + 1));
    fault(&mut cluster, leader)?;
    wait_for_successor(&cluster, leader, term)?;
    a_long_lease_passes();
    cluster.check(from, Outcome::stayed_on(owner))?;
    cluster.note("it ends");
    end(&mut cluster, leader)?;
    a_long_lease_passes();
    cluster.conclude(from, Outcome::stayed_on(owner))
}

fn heal(cluster: &mut Cluster, _: usize) -> Result<()> {
    cluster.heal()
}

#[test]
fn a_leader_of_etcd_apart_that_is_cut_off_from_its_peers_alone_moves_nothing() -> Result<()> {
    let cut = |cluster: &mut Cluster, leader| {
        cluster.cut_member_from_peers(leader)?;
        // All daemons go on to talk to it, and it does not know yet that it leads nobody.
        let link = cluster.probe_link_to_member(leader)?;
        std::thread::sleep(Duration::from_secs(1));
        assert_arrived(&link, ALL, ALL)
    };
    moves_nothing(cut, heal)
}

#[test]
#[ignore = "slow: ci/test --all"]
fn a_leader_of_etcd_apart_that_is_cut_off_from_all_moves_nothing() -> Result<()> {
    moves_nothing(|cluster, leader| cluster.isolate_member(leader), heal)
}

#[test]
#[ignore = "slow: ci/test --all"]
fn a_leader_of_etcd_apart_that_can_only_receive_moves_nothing() -> Result<()> {
    moves_nothing(|cluster, leader| cluster.cut_outgoing_of_member(leader), heal)
}

#[test]
fn a_leader_of_etcd_apart_that_loses_its_power_moves_nothing() -> Result<()> {
    moves_nothing(Cluster::power_off_member, Cluster::power_on_member)
}

#[test]
fn a_slow_link_of_the_leader_of_an_etcd_apart_moves_nothing() -> Result<()> {
    let (mut cluster, owner, leader) = led_by_whom_all_ask(EtcdSettings::default())?;
    let delay = Duration::from_millis(100);
    let from = cluster.note(format!("etcd's leader is {delay:?} away from all"));
    cluster.slow_member(leader, delay)?;
    // It may have lost its leadership because heartbeats were suddenly late.
    cluster.lead_from(leader)?;
    a_long_lease_passes();
    // A busy machine is slow now and then, a slow link always.
    for _ in 0..5 {
        let taken = cluster.members[leader].time_to_commit()?;
        assert!(taken >= delay * 2, "a commit by way of it took {taken:?} only");
    }
    assert_eq!(etcd::wait_for_leader(&cluster.members)?, leader, "another leads");
    cluster.check(from, Outcome::stayed_on(owner))?;
    cluster.heal()?;
    cluster.conclude(from, Outcome::stayed_on(owner))
}

#[test]
fn without_a_quorum_of_an_etcd_apart_the_address_is_withdrawn_until_there_is_one() -> Result<()> {
    let etcd = EtcdPlan::Apart(3, EtcdSettings::default());
    let plan = Plan { etcd, ..of_both_families() }.without_heartbeats();
    let mut cluster = Cluster::start(plan)?;
    let leader = etcd::wait_for_leader(&cluster.members)?;
    let from = cluster.note("etcd's leader and another member lose their power");
    for member in [leader, (leader + 1) % 3] {
        cluster.power_off_member(member)?;
    }
    cluster.wait("nobody has the address", || cluster.nobody_has_it())?;
    a_lease_passes();
    assert!(cluster.nobody_has_it()?, "it came back without a quorum: {}", cluster.logs());
    let back = cluster.note("the leader is back");
    cluster.power_on_member(leader)?;
    cluster.wait_for_owner()?;
    cluster.power_on_member((leader + 1) % 3)?;
    a_lease_passes();
    cluster.conclude(from, Outcome::failed_over().since(back))
}
