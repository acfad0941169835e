//! Plays scenario files on real etcd, kernel and network namespaces.

mod agree;
mod play;

use std::process::ExitCode;

use clap::{Parser, Subcommand};

/// Plays scenario files on real etcd, kernel and network namespaces; `turnip-sim play` simulates the same files
#[derive(Debug, Parser)]
#[command(name = "turnip-lab", version)]
struct Cli {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Play a file once
    Play(play::PlayArgs),
    /// Play files in both worlds, and see whether what is measured lies within what is simulated
    Agree(agree::AgreeArgs),
}

fn main() -> ExitCode {
    match Cli::parse().command {
        Command::Play(args) => play::run(&args),
        Command::Agree(args) => agree::run(&args),
    }
}
