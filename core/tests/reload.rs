//! Another configuration while the node runs (rule 14): in whatever order hosts are told, no address is on
//! two of them, and none is dark for longer than a hand-over takes.

#![allow(missing_docs, reason = "the tests' names say it")]

mod world;

use std::time::Duration;

use turnip_core::*;
use world::{MS, World, config, vip};

const KEEP: Policy = Policy::Priority { priority: 0, preempt: false };
const X: &str = "10.0.0.50/32";
const Y: &str = "10.0.0.51/32";

/// Everything is answered within the millisecond here: what waits for a timer takes longer than this.
const HAND_OVER_MAX: u32 = 8;

fn keep(name: &str, addresses: &str) -> VipConfig {
    vip(name, addresses, KEEP)
}

/// Of how many hosts each IP is one's, by what is on their interfaces.
fn holders_of_ip(world: &World, ip: &str) -> Vec<usize> {
    let ip: std::net::IpAddr = ip.parse().unwrap();
    let has = |i: &usize| world.hosts[*i].addresses.iter().any(|one| one.address.addr() == ip);
    (0..world.hosts.len()).filter(has).collect()
}

/// Runs, and sees that each IP is on one host at most, and how long none has it at a time.
fn watch(world: &mut World, duration: Duration, ips: &[&str]) -> u32 {
    let (mut dark, mut longest) = (vec![0_u32; ips.len()], 0);
    let end = world.now + duration;
    while world.now < end {
        world.run(MS);
        for (ip, dark) in ips.iter().zip(&mut dark) {
            let holders = holders_of_ip(world, ip);
            assert!(
                holders.len() <= 1,
                "{ip} on {holders:?} at {:?}\n{}",
                world.now,
                world.story()
            );
            *dark = if holders.is_empty() { *dark + 1 } else { 0 };
            longest = longest.max(*dark);
        }
    }
    longest
}

/// Whether a host has taken something away.
fn has_touched(world: &World, host: usize, from: usize) -> bool {
    let touches = |report: &Report| {
        matches!(
            report,
            Report::Forfeiting { .. } | Report::Assuming { .. } | Report::Repairing { .. }
        )
    };
    world.hosts[host].reports[from..].iter().any(touches)
}

fn cluster(vips: &[VipConfig]) -> World {
    let mut world = World::new(Vec::new());
    for name in ["a", "b", "c"] {
        world.start(config(name, vips.to_vec()));
        world.run(100 * MS);
    }
    world.run(4_000 * MS);
    world
}

/// Rule 14.1.
fn touches_what_did_not_change(mutant: Option<Mutant>) -> bool {
    let mut world = cluster(&[keep("u", Y), keep("v", X)]);
    assert_eq!(world.holder_of(X), [0]);
    if let Some(mutant) = mutant {
        world.hosts[0].node.set_mutant(mutant);
    }
    let from = world.hosts[0].reports.len();
    let mut changed = keep("v", X);
    changed.policy = Policy::Priority { priority: 7, preempt: true };
    changed.defend = true;
    // One more before it in the order of names, one more after it.
    let vips = [keep("a", "10.0.0.60/32"), keep("u", Y), changed, keep("z", "10.0.0.61/32")];
    for i in 0..3 {
        world.reload(i, vips.to_vec());
    }
    let dark = watch(&mut world, 3_000 * MS, &["10.0.0.50", "10.0.0.51"]);
    for name in ["a", "u", "v", "z"] {
        assert!(world.owner(name).is_some(), "{name}\n{}", world.story());
    }
    assert_eq!(world.holder_of("10.0.0.60/32").len(), 1, "{}", world.story());
    let of_v = |report: &&Report| match report {
        Report::Forfeiting { vip, .. } | Report::Assuming { vip, .. } => vip.as_str() == "v",
        _ => false,
    };
    dark > 0 || world.hosts[0].reports[from..].iter().any(|report| of_v(&report))
}

/// Rule 14.1.
#[test]
fn what_did_not_change_is_not_touched() {
    assert!(!touches_what_did_not_change(None));
    assert!(touches_what_did_not_change(Some(Mutant::UnchangedTouched)));
}

/// Rule 14.1.
#[test]
fn the_same_configuration_once_more_changes_nothing_and_writes_nothing() {
    let mut world = cluster(&[keep("v", X)]);
    let (from, revision) = (world.hosts[0].reports.len(), world.etcd.revision);
    world.hosts[0].hold_commits = true;
    world.reload(0, vec![keep("v", X)]);
    world.run(MS);
    assert!(world.hosts[0].commits.is_empty());
    assert_eq!(world.etcd.revision, revision);
    assert!(!has_touched(&world, 0, from));
}

/// A change of the configuration.
struct Change {
    what: &'static str,
    old: Vec<VipConfig>,
    new: Vec<VipConfig>,
    /// What all the while is an IP of some VIP.
    ips: Vec<&'static str>,
}

fn changes() -> Vec<Change> {
    let on = |interface: &str, vip: VipConfig| VipConfig {
        addresses: VipAddress::all_on(interface, vip.addresses.iter().map(|one| one.net)),
        ..vip
    };
    let both = || vec!["10.0.0.50", "10.0.0.51"];
    vec![
        Change {
            what: "a VIP is renamed",
            old: vec![keep("v", X)],
            new: vec![keep("w", X)],
            ips: vec!["10.0.0.50"],
        },
        Change {
            what: "an address moves to another VIP",
            old: vec![keep("v", &format!("{X} {Y}")), keep("w", "10.0.0.52/32")],
            new: vec![keep("v", X), keep("w", &format!("10.0.0.52/32 {Y}"))],
            ips: both(),
        },
        Change {
            what: "two VIPs exchange their addresses",
            old: vec![keep("v", X), keep("w", Y)],
            new: vec![keep("v", Y), keep("w", X)],
            ips: both(),
        },
        Change {
            what: "two VIPs become one",
            old: vec![keep("v", X), keep("w", Y)],
            new: vec![keep("v", &format!("{X} {Y}"))],
            ips: both(),
        },
        Change {
            what: "a VIP has another prefix length",
            old: vec![keep("v", X)],
            new: vec![keep("v", "10.0.0.50/24")],
            ips: vec!["10.0.0.50"],
        },
        Change {
            what: "a VIP is on another interface",
            old: vec![keep("v", X)],
            new: vec![on("eth1", keep("v", X))],
            ips: vec!["10.0.0.50"],
        },
        Change {
            what: "one of two addresses is on another interface",
            old: vec![keep("v", &format!("{X} {Y}"))],
            new: vec![VipConfig {
                addresses: [&on("eth0", keep("v", X)), &on("eth1", keep("v", Y))]
                    .into_iter()
                    .flat_map(|vip| vip.addresses.clone())
                    .collect(),
                ..keep("v", X)
            }],
            ips: both(),
        },
        Change {
            what: "a VIP gets a virtual hardware address",
            old: vec![keep("v", X)],
            new: vec![VipConfig {
                addresses: [VipAddress {
                    net: X.parse().unwrap(),
                    interface: "tn1".into(),
                    parent: Some("eth0".into()),
                }]
                .into(),
                ..keep("v", X)
            }],
            ips: vec!["10.0.0.50"],
        },
        Change {
            what: "a VIP gets another address",
            old: vec![keep("v", X)],
            new: vec![keep("v", &format!("{X} {Y}"))],
            ips: vec!["10.0.0.50"],
        },
    ]
}

const ORDERS: [[usize; 3]; 6] = [[0, 1, 2], [0, 2, 1], [1, 0, 2], [1, 2, 0], [2, 0, 1], [2, 1, 0]];

/// Rules 14.2 and 14.5.
#[test]
fn hosts_reloaded_in_any_order_end_in_one_state_without_an_overlap_or_a_long_gap() {
    for change in changes() {
        for order in ORDERS {
            for pause in [0, 1, 2, 40, 4_500] {
                let mut world = cluster(&change.old);
                for host in &mut world.hosts {
                    host.links.insert("eth1".into(), true);
                }
                let mut dark = 0;
                for i in order {
                    world.reload(i, change.new.clone());
                    dark = dark.max(watch(&mut world, pause * MS, &change.ips));
                }
                dark = dark.max(watch(&mut world, 9_000 * MS, &change.ips));
                let story = || {
                    let (what, story) = (change.what, world.story());
                    format!("{what}, in the order {order:?}, {pause} ms apart:\n{story}")
                };
                assert!(dark <= HAND_OVER_MAX, "dark for {dark} ms: {}", story());
                for vip in &change.new {
                    let owner = world.owner(vip.name.as_str());
                    let owner =
                        owner.unwrap_or_else(|| panic!("nobody owns {}: {}", vip.name, story()));
                    let host = ["a", "b", "c"].iter().position(|name| *name == owner).unwrap();
                    for one in vip.assignments() {
                        let holders = world.holder_of(&one.address.to_string());
                        assert_eq!(holders, [host], "{one}: {}", story());
                    }
                }
                let names = world.etcd.kvs.keys().filter(|key| key.contains("/vips/")).count();
                assert_eq!(names, change.new.len(), "{}", story());
            }
        }
    }
}

/// Rule 14.2.
#[test]
fn a_vip_that_is_removed_on_one_host_goes_on_where_it_is_still_configured_by_one_hand_over() {
    let mut world = cluster(&[keep("v", X)]);
    let revision = world.etcd.kvs["/turnip/main/vips/v"].create_revision;
    world.reload(0, vec![keep("u", Y)]);
    let dark = watch(&mut world, 1_000 * MS, &["10.0.0.50"]);
    assert!(dark <= 2, "{dark} ms\n{}", world.story());
    assert_eq!(world.holder_of(X).len(), 1, "{}", world.story());
    assert_eq!(world.etcd.kvs["/turnip/main/vips/v"].create_revision, revision, "no deletion");
    assert_eq!(world.holder_of(Y), [0], "what is new is there as well");
}

/// Rule 14.2.
#[test]
fn while_the_store_is_away_what_is_held_stays_as_it_was() {
    let mut world = cluster(&[keep("v", X)]);
    world.hosts[0].cut = true;
    world.reload(0, vec![keep("w", X)]);
    assert_eq!(watch(&mut world, 1_000 * MS, &["10.0.0.50"]), 0, "{}", world.story());
    world.hosts[0].cut = false;
    assert!(watch(&mut world, 1_000 * MS, &["10.0.0.50"]) <= 2, "{}", world.story());
}

/// Rule 14.2, interleaving 22.
fn overlaps_when_the_kernel_is_slow_to_remove(mutant: Option<Mutant>) -> bool {
    let (old, new) = (vec![keep("v", X), keep("z", Y)], vec![keep("v", Y), keep("w", X)]);
    let mut world = World::new(Vec::new());
    for name in ["a", "b"] {
        world.start(config(name, old.clone()));
        world.run(100 * MS);
    }
    assert_eq!(world.holder_of(X), [0]);
    // B may have x as w as soon as nobody else has it as v. A is the last that has.
    world.reload(1, new.clone());
    world.run(500 * MS);
    assert_eq!(world.holder_of(X), [0], "{}", world.story());
    if let Some(mutant) = mutant {
        world.hosts[0].node.set_mutant(mutant);
    }
    world.hosts[0].hold_ops = true;
    world.reload(0, new);
    let mut overlapped = false;
    for _ in 0..400 {
        world.run(MS);
        overlapped |= world.holder_of(X).len() > 1;
    }
    world.hosts[0].hold_ops = false;
    world.run(4_000 * MS);
    assert_eq!(world.holder_of(X).len(), 1, "{}", world.story());
    overlapped
}

/// Interleaving 22.
#[test]
fn the_22nd_another_definition_waits_until_the_kernel_has_taken_the_old_one_away() {
    assert!(!overlaps_when_the_kernel_is_slow_to_remove(None));
    assert!(overlaps_when_the_kernel_is_slow_to_remove(Some(Mutant::RedefinedWhileHeld)));
}

/// Rule 14.4, interleaving 23.
fn overlaps_when_a_freeing_is_late(mutant: Option<Mutant>) -> bool {
    let (old, new) = (|| vec![keep("v", X)], || vec![keep("w", X)]);
    let mut world = World::new(vec![config("a", old())]);
    world.run(100 * MS);
    if let Some(mutant) = mutant {
        world.hosts[0].node.set_mutant(mutant);
    }
    // What gives v free is on its way for long.
    let frees = |txn: &Txn| txn.success.contains(&Op::Delete { key: "/turnip/main/vips/v".into() });
    world.hosts[0].hold_commits = true;
    world.reload(0, new());
    let mut late = None;
    let mut pass = |world: &mut World, millis: u32| {
        for _ in 0..millis {
            world.run(MS);
            while let Some((_, txn)) = world.hosts[0].commits.front() {
                if frees(txn) {
                    late.get_or_insert_with(|| txn.clone());
                    world.delay(0);
                } else {
                    world.deliver(0);
                }
            }
        }
    };
    pass(&mut world, 100);
    assert_eq!(world.holder_of(X), [0], "as w\n{}", world.story());
    world.start(config("b", old()));
    pass(&mut world, 200);
    let late = late.expect("v is given free");
    // The operator thinks better of it.
    world.hosts[0].hold_commits = false;
    world.reload(0, old());
    world.run(60 * MS);
    assert_eq!(world.holder_of(X), [0], "{}", world.story());
    world.hosts[0].watch_cut = true;
    world.etcd.apply(&late);
    let mut overlapped = false;
    for _ in 0..500 {
        world.run(MS);
        overlapped |= world.holder_of(X).len() > 1;
    }
    overlapped
}

/// Interleaving 23.
#[test]
fn the_23rd_a_vip_that_is_configured_again_is_put_anew_before_it_is_held() {
    assert!(!overlaps_when_a_freeing_is_late(None));
    assert!(overlaps_when_a_freeing_is_late(Some(Mutant::ReaddedTrusted)));
}

/// Rule 14.3: B has published x under another name a moment before, and A has not heard of it.
fn overlaps_when_two_get_one_address_at_once(mutant: Option<Mutant>) -> bool {
    let mut world = World::new(Vec::new());
    for name in ["a", "b"] {
        world.start(config(name, vec![keep("z", Y)]));
        world.run(100 * MS);
    }
    if let Some(mutant) = mutant {
        world.hosts[0].node.set_mutant(mutant);
    }
    world.hosts[0].watch_cut = true;
    world.reload(1, vec![keep("w", X), keep("z", Y)]);
    world.run(50 * MS);
    assert_eq!(world.holder_of(X), [1], "{}", world.story());
    world.reload(0, vec![keep("v", X), keep("z", Y)]);
    let mut overlapped = false;
    for _ in 0..300 {
        world.run(MS);
        overlapped |= world.holder_of(X).len() > 1;
    }
    world.hosts[0].watch_cut = false;
    world.run(200 * MS);
    assert!(world.said(0, "already that of VIP w on b"), "{}", world.story());
    overlapped
}

/// Rule 14.3.
#[test]
fn what_is_new_is_held_only_when_all_is_known_that_others_published_before() {
    assert!(!overlaps_when_two_get_one_address_at_once(None));
    assert!(overlaps_when_two_get_one_address_at_once(Some(Mutant::AddedAtOnce)));
}

/// Rule 14.2: the hand-over of v was sent, and its answer is lost, when its configuration changes.
#[test]
fn a_reload_in_the_middle_of_a_hand_over_that_lands_late_ends_with_one_holder() {
    for back in [false, true] {
        for hold in [1, 3, 20, 600, 2_000] {
            let mut world = cluster(&[keep("v", X)]);
            world.hosts[0].hold_commits = true;
            world.etcd.put("/turnip/main/intents/drain/a", r#"{"v":1}"#);
            let hands_over = |txn: &Txn| {
                let puts = |op: &Op| matches!(op, Op::Put { key, .. } if key.ends_with("/vips/v"));
                txn.success.iter().any(puts)
            };
            let mut late = None;
            while late.is_none() {
                watch(&mut world, MS, &["10.0.0.50"]);
                while let Some((_, txn)) = world.hosts[0].commits.front() {
                    if hands_over(txn) {
                        late = Some(world.delay(0));
                    } else {
                        world.deliver(0);
                    }
                }
            }
            world.etcd.delete("/turnip/main/intents/drain/a");
            world.hosts[0].hold_commits = false;
            world.reload(0, vec![keep("w", X)]);
            watch(&mut world, hold * MS, &["10.0.0.50"]);
            if back {
                world.reload(0, vec![keep("v", X)]);
                watch(&mut world, hold * MS, &["10.0.0.50"]);
            }
            world.etcd.apply(&late.unwrap());
            watch(&mut world, 3_000 * MS, &["10.0.0.50"]);
            assert_eq!(world.holder_of(X).len(), 1, "{back} {hold}\n{}", world.story());
        }
    }
}

/// Rules 4.10 and 14.2: the drained host has published the old name first.
#[test]
fn a_rename_that_is_rolled_out_past_a_drained_host_ends_with_one_holder() {
    for drained in 0..3 {
        let mut world = cluster(&[keep("v", X)]);
        let name = ["a", "b", "c"][drained];
        world.etcd.put(&format!("/turnip/main/intents/drain/{name}"), r#"{"v":1}"#);
        watch(&mut world, 100 * MS, &["10.0.0.50"]);
        for i in (0..3).filter(|i| *i != drained) {
            world.reload(i, vec![keep("w", X)]);
            watch(&mut world, 2_000 * MS, &["10.0.0.50"]);
        }
        // For as long as it is drained, and not only until its own turn comes.
        let holders = world.holder_of(X);
        assert!(holders.len() == 1 && holders != [drained], "{holders:?}\n{}", world.story());
        world.reload(drained, vec![keep("w", X)]);
        assert!(watch(&mut world, 2_000 * MS, &["10.0.0.50"]) <= HAND_OVER_MAX);
        assert_eq!(world.holder_of(X), holders, "{}", world.story());
    }
}

/// Rule 14.1.
#[test]
fn what_belongs_to_the_session_stays_as_it_was() {
    let mut world = cluster(&[keep("v", X)]);
    let mut other = world.hosts[0].config.clone();
    (other.name, other.process) = ("z".parse().unwrap(), 99);
    other.lease = Lease::new(600 * MS).unwrap();
    let now = world.now;
    world.hosts[0].node.handle_configured(other, now);
    assert_eq!(watch(&mut world, 5_000 * MS, &["10.0.0.50"]), 0, "{}", world.story());
    assert_eq!(world.owner("v").as_deref(), Some("a"));
}

/// Rule 14.6.
#[test]
fn who_leaves_has_just_renewed_and_the_next_process_goes_on_with_all_that_is_there() {
    for hears in [false, true] {
        let mut world = World::new(Vec::new());
        for name in ["a", "b"] {
            world.start(if hears { world::hearing(name) } else { config(name, world::one_vip()) });
            world.run(100 * MS);
        }
        world.run(4_000 * MS);
        assert_eq!(world.holders(), [0]);
        let now = world.now;
        world.hosts[0].node.handle_leave(now);
        world.run_until(500 * MS, |w| w.hosts[0].exit == Some(Exit::Left));
        let renewed = world.hosts[0].node.deadline().unwrap().since(now);
        assert!(renewed >= 2_970 * MS, "{renewed:?}");
        assert!(!world.hosts[0].fence_removed && world.holders() == [0], "{}", world.story());
        let from = world.hosts[1].reports.len();
        // Nearly the whole lease.
        world.hosts[0].frozen = true;
        world.run(2_500 * MS);
        world.restart(0);
        world.run(4_000 * MS);
        assert_eq!((world.holders(), world.owner("v")), (vec![0], Some("a".into())));
        assert!(world.said(0, "resumed session"), "{}", world.story());
        assert!(world.said(0, "going on with 10.0.0.50/32 on eth0"), "{}", world.story());
        assert!(!has_touched(&world, 1, from) && !world.said(1, "expired the session of a"));
    }
}

/// Rule 14.6.
#[test]
fn who_leaves_waits_for_one_request_of_a_store_that_is_gone() {
    let mut world = cluster(&[keep("v", X)]);
    world.hosts[0].cut = true;
    world.run(10 * MS);
    let now = world.now;
    world.hosts[0].node.handle_leave(now);
    world.run_until(510 * MS, |w| w.hosts[0].exit == Some(Exit::Left));
    assert_eq!(world.holders(), [0], "{}", world.story());
}
