//! x

pub mod exhaustive;
