//! The swarm: whole plans drawn from seeds.

mod announcing;
mod answers;
mod configs;
mod draw;
mod drills;
mod faults;
mod following;
mod health;
mod hearing;
mod hooks;
mod patterns;
mod reloads;
mod rollbacks;
pub mod runner;

pub use draw::draw;
