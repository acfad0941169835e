//! What came of a scenario: who answered when, what of that was expected, and how it is shown. The simulator
//! and the lab both fill in a [`Run`] and have the rest done here, so that a gap is the same thing in both.

mod judge;
mod measure;
mod picture;
mod reach;
mod simulate;
mod table;
#[cfg(test)]
mod tests;

use std::time::Duration;

use crate::script::{Deed, Happening, Script, Target, human};

pub use judge::{Broken, judge};
pub use measure::{Interval, Observed};
pub use picture::{html, svg};
#[cfg(test)]
pub(crate) use simulate::plan;
pub(crate) use simulate::simulate_with;
pub use simulate::{Algorithm, left_aside, simulate, trace};
pub use table::{Distribution, Set, json, table};

/// One run of a scenario. All times count from the moment at which every VIP was held, and had stayed where it
/// was for two leases: what daemons do among themselves when they are started is not about the scenario.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Run {
    /// Of which seed.
    pub seed: u64,
    /// How long it lasted.
    pub lasts: Duration,
    /// The VIPs, in the order of the configuration.
    pub vips: Vec<VipRun>,
    /// What befell it, in the order in which it began.
    pub happened: Vec<Happened>,
    /// What went wrong that no expectation is about: a daemon that panicked, for example.
    pub wrong: Vec<String>,
}

/// What came of a VIP.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct VipRun {
    /// Its name.
    pub vip: String,
    /// Who answered when, of its first address; for whoever was near enough to ask.
    pub spans: Vec<Held>,
    /// When the client got no answer.
    pub gaps: Vec<Interval>,
    /// When two hosts or more answered.
    pub overlaps: Vec<Interval>,
    /// How often it came to another host.
    pub moves: u64,
    /// Who answered at the end: nobody, one, or several.
    pub owners: Vec<String>,
}

/// A host answered.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub struct Held {
    /// The host.
    pub host: String,
    /// From.
    pub from: Duration,
    /// To; where it still answers, to the end of the run.
    pub to: Duration,
}

/// Something that befell the cluster.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Happened {
    /// When it began.
    pub at: Duration,
    /// How long it lasted; to the end when absent.
    pub lasts: Option<Duration>,
    /// The machines that it befell; all where it befell nobody in particular.
    pub machines: Vec<String>,
    /// What, in a few words: `isolate h1`.
    pub text: String,
}

impl Run {
    /// The VIP of a name.
    pub fn vip(&self, name: &str) -> Option<&VipRun> {
        self.vips.iter().find(|vip| vip.vip == name)
    }
}

impl VipRun {
    /// The longest gap.
    pub fn gap_max(&self) -> Duration {
        longest(&self.gaps)
    }

    /// All gaps together.
    pub fn gap_sum(&self) -> Duration {
        self.gaps.iter().map(Interval::length).sum()
    }

    /// The longest overlap.
    pub fn overlap_max(&self) -> Duration {
        longest(&self.overlaps)
    }
}

fn longest(intervals: &[Interval]) -> Duration {
    intervals.iter().map(Interval::length).max().unwrap_or_default()
}

impl Happened {
    /// A happening with its targets known.
    pub fn new(script: &Script, happening: &Happening) -> Self {
        let Happening { at, lasts, deed } = happening;
        let mut machines: Vec<usize> = deed.machines();
        if machines.is_empty() {
            machines = (0..script.hosts.len()).collect();
        }
        Happened {
            at: *at,
            lasts: *lasts,
            machines: machines.iter().map(|&one| script.machine(one).to_owned()).collect(),
            text: script.tell_deed(deed),
        }
    }

    /// When, for how long, and what.
    pub fn said(&self) -> String {
        let lasts = match self.lasts {
            Some(Duration::ZERO) => String::new(),
            Some(lasts) => format!(" for {}", human(lasts)),
            None => " to the end".into(),
        };
        format!("at {}{lasts}: {}", human(self.at), self.text)
    }
}

impl Happening {
    /// Whether somebody has to be asked who leads etcd.
    pub fn names_leader(&self) -> bool {
        self.deed.whom == Target::Leader || self.deed.other == Some(Target::Leader)
    }

    /// The same with `leader` and `holder of v1` replaced by who that is now; nothing where that is nobody.
    /// `leader` is the machine whose member leads, `holder` tells the host that holds a VIP.
    pub fn resolved(
        &self,
        leader: Option<usize>,
        holder: impl Fn(usize) -> Option<usize>,
    ) -> Option<Happening> {
        let resolve = |target: &Target| {
            Some(match target {
                Target::These(all) => Target::These(all.clone()),
                Target::Leader => Target::These(vec![leader?]),
                Target::Holder(vip) => Target::These(vec![holder(*vip)?]),
            })
        };
        let whom = resolve(&self.deed.whom)?;
        let other = match &self.deed.other {
            Some(other) => Some(resolve(other)?),
            None => None,
        };
        let deed = Deed { whom, other, ..self.deed.clone() };
        Some(Happening { deed, ..self.clone() })
    }
}
