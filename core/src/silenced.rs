//! How long a node was silent, as an operator is told.

use std::fmt;
use std::time::Duration;

/// How long a node was silent.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub struct Silenced {
    /// For how long nothing was heard of it, by etcd or heartbeats.
    pub silent: Duration,
    /// The lease that its session declared.
    pub lease: Duration,
}

impl Silenced {
    /// Whether the lease was over.
    pub fn is_over(&self) -> bool {
        self.silent >= self.lease
    }
}

impl fmt::Display for Silenced {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Silenced { silent, lease } = self;
        write!(f, "nothing was heard of it for {:.2} s", silent.as_secs_f64())?;
        write!(f, ", of a lease of {} s", lease.as_secs_f64())
    }
}
