//! Expiring sessions that fell silent (rule 3).

use std::time::Duration;

use super::membership::Membership;
use super::{Node, Purpose};
use crate::mutant::Mutant;
use crate::name::{NodeName, Revision, SessionId};
use crate::report::Report;
use crate::silence::{Mark, Patience};
use crate::store::{Compare, Op, Txn};
use crate::time::Instant;
use crate::timer::Timer;

/// Another node's session, as this node hears it.
#[derive(Clone, PartialEq, Eq, Hash, Debug)]
pub(super) struct Peer {
    session: SessionId,
    /// The write that the count belongs to.
    seen: Revision,
    /// When it was received, on the clock that pauses with our own renewals.
    heard: Mark,
    /// What the session declares; none when its record cannot be read: it is left alone.
    lease: Option<Duration>,
    /// An expiry is under way.
    pending: bool,
    /// None is tried before.
    retry_at: Instant,
}

impl Node {
    /// News of another node's session: a new write starts its count, the same one does not.
    pub(super) fn peer_heard(&mut self, node: &NodeName, now: Instant) {
        match self.view.session(node) {
            None => {
                self.peers.remove(node);
            }
            Some(known) => {
                let lease = known.readable().map(|record| record.lease());
                let peer = Peer {
                    session: SessionId(known.created),
                    seen: known.modified,
                    heard: self.silence.mark(now),
                    lease,
                    pending: false,
                    retry_at: now,
                };
                self.peers.insert(node.clone(), peer);
            }
        }
        self.schedule_expiry();
    }

    /// When `peer` has been silent long enough, unless the count is paused.
    fn expiry_due(&self, peer: &Peer) -> Option<Instant> {
        if peer.pending {
            return None;
        }
        let lease = peer.lease?;
        let lease = if self.mutated(Mutant::WaiterIgnoresDrift) {
            lease
        } else if self.mutated(Mutant::ClaimFromTheLate) {
            lease / 2
        } else {
            self.lease.patience(lease)
        };
        // After an outage of the store the other sends its next renewal within an eighteenth of its
        // lease, and then it takes as long as the one of this node that was just answered.
        let grace = lease / 12;
        let patience = Patience { lease, grace };
        self.silence.due(peer.heard, patience).map(|due| due.max(peer.retry_at))
    }

    /// Whether the other node's session looks alive: a VIP that is handed to one that is about to
    /// run out would be dark until then.
    pub(super) fn heard_lately(&self, node: &NodeName, now: Instant) -> bool {
        // With a renew interval of its own, taken to be that of this node, it speaks less often.
        let between = self.lease.renew() * 3 / 2;
        self.peers.get(node).is_some_and(|peer| {
            let silent_for = now.since(peer.heard.heard_at());
            peer.lease.is_some_and(|lease| silent_for < between.max(lease / 4))
        })
    }

    pub(super) fn schedule_expiry(&mut self) {
        match self.peers.values().filter_map(|peer| self.expiry_due(peer)).min() {
            Some(due) => self.timers.set(Timer::Expire, due),
            None => self.timers.stop(Timer::Expire),
        }
    }

    /// For the mutant of interleaving 13.
    pub(super) fn restart_counts(&mut self, now: Instant) {
        let mark = self.silence.mark(now);
        self.peers.values_mut().for_each(|peer| peer.heard = mark);
    }

    /// Deletes the sessions that are due, each with the claims of this node's own share.
    pub(super) fn expire_silent(&mut self, now: Instant) {
        let may = matches!(self.membership, Membership::Live { .. })
            && self.ear.hearing
            && self.stopping.is_none()
            && self.in_time(now);
        if !may {
            // Looked at again when the session stands, or a renewal is answered.
            return;
        }
        let due: Vec<NodeName> = self
            .peers
            .iter()
            .filter(|(_, peer)| self.expiry_due(peer).is_some_and(|due| due <= now))
            .map(|(node, _)| node.clone())
            .collect();
        for node in due {
            self.expire(&node, now);
        }
        self.schedule_expiry();
    }

    fn expire(&mut self, node: &NodeName, now: Instant) {
        let Some(peer) = self.peers.get(node) else { return };
        let (session, seen) = (peer.session, peer.seen);
        let key = self.keys.session(node);
        let share = self.share_of(node, session);
        let mut txn = self.claims_txn(&share, Some(session));
        if self.mutated(Mutant::ClaimFromTheLate) {
            if share.is_empty() {
                return;
            }
        } else {
            if !self.mutated(Mutant::ExpireUncompared) {
                txn.compares.push(Compare::ModRevision { key: key.clone(), is: seen });
            }
            txn.success.push(Op::Delete { key: key.clone() });
        }
        txn.failure.push(Op::Get { key });
        self.commit_expiry(node, share, txn, now);
    }

    fn commit_expiry(&mut self, node: &NodeName, share: Vec<usize>, txn: Txn, now: Instant) {
        let retry_at = now + self.retry_delay();
        let id = self.commit(Purpose::Expire { node: node.clone(), vips: share.clone() }, txn);
        for index in share {
            self.vips[index].pending = Some(id);
        }
        if let Some(peer) = self.peers.get_mut(node) {
            peer.pending = true;
            peer.retry_at = retry_at;
        }
    }

    pub(super) fn expiry_answered(
        &mut self,
        node: &NodeName,
        succeeded: bool,
        failed: bool,
        now: Instant,
    ) {
        if succeeded {
            self.report(Report::Expired { node: node.clone() });
        }
        let retry_at = now + self.retry_delay();
        if let Some(peer) = self.peers.get_mut(node) {
            peer.pending = false;
            peer.retry_at = retry_at;
        }
        if failed && let Membership::Contested { .. } = self.membership {
            self.timers.set(Timer::Contest, retry_at);
        }
        self.schedule_expiry();
    }
}
