//! Hosts that lose their power, of which scenario files cannot tell: how they are configured, how many addresses go.

use anyhow::Result;
use turnip_netns_tests::cluster::{Cluster, Outcome};
use turnip_netns_tests::daemon::TurnipSettings;
use turnip_netns_tests::plan::{Plan, vip};

use crate::{a_lease_passes, with_settings};

#[test]
fn the_originals_four_variables_survive_a_power_failure() -> Result<()> {
    let settings = TurnipSettings { by_variables: true, ..TurnipSettings::default() };
    let mut cluster = Cluster::start(with_settings(settings))?;
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
