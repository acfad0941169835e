//! Everything that can happen in a small world, with the real core in it.
//!
//! Random walks miss what a breadth-first search finds. Here two or three real
//! [`Node`](turnip_core::Node)s, each with the real [kernel adapter](turnip_core::adapter), share
//! VIPs, a linearizable store and a little discrete time; every order of what may happen within
//! the bounds is tried, nearest first. At no instant may two hosts answer for one address; and when
//! all goes well from then on, somebody must.
//!
//! What a world can have: clocks at the slowest and the fastest rate that the drift margin permits;
//! watches that lag as long as they like, or stand still; requests that are lost, answered late, or
//! land after nobody waits for them; daemons that stall, are killed, resume, or start with another
//! configuration file; calls that the kernel reads long after they were sent, of an address or of
//! more than fit into one; a fence that silences an address exactly at its deadline; and an operator
//! who moves VIPs to and fro, drains and stops. Where hosts [hear each other](Hearing), it can also have
//! heartbeats that are lost, late, doubled and out of order, lists that change, and two machines of one
//! name; there a session must not be gone before its host's deadline, either.
//!
//! What it leaves out, to be small: renewals are sent at ticks and meet their fate there, the one of
//! the first host first; a watch tells the renewals that it has in store at once; calls that put
//! addresses there, or let them go on, are quick unless a world says otherwise; nobody meddles with
//! addresses or with the fence, and no kernel refuses anything. Some worlds are
//! [prompt](Options::prompt): what is on its way arrives first, so that more time can be looked at.
//!
//! The search is our own, not a library's: the same node given the same input does the same again,
//! so each step of the core is computed once and remembered, and a state is some thirty small
//! numbers instead of several kilobytes. States and nodes are known by 128 bits, so "all there are"
//! means: unless two of them collide, which is not to be expected. That needs memory that grows while the model runs, which
//! a model checker such as stateright does not give to its models.

mod adapters;
mod arena;
mod bounds;
mod check;
mod daemon;
mod explain;
mod files;
mod frontier;
mod hearing;
mod hearing_worlds;
mod hosts;
mod kernel;
mod messages;
mod moves;
mod mutants;
mod rest;
mod search;
mod state;
mod store;
mod world;
mod worlds;

use std::fmt;

pub use bounds::Options;
pub use check::check;
pub use files::Files;
pub use hearing::{Hearing, Ticks};
pub use mutants::{where_it_shows, why_not};
pub use world::Violation;
pub use worlds::{SmallWorld, large_worlds, small_worlds, wide_world};

use world::World;

/// What a search found.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Report {
    /// How many different states were visited.
    pub states: usize,
    /// How many different states of a single node, and steps of one, they consist of.
    pub nodes: usize,
    /// How many different steps of a single node were computed.
    pub steps: usize,
    /// How many different kernels, with what waited for them.
    pub kernels: usize,
    /// From how many states of the last tick on it was checked that all comes to rest.
    pub rested: usize,
    /// How many hosts, at the most, have another session in one state than when all began, or none.
    pub expired: usize,
    /// For how many ticks an address was nobody's that somebody could have, where that is bounded.
    pub gap: u8,
    /// How many moves the farthest state is away.
    pub depth: usize,
    /// Whether everything within the bounds was visited.
    pub exhausted: bool,
    /// What went wrong, if anything did, and the shortest way there, a line a move.
    pub violation: Option<(Violation, Vec<String>)>,
}

/// All comes to rest in so many ticks, and six leases.
const REST_TICKS: u32 = 20;

/// Searches the world within its bounds.
///
/// # Panics
/// When the options make no world: more hosts than three, a lease too short to be one.
pub fn run(options: Options) -> Report {
    run_with_progress(options, |_, _| {})
}

/// The same; `progress` is told the number of states and the depth once in a million states.
///
/// # Panics
/// As [`run`].
pub fn run_with_progress(options: Options, mut progress: impl FnMut(usize, usize)) -> Report {
    assert!((1..=3).contains(&options.nodes), "one to three hosts, not {}", options.nodes);
    let mut world = World::new(options, bounds::lease(&options));
    let bounds = search::Bounds {
        states_max: options.states_max,
        rest_ticks_max: REST_TICKS + 6 * options.lease_ticks,
        rest_zeros: options.rest_zeros,
    };
    let found = search::search(&mut world, bounds, |states, depth, _| progress(states, depth));
    let (nodes, steps) = world.daemons.len();
    let violation = found.violation.map(|(violation, path)| {
        let lines = explain::explain(&mut world, &path);
        (violation, lines)
    });
    Report {
        states: found.states,
        nodes,
        steps,
        kernels: world.adapters.len(),
        rested: found.rested,
        expired: found.expired,
        gap: found.gap,
        depth: found.depth,
        exhausted: found.exhausted,
        violation,
    }
}

impl fmt::Display for Violation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Violation::Overlap(one, other) => {
                write!(f, "{one} and {other} answer for the same address at the same instant")
            }
            Violation::Nobody(address) => {
                write!(f, "at rest nobody holds {address}, although somebody could")
            }
            Violation::Gap(ticks) => {
                write!(f, "for {ticks} ticks nobody holds an address, although somebody could")
            }
            Violation::Deleted(name) => {
                write!(f, "the session of {name} is gone before its deadline")
            }
            Violation::Refusal(name) => {
                write!(f, "{name} refuses to run although nobody else has its name")
            }
        }
    }
}

impl fmt::Display for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Report {
            states,
            nodes,
            steps,
            kernels,
            rested,
            expired,
            gap,
            depth,
            exhausted,
            violation,
        } = self;
        let all = match (exhausted, violation) {
            (true, _) => "all there are",
            (false, None) => "and there are more",
            (false, Some(_)) => "until then",
        };
        write!(
            f,
            "{states} states visited ({all}), up to {depth} moves deep; {nodes} states of single nodes, \
             {steps} steps, {kernels} kernels; {rested} come to rest; {expired} of the first sessions gone, gap {gap}"
        )?;
        if let Some((violation, path)) = violation {
            write!(f, "\n{violation}, after {} moves:", path.len())?;
            for line in path {
                write!(f, "\n  {line}")?;
            }
        }
        Ok(())
    }
}
