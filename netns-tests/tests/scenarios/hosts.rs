//! Hosts that lose their power, clusters of other sizes, addresses of other families.

use std::time::Duration;

use anyhow::Result;
use turnip_netns_tests::cluster::{Cluster, Outcome};
use turnip_netns_tests::daemon::TurnipSettings;
use turnip_netns_tests::etcd;
use turnip_netns_tests::plan::{Plan, vip};

use crate::{
    a_lease_passes, a_long_lease_passes, of_both_families, with_a_long_lease, with_settings,
};

/// etcd and turnip start, elect a leader, and wait until a lease from before may be over.
const BOOT_MAX: Duration = Duration::from_secs(20);

/// The holder loses its power and comes back: somebody else takes over meanwhile, and nobody ever
/// shares the address.
fn survives_a_power_failure(plan: Plan) -> Result<()> {
    let mut cluster = Cluster::start(plan)?;
    let owner = cluster.wait_for_owner()?;
    let from = cluster.note(format!("h{} loses its power", owner + 1));
    cluster.power_off(owner)?;
    cluster.wait_for_owner_among(|host| host != owner)?;
    cluster.note("it is back");
    cluster.power_on(owner)?;
    a_lease_passes();
    cluster.conclude(from, Outcome::failed_over())
}

#[test]
fn a_holder_that_loses_its_power_is_replaced_and_may_come_back() -> Result<()> {
    survives_a_power_failure(Plan::default())
}

#[test]
#[ignore = "slow: ci/test --all"]
fn five_hosts_replace_a_holder_that_loses_its_power() -> Result<()> {
    survives_a_power_failure(Plan { hosts: 5, ..Plan::default() })
}

#[test]
fn five_hosts_bear_the_loss_of_two() -> Result<()> {
    let mut cluster = Cluster::start(Plan { hosts: 5, ..of_both_families() })?;
    let owner = cluster.wait_for_owner()?;
    let other = (owner + 1) % 5;
    let from = cluster.note(format!("h{} and h{} are cut off", owner + 1, other + 1));
    cluster.isolate(owner)?;
    cluster.isolate(other)?;
    cluster.wait_for_owner_among(|host| host != owner && host != other)?;
    cluster.note("heal");
    cluster.heal()?;
    a_lease_passes();
    cluster.conclude(from, Outcome::failed_over())
}

#[test]
fn five_hosts_of_which_two_have_no_power_have_the_address_until_a_third_loses_it_too() -> Result<()>
{
    let mut cluster = Cluster::start(Plan { hosts: 5, ..of_both_families() })?;
    let owner = cluster.wait_for_owner()?;
    let gone = [0, 1, 2].map(|after| (owner + after) % 5);
    let from = cluster.note(format!("h{} and h{} lose their power", gone[0] + 1, gone[1] + 1));
    for host in &gone[..2] {
        cluster.power_off(*host)?;
    }
    cluster.wait_for_owner_among(|host| !gone[..2].contains(&host))?;
    cluster.check(from, Outcome::failed_over())?;
    cluster.note(format!("h{} too", gone[2] + 1));
    cluster.power_off(gone[2])?;
    cluster.wait("nobody has the address", || cluster.nobody_has_it())?;
    a_lease_passes();
    assert!(cluster.nobody_has_it()?, "two of five have it: {}", cluster.logs());
    let back = cluster.note(format!("h{} is back", gone[2] + 1));
    cluster.power_on(gone[2])?;
    cluster.wait_for_owner()?;
    for host in &gone[..2] {
        cluster.power_on(*host)?;
    }
    a_lease_passes();
    cluster.conclude(from, Outcome::gap_at_most(BOOT_MAX).since(back))
}

#[test]
fn an_ipv6_address_survives_a_power_failure() -> Result<()> {
    let vips = vec![vip("api", &["fd77::100/64"])];
    survives_a_power_failure(Plan { vips, ..Plan::default() })
}

#[test]
fn a_vip_of_both_families_survives_a_power_failure() -> Result<()> {
    survives_a_power_failure(of_both_families())
}

#[test]
fn the_originals_four_variables_survive_a_power_failure() -> Result<()> {
    survives_a_power_failure(with_settings(TurnipSettings {
        by_variables: true,
        ..TurnipSettings::default()
    }))
}

#[test]
fn a_cluster_of_one_host_has_the_address_and_gives_it_up_when_stopped() -> Result<()> {
    let mut cluster = Cluster::start(Plan { hosts: 1, ..Plan::default() })?;
    let from = cluster.note("nothing happens");
    a_lease_passes();
    cluster.conclude(from, Outcome::stayed_on(0))
}

#[test]
fn a_cluster_of_one_host_gives_the_address_up_while_its_etcd_is_away_for_long() -> Result<()> {
    let mut cluster = Cluster::start(Plan { hosts: 1, ..of_both_families() })?;
    let from = cluster.note("its etcd is stopped");
    cluster.members[0].stop()?;
    cluster.wait("nobody has the address", || cluster.nobody_has_it())?;
    a_lease_passes();
    assert!(cluster.nobody_has_it()?, "it came back without etcd: {}", cluster.logs());
    let back = cluster.note("it is started");
    cluster.members[0].start()?;
    cluster.wait_for_owner()?;
    cluster.conclude(from, Outcome::failed_over().since(back))
}

#[test]
fn a_cluster_of_one_host_has_the_address_again_after_every_restart() -> Result<()> {
    let mut cluster = Cluster::start(Plan { hosts: 1, ..with_settings(with_a_long_lease()) })?;
    let from = cluster.note("its turnip is killed and started");
    cluster.kill_daemon(0)?;
    cluster.start_daemon(0)?;
    a_long_lease_passes();
    cluster.check(from, Outcome::stayed_on(0))?;
    cluster.note("its etcd is restarted");
    cluster.members[0].restart()?;
    a_lease_passes();
    cluster.wait_for_owner()?;
    cluster.check(from, Outcome::failed_over())?;
    cluster.note("it loses its power");
    cluster.power_off(0)?;
    let back = cluster.note("it is back");
    cluster.power_on(0)?;
    cluster.wait_for_owner()?;
    cluster.conclude(from, Outcome::gap_at_most(BOOT_MAX).since(back))
}

#[test]
fn a_cluster_that_is_powered_off_and_on_again_as_a_whole_finds_one_holder() -> Result<()> {
    let mut cluster = Cluster::start(of_both_families())?;
    let from = cluster.note("all hosts lose their power");
    for host in 0..3 {
        cluster.power_off(host)?;
    }
    let back = cluster.note("all are back");
    for host in 0..3 {
        cluster.power_on(host)?;
    }
    etcd::wait_for_leader(&cluster.members)?;
    cluster.wait_for_owner()?;
    a_lease_passes();
    cluster.conclude(from, Outcome::gap_at_most(BOOT_MAX).since(back))
}

#[test]
fn a_hundred_addresses_move_from_a_host_that_loses_its_power() -> Result<()> {
    let vips = (0..100).map(|n| vip(&format!("v{n}"), &[&format!("10.77.1.{n}/32")])).collect();
    let mut cluster = Cluster::start(Plan { vips, ..Plan::default() })?;
    a_lease_passes();
    let from = cluster.note("the first host loses its power");
    cluster.power_off(0)?;
    cluster.wait("every address is on one living host", || {
        let events = cluster.address_monitor().events_by_address()?;
        let vips = &cluster.plan().vips;
        Ok(vips.iter().all(|vip| {
            let events = events.get(&vip.addresses[0].addr()).map_or(&[][..], Vec::as_slice);
            turnip_netns_tests::address_event::holders(events).len() == 1
        }))
    })?;
    cluster.conclude(from, Outcome::failed_over())
}
