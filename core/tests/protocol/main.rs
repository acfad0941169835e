//! Holds `core/PROTOCOL.md` and the sources together: whatever is cited exists, and whatever is
//! promised there is tested, and broken on purpose.

mod citation;
mod page;
mod sources;

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use citation::{Citation, cited};
use page::Page;
use sources::{Source, workspace};
use turnip_core::{Lease, Mutant, lease, transitions_in_markdown};

/// Fails with all complaints at once: whoever renumbers a clause wants to see every place.
fn none(complaints: Vec<String>, what: &str) {
    assert!(complaints.is_empty(), "{what}:\n  {}", complaints.join("\n  "));
}

#[test]
fn every_citation_is_of_something_that_stands_on_the_page() {
    let page = Page::read();
    let sources = workspace();
    let complaints = sources.iter().flat_map(|source| {
        let unknown = |(citation, line): (Citation, usize)| {
            let known = page.has(citation);
            (!known).then(|| format!("{}:{line} cites {citation}", source.path))
        };
        source.citations().into_iter().filter_map(unknown).collect::<Vec<_>>()
    });
    none(complaints.collect(), "not in core/PROTOCOL.md");
}

#[test]
fn nothing_cites_what_is_not_in_the_repository() {
    let sources = workspace();
    let complaints = sources.iter().flat_map(Source::old_citations).collect();
    none(complaints, "cite core/PROTOCOL.md: `rule 5`, `rule 5.2`, `interleaving 6`, `A1`");
}

#[test]
fn every_rule_and_interleaving_is_cited_by_a_test() {
    let page = Page::read();
    let by_tests: BTreeSet<Citation> = workspace()
        .iter()
        .filter(|source| !source.is_scenario())
        .flat_map(Source::citations_by_tests)
        .map(Citation::whole)
        .collect();
    let uncited = page.rules_and_interleavings().filter(|one| !by_tests.contains(one));
    none(uncited.map(|one| one.to_string()).collect(), "no test says that it is about");
}

#[test]
fn every_interleaving_is_cited_by_a_scenario_of_the_simulator() {
    let page = Page::read();
    let scenarios: BTreeSet<Citation> = workspace()
        .iter()
        .filter(|source| source.is_scenario())
        .flat_map(Source::citations_by_stories)
        .collect();
    let missing = page.interleavings.keys().map(|number| Citation::Interleaving(*number));
    let missing = missing.filter(|one| !scenarios.contains(one)).map(|one| one.to_string());
    none(missing.collect(), "no scenario is about");
}

/// What each mutant says that it breaks.
fn mutants() -> BTreeMap<String, Vec<Citation>> {
    let breaks = |mutant: &Mutant| {
        let broken = cited(mutant.breaks()).into_iter().map(|(citation, _)| citation);
        (format!("{mutant:?}"), broken.collect())
    };
    Mutant::ALL.iter().map(breaks).collect()
}

#[test]
fn every_mutant_breaks_something_that_stands_on_the_page() {
    let page = Page::read();
    let mutants = mutants();
    let on_page = |broken: &[Citation]| broken.iter().all(|one| page.has(*one));
    let stray = mutants.iter().filter(|(_, broken)| broken.is_empty() || !on_page(broken));
    let complaints = stray.map(|(mutant, broken)| format!("{mutant} breaks {broken:?}"));
    none(complaints.collect(), "not in core/PROTOCOL.md");
}

#[test]
fn every_rule_is_broken_by_a_mutant() {
    let page = Page::read();
    let mut broken: BTreeSet<Citation> = BTreeSet::new();
    for citation in mutants().into_values().flatten() {
        broken.insert(citation.whole());
        if let Citation::Interleaving(number) = citation
            && let Some(interleaving) = page.interleavings.get(&number)
        {
            broken.extend(interleaving.prevented_by.iter().map(|rule| rule.whole()));
        }
    }
    let whole = page.rules().filter(|rule| !broken.contains(rule)).map(|rule| rule.to_string());
    none(whole.collect(), "no mutant breaks");
}

#[test]
fn every_interleaving_names_the_rules_that_prevent_it_and_the_mutants_that_break_them() {
    let page = Page::read();
    let mutants = mutants();
    let mut complaints = Vec::new();
    for (number, interleaving) in &page.interleavings {
        let own = Citation::Interleaving(*number);
        if interleaving.prevented_by.is_empty() || interleaving.broken_by.is_empty() {
            complaints.push(format!("{own} names no rule, or no mutant"));
        }
        let unknown = interleaving.prevented_by.iter().filter(|rule| !page.has(**rule));
        complaints.extend(unknown.map(|rule| format!("{own} names {rule}")));
        let prevents = |rule: &Citation| {
            interleaving.prevented_by.iter().any(|one| one.whole() == rule.whole())
        };
        for mutant in &interleaving.broken_by {
            let fits =
                |broken: &Vec<Citation>| broken.iter().any(|one| *one == own || prevents(one));
            if !mutants.get(mutant).is_some_and(fits) {
                complaints.push(format!("{own} is not broken by `{mutant}`"));
            }
        }
        let unnamed = mutants.iter().filter(|(mutant, broken)| {
            broken.contains(&own) && !interleaving.broken_by.contains(*mutant)
        });
        complaints.extend(unnamed.map(|(mutant, _)| format!("{own} does not name `{mutant}`")));
    }
    none(complaints, "interleavings of core/PROTOCOL.md");
}

#[test]
fn clauses_are_numbered_without_a_gap() {
    let page = Page::read();
    let mut complaints = Vec::new();
    for (rule, clauses) in &page.clauses {
        let expected: Vec<u32> = (1..=clauses.len() as u32).collect();
        if *clauses != expected || clauses.is_empty() {
            complaints.push(format!("rule {rule} has the clauses {clauses:?}"));
        }
    }
    let numbers: Vec<u32> = page.interleavings.keys().copied().collect();
    if numbers != (1..=numbers.len() as u32).collect::<Vec<_>>() {
        complaints.push(format!("interleavings {numbers:?}"));
    }
    none(complaints, "numbers of core/PROTOCOL.md");
}

#[test]
fn the_table_of_a_vips_states_is_that_of_the_code() {
    let page = Page::read();
    let shown = page.between("states of a VIP");
    let expected = transitions_in_markdown();
    assert_eq!(shown.trim(), expected.trim(), "put this into core/PROTOCOL.md:\n{expected}");
}

#[test]
fn the_picture_of_a_vips_states_is_that_of_the_code() {
    let page = Page::read();
    let drawn: BTreeSet<String> = page
        .between("picture of a VIP's states")
        .lines()
        .filter_map(|line| {
            let (from, rest) = line.trim().split_once(" --> ")?;
            let (to, event) = rest.split_once(": ")?;
            Some(format!("| {from} | {event} | {to} |"))
        })
        .collect();
    let table = transitions_in_markdown();
    let rows: BTreeSet<String> = table.lines().skip(2).map(str::to_owned).collect();
    assert_eq!(drawn, rows);
}

#[test]
fn the_table_of_durations_is_that_of_the_code() {
    let page = Page::read();
    let lease = Lease::new(Duration::from_secs(3)).expect("the default lease");
    let mut complaints = Vec::new();
    for (name, durations) in lease::by_name(&lease) {
        let expected: Vec<String> = durations.into_iter().map(in_words).collect();
        let (expected, shown) = (expected.join(", "), page.duration(name));
        if shown != Some(expected.as_str()) {
            complaints.push(format!("{name} is {expected}, and the page says {shown:?}"));
        }
    }
    none(complaints, "durations in core/PROTOCOL.md");
}

/// As the page writes it, to the nearest millisecond: "3 s", "2970 ms".
fn in_words(duration: Duration) -> String {
    let millis = (duration.as_micros() + 500) / 1000;
    if millis.is_multiple_of(1000) {
        format!("{} s", millis / 1000)
    } else {
        format!("{millis} ms")
    }
}

#[test]
fn what_the_pages_point_to_is_there() {
    let sources = workspace();
    let pages = sources.iter().filter(|source| source.path.ends_with(".md"));
    none(pages.flat_map(|page| page.dead_pointers(&sources)).collect(), "points to nothing");
}
