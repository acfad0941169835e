//! Holes that a review of the code against the design found, each by what must hold instead.

#![allow(missing_docs, reason = "the tests' names say it")]

mod world;

use turnip_core::*;
use world::{MS, World};

#[test]
fn a_resumed_session_with_a_shorter_lease_than_configured_binds_from_the_first_moment() {
    let mut world = World::of(&["a", "b"]);
    world.hosts[0].config.lease = Lease::new(10_000 * MS).unwrap();
    world.restart(0);
    world.run(50 * MS);
    assert_eq!(world.holders(), [0], "{}", world.story());
    world.hosts[0].cut = true;
    for _ in 0..12_000 {
        world.run(MS);
        assert!(world.holders().len() <= 1, "at {:?}\n{}", world.now, world.story());
    }
    assert_eq!(world.holders(), [1]);
}
