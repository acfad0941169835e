//! A VIP gets another name while its address stays, host by host.

use std::thread::sleep;
use std::time::Duration;

use anyhow::Result;
use turnip_netns_tests::cluster::{Cluster, Outcome};
use turnip_netns_tests::plan::Plan;

use crate::{VERY_LONG_LEASE, a_lease_passes};

const NEW_NAME: &str = "web";

/// The three hosts of a default cluster; this one starts first, so that it is the first to publish
/// that it has the VIP.
fn published_first_by(first: usize, lease: &str) -> Result<Cluster> {
    let mut cluster = Cluster::lay_out(Plan::default().with_lease(lease))?;
    cluster.start_daemon(first)?;
    cluster.wait_for_owner_among(|host| host == first)?;
    for host in (0..3).filter(|&host| host != first) {
        cluster.start_daemon(host)?;
    }
    Ok(cluster)
}

#[test]
fn a_renamed_vip_finds_an_owner_beside_a_drained_host_that_published_the_old_name_first()
-> Result<()> {
    let mut cluster = published_first_by(0, "3s")?;
    cluster.wait_until_settled()?;
    let from = cluster.note("h1 is drained, and the others have the VIP under another name");
    cluster.turnip(&["drain", "h1"])?;
    cluster.wait_for_owner_among(|host| host != 0)?;
    for host in [1, 2] {
        cluster.rename_vip(host, NEW_NAME);
        cluster.restart_daemon(host)?;
    }
    // For as long as h1 is drained, and not only until its turn to be renamed comes.
    cluster.wait_for_owner_among(|host| host != 0)?;
    a_lease_passes();
    cluster.wait_for_owner_among(|host| host != 0)?;
    cluster.conclude(from, Outcome::failed_over())
}

#[test]
fn a_rename_of_one_daemon_after_the_other_never_makes_two_holders() -> Result<()> {
    let mut cluster = published_first_by(2, VERY_LONG_LEASE)?;
    cluster.wait_until_settled()?;
    let from = cluster.note("each host has the VIP under another name, one after the other");
    for host in [0, 1, 2] {
        cluster.rename_vip(host, NEW_NAME);
        cluster.restart_daemon(host)?;
    }
    cluster.conclude(from, Outcome::failed_over())
}

/// Crashes make it hard: a process finds the address that an earlier one held under the
/// other name, and a request of that one may still be on its way to etcd.
#[test]
fn daemons_killed_in_the_middle_of_a_rename_never_make_two_holders() -> Result<()> {
    let mut cluster = published_first_by(2, "3s")?;
    let owner = cluster.wait_until_settled()?;
    let from = cluster.note("the holder is killed again and again, and has another name each time");
    // So that requests are on their way when their sender is killed.
    cluster.slow(owner, Duration::from_millis(60))?;
    for life_ms in [150, 250, 350, 500, 700, 1_000, 1_400, 2_000] {
        for name in [NEW_NAME, "api"] {
            cluster.kill_daemon(owner)?;
            cluster.rename_vip(owner, name);
            cluster.start_daemon(owner)?;
            sleep(Duration::from_millis(life_ms));
        }
    }
    cluster.note("heal");
    cluster.heal()?;
    a_lease_passes();
    cluster.wait_for_owner()?;
    let outcome = Outcome::gap_at_most(Duration::from_secs(60));
    cluster.conclude(from, outcome.beside_a_silent_holder(owner))
}
