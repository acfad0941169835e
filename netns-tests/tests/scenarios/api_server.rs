//! The first use-case: an API server's address on `lo`, hosts in separate networks, and BGP to the
//! router in front of them.

use std::thread::sleep;
use std::time::{Duration, Instant};

use anyhow::{Result, ensure};
use turnip_netns_tests::cluster::{Cluster, Outcome};
use turnip_netns_tests::measure::Span;
use turnip_netns_tests::network::Announcers;
use turnip_netns_tests::plan::Plan;

use crate::{UNHURRIED, a_lease_passes};

/// BGP's hold time in the lab, of 9 s, beside all that a failover takes.
const HOLD_TIME_AND_MORE: Duration = Duration::from_secs(19);

/// A withdrawal reaches the router in some milliseconds, over machines that stand still for a while.
const WITHDRAWAL_MAX: Duration = Duration::from_secs(1);

/// The lab's BFD misses three times 100 ms.
const DETECTION_MAX: Duration = Duration::from_millis(300).saturating_add(WITHDRAWAL_MAX);

const HOLD_TIME_MAX: Duration = Duration::from_secs(9).saturating_add(WITHDRAWAL_MAX);

/// The kernel's expiry of a killed holder's address, of which the router hears at once.
const LEASE_MAX: Duration = Duration::from_secs(3).saturating_add(WITHDRAWAL_MAX);

/// The holder is hit by `fault`, of which the router learns such that it has routes from two hosts
/// for `both_max` at most.
fn follows(
    plan: Plan,
    fault: impl Fn(&mut Cluster, usize) -> Result<()>,
    both_max: Duration,
    outcome: Outcome,
) -> Result<()> {
    let mut cluster = Cluster::start(plan)?;
    // Between equal routes the router prefers that of the lowest router id: the dead host's.
    cluster.pin("api", 0)?;
    let owner = cluster.wait_for_owner_among(|host| host == 0)?;
    let announcers = Announcers::watch(cluster.lab(), cluster.address())?;
    wait_for_route_from(&cluster, &announcers, owner)?;
    let from = cluster.note(format!("fault at h{}", owner + 1));
    fault(&mut cluster, owner)?;
    let next = cluster.wait_for_owner_among(|host| host != owner)?;
    wait_for_route_from(&cluster, &announcers, next)?;
    sleep(Duration::from_secs(1));
    assert_no_more_than(both_max, &announcers, from)?;
    cluster.conclude(from, outcome)
}

fn wait_for_route_from(cluster: &Cluster, announcers: &Announcers, host: usize) -> Result<()> {
    cluster.wait("the router hears of it from that host alone", || {
        Ok(announcers.now()? == [format!("session{host}")])
    })
}

/// Fails when the router had routes from two hosts for longer in all since `from`.
fn assert_no_more_than(max: Duration, announcers: &Announcers, from: Instant) -> Result<()> {
    let both = announcers.overlap(Span { from, to: Instant::now() })?;
    ensure!(both <= max, "two hosts announced it at once for {both:?}, more than {max:?}");
    Ok(())
}

#[test]
fn the_route_follows_the_address_from_a_host_that_loses_its_power() -> Result<()> {
    follows(Plan::api_server(true), Cluster::power_off, DETECTION_MAX, Outcome::failed_over())
}

#[test]
fn the_route_follows_the_address_from_a_host_that_is_cut_off() -> Result<()> {
    let cut = |cluster: &mut Cluster, owner| cluster.isolate(owner);
    follows(Plan::api_server(true), cut, DETECTION_MAX, Outcome::failed_over())
}

#[test]
fn the_route_follows_the_address_when_the_daemon_is_stopped() -> Result<()> {
    let plan = Plan::api_server(false).with_lease(UNHURRIED);
    follows(plan, Cluster::stop_daemon, WITHDRAWAL_MAX, Outcome::moved())
}

#[test]
fn the_route_follows_the_address_when_the_daemon_is_killed() -> Result<()> {
    let mut cluster = Cluster::start(Plan::api_server(true))?;
    let owner = cluster.wait_for_owner()?;
    let announcers = Announcers::watch(cluster.lab(), cluster.address())?;
    wait_for_route_from(&cluster, &announcers, owner)?;
    let from = cluster.note(format!("the turnip of h{} is killed", owner + 1));
    cluster.kill_daemon(owner)?;
    // Until the kernel's expiry of the dead holder's address, its route stands beside the new one.
    cluster.wait_for_owner_among(|host| host != owner)?;
    a_lease_passes();
    assert_no_more_than(LEASE_MAX, &announcers, from)?;
    cluster.release(owner)?;
    cluster.conclude(from, Outcome::failed_over().beside_a_silent_holder(owner))
}

#[test]
fn without_bfd_the_route_follows_when_bgps_hold_time_is_over() -> Result<()> {
    let outcome = Outcome::gap_at_most(HOLD_TIME_AND_MORE);
    follows(Plan::api_server(false), Cluster::power_off, HOLD_TIME_MAX, outcome)
}

#[test]
fn the_route_follows_the_address_when_it_is_moved_about() -> Result<()> {
    let mut cluster = Cluster::start(Plan::api_server(false).with_lease(UNHURRIED))?;
    let announcers = Announcers::watch(cluster.lab(), cluster.address())?;
    let from = Instant::now();
    for host in [0, 1, 2] {
        let pinned = cluster.note(format!("pin to h{}", host + 1));
        cluster.pin("api", host)?;
        cluster.wait_for_owner_among(|owner| owner == host)?;
        wait_for_route_from(&cluster, &announcers, host)?;
        assert_no_more_than(WITHDRAWAL_MAX, &announcers, pinned)?;
    }
    cluster.conclude(from, Outcome::moved())
}
