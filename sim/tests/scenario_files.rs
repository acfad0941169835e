//! The scenarios that are shipped: each comes out as its file expects, whatever a seed chooses.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};

use turnip_sim::play::{self, Algorithm, Run};
use turnip_sim::script::{Expectation, Measure, Script, World};

/// So many seeds of each.
const SEEDS: u64 = 20;

fn folder() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("scenarios")
}

/// Those of the folder, and of the folders in it.
fn files() -> Vec<PathBuf> {
    let mut files = below(&folder());
    files.sort();
    files
}

/// The files in a folder and in the folders in it.
fn below(folder: &Path) -> Vec<PathBuf> {
    let entries = std::fs::read_dir(folder).expect("a folder of scenarios");
    let paths = entries.map(|entry| entry.unwrap().path());
    paths.flat_map(|path| if path.is_dir() { below(&path) } else { vec![path] }).collect()
}

fn load(path: &Path) -> Script {
    Script::load(path).unwrap_or_else(|problems| panic!("{problems}"))
}

fn runs(script: &Script, seeds: u64) -> Vec<Run> {
    (0..seeds).map(|seed| play::simulate(script, seed, Algorithm::Turnip)).collect()
}

#[test]
fn every_shipped_scenario_comes_out_as_it_expects() {
    let files = files();
    assert!(files.len() >= 80, "only {} scenarios", files.len());
    let mut wrong = Vec::new();
    for path in &files {
        let script = load(path);
        script.check_world(World::Simulator).unwrap();
        assert!(script.about.is_some(), "{}: about: what happens in it?", path.display());
        for run in runs(&script, SEEDS) {
            assert!(!run.happened.is_empty(), "{}: nothing happened", script.name);
            wrong.extend(play::judge(&script, &run).iter().map(ToString::to_string));
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

/// Tables name them without their folders.
#[test]
fn every_scenario_has_a_name_of_its_own() {
    let mut names = BTreeSet::new();
    for path in files() {
        assert!(names.insert(load(&path).name), "{}: another has its name", path.display());
    }
}

#[test]
fn an_expectation_that_is_bent_is_not_met() {
    let path = folder().join("isolate-holder.toml");
    let text = std::fs::read_to_string(&path).unwrap();
    let bent = text.replace("gap = \"<= 5s\"", "gap = \"<= 2s\"");
    assert_ne!(text, bent);
    let script = Script::parse(&path, &bent).unwrap();
    let broken = play::judge(&script, &runs(&script, 1)[0]);
    let told: Vec<String> = broken.iter().map(ToString::to_string).collect();
    assert!(
        told.len() == 1 && told[0].contains("gap = \"<= 2s\": nobody answered for v1"),
        "{told:?}"
    );
}

#[test]
fn the_original_overlaps_where_turnip_does_not() {
    let script = load(&folder().join("api-server.toml"));
    let overlap = |algorithm| {
        let runs = (0..SEEDS).map(|seed| play::simulate(&script, seed, algorithm));
        runs.map(|run| run.vips[0].overlap_max()).max().unwrap_or_default()
    };
    assert!(overlap(Algorithm::Turnip).is_zero());
    assert!(overlap(Algorithm::Original).as_secs() >= 2);
}

#[test]
fn a_run_is_the_same_each_time_and_another_seed_is_another_run() {
    let script = load(&folder().join("isolate-holder.toml"));
    let once = play::simulate(&script, 7, Algorithm::Turnip);
    assert_eq!(once, play::simulate(&script, 7, Algorithm::Turnip));
    assert_eq!(
        play::svg(&script, &once),
        play::svg(&script, &play::simulate(&script, 7, Algorithm::Turnip))
    );
    assert_ne!(once.vips, play::simulate(&script, 8, Algorithm::Turnip).vips);
}

#[test]
fn every_scenario_says_how_long_an_address_may_go_unanswered_or_why_it_does_not() {
    // What each host may do to each other in any order has no bound that is worth saying.
    let without = ["anything", "restored-backup"];
    for path in files() {
        let script = load(&path);
        let of_gaps =
            |one: &Expectation| matches!(one, Expectation::Within { measure: Measure::Gap, .. });
        let says = script.expect.iter().any(of_gaps);
        assert_ne!(says, without.contains(&script.name.as_str()), "{}", script.name);
    }
}
