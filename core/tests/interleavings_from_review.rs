//! The interleavings that a review found after the first version, by number.

#![allow(missing_docs, reason = "the tests' names say it")]

mod world;

use turnip_core::*;
use world::{MS, World, config, link, vip};

const KEEP: Policy = Policy::Priority { priority: 0, preempt: false };

fn at_most_one_holder(world: &mut World, millis: u64) {
    for _ in 0..millis {
        world.run(MS);
        let holders = world.holder_of("10.0.0.50/32");
        assert!(holders.len() <= 1, "{holders:?} at {:?}\n{}", world.now, world.story());
    }
}

/// Interleaving 14.
#[test]
fn the_14th_a_vip_renamed_and_back_is_not_held_at_the_revision_that_a_late_freeing_compares() {
    let old = || vec![vip("v", "10.0.0.50/32", KEEP)];
    let new = || vec![vip("w", "10.0.0.50/32", KEEP)];
    let mut world = World::new(vec![config("a", old())]);
    world.run(100 * MS);
    assert_eq!(world.holders(), [0]);
    // The next process knows x under another name. Its freeing of v is on its way for long.
    world.hosts[0].config.vips = new();
    world.restart(0);
    world.hosts[0].hold_commits = true;
    let frees = |txn: &Txn| txn.success.contains(&Op::Delete { key: "/turnip/main/vips/v".into() });
    let mut late = None;
    for _ in 0..500 {
        world.run(MS);
        while let Some((_, txn)) = world.hosts[0].commits.front() {
            if frees(txn) {
                late.get_or_insert(world.hosts[0].commits.pop_front().unwrap().1);
            } else {
                world.deliver(0);
            }
        }
    }
    let late = late.expect("v is given free");
    assert_eq!(world.owner("w").as_deref(), Some("a"));
    assert_eq!(world.holders(), [0], "x is there, as w");
    world.start(config("b", old()));
    world.run(100 * MS);
    // The third process has the old file, and finds x present.
    world.hosts[0].config.vips = old();
    world.restart(0);
    world.hosts[0].hold_commits = false;
    world.run(200 * MS);
    assert_eq!(world.owner("v").as_deref(), Some("a"), "{}", world.story());
    world.hosts[0].watch_cut = true;
    assert!(!world.etcd.apply(&late).succeeded, "v was put anew before it was held");
    at_most_one_holder(&mut world, 2000);
}

/// Interleaving 15.
#[test]
fn the_15th_after_a_noticed_rollback_nobody_takes_what_a_host_that_is_cut_off_may_hold() {
    let mut world = World::of(&["a", "b"]);
    world.run(1000 * MS);
    assert_eq!(world.holders(), [0]);
    let before = (world.etcd.kvs.clone(), world.etcd.revision);
    world.run(2000 * MS);
    // a hears nothing any more, and etcd is restored to what it was before a and b came.
    world.hosts[0].cut = true;
    world.etcd.kvs.clear();
    world.etcd.history.clear();
    world.etcd.revision = before.1 - 5;
    world.hosts[1].told = Some(0);
    at_most_one_holder(&mut world, 6000);
    assert!(world.said(1, "went back to revision"), "{}", world.story());
    assert_eq!(world.holders(), [1], "{}", world.story());
}

/// A store that goes back to what it was, for all hosts whose streams break.
fn restore(
    world: &mut World,
    (kvs, revision): (std::collections::BTreeMap<String, KeyValue>, i64),
) {
    world.etcd.history.retain(|(at, _)| *at <= revision);
    (world.etcd.kvs, world.etcd.revision) = (kvs, revision);
    let now = world.now;
    for host in &mut world.hosts {
        if host.told.take().is_some() {
            host.node.handle_follow_failed(&StoreError::Unavailable("restored".into()), now);
        }
    }
}

/// Interleaving 15: what the restored store names as this node's, and is not configured here.
#[test]
fn the_15th_after_a_noticed_rollback_nothing_is_given_free_either() {
    let mut world = World::of(&["a", "b"]);
    world.run(1000 * MS);
    let before = (world.etcd.kvs.clone(), world.etcd.revision);
    // a is started without v, which b takes; then b is cut off, and etcd is restored.
    world.hosts[0].config.vips = vec![vip("w", "10.0.0.51/32", KEEP)];
    world.restart(0);
    world.run(1000 * MS);
    assert_eq!(world.holder_of("10.0.0.50/32"), [1]);
    world.hosts[1].cut = true;
    restore(&mut world, before);
    world.start(config("c", world::one_vip()));
    at_most_one_holder(&mut world, 10_000);
    assert!(world.said(0, "went back to revision"), "{}", world.story());
    assert_eq!(world.holder_of("10.0.0.50/32"), [2], "{}", world.story());
}

/// Interleaving 15: a hand-over of the time before compares what is there again.
#[test]
fn the_15th_what_was_sent_before_a_rollback_does_not_land_on_what_is_held_after_it() {
    let mut world = World::of(&["a", "b"]);
    world.run(1000 * MS);
    world.hosts[0].hold_commits = true;
    world.etcd.put("/turnip/main/intents/pin/v", r#"{"v":1,"node":"b"}"#);
    let hands_over = |txn: &Txn| {
        let key = "/turnip/main/vips/v";
        txn.success.iter().any(|op| matches!(op, Op::Put { key: k, .. } if k == key))
    };
    let mut late = None;
    while late.is_none() {
        world.run(MS);
        while let Some((_, txn)) = world.hosts[0].commits.front() {
            if hands_over(txn) {
                late = Some(world.delay(0));
                break;
            }
            world.deliver(0);
        }
    }
    world.etcd.delete("/turnip/main/intents/pin/v");
    let before = (world.etcd.kvs.clone(), world.etcd.revision);
    world.hosts[0].hold_commits = false;
    world.run(1000 * MS);
    assert_eq!(world.holders(), [0], "{}", world.story());
    // Restored, while a's kernel takes its time.
    world.hosts[0].hold_ops = true;
    restore(&mut world, before);
    world.run(1000 * MS);
    world.hosts[0].hold_ops = false;
    world.run(10_000 * MS);
    assert_eq!(world.holders(), [0], "{}", world.story());
    world.hosts[0].watch_cut = true;
    assert!(!world.etcd.apply(&late.unwrap()).succeeded, "{}", world.story());
    at_most_one_holder(&mut world, 1000);
}

/// Interleaving 16.
#[test]
fn the_16th_a_vip_that_works_is_not_given_up_again_for_a_host_whose_kernel_refuses_it() {
    let vips = || vec![vip("v", "10.0.0.50/32", Policy::Priority { priority: 0, preempt: true })];
    let mut world = World::new(vec![config("a", vips())]);
    world.run(100 * MS);
    let mut better = config("b", vips());
    better.vips[0].policy = Policy::Priority { priority: 9, preempt: true };
    let b = world.start(better);
    world.hosts[b].refuse_assume = Some(KernelError::Refused("no buffer space".into()));
    world.run(5000 * MS);
    let withdrawals = |world: &World| {
        let forfeited = |r: &&Report| matches!(r, Report::Forfeited { .. });
        world.hosts[0].reports.iter().filter(forfeited).count()
    };
    assert_eq!(withdrawals(&world), 1, "it was tried once");
    world.run(600_000 * MS);
    assert_eq!(withdrawals(&world), 1, "{}", world.story());
    assert_eq!(world.holders(), [0]);
    // A new process is no new attempt.
    world.restart(b);
    world.run(60_000 * MS);
    assert_eq!(withdrawals(&world), 1, "{}", world.story());
    // An operator who pins it there now wants another attempt, and gets one.
    world.etcd.put("/turnip/main/intents/pin/v", r#"{"v":1,"node":"b"}"#);
    world.run(120_000 * MS);
    assert_eq!(withdrawals(&world), 2, "{}", world.story());
    assert_eq!(world.holders(), [0]);
    assert!(world.said(0, "ignoring the pin of v to b"), "{}", world.story());
    world.hosts[b].refuse_assume = None;
    world.etcd.put("/turnip/main/intents/pin/v", r#"{"v":1,"node":"b","again":1}"#);
    world.run(1000 * MS);
    assert_eq!(world.holders(), [b], "{}", world.story());
    world.etcd.delete("/turnip/main/intents/pin/v");
    world.run(60_000 * MS);
    assert_eq!(world.holders(), [b], "it works there now");
}

/// Interleaving 17.
#[test]
fn the_17th_the_address_of_a_drained_host_is_not_lost_to_one_that_has_it_under_another_name() {
    let mut world = World::new(vec![config("a", vec![vip("v", "10.0.0.50/32", KEEP)])]);
    world.run(100 * MS);
    world.start(config("b", vec![vip("w", "10.0.0.50/32", KEEP)]));
    world.run(100 * MS);
    assert_eq!(world.holders(), [0]);
    // The drain arrives, and the kernel takes its time.
    world.hosts[0].refuse_withdraw = Some(KernelError::Refused("busy".into()));
    world.etcd.put("/turnip/main/intents/drain/a", r#"{"v":1}"#);
    at_most_one_holder(&mut world, 1000);
    assert_eq!(world.holders(), [0]);
    world.hosts[0].refuse_withdraw = None;
    at_most_one_holder(&mut world, 2000);
    assert_eq!(world.holders(), [1], "{}", world.story());
    // Who was the first is the second now, in whatever order news come.
    world.hosts[0].watch_cut = true;
    world.etcd.delete("/turnip/main/intents/drain/a");
    at_most_one_holder(&mut world, 300);
    world.hosts[0].watch_cut = false;
    at_most_one_holder(&mut world, 10_000);
    assert_eq!(world.holders(), [1], "{}", world.story());
    assert!(world.said(0, "already that of VIP w on b"), "{}", world.story());
}

/// Interleaving 17: the watch tells of the own hand-over before its answer comes.
#[test]
fn the_17th_a_place_is_yielded_whichever_comes_first_of_the_answer_and_the_news() {
    let mut world = World::new(vec![config("a", vec![vip("v", "10.0.0.50/32", KEEP)])]);
    world.run(100 * MS);
    world.start(config("b", vec![vip("w", "10.0.0.50/32", KEEP)]));
    world.run(100 * MS);
    world.hosts[0].hold_commits = true;
    world.hosts[0].links.insert("eth0".into(), false);
    world.event(0, KernelEvent::LinkChanged(link("eth0", false, true)));
    let frees = |txn: &Txn| txn.success.contains(&Op::Delete { key: "/turnip/main/vips/v".into() });
    for _ in 0..5000 {
        world.run(MS);
        while let Some((id, txn)) = world.hosts[0].commits.front().cloned() {
            if !frees(&txn) {
                world.deliver(0);
                continue;
            }
            world.hosts[0].commits.pop_front();
            let answer = world.etcd.apply(&txn);
            world.run(5 * MS);
            let now = world.now;
            world.hosts[0].node.handle_committed(id, Ok(answer), now);
        }
    }
    assert_eq!(world.owner("w").as_deref(), Some("b"), "{}", world.story());
}

/// Interleaving 17: what yields a place may land late.
#[test]
fn the_17th_a_place_that_may_still_be_yielded_is_not_used() {
    let mut world = World::new(vec![config("a", vec![vip("v", "10.0.0.50/32", KEEP)])]);
    world.run(100 * MS);
    world.start(config("b", vec![vip("w", "10.0.0.50/32", KEEP)]));
    world.run(100 * MS);
    world.hosts[0].hold_commits = true;
    world.etcd.put("/turnip/main/intents/drain/a", r#"{"v":1}"#);
    let yields = |txn: &Txn| {
        let says = |value: &Vec<u8>| String::from_utf8_lossy(value).contains("\"yields\":true");
        txn.success.iter().any(|op| matches!(op, Op::Put { value, .. } if says(value)))
    };
    let mut late = None;
    while late.is_none() {
        world.run(MS);
        while let Some((id, txn)) = world.hosts[0].commits.front().cloned() {
            if yields(&txn) {
                world.hosts[0].commits.pop_front();
                world.fail(0, id);
                late = Some(txn);
                break;
            }
            world.deliver(0);
        }
    }
    // No answer came, and the drain is over. Before a takes v again it writes its record once more.
    world.etcd.delete("/turnip/main/intents/drain/a");
    world.hosts[0].hold_commits = false;
    world.run(2000 * MS);
    assert_eq!(world.holders(), [0], "{}", world.story());
    assert!(!world.etcd.apply(&late.unwrap()).succeeded);
    at_most_one_holder(&mut world, 1000);
}

/// Interleaving 19.
#[test]
fn the_19th_what_the_process_before_published_does_not_land_on_the_record_of_one_that_holds() {
    let vips = || vec![vip("v", "10.0.0.50/32", KEEP)];
    let mut world = World::new(vec![config("a", vips())]);
    world.run(100 * MS);
    world.start(config("b", vec![vip("w", "10.0.0.50/32", KEEP)]));
    world.run(100 * MS);
    // The next process does not have v. What it publishes is on its way for long.
    world.hosts[0].config.vips = vec![vip("x", "10.0.0.51/32", KEEP)];
    world.restart(0);
    world.hosts[0].hold_commits = true;
    let publishes = |txn: &Txn| {
        let key = "/turnip/main/nodes/a";
        txn.success.iter().any(|op| matches!(op, Op::Put { key: k, .. } if k == key))
    };
    let mut late = None;
    while late.is_none() {
        world.run(MS);
        while let Some((_, txn)) = world.hosts[0].commits.front() {
            if publishes(txn) {
                late = Some(txn.clone());
                break;
            }
            world.deliver(0);
        }
    }
    // It is killed, and the one after it has v again, as the record still says.
    world.hosts[0].config.vips = vips();
    world.restart(0);
    world.hosts[0].hold_commits = false;
    at_most_one_holder(&mut world, 2000);
    assert_eq!(world.holder_of("10.0.0.50/32"), [0], "{}", world.story());
    world.etcd.apply(&late.unwrap());
    at_most_one_holder(&mut world, 3000);
    assert_eq!(world.holder_of("10.0.0.50/32"), [0], "{}", world.story());
}

/// What hosts had before one of them was configured otherwise.
fn v_and_w() -> Vec<VipConfig> {
    vec![vip("v", "10.0.0.50/32", KEEP), vip("w", "10.0.0.51/32", KEEP)]
}

/// Runs until the next kernel operation of host 0 is a withdrawal, and performs all others.
fn run_to_withdrawal(world: &mut World) {
    world.hosts[0].hold_ops = true;
    for _ in 0..1000 {
        match world.hosts[0].ops.front() {
            Some((_, KernelOp::Withdraw { .. })) => return,
            Some(_) => world.perform(0),
            None => world.run(MS),
        }
    }
    panic!("nothing is taken away:\n{}", world.story());
}

/// Interleaving 20.
#[test]
fn the_20th_a_name_is_not_given_free_while_its_address_is_here_under_one_that_is_owned() {
    let mut world = World::new(vec![config("a", v_and_w())]);
    world.run(100 * MS);
    world.start(config("b", v_and_w()));
    world.run(100 * MS);
    // The next process has both addresses as w, which is its own, and nothing called v.
    world.hosts[0].config.vips = vec![vip("w", "10.0.0.50/32 10.0.0.51/32", KEEP)];
    world.restart(0);
    run_to_withdrawal(&mut world);
    at_most_one_holder(&mut world, 1000);
    world.hosts[0].hold_ops = false;
    at_most_one_holder(&mut world, 5000);
    assert_eq!(world.owner("v").as_deref(), Some("b"), "{}", world.story());
}

/// Interleaving 20: two names are exchanged, and only one of the addresses goes.
#[test]
fn the_20th_a_name_is_not_passed_on_while_its_address_is_here_under_another() {
    let mut world = World::new(vec![config("a", v_and_w())]);
    world.run(100 * MS);
    world.start(config("b", v_and_w()));
    world.run(100 * MS);
    world.etcd.put("/turnip/main/intents/drain/a", r#"{"v":1}"#);
    world.hosts[0].config.vips =
        vec![vip("w", "10.0.0.50/32", KEEP), vip("v", "10.0.0.51/32", KEEP)];
    world.hosts[0].frozen = true;
    world.restart(0);
    run_to_withdrawal(&mut world);
    let Some((id, KernelOp::Withdraw { addresses })) = world.hosts[0].ops.pop_front() else {
        unreachable!()
    };
    let (gone, busy): (Vec<_>, Vec<_>) = addresses.into_iter().partition(|a| a.vip.as_str() == "v");
    assert_eq!((gone.len(), busy.len()), (1, 1));
    world.hosts[0].addresses.retain(|one| one.address != gone[0].address);
    let failed = busy.into_iter().map(|one| (one, KernelError::Refused("busy".into()))).collect();
    let (now, outcome) = (world.now, KernelOutcome::Done { failed, until: None });
    world.hosts[0].node.handle_kernel_outcome(id, outcome, now);
    at_most_one_holder(&mut world, 1000);
    world.hosts[0].hold_ops = false;
    at_most_one_holder(&mut world, 5000);
    assert_eq!(world.holder_of("10.0.0.50/32"), [1], "{}", world.story());
}
