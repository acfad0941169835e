//! Rule 10 in the node: who is listed, what is sent and acknowledged, and what that lets this node hold.

use std::collections::BTreeSet;
use std::net::SocketAddr;
use std::time::Duration;

use super::cluster::{Cluster, News};
use super::consent::Standing;
use super::outbox::{Outbox, Purpose};
use super::own::Own;
use crate::action::Action;
use crate::heartbeat::{Acknowledgement, Addressee, Datagram, Heartbeat, HeartbeatKeys};
use crate::lease;
use crate::mutant::Mutant;
use crate::name::{NodeName, Revision, SessionId, VipName};
use crate::records::{SessionRecord, encode};
use crate::report::Report;
use crate::store::{Compare, Op, Txn};
use crate::time::Instant;
use crate::timer::Timer;
use crate::view::Known;

impl Cluster {
    /// Who is to be listed in the own session: everybody else who has one, as long as all of them speak
    /// rule 10; else nobody (rules 10.1 and 10.6). As long as those who are listed acknowledge, one that has
    /// come only just now, and acknowledged nothing yet, is not added: it would take their consent away.
    pub(super) fn witnesses(&self, own: &Own, now: Instant) -> BTreeSet<NodeName> {
        // After a boot nobody could tell its session from another machine's of the same name (rule 10.8).
        if own.config.heartbeats.is_none() || own.config.host.machine().is_none() {
            return BTreeSet::new();
        }
        let others = self.view.nodes_with_session().filter(|node| *node != own.name());
        let hears = |node: &NodeName| self.view.heartbeats_to(node).is_some();
        let all: Option<BTreeSet<NodeName>> =
            others.map(|node| hears(node).then(|| node.clone())).collect();
        let mut all = all.unwrap_or_default();
        if let Some(listed) = self.listed(own).filter(|_| self.is_consent_fresh(own, now)) {
            all.retain(|node| listed.contains(node) || !self.is_newcomer(node, now));
        }
        all
    }

    /// Who is listed in the own session.
    fn listed(&self, own: &Own) -> Option<&BTreeSet<NodeName>> {
        let known = self.view.session(own.name())?;
        Some(&known.readable()?.witnesses)
    }

    /// Whether a node has acknowledged nothing yet in a session that is not known for long.
    fn is_newcomer(&self, node: &NodeName, now: Instant) -> bool {
        let wait = lease::hearing_time(self.lease().duration());
        self.peers.known_since(node).is_some_and(|since| {
            now.since(since) < wait && !self.consent.has_acknowledged_since(node, since)
        })
    }

    /// The session for which heartbeats are made: the one that this process has written.
    fn heard_session(&self, own: &Own) -> Option<SessionId> {
        let too_early =
            own.mutated(Mutant::ExtendBeforeWrite) || own.mutated(Mutant::AcknowledgeBeforeWrite);
        if too_early { self.session.owner_id() } else { self.session.id() }
    }

    /// When the newest heartbeat was made that lets this node hold (rule 10.5).
    fn consented(&self, own: &Own) -> Option<Instant> {
        if !own.mutated(Mutant::ExtendBeforeWrite) {
            self.session.id()?;
        }
        let demanded = self.session.demanded(own, &self.view)?;
        self.consent.of_all(own, &demanded)
    }

    /// Whether all have acknowledged the newest heartbeat.
    fn is_consent_complete(&self, own: &Own) -> bool {
        let demanded = self.session.demanded(own, &self.view);
        demanded.is_some_and(|demanded| self.consent.is_complete(&demanded))
            || own.mutated(Mutant::AnyWitness)
    }

    /// Whether everybody acknowledges, and those who are listed are those who should be: then the store
    /// need not be written so often.
    fn is_at_ease(&self, own: &Own, now: Instant) -> bool {
        self.is_consent_fresh(own, now)
            && self.listed(own).is_some_and(|listed| *listed == self.witnesses(own, now))
    }

    /// Whether all whose consent is demanded have acknowledged a heartbeat that was made lately.
    fn is_consent_fresh(&self, own: &Own, now: Instant) -> bool {
        let consent_time = lease::consent_time(self.beat_interval(own));
        self.consented(own).is_some_and(|made| now.since(made) <= consent_time)
    }

    /// How often this node makes heartbeats: as often as it needs, and as often as whoever has the shortest
    /// lease needs its acknowledgements.
    fn beat_interval(&self, own: &Own) -> Duration {
        let (lease, backstop) = (self.lease(), own.config.backstop);
        let nodes = self.view.nodes_with_session().count();
        let shortest = self.peers.shortest_lease().and_then(|of| lease.for_session_of(of).ok());
        let for_others = shortest.map(|lease| lease.beat_interval(backstop, nodes));
        lease.beat_interval(backstop, nodes).min(for_others.unwrap_or(Duration::MAX))
    }

    /// It is time for a heartbeat. What not all have acknowledged at once counts first. `unheld`: the oldest
    /// revision at which a VIP was named for the own session that is not here.
    pub(super) fn beat_due(
        &mut self,
        own: &Own,
        unheld: Option<Revision>,
        out: &mut Outbox,
        now: Instant,
    ) -> Option<News> {
        let news = self.extend(own, false, out, now);
        self.tell_consent(own, out, now);
        self.beat(own, unheld, out, now);
        news
    }

    /// The store is written as often as without rule 10 for now: a move waits for an answer.
    pub(super) fn hurry(&self, own: &Own, out: &mut Outbox) {
        if let Some(sent) = self.session.last_sent() {
            self.renew_by(sent + self.lease().renew(), own, out);
        }
    }

    /// A session is over. As long as its node is listed, a store that goes away costs this node what it
    /// holds: the list is changed at once (rule 10.6).
    pub(super) fn session_ended(&self, own: &Own, out: &mut Outbox, now: Instant) {
        if self.lists_who_is_gone(own) {
            self.renew_by(now, own, out);
        }
    }

    /// When the session is to be renewed, after a renewal that was made at `sent` (rules 10.6 and 10.11).
    pub(super) fn next_renewal(&self, own: &Own, sent: Instant, now: Instant) -> Instant {
        let lease = self.lease();
        if self.lists_who_is_gone(own) {
            now
        } else if self.is_at_ease(own, now) {
            sent + lease.renew_at_ease()
        } else {
            sent + lease.renew()
        }
    }

    fn lists_who_is_gone(&self, own: &Own) -> bool {
        let is_gone = |node: &NodeName| self.view.session(node).is_none();
        self.listed(own).is_some_and(|listed| listed.iter().any(is_gone))
    }

    fn renew_by(&self, at: Instant, own: &Own, out: &mut Outbox) {
        if self.session.id().is_some() && self.watch.may_renew(own) {
            out.timers.set_earlier(Timer::Renew, at);
        }
    }

    /// Makes a heartbeat, and acknowledges with it what was heard of the others (rule 10.3).
    fn beat(&mut self, own: &Own, unheld: Option<Revision>, out: &mut Outbox, now: Instant) {
        let Some(session) = self.heard_session(own) else { return };
        if own.config.heartbeats.is_none() {
            return;
        }
        let lease = self.lease();
        out.timers.set(Timer::Beat, now + self.beat_interval(own));
        self.make_keys(own, out);
        let others = self.view.nodes_with_session().filter(|node| *node != own.name());
        let reached: Vec<(NodeName, SocketAddr)> = others
            .filter_map(|node| Some((node.clone(), self.view.heartbeats_to(node)?)))
            .collect();
        self.peers
            .path_news(reached.iter().map(|(node, _)| node), now)
            .for_each(|news| out.report(news));
        if !self.is_at_ease(own, now) {
            self.hurry(own, out);
        }
        // Whom some acknowledge and not all would be alive for ever, and hold nothing (rule 10.3).
        let given_up = |deadline: Instant| now >= deadline + lease.duration();
        let is_late = self.session.deadline().is_none_or(given_up);
        if reached.is_empty() || is_late {
            return;
        }
        let heartbeat = Heartbeat {
            session,
            process: own.config.process,
            number: self.consent.make(lease, now),
            modified: self.session.told_write(),
            complete_to: self.known_and_held(own, unheld),
        };
        let datagram_to = |node: &NodeName| Datagram {
            heartbeat,
            hears_addressee: self.peers.hears(node, lease, now),
            acknowledges: self.acknowledgement_of(own, node, now),
        };
        let addressee = |(node, address)| {
            let datagram = datagram_to(&node);
            Addressee { node, address, datagram }
        };
        out.push(Action::Beat(reached.into_iter().map(addressee).collect()));
    }

    /// Up to where this node knows the store, and holds what is named for it (rule 10.10).
    fn known_and_held(&self, own: &Own, unheld: Option<Revision>) -> Revision {
        let unheld = unheld.filter(|_| !own.mutated(Mutant::UnheldTakenForHeld));
        let before = unheld.map(|at| Revision(at.0 - 1));
        before.map_or(self.view.complete_to, |before| before.min(self.view.complete_to))
    }

    /// What of a node is acknowledged now.
    fn acknowledgement_of(
        &self,
        own: &Own,
        node: &NodeName,
        now: Instant,
    ) -> Option<Acknowledgement> {
        let owed = self.consent.owed(node)?;
        let is_barred =
            self.peers.is_barred(node) && !own.mutated(Mutant::AcknowledgedWhileExpiring);
        (!is_barred && self.may_acknowledge(own, node, owed.session, now)).then_some(owed)
    }

    /// A datagram of another node came in.
    pub(super) fn datagram_came(
        &mut self,
        own: &Own,
        from: &NodeName,
        datagram: &Datagram,
        out: &mut Outbox,
        now: Instant,
    ) -> Vec<News> {
        if own.config.heartbeats.is_none() || from == own.name() {
            return Vec::new();
        }
        let Datagram { heartbeat, hears_addressee, acknowledges } = datagram;
        let session = heartbeat.session;
        let learns_of_it = *hears_addressee || own.mutated(Mutant::UnhearingAcknowledged);
        let is_answered = self.watch.may_renew(own);
        if self.peers.beat(own, from, heartbeat, is_answered, now)
            && learns_of_it
            && !self.is_of_another_history(own, from, heartbeat)
            && self.may_acknowledge(own, from, session, now)
        {
            self.peers.acknowledge(own, from, now);
            let Heartbeat { process, number, .. } = *heartbeat;
            self.consent.owe(from, Acknowledgement { session, process, number });
        } else {
            self.consent.owe_nothing(from);
        }
        let mut news = Vec::new();
        if let Some(acknowledged) = acknowledges
            && self.heard_session(own) == Some(acknowledged.session)
            && (acknowledged.process == own.config.process
                || own.mutated(Mutant::AcknowledgementOfAnyProcess))
        {
            self.consent.acknowledged_by(own, from, acknowledged.number);
            // The last of all moves the deadline; that of fewer, with the next heartbeat.
            news.extend(self.extend(own, true, out, now));
        }
        news
    }

    /// Whether a node has written its session as this node would know if it were in the same store (A2).
    fn is_of_another_history(&self, own: &Own, from: &NodeName, heartbeat: &Heartbeat) -> bool {
        let Heartbeat { session, modified, .. } = *heartbeat;
        let lacks = |known: &Known<SessionRecord>| {
            SessionId(known.created) == session && known.modified < modified
        };
        self.view.complete_to >= modified
            && self.view.session(from).is_some_and(lacks)
            && !own.mutated(Mutant::OtherHistoryAcknowledged)
    }

    /// Whether this node may acknowledge a heartbeat of that session, as far as its own standing and its
    /// view go (rule 10.4). Silence is always safe.
    fn may_acknowledge(
        &self,
        own: &Own,
        node: &NodeName,
        session: SessionId,
        now: Instant,
    ) -> bool {
        let has_written =
            self.session.id().is_some() || own.mutated(Mutant::AcknowledgeBeforeWrite);
        let in_time = self.session.deadline().is_some_and(|deadline| now < deadline)
            || own.mutated(Mutant::AcknowledgeWhenLate)
            || own.mutated(Mutant::AcknowledgeBeforeWrite);
        let first_write = self.session.first_write().unwrap_or_default();
        // Who does not know that the store changed must be silent when this node takes what it names.
        let is_quiet = self.store.is_quiet(now);
        let knows_enough =
            self.view.complete_to >= first_write || own.mutated(Mutant::AcknowledgeByOldView);
        let is_known = self.view.session_id(node) == Some(session)
            || own.mutated(Mutant::UnknownSessionAcknowledged);
        let is_closing = self.session.is_closing() && !own.mutated(Mutant::AcknowledgeWhenClosing);
        has_written && !is_closing && in_time && !is_quiet && knows_enough && is_known
    }

    /// Moves the deadline by what has been acknowledged. `whole`: only by the newest heartbeat, so that
    /// a change that follows from it follows once.
    fn extend(&mut self, own: &Own, whole: bool, out: &mut Outbox, now: Instant) -> Option<News> {
        if whole && !self.is_consent_complete(own) {
            return None;
        }
        let made = self.consented(own)?;
        let was_late = self.session.consented(own, made, now)?;
        self.set_guard_timer(out);
        let deadline = self.session.deadline().filter(|deadline| now < *deadline)?;
        Some(News::Extended { deadline, was_late })
    }

    /// `vips/<vip>` was written: whom it names shall hear of it (rule 10.10).
    pub(super) fn vip_named(&mut self, vip: &VipName, now: Instant) {
        if let Some(known) = self.view.vip(vip)
            && let Some(record) = known.readable()
        {
            self.peers.named(&record.node, record.session, known.modified, now);
        }
    }

    /// VIPs that were named for a session of which this node hears only now.
    pub(super) fn vips_named_before(&mut self, node: &NodeName, now: Instant) {
        let Some(session) = self.view.session_id(node) else { return };
        let named = self.view.vips_of(session).filter_map(|vip| self.view.vip(vip));
        if let Some(newest) = named.map(|known| known.modified).max() {
            self.peers.named(node, session, newest, now);
        }
    }

    // ---- keys

    /// The first node makes the key.
    fn make_keys(&mut self, own: &Own, out: &mut Outbox) {
        let Some(config) = &own.config.heartbeats else { return };
        if self.view.heartbeat_keys().is_some()
            || !self.watch.is_following()
            || out.is_making_keys()
        {
            return;
        }
        let key = own.keys.heartbeat_keys();
        let keys = HeartbeatKeys { current: config.fresh_key.clone(), previous: None };
        let txn = Txn {
            compares: vec![Compare::ModRevision { key: key.clone(), is: Revision(0) }],
            success: vec![Op::Put { key: key.clone(), value: encode(&keys) }],
            failure: vec![Op::Get { key }],
        };
        out.commit(Purpose::MakeKeys, txn, self.knowing(), self.lease().renew());
    }

    pub(super) fn use_keys(&self, out: &mut Outbox) {
        if let Some(keys) = self.view.heartbeat_keys().and_then(|known| known.readable()) {
            out.push(Action::UseKeys(keys.clone()));
        }
    }

    // ---- what is told

    /// Tells when this node begins to hold by consent alone, and when that ends.
    fn tell_consent(&mut self, own: &Own, out: &mut Outbox, now: Instant) {
        let missing = self.missing(own, now);
        let standing = if self.session.failing_since().is_none() || self.session.id().is_none() {
            Standing::ByWrites
        } else if !missing.is_empty() {
            Standing::ConsentMissing
        } else if self.session.in_time(own, now) && self.writes_are_over(now) {
            Standing::ByConsent
        } else {
            self.consent.standing()
        };
        if self.consent.set_standing(standing) == standing {
            return;
        }
        match standing {
            Standing::ByWrites => {}
            Standing::ByConsent => out.report(Report::HeldByConsent),
            Standing::ConsentMissing => {
                let left = self.session.left(now);
                out.report(Report::ConsentMissing { nodes: missing, left });
            }
        }
    }

    /// Whether this node would hold nothing any more by its writes alone.
    fn writes_are_over(&self, now: Instant) -> bool {
        let lease = self.lease();
        let made = self.session.committed();
        made.is_none_or(|made| now >= made + lease.holding() - lease.guard())
    }

    /// Who is demanded and has not acknowledged for longer than that may take.
    fn missing(&self, own: &Own, now: Instant) -> Vec<NodeName> {
        let demanded = self.session.demanded(own, &self.view).unwrap_or_default();
        self.consent.missing(&demanded, now - lease::consent_time(self.beat_interval(own)))
    }
}
