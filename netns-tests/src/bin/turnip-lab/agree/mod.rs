//! `turnip-lab agree FILE…`: each file in both worlds, and whether what was measured lies within what was simulated.

mod compare;
mod page;
mod picture;

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use anyhow::{Context, Result, anyhow};
use clap::Args;
use turnip_netns_tests::player::{self, Played};
use turnip_sim::play::{Algorithm, simulate};
use turnip_sim::script::{Script, World};

pub use compare::{Agreement, Compared, Verdict};

/// A run whose observers were kept from asking for longer says little.
const BUSY: Duration = Duration::from_millis(60);

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
    /// How often a scenario is measured at most that does not agree, or while the machine is busy
    #[arg(long, default_value_t = 3, value_parser = clap::value_parser!(u64).range(1..=10))]
    tries: u64,
    /// How many are measured at once; more of them take their processors from each other
    #[arg(long, default_value_t = 1, value_parser = clap::value_parser!(u8).range(1..=8))]
    jobs: u8,
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
    // None is played before all are understood.
    let scripts = args.files.iter().map(|file| load(file)).collect::<Result<Vec<_>>>()?;
    let all = each(scripts.len() as u64, args.jobs.into(), |number| {
        let (file, script) = &scripts[number as usize];
        let compared = match in_one_world_only(script) {
            Some(why) => Compared::new(script, Verdict::NotPlayed(why)),
            None => compare(script, file, args).with_context(|| file.display().to_string())?,
        };
        println!("{}", page::line(&compared));
        Ok(compared)
    });
    let all = all.into_iter().collect::<Result<Vec<Compared>>>()?;
    if let Some(path) = &args.page {
        page::write(path, &all)?;
    }
    if let Some(path) = &args.picture {
        fs::write(path, picture::draw(&all)).with_context(|| path.display().to_string())?;
    }
    Ok(all.iter().all(Compared::agrees))
}

fn load(file: &Path) -> Result<(&Path, Script)> {
    match Script::load(file) {
        Ok(script) => Ok((file, script)),
        Err(problems) => Err(anyhow!("{problems}")),
    }
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
    let threads = std::thread::available_parallelism().map_or(1, usize::from);
    let simulated = each(args.seeds, threads, |seed| simulate(script, seed, Algorithm::Turnip));
    let mut tries = Vec::new();
    for seed in 1..=args.tries {
        let Played { run, notes, blind, .. } = player::play(script, file, seed, &mut |_| {})?;
        notes.iter().for_each(|note| eprintln!("{}: {note}", script.name));
        let agreement = Agreement::of(script, &simulated, &run, blind);
        if !agreement.agrees() {
            eprintln!("{}: {}", script.name, agreement.outside().join("; "));
        }
        let is_good = agreement.agrees() && blind <= BUSY;
        tries.push(agreement);
        if is_good {
            break;
        }
    }
    Ok(Compared::new(script, Verdict::Played(tries)))
}

/// What comes of each of so many numbers, on so many threads, in their order.
fn each<T: Send>(count: u64, threads: usize, of: impl Fn(u64) -> T + Sync) -> Vec<T> {
    let (next, done) = (AtomicU64::new(0), Mutex::new(BTreeMap::new()));
    std::thread::scope(|scope| {
        for _ in 0..threads {
            scope.spawn(|| {
                loop {
                    let number = next.fetch_add(1, Ordering::Relaxed);
                    if number >= count {
                        break;
                    }
                    let what = of(number);
                    done.lock().unwrap_or_else(PoisonError::into_inner).insert(number, what);
                }
            });
        }
    });
    done.into_inner().unwrap_or_else(PoisonError::into_inner).into_values().collect()
}
