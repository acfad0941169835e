//! More VIPs than fit a transaction.

#![allow(missing_docs, reason = "the tests' names say it")]

mod world;

use std::time::Duration;

use turnip_core::{Policy, VipConfig};
use world::{MS, World, config, vip};

const LIMIT: Duration = Duration::from_secs(20);

fn vips(count: u32) -> Vec<VipConfig> {
    let numbered = |n: u32| {
        let address = format!("10.{}.{}.{}/32", n / 62_500, n / 250 % 250, n % 250 + 1);
        vip(&format!("v{n}"), &address, Policy::Spread)
    };
    (0..count).map(numbered).collect()
}

#[test]
fn a_dead_node_with_a_thousand_vips_is_replaced_within_etcds_limits() {
    let mut world = World::new(vec![config("a", vips(1000)), config("b", vips(1000))]);
    world.run(3000 * MS);
    world.hosts[0].frozen = true;
    world.hosts[0].addresses.clear();
    world.run_until(LIMIT, |w| w.hosts[1].addresses.len() == 1000);
}

/// A renewal and some more must fit between them.
const AT_ONCE_MAX: usize = 12;

#[test]
fn claims_of_thousands_of_vips_do_not_queue_up_before_the_renewals() {
    let mut world = World::new(vec![config("a", vips(3000))]);
    world.hosts[0].hold_commits = true;
    let mut most = 0;
    for _ in 0..2000 {
        world.run(MS);
        most = most.max(world.hosts[0].commits.len());
        if !world.hosts[0].commits.is_empty() {
            world.deliver(0);
        }
    }
    assert_eq!(world.hosts[0].addresses.len(), 3000, "{}", world.story());
    assert!(most <= AT_ONCE_MAX, "{most} transactions were under way at once");
}

#[test]
fn a_stop_hands_thousands_of_vips_over_and_leaves_none_behind() {
    let mut world = World::new(vec![config("a", vips(3000)), config("b", vips(3000))]);
    world.run_until(LIMIT, |w| w.hosts.iter().map(|h| h.addresses.len()).sum::<usize>() == 3000);
    world.run(5000 * MS);
    let now = world.now;
    world.hosts[0].node.handle_stop(now);
    world.run_until(LIMIT, |w| w.hosts[0].exit.is_some());
    world.run_until(LIMIT, |w| w.hosts[1].addresses.len() == 3000);
    assert_eq!(world.hosts[0].addresses.len(), 0);
    assert!(world.session("a").is_none());
}
