//! From keepalived to turnip and back, as the page about that says: both are real, and clients ask all the time.

use std::time::{Duration, Instant};

use anyhow::{Result, ensure};
use turnip_netns_tests::cluster::Outcome;
use turnip_netns_tests::plan::Plan;
use turnip_netns_tests::timeline::ms;

use crate::a_lease_passes;
use crate::walkthroughs::Walk;

/// keepalived listens for three advertisements of 1 s, and for somewhat more.
const KEEPALIVED_TAKES_MAX: Duration = Duration::from_secs(10);

/// The switch is keepalived's withdrawal and a command of turnip's, on a busy machine.
const SWITCH_MAX: Duration = Duration::from_secs(2);

/// Does what stands under a heading, and prints and holds what clients saw of it.
fn step(walk: &mut Walk, section: &str, outcome: Outcome) -> Result<()> {
    let from = Instant::now();
    walk.follow_section(section)?;
    a_lease_passes();
    let seen = walk.cluster.check(from, outcome)?;
    let (gap, overlap) = (seen.gap.max(seen.gap_tcp), seen.overlap);
    println!("{section}: gap {}, two hosts had it for {}", ms(gap), ms(overlap));
    Ok(())
}

/// Hosts that run keepalived, and turnip's configuration beside it.
fn beside_keepalived() -> Result<Walk> {
    let mut walk = Walk::begin("migrate.md", Plan::default())?;
    walk.follow_section("The hosts as they are")?;
    ensure!(walk.cluster.wait_for_owner()? == 0, "{}", walk.cluster.logs());
    for host in ["h1", "h2", "h3"] {
        walk.copy_to_desk(host, "/etc/keepalived/keepalived.conf", &format!("{host}.conf"))?;
    }
    step(&mut walk, "Translate", Outcome::stayed_on(0))?;
    step(&mut walk, "The standbys, one after the other", Outcome::stayed_on(0))?;
    Ok(walk)
}

/// Ends keepalived everywhere: nothing of anybody is left.
fn end(mut walk: Walk) -> Result<()> {
    walk.end_services()?;
    walk.cluster.wait("nobody has it", || walk.cluster.nobody_has_it())?;
    walk.cluster.assert_nothing_is_left()
}

#[test]
fn an_address_goes_from_keepalived_to_turnip_and_back_and_is_never_on_two_hosts() -> Result<()> {
    let mut walk = beside_keepalived()?;
    step(&mut walk, "The switch", Outcome::gap_at_most(SWITCH_MAX))?;
    ensure!(walk.cluster.wait_for_owner()? == 1, "{}", walk.cluster.logs());
    step(&mut walk, "The last host", Outcome::moved())?;
    ensure!(walk.cluster.wait_for_owner()? == 0, "{}", walk.cluster.logs());
    step(&mut walk, "Back, after the switch", Outcome::gap_at_most(KEEPALIVED_TAKES_MAX))?;
    ensure!(walk.cluster.wait_for_owner()? == 0, "{}", walk.cluster.logs());
    end(walk)
}

#[test]
fn a_standby_goes_back_to_keepalived_before_the_switch_and_takes_over_again() -> Result<()> {
    let mut walk = beside_keepalived()?;
    step(&mut walk, "Back, before the switch", Outcome::stayed_on(0))?;
    let from = walk.cluster.note("keepalived's master loses its power");
    walk.cluster.power_off(0)?;
    walk.cluster.wait_for_owner_among(|host| host == 1)?;
    walk.cluster.check(from, Outcome::gap_at_most(KEEPALIVED_TAKES_MAX))?;
    end(walk)
}
