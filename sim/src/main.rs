//! The `turnip-sim` command.

use std::process::ExitCode;

fn main() -> ExitCode {
    turnip_sim::cli::main()
}
