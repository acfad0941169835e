//! Hosts that hear each other need no store to go on (rule 10).

use std::thread::sleep;
use std::time::{Duration, Instant};

use anyhow::Result;
use turnip_netns_tests::cluster::{Cluster, Outcome};
use turnip_netns_tests::plan::Plan;

use crate::{a_lease_passes, of_both_families};

/// A cluster whose hosts hear each other, and the owner.
fn that_hear_each_other(plan: Plan) -> Result<(Cluster, usize)> {
    let cluster = Cluster::start(plan)?;
    let owner = cluster.wait_for_owner()?;
    cluster.wait_until_sessions_list_all_others()?;
    // A heartbeat of each has been acknowledged by all by then.
    a_lease_passes();
    Ok((cluster, owner))
}

/// etcd is still for so long.
fn freeze_etcd_for(cluster: &Cluster, duration: Duration) -> Result<Instant> {
    let from = cluster.note(format!("all of etcd's members are frozen for {duration:?}"));
    cluster.freeze_etcd()?;
    sleep(duration);
    cluster.note("they go on");
    cluster.thaw_etcd()?;
    Ok(from)
}

#[test]
fn etcd_still_for_a_minute_moves_nothing_and_takes_nothing_away() -> Result<()> {
    let (mut cluster, owner) = that_hear_each_other(of_both_families())?;
    let from = freeze_etcd_for(&cluster, Duration::from_secs(60))?;
    a_lease_passes();
    cluster.conclude(from, Outcome::stayed_on(owner))
}

#[test]
fn with_the_heartbeats_port_closed_the_address_is_away_while_etcd_is_still() -> Result<()> {
    let (mut cluster, _) = that_hear_each_other(of_both_families())?;
    cluster.note("a firewall closes the port of heartbeats between all hosts");
    (0..cluster.size()).try_for_each(|host| cluster.cut_heartbeats(host))?;
    a_lease_passes();
    let from = cluster.note("all of etcd's members are frozen");
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
