//! turnip's simulator.

#[cfg(not(madsim))]
compile_error!(
    "turnip-sim needs the deterministic executor: build with `--cfg madsim`, as .cargo/config.toml in the workspace does"
);

pub mod check;
pub mod daemon;
pub mod judge;
pub mod naive;
pub mod plan;
pub mod record;
pub mod rng;
pub mod run;
pub mod swarm;
pub mod time;
pub mod world;
