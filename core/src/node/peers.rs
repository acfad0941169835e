//! The other nodes' sessions, as this node hears them: who has been silent for how long (rule 3).

use std::collections::BTreeMap;
use std::time::Duration;

use super::own::Own;
use crate::lease::{self, Lease};
use crate::mutant::Mutant;
use crate::name::{NodeName, Revision, SessionId};
use crate::records::SessionRecord;
use crate::silence::{Mark, Patience, SilenceClock};
use crate::time::Instant;
use crate::view::Known;

/// Another node's session.
#[derive(Clone, PartialEq, Eq, Hash, Debug)]
struct Peer {
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

/// All others, and the clock by which their silence counts.
#[derive(Clone, PartialEq, Eq, Hash, Debug, Default)]
pub(super) struct Peers {
    silence: SilenceClock,
    peers: BTreeMap<NodeName, Peer>,
}

/// A session that has been silent for its lease, as of the write that was seen last.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(super) struct Silent {
    pub(super) node: NodeName,
    pub(super) session: SessionId,
    pub(super) seen: Revision,
}

impl Peers {
    /// News of another node's session: a new write starts its count, the same one does not.
    pub(super) fn heard(
        &mut self,
        node: &NodeName,
        known: Option<&Known<SessionRecord>>,
        now: Instant,
    ) {
        let Some(known) = known else {
            self.peers.remove(node);
            return;
        };
        let peer = Peer {
            session: SessionId(known.created),
            seen: known.modified,
            heard: self.silence.mark(now),
            lease: known.readable().map(SessionRecord::lease),
            pending: false,
            retry_at: now,
        };
        self.peers.insert(node.clone(), peer);
    }

    /// The store is another one: nobody is known (A2).
    pub(super) fn forget_all(&mut self) {
        self.peers.clear();
    }

    // ---- own renewals, which make the count pause

    pub(super) fn renewal_sent(&mut self, now: Instant) {
        self.silence.renewal_sent(now);
    }

    /// An own renewal that was sent at `sent` was answered.
    pub(super) fn renewal_answered(&mut self, own: &Own, sent: Instant, now: Instant) {
        let outage = self.silence.renewal_answered(sent, now);
        if outage && own.mutated(Mutant::ExpiryRestarts) {
            let mark = self.silence.mark(now);
            self.peers.values_mut().for_each(|peer| peer.heard = mark);
        }
    }

    /// One failed; whether that says anything of the store: a later one may have been answered.
    pub(super) fn renewal_failed(&mut self, sent: Instant) -> bool {
        self.silence.renewal_failed(sent)
    }

    /// Whether an own renewal is unanswered, or they fail.
    pub(super) fn is_paused(&self) -> bool {
        self.silence.is_paused()
    }

    // ---- who may be expired

    /// When the next of them has been silent long enough, unless the count is paused.
    pub(super) fn next_due(&self, own: &Own, lease: Lease) -> Option<Instant> {
        self.peers.values().filter_map(|peer| self.due(own, lease, peer)).min()
    }

    fn due(&self, own: &Own, own_lease: Lease, peer: &Peer) -> Option<Instant> {
        let lease = peer.lease.filter(|_| !peer.pending)?;
        let patience = if own.mutated(Mutant::WaiterIgnoresDrift) {
            lease
        } else if own.mutated(Mutant::ClaimFromTheLate) {
            lease / 2
        } else if own.mutated(Mutant::PatienceDoubled) {
            2 * own_lease.patience(lease)
        } else {
            own_lease.patience(lease)
        };
        let grace = match own.mutated(Mutant::NoGrace) {
            true => Duration::ZERO,
            false => lease::grace(patience),
        };
        let patience = Patience { lease: patience, grace };
        self.silence.due(peer.heard, patience).map(|due| due.max(peer.retry_at))
    }

    /// Those that have been silent long enough by now.
    pub(super) fn silent(&self, own: &Own, lease: Lease, now: Instant) -> Vec<Silent> {
        let is_due = |peer: &&Peer| self.due(own, lease, peer).is_some_and(|due| due <= now);
        let silent = |(node, peer): (&NodeName, &Peer)| {
            is_due(&peer).then(|| Silent {
                node: node.clone(),
                session: peer.session,
                seen: peer.seen,
            })
        };
        self.peers.iter().filter_map(silent).collect()
    }

    /// An expiry of `node` is under way, and none is tried again before `retry_at`.
    pub(super) fn expiring(&mut self, node: &NodeName, retry_at: Instant) {
        if let Some(peer) = self.peers.get_mut(node) {
            (peer.pending, peer.retry_at) = (true, retry_at);
        }
    }

    /// It was answered, or not.
    pub(super) fn expiry_answered(&mut self, node: &NodeName, retry_at: Instant) {
        if let Some(peer) = self.peers.get_mut(node) {
            (peer.pending, peer.retry_at) = (false, retry_at);
        }
    }

    /// Whether a node's session looks alive: a VIP that is handed to one that is about to run out
    /// would be dark until then.
    pub(super) fn heard_lately(&self, node: &NodeName, own_lease: Lease, now: Instant) -> bool {
        self.peers.get(node).is_some_and(|peer| {
            let silent_for = now.since(peer.heard.heard_at());
            peer.lease.is_some_and(|lease| silent_for < own_lease.alive_within(lease))
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::records::Nonce;

    const NOW: Instant = Instant::from_nanos(1_000_000_000);

    fn known(modified: i64) -> Known<SessionRecord> {
        let record = SessionRecord {
            lease_ms: 3_000,
            host: crate::HostId("b".into()),
            nonce: Nonce { process: 1, count: 1 },
        };
        Known { record: Ok(record), created: Revision(5), modified: Revision(modified) }
    }

    fn peers() -> (Own, Lease, Peers, NodeName) {
        let lease = Lease::new(Duration::from_secs(3)).unwrap();
        (super::super::testing::own(lease), lease, Peers::default(), "b".parse().unwrap())
    }

    #[test]
    fn a_session_is_due_after_its_lease_and_the_margin_since_its_last_write_was_heard() {
        let (own, lease, mut peers, b) = peers();
        peers.heard(&b, Some(&known(6)), NOW);
        let due = NOW + Duration::from_millis(3_030);
        assert_eq!(peers.next_due(&own, lease), Some(due));
        assert!(peers.silent(&own, lease, due - Duration::from_nanos(1)).is_empty());
        let session = SessionId(Revision(5));
        let silent = Silent { node: b.clone(), session, seen: Revision(6) };
        assert_eq!(peers.silent(&own, lease, due), [silent]);
    }

    #[test]
    fn an_expiry_that_is_under_way_is_not_begun_again_and_after_its_answer_a_while_later() {
        let (own, lease, mut peers, b) = peers();
        peers.heard(&b, Some(&known(6)), NOW);
        let late = NOW + Duration::from_secs(9);
        peers.expiring(&b, late);
        assert!(peers.silent(&own, lease, late).is_empty());
        peers.expiry_answered(&b, late + Duration::from_secs(1));
        assert_eq!(peers.next_due(&own, lease), Some(late + Duration::from_secs(1)));
    }

    #[test]
    fn who_is_gone_or_cannot_be_read_is_never_due() {
        let (own, lease, mut peers, b) = peers();
        let mut unreadable = known(6);
        unreadable.record = Err(crate::records::decode::<SessionRecord>(b"x").unwrap_err());
        peers.heard(&b, Some(&unreadable), NOW);
        assert_eq!(peers.next_due(&own, lease), None);
        peers.heard(&b, Some(&known(7)), NOW);
        peers.heard(&b, None, NOW);
        assert_eq!(peers.next_due(&own, lease), None);
        assert!(!peers.heard_lately(&b, lease, NOW));
    }
}
