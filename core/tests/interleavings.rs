//! The interleavings that broke earlier drafts of the protocol, by their numbers in
//! `core/PROTOCOL.md`.
//!
//! Every one of them is played step by step; each ends in an overlap, or in a VIP that nobody
//! ever takes, when its rule is broken.

#![allow(missing_docs, reason = "the tests' names say it")]

mod world;

use turnip_core::records::{SessionRecord, decode};
use turnip_core::*;
use world::{MS, World, config, one_vip};

/// Drains `node`: its VIP is handed over.
fn drain(world: &mut World, node: &str) {
    world.etcd.put(&format!("/turnip/main/intents/drain/{node}"), r#"{"v":1}"#);
}

fn undrain(world: &mut World, node: &str) {
    world.etcd.delete(&format!("/turnip/main/intents/drain/{node}"));
}

fn at_most_one_holder(world: &mut World, millis: u64) {
    for _ in 0..millis {
        world.run(MS);
        assert!(world.holders().len() <= 1, "{}", world.story());
    }
}

/// Whether a transaction writes `vips/v`.
fn is_about_v(txn: &Txn) -> bool {
    txn.success.iter().any(|op| match op {
        Op::Put { key, .. } | Op::Delete { key } => key == "/turnip/main/vips/v",
        Op::Get { .. } => false,
    })
}

/// Lets host `i` run with its commits held until one about v is under way; others are delivered.
fn hold_until_about_v(world: &mut World, i: usize) {
    world.hosts[i].hold_commits = true;
    for _ in 0..10_000 {
        while let Some((_, txn)) = world.hosts[i].commits.front() {
            if is_about_v(txn) {
                return;
            }
            world.deliver(i);
        }
        world.run(MS);
    }
    panic!("no transaction about v:\n{}", world.story());
}

/// Interleaving 1.
#[test]
fn the_1st_a_deadline_counts_from_when_the_renewal_was_made_not_from_its_answer() {
    let mut world = World::of(&["a"]);
    world.hosts[0].hold_commits = true;
    let before = world.hosts[0].node.deadline();
    while world.hosts[0].commits.is_empty() {
        world.run(MS);
    }
    let made = world.now;
    world.run(300 * MS);
    world.deliver(0);
    assert_eq!(world.hosts[0].node.deadline(), before, "the watch has told nothing yet");
    world.tell(0);
    assert_ne!(world.hosts[0].node.deadline(), before);
    assert_eq!(world.hosts[0].node.deadline(), Some(made + 2970 * MS));
}

/// Interleaving 2.
#[test]
fn the_2nd_the_slowest_holder_is_silent_before_the_fastest_waiter_takes_over() {
    // A's clock runs 1 % slow, B's 1 % fast, and nothing but the deadline silences A: its daemon
    // is frozen right after a renewal was sent, and the answer took no time.
    let world = World::of(&["a", "b"]);
    let lease = world.hosts[0].config.lease;
    let slow = |d: std::time::Duration| d.as_nanos() * 100 / 99;
    let fast = |d: std::time::Duration| d.as_nanos() * 100 / 101;
    assert!(slow(lease.holding()) <= fast(lease.patience(lease.duration())) + 1);
}

/// Interleaving 3.
#[test]
fn the_3rd_an_expiry_fails_when_the_session_was_renewed_meanwhile() {
    let mut world = World::of(&["a", "b"]);
    world.hosts[1].watch_cut = true;
    // B hears nothing of A's renewals; its own are not noticed as missing for 2r only, so its
    // view of A is old. What it sends compares what it saw.
    world.run(900 * MS);
    let seen = world.session("a").unwrap().mod_revision;
    world.hosts[1].watch_cut = false;
    world.run(10_000 * MS);
    assert!(world.session("a").unwrap().mod_revision > seen);
    assert_eq!(world.session("a").unwrap().create_revision, Revision(2));
    assert_eq!(world.holders(), [0]);
}

/// Interleaving 3.
#[test]
fn the_3rd_expiry_compares_the_revision_of_the_last_renewal() {
    let mut world = World::of(&["a", "b"]);
    world.hosts[0].frozen = true;
    let seen = world.session("a").unwrap().mod_revision;
    world.hosts[1].hold_commits = true;
    let compares = |txn: &Txn| {
        let key = "/turnip/main/sessions/a".to_owned();
        txn.compares.contains(&Compare::ModRevision { key, is: seen })
    };
    for _ in 0..4000 {
        world.run(MS);
        match world.hosts[1].commits.front() {
            Some((_, txn)) if is_about_v(txn) => return assert!(compares(txn), "{txn:?}"),
            Some(_) => world.deliver(1),
            None => {}
        }
    }
    panic!("no expiry:\n{}", world.story());
}

/// Interleaving 4.
#[test]
fn the_4th_nothing_is_claimed_from_a_session_that_is_merely_late() {
    let mut world = World::of(&["a", "b"]);
    world.hosts[0].frozen = true;
    world.run(2400 * MS);
    assert_eq!(world.owner("v").as_deref(), Some("a"));
    world.hosts[0].frozen = false;
    at_most_one_holder(&mut world, 3000);
    assert_eq!(world.holders(), [0]);
}

/// Interleaving 5.
#[test]
fn the_5th_a_hand_over_waits_for_the_kernels_acknowledgement() {
    let mut world = World::of(&["a", "b"]);
    world.hosts[0].hold_ops = true;
    drain(&mut world, "a");
    world.run(400 * MS);
    assert_eq!(world.owner("v").as_deref(), Some("a"));
    assert_eq!(world.holders(), [0]);
    while !world.hosts[0].ops.is_empty() {
        world.perform(0);
    }
    world.hosts[0].hold_ops = false;
    at_most_one_holder(&mut world, 20);
    assert_eq!(world.holders(), [1]);
}

/// Interleaving 6.
#[test]
fn the_6th_a_vip_whose_hand_over_may_still_land_comes_back_only_by_a_new_write() {
    let mut world = World::of(&["a", "b"]);
    drain(&mut world, "a");
    hold_until_about_v(&mut world, 0);
    let hand_over = world.delay(0);
    // The operator changes her mind; A still reads itself as owner.
    undrain(&mut world, "a");
    world.run(MS);
    assert_eq!(world.owner("v").as_deref(), Some("a"));
    hold_until_about_v(&mut world, 0);
    assert!(world.holders().is_empty(), "not before the key is put anew");
    world.hosts[0].hold_commits = false;
    world.run(10 * MS);
    assert_eq!(world.holders(), [0]);
    assert!(!world.etcd.apply(&hand_over).succeeded);
    at_most_one_holder(&mut world, 3000);
    assert_eq!(world.holders(), [0]);
}

/// Interleaving 6.
#[test]
fn the_6th_a_late_hand_over_that_lands_first_is_obeyed() {
    let mut world = World::of(&["a", "b"]);
    drain(&mut world, "a");
    hold_until_about_v(&mut world, 0);
    let hand_over = world.delay(0);
    undrain(&mut world, "a");
    world.run(MS);
    assert!(world.etcd.apply(&hand_over).succeeded);
    world.hosts[0].hold_commits = false;
    at_most_one_holder(&mut world, 3000);
    assert_eq!(world.holders(), [1]);
}

/// Interleaving 6.
#[test]
fn the_6th_also_when_the_owner_was_killed_and_resumed_in_between() {
    let mut world = World::of(&["a", "b"]);
    drain(&mut world, "a");
    hold_until_about_v(&mut world, 0);
    assert!(world.holders().is_empty());
    let under_way = world.restart(0);
    undrain(&mut world, "a");
    hold_until_about_v(&mut world, 0);
    assert!(world.holders().is_empty(), "named as its own, and missing: put anew first");
    world.hosts[0].hold_commits = false;
    world.run(100 * MS);
    assert_eq!(world.holders(), [0], "{}", world.story());
    for (_, txn) in under_way {
        assert!(!world.etcd.apply(&txn).succeeded);
    }
    at_most_one_holder(&mut world, 3000);
}

/// Interleaving 7.
#[test]
fn the_7th_a_delayed_hand_over_does_not_land_after_somebody_else_claimed() {
    let mut world = World::of(&["a", "b", "c"]);
    drain(&mut world, "a");
    hold_until_about_v(&mut world, 0);
    let hand_over = world.delay(0);
    let to_b = String::from_utf8_lossy(match &hand_over.success[0] {
        Op::Put { value, .. } => value,
        other => panic!("{other:?}"),
    })
    .contains("\"node\":\"b\"");
    // A dies and is expired; the one that was not to be the successor claims.
    world.hosts[0].frozen = true;
    drain(&mut world, if to_b { "b" } else { "c" });
    let claimer = if to_b { 2 } else { 1 };
    world.run_until(20_000 * MS, |w| w.holders() == [claimer]);
    undrain(&mut world, if to_b { "b" } else { "c" });
    world.run(10 * MS);
    assert!(!world.etcd.apply(&hand_over).succeeded);
    at_most_one_holder(&mut world, 3000);
}

/// Interleaving 8.
#[test]
fn the_8th_a_claim_fails_when_the_named_session_is_alive_in_the_store() {
    let mut world = World::of(&["a", "b"]);
    // B starts afresh with a new session, and A hands v over to it; A's watch shows neither.
    let old = world.session("b").unwrap().create_revision;
    world.hosts[0].hold_commits = true;
    let mut claim = Txn::default();
    // A free VIP, as A sees it, that names B's old session.
    world.etcd.delete("/turnip/main/sessions/b");
    let free = format!(r#"{{"v":1,"node":"b","session":{}}}"#, old.0);
    world.etcd.put("/turnip/main/vips/v", &free);
    for _ in 0..2000 {
        world.run(MS);
        let about = world.hosts[0].commits.iter().find(|(_, txn)| is_about_v(txn));
        if let Some((_, txn)) = about {
            claim = txn.clone();
            break;
        }
    }
    let is_not = old;
    let key = "/turnip/main/sessions/b".to_owned();
    assert!(claim.compares.contains(&Compare::CreateRevisionNot { key, is_not }), "{claim:?}");
}

/// Interleaving 9.
#[test]
fn the_9th_late_news_of_an_earlier_claim_do_not_bring_the_address_back() {
    let mut world = World::of(&["a", "b"]);
    let claimed = world.etcd.kvs["/turnip/main/vips/v"].clone();
    drain(&mut world, "a");
    world.run(20 * MS);
    assert_eq!(world.holders(), [1]);
    undrain(&mut world, "a");
    world.run(5 * MS);
    let header =
        Header { cluster_id: 7, member_id: 1, raft_term: 2, revision: claimed.mod_revision };
    let events = vec![Event::Put(claimed)];
    let late = Update::Events(Events { header, events });
    let now = world.now;
    world.hosts[0].node.handle_update(late, now);
    at_most_one_holder(&mut world, 500);
    assert_eq!(world.holders(), [1]);
}

/// Interleaving 10.
#[test]
fn the_10th_every_attempt_has_a_nonce_of_its_own_and_the_one_that_landed_is_credited() {
    let mut world = World::of(&["a"]);
    world.hosts[0].hold_commits = true;
    let mut attempts = Vec::new();
    let mut nonces = std::collections::BTreeSet::new();
    while attempts.len() < 3 {
        world.run(MS);
        while let Some((id, txn)) = world.hosts[0].commits.pop_front() {
            let Op::Put { value, .. } = &txn.success[0] else { panic!() };
            nonces.insert(decode::<SessionRecord>(value).unwrap().nonce);
            attempts.push((world.now, txn));
            world.fail(0, id);
        }
    }
    assert_eq!(nonces.len(), 3);
    // The first lands late; the next attempt finds it.
    let (sent, first) = attempts.swap_remove(0);
    assert!(world.etcd.apply(&first).succeeded);
    world.hosts[0].watch_cut = true;
    while world.hosts[0].commits.is_empty() {
        world.run(MS);
    }
    world.deliver(0);
    world.hosts[0].watch_cut = false;
    world.tell(0);
    assert_eq!(world.hosts[0].node.deadline(), Some(sent + 2970 * MS));
}

/// Interleaving 11.
#[test]
fn the_11th_what_the_kernel_did_not_refresh_in_time_is_taken_away_before_it_may_come_back() {
    let mut world = World::of(&["a"]);
    world.hosts[0].hold_ops = true;
    while world.hosts[0].ops.is_empty() {
        world.run(MS);
    }
    let (id, op) = world.hosts[0].ops.pop_front().unwrap();
    assert!(matches!(op, KernelOp::Refresh { .. }), "{op:?}");
    let addresses = world.hosts[0].config.vips[0].assignments();
    let failed = addresses.map(|a| (a, KernelError::TooLate)).collect();
    let outcome = KernelOutcome::Done { failed, until: None };
    let now = world.now;
    world.hosts[0].node.handle_kernel_outcome(id, outcome, now);
    world.run(MS);
    assert!(matches!(world.hosts[0].ops.front(), Some((_, KernelOp::Withdraw { .. }))));
    world.hosts[0].hold_ops = false;
    world.run(5 * MS);
    assert_eq!(world.holders(), [0]);
}

/// Interleaving 12.
#[test]
fn the_12th_a_late_renewal_of_the_process_before_is_no_second_daemon() {
    let mut world = World::of(&["a", "b"]);
    world.hosts[0].hold_commits = true;
    while world.hosts[0].commits.is_empty() {
        world.run(MS);
    }
    let under_way = world.restart(0);
    world.run(MS);
    // The successor has read the key; now the dead process's renewal lands.
    assert!(world.etcd.apply(&under_way[0].1).succeeded);
    world.hosts[0].hold_commits = false;
    world.run(2000 * MS);
    assert_eq!(world.hosts[0].exit, None, "{}", world.story());
    assert_eq!(world.holders(), [0]);
}

/// Interleaving 13.
#[test]
fn the_13th_one_failed_renewal_in_each_lease_does_not_postpone_an_expiry_for_ever() {
    let mut world = World::of(&["a", "b"]);
    world.hosts[0].frozen = true;
    world.hosts[0].addresses.clear();
    for round in 0.. {
        assert!(round < 10, "never expired:\n{}", world.story());
        world.hosts[1].cut = true;
        world.run(300 * MS);
        world.hosts[1].cut = false;
        world.run(700 * MS);
        if world.holders() == [1] {
            break;
        }
    }
}

#[test]
fn a_twin_without_vips_changes_nothing() {
    // Not an interleaving, but the smallest world: a node that is configured with nothing.
    let mut world = World::of(&["a"]);
    world.start(config("b", Vec::new()));
    at_most_one_holder(&mut world, 3000);
    assert_eq!(world.holders(), [0]);
    assert_eq!(one_vip().len(), 1);
}
