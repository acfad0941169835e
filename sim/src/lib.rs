//! turnip's simulator: whole clusters in one deterministic process, from one seed.
//!
//! The daemon's own driver and state machine run under madsim, one madsim node a host. Everything
//! else is a model of ours, in `world`: etcd's members with raft among them, each host's kernel
//! with its address table and turnip's fence, each host's clock, the network. A `plan` says what
//! goes wrong when; a `swarm` draws plans from seeds, a `scenario` is one written by hand. `check`
//! watches in true time who answers for which VIP, and `judge` says what of that must not be.

#[cfg(not(madsim))]
compile_error!(
    "turnip-sim needs the deterministic executor: build with `--cfg madsim`, as .cargo/config.toml in the workspace does"
);

mod bounds;
mod check;
pub mod cli;
mod daemon;
mod drawing;
pub mod exhaustive;
mod judge;
mod mutants;
mod naive;
mod plan;
pub mod play;
mod record;
mod rng;
mod run;
mod scenario;
pub mod script;
mod shrink;
mod swarm;
#[cfg(test)]
mod tests;
mod time;
mod timeline;
mod timing;
mod world;
