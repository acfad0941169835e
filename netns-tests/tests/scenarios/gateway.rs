//! The second use-case: the default gateway of guests on an overlay, on one of three hypervisors.

use std::net::IpAddr;
use std::time::Instant;

use anyhow::Result;
use turnip_netns_tests::cluster::{Cluster, Outcome};
use turnip_netns_tests::plan::Plan;
use turnip_netns_tests::probe::{Prober, Target, Way};

/// What guests want to reach, beyond their gateway.
const OUTSIDE: [&str; 2] = ["10.80.100.2", "fd80:64::2"];

/// Somebody on the overlay who asks for the outside in both families.
fn look_outside(cluster: &Cluster) -> Result<Prober> {
    let target = |address: &str| Ok(Target { address: address.parse::<IpAddr>()?, way: Way::Udp });
    let targets = OUTSIDE.into_iter().map(target).collect::<Result<_>>()?;
    Prober::start(cluster.network().client(), targets)
}

/// Waits until both families have been answered by the outside after `moment`.
fn wait_for_outside(cluster: &Cluster, prober: &Prober, moment: Instant) -> Result<()> {
    cluster.wait("guests reach the outside in both families", || {
        Ok(prober.records().iter().all(|(_, shots)| {
            shots.iter().rev().take_while(|shot| shot.sent > moment).any(|shot| shot.answered())
        }))
    })
}

#[test]
fn guests_reach_the_outside_again_when_the_gateways_hypervisor_loses_its_power() -> Result<()> {
    let mut cluster = Cluster::start(Plan::gateway())?;
    let owner = cluster.wait_for_owner()?;
    let prober = look_outside(&cluster)?;
    wait_for_outside(&cluster, &prober, Instant::now())?;
    let from = cluster.note(format!("h{} loses its power", owner + 1));
    cluster.power_off(owner)?;
    cluster.wait_for_owner_among(|host| host != owner)?;
    wait_for_outside(&cluster, &prober, Instant::now())?;
    cluster.conclude(from, Outcome::failed_over())
}

#[test]
fn guests_learn_of_a_new_gateway_that_takes_over_in_an_orderly_way() -> Result<()> {
    let mut cluster = Cluster::start(Plan::gateway())?;
    let prober = look_outside(&cluster)?;
    let from = cluster.note("pins");
    for host in [0, 1, 2] {
        cluster.turnip(&["pin", "gateway", &format!("h{}", host + 1)])?;
        cluster.wait_for_owner_among(|owner| owner == host)?;
        wait_for_outside(&cluster, &prober, Instant::now())?;
    }
    cluster.conclude(from, Outcome::moved())
}

#[test]
fn guests_reach_the_outside_while_the_gateways_hypervisor_is_cut_off() -> Result<()> {
    let mut cluster = Cluster::start(Plan::gateway())?;
    let owner = cluster.wait_for_owner()?;
    let prober = look_outside(&cluster)?;
    let from = cluster.note(format!("h{} is cut off", owner + 1));
    cluster.isolate(owner)?;
    cluster.wait_for_owner_among(|host| host != owner)?;
    wait_for_outside(&cluster, &prober, Instant::now())?;
    cluster.conclude(from, Outcome::failed_over())
}
