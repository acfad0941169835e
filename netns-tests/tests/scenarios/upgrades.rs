//! etcd is upgraded while hosts hear each other.

use std::thread::sleep;
use std::time::Duration;

use anyhow::{Result, ensure};
use turnip_netns_tests::cluster::{Cluster, Outcome};
use turnip_netns_tests::etcd::{self, EtcdSettings};
use turnip_netns_tests::plan::{EtcdPlan, Plan};

use crate::heartbeats::{LONG, that_hear_each_other};
use crate::{a_lease_passes, of_both_families};

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
