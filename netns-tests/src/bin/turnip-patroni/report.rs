//! The outcomes, as tables in Markdown.

use std::time::Duration;

use turnip_netns_tests::timeline::ms;

use crate::fault::Fault;
use crate::trial::Outcome;

/// The columns.
pub const HEADER: &str = "\
| | new primary after | the client is there after | gap | gap once healed | address not at a primary | two hosts have the address | two hosts answer | two primaries |
|---|---|---|---|---|---|---|---|---|";

/// The row of a fault: minimum, median and maximum of the runs, or both of two.
pub fn row(fault: Fault, outcomes: &[Outcome]) -> String {
    let of = |value: fn(&Outcome) -> Option<Duration>| cell(outcomes.iter().map(value).collect());
    let cells = [
        fault.name().to_owned(),
        of(|outcome| outcome.new_primary),
        of(|outcome| outcome.followed),
        of(|outcome| Some(outcome.gap)),
        of(|outcome| outcome.gap_healed),
        of(|outcome| Some(outcome.beside_primary)),
        of(|outcome| Some(outcome.overlap)),
        of(|outcome| Some(outcome.answers_overlap)),
        of(|outcome| Some(outcome.two_primaries)),
    ];
    format!("| {} |", cells.join(" | "))
}

/// One line for each run, with everything.
pub fn line(outcome: &Outcome) -> String {
    format!("{outcome:?}")
}

fn cell(values: Vec<Option<Duration>>) -> String {
    let count = values.len();
    let mut there: Vec<Duration> = values.into_iter().flatten().collect();
    there.sort_unstable();
    let Some(&worst) = there.last() else { return "-".to_owned() };
    let best = there[0];
    let shown = match &there[..] {
        _ if best == worst => ms(worst),
        [_, _] => [best, worst].map(without_unit).join(" / ") + " ms",
        all => [best, all[all.len() / 2], worst].map(without_unit).join(" / ") + " ms",
    };
    match there.len() == count {
        true => shown,
        false => format!("{shown}; {} of {count} runs", there.len()),
    }
}

fn without_unit(duration: Duration) -> String {
    ms(duration).trim_end_matches(" ms").to_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_cell_has_minimum_median_and_maximum_and_says_how_many_runs_had_it() {
        let some = |ms| Some(Duration::from_millis(ms));
        assert_eq!(cell(vec![some(30), some(10), some(20)]), "10 / 20 / 30 ms");
        assert_eq!(cell(vec![some(30), some(10)]), "10 / 30 ms");
        assert_eq!(cell(vec![some(10), some(10)]), "10 ms");
        assert_eq!(cell(vec![some(0), some(0)]), "0");
        assert_eq!(cell(vec![None, None]), "-");
        assert_eq!(cell(vec![None, some(20)]), "20 ms; 1 of 2 runs");
    }
}
