//! The exhaustive search, and that it finds what is wrong.

#![allow(missing_docs, reason = "the tests' names say it")]

use turnip_core::Mutant;
use turnip_sim::exhaustive::{
    Options, Violation, run, small_worlds, where_it_shows, why_not, wide_world,
};

/// Larger worlds are searched by `turnip-sim exhaustive`, which is compiled to be fast.
const STATES_MAX: usize = 60_000;

#[test]
fn no_order_of_events_in_a_small_world_makes_two_hosts_answer_at_once() {
    let mut exhausted = 0;
    for world in small_worlds() {
        let report = run(Options { states_max: STATES_MAX, ..world.options });
        println!("{}: {report}", world.name);
        assert_eq!(report.violation, None, "{}: {report}", world.name);
        exhausted += usize::from(report.exhausted);
    }
    assert!(exhausted >= 6, "only {exhausted} worlds were exhausted");
}

#[test]
fn every_broken_rule_that_can_show_in_a_small_world_is_found() {
    for &mutant in Mutant::ALL {
        let Some(world) = where_it_shows(mutant) else { continue };
        let report = run(world.options);
        println!("{mutant:?} in {}: {report}\n", world.name);
        let Some((violation, path)) = report.violation else {
            panic!("{mutant:?} is not found in {}: {report}", world.name)
        };
        assert!(!path.is_empty());
        if let Violation::Gap(_) = violation {
            assert!([Mutant::ExpiryRestarts, Mutant::PatienceDoubled].contains(&mutant));
            continue;
        }
        if let Violation::Nobody(_) = violation {
            assert_eq!(mutant, Mutant::SitsOnVip);
            continue;
        }
        let refuses = matches!(violation, Violation::Refusal(_));
        let by_refusal = [Mutant::RefuseLateRenewal, Mutant::ViewGoesBack].contains(&mutant);
        assert_eq!(refuses, by_refusal, "{violation}");
    }
}

#[test]
fn a_broken_rule_that_shows_in_no_small_world_has_a_reason_not_to() {
    for &mutant in Mutant::ALL {
        assert_eq!(where_it_shows(mutant).is_none(), why_not(mutant).is_some(), "{mutant:?}");
    }
    assert!(where_it_shows(Mutant::ExpiryRestarts).is_some(), "others wait, and are seen to");
}

#[test]
fn three_hosts_have_time_for_an_expiry_a_return_and_another_expiry() {
    let world = small_worlds().into_iter().find(|world| world.name == "three-deep").unwrap();
    assert!(world.options.ticks_max >= 8);
    let report = run(Options { ticks_max: 6, ..world.options });
    assert_eq!(report.expired, 2, "{report}");
}

#[test]
fn the_same_search_visits_the_same_states() {
    let options = Options { states_max: 20_000, ..wide_world().options };
    let (once, again) = (run(options), run(options));
    assert_eq!(once, again);
    assert!(!once.exhausted);
}

#[test]
fn the_way_to_an_overlap_is_told_a_line_a_move() {
    let world = where_it_shows(Mutant::HandOverBeforeRemoval).unwrap();
    let (violation, path) = run(world.options).violation.unwrap();
    assert_eq!(violation, Violation::Overlap("a", "b"));
    assert!(path[0].contains("the operator wants v on b [a answers]"), "{path:?}");
    assert!(path.last().unwrap().contains("[a and b answer]"), "{path:?}");
}
