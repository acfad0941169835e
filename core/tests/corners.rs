//! Corners of the rules in which something was wrong once, each by what must hold there.

#![allow(missing_docs, reason = "the tests' names say it")]

mod world;

use turnip_core::*;
use world::{MS, World, config, link, one_vip, vip};

const KEEP: Policy = Policy::Priority { priority: 0, preempt: false };

/// Rule 6.2.
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

/// Rule 5.6.
#[test]
fn giving_free_what_is_not_configured_is_tried_again_when_its_answer_is_lost() {
    let mut world = World::of(&["a", "b"]);
    world.hosts[0].config.vips = vec![vip("w", "10.0.0.51/32", KEEP)];
    world.restart(0);
    world.hosts[0].hold_commits = true;
    let gives_free =
        |txn: &Txn| txn.success.contains(&Op::Delete { key: "/turnip/main/vips/v".into() });
    let mut lost = None;
    for _ in 0..1000 {
        world.run(MS);
        while let Some((id, txn)) = world.hosts[0].commits.front().cloned() {
            if gives_free(&txn) && lost.is_none() {
                lost = Some(id);
                world.hosts[0].commits.pop_front();
            } else {
                world.deliver(0);
            }
        }
    }
    // The request that gives v free is lost, as the node learns when its time is up.
    world.fail(0, lost.expect("v is given free"));
    world.hosts[0].hold_commits = false;
    world.run(20_000 * MS);
    assert_eq!(world.owner("v").as_deref(), Some("b"), "{}", world.story());
}

/// Rule 5.6.
#[test]
fn a_vip_that_has_another_name_now_is_given_free_after_its_address_is_gone() {
    let mut world = World::of(&["a", "b"]);
    assert_eq!(world.holders(), [0]);
    world.hosts[0].config.vips = vec![vip("w", "10.0.0.50/32", KEEP)];
    world.restart(0);
    // The kernel lists what there is, and then takes its time.
    world.hosts[0].hold_ops = true;
    world.run(MS);
    world.perform(0);
    for _ in 0..1000 {
        world.run(MS);
        assert!(world.holders().len() <= 1, "{}", world.story());
    }
    world.hosts[0].hold_ops = false;
    world.run(1000 * MS);
    assert_eq!(world.holders(), [1], "{}", world.story());
}

/// Rule 5.5.
#[test]
fn who_stops_is_nobodys_preferred_successor() {
    let mut world = World::of(&["a", "b"]);
    world.etcd.put("/turnip/main/intents/pin/v", r#"{"v":1,"node":"a"}"#);
    world.run(1000 * MS);
    assert_eq!(world.holders(), [0]);
    let now = world.now;
    world.hosts[0].node.handle_stop(now);
    world.run(500 * MS);
    assert_eq!(world.holders(), [1]);
    assert!(!world.said(1, "forfeiting"), "{}", world.story());
}

/// Rule 9.2.
#[test]
fn a_watch_that_ends_right_after_its_snapshot_each_time_is_not_followed_without_a_pause() {
    let mut world = World::of(&["a"]);
    let before = world.hosts[0].follows;
    for _ in 0..1000 {
        world.run(MS);
        if world.hosts[0].told.take().is_some() {
            let error = StoreError::Unavailable("no watch for you".into());
            let now = world.now;
            world.hosts[0].node.handle_follow_failed(&error, now);
        }
    }
    let follows = world.hosts[0].follows - before;
    assert!(follows < 20, "{follows} snapshots in a second");
}

/// Rule 6.1.
#[test]
fn a_removal_of_strays_that_fails_as_a_whole_is_no_removal() {
    let mut world = World::new(Vec::new());
    world.start(config("a", one_vip()));
    world.hosts[0].addresses.insert(PresentAddress {
        interface: "eth0".into(),
        address: "10.9.9.9/32".parse().unwrap(),
        marked: true,
        misplaced: false,
    });
    world.hosts[0].hold_ops = true;
    world.run(2 * MS);
    world.perform(0);
    world.run(2 * MS);
    let (id, op) = world.hosts[0].ops.pop_front().unwrap();
    assert!(matches!(op, KernelOp::Withdraw { .. }));
    let now = world.now;
    let outcome = KernelOutcome::Failed(KernelError::Refused("busy".into()));
    world.hosts[0].node.handle_kernel_outcome(id, outcome, now);
    world.run(100 * MS);
    assert!(world.session("a").is_none(), "{}", world.story());
    world.hosts[0].hold_ops = false;
    world.run(3000 * MS);
    assert_eq!(world.holder_of("10.9.9.9/32"), [0; 0]);
    assert_eq!(world.holder_of("10.0.0.50/32"), [0]);
}

/// Rule 1.6.
#[test]
fn a_lease_of_a_fraction_of_a_millisecond_is_declared_no_shorter_than_it_is() {
    let lease =
        Lease::with(std::time::Duration::from_micros(200_900), None, None, Some(500)).unwrap();
    let mut one = config("a", one_vip());
    one.lease = lease;
    let mut world = World::new(vec![one]);
    world.run(100 * MS);
    let kv = world.session("a").unwrap();
    let record: records::SessionRecord = records::decode(&kv.value).unwrap();
    assert!(lease.patience(record.lease()) > lease.holding(), "{:?}", record.lease());
}

fn two_names(world: &mut World) {
    world.start(config("a", vec![vip("v", "10.0.0.50/32", KEEP)]));
    world.run(100 * MS);
    world.start(config("b", vec![vip("w", "10.0.0.50/32", KEEP)]));
    world.run(100 * MS);
    assert_eq!(world.holder_of("10.0.0.50/32"), [0]);
    assert!(world.said(1, "already that of VIP v"));
}

/// Rule 4.7.
#[test]
fn a_changed_configuration_does_not_lose_the_right_of_the_first_to_an_address() {
    let mut world = World::new(Vec::new());
    two_names(&mut world);
    world.hosts[0].config.vips.push(vip("x", "10.0.0.99/32", KEEP));
    world.restart(0);
    // Its publication lands, and the answer is lost.
    world.hosts[0].hold_commits = true;
    for _ in 0..1000 {
        world.run(MS);
        while let Some((_, txn)) = world.hosts[0].commits.front() {
            let publishes = txn
                .success
                .iter()
                .any(|op| matches!(op, Op::Put { key, .. } if key == "/turnip/main/nodes/a"));
            if publishes {
                world.hosts[0].watch_cut = true;
                world.deliver_without_answer(0);
            } else {
                world.deliver(0);
            }
        }
        assert!(world.holder_of("10.0.0.50/32").len() <= 1, "{}", world.story());
    }
}

/// Rule 4.8.
#[test]
fn a_publication_of_the_process_before_that_lands_late_leaves_nobody_stuck() {
    let mut world = World::of(&["a", "b"]);
    let before = world.hosts[0].config.vips.clone();
    world.hosts[0].config.vips = vec![vip("w", "10.0.0.51/32", KEEP)];
    world.restart(0);
    world.hosts[0].hold_commits = true;
    let publishes = |txn: &Txn| {
        txn.success
            .iter()
            .any(|op| matches!(op, Op::Put { key, .. } if key == "/turnip/main/nodes/a"))
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
    let late = late.unwrap();
    world.hosts[0].config.vips = before;
    world.restart(0);
    // The next process has read what there is, and has written nothing yet.
    world.run(5 * MS);
    assert!(world.etcd.apply(&late).succeeded);
    world.hosts[0].hold_commits = false;
    for _ in 0..3000 {
        world.run(MS);
        assert!(world.holder_of("10.0.0.50/32").len() <= 1, "{}", world.story());
    }
    assert_eq!(world.holder_of("10.0.0.50/32").len(), 1, "{}", world.story());
    let record = world.etcd.json("/turnip/main/nodes/a").unwrap();
    assert!(record["vips"]["v"].is_object(), "{record}");
}

/// Rule 4.8.
#[test]
fn a_published_definition_that_somebody_deletes_is_published_again() {
    let mut world = World::of(&["a", "b"]);
    world.etcd.delete("/turnip/main/nodes/a");
    world.run(100 * MS);
    assert!(world.etcd.json("/turnip/main/nodes/a").is_some());
    assert_eq!(world.holders(), [0]);
}

/// Rule 4.8.
#[test]
fn a_publication_that_does_not_know_what_was_published_with_the_session_fails() {
    let mut world = World::new(Vec::new());
    world.start(config("a", vec![vip("v", "10.0.0.50/32", KEEP)]));
    world.hosts[0].hold_commits = true;
    world.run(2 * MS);
    // The session is opened and the answer is lost; the next attempt reads the session only.
    world.hosts[0].watch_cut = true;
    world.deliver_without_answer(0);
    while world.hosts[0].commits.is_empty() {
        world.run(MS);
    }
    world.deliver(0);
    world.run(MS);
    // What it publishes then is late.
    let publishes = |txn: &Txn| {
        txn.success
            .iter()
            .any(|op| matches!(op, Op::Put { key, .. } if key == "/turnip/main/nodes/a"))
    };
    let at = world.hosts[0].commits.iter().position(|(_, txn)| publishes(txn));
    let (_, late) = world.hosts[0].commits.remove(at.expect("a publication")).unwrap();
    world.hosts[0].hold_commits = false;
    world.hosts[0].watch_cut = false;
    world.run(100 * MS);
    world.start(config("b", vec![vip("w", "10.0.0.50/32", KEEP)]));
    world.run(100 * MS);
    assert_eq!(world.holder_of("10.0.0.50/32"), [0], "{}", world.story());
    world.hosts[0].watch_cut = true;
    world.etcd.apply(&late);
    for _ in 0..100 {
        world.run(MS);
        assert_eq!(world.holder_of("10.0.0.50/32"), [0], "{}", world.story());
    }
}

/// Rule 7.5.
#[test]
fn an_assumption_that_comes_too_late_is_not_repeated_without_a_pause() {
    let mut world = World::of(&["a"]);
    world.run(1000 * MS);
    // Without a fence nothing is put there when less than two seconds are left.
    world.hosts[0].cut = true;
    world.run(1500 * MS);
    world.hosts[0].refuse_assume = Some(KernelError::TooLate);
    world.remove_behind_the_back(0);
    let before = world.hosts[0].reports.len();
    world.run(500 * MS);
    let reports = world.hosts[0].reports.len() - before;
    assert!(reports < 50, "{reports} reports");
    world.hosts[0].cut = false;
    world.hosts[0].refuse_assume = None;
    world.run(1000 * MS);
    assert_eq!(world.holders(), [0]);
}

/// Rule 5.5.
#[test]
fn a_stop_waits_for_the_session_that_is_just_being_opened() {
    let mut world = World::of(&["b"]);
    let a = world.start(config("a", one_vip()));
    world.hosts[a].hold_commits = true;
    world.run(5 * MS);
    assert!(!world.hosts[a].commits.is_empty());
    let now = world.now;
    world.hosts[a].node.handle_stop(now);
    world.run(5 * MS);
    world.hosts[a].hold_commits = false;
    world.run(200 * MS);
    // Whatever was sent has arrived by now, whether or not the daemon waited for it.
    while !world.hosts[a].commits.is_empty() {
        world.deliver(a);
    }
    assert_eq!(world.hosts[a].exit, Some(Exit::Stopped));
    assert!(world.session("a").is_none(), "{}", world.story());
}

/// Rule 5.5.
#[test]
fn a_stop_while_resuming_hands_over() {
    let mut world = World::of(&["a", "b"]);
    world.restart(0);
    world.hosts[0].hold_commits = true;
    world.run(5 * MS);
    let now = world.now;
    world.hosts[0].node.handle_stop(now);
    world.run(5 * MS);
    world.hosts[0].hold_commits = false;
    world.run(200 * MS);
    assert_eq!(world.hosts[0].exit, Some(Exit::Stopped));
    assert_eq!(world.holders(), [1], "{}", world.story());
    assert!(!world.said(0, "lost session"), "{}", world.story());
}

#[test]
fn a_listing_that_is_older_than_news_of_a_link_does_not_outlive_them() {
    let mut world = World::of(&["a"]);
    // The interface is made anew. The kernel is read while it is gone ...
    world.hosts[0].links.clear();
    world.event(0, KernelEvent::LinkGone("eth0".into()));
    world.run(500 * MS);
    assert_eq!(world.holders(), [0; 0]);
    world.hosts[0].hold_ops = true;
    world.event(0, KernelEvent::Lost);
    world.run(MS);
    let at = world.hosts[0].ops.iter().position(|(_, op)| *op == KernelOp::List).unwrap();
    let (id, _) = world.hosts[0].ops.remove(at).unwrap();
    // ... and that it is back is heard of first.
    world.hosts[0].links.insert("eth0".to_owned(), true);
    world.event(0, KernelEvent::LinkChanged(link("eth0", true, true)));
    let (now, listing) = (world.now, Listing::default());
    world.hosts[0].node.handle_kernel_outcome(id, KernelOutcome::Listed(listing), now);
    world.hosts[0].hold_ops = false;
    world.run(5000 * MS);
    assert_eq!(world.holders(), [0], "{}", world.story());
}

#[test]
fn endpoints_of_two_clusters_are_not_followed_in_turn_without_a_pause() {
    let mut world = World::of(&["a"]);
    world.hosts[0].hold_commits = true;
    let before = world.hosts[0].follows;
    for _ in 0..1000 {
        world.run(MS);
        world.etcd.cluster_id = 8;
        while !world.hosts[0].commits.is_empty() {
            world.deliver(0);
        }
        world.etcd.cluster_id = 7;
    }
    let follows = world.hosts[0].follows - before;
    assert!(follows < 20, "{follows} snapshots in a second");
}

#[test]
fn an_interface_that_was_missing_for_a_moment_blocks_its_vip_for_a_moment() {
    let mut world = World::new(vec![config("a", one_vip())]);
    world.hosts[0].refuse_assume = Some(KernelError::NoInterface);
    // By the time the kernel's answer is in hand the interface is back, and that was told before.
    world.run(100 * MS);
    assert!(world.said(0, "the interface does not exist"), "{}", world.story());
    world.hosts[0].refuse_assume = None;
    world.run(5000 * MS);
    assert_eq!(world.holders(), [0], "{}", world.story());
}

#[test]
fn a_vip_is_not_given_up_again_and_again_for_a_host_whose_kernel_does_not_know_the_interface() {
    let vips =
        |priority| vec![vip("v", "10.0.0.50/32", Policy::Priority { priority, preempt: true })];
    let mut world = World::new(vec![config("a", vips(0))]);
    world.run(100 * MS);
    let b = world.start(config("b", vips(9)));
    world.hosts[b].refuse_assume = Some(KernelError::NoInterface);
    world.run(600_000 * MS);
    let forfeited = |r: &&Report| matches!(r, Report::Forfeited { .. });
    assert_eq!(world.hosts[0].reports.iter().filter(forfeited).count(), 1, "{}", world.story());
    assert_eq!(world.holders(), [0]);
}

#[test]
fn an_interface_that_is_gone_does_not_come_back_because_a_back_off_is_over() {
    let mut world = World::new(vec![config("a", one_vip())]);
    world.hosts[0].hold_ops = true;
    while !matches!(world.hosts[0].ops.front(), Some((_, KernelOp::Assume { .. }))) {
        if !world.hosts[0].ops.is_empty() {
            world.perform(0);
        }
        world.run(MS);
    }
    // The interface goes, which is told before the assumption's answer.
    world.hosts[0].links.clear();
    world.event(0, KernelEvent::LinkGone("eth0".into()));
    world.hosts[0].refuse_assume = Some(KernelError::NoInterface);
    world.hosts[0].hold_ops = false;
    world.run(20_000 * MS);
    assert!(!world.said(0, "can hold v here again"), "{}", world.story());
    world.hosts[0].refuse_assume = None;
    world.hosts[0].links.insert("eth0".to_owned(), true);
    world.event(0, KernelEvent::LinkChanged(link("eth0", true, true)));
    world.run(100 * MS);
    assert_eq!(world.holders(), [0], "{}", world.story());
}

#[test]
fn a_write_whose_time_is_over_when_its_answer_comes_is_not_told_to_the_kernel() {
    let mut world = World::of(&["a"]);
    world.run(2_000 * MS);
    world.hosts[0].hold_commits = true;
    world.run_until(1_000 * MS, |world| !world.hosts[0].commits.is_empty());
    // The daemon is stopped until its lease is over, and hears the answer first.
    world.hosts[0].frozen = true;
    world.run(2_980 * MS);
    world.hosts[0].hold_ops = true;
    world.deliver(0);
    world.hosts[0].frozen = false;
    world.run(MS);
    let ops: Vec<&KernelOp> = world.hosts[0].ops.iter().map(|(_, op)| op).collect();
    assert!(matches!(ops[..], [KernelOp::Withdraw { .. }]), "{ops:?}");
}
