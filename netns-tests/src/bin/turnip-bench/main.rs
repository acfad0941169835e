//! The benchmark: turnip and keepalived in the same lab, with the same probes and the same faults, in
//! turns. Prints tables for docs/src/measured.md; writes JSON and a picture beside it.

mod chart;
mod environment;
mod hosts;
mod report;
mod rest;
mod scale;
mod statistics;
mod targets;
mod trial;
mod use_case;

use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Display;
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use anyhow::{Context, Result, bail};
use clap::{Parser, ValueEnum};
use serde::{Deserialize, Serialize};

use crate::environment::Environment;
use crate::hosts::{Hearing, ManyHosts};
use crate::rest::Rest;
use crate::scale::Scale;
use crate::trial::{Fault, Subject, Trial};
use crate::use_case::{UseCase, UseCaseTrial};

/// Measures turnip and keepalived side by side. Needs root.
#[derive(Parser, Debug)]
struct Arguments {
    /// Runs of each fault with each subject, of each number of VIPs, and of each use-case.
    #[arg(long, default_value_t = 10)]
    runs: usize,
    /// Only these subjects.
    #[arg(long = "subject", value_enum)]
    subjects: Vec<Subject>,
    /// Only these faults.
    #[arg(long = "fault", value_enum)]
    faults: Vec<Fault>,
    /// Numbers of VIPs, at rest and to move from a host that loses its power.
    #[arg(long, value_delimiter = ',', default_values_t = [1, 100, 1_000, 10_000])]
    vips: Vec<usize>,
    /// Numbers of hosts that share 90 VIPs.
    #[arg(long, value_delimiter = ',', default_values_t = [3, 30, 90])]
    hosts: Vec<usize>,
    /// Only hosts that do, or do not, hear each other.
    #[arg(long = "hearing", value_enum)]
    hearing: Vec<Hearing>,
    /// Only these parts.
    #[arg(long = "only", value_enum)]
    parts: Vec<Part>,
    /// Goes on with the benchmark whose figures are there already, be they of another commit.
    #[arg(long)]
    resume: bool,
    /// Where to write the figures as JSON, Markdown and SVG: `bench.json`, `bench.md`, `bench.svg`.
    #[arg(long, default_value = "target/bench")]
    output: PathBuf,
}

/// What a benchmark consists of.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, ValueEnum, Serialize, Deserialize, Debug)]
#[serde(rename_all = "kebab-case")]
enum Part {
    /// Gap and overlap of every fault.
    Faults,
    /// Many VIPs of a host that loses its power.
    Vips,
    /// Memory, processor and write rate at rest.
    Rest,
    /// Processor, write rate and datagrams of many hosts, at rest and while etcd is away.
    Hosts,
    /// Both use-cases.
    UseCases,
}

/// All figures of one benchmark.
#[derive(Serialize, Deserialize, Debug)]
struct Figures {
    setting: Environment,
    /// turnip's commits when each part was measured.
    commits: BTreeMap<Part, BTreeSet<String>>,
    trials: Vec<Trial>,
    scale: Vec<Scale>,
    rest: Vec<Rest>,
    #[serde(default)]
    hosts: Vec<ManyHosts>,
    use_cases: Vec<UseCaseTrial>,
}

fn main() -> ExitCode {
    match measure(&Arguments::parse()) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("the benchmark failed: {error:#}");
            ExitCode::FAILURE
        }
    }
}

fn measure(arguments: &Arguments) -> Result<()> {
    let setting = Environment::here(arguments.runs)?;
    let mut figures = if arguments.resume {
        Figures::read(&arguments.output, &setting)?
    } else {
        Figures::of(setting)
    };
    let all = [Part::Faults, Part::Vips, Part::Rest, Part::Hosts, Part::UseCases];
    for part in chosen(&arguments.parts, &all) {
        let mut measuring = Measuring { arguments, part, figures: &mut figures };
        match part {
            Part::Faults => measuring.faults()?,
            Part::Vips => measuring.vips()?,
            Part::Rest => measuring.at_rest()?,
            Part::Hosts => measuring.many_hosts()?,
            Part::UseCases => measuring.use_cases()?,
        }
    }
    write(arguments, &figures)?;
    println!("{}", report::markdown(&figures));
    Ok(())
}

impl Figures {
    fn of(setting: Environment) -> Self {
        let (commits, trials, scale, rest, hosts, use_cases) = Default::default();
        Figures { setting, commits, trials, scale, rest, hosts, use_cases }
    }

    /// Those of an earlier benchmark, which must have measured the same.
    fn read(directory: &Path, setting: &Environment) -> Result<Self> {
        let file = directory.join("bench.json");
        let text = std::fs::read(&file).with_context(|| format!("reading {}", file.display()))?;
        let figures: Self = serde_json::from_slice(&text).context(file.display().to_string())?;
        if figures.setting != *setting {
            let (was, is) = (&figures.setting, setting);
            bail!("{} is of something else: {was}; and here it would be: {is}", file.display());
        }
        Ok(figures)
    }
}

/// So many disturbed attempts in a row are no accident.
const DISTURBED_MAX: usize = 20;

/// One part of a benchmark under way.
struct Measuring<'a> {
    arguments: &'a Arguments,
    part: Part,
    figures: &'a mut Figures,
}

impl Measuring<'_> {
    /// Makes attempts until there is a figure that `counts`, which may be there already. All are kept,
    /// and written at once: a benchmark that is interrupted has not been for nothing.
    fn until<T: Display>(
        &mut self,
        kind: fn(&mut Figures) -> &mut Vec<T>,
        counts: impl Fn(&T) -> bool,
        attempt: impl Fn() -> Result<T>,
    ) -> Result<()> {
        for _ in 0..=DISTURBED_MAX {
            if kind(self.figures).iter().any(&counts) {
                return Ok(());
            }
            let figure = attempt()?;
            eprintln!("{figure}");
            kind(self.figures).push(figure);
            self.figures.commits.entry(self.part).or_default().insert(environment::commit());
            write(self.arguments, self.figures)?;
        }
        bail!("the probes stalled {DISTURBED_MAX} times: this machine is too busy to measure on")
    }

    // In turns, so that whatever else the machine does falls on all of them.

    fn faults(&mut self) -> Result<()> {
        let runs = self.arguments.runs;
        let subjects = chosen(&self.arguments.subjects, &Subject::ALL);
        // Some are measured more often than others.
        for run in 0..2 * runs {
            for fault in chosen(&self.arguments.faults, &Fault::ALL) {
                for &subject in subjects.iter().filter(|subject| fault.concerns(**subject)) {
                    let runs = fault.runs(subject, runs);
                    if run >= runs {
                        continue;
                    }
                    let counts = |t: &Trial| {
                        (t.subject, t.fault, t.run) == (subject, fault, run) && !t.is_disturbed()
                    };
                    let attempt = || trial::run(subject, fault, run, runs);
                    self.until(|figures| &mut figures.trials, counts, attempt)
                        .with_context(|| format!("{subject}, {fault}, run {run}"))?;
                }
            }
        }
        Ok(())
    }

    fn vips(&mut self) -> Result<()> {
        let runs = self.arguments.runs;
        for run in 0..runs {
            for (subject, vips) in self.with_many() {
                let counts = |s: &Scale| (s.subject, s.vips, s.run) == (subject, vips, run);
                let attempt = || scale::run(subject, vips, run, runs);
                self.until(|figures| &mut figures.scale, counts, attempt)
                    .with_context(|| format!("{subject}, {vips} VIPs, run {run}"))?;
            }
        }
        Ok(())
    }

    fn at_rest(&mut self) -> Result<()> {
        for (subject, vips) in self.with_many() {
            let counts = |rest: &Rest| (rest.subject, rest.vips) == (subject, vips);
            self.until(|figures| &mut figures.rest, counts, || rest::run(subject, vips))
                .with_context(|| format!("{subject}, {vips} VIPs, at rest"))?;
        }
        Ok(())
    }

    fn many_hosts(&mut self) -> Result<()> {
        for &hosts in &self.arguments.hosts {
            for hearing in chosen(&self.arguments.hearing, &Hearing::ALL) {
                let counts = |m: &ManyHosts| (m.hosts, m.hearing) == (hosts, hearing);
                self.until(|figures| &mut figures.hosts, counts, || hosts::run(hosts, hearing))
                    .with_context(|| format!("{hosts} hosts, {hearing}"))?;
            }
        }
        Ok(())
    }

    fn use_cases(&mut self) -> Result<()> {
        let runs = self.arguments.runs;
        for run in 0..runs {
            for case in UseCase::ALL {
                let counts = |t: &UseCaseTrial| (t.case, t.run) == (case, run) && !t.is_disturbed();
                let attempt = || use_case::run(case, run, runs);
                self.until(|figures| &mut figures.use_cases, counts, attempt)
                    .with_context(|| format!("{case}, run {run}"))?;
            }
        }
        Ok(())
    }

    fn with_many(&self) -> Vec<(Subject, usize)> {
        let subjects = chosen(&self.arguments.subjects, &Subject::ALL);
        let subjects: Vec<_> = subjects.into_iter().filter(|one| !one.is_special()).collect();
        let counts = self.arguments.vips.iter();
        counts.flat_map(|&vips| subjects.iter().map(move |&subject| (subject, vips))).collect()
    }
}

fn chosen<T: Copy>(asked: &[T], all: &[T]) -> Vec<T> {
    if asked.is_empty() { all.to_vec() } else { asked.to_vec() }
}

fn write(arguments: &Arguments, figures: &Figures) -> Result<()> {
    std::fs::create_dir_all(&arguments.output)?;
    let file = |name: &str| arguments.output.join(name);
    std::fs::write(file("bench.json"), serde_json::to_vec_pretty(figures)?)?;
    std::fs::write(file("bench.md"), report::markdown(figures))?;
    std::fs::write(file("bench.svg"), chart::svg(figures))?;
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_documentation_shows_the_figures_that_are_kept() {
        let package = PathBuf::from(env!("CARGO_MANIFEST_DIR"));
        let read = |file: &str| std::fs::read_to_string(package.join(file)).expect(file);
        let figures: Figures = serde_json::from_str(&read("bench/bench.json")).expect("figures");
        let tables = report::markdown(&figures);
        assert!(
            read("../docs/src/measured.md").contains(&tables),
            "docs/src/measured.md has other tables than\n{tables}"
        );
        assert_eq!(read("bench/bench.svg"), chart::svg(&figures));
    }

    #[test]
    fn rows_that_are_shown_elsewhere_are_those_of_the_tables() {
        let package = PathBuf::from(env!("CARGO_MANIFEST_DIR"));
        let read = |file: &str| std::fs::read_to_string(package.join(file)).expect(file);
        let (measured, comparison) =
            (read("../docs/src/measured.md"), read("../docs/src/comparison.md"));
        let row = |name: &str| {
            let begins = format!("| {name} |");
            measured
                .lines()
                .find(|line| line.starts_with(&begins))
                .unwrap_or_else(|| panic!("no {name}"))
        };
        for name in ["host powered off", "orderly stop", "daemon killed and started"] {
            assert!(comparison.lines().any(|line| line == row(name)), "{}", row(name));
        }
        let readme = read("../README.md");
        for (name, said) in
            [("host powered off", "a host loses its power"), ("orderly stop", "a planned stop")]
        {
            let cells = row(name).trim_matches('|').split('|').skip(1);
            let median =
                |cell: &str| format!("{} ms", cell.split('/').nth(1).expect("three").trim());
            let medians: Vec<String> = cells.map(median).collect();
            let expected = format!("| {said} | {} |", medians.join(" | "));
            assert!(readme.lines().any(|line| line == expected), "{expected}");
        }
    }
}
