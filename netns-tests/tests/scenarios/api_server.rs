//! The first use-case: an API server's address on `lo`, hosts in separate networks, and BGP to the
//! router in front of them.

use std::ops::RangeInclusive;
use std::thread::sleep;
use std::time::{Duration, Instant};

use anyhow::{Result, ensure};
use turnip_netns_tests::cluster::{Cluster, Outcome};
use turnip_netns_tests::daemon::Policy;
use turnip_netns_tests::measure::Span;
use turnip_netns_tests::network::RouteMonitor;
use turnip_netns_tests::plan::Plan;

use crate::{VERY_LONG_LEASE, a_lease_passes};

/// BGP's hold time in the lab, of 9 s, beside all that a failover takes.
const HOLD_TIME_AND_MORE: Duration = Duration::from_secs(19);

/// A withdrawal reaches the router in some milliseconds, also when the machine stops for a moment.
const WITHDRAWAL_MAX: Duration = Duration::from_secs(1);

/// The lab's BFD misses three times 100 ms.
const DETECTION_MAX: Duration = Duration::from_millis(300).saturating_add(WITHDRAWAL_MAX);

/// A client's gap where the router learns by BFD that the holder is gone: a lease, a second more, and
/// a busy machine that stops for one.
const WITH_BFD_MAX: Duration = Duration::from_secs(5);

/// Two hosts announce it from the successor's claim, a lease after the fault, to the hold time's end, which
/// counts from the last keepalive, each third of it.
const KEPT_MIN: Duration = Duration::from_secs(1);

const HOLD_TIME_MAX: Duration = Duration::from_secs(9).saturating_add(WITHDRAWAL_MAX);

/// The kernel's expiry of a killed holder's address, which the router is informed of at once.
const LEASE_MAX: Duration = Duration::from_secs(3).saturating_add(WITHDRAWAL_MAX);

/// What the holder is hit by, and how it ends.
struct Trial {
    plan: Plan,
    fault: fn(&mut Cluster, usize) -> Result<()>,
    end: fn(&mut Cluster, usize) -> Result<()>,
    /// How long the router has routes from two hosts.
    both: RangeInclusive<Duration>,
    outcome: Outcome,
}

/// The holder is hit, and comes back: the route is from whoever has the address.
fn follows(Trial { plan, fault, end, both, outcome }: Trial) -> Result<()> {
    // Between equal routes the router prefers that of the lowest router id: the dead host's. Without
    // preemption it has the address because it is the first to start, and does not take it back.
    let mut cluster = Cluster::lay_out(plan.with_policy(Policy::Priority { preempt: false }))?;
    cluster.start_daemon(0)?;
    let owner = cluster.wait_for_owner()?;
    for host in 1..cluster.size() {
        cluster.start_daemon(host)?;
    }
    cluster.wait_until_settled()?;
    let routes = RouteMonitor::watch(cluster.lab(), cluster.address())?;
    wait_for_route_from(&cluster, &routes, owner)?;
    // An election of etcd's is not the router's.
    cluster.lead_from(1)?;
    let from = cluster.note(format!("fault at h{}", owner + 1));
    fault(&mut cluster, owner)?;
    let next = cluster.wait_for_owner_among(|host| host != owner)?;
    wait_for_route_from(&cluster, &routes, next)?;
    sleep(Duration::from_secs(1));
    assert_both(both, &routes, from)?;
    let back = cluster.note(format!("h{} is back", owner + 1));
    end(&mut cluster, owner)?;
    a_lease_passes();
    wait_for_route_from(&cluster, &routes, next)?;
    assert_both(Duration::ZERO..=WITHDRAWAL_MAX, &routes, back)?;
    cluster.conclude(from, outcome)
}

fn wait_for_route_from(cluster: &Cluster, routes: &RouteMonitor, host: usize) -> Result<()> {
    cluster.wait("the router has a route to it from that host alone", || {
        Ok(routes.now()? == [format!("session{host}")])
    })
}

/// Fails unless the router had routes from two hosts for so long in all since `from`.
fn assert_both(
    expected: RangeInclusive<Duration>,
    routes: &RouteMonitor,
    from: Instant,
) -> Result<()> {
    let both = routes.overlap(Span { from, to: Instant::now() })?;
    let as_expected = expected.contains(&both);
    ensure!(as_expected, "two hosts announced it at once for {both:?}, not {expected:?}");
    Ok(())
}

fn heal(cluster: &mut Cluster, _: usize) -> Result<()> {
    cluster.heal()
}

#[test]
fn the_route_follows_the_address_from_a_host_that_loses_its_power() -> Result<()> {
    follows(Trial {
        plan: Plan::api_server(true),
        fault: Cluster::power_off,
        end: Cluster::power_on,
        both: Duration::ZERO..=DETECTION_MAX,
        outcome: Outcome::gap_at_most(WITH_BFD_MAX),
    })
}

#[test]
fn the_route_follows_the_address_from_a_host_that_is_cut_off() -> Result<()> {
    follows(Trial {
        plan: Plan::api_server(true),
        fault: |cluster, owner| cluster.isolate(owner),
        end: heal,
        both: Duration::ZERO..=DETECTION_MAX,
        outcome: Outcome::gap_at_most(WITH_BFD_MAX),
    })
}

#[test]
fn the_route_follows_the_address_when_the_daemon_is_stopped() -> Result<()> {
    follows(Trial {
        plan: Plan::api_server(false).with_lease(VERY_LONG_LEASE),
        fault: Cluster::stop_daemon,
        end: Cluster::start_daemon,
        both: Duration::ZERO..=WITHDRAWAL_MAX,
        outcome: Outcome::moved(),
    })
}

#[test]
fn the_route_follows_the_address_when_the_daemon_is_killed() -> Result<()> {
    let mut cluster = Cluster::start(Plan::api_server(true))?;
    let owner = cluster.wait_for_owner()?;
    let routes = RouteMonitor::watch(cluster.lab(), cluster.address())?;
    wait_for_route_from(&cluster, &routes, owner)?;
    let from = cluster.note(format!("the turnip of h{} is killed", owner + 1));
    cluster.kill_daemon(owner)?;
    // Until the kernel's expiry of the dead holder's address, its route is there beside the new one.
    cluster.wait_for_owner_among(|host| host != owner)?;
    a_lease_passes();
    assert_both(Duration::ZERO..=LEASE_MAX, &routes, from)?;
    cluster.release(owner)?;
    cluster.conclude(from, Outcome::failed_over().beside_a_silent_holder(owner))
}

#[test]
fn without_bfd_the_route_follows_when_bgps_hold_time_is_over() -> Result<()> {
    follows(Trial {
        plan: Plan::api_server(false),
        fault: Cluster::power_off,
        end: Cluster::power_on,
        // It keeps the dead host's route, whatever anybody does.
        both: KEPT_MIN..=HOLD_TIME_MAX,
        outcome: Outcome::gap_at_most(HOLD_TIME_AND_MORE),
    })
}

#[test]
fn the_route_follows_the_address_when_it_is_moved_about() -> Result<()> {
    let mut cluster = Cluster::start(Plan::api_server(false).with_lease(VERY_LONG_LEASE))?;
    let routes = RouteMonitor::watch(cluster.lab(), cluster.address())?;
    let from = Instant::now();
    for host in [0, 1, 2] {
        let pinned = cluster.note(format!("pin to h{}", host + 1));
        cluster.pin("api", host)?;
        cluster.wait_for_owner_among(|owner| owner == host)?;
        wait_for_route_from(&cluster, &routes, host)?;
        assert_both(Duration::ZERO..=WITHDRAWAL_MAX, &routes, pinned)?;
    }
    cluster.conclude(from, Outcome::moved())
}
