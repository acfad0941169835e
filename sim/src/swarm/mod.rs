//! The swarm: whole plans drawn from seeds.

mod draw;
mod faults;
mod plots;

pub use draw::draw;
