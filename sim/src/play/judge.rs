//! Whether a run is as expected.

use std::fmt;
use std::time::Duration;

use turnip::config::Place;

use crate::script::{Expectation, Measure, Script, human};

use super::measure::Interval;
use super::{Run, VipRun};

/// An expectation that a run does not meet.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Broken {
    /// The run's seed.
    pub seed: u64,
    /// Where the expectation is written; nowhere for what is always expected.
    pub place: Place,
    /// As it was written.
    pub text: String,
    /// What was instead.
    pub was: String,
}

impl fmt::Display for Broken {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Broken { seed, place, text, was } = self;
        match place {
            Place::File { path, line, column } => {
                write!(f, "{}:{line}:{column}: ", path.display())?;
            }
            Place::Flag(flag) => write!(f, "{flag} ")?,
            Place::Variable(_) | Place::Default => {}
        }
        write!(f, "{text}: {was}; seed {seed}")
    }
}

/// What of the expectations a run does not meet, and what else was wrong with it.
pub fn judge(script: &Script, run: &Run) -> Vec<Broken> {
    let mut all = Vec::new();
    for expectation in &script.expect {
        let (vip, text, place) = match expectation {
            Expectation::Within { vip, text, place, .. } => (vip, text, place),
            Expectation::Owner { vip, text, place, .. } => (vip, text, place),
        };
        let these =
            run.vips.iter().enumerate().filter(|(number, _)| vip.is_none_or(|it| it == *number));
        let was = these.filter_map(|(_, vip)| breaks(script, expectation, vip));
        let broken = |was| Broken { seed: run.seed, place: place.clone(), text: text.clone(), was };
        all.extend(was.map(broken));
    }
    let wrong = run.wrong.iter().map(|was| Broken {
        seed: run.seed,
        place: Place::Default,
        text: "nothing else goes wrong".into(),
        was: was.clone(),
    });
    all.extend(wrong);
    all
}

/// What was instead of what is expected.
fn breaks(script: &Script, expectation: &Expectation, vip: &VipRun) -> Option<String> {
    let name = &vip.vip;
    match expectation {
        Expectation::Within { measure, bounds, .. } => {
            let value = measured(*measure, vip);
            if bounds.holds(value) {
                return None;
            }
            let told = measure.tell(value);
            Some(match measure {
                Measure::Moves => format!("{name} came to another host {told} times"),
                Measure::Gap => {
                    format!("nobody answered for {name} for {told}{}", since(&vip.gaps))
                }
                Measure::Overlap => {
                    format!("two hosts answered for {name} for {told}{}", since(&vip.overlaps))
                }
            })
        }
        Expectation::Owner { hosts, .. } => {
            let [owner] = vip.owners.as_slice() else {
                return Some(match vip.owners.as_slice() {
                    [] => format!("at the end nobody has {name}"),
                    all => format!("at the end {} have {name}", all.join(" and ")),
                });
            };
            let expected = hosts.iter().any(|&host| script.machine(host) == owner);
            (!expected).then(|| format!("at the end {owner} has {name}"))
        }
    }
}

/// A measured value: in ns, or a count.
pub(super) fn measured(measure: Measure, vip: &VipRun) -> u64 {
    match measure {
        Measure::Overlap => vip.overlap_max().as_nanos() as u64,
        Measure::Gap => vip.gap_max().as_nanos() as u64,
        Measure::Moves => vip.moves,
    }
}

/// Since when the longest lasts.
fn since(intervals: &[Interval]) -> String {
    let longest = intervals.iter().max_by_key(|one| one.length());
    let from = longest.map_or(Duration::ZERO, |one| one.from);
    format!(" from {}", human(Duration::from_millis(from.as_millis() as u64)))
}
