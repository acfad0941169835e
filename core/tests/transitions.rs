//! What a node tells of a VIP's comings and goings, and of how it stands, to who counts them.

#![allow(missing_docs, reason = "the tests' names say it")]

mod world;

use std::time::Duration;

use turnip_core::*;
use world::{MS, World, config, one_vip};

/// How the VIP came to a host each time, and how long nobody had held it.
fn arrivals(world: &World, host: usize) -> Vec<(Arrival, Option<Duration>)> {
    let arrival = |report: &Report| match report {
        Report::Assumed { arrival, gap, .. } => Some((*arrival, *gap)),
        _ => None,
    };
    world.hosts[host].reports.iter().filter_map(arrival).collect()
}

fn departures(world: &World, host: usize) -> Vec<Departure> {
    let departure = |report: &Report| match report {
        Report::Forfeiting { departure, .. } => Some(*departure),
        _ => None,
    };
    world.hosts[host].reports.iter().filter_map(departure).collect()
}

/// Whether a host wants the VIP, and holds it.
fn wants_and_holds(world: &World, host: usize) -> (bool, bool) {
    let node = &world.hosts[host].node;
    let vip = node.vips(world.now).next().expect("it has a VIP");
    (vip.is_wanted, vip.is_held)
}

#[test]
fn the_first_holder_ends_no_gap() {
    let world = World::of(&["a", "b"]);
    assert_eq!(arrivals(&world, 0), [(Arrival::Free, None)], "{}", world.story());
}

#[test]
fn the_gap_after_a_holder_that_died_counts_from_its_last_sign_of_life() {
    for names in [&["a", "b"][..], &["a", "b", "c"]] {
        let mut world = World::of(names);
        world.run(5_000 * MS);
        world.hosts[0].frozen = true;
        world.run(6_000 * MS);
        let all = (1..names.len()).flat_map(|host| arrivals(&world, host));
        let [(Arrival::Expired, Some(gap))] = all.collect::<Vec<_>>()[..] else {
            panic!("{}", world.story());
        };
        // L(1 + rho), and what the takeover took.
        assert!(gap >= 3_030 * MS && gap <= 3_100 * MS, "{gap:?}: {}", world.story());
    }
}

#[test]
fn the_gap_after_a_hand_over_counts_from_when_the_successor_knows_of_it() {
    let mut world = World::of(&["a", "b"]);
    world.run(5_000 * MS);
    world.hosts[1].hold_ops = true;
    let now = world.now;
    world.hosts[0].node.handle_stop(now);
    world.run_until(1_000 * MS, |world| !world.hosts[1].ops.is_empty());
    world.run(70 * MS);
    world.hosts[1].hold_ops = false;
    world.run(100 * MS);
    let arrived = arrivals(&world, 1);
    let [(Arrival::HandedOver, Some(gap))] = arrived[..] else {
        panic!("{arrived:?} {}", world.story())
    };
    assert!(gap >= 70 * MS && gap <= 75 * MS, "{gap:?}");
    assert_eq!(departures(&world, 0), [Departure::Ending]);
}

#[test]
fn a_holder_that_gave_a_vip_up_for_want_of_renewals_counts_its_own_gap_when_it_is_back() {
    let mut world = World::of(&["a"]);
    world.run(5_000 * MS);
    world.hosts[0].cut = true;
    world.run(4_000 * MS);
    assert_eq!(departures(&world, 0), [Departure::NotRenewed], "{}", world.story());
    assert_eq!(wants_and_holds(&world, 0), (true, false));
    world.hosts[0].cut = false;
    world.run(1_000 * MS);
    let arrived = arrivals(&world, 0);
    let [(Arrival::Free, None), (Arrival::Returned, Some(gap))] = arrived[..] else {
        panic!("{arrived:?} {}", world.story())
    };
    assert!(gap >= 1_000 * MS && gap <= 2_000 * MS, "{gap:?}");
    assert_eq!(wants_and_holds(&world, 0), (true, true));
}

#[test]
fn a_repair_is_no_gap() {
    let mut world = World::of(&["a"]);
    world.run(5_000 * MS);
    world.remove_behind_the_back(0);
    world.run(100 * MS);
    let arrived = arrivals(&world, 0);
    assert_eq!(arrived, [(Arrival::Free, None), (Arrival::Free, None)], "{}", world.story());
    assert_eq!(departures(&world, 0), []);
}

#[test]
fn a_host_wants_what_it_owns_and_no_more() {
    let mut world = World::of(&["a", "b"]);
    assert_eq!(wants_and_holds(&world, 0), (true, true));
    assert_eq!(wants_and_holds(&world, 1), (false, false));
    let owner = |host: &world::Host| {
        let vip = host.node.vips(world.now).next().expect("it has a VIP");
        vip.owner.map(ToString::to_string)
    };
    assert!(world.hosts.iter().all(|host| owner(host).as_deref() == Some("a")));
    let standing = world.hosts[1].node.standing(world.now);
    assert!(standing.has_session && standing.left > 2_000 * MS && standing.nodes == 2);
    world.etcd.put("/turnip/main/intents/drain/a", r#"{"v":1}"#);
    world.run(100 * MS);
    assert_eq!(wants_and_holds(&world, 0), (false, false));
    assert_eq!(wants_and_holds(&world, 1), (true, true));
    assert!(world.hosts[0].node.standing(world.now).is_drained);
    assert_eq!(departures(&world, 0), [Departure::Drained]);
}

#[test]
fn what_nobody_can_take_is_wanted_by_all() {
    let mut world = World::new(vec![config("a", one_vip())]);
    world.hosts[0].links.insert("eth0".to_owned(), false);
    world.run(1_000 * MS);
    assert_eq!(wants_and_holds(&world, 0), (true, false), "{}", world.story());
    let vip = world.hosts[0].node.vips(world.now).next().expect("it has a VIP");
    assert!(vip.is_blocked && vip.owner.is_none());
}

#[test]
fn without_a_session_nothing_is_left_of_the_lease() {
    let mut world = World::new(vec![config("a", one_vip())]);
    world.hosts[0].cut = true;
    world.run(100 * MS);
    let standing = world.hosts[0].node.standing(world.now);
    assert_eq!((standing.has_session, standing.left), (false, Duration::ZERO));
    assert_eq!(wants_and_holds(&world, 0), (true, false));
}
