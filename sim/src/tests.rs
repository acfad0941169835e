//! What the simulator says of turnip, and of itself.

use turnip_core::Mutant;

use crate::mutants::core_test;
use crate::plan::{Daemon, Plan};
use crate::run;
use crate::scenario::{self, Source};
use crate::swarm::runner;

/// A hash of our own keeping (FNV-1a), so that a trace's hash can be compared between machines.
fn hash(lines: &[String]) -> u64 {
    lines
        .iter()
        .flat_map(|line| line.bytes().chain([b'\n']))
        .fold(0xCBF2_9CE4_8422_2325, |h, b| (h ^ u64::from(b)).wrapping_mul(0x0000_0100_0000_01B3))
}

#[test]
fn every_scenario_goes_well_with_turnip() {
    for scenario in scenario::all() {
        let complaints = scenario.play(Daemon::Turnip(None), false).complaints;
        assert_eq!(complaints, Vec::<String>::new(), "{}", scenario.name);
    }
}

#[test]
fn every_scenario_catches_the_broken_rules_that_it_is_about() {
    for scenario in scenario::all() {
        for &mutant in scenario.mutants {
            let complaints = scenario.play(Daemon::Turnip(Some(mutant)), false).complaints;
            assert!(!complaints.is_empty(), "{} passes with {mutant:?}", scenario.name);
        }
    }
}

#[test]
fn every_file_for_broken_rules_is_a_scenario_and_each_scenario_has_a_name_of_its_own() {
    let mut names: Vec<&str> = scenario::all().iter().map(|scenario| scenario.name).collect();
    for folder in ["rules", "simulated"] {
        let path = format!("{}/scenarios/{folder}", env!("CARGO_MANIFEST_DIR"));
        for entry in std::fs::read_dir(path).unwrap() {
            let path = entry.unwrap().path();
            let name = path.file_stem().unwrap().to_str().unwrap();
            assert!(names.contains(&name), "sim/src/scenario/files.rs says nothing of {name}");
        }
    }
    let all = names.len();
    names.sort_unstable();
    names.dedup();
    assert_eq!(names.len(), all);
}

#[test]
fn every_rule_that_can_be_broken_shows_in_a_scenario_or_a_small_world_or_a_test_of_core() {
    let all = scenario::all();
    for &mutant in Mutant::ALL {
        let in_scenario = all.iter().any(|scenario| scenario.mutants.contains(&mutant));
        let in_search = crate::exhaustive::where_it_shows(mutant).is_some();
        assert!(in_scenario || in_search || core_test(mutant).is_some(), "{mutant:?}");
    }
}

#[test]
fn the_same_seed_gives_the_same_trace_byte_for_byte() {
    for seed in [3, 14, 15] {
        let trace = move |()| run::run(&runner::plan(seed, Daemon::Turnip(None)), true).trace;
        // In a thread that has run nothing else, and in one that has.
        let fresh = std::thread::spawn(move || trace(())).join().unwrap();
        run::run(&Plan::quiet(), false);
        let used = run::run(&runner::plan(seed, Daemon::Turnip(None)), true).trace;
        assert!(!fresh.is_empty());
        assert_eq!(hash(&fresh), hash(&used), "seed {seed}");
        assert_eq!(fresh, used, "seed {seed}");
    }
}

#[test]
fn chance_and_clocks_are_the_same_on_every_machine() {
    let mut rng = crate::rng::Rng::new(42, "golden");
    let drawn: Vec<String> = (0..1000).map(|_| rng.bits().to_string()).collect();
    assert_eq!(hash(&drawn), GOLDEN);
}

#[test]
fn the_original_turnip_is_caught_with_two_hosts_at_once() {
    let naive = crate::bounds::naive(10, 0);
    assert!(naive.runs_with_overlap > 0, "{naive:?}");
}

#[test]
fn every_overlap_keeps_to_its_stated_bound() {
    for bound in crate::bounds::measure(10, 0) {
        assert!(bound.holds, "{bound:?}");
    }
}

#[test]
fn a_failing_plan_shrinks_to_what_is_enough() {
    let daemon = Daemon::Turnip(Some(Mutant::HandOverUncompared));
    let Source::Plan(directed) = &scenario::find("hand-over-of-the-expired").unwrap().source else {
        panic!("a file has no steps to be left out")
    };
    let mut plan = directed.plan_for(daemon);
    plan.fault(1_000, 100, crate::plan::Fault::Compact);
    plan.fault(20_000, 100, crate::plan::Fault::Compact);
    let failures = run::run(&plan, false).failures;
    let kept = crate::shrink::shrink(&plan, &failures[0]);
    assert!(kept.len() < plan.steps.len(), "{kept:?}");
    assert!(!run::run(&plan.with_steps(&kept), false).failures.is_empty());
}

#[test]
fn a_short_swarm_of_seeds_keeps_the_promise() {
    for seed in 0..20 {
        let outcome = run::run(&runner::plan(seed, Daemon::Turnip(None)), false);
        assert_eq!(outcome.failures, Vec::new(), "turnip-sim run --seed {seed} --trace");
    }
}

const GOLDEN: u64 = 11_792_668_893_816_816_138;
