//! `turnip-lab agree FILE…`: each file in both worlds, and whether what was measured lies within what was simulated.

mod compare;
mod page;
mod picture;

use std::fs;
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::sync::Mutex;
use std::sync::atomic::{AtomicU64, Ordering};

use anyhow::{Context, Result, ensure};
use clap::Args;
use turnip_netns_tests::player::{self, Played};
use turnip_sim::play::{Algorithm, Run, simulate};
use turnip_sim::script::{Script, World};

pub use compare::{Agreement, Compared, Verdict};

/// What `turnip-lab agree` is told
#[derive(Debug, Args)]
#[command(
    after_help = "Exit status: 0 when all agree, 1 when not, 2 when a file is refused or cannot be played."
)]
pub struct AgreeArgs {
    /// The scenarios
    #[arg(required = true)]
    files: Vec<PathBuf>,
    /// How many seeds are simulated
    #[arg(long, default_value_t = 200, value_parser = clap::value_parser!(u64).range(1..=100_000))]
    seeds: u64,
    /// How often a scenario that does not agree is measured before it is believed: the machine may be busy
    #[arg(long, default_value_t = 3, value_parser = clap::value_parser!(u64).range(1..=10))]
    tries: u64,
    /// Write the table into this page, between its marks
    #[arg(long, value_name = "FILE")]
    page: Option<PathBuf>,
    /// Draw the picture
    #[arg(long, value_name = "FILE")]
    picture: Option<PathBuf>,
}

/// Plays all of them.
pub fn run(args: &AgreeArgs) -> ExitCode {
    match agree(args) {
        Ok(true) => ExitCode::SUCCESS,
        Ok(false) => ExitCode::FAILURE,
        Err(error) => {
            eprintln!("{error:#}");
            ExitCode::from(2)
        }
    }
}

fn agree(args: &AgreeArgs) -> Result<bool> {
    let mut all = Vec::new();
    for file in &args.files {
        let script = Script::load(file).map_err(|problems| anyhow::anyhow!("{problems}"))?;
        let compared = match in_one_world_only(&script) {
            Some(why) => Compared::new(&script, Verdict::NotPlayed(why)),
            None => compare(&script, file, args)?,
        };
        println!("{}", page::line(&compared));
        all.push(compared);
    }
    if let Some(path) = &args.page {
        page::write(path, &all)?;
    }
    if let Some(path) = &args.picture {
        fs::write(path, picture::draw(&all)).with_context(|| path.display().to_string())?;
    }
    Ok(all.iter().all(Compared::agrees))
}

/// Which verb of it only one world has.
fn in_one_world_only(script: &Script) -> Option<String> {
    let lacks = |world| {
        let fault = script.faults.iter().find(|fault| !fault.verb.is_in(world))?;
        Some(format!("{} is only in {}", fault.verb.said(), fault.verb.only_in()))
    };
    lacks(World::Lab).or_else(|| lacks(World::Simulator))
}

fn compare(script: &Script, file: &Path, args: &AgreeArgs) -> Result<Compared> {
    let simulated = simulate_all(script, args.seeds);
    let mut tries = Vec::new();
    for seed in 1..=args.tries {
        let Played { run, notes, blind } = player::play(script, file, seed, &mut |_| {})?;
        notes.iter().for_each(|note| eprintln!("{}: {note}", script.name));
        let agreement = Agreement::of(script, &simulated, &run, blind);
        let agrees = agreement.agrees();
        if !agrees {
            eprintln!("{}: {}", script.name, agreement.outside().join("; "));
        }
        tries.push(agreement);
        if agrees {
            break;
        }
    }
    ensure!(!tries.is_empty(), "no try");
    Ok(Compared::new(script, Verdict::Played(tries)))
}

/// The runs of so many seeds, on all processors.
fn simulate_all(script: &Script, seeds: u64) -> Vec<Run> {
    let (next, done) = (AtomicU64::new(0), Mutex::new(Vec::new()));
    let threads = std::thread::available_parallelism().map_or(1, usize::from);
    std::thread::scope(|scope| {
        for _ in 0..threads {
            scope.spawn(|| {
                loop {
                    let seed = next.fetch_add(1, Ordering::Relaxed);
                    if seed >= seeds {
                        break;
                    }
                    let run = simulate(script, seed, Algorithm::Turnip);
                    done.lock().unwrap_or_else(std::sync::PoisonError::into_inner).push(run);
                }
            });
        }
    });
    done.into_inner().unwrap_or_else(std::sync::PoisonError::into_inner)
}
