//! The node's place in the cluster: what it knows of the store, its own session, and the others'
//! (rules 1, 3, 6 and 9, A2).

use std::collections::BTreeSet;
use std::time::Duration;

use super::consent::Consent;
use super::outbox::{Outbox, PendingTxn, Purpose};
use super::own::Own;
use super::peers::{Peers, Silence, Silent};
use super::session::{Answered, Join, OwnWrite, Session, Written};
use super::store_identity::{Knowing, StoreIdentity};
use super::unreadable::Unreadable;
use super::watch::Watch;
use crate::action::Action;
use crate::contradiction::{Contradiction, Told};
use crate::lease::Lease;
use crate::mutant::Mutant;
use crate::name::{NodeName, Revision, SessionId, VipName};
use crate::records::SessionRecord;
use crate::report::Report;
use crate::store::{Event, Header, KeyValue, Snapshot, StoreError, TxnResponse, Update};
use crate::time::Instant;
use crate::timer::Timer;
use crate::view::{Change, Known, View};

/// The view of the store, and the sessions in it.
#[derive(Clone, PartialEq, Eq, Hash, Debug)]
pub(super) struct Cluster {
    /// What is known of the store.
    pub(super) view: View,
    /// Whether that is still the same store (A2).
    pub(super) store: StoreIdentity,
    /// The own session (rules 1 and 6).
    pub(super) session: Session,
    /// The others', and their silence (rule 3).
    pub(super) peers: Peers,
    /// The own heartbeats (rule 10).
    pub(super) consent: Consent,
    /// Whether news come (rule 9).
    pub(super) watch: Watch,
    unreadable: Unreadable,
}

/// What follows for the other parts.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(super) enum News {
    /// The own session came.
    OwnStanding,
    /// An operator drains this node, or no longer does.
    Drained(bool),
    /// The own session is over, and with it all that was told in it.
    SessionOver { session: SessionId, is_deleted: bool, why: &'static str },
    /// The session of an earlier process is resumed.
    Resuming,
    /// What an earlier process left is not this node's to keep.
    KeepNothing,
    /// The own session lets this node hold until then. `was_late`: nothing could be held before.
    Extended { deadline: Instant, was_late: bool },
    /// A renewal was answered; `after_failing`: the first one again.
    RenewalAnswered { after_failing: bool },
    /// One failed.
    RenewalFailed,
    /// This node's own record changed, or belongs to another session.
    OwnRecord,
    /// Another node's session, record or drain changed.
    Node(NodeName),
    /// A session is gone, of which the last sign of life came then.
    SessionGone(SessionId, Option<Instant>),
    /// A VIP's owner or pin changed.
    Vip(VipName),
    /// The store is another one: nothing that was known or sent counts (A2).
    StoreChanged,
    /// The node must not go on.
    Refuse(String),
}

impl Cluster {
    /// Nothing is known yet; the store is asked.
    pub(super) fn new(own: &Own, out: &mut Outbox, now: Instant) -> Self {
        let mut cluster = Cluster {
            view: View::default(),
            store: StoreIdentity::default(),
            session: Session::new(own.config.lease, now),
            peers: Peers::default(),
            consent: Consent::default(),
            watch: Watch::default(),
            unreadable: Unreadable::default(),
        };
        cluster.set_guard_timer(out);
        cluster.follow(own, false, out, now);
        cluster
    }

    pub(super) fn lease(&self) -> Lease {
        self.session.lease()
    }

    /// What is known of the store, for what is asked of it now.
    pub(super) fn knowing(&self) -> Knowing {
        self.store.knowing(self.view.newest)
    }

    // ---- timers

    /// A timer of this part fired.
    pub(super) fn fire(&mut self, timer: Timer, own: &Own, out: &mut Outbox, now: Instant) {
        match timer {
            Timer::Echo => {
                let why = "own renewals do not come back on the watch".to_owned();
                self.watch.stop_expecting(out);
                self.watch.doubt(why, self.lease(), out, now);
                // A snapshot that is on its way has a time of its own.
                if self.watch.is_following() {
                    self.follow(own, true, out, now);
                }
            }
            Timer::Follow => self.follow(own, true, out, now),
            Timer::WatchStale => {
                // Nothing is sent from now on that could fail.
                let is_told = self.session.id().is_some();
                self.watch.is_stale_now(is_told);
                if is_told {
                    self.session.renewing_stopped(now);
                    out.report(Report::RenewingStopped { left: self.session.left(now) });
                }
            }
            Timer::Contest => {
                if let Some((purpose, txn)) = self.session.expire_own_name(own, now) {
                    out.commit(purpose, txn, self.knowing(), self.lease().renew());
                }
            }
            Timer::Quiet => self.store.end_quiet(),
            _ => {}
        }
    }

    /// Follows the store from a fresh snapshot on.
    pub(super) fn follow(&mut self, own: &Own, elsewhere: bool, out: &mut Outbox, now: Instant) {
        self.watch.follow(own, self.lease(), self.knowing(), elsewhere, out, now);
    }

    /// Following the store ended, or did not begin.
    pub(super) fn follow_failed(&mut self, error: &StoreError, out: &mut Outbox, now: Instant) {
        self.watch.failed(error.to_string(), self.lease(), out, now);
    }

    /// Whether the keys of other programs are those of the store as it is now (A2).
    pub(super) fn is_asked(&self) -> bool {
        self.watch.is_asked()
    }

    /// Asks the local etcd member whether it leads.
    pub(super) fn ask_member(&self, own: &Own, out: &mut Outbox, now: Instant) {
        let lease = self.lease();
        out.timers.set(Timer::Member, now + lease.member_interval(own.follows_leader()));
        out.push(Action::AskMember { timeout: lease.renew() });
    }

    // ---- joining and renewing

    /// Whether a session could be opened or resumed, as far as the store is known.
    pub(super) fn may_join(&self) -> bool {
        self.session.is_joining() && self.watch.is_following()
    }

    /// Has a session opened or resumed; one is opened when nothing is there that an earlier process
    /// left (rule 6).
    pub(super) fn join(
        &mut self,
        own: &Own,
        nothing_is_there: bool,
        out: &mut Outbox,
        now: Instant,
    ) -> Vec<News> {
        match self.session.join(own, &self.view) {
            Join::Open => {
                // Whatever is still there was put there under another session.
                let news = self.keep_nothing();
                if nothing_is_there {
                    self.session.open();
                    out.timers.set(Timer::Renew, now);
                }
                news
            }
            Join::Resume { id, lease } => {
                self.session.resume(own, id, lease);
                if own.mutated(Mutant::ExtendBeforeWrite)
                    || own.mutated(Mutant::AcknowledgeBeforeWrite)
                {
                    out.timers.set(Timer::Beat, now);
                }
                self.set_guard_timer(out);
                out.timers.set(Timer::Renew, now);
                vec![News::Resuming]
            }
            Join::Contest { seen, lease, why, by_others } => {
                let end = self.contest_ends(own, (lease, by_others), out, now);
                self.session.contest(seen, end);
                out.report(Report::NameContested { why });
                self.keep_nothing()
            }
            Join::Replace { seen, why } => {
                // What is here may be held under it still.
                let news = self.keep_nothing();
                if nothing_is_there {
                    self.session.contest(seen, now);
                    out.timers.set(Timer::Contest, now);
                    out.report(Report::SessionReplaced { why });
                }
                news
            }
        }
    }

    /// When another host's session of this name may be expired, if it stays silent: the timer is set.
    fn contest_ends(
        &self,
        own: &Own,
        (lease, by_others): (Duration, bool),
        out: &mut Outbox,
        now: Instant,
    ) -> Instant {
        let lease = if by_others { own.without_store() } else { lease };
        let end = now + self.lease().patience(lease);
        out.timers.set(Timer::Contest, end);
        end
    }

    fn keep_nothing(&mut self) -> Vec<News> {
        let is_news = self.session.keep_nothing();
        is_news.then_some(News::KeepNothing).into_iter().collect()
    }

    /// Writes the session key (rule 1). `offer` is what `nodes/<node>` should hold, where the session
    /// is being opened.
    pub(super) fn renew(&mut self, own: &Own, offer: Vec<u8>, out: &mut Outbox, now: Instant) {
        let lease = self.lease();
        if !self.session.is_renewable() {
            return;
        }
        if !self.watch.may_renew(own) {
            return out.timers.set(Timer::Renew, now + lease.renew());
        }
        // Unless it is answered before. Of those that are under way at once, all of which compare
        // the same revision, one lands, and the others read that it did.
        out.timers.set(Timer::Renew, now + lease.unanswered_delay());
        let witnesses = self.witnesses(own, now);
        let Some((purpose, txn)) = self.session.renewal(own, &self.view, offer, witnesses, now)
        else {
            return;
        };
        self.peers.renewal_sent(now);
        self.schedule_expiry(own, out);
        out.commit(purpose, txn, self.knowing(), lease.renew());
    }

    /// A renewal that was made at `sent` was answered, or not.
    pub(super) fn renewal_answered(
        &mut self,
        own: &Own,
        sent: Instant,
        answer: &Result<TxnResponse, StoreError>,
        out: &mut Outbox,
        now: Instant,
    ) -> Option<News> {
        match answer {
            Ok(response) => {
                self.peers.renewal_answered(own, sent, now);
                self.schedule_expiry(own, out);
                if response.succeeded {
                    out.timers.set(Timer::Renew, self.next_renewal(own, sent, now));
                }
                let answered = self.session.answered(self.watch.may_renew(own), now);
                match answered {
                    Answered::AsEver => {}
                    Answered::Last => out.report(Report::RenewalAnswered),
                    Answered::Again => out.report(Report::RenewalsSucceed),
                }
                Some(News::RenewalAnswered { after_failing: answered == Answered::Again })
            }
            // The store has answered a later one: this is no outage.
            Err(_) if !self.peers.renewal_failed(sent) => None,
            Err(error) => {
                self.renewals_fail(error.to_string(), out, now);
                out.timers.set_earlier(Timer::Renew, now + self.lease().unanswered_delay());
                Some(News::RenewalFailed)
            }
        }
    }

    /// Tells it once, until a renewal is answered.
    fn renewals_fail(&mut self, why: String, out: &mut Outbox, now: Instant) {
        if self.session.failed(&why, now) {
            let left = self.session.left(now);
            out.report(Report::RenewalsFail { why, left });
        }
    }

    /// Whether this node may expire others now: who holds nothing, or cannot hear, may not (rule 3).
    /// It is looked at again when the session is there, or a renewal is answered.
    pub(super) fn may_expire(&self, own: &Own, now: Instant) -> bool {
        self.session.id().is_some() && self.watch.may_renew(own) && self.session.in_time(own, now)
    }

    /// The sessions that have been silent long enough by now (rule 3).
    pub(super) fn silent(&self, own: &Own, now: Instant) -> Vec<Silent> {
        self.peers.silent(own, self.lease(), now)
    }

    /// An expiry of `node` was answered; `unknown`: it may or may not have happened. `vips` came with it.
    pub(super) fn expiry_answered(
        &mut self,
        own: &Own,
        (node, silence, vips): (&NodeName, Option<Silence>, Vec<VipName>),
        (succeeded, unknown): (bool, bool),
        out: &mut Outbox,
        now: Instant,
    ) {
        if succeeded {
            let silence = silence.map(|silence| silence.by(now));
            out.report(Report::Expired { node: node.clone(), silence, vips });
        } else if !unknown
            && self.view.session(node).is_none()
            && let Some(silence) = silence
        {
            self.report_ended(node, silence, out, now);
        }
        let retry_at = now + self.lease().retry_delay();
        self.peers.expiry_answered(node, retry_at);
        // The other host may have renewed meanwhile.
        if unknown
            && node == own.name()
            && let Some(until) = self.session.contested_until()
        {
            let until = if own.mutated(Mutant::ContestEndsEarly) { retry_at } else { until };
            out.timers.set(Timer::Contest, retry_at.max(until));
        }
        self.schedule_expiry(own, out);
    }

    pub(super) fn schedule_expiry(&mut self, own: &Own, out: &mut Outbox) {
        match self.peers.next_due(own, self.lease()) {
            Some(due) => out.timers.set(Timer::Expire, due),
            None => out.timers.stop(Timer::Expire),
        }
    }

    // ---- what the store says

    /// What following the prefix brought.
    pub(super) fn watch_told(
        &mut self,
        own: &Own,
        update: Update,
        out: &mut Outbox,
        now: Instant,
    ) -> Vec<News> {
        let mut news = Vec::new();
        match update {
            Update::Snapshot(snapshot) => {
                let known = self.watch.asked_knowing();
                let why = self.store.contradiction(own, snapshot.header, known);
                let why = why.or_else(|| self.snapshot_contradicts(own, &snapshot, now));
                if why.is_some_and(|why| self.is_another_store(own, why, out, now)) {
                    return vec![News::StoreChanged];
                }
                self.store.learn(snapshot.header);
                let changes = self.view.learn_snapshot(&own.keys, &snapshot);
                for kv in &snapshot.kvs {
                    self.unreadable.report(&own.keys, &self.view, &kv.key, out);
                }
                let may_renew_again = self.watch.snapshot_came(out, now);
                if may_renew_again && self.session.is_renewable() {
                    out.timers.set(Timer::Renew, now);
                }
                self.complete_to(snapshot.header.revision, out);
                for change in changes {
                    self.changed(own, change, out, now, &mut news);
                }
                let own_key = own.keys.session(own.name());
                if let Some(kv) = snapshot.kvs.iter().find(|kv| kv.key == own_key) {
                    self.own_write_told(own, kv.mod_revision, out, now, &mut news);
                }
            }
            Update::Events(events) => {
                if !self.watch.is_following() {
                    return news;
                }
                // A watch tells nothing of the term: a member that was started anew tells what it has
                // read of its log so far.
                let header = Header { raft_term: 0, ..events.header };
                let why = self.store.contradiction(own, header, Knowing::default());
                if why.is_some_and(|why| self.is_another_store(own, why, out, now)) {
                    return vec![News::StoreChanged];
                }
                let own_key = own.keys.session(own.name());
                for event in &events.events {
                    let (key, kv, at) = match event {
                        Event::Put(kv) => (&kv.key, Some(kv), kv.mod_revision),
                        Event::Delete { key, revision } => (key, None, *revision),
                    };
                    let why = self.key_contradicts(own, (key, kv, at), Told::InOrder);
                    if why.is_some_and(|why| self.is_another_store(own, why, out, now)) {
                        return vec![News::StoreChanged];
                    }
                    self.learn(own, (key, kv, at), out, now, &mut news);
                    if kv.is_some() && *key == own_key {
                        self.own_write_told(own, at, out, now, &mut news);
                    }
                }
                self.complete_to(events.header.revision, out);
            }
        }
        news
    }

    /// What the answer to a transaction says of the keys; what to hold follows from that.
    pub(super) fn answer_told(
        &mut self,
        own: &Own,
        pending: &PendingTxn,
        response: &TxnResponse,
        out: &mut Outbox,
        now: Instant,
    ) -> Vec<News> {
        let (as_of, told) = (response.header.revision, pending.news(response));
        let mut why = self.store.contradiction(own, response.header, pending.sent_knowing);
        for (key, kv) in &told {
            let (key, kv) = (key.as_str(), kv.as_ref());
            why = why.or_else(|| self.key_contradicts(own, (key, kv, as_of), Told::Once));
            why = why.or_else(|| self.own_session_contradicts(own, (key, kv, as_of), now));
        }
        if why.is_some_and(|why| self.is_another_store(own, why, out, now)) {
            return vec![News::StoreChanged];
        }
        self.store.learn_term(response.header);
        if response.succeeded {
            self.view.landed = self.view.landed.max(response.header.revision);
        }
        let mut news = Vec::new();
        for (key, kv) in &told {
            self.learn(own, (key.as_str(), kv.as_ref(), as_of), out, now, &mut news);
        }
        news
    }

    fn complete_to(&mut self, revision: Revision, out: &mut Outbox) {
        self.view.newest = self.view.newest.max(revision);
        self.view.complete_to = self.view.complete_to.max(revision);
        self.watch.complete_to(revision, out);
    }

    fn learn(
        &mut self,
        own: &Own,
        (key, kv, as_of): (&str, Option<&KeyValue>, Revision),
        out: &mut Outbox,
        now: Instant,
        news: &mut Vec<News>,
    ) {
        if let Some(change) = self.view.learn(&own.keys, key, kv, as_of) {
            if kv.is_some() {
                self.unreadable.report(&own.keys, &self.view, key, out);
            }
            self.changed(own, change, out, now, news);
        }
    }

    fn changed(
        &mut self,
        own: &Own,
        change: Change,
        out: &mut Outbox,
        now: Instant,
        news: &mut Vec<News>,
    ) {
        match change {
            Change::Renewed(node) if node == *own.name() => self.own_written(own, out, now, news),
            Change::Renewed(node) => self.peer_heard(own, &node, out, now),
            Change::Session { node, before } => {
                let gone = |id| News::SessionGone(id, self.peers.last_heard(&node, id));
                news.extend(before.map(gone));
                if node == *own.name() {
                    news.push(News::OwnRecord);
                    self.own_written(own, out, now, news);
                } else {
                    if self.view.session(&node).is_none() {
                        if let Some(silence) = self.peers.silence_unless_expiring(&node) {
                            self.report_ended(&node, silence, out, now);
                        }
                        self.session_ended(own, out, now);
                    }
                    self.peer_heard(own, &node, out, now);
                    self.vips_named_before(&node, now);
                    news.push(News::Node(node));
                }
            }
            Change::Node(node) if node == *own.name() => news.push(News::OwnRecord),
            Change::Drain(node) if node == *own.name() => {
                let drained = self.view.drained(&node);
                out.report(Report::Drained(drained));
                news.push(News::Drained(drained));
            }
            Change::Node(node) | Change::Drain(node) => news.push(News::Node(node)),
            Change::Vip(vip) => {
                self.vip_named(&vip, now);
                news.push(News::Vip(vip));
            }
            Change::Pin(vip) => news.push(News::Vip(vip)),
            Change::HeartbeatKeys => self.use_keys(out),
            Change::Nothing => {}
        }
    }

    fn peer_heard(&mut self, own: &Own, node: &NodeName, out: &mut Outbox, now: Instant) {
        self.peers.heard(own, node, self.view.session(node), now);
        self.schedule_expiry(own, out);
        let declared = self.view.session(node).and_then(Known::readable).map(SessionRecord::lease);
        let patience = declared.map(|declared| own.config.lease.patience(declared));
        if let Some(until) = patience.and_then(|patience| self.store.prolong(patience)) {
            out.timers.set(Timer::Quiet, until);
        }
    }

    /// Tells that a session is gone that this node did not expire: what follows begins with that.
    fn report_ended(&self, node: &NodeName, silence: Silence, out: &mut Outbox, now: Instant) {
        out.report(Report::SessionEnded { node: node.clone(), silence: silence.by(now) });
    }

    // ---- whether it is the same store (A2)

    /// Why a snapshot is not of the history that is known.
    fn snapshot_contradicts(&self, own: &Own, snapshot: &Snapshot, now: Instant) -> Option<String> {
        let as_of = snapshot.header.revision;
        let told =
            |kv: &KeyValue| self.key_contradicts(own, (&kv.key, Some(kv), as_of), Told::Once);
        let own_key = own.keys.session(own.name());
        let own_session = snapshot.kvs.iter().find(|kv| kv.key == own_key);
        let why = snapshot.kvs.iter().find_map(told);
        let why =
            why.or_else(|| self.own_session_contradicts(own, (&own_key, own_session, as_of), now));
        if why.is_some() || as_of >= self.view.newest {
            return why;
        }
        // What is known of later revisions says what was there by then.
        let present: BTreeSet<&str> = snapshot.kvs.iter().map(|kv| kv.key.as_str()).collect();
        let known = self.view.keys(&own.keys);
        let mut absent = known.iter().filter(|key| !present.contains(key.as_str()));
        absent.find_map(|key| self.key_contradicts(own, (key, None, as_of), Told::Once))
    }

    /// Why what is told of a key is not of the history that is known (rule 9.8).
    fn key_contradicts(
        &self,
        own: &Own,
        (key, kv, as_of): (&str, Option<&KeyValue>, Revision),
        how: Told,
    ) -> Option<String> {
        let contradiction = self.view.contradiction(&own.keys, key, kv, as_of, how)?;
        let ignored = match contradiction {
            Contradiction::WentBack { .. } | Contradiction::Between { .. } => {
                Mutant::EarlierWriteIgnored
            }
            Contradiction::Recreated { .. } => Mutant::RecreationIgnored,
            Contradiction::OtherContent { .. } => Mutant::OtherContentIgnored,
            Contradiction::Presence { .. } => Mutant::PresenceIgnored,
        };
        (!own.mutated(ignored)).then(|| format!("{key} {contradiction}"))
    }

    /// Why an answer is not of the history that is known: the own session is gone, or is another one,
    /// and nobody may have expired it yet (rule 9.9). That somebody deleted it is told by the watch.
    fn own_session_contradicts(
        &self,
        own: &Own,
        (key, kv, as_of): (&str, Option<&KeyValue>, Revision),
        now: Instant,
    ) -> Option<String> {
        let id = self.session.id().filter(|_| !self.session.is_closing())?;
        let deadline = self.session.deadline().filter(|deadline| now < *deadline)?;
        let known = self.view.session(own.name())?;
        let is_there = kv.is_some_and(|kv| SessionId(kv.create_revision) == id);
        let is_old = as_of < known.modified || *key != own.keys.session(own.name());
        if is_there || is_old || own.mutated(Mutant::OwnAbsenceIgnored) {
            return None;
        }
        let left = deadline.since(now).as_secs_f64();
        Some(format!("{key} is not session {id} any more, which nobody may expire for {left:.1} s"))
    }

    /// The store that answers is not the one it was. Then everything starts afresh, and nothing is
    /// assumed or claimed before the longest lease known is over (rules 9.4 and 9.5).
    fn is_another_store(&mut self, own: &Own, why: String, out: &mut Outbox, now: Instant) -> bool {
        let lease = own.config.lease;
        let mut longest = lease.duration();
        if !own.mutated(Mutant::QuietByOwnLease) {
            longest = longest.max(self.view.longest_lease().unwrap_or_default());
        }
        if self.view.leaves_out(own.name()) {
            longest = longest.max(own.without_store());
        }
        let patience = lease.patience(longest);
        out.report(Report::StoreChanged { why, quiet: patience });
        if own.mutated(Mutant::KeepAfterRollback) {
            return false;
        }
        let quiet_until = self.store.forget(patience, now);
        if own.mutated(Mutant::ResumeAfterRollback) {
            self.store.end_quiet();
        } else {
            out.timers.set(Timer::Quiet, quiet_until);
        }
        self.view = self.view.cleared();
        self.session.forget_attempts();
        self.peers.forget_all();
        out.forget_txns();
        self.watch.start_afresh(lease, out, now);
        true
    }

    // ---- the own session

    fn own_written(&mut self, own: &Own, out: &mut Outbox, now: Instant, news: &mut Vec<News>) {
        let known = self.view.session(own.name());
        match self.session.written(own, known, now) {
            Written::Nothing => {}
            Written::Own(write) => self.own_write(own, &write, out, now, news),
            Written::RenewNow => out.timers.set(Timer::Renew, now),
            Written::WatchOn { lease, by_others } => {
                let end = self.contest_ends(own, (lease, by_others), out, now);
                self.session.contest_on(end);
            }
            Written::Lost(session, why) => {
                let is_deleted = known.is_none();
                news.push(News::SessionOver { session, is_deleted, why });
            }
            Written::Refuse(why) => news.push(News::Refuse(why)),
        }
    }

    fn own_write(
        &mut self,
        own: &Own,
        write: &OwnWrite,
        out: &mut Outbox,
        now: Instant,
        news: &mut Vec<News>,
    ) {
        let Some(session) = self.session.id() else { return };
        if write.resumed {
            out.report(Report::SessionResumed { session });
        }
        if write.opened {
            out.report(Report::SessionOpened { session });
        }
        if write.opened || write.resumed {
            news.push(News::OwnStanding);
            out.timers.set(Timer::Beat, now);
        }
        if write.opened || (write.resumed && !own.mutated(Mutant::SilentFromBeforeResuming)) {
            self.peers.own_session_written(now);
        }
        self.peers.own_write(own);
        let written = self.view.session(own.name()).map(|known| known.modified);
        // What the watch has told stands behind these rules: to see them broken it counts at once.
        let mutants =
            [Mutant::CountsUntold, Mutant::DeadlineFromAnswer, Mutant::ActiveOutlivesSession];
        if let Some(written) = written
            && mutants.into_iter().any(|mutant| own.mutated(mutant))
        {
            self.own_write_told(own, written, out, now, news);
        }
        if let Some(written) = written.filter(|at| write.credited && self.view.complete_to < *at) {
            self.watch.expect(written, self.lease(), self.session.guard_at(), out, now);
        }
    }

    /// The watch tells a write of the own session: all that came before it is known, so it counts (rule 9.3).
    fn own_write_told(
        &mut self,
        own: &Own,
        modified: Revision,
        out: &mut Outbox,
        now: Instant,
        news: &mut Vec<News>,
    ) {
        let Some(was_late) = self.session.told(own, modified, now) else { return };
        self.set_guard_timer(out);
        // What it is about may be over when it is told.
        if let Some(deadline) = self.session.deadline().filter(|deadline| now < *deadline) {
            news.push(News::Extended { deadline, was_late });
        }
    }

    /// Nothing is held under a session that is not there. `for_good`: none will follow.
    pub(super) fn session_over(&mut self, own: &Own, for_good: bool, out: &mut Outbox) {
        self.session.forget(own, for_good);
        self.consent.session_over();
        self.peers.own_session_over();
        out.timers.stop(Timer::Beat);
        self.watch.stop_expecting(out);
        out.timers.stop(Timer::Renew);
        out.timers.stop(Timer::Guard);
    }

    /// The session is not renewed any more.
    pub(super) fn close(&mut self, out: &mut Outbox) {
        self.session.close();
        out.timers.stop(Timer::Renew);
    }

    /// Deletes the own session (rule 5), if there is one, and all is known that came before what this node
    /// wrote last: a VIP may have been handed to it meanwhile. Whether it does.
    pub(super) fn delete_session(&mut self, own: &Own, out: &mut Outbox) -> bool {
        if self.watch.is_following() && self.view.complete_to < self.view.landed {
            return false;
        }
        let Some(txn) = self.session.deletion(own, &self.view) else { return false };
        out.timers.stop(Timer::Renew);
        out.commit(Purpose::Close, txn, self.knowing(), self.lease().renew());
        true
    }

    /// How long an orderly stop waits for the store while VIPs are named for this node (rule 5.5): when the
    /// own deadline is over, the others end the session by themselves.
    pub(super) fn handing_over_until(&self, now: Instant) -> Instant {
        let lease = self.lease();
        let longest = now + lease.holding();
        let deadline = self.session.deadline().unwrap_or(longest).min(longest);
        // One request, in any case.
        deadline.max(now + lease.renew())
    }

    /// Whether the store has not answered for a lease: it is not about to answer.
    pub(super) fn is_store_away(&self, now: Instant) -> bool {
        let lease = self.lease().duration();
        self.session.failing_since().is_some_and(|since| now.since(since) >= lease)
    }

    pub(super) fn set_guard_timer(&self, out: &mut Outbox) {
        if let Some(at) = self.session.guard_at() {
            out.timers.set(Timer::Guard, at);
        }
    }
}
