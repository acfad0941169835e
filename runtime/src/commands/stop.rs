//! `turnip stop`: ends the daemon on this host.

use std::process::ExitCode;

use clap::Args;

use super::control::{self, Request};
use super::run::runtime_directory;
use super::{FAILED, OK, fail, print};

/// What its help ends with.
pub const AFTER_HELP: &str = "\
It returns when the daemon has ended. With --leave the daemon renews its session, and leaves addresses, \
fence and session as they are: a daemon that is started again within the lease goes on with them, and not \
a packet is lost. `systemctl restart turnip` does that. If none is started the kernel silences the addresses \
when the lease is over, and others take them, as after a crash. A service manager that starts turnip again whenever it ends \
does so: `systemctl stop turnip` is a stop for good.";

/// How to end.
#[derive(Args)]
pub struct StopArgs {
    /// Hand nothing over: leave all to the next start, within the lease
    #[arg(long)]
    leave: bool,
}

/// Ends the daemon on this host.
pub fn stop(args: &StopArgs) -> ExitCode {
    match control::ask(&runtime_directory(), Request::Stop { leave: args.leave }) {
        Ok(answer) if answer.done => {
            print(&answer.said);
            ExitCode::from(OK)
        }
        Ok(answer) => fail(FAILED, answer.said),
        Err(why) => fail(FAILED, why),
    }
}
