//! Rule 10, clause by clause: hosts that hear each other.

mod world;

use std::time::Duration;

use turnip_core::*;
use world::*;

const SECOND: Duration = Duration::from_secs(1);

/// Runs until host `i` has sent the expiry of node a, which waits as the first of its commits.
fn hold_expiry_of_a(world: &mut World, i: usize) {
    let expires = |txn: &Txn| {
        let key = "/turnip/main/sessions/a".to_owned();
        txn.success.contains(&Op::Delete { key })
    };
    world.hosts[i].hold_commits = true;
    for _ in 0..4000 {
        world.run(MS);
        while world.hosts[i].commits.front().is_some_and(|(_, txn)| !expires(txn)) {
            world.deliver(i);
        }
        if !world.hosts[i].commits.is_empty() {
            return;
        }
    }
    panic!("it does not want to expire a:\n{}", world.story());
}

/// The first host has the address all the time.
fn a_holds_for(world: &mut World, duration: Duration) {
    let end = world.now + duration;
    while world.now < end {
        world.run(50 * MS);
        assert_eq!(world.holders(), [0], "{}", world.story());
    }
}

/// Rules 10.1 and 10.6.
#[test]
fn a_session_lists_all_others_and_drops_a_name_when_its_session_is_gone() {
    let mut world = World::hearing(&["a", "b", "c"]);
    assert_eq!(world.witnesses("a"), ["b", "c"]);
    assert_eq!(world.witnesses("c"), ["a", "b"]);
    world.hosts[1].node.handle_stop(world.now);
    world.run(SECOND);
    assert!(world.session("b").is_none());
    assert_eq!(world.witnesses("a"), ["c"]);
}

/// Rule 10.1.
#[test]
fn nobody_is_listed_while_a_host_does_not_speak_it() {
    let mut world = World::hearing(&["a", "b"]);
    assert_eq!(world.witnesses("a"), ["b"]);
    world.start(config("c", one_vip()));
    world.run(SECOND);
    assert!(world.witnesses("a").is_empty() && world.witnesses("b").is_empty());
    let value = &world.session("a").unwrap().value;
    assert!(value.starts_with(br#"{"v":1,"#), "a daemon of the version before reads it");
}

/// Rule 10.5.
#[test]
fn addresses_outlive_the_store_while_all_hosts_hear_each_other() {
    let mut world = World::hearing(&["a", "b", "c"]);
    assert_eq!(world.holders(), [0]);
    world.stop_store();
    for _ in 0..120 {
        world.run(500 * MS);
        assert_eq!(world.holders(), [0], "{}", world.story());
    }
    assert!(world.said(0, "held by consent"));
    world.start_store();
    world.run(10 * SECOND);
    assert_eq!(world.holders(), [0]);
    assert!(world.hosts.iter().all(|host| host.node.session().is_some()), "{}", world.story());
    assert!(!world.said(1, "expired") && !world.said(2, "expired"));
}

/// Rule 10.5. Hosts that hear each other renew once in a lease, and nobody renews who gets no news (rule 9.3).
#[test]
fn who_holds_by_consent_says_so_also_when_news_ended_before_a_renewal_could_fail() {
    let mut world = World::hearing(&["a", "b", "c"]);
    world.run(10 * SECOND);
    let renewed = |world: &World| world.session("a").unwrap().mod_revision;
    let before = renewed(&world);
    world.run_until(4 * SECOND, |world| renewed(world) != before);
    world.stop_store();
    let error = StoreError::Unavailable("etcd was stopped".into());
    let now = world.now;
    world.hosts.iter_mut().for_each(|host| host.node.handle_follow_failed(&error, now));
    world.run(10 * SECOND);
    assert_eq!(world.holders(), [0], "{}", world.story());
    let says = ["renewal fails", "held by consent"];
    assert!(says.iter().all(|words| world.said(0, words)), "{}", world.story());
    assert!(!world.said(0, "renewals succeed"), "{}", world.story());
    world.start_store();
    world.run(10 * SECOND);
    assert!(world.said(0, "renewals succeed"), "{}", world.story());
}

/// Rule 10.5.
#[test]
fn one_that_does_not_acknowledge_is_enough_to_lose_the_addresses_with_the_lease() {
    let mut world = World::hearing(&["a", "b", "c"]);
    world.stop_store();
    world.run(10 * SECOND);
    world.hosts[2].mute = true;
    world.run(4 * SECOND);
    assert!(world.holders().is_empty());
    assert!(world.said(0, "etcd does not answer, and c does not acknowledge"));
}

/// Rules 10.2 and 10.4.
#[test]
fn whom_all_acknowledge_is_not_expired_although_it_does_not_reach_the_store() {
    let mut world = World::hearing(&["a", "b", "c"]);
    (world.hosts[0].cut, world.hosts[0].watch_cut) = (true, true);
    let before = world.session("a").unwrap().mod_revision;
    world.run(30 * SECOND);
    assert_eq!(world.holders(), [0]);
    assert_eq!(world.session("a").unwrap().mod_revision, before);
}

/// Rule 10.3.
#[test]
fn who_can_send_and_not_receive_is_expired_when_its_deadline_has_been_over_for_a_lease() {
    let mut world = World::hearing(&["a", "b", "c"]);
    let before = world.session("a").unwrap().create_revision;
    let host = &mut world.hosts[0];
    (host.cut, host.watch_cut, host.hold_beats) = (true, true, true);
    world.run(3 * SECOND);
    assert!(world.holders().is_empty(), "{}", world.story());
    world.run(7 * SECOND);
    assert!(world.session("a").is_none_or(|session| session.create_revision != before));
    assert!(matches!(*world.holders(), [1 | 2]), "{}", world.story());
    // It is back, and takes part again.
    let host = &mut world.hosts[0];
    (host.cut, host.watch_cut, host.hold_beats) = (false, false, false);
    world.run(10 * SECOND);
    assert_eq!(world.witnesses("a"), ["b", "c"]);
}

/// Rule 10.2.
#[test]
fn who_is_dead_is_expired_by_those_that_it_listed() {
    let mut world = World::hearing(&["a", "b", "c"]);
    world.hosts[0].frozen = true;
    world.hosts[0].addresses.clear();
    world.run(3200 * MS);
    assert!(world.session("a").is_none());
    assert!(world.holders() == [1] || world.holders() == [2]);
}

/// Rule 10.2: the own session must be as it is known.
#[test]
fn an_expiry_compares_the_own_session_where_the_other_has_a_list() {
    let mut world = World::hearing(&["a", "b"]);
    world.hosts[0].frozen = true;
    hold_expiry_of_a(&mut world, 1);
    let own = world.session("b").unwrap().mod_revision;
    let (_, txn) = &world.hosts[1].commits[0];
    let compare = Compare::ModRevision { key: "/turnip/main/sessions/b".into(), is: own };
    assert!(txn.compares.contains(&compare), "{txn:?}");
}

/// Rule 10.4.
#[test]
fn who_has_decided_to_expire_a_session_does_not_acknowledge_it_before_it_is_written_again() {
    let mut world = World::hearing(&["a", "b"]);
    // a is away for a lease, and b's expiry does not arrive.
    world.hosts[0].frozen = true;
    hold_expiry_of_a(&mut world, 1);
    world.delay(1);
    world.hosts[1].hold_commits = false;
    world.hosts[1].cut = true;
    world.hosts[0].frozen = false;
    world.hosts[0].cut = true;
    world.run(2 * SECOND);
    assert!(world.holders().is_empty(), "b acknowledges nothing: its expiry may land");
    (world.hosts[0].cut, world.hosts[1].cut) = (false, false);
    world.run(SECOND);
    assert_eq!(world.holders().len(), 1, "{}", world.story());
}

/// Rule 10.4.
#[test]
fn who_is_out_of_time_itself_acknowledges_nobody() {
    let mut world = World::hearing(&["a", "b", "c"]);
    world.stop_store();
    // a and b hear each other and c; nobody hears c.
    world.hosts[2].mute = true;
    world.run(5 * SECOND);
    world.hosts[2].mute = false;
    world.run(5 * SECOND);
    assert!(world.holders().is_empty(), "nobody has a deadline that is ahead");
}

/// Rules 10.5 and 10.8.
#[test]
fn a_new_process_extends_and_acknowledges_nothing_before_its_own_write() {
    let mut world = World::hearing(&["a", "b"]);
    world.stop_store();
    world.run(5 * SECOND);
    world.restart(1);
    world.run(4 * SECOND);
    assert!(world.holders().is_empty(), "b has not written its session");
    world.start_store();
    world.run(3 * SECOND);
    assert_eq!(world.holders().len(), 1, "{}", world.story());
}

/// Rule 10.5.
#[test]
fn an_own_write_without_a_list_that_may_still_land_ends_the_extension() {
    let mut world = World::hearing(&["a", "b"]);
    world.hosts[0].hold_commits = true;
    // c does not speak rule 10: a wants an empty list, and that write is on its way for ever.
    world.start(config("c", one_vip()));
    world.run(4 * SECOND);
    assert!(!world.hosts[0].commits.is_empty());
    assert!(!world.holders().contains(&0), "c may expire a from when that lands");
}

/// Rule 10.7.
#[test]
fn nobody_goes_on_without_a_write_in_the_store_for_longer_than_the_others_wait() {
    let mut world = World::new(Vec::new());
    for name in ["a", "b"] {
        let mut config = hearing(name);
        config.heartbeats.as_mut().unwrap().without_store = 20 * SECOND;
        world.start(config);
        world.run(100 * MS);
    }
    world.run(2 * SECOND);
    world.stop_store();
    world.run(16 * SECOND);
    assert_eq!(world.holders(), [0]);
    world.run(5 * SECOND);
    assert!(world.holders().is_empty());
}

/// Rule 10.7.
#[test]
fn who_does_not_write_for_too_long_loses_its_vips_to_those_that_hear_it() {
    let mut world = World::new(Vec::new());
    for name in ["a", "b"] {
        let mut config = hearing(name);
        config.heartbeats.as_mut().unwrap().without_store = 20 * SECOND;
        world.start(config);
        world.run(100 * MS);
    }
    world.run(2 * SECOND);
    assert_eq!(world.holders(), [0]);
    (world.hosts[0].cut, world.hosts[0].watch_cut) = (true, true);
    world.run(15 * SECOND);
    assert_eq!(world.holders(), [0]);
    world.run(6 * SECOND);
    assert_eq!(world.holders(), [1], "{}", world.story());
}

/// Rule 10.7.
#[test]
fn who_is_not_listed_waits_for_long() {
    let mut world = World::hearing(&["a", "b"]);
    // Both die; c comes and is listed nowhere.
    (world.hosts[0].frozen, world.hosts[1].frozen) = (true, true);
    world.hosts[0].addresses.clear();
    world.start(hearing("c"));
    world.run(20 * SECOND);
    assert!(world.session("a").is_some() && world.holders().is_empty());
}

/// Rule 10.8.
#[test]
fn a_machine_that_was_booted_expires_its_own_earlier_session_and_another_of_that_name_does_not() {
    for (host, expires) in [("host-a/boot-2/netns", true), ("host-x/boot-1/netns", false)] {
        let mut world = World::hearing(&["a", "b"]);
        let first = world.session("a").unwrap().create_revision;
        // Both are gone, so that nobody who is listed does it.
        (world.hosts[0].frozen, world.hosts[1].frozen) = (true, true);
        world.hosts[0].addresses.clear();
        let again = NodeConfig { host: HostId(host.into()), process: 77, ..hearing("a") };
        world.start(again);
        world.run(8 * SECOND);
        let gone = world.session("a").is_none_or(|session| session.create_revision != first);
        assert_eq!(gone, expires, "{host}");
    }
}

/// Rule 10.9.
#[test]
fn who_stops_acknowledges_nobody_any_more() {
    let mut world = World::hearing(&["a", "b"]);
    world.hosts[1].node.handle_stop(world.now);
    world.run(SECOND);
    assert!(world.hosts[1].exit.is_some());
    assert!(world.session("b").is_none());
    let key = world.hosts[0].keys.clone().unwrap();
    assert_eq!(key.current, "key of a", "the first makes it, and all use it");
    assert_eq!(world.hosts[1].keys.as_ref(), Some(&key));
}

/// Rule 10.10.
#[test]
fn a_host_that_does_not_hear_of_its_vips_is_not_acknowledged_for_long() {
    let mut world = World::hearing(&["a", "b"]);
    // b neither hears nor reaches the store, and is acknowledged.
    (world.hosts[1].cut, world.hosts[1].watch_cut) = (true, true);
    world.run(10 * SECOND);
    assert!(world.session("b").is_some());
    let session = world.session("b").unwrap().create_revision;
    let record = format!(r#"{{"v":1,"node":"b","session":{session},"since_unix_ms":0}}"#);
    world.hosts[0].frozen = true;
    world.etcd.put("/turnip/main/vips/v", &record);
    world.hosts[0].frozen = false;
    world.run(12 * SECOND);
    assert!(world.session("b").is_none(), "{}", world.story());
    assert_eq!(world.holders(), [0]);
}

/// The same with that rule broken: the VIP stays dark for as long as its host is alive. No two hosts hold
/// it, so no search for that finds it.
#[test]
fn a_deaf_host_that_is_acknowledged_keeps_its_vip_dark() {
    for (mutant, is_dark) in [(None, false), (Some(Mutant::DeafAcknowledged), true)] {
        let mut world = World::hearing(&["a", "b"]);
        if let Some(mutant) = mutant {
            world.hosts[0].node.set_mutant(mutant);
        }
        (world.hosts[1].cut, world.hosts[1].watch_cut) = (true, true);
        world.run(10 * SECOND);
        let session = world.session("b").unwrap().create_revision;
        let record = format!(r#"{{"v":1,"node":"b","session":{session},"since_unix_ms":0}}"#);
        world.etcd.put("/turnip/main/vips/v", &record);
        world.run(30 * SECOND);
        assert_eq!(world.holders().is_empty(), is_dark, "{mutant:?}: {}", world.story());
    }
}

/// Rule 10.4: who can send and not receive would not learn that it is acknowledged, and holds nothing by that.
#[test]
fn who_hears_nothing_is_missed_a_little_later_than_who_says_nothing() {
    for (mutant, holders) in [(None, vec![1]), (Some(Mutant::UnhearingAcknowledged), vec![])] {
        let mut world = World::hearing(&["a", "b"]);
        if let Some(mutant) = mutant {
            world.hosts[1].node.set_mutant(mutant);
        }
        let deaf = &mut world.hosts[0];
        (deaf.cut, deaf.watch_cut, deaf.hold_beats) = (true, true, true);
        world.run(4_500 * MS);
        assert_eq!(world.holders(), holders, "{mutant:?}: {}", world.story());
    }
}

/// Rules 10.5 and 10.8: what an earlier process wrote may still land, with a list that the new one does not
/// know of, so nothing moves its deadline before a write of its own.
#[test]
fn a_process_that_resumes_holds_by_consent_only_after_its_own_write() {
    for (mutant, holders) in [(None, vec![1]), (Some(Mutant::ExtendBeforeWrite), vec![0])] {
        let mut world = World::hearing(&["a", "b"]);
        // It hears the store, and nothing that it writes arrives.
        world.hosts[0].hold_commits = true;
        world.restart(0);
        if let Some(mutant) = mutant {
            world.hosts[0].node.set_mutant(mutant);
        }
        world.run(8 * SECOND);
        assert_eq!(world.holders(), holders, "{mutant:?}: {}", world.story());
    }
}

/// Interleaving 21: whoever had the name before may have acknowledged until its deadline.
#[test]
fn a_host_that_takes_over_a_name_counts_no_silence_from_before_its_session() {
    let mut world = World::hearing(&["a", "b"]);
    // Another machine waits for the name b, and has heard of a's last write long ago.
    let twin =
        NodeConfig { host: HostId("host-x/boot-1/netns".into()), process: 78, ..hearing("b") };
    let twin = world.start(twin);
    world.run(100 * MS);
    // From now on a and b do not reach the store; they acknowledge each other, and then b dies.
    (world.hosts[0].cut, world.hosts[0].watch_cut) = (true, true);
    (world.hosts[1].cut, world.hosts[1].watch_cut) = (true, true);
    world.run(6 * SECOND);
    assert_eq!(world.holders(), [0]);
    world.hosts[1].frozen = true;
    let before = world.session("a").unwrap().create_revision;
    // b's session is gone by whatever means, at its deadline.
    world.run(100 * MS);
    world.etcd.delete("/turnip/main/sessions/b");
    world.run(SECOND);
    assert!(world.hosts[twin].node.session().is_some(), "{}", world.story());
    assert_eq!(world.session("a").map(|kv| kv.create_revision), Some(before));
    assert_eq!(world.holders(), [0]);
}

/// Rule 10.6.
#[test]
fn the_store_is_written_seldom_while_everybody_acknowledges_and_at_once_when_one_does_not() {
    let mut world = World::hearing(&["a", "b", "c"]);
    let writes = |world: &World| world.etcd.revision;
    let before = writes(&world);
    world.run(30 * SECOND);
    let at_ease = writes(&world) - before;
    assert!((27..=36).contains(&at_ease), "{at_ease} writes in 30 s");
    world.hosts[2].mute = true;
    world.run(3 * SECOND);
    let before = writes(&world);
    world.run(3 * SECOND);
    let ill_at_ease = writes(&world) - before;
    assert!(ill_at_ease >= 12, "{ill_at_ease} writes in 3 s");
    assert!(world.said(0, "no heartbeat comes from c"));
    assert_eq!(world.holders(), [0]);
}

/// Rule 10.10: when nobody hears of anything, that is no fault of one.
#[test]
fn an_outage_right_after_a_claim_that_only_others_heard_of_costs_nothing() {
    let mut world = World::hearing(&["a", "b", "c"]);
    world.hosts[0].watch_cut = true;
    // a puts its VIP anew, which b and c hear of, and a not.
    let record = String::from_utf8(world.etcd.kvs["/turnip/main/vips/v"].value.clone()).unwrap();
    world.etcd.put("/turnip/main/vips/v", &record);
    world.run(100 * MS);
    world.stop_store();
    world.run(40 * SECOND);
    assert_eq!(world.holders(), [0], "{}", world.story());
}

/// Rule 10.10: the same where the watch of a witness breaks before a renewal of its own fails, so that none is sent.
#[test]
fn nor_does_it_where_a_witness_stops_to_renew_because_its_watch_is_stale() {
    let mut world = World::hearing(&["a", "b", "c"]);
    world.run(10 * SECOND);
    world.hosts[0].watch_cut = true;
    let record = String::from_utf8(world.etcd.kvs["/turnip/main/vips/v"].value.clone()).unwrap();
    world.etcd.put("/turnip/main/vips/v", &record);
    world.run(100 * MS);
    let error = StoreError::Unavailable("frozen".into());
    for host in 1..3 {
        world.hosts[host].watch_cut = true;
        world.hosts[host].node.handle_follow_failed(&error, world.now);
    }
    world.run(1_200 * MS);
    world.stop_store();
    world.run(40 * SECOND);
    assert_eq!(world.holders(), [0], "{}", world.story());
}

/// Rule 9.5.
#[test]
fn who_has_noticed_another_store_does_not_acknowledge_who_goes_by_the_old_one() {
    let mut world = World::hearing(&["a", "b"]);
    let backup = (world.etcd.kvs.clone(), world.etcd.revision);
    world.run(10 * SECOND);
    // a is cut off from the store, which goes back to the backup: b notices.
    (world.hosts[0].cut, world.hosts[0].watch_cut) = (true, true);
    world.run(SECOND);
    (world.etcd.kvs, world.etcd.revision) = backup;
    world.etcd.history.clear();
    world.hosts[1].told = None;
    let error = StoreError::Unavailable("it was restored".into());
    world.hosts[1].node.handle_follow_failed(&error, world.now);
    world.run(6 * SECOND);
    assert!(world.said(1, "starting over"));
    assert!(!world.holders().contains(&0), "{}", world.story());
}

/// Rules 5.4 and 10.10.
#[test]
fn nothing_is_moved_to_a_host_that_is_alive_and_does_not_hear_of_the_store() {
    let mut world = World::hearing(&["a", "b"]);
    let written = world.session("b").unwrap().mod_revision;
    world.hosts[1].watch_cut = true;
    world.run_until(4 * SECOND, |world| world.session("b").unwrap().mod_revision > written);
    world.run(SECOND);
    world.etcd.put("/turnip/main/intents/pin/v", r#"{"v":1,"node":"b"}"#);
    world.run(SECOND);
    assert_eq!((world.holders(), world.owner("v")), (vec![0], Some("a".into())));
    world.hosts[1].watch_cut = false;
    world.run(3 * SECOND);
    assert_eq!(world.holders(), [1], "{}", world.story());
}

/// Rule 10.11.
#[test]
fn a_host_that_dies_costs_the_others_nothing_however_seldom_they_renew() {
    // Whenever it dies between two writes of the store.
    for after in 0..6 {
        let mut world = World::new(Vec::new());
        for name in ["a", "b", "c"] {
            let lease = Lease::with(3 * SECOND, Some(880 * MS), None, None).unwrap();
            world.start(NodeConfig { lease, ..hearing(name) });
            world.run(270 * MS);
        }
        world.run(6 * SECOND + after * 500 * MS);
        assert_eq!(world.holders(), [0]);
        world.hosts[2].frozen = true;
        a_holds_for(&mut world, 100 * 50 * MS);
    }
}

/// Rule 10.6: else it would still be listed when the store goes away, and its silence cost everybody the addresses.
#[test]
fn a_host_whose_session_is_over_is_missed_by_nobody_if_the_store_goes_right_after() {
    // Whenever it dies between two writes of the store.
    for after in 0..10 {
        let mut world = World::hearing(&["a", "b", "c"]);
        world.run(6 * SECOND + after * 330 * MS);
        assert_eq!(world.holders(), [0]);
        world.hosts[2].frozen = true;
        world.run_until(6 * SECOND, |world| world.session("c").is_none());
        world.run(MS);
        world.stop_store();
        a_holds_for(&mut world, 200 * 50 * MS);
    }
}

/// Rule 10.6: what was sent before may land after, and list it again.
#[test]
fn nor_if_a_renewal_that_lists_it_lands_when_its_session_is_over() {
    let mut world = World::hearing(&["a", "b", "c"]);
    world.run(6 * SECOND);
    world.hosts[2].frozen = true;
    world.run(2 * SECOND);
    world.hosts[0].hold_commits = true;
    world.run_until(SECOND, |world| !world.hosts[0].commits.is_empty());
    world.etcd.delete("/turnip/main/sessions/c");
    world.run(MS);
    assert!(world.hosts[0].commits.len() > 1, "{}", world.story());
    while !world.hosts[0].commits.is_empty() {
        world.deliver(0);
    }
    assert_eq!(world.witnesses("a"), ["b", "c"]);
    world.hosts[0].hold_commits = false;
    world.run(MS);
    world.stop_store();
    a_holds_for(&mut world, 200 * 50 * MS);
}

/// Rule 10.3: the others acknowledge as often as whoever has the shortest lease needs it.
#[test]
fn a_host_with_a_short_lease_outlives_the_store_among_hosts_with_long_ones() {
    let mut world = World::new(Vec::new());
    for (name, lease) in [("a", 1), ("b", 30)] {
        let lease = Lease::new(lease * SECOND).unwrap();
        world.start(NodeConfig { lease, ..hearing(name) });
        world.run(100 * MS);
    }
    world.run(6 * SECOND);
    world.stop_store();
    a_holds_for(&mut world, 200 * 50 * MS);
}

/// Rules 9.5 and 10.4: who is cut off from a store that went back holds by consent, and the restored store
/// names another.
#[test]
fn after_a_noticed_rollback_nobody_takes_what_a_host_that_is_cut_off_holds_by_consent() {
    let mut world = World::hearing(&["a", "b", "c"]);
    let pin = "/turnip/main/intents/pin/v";
    world.etcd.put(pin, r#"{"v":1,"node":"b"}"#);
    world.run(5 * SECOND);
    assert_eq!(world.holders(), [1], "{}", world.story());
    let (kvs, revision) = (world.etcd.kvs.clone(), world.etcd.revision);
    world.etcd.put(pin, r#"{"v":1,"node":"a"}"#);
    world.run(5 * SECOND);
    assert_eq!(world.holders(), [0], "{}", world.story());
    let host = &mut world.hosts[0];
    (host.cut, host.watch_cut) = (true, true);
    world.etcd.history.retain(|(at, _)| *at <= revision);
    (world.etcd.kvs, world.etcd.revision) = (kvs, revision);
    let now = world.now;
    for host in &mut world.hosts[1..] {
        host.told = None;
        host.node.handle_follow_failed(&StoreError::Unavailable("restored".into()), now);
    }
    for _ in 0..30_000 {
        world.run(MS);
        assert!(world.holders().len() < 2, "{}", world.story());
    }
    assert!(world.said(1, "went back to revision"), "{}", world.story());
    assert_eq!(world.holders(), [1], "{}", world.story());
}

/// Breaks a rule on host `i`, where the feature `mutants` is there; whether it did.
fn breaks(world: &mut World, i: usize, mutant: Option<Mutant>) -> bool {
    #[cfg(feature = "mutants")]
    if let Some(mutant) = mutant {
        world.hosts[i].node.set_mutant(mutant);
        return true;
    }
    let _ = (world, i, mutant);
    false
}

/// Rule 10.4.
#[test]
fn a_session_that_the_view_does_not_show_is_not_acknowledged() {
    for mutant in [None, Some(Mutant::UnknownSessionAcknowledged)] {
        let mut world = World::hearing(&["a", "b"]);
        let broken = breaks(&mut world, 1, mutant);
        world.hosts[0].mute = true;
        world.hosts[0].hold_beats = true;
        let nothing = Revision(0);
        let session = SessionId(Revision(999));
        let heartbeat =
            Heartbeat { session, process: 5, number: 1, modified: nothing, complete_to: nothing };
        let datagram = Datagram { heartbeat, hears_addressee: true, acknowledges: None };
        let now = world.now;
        world.hosts[1].node.handle_datagram(&"a".parse().unwrap(), &datagram, now);
        world.run(SECOND);
        let acknowledged = world.hosts[0].beats.iter().filter_map(|(_, sent)| sent.acknowledges);
        assert_eq!(acknowledged.into_iter().any(|one| one.session == session), broken);
    }
}

/// Rules 10.5 and 10.8.
#[test]
fn a_process_that_resumes_a_session_holds_by_consent_only_after_its_own_write() {
    for mutant in [None, Some(Mutant::ExtendBeforeWrite)] {
        let mut world = World::hearing(&["a", "b"]);
        world.restart(0);
        let broken = breaks(&mut world, 0, mutant);
        // It hears all of the store, and no write of its own arrives.
        world.hosts[0].hold_commits = true;
        world.run(4 * SECOND);
        assert_eq!(world.holders().contains(&0), broken, "{}", world.story());
    }
}
