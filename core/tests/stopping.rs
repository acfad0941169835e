//! How long an orderly stop waits for a store that does not answer.

mod world;

use std::time::Duration;

use turnip_core::*;
use world::*;

/// What a kernel that obeys at once may take, and the loop of the test.
const SOON: Duration = Duration::from_millis(5);
/// The longest that one request may take: `r` of the default lease.
const ONE_REQUEST: Duration = Duration::from_millis(500);

/// Stops host `i`, and says how long it takes.
fn time_to_stop(world: &mut World, i: usize) -> Duration {
    let began = world.now;
    world.hosts[i].node.handle_stop(began);
    world.run_until(Duration::from_secs(30), |w| w.hosts[i].exit == Some(Exit::Stopped));
    world.now.since(began)
}

/// Rule 5.5.
#[test]
fn a_host_that_holds_nothing_waits_for_one_request_of_a_store_that_is_gone() {
    let mut world = World::of(&["a", "b"]);
    assert_eq!(world.holders(), [0]);
    world.hosts[1].cut = true;
    let took = time_to_stop(&mut world, 1);
    assert!(took <= ONE_REQUEST + SOON, "{took:?}\n{}", world.story());
}

/// Rule 5.5.
#[test]
fn a_holder_waits_for_a_store_that_is_gone_until_its_deadline_and_no_longer() {
    let mut world = World::of(&["a", "b"]);
    world.hosts[0].cut = true;
    world.run(2000 * MS);
    let deadline = world.hosts[0].node.deadline().unwrap();
    let left = deadline.since(world.now);
    assert!(left < 1500 * MS, "{left:?}");
    let took = time_to_stop(&mut world, 0);
    assert!(took >= left && took <= left + SOON, "{took:?} of {left:?}\n{}", world.story());
    assert_eq!(world.holders(), [0; 0]);
}

/// Rule 5.5.
#[test]
fn a_holder_hands_over_to_a_store_that_is_back_before_its_deadline() {
    let mut world = World::of(&["a", "b"]);
    world.hosts[0].cut = true;
    world.run(1500 * MS);
    let now = world.now;
    world.hosts[0].node.handle_stop(now);
    world.run(700 * MS);
    assert_eq!(world.hosts[0].exit, None, "{}", world.story());
    world.hosts[0].cut = false;
    world.run(700 * MS);
    assert_eq!(world.hosts[0].exit, Some(Exit::Stopped));
    assert_eq!(world.holders(), [1], "{}", world.story());
    assert!(world.session("a").is_none());
}

/// Rules 5.5 and 10.5.
#[test]
fn a_holder_by_consent_waits_for_one_request_when_the_store_has_been_away_for_a_lease() {
    let mut world = World::hearing(&["a", "b", "c"]);
    assert_eq!(world.holders(), [0]);
    world.stop_store();
    world.run(10_000 * MS);
    assert_eq!(world.holders(), [0]);
    let took = time_to_stop(&mut world, 0);
    assert!(took <= ONE_REQUEST + SOON, "{took:?}\n{}", world.story());
    // Those who waited for it lose nothing that they hold before their own deadlines.
    world.start_store();
    world.run(8_000 * MS);
    assert_eq!(world.holders().len(), 1, "{}", world.story());
}

/// Rule 5.5.
#[test]
fn a_stop_while_the_first_session_is_being_opened_waits_for_one_request() {
    let mut world = World::of(&["b"]);
    let a = world.start(config("a", one_vip()));
    world.hosts[a].hold_commits = true;
    world.run(5 * MS);
    assert!(!world.hosts[a].commits.is_empty());
    let took = time_to_stop(&mut world, a);
    assert!(took <= ONE_REQUEST + SOON, "{took:?}\n{}", world.story());
}
