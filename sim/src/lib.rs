//! turnip's simulator.

#[cfg(not(madsim))]
compile_error!(
    "turnip-sim needs the deterministic executor: build with `--cfg madsim`, as .cargo/config.toml in the workspace does"
);

mod bounds;
mod check;
pub mod cli;
mod daemon;
mod judge;
mod naive;
mod plan;
mod record;
mod rng;
mod run;
mod scenario;
mod shrink;
mod swarm;
mod time;
mod timeline;
mod world;
