//! The benchmark: turnip and keepalived in the same lab, with the same probes and the same faults, in
//! turns. Prints a table for the README; writes JSON and a picture beside it.

mod picture;
mod report;
mod rest;
mod scale;
mod setting;
mod trial;
mod use_case;

use std::path::{Path, PathBuf};
use std::process::ExitCode;

use anyhow::{Context, Result, bail};
use clap::{Parser, ValueEnum};
use serde::{Deserialize, Serialize};

use crate::rest::Rest;
use crate::scale::Scale;
use crate::setting::Setting;
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
    /// Numbers of VIPs, at rest and to move from a host that loses its power; keepalived is left out
    /// of those beyond 1,000.
    #[arg(long, value_delimiter = ',', default_values_t = [1, 100, 1_000, 10_000])]
    vips: Vec<usize>,
    /// Only these parts.
    #[arg(long = "only", value_enum)]
    parts: Vec<Part>,
    /// Goes on with the benchmark whose figures are there already.
    #[arg(long)]
    resume: bool,
    /// Where to write the figures as JSON, Markdown and SVG: `bench.json`, `bench.md`, `bench.svg`.
    #[arg(long, default_value = "target/bench")]
    output: PathBuf,
}

/// What a benchmark consists of.
#[derive(Clone, Copy, PartialEq, Eq, ValueEnum, Debug)]
enum Part {
    /// Gap and overlap of every fault.
    Faults,
    /// Many VIPs of a host that loses its power.
    Vips,
    /// Memory, processor and write rate at rest.
    Rest,
    /// Both use-cases.
    UseCases,
}

/// All figures of one benchmark.
#[derive(Serialize, Deserialize, Debug)]
struct Figures {
    setting: Setting,
    trials: Vec<Trial>,
    scale: Vec<Scale>,
    rest: Vec<Rest>,
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
    let setting = Setting::here(arguments.runs)?;
    let mut figures = if arguments.resume {
        Figures::read(&arguments.output, &setting)?
    } else {
        Figures::of(setting)
    };
    let all = [Part::Faults, Part::Vips, Part::Rest, Part::UseCases];
    for part in chosen(&arguments.parts, &all) {
        match part {
            Part::Faults => faults(arguments, &mut figures)?,
            Part::Vips => vips(arguments, &mut figures)?,
            Part::Rest => at_rest(arguments, &mut figures)?,
            Part::UseCases => use_cases(arguments, &mut figures)?,
        }
    }
    write(arguments, &figures)?;
    println!("{}", report::markdown(&figures));
    Ok(())
}

impl Figures {
    fn of(setting: Setting) -> Self {
        let (trials, scale, rest, use_cases) = Default::default();
        Figures { setting, trials, scale, rest, use_cases }
    }

    /// Those of an earlier benchmark, which must have measured the same.
    fn read(directory: &Path, setting: &Setting) -> Result<Self> {
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

// In turns, so that whatever else the machine does falls on all of them.

fn faults(arguments: &Arguments, figures: &mut Figures) -> Result<()> {
    let subjects = chosen(&arguments.subjects, &Subject::ALL);
    for run in 0..arguments.runs {
        for fault in chosen(&arguments.faults, &Fault::ALL) {
            for &subject in subjects.iter().filter(|subject| fault.concerns(**subject)) {
                let same = |t: &Trial| (t.subject, t.fault, t.run) == (subject, fault, run);
                if figures.trials.iter().any(same) {
                    continue;
                }
                let trial = trial::run(subject, fault, run, arguments.runs);
                let trial = trial.with_context(|| format!("{subject}, {fault}, run {run}"))?;
                eprintln!("{trial}");
                figures.trials.push(trial);
                write(arguments, figures)?;
            }
        }
    }
    Ok(())
}

fn vips(arguments: &Arguments, figures: &mut Figures) -> Result<()> {
    let subjects = chosen(&arguments.subjects, &Subject::ALL);
    for run in 0..arguments.runs {
        for &vips in &arguments.vips {
            for &subject in subjects.iter().filter(|subject| subject.takes(vips)) {
                let same = |s: &Scale| (s.subject, s.vips, s.run) == (subject, vips, run);
                if figures.scale.iter().any(same) {
                    continue;
                }
                let scale = scale::run(subject, vips, run, arguments.runs);
                let scale = scale.with_context(|| format!("{subject}, {vips} VIPs, run {run}"))?;
                eprintln!("{scale}");
                figures.scale.push(scale);
                write(arguments, figures)?;
            }
        }
    }
    Ok(())
}

fn at_rest(arguments: &Arguments, figures: &mut Figures) -> Result<()> {
    let subjects = chosen(&arguments.subjects, &Subject::ALL);
    for &vips in &arguments.vips {
        for &subject in subjects.iter().filter(|subject| subject.takes(vips)) {
            if figures.rest.iter().any(|rest| (rest.subject, rest.vips) == (subject, vips)) {
                continue;
            }
            let rest = rest::run(subject, vips);
            let rest = rest.with_context(|| format!("{subject}, {vips} VIPs, at rest"))?;
            eprintln!("{rest}");
            figures.rest.push(rest);
            write(arguments, figures)?;
        }
    }
    Ok(())
}

fn use_cases(arguments: &Arguments, figures: &mut Figures) -> Result<()> {
    for run in 0..arguments.runs {
        for case in UseCase::ALL {
            if figures.use_cases.iter().any(|trial| (trial.case, trial.run) == (case, run)) {
                continue;
            }
            let trial = use_case::run(case, run, arguments.runs);
            let trial = trial.with_context(|| format!("{case}, run {run}"))?;
            eprintln!("{trial}");
            figures.use_cases.push(trial);
            write(arguments, figures)?;
        }
    }
    Ok(())
}

fn chosen<T: Copy>(asked: &[T], all: &[T]) -> Vec<T> {
    if asked.is_empty() { all.to_vec() } else { asked.to_vec() }
}

/// After every trial, so that a benchmark that is interrupted has not been for nothing.
fn write(arguments: &Arguments, figures: &Figures) -> Result<()> {
    std::fs::create_dir_all(&arguments.output)?;
    let file = |name: &str| arguments.output.join(name);
    std::fs::write(file("bench.json"), serde_json::to_vec_pretty(figures)?)?;
    std::fs::write(file("bench.md"), report::markdown(figures))?;
    std::fs::write(file("bench.svg"), picture::svg(figures))?;
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_readme_shows_the_figures_that_are_kept() {
        let package = PathBuf::from(env!("CARGO_MANIFEST_DIR"));
        let read = |file: &str| std::fs::read_to_string(package.join(file)).expect(file);
        let figures: Figures = serde_json::from_str(&read("bench/bench.json")).expect("figures");
        let tables = report::markdown(&figures);
        assert!(
            read("../README.md").contains(&tables),
            "the README has other tables than\n{tables}"
        );
        assert_eq!(read("bench/bench.svg"), picture::svg(&figures));
    }
}
