//! The first use-case: an API server's address on `lo`, hosts in separate networks, and BGP to the
//! router in front of them.

use std::process::Command;
use std::thread::sleep;
use std::time::Duration;

use anyhow::Result;
use turnip_netns_tests::cluster::{Cluster, Outcome};
use turnip_netns_tests::plan::Plan;

use crate::a_lease_passes;

/// BGP's hold time in the lab, of 9 s, beside all that a failover takes.
const HOLD_TIME_AND_MORE: Duration = Duration::from_secs(19);

/// The holder is hit by `fault`, which the router can only learn of by BFD or BGP's hold time.
fn follows(
    bfd: bool,
    fault: impl Fn(&mut Cluster, usize) -> Result<()>,
    outcome: Outcome,
) -> Result<()> {
    let mut cluster = Cluster::start(Plan::api_server(bfd))?;
    // Between equal routes the router prefers that of the lowest router id: the dead host's.
    cluster.turnip(&["pin", "api", "h1"])?;
    let owner = cluster.wait_for_owner_among(|host| host == 0)?;
    let from = cluster.note(format!("fault at h{}", owner + 1));
    fault(&mut cluster, owner)?;
    let next = cluster.wait_for_owner_among(|host| host != owner)?;
    cluster.wait("the router hears of it from that host alone", || {
        Ok(announcers(&cluster)? == [format!("session{next}")])
    })?;
    sleep(Duration::from_secs(1));
    cluster.conclude(from, outcome)
}

/// The BGP sessions by which the router hears of the address now.
fn announcers(cluster: &Cluster) -> Result<Vec<String>> {
    let control = cluster.lab().directory().join("router/bird.ctl");
    let mut command = Command::new("birdc");
    let address = format!("{}/32", cluster.address());
    let output = command.arg("-s").arg(control).args(["show", "route", &address]).output()?;
    let said = String::from_utf8_lossy(&output.stdout);
    let sessions = said.lines().filter_map(|line| line.split_once("[session")?.1.split(' ').next());
    Ok(sessions.map(|number| format!("session{number}")).collect())
}

#[test]
fn the_route_follows_the_address_from_a_host_that_loses_its_power() -> Result<()> {
    follows(true, Cluster::power_off, Outcome::failed_over())
}

#[test]
fn the_route_follows_the_address_from_a_host_that_is_cut_off() -> Result<()> {
    follows(true, |cluster, owner| cluster.isolate(owner), Outcome::failed_over())
}

#[test]
fn the_route_follows_the_address_when_the_daemon_is_stopped() -> Result<()> {
    follows(true, Cluster::stop_daemon, Outcome::moved())
}

#[test]
fn the_route_follows_the_address_when_the_daemon_is_killed() -> Result<()> {
    let mut cluster = Cluster::start(Plan::api_server(true))?;
    let owner = cluster.wait_for_owner()?;
    let from = cluster.note(format!("the turnip of h{} is killed", owner + 1));
    cluster.kill_daemon(owner)?;
    // Until the kernel's expiry of the dead holder's address, its route stands beside the new one.
    cluster.wait_for_owner_among(|host| host != owner)?;
    a_lease_passes();
    cluster.release(owner)?;
    cluster.conclude(from, Outcome::failed_over().beside_a_silent_holder())
}

#[test]
fn without_bfd_the_route_follows_when_bgps_hold_time_is_over() -> Result<()> {
    follows(false, Cluster::power_off, Outcome::gap_at_most(HOLD_TIME_AND_MORE))
}

#[test]
fn the_route_follows_the_address_when_it_is_moved_about() -> Result<()> {
    let mut cluster = Cluster::start(Plan::api_server(true))?;
    let from = cluster.note("pins");
    for host in [0, 1, 2] {
        cluster.turnip(&["pin", "api", &format!("h{}", host + 1)])?;
        cluster.wait_for_owner_among(|owner| owner == host)?;
        cluster.wait("the router hears of it from that host alone", || {
            Ok(announcers(&cluster)? == [format!("session{host}")])
        })?;
    }
    cluster.conclude(from, Outcome::moved())
}
