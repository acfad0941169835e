//! The other nodes' sessions, as this node hears them: who has been silent for how long (rule 3).

use std::collections::BTreeMap;
use std::time::Duration;

use super::own::Own;
use crate::heartbeat::Heartbeat;
use crate::lease::{self, Lease};
use crate::mutant::Mutant;
use crate::name::{NodeName, Revision, SessionId};
use crate::records::SessionRecord;
use crate::report::Report;
use crate::silence::{Mark, Patience, SilenceClock};
use crate::silenced::Silenced;
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
    /// When this node last acknowledged a heartbeat of the session.
    acknowledged: Option<Mark>,
    /// When a heartbeat of it was last received, acknowledged or not.
    beat_at: Option<Instant>,
    /// The newest heartbeat says that its sender knows of its own last write: it hears what happens in the
    /// store.
    hears: bool,
    /// Since when this node knows of the session.
    since: Instant,
    /// It was told that no heartbeat comes.
    path_lost: bool,
    /// Who may expire it.
    expired_by: ExpiredBy,
    /// This node has decided to expire it as of that write: until a later one is known, nothing is
    /// acknowledged (rule 10.4).
    barred: Option<Revision>,
    /// It was found after the store had changed (A2), at this write: until its node says that it has heard
    /// of a later one, it may hold by what was true before.
    found: Option<Revision>,
    /// The newest revision at which a VIP was named for the session.
    named_at: Revision,
    /// What the session's node does not say that it knows and holds.
    unheard: Option<Unheard>,
    /// What the session declares; none when its record cannot be read: it is left alone.
    lease: Option<Duration>,
    /// An expiry is under way.
    pending: bool,
    /// None is tried before.
    retry_at: Instant,
}

/// VIPs were named for a session, and its node does not say that it knows (rule 10.10).
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
struct Unheard {
    /// At this revision.
    at: Revision,
    /// Since when this node waits for that, on the clock that pauses while the store does not answer: it
    /// may be that nobody hears of anything.
    since: Mark,
}

/// Who may expire a session that falls silent.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
enum ExpiredBy {
    /// Everybody: it has no list (rule 3).
    Anybody,
    /// Those that are listed, of which this node is one (rule 10.2).
    Listed,
    /// Those that are listed, of which it is none: it waits for long (rule 10.7).
    Others,
}

impl ExpiredBy {
    fn of(own: &Own, record: Option<&SessionRecord>) -> Self {
        match record.map(|record| &record.witnesses) {
            Some(witnesses) if witnesses.contains(own.name()) => ExpiredBy::Listed,
            Some(witnesses) if !witnesses.is_empty() => {
                match own.mutated(Mutant::UnlistedExpires) {
                    true => ExpiredBy::Listed,
                    false => ExpiredBy::Others,
                }
            }
            _ => ExpiredBy::Anybody,
        }
    }
}

/// All others, and the clock by which their silence counts.
#[derive(Clone, PartialEq, Eq, Hash, Debug, Default)]
pub(super) struct Peers {
    silence: SilenceClock,
    peers: BTreeMap<NodeName, Peer>,
    /// When this process first wrote the own session: whoever had the name before may have acknowledged
    /// until then (rule 10.2, interleaving 21).
    first_written: Option<Mark>,
    /// The store has been another one before.
    store_changed: bool,
    /// The newest revision that any of them says it knows, and when one was the first to say so.
    newest: Option<(Revision, Instant)>,
}

/// A session that has been silent for its lease, as of the write that was seen last.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(super) struct Silent {
    pub(super) node: NodeName,
    pub(super) session: SessionId,
    pub(super) seen: Revision,
    /// It has a list: the own session must be as it is known, too (rule 10.2).
    pub(super) is_listed: bool,
    /// How long it has been silent, for whoever is told of it.
    pub(super) silence: Silence,
}

/// How long a session has been silent, and may be.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub(super) struct Silence {
    /// When it was last heard, by whichever way.
    pub(super) since: Instant,
    /// What it declares.
    pub(super) lease: Duration,
}

impl Silence {
    /// As an operator is told at that time.
    pub(super) fn by(self, now: Instant) -> Silenced {
        Silenced { silent: now.since(self.since), lease: self.lease }
    }
}

impl Peer {
    fn silence(&self) -> Silence {
        // Heartbeats are part of it only where the session is listed.
        let acknowledged = self.acknowledged.filter(|_| self.expired_by == ExpiredBy::Listed);
        let heard = Some(self.heard).max(acknowledged).unwrap_or(self.heard);
        Silence { since: heard.heard_at(), lease: self.lease.unwrap_or_default() }
    }

    /// For how long no heartbeat of it has come. Who was met only just now may not have sent one yet.
    fn without_beat(&self, now: Instant) -> Duration {
        now.since(self.beat_at.unwrap_or(self.since))
    }

    /// When the last sign of life came, by the store or by the other way.
    fn last_heard(&self) -> Instant {
        self.beat_at.map_or(self.heard.heard_at(), |at| at.max(self.heard.heard_at()))
    }
}

impl Peers {
    /// News of another node's session: a new write starts its count, the same one does not.
    pub(super) fn heard(
        &mut self,
        own: &Own,
        node: &NodeName,
        known: Option<&Known<SessionRecord>>,
        now: Instant,
    ) {
        let Some(known) = known else {
            self.peers.remove(node);
            return;
        };
        let session = SessionId(known.created);
        let before = self.peers.remove(node);
        let is_first = before.is_none();
        let before = before.filter(|before| before.session == session);
        let heard = match is_first && own.mutated(Mutant::SilentFromBefore) {
            true => self.silence.mark(Instant::from_nanos(0)),
            false => self.silence.mark(now),
        };
        let peer = Peer {
            session,
            seen: known.modified,
            heard,
            acknowledged: before.as_ref().and_then(|before| before.acknowledged),
            beat_at: before.as_ref().and_then(|before| before.beat_at),
            hears: false,
            since: before.as_ref().map_or(now, |before| before.since),
            path_lost: before.as_ref().is_some_and(|before| before.path_lost),
            expired_by: ExpiredBy::of(own, known.readable()),
            barred: None,
            found: match &before {
                Some(before) => before.found,
                None => self.store_changed.then_some(known.modified),
            },
            named_at: before.as_ref().map(|before| before.named_at).unwrap_or_default(),
            unheard: before.and_then(|before| before.unheard),
            lease: known.readable().map(|record| match own.mutated(Mutant::LeaseUnlimited) {
                true => record.declared_lease(),
                false => record.lease(),
            }),
            pending: false,
            retry_at: now,
        };
        self.peers.insert(node.clone(), peer);
    }

    // ---- heartbeats

    /// A heartbeat of a node's session was received. Whether nothing speaks against acknowledging it, as
    /// far as that session goes (rules 10.4, 10.7 and 10.10). `is_answered`: this node sends renewals; whether
    /// they are answered the count of silence knows.
    pub(super) fn beat(
        &mut self,
        own: &Own,
        node: &NodeName,
        heartbeat: &Heartbeat,
        is_answered: bool,
        now: Instant,
    ) -> bool {
        let Some(peer) = self.peers.get_mut(node) else { return false };
        if peer.session != heartbeat.session {
            return own.mutated(Mutant::UnknownSessionAcknowledged);
        }
        peer.beat_at = Some(now);
        if self.newest.is_none_or(|(newest, _)| newest < heartbeat.complete_to) {
            self.newest = Some((heartbeat.complete_to, now));
        }
        peer.hears = heartbeat.complete_to >= peer.seen;
        let is_aware = heartbeat.modified == peer.seen || own.mutated(Mutant::UnawareAcknowledged);
        peer.found = peer.found.filter(|found| !is_aware || peer.seen <= *found);
        peer.unheard = match peer.unheard {
            _ if heartbeat.complete_to >= peer.named_at => None,
            Some(unheard) if is_answered && heartbeat.complete_to < unheard.at => Some(unheard),
            _ => Some(Unheard { at: peer.named_at, since: self.silence.mark(now) }),
        };
        let lease = peer.lease.unwrap_or_default();
        let hearing = lease::hearing_time(lease);
        let patience = Patience { lease: hearing, grace: hearing };
        let is_deaf = peer.unheard.is_some_and(|unheard| {
            self.silence.due(unheard.since, patience).is_some_and(|due| due <= now)
        }) && !own.mutated(Mutant::DeafAcknowledged);
        // It could not hold by another acknowledgement: whoever is alive and does not write keeps nothing.
        let longest = own.config.heartbeats.as_ref().map(|config| config.without_store);
        let longest = longest.map(|longest| own.config.lease.holding_without_store(longest));
        let is_unwritten = longest
            .is_some_and(|longest| now.since(peer.heard.heard_at()) + lease >= longest)
            && !own.mutated(Mutant::WithoutStoreForEver);
        let is_barred = peer.barred.is_some_and(|at| heartbeat.modified <= at)
            && !own.mutated(Mutant::AcknowledgedWhileExpiring);
        !is_deaf && !is_unwritten && !is_barred && peer.found.is_none()
    }

    /// A heartbeat of that session is acknowledged: its silence counts from here.
    pub(super) fn acknowledge(&mut self, own: &Own, node: &NodeName, now: Instant) {
        let mark = self.silence.mark(now);
        if let Some(peer) = self.peers.get_mut(node)
            && !own.mutated(Mutant::AcknowledgedCountsOn)
        {
            peer.acknowledged = Some(mark);
        }
    }

    /// When one of them last said that it knows more of the store than any has said before.
    pub(super) fn news_heard_at(&self) -> Option<Instant> {
        self.newest.map(|(_, at)| at)
    }

    /// Whether a heartbeat of that node came lately.
    pub(super) fn hears(&self, node: &NodeName, own_lease: Lease, now: Instant) -> bool {
        self.peers.get(node).is_some_and(|peer| {
            let shorter = peer.lease.unwrap_or_default().min(own_lease.duration());
            peer.without_beat(now) < lease::unheard_time(shorter)
        })
    }

    /// Whether an expiry of that session may be under way: what was heard before is not acknowledged
    /// any more.
    pub(super) fn is_barred(&self, node: &NodeName) -> bool {
        self.peers.get(node).is_some_and(|peer| peer.barred.is_some())
    }

    /// A VIP was named for that session at a revision.
    pub(super) fn named(
        &mut self,
        node: &NodeName,
        session: SessionId,
        at: Revision,
        now: Instant,
    ) {
        if let Some(peer) = self.peers.get_mut(node)
            && peer.session == session
        {
            peer.named_at = peer.named_at.max(at);
            peer.unheard.get_or_insert(Unheard { at, since: self.silence.mark(now) });
        }
    }

    /// Of these nodes, which should send heartbeats: whose do not come any more, and whose come again.
    pub(super) fn path_news<'a>(
        &mut self,
        nodes: impl Iterator<Item = &'a NodeName>,
        now: Instant,
    ) -> impl Iterator<Item = Report> {
        let (mut lost, mut found) = (Vec::new(), Vec::new());
        for node in nodes {
            let Some(peer) = self.peers.get_mut(node) else { continue };
            let Some(lease) = peer.lease else { continue };
            let is_lost = peer.without_beat(now) >= lease;
            if std::mem::replace(&mut peer.path_lost, is_lost) != is_lost {
                if is_lost { &mut lost } else { &mut found }.push(node.clone());
            }
        }
        let reports = [Report::PathsLost { nodes: lost }, Report::PathsFound { nodes: found }];
        reports.into_iter().filter(|report| match report {
            Report::PathsLost { nodes } | Report::PathsFound { nodes } => !nodes.is_empty(),
            _ => true,
        })
    }

    /// Since when this node knows of a node's session.
    pub(super) fn known_since(&self, node: &NodeName) -> Option<Instant> {
        self.peers.get(node).map(|peer| peer.since)
    }

    /// This process has written its session now, for the first time.
    pub(super) fn own_session_written(&mut self, now: Instant) {
        self.first_written = Some(self.silence.mark(now));
    }

    /// The own session is over.
    pub(super) fn own_session_over(&mut self) {
        self.first_written = None;
    }

    /// A write of the own session is committed. It says nothing of an expiry that may still land.
    pub(super) fn own_write(&mut self, own: &Own) {
        if own.mutated(Mutant::BarEndsWithOwnWrite) {
            self.peers.values_mut().for_each(|peer| peer.barred = None);
        }
    }

    /// When the last sign of life of that session came: for people.
    pub(super) fn last_heard(&self, node: &NodeName, session: SessionId) -> Option<Instant> {
        let peer = self.peers.get(node).filter(|peer| peer.session == session)?;
        Some(peer.last_heard())
    }

    /// The store is another one: nobody is known (A2).
    pub(super) fn forget_all(&mut self) {
        self.peers.clear();
        self.store_changed = true;
        self.newest = None;
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
        let (from, lease) = match peer.expired_by {
            ExpiredBy::Anybody => (peer.heard, patience),
            ExpiredBy::Listed => {
                let written = self.first_written;
                let written = written.filter(|_| !own.mutated(Mutant::SilentFromBeforeSession));
                (Some(peer.heard).max(peer.acknowledged).max(written)?, patience)
            }
            ExpiredBy::Others => (peer.heard, own_lease.patience(own.without_store())),
        };
        let patience = Patience { lease, grace };
        self.silence.due(from, patience).map(|due| due.max(peer.retry_at))
    }

    /// The shortest lease that another session declares.
    pub(super) fn shortest_lease(&self) -> Option<Duration> {
        self.peers.values().filter_map(|peer| peer.lease).min()
    }

    /// Those that have been silent long enough by now.
    pub(super) fn silent(&self, own: &Own, lease: Lease, now: Instant) -> Vec<Silent> {
        let is_due = |peer: &&Peer| self.due(own, lease, peer).is_some_and(|due| due <= now);
        let silent = |(node, peer): (&NodeName, &Peer)| {
            is_due(&peer).then(|| Silent {
                node: node.clone(),
                session: peer.session,
                seen: peer.seen,
                is_listed: peer.expired_by != ExpiredBy::Anybody,
                silence: peer.silence(),
            })
        };
        self.peers.iter().filter_map(silent).collect()
    }

    /// The silence of a node's session, unless an expiry of this node's is under way: its answer says more.
    pub(super) fn silence_unless_expiring(&self, node: &NodeName) -> Option<Silence> {
        self.peers.get(node).filter(|peer| !peer.pending).map(Peer::silence)
    }

    /// An expiry of `node` is under way, and none is tried again before `retry_at`.
    pub(super) fn expiring(&mut self, node: &NodeName, retry_at: Instant) {
        if let Some(peer) = self.peers.get_mut(node) {
            (peer.pending, peer.retry_at) = (true, retry_at);
            peer.barred = Some(peer.seen);
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
            let Some(lease) = peer.lease else { return false };
            let within = own_lease.alive_within(lease);
            let written_at = peer.heard.heard_at();
            // Whose heartbeats are heard writes seldom while all is well, and at once when not. One whose
            // watch is dead is heard, too, and would not learn what it is handed.
            now.since(written_at) < within
                || (peer.hears
                    && peer.beat_at.is_some_and(|at| now.since(at) < within)
                    && now.since(written_at) < lease + within)
        })
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;
    use crate::records::Nonce;

    const NOW: Instant = Instant::from_nanos(1_000_000_000);

    fn known(modified: i64) -> Known<SessionRecord> {
        let record = SessionRecord {
            lease_ms: 3_000,
            host: crate::HostId("b".into()),
            nonce: Nonce { process: 1, count: 1 },
            witnesses: BTreeSet::new(),
        };
        Known { record: Ok(record), created: Revision(5), modified: Revision(modified), digest: 0 }
    }

    fn peers() -> (Own, Lease, Peers, NodeName) {
        let lease = Lease::new(Duration::from_secs(3)).unwrap();
        (super::super::testing::own(lease), lease, Peers::default(), "b".parse().unwrap())
    }

    #[test]
    fn a_session_is_due_after_its_lease_and_the_margin_since_its_last_write_was_heard() {
        let (own, lease, mut peers, b) = peers();
        peers.heard(&own, &b, Some(&known(6)), NOW);
        let due = NOW + Duration::from_millis(3_030);
        assert_eq!(peers.next_due(&own, lease), Some(due));
        assert!(peers.silent(&own, lease, due - Duration::from_nanos(1)).is_empty());
        let session = SessionId(Revision(5));
        let silence = Silence { since: NOW, lease: Duration::from_secs(3) };
        let seen = Revision(6);
        let silent = Silent { node: b.clone(), session, seen, is_listed: false, silence };
        assert_eq!(peers.silent(&own, lease, due), [silent]);
    }

    #[test]
    fn an_expiry_that_is_under_way_is_not_begun_again_and_after_its_answer_a_while_later() {
        let (own, lease, mut peers, b) = peers();
        peers.heard(&own, &b, Some(&known(6)), NOW);
        let late = NOW + Duration::from_secs(9);
        peers.expiring(&b, late);
        assert!(peers.silent(&own, lease, late).is_empty());
        peers.expiry_answered(&b, late + Duration::from_secs(1));
        assert_eq!(peers.next_due(&own, lease), Some(late + Duration::from_secs(1)));
    }

    /// Rule 9.10.
    #[test]
    fn a_lease_beyond_what_can_be_configured_is_waited_for_no_longer_than_the_longest_that_can() {
        let of_mutant = |mutant: Option<Mutant>| {
            let (mut own, lease, mut peers, b) = peers();
            if let Some(mutant) = mutant {
                own.set_mutant(mutant);
            }
            let mut endless = known(6);
            if let Ok(record) = &mut endless.record {
                record.lease_ms = u64::MAX / 1_000_000_000;
            }
            peers.heard(&own, &b, Some(&endless), NOW);
            peers.next_due(&own, lease) == Some(NOW + lease.patience(Lease::DURATION_MAX))
        };
        assert!(of_mutant(None) && !of_mutant(Some(Mutant::LeaseUnlimited)));
    }

    #[test]
    fn who_is_gone_or_cannot_be_read_is_never_due() {
        let (own, lease, mut peers, b) = peers();
        let mut unreadable = known(6);
        unreadable.record = Err(crate::records::decode::<SessionRecord>(b"x").unwrap_err());
        peers.heard(&own, &b, Some(&unreadable), NOW);
        assert_eq!(peers.next_due(&own, lease), None);
        peers.heard(&own, &b, Some(&known(7)), NOW);
        peers.heard(&own, &b, None, NOW);
        assert_eq!(peers.next_due(&own, lease), None);
        assert!(!peers.heard_lately(&b, lease, NOW));
    }
}
