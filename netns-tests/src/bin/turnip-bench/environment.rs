//! What was measured, and on what.

use std::fmt;
use std::process::Command;
use std::thread::available_parallelism;

use anyhow::{Context, Result};
use serde::{Deserialize, Serialize};
use turnip_netns_tests::{binary, etcd};

/// The versions and the machine behind the figures.
#[derive(Clone, PartialEq, Serialize, Deserialize, Debug)]
pub struct Environment {
    /// Runs of everything.
    pub runs: usize,
    /// turnip's version.
    pub turnip: String,
    /// keepalived's.
    pub keepalived: String,
    /// etcd's.
    pub etcd: String,
    /// bird's.
    pub bird: String,
    /// The kernel's.
    pub kernel: String,
    /// How many cores the benchmark may use.
    pub cores: usize,
}

impl Environment {
    /// That of this machine.
    ///
    /// # Errors
    /// When a program that is to be measured does not run.
    pub fn here(runs: usize) -> Result<Self> {
        let turnip = binary::turnip()?.display().to_string();
        Ok(Environment {
            runs,
            turnip: first_line(&turnip, &["--version"])?,
            keepalived: first_line("keepalived", &["--version"])?,
            etcd: first_line(&etcd::binary(), &["--version"])?,
            bird: first_line("bird", &["--version"])?,
            // Without what its builder calls it.
            kernel: first_line("uname", &["-sr"])?.split('-').next().unwrap_or_default().into(),
            cores: available_parallelism()?.get(),
        })
    }
}

/// turnip's commit, with `-dirty` when there was more.
pub fn commit() -> String {
    let commit = first_line("git", &["describe", "--always", "--dirty", "--abbrev=12"]);
    commit.unwrap_or_else(|_| "unknown".into())
}

/// What a program says first, wherever it says it.
fn first_line(program: &str, arguments: &[&str]) -> Result<String> {
    let output = Command::new(program).args(arguments).output().context(program.to_owned())?;
    let said = [output.stdout, output.stderr].concat();
    let said = String::from_utf8_lossy(&said);
    Ok(said.lines().next().with_context(|| format!("{program} says nothing"))?.trim().to_owned())
}

impl fmt::Display for Environment {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Environment { runs, turnip, keepalived, etcd, bird, kernel, cores } = self;
        write!(
            f,
            "Minimum / median / maximum of {runs} runs each, in turns, on {cores} cores: {turnip}, {keepalived}, {etcd}, {bird}, {kernel}"
        )
    }
}
