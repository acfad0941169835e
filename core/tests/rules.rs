//! The rules of the protocol: each has a test here or in another file, and many have several.

#![allow(missing_docs, reason = "the tests' names say it")]

mod world;

use std::time::Duration;

use turnip_core::*;
use world::{MS, World, config, link, one_vip, vip};

const LIMIT: Duration = Duration::from_secs(20);

fn present(address: ipnet::IpNet, marked: bool) -> PresentAddress {
    PresentAddress { interface: "eth0".into(), address, marked, misplaced: false }
}

/// Rules 4.4 and 8.16.
#[test]
fn the_first_node_claims_the_address_and_announces_it_three_times() {
    let mut world = World::of(&["a", "b", "c"]);
    world.run(4000 * MS);
    assert_eq!(world.holders(), [0]);
    assert_eq!(world.hosts[0].announced.len(), 3);
    assert_eq!(world.owner("v").as_deref(), Some("a"));
}

/// Rule 2.3.
#[test]
fn an_unrenewed_session_forfeits_everything_at_the_deadline_less_the_guard() {
    let mut world = World::of(&["a"]);
    let deadline = world.hosts[0].node.deadline().unwrap();
    world.hosts[0].cut = true;
    world.run_until(LIMIT, |w| w.holders().is_empty());
    assert!(world.now >= deadline - 200 * MS - MS && world.now <= deadline - 199 * MS);
}

/// Rule 3.1.
#[test]
fn a_dead_holder_is_expired_after_its_lease_and_not_before() {
    let mut world = World::of(&["a", "b"]);
    world.hosts[0].frozen = true;
    world.hosts[0].addresses.clear();
    let heard = world.session("a").unwrap().mod_revision;
    let from = world.now;
    world.run_until(LIMIT, |w| w.holders() == [1]);
    assert!(world.session("a").is_none());
    assert!(world.now.since(from) >= 2500 * MS && world.now.since(from) <= 3031 * MS);
    assert!(heard > Revision(0));
}

/// Rules 2.3 and 3.1.
#[test]
fn a_cut_off_holder_has_withdrawn_before_the_next_one_assumes() {
    let mut world = World::of(&["a", "b", "c"]);
    world.hosts[0].cut = true;
    for _ in 0..5000 {
        world.run(MS);
        assert!(world.holders().len() <= 1, "{}", world.story());
    }
    assert_ne!(world.holders(), [0]);
    assert_eq!(world.holders().len(), 1);
}

/// Rule 3.4.
#[test]
fn an_election_of_etcd_expires_nobody() {
    let mut world = World::of(&["a", "b", "c"]);
    for host in &mut world.hosts {
        host.cut = true;
    }
    // A count that did not pause would have run out long before etcd comes back.
    world.run(10_000 * MS);
    assert!(world.holders().is_empty(), "who cannot renew holds nothing");
    for host in &mut world.hosts {
        host.cut = false;
    }
    world.run(4000 * MS);
    assert_eq!(world.holders(), [0], "and holds it again after");
    assert!(!world.said(1, "expired") && !world.said(2, "expired"), "{}", world.story());
}

/// Rule 3.5.
#[test]
fn a_host_that_dies_with_etcds_leader_is_expired_as_soon_as_the_others_had_time_to_speak() {
    let mut world = World::of(&["a", "b", "c"]);
    world.hosts[0].frozen = true;
    world.hosts[0].addresses.clear();
    let died = world.now;
    for survivor in [1, 2] {
        world.hosts[survivor].cut = true;
    }
    world.run(1500 * MS);
    for survivor in [1, 2] {
        world.hosts[survivor].cut = false;
    }
    world.run_until(LIMIT, |w| !w.holders().is_empty());
    assert!(world.now.since(died) <= 3300 * MS, "{:?}", world.now.since(died));
    assert!(world.session("b").is_some() && world.session("c").is_some());
}

/// Rule 3.5.
#[test]
fn who_dies_with_etcds_leader_is_expired_a_twelfth_of_the_lease_after_the_store_answers_again() {
    let mut world = World::of(&["a", "b", "c"]);
    world.hosts[0].frozen = true;
    world.hosts[0].addresses.clear();
    for survivor in [1, 2] {
        world.hosts[survivor].cut = true;
    }
    // Longer than the lease, so that nothing but the end of the outage is waited for.
    world.run(3500 * MS);
    for survivor in [1, 2] {
        world.hosts[survivor].cut = false;
    }
    let answers_again = world.now;
    world.run_until(LIMIT, |w| w.session("a").is_none());
    let waited = world.now.since(answers_again);
    assert!(waited <= (167 + 253 + 5) * MS, "{waited:?}");
    assert!(waited >= 250 * MS, "c had the time to speak: {waited:?}");
    assert!(world.session("b").is_some() && world.session("c").is_some(), "{}", world.story());
}

/// Rules 1.1 and 1.5.
#[test]
fn an_unanswered_renewal_is_followed_by_another_before_it_has_failed() {
    let mut world = World::of(&["a"]);
    world.hosts[0].hold_commits = true;
    let count = |world: &World| world.hosts[0].commits.len();
    world.run_until(LIMIT, |w| count(w) == 1);
    let first = world.now;
    world.run_until(LIMIT, |w| count(w) == 3);
    assert!(world.now.since(first) <= 2 * 167 * MS + MS, "{:?}", world.now.since(first));
    // The first lands, the others read that it did, and nothing is sent before its time.
    let before = world.etcd.revision;
    for _ in 0..3 {
        world.deliver(0);
    }
    world.tell(0);
    assert_eq!(world.hosts[0].node.deadline(), Some(first + 2970 * MS));
    assert_eq!(world.etcd.revision, before + 1, "one write");
    world.run_until(LIMIT, |w| count(w) == 1);
    assert_eq!(world.now.since(first), 500 * MS);
}

/// Rule 1.
#[test]
fn while_etcd_answers_the_session_is_written_once_each_interval() {
    let mut world = World::of(&["a"]);
    world.run(1000 * MS);
    let before = world.etcd.revision;
    world.run(5000 * MS);
    assert!((10..=11).contains(&(world.etcd.revision - before)), "{}", world.story());
}

/// Rule 3.4.
#[test]
fn a_renewal_that_fails_after_a_later_one_was_answered_is_no_outage() {
    let mut world = World::of(&["a"]);
    world.hosts[0].hold_commits = true;
    world.run_until(LIMIT, |w| w.hosts[0].commits.len() == 2);
    let (lost, _) = world.hosts[0].commits.pop_front().unwrap();
    world.deliver(0);
    world.fail(0, lost);
    world.hosts[0].hold_commits = false;
    world.run(MS);
    let fails = |r: &Report| matches!(r, Report::RenewalsFail { .. });
    assert!(!world.hosts[0].reports.iter().any(fails), "{}", world.story());
}

/// Rule 5.5.
#[test]
fn an_orderly_stop_hands_over_and_leaves_nothing() {
    let mut world = World::of(&["a", "b"]);
    let now = world.now;
    world.hosts[0].node.handle_stop(now);
    world.run(50 * MS);
    assert_eq!(world.hosts[0].exit, Some(Exit::Stopped));
    assert_eq!(world.holders(), [1]);
    assert!(world.session("a").is_none());
    assert!(!world.etcd.kvs.contains_key("/turnip/main/nodes/a"));
    assert!(!world.said(0, "lost session"), "{}", world.story());
}

/// Rule 5.5.
#[test]
fn the_last_node_to_stop_gives_its_vips_free() {
    let mut world = World::of(&["a"]);
    let now = world.now;
    world.hosts[0].node.handle_stop(now);
    world.run(50 * MS);
    assert_eq!(world.hosts[0].exit, Some(Exit::Stopped));
    assert_eq!(world.owner("v"), None);
}

/// Rule 5.5.
#[test]
fn a_stop_does_not_wait_for_a_dead_etcd_longer_than_the_lease() {
    let mut world = World::of(&["a"]);
    world.hosts[0].cut = true;
    let now = world.now;
    world.hosts[0].node.handle_stop(now);
    world.run(2 * MS);
    assert!(world.holders().is_empty(), "the address goes at once");
    world.run_until(3100 * MS, |w| w.hosts[0].exit == Some(Exit::Stopped));
}

/// Rule 5.5.
#[test]
fn a_second_stop_does_not_wait_for_etcd_at_all() {
    let mut world = World::of(&["a"]);
    world.hosts[0].cut = true;
    let now = world.now;
    world.hosts[0].node.handle_stop(now);
    world.run(MS);
    let now = world.now;
    world.hosts[0].node.handle_stop_now(now);
    world.run(2 * MS);
    assert_eq!(world.hosts[0].exit, Some(Exit::Stopped));
    assert!(world.holders().is_empty());
}

/// Rule 5.5.
#[test]
fn a_second_stop_does_not_wait_for_the_deletion_of_the_session() {
    let mut world = World::of(&["a"]);
    world.hosts[0].hold_commits = true;
    let now = world.now;
    world.hosts[0].node.handle_stop(now);
    world.run(2 * MS);
    while world.owner("v").is_some() {
        world.deliver(0);
        world.run(MS);
    }
    assert!(!world.hosts[0].commits.is_empty(), "the session is being deleted");
    let now = world.now;
    world.hosts[0].node.handle_stop_now(now);
    world.run(2 * MS);
    assert_eq!(world.hosts[0].exit, Some(Exit::Stopped));
}

/// Rules 5.5 and 9.4.
#[test]
fn a_stop_ends_although_the_store_changed_while_the_session_was_being_deleted() {
    let mut world = World::of(&["a"]);
    world.hosts[0].hold_commits = true;
    let now = world.now;
    world.hosts[0].node.handle_stop(now);
    world.run(2 * MS);
    while world.owner("v").is_some() {
        world.deliver(0);
        world.run(MS);
    }
    world.etcd.cluster_id = 8;
    world.etcd.put("/turnip/main/nodes/x", "");
    world.run(5 * MS);
    assert!(world.said(0, "etcd cluster 8 answers"), "{}", world.story());
    assert_eq!(world.hosts[0].exit, Some(Exit::Stopped));
}

/// Rule 6.2.
#[test]
fn a_restarted_daemon_resumes_its_session_and_the_address_never_leaves() {
    let mut world = World::of(&["a", "b"]);
    world.restart(0);
    for _ in 0..3000 {
        world.run(MS);
        assert_eq!(world.holders(), [0], "{}", world.story());
    }
    assert!(world.said(0, "resumed session"));
}

/// Rule 6.5.
#[test]
fn a_restart_on_another_boot_waits_for_the_old_session_to_end() {
    let mut world = World::of(&["a", "b"]);
    world.hosts[0].config.host = HostId("host-a-after-reboot".into());
    world.hosts[0].addresses.clear();
    world.restart(0);
    world.run(2500 * MS);
    assert_eq!(world.holders(), [] as [usize; 0]);
    world.run_until(LIMIT, |w| w.holders().len() == 1 && w.session("a").is_some());
    assert_eq!(world.hosts[0].exit, None);
}

/// Rule 6.5.
#[test]
fn a_rebooted_host_is_not_refused_for_the_last_renewal_of_its_earlier_boot() {
    let mut world = World::of(&["a", "b"]);
    world.hosts[0].hold_commits = true;
    while world.hosts[0].commits.is_empty() {
        world.run(MS);
    }
    world.hosts[0].config.host = HostId("host-a-after-reboot".into());
    world.hosts[0].addresses.clear();
    let under_way = world.restart(0);
    world.hosts[0].hold_commits = false;
    world.run(1000 * MS);
    assert!(world.etcd.apply(&under_way[0].1).succeeded, "a member had kept it for long");
    world.run_until(LIMIT, |w| w.said(0, "established"));
    assert_eq!(world.hosts[0].exit, None, "{}", world.story());
}

/// Rule 6.5.
#[test]
fn a_name_in_use_on_another_host_is_refused_and_nothing_is_touched() {
    let mut world = World::of(&["a", "b"]);
    let mut twin = config("a", one_vip());
    twin.host = HostId("host-x".into());
    twin.process = 99;
    let twin = world.start(twin);
    world.run_until(LIMIT, |w| w.hosts[twin].exit.is_some());
    let Some(Exit::Refused(why)) = &world.hosts[twin].exit else { panic!() };
    assert!(why.contains("host-a") && why.contains("in use"), "{why}");
    assert_eq!(world.holders(), [0]);
    assert_eq!(world.hosts[0].exit, None);
}

/// Rule 6.5.
#[test]
fn a_late_renewal_from_before_the_boot_is_no_other_host() {
    let mut world = World::of(&["a", "b"]);
    world.hosts[0].hold_commits = true;
    while world.hosts[0].commits.is_empty() {
        world.run(MS);
    }
    world.hosts[0].config.host = HostId("host-a-after-reboot".into());
    world.hosts[0].addresses.clear();
    let under_way = world.restart(0);
    world.hosts[0].hold_commits = false;
    world.run(5 * MS);
    // The rebooted host has read the key; now the last renewal from before lands.
    assert!(world.etcd.apply(&under_way[0].1).succeeded);
    world.run_until(LIMIT, |w| w.hosts[0].node.session().is_some());
    assert_eq!(world.hosts[0].exit, None);
}

/// Rule 6.7.
#[test]
fn two_daemons_with_one_name_and_host_end_with_one_that_drops_everything() {
    let mut world = World::of(&["a"]);
    let mut twin = config("a", one_vip());
    twin.process = 99;
    world.start(twin);
    world.run_until(LIMIT, |w| w.hosts[0].exit.is_some());
    let Some(Exit::Refused(why)) = &world.hosts[0].exit else { panic!() };
    assert!(why.contains("another daemon uses the node name a"), "{why}");
    assert!(world.hosts[0].addresses.is_empty());
}

/// Rule 6.1.
#[test]
fn addresses_of_an_earlier_configuration_go_before_anything_else() {
    let mut world = World::new(Vec::new());
    let i = world.start(config("a", one_vip()));
    for (address, marked) in [("10.9.9.9/32", true), ("10.8.8.8/32", false)] {
        let address = address.parse().unwrap();
        world.hosts[i].addresses.insert(present(address, marked));
    }
    world.run(100 * MS);
    assert!(world.holder_of("10.9.9.9/32").is_empty(), "marked: ours, and not configured");
    assert_eq!(world.holder_of("10.8.8.8/32"), [i], "not marked: somebody else's");
    assert_eq!(world.holder_of("10.0.0.50/32"), [i]);
}

/// Rule 6.6.
#[test]
fn a_configured_address_without_a_session_is_cleared_before_one_is_opened() {
    let mut world = World::of(&["b"]);
    let i = world.start(config("a", one_vip()));
    let address = "10.0.0.50/32".parse().unwrap();
    let left = present(address, true);
    world.hosts[i].addresses.insert(left);
    world.run(100 * MS);
    assert_eq!(world.holders(), [0]);
    assert!(world.session("a").is_some());
}

/// Rule 7.1.
#[test]
fn an_address_that_somebody_removes_is_put_back_and_counted() {
    let mut world = World::of(&["a"]);
    world.remove_behind_the_back(0);
    world.run(2 * MS);
    assert_eq!(world.holders(), [0]);
    assert!(world.said(0, "is missing although it is held here"));
    world.run(1000 * MS);
    assert_eq!(world.etcd.json("/turnip/main/nodes/a").unwrap()["repairs"], 1);
}

/// Rule 7.1.
#[test]
fn what_is_left_of_a_vip_stays_while_the_rest_is_put_back() {
    let policy = Policy::Priority { priority: 0, preempt: false };
    let mut world =
        World::new(vec![config("a", vec![vip("v", "10.0.0.50/32 fd00::50/128", policy.clone())])]);
    world.run(100 * MS);
    world.hosts[0].addresses.retain(|present| present.address.addr().is_ipv4());
    world.hosts[0].hold_ops = true;
    world.event(0, KernelEvent::AddressChanged);
    world.run(MS);
    world.perform(0);
    world.run(MS);
    while !world.hosts[0].ops.is_empty() {
        assert!(!matches!(world.hosts[0].ops[0].1, KernelOp::Withdraw { .. }));
        world.perform(0);
    }
    assert_eq!(world.hosts[0].addresses.len(), 2);
}

/// Rule 7.1.
#[test]
fn an_address_that_somebody_adds_where_it_is_not_held_is_taken_away() {
    let mut world = World::of(&["a", "b"]);
    let address = "10.0.0.50/32".parse().unwrap();
    let added = present(address, false);
    world.hosts[1].addresses.insert(added);
    world.event(1, KernelEvent::AddressChanged);
    world.run(2 * MS);
    assert_eq!(world.holders(), [0]);
    assert!(world.said(1, "is here although it is not held here"));
}

/// Rule 7.8.
#[test]
fn what_stands_otherwise_than_it_should_beside_the_hosts_own_is_put_anew_and_counts_as_no_repair() {
    let mut world = World::of(&["a", "b"]);
    world.misplace(0);
    assert!(world.hosts[0].addresses.iter().all(|there| there.misplaced));
    world.run(2 * MS);
    assert_eq!(world.holders(), [0]);
    assert!(world.hosts[0].addresses.iter().all(|there| !there.misplaced));
    assert!(world.said(0, "putting 10.0.0.50/32 on eth0 there anew"));
    world.run(1000 * MS);
    assert_eq!(world.etcd.json("/turnip/main/nodes/a").unwrap()["repairs"], 0);
}

/// Rule 7.8.
#[test]
fn what_is_to_go_is_not_put_anew_however_it_stands() {
    let mut world = World::of(&["a", "b"]);
    world.hosts[0].hold_ops = true;
    world.hosts[0].cut = true;
    let deadline = world.hosts[0].node.deadline().unwrap();
    world.run_until(LIMIT, |w| w.now >= deadline - 150 * MS);
    world.misplace(0);
    while !world.hosts[0].ops.is_empty() {
        assert!(!matches!(world.hosts[0].ops[0].1, KernelOp::Assume { .. }));
        world.perform(0);
        world.run(MS);
    }
    assert!(world.hosts[0].addresses.is_empty());
}

/// Rule 7.3.
#[test]
fn an_interface_that_goes_down_passes_its_vip_on_and_takes_it_back_when_preferred() {
    let priority =
        |priority| vec![vip("v", "10.0.0.50/32", Policy::Priority { priority, preempt: true })];
    let mut world = World::new(vec![config("a", priority(2)), config("b", priority(1))]);
    world.run(2000 * MS);
    assert_eq!(world.holders(), [0]);
    let link = |up| KernelEvent::LinkChanged(link("eth0", up, true));
    world.hosts[0].links.insert("eth0".into(), false);
    world.event(0, link(false));
    world.run_until(LIMIT, |w| w.holders() == [1]);
    let record = world.etcd.json("/turnip/main/nodes/a").unwrap();
    assert_eq!(record["vips"]["v"]["blocked"], "interface eth0 is down");
    world.hosts[0].links.insert("eth0".into(), true);
    world.event(0, link(true));
    world.run_until(LIMIT, |w| w.holders() == [0]);
}

#[test]
fn a_record_stays_below_what_etcd_takes_whatever_befalls_all_vips_at_once() {
    let vips = (0..6000)
        .map(|n| {
            let address = format!("10.0.{}.{}/32", n / 250, n % 250 + 1);
            vip(&format!("v{n}"), &address, Policy::Spread)
        })
        .collect();
    let mut world = World::new(Vec::new());
    world.start(config("a", vips));
    world.hosts[0].links.clear();
    world.run(2000 * MS);
    let value = &world.etcd.kvs["/turnip/main/nodes/a"].value;
    let record: records::NodeRecord = records::decode(value).unwrap();
    let reasons: Vec<&str> = record.vips.values().filter_map(|v| v.blocked.as_deref()).collect();
    assert_eq!(reasons.len(), 6000);
    assert!(reasons.contains(&"interface eth0 does not exist") && reasons.contains(&"see its log"));
    assert!(reasons.iter().map(|why| why.len()).sum::<usize>() < 200 << 10);
}

/// Rule 7.2.
#[test]
fn a_vip_that_was_half_removed_when_it_became_ours_is_made_whole() {
    let policy = Policy::Priority { priority: 0, preempt: false };
    let vips = || vec![vip("v", "10.0.0.50/32 fd00::50/128", policy.clone())];
    let mut world = World::new(vec![config("a", vips())]);
    world.run(100 * MS);
    world.start(config("b", vips()));
    world.run(100 * MS);
    // Somebody adds one address on b, which the kernel does not remove before v moves to b.
    let half = world.hosts[0].addresses.first().unwrap().clone();
    world.hosts[1].addresses.insert(half);
    world.hosts[1].refuse_withdraw = Some(KernelError::Refused("busy".into()));
    world.event(1, KernelEvent::AddressChanged);
    world.run(5 * MS);
    let now = world.now;
    world.hosts[0].node.handle_stop(now);
    world.run(20 * MS);
    world.hosts[1].refuse_withdraw = None;
    world.run(1000 * MS);
    assert_eq!(world.hosts[1].addresses.len(), 2, "{}", world.story());
}

/// Rule 7.3.
#[test]
fn a_vip_that_the_kernel_refuses_is_passed_on() {
    let mut world = World::of(&["a", "b"]);
    world.remove_behind_the_back(0);
    world.hosts[0].refuse_assume = Some(KernelError::Refused("no buffer space".into()));
    world.run_until(LIMIT, |w| w.holders() == [1]);
    assert!(world.said(0, "cannot hold v here"));
}

/// Rule 7.5.
#[test]
fn an_owner_whose_kernel_is_too_late_three_times_passes_the_vip_on() {
    let mut world = World::of(&["a", "b"]);
    world.hosts[0].refuse_assume = Some(KernelError::TooLate);
    world.remove_behind_the_back(0);
    world.run(150 * MS);
    assert_eq!(world.owner("v").as_deref(), Some("a"), "once may be bad luck");
    world.run(450 * MS);
    assert_eq!(world.holders(), [1], "{}", world.story());
    world.hosts[0].refuse_assume = None;
    world.run(5000 * MS);
    assert_eq!(world.holders(), [1], "it stays where it works");
}

/// Rules 5.1 and 7.6.
#[test]
fn nothing_is_handed_over_while_the_kernel_does_not_remove_the_address() {
    let mut world = World::of(&["a", "b"]);
    world.hosts[0].refuse_withdraw = Some(KernelError::Refused("busy".into()));
    world.etcd.put("/turnip/main/intents/drain/a", r#"{"v":1}"#);
    world.run(2000 * MS);
    assert_eq!(world.holders(), [0]);
    assert_eq!(world.owner("v").as_deref(), Some("a"));
    world.hosts[0].refuse_withdraw = None;
    world.run_until(LIMIT, |w| w.holders() == [1]);
}

/// Rule 7.4.
#[test]
fn a_drained_node_holds_nothing_and_drain_beats_pin() {
    let mut world = World::of(&["a", "b"]);
    world.etcd.put("/turnip/main/intents/pin/v", r#"{"v":1,"node":"a"}"#);
    world.etcd.put("/turnip/main/intents/drain/a", r#"{"v":1}"#);
    world.run(20 * MS);
    assert_eq!(world.holders(), [1]);
    assert!(world.said(1, "ignoring the pin of v to a: it is drained"), "{}", world.story());
    world.etcd.delete("/turnip/main/intents/drain/a");
    world.run(20 * MS);
    assert_eq!(world.holders(), [0], "the pin is effective again");
}

/// Rule 5.4.
#[test]
fn a_move_that_can_wait_does_not_begin_while_the_store_does_not_answer() {
    let vips = || vec![vip("v", "10.0.0.50/32", Policy::Priority { priority: 0, preempt: true })];
    let mut world = World::new(vec![config("a", vips())]);
    world.run(100 * MS);
    let mut better = config("b", vips());
    better.vips[0].policy = Policy::Priority { priority: 9, preempt: true };
    world.start(better);
    world.run(2800 * MS);
    world.hosts[0].cut = true;
    world.run(1200 * MS);
    assert_eq!(world.holders(), [0]);
    world.hosts[0].cut = false;
    world.run(2500 * MS);
    assert_eq!(world.holders(), [0], "it settles anew");
    world.run_until(LIMIT, |w| w.holders() == [1]);
}

/// Rule 5.4.
#[test]
fn a_vip_is_not_handed_to_a_session_that_is_about_to_run_out() {
    let vips = || vec![vip("v", "10.0.0.50/32", Policy::Priority { priority: 0, preempt: true })];
    let mut world = World::new(vec![config("a", vips())]);
    world.run(100 * MS);
    for (name, priority) in [("b", 9), ("c", 1)] {
        let mut other = config(name, vips());
        other.vips[0].policy = Policy::Priority { priority, preempt: true };
        world.start(other);
    }
    world.run(300 * MS);
    world.hosts[1].frozen = true;
    world.run(1700 * MS);
    assert_eq!(world.holders(), [0], "b is preferred, and silent");
    let now = world.now;
    world.hosts[0].node.handle_stop(now);
    world.run(100 * MS);
    assert_eq!(world.holders(), [2]);
}

/// Rule 5.4.
#[test]
fn hosts_that_renew_as_rarely_as_they_may_count_as_heard_between_two_renewals() {
    let lease = Lease::with(3000 * MS, Some(920 * MS), None, None).unwrap();
    let slow = |name: &str, priority| {
        let policy = Policy::Priority { priority, preempt: false };
        NodeConfig { lease, ..config(name, vec![vip("v", "10.0.0.50/32", policy.clone())]) }
    };
    let mut world = World::new(vec![slow("a", 9)]);
    world.run(100 * MS);
    for (name, priority) in [("b", 5), ("c", 1)] {
        world.start(slow(name, priority));
        world.run(100 * MS);
    }
    // b's last renewal is older than a quarter of the lease, c's is not.
    world.run(3620 * MS);
    let now = world.now;
    world.hosts[0].node.handle_stop(now);
    world.run(50 * MS);
    assert_eq!(world.holders(), [1], "{}", world.story());
}

/// Rule 5.4.
#[test]
fn a_pin_moves_a_vip_at_once() {
    let mut world = World::of(&["a", "b", "c"]);
    world.etcd.put("/turnip/main/intents/pin/v", r#"{"v":1,"node":"c"}"#);
    world.run(10 * MS);
    assert_eq!(world.holders(), [2]);
}

#[test]
fn leader_follows_the_raft_leader_with_the_highest_term() {
    let vips = || vec![vip("v", "10.0.0.50/32", Policy::Leader)];
    let mut world = World::new(vec![config("a", vips()), config("b", vips()), config("c", vips())]);
    world.hosts[1].leads_term = Some(2);
    world.run(4000 * MS);
    assert_eq!(world.holders(), [1]);
    world.hosts[2].leads_term = Some(3);
    world.run_until(LIMIT, |w| w.holders() == [2]);
}

#[test]
fn spread_gives_every_node_its_share_and_a_new_one_takes_only_its_own() {
    let vips = || -> Vec<VipConfig> {
        (1..=60).map(|n| vip(&format!("v{n}"), &format!("10.0.0.{n}/32"), Policy::Spread)).collect()
    };
    let mut world = World::new(vec![config("a", vips()), config("b", vips())]);
    world.run(4000 * MS);
    let before: Vec<Vec<usize>> =
        (1..=60).map(|n| world.holder_of(&format!("10.0.0.{n}/32"))).collect();
    assert!(before.iter().all(|holders| holders.len() == 1));
    world.start(config("c", vips()));
    world.run(4000 * MS);
    let after: Vec<Vec<usize>> =
        (1..=60).map(|n| world.holder_of(&format!("10.0.0.{n}/32"))).collect();
    let moved = before.iter().zip(&after).filter(|(b, a)| b != a);
    assert!(moved.clone().count() > 10 && moved.clone().all(|(_, a)| *a == [2]), "{after:?}");
}

#[test]
fn several_addresses_of_a_vip_move_as_one() {
    let both = || {
        let policy = Policy::Priority { priority: 0, preempt: false };
        vec![vip("v", "10.0.0.50/32 fd00::50/128", policy.clone())]
    };
    let mut world = World::new(vec![config("a", both())]);
    world.run(100 * MS);
    world.start(config("b", both()));
    world.run(100 * MS);
    let now = world.now;
    world.hosts[0].node.handle_stop(now);
    world.run(50 * MS);
    assert_eq!(world.holder_of("10.0.0.50/32"), [1]);
    assert_eq!(world.holder_of("fd00::50/128"), [1]);
}

#[test]
fn hosts_that_disagree_about_a_vip_do_not_hand_it_over() {
    let policy = Policy::Priority { priority: 0, preempt: true };
    let mut better = config("b", vec![vip("v", "10.0.0.51/32", policy.clone())]);
    better.vips[0].policy = Policy::Priority { priority: 9, preempt: true };
    let mut world = World::new(vec![config("a", vec![vip("v", "10.0.0.50/32", policy.clone())])]);
    world.run(100 * MS);
    world.start(better);
    world.run(5000 * MS);
    assert_eq!(world.holders(), [0]);
}

/// Rule 4.7.
#[test]
fn an_address_under_two_names_stays_with_the_one_that_was_published_first() {
    let policy = Policy::Priority { priority: 0, preempt: false };
    let mut world = World::new(vec![config("a", vec![vip("v", "10.0.0.50/32", policy.clone())])]);
    world.run(100 * MS);
    world.start(config("b", vec![vip("w", "10.0.0.50/24", policy.clone())]));
    world.run(5000 * MS);
    assert_eq!(world.holders(), [0]);
    assert!(world.said(1, "already that of VIP v on a"), "{}", world.story());
    let now = world.now;
    world.hosts[0].node.handle_stop(now);
    world.run(5000 * MS);
    assert_eq!(world.holders(), [1], "until that changes");
}

/// Rule 9.6.
#[test]
fn an_unreadable_value_is_named_and_left_alone_and_the_others_go_on() {
    let mut world = World::new(Vec::new());
    world.etcd.put("/turnip/main/vips/v", "something else");
    world.etcd.put("/turnip/main/nonsense", "x");
    let policy = Policy::Priority { priority: 0, preempt: false };
    let vips =
        vec![vip("v", "10.0.0.50/32", policy.clone()), vip("w", "10.0.0.51/32", policy.clone())];
    world.start(config("a", vips));
    world.run(5000 * MS);
    assert!(world.holder_of("10.0.0.50/32").is_empty());
    assert_eq!(world.holder_of("10.0.0.51/32"), [0]);
    assert_eq!(world.etcd.kvs["/turnip/main/vips/v"].value, b"something else");
    assert!(world.said(0, "leaving /turnip/main/vips/v alone"));
    assert!(world.said(0, "leaving /turnip/main/nonsense alone"));
}

/// Rule 9.6.
#[test]
fn a_vip_whose_record_becomes_unreadable_is_forfeited_with_that_reason() {
    let mut world = World::of(&["a"]);
    assert_eq!(world.holders(), [0]);
    world.etcd.put("/turnip/main/vips/v", "garbage");
    world.run_until(LIMIT, |w| w.holders().is_empty());
    assert!(world.said(0, "because what etcd says of it cannot be read"), "{}", world.story());
    world.etcd.delete("/turnip/main/vips/v");
    world.run_until(LIMIT, |w| w.holders() == [0]);
}

/// Rule 5.6.
#[test]
fn an_owner_without_the_vip_in_its_configuration_gives_it_free() {
    let mut world = World::of(&["a"]);
    let address = "10.0.0.50/32".parse().unwrap();
    world.hosts[0].config.vips.clear();
    world.restart(0);
    world.run(100 * MS);
    assert!(!world.hosts[0].addresses.iter().any(|a| a.address == address));
    assert_eq!(world.owner("v"), None);
}

/// Rule 9.3.
#[test]
fn who_cannot_hear_stops_renewing() {
    let mut world = World::of(&["a", "b"]);
    world.hosts[0].watch_cut = true;
    world.run_until(LIMIT, |w| w.holders() == [1]);
    assert!(world.hosts[0].follows > 2, "it follows afresh meanwhile");
    world.hosts[0].watch_cut = false;
    world.run_until(LIMIT, |w| w.session("a").is_some());
}

/// Rule 9.2.
#[test]
fn a_watch_that_breaks_is_followed_afresh_without_losing_anything() {
    let mut world = World::of(&["a", "b"]);
    for _ in 0..20 {
        let error = StoreError::Unavailable("compacted".into());
        let now = world.now;
        world.hosts[0].node.handle_follow_failed(&error, now);
        world.run(100 * MS);
        assert_eq!(world.holders(), [0]);
    }
}

/// Rule 9.4 (A2).
#[test]
fn a_store_that_went_back_makes_a_node_drop_everything_and_start_afresh() {
    let mut world = World::of(&["a"]);
    world.run(5000 * MS);
    world.etcd.kvs.clear();
    world.etcd.history.clear();
    world.etcd.revision = 2;
    world.hosts[0].told = Some(0);
    world.run_until(LIMIT, |w| w.said(0, "went back to revision"));
    world.run(4000 * MS);
    assert_eq!(world.holders(), [0]);
    assert_eq!(world.owner("v").as_deref(), Some("a"));
}

/// Rule 9.4 (A2).
#[test]
fn another_etcd_cluster_makes_a_node_start_afresh() {
    let mut world = World::of(&["a"]);
    world.etcd.cluster_id = 8;
    world.run_until(LIMIT, |w| w.said(0, "etcd cluster 8 answers, it was 7"));
    world.run(4000 * MS);
    assert_eq!(world.holders(), [0]);
}

/// Rule 4.4.
#[test]
fn a_vip_is_not_stuck_behind_a_host_that_does_not_take_it() {
    let vips = || vec![vip("v", "10.0.0.50/32", Policy::Priority { priority: 0, preempt: true })];
    let mut world = World::new(Vec::new());
    let mut best = config("a", vips());
    best.vips[0].policy = Policy::Priority { priority: 9, preempt: true };
    world.start(best);
    world.hosts[0].hold_ops = false;
    world.run(100 * MS);
    world.start(config("b", vips()));
    world.run(100 * MS);
    // a is live and preferred, but none of its claims arrives.
    world.etcd.delete("/turnip/main/vips/v");
    world.hosts[0].hold_commits = true;
    world.run(600 * MS);
    assert_eq!(world.owner("v").as_deref(), Some("b"));
}

/// Rule 1.6.
#[test]
fn a_changed_lease_takes_effect_with_the_next_session_only() {
    let mut world = World::of(&["a"]);
    world.hosts[0].config.lease = Lease::new(6000 * MS).unwrap();
    world.restart(0);
    world.run(1000 * MS);
    assert_eq!(world.etcd.json("/turnip/main/sessions/a").unwrap()["lease_ms"], 3000);
    let now = world.now;
    world.hosts[0].node.handle_stop(now);
    world.run(100 * MS);
    world.restart(0);
    world.run(1000 * MS);
    assert_eq!(world.etcd.json("/turnip/main/sessions/a").unwrap()["lease_ms"], 6000);
}

/// Rule 8.16.
#[test]
fn after_an_outage_the_addresses_held_are_announced_again() {
    let mut world = World::of(&["a"]);
    world.run(5000 * MS);
    let before = world.hosts[0].announced.len();
    world.hosts[0].cut = true;
    world.run(1000 * MS);
    world.hosts[0].cut = false;
    world.run(5000 * MS);
    assert_eq!(world.holders(), [0]);
    assert_eq!(world.hosts[0].announced.len(), before + 3);
}

fn that_repeats_announcements(vips: Vec<VipConfig>) -> NodeConfig {
    NodeConfig { announce_every: Some(10_000 * MS), ..config("a", vips) }
}

/// Rule 8.16.
#[test]
fn an_address_that_stays_is_announced_again_and_again_and_no_more_when_it_has_gone() {
    let mut world = World::new(vec![that_repeats_announcements(one_vip())]);
    world.run(14_000 * MS);
    let announced = |world: &World| world.hosts[0].announced.len();
    let at_first = announced(&world);
    assert!((4..=5).contains(&at_first), "{:?}", world.hosts[0].announced);
    world.run(50_000 * MS);
    assert_eq!(announced(&world), at_first + 5);
    world.etcd.put("/turnip/main/intents/drain/a", r#"{"v":1}"#);
    world.run_until(LIMIT, |w| w.holders().is_empty());
    let at_last = announced(&world);
    world.run(30_000 * MS);
    assert_eq!(announced(&world), at_last);
    world.etcd.delete("/turnip/main/intents/drain/a");
    world.run_until(LIMIT, |w| w.holders() == [0]);
    world.run(34_000 * MS);
    assert!((at_last + 6..=at_last + 7).contains(&announced(&world)), "3, and every 10 s");
}

/// Rules 6 and 8.16.
#[test]
fn what_a_killed_daemon_left_is_announced_again_by_the_one_that_resumes() {
    let mut world = World::new(vec![that_repeats_announcements(one_vip())]);
    world.run(5000 * MS);
    world.restart(0);
    let before = world.hosts[0].announced.len();
    world.run(41_000 * MS);
    assert_eq!(world.holders(), [0]);
    assert!(world.hosts[0].announced.len() >= before + 4, "{:?}", world.hosts[0].announced);
}

/// Rule 8.16.
#[test]
fn the_announcements_of_a_thousand_vips_are_spread_over_the_interval() {
    let numbered = |n: u32| {
        vip(&format!("v{n}"), &format!("10.0.{}.{}/32", n / 250, n % 250 + 1), Policy::Spread)
    };
    let every = 20_000 * MS;
    let vips = (0..1000).map(numbered).collect();
    let mut world =
        World::new(vec![NodeConfig { announce_every: Some(every), ..config("a", vips) }]);
    world.run_until(LIMIT, |w| w.hosts[0].addresses.len() == 1000);
    world.run(4000 * MS);
    let (from, before) = (world.now, world.hosts[0].announced.len());
    world.run(every);
    let repeated = &world.hosts[0].announced[before..];
    let names: std::collections::BTreeSet<_> = repeated.iter().map(|(_, name)| name).collect();
    assert_eq!((repeated.len(), names.len()), (1000, 1000), "each once");
    for tenth in 0..10 {
        let of_tenth = |at: Instant| at.since(from).as_nanos() * 10 / every.as_nanos() == tenth;
        let count = repeated.iter().filter(|(at, _)| of_tenth(*at)).count();
        assert!((50..=200).contains(&count), "{count} in part {tenth} of 10");
    }
}

/// Rule 8.16.
#[test]
fn what_an_interface_has_is_announced_anew_when_its_hardware_address_changes() {
    let mut world = World::of(&["a", "b"]);
    world.run(5000 * MS);
    let before = world.hosts[0].announced.len();
    world.event(0, KernelEvent::AnnounceAnew("eth1".into()));
    world.run(5000 * MS);
    assert_eq!(world.hosts[0].announced.len(), before, "another interface");
    for host in [0, 1] {
        world.event(host, KernelEvent::AnnounceAnew("eth0".into()));
    }
    world.run(MS);
    assert_eq!(world.hosts[0].announced.len(), before + 1, "at once");
    world.run(5000 * MS);
    assert_eq!(world.hosts[0].announced.len(), before + 3);
    assert!(world.hosts[1].announced.is_empty(), "it holds nothing");
}

/// Another machine claims the VIP's address, and host `i` hears it.
fn claim(world: &mut World, i: usize, machine: u8) {
    let assignment = Assignment {
        vip: "v".parse().unwrap(),
        interface: "eth0".into(),
        address: "10.0.0.50/32".parse().unwrap(),
    };
    let mac = Mac([2, 0, 0, 0, 0, machine]);
    let conflict = Conflict { assignment, heard_on: "eth0".into(), mac };
    world.event(i, KernelEvent::Conflict(conflict));
    world.run(MS);
}

fn conflicts(world: &World, i: usize) -> usize {
    let is_conflict = |report: &&Report| matches!(report, Report::Conflict { .. });
    world.hosts[i].reports.iter().filter(is_conflict).count()
}

/// Rule 8.18.
#[test]
fn a_foreign_machine_with_the_address_is_reported_once_and_never_takes_it() {
    let mut world = World::of(&["a", "b"]);
    world.run(5000 * MS);
    let announced = world.hosts[0].announced.len();
    for _ in 0..100 {
        claim(&mut world, 0, 9);
        world.run(100 * MS);
    }
    assert_eq!(conflicts(&world, 0), 1);
    assert!(world.said(0, "02:00:00:00:00:09"), "{}", world.story());
    claim(&mut world, 0, 8);
    assert_eq!(conflicts(&world, 0), 2, "another machine");
    assert_eq!(world.holders(), [0]);
    assert_eq!(world.hosts[0].announced.len(), announced, "it is not told to defend");
    // Who does not hold it hears turnip's own announcements.
    claim(&mut world, 1, 9);
    assert_eq!(conflicts(&world, 1), 0);
}

/// Rule 8.18.
#[test]
fn a_vip_that_is_to_be_defended_is_announced_against_a_claim_and_not_again_for_ten_seconds() {
    let mut vips = one_vip();
    vips[0].defend = true;
    let mut world = World::new(vec![config("a", vips)]);
    world.run(5000 * MS);
    let before = world.hosts[0].announced.len();
    for second in 0..25 {
        claim(&mut world, 0, 9);
        let defended = world.hosts[0].announced.len() - before;
        assert_eq!(defended, second / 10 + 1, "after {second} s");
        world.run(999 * MS);
    }
    assert_eq!((conflicts(&world, 0), world.holders()), (1, vec![0]));
}

/// Rules 2.5 and 8.10.
#[test]
fn what_waits_for_the_kernel_longer_than_a_lease_is_told_every_new_deadline() {
    let mut world = World::new(vec![config("a", one_vip())]);
    world.hosts[0].hold_ops = true;
    world.run_until(LIMIT, |w| !w.hosts[0].ops.is_empty());
    assert!(matches!(world.hosts[0].ops.front(), Some((_, KernelOp::List))));
    world.perform(0);
    world.run_until(LIMIT, |w| !w.hosts[0].ops.is_empty());
    assert!(matches!(world.hosts[0].ops.front(), Some((_, KernelOp::Assume { .. }))));
    world.run(4000 * MS);
    assert!(world.hosts[0].addresses.is_empty(), "none is there yet");
    let Some((_, KernelOp::Refresh { deadline })) = world.hosts[0].ops.back() else {
        panic!("{:?}", world.hosts[0].ops)
    };
    assert_eq!(Some(*deadline), world.hosts[0].node.deadline());
    assert!(*deadline > world.now);
}
