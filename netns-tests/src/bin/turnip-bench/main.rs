//! The benchmark: turnip and keepalived in the same lab, with the same probes and the same faults, in
//! turns. Prints a table for the README; writes JSON and a picture beside it.

mod picture;
mod report;
mod rest;
mod scale;
mod setting;
mod trial;
mod use_case;

use std::path::PathBuf;
use std::process::ExitCode;

use anyhow::{Context, Result};
use clap::Parser;
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
    /// Numbers of VIPs to move from a host that loses its power; keepalived is left out of those
    /// beyond 1,000.
    #[arg(long, value_delimiter = ',', default_values_t = [1, 100, 1_000, 10_000])]
    vips: Vec<usize>,
    /// Leave out memory, processor and write rate at rest.
    #[arg(long)]
    no_rest: bool,
    /// Leave out the two use-cases.
    #[arg(long)]
    no_use_cases: bool,
    /// Where to write the figures as JSON, Markdown and SVG: `bench.json`, `bench.md`, `bench.svg`.
    #[arg(long, default_value = "target/bench")]
    output: PathBuf,
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
    let mut figures = Figures {
        setting: Setting::here(arguments.runs)?,
        trials: Vec::new(),
        scale: Vec::new(),
        rest: Vec::new(),
        use_cases: Vec::new(),
    };
    let subjects = chosen(&arguments.subjects, &Subject::ALL);
    let faults = chosen(&arguments.faults, &Fault::ALL);
    for run in 0..arguments.runs {
        // In turns, so that whatever else the machine does falls on all of them.
        for &fault in &faults {
            for &subject in subjects.iter().filter(|subject| fault.concerns(**subject)) {
                let trial = trial::run(subject, fault, run, arguments.runs);
                let trial = trial.with_context(|| format!("{subject}, {fault}, run {run}"))?;
                eprintln!("{trial}");
                figures.trials.push(trial);
                write(arguments, &figures)?;
            }
        }
    }
    for run in 0..arguments.runs {
        for &vips in &arguments.vips {
            for &subject in subjects.iter().filter(|subject| subject.takes(vips)) {
                let scale = scale::run(subject, vips, run);
                let scale = scale.with_context(|| format!("{subject}, {vips} VIPs, run {run}"))?;
                eprintln!("{scale}");
                figures.scale.push(scale);
                write(arguments, &figures)?;
            }
        }
    }
    if !arguments.no_rest {
        for &subject in &subjects {
            let rest = rest::run(subject).with_context(|| format!("{subject}, at rest"))?;
            eprintln!("{rest}");
            figures.rest.push(rest);
        }
    }
    let use_cases = if arguments.no_use_cases { &[][..] } else { &UseCase::ALL[..] };
    for run in 0..arguments.runs {
        for &case in use_cases {
            let trial = use_case::run(case, run, arguments.runs)
                .with_context(|| format!("{case}, run {run}"))?;
            eprintln!("{trial}");
            figures.use_cases.push(trial);
            write(arguments, &figures)?;
        }
    }
    write(arguments, &figures)?;
    println!("{}", report::markdown(&figures));
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
