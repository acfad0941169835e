//! etcd and turnip are upgraded, while hosts hear each other or until they do.

use std::thread::sleep;
use std::time::{Duration, Instant};

use anyhow::{Result, ensure};
use turnip_netns_tests::cluster::{Cluster, Outcome};
use turnip_netns_tests::etcd::{self, EtcdSettings};
use turnip_netns_tests::plan::{EtcdPlan, Plan};

use crate::heartbeats::{LONG, freeze_etcd_for, listed, that_hear_each_other};
use crate::{VERY_LONG_LEASE, a_lease_passes, of_both_families};

/// As [`LONG`], with the lease of [`VERY_LONG_LEASE`].
const VERY_LONG: Duration = Duration::from_secs(25);

/// A cluster on etcd 3.4, its owner, and the etcd 3.5 to upgrade to.
fn on_etcd_3_4() -> Result<(Cluster, usize, String)> {
    let newer = etcd::newer()?;
    let settings = EtcdSettings { program: Some(etcd::older()), ..EtcdSettings::default() };
    let plan = Plan { etcd: EtcdPlan::OnHosts(settings), ..of_both_families() };
    let (cluster, owner) = that_hear_each_other(plan)?;
    ensure_version(&cluster, "3.4.")?;
    Ok((cluster, owner, newer))
}

/// Fails unless all members are etcds of this version.
fn ensure_version(cluster: &Cluster, version: &str) -> Result<()> {
    for member in &cluster.members {
        let found = member.version()?;
        ensure!(found.starts_with(version), "etcd {} is {found}, not {version}", member.name());
    }
    Ok(())
}

#[test]
fn an_etcd_that_is_upgraded_member_by_member_costs_nothing() -> Result<()> {
    let (mut cluster, owner, newer) = on_etcd_3_4()?;
    let leader = etcd::wait_for_leader(&cluster.members)?;
    let from = cluster.note("etcd is upgraded member by member, its leader last");
    for member in [leader + 1, leader + 2, leader].map(|member| member % 3) {
        cluster.note(format!("etcd {}", cluster.members[member].name()));
        cluster.members[member].install(&newer);
        cluster.members[member].restart()?;
        etcd::wait_for_leader(&cluster.members)?;
        // As somebody does who looks after each.
        sleep(Duration::from_secs(2));
    }
    ensure_version(&cluster, "3.5.")?;
    a_lease_passes();
    cluster.conclude(from, Outcome::stayed_on(owner))
}

#[test]
fn an_etcd_whose_members_are_all_upgraded_at_once_costs_nothing() -> Result<()> {
    let (mut cluster, owner, newer) = on_etcd_3_4()?;
    let from = cluster.note("all of etcd's members are stopped, and upgraded");
    cluster.stop_etcd()?;
    cluster.members.iter_mut().for_each(|member| member.install(&newer));
    sleep(LONG);
    cluster.note("they are started");
    cluster.start_etcd()?;
    etcd::wait_for_leader(&cluster.members)?;
    ensure_version(&cluster, "3.5.")?;
    a_lease_passes();
    cluster.conclude(from, Outcome::stayed_on(owner))
}

/// Fails when a session lists anybody within a lease.
fn ensure_nobody_lists(cluster: &Cluster) -> Result<()> {
    let from = Instant::now();
    while from.elapsed() < Duration::from_secs(5) {
        let listed = listed(cluster)?;
        ensure!(listed == [Some(0); 3], "sessions list {listed:?} others: {}", cluster.logs());
        sleep(Duration::from_millis(250));
    }
    Ok(())
}

/// A cluster whose hosts run the released turnip, with a lease of 10 s, and its owner.
fn of_the_released_turnip() -> Result<(Cluster, usize)> {
    let mut cluster = Cluster::lay_out(Plan::default().with_lease(VERY_LONG_LEASE))?;
    for host in cluster.plan().in_order_of_start() {
        cluster.install_released_daemon(host)?;
        cluster.start_daemon(host)?;
    }
    let owner = cluster.wait_until_settled()?;
    Ok((cluster, owner))
}

#[test]
#[ignore = "builds the released turnip: ci/test --all"]
fn hosts_that_are_upgraded_one_after_the_other_hear_each_other_once_all_are() -> Result<()> {
    let (mut cluster, owner) = of_the_released_turnip()?;
    let from = cluster.note("the hosts are upgraded, the holder last");
    for host in [owner + 1, owner + 2, owner].map(|host| host % 3) {
        ensure_nobody_lists(&cluster)?;
        cluster.note(format!("h{}", host + 1));
        let old = cluster.daemon_program(host)?;
        cluster.install_daemon(host)?;
        cluster.restart_daemon(host)?;
        assert_ne!(cluster.daemon_program(host)?, old, "h{} runs the old turnip", host + 1);
    }
    cluster.wait_until_sessions_list_all_others()?;
    let owner = cluster.wait_until_settled()?;
    cluster.check(from, Outcome::moved())?;
    a_lease_passes();
    let frozen = freeze_etcd_for(&cluster, VERY_LONG)?;
    a_lease_passes();
    cluster.conclude(frozen, Outcome::stayed_on(owner))
}

/// A daemon that is killed and started within its lease goes on, and so does the next version's.
#[test]
#[ignore = "builds the released turnip: ci/test --all"]
fn hosts_that_are_upgraded_by_a_kill_keep_the_address_and_hear_each_other_once_all_are()
-> Result<()> {
    let (mut cluster, owner) = of_the_released_turnip()?;
    let from = cluster.note("the hosts are upgraded by a kill, the holder last");
    for host in [owner + 1, owner + 2, owner].map(|host| host % 3) {
        ensure_nobody_lists(&cluster)?;
        cluster.note(format!("h{}", host + 1));
        cluster.install_daemon(host)?;
        cluster.kill_daemon(host)?;
        cluster.start_daemon(host)?;
    }
    cluster.wait_until_sessions_list_all_others()?;
    a_lease_passes();
    freeze_etcd_for(&cluster, VERY_LONG)?;
    a_lease_passes();
    cluster.conclude(from, Outcome::stayed_on(owner))
}

/// It does not know what its session says by now, and leaves it to the others.
#[test]
#[ignore = "builds the released turnip: ci/test --all"]
fn a_holder_that_is_killed_and_goes_back_to_the_released_turnip_waits_until_it_is_expired()
-> Result<()> {
    let (mut cluster, owner) = that_hear_each_other(of_both_families())?;
    let from = cluster.note("the holder is killed, and goes back to the released turnip");
    cluster.kill_daemon(owner)?;
    cluster.install_released_daemon(owner)?;
    cluster.start_daemon(owner)?;
    let status = cluster.daemon(owner)?.wait(Duration::from_secs(20))?;
    let said = cluster.daemon(owner)?.log_text();
    ensure!(!status.success() && said.contains("this turnip reads version 1"), "{status}: {said}");
    cluster.wait_for_owner_among(|host| host != owner)?;
    cluster.note("it is started again, as by systemd");
    cluster.start_daemon(owner)?;
    for host in 0..3 {
        cluster.wait_until_session_lists(host, 0)?;
    }
    cluster.conclude(from, Outcome::failed_over())
}

#[test]
#[ignore = "builds the released turnip: ci/test --all"]
fn while_one_host_runs_the_released_turnip_addresses_do_not_outlive_etcd() -> Result<()> {
    let (mut cluster, owner) = that_hear_each_other(of_both_families())?;
    let from = cluster.note("a bystander goes back to the released turnip");
    let older = (owner + 1) % 3;
    cluster.install_released_daemon(older)?;
    cluster.restart_daemon(older)?;
    for host in 0..3 {
        cluster.wait_until_session_lists(host, 0)?;
    }
    ensure_nobody_lists(&cluster)?;
    cluster.check(from, Outcome::stayed_on(owner))?;
    cluster.note("all of etcd's members are frozen");
    cluster.freeze_etcd()?;
    cluster.wait("nobody has the address", || cluster.nobody_has_it())?;
    a_lease_passes();
    assert!(cluster.nobody_has_it()?, "it came back without etcd: {}", cluster.logs());
    let back = cluster.note("they go on");
    cluster.thaw_etcd()?;
    cluster.wait_for_owner()?;
    a_lease_passes();
    cluster.conclude(from, Outcome::failed_over().since(back))
}
