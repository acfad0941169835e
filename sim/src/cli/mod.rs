//! The command line.

mod mutants;
mod play;
mod say;
mod search;
mod single;
mod tables;

use std::path::PathBuf;
use std::process::ExitCode;

use clap::{Args, Parser, Subcommand, ValueEnum};

use crate::plan::Daemon;

/// Runs whole turnip clusters in one deterministic process: the daemon's own driver and state
/// machine, against models of etcd, kernels, clocks and networks.
#[derive(Parser, Debug)]
#[command(name = "turnip-sim", version)]
struct Cli {
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand, Debug)]
enum Command {
    /// Runs one seed, and tells what was wrong with it.
    Run(RunArgs),
    /// Runs many seeds; the first failing one is shrunk to the shortest fault plan that fails.
    Swarm(SwarmArgs),
    /// Plays a scenario from a file, or from phrases, with many seeds: how long addresses go unanswered, whether two
    /// hosts answer, how often they move. Ends with 0 when all is as expected, with 1 when it is not, and with 2
    /// when the scenario cannot be understood.
    Play(play::PlayArgs),
    /// Lists what can befall a cluster in a scenario.
    Verbs(VerbsArgs),
    /// Runs a directed scenario with turnip and with the rule broken that it is about, or lists
    /// all.
    Scenario(ScenarioArgs),
    /// Breaks one rule of ours after the other, the kernel adapter's too: each must be caught by a
    /// scenario, by the exhaustive search of a small world, or by the swarm.
    Mutants(MutantsArgs),
    /// Breaks each assumption, and holds the overlap against the bound stated for it.
    Bounds(BoundsArgs),
    /// Searches small worlds of the real state machine for every order of events.
    Exhaustive(ExhaustiveArgs),
    /// How fast the simulator is: three hosts, three members, ten VIPs, with and without faults.
    Speed,
}

#[derive(Args, Debug)]
struct RunArgs {
    /// The seed from which everything is drawn.
    #[arg(long)]
    seed: u64,
    /// Only these steps of its plan, by number.
    #[arg(long, value_delimiter = ',')]
    steps: Option<Vec<usize>>,
    /// Whose algorithm runs: turnip, naive, or a mutant.
    #[arg(long, default_value = "turnip")]
    algorithm: Daemon,
    #[command(flatten)]
    show: Show,
}

/// What to show of a run.
#[derive(Args, Debug)]
struct Show {
    /// Prints every event.
    #[arg(long)]
    trace: bool,
    /// Draws the run, as .svg or .html.
    #[arg(long, value_name = "FILE")]
    timeline: Option<PathBuf>,
}

#[derive(Args, Debug)]
struct SwarmArgs {
    /// How many seeds.
    #[arg(long, default_value_t = 1_000)]
    seeds: u64,
    /// The first seed: a number, or a commit's hash.
    #[arg(long, default_value = "0", value_parser = seed)]
    from: u64,
    /// How many threads; as many as there are processors when absent.
    #[arg(long)]
    jobs: Option<usize>,
    /// Runs all seeds, and prints a line for each that fails, instead of shrinking the first.
    #[arg(long)]
    keep_going: bool,
    /// Begins no new seed after so many minutes.
    #[arg(long)]
    minutes: Option<f64>,
}

#[derive(Args, Debug)]
struct ScenarioArgs {
    /// Its name; all are listed when absent.
    name: Option<String>,
    /// Runs all of them.
    #[arg(long)]
    all: bool,
    /// Traces and draws the run with the rule broken.
    #[arg(long)]
    broken: bool,
    #[command(flatten)]
    show: Show,
}

#[derive(Args, Debug)]
struct MutantsArgs {
    /// So many seeds may pass until a mutant counts as not caught.
    #[arg(long, default_value_t = 1_000)]
    seeds: u64,
    /// The first seed: a number, or a commit's hash.
    #[arg(long, default_value = "0", value_parser = seed)]
    from: u64,
    /// How many threads; as many as there are processors when absent.
    #[arg(long)]
    jobs: Option<usize>,
    /// Only this one.
    #[arg(long)]
    only: Option<String>,
}

#[derive(Args, Debug)]
struct BoundsArgs {
    /// How many runs a line.
    #[arg(long, default_value_t = 200)]
    runs: u64,
    /// The first seed: a number, or a commit's hash.
    #[arg(long, default_value = "0", value_parser = seed)]
    from: u64,
    /// How to print the table.
    #[arg(long, value_enum, default_value_t = Format::Text)]
    format: Format,
}

#[derive(Args, Debug)]
struct ExhaustiveArgs {
    /// One world, by name; without it every commit's selection, broken rules included.
    #[arg(long)]
    world: Option<String>,
    /// Stops after so many states.
    #[arg(long)]
    max_states: Option<usize>,
    /// A rule to break.
    #[arg(long)]
    algorithm: Option<Daemon>,
}

#[derive(Args, Debug)]
struct VerbsArgs {
    /// How to print them.
    #[arg(long, value_enum, default_value_t = Format::Text)]
    format: Format,
}

#[derive(Clone, Copy, PartialEq, Eq, Debug, ValueEnum)]
enum Format {
    Text,
    Json,
    Markdown,
}

/// A seed: a decimal number, or the first 16 digits of a hexadecimal one.
fn seed(text: &str) -> Result<u64, String> {
    if let Ok(number) = text.parse() {
        return Ok(number);
    }
    let digits = text.get(..text.len().min(16)).unwrap_or_default();
    u64::from_str_radix(digits, 16)
        .map_err(|_| format!("{text:?} is neither a number nor a commit's hash"))
}

fn jobs(given: Option<usize>) -> usize {
    given.or_else(|| std::thread::available_parallelism().ok().map(usize::from)).unwrap_or(1)
}

/// What `turnip-sim` does: 0 when all is well, 1 when something failed.
pub fn main() -> ExitCode {
    let cli = Cli::parse();
    if cfg!(panic = "abort") {
        eprintln!(
            "turnip-sim: built so that a panic ends it, and its seed would be lost: build it with `--profile simulator`"
        );
        return ExitCode::FAILURE;
    }
    // A run that panics is a failure like others, and told as one.
    std::panic::set_hook(Box::new(|_| {}));
    let well = match cli.command {
        Command::Run(args) => single::run(&args),
        Command::Swarm(args) => single::swarm(&args),
        Command::Play(args) => return play::play(&args),
        Command::Verbs(args) => play::verbs(&args),
        Command::Scenario(args) => mutants::scenario(&args),
        Command::Mutants(args) => mutants::mutants(&args),
        Command::Bounds(args) => tables::bounds(&args),
        Command::Exhaustive(args) => search::exhaustive(&args),
        Command::Speed => tables::speed(),
    };
    if well { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}
