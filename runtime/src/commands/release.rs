//! `turnip release`: clears this host by hand.

use std::process::ExitCode;

use clap::Args;

#[derive(Args)]
pub struct ReleaseArgs {
    /// Clear the host although a daemon runs on it
    #[arg(long)]
    force: bool,
}

pub fn release(args: &ReleaseArgs) -> ExitCode {
    let _ = args.force;
    super::fail(super::FAILED, "not there yet")
}
