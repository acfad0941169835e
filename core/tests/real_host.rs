//! Hosts that have addresses, carriers and connections which are not turnip's.

mod world;

use std::time::Duration;

use turnip_core::*;
use world::{MS, World, config, link, one_vip};

const LIMIT: Duration = Duration::from_secs(20);
const DOUBLE: &str = "10.0.0.50/24";

fn double() -> PresentAddress {
    PresentAddress {
        interface: "eth0".into(),
        address: DOUBLE.parse().unwrap(),
        marked: false,
        misplaced: false,
    }
}

/// Somebody puts the VIP's IP there with another prefix length, or takes it away.
fn set_double(world: &mut World, host: usize, there: bool) {
    match there {
        true => world.hosts[host].addresses.insert(double()),
        false => world.hosts[host].addresses.remove(&double()),
    };
    world.event(host, KernelEvent::AddressChanged);
}

fn offer(world: &World, node: &str) -> serde_json::Value {
    world.etcd.json(&format!("/turnip/main/nodes/{node}")).unwrap()["vips"]["v"].clone()
}

fn set_drained(world: &mut World, node: &str, drained: bool) {
    let key = format!("/turnip/main/intents/drain/{node}");
    match drained {
        true => world.etcd.put(&key, r#"{"v":1}"#),
        false => world.etcd.delete(&key),
    }
}

/// Rule 7.9.
#[test]
fn a_vip_whose_ip_is_on_a_host_in_another_way_is_not_taken_there_before_that_is_gone() {
    let mut world = World::new(Vec::new());
    let a = world.start(config("a", one_vip()));
    world.hosts[a].addresses.insert(double());
    world.run(2000 * MS);
    assert!(world.holder_of("10.0.0.50/32").is_empty(), "{}", world.story());
    assert_eq!(world.holder_of(DOUBLE), [a], "it is not turnip's to take away");
    assert_eq!(offer(&world, "a")["blocked"], "10.0.0.50/24 on eth0 is not turnip's doing");
    assert!(world.said(a, "cannot hold v here: 10.0.0.50/24 on eth0"), "{}", world.story());
    let b = world.start(config("b", one_vip()));
    world.run_until(LIMIT, |w| w.holder_of("10.0.0.50/32") == [b]);
    set_double(&mut world, a, false);
    world.run(1000 * MS);
    assert!(offer(&world, "a")["blocked"].is_null());
    set_drained(&mut world, "b", true);
    world.run_until(LIMIT, |w| w.holder_of("10.0.0.50/32") == [a]);
}

/// Rule 7.9.
#[test]
fn a_vip_that_is_held_stays_when_its_ip_appears_beside_it_and_does_not_come_back_to_it() {
    let mut world = World::of(&["a", "b"]);
    set_double(&mut world, 0, true);
    world.run(1000 * MS);
    assert_eq!(world.holder_of("10.0.0.50/32"), [0], "{}", world.story());
    assert!(offer(&world, "a")["blocked"].is_null());
    assert_eq!(offer(&world, "a")["notice"], "10.0.0.50/24 on eth0 is not turnip's doing");
    assert!(world.said(0, "v is held here, and 10.0.0.50/24 on eth0"), "{}", world.story());
    set_drained(&mut world, "a", true);
    world.run_until(LIMIT, |w| w.holder_of("10.0.0.50/32") == [1]);
    set_drained(&mut world, "a", false);
    world.run(100 * MS);
    set_drained(&mut world, "b", true);
    world.run(2000 * MS);
    assert!(world.holder_of("10.0.0.50/32").is_empty(), "{}", world.story());
    assert_eq!(offer(&world, "a")["blocked"], "10.0.0.50/24 on eth0 is not turnip's doing");
    set_double(&mut world, 0, false);
    world.run_until(LIMIT, |w| w.holder_of("10.0.0.50/32") == [0]);
}

/// Rule 7.9: a resumed session goes on.
#[test]
fn a_restarted_daemon_keeps_a_vip_beside_which_its_ip_appeared() {
    let mut world = World::of(&["a", "b"]);
    set_double(&mut world, 0, true);
    world.run(10 * MS);
    world.restart(0);
    world.run(3000 * MS);
    assert_eq!(world.holder_of("10.0.0.50/32"), [0], "{}", world.story());
    assert!(world.hosts[1].announced.is_empty(), "{}", world.story());
}

/// Rules 7.9 and 8.15.
#[test]
fn an_orderly_stop_leaves_the_fence_to_what_would_answer_without_it() {
    for there in [true, false] {
        let mut world = World::of(&["a", "b"]);
        set_double(&mut world, 0, there);
        world.run(10 * MS);
        let now = world.now;
        world.hosts[0].node.handle_stop(now);
        world.run(200 * MS);
        assert_eq!(world.hosts[0].exit, Some(Exit::Stopped), "{}", world.story());
        assert_eq!(world.hosts[0].fence_removed, !there, "{}", world.story());
        assert_eq!(world.said(0, "leaving the fence in place"), there);
        assert_eq!(world.holder_of("10.0.0.50/32"), [1]);
    }
}

/// Rule 7.3.
#[test]
fn a_vip_whose_interface_loses_its_carrier_is_passed_on_unless_it_needs_none() {
    for required in [true, false] {
        let mut world = World::new(Vec::new());
        for name in ["a", "b"] {
            let mut vips = one_vip();
            vips[0].require_carrier = required;
            world.start(config(name, vips));
            world.run(100 * MS);
        }
        world.event(0, KernelEvent::LinkChanged(link("eth0", true, false)));
        world.run(500 * MS);
        let holder = usize::from(required);
        assert_eq!(world.holders(), [holder], "{}", world.story());
        if required {
            assert_eq!(offer(&world, "a")["blocked"], "interface eth0 has no carrier");
        }
        world.event(0, KernelEvent::LinkChanged(link("eth0", false, false)));
        world.run(500 * MS);
        assert_eq!(world.holders(), [1], "down is down: {}", world.story());
        assert_eq!(offer(&world, "a")["blocked"], "interface eth0 is down");
    }
}

/// Rule 7.10.
#[test]
fn connections_end_when_the_kernel_has_taken_the_vip_away_and_not_for_a_repair() {
    let mut world = World::of(&["a", "b"]);
    let ended = |world: &World| -> Vec<String> {
        world.hosts[0].connections_ended.iter().map(|(_, ip)| ip.clone()).collect()
    };
    assert_eq!(ended(&world), ["10.0.0.50"], "those of a process before, once");
    world.remove_behind_the_back(0);
    world.run(1000 * MS);
    world.hosts[0].refuse_assume = Some(KernelError::TooLate);
    world.remove_behind_the_back(0);
    world.run(10 * MS);
    world.hosts[0].refuse_assume = None;
    world.run(1000 * MS);
    assert_eq!(world.holders(), [0], "{}", world.story());
    assert_eq!(ended(&world).len(), 1, "it was put back: {}", world.story());
    world.hosts[0].hold_ops = true;
    set_drained(&mut world, "a", true);
    world.run(20 * MS);
    assert_eq!(ended(&world).len(), 1, "it is there still: {}", world.story());
    world.hosts[0].hold_ops = false;
    world.run(20 * MS);
    assert_eq!(world.holders(), [1]);
    assert_eq!(ended(&world), ["10.0.0.50"; 2]);
}

/// Rule 7.10.
#[test]
fn connections_end_when_the_lease_does_unless_they_are_to_be_kept() {
    for kept in [false, true] {
        let mut world = World::new(Vec::new());
        for name in ["a", "b"] {
            let mut vips = one_vip();
            vips[0].keep_connections = kept;
            world.start(config(name, vips));
            world.run(100 * MS);
        }
        world.hosts[0].connections_ended.clear();
        (world.hosts[0].cut, world.hosts[0].watch_cut) = (true, true);
        world.run_until(LIMIT, |w| w.holders() == [1]);
        assert_eq!(world.hosts[0].connections_ended.is_empty(), kept, "{}", world.story());
    }
}
