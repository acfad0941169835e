//! The own session: opened, renewed, resumed, lost (rules 1 and 6).

use std::time::Duration;

use super::stopping::Stopping;
use super::{Node, Purpose};
use crate::action::Exit;
use crate::mutant::Mutant;
use crate::name::{Revision, SessionId};
use crate::records::{Nonce, SessionRecord, encode};
use crate::report::Report;
use crate::store::{Compare, Op, StoreError, Txn, TxnResponse};
use crate::time::Instant;
use crate::timer::Timer;
use crate::view::Known;
use crate::vip::{Leaving, Vip};

/// How this node stands to the session key of its name.
#[derive(Clone, PartialEq, Eq, Hash, Debug)]
pub(super) enum Membership {
    /// Finding out what is: the kernel's list, the store's snapshot.
    Joining,
    /// Another host has the name. It is watched whether that host lives.
    Contested { seen: Revision, renewed: bool },
    /// No session; one is being opened.
    Opening,
    /// The session of an earlier process on this host is being renewed.
    Resuming { id: SessionId },
    /// The session stands.
    Live { id: SessionId },
    /// The session is being deleted, or is no longer wanted.
    Closed,
}

/// A write of the session key whose outcome may not be known yet.
#[derive(Clone, PartialEq, Eq, Hash, Debug)]
pub(super) struct Attempt {
    count: u64,
    /// Read before the request was made: the time from which it counts.
    sent: Instant,
}

impl Node {
    /// Brings the node from knowing enough to having a session, step by step.
    pub(super) fn join(&mut self, now: Instant) {
        if self.membership != Membership::Joining
            || self.stopping.is_some()
            || !self.kernel_ready
            || !self.ear.following
        {
            return;
        }
        match self.view.session(&self.config.name) {
            None => {
                // Whatever is still there was put there under another session.
                self.keep_nothing();
                if self.vips.iter().all(|vip| !vip.may_be_present()) {
                    self.membership = Membership::Opening;
                    self.renew(now);
                }
            }
            Some(Known { record: Err(error), .. }) => {
                let key = self.keys.session(&self.config.name);
                let why = format!("{key} is {error}; delete it if nothing uses it");
                self.refuse(why, now);
            }
            Some(Known { record: Ok(record), created, modified }) => {
                let (id, seen, record) = (SessionId(*created), *modified, record.clone());
                if record.host == self.config.host {
                    self.resume(id, &record, now);
                } else {
                    self.contest(seen, &record, now);
                }
            }
        }
    }

    /// The same host had the session: it goes on, and addresses that are there stay.
    fn resume(&mut self, id: SessionId, record: &SessionRecord, now: Instant) {
        match self.config.lease.for_session_of(record.lease()) {
            Ok(lease) => self.lease = lease,
            Err(error) => {
                let key = self.keys.session(&self.config.name);
                return self.refuse(format!("{key} declares an impossible lease: {error}"), now);
            }
        }
        if let Some(inherited) = self.deadline {
            // The predecessor promised what the session declares, not what is configured now.
            let started = inherited - self.config.lease.holding();
            let deadline = started + self.lease.holding();
            self.deadline = Some(deadline);
            self.timers.set(Timer::Guard, deadline - self.lease.guard());
        }
        self.membership = Membership::Resuming { id };
        // A hand-over of what is named as ours and is missing may be under way still: the
        // predecessor may have removed the address for it. It must be put anew first (rule 6).
        let missing =
            |vip: &&mut Vip| !vip.may_be_present() || vip.leaving == Some(Leaving::Spoiled);
        for vip in self.vips.iter_mut().filter(missing) {
            if let Some(known) = self.view.vip(&vip.config.name) {
                vip.barrier = vip.barrier.max(known.modified);
            }
        }
        if self.mutated(Mutant::KeepAfterResume) {
            self.vips.iter_mut().for_each(|vip| vip.barrier = Revision(0));
        }
        self.touch_all();
        self.renew(now);
    }

    /// What an earlier process left is not ours to keep.
    fn keep_nothing(&mut self) {
        if self.deadline.take().is_some() {
            self.touch_all();
        }
    }

    fn contest(&mut self, seen: Revision, record: &SessionRecord, now: Instant) {
        self.membership = Membership::Contested { seen, renewed: false };
        self.keep_nothing();
        self.timers.set(Timer::Contest, now + self.lease.patience(record.lease()));
        let why =
            format!("host {} has it in etcd, and this is host {}", record.host, self.config.host);
        self.report(Report::NameContested { why });
    }

    /// The other host with this name has been silent for its lease: it is expired as any other.
    pub(super) fn expire_own_name(&mut self) {
        let Membership::Contested { seen, .. } = self.membership else { return };
        let key = self.keys.session(&self.config.name);
        let txn = Txn {
            compares: vec![Compare::ModRevision { key: key.clone(), is: seen }],
            success: vec![Op::Delete { key: key.clone() }],
            failure: vec![Op::Get { key }],
        };
        self.commit(Purpose::Expire { node: self.config.name.clone(), vips: Vec::new() }, txn);
    }

    /// The key of the own session was written or deleted, by whomever.
    pub(super) fn own_session_written(&mut self, now: Instant) {
        let known = self.view.session(&self.config.name).cloned();
        match self.membership.clone() {
            Membership::Joining | Membership::Closed => {}
            Membership::Contested { seen, renewed } => {
                self.contested_name_written(seen, renewed, known, now);
            }
            Membership::Opening => match known {
                None => {}
                Some(known) if self.is_own_write(&known) => self.session_stands(&known, now),
                // Somebody was faster: another host, or a late request of an earlier process.
                Some(_) => self.membership = Membership::Joining,
            },
            Membership::Resuming { id } | Membership::Live { id } => match known {
                // By this node itself, in the end.
                None if self.closing => self.forget_session(now),
                None => self.lose_session(id, "it expired and was deleted", now),
                Some(known) if SessionId(known.created) != id => {
                    self.lose_session(id, "it expired and another took its place", now);
                }
                Some(known) if self.is_own_write(&known) => self.session_stands(&known, now),
                Some(known) => self.foreign_write(&known, now),
            },
        }
    }

    /// Renewed once, it may have been the last request of a host that is gone, on its way for
    /// long, for instance when this very host was booted again: of those that compare the same
    /// revision only one can land. Renewed twice, it lives.
    fn contested_name_written(
        &mut self,
        seen: Revision,
        renewed: bool,
        known: Option<Known<SessionRecord>>,
        now: Instant,
    ) {
        match known {
            Some(Known { record: Ok(record), modified, .. })
                if modified != seen && record.host != self.config.host =>
            {
                if !renewed {
                    self.membership = Membership::Contested { seen: modified, renewed: true };
                    self.timers.set(Timer::Contest, now + self.lease.patience(record.lease()));
                    return;
                }
                let name = &self.config.name;
                let why = format!(
                    "the node name {name} is in use by host {}, which renews it; give this host another name",
                    record.host
                );
                self.refuse(why, now);
            }
            _ => {
                self.timers.stop(Timer::Contest);
                self.membership = Membership::Joining;
            }
        }
    }

    /// A write of the session that stands, and none of ours.
    fn foreign_write(&mut self, known: &Known<SessionRecord>, now: Instant) {
        let resuming = matches!(self.membership, Membership::Resuming { .. });
        if resuming && !self.mutated(Mutant::RefuseLateRenewal) {
            // The last renewal of the process before came late. It cannot be renewed twice: ours
            // compares this one.
            self.timers.set(Timer::Renew, now);
            return;
        }
        let who = known.readable().map_or_else(
            || "something that turnip cannot read".to_owned(),
            |record| format!("host {}", record.host),
        );
        let why = format!(
            "another daemon uses the node name {}: {who} wrote its session",
            self.config.name
        );
        self.refuse(why, now);
    }

    fn is_own_write(&self, known: &Known<SessionRecord>) -> bool {
        known.readable().is_some_and(|record| record.nonce.process == self.config.process)
    }

    /// The newest write of the session is ours: its own attempt is credited (rule 1).
    fn session_stands(&mut self, known: &Known<SessionRecord>, now: Instant) {
        let Some(record) = known.readable() else { return };
        let id = SessionId(known.created);
        let credited = self.attempts.iter().find(|attempt| attempt.count == record.nonce.count);
        let sent = credited.map(|attempt| attempt.sent);
        match self.membership {
            Membership::Live { .. } => {}
            Membership::Resuming { .. } => self.report(Report::SessionResumed { session: id }),
            _ => {
                self.deadline = None;
                self.report(Report::SessionOpened { session: id });
            }
        }
        if self.membership != (Membership::Live { id }) {
            self.membership = Membership::Live { id };
            self.placement_stale = true;
            self.touch_all();
        }
        // An attempt that is no longer remembered is older than a lease: it moves nothing.
        let Some(mut sent) = sent else { return };
        if self.mutated(Mutant::DeadlineFromAnswer) {
            sent = now;
        }
        self.attempts.retain(|attempt| attempt.sent > sent);
        let holding = match self.mutated(Mutant::HolderIgnoresDrift) {
            true => self.lease.duration(),
            false => self.lease.holding(),
        };
        let deadline = sent + holding;
        if self.deadline.is_none_or(|current| current < deadline) {
            if !self.in_time(now) {
                // What was taken away for want of time may come back.
                self.touch_all();
            }
            self.deadline = Some(deadline);
            self.timers.set(Timer::Guard, deadline - self.lease.guard());
            self.refresh(now);
        }
        self.expect_echo(known.modified, now);
    }

    fn lose_session(&mut self, id: SessionId, why: &str, now: Instant) {
        // Its deletion at the end of an orderly stop is no loss.
        if !self.closing {
            self.report(Report::SessionLost { session: id, why: why.to_owned() });
        }
        self.forget_session(now);
    }

    /// Back to the start; nothing is held under a session that is not there.
    pub(super) fn forget_session(&mut self, now: Instant) {
        self.membership = match self.stopping {
            None => Membership::Joining,
            Some(_) => Membership::Closed,
        };
        self.lease = self.config.lease;
        self.deadline = None;
        self.active = false;
        self.timers.stop(Timer::Renew);
        self.timers.stop(Timer::Guard);
        self.timers.stop(Timer::Echo);
        self.ear.expected = None;
        self.placement_stale = true;
        self.touch_all();
        // What the session was for must not wait for the next timer.
        self.timers.set_earlier(Timer::Expire, now);
    }

    /// Writes the session key: the first time, or again.
    pub(super) fn renew(&mut self, now: Instant) {
        let session = match self.membership {
            Membership::Opening => None,
            Membership::Resuming { id } | Membership::Live { id } => Some(id),
            _ => return,
        };
        if !self.ear.hearing {
            // Who cannot hear must not own (rule 9).
            self.timers.set(Timer::Renew, now + self.lease.renew());
            return;
        }
        // Unless it is answered before. Of those that are under way at once, all of which compare
        // the same revision, one lands, and the others read that it did.
        self.timers.set(Timer::Renew, now + self.unanswered_delay());
        let too_old = self.lease.duration();
        self.attempts.retain(|attempt| now.since(attempt.sent) < too_old);
        if !(self.mutated(Mutant::NonceReused) && self.nonces > 1) {
            self.nonces += 1;
        }
        if self.mutated(Mutant::NonceReused) {
            let count = self.nonces;
            self.attempts.retain(|attempt| attempt.count != count);
        }
        self.attempts.push(Attempt { count: self.nonces, sent: now });
        self.silence.renewal_sent(now);
        self.schedule_expiry();

        let name = &self.config.name;
        let key = self.keys.session(name);
        let record = SessionRecord {
            // Rounded up: nobody may wait for less than what is held.
            lease_ms: u64::try_from(self.lease.duration().as_nanos().div_ceil(1_000_000))
                .unwrap_or(u64::MAX),
            host: self.config.host.clone(),
            nonce: Nonce { process: self.config.process, count: self.nonces },
        };
        let is = self.view.session(name).map_or(Revision(0), |known| known.modified);
        let mut txn = Txn {
            compares: vec![Compare::ModRevision { key: key.clone(), is }],
            success: vec![Op::Put { key: key.clone(), value: encode(&record) }],
            failure: vec![Op::Get { key }],
        };
        if session.is_none() {
            // With its session a node publishes what it can take, so that no session is ever
            // seen without.
            let offer = self.offer();
            txn.success.push(Op::Put { key: self.keys.node(name), value: encode(&offer) });
        }
        self.commit(Purpose::Renew { session, sent: now }, txn);
    }

    pub(super) fn renewal_answered(
        &mut self,
        sent: Instant,
        answer: Result<TxnResponse, StoreError>,
        now: Instant,
    ) {
        match answer {
            Ok(response) => {
                let outage = self.silence.renewal_answered(sent, now);
                if response.succeeded {
                    self.timers.set(Timer::Renew, sent + self.lease.renew());
                }
                self.store_answered(now);
                if self.mutated(Mutant::ExpiryRestarts) && outage {
                    self.restart_counts(now);
                }
                self.schedule_expiry();
                if self.failing_since.take().is_some() {
                    self.report(Report::RenewalsSucceed);
                    self.announce_all(now);
                }
            }
            Err(error) => {
                if !self.silence.renewal_failed(sent) {
                    // The store has answered a later one: this is no outage.
                    return;
                }
                if self.failing_since.replace(now).is_none() {
                    let left = self.deadline.map_or(Duration::ZERO, |deadline| {
                        (deadline - self.lease.guard()).since(now)
                    });
                    self.report(Report::RenewalsFail { why: error.to_string(), left });
                }
                self.settle_anew(now);
                self.timers.set_earlier(Timer::Renew, now + self.unanswered_delay());
            }
        }
    }

    /// How long after a renewal without an answer the next one is sent: no longer than a third of
    /// the design's interval, whatever the node's own is, for the others count on it when an
    /// outage ends (see [`Self::expiry_due`]).
    fn unanswered_delay(&self) -> Duration {
        self.lease.renew().min(self.lease.duration() / 6) / 3
    }

    /// The node must not run, or not go on: everything is dropped.
    pub(super) fn refuse(&mut self, why: String, now: Instant) {
        self.stop(Stopping::AtOnce(Exit::Refused(why)), now);
    }
}
