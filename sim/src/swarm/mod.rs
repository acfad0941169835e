//! The swarm: whole plans drawn from seeds.

mod draw;
mod faults;

pub use draw::draw;
