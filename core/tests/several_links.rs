//! VIPs whose addresses are on several interfaces.

mod world;

use std::collections::BTreeSet;
use std::time::Duration;

use turnip_core::*;
use world::{MS, World, config, link, vip};

const LIMIT: Duration = Duration::from_secs(60);
const OUTSIDE: &str = "203.0.113.2/29";
const INSIDE: &str = "10.0.100.1/24";

fn on(interface: &str, net: &str) -> VipAddress {
    VipAddress { net: net.parse().unwrap(), interface: interface.into(), parent: None }
}

/// A router: its outside on `wan0`, its inside on `br100`.
fn router(priority: u32) -> Vec<VipConfig> {
    let addresses: BTreeSet<_> = [on("wan0", OUTSIDE), on("br100", INSIDE)].into();
    let policy = Policy::Priority { priority, preempt: true };
    vec![VipConfig { addresses, ..vip("router", OUTSIDE, policy) }]
}

fn world() -> World {
    let mut world = World::new(Vec::new());
    for (name, priority) in [("a", 2), ("b", 1)] {
        world.start(config(name, router(priority)));
        let host = world.hosts.last_mut().unwrap();
        host.links = ["wan0", "br100"].map(|name| (name.to_owned(), true)).into();
    }
    world.run(2000 * MS);
    world
}

fn blocked(world: &World) -> String {
    let record = world.etcd.json("/turnip/main/nodes/a").unwrap();
    record["vips"]["router"]["blocked"].as_str().unwrap_or_default().to_owned()
}

fn set(world: &mut World, name: &str, up: bool) {
    world.hosts[0].links.insert(name.into(), up);
    world.event(0, KernelEvent::LinkChanged(link(name, up, true)));
}

/// Rule 7.3.
#[test]
fn a_vip_moves_whole_when_any_of_its_interfaces_goes_down_and_returns_when_all_are_up() {
    let mut world = world();
    let everything_on = |world: &World, host: usize| {
        [OUTSIDE, INSIDE].iter().all(|address| world.holder_of(address) == [host])
    };
    assert!(everything_on(&world, 0), "{}", world.story());
    for name in ["wan0", "br100"] {
        set(&mut world, name, false);
        world.run_until(LIMIT, |world| everything_on(world, 1));
        assert_eq!(blocked(&world), format!("interface {name} is down"));
        set(&mut world, name, true);
        world.run_until(LIMIT, |world| everything_on(world, 0));
    }
    set(&mut world, "wan0", false);
    set(&mut world, "br100", false);
    world.run_until(LIMIT, |world| everything_on(world, 1));
    assert_eq!(blocked(&world), "interface br100 is down, interface wan0 is down");
    set(&mut world, "wan0", true);
    world.run(5000 * MS);
    assert!(everything_on(&world, 1), "one is not enough: {}", world.story());
    set(&mut world, "br100", true);
    world.run_until(LIMIT, |world| everything_on(world, 0));
}

/// Rule 7.3.
#[test]
fn an_interface_that_is_gone_takes_the_addresses_on_the_others_with_it() {
    let mut world = world();
    world.hosts[0].links.remove("br100");
    world.hosts[0].addresses.retain(|one| &*one.interface != "br100");
    world.event(0, KernelEvent::LinkGone("br100".into()));
    world.run_until(LIMIT, |world| world.holders() == [1]);
    assert_eq!(blocked(&world), "interface br100 does not exist");
}

/// Rule 7.1.
#[test]
fn what_is_missing_on_one_interface_is_put_back_and_the_rest_stays() {
    let mut world = world();
    world.hosts[0].addresses.retain(|one| &*one.interface != "br100");
    world.event(0, KernelEvent::AddressChanged);
    world.run(500 * MS);
    assert_eq!(world.holder_of(INSIDE), [0], "{}", world.story());
    assert_eq!(world.hosts[0].addresses.len(), 2);
}

/// Rule 4.7.
#[test]
fn a_link_local_address_on_several_interfaces_is_published_with_them_and_contested_on_each() {
    let local = "fe80::1/64";
    let policy = Policy::Priority { priority: 1, preempt: false };
    let named = |name: &str, interfaces: &[&str]| {
        let addresses = interfaces.iter().map(|interface| on(interface, local)).collect();
        vec![VipConfig { addresses, ..vip(name, local, policy.clone()) }]
    };
    let mut world = World::new(Vec::new());
    for (name, vips) in [
        ("a", named("gateway", &["wan0", "br100"])),
        ("b", named("other", &["br100"])),
        ("c", named("third", &["br300"])),
    ] {
        world.start(config(name, vips));
        let host = world.hosts.last_mut().unwrap();
        host.links = ["wan0", "br100", "br300"].map(|name| (name.to_owned(), true)).into();
        world.run(500 * MS);
    }
    let record = world.etcd.json("/turnip/main/nodes/a").unwrap();
    let links = &record["vips"]["gateway"]["links"];
    assert_eq!(links.to_string(), r#"{"br100":["fe80::1"],"wan0":["fe80::1"]}"#);
    assert_eq!(world.hosts[0].addresses.len(), 2, "{}", world.story());
    assert!(world.hosts[1].addresses.is_empty(), "it is the gateway's: {}", world.story());
    assert_eq!(world.hosts[2].addresses.len(), 1, "another link: {}", world.story());
}
