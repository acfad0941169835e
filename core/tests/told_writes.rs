//! Rule 9.3: an own write counts when the watch has told it. Whatever comes first, and whatever is lost, a host
//! whose etcd and whose watch are well keeps its addresses.

#![allow(missing_docs, reason = "the tests' names say it")]

mod world;

use std::collections::VecDeque;
use std::time::Duration;

use turnip_core::*;
use world::*;

const SECOND: Duration = Duration::from_secs(1);
const LIMIT: Duration = Duration::from_secs(10);
const HOLDING: Duration = Duration::from_millis(2970);

/// a has the address; both have renewed for a while. The renewals of a are held back from now on, and one is
/// under way, made at the instant that is returned.
fn a_renewal_is_under_way() -> (World, Instant) {
    let mut world = World::of(&["a", "b"]);
    world.run(2 * SECOND);
    assert_eq!(world.holders(), [0]);
    world.hosts[0].hold_commits = true;
    world.run_until(LIMIT, |world| world.hosts[0].commits.len() == 1);
    let made = world.now;
    (world, made)
}

fn deadline(world: &World, i: usize) -> Option<Instant> {
    world.hosts[i].node.deadline()
}

/// The next held commit of host `i` reaches the store; its answer is under way.
fn land(world: &mut World, i: usize) -> (TxnId, TxnResponse) {
    let (id, txn) = world.hosts[i].commits.pop_front().expect("a commit is under way");
    (id, world.etcd.apply(&txn))
}

fn answer(world: &mut World, i: usize, (id, response): (TxnId, TxnResponse)) {
    let now = world.now;
    world.hosts[i].node.handle_committed(id, Ok(response), now);
}

/// What a snapshot of now would say.
fn snapshot(world: &World) -> Update {
    let kvs = world.etcd.kvs.values().cloned().collect();
    Update::Snapshot(Snapshot { header: world.etcd.header(), kvs })
}

/// The stream of host `i` breaks, and the next one has not begun yet.
fn break_stream(world: &mut World, i: usize) {
    let now = world.now;
    world.hosts[i].told = None;
    world.hosts[i].watch_cut = true;
    world.hosts[i].node.handle_follow_failed(&StoreError::Unavailable("cut".into()), now);
    world.run(MS);
}

/// Host `i` is brought this, and the stream goes on after the revision that is told.
fn begin_stream(world: &mut World, i: usize, update: Update, told: usize) {
    let now = world.now;
    world.hosts[i].node.handle_update(update, now);
    world.hosts[i].told = Some(told);
    world.hosts[i].watch_cut = false;
}

/// For how many of so many milliseconds nobody has the address.
fn dark(world: &mut World, millis: u32) -> u32 {
    let mut lasts = 0;
    for _ in 0..millis {
        world.run(MS);
        lasts += u32::from(world.holders().is_empty());
    }
    lasts
}

#[test]
fn a_write_counts_whose_news_come_before_its_answer_or_without_one() {
    for is_answered in [true, false] {
        let (mut world, made) = a_renewal_is_under_way();
        world.run(200 * MS);
        let landed = land(&mut world, 0);
        world.tell(0);
        assert_eq!(deadline(&world, 0), Some(made + HOLDING), "told, and not answered");
        world.run(100 * MS);
        if is_answered {
            answer(&mut world, 0, landed);
        } else {
            world.fail(0, landed.0);
        }
        assert_eq!(deadline(&world, 0), Some(made + HOLDING));
        world.hosts[0].hold_commits = false;
        assert_eq!(dark(&mut world, 6_000), 0, "{}", world.story());
    }
}

/// Two attempts compare the same write: the first lands, and the second reads that; its answer comes first, or
/// alone.
#[test]
fn a_write_counts_of_which_the_next_attempt_has_read() {
    for first_is_answered in [true, false] {
        let (mut world, made) = a_renewal_is_under_way();
        world.run_until(LIMIT, |world| world.hosts[0].commits.len() == 2);
        let (first, second) = (land(&mut world, 0), land(&mut world, 0));
        assert!(first.1.succeeded && !second.1.succeeded);
        let before = deadline(&world, 0);
        answer(&mut world, 0, second);
        if first_is_answered {
            answer(&mut world, 0, first);
        } else {
            world.fail(0, first.0);
        }
        assert_eq!(deadline(&world, 0), before, "the watch has told nothing");
        world.tell(0);
        assert_eq!(deadline(&world, 0), Some(made + HOLDING));
        world.hosts[0].hold_commits = false;
        assert_eq!(dark(&mut world, 6_000), 0, "{}", world.story());
    }
}

/// Two writes land that no stream has told; the snapshot of the next one has the later only. That one was
/// answered, or not.
#[test]
fn a_snapshot_that_has_a_later_write_counts_as_its_event_would() {
    for later_is_answered in [true, false] {
        let (mut world, _) = a_renewal_is_under_way();
        break_stream(&mut world, 0);
        let earlier = land(&mut world, 0);
        answer(&mut world, 0, earlier);
        world.run_until(LIMIT, |world| world.hosts[0].commits.len() == 1);
        let made = world.now;
        world.run(50 * MS);
        let later = land(&mut world, 0);
        let before = deadline(&world, 0);
        if later_is_answered {
            answer(&mut world, 0, later);
        }
        assert_eq!(deadline(&world, 0), before, "the watch has told nothing");
        let (update, told) = (snapshot(&world), world.etcd.history.len());
        begin_stream(&mut world, 0, update, told);
        assert_eq!(deadline(&world, 0), Some(made + HOLDING));
        world.hosts[0].hold_commits = false;
        assert_eq!(dark(&mut world, 6_000), 0, "{}", world.story());
    }
}

/// The snapshot is of before the write, and is on its way when that is answered; the event follows.
#[test]
fn a_write_that_is_answered_while_a_snapshot_is_on_its_way_counts_with_its_event() {
    let (mut world, made) = a_renewal_is_under_way();
    break_stream(&mut world, 0);
    let (update, told) = (snapshot(&world), world.etcd.history.len());
    let landed = land(&mut world, 0);
    answer(&mut world, 0, landed);
    let before = deadline(&world, 0);
    begin_stream(&mut world, 0, update, told);
    assert_eq!(deadline(&world, 0), before, "the snapshot does not have it");
    assert!(!world.said(0, "not the store that it was"), "{}", world.story());
    world.tell(0);
    assert_eq!(deadline(&world, 0), Some(made + HOLDING));
    world.hosts[0].hold_commits = false;
    assert_eq!(dark(&mut world, 6_000), 0, "{}", world.story());
}

/// Rule 6.2. The next process resumes the session; its first write is told before its answer, or after, or in a
/// snapshot.
#[test]
fn a_resumed_session_is_held_on_by_its_first_write_whichever_way_that_is_told() {
    for way in ["event first", "answer first", "answer lost", "snapshot"] {
        let mut world = World::of(&["a", "b"]);
        world.run(2 * SECOND);
        world.restart(0);
        world.hosts[0].hold_commits = true;
        world.run_until(LIMIT, |world| world.hosts[0].commits.len() == 1);
        let made = world.now;
        world.run(100 * MS);
        if way == "snapshot" {
            break_stream(&mut world, 0);
        }
        let landed = land(&mut world, 0);
        match way {
            "event first" => {
                world.tell(0);
                answer(&mut world, 0, landed);
            }
            "answer first" => answer(&mut world, 0, landed),
            "answer lost" => world.fail(0, landed.0),
            _ => {
                answer(&mut world, 0, landed);
                let (update, told) = (snapshot(&world), world.etcd.history.len());
                begin_stream(&mut world, 0, update, told);
            }
        }
        world.tell(0);
        assert_eq!(deadline(&world, 0), Some(made + HOLDING), "{way}");
        world.hosts[0].hold_commits = false;
        assert_eq!(dark(&mut world, 6_000), 0, "{way}: {}", world.story());
        assert_eq!(world.holders(), [0], "{way}");
    }
}

#[test]
fn what_is_kept_of_writes_that_no_watch_tells_does_not_grow() {
    let kept = |world: &World| {
        let node = format!("{:?}", world.hosts[0].node);
        let untold = node.split("untold: [").nth(1).and_then(|rest| rest.split(']').next());
        untold.expect("it is shown").matches("Revision").count()
    };
    let mut world = World::of(&["a", "b"]);
    world.run(SECOND);
    world.hosts[0].watch_cut = true;
    let mut most = 0;
    for _ in 0..60_000 {
        world.run(MS);
        most = most.max(kept(&world));
    }
    assert!(most <= 8, "{most}");
    world.hosts[0].watch_cut = false;
    world.run(10 * SECOND);
    assert_eq!(kept(&world), 0);
}

/// Lets time pass while the watch of host `i` is late by so many milliseconds.
fn run_late(world: &mut World, late: &[(usize, usize)], millis: u32, mut each: impl FnMut(&World)) {
    let mut lengths = VecDeque::from([world.etcd.history.len()]);
    for _ in 0..millis {
        for &(i, _) in late {
            world.hosts[i].watch_cut = world.hosts[i].told.is_some();
        }
        world.run(MS);
        lengths.push_front(world.etcd.history.len());
        for &(i, by) in late {
            world.hosts[i].watch_cut = false;
            let Some(&upto) = lengths.get(by) else { continue };
            while world.hosts[i].told.is_some_and(|told| told < upto) && world.deliver_events(i) {}
        }
        each(world);
    }
}

/// Two nodes with that renew interval; a has the address.
fn renewing_every(renew: Option<u32>, hears: bool) -> World {
    let lease = Lease::with(3000 * MS, renew.map(|millis| millis * MS), None, None).unwrap();
    let mut world = World::new(Vec::new());
    for name in ["a", "b"] {
        let config = if hears { hearing(name) } else { config(name, one_vip()) };
        world.start(NodeConfig { lease, ..config });
        world.run(100 * MS);
    }
    world.run(3 * SECOND);
    assert_eq!(world.holders(), [0]);
    world
}

/// Rule 9.2.
#[test]
fn a_watch_that_is_slow_and_alive_costs_nothing_whatever_the_renew_interval() {
    for (renew, by) in [(None, 900), (None, 1_800), (Some(250), 900), (Some(800), 1_800)] {
        let mut world = renewing_every(renew, false);
        let mut dark = 0;
        run_late(&mut world, &[(0, by)], 20_000, |world| {
            dark += u32::from(world.holders().is_empty());
        });
        assert_eq!(dark, 0, "{renew:?}, {by} ms late: {}", world.story());
    }
}

/// For how long a's address is dark when its stream dies without a word, and etcd takes nothing for so long. Where
/// they hear each other b dies with it.
fn dark_by_a_dead_stream(mut world: World, hears: bool, away: u32) -> u32 {
    world.hosts[0].told = None;
    (world.hosts[0].cut, world.hosts[1].cut) = (true, true);
    world.hosts[1].frozen = hears;
    let before = dark(&mut world, away);
    (world.hosts[0].cut, world.hosts[1].cut) = (false, false);
    let dark = before + dark(&mut world, 5_000);
    assert_eq!(world.holders(), [0], "{}", world.story());
    dark
}

/// Rule 9.2. A machine dies that had etcd's leader and the member which a follows: etcd is back after an election, in
/// time for a's renewal, and so it must be for the news of it.
#[test]
fn a_stream_that_dies_without_a_word_costs_nothing_when_etcd_answers_in_time() {
    for (renew, away) in
        [(None, 0), (None, 1_600), (None, 2_000), (Some(800), 1_300), (Some(920), 0)]
    {
        for (hears, phase) in [(false, 0), (false, 150), (false, 350), (true, 0), (true, 350)] {
            let mut world = renewing_every(renew, hears);
            world.run(phase * MS);
            let dark = dark_by_a_dead_stream(world, hears, away);
            assert_eq!(dark, 0, "{renew:?}, away {away} ms, hears: {hears}, {phase}");
        }
    }
}

/// Rule 9.2. Once what was held is gone another stream is asked after a retry delay.
#[test]
fn after_an_outage_a_dead_stream_keeps_an_address_dark_for_no_longer_than_a_retry_delay() {
    let dark_with = |mutant: Option<Mutant>| {
        let mut world = renewing_every(None, false);
        if let Some(mutant) = mutant {
            world.hosts[0].node.set_mutant(mutant);
        }
        dark_by_a_dead_stream(world, false, 5_000)
    };
    let (told, answered) = (dark_with(None), dark_with(Some(Mutant::CountsUntold)));
    assert!(told <= answered + 168, "{told} ms instead of {answered}");
}

/// Rule 9.2. A snapshot that takes long has the time that it was given, also when renewals are answered meanwhile.
#[test]
fn a_snapshot_that_is_on_its_way_is_not_asked_for_again_for_want_of_an_echo() {
    let mut world = renewing_every(None, false);
    break_stream(&mut world, 0);
    let mut asked = Vec::new();
    for _ in 0..2_000 {
        let before = world.hosts[0].follows;
        world.run(MS);
        if world.hosts[0].follows > before {
            asked.push(world.now);
        }
    }
    let [second, third] = asked[..] else { panic!("{asked:?}") };
    assert_eq!(third.since(second), SECOND, "the second has 2r");
}

/// Rule 10.4. After a change of the store a heartbeat names the newest write only when both watches are as late;
/// it does soon enough, and then they hold without a store.
#[test]
fn late_watches_do_not_keep_consent_away_after_the_store_has_changed() {
    for (names, late) in [
        (2, &[(0, 50)][..]),
        (2, &[(0, 260)]),
        (2, &[(0, 450)]),
        (2, &[(1, 260)]),
        (2, &[(1, 450)]),
        (12, &[(0, 400)]),
        (12, &[(1, 50), (2, 200), (3, 400)]),
    ] {
        let names: Vec<String> = ('a'..).take(names).map(String::from).collect();
        let names: Vec<&str> = names.iter().map(String::as_str).collect();
        let mut world = World::hearing(&names);
        world.etcd.cluster_id = 8;
        world.etcd.history.clear();
        let now = world.now;
        for host in &mut world.hosts {
            host.told = None;
            host.node.handle_follow_failed(&StoreError::Unavailable("restored".into()), now);
        }
        run_late(&mut world, late, 12_000, |_| {});
        assert!(world.said(0, "not the store that it was"), "{}", world.story());
        assert_eq!(world.holders(), [0], "{late:?}");
        world.stop_store();
        assert_eq!(
            dark(&mut world, 6_000),
            0,
            "{} nodes, {late:?}: {}",
            names.len(),
            world.story()
        );
    }
}
