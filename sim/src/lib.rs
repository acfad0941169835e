//! turnip's simulator.

#[cfg(not(madsim))]
compile_error!(
    "turnip-sim needs the deterministic executor: build with `--cfg madsim`, as .cargo/config.toml in the workspace does"
);

pub mod check;
pub mod plan;
pub mod record;
pub mod rng;
pub mod time;
pub mod world;
