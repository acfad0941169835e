//! Orders of events that a review and the swarm found, in which an earlier draft gave a VIP two hosts, or
//! none for a day: all but one are about rule 10.

mod world;

use std::time::Duration;

use turnip_core::*;
use world::*;

const SECOND: Duration = Duration::from_secs(1);

/// The longest time, in ms, in which more than one host has an address.
fn overlap(world: &mut World, duration: Duration) -> u32 {
    let (mut longest, mut lasts) = (0, 0);
    let end = world.now + duration;
    while world.now < end {
        world.run(10 * MS);
        lasts = if world.holders().len() > 1 { lasts + 10 } else { 0 };
        longest = longest.max(lasts);
    }
    longest
}

/// For how long nobody has it, in ms.
fn dark(world: &mut World, duration: Duration) -> u32 {
    let end = world.now + duration;
    let mut dark = 0;
    while world.now < end {
        world.run(100 * MS);
        dark += if world.holders().is_empty() { 100 } else { 0 };
    }
    dark
}

fn cut_off(world: &mut World, i: usize) {
    (world.hosts[i].cut, world.hosts[i].watch_cut) = (true, true);
}

/// Another machine of the name b.
fn another_b() -> NodeConfig {
    NodeConfig { host: HostId("host-x/boot-1/netns".into()), process: 78, ..hearing("b") }
}

fn writes(txn: &Txn, wanted: &str) -> bool {
    txn.success.iter().any(|op| matches!(op, Op::Put { key, .. } if key.ends_with(wanted)))
}

/// Delivers what host `i` commits until one such is next.
fn until_next(world: &mut World, i: usize, wanted: impl Fn(&Txn) -> bool) {
    world.hosts[i].hold_commits = true;
    for _ in 0..5_000 {
        world.run(MS);
        while let Some((_, txn)) = world.hosts[i].commits.front() {
            if wanted(txn) {
                return;
            }
            world.deliver(i);
        }
    }
    panic!("it does not come:\n{}", world.story());
}

/// Rule 10.9. The deletion has landed, its answer is lost, and another machine of that name opens a session
/// at once.
#[test]
fn who_may_have_deleted_its_session_acknowledges_nobody() {
    for (mutant, overlaps) in [(None, false), (Some(Mutant::AcknowledgeWhenClosing), true)] {
        // A stop waits for one renew interval: with this one, for longer than clocks may differ.
        let lease = Lease::with(3 * SECOND, Some(900 * MS), None, None).unwrap();
        let mut world = World::new(Vec::new());
        for config in [hearing("a"), hearing("b")] {
            world.start(NodeConfig { lease, ..config });
            world.run(100 * MS);
        }
        world.run(2 * SECOND);
        if let Some(mutant) = mutant {
            world.hosts[1].node.set_mutant(mutant);
        }
        let other = world.start(NodeConfig { lease, ..another_b() });
        (world.hosts[other].hold_beats, world.hosts[other].mute) = (true, true);
        world.run(100 * MS);
        cut_off(&mut world, 0);
        world.run(4 * SECOND);
        assert_eq!(world.holders(), [0]);
        world.hosts[1].watch_cut = true;
        let now = world.now;
        world.hosts[1].node.handle_stop(now);
        let key = "/turnip/main/sessions/b".to_owned();
        until_next(&mut world, 1, |txn| txn.success.contains(&Op::Delete { key: key.clone() }));
        world.deliver_without_answer(1);
        (world.hosts[1].hold_commits, world.hosts[1].cut) = (false, true);
        assert_eq!(overlap(&mut world, 8 * SECOND) > 0, overlaps, "{}", world.story());
    }
}

/// Rule 10.2. A session that an own request opened late, after another machine had the name, is resumed:
/// until then that machine may have acknowledged.
#[test]
fn who_resumes_a_session_counts_no_silence_from_before_it_wrote_it() {
    for (mutant, overlaps) in [(None, false), (Some(Mutant::SilentFromBeforeResuming), true)] {
        let mut world = World::hearing(&["a"]);
        let other = world.start(another_b());
        if let Some(mutant) = mutant {
            world.hosts[other].node.set_mutant(mutant);
        }
        let waiting = &mut world.hosts[other];
        (waiting.hold_beats, waiting.mute, waiting.hold_commits) = (true, true, true);
        world.run_until(SECOND, |world| !world.hosts[other].commits.is_empty());
        let opening = world.delay(other);
        let b = world.start(hearing("b"));
        world.run(100 * MS);
        while let Some((id, _)) = world.hosts[other].commits.pop_front() {
            world.fail(other, id);
        }
        world.hosts[other].hold_commits = false;
        let c = world.start(hearing("c"));
        world.run(3 * SECOND);
        assert_eq!(
            (world.holders(), world.witnesses("a")),
            (vec![0], vec!["b".into(), "c".into()])
        );
        // a and b go on without the store. c hears a and not b, and expires b; then the request lands.
        cut_off(&mut world, 0);
        cut_off(&mut world, b);
        world.hosts[other].watch_cut = true;
        world.hosts[c].hold_beats = true;
        let (mut landed, mut both) = (false, false);
        for _ in 0..10_000 {
            world.run(MS);
            for _ in 0..world.hosts[c].beats.len() {
                match world.hosts[c].beats[0].0.as_str() {
                    "a" => world.hear(c),
                    _ => drop(world.hosts[c].beats.pop_front()),
                }
            }
            if !landed && world.session("b").is_none() {
                landed = true;
                world.etcd.apply(&opening);
                (world.hosts[other].watch_cut, world.hosts[other].told) = (false, None);
                let error = StoreError::Unavailable("its member was restarted".into());
                let now = world.now;
                world.hosts[other].node.handle_follow_failed(&error, now);
            }
            both |= world.holders().len() > 1;
        }
        assert!(landed);
        assert_eq!(both, overlaps, "{}", world.story());
    }
}

/// Rule 10.10. Who is alive by consent and cannot hold what is named for it says so by what it says that it
/// knows.
#[test]
fn a_host_that_does_not_hold_what_is_its_own_is_not_acknowledged_for_long() {
    for (mutant, is_dark) in [(None, false), (Some(Mutant::UnheldTakenForHeld), true)] {
        let mut world = World::hearing(&["a", "b", "c"]);
        if let Some(mutant) = mutant {
            world.hosts[0].node.set_mutant(mutant);
        }
        cut_off(&mut world, 0);
        world.run(SECOND);
        world.hosts[0].links.insert("eth0".into(), false);
        world.hosts[0].addresses.clear();
        let down = KernelEvent::LinkChanged(link("eth0", false, true));
        world.event(0, down);
        assert_eq!(dark(&mut world, 60 * SECOND) > 12_000, is_dark, "{}", world.story());
    }
}

/// The same where a hand-over was lost: the VIP is its owner's, which must not take it back (rule 5.3).
#[test]
fn a_host_whose_hand_over_was_lost_is_not_acknowledged_for_long() {
    let mut world = World::hearing(&["a", "b", "c"]);
    let pin = r#"{"v":1,"node":"b"}"#;
    world.hosts[0].hold_commits = true;
    world.etcd.put("/turnip/main/intents/pin/v", pin);
    until_next(&mut world, 0, |txn| writes(txn, "vips/v"));
    while !world.hosts[0].commits.is_empty() {
        world.delay(0);
    }
    world.hosts[0].hold_commits = false;
    cut_off(&mut world, 0);
    assert!(dark(&mut world, 60 * SECOND) < 12_000, "{}", world.story());
}

/// A2. The store was replaced by a backup with a raised revision, and the holder, which does not reach it,
/// was written as that store never had it.
#[test]
fn who_was_written_in_another_history_is_not_acknowledged() {
    for (mutant, lasts) in [(None, false), (Some(Mutant::OtherHistoryAcknowledged), true)] {
        let mut world = World::hearing(&["a", "b", "c"]);
        let pin = "/turnip/main/intents/pin/v";
        world.etcd.put(pin, r#"{"v":1,"node":"b"}"#);
        world.run(5 * SECOND);
        let backup = world.etcd.kvs.clone();
        world.etcd.put(pin, r#"{"v":1,"node":"a"}"#);
        world.run(5 * SECOND);
        assert_eq!(world.holders(), [0]);
        cut_off(&mut world, 0);
        world.etcd.history.clear();
        world.etcd.kvs = backup;
        world.etcd.revision += 1_000_000;
        // Whoever runs notices that; these are started after it.
        for i in [1, 2] {
            world.restart(i);
            if let Some(mutant) = mutant {
                world.hosts[i].node.set_mutant(mutant);
            }
        }
        assert_eq!(overlap(&mut world, 30 * SECOND) > 3_000, lasts, "{}", world.story());
    }
}

/// Rule 9.5. Who notices the rollback is not listed by those who do not, and they may go on for long.
#[test]
fn who_is_listed_nowhere_waits_for_long_after_a_rollback() {
    let mut world = World::new(Vec::new());
    let backup = (world.etcd.kvs.clone(), world.etcd.revision);
    for name in ["a", "b"] {
        world.start(hearing(name));
        world.run(100 * MS);
    }
    world.run(2 * SECOND);
    cut_off(&mut world, 0);
    cut_off(&mut world, 1);
    let c = world.start(hearing("c"));
    world.run(3 * SECOND);
    assert_eq!((world.holders(), world.witnesses("a")), (vec![0], vec!["b".into()]));
    (world.etcd.kvs, world.etcd.revision) = backup;
    world.etcd.history.clear();
    world.hosts[c].told = None;
    let now = world.now;
    let error = StoreError::Unavailable("it was restored".into());
    world.hosts[c].node.handle_follow_failed(&error, now);
    let longest = overlap(&mut world, 60 * SECOND);
    assert!(world.said(c, "starting over"));
    assert_eq!(longest, 0, "{}", world.story());
}

/// Rule 10.10. That a VIP is named for a session is learned, by a failed claim, before that session is.
#[test]
fn a_vip_that_was_named_before_its_session_was_known_counts_as_named() {
    let mut world = World::new(Vec::new());
    world.start(hearing("b"));
    until_next(&mut world, 0, |txn| writes(txn, "vips/v"));
    world.hosts[0].watch_cut = true;
    world.start(hearing("a"));
    until_next(&mut world, 1, |txn| writes(txn, "vips/v"));
    cut_off(&mut world, 1);
    world.deliver_without_answer(1);
    world.hosts[1].hold_commits = false;
    world.deliver(0);
    (world.hosts[0].hold_commits, world.hosts[0].watch_cut) = (false, false);
    assert_eq!((world.owner("v"), world.witnesses("a")), (Some("a".into()), vec!["b".into()]));
    assert!(dark(&mut world, 60 * SECOND) < 20_000, "{}", world.story());
}

/// Rule 10.8. After a boot nobody could tell a session of a host without a machine id from another
/// machine's: so it lists nobody, and whoever is there expires it.
#[test]
fn hosts_without_a_machine_id_list_nobody_and_come_back_from_a_power_cut() {
    let mut world = World::new(Vec::new());
    let config = |name: &str, boot: u64| NodeConfig {
        host: HostId(format!("-/boot-{boot}-{name}/netns").into()),
        process: boot * 100 + u64::from(name.as_bytes()[0]),
        ..hearing(name)
    };
    for name in ["a", "b"] {
        world.start(config(name, 1));
        world.run(100 * MS);
    }
    world.run(3 * SECOND);
    assert!(world.witnesses("a").is_empty() && !world.holders().is_empty());
    for host in &mut world.hosts {
        host.frozen = true;
        host.addresses.clear();
    }
    for name in ["a", "b"] {
        world.start(config(name, 2));
    }
    assert!(dark(&mut world, 30 * SECOND) < 8_000, "{}", world.story());
}

/// Rule 6.5. The expiry of the name's other host is answered by an error, just after that host has renewed.
#[test]
fn who_waits_for_a_name_waits_anew_from_what_it_hears_while_its_expiry_is_under_way() {
    for (mutant, overlaps) in [(None, false), (Some(Mutant::ContestEndsEarly), true)] {
        let mut world = World::of(&["a"]);
        world.hosts[0].frozen = true;
        let other = NodeConfig {
            host: HostId("host-x/boot-1/netns".into()),
            process: 78,
            ..config("a", one_vip())
        };
        let other = world.start(other);
        if let Some(mutant) = mutant {
            world.hosts[other].node.set_mutant(mutant);
        }
        let expires = |txn: &Txn| txn.success.iter().any(|op| matches!(op, Op::Delete { .. }));
        until_next(&mut world, other, expires);
        world.hosts[0].frozen = false;
        world.run(20 * MS);
        // Its answer is lost, and the host that has the name is not heard of for a while.
        world.hosts[0].frozen = true;
        let (id, _) = world.hosts[other].commits.pop_front().unwrap();
        world.fail(other, id);
        world.hosts[other].hold_commits = false;
        let start = world.now;
        world.run_until(8 * SECOND, |world| world.hosts[other].node.session().is_some());
        let waited = world.now.since(start);
        assert_eq!(waited < 2_900 * MS, overlaps, "{mutant:?} {waited:?}: {}", world.story());
    }
}
