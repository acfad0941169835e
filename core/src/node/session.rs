//! The own session: opened, renewed, resumed, lost (rules 1 and 6).

use std::borrow::Cow;
use std::collections::BTreeSet;
use std::time::Duration;

use super::outbox::Purpose;
use super::own::Own;
use crate::causes::Causes;
use crate::lease::{self, Lease};
use crate::mutant::Mutant;
use crate::name::{NodeName, Revision, SessionId};
use crate::records::{Nonce, SessionRecord, UnreadableRecord, encode};
use crate::store::{Compare, Op, Txn};
use crate::time::Instant;
use crate::view::{Known, View};

/// How this node stands to the session key of its name.
#[derive(Clone, PartialEq, Eq, Hash, Debug)]
enum Membership {
    /// Finding out what is: the kernel's list, the store's snapshot.
    Joining,
    /// Another host has the name. It is watched whether that host lives: until then, since that write.
    Contested { seen: Revision, renewed: bool, until: Instant },
    /// No session; one is being opened.
    Opening,
    /// The session of an earlier process on this host is being renewed.
    Resuming { id: SessionId },
    /// The session is there, and this process has written it.
    Established { id: SessionId },
    /// The session is being deleted, or is no longer wanted.
    Closed,
}

/// A write of the session key whose outcome may not be known yet.
#[derive(Clone, PartialEq, Eq, Hash, Debug)]
struct Attempt {
    count: u64,
    /// Read before the request was made: the time from which it counts.
    sent: Instant,
}

/// Own writes that compare the same mod_revision and may still land: their lists may become that of the
/// session at any time (rule 10.5).
#[derive(Clone, PartialEq, Eq, Hash, Debug)]
struct Unknown {
    compares: Revision,
    witnesses: BTreeSet<NodeName>,
    /// One of them has no list: with it anybody may expire the session.
    without: bool,
}

/// The own session, and how long it lets this node hold.
#[derive(Clone, PartialEq, Eq, Hash, Debug)]
pub(super) struct Session {
    membership: Membership,
    /// That of the session: a resumed one brings its own.
    lease: Lease,
    /// When everything held must be silent.
    deadline: Option<Instant>,
    attempts: Vec<Attempt>,
    /// Own writes that answers told of and the watch has not, and when they were made: they move the
    /// deadline when it has (rule 9.3).
    untold: Vec<(Revision, Instant)>,
    /// The newest own write that the watch has told.
    told: Revision,
    unknown: Option<Unknown>,
    /// Its deletion was sent, and may have landed (rule 10.9).
    is_closing: bool,
    last_sent: Option<Instant>,
    nonces: u64,
    /// When the newest write that is known to be committed was made.
    committed: Option<Instant>,
    /// The first write of this process in this session.
    first_write: Option<Revision>,
    /// The deadline follows from an acknowledged heartbeat, not from a write.
    by_consent: bool,
    /// Since when renewals have been failing, or none has been sent for want of news.
    failing_since: Option<Instant>,
    /// That one failed was told, and none was answered since.
    is_unanswered: bool,
    /// What that was put down to.
    causes: Causes,
    /// When a renewal was last answered.
    answered_at: Option<Instant>,
}

/// What the answer to a renewal ends.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Answered {
    /// Nothing.
    AsEver,
    /// That they failed; but no more are sent for now.
    Last,
    /// That they failed, or were not sent.
    Again,
}

/// What knowing the kernel and the store leads to.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(super) enum Join {
    /// There is no session: what is here must go before one is opened.
    Open,
    /// An earlier process on this host has one, which declares this lease: it goes on.
    Resume { id: SessionId, lease: Duration },
    /// Another host has the name, as of this write, or nobody can read who has it. `by_others`: only hosts
    /// that are listed may expire its session (rule 10.8).
    Contest { seen: Revision, lease: Duration, why: String, by_others: bool },
    /// An earlier process on this host has one that cannot go on: what is here must go before it is
    /// deleted, as of this write, and another opened (rule 9.11).
    Replace { seen: Revision, why: String },
}

/// What a write, or the deletion, of the own session key leads to.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(super) enum Written {
    /// Nothing.
    Nothing,
    /// The newest write is this process's.
    Own(OwnWrite),
    /// It is another one, which can be taken for the last of the process before: to be renewed now.
    RenewNow,
    /// The name's other host renewed it once: it is watched for another lease of this length. `by_others`:
    /// only hosts that are listed may expire its session.
    WatchOn { lease: Duration, by_others: bool },
    /// The session is over.
    Lost(SessionId, &'static str),
    /// The node must not go on.
    Refuse(String),
}

/// What follows from a write that is this process's own.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(super) struct OwnWrite {
    /// The session was opened by it.
    pub(super) opened: bool,
    /// The session was resumed by it.
    pub(super) resumed: bool,
    /// It is credited to an attempt that is remembered.
    pub(super) credited: bool,
}

impl Session {
    /// Nothing is known of a session yet. What a predecessor held is silent after the configured
    /// lease, whenever it last renewed (rule 6.2).
    pub(super) fn new(lease: Lease, now: Instant) -> Self {
        Session {
            membership: Membership::Joining,
            lease,
            deadline: Some(now + lease.holding()),
            attempts: Vec::new(),
            untold: Vec::new(),
            told: Revision(0),
            unknown: None,
            is_closing: false,
            last_sent: None,
            nonces: 0,
            committed: None,
            first_write: None,
            by_consent: false,
            failing_since: None,
            is_unanswered: false,
            causes: Causes::default(),
            answered_at: None,
        }
    }

    // ---- looking

    /// The session that this process has.
    pub(super) fn id(&self) -> Option<SessionId> {
        match self.membership {
            Membership::Established { id } => Some(id),
            _ => None,
        }
    }

    /// The session whose VIPs are this node's: the one that it has, or is about to resume.
    pub(super) fn owner_id(&self) -> Option<SessionId> {
        match self.membership {
            Membership::Established { id } | Membership::Resuming { id } => Some(id),
            _ => None,
        }
    }

    /// Whether this node may have deleted it already.
    pub(super) fn is_closing(&self) -> bool {
        self.is_closing
    }

    pub(super) fn is_joining(&self) -> bool {
        self.membership == Membership::Joining
    }

    /// Whether it is not known yet whose that is which an earlier process left.
    pub(super) fn is_inheriting(&self) -> bool {
        self.is_joining() && self.deadline.is_some()
    }

    /// Whether it is being opened.
    pub(super) fn is_opening(&self) -> bool {
        self.membership == Membership::Opening
    }

    /// Whether it is being opened or resumed.
    pub(super) fn is_coming(&self) -> bool {
        matches!(self.membership, Membership::Opening | Membership::Resuming { .. })
    }

    pub(super) fn lease(&self) -> Lease {
        self.lease
    }

    pub(super) fn deadline(&self) -> Option<Instant> {
        self.deadline
    }

    /// When what is held must be taken away (rule 2).
    pub(super) fn guard_at(&self) -> Option<Instant> {
        self.deadline.map(|deadline| deadline - self.lease.guard())
    }

    /// Whether anything may be held now (rule 2).
    pub(super) fn in_time(&self, own: &Own, now: Instant) -> bool {
        self.guard_at().is_some_and(|at| now < at || own.mutated(Mutant::GuardIgnored))
    }

    /// Whether the deadline follows from an acknowledged heartbeat, and not from a write.
    pub(super) fn is_by_consent(&self) -> bool {
        self.by_consent
    }

    /// Whether a renewal was credited lately: no more than two intervals of the lease are gone; or no
    /// more than an acknowledgement may take.
    pub(super) fn is_fresh(&self, now: Instant) -> bool {
        let lease = self.lease;
        let gone =
            if self.by_consent { lease::consent_time(lease.renew()) } else { 2 * lease.renew() };
        self.deadline.is_some_and(|at| at.since(now) + gone >= lease.holding())
    }

    /// The first write of this process in this session: who knows less of the others than was then
    /// acknowledges nobody (rule 10.4).
    pub(super) fn first_write(&self) -> Option<Revision> {
        self.first_write
    }

    /// Since when renewals have been failing, or none has been sent for want of news.
    pub(super) fn failing_since(&self) -> Option<Instant> {
        self.failing_since
    }

    /// When the last attempt was made.
    pub(super) fn last_sent(&self) -> Option<Instant> {
        self.last_sent
    }

    /// When the last write was made that has been credited.
    pub(super) fn committed(&self) -> Option<Instant> {
        self.committed
    }

    /// Whether the store has only just answered a renewal.
    pub(super) fn was_just_answered(&self, now: Instant) -> bool {
        self.answered_at.is_some_and(|at| now.since(at) <= self.lease.fresh_answer())
    }

    // ---- joining

    /// What to do now that the kernel and the store are known.
    pub(super) fn join(&self, own: &Own, view: &View) -> Join {
        match view.session(own.name()) {
            None => Join::Open,
            Some(Known { record: Err(error), modified, .. }) => unreadable(own, error, *modified),
            Some(Known { record: Ok(record), created, modified, .. }) => {
                let seen = *modified;
                if record.host != own.config.host {
                    let by_others = expired_by_others(own, record);
                    let (host, this) = (&record.host, &own.config.host);
                    let why = format!("host {host} has it in etcd, and this is host {this}");
                    return Join::Contest { seen, lease: record.lease(), why, by_others };
                }
                let lease = record.declared_lease();
                match own.config.lease.for_session_of(lease) {
                    Ok(_) => Join::Resume { id: SessionId(*created), lease },
                    Err(error) => {
                        let key = own.keys.session(own.name());
                        let why = format!("{key} declares an impossible lease: {error}");
                        Join::Replace { seen, why }
                    }
                }
            }
        }
    }

    pub(super) fn open(&mut self) {
        self.membership = Membership::Opening;
    }

    /// The session of an earlier process goes on, with the lease that it declares: that process
    /// promised silence by this lease, not by the one that is configured now.
    pub(super) fn resume(&mut self, own: &Own, id: SessionId, lease: Duration) {
        let configured = own.config.lease;
        if let Ok(lease) = configured.for_session_of(lease) {
            self.lease = lease;
        }
        if let Some(inherited) = self.deadline {
            let started = inherited - configured.holding();
            self.deadline = Some(started + self.lease.holding());
        }
        self.membership = Membership::Resuming { id };
    }

    pub(super) fn contest(&mut self, seen: Revision, until: Instant) {
        self.membership = Membership::Contested { seen, renewed: false, until };
    }

    /// The name's other host has renewed: its silence counts anew, until then.
    pub(super) fn contest_on(&mut self, end: Instant) {
        if let Membership::Contested { until, .. } = &mut self.membership {
            *until = end;
        }
    }

    /// Until when the name's other host may yet show that it lives.
    pub(super) fn contested_until(&self) -> Option<Instant> {
        match self.membership {
            Membership::Contested { until, .. } => Some(until),
            _ => None,
        }
    }

    /// What an earlier process left is not ours to keep; whether that is news.
    pub(super) fn keep_nothing(&mut self) -> bool {
        self.deadline.take().is_some()
    }

    /// The transaction that expires whoever has this node's name, and has been silent.
    pub(super) fn expire_own_name(&self, own: &Own, now: Instant) -> Option<(Purpose, Txn)> {
        let Membership::Contested { seen, until, .. } = self.membership else { return None };
        if now < until && !own.mutated(Mutant::ContestEndsEarly) {
            return None;
        }
        let key = own.keys.session(own.name());
        let txn = Txn {
            compares: vec![Compare::ModRevision { key: key.clone(), is: seen }],
            success: vec![Op::Delete { key: key.clone() }],
            failure: vec![Op::Get { key }],
        };
        let node = own.name().clone();
        Some((Purpose::Expire { node, silence: None, vips: Vec::new() }, txn))
    }

    // ---- renewing

    /// The transaction that writes the session key, the first time or again; none when there is
    /// nothing to write. `offer` is what `nodes/<node>` should hold, for a session that is being opened:
    /// with it a node publishes what it can take, so that no session is ever seen without.
    pub(super) fn renewal(
        &mut self,
        own: &Own,
        view: &View,
        offer: Vec<u8>,
        witnesses: BTreeSet<NodeName>,
        now: Instant,
    ) -> Option<(Purpose, Txn)> {
        let session = match self.membership {
            Membership::Opening => None,
            Membership::Resuming { id } | Membership::Established { id } => Some(id),
            _ => return None,
        };
        let nonce = self.new_attempt(own, now);
        let key = own.keys.session(own.name());
        let is = view.session(own.name()).map_or(Revision(0), |known| known.modified);
        self.may_land(is, &witnesses);
        let record = SessionRecord {
            // Rounded up: nobody may wait for less than what is held.
            lease_ms: u64::try_from(self.lease.duration().as_nanos().div_ceil(1_000_000))
                .unwrap_or(u64::MAX),
            host: own.config.host.clone(),
            nonce,
            witnesses,
        };
        let mut txn = Txn {
            compares: vec![Compare::ModRevision { key: key.clone(), is }],
            success: vec![Op::Put { key: key.clone(), value: encode(&record) }],
            failure: vec![Op::Get { key }],
        };
        if session.is_none() {
            txn.success.push(Op::Put { key: own.keys.node(own.name()), value: offer });
        }
        Some((Purpose::Renew { session, sent: now }, txn))
    }

    /// A write with that list is made, which compares a mod_revision.
    fn may_land(&mut self, compares: Revision, witnesses: &BTreeSet<NodeName>) {
        let nothing = || Unknown { compares, witnesses: BTreeSet::new(), without: false };
        let unknown = match &mut self.unknown {
            Some(unknown) if unknown.compares == compares => unknown,
            other => other.insert(nothing()),
        };
        unknown.without |= witnesses.is_empty();
        unknown.witnesses.extend(witnesses.iter().cloned());
    }

    /// Who must have acknowledged a heartbeat for it to count: who may expire the session as it is known,
    /// and who may if an own write has landed of which nothing is known yet (rule 10.5). None when
    /// anybody may.
    pub(super) fn demanded<'a>(
        &'a self,
        own: &Own,
        view: &'a View,
    ) -> Option<Cow<'a, BTreeSet<NodeName>>> {
        let known = view.session(own.name())?;
        let mut demanded = Cow::Borrowed(&known.readable()?.witnesses);
        let may_land = self.unknown.as_ref().filter(|unknown| unknown.compares == known.modified);
        if own.mutated(Mutant::ExtendWithoutWitnesses) {
            return Some(demanded);
        }
        if demanded.is_empty() {
            return None;
        }
        if let Some(unknown) = may_land.filter(|_| !own.mutated(Mutant::UnknownListIgnored)) {
            if own.mutated(Mutant::ListBeforeCommit) {
                return Some(Cow::Borrowed(&unknown.witnesses));
            }
            if unknown.without {
                return None;
            }
            if !unknown.witnesses.is_subset(&demanded) {
                demanded.to_mut().extend(unknown.witnesses.iter().cloned());
            }
        }
        Some(demanded)
    }

    /// A heartbeat that was made at `made` has been acknowledged by all who are demanded; whether that
    /// moves the deadline, and whether nothing could be held before (rules 10.5 and 10.7).
    pub(super) fn consented(&mut self, own: &Own, made: Instant, now: Instant) -> Option<bool> {
        let heartbeats = own.config.heartbeats.as_ref()?;
        let made = if own.mutated(Mutant::ConsentFromAcknowledgement) { now } else { made };
        let mut deadline = made + self.lease.holding();
        let is_early = self.committed.is_none() && own.mutated(Mutant::ExtendBeforeWrite);
        if !own.mutated(Mutant::WithoutStoreForEver) && !is_early {
            let longest = self.lease.holding_without_store(heartbeats.without_store);
            let early = own.mutated(Mutant::ExtendBeforeWrite).then_some(made);
            deadline = deadline.min(self.committed.or(early)? + longest);
        }
        let was_late = !self.in_time(own, now);
        if self.deadline.is_some_and(|current| deadline <= current) {
            return None;
        }
        (self.deadline, self.by_consent) = (Some(deadline), true);
        Some(was_late)
    }

    /// Whether there is something to renew, or to open.
    pub(super) fn is_renewable(&self) -> bool {
        self.is_coming() || self.id().is_some()
    }

    fn new_attempt(&mut self, own: &Own, now: Instant) -> Nonce {
        let too_old = self.lease.duration();
        self.attempts.retain(|attempt| now.since(attempt.sent) < too_old);
        let reused = own.mutated(Mutant::NonceReused);
        if !(reused && self.nonces > 1) {
            self.nonces += 1;
        }
        if reused {
            let count = self.nonces;
            self.attempts.retain(|attempt| attempt.count != count);
        }
        self.attempts.push(Attempt { count: self.nonces, sent: now });
        self.last_sent = Some(now);
        Nonce { process: own.config.process, count: self.nonces }
    }

    /// A renewal was answered. `goes_on`: others may follow. Else what is over is that they failed, and not
    /// that none is sent.
    pub(super) fn answered(&mut self, goes_on: bool, now: Instant) -> Answered {
        self.answered_at = Some(now);
        self.causes.are_over();
        let was_unanswered = std::mem::take(&mut self.is_unanswered);
        match goes_on {
            true if self.failing_since.take().is_some() => Answered::Again,
            false if was_unanswered => Answered::Last,
            _ => Answered::AsEver,
        }
    }

    /// A renewal failed; whether that begins a time in which they fail, or has another cause than was told.
    pub(super) fn failed(&mut self, why: &str, now: Instant) -> bool {
        self.failing_since.get_or_insert(now);
        self.is_unanswered = true;
        self.causes.is_news(why)
    }

    /// None is sent any more, for want of news.
    pub(super) fn renewing_stopped(&mut self, now: Instant) {
        self.failing_since.get_or_insert(now);
    }

    /// How much time is left until what is held is taken away.
    pub(super) fn left(&self, now: Instant) -> Duration {
        self.guard_at().map_or(Duration::ZERO, |at| at.since(now))
    }

    // ---- what the store says of it

    /// The session key was written or deleted, by whomever. `closing`: this node deletes it.
    pub(super) fn written(
        &mut self,
        own: &Own,
        known: Option<&Known<SessionRecord>>,
        now: Instant,
    ) -> Written {
        match self.membership.clone() {
            Membership::Joining | Membership::Closed => Written::Nothing,
            Membership::Contested { seen, renewed, until } => {
                self.contested_name_written(own, (seen, renewed, until), known)
            }
            Membership::Opening => match known {
                None => Written::Nothing,
                Some(known) if is_own_write(own, known) => self.own_write(own, known, now),
                // Somebody was faster: another host, or a late request of an earlier process.
                Some(_) => {
                    self.membership = Membership::Joining;
                    Written::Nothing
                }
            },
            Membership::Resuming { id } | Membership::Established { id } => match known {
                None => Written::Lost(id, "it expired and was deleted"),
                Some(known) if SessionId(known.created) != id => {
                    Written::Lost(id, "it expired and another took its place")
                }
                Some(known) if is_own_write(own, known) => self.own_write(own, known, now),
                Some(known) => self.foreign_write(own, known),
            },
        }
    }

    /// Renewed once, it may have been the last request of a host that is gone, on its way for
    /// long, for instance when this very host was booted again: of those that compare the same
    /// revision only one can land. Renewed twice, it lives (rule 6.5).
    fn contested_name_written(
        &mut self,
        own: &Own,
        (seen, renewed, until): (Revision, bool, Instant),
        known: Option<&Known<SessionRecord>>,
    ) -> Written {
        match known {
            Some(Known { record: Ok(record), modified, .. })
                if *modified != seen && record.host != own.config.host =>
            {
                if !renewed {
                    let seen = *modified;
                    self.membership = Membership::Contested { seen, renewed: true, until };
                    let by_others = expired_by_others(own, record);
                    return Written::WatchOn { lease: record.lease(), by_others };
                }
                Written::Refuse(format!(
                    "the node name {} is in use by host {}, which renews it; give this host another name",
                    own.name(),
                    record.host
                ))
            }
            // Whoever writes what nobody can read may be anybody: its silence counts anew.
            Some(Known { record: Err(error), modified, .. })
                if *modified != seen && !error.is_of_another_version() =>
            {
                let seen = *modified;
                self.membership = Membership::Contested { seen, renewed: false, until };
                Written::WatchOn { lease: Lease::DURATION_MAX, by_others: false }
            }
            _ => {
                self.membership = Membership::Joining;
                Written::Nothing
            }
        }
    }

    /// A write of the session that is there, and none of ours.
    fn foreign_write(&self, own: &Own, known: &Known<SessionRecord>) -> Written {
        let resuming = matches!(self.membership, Membership::Resuming { .. });
        if resuming && !own.mutated(Mutant::RefuseLateRenewal) {
            // The last renewal of the process before came late. It cannot be renewed twice: ours
            // compares this one.
            return Written::RenewNow;
        }
        if known.record.as_ref().is_err_and(|error| !error.is_of_another_version()) {
            // No daemon wrote that: the session is ours still, and is written as it should be.
            return Written::RenewNow;
        }
        let who = known.readable().map_or_else(
            || "something that turnip cannot read".to_owned(),
            |record| format!("host {}", record.host),
        );
        Written::Refuse(format!(
            "another daemon uses the node name {}: {who} wrote its session",
            own.name()
        ))
    }

    /// The newest write of the session is ours: its own attempt is credited (rule 1).
    fn own_write(&mut self, own: &Own, known: &Known<SessionRecord>, now: Instant) -> Written {
        let Some(record) = known.readable() else { return Written::Nothing };
        let id = SessionId(known.created);
        let sent = self.attempts.iter().find(|attempt| attempt.count == record.nonce.count);
        let sent = sent.map(|attempt| attempt.sent);
        let resumed = matches!(self.membership, Membership::Resuming { .. });
        let opened = !resumed && self.id().is_none();
        if opened {
            self.deadline = None;
        }
        if opened || resumed {
            (self.first_write, self.committed) = (Some(known.modified), None);
        }
        self.membership = Membership::Established { id };
        if let Some(sent) = sent {
            self.credit(own, (known.modified, sent), now);
        }
        Written::Own(OwnWrite { opened, resumed, credited: sent.is_some() })
    }

    /// Credits the attempt that was made at `sent`. One that is no longer remembered is older than a lease:
    /// it moves nothing.
    fn credit(&mut self, own: &Own, (modified, sent): (Revision, Instant), now: Instant) {
        self.committed = self.committed.max(Some(sent));
        let sent = if own.mutated(Mutant::DeadlineFromAnswer) { now } else { sent };
        self.attempts.retain(|attempt| attempt.sent > sent);
        self.untold.push((modified, sent));
    }

    /// The watch has told the write at `modified`. Whether nothing could be held before, where that moves
    /// the deadline.
    pub(super) fn told(&mut self, own: &Own, modified: Revision, now: Instant) -> Option<bool> {
        self.told = self.told.max(modified);
        let sent = self.untold.iter().find(|(at, _)| *at == modified).map(|(_, sent)| *sent);
        self.untold.retain(|(at, _)| *at > modified);
        let was_late = !self.in_time(own, now);
        self.extend(own, sent?).then_some(was_late)
    }

    /// The newest own write that the watch has told.
    pub(super) fn told_write(&self) -> Revision {
        self.told
    }

    /// A write that was made at `sent` counts; whether that moves the deadline.
    fn extend(&mut self, own: &Own, sent: Instant) -> bool {
        let holding = match own.mutated(Mutant::HolderIgnoresDrift) {
            true => self.lease.duration(),
            false => self.lease.holding(),
        };
        let deadline = sent + holding;
        let extended = self.deadline.is_none_or(|current| current < deadline);
        if extended {
            (self.deadline, self.by_consent) = (Some(deadline), false);
        }
        extended
    }

    // ---- losing it

    /// Back to the start; nothing is held under a session that is not there. `for_good`: none will
    /// follow.
    pub(super) fn forget(&mut self, own: &Own, for_good: bool) {
        self.membership = if for_good { Membership::Closed } else { Membership::Joining };
        self.lease = own.config.lease;
        self.deadline = None;
        (self.committed, self.first_write, self.by_consent) = (None, None, false);
        self.forget_told();
    }

    /// The store is another one: no attempt can be credited any more (A2).
    pub(super) fn forget_attempts(&mut self) {
        self.attempts.clear();
        self.forget_told();
    }

    fn forget_told(&mut self) {
        (self.untold, self.told) = (Vec::new(), Revision(0));
    }

    /// It is not renewed any more.
    pub(super) fn close(&mut self) {
        self.membership = Membership::Closed;
        // What was written before counts no more, whenever it is told (rule 9.3).
        self.untold.clear();
    }

    /// The transaction that deletes the own session and what it published, if the last write is the
    /// one that is known (rule 5).
    pub(super) fn deletion(&mut self, own: &Own, view: &View) -> Option<Txn> {
        let (session, node) = (own.keys.session(own.name()), own.keys.node(own.name()));
        let known = view.session(own.name())?;
        self.is_closing = true;
        Some(Txn {
            compares: vec![Compare::ModRevision { key: session.clone(), is: known.modified }],
            success: vec![Op::Delete { key: session.clone() }, Op::Delete { key: node }],
            failure: vec![Op::Get { key: session }],
        })
    }
}

/// What becomes of a session of this node's name that it cannot read (rule 9.11).
fn unreadable(own: &Own, error: &UnreadableRecord, seen: Revision) -> Join {
    let key = own.keys.session(own.name());
    if error.is_of_host(&own.config.host) {
        return Join::Replace { seen, why: format!("{key}, which this host wrote, is {error}") };
    }
    let lease = Lease::DURATION_MAX;
    // Whether such a session lists others nobody can read.
    let by_others = error.is_of_another_version();
    let longest = if by_others { own.without_store() } else { lease }.as_secs();
    let why = format!(
        "{key} is {error}, so whose it is nobody knows; it is deleted if it is not written for {longest} s, or delete it now if nothing uses it"
    );
    Join::Contest { seen, lease, why, by_others }
}

/// Whether another host's session of this node's name is left to those that are listed: unless it is of
/// this very machine, before it was booted (rule 10.8).
fn expired_by_others(own: &Own, record: &SessionRecord) -> bool {
    !record.witnesses.is_empty()
        && !own.config.host.is_later_boot_of(&record.host)
        && !own.mutated(Mutant::NamesakeExpires)
}

fn is_own_write(own: &Own, known: &Known<SessionRecord>) -> bool {
    known.readable().is_some_and(|record| record.nonce.process == own.config.process)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Rule 7.5.
    #[test]
    fn a_lease_is_fresh_until_two_renewals_in_a_row_are_missing() {
        let lease = Lease::new(Duration::from_secs(3)).unwrap();
        let start = Instant::from_nanos(1);
        let session = Session::new(lease, start);
        let later = start + 2 * lease.renew();
        assert!(session.is_fresh(start) && session.is_fresh(later));
        assert!(!session.is_fresh(later + Duration::from_nanos(1)));
    }

    /// Rule 9.3.
    #[test]
    fn a_write_that_is_told_after_the_session_was_closed_moves_no_deadline() {
        let lease = Lease::new(Duration::from_secs(3)).unwrap();
        let own = super::super::testing::own(lease);
        let start = Instant::from_nanos(1);
        let closed = |closes: bool| {
            let mut session = Session::new(lease, start);
            session.untold.push((Revision(7), start + lease.renew()));
            if closes {
                session.close();
            }
            session.told(&own, Revision(7), start + lease.renew())
        };
        assert_eq!((closed(false), closed(true)), (Some(false), None));
    }
}
