//! What became of datagrams, counted since the start.

use std::sync::atomic::{AtomicU64, Ordering};

use serde::{Deserialize, Serialize};

use super::wire::Reject;

/// Counters that the reading thread and the daemon share.
#[derive(Default, Debug)]
pub struct Counters {
    sent: AtomicU64,
    unsent: AtomicU64,
    taken: AtomicU64,
    malformed: AtomicU64,
    misaddressed: AtomicU64,
    forged: AtomicU64,
    no_key: AtomicU64,
    replayed: AtomicU64,
    dropped: AtomicU64,
}

/// The counters at one instant.
#[derive(Clone, Copy, PartialEq, Eq, Default, Debug, Serialize, Deserialize)]
pub struct Counts {
    /// Datagrams sent.
    pub sent: u64,
    /// Those that the kernel did not take.
    pub unsent: u64,
    /// Datagrams received and passed on, or answered.
    pub taken: u64,
    /// Rejected: no datagram of this version of turnip.
    pub malformed: u64,
    /// Rejected: for another cluster or another node.
    pub misaddressed: u64,
    /// Rejected: not authenticated with a known key.
    pub forged: u64,
    /// Rejected: the key is not known yet.
    pub no_key: u64,
    /// Rejected: doubled, overtaken, or of a process that has not shown that it is alive.
    pub replayed: u64,
    /// Authentic, but the daemon was too busy to take them.
    pub dropped: u64,
}

impl Counters {
    pub(super) fn sent(&self, went: bool) {
        add(if went { &self.sent } else { &self.unsent });
    }

    pub(super) fn taken(&self) {
        add(&self.taken);
    }

    pub(super) fn replayed(&self) {
        add(&self.replayed);
    }

    pub(super) fn dropped(&self) {
        add(&self.dropped);
    }

    pub(super) fn rejected(&self, why: Reject) {
        add(match why {
            Reject::Malformed => &self.malformed,
            Reject::Misaddressed => &self.misaddressed,
            Reject::Forged => &self.forged,
            Reject::NoKey => &self.no_key,
        });
    }

    /// As they are now.
    pub fn read(&self) -> Counts {
        let read = |counter: &AtomicU64| counter.load(Ordering::Relaxed);
        Counts {
            sent: read(&self.sent),
            unsent: read(&self.unsent),
            taken: read(&self.taken),
            malformed: read(&self.malformed),
            misaddressed: read(&self.misaddressed),
            forged: read(&self.forged),
            no_key: read(&self.no_key),
            replayed: read(&self.replayed),
            dropped: read(&self.dropped),
        }
    }
}

fn add(counter: &AtomicU64) {
    counter.fetch_add(1, Ordering::Relaxed);
}
