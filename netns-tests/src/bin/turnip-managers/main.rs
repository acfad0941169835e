//! What network managers do to VIPs: a host that systemd has booted, with etcd, turnip and one of the
//! managers, which is made to reconfigure the interface of the VIPs. Prints a matrix as Markdown.

mod container;
mod managers;
mod observers;
mod report;
mod trial;

use std::path::PathBuf;
use std::process::ExitCode;

use anyhow::Result;
use clap::Parser;

use crate::managers::{MANAGERS, Manager};
use crate::trial::Trial;

/// Measures what network managers do to VIPs. Needs root.
#[derive(Parser, Debug)]
struct Arguments {
    /// A Debian with systemd, the managers and etcd; `ci/network-managers` makes it.
    #[arg(long)]
    tree: PathBuf,
    /// How often everything is done.
    #[arg(long, default_value_t = 3)]
    runs: usize,
    /// Only managers of these names.
    #[arg(long = "manager")]
    managers: Vec<String>,
}

fn main() -> ExitCode {
    match measure(&Arguments::parse()) {
        Ok(defects) if defects.is_empty() => ExitCode::SUCCESS,
        Ok(defects) => {
            defects.iter().for_each(|defect| eprintln!("DEFECT: {defect}"));
            ExitCode::FAILURE
        }
        Err(error) => {
            eprintln!("network managers: {error:#}");
            ExitCode::FAILURE
        }
    }
}

/// Prints the matrix, and returns what should not be.
fn measure(arguments: &Arguments) -> Result<Vec<String>> {
    print!("{}", INTRODUCTION.replace("RUNS", &arguments.runs.to_string()));
    let mut defects = Vec::new();
    for manager in &MANAGERS {
        if arguments.managers.is_empty() || arguments.managers.iter().any(|one| one == manager.name)
        {
            defects.extend(measure_one(manager, arguments)?);
        }
    }
    Ok(defects)
}

fn measure_one(manager: &Manager, arguments: &Arguments) -> Result<Vec<String>> {
    println!("\n## {}", manager.name);
    let mut defects = Vec::new();
    for (index, setup) in manager.setups.iter().enumerate() {
        let trial = Trial::start(setup, &arguments.tree)?;
        if index == 0 {
            println!("\n{}.", trial.versions(manager)?.join(", "));
        }
        println!("\n{}:\n\n{}", setup.title, report::header());
        for act in manager.acts {
            let mut outcomes = Vec::new();
            for run in 1..=arguments.runs {
                let outcome = trial.perform(act)?;
                let what = format!("{}, {}, {}", manager.name, setup.title, act.name);
                eprintln!("{what}, run {run} of {}", arguments.runs);
                let found = report::defects(&outcome);
                if !found.is_empty() {
                    eprintln!("{}", outcome.log);
                }
                defects.extend(found.into_iter().map(|defect| format!("{what}: {defect}")));
                outcomes.push(outcome);
            }
            println!("{}", report::row(act.name, &outcomes));
        }
    }
    Ok(defects)
}

const INTRODUCTION: &str = "\
# Network managers

What the network managers of Debian 12 do to VIPs on an interface that they configure, and what becomes
of the host's own addresses beside them. `ci/network-managers >netns-tests/network-managers.md` makes this.

One host, booted by systemd in a container, with one member of etcd on loopback and turnip's own unit; its
lease is 3 s. On eth0 the manager has 10.77.0.11/24 and fd77::11/64, turnip four VIPs of the same subnets.
A client on the same link asks all six addresses every 5 ms. Everything was done RUNS times, on 2 cores that
had much else to do; the worst of each is shown.

- An own address is *unusable* while it is away, or while the kernel still asks whether somebody else has it
  (DAD). Then a connection of the host can only come from a VIP, or from nowhere; \"and for 5 ms more\" is how
  long it went on to come from a VIP.
- A VIP is *removed* by the manager, *given up* by turnip where the interface has no carrier or is down, and
  *put behind the own* by turnip when an own address has come, so that that is the source again. *Back after*
  is how long it was away, at the longest, by the kernel's own events.
- A *gap* is the longest time in which the client got no answer; 10 ms and less are none. After a loss of
  carrier, gaps and times count from its return.
- A gap of some 1000 ms of an address that was not away for so long is a question for a neighbour that was
  lost, of the client's for the host or, where IPv6 was off for a moment, of the host's for the client: the
  kernel asks again after 1 s. VIPs are announced when they come, own addresses are not.
";
