//! `play`.

use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::sync::Mutex;
use std::sync::atomic::{AtomicU64, Ordering};

use clap::Args;

use crate::play::{self, Algorithm, Broken, Run, Set, simulate};
use crate::script::{self, Extra, Script, Verb, World};

use super::say::{self, say};
use super::single::bar;
use super::{Format, VerbsArgs, jobs, seed};

/// So many expectations that are not met are told one by one.
const TOLD_MAX: usize = 5;

/// Exit status of a scenario that cannot be understood.
const REFUSED: u8 = 2;

#[derive(Args, Debug)]
pub(super) struct PlayArgs {
    /// The scenario's file.
    #[arg(conflicts_with_all = ["hosts", "config", "fault"], required_unless_present_any = ["hosts", "config", "fault"])]
    file: Option<PathBuf>,
    /// Without a file: how many hosts; three when absent.
    #[arg(long)]
    hosts: Option<usize>,
    /// Without a file: turnip's configuration.
    #[arg(long, value_name = "TURNIP_TOML")]
    config: Option<PathBuf>,
    /// Without a file: what befalls whom when, as in 'isolate h1 at 10s for 30s'. May be repeated.
    #[arg(long)]
    fault: Vec<String>,
    /// Without a file: what is expected, as in 'gap <= 3.3s'. May be repeated.
    #[arg(long, conflicts_with = "file")]
    expect: Vec<String>,
    /// How many seeds.
    #[arg(long, default_value_t = 1_000, value_parser = clap::value_parser!(u64).range(1..=10_000_000))]
    seeds: u64,
    /// The first seed: a number, or a commit's hash.
    #[arg(long, default_value = "0", value_parser = seed)]
    from: u64,
    /// How many threads; as many as there are processors when absent.
    #[arg(long)]
    jobs: Option<usize>,
    /// Draws the median run and the worst one: as .svg, the worst as another file beside it, or as one page in .html.
    #[arg(long, value_name = "FILE")]
    timeline: Option<PathBuf>,
    /// Plays the original turnip's algorithm too, and shows it in the same table. Nothing is expected of it.
    #[arg(long)]
    original: bool,
    /// Prints the distributions for programs; times are in ns.
    #[arg(long)]
    json: bool,
    /// Prints every event of the first seed's run before anything else.
    #[arg(long, conflicts_with = "json")]
    trace: bool,
}

/// Plays a scenario with many seeds.
pub(super) fn play(args: &PlayArgs) -> ExitCode {
    let script = match script(args) {
        Ok(script) => script,
        Err(problems) => {
            eprintln!("{problems}");
            return ExitCode::from(REFUSED);
        }
    };
    for what in play::left_aside(&script) {
        eprintln!("not simulated: {what}");
    }
    if args.trace {
        let lines = play::trace(&script, args.from, Algorithm::Turnip);
        lines.iter().for_each(|line| say!("{line}"));
    }
    let runs = run_all(&script, args, Algorithm::Turnip);
    let original =
        if args.original { run_all(&script, args, Algorithm::Original) } else { Vec::new() };
    let mut sets =
        vec![Set { of: if args.original { Algorithm::Turnip.name() } else { "" }, runs: &runs }];
    if args.original {
        sets.push(Set { of: Algorithm::Original.name(), runs: &original });
    }
    let broken: Vec<(usize, Vec<Broken>)> = runs
        .iter()
        .enumerate()
        .map(|(number, run)| (number, play::judge(&script, run)))
        .filter(|(_, broken)| !broken.is_empty())
        .collect();
    let order = by_badness(&runs, &broken);
    let worst = &runs[order[order.len() - 1]];
    if args.json {
        say!("{:#}", play::json(&script, &sets));
    } else {
        tell(&script, args, &sets, &broken, worst);
    }
    if let Some(path) = &args.timeline {
        let median = &runs[order[(order.len() - 1) / 2]];
        let worst_original = by_badness(&original, &[]).last().map(|&number| &original[number]);
        if let Err(error) = draw(&script, path, median, worst, worst_original, args.json) {
            eprintln!("{error}");
            return ExitCode::from(REFUSED);
        }
    }
    if broken.is_empty() { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}

/// Lists the verbs.
pub(super) fn verbs(args: &VerbsArgs) -> bool {
    match args.format {
        Format::Markdown => say::text(&script::markdown()),
        Format::Text => {
            for verb in Verb::ALL {
                say!("{:20} {}", verb.word(), verb.about());
            }
        }
        Format::Json => {
            let all = Verb::ALL.iter().map(|verb| {
                serde_json::json!({
                    "verb": verb.word(),
                    "said_of": verb.object().told().trim_matches('`'),
                    "needs": verb.needs(),
                    "may": verb.may(),
                    "about": verb.about(),
                    "in_the_lab": verb.is_in(World::Lab),
                })
            });
            say!("{:#}", serde_json::Value::Array(all.collect()));
        }
    }
    true
}

/// The scenario that is meant.
fn script(args: &PlayArgs) -> Result<Script, turnip::config::Problems> {
    let script = match &args.file {
        Some(file) => Script::load(file)?,
        None => Script::of_phrases(&Extra {
            hosts: args.hosts,
            config: args.config.clone(),
            faults: args.fault.clone(),
            expect: args.expect.clone(),
        })?,
    };
    script.check_world(World::Simulator)?;
    Ok(script)
}

/// The runs of all seeds, in their order.
fn run_all(script: &Script, args: &PlayArgs, algorithm: Algorithm) -> Vec<Run> {
    let (next, done) = (AtomicU64::new(0), Mutex::new(Vec::<Run>::new()));
    let bar = bar(args.seeds);
    std::thread::scope(|scope| {
        for _ in 0..jobs(args.jobs).max(1) {
            scope.spawn(|| {
                loop {
                    let number = next.fetch_add(1, Ordering::Relaxed);
                    if number >= args.seeds {
                        break;
                    }
                    let run = simulate(script, args.from.wrapping_add(number), algorithm);
                    done.lock().unwrap_or_else(|e| e.into_inner()).push(run);
                    bar.inc(1);
                }
            });
        }
    });
    bar.finish_and_clear();
    let mut runs = done.into_inner().unwrap_or_else(|e| e.into_inner());
    runs.sort_by_key(|run| run.seed.wrapping_sub(args.from));
    runs
}

/// The runs by number, the worst last: those that are not as expected, then the longest overlap, the longest gap,
/// the most moves.
fn by_badness(runs: &[Run], broken: &[(usize, Vec<Broken>)]) -> Vec<usize> {
    let badness = |&number: &usize| {
        let vips = || runs[number].vips.iter();
        let breaks = broken.iter().find(|(one, _)| *one == number).map_or(0, |(_, all)| all.len());
        (
            breaks,
            vips().map(|vip| vip.overlap_max()).max(),
            vips().map(|vip| vip.gap_max()).max(),
            vips().map(|vip| vip.moves).max(),
            std::cmp::Reverse(number),
        )
    };
    let mut all: Vec<usize> = (0..runs.len()).collect();
    all.sort_by_key(badness);
    all
}

/// Prints the table, and what was not as expected.
fn tell(
    script: &Script,
    args: &PlayArgs,
    sets: &[Set<'_>],
    broken: &[(usize, Vec<Broken>)],
    worst: &Run,
) {
    if let Some(about) = &script.about {
        say!("{}: {about}", script.name);
    }
    let from = if args.from == 0 { String::new() } else { format!(" from {}", args.from) };
    let runs = if args.seeds == 1 { "run" } else { "runs" };
    say!("{} {runs}{from} of {}", args.seeds, script::human(script.lasts));
    say!();
    say::text(&play::table(script, sets));
    say!();
    if args.seeds == 1 {
        for one in &worst.happened {
            say!("  {}", one.said());
        }
    }
    for one in broken.iter().flat_map(|(_, all)| all).take(TOLD_MAX) {
        say!("NOT AS EXPECTED: {one}");
    }
    if broken.len() > TOLD_MAX {
        say!("{} of {} runs are not as expected", broken.len(), args.seeds);
    }
    if args.seeds > 1 {
        say!("worst: {}", again(args, worst.seed));
    }
}

/// The line that plays one seed again.
fn again(args: &PlayArgs, seed: u64) -> String {
    let mut line = "turnip-sim play".to_owned();
    let mut add = |word: &str| {
        line.push(' ');
        line.push_str(&quoted(word));
    };
    if let Some(file) = &args.file {
        add(&file.display().to_string());
    }
    if let Some(hosts) = args.hosts {
        add("--hosts");
        add(&hosts.to_string());
    }
    if let Some(config) = &args.config {
        add("--config");
        add(&config.display().to_string());
    }
    for (flag, phrases) in [("--fault", &args.fault), ("--expect", &args.expect)] {
        for phrase in phrases {
            add(flag);
            add(phrase);
        }
    }
    format!("{line} --from {seed} --seeds 1")
}

/// A word as a shell takes it.
fn quoted(word: &str) -> String {
    let is_plain = |c: char| c.is_ascii_alphanumeric() || "-_./=".contains(c);
    match !word.is_empty() && word.chars().all(is_plain) {
        true => word.to_owned(),
        false => format!("'{}'", word.replace('\'', "'\\''")),
    }
}

/// Draws the median run and the worst, and the original's worst where that was played.
fn draw(
    script: &Script,
    path: &Path,
    median: &Run,
    worst: &Run,
    original: Option<&Run>,
    is_quiet: bool,
) -> Result<(), String> {
    let write = |path: &Path, text: String| {
        std::fs::write(path, text)
            .map_err(|error| format!("cannot write {}: {error}", path.display()))?;
        if !is_quiet {
            say!("drew {}", path.display());
        }
        Ok(())
    };
    if path.extension().is_some_and(|extension| extension == "html") {
        let mut runs = vec![
            (format!("The median run, seed {}", median.seed), median),
            (format!("The worst run, seed {}", worst.seed), worst),
        ];
        runs.extend(
            original.map(|run| (format!("The original's worst run, seed {}", run.seed), run)),
        );
        return write(path, play::html(script, &runs));
    }
    let beside = |what: &str| {
        let stem = path.file_stem().unwrap_or_default().to_string_lossy();
        path.with_file_name(format!("{stem}-{what}.svg"))
    };
    write(path, play::svg(script, median))?;
    if median.seed != worst.seed {
        write(&beside("worst"), play::svg(script, worst))?;
    }
    match original {
        Some(run) => write(&beside("original"), play::svg(script, run)),
        None => Ok(()),
    }
}
