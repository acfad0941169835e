//! `turnip run`

use std::process::ExitCode;

use turnip::config::{Config, Sources};

pub fn run(sources: &Sources) -> ExitCode {
    let config = match Config::load(sources) {
        Ok(config) => config,
        Err(problems) => return super::refuse(&problems),
    };
    crate::logging::start(config.reach.log);
    super::fail(super::FAILED, "not there yet")
}
