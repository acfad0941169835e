//! `turnip-lab play FILE`.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use anyhow::{Context, Result, bail};
use clap::Args;
use turnip_netns_tests::player::{self, Played};
use turnip_sim::play::{Set, html, json, judge, svg, table};
use turnip_sim::script::{Script, World};

/// What measured runs are called in tables.
pub const MEASURED: &str = "measured";

/// What `turnip-lab play` is told
#[derive(Debug, Args)]
#[command(
    after_help = "Needs root, etcd, nft and ip. Exit status: 0 when all is as expected, 1 when not, 2 when \
the file is refused or cannot be played."
)]
pub struct PlayArgs {
    /// The scenario
    file: PathBuf,
    /// Whose random choices are made, those of the simulator's run of this seed
    #[arg(long, default_value_t = 1)]
    seed: u64,
    /// Draw what happened: an .svg, or an .html page
    #[arg(long, value_name = "FILE")]
    timeline: Option<PathBuf>,
    /// Print the table as JSON
    #[arg(long)]
    json: bool,
}

/// Plays it.
pub fn run(args: &PlayArgs) -> ExitCode {
    match play(args) {
        Ok(status) => status,
        Err(error) => {
            eprintln!("{error:#}");
            ExitCode::from(2)
        }
    }
}

/// Reads a file, and refuses what the lab cannot do.
pub fn load(path: &Path) -> Result<Script> {
    let script = Script::load(path).and_then(|script| {
        script.check_world(World::Lab)?;
        Ok(script)
    });
    match script {
        Ok(script) => Ok(script),
        Err(problems) => bail!("{problems}"),
    }
}

fn play(args: &PlayArgs) -> Result<ExitCode> {
    let script = load(&args.file)?;
    let is_page = match args.timeline.as_deref().and_then(Path::extension) {
        None if args.timeline.is_none() => false,
        Some(ending) if ending == "svg" => false,
        Some(ending) if ending == "html" => true,
        _ => bail!("--timeline draws an .svg or an .html; name the file so"),
    };
    let Played { run, notes, .. } =
        player::play(&script, &args.file, args.seed, &mut |what| eprintln!("{what}"))?;
    notes.iter().for_each(|note| eprintln!("note: {note}"));
    let runs = [run];
    if let Some(path) = &args.timeline {
        let picture = match is_page {
            true => html(&script, &[(format!("measured, seed {}", args.seed), &runs[0])]),
            false => svg(&script, &runs[0]),
        };
        fs::write(path, picture).with_context(|| path.display().to_string())?;
    }
    let sets = [Set { of: MEASURED, runs: &runs }];
    match args.json {
        true => println!("{:#}", json(&script, &sets)),
        false => print!("{}", table(&script, &sets)),
    }
    let broken = judge(&script, &runs[0]);
    broken.iter().for_each(|one| eprintln!("not as expected: {one}"));
    Ok(if broken.is_empty() { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}
