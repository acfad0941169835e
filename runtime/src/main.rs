//! The `turnip` command.

mod commands;
mod logging;

use std::process::ExitCode;

use clap::{CommandFactory, FromArgMatches, Parser, Subcommand};
use turnip::config::{NodeArgs, ReachArgs, Sources};

use commands::{
    check, forget, generate, history, hook, import, intents, keys, manifest, release, reload, run,
    status, stop, wait, watch, why,
};

/// Floating addresses that are on at most one host at any instant, decided through etcd.
#[derive(Parser)]
#[command(version, max_term_width = 100, after_help = AFTER_HELP)]
struct Cli {
    #[command(subcommand)]
    command: Command,
}

const AFTER_HELP: &str = "\
A flag beats its variable, and a variable beats the configuration file. These four variables alone \
are a complete configuration: TURNIP_IP, TURNIP_NETMASK, TURNIP_DEV, and TURNIP_ID (the address by \
which the etcd member on this host talks to its peers). Beside a file they take the place of its \
[[vip]] tables and of `node`.

Exit status: 0 done; 1 refused or failed, the reason is given; 2 wrong configuration or command \
line, nothing was touched. `status` has its own: see `turnip status --help`.";

#[derive(Subcommand)]
enum Command {
    /// Run the daemon: hold addresses, and hand them over when asked to stop
    Run {
        #[command(flatten)]
        reach: Box<ReachArgs>,
        #[command(flatten)]
        node: Box<NodeArgs>,
    },
    /// Show who owns what, and how the nodes are
    #[command(after_help = status::AFTER_HELP)]
    Status {
        #[command(flatten)]
        reach: Box<ReachArgs>,
        #[command(flatten)]
        status: status::StatusArgs,
    },
    /// Return when VIPs are held, for scripts that need an address first
    #[command(after_help = wait::AFTER_HELP)]
    Wait {
        #[command(flatten)]
        reach: Box<ReachArgs>,
        #[command(flatten)]
        wait: wait::WaitArgs,
    },
    /// Show the same live, on a terminal: q quits, s sorts
    #[command(after_help = watch::AFTER_HELP)]
    Watch {
        #[command(flatten)]
        reach: Box<ReachArgs>,
    },
    /// Say who would take a VIP in which order, and why the others would not
    #[command(after_help = why::AFTER_HELP)]
    Why {
        #[command(flatten)]
        reach: Box<ReachArgs>,
        #[command(flatten)]
        why: why::WhyArgs,
    },
    /// Show which VIPs went where lately, when and why
    #[command(after_help = history::AFTER_HELP)]
    History {
        #[command(flatten)]
        reach: Box<ReachArgs>,
        #[command(flatten)]
        history: history::HistoryArgs,
    },
    /// Check the configuration, this host and etcd, and say what to do about what is wrong
    #[command(after_help = check::AFTER_HELP)]
    Check {
        #[command(flatten)]
        reach: Box<ReachArgs>,
        #[command(flatten)]
        node: Box<NodeArgs>,
        #[command(flatten)]
        check: check::CheckArgs,
    },
    /// Have the daemon on this host go by its configuration as it is now, without dropping anything
    #[command(after_help = reload::AFTER_HELP)]
    Reload {
        #[command(flatten)]
        reload: reload::ReloadArgs,
    },
    /// End the daemon on this host
    #[command(after_help = stop::AFTER_HELP)]
    Stop {
        #[command(flatten)]
        stop: stop::StopArgs,
    },
    /// Take away what a killed daemon left on this host: its addresses, then its fence
    #[command(after_help = release::AFTER_HELP)]
    Release {
        #[command(flatten)]
        release: release::ReleaseArgs,
    },
    /// Have a service behind a unix socket run this hook, with the rights that it has
    #[command(after_help = hook::AFTER_HELP)]
    Hook {
        #[command(flatten)]
        hook: hook::HookArgs,
    },
    /// Print what Kubernetes runs turnip by, for the API server's address
    #[command(after_help = manifest::AFTER_HELP)]
    Manifest {
        #[command(flatten)]
        manifest: manifest::ManifestArgs,
    },
    /// Write the pages of the manual, completions for bash, zsh and fish, and the references of the documentation
    #[command(after_help = generate::AFTER_HELP)]
    Generate {
        #[command(flatten)]
        generate: generate::GenerateArgs,
    },
    /// Translate the configuration of keepalived, vip-manager or kube-vip into one of turnip's
    #[command(after_help = import::AFTER_HELP)]
    Import {
        #[command(flatten)]
        import: import::ImportArgs,
    },
    /// End the session of a node whose host is off and does not come back
    #[command(after_help = forget::AFTER_HELP)]
    Forget {
        #[command(flatten)]
        reach: Box<ReachArgs>,
        #[command(flatten)]
        forget: forget::ForgetArgs,
    },
    /// Make another key for the heartbeats between hosts; the one before is taken as well
    RotateKey {
        #[command(flatten)]
        reach: Box<ReachArgs>,
    },
    /// Move everything off a node, and keep it off until `undrain`
    Drain {
        #[command(flatten)]
        reach: Box<ReachArgs>,
        #[command(flatten)]
        drain: intents::DrainArgs,
    },
    /// Let a drained node take VIPs again
    Undrain {
        #[command(flatten)]
        reach: Box<ReachArgs>,
        #[command(flatten)]
        drain: intents::DrainArgs,
    },
    /// Keep a VIP on one node for as long as that can take it
    Pin {
        #[command(flatten)]
        reach: Box<ReachArgs>,
        #[command(flatten)]
        pin: intents::PinArgs,
    },
    /// Let the policy decide again where a pinned VIP should be
    Unpin {
        #[command(flatten)]
        reach: Box<ReachArgs>,
        #[command(flatten)]
        unpin: intents::UnpinArgs,
    },
}

fn main() -> ExitCode {
    // What the variables hold now is of no use in a description.
    let plain = |command: clap::Command| command.mut_args(|arg| arg.hide_env_values(true));
    let matches = Cli::command().mut_subcommands(plain).get_matches();
    let cli = Cli::from_arg_matches(&matches).unwrap_or_else(|error| error.exit());
    let (_, given) = matches.subcommand().expect("clap asks for a command");
    let names = std::env::vars_os().filter_map(|(name, _)| name.into_string().ok());
    let sources = Sources::new(given, |name| std::env::var(name).ok()).among(names);
    match cli.command {
        Command::Run { .. } => run::run(&sources),
        Command::Status { status, .. } => status::status(&sources, &status),
        Command::Wait { wait, .. } => wait::wait(&sources, &wait),
        Command::Watch { .. } => watch::watch(&sources),
        Command::Why { why, .. } => why::why(&sources, &why),
        Command::History { history, .. } => history::history(&sources, &history),
        Command::Check { check, .. } => check::check(&sources, &check),
        Command::Reload { reload } => reload::reload(&reload),
        Command::Stop { stop } => stop::stop(&stop),
        Command::Release { release } => release::release(&release),
        Command::Hook { hook } => hook::hook(&hook),
        Command::Manifest { manifest } => manifest::manifest(&manifest),
        Command::Generate { generate } => generate::generate(Cli::command(), &generate),
        Command::Import { import } => import::import(&import),
        Command::Forget { forget, .. } => forget::forget(&sources, &forget),
        Command::RotateKey { .. } => keys::rotate(&sources),
        Command::Drain { .. } => intents::drain(&sources, true),
        Command::Undrain { .. } => intents::drain(&sources, false),
        Command::Pin { pin, .. } => intents::pin(&sources, &pin),
        Command::Unpin { unpin, .. } => intents::unpin(&sources, &unpin),
    }
}
