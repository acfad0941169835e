//! Directed scenarios: runs that go wrong when a rule is broken that they are about. Those that the language of
//! scenario files can tell are files; the others, for the interleavings that broke an earlier draft and for many of
//! the bugs that the simulator found, are plans.

mod configs;
mod files;
mod following;
mod found;
mod health;
mod hearing;
mod hooks;
mod interleavings;
mod kernels;
mod reloads;

use std::sync::LazyLock;

use turnip_core::Mutant;

use crate::check::Held;
use crate::plan::{Daemon, Plan, config, words};
use crate::play::{self, Run};
use crate::run::{self, Outcome};
use crate::script::Script;
use crate::time::{S, True};
use crate::timeline;

/// A directed run, and what it shows.
pub struct Scenario {
    /// Its name on the command line.
    pub name: &'static str,
    /// What happens in it.
    pub story: String,
    /// How it goes.
    pub source: Source,
    /// The rules that it is about: with each of them broken it goes wrong.
    pub mutants: &'static [Mutant],
}

/// Where a scenario comes from.
pub enum Source {
    /// Written by hand.
    Plan(Directed),
    /// A scenario file.
    File {
        /// Where it is, from the repository's root on.
        path: String,
        /// What it says.
        script: Box<Script>,
        /// The seeds with which it is played: with each it goes well, and a broken rule shows with one of them.
        seeds: &'static [u64],
    },
}

/// A plan, and what must come of it.
pub struct Directed {
    /// The plan.
    plan: fn() -> Plan,
    /// The longest time that an address may go unanswered from 5 s on, in ns.
    gap_max: u64,
    /// When, in ns, which host must have the first VIP.
    holder_at: Option<(True, usize)>,
}

/// What came of a scenario.
pub struct Shown {
    /// What is wrong with it.
    pub complaints: Vec<String>,
    /// The longest overlap, in ns.
    pub overlap_max: u64,
    /// Every event, where that was wanted.
    pub trace: Vec<String>,
    /// What is drawn of it.
    drawn: Drawn,
}

enum Drawn {
    Plan(Box<(Plan, Outcome)>),
    File(Box<Run>),
}

impl Scenario {
    fn plan(
        name: &'static str,
        story: &'static str,
        mutants: &'static [Mutant],
        gap_max: u64,
        plan: fn() -> Plan,
    ) -> Self {
        let source = Source::Plan(Directed { plan, gap_max, holder_at: None });
        Scenario { name, story: story.to_owned(), source, mutants }
    }

    /// The same, and at that time a host has the first VIP.
    fn with_holder(mut self, at: True, host: usize) -> Self {
        if let Source::Plan(directed) = &mut self.source {
            directed.holder_at = Some((at, host));
        }
        self
    }

    /// Runs it, with turnip's algorithm or with a mutant's. Of a file's seeds it shows the first that goes wrong.
    pub fn play(&self, daemon: Daemon, tracing: bool) -> Shown {
        match &self.source {
            Source::Plan(directed) => directed.play(daemon, tracing),
            Source::File { script, seeds, .. } => {
                let mut all = seeds.iter().map(|&seed| play_file(script, seed, daemon, tracing));
                let first = all.next().expect("a file is played with a seed at least");
                match first.complaints.is_empty() {
                    true => all.find(|shown| !shown.complaints.is_empty()).unwrap_or(first),
                    false => first,
                }
            }
        }
    }

    /// The run as a picture, or as a page with one.
    pub fn draw(&self, shown: &Shown, title: &str, is_page: bool) -> String {
        match (&self.source, &shown.drawn) {
            (Source::File { script, .. }, Drawn::File(run)) if is_page => {
                play::html(script, &[(title.to_owned(), run)])
            }
            (Source::File { script, .. }, Drawn::File(run)) => play::svg(script, run),
            (_, Drawn::Plan(drawn)) if is_page => timeline::html(&drawn.0, &drawn.1, title),
            (_, Drawn::Plan(drawn)) => timeline::svg(&drawn.0, &drawn.1, title),
            (Source::Plan(_), Drawn::File(_)) => unreachable!("a plan is run as one"),
        }
    }
}

fn play_file(script: &Script, seed: u64, daemon: Daemon, tracing: bool) -> Shown {
    let (run, trace) = play::simulate_with(script, seed, daemon, tracing);
    let overlap = run.vips.iter().map(|vip| vip.overlap_max().as_nanos() as u64);
    Shown {
        complaints: play::judge(script, &run).iter().map(ToString::to_string).collect(),
        overlap_max: overlap.max().unwrap_or_default(),
        trace,
        drawn: Drawn::File(Box::new(run)),
    }
}

impl Directed {
    /// The run, with turnip's algorithm or with the mutant's.
    pub fn plan_for(&self, daemon: Daemon) -> Plan {
        let mut plan = (self.plan)();
        plan.params.daemon = daemon;
        plan
    }

    fn play(&self, daemon: Daemon, tracing: bool) -> Shown {
        let plan = self.plan_for(daemon);
        let mut outcome = run::run(&plan, tracing);
        Shown {
            complaints: self.complaints(&outcome),
            overlap_max: outcome.overlap_max,
            trace: std::mem::take(&mut outcome.trace),
            drawn: Drawn::Plan(Box::new((plan, outcome))),
        }
    }

    /// What is wrong with a run of it.
    fn complaints(&self, outcome: &Outcome) -> Vec<String> {
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
pub fn all() -> &'static [Scenario] {
    static ALL: LazyLock<Vec<Scenario>> = LazyLock::new(|| {
        let mut all = interleavings::all();
        all.extend(found::all());
        all.extend(configs::all());
        all.extend(kernels::all());
        all.extend(hearing::all());
        all.extend(reloads::all());
        all.extend(health::all());
        all.extend(hooks::all());
        all.extend(following::all());
        all.extend(files::all());
        all
    });
    &ALL
}

/// The scenario of a name.
pub fn find(name: &str) -> Option<&'static Scenario> {
    all().iter().find(|scenario| scenario.name == name)
}
