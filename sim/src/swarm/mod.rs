//! The swarm: whole plans drawn from seeds.

pub mod crowd;
mod draw;
mod faults;
mod plots;

pub use draw::draw;
