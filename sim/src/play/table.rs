//! Many runs in one table: how gaps, overlaps and moves are distributed.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::time::Duration;

use serde_json::{Value, json as object};

use crate::script::{Expectation, Measure, Script, human};

use super::{Run, VipRun, judge};

/// Runs of one algorithm, or in one world, that stand in a table beside others.
#[derive(Clone, Copy, Debug)]
pub struct Set<'a> {
    /// Whose runs they are: `turnip`, `the original`, `measured`.
    pub of: &'a str,
    /// The runs.
    pub runs: &'a [Run],
}

/// How values are distributed.
#[derive(Clone, Copy, PartialEq, Eq, Default, Debug)]
pub struct Distribution {
    /// The least.
    pub least: u64,
    /// Half are not above it.
    pub median: u64,
    /// 99 of 100 are not above it.
    pub most_of: u64,
    /// The most.
    pub most: u64,
}

impl Distribution {
    /// That of some values; of none, all is 0.
    pub fn of(values: impl IntoIterator<Item = u64>) -> Self {
        let mut values: Vec<u64> = values.into_iter().collect();
        values.sort_unstable();
        // The smallest value that is not below so many in a hundred.
        let rank = |percent: usize| {
            let rank = (values.len() * percent).div_ceil(100).max(1);
            values.get(rank - 1).copied().unwrap_or_default()
        };
        Distribution {
            least: values.first().copied().unwrap_or_default(),
            median: rank(50),
            most_of: rank(99),
            most: values.last().copied().unwrap_or_default(),
        }
    }
}

/// A line of the table.
struct Row {
    name: &'static str,
    key: &'static str,
    measure: Option<Measure>,
    is_time: bool,
    value: fn(&VipRun) -> u64,
}

fn nanos(time: Duration) -> u64 {
    time.as_nanos() as u64
}

const ROWS: [Row; 4] = [
    Row {
        name: "longest gap",
        key: "gap",
        measure: Some(Measure::Gap),
        is_time: true,
        value: |vip| nanos(vip.gap_max()),
    },
    Row {
        name: "all gaps",
        key: "gaps",
        measure: None,
        is_time: true,
        value: |vip| nanos(vip.gap_sum()),
    },
    Row {
        name: "longest overlap",
        key: "overlap",
        measure: Some(Measure::Overlap),
        is_time: true,
        value: |vip| nanos(vip.overlap_max()),
    },
    Row {
        name: "moves",
        key: "moves",
        measure: Some(Measure::Moves),
        is_time: false,
        value: |vip| vip.moves,
    },
];

/// For each VIP how gap, overlap and moves are distributed, what is expected of them, and who has it at the
/// end. Several sets stand below each other.
pub fn table(script: &Script, sets: &[Set<'_>]) -> String {
    let mut text = String::new();
    let width = sets.iter().map(|set| set.of.len()).max().unwrap_or_default();
    for (number, vip) in script.vips().enumerate() {
        let _ = writeln!(
            text,
            "{:34}{:>11}{:>11}{:>11}{:>11}   expected",
            vip, "least", "median", "99 %", "most"
        );
        for row in &ROWS {
            for (index, set) in sets.iter().enumerate() {
                let Distribution { least, median, most_of, most } = distribution(row, set, number);
                let tell = |value| if row.is_time { short(value) } else { value.to_string() };
                let name = if index == 0 { row.name } else { "" };
                let expected =
                    if index == 0 { expected(script, row, number) } else { String::new() };
                let line = format!(
                    "  {name:16}{of:<16}{:>11}{:>11}{:>11}{:>11}   {expected}",
                    tell(least),
                    tell(median),
                    tell(most_of),
                    tell(most),
                    of = if width == 0 { "" } else { set.of },
                );
                let _ = writeln!(text, "{}", line.trim_end());
            }
        }
        for (index, set) in sets.iter().enumerate() {
            let name = if index == 0 { "at the end on" } else { "" };
            let all = owners(set, number).into_iter().map(|(who, count)| {
                let of_all =
                    if count == set.runs.len() { String::new() } else { format!(" {count} times") };
                format!("{who}{of_all}")
            });
            let all: Vec<String> = all.collect();
            let of = if width == 0 { "" } else { set.of };
            let expected = if index == 0 { owner_expected(script, number) } else { String::new() };
            let line = format!("  {name:16}{of:<16}  {:42}   {expected}", all.join(", "));
            let _ = writeln!(text, "{}", line.trim_end());
        }
    }
    text
}

/// A time in a table: to the ms, and finer below one.
fn short(value: u64) -> String {
    let rounded = match value {
        1_000_000.. => value / 100_000 * 100_000,
        _ => value / 100 * 100,
    };
    let rounded = if value >= 1_000_000_000 { value / 1_000_000 * 1_000_000 } else { rounded };
    human(Duration::from_nanos(rounded))
}

fn distribution(row: &Row, set: &Set<'_>, vip: usize) -> Distribution {
    Distribution::of(set.runs.iter().filter_map(|run| Some((row.value)(run.vips.get(vip)?))))
}

/// Who had it at the end how often, the most frequent first.
fn owners(set: &Set<'_>, vip: usize) -> Vec<(String, usize)> {
    let mut counts: BTreeMap<String, usize> = BTreeMap::new();
    for vip in set.runs.iter().filter_map(|run| run.vips.get(vip)) {
        let who = match vip.owners.as_slice() {
            [] => "nobody".to_owned(),
            all => all.join(" and "),
        };
        *counts.entry(who).or_default() += 1;
    }
    let mut counts: Vec<(String, usize)> = counts.into_iter().collect();
    counts.sort_by_key(|(_, count)| std::cmp::Reverse(*count));
    counts
}

/// The expectation of a row as it is written, without its key.
fn expected(script: &Script, row: &Row, vip: usize) -> String {
    let texts = script.expect.iter().filter_map(|one| match one {
        Expectation::Within { vip: of, measure, text, .. }
            if Some(*measure) == row.measure && of.is_none_or(|of| of == vip) =>
        {
            Some(value_of(text))
        }
        _ => None,
    });
    texts.collect::<Vec<_>>().join(", ")
}

fn owner_expected(script: &Script, vip: usize) -> String {
    let texts = script.expect.iter().filter_map(|one| match one {
        Expectation::Owner { vip: of, text, .. } if of.is_none_or(|of| of == vip) => {
            Some(value_of(text))
        }
        _ => None,
    });
    texts.collect::<Vec<_>>().join(", ")
}

fn value_of(text: &str) -> String {
    let value = text.split_once(" = ").map_or(text, |(_, value)| value);
    value.trim_matches('"').to_owned()
}

/// The same for programs; times in ns. Of each VIP and set, the distributions, and the seed of each run that
/// is not as expected.
pub fn json(script: &Script, sets: &[Set<'_>]) -> Value {
    let vip = |(number, name): (usize, &str)| {
        let sets = sets.iter().map(|set| {
            let rows = ROWS.iter().map(|row| {
                let Distribution { least, median, most_of, most } = distribution(row, set, number);
                let unit = if row.is_time { format!("{}_ns", row.key) } else { row.key.to_owned() };
                let value =
                    object!({ "least": least, "median": median, "p99": most_of, "most": most });
                (unit, value)
            });
            let mut of: serde_json::Map<String, Value> = rows.collect();
            let owners = owners(set, number).into_iter().map(|(who, count)| (who, count.into()));
            of.insert("owners".into(), Value::Object(owners.collect()));
            (set.of.to_owned(), Value::Object(of))
        });
        (name.to_owned(), Value::Object(sets.collect()))
    };
    let vips: serde_json::Map<String, Value> = script.vips().enumerate().map(vip).collect();
    let broken = sets.iter().map(|set| {
        let all = set.runs.iter().flat_map(|run| judge(script, run));
        let all = all.map(|one| object!({ "seed": one.seed, "what": one.to_string() }));
        (set.of.to_owned(), Value::Array(all.collect()))
    });
    let broken: serde_json::Map<String, Value> = broken.collect();
    object!({
        "scenario": script.name,
        "about": script.about,
        "lasts_ns": nanos(script.lasts),
        "runs": sets.first().map_or(0, |set| set.runs.len()),
        "vips": vips,
        "not_as_expected": broken,
    })
}
