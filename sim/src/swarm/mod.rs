//! The swarm: whole plans drawn from seeds.

mod announcing;
mod configs;
mod draw;
mod drills;
mod faults;
mod health;
mod hearing;
mod hooks;
mod patterns;
mod rollbacks;
pub mod runner;

pub use draw::draw;
