//! What an operator is told, and how loudly.

mod world;

use std::time::Duration;

use turnip_core::{Level, Report, StoreError};

use world::{MS, World};

const LIMIT: Duration = Duration::from_secs(60);

fn told<'a, T>(world: &'a World, i: usize, of: impl Fn(&'a Report) -> Option<T>) -> Vec<T> {
    world.hosts[i].reports.iter().filter_map(of).collect()
}

#[test]
fn whoever_takes_over_says_whose_silence_it_was_and_what_it_takes() {
    let mut world = World::of(&["a", "b"]);
    let owner = world.holders()[0];
    let other = 1 - owner;
    world.hosts[owner].frozen = true;
    world.run_until(LIMIT, |w| w.holders().contains(&other));
    let expired = told(&world, other, |report| match report {
        Report::Expired { node, silence: Some(silence), vips } => Some((node, silence, vips)),
        _ => None,
    });
    let [(node, silence, vips)] = expired.as_slice() else { panic!("{}", world.story()) };
    assert_eq!(node.as_str(), ["a", "b"][owner]);
    assert!(silence.is_over() && silence.silent < 4000 * MS, "{silence}");
    assert_eq!(vips.iter().map(|vip| vip.as_str()).collect::<Vec<_>>(), ["v"]);
    let text = world.hosts[other].reports.iter().map(ToString::to_string).collect::<String>();
    assert!(text.contains("nothing was heard of it for 3.0"), "{text}");
    assert!(text.contains("of a lease of 3 s; taking over v"), "{text}");
}

#[test]
fn who_did_not_expire_a_session_that_ended_says_so_too() {
    let mut world = World::of(&["a", "b", "c"]);
    let now = world.now;
    world.hosts[0].node.handle_stop(now);
    world.run(500 * MS);
    for other in [1, 2] {
        let ended = told(&world, other, |report| match report {
            Report::SessionEnded { node, silence } => Some((node.as_str(), silence.is_over())),
            _ => None,
        });
        assert_eq!(ended, [("a", false)], "{}", world.story());
    }
}

#[test]
fn a_withdrawal_that_nobody_wanted_is_a_warning_and_a_wanted_one_is_not() {
    let forfeited = |world: &World, i: usize| {
        told(world, i, |report| match report {
            Report::Forfeiting { .. } => Some(report.level()),
            _ => None,
        })
    };
    let mut cut = World::of(&["a"]);
    cut.hosts[0].cut = true;
    cut.run_until(LIMIT, |w| w.holders().is_empty());
    assert_eq!(forfeited(&cut, 0), [Level::Warn], "{}", cut.story());

    let mut down = World::of(&["a"]);
    down.hosts[0].links.insert("eth0".into(), false);
    let link = turnip_core::Link { name: "eth0".into(), up: false, carrier: false };
    down.event(0, turnip_core::KernelEvent::LinkChanged(link));
    down.run_until(LIMIT, |w| w.holders().is_empty());
    assert_eq!(forfeited(&down, 0), [Level::Warn], "{}", down.story());

    let mut stopped = World::of(&["a", "b"]);
    let owner = stopped.holders()[0];
    let now = stopped.now;
    stopped.hosts[owner].node.handle_stop(now);
    stopped.run(500 * MS);
    assert_eq!(forfeited(&stopped, owner), [Level::Info], "{}", stopped.story());

    let mut drained = World::of(&["a"]);
    drained.etcd.put("/turnip/main/intents/drain/a", r#"{"v":1}"#);
    drained.run_until(LIMIT, |w| w.holders().is_empty());
    assert_eq!(forfeited(&drained, 0), [Level::Info], "{}", drained.story());
}

#[test]
fn each_new_cause_of_an_outage_is_told_once() {
    let mut world = World::of(&["a"]);
    world.hosts[0].hold_commits = true;
    let causes = ["no leader", "no leader", "refused", "no leader", "full", "full"];
    for cause in causes {
        world.run_until(LIMIT, |w| !w.hosts[0].commits.is_empty());
        while let Some((id, _)) = world.hosts[0].commits.pop_front() {
            let error = StoreError::Unavailable(cause.into());
            let now = world.now;
            world.hosts[0].node.handle_committed(id, Err(error), now);
        }
        world.run(MS);
    }
    let fails = |world: &World| {
        told(world, 0, |report| match report {
            Report::RenewalsFail { why, .. } => Some(why.replace("etcd is unavailable: ", "")),
            _ => None,
        })
    };
    assert_eq!(fails(&world), ["no leader", "refused", "full"], "{}", world.story());
    world.hosts[0].hold_commits = false;
    world.run_until(LIMIT, |w| w.said(0, "renewals succeed again"));
    world.hosts[0].cut = true;
    world.run(1000 * MS);
    assert_eq!(fails(&world).last().map(String::as_str), Some("cut"), "another outage");
}

/// Rule 9.3. What fails is said to be over when that is over: a late answer brings no news.
#[test]
fn each_cause_of_an_outage_has_its_own_end() {
    let mut world = World::of(&["a"]);
    (world.hosts[0].hold_commits, world.hosts[0].watch_cut) = (true, true);
    let now = world.now;
    world.hosts[0].node.handle_follow_failed(&StoreError::Unavailable("broken".into()), now);
    world.run_until(LIMIT, |w| w.said(0, "no news come from etcd"));
    let is_failing = |w: &World| w.said(0, "etcd is unavailable: cut");
    let last = world.hosts[0].commits.pop_back().expect("a renewal is under way");
    while let Some((lost, _)) = world.hosts[0].commits.pop_front() {
        world.fail(0, lost);
    }
    world.hosts[0].commits = [last].into();
    world.run(MS);
    assert!(is_failing(&world), "{}", world.story());
    world.deliver(0);
    world.run(MS);
    assert!(world.said(0, "etcd has answered a renewal; it is the last one for now"));
    assert!(!world.said(0, "renewals succeed again"), "{}", world.story());
    assert!(!world.hosts[0].node.standing(world.now).store_answers);

    (world.hosts[0].hold_commits, world.hosts[0].watch_cut) = (false, false);
    world.run_until(LIMIT, |w| w.said(0, "renewals succeed again"));
    let ends = told(&world, 0, |report| match report {
        Report::RenewalAnswered | Report::RenewingGoesOn | Report::RenewalsSucceed => {
            Some(report.clone())
        }
        _ => None,
    });
    let in_order = [Report::RenewalAnswered, Report::RenewingGoesOn, Report::RenewalsSucceed];
    assert_eq!(ends, in_order, "{}", world.story());
}
