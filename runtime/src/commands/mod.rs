//! The commands, one file each.

pub mod asked;
pub mod behind;
pub mod certificates;
pub mod check;
pub mod cluster;
pub mod control;
pub mod forget;
pub mod generate;
pub mod growth;
pub mod heartbeats;
pub mod history;
pub mod hook;
pub mod import;
pub mod intents;
pub mod keys;
pub mod local;
pub mod manager;
pub mod manifest;
pub mod membership;
pub mod metrics;
pub mod needs;
pub mod overview;
pub mod own_addresses;
pub mod release;
pub mod reload;
pub mod run;
pub mod service;
pub mod status;
#[cfg(test)]
mod status_schema;
pub mod stop;
pub mod table;
pub mod unit;
pub mod vouching;
pub mod wait;
pub mod watch;
pub mod why;

use std::io::{self, Write};
use std::process::ExitCode;

use turnip::config::{Problems, Reach};
use turnip::redact;

/// It did what it was asked to.
pub const OK: u8 = 0;
/// It refused or failed, for the reason given.
pub const FAILED: u8 = 1;
/// The configuration or the command line is wrong; nothing was touched.
pub const USAGE: u8 = 2;

/// Says why nothing was done.
pub fn fail(status: u8, why: impl std::fmt::Display) -> ExitCode {
    eprintln!("turnip: {}", redact::urls(&why.to_string()));
    ExitCode::from(status)
}

/// Shows what is wrong with the configuration.
pub fn refuse(problems: &Problems) -> ExitCode {
    fail(USAGE, problems)
}

/// Says on standard error what is to be known of how the configuration came together.
pub fn notice(reach: &Reach) {
    for notice in &reach.notices {
        eprintln!("turnip: {}", redact::urls(notice));
    }
}

/// Prints to standard output. A reader that went away (`| head`) is no error.
pub fn print(text: &str) {
    let mut out = io::stdout().lock();
    let _ = out.write_all(redact::urls(text).as_bytes()).and_then(|()| out.flush());
}
