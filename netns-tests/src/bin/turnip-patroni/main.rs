//! A floating address that follows Patroni's leader: real PostgreSQL on three hosts, and what befalls them.
//! Prints tables as Markdown.

mod fault;
mod mode;
mod observers;
mod patroni;
mod report;
mod seen;
mod trial;

use std::process::{Command, ExitCode};

use anyhow::{Context, Result};
use clap::{Parser, ValueEnum};
use turnip_netns_tests::{binary, etcd};

use crate::fault::Fault;
use crate::mode::Mode;
use crate::trial::{Outcome, Trial};

/// Measures how a floating address follows Patroni's leader. Needs root, and Debian's packages of
/// PostgreSQL and Patroni, for which `ci/patroni` sees.
#[derive(Parser, Debug)]
struct Arguments {
    /// How often everything is done.
    #[arg(long, default_value_t = 3)]
    runs: usize,
    /// Only these keepers of the address; else turnip's two ways and vip-manager.
    #[arg(long = "mode", value_enum)]
    modes: Vec<Mode>,
    /// Only these faults.
    #[arg(long = "fault", value_enum)]
    faults: Vec<Fault>,
    /// What is printed: `markdown` has the tables, `debug` every run as it is over.
    #[arg(long, value_enum, default_value_t = Format::Markdown)]
    format: Format,
}

#[derive(Clone, Copy, PartialEq, Eq, Debug, ValueEnum)]
enum Format {
    Markdown,
    Debug,
}

fn main() -> ExitCode {
    match measure(&Arguments::parse()) {
        Ok(defects) if defects.is_empty() => ExitCode::SUCCESS,
        Ok(defects) => {
            defects.iter().for_each(|defect| eprintln!("DEFECT: {defect}"));
            ExitCode::FAILURE
        }
        Err(error) => {
            eprintln!("patroni: {error:#}");
            ExitCode::FAILURE
        }
    }
}

/// Prints the tables, and returns what should not be.
fn measure(arguments: &Arguments) -> Result<Vec<String>> {
    let modes = match &arguments.modes[..] {
        [] => Mode::value_variants(),
        some => some,
    };
    if arguments.format == Format::Markdown {
        print!("{}", INTRODUCTION.replace("{runs}", &arguments.runs.to_string()));
        println!("\n{}.", versions()?.join(", "));
    }
    let mut defects = Vec::new();
    for &mode in modes {
        defects.extend(measure_one(mode, arguments)?);
    }
    Ok(defects)
}

fn measure_one(mode: Mode, arguments: &Arguments) -> Result<Vec<String>> {
    let faults = match &arguments.faults[..] {
        [] => mode.faults(),
        some => some.to_vec(),
    };
    let mut trial = Trial::start(mode)?;
    if arguments.format == Format::Markdown {
        println!("\n## {}\n\n{}", mode.title(), report::HEADER);
    }
    let mut defects = Vec::new();
    for fault in faults {
        let mut outcomes = Vec::new();
        for run in 1..=arguments.runs {
            let what = format!("{}, {}, run {run}", mode.title(), fault.name());
            let outcome = match trial.perform(fault) {
                Ok(outcome) => outcome,
                Err(error) => {
                    eprintln!("{what}: {error:#}");
                    defects.push(format!("{what}: it did not become well, or was not measured"));
                    drop(trial);
                    trial = Trial::start(mode)?;
                    continue;
                }
            };
            eprintln!("{what}: {}", report::line(&outcome));
            if mode.is_turnip() && !is_safe(fault, &outcome) {
                defects.push(format!("{what}: two hosts had the address"));
            }
            outcomes.push(outcome);
        }
        if arguments.format == Format::Markdown {
            println!("{}", report::row(fault, &outcomes));
        }
    }
    Ok(defects)
}

/// A daemon that stands still cannot take its address away: the kernel silences it, and removes it later.
fn is_safe(fault: Fault, outcome: &Outcome) -> bool {
    let is_silent = fault == Fault::KeeperFrozen;
    (is_silent || outcome.overlap.is_zero()) && outcome.answers_overlap.is_zero()
}

/// What took part.
fn versions() -> Result<Vec<String>> {
    let turnip = binary::turnip()?.display().to_string();
    let programs: [(&str, &str); 6] = [
        (&turnip, "--version"),
        ("/usr/lib/postgresql/15/bin/postgres", "--version"),
        ("patroni", "--version"),
        ("vip-manager", "--version"),
        (&etcd::binary(), "--version"),
        ("uname", "-sr"),
    ];
    programs.iter().map(|(program, argument)| first_line(program, argument)).collect()
}

fn first_line(program: &str, argument: &str) -> Result<String> {
    let output = Command::new(program).arg(argument).output().context(program.to_owned())?;
    let said = [output.stdout, output.stderr].concat();
    let said = String::from_utf8_lossy(&said);
    Ok(said.lines().next().with_context(|| format!("{program} says nothing"))?.trim().to_owned())
}

const INTRODUCTION: &str = include_str!("introduction.md");
