//! Ending with addresses, fence and session left to the next process on this host (rule 14.6).
//!
//! It is as after a kill, at a good moment: the session has just been renewed, so the next process has a whole
//! lease to go on from it, and the kernel keeps what is held for as long and no longer.

use super::Node;
use crate::action::{Action, Exit};
use crate::time::Instant;
use crate::timer::Timer;

/// Since when a node has been leaving, and until when it waits for a renewal.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub(super) struct Leaving {
    since: Instant,
    until: Instant,
}

impl Node {
    pub(super) fn leave(&mut self, now: Instant) {
        if self.shutdown.has_begun() || self.leaving.is_some() {
            return;
        }
        let until = now + self.cluster.lease().renew();
        self.leaving = Some(Leaving { since: now, until });
        self.out.timers.set(Timer::Leave, until);
        self.out.timers.set(Timer::Renew, now);
    }

    /// Ends when a renewal that was made since is in the store, and the kernel knows until when that lets
    /// hold; or when that takes too long.
    pub(super) fn advance_leaving(&mut self, now: Instant) {
        let Some(Leaving { since, until }) = self.leaving else { return };
        if self.shutdown.has_begun() {
            self.leaving = None;
            return;
        }
        let session = &self.cluster.session;
        let is_renewed = session.committed() >= Some(since) && !self.out.asks_kernel();
        let has_none = session.id().is_none() && !session.is_coming();
        if is_renewed || has_none || until <= now {
            self.shutdown.left();
            self.out.push(Action::Exit(Exit::Left));
        }
    }
}
