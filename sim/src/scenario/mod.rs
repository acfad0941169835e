//! Scenarios: readable plans, for the interleavings that broke an earlier draft, and for many of the
//! bugs that the simulator found.

mod configs;
mod following;
mod found;
mod health;
mod hearing;
mod hooks;
mod interleavings;
mod kernels;
mod reloads;

use turnip_core::Mutant;

use crate::check::Held;
use crate::plan::{Daemon, Plan, config, words};
use crate::run::Outcome;
use crate::time::{S, True};

/// A directed run, and what it shows.
#[derive(Clone)]
pub struct Scenario {
    /// Its name on the command line.
    pub name: &'static str,
    /// What happens in it.
    pub story: &'static str,
    /// How it goes.
    pub plan: fn() -> Plan,
    /// The rules that it is about: with each of them broken it goes wrong.
    pub mutants: &'static [Mutant],
    /// The longest time that an address may go unanswered from 5 s on, in ns.
    pub gap_max: u64,
    /// When, in ns, which host must have the first VIP.
    pub holder_at: Option<(True, usize)>,
}

impl Scenario {
    /// The run, with turnip's algorithm or with the mutant's.
    pub fn plan_for(&self, daemon: Daemon) -> Plan {
        let mut plan = (self.plan)();
        plan.params.daemon = daemon;
        plan
    }

    /// What is wrong with a run of it.
    pub fn complaints(&self, outcome: &Outcome) -> Vec<String> {
        let mut complaints: Vec<String> =
            outcome.failures.iter().map(ToString::to_string).collect();
        let gaps = outcome.gaps.iter().filter(|gap| gap.from >= 5 * S);
        if let Some(gap) = gaps.max_by_key(|gap| gap.length())
            && gap.length() > self.gap_max
        {
            complaints.push(format!(
                "{} was answered by nobody for {:.3} s from {:.3} s; at most {:.3} s are fine",
                config::net(gap.address).addr(),
                gap.length() as f64 / S as f64,
                gap.from as f64 / S as f64,
                self.gap_max as f64 / S as f64,
            ));
        }
        complaints.extend(self.holder_at.and_then(|(at, host)| {
            let there = |held: &&Held| held.address == 0 && held.from <= at && at < held.to;
            let hosts: Vec<usize> = outcome.held.iter().filter(there).map(|one| one.host).collect();
            let secs = at as f64 / S as f64;
            (hosts != [host]).then(|| {
                format!(
                    "at {secs:.3} s v1 was on {}; it belongs on {}",
                    words::hosts(&hosts),
                    words::host(host)
                )
            })
        }));
        complaints
    }
}

/// All scenarios.
pub fn all() -> Vec<Scenario> {
    let mut all = interleavings::all();
    all.extend(found::all());
    all.extend(configs::all());
    all.extend(kernels::all());
    all.extend(hearing::all());
    all.extend(reloads::all());
    all.extend(health::all());
    all.extend(hooks::all());
    all.extend(following::all());
    all
}

/// The scenario of a name.
pub fn find(name: &str) -> Option<Scenario> {
    all().into_iter().find(|scenario| scenario.name == name)
}
